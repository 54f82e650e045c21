"""
From sources to a stored edition: collect, pick, make up, proof; and the editors' mail where one must decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime
from functools import cache, cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, select

from newsletter.articles import Image
from newsletter.audience.tokens import scope_of
from newsletter.catalogue import Newsletter, Weights, class_of
from newsletter.desk.approval import (
    asked_key,
    changes_in_words,
    deadline_of,
    in_words,
    is_touched,
    let_pass,
    made_up_at,
    replaced,
    slot_of,
    warnings_of,
)
from newsletter.desk.installation import Tell
from newsletter.desk.looking import Account, Looking, Made
from newsletter.desk.newsroom import Newsroom
from newsletter.edition import Difference, EditionStatus, Rendered, Snapshot, compare
from newsletter.errors import NewsletterError, ThinDay
from newsletter.feeds.collect import SourceReport, collect
from newsletter.feeds.pictures import keep_pictures
from newsletter.makeup import hosted, make_snapshot
from newsletter.outbox.ledger import move_edition
from newsletter.picking.picks import Order, Picks
from newsletter.rendering.codes import finding
from newsletter.rendering.magazine import is_installed
from newsletter.rendering.proof import Finding, blocks, over_budget, proof
from newsletter.slimming import lighter
from newsletter.store.editions import (
    current_edition,
    last_lines_before,
    last_run_before,
    load_renderings,
    load_snapshot,
    write_content,
)
from newsletter.store.pictures import picture_bytes
from newsletter.store.session import reading, writing
from newsletter.store.tables import EditionRow, Slot
from newsletter.store.telling import tell_once
from newsletter.wording import Wording, read_wording

if TYPE_CHECKING:
    from newsletter.desk.grouping import Grouper

_REMADE = (EditionStatus.DRAFT, EditionStatus.HELD, EditionStatus.SKIPPED)


def _silent(_step: str, _what: str, _done: int, _total: int) -> None:
    return None


class Making(Looking):
    """What a desk does before anybody decides."""

    @cached_property
    def grouper(self) -> Grouper:
        """What groups articles into stories; it remembers the last time."""
        from newsletter.desk.grouping import Grouper  # scipy: a fifth of a second, for a collect alone

        return Grouper(self.engine)

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

    def make(self, newsletter: Newsletter, day: date, *, now: datetime) -> Made:
        """
        Pick, make up, render and proof an edition; stores nothing.

        Raises:
            NewsletterError: a template or a text cannot be used; says where.
        """
        picks, snapshot, renderings = self.draft(newsletter, day, now=now)
        if snapshot is None:
            return Made(picks, None, (), ())
        return self.proofed(newsletter, picks, snapshot, renderings, now=now)

    def draft(
        self, newsletter: Newsletter, day: date, *, now: datetime
    ) -> tuple[Picks, Snapshot | None, tuple[Rendered, ...]]:
        """
        What would be in the edition of *day*, and its variants; None: there is no story.

        Where a variant would be too large, stories and text give way until all fit, or nothing is left to give.
        """
        with reading(self.engine) as session:
            picks, orders = self._pick(session, newsletter, day, now=now)
        if not picks.picked:
            return picks, None, ()
        wording = self.wording(newsletter, day)

        def made_of(rules: Newsletter, picks: Picks, told: tuple[str, ...]) -> Snapshot:
            snapshot = make_snapshot(
                rules, self.catalogue.publication, picks, edition_date=day, orders=orders, wording=wording
            )
            magazine = snapshot.magazine and is_installed()
            return self.with_pictures(replace(snapshot, magazine=magazine, gave_way=told))

        snapshot = made_of(newsletter, picks, ())
        renderings = self.renderer.render_all(snapshot)
        large = {class_of(one.variant) for one in renderings if over_budget(one)}
        for instead in lighter(newsletter, picks, large) if large else ():
            picks, snapshot = instead.picks, made_of(instead.newsletter, instead.picks, instead.told)
            renderings = self.renderer.render_all(snapshot)
            if not any(map(over_budget, renderings)):
                break
        return picks, snapshot, renderings

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
            message=f"There is no such story for an order ({order.told}): not collected yet, or mistyped.",
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
