"""Alarms: each thing that somebody has to look at is told once, with what to do, and not before it is so."""

from __future__ import annotations

import email
import email.policy
import zlib
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from sqlmodel import select
from structlog.testing import capture_logs
from typer.testing import CliRunner

from newsletter.cli.main import app
from newsletter.desk import Desk
from newsletter.events import EventKind
from newsletter.outbox import inbox
from newsletter.outbox.ids import pack
from newsletter.settings import Settings, load_settings
from newsletter.store.rota import keep_from
from newsletter.store.session import reading, writing
from newsletter.store.tables import (
    ArticleRow,
    Batch,
    EditionRow,
    Event,
    Inbox,
    Rendering,
    Slot,
    SourceState,
)
from newsletter.watch.alarms import look, raise_alarms
from newsletter.watch.digest import send_digest
from newsletter.watch.listening import Watch, keep_listening
from tests.builders import a_site
from tests.relay import Relay

NOW = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)  # a Monday
DAY = date(2026, 11, 23)
EDITION = "today.2026-11-23.1"


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """An installation where a thousand readers got Today an hour ago."""
    folder = a_site(tmp_path / "site")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{folder}/subscribers.db")
    monkeypatch.setenv("SENDGRID_WEBHOOK_PUBLIC_KEY", "a key")
    opened = Desk.open(load_settings(), clock=lambda: NOW)
    with writing(opened.engine) as session:
        row = EditionRow(
            id=1, newsletter="today", edition_date=DAY, status="submitted", made_at=NOW, audience=1000,
            frozen_at=NOW - timedelta(hours=1), submitted_at=NOW - timedelta(hours=1),
        )  # fmt: skip
        session.add(row)
        session.flush()
        session.add(
            Rendering(
                edition_id=1, variant="free", subject="s", html=zlib.compress(b""), text=zlib.compress(b"")
            )
        )
        session.add(Batch(id=1, edition_id=1, seq=1, variant="free", ids=pack(range(1, 1001)), lo_id=1, hi_id=1000, n=1000, state="submitted", attempt=1, changed_at=NOW - timedelta(hours=1)))  # fmt: skip
    heard(opened, EventKind.DELIVERED, 1)
    return opened


def heard(desk: Desk, kind: EventKind, number: int) -> None:
    """So many readers of the edition, of whom this was told."""
    with writing(desk.engine) as session:
        for index in range(number):
            session.add(
                Event(event_id=f"{kind}{index}", kind=kind, edition=EDITION, batch="1.1", reader=f"{index:024x}",
                      occurred_at=NOW, received_at=NOW - timedelta(minutes=5))
            )  # fmt: skip


def told(desk: Desk) -> list[tuple[str, str]]:
    """Recipient and subject of every alarm that was mailed."""
    found = []
    for file in desk.settings.system_outbox.rglob("*.eml"):
        message = email.message_from_bytes(file.read_bytes(), policy=email.policy.default)
        found.append((str(message["To"]), str(message["Subject"])))
    return sorted(found)


def keys(desk: Desk) -> list[str]:
    """What there is to be told now."""
    return [alarm.key for alarm in look(desk)]


def test_where_all_is_well_nothing_is_told(desk: Desk) -> None:
    """Delivered, heard, on time."""
    assert keys(desk) == []


def test_an_alarm_is_told_once_by_mail_and_to_the_log(desk: Desk) -> None:
    """To operators and the newsletter's editors; looked at again it is not told again."""
    heard(desk, EventKind.COMPLAINED, 1)

    with capture_logs() as logs:
        assert (raise_alarms(desk), raise_alarms(desk)) == (1, 0)

    assert told(desk) == [
        ("desk@news.theparallel.example", "Alarm: complaints, today"),
        ("operations@news.theparallel.example", "Alarm: complaints, today"),
    ]
    (line,) = [one for one in logs if one["event"] == "alarm.raised"]
    assert line["what"] == f"complaints {EDITION}" and "1 of 1000" in line["reason"] and line["remedy"]


