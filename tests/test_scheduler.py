"""The rota: each local date once, late ones made up, later ones told, one scheduler at a time."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from apscheduler.triggers.cron import CronTrigger
from sqlalchemy import Engine, delete
from sqlmodel import col, select

from newsletter.catalogue import Newsletter
from newsletter.desk import Desk
from newsletter.outbox.ledger import is_dead, this_owner
from newsletter.rota import Collecting, attend, begin, coming, next_wake
from newsletter.settings import load_settings
from newsletter.store.lease import LAPSES_AFTER, hold_lease, release_lease
from newsletter.store.session import reading, writing
from newsletter.store.tables import EditionRow, Installation, Slot
from newsletter.times import WEEKDAYS, due_at
from scheduler import Wakes
from tests.builders import ROOT, a_site, the_catalogue

FRIDAY = datetime(2026, 11, 20, 4, 0, tzinfo=UTC)


class Moving:
    """A clock that stands where it is put."""

    def __init__(self, at: datetime) -> None:
        self.at = at

    def __call__(self) -> datetime:
        """The time it shows."""
        return self.at


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A desk of the sample site on a moving clock, its rota begun on Thursday."""
    monkeypatch.chdir(a_site(tmp_path / "site"))
    for name in list(os.environ):
        if name.startswith(("NEWSLETTER_", "SENDGRID_", "DATABASE_URL")):
            monkeypatch.delenv(name)
    opened = Desk.open(load_settings(), clock=Moving(FRIDAY - timedelta(days=1)))
    begin(opened)
    return opened


def at(desk: Desk, moment: datetime) -> None:
    """Put the desk's clock."""
    desk.clock = Moving(moment)


def slots(desk: Desk) -> list[tuple[str, date, str]]:
    """All slots: newsletter, local date, state."""
    with reading(desk.engine) as session:
        rows = session.exec(select(Slot).order_by(col(Slot.newsletter), col(Slot.local_date))).all()
        return [(row.newsletter, row.local_date, row.state) for row in rows]


def test_a_due_slot_is_made_once_however_often_it_is_woken(desk: Desk) -> None:
    """Fired twice, restarted, doubled: one edition for the local date."""
    today = desk.catalogue["today"]
    at(desk, FRIDAY + timedelta(hours=1, minutes=31))  # 06:31 in Paris

    first = attend(desk, today, collecting=Collecting())
    second = attend(desk, today, collecting=Collecting())

    assert [account.status for account in first] == ["submitted"]
    assert second == ()
    assert slots(desk) == [("today", date(2026, 11, 19), "missed"), ("today", date(2026, 11, 20), "made")]


def test_before_its_hour_nothing_happens(desk: Desk) -> None:
    """06:29 in Paris is not yet."""
    at(desk, FRIDAY + timedelta(hours=1, minutes=29))

    attend(desk, desk.catalogue["today"], collecting=Collecting())

    assert ("today", date(2026, 11, 20), "made") not in slots(desk)


def test_late_is_made_up_and_later_is_told(desk: Desk) -> None:
    """Two hours down: made up. Four hours down: recorded as missed, and no edition goes out."""
    today = desk.catalogue["today"]
    at(desk, FRIDAY + timedelta(hours=3, minutes=30))
    made_up = attend(desk, today, collecting=Collecting())
    monday = FRIDAY + timedelta(days=3)
    at(desk, monday + timedelta(hours=5, minutes=45))

    missed = attend(desk, today, collecting=Collecting())

    assert [account.date for account in made_up] == [date(2026, 11, 20)]
    assert missed == ()
    assert ("today", date(2026, 11, 23), "missed") in slots(desk)
    with reading(desk.engine) as session:
        assert date(2026, 11, 23) not in [row.edition_date for row in session.exec(select(EditionRow)).all()]


def begin_anew(desk: Desk, moment: datetime) -> None:
    """Begin the rota as on a fresh database at *moment*."""
    with writing(desk.engine) as session:
        session.execute(delete(Installation).where(col(Installation.name).startswith("rota-since")))
    at(desk, moment)
    begin(desk)


@pytest.mark.parametrize("minutes", [1, 150, 600])
def test_a_new_installation_owes_nothing_from_before(desk: Desk, minutes: int) -> None:
    """However short a time ago the hour was: nobody is mailed by a first start, and nothing is missed."""
    slot = FRIDAY + timedelta(hours=1, minutes=30)
    begin_anew(desk, slot + timedelta(minutes=minutes))

    first = attend(desk, desk.catalogue["today"], collecting=Collecting())
    at(desk, slot + timedelta(minutes=minutes + 1))
    second = attend(desk, desk.catalogue["today"], collecting=Collecting())

    assert (first, second, slots(desk)) == ((), (), [])


