"""
The rota: which slots there are, which are due, and what becomes of one that is late.

A slot is a newsletter's local date. Some way ahead of it the edition is looked at, or made up for editors who
have to approve it until a deadline. Whatever wakes us (a trigger that fired twice, a restart, a second
machine), the rota looks at what is due and not yet accounted for; so a doubled or lost wake-up only
costs a look. Late by less than the newsletter's ``max_lateness_hours``: made up. Later: recorded as
missed, and said aloud.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import structlog

from newsletter.catalogue import Catalogue, Newsletter, Publication
from newsletter.desk import Account, Desk
from newsletter.edition import EditionStatus
from newsletter.errors import NewsletterError
from newsletter.store.rota import keep_from
from newsletter.store.session import writing
from newsletter.store.telling import claim, owe
from newsletter.times import Due, due_dates, iso
from newsletter.watch.foresight import foresee, tell_owed
from newsletter.watch.listening import keep_listening

LOOK_BACK = timedelta(days=14)
_WAITING = (EditionStatus.DRAFT, EditionStatus.APPROVED, EditionStatus.HELD, EditionStatus.SKIPPED)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Coming:
    """A slot to come; *note* tells of a clock change on that day."""

    newsletter: str
    day: date
    at: datetime
    zone: str
    note: str = ""


def coming(catalogue: Catalogue, *, start: datetime, days: int = 14) -> tuple[Coming, ...]:
    """All slots in the *days* after *start*, in order of time."""
    found = [
        Coming(newsletter.slug, due.day, due.at, zone, _clock_change(due.day, zone))
        for newsletter in catalogue.newsletters
        for zone in (newsletter.zone(catalogue.publication),)
        for due in due_dates(
            days=newsletter.schedule.days, at=newsletter.schedule.at, zone=zone, start=start,
            end=start + timedelta(days=days),
        )
    ]  # fmt: skip
    return tuple(sorted(found, key=lambda slot: (slot.at, slot.newsletter)))


def _clock_change(day: date, zone: str) -> str:
    """Say whether clocks change on *day*: the length of the local day is not 24 hours."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone))
    after = midnight + timedelta(days=1)
    change = (after.utcoffset() or timedelta()) - (midnight.utcoffset() or timedelta())
    if not change:
        return ""
    minutes = abs(int(change.total_seconds())) // 60
    return f"clocks go {'forward' if change > timedelta() else 'back'} {minutes} minutes on this day"


def begin(desk: Desk) -> None:
    """Keep a rota for every newsletter from now on, or go on with the one that is kept."""
    for newsletter in desk.catalogue.newsletters:
        keep_from(desk.engine, newsletter.slug, at=desk.clock())


