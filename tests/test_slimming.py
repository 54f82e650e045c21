"""An edition that would be too large for a mailbox gives way by its own rules, and says so."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from html import escape
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import pytest

from newsletter.articles import Article
from newsletter.catalogue import Newsletter
from newsletter.desk import Desk, Made
from newsletter.picking.picks import Order, Pick, Picks
from newsletter.rendering.proof import BUDGET_BYTES, tracked_bytes
from newsletter.settings import Keys, Settings
from newsletter.slimming import lighter
from newsletter.store.session import open_store
from tests.approving import DAY, MAKE_UP, a_desk
from tests.builders import a_feed, the_catalogue

AT = datetime(2026, 11, 20, 3, tzinfo=UTC)
PARAGRAPH = (
    "The page is short enough to be read standing up, which is how they read it, on the dam, in a wind. "
)


def rules(**changes: Any) -> Newsletter:
    """Today with three sections, two of them of many stories."""
    sections = (
        {"id": "lead", "block": "lead", "min": 1, "max": 1, "full": True},
        {"id": "rest", "block": "stories", "min": 3, "max": 20, "full": True},
        {"id": "more", "block": "stories", "max": 29},
    )
    given = the_catalogue()["today"].model_dump(by_alias=True)
    return Newsletter.model_validate(
        given | {"sections": sections, "min_stories": 4, "approval": "auto", **changes}
    )


def headline(number: int) -> str:
    """One like no other, about a parliament."""
    chosen = Random(number)
    words = ["".join(chosen.choices(("ka", "lo", "mi", "tu", "re", "so", "na", "vi"), k=4)) for _ in range(5)]
    return f"Parliament of {words[0].title()} votes: {' '.join(words[1:])}"


@pytest.fixture
def desk(tmp_path: Path, keys: Keys) -> Iterator[Desk]:
    """A desk with fifty stories of one paper of ours, each with much text."""
    feed = a_feed("2026-11-20T03:00:00+00:00", range(50), paper="own")
    numbers = count()
    feed = re.sub(
        r"<title>[^<]* votes on[^<]*</title>", lambda _: f"<title>{headline(next(numbers))}</title>", feed
    )
    body = escape(f"<p>{PARAGRAPH * 8}</p>" * 6)
    feed = feed.replace(
        "</description>", f" {PARAGRAPH * 3}</description><content:encoded>{body}</content:encoded>"
    )
    feed = feed.replace("<rss ", '<rss xmlns:content="http://purl.org/rss/1.0/modules/content/" ')
    (tmp_path / "own.rss").write_text(feed, encoding="utf-8")
    source = {"id": "own", "url": str(tmp_path / "own.rss"), "rights": "own", "language": "en"}
    catalogue = the_catalogue()
    publication = type(catalogue.publication).model_validate(
        catalogue.publication.model_dump(by_alias=True) | {"feeds": [source], "families": {}}
    )
    catalogue = catalogue.model_copy(update={"publication": publication, "newsletters": (rules(),)})
    opened = a_desk(open_store(f"sqlite:///{tmp_path}/subscribers.db"), keys, Settings(), catalogue)
    opened.collect(None, now=MAKE_UP)
    yield opened
    opened.engine.dispose()


def made(desk: Desk, **changes: Any) -> Made:
    """The edition by changed rules."""
    newsletter = rules(**changes)
    desk.catalogue = desk.catalogue.model_copy(update={"newsletters": (newsletter,)})
    desk.renderer.catalogue = desk.catalogue
    return desk.make(newsletter, DAY, now=MAKE_UP)


def test_text_gives_way_first_then_stories_and_it_is_said(desk: Desk) -> None:
    """Every variant fits, tracking and all; a note for all that is missing; the number in the intro is right."""
    edition = made(desk, full_text_bytes=90_000)

    assert edition.snapshot is not None
    assert max(tracked_bytes(one) for one in edition.renderings) <= BUDGET_BYTES
    told = [one.message for one in edition.findings if one.code == "gave-way"]
    assert told[0].startswith("Full text is cut to 0 of") and len(told) > 1
    assert len(told) - 1 == len(made(desk, gives_way=()).picks.picked) - edition.snapshot.stories > 0
    assert f"{edition.snapshot.stories} stories" in edition.renderings[0].text
    assert {one.code for one in edition.findings} & {"clip", "clip-tracked"} == set()


def test_only_text_where_that_is_enough(desk: Desk) -> None:
    """The free mail has none of it and keeps every story."""
    sections = [one.model_dump(by_alias=True) for one in rules().sections[:2]]
    edition = made(desk, full_text_bytes=60_000, sections=sections)

    assert edition.snapshot is not None and edition.snapshot.stories == 21
    (told,) = edition.snapshot.gave_way
    assert re.match(r"Full text is cut to (45|30|15)000 of 60000 bytes", told)
    assert any(item.paragraphs for item in edition.snapshot.items)


def test_who_gives_nothing_away_is_told_that_it_clips(desk: Desk) -> None:
    """An empty order is an order."""
    edition = made(desk, gives_way=())

    assert edition.snapshot is not None and edition.snapshot.stories >= 49
    assert {one.code for one in edition.findings} & {"clip", "clip-tracked"}
    assert edition.snapshot.gave_way == ()


def test_an_editors_pins_stay(desk: Desk) -> None:
    """Whatever else goes."""
    last = made(desk, gives_way=()).picks.picked[-1].article.url
    desk.give_order(desk.catalogue["today"], DAY, Order(verb="pin", url=last, section="more", position=25))

    edition = made(desk)

    assert edition.snapshot is not None and edition.snapshot.stories < 49
    assert last in {item.url for item in edition.snapshot.items}


def test_no_section_falls_below_its_minimum() -> None:
    """Nor the edition below its own; the rest goes from the end, and all of it is told."""

    def pick(section: str, place: int, *, pinned: bool = False) -> Pick:
        url = f"https://p.example/{section}/{place}"
        article = Article(
            url=url,
            source="p",
            headline=f"{section} {place}",
            published_at=AT,
            first_seen_at=AT + timedelta(),
        )
        return Pick(section, place, article, 1.0, (), pinned=pinned)

    picked = (pick("lead", 1), *(pick("rest", place, pinned=place == 6) for place in range(1, 7)))

    steps = list(lighter(rules(gives_way=("stories",)), Picks("today", picked, (), ()), {"free"}))

    assert [one.told[-1] for one in steps] == [
        "“rest 5” is left out.",
        "“rest 4” is left out.",
        "“rest 3” is left out.",
    ]
    assert [one.article.headline for one in steps[-1].picks.picked] == [
        "lead 1",
        "rest 1",
        "rest 2",
        "rest 6",
    ]
    assert list(lighter(rules(gives_way=("text",)), Picks("today", picked, (), ()), {"free"})) == []
