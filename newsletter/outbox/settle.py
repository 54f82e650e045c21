"""Settle: what became of a batch, from the provider's answer or from proof that came later."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import update
from sqlmodel import Session, col, select

from newsletter.edition import EditionStatus
from newsletter.outbox.claim import Claim, append_readers, record_exception
from newsletter.outbox.ledger import BatchState, finish, move_batch, withdraw
from newsletter.outbox.pace import give_back
from newsletter.providers import Accepted, Outcome, Refused, Uncertain
from newsletter.store.tables import Batch, EditionRow


def settle(
    session: Session, slug: str, claim: Claim, outcome: Outcome, *, at: datetime, batch_size: int
) -> None:
    """
    Record *outcome* of an attempt. The caller commits, and calls ``close`` when nothing is left to claim.

    We are the ones who know: if the attempt was taken for uncertain meanwhile (our lease ran out while
    this process was stopped), a certain outcome settles it. If it was given up and the batch sent
    again, an acceptance proves a double, which is recorded.
    """
    match outcome:
        case Accepted(provider_id):
            if not _move(session, claim, BatchState.SUBMITTED, at=at, provider_id=provider_id, error=""):
                record_double(session, claim.batch_id, claim.attempt, readers=len(claim.readers), at=at)
        case Uncertain(reason):
            _move(session, claim, BatchState.UNCERTAIN, at=at, error=reason)
        case Refused():
            _settle_refusal(session, slug, claim, outcome, at=at, batch_size=batch_size)


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


def record_double(session: Session, batch_id: int, attempt: int, *, readers: int, at: datetime) -> bool:
    """
    Act on proof that *attempt* was taken although the batch had gone on to a later one; say if it had.

    If the later attempt has not begun, the batch simply is submitted. If it has, its readers have the
    edition twice: a confirmed double, kept and shown by ``audit``, never hidden.
    """
    batch = session.exec(select(Batch).where(Batch.id == batch_id).with_for_update()).first()
    if batch is None or attempt > batch.given_up or batch.given_up == 0:
        return False
    session.refresh(batch)
    waits = BatchState(batch.state)
    if waits in (BatchState.PENDING, BatchState.WITHDRAWN) and attempt == batch.attempt:
        why = f"attempt {attempt} turned out to have been taken"
        return move_batch(
            session,
            batch_id,
            to=BatchState.SUBMITTED,
            frm=waits,
            at=at,
            of_attempt=attempt,
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

    Who the provider objects to fails with its reason. When it does not say who, or the request is
    too large, the second half goes into a batch of its own: so one bad reader is found by halving.
    """
    if not _move(
        session, claim, BatchState.PENDING, at=at, error=refusal.reason, not_before=refusal.retry_at
    ):
        return
    give_back(session.connection(), slug, claim.sender.email, len(claim.readers), at=claim.at)
    if refusal.retry_at is not None or refusal.stop_run or not (refusal.unfit or refusal.split):
        return
    batch = session.get_one(Batch, claim.batch_id, populate_existing=True)
    ids = claim.readers.all_ids()
    named = [ids[index] for index in refusal.recipients if 0 <= index < len(ids)]
    if refusal.unfit and (named or len(ids) == 1):
        for reader in named or ids:
            record_exception(session, batch, reader, "failed", refusal.reason, at=at)
    elif len(ids) == 1:
        record_exception(session, batch, ids[0], "failed", refusal.reason, at=at)
    else:
        second_half = sorted(ids)[len(ids) // 2 :]
        for reader in second_half:
            record_exception(session, batch, reader, "moved", "the request was halved", at=at)
        append_readers(
            session, batch, second_half, variant=batch.variant, at=at, batch_size=batch_size, trailing=False
        )
