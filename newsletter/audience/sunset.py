"""
Sunset: readers who show no sign of life are asked whether they still want it, then paused, then stopped.

Each step is a row with its reason, and one press takes it back. Nothing is done on silence of ours: who is
asked is known, by the provider's own word, to have got enough editions, and where nothing is heard at all
nobody is asked, paused or stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import distinct, update
from sqlalchemy import select as columns
from sqlmodel import Session, col, func, select

from newsletter.catalogue import Sunset
from newsletter.store.bulk import among
from newsletter.store.tables import Subscriber, Subscription, SunsetStep

STOPPED = "stopped: no sign of life"


class Step(StrEnum):
    """What was done; drawn in the module's name."""

    ASKING = "asking"
    ASKED = "asked"
    PAUSED = "paused"
    STOPPED = "stopped"
    STAYED = "stayed"


OPEN = (Step.ASKING, Step.ASKED, Step.PAUSED)
"""Steps after which something follows by itself."""


@dataclass(frozen=True, slots=True)
class Next:
    """A step that is due for a reader, and why; *of_step* is the row it follows, 0 for none."""

    subscriber_id: int
    reader: str
    step: Step
    reason: str
    quiet_since: datetime
    of_step: int = 0


def take(session: Session, due: Next, rule: Sunset, *, now: datetime) -> bool:
    """
    Take a step, if nothing was done since it became due; whether it was taken. Part of the caller's transaction.

    ``asking`` only says that the mail is about to go: ``was_asked`` follows when it has gone.
    """
    held = session.exec(
        select(Subscriber).where(Subscriber.id == due.subscriber_id).with_for_update(key_share=True)
    ).first()
    newest = newest_step(session, due.subscriber_id)
    of_step = newest.id if newest is not None else 0
    is_other = of_step != due.of_step if due.of_step else _is_handled(newest, now)
    if held is None or is_other:
        return False
    until = None
    match due.step:
        case Step.ASKING if newest is not None and newest.step == Step.ASKING:
            return True
        case Step.PAUSED:
            until = now + timedelta(days=rule.pause_days)
            held.paused_until = max(held.paused_until or until, until)
        case Step.STOPPED:
            _end_pause(held, newest)
            _stop(session, due, now)
        case Step.STAYED:
            until = now + timedelta(days=rule.alone_days)
            _end_pause(held, newest)
    session.add(held)
    _add(session, due.subscriber_id, due.step, due.reason, quiet_since=due.quiet_since, until=until, now=now)
    return True


def was_asked(session: Session, subscriber_id: int, *, now: datetime) -> None:
    """The mail has gone: from now on the answer is waited for."""
    newest = newest_step(session, subscriber_id)
    if newest is not None and newest.step == Step.ASKING:
        newest.step, newest.at = Step.ASKED, now
        session.add(newest)


def stay(session: Session, subscriber_id: int, rule: Sunset, *, now: datetime) -> bool:
    """
    A reader says that they still want it: what was done about them is taken back, and they are left alone.

    Also ends a pause of the rule's, and brings back what it stopped. Whether anything was taken back.
    """
    row = session.exec(select(Subscriber).where(Subscriber.id == subscriber_id).with_for_update()).first()
    if row is None:
        return False
    newest = newest_step(session, subscriber_id)
    row.engaged_at = now
    is_back = newest is not None and newest.step in (Step.PAUSED, Step.STOPPED)
    _end_pause(row, newest)
    if newest is not None and newest.step == Step.STOPPED:
        session.execute(
            update(Subscription)
            .where(
                col(Subscription.subscriber_id) == subscriber_id, col(Subscription.state) == "left",
                col(Subscription.left_at) == newest.at, col(Subscription.left_reason).startswith(STOPPED),
            )
            .values(state="active", left_at=None, left_reason="")
            .execution_options(synchronize_session=False)
        )  # fmt: skip
    session.add(row)
    if newest is None or newest.step != Step.STAYED:
        until = now + timedelta(days=rule.alone_days)
        _add(session, subscriber_id, Step.STAYED, "said so", quiet_since=now, until=until, now=now)
    return is_back


def _end_pause(row: Subscriber, newest: SunsetStep | None) -> None:
    """Wake a reader whom the rule paused; a pause of their own stays."""
    if newest is not None and newest.step == Step.PAUSED and row.paused_until == newest.until:
        row.paused_until = None


def _stop(session: Session, due: Next, now: datetime) -> None:
    """End what they get; nothing is suppressed, because it is not they who said so."""
    session.execute(
        update(Subscription)
        .where(col(Subscription.subscriber_id) == due.subscriber_id, col(Subscription.state) == "active")
        .values(state="left", left_at=now, left_reason=f"{STOPPED}; {due.reason}")
        .execution_options(synchronize_session=False)
    )


def _is_handled(newest: SunsetStep | None, now: datetime) -> bool:
    if newest is None:
        return False
    return newest.step in OPEN or (newest.until is not None and newest.until > now)


def _add(
    session: Session,
    subscriber_id: int,
    step: Step,
    reason: str,
    *,
    quiet_since: datetime,
    until: datetime | None,
    now: datetime,
) -> None:
    session.add(
        SunsetStep(
            subscriber_id=subscriber_id,
            step=step,
            at=now,
            quiet_since=quiet_since,
            reason=reason,
            until=until,
        )
    )


# --- what is told -----------------------------------------------------------------------------------


def newest_step(session: Session, subscriber_id: int) -> SunsetStep | None:
    """The last thing that was done about a reader."""
    return session.exec(
        select(SunsetStep)
        .where(SunsetStep.subscriber_id == subscriber_id)
        .order_by(col(SunsetStep.id).desc())
        .limit(1)
    ).first()


def steps_of(session: Session, ids: Sequence[int]) -> dict[int, list[SunsetStep]]:
    """Everything that was done about each of *ids*, oldest first."""
    found: dict[int, list[SunsetStep]] = {}
    mine = among(session.connection(), col(SunsetStep.subscriber_id), ids)
    for row in session.exec(select(SunsetStep).where(mine).order_by(col(SunsetStep.id))):
        found.setdefault(row.subscriber_id, []).append(row)
    return found


def gets(session: Session, subscriber_id: int) -> tuple[str, ...]:
    """The newsletters a reader gets."""
    mine = (Subscription.subscriber_id == subscriber_id, Subscription.state == "active")
    return tuple(
        session.exec(select(Subscription.newsletter).where(*mine).order_by(col(Subscription.newsletter)))
    )


def standing(session: Session, slug: str) -> dict[str, int]:
    """How many of a newsletter's readers are asked, paused or stopped by the rule now."""
    newest = columns(func.max(col(SunsetStep.id))).group_by(col(SunsetStep.subscriber_id))
    rows = session.execute(
        columns(col(SunsetStep.step), func.count(distinct(col(SunsetStep.subscriber_id))))
        .join(Subscription, col(Subscription.subscriber_id) == col(SunsetStep.subscriber_id))
        .where(
            col(SunsetStep.id).in_(newest), col(Subscription.newsletter) == slug,
            (col(Subscription.state) == "active") | col(Subscription.left_reason).startswith(STOPPED),
        )
        .group_by(col(SunsetStep.step))
    )  # fmt: skip
    told = {row[0]: int(row[1]) for row in rows}
    return {str(step): told.get(step, 0) for step in (Step.ASKED, Step.PAUSED, Step.STOPPED)}
