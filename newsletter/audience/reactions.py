"""
Reactions: what mailboxes and readers answered by way of the provider, applied to addresses at once.

Events come in any order, so each may only make things stricter or later: an address goes from
unsubscribed to bounced to complained, a reader's last sign of life only forward.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

from sqlalchemy import bindparam, update
from sqlalchemy import select as columns
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, col, func, select

from newsletter.events import NOT_TOLD, EventKind, NoMore, ProviderEvent
from newsletter.store.tables import Event, Subscriber, Subscription, Suppression

T = TypeVar("T")

SOFT_FAILURES = 5
SOFT_FAILURES_WITHIN = timedelta(days=7)
"""So many editions in a row that a mailbox blocked, over at least so long, with nothing delivered since."""

_JUST_JOINED = timedelta(days=1)
"""For so long the provider may go on dropping who had left there, until its list was put right."""

_CHUNK = 1000
"""Values in one IN; both databases take many more."""

_GRAVITY = {reason: gravity for gravity, reason in enumerate(NoMore)}
_MILDER_STATUS = {
    NoMore.BOUNCED: ("active", "pending", "unsubscribed"),
    NoMore.COMPLAINED: ("active", "pending", "unsubscribed", "bounced"),
}


def react(session: Session, new: Mapping[str, Sequence[ProviderEvent]], *, at: datetime) -> int:
    """
    Do what *new* events, by address hash, say of their addresses; return how many are suppressed now.

    An event that comes again, under whatever id, or late, does not undo what a reader did after it happened:
    who left at the provider and has joined again since stays.
    """
    gravest: dict[str, ProviderEvent] = {}
    engaged: dict[str, datetime] = {}
    left: dict[str, datetime] = {}
    for hashed, events in new.items():
        if not hashed:
            continue
        final = [event for event in events if event.no_more is not None]
        if final:
            gravest[hashed] = max(final, key=_how_grave)
        leaving = [_left_at(event, at) for event in final if event.no_more is NoMore.UNSUBSCRIBED]
        if leaving:
            left[hashed] = max(leaving)
        seen = [_when(event, at) for event in events if _is_sign_of_life(event)]
        if seen:
            engaged[hashed] = max(seen)
    for hashed, event in _given_up(session, new).items():
        gravest.setdefault(hashed, event)
    subscribers = _lock_subscribers(session, sorted({*gravest, *engaged}))
    for hashed in came_back(session, left):
        if gravest[hashed].no_more is NoMore.UNSUBSCRIBED:
            del gravest[hashed]
    _mark(session, subscribers, gravest, at)
    _engage(session, subscribers, engaged)
    _end_subscriptions(session, {row[0]: left[row[1]] for row in subscribers if row[1] in left}, at)
    return _suppress(session, gravest, at)


def _when(event: ProviderEvent, at: datetime) -> datetime:
    """When it happened; never later than now, and now where nobody says."""
    return at if event.occurred_at == NOT_TOLD else min(event.occurred_at, at)


def _left_at(event: ProviderEvent, at: datetime) -> datetime:
    """When they left at the latest: that a mail was dropped only says that they had."""
    return _when(event, at) - (_JUST_JOINED if event.kind is EventKind.DROPPED else timedelta())


def _given_up(session: Session, new: Mapping[str, Sequence[ProviderEvent]]) -> dict[str, ProviderEvent]:
    """
    Whose mailbox blocked every edition for long enough: it is as good as gone.

    One block is about the message or the sender; asked only when one comes.
    """
    readers = {
        event.reader: hashed
        for hashed, events in new.items()
        for event in events
        if hashed and event.reader and event.kind is EventKind.BLOCKED
    }
    told: dict[str, list[tuple[str, str, datetime]]] = defaultdict(list)
    for chunk in chunks(sorted(readers)):
        query = columns(col(Event.reader), col(Event.kind), col(Event.edition), col(Event.occurred_at)).where(
            col(Event.reader).in_(chunk), col(Event.kind).in_(("blocked", "delivered", "opened", "clicked"))
        )
        for reader, *rest in session.execute(query):
            told[reader].append((rest[0], rest[1], rest[2]))
    found: dict[str, ProviderEvent] = {}
    for reader, events in told.items():
        reached = max((when for kind, _, when in events if kind != "blocked"), default=NOT_TOLD)
        blocked = {name: when for kind, name, when in events if kind == "blocked" and when > reached}
        if (
            len(blocked) >= SOFT_FAILURES
            and max(blocked.values()) - min(blocked.values()) >= SOFT_FAILURES_WITHIN
        ):
            found[readers[reader]] = ProviderEvent("", EventKind.BLOCKED, no_more=NoMore.BOUNCED)
    return found


def came_back(session: Session, left: Mapping[str, datetime]) -> set[str]:
    """Those of *left* who have joined something by their own act after they left."""
    found: set[str] = set()
    for chunk in chunks(sorted(left)):
        query = (
            columns(col(Subscriber.address_hash), func.max(Subscription.since))
            .join(Subscription, col(Subscription.subscriber_id) == col(Subscriber.id))
            .where(col(Subscriber.address_hash).in_(chunk), col(Subscription.state) == "active")
            .group_by(col(Subscriber.address_hash))
        )
        found.update(hashed for hashed, since in session.execute(query) if since > left[hashed])
    return found


def erased_among(session: Session, hashes: Sequence[str]) -> set[str]:
    """Those of *hashes* whose reader was erased: nothing about them is to be kept."""
    found: set[str] = set()
    for chunk in chunks(hashes):
        found.update(
            session.exec(
                select(Suppression.address_hash).where(
                    col(Suppression.address_hash).in_(chunk),
                    Suppression.scope == "all",
                    Suppression.reason == "erased",
                )
            ).all()
        )
    return found


def _how_grave(event: ProviderEvent) -> tuple[int, str]:
    """Of several equally grave ones always the same is named, whatever came first."""
    return (_GRAVITY[event.no_more] if event.no_more else -1, event.kind)


def _is_sign_of_life(event: ProviderEvent) -> bool:
    return event.kind in (EventKind.OPENED, EventKind.CLICKED) and not event.is_machine


_Held = tuple[int, str, str, datetime | None]
"""id, address_hash, status, engaged_at of a subscriber nobody else changes meanwhile."""


def _lock_subscribers(session: Session, hashes: Sequence[str]) -> list[_Held]:
    held: list[_Held] = []
    if not hashes:
        return held
    ids: list[int] = []
    for chunk in chunks(hashes):
        query = columns(col(Subscriber.id)).where(col(Subscriber.address_hash).in_(chunk))
        ids += session.execute(query).scalars()
    for some in chunks(sorted(ids)):
        query_held = (
            columns(
                col(Subscriber.id),
                col(Subscriber.address_hash),
                col(Subscriber.status),
                col(Subscriber.engaged_at),
            )
            .where(col(Subscriber.id).in_(some))
            .order_by(col(Subscriber.id))
            .with_for_update(key_share=True)
        )
        held += [(row[0], row[1], row[2], row[3]) for row in session.execute(query_held)]
    return held


def _mark(
    session: Session, subscribers: Sequence[_Held], gravest: Mapping[str, ProviderEvent], at: datetime
) -> None:
    """Set the status an import would set: bounced, complained; the stricter one stays."""
    changes = [
        {"of": subscriber_id, "to": reason.value, "when": at}
        for subscriber_id, hashed, status, _ in subscribers
        if hashed in gravest
        and (reason := gravest[hashed].no_more) is not None
        and status in _MILDER_STATUS.get(reason, ())
    ]
    if changes:
        session.connection().execute(
            update(Subscriber)
            .where(col(Subscriber.id) == bindparam("of"))
            .values(status=bindparam("to"), updated_at=bindparam("when")),
            changes,
        )


def _engage(session: Session, subscribers: Sequence[_Held], engaged: Mapping[str, datetime]) -> None:
    changes = [
        {"of": subscriber_id, "when": engaged[hashed]}
        for subscriber_id, hashed, _, before in subscribers
        if hashed in engaged and (before is None or before < engaged[hashed])
    ]
    if changes:
        session.connection().execute(
            update(Subscriber)
            .where(col(Subscriber.id) == bindparam("of"))
            .values(engaged_at=bindparam("when")),
            changes,
        )


def _end_subscriptions(session: Session, left: Mapping[int, datetime], at: datetime) -> None:
    """Leaving at the provider is leaving all, as on our page: the page must not say otherwise."""
    if left:
        session.connection().execute(
            update(Subscription)
            .where(
                col(Subscription.subscriber_id) == bindparam("of"),
                col(Subscription.state) != "left",
                col(Subscription.since) <= bindparam("before"),
            )
            .values(state="left", left_at=at, left_reason="unsubscribed at the provider"),
            [{"of": one, "before": left[one]} for one in sorted(left)],
        )


def _suppress(session: Session, gravest: Mapping[str, ProviderEvent], at: datetime) -> int:
    """
    Suppress addresses, or make the reason of those that are a graver one; return how many are new.

    What an editor or an erasure said stays.
    """
    if not gravest:
        return 0
    connection = session.connection()
    insert = (postgresql if connection.dialect.name == "postgresql" else sqlite).insert
    given = [
        {
            "address_hash": hashed, "scope": "all", "reason": str(gravest[hashed].no_more),
            "source": gravest[hashed].kind.value, "suppressed_at": at,
        }
        for hashed in sorted(gravest)
    ]  # fmt: skip
    primary = (col(Suppression.address_hash), col(Suppression.scope))
    statement = (
        insert(Suppression)
        .on_conflict_do_nothing(index_elements=primary)
        .returning(col(Suppression.address_hash))
    )
    new = set(connection.execute(statement, given).scalars())
    graver = [
        {"of": hashed, "to": event.no_more.value, "by": event.kind.value, "milder": milder.value}
        for hashed, event in sorted(gravest.items())
        if hashed not in new and event.no_more is not None
        for milder in NoMore
        if _GRAVITY[milder] < _GRAVITY[event.no_more]
    ]
    if graver:
        connection.execute(
            update(Suppression)
            .where(
                col(Suppression.address_hash) == bindparam("of"),
                col(Suppression.scope) == "all",
                col(Suppression.reason) == bindparam("milder"),
            )
            .values(reason=bindparam("to"), source=bindparam("by")),
            graver,
        )
    return len(new)


def chunks(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """Cut *values* into what fits into one IN: one request may hold forty thousand events."""
    for start in range(0, len(values), _CHUNK):
        yield values[start : start + _CHUNK]
