"""Accounts: what is where, what happened to one reader, and the proof that nobody is forgotten."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime

from sqlalchemy import and_
from sqlmodel import Session, col, func, select

from newsletter.audience.sunset import Step, newest_step
from newsletter.edition import EditionStatus, subject_of
from newsletter.events import EventKind
from newsletter.outbox.ids import unpack
from newsletter.outbox.ledger import BatchState
from newsletter.outbox.missed import missed
from newsletter.outbox.subjects import WHY_IT_WAITS, subject_drawn
from newsletter.store.editions import edition_ref, revisions, subjects_of
from newsletter.store.tables import (
    Batch,
    EditionRow,
    Event,
    ReaderException,
    SubjectTest,
    Subscriber,
    Subscription,
    Suppression,
)

_BUCKET = {
    BatchState.PENDING: "pending",
    BatchState.SUBMITTING: "pending",
    BatchState.SUBMITTED: "submitted",
    BatchState.UNCERTAIN: "uncertain",
    BatchState.FAILED: "failed",
    BatchState.ABANDONED: "failed",
    BatchState.WITHDRAWN: "skipped",
}


@dataclass(frozen=True, slots=True)
class Balance:
    """The account of one edition, in readers; *problems* says where it does not add up.

    *missed* readers of the submitted got nothing, because the provider dropped it for another reason than their
    address. *doubled* readers are proven to have had it twice: after a resend the first attempt turned out to
    have been taken as well."""

    audience: int = 0
    pending: int = 0
    submitted: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)
    uncertain: int = 0
    delivered: int = 0
    doubled: int = 0
    missed: int = 0
    problems: tuple[str, ...] = ()

    @property
    def balanced(self) -> bool:
        """Whether every frozen reader is accounted for exactly once."""
        return not self.problems


def counts(session: Session, edition_id: int) -> dict[str, int]:
    """Readers by bucket, from the batches' counters: what ``status`` shows while sending."""
    totals = Counter({"pending": 0, "submitted": 0, "skipped": 0, "failed": 0, "uncertain": 0})
    rows = session.exec(
        select(
            Batch.state,
            func.sum(Batch.n - Batch.skipped_n - Batch.failed_n - Batch.moved_n),
            func.sum(Batch.skipped_n),
            func.sum(Batch.failed_n),
        )
        .where(Batch.edition_id == edition_id)
        .group_by(Batch.state)
    ).all()
    for state, remaining, skipped, failed in rows:
        totals[_BUCKET[BatchState(state)]] += int(remaining)
        totals["skipped"] += int(skipped)
        totals["failed"] += int(failed)
    return dict(totals)


def audit(session: Session, edition: EditionRow) -> Balance:
    """
    Prove the balance of an edition from the frozen ids and the exceptions, not from the counters.

    Every frozen id must be in exactly one batch that did not move it on; every counter must agree
    with the rows it counts; whoever was taken back for a correction must be in a later revision.
    """
    seen: Counter[int] = Counter()
    pending = submitted = uncertain = doubled = 0
    skipped: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    problems: list[str] = []
    taken_back: set[int] = set()
    exceptions: dict[int, list[ReaderException]] = {}
    for row in session.exec(select(ReaderException).where(ReaderException.edition_id == edition.id)):
        exceptions.setdefault(row.batch_id, []).append(row)
    for batch in session.exec(select(Batch).where(Batch.edition_id == edition.id).order_by(col(Batch.seq))):
        doubled += batch.doubled_n
        ids = unpack(batch.ids)
        apart = {row.subscriber_id: row for row in exceptions.get(batch.id or 0, [])}
        by_verdict = Counter(row.verdict for row in apart.values())
        if len(ids) != batch.n or not set(apart) <= set(ids):
            problems.append(f"batch {batch.seq} holds {len(ids)} readers but says {batch.n}")
        if by_verdict != Counter(
            +Counter(skipped=batch.skipped_n, failed=batch.failed_n, moved=batch.moved_n)
        ):
            problems.append(f"batch {batch.seq} counts other skipped, failed or moved readers than it lists")
        seen.update(reader for reader in ids if apart.get(reader) is None or apart[reader].verdict != "moved")
        skipped.update(row.reason for row in apart.values() if row.verdict == "skipped")
        failed.update(row.reason for row in apart.values() if row.verdict == "failed")
        remaining = len(ids) - len(apart)
        match _BUCKET[BatchState(batch.state)]:
            case "pending":
                pending += remaining
            case "submitted":
                submitted += remaining
            case "uncertain":
                uncertain += remaining
            case "skipped" if remaining:
                skipped[batch.error or batch.state] += remaining
                if edition.status != EditionStatus.SPIKED:
                    taken_back.update(set(ids) - set(apart))
            case _ if remaining:
                failed[batch.error or batch.state] += remaining
    twice = [reader for reader, times in seen.items() if times > 1]
    if twice:
        problems.append(f"{len(twice)} readers are in more than one batch")
    total = pending + submitted + uncertain + skipped.total() + failed.total()
    if edition.status == EditionStatus.SUBMITTED and (pending or uncertain):
        problems.append(f"it is called submitted while {pending + uncertain} readers are not settled")
    if total != edition.audience:
        problems.append(f"{total} readers are accounted for, {edition.audience} were frozen")
    if lost := len(taken_back - _frozen_later(session, edition)) if taken_back else 0:
        problems.append(f"{lost} readers were taken back for a correction and are in no later revision")
    return Balance(
        audience=edition.audience, pending=pending, submitted=submitted, skipped=dict(sorted(skipped.items())),
        failed=dict(sorted(failed.items())), uncertain=uncertain, delivered=_delivered(session, edition),
        doubled=doubled, missed=sum(map(len, missed(session, edition).values())), problems=tuple(problems),
    )  # fmt: skip


