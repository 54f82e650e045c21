"""Files that were made of an edition, such as its magazine: made once, kept with it."""

from __future__ import annotations

from sqlalchemy import select as columns
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, col

from newsletter.store.tables import EditionFile


def edition_file(session: Session, edition_id: int, kind: str) -> bytes | None:
    """The file of that *kind* (``pdf``, ``epub``); None when nobody asked for it yet."""
    wanted = (col(EditionFile.edition_id) == edition_id, col(EditionFile.kind) == kind)
    return session.execute(columns(col(EditionFile.data)).where(*wanted)).scalar_one_or_none()


def keep_edition_file(session: Session, edition_id: int, kind: str, data: bytes) -> None:
    """Keep a file; the first of two that were made at the same time stays."""
    dialect = session.get_bind().dialect.name
    insert = (postgresql if dialect == "postgresql" else sqlite).insert(EditionFile)
    session.execute(insert.values(edition_id=edition_id, kind=kind, data=data).on_conflict_do_nothing())
