"""
Keeping: events go after a while, what was counted of them stays.

An edition is counted whole once more before its events are deleted, in one transaction.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta

from sqlalchemy import Engine, delete
from sqlalchemy import select as columns
from sqlmodel import Session, col, func, select

from newsletter.reports.counting import edition_numbers
from newsletter.store.editions import edition_ref, revisions
from newsletter.store.session import reading, writing
from newsletter.store.tables import Counted, EditionRow, Event

_CHUNK = 5000


def prune_events(engine: Engine, *, now: datetime, keep: timedelta) -> int:
    """Count what is older than *keep* for the last time and delete its events; return how many editions."""
    with reading(engine) as session:
        known = columns(col(Counted.newsletter), col(Counted.edition_date))
        counted = {(row[0], row[1]) for row in session.execute(known)}
        old = session.execute(
            columns(col(EditionRow.newsletter), col(EditionRow.edition_date))
            .group_by(col(EditionRow.newsletter), col(EditionRow.edition_date))
            .having(func.max(EditionRow.frozen_at) < now - keep)
        ).all()
    for slug, day in sorted({(row[0], row[1]) for row in old} - counted):
        with writing(engine) as session:
            _put_by(session, slug, day, at=now)
    _delete_oldest(engine, before=now - keep)
    return len({(row[0], row[1]) for row in old} - counted)


def _put_by(session: Session, slug: str, day: date, *, at: datetime) -> None:
    numbers = edition_numbers(session, slug, day)
    if numbers is None or session.get(Counted, (slug, day)) is not None:
        return
    session.add(Counted(newsletter=slug, edition_date=day, numbers=numbers.as_json(), counted_at=at))
    names = [edition_ref(row) for row in revisions(session, slug, day)]
    session.execute(delete(Event).where(col(Event.edition).in_(names)))


def _delete_oldest(engine: Engine, *, before: datetime) -> None:
    """Whatever else came so long ago; ids ascend as events come, so only the beginning is looked at."""
    while True:
        with writing(engine) as session:
            first = session.exec(
                select(Event.id, Event.received_at).order_by(col(Event.id)).limit(_CHUNK)
            ).all()
            old = [event_id for event_id, received_at in first if received_at < before]
            if old:
                session.execute(delete(Event).where(col(Event.id).in_(old)))
        if len(old) < _CHUNK:
            return
