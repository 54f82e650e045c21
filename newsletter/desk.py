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
from functools import cache, cached_property, partial
from pathlib import Path
from urllib.parse import urlsplit

from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, exists, select

from newsletter.approval import (
    BY_RULE,
    Action,
    approve_edition,
    asked_key,
    changes_in_words,
    check_proof,
    deadline_of,
    decide_unapproved,
    hold_edition,
    in_words,
    is_outdated,
    is_touched,
    let_pass,
    made_up_at,
    record,
    replaced,
    slot_of,
    sweep_links,
    use_link,
    warnings_of,
)
from newsletter.archive import index_missing
from newsletter.articles import Image, Rights, canonical_url
from newsletter.audience.doors import sweep
from newsletter.audience.joining import expire
from newsletter.audience.limits import prune
from newsletter.audience.repeats import forget_repeats
from newsletter.audience.subscribers import check_suppression_key
from newsletter.audience.tokens import Signer, scope_of
from newsletter.catalogue import Catalogue, Newsletter, Weights, load_catalogue
from newsletter.correction import make_correction
from newsletter.edition import Difference, EditionStatus, Rendered, Snapshot, compare
from newsletter.editors import EditorsMail
from newsletter.errors import NewsletterError, NotFound, StateError, ThinDay, WordingError
from newsletter.feeds.collect import SourceReport, collect
from newsletter.feeds.pictures import keep_pictures
from newsletter.feeds.stored import find_article
from newsletter.makeup import hosted, make_snapshot
from newsletter.newsroom import Grouper, Newsroom, in_order
from newsletter.notices import Notices
from newsletter.outbox.accounts import counts
from newsletter.outbox.claim import waits
from newsletter.outbox.doubt import Word, resolve, settle_by_word
from newsletter.outbox.drain import Mailing, Sender, Step, drain
from newsletter.outbox.freeze import SCHEDULE_LEAD, freeze
from newsletter.outbox.inbox import process, prune_inbox
from newsletter.outbox.ledger import BatchState, move_edition, recover, withdraw
from newsletter.outbox.pace import Later
from newsletter.outbox.settle import close
from newsletter.picks import EDITABLE, PICTURE, Order, Picks, field_of
from newsletter.providers import Provider, make_provider
from newsletter.rendering.codes import finding
from newsletter.rendering.engine import Renderer, content_hash
from newsletter.rendering.magazine import is_installed
from newsletter.rendering.proof import Finding, blocks, proof
from newsletter.rendering.proof.links import why_no_picture
from newsletter.reports.keeping import prune_events
from newsletter.settings import Keys, Settings, is_loopback, load_keys
from newsletter.store.editions import (
    OPEN,
    RAN,
    current_edition,
    editions,
    last_lines_before,
    last_run_before,
    latest_edition,
    load_renderings,
    load_snapshot,
    revisions,
    write_content,
)
from newsletter.store.grouped import merge_stories, split_story
from newsletter.store.holds import hold_of
from newsletter.store.orders import add_order, all_orders, last_touched, load_orders, redo_last, undo_last
from newsletter.store.pictures import picture_bytes
from newsletter.store.session import open_store, reading, spoken, writing
from newsletter.store.tables import Batch, EditionRow, Slot
from newsletter.store.telling import owe, prune_told, tell_once
from newsletter.times import WEEKDAYS, Clock, iso, local_date, system_clock
from newsletter.wakeups import defer_drain, ensure_queue, has_queue
from newsletter.wording import Wording, check_inbox_lines, read_wording

