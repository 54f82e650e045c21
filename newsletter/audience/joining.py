"""
Joining: asked on a page by whoever, confirmed from the mail by the person the address belongs to.

Until then nothing that was typed counts for a reader we know: not a name, not a newsletter, and what
they left stays left. A wish that is not confirmed within seven days is forgotten.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import Engine, delete, exists
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from newsletter.audience.addresses import address_hash, normalise
from newsletter.audience.doors import LIFETIMES, Link, Purpose, close_doors, look_at_link, make_link, use_link
from newsletter.audience.subscribers import HARD_REASONS, new_reader
from newsletter.settings import Keys
from newsletter.store.session import reading, writing
from newsletter.store.tables import Subscriber, SubscriberTag, Subscription, Suppression
from newsletter.times import iso, parse_instant

CONFIRMED_BY = "confirmed by the link in the mail"
"""Reasons that a wish on a page does not overcome."""


class Told(StrEnum):
    """Which mail follows a wish to join."""

    CONFIRM = "confirm"
    KNOWN = "known"  # they get all of it already
    NOTHING = "nothing"  # the address must not be written to


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for on a page. *source*: its path; *words*: exactly what stood by the button."""

    newsletters: tuple[str, ...]
    source: str
    words: str
    name: str = ""
    language: str = ""
    timezone: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """What follows from a wish; *secret* stands in the confirming link, for *newsletters* only."""

    told: Told
    subscriber_id: int = 0
    secret: str = ""
    newsletters: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Joined:
    """Who confirmed what; *first*: those of *newsletters* they never had before."""

    subscriber_id: int
    reader: str
    language: str
    newsletters: tuple[str, ...]
    first: tuple[str, ...]


def ask_to_join(engine: Engine, email: str, wish: Wish, *, keys: Keys, now: datetime) -> Asked:
    """
    Keep *wish* until it is confirmed; say which mail goes to the address.

    Raises:
        ValueError: not an address.
    """
    address, key = normalise(email)
    try:
        with writing(engine) as session:
            return keep_wish(session, address, key, wish, keys=keys, now=now)
    except IntegrityError:  # the same address asked twice at once, and the other was first
        with writing(engine) as session:
            return keep_wish(session, address, key, wish, keys=keys, now=now)


def keep_wish(session: Session, address: str, key: str, wish: Wish, *, keys: Keys, now: datetime) -> Asked:
    """``ask_to_join`` within the caller's transaction, for an address that is normalised."""
    hashed = address_hash(keys.suppression, key)
    hard = _hard_scopes(session, hashed)
    row = session.exec(select(Subscriber).where(Subscriber.email_key == key)).first()
    if "all" in hard or (row is not None and row.status in HARD_REASONS):
        return Asked(Told.NOTHING)
    held = _subscriptions(session, row)
    unmailed = set(session.exec(select(Suppression.scope).where(Suppression.address_hash == hashed)).all())
    is_active = row is not None and row.status == "active" and "all" not in unmailed
    wanted = tuple(
        slug
        for slug in dict.fromkeys(wish.newsletters)
        if slug not in hard
        and not (is_active and slug in held and held[slug].state == "active" and slug not in unmailed)
    )
    if not wanted:
        known = row is not None and is_active
        return Asked(Told.KNOWN, row.id or 0) if known and row is not None else Asked(Told.NOTHING)
    if row is None:
        row = Subscriber(
            reader=new_reader(), email=address, email_key=key, address_hash=hashed, status="pending",
            joined_at=now, updated_at=now,
        )  # fmt: skip
    if row.status == "pending":
        row.name, row.language, row.timezone, row.updated_at = wish.name, wish.language, wish.timezone, now
    session.add(row)
    session.flush()
    subscriber_id = row.id or 0
    for slug in wanted:
        _keep(session, subscriber_id, slug, held.get(slug), wish, now)
    detail = {
        "newsletters": list(wanted), "source": wish.source, "words": wish.words, "at": iso(now), "language": wish.language,
    }  # fmt: skip
    secret = make_link(session, Purpose.CONFIRM, subscriber_id, now=now, detail=detail)
    return Asked(Told.CONFIRM, subscriber_id, secret, wanted)


def _keep(
    session: Session, subscriber_id: int, slug: str, held: Subscription | None, wish: Wish, now: datetime
) -> None:
    """A pending subscription with what it would rest on; what was left, or came by an import, stays as it is."""
    if held is not None and not (held.state == "pending" and held.consent_source.startswith("/")):
        return
    row = held or Subscription(subscriber_id=subscriber_id, newsletter=slug, state="pending", since=now)
    row.consent_source, row.consent_words, row.consented_at = wish.source, wish.words, now
    session.add(row)


