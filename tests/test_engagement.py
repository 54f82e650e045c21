"""Engagement by command and by the scheduler: cohorts, a rehearsal, and one look a day by one process."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import insert
from sqlmodel import select

from newsletter.desk import Desk
from newsletter.settings import load_settings
from newsletter.store.session import writing
from newsletter.store.tables import Event, Subscriber, Subscription
from newsletter.times import parse_instant
from newsletter.watch.listening import keep_listening
from tests.test_day import NOW, run
from tests.test_day import site as site

AT = parse_instant(NOW)
RULE = "\n[sunset]\neditions = 3\ndays = 30\n"


@pytest.fixture
def quiet(site: Path) -> str:
    """A free reader of Today who has not opened anything for a year; the others have. Returns the address."""
    path = site / "templates/publication.toml"
    path.write_text(f"{path.read_text(encoding='utf-8')}{RULE}", encoding="utf-8")
    run("subscribers", "import", "samples/subscribers.csv", "--now", NOW)
    desk = Desk.open(load_settings())
    with writing(desk.engine) as session:
        for row in session.exec(select(Subscriber)):
            row.joined_at, row.engaged_at = AT - timedelta(days=400), AT - timedelta(days=1)
        for one in session.exec(select(Subscription)):
            one.since = AT - timedelta(days=400)
        query = select(Subscriber).join(Subscription).where(
            Subscription.newsletter == "today", Subscription.state == "active", Subscriber.plan == "free", Subscriber.status == "active"
        )  # fmt: skip
        row = session.exec(query).first()
        assert row is not None
        row.engaged_at = None
        session.connection().execute(
            insert(Event),
            [
                {
                    "event_id": f"e{n}", "kind": "delivered", "edition": f"today.2026-11-{n:02}.1", "reader": row.reader,
                    "occurred_at": AT - timedelta(days=20 - n), "received_at": AT - timedelta(hours=1),
                }
                for n in range(10, 16)
            ],
        )  # fmt: skip
        email = row.email
    desk.engine.dispose()
    return email


def test_cohorts_and_what_would_be_done(quiet: str) -> None:
    """Everybody of a newsletter is in one cohort; a rehearsal says what would be done, and does nothing."""
    sizes = {row["newsletter"]: 0 for row in run("segments", "--json", "--now", NOW)["segments"]}
    for row in run("segments", "--json", "--now", NOW)["segments"]:
        sizes[row["newsletter"]] += row["size"]

    told = run("engagement", "today", "--dry-run", "--now", NOW, "--json")
    words = run("engagement", "--dry-run", "--now", NOW)

    (today,) = told["newsletters"]
    assert (today["new"], today["gone"], today["asked"]) == (0, 1, 0)
    assert today["active"] + today["gone"] >= sizes["today"]
    assert told["due"] == {
        "asking": 1, "paused": 0, "stopped": 0, "stayed": 0, "unknown": 0, "unproven": 0, "why_not": "",
    }  # fmt: skip
    assert "The sunset would ask 1, pause 0, stop 0" in " ".join(words.split())
    assert not list(Path("outbox-system").rglob("*.eml"))


def test_the_scheduler_looks_once_a_day(quiet: str) -> None:
    """Whoever wakes up, however often: one mail, and everybody can see that it was sent."""
    clock = [AT]
    desk = Desk.open(load_settings(), clock=lambda: clock[0])

    for hours in (0, 1, 5):
        clock[0] = AT + timedelta(hours=hours)
        keep_listening(desk)

    (path,) = [one for one in Path("outbox-system").rglob("*.eml") if b"/stay/" in one.read_bytes()]
    assert quiet.encode() in path.read_bytes()
    desk.engine.dispose()
    told = run("subscribers", "show", quiet, "--json")
    assert [one["step"] for one in told["sunset"]] == ["asked"]
    assert "asked at 2026-11-20" in run("subscribers", "show", quiet)
    assert run("engagement", "today", "--now", NOW, "--json")["newsletters"][0]["asked"] == 1


def test_without_events_it_says_why_it_does_nothing(site: Path) -> None:
    """A local mail folder tells nothing back, so nobody's silence means anything."""
    path = site / "templates/publication.toml"
    path.write_text(f"{path.read_text(encoding='utf-8')}{RULE}", encoding="utf-8")

    told = run("engagement", "--dry-run", "--now", NOW, "--json")["due"]

    assert told["why_not"] == "nothing was heard from the provider yet, so nobody's silence means anything"


def test_a_rule_beyond_reason_is_refused(site: Path) -> None:
    """Named with its field, when the file is read; not when somebody is looked for."""
    path = site / "templates/publication.toml"
    rule = "\n[sunset]\ndays = 9999999999\n"
    path.write_text(f"{path.read_text(encoding='utf-8')}{rule}", encoding="utf-8")

    assert "sunset.days" in run("engagement", "--dry-run", "--now", NOW, code=1)


def test_without_a_rule_there_is_none(site: Path) -> None:
    """Nothing is done about anybody until a publication says so."""
    told = run("engagement", "--dry-run", "--now", NOW, "--json")["due"]

    assert told["why_not"] == "there is no [sunset] in publication.toml"
