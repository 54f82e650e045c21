"""An editor's orders: kept, undone, redone, compared with the other editor's, and stronger than any feed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from lxml import html
from sqlalchemy import Engine
from sqlmodel import col, update
from typer.testing import CliRunner

from newsletter.catalogue import load_catalogue
from newsletter.cli.main import app
from newsletter.desk import Desk
from newsletter.errors import OrderConflict, StateError, WordingError
from newsletter.feeds.stored import find_article
from newsletter.picking.picks import Order
from newsletter.settings import Keys, load_settings
from newsletter.store.orders import add_order, all_orders, last_touched, load_orders, redo_last, undo_last
from newsletter.store.session import open_store, reading, writing
from newsletter.store.tables import ArticleRow
from tests.builders import a_site
from tests.visiting import Moment

NOW = datetime(2026, 11, 20, 4, 0, tzinfo=UTC)
DAY = date(2026, 11, 20)
STORY = "https://paper.example/a"


def give(engine: Engine, order: Order, *, as_of: datetime | None = None, at: datetime = NOW) -> int:
    """Write an order down."""
    with writing(engine) as session:
        return add_order(session, "today", DAY, order, at=at, as_of=as_of)


def told(engine: Engine) -> list[str]:
    """The verbs that count."""
    with reading(engine) as session:
        return [order.verb for order in load_orders(session, "today", DAY)]


def turn(engine: Engine, which: str) -> str:
    """Undo or redo; the verb of what was turned."""
    with writing(engine) as session:
        return (undo_last if which == "undo" else redo_last)(session, "today", DAY, actor="mia", at=NOW).verb


def test_undo_and_redo_go_back_and_forth(engine: Engine) -> None:
    """The newest first; redone in turn; nothing to redo after a new order; nothing is ever deleted."""
    for verb in ("pin", "drop", "move"):
        give(engine, Order(verb=verb, url=STORY, actor="mia"))

    back = [turn(engine, "undo"), turn(engine, "undo")]
    after = told(engine)
    forth = [turn(engine, "redo"), turn(engine, "redo")]
    again = turn(engine, "undo")
    give(engine, Order(verb="edit", url=STORY, fields={"headline": "New"}, actor="mia"))

    assert (back, after, forth, again) == (["move", "drop"], ["pin"], ["drop", "move"], "move")
    assert told(engine) == ["pin", "drop", "edit"]
    with pytest.raises(StateError, match="nothing to redo"):
        turn(engine, "redo")
    with reading(engine) as session:
        assert [order.verb for order in all_orders(session, "today", DAY)] == ["pin", "drop", "move", "edit"]


def test_nothing_to_undo_is_said(engine: Engine) -> None:
    """By a sentence."""
    with pytest.raises(StateError, match="could be undone"):
        turn(engine, "undo")


def seen_by(engine: Engine) -> datetime | None:
    """What an editor has seen who looks now."""
    with reading(engine) as session:
        return last_touched(session, "today", DAY)


@pytest.mark.parametrize(
    ("theirs", "mine", "conflict"),
    [
        (
            Order("edit", STORY, fields={"headline": "B"}),
            Order("edit", STORY, fields={"headline": "C"}),
            True,
        ),
        (Order("edit", STORY, fields={"headline": "B"}), Order("edit", STORY, fields={"kicker": "C"}), False),
        (Order("drop", STORY), Order("pin", STORY), True),
        (Order("drop", STORY), Order("move", STORY + "b", section="lead"), False),
        (Order("words", fields={"greeting": "B"}), Order("words", fields={"greeting": "C"}), True),
        (Order("words", fields={"greeting": "B"}), Order("words", fields={"intro": "C"}), False),
    ],
)
def test_the_later_of_two_editors_sees_a_conflict(
    engine: Engine, theirs: Order, mine: Order, conflict: bool
) -> None:
    """Only on the same thing; the first order stands, and mine is taken once I have seen theirs."""
    give(engine, Order(verb="pin", url="https://paper.example/other", actor="mia"))
    before = seen_by(engine)
    give(engine, replace(theirs, actor="tom"), as_of=before)

    if conflict:
        with pytest.raises(OrderConflict, match="by tom"):
            give(engine, replace(mine, actor="mia"), as_of=before)
        assert told(engine) == ["pin", theirs.verb]
    give(engine, replace(mine, actor="mia"), as_of=seen_by(engine) if conflict else before)

    assert told(engine) == ["pin", theirs.verb, mine.verb]


def test_an_undo_in_between_is_a_conflict_too(engine: Engine) -> None:
    """What I built on was taken back meanwhile."""
    give(engine, Order(verb="pin", url=STORY, actor="mia"))
    before = seen_by(engine)
    turn(engine, "undo")

    with pytest.raises(OrderConflict, match="undone by mia"):
        give(engine, Order(verb="move", url=STORY, actor="tom"), as_of=before)


def test_of_many_at_once_one_wins(engine: Engine) -> None:
    """Eight editors change the same headline having seen the same page: one order, seven conflicts."""
    give(engine, Order(verb="pin", url=STORY, actor="mia"))
    before, outcomes = seen_by(engine), []

    def change(number: int) -> None:
        try:
            give(engine, Order(verb="edit", url=STORY, fields={"headline": str(number)}), as_of=before)
            outcomes.append("taken")
        except OrderConflict:
            outcomes.append("conflict")

    threads = [threading.Thread(target=change, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(outcomes) == ["conflict"] * 7 + ["taken"]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """The samples, collected."""
    monkeypatch.chdir(a_site(tmp_path / "site"))
    opened = Desk.open(load_settings(), clock=Moment(NOW))
    opened.collect(None, now=NOW)
    yield opened
    opened.engine.dispose()


def places(desk: Desk, section: str = "seven") -> list[str]:
    """The stories of a section of ``today``, in order."""
    return [pick.article.url for pick in desk.pick(desk.catalogue["today"], DAY, now=NOW).of(section)]


def test_a_story_stands_where_it_was_put(desk: Desk) -> None:
    """In its own section or another; who was there moves on; a dropped one can be brought in."""
    today = desk.catalogue["today"]
    before = places(desk)
    light = places(desk, "light")[0]
    dropped = desk.pick(today, DAY, now=NOW).dropped[0].article.url

    desk.give_order(today, DAY, Order(verb="move", url=before[0], section="seven", position=3))
    third = places(desk)
    desk.give_order(today, DAY, Order(verb="move", url=light, section="seven", position=1))
    moved = places(desk)
    desk.give_order(today, DAY, Order(verb="pin", url=dropped, section="seven", position=2))

    assert third == [before[1], before[2], before[0], *before[3:]]
    assert moved[0] == light and light not in places(desk, "light")
    assert moved[3] == before[0]  # moved on by the new first; the section's caps choose anew around them
    assert places(desk)[:2] == [light, dropped]


def source_says(desk: Desk, url: str, headline: str) -> None:
    """The source's next feed has another headline."""
    with writing(desk.engine) as session:
        session.execute(update(ArticleRow).where(col(ArticleRow.url) == url).values(headline=headline))


