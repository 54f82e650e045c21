"""Settle: what became of a batch, from the provider's answer or from a person's word."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from sqlalchemy import Engine
from sqlmodel import Session, select

from newsletter.errors import NotFound, StateError
from newsletter.outbox.claim import Claim, append_readers, record_exception
from newsletter.outbox.ledger import BatchState, finish, move_batch
from newsletter.providers import Accepted, Outcome, Refused, Uncertain
from newsletter.store.session import writing
from newsletter.store.tables import Batch

Word = Literal["submitted", "abandoned", "resend"]


def settle(engine: Engine, claim: Claim, outcome: Outcome, *, at: datetime, batch_size: int) -> None:
    """Record *outcome* of a claimed batch; does nothing if the claim is no longer ours."""
    with writing(engine) as session:
        match outcome:
            case Accepted(provider_id):
                _move(session, claim, BatchState.SUBMITTED, at=at, provider_id=provider_id, error="")
            case Uncertain(reason):
                _move(session, claim, BatchState.UNCERTAIN, at=at, error=reason)
            case Refused():
                _settle_refusal(session, claim, outcome, at=at, batch_size=batch_size)
        finish(session, claim.edition_id, at=at)


def _move(session: Session, claim: Claim, to: BatchState, *, at: datetime, **values: object) -> bool:
    return move_batch(
        session, claim.batch_id, to=to, frm=BatchState.SUBMITTING, at=at, of_attempt=claim.attempt,
        owner="", lease_until=None, **values,
    )  # fmt: skip


def _settle_refusal(
    session: Session, claim: Claim, refusal: Refused, *, at: datetime, batch_size: int
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
    if refusal.retry_at is not None or refusal.stop_run or not (refusal.unfit or refusal.split):
        return
    batch = session.exec(select(Batch).where(Batch.id == claim.batch_id)).one()
    named = [claim.readers[index] for index in refusal.recipients if 0 <= index < len(claim.readers)]
    if refusal.unfit and (named or len(claim.readers) == 1):
        for reader in named or claim.readers:
            record_exception(session, batch, reader.id, "failed", refusal.reason, at=at)
    elif len(claim.readers) == 1:
        record_exception(session, batch, claim.readers[0].id, "failed", refusal.reason, at=at)
    else:
        second_half = [reader.id for reader in claim.readers[len(claim.readers) // 2 :]]
        for reader_id in second_half:
            record_exception(session, batch, reader_id, "moved", "the request was halved", at=at)
        append_readers(
            session, batch, second_half, variant=batch.variant, at=at, batch_size=batch_size, trailing=False
        )


def settle_by_word(
    engine: Engine, edition_id: int, seq: int, word: Word, *, actor: str, at: datetime
) -> None:
    """
    A person decides about an uncertain batch: it was submitted, it is abandoned, or it goes again.

    Raises:
        NotFound: the edition has no such batch.
        StateError: the batch is not uncertain.
    """
    target = {
        "submitted": BatchState.SUBMITTED,
        "abandoned": BatchState.ABANDONED,
        "resend": BatchState.PENDING,
    }[word]
    with writing(engine) as session:
        batch = session.exec(select(Batch).where(Batch.edition_id == edition_id, Batch.seq == seq)).first()
        if batch is None or batch.id is None:
            raise NotFound(f"This edition has no batch {seq}; `newsletter status` lists its batches.")
        told = f"{word} by the word of {actor}"
        moved = move_batch(
            session,
            batch.id,
            to=target,
            frm=BatchState.UNCERTAIN,
            at=at,
            owner="",
            lease_until=None,
            error=told,
        )
        if not moved:
            raise StateError(
                f"Batch {seq} is {batch.state}; only an uncertain batch can be settled by a person."
            )
        finish(session, edition_id, at=at)
