"""Kept pictures as rows: their bytes once, under their content; and which address brought which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete, or_, update
from sqlalchemy import select as columns
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, SQLModel, col

from newsletter.store.tables import EditionPicture, EditionRow, Picture, PictureSource


@dataclass(frozen=True, slots=True)
class Kept:
    """What became of a picture's address: its *hash*, or '' and the *reason* why it could not be had."""

    hash: str
    width: int
    height: int
    reason: str
    tried_at: datetime


def kept_pictures(session: Session, addresses: Sequence[str]) -> dict[str, Kept]:
    """What is known of *addresses*, by address; those nobody asked for are not in it."""
    found = session.execute(
        columns(
            col(PictureSource.url), col(PictureSource.picture), col(PictureSource.reason), col(PictureSource.tried_at),
            col(Picture.width), col(Picture.height),
        )
        .outerjoin(Picture, col(Picture.hash) == col(PictureSource.picture))
        .where(col(PictureSource.url).in_(addresses))
    )  # fmt: skip
    return {
        url: Kept(name or "", width or 0, height or 0, reason, tried_at)
        for url, name, reason, tried_at, width, height in found
    }


def keep_picture(
    session: Session, address: str, *, hash: str, width: int, height: int, data: bytes, at: datetime
) -> None:
    """Keep a picture's bytes once, and that *address* brought them; somebody else may have in the meantime."""
    picture = _insert(session, Picture).values(hash=hash, width=width, height=height, data=data, kept_at=at)
    session.execute(picture.on_conflict_do_nothing())
    _told(session, address, picture=hash, reason="", at=at)


def note_lost(session: Session, address: str, *, reason: str, at: datetime) -> None:
    """Write down why the picture at *address* could not be had."""
    _told(session, address, picture=None, reason=reason, at=at)


def note_used(session: Session, addresses: Sequence[str], *, at: datetime) -> None:
    """Write down that *addresses* were wanted again: what is wanted is not old."""
    session.execute(update(PictureSource).where(col(PictureSource.url).in_(addresses)).values(tried_at=at))


def delete_old(session: Session, *, before: datetime) -> int:
    """
    Delete the pictures that nobody wanted since *before*, and return how many.

    What an edition shows that was sent is in readers' mailboxes and in the archive: it stays as long as that
    edition. One that was not sent keeps its pictures until it is older than *before*, too.
    """
    shown = (
        columns(col(EditionPicture.picture))
        .join(EditionRow, col(EditionRow.id) == col(EditionPicture.edition_id))
        .where(or_(col(EditionRow.frozen_at).is_not(None), col(EditionRow.made_at) >= before))
    )
    wanted = columns(col(PictureSource.picture)).where(
        col(PictureSource.picture).is_not(None), col(PictureSource.tried_at) >= before
    )
    old = columns(col(Picture.hash)).where(
        col(Picture.kept_at) < before, col(Picture.hash).not_in(shown), col(Picture.hash).not_in(wanted)
    )
    gone = session.execute(old).scalars().all()
    for source in (col(PictureSource.picture).in_(gone), col(PictureSource.picture).is_(None)):
        session.execute(delete(PictureSource).where(source, col(PictureSource.tried_at) < before))
    session.execute(delete(Picture).where(col(Picture.hash).in_(gone)))
    return len(gone)


def picture_bytes(session: Session, hash: str) -> bytes | None:
    """The JPEG of that name; None when there is none."""
    return session.execute(columns(col(Picture.data)).where(col(Picture.hash) == hash)).scalar_one_or_none()


def _told(session: Session, address: str, *, picture: str | None, reason: str, at: datetime) -> None:
    values = {"picture": picture, "reason": reason, "tried_at": at}
    statement = _insert(session, PictureSource).values(url=address, **values)
    session.execute(statement.on_conflict_do_update(index_elements=["url"], set_=values))


def _insert(session: Session, table: type[SQLModel]) -> Any:
    dialect = session.get_bind().dialect.name
    return (postgresql if dialect == "postgresql" else sqlite).insert(table)
