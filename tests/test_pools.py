"""Thin days: what a section falls back on, by rule, with its reason; and what it never takes."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, insert
from sqlmodel import Session, SQLModel

from newsletter.articles import Article, Kind, Rights, Topic, headline_key
from newsletter.catalogue import ArchivePool, Catalogue, MostReadPool, Newsletter, Publication, load_catalogue
from newsletter.desk.newsroom import Newsroom
from newsletter.edition import EditionStatus
from newsletter.errors import CatalogueError
from newsletter.feeds.stored import to_row
from newsletter.makeup import make_snapshot
from newsletter.picking.fitting import Elsewhere, Ran
from newsletter.picking.liking import Read
from newsletter.picking.orders import Order
from newsletter.picking.picks import Picks
from newsletter.picking.pools import Reserve, most_read, well_run
from newsletter.store.session import reading, writing
from newsletter.store.tables import EditionRow, EditionStory, EditorOrder, StoryRead
from tests.builders import ROOT
from tests.test_picks import NOW, PUBLICATION, a_newsletter, an_article, choose

OLD = NOW - timedelta(days=40)
DAY = NOW.date()
SECTIONS = [
    {"id": "lead", "block": "lead", "topics": ["politics"], "min": 1, "max": 1},
    {"id": "close", "heading": "Close up", "block": "stories", "topics": ["culture"], "min": 3, "max": 4,
     "max_age_hours": 24, "per_source": 2, "fallback": ["most-read", "archive"]},
]  # fmt: skip


def thin(**fields: object) -> Newsletter:
    """A newsletter whose second section may fall back on two pools."""
    return a_newsletter(**{"sections": SECTIONS, "min_stories": 1, **fields})


def an_old(number: int, **fields: object) -> Article:
    """A piece of forty days ago about culture."""
    return an_article(
        number,
        **{
            "published_at": OLD,
            "first_seen_at": OLD,
            "topics": (Topic.CULTURE,),
            "source": f"s{number}",
            **fields,
        },
    )


def reserve(number: int, told: str = "the archive of 11 October 2026 (Daily)", **fields: object) -> Reserve:
    """That piece, in a pool."""
    return Reserve(an_old(number, **fields), told, [("it led", 0.5)])


TODAY = [an_article(1), an_article(2, topics=(Topic.CULTURE,))]


def test_what_a_section_lacks_comes_from_its_pools_in_their_order() -> None:
    """Up to its minimum, from the first pool first, each with whence and why; the whole is said, too."""
    pools = {
        "archive": [reserve(11), reserve(12), reserve(13)],
        "most-read": [reserve(21, "the most read of the last 10 days")],
    }

    picks = choose(TODAY, thin(), pools=pools)

    close = picks.of("close")
    assert [(pick.article.url[-3:], pick.pool) for pick in close if pick.pool] == [
        ("021", "most-read"),
        ("011", "archive"),
    ]
    assert close[-1].reasons[0] == "from the archive of 11 October 2026 (Daily), because Close up had 1 of 3"
    assert "40 days old" in close[-1].reasons and "it led (+0.5)" in close[-1].reasons
    assert (picks.shortfalls, picks.filled) == (
        (),
        ("Close up has 1 from the most read and 1 from the archive",),
    )


def test_pools_are_not_asked_when_the_day_is_full() -> None:
    """Nor beyond a minimum, nor by a section that names none."""
    full = [an_article(1), *(an_article(n, topics=(Topic.CULTURE,)) for n in (2, 3, 4))]
    pools = {"archive": [reserve(11)], "most-read": [reserve(12, topics=(Topic.POLITICS,))]}

    assert {pick.pool for pick in choose(full, thin(), pools=pools).picked} == {""}
    assert choose(full, thin(), pools=pools).filled == ()
    assert choose(TODAY[1:], thin(), pools=pools).of("lead") == ()


def test_an_edition_that_lacks_stories_fills_up_to_the_maximum() -> None:
    """Where all sections have their least and the edition has not."""
    newsletter = thin(min_stories=4, sections=[SECTIONS[0], {**SECTIONS[1], "min": 1}])

    picks = choose(TODAY, newsletter, pools={"archive": [reserve(n) for n in (11, 12, 13)]})

    assert len(picks.picked) == 4 and picks.shortfalls == ()
    assert any("because there were 2 of 4 stories" in pick.reasons[0] for pick in picks.picked)


@pytest.mark.parametrize(
    ("why", "fields", "options"),
    [
        ("it ran here", {}, {"sent": {"https://news.example/011": "the edition of 2026-10-11"}}),
        (
            "its headline ran here",
            {},
            {"sent": {headline_key(an_old(11).headline): "the edition of 2026-10-11"}},
        ),
        ("its story was told here", {"story": "s"}, {"ran": {"s": Ran("long ago", "x", OLD)}}),
        ("its story is told today", {"story": "t"}, {}),
        (
            "another tells it to the same readers today",
            {"story": "e"},
            {"elsewhere": [Elsewhere("e", "Morning", lead=False, shared=0.5)]},
        ),
        ("an editor dropped it", {}, {"orders": [Order("drop", "https://news.example/011")]}),
        ("its topic is not the section's", {"topics": (Topic.SPORT,)}, {}),
        ("we never run its kind", {"kind": Kind.PROMO}, {}),
        ("it is like one of today's", {"headline": TODAY[1].headline}, {}),
    ],
)
def test_some_things_are_never_fallen_back_on(
    why: str, fields: dict[str, object], options: dict[str, object]
) -> None:
    """Only age is waived: rules, editors and what was told stand."""
    today = [TODAY[0], replace(TODAY[1], story="t")]

    picks = choose(today, thin(), pools={"archive": [reserve(11, **fields)]}, **options)

    assert [pick for pick in picks.picked if pick.pool] == [], why
    assert picks.shortfalls == ("Close up has 1 of at least 3",)


def test_what_ran_for_members_is_for_members() -> None:
    """A free reader is not sent what only paying ones could read; a section for members may have it."""
    members = replace(reserve(11), classes=("paying",))
    theirs = thin(sections=[SECTIONS[0], {**SECTIONS[1], "for": ["paying"]}])

    assert choose(TODAY, thin(), pools={"archive": [members]}).of("close")[1:] == ()
    assert [pick.pool for pick in choose(TODAY, theirs, pools={"archive": [members]}).of("close")] == [
        "",
        "archive",
    ]


@settings(max_examples=40)
@given(
    numbers=st.lists(st.integers(10, 40), unique=True, max_size=12), seed=st.randoms(use_true_random=False),
    source=st.sampled_from(["one", ""]),
)  # fmt: skip
def test_caps_hold_and_no_order_matters(numbers: list[int], seed: object, source: str) -> None:
    """Whatever is in the pools and in whatever order."""
    more = {"source": source} if source else {}
    pool = [reserve(number, **more) for number in numbers]
    shuffled = list(pool)
    seed.shuffle(shuffled)  # type: ignore[attr-defined]  # a random.Random

    picks = choose(TODAY, thin(), pools={"archive": pool})

    assert picks == choose(TODAY, thin(), pools={"archive": shuffled})
    assert len(picks.of("close")) <= 3
    assert sum(pick.article.source == "one" for pick in picks.of("close")) <= 2


def test_readers_are_told_that_it_is_not_of_the_day() -> None:
    """Beside its source, in the newsletter's language."""
    picks = choose(TODAY, thin(language="fr"), pools={"archive": [reserve(11)]})

    snapshot = make_snapshot(thin(language="fr"), PUBLICATION, picks, edition_date=DAY)

    assert [item.pool for item in snapshot.items] == ["", "", "de nos archives"]