def _frozen_later(session: Session, edition: EditionRow) -> set[int]:
    """Everybody whom a later revision was frozen for."""
    later = (
        select(Batch.ids)
        .join(EditionRow, col(EditionRow.id) == col(Batch.edition_id))
        .where(
            EditionRow.newsletter == edition.newsletter, EditionRow.edition_date == edition.edition_date,
            EditionRow.revision > edition.revision,
        )
    )  # fmt: skip
    return {reader for ids in session.exec(later) for reader in unpack(ids)}


def audit_date(session: Session, slug: str, day: date) -> tuple[tuple[EditionRow, Balance], ...]:
    """The books of every revision of a newsletter's edition of *day*, the newest first."""
    return tuple((row, audit(session, row)) for row in revisions(session, slug, day))


def _delivered(session: Session, edition: EditionRow) -> int:
    return session.exec(
        select(func.count(func.distinct(Event.reader))).where(
            Event.edition == edition_ref(edition), Event.kind == EventKind.DELIVERED
        )
    ).one()


@dataclass(frozen=True, slots=True)
class Verdict:
    """
    What happened to one reader with one edition; *verdict* as in DESIGN §7 ``why``.

    *revision* is the newest one they were frozen for; 0: none. *subject* is the one they were sent or will be, where
    several were tried; '' as long as it is not chosen.
    """

    verdict: str
    reason: str
    batch: int | None = None
    at: datetime | None = None
    events: tuple[dict[str, str], ...] = ()
    revision: int = 0
    subject: str = ""


def why(session: Session, edition: EditionRow | None, slug: str, subscriber: Subscriber | None) -> Verdict:
    """Say what happened to *subscriber* with *edition* and the revisions it corrects, from the ledger."""
    if subscriber is None or subscriber.id is None:
        return Verdict("not in audience", "We do not know this address.")
    if edition is None or edition.frozen_at is None:
        known = _why_not(session, None, slug, subscriber)
        return Verdict(
            "not in audience", f"{known} The edition has not been frozen, so it has no audience yet.".strip()
        )
    frozen = [
        row
        for row in revisions(session, slug, edition.edition_date)
        if row.frozen_at is not None and row.revision <= edition.revision
    ]
    number = {row.id: row.revision for row in frozen}
    near = session.exec(
        select(Batch, ReaderException)
        .join(
            ReaderException,
            and_(
                col(ReaderException.batch_id) == col(Batch.id),
                col(ReaderException.subscriber_id) == subscriber.id,
            ),
            isouter=True,
        )
        .where(
            col(Batch.edition_id).in_(number),
            col(Batch.lo_id) <= subscriber.id,
            col(Batch.hi_id) >= subscriber.id,
        )
        .order_by(col(Batch.seq))
    ).all()
    told: dict[int, Verdict] = {}
    path: dict[int, list[str]] = {}
    for batch, row in sorted(near, key=lambda one: -number[one[0].edition_id]):
        revision = number[batch.edition_id]
        if subscriber.id not in set(unpack(batch.ids)):
            continue
        before = path.setdefault(revision, [])
        if row is not None and row.verdict == "moved":
            before.append(f"moved on from batch {batch.seq}: {row.reason}")
        elif row is not None:
            reason = "; ".join([*before, row.reason])
            told[revision] = Verdict(row.verdict, reason, batch.seq, row.recorded_at, revision=revision)
        else:
            reason = "; ".join([*before, _state_in_words(batch)])
            bucket = _BUCKET[BatchState(batch.state)]
            told[revision] = Verdict(bucket, reason, batch.seq, batch.changed_at, revision=revision)
    if not told:  # the first freeze chose the date's audience: what follows is for the same readers
        return Verdict("not in audience", _why_not(session, frozen[-1], slug, subscriber))
    newest, *older = told.values()
    newest = _with_subject(session, frozen, newest, subscriber.id)
    reasons = [newest.reason, *(f"revision {one.revision} was {one.verdict}: {one.reason}" for one in older)]
    return replace(newest, reason="; ".join(reasons), events=_events(session, frozen, subscriber))


