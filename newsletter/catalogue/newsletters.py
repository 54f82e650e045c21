"""``newsletter.toml``: what one newsletter is, when it goes out, to whom, and what fills it."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import (
    BeforeValidator,
    Field,
    model_validator,
)

from newsletter.articles import Kind, Region, Rights, Topic
from newsletter.catalogue.publication import PoolName, Publication
from newsletter.catalogue.values import (
    CLASSES,
    Address,
    Ceilings,
    Language,
    Line,
    Mailbox,
    PlanClass,
    PlanEnds,
    Slug,
    Value,
    Weekday,
    Zone,
)
from newsletter.faults import like
from newsletter.theme import Theme
from newsletter.times import due_at
from newsletter.wording import Block

# What "required" was called before.
_Approval = Annotated[
    Literal["auto", "required"], BeforeValidator(lambda told: "required" if told == "editor" else told)
]


class About(Value):
    """What pages and letters in another language say of a newsletter."""

    tagline: Line = ""
    description: Line = ""
    welcome: str = ""


class Gates(Value):
    """
    Which classes get what, but for the stories: sections say it of theirs (``for``).

    They are taken before a template sees the text, and the proof looks for them in the final bytes.
    """

    full_text: tuple[PlanClass, ...] = ("paying",)
    offer: tuple[PlanClass, ...] = ("free",)
    adverts: tuple[PlanClass, ...] = ("free",)


class Schedule(Value):
    """When a newsletter is due: weekdays and a wall-clock time in its zone."""

    days: tuple[Weekday, ...] = Field(min_length=1)
    at: time
    max_lateness_hours: float = Field(3.0, gt=0, le=24)


class Window(Value):
    """When a newsletter may be handed over, on the wall clock of its zone; may go over midnight."""

    begin: time = Field(alias="from")
    until: time

    def opens(self, at: datetime, zone: str) -> datetime | None:
        """When it opens next, seen from *at*; None: it is open."""
        local = at.astimezone(ZoneInfo(zone))
        clock = local.time()
        over_midnight = self.begin >= self.until
        is_open = (
            (self.begin <= clock or clock < self.until) if over_midnight else self.begin <= clock < self.until
        )
        if is_open:
            return None
        day = local.date() if clock < self.begin else local.date() + timedelta(days=1)
        return due_at(day, self.begin, zone)


class Segment(PlanEnds):
    """Who gets a newsletter, of those subscribed to it; all conditions must hold; empty means any."""

    classes: tuple[PlanClass, ...] = CLASSES
    plans: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    countries: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    without_tags: tuple[str, ...] = ()
    joined_after: date | None = None
    joined_before: date | None = None

    @model_validator(mode="after")
    def _has_readers(self) -> Segment:
        if self.renewal_due_within_days and self.trial_ends_within_days:
            raise ValueError("nobody's plan is a trial and is renewed; keep one of the two conditions")
        if "paying" not in self.classes and (
            self.plan_ends_within_days or self.renewal_due_within_days or self.trial_ends_within_days
        ):
            raise ValueError("only a paying plan that runs can end; add paying to the classes")
        return self


class Section(Value):
    """
    A headed group of an edition and the rule that fills it; empty lists mean any.

    With *words* it is filled from what an editor wrote (``words/<date>/<slug>.md``), and left out without.
    In a *light* section it counts nothing how grave a story is and how many papers carry it.
    *fallback* are the pools it draws on, in that order, for what it lacks of *min*, or the edition of its stories.
    *classes* (``for = ["paying"]``) are those who get it.
    """

    id: Slug
    heading: Line = ""
    intro: Line = ""
    block: Slug
    words: Block | None = None
    topics: tuple[Topic, ...] = ()
    without_topics: tuple[Topic, ...] = ()
    regions: tuple[Region, ...] = ()
    languages: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    kinds: tuple[Kind, ...] = ()
    rights: tuple[Rights, ...] = ()
    categories: tuple[str, ...] = ()
    with_picture: bool = False
    translated: bool | None = None
    min: int = Field(0, ge=0)
    max: int = Field(0, ge=0, le=50)
    max_age_hours: float | None = Field(None, gt=0)
    per_source: int | None = Field(None, ge=1)
    per_country: int | None = Field(None, ge=1)
    per_topic: int | None = Field(None, ge=1)
    light: bool = False
    full: bool = False
    fallback: tuple[PoolName, ...] = ()
    classes: tuple[PlanClass, ...] = Field(CLASSES, alias="for", min_length=1)

    @model_validator(mode="after")
    def _numbers_fit(self) -> Section:
        if self.words and (self.min or self.max or self.fallback):
            raise ValueError("a section of words holds no stories; leave min, max and fallback out")
        if not self.words and not self.max:
            raise ValueError("max is missing: the most stories the section may hold")
        if self.min > self.max:
            raise ValueError("min is greater than max")
        if len(set(self.fallback)) != len(self.fallback):
            raise ValueError("a pool stands in fallback twice; each is asked once, in that order")
        return self


class SubjectTest(Value):
    """
    How several subjects are tried, each on a part of a sample; the rest gets the one that did best.

    *subjects* stand beside the newsletter's own, as templates like that. *share* of the audience is the sample;
    with fewer than *fewest* readers for each subject nothing is tried. *wait_minutes* count from when the sample
    has gone. *by* is what people do with it. *early*: decide half-way if one is far ahead by then.
    """

    subjects: tuple[Line, ...] = Field((), max_length=4)
    share: float = Field(0.1, gt=0, le=0.5)
    wait_minutes: int = Field(60, ge=5, le=1_440)
    by: Literal["opens", "clicks"] = "opens"
    fewest: int = Field(200, ge=1)
    early: bool = True


class Newsletter(Value):
    """
    One newsletter; the folder's name is its slug, which never changes and is never reused.

    *lead_minutes* before its slot an edition is looked at or, with approval required, made up for its
    *editors* (None: the publication's). *approval_deadline_minutes* counts from the slot, before it when
    negative; what nobody has approved by then is treated as *unapproved* says.
    Who gets one with *sunset* = false is never asked, paused or stopped for showing no sign of life.
    *updated* stands above a story that ran before and has moved on, where it has no kicker of its own.
    """

    slug: Slug
    name: Line
    tagline: Line = ""
    description: Line = ""
    about: dict[Language, About] = {}
    language: str = "en"
    timezone: Zone | None = None
    schedule: Schedule
    audience: Segment = Segment()
    sender: Address | None = None
    subject: Line
    subject_test: SubjectTest = SubjectTest()
    preheader: Line
    greeting: str = ""
    hello: bool = False
    intro: str = ""
    sign_off: str = ""
    makers: tuple[str, ...] = ()
    window_hours: float = Field(gt=0)
    min_stories: int = Field(ge=1)
    thin_day: Literal["hold", "skip", "send"] = "hold"
    updated: Line = "Updated"
    approval: _Approval = "auto"
    editors: tuple[Mailbox, ...] | None = None
    lead_minutes: int = Field(60, ge=5, le=720)
    approval_deadline_minutes: int = Field(0, ge=-720, le=720)
    unapproved: Literal["hold", "send", "skip"] = "hold"
    correction: str = "Correction: "
    welcome: str = ""
    quieter: str = ""
    reminders: tuple[Slug, ...] = ()
    archive: bool = True
    magazine: bool = False
    sunset: bool = True
    mode: Literal["direct", "scheduled"] = "direct"
    deliver: Annotated[str, like(r"at once|local ([01]\d|2[0-3]):[0-5]\d", "at once or local 06:30")] = (
        "at once"
    )
    pace: Ceilings = Ceilings()
    window: Window | None = None
    on_unknown: Literal["hold", "resend"] = "hold"
    unknown_wait_minutes: int = Field(30, ge=5)
    kinds_never: tuple[Kind, ...] = (Kind.PROMO, Kind.SPORT_RESULT)
    languages_preferred: tuple[str, ...] = ()
    full_text_bytes: int = Field(24_000, ge=1_000)
    gives_way: tuple[Literal["text", "stories"], ...] = ("text", "stories")
    theme: Theme = Theme()
    sections: tuple[Section, ...] = Field(min_length=1)
    gates: Gates = Gates()
    sources: tuple[str, ...] = ()
    without_sources: tuple[str, ...] = ()

    @property
    def noun(self) -> str:
        """Its name where an English article stands before it: the Weekend is the one called The Weekend."""
        return self.name.removeprefix("The ")

    def about_in(self, language: str) -> tuple[About, str]:
        """What is said of it in *language*, and the language that is in: its own where nothing else was written."""
        if language in self.about:
            return self.about[language], language
        return About(tagline=self.tagline, description=self.description, welcome=self.welcome), self.language

    def zone(self, publication: Publication) -> str:
        """The newsletter's time zone: its own, else the publication's."""
        return self.timezone or publication.timezone

    @property
    def local_time(self) -> time | None:
        """The reader's wall-clock time for ``deliver = "local 06:30"``; None: at once."""
        return time.fromisoformat(self.deliver.removeprefix("local ")) if self.deliver != "at once" else None

    def editors_of(self, publication: Publication) -> tuple[str, ...]:
        """Who gets the desk's mails about it: its own editors, else the publication's."""
        return publication.editors if self.editors is None else self.editors

    @property
    def lead(self) -> timedelta:
        """How long before its slot an edition is looked at or made up."""
        return timedelta(minutes=self.lead_minutes)

    @model_validator(mode="after")
    def _deadline_follows_make_up(self) -> Newsletter:
        if self.approval == "required" and self.approval_deadline_minutes <= -self.lead_minutes:
            raise ValueError(
                f"approval_deadline_minutes = {self.approval_deadline_minutes} is not after the make-up, which is "
                f"{self.lead_minutes} minutes before the slot (lead_minutes); editors need time between the two"
            )
        return self

    @model_validator(mode="after")
    def _subjects_can_be_tried(self) -> Newsletter:
        if self.subject_test.subjects and self.local_time is not None:
            raise ValueError(
                'subject_test.subjects cannot be tried with deliver = "local …": where each reader gets it in '
                "their own morning, nobody could wait for the others; keep one of the two"
            )
        return self

    @model_validator(mode="after")
    def _sections_differ(self) -> Newsletter:
        ids = [section.id for section in self.sections]
        if len(set(ids)) != len(ids):
            raise ValueError("two sections have the same id")
        return self
