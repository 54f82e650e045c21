"""
Counting: the numbers of editions from events, by SQL that counts readers.

Clicks are read row by row (``clicks``); everything else stays in the database.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import and_, case, distinct
from sqlalchemy import select as columns
from sqlmodel import Session, col, func

from newsletter.edition import Snapshot
from newsletter.events import EventKind, link_of
from newsletter.reports.clicks import Click, clicks_of
from newsletter.reports.numbers import EditionNumbers, Hour, Link, Part, Tally
from newsletter.reports.subjects import subjects_of_date
from newsletter.store.bulk import hour_of
from newsletter.store.editions import (
    RAN,
    edition_ref,
    load_renderings,
    load_snapshot,
    revisions,
    with_chosen_subject,
)
from newsletter.store.tables import Batch, Counted, EditionRow, Event, Subscriber

_TOP = 30
_SUBMITTED = "submitted"  # outbox.ledger.BatchState, which lies above this room
_COUNTED = {
    EventKind.DELIVERED: "delivered",
    EventKind.UNSUBSCRIBED: "unsubscribed",
    EventKind.COMPLAINED: "complained",
    EventKind.BOUNCED: "bounced",
    EventKind.BLOCKED: "blocked",
    EventKind.DROPPED: "dropped",
}


def edition_numbers(session: Session, slug: str, day: date, *, name: str = "") -> EditionNumbers | None:
    """Count everything of a newsletter's edition of *day*, all revisions together; None: there is none."""
    rows = revisions(session, slug, day)
    if not rows:
        return None
    if kept := _kept(session, slug, day):
        return replace(kept, name=name or slug)
    newest = rows[0]
    names = [edition_ref(row) for row in rows]
    clicks = clicks_of(session, names)
    submitted = _submitted(session, rows)
    snapshots = [load_snapshot(row.snapshot) for row in rows if row.snapshot]
    stories, sections, links = _links(clicks, snapshots)
    tried = subjects_of_date(session, slug, day)
    renderings = with_chosen_subject(session, newest.id or 0, load_renderings(session, newest.id or 0))
    return EditionNumbers(
        newsletter=slug, date=day, name=name or slug, status=newest.status,
        subject=renderings[0].subject if renderings else "",
        submitted_at=newest.submitted_at or newest.frozen_at,
        total=_whole(session, names, clicks, submitted),
        variants=_by_variant(session, names, clicks, submitted),
        plans=_by(session, names, clicks, col(Subscriber.plan)),
        countries=_by(session, names, clicks, col(Subscriber.country)),
        languages=_by(session, names, clicks, col(Subscriber.language)),
        clients=_by_client(session, names, clicks),
        hours=_hours(session, names, clicks), stories=stories, sections=sections, links=links,
        subjects=tried if tried.status != "none" else None,
    )  # fmt: skip


def totals(
    session: Session, slug: str, *, before: date | None = None, last: int = 14
) -> list[EditionNumbers]:
    """Only the sums of the *last* editions of a newsletter that went out (up to *before*), oldest first."""
    query = columns(col(EditionRow.edition_date)).where(
        col(EditionRow.newsletter) == slug,
        col(EditionRow.status).in_(RAN),
        col(EditionRow.frozen_at).is_not(None),
    )
    if before is not None:
        query = query.where(col(EditionRow.edition_date) <= before)
    newest = query.distinct().order_by(col(EditionRow.edition_date).desc()).limit(last)
    days = session.execute(newest).scalars().all()
    return [_sums(session, slug, day) for day in reversed(days)]


def _kept(session: Session, slug: str, day: date) -> EditionNumbers | None:
    """What was counted of it before its events were deleted."""
    row = session.get(Counted, (slug, day))
    return _NUMBERS.validate_python(row.numbers) if row is not None else None


_NUMBERS: TypeAdapter[EditionNumbers] = TypeAdapter(EditionNumbers)


def _sums(session: Session, slug: str, day: date) -> EditionNumbers:
    if kept := _kept(session, slug, day):
        return kept
    rows = revisions(session, slug, day)
    names = [edition_ref(row) for row in rows]
    total = _whole(session, names, clicks_of(session, names), _submitted(session, rows))
    renderings = with_chosen_subject(session, rows[0].id or 0, load_renderings(session, rows[0].id or 0))
    return EditionNumbers(
        newsletter=slug, date=day, name=slug, status=rows[0].status, total=total,
        subject=renderings[0].subject if renderings else "", submitted_at=rows[0].submitted_at,
    )  # fmt: skip


