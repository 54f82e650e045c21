"""Choosing: what a reader may say of themselves and of what they get, each at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from functools import lru_cache
from typing import Any

from sqlalchemy import Engine, bindparam, update
from sqlalchemy import select as columns
from sqlmodel import Session, col

from newsletter.audience.leaving import UNDO_FOR, Reader, join, leave_within
from newsletter.store.session import writing
from newsletter.store.tables import Subscriber, Subscription, SunsetStep

LONGEST_PAUSE_DAYS = 365
BY_PAGE = "the preferences page"


@dataclass(frozen=True, slots=True)
class Choices:
    """
    A reader as their preferences show them; *masked* is their address so that only they know it.

    *left_here*: what they left on the preferences, and when. *sunset*: the last step that was taken because they
    showed no sign of life.
    """

    reader: Reader
    email: str
    name: str
    language: str
    timezone: str
    deliver_at: str
    plan: str
    plan_until: datetime | None
    paused_until: datetime | None
    pending_email: str
    left_here: Mapping[str, datetime]
    sunset: str = ""

    @property
    def masked(self) -> str:
        """The address with its middle left out."""
        return masked(self.email)


@dataclass(frozen=True, slots=True)
class Changed:
    """
    What a press on the preferences did: slugs.

    *first*: those of *joined* they never had before. *waiting*: ticked, but only the press on a
    confirming mail makes them come.
    """

    joined: tuple[str, ...]
    first: tuple[str, ...]
    left: tuple[str, ...]
    waiting: tuple[str, ...]
    refused: tuple[str, ...]


def masked(email: str) -> str:
    """*email* so that only who knows it reads it: first letters and the last part of the domain."""
    local, _, domain = email.rpartition("@")
    return f"{local[:1]}…@{domain[:1]}…{domain[domain.rfind('.') :]}"


def find_choices(engine: Engine, *, reader: str = "", subscriber_id: int = 0) -> Choices | None:
    """What a reader has chosen, by their public id or their number, in one look; None: they are gone."""
    with engine.connect() as connection:
        rows = connection.execute(
            _choices_query(bool(reader)), {"who": reader if reader else subscriber_id}
        ).all()
    if not rows:
        return None
    number, public, hashed, email, name, language, zone, hour, plan, until, paused, pending, *_, sunset = (
        rows[0]
    )
    states = {row[12]: row[13] for row in rows if row[12] is not None}
    known = Reader(number, public, hashed, language, states)
    left_here = {
        row[12]: row[14] for row in rows if row[13] == "left" and row[15].partition(";")[0] == BY_PAGE
    }
    return Choices(
        known, email, name, language, zone, hour, plan, until, paused, pending, left_here, sunset or ""
    )


@lru_cache(maxsize=2)
def _choices_query(by_public_id: bool) -> Any:  # built once: SQLAlchemy takes as long for it as the database
    who = col(Subscriber.reader) if by_public_id else col(Subscriber.id)
    step = (
        columns(col(SunsetStep.step))
        .where(col(SunsetStep.subscriber_id) == col(Subscriber.id))
        .order_by(col(SunsetStep.id).desc())
        .limit(1)
        .scalar_subquery()
    )
    return (
        columns(
            col(Subscriber.id), col(Subscriber.reader), col(Subscriber.address_hash), col(Subscriber.email),
            col(Subscriber.name), col(Subscriber.language), col(Subscriber.timezone), col(Subscriber.deliver_at),
            col(Subscriber.plan), col(Subscriber.plan_until), col(Subscriber.paused_until),
            col(Subscriber.pending_email), col(Subscription.newsletter), col(Subscription.state),
            col(Subscription.left_at), col(Subscription.left_reason), step,
        )
        .join(Subscription, col(Subscription.subscriber_id) == col(Subscriber.id), isouter=True)
        .where(who == bindparam("who"))
    )  # fmt: skip


def choose(
    session: Session,
    choices: Choices,
    *,
    shown: Iterable[str],
    wanted: Iterable[str],
    source: str,
    words: str,
    now: datetime,
    proved: bool,
) -> Changed:
    """
    Make what a reader gets equal to *wanted*, of the newsletters that were *shown* with *words*.

    What was not on the page stays as it is. *proved*: it is certain that they are the reader; for anybody
    else what is new waits, except what was left here within a day. *refused*: what speaks against it is no choice of theirs.
    """
    ticked = set(wanted)
    states = choices.reader.states
    left: list[str] = []
    joined: list[str] = []
    waiting: list[str] = []
    refused: list[str] = []
    for slug in dict.fromkeys(shown):
        state = states.get(slug)
        is_theirs = proved or (slug in choices.left_here and now - choices.left_here[slug] < UNDO_FOR)
        if slug in ticked and (state == "pending" or (state != "active" and not is_theirs)):
            waiting.append(slug)
        elif slug in ticked and state != "active":
            done = join(session, choices.reader.subscriber_id, slug, now=now, source=source, words=words)
            (joined if done else refused).append(slug)
        elif state == "active" and slug not in ticked:
            left.extend(leave_within(session, choices.reader, slug, now=now, how=BY_PAGE))
    first = tuple(slug for slug in joined if slug not in states)
    return Changed(tuple(joined), first, tuple(left), tuple(waiting), tuple(refused))


def describe(engine: Engine, subscriber_id: int, values: Mapping[str, str], *, now: datetime) -> None:
    """Keep what a reader says of themselves: name, language, timezone, deliver_at (``HH:MM`` or empty)."""
    kept = {name: values[name] for name in ("name", "language", "timezone", "deliver_at") if name in values}
    if kept.get("deliver_at"):
        try:
            kept["deliver_at"] = f"{time.fromisoformat(kept['deliver_at']):%H:%M}"
        except ValueError:
            del kept["deliver_at"]
    with writing(engine) as session:
        session.execute(
            update(Subscriber).where(col(Subscriber.id) == subscriber_id).values(updated_at=now, **kept)
        )


def pause(session: Session, subscriber_id: int, *, days: int, now: datetime) -> datetime:
    """Send a reader nothing for *days* (1 to a year); return when it goes on."""
    until = now + timedelta(days=min(max(days, 1), LONGEST_PAUSE_DAYS))
    _set_pause(session, subscriber_id, until)
    return until


def go_on(engine: Engine, subscriber_id: int) -> None:
    """End a pause."""
    with writing(engine) as session:
        _set_pause(session, subscriber_id, None)


def _set_pause(session: Session, subscriber_id: int, until: datetime | None) -> None:
    session.execute(update(Subscriber).where(col(Subscriber.id) == subscriber_id).values(paused_until=until))