# --- what is in a pool --------------------------------------------------------------------------


def a_read(
    newsletter: str, place: int, readers: int, day: date = DAY - timedelta(days=40), url: str = ""
) -> Read:
    """A story that ran."""
    return Read(newsletter, day, url or f"https://x.example/{newsletter}/{place}", place, readers)


def test_the_most_read_are_those_many_people_clicked() -> None:
    """In all newsletters together, from a least number on."""
    reads = [a_read("a", 1, 4, url="x"), a_read("b", 2, 4, url="x"), a_read("a", 2, 4, url="y")]

    found = most_read(reads, MostReadPool(readers=5), ())

    assert {url: reason.points[0][0] for url, reason in found.items()} == {"x": "8 readers clicked it"}


def test_what_ran_well_is_held_against_its_place() -> None:
    """Clicked more than its place usually is; without any clicks, what led. Members' newsletters are told apart."""
    days = [DAY - timedelta(days=40 + n) for n in range(3)]
    reads = [a_read("a", 1, 100, day, f"lead-{n}") for n, day in enumerate(days)]
    reads += [a_read("a", 2, 90 if n == 1 else 10, day, f"second-{n}") for n, day in enumerate(days)]
    reads += [a_read("b", 1, 0), a_read("b", 2, 0)]
    newsletters = (
        a_newsletter(slug="a", name="A"),
        a_newsletter(slug="b", name="B", audience={"classes": ["paying"]}),
    )

    found = well_run(reads, ArchivePool(), newsletters)

    assert set(found) == {"second-1", "lead-0", "lead-2", "https://x.example/b/1"}
    assert found["second-1"].told == f"the archive of {days[1].day} October 2026 (A)"
    assert found["second-1"].points[0][1] > found["lead-0"].points[0][1] >= 0
    assert (found["https://x.example/b/1"].points, found["https://x.example/b/1"].classes) == (
        [("it led", 0.5)],
        ("paying",),
    )


