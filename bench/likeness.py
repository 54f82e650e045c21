"""
The weights of ``newsletter/stories/likeness.py``, fitted: ``python -m bench.likeness`` (needs ../shared).

A logistic regression over labelled pairs of one language, a story's pairs weighing as much as its tellings. Each
year's days are also left out once and ranked by the weights of the others, which is the number to believe.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import combinations

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from bench.gold import DAYS, FEEDS, Gold, before, load_gold, read_articles, third_day
from newsletter.articles import Article
from newsletter.stories.likeness import WINDOW, Evidence, Likeness
from newsletter.stories.meaning import Meaning, load_meaning
from newsletter.stories.traits import Tellings

_LITTLE_IN_COMMON = 0.02  # share of words; with less nobody compares two tellings
_PENALTY = 2.0

Pairs = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Evidence, whether it is one story, and weight of each pair."""


def pairs_of(gold: Gold, articles: Sequence[Article], meaning: Meaning | None = None) -> Pairs:
    """The pairs of one language with a telling of the tuning half; with *meaning*, how near their vectors are too."""
    articles = sorted(articles, key=lambda one: one.url)
    tellings = Tellings()
    tellings.add(articles, meaning.of(articles) if meaning else ())
    row = {url: at for at, url in enumerate(tellings.urls)}
    ours, same = gold.of("tune"), gold.pairs("tune")
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
    if meaning:
        has_meaning, _ = tellings.meaning
        compared &= has_meaning[one] & has_meaning[other]
    likeness = Likeness(tellings)
    columns = [*likeness.evidence(one[compared], other[compared])]
    if meaning:
        columns.append(likeness.near(one[compared], other[compared]))
    evidence = np.stack(columns, axis=1)
    is_same = np.array([pair in same for pair in pairs])[compared]
    weight = np.array([2 / size[pair[0]] if pair in same else 1.0 for pair in pairs])[compared]
    worth = evidence[:, Evidence._fields.index("contained")] > _LITTLE_IN_COMMON
    return evidence[worth], is_same[worth], weight[worth]


def fitted(days: Sequence[Pairs]) -> LogisticRegression:
    """The regression over *days*."""
    evidence, same, weights = (np.concatenate(column) for column in zip(*days, strict=True))
    return LogisticRegression(C=_PENALTY, max_iter=5000).fit(evidence, same, sample_weight=weights)


def fit(meaning: Meaning | None) -> None:
    """Print the weights, and how well each time is ranked by those of the others."""
    times: dict[str, list[Pairs]] = {
        day[:4]: [pairs_of(load_gold(day), read_articles(FEEDS, now=datetime.fromisoformat(now)), meaning)]
        for day, now in DAYS.items()
    }
    times["2021"] = [pairs_of(*third_day(), meaning)]
    for name, (gold, articles) in before().items():
        times[name[:4]].append(pairs_of(gold, articles, meaning))
    for time, mine in times.items():
        others = fitted([pairs for name, some in times.items() if name != time for pairs in some])
        evidence, same, weights = (np.concatenate(column) for column in zip(*mine, strict=True))
        ranked = average_precision_score(same, others.decision_function(evidence), sample_weight=weights)
        print(f"{time} by the others: average precision {ranked:.2f} over {len(same)} pairs")
    model = fitted([pairs for some in times.values() for pairs in some])
    names = [*Evidence._fields, *(["near"] if meaning else [])]
    print(", ".join(f"{name}={weight:.1f}" for name, weight in zip(names, model.coef_[0], strict=True)))
    print(f"{model.intercept_[0]:.1f}, to which the joining adds what it can bear")


def main() -> None:
    """Fit the words alone, and with the vectors of the extra where that is installed."""
    fit(None)
    if meaning := load_meaning():
        print("with the extra:")
        fit(meaning)


if __name__ == "__main__":
    main()
