"""
The magazine of an edition as a file, and the members' archive of all issues: below a reader's own link.

``/view/{token}`` says whose eyes they are; whether these pay is looked up each time, and the link counts as long
as it shows a paid edition. Strangers and free readers meet nothing, not even that there is something.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import select as columns
from sqlmodel import Session, col, select
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from newsletter.archive import SHOWN
from newsletter.audience.tokens import TokenKind
from newsletter.catalogue import class_of
from newsletter.desk import Desk
from newsletter.rendering.magazine import is_installed
from newsletter.store.editions import load_snapshot
from newsletter.store.files import edition_file, keep_edition_file
from newsletter.store.session import reading, writing
from newsletter.store.tables import EditionRow
from newsletter.times import Clock
from newsletter.web.door import Door
from newsletter.web.view import seen_by

KINDS = {"pdf": "application/pdf", "epub": "application/epub+zip"}
MOST_ISSUES = 60
"""Listed on one page: more than a year of a weekly."""


@dataclass(frozen=True, slots=True)
class Issue:
    """One issue as it is listed."""

    day: date
    title: str


class Shelf:
    """The issues there are, for the reader of a link."""

    def __init__(self, desk: Desk, clock: Clock) -> None:
        self.desk, self.clock = desk, clock

    def file(self, reader: str, scope: bytes, kind: str, day: date | None = None) -> bytes | None:
        """One file, see ``magazine_of``."""
        return magazine_of(self.desk, reader, scope, kind, now=self.clock(), day=day)

    def issues(self, reader: str, scope: bytes) -> tuple[str, tuple[Issue, ...]] | None:
        """The newsletter's slug and its issues, see ``issues_of``."""
        return issues_of(self.desk, reader, scope, now=self.clock())


def magazine_of(
    desk: Desk, reader: str, scope: bytes, kind: str, *, now: datetime, day: date | None = None
) -> bytes | None:
    """
    The file of *kind* of the edition that *scope* names, or of its newsletter's of *day*; None for who is not
    paying now, or if it has no magazine.

    It is made when somebody first asks for it, from the snapshot that was sent, and kept.
    """
    with reading(desk.engine) as session:
        row = _for_members(session, desk, reader, scope, now)
        if row is not None and day is not None:
            row = session.exec(
                select(EditionRow)
                .where(*_sent(row.newsletter), EditionRow.edition_date == day)
                .order_by(col(EditionRow.revision).desc())
            ).first()
        if row is None or not row.snapshot:
            return None
        number, data = row.id or 0, edition_file(session, row.id or 0, kind)
        snapshot = load_snapshot(row.snapshot)
    if data is None and snapshot.magazine and is_installed():
        data = desk.magazine(snapshot, kind)
        with writing(desk.engine) as session:
            keep_edition_file(session, number, kind, data)
    return data


def issues_of(
    desk: Desk, reader: str, scope: bytes, *, now: datetime
) -> tuple[str, tuple[Issue, ...]] | None:
    """The newsletter that *scope* names and its issues with a magazine, newest first; None for who is not paying now."""
    snapshot = col(EditionRow.snapshot)
    with reading(desk.engine) as session:
        row = _for_members(session, desk, reader, scope, now)
        if row is None:
            return None
        listed = session.execute(
            columns(col(EditionRow.edition_date), snapshot["subject"].as_string())
            .where(*_sent(row.newsletter), snapshot["magazine"].as_boolean())
            .order_by(col(EditionRow.edition_date).desc(), col(EditionRow.revision).desc())
            .limit(2 * MOST_ISSUES)
        ).all()
    issues: dict[date, Issue] = {}
    for day, title in listed:
        issues.setdefault(day, Issue(day, title))
    return row.newsletter, tuple(issues.values())[:MOST_ISSUES]


def _for_members(session: Session, desk: Desk, reader: str, scope: bytes, now: datetime) -> EditionRow | None:
    """The edition that *scope* names, if *reader* may see it as one who pays."""
    seen = seen_by(session, desk, reader, scope, now)
    return seen[0] if seen and class_of(seen[1]) == "paying" else None


def _sent(slug: str) -> tuple[Any, ...]:
    """That an edition is of *slug* and was sent."""
    return (
        EditionRow.newsletter == slug, col(EditionRow.frozen_at).is_not(None), col(EditionRow.status).in_(SHOWN),
    )  # fmt: skip


class Issues:
    """``/view/{token}/magazine.pdf`` and ``.epub``, ``/view/{token}/issues`` and what is linked there."""

    def __init__(self, door: Door, shelf: Shelf | None) -> None:
        self.door, self.shelf = door, shelf
        self._making = threading.Lock()

    def routes(self) -> list[BaseRoute]:
        """The routes of this room."""
        return [
            Route("/view/{token}/magazine.{kind}", self.file, methods=["GET"]),
            Route("/view/{token}/issues", self.all, methods=["GET"]),
            Route("/view/{token}/issues/{day}.{kind}", self.file, methods=["GET"]),
        ]

    def file(self, request: Request) -> Response:
        """The magazine of an edition, to those who are paying now."""
        token = self.door.token(request, TokenKind.VIEW)
        kind, told = request.path_params["kind"], request.path_params.get("day")
        try:
            day = date.fromisoformat(told) if told else None
        except ValueError:
            raise HTTPException(404) from None
        if kind not in KINDS or self.shelf is None:
            raise HTTPException(404)
        with self._making:  # the first who asks waits for its making, and so do those who come meanwhile
            data = self.shelf.file(token.reader, token.scope, kind, day)
        if data is None:
            raise HTTPException(404)
        return Response(data, media_type=KINDS[kind], headers={"Cache-Control": "private, max-age=3600"})

    def all(self, request: Request) -> Response:
        """All issues, to those who are paying now."""
        token = self.door.token(request, TokenKind.VIEW)
        found = self.shelf.issues(token.reader, token.scope) if self.shelf else None
        if found is None:
            raise HTTPException(404)
        slug, issues = found
        newsletter = self.door.catalogue[slug]
        spoken = self.door.pages.words(request, newsletter.language)
        return self.door.pages.page(
            request, "issues.html.j2", words=spoken, newsletter=newsletter, here=request.url.path.rpartition("/view/")[2],
            rows=[{"day": issue.day, "when": spoken.date(issue.day), "title": issue.title} for issue in issues],
        )  # fmt: skip
