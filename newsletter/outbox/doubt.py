"""
Doubt: what becomes of batches nobody can say anything about, besides evidence.

A scheduled attempt can be called back while its release is far enough ahead: then it certainly goes to
nobody, and the batch goes again. Silence says something only when the provider's events prove that we
would have heard, and counts only for newsletters with ``on_unknown = "resend"``.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Literal

import structlog
from sqlalchemy import Engine, exists
from sqlmodel import Session, col, func, select

from newsletter.catalogue import Catalogue, Newsletter
from newsletter.edition import EditionStatus
from newsletter.errors import NotFound, StateError
from newsletter.outbox.drain import Sender
from newsletter.outbox.evidence import settle_from_stored
from newsletter.outbox.ledger import BatchState, give_way, move_batch
from newsletter.outbox.settle import close
from newsletter.store.session import reading, writing
from newsletter.store.tables import Batch, Cancellation, EditionRow, Event

Word = Literal["submitted", "abandoned", "resend"]

CANCEL_UNTIL = timedelta(minutes=11)
"""The provider cancels until ten minutes before the release; one more, because clocks differ."""

log = structlog.get_logger()


def resolve(sender: Sender, catalogue: Catalogue) -> int:
    """Do what can be done about uncertain batches now; return how many may go again."""
    settle_from_stored(sender.engine, at=sender.clock())
    return call_back(sender) + hear_silence(sender, catalogue)


def call_back(sender: Sender) -> int:
    """
    Cancel uncertain scheduled attempts whose release is far enough ahead; return how many.

    At most ``Sender.cancel_limit`` are cancelled at one time: the provider refuses more, and a
    cancellation counts until its release has passed.
    """
    return sum(_call_back(sender, batch) for batch in _in_reach(sender, (BatchState.UNCERTAIN,)))


def call_back_wrong(sender: Sender, batch_ids: Collection[int]) -> int:
    """
    Cancel those of *batch_ids* that are scheduled and not due yet, because they are to be corrected; return how many.

    They are withdrawn, and go with the correction. At most ``Sender.cancel_limit`` are cancelled at one
    time, those due first before others; the others go out as they are.
    """
    scheduled = _in_reach(sender, (BatchState.SUBMITTED, BatchState.UNCERTAIN), only=frozenset(batch_ids))
    return sum(_call_back(sender, batch, to=BatchState.WITHDRAWN) for batch in scheduled)


def _in_reach(
    sender: Sender, states: Sequence[BatchState], *, only: Collection[int] | None = None
) -> list[Batch]:
    """The scheduled batches that still can be cancelled, as many as the provider lets, those due first."""
    at = sender.clock()
    _let_go(sender, at)
    with reading(sender.engine) as session:
        taken = session.exec(
            select(func.count()).select_from(Cancellation).where(col(Cancellation.release_at) > at)
        ).one()
        scheduled = session.exec(
            select(Batch)
            .where(
                col(Batch.state).in_(states), Batch.reservation != "", col(Batch.release_at) > at + CANCEL_UNTIL
            )
            .order_by(col(Batch.release_at), col(Batch.id))
        ).all()  # fmt: skip
    wanted = [batch for batch in scheduled if only is None or batch.id in only]
    return wanted[: max(0, sender.cancel_limit - taken)]


def _call_back(sender: Sender, batch: Batch, *, to: BatchState = BatchState.PENDING) -> bool:
    """Dying between the two leaves it as it was: asking again is answered with the status it has."""
    if batch.id is None or batch.release_at is None or not sender.provider.cancel(batch.reservation):
        return False
    at = sender.clock()
    goes_again = to is BatchState.PENDING
    why = "" if goes_again else " to be corrected"
    with writing(sender.engine) as session:
        session.merge(
            Cancellation(
                reservation=batch.reservation, batch_id=batch.id, attempt=batch.attempt,
                release_at=batch.release_at, cancelled_at=at,
            )
        )  # fmt: skip
        moved = move_batch(
            session, batch.id, to=to, frm=BatchState(batch.state), at=at, of_attempt=batch.attempt,
            owner="", lease_until=None, reservation="", error=f"attempt {batch.attempt} was called back{why}",
        )  # fmt: skip
        if moved and goes_again and give_way(session, batch.id, at=at):
            close(session, batch.edition_id, at=at)
            moved = False
    log.info("batch.called_back", batch=batch.id, attempt=batch.attempt)
    return moved


def _let_go(sender: Sender, at: datetime) -> None:
    """Forget cancellations whose release has passed by a while; the row stays as the record."""
    with reading(sender.engine) as session:
        past = session.exec(
            select(Cancellation).where(
                col(Cancellation.release_at) < at - timedelta(minutes=5),
                col(Cancellation.release_at) > at - timedelta(minutes=10),
            )
        ).all()
    for one in past:
        sender.provider.release(one.reservation)


def hear_silence(sender: Sender, catalogue: Catalogue) -> int:
    """
    Send again what was silent for long enough while others were heard; return how many batches.

    An event of a batch that was accepted after the doubtful one proves that the webhook works.
    """
    at = sender.clock()
    resent = 0
    for newsletter in catalogue.newsletters:
        if newsletter.on_unknown != "resend":
            continue
        with writing(sender.engine) as session:
            for batch in _silent(session, newsletter, at):
                moved = move_batch(
                    session, batch.id or 0, to=BatchState.PENDING, frm=BatchState.UNCERTAIN, at=at,
                    of_attempt=batch.attempt, owner="", lease_until=None, given_up=batch.attempt,
                    error=f"attempt {batch.attempt}: no event in {newsletter.unknown_wait_minutes} minutes, while others came",
                )  # fmt: skip
                if not moved:
                    continue
                if give_way(session, batch.id or 0, at=at):
                    close(session, batch.edition_id, at=at)
                    continue
                resent += 1
                log.warning(
                    "batch.resent_after_silence",
                    newsletter=newsletter.slug,
                    batch=batch.id,
                    attempt=batch.attempt,
                )
    return resent


def _silent(session: Session, newsletter: Newsletter, at: datetime) -> list[Batch]:
    """Uncertain for long enough, while a batch that was accepted later was heard of."""
    wait = timedelta(minutes=newsletter.unknown_wait_minutes)
    doubtful = session.exec(
        select(Batch)
        .join(EditionRow, col(EditionRow.id) == col(Batch.edition_id))
        .where(
            EditionRow.newsletter == newsletter.slug,
            EditionRow.status == EditionStatus.SUBMITTING,
            Batch.state == BatchState.UNCERTAIN,
            col(Batch.changed_at) <= at - wait,
        )
    ).all()
    return [
        batch
        for batch in doubtful
        if (batch.release_at is None or batch.release_at <= at - wait) and _others_were_heard(session, batch)
    ]


def _others_were_heard(session: Session, batch: Batch) -> bool:
    """Whether there is an event of a batch that was accepted after *batch* fell into doubt."""
    later = session.exec(
        select(Batch.id, Batch.attempt)
        .where(
            Batch.id != batch.id,
            Batch.state == BatchState.SUBMITTED,
            col(Batch.changed_at) >= batch.changed_at,
        )
        .order_by(col(Batch.changed_at))
        .limit(200)
    ).all()
    names = [f"{batch_id}.{attempt}" for batch_id, attempt in later]
    if not names:
        return False
    return bool(session.exec(select(exists().where(col(Event.batch).in_(names)))).one())


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
    settle_from_stored(engine, at=at)  # what is proven needs no word, and no word may stand against it
    with writing(engine) as session:
        batch = session.exec(select(Batch).where(Batch.edition_id == edition_id, Batch.seq == seq)).first()
        if batch is None or batch.id is None:
            raise NotFound(
                f"This edition has no batch {seq}; newsletter status with its name lists its batches."
            )
        given_up = {"given_up": batch.attempt} if word == "resend" else {}
        moved = move_batch(
            session, batch.id, to=target, frm=BatchState.UNCERTAIN, at=at, of_attempt=batch.attempt, owner="",
            lease_until=None, error=f"{word} by the word of {actor}", **given_up,
        )  # fmt: skip
        if not moved:
            raise StateError(
                f"Batch {seq} is {batch.state}, so there is no doubt about it; only an uncertain batch can be settled "
                "by a person."
            )
        if word == "resend":
            give_way(session, batch.id, at=at)
        close(session, edition_id, at=at)
