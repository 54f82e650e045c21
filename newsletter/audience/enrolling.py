"""
What the publisher's own programs do to one subscriber: enrol, subscribe, describe, put on a plan.

A program's word is not a person's: it never brings back an address that must not be mailed. Who left or
was erased comes back by a press on the confirming mail, and by nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from newsletter.audience.addresses import address_hash, normalise
from newsletter.audience.dossier import dossiers
from newsletter.audience.joining import Wish, keep_wish
from newsletter.audience.plans import carried_end, check_plan, first_end, set_plan
from newsletter.audience.subscribers import new_reader
from newsletter.catalogue import Publication
from newsletter.errors import NotFound
from newsletter.settings import Keys
from newsletter.store.session import reading, writing
from newsletter.store.tables import Subscriber, Subscription, Suppression

LIFTED_BY_THEMSELVES = frozenset(("unsubscribed", "erased"))
"""Reasons that a press on the confirming mail overcomes; see ``joining.confirm``."""


@dataclass(frozen=True, slots=True)
class Consent:
    """Consent that a site has collected: the exact *words*, the *page* they stood on, and when."""

    words: str
    page: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Enrolment:
    """
    A subscriber as a program gives them.

    With *consent* they get *newsletters* from now on; without it they are asked by mail (*source* is the
    path of the request, by which a wish that nobody confirms is told from an import). *plan_until*: None
    means that a trial ends after its days, any other plan never.
    """

    newsletters: tuple[str, ...]
    source: str
    consent: Consent | None = None
    name: str = ""
    language: str = ""
    country: str = ""
    timezone: str = ""
    plan: str = "free"
    plan_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Enrolled:
    """
    Who was enrolled. *secret*, if they are asked, stands in the link of the confirming mail; *first*, if
    they are not, are the newsletters they never had before.
    """

    subscriber_id: int
    reader: str
    secret: str = ""
    first: tuple[str, ...] = ()


class Known(ValueError):
    """The address is a subscriber's already: *reader*."""

    def __init__(self, reader: str) -> None:
        super().__init__("This address is known already.")
        self.reader = reader


class Suppressed(ValueError):
    """The address must not be mailed: *scopes* (``all`` or slugs) to reasons."""

    def __init__(self, scopes: Mapping[str, str]) -> None:
        super().__init__("This address must not be mailed.")
        self.scopes = dict(scopes)


def enrol(
    engine: Engine, email: str, given: Enrolment, *, publication: Publication, keys: Keys, now: datetime
) -> Enrolled:
    """
    Add a subscriber, all of it or nothing.

    Raises:
        ValueError: not an address.
        NotFound: no such plan.
        Known: the address is a subscriber's.
        Suppressed: it must not be mailed.
    """
    check_plan(publication, given.plan)
    address, key = normalise(email)
    end = given.plan_until or first_end(publication, given.plan, now=now)
    row = Subscriber(
        reader=new_reader(), email=address, email_key=key, address_hash=address_hash(keys.suppression, key),
        name=given.name, language=given.language, country=given.country, timezone=given.timezone, plan=given.plan,
        plan_until=end, status="active" if given.consent else "pending", joined_at=now, updated_at=now,
    )  # fmt: skip
    try:
        with writing(engine) as session:
            _refuse(session, key, given, keys)
            session.add(row)
            session.flush()
            secret = ""
            first: tuple[str, ...] = ()
            if given.consent:
                first = _subscribe(session, row.id or 0, given.newsletters, given.consent, now)
            else:
                wish = Wish(given.newsletters, given.source, "", given.name, given.language, given.timezone)
                secret = keep_wish(session, address, key, wish, keys=keys, now=now).secret
            return Enrolled(row.id or 0, row.reader, secret, first)
    except IntegrityError:  # the same address twice at once, and the other was first
        with reading(engine) as session:
            known = session.exec(select(Subscriber.reader).where(Subscriber.email_key == key)).first()
        raise Known(known or "") from None


def _refuse(session: Session, key: str, given: Enrolment, keys: Keys) -> None:
    known = session.exec(select(Subscriber.reader).where(Subscriber.email_key == key)).first()
    if known is not None:
        raise Known(known)
    hashed = address_hash(keys.suppression, key)
    against = _against(session, hashed, given.newsletters, is_agreed=given.consent is not None)
    if against:
        raise Suppressed(against)


def _against(session: Session, hashed: str, slugs: Sequence[str], *, is_agreed: bool) -> dict[str, str]:
    """What speaks against mail of *slugs*, that a person's own press (not *is_agreed*) would not overcome."""
    rows = session.exec(
        select(Suppression).where(
            Suppression.address_hash == hashed, col(Suppression.scope).in_(("all", *slugs))
        )
    ).all()
    return {row.scope: row.reason for row in rows if is_agreed or row.reason not in LIFTED_BY_THEMSELVES}


