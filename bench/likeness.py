"""
The weights of ``newsletter/stories/likeness.py``, fitted: ``python -m bench.likeness`` (needs ../shared).

A logistic regression over labelled pairs of one language, a story's pairs weighing as much as its tellings. Each
day is also left out once and ranked by the weights of the others, which is the number to believe.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import combinations

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from bench.gold import DAYS, FEEDS, Gold, load_gold, read_articles, third_day
from newsletter.articles import Article
from newsletter.stories.likeness import WINDOW, Evidence, Likeness
from newsletter.stories.traits import Tellings

_LITTLE_IN_COMMON = 0.02  # share of words; with less nobody compares two tellings
_PENALTY = 2.0

Pairs = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Evidence, whether it is one story, and weight of each pair."""


def pairs_of(gold: Gold, articles: Sequence[Article]) -> Pairs:
    """The pairs of one language with a telling of the tuning half."""
    tellings = Tellings()
    tellings.add(sorted(articles, key=lambda one: one.url))
    row = {url: at for at, url in enumerate(tellings.urls)}
    ours = {url for url, label in gold.labels.items() if label.half == "tune"}
    same = gold.pairs("tune")
    size = {url: len(urls) for urls in gold.stories("tune").values() for url in urls}
    pairs = [
        pair
        for pair in combinations(sorted(gold.labels), 2)
        if not ours.isdisjoint(pair) and pair not in gold.doubtful
    ]
    one, other = np.array([(row[a], row[b]) for a, b in pairs]).T
    compared = (tellings.language[one] == tellings.language[other]) & (
        np.abs(tellings.at[one] - tellings.at[other]) <= WINDOW
    )
    evidence = np.stack(Likeness(tellings).evidence(one[compared], other[compared]), axis=1)
    is_same = np.array([pair in same for pair in pairs])[compared]
    weight = np.array([2 / size[pair[0]] if pair in same else 1.0 for pair in pairs])[compared]
    worth = evidence[:, Evidence._fields.index("contained")] > _LITTLE_IN_COMMON
    return evidence[worth], is_same[worth], weight[worth]


def fitted(days: Sequence[Pairs]) -> LogisticRegression:
    """The regression over *days*."""
    evidence, same, weights = (np.concatenate(column) for column in zip(*days, strict=True))
    return LogisticRegression(C=_PENALTY, max_iter=5000).fit(evidence, same, sample_weight=weights)


def main() -> None:
    """Print the weights, and how well each day is ranked by those of the others."""
    days = {
        day: pairs_of(load_gold(day), read_articles(FEEDS, now=datetime.fromisoformat(now)))
        for day, now in DAYS.items()
    }
    days["third"] = pairs_of(*third_day())
    for day, (evidence, same, weights) in days.items():
        others = fitted([pairs for name, pairs in days.items() if name != day])
        ranked = average_precision_score(same, others.decision_function(evidence), sample_weight=weights)
        print(f"{day} by the others: average precision {ranked:.2f} over {len(same)} pairs")
    model = fitted(list(days.values()))
    print(
        ", ".join(
            f"{name}={weight:.1f}" for name, weight in zip(Evidence._fields, model.coef_[0], strict=True)
        )
    )
    print(f"{model.intercept_[0]:.1f}, to which the joining adds what it can bear")


if __name__ == "__main__":
    main()
