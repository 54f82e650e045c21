"""View online: the mail as this reader got it, from the stored bytes, with this reader's own links."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta

from markupsafe import escape
from sqlalchemy import select as columns
from sqlmodel import Session, col, select
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from newsletter.archive import SHOWN
from newsletter.audience.segments import variant_index, variants
from newsletter.audience.tokens import TokenKind
from newsletter.catalogue import class_of
from newsletter.desk import Desk
from newsletter.edition import Rendered, subject_of
from newsletter.outbox.claim import Readers
from newsletter.outbox.envelopes import recipients
from newsletter.outbox.subjects import subject_drawn
from newsletter.rendering.engine import fill
from newsletter.store.editions import load_renderings
from newsletter.store.session import reading
from newsletter.store.tables import EditionRow, Subscriber
from newsletter.web.archive import SMALLER, mail_policy
from newsletter.web.door import Door

PAID_VIEW_DAYS = 30
"""How long a paying reader's link shows the paid variant; afterwards it shows the free one."""


class Viewing:
    """``/view/{token}``: the mail in a browser."""

    def __init__(self, door: Door, view: Callable[[str, bytes], str | None] | None) -> None:
        self.door, self.view = door, view

    def routes(self) -> list[BaseRoute]:
        """The routes of this room."""
        return [
            Route("/view/{token}", self.view_online, methods=["GET"], middleware=SMALLER),
        ]

    def view_online(self, request: Request) -> Response:
        """Show the reader's variant."""
        token = self.door.token(request, TokenKind.VIEW)
        page = self.view(token.reader, token.scope) if self.view else None
        if page is None:
            raise HTTPException(404)
        policy = mail_policy(self.door.catalogue.publication, self.door.settings.base_url)
        return HTMLResponse(page, headers={"Content-Security-Policy": policy})


def view_online(desk: Desk, reader: str, scope: bytes, *, now: datetime) -> str | None:
    """
    The HTML of the edition that *scope* names, in the variant *reader* may see now; None if there is none.

    Only what was frozen can be seen, and not what was spiked: a draft has no readers. A correction shows instead of what it corrects.
    """
    with reading(desk.engine) as session:
        seen = seen_by(session, desk, reader, scope, now)
        if seen is None:
            return None
        row, variant = seen
        renderings = load_renderings(session, row.id or 0)
        subscriber_id = session.exec(select(Subscriber.id).where(Subscriber.reader == reader)).one() or 0
        letter, _ = subject_drawn(session, row.id or 0, subscriber_id)
    found = {one.variant: one for one in renderings}
    rendered = found.get(variant) or found.get(class_of(variant))
    if rendered is None:
        return None
    recipient = recipients(desk.sender.signer, desk.sender.base_url, row, Readers("", reader, ("",), ("",)))[
        0
    ]
    return fill(_titled(rendered, letter), recipient.values)


def _titled(rendered: Rendered, letter: str) -> str:
    """The page under the subject its reader got, where there were several: the mail itself holds none of them."""
    if not rendered.other_subjects:
        return rendered.html
    title = f"<title>{escape(subject_of(rendered.subjects, letter))}</title>"
    return re.sub(r"<title>.*?</title>", lambda _: title, rendered.html, count=1, flags=re.DOTALL)


def seen_by(
    session: Session, desk: Desk, reader: str, scope: bytes, now: datetime
) -> tuple[EditionRow, str] | None:
    """The newest revision that *scope* names, and the variant *reader* may see of it."""
    row = session.exec(
        select(EditionRow)
        .where(
            EditionRow.link_scope == scope.hex(),
            col(EditionRow.frozen_at).is_not(None),
            col(EditionRow.status).in_(SHOWN),
        )
        .order_by(col(EditionRow.revision).desc())
    ).first()
    subscriber = session.exec(select(Subscriber).where(Subscriber.reader == reader)).first()
    if row is None or subscriber is None:
        return None
    return row, _variant(session, desk, row, subscriber, now)


def _variant(session: Session, desk: Desk, row: EditionRow, subscriber: Subscriber, now: datetime) -> str:
    frozen = row.frozen_at or now
    if now - frozen > timedelta(days=PAID_VIEW_DAYS):
        return "free"
    publication = desk.catalogue.publication
    newsletter = next((one for one in desk.catalogue.newsletters if one.slug == row.newsletter), None)
    reminders = publication.reminders_named(newsletter.reminders) if newsletter else ()
    index = variant_index(publication, reminders, now, reminded_at=frozen)
    found = session.execute(columns(index).where(col(Subscriber.id) == subscriber.id)).scalar_one()
    return str(variants(reminders)[found])
