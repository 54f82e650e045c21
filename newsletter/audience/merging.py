"""
What rows of a file change about people we know or do not: decided in memory, a chunk at a time.

Status first: what was unsubscribed, bounced or cleaned elsewhere goes in as suppressed, so that no later
file can bring it back; and nothing a file says revives who left, was suppressed or was erased here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any

from newsletter.audience.plans import carried_end, first_end
from newsletter.audience.shapes import STATUSES, Row
from newsletter.catalogue import Publication

REASONS = {"unsubscribed": "unsubscribed", "bounced": "bounced", "complained": "complained"}
"""The statuses that suppress an address for all, and the reason that is noted."""

_STRICTNESS = {status: number for number, status in enumerate(STATUSES)}


@dataclass(frozen=True, slots=True)
class Checked:
    """A row whose address and newsletters can be used; *status* after its consent was looked at."""

    row: Row
    email: str
    key: str
    hash: str
    newsletters: tuple[str, ...]
    status: str


@dataclass(slots=True)
class Person:
    """
    An address, as it is and as it becomes; *id* is 0 for who is new.

    *subscriptions* is the state by newsletter, *left* the newsletters the address is suppressed for.
    """

    id: int
    email: str
    key: str
    hash: str
    name: str
    plan: str
    plan_until: datetime | None
    language: str
    country: str
    timezone: str
    status: str
    attributes: dict[str, Any]
    joined_at: datetime
    subscriptions: dict[str, str] = field(default_factory=dict)
    tags: set[str] = field(default_factory=set)


MERGED = ("name", "plan", "plan_until", "language", "country", "timezone", "attributes", "status")
"""What a file may change about somebody known."""


@dataclass(slots=True)
class Counts:
    """rows = added + updated + unchanged + suppressed + rejected."""

    rows: int = 0
    added: int = 0
    updated: int = 0
    unchanged: int = 0
    suppressed: int = 0
    rejected: int = 0

    def plus(self, other: Counts) -> Counts:
        """The sum of both."""
        return Counts(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))


@dataclass(frozen=True, slots=True)
class Origin:
    """Where rows come from: *file*, the *consent* an operator states for it, whether it is *foreign*; and when."""

    file: str
    consent: str
    foreign: bool
    now: datetime


@dataclass(slots=True)
class Changes:
    """What is to be written for a chunk; people stand for their ids, which new ones do not have yet."""

    counts: Counts = field(default_factory=Counts)
    new: list[Person] = field(default_factory=list)
    changed: dict[int, Person] = field(default_factory=dict)
    subscribed: list[tuple[Any, ...]] = field(default_factory=list)
    """person, then newsletter … left_reason, in the order of the table"""
    activated: list[tuple[Person, str, datetime]] = field(default_factory=list)
    ended: list[tuple[Person, str, str]] = field(default_factory=list)
    tagged: list[tuple[Person, str]] = field(default_factory=list)
    suppressed: list[tuple[str, str, str]] = field(default_factory=list)
    """address hash, scope, reason"""
    touched: dict[str, Person] = field(default_factory=dict)

    def ids(self) -> set[int]:
        """Those among the known whom something is written about."""
        people = (
            row[0] for rows in (self.subscribed, self.activated, self.ended, self.tagged) for row in rows
        )
        return {*self.changed, *(person.id for person in people if person.id)}


def merge(
    chunk: Iterable[Checked],
    people: dict[str, Person],
    suppressed: Mapping[str, set[str]],
    *,
    publication: Publication,
    origin: Origin,
) -> Changes:
    """
    Say what *chunk* changes; later rows see what earlier ones did, so that it does not matter how rows are cut.

    *people* by key are those known, *suppressed* scopes by address hash; both are changed on the way.
    """
    changes = Changes()
    counts = changes.counts
    scopes = {hashed: set(known) for hashed, known in suppressed.items()}
    for one in chunk:
        person = people.get(one.key)
        mine = scopes.get(one.hash, ())
        banned = "all" in mine
        if banned and person is None:
            counts.suppressed += 1  # erased here, or suppressed before we ever knew the address
            continue
        strict = one.status in REASONS
        fresh = person is None
        if person is None:
            person = _new(one, publication, origin.now)
            people[one.key] = person
            changes.new.append(person)
            changed = True
        else:
            changed = _merge(person, one, publication, revive=not banned, now=origin.now)
            if changed and person.id:
                changes.changed[person.id] = person
        changed |= _subscribe(person, one, changes, origin)
        for tag in one.row.tags:
            if tag not in person.tags:
                person.tags.add(tag)
                changes.tagged.append((person, tag))
                changed = True
        wanted = (
            [("all", REASONS[one.status])] if strict else [(slug, "unsubscribed") for slug in one.row.left]
        )
        for scope, reason in wanted:
            if scope not in mine and not banned:
                scopes.setdefault(one.hash, set()).add(scope)
                changes.suppressed.append((one.hash, scope, reason))
                changed = True
        if changed:
            changes.touched[one.key] = person
        if strict or banned:
            counts.suppressed += 1
        elif fresh:
            counts.added += 1
        elif changed:
            counts.updated += 1
        else:
            counts.unchanged += 1
    return changes


def _new(one: Checked, publication: Publication, now: datetime) -> Person:
    row = one.row
    return Person(
        0, one.email, one.key, one.hash, row.name, row.plan,
        row.plan_until or first_end(publication, row.plan, now=now), row.language, row.country, row.timezone,
        one.status, dict(row.attributes), row.joined_at or now,
    )  # fmt: skip


def _merge(person: Person, one: Checked, publication: Publication, *, revive: bool, now: datetime) -> bool:
    """Take over what the file says and does not leave empty; the stricter status stays."""
    row = one.row
    changed = False
    for name in ("name", "language", "country", "timezone"):
        value = getattr(row, name)
        if value and value != getattr(person, name):
            setattr(person, name, value)
            changed = True
    end = row.plan_until
    if end is None:
        end = person.plan_until
        if row.plan != person.plan:
            before = (person.plan, person.plan_until)
            end = carried_end(publication, before=before, plan=row.plan, now=now)
    if (row.plan, end) != (person.plan, person.plan_until):
        person.plan, person.plan_until = row.plan, end
        changed = True
    if row.attributes:
        merged = {**person.attributes, **row.attributes}
        if merged != person.attributes:
            person.attributes = merged
            changed = True
    if one.status != person.status:
        stricter = _STRICTNESS[one.status] > _STRICTNESS[person.status]
        confirmed = revive and person.status == "pending" and one.status == "active"
        if (stricter and not (person.status == "active" and one.status == "pending")) or confirmed:
            person.status = one.status
            changed = True
    return changed


def _subscribe(person: Person, one: Checked, changes: Changes, origin: Origin) -> bool:
    """Subscribe to what the file names; who left here is not taken back."""
    row, now = one.row, origin.now
    whole = {"active": "active", "pending": "pending"}.get(one.status, "left")
    changed = False
    for slug in one.newsletters:
        state = whole
        if whole != "left" and (slug in row.left or slug in row.pending):
            state = "left" if slug in row.left else "pending"
        have = person.subscriptions.get(slug)
        if have is not None:
            if have == "pending" and state == "active":
                changes.activated.append((person, slug, row.confirmed_at or now))
            elif have != "left" and state == "left":
                changes.ended.append((person, slug, _why(one, origin)))
            else:
                continue
        else:
            words = origin.consent or (
                "" if origin.foreign else "listed by the publisher in the imported file"
            )
            if state == "pending" and not origin.consent and slug in row.pending:
                words = ""  # a list that says so itself is no consent
            left = state == "left"
            changes.subscribed.append(
                (
                    person, slug, state, row.joined_at or now, f"import {origin.file}, line {row.line}", words,
                    row.consented_at or row.confirmed_at or (now if words else None),
                    (row.confirmed_at or row.consented_at or now) if state == "active" else None,
                    now if left else None, _why(one, origin) if left else "",
                )
            )  # fmt: skip
        person.subscriptions[slug] = state
        changed = True
    return changed


def _why(one: Checked, origin: Origin) -> str:
    return f"{one.status if one.status in REASONS else 'left'} in {origin.file}"
