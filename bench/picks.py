"""
Stories and picks on real days: ``make bench-picks`` prints the table of ``bench/README.md``.

Stories against the gold set (``tests/gold``), ours beside TF-IDF cosine, Jaccard and "newest first"; topics,
regions, promotions; how long 10,000 articles take beside TF-IDF vectorising the same texts once.
"""

from __future__ import annotations

import gc
import random
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from itertools import combinations

from bench.gold import DAYS, FEEDS, GOLD, Gold, Pair, before, load_gold, read_articles, rows, third_day
from newsletter.about import subject_of
from newsletter.articles import Article, Kind, headline_key
from newsletter.catalogue import load_catalogue
from newsletter.picking.picks import Newslist, pick_articles
from newsletter.stories.grouping import Grouping, group
from newsletter.stories.meaning import load_meaning
from tests.builders import ROOT

Stories = dict[str, str]


def by_cosine(articles: Sequence[Article], threshold: float = 0.25) -> Stories:
    """Single links of TF-IDF cosine over headline and standfirst."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectors = TfidfVectorizer(sublinear_tf=True).fit_transform(_texts(articles))
    near = vectors @ vectors.T
    pairs = [(i, j) for i, j in zip(*(near > threshold).nonzero(), strict=True) if i < j]
    return _components(articles, pairs)


def by_jaccard(articles: Sequence[Article], threshold: float = 0.3) -> Stories:
    """Single links of shared headline words."""
    words = [set(headline_key(one.headline).split()) for one in articles]
    pairs = [
        (i, j)
        for i, j in combinations(range(len(articles)), 2)
        if words[i] & words[j] and len(words[i] & words[j]) / len(words[i] | words[j]) > threshold
    ]
    return _components(articles, pairs)


def newest_first(articles: Sequence[Article]) -> Stories:
    """What takes the newest: every article is a story of its own."""
    return {one.url: one.url for one in articles}


def _texts(articles: Sequence[Article]) -> list[str]:
    return [f"{one.headline} {one.standfirst}" for one in articles]


def _components(articles: Sequence[Article], pairs: Sequence[tuple[int, int]]) -> Stories:
    root = list(range(len(articles)))

    def find(one: int) -> int:
        while root[one] != one:
            root[one] = one = root[root[one]]
        return one

    for one, other in pairs:
        root[find(one)] = find(other)
    return {article.url: articles[find(n)].url for n, article in enumerate(articles)}


def measure(gold: Gold, stories: Stories, languages: dict[str, str], half: str) -> dict[str, float]:
    """Pairwise F1, stories found exactly, look-alikes joined and cross-language pairs found, on one half."""
    ours = gold.of(half)
    groups: dict[str, set[str]] = {}
    for url in gold.labels:
        groups.setdefault(stories.get(url, url), set()).add(url)
    joined = {
        pair
        for urls in groups.values()
        for pair in combinations(sorted(urls), 2)
        if pair not in gold.doubtful and not ours.isdisjoint(pair)
    }
    wanted = gold.pairs(half) - gold.doubtful
    right = len(joined & wanted)
    precision, recall = right / (len(joined) or 1), right / len(wanted)
    exact = 0
    for urls in gold.stories(half).values():
        found = {stories.get(url, url) for url in urls}
        more = groups[next(iter(found))] - urls if len(found) == 1 else {""}
        exact += all(any(_pair(url, one) in gold.doubtful for one in urls) for url in more)
    alike = [pair for pair, where in gold.lookalikes.items() if where == half]
    wrong = sum(stories.get(a, a) == stories.get(b, b) for a, b in alike)
    across: list[Pair] = [pair for pair in wanted if languages[pair[0]] != languages[pair[1]]]
    return {
        "F1": 2 * precision * recall / (precision + recall) if right else 0.0,
        "exact": exact / len(gold.stories(half)),
        "look-alikes joined": wrong / len(alike),
        "across languages": sum(pair in joined for pair in across) / len(across) if across else float("nan"),
    }


def _pair(one: str, other: str) -> Pair:
    return (one, other) if one < other else (other, one)


def stories_table() -> None:
    """Ours beside the baselines, on both days and halves."""
    ways: list[tuple[str, Callable[[Sequence[Article]], Stories]]] = [
        ("ours", group), ("TF-IDF cosine", by_cosine), ("Jaccard", by_jaccard), ("newest first", newest_first),
    ]  # fmt: skip
    if meaning := load_meaning():
        ways.insert(1, ("ours, with the extra", partial(group, meaning=meaning)))
    print("| day | half | way | F1 | found exactly | look-alikes joined | across languages |")
    print("|---|---|---|---|---|---|---|")
    for day, now in DAYS.items():
        gold = load_gold(day)
        articles = read_articles(FEEDS, now=datetime.fromisoformat(now))
        languages = {one.url: one.language.split("-")[0] for one in articles}
        for name, way in ways:
            stories = way(articles)
            for half in ("tune", "report"):
                told = measure(gold, stories, languages, half)
                print(
                    f"| {day} | {half} | {name} | {' | '.join(_number(value) for value in told.values())} |"
                )
        _about(day, gold, articles)
    for gold, articles in (third_day(), *before().values()):
        languages = {one.url: one.language.split("-")[0] for one in articles}
        for name, way in ways:
            told = measure(gold, way(articles), languages, "tune")
            print(f"| {gold.day} | tune | {name} | {' | '.join(_number(value) for value in told.values())} |")


def _number(value: float) -> str:
    return "–" if value != value else f"{value:.2f}"


def _about(day: str, gold: Gold, articles: Sequence[Article]) -> None:
    for half in ("tune", "report"):
        labelled = [(one, gold.labels[one.url]) for one in articles if one.url in gold.labels]
        mine = [(one, label) for one, label in labelled if label.half == half]
        region = sum(one.region in label.regions for one, label in mine) / len(mine)
        hit = sum(bool({*one.topics} & {*label.topics}) for one, label in mine) / len(mine)
        first = sum(bool(one.topics) and one.topics[0] in label.topics for one, label in mine) / len(mine)
        kind = sum(one.kind in label.kinds for one, label in mine) / len(mine)
        print(
            f"{day} {half}: region {region:.2f}, topic hit {hit:.2f} (the first {first:.2f}), kind {kind:.2f}"
        )


def promotions() -> None:
    """Promotions recognised, and what only sounds like one."""
    now = datetime.fromisoformat(DAYS["2026-02-17"])
    articles = {one.url: one for one in read_articles(FEEDS, now=now, days=9000)}
    labelled = [
        (articles[row["url"]], row["kind"]) for row in rows(GOLD / "promotions.tsv") if row["url"] in articles
    ]
    found = {one.url for one, _ in labelled if _kind(one) is Kind.PROMO}
    promos = [one for one, kind in labelled if kind == "promo"]
    others = [one for one, kind in labelled if kind != "promo"]
    print(
        f"promotions found {sum(one.url in found for one in promos)} of {len(promos)}, "
        f"mistaken {sum(one.url in found for one in others)} of {len(others)}"
    )


def _kind(article: Article) -> Kind:
    return subject_of(
        article.headline, article.standfirst, categories=article.categories, url=article.url
    ).kind


def many(count: int) -> list[Article]:
    """*count* articles of three days: the real ones, and copies with most of their words exchanged for others'."""
    now = datetime.fromisoformat(DAYS["2026-02-17"])
    real = [
        one for day in DAYS.values() for one in read_articles(FEEDS, now=datetime.fromisoformat(day), days=30)
    ]
    chance = random.Random(7)  # the same articles every time
    words = sorted({word for one in real for word in one.headline.split() if len(word) > 3})
    found: list[Article] = []
    while len(found) < count:
        one = real[len(found) % len(real)]
        turn = len(found) // len(real)
        swap = {
            word: chance.choice(words)
            for word in {*one.headline.split(), *one.standfirst.split()}
            if len(word) > 3 and turn
        }
        found.append(
            replace(
                one, url=f"{one.url}?copy={len(found)}", flags=(), countries=one.countries if not turn else (),
                headline=" ".join(swap.get(word, word) for word in one.headline.split()),
                standfirst=" ".join(swap.get(word, word) for word in one.standfirst.split()),
                published_at=now - timedelta(minutes=chance.randrange(72 * 60)),
            )
        )  # fmt: skip
    return found


