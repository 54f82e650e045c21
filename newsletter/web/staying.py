"""
``/stay/{token}``: the answer of a reader who was asked whether they still want it.

GET shows a page with a button and changes nothing: scanners follow links. A press takes back whatever the
sunset did, and a press that looks like a scanner's takes one more.
"""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from newsletter.audience.leaving import Reader, find_reader
from newsletter.audience.sunset import stay
from newsletter.audience.tokens import Signer, Token, TokenKind
from newsletter.catalogue import Sunset
from newsletter.store.session import writing
from newsletter.web.door import Door
from newsletter.web.forms import read_form
from newsletter.web.presses import NOTHING_HERE


class Staying:
    """The handlers of ``/stay``."""

    def __init__(self, door: Door) -> None:
        self.door = door

    def routes(self) -> list[BaseRoute]:
        """The routes of this room."""
        return [
            Route("/stay/{token}", self.staying, methods=["GET", "POST"]),
            Route("/stay/{token}/t", self.trap, methods=["GET"]),
        ]

    async def staying(self, request: Request) -> Response:
        """Show (GET, HEAD) or stay (POST)."""
        door = self.door
        token = door.token(request, TokenKind.STAY)
        reader = await run_in_threadpool(find_reader, door.engine, token.reader)
        if reader is None:
            raise HTTPException(404)
        if request.method != "POST":
            return self._page(request, reader)
        form = await read_form(request)
        # It can be pressed at leisure, so haste tells at any time.
        if await run_in_threadpool(
            door.presses.is_machine, request, form, _name(token), just_sent=lambda: True
        ):
            return self._page(request, reader, again=True)
        await run_in_threadpool(self._stay, reader)
        again = await run_in_threadpool(find_reader, door.engine, token.reader)
        return self._page(request, again or reader, done=True)

    def _stay(self, reader: Reader) -> None:
        rule = self.door.catalogue.publication.sunset or Sunset()
        with writing(self.door.engine) as session:
            stay(session, reader.subscriber_id, rule, now=self.door.clock())

    async def trap(self, request: Request) -> Response:
        """The link no person sees."""
        token = self.door.token(request, TokenKind.STAY)
        await run_in_threadpool(self.door.presses.fall_in, _name(token))
        return PlainTextResponse(NOTHING_HERE)

    def _page(self, request: Request, reader: Reader, *, again: bool = False, done: bool = False) -> Response:
        door = self.door
        words = door.pages.words(request, reader.language)
        return door.pages.page(
            request, "stay.html.j2", words=words, again=again, done=done, stamp=door.presses.stamp(request),
            names=words.listed([door.name(slug) for slug in reader.active]) if reader.active else "",
            trap="" if done else f"/stay/{request.path_params['token']}/t",
            preferences=f"/preferences/{Signer(door.keys).preferences(reader.reader)}",
        )  # fmt: skip


def _name(token: Token) -> str:
    return f"stay.{token.reader}"
