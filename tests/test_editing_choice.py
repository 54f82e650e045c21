"""The choice as an editor's: one telling a story, weight by who carries it, no repetition, no surprise in the nine."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from newsletter.articles import Article, Image, Kind, Region, Rights, Topic
from newsletter.catalogue import Weights, read_weights
from newsletter.errors import CatalogueError
from newsletter.picking.fitting import moved_on
from newsletter.picking.liking import Liking
from newsletter.picking.picks import Elsewhere, Newslist, Order, Ran, pick_articles
from newsletter.picking.weighing import most_reader_points, reader_points, stories_of, total
from tests.test_picks import NOW, PUBLICATION, a_newsletter, an_article, choose, reasons_of


def of_story(story: str, numbers: list[int], **fields: object) -> list[Article]:
    """Tellings of one story by different papers."""
    return [
        an_article(n, story=story, url=f"https://paper-{n}.example/{n}", source=f"paper-{n}", **fields)
        for n in numbers
    ]


def urls(articles: list[Article]) -> set[str]:
    """Their addresses."""
    return {article.url for article in articles}


def test_a_story_is_told_once_by_the_best_telling() -> None:
    """Of five tellings the one in our language, ours, with a standfirst runs; the others say which."""
    french = of_story("s", [1], language="fr")
    plain = of_story("s", [2, 3, 4], standfirst="")
    ours = of_story("s", [5], rights=Rights.OWN, body="<p>Text</p>")
    newsletter = a_newsletter(languages_preferred=["en"])

    picks = choose([*french, *plain, *ours], newsletter)

    assert [pick.article.url for pick in picks.picked] == [ours[0].url]
    for one in [*french, *plain]:
        assert "tells the same story as https://paper-5.example/5" in reasons_of(picks, one.url)


def test_what_many_papers_carry_leads_and_a_house_counts_once() -> None:
    """Coverage counts independent publishers: four desks of one house are one paper."""
    carried = of_story("many", [1, 2, 3, 4], published_at=NOW - timedelta(hours=9))
    house = [
        an_article(n, story="house", url=f"https://desk{n}.giant.example/{n}", source=f"desk-{n}",
                   published_at=NOW - timedelta(hours=9))
        for n in (11, 12, 13, 14)
    ]  # fmt: skip
    single = [an_article(21, published_at=NOW - timedelta(hours=9), story="single")]

    picks = choose([*single, *house, *carried])

    assert picks.of("lead")[0].article.url in urls(carried)
    assert any("4 papers carry it" in reason for reason in picks.of("lead")[0].reasons)
    assert len(stories_of(house, PUBLICATION)["house"].papers) == 1


def test_a_grave_story_with_a_single_report_is_not_lost() -> None:
    """An earthquake that one paper reports goes before chatter that three carry."""
    quake = an_article(
        1, headline="Earthquake kills hundreds as war rages on", story="q", topics=(Topic.DISASTER,)
    )
    chatter = of_story("c", [2, 3], topics=(Topic.CULTURE,), published_at=NOW - timedelta(hours=20))
    newsletter = a_newsletter(sections=[{"id": "one", "block": "lead", "min": 1, "max": 1}], min_stories=1)

    assert [pick.article.url for pick in choose([*chatter, quake], newsletter).picked] == [quake.url]


def test_an_edition_spreads_over_the_world() -> None:
    """Of stories that weigh about the same, the next is from where none was yet."""
    europe = [
        an_article(
            n, region=Region.EUROPE, countries=("FR",), source=f"e{n}", published_at=NOW - timedelta(hours=2)
        )
        for n in range(6)
    ]
    africa = [
        an_article(
            10, region=Region.AFRICA, countries=("KE",), source="k", published_at=NOW - timedelta(hours=4)
        )
    ]
    newsletter = a_newsletter(sections=[{"id": "briefs", "block": "briefs", "min": 1, "max": 3}])

    picks = choose([*europe, *africa], newsletter)

    assert africa[0].url in {pick.article.url for pick in picks.picked}
    reasons = [reason for pick in picks.picked for reason in pick.reasons]
    assert any("from Europe already (-" in reason for reason in reasons)
    assert any("from France already (-" in reason for reason in reasons)


def test_two_looks_at_one_affair_do_not_stand_together() -> None:
    """What is between the same countries and on the same topic as a pick gives way to something else, and it is said."""
    talks = [an_article(n, countries=("IR", "US"), region=Region.MIDDLE_EAST, source=f"t{n}") for n in (1, 2)]
    other = an_article(9, source="o", published_at=NOW - timedelta(hours=9), topics=(Topic.CULTURE,))
    newsletter = a_newsletter(sections=[{"id": "briefs", "block": "briefs", "min": 1, "max": 2}])

    picks = choose([*talks, other], newsletter)

    assert other.url in {pick.article.url for pick in picks.picked}
    (left,) = picks.dropped
    assert "1 between the same countries already (-1.0)" in left.points


def test_what_lost_says_with_how_many_points() -> None:
    """The points of a drop add up to those it was outranked at, beside what the edition has at its end."""
    newsletter = a_newsletter(
        sections=[{"id": "briefs", "block": "briefs", "min": 1, "max": 2}], min_stories=1
    )

    picks = choose([an_article(n, source=f"s{n}", countries=("FR",)) for n in range(5)], newsletter)

    for drop in picks.dropped:
        assert drop.reasons == (f"briefs: outranked at {drop.score:.1f} points",)
        added = sum(float(one.rpartition("(")[2].rstrip(")")) for one in drop.points if one.endswith(")"))
        assert abs(added - drop.score) <= 0.05 * len(drop.points)
        assert "2 from France already (-1.2)" in drop.points


def test_a_topic_has_its_cap() -> None:
    """No section holds more of one main topic than it may."""
    newsletter = a_newsletter(sections=[{"id": "b", "block": "briefs", "min": 1, "max": 5, "per_topic": 2}])

    picks = choose([an_article(n, source=f"s{n}") for n in range(5)], newsletter)

    assert len(picks.picked) == 2
    assert any("already 2 about politics" in reason for drop in picks.dropped for reason in drop.reasons)


def test_what_leads_one_newsletter_does_not_lead_another_of_the_same_readers() -> None:
    """Many common readers: not at all; some: not as lead; few: also as lead."""
    lead, other = of_story("a", [1, 2, 3, 4]), of_story("b", [11], published_at=NOW - timedelta(hours=15))
    filler = of_story("c", [12], topics=(Topic.CULTURE,), published_at=NOW - timedelta(hours=18))

    def places(shared: float) -> set[tuple[str, str]]:
        elsewhere = [Elsewhere("a", "Morning", lead=True, shared=shared)]
        return {
            (pick.section, pick.article.story)
            for pick in choose([*lead, *other, *filler], elsewhere=elsewhere).picked
        }

    assert places(0.6) == {("lead", "b"), ("briefs", "c")}
    assert places(0.1) == {("lead", "b"), ("briefs", "a"), ("briefs", "c")}
    assert ("lead", "a") in places(0.01)


def test_a_thin_day_may_share_a_lead_rather_than_be_empty() -> None:
    """What other newsletters tell fills a minimum that nothing else fills, and it is said."""
    picks = choose(of_story("a", [1, 2]), elsewhere=[Elsewhere("a", "Morning", lead=True, shared=0.9)])

    (lead,) = picks.of("lead")
    assert lead.article.story == "a"
    assert any("90% of the readers get it in Morning" in reason for reason in lead.reasons)


def test_a_story_does_not_run_again_unless_it_has_moved_on() -> None:
    """The same told anew stays out; a new matter in new words comes in and says that it is an update."""
    before = Ran("the edition of 2026-11-19", "Ferry sinks off the coast", NOW - timedelta(hours=30))
    old = an_article(
        1, story="f", headline="Ferry sinks off the coast", published_at=NOW - timedelta(hours=31)
    )
    same = an_article(2, story="f", headline="Ferry sinks off coast", published_at=NOW - timedelta(hours=2))
    news = an_article(
        3, story="f", headline="Minister resigns over safety checks", published_at=NOW - timedelta(hours=1)
    )
    newsletter = a_newsletter(window_hours=72)

    picks = choose([old, same, news], newsletter, ran={"f": before}, since=NOW - timedelta(hours=72))

    assert [pick.article.url for pick in picks.picked] == [news.url]
    assert any("has moved on" in reason for reason in picks.picked[0].reasons)
    assert picks.picked[0].article.kicker == "Updated"
    assert "nothing says that it has moved on" in reasons_of(picks, same.url)
    assert not moved_on(old, stories_of([old, same], PUBLICATION)["f"], before)


def test_a_lighter_place_minds_gravity() -> None:
    """There a parrot goes before a war that everybody reports."""
    war = of_story(
        "w", [1, 2, 3], headline="War spreads after missile strikes", topics=(Topic.CULTURE, Topic.CONFLICT)
    )
    parrot = an_article(9, story="p", topics=(Topic.HUMAN_INTEREST,), published_at=NOW - timedelta(hours=6))
    newsletter = a_newsletter(
        min_stories=1,
        sections=[
            {
                "id": "light",
                "block": "light",
                "light": True,
                "topics": ["culture", "human-interest"],
                "max": 1,
            }
        ],
    )

    assert [pick.article.story for pick in choose([*war, parrot], newsletter).picked] == ["p"]


def test_an_edit_changes_what_is_read_not_what_is_chosen() -> None:
    """An edited headline does not move its story."""
    articles = [
        an_article(1, headline="War spreads in the valley"),
        an_article(2, published_at=NOW - timedelta(hours=2)),
    ]
    edit = Order("edit", articles[0].url, fields={"headline": "A quiet valley"})

    plain, edited = choose(articles), choose(articles, orders=[edit])

    assert [(p.article.url, p.score) for p in plain.picked] == [
        (p.article.url, p.score) for p in edited.picked
    ]


def test_other_weights_can_be_tried(tmp_path: Path) -> None:
    """A file of weights changes what it names, in tables too, and nothing else; a wrong one says where."""
    file = tmp_path / "weights.toml"
    file.write_text("[weights]\ncoverage = 3\ntopics = { sport = 2 }\n", encoding="utf-8")
    present = Weights(topics={Topic.CULTURE: 1.5}, freshness=2)

    tried = read_weights(file, present)

    assert (tried.coverage, tried.freshness) == (3, 2)
    assert tried.topics == {Topic.CULTURE: 1.5, Topic.SPORT: 2}
    file.write_text("covrage = 3", encoding="utf-8")
    with pytest.raises(CatalogueError, match="covrage"):
        read_weights(file, present)


stories_strategy = st.lists(
    st.builds(
        an_article,
        st.integers(0, 40),
        story=st.sampled_from(["", "a", "b", "c"]),
        source=st.sampled_from(["x", "y", "z"]),
        region=st.sampled_from(list(Region)[:3]),
        kind=st.sampled_from([Kind.NEWS, Kind.VIDEO]),
    ),
    unique_by=lambda article: article.url,
    max_size=20,
)


@given(
    articles=stories_strategy, seed=st.randoms(use_true_random=False), shared=st.sampled_from([0.0, 0.1, 0.9])
)
@settings(max_examples=50)
def test_no_story_twice_and_no_order_matters(articles: list[Article], seed: object, shared: float) -> None:
    """Whatever comes in whatever order: a story once, everything accounted for, the same result."""
    shuffled = list(articles)
    seed.shuffle(shuffled)  # type: ignore[attr-defined]  # a random.Random
    elsewhere = [Elsewhere("a", "Morning", lead=True, shared=shared)]

    picks = choose(articles, elsewhere=elsewhere)

    stories = [pick.article.story for pick in picks.picked if pick.article.story]
    assert len(stories) == len(set(stories))
    assert len(picks.picked) + len(picks.dropped) == len(articles)
    assert all(drop.reasons and all(drop.reasons) for drop in picks.dropped)
    assert picks == choose(shuffled, elsewhere=elsewhere)


def test_engagement_lifts_what_readers_go_for() -> None:
    """Where it is known what readers read, its sort gains or loses, in words; how much is the publication's."""
    article = replace(an_article(1), topics=(Topic.SCIENCE, Topic.POLITICS), source_name="The Herald")
    liking = Liking({("topic", "science"): 2.0, ("source", "paper-1"): 0.5, ("region", "Africa"): 2.0})

    reasons = choose([article], liking=liking).picked[0].reasons

    assert "readers clicked science 2.0 times as often as usual (+0.5)" in reasons
    assert "readers clicked The Herald 0.5 times as often as usual (-0.5)" in reasons
    assert not any("Africa" in reason for reason in reasons)


