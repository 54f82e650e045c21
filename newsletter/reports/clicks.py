"""
Clicks, row by row: who clicks three links within a second is no person, whatever they say they are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select as columns
from sqlmodel import Session, col

from newsletter.events import EventKind
from newsletter.store.tables import Event

NO_PERSON_CLICKS = 3
"""So many different links in the same second: a scanner that follows them all."""


class Click:
    """One click on a link; *is_person* as far as it can be told."""

    __slots__ = ("at", "batch", "client", "is_person", "link", "reader")

    def __init__(
        self, reader: str, link: str, at: datetime, client: str, batch: str, is_machine: bool
    ) -> None:
        self.reader, self.link, self.at, self.client, self.batch = reader, link, at, client, batch
        self.is_person = not is_machine


def clicks_of(session: Session, names: Sequence[str]) -> list[Click]:
    """Every click once, whatever ids it was told under."""
    rows = session.execute(
        columns(
            col(Event.reader), col(Event.link), col(Event.occurred_at), col(Event.client), col(Event.batch),
            col(Event.is_machine),
        )
        .where(col(Event.edition).in_(names), col(Event.kind) == EventKind.CLICKED, col(Event.reader) != "")
        .distinct()
    )  # fmt: skip
    found = [Click(*row) for row in rows]
    at_once: dict[tuple[str, datetime], set[str]] = defaultdict(set)
    for one in found:
        at_once[one.reader, one.at].add(one.link)
    for one in found:
        if len(at_once[one.reader, one.at]) >= NO_PERSON_CLICKS:
            one.is_person = False
    return found
