"""
The public archive: what any stranger may read of what was sent. The free variant, and nothing else.

A newsletter whose audience has no free readers is never in it. Shown is what readers have, in its newest
revision; what was spiked or held is not.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection, Engine, exists
from sqlalchemy import select as columns
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

from newsletter.catalogue import Catalogue, Newsletter
from newsletter.edition import EditionStatus, Rendered, subject_of
from newsletter.store.editions import load_renderings, plain_line, with_chosen_subject
from newsletter.store.searching import Found, search
from newsletter.store.session import reading, writing
from newsletter.store.tables import ArchiveText, EditionRow, Rendering, SubjectTest

PAGE = 30
SHOWN = (EditionStatus.SUBMITTING, EditionStatus.SUBMITTED, EditionStatus.PAUSED)


@dataclass(frozen=True, slots=True)
class Listed:
    """An edition in a list."""

    newsletter: str
    edition_date: date
    title: str
    summary: str
    sent_at: datetime


@dataclass(frozen=True, slots=True)
class Shown:
    """An edition as it is shown, with its neighbours' dates."""

    rendered: Rendered
    sent_at: datetime
    before: date | None
    after: date | None


def is_public(newsletter: Newsletter) -> bool:
    """Whether strangers may read a newsletter."""
    return newsletter.archive and "free" in newsletter.audience.classes


def public(catalogue: Catalogue) -> tuple[Newsletter, ...]:
    """The newsletters strangers may read."""
    return tuple(one for one in catalogue.newsletters if is_public(one))


def is_shown(edition: Any = EditionRow) -> Any:
    """The condition that an edition is the one readers have of its date."""
    later = aliased(EditionRow)
    newer = exists().where(
        col(later.newsletter) == col(edition.newsletter), col(later.edition_date) == col(edition.edition_date),
        col(later.revision) > col(edition.revision), col(later.frozen_at).is_not(None),
        col(later.status).in_(SHOWN),
    )  # fmt: skip
    return col(edition.frozen_at).is_not(None) & col(edition.status).in_(SHOWN) & ~newer


def listed(engine: Engine, slugs: Sequence[str], *, limit: int = PAGE, offset: int = 0) -> tuple[Listed, ...]:
    """The newest editions of *slugs*, by date."""
    return _read(engine, _listing(slugs).limit(limit).offset(offset))


def _listing(slugs: Sequence[str]) -> Any:
    return (
        columns(
            col(EditionRow.newsletter), col(EditionRow.edition_date), col(Rendering.subject),
            col(Rendering.preheader), col(EditionRow.frozen_at), col(EditionRow.made_at),
            col(Rendering.other_subjects), col(SubjectTest.chosen),
        )
        .join(
            Rendering, (col(Rendering.edition_id) == col(EditionRow.id)) & (col(Rendering.variant) == "free")
        )
        .join(SubjectTest, col(SubjectTest.edition_id) == col(EditionRow.id), isouter=True)
        .where(col(EditionRow.newsletter).in_(slugs), is_shown())
        .order_by(col(EditionRow.edition_date).desc(), col(EditionRow.newsletter))
    )  # fmt: skip


def _read(engine: Engine, query: Any) -> tuple[Listed, ...]:
    with engine.connect() as connection:
        rows = connection.execute(query).all()
    return tuple(
        Listed(
            slug, day, plain_line(subject_of((subject, *others), chosen or "")), plain_line(preheader), frozen_at or made_at
        )
        for slug, day, subject, preheader, frozen_at, made_at, others, chosen in rows
    )  # fmt: skip


