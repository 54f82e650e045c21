"""Export subscribers in our plain shape: what is exported imports again unchanged, and no cell is a formula."""

from __future__ import annotations

import csv
from typing import TextIO

from sqlmodel import Session, col, select

from newsletter.audience.shapes import escaped
from newsletter.store.tables import Subscriber, SubscriberTag, Subscription
from newsletter.times import iso

_COLUMNS = (
    "email",
    "name",
    "plan",
    "newsletters",
    "language",
    "country",
    "timezone",
    "status",
    "plan_until",
    "tags",
)
_PAGE = 1_000


def export_subscribers(session: Session, out: TextIO, *, newsletter: str | None = None) -> int:
    """Write a CSV with header of all subscribers, or of those active in *newsletter*; return the number."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_COLUMNS)
    number = last = 0
    while True:
        query = select(Subscriber).where(col(Subscriber.id) > last).order_by(col(Subscriber.id)).limit(_PAGE)
        if newsletter is not None:
            mine = select(Subscription.subscriber_id).where(
                Subscription.newsletter == newsletter, Subscription.state == "active"
            )
            query = query.where(col(Subscriber.id).in_(mine), Subscriber.status == "active")
        rows = session.exec(query).all()
        if not rows:
            return number
        ids = [row.id for row in rows]
        slugs: dict[int, list[str]] = {}
        for have in session.exec(
            select(Subscription)
            .where(col(Subscription.subscriber_id).in_(ids))
            .order_by(col(Subscription.newsletter))
        ):
            # Who left some newsletters is listed with the others; who left all keeps the list, by status.
            row_left = have.state == "left"
            if not row_left or next(r for r in rows if r.id == have.subscriber_id).status not in (
                "active",
                "pending",
            ):
                slugs.setdefault(have.subscriber_id, []).append(have.newsletter)
        tags: dict[int, list[str]] = {}
        for tag in session.exec(
            select(SubscriberTag)
            .where(col(SubscriberTag.subscriber_id).in_(ids))
            .order_by(col(SubscriberTag.tag))
        ):
            tags.setdefault(tag.subscriber_id, []).append(tag.tag)
        for row in rows:
            cells = (
                row.email, row.name, row.plan, "|".join(slugs.get(row.id or 0, [])), row.language, row.country,
                row.timezone, row.status, iso(row.plan_until) or "", "|".join(tags.get(row.id or 0, [])),
            )  # fmt: skip
            writer.writerow([escaped(cell) for cell in cells])
            number += 1
        last = rows[-1].id or last
        session.expunge_all()