def next_wake(newsletter: Newsletter, publication: Publication, *, after: datetime) -> datetime:
    """
    The next moment after *after* at which something of *newsletter* may be due.

    From its lead on, as often as sources are read, up to the slot; the slot; and the deadline of editors.
    Counted back from the slot in real time, so that clocks that change neither lose nor double one.
    """
    every = timedelta(minutes=publication.collect_every_minutes)
    deadline = timedelta(minutes=newsletter.approval_deadline_minutes)
    # A deadline may lie after its slot: the slot it belongs to may be past.
    start = after - max(deadline, timedelta()) - timedelta(days=1)
    found: list[datetime] = []
    for due in due_dates(
        days=newsletter.schedule.days, at=newsletter.schedule.at, zone=newsletter.zone(publication), start=start,
        end=after + newsletter.lead + timedelta(days=8),
    ):  # fmt: skip
        looks = -(-newsletter.lead // every)
        found += [due.at - newsletter.lead + every * look for look in range(looks)]
        found += [due.at, *([due.at + deadline] if newsletter.approval == "required" else [])]
    return min(moment for moment in found if moment > after)


def attend(desk: Desk, newsletter: Newsletter, *, collecting: Collecting) -> tuple[Account, ...]:
    """
    Do what is due of *newsletter* by now: look ahead or make up for its editors, make and send, decide for
    editors who did not; record what is too late.
    """
    at = desk.clock()
    start = max(keep_from(desk.engine, newsletter.slug, at=at), at - LOOK_BACK)
    zone = newsletter.zone(desk.catalogue.publication)
    accounts: list[Account] = []
    for due in due_dates(
        days=newsletter.schedule.days, at=newsletter.schedule.at, zone=zone, start=start, end=at + newsletter.lead
    ):  # fmt: skip
        if desk.stop.is_set():
            break
        if desk.has_slot(newsletter, due.day):
            accounts += _for_editors(desk, newsletter, due, collecting)
            continue
        late = at - due.at
        if late > timedelta(hours=newsletter.schedule.max_lateness_hours):
            reason = f"due at {iso(due.at)}, found {late.total_seconds() / 3600:.1f} h later"
            if desk.record_missed(newsletter, due.day, reason):
                log.error("slot.missed", newsletter=newsletter.slug, date=due.day.isoformat(), reason=reason)
            continue
        if due.at > at and newsletter.approval == "auto":
            if _looks(desk, newsletter, due):
                collecting.refresh(desk)
                foresee(desk, newsletter, due.day)
            continue
        accounts += _make(desk, newsletter, due, collecting)
    for account in accounts:
        told = log.warning if account.waits else log.info
        told(
            "slot.made", newsletter=account.newsletter, date=account.date.isoformat(), status=account.status,
            audience=account.audience, submitted=account.submitted, reason=account.reason,
        )  # fmt: skip
    if accounts:
        tell_owed(desk)
    return tuple(accounts)


def _make(desk: Desk, newsletter: Newsletter, due: Due, collecting: Collecting) -> tuple[Account, ...]:
    """Make up the edition, and send it where nobody has to approve it; promise first to tell how it went."""
    collecting.refresh(desk)
    with writing(desk.engine) as session:
        owe(session, f"made {newsletter.slug} {due.day}", at=desk.clock())
    if newsletter.approval == "required":
        return (desk.prepare(newsletter, due.day, now=desk.clock()),)
    return desk.run(now=desk.clock(), day=due.day, only=[newsletter.slug], every=True)


def _for_editors(desk: Desk, newsletter: Newsletter, due: Due, collecting: Collecting) -> tuple[Account, ...]:
    """What is still to be done for an edition that was made up for its editors."""
    row = desk.find(newsletter, due.day) if newsletter.approval == "required" else None
    if row is None or row.status not in _WAITING:
        return ()
    _await_editors(desk, newsletter, due.day)
    row = desk.find(newsletter, due.day)
    if row is not None and row.status == EditionStatus.APPROVED and due.at <= desk.clock():
        return desk.run(now=desk.clock(), day=due.day, only=[newsletter.slug], every=True)
    if desk.clock() < due.at and desk.remakes(newsletter, due.day) and _looks(desk, newsletter, due):
        return _make(desk, newsletter, due, collecting)
    return ()


def _await_editors(desk: Desk, newsletter: Newsletter, day: date) -> None:
    """Ask whom a mail has not reached yet; past the deadline, decide."""
    decided = desk.decide(newsletter, day, now=desk.clock())
    if decided is None:
        desk.ask(newsletter, day)
        return
    log.warning(
        "edition.unapproved", newsletter=newsletter.slug, date=day.isoformat(), status=decided.status,
        reason=decided.reason,
    )  # fmt: skip


def _looks(desk: Desk, newsletter: Newsletter, due: Due) -> bool:
    """Whether it is time to look again, as often as sources are read, whoever looks."""
    every = timedelta(minutes=desk.catalogue.publication.collect_every_minutes)
    return claim(desk.engine, f"look {newsletter.slug} {due.day}", at=desk.clock(), lapses=every)


def carry_on(desk: Desk) -> None:
    """Go on with what was approved by an editor, waits for its time, or was left unfinished by a crash."""
    desk.tidy()
    keep_listening(desk)
    try:
        if resent := desk.resolve_doubts():
            log.warning("batches.go_again", batches=resent)
    except NewsletterError as error:
        log.error("doubts.unresolved", reason=str(error))
    for account in desk.status():
        newsletter = desk.catalogue[account.newsletter]
        if account.status == EditionStatus.DRAFT and newsletter.approval == "required":
            _await_editors(desk, newsletter, account.date)
    tell_owed(desk)
    for account in desk.status():
        if account.status != EditionStatus.APPROVED or desk.stop.is_set():
            continue
        if desk.is_due(desk.catalogue[account.newsletter], account.date):
            _freeze(desk, account)
    editions = desk.being_sent()
    if not editions or desk.stop.is_set():
        return
    try:
        desk.deliver(editions, now=None)
    except NewsletterError as error:
        log.error("edition.stuck", newsletters=sorted({one.slug for one, _ in editions}), reason=str(error))
    else:
        log.debug("edition.carried_on", newsletters=sorted({one.slug for one, _ in editions}))


def _freeze(desk: Desk, account: Account) -> None:
    try:
        desk.freeze(desk.catalogue[account.newsletter], account.date, now=desk.clock())
    except NewsletterError as error:
        log.error(
            "edition.stuck",
            newsletters=[account.newsletter],
            date=account.date.isoformat(),
            reason=str(error),
        )


class Collecting:
    """Collects at most once in the publication's interval, however many newsletters ask at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: datetime | None = None

    def refresh(self, desk: Desk) -> None:
        """Collect unless it was done a short while ago."""
        every = timedelta(minutes=desk.catalogue.publication.collect_every_minutes)
        with self._lock:
            at = desk.clock()
            if self._last is not None and at - self._last < every:
                return
            reports = desk.collect(None, now=at)
            self._last = at
        failed = [report.source for report in reports if report.error and not report.skipped]
        log.info("sources.collected", sources=len(reports), new=sum(r.new for r in reports), failed=failed)
