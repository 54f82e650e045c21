"""
Pace: how many readers a sender and a newsletter may be handed over now, by all processes together.

A claim books its readers in the minute it is made, in the transaction that makes it; who would go over
a ceiling is told when to come back. Only senders and newsletters with a ceiling are booked at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

from sqlalchemy import Connection, Engine, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import col

from newsletter.catalogue import Address, Ceilings, Newsletter, Publication
from newsletter.store.session import writing
from newsletter.store.tables import Pace as PaceRow
from newsletter.times import due_at, local_date

_KEPT = timedelta(days=2)


@dataclass(frozen=True, slots=True)
class Turn:
    """A claim may be made, by *sender*."""

    sender: Address


@dataclass(frozen=True, slots=True)
class Later:
    """No claim may be made before *at*; *why* in words."""

    at: datetime
    why: str


@dataclass(frozen=True, slots=True)
class _Book:
    key: str
    ceilings: Ceilings
    volume: int  # of the warm-up today; 0: none
    words: str


def largest_batch(newsletter: Newsletter, publication: Publication, at: datetime, most: int) -> int:
    """How many readers a batch may hold so that no ceiling can keep it for ever."""
    pace = publication.pace_of(_sender(newsletter, publication).email)
    volume = pace.warm_up.volume(local_date(at, publication.timezone)) if pace.warm_up else 0
    bounds = (most, pace.smallest, newsletter.pace.smallest, volume)
    return min(bound for bound in bounds if bound)


def admit(
    connection: Connection,
    newsletter: Newsletter,
    publication: Publication,
    readers: int,
    *,
    at: datetime,
    books: bool = True,
) -> Turn | Later:
    """
    Book *readers* for the newsletter's sender, or for the one that takes its overflow, or say when.

    Without *books* nothing is written: who only asks may be told of a turn that somebody else takes.
    """
    if newsletter.window is not None and newsletter.local_time is None:
        opens = newsletter.window.opens(at, newsletter.zone(publication))
        if opens is not None:
            return Later(opens, "its delivery window is closed")
    sender = _sender(newsletter, publication)
    own = _Book(f"newsletter {newsletter.slug}", newsletter.pace, 0, f"the pace of {newsletter.name}")
    first = _admit(connection, sender, own, publication, readers, at=at, writes=books)
    overflow = publication.pace_of(sender.email).overflow
    if isinstance(first, Turn) or overflow is None or "warm-up" not in first.why:
        return first
    return _admit(connection, overflow, own, publication, readers, at=at, writes=books)


def _sender(newsletter: Newsletter, publication: Publication) -> Address:
    return newsletter.sender or publication.sender


def _admit(
    connection: Connection,
    sender: Address,
    own: _Book,
    publication: Publication,
    readers: int,
    *,
    at: datetime,
    writes: bool,
) -> Turn | Later:
    pace = publication.pace_of(sender.email)
    volume = pace.warm_up.volume(local_date(at, publication.timezone)) if pace.warm_up else 0
    books = [
        book
        for book in (_Book(f"sender {sender.email}", pace, volume, f"the pace of {sender.email}"), own)
        if book.ceilings.smallest or book.volume
    ]
    for book in books if writes else ():
        _add(connection, book.key, at, 0)  # locks the key's row of this minute: claims of one key queue here
    for book in books:
        later = _full(connection, book, readers, at=at, zone=publication.timezone)
        if later is not None:
            return later
    for book in books if writes else ():
        _add(connection, book.key, at, readers)
    return Turn(sender)


def _full(connection: Connection, book: _Book, readers: int, *, at: datetime, zone: str) -> Later | None:
    minute = _minute(at)
    today = due_at(local_date(at, zone), time(), zone)
    tomorrow = due_at(local_date(at, zone) + timedelta(days=1), time(), zone)
    next_minute = datetime.fromtimestamp((minute + 1) * 60, UTC)
    ceilings = book.ceilings
    if book.volume and _over(connection, book, _minute(today), readers, book.volume):
        return Later(tomorrow, f"the warm-up of {book.key.removeprefix('sender ')} allows no more today")
    if _over(connection, book, _minute(today), readers, ceilings.per_day):
        return Later(tomorrow, f"{book.words} allows no more today")
    if _over(connection, book, minute - 59, readers, ceilings.per_hour):
        return Later(
            _leaves_the_hour(connection, book, readers, minute), f"{book.words} allows no more this hour"
        )
    if _over(connection, book, minute, readers, ceilings.per_minute):
        return Later(next_minute, f"{book.words} allows no more this minute")
    return None


def _over(connection: Connection, book: _Book, since: int, readers: int, ceiling: int) -> bool:
    """Whether *readers* more would be too many. A batch that cannot be parted goes alone, or it would never go."""
    if not ceiling:
        return False
    booked = _booked(connection, book.key, since)
    return booked > 0 and booked + readers > ceiling


def _leaves_the_hour(connection: Connection, book: _Book, readers: int, minute: int) -> datetime:
    """When enough of the last sixty minutes is past."""
    rows = connection.execute(
        select(col(PaceRow.minute), col(PaceRow.n))
        .where(col(PaceRow.key) == book.key, col(PaceRow.minute) >= minute - 59)
        .order_by(col(PaceRow.minute))
    ).all()
    room = book.ceilings.per_hour - sum(n for _, n in rows)
    for booked, n in rows:
        room += n
        if room >= readers:
            return datetime.fromtimestamp((booked + 60) * 60, UTC)
    return datetime.fromtimestamp((minute + 1) * 60, UTC)


def _booked(connection: Connection, key: str, since: int) -> int:
    return int(
        connection.execute(
            select(func.coalesce(func.sum(col(PaceRow.n)), 0)).where(
                col(PaceRow.key) == key, col(PaceRow.minute) >= since
            )
        ).scalar_one()
    )


def _add(connection: Connection, key: str, at: datetime, readers: int) -> None:
    minute = _minute(at)
    insert = (postgresql if connection.dialect.name == "postgresql" else sqlite).insert
    statement = insert(PaceRow).values(key=key, minute=minute, n=readers)
    connection.execute(
        statement.on_conflict_do_update(index_elements=["key", "minute"], set_={"n": PaceRow.n + readers})
    )


def give_back(
    connection: Connection, newsletter_slug: str, sender: str, readers: int, *, at: datetime
) -> None:
    """Un-book readers whose attempt, claimed *at*, was certainly refused."""
    for key in (f"newsletter {newsletter_slug}", f"sender {sender}"):
        connection.execute(
            update(PaceRow)
            .where(col(PaceRow.key) == key, col(PaceRow.minute) == _minute(at), col(PaceRow.n) >= readers)
            .values(n=PaceRow.n - readers)
        )


def prune_pace(engine: Engine, *, now: datetime) -> None:
    """Delete the minutes that no ceiling looks at any more."""
    with writing(engine) as session:
        session.execute(delete(PaceRow).where(col(PaceRow.minute) < _minute(now - _KEPT)))


def _minute(at: datetime) -> int:
    return int(at.timestamp() // 60)
