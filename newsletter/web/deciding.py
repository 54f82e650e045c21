"""
``/desk/{secret}``: an editor approves or holds an edition by the link in their mail.

GET shows, also to scanners, and changes nothing; a POST from the page acts, once. The link acts for whoever
holds it, so the page says whose it is, and the ledger keeps that. The words are those of the commands: English.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlmodel import Session
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from newsletter.audience.limits import Limit
from newsletter.audience.segments import audience_sizes
from newsletter.catalogue import Newsletter
from newsletter.catalogue.standing import Standing
from newsletter.desk import Desk
from newsletter.desk.approval import (
    HASH_SHOWN,
    deadline_of,
    decisions,
    find_link,
    in_words,
    made_up_at,
    slot_of,
    warnings_of,
)
from newsletter.desk.editors import ENGLISH, findings_of
from newsletter.errors import NewsletterError
from newsletter.store.editions import load_renderings
from newsletter.store.session import reading
from newsletter.store.tables import ApprovalLink, EditionRow
from newsletter.web.door import Door
from newsletter.web.forms import Verdict, read_form

PURPOSE = "go or no-go"
A_VISITOR = Limit("go or no-go from an address", 60, timedelta(hours=1))
A_NETWORK = Limit("go or no-go from a network", 300, timedelta(hours=1))

PRESS_AGAIN = (
    "This page had been open for too long, was answered faster than anybody reads, or your browser keeps no "
    "cookies. Nothing was changed; please press once more."
)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a link asks about; *subject* is '' when the edition holds nothing, *newsletter* None when it is gone."""

    link: ApprovalLink
    row: EditionRow
    newsletter: Newsletter | None
    subject: str
    sizes: dict[str, int]
    deadline: str
    slot: str
    changes: tuple[str, ...]

    @property
    def changed(self) -> bool:
        """Whether the edition is another than the one the link speaks of."""
        return self.link.content_hash != self.row.content_hash or bool(self.changes)


class Deciding:
    """The handlers of the desk's links."""

    def __init__(self, door: Door, standing: Standing) -> None:
        self.door, self.standing = door, standing
        self.desk = Desk(door.engine, door.catalogue, door.settings, door.keys, door.clock)

    def routes(self) -> list[BaseRoute]:
        """The routes of this room."""
        return [Route("/desk/{secret}", self.decide, methods=["GET", "POST"])]

    async def decide(self, request: Request) -> Response:
        """Show what is asked (GET, HEAD), or act (POST)."""
        secret = request.path_params["secret"]
        asked = await run_in_threadpool(self._asked, secret)
        if asked is None:
            raise HTTPException(404)
        if request.method != "POST":
            return self._page(request, asked)
        door, form = self.door, await read_form(request)
        if set(await door.knock(request, A_VISITOR, A_NETWORK)):
            raise HTTPException(429, headers={"Retry-After": "3600"})
        if door.forms.judge(request, form, PURPOSE, trap=True) != Verdict.GOOD:
            return self._page(request, asked, 403, note=PRESS_AGAIN)
        despite, reason = form.all("despite"), form.get("reason")
        try:
            await run_in_threadpool(self._act, secret, despite=despite, reason=reason)
        except NewsletterError as error:
            asked = await run_in_threadpool(self._asked, secret) or asked
            return self._page(request, asked, 409, note=str(error), ticked=despite)
        done = await run_in_threadpool(self._asked, secret) or asked
        return self._page(request, done, done=True)

    def _act(self, secret: str, *, despite: Sequence[str], reason: str) -> None:
        """Act by the rules of this moment; while their files cannot be read nobody decides."""
        self.desk.catalogue = self.standing.look()
        self.desk.act_by_link(secret, despite=despite, reason=reason)

    def _asked(self, secret: str) -> Asked | None:
        with reading(self.door.engine) as session:
            link = find_link(session, secret)
            if link is None:
                return None
            row = session.get_one(EditionRow, link.edition_id)
            return self._told(session, link, row)

    def _told(self, session: Session, link: ApprovalLink, row: EditionRow) -> Asked:
        publication, now = self.desk.catalogue.publication, self.door.clock()
        newsletter = next(
            (one for one in self.desk.catalogue.newsletters if one.slug == row.newsletter), None
        )
        day = row.edition_date
        subjects = {one.variant: " / ".join(one.subjects) for one in load_renderings(session, row.id or 0)}
        taken = decisions(session, row.newsletter, day)
        changes = tuple(one.detail for one in taken if one.verb == "changed" and one.at > link.made_at)
        deadline = slot = ""
        if newsletter is not None:
            moment = deadline_of(newsletter, publication, day, made_at=made_up_at(session, row))
            deadline = in_words(moment, newsletter, publication, day) if now < moment else ""
            slot = in_words(slot_of(newsletter, publication, day), newsletter, publication, day)
        return Asked(
            link, row, newsletter, next(iter(subjects.values()), ""),
            audience_sizes(session, newsletter, publication, now) if newsletter else {},
            deadline, slot, changes,
        )  # fmt: skip

    def _page(
        self, request: Request, asked: Asked, status: int = 200, *, note: str = "", done: bool = False,
        ticked: tuple[str, ...] = (),
    ) -> Response:  # fmt: skip
        link, now = asked.link, self.door.clock()
        is_open = link.used_at is None and link.expires_at > now and not asked.changed
        return self.door.pages.page(
            request, "desk.html.j2", status, words=ENGLISH, purpose=PURPOSE, asked=asked, row=asked.row, link=link,
            name=self.door.name(asked.row.newsletter), is_open=is_open and not done, done=done, note=note, ticked=ticked,
            findings=findings_of(asked.row), warnings=warnings_of(asked.row), hash_shown=HASH_SHOWN,
            needs_words=asked.newsletter is not None and asked.newsletter.approval == "required",
        )  # fmt: skip
