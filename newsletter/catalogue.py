"""What the publication is, as data: ``publication.toml`` and one ``newsletter.toml`` a newsletter."""

from __future__ import annotations

import re
import tomllib
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from newsletter.articles import Kind, Region, Rights, Topic
from newsletter.errors import CatalogueError, NotFound
from newsletter.theme import Theme
from newsletter.times import due_at
from newsletter.wording import Block, Hello

PlanClass = Literal["free", "paying"]
Model = TypeVar("Model", bound=BaseModel)
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
Origin = Annotated[str, Field(pattern=r"^https?://[a-z0-9.-]+(:\d{1,5})?$")]
Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
# A language of the pages, as a key of what is said in it.
Language = Annotated[str, Field(pattern=r"^[a-z]{2,3}$")]
Slug = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]


def _mailbox(text: str) -> str:
    if not re.fullmatch(r"[^\s@<>,;:\"]{1,64}@[^\s@<>,;:\"]{1,255}", text):
        raise ValueError("must be a plain address such as desk@example.org")
    return text


Editor = Annotated[str, AfterValidator(_mailbox)]
"""Where an editor of ours gets the mails of the desk."""

# What "required" was called before.
_Approval = Annotated[
    Literal["auto", "required"], BeforeValidator(lambda told: "required" if told == "editor" else told)
]


