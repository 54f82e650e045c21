"""
How often somebody may knock: counted in the database, so that all processes count together.

A key is a keyed hash of an address or a network and of what it did; nobody can read from it who it was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv6Address, ip_address, ip_network

from sqlalchemy import Engine, delete
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, col, select

from newsletter.settings import Keys
from newsletter.store.session import reading, writing
from newsletter.store.tables import Attempts


@dataclass(frozen=True, slots=True)
class Limit:
    """*action* at most *n* times in each window of *per*."""

    action: str
    n: int
    per: timedelta


@dataclass(frozen=True, slots=True)
class Knock:
    """Somebody (an address's key, a network, a token) does what *limit* bounds."""

    limit: Limit
    who: str


def knock(engine: Engine, knocks: Iterable[Knock], *, keys: Keys, now: datetime) -> tuple[Limit, ...]:
    """
    Count each of *knocks*, in one transaction, one statement each; return the limits that are exceeded.

    As many statements whether a limit is exceeded or not, known or unknown: the time tells nothing.
    """
    ordered = sorted(knocks, key=lambda one: (one.limit.action, one.who))  # always in one order: no deadlock
    with writing(engine) as session:
        return tuple(one.limit for one in ordered if _count(session, one, keys=keys, now=now) > one.limit.n)


def knocks_so_far(engine: Engine, one: Knock, *, keys: Keys, now: datetime) -> int:
    """How often it happened in the window that is open now; counts nothing."""
    with reading(engine) as session:
        found = session.exec(
            select(Attempts.n).where(
                Attempts.key == _key(one, keys), Attempts.window == _window(one.limit, now)
            )
        ).first()
    return found or 0


def _count(session: Session, one: Knock, *, keys: Keys, now: datetime) -> int:
    dialect = session.get_bind().dialect.name
    insert = (postgresql if dialect == "postgresql" else sqlite).insert
    statement = insert(Attempts).values(key=_key(one, keys), window=_window(one.limit, now), n=1)
    counted = statement.on_conflict_do_update(index_elements=["key", "window"], set_={"n": Attempts.n + 1})
    return int(session.execute(counted.returning(col(Attempts.n))).scalar_one())


def networks_of(address: str) -> tuple[str, str]:
    """
    The narrow and the wide network an address is counted under: IPv4 itself and its /24, IPv6 /64 and /48.

    An address nobody can read (a Unix socket) is one of its own.
    """
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return "unknown", "unknown"
    if isinstance(found, IPv6Address) and found.ipv4_mapped:
        found = found.ipv4_mapped
    narrow, wide = (64, 48) if isinstance(found, IPv6Address) else (32, 24)
    return str(ip_network(f"{found}/{narrow}", strict=False)), str(
        ip_network(f"{found}/{wide}", strict=False)
    )


def prune(engine: Engine, *, now: datetime) -> int:
    """Delete the windows that are past."""
    with writing(engine) as session:
        gone = session.execute(delete(Attempts).where(col(Attempts.window) < int(now.timestamp())))
    return int(gone.rowcount)  # type: ignore[attr-defined]


def _window(limit: Limit, now: datetime) -> int:
    seconds = int(limit.per.total_seconds())
    return (int(now.timestamp()) // seconds + 1) * seconds


def _key(one: Knock, keys: Keys) -> str:
    text = f"{one.limit.action}\0{int(one.limit.per.total_seconds())}\0{one.who}".encode()
    return hashlib.blake2b(text, key=keys.suppression[:64], digest_size=16, person=b"nl-attempts").hexdigest()
