"""Editions, their renderings and stories as rows: read and written in one place."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import date
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import delete, update
from sqlalchemy import select as columns
from sqlmodel import Session, col, select

from newsletter.articles import headline_key
from newsletter.edition import PERSONAL_TAGS, EditionStatus, Rendered, Snapshot, subject_of
from newsletter.picking.fitting import Ran
from newsletter.store.tables import (
    ArchiveText,
    ArticleRow,
    EditionPicture,
    EditionRow,
    EditionStory,
    Rendering,
    SubjectTest,
)

_SNAPSHOT: TypeAdapter[Snapshot] = TypeAdapter(Snapshot)

_OURS = re.compile(r"/media/([0-9a-f]{32})\.jpg$")

RAN = (EditionStatus.APPROVED, EditionStatus.SUBMITTING, EditionStatus.SUBMITTED, EditionStatus.PAUSED)
"""States in which an edition's stories count as run."""


def dump_snapshot(snapshot: Snapshot) -> dict[str, Any]:
    """A snapshot as the JSON it is stored as."""
    dumped: dict[str, Any] = _SNAPSHOT.dump_python(snapshot, mode="json", by_alias=True)
    return dumped


def load_snapshot(stored: dict[str, Any]) -> Snapshot:
    """The snapshot that ``dump_snapshot`` stored."""
    return _SNAPSHOT.validate_python(stored)


def edition_ref(row: EditionRow) -> str:
    """The edition's public name: ``<slug>.<date>.<revision>``."""
    return f"{row.newsletter}.{row.edition_date.isoformat()}.{row.revision}"


def current_edition(session: Session, slug: str, day: date) -> EditionRow | None:
    """The newest revision of a newsletter's edition of *day*."""
    return session.exec(
        select(EditionRow)
        .where(EditionRow.newsletter == slug, EditionRow.edition_date == day)
        .order_by(col(EditionRow.revision).desc())
        .limit(1)
    ).first()


def revisions(session: Session, slug: str, day: date) -> list[EditionRow]:
    """Every revision of a newsletter's edition of *day*, the newest first."""
    rows = session.exec(
        select(EditionRow)
        .where(EditionRow.newsletter == slug, EditionRow.edition_date == day)
        .order_by(col(EditionRow.revision).desc())
    )
    return list(rows.all())


def latest_edition(session: Session, slug: str) -> EditionRow | None:
    """The newest edition of a newsletter, whatever its state."""
    return session.exec(
        select(EditionRow)
        .where(EditionRow.newsletter == slug)
        .order_by(col(EditionRow.edition_date).desc(), col(EditionRow.revision).desc())
        .limit(1)
    ).first()


def last_run_before(session: Session, slug: str, day: date) -> EditionRow | None:
    """The last edition before *day* that went out or is going out."""
    return session.exec(
        select(EditionRow)
        .where(
            EditionRow.newsletter == slug,
            EditionRow.edition_date < day,
            col(EditionRow.status).in_(RAN),
        )
        .order_by(col(EditionRow.edition_date).desc())
        .limit(1)
    ).first()


def last_lines_before(session: Session, slug: str, day: date) -> tuple[str, str]:
    """Subject and preheader of the last edition before *day* that went out or is going out; '' without one."""
    found = session.execute(
        columns(
            col(Rendering.subject), col(Rendering.other_subjects), col(SubjectTest.chosen), col(Rendering.preheader)
        )
        .join(EditionRow, col(EditionRow.id) == col(Rendering.edition_id))
        .join(SubjectTest, col(SubjectTest.edition_id) == col(EditionRow.id), isouter=True)
        .where(
            col(EditionRow.newsletter) == slug, col(EditionRow.edition_date) < day, col(EditionRow.status).in_(RAN)
        )
        .order_by(col(EditionRow.edition_date).desc(), col(EditionRow.revision).desc(), col(Rendering.variant))
        .limit(1)
    ).first()  # fmt: skip
    if found is None:
        return "", ""
    first, others, chosen, preheader = found
    return subject_of((first, *others), chosen or ""), preheader


def stories_run(session: Session, slug: str, *, but: date) -> dict[str, str]:
    """URLs and headline keys this newsletter ran on other dates than *but*, with words saying when."""
    rows = session.execute(
        columns(col(EditionStory.url), col(EditionStory.headline_key), col(EditionRow.edition_date))
        .join(EditionRow, col(EditionRow.id) == col(EditionStory.edition_id))
        .where(
            col(EditionRow.newsletter) == slug,
            col(EditionRow.edition_date) != but,
            col(EditionRow.status).in_(RAN),
        )
        .order_by(col(EditionRow.edition_date))
    ).all()
    told: dict[str, str] = {}
    for url, key, day in rows:
        told[url] = told[key] = f"the edition of {day.isoformat()}"
    return told


def stories_told(session: Session, slug: str, *, but: date, since: date) -> dict[str, Ran]:
    """
    The stories this newsletter told from *since* on other dates than *but*, by their ids.

    A story counts under the id it had when it ran and under the one its article has now.
    """
    rows = session.execute(
        columns(col(EditionStory.story), col(ArticleRow.story), col(ArticleRow.headline),
                col(EditionRow.edition_date), col(EditionRow.frozen_at), col(EditionRow.made_at))
        .join(EditionStory, col(EditionStory.url) == col(ArticleRow.url))
        .join(EditionRow, col(EditionRow.id) == col(EditionStory.edition_id))
        .where(
            col(EditionRow.newsletter) == slug,
            col(EditionRow.edition_date) != but,
            col(EditionRow.edition_date) >= since,
            col(EditionRow.status).in_(RAN),
        )
        .order_by(col(EditionRow.edition_date), col(ArticleRow.url))
    ).all()  # fmt: skip
    told: dict[str, Ran] = {}
    for then, now, headline, day, frozen_at, made_at in rows:
        ran = Ran(words=f"the edition of {day.isoformat()}", headline=headline, at=frozen_at or made_at)
        told.update({story: ran for story in (then, now) if story})
    return told


