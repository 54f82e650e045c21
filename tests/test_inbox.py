"""The inbox: what was acknowledged is never lost, comes to the same end in any order, and stops for nobody."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event, text
from sqlmodel import select
from structlog.testing import capture_logs

from newsletter.audience.leaving import join
from newsletter.outbox import inbox
from newsletter.outbox.evidence import Evidence
from newsletter.settings import Keys, load_keys, load_settings
from newsletter.store.session import open_store, reading, writing
from newsletter.store.tables import Event, Inbox, Subscriber, Subscription, Suppression
from tests.builders import ROOT, a_site
from tests.standin_events import NOWHERE, Taken, body_of, make_event, new_key, post_events
from tests.test_evidence import readers, taken, told, world
from tests.test_outbox import NOW


def post(engine: Engine, *events: Any, at: datetime = NOW) -> None:
    """Put a request with *events* into the inbox, as the webhook does."""
    inbox.append(engine, body_of(events), at=at)


def process(engine: Engine, keys: Keys, at: datetime = NOW) -> Evidence:
    """Process what waits."""
    return inbox.process(engine, keys, clock=lambda: at)


def test_what_waits_is_stored_and_gone(engine: Engine, keys: Keys) -> None:
    """Each request once, and no address is left behind."""
    readers(engine, keys, 2)
    post(engine, told("delivered", taken(1)), told("delivered", taken(2)))
    post(engine, told("open", taken(1)))

    first, again = process(engine, keys), process(engine, keys)

    assert (first, again) == (Evidence(stored=3), Evidence())
    assert inbox.waiting(engine) == inbox.Waiting(0, None, 0, NOW)


def test_a_death_between_two_bodies_costs_nothing(engine: Engine, keys: Keys) -> None:
    """Whatever is not committed is still in the inbox, and is stored once."""
    readers(engine, keys, 3)
    for number in (1, 2, 3):
        post(engine, told("delivered", taken(number)))
    begun = []

    def die(connection: Any) -> None:
        if connection.get_execution_options().get("writes"):
            begun.append(connection)
            if len(begun) == 2:
                raise KeyboardInterrupt

    event.listen(engine, "commit", die)
    with pytest.raises(KeyboardInterrupt):
        process(engine, keys)
    event.remove(engine, "commit", die)

    assert inbox.waiting(engine).bodies == 2
    assert process(engine, keys) == Evidence(stored=2)


def test_what_cannot_be_stored_stands_alone(
    engine: Engine, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database refuses one of nine elements: the others are stored, it is set aside, and taken up again."""
    readers(engine, keys, 9)
    at_fault = "CREATE UNIQUE INDEX one_kind ON event (kind) WHERE kind = 'opened'"
    with engine.begin() as connection:
        connection.execute(text(at_fault))
    post(engine, told("open", taken(9)))
    process(engine, keys)
    post(engine, *(told("open" if number == 4 else "delivered", taken(number)) for number in range(1, 10)))

    with capture_logs() as logs:
        assert process(engine, keys) == Evidence(stored=8)

    assert inbox.waiting(engine).aside == 1
    assert [one["error"] for one in logs if one["event"] == "inbox.set_aside"] == ["IntegrityError"]
    assert "example.com" not in str(logs)
    with engine.begin() as connection:
        connection.execute(text("DROP INDEX one_kind"))
    assert process(engine, keys) == Evidence()
    assert (inbox.take_up_again(engine), process(engine, keys)) == (1, Evidence(stored=1))


def test_what_is_no_json_is_set_aside_and_one_day_gone(engine: Engine, keys: Keys) -> None:
    """It was signed, so it is kept; it may hold addresses, so it is not kept for ever."""
    inbox.append(engine, b"[not json]\r\n", at=NOW)
    with writing(engine) as session:
        session.add(Inbox(received_at=NOW, body=zlib.compress(b"[]")[:-3]))
    readers(engine, keys, 1)
    post(engine, told("delivered", taken(1)))

    assert process(engine, keys) == Evidence(stored=1)
    assert inbox.waiting(engine).aside == 2
    inbox.prune_inbox(engine, now=NOW + inbox.KEPT_ASIDE)
    assert inbox.waiting(engine).aside == 2
    inbox.prune_inbox(engine, now=NOW + inbox.KEPT_ASIDE + timedelta(seconds=1))
    assert inbox.waiting(engine).aside == 0


def test_any_order_repetition_and_changed_ids_come_to_the_same_end(engine: Engine, keys: Keys) -> None:
    """What is known of batches, addresses and readers in the end does not depend on how it came."""
    readers(engine, keys, 20)
    dice = random.Random(8)
    kinds = ("processed", "delivered", "open", "click", "bounce", "spamreport", "unsubscribe", "deferred")
    events = [
        told(dice.choice(kinds), taken(dice.randrange(1, 21)), NOW + timedelta(seconds=dice.randrange(900)))
        for _ in range(150)
    ]

    ends = []
    for seed in (1, 2):
        dice = random.Random(seed)
        again = dice.sample(events, 60)
        came = [
            *events,
            *again,
            *({**one, "sg_event_id": f"other{seed}{number}"} for number, one in enumerate(again)),
        ]
        dice.shuffle(came)
        for start in range(0, len(came), 17):
            post(engine, *came[start : start + 17], at=NOW + timedelta(hours=1))
            if dice.random() < 0.5:
                process(engine, keys, NOW + timedelta(hours=1))
        process(engine, keys, NOW + timedelta(hours=1))
        end = world(engine)
        end["events"] = sorted({(kind, hashed, at) for _, hashed, kind, _, at in end["events"]})
        ends.append(end)

    assert ends[0] == ends[1]
    assert {reason for _, _, reason in ends[0]["suppressed"]} >= {"bounced", "complained"}


