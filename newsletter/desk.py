"""
The day, in plain order: collect, pick, make up, proof, approve, freeze, send.

Every step may be run twice for the same edition; each stops with a sentence an editor understands when
its promise cannot be kept. ``now`` is editorial time; ``Desk.clock`` stamps the ledger.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from functools import cached_property
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, exists, select

from newsletter.archive import index_missing
from newsletter.articles import Rights, canonical_url
from newsletter.audience.doors import sweep
from newsletter.audience.joining import expire
from newsletter.audience.limits import prune
from newsletter.audience.repeats import forget_repeats
from newsletter.audience.subscribers import check_suppression_key
from newsletter.audience.tokens import Signer, scope_of
from newsletter.catalogue import Catalogue, Newsletter, Weights, load_catalogue
from newsletter.edition import Difference, EditionStatus, Rendered, Snapshot, compare
from newsletter.errors import NewsletterError, NotFound, ProofFailed, StateError, ThinDay
from newsletter.feeds.collect import SourceReport, collect
from newsletter.feeds.stored import find_article
from newsletter.makeup import corrected, make_snapshot
from newsletter.newsroom import Grouper, Newsroom, in_order
from newsletter.outbox.accounts import counts, next_release
from newsletter.outbox.correct import take_over
from newsletter.outbox.doubt import resolve
from newsletter.outbox.drain import Mailing, Sender, Step, drain
from newsletter.outbox.freeze import freeze
from newsletter.outbox.ledger import BatchState, move_edition, recover, withdraw
from newsletter.outbox.pace import largest_batch
from newsletter.picks import EDITABLE, PICTURE, Order, Picks, field_of
from newsletter.providers import Provider, make_provider
from newsletter.rendering.engine import Renderer, content_hash
from newsletter.rendering.proof import Finding, Severity, blocks, proof
from newsletter.settings import Keys, Settings, load_keys
from newsletter.store.editions import (
    RAN,
    current_edition,
    editions,
    last_run_before,
    load_renderings,
    load_snapshot,
    write_content,
)
from newsletter.store.grouped import merge_stories, split_story
from newsletter.store.orders import add_order, all_orders, last_touched, load_orders, redo_last, undo_last
from newsletter.store.session import open_store, reading, writing
from newsletter.store.tables import Batch, EditionRow, Slot
from newsletter.times import WEEKDAYS, Clock, due_at, iso, local_date, system_clock
from newsletter.wakeups import defer_drain, ensure_queue, has_queue
from newsletter.wording import Wording, read_wording

Tell = Callable[[str, str, int, int], None]
"""Progress: (step, what, done, total); total 0 when unknown."""

_REMADE = (EditionStatus.DRAFT, EditionStatus.HELD, EditionStatus.SKIPPED)
_WAITING = (EditionStatus.DRAFT, EditionStatus.HELD, EditionStatus.PAUSED)
_GONE = (EditionStatus.SUBMITTING, EditionStatus.PAUSED, EditionStatus.SUBMITTED)
_FAR_AHEAD = timedelta(days=366)
TIDY_EVERY = timedelta(hours=1)


def _silent(_step: str, _what: str, _done: int, _total: int) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Account:
    """Where one edition stands, in readers: a row of ``run``, ``send`` and ``status``."""

    newsletter: str
    date: date
    revision: int = 1
    status: str = "none"
    hash: str = ""
    audience: int = 0
    pending: int = 0
    submitted: int = 0
    skipped: int = 0
    failed: int = 0
    uncertain: int = 0
    reason: str = ""

    @property
    def waits(self) -> bool:
        """Whether a person has to do something before this edition is done."""
        unsent = (*_WAITING, EditionStatus.APPROVED, EditionStatus.SUBMITTING)
        return self.status in unsent or self.uncertain > 0


@dataclass(frozen=True, slots=True)
class Made:
    """An edition made up and proofed, before it is stored."""

    picks: Picks
    snapshot: Snapshot | None
    renderings: tuple[Rendered, ...]
    findings: tuple[Finding, ...]

    @property
    def hash(self) -> str:
        """The content hash over all variants, or '' when nothing could be rendered."""
        return content_hash(self.renderings) if self.renderings else ""


@dataclass
class Desk:
    """Everything the day needs, opened once at a door."""

    engine: Engine
    catalogue: Catalogue
    settings: Settings
    keys: Keys
    clock: Clock = system_clock
    stop: threading.Event = field(default_factory=threading.Event)
    _queue_lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _delivery_lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _queued: list[Mailing] = field(default_factory=list, repr=False)
    _tidied_at: datetime | None = field(default=None, repr=False)

    @classmethod
    def open(cls, settings: Settings, *, clock: Clock = system_clock) -> Desk:
        """
        Open store, catalogue and keys.

        Raises:
            NewsletterError: one of them cannot be used; the sentence says which and what to do.
        """
        catalogue = load_catalogue(settings.templates)
        keys = load_keys(settings)
        engine = open_store(settings.database_url)
        check_suppression_key(engine, keys)
        ensure_queue(engine)
        return cls(engine=engine, catalogue=catalogue, settings=settings, keys=keys, clock=clock)

    @cached_property
    def renderer(self) -> Renderer:
        """The renderer of this catalogue."""
        return Renderer(self.catalogue)

    @cached_property
    def grouper(self) -> Grouper:
        """What groups articles into stories; it remembers the last time."""
        return Grouper(self.engine)

    @cached_property
    def provider(self) -> Provider:
        """The provider the settings name, made when first needed."""
        return make_provider(self.settings)

    def check_provider(self) -> None:
        """
        Make sure the provider can be used, before anything is done for it.

        Raises:
            SettingsError: it cannot; says what is missing.
        """
        _ = self.provider

    @cached_property
    def sender(self) -> Sender:
        """What the outbox needs of us."""
        return Sender(
            engine=self.engine, provider=self.provider, signer=Signer(self.keys), base_url=self.settings.base_url,
            in_flight=self.settings.in_flight, clock=self.clock, stop=self.stop,
            cancel_limit=self.settings.cancel_limit,
        )  # fmt: skip

    def reload(self) -> None:
        """Read templates and newsletters again (the preview does, before every page)."""
        self.catalogue = load_catalogue(self.settings.templates)
        self.__dict__.pop("renderer", None)

    def edition_date(self, newsletter: Newsletter, now: datetime) -> date:
        """The newsletter's local day of *now*."""
        return local_date(now, newsletter.zone(self.catalogue.publication))

    def tidy(self) -> None:
        """
        Forget what has run out: wishes nobody confirmed, sessions, one-time links, counted knocks, keys of
        programs' requests.

        Safe at any time and from any number of processes; does nothing within an hour of the last time here.
        """
        at = self.clock()
        if self._tidied_at is not None and at - self._tidied_at < TIDY_EVERY:
            return
        self._tidied_at = at
        expire(self.engine, now=at)
        sweep(self.engine, now=at)
        prune(self.engine, now=at)
        forget_repeats(self.engine, now=at)
        index_missing(self.engine, self.catalogue)

    # --- collect --------------------------------------------------------------------------------

    def collect(
        self, targets: Sequence[str] | None, *, now: datetime, tell: Tell = _silent
    ) -> tuple[SourceReport, ...]:
        """Read sources into articles; a bad one is reported and costs nobody an edition."""
        reports = collect(
            self.engine, self.catalogue, targets, now=now, settings=self.settings, base=Path(),
            progress=lambda source: tell("collect", source, 0, 0),
        )  # fmt: skip
        if any(report.new or report.updated for report in reports):
            self.grouper.regroup(now=now)
        return reports

    def link_stories(self, url: str, other: str, *, now: datetime) -> int:
        """
        Take an editor's word on stories and group again: *url* and *other* are one; without *other*, *url*
        stands apart. Returns how many articles the word is about.

        Raises:
            NotFound: an article is not stored, or stands apart already.
        """
        url, other = canonical_url(url) or url, canonical_url(other) or other
        with writing(self.engine) as session:
            if other:
                told = merge_stories(session, url, other, actor=self.settings.who, at=self.clock())
            else:
                told = split_story(session, url, actor=self.settings.who, at=self.clock())
        self.grouper.regroup(now=now)
        return told

    # --- pick -----------------------------------------------------------------------------------

    def pick(
        self, newsletter: Newsletter, day: date, *, now: datetime, weights: Weights | None = None
    ) -> Picks:
        """Choose the stories of *day* from what is stored; changes nothing. *weights* are tried instead of ours."""
        with reading(self.engine) as session:
            return Newsroom(session, self.catalogue, day, now, weights).choose(newsletter)[0]

    def _pick(
        self, session: Session, newsletter: Newsletter, day: date, *, now: datetime
    ) -> tuple[Picks, tuple[Order, ...]]:
        return Newsroom(session, self.catalogue, day, now).choose(newsletter)

    # --- make up and proof ----------------------------------------------------------------------

    def make(self, newsletter: Newsletter, day: date, *, now: datetime) -> Made:
        """
        Pick, make up, render and proof an edition; stores nothing.

        Raises:
            NewsletterError: a template or a text cannot be used; says where.
        """
        picks, snapshot = self.draft(newsletter, day, now=now)
        if snapshot is None:
            return Made(picks, None, (), ())
        return self.proofed(newsletter, picks, snapshot, self.renderer.render_all(snapshot), now=now)

    def draft(self, newsletter: Newsletter, day: date, *, now: datetime) -> tuple[Picks, Snapshot | None]:
        """What would be in the edition of *day*, before it is rendered; None: there is no story."""
        with reading(self.engine) as session:
            picks, orders = self._pick(session, newsletter, day, now=now)
        if not picks.picked:
            return picks, None
        snapshot = make_snapshot(
            newsletter, self.catalogue.publication, picks, edition_date=day, orders=orders,
            wording=self.wording(newsletter, day),
        )  # fmt: skip
        return picks, snapshot

    def wording(self, newsletter: Newsletter, day: date) -> Wording:
        """
        What an editor wrote for the edition of *day* in the words folder.

        Raises:
            WordingError: the file cannot be used; names file and field.
        """
        return read_wording(Path(self.catalogue.publication.words), day, newsletter.slug)

    def proofed(
        self,
        newsletter: Newsletter,
        picks: Picks,
        snapshot: Snapshot,
        renderings: tuple[Rendered, ...],
        *,
        now: datetime,
    ) -> Made:
        """What is rendered, with its findings."""
        findings = proof(
            newsletter, self.catalogue.publication, snapshot, renderings, base_url=self.settings.base_url
        )
        return Made(picks, snapshot, renderings, (*findings, *_source_changes(newsletter, picks)))

    def prepare(self, newsletter: Newsletter, day: date, *, now: datetime) -> Account:
        """
        Make up the edition of *day* and store it: approved, held, skipped or a draft, with the reason.

        An edition that an editor or a send has taken further is left as it is.
        """
        with reading(self.engine) as session:
            row = current_edition(session, newsletter.slug, day)
            if row is not None and row.status not in _REMADE:
                return self._account(session, row)
        try:
            made = self.make(newsletter, day, now=now)
            status, reason = _verdict(newsletter, made)
        except NewsletterError as error:
            made, status, reason = None, EditionStatus.HELD, str(error)
        try:
            return self._store(newsletter, day, made, status, reason, now=now)
        except IntegrityError:  # another process made it in the meantime: theirs stands
            return self.status([newsletter.slug], day=day)[0]

    def _store(
        self,
        newsletter: Newsletter,
        day: date,
        made: Made | None,
        status: EditionStatus,
        reason: str,
        *,
        now: datetime,
    ) -> Account:
        template_hash = self.renderer.template_hash(newsletter.slug)
        with writing(self.engine) as session:
            row = current_edition(session, newsletter.slug, day)
            if row is None:
                row = EditionRow(newsletter=newsletter.slug, edition_date=day, made_at=now)
                row.link_scope = scope_of(newsletter.slug, day).hex()
                session.add(row)
                session.flush()
            elif not move_edition(session, row.id or 0, to=status, frm=_REMADE):
                return self._account(session, row)
            row.made_at, row.reason, row.status = now, reason, status
            row.template_hash = template_hash
            row.content_hash = made.hash if made else ""
            row.findings = [finding.as_json() for finding in made.findings] if made else []
            row.snapshot = None
            if status is EditionStatus.APPROVED:
                row.approved_at, row.approved_by = self.clock(), "auto"
            session.add(row)
            if made and made.snapshot:
                write_content(session, row, made.snapshot, made.renderings)
            self._record_slot(
                session, newsletter, day, "skipped" if status is EditionStatus.SKIPPED else "made", reason
            )
            session.flush()
            return self._account(session, row)

    def _record_slot(
        self, session: Session, newsletter: Newsletter, day: date, state: str, reason: str
    ) -> None:
        slot = session.exec(
            select(Slot).where(Slot.newsletter == newsletter.slug, Slot.local_date == day)
        ).first()
        due = due_at(day, newsletter.schedule.at, newsletter.zone(self.catalogue.publication))
        if slot is None:
            slot = Slot(
                newsletter=newsletter.slug, local_date=day, due_at=due, state=state, recorded_at=self.clock()
            )
        slot.state, slot.reason, slot.recorded_at = state, reason, self.clock()
        session.add(slot)

    def record_missed(self, newsletter: Newsletter, day: date, reason: str) -> bool:
        """Record that a slot passed without an edition; False if it is accounted for already."""
        with writing(self.engine) as session:
            known = session.exec(
                select(Slot).where(Slot.newsletter == newsletter.slug, Slot.local_date == day)
            ).first()
            if known is not None:
                return False
            self._record_slot(session, newsletter, day, "missed", reason)
            return True

    def has_slot(self, newsletter: Newsletter, day: date) -> bool:
        """Whether that local date is accounted for: made, missed or skipped."""
        with reading(self.engine) as session:
            return (
                session.exec(
                    select(Slot.id).where(Slot.newsletter == newsletter.slug, Slot.local_date == day)
                ).first()
                is not None
            )

    # --- go or no-go ----------------------------------------------------------------------------

    def approve(self, newsletter: Newsletter, day: date, *, actor: str) -> Account:
        """
        Let the stored edition go, as it was proofed.

        Raises:
            ThinDay: there is nothing in it.
            ProofFailed: a finding of severity error blocks it.
            StateError: it is not waiting for an approval.
        """
        with writing(self.engine) as session:
            row = self._row(session, newsletter, day)
            if row.snapshot is None:
                raise ThinDay(f"The {newsletter.name} of {day} holds nothing that could go out: {row.reason}")
            errors = [finding["message"] for finding in row.findings if finding["severity"] == "error"]
            if errors:
                raise ProofFailed(
                    f"The {newsletter.name} of {day} has errors in its proof: {' '.join(errors[:3])}"
                )
            moved = move_edition(
                session, row.id or 0, to=EditionStatus.APPROVED, frm=(EditionStatus.DRAFT, EditionStatus.HELD),
                approved_at=self.clock(), approved_by=actor, reason=f"approved by {actor}",
            )  # fmt: skip
            return self._moved(session, row, moved, "approved")

    def hold(self, newsletter: Newsletter, day: date, *, actor: str, reason: str = "") -> Account:
        """Take an approval back, or keep a draft from going."""
        frm = (EditionStatus.DRAFT, EditionStatus.APPROVED, EditionStatus.HELD, EditionStatus.SKIPPED)
        return self._order(
            newsletter, day, EditionStatus.HELD, frm, f"held by {actor}{': ' + reason if reason else ''}"
        )

    def spike(self, newsletter: Newsletter, day: date, *, actor: str, reason: str = "") -> Account:
        """Kill an edition, also while it is being sent: what has gone has gone, the rest is taken back."""
        frm = (
            EditionStatus.DRAFT, EditionStatus.APPROVED, EditionStatus.HELD, EditionStatus.SKIPPED, EditionStatus.PAUSED,
            EditionStatus.SUBMITTING,
        )  # fmt: skip
        words = f"spiked by {actor}{': ' + reason if reason else ''}"
        with writing(self.engine) as session:
            row = self._row(session, newsletter, day)
            moved = move_edition(session, row.id or 0, to=EditionStatus.SPIKED, frm=frm, reason=words)
            if moved:
                withdraw(session, row.id or 0, at=self.clock(), reason=words)
            return self._moved(session, row, moved, EditionStatus.SPIKED)

    def pause(self, newsletter: Newsletter, day: date, *, actor: str) -> Account:
        """Stop claiming batches; those in flight still settle."""
        return self._order(
            newsletter, day, EditionStatus.PAUSED, (EditionStatus.SUBMITTING,), f"paused by {actor}"
        )

    def resume(self, newsletter: Newsletter, day: date, *, actor: str) -> Account:
        """Let a paused edition go on: idle workers are woken; on one machine ``send`` continues it."""
        account = self._order(
            newsletter, day, EditionStatus.SUBMITTING, (EditionStatus.PAUSED,), f"resumed by {actor}"
        )
        self.wake(newsletter, day)
        return account

    def wake(self, newsletter: Newsletter, day: date) -> None:
        """Wake a worker for an edition that has something to be sent again; without workers do nothing."""
        if has_queue(self.engine):
            with writing(self.engine) as session:
                defer_drain(session, self._row(session, newsletter, day).id or 0)

    def _order(
        self, newsletter: Newsletter, day: date, to: EditionStatus, frm: Iterable[EditionStatus], reason: str
    ) -> Account:
        with writing(self.engine) as session:
            row = self._row(session, newsletter, day)
            moved = move_edition(session, row.id or 0, to=to, frm=frm, reason=reason)
            return self._moved(session, row, moved, to)

    def _moved(self, session: Session, row: EditionRow, moved: bool, to: str) -> Account:
        if not moved:
            raise StateError(
                f"The edition of {row.edition_date} is {row.status}; it cannot be {to} from there."
            )
        session.refresh(row)
        return self._account(session, row)

    def give_order(
        self, newsletter: Newsletter, day: date, order: Order, *, as_of: datetime | None = None
    ) -> int:
        """
        Write down an editor's order; return its id. It holds for the next make-up, also before there is an edition.

        Edits and drops are also taken while an edition is being sent and afterwards, for a correction.
        *as_of*: what the editor had seen (``orders_touched``).

        Raises:
            StateError: the edition is past being changed, or the story's rights do not allow it.
            OrderConflict: somebody gave another order on the same thing meanwhile.
            WordingError: the words do not make a whole block.
        """
        with writing(self.engine) as session:
            self._check_order(session, newsletter, day, order)
            order = replace(order, seen=self._seen(session, newsletter, day, order))
            return add_order(session, newsletter.slug, day, order, at=self.clock(), as_of=as_of)

    def undo(self, newsletter: Newsletter, day: date, *, actor: str) -> Order:
        """Take the newest order that counts back; it stays written down."""
        with writing(self.engine) as session:
            self._check_order(session, newsletter, day, None)
            return undo_last(session, newsletter.slug, day, actor=actor, at=self.clock())

    def redo(self, newsletter: Newsletter, day: date, *, actor: str) -> Order:
        """Let what was undone last count again."""
        with writing(self.engine) as session:
            self._check_order(session, newsletter, day, None)
            return redo_last(session, newsletter.slug, day, actor=actor, at=self.clock())

    def orders(self, newsletter: Newsletter, day: date) -> tuple[Order, ...]:
        """Every order of a newsletter's date, oldest first, what is undone included."""
        with reading(self.engine) as session:
            return all_orders(session, newsletter.slug, day)

    def orders_touched(self, newsletter: Newsletter, day: date) -> datetime | None:
        """When an order of that date was last given, undone or redone."""
        with reading(self.engine) as session:
            return last_touched(session, newsletter.slug, day)

    def _check_order(self, session: Session, newsletter: Newsletter, day: date, order: Order | None) -> None:
        """Refuse what the edition's state or the words' own rules do not allow."""
        row = current_edition(session, newsletter.slug, day)
        can_correct = row is not None and row.status in _GONE
        if order is not None and order.verb not in ("edit", "drop", "words"):
            can_correct = False
        if row is not None and row.status not in _REMADE and not can_correct:
            raise StateError(
                f"The {newsletter.name} of {day} is {row.status}; hold it first, then give the order and run again."
            )
        if order is not None and order.verb == "words":
            words = self.wording(newsletter, day)
            for before in load_orders(session, newsletter.slug, day):
                words = words.with_words(before.fields) if before.verb == "words" else words
            words.with_words(order.fields)

    def _seen(self, session: Session, newsletter: Newsletter, day: date, order: Order) -> dict[str, str]:
        """What the source says now in the fields an edit changes."""
        article = find_article(session, order.url) if order.verb == "edit" else None
        if article is None:
            return {}
        if article.rights is Rights.EXCERPT and set(order.fields) & set(PICTURE):
            raise StateError(
                f"{article.source_name or article.source} is an excerpt source: its stories have no picture. "
                "Declare its rights in publication.toml, or leave the picture out."
            )
        return {name: field_of(article, name) for name in order.fields if name in EDITABLE}

    # --- freeze and send ------------------------------------------------------------------------

    def freeze(self, newsletter: Newsletter, day: date, *, now: datetime) -> int | None:
        """Freeze the audience of an approved edition; return the id of one that is being sent, else None."""
        with reading(self.engine) as session:
            row = self._row(session, newsletter, day)
        if row.status == EditionStatus.APPROVED:
            freeze(
                self.engine, newsletter, self.catalogue.publication, row.id or 0, now=now, at=self.clock(),
                batch_size=self.provider.max_recipients, can_schedule=bool(self.provider.schedules_ahead),
                on_frozen=defer_drain if has_queue(self.engine) else None,
            )  # fmt: skip
            index_missing(self.engine, self.catalogue)
            with reading(self.engine) as session:
                row = self._row(session, newsletter, day)
        return row.id if row.status == EditionStatus.SUBMITTING else None

    def send(self, newsletter: Newsletter, day: date, *, now: datetime, tell: Tell = _silent) -> Account:
        """
        Submit what is approved, go on with what was begun, and say where it stands.

        Raises:
            ProviderError: the provider refuses us as a whole.
        """
        edition_id = self.freeze(newsletter, day, now=now)
        if edition_id is not None:
            self.deliver([(newsletter, edition_id)], now=now, tell=tell)
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

    def being_sent(self) -> tuple[tuple[Newsletter, int], ...]:
        """Every edition that has batches to be sent, of whatever date, oldest first, with its id."""
        known = {newsletter.slug: newsletter for newsletter in self.catalogue.newsletters}
        has_pending = exists().where(
            col(Batch.edition_id) == col(EditionRow.id), col(Batch.state) == BatchState.PENDING
        )
        with reading(self.engine) as session:
            rows = session.exec(
                select(EditionRow.id, EditionRow.newsletter)
                .where(EditionRow.status == EditionStatus.SUBMITTING, has_pending)
                .order_by(col(EditionRow.id))
            ).all()
        return tuple(
            (known[slug], edition_id) for edition_id, slug in rows if edition_id is not None and slug in known
        )

    def resolve_doubts(self) -> int:
        """Call back, or send again after silence, what may be; return how many batches go again."""
        return resolve(self.sender, self.catalogue)

    # --- correct --------------------------------------------------------------------------------

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
        Make a further revision with the editor's edits and today's templates, and send it to those who
        have the wrong one; who was still waiting gets the new one only.

        Raises:
            StateError: nothing has gone out that could be corrected, or nothing has changed.
            ProofFailed: the corrected edition has errors.
            ProviderError: the provider refuses us as a whole.
        """
        with reading(self.engine) as session:
            wrong = self._row(session, newsletter, day)
            orders = load_orders(session, newsletter.slug, day)
        if wrong.status not in _GONE or wrong.snapshot is None:
            raise StateError(
                f"The {newsletter.name} of {day} is {wrong.status}: only what goes out or has gone out is corrected."
            )
        before, had = self.stored(wrong)
        if before is None:
            raise StateError(f"The {newsletter.name} of {day} holds nothing that could be corrected.")
        snapshot = corrected(before, orders, revision=wrong.revision + 1, prefix=newsletter.correction)
        if subject:
            snapshot = replace(snapshot, subject=subject)
        made = self.proofed(
            newsletter,
            Picks(newsletter.slug, (), (), ()),
            snapshot,
            self.renderer.render_all(snapshot),
            now=now,
        )
        errors = [finding.message for finding in made.findings if finding.severity == "error"]
        if errors:
            raise ProofFailed(
                f"The corrected {newsletter.name} has errors in its proof: {' '.join(errors[:3])}"
            )
        # Compared without the mark of the correction, which is in every variant.
        mended = self.renderer.render_all(corrected(before, orders, revision=wrong.revision, prefix=""))
        same = {one.variant: one for one in had}
        changed = [one.variant for one in mended if same.get(one.variant) != one]
        if not changed and not subject:
            raise StateError(
                f"Nothing of the {newsletter.name} of {day} would change; give an edit or a drop first, or mend a template."
            )
        edition_id = self._store_correction(
            newsletter, wrong, made, changed=changed or [one.variant for one in had], now=now, actor=actor
        )
        self.deliver([(newsletter, edition_id)], now=now, tell=tell)
        return self.status([newsletter.slug], day=day)[0]

    def _store_correction(
        self,
        newsletter: Newsletter,
        wrong: EditionRow,
        made: Made,
        *,
        changed: Sequence[str],
        now: datetime,
        actor: str,
    ) -> int:
        at = self.clock()
        size = largest_batch(newsletter, self.catalogue.publication, at, self.provider.max_recipients)
        with writing(self.engine) as session:
            row = EditionRow(
                newsletter=wrong.newsletter, edition_date=wrong.edition_date, revision=wrong.revision + 1,
                corrects_id=wrong.id, status=EditionStatus.APPROVED, reason=f"a correction by {actor}", made_at=now,
                template_hash=self.renderer.template_hash(newsletter.slug), content_hash=made.hash,
                findings=[finding.as_json() for finding in made.findings], link_scope=wrong.link_scope,
                approved_at=at, approved_by=actor,
            )  # fmt: skip
            session.add(row)
            session.flush()
            if made.snapshot is not None:
                write_content(session, row, made.snapshot, made.renderings)
            session.flush()
            take_over(
                session,
                session.get_one(EditionRow, wrong.id),
                row,
                changed=changed,
                now=now,
                at=at,
                size=size,
            )
            return row.id or 0

    # --- the whole day --------------------------------------------------------------------------

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

    # --- looking --------------------------------------------------------------------------------

    def status(self, slugs: Sequence[str] = (), *, day: date | None = None) -> tuple[Account, ...]:
        """Where editions stand: of *day*, or the newest of each newsletter."""
        chosen = [self.catalogue[slug].slug for slug in slugs] or [
            one.slug for one in self.catalogue.newsletters
        ]
        with writing(self.engine) as session:
            recover(session, at=self.clock())
        with reading(self.engine) as session:
            return tuple(self._account(session, row) for row in editions(session, chosen, day=day))

    def find(self, newsletter: Newsletter, day: date | None) -> EditionRow | None:
        """The newest revision of the edition of *day*, or the newest edition there is."""
        with reading(self.engine) as session:
            rows = editions(session, [newsletter.slug], day=day)
            return rows[0] if rows else None

    def stored(self, row: EditionRow) -> tuple[Snapshot | None, tuple[Rendered, ...]]:
        """An edition's snapshot and bytes as they were proofed and sent."""
        with reading(self.engine) as session:
            renderings = load_renderings(session, row.id or 0)
        return (load_snapshot(row.snapshot) if row.snapshot else None), renderings

    def shown(self, newsletter: Newsletter, day: date, *, now: datetime) -> Made | None:
        """
        What a preview shows: the stored bytes once an edition is approved or further, else what a
        make-up would give now. None when there is nothing to show.
        """
        row = self.find(newsletter, day)
        if row is not None and (stored := self.settled(row)):
            return stored
        made = self.make(newsletter, day, now=now)
        return made if made.snapshot else None

    def settled(self, row: EditionRow) -> Made | None:
        """The stored bytes of an edition that is approved or further; None: it is still made anew."""
        if row.status not in (*RAN, EditionStatus.SPIKED) or not row.snapshot:
            return None
        snapshot, renderings = self.stored(row)
        findings = tuple(Finding.from_json(found) for found in row.findings)
        return Made(Picks(row.newsletter, (), (), ()), snapshot, renderings, findings)

    def difference(self, newsletter: Newsletter, day: date, *, now: datetime) -> Difference:
        """
        What the edition of *day* has beside the last one that went out.

        Raises:
            ThinDay: there is no story for it.
        """
        made = self.shown(newsletter, day, now=now)
        if made is None or made.snapshot is None:
            raise ThinDay(f"There is nothing to compare: no story fits {newsletter.name} on {day}.")
        with reading(self.engine) as session:
            last = last_run_before(session, newsletter.slug, day)
        before, had = self.stored(last) if last is not None else (None, ())
        return compare((made.snapshot, made.renderings), (before, had) if before else None)

    def _row(self, session: Session, newsletter: Newsletter, day: date) -> EditionRow:
        row = current_edition(session, newsletter.slug, day)
        if row is None:
            raise NotFound(
                f"There is no edition of {newsletter.slug} on {day}; make it with: newsletter run --only {newsletter.slug}"
            )
        return row

    def _account(self, session: Session, row: EditionRow) -> Account:
        buckets = counts(session, row.id or 0)
        reason = row.reason
        if buckets["uncertain"]:
            reason = (
                f"{buckets['uncertain']} readers are uncertain: nobody can say whether their mail was taken. "
                f"See newsletter status {row.newsletter}, then newsletter settle {row.newsletter} --batch N --as …"
            )
        elif row.status == EditionStatus.SUBMITTED and not row.audience:
            reason = "Nobody is in its audience, so nothing was sent: see newsletter segments."
        elif row.status == EditionStatus.SUBMITTING and buckets["pending"]:
            reason = f"{buckets['pending']} readers are still to be sent to; "
            release = next_release(session, row.id or 0)
            if release is not None and release > self.clock():
                reason += f"the next wave is released at {iso(release)}"
            else:
                reason += f"go on with newsletter send {row.newsletter}"
        return Account(
            newsletter=row.newsletter, date=row.edition_date, revision=row.revision, status=row.status,
            hash=row.content_hash, audience=row.audience, pending=buckets["pending"], submitted=buckets["submitted"],
            skipped=buckets["skipped"], failed=buckets["failed"], uncertain=buckets["uncertain"], reason=reason,
        )  # fmt: skip


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

    def step(self, step: Step) -> None:
        """Count what was accepted, and pass on what is uncertain."""
        slug = step.newsletter
        if slug not in self.done:
            return  # handed over by another thread, which does not watch
        if step.outcome == "accepted":
            self.done[slug] += step.readers
            self.tell("send", slug, self.done[slug], self.audience[slug])
        elif step.outcome == "uncertain":
            self.tell("uncertain", slug, step.readers, self.audience[slug])


