"""The machine and what stands on it: the inbox, disk, clock, database."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

from newsletter.desk import Desk
from newsletter.outbox.inbox import waiting
from newsletter.store.health import CLOCK_OFF, LARGE_WAL_BYTES, clock_off, wal_bytes
from newsletter.times import iso
from newsletter.watch.alarms.alarm import Alarm

BACKLOG = timedelta(minutes=10)
LOW_DISK_BYTES = 500_000_000


def of_machine(desk: Desk, at: datetime) -> Iterator[Alarm]:
    """What keeps everything from working."""
    yield from _inbox(desk, at)
    yield from _machine(desk, at)


def database_away(reason: str, at: datetime) -> Alarm:
    """Nothing can be asked of the database, not even what was told."""
    return Alarm(
        f"database {at:%Y-%m-%d %H:%M}", "the database is away", reason,
        "Nothing goes out and readers cannot leave until it answers: is it running, reachable, and is there room on its disk? Nothing is lost; all goes on by itself.",
    )  # fmt: skip


def _inbox(desk: Desk, at: datetime) -> Iterator[Alarm]:
    told = waiting(desk.engine)
    if told.oldest_at is not None and at - told.oldest_at > BACKLOG:
        yield Alarm(
            f"backlog {at:%Y-%m-%d}", "events wait",
            f"{told.bodies} requests of the provider wait in the inbox, the oldest since {iso(told.oldest_at)}.",
            "newsletter events process says what is in the way.",
        )  # fmt: skip
    if told.aside:
        yield Alarm(
            f"aside {at:%Y-%m-%d}", "events set aside",
            f"{told.aside} requests of the provider could not be stored and are set aside.",
            "Update newsletter, then: newsletter events process --again",
        )  # fmt: skip


def _machine(desk: Desk, at: datetime) -> Iterator[Alarm]:
    settings = desk.settings
    database = Path(settings.database_url.removeprefix("sqlite:///")) if settings.is_sqlite else None
    free = shutil.disk_usage(database.parent if database else Path()).free
    if free < LOW_DISK_BYTES:
        yield Alarm(
            f"disk {at:%Y-%m-%d}", "the disk is nearly full", f"Only {free // 1_000_000} MB are free.",
            "Make room: without it no claim can be committed, and nothing goes out.",
        )  # fmt: skip
    if (size := wal_bytes(desk.engine)) > LARGE_WAL_BYTES:
        yield Alarm(
            f"wal {at:%Y-%m-%d}", "the database's log grows", f"The log beside the database has {size // 1_000_000} MB.",
            "A process reads without end: stop reports and backups that hang, then restart the scheduler.",
        )  # fmt: skip
    off = clock_off(desk.engine, at)
    if abs(off) > CLOCK_OFF:
        yield Alarm(
            f"clock {at:%Y-%m-%d}", "the clocks differ",
            f"This machine's clock is {abs(off.total_seconds()):.0f} s {'behind' if off > timedelta() else 'ahead of'} the database's.",
            "Let both take their time from the network (timedatectl): slots and leases go by it.",
        )  # fmt: skip
