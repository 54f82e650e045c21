"""
How sure we are that two tellings are of one story: points above 0 say yes, below 0 no.

A trait proves the more the rarer it is, among everything, in its language and, between two tellings of one
source, in that source: what a paper of Kenya says in every headline proves nothing there. The points are those of
a logistic regression over the tuning half of ``tests/gold``, rounded; ``bench/README.md`` has what they reach.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from datetime import timedelta

from newsletter.stories.traits import HEADLINE, Traits

WINDOW = timedelta(hours=72)
"""Further apart, two tellings are not of one story by themselves."""

SAME, OTHER = 5.0, -5.0
"""The most that a single comparison may say."""

_ANY, _LANGUAGE, _SOURCE = 0, 1, 2

# In one language.
_CONTAINED = 12.5  # share of the lesser telling's words that the other has
_HEADLINES = 8.0  # share of either headline found in the other telling, the lesser of both
_ONE_LANGUAGE = -7.6
# Across languages.
_ROOTS = 12.0  # cosine of the roots
_ACROSS = -8.5
# In both: shared matters, shared rare countries, all countries alike, days between them, unshared countries.
_MATTERS, _MATTERS_ACROSS = 3.0, 5.0
_RARE_COUNTRIES, _RARE_COUNTRIES_ACROSS = 0.52, 0.9
_ALL_COUNTRIES, _ALL_COUNTRIES_ACROSS = 2.8, 3.3
_DAY, _DAY_ACROSS = -0.7, -2.1
_BOTH_ELSEWHERE, _ONE_ELSEWHERE = -0.4, -0.4
_DISJOINT = -6.0  # both headlines name countries, and neither's are named by the other at all
_MOST_RARITY = 8.0


class Corpus:
    """Counts of everything seen; it grows, and what it weighs is weighed with the counts of that moment."""

    def __init__(self) -> None:
        self._seen: Counter[tuple[str, ...]] = Counter()
        self._counts: dict[tuple[str, ...], Counter[str]] = {}
        self._countries: Counter[str] = Counter()
        self._weighed: dict[tuple[str, int], _Weighed] = {}

    def add(self, traits: Traits) -> None:
        """Count one telling."""
        terms = [
            *traits.words,
            *(f"~{root}" for root in traits.roots),
            *(f"!{matter}" for matter in traits.matters),
        ]
        places = [f"@{country}" for country in traits.countries]
        for group in ((), (traits.language,), (traits.language, traits.source)):
            self._seen[group] += 1
            counts = self._counts.setdefault(group, Counter())
            counts.update(terms)
            counts.update(places)
        self._countries.update(traits.headline_countries)

    @property
    def size(self) -> int:
        """How many tellings were counted."""
        return self._seen[()]

    def rarities(self, terms: Iterable[str], prefix: str, traits: Traits, level: int) -> dict[str, float]:
        """How much each of *terms* proves between tellings that share everything (0), a language (1) or a source (2)."""
        groups: list[tuple[str, ...]] = [()]
        if level >= _LANGUAGE and prefix != "@":
            groups.append((traits.language,))
        if level >= _SOURCE:
            groups.append((traits.language, traits.source))
        (total, counts), *others = [(self._seen[group] + 1, self._counts[group]) for group in groups]
        found: dict[str, float] = {}
        for term in terms:
            key = prefix + term
            odds = total / (counts.get(key, 0) + 0.5)
            for some, in_them in others:
                odds = min(odds, some / (in_them.get(key, 0) + 0.5))
            found[term] = math.log(odds) if odds > 1.0 else 0.0
        return found

    def substance(self, traits: Traits) -> float:
        """How much the words of a telling prove together, within its language."""
        return self._weigh(traits, _LANGUAGE).all_words

    def points(self, one: Traits, other: Traits) -> float:
        """How sure we are that both tell the same story, from ``OTHER`` to ``SAME``."""
        apart = abs(one.at - other.at)
        if apart > WINDOW:
            return OTHER
        if one.picture and one.picture == other.picture:
            return SAME
        alike = one.language == other.language
        level = _ANY if not alike else _SOURCE if one.source == other.source else _LANGUAGE
        a, b = self._weigh(one, level), self._weigh(other, level)
        days = apart / timedelta(days=1)
        matters, rare, every = _matters(a, b), _rare_countries(a, b), _share(one.countries, other.countries)
        points = self._elsewhere(one, other)
        if alike:
            contained = sum(a.words[word] for word in a.words.keys() & b.words.keys())
            contained /= min(a.all_words, b.all_words) or 1.0
            points += _ONE_LANGUAGE + _CONTAINED * contained + _HEADLINES * min(_said(a, b), _said(b, a))
            points += _MATTERS * matters + _RARE_COUNTRIES * rare + _ALL_COUNTRIES * every + _DAY * days
        else:
            roots = sum(a.roots[root] * b.roots[root] for root in a.roots.keys() & b.roots.keys())
            points += _ACROSS + _ROOTS * roots + _MATTERS_ACROSS * matters + _RARE_COUNTRIES_ACROSS * rare
            points += _ALL_COUNTRIES_ACROSS * every + _DAY_ACROSS * days
        return max(OTHER, min(SAME, points))

    def _elsewhere(self, one: Traits, other: Traits) -> float:
        """What countries in the headline of one, which the other never names, speak against."""
        sizes = [
            sum(
                max(0.0, math.log((self.size + 1) / (self._countries[country] + 0.5)))
                for country in a.headline_countries - b.countries
            )
            for a, b in ((one, other), (other, one))
        ]
        disjoint = (
            one.headline_countries
            and other.headline_countries
            and not one.headline_countries & other.countries
            and not other.headline_countries & one.countries
        )
        points = _BOTH_ELSEWHERE * min(sizes) + _ONE_ELSEWHERE * max(sizes)
        return points + _DISJOINT if disjoint else points

    def _weigh(self, traits: Traits, level: int) -> _Weighed:
        key = (traits.url, level)
        if key not in self._weighed:
            self._weighed[key] = _Weighed(self, traits, level)
        return self._weighed[key]


class _Weighed:
    """A telling with what each of its traits proves at one level."""

    __slots__ = ("all_words", "countries", "headline", "headline_words", "matters", "roots", "words")

    def __init__(self, corpus: Corpus, traits: Traits, level: int) -> None:
        self.words = corpus.rarities(traits.words, "", traits, level) if level else {}
        self.all_words = sum(self.words.values())
        self.headline_words = [word for word in self.words if traits.words[word] == HEADLINE]
        self.headline = sum(self.words[word] for word in self.headline_words) or 1.0
        self.matters = corpus.rarities(traits.matters, "!", traits, level)
        self.countries = corpus.rarities(traits.countries, "@", traits, level)
        self.roots: dict[str, float] = {}
        if level == _ANY:
            rare = corpus.rarities(traits.roots, "~", traits, level)
            roots = {root: weight * rare[root] for root, weight in traits.roots.items()}
            length = math.sqrt(sum(weight * weight for weight in roots.values())) or 1.0
            self.roots = {r: weight / length for r, weight in roots.items()}


def _said(one: _Weighed, other: _Weighed) -> float:
    """Share of one's headline that the other says somewhere."""
    return sum(one.words[word] for word in one.headline_words if word in other.words) / one.headline


def _matters(one: _Weighed, other: _Weighed) -> float:
    shared = sum(one.matters[matter] for matter in one.matters.keys() & other.matters.keys())
    either = {**one.matters, **other.matters}
    return shared / (sum(either.values()) or 1.0)


def _rare_countries(one: _Weighed, other: _Weighed) -> float:
    shared = sum(one.countries[country] for country in one.countries.keys() & other.countries.keys())
    return min(_MOST_RARITY, shared)


def _share(one: frozenset[str], other: frozenset[str]) -> float:
    either = one | other
    return len(one & other) / len(either) if either else 0.0
