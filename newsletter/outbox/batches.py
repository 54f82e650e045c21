"""
Batches are made and changed here after the freeze: who does not go out with one, and who goes with another.

What is frozen stays frozen: a reader who leaves a batch leaves a row that says why, or was never tried with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlmodel import Session, col, func, select

from newsletter.outbox.ids import pack, unpack
from newsletter.outbox.ledger import BatchState
from newsletter.store.tables import Batch, EditionRow, ReaderException


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
    """
    Put readers moved out of *source* into the pending trailing batch of *variant* and its subject, or a new one.

    A batch that somebody else is claiming at this moment is passed over; the edition is locked, so that
    two who append at once do not choose the same number.
    """
    target = None
    last = _last_number(session, source.edition_id)
    if trailing:
        target = session.exec(
            select(Batch)
            .where(
                Batch.edition_id == source.edition_id,
                Batch.id != source.id,
                Batch.variant == variant,
                Batch.subject == source.subject,
                Batch.release_at == source.release_at
                if source.release_at
                else col(Batch.release_at).is_(None),
                Batch.state == BatchState.PENDING,
                Batch.attempt == 0,
                col(Batch.trailing).is_(True),
                Batch.n <= batch_size - len(ids),
            )
            .with_for_update(skip_locked=True)
        ).first()
    if target is None:
        target = Batch(
            edition_id=source.edition_id, seq=last + 1, variant=variant, trailing=trailing, ids=pack(()), lo_id=0,
            hi_id=0, n=0, rank=source.rank, release_at=source.release_at, subject=source.subject, changed_at=at,
        )  # fmt: skip
    _hold(target, sorted({*unpack(target.ids), *ids}), at=at)
    session.add(target)
    session.flush()


def split_batch(session: Session, batch_id: int, *, size: int, at: datetime) -> int:
    """
    Part a pending batch that was frozen larger than *size* now allows into such of at most *size*.

    Nobody of it was ever taken, so nobody is moved: the frozen ids are parted, and those who do not go out
    with it stay in it. Returns how many batches were added; 0 when somebody else has taken it.
    """
    batch = session.exec(
        select(Batch).where(Batch.id == batch_id, Batch.state == BatchState.PENDING).with_for_update()
    ).first()
    if batch is None:
        return 0
    last = _last_number(session, batch.edition_id)
    apart = set(readers_apart(session, batch_id))
    goes = [reader for reader in unpack(batch.ids) if reader not in apart]
    _hold(batch, sorted({*goes[:size], *apart}), at=at)
    session.add(batch)
    rest = [goes[start : start + size] for start in range(size, len(goes), size)]
    for number, ids in enumerate(rest, start=last + 1):
        part = Batch(
            edition_id=batch.edition_id, seq=number, variant=batch.variant, trailing=batch.trailing, ids=b"", lo_id=0,
            hi_id=0, n=0, rank=batch.rank, release_at=batch.release_at, subject=batch.subject,
            not_before=batch.not_before, changed_at=at,
        )  # fmt: skip
        _hold(part, ids, at=at)
        session.add(part)
    session.flush()
    return len(rest)


def part_batch(
    session: Session, batch: Batch, parts: Sequence[Sequence[int]], *, at: datetime
) -> tuple[int, ...]:
    """
    Give each of *parts* of a batch's readers a batch of its own, alike in all but its number; return their ids.

    The frozen ids are parted; who is in none of *parts* stays, and so do those who do not go out with it.
    """
    last = _last_number(session, batch.edition_id)
    leaving = {reader for part in parts for reader in part}
    _hold(batch, sorted(set(unpack(batch.ids)) - leaving), at=at)
    session.add(batch)
    made = [
        Batch(
            edition_id=batch.edition_id, seq=number, variant=batch.variant, trailing=batch.trailing, ids=b"", lo_id=0,
            hi_id=0, n=0, state=batch.state, attempt=batch.attempt, owner=batch.owner, lease_until=batch.lease_until,
            rank=batch.rank, release_at=batch.release_at, subject=batch.subject, not_before=batch.not_before,
            given_up=batch.given_up, error=batch.error, changed_at=at,
        )
        for number in range(last + 1, last + 1 + len(parts))
    ]  # fmt: skip
    for one, part in zip(made, parts, strict=True):
        _hold(one, sorted(part), at=at)
        session.add(one)
    session.flush()
    return tuple(one.id or 0 for one in made)


def readers_apart(session: Session, batch_id: int) -> Sequence[int]:
    """Those of a batch who do not share its fate."""
    apart = select(ReaderException.subscriber_id).where(ReaderException.batch_id == batch_id)
    return session.exec(apart).all()


def _last_number(session: Session, edition_id: int) -> int:
    """The highest number of the edition's batches; locks it, so that two who append do not choose the same."""
    session.exec(select(EditionRow.id).where(EditionRow.id == edition_id).with_for_update()).one()
    return session.exec(select(func.max(Batch.seq)).where(Batch.edition_id == edition_id)).one() or 0


def _hold(batch: Batch, ids: Sequence[int], *, at: datetime) -> None:
    batch.ids, batch.n = pack(ids), len(ids)
    batch.lo_id, batch.hi_id, batch.changed_at = ids[0], ids[-1], at
