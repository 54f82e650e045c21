"""Local days, slots and clock changes."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from newsletter.times import WEEKDAYS, due_at, due_dates, iso, local_date, parse_instant

CLOCK_CHANGES = [
    ("America/New_York", date(2026, 3, 8)), ("America/New_York", date(2026, 11, 1)),
    ("Europe/London", date(2026, 3, 29)), ("Europe/London", date(2026, 10, 25)),
    ("Australia/Lord_Howe", date(2026, 4, 5)), ("Australia/Lord_Howe", date(2026, 10, 4)),
]  # fmt: skip


@pytest.mark.parametrize(("zone", "day"), CLOCK_CHANGES)
@pytest.mark.parametrize("at", [time(0, 30), time(1, 30), time(2, 0), time(2, 15), time(2, 30), time(6, 30)])
def test_a_day_with_a_clock_change_is_due_once(zone: str, day: date, at: time) -> None:
    """Spring forward or fall back: every local date of the week is due exactly once."""
    start = datetime(day.year, day.month, day.day, tzinfo=UTC) - timedelta(days=3)

    found = list(due_dates(days=WEEKDAYS, at=at, zone=zone, start=start, end=start + timedelta(days=6)))

    assert [due.day for due in found] == sorted({due.day for due in found})
    assert day in [due.day for due in found]
    assert 5 <= len(found) <= 7


def test_an_hour_that_occurs_twice_means_its_first_time() -> None:
    """01:30 in New York on the fall-back day is 05:30 UTC, not 06:30."""
    assert due_at(date(2026, 11, 1), time(1, 30), "America/New_York") == datetime(
        2026, 11, 1, 5, 30, tzinfo=UTC
    )


def test_an_hour_that_does_not_occur_is_made_up_after_the_gap() -> None:
    """02:30 in New York on the spring-forward day becomes 03:30 there."""
    assert due_at(date(2026, 3, 8), time(2, 30), "America/New_York") == datetime(
        2026, 3, 8, 7, 30, tzinfo=UTC
    )


@given(
    start=st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC)),
    cut=st.floats(0, 1),
    zone=st.sampled_from(
        ["Europe/Paris", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "Pacific/Apia"]
    ),
    at=st.times(),
)
def test_windows_that_touch_neither_double_nor_lose(start: datetime, cut: float, zone: str, at: time) -> None:
    """Looking in two steps finds exactly what looking once does."""
    end = start + timedelta(days=9)
    middle = start + (end - start) * cut

    whole = list(due_dates(days=WEEKDAYS, at=at, zone=zone, start=start, end=end))
    first = list(due_dates(days=WEEKDAYS, at=at, zone=zone, start=start, end=middle))
    second = list(due_dates(days=WEEKDAYS, at=at, zone=zone, start=middle, end=end))

    assert first + second == whole
    assert len({due.day for due in whole}) == len(whole)


def test_an_instant_needs_a_zone() -> None:
    """An instant without a zone is refused with a sentence."""
    with pytest.raises(ValueError, match="no time zone"):
        parse_instant("2026-02-18T02:20:00")


def test_instants_are_written_as_they_are_read() -> None:
    """ISO with Z goes both ways."""
    assert iso(parse_instant("2026-02-18T03:20:00+01:00")) == "2026-02-18T02:20:00Z"


def test_the_local_day_is_the_zones() -> None:
    """Half past two at night UTC still is the day before in New York."""
    assert local_date(parse_instant("2026-02-18T02:20:00Z"), "America/New_York") == date(2026, 2, 17)
