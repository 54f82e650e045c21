"""
The gold set of ``tests/gold``: reading it, the second reader's sheet, and how far two readers agree.

    python -m bench.gold sheet        the fifth to be labelled again, with its headlines (from ../shared)
    python -m bench.gold agreement    what the two readers agree on
"""

from __future__ import annotations

import csv
import sys
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import combinations
from pathlib import Path
from urllib.parse import urlsplit

from newsletter.articles import Article, Flag
from newsletter.catalogue import load_catalogue
from newsletter.feeds.collect import collect
from newsletter.feeds.stored import load_articles
from newsletter.settings import Settings
from newsletter.store.session import open_store, reading

ROOT = Path(__file__).resolve().parents[1]
GOLD = ROOT / "tests" / "gold"
FEEDS = ROOT.parent / "shared" / "feeds"
DAYS = {"2026-02-17": "2026-02-18T02:20:00+00:00", "2017-01-07": "2017-01-07T16:30:00+00:00"}
"""The labelled days, each with its editorial time."""
THIRD = "2021-09-20T23:59:00+00:00"
"""The end of the two days labelled for stories alone, wholly to tune on."""
BEFORE = {
    "2026-02": DAYS["2026-02-17"], "2017-01": DAYS["2017-01-07"], "2021-09": "2021-09-21T23:59:00+00:00"
}  # fmt: skip
"""What stands before each labelled day (``tests/gold/before``), and when it is read."""

_LATER = {
    "2026-02": GOLD / "2026-02-17.tsv", "2017-01": GOLD / "2017-01-07.tsv", "2021-09": GOLD / "third" / "articles.tsv"
}  # fmt: skip

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Label:
    """What a reader says of an article; the first region, topic and kind is the one meant, the others accepted."""

    url: str
    half: str
    story: str
    regions: tuple[str, ...]
    topics: tuple[str, ...]
    kinds: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Gold:
    """One labelled day; pairs are sorted by URL."""

    day: str
    labels: dict[str, Label]
    lookalikes: dict[Pair, str]
    doubtful: frozenset[Pair]

    def of(self, half: str) -> frozenset[str]:
        """The URLs of one half."""
        return frozenset(url for url, label in self.labels.items() if label.half == half)

    def stories(self, half: str = "") -> dict[str, frozenset[str]]:
        """The stories that more than one article tells, one of them of *half*, by name."""
        found: dict[str, set[str]] = {}
        for label in self.labels.values():
            if label.story:
                found.setdefault(label.story, set()).add(label.url)
        ours = self.of(half) if half else self.labels.keys()
        return {
            name: frozenset(urls)
            for name, urls in found.items()
            if len(urls) > 1 and not urls.isdisjoint(ours)
        }

    def pairs(self, half: str = "") -> set[Pair]:
        """All pairs that tell the same story, one of them of *half*."""
        ours = self.of(half) if half else self.labels.keys()
        return {
            pair
            for urls in self.stories(half).values()
            for pair in combinations(sorted(urls), 2)
            if not ours.isdisjoint(pair)
        }


