"""The two state machines, each move one conditional UPDATE, and who owns what is in flight."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any

import psutil
import structlog
from sqlalchemy import Update, bindparam, func, update
from sqlalchemy import select as columns
from sqlmodel import Session, col, select

from newsletter.edition import EditionStatus
from newsletter.errors import StateError
from newsletter.outbox.ids import unpack
from newsletter.store.tables import Batch, EditionRow, ReaderException

log = structlog.get_logger()


class BatchState(StrEnum):
    """States of a batch; drawn in ``outbox/__init__.py``."""

    PENDING = "pending"
    SUBMITTING = "submitting"
    SUBMITTED = "submitted"
    FAILED = "failed"
    UNCERTAIN = "uncertain"
    ABANDONED = "abandoned"
    WITHDRAWN = "withdrawn"


_E, _B = EditionStatus, BatchState

EDITION_MOVES: dict[EditionStatus, frozenset[EditionStatus]] = {
    _E.DRAFT: frozenset({_E.DRAFT, _E.APPROVED, _E.HELD, _E.SKIPPED, _E.SPIKED}),
    _E.HELD: frozenset({_E.DRAFT, _E.APPROVED, _E.HELD, _E.SKIPPED, _E.SPIKED}),
    _E.SKIPPED: frozenset({_E.DRAFT, _E.APPROVED, _E.HELD, _E.SKIPPED, _E.SPIKED}),
    _E.APPROVED: frozenset({_E.SUBMITTING, _E.HELD, _E.SPIKED, _E.DRAFT}),
    _E.SUBMITTING: frozenset({_E.SUBMITTED, _E.PAUSED, _E.SPIKED}),
    _E.PAUSED: frozenset({_E.SUBMITTING, _E.SPIKED}),
    _E.SUBMITTED: frozenset({_E.SUBMITTING}),  # to those who got nothing: ``missed``
    _E.SPIKED: frozenset(),
}

BATCH_MOVES: dict[BatchState, frozenset[BatchState]] = {
    _B.PENDING: frozenset({_B.SUBMITTING, _B.WITHDRAWN, _B.SUBMITTED}),
    _B.SUBMITTING: frozenset({_B.SUBMITTED, _B.PENDING, _B.FAILED, _B.UNCERTAIN}),
    _B.UNCERTAIN: frozenset({_B.SUBMITTED, _B.PENDING, _B.FAILED, _B.ABANDONED, _B.WITHDRAWN}),
    _B.ABANDONED: frozenset({_B.SUBMITTED}),
    _B.SUBMITTED: frozenset({_B.WITHDRAWN}),
    _B.FAILED: frozenset(),
    _B.WITHDRAWN: frozenset({_B.SUBMITTED}),
}

OPEN_STATES = (BatchState.PENDING, BatchState.SUBMITTING, BatchState.UNCERTAIN)


def move_edition(
    session: Session, edition_id: int, *, to: EditionStatus, frm: Iterable[EditionStatus], **values: Any
) -> bool:
    """
    Move an edition if it still is in one of *frm*; say whether it was.

    Raises:
        StateError: the move is not one that exists.
    """
    origins = tuple(frm)
    for origin in origins:
        if to not in EDITION_MOVES[origin]:
            raise StateError(f"An edition cannot go from {origin} to {to}.")
    statement = (
        update(EditionRow)
        .where(col(EditionRow.id) == edition_id, col(EditionRow.status).in_(origins))
        .values(status=to, **values)
    )
    return _changed(session, statement)


def move_batch(
    session: Session,
    batch_id: int,
    *,
    to: BatchState,
    frm: BatchState,
    at: datetime,
    of_attempt: int | None = None,
    **values: Any,
) -> bool:
    """
    Move a batch if it still is in *frm* (and in its attempt *of_attempt*); say whether it was.

    Raises:
        StateError: the move is not one that exists.
    """
    if to not in BATCH_MOVES[frm]:
        raise StateError(f"A batch cannot go from {frm} to {to}.")
    statement = _batch_update(tuple(sorted(values)), of_attempt is not None)
    given = {"b_id": batch_id, "b_frm": frm, "b_attempt": of_attempt, "state": to, "changed_at": at, **values}
    if of_attempt is None:
        del given["b_attempt"]
    result = session.connection().execute(statement, given)
    return bool(result.rowcount == 1)


@lru_cache(maxsize=64)
def _batch_update(names: tuple[str, ...], with_attempt: bool) -> Update:
    """The conditional UPDATE that sets state, changed_at and *names*: built once, run a thousand times a minute."""
    statement = update(Batch).where(
        col(Batch.id) == bindparam("b_id"), col(Batch.state) == bindparam("b_frm")
    )
    if with_attempt:
        statement = statement.where(col(Batch.attempt) == bindparam("b_attempt"))
    return statement.values({name: bindparam(name) for name in ("state", "changed_at", *names)})


def _changed(session: Session, statement: Any) -> bool:
    result: Any = session.execute(statement.execution_options(synchronize_session=False))
    return bool(result.rowcount == 1)


def withdraw(session: Session, edition_id: int, *, at: datetime, reason: str) -> int:
    """Take back all batches of an edition that are not on their way; return how many."""
    result: Any = session.execute(
        update(Batch)
        .where(col(Batch.edition_id) == edition_id, col(Batch.state) == BatchState.PENDING)
        .values(state=BatchState.WITHDRAWN, changed_at=at, error=reason)
        .execution_options(synchronize_session=False)
    )
    return int(result.rowcount)


def give_way(session: Session, batch_id: int, *, at: datetime) -> bool:
    """
    Take a pending batch back when a later revision was frozen for its readers; say if it was.

    To be called wherever a batch becomes pending again: what was corrected must not go out once more. Who
    corrects holds the batch while they freeze, so one of the two sees the other's work.
    """
    mine = session.execute(
        columns(
            col(Batch.lo_id), col(Batch.hi_id), col(Batch.ids), col(EditionRow.newsletter),
            col(EditionRow.edition_date), col(EditionRow.revision),
        )
        .join(EditionRow, col(EditionRow.id) == col(Batch.edition_id))
        .where(col(Batch.id) == batch_id)
    ).one()  # fmt: skip
    lo, hi, ids, slug, day, revision = mine
    later = session.execute(
        columns(col(EditionRow.revision), col(Batch.ids))
        .join(Batch, col(Batch.edition_id) == col(EditionRow.id))
        .where(
            col(EditionRow.newsletter) == slug, col(EditionRow.edition_date) == day,
            col(EditionRow.revision) > revision, col(Batch.lo_id) <= hi, col(Batch.hi_id) >= lo,
        )
    ).all()  # fmt: skip
    if not later:
        return False
    apart = columns(col(ReaderException.subscriber_id)).where(col(ReaderException.batch_id) == batch_id)
    readers = set(unpack(ids)) - set(session.execute(apart).scalars())
    taken = next((number for number, others in later if not readers.isdisjoint(unpack(others))), None)
    return taken is not None and move_batch(
        session, batch_id, to=BatchState.WITHDRAWN, frm=BatchState.PENDING, at=at, error=f"goes with revision {taken}"
    )  # fmt: skip


def finish(session: Session, edition_id: int, *, at: datetime) -> bool:
    """
    Call the edition submitted if nothing of it is pending, in flight or uncertain, and nobody is missing.

    The edition is locked first: of two batches that settle at the same moment, the later must see the
    earlier one's end, or neither would close the edition (PostgreSQL, READ COMMITTED).
    """
    session.exec(select(EditionRow.id).where(EditionRow.id == edition_id).with_for_update()).one()
    still_open = session.exec(
        select(func.count())
        .select_from(Batch)
        .where(Batch.edition_id == edition_id, col(Batch.state).in_(OPEN_STATES))
    ).one()
    if still_open:
        return False
    audience, held = session.exec(
        select(EditionRow.audience, func.coalesce(func.sum(Batch.n - Batch.moved_n), 0))
        .join(Batch, col(Batch.edition_id) == col(EditionRow.id), isouter=True)
        .where(EditionRow.id == edition_id)
        .group_by(col(EditionRow.audience))
    ).one()
    if audience != held:
        log.error("edition.unbalanced", edition=edition_id, audience=audience, in_batches=held)
        return False
    return move_edition(
        session, edition_id, to=EditionStatus.SUBMITTED, frm=(EditionStatus.SUBMITTING,), submitted_at=at
    )


def this_owner() -> str:
    """Name this process so that another on the same host can tell whether it lives: host, pid, start."""
    return f"{socket.gethostname()}|{os.getpid()}|{psutil.Process().create_time():.2f}"


def is_dead(owner: str) -> bool:
    """Whether *owner* certainly is gone: same host, and no process of that pid and start time."""
    try:
        host, pid, started = owner.split("|")
    except ValueError:
        return False
    if host != socket.gethostname():
        return False
    try:
        process = psutil.Process(int(pid))
        # One that died and that nobody has taken note of still has its number.
        is_zombie = process.status() == psutil.STATUS_ZOMBIE
        return is_zombie or f"{process.create_time():.2f}" != started
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:
        return False


def recover(session: Session, *, at: datetime) -> int:
    """
    Make uncertain what a dead owner had in flight; return how many batches.

    An owner on another host is given up when its lease has run out.
    """
    count = 0
    in_flight = session.exec(select(Batch).where(Batch.state == BatchState.SUBMITTING)).all()
    for batch in in_flight:
        expired = batch.lease_until is not None and batch.lease_until < at
        gone = is_dead(batch.owner)
        if (gone or expired) and batch.id is not None:
            why = "its process died" if gone else "its process was not heard of for too long"
            count += move_batch(
                session,
                batch.id,
                to=BatchState.UNCERTAIN,
                frm=BatchState.SUBMITTING,
                at=at,
                of_attempt=batch.attempt,
                error=f"Nobody can say whether it was taken: {why} while it was in flight.",
            )
    return count
