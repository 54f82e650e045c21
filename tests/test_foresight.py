"""What is amiss is told before the slot, once; editions that wait for editors keep their hours."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, update
from sqlmodel import col

from newsletter.desk import Account, Desk
from newsletter.rota import Collecting, attend, begin, carry_on
from newsletter.store.session import writing
from newsletter.store.tables import SourceState
from newsletter.store.telling import claim, is_told, owe, owed, tell_once
from newsletter.watch.foresight import foresee, troubles
from tests.approving import (
    DAY,
    MAKE_UP,
    MIA,
    Opens,
    approve,
    edition,
    go_on,
    mails,
    prepare,
    told,
    with_today,
)

# --- told early ---------------------------------------------------------------------------------


def test_a_thin_day_is_told_once(opens: Opens) -> None:
    """However often it is looked at; what is missing, when it is due, and what its rule will do. Nothing is stored."""
    desk = opens(approval="auto", min_stories=40)
    today = desk.catalogue["today"]

    for _ in range(3):
        foresee(desk, today, DAY)
        go_on(desk, minutes=15)

    (mail, _other) = mails(desk, "early")
    assert "a thin day" in mail.subject and "40" in mail.text
    assert "06:30 (Europe/Paris)" in mail.text and "It will be held: pin stories" in mail.text
    assert desk.find(today, DAY) is None


def test_what_a_pool_filled_is_told(opens: Opens) -> None:
    """An edition that is full only by its fallback goes, and its editors know before."""
    desk = opens(approval="auto")
    today = desk.catalogue["today"]
    seven = next(one for one in today.sections if one.id == "seven")
    short = seven.model_copy(update={"min": 3, "max_age_hours": 3.0, "fallback": ("earlier",)})
    changed = today.model_copy(
        update={
            "window_hours": 6.0, "min_stories": 1,
            "sections": tuple(short if one.id == "seven" else one.model_copy(update={"min": 0}) for one in today.sections),
        }
    )  # fmt: skip

    found = troubles(desk, changed, DAY, now=MAKE_UP)

    assert [one.what for one in found] == ["filled"]
    assert "Seven things to know has" in found[0].says and "from earlier days" in found[0].says


def test_what_is_new_is_told_and_what_is_mended_is_not(opens: Opens) -> None:
    """A source that dies later is told in a further mail; once all is well there is silence."""
    desk = opens(approval="auto", editors=(MIA,))
    today = desk.catalogue["today"]
    assert troubles(desk, today, DAY, now=MAKE_UP) == ()
    with writing(desk.engine) as session:
        session.execute(
            update(SourceState)
            .where(col(SourceState.source) == "the-parallel")
            .values(failures=3, last_error="HTTP 503")
        )

    foresee(desk, today, DAY)
    thin = today.model_copy(update={"min_stories": 40})
    foresee(desk, thin, DAY)
    with writing(desk.engine) as session:
        session.execute(update(SourceState).values(failures=0))
    foresee(desk, today, DAY)

    assert [mail.subject.partition(": ")[2] for mail in mails(desk, "early")] == [
        "a dead source",
        "a thin day",
    ]
    assert "HTTP 503" in mails(desk, "early")[0].text


def test_no_story_and_a_broken_template_are_told(opens: Opens, tmp_path: Path) -> None:
    """Each by what it is."""
    desk = opens(approval="auto")
    today = desk.catalogue["today"]

    empty = troubles(desk, today, DAY + timedelta(days=30), now=MAKE_UP + timedelta(days=30))
    broken = troubles(desk, today.model_copy(update={"subject": "{{ nothing.like.this }}"}), DAY, now=MAKE_UP)

    assert [one.what for one in empty] == ["empty"] and "being read?" in empty[0].says
    assert [one.what for one in broken] == ["broken"] and "It will be held" in broken[0].says


# --- the rota -----------------------------------------------------------------------------------


@pytest.fixture
def rota(opens: Opens) -> Callable[..., Desk]:
    """Opens a desk whose rota begins with the make-up, and which reads no feeds."""

    def begun(**settings: Any) -> Desk:
        desk = opens(**settings)
        go_on(desk, hours=-1)
        begin(desk)
        go_on(desk, hours=1)
        return desk

    return begun


class Still(Collecting):
    """Collects nothing: everything is there."""

    def refresh(self, desk: Desk) -> None:
        """Do nothing."""


def look(desk: Desk) -> tuple[Account, ...]:
    """What the job does each minute."""
    accounts = attend(desk, desk.catalogue["today"], collecting=Still())
    carry_on(desk)
    return accounts


def test_it_is_made_up_at_its_lead_and_goes_at_its_slot(rota: Callable[..., Desk]) -> None:
    """A minute before: nothing. At the lead: asked. Approved, it waits for half past six and goes then, once."""
    desk = rota(editors=(MIA,))
    go_on(desk, minutes=-1)
    assert look(desk) == () and desk.find(desk.catalogue["today"], DAY) is None
    go_on(desk, minutes=1)

    made = look(desk)
    again = look(desk)
    approve(desk)
    go_on(desk, minutes=59)
    look(desk)
    before = edition(desk).status
    go_on(desk, minutes=1)
    (gone,) = attend(desk, desk.catalogue["today"], collecting=Still())
    look(desk)

    assert [account.status for account in made] == ["draft"] and again == ()
    assert gone.status == "submitted"
    assert len(mails(desk, "approval")) == 1
    assert (before, edition(desk).status) == ("approved", "submitted")
    sent = list(desk.settings.outbox.rglob("*.eml"))
    assert len(sent) == edition(desk).audience > 100


def test_a_late_start_makes_up_and_asks(rota: Callable[..., Desk]) -> None:
    """Down over slot and deadline: the editors still get a quarter of an hour; then the rule decides."""
    desk = rota(editors=(MIA,), unapproved="send")
    go_on(desk, hours=2)

    (made,) = look(desk)
    go_on(desk, minutes=14)
    carry_on(desk)
    waits = edition(desk).status
    go_on(desk, minutes=1)
    carry_on(desk)

    assert (made.status, waits, edition(desk).status) == ("draft", "draft", "submitted")
    assert len(mails(desk, "approval")) == len(mails(desk, "decided")) == 1


def test_a_held_make_up_is_told_and_tried_again(rota: Callable[..., Desk]) -> None:
    """Thin at the lead: told at once, made anew when sources are read, and asked about when it is whole."""
    desk = rota(editors=(MIA,))
    whole = desk.catalogue
    desk.catalogue = with_today(editors=(MIA,), min_stories=40)
    look(desk)
    held = edition(desk).status
    go_on(desk, minutes=14)
    look(desk)
    desk.catalogue = whole
    soon = look(desk)
    go_on(desk, minutes=15)

    later = look(desk)

    assert held == "held" and [mail.subject.partition(": ")[2] for mail in mails(desk, "early")] == ["held"]
    assert [account.status for account in (*soon, *later)] == ["draft"]
    assert len(mails(desk, "approval")) == 1


def test_what_its_rule_skipped_stays_skipped(rota: Callable[..., Desk]) -> None:
    """Decided before the slot, it is not made up anew when sources are read again."""
    desk = rota(unapproved="skip", approval_deadline_minutes=-30)
    look(desk)
    go_on(desk, minutes=30)
    look(desk)

    for _ in range(4):
        go_on(desk, minutes=15)
        assert look(desk) == ()

    assert (edition(desk).status, [verb for verb, _, _ in told(desk)]) == (
        "skipped",
        ["asked", "asked", "unapproved"],
    )


def test_an_editors_hold_is_left_alone(rota: Callable[..., Desk]) -> None:
    """Nobody makes it up anew, asks again, or decides."""
    desk = rota()
    look(desk)
    desk.hold(desk.catalogue["today"], DAY, actor="mia", reason="wait for the vote")

    for _ in range(6):
        go_on(desk, minutes=15)
        assert look(desk) == ()

    assert edition(desk).reason == "held by mia: wait for the vote"
    assert len(mails(desk, "approval")) == 2 and mails(desk, "decided") == []


def test_an_auto_newsletter_is_looked_at_early_and_told_when_it_was_held(rota: Callable[..., Desk]) -> None:
    """Thin an hour before: told. Held at the slot: told that, too. Never again after."""
    desk = rota(approval="auto", editors=(MIA,), min_stories=40)

    for _ in range(6):
        look(desk)
        go_on(desk, minutes=20)

    assert edition(desk).status == "held"
    assert [mail.subject.partition(": ")[2] for mail in mails(desk, "early")] == ["a thin day", "held"]


def test_what_a_dead_process_promised_is_said_by_the_next(rota: Callable[..., Desk]) -> None:
    """Killed between the make-up and its mails: the next look says what became of it."""
    desk = rota(editors=(MIA,), min_stories=40)
    with writing(desk.engine) as session:
        owe(session, f"made today {DAY}", at=desk.clock())
    prepare(desk)

    carry_on(desk)

    assert [mail.subject.partition(": ")[2] for mail in mails(desk, "early")] == ["held"]
    assert owed(desk.engine, "made") == ()


# --- said once ----------------------------------------------------------------------------------


def test_of_many_at_once_one_says_it(engine: Engine) -> None:
    """Threads of one process stand for machines: the claim is one statement on both databases."""
    said: list[int] = []
    ready = threading.Barrier(4)

    def say_it(number: int) -> None:
        ready.wait(5)
        tell_once(engine, "thin today", at=MAKE_UP, say=lambda: said.append(number) is None)

    threads = [threading.Thread(target=say_it, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)

    assert len(said) == 1 and is_told(engine, "thin today")


def test_a_claim_lapses_and_a_failure_is_tried_again(engine: Engine) -> None:
    """Who died while saying it, or was refused, is followed after five minutes; then it is said once for all."""
    later = MAKE_UP + timedelta(minutes=5)

    refused = tell_once(engine, "k", at=MAKE_UP, say=lambda: False)
    too_soon = tell_once(engine, "k", at=later - timedelta(seconds=1), say=lambda: True)
    said = tell_once(engine, "k", at=later, say=lambda: True)
    again = tell_once(engine, "k", at=later + timedelta(days=1), say=lambda: True)

    assert (refused, too_soon, said, again) == (False, False, True, False)
    assert claim(engine, "look", at=MAKE_UP, lapses=timedelta(minutes=15))
    assert not claim(engine, "look", at=later, lapses=timedelta(minutes=15))
    assert claim(engine, "look", at=MAKE_UP + timedelta(minutes=15), lapses=timedelta(minutes=15))
