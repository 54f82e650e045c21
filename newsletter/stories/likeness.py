"""
How sure we are that two tellings are of one story: points above 0 say yes, below 0 no.

A trait proves the more the rarer it is in its language and, between two tellings of one source, in that source:
what a paper of Kenya says in every headline proves nothing there. The weights are those of a logistic regression
over the tuning halves of ``tests/gold`` and its third day, rounded (``python -m bench.likeness``);
``bench/README.md`` has what they reach. Pairs are compared all at once, as columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from newsletter.stories.traits import (
    HEADLINE,
    STANDFIRST,
    Numbers,
    Table,
    Tellings,
    Weights,
    as_name,
    in_headline,
    weight_of_roots,
)

WINDOW = 3.0
"""Days; further apart, two tellings are not of one story by themselves."""

SAME, OTHER = 5.0, -5.0
"""The most that a single comparison may say."""

_LIKE_THE_LANGUAGE = 60.0  # tellings of a source that its language's counts are worth beside its own
_FEW_NAMES = 8.0  # rarity below which the names, or the other words, of a telling are too few for a share
_USUAL = 8.0  # rarity of a word used once in a day of all papers
_MOST_RARITY = 8.0
_PICTURE = 4.5  # one picture, of an agency or a library, is no proof by itself
_DENSE = 16  # numbers a thing may have unused, so that counting into an array is less work than sorting
_A_PICTURE_OF_ITS_OWN = 4  # tellings with one picture; more have a placeholder


class Evidence(NamedTuple):
    """What speaks for and against two tellings of one language being of one story; a column each."""

    contained: Weights  # share of the lesser telling's words that the other has
    names: Weights  # the same of its names
    both: Weights  # the geometric mean of that and of the other words' share: who, and what they do
    headlines: Weights  # share of either headline found in the other telling, the lesser of both
    headline_names: Weights  # rarity of the names that both headlines have
    cosine: Weights
    matters: Weights  # share of matters
    other_matters: Weights  # 1 if both have matters, and none is shared
    rare_countries: Weights  # rarity of the countries both name
    countries: Weights  # share of countries
    days: Weights  # between them
    unshared: (
        Weights  # rarity of the countries in one headline that the other never names, the greater of both
    )
    elsewhere: Weights  # 1 if both headlines name countries, and neither's are named by the other at all


_WEIGHTS: Mapping[str, float] = {  # in the order of ``Evidence``
    "contained": 2.1, "names": 2.0, "both": 2.5, "headlines": 2.3, "headline_names": 2.0, "cosine": 2.1, "matters": 1.2,
    "other_matters": -0.7, "rare_countries": 0.4, "countries": 2.0, "days": -0.3, "unshared": -0.2, "elsewhere": -0.6,
}  # fmt: skip
_ONE_LANGUAGE = -7.9

# Where both have a vector (``meaning``), how near those are counts most, and the words for less.
_WITH_MEANING: Mapping[str, float] = {
    "contained": 2.2, "names": 1.4, "both": 3.0, "headlines": 2.2, "headline_names": 0.9, "cosine": 2.4, "matters": 0.8,
    "other_matters": -0.1, "rare_countries": 0.2, "countries": 1.3, "days": -0.7, "unshared": -0.2, "elsewhere": -0.8,
}  # fmt: skip
_NEAR, _ONE_LANGUAGE_WITH_MEANING = 5.4, -7.8

# Across languages: cosine of the roots, shared matters, shared rare countries, all countries alike, days between
# them, and the rarity of countries in one headline that the other never names.
_ACROSS, _ROOTS = -8.5, 12.0
_MATTERS, _RARE_COUNTRIES, _COUNTRIES, _DAY = 5.0, 0.9, 3.3, -2.1
_UNSHARED, _ELSEWHERE = -0.4, -6.0


class Likeness:
    """*tellings* weighed by how rare everything is among them."""

    def __init__(self, tellings: Tellings) -> None:
        self._all = tellings
        words = tellings.words
        self._row = np.repeat(np.arange(len(tellings)), np.diff(words.indptr))
        self._head, self._named = in_headline(words), as_name(words)
        self._where = np.where(self._head, HEADLINE, STANDFIRST)
        self.rarity, in_source = self._rarities()
        self._rarity = np.stack([self.rarity, in_source])  # by whether two tellings are of one source
        self._said = _or_one(self._summed(self._rarity))
        self._names = self._summed(self._rarity * self._named)
        self._said_in_headline = _or_one(self._summed(self._rarity * self._head))
        self._length = np.sqrt(_or_one(self._summed((self._rarity * self._where) ** 2)))
        self._entry = _holding(words, np.arange(1.0, len(words.data) + 1))  # 0 would be no entry
        self._one = _holding(words, np.ones(len(words.data)))
        self._matters, self._countries = tellings.matters.astype(float), tellings.countries.astype(float)
        self._headline = tellings.headline_countries.astype(float)
        self._rare_matters, self._rare_countries = self._rare(self._matters), self._rare(self._countries)
        self._rare_headline = self._rare(self._headline)
        self._all_matters, self._all_countries = _total(self._rare_matters), _total(self._countries)
        self._all_headline = _total(self._rare_headline)
        self._has_matters, self._has_headline = _total(self._matters) > 0, _total(self._headline) > 0
        self._roots = self._rare(tellings.roots)
        self._roots.data *= weight_of_roots(tellings.roots)
        self._roots = _to_length_one(self._roots)
        self._pictures = np.bincount(tellings.picture, minlength=1)
        self._has_meaning, self._meaning = tellings.meaning

    def points(self, one: Numbers, other: Numbers) -> Weights:
        """How sure we are that *one* and *other*, rows, tell the same story, from ``OTHER`` to ``SAME``; by pair."""
        t = self._all
        points = np.empty(len(one))
        is_one_language = t.language[one] == t.language[other]
        has_meaning = is_one_language & self._has_meaning[one] & self._has_meaning[other]
        for of_these, compare in (
            (has_meaning, self._by_meaning),
            (is_one_language & ~has_meaning, self._in_one_language),
            (~is_one_language, self._across),
        ):
            if of_these.any():
                points[of_these] = compare(one[of_these], other[of_these])
        picture = t.picture[one]
        points += (
            _PICTURE
            * (picture == t.picture[other])
            * (picture > 0)
            * (self._pictures[picture] <= _A_PICTURE_OF_ITS_OWN)
        )
        is_another_day = (
            (t.column[one] > 0) & (t.column[one] == t.column[other]) & (t.date[one] != t.date[other])
        )
        is_another_day &= t.source[one] == t.source[other]
        points[is_another_day | (np.abs(t.at[one] - t.at[other]) > WINDOW)] = OTHER
        return np.round(points.clip(OTHER, SAME), 6)  # whatever the order in which floats were added

    def near(self, one: Numbers, other: Numbers) -> Weights:
        """The product of the vectors of pairs that have both."""
        near: Weights = np.einsum("ij,ij->i", self._meaning[one], self._meaning[other]).astype(np.float64)
        return np.round(near, 3)  # models differ a little between machines

    def _by_meaning(self, one: Numbers, other: Numbers) -> Weights:
        said = _weighed(_WITH_MEANING, self.evidence(one, other))
        return _ONE_LANGUAGE_WITH_MEANING + _NEAR * self.near(one, other) + said

    def _in_one_language(self, one: Numbers, other: Numbers) -> Weights:
        return _ONE_LANGUAGE + _weighed(_WEIGHTS, self.evidence(one, other))

    def evidence(self, one: Numbers, other: Numbers) -> Evidence:
        """What is compared between pairs of tellings of one language."""
        t = self._all
        mine = self._entry[one].multiply(self._one[other])
        theirs = self._one[one].multiply(self._entry[other])
        mine, theirs = mine.tocsr(), theirs.tocsr()
        pair = np.repeat(np.arange(len(one)), np.diff(mine.indptr))
        a, b = mine.data.astype(np.int64) - 1, theirs.data.astype(np.int64) - 1
        in_source = (t.source[one] == t.source[other]).astype(np.int64)
        rarity = self._rarity[in_source[pair], a]
        is_name = self._named[a] | self._named[b]

        def summed(weights: Weights) -> Weights:
            return np.bincount(pair, weights, minlength=len(one)).astype(float)

        shared, names = summed(rarity), summed(rarity * is_name)
        said = np.stack([self._said[in_source, one], self._said[in_source, other]])
        named = np.stack([self._names[in_source, one], self._names[in_source, other]])
        of_names = names / np.maximum(_FEW_NAMES, named.min(0))
        of_others = (shared - names) / np.maximum(_FEW_NAMES, (said - named).min(0))
        mine_in_headline = summed(rarity * self._head[a]) / self._said_in_headline[in_source, one]
        theirs_in_headline = summed(rarity * self._head[b]) / self._said_in_headline[in_source, other]
        matters = self._shared_matters(one, other)
        have_matters = self._has_matters[one] & self._has_matters[other]
        return Evidence(
            contained=shared / said.min(0),
            names=of_names,
            both=np.sqrt((of_names * of_others).clip(0)),
            headlines=np.minimum(mine_in_headline, theirs_in_headline),
            headline_names=summed(rarity * (is_name & self._head[a] & self._head[b])) / _USUAL,
            cosine=summed(rarity**2 * self._where[a] * self._where[b])
            / (self._length[in_source, one] * self._length[in_source, other]),
            matters=matters,
            other_matters=(have_matters & (matters == 0)).astype(float),
            rare_countries=self._shared_countries(one, other),
            countries=self._countries_alike(one, other),
            days=np.abs(t.at[one] - t.at[other]),
            unshared=np.maximum(self._unshared(one, other), self._unshared(other, one)),
            elsewhere=self._elsewhere(one, other),
        )

    def _across(self, one: Numbers, other: Numbers) -> Weights:
        """How sure we are across languages."""
        at = self._all.at
        points: Weights = (
            _ACROSS
            + _ROOTS * _dot(self._roots, one, self._roots, other)
            + _MATTERS * self._shared_matters(one, other)
            + _RARE_COUNTRIES * self._shared_countries(one, other)
            + _COUNTRIES * self._countries_alike(one, other)
            + _DAY * np.abs(at[one] - at[other])
            + _UNSHARED * (self._unshared(one, other) + self._unshared(other, one))
            + _ELSEWHERE * self._elsewhere(one, other)
        )
        return points

    # --- matters and places -----------------------------------------------------------------------

    def _shared_matters(self, one: Numbers, other: Numbers) -> Weights:
        shared = _dot(self._rare_matters, one, self._matters, other)
        either = self._all_matters[one] + self._all_matters[other] - shared
        return shared / _or_one(either)

    def _shared_countries(self, one: Numbers, other: Numbers) -> Weights:
        """The rarity of the countries both name."""
        shared: Weights = np.minimum(_MOST_RARITY, _dot(self._rare_countries, one, self._countries, other))
        return shared

    def _countries_alike(self, one: Numbers, other: Numbers) -> Weights:
        """The share of the countries of either that both name."""
        shared = _dot(self._countries, one, self._countries, other)
        either = self._all_countries[one] + self._all_countries[other] - shared
        return shared / _or_one(either)

    def _unshared(self, one: Numbers, other: Numbers) -> Weights:
        """Rarity of the countries in the headline of *one* that *other* never names."""
        return self._all_headline[one] - _dot(self._rare_headline, one, self._countries, other)

    def _elsewhere(self, one: Numbers, other: Numbers) -> Weights:
        """Whether both headlines name countries, and neither's are named by the other at all."""
        has: NDArray[np.bool_] = self._has_headline[one] & self._has_headline[other]
        has &= _dot(self._headline, one, self._countries, other) == 0
        has &= _dot(self._headline, other, self._countries, one) == 0
        return has.astype(np.float64)

    # --- rarity -----------------------------------------------------------------------------------

    def _rarities(self) -> tuple[Weights, Weights]:
        """How much each word of each telling proves among those of its language, and among those of its source."""
        t = self._all
        words = t.words.indices
        source = t.source * (t.language.max(initial=0) + 1) + t.language  # a source of two languages has each
        seen = np.bincount(t.language)[t.language][self._row]
        seen_in_source = _times(source)[self._row]
        share = (_times(t.language[self._row], words) + 0.5) / (seen + 1)
        here = _times(source[self._row], words) + _LIKE_THE_LANGUAGE * share
        in_source = np.maximum(share, here / (seen_in_source + _LIKE_THE_LANGUAGE))
        # The rarity of what a share has is as much for a word used once in few tellings as in many.
        scale = _USUAL / np.log(0.5 / (seen + 1))
        return scale * np.log(share), scale * np.log(in_source)

    def _rare(self, table: Table) -> Table:
        """*table* with how much each entry proves among all tellings."""
        times = np.bincount(table.indices, minlength=table.shape[1])
        rarity = np.log((len(self._all) + 1) / (times + 0.5)).clip(0)
        return _holding(table, rarity[table.indices])

    def _summed(self, weights: Weights) -> Weights:
        """Sums by telling, of each row of *weights*."""
        return np.stack([np.bincount(self._row, some, minlength=len(self._all)) for some in weights])