@pytest.mark.parametrize(
    ("complaints", "expected"),
    [(0, []), (1, [f"complaints {EDITION}"]), (2, [f"complaints {EDITION}"]), (3, [f"held {EDITION}"])],
)
def test_complaints_warn_and_then_hold(desk: Desk, complaints: int, expected: list[str]) -> None:
    """0.1 % warns, 0.3 % holds."""
    heard(desk, EventKind.COMPLAINED, complaints)

    assert keys(desk) == expected


def test_two_readers_of_a_small_list_hold_nothing(desk: Desk) -> None:
    """Two of a hundred are 2 %, and two persons."""
    with writing(desk.engine) as session:
        session.get_one(Batch, 1).n = 100
    heard(desk, EventKind.COMPLAINED, 2)

    assert keys(desk) == [f"complaints {EDITION}"]


def approved(desk: Desk, day: date, *, by: str = "auto", at: datetime = NOW) -> None:
    """An edition of Today that only waits for the freeze."""
    from newsletter.rendering.engine import content_hash
    from newsletter.store.editions import load_renderings

    with writing(desk.engine) as session:
        row = EditionRow(newsletter="today", edition_date=day, status="approved", made_at=NOW, approved_by=by, approved_at=at)  # fmt: skip
        session.add(row)
        session.flush()
        session.add(Rendering(edition_id=row.id or 0, variant="free", subject="s", html=zlib.compress(b""), text=zlib.compress(b"")))  # fmt: skip
        session.flush()
        row.content_hash = content_hash(load_renderings(session, row.id or 0))


def test_what_is_held_goes_only_by_a_persons_word(desk: Desk) -> None:
    """The next edition is held, what is being sent is paused; released, it goes, and is not held again."""
    today = desk.catalogue["today"]
    with writing(desk.engine) as session:
        session.get_one(EditionRow, 1).status = "submitting"
    heard(desk, EventKind.COMPLAINED, 3)
    raise_alarms(desk)
    next_day = DAY + timedelta(days=1)
    approved(desk, next_day)

    assert desk.freeze(today, next_day, now=NOW) is None

    states = {one.date: one for day in (DAY, next_day) for one in desk.status(["today"], day=day)}
    assert (states[DAY].status, states[next_day].status) == ("paused", "held")
    assert "newsletter release today" in states[next_day].reason
    released = CliRunner().invoke(app, ["release", "today"])
    assert released.exit_code == 0 and CliRunner().invoke(app, ["release", "today"]).exit_code == 1
    raise_alarms(desk)
    approved(desk, DAY + timedelta(days=2))
    desk.freeze(today, DAY + timedelta(days=2), now=NOW)
    assert desk.status(["today"], day=DAY + timedelta(days=2))[0].status == "submitted"


@pytest.mark.parametrize(("minutes", "expected"), [(-1, "held"), (1, "submitted")])
def test_an_editor_who_approves_knowing_of_it_is_believed(desk: Desk, minutes: int, expected: str) -> None:
    """After the alarm a person's approval goes; what was approved before it does not."""
    heard(desk, EventKind.COMPLAINED, 3)
    raise_alarms(desk)
    day = DAY + timedelta(days=1)
    approved(desk, day, by="mia", at=NOW + timedelta(minutes=minutes))

    desk.freeze(desk.catalogue["today"], day, now=NOW)

    assert desk.status(["today"], day=day)[0].status == expected


def _bounces(desk: Desk) -> None:
    heard(desk, EventKind.BOUNCED, 50)


def _uncertain(desk: Desk) -> None:
    with writing(desk.engine) as session:
        session.add(Batch(edition_id=1, seq=2, variant="free", ids=pack([2000]), lo_id=2000, hi_id=2000, n=1, state="uncertain", attempt=1, changed_at=NOW - timedelta(minutes=15)))  # fmt: skip


def _silent(desk: Desk) -> None:
    with writing(desk.engine) as session:
        for one in session.exec(select(Event)):
            one.received_at = NOW - timedelta(hours=2)


def _missed(desk: Desk) -> None:
    with writing(desk.engine) as session:
        session.add(
            Slot(
                newsletter="today", local_date=DAY, due_at=NOW, state="missed", reason="off", recorded_at=NOW
            )
        )


def _late(desk: Desk) -> None:
    with writing(desk.engine) as session:
        session.add(Slot(newsletter="today", local_date=DAY, due_at=NOW - timedelta(minutes=16), state="made", recorded_at=NOW))  # fmt: skip


