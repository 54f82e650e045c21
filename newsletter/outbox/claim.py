"""
Claim: take a batch, settle who still may have it, and commit both before a byte leaves.

Readers are read by their frozen ids and checked again in the same query: who left, was suppressed or
erased since the freeze is skipped; who changed class is moved, once, into a trailing batch of the
right variant. Each of them gets a row; all others share the fate of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Engine, or_
from sqlmodel import Session, col, func, select

from newsletter.audience.segments import reader_query
from newsletter.catalogue import Newsletter, PlanClass, Publication
from newsletter.edition import EditionStatus
from newsletter.outbox.ids import pack, unpack
from newsletter.outbox.ledger import BatchState, finish, move_batch
from newsletter.store.session import writing
from newsletter.store.tables import Batch, EditionRow, ReaderException

LEASE = timedelta(minutes=15)  # ≫ the deadline of one request (30 s)


@dataclass(frozen=True, slots=True)
class Reader:
    """A reader who goes out with a claimed batch."""

    id: int
    reader: str
    email: str
    name: str


@dataclass(frozen=True, slots=True)
class Claim:
    """A batch that is ours to submit, with the readers that go out with it, by ascending id."""

    batch_id: int
    attempt: int
    edition_id: int
    variant: PlanClass
    readers: tuple[Reader, ...]


def claim(
    engine: Engine,
    newsletter: Newsletter,
    publication: Publication,
    edition_id: int,
    *,
    owner: str,
    now: datetime,
    at: datetime,
    batch_size: int,
) -> Claim | None:
    """
    Claim the next batch of an edition that is being sent, or return None when there is none now.

    None too when the edition was paused or spiked: the brake is looked at for every batch.
    """
    while True:
        with writing(engine) as session:
            status = session.exec(select(EditionRow.status).where(EditionRow.id == edition_id)).one()
            if status != EditionStatus.SUBMITTING:
                return None
            batch = session.exec(
                select(Batch)
                .where(
                    Batch.edition_id == edition_id,
                    Batch.state == BatchState.PENDING,
                    or_(col(Batch.not_before).is_(None), col(Batch.not_before) <= at),
                )
                .order_by(col(Batch.trailing), col(Batch.seq))
                .limit(1)
                .with_for_update(skip_locked=True)
            ).first()
            if batch is None or batch.id is None:
                return None
            attempt = batch.attempt + 1
            taken = move_batch(
                session, batch.id, to=BatchState.SUBMITTING, frm=BatchState.PENDING, at=at, of_attempt=batch.attempt,
                attempt=attempt, owner=owner, lease_until=at + LEASE, not_before=None, error="",
            )  # fmt: skip
            if not taken:
                continue
            session.refresh(batch)
            readers = _check_readers(
                session, batch, newsletter, publication, now=now, at=at, batch_size=batch_size
            )
            if readers:
                return Claim(batch.id, attempt, edition_id, _variant(batch), tuple(readers))
            move_batch(session, batch.id, to=BatchState.SUBMITTED, frm=BatchState.SUBMITTING, at=at)
            finish(session, edition_id, at=at)


def _variant(batch: Batch) -> PlanClass:
    return "paying" if batch.variant == "paying" else "free"


def frozen_readers(session: Session, batch: Batch) -> list[int]:
    """The ids of *batch* that have no exception: those who share its fate."""
    apart = set(
        session.exec(select(ReaderException.subscriber_id).where(ReaderException.batch_id == batch.id)).all()
    )
    return [reader for reader in unpack(batch.ids) if reader not in apart]


def _check_readers(
    session: Session,
    batch: Batch,
    newsletter: Newsletter,
    publication: Publication,
    *,
    now: datetime,
    at: datetime,
    batch_size: int,
) -> list[Reader]:
    """Read the batch by its frozen ids; record whom it loses; return who goes out."""
    frozen = frozen_readers(session, batch)
    rows = {
        row.id: row
        for row in session.execute(reader_query(frozen, newsletter.slug, publication, now=now)).all()
    }
    readers: list[Reader] = []
    moved: dict[str, list[int]] = {}
    for reader_id in frozen:
        row = rows.get(reader_id)
        if row is None:
            record_exception(session, batch, reader_id, "skipped", "erased after the freeze", at=at)
        elif row.suppressed:
            record_exception(session, batch, reader_id, "skipped", f"suppressed: {row.suppressed}", at=at)
        elif row.status != "active":
            record_exception(session, batch, reader_id, "skipped", f"the address is {row.status}", at=at)
        elif row.state != "active":
            record_exception(session, batch, reader_id, "skipped", "left after the freeze", at=at)
        elif row.plan_class == batch.variant:
            readers.append(Reader(row.id, row.reader, row.email, row.name))
        elif row.plan_class in newsletter.audience.classes:
            record_exception(session, batch, reader_id, "moved", f"is {row.plan_class} now", at=at)
            moved.setdefault(row.plan_class, []).append(reader_id)
        else:
            reason = f"is {row.plan_class} now, and this newsletter is not for them"
            record_exception(session, batch, reader_id, "skipped", reason, at=at)
    for variant, ids in moved.items():
        append_readers(session, batch, ids, variant=variant, at=at, batch_size=batch_size, trailing=True)
    return readers


def record_exception(
    session: Session, batch: Batch, reader_id: int, verdict: str, reason: str, *, at: datetime
) -> None:
    """Give a reader who does not go out with *batch* a row, and count them."""
    if batch.id is None:
        raise ValueError("the batch has no id yet")
    session.add(
        ReaderException(
            batch_id=batch.id,
            subscriber_id=reader_id,
            edition_id=batch.edition_id,
            verdict=verdict,
            reason=reason,
            recorded_at=at,
        )
    )
    counter = f"{verdict}_n"
    setattr(batch, counter, getattr(batch, counter) + 1)
    session.add(batch)
    session.flush()


def append_readers(
    session: Session,
    source: Batch,
    ids: Sequence[int],
    *,
    variant: str,
    at: datetime,
    batch_size: int,
    trailing: bool,
) -> None:
    """Put readers moved out of *source* into the pending trailing batch of *variant*, or a new one."""
    target = None
    if trailing:
        target = session.exec(
            select(Batch).where(
                Batch.edition_id == source.edition_id,
                Batch.id != source.id,
                Batch.variant == variant,
                Batch.state == BatchState.PENDING,
                Batch.attempt == 0,
                col(Batch.trailing).is_(True),
                Batch.n <= batch_size - len(ids),
            )
        ).first()
    if target is None:
        last = session.exec(select(func.max(Batch.seq)).where(Batch.edition_id == source.edition_id)).one()
        target = Batch(
            edition_id=source.edition_id, seq=last + 1, variant=variant, trailing=trailing, ids=pack(sorted(ids)),
            lo_id=min(ids), hi_id=max(ids), n=len(ids), changed_at=at,
        )  # fmt: skip
    else:
        merged = sorted({*unpack(target.ids), *ids})
        target.ids, target.n = pack(merged), len(merged)
        target.lo_id, target.hi_id, target.changed_at = merged[0], merged[-1], at
    session.add(target)
    session.flush()