def _pictures(snapshot: Snapshot) -> set[str]:
    """The hashes of all pictures of ours that an edition shows."""
    addresses = [item.image.url for item in snapshot.items if item.image]
    if snapshot.front_page:
        addresses.append(snapshot.front_page.picture)
    return {found[1] for address in addresses if (found := _OURS.search(address))}


def write_content(
    session: Session, row: EditionRow, snapshot: Snapshot, renderings: Iterable[Rendered]
) -> None:
    """Replace what an edition holds: its snapshot, its stories and the bytes of its variants."""
    if row.id is None:
        raise ValueError("the edition has no id yet")
    row.snapshot = dump_snapshot(snapshot)
    session.add(row)
    session.execute(delete(Rendering).where(col(Rendering.edition_id) == row.id))
    session.execute(delete(EditionStory).where(col(EditionStory.edition_id) == row.id))
    session.execute(delete(EditionPicture).where(col(EditionPicture.edition_id) == row.id))
    for picture in sorted(_pictures(snapshot)):
        session.add(EditionPicture(picture=picture, edition_id=row.id))
    for one in renderings:
        session.add(
            Rendering(
                edition_id=row.id,
                variant=one.variant,
                subject=one.subject,
                preheader=one.preheader,
                html=zlib.compress(one.html.encode()),
                text=zlib.compress(one.text.encode()),
                other_subjects=list(one.other_subjects),
            )
        )
    urls = [item.url for item in snapshot.items]
    told = columns(col(ArticleRow.url), col(ArticleRow.story)).where(col(ArticleRow.url).in_(urls))
    stories = {row.url: row.story for row in session.execute(told)}
    for item in snapshot.items:
        session.add(
            EditionStory(
                edition_id=row.id,
                url=item.url,
                headline_key=headline_key(item.headline),
                story=stories.get(item.url, ""),
            )
        )
    session.flush()


def load_renderings(session: Session, edition_id: int) -> tuple[Rendered, ...]:
    """The stored bytes of an edition's variants, free first."""
    rows = session.exec(
        select(Rendering).where(Rendering.edition_id == edition_id).order_by(col(Rendering.variant))
    ).all()
    return tuple(
        Rendered(
            variant=row.variant,
            subject=row.subject,
            preheader=row.preheader,
            html=zlib.decompress(row.html).decode(),
            text=zlib.decompress(row.text).decode(),
            other_subjects=tuple(row.other_subjects),
        )
        for row in rows
    )


def subjects_of(session: Session, edition_id: int) -> tuple[str, ...]:
    """The subjects of an edition, the same in every variant."""
    row = session.exec(
        select(Rendering.subject, Rendering.other_subjects)
        .where(Rendering.edition_id == edition_id)
        .order_by(col(Rendering.variant))
        .limit(1)
    ).first()
    return (row[0], *row[1]) if row else ("",)


def with_chosen_subject(
    session: Session, edition_id: int, renderings: Sequence[Rendered]
) -> tuple[Rendered, ...]:
    """*renderings* with the one subject the edition is known by: the chosen one, else its first."""
    if not any(one.other_subjects for one in renderings):
        return tuple(renderings)
    test = session.get(SubjectTest, edition_id)
    letter = test.chosen if test else ""
    return tuple(
        replace(one, subject=subject_of(one.subjects, letter), other_subjects=()) for one in renderings
    )


def retitle(session: Session, edition_id: int, subject: str) -> None:
    """Let the archive's search know an edition by *subject*, if it is in there."""
    session.execute(
        update(ArchiveText)
        .where(col(ArchiveText.edition_id) == edition_id)
        .values(title=plain_line(subject))
        .execution_options(synchronize_session=False)
    )


def plain_line(line: str) -> str:
    """A line without personal tags."""
    for tag in PERSONAL_TAGS.values():
        line = line.replace(tag, "")
    return " ".join(line.split())


OPEN = (EditionStatus.SUBMITTING, EditionStatus.PAUSED)
"""States of an edition that is being sent: somebody of it waits, is in flight or is in doubt."""


def editions(session: Session, slugs: Sequence[str], *, day: date | None = None) -> list[EditionRow]:
    """
    The newest edition of each of *slugs*, of *day* if it is given, then whatever older ones are still being sent.

    In the order of *slugs*, each newsletter's newest date and revision first.
    """
    found: list[EditionRow] = []
    for slug in slugs:
        newest = latest_edition(session, slug) if day is None else current_edition(session, slug, day)
        if newest is None:
            continue
        older = (
            select(EditionRow)
            .where(
                EditionRow.newsletter == slug, EditionRow.id != newest.id, col(EditionRow.status).in_(OPEN),
            )
            .order_by(col(EditionRow.edition_date).desc(), col(EditionRow.revision).desc())
        )  # fmt: skip
        found += [
            newest,
            *session.exec(older if day is None else older.where(EditionRow.edition_date == day)),
        ]
    return found
