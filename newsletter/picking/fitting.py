"""What speaks against an article: in a newsletter as a whole, in one of its sections, and beside what is taken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from rapidfuzz import fuzz

from newsletter.about import matters_in
from newsletter.articles import Article, Flag, Rights, headline_key
from newsletter.catalogue import Newsletter, Section
from newsletter.picking.columns import TRAITS
from newsletter.picking.naming import country_named, region_named
from newsletter.picking.weighing import Story

SHORT_HEADLINE_WORDS = 4
_NEW_WORDS = 70.0
"""Below this likeness (token set ratio, 0–100) a headline says something else than the one that ran."""


@dataclass(frozen=True, slots=True)
class Ran:
    """That a newsletter told a story: *words* say when, *at* is when that edition closed."""

    words: str
    headline: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """
    That another newsletter tells *story* about the same time; *lead*: at its head.

    *shared* is the share (0 to 1) of the smaller of both audiences that gets both.
    """

    story: str
    newsletter: str
    lead: bool
    shared: float


def too_old(article: Article, newsletter: Newsletter, now: datetime) -> str:
    """That *article* is older than the newsletter looks back, or ''."""
    oldest = now - timedelta(hours=newsletter.window_hours)
    if article.published_at > oldest:
        return ""
    return f"older than {newsletter.name} looks back (to {oldest:%Y-%m-%d %H:%M} UTC)"


def never_fits(article: Article, newsletter: Newsletter, now: datetime) -> str:
    """Why *newsletter* runs *article* on no day like this, whatever else there is, or ''."""
    if not article.headline:
        return "no headline"
    if Flag.FIRST_FETCH in article.flags:
        return "undated and from the first fetch of its source: it may be years old"
    if article.published_at > now:
        return f"dated in the future ({article.published_at:%Y-%m-%d %H:%M} UTC): not before its date"
    if article.kind in newsletter.kinds_never:
        return f"is a {article.kind} piece, which {newsletter.name} never runs"
    if newsletter.sources and article.source not in newsletter.sources:
        return f"{newsletter.name} does not read {article.source}"
    if article.source in newsletter.without_sources:
        return f"{newsletter.name} leaves out {article.source}"
    return ""


def ran_before(article: Article, sent: Mapping[str, str]) -> str:
    """That the newsletter has run *article*, or another under its headline, or ''."""
    if not sent:
        return ""
    if article.url in sent:
        return f"ran in {sent[article.url]}"
    key = headline_key(article.headline)
    if key in sent and len(key.split()) >= SHORT_HEADLINE_WORDS:
        return f"the same headline ran in {sent[key]}"
    return ""


def unfit(
    article: Article, newsletter: Newsletter, *, now: datetime, since: datetime, sent: Mapping[str, str]
) -> str:
    """Why no section may have *article*, whatever its story, or ''."""
    if why := never_fits(article, newsletter, now):
        return why
    if why := ran_before(article, sent) or too_old(article, newsletter, now):
        return why
    if max(article.published_at, article.first_seen_at) <= since:
        return f"known before the last edition closed ({since:%Y-%m-%d %H:%M} UTC)"
    return ""


def told_before(article: Article, story: Story, before: Ran) -> str:
    """That *story* ran in the newsletter, and that *article* does not take it on, or ''."""
    if moved_on(article, story, before):
        return ""
    return f"its story ran in {before.words}, and nothing says that it has moved on since"


def moved_on(article: Article, story: Story, before: Ran) -> bool:
    """
    Whether *article* tells something of *story* that was not told before.

    It is newer, its headline says something else, and either it speaks of a matter or gives a number that no
    earlier telling had, or half of the story's papers have written again.
    """
    if article.published_at <= before.at:
        return False
    if fuzz.token_set_ratio(headline_key(article.headline), headline_key(before.headline)) >= _NEW_WORDS:
        return False
    old = [one for one in story.tellings if one.published_at <= before.at]
    newer = {one.source for one in story.tellings if one.published_at > before.at}
    known = {matter for one in old for matter in matters_in(one.headline)} | matters_in(before.headline)
    told = " ".join([before.headline, *(f"{one.headline} {one.standfirst}" for one in old)])
    numbers = {word for word in headline_key(article.headline).split() if word.isdigit()}
    is_new = bool(matters_in(article.headline) - known) or any(number not in told for number in numbers)
    return is_new and 2 * len(newer) >= len({one.source for one in story.tellings})


@dataclass(frozen=True, slots=True)
class Condition:
    """What a section asks of one trait of an article (``TRAITS``); *wrong* names it where it is not met."""

    wrong: str
    trait: str
    is_met: Callable[[Any], bool]


def conditions(section: Section) -> tuple[Condition, ...]:
    """What *section* asks of an article, its age and its categories apart."""
    topics, without = frozenset(section.topics), frozenset(section.without_topics)
    asked = (
        (section.words, Condition("words", "kind", lambda _: False)),
        (section.sources, Condition("source", "source", lambda source: source in section.sources)),
        (topics, Condition("topic", "topics", lambda told: not topics.isdisjoint(told))),
        (without, Condition("topic", "topics", lambda told: without.isdisjoint(told[:1]))),
        (section.regions, Condition("region", "region", lambda region: region in section.regions)),
        (section.languages, Condition("language", "language", lambda code: code in section.languages)),
        (section.kinds, Condition("kind", "kind", lambda kind: kind in section.kinds)),
        (section.rights, Condition("rights", "rights", lambda rights: rights in section.rights)),
        (section.with_picture, Condition("no picture we may show", "picture", bool)),
        (section.with_picture, Condition("no picture we may show", "rights", lambda rights: rights is not Rights.EXCERPT)),
        (section.translated is True, Condition("not a translation", "translated", bool)),
        (section.translated is False, Condition("a translation", "translated", lambda is_one: not is_one)),
    )  # fmt: skip
    return tuple(condition for is_asked, condition in asked if is_asked)


def wrong_trait(article: Article, asked: Sequence[Condition]) -> str:
    """The first of *asked* that *article* does not meet, or ''."""
    for one in asked:
        if not one.is_met(TRAITS[one.trait](article)):
            return one.wrong
    return ""


def wrong_category(article: Article, section: Section) -> str:
    """That its source calls *article* nothing that *section* asks for, or ''."""
    if not section.categories:
        return ""
    declared = {one.casefold() for one in article.categories}
    return "" if declared & {one.casefold() for one in section.categories} else "category"


def wrong_age(article: Article, section: Section, now: datetime) -> str:
    """That *article* is older than *section* takes, or ''."""
    if section.max_age_hours is None:
        return ""
    return "too old" if now - article.published_at > timedelta(hours=section.max_age_hours) else ""


def why_nowhere(
    article: Article, newsletter: Newsletter, asked: Mapping[str, Sequence[Condition]], now: datetime
) -> str:
    """Why no section takes *article*, with what is known of it; *asked* are the sections' conditions."""
    why = {
        wrong_trait(article, asked[one.id]) or wrong_category(article, one) or wrong_age(article, one, now)
        for one in newsletter.sections
    }
    facts = ", ".join(article.topics) or "no topic"
    return f"fits no section ({', '.join(sorted(why))}): {facts}; {article.language}; {article.kind}"