def test_a_newsletter_that_comes_later_owes_nothing_from_before(desk: Desk) -> None:
    """A new folder in an old installation begins as the first ones did; from then on its hours are kept."""
    whole = desk.catalogue
    today = whole["today"]
    desk.catalogue = whole.model_copy(
        update={"newsletters": tuple(one for one in whole.newsletters if one is not today)}
    )
    begin_anew(desk, FRIDAY - timedelta(days=10))
    desk.catalogue = whole
    slot = FRIDAY + timedelta(hours=1, minutes=30)

    for moment in (slot + timedelta(minutes=1), slot + timedelta(days=3, hours=5)):
        at(desk, moment)
        attend(desk, today, collecting=Collecting())

    assert slots(desk) == [("today", date(2026, 11, 23), "missed")]


@pytest.mark.parametrize(
    ("zone", "day"),
    [
        ("America/New_York", date(2026, 3, 8)), ("America/New_York", date(2026, 11, 1)), ("Europe/London", date(2026, 3, 29)),
        ("Europe/London", date(2026, 10, 25)), ("Australia/Lord_Howe", date(2026, 4, 5)), ("Australia/Lord_Howe", date(2026, 10, 4)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("hour", ["01:30", "02:15", "06:30"])
def test_a_day_with_a_clock_change_gives_one_edition(desk: Desk, zone: str, day: date, hour: str) -> None:
    """Woken every quarter of an hour over three days, as a trigger that fires twice would: one slot a day."""
    data = desk.catalogue["today"].model_dump(by_alias=True)
    data |= {"timezone": zone, "slug": "today", "thin_day": "skip"}
    data["schedule"] = {"days": ["sat", "sun", "mon"], "at": hour, "max_lateness_hours": 3}
    newsletter = Newsletter.model_validate(data)
    start = datetime(day.year, day.month, day.day, tzinfo=UTC) - timedelta(days=2)
    begin_anew(desk, start)
    collecting = Collecting()
    collecting.refresh = lambda _desk: None  # type: ignore[method-assign]  # nothing to read in those years

    moment = start
    while moment < start + timedelta(days=4):
        at(desk, moment)
        attend(desk, newsletter, collecting=collecting)
        moment += timedelta(minutes=15)

    days = [row[1] for row in slots(desk)]
    assert days.count(day) == 1
    assert sorted(set(days)) == sorted(days)


@pytest.mark.parametrize(
    ("zone", "day"),
    [
        ("America/New_York", date(2026, 3, 8)), ("America/New_York", date(2026, 11, 1)),
        ("Australia/Lord_Howe", date(2026, 4, 5)), ("Europe/London", date(2026, 10, 25)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("hour", ["00:20", "01:30", "02:15", "06:30"])
@pytest.mark.parametrize("deadline", [-10, 0, 90])
def test_wakes_follow_the_slot_over_clock_changes(zone: str, day: date, hour: str, deadline: int) -> None:
    """An hour of real time ahead, each quarter of an hour to the slot, at the deadline: each once, each day."""
    publication = the_catalogue().publication
    given = the_catalogue()["today"].model_dump(by_alias=True) | {
        "timezone": zone, "approval": "required", "lead_minutes": 60, "approval_deadline_minutes": deadline,
    }  # fmt: skip
    given["schedule"] = {"days": WEEKDAYS, "at": hour}
    newsletter = Newsletter.model_validate(given)
    trigger = Wakes(newsletter, publication)
    days = [day + timedelta(days=number) for number in range(-3, 4)]
    slots = [due_at(one, newsletter.schedule.at, zone) for one in days]
    offsets = {*range(-60, 1, 15), deadline}
    start, end = slots[1] + timedelta(hours=3), slots[-2] + timedelta(hours=3)
    expected = sorted(
        moment
        for slot in slots
        for moment in (slot + timedelta(minutes=offset) for offset in offsets)
        if start < moment <= end
    )

    fired: list[datetime] = []
    previous = None
    while (following := trigger.get_next_fire_time(previous, start)) <= end:
        fired.append(following)
        previous = following

    assert fired == expected


def test_without_approval_there_is_no_deadline_to_wake_for() -> None:
    """Looks ahead, and the slot."""
    catalogue = the_catalogue()
    today = catalogue["today"].model_copy(update={"approval_deadline_minutes": 30})
    slot = FRIDAY + timedelta(hours=1, minutes=30)

    wakes = [next_wake(today, catalogue.publication, after=slot - timedelta(minutes=n)) for n in (61, 60, 16)]

    assert wakes == [slot - timedelta(minutes=n) for n in (60, 45, 15)]
    monday = slot + timedelta(days=3)
    assert next_wake(today, catalogue.publication, after=slot) == monday - timedelta(minutes=60)


def test_the_library_fires_in_the_newsletters_zone_and_does_not_hang() -> None:
    """The pinned scheduler survives the fall-back day (3.11.0 and 3.11.1 hang there)."""
    trigger = CronTrigger(hour=1, minute=30, timezone="America/New_York")
    moment = datetime(2026, 10, 31, 12, 0, tzinfo=UTC)

    fired = []
    for _ in range(4):
        following = trigger.get_next_fire_time(None, moment)
        fired.append(following.astimezone(UTC))
        moment = following + timedelta(seconds=1)

    assert fired[0] == datetime(2026, 11, 1, 5, 30, tzinfo=UTC)
    assert fired == sorted(fired)


def test_coming_slots_tell_of_clock_changes() -> None:
    """Fourteen days ahead, in order, with a note on the day clocks change."""
    found = coming(the_catalogue(), start=datetime(2026, 10, 20, tzinfo=UTC))

    assert [slot.at for slot in found] == sorted(slot.at for slot in found)
    noted = {slot.day for slot in found if slot.note}
    assert noted == {date(2026, 10, 25)}
    assert "back 60 minutes" in next(slot.note for slot in found if slot.note)
    assert {slot.newsletter for slot in found} == {
        newsletter.slug for newsletter in the_catalogue().newsletters
    }


def test_the_lease_is_held_by_one_and_taken_over(engine: Engine) -> None:
    """A second waits; it takes over when the first is silent for long, dead, or gives up."""
    alive = this_owner()

    def hold(owner: str, moment: datetime) -> bool:
        return hold_lease(engine, "scheduler", owner, at=moment, is_dead=is_dead)

    assert hold(alive, FRIDAY)
    assert not hold("other|1|1.00", FRIDAY + timedelta(seconds=10))
    assert hold(alive, FRIDAY + timedelta(seconds=10))
    assert hold("other|1|1.00", FRIDAY + timedelta(seconds=11) + LAPSES_AFTER)
    release_lease(engine, "scheduler", "other|1|1.00")
    dead = f"{alive.split('|')[0]}|999999999|1.00"
    assert hold(dead, FRIDAY)
    assert hold(alive, FRIDAY + timedelta(seconds=1))


def test_two_schedulers_one_works_the_other_takes_over(tmp_path: Path) -> None:
    """
    The second says that it waits; kill -9 the first and the second begins; SIGTERM ends it in good order, also
    when the kernel hands it to a thread that a library made at its import.
    """
    site = a_site(tmp_path / "site")
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("NEWSLETTER_", "SENDGRID_", "DATABASE_URL"))
    }
    command = [sys.executable, str(ROOT / "scheduler.py")]
    logs = [tmp_path / "one.log", tmp_path / "two.log"]
    processes = []
    for log in logs:
        with log.open("w") as out:
            processes.append(subprocess.Popen(command, cwd=site, env=environment, stdout=out, stderr=out))
        _until(log, "scheduler.started" if log is logs[0] else "scheduler.standby", seconds=30)

    processes[0].send_signal(signal.SIGKILL)
    processes[0].wait()
    _until(logs[1], "scheduler.started", seconds=30)
    pid = processes[1].pid
    threads = Path(f"/proc/{pid}/task")  # where there is none, the kernel chooses
    if threads.is_dir():
        thread = max(int(entry.name) for entry in threads.iterdir())
        assert ctypes.CDLL(None).tgkill(pid, thread, signal.SIGTERM) == 0
    else:
        processes[1].send_signal(signal.SIGTERM)

    assert processes[1].wait(timeout=30) == 0
    assert "scheduler.stopped" in logs[1].read_text()
    assert "Traceback" not in logs[0].read_text() + logs[1].read_text()


def _until(log: Path, word: str, *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while word not in log.read_text():
        assert time.monotonic() < deadline, f"{word} did not come: {log.read_text()}"
        time.sleep(0.05)