def test_an_edit_stands_when_its_source_changes_and_the_change_is_told(desk: Desk) -> None:
    """In the findings, with both; nothing is told of a story that is not in the edition."""
    today, (lead, *_) = desk.catalogue["today"], places(desk, "lead")
    with reading(desk.engine) as session:
        was = find_article(session, lead)
    desk.give_order(today, DAY, Order(verb="edit", url=lead, fields={"headline": "Ours"}, actor="mia"))
    assert "source-changed" not in {one.code for one in desk.make(today, DAY, now=NOW).findings}

    source_says(desk, lead, "Theirs, but better")
    made = desk.make(today, DAY, now=NOW)

    assert was is not None and made.snapshot is not None
    assert "Ours" in {item.headline for item in made.snapshot.items if item.url == lead}
    (finding,) = [one for one in made.findings if one.code == "source-changed"]
    assert (finding.severity, finding.where) == ("note", lead)
    assert "Theirs, but better" in finding.message and was.headline in finding.message


def test_an_editor_names_the_translator_and_the_paper(desk: Desk) -> None:
    """By a command; both parts of every variant say so."""
    today, (lead, *_) = desk.catalogue["today"], places(desk, "lead")
    said = [
        "edit",
        "today",
        lead,
        "--translator",
        "Ann Osei",
        "--paper",
        "El Cauce",
        "--now",
        NOW.isoformat(),
    ]
    done = CliRunner().invoke(app, said)

    assert done.exit_code == 0, done.output
    for rendered in desk.make(today, DAY, now=NOW).renderings:
        page = " ".join(html.document_fromstring(rendered.html).text_content().split())
        text = " ".join(rendered.text.split())
        assert "El Cauce/The Parallel" in page and "El Cauce/The Parallel" in text, rendered.variant
        assert "by Ann Osei" in page and "by Ann Osei" in text, rendered.variant


