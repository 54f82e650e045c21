"""
Correct: a further revision, for exactly those who have the wrong one or have not had any yet.

What of the wrong revision is not on its way is taken back and goes with the new one. Who was skipped or
failed is not tried again; an uncertain batch stays with its revision until it is settled.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from datetime import datetime

from sqlmodel import Session, col, func, select

from newsletter.edition import EditionStatus
from newsletter.errors import StateError
from newsletter.outbox.freeze import Writer
from newsletter.outbox.ids import unpack
from newsletter.outbox.ledger import BatchState, move_edition, withdraw
from newsletter.outbox.settle import close
from newsletter.store.tables import Batch, EditionRow, ReaderException


def take_over(
    session: Session,
    wrong: EditionRow,
    right: EditionRow,
    *,
    changed: Collection[str],
    now: datetime,
    at: datetime,
    size: int,
) -> int:
    """
    Freeze the approved revision *right* for the readers of *wrong* whose variant is *changed*, and for
    those who have had nothing yet; return how many. The caller commits.

    Raises:
        StateError: batches of the wrong revision are in flight, so nobody knows yet who has it.
    """
    wrong_id, right_id = wrong.id or 0, right.id or 0
    in_flight = session.exec(
        select(func.count())
        .select_from(Batch)
        .where(Batch.edition_id == wrong_id, Batch.state == BatchState.SUBMITTING)
    ).one()
    if in_flight:
        raise StateError(
            f"{in_flight} batches are in flight; run newsletter pause {wrong.newsletter}, wait a moment, then correct it."
        )
    # A paused edition goes on, or it could never end: nothing is left in it to send.
    move_edition(session, wrong_id, to=EditionStatus.SUBMITTING, frm=(EditionStatus.PAUSED,))
    withdraw(session, wrong_id, at=at, reason=f"goes with revision {right.revision}")
    session.expire_all()
    apart = defaultdict(set)
    for row in session.exec(select(ReaderException).where(ReaderException.edition_id == wrong_id)):
        apart[row.batch_id].add(row.subscriber_id)
    groups: dict[str, set[int]] = defaultdict(set)
    batches = select(Batch).where(
        Batch.edition_id == wrong_id, col(Batch.state).in_((BatchState.SUBMITTED, BatchState.WITHDRAWN))
    )
    for batch in session.exec(batches):
        if batch.state == BatchState.WITHDRAWN or batch.variant in changed:
            groups[batch.variant].update(set(unpack(batch.ids)) - apart[batch.id or 0])
    writer = Writer(session.connection(), right_id, size, at)
    for variant, ids in sorted(groups.items()):
        writer.add(0, variant, None, sorted(ids))
    total = writer.close()
    move_edition(
        session, right_id, to=EditionStatus.SUBMITTING, frm=(EditionStatus.APPROVED,), frozen_at=now, audience=total
    )  # fmt: skip
    close(session, wrong_id, at=at)
    close(session, right_id, at=at)
    return total
