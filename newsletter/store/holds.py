"""Newsletters that are held as a whole, until a person releases them: why, and since when."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime

from sqlmodel import Session

from newsletter.store.tables import Installation
from newsletter.times import iso, parse_instant


@dataclass(frozen=True, slots=True)
class Hold:
    """*reason* is one or two sentences, *since* aware UTC."""

    reason: str
    since: datetime


def hold_newsletter(session: Session, slug: str, *, reason: str, at: datetime) -> None:
    """Let no edition of *slug* go by itself from now on."""
    session.merge(Installation(name=_name(slug), value=json.dumps({"reason": reason, "since": iso(at)})))


def hold_of(session: Session, slug: str) -> Hold | None:
    """Why *slug* is held, if it is."""
    row = session.get(Installation, _name(slug))
    if row is None:
        return None
    told = json.loads(row.value)
    return Hold(told["reason"], parse_instant(told["since"]))


def release_newsletter(session: Session, slug: str) -> bool:
    """Let editions of *slug* go again; whether it was held."""
    row = session.get(Installation, _name(slug))
    if row is None:
        return False
    session.delete(row)
    return True


def _name(slug: str) -> str:
    return f"held {slug}"
