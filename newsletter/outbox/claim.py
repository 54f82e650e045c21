"""
Claim: take a batch, then look who still may have it; both are committed before a byte leaves.

Taking is one short transaction, because writers of SQLite queue. Readers are then read by their frozen
ids and checked in the same query: who left, was suppressed or erased since the freeze is skipped; who
changed class is moved, once, into a trailing batch of the right variant. Each of them gets a row; all
others share the fate of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, cast

from sqlalchemy import Connection, Engine, Select, bindparam, or_
from sqlalchemy import select as columns
from sqlmodel import Session, col, select

from newsletter.audience.segments import SEPARATOR, ends_by, fit_query, ids_text, reader_query
from newsletter.catalogue import Address, Newsletter, Publication, Reminder, class_of, reminding
from newsletter.edition import EditionStatus
from newsletter.outbox.batches import append_readers, record_exception
from newsletter.outbox.ids import unpack
from newsletter.outbox.ledger import BatchState, finish, move_batch
from newsletter.outbox.pace import Later, admit, largest_batch
from newsletter.outbox.subjects import WHY_IT_WAITS, choose, is_free, its_subject, waits_for_choice
from newsletter.store.session import writing
from newsletter.store.tables import Batch, EditionRow, Instant, ReaderException

Reader = tuple[int, str, str, str]
"""id, reader, email, name"""

LEASE = timedelta(minutes=15)
"""How long a claim is believed; ≫ the deadline of one request (30 s a step)."""


@dataclass(frozen=True, slots=True)
class Readers:
    """Who goes out with a claimed batch, as columns: *readers* is 24 characters each, without a separator."""

    ids: str
    readers: str
    emails: Sequence[str]
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.emails)

    def all_ids(self) -> list[int]:
        """The ids, in the order of the other columns."""
        return [int(number) for number in self.ids.split(SEPARATOR)] if self.ids else []

    def only(self, places: Sequence[int]) -> Readers:
        """Those at *places* (0-based), in that order."""
        rows = _rows_of(self)
        return _columns([rows[place] for place in places])


NOBODY = Readers("", "", (), ())


@dataclass(frozen=True, slots=True)
class Claim:
    """
    A batch that is ours to submit; *readers* go out with it, once ``look`` has said who they are.

    *subject* is the letter of the one it goes with; '' where the edition has but one.
    """

    batch_id: int
    attempt: int
    edition_id: int
    variant: str
    subject: str
    sender: Address
    at: datetime
    lease_until: datetime
    release_at: datetime | None
    reservation: str
    ids: bytes
    has_apart: bool
    readers: Readers = NOBODY


@dataclass(frozen=True, slots=True)
class TooLarge:
    """The batch whose turn it is holds more than may go at once now; part it into such of *size*."""

    batch_id: int
    size: int


def claim(
    session: Session,
    newsletter: Newsletter,
    publication: Publication,
    edition_id: int,
    *,
    owner: str,
    at: datetime,
    ahead: timedelta,
    reservation: str = "",
    most: int = 1_000,
) -> Claim | TooLarge | Later | None:
    """
    Claim the next batch of an edition that is being sent; None: nothing is left to claim now.

    None too when the edition was paused or spiked: the brake is looked at for every batch. ``Later``:
    there is something, but the pace, a release time or a choice of subjects lets nothing go before its moment.
    ``TooLarge``: it was frozen before a ceiling, or the *most* one request may hold, was lowered. When the rest
    waits for a subject, and it is time, that is chosen here. The caller commits.
    *ahead*: how long before its release a batch may be handed over.
    """
    connection = session.connection()
    while True:
        found = connection.execute(
            _next_query(), {"edition": edition_id, "at": at, "release": at + ahead}
        ).first()
        if found is None:
            if choose(session, edition_id, at=at):
                continue
            return _next_release(session, edition_id, ahead, at=at)
        batch_id, attempt, variant, subject, ids, readers, apart, release_at, given_up = found
        size = largest_batch(newsletter, publication, at, most)
        if readers - apart > size and not given_up:  # else parts of it could not be told apart in evidence
            return TooLarge(batch_id, size)
        turn = admit(connection, newsletter, publication, readers - apart, at=at)
        if isinstance(turn, Later):
            return turn
        release_at = _release(newsletter, release_at, at, reservation)
        taken = move_batch(
            session, batch_id, to=BatchState.SUBMITTING, frm=BatchState.PENDING, at=at, of_attempt=attempt,
            attempt=attempt + 1, owner=owner, lease_until=at + LEASE, not_before=None, error="",
            release_at=release_at, reservation=reservation,
        )  # fmt: skip
        if not taken:
            continue
        return Claim(
            batch_id, attempt + 1, edition_id, variant, subject, turn.sender, at, at + LEASE,
            release_at if release_at and release_at > at else None, reservation, ids, apart > 0,
        )  # fmt: skip


def waits(
    session: Session,
    newsletter: Newsletter,
    publication: Publication,
    edition_id: int,
    *,
    at: datetime,
    ahead: timedelta,
) -> Later | None:
    """Until when and why nothing of an edition can be claimed now; None: something can, or nothing waits. Changes nothing."""
    given = {"edition": edition_id, "at": at, "release": at + ahead}
    found = session.connection().execute(_turn_query(), given).first()
    if found is None:
        return _next_release(session, edition_id, ahead, at=at)
    _, _, _, _, _, readers, apart, _, _ = found
    goes = min(readers - apart, largest_batch(newsletter, publication, at, readers))
    turn = admit(session.connection(), newsletter, publication, goes, at=at, books=False)
    return turn if isinstance(turn, Later) else None


def look(
    engine: Engine,
    newsletter: Newsletter,
    publication: Publication,
    claim: Claim,
    *,
    now: datetime,
    at: datetime,
    batch_size: int,
) -> Claim:
    """
    Return *claim* with those who may have it now; who may not is recorded and committed first.

    A batch of whom nobody is left ends here, and the edition with it if it was the last.
    """
    frozen = unpack(claim.ids)
    with engine.connect() as connection:
        if claim.has_apart:
            out = set(_apart(connection, claim.batch_id))
            frozen = [reader for reader in frozen if reader not in out]
        fit = (
            _fit(connection, newsletter.slug, publication, frozen, claim.variant, now=now)
            if frozen
            else NOBODY
        )
    if frozen and len(fit) == len(frozen):
        return replace(claim, readers=fit)
    with writing(engine) as session:
        batch = session.get_one(Batch, claim.batch_id)
        missing = sorted(set(frozen) - set(fit.all_ids()))
        again = _check_readers(
            session, batch, newsletter, publication, missing, now=now, at=at, batch_size=batch_size
        )
        if again:
            fit = _columns([*_rows_of(fit), *again])
        if not fit:
            move_batch(
                session, claim.batch_id, to=BatchState.SUBMITTED, frm=BatchState.SUBMITTING, at=at,
                of_attempt=claim.attempt, owner="", lease_until=None,
            )  # fmt: skip
            finish(session, claim.edition_id, at=at)
    return replace(claim, readers=fit)


SEND_AT_LEAST_AHEAD = timedelta(minutes=20)
"""A scheduled request is handed over so long before its release: 10 minutes stay to call it back."""


def _release(
    newsletter: Newsletter, release_at: datetime | None, at: datetime, reservation: str
) -> datetime | None:
    """A scheduled batch that is late gets a later release, so that it can still be called back."""
    if not reservation:
        return release_at
    return max(release_at or at, at + SEND_AT_LEAST_AHEAD)


@lru_cache(maxsize=1)
def _next_query() -> Select[Any]:
    """Select and lock the batch whose turn it is; one that somebody else is claiming is passed over."""
    return _turn_query().with_for_update(skip_locked=True, of=Batch)


@lru_cache(maxsize=1)
def _turn_query() -> Select[Any]:
    """Select the batch whose turn it is. Parameters: ``edition``, ``at``, ``release`` (the latest to hand over now)."""
    at = bindparam("at", type_=Instant)
    query: Any = (  # SQLAlchemy types a Select by its columns
        columns(
            col(Batch.id), col(Batch.attempt), col(Batch.variant), its_subject(), col(Batch.ids), col(Batch.n),
            col(Batch.skipped_n) + col(Batch.failed_n) + col(Batch.moved_n), col(Batch.release_at),
            col(Batch.given_up),
        )
        .join(EditionRow, col(EditionRow.id) == col(Batch.edition_id))
        .where(
            col(Batch.edition_id) == bindparam("edition"),
            col(Batch.state) == BatchState.PENDING,
            col(EditionRow.status) == EditionStatus.SUBMITTING,
            or_(col(Batch.not_before).is_(None), col(Batch.not_before) <= at),
            or_(col(Batch.release_at).is_(None), col(Batch.release_at) <= bindparam("release", type_=Instant)),
            is_free(),
        )
        .order_by(col(Batch.rank), col(Batch.trailing), col(Batch.seq))
        .limit(1)
    )  # fmt: skip
    return cast("Select[Any]", query)


def _next_release(session: Session, edition_id: int, ahead: timedelta, *, at: datetime) -> Later | None:
    """When something of the edition may go next, if anything waits and the edition still is being sent."""
    pending = (
        select(Batch.not_before, Batch.release_at)
        .join(EditionRow, col(EditionRow.id) == col(Batch.edition_id))
        .where(
            Batch.edition_id == edition_id,
            Batch.state == BatchState.PENDING,
            EditionRow.status == EditionStatus.SUBMITTING,
            is_free(),
        )
        .distinct()
    )
    moments = []
    for retry_at, release_at in session.exec(pending):
        known = [moment for moment in (retry_at, release_at - ahead if release_at else None) if moment]
        if known:
            is_retry = max(known) == retry_at
            moments.append((max(known), _RETRY if is_retry else _WAVE))
    test = waits_for_choice(session, edition_id)
    if (
        test is not None
    ):  # until its sample has gone nobody knows when it ends; that others send it takes a moment
        moments.append((test.until or at + _A_MOMENT, WHY_IT_WAITS))
    return Later(*min(moments)) if moments else None


_A_MOMENT = timedelta(seconds=2)
_RETRY = "the provider asked to wait"
_WAVE = "that is when its next wave is released"


def _fit(
    connection: Connection,
    slug: str,
    publication: Publication,
    frozen: Sequence[int],
    variant: str,
    *,
    now: datetime,
) -> Readers:
    """Who of *frozen* may have it now."""
    dialect = connection.dialect.name
    given: dict[str, Any] = {"now": now, "paying": class_of(variant) == "paying"}
    reminder = _reminder(publication, variant)
    if reminder is not None:
        given["ends_by"] = ends_by(reminder, publication, now)
    elif variant != class_of(variant):
        return NOBODY  # a reminder that was taken back since the freeze: each reader is looked at alone
    dense = _is_dense(frozen)
    given |= {"lo": frozen[0], "hi": frozen[-1]} if dense else {"ids": ids_text(frozen, dialect)}
    query = _fit_query(slug, _Known.of(publication), dialect, dense, reminder)
    row = connection.execute(query, given).one()
    if row[0] is None:
        return NOBODY
    numbers, readers, emails, names = row
    fit = Readers(numbers, readers, emails.split(SEPARATOR), names.split(SEPARATOR))
    if not len(fit.emails) == len(fit.names) == numbers.count(SEPARATOR) + 1:
        return NOBODY  # a name holds the separator: each reader is looked at alone
    if not dense or numbers == SEPARATOR.join(map(str, frozen)):
        return fit
    wanted = set(frozen)
    return _columns([row for row in _rows_of(fit) if row[0] in wanted])


def _reminder(publication: Publication, variant: str) -> Reminder | None:
    """The reminder a variant holds; None: it holds none, or one that is no more."""
    return next((one for one in publication.reminders if reminding(one.id) == variant), None)


def _is_dense(ids: Sequence[int]) -> bool:
    """Whether reading all readers between the first and the last is less work than looking each up."""
    return bool(ids) and ids[-1] - ids[0] < 4 * len(ids)


def _rows_of(readers: Readers) -> list[Reader]:
    ids = readers.all_ids()
    references = [readers.readers[at : at + 24] for at in range(0, len(readers.readers), 24)]
    return list(zip(ids, references, readers.emails, readers.names, strict=True))


def _columns(rows: Sequence[Reader]) -> Readers:
    if not rows:
        return NOBODY
    ids, references, emails, names = zip(*sorted(rows), strict=True)
    return Readers(SEPARATOR.join(map(str, ids)), "".join(references), emails, names)


@dataclass(frozen=True, slots=True)
class _Known:
    """A publication as the key of a cache: only its paying plans count, and hashing it whole takes long."""

    publication: Publication = field(compare=False)
    paying_plans: tuple[str, ...] = ()
    trial_plans: tuple[str, ...] = ()

    @classmethod
    def of(cls, publication: Publication) -> _Known:
        return cls(publication, publication.paying_plans, publication.trial_plans)


@lru_cache(maxsize=64)
def _fit_query(slug: str, known: _Known, dialect: str, dense: bool, reminder: Reminder | None) -> Select[Any]:
    return fit_query(slug, known.publication, dialect, dense=dense, reminder=reminder)


def _apart(connection: Connection, batch_id: int) -> list[int]:
    """Those of a batch who do not share its fate."""
    apart = columns(col(ReaderException.subscriber_id)).where(col(ReaderException.batch_id) == batch_id)
    return list(connection.execute(apart).scalars())


def _check_readers(
    session: Session,
    batch: Batch,
    newsletter: Newsletter,
    publication: Publication,
    doubtful: Sequence[int],
    *,
    now: datetime,
    at: datetime,
    batch_size: int,
) -> list[Reader]:
    """Say of each of *doubtful* why the batch loses them, and record it; return who goes out after all."""
    query = reader_query(
        doubtful, newsletter.slug, publication, now=now, reminder=_reminder(publication, batch.variant)
    )
    rows = {row.id: row for row in session.execute(query).all()}
    readers: list[Reader] = []
    moved: dict[str, list[int]] = {}
    for reader_id in doubtful:
        row = rows.get(reader_id)
        if row is None:
            record_exception(session, batch, reader_id, "skipped", "erased after the freeze", at=at)
        elif row.suppressed:
            record_exception(session, batch, reader_id, "skipped", f"suppressed: {row.suppressed}", at=at)
        elif row.status != "active":
            record_exception(session, batch, reader_id, "skipped", f"the address is {row.status}", at=at)
        elif row.state != "active":
            record_exception(session, batch, reader_id, "skipped", "left after the freeze", at=at)
        elif row.paused_until is not None:
            record_exception(session, batch, reader_id, "skipped", "paused after the freeze", at=at)
        elif row.variant == batch.variant:
            readers.append((row.id, row.reader, row.email, row.name))
        elif class_of(row.variant) in newsletter.audience.classes:
            same = class_of(row.variant) == class_of(batch.variant)
            reason = "the reminder no longer fits" if same else f"is {class_of(row.variant)} now"
            record_exception(session, batch, reader_id, "moved", reason, at=at)
            moved.setdefault(row.variant, []).append(reader_id)
        else:
            reason = f"is {class_of(row.variant)} now, and this newsletter is not for them"
            record_exception(session, batch, reader_id, "skipped", reason, at=at)
    for variant, ids in moved.items():
        append_readers(session, batch, ids, variant=variant, at=at, batch_size=batch_size, trailing=True)
    return readers
