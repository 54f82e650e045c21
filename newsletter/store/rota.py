"""Since when a rota of a newsletter is kept in this database: nothing before it is owed."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime

from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session

from newsletter.store.session import reading, writing
from newsletter.store.tables import Installation
from newsletter.times import iso, parse_instant

_SINCE = "rota-since"


def kept_since(session: Session, slug: str) -> datetime | None:
    """When the rota of a newsletter was begun; None: nobody has looked yet."""
    row = session.get(Installation, f"{_SINCE} {slug}")
    return parse_instant(row.value) if row is not None else None


def keep_from(engine: Engine, slug: str, *, at: datetime) -> datetime:
    """Begin the rota of a newsletter at *at*, or go on with the one that is kept; return since when."""
    with reading(engine) as session:
        if (since := kept_since(session, slug)) is not None:
            return since
    with suppress(IntegrityError), writing(engine) as session:  # another process may begin it first
        session.add(Installation(name=f"{_SINCE} {slug}", value=iso(at) or ""))
    with reading(engine) as session:
        return kept_since(session, slug) or at
