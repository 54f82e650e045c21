"""
``/preferences``: what a reader gets and says of themselves.

With a session everything. By the mail's own link, which may be forwarded, only what can be taken back:
the rest (address, data, erasure) asks to log in by a mail first.
"""

from __future__ import annotations

from datetime import time

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from newsletter.audience.choosing import Choices, choose, describe, drop_address, find_choices, go_on, pause
from newsletter.audience.leaving import leave_as
from newsletter.audience.tokens import TokenKind
from newsletter.web.door import Door
from newsletter.web.forms import Form, Verdict, read_form
from newsletter.words import LANGUAGES, Words, known_zones, marked

PURPOSE = "preferences"
CONSENT = marked("Tick what you would like to get. What you untick stops at once.")
PAUSES = (7, 14, 30, 90)
HOURS = tuple(time(half // 2, half % 2 * 30) for half in range(48))


class Preferences:
    """The handlers of the preference centre."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self.slugs = tuple(one.slug for one in door.catalogue.newsletters)
        self.has_local = any(one.local_time for one in door.catalogue.newsletters)

    def routes(self) -> list[BaseRoute]:
        """The routes of this room."""
        return [
            Route("/preferences", self.by_session, methods=["GET", "POST"]),
            Route("/preferences/{token}", self.by_mail, methods=["GET", "POST"]),
        ]

    async def by_session(self, request: Request) -> Response:
        """Everything, for who is logged in."""
        door = self.door
        visitor = await door.visitor(request)
        if visitor is None:
            return door.pages.see(request, "/login")
        choices = await run_in_threadpool(find_choices, door.engine, subscriber_id=visitor.subscriber_id)
        if choices is None:
            return door.pages.see(request, "/login")
        if request.method != "POST":
            return self._page(request, choices, whole=True)
        form = await read_form(request)
        if door.forms.judge(request, form, PURPOSE) != Verdict.GOOD:
            words = door.pages.words(request, choices.language)
            note = words.say("This page had been open for too long, or your browser keeps no cookies. Please press once more.")  # fmt: skip
            return self._page(request, choices, whole=True, note=note, status=403)
        return await self._changed(request, choices, form, whole=True)

    async def by_mail(self, request: Request) -> Response:
        """What can be taken back, for who has the mail."""
        door = self.door
        token = door.token(request, TokenKind.PREFERENCES)
        choices = await run_in_threadpool(find_choices, door.engine, reader=token.reader)
        if choices is None:
            raise HTTPException(404)
        if request.method != "POST":
            return self._page(request, choices, whole=False)
        return await self._changed(request, choices, await read_form(request), whole=False)

    async def _changed(self, request: Request, choices: Choices, form: Form, *, whole: bool) -> Response:
        door = self.door
        words = door.pages.words(request, choices.language)
        done = await run_in_threadpool(self._do, choices, form, words, whole=whole)
        again = await run_in_threadpool(find_choices, door.engine, subscriber_id=choices.reader.subscriber_id)
        if again is None:
            raise HTTPException(404)
        return self._page(request, again, whole=whole, done=done)

    def _do(self, choices: Choices, form: Form, words: Words, *, whole: bool) -> str:
        """Do what a press asks for; say in words what was done."""
        engine, now, number = self.door.engine, self.door.clock(), choices.reader.subscriber_id
        match form.get("do"):
            case "save":
                return self._save(choices, form, words)
            case "pause":
                days = form.get("days")
                until = pause(
                    engine, number, days=int(days) if days.isdecimal() and len(days) < 4 else 30, now=now
                )
                return words.say("It is quiet until %(day)s", day=words.date(until.date()))
            case "go-on":
                go_on(engine, number)
                return words.say("The pause is over.")
            case "leave-all":
                leave_as(engine, choices.reader, None, now=now, how="the preferences page")
                return words.say("You have left all newsletters.")
            case "drop-address" if whole:
                drop_address(engine, number)
                return words.say("Your address stays as it is.")
            case _:
                return ""

    def _save(self, choices: Choices, form: Form, words: Words) -> str:
        engine, now = self.door.engine, self.door.clock()
        shown = [slug for slug in form.all("shown") if slug in self.slugs]
        changed = choose(
            engine, choices, shown=shown, wanted=form.all("newsletters"), source="/preferences",
            words=words.say(CONSENT), now=now,
        )  # fmt: skip
        said = {"name": form.get("name", 100)} if "name" in form.fields else {}
        if form.get("language") in LANGUAGES:
            said["language"] = form.get("language")
        if form.get("zone") in known_zones():
            said["timezone"] = form.get("zone")
        if self.has_local and "hour" in form.fields:
            said["deliver_at"] = form.get("hour")
        describe(engine, choices.reader.subscriber_id, said, now=now)
        if changed.refused:
            return words.say(
                "Saved; but %(names)s cannot be sent to this address at present. Write to us if that is wrong.",
                names=words.listed([self.door.name(slug) for slug in changed.refused]),
            )  # fmt: skip
        return words.say("Saved.")

    def _page(
        self,
        request: Request,
        choices: Choices,
        *,
        whole: bool,
        done: str = "",
        note: str = "",
        status: int = 200,
    ) -> Response:
        door, now = self.door, self.door.clock()
        words = door.pages.words(request, choices.language)
        publication = door.catalogue.publication
        plan = next((one for one in publication.plans if one.id == choices.plan), None)
        paying = publication.class_of(choices.plan) == "paying" and (
            choices.plan_until is None or choices.plan_until > now
        )
        entries = tuple(
            one for one in door.listing(words)
            if paying or not one.is_for_members or choices.reader.states.get(one.slug) == "active"
        )  # fmt: skip
        is_paused = choices.paused_until is not None and choices.paused_until > now
        until = choices.plan_until
        return door.pages.page(
            request, "preferences.html.j2", status, words=words, purpose=PURPOSE if whole else "", whole=whole,
            choices=choices, entries=entries, chosen=choices.reader.gets, done=done, note=note,
            plan=plan.name if plan else choices.plan, has_ended=until is not None and until <= now,
            plan_until=words.date(until.date()) if until else "", consent=words.say(CONSENT),
            zone=choices.timezone or publication.timezone, language=choices.language or words.language,
            hours=[(f"{one:%H:%M}", words.clock(one)) for one in HOURS] if self.has_local else [],
            paused_until=words.date(choices.paused_until.date()) if is_paused and choices.paused_until else "",
            pauses=PAUSES,
        )  # fmt: skip
