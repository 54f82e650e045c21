"""
Correct: a further revision, for exactly those who have a wrong one, may have it, or have not had any yet.

What of the wrong revisions is not on its way is taken back and goes with the new one, in the wave and the
order it had. Who is in doubt gets the new one, too, whatever becomes of the old: so the old never goes to
them again (``ledger.give_way``). Who was skipped or failed is not tried again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from datetime import date, datetime

from sqlmodel import Session, col, func, select

from newsletter.edition import EditionStatus
from newsletter.errors import StateError
from newsletter.outbox.freeze import Writer
from newsletter.outbox.ids import unpack
from newsletter.outbox.ledger import BatchState, move_edition, withdraw
from newsletter.outbox.settle import close
from newsletter.outbox.subjects import end_test
from newsletter.store.editions import revisions
from newsletter.store.tables import Batch, EditionRow, ReaderException

_MAY_HAVE_IT = (BatchState.SUBMITTED, BatchState.UNCERTAIN, BatchState.ABANDONED)


def check_landed(session: Session, slug: str, day: date) -> None:
    """
    Make sure that nothing of a date's edition is in flight.

    Raises:
        StateError: something is, so nobody knows yet who has it.
    """
    in_flight = session.exec(
        select(func.count())
        .select_from(Batch)
        .join(EditionRow, col(EditionRow.id) == col(Batch.edition_id))
        .where(
            EditionRow.newsletter == slug,
            EditionRow.edition_date == day,
            Batch.state == BatchState.SUBMITTING,
        )
    ).one()
    if in_flight:
        batches = "1 batch is" if in_flight == 1 else f"{in_flight} batches are"
        raise StateError(
            f"{batches} in flight, so nobody knows yet who has the wrong edition: run newsletter pause {slug} "
            f"--date {day}, wait until newsletter status {slug} shows none in flight, then correct it."
        )


def have_wrong(
    session: Session, slug: str, day: date, *, changed: Collection[str]
) -> Iterator[tuple[Batch, list[int]]]:
    """
    The batches a correction is for, each with those of its readers no newer revision was frozen for.

    *changed*: the variants that differ from those of the newest revision. A reader whose revision is older
    has the newest one's content: what had changed before was for them, too.
    """
    newer: set[int] = set()
    rows = [row for row in revisions(session, slug, day) if row.frozen_at is not None]
    for row in rows:
        apart = defaultdict(set)
        for one in session.exec(select(ReaderException).where(ReaderException.edition_id == row.id)):
            apart[one.batch_id].add(one.subscriber_id)
        frozen: set[int] = set()
        for batch in session.exec(select(Batch).where(Batch.edition_id == row.id).order_by(col(Batch.seq))):
            ids = unpack(batch.ids)
            if row is not rows[-1]:
                frozen.update(ids)
            wanted = batch.state == BatchState.WITHDRAWN or (
                batch.state in _MAY_HAVE_IT and batch.variant in changed
            )
            if wanted:
                out = newer | apart[batch.id or 0] if newer else apart[batch.id or 0]
                yield batch, [reader for reader in ids if reader not in out]
        newer |= frozen


def take_over(
    session: Session,
    right: EditionRow,
    *,
    changed: Collection[str],
    now: datetime,
    at: datetime,
    size: int,
) -> int:
    """
    Freeze the approved revision *right* for the readers of earlier ones whose variant is *changed*, and
    for those who have had nothing yet; return how many. The caller commits.

    Raises:
        StateError: batches of a wrong revision are in flight, so nobody knows yet who has it.
    """
    right_id, slug, day = right.id or 0, right.newsletter, right.edition_date
    wrong = [row.id or 0 for row in revisions(session, slug, day) if row.id != right_id]
    # Batches before editions, ascending: the order in which everybody locks.
    session.exec(
        select(Batch.id).where(col(Batch.edition_id).in_(wrong)).order_by(col(Batch.id)).with_for_update()
    ).all()
    for edition_id in wrong:
        # A paused edition goes on, or it could never end: nothing is left in it to send.
        move_edition(
            session, edition_id, to=EditionStatus.SUBMITTING, frm=(EditionStatus.PAUSED,),
            reason=f"corrected by revision {right.revision}",
        )  # fmt: skip
        withdraw(session, edition_id, at=at, reason=f"goes with revision {right.revision}")
        end_test(
            session, edition_id, reason=f"not tried to the end: corrected by revision {right.revision}", at=at
        )
    check_landed(session, slug, day)  # a claim that was being made meanwhile is committed by now
    session.expire_all()
    groups: dict[tuple[int, str, datetime | None], set[int]] = defaultdict(set)
    for batch, ids in have_wrong(session, slug, day, changed=changed):
        release = batch.release_at if batch.release_at and batch.release_at > at else None
        groups[batch.rank, batch.variant, release].update(ids)
    writer = Writer(session.connection(), right_id, size, at)
    for rank, variant, release in sorted(groups, key=lambda group: (*group[:2], str(group[2]))):
        writer.add(rank, variant, release, sorted(groups[rank, variant, release]))
    total = writer.close()
    move_edition(
        session, right_id, to=EditionStatus.SUBMITTING, frm=(EditionStatus.APPROVED,), frozen_at=now, audience=total
    )  # fmt: skip
    for edition_id in (*wrong, right_id):
        close(session, edition_id, at=at)
    return total
