"""The kinds of values the files of the catalogue are made of, each with its rule."""

from __future__ import annotations

import re
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
)

from newsletter.faults import like

PlanClass = Literal["free", "paying"]
CLASSES: tuple[PlanClass, ...] = ("free", "paying")


def class_of(variant: str) -> PlanClass:
    """The class a variant is for: ``free``, ``paying``, or ``paying+<reminder>``."""
    return "paying" if variant.partition("+")[0] == "paying" else "free"


def reminding(reminder: str) -> str:
    """The variant that holds a reminder."""
    return f"paying+{reminder}"


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f"{name!r} is not a time zone; write for example Europe/Paris") from error
    return name


def _one_line(text: str) -> str:
    if "\n" in text or "\r" in text:
        raise ValueError("must be a single line")
    return text


Zone = Annotated[str, AfterValidator(_known_zone)]
Line = Annotated[str, AfterValidator(_one_line)]
# Who may show our form in a frame; nothing but scheme, host and port can get into the header.
Origin = Annotated[
    str,
    like(r"https?://[a-z0-9.-]+(:\d{1,5})?", "https://www.example.org, in small letters and without a path"),
]
Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
# A language of the pages, as a key of what is said in it.
Language = Annotated[str, like(r"[a-z]{2,3}", "fr, in small letters")]
Slug = Annotated[
    str, like(r"[a-z0-9][a-z0-9-]{0,39}", "the-week: at most 40 small letters, digits and hyphens")
]


def _mailbox(text: str) -> str:
    if not re.fullmatch(r"[^\s@<>,;:\"]{1,64}@[^\s@<>,;:\"]{1,255}", text):
        raise ValueError("must be a plain address such as desk@example.org")
    return text


Mailbox = Annotated[str, AfterValidator(_mailbox)]
"""An address alone, without a name."""


class Value(BaseModel):
    """Frozen, and strict about names: a misspelt key is an error, not a silent default."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Address(Value):
    """A mailbox with its display name."""

    name: Line
    email: Mailbox


class PlanEnds(Value):
    """
    Whose plan ends soon.

    *plan_ends_within_days*: a plan of class paying that still runs and ends in at most so many days;
    *trial_ends_within_days* the same of trials, *renewal_due_within_days* of all others.
    """

    plan_ends_within_days: int | None = Field(None, ge=1, le=3_660)
    renewal_due_within_days: int | None = Field(None, ge=1, le=3_660)
    trial_ends_within_days: int | None = Field(None, ge=1, le=3_660)


class Ceilings(Value):
    """At most so many readers; 0: no ceiling. An hour is the last sixty minutes, a day a local day."""

    per_minute: int = Field(0, ge=0)
    per_hour: int = Field(0, ge=0)
    per_day: int = Field(0, ge=0)

    @property
    def smallest(self) -> int:
        """The lowest ceiling; 0: none."""
        return min((n for n in (self.per_minute, self.per_hour, self.per_day) if n), default=0)
