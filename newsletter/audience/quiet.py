"""
Quiet: who shows no sign of life, and which step of the sunset is due for whom. Reads only.

Whom to ask is found a page of ids at a time, with one look at the page's own events; a day looks at so many
pages and no more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from sqlalchemy import ColumnElement, case, distinct, exists, false
from sqlalchemy import select as columns
from sqlmodel import Session, col, func, select

from newsletter.audience.segments import is_awake, is_paying
from newsletter.audience.sunset import OPEN, Next, Step
from newsletter.catalogue import Catalogue, Sunset
from newsletter.events import EventKind
from newsletter.store.bulk import among
from newsletter.store.tables import Event, Instant, Subscriber, Subscription, SunsetStep, Suppression

HEARD_WITHIN = timedelta(days=2)
"""If nothing was heard from the provider for so long, nobody's silence means anything."""

FEWEST_ALIVE = 0.01
"""If less than this part of all readers shows a sign of life, opens and clicks are not heard of, whoever is quiet."""

_PAGE = 1000
_PAGES_A_DAY = 100


@dataclass(frozen=True, slots=True)
class Due:
    """
    What is to be done now; *why_not* says why nothing is, whatever is due.

    *unknown* readers would be asked if opens by programs said anything, *unproven* ones if enough was known to
    have reached them.
    """

    steps: tuple[Next, ...] = ()
    unknown: int = 0
    unproven: int = 0
    why_not: str = ""

    def count(self) -> dict[str, int]:
        """How many readers each step is due for."""
        found = Counter(str(one.step) for one in self.steps)
        return {str(step): found[step] for step in (Step.ASKING, Step.PAUSED, Step.STOPPED, Step.STAYED)}


@dataclass(frozen=True, slots=True)
class _Case:
    """A reader whom something was done about, as they are now."""

    step: SunsetStep
    reader: str
    engaged_at: datetime | None
    is_exempt: str = field(default="")


def steps_due(session: Session, catalogue: Catalogue, *, now: datetime) -> Due:
    """What the publication's rule asks for at *now*; changes nothing."""
    rule = catalogue.publication.sunset
    if rule is None:
        return Due(why_not="there is no [sunset] in publication.toml")
    deaf = _why_deaf(session, rule, now)
    if deaf:
        return Due(why_not=deaf)
    follow = [
        due for one in _open_cases(session, catalogue, now) if (due := _follows(one, rule, now)) is not None
    ]
    asking = sum(one.step is Step.ASKING for one in follow)
    new, unknown, unproven = _quiet(session, catalogue, rule, now=now, most=rule.most_a_day - asking)
    return Due((*follow, *new), unknown, unproven)


def _why_deaf(session: Session, rule: Sunset, now: datetime) -> str:
    """Why nobody's silence means anything at present; '' when it does."""
    heard = session.exec(select(Event.received_at).order_by(col(Event.id).desc()).limit(1)).first()
    if heard is None or heard < now - HEARD_WITHIN:
        since = f"since {heard:%Y-%m-%d %H:%M} UTC" if heard else "yet"
        return f"nothing was heard from the provider {since}, so nobody's silence means anything"
    active = col(Subscriber.status) == "active"
    alive = case((col(Subscriber.engaged_at) > now - timedelta(days=rule.days), 1))
    everybody, lively = session.execute(columns(func.count(), func.count(alive)).where(active)).one()
    if lively < FEWEST_ALIVE * everybody or not lively:
        return (
            f"only {lively:,} of {everybody:,} readers opened or clicked anything in {rule.days} days: "
            "it seems that opens and clicks are not heard of"
        )
    return ""


# --- who is quiet -----------------------------------------------------------------------------------


def _quiet(
    session: Session, catalogue: Catalogue, rule: Sunset, *, now: datetime, most: int
) -> tuple[list[Next], int, int]:
    """
    Whom to ask now, at most *most*, and how many are unknown or not proven to have got enough.

    A page of readers at a time by their ids, and for each page one look at its readers' own events. A day looks at
    so many pages and no more; the next begins elsewhere, so that nobody's turn never comes.
    """
    found: list[Next] = []
    unknown = unproven = 0
    last = session.exec(select(func.max(Subscriber.id))).one() or 0
    first = now.toordinal() * _PAGE * _PAGES_A_DAY % (last + 1)
    query = _candidates(catalogue, rule, now)
    for page in islice(_pages(session, query, (first, last), (0, first)), _PAGES_A_DAY):
        if len(found) >= most:
            break
        told = _what_came(session, [row.reader for row in page])
        for row in page:
            editions, programs = told.get(row.reader, (0, 0))
            if editions < rule.editions:
                unproven += 1
            elif programs and rule.machine_opens == "unknown":
                unknown += 1
            elif len(found) < most:
                reason = f"no sign of life since {row.quiet_since:%Y-%m-%d} in {editions} editions"
                found.append(Next(row.id, row.reader, Step.ASKING, reason, row.quiet_since))
    return found, unknown, unproven


def _pages(session: Session, query: Any, *spans: tuple[int, int]) -> Iterator[Sequence[Any]]:
    """What *query* selects above the first and up to the second id of each span, a page at a time."""
    for after, until in spans:
        while page := session.execute(
            query.where(col(Subscriber.id) > after, col(Subscriber.id) <= until).limit(_PAGE)
        ).all():
            yield page
            after = page[-1].id


