"""How many readers two newsletters share."""

from __future__ import annotations

from sqlalchemy import func
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

from newsletter.store.tables import Subscription

_ENOUGH = 50_000


def shares(session: Session, slug: str) -> dict[str, float]:
    """
    For each other newsletter, the share (0 to 1) of the smaller of both audiences that gets both.

    Counted over active subscriptions; of a large list every so-many-th reader is counted.
    """
    last = session.exec(select(func.max(Subscription.subscriber_id))).one() or 0
    step = max(1, last // _ENOUGH)
    sizes = dict(
        session.exec(
            select(Subscription.newsletter, func.count())
            .where(Subscription.state == "active", col(Subscription.subscriber_id) % step == 0)
            .group_by(col(Subscription.newsletter))
        ).all()
    )
    ours, theirs = aliased(Subscription), aliased(Subscription)
    common = session.exec(
        select(col(theirs.newsletter), func.count())
        .join(ours, col(ours.subscriber_id) == col(theirs.subscriber_id))
        .where(
            col(ours.newsletter) == slug,
            col(ours.state) == "active",
            col(theirs.newsletter) != slug,
            col(theirs.state) == "active",
            col(ours.subscriber_id) % step == 0,
        )
        .group_by(col(theirs.newsletter))
    ).all()
    return {other: count / min(sizes[slug], sizes[other]) for other, count in common}
