"""
What is said aloud, so that it is said once, whoever else wants to say it and whenever a process dies.

A key is claimed before it is said and kept once it was. A claim of a process that died, or of a mail that was
refused, lapses, and the next who looks says it: at least once, and only after a crash twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Engine, delete
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, col, select

from newsletter.store.session import reading, writing
from newsletter.store.tables import Told

_OWED = "owed "
_AGAIN = timedelta(minutes=5)
_KEPT = timedelta(days=60)


def claim(engine: Engine, key: str, *, at: datetime, lapses: timedelta) -> bool:
    """Take *key* unless it was taken less than *lapses* ago; of several at once one gets it."""
    with writing(engine) as session:
        statement = _insert(session).values(key=key, at=at)
        taken = statement.on_conflict_do_update(
            index_elements=["key"], set_={"at": at}, where=col(Told.at) <= at - lapses
        )
        return session.execute(taken.returning(col(Told.key))).first() is not None


def owe(session: Session, key: str, *, at: datetime) -> None:
    """Promise to say *key*, in the caller's transaction: whoever looks for what is ``owed`` says it."""
    promise = _insert(session).values(key=_OWED + key, at=at - _AGAIN)
    session.execute(promise.on_conflict_do_nothing())


def owed(engine: Engine, what: str) -> tuple[str, ...]:
    """The rest of every promised key that begins with the word *what*, in order."""
    prefix = f"{_OWED}{what} "
    with reading(engine) as session:
        found = session.exec(select(Told.key).where(col(Told.key).startswith(prefix)).order_by(col(Told.key)))
        return tuple(key.removeprefix(prefix) for key in found)


def tell_once(engine: Engine, key: str, *, at: datetime, say: Callable[[], bool]) -> bool:
    """
    *say* it, unless it was said or somebody is saying it; whether it was said now.

    What *say* could not bring out (False) is tried again by whoever looks after five minutes.
    """
    if is_told(engine, key) or not claim(engine, _OWED + key, at=at, lapses=_AGAIN):
        return False
    said_meanwhile = is_told(engine, key)
    if not said_meanwhile and not say():
        return False
    with writing(engine) as session:
        session.execute(delete(Told).where(col(Told.key) == _OWED + key))
        if not said_meanwhile:
            session.execute(_insert(session).values(key=key, at=at).on_conflict_do_nothing())
    return not said_meanwhile


def is_told(engine: Engine, key: str) -> bool:
    """Whether *key* was said."""
    with reading(engine) as session:
        return session.get(Told, key) is not None


def keep_told(engine: Engine, keys: Iterable[str], *, at: datetime) -> None:
    """Remember *keys* as said, because something else said them too."""
    with writing(engine) as session:
        for key in keys:
            session.execute(_insert(session).values(key=key, at=at).on_conflict_do_nothing())


def settle_owed(engine: Engine, key: str) -> None:
    """Drop a promise: there is nothing (more) to say."""
    with writing(engine) as session:
        session.execute(delete(Told).where(col(Told.key) == _OWED + key))


def forget_told(session: Session, beginning: str) -> None:
    """Let what begins with *beginning* be said anew; part of the caller's transaction."""
    for prefix in (beginning, _OWED + beginning):
        session.execute(delete(Told).where(col(Told.key).startswith(prefix, autoescape=True)))


def prune_told(engine: Engine, *, now: datetime) -> None:
    """Delete what was said long ago."""
    with writing(engine) as session:
        session.execute(delete(Told).where(col(Told.at) < now - _KEPT))


def _insert(session: Session) -> Any:
    dialect = session.get_bind().dialect.name
    return (postgresql if dialect == "postgresql" else sqlite).insert(Told)
