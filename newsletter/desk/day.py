"""
The day, in plain order: collect, pick, make up, proof, approve, freeze, send.

Every step may be run twice for the same edition; each stops with a sentence an editor understands when
its promise cannot be kept. ``now`` is editorial time; ``Desk.clock`` stamps the ledger.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime
from functools import partial

from sqlmodel import Session

from newsletter.archive import index_missing
from newsletter.audience.sunset import Step, standing
from newsletter.catalogue import Newsletter
from newsletter.desk.approval import (
    BY_RULE,
    check_proof,
    hold_edition,
    record,
)
from newsletter.desk.correcting import make_correction
from newsletter.desk.deciding import Deciding
from newsletter.desk.installation import Tell
from newsletter.desk.looking import Account
from newsletter.desk.making import _silent
from newsletter.desk.newsroom import in_order
from newsletter.desk.ordering import Ordering
from newsletter.edition import EditionStatus
from newsletter.errors import NewsletterError, StateError
from newsletter.outbox.accounts import counts
from newsletter.outbox.doubt import resolve
from newsletter.outbox.drain import Mailing, drain
from newsletter.outbox.drain import Step as Progress
from newsletter.outbox.freeze import freeze
from newsletter.rendering.engine import content_hash
from newsletter.store.editions import (
    current_edition,
    load_renderings,
    revisions,
)
from newsletter.store.holds import hold_of
from newsletter.store.session import reading, writing
from newsletter.store.tables import EditionRow
from newsletter.times import WEEKDAYS
from newsletter.wakeups import defer_drain, has_queue


class Desk(Deciding, Ordering):
    """Everything the day needs, opened once at a door."""

    def freeze(self, newsletter: Newsletter, day: date, *, now: datetime) -> int | None:
        """
        Freeze the audience of an approved edition; return the id of one that is being sent, else None.

        Raises:
            ProofFailed: its proof found errors; however it came to be approved, it does not go out.
        """
        with reading(self.engine) as session:
            row = self._row(session, newsletter, day)
            if row.status == EditionStatus.APPROVED:
                self._refuse_other_bytes(session, row)
        if row.status == EditionStatus.APPROVED and self._is_held_as_a_whole(newsletter, row):
            return None
        if row.status == EditionStatus.APPROVED:
            check_proof(newsletter, row)
            freeze(
                self.engine, newsletter, self.catalogue.publication, row.id or 0, now=now, at=self.clock(),
                batch_size=self.provider.max_recipients, can_schedule=bool(self.provider.schedules_ahead),
                on_frozen=partial(self._frozen, newsletter),
            )  # fmt: skip
            index_missing(self.engine, self.catalogue)
            with reading(self.engine) as session:
                row = self._row(session, newsletter, day)
        return row.id if row.status == EditionStatus.SUBMITTING else None

    def _frozen(self, newsletter: Newsletter, session: Session, edition_id: int) -> None:
        """Wake a worker where there is a queue, and write down whom the sunset keeps out of the audience."""
        if has_queue(self.engine):
            defer_drain(session, edition_id)
        out = standing(session, newsletter.slug) if self.catalogue.publication.sunset else {}
        if told := ", ".join(f"{out[step]} {step}" for step in (Step.PAUSED, Step.STOPPED) if out.get(step)):
            row = session.get_one(EditionRow, edition_id)
            detail = f"not in its audience by the sunset rule: {told}"
            record(session, row, "frozen", at=self.clock(), actor="the sunset", detail=detail)

    def _is_held_as_a_whole(self, newsletter: Newsletter, row: EditionRow) -> bool:
        """Hold an edition of a newsletter that an alarm holds, unless a person approved it since; whether it was."""
        with writing(self.engine) as session:
            hold = hold_of(session, newsletter.slug)
            by_itself = row.approved_by in ("auto", BY_RULE)
            if hold is None or (not by_itself and row.approved_at and row.approved_at > hold.since):
                return False
            reason = f"{hold.reason} Find out why, then: newsletter release {newsletter.slug}"
            held = session.merge(row, load=True)
            return hold_edition(
                session, held, actor="the alarm for complaints", at=self.clock(), reason=reason
            )

    def _refuse_other_bytes(self, session: Session, row: EditionRow) -> None:
        """An approval is of a content hash: bytes of another one never go out under it."""
        if content_hash(load_renderings(session, row.id or 0)) != row.content_hash:
            raise StateError(
                f"The stored bytes of {row.newsletter} on {row.edition_date} are not those that were approved. "
                f"Hold it, make it anew and approve that: newsletter hold {row.newsletter}"
            )

    def send(self, newsletter: Newsletter, day: date, *, now: datetime, tell: Tell = _silent) -> Account:
        """
        Submit what is approved, go on with what was begun, and say where it stands.

        Raises:
            ProviderError: the provider refuses us as a whole.
        """
        self.freeze(newsletter, day, now=now)
        with reading(self.engine) as session:
            rows = revisions(session, newsletter.slug, day)
        going = [(newsletter, row.id or 0) for row in rows if row.status == EditionStatus.SUBMITTING]
        if going:
            self.deliver(going, now=now, tell=tell)
        return self.status([newsletter.slug], day=day)[0]

    def deliver(
        self, editions_: Sequence[tuple[Newsletter, int]], *, now: datetime | None, tell: Tell = _silent
    ) -> None:
        """
        Drain frozen editions together, so that all of them move.

        Raises:
            ProviderError: the provider refuses us as a whole.
        """
        mailings = [Mailing(one, self.catalogue.publication, edition_id) for one, edition_id in editions_]
        told = Telling(self, mailings, tell)
        self.listen()
        with self._queue_lock:
            self._queued.extend(mailings)
        # One drain a process: whoever comes while it runs hands over the editions and waits for their end.
        with self._delivery_lock:
            drain(self.sender, self._take_queued(), now=now, progress=told.step, more=self._take_queued)
            while not self.stop.is_set() and self.resolve_doubts():
                drain(self.sender, mailings, now=now, progress=told.step, more=self._take_queued)

    def _take_queued(self) -> tuple[Mailing, ...]:
        with self._queue_lock:
            taken = tuple(self._queued)
            self._queued.clear()
        return taken

    def resolve_doubts(self) -> int:
        """Call back, or send again after silence, what may be; return how many batches go again."""
        self.listen()
        return resolve(self.sender, self.catalogue)

    def correct(
        self,
        newsletter: Newsletter,
        day: date,
        *,
        now: datetime,
        actor: str,
        subject: str = "",
        tell: Tell = _silent,
    ) -> Account:
        """
        Make a further revision with the editor's edits and words and today's templates, and send it to those
        who have the wrong one; who was still waiting gets the new one only.

        Raises:
            StateError: nothing has gone out that could be corrected, or nothing has changed.
            ProofFailed: the corrected edition has errors.
            ProviderError: the provider refuses us as a whole.
        """
        with reading(self.engine) as session:
            wrong = self._row(session, newsletter, day)
        edition_id = make_correction(self, newsletter, wrong, now=now, actor=actor, subject=subject)
        self.deliver([(newsletter, edition_id)], now=now, tell=tell)
        return self.status([newsletter.slug], day=day)[0]

    def run(
        self,
        *,
        now: datetime,
        day: date | None = None,
        only: Sequence[str] = (),
        every: bool = False,
        tell: Tell = _silent,
    ) -> tuple[Account, ...]:
        """
        Make and send every newsletter due on its date (*every*: whatever the weekday).

        One newsletter's trouble never stops the others. Repeating it submits nothing twice.

        Raises:
            ProviderError: the provider refuses us as a whole: all that follows would fail the same way.
        """
        self.tidy()
        chosen = [self.catalogue[slug] for slug in only] or list(in_order(self.catalogue))
        accounts: list[Account] = []
        frozen: list[tuple[Newsletter, int]] = []
        for number, newsletter in enumerate(chosen, start=1):
            tell("run", newsletter.slug, number, len(chosen))
            edition_date = day or self.edition_date(newsletter, now)
            account = self._make_one(newsletter, edition_date, now=now, every=every)
            if account.status in (EditionStatus.APPROVED, EditionStatus.SUBMITTING):
                edition_id, account = self._freeze_one(newsletter, account, now=now)
                frozen += [(newsletter, edition_id)] if edition_id is not None else []
            accounts.append(account)
            if self.stop.is_set():
                break
        if frozen and not self.stop.is_set():
            self.deliver(frozen, now=now, tell=tell)
        place = {newsletter.slug: n for n, newsletter in enumerate(self.catalogue.newsletters)}
        accounts.sort(key=lambda account: () if only else (place[account.newsletter],))
        sent = {newsletter.slug for newsletter, _ in frozen}
        return tuple(
            self.status([one.newsletter], day=one.date)[0] if one.newsletter in sent else one
            for one in accounts
        )

    def _freeze_one(
        self, newsletter: Newsletter, account: Account, *, now: datetime
    ) -> tuple[int | None, Account]:
        try:
            edition_id = self.freeze(newsletter, account.date, now=now)
        except NewsletterError as error:
            return None, replace(account, reason=str(error))
        return edition_id, self.status([newsletter.slug], day=account.date)[0]

    def _make_one(self, newsletter: Newsletter, day: date, *, now: datetime, every: bool) -> Account:
        if not every and WEEKDAYS[day.weekday()] not in newsletter.schedule.days:
            days = ", ".join(newsletter.schedule.days)
            known = self.status([newsletter.slug], day=day)
            if not known:
                reason = f"Not due on {day:%A}s: it goes out on {days}. Use --all to make it anyway."
                return Account(newsletter.slug, day, status="not due", reason=reason)
        before = self.status([newsletter.slug], day=day)
        if before and before[0].status == EditionStatus.SUBMITTED:
            return replace(
                before[0], reason=f"Already submitted{_when(before[0], self)}; nothing was sent again."
            )
        return self.prepare(newsletter, day, now=now)


class Telling:
    """Turns steps of a drain into progress: (send, slug, readers done, audience)."""

    def __init__(self, desk: Desk, mailings: Sequence[Mailing], tell: Tell) -> None:
        self.tell = tell
        self.done: dict[str, int] = {}
        self.audience: dict[str, int] = {}
        with reading(desk.engine) as session:
            for mailing in mailings:
                row = session.get_one(EditionRow, mailing.edition_id)
                slug = mailing.newsletter.slug
                self.done[slug] = counts(session, mailing.edition_id)["submitted"]
                self.audience[slug] = row.audience
                tell("send", slug, self.done[slug], row.audience)

    def step(self, step: Progress) -> None:
        """Count what was accepted, and pass on what is uncertain and why something waits."""
        slug = step.newsletter
        if slug not in self.done:
            return  # handed over by another thread, which does not watch
        if step.outcome == "accepted":
            self.done[slug] += step.readers
            self.tell("send", slug, self.done[slug], self.audience[slug])
        elif step.outcome == "uncertain":
            self.tell("uncertain", slug, step.readers, self.audience[slug])
        elif step.outcome == "waits":
            self.tell("waits", f"{slug}: {step.why}", self.done[slug], self.audience[slug])


def _when(account: Account, desk: Desk) -> str:
    with reading(desk.engine) as session:
        row = current_edition(session, account.newsletter, account.date)
    return f" on {row.submitted_at:%Y-%m-%d at %H:%M} UTC" if row and row.submitted_at else ""
