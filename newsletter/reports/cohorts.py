"""
How alive readers are: new, active, cooling or gone; now by the month they joined, and week by week.

Of the past only what was kept is known: a reader's row holds the last sign of life alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Engine, case
from sqlalchemy import select as columns
from sqlmodel import Session, col, func, select

from newsletter.reports.numbers import Cohort
from newsletter.store.bulk import hour_of
from newsletter.store.session import writing
from newsletter.store.tables import CohortWeek, Subscriber, Subscription

NEW = timedelta(days=30)
ACTIVE = timedelta(days=30)
COOLING = timedelta(days=90)
"""Joined within the first: new. Else the last sign of life within the second: active, the third: cooling, or gone."""


def cohorts(session: Session, slug: str, *, now: datetime) -> list[Cohort]:
    """Active subscriptions of a newsletter by the month they began, and how alive their readers are."""
    month = func.substr(hour_of(session.connection(), col(Subscription.since)), 1, 7)
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for one, name, number in _count(session, slug, now, month.label("joined_in")):
        found[one][name] = number
    return [Cohort(one, **found[one]) for one in sorted(found)]


def keep_week(engine: Engine, slug: str, *, now: datetime) -> None:
    """Write down how alive a newsletter's readers are now, over what was written earlier in this week."""
    monday = now.date() - timedelta(days=now.weekday())
    with writing(engine) as session:
        numbers = {f"{name}_n": number for name, number in _count(session, slug, now)}
        if numbers:
            session.merge(CohortWeek(newsletter=slug, week=monday, **numbers))


def weeks(session: Session, slug: str, *, now: datetime, last: int = 53) -> list[Cohort]:
    """The *last* weeks that were kept, by their Mondays, oldest first."""
    kept = session.exec(
        select(CohortWeek)
        .where(CohortWeek.newsletter == slug, CohortWeek.week <= now.date())
        .order_by(col(CohortWeek.week).desc())
        .limit(last)
    ).all()
    return [
        Cohort(row.week.isoformat(), row.new_n, row.active_n, row.cooling_n, row.gone_n)
        for row in reversed(kept)
    ]


def _count(session: Session, slug: str, now: datetime, *by: Any) -> Sequence[Any]:
    """(…, how alive, how many) of the active subscriptions of active addresses."""
    seen = col(Subscriber.engaged_at)
    state = case(
        (col(Subscription.since) > now - NEW, "new"),
        (seen > now - ACTIVE, "active"),
        (seen > now - COOLING, "cooling"),
        else_="gone",
    ).label("alive")
    return session.execute(
        columns(*by, state, func.count())
        .join(Subscriber, col(Subscriber.id) == col(Subscription.subscriber_id))
        .where(col(Subscription.newsletter) == slug, col(Subscription.state) == "active", col(Subscriber.status) == "active")
        .group_by(*by, state)
    ).all()  # fmt: skip
