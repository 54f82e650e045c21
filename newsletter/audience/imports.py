"""
Import subscribers: every row ends added, updated, unchanged, kept unmailed or rejected with its reason.

Status first: what was unsubscribed, bounced or cleaned elsewhere goes in as suppressed, so that no later
file can bring it back; and nothing a file says revives who left, was suppressed or was erased here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import Engine
from sqlmodel import Session, col, select

from newsletter.audience.addresses import address_hash, normalise
from newsletter.audience.shapes import STATUSES, Rejected, Row, open_files, read_rows
from newsletter.audience.subscribers import new_reader
from newsletter.catalogue import Catalogue
from newsletter.errors import ImportFileError
from newsletter.settings import Keys
from newsletter.store.session import writing
from newsletter.store.tables import Subscriber, SubscriberTag, Subscription, Suppression

_CHUNK = 400  # rows a transaction; well below SQLite's limit of bound values in one IN
_REASON = {"unsubscribed": "unsubscribed", "bounced": "bounced", "complained": "complained"}


@dataclass(frozen=True, slots=True)
class ImportReport:
    """rows = added + updated + unchanged + suppressed + rejected."""

    shape: str
    rows: int
    added: int
    updated: int
    unchanged: int
    suppressed: int
    rejected: tuple[Rejected, ...]


@dataclass(frozen=True, slots=True)
class _Checked:
    row: Row
    email: str
    key: str
    hash: str
    file: str


class _Tally:
    def __init__(self) -> None:
        self.rows = self.added = self.updated = self.unchanged = self.suppressed = 0
        self.rejected: list[Rejected] = []


def import_subscribers(
    engine: Engine,
    path: Path,
    *,
    catalogue: Catalogue,
    keys: Keys,
    now: datetime,
    newsletters: tuple[str, ...] = (),
    consent: str = "",
    progress: Callable[[int], None] | None = None,
) -> ImportReport:
    """
    Import *path*; *newsletters* is for shapes that name none, *consent* the words their readers agreed to.

    Without *consent*, a row of a foreign shape that carries no proof of it becomes ``pending``.

    Raises:
        ImportFileError: the file cannot be read at all, or names no newsletters and none were given.
    """
    tally = _Tally()
    shapes: list[str] = []
    known = {newsletter.slug for newsletter in catalogue.newsletters}
    for name, text in open_files(path):
        shape, rows = read_rows(name, text, catalogue.publication)
        shapes.append(shape)
        if shape != "plain" and not newsletters:
            raise ImportFileError(
                f"{name} is a {shape} export, which does not say which newsletters its readers get. "
                "Name them with --newsletters SLUG|SLUG."
            )
        checked = _checked(
            rows,
            tally,
            file=name,
            keys=keys,
            known=known,
            newsletters=newsletters,
            foreign=shape != "plain",
            consent=consent,
        )
        while chunk := list(islice(checked, _CHUNK)):
            with writing(engine) as session:
                _write(session, chunk, tally, now=now, consent=consent, foreign=shape != "plain")
            if progress:
                progress(tally.rows)
    return ImportReport(
        shape=", ".join(dict.fromkeys(shapes)), rows=tally.rows, added=tally.added, updated=tally.updated,
        unchanged=tally.unchanged, suppressed=tally.suppressed,
        rejected=tuple(sorted(tally.rejected, key=lambda one: one.line)),
    )  # fmt: skip


def _checked(
    rows: Iterable[Row | Rejected],
    tally: _Tally,
    *,
    file: str,
    keys: Keys,
    known: set[str],
    newsletters: tuple[str, ...],
    foreign: bool,
    consent: str,
) -> Iterable[_Checked]:
    """Rows whose address and newsletters can be used; the others are rejected with their reason."""
    for row in rows:
        tally.rows += 1
        if isinstance(row, Rejected):
            tally.rejected.append(row)
            continue
        try:
            if not row.email:
                raise ValueError("no address")
            email, key = normalise(row.email)
            wanted = newsletters or row.newsletters
            unknown = [slug for slug in wanted if slug not in known]
            if unknown:
                raise ValueError(f"no newsletter {unknown[0]!r}; there are {', '.join(sorted(known))}")
        except ValueError as error:
            tally.rejected.append(Rejected(row.line, str(error)))
            continue
        proven = not foreign or consent or row.confirmed_at or row.consented_at
        status = "pending" if row.status == "active" and not proven else row.status
        yield _Checked(
            replace(row, newsletters=tuple(dict.fromkeys(wanted)), status=status), email, key,
            address_hash(keys.suppression, key), file,
        )  # fmt: skip


def _write(
    session: Session, chunk: list[_Checked], tally: _Tally, *, now: datetime, consent: str, foreign: bool
) -> None:
    """One transaction: later rows of the chunk see what earlier ones did."""
    keys = {one.key for one in chunk}
    hashes = {one.hash for one in chunk}
    stored = {
        row.email_key: row
        for row in session.exec(select(Subscriber).where(col(Subscriber.email_key).in_(keys))).all()
    }
    suppressed = {
        row.address_hash: row
        for row in session.exec(
            select(Suppression).where(col(Suppression.address_hash).in_(hashes), Suppression.scope == "all")
        ).all()
    }
    ids = [row.id for row in stored.values()]
    subscriptions: dict[tuple[int, str], Subscription] = {
        (row.subscriber_id, row.newsletter): row
        for row in session.exec(select(Subscription).where(col(Subscription.subscriber_id).in_(ids))).all()
    }
    tags = {
        (row.subscriber_id, row.tag)
        for row in session.exec(select(SubscriberTag).where(col(SubscriberTag.subscriber_id).in_(ids))).all()
    }
    for one in chunk:
        known = suppressed.get(one.hash)
        row = stored.get(one.key)
        if known is not None and row is None:
            tally.suppressed += 1  # erased here, or suppressed before we ever knew the address
            continue
        strict = one.row.status in _REASON
        if row is None:
            row = _new(one, now=now)
            session.add(row)
            session.flush()
            stored[one.key] = row
            changed, fresh = True, True
        else:
            changed, fresh = _merge(row, one, revive=known is None, now=now), False
        changed |= _subscribe(session, row, one, subscriptions, now=now, consent=consent, foreign=foreign)
        changed |= _tag(session, row, one, tags)
        if strict and known is None:
            entry = Suppression(
                address_hash=one.hash, scope="all", reason=_REASON[one.row.status], source=f"import {one.file}",
                suppressed_at=now,
            )  # fmt: skip
            session.add(entry)
            suppressed[one.hash] = entry
            changed = True
        if strict or known is not None:
            tally.suppressed += 1
        elif fresh:
            tally.added += 1
        elif changed:
            tally.updated += 1
        else:
            tally.unchanged += 1


def _new(one: _Checked, *, now: datetime) -> Subscriber:
    row = one.row
    return Subscriber(
        reader=new_reader(), email=one.email, email_key=one.key, address_hash=one.hash, name=row.name, plan=row.plan,
        plan_until=row.plan_until, language=row.language, country=row.country, timezone=row.timezone, status=row.status,
        attributes=dict(row.attributes), joined_at=row.joined_at or now, updated_at=now,
    )  # fmt: skip


def _merge(row: Subscriber, one: _Checked, *, revive: bool, now: datetime) -> bool:
    """Take over what the file says and does not leave empty; the stricter status stays."""
    new = one.row
    wanted: dict[str, Any] = {
        "name": new.name or row.name,
        "plan": new.plan,
        "plan_until": new.plan_until if new.plan_until else row.plan_until,
        "language": new.language or row.language,
        "country": new.country or row.country,
        "timezone": new.timezone or row.timezone,
        "attributes": {**row.attributes, **new.attributes},
    }
    stricter = STATUSES.index(new.status) > STATUSES.index(row.status)
    confirmed = revive and row.status == "pending" and new.status == "active"
    if (stricter and not (row.status == "active" and new.status == "pending")) or confirmed:
        wanted["status"] = new.status
    changed = False
    for name, value in wanted.items():
        if getattr(row, name) != value:
            setattr(row, name, value)
            changed = True
    if changed:
        row.updated_at = now
    return changed


def _subscribe(
    session: Session,
    row: Subscriber,
    one: _Checked,
    known: dict[tuple[int, str], Subscription],
    *,
    now: datetime,
    consent: str,
    foreign: bool,
) -> bool:
    """Subscribe to what the file names; who left here is not taken back."""
    if row.id is None:
        raise ValueError("the subscriber has no id yet")
    changed = False
    state = {"active": "active", "pending": "pending"}.get(one.row.status, "left")
    for slug in one.row.newsletters:
        have = known.get((row.id, slug))
        if have is not None:
            if have.state == "pending" and state == "active":
                have.state, have.confirmed_at = "active", one.row.confirmed_at or now
                session.add(have)
                changed = True
            elif have.state != "left" and state == "left":
                have.state, have.left_at, have.left_reason = "left", now, f"{one.row.status} in {one.file}"
                session.add(have)
                changed = True
            continue
        words = consent or ("" if foreign else "listed by the publisher in the imported file")
        have = Subscription(
            subscriber_id=row.id, newsletter=slug, state=state, since=one.row.joined_at or now,
            consent_source=f"import {one.file}, line {one.row.line}", consent_words=words,
            consented_at=one.row.consented_at or one.row.confirmed_at or (now if words else None),
            confirmed_at=(one.row.confirmed_at or one.row.consented_at or now) if state == "active" else None,
            left_at=now if state == "left" else None, left_reason=f"{one.row.status} in {one.file}" if state == "left" else "",
        )  # fmt: skip
        session.add(have)
        known[(row.id, slug)] = have
        changed = True
    return changed


def _tag(session: Session, row: Subscriber, one: _Checked, known: set[tuple[int, str]]) -> bool:
    if row.id is None:
        raise ValueError("the subscriber has no id yet")
    new = [tag for tag in one.row.tags if (row.id, tag) not in known]
    for tag in new:
        session.add(SubscriberTag(subscriber_id=row.id, tag=tag))
        known.add((row.id, tag))
    return bool(new)