class _Value(BaseModel):
    """Frozen, and strict about names: a misspelt key is an error, not a silent default."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Address(_Value):
    """A mailbox with its display name."""

    name: Line
    email: Line


class Source(_Value):
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


class About(_Value):
    """What pages and letters in another language say of a newsletter."""

    tagline: Line = ""
    description: Line = ""
    welcome: str = ""


class Plan(_Value):
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


class TopicRule(_Value):
    """Words by which categories, URL sections and headlines are mapped to a topic, in any language."""

    topic: Topic
    categories: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    headline: tuple[str, ...] = ()


class KindRule(_Value):
    """Words by which a kind is recognised."""

    kind: Kind
    categories: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    headline: tuple[str, ...] = ()


class PlanEnds(_Value):
    """
    Whose plan ends soon.

    *plan_ends_within_days*: a plan of class paying that still runs and ends in at most so many days;
    *trial_ends_within_days* the same of trials, *renewal_due_within_days* of all others.
    """

    plan_ends_within_days: int | None = Field(None, ge=1, le=3_660)
    renewal_due_within_days: int | None = Field(None, ge=1, le=3_660)
    trial_ends_within_days: int | None = Field(None, ge=1, le=3_660)


class Offer(_Value):
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


class Advert(_Value):
    """An advert for free readers; labelled as one."""

    label: Line = "Advertisement"
    headline: Line
    text: str
    url: str
    sponsor: Line = ""


class Gates(_Value):
    """
    Which classes get what, but for the stories: sections say it of theirs (``for``).

    They are taken before a template sees the text, and the proof looks for them in the final bytes.
    """

    full_text: tuple[PlanClass, ...] = ("paying",)
    offer: tuple[PlanClass, ...] = ("free",)
    adverts: tuple[PlanClass, ...] = ("free",)


class Ceilings(_Value):
    """At most so many readers; 0: no ceiling. An hour is the last sixty minutes, a day a local day."""

    per_minute: int = Field(0, ge=0)
    per_hour: int = Field(0, ge=0)
    per_day: int = Field(0, ge=0)

    @property
    def smallest(self) -> int:
        """The lowest ceiling; 0: none."""
        return min((n for n in (self.per_minute, self.per_hour, self.per_day) if n), default=0)


class WarmUp(_Value):
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


class Weights(_Value):
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


class EarlierPool(_Value):
    """What sources brought before a newsletter looks back, up to *days* ago."""

    days: float = Field(10, gt=0, le=60)


class MostReadPool(_Value):
    """What at least *readers* people clicked in any of our newsletters of the last *days*."""

    days: float = Field(10, gt=0, le=400)
    readers: int = Field(5, ge=1)


class ArchivePool(_Value):
    """What our newsletters ran well *after_days* to *days* ago."""

    days: float = Field(400, gt=0, le=4_000)
    after_days: float = Field(21, ge=0)


class MagazinePool(_Value):
    """Pieces of ours, or licensed to us in full, of at least *words* words, of the last *days*: they keep."""

    days: float = Field(180, gt=0, le=4_000)
    words: int = Field(800, ge=100)


class Pools(_Value):
    """What sections may fall back on (their ``fallback``) when a day is thin; ``[pools]`` of ``publication.toml``."""

    earlier: EarlierPool = EarlierPool()
    most_read: MostReadPool = Field(MostReadPool(), alias="most-read")
    archive: ArchivePool = ArchivePool()
    magazine: MagazinePool = MagazinePool()


class Sunset(_Value):
    """
    What becomes of readers who show no sign of life: asked, then paused, then stopped; without it nothing does.

    Asked is who got *editions* editions and opened or clicked nothing as a person for *days*. Without an answer
    they are paused after *answer_days*, and stopped after *pause_days* more. Who stays is left alone for
    *alone_days*. *paying*: also paying readers. *machine_opens*: of whom programs alone opened something nothing is
    known (``unknown``: they are left alone), or they count as quiet. At most *most_a_day* are asked a day.
    """

    editions: int = Field(20, ge=1)
    days: int = Field(90, ge=7)
    answer_days: int = Field(14, ge=3)
    pause_days: int = Field(30, ge=1, le=365)
    alone_days: int = Field(180, ge=1)
    paying: bool = False
    machine_opens: Literal["unknown", "quiet"] = "unknown"
    most_a_day: int = Field(500, ge=1)


class Publication(_Value):
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
    editors: tuple[Editor, ...] = ()
    operators: tuple[Editor, ...] = ()
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

    def reminders_of(self, newsletter: Newsletter) -> tuple[Reminder, ...]:
        """The reminders a newsletter may hold, in its order: the first whose condition holds counts."""
        known = {reminder.id: reminder for reminder in self.reminders}
        return tuple(known[one] for one in newsletter.reminders if one in known)

    @model_validator(mode="after")
    def _ids_differ(self) -> Publication:
        for what, things in (("plans", self.plans), ("reminders", self.reminders)):
            ids = [thing.id for thing in things]
            if len(set(ids)) != len(ids):
                raise ValueError(f"two {what} have the same id")
        return self


class Schedule(_Value):
    """When a newsletter is due: weekdays and a wall-clock time in its zone."""

    days: tuple[Weekday, ...] = Field(min_length=1)
    at: time
    max_lateness_hours: float = Field(3.0, gt=0, le=24)


class Window(_Value):
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


class Section(_Value):
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


class SubjectTest(_Value):
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


class Newsletter(_Value):
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
    editors: tuple[Editor, ...] | None = None
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
    deliver: Annotated[str, Field(pattern=r"^(at once|local ([01]\d|2[0-3]):[0-5]\d)$")] = "at once"
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


class Catalogue(_Value):
    """The publication and its newsletters, by slug, in the order of their folders' names."""

    publication: Publication
    newsletters: tuple[Newsletter, ...]
    root: Path

    def __getitem__(self, slug: str) -> Newsletter:
        """
        Return the newsletter of that slug.

        Raises:
            NotFound: names what there is.
        """
        for newsletter in self.newsletters:
            if newsletter.slug == slug:
                return newsletter
        known = ", ".join(newsletter.slug for newsletter in self.newsletters)
        raise NotFound(f"There is no newsletter {slug!r}. There are: {known}.")


