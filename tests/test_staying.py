"""Staying: who was asked answers with one press, from the mail or their preferences; looking changes nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlmodel import select

from newsletter.audience.subscribers import add
from newsletter.audience.sunset import Next, Step, newest_step, take, was_asked
from newsletter.audience.tokens import Signer, TokenKind
from newsletter.catalogue import Sunset
from newsletter.notices import Kind, Notices
from newsletter.settings import Keys, Settings
from newsletter.store.session import reading, writing
from newsletter.store.tables import Subscriber, Subscription
from newsletter.words import LANGUAGES
from tests.builders import the_catalogue
from tests.visiting import House, Moment

NOW = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)
ANN = "ann@mail.example"
WAY = (Step.ASKING, Step.PAUSED, Step.STOPPED)


@pytest.fixture
def house(engine: Engine, keys: Keys, tmp_path: Path) -> House:
    """The pages, with one reader of two newsletters who opens nothing."""
    add(
        engine,
        ANN,
        catalogue=the_catalogue(),
        keys=keys,
        now=NOW,
        newsletters=("planet", "today"),
        consent="yes",
    )
    return House(engine, keys, tmp_path / "mails", Moment(NOW))


def the_reader(engine: Engine) -> Subscriber:
    """Her row."""
    with reading(engine) as session:
        return session.exec(select(Subscriber)).one()


def go_as_far_as(engine: Engine, step: Step) -> None:
    """Take the steps of the rule, up to *step*."""
    for one in WAY[: WAY.index(step) + 1]:
        with writing(engine) as session:
            newest = newest_step(session, 1)
            due = Next(
                1, "", one, "no sign of life", NOW - timedelta(days=99), (newest.id or 0) if newest else 0
            )
            assert take(session, due, Sunset(), now=NOW)
        with writing(engine) as session:
            was_asked(session, 1, now=NOW)


def path_of(house: House) -> str:
    """The way to the page behind the mail's link."""
    return f"/stay/{Signer(house.keys).sign(TokenKind.STAY, the_reader(house.engine).reader)}"


def states(engine: Engine) -> set[str]:
    """How she stands to her newsletters."""
    with reading(engine) as session:
        return set(session.exec(select(Subscription.state)))


def last_step(engine: Engine) -> str:
    """What was done last."""
    with reading(engine) as session:
        row = newest_step(session, 1)
        return row.step if row else ""


@pytest.mark.parametrize("step", WAY)
def test_a_press_takes_back_what_was_done(house: House, step: Step) -> None:
    """Asked, paused or stopped, from the mail: everything goes on; looking at the page changes nothing."""
    go_as_far_as(house.engine, step)
    before = last_step(house.engine), states(house.engine)
    house.visitor().ask("GET", path_of(house))
    looked = last_step(house.engine), states(house.engine)

    answer = house.visitor().fill(path_of(house))

    assert looked == before
    assert "It goes on" in answer.text and "Parallel Today" in answer.text
    assert (last_step(house.engine), states(house.engine)) == ("stayed", {"active"})
    assert the_reader(house.engine).paused_until is None


@pytest.mark.parametrize("step", WAY)
def test_the_preferences_say_what_was_done_and_take_it_back(house: House, step: Step) -> None:
    """By the mail's own link too: what happened, and a button that ends it."""
    go_as_far_as(house.engine, step)
    path = f"/preferences/{Signer(house.keys).preferences(the_reader(house.engine).reader)}"
    visitor = house.visitor()
    page = visitor.ask("GET", path).text

    answer = visitor.fill(path, button=0, do="stay")

    assert "have not opened anything for a long time" in page
    assert "It goes on" in answer.text
    assert "have not opened anything for a long time" not in visitor.ask("GET", path).text
    assert (last_step(house.engine), states(house.engine)) == ("stayed", {"active"})


def test_a_press_that_is_a_machines_is_asked_about(house: House) -> None:
    """Quicker than anybody reads, or after the link no person sees: once more, and nothing is changed."""
    go_as_far_as(house.engine, Step.STOPPED)
    hasty = house.visitor().fill(path_of(house), wait=0.1)
    house.visitor().ask("GET", f"{path_of(house)}/t")
    trapped = house.visitor().fill(path_of(house))

    assert "Press again if it was you" in hasty.text and "Press again if it was you" in trapped.text
    assert last_step(house.engine) == "stopped"


def test_a_link_of_another_kind_opens_nothing(house: House) -> None:
    """Nor does one that was altered, nor that of a reader who is gone."""
    token = Signer(house.keys).preferences(the_reader(house.engine).reader)
    gone = Signer(house.keys).sign(TokenKind.STAY, "0" * 24)

    answers = [
        house.visitor().ask("GET", f"/stay/{one}").status_code
        for one in (token, path_of(house)[6:-1] + "!", gone)
    ]

    assert answers == [404, 404, 404]


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_mail_asks_in_the_readers_language(house: House, language: str) -> None:
    """With a link that stays, and one that leaves with one click."""
    with writing(house.engine) as session:
        session.exec(select(Subscriber)).one().language = language
    settings = Settings(NEWSLETTER_SYSTEM_OUTBOX=house.outbox)
    notices = Notices(house.engine, the_catalogue(), house.keys, settings, clock=house.clock)

    sent = notices.send(Kind.STILL, 1, values={"link": path_of(house), "newsletters": ("planet", "today")})

    mail = house.mails()[-1]
    assert sent and mail.link("stay") == path_of(house)
    assert ("Do you still want" in mail.subject) == (language == "en")
    assert "/u/" in mail.headers["list-unsubscribe"]