def story_links(session: Session, slug: str, day: date) -> dict[str, Link]:
    """The stories of a newsletter's edition of *day*, by the addresses they ran under, with who clicked them."""
    rows = revisions(session, slug, day)
    snapshots = [load_snapshot(row.snapshot) for row in rows if row.snapshot]
    stories, _, _ = _links(clicks_of(session, [edition_ref(row) for row in rows]), snapshots)
    ran = {link_of(item.url): item.url for snapshot in snapshots for item in snapshot.items}
    return {ran[story.url]: replace(story, position=place) for place, story in enumerate(stories, start=1)}


# --- clicks -------------------------------------------------------------------------------------


def _clickers(clicks: Iterable[Click]) -> tuple[set[str], set[str]]:
    """The people, and those of whom only programs clicked."""
    people: set[str] = set()
    programs: set[str] = set()
    for one in clicks:
        (people if one.is_person else programs).add(one.reader)
    return people, programs - people


def _links(
    clicks: Sequence[Click], snapshots: Sequence[Snapshot]
) -> tuple[tuple[Link, ...], tuple[Link, ...], tuple[Link, ...]]:
    """Stories and sections in reading order, unclicked ones included, and whatever else was clicked, most first."""
    places: dict[str, tuple[str, str, int]] = {}
    headings: dict[str, str] = {}
    for snapshot in snapshots:  # the newest revision first
        position = 0
        for section in snapshot.sections:
            headings.setdefault(section.id, section.heading or section.id)
            for item in section.items:
                position += 1
                places.setdefault(link_of(item.url), (item.headline, section.id, position))
    by_link: dict[str, list[Click]] = defaultdict(list)
    for one in clicks:
        by_link[one.link].append(one)
    stories = tuple(
        _link(url, by_link.get(url, ()), headline=headline, section=section, position=position)
        for url, (headline, section, position) in sorted(places.items(), key=lambda place: place[1][2])
    )
    sections = tuple(
        _link("", [one for story in stories if story.section == name for one in by_link.get(story.url, ())],
              headline=heading, section=name)
        for name, heading in headings.items()
    )  # fmt: skip
    others = [_link(url, found) for url, found in by_link.items() if url and url not in places]
    return stories, sections, tuple(sorted(others, key=lambda one: (-one.readers, one.url))[:_TOP])


def _link(
    url: str, clicks: Iterable[Click], *, headline: str = "", section: str = "", position: int = 0
) -> Link:
    clicks = list(clicks)
    people, programs = _clickers(clicks)
    number = sum(one.is_person for one in clicks)
    return Link(url, headline, section, position, len(people), number, len(programs))


# --- readers ------------------------------------------------------------------------------------


def _submitted(session: Session, rows: Sequence[EditionRow]) -> dict[str, int]:
    """By variant, from the ledger."""
    goes = col(Batch.n) - col(Batch.skipped_n) - col(Batch.failed_n) - col(Batch.moved_n)
    found = session.execute(
        columns(col(Batch.variant), func.sum(goes))
        .where(col(Batch.edition_id).in_([row.id for row in rows]), col(Batch.state) == _SUBMITTED)
        .group_by(col(Batch.variant))
    )
    return {row[0]: int(row[1]) for row in found}


_Counts = dict[tuple[Any, str, bool | None], int]
"""By (value of the dimension, kind, whether by a program; None: either)."""


def _counts(session: Session, names: Sequence[str], by: Any = None, *, joins: bool = False) -> _Counts:
    """Readers by kind and, of opens, by whether a program did it."""
    person = and_(col(Event.kind) == EventKind.OPENED, col(Event.is_machine).is_(False))
    group = [col(Event.kind)] if by is None else [by, col(Event.kind)]
    query: Any = columns(
        *group,
        func.count(distinct(col(Event.reader))),
        func.count(distinct(case((person, col(Event.reader))))),
    )
    if joins:
        query = query.join(Subscriber, col(Subscriber.reader) == col(Event.reader))
    wanted = [*_COUNTED, EventKind.OPENED]
    rows = session.execute(
        query.where(
            col(Event.edition).in_(names), col(Event.kind).in_(wanted), col(Event.reader) != ""
        ).group_by(*group)
    )
    found: _Counts = {}
    for *key, number, people in rows:
        value, kind = ("", key[0]) if by is None else key
        if kind == EventKind.OPENED:
            found[value, kind, False], found[value, kind, True] = people, number - people
        else:
            found[value, kind, None] = number
    return found


def _tally(counts: Mapping[Any, int], value: Any, clickers: tuple[int, int], *, submitted: int = 0) -> Tally:
    return Tally(
        submitted=submitted,
        opened=counts.get((value, EventKind.OPENED, False), 0),
        opened_by_program=counts.get((value, EventKind.OPENED, True), 0),
        clicked=clickers[0], clicked_by_program=clickers[1],
        **{name: counts.get((value, kind, None), 0) for kind, name in _COUNTED.items()},
    )  # fmt: skip