def _with_subject(
    session: Session, frozen: Sequence[EditionRow], verdict: Verdict, subscriber_id: int
) -> Verdict:
    """*verdict* with the subject the reader drew, or got with the rest."""
    row = next(one for one in frozen if one.revision == verdict.revision)
    if session.get(SubjectTest, row.id) is None:
        return verdict
    letter, drawn = subject_drawn(session, row.id or 0, subscriber_id)
    subject = subject_of(subjects_of(session, row.id or 0), letter) if letter else ""
    how = "by the draw of the sample" if drawn else "with the rest, as it was chosen"
    said = f"subject {letter.upper()} {how}" if letter else f"waits for its subject: {WHY_IT_WAITS}"
    return replace(verdict, reason=f"{verdict.reason}; {said}", subject=subject)


def _state_in_words(batch: Batch) -> str:
    attempt = f"attempt {batch.attempt}"
    match BatchState(batch.state):
        case BatchState.SUBMITTED:
            taken = f"the provider accepted it as {batch.provider_id}" if batch.provider_id else ""
            return f"{', '.join(filter(None, (taken, batch.error))) or 'accepted'} ({attempt})"
        case BatchState.PENDING:
            return f"waits to be sent{': ' + batch.error if batch.error else ''}"
        case BatchState.SUBMITTING:
            return f"is in flight ({attempt})"
        case _:
            return f"{batch.error or batch.state} ({attempt})"


def _events(
    session: Session, frozen: Sequence[EditionRow], subscriber: Subscriber
) -> tuple[dict[str, str], ...]:
    """What was told of a reader's mail, all revisions of the date together."""
    names = [edition_ref(row) for row in frozen]
    rows = session.exec(
        select(Event)
        .where(col(Event.edition).in_(names), Event.reader == subscriber.reader)
        .order_by(col(Event.occurred_at), col(Event.id))
    ).all()
    return tuple({"kind": row.kind, "at": row.occurred_at.isoformat()} for row in rows)


def editions_of(session: Session, subscriber_id: int) -> list[dict[str, str]]:
    """Every edition in whose audience a subscriber was, the newest first: newsletter, date, verdict, reason."""
    rows = session.exec(
        select(EditionRow, Batch, ReaderException)
        .join(Batch, col(Batch.edition_id) == col(EditionRow.id))
        .join(
            ReaderException,
            and_(
                col(ReaderException.batch_id) == col(Batch.id),
                col(ReaderException.subscriber_id) == subscriber_id,
            ),
            isouter=True,
        )
        .where(col(Batch.lo_id) <= subscriber_id, col(Batch.hi_id) >= subscriber_id)
        .order_by(col(EditionRow.edition_date).desc(), col(EditionRow.id).desc())
    )
    found = []
    for edition, batch, row in rows:
        if subscriber_id not in unpack(batch.ids) or (row is not None and row.verdict == "moved"):
            continue
        verdict = row.verdict if row is not None else _BUCKET[BatchState(batch.state)]
        reason = row.reason if row is not None else _state_in_words(batch)
        found.append(
            {
                "newsletter": edition.newsletter, "date": edition.edition_date.isoformat(),
                "revision": str(edition.revision), "verdict": verdict, "reason": reason,
            }
        )  # fmt: skip
    return found


def _why_not(session: Session, edition: EditionRow | None, slug: str, subscriber: Subscriber) -> str:
    """Why somebody we know was not in an audience; '' when nothing speaks against it but the freeze."""
    if subscriber.status != "active":
        return f"The address is {subscriber.status}."
    subscription = session.get(Subscription, (subscriber.id, slug))
    if subscription is None:
        return "Was not subscribed to this newsletter."
    if subscription.state == "left" and subscription.left_at:
        how = f" ({subscription.left_reason})" if subscription.left_reason else ""
        return f"Left this newsletter on {subscription.left_at:%Y-%m-%d at %H:%M} UTC{how}."
    suppressed = session.exec(
        select(Suppression).where(
            Suppression.address_hash == subscriber.address_hash, col(Suppression.scope).in_(("all", slug))
        )
    ).first()
    if suppressed:
        return f"Suppressed on {suppressed.suppressed_at:%Y-%m-%d at %H:%M} UTC: {suppressed.reason}."
    if subscription.state != "active":
        return "Has not confirmed the subscription yet."
    if edition is None or edition.frozen_at is None:
        return ""
    if subscriber.paused_until is not None and subscriber.paused_until > edition.frozen_at:
        until = f"{subscriber.paused_until:%Y-%m-%d at %H:%M} UTC"
        step = newest_step(session, subscriber.id or 0)
        if step is not None and step.step == Step.PAUSED:
            return f"Paused by the sunset rule on {step.at:%Y-%m-%d} until {until}: {step.reason}."
        return f"Has paused all newsletters until {until}."
    if subscription.since > edition.frozen_at:
        return f"Joined on {subscription.since:%Y-%m-%d at %H:%M} UTC, after the freeze."
    return "The newsletter's segment did not include this reader at the freeze (plan, language, country, tags or date)."
