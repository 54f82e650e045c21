"""
Where editions stand, and what of them is stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from sqlmodel import Session, col, exists, select

from newsletter.catalogue import Newsletter
from newsletter.desk.installation import Installation
from newsletter.edition import EditionStatus, Rendered, Snapshot
from newsletter.errors import NotFound
from newsletter.feeds.stored import find_article
from newsletter.outbox.accounts import counts
from newsletter.outbox.claim import waits
from newsletter.outbox.freeze import SCHEDULE_LEAD
from newsletter.outbox.inbox import process
from newsletter.outbox.ledger import BatchState, recover
from newsletter.outbox.pace import Later
from newsletter.picking.picks import Order, Picks
from newsletter.rendering.engine import content_hash
from newsletter.rendering.proof import Finding
from newsletter.store.editions import (
    OPEN,
    RAN,
    current_edition,
    editions,
    latest_edition,
    load_renderings,
    load_snapshot,
)
from newsletter.store.holds import Hold, hold_of
from newsletter.store.orders import all_orders, last_touched
from newsletter.store.session import reading, spoken, writing
from newsletter.store.tables import Batch, EditionRow, Slot
from newsletter.times import iso

_WAITING = (EditionStatus.DRAFT, EditionStatus.HELD, EditionStatus.PAUSED)


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


class Looking(Installation):
    """What a desk knows of its editions."""

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

    def has_slot(self, newsletter: Newsletter, day: date) -> bool:
        """Whether that local date is accounted for: made, missed or skipped."""
        with reading(self.engine) as session:
            return (
                session.exec(
                    select(Slot.id).where(Slot.newsletter == newsletter.slug, Slot.local_date == day)
                ).first()
                is not None
            )

    def is_collected(self, url: str) -> bool:
        """Whether a source has brought the story of that canonical address."""
        with reading(self.engine) as session:
            return find_article(session, url) is not None

    def orders(self, newsletter: Newsletter, day: date) -> tuple[Order, ...]:
        """Every order of a newsletter's date, oldest first, what is undone included."""
        with reading(self.engine) as session:
            return all_orders(session, newsletter.slug, day)

    def orders_touched(self, newsletter: Newsletter, day: date) -> datetime | None:
        """When an order of that date was last given, undone or redone."""
        with reading(self.engine) as session:
            return last_touched(session, newsletter.slug, day)

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

    def listen(self) -> None:
        """
        Process what the provider has told by now: who complained a moment ago is not mailed, and nothing that
        is proven is called doubtful.

        Raises:
            StoreError: the database cannot be used.
        """
        with spoken():
            process(self.engine, self.keys, clock=self.clock)

    def status(self, slugs: Sequence[str] = (), *, day: date | None = None) -> tuple[Account, ...]:
        """Where editions stand: of *day*, or the newest of each newsletter."""
        chosen = [self.catalogue[slug].slug for slug in slugs] or [
            one.slug for one in self.catalogue.newsletters
        ]
        with writing(self.engine) as session:
            recover(session, at=self.clock())
        with reading(self.engine) as session:
            return tuple(self._account(session, row) for row in editions(session, chosen, day=day))

    def holds(self, slugs: Sequence[str]) -> dict[str, Hold]:
        """Which of these newsletters are held as a whole, and why."""
        with reading(self.engine) as session:
            found = {slug: hold_of(session, slug) for slug in slugs}
        return {slug: hold for slug, hold in found.items() if hold}

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
