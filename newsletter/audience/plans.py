"""What a reader pays for and until when: plans set by a person, a file or a program."""

from __future__ import annotations

from datetime import date, datetime, timedelta

from sqlalchemy import Engine
from sqlmodel import Session, select

from newsletter.audience.addresses import normalise
from newsletter.catalogue import Publication
from newsletter.errors import NotFound
from newsletter.store.session import writing
from newsletter.store.tables import Subscriber
from newsletter.times import end_of_day, parse_instant


def parse_until(text: str, zone: str) -> datetime:
    """
    Read the end of a plan: an instant with its zone, or a date, which means the end of that day in *zone*.

    Raises:
        ValueError: it is neither.
    """
    try:
        return end_of_day(date.fromisoformat(text.strip()), zone)
    except (ValueError, OverflowError):
        return parse_instant(text)


def check_plan(publication: Publication, plan: str) -> None:
    """
    Make sure *plan* is one of ours.

    Raises:
        NotFound: names those there are.
    """
    known = [one.id for one in publication.plans]
    if plan not in known:
        raise NotFound(f"There is no plan {plan!r}; there are {', '.join(known)}.")


def first_end(publication: Publication, plan: str, *, now: datetime) -> datetime | None:
    """When a plan that begins *now* ends if nobody says: a trial after its days, any other never."""
    days = next((one.days for one in publication.plans if one.id == plan and one.trial), 0)
    return now + timedelta(days=days) if days else None


def carried_end(
    publication: Publication, *, before: tuple[str, datetime | None], plan: str, now: datetime
) -> datetime | None:
    """
    When *plan* ends for somebody who was on ``(plan, end)`` *before*, if nobody says.

    The same plan keeps its end, so a trial is not begun again; from one paid plan to another the end
    that was paid for stays; what ended with a trial or a free plan does not.
    """
    old, end = before
    paid = publication.class_of(old) == publication.class_of(plan) == "paying"
    if old == plan or (paid and not {old, plan} & set(publication.trial_plans)):
        return end
    return first_end(publication, plan, now=now)


def set_plan(
    session: Session,
    row: Subscriber,
    plan: str,
    *,
    publication: Publication,
    now: datetime,
    until: datetime | None,
) -> None:
    """
    Put a subscriber on *plan* until *until*; without one a trial ends after its days, any other never.

    Raises:
        NotFound: there is no such plan.
    """
    check_plan(publication, plan)
    row.plan, row.plan_until = plan, until or first_end(publication, plan, now=now)
    row.updated_at = now
    session.add(row)


def change_plan(
    engine: Engine,
    email: str,
    plan: str,
    *,
    publication: Publication,
    now: datetime,
    until: datetime | None = None,
    is_endless: bool = False,
) -> datetime | None:
    """
    Put an address on *plan* until *until*; return the end.

    Without one what was paid for stays, as with an import (``carried_end``), unless it *is_endless*.

    Raises:
        NotFound: the address or the plan is not known.
    """
    check_plan(publication, plan)
    with writing(engine) as session:
        try:
            _, key = normalise(email)
        except ValueError:
            key = ""
        row = session.exec(select(Subscriber).where(Subscriber.email_key == key).with_for_update()).first()
        if row is None:
            raise NotFound("We do not know this address.")
        carried = carried_end(publication, before=(row.plan, row.plan_until), plan=plan, now=now)
        row.plan, row.plan_until, row.updated_at = plan, None if is_endless else until or carried, now
        session.add(row)
        return row.plan_until