@pytest.mark.parametrize("event_id", ["the same", "another"])
def test_who_came_back_stays_whatever_is_told_again(engine: Engine, keys: Keys, event_id: str) -> None:
    """They left at the provider and joined again since; the old event comes once more, or for the first time."""
    readers(engine, keys, 2)
    leaving = [told("unsubscribe", taken(number), NOW, sg_event_id="the same") for number in (1, 2)]
    post(engine, leaving[0])
    process(engine, keys)
    later = NOW + timedelta(days=1)
    with writing(engine) as session:
        assert join(session, 1, "daily", now=later, source="page", words="Join")

    post(engine, *({**one, "sg_event_id": event_id} for one in leaving), at=later + timedelta(days=1))
    process(engine, keys, later + timedelta(days=1))

    with reading(engine) as session:
        states = {one.subscriber_id: one.state for one in session.exec(select(Subscription))}
        assert states == {1: "active", 2: "left"}
        assert len(session.exec(select(Suppression)).all()) == 1


def test_a_replay_reads_anew_and_undoes_nothing(engine: Engine, keys: Keys) -> None:
    """As if an older version had stored the events without what is counted by; who came back stays."""
    readers(engine, keys, 3)
    post(
        engine,
        told("click", taken(1), url="https://a.example/x?utm_source=n&id=1#top", useragent="Barracuda/5.0"),
        told("spamreport", taken(2)),
        told("unsubscribe", taken(3)),
    )
    process(engine, keys)
    with writing(engine) as session:
        assert join(session, 3, "daily", now=NOW + timedelta(days=1), source="page", words="Join")
        session.execute(text("UPDATE event SET link = '', client = '', is_machine = false"))
        session.execute(text("DELETE FROM suppression"))

    assert inbox.replay(engine, at=NOW + timedelta(days=2)) == (3, 1)
    assert inbox.replay(engine, edition="other.2026-11-20.1", at=NOW) == (0, 0)

    with reading(engine) as session:
        clicked = session.exec(select(Event).where(Event.kind == "clicked")).one()
        assert (clicked.link, clicked.client, clicked.is_machine) == (
            "https://a.example/x?id=1",
            "other",
            True,
        )
        assert [one.reason for one in session.exec(select(Suppression))] == ["complained"]
        assert session.get_one(Subscription, (3, "daily")).state == "active"


def test_a_links_token_is_not_kept(engine: Engine, keys: Keys) -> None:
    """Whoever reads the table must not be able to leave for a reader."""
    readers(engine, keys, 1)
    post(engine, told("click", taken(1), url=f"https://mail.example/u/{'Ab3_' * 12}"))
    process(engine, keys)

    with reading(engine) as session:
        (stored,) = session.exec(select(Event)).all()
    assert stored.link == "https://mail.example/u/*"
    assert "Ab3_" not in json.dumps(stored.raw)


def _a_free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def _serving(folder: Path, port: int, public: str) -> subprocess.Popen[bytes]:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("NEWSLETTER_", "SENDGRID_"))},
        "SENDGRID_WEBHOOK_PUBLIC_KEY": public, "DATABASE_URL": f"sqlite:///{folder}/subscribers.db",
    }  # fmt: skip
    command = [sys.executable, "-m", "newsletter.cli.main", "serve", "--port", str(port)]
    serving = subprocess.Popen(
        command, cwd=folder, env={**environment, "PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL
    )
    for _ in range(400):
        with socket.socket() as knocking:
            if knocking.connect_ex(("127.0.0.1", port)) == 0:
                return serving
        time.sleep(0.05)
    raise AssertionError("it does not answer")


def _ids(requests: Sequence[Sequence[dict[str, Any]]]) -> set[str]:
    return {one["sg_event_id"] for request in requests for one in request}


def test_a_kill_during_intake_loses_nothing_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real command, killed while requests come in (so it takes seconds): what got a 204 is there."""
    private, public = new_key()
    folder, port = a_site(tmp_path / "site"), _a_free_port()
    reader = Taken("today.2026-11-20.1", "7.1", "ab" * 12, "ann@mail.example")
    requests = [
        [
            make_event(
                "delivered", reader, NOWHERE, 0, serial=number * 100 + one, now=NOW.timestamp(), fields={}
            )
            for one in range(100)
        ]
        for number in range(30)
    ]
    acknowledged: list[Sequence[dict[str, Any]]] = []

    def post_all() -> None:
        with suppress(OSError, HTTPException):
            for events in requests:
                if post_events(f"http://127.0.0.1:{port}/webhooks/sendgrid", private, events) == [204]:
                    acknowledged.append(events)

    serving = _serving(folder, port, public)
    posting = threading.Thread(target=post_all)
    posting.start()
    while len(acknowledged) < 9:
        time.sleep(0.001)
    os.kill(serving.pid, signal.SIGKILL)
    posting.join()
    serving.wait()

    monkeypatch.chdir(folder)
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{folder}/subscribers.db")
    settings = load_settings()
    engine = open_store(settings.database_url)
    inbox.process(engine, load_keys(settings), clock=lambda: datetime.now(UTC))
    with reading(engine) as session:
        stored = set(session.exec(select(Event.event_id)))
    engine.dispose()

    assert 9 <= len(acknowledged) < len(requests)
    assert stored >= _ids(acknowledged)


def test_subscribers_are_left_alone(engine: Engine, keys: Keys) -> None:
    """Events about addresses nobody here has are kept and change no reader."""
    readers(engine, keys, 1)
    post(engine, told("delivered", Taken("x.2026-11-20.1", "1.1", "f" * 24, "nobody@mail.example")))
    process(engine, keys)

    with reading(engine) as session:
        assert [one.status for one in session.exec(select(Subscriber))] == ["active"]