def _whole(
    session: Session, names: Sequence[str], clicks: Sequence[Click], submitted: Mapping[str, int]
) -> Tally:
    people, programs = _clickers(clicks)
    return _tally(
        _counts(session, names), "", (len(people), len(programs)), submitted=sum(submitted.values())
    )


def _parts(
    counts: _Counts, clicks: Iterable[tuple[Any, Click]], submitted: Mapping[str, int] | None = None
) -> tuple[Part, ...]:
    """The largest parts first, those of no value as ``unknown``."""
    by_value: dict[Any, list[Click]] = defaultdict(list)
    for value, click in clicks:
        by_value[value].append(click)
    submitted = submitted or {}
    parts = []
    for value in sorted({key[0] for key in counts} | by_value.keys() | submitted.keys()):
        people, programs = _clickers(by_value[value])
        tally = _tally(counts, value, (len(people), len(programs)), submitted=submitted.get(value, 0))
        parts.append(Part(value or "unknown", tally))
    return tuple(sorted(parts, key=lambda part: (-part.tally.base, -part.tally.opened, part.name)))


def _by(session: Session, names: Sequence[str], clicks: Sequence[Click], column: Any) -> tuple[Part, ...]:
    """By something that is known of the subscriber; who was erased is nobody's any more."""
    values: dict[str, Any] = {}
    readers = sorted({one.reader for one in clicks})
    for start in range(0, len(readers), 1000):
        query = columns(col(Subscriber.reader), column).where(
            col(Subscriber.reader).in_(readers[start : start + 1000])
        )
        values.update((row[0], row[1]) for row in session.execute(query))
    counts = _counts(session, names, column, joins=True)
    return _parts(counts, ((values[one.reader], one) for one in clicks if one.reader in values))


def _by_variant(
    session: Session, names: Sequence[str], clicks: Sequence[Click], submitted: Mapping[str, int]
) -> tuple[Part, ...]:
    """By what their batch held; a reader proven to have had it twice counts for each attempt."""
    counts = _counts(session, names, col(Event.batch))
    numbers = {batch.partition(".")[0] for batch, *_ in counts} | {
        one.batch.partition(".")[0] for one in clicks
    }
    ids = sorted(int(one) for one in numbers if one.isdecimal() and len(one) <= 9)
    variants: dict[str, str] = {}
    for start in range(0, len(ids), 1000):
        query = columns(col(Batch.id), col(Batch.variant)).where(col(Batch.id).in_(ids[start : start + 1000]))
        variants.update((str(row[0]), row[1]) for row in session.execute(query))
    summed: Counter[tuple[Any, str, bool | None]] = Counter()
    for (batch, kind, machine), number in counts.items():
        summed[variants.get(batch.partition(".")[0], ""), kind, machine] += number
    named = ((variants.get(one.batch.partition(".")[0], ""), one) for one in clicks)
    return _parts(dict(summed), named, submitted)


def _by_client(session: Session, names: Sequence[str], clicks: Sequence[Click]) -> tuple[Part, ...]:
    counts = {
        key: n for key, n in _counts(session, names, col(Event.client)).items() if key[1] == EventKind.OPENED
    }
    return _parts(counts, ((one.client, one) for one in clicks))


def _hours(session: Session, names: Sequence[str], clicks: Sequence[Click]) -> tuple[Hour, ...]:
    """From the first to the last hour in which somebody opened or clicked for the first time, at most two days."""
    first = (
        columns(func.min(col(Event.occurred_at)).label("at"))
        .where(
            col(Event.edition).in_(names), col(Event.kind) == EventKind.OPENED, col(Event.is_machine).is_(False),
            col(Event.reader) != "",
        )
        .group_by(col(Event.reader))
        .subquery()
    )  # fmt: skip
    hour = hour_of(session.connection(), first.c.at)
    opened = {
        _instant(row[0]): int(row[1])
        for row in session.execute(columns(hour.label("in_hour"), func.count()).group_by("in_hour"))
    }
    first_click: dict[str, datetime] = {}
    for one in clicks:
        if one.is_person:
            first_click[one.reader] = min(one.at, first_click.get(one.reader, one.at))
    clicked = Counter(at.replace(minute=0, second=0, microsecond=0) for at in first_click.values())
    if not opened and not clicked:
        return ()
    begin, end = min([*opened, *clicked]), max([*opened, *clicked])
    number = min(int((end - begin).total_seconds() // 3600) + 1, 48)
    hours = [begin + timedelta(hours=one) for one in range(number)]
    return tuple(Hour(at, opened.get(at, 0), clicked.get(at, 0)) for at in hours)


def _instant(hour: str) -> datetime:
    return datetime.strptime(hour, "%Y-%m-%d %H").replace(tzinfo=UTC)
