"""What editors order for an edition, and what their edits may change of a story."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from newsletter.articles import Article, Image


@dataclass(frozen=True, slots=True)
class Order:
    """
    An editor's order for one edition; *verb* is pin, drop, move, edit or words.

    *position* counts from 1 within *section*; 0: first. *seen* is what the source said in the edited fields
    when the edit was given. *id*, *given_at*, *undone_at* and *undone_by* are known once it is stored.
    """

    verb: str
    url: str = ""
    section: str = ""
    position: int = 0
    fields: Mapping[str, str] = field(default_factory=dict)
    actor: str = ""
    reason: str = ""
    seen: Mapping[str, str] = field(default_factory=dict)
    id: int = 0
    given_at: datetime | None = None
    undone_at: datetime | None = None
    undone_by: str = ""

    @property
    def told(self) -> str:
        """The order in words, for a pick's or drop's reasons."""
        return f"{self.verb} by {self.actor or 'an editor'}" + (f": {self.reason}" if self.reason else "")


TEXTS = ("headline", "standfirst", "kicker", "byline", "translator", "paper")
PICTURE = ("image_url", "image_alt", "image_caption", "image_credit")
EDITABLE = (*TEXTS, *PICTURE)
"""What an ``edit`` may change of a story."""


def field_of(article: Article, name: str) -> str:
    """What the source says in an editable field."""
    if name in TEXTS:
        return str(getattr(article, name))
    return str(getattr(article.image, name.removeprefix("image_"), "")) if article.image else ""


def edited_image(image: Image | None, fields: Mapping[str, str]) -> Image | None:
    """*image* with an editor's changes; none without an address."""
    changes: dict[str, Any] = {
        key.removeprefix("image_"): value for key, value in fields.items() if key in PICTURE
    }
    if changes.get("url") and image is not None and changes["url"] != image.url:
        image = Image(image.url, alt=image.alt, caption=image.caption, credit=image.credit)  # of another size
    made = replace(image or Image(""), **changes)
    return made if made.url else None


@dataclass(frozen=True, slots=True)
class SourceChange:
    """A source has said something else since an editor changed that field of its story."""

    url: str
    field: str
    was: str
    now: str
    actor: str
