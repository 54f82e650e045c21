"""Who is the scheduler now: one row with a heartbeat. A convenience; correctness never rests on it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import Engine, or_, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import col

from newsletter.store.session import reading, writing
from newsletter.store.tables import Lease

LAPSES_AFTER = timedelta(seconds=20)
HEARTBEAT_SECONDS = 5.0


def hold_lease(
    engine: Engine, name: str, owner: str, *, at: datetime, is_dead: Callable[[str], bool]
) -> bool:
    """
    Take or keep the lease *name*; say whether it is *owner*'s now.

    It changes hands when its holder's heartbeat is older than ``LAPSES_AFTER`` or its holder is dead.
    """
    with reading(engine) as session:
        held = session.get(Lease, name)
    if held is None:
        try:
            with writing(engine) as session:
                session.add(Lease(name=name, owner=owner, heartbeat_at=at))
            return True
        except IntegrityError:
            return False
    free = or_(col(Lease.owner) == owner, col(Lease.heartbeat_at) < at - LAPSES_AFTER)
    if held.owner != owner and is_dead(held.owner):
        free = or_(free, col(Lease.owner) == held.owner)
    with writing(engine) as session:
        statement = update(Lease).where(col(Lease.name) == name, free).values(owner=owner, heartbeat_at=at)
        result = session.execute(statement.execution_options(synchronize_session=False))
        return bool(getattr(result, "rowcount", 0) == 1)


def release_lease(engine: Engine, name: str, owner: str) -> None:
    """Give the lease up, so that a standby need not wait for it to lapse."""
    with writing(engine) as session:
        held = session.get(Lease, name)
        if held is not None and held.owner == owner:
            session.delete(held)