def _weighed(weights: Mapping[str, float], evidence: Evidence) -> Weights:
    points: Weights = np.array(list(weights.values())) @ np.stack(evidence)
    return points


def _times(group: Numbers, thing: Numbers | None = None) -> Numbers:
    """How often each thing stands in its group."""
    key = group if thing is None else group * (np.int64(thing.max(initial=0)) + 1) + thing
    if len(key) and key.max() < _DENSE * len(key):
        return np.bincount(key)[key]
    _, which, times = np.unique(key, return_inverse=True, return_counts=True)
    found: Numbers = times[which]
    return found


def _dot(few: Table, one: Numbers, many: Table, other: Numbers) -> Weights:
    """The product of row *one* of the first and row *other* of the second, for each pair."""
    return _total(few[one].multiply(many[other]))


def _total(table: Table) -> Weights:
    """The sum of each row."""
    total: Weights = np.asarray(table.sum(axis=1), float)
    return total


def _or_one(weights: Weights) -> Weights:
    return np.where(weights > 0, weights, 1.0)


def _holding(table: Table, data: Weights) -> Table:
    """The entries of *table*, with other values."""
    return type(table)((data, table.indices, table.indptr), shape=table.shape)


def _to_length_one(table: Table) -> Table:
    row = np.repeat(np.arange(table.shape[0]), np.diff(table.indptr))
    length = np.sqrt(np.bincount(row, table.data**2, minlength=table.shape[0]))
    return _holding(table, table.data / _or_one(length)[row])