@given(articles=stories_strategy, weight=st.sampled_from([0.0, 1.0, 5.0]))
@settings(max_examples=40)
def test_nothing_better_is_left(articles: list[Article], weight: float) -> None:
    """A search ends early, and yet no article that was outranked had more points than the weakest that runs."""
    newsletter = a_newsletter(
        sections=[
            {"id": "lead", "block": "lead", "topics": ["politics"], "min": 1, "max": 1, "full": True},
            {"id": "light", "block": "briefs", "light": True, "topics": ["culture", "politics"], "max": 3},
        ]
    )  # fmt: skip
    publication = PUBLICATION.model_copy(update={"weights": Weights(repetition=weight, main_topic=3.0)})

    picks = pick_articles(
        newsletter, Newslist(articles, publication), now=NOW, since=NOW - timedelta(hours=24)
    )

    for drop in picks.dropped:
        for section, _, why in (reason.partition(": outranked at ") for reason in drop.reasons):
            if why:
                weakest = min(pick.score for pick in picks.of(section))
                assert float(why.removesuffix(" points")) <= weakest + 0.06


@given(
    articles=st.lists(
        st.builds(
            an_article,
            st.integers(0, 40),
            story=st.sampled_from(["", "a", "b"]),
            source=st.sampled_from(["x", "y", "strong"]),
            source_name=st.sampled_from(["", "The X"]),
            region=st.sampled_from([Region.GLOBAL, Region.AFRICA]),
            topics=st.sampled_from([(), (Topic.POLITICS,), (Topic.CULTURE, Topic.SPORT)]),
            kind=st.sampled_from(list(Kind)),
            rights=st.sampled_from(list(Rights)),
            image=st.sampled_from([None, Image("https://news.example/picture.jpg")]),
            language=st.sampled_from(["en-GB", "fr"]),
            translated_from=st.sampled_from(["", "es"]),
            standfirst=st.sampled_from(["", "A sentence."]),
            headline=st.sampled_from(["Earthquake kills hundreds", "A violin is found in a barn"]),
            published_at=st.sampled_from([NOW - timedelta(hours=hours) for hours in (-1, 0, 5, 90)]),
        ),
        unique_by=lambda article: article.url,
        min_size=1,
        max_size=9,
    )
)
@settings(max_examples=60)
def test_nothing_weighs_more_than_it_is_looked_at_for(articles: list[Article]) -> None:
    """What an article weighs at the most, by which it is looked at or not, is no less than what it weighs."""
    newsletter = a_newsletter(languages_preferred=["en"])
    liking = Liking(
        {("topic", "politics"): 2.0, ("source", "x"): 0.5, ("region", "Africa"): 2.0, ("kind", "video"): 1.5}
    )
    weights = Weights(
        topics={Topic.SPORT: 0.5, Topic.CULTURE: 2},
        regions={Region.AFRICA: 3},
        sources={"y": 0.2},
        translated=0.2,
    )
    newslist = Newslist(articles, PUBLICATION, weights)
    most = newslist.most.copy()  # before any is weighed, which makes it exact

    readers = most_reader_points(newslist.columns, newsletter, weights, now=NOW, liking=liking)

    for row, entry in enumerate(newslist.rows):
        points = reader_points(entry.source, newsletter, weights, now=NOW, liking=liking)
        assert newslist.weigh(entry).score <= most[row] + 1e-9
        assert readers[row] == pytest.approx(total(points))


def test_a_story_weighs_the_same_whatever_was_pinned_before() -> None:
    """An old telling pinned from beside the list does not make its story lighter for the next newsletter."""
    told = of_story("s", [1, 2, 3])
    old = replace(
        an_article(4), story="s", url="https://paper-0.example/old", published_at=NOW - timedelta(days=9)
    )
    newslist, since = Newslist(told, PUBLICATION), NOW - timedelta(hours=24)

    first = pick_articles(
        a_newsletter(), newslist, now=NOW, since=since, orders=[Order("pin", url=old.url)], ordered=[old]
    )
    second = pick_articles(a_newsletter(), newslist, now=NOW, since=since)

    assert any("3 papers carry it" in reason for reason in first.picked[0].reasons)
    assert second == choose(told)
