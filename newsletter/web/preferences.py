"""``/preferences/{token}``: what a reader gets, with a button for each."""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from newsletter.audience.subscribers import Standing, leave, rejoin, standing
from newsletter.audience.tokens import TokenKind
from newsletter.store.session import reading
from newsletter.web.door import Door
from newsletter.web.forms import Form, read_form
from newsletter.words import Words


class Preferences:
    """The handlers of ``/preferences``."""

    def __init__(self, door: Door) -> None:
        self.door = door

    def routes(self) -> list[BaseRoute]:
        """The routes of this room."""
        return [Route("/preferences/{token}", self.by_mail, methods=["GET", "POST"])]

    async def by_mail(self, request: Request) -> Response:
        """The page behind the mail's own link."""
        door = self.door
        token = door.token(request, TokenKind.PREFERENCES)
        found = await run_in_threadpool(self._standing, token.reader)
        if found is None:
            raise HTTPException(404)
        words = door.pages.words(request, found.language)
        done = ""
        if request.method == "POST":
            form = await read_form(request)
            done = await run_in_threadpool(self._choose, token.reader, form, words)
            found = await run_in_threadpool(self._standing, token.reader) or found
        abouts = {one.slug: one.description for one in door.catalogue.newsletters}
        rows = [
            {"slug": slug, "name": door.name(slug), "about": abouts.get(slug, ""), "gets": state != "left"}
            for slug, state in found.subscriptions
        ]
        return door.pages.page(
            request, "preferences.html.j2", words=words, masked=found.masked, rows=rows, done=done
        )

    def _choose(self, reader: str, form: Form, words: Words) -> str:
        engine, now = self.door.engine, self.door.clock()
        leaving, joining = form.get("leave"), form.get("join")
        how = "the preferences page"
        if form.get("scope") == "all":
            leave(engine, reader, None, now=now, how=how)
            return words.say("You have left all newsletters.")
        if leaving:
            leave(engine, reader, leaving, now=now, how=how)
            return words.say("You have left %(name)s.", name=words.isolated(self.door.name(leaving)))
        if joining and rejoin(engine, reader, joining, now=now, how=how):
            return words.say("You get %(name)s again.", name=words.isolated(self.door.name(joining)))
        return ""

    def _standing(self, reader: str) -> Standing | None:
        with reading(self.door.engine) as session:
            return standing(session, reader)
