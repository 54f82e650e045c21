"""
``/u/{token}``: leaving, for people and for programs; RFC 8058 to the letter.

GET shows a page with a button and changes nothing: scanners follow links. POST to the same address
leaves at once, with nothing but the address: no cookie, no login, no redirect.
"""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from newsletter.audience.subscribers import leave, slug_of_scope
from newsletter.audience.tokens import NO_SCOPE, Token, TokenKind
from newsletter.store.session import reading
from newsletter.web.door import Door
from newsletter.web.forms import read_form


class Leaving:
    """The handlers of ``/u``."""

    def __init__(self, door: Door) -> None:
        self.door = door

    def routes(self) -> list[BaseRoute]:
        """The routes of this room."""
        return [Route("/u/{token}", self.leaving, methods=["GET", "POST"])]

    async def leaving(self, request: Request) -> Response:
        """Show (GET, HEAD) or leave (POST)."""
        door = self.door
        token = door.token(request, TokenKind.UNSUBSCRIBE)
        slug = await run_in_threadpool(self._slug, token)
        name = door.name(slug)
        if request.method != "POST":
            return door.pages.page(request, "leave.html.j2", name=name, slug=slug, all_too=slug is not None)
        form = await read_form(request)
        everything = slug is None or form.get("scope") == "all"
        one_click = form.get("List-Unsubscribe") == "One-Click"
        how = "one-click from the mail" if one_click else "the page behind the mail's link"
        await run_in_threadpool(
            leave, door.engine, token.reader, None if everything else slug, now=door.clock(), how=how
        )
        return door.pages.page(request, "left.html.j2", name=name, everything=everything)

    def _slug(self, token: Token) -> str | None:
        """The newsletter of an unsubscribe token; None for all."""
        if token.scope == NO_SCOPE:
            return None
        with reading(self.door.engine) as session:
            slug = slug_of_scope(session, token.reader, token.scope)
        return slug if slug is not None else ""
