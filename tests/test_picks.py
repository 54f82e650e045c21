"""The choice: rules kept, reasons given, order of input without meaning."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from newsletter.articles import Article, Flag, Image, Kind, Rights, Topic
from newsletter.catalogue import Newsletter, Publication
from newsletter.picking.picks import Newslist, Order, Picks, pick_articles

NOW = datetime(2026, 11, 20, 4, 0, tzinfo=UTC)

PUBLICATION = Publication.model_validate(
    {
        "name": "The Parallel", "url": "https://www.theparallel.example", "postal_address": "Here",
        "sender": {"name": "P", "email": "p@theparallel.example"}, "timezone": "Europe/Paris",
        "plans": [{"id": "free", "name": "Free", "class": "free"}],
        "feeds": [{"id": "strong", "url": "https://strong.example/feed", "weight": 2.0}],
    }
)  # fmt: skip


def a_newsletter(**fields: object) -> Newsletter:
    """A newsletter with a lead and up to three briefs; *fields* replace single ones."""
    values: dict[str, object] = {
        "slug": "daily", "name": "Daily", "subject": "s", "preheader": "p", "window_hours": 24, "min_stories": 2,
        "schedule": {"days": ["mon"], "at": "06:30"},
        "sections": [
            {"id": "lead", "block": "lead", "topics": ["politics"], "min": 1, "max": 1},
            {"id": "briefs", "block": "briefs", "min": 1, "max": 3, "per_source": 2, "per_country": 2},
        ],
        **fields,
    }  # fmt: skip
    return Newsletter.model_validate(values)


def an_article(number: int, **fields: object) -> Article:
    """An article that fits anywhere; its headline is like no other's."""
    words = (
        "harbour",
        "violin",
        "granite",
        "lantern",
        "orchard",
        "comet",
        "thistle",
        "saffron",
        "glacier",
        "pelican",
    )
    values: dict[str, object] = {
        "url": f"https://news.example/{number:03}", "source": f"paper-{number % 4}",
        "headline": f"{words[number % 10]} {words[(number * 7 + 3) % 10]} number {number} and {words[(number // 10) % 10]} {number * 37}",
        "published_at": NOW - timedelta(hours=1 + number % 20), "first_seen_at": NOW, "language": "en",
        "topics": (Topic.POLITICS,), "standfirst": "A sentence.", **fields,
    }  # fmt: skip
    return Article(**values)  # type: ignore[arg-type]  # a builder takes what the dataclass takes


def choose(articles: list[Article], newsletter: Newsletter | None = None, **options: object) -> Picks:
    """Pick with a window of a day."""
    given_options: dict[str, object] = {"now": NOW, "since": NOW - timedelta(hours=24), **options}
    return pick_articles(newsletter or a_newsletter(), Newslist(articles, PUBLICATION), **given_options)  # type: ignore[arg-type]


def reasons_of(picks: Picks, url: str) -> str:
    """Why *url* was dropped."""
    return "; ".join(next(drop.reasons for drop in picks.dropped if drop.article.url == url))


articles_strategy = st.lists(
    st.builds(
        an_article,
        st.integers(0, 60),
        source=st.sampled_from(["a", "b", "c"]),
        countries=st.sampled_from([(), ("FR",), ("JP",), ("FR", "JP")]),
        topics=st.sampled_from([(), (Topic.POLITICS,), (Topic.SPORT, Topic.CULTURE), (Topic.CULTURE,)]),
        published_at=st.integers(-30, 30).map(lambda hours: NOW + timedelta(hours=hours)),
        kind=st.sampled_from([Kind.NEWS, Kind.PROMO, Kind.ANALYSIS]),
    ),
    unique_by=lambda article: article.url,
    max_size=25,
)


@given(articles=articles_strategy, seed=st.randoms(use_true_random=False))
@settings(max_examples=60)
def test_the_order_of_input_changes_nothing(articles: list[Article], seed: object) -> None:
    """A permutation of the input gives the same picks and drops."""
    shuffled = list(articles)
    seed.shuffle(shuffled)  # type: ignore[attr-defined]  # a random.Random

    assert choose(articles) == choose(shuffled)


@given(articles=articles_strategy)
@settings(max_examples=60)
def test_every_article_is_accounted_for_with_a_reason(articles: list[Article]) -> None:
    """Each article is picked once or dropped once, and says why."""
    picks = choose(articles)

    told = [pick.article.url for pick in picks.picked] + [drop.article.url for drop in picks.dropped]
    assert sorted(told) == sorted(article.url for article in articles)
    assert all(pick.reasons for pick in picks.picked)
    assert all(drop.reasons and all(drop.reasons) for drop in picks.dropped)


@given(articles=articles_strategy)
@settings(max_examples=60)
def test_caps_are_never_broken(articles: list[Article]) -> None:
    """No section holds more than its maximum, per source or per country."""
    briefs = choose(articles).of("briefs")

    assert len(briefs) <= 3
    for source in {pick.article.source for pick in briefs}:
        assert sum(pick.article.source == source for pick in briefs) <= 2
    for country in {pick.article.country for pick in briefs} - {""}:
        assert sum(pick.article.country == country for pick in briefs) <= 2