def load_catalogue(root: Path) -> Catalogue:
    """
    Read ``publication.toml`` and every ``<slug>/newsletter.toml`` under *root*.

    Raises:
        CatalogueError: a file is missing or wrong; the message names file, field and the fault.
    """
    family, hellos = (
        _toml(path) if path.is_file() else {}
        for path in (root / "_shared" / "theme.toml", root / "_shared" / "hello.toml")
    )
    publication = _read(root / "publication.toml", Publication, theme=family, hellos=hellos.get("hello", ()))
    folders = sorted(
        path.parent for path in root.glob("*/newsletter.toml") if not path.parent.name.startswith("_")
    )
    if not folders:
        raise CatalogueError(
            f"There is no newsletter under {root}: each is a folder with a newsletter.toml.", file=str(root)
        )
    look = publication.theme.model_dump()
    newsletters = tuple(
        _read(folder / "newsletter.toml", Newsletter, theme=look, slug=folder.name) for folder in folders
    )
    for newsletter in newsletters:
        _check_plans(publication, newsletter, root / newsletter.slug / "newsletter.toml")
        _check_reminders(publication, newsletter, root / newsletter.slug / "newsletter.toml")
    return Catalogue(publication=publication, newsletters=newsletters, root=root)


def read_weights(path: Path, present: Weights) -> Weights:
    """
    *present* with what a file of weights changes, for trying them out.

    Raises:
        CatalogueError: the file cannot be used; names file, field and fault.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CatalogueError(f"{path} cannot be read: {error.strerror}.", file=str(path)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CatalogueError(f"{path} is not readable TOML: {error}.", file=str(path)) from error
    changed = data.get("weights", data)
    before = present.model_dump()
    merged = {
        name: {**before[name], **value} if isinstance(value, dict) and name in before else value
        for name, value in changed.items()
    }
    try:
        return Weights.model_validate({**before, **merged})
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(str(part) for part in problem["loc"])
        raise CatalogueError(f"{path}: {field}: {problem['msg']}.", file=str(path), field=field) from error


def _check_plans(publication: Publication, newsletter: Newsletter, path: Path) -> None:
    known = [plan.id for plan in publication.plans]
    unknown = [plan for plan in newsletter.audience.plans if plan not in known]
    if unknown:
        raise CatalogueError(
            f"{path}: audience.plans: there is no plan {unknown[0]!r} in publication.toml; there are {', '.join(known)}.",
            file=str(path), field="audience.plans",
        )  # fmt: skip
    if newsletter.audience.trial_ends_within_days and not publication.trial_plans:
        raise CatalogueError(
            f"{path}: audience.trial_ends_within_days: no plan in publication.toml says trial = true.",
            file=str(path), field="audience.trial_ends_within_days",
        )  # fmt: skip


def _check_reminders(publication: Publication, newsletter: Newsletter, path: Path) -> None:
    known = {reminder.id: reminder for reminder in publication.reminders}
    for one in newsletter.reminders:
        if one not in known:
            fault = (
                f"there is no reminder {one!r} in publication.toml; there are {', '.join(known) or 'none'}."
            )
        elif "paying" not in newsletter.audience.classes:
            fault = "only paying readers have a plan that ends; this newsletter is not for them."
        elif known[one].trial_ends_within_days and not publication.trial_plans:
            fault = f"{one} speaks of trials, but no plan in publication.toml says trial = true."
        else:
            continue
        raise CatalogueError(f"{path}: reminders: {fault}", file=str(path), field="reminders")


def _read(path: Path, model: type[Model], *, theme: dict[str, Any], **given: Any) -> Model:
    """The *model* that a file holds; its ``[theme]`` says what differs from *theme*."""
    data = _toml(path)
    own = data.get("theme", {})
    look = {**theme, **own} if isinstance(own, dict) else own
    try:
        return model.model_validate({**data, "theme": look, **given})
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(str(part) for part in problem["loc"])
        more = "" if error.error_count() == 1 else f" ({error.error_count() - 1} more)"
        raise CatalogueError(
            f"{path}: {field}: {problem['msg']}{more}.", file=str(path), field=field
        ) from error


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CatalogueError(f"{path} is missing.", file=str(path)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CatalogueError(f"{path} is not readable TOML: {error}.", file=str(path)) from error
