"""
How much a story matters and how well an article tells it: points in words, which an editor can add up.

A story's points are shared by all its tellings (how many independent papers carry it, how grave it is); a
telling's are its own (whose it is, whether it has a picture); how fresh it is, and whether its language and
subject suit, depends on the newsletter.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache, partial

import numpy as np

from newsletter.about import gravest, matters_in, most_gravity
from newsletter.articles import Article, Flag, Kind, Rights, Topic, headline_key
from newsletter.catalogue import Newsletter, Publication, Section, Weights
from newsletter.picking.columns import Columns, Floats
from newsletter.picking.liking import Liking, Points
from newsletter.picking.naming import language_named

_SLOW_KINDS = {Kind.LIVE_BLOG, Kind.VIDEO, Kind.LISTICLE}
_HALF_LIFE = {Kind.LIVE_BLOG: 0.5, Kind.SPORT_RESULT: 0.5, Kind.ANALYSIS: 1.5, Kind.OPINION: 1.5}
_HARD = (Topic.POLITICS, Topic.CONFLICT, Topic.DIPLOMACY, Topic.CRIME, Topic.DISASTER)
_COUNTRIES, _TYPICAL, _STANDFIRST, _PICTURE, _TRANSLATED, _SLOW, _IN_FULL = 0.4, 1.0, 0.5, 0.3, 0.5, -1.0, 1.0
_SECOND_LEVELS = {"co", "com", "org", "net", "gov", "ac"}


@dataclass(frozen=True, slots=True)
class Story:
    """
    What all papers together say of one story.

    *tellings* in the order of their URLs; *papers* are names of independent publishers, *countries* where they
    are at home, as far as declared.
    """

    id: str
    tellings: tuple[Article, ...]
    papers: tuple[str, ...]
    countries: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Houses:
    """Who stands behind the papers: *homes* are countries by source, *families* by source or host."""

    homes: Mapping[str, str]
    families: Mapping[str, str]


def houses_of(publication: Publication) -> Houses:
    """What *publication* declares of its sources."""
    return Houses(
        {source.id: source.country for source in publication.feeds if source.country},
        {paper: family for family, papers in publication.families.items() for paper in papers},
    )


def stories_of(articles: Iterable[Article], publication: Publication) -> dict[str, Story]:
    """The stories *articles* tell, by id; an article not yet grouped is a story of its own."""
    told: dict[str, list[Article]] = {}
    for article in sorted(articles, key=lambda one: one.url):
        told.setdefault(article.story or article.url, []).append(article)
    houses = houses_of(publication)
    return {story: story_of(story, tellings, houses) for story, tellings in told.items()}


def story_of(story: str, tellings: Sequence[Article], houses: Houses) -> Story:
    """What *tellings*, in the order of their URLs, say together."""
    return Story(
        id=story,
        tellings=tuple(tellings),
        papers=tuple(sorted({family_of(one, houses.families) for one in tellings})),
        countries=tuple(sorted({houses.homes[one.source] for one in tellings if one.source in houses.homes})),
    )


def family_of(article: Article, families: Mapping[str, str]) -> str:
    """Who stands behind an article: a declared family of papers, or the house its address belongs to."""
    house = _house(article.url.partition("//")[2].partition("/")[0])
    return families.get(article.source) or families.get(house) or house or article.source


@lru_cache(maxsize=4_096)
def _house(host: str) -> str:
    """The registered part of a host: www.paper.co.uk is of paper.co.uk."""
    parts = host.partition(":")[0].split(".")
    return ".".join(parts[-3 if len(parts) > 2 and parts[-2] in _SECOND_LEVELS else -2 :])


def story_points(story: Story, weights: Weights) -> Points:
    """What a story weighs, whoever tells it."""
    points: Points = []
    papers = len(story.papers)
    if papers > 1:
        points.append((f"{papers} papers carry it", weights.coverage * math.log2(papers)))
    if len(story.countries) > 1:
        points.append((f"in {len(story.countries)} countries", _COUNTRIES * math.log2(len(story.countries))))
    matter, gravity = gravest({matter for one in story.tellings for matter in matters_in(one.headline)})
    if gravity and weights.gravity:
        points.append((f"a matter of {matter.replace('-', ' ')}", gravity * weights.gravity))
    return points


def telling_points(article: Article, story: Story, weights: Weights, *, source_weight: float) -> Points:
    """What this article weighs as the one that tells *story*, whoever reads it."""
    points: Points = []
    topic = article.topics[0] if article.topics else None
    priorities = (
        (article.source_name or article.source, source_weight * weights.sources.get(article.source, 1.0)),
        (str(article.region), weights.regions.get(article.region, 1.0)),
        (str(topic), weights.topics.get(topic, 1.0) if topic else 1.0),
    )
    points += [
        (f"{what} weighs {weight:g}", 2.0 * (weight - 1.0)) for what, weight in priorities if weight != 1.0
    ]
    if article.rights is not Rights.EXCERPT:
        points.append(("ours to print in full" if article.body else "ours", weights.ours))
    if article.standfirst:
        points.append(("has a standfirst", _STANDFIRST))
    if article.image is not None:
        points.append(("has a picture", _PICTURE))
    if article.translated_from:
        alone = len(story.papers) == 1
        points.append(
            (
                "a translation nobody else has" if alone else "a translation",
                weights.translated if alone else _TRANSLATED,
            )
        )
    if article.kind in _SLOW_KINDS:
        points.append((f"a {article.kind}", _SLOW))
    if article.paywalled and article.rights is Rights.EXCERPT:
        points.append(("behind a paywall", -0.5))
    if Flag.UNDATED in article.flags:
        points.append(("undated: counted from when it was first seen", -0.5))
    if len(story.tellings) > 2:
        points.append(("tells its heart", _typical(article, story)))
    return points


def reader_points(
    article: Article, newsletter: Newsletter, weights: Weights, *, now: datetime, liking: Liking
) -> Points:
    """What *article* weighs for the readers of *newsletter*: how fresh it is to them, and whether it is their sort."""
    age_hours = max(0.0, (now - article.published_at) / timedelta(hours=1))
    points: Points = [(_age(age_hours), _fresh(article, newsletter, weights, age_hours))]
    if article.language.split("-")[0] in newsletter.languages_preferred:
        points.append((f"in {language_named(article.language)}", weights.language))
    if weights.engagement:
        points += liking.points(article, weights.engagement)
    return points


def section_points(article: Article, section: Section, weights: Weights, *, story_weight: float) -> Points:
    """What *article* weighs more or less in *section* than elsewhere; *story_weight* is what its story gave it."""
    points: Points = []
    if section.light:
        if story_weight:
            points.append(("weight counts nothing in a lighter place", -story_weight))
        if hard := [topic for topic in article.topics if topic in _HARD]:
            points.append((f"also about {', '.join(hard)}, in a lighter place", -3.0 * len(hard)))
    if section.topics and article.topics:
        main = article.topics[0]
        if main in section.topics:
            points.append((f"mainly about {main}", weights.main_topic))
        elif shared := next((topic for topic in article.topics if topic in section.topics), None):
            points.append((f"also about {shared}", -weights.main_topic))
    if section.full and article.body:
        points.append(("can be printed in full", _IN_FULL))
    return points


def most_section_points(section: Section, weights: Weights) -> float:
    """The most that ``section_points`` give to anything."""
    return (weights.main_topic if section.topics else 0.0) + (_IN_FULL if section.full else 0.0)


def carried(story: Story | None) -> tuple[int, int, int]:
    """How many papers, countries and tellings a story has; None: one of each."""
    return (len(story.papers), len(story.countries), len(story.tellings)) if story else (1, 1, 1)


def most_points(columns: Columns, weights: Weights, source_weights: Mapping[str, float]) -> Floats:
    """What ``telling_points`` and ``story_points`` give each article together at the most."""

    def most_carried(one: tuple[int, int, int]) -> float:
        papers, countries, tellings = one
        most = weights.coverage * math.log2(papers) + _COUNTRIES * math.log2(max(1, countries))
        return most + (_TYPICAL if tellings > 2 else 0.0)

    most = columns.carried.weighed(most_carried) + weights.gravity * most_gravity()
    for trait, worth in (
        ("source", lambda one: 2.0 * (source_weights.get(one, 1.0) * weights.sources.get(one, 1.0) - 1.0)),
        ("region", lambda one: 2.0 * (weights.regions.get(one, 1.0) - 1.0)),
        ("topics", lambda one: 2.0 * (weights.topics.get(one[0], 1.0) - 1.0) if one else 0.0),
        ("rights", lambda one: weights.ours if one is not Rights.EXCERPT else 0.0),
        ("picture", lambda one: _PICTURE if one else 0.0),
        ("translated", lambda one: max(weights.translated, _TRANSLATED) if one else 0.0),
        ("kind", lambda one: _SLOW if one in _SLOW_KINDS else 0.0),
    ):
        most += columns.traits[trait].weighed(worth)
    return most + _STANDFIRST * columns.has_standfirst


def most_reader_points(
    columns: Columns, newsletter: Newsletter, weights: Weights, *, now: datetime, liking: Liking
) -> Floats:
    """What ``reader_points`` give each article, but for rounding."""
    traits = columns.traits
    half_lives = traits["kind"].weighed(lambda kind: _half_life(kind, newsletter, weights))
    points = weights.freshness * np.exp2(-columns.hours_old(now) / half_lives)
    points += traits["language"].weighed(
        lambda one: weights.language if one in newsletter.languages_preferred else 0.0
    )
    if weights.engagement and liking.ratios:
        for trait in ("source", "region", "kind"):
            points += traits[trait].weighed(partial(liking.worth, trait, weight=weights.engagement))
        points += traits["topics"].weighed(
            lambda one: liking.worth("topic", one[0], weight=weights.engagement) if one else 0.0
        )
    return points


def total(points: Sequence[tuple[str, float]]) -> float:
    """The sum."""
    return sum(value for _, value in points)


def in_words(points: Sequence[tuple[str, float]]) -> list[str]:
    """Each reason with what it gave."""
    return [f"{words} ({value:+.1f})" if abs(value) >= 0.05 else words for words, value in points]


def _typical(article: Article, story: Story) -> float:
    """How much the headline has in common with the other tellings', in their language: 0 to 1."""
    words = _words(article.headline)
    others = [
        _words(one.headline)
        for one in story.tellings
        if one.url != article.url and one.language[:2] == article.language[:2]
    ]
    shares = [len(words & other) / (min(len(words), len(other)) or 1) for other in others]
    return min(_TYPICAL, 2 * sum(shares) / len(shares)) if shares else 0.0


@lru_cache(maxsize=4_096)
def _words(headline: str) -> frozenset[str]:
    return frozenset(headline_key(headline).split())


def _fresh(article: Article, newsletter: Newsletter, weights: Weights, age_hours: float) -> float:
    return weights.freshness * math.exp2(-age_hours / _half_life(article.kind, newsletter, weights))


def _half_life(kind: Kind, newsletter: Newsletter, weights: Weights) -> float:
    """After how many hours a piece of that kind has lost half its freshness."""
    usual = max(6.0, newsletter.window_hours / 3) * _HALF_LIFE.get(kind, 1.0)
    return weights.half_life_hours.get(kind, usual)


def _age(hours: float) -> str:
    return f"{hours:.0f} h old" if hours < 48 else f"{hours / 24:.0f} days old"
