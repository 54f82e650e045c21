"""
``/u/{token}``: leaving, for people and for programs; RFC 8058 to the letter.

GET shows a page with a button and changes nothing: scanners follow links. A one-click POST leaves at once,
with nothing but the address: no cookie, no login, no redirect, no write when there is nothing to end. A
press on the page's button leaves at once too, unless it looks like a scanner's: then it takes one more.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlmodel import Session
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from newsletter.audience.choosing import pause
from newsletter.audience.leaving import (
    Reader,
    Reason,
    find_reader,
    join,
    leave_as,
    leave_within,
    say_why,
    was_just_sent,
)
from newsletter.audience.tokens import NO_SCOPE, Signer, Token, TokenKind
from newsletter.audience.undoing import undo, undoably
from newsletter.times import parse_instant
from newsletter.web.door import Door
from newsletter.web.forms import Form, read_form
from newsletter.web.presses import NOTHING_HERE
from newsletter.words import Words, marked

PAUSE_DAYS = 30
BY_ONE_CLICK, BY_PAGE = "one-click from the mail", "the page behind the mail's link"

REASONS = {
    Reason.TOO_OFTEN: marked("It came too often"),
    Reason.NOT_RELEVANT: marked("It was not what I am interested in"),
    Reason.NEVER_ASKED: marked("I never asked for it"),
    Reason.ANOTHER_ADDRESS: marked("I read it at another address"),
    Reason.OTHER: marked("Something else"),
}
QUIETER_WORDS = marked("Get %(name)s instead")


class Leaving:
    """The handlers of ``/u``."""

    def __init__(self, door: Door) -> None:
        self.door = door
        known = self._slugs()
        self.quieter = {one.slug: one.quieter for one in door.catalogue.newsletters if one.quieter in known}

    def routes(self) -> list[BaseRoute]:
        """The routes of this room."""
        return [
            Route("/u/{token}", self.leaving, methods=["GET", "POST"]),
            Route("/u/{token}/undo", self.undo, methods=["POST"]),
            Route("/u/{token}/reason", self.reason, methods=["POST"]),
            Route("/u/{token}/t", self.trap, methods=["GET"]),
        ]

    async def leaving(self, request: Request) -> Response:
        """Show (GET, HEAD) or leave (POST)."""
        door = self.door
        token = door.token(request, TokenKind.UNSUBSCRIBE)
        form = await read_form(request) if request.method == "POST" else Form()
        if form.get("List-Unsubscribe") == "One-Click":
            await run_in_threadpool(self._one_click, token)
            return PlainTextResponse("You have left. Nothing more will be sent.\n")
        reader = await run_in_threadpool(find_reader, door.engine, token.reader)
        if request.method != "POST":
            return self._ask(request, token, reader)
        slug = self._slug(token, reader)
        if reader is None:
            return self._left(request, None, None)
        if await run_in_threadpool(
            door.presses.is_machine, request, form, _name(token), just_sent=lambda: self._just_sent(slug)
        ):
            return self._ask(request, token, reader, again=True, scope=form.get("scope"))
        return await run_in_threadpool(self._act, request, token, reader, slug, form.get("scope"))

    def _one_click(self, token: Token) -> None:
        """What a mailbox asks for: one look, and one write if there is something to end."""
        door = self.door
        reader = find_reader(door.engine, token.reader)
        if reader is not None:
            leave_as(door.engine, reader, self._slug(token, reader), now=door.clock(), how=BY_ONE_CLICK)

    def _act(self, request: Request, token: Token, reader: Reader, slug: str | None, scope: str) -> Response:
        door, now = self.door, self.door.clock()
        if scope == "pause":
            until, secret = undoably(
                door.engine, reader.subscriber_id, now=now,
                act=lambda session: pause(session, reader.subscriber_id, days=PAUSE_DAYS, now=now),
            )  # fmt: skip
            return self._page(
                request, "paused.html.j2", reader, until=until, zone=door.zone(reader.timezone), secret=secret,
                undo=f"/u/{request.path_params['token']}/undo", preferences=self._preferences(reader),
            )  # fmt: skip
        words = door.pages.words(request, reader.language)
        other = self.quieter.get(slug or "", "") if scope == "quieter" else ""

        def act(session: Session) -> tuple[tuple[str, ...], str]:
            ended = leave_within(session, reader, None if scope == "all" else slug, now=now, how=BY_PAGE)
            shown = words.say(QUIETER_WORDS, name=door.name(other))
            has = other and join(session, reader.subscriber_id, other, now=now, source="/u", words=shown)
            return ended, other if has else ""

        (ended, instead), secret = undoably(door.engine, reader.subscriber_id, act, now=now)
        left = None if slug is None or scope == "all" else slug
        return self._left(request, reader, left, act=now if ended else None, secret=secret, instead=instead)

    def _just_sent(self, slug: str | None) -> bool:
        with self.door.engine.connect() as connection:
            return any(
                was_just_sent(connection, one, now=self.door.clock())
                for one in ([slug] if slug else self._slugs())
            )

    def _slugs(self) -> list[str]:
        return [one.slug for one in self.door.catalogue.newsletters]

    async def trap(self, request: Request) -> Response:
        """The link no person sees."""
        token = self.door.token(request, TokenKind.UNSUBSCRIBE)
        await run_in_threadpool(self.door.presses.fall_in, _name(token))
        return PlainTextResponse(NOTHING_HERE)

    async def undo(self, request: Request) -> Response:
        """Take back what the page has just done."""
        door = self.door
        token = door.token(request, TokenKind.UNSUBSCRIBE)
        secret = (await read_form(request)).get("undo")
        back = await run_in_threadpool(undo, door.engine, secret, reader=token.reader, now=door.clock())
        reader = await run_in_threadpool(find_reader, door.engine, token.reader)
        if reader is None:
            raise HTTPException(404)
        words = door.pages.words(request, reader.language)
        return self._page(
            request, "undone.html.j2", reader, names=words.listed([door.name(slug) for slug in back or ()]),
            back=back is not None, preferences=self._preferences(reader),
        )  # fmt: skip

    async def reason(self, request: Request) -> Response:
        """Why they left, if they like to say."""
        door = self.door
        token = door.token(request, TokenKind.UNSUBSCRIBE)
        form = await read_form(request)
        act, why = _moment(form.get("act")), form.get("why")
        if act and why in set(Reason):
            await run_in_threadpool(
                say_why, door.engine, token.reader, act, Reason(why), form.text("words"), now=door.clock()
            )
        reader = await run_in_threadpool(find_reader, door.engine, token.reader)
        return self._page(request, "thanks.html.j2", reader)

    def _ask(
        self, request: Request, token: Token, reader: Reader | None, *, again: bool = False, scope: str = ""
    ) -> Response:
        door, slug = self.door, self._slug(token, reader)
        other = self.quieter.get(slug or "", "")
        gets = reader.gets if reader else ()
        return self._page(
            request, "leave.html.j2", reader, name=door.name(slug), slug=slug, again=again, scope=scope, stamp=door.presses.stamp(request),
            all_too=slug is not None and len(gets) > 1, pause_days=PAUSE_DAYS, has_left=reader is not None and not again
            and (slug not in gets if slug is not None else not gets), trap=f"/u/{request.path_params['token']}/t",
            quieter=door.name(other) if other and other not in gets else "",
        )  # fmt: skip

    def _left(
        self, request: Request, reader: Reader | None, slug: str | None, *, act: datetime | None = None,
        secret: str = "", instead: str = "",
    ) -> Response:  # fmt: skip
        door, path = self.door, f"/u/{request.path_params['token']}"
        return self._page(
            request, "left.html.j2", reader, name=door.name(slug), everything=slug is None, secret=secret,
            act=act.isoformat() if act else "", instead=door.name(instead) if instead else "", undo=f"{path}/undo",
            reason=f"{path}/reason", reasons=tuple(REASONS.items()),
            preferences=self._preferences(reader) if reader else "",
        )  # fmt: skip

    def _page(self, request: Request, template: str, reader: Reader | None, **values: Any) -> Response:
        words: Words = self.door.pages.words(request, reader.language if reader else "")
        return self.door.pages.page(request, template, words=words, **values)

    def _preferences(self, reader: Reader) -> str:
        return f"/preferences/{Signer(self.door.keys).preferences(reader.reader)}"

    def _slug(self, token: Token, reader: Reader | None) -> str | None:
        """The newsletter of an unsubscribe token; None for all; '' for one they never had."""
        if token.scope == NO_SCOPE:
            return None
        return reader.slug_of(token.scope) if reader else ""


def _name(token: Token) -> str:
    return f"{token.reader}.{token.scope.hex()}"


def _moment(text: str) -> datetime | None:
    try:
        return parse_instant(text)
    except ValueError:
        return None