def at_cap(article: Article, section: Section, taken: Sequence[Article]) -> str:
    """The cap that *taken* has reached for *article*, or ''."""
    topic = article.topics[0] if article.topics else None
    caps = (
        (section.per_source, [one.source == article.source for one in taken], f"from {article.source_name or article.source}"),
        (section.per_country, [bool(article.country) and one.country == article.country for one in taken], f"from {country_named(article.country)}"),
        (section.per_topic, [topic is not None and one.topics[:1] == (topic,) for one in taken], f"about {topic}"),
    )  # fmt: skip
    return next((f"already {cap} {what}" for cap, same, what in caps if cap and sum(same) >= cap), "")


class Taken:
    """What an edition has taken by now, counted."""

    def __init__(self) -> None:
        self._countries: Counter[str] = Counter()
        self._regions: Counter[str] = Counter()
        self._sources: Counter[str] = Counter()
        self._topics: Counter[tuple[str, ...]] = Counter()
        self._affairs: list[Article] = []  # what is about more than one country

    def add(self, article: Article) -> None:
        """Count *article*, too."""
        self._countries[article.country] += 1
        self._regions[article.region] += 1
        self._sources[article.source] += 1
        self._topics[article.topics[:1]] += 1
        if len(article.countries) > 1:
            self._affairs.append(article)

    def like(self, article: Article) -> list[tuple[int, float, str, str]]:
        """What it has of *article*'s country, region, source, topic and affair: how often, the points off for each, and its words."""
        topic = article.topics[:1]
        counted = (
            (
                self._countries[article.country] if article.country else 0,
                0.6,
                "from",
                country_named(article.country),
            ),
            (self._regions[article.region], 0.3, "from", region_named(article.region)),
            (self._sources[article.source], 0.3, "from", article.source_name or article.source),
            (self._topics[topic] if topic else 0, 0.15, "about", topic[0] if topic else ""),
            (sum(_same_affair(article, one) for one in self._affairs), 1.0, "between", "the same countries"),
        )
        return [one for one in counted if one[0]]


def _same_affair(article: Article, other: Article) -> bool:
    """Whether both are about the same two countries at least, and one topic: two looks at one affair."""
    both = set(article.countries) & set(other.countries)
    return len(both) > 1 and not set(article.topics).isdisjoint(other.topics)
