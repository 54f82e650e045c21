"""
How sure we are that two tellings are of one story: points above 0 say yes, below 0 no.

A trait proves the more the rarer it is in its language and, between two tellings of one source, in that source:
what a paper of Kenya says in every headline proves nothing there. The weights are those of a logistic regression
over the tuning halves of ``tests/gold`` and its third day, rounded (``python -m bench.likeness``);
``bench/README.md`` has what they reach.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import partial
from operator import mul
from typing import NamedTuple

from newsletter.about.lexicon import Looked
from newsletter.stories.traits import HEADLINE, Traits

WINDOW = 3.0
"""Days; further apart, two tellings are not of one story by themselves."""

SAME, OTHER = 5.0, -5.0
"""The most that a single comparison may say."""

_LIKE_THE_LANGUAGE = 60.0  # tellings of a source that its language's counts are worth beside its own
_FEW_NAMES = 8.0  # rarity below which the names, or the other words, of a telling are too few for a share
_USUAL = 8.0  # rarity of a word used once in a day of all papers
_MOST_RARITY = 8.0
_PICTURE = 4.5  # one picture, of an agency or a library, is no proof by itself
_A_PICTURE_OF_ITS_OWN = 4  # tellings with one picture; more have a placeholder


class Evidence(NamedTuple):
    """What speaks for and against two tellings of one language being of one story."""

    contained: float  # share of the lesser telling's words that the other has
    names: float  # the same of its names
    both: float  # the geometric mean of that and of the other words' share: who, and what they do
    headlines: float  # share of either headline found in the other telling, the lesser of both
    headline_names: float  # rarity of the names that both headlines have
    cosine: float
    matters: float  # share of matters
    other_matters: float  # 1 if both have matters, and none is shared
    rare_countries: float  # rarity of the countries both name
    countries: float  # share of countries
    days: float  # between them
    unshared: float  # rarity of the countries in one headline that the other never names, the greater of both
    elsewhere: float  # 1 if both headlines name countries, and neither's are named by the other at all


_WEIGHTS = Evidence(
    contained=2.1, names=2.0, both=2.5, headlines=2.3, headline_names=2.0, cosine=2.1, matters=1.2, other_matters=-0.7,
    rare_countries=0.4, countries=2.0, days=-0.3, unshared=-0.2, elsewhere=-0.6,
)  # fmt: skip
_ONE_LANGUAGE = -7.9

# Across languages: cosine of the roots, shared matters, shared rare countries, all countries alike, days between
# them, and the rarity of countries in one headline that the other never names.
_ACROSS, _ROOTS = -8.5, 12.0
_MATTERS, _RARE_COUNTRIES, _COUNTRIES, _DAY = 5.0, 0.9, 3.3, -2.1
_UNSHARED, _ELSEWHERE = -0.4, -6.0


class Corpus:
    """Counts of everything seen; what it weighs is weighed with the counts of that moment."""

    def __init__(self) -> None:
        self._seen: Counter[tuple[str, ...]] = Counter()
        self._words: dict[tuple[str, ...], Counter[str]] = {}
        self._roots: Counter[str] = Counter()
        self._matters: Counter[str] = Counter()
        self._countries: Counter[str] = Counter()
        self._headline_countries: Counter[str] = Counter()
        self._pictures: Counter[str] = Counter()
        self._forget()

    def _forget(self) -> None:
        self._rarities: dict[tuple[str, ...], dict[str, float]] = {}
        self._rare_roots = Looked(partial(self._rare, self._roots))
        self._rare_matters = Looked(partial(self._rare, self._matters))
        self._rare_countries = Looked(partial(self._rare, self._countries))
        self._rare_in_headlines = Looked(partial(self._rare, self._headline_countries))
        self._weighed: dict[tuple[str, bool], _Weighed] = {}
        self._rooted: dict[str, dict[str, float]] = {}

    def add(self, tellings: Iterable[Traits]) -> None:
        """Count *tellings*."""
        self._forget()
        for traits in tellings:
            for group in ((traits.language,), (traits.language, traits.source)):
                self._seen[group] += 1
                self._words.setdefault(group, Counter()).update(traits.words.keys())
            self._seen[()] += 1
            self._roots.update(traits.roots.keys())
            self._matters.update(traits.matters)
            self._countries.update(traits.countries)
            self._headline_countries.update(traits.headline_countries)
            if traits.picture:
                self._pictures[traits.picture] += 1

    @property
    def size(self) -> int:
        """How many tellings were counted."""
        return self._seen[()]

    def rarities(self, traits: Traits, *, in_source: bool = False) -> Mapping[str, float]:
        """How much each word proves between tellings in the language of *traits*, or those of its source."""
        group = (traits.language, traits.source) if in_source else (traits.language,)
        if group not in self._rarities:
            self._rarities[group] = Looked(partial(self._source_rarity if in_source else self._rarity, group))
        return self._rarities[group]

    def _rarity(self, group: tuple[str, ...], word: str) -> float:
        return self._scaled(group, self._share(group, word))

    def _source_rarity(self, group: tuple[str, ...], word: str) -> float:
        usual = self._share(group[:1], word)
        here = self._words[group][word] + _LIKE_THE_LANGUAGE * usual
        return self._scaled(group, max(usual, here / (self._seen[group] + _LIKE_THE_LANGUAGE)))

    def _scaled(self, group: tuple[str, ...], share: float) -> float:
        """The rarity of what a *share* has, as much for a word used once in few tellings as in many."""
        return _USUAL * math.log(share) / math.log(0.5 / (self._seen[group[:1]] + 1))

    def _share(self, group: tuple[str, ...], word: str) -> float:
        return (self._words[group][word] + 0.5) / (self._seen[group] + 1)

    def _rare(self, counts: Counter[str], thing: str) -> float:
        """How much a root, a matter or a country proves among all tellings."""
        return max(0.0, math.log((self.size + 1) / (counts[thing] + 0.5)))

    def points(self, one: Traits, other: Traits) -> float:
        """How sure we are that both tell the same story, from ``OTHER`` to ``SAME``."""
        another_day = one.column and one.column == other.column and one.date != other.date
        if abs(one.at - other.at) > WINDOW or (another_day and one.source == other.source):
            return OTHER
        if one.language == other.language:
            said: float = sum(map(mul, _WEIGHTS, self.evidence(one, other)))
            points = _ONE_LANGUAGE + said
        else:
            points = self._across(one, other)
        if one.picture and one.picture == other.picture:
            points += _PICTURE * (self._pictures[one.picture] <= _A_PICTURE_OF_ITS_OWN)
        return round(max(OTHER, min(SAME, points)), 6)  # whatever the order in which floats were added

    def evidence(self, one: Traits, other: Traits) -> Evidence:
        """What is compared between two tellings of one language."""
        in_source = one.source == other.source
        rarities = self.rarities(one, in_source=in_source)
        a, b = self._weigh(one, in_source), self._weigh(other, in_source)
        shared = names = in_headlines = said_of_one = said_of_other = product = 0.0
        words, others, some_names, other_names = one.words, other.words, one.names, other.names
        for word in words.keys() & others.keys():
            rarity, where, there = rarities[word], words[word], others[word]
            shared += rarity
            product += rarity * rarity * where * there
            if where == HEADLINE:
                said_of_one += rarity
            if there == HEADLINE:
                said_of_other += rarity
            if word in some_names or word in other_names:
                names += rarity
                if where == there == HEADLINE:
                    in_headlines += rarity
        of_names = names / max(_FEW_NAMES, min(a.names, b.names))
        of_others = (shared - names) / max(_FEW_NAMES, min(a.all - a.names, b.all - b.names))
        return Evidence(
            contained=shared / min(a.all, b.all),
            names=of_names,
            both=math.sqrt(of_names * of_others),
            headlines=min(said_of_one / a.headline, said_of_other / b.headline),
            headline_names=in_headlines / _USUAL,
            cosine=product / (a.length * b.length),
            matters=self._shared_matters(one, other),
            other_matters=float(
                bool(one.matters and other.matters) and one.matters.isdisjoint(other.matters)
            ),
            rare_countries=self._shared_countries(one, other),
            countries=_share(one.countries, other.countries),
            days=abs(one.at - other.at),
            unshared=max(self._unshared(one, other), self._unshared(other, one)),
            elsewhere=float(_elsewhere(one, other)),
        )

    def _across(self, one: Traits, other: Traits) -> float:
        """How sure we are across languages."""
        few, many = self._roots_of(one), self._roots_of(other)
        roots = sum(few[root] * many[root] for root in few.keys() & many.keys())
        unshared = self._unshared(one, other) + self._unshared(other, one)
        return (
            _ACROSS
            + _ROOTS * roots
            + _MATTERS * self._shared_matters(one, other)
            + _RARE_COUNTRIES * self._shared_countries(one, other)
            + _COUNTRIES * _share(one.countries, other.countries)
            + _DAY * abs(one.at - other.at)
            + _UNSHARED * unshared
            + _ELSEWHERE * _elsewhere(one, other)
        )

    def _unshared(self, one: Traits, other: Traits) -> float:
        """Rarity of the countries in the headline of *one* that *other* never names."""
        return sum(self._rare_in_headlines[country] for country in one.headline_countries - other.countries)

    def _shared_matters(self, one: Traits, other: Traits) -> float:
        shared = sum(self._rare_matters[matter] for matter in one.matters & other.matters)
        return shared and shared / sum(self._rare_matters[matter] for matter in one.matters | other.matters)

    def _shared_countries(self, one: Traits, other: Traits) -> float:
        return min(
            _MOST_RARITY, sum(self._rare_countries[country] for country in one.countries & other.countries)
        )

    def _weigh(self, traits: Traits, in_source: bool) -> _Weighed:
        key = (traits.url, in_source)
        if key not in self._weighed:
            rarities = self.rarities(traits, in_source=in_source)
            said = headline = squares = 0.0
            for word, where in traits.words.items():
                rarity = rarities[word]
                said += rarity
                squares += rarity * rarity * where * where
                if where == HEADLINE:
                    headline += rarity
            names = sum([rarities[word] for word in traits.names])
            self._weighed[key] = _Weighed(said or 1.0, names, headline or 1.0, math.sqrt(squares) or 1.0)
        return self._weighed[key]

    def _roots_of(self, traits: Traits) -> dict[str, float]:
        """The roots of a telling with their weights, to length 1."""
        if traits.url not in self._rooted:
            roots = {root: weight * self._rare_roots[root] for root, weight in traits.roots.items()}
            length = math.sqrt(sum(weight * weight for weight in roots.values())) or 1.0
            self._rooted[traits.url] = {root: weight / length for root, weight in roots.items()}
        return self._rooted[traits.url]


class _Weighed(NamedTuple):
    """What the words of a telling prove together."""

    all: float
    names: float
    headline: float
    length: float


def _elsewhere(one: Traits, other: Traits) -> bool:
    """Whether both headlines name countries, and neither's are named by the other at all."""
    return bool(
        one.headline_countries
        and other.headline_countries
        and one.headline_countries.isdisjoint(other.countries)
        and other.headline_countries.isdisjoint(one.countries)
    )


def _share(one: frozenset[str], other: frozenset[str]) -> float:
    either = len(one | other)
    return len(one & other) / either if either else 0.0