def _source(desk: Desk, *, read_days: int, came_days: int, failures: int) -> None:
    source = desk.catalogue.publication.feeds[0].id
    with writing(desk.engine) as session:
        session.add(SourceState(source=source, first_fetched_at=NOW - timedelta(days=90), last_success_at=NOW - timedelta(days=read_days), failures=failures))  # fmt: skip
        seen = NOW - timedelta(days=came_days)
        session.add(ArticleRow(url="https://a.example/1", source=source, published_at=seen, first_seen_at=seen, last_seen_at=seen))  # fmt: skip


def _dead(desk: Desk) -> None:
    _source(desk, read_days=4, came_days=4, failures=9)


def _stale(desk: Desk) -> None:
    _source(desk, read_days=0, came_days=8, failures=0)


def _overdue(desk: Desk) -> None:
    keep_from(desk.engine, "today", at=NOW - timedelta(hours=6))  # due at 05:30 UTC, and nobody has looked


def _standstill(desk: Desk) -> None:
    with writing(desk.engine) as session:
        session.get_one(EditionRow, 1).status = "submitting"
        session.add(Batch(edition_id=1, seq=2, variant="free", ids=pack([2000]), lo_id=2000, hi_id=2000, n=1, state="pending", changed_at=NOW - timedelta(hours=1)))  # fmt: skip


def _backlog(desk: Desk) -> None:
    inbox.append(desk.engine, b"[]", at=NOW - timedelta(minutes=11))


def _aside(desk: Desk) -> None:
    with writing(desk.engine) as session:
        session.add(Inbox(received_at=NOW, body=b"", error="ValueError"))


def _clock(desk: Desk) -> None:
    with writing(desk.engine) as session:
        session.get_one(Batch, 1).changed_at = NOW + timedelta(minutes=3)


@pytest.mark.parametrize(
    ("happen", "expected"),
    [
        (_bounces, "bounces"), (_uncertain, "uncertain"), (_silent, "silent"), (_missed, "missed"), (_late, "late"),
        (_overdue, "late"), (_standstill, "standstill"),
        (_dead, "dead"), (_stale, "stale"), (_backlog, "backlog"), (_aside, "aside"), (_clock, "clock"),
    ],
)  # fmt: skip
def test_whatever_is_amiss_is_told_with_what_to_do(
    desk: Desk, happen: Callable[[Desk], None], expected: str
) -> None:
    """One alarm of its kind, in sentences."""
    happen(desk)

    (alarm,) = look(desk)

    assert alarm.key.split()[0] == expected
    assert alarm.says.rstrip(":").endswith(".") or expected == "dead"
    assert len(alarm.do) > 20


def test_a_slot_that_was_late_is_told_once(desk: Desk) -> None:
    """While nobody looks at it, and not once more when it was made after all."""
    _overdue(desk)
    assert raise_alarms(desk) == 1

    with writing(desk.engine) as session:
        session.add(Slot(newsletter="today", local_date=DAY, due_at=NOW - timedelta(hours=4), state="made", recorded_at=NOW))  # fmt: skip

    assert (keys(desk), raise_alarms(desk)) == ([f"late today {DAY}"], 0)


@pytest.mark.parametrize("wait", ["not_before", "release_at"])
def test_what_waits_for_its_time_does_not_stand_still(desk: Desk, wait: str) -> None:
    """The provider asked to wait, or the next wave is for later."""
    _standstill(desk)
    with writing(desk.engine) as session:
        setattr(session.exec(select(Batch).where(Batch.seq == 2)).one(), wait, NOW + timedelta(hours=1))

    assert keys(desk) == []