def published(
    engine: Engine,
    slugs: Sequence[str],
    *,
    since: date | None = None,
    until: date | None = None,
    after: tuple[date, str] | None = None,
    limit: int = PAGE,
) -> tuple[Listed, ...]:
    """
    The editions of *slugs* that were submitted to all their readers, newest first, within *since* and *until*.

    *after*: the date and the slug of the last one that was seen; a list that grows meanwhile loses nothing.
    """
    submitted = aliased(EditionRow)
    went_out = exists().where(
        col(submitted.newsletter) == col(EditionRow.newsletter),
        col(submitted.edition_date) == col(EditionRow.edition_date),
        col(submitted.status) == EditionStatus.SUBMITTED,
    )
    query = _listing(slugs).where(went_out).limit(limit)
    if since:
        query = query.where(col(EditionRow.edition_date) >= since)
    if until:
        query = query.where(col(EditionRow.edition_date) <= until)
    if after:
        day, slug = after
        query = query.where(
            (col(EditionRow.edition_date) < day)
            | ((col(EditionRow.edition_date) == day) & (col(EditionRow.newsletter) > slug))
        )
    return _read(engine, query)


def shown(engine: Engine, slug: str, day: date) -> Shown | None:
    """The edition of a date as strangers see it; None: there is none."""
    with reading(engine) as session:
        row = session.exec(
            select(EditionRow).where(
                EditionRow.newsletter == slug, EditionRow.edition_date == day, is_shown()
            )
        ).first()
        if row is None:
            return None
        renderings = with_chosen_subject(session, row.id or 0, load_renderings(session, row.id or 0))
        free = [one for one in renderings if one.variant == "free"]
        if not free:
            return None
        days = columns(col(EditionRow.edition_date)).where(col(EditionRow.newsletter) == slug, is_shown())
        before = session.execute(
            days.where(col(EditionRow.edition_date) < day).order_by(col(EditionRow.edition_date).desc())
        ).scalars().first()  # fmt: skip
        after = session.execute(
            days.where(col(EditionRow.edition_date) > day).order_by(col(EditionRow.edition_date))
        ).scalars().first()  # fmt: skip
        return Shown(free[0], row.frozen_at or row.made_at, before, after)


def find(
    connection: Connection, catalogue: Catalogue, query: str, *, slug: str = "", page: int = 1
) -> tuple[Found, ...]:
    """What is found for *query*, a page of it and one more; in one newsletter or in all."""
    slugs = [one.slug for one in public(catalogue) if slug in ("", one.slug)]
    return search(connection, query, slugs=slugs, limit=PAGE + 1, offset=(page - 1) * PAGE)


def index_missing(engine: Engine, catalogue: Catalogue, *, at_once: int = 50) -> int:
    """
    Index the words of public editions that are not yet; return how many were looked at.

    Idempotent, also when several processes do it at the same time: whoever is second changes nothing.
    """
    slugs = [one.slug for one in public(catalogue)]
    done = 0
    while True:
        with writing(engine) as session:
            rows = session.exec(
                select(EditionRow)
                .where(
                    col(EditionRow.newsletter).in_(slugs), col(EditionRow.frozen_at).is_not(None),
                    ~exists().where(col(ArchiveText.edition_id) == col(EditionRow.id)),
                    exists().where(
                        col(Rendering.edition_id) == col(EditionRow.id), col(Rendering.variant) == "free"
                    ),
                )
                .order_by(col(EditionRow.id))
                .limit(at_once)
            ).all()  # fmt: skip
            for row in rows:
                _index(session, row, catalogue[row.newsletter].language)
        done += len(rows)
        if len(rows) < at_once:
            return done


def _index(session: Session, row: EditionRow, language: str) -> None:
    connection = session.connection()
    insert = (postgresql if connection.dialect.name == "postgresql" else sqlite).insert
    for one in with_chosen_subject(session, row.id or 0, load_renderings(session, row.id or 0)):
        if one.variant == "free":
            text = insert(ArchiveText).values(
                edition_id=row.id or 0, newsletter=row.newsletter, edition_date=row.edition_date,
                language=language, title=plain_line(one.subject), words=_words(one.text),
            )  # fmt: skip
            connection.execute(text.on_conflict_do_nothing(index_elements=["edition_id"]))


def _words(text: str) -> str:
    """The words of a text part: no links, no rules, one space between."""
    return " ".join(re.sub(r"https?://\S+|\[\d+\]|[-=_*]{3,}", " ", plain_line(text)).split())
