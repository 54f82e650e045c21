"""
An edition as a value: what was picked, with its words, before and after the gates.

A ``Snapshot`` is everything a rendering depends on besides the templates. It is stored as JSON, and
preview, test send, archive and send all start from it. ``for_variant`` is the only gate: what its
readers must not get is gone from the value before a template sees it, so no template can leak it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, datetime
from enum import StrEnum

from newsletter.articles import Image, Kind, Region, Rights, Topic
from newsletter.catalogue import CLASSES, Advert, Offer, Reminder, class_of, reminding


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
    counts from 1 within its section. *country_name* and *language_name* are in the newsletter's
    language; *translated_from* is the name of the original language or empty.
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
    topics: tuple[Topic, ...] = ()
    kind: Kind = Kind.NEWS
    translated_from: str = ""
    image: Image | None = None
    paragraphs: tuple[str, ...] = ()
    continues: bool = True
    reading_minutes: int = 0
    paywalled: bool = False
    rights: Rights = Rights.EXCERPT


@dataclass(frozen=True, slots=True)
class SectionMade:
    """A filled section; *block* names the template block that sets it."""

    id: str
    block: str
    heading: str
    intro: str
    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that a rendering of this edition depends on besides templates and publication data."""

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
    Return what readers of *variant* may get.

    Paying: no offer, no advert, and only the reminder that is theirs. Free: no paragraph of any story, no
    reminder.
    """
    if class_of(variant) == "paying":
        reminder = next((one for one in snapshot.reminders if reminding(one.id) == variant), None)
        return replace(snapshot, offer=None, advert=None, reminders=(), reminder=reminder)
    sections = tuple(
        replace(
            section,
            items=tuple(replace(item, paragraphs=(), continues=True) for item in section.items),
        )
        for section in snapshot.sections
    )
    return replace(snapshot, sections=sections, reminders=(), reminder=None)


@dataclass(frozen=True, slots=True)
class Rendered:
    """
    One variant, final but for the personal tags (``PERSONAL_TAGS``), which are still unfilled.
    """

    variant: str
    subject: str
    preheader: str
    html: str
    text: str

    @property
    def size_bytes(self) -> int:
        """Bytes of the HTML part, as Gmail counts them for its clip."""
        return len(self.html.encode())


PERSONAL_TAGS = {
    "unsubscribe_url": "[[nl:unsubscribe_url]]",
    "preferences_url": "[[nl:preferences_url]]",
    "view_url": "[[nl:view_url]]",
}
"""The closed set of what differs between two readers of a variant; values are whole URLs."""