def _source_changes(newsletter: Newsletter, picks: Picks) -> tuple[Finding, ...]:
    """What sources said anew under an editor's edits: told, never silently taken."""
    run = {pick.article.url for pick in picks.picked}
    return tuple(
        Finding(
            "source-changed", Severity.NOTE, newsletter.slug, "", "html", change.url,
            f"The source has a new {change.field.replace('_', ' ')} since {change.actor or 'an editor'} changed it: "
            f"“{change.now}” (it was “{change.was}”). The edit stands; edit again, or undo it to take the source's.",
        )
        for change in picks.changes
        if change.url in run
    )  # fmt: skip


def _verdict(newsletter: Newsletter, made: Made) -> tuple[EditionStatus, str]:
    """What becomes of a freshly made edition, and why."""
    if made.picks.shortfalls or made.snapshot is None:
        sentence = "Thin day: " + "; ".join(made.picks.shortfalls or ("no story at all",)) + "."
        if newsletter.thin_day == "skip":
            return EditionStatus.SKIPPED, f"{sentence} Skipped by its own rule."
        if newsletter.thin_day == "hold" or made.snapshot is None:
            return (
                EditionStatus.HELD,
                f"{sentence} Held by its own rule: pin stories, approve it as it is, or spike it.",
            )
    if blocks(made.findings):
        first = next(finding for finding in made.findings if finding.severity == "error")
        return (
            EditionStatus.HELD,
            f"The proof found errors: {first.message} See newsletter proof {newsletter.slug}",
        )
    if newsletter.approval == "auto":
        return EditionStatus.APPROVED, ""
    return EditionStatus.DRAFT, f"Waits for an editor: newsletter approve {newsletter.slug}"


def _when(account: Account, desk: Desk) -> str:
    with reading(desk.engine) as session:
        row = current_edition(session, account.newsletter, account.date)
    return f" on {row.submitted_at:%Y-%m-%d at %H:%M} UTC" if row and row.submitted_at else ""


__all__ = ["Account", "Desk", "Made", "Tell"]
