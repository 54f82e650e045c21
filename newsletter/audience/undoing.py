"""
Acts that one press takes back: how a reader stood before and after lies in a one-time link for a day.

So undo needs no guess: what was active is active again, what waited for a confirmation waits again, and
what was taken instead goes as it came. What has changed since by somebody else's word stays.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Engine
from sqlmodel import Session, col, select

from newsletter.audience.doors import Purpose, make_link, use_link
from newsletter.audience.leaving import is_barred_for_good
from newsletter.store.session import writing
from newsletter.store.tables import Subscriber, Subscription, Suppression

T = TypeVar("T")
Standing = dict[str, dict[str, Any]]
"""``subscriber``, ``subscription <slug>`` and ``suppression <scope>`` to what JSON holds of the row."""

_OF_SUBSCRIBER = {"status", "paused_until"}
_TELLING = ("status", "paused_until", "state", "since", "left_at", "reason", "suppressed_at")
"""What makes a row the one an act left behind; a reader may have said why since."""


def undoably(
    engine: Engine, subscriber_id: int, act: Callable[[Session], T], *, now: datetime
) -> tuple[T, str]:
    """
    Do *act* in one transaction; return what it returned, and the secret that takes it back.

    The secret is empty when nothing was changed.
    """
    with writing(engine) as session:
        before = _standing(session, subscriber_id)
        done = act(session)
        session.flush()
        session.expire_all()
        after = _standing(session, subscriber_id)
        changed = {
            name: [before.get(name), after.get(name)]
            for name in sorted({*before, *after})
            if before.get(name) != after.get(name)
        }
        if not changed:
            return done, ""
        return done, make_link(session, Purpose.UNDO, subscriber_id, now=now, detail=changed)


def undo(engine: Engine, secret: str, *, reader: str, now: datetime) -> tuple[str, ...] | None:
    """
    Take back the act of *secret*, if it was *reader*'s; return the slugs that came back.

    None: it was longer than a day ago, was taken back already, or a mailbox or an editor has said since
    that nothing must be sent.
    """
    with writing(engine) as session:
        link = use_link(session, secret, Purpose.UNDO, now=now)
        row = session.get(Subscriber, link.subscriber_id) if link else None
        if (
            link is None
            or row is None
            or row.reader != reader
            or is_barred_for_good(session, row.address_hash)
        ):
            return None
        standing = _standing(session, link.subscriber_id)
        back: list[str] = []
        for name, (before, after) in link.detail.items():
            if _telling(standing.get(name)) != _telling(after):
                continue
            _restore(session, row, name, before)
            kind, _, slug = name.partition(" ")
            if kind == "subscription" and before and before["state"] != "left":
                back.append(slug)
        return tuple(sorted(back))


def _standing(session: Session, subscriber_id: int) -> Standing:
    row = session.exec(select(Subscriber).where(Subscriber.id == subscriber_id).with_for_update()).first()
    if row is None:
        return {}
    subscriptions = session.exec(select(Subscription).where(Subscription.subscriber_id == subscriber_id))
    barred = session.exec(select(Suppression).where(col(Suppression.address_hash) == row.address_hash))
    return {
        "subscriber": row.model_dump(mode="json", include=_OF_SUBSCRIBER),
        **{f"subscription {one.newsletter}": one.model_dump(mode="json") for one in subscriptions},
        **{f"suppression {one.scope}": one.model_dump(mode="json") for one in barred},
    }


def _telling(row: dict[str, Any] | None) -> list[Any]:
    return [row.get(name) for name in _TELLING] if row else []


def _restore(session: Session, row: Subscriber, name: str, before: dict[str, Any] | None) -> None:
    """Put one row back as it was; *before* None: it was not there."""
    kind, _, key = name.partition(" ")
    if kind == "subscriber" and before:
        was = Subscriber.model_validate({**row.model_dump(), **before})
        row.status, row.paused_until = was.status, was.paused_until
        session.add(row)
        return
    model: type[Subscription] | type[Suppression] = Subscription if kind == "subscription" else Suppression
    if before is not None:
        session.merge(model.model_validate(before))
        return
    there = session.get(model, (row.id if model is Subscription else row.address_hash, key))
    if there is not None:
        session.delete(there)
