"""
Moving: a reader's change of address, asked for with a session and confirmed from the new address.

Whether the new address is somebody's already shows nowhere but in the mail to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import Engine, delete, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from newsletter.audience.addresses import address_hash, normalise
from newsletter.audience.choosing import Choices, find_choices
from newsletter.audience.doors import Purpose, close_doors, make_link, use_link
from newsletter.audience.subscribers import HARD_REASONS
from newsletter.settings import Keys
from newsletter.store.session import writing
from newsletter.store.tables import FormerAddress, OneTimeLink, Subscriber, Suppression


class ToldThere(StrEnum):
    """Which mail goes to the address somebody wants to move to."""

    CONFIRM = "confirm"
    KNOWN = "known"  # it is a subscriber's already
    NOTHING = "nothing"  # it must not be written to


@dataclass(frozen=True, slots=True)
class MoveAsked:
    """What follows from the wish to move; *secret* is for CONFIRM, *holder* the subscriber of KNOWN."""

    told: ToldThere
    secret: str = ""
    holder: int = 0


def ask_to_move(
    engine: Engine, subscriber_id: int, email: str, *, keys: Keys, now: datetime
) -> MoveAsked | None:
    """
    Keep a new address until it is confirmed, whoever's it is; None: the reader is gone.

    Raises:
        ValueError: not an address.
    """
    address, key = normalise(email)
    with writing(engine) as session:
        row = session.get(Subscriber, subscriber_id)
        if row is None:
            return None
        row.pending_email = address
        session.add(row)
        _drop_links(session, subscriber_id)
        secret = make_link(session, Purpose.ADDRESS, subscriber_id, now=now)
        holder = session.exec(select(Subscriber).where(Subscriber.email_key == key)).first()
        hard = _hard(session, address_hash(keys.suppression, key))
        if hard or (holder is not None and holder.status in HARD_REASONS):
            return MoveAsked(ToldThere.NOTHING)
        if holder is not None:
            return MoveAsked(ToldThere.KNOWN, holder=holder.id or 0)
        return MoveAsked(ToldThere.CONFIRM, secret)


def stay(engine: Engine, subscriber_id: int) -> None:
    """Forget an address that was asked for and not confirmed, and its link."""
    with writing(engine) as session:
        session.execute(
            update(Subscriber).where(col(Subscriber.id) == subscriber_id).values(pending_email="")
        )
        _drop_links(session, subscriber_id)


def _drop_links(session: Session, subscriber_id: int) -> None:
    session.execute(
        delete(OneTimeLink).where(
            col(OneTimeLink.subscriber_id) == subscriber_id, col(OneTimeLink.purpose) == Purpose.ADDRESS
        )
    )


def _hard(session: Session, hashed: str) -> bool:
    reasons = session.exec(
        select(Suppression.reason).where(Suppression.address_hash == hashed, Suppression.scope == "all")
    )
    return any(reason in HARD_REASONS for reason in reasons)


def move(engine: Engine, secret: str, *, keys: Keys, now: datetime) -> Choices | None:
    """
    Move a reader to the address whose link they pressed; None: it was used, has expired, or cannot be theirs.

    What they had left stays left at the new address; what was left there by somebody else before does not
    count, for this is their own choice now. Every session ends. The old address's hash is kept, so that
    an erasure covers it, too.
    """
    try:
        with writing(engine) as session:
            link = use_link(session, secret, Purpose.ADDRESS, now=now)
            row = session.get(Subscriber, link.subscriber_id) if link else None
            if link is None or row is None or not row.pending_email:
                return None
            address, key = normalise(row.pending_email)
            hashed = address_hash(keys.suppression, key)
            there = session.exec(select(Suppression).where(Suppression.address_hash == hashed)).all()
            if any(one.reason in HARD_REASONS for one in there):
                return None
            for one in there:
                session.delete(one)
            session.flush()
            for mine in session.exec(select(Suppression).where(Suppression.address_hash == row.address_hash)):
                if mine.reason == "unsubscribed":
                    session.add(
                        Suppression(
                            address_hash=hashed, scope=mine.scope, reason=mine.reason, source=mine.source,
                            suppressed_at=mine.suppressed_at,
                        )
                    )  # fmt: skip
            _remember(session, link.subscriber_id, before=row.address_hash, after=hashed, now=now)
            row.email, row.email_key, row.address_hash, row.pending_email = address, key, hashed, ""
            row.updated_at = now
            session.add(row)
            session.flush()
            close_doors(session, link.subscriber_id)
    except IntegrityError:  # the address became somebody else's meanwhile
        return None
    return find_choices(engine, subscriber_id=link.subscriber_id)


def _remember(session: Session, subscriber_id: int, *, before: str, after: str, now: datetime) -> None:
    session.execute(
        delete(FormerAddress).where(
            col(FormerAddress.subscriber_id) == subscriber_id,
            col(FormerAddress.address_hash).in_((before, after)),
        )
    )
    session.add(FormerAddress(subscriber_id=subscriber_id, address_hash=before, until=now))
