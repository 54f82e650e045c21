"""What came back of editions, or did not: complaints, bounces, batches in doubt, a silent webhook, a send that stands still."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

import structlog
from sqlalchemy import distinct
from sqlalchemy import select as columns
from sqlmodel import col, func, select

from newsletter.catalogue import Newsletter
from newsletter.desk import Desk
from newsletter.edition import EditionStatus
from newsletter.errors import StateError
from newsletter.events import EventKind
from newsletter.outbox.claim import waits
from newsletter.outbox.inbox import waiting
from newsletter.outbox.ledger import BatchState
from newsletter.store.editions import edition_ref
from newsletter.store.holds import hold_newsletter
from newsletter.store.session import reading, writing
from newsletter.store.tables import Batch, EditionRow, Event
from newsletter.store.telling import is_told, keep_told
from newsletter.times import iso
from newsletter.watch.alarms.alarm import Alarm, minutes_of

COMPLAINTS_WARN, COMPLAINTS_HOLD = 0.001, 0.003
"""In parts of the submitted. Gmail and Yahoo ask senders to stay below 0.1 % and never to reach 0.3 %."""

FEWEST_COMPLAINTS = 3
"""Fewer hold nothing: one of a hundred readers is a person, not a rate."""

BOUNCES_WARN, FEWEST_BOUNCES = 0.05, 10
LOOKED_BACK = timedelta(days=4)
IN_DOUBT = timedelta(minutes=15)
SILENT = timedelta(minutes=30)
STANDS_STILL = timedelta(minutes=30)

log = structlog.get_logger()


def of_editions(desk: Desk, newsletter: Newsletter, at: datetime) -> Iterator[Alarm]:
    """Of every edition of the last days. A newsletter that complaints stop is held."""
    for row in _lately_sent(desk, newsletter, at):
        yield from _of_edition(desk, newsletter, row, at)
        yield from _standstill(desk, newsletter, row, at)


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
            f"Of {of} {uncertain} batches are uncertain for more than {minutes_of(IN_DOUBT)} minutes: nobody can say whether they were taken.",
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


def _standstill(desk: Desk, newsletter: Newsletter, row: EditionRow, at: datetime) -> Iterator[Alarm]:
    """Something of it could go, and nothing has for a while: nobody sends, or the provider takes nothing."""
    if row.status != EditionStatus.SUBMITTING or row.id is None:
        return
    with reading(desk.engine) as session:
        readers, last_at = session.execute(
            columns(
                func.coalesce(func.sum(col(Batch.n)).filter(col(Batch.state) == BatchState.PENDING), 0),
                func.max(col(Batch.changed_at)),
            ).where(col(Batch.edition_id) == row.id)
        ).one()
        if not readers or last_at > at - STANDS_STILL:
            return
        if waits(session, newsletter, desk.catalogue.publication, row.id, at=at, ahead=timedelta(0)):
            return
    yield Alarm(
        f"standstill {edition_ref(row)}", "a send stands still",
        f"{readers} readers of {newsletter.name} of {row.edition_date} wait, and nothing has moved since {iso(last_at)}.",
        f"Is the scheduler running? newsletter send {newsletter.slug} says what is in the way, newsletter doctor --online whether the provider takes anything.",
        newsletter.slug,
    )  # fmt: skip


def _percent(part: int, whole: int) -> str:
    return f"{part / whole * 100:.2f} %" if whole else "of none"