@given(articles=articles_strategy, number=st.integers(0, 24))
@settings(max_examples=60)
def test_pins_are_always_in_and_drops_never(articles: list[Article], number: int) -> None:
    """An editor's word beats every rule."""
    if not articles:
        return
    chosen = articles[number % len(articles)].url

    pinned = choose(articles, orders=[Order("pin", chosen, section="briefs", actor="mia")])
    every = choose(articles, orders=[Order("pin", one.url, section="briefs") for one in articles])
    dropped = choose(articles, orders=[Order("drop", chosen, actor="mia", reason="stale")])

    assert pinned.of("briefs")[0].article.url == chosen
    assert pinned.of("briefs")[0].pinned
    assert [pick.article.url for pick in every.picked] == [article.url for article in articles]
    assert chosen not in {pick.article.url for pick in dropped.picked}
    assert reasons_of(dropped, chosen) == "drop by mia: stale"


def test_what_must_not_run_is_dropped_with_its_reason() -> None:
    """Future, too old, undated on a first fetch, sent before, never-kinds: each is told apart."""
    cases = {
        "future": an_article(1, published_at=NOW + timedelta(hours=2), flags=(Flag.FUTURE,)),
        "older than Daily looks back": an_article(2, published_at=NOW - timedelta(hours=30)),
        "first fetch": an_article(3, flags=(Flag.UNDATED, Flag.FIRST_FETCH)),
        "ran in the edition of 2026-11-19": an_article(4),
        "is a promo piece": an_article(5, kind=Kind.PROMO),
        "no headline": an_article(6, headline=""),
        "known before the last edition closed": an_article(
            7, published_at=NOW - timedelta(hours=20), first_seen_at=NOW - timedelta(hours=19)
        ),
    }
    sent = {cases["ran in the edition of 2026-11-19"].url: "the edition of 2026-11-19"}

    picks = choose(list(cases.values()), sent=sent, since=NOW - timedelta(hours=10))

    assert picks.picked == ()
    for reason, article in cases.items():
        assert reason in reasons_of(picks, article.url)


def test_what_a_source_published_late_is_not_lost() -> None:
    """Published before the last edition closed but seen only after it: it still can run."""
    late = an_article(1, published_at=NOW - timedelta(hours=20), first_seen_at=NOW - timedelta(hours=1))

    picks = choose([late], since=NOW - timedelta(hours=10))

    assert [pick.article.url for pick in picks.picked] == [late.url]


def test_the_same_headline_runs_once() -> None:
    """Exact and near-same headlines of one language go once: the better telling stays."""
    first = an_article(1, headline="Court orders the river to be counted as a neighbour", source="strong")
    same = replace(first, url="https://other.example/a", source="paper-9")
    near = replace(
        first,
        url="https://other.example/b",
        headline="Court orders river to be counted as neighbour",
        source="paper-8",
    )
    other_language = replace(same, url="https://other.example/c", language="fr")

    picks = choose([near, same, other_language, first])

    assert {pick.article.url for pick in picks.picked} == {first.url, other_language.url}
    assert "the same headline as a better placed story" in reasons_of(picks, same.url)
    assert "% alike as a better placed story" in reasons_of(picks, near.url)


def test_a_short_headline_is_not_near_another() -> None:
    """Two different briefs named in three words are not taken for one."""
    picks = choose([an_article(1, headline="Morning in Lagos"), an_article(2, headline="Morning in Laos")])

    assert len(picks.picked) == 2


def test_minimums_come_before_maximums() -> None:
    """A later section gets its minimum before an earlier one is filled to its maximum."""
    newsletter = a_newsletter(
        sections=[
            {"id": "first", "block": "briefs", "min": 1, "max": 5},
            {"id": "second", "block": "briefs", "min": 2, "max": 5},
        ]
    )

    picks = choose([an_article(1), an_article(2), an_article(3)], newsletter)

    assert (len(picks.of("first")), len(picks.of("second"))) == (1, 2)
    assert picks.shortfalls == ()


def test_a_thin_day_is_said_in_words() -> None:
    """What is missing is named: the edition's minimum and each section's."""
    picks = choose([an_article(1, topics=(Topic.CULTURE,))])

    assert picks.shortfalls == ("1 of at least 2 stories", "lead has 0 of at least 1")


def test_pictures_need_rights() -> None:
    """A picture section takes only what we may show."""
    newsletter = a_newsletter(
        min_stories=1, sections=[{"id": "p", "block": "picture", "with_picture": True, "max": 3}]
    )
    image = Image("https://media.example/1.jpg")

    picks = choose([an_article(1, image=image), an_article(2, image=image, rights=Rights.OWN)], newsletter)

    assert [pick.article.url for pick in picks.picked] == ["https://news.example/002"]


def test_an_edit_changes_the_words_of_one_edition() -> None:
    """An editor's headline replaces the feed's."""
    order = Order("edit", "https://news.example/001", fields={"headline": "Better words for the same thing"})

    picks = choose([an_article(1)], orders=[order])

    assert picks.picked[0].article.headline == "Better words for the same thing"
