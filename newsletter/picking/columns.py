"""
What the articles of a newslist are compared by before any is weighed: a column for each trait.

A trait has few values, so that what a section asks, or what a trait weighs, is worked out once for each value and
then looked up for all articles together.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from newsletter.articles import Article

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

TRAITS: Mapping[str, Callable[[Article], Hashable]] = {
    "source": lambda one: one.source,
    "topics": lambda one: one.topics,
    "region": lambda one: one.region,
    "language": lambda one: one.language.partition("-")[0],
    "kind": lambda one: one.kind,
    "rights": lambda one: one.rights,
    "picture": lambda one: one.image is not None,
    "translated": lambda one: bool(one.translated_from),
}
"""What sections ask of an article, its age and its categories apart."""


class Column:
    """One trait of each article: the values there are, and which of them each has."""

    def __init__(self, told: Iterable[Hashable]) -> None:
        places: dict[Hashable, int] = {}
        self._places = np.array([places.setdefault(one, len(places)) for one in told], np.int32)
        self._values = list(places)

    def weighed(self, worth: Callable[[Any], float]) -> Floats:
        """What *worth* says of each."""
        return np.array([worth(one) for one in self._values], np.float64)[self._places]

    def where(self, holds: Callable[[Any], bool]) -> Flags:
        """For which of them *holds* is true."""
        return np.array([holds(one) for one in self._values], np.bool_)[self._places]


class Columns:
    """
    *articles* in columns, a row each.

    *carried* is what their stories have (``weighing.carried``). *published* and *came* (when it was published, or first seen if that was later) are seconds, as
    ``datetime.timestamp`` tells them.
    """

    def __init__(self, articles: Sequence[Article], carried: Iterable[Hashable]) -> None:
        self.traits = {name: Column(map(told, articles)) for name, told in TRAITS.items()}
        self.has_standfirst = np.array([bool(one.standfirst) for one in articles], np.bool_)
        self.carried = Column(carried)
        self.published = np.array([one.published_at.timestamp() for one in articles], np.float64)
        seen = np.array([one.first_seen_at.timestamp() for one in articles], np.float64)
        self.came = np.maximum(self.published, seen)

    def hours_old(self, now: datetime) -> Floats:
        """How old each is at *now*; 0 if it is from the future."""
        return np.maximum(0.0, (now.timestamp() - self.published) / 3600)