def speed(sizes: Sequence[int] = (2_000, 5_000, 10_000, 20_000, 50_000)) -> None:
    """Grouping and nine picks against TF-IDF vectorising the same texts once; the next fetch; memory."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    catalogue = load_catalogue(ROOT / "templates")
    now = datetime.fromisoformat(DAYS["2026-02-17"])
    costs: dict[str, list[tuple[int, float]]] = {}
    print("| articles | TF-IDF, s | grouped, s | nine picked, s | ratio | next 200, s | memory, MB |")
    print("|---|---|---|---|---|---|---|")
    for size in sizes:
        articles = many(size + 200)
        texts = _texts(articles[:size])
        TfidfVectorizer().fit_transform(texts[:100])
        vectorised = min(_timed(lambda texts=texts: TfidfVectorizer().fit_transform(texts)) for _ in range(3))
        grouping = Grouping()
        grouped = _timed(
            lambda grouping=grouping, articles=articles, size=size: grouping.add(articles[:size])
        )
        stories = grouping.stories
        told = [replace(one, story=stories[one.url]) for one in articles[:size]]

        def nine(told: list[Article] = told) -> None:
            newslist = Newslist(told, catalogue.publication)
            for newsletter in catalogue.newsletters:
                since = now - timedelta(hours=newsletter.window_hours)
                pick_articles(newsletter, newslist, now=now, since=since)

        picked = _timed(nine)
        following = _timed(
            lambda grouping=grouping, articles=articles, size=size: grouping.add(articles[size:])
        )
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"| {size:,} | {vectorised:.2f} | {grouped:.2f} | {picked:.2f} | {(grouped + picked) / vectorised:.1f} "
            f"| {following:.2f} ({following / (grouped + picked):.0%}) | {memory:.0f} |"
        )
        named = {
            "grouped": grouped, "nine newsletters picked": picked, "TF-IDF once": vectorised, "the next 200": following
        }  # fmt: skip
        for name, seconds in named.items():
            costs.setdefault(name, []).append((size, seconds))
    plot(costs)


def plot(costs: dict[str, list[tuple[int, float]]]) -> None:
    """Draw seconds against articles into ``bench/picks.svg``; both axes logarithmic."""
    import pygal

    chart = pygal.XY(
        title="Seconds of one core against articles", x_title="articles", logarithmic=True,
        xrange=(1_500, 60_000), width=800, height=500, truncate_legend=-1, legend_at_bottom=True,
        x_labels=sorted({size for points in costs.values() for size, _ in points}), js=[], disable_xml_declaration=True,
        value_formatter=lambda seconds: f"{seconds:.2f}", x_value_formatter=lambda articles: f"{articles:,.0f}",
    )  # fmt: skip
    for name, points in costs.items():
        chart.add(name, points)
    chart.render_to_file(str(ROOT / "bench" / "picks.svg"))


def _timed(work: Callable[[], object]) -> float:
    gc.collect()
    gc.freeze()  # what other measurements left is not looked at again and again
    begun = time.process_time()
    work()
    return time.process_time() - begun


if __name__ == "__main__":
    stories_table()
    promotions()
    speed()
