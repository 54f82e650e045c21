"""
What was read: how many people clicked each story of an edition, kept beside the events.

An edition is counted when its first day is over, and once more after three: then nearly all has come. So a choice
reads some hundred small rows, never the events, and they are there when the events are gone.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta

from sqlalchemy import Engine, delete
from sqlalchemy import select as columns
from sqlmodel import Session, col, func

from newsletter.reports.counting import story_links
from newsletter.store.editions import RAN
from newsletter.store.session import reading, writing
from newsletter.store.tables import EditionRow, StoryRead

FIRST = timedelta(hours=18)  # before the next of a daily is made up
LAST = timedelta(days=3)
_REACH = timedelta(days=28)
"""Events may go after thirty days; what was not counted by then is not counted any more."""


def count_reads(engine: Engine, *, now: datetime) -> int:
    """Count the stories of all editions that wait for it; return how many editions."""
    key = (col(EditionRow.newsletter), col(EditionRow.edition_date))
    known = (col(StoryRead.newsletter), col(StoryRead.edition_date))
    with reading(engine) as session:
        ran = session.execute(
            columns(*key, func.min(EditionRow.frozen_at))
            .where(col(EditionRow.status).in_(RAN), col(EditionRow.frozen_at) > now - _REACH)
            .group_by(*key)
            .order_by(*key)
        ).all()
        counted = session.execute(
            columns(*known, func.min(StoryRead.counted_at))
            .where(col(StoryRead.counted_at) > now - _REACH)
            .group_by(*known)
        ).all()
    counted_at = {(slug, day): at for slug, day, at in counted}
    waiting = [
        (slug, day)
        for slug, day, frozen_at in ran
        if (frozen_at + FIRST <= now and counted_at.get((slug, day)) is None)
        or (frozen_at + LAST <= now and counted_at[slug, day] < frozen_at + LAST)
    ]  # fmt: skip
    for slug, day in waiting:
        with writing(engine) as session:
            _count(session, slug, day, at=now)
    return len(waiting)


def _count(session: Session, slug: str, day: date, *, at: datetime) -> None:
    session.execute(
        delete(StoryRead).where(col(StoryRead.newsletter) == slug, col(StoryRead.edition_date) == day)
    )
    session.add_all(
        StoryRead(
            newsletter=slug,
            edition_date=day,
            url=url,
            place=link.position,
            readers=link.readers,
            counted_at=at,
        )
        for url, link in story_links(session, slug, day).items()
    )
