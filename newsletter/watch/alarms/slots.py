"""Slots that were missed, were late, or are late now and nobody looks at them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta

from sqlmodel import col, select

from newsletter.catalogue import Newsletter
from newsletter.desk import Desk
from newsletter.store.rota import kept_since
from newsletter.store.session import reading
from newsletter.store.tables import Slot
from newsletter.times import due_dates
from newsletter.watch.alarms.alarm import Alarm, minutes_of

LOOKED_BACK = timedelta(days=4)
LATE = timedelta(minutes=15)


def of_slots(desk: Desk, newsletter: Newsletter, at: datetime) -> Iterator[Alarm]:
    """Of every slot of the last days."""
    with reading(desk.engine) as session:
        slots = session.exec(
            select(Slot).where(Slot.newsletter == newsletter.slug, col(Slot.due_at) > at - LOOKED_BACK)
        ).all()
    yield from _overdue(desk, newsletter, {slot.local_date for slot in slots}, at)
    for slot in slots:
        if slot.state == "missed":
            yield Alarm(
                f"missed {slot.newsletter} {slot.local_date}", "a slot was missed",
                f"{newsletter.name} of {slot.local_date} did not go out: {slot.reason}.",
                f"Was the scheduler running? It still can go: newsletter run --only {slot.newsletter} --date {slot.local_date}",
                newsletter.slug,
            )  # fmt: skip
        elif slot.recorded_at - slot.due_at > LATE and newsletter.approval == "auto":
            minutes = minutes_of(slot.recorded_at - slot.due_at)
            yield Alarm(
                f"late {slot.newsletter} {slot.local_date}", "a slot was late",
                f"{newsletter.name} of {slot.local_date} was made {minutes} minutes after its time.",
                "Was the scheduler running, and is a second one waiting as standby?",
            )  # fmt: skip


def _overdue(desk: Desk, newsletter: Newsletter, known: set[date], at: datetime) -> Iterator[Alarm]:
    """What is due and nobody has looked at; told as late, so that it is not told again when it was made."""
    with reading(desk.engine) as session:
        since = kept_since(session, newsletter.slug)
    if since is None:
        return
    for due in due_dates(
        days=newsletter.schedule.days, at=newsletter.schedule.at, zone=newsletter.zone(desk.catalogue.publication),
        start=max(since, at - timedelta(days=1)), end=at - LATE,
    ):  # fmt: skip
        if due.day not in known:
            yield Alarm(
                f"late {newsletter.slug} {due.day}", "a slot is late",
                f"{newsletter.name} of {due.day} was due {minutes_of(at - due.at)} minutes ago, and nothing has begun.",
                "Is the scheduler (or a worker) running? Its log says slot.stuck when it tries and cannot.",
                newsletter.slug,
            )  # fmt: skip
