"""
One-time links and sessions: how a reader proves that an address is theirs.

A secret is 32 random bytes in a link or a cookie; the database holds only its hash, so a copy of the
database opens nothing, and looking one up takes the same time whatever was guessed.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import Engine, delete, update
from sqlmodel import Session, col, select

from newsletter.audience.subscribers import find_subscriber
from newsletter.store.session import reading, writing
from newsletter.store.tables import OneTimeLink, ReaderSession, Subscriber


class Purpose(StrEnum):
    """What a one-time link opens."""

    CONFIRM = "confirm"
    LOGIN = "login"
    ADDRESS = "address"
    UNDO = "undo"  # takes an act of leaving or pausing back; see undoing


LIFETIMES: Mapping[Purpose, timedelta] = {
    Purpose.CONFIRM: timedelta(days=7),
    Purpose.LOGIN: timedelta(minutes=30),
    Purpose.ADDRESS: timedelta(hours=24),
    Purpose.UNDO: timedelta(days=1),
}
SESSION_LASTS = timedelta(days=14)
FRESH_FOR = timedelta(hours=1)
"""How young a session must be for what cannot be undone: change of address, download, erasure."""

_KEPT = timedelta(days=7)
_SECRET = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class Link:
    """A one-time link that is ours; *is_open*: it may still be used."""

    purpose: Purpose
    subscriber_id: int
    detail: Mapping[str, Any]
    made_at: datetime
    is_open: bool


@dataclass(frozen=True, slots=True)
class Visitor:
    """A reader who is logged in; *is_fresh*: they proved their address within the last hour."""

    subscriber_id: int
    reader: str
    language: str
    since: datetime
    is_fresh: bool


def make_link(
    session: Session,
    purpose: Purpose,
    subscriber_id: int,
    *,
    now: datetime,
    detail: Mapping[str, Any] | None = None,
) -> str:
    """Make a one-time link; return the secret that stands in it. The caller's transaction keeps it."""
    secret = secrets.token_urlsafe(32)
    session.add(
        OneTimeLink(
            secret_hash=_hash(secret), purpose=purpose, subscriber_id=subscriber_id, detail=dict(detail or {}),
            made_at=now, expires_at=now + LIFETIMES[purpose],
        )
    )  # fmt: skip
    return secret


def look_at_link(session: Session, secret: str, purpose: Purpose, *, now: datetime) -> Link | None:
    """The link of *secret*, open, used or expired, without using it; None: there is none for *purpose*."""
    row = _row(session, secret, purpose)
    if row is None:
        return None
    is_open = row.used_at is None and row.expires_at > now
    return Link(purpose, row.subscriber_id, row.detail, row.made_at, is_open)


def use_link(session: Session, secret: str, purpose: Purpose, *, now: datetime) -> Link | None:
    """Use the link of *secret* up; None: it was used or has expired, or there is none for *purpose*."""
    row = _row(session, secret, purpose)
    if row is None:
        return None
    used = session.execute(
        update(OneTimeLink)
        .where(
            col(OneTimeLink.secret_hash) == row.secret_hash, col(OneTimeLink.used_at).is_(None),
            col(OneTimeLink.expires_at) > now,
        )
        .values(used_at=now)
    )  # fmt: skip
    if used.rowcount != 1:  # type: ignore[attr-defined]
        return None
    return Link(purpose, row.subscriber_id, row.detail, row.made_at, is_open=False)


def _row(session: Session, secret: str, purpose: Purpose) -> OneTimeLink | None:
    if not _SECRET.fullmatch(secret):
        return None
    row = session.get(OneTimeLink, _hash(secret))
    return row if row is not None and row.purpose == purpose else None


def find_door(engine: Engine, email: str) -> int | None:
    """The id of the subscriber who may get a login link at *email*; None: nobody, or mail does not reach them."""
    with reading(engine) as session:
        row = find_subscriber(session, email)
    return row.id if row is not None and row.status not in ("pending", "bounced") else None


def enter(engine: Engine, secret: str, *, now: datetime) -> tuple[str, Link] | None:
    """Use a login link: the secret of the new session, and the link; None: it does not open any more."""
    with writing(engine) as session:
        link = use_link(session, secret, Purpose.LOGIN, now=now)
        if link is None:
            return None
        return open_session(session, link.subscriber_id, now=now), link


def open_session(session: Session, subscriber_id: int, *, now: datetime) -> str:
    """Log a reader in; return the secret for their cookie. The caller's transaction keeps it."""
    secret = secrets.token_urlsafe(32)
    session.add(
        ReaderSession(
            secret_hash=_hash(secret),
            subscriber_id=subscriber_id,
            made_at=now,
            expires_at=now + SESSION_LASTS,
        )
    )
    return secret


def find_visitor(engine: Engine, secret: str, *, now: datetime) -> Visitor | None:
    """Who is logged in with *secret*; None: nobody (any more)."""
    if not _SECRET.fullmatch(secret):
        return None
    with reading(engine) as session:
        row = session.exec(
            select(ReaderSession, Subscriber)
            .join(Subscriber, col(Subscriber.id) == ReaderSession.subscriber_id)
            .where(ReaderSession.secret_hash == _hash(secret), col(ReaderSession.expires_at) > now)
        ).first()
    if row is None:
        return None
    held, subscriber = row
    return Visitor(
        held.subscriber_id, subscriber.reader, subscriber.language, held.made_at,
        is_fresh=now - held.made_at < FRESH_FOR,
    )  # fmt: skip


def close_session(engine: Engine, secret: str) -> None:
    """Log out of one browser."""
    if _SECRET.fullmatch(secret):
        with writing(engine) as session:
            session.execute(delete(ReaderSession).where(col(ReaderSession.secret_hash) == _hash(secret)))


def close_doors(session: Session, subscriber_id: int, *, but: str = "") -> None:
    """End every session of a reader but that of the secret *but*, and every link that is still open."""
    session.execute(
        delete(ReaderSession).where(
            col(ReaderSession.subscriber_id) == subscriber_id, col(ReaderSession.secret_hash) != _hash(but)
        )
    )
    session.execute(delete(OneTimeLink).where(col(OneTimeLink.subscriber_id) == subscriber_id))


def sweep(engine: Engine, *, now: datetime) -> int:
    """Delete sessions that ended, and links a week after they did (until then they can say what they were)."""
    with writing(engine) as session:
        ended = session.execute(delete(ReaderSession).where(col(ReaderSession.expires_at) < now))
        old = session.execute(delete(OneTimeLink).where(col(OneTimeLink.expires_at) < now - _KEPT))
    return int(ended.rowcount + old.rowcount)  # type: ignore[attr-defined]


def _hash(secret: str) -> str:
    """Not keyed and not slow: 256 random bits cannot be tried."""
    return hashlib.sha256(secret.encode()).hexdigest()
