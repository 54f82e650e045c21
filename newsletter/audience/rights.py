"""What a reader may ask for of themselves: everything that is held about them."""

from __future__ import annotations

from typing import Any

from sqlmodel import Session, col, select

from newsletter.audience.dossier import dossiers
from newsletter.store.tables import Event, FormerAddress, OneTimeLink, ReaderSession, Subscriber
from newsletter.times import iso


def everything_held(session: Session, subscriber_id: int) -> dict[str, Any]:
    """
    Everything held about a subscriber: the document of ``subscribers show``, and what happened.

    *events* as the provider told them, *sessions* and *links* without their secrets; of addresses they had
    before only until when, for the rest is a hash. Empty when they are gone.
    """
    found = dossiers(session, [subscriber_id])
    row = session.get(Subscriber, subscriber_id)
    if not found or row is None:
        return {}
    events = session.exec(
        select(Event).where(Event.reader == row.reader).order_by(col(Event.occurred_at), col(Event.id))
    ).all()
    sessions = session.exec(
        select(ReaderSession)
        .where(ReaderSession.subscriber_id == subscriber_id)
        .order_by(col(ReaderSession.made_at))
    ).all()
    links = session.exec(
        select(OneTimeLink)
        .where(OneTimeLink.subscriber_id == subscriber_id)
        .order_by(col(OneTimeLink.made_at))
    ).all()
    former = session.exec(
        select(FormerAddress.until).where(FormerAddress.subscriber_id == subscriber_id)
    ).all()
    return {
        **found[0],
        "pending_email": row.pending_email,
        "other_addresses_until": [iso(at) for at in sorted(former)],
        "engaged_at": iso(row.engaged_at),
        "events": [{"kind": one.kind, "at": iso(one.occurred_at), "edition": one.edition} for one in events],
        "sessions": [{"since": iso(one.made_at), "until": iso(one.expires_at)} for one in sessions],
        "links": [
            {"purpose": one.purpose, "made_at": iso(one.made_at), "used_at": iso(one.used_at)}
            for one in links
        ],
    }
