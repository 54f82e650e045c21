"""
Alarms: what somebody has to look at now, each told once, by mail to those who can mend it and to the log.

An alarm has a key that says what it is about: an edition, a slot, a source, a day. What is mended before
anybody looked is not told; what was told is not told again, whoever looks and however often.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import structlog
from sqlalchemy import distinct, text
from sqlalchemy import select as columns
from sqlmodel import col, func, select

from newsletter.catalogue import Newsletter
from newsletter.desk import Desk
from newsletter.edition import EditionStatus
from newsletter.errors import StateError
from newsletter.events import EventKind
from newsletter.outbox.inbox import waiting
from newsletter.outbox.ledger import BatchState
from newsletter.store.editions import edition_ref
from newsletter.store.holds import hold_newsletter
from newsletter.store.session import reading, writing
from newsletter.store.tables import ArticleRow, Batch, EditionRow, Event, Slot, SourceState
from newsletter.store.telling import is_told, keep_told, tell_once
from newsletter.times import iso

COMPLAINTS_WARN, COMPLAINTS_HOLD = 0.001, 0.003
"""In parts of the submitted. Gmail and Yahoo ask senders to stay below 0.1 % and never to reach 0.3 %."""

FEWEST_COMPLAINTS = 3
"""Fewer hold nothing: one of a hundred readers is a person, not a rate."""

BOUNCES_WARN, FEWEST_BOUNCES = 0.05, 10
LOOKED_BACK = timedelta(days=4)
IN_DOUBT = timedelta(minutes=15)
SILENT = timedelta(minutes=30)
LATE = timedelta(minutes=15)
STALE = timedelta(days=7)
DEAD = timedelta(days=3)
BACKLOG = timedelta(minutes=10)
CLOCK_OFF = timedelta(minutes=2)
LOW_DISK_BYTES = 500_000_000
LARGE_WAL_BYTES = 1_000_000_000

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Alarm:
    """
    *key* is told once; *title* is a few words, *says* what is wrong, *do* what to do about it.

    *newsletter* is a slug, or empty: then it is about the installation, and told to its operators.
    """

    key: str
    title: str
    says: str
    do: str
    newsletter: str = ""


def raise_alarms(desk: Desk) -> int:
    """Look at everything, and tell what was not told; return how many alarms were told now."""
    return sum(_raise(desk, alarm) for alarm in look(desk))


def look(desk: Desk) -> Iterator[Alarm]:
    """Everything that somebody should look at now, told or not. A newsletter that complaints stop is held."""
    at = desk.clock()
    for newsletter in desk.catalogue.newsletters:
        for row in _lately_sent(desk, newsletter, at):
            yield from _of_edition(desk, newsletter, row, at)
        yield from _slots(desk, newsletter, at)
    yield from _sources(desk, at)
    yield from _inbox(desk, at)
    yield from _machine(desk, at)


def _raise(desk: Desk, alarm: Alarm) -> bool:
    def say() -> bool:
        log.error(
            "alarm.raised", what=alarm.key, newsletter=alarm.newsletter, reason=alarm.says, remedy=alarm.do
        )
        publication = desk.catalogue.publication
        people = dict.fromkeys(publication.operators or publication.editors)
        if alarm.newsletter:
            people |= dict.fromkeys(desk.catalogue[alarm.newsletter].editors_of(publication))
        return desk.editors.tell("alarm", list(people), {"alarm": alarm})

    return tell_once(desk.engine, f"alarm {alarm.key}", at=desk.clock(), say=say)


# --- what came back -----------------------------------------------------------------------------


def _lately_sent(desk: Desk, newsletter: Newsletter, at: datetime) -> Sequence[EditionRow]:
    with reading(desk.engine) as session:
        return session.exec(
            select(EditionRow).where(
                EditionRow.newsletter == newsletter.slug, col(EditionRow.frozen_at) > at - LOOKED_BACK
            )
        ).all()


def _of_edition(desk: Desk, newsletter: Newsletter, row: EditionRow, at: datetime) -> Iterator[Alarm]:
    name, of = edition_ref(row), f"{newsletter.name} of {row.edition_date}"
    with reading(desk.engine) as session:
        goes = col(Batch.n) - col(Batch.skipped_n) - col(Batch.failed_n) - col(Batch.moved_n)
        submitted, last_at = session.execute(
            columns(func.coalesce(func.sum(goes), 0), func.max(col(Batch.changed_at))).where(
                col(Batch.edition_id) == row.id, col(Batch.state) == BatchState.SUBMITTED
            )
        ).one()
        uncertain = session.exec(
            select(func.count())
            .select_from(Batch)
            .where(Batch.edition_id == row.id, Batch.state == BatchState.UNCERTAIN, col(Batch.changed_at) <= at - IN_DOUBT)
        ).one()  # fmt: skip
        told = dict(
            session.execute(
                columns(col(Event.kind), func.count(distinct(col(Event.reader))))
                .where(
                    col(Event.edition) == name,
                    col(Event.kind).in_((EventKind.COMPLAINED, EventKind.BOUNCED)),
                    col(Event.reader) != "",
                )
                .group_by(col(Event.kind))
            ).all()
        )
    yield from _complaints(desk, newsletter, row, told.get(EventKind.COMPLAINED, 0), submitted)
    bounced = told.get(EventKind.BOUNCED, 0)
    if bounced >= FEWEST_BOUNCES and bounced >= BOUNCES_WARN * submitted:
        yield Alarm(
            f"bounces {name}", "many bounces", f"{bounced} of {submitted} mails of {of} bounced, {_percent(bounced, submitted)}.",
            "Look where these readers came from (newsletter subscribers export); a bought or old list ruins the sender's name.",
            newsletter.slug,
        )  # fmt: skip
    if uncertain:
        yield Alarm(
            f"uncertain {name}", "batches in doubt",
            f"Of {of} {uncertain} batches are uncertain for more than {_minutes(IN_DOUBT)} minutes: nobody can say whether they were taken.",
            f"newsletter status {newsletter.slug}, look at the provider's activity, then newsletter settle {newsletter.slug} --batch N --as …",
        )  # fmt: skip
    if submitted and last_at is not None and desk.settings.sendgrid_webhook_public_key.strip():
        yield from _silence(desk, row, of, at)


def _complaints(
    desk: Desk, newsletter: Newsletter, row: EditionRow, complained: int, submitted: int
) -> Iterator[Alarm]:
    if not submitted or complained < COMPLAINTS_WARN * submitted:
        return
    name, of = edition_ref(row), f"{newsletter.name} of {row.edition_date}"
    says = f"{complained} of {submitted} readers of {of} complained, {_percent(complained, submitted)}."
    if complained < COMPLAINTS_HOLD * submitted or complained < FEWEST_COMPLAINTS:
        yield Alarm(
            f"complaints {name}", "complaints", says,
            "Look at subject, audience and how these readers were won; at 0.3 % the newsletter is held.",
            newsletter.slug,
        )  # fmt: skip
        return
    _hold(desk, newsletter, row, says)
    yield Alarm(
        f"held {name}", "held for complaints", f"{says} The newsletter is held: no edition of it goes by itself.",
        f"Find out why, then: newsletter release {newsletter.slug}. What was being sent is paused: newsletter resume {newsletter.slug}",
        newsletter.slug,
    )  # fmt: skip


def _hold(desk: Desk, newsletter: Newsletter, row: EditionRow, reason: str) -> None:
    """Hold the newsletter and pause what is being sent of it, once for an edition: a release stands."""
    done = f"held for {edition_ref(row)}"
    if is_told(desk.engine, done):
        return
    with writing(desk.engine) as session:
        hold_newsletter(session, newsletter.slug, reason=reason, at=desk.clock())
    with reading(desk.engine) as session:
        going = session.exec(
            select(EditionRow).where(
                EditionRow.newsletter == newsletter.slug, EditionRow.status == EditionStatus.SUBMITTING
            )
        ).all()
    for day in sorted({one.edition_date for one in going}):
        try:
            desk.pause(newsletter, day, actor="the alarm for complaints")
        except StateError:  # it has just ended
            continue
    keep_told(desk.engine, [done], at=desk.clock())
    log.error("newsletter.held", newsletter=newsletter.slug, reason=reason)


def _silence(desk: Desk, row: EditionRow, of: str, at: datetime) -> Iterator[Alarm]:
    """Nothing at all was heard since an edition began to go, half an hour ago or more."""
    if row.frozen_at is None or row.frozen_at > at - SILENT or at - row.frozen_at > timedelta(days=1):
        return
    heard = waiting(desk.engine)
    latest = max(filter(None, (heard.heard_at, heard.oldest_at)), default=None)
    if latest is None or latest < row.frozen_at:
        yield Alarm(
            f"silent {edition_ref(row)}", "the webhook is silent",
            f"Nothing was heard from the provider since {of} began to go at {iso(row.frozen_at)}: no delivery, no bounce, no complaint.",
            "Is newsletter serve reachable under NEWSLETTER_BASE_URL, and does the provider post to /webhooks/sendgrid, signed? newsletter events status",
        )  # fmt: skip


# --- what did not happen ------------------------------------------------------------------------


def _slots(desk: Desk, newsletter: Newsletter, at: datetime) -> Iterator[Alarm]:
    with reading(desk.engine) as session:
        slots = session.exec(
            select(Slot).where(Slot.newsletter == newsletter.slug, col(Slot.due_at) > at - LOOKED_BACK)
        ).all()
    for slot in slots:
        if slot.state == "missed":
            yield Alarm(
                f"missed {slot.newsletter} {slot.local_date}", "a slot was missed",
                f"{newsletter.name} of {slot.local_date} did not go out: {slot.reason}.",
                f"Was the scheduler running? It still can go: newsletter run --only {slot.newsletter} --date {slot.local_date}",
                newsletter.slug,
            )  # fmt: skip
        elif slot.recorded_at - slot.due_at > LATE and newsletter.approval == "auto":
            minutes = _minutes(slot.recorded_at - slot.due_at)
            yield Alarm(
                f"late {slot.newsletter} {slot.local_date}", "a slot was late",
                f"{newsletter.name} of {slot.local_date} was made {minutes} minutes after its time.",
                "Was the scheduler running, and is a second one waiting as standby?",
            )  # fmt: skip


def _sources(desk: Desk, at: datetime) -> Iterator[Alarm]:
    """Sources that cannot be read any more, and those that are read and bring nothing."""
    ours = {one.id: one.name or one.id for one in desk.catalogue.publication.feeds}
    with reading(desk.engine) as session:
        states = session.exec(select(SourceState).where(col(SourceState.source).in_(ours))).all()
        newest = dict(
            session.execute(
                columns(col(ArticleRow.source), func.max(col(ArticleRow.first_seen_at)))
                .where(col(ArticleRow.source).in_(ours))
                .group_by(col(ArticleRow.source))
            ).all()
        )  # fmt: skip
    for state in sorted(states, key=lambda one: one.source):
        name, read_at = ours[state.source], state.last_success_at or state.first_fetched_at
        came_at = newest.get(state.source, state.first_fetched_at)
        if at - read_at > DEAD and state.failures:
            yield Alarm(
                f"dead {state.source} {read_at:%Y-%m-%d}", "a dead feed",
                f"{name} was not read since {read_at:%Y-%m-%d %H:%M} UTC: {state.last_error}",
                "Mend its address in publication.toml, or take it out.",
            )  # fmt: skip
        elif at - came_at > STALE and at - read_at <= DEAD:
            yield Alarm(
                f"stale {state.source} {came_at:%Y-%m-%d}", "a stale feed",
                f"{name} can be read, but has brought nothing new since {came_at:%Y-%m-%d}.",
                "Look whether its address still is the right one; newsletters that need it may run thin.",
            )  # fmt: skip


# --- the machine --------------------------------------------------------------------------------


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
    wal = database.with_name(f"{database.name}-wal") if database else None
    if wal is not None and wal.exists() and wal.stat().st_size > LARGE_WAL_BYTES:
        yield Alarm(
            f"wal {at:%Y-%m-%d}", "the database's log grows", f"{wal.name} has {wal.stat().st_size // 1_000_000} MB.",
            "A process reads without end: stop reports and backups that hang, then restart the scheduler.",
        )  # fmt: skip
    off = _clock_off(desk, at)
    if abs(off) > CLOCK_OFF:
        yield Alarm(
            f"clock {at:%Y-%m-%d}", "the clocks differ",
            f"This machine's clock is {abs(off.total_seconds()):.0f} s {'behind' if off > timedelta() else 'ahead of'} the database's.",
            "Let both take their time from the network (timedatectl): slots and leases go by it.",
        )  # fmt: skip


def _clock_off(desk: Desk, at: datetime) -> timedelta:
    """How far the database's clock is ahead of ours; on SQLite how far something we wrote lies in the future."""
    with reading(desk.engine) as session:
        if desk.engine.dialect.name == "postgresql":
            now: datetime = session.execute(text("SELECT clock_timestamp()")).scalar_one()
            return now - at
        latest = session.exec(select(func.max(Batch.changed_at))).one()
    return max(latest - at, timedelta()) if latest else timedelta()


def _percent(part: int, whole: int) -> str:
    return f"{part / whole * 100:.2f} %" if whole else "of none"


def _minutes(span: timedelta) -> int:
    return int(span.total_seconds() // 60)
