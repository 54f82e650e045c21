"""``publication.toml``: everything the newsletters share."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import Annotated, Literal

from pydantic import (
    Field,
    model_validator,
)

from newsletter.articles import Kind, Region, Rights, Topic
from newsletter.catalogue.values import (
    Address,
    Ceilings,
    Language,
    Line,
    Mailbox,
    Origin,
    PlanClass,
    PlanEnds,
    Slug,
    Value,
    Zone,
)
from newsletter.theme import Theme
from newsletter.wording import Hello


class Source(Value):
    """A feed we read. *rights* must be declared to be more than ``excerpt``."""

    id: Slug
    url: str
    name: str = ""
    rights: Rights = Rights.EXCERPT
    language: str = ""
    country: str = ""
    region: Region | None = None
    topics: tuple[Topic, ...] = ()
    weight: float = Field(1.0, ge=0, le=10)


class Plan(Value):
    """
    A plan readers are on; its class decides which variant they get.

    *days* is how long it is paid for at a time; 0: without an end. Only a *trial* ends by itself after
    them: the others are renewed, and whoever takes the money says until when (``plan_until``).
    """

    id: Slug
    name: str
    names: dict[Language, str] = {}
    plan_class: PlanClass = Field(alias="class")
    price: str = ""
    days: int = Field(0, ge=0, le=36_600)
    trial: bool = False

    @model_validator(mode="after")
    def _trial_ends(self) -> Plan:
        if self.trial and (self.plan_class != "paying" or not self.days):
            raise ValueError("a trial is of class paying and says for how many days")
        return self

    def name_in(self, language: str) -> str:
        """What it is called in *language*, if that was said."""
        return self.names.get(language, self.name)


class TopicRule(Value):
    """Words by which categories, URL sections and headlines are mapped to a topic, in any language."""

    topic: Topic
    categories: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    headline: tuple[str, ...] = ()


class KindRule(Value):
    """Words by which a kind is recognised."""

    kind: Kind
    categories: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    headline: tuple[str, ...] = ()


class Offer(Value):
    """What free readers are offered."""

    kicker: Line = ""
    headline: Line
    text: str
    button: Line
    url: str


class Reminder(PlanEnds, Offer):
    """
    What paying readers are told of their own plan, in a variant of their own, when its one condition holds.

    It is rendered, proofed and hashed like every variant: nothing is filled in for a single reader.
    """

    id: Slug

    @model_validator(mode="after")
    def _has_one_condition(self) -> Reminder:
        given = (self.plan_ends_within_days, self.renewal_due_within_days, self.trial_ends_within_days)
        if sum(one is not None for one in given) != 1:
            raise ValueError(
                "a reminder has one condition: plan_ends_within_days, renewal_due_within_days or trial_ends_within_days"
            )
        return self


class Advert(Value):
    """An advert for free readers; labelled as one."""

    label: Line = "Advertisement"
    headline: Line
    text: str
    url: str
    sponsor: Line = ""


class WarmUp(Value):
    """A plan of volumes for a sender nobody knows yet: *volumes* are readers a day from *start*; then no limit."""

    start: date
    volumes: tuple[Annotated[int, Field(ge=1)], ...] = Field(min_length=1)

    def volume(self, day: date) -> int:
        """The most readers on *day*; 0: no limit."""
        index = (day - self.start).days
        return self.volumes[index] if 0 <= index < len(self.volumes) else 0


class Pace(Ceilings):
    """
    How fast a sender may go. *overflow*: who sends what the warm-up leaves over on a day.

    Without *sender* it is the publication's own; without *overflow* the rest goes on later days.
    """

    sender: str = ""
    warm_up: WarmUp | None = None
    overflow: Address | None = None


class Weights(Value):
    """
    What counts how much when stories are weighed, in points; ``[weights]`` of ``publication.toml``.

    *topics*, *regions* and *sources* are priorities: 1 is neutral, 2 lifts by two points, 0 sinks by two.
    *half_life_hours* is after how long a kind has lost half its freshness.
    """

    freshness: float = Field(4.0, ge=0, le=20)
    half_life_hours: dict[Kind, float] = {}
    coverage: float = Field(1.5, ge=0, le=20)
    gravity: float = Field(1.0, ge=0, le=20)
    ours: float = Field(1.0, ge=0, le=20)
    language: float = Field(1.0, ge=0, le=20)
    translated: float = Field(1.0, ge=0, le=20)
    engagement: float = Field(1.0, ge=0, le=20)
    main_topic: float = Field(1.5, ge=0, le=20)
    repetition: float = Field(1.0, ge=0, le=20)
    topics: dict[Topic, float] = {}
    regions: dict[Region, float] = {}
    sources: dict[str, float] = {}


PoolName = Literal["earlier", "most-read", "archive", "magazine"]


class EarlierPool(Value):
    """What sources brought before a newsletter looks back, up to *days* ago."""

    days: float = Field(10, gt=0, le=60)


class MostReadPool(Value):
    """What at least *readers* people clicked in any of our newsletters of the last *days*."""

    days: float = Field(10, gt=0, le=400)
    readers: int = Field(5, ge=1)


class ArchivePool(Value):
    """What our newsletters ran well *after_days* to *days* ago."""

    days: float = Field(400, gt=0, le=4_000)
    after_days: float = Field(21, ge=0)


class MagazinePool(Value):
    """Pieces of ours, or licensed to us in full, of at least *words* words, of the last *days*: they keep."""

    days: float = Field(180, gt=0, le=4_000)
    words: int = Field(800, ge=100)


class Pools(Value):
    """What sections may fall back on (their ``fallback``) when a day is thin; ``[pools]`` of ``publication.toml``."""

    earlier: EarlierPool = EarlierPool()
    most_read: MostReadPool = Field(MostReadPool(), alias="most-read")
    archive: ArchivePool = ArchivePool()
    magazine: MagazinePool = MagazinePool()


class Sunset(Value):
    """
    What becomes of readers who show no sign of life: asked, then paused, then stopped; without it nothing does.

    Asked is who got *editions* editions and opened or clicked nothing as a person for *days*. Without an answer
    they are paused after *answer_days*, and stopped after *pause_days* more. Who stays is left alone for
    *alone_days*. *paying*: also paying readers. *machine_opens*: of whom programs alone opened something nothing is
    known (``unknown``: they are left alone), or they count as quiet. At most *most_a_day* are asked a day.
    """

    editions: int = Field(20, ge=1, le=1_000)
    days: int = Field(90, ge=7, le=3_660)
    answer_days: int = Field(14, ge=3, le=365)
    pause_days: int = Field(30, ge=1, le=365)
    alone_days: int = Field(180, ge=1, le=3_660)
    paying: bool = False
    machine_opens: Literal["unknown", "quiet"] = "unknown"
    most_a_day: int = Field(500, ge=1, le=1_000_000)


class Publication(Value):
    """The publisher: everything the newsletters share."""

    name: Line
    tagline: Line = ""
    taglines: dict[Language, Line] = {}
    url: str
    postal_address: Line
    sender: Address
    reply_to: Address | None = None
    timezone: Zone
    language: str = "en"
    collect_every_minutes: int = Field(15, ge=1)
    editors: tuple[Mailbox, ...] = ()
    operators: tuple[Mailbox, ...] = ()
    keep_events_days: int = Field(400, ge=30)
    keep_pictures_days: int = Field(30, ge=7)
    sunset: Sunset | None = None
    feeds: tuple[Source, ...] = ()
    plans: tuple[Plan, ...] = Field(min_length=1)
    topics: tuple[TopicRule, ...] = ()
    kinds: tuple[KindRule, ...] = ()
    weights: Weights = Weights()
    pools: Pools = Pools()
    families: dict[str, tuple[str, ...]] = {}
    offer: Offer | None = None
    reminders: tuple[Reminder, ...] = ()
    adverts: tuple[Advert, ...] = ()
    paces: tuple[Pace, ...] = ()
    theme: Theme = Theme()
    embed_origins: tuple[Origin, ...] = ()
    privacy_url: str = ""
    sign_up_url: str = ""
    hellos: tuple[Hello, ...] = ()
    words: Line = "words"
    pictures: Line = ""

    def class_of(self, plan: str) -> PlanClass:
        """Return the class of a plan id; a plan we do not know is never a paying one."""
        return next((p.plan_class for p in self.plans if p.id == plan), "free")

    def pace_of(self, sender: str) -> Pace:
        """The pace of a sender's address; without one, no ceiling."""
        return next((pace for pace in self.paces if (pace.sender or self.sender.email) == sender), Pace())

    @property
    def paying_plans(self) -> tuple[str, ...]:
        """Ids of the plans of class ``paying``."""
        return tuple(p.id for p in self.plans if p.plan_class == "paying")

    @property
    def trial_plans(self) -> tuple[str, ...]:
        """Ids of the plans that are trials; each is a paying one."""
        return tuple(p.id for p in self.plans if p.trial)

    def reminders_named(self, ids: Iterable[str]) -> tuple[Reminder, ...]:
        """The reminders of these *ids*, in their order; of a newsletter's, the first whose condition holds counts."""
        known = {reminder.id: reminder for reminder in self.reminders}
        return tuple(known[one] for one in ids if one in known)

    @model_validator(mode="after")
    def _ids_differ(self) -> Publication:
        for what, things in (("feeds", self.feeds), ("plans", self.plans), ("reminders", self.reminders)):
            ids = [thing.id for thing in things]
            if twice := next((one for one in ids if ids.count(one) > 1), ""):
                raise ValueError(f"two {what} have the same id, {twice}")
        return self
