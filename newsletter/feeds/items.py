"""What a reader of one kind of source hands on: raw items, not yet trusted."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class RawImage:
    """A picture as the source wrote it; texts may hold markup."""

    url: str
    alt: str = ""
    caption: str = ""
    credit: str = ""
    width: int = 0
    height: int = 0


@dataclass(frozen=True, slots=True)
class FeedItem:
    """
    One entry as it came: texts may hold HTML and entities, *link* may be relative.

    *published* is aware or None; *headline_is_html* and *summary_is_html* say whether entities in
    them still are to be decoded. *mended*: broken characters were put right on the way. *labels* are (scheme, term) pairs of categories.
    *paper* is where the source says it has the entry from.
    """

    link: str
    headline: str
    headline_is_html: bool = True
    kicker: str = ""
    summary: str = ""
    summary_is_html: bool = True
    content: str = ""
    byline: str = ""
    paper: str = ""
    published: datetime | None = None
    language: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    image: RawImage | None = None
    paywalled: bool = False
    mended: bool = False


@dataclass(frozen=True, slots=True)
class Feed:
    """A whole source as read; *damage* is a sentence when it was not whole."""

    kind: str
    title: str = ""
    language: str = ""
    link: str = ""
    items: tuple[FeedItem, ...] = field(default=())
    damage: str = ""
