"""
Programs of the publisher's that may use ``/api/v1``: each has a name, a token and what it may do.

A token is shown once, when it is made; the database holds only its hash, so a copy of it opens nothing.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select

from newsletter.errors import NotFound, StateError
from newsletter.store.session import reading, writing
from newsletter.store.tables import ApiToken

PREFIX = "nlt_"
"""What every token begins with, so that scanners for leaked secrets know one."""

_TOKEN = re.compile(rf"{PREFIX}[A-Za-z0-9_-]{{43}}")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")


class Scope(StrEnum):
    """What a token may be used for. To write includes seeing what was written."""

    SUBSCRIBERS_READ = "subscribers:read"
    SUBSCRIBERS_WRITE = "subscribers:write"
    NEWSLETTERS_READ = "newsletters:read"
    EDITIONS_READ = "editions:read"


@dataclass(frozen=True, slots=True)
class Program:
    """A program as it stands; *revoked_at*: from when on its token opens nothing."""

    token_id: int
    name: str
    scopes: frozenset[Scope]
    made_at: datetime
    revoked_at: datetime | None = None


def make_token(engine: Engine, name: str, scopes: Iterable[Scope], *, now: datetime) -> str:
    """
    Make the token of a program; return it, which is the only time it can be seen.

    The name of a program whose token was revoked may be given again: that is how a token is changed.

    Raises:
        StateError: the name is taken, or is no name; or no scope is given.
    """
    wanted = [scope.value for scope in Scope if scope in set(scopes)]
    if not _NAME.fullmatch(name):
        raise StateError(
            "A program's name is at most 40 small letters, digits and hyphens, such as our-site."
        )
    if not wanted:
        raise StateError(f"Say what the program may do: {', '.join(Scope)}.")
    taken = StateError(f"There is a token named {name} already; revoke it first, or choose another name.")
    secret = PREFIX + secrets.token_urlsafe(32)
    try:
        with writing(engine) as session:
            row = session.exec(select(ApiToken).where(ApiToken.name == name).with_for_update()).first()
            if row is not None and row.revoked_at is None:
                raise taken
            row = row or ApiToken(name=name, secret_hash="", made_at=now)
            row.secret_hash, row.scopes, row.made_at, row.revoked_at = _hash(secret), wanted, now, None
            session.add(row)
    except IntegrityError:  # the same name twice at once, and the other was first
        raise taken from None
    return secret


def list_programs(engine: Engine) -> tuple[Program, ...]:
    """All programs by name, those that were revoked too."""
    with reading(engine) as session:
        rows = session.exec(select(ApiToken).order_by(col(ApiToken.name))).all()
    return tuple(_program(row) for row in rows)


def revoke_token(engine: Engine, name: str, *, now: datetime) -> None:
    """
    Make a program's token open nothing, from now on; doing it again changes nothing.

    Raises:
        NotFound: there is no such program.
    """
    with writing(engine) as session:
        row = session.exec(select(ApiToken).where(ApiToken.name == name).with_for_update()).first()
        if row is None:
            raise NotFound(f"There is no token named {name!r}; see newsletter api-token list.")
        row.revoked_at = row.revoked_at or now
        session.add(row)


def find_program(engine: Engine, secret: str) -> Program | None:
    """
    The program whose token *secret* is; None: nobody's, or revoked.

    One look for a hash whatever was guessed: the time tells nothing of what stands in the table.
    """
    looked_for = _hash(secret if _TOKEN.fullmatch(secret) else "")
    with reading(engine) as session:
        row = session.exec(select(ApiToken).where(ApiToken.secret_hash == looked_for)).first()
    return _program(row) if row is not None and row.revoked_at is None else None


def _program(row: ApiToken) -> Program:
    known = frozenset(scope for scope in Scope if scope in row.scopes)
    return Program(row.id or 0, row.name, known, row.made_at, row.revoked_at)


def _hash(secret: str) -> str:
    """What is kept of a token: 256 random bits need no salt and no slow hash."""
    return hashlib.sha256(b"nl-api-token\0" + secret.encode("utf-8", "surrogatepass")).hexdigest()
