"""
An edition as a value: what was picked, with its words, before and after the gates.

A ``Snapshot`` is everything a rendering depends on besides the templates. It is stored as JSON, and
preview, test send, archive and send all start from it. ``for_variant`` is the only gate: what its
readers must not get is gone from the value before a template sees it, so no template can leak it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from enum import StrEnum
from typing import Any

from newsletter.articles import Image, Kind, Region, Rights, Topic
from newsletter.catalogue import CLASSES, Advert, Gates, Offer, PlanClass, Reminder, class_of, reminding
from newsletter.wording import FrontPage, Hello, Number, Question, Quote, ThisDay


class EditionStatus(StrEnum):
    """States of an edition; drawn in ``outbox/__init__.py``."""

    DRAFT = "draft"
    APPROVED = "approved"
    SUBMITTING = "submitting"
    SUBMITTED = "submitted"
    HELD = "held"
    SKIPPED = "skipped"
    SPIKED = "spiked"
    PAUSED = "paused"


@dataclass(frozen=True, slots=True)
class Item:
    """
    One story in its place.

    Text fields are plain text. *paragraphs* are sanitised HTML fragments without their ``<p>``,
    empty unless the section is ``full`` and the source's rights allow it, and always empty in the
    free variant. *continues* says that the story goes on after the last paragraph. *position*
    counts from 1 within its section. *country_name* and *region_name* are in the newsletter's
    language; *translated_from* is the name of the original language or empty, *paper* who published
    it first, if not the source. *pool* says, in that language, that it is not of the day ("from the
    archive").
    """

    position: int
    url: str
    headline: str
    source_name: str
    published_at: datetime
    kicker: str = ""
    standfirst: str = ""
    byline: str = ""
    dateline: str = ""
    language: str = "en"
    direction: str = "ltr"
    country: str = ""
    country_name: str = ""
    flag: str = ""
    region: Region = Region.GLOBAL
    region_name: str = ""
    topics: tuple[Topic, ...] = ()
    kind: Kind = Kind.NEWS
    translated_from: str = ""
    translator: str = ""
    paper: str = ""
    image: Image | None = None
    paragraphs: tuple[str, ...] = ()
    continues: bool = True
    reading_minutes: int = 0
    paywalled: bool = False
    rights: Rights = Rights.EXCERPT
    pool: str = ""


@dataclass(frozen=True, slots=True)
class SectionMade:
    """
    A filled section; *block* names the template block that sets it.

    *words* names what an editor wrote for it: then it holds no items. *classes* are those who get it.
    """

    id: str
    block: str
    heading: str
    intro: str
    items: tuple[Item, ...]
    words: str = ""
    classes: tuple[PlanClass, ...] = CLASSES


@dataclass(frozen=True, slots=True)
class Snapshot:
    """
    All that a rendering of this edition depends on besides templates and publication data.

    *gave_way* says what was left out or shortened because the mail would have been too large, a sentence each.
    """

    newsletter: str
    edition_date: date
    revision: int
    subject: str
    preheader: str
    date_line: str
    language: str
    direction: str
    greeting: str
    intro: str
    sign_off: str
    makers: tuple[str, ...]
    sections: tuple[SectionMade, ...]
    offer: Offer | None = None
    advert: Advert | None = None
    reminders: tuple[Reminder, ...] = ()
    reminder: Reminder | None = None
    number: Number | None = None
    quote: Quote | None = None
    this_day: ThisDay | None = None
    quiz: tuple[Question, ...] = ()
    letter: tuple[str, ...] = ()
    hello: Hello | None = None
    front_page: FrontPage | None = None
    gates: Gates = field(default_factory=Gates)
    magazine: bool = False
    gave_way: tuple[str, ...] = ()
    other_subjects: tuple[str, ...] = ()

    @property
    def subjects(self) -> tuple[str, ...]:
        """Every subject it may go out with; several are tried on a sample."""
        return (self.subject, *self.other_subjects)

    @property
    def variants(self) -> tuple[str, ...]:
        """The renderings there are to make: one for each class, and one for paying readers with each reminder."""
        return (*CLASSES, *(reminding(one.id) for one in self.reminders))

    @property
    def stories(self) -> int:
        """How many stories the edition holds."""
        return sum(len(section.items) for section in self.sections)

    @property
    def items(self) -> tuple[Item, ...]:
        """All stories in reading order."""
        return tuple(item for section in self.sections for item in section.items)


def for_variant(snapshot: Snapshot, variant: str) -> Snapshot:
    """
    Return what readers of *variant* may get, by the snapshot's gates.

    As they stand unless a newsletter says otherwise: paying, no offer and no advert; free, no paragraph of any
    story. Only paying readers have a reminder, and only theirs.
    """
    plan, gates = class_of(variant), snapshot.gates
    sections = tuple(section for section in snapshot.sections if plan in section.classes)
    if plan not in gates.full_text:
        sections = tuple(
            replace(
                section,
                items=tuple(replace(item, paragraphs=(), continues=True) for item in section.items),
            )
            for section in sections
        )
    gone = {section.words for section in snapshot.sections} - {section.words for section in sections}
    empty: dict[str, Any] = {name: () if name in ("quiz", "letter") else None for name in gone if name}
    return replace(
        snapshot,
        sections=sections,
        offer=snapshot.offer if plan in gates.offer else None,
        advert=snapshot.advert if plan in gates.adverts else None,
        magazine=snapshot.magazine and plan == "paying",
        reminders=(),
        reminder=next((one for one in snapshot.reminders if reminding(one.id) == variant), None),
        **empty,
    )


@dataclass(frozen=True, slots=True)
class Fault:
    """What compiling accepted without a word and set wrong; *where* is template:line."""

    code: str
    where: str
    message: str


@dataclass(frozen=True, slots=True)
class Rendered:
    """
    One variant, final but for the personal tags (``PERSONAL_TAGS``), which are still unfilled.

    With *other_subjects* some readers get one of those instead of *subject*; nothing else differs between them.
    *faults* were seen while it was made; they are told in the proof, and are no part of its bytes.
    """

    variant: str
    subject: str
    preheader: str
    html: str
    text: str
    other_subjects: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = field(default=(), compare=False)

    @property
    def subjects(self) -> tuple[str, ...]:
        """Every subject it may go out with."""
        return (self.subject, *self.other_subjects)

    @property
    def size_bytes(self) -> int:
        """Bytes of the HTML part, as Gmail counts them for its clip."""
        return len(self.html.encode())


SUBJECT_LETTERS = "abcde"
"""What the subjects of an edition are called, in their order; there are at most so many."""


def subject_of(subjects: Sequence[str], letter: str) -> str:
    """The subject a letter stands for; without a letter the first."""
    return subjects[SUBJECT_LETTERS.index(letter)] if letter else subjects[0]


PERSONAL_TAGS = {
    "unsubscribe_url": "[[nl:unsubscribe_url]]",
    "preferences_url": "[[nl:preferences_url]]",
    "view_url": "[[nl:view_url]]",
}
"""The closed set of what differs between two readers of a variant; values are whole URLs."""


@dataclass(frozen=True, slots=True)
class Difference:
    """
    What an edition has beside an earlier one, by headline and by line; *sizes* are (variant, bytes then, bytes now).

    *since* is the earlier one's date; None: there is none, and everything is new.
    """

    edition_date: date
    since: date | None
    added: tuple[tuple[str, str], ...]
    gone: tuple[tuple[str, str], ...]
    kept: tuple[tuple[str, str], ...]
    words: tuple[tuple[str, str, str], ...]
    sizes: tuple[tuple[str, int, int], ...]


def compare(
    now: tuple[Snapshot, Sequence[Rendered]], before: tuple[Snapshot, Sequence[Rendered]] | None
) -> Difference:
    """Say what *now* has beside *before*; stories are the same when their URL is."""
    snapshot, renderings = now
    then, had = before if before else (None, ())
    items = {item.url: item.headline for item in snapshot.items}
    old = {item.url: item.headline for item in then.items} if then else {}
    lines = [(name, _line(then, name), _line(snapshot, name)) for name in COMPARED]
    sizes = {one.variant: one.size_bytes for one in had}
    return Difference(
        edition_date=snapshot.edition_date,
        since=then.edition_date if then else None,
        added=tuple((url, headline) for url, headline in items.items() if url not in old),
        gone=tuple((url, headline) for url, headline in old.items() if url not in items),
        kept=tuple((url, headline) for url, headline in items.items() if url in old),
        words=tuple((name, was, is_now) for name, was, is_now in lines if was != is_now),
        sizes=tuple((one.variant, sizes.get(one.variant, 0), one.size_bytes) for one in renderings),
    )


def _line(snapshot: Snapshot | None, name: str) -> str:
    """A line as it is compared: all subjects are one."""
    if name == "subject" and snapshot is not None:
        return " / ".join(snapshot.subjects)
    return getattr(snapshot, name, "")


COMPARED = ("subject", "preheader", "greeting", "intro", "sign_off")
