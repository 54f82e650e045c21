"""What speaks against an article: in a newsletter as a whole, in one of its sections, and beside what is taken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from rapidfuzz import fuzz

from newsletter.about import matters_in
from newsletter.articles import Article, Flag, Rights, headline_key
from newsletter.catalogue import Newsletter, Section
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


def ran_before(article: Article, key: str, sent: Mapping[str, str]) -> str:
    """That the newsletter has run *article*, or another under its headline (*key*, folded), or ''."""
    if article.url in sent:
        return f"ran in {sent[article.url]}"
    if key in sent and len(key.split()) >= SHORT_HEADLINE_WORDS:
        return f"the same headline ran in {sent[key]}"
    return ""


def unfit(
    article: Article,
    story: Story,
    newsletter: Newsletter,
    *,
    key: str,
    now: datetime,
    since: datetime,
    sent: Mapping[str, str],
    ran: Mapping[str, Ran],
) -> str:
    """Why no section may have *article*, or ''; *key* is its folded headline."""
    if why := never_fits(article, newsletter, now):
        return why
    if why := ran_before(article, key, sent) or too_old(article, newsletter, now):
        return why
    if max(article.published_at, article.first_seen_at) <= since:
        return f"known before the last edition closed ({since:%Y-%m-%d %H:%M} UTC)"
    if (before := ran.get(story.id)) and not moved_on(article, story, before):
        return f"its story ran in {before.words}, and nothing says that it has moved on since"
    return ""


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


def sort_of(article: Article) -> Hashable:
    """What sections ask of an article, its age and its categories apart: of two of one sort both fit or neither."""
    return (
        article.source, article.topics, article.region, article.language.partition("-")[0], article.kind,
        article.rights, bool(article.image), bool(article.translated_from),
    )  # fmt: skip


def misfit(article: Article, section: Section, now: datetime) -> str:
    """The first of the section's conditions that *article* does not meet, or ''."""
    return (
        wrong_sort(article, section) or wrong_category(article, section) or wrong_age(article, section, now)
    )


def wrong_sort(article: Article, section: Section) -> str:
    """The first condition that no article of its sort (``sort_of``) meets, or ''."""
    if section.words:
        return "words"
    if section.sources and article.source not in section.sources:
        return "source"
    if section.topics and not set(section.topics) & set(article.topics):
        return "topic"
    if set(section.without_topics) & set(article.topics[:1]):
        return "topic"
    if section.regions and article.region not in section.regions:
        return "region"
    if section.languages and article.language.partition("-")[0] not in section.languages:
        return "language"
    if section.kinds and article.kind not in section.kinds:
        return "kind"
    if section.rights and article.rights not in section.rights:
        return "rights"
    if section.with_picture and (article.image is None or article.rights is Rights.EXCERPT):
        return "no picture we may show"
    if section.translated is not None and bool(article.translated_from) is not section.translated:
        return "not a translation" if section.translated else "a translation"
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


def why_nowhere(article: Article, newsletter: Newsletter, now: datetime) -> str:
    """Why no section takes *article*, with what is known of it."""
    why = Counter(misfit(article, section, now) for section in newsletter.sections)
    facts = ", ".join(article.topics) or "no topic"
    return f"fits no section ({', '.join(sorted(why))}): {facts}; {article.language}; {article.kind}"


def at_cap(article: Article, section: Section, taken: Sequence[Article]) -> str:
    """The cap that *taken* has reached for *article*, or ''."""
    topic = article.topics[0] if article.topics else None
    caps = (
        (section.per_source, [one.source == article.source for one in taken], f"from {article.source_name or article.source}"),
        (section.per_country, [bool(article.country) and one.country == article.country for one in taken], f"from {article.country}"),
        (section.per_topic, [topic is not None and one.topics[:1] == (topic,) for one in taken], f"about {topic}"),
    )  # fmt: skip
    return next((f"already {cap} {what}" for cap, same, what in caps if cap and sum(same) >= cap), "")


def repetition(article: Article, taken: Sequence[Article]) -> list[tuple[str, float]]:
    """What *taken* has of *article*'s country, region, source, topic and affair already, in negative points."""
    if not taken:
        return []
    topic = article.topics[:1]
    counted = (
        (sum(bool(article.country) and one.country == article.country for one in taken), 0.6, f"from {article.country}"),
        (sum(one.region == article.region for one in taken), 0.3, f"from {article.region}"),
        (sum(one.source == article.source for one in taken), 0.3, f"from {article.source_name or article.source}"),
        (sum(bool(topic) and one.topics[:1] == topic for one in taken), 0.15, f"about {topic[0] if topic else ''}"),
        (sum(_same_affair(article, one) for one in taken), 1.0, "between the same countries"),
    )  # fmt: skip
    return [(f"{times} {what} already", -each * min(times, 4)) for times, each, what in counted if times]


def _same_affair(article: Article, other: Article) -> bool:
    """Whether both are about the same two countries at least, and one topic: two looks at one affair."""
    if len(article.countries) < 2 or len(other.countries) < 2:
        return False
    both = set(article.countries) & set(other.countries)
    return len(both) > 1 and not set(article.topics).isdisjoint(other.topics)
