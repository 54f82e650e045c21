"""What happens to one subscriber: found, added, shown, left, forgotten."""

from __future__ import annotations

import hmac
import secrets
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, delete, exists, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from newsletter.audience.addresses import address_hash, normalise
from newsletter.audience.dossier import dossiers
from newsletter.audience.plans import check_plan, first_end
from newsletter.catalogue import Catalogue
from newsletter.errors import NotFound, SettingsError
from newsletter.settings import Keys
from newsletter.store.session import reading, writing
from newsletter.store.tables import (
    Event,
    FormerAddress,
    IdempotentRequest,
    Installation,
    OneTimeLink,
    ReaderSession,
    Subscriber,
    SubscriberTag,
    Subscription,
    SunsetStep,
    Suppression,
)

_KEY_CHECK = "suppression-key-check"
HARD_REASONS = ("bounced", "complained", "manual")
"""Why an address is suppressed whatever its owner presses: nothing but a person of ours lifts these."""


def new_reader() -> str:
    """A random public id: 24 hex digits."""
    return secrets.token_hex(12)


def check_suppression_key(engine: Engine, keys: Keys) -> None:
    """
    Make sure the suppression key is the one this database was made with.

    Raises:
        SettingsError: it is another: erased and suppressed addresses would come back.
    """
    check = address_hash(keys.suppression, "check@check")
    with reading(engine) as session:
        known = session.get(Installation, _KEY_CHECK)
    if known is None:
        try:
            with writing(engine) as session:
                known = session.get(Installation, _KEY_CHECK) or Installation(name=_KEY_CHECK, value=check)
                session.add(known)
        except IntegrityError:  # another process was first
            with reading(engine) as session:
                known = session.get_one(Installation, _KEY_CHECK)
    if not hmac.compare_digest(known.value, check):
        raise SettingsError(
            "NEWSLETTER_SUPPRESSION_KEY (or the key file beside the database) is not the one this database was made "
            "with. Restore the old key: with another, suppressed and erased addresses would be mailed again."
        )


def find_subscriber(session: Session, email: str) -> Subscriber | None:
    """The subscriber of an address, however it is written, or None."""
    try:
        _, key = normalise(email)
    except ValueError:
        return None
    return session.exec(select(Subscriber).where(Subscriber.email_key == key)).first()


def _require(session: Session, email: str) -> Subscriber:
    found = find_subscriber(session, email)
    if found is None:
        raise NotFound("We do not know this address.")
    return found


def add(
    engine: Engine,
    email: str,
    *,
    catalogue: Catalogue,
    keys: Keys,
    now: datetime,
    newsletters: tuple[str, ...] = (),
    name: str = "",
    plan: str = "free",
    until: datetime | None = None,
    consent: str = "",
) -> datetime | None:
    """
    Add one subscriber by an operator's word; without *consent* the subscriptions stay pending.

    Returns when the plan ends: *until*, or a trial after its days, or never.

    Raises:
        NotFound: no such plan.
        ValueError: not an address, known already, or on the suppression list.
    """
    check_plan(catalogue.publication, plan)
    end = until or first_end(catalogue.publication, plan, now=now)
    try:
        address, key = normalise(email)
    except ValueError as error:
        raise NotFound(f"This is {str(error).rstrip('.')}.") from None
    hashed = address_hash(keys.suppression, key)
    with writing(engine) as session:
        known = "This address is known already; see newsletter subscribers show."
        if session.exec(select(Subscriber).where(Subscriber.email_key == key)).first():
            raise NotFound(known)
        suppressed = session.get(Suppression, (hashed, "all"))
        if suppressed:
            raise NotFound(f"This address must not be mailed ({suppressed.reason}); it was not added.")
        row = Subscriber(
            reader=new_reader(), email=address, email_key=key, address_hash=hashed, name=name, plan=plan,
            plan_until=end, joined_at=now, updated_at=now,
        )  # fmt: skip
        session.add(row)
        try:
            session.flush()
        except IntegrityError:  # somebody else was first, a moment ago
            raise NotFound(known) from None
        subscriber_id = row.id or 0
        for slug in newsletters:
            session.add(
                Subscription(
                    subscriber_id=subscriber_id,
                    newsletter=slug,
                    state="active" if consent else "pending",
                    since=now,
                    consent_source="added by an operator",
                    consent_words=consent,
                    consented_at=now if consent else None,
                    confirmed_at=now if consent else None,
                )
            )
    return end


def show(session: Session, email: str) -> dict[str, Any]:
    """
    Everything held about one address, in the shape of ``subscribers show``; see ``dossier``.

    Raises:
        NotFound: the address is not known.
    """
    row = _require(session, email)
    return dossiers(session, [row.id or 0])[0]


def forget(engine: Engine, email: str, *, keys: Keys, now: datetime) -> None:
    """
    Erase an address: its rows go, its keyed hash stays suppressed so that no import revives it.

    Addresses they had before are covered, unless somebody else has them now. A complaint, a bounce or an
    editor's word stays the reason: erasure softens none of them.

    Raises:
        NotFound: the address is not known.
    """
    with writing(engine) as session:
        row = _require(session, email)
        hashes = _hashes_of(session, row, keys)
        for table in (FormerAddress, SubscriberTag, OneTimeLink, ReaderSession, SunsetStep, Subscription):
            session.execute(delete(table).where(col(table.subscriber_id) == row.id))
        session.execute(
            update(IdempotentRequest).where(col(IdempotentRequest.reader) == row.reader).values(reader="")
        )
        session.execute(
            update(Event).where(col(Event.reader) == row.reader).values(reader="", address_hash="", raw={})
        )
        session.execute(
            delete(Suppression).where(
                col(Suppression.address_hash).in_(hashes), col(Suppression.reason).not_in(HARD_REASONS)
            )
        )
        for hashed in hashes:
            if session.get(Suppression, (hashed, "all")) is None:
                session.add(
                    Suppression(
                        address_hash=hashed, scope="all", reason="erased", source="forget", suppressed_at=now
                    )
                )  # fmt: skip
        session.execute(delete(Subscriber).where(col(Subscriber.id) == row.id))


def _hashes_of(session: Session, row: Subscriber, keys: Keys) -> list[str]:
    """The address's own hash, and those of addresses they had before that are nobody else's now."""
    former = session.exec(
        select(FormerAddress.address_hash).where(
            FormerAddress.subscriber_id == row.id,
            ~exists().where(col(Subscriber.address_hash) == col(FormerAddress.address_hash)),
        )
    ).all()
    return [address_hash(keys.suppression, row.email_key), *former]
