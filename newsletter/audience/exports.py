"""
Export subscribers: as CSV in our plain shape, which imports again as it is, or as NDJSON with everything held.

No cell of the CSV is a formula for a spreadsheet: one that looks like one gets an apostrophe before it,
which an import takes off again (``shapes.escaped``).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

from sqlalchemy import ColumnElement, Select, case, literal
from sqlalchemy import select as columns
from sqlmodel import Session, col

from newsletter.audience.dossier import dossiers
from newsletter.audience.files import csv_writer
from newsletter.audience.segments import audience_query, variant_index, variants
from newsletter.audience.shapes import escaped, listed
from newsletter.catalogue import CLASSES, Newsletter, Publication, class_of
from newsletter.store.bulk import among, in_pages
from newsletter.store.tables import Subscriber, SubscriberTag, Subscription, Suppression

Format = Literal["csv", "ndjson"]

_COLUMNS = (
    "email", "name", "plan", "newsletters", "language", "country", "timezone", "status", "plan_until", "tags",
    "newsletters_pending", "newsletters_left", "joined_at", "attributes",
)  # fmt: skip
_PAGE = 1_000
_UNMAILED = ("unsubscribed", "bounced", "complained")


@dataclass(frozen=True, slots=True)
class Segmented:
    """
    Who a newsletter would go to at *now*: all, or those of one *variant*.

    A class (``free``, ``paying``) is all of it, whoever is reminded of what; ``paying+<reminder>`` only
    those who get that reminder.
    """

    newsletter: Newsletter
    publication: Publication
    now: datetime
    variant: str = ""

    def queries(self) -> list[Select[Any]]:
        """What selects their ids, one class after the other."""
        return [
            self._reminded(audience_query(self.newsletter, self.publication, plan_class=one, now=self.now))
            for one in self.newsletter.audience.classes
            if not self.variant or class_of(self.variant) == one
        ]

    def _reminded(self, query: Select[Any]) -> Select[Any]:
        if self.variant in ("", *CLASSES):
            return query
        reminders = self.publication.reminders_named(self.newsletter.reminders)
        index = variant_index(self.publication, reminders, self.now)
        return query.where(index == variants(reminders).index(self.variant))


def export_subscribers(
    session: Session,
    out: TextIO,
    *,
    newsletter: str | None = None,
    segment: Segmented | None = None,
    plan: str = "",
    status: str = "",
    file_format: Format = "csv",
) -> int:
    """
    Write all subscribers, or those who are in all that is named; return the number.

    *newsletter*: actively subscribed to it and mailed. *status* is the one that is exported: who left
    all, bounced or complained is ``unsubscribed``, ``bounced``, ``complained``, however we know it.
    """
    writer = csv_writer(out)
    if file_format == "csv":
        writer.writerow(_COLUMNS)
    number = 0
    for query in segment.queries() if segment else [columns(col(Subscriber.id)).order_by(col(Subscriber.id))]:
        for ids in in_pages(session.connection(), _narrowed(query, newsletter, plan, status), _PAGE):
            if file_format == "csv":
                for cells in _rows(session, ids):
                    writer.writerow(cells)
                    number += 1
            else:
                for document in dossiers(session, ids):
                    out.write(json.dumps(document, ensure_ascii=False) + "\n")
                    number += 1
                session.expunge_all()
    return number


def _narrowed(query: Select[Any], newsletter: str | None, plan: str, status: str) -> Select[Any]:
    if newsletter is not None:
        mine = columns(col(Subscription.subscriber_id)).where(
            col(Subscription.newsletter) == newsletter, col(Subscription.state) == "active"
        )
        left = columns(literal(1)).where(
            col(Suppression.address_hash) == col(Subscriber.address_hash),
            col(Suppression.scope) == newsletter,
        )
        query = query.where(
            col(Subscriber.id).in_(mine), _status() == "active", ~left.correlate(Subscriber).exists()
        )
    if plan:
        query = query.where(col(Subscriber.plan) == plan)
    if status:
        query = query.where(_status() == status)
    return query


def _status() -> ColumnElement[str]:
    """The strictest of what the address itself and the suppression of all say."""
    reason = (
        columns(col(Suppression.reason))
        .where(col(Suppression.address_hash) == col(Subscriber.address_hash), col(Suppression.scope) == "all")
        .correlate(Subscriber)
        .scalar_subquery()
    )
    own = col(Subscriber.status)
    return case(
        (own == "complained", "complained"),
        (reason == "complained", "complained"),
        (own == "bounced", "bounced"),
        (reason == "bounced", "bounced"),
        (reason.is_not(None), "unsubscribed"),
        else_=own,
    )


def _rows(session: Session, ids: Sequence[int]) -> Iterator[list[str]]:
    connection: Any = session.connection()  # its rows are typed by columns, where an id may be None
    people = connection.execute(
        columns(
            col(Subscriber.id), col(Subscriber.address_hash), col(Subscriber.email), col(Subscriber.name),
            col(Subscriber.plan), col(Subscriber.plan_until), col(Subscriber.language), col(Subscriber.country),
            col(Subscriber.timezone), _status(), col(Subscriber.joined_at), col(Subscriber.attributes),
        )
        .where(among(connection, col(Subscriber.id), ids))
        .order_by(col(Subscriber.id))
    ).all()  # fmt: skip
    states: dict[int, dict[str, str]] = {row[0]: {} for row in people}
    of_hash = {row[1]: row[0] for row in people}
    tags: dict[int, list[str]] = {row[0]: [] for row in people}
    for reader, slug, state in connection.execute(
        columns(col(Subscription.subscriber_id), col(Subscription.newsletter), col(Subscription.state)).where(
            among(connection, col(Subscription.subscriber_id), ids)
        )
    ):
        states.get(reader, {})[slug] = state
    for hashed, scope in connection.execute(
        columns(col(Suppression.address_hash), col(Suppression.scope)).where(
            among(connection, col(Suppression.address_hash), of_hash), col(Suppression.scope) != "all"
        )
    ):
        states[of_hash[hashed]][scope] = "left"
    for reader, tag in connection.execute(
        columns(col(SubscriberTag.subscriber_id), col(SubscriberTag.tag)).where(
            among(connection, col(SubscriberTag.subscriber_id), ids)
        )
    ):
        tags.get(reader, []).append(tag)
    for (
        reader,
        _hash,
        email,
        name,
        plan,
        until,
        language,
        country,
        zone,
        status,
        joined_at,
        attributes,
    ) in people:
        active, pending, left = _sorted(states[reader], status)
        cells = (
            email, name, plan, listed(active), language, country, zone, status, _exact(until), listed(sorted({tag.strip() for tag in tags[reader]})),
            listed(pending), listed(left), _exact(joined_at),
            json.dumps(attributes, ensure_ascii=False, sort_keys=True) if attributes else "",
        )  # fmt: skip
        yield [escaped(cell.strip()) for cell in cells]


def _sorted(states: dict[str, str], status: str) -> tuple[list[str], list[str], list[str]]:
    """
    Newsletters by what an import is to make of them: as the status says, waiting for consent, left.

    The status of who is not mailed says it for all of theirs.
    """
    slugs = sorted(states)
    if status in _UNMAILED:
        return slugs, [], []
    left = [slug for slug in slugs if states[slug] == "left"]
    pending = [slug for slug in slugs if states[slug] == "pending"] if status == "active" else []
    return [slug for slug in slugs if slug not in left and slug not in pending], pending, left


def _exact(moment: datetime | None) -> str:
    return "" if moment is None else moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
