"""Who is known: people of a chunk read in a few look-ups, and what became of them written in a few statements."""

from __future__ import annotations

import pickle
import sqlite3
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, select, update
from sqlmodel import col

from newsletter.audience.merging import MERGED, Changes, Checked, Origin, Person
from newsletter.audience.subscribers import new_reader
from newsletter.store.bulk import among, insert_rows, new_subscriber_ids
from newsletter.store.tables import Subscriber, SubscriberTag, Subscription, Suppression

People = dict[str, Person]
Scopes = dict[str, set[str]]

_PERSON = tuple(
    col(getattr(Subscriber, name))
    for name in (
        "id", "email", "email_key", "address_hash", "name", "plan", "plan_until", "language", "country", "timezone",
        "status", "attributes", "joined_at",
    )
)  # fmt: skip
_SUBSCRIBER = (
    "id", "reader", "email", "email_key", "address_hash", "name", "language", "country", "timezone", "plan", "plan_until",
    "status", "attributes", "joined_at", "updated_at", "pending_email", "deliver_at",
)  # fmt: skip
_SUBSCRIPTION = (
    "subscriber_id", "newsletter", "state", "since", "consent_source", "consent_words", "consented_at", "confirmed_at",
    "left_at", "left_reason",
)  # fmt: skip


def look(connection: Connection, chunk: Sequence[Checked]) -> tuple[People, Scopes]:
    """Those of *chunk* who are known, by key, and the scopes their addresses are suppressed for, by hash."""
    keys = {one.key for one in chunk}
    hashes = {one.hash for one in chunk}
    people: People = {}
    found = connection.execute(select(*_PERSON).where(among(connection, col(Subscriber.email_key), keys)))
    by_id = {row[0]: Person(*row) for row in found}
    if by_id:
        for person in by_id.values():
            people[person.key] = person
        slugs = connection.execute(
            select(
                col(Subscription.subscriber_id), col(Subscription.newsletter), col(Subscription.state)
            ).where(among(connection, col(Subscription.subscriber_id), by_id))
        )
        for subscriber_id, slug, state in slugs:
            by_id[subscriber_id].subscriptions[slug] = state
        tags = connection.execute(
            select(col(SubscriberTag.subscriber_id), col(SubscriberTag.tag)).where(
                among(connection, col(SubscriberTag.subscriber_id), by_id)
            )
        )
        for subscriber_id, tag in tags:
            by_id[subscriber_id].tags.add(tag)
    suppressed: Scopes = {}
    scopes = connection.execute(
        select(col(Suppression.address_hash), col(Suppression.scope)).where(
            among(connection, col(Suppression.address_hash), hashes)
        )
    )
    for hashed, scope in scopes:
        suppressed.setdefault(hashed, set()).add(scope)
    return people, suppressed


def write(connection: Connection, changes: Changes, origin: Origin) -> None:
    """
    Write what *changes* says, in the caller's transaction.

    Raises:
        IntegrityError: somebody else added one of them meanwhile.
    """
    now = origin.now
    if changes.new:
        for person, number in zip(changes.new, new_subscriber_ids(connection, len(changes.new)), strict=True):
            person.id = number
        insert_rows(
            connection, _table(Subscriber), _SUBSCRIBER,
            [
                (
                    one.id, new_reader(), one.email, one.key, one.hash, one.name, one.language, one.country, one.timezone,
                    one.plan, one.plan_until, one.status, one.attributes, one.joined_at, now, "", "",
                )
                for one in changes.new
            ],
        )  # fmt: skip
    insert_rows(
        connection, _table(Subscription), _SUBSCRIPTION, [(row[0].id, *row[1:]) for row in changes.subscribed]
    )
    tags = [(person.id, tag) for person, tag in changes.tagged]
    insert_rows(connection, _table(SubscriberTag), ("subscriber_id", "tag"), tags)
    insert_rows(
        connection, _table(Suppression), ("address_hash", "scope", "reason", "source", "suppressed_at"),
        [(hashed, scope, reason, f"import {origin.file}", now) for hashed, scope, reason in changes.suppressed],
    )  # fmt: skip
    _update(connection, changes, origin)


def _update(connection: Connection, changes: Changes, origin: Origin) -> None:
    if changes.changed:
        values: dict[str, Any] = {name: bindparam(f"new_{name}") for name in MERGED}
        connection.execute(
            update(Subscriber)
            .where(col(Subscriber.id) == bindparam("of"))
            .values(**values, updated_at=origin.now),
            [
                {"of": number, **{f"new_{name}": getattr(person, name) for name in MERGED}}
                for number, person in sorted(changes.changed.items())
            ],
        )
    mine = (
        col(Subscription.subscriber_id) == bindparam("of"),
        col(Subscription.newsletter) == bindparam("slug"),
    )
    if changes.activated:
        connection.execute(
            update(Subscription)
            .where(*mine, col(Subscription.state) == "pending")
            .values(state="active", confirmed_at=bindparam("at")),
            [{"of": person.id, "slug": slug, "at": at} for person, slug, at in changes.activated],
        )
    if changes.ended:
        connection.execute(
            update(Subscription)
            .where(*mine, col(Subscription.state) != "left")
            .values(state="left", left_at=origin.now, left_reason=bindparam("why")),
            [{"of": person.id, "slug": slug, "why": why} for person, slug, why in changes.ended],
        )


def _table(model: Any) -> Any:
    return model.__table__


class Draft:
    """What a dry run would have written so far, on disk: later rows must see it, and memory stays flat."""

    def __init__(self) -> None:
        self._kept = sqlite3.connect("")  # a private file that goes with the connection
        self._kept.execute("PRAGMA synchronous = OFF")
        self._kept.execute("CREATE TABLE person (key TEXT PRIMARY KEY, person BLOB NOT NULL) WITHOUT ROWID")
        self._kept.execute(
            "CREATE TABLE banned (hash TEXT, scope TEXT, PRIMARY KEY (hash, scope)) WITHOUT ROWID"
        )

    def overlay(self, chunk: Sequence[Checked], people: People, suppressed: Scopes) -> None:
        """Put what was kept over what the database says of a chunk."""
        for one in chunk:
            row = self._kept.execute("SELECT person FROM person WHERE key = ?", (one.key,)).fetchone()
            if row:
                people[one.key] = pickle.loads(row[0])  # noqa: S301  # what we put there ourselves, in this process
            for (scope,) in self._kept.execute("SELECT scope FROM banned WHERE hash = ?", (one.hash,)):
                suppressed.setdefault(one.hash, set()).add(scope)

    def keep(self, changes: Changes) -> None:
        """Keep what a chunk would have written."""
        with self._kept:
            self._kept.executemany(
                "INSERT OR REPLACE INTO person VALUES (?, ?)",
                ((key, pickle.dumps(person)) for key, person in changes.touched.items()),
            )
            self._kept.executemany(
                "INSERT OR IGNORE INTO banned VALUES (?, ?)", (row[:2] for row in changes.suppressed)
            )

    def close(self) -> None:
        """Throw it away."""
        self._kept.close()
