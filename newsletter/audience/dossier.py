"""Everything held about people: what ``subscribers show``, an NDJSON export and a reader's own download say."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlmodel import Session, col, select

from newsletter.audience.sunset import steps_of
from newsletter.store.bulk import among
from newsletter.store.tables import Subscriber, SubscriberTag, Subscription, Suppression
from newsletter.times import iso


def dossiers(session: Session, ids: Sequence[int]) -> list[dict[str, Any]]:
    """A document for each of *ids* who is still there, by ascending id; instants are ISO 8601."""
    connection = session.connection()
    people = session.exec(
        select(Subscriber).where(among(connection, col(Subscriber.id), ids)).order_by(col(Subscriber.id))
    ).all()
    slugs: dict[int, list[Subscription]] = defaultdict(list)
    for one in session.exec(
        select(Subscription)
        .where(among(connection, col(Subscription.subscriber_id), ids))
        .order_by(col(Subscription.newsletter))
    ):
        slugs[one.subscriber_id].append(one)
    tags: dict[int, list[str]] = defaultdict(list)
    for tag in session.exec(
        select(SubscriberTag).where(among(connection, col(SubscriberTag.subscriber_id), ids))
    ):
        tags[tag.subscriber_id].append(tag.tag)
    suppression: dict[str, list[Suppression]] = defaultdict(list)
    hashes = [row.address_hash for row in people]
    for entry in session.exec(
        select(Suppression)
        .where(among(connection, col(Suppression.address_hash), hashes))
        .order_by(col(Suppression.scope))
    ):
        suppression[entry.address_hash].append(entry)
    steps = steps_of(session, ids)
    return [
        {
            **_document(row, slugs[row.id or 0], sorted(tags[row.id or 0]), suppression[row.address_hash]),
            "sunset": [
                {"step": one.step, "at": iso(one.at), "reason": one.reason, "until": iso(one.until)}
                for one in steps.get(row.id or 0, ())
            ],
        }
        for row in people
    ]


def _document(
    row: Subscriber,
    subscriptions: Sequence[Subscription],
    tags: Sequence[str],
    suppression: Sequence[Suppression],
) -> dict[str, Any]:
    return {
        "email": row.email,
        "name": row.name,
        "status": row.status,
        "plan": row.plan,
        "plan_until": iso(row.plan_until),
        "language": row.language,
        "country": row.country,
        "timezone": row.timezone,
        "tags": list(tags),
        "attributes": row.attributes,
        "joined_at": iso(row.joined_at),
        "updated_at": iso(row.updated_at),
        "engaged_at": iso(row.engaged_at),
        "paused_until": iso(row.paused_until),
        "deliver_at": row.deliver_at,
        "pending_email": row.pending_email,
        "subscriptions": [
            {
                "newsletter": one.newsletter, "state": one.state, "since": iso(one.since), "left_at": iso(one.left_at),
                "left_reason": one.left_reason,
                "consent": {
                    "source": one.consent_source, "words": one.consent_words, "at": iso(one.consented_at),
                    "confirmed_at": iso(one.confirmed_at),
                },
            }
            for one in subscriptions
        ],
        "suppression": [
            {"scope": one.scope, "reason": one.reason, "source": one.source, "at": iso(one.suppressed_at)}
            for one in suppression
        ],
    }  # fmt: skip
