"""
What is known of editions, as values: how many readers, by what.

Every number is of readers, each once, unless it says clicks. People and programs are told apart: who opened
or clicked counts as a person if one of their acts was a person's; *by_program* are those of whom only
programs were seen.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from datetime import date as day_of
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Tally:
    """
    Readers of an edition, or of a part of it.

    *submitted* is from the ledger (0 where it is not counted by that), the others are from events.
    """

    submitted: int = 0
    delivered: int = 0
    opened: int = 0
    opened_by_program: int = 0
    clicked: int = 0
    clicked_by_program: int = 0
    unsubscribed: int = 0
    complained: int = 0
    bounced: int = 0
    blocked: int = 0
    dropped: int = 0

    @property
    def base(self) -> int:
        """What rates are of: who got it, as far as we know."""
        return self.delivered or self.submitted

    def rate(self, number: int) -> float:
        """*number* in parts of those who got it, 0 to 1; nobody got it: 0."""
        return number / self.base if self.base else 0.0

    def share(self, name: str) -> float:
        """The number *name* in parts of what it is a part of: what did not arrive, of what was submitted."""
        number = getattr(self, name)
        if name in _NOT_ARRIVED:
            return number / self.submitted if self.submitted else 0.0
        return self.rate(number)


_NOT_ARRIVED = ("submitted", "delivered", "bounced", "blocked", "dropped")
TALLIED = tuple(one.name for one in fields(Tally))


@dataclass(frozen=True, slots=True)
class Part:
    """One value of a dimension, such as a country, and its readers."""

    name: str
    tally: Tally


@dataclass(frozen=True, slots=True)
class Hour:
    """What began in one hour (aware UTC): readers by their first open and their first click, people only."""

    at: datetime
    opened: int
    clicked: int


@dataclass(frozen=True, slots=True)
class Link:
    """
    One link of an edition, wherever it stood: people who clicked it, their clicks, and programs that did.

    *headline*, *section* and *position* (from 1, in reading order) are of the story it leads to; else empty.
    """

    url: str
    headline: str = ""
    section: str = ""
    position: int = 0
    readers: int = 0
    clicks: int = 0
    programs: int = 0


@dataclass(frozen=True, slots=True)
class Tried:
    """
    One subject of an edition: its *letter*, how many *readers* of the sample were sent it, how many *did* what counts.

    The true share lies between *low* and *high*, but for one time in twenty.
    """

    letter: str
    subject: str
    readers: int = 0
    did: int = 0
    low: float = 0.0
    high: float = 1.0
    is_chosen: bool = False

    @property
    def share(self) -> float:
        """In parts of its readers; nobody: 0."""
        return self.did / self.readers if self.readers else 0.0


@dataclass(frozen=True, slots=True)
class Subjects:
    """
    How the subjects of an edition stand; *status* is ``none`` (it has but one), ``waits`` (for the freeze),
    ``running``, ``chosen`` or ``not tried``.

    *by* is what counts, ``opens`` or ``clicks`` by people; *until* is when the numbers decide, once the sample of
    *sample* readers has gone. *chosen* is a letter, or empty; *reason* says why in a sentence.
    """

    status: str
    tried: tuple[Tried, ...]
    by: str = ""
    sample: int = 0
    until: datetime | None = None
    chosen: str = ""
    chosen_at: datetime | None = None
    reason: str = ""

    def as_json(self) -> dict[str, Any]:
        """As it is printed by ``--json``."""
        told = asdict(self)
        for name in ("until", "chosen_at"):
            told[name] = told[name].isoformat() if told[name] else None
        return told


@dataclass(frozen=True, slots=True)
class EditionNumbers:
    """Everything that is known of a newsletter's edition of a date, its corrections included."""

    newsletter: str
    date: day_of
    name: str
    subject: str
    status: str
    submitted_at: datetime | None
    total: Tally
    variants: tuple[Part, ...] = ()
    plans: tuple[Part, ...] = ()
    countries: tuple[Part, ...] = ()
    languages: tuple[Part, ...] = ()
    clients: tuple[Part, ...] = ()
    hours: tuple[Hour, ...] = ()
    sections: tuple[Link, ...] = ()
    stories: tuple[Link, ...] = ()
    links: tuple[Link, ...] = ()
    subjects: Subjects | None = None

    def as_json(self) -> dict[str, Any]:
        """As it is printed by ``--json``."""
        told = asdict(self)
        told["date"] = self.date.isoformat()
        told["submitted_at"] = self.submitted_at.isoformat() if self.submitted_at else None
        for hour in told["hours"]:
            hour["at"] = hour["at"].isoformat()
        told["subjects"] = self.subjects.as_json() if self.subjects else None
        return told


@dataclass(frozen=True, slots=True)
class Cohort:
    """Subscribers of *since*, a month (``2026-11``) they joined or a week (its Monday): see ``reports.cohorts``."""

    since: str
    new: int = 0
    active: int = 0
    cooling: int = 0
    gone: int = 0

    @property
    def size(self) -> int:
        """All of them."""
        return self.new + self.active + self.cooling + self.gone