# --- from the store -----------------------------------------------------------------------------


def store(session: Session, *articles: Article) -> None:
    """Put articles into the store."""
    table = SQLModel.metadata.tables["article"]
    session.connection().execute(insert(table), [to_row(article, seen_at=NOW) for article in articles])


def ran(
    session: Session,
    slug: str,
    day: date,
    *articles: Article,
    readers: int = 0,
    status: str = EditionStatus.SUBMITTED,
) -> None:
    """An edition that holds these stories."""
    at = datetime.combine(day, NOW.timetz())
    row = EditionRow(newsletter=slug, edition_date=day, status=status, made_at=at, frozen_at=at)
    session.add(row)
    session.flush()
    for place, one in enumerate(articles, start=1):
        session.add(
            EditionStory(
                edition_id=row.id, url=one.url, headline_key=headline_key(one.headline), story=one.story
            )
        )
        if status == EditionStatus.SUBMITTED:
            session.add(
                StoryRead(
                    newsletter=slug,
                    edition_date=day,
                    url=one.url,
                    place=place,
                    readers=readers,
                    counted_at=at,
                )
            )


def a_catalogue(*fallback: str) -> Catalogue:
    """Two newsletters; the first may fall back."""
    sections = [SECTIONS[0], {**SECTIONS[1], "fallback": fallback}]
    publication = Publication.model_validate(
        {**PUBLICATION.model_dump(by_alias=True), "pools": {"magazine": {"words": 100}}}
    )
    return Catalogue(
        publication=publication,
        newsletters=(thin(sections=sections), thin(slug="other", name="Other")),
        root=Path(),
    )


def pick(engine: Engine, *fallback: str, now: datetime = NOW) -> Picks:
    """What the first of them chooses."""
    catalogue = a_catalogue(*fallback)
    with reading(engine) as session:
        return Newsroom(session, catalogue, now.date(), now).choose(catalogue["daily"])[0]