def _since() -> ColumnElement[datetime]:
    """A subscriber's last sign of life, or when they joined."""
    return func.coalesce(col(Subscriber.engaged_at), col(Subscriber.joined_at), type_=Instant)


def _candidates(catalogue: Catalogue, rule: Sunset, now: datetime) -> Any:
    """Active, awake readers without a sign of life for long enough, whom nothing exempts and nothing is done about."""
    long_ago = now - timedelta(days=rule.days)
    newest = _newest(col(SunsetStep.subscriber_id) == col(Subscriber.id))
    handled = exists().where(
        col(SunsetStep.id) == newest, col(SunsetStep.step).in_(OPEN) | (col(SunsetStep.until) > now)
    )
    conditions = [
        col(Subscriber.status) == "active", _since() < long_ago, is_awake(now), ~handled, _gets(),
        ~_gets(col(Subscription.since) >= long_ago), ~_suppressed(),
    ]  # fmt: skip
    if not rule.paying:
        conditions.append(~is_paying(catalogue.publication, now))
    if spared := _spared(catalogue):
        conditions.append(~_gets(col(Subscription.newsletter).in_(spared)))
    return (
        columns(col(Subscriber.id), col(Subscriber.reader), _since().label("quiet_since"))
        .where(*conditions)
        .order_by(col(Subscriber.id))
    )


def _newest(mine: ColumnElement[bool]) -> Any:
    return columns(func.max(col(SunsetStep.id))).where(mine).correlate(Subscriber).scalar_subquery()


def _gets(*which: ColumnElement[bool]) -> ColumnElement[bool]:
    """Whether a subscriber gets anything, of *which* that is true."""
    mine = (col(Subscription.subscriber_id) == col(Subscriber.id), col(Subscription.state) == "active")
    return exists().where(*mine, *which).correlate(Subscriber)


def _suppressed() -> ColumnElement[bool]:
    return (
        exists()
        .where(col(Suppression.address_hash) == col(Subscriber.address_hash), col(Suppression.scope) == "all")
        .correlate(Subscriber)
    )


def _spared(catalogue: Catalogue) -> tuple[str, ...]:
    """The newsletters whose readers are left alone."""
    return tuple(one.slug for one in catalogue.newsletters if not one.sunset)


def _what_came(session: Session, readers: Sequence[str]) -> dict[str, tuple[int, int]]:
    """By reader, how many editions reached them since their last sign of life, and how many opens by programs there were."""
    edition = case((col(Event.kind) == EventKind.DELIVERED, col(Event.edition)))
    program = case(((col(Event.kind) == EventKind.OPENED) & col(Event.is_machine), 1))
    rows = session.execute(
        columns(col(Event.reader), func.count(distinct(edition)), func.count(program))
        .join(Subscriber, col(Subscriber.reader) == col(Event.reader))
        .where(
            among(session.connection(), col(Event.reader), readers),
            col(Event.kind).in_((EventKind.DELIVERED, EventKind.OPENED)), col(Event.occurred_at) > _since(),
            ~col(Event.edition).startswith("notice."),
        )
        .group_by(col(Event.reader))
    )  # fmt: skip
    return {row[0]: (row[1], row[2]) for row in rows}


# --- what follows -----------------------------------------------------------------------------------


def _open_cases(session: Session, catalogue: Catalogue, now: datetime) -> list[_Case]:
    """Everybody whom something was done about and for whom something follows, if they get anything still."""
    rule = catalogue.publication.sunset or Sunset()
    newest = columns(func.max(col(SunsetStep.id))).group_by(col(SunsetStep.subscriber_id))
    pays = is_paying(catalogue.publication, now) if not rule.paying else false()
    spared = _spared(catalogue)
    exempt = case(
        (pays, "pays now"), (_gets(col(Subscription.newsletter).in_(spared)) if spared else false(), "gets a newsletter without a sunset now"),
        else_="",
    )  # fmt: skip
    rows = session.execute(
        columns(SunsetStep, col(Subscriber.reader), col(Subscriber.engaged_at), exempt)
        .join(Subscriber, col(Subscriber.id) == col(SunsetStep.subscriber_id))
        .where(
            col(SunsetStep.id).in_(newest), col(SunsetStep.step).in_(OPEN), col(Subscriber.status) == "active",
            _gets(), ~_suppressed(),
        )
        .order_by(col(SunsetStep.id))
    )  # fmt: skip
    return [_Case(*row) for row in rows]


def _follows(case_: _Case, rule: Sunset, now: datetime) -> Next | None:
    """The step that follows for a reader, if it is time."""
    row = case_.step

    def due(step: Step, reason: str) -> Next:
        return Next(row.subscriber_id, case_.reader, step, reason, row.quiet_since, row.id or 0)

    if case_.engaged_at is not None and case_.engaged_at > row.quiet_since:
        return due(Step.STAYED, "opened or clicked again")
    if case_.is_exempt:
        return due(Step.STAYED, case_.is_exempt)
    quiet = row.reason.partition(";")[0]
    match Step(row.step):
        case Step.ASKING:  # its process died, or the provider refused the mail
            return due(Step.ASKING, quiet)
        case Step.ASKED if row.at <= now - timedelta(days=rule.answer_days):
            return due(Step.PAUSED, f"{quiet}; no answer since {row.at:%Y-%m-%d}")
        case Step.PAUSED if row.at <= now - timedelta(days=rule.pause_days):
            return due(
                Step.STOPPED, f"{quiet}; no answer to the mail, nor in the pause since {row.at:%Y-%m-%d}"
            )
    return None
