"""Settle: what became of a batch, from the provider's answer or from proof that came later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import structlog
from sqlalchemy import update
from sqlmodel import Session, col, select

from newsletter.audience.reactions import react
from newsletter.edition import EditionStatus
from newsletter.events import EventKind, NoMore, ProviderEvent
from newsletter.outbox.batches import append_readers, part_batch, readers_apart, record_exception
from newsletter.outbox.claim import Claim
from newsletter.outbox.ledger import BatchState, finish, give_way, move_batch, move_edition, withdraw
from newsletter.outbox.pace import give_back
from newsletter.outbox.subjects import waits_for_choice
from newsletter.providers import Accepted, Divided, Outcome, Refused, Uncertain, Verdict
from newsletter.store.tables import Batch, EditionRow, Subscriber

log = structlog.get_logger()

_PARTED_IN = (BatchState.UNCERTAIN, BatchState.PENDING, BatchState.ABANDONED, BatchState.WITHDRAWN)


def settle(
    session: Session, slug: str, claim: Claim, outcome: Outcome, *, at: datetime, batch_size: int
) -> None:
    """
    Record *outcome* of an attempt. The caller commits, and calls ``close`` when nothing is left to claim.

    We are the ones who know: if the attempt was taken for uncertain meanwhile (our lease ran out while
    this process was stopped), a certain outcome settles it, and an acceptance also one that a person has
    abandoned. If it was given up and the batch sent again, an acceptance proves a double, which is recorded.
    """
    match outcome:
        case Accepted(provider_id):
            taken = _move(session, claim, BatchState.SUBMITTED, at=at, provider_id=provider_id, error="")
            if not taken and not _was_abandoned(session, claim, at=at, provider_id=provider_id):
                record_double(session, claim.batch_id, claim.attempt, readers=len(claim.readers), at=at)
        case Uncertain(reason):
            _move(session, claim, BatchState.UNCERTAIN, at=at, error=reason)
        case Refused():
            _settle_refusal(session, slug, claim, outcome, at=at, batch_size=batch_size)
        case Divided():
            for part, verdict in _parted(session, claim, outcome, at=at):
                settle(session, slug, part, verdict, at=at, batch_size=batch_size)


def _parted(session: Session, claim: Claim, outcome: Divided, *, at: datetime) -> list[tuple[Claim, Verdict]]:
    """
    Each part becomes a batch of its own, in the state and attempt of the whole, to be settled as if it had gone alone.

    If the batch is on its way again, or settled, it stays whole: who was taken counts, as doubles.
    """
    batch = session.exec(select(Batch).where(Batch.id == claim.batch_id).with_for_update()).one()
    session.refresh(batch)
    apart = set(readers_apart(session, claim.batch_id))
    ids = claim.readers.all_ids()
    parts: list[tuple[Claim, Verdict]] = []
    for verdict, places in outcome.parts:
        still = [place for place in places if ids[place] not in apart]
        if still:
            parts.append((replace(claim, readers=claim.readers.only(still)), verdict))
    is_ours = batch.state == BatchState.SUBMITTING and batch.attempt == claim.attempt
    if not is_ours and batch.state not in _PARTED_IN:
        return [(part, verdict) for part, verdict in parts if isinstance(verdict, Accepted)]
    made = part_batch(session, batch, [part.readers.all_ids() for part, _ in parts[1:]], at=at)
    return [
        (replace(part, batch_id=number), verdict)
        for number, (part, verdict) in zip((claim.batch_id, *made), parts, strict=True)
    ]


def close(session: Session, edition_id: int, *, at: datetime) -> None:
    """End the edition if all of it is settled; take back what a spiked one had left."""
    status = session.exec(select(EditionRow.status).where(EditionRow.id == edition_id)).one()
    if status == EditionStatus.SPIKED:
        withdraw(session, edition_id, at=at, reason="the edition was spiked")
    elif status == EditionStatus.SUBMITTING:
        finish(session, edition_id, at=at)


def _move(session: Session, claim: Claim, to: BatchState, *, at: datetime, **values: object) -> bool:
    origins = (BatchState.SUBMITTING, BatchState.UNCERTAIN)
    return any(
        move_batch(
            session, claim.batch_id, to=to, frm=frm, at=at, of_attempt=claim.attempt, owner="", lease_until=None, **values
        )
        for frm in origins
        if frm is not to
    )  # fmt: skip


def _was_abandoned(session: Session, claim: Claim, *, at: datetime, provider_id: str) -> bool:
    """Whether a person had abandoned the attempt: then its readers are known to have it now."""
    return move_batch(
        session, claim.batch_id, to=BatchState.SUBMITTED, frm=BatchState.ABANDONED, at=at,
        of_attempt=claim.attempt, provider_id=provider_id, error="after it had been abandoned",
    )  # fmt: skip


def record_double(session: Session, batch_id: int, attempt: int, *, readers: int, at: datetime) -> bool:
    """
    Act on proof that *attempt* was taken although the batch had gone on to a later one; say if it had.

    If the later attempt has not begun, or nothing says that it was taken, the batch simply is submitted.
    Else its readers have the edition twice: a confirmed double, kept and shown by ``audit``, never hidden.
    """
    batch = session.exec(select(Batch).where(Batch.id == batch_id).with_for_update()).first()
    if batch is None or attempt > batch.given_up or batch.given_up == 0:
        return False
    session.refresh(batch)
    state = BatchState(batch.state)
    if state not in (BatchState.SUBMITTING, BatchState.SUBMITTED, BatchState.FAILED):
        why = f"attempt {attempt} turned out to have been taken"
        return move_batch(
            session,
            batch_id,
            to=BatchState.SUBMITTED,
            frm=state,
            at=at,
            of_attempt=batch.attempt,
            error=why,
        )
    if attempt < batch.attempt and batch.doubled_n == 0:
        session.execute(
            update(Batch)
            .where(col(Batch.id) == batch_id)
            .values(doubled_n=readers)
            .execution_options(synchronize_session=False)
        )
        return True
    return False


def _settle_refusal(
    session: Session, slug: str, claim: Claim, refusal: Refused, *, at: datetime, batch_size: int
) -> None:
    """
    A refusal is certain: nobody of the batch got it, so the batch may go again.

    Who the provider objects to fails with its reason, and a batch of whom nobody is left ends. When it
    does not say who, or the request is too large, the second half goes into a batch of its own: so one bad
    reader is found by halving.
    """
    ids = claim.readers.all_ids()
    is_about_mails = refusal.retry_at is None and not refusal.stop_run and (refusal.unfit or refusal.split)
    failed = _to_blame(session, claim, refusal, ids) if is_about_mails else []
    ends = bool(failed) and len(failed) == len(ids)
    to = BatchState.FAILED if ends else BatchState.PENDING
    if not _move(session, claim, to, at=at, error=refusal.reason, not_before=refusal.retry_at):
        return
    give_back(session.connection(), slug, claim.sender.email, len(claim.readers), at=claim.at)
    batch = session.get_one(Batch, claim.batch_id, populate_existing=True)
    if (
        _was_taken_before(session, batch, at=at)
        or give_way(session, claim.batch_id, at=at)
        or not is_about_mails
    ):
        return
    for reader in failed:
        record_exception(session, batch, reader, "failed", refusal.reason, at=at)
    if refusal.gone:
        _never_again(session, failed, at=at)
    if len(ids) == 1 and not failed:
        _refused_alone(session, slug, batch, refusal, at=at)
    elif not failed:
        second_half = sorted(ids)[len(ids) // 2 :]
        for reader in second_half:
            record_exception(session, batch, reader, "moved", "the request was halved", at=at)
        append_readers(
            session, batch, second_half, variant=batch.variant, at=at, batch_size=batch_size, trailing=False
        )


def _was_taken_before(session: Session, batch: Batch, *, at: datetime) -> bool:
    """While it was on its way again an earlier attempt was proven: now refused, it is no double and goes no more."""
    if not batch.doubled_n or batch.id is None:
        return False
    return move_batch(
        session, batch.id, to=BatchState.SUBMITTED, frm=BatchState.PENDING, at=at, of_attempt=batch.attempt, doubled_n=0,
        error="an attempt that was given up turned out to have been taken",
    )  # fmt: skip


def _to_blame(session: Session, claim: Claim, refusal: Refused, ids: list[int]) -> list[int]:
    """
    Who of *ids* fails: those the provider names, and one it refused alone, if it is theirs.

    It is, when somebody else got the same variant, or when there is nobody else to try.
    """
    named = [ids[index] for index in refusal.recipients if 0 <= index < len(ids)] if refusal.unfit else []
    if named or len(ids) != 1:
        return named
    goes = col(Batch.n) - col(Batch.skipped_n) - col(Batch.failed_n) - col(Batch.moved_n) > 0
    taken = (col(Batch.state) == BatchState.SUBMITTED) & (col(Batch.variant) == claim.variant)
    waits = col(Batch.state).in_((BatchState.PENDING, BatchState.SUBMITTING))
    others = select(Batch.id).where(Batch.edition_id == claim.edition_id, Batch.id != claim.batch_id, goes)
    is_theirs = (
        session.exec(others.where(taken)).first() is not None
        or session.exec(others.where(waits)).first() is None
    )
    return ids if is_theirs else []


def _never_again(session: Session, readers: Sequence[int], *, at: datetime) -> None:
    """Suppress addresses that do not exist, as when an event says so."""
    hashes = session.exec(select(Subscriber.address_hash).where(col(Subscriber.id).in_(readers)))
    bounced = ProviderEvent("", EventKind.BOUNCED, no_more=NoMore.BOUNCED)
    react(session, {hashed: [bounced] for hashed in hashes}, at=at)


_OTHERS_WAIT = timedelta(minutes=1)
_LAST = 1_000
"""The rank of who is tried again when everybody else was."""


def _refused_alone(session: Session, slug: str, batch: Batch, refusal: Refused, *, at: datetime) -> None:
    """
    One reader was refused alone, and nobody has got it yet: try the others before blaming them.

    When a second one is refused alone in the same words the fault is ours, and the edition stops.
    """
    batch.rank = _LAST
    if waits_for_choice(session, batch.edition_id) is not None:
        batch.not_before = (
            at + _OTHERS_WAIT
        )  # the others cannot be tried yet: do not ask without end meanwhile
    session.add(batch)
    alone = col(Batch.n) - col(Batch.skipped_n) - col(Batch.failed_n) - col(Batch.moved_n) == 1
    another = session.exec(
        select(Batch.id).where(
            Batch.edition_id == batch.edition_id, Batch.id != batch.id, Batch.state == BatchState.PENDING,
            Batch.rank == _LAST, Batch.error == refusal.reason, alone,
        )
    ).first()  # fmt: skip
    if another is None:
        return
    reason = (
        f"Paused: the provider refuses it, whoever it is for. {refusal.reason} Nobody was failed for it and nothing is "
        f"lost: mend the sender, the template or the account, then run newsletter resume {slug}."
    )
    if move_edition(
        session, batch.edition_id, to=EditionStatus.PAUSED, frm=(EditionStatus.SUBMITTING,), reason=reason
    ):
        log.error("edition.refused", newsletter=slug, edition=batch.edition_id, reason=refusal.reason)
