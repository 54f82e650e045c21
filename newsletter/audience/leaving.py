"""
Leaving, and coming back: at once, as often as it is asked for, and never for anybody else.

One look finds the reader and what they get; one short transaction ends it. Who has left already costs
no write, so a mailbox may press the button as often as it likes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Engine, bindparam, update
from sqlalchemy import select as columns
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, col, select

from newsletter.audience.tokens import is_scope_of
from newsletter.store.session import changing, writing
from newsletter.store.tables import EditionRow, Instant, Subscriber, Subscription, Suppression

UNDO_FOR = timedelta(days=1)
"""How long a page can take its own act back and ask why; later the preferences can, with a mail. See ``undoing``."""

JUST_SENT = timedelta(minutes=10)
"""So long after an edition went out mailboxes' scanners open its links and press its buttons."""

NEVER_LIFTED = frozenset(("bounced", "complained", "manual", "erased"))
"""Reasons that a press on a page does not undo."""


class Reason(StrEnum):
    """Why somebody left, if they like to say."""

    TOO_OFTEN = "too often"
    NOT_RELEVANT = "not relevant"
    NEVER_ASKED = "never asked for it"
    ANOTHER_ADDRESS = "reads it at another address"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Reader:
    """A reader and how they stand: newsletter to state."""

    subscriber_id: int
    reader: str
    address_hash: str
    language: str
    states: Mapping[str, str]
    timezone: str = ""

    def slug_of(self, scope: bytes) -> str:
        """The newsletter a token's scope stands for, of those they ever had; '' when it is none of them."""
        return next((slug for slug in self.states if is_scope_of(scope, slug)), "")

    @property
    def gets(self) -> tuple[str, ...]:
        """What they have not left, also what waits for their confirmation."""
        return tuple(slug for slug, state in self.states.items() if state != "left")

    @property
    def active(self) -> tuple[str, ...]:
        """What is sent to them."""
        return tuple(slug for slug, state in self.states.items() if state == "active")

    @property
    def waiting(self) -> tuple[str, ...]:
        """What waits for the press on the confirming mail."""
        return tuple(slug for slug, state in self.states.items() if state == "pending")


def find_reader(engine: Engine, reader: str) -> Reader | None:
    """The reader of a public id, in one look; None: they are gone."""
    with engine.connect() as connection:
        rows = connection.execute(_reader_query(), {"reader": reader}).all()
    if not rows:
        return None
    subscriber_id, address_hash, language, zone, *_ = rows[0]
    states = {row[4]: row[5] for row in rows if row[4] is not None}
    return Reader(subscriber_id, reader, address_hash, language, states, zone)


@lru_cache(maxsize=1)
def _reader_query() -> Any:
    return (
        columns(
            col(Subscriber.id), col(Subscriber.address_hash), col(Subscriber.language), col(Subscriber.timezone),
            col(Subscription.newsletter), col(Subscription.state),
        )
        .join(Subscription, col(Subscription.subscriber_id) == col(Subscriber.id), isouter=True)
        .where(col(Subscriber.reader) == bindparam("reader"))
        .order_by(col(Subscription.newsletter))
    )  # fmt: skip


def leave(engine: Engine, reader: str, slug: str | None, *, now: datetime, how: str) -> tuple[str, ...]:
    """
    End a reader's subscription to *slug*, or to all (None); return the slugs that were ended now.

    Idempotent: doing it again changes nothing. A reader who is gone has left already.
    """
    found = find_reader(engine, reader)
    return leave_as(engine, found, slug, now=now, how=how) if found else ()


def leave_as(engine: Engine, reader: Reader, slug: str | None, *, now: datetime, how: str) -> tuple[str, ...]:
    """``leave`` for a reader who has been looked up."""
    wanted = _ended_by(reader, slug)
    if not wanted and (slug is not None or _is_barred(engine, reader)):
        return ()
    with changing(engine) as connection:
        return _leave(connection, reader, slug, now=now, how=how)


def leave_within(
    session: Session, reader: Reader, slug: str | None, *, now: datetime, how: str
) -> tuple[str, ...]:
    """``leave_as`` in the caller's transaction."""
    return _leave(session.connection(), reader, slug, now=now, how=how)


def _leave(
    connection: Connection, reader: Reader, slug: str | None, *, now: datetime, how: str
) -> tuple[str, ...]:
    wanted = _ended_by(reader, slug)
    if wanted:
        given = [{"subscriber": reader.subscriber_id, "slug": one, "at": now, "how": how} for one in wanted]
        connection.execute(_leave_update(), given)
    scopes = ("all",) if slug is None else wanted
    if scopes:
        barred = [{"hash": reader.address_hash, "scope": scope, "how": how, "at": now} for scope in scopes]
        connection.execute(_bar(connection.dialect.name), barred)
    return wanted


