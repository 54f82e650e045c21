"""
What a section may fall back on when the day is thin: the best of what ran, what was read most, what keeps.

Each pool is a rule over what is stored, and yields reserves with the reason to take them. Whether one fits, was told
before or may be shown is the choice's business (``choice.Choice.fall_back``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from newsletter.articles import Article, Kind
from newsletter.catalogue import CLASSES, ArchivePool, MostReadPool, Newsletter, PlanClass
from newsletter.picking.liking import Points, Read, usual_of

PERISHABLE = (Kind.LIVE_BLOG, Kind.SPORT_RESULT, Kind.PROMO)
"""Kinds that are worth nothing once their day is over."""

_PRIOR = 5.0
_LED = 0.5
_MOST = 2.0


@dataclass(frozen=True, slots=True)
class Reserve:
    """
    An article that may fill a gap. *told* says whence, after "from"; *points* why rather this one.

    *classes* are those who could read it when it ran.
    """

    article: Article
    told: str
    points: Points
    classes: tuple[PlanClass, ...] = CLASSES


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a pool offers an address; see ``Reserve``."""

    told: str
    points: Points
    classes: tuple[PlanClass, ...]


def most_read(
    reads: Iterable[Read], rule: MostReadPool, newsletters: Sequence[Newsletter]
) -> dict[str, Reason]:
    """What at least *rule.readers* people clicked, in all newsletters together, by URL."""
    readers: dict[str, int] = {}
    ran_in: dict[str, set[str]] = {}
    for one in reads:
        readers[one.url] = readers.get(one.url, 0) + one.readers
        ran_in.setdefault(one.url, set()).add(one.newsletter)
    return {
        url: Reason(
            f"the most read of the last {rule.days:g} days",
            [(f"{number} readers clicked it", min(_MOST, math.log2(number / rule.readers)))],
            _classes(newsletters, ran_in[url]),
        )
        for url, number in sorted(readers.items())
        if number >= rule.readers
    }


def well_run(
    reads: Iterable[Read], rule: ArchivePool, newsletters: Sequence[Newsletter]
) -> dict[str, Reason]:
    """
    What ran well some time ago: clicked at least as often as its place usually is; where nobody's clicks are
    known, what led its edition. By URL, each as it ran best.
    """
    names = {one.slug: one.name for one in newsletters}
    by_newsletter: dict[str, list[Read]] = {}
    for one in reads:
        by_newsletter.setdefault(one.newsletter, []).append(one)
    best: dict[str, tuple[float, date, Reason]] = {}
    for slug, ran in sorted(by_newsletter.items()):
        usual = usual_of(ran)
        for one in ran:
            if (expected := usual.get((one.day, one.place))) is not None:
                ratio = (one.readers + _PRIOR) / (expected + _PRIOR)
                points = (
                    f"readers clicked it {ratio:.1f} times as often as its place usually is",
                    math.log2(ratio),
                )
            elif one.place == 1:
                points = ("it led", _LED)
            else:
                continue
            told = f"the archive of {in_words(one.day)} ({names.get(slug, slug)})"
            found = (min(_MOST, points[1]), one.day, Reason(told, [points], _classes(newsletters, {slug})))
            if points[1] >= 0 and (one.url not in best or found[:2] > best[one.url][:2]):
                best[one.url] = found
    return {url: reason for url, (_, _, reason) in sorted(best.items())}


def reserves(articles: Iterable[Article], reasons: Mapping[str, Reason]) -> tuple[Reserve, ...]:
    """The articles that *reasons* speak for and that keep, by URL."""
    return tuple(
        Reserve(one, reasons[one.url].told, reasons[one.url].points, reasons[one.url].classes)
        for one in sorted(articles, key=lambda article: article.url)
        if one.url in reasons and one.kind not in PERISHABLE
    )


def kept(articles: Iterable[Article], told: str) -> tuple[Reserve, ...]:
    """Articles that keep, whoever ran them, by URL: each told by *told* and its date."""
    return tuple(
        Reserve(one, f"{told} of {in_words(one.published_at.date())}", [])
        for one in sorted(articles, key=lambda article: article.url)
        if one.kind not in PERISHABLE
    )


def in_words(day: date) -> str:
    """A date in a sentence."""
    return f"{day.day} {day:%B %Y}"


def _classes(newsletters: Sequence[Newsletter], slugs: set[str]) -> tuple[PlanClass, ...]:
    """Who gets any of those newsletters; of one that is gone nobody knows, so everybody may."""
    audiences = [one.audience.classes for one in newsletters if one.slug in slugs]
    return tuple(one for one in CLASSES if not audiences or any(one in classes for classes in audiences))