Tell = Callable[[str, str, int, int], None]
"""Progress: (step, what, done, total); total 0 when unknown. Of the step ``waits`` *what* is ``slug: until when and why``."""

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

    @cached_property
    def editors(self) -> EditorsMail:
        """What writes to the editors, the same way as the system's other mails."""
        own = None if self.settings.provider == "maildir" else self.provider
        notices = Notices(
            self.engine, self.catalogue, self.keys, self.settings, clock=self.clock, provider=own
        )
        return EditorsMail(notices)

    def reload(self) -> None:
        """Read templates and newsletters again (the preview does, before every page)."""
        self.catalogue = load_catalogue(self.settings.templates)
        self.renderer.catalogue = self.catalogue  # its compiled templates look after themselves
        self.__dict__.pop("editors", None)

    def edition_date(self, newsletter: Newsletter, now: datetime) -> date:
        """The newsletter's local day of *now*."""
        return local_date(now, newsletter.zone(self.catalogue.publication))

    def date_meant(self, newsletter: Newsletter, now: datetime, *, verb: str = "") -> date:
        """
        The date a person means who names none: the newsletter's local day, or, as long as that has no
        edition (for ``pause`` and ``resume``: none that *verb* could be about), the one that is being sent.
        """
        today = self.edition_date(newsletter, now)
        states = {"pause": (EditionStatus.SUBMITTING,), "resume": (EditionStatus.PAUSED,)}.get(verb, OPEN)
        with reading(self.engine) as session:
            row = current_edition(session, newsletter.slug, today)
            if row is not None and (row.status in states or verb not in ("pause", "resume")):
                return today
            being_sent = [
                one
                for one in editions(session, [newsletter.slug])
                if one.status in states and one.edition_date <= today
            ]
        return being_sent[0].edition_date if being_sent else today

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
        sweep_links(self.engine, now=at)
        prune_told(self.engine, now=at)
        prune_inbox(self.engine, now=at)
        prune_events(self.engine, now=at, keep=timedelta(days=self.catalogue.publication.keep_events_days))
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
        snapshot = replace(snapshot, magazine=snapshot.magazine and is_installed())
        return picks, self.with_pictures(snapshot)

    def with_pictures(self, snapshot: Snapshot) -> Snapshot:
        """*snapshot* with its pictures served by us; what could not be had is left out."""
        images = {item.image.url: item.image for item in snapshot.items if item.image}
        addresses = [*images, snapshot.front_page.picture] if snapshot.front_page else list(images)
        ours = f"{self.settings.base_url}/media/"
        folder = self.catalogue.publication.pictures
        kept = keep_pictures(
            self.engine, [one for one in addresses if one and not one.startswith(ours)],
            folder=Path(folder) if folder else None, settings=self.settings, at=self.clock(),
        )  # fmt: skip
        served = {
            address: Image(f"{ours}{one.hash}.jpg", width=one.width, height=one.height) if one.hash else None
            for address, one in kept.items()
        }
        return hosted(snapshot, served)

    def magazine(self, snapshot: Snapshot, kind: str) -> bytes:
        """
        Make the magazine of an edition, *kind* ``pdf`` or ``epub``; needs the extra ``[magazine]``.

        Raises:
            TemplateError: a template of it cannot be set; names it.
        """
        from newsletter.rendering.magazine.epub import make_epub
        from newsletter.rendering.magazine.pages import Issue
        from newsletter.rendering.magazine.pdf import make_pdf

        def picture(address: str) -> bytes | None:
            _, _, name = address.partition("/media/")
            with reading(self.engine) as session:
                return picture_bytes(session, name.removesuffix(".jpg"))

        issue = Issue(self.catalogue, snapshot, picture)
        return make_pdf(issue) if kind == "pdf" else make_epub(issue)

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
        with reading(self.engine) as session:
            last = last_lines_before(session, newsletter.slug, snapshot.edition_date)
        findings = proof(
            newsletter, self.catalogue.publication, snapshot, renderings, base_url=self.settings.base_url, now=now,
            last=last,
        )  # fmt: skip
        return Made(
            picks,
            snapshot,
            renderings,
            (*findings, *_source_changes(newsletter, picks), *_waiting(newsletter, picks)),
        )

    def prepare(self, newsletter: Newsletter, day: date, *, now: datetime) -> Account:
        """
        Make up the edition of *day* and store it: approved, held, skipped or a draft, with the reason.

        An edition that an editor or a send has taken further is left as it is. Where approval is required
        the editors are asked, once for each content.
        """
        began = self.clock()
        with reading(self.engine) as session:
            row = current_edition(session, newsletter.slug, day)
            if row is not None and row.status not in _REMADE:
                return self._account(session, row)
        try:
            made = self.make(newsletter, day, now=now)
            until = deadline_of(newsletter, self.catalogue.publication, day, made_at=began)
            status, reason = _verdict(
                newsletter, made, until=in_words(until, newsletter, self.catalogue.publication, day)
            )
        except NewsletterError as error:
            made, status, reason = None, EditionStatus.HELD, str(error)
        try:
            account = self._store(newsletter, day, made, status, reason, now=now, at=began)
        except IntegrityError:  # another process made it in the meantime: theirs stands
            return self.status([newsletter.slug], day=day)[0]
        if account.status == EditionStatus.DRAFT:
            self.ask(newsletter, day)
        return account

    def _store(
        self,
        newsletter: Newsletter,
        day: date,
        made: Made | None,
        status: EditionStatus,
        reason: str,
        *,
        now: datetime,
        at: datetime,
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
            self._note_content(session, row, made, at=at)
            row.content_hash = made.hash if made else ""
            row.findings = [finding.as_json() for finding in made.findings] if made else []
            row.snapshot, row.approved_at, row.approved_by, row.despite = None, None, "", []
            if status is EditionStatus.APPROVED:
                row.approved_at, row.approved_by = self.clock(), "auto"
                row.despite = let_pass([one.code for one in warnings_of(row)], by="auto", at=self.clock())
            session.add(row)
            if made and made.snapshot:
                write_content(session, row, made.snapshot, made.renderings)
            state = "skipped" if status is EditionStatus.SKIPPED else "made"
            self._record_slot(session, newsletter, day, state, reason, at=at)
            session.flush()
            return self._account(session, row)

    def _note_content(self, session: Session, row: EditionRow, made: Made | None, *, at: datetime) -> None:
        """Write down that an edition that was made before holds something else now."""
        if not row.content_hash or row.content_hash == (made.hash if made else ""):
            return
        before, had = (
            (load_snapshot(row.snapshot) if row.snapshot else None),
            load_renderings(session, row.id or 0),
        )
        changes = "it could not be made up any more"
        if made and made.snapshot and before:
            changes = changes_in_words(compare((made.snapshot, made.renderings), (before, had)))
        replaced(session, row, at=at, changes=changes)

    def _record_slot(
        self, session: Session, newsletter: Newsletter, day: date, state: str, reason: str, *, at: datetime
    ) -> None:
        slot = session.exec(
            select(Slot).where(Slot.newsletter == newsletter.slug, Slot.local_date == day)
        ).first()
        due = slot_of(newsletter, self.catalogue.publication, day)
        if slot is None:
            slot = Slot(newsletter=newsletter.slug, local_date=day, due_at=due, state=state, recorded_at=at)
        slot.state, slot.reason, slot.recorded_at = state, reason, at
        session.add(slot)

    def record_missed(self, newsletter: Newsletter, day: date, reason: str) -> bool:
        """Record that a slot passed without an edition; False if it is accounted for already."""
        with writing(self.engine) as session:
            known = session.exec(
                select(Slot).where(Slot.newsletter == newsletter.slug, Slot.local_date == day)
            ).first()
            if known is not None:
                return False
            self._record_slot(session, newsletter, day, "missed", reason, at=self.clock())
            return True

    def remakes(self, newsletter: Newsletter, day: date) -> bool:
        """
        Whether an edition that waits for approval should be made up anew: it could not go as it was made, and
        nobody has decided about it since.
        """
        with reading(self.engine) as session:
            row = current_edition(session, newsletter.slug, day)
            stopped = row is not None and row.status in (EditionStatus.HELD, EditionStatus.SKIPPED)
            return row is not None and stopped and not is_touched(session, row)

    def is_due(self, newsletter: Newsletter, day: date) -> bool:
        """Whether an approved edition may go: where approval is required that may come before the slot."""
        if newsletter.approval == "auto":
            return True
        return slot_of(newsletter, self.catalogue.publication, day) <= self.clock()

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

    def approve(
        self,
        newsletter: Newsletter,
        day: date,
        *,
        actor: str,
        despite: Sequence[str] = (),
        content_hash: str = "",
    ) -> Account:
        """
        Let the stored edition go, as it was proofed; *despite* and *content_hash* as in ``approve_edition``.

        Raises:
            ThinDay: there is nothing in it.
            ProofFailed: a finding of severity error blocks it, or a warning lacks the editor's word.
            StateError: it is not waiting for an approval, or not what the editor saw.
        """
        with writing(self.engine) as session:
            row = self._row(session, newsletter, day)
            moved = approve_edition(
                session, newsletter, row, actor=actor, at=self.clock(), despite=despite, content_hash=content_hash
            )  # fmt: skip
            return self._moved(session, row, moved, EditionStatus.APPROVED)

    def hold(self, newsletter: Newsletter, day: date, *, actor: str, reason: str = "") -> Account:
        """Take an approval back, or keep a draft from going."""
        with writing(self.engine) as session:
            row = self._row(session, newsletter, day)
            moved = hold_edition(session, row, actor=actor, at=self.clock(), reason=reason)
            return self._moved(session, row, moved, EditionStatus.HELD)

    def act_by_link(self, secret: str, *, despite: Sequence[str] = (), reason: str = "") -> Account:
        """
        Approve or hold by the link of an editor's mail; a link that could not act is still unused.

        Raises:
            NotFound: there is no such link or newsletter.
            ThinDay, ProofFailed: as ``approve``.
            StateError: the link was used or has expired, or the edition is another one by now.
        """
        with writing(self.engine) as session:
            link = use_link(session, secret, now=self.clock())
            row = session.get_one(EditionRow, link.edition_id)
            newsletter = self.catalogue[row.newsletter]
            at, how = self.clock(), " by the link in their mail"
            if link.action == Action.HOLD:
                moved = hold_edition(session, row, actor=link.editor, at=at, reason=reason, how=how)
                return self._moved(session, row, moved, EditionStatus.HELD)
            moved = approve_edition(
                session, newsletter, row, actor=link.editor, at=at, despite=despite,
                content_hash=link.content_hash, how=how,
            )  # fmt: skip
            return self._moved(session, row, moved, EditionStatus.APPROVED)

    def ask(self, newsletter: Newsletter, day: date) -> bool:
        """
        Send the edition that waits to its editors, with links to approve or hold it, each once for this
        content; whether a mail went out now. Never raises for a delivery.
        """
        publication, at = self.catalogue.publication, self.clock()
        with reading(self.engine) as session:
            row = current_edition(session, newsletter.slug, day)
            if row is None or row.status != EditionStatus.DRAFT or not row.snapshot:
                return False
            made_at = made_up_at(session, row)
        deadline = deadline_of(newsletter, publication, day, made_at=made_at)
        mail = cache(lambda: self.editors.proof_of(newsletter, row, deadline))
        asked = False
        for editor in newsletter.editors_of(publication):
            key = asked_key(row.id or 0, row.content_hash, editor)
            say = partial(lambda who: self.editors.ask(mail(), who), editor)
            asked |= tell_once(self.engine, key, at=at, say=say)
        return asked

    def decide(self, newsletter: Newsletter, day: date, *, now: datetime) -> Account | None:
        """
        Past its deadline do with an edition that waits what its newsletter's rule says; None: nothing to do yet.

        An edition with orders that it does not hold is made anew instead, for which its editors have time.
        """
        publication, at = self.catalogue.publication, self.clock()
        with reading(self.engine) as session:
            row = current_edition(session, newsletter.slug, day)
            if row is None or row.status != EditionStatus.DRAFT:
                return None
            if at < deadline_of(newsletter, publication, day, made_at=made_up_at(session, row)):
                return None
            outdated = is_outdated(session, row)
        if not outdated:
            with writing(self.engine) as session:
                row = self._row(session, newsletter, day)
                if not decide_unapproved(session, newsletter, publication, row, at=at):
                    return None
                owe(session, f"decided {newsletter.slug} {day} {int(at.timestamp())}", at=at)
                session.refresh(row)
                return self._account(session, row)
        return self.prepare(newsletter, day, now=now)

    def spike(self, newsletter: Newsletter, day: date, *, actor: str, reason: str = "") -> Account:
        """Kill an edition, also while it is being sent: what has gone has gone, the rest is taken back."""
        frm = (
            EditionStatus.DRAFT, EditionStatus.APPROVED, EditionStatus.HELD, EditionStatus.SKIPPED, EditionStatus.PAUSED,
            EditionStatus.SUBMITTING,
        )  # fmt: skip
        words = f"spiked by {actor}{': ' + reason if reason else ''}"
        with writing(self.engine) as session:
            moved = self._move(session, newsletter, day, to=EditionStatus.SPIKED, frm=frm, reason=words)
            for row in moved:
                record(session, row, "spiked", at=self.clock(), actor=actor, detail=reason)
                withdraw(session, row.id or 0, at=self.clock(), reason=words)
            return self._account(session, moved[0])

    def pause(self, newsletter: Newsletter, day: date, *, actor: str) -> Account:
        """Stop claiming batches; those in flight still settle."""
        return self._order(
            newsletter, day, EditionStatus.PAUSED, EditionStatus.SUBMITTING, "paused", actor,
            more=f"; newsletter resume {newsletter.slug} --date {day} lets it go on",
        )  # fmt: skip

    def resume(self, newsletter: Newsletter, day: date, *, actor: str) -> Account:
        """Let a paused edition go on: idle workers are woken; on one machine ``send`` continues it."""
        account = self._order(
            newsletter, day, EditionStatus.SUBMITTING, EditionStatus.PAUSED, "resumed", actor
        )
        self.wake(newsletter, day)
        return account

    def wake(self, newsletter: Newsletter, day: date) -> None:
        """Wake a worker for an edition that has something to be sent again; without workers do nothing."""
        if has_queue(self.engine):
            with writing(self.engine) as session:
                for row in revisions(session, newsletter.slug, day):
                    if row.status == EditionStatus.SUBMITTING:
                        defer_drain(session, row.id or 0)

    def _order(
        self, newsletter: Newsletter, day: date, to: EditionStatus, frm: EditionStatus, verb: str, actor: str, *,
        more: str = "",
    ) -> Account:  # fmt: skip
        with writing(self.engine) as session:
            moved = self._move(session, newsletter, day, to=to, frm=(frm,), reason=f"{verb} by {actor}{more}")
            for row in moved:
                record(session, row, verb, at=self.clock(), actor=actor)
                if to is EditionStatus.SUBMITTING:
                    close(
                        session, row.id or 0, at=self.clock()
                    )  # it may have landed whole while it was paused
                session.refresh(row)
            return self._account(session, moved[0])

    def _moved(self, session: Session, row: EditionRow, moved: bool, to: EditionStatus) -> Account:
        newsletter = self.catalogue[row.newsletter]
        if not moved:
            raise StateError(
                f"The {newsletter.noun} of {row.edition_date} is {row.status}; it cannot be {_ORDERED.get(to, to)} "
                f"from there. {_instead(row.status, to, newsletter.slug)}".strip()
            )
        session.refresh(row)
        return self._account(session, row)

    def _move(
        self, session: Session, newsletter: Newsletter, day: date, *, to: EditionStatus, frm: Iterable[EditionStatus],
        **values: object,
    ) -> list[EditionRow]:  # fmt: skip
        """
        Move every revision of a date that may be moved; return them, the newest first.

        Raises:
            NotFound: there is no edition of that date.
            StateError: none of them may be moved; says what to do instead.
        """
        origins = tuple(frm)
        newest = self._row(session, newsletter, day)
        moved = [
            row
            for row in revisions(session, newsletter.slug, day)
            if move_edition(session, row.id or 0, to=to, frm=origins, **values)
        ]
        if not moved:
            raise StateError(
                f"The {newsletter.noun} of {day} is {newest.status}; it cannot be {_ORDERED.get(to, to)} from there. "
                f"{_instead(newest.status, to, newsletter.slug)}".strip()
            )
        for row in moved:
            session.refresh(row)
        return moved

    def settle(
        self,
        newsletter: Newsletter,
        day: date | None,
        batch: int,
        word: Word,
        *,
        actor: str,
        revision: int = 0,
    ) -> date:
        """
        A person's word on an uncertain batch; return the date of its edition.

        Without *day* or *revision* it is the one whose batch of that number is uncertain.

        Raises:
            NotFound: there is no such edition or batch.
            StateError: the batch is not uncertain, or several are and it is not said which.
        """
        with reading(self.engine) as session:
            wanted = select(EditionRow).where(EditionRow.newsletter == newsletter.slug)
            if day is not None:
                wanted = wanted.where(EditionRow.edition_date == day)
            if revision:
                wanted = wanted.where(EditionRow.revision == revision)
            wanted = wanted.order_by(col(EditionRow.edition_date).desc(), col(EditionRow.revision).desc())
            in_doubt = exists().where(
                col(Batch.edition_id) == col(EditionRow.id), col(Batch.seq) == batch,
                col(Batch.state) == BatchState.UNCERTAIN,
            )  # fmt: skip
            meant = session.exec(wanted.where(in_doubt)).all() or session.exec(wanted.limit(1)).all()
        if not meant:
            which = f" on {day}" if day else ""
            which += f" of revision {revision}" if revision else ""
            raise NotFound(
                f"There is no edition of {newsletter.slug}{which} to settle; see newsletter status."
            )
        if len(meant) > 1:
            them = ", ".join(f"{row.edition_date} revision {row.revision}" for row in meant)
            raise StateError(f"Batch {batch} is uncertain in {them}: say which with --date and --revision.")
        (row,) = meant
        self.listen()
        settle_by_word(self.engine, row.id or 0, batch, word, actor=actor, at=self.clock())
        if word == "resend":
            self.wake(newsletter, row.edition_date)
        return row.edition_date

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
            WordingError: the words do not make a whole block, or a picture's address is none.
        """
        with writing(self.engine) as session:
            self._check_order(session, newsletter, day, order)
            order = replace(order, seen=self._seen(session, newsletter, day, order))
            return add_order(session, newsletter.slug, day, order, at=self.clock(), as_of=as_of)

    def is_collected(self, url: str) -> bool:
        """Whether a source has brought the story of that canonical address."""
        with reading(self.engine) as session:
            return find_article(session, url) is not None

    def undo(self, newsletter: Newsletter, day: date, *, actor: str, as_of: datetime | None = None) -> Order:
        """Take the newest order that counts back; it stays written down. *as_of*: what the editor had seen."""
        with writing(self.engine) as session:
            self._check_order(session, newsletter, day, None)
            return undo_last(session, newsletter.slug, day, actor=actor, at=self.clock(), as_of=as_of)

    def redo(self, newsletter: Newsletter, day: date, *, actor: str, as_of: datetime | None = None) -> Order:
        """Let what was undone last count again. *as_of*: what the editor had seen."""
        with writing(self.engine) as session:
            self._check_order(session, newsletter, day, None)
            return redo_last(session, newsletter.slug, day, actor=actor, at=self.clock(), as_of=as_of)

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
                f"The {newsletter.noun} of {day} is {row.status}; hold it first, then give the order and run again."
            )
        if order is not None and order.verb == "edit":
            self._check_picture(order.fields.get("image_url", ""))
        if order is not None and order.verb == "words":
            words = self.wording(newsletter, day)
            for before in load_orders(session, newsletter.slug, day):
                words = words.with_words(before.fields) if before.verb == "words" else words
            words.with_words(order.fields)
            check_inbox_lines(order.fields, where="the words given")

    def _check_picture(self, address: str) -> None:
        """Refuse a picture that no mail program could load; at home, one of this machine may be tried out."""
        at_home = is_loopback(urlsplit(self.settings.base_url).hostname or "")
        fault = why_no_picture(address, at_home=at_home) if address else ""
        if fault:
            raise WordingError(f"{address!r} cannot be a picture's address: {fault}", field="image_url")

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
                on_frozen=defer_drain if has_queue(self.engine) else None,
            )  # fmt: skip
            index_missing(self.engine, self.catalogue)
            with reading(self.engine) as session:
                row = self._row(session, newsletter, day)
        return row.id if row.status == EditionStatus.SUBMITTING else None

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
        self.listen()
        return resolve(self.sender, self.catalogue)

    def listen(self) -> None:
        """
        Process what the provider has told by now: who complained a moment ago is not mailed, and nothing that
        is proven is called doubtful.

        Raises:
            StoreError: the database cannot be used.
        """
        with spoken():
            process(self.engine, self.keys, clock=self.clock)

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
        return self.kept(row) if row.status in (*RAN, EditionStatus.SPIKED) else None

    def kept(self, row: EditionRow) -> Made | None:
        """The stored bytes of an edition, whatever its state: what an approval would let go."""
        if not row.snapshot:
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
            newest = latest_edition(session, newsletter.slug)
            other = (
                f" (the newest is of {newest.edition_date}: --date {newest.edition_date})" if newest else ""
            )
            raise NotFound(
                f"There is no edition of {newsletter.slug} on {day}{other}; make one with: "
                f"newsletter run --only {newsletter.slug} --date {day}"
            )
        return row

    def no_edition(self, newsletter: Newsletter, day: date) -> NotFound:
        """The error that a past date has no edition, with why if that is known."""
        with reading(self.engine) as session:
            slot = session.exec(
                select(Slot).where(Slot.newsletter == newsletter.slug, Slot.local_date == day)
            ).first()
        why = f": it was {slot.state} ({slot.reason})" if slot and slot.reason else ""
        return NotFound(
            f"There is no edition of {newsletter.slug} on {day}{why}. Name another date with --date; "
            f"newsletter status {newsletter.slug} tells the newest."
        )

    def _account(self, session: Session, row: EditionRow) -> Account:
        buckets = counts(session, row.id or 0)
        reason = row.reason
        if buckets["uncertain"]:
            reason = (
                f"{buckets['uncertain']} readers are uncertain: nobody can say whether their mail was taken. The first "
                f"event of the provider settles it. If none comes, newsletter status {row.newsletter} shows which batch; "
                f"then newsletter settle {row.newsletter} --date {row.edition_date} --batch N --as submitted (they have "
                "it), abandoned (leave it), or resend (some may get it twice)."
            )
        elif row.status == EditionStatus.SUBMITTED and not row.audience:
            reason = "Nobody is in its audience, so nothing was sent: see newsletter segments."
        elif row.status == EditionStatus.SUBMITTING and buckets["pending"]:
            reason = f"{buckets['pending']} readers are still to be sent to; "
            later = self._waits(session, row)
            if later is not None:
                reason += f"they wait until {iso(later.at)}: {later.why}"
            else:
                reason += f"go on with newsletter send {row.newsletter} --date {row.edition_date}"
        return Account(
            newsletter=row.newsletter, date=row.edition_date, revision=row.revision, status=row.status,
            hash=row.content_hash, audience=row.audience, pending=buckets["pending"], submitted=buckets["submitted"],
            skipped=buckets["skipped"], failed=buckets["failed"], uncertain=buckets["uncertain"], reason=reason,
        )  # fmt: skip

    def _waits(self, session: Session, row: EditionRow) -> Later | None:
        """Until when and why nothing of an edition can go now."""
        newsletter = next((one for one in self.catalogue.newsletters if one.slug == row.newsletter), None)
        if newsletter is None:
            return None
        ahead = SCHEDULE_LEAD if newsletter.mode == "scheduled" else timedelta()
        return waits(
            session, newsletter, self.catalogue.publication, row.id or 0, at=self.clock(), ahead=ahead
        )


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


_ORDERED = {EditionStatus.SUBMITTING: "resumed"}
"""How the order is called that leads to a state, where it has another name."""


def _instead(status: str, to: EditionStatus, slug: str) -> str:
    """What to do when an edition that is *status* cannot be *to*."""
    match EditionStatus(status), to:
        case EditionStatus.SUBMITTED, _:
            return f"It has gone; what is wrong in it is put right with newsletter correct {slug}."
        case EditionStatus.SPIKED, _:
            return "What was spiked stays so."
        case EditionStatus.SUBMITTING, EditionStatus.SUBMITTING:
            return f"It is not paused; go on with newsletter send {slug}."
        case EditionStatus.SUBMITTING | EditionStatus.PAUSED, EditionStatus.HELD | EditionStatus.APPROVED:
            return f"It is being sent already: newsletter pause, resume or spike {slug}."
        case EditionStatus.PAUSED, EditionStatus.PAUSED:
            return (
                f"It stands still; newsletter resume {slug} lets it go on, newsletter spike {slug} ends it."
            )
        case _, EditionStatus.PAUSED | EditionStatus.SUBMITTING:
            return f"It is not being sent yet; newsletter hold {slug} keeps it from going."
        case _:
            return ""


def _source_changes(newsletter: Newsletter, picks: Picks) -> tuple[Finding, ...]:
    """What sources said anew under an editor's edits: told, never silently taken."""
    run = {pick.article.url for pick in picks.picked}
    return tuple(
        finding(
            "source-changed", newsletter.slug, where=change.url,
            message=f"The source has a new {change.field.replace('_', ' ')} since {change.actor or 'an editor'} changed "
            f"it: “{change.now}” (it was “{change.was}”).",
        )
        for change in picks.changes
        if change.url in run
    )  # fmt: skip


def _waiting(newsletter: Newsletter, picks: Picks) -> tuple[Finding, ...]:
    """Orders on stories that no source has brought: taken, and told as long as they are not there."""
    return tuple(
        finding(
            "order-waits", newsletter.slug, where=order.url,
            message=f"There is no such story for an order ({order.told}): not collected yet, too old, or mistyped.",
        )
        for order in picks.waiting
    )  # fmt: skip


def _verdict(newsletter: Newsletter, made: Made, *, until: str) -> tuple[EditionStatus, str]:
    """What becomes of a freshly made edition, and why; *until*: when an editor must have decided."""
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
            f"The proof found errors: {first.message} {first.remedy} See newsletter proof {newsletter.slug}",
        )
    if newsletter.approval == "auto":
        return EditionStatus.APPROVED, ""
    return EditionStatus.DRAFT, f"Waits for an editor until {until}: newsletter approve {newsletter.slug}"


def _when(account: Account, desk: Desk) -> str:
    with reading(desk.engine) as session:
        row = current_edition(session, account.newsletter, account.date)
    return f" on {row.submitted_at:%Y-%m-%d at %H:%M} UTC" if row and row.submitted_at else ""


__all__ = ["Account", "Desk", "Made", "Tell"]