def subscribe(
    engine: Engine,
    reader: str,
    slugs: Sequence[str],
    consent: Consent | None,
    *,
    source: str,
    keys: Keys,
    now: datetime,
) -> Enrolled:
    """
    Give a subscriber more newsletters; without *consent* they are asked.

    The secret is empty when they get all of it already. What they have already is left as it is.

    Raises:
        NotFound: no such subscriber.
        Suppressed: they must not be mailed.
    """
    with writing(engine) as session:
        row = _row(session, reader)
        against = _against(session, row.address_hash, slugs, is_agreed=consent is not None)
        if row.status in ("bounced", "complained") or (consent and row.status == "unsubscribed"):
            against.setdefault("all", row.status)
        for slug in slugs if consent else ():
            held = session.get(Subscription, (row.id or 0, slug))
            if held is not None and held.state == "left":  # also by a file, which suppresses nothing
                against.setdefault(slug, "unsubscribed")
        if against:
            raise Suppressed(against)
        if consent is None:
            wish = Wish(tuple(slugs), source, "", row.name, row.language, row.timezone)
            asked = keep_wish(session, row.email, row.email_key, wish, keys=keys, now=now)
            return Enrolled(row.id or 0, row.reader, asked.secret)
        row.status, row.updated_at = "active", now
        session.add(row)
        first = _subscribe(session, row.id or 0, slugs, consent, now)
        return Enrolled(row.id or 0, row.reader, first=first)


def _subscribe(
    session: Session, subscriber_id: int, slugs: Iterable[str], consent: Consent, now: datetime
) -> tuple[str, ...]:
    """Make *slugs* active; return those that were never confirmed before."""
    first: list[str] = []
    for slug in slugs:
        one = session.get(Subscription, (subscriber_id, slug))
        if one is not None and one.state == "active":
            continue
        if one is None or one.state == "pending":
            first.append(slug)
        one = one or Subscription(subscriber_id=subscriber_id, newsletter=slug)
        one.state, one.since, one.left_at, one.left_reason = "active", now, None, ""
        one.consent_source, one.consent_words, one.consented_at = consent.page, consent.words, consent.at
        one.confirmed_at = now
        session.add(one)
    return tuple(first)


def amend(
    engine: Engine, reader: str, values: Mapping[str, Any], *, publication: Publication, now: datetime
) -> None:
    """
    Change what *values* name of a subscriber: name, language, country, timezone, plan, plan_until.

    A plan without plan_until keeps the end that was paid for, as an import does; plan_until None means
    that the plan runs on.

    Raises:
        NotFound: no such subscriber, or no such plan.
    """
    if "plan" in values:
        check_plan(publication, values["plan"])
    with writing(engine) as session:
        row = _row(session, reader)
        for name in ("name", "language", "country", "timezone"):
            if name in values:
                setattr(row, name, values[name])
        if "plan" in values:
            row.plan_until = carried_end(
                publication, before=(row.plan, row.plan_until), plan=values["plan"], now=now
            )
            row.plan = values["plan"]
        if "plan_until" in values:
            row.plan_until = values["plan_until"]
        row.updated_at = now
        session.add(row)


def put_on_plan(
    engine: Engine, reader: str, plan: str, *, publication: Publication, until: datetime | None, now: datetime
) -> None:
    """
    ``plans.set_plan`` by public id.

    Raises:
        NotFound: no such subscriber, or no such plan.
    """
    with writing(engine) as session:
        set_plan(session, _row(session, reader), plan, publication=publication, now=now, until=until)


def _row(session: Session, reader: str) -> Subscriber:
    row = session.exec(select(Subscriber).where(Subscriber.reader == reader).with_for_update()).first()
    if row is None:
        raise NotFound("There is no such subscriber.")
    return row


def look_up(engine: Engine, *, reader: str = "", email: str = "") -> dict[str, Any] | None:
    """
    What is held about a subscriber, found by public id or by address; None: there is none.

    The document of ``dossier``, with their public id as ``id``.
    """
    try:
        who = Subscriber.reader == reader if reader else Subscriber.email_key == normalise(email)[1]
    except ValueError:
        return None
    with reading(engine) as session:
        row = session.exec(select(Subscriber).where(who)).first()
        found = dossiers(session, [row.id or 0]) if row is not None else []
        return {"id": row.reader, **found[0]} if row is not None and found else None