def _ended_by(reader: Reader, slug: str | None) -> tuple[str, ...]:
    """What leaving *slug*, or all (None), ends; what waits for a confirmation is ended, too."""
    return tuple(one for one in reader.gets if slug is None or one == slug)


@lru_cache(maxsize=1)
def _leave_update() -> Any:
    return (
        update(Subscription)
        .where(
            col(Subscription.subscriber_id) == bindparam("subscriber"),
            col(Subscription.newsletter) == bindparam("slug"), col(Subscription.state) != "left",
        )
        .values(state="left", left_at=bindparam("at", type_=Instant), left_reason=bindparam("how"))
    )  # fmt: skip


@lru_cache(maxsize=2)
def _bar(dialect: str) -> Any:
    insert = (postgresql if dialect == "postgresql" else sqlite).insert
    return (
        insert(Suppression)
        .values(
            address_hash=bindparam("hash"), scope=bindparam("scope"), reason="unsubscribed",
            source=bindparam("how"), suppressed_at=bindparam("at", type_=Instant),
        )
        .on_conflict_do_nothing()
    )  # fmt: skip


def _is_barred(engine: Engine, reader: Reader) -> bool:
    with engine.connect() as connection:
        found = connection.execute(
            columns(col(Suppression.reason)).where(
                col(Suppression.address_hash) == reader.address_hash, col(Suppression.scope) == "all"
            )
        ).first()
    return found is not None


def say_why(engine: Engine, reader: str, act: datetime, reason: Reason, words: str, *, now: datetime) -> bool:
    """Keep why a reader left at *act*; whether there was such an act. Said twice, the last one counts."""
    found = find_reader(engine, reader)
    if found is None or not timedelta() <= now - act <= UNDO_FOR:
        return False
    told = f"{reason}: {words}" if words else str(reason)
    with writing(engine) as session:
        rows = session.exec(
            select(Subscription).where(
                Subscription.subscriber_id == found.subscriber_id, Subscription.state == "left",
                Subscription.left_at == act,
            )
        ).all()  # fmt: skip
        for row in rows:
            row.left_reason = f"{row.left_reason.partition('; ')[0]}; {told}"
            session.add(row)
    return bool(rows)


def join(session: Session, subscriber_id: int, slug: str, *, now: datetime, source: str, words: str) -> bool:
    """
    Subscribe a reader we know, by their own act on a page that showed *words*; whether they get it now.

    What they had left comes back, and so does mail to it. A complaint, a bounce, an editor's word or an
    erasure is not undone by this; who has not confirmed their address gets nothing, and what waits for
    the press on the confirming mail goes on waiting.
    """
    row = session.get(Subscriber, subscriber_id)
    if (
        row is None
        or row.status not in ("active", "unsubscribed")
        or is_barred_for_good(session, row.address_hash)
    ):
        return False
    one = session.get(Subscription, (subscriber_id, slug))
    if one is not None and one.state != "left":
        return one.state == "active"
    one = one or Subscription(subscriber_id=subscriber_id, newsletter=slug, since=now)
    one.state, one.since, one.left_at, one.left_reason = "active", now, None, ""
    one.consent_source, one.consent_words, one.consented_at, one.confirmed_at = source, words, now, now
    row.status = "active"
    session.add_all([row, one])
    _lift(session, row, slug)
    return True


def _lift(session: Session, row: Subscriber, slug: str) -> None:
    """Mail to *slug* is allowed again; having left all stays in force for everything else."""
    whole = session.get(Suppression, (row.address_hash, "all"))
    if whole is not None:
        others = session.exec(
            select(Subscription.newsletter).where(
                Subscription.subscriber_id == row.id, Subscription.newsletter != slug
            )
        ).all()
        bar = _bar(session.connection().dialect.name)
        kept = [
            {"hash": row.address_hash, "scope": one, "how": whole.source, "at": whole.suppressed_at}
            for one in others
        ]
        if kept:
            session.connection().execute(bar, kept)
        session.delete(whole)
    mine = session.get(Suppression, (row.address_hash, slug))
    if mine is not None:
        session.delete(mine)


def is_barred_for_good(session: Session, address_hash: str) -> bool:
    """Whether something speaks against mail to the address that no press of a button undoes."""
    reasons = session.exec(select(Suppression.reason).where(Suppression.address_hash == address_hash)).all()
    return not NEVER_LIFTED.isdisjoint(reasons)


def was_just_sent(connection: Connection, slug: str, *, now: datetime) -> bool:
    """Whether an edition of *slug* is going out, or went out within ``JUST_SENT``."""
    found = connection.execute(
        columns(col(EditionRow.id)).where(
            col(EditionRow.newsletter) == slug,
            (col(EditionRow.status) == "submitting") | (col(EditionRow.submitted_at) > now - JUST_SENT),
        )
    ).first()
    return found is not None
