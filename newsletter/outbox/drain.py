"""
Drain: claim, submit and settle until nothing of the editions at hand can be claimed.

One thread does everything that takes the processor: in one transaction it settles what came back and
claims what goes next, then it encodes the request; a pool of threads only talks to the network. So a
batch costs one commit, and the interpreter's lock is never fought over. Safe to run in several threads,
processes and machines at the same time, and to stop anywhere.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session

from newsletter.audience.tokens import Signer
from newsletter.catalogue import Newsletter, Publication
from newsletter.edition import Rendered
from newsletter.errors import NotFound, ProviderError
from newsletter.outbox.batches import split_batch
from newsletter.outbox.claim import Claim, TooLarge, claim, look
from newsletter.outbox.envelopes import envelope_of, recipients
from newsletter.outbox.evidence import settle_from_stored
from newsletter.outbox.freeze import SCHEDULE_LEAD
from newsletter.outbox.ledger import recover, this_owner
from newsletter.outbox.pace import Later
from newsletter.outbox.settle import close, settle
from newsletter.outbox.subjects import WHY_IT_WAITS, waits_for_choice
from newsletter.providers import Accepted, Divided, Envelope, Outcome, Provider, Ready, Refused, Uncertain
from newsletter.store.editions import load_renderings
from newsletter.store.session import reading, spoken, writing
from newsletter.store.tables import EditionRow
from newsletter.times import Clock, iso

log = structlog.get_logger()

PATIENCE = timedelta(seconds=90)
"""How long after the last batch a drain waits for a pace or a provider, before it leaves the rest for later."""

_LEASE_MARGIN = timedelta(minutes=2)
_RECONNECT = timedelta(seconds=5)
_LOOK_EVERY = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Sender:
    """What a drain needs besides the editions: made once at a door and handed down."""

    engine: Engine
    provider: Provider
    signer: Signer
    base_url: str
    in_flight: int
    clock: Clock
    stop: threading.Event = field(default_factory=threading.Event)
    sleep: Callable[[float], None] = time.sleep
    cancel_limit: int = 10


@dataclass(frozen=True, slots=True)
class Mailing:
    """One frozen edition to be drained."""

    newsletter: Newsletter
    publication: Publication
    edition_id: int


@dataclass(frozen=True, slots=True)
class Step:
    """
    Progress: *readers* of *newsletter* whose batch got *outcome*: accepted, uncertain or refused.

    ``waits``: nothing of it can go now; *why* says until when and for what.
    """

    newsletter: str
    outcome: str
    readers: int
    why: str = ""


Progress = Callable[[Step], None]


def drain(
    sender: Sender,
    mailings: Sequence[Mailing],
    *,
    now: datetime | None = None,
    progress: Progress | None = None,
    more: Callable[[], Sequence[Mailing]] | None = None,
) -> None:
    """
    Send what is pending of *mailings*, batch by batch in turn, so that all of them move.

    *now* is editorial time (who pays); None: the sender's clock. *more* is asked now and then for
    editions that have something pending meanwhile.

    Raises:
        ProviderError: the provider refuses us as a whole; nothing is lost, everything stays pending.
        StoreError: the database cannot be written; what was in flight is settled at the next start.
    """
    with spoken():
        with writing(sender.engine) as session:
            lost = recover(session, at=sender.clock())
        if lost:
            settle_from_stored(sender.engine, at=sender.clock())
        _Drain(sender, now, progress, more).run(mailings)


@dataclass(slots=True)
class _Edition:
    """A mailing with its bytes, and how it stands in this drain."""

    mailing: Mailing
    row: EditionRow
    renderings: dict[str, Rendered]
    is_scheduled: bool = False
    waits_for_choice: bool = False
    in_flight: int = 0
    served: int = 0
    rests_until: datetime | None = None
    is_done: bool = False


@dataclass(slots=True)
class _Flight:
    edition: _Edition
    claim: Claim


class _Drain:
    def __init__(
        self,
        sender: Sender,
        now: datetime | None,
        progress: Progress | None,
        more: Callable[[], Sequence[Mailing]] | None,
    ) -> None:
        self.sender, self.now, self.progress, self.more = sender, now, progress, more
        self.owner = this_owner()
        self.editions: dict[int, _Edition] = {}
        self.flights: dict[Future[Outcome], _Flight] = {}
        self.unsent: list[tuple[_Edition, Claim]] = []
        self.reservations: list[str] = []
        self.turns = 0
        self.rests_until: datetime | None = None
        self.last_progress = self.looks_again_at = sender.clock()
        self.refused_us = ""

    def run(self, mailings: Sequence[Mailing]) -> None:
        """Work until everything is done, must wait too long, or somebody says stop."""
        self._add(mailings)
        with ThreadPoolExecutor(self.sender.in_flight, thread_name_prefix="submit") as pool:
            try:
                while self._work(pool):
                    pass
            except Exception:
                self._save_what_is_known()
                raise
        if self.refused_us:
            raise ProviderError(
                f"The provider refuses us: {self.refused_us} Nothing was lost: what is pending goes out with the "
                "next `newsletter send` once this is mended."
            )

    def _work(self, pool: ThreadPoolExecutor) -> bool:
        """One round: settle what came back, claim and launch what there is room for; is there more to do?"""
        self._look_for_more()
        stopping = self.refused_us or self.sender.stop.is_set()
        done = [future for future in self.flights if future.done()]
        room = 0 if stopping else self.sender.in_flight - len(self.flights) + len(done)
        turns = self._whose_turns(room, done)
        if done and sum(edition.is_scheduled for edition in turns) > len(self.reservations):
            # Handles come over the network: what is known must not wait for them, or a kill makes it uncertain.
            self._settle_and_claim(done, ())
            return True
        turns = self._with_handles(turns)
        if not turns and not done:
            if self.flights:
                wait(self.flights, timeout=1.0, return_when=FIRST_COMPLETED)
                return True
            return not stopping and self._rest()
        self._settle_and_claim(done, turns)
        while self.unsent:
            edition, claimed = self.unsent[0]
            at, mailing = self.sender.clock(), edition.mailing
            looked = look(
                self.sender.engine, mailing.newsletter, mailing.publication, claimed, now=self.now or at, at=at,
                batch_size=self.sender.provider.max_recipients,
            )  # fmt: skip
            if looked.readers:
                self._launch(pool, edition, looked)
            else:
                edition.in_flight -= 1
            del self.unsent[0]
        return True

    # --- whose turn -----------------------------------------------------------------------------

    def _add(self, mailings: Sequence[Mailing]) -> None:
        for mailing in mailings:
            known = self.editions.get(mailing.edition_id)
            if known is None:
                self.editions[mailing.edition_id] = _load(self.sender, mailing)
            elif known.is_done:
                known.is_done = False

    def _look_for_more(self) -> None:
        at = self.sender.clock()
        if self.more is not None and at >= self.looks_again_at:
            self._add(self.more())
            self.looks_again_at = at + _LOOK_EVERY
            self._look_for_choices()

    def _look_for_choices(self) -> None:
        """Let the rest of an edition go whose subject was chosen meanwhile, by a person or another process."""
        for edition in self.editions.values():
            if edition.waits_for_choice:
                with reading(self.sender.engine) as session:
                    if waits_for_choice(session, edition.mailing.edition_id) is None:
                        edition.waits_for_choice, edition.rests_until = False, None

    def _whose_turns(self, room: int, done: Sequence[Future[Outcome]]) -> list[_Edition]:
        """
        Who may claim a batch each, at most *room*, an edition as often as it comes.

        First the edition with the fewest requests in flight, *done* not counted: who is slow keeps no more
        than its share of them. Of several, the one served longest ago.
        """
        at = self.sender.clock()
        if room < 1 or (self.rests_until is not None and self.rests_until > at):
            return []
        waiting = [
            edition
            for edition in self.editions.values()
            if not edition.is_done and (edition.rests_until is None or edition.rests_until <= at)
        ]
        landed = Counter(id(self.flights[future].edition) for future in done)
        busy = {id(edition): edition.in_flight - landed[id(edition)] for edition in waiting}
        served = {id(edition): edition.served for edition in waiting}
        turns: list[_Edition] = []
        while waiting and len(turns) < room:
            edition = min(waiting, key=lambda one: (busy[id(one)], served[id(one)]))
            turns.append(edition)
            busy[id(edition)] += 1
            served[id(edition)] = self.turns + len(turns)
        return turns

    def _rest(self) -> bool:
        """Nothing is in flight and nothing can be claimed now: wait if it is not for long."""
        at = self.sender.clock()
        moments = [
            max(edition.rests_until or at, self.rests_until or at)
            for edition in self.editions.values()
            if not edition.is_done
        ]
        if not moments or min(moments) > self.last_progress + PATIENCE:
            return False
        self.sender.sleep(min(1.0, max(0.0, (min(moments) - at).total_seconds())) or 0.001)
        return True

    def _with_handles(self, turns: list[_Edition]) -> list[_Edition]:
        """*turns* for which the provider's handles of scheduled requests are at hand; the others rest a moment."""
        ready: list[_Edition] = []
        for edition in turns:
            scheduled = sum(one.is_scheduled for one in ready)
            if not edition.is_scheduled or self._reserve(edition, scheduled + 1):
                ready.append(edition)
        return ready

    def _reserve(self, edition: _Edition, number: int) -> bool:
        """Have handles for *number* scheduled requests at hand."""
        try:
            while len(self.reservations) < number:
                self.reservations.append(self.sender.provider.reserve())
        except ProviderError:
            edition.rests_until = self.sender.clock() + _RECONNECT
            return False
        return True

    # --- the ledger -----------------------------------------------------------------------------

    def _settle_and_claim(self, done: Sequence[Future[Outcome]], turns: Sequence[_Edition]) -> None:
        """
        Settle what came back and claim what goes next (``unsent``).

        One transaction: a slot is free only when the outcome of its last batch is committed.
        """
        at = self.sender.clock()
        # By number, the order in which everybody locks batches.
        done = sorted(done, key=lambda future: self.flights[future].claim.batch_id)
        taken = [future for future in done if isinstance(future.result(), Accepted)]
        for future in done:
            if future not in taken:  # these may append batches, which locks the edition: not after a pace
                with writing(self.sender.engine) as session:
                    self._settle(session, future, at)
        to_close = {self.flights[future].edition.mailing.edition_id for future in done}
        claims: list[tuple[_Edition, Claim]] = []
        empty: dict[int, tuple[_Edition, Later | None]] = {}
        large: dict[int, TooLarge] = {}
        with writing(self.sender.engine) as session:
            for future in taken:
                self._settle(session, future, at)
            for edition in turns:
                if id(edition) in empty or id(edition) in large:
                    continue
                claimed = self._claim(
                    session, edition, at, len([one for one, _ in claims if one.is_scheduled])
                )
                if isinstance(claimed, Claim):
                    claims.append((edition, claimed))
                elif isinstance(claimed, TooLarge):
                    large[id(edition)] = claimed
                else:
                    empty[id(edition)] = (edition, claimed)
            to_close |= {edition.mailing.edition_id for edition, _ in empty.values()}
            to_close -= {edition.mailing.edition_id for edition, _ in claims}
            for edition_id in sorted(to_close):
                close(session, edition_id, at=at)
        self.unsent = claims  # from here on they are ours: whatever fails, nobody of them is in doubt
        for one in large.values():  # appends batches, too
            with writing(self.sender.engine) as session:
                split_batch(session, one.batch_id, size=one.size, at=at)
        for future in done:
            self._landed(self.flights.pop(future), future.result())
        for edition, claimed in claims:
            edition.in_flight += 1
            self.turns += 1
            edition.served = self.turns
            if claimed.reservation:
                self.reservations.remove(claimed.reservation)
        for edition, later in empty.values():
            if later is not None:
                self._tell(
                    Step(edition.mailing.newsletter.slug, "waits", 0, f"until {iso(later.at)}: {later.why}")
                )
            edition.is_done = later is None and edition.in_flight == 0
            edition.waits_for_choice = later is not None and later.why == WHY_IT_WAITS
            edition.rests_until = later.at if later is not None else None
            if later is None and edition.in_flight:
                # What is in flight may come back as refused; look again when it has landed.
                edition.rests_until = at + timedelta(days=1)

    def _settle(self, session: Session, future: Future[Outcome], at: datetime) -> None:
        self._record(session, self.flights[future], future.result(), at)

    def _record(self, session: Session, flight: _Flight, outcome: Outcome, at: datetime) -> None:
        settle(
            session, flight.edition.mailing.newsletter.slug, flight.claim, outcome, at=at,
            batch_size=self.sender.provider.max_recipients,
        )  # fmt: skip

    def _claim(
        self, session: Session, edition: _Edition, at: datetime, used: int
    ) -> Claim | TooLarge | Later | None:
        mailing, provider = edition.mailing, self.sender.provider
        ahead = min(provider.schedules_ahead, SCHEDULE_LEAD)
        return claim(
            session,
            mailing.newsletter, mailing.publication, mailing.edition_id, owner=self.owner, at=at,
            ahead=ahead, reservation=self.reservations[used] if edition.is_scheduled else "",
            most=provider.max_recipients,
        )  # fmt: skip

    def _landed(self, flight: _Flight, outcome: Outcome) -> None:
        edition = flight.edition
        edition.in_flight -= 1
        edition.rests_until, edition.is_done = None, False
        whole = ((outcome, range(len(flight.claim.readers))),)
        for verdict, who in outcome.parts if isinstance(outcome, Divided) else whole:
            match verdict:
                case Accepted():
                    word = "accepted"
                    self.last_progress = self.sender.clock()
                case Uncertain():
                    word = "uncertain"
                    self.last_progress = self.sender.clock()
                case Refused():
                    word = "refused"
                    if verdict.stop_run:
                        self.refused_us = verdict.reason
                    elif verdict.slow_down:
                        self.rests_until = verdict.retry_at
            self._tell(Step(edition.mailing.newsletter.slug, word, len(who)))

    def _tell(self, step: Step) -> None:
        if self.progress:
            try:
                self.progress(step)
            except Exception:  # who watches must not hurt what is watched: a claim may be waiting to be sent
                log.exception("progress.failed")

    def _save_what_is_known(self) -> None:
        """
        Something failed in the middle: wait for what is in flight and try (once more) to write it down.

        What was claimed and not handed over yet certainly went to nobody.
        """
        wait(self.flights)
        known = [(flight, future.result()) for future, flight in self.flights.items()]
        never = Refused("Something failed here before it could be handed over.")
        known += [(_Flight(edition, claimed), never) for edition, claimed in self.unsent]
        for flight, outcome in known:
            try:
                with writing(self.sender.engine) as session:
                    self._record(session, flight, outcome, self.sender.clock())
            except SQLAlchemyError:
                continue  # it stays in flight, and is uncertain from the next start on
        self.flights.clear()
        self.unsent.clear()

    # --- the mail -------------------------------------------------------------------------------

    def _launch(self, pool: ThreadPoolExecutor, edition: _Edition, claimed: Claim) -> None:
        ready = self._prepare(edition, claimed)
        self.flights[pool.submit(self._submit, ready, claimed)] = _Flight(edition, claimed)

    def _prepare(self, edition: _Edition, claimed: Claim) -> Ready:
        try:
            return self.sender.provider.prepare(self._envelope(edition, claimed))
        except Exception as error:  # a fault of ours must not leave a batch in flight that never left
            log.exception("mail.not_prepared", newsletter=edition.mailing.newsletter.slug)
            refused = Refused(
                f"The mail could not be prepared ({type(error).__name__}); the log says where.", stop_run=True
            )
            return lambda: refused

    def _submit(self, ready: Ready, claimed: Claim) -> Outcome:
        """In a thread of the pool; a process that was stopped for longer than its lease sends nothing."""
        if self.sender.clock() > claimed.lease_until - _LEASE_MARGIN:
            return Refused(
                "This process was stopped for too long before it could send.", retry_at=claimed.lease_until
            )
        try:
            return ready()
        except Exception as error:  # a provider never raises; if it does, nobody knows how far it came
            log.exception("provider.raised")
            return Uncertain(
                f"Our code for the provider failed ({type(error).__name__}); the log says where."
            )

    def _envelope(self, edition: _Edition, claimed: Claim) -> Envelope:
        return envelope_of(
            edition.mailing.newsletter, edition.mailing.publication, edition.row,
            edition.renderings[claimed.variant], claimed.subject, sender=claimed.sender,
            batch=f"{claimed.batch_id}.{claimed.attempt}",
            recipients=recipients(self.sender.signer, self.sender.base_url, edition.row, claimed.readers),
            release_at=claimed.release_at, reservation=claimed.reservation,
        )  # fmt: skip


def _load(sender: Sender, mailing: Mailing) -> _Edition:
    with reading(sender.engine) as session:
        row = session.get(EditionRow, mailing.edition_id)
        renderings = load_renderings(session, mailing.edition_id)
    if row is None:
        raise NotFound(f"There is no edition {mailing.edition_id}.")
    # Where the provider cannot, an edition goes at once, as the freeze has it.
    is_scheduled = mailing.newsletter.mode == "scheduled" and bool(sender.provider.schedules_ahead)
    return _Edition(mailing, row, {one.variant: one for one in renderings}, is_scheduled)
