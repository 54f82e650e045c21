"""
Reconciling: the provider's own lists of addresses it does not mail, and ours, brought together both ways.

Its events can be lost (it stops trying after a day), and who has joined again here may still be dropped there.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice

import structlog
from sqlalchemy import Engine
from sqlmodel import col, select

from newsletter.audience.addresses import address_hash, normalise
from newsletter.audience.reactions import came_back, chunks, react
from newsletter.events import EventKind, NoMore, ProviderEvent
from newsletter.providers import Barred, Provider
from newsletter.settings import Keys
from newsletter.store.session import reading, writing
from newsletter.store.tables import Installation, Suppression
from newsletter.times import iso, parse_instant

SINCE = "reconciled-at"
_OVERLAP = timedelta(days=2)
_CHUNK = 500
_KINDS = {
    NoMore.BOUNCED: EventKind.BOUNCED,
    NoMore.COMPLAINED: EventKind.COMPLAINED,
    NoMore.UNSUBSCRIBED: EventKind.UNSUBSCRIBED,
}

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Reconciled:
    """*listed* addresses were looked at, *suppressed* are so only now, *cleared* were taken off the provider's list."""

    listed: int = 0
    suppressed: int = 0
    cleared: int = 0


def reconcile(engine: Engine, provider: Provider, keys: Keys, *, at: datetime) -> Reconciled:
    """
    Suppress whom the provider has barred since the last time, with an overlap, or ever at the first;
    take off its list who left there and has joined again here since.

    Raises:
        ProviderError: a list cannot be read; what was read counts, and the next time begins where this one did.
    """
    with reading(engine) as session:
        row = session.get(Installation, SINCE)
    since = parse_instant(row.value) - _OVERLAP if row else datetime.fromtimestamp(0, UTC)
    listed = suppressed = cleared = 0
    barred = provider.barred(since)
    while some := list(islice(barred, _CHUNK)):
        new, back = _apply(engine, keys, some, at=at)
        listed, suppressed = listed + len(some), suppressed + new
        cleared += sum(provider.unbar(email) for email in back)
    with writing(engine) as session:
        session.merge(Installation(name=SINCE, value=iso(at) or ""))
    return Reconciled(listed, suppressed, cleared)


@dataclass(frozen=True, slots=True)
class Drift:
    """Of *listed* addresses that the provider bars *unknown* are not barred here; last *reconciled_at*."""

    listed: int
    unknown: int
    reconciled_at: datetime | None


def drift(engine: Engine, provider: Provider, keys: Keys, *, since: datetime) -> Drift:
    """
    Compare what the provider has barred since then with our suppressions; changes nothing.

    Who left there and joined again here is known.

    Raises:
        ProviderError: a list cannot be read.
    """
    left: dict[str, datetime] = {}
    listed: set[str] = set()
    for one in provider.barred(since):
        with suppress(ValueError):
            hashed = address_hash(keys.suppression, normalise(one.email)[1])
            listed.add(hashed)
            if one.reason is NoMore.UNSUBSCRIBED:
                left[hashed] = max(one.since, left.get(hashed, one.since))
    known: set[str] = set()
    with reading(engine) as session:
        for some in chunks(sorted(listed)):
            query = select(Suppression.address_hash).where(
                col(Suppression.address_hash).in_(some), Suppression.scope == "all"
            )
            known.update(session.exec(query))
        known |= came_back(session, left)
        row = session.get(Installation, SINCE)
    return Drift(len(listed), len(listed - known), parse_instant(row.value) if row else None)


def _apply(engine: Engine, keys: Keys, some: Sequence[Barred], *, at: datetime) -> tuple[int, list[str]]:
    """How many are suppressed only now, and the addresses of those who have come back."""
    told: dict[str, list[ProviderEvent]] = {}
    emails: dict[str, str] = {}
    for one in some:
        try:
            _, key = normalise(one.email)
        except ValueError:  # what they call invalid may be no address at all
            continue
        hashed = address_hash(keys.suppression, key)
        event = ProviderEvent("", _KINDS[one.reason], occurred_at=one.since, no_more=one.reason)
        told.setdefault(hashed, []).append(event)
        emails[hashed] = one.email
    only_left = {
        hashed: max(event.occurred_at for event in events)
        for hashed, events in told.items()
        if all(event.no_more is NoMore.UNSUBSCRIBED for event in events)
    }
    with writing(engine) as session:
        suppressed = react(session, told, at=at)
        back = came_back(session, only_left)
    return suppressed, [emails[hashed] for hashed in sorted(back)]
