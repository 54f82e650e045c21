"""What readers went for: held against the place it stood in, counted once, bounded, and said in words."""

from __future__ import annotations

from datetime import date, timedelta
from itertools import islice, permutations

from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine
from sqlmodel import select

from newsletter.articles import Kind, Region, Topic
from newsletter.picking.liking import Liking, Read, liking_of
from newsletter.reports.reads import FIRST, LAST, count_reads
from newsletter.settings import Keys
from newsletter.store.reads import load_reads
from newsletter.store.session import reading, writing
from newsletter.store.tables import ArticleRow, StoryRead
from tests.test_outbox import NOW
from tests.test_picks import an_article
from tests.test_reports import DAY, STORIES, a_day, hear, of


def a_read(day: int, place: int, readers: int, topic: Topic, **fields: object) -> Read:
    """A story of the *day*-th edition."""
    values = {"source": "paper", **fields}
    return Read(
        "daily",
        DAY + timedelta(days=day),
        f"https://x.example/{day}/{place}",
        place,
        readers,
        (topic,),
        **values,
    )  # type: ignore[arg-type]


def test_a_lead_is_not_liked_for_being_the_lead() -> None:
    """The same topic at the head each day says nothing; what gets more than its place usually does is liked."""
    same = [
        a_read(day, place, 300 // place, Topic.POLITICS if place == 1 else Topic.SPORT)
        for day in range(5)
        for place in (1, 2, 3)
    ]
    culture = [
        a_read(day, place, 300 // place * (2 if topic is Topic.CULTURE else 1), topic)
        for day in range(6)
        for place in (1, 2, 3)
        for topic in [Topic.CULTURE if (day + place) % 3 == 0 else Topic.SPORT]
    ]

    liked = liking_of(culture)

    assert all(0.99 < ratio < 1.01 for ratio in liking_of(same).ratios.values())
    assert liked.ratios["topic", "culture"] > 1.3 > 1 > liked.ratios["topic", "sport"]
    words = liked.points(an_article(1, topics=(Topic.CULTURE,)), 1.0)
    assert [reason.split(" 1.")[0] for reason, value in words if value > 0] == ["readers clicked culture"]


def test_few_clicks_say_little_and_many_not_everything() -> None:
    """Three clicks move nothing; a landslide is at most twice or half the usual."""
    few = liking_of(
        [a_read(0, 1, 3, Topic.CULTURE), a_read(0, 2, 0, Topic.SPORT), a_read(1, 1, 0, Topic.SPORT)]
    )
    many = liking_of(
        a_read(day, 1 + (day + which) % 2, 100_000 * (1 - which), (Topic.CULTURE, Topic.SPORT)[which])
        for day in range(6)
        for which in (0, 1)
    )

    assert few.points(an_article(1, topics=(Topic.CULTURE,)), 1.0) == []
    assert (round(many.ratios["topic", "culture"], 2), many.ratios["topic", "sport"]) == (2.0, 0.5)
    assert liking_of([]) == Liking() and Liking().points(an_article(1), 1.0) == []


@given(
    st.lists(
        st.builds(
            a_read, st.integers(0, 3), st.integers(1, 4), st.integers(0, 500), st.sampled_from(list(Topic)[:4]),
            region=st.sampled_from(list(Region)[:3]), kind=st.sampled_from(list(Kind)[:2]),
        ),
        max_size=12, unique_by=lambda one: one.url,
    )
)  # fmt: skip
def test_liking_is_bounded_and_no_order_matters(reads: list[Read]) -> None:
    """Whatever was clicked: between a half and twice, and the same from any order."""
    liked = liking_of(reads)

    assert all(0.5 <= ratio <= 2 for ratio in liked.ratios.values())
    assert all(liking_of(order) == liked for order in (reads[::-1], *islice(permutations(reads), 5)))


def test_an_edition_is_counted_when_its_day_is_over_and_once_more(engine: Engine, keys: Keys) -> None:
    """People only, by place; not before, not again until the third day, and then what came late is in it."""
    a_day(engine, keys)

    def counted() -> list[tuple[str, int, int]]:
        with reading(engine) as session:
            rows = session.exec(select(StoryRead).order_by(StoryRead.place)).all()  # type: ignore[arg-type]
            return [(row.url, row.place, row.readers) for row in rows]

    first = [(STORIES[0], 1, 2), (STORIES[1], 2, 0), (STORIES[2], 3, 1)]
    assert (count_reads(engine, now=NOW + FIRST - timedelta(minutes=1)), counted()) == (0, [])
    assert (count_reads(engine, now=NOW + FIRST), counted()) == (1, first)
    hear(engine, keys, of("click", 4, 2000, url=STORIES[1]))
    assert (count_reads(engine, now=NOW + LAST - timedelta(minutes=1)), counted()) == (0, first)
    assert count_reads(engine, now=NOW + LAST) == 1
    assert counted() == [first[0], (STORIES[1], 2, 1), first[2]]
    assert count_reads(engine, now=NOW + LAST + timedelta(days=9)) == 0


def test_what_was_counted_is_read_with_what_it_is(engine: Engine) -> None:
    """Of earlier days only, of one newsletter or all; a story whose article is gone says nothing."""
    with writing(engine) as session:
        session.add(ArticleRow(url=STORIES[0], source="paper", topics=["culture"], region="Africa", kind="analysis",
                               published_at=NOW, first_seen_at=NOW, last_seen_at=NOW))  # fmt: skip
        for slug, day, url in (
            ("daily", DAY, STORIES[0]),
            ("daily", DAY, STORIES[1]),
            ("other", date(2026, 11, 1), STORIES[0]),
        ):
            session.add(
                StoryRead(newsletter=slug, edition_date=day, url=url, place=1, readers=7, counted_at=NOW)
            )

    with reading(engine) as session:
        mine = load_reads(session, since=date(2026, 1, 1), before=DAY + timedelta(days=1), slug="daily")
        every = load_reads(session, since=date(2026, 1, 1), before=DAY + timedelta(days=1))
        earlier = load_reads(session, since=date(2026, 1, 1), before=DAY)

    assert mine == (
        Read("daily", DAY, STORIES[0], 1, 7, (Topic.CULTURE,), Region.AFRICA, Kind.ANALYSIS, "paper"),
    )
    assert [one.newsletter for one in every] == ["other", "daily"]
    assert [one.newsletter for one in earlier] == ["other"]
