"""
Evidence: what the provider's events prove about batches, and what they forbid for addresses, at once.

Events come twice, late and in any order. So an event is stored once, what it says of an address follows
where it is new (``audience.reactions``), and every move of a batch is a conditional update.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, NamedTuple

import structlog
from sqlalchemy import Connection, Engine, or_, update
from sqlalchemy import select as columns
from sqlmodel import Session, col, func, select

from newsletter.audience.addresses import address_hash, normalise
from newsletter.audience.reactions import chunks, erased_among, react
from newsletter.events import NOT_TOLD, EventKind, ProviderEvent
from newsletter.outbox.ids import unpack
from newsletter.outbox.ledger import BatchState, is_dead, move_batch
from newsletter.outbox.settle import close, record_double
from newsletter.settings import Keys
from newsletter.store.bulk import among, insert_rows, take_turns_with_events
from newsletter.store.editions import edition_ref
from newsletter.store.session import writing
from newsletter.store.tables import (
    Batch,
    Cancellation,
    EditionRow,
    Event,
    Subscriber,
)

log = structlog.get_logger()

_BEFORE_IT_LEAVES = frozenset({EventKind.PROCESSED, EventKind.DROPPED})
"""Kinds the provider tells of a scheduled mail too that it still can be stopped from sending."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """
    What a call changed.

    *stored* and *known* count events (known: had already), *settled* and *doubled* batches, *suppressed*
    addresses that may not be mailed from now on.
    """

    stored: int = 0
    known: int = 0
    settled: int = 0
    doubled: int = 0
    suppressed: int = 0

    def __add__(self, other: Evidence) -> Evidence:
        return Evidence(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))


class _Attempt(NamedTuple):
    batch_id: int
    attempt: int


@dataclass(slots=True)
class _Proof:
    """What events tell of one attempt; *has_left*: not only that it was taken, but that it went out."""

    has_left: bool = False
    editions: set[str] = field(default_factory=set)
    readers: set[str] = field(default_factory=set)


class _Told(NamedTuple):
    """As much of an event as proves something."""

    batch: str
    edition: str
    kind: str
    reader: str


def record_events(engine: Engine, events: Sequence[ProviderEvent], *, keys: Keys, at: datetime) -> Evidence:
    """Store *events* that are not stored yet, and do what follows from them, in one transaction."""
    with writing(engine) as session:
        told = record_within(session, events, keys=keys, received_at=at, at=at)
    return told


def record_within(
    session: Session, events: Sequence[ProviderEvent], *, keys: Keys, received_at: datetime, at: datetime
) -> Evidence:
    """
    ``record_events`` as part of the caller's transaction.

    One event that names an attempt settles its batch when nobody knew what became of it. Locks are taken
    in one order (events, addresses, batches, editions, each ascending), so that calls for the same
    batches wait for each other and for a drain instead of failing.
    """
    told = [_Told(one.batch, one.edition, one.kind, one.reader) for one in events if one.batch]
    new = _store(session, events, keys, received_at)
    suppressed = react(session, new, at=received_at)
    settled, doubled = _weigh(session, told, at)
    stored = sum(map(len, new.values()))
    _tell(settled, doubled)
    return Evidence(stored, len(events) - stored, len(settled), len(doubled), suppressed)


def settle_from_stored(engine: Engine, *, at: datetime) -> Evidence:
    """
    Settle batches in doubt by events that came before the doubt did.

    An event can be quicker than the answer of the request it is about: then the batch still is in flight
    and is left to its owner. If the owner never hears an answer, the proof lies in the table already, and
    nothing else may come. To be called before anything is called back, sent again or decided by silence.
    """
    settled: list[_Attempt] = []
    doubled: list[_Attempt] = []
    with writing(engine) as session:
        in_doubt = session.execute(
            columns(col(Batch.id), col(Batch.attempt), col(Batch.given_up), col(Batch.state)).where(
                or_(
                    col(Batch.state).in_((BatchState.UNCERTAIN, BatchState.ABANDONED)),
                    (col(Batch.given_up) > 0) & (col(Batch.doubled_n) == 0),
                )
            )
        ).all()
        names = []
        for batch_id, attempt, given_up, state in in_doubt:
            doubtful = set(range(1, given_up + 1))
            if state in (BatchState.UNCERTAIN, BatchState.ABANDONED):
                doubtful.add(attempt)
            names += [f"{batch_id}.{number}" for number in sorted(doubtful)]
        told: list[_Told] = []
        for chunk in chunks(names):
            found = session.execute(
                columns(col(Event.batch), col(Event.edition), col(Event.kind), func.max(Event.reader))
                .where(col(Event.batch).in_(chunk))
                .group_by(col(Event.batch), col(Event.edition), col(Event.kind))
            ).all()
            told += [_Told(*row) for row in found]
        if told:
            settled, doubled = _weigh(session, told, at)
    _tell(settled, doubled)
    return Evidence(settled=len(settled), doubled=len(doubled))


def _tell(settled: Sequence[_Attempt], doubled: Sequence[_Attempt]) -> None:
    for one in settled:
        log.info("batch.settled_by_event", batch=one.batch_id, attempt=one.attempt)
    for one in doubled:
        log.warning("batch.doubled", batch=one.batch_id, attempt=one.attempt)


_Key = tuple[str, str, str]
"""What makes an event the same: event_id, address_hash, kind. Of the id alone that is not certain."""

_COLUMNS = (
    "event_id", "address_hash", "kind", "edition", "batch", "reader", "occurred_at", "received_at", "link", "client",
    "is_machine", "raw",
)  # fmt: skip


def _hash(keys: Keys, email: str) -> str:
    try:
        _, key = normalise(email)
    except ValueError:  # what is dropped as invalid may be no address at all
        key = email.strip().casefold()
    return address_hash(keys.suppression, key)


def _store(
    session: Session, events: Sequence[ProviderEvent], keys: Keys, received_at: datetime
) -> dict[str, list[ProviderEvent]]:
    """Insert what is not there yet; return it by address hash. Nothing of an erased reader is kept."""
    if not events:
        return {}
    connection = session.connection()
    take_turns_with_events(connection)
    hashes = {email: _hash(keys, email) if email else "" for email in {event.email for event in events}}
    erased = erased_among(session, sorted({hashed for hashed in hashes.values() if hashed}))
    found: dict[_Key, ProviderEvent] = {}
    for event in events:
        hashed = hashes[event.email]
        if hashed in erased:  # nothing follows from it
            hashed, event = "", _bare(event)
        found.setdefault((event.event_id, hashed, event.kind.value), event)
    for known in _known(connection, {key[0] for key in found}):
        found.pop(known, None)
    insert_rows(
        connection, Event.__table__, _COLUMNS,  # type: ignore[attr-defined]  # SQLModel's table
        [_row(key, event, received_at) for key, event in found.items()],
    )  # fmt: skip
    new: dict[str, list[ProviderEvent]] = defaultdict(list)
    for key, event in found.items():
        new[key[1]].append(event)
    return new


def _bare(event: ProviderEvent) -> ProviderEvent:
    """As much of an event as may be kept of a reader who was erased."""
    return ProviderEvent(
        event.event_id, event.kind, occurred_at=event.occurred_at, edition=event.edition, batch=event.batch
    )


def _known(connection: Connection, ids: set[str]) -> Iterable[_Key]:
    table = Event.__table__  # type: ignore[attr-defined]  # SQLModel's table
    query = columns(table.c.event_id, table.c.address_hash, table.c.kind).where(
        among(connection, table.c.event_id, ids)
    )
    return [(row[0], row[1], row[2]) for row in connection.execute(query)]


def _row(key: _Key, event: ProviderEvent, received_at: datetime) -> tuple[Any, ...]:
    """The values of ``_COLUMNS``."""
    occurred_at = received_at if event.occurred_at == NOT_TOLD else event.occurred_at
    return (
        *key, event.edition, event.batch, event.reader, occurred_at, received_at, event.link, event.client,
        event.is_machine, dict(event.raw),
    )  # fmt: skip


def _weigh(session: Session, told: Iterable[_Told], at: datetime) -> tuple[list[_Attempt], list[_Attempt]]:
    """Settle what *told* proves; return the attempts that settled a batch, and those that doubled one."""
    proofs = _proofs(told)
    rows = _batches(session, sorted({one.batch_id for one in proofs}))
    open_questions = [one for one in sorted(proofs) if _is_open(rows.get(one.batch_id), one.attempt, at)]
    if not open_questions:
        return [], []
    called_back = _called_back(session, open_questions)
    editions = _editions(session, {rows[one.batch_id].edition_id for one in open_questions})
    settled: list[_Attempt] = []
    doubled: list[_Attempt] = []
    to_close: set[int] = set()
    for one in open_questions:
        proof, row = proofs[one], rows[one.batch_id]
        if one in called_back and not proof.has_left:
            continue
        if not _is_about_us(session, proof, row, editions[row.edition_id]):
            log.warning("event.of_another_installation", batch=one.batch_id, attempt=one.attempt)
            continue
        match _apply(session, row, one.attempt, at=at, was_called_back=one in called_back):
            case "settled":
                settled.append(one)
                to_close.add(row.edition_id)
            case "doubled":
                doubled.append(one)
            case _:
                pass
    for edition_id in sorted(to_close):
        close(session, edition_id, at=at)
    return settled, doubled


def _proofs(told: Iterable[_Told]) -> dict[_Attempt, _Proof]:
    proofs: dict[_Attempt, _Proof] = defaultdict(_Proof)
    for one in told:
        # Nine digits: PostgreSQL raises for an id that its column cannot hold.
        name = re.fullmatch(r"([0-9]{1,9})\.([0-9]{1,9})", one.batch)
        if name is None or one.kind == EventKind.UNKNOWN:
            continue
        proof = proofs[_Attempt(int(name[1]), int(name[2]))]
        proof.has_left |= one.kind not in _BEFORE_IT_LEAVES
        proof.editions |= {one.edition} - {""}
        proof.readers |= {one.reader} - {""}
    return proofs


_NOT_ON_ITS_WAY = (BatchState.PENDING, BatchState.WITHDRAWN)
"""Waits to go (again), or was taken back before it went: an earlier attempt may have been taken all the same."""

_UNPROVEN = (*_NOT_ON_ITS_WAY, BatchState.UNCERTAIN, BatchState.ABANDONED)
"""Nothing says that the last attempt was taken: proof of an earlier one tells that its readers have it, once."""


class _Row(NamedTuple):
    """A batch as it stood when the events were looked at; every move is conditional on it."""

    id: int
    edition_id: int
    state: str
    attempt: int
    given_up: int
    doubled_n: int
    owner: str
    lease_until: datetime | None
    readers: int


def _batches(session: Session, ids: Sequence[int]) -> dict[int, _Row]:
    """Read without a lock: nearly all events are of batches that are settled, and a drain goes on."""
    rows: dict[int, _Row] = {}
    for chunk in chunks(ids):
        query: Any = columns(  # SQLAlchemy types a Select by its columns
            col(Batch.id), col(Batch.edition_id), col(Batch.state), col(Batch.attempt), col(Batch.given_up),
            col(Batch.doubled_n), col(Batch.owner), col(Batch.lease_until),
            col(Batch.n) - col(Batch.skipped_n) - col(Batch.failed_n) - col(Batch.moved_n),
        ).where(col(Batch.id).in_(chunk))  # fmt: skip
        rows.update((row[0], _Row(*row)) for row in session.execute(query))
    return rows


def _is_open(row: _Row | None, attempt: int, at: datetime) -> bool:
    """Whether it is news for a batch that *attempt* was taken."""
    if row is None or attempt > row.attempt:
        return False
    if attempt < row.attempt:
        return row.state in _NOT_ON_ITS_WAY or row.doubled_n == 0
    match BatchState(row.state):
        case BatchState.UNCERTAIN | BatchState.ABANDONED | BatchState.PENDING | BatchState.WITHDRAWN:
            return True
        case BatchState.SUBMITTED:  # an earlier attempt may be what proved it
            return 0 < row.given_up < attempt and row.doubled_n == 0
        case BatchState.SUBMITTING:  # its owner will know better, if there still is one
            return is_dead(row.owner) or (row.lease_until is not None and row.lease_until < at)
        case _:
            return False


def _called_back(session: Session, attempts: Sequence[_Attempt]) -> set[_Attempt]:
    found: set[_Attempt] = set()
    for chunk in chunks(sorted({one.batch_id for one in attempts})):
        query = columns(col(Cancellation.batch_id), col(Cancellation.attempt)).where(
            col(Cancellation.batch_id).in_(chunk)
        )
        found.update(_Attempt(*row) for row in session.execute(query))
    return found


def _editions(session: Session, ids: Iterable[int]) -> dict[int, str]:
    rows = session.exec(select(EditionRow).where(col(EditionRow.id).in_(sorted(ids)))).all()
    return {row.id: edition_ref(row) for row in rows if row.id is not None}


def _is_about_us(session: Session, proof: _Proof, row: _Row, edition: str) -> bool:
    """
    Whether the events can be about this batch: its edition, and one of its readers.

    Batches are numbered from 1 in every database. A trial installation with the same account, or this one
    before it was set up anew, has had a batch of the same name.
    """
    if proof.editions and edition not in proof.editions:
        return False
    if not proof.readers:
        return True
    some = sorted(proof.readers)[:1000]
    known = session.exec(select(Subscriber.id).where(col(Subscriber.reader).in_(some))).all()
    frozen = session.exec(select(Batch.ids).where(Batch.id == row.id)).one()
    return not set(unpack(frozen)).isdisjoint(one for one in known if one is not None)


def _apply(session: Session, row: _Row, attempt: int, *, at: datetime, was_called_back: bool) -> str:
    """Move the batch, or record that its readers had it twice: "settled", "doubled" or ""."""
    state = BatchState(row.state)
    if attempt == row.attempt and state is BatchState.SUBMITTED:
        is_double = _was_told_of(session, row.id, row.given_up) and record_double(
            session, row.id, row.given_up, readers=row.readers, at=at
        )
        return "doubled" if is_double else ""
    if attempt == row.attempt and state not in _NOT_ON_ITS_WAY:
        proven = "an event of the provider proves that it was taken"
        if state is BatchState.ABANDONED:
            proven = f"it had been abandoned, but {proven}"
        moved = move_batch(
            session, row.id, to=BatchState.SUBMITTED, frm=state, at=at, of_attempt=attempt, owner="",
            lease_until=None, error=proven,
        )  # fmt: skip
        return "settled" if moved else ""
    if attempt > row.given_up:
        if not was_called_back:
            return ""  # it was refused for certain: nothing was taken, whatever this is
        # The provider had said that it stopped it, and it went out all the same.
        session.connection().execute(update(Batch).where(col(Batch.id) == row.id).values(given_up=attempt))
    if state in _UNPROVEN and move_batch(
        session, row.id, to=BatchState.SUBMITTED, frm=state, at=at, of_attempt=row.attempt,
        error=f"attempt {attempt} turned out to have been taken",
    ):  # fmt: skip
        return "settled"
    if row.readers > 0 and record_double(session, row.id, attempt, readers=row.readers, at=at):
        return "doubled"
    return ""


def _was_told_of(session: Session, batch_id: int, given_up: int) -> bool:
    """Whether an event proved one of the attempts that were given up."""
    names = [f"{batch_id}.{number}" for number in range(1, given_up + 1)]
    found = select(Event.id).where(col(Event.batch).in_(names), Event.kind != EventKind.UNKNOWN)
    return session.exec(found.limit(1)).first() is not None