def test_orders_survive_a_restart_and_a_new_make_up(desk: Desk) -> None:
    """The edition made again later, by another process, holds them."""
    today, (lead, *_) = desk.catalogue["today"], places(desk, "lead")
    desk.give_order(today, DAY, Order(verb="edit", url=lead, fields={"headline": "Ours", "kicker": "K"}))
    desk.give_order(
        today, DAY, Order(verb="words", fields={"greeting": "Hello from Lima.", "quote.who": "Ann"})
    )

    again = Desk.open(load_settings(), clock=Moment(NOW + timedelta(hours=1)))
    made = again.make(again.catalogue["today"], DAY, now=NOW + timedelta(hours=1))
    again.engine.dispose()

    assert made.snapshot is not None and made.snapshot.quote is not None
    lead_item = made.snapshot.items[0]
    assert (lead_item.headline, lead_item.kicker) == ("Ours", "K")
    assert (made.snapshot.greeting, made.snapshot.quote.who) == ("Hello from Lima.", "Ann")


def test_an_order_is_seen_from_another_machine(
    engine: Engine, keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two installations on one database: what one editor ordered the other's make-up holds, after a new collect, too."""
    monkeypatch.chdir(a_site(tmp_path / "site"))
    settings = load_settings()
    here = Desk(engine, load_catalogue(settings.templates), settings, keys, clock=Moment(NOW))
    there = Desk(
        open_store(engine.url.render_as_string(hide_password=False)), load_catalogue(settings.templates), settings, keys,
        clock=Moment(NOW),
    )  # fmt: skip
    here.collect(None, now=NOW)
    today, (lead, *_) = here.catalogue["today"], places(here, "lead")

    here.give_order(today, DAY, Order(verb="edit", url=lead, fields={"headline": "Ours"}, actor="mia"))
    here.give_order(today, DAY, Order(verb="drop", url=places(here)[0], actor="mia"))
    there.collect(None, now=NOW + timedelta(hours=1))
    one, other = here.make(today, DAY, now=NOW), there.make(there.catalogue["today"], DAY, now=NOW)
    with pytest.raises(OrderConflict, match="mia"):
        there.give_order(
            today,
            DAY,
            Order(verb="edit", url=lead, fields={"headline": "Theirs"}, actor="tom"),
            as_of=NOW - timedelta(seconds=1),
        )
    there.engine.dispose()

    assert other.snapshot is not None and other.snapshot.items[0].headline == "Ours"
    assert one.hash == other.hash
    assert [order.actor for order in here.orders(today, DAY)] == ["mia", "mia"]


def test_a_picture_is_changed_only_where_we_may_show_one(desk: Desk) -> None:
    """Alt and credit of ours; of an excerpt source it is refused with a sentence."""
    today, (lead, *_) = desk.catalogue["today"], places(desk, "lead")
    excerpt = next(
        drop.article.url
        for drop in desk.pick(today, DAY, now=NOW).dropped
        if drop.article.rights == "excerpt"
    )

    desk.give_order(
        today, DAY, Order(verb="edit", url=lead, fields={"image_alt": "A dam.", "image_credit": "K. B."})
    )
    snapshot = desk.make(today, DAY, now=NOW).snapshot

    assert snapshot is not None and snapshot.items[0].image is not None
    assert (snapshot.items[0].image.alt, snapshot.items[0].image.credit) == ("A dam.", "K. B.")
    with pytest.raises(StateError, match="is an excerpt source"):
        desk.give_order(
            today, DAY, Order(verb="edit", url=excerpt, fields={"image_url": "https://p.example/x.jpg"})
        )


@pytest.mark.parametrize(
    "address",
    [
        "javascript:alert(1)", "data:image/png;base64,AA==", "/etc/passwd", "boats.jpg", "https:///x.png", "http://[::1/x.png",
        "https://10.0.0.5/x.png", "http://127.0.0.1/x.png", "https://ann:secret@p.example.org/x.png", "https://p.example.org/a b",
    ],
)  # fmt: skip
def test_a_picture_that_no_mail_program_loads_is_refused(desk: Desk, address: str) -> None:
    """At the order, with a sentence, and nothing is written down; where links lead home, home is reachable."""
    public = replace(desk, settings=desk.settings.model_copy(update={"base_url": "https://mail.example.org"}))
    today, order = desk.catalogue["today"], Order(verb="edit", url=STORY, fields={"image_url": address})

    with pytest.raises(WordingError, match=r"cannot be a picture's address: .+"):
        public.give_order(today, DAY, order)

    assert desk.orders(today, DAY) == ()
    home = replace(order, fields={"image_url": "http://127.0.0.1:8025/x.png"})
    assert desk.give_order(today, DAY, home) > 0


def test_an_order_for_a_story_nobody_collected_is_taken_and_told(desk: Desk) -> None:
    """In the picks and as a note, until a source brings it; any order but the one taken back."""
    today, (lead, *_) = desk.catalogue["today"], places(desk, "lead")
    desk.give_order(today, DAY, Order(verb="pin", url=lead, actor="mia"))
    desk.give_order(today, DAY, Order(verb="drop", url=STORY, actor="tom"))

    made = desk.make(today, DAY, now=NOW)
    desk.undo(today, DAY, actor="tom")

    assert [order.told for order in made.picks.waiting] == ["drop by tom"]
    (found,) = [one for one in made.findings if one.code == "order-waits"]
    assert (found.severity, found.where) == ("note", STORY) and "drop by tom" in found.message
    assert desk.pick(today, DAY, now=NOW).waiting == ()
    assert (desk.is_collected(lead), desk.is_collected(STORY)) == (True, False)


def test_more_pins_than_a_section_is_made_for_are_told(desk: Desk) -> None:
    """They stand in it, and a note says how many fit."""
    today = desk.catalogue["today"]
    for url in places(desk)[:2]:
        desk.give_order(today, DAY, Order(verb="pin", url=url, section="lead"))

    found = [one.message for one in desk.make(today, DAY, now=NOW).findings if one.code == "section-full"]

    assert len(found) == 1 and "2 stories where 1 fit" in found[0]


def test_a_subject_is_one_line(desk: Desk) -> None:
    """A line break in an inbox line is refused, not made a space untold."""
    for name in ("subject", "preheader"):
        with pytest.raises(WordingError, match=f"{name}: .*write it on one line"):
            desk.give_order(desk.catalogue["today"], DAY, Order(verb="words", fields={name: "One\ntwo"}))


def test_half_a_block_is_refused_before_it_is_written_down(desk: Desk) -> None:
    """A quote without its speaker would hold up the edition at five in the morning."""
    weekend = desk.catalogue["weekend"]

    with pytest.raises(WordingError, match=r"quote\.who"):
        desk.give_order(weekend, DAY, Order(verb="words", fields={"quote.text": "Yes."}))

    assert desk.orders(weekend, DAY) == ()
