"""
The only place where a zone meets an instant: edition dates, slots, editorial windows.

Instants are aware UTC. A newsletter's local day is the only thing kept in local terms, because the
slot of a newsletter is its local date, not an instant: clocks that change neither double nor lose it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from zoneinfo import TZPATH, ZoneInfo

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

Clock = Callable[[], datetime]
"""The operational clock: leases, time-outs, ledger stamps. Editorial time is a plain ``now`` value."""


def system_clock() -> datetime:
    """Return the real time, aware UTC. Doors hand this down; nothing else reads a clock."""
    return datetime.now(UTC)


def parse_instant(text: str) -> datetime:
    """
    Read an ISO 8601 instant with zone (``2026-02-18T02:20:00Z``) as aware UTC.

    Raises:
        ValueError: not ISO 8601, or without a zone.
    """
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(f"{text!r} is not an instant; write for example 2026-02-18T02:20:00Z") from None
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone; write for example 2026-02-18T02:20:00Z")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError(
            f"{text!r} is beyond all calendars; write for example 2026-02-18T02:20:00Z"
        ) from None


def local_date(moment: datetime, zone: str) -> date:
    """Return the calendar day of *moment* in *zone*."""
    return moment.astimezone(ZoneInfo(zone)).date()


def due_at(day: date, at: time, zone: str) -> datetime:
    """
    Return the instant at which *day* is due, aware UTC.

    A wall-clock time that occurs twice (fall back) means its first occurrence; one that does not
    occur (spring forward) means the same distance after the gap: PEP 495, ``fold=0``.
    """
    return datetime.combine(day, at, tzinfo=ZoneInfo(zone)).astimezone(UTC)


def end_of_day(day: date, zone: str) -> datetime:
    """Return the instant at which *day* is over in *zone*: the next midnight, aware UTC."""
    return due_at(day + timedelta(days=1), time(), zone)


@dataclass(frozen=True, slots=True)
class Due:
    """A newsletter's local date and the instant (UTC) at which it is due."""

    day: date
    at: datetime


def due_dates(*, days: tuple[str, ...], at: time, zone: str, start: datetime, end: datetime) -> Iterator[Due]:
    """
    Yield what falls due in ``start < instant <= end``, in order.

    *days* are names from ``WEEKDAYS``.
    """
    day = local_date(start, zone) - timedelta(days=1)
    last = local_date(end, zone) + timedelta(days=1)
    while day <= last:
        if WEEKDAYS[day.weekday()] in days:
            moment = due_at(day, at, zone)
            if start < moment <= end:
                yield Due(day, moment)
        day += timedelta(days=1)


def iso(moment: datetime | None) -> str | None:
    """Return *moment* as ISO 8601 UTC with ``Z`` and whole seconds, for ``--json``."""
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def zone_data(paths: Sequence[str] = TZPATH) -> str:
    """Which release of the zone data counts (``2025b``): the system's in *paths*, else that of ``tzdata``; '' unknown."""
    for folder in map(Path, paths):
        if (folder / "UTC").exists():
            for name, mark in (("tzdata.zi", "# version "), ("+VERSION", "")):
                if (folder / name).exists():
                    with (folder / name).open(encoding="ascii", errors="replace") as file:
                        return file.readline().strip().removeprefix(mark)
            return ""
    try:
        release = version("tzdata").split(".")  # 2025.2: the second letter
    except PackageNotFoundError:
        return ""
    return f"{release[0]}{chr(ord('a') + int(release[1]) - 1)}"