def rows(path: Path) -> list[dict[str, str]]:
    """The lines of a table, by its heads."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def load_gold(day: str) -> Gold:
    """The labels of one day."""
    labels = {
        row["url"]: Label(
            row["url"], row["half"], row["story"],
            tuple(row["regions"].split()), tuple(row["topics"].split()), tuple(row["kinds"].split()),
        )
        for row in rows(GOLD / f"{day}.tsv")
    }  # fmt: skip
    alike = {
        (row["url"], row["other"]): row["half"] for row in rows(GOLD / "lookalikes.tsv") if row["day"] == day
    }
    doubtful = frozenset(
        (row["url"], row["other"]) for row in rows(GOLD / "doubtful.tsv") if row["day"] == day
    )
    return Gold(day, labels, alike, doubtful)


def read_articles(folder: Path, *, now: datetime, days: float = 5) -> tuple[Article, ...]:
    """What is grouped of the feeds in *folder* at *now*: dated and not older than *days*."""
    with tempfile.TemporaryDirectory() as place:
        engine = open_store(f"sqlite:///{place}/gold.db")
        settings = Settings(_env_file=None)
        collect(
            engine, load_catalogue(ROOT / "templates"), [str(folder)], now=now, settings=settings, base=Path()
        )
        with reading(engine) as session:
            found = load_articles(session, since=now - timedelta(days=days), until=now)
        engine.dispose()
    return tuple(one for one in found if Flag.FIRST_FETCH not in one.flags)


def labelled_articles(day: str) -> tuple[Article, ...]:
    """The articles of a labelled day, in the order of their URLs."""
    known = load_gold(day).labels
    articles = read_articles(FEEDS, now=datetime.fromisoformat(DAYS[day]))
    return tuple(one for one in articles if one.url in known)


def third_day() -> tuple[Gold, tuple[Article, ...]]:
    """The third day, of six papers of one folder, each under its own name."""
    alike = {(row["url"], row["other"]): "tune" for row in rows(GOLD / "third" / "lookalikes.tsv")}
    gold = _stories_alone("2021-09-20", GOLD / "third" / "articles.tsv", alike)
    return gold, _by_paper(read_articles(FEEDS / "series", now=datetime.fromisoformat(THIRD)))


def before() -> dict[str, tuple[Gold, tuple[Article, ...]]]:
    """What stands before the labelled days, by file: the labels, and all that is grouped of that window."""
    alike = rows(GOLD / "before" / "lookalikes.tsv")
    found: dict[str, tuple[Gold, tuple[Article, ...]]] = {}
    for name, now in BEFORE.items():
        pairs = {(row["url"], row["other"]): "tune" for row in alike if row["day"] == name}
        series = name == "2021-09"
        articles = read_articles(FEEDS / "series" if series else FEEDS, now=datetime.fromisoformat(now))
        known = {row["url"] for row in rows(_LATER[name])}
        gold = _stories_alone(name, GOLD / "before" / f"{name}.tsv", pairs, known)
        found[name] = gold, _by_paper(articles) if series else articles
    return found


def _stories_alone(day: str, path: Path, lookalikes: dict[Pair, str], known: Collection[str] = ()) -> Gold:
    """A table of stories and of those an article may belong to, wholly to tune on but for what is *known*."""
    table = rows(path)
    labels = {
        row["url"]: Label(row["url"], "" if row["url"] in known else "tune", row["story"], (), (), ())
        for row in table
    }
    doubtful: set[Pair] = set()
    for one, other in combinations(sorted(table, key=lambda row: row["url"]), 2):
        said = [{row["story"], *row["perhaps"].split()} - {""} for row in (one, other)]
        if not said[0].isdisjoint(said[1]) and not one["story"] == other["story"] != "":
            doubtful.add((one["url"], other["url"]))
    return Gold(day, labels, lookalikes, frozenset(doubtful))


def _by_paper(articles: Sequence[Article]) -> tuple[Article, ...]:
    """The series' articles, whose files are named by day and paper, each under its paper's host."""
    return tuple(replace(one, source=urlsplit(one.url).hostname or "") for one in articles)


def sheet() -> None:
    """Print what the second reader labels, with the headlines the repository must not hold."""
    for day in DAYS:
        articles = {one.url: one for one in labelled_articles(day)}
        for row in rows(GOLD / "second" / "articles.tsv"):
            if row["day"] == day:
                article = articles[row["url"]]
                print(f"{article.url}\n    {article.headline} | {article.standfirst[:200]}")
        for row in rows(GOLD / "second" / "pairs.tsv"):
            if row["day"] == day:
                one, other = articles[row["url"]], articles[row["other"]]
                print(f"{one.url}\t{other.url}\n    {one.headline} | {one.standfirst[:120]}")
                print(f"    {other.headline} | {other.standfirst[:120]}")


def agreement() -> list[tuple[str, int, float, float]]:
    """(what, how many labelled twice, share agreed, Cohen's kappa where the labels are yes and no)."""
    same: list[tuple[bool, bool]] = []
    for row in rows(GOLD / "second" / "pairs.tsv"):
        if row["same"]:
            gold = load_gold(row["day"])
            same.append(((row["url"], row["other"]) in gold.pairs(), row["same"] == "yes"))
    report = [("same story", len(same), _share([a == b for a, b in same]), _kappa(same))]
    for field in ("region", "topics", "kind"):
        told: list[bool] = []
        for row in rows(GOLD / "second" / "articles.tsv"):
            if row[field]:
                label = load_gold(row["day"]).labels[row["url"]]
                first = {"region": label.regions, "topics": label.topics, "kind": label.kinds}[field]
                told.append(bool(set(row[field].split()) & set(first)))
        report.append((field, len(told), _share(told), float("nan")))
    return report


def _share(told: Sequence[bool]) -> float:
    return sum(told) / len(told) if told else float("nan")


def _kappa(pairs: Sequence[tuple[bool, bool]]) -> float:
    if not pairs:
        return float("nan")
    observed = _share([a == b for a, b in pairs])
    yes, other = _share([a for a, _ in pairs]), _share([b for _, b in pairs])
    chance = yes * other + (1 - yes) * (1 - other)
    return (observed - chance) / (1 - chance) if chance < 1 else 1.0


if __name__ == "__main__":
    if sys.argv[1:] == ["sheet"]:
        sheet()
    else:
        for what, n, share, kappa in agreement():
            print(
                f"{what}: {n} labelled twice, {share:.1%} agreed"
                + (f", kappa {kappa:.2f}" if kappa == kappa else "")
            )
