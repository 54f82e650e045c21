"""Sources that cannot be read any more, and those that are read and bring nothing."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from sqlalchemy import select as columns
from sqlmodel import col, func, select

from newsletter.desk import Desk
from newsletter.store.session import reading
from newsletter.store.tables import ArticleRow, SourceState
from newsletter.watch.alarms.alarm import Alarm

STALE = timedelta(days=7)
DEAD = timedelta(days=3)


def of_sources(desk: Desk, at: datetime) -> Iterator[Alarm]:
    """Of every source that newsletters draw on."""
    ours = {one.id: one.name or one.id for one in desk.catalogue.publication.feeds}
    with reading(desk.engine) as session:
        states = session.exec(select(SourceState).where(col(SourceState.source).in_(ours))).all()
        newest = dict(
            session.execute(
                columns(col(ArticleRow.source), func.max(col(ArticleRow.first_seen_at)))
                .where(col(ArticleRow.source).in_(ours))
                .group_by(col(ArticleRow.source))
            ).all()
        )  # fmt: skip
    for state in sorted(states, key=lambda one: one.source):
        name, read_at = ours[state.source], state.last_success_at or state.first_fetched_at
        came_at = newest.get(state.source, state.first_fetched_at)
        if at - read_at > DEAD and state.failures:
            yield Alarm(
                f"dead {state.source} {read_at:%Y-%m-%d}", "a dead feed",
                f"{name} was not read since {read_at:%Y-%m-%d %H:%M} UTC: {state.last_error}",
                "Mend its address in publication.toml, or take it out.",
            )  # fmt: skip
        elif at - came_at > STALE and at - read_at <= DEAD:
            yield Alarm(
                f"stale {state.source} {came_at:%Y-%m-%d}", "a stale feed",
                f"{name} can be read, but has brought nothing new since {came_at:%Y-%m-%d}.",
                "Look whether its address still is the right one; newsletters that need it may run thin.",
            )  # fmt: skip
