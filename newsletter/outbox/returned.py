"""
What came back by mail, where a relay tells nothing in any other way: bounces and complaints.

Each report is an event like those of a webhook: stored once, and what follows for the address is done at once. It
counts only if it brings back a leaving link that we signed, for the address its reader has now: a stranger who
writes to the return path changes nothing, and a reader nothing for anybody else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime
from itertools import islice
from pathlib import Path

import structlog
from sqlalchemy import Engine
from sqlmodel import Session, col, select

from newsletter.audience.addresses import normalise
from newsletter.audience.tokens import Token, TokenKind, day_of, is_scope_of, verify
from newsletter.errors import TokenError
from newsletter.events import ProviderEvent
from newsletter.outbox.evidence import record_events
from newsletter.providers.mailboxes import mark_read, unread
from newsletter.providers.message import identity_of
from newsletter.providers.returned import Returned, event_of, read_returned
from newsletter.settings import Keys
from newsletter.store.editions import edition_ref
from newsletter.store.session import reading
from newsletter.store.tables import EditionRow, Subscriber

_AT_ONCE = 50  # of at most a megabyte each

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Taken:
    """
    What mails were: *read* in all, *stored* and *known* reports on ours (known: had already), *unproven* ones
    without a link and address that a reader of ours has, *others* that are no report. *suppressed* addresses
    may not be mailed from now on.
    """

    read: int = 0
    stored: int = 0
    known: int = 0
    unproven: int = 0
    others: int = 0
    suppressed: int = 0

    def __add__(self, other: Taken) -> Taken:
        return Taken(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))


def take_from(engine: Engine, keys: Keys, source: Path, *, at: datetime) -> Taken:
    """
    Take what came back from the mails in *source*; those of a Maildir are marked as read afterwards.

    Safe at any time: what is read again is known.

    Raises:
        SourceError: *source* cannot be read.
    """
    taken, found = Taken(), unread(source)
    while chunk := list(islice(found, _AT_ONCE)):
        taken += take(engine, keys, [one.raw for one in chunk], at=at)
        for one in chunk:
            mark_read(one)
    if taken.stored:
        log.info("returned.taken", stored=taken.stored, suppressed=taken.suppressed, unproven=taken.unproven)
    return taken


def take(engine: Engine, keys: Keys, messages: Sequence[bytes], *, at: datetime) -> Taken:
    """Store what *messages* report of our mails, and do what follows."""
    reports = [report for report in map(read_returned, messages) if report is not None]
    with reading(engine) as session:
        events = _events(session, keys, reports)
    evidence = record_events(engine, events, keys=keys, at=at)
    return Taken(
        len(messages), evidence.stored, evidence.known, len(reports) - len(events), len(messages) - len(reports),
        evidence.suppressed,
    )  # fmt: skip


def _events(session: Session, keys: Keys, reports: Iterable[Returned]) -> list[ProviderEvent]:
    """The reports that are proven, as events."""
    proven = [(report, token) for report in reports if (token := _token(keys, report)) is not None]
    readers = sorted({token.reader for _, token in proven})
    rows = session.execute(
        select(col(Subscriber.reader), col(Subscriber.email), col(Subscriber.email_key)).where(
            col(Subscriber.reader).in_(readers)
        )
    ).all()
    addresses = {row[0]: (row[1], row[2]) for row in rows}
    editions = _editions(session, {day for _, token in proven if (day := day_of(token.scope))})
    events = []
    for report, token in proven:
        email, key = addresses.get(token.reader, ("", ""))
        if not key or _key(report.email) != key:
            continue  # erased meanwhile, or a report on an address this reader does not have
        about = _about(report, token, editions)
        raw = {**report.told, "edition": about, "reader": token.reader}
        events.append(event_of(raw, event_id=report.event_id, email=email, occurred_at=report.occurred_at))
    return events


def _token(keys: Keys, report: Returned) -> Token | None:
    try:
        return verify(keys, report.token, TokenKind.UNSUBSCRIBE)
    except TokenError:
        return None


def _key(email: str) -> str:
    try:
        return normalise(email)[1]
    except ValueError:
        return ""


def _editions(session: Session, days: Iterable[date]) -> Mapping[date, Sequence[EditionRow]]:
    wanted = sorted(days)
    rows = session.exec(
        select(EditionRow).where(col(EditionRow.edition_date).in_(wanted)).order_by(col(EditionRow.revision))
    ).all()
    return {day: [row for row in rows if row.edition_date == day] for day in wanted}


def _about(report: Returned, token: Token, editions: Mapping[date, Sequence[EditionRow]]) -> str:
    """The edition whose mail came back; '' for a mail that is none, such as a welcome."""
    day = day_of(token.scope)
    rows = [row for row in editions.get(day, ()) if is_scope_of(token.scope, row.newsletter)] if day else []
    names = [edition_ref(row) for row in rows]
    same = [name for name in names if identity_of(name, token.reader) == report.identity]
    return (same or names or [""])[-1]