def look_at_wish(engine: Engine, secret: str, *, now: datetime) -> Link | None:
    """The confirming link of *secret*, without using it: looking is free, scanners look at everything."""
    with reading(engine) as session:
        return look_at_link(session, secret, Purpose.CONFIRM, now=now)


def confirm(engine: Engine, secret: str, *, now: datetime) -> Joined | None:
    """
    Make a wish come true; None: its link was used, has expired, or the address must not be written to.

    What the person had left comes back; an erasure is lifted, for this is a new consent and theirs to give.
    """
    with writing(engine) as session:
        link = use_link(session, secret, Purpose.CONFIRM, now=now)
        row = session.get(Subscriber, link.subscriber_id) if link else None
        if link is None or row is None:
            return None
        hard = _hard_scopes(session, row.address_hash)
        if "all" in hard or row.status in HARD_REASONS:
            return None
        wanted = tuple(slug for slug in link.detail["newsletters"] if slug not in hard)
        held = _subscriptions(session, row)
        first: list[str] = []
        for slug in wanted:
            one = held.get(slug) or Subscription(subscriber_id=link.subscriber_id, newsletter=slug, since=now)
            if one.confirmed_at is None:
                first.append(slug)
            if one.state != "active":
                one.since = now
            one.state, one.left_at, one.left_reason, one.confirmed_at = "active", None, "", now
            one.consent_source = f"{link.detail['source']}, {CONFIRMED_BY}"
            one.consent_words, one.consented_at = link.detail["words"], parse_instant(link.detail["at"])
            session.add(one)
        _lift(session, row, wanted, held)
        row.status, row.updated_at = "active", now
        session.add(row)
        return Joined(link.subscriber_id, row.reader, row.language, wanted, tuple(first))


def _lift(session: Session, row: Subscriber, wanted: Sequence[str], held: dict[str, Subscription]) -> None:
    """Mail to *wanted* is allowed again; having left all stays in force for everything else."""
    whole = session.get(Suppression, (row.address_hash, "all"))
    if whole is not None:
        session.delete(whole)
        for slug, one in held.items():
            if slug in wanted or one.state != "left":
                continue
            if session.get(Suppression, (row.address_hash, slug)) is None:
                session.add(
                    Suppression(
                        address_hash=row.address_hash, scope=slug, reason="unsubscribed", source=whole.source,
                        suppressed_at=whole.suppressed_at,
                    )
                )  # fmt: skip
    for slug in wanted:
        mine = session.get(Suppression, (row.address_hash, slug))
        if mine is not None:
            session.delete(mine)


def _hard_scopes(session: Session, hashed: str) -> set[str]:
    rows = session.exec(select(Suppression).where(Suppression.address_hash == hashed)).all()
    return {row.scope for row in rows if row.reason in HARD_REASONS}


def _subscriptions(session: Session, row: Subscriber | None) -> dict[str, Subscription]:
    if row is None:
        return {}
    rows = session.exec(select(Subscription).where(Subscription.subscriber_id == row.id)).all()
    return {one.newsletter: one for one in rows}


def expire(engine: Engine, *, now: datetime, at_once: int = 1000) -> int:
    """
    Forget wishes that were not confirmed in time; return how many subscriptions went.

    A subscriber who has nothing else goes too. What an import left pending is not a wish and stays.
    """
    gone = 0
    while True:
        with writing(engine) as session:
            found = session.exec(
                select(Subscription)
                .where(
                    Subscription.state == "pending",
                    col(Subscription.consent_source).startswith("/", autoescape=True),
                    col(Subscription.consented_at) < now - LIFETIMES[Purpose.CONFIRM],
                )
                .limit(at_once)
            ).all()
            for row in found:
                session.delete(row)
            session.flush()
            _forget_empty(session, {row.subscriber_id for row in found})
        gone += len(found)
        if len(found) < at_once:
            return gone


def _forget_empty(session: Session, ids: set[int]) -> None:
    """Delete those of *ids* who were never confirmed and have no subscription left."""
    empty = session.exec(
        select(Subscriber.id).where(
            col(Subscriber.id).in_(ids),
            Subscriber.status == "pending",
            ~exists().where(col(Subscription.subscriber_id) == col(Subscriber.id)),
        )
    ).all()
    for subscriber_id in empty:
        close_doors(session, subscriber_id or 0)
    session.execute(delete(SubscriberTag).where(col(SubscriberTag.subscriber_id).in_(empty)))
    session.execute(delete(Subscriber).where(col(Subscriber.id).in_(empty)))