def test_each_pool_holds_what_its_rule_says(engine: Engine) -> None:
    """What another newsletter ran weeks ago or many clicked lately, our long reads, and what was left of late."""
    archived, popular, ours, theirs = an_old(11), an_old(12), an_old(13), an_old(14)
    ours = replace(ours, rights=Rights.OWN, body=f"<p>{'word ' * 200}</p>")
    theirs = replace(theirs, rights=Rights.OWN, body="<p>short</p>")
    left = an_old(15, published_at=NOW - timedelta(days=5))
    with writing(engine) as session:
        store(session, *TODAY, archived, popular, ours, theirs, left)
        ran(session, "other", DAY - timedelta(days=39), archived)
        ran(session, "other", DAY - timedelta(days=3), popular, readers=9)

    def drawn(*fallback: str) -> list[tuple[str, str]]:
        return [(one.article.url[-3:], one.pool) for one in pick(engine, *fallback).picked if one.pool]

    assert drawn() == []
    assert drawn("archive") == [("011", "archive")]
    assert drawn("most-read") == [("012", "most-read")]
    assert drawn("magazine") == [("013", "magazine")]
    assert drawn("earlier") == [("015", "earlier")]
    assert drawn("magazine", "archive", "most-read") == [("013", "magazine"), ("011", "archive")]


def test_nothing_is_told_again_from_a_pool_however_long_ago(engine: Engine) -> None:
    """Not by its address, and not as the same story under another."""
    told, again = an_old(11, story="s"), an_old(12, story="s")
    with writing(engine) as session:
        store(session, *TODAY, told, again)
        ran(session, "other", DAY - timedelta(days=39), told, again, readers=9)
        ran(session, "daily", DAY - timedelta(days=100), told)

    assert pick(engine, "archive").filled == ()


@pytest.mark.parametrize(
    "status", [EditionStatus.HELD, EditionStatus.SKIPPED, EditionStatus.SPIKED, EditionStatus.DRAFT]
)
def test_nothing_is_used_up_by_a_failure(engine: Engine, status: EditionStatus) -> None:
    """What an edition would have told that did not go out may be told by the next, of the day and from a pool."""
    archived = an_old(11)
    with writing(engine) as session:
        store(session, *TODAY, archived)
        ran(session, "other", DAY - timedelta(days=39), archived)
        ran(session, "daily", DAY - timedelta(days=1), *TODAY, archived, status=status)

    picks = pick(engine, "archive")

    assert {one.article.url for one in picks.picked} == {*(one.url for one in TODAY), archived.url}


def test_a_story_that_is_not_on_the_list_may_be_pinned(engine: Engine) -> None:
    """However old it is: an editor's word; readers are told that it is not of the day."""
    old = an_old(11, topics=(Topic.POLITICS,))
    with writing(engine) as session:
        store(session, *TODAY, old)
        session.add(
            EditorOrder(
                newsletter="daily",
                edition_date=DAY,
                verb="pin",
                url=old.url,
                detail={"section": "lead"},
                given_at=NOW,
            )
        )

    picks = pick(engine)

    assert [(one.article.url, one.pinned, one.pool) for one in picks.of("lead")] == [
        (old.url, True, "earlier")
    ]
    assert picks.waiting == ()


# --- the files ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (
            'fallback = ["archive", "best-of"]',
            "fallback.2: must be 'earlier', 'most-read', 'archive' or 'magazine'",
        ),
        ('fallback = ["archive", "archive"]', "a pool stands in fallback twice"),
    ],
)
def test_a_pool_that_is_not_there_is_named(tmp_path: Path, written: str, said: str) -> None:
    """File, section and remedy."""
    folder = tmp_path / "templates"
    (folder / "planet").mkdir(parents=True)
    (folder / "publication.toml").write_bytes((ROOT / "templates" / "publication.toml").read_bytes())
    text = (ROOT / "templates" / "planet" / "newsletter.toml").read_text(encoding="utf-8")
    text = text.replace('block = "lead"', f'block = "lead"\n{written}')
    (folder / "planet" / "newsletter.toml").write_text(text, encoding="utf-8")

    with pytest.raises(CatalogueError) as failed:
        load_catalogue(folder)

    assert said in str(failed.value) and "planet/newsletter.toml: sections.1" in str(failed.value)