def test_what_the_provider_does_not_take_goes_another_way(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By SMTP, once; and to the log in any case."""
    heard(desk, EventKind.COMPLAINED, 1)
    blocked = tmp_path / "site" / "a file"
    blocked.write_text("not a folder")
    monkeypatch.setenv("NEWSLETTER_SYSTEM_OUTBOX", str(blocked / "x"))
    with Relay() as relay, capture_logs() as logs:
        monkeypatch.setenv("NEWSLETTER_ALARM_SMTP_URL", relay.url)
        away = Desk(desk.engine, desk.catalogue, load_settings(), desk.keys, clock=lambda: NOW)
        assert (raise_alarms(away), raise_alarms(away)) == (1, 0)

    assert sorted(relay.readers) == ["desk@news.theparallel.example", "operations@news.theparallel.example"]
    assert b"Subject: Alarm: complaints, today" in relay.taken[0][1]
    assert [(one["event"], one.get("way")) for one in logs if one["event"].startswith(("alarm", "editors"))] == [
        ("alarm.raised", None), ("editors.not_told", "maildir"), ("editors.told", "smtp"),
    ]  # fmt: skip


def test_a_database_that_is_away_is_told_once_until_it_is_back(desk: Desk) -> None:
    """Nobody can be asked what was told, so each process says it once for each time."""
    path = Path(desk.settings.database_url.removeprefix("sqlite:///"))
    gone = desk.engine.url.set(database=str(path.with_name("no folder") / "x.db"))
    away = Desk(create_engine(gone), desk.catalogue, desk.settings, desk.keys, clock=lambda: NOW)
    watch = Watch(away)

    with capture_logs() as logs:
        watch.look()
        watch.look()
        away.engine = desk.engine
        watch.look()
        away.engine = create_engine(gone)
        watch.look()

    assert [one["what"] for one in logs if one["event"] == "alarm.raised"] == [
        "database 2026-11-23 09:30"
    ] * 2
    assert told(desk) == [("operations@news.theparallel.example", "Alarm: the database is away")] * 2


def test_a_full_disk_is_told(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below half a gigabyte; told once a day."""
    from collections import namedtuple

    monkeypatch.setattr("shutil.disk_usage", lambda _path: namedtuple("usage", "free")(499_000_000))

    assert keys(desk) == ["disk 2026-11-23"]


def test_what_happened_before_the_thresholds_is_quiet(desk: Desk) -> None:
    """One less of each."""
    heard(desk, EventKind.BOUNCED, 49)
    _source(desk, read_days=2, came_days=6, failures=3)
    inbox.append(desk.engine, b"[]", at=NOW - timedelta(minutes=9))

    assert keys(desk) == []


def test_a_mail_that_could_not_go_is_told_later(desk: Desk, tmp_path: Path) -> None:
    """The alarm is kept until it is out."""
    heard(desk, EventKind.COMPLAINED, 1)
    moment = [NOW]
    blocked = tmp_path / "site" / "a file"
    blocked.write_text("not a folder")
    settings: Settings = desk.settings.model_copy(update={"system_outbox": blocked / "x"})
    away = Desk(desk.engine, desk.catalogue, settings, desk.keys, clock=lambda: moment[0])
    assert raise_alarms(away) == 0

    moment[0] += timedelta(minutes=6)
    again = Desk(desk.engine, desk.catalogue, desk.settings, desk.keys, clock=lambda: moment[0])

    assert raise_alarms(again) == 1


def test_the_week_is_told_on_monday_once(desk: Desk) -> None:
    """Editions of the seven days before, in sentences; not in the night, not on Tuesday."""
    with writing(desk.engine) as session:
        session.get_one(EditionRow, 1).edition_date = DAY - timedelta(days=3)
        for one in session.exec(select(Event)):
            one.edition = "today.2026-11-20.1"

    def at(moment: datetime) -> bool:
        return send_digest(Desk(desk.engine, desk.catalogue, desk.settings, desk.keys, clock=lambda: moment))

    assert [at(NOW - timedelta(hours=4)), at(NOW + timedelta(days=1)), at(NOW), at(NOW)] == [
        False,
        False,
        True,
        False,
    ]
    assert [subject for _, subject in told(desk)] == ["What came back, 2026-11-16 to 2026-11-22"]


def test_listening_takes_turns(desk: Desk) -> None:
    """Whoever looks each minute: lists once an hour, alarms every five minutes."""
    heard(desk, EventKind.COMPLAINED, 1)

    with capture_logs() as logs:
        keep_listening(desk)
        keep_listening(desk)

    names = [one["event"] for one in logs]
    assert (names.count("suppressions.reconciled"), names.count("alarm.raised")) == (1, 1)
    with reading(desk.engine) as session:
        assert session.get_one(EditionRow, 1).status == "submitted"
