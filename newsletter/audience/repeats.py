"""
A program's request that has a key is done once, however often it is sent.

The key is claimed by a row before anything is done, and the row then says what came of it: a status and
an answer that holds no address. A subscriber in the answer is kept as their public id and looked up again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Engine, delete, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, col

from newsletter.settings import Keys
from newsletter.store.session import writing
from newsletter.store.tables import IdempotentRequest

KEPT = timedelta(hours=24)
"""So long a key is known; after it the same request would be done again."""

ABANDONED = timedelta(minutes=2)
"""A claim that old belongs to a process that is gone: no request of ours takes so long."""

_IN_FLIGHT = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a request led to: a status, and a subscriber (their public id) or a document without addresses."""

    status: int
    reader: str = ""
    answer: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Claim:
    """One key of one program, and a fingerprint of what it was sent with; both are keyed hashes."""

    token_id: int
    key: str
    fingerprint: str


class OtherRequest(ValueError):
    """The key was used for another request."""


class InFlight(RuntimeError):
    """The first request with this key is not done yet."""


def claim_of(token_id: int, key: str, *parts: bytes, keys: Keys) -> Claim:
    """The claim of a request: *parts* are its method, its path and its body."""
    content = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
    return Claim(token_id, _hash(keys, key.encode()), _hash(keys, content))


def _hash(keys: Keys, content: bytes) -> str:
    return hashlib.blake2b(
        content, key=keys.suppression[:64], digest_size=20, person=b"nl-idempotent"
    ).hexdigest()


def claim(engine: Engine, wanted: Claim, *, now: datetime) -> Outcome | None:
    """
    Take the key for this request; None: it is ours to do, and to ``settle`` or ``release``.

    Otherwise what came of it when it was done.

    Raises:
        OtherRequest: the key was used for something else.
        InFlight: the same request is being done.
    """
    with writing(engine) as session:
        if _insert(session, wanted, now):
            return None
        row = session.get(IdempotentRequest, (wanted.token_id, wanted.key), with_for_update=True)
        if row is None:  # released or pruned within this moment
            raise InFlight
        if row.made_at <= now - KEPT or (row.status == _IN_FLIGHT and row.made_at <= now - ABANDONED):
            row.fingerprint, row.status, row.reader, row.answer, row.made_at = (
                wanted.fingerprint,
                _IN_FLIGHT,
                "",
                {},
                now,
            )
            session.add(row)
            return None
        if row.fingerprint != wanted.fingerprint:
            raise OtherRequest
        if row.status == _IN_FLIGHT:
            raise InFlight
        return Outcome(row.status, row.reader, row.answer)


def _insert(session: Session, wanted: Claim, now: datetime) -> bool:
    """Whether the row is ours. On PostgreSQL this waits for another's insert to be committed."""
    insert = (postgresql if session.get_bind().dialect.name == "postgresql" else sqlite).insert
    made = session.execute(
        insert(IdempotentRequest)
        .values(
            token_id=wanted.token_id, key=wanted.key, fingerprint=wanted.fingerprint, status=_IN_FLIGHT, reader="",
            answer={}, made_at=now,
        )
        .on_conflict_do_nothing()
        .returning(col(IdempotentRequest.key))
    )  # fmt: skip
    return made.first() is not None


def settle(engine: Engine, wanted: Claim, outcome: Outcome) -> None:
    """Keep what a claimed request led to."""
    with writing(engine) as session:
        session.execute(
            update(IdempotentRequest)
            .where(
                col(IdempotentRequest.token_id) == wanted.token_id, col(IdempotentRequest.key) == wanted.key
            )
            .values(status=outcome.status, reader=outcome.reader, answer=dict(outcome.answer))
        )


def release(engine: Engine, wanted: Claim) -> None:
    """Give a key back whose request came to nothing, so that it can be sent again."""
    with writing(engine) as session:
        session.execute(
            delete(IdempotentRequest).where(
                col(IdempotentRequest.token_id) == wanted.token_id, col(IdempotentRequest.key) == wanted.key,
                col(IdempotentRequest.status) == _IN_FLIGHT,
            )
        )  # fmt: skip


def forget_repeats(engine: Engine, *, now: datetime) -> int:
    """Delete the keys that are older than ``KEPT``; return how many."""
    with writing(engine) as session:
        gone = session.execute(delete(IdempotentRequest).where(col(IdempotentRequest.made_at) <= now - KEPT))
    return int(gone.rowcount)  # type: ignore[attr-defined]
