"""
What the readers of a newsletter went for on earlier days, as a number an editor can check.

The clicks on each story are held against those its place usually gets, so that a lead is not liked for being the
lead; then they are summed by topic, region, kind and paper, and few of them say little.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date

from newsletter.articles import Article, Kind, Region, Topic
from newsletter.picking.naming import region_named

Points = list[tuple[str, float]]

_PRIOR = 20.0
"""So many clicks, just as many as usual, are added to each side: below them a ratio is near 1."""

_MOST, _LEAST = 2.0, 0.5
_WORTH_SAYING = 1.1
_PLAIN = {("region", str(Region.GLOBAL)), ("kind", str(Kind.NEWS))}


@dataclass(frozen=True, slots=True)
class Read:
    """How many people clicked a story at a *place* (from 1) of a newsletter's edition of *day*, and what it is."""

    newsletter: str
    day: date
    url: str
    place: int
    readers: int
    topics: tuple[Topic, ...] = ()
    region: Region = Region.GLOBAL
    kind: Kind = Kind.NEWS
    source: str = ""


@dataclass(frozen=True, slots=True)
class Liking:
    """How often something was clicked, of what is usual (0.5 to 2), by (what it is of an article, its value)."""

    ratios: Mapping[tuple[str, str], float] = field(default_factory=dict)

    def points(self, article: Article, weight: float) -> Points:
        """Half of *weight* for each doubling, for topic, region, kind and paper of *article*; in words."""
        if not self.ratios:
            return []
        found = [(self.worth(what, value, weight=weight), what, value) for what, value in _traits(article)]
        return [
            (
                f"readers clicked {_named(what, value, article)} {self.ratios[what, value]:.1f} times as often as usual",
                worth,
            )
            for worth, what, value in found
            if worth
        ]

    def worth(self, what: str, value: str, *, weight: float) -> float:
        """The points of one trait; none if it is clicked as usual, or is nothing special."""
        ratio = 1.0 if (what, value) in _PLAIN else self.ratios.get((what, value), 1.0)
        return 0.5 * weight * math.log2(ratio) if max(ratio, 1 / ratio) >= _WORTH_SAYING else 0.0


def liking_of(reads: Iterable[Read]) -> Liking:
    """What *reads* of one newsletter say; their order does not matter. Editions nobody clicked in say nothing."""
    reads = list(reads)
    usual = usual_of(reads)
    clicked: dict[tuple[str, str], float] = defaultdict(float)
    expected: dict[tuple[str, str], float] = defaultdict(float)
    for one in sorted(reads, key=lambda read: (read.day, read.place, read.url)):
        for trait in _traits(one) if (one.day, one.place) in usual else ():
            clicked[trait] += one.readers
            expected[trait] += usual[one.day, one.place]
    ratios = {trait: (clicked[trait] + _PRIOR) / (expected[trait] + _PRIOR) for trait in clicked}
    return Liking({trait: min(_MOST, max(_LEAST, ratio)) for trait, ratio in ratios.items()})


def usual_of(reads: Iterable[Read]) -> dict[tuple[date, int], float]:
    """How many readers each place of each day would have, if what stood in it had been like everything else."""
    reads = list(reads)
    whole: dict[date, int] = defaultdict(int)
    for one in reads:
        whole[one.day] += one.readers
    at_place: dict[int, int] = defaultdict(int)
    of_all: dict[int, int] = defaultdict(int)
    for one in reads:
        at_place[one.place] += one.readers
        of_all[one.place] += whole[one.day]
    return {
        (one.day, one.place): whole[one.day] * at_place[one.place] / of_all[one.place]
        for one in reads
        if whole[one.day]
    }


def _traits(article: Article | Read) -> list[tuple[str, str]]:
    """What may be liked about an article; plain news of everywhere is nothing special."""
    found = [*(("topic", str(topic)) for topic in article.topics[:1])]
    found += [("region", str(article.region)), ("kind", str(article.kind)), ("source", article.source)]
    return [trait for trait in found if trait not in _PLAIN]


def _named(what: str, value: str, article: Article) -> str:
    if what == "region":
        return f"stories from {region_named(article.region)}"
    return article.source_name or value if what == "source" else value
