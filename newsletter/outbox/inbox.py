"""
The inbox: what a provider posts is written down before it is understood, acknowledged, and processed soon after.

A body that was acknowledged stays until everything in it is stored: deleting it and storing its events are
one transaction. So whoever processes may die at any moment, and two who take the same body do it once. What
cannot be stored is halved until the one bad element stands alone; that is set aside and stops nobody.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Event as Signal
from typing import Any

import structlog
from sqlalchemy import CursorResult, Engine, delete, update
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlmodel import Session, col, func, select

from newsletter.audience.reactions import react
from newsletter.outbox.evidence import Evidence, record_within
from newsletter.providers.returned import event_of, is_returned
from newsletter.providers.sendgrid_events import read_elements, read_event
from newsletter.settings import Keys
from newsletter.store.session import reading, writing
from newsletter.store.tables import Event, Inbox
from newsletter.times import Clock

KEPT_ASIDE = timedelta(days=30)
"""What is set aside may hold addresses; after this it goes, mended or not."""

_PAGE = 2000
_QUICK = 1  # zlib's level: a tenth of the size already, and the answer does not wait

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Waiting:
    """What is in the inbox; *oldest_at* of what waits, *heard_at* of the last event of all."""

    bodies: int = 0
    oldest_at: datetime | None = None
    aside: int = 0
    heard_at: datetime | None = None


def append(engine: Engine, body: bytes, *, at: datetime) -> None:
    """Write *body* down; once this returns it outlives a crash."""
    packed = zlib.compress(body, _QUICK)
    with writing(engine) as session:
        session.add(Inbox(received_at=at, body=packed))


def waiting(engine: Engine) -> Waiting:
    """What waits, what is set aside, and when we last heard anything."""
    with reading(engine) as session:
        bodies, oldest = session.exec(
            select(func.count(), func.min(Inbox.received_at)).where(Inbox.error == "")
        ).one()
        aside = session.exec(select(func.count()).select_from(Inbox).where(Inbox.error != "")).one()
        heard = session.exec(select(Event.received_at).order_by(col(Event.id).desc()).limit(1)).first()
    return Waiting(bodies, oldest, aside, heard)


def process(engine: Engine, keys: Keys, *, clock: Clock, stop: Signal | None = None) -> Evidence:
    """
    Process what waits now, oldest first, one transaction a body; return what it changed.

    Safe at any time, in any number of processes. What comes meanwhile is left to the next call.
    """
    with reading(engine) as session:
        until = session.exec(select(func.max(Inbox.id)).where(Inbox.error == "")).one() or 0
    told, after = Evidence(), 0
    while until and not (stop is not None and stop.is_set()):
        with reading(engine) as session:
            posted = session.exec(
                select(Inbox)
                .where(col(Inbox.id) > after, col(Inbox.id) <= until, Inbox.error == "")
                .order_by(col(Inbox.id))
                .limit(1)
            ).first()
        if posted is None or posted.id is None:
            break
        after = posted.id
        told += _process(engine, keys, posted, at=clock())
    if told != Evidence():
        log.info(
            "events.processed", stored=told.stored, known=told.known, settled=told.settled, doubled=told.doubled,
            suppressed=told.suppressed,
        )  # fmt: skip
    return told


def _process(engine: Engine, keys: Keys, posted: Inbox, *, at: datetime) -> Evidence:
    elements: list[Any] = []
    try:
        elements = read_elements(zlib.decompress(posted.body))
        events = [read_event(element) for element in elements]
        with writing(engine) as session:
            if not _take_out(session, posted):
                return Evidence()
            return record_within(session, events, keys=keys, received_at=posted.received_at, at=at)
    except Exception as error:  # whatever is in one element, the others are not to wait for it
        if not _is_about_the_content(error):
            raise
        if len(elements) < 2:
            _set_aside(engine, posted, error)
            return Evidence()
    return sum(
        (_process(engine, keys, half, at=at) for half in _halve(engine, posted, elements)), start=Evidence()
    )


def _is_about_the_content(error: Exception) -> bool:
    """Whether the same body would fail again; a database that is away, locked or full says nothing about it."""
    if isinstance(error, SQLAlchemyError):
        return isinstance(error, DataError | IntegrityError) or not isinstance(error, DBAPIError)
    return isinstance(
        error, ArithmeticError | LookupError | RecursionError | TypeError | ValueError | zlib.error
    )


def _take_out(session: Session, posted: Inbox) -> bool:
    """Whether it is still there: of several who process a body one does."""
    taken = session.execute(delete(Inbox).where(col(Inbox.id) == posted.id))
    return isinstance(taken, CursorResult) and taken.rowcount == 1


def _halve(engine: Engine, posted: Inbox, elements: Sequence[Any]) -> tuple[Inbox, ...]:
    middle = len(elements) // 2
    halves = tuple(
        Inbox(received_at=posted.received_at, body=zlib.compress(json.dumps(part).encode(), _QUICK))
        for part in (elements[:middle], elements[middle:])
    )
    with writing(engine) as session:
        if not _take_out(session, posted):
            return ()
        session.add_all(halves)
        session.flush()
    return halves


def _set_aside(engine: Engine, posted: Inbox, error: Exception) -> None:
    """Keep it with the kind of its error: the text of one may hold an address."""
    log.error("inbox.set_aside", body=posted.id, error=type(error).__name__)
    with writing(engine) as session:
        session.execute(update(Inbox).where(col(Inbox.id) == posted.id).values(error=type(error).__name__))


def take_up_again(engine: Engine) -> int:
    """Let what was set aside wait again, because something was mended; return how many bodies."""
    with writing(engine) as session:
        changed = session.execute(update(Inbox).where(col(Inbox.error) != "").values(error=""))
        return changed.rowcount if isinstance(changed, CursorResult) else 0


def prune_inbox(engine: Engine, *, now: datetime) -> None:
    """Delete what was set aside long ago."""
    with writing(engine) as session:
        session.execute(
            delete(Inbox).where(col(Inbox.error) != "", col(Inbox.received_at) < now - KEPT_ASIDE)
        )


def replay(engine: Engine, *, edition: str = "", at: datetime) -> tuple[int, int]:
    """
    Read the stored events again (of *edition*, ``<slug>.<date>.<revision>``, or all) as this version reads them.

    What is counted by is brought up to date, and what follows for addresses is done where it was not; nothing
    is undone that a reader did since. Returns how many were read, and how many read otherwise now.
    """
    read = changed = after = 0
    while True:
        with writing(engine) as session:
            query = select(Event).where(col(Event.id) > after).order_by(col(Event.id)).limit(_PAGE)
            rows = session.exec(query.where(Event.edition == edition) if edition else query).all()
            if not rows:
                return read, changed
            after = rows[-1].id or 0
            by_address: dict[str, list[Any]] = {}
            for row in rows:
                if not row.raw:  # of an erased reader
                    continue
                read += 1
                event = event_of(row.raw) if is_returned(row.raw) else read_event(row.raw)
                fresh = (event.link, event.client, event.is_machine)
                if fresh != (row.link, row.client, row.is_machine):
                    row.link, row.client, row.is_machine = fresh
                    changed += 1
                    session.add(row)
                by_address.setdefault(row.address_hash, []).append(event)
            react(session, by_address, at=at)
