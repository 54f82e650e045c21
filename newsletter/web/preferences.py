"""
``/preferences``: what a reader gets and says of themselves.

With a session everything. By the mail's own link, which may be forwarded, only what can be taken back: a
newsletter they do not get waits for a confirming mail, and address, data and erasure ask to log in by one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import time

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from newsletter.audience.addresses import normalise
from newsletter.audience.choosing import (
    BY_PAGE,
    Choices,
    choose,
    describe,
    find_choices,
    go_on,
    pause,
)
from newsletter.audience.joining import Asked, Told, Wish, ask_to_join
from newsletter.audience.leaving import leave_within
from newsletter.audience.limits import Knock, knock
from newsletter.audience.moving import stay as keep_address
from newsletter.audience.sunset import Step, stay
from newsletter.audience.tokens import TokenKind
from newsletter.audience.undoing import undo, undoably
from newsletter.catalogue import Sunset
from newsletter.notices import Kind
from newsletter.store.session import writing
from newsletter.web.door import Door, afterwards
from newsletter.web.forms import Form, Verdict, read_form
from newsletter.web.joining import AN_ADDRESS, AN_ADDRESS_A_DAY
from newsletter.web.presses import NOTHING_HERE
from newsletter.words import LANGUAGES, Words, known_zones, marked

PURPOSE = "preferences"
CONSENT = marked("Tick what you would like to get. What you untick stops at once.")
FIELDS = ("do", "days", "shown", "newsletters", "name", "language", "zone", "hour")
PAUSES = (7, 14, 30, 90)
HOURS = tuple(time(half // 2, half % 2 * 30) for half in range(48))


@dataclass(frozen=True, slots=True)
class Done:
    """What a press did, in words, the *secret* that takes it back, if anything, and what mails follow."""

    told: str = ""
    secret: str = ""
    mail: Callable[[], None] | None = None


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
            Route("/preferences/{token}/t", self.trap, methods=["GET"]),
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
        """What can be taken back, for who has the mail; a press that looks like a scanner's takes one more."""
        door = self.door
        token = door.token(request, TokenKind.PREFERENCES)
        choices = await run_in_threadpool(find_choices, door.engine, reader=token.reader)
        if choices is None:
            raise HTTPException(404)
        if request.method != "POST":
            return self._page(request, choices, whole=False)
        form = await read_form(request)
        # Nobody fills this page faster than it is read, so haste tells at any time. Who undoes has read.
        if form.get("do") != "undo" and await run_in_threadpool(
            door.presses.is_machine, request, form, token.reader, just_sent=lambda: True
        ):
            return door.ask_again(request, form, keep=FIELDS, language=choices.language)
        return await self._changed(request, choices, form, whole=False)

    async def trap(self, request: Request) -> Response:
        """The link no person sees."""
        token = self.door.token(request, TokenKind.PREFERENCES)
        await run_in_threadpool(self.door.presses.fall_in, token.reader)
        return PlainTextResponse(NOTHING_HERE)

    async def _changed(self, request: Request, choices: Choices, form: Form, *, whole: bool) -> Response:
        door = self.door
        words = door.pages.words(request, choices.language)
        done = await run_in_threadpool(self._do, choices, form, words, whole=whole)
        again = await run_in_threadpool(find_choices, door.engine, subscriber_id=choices.reader.subscriber_id)
        if again is None:
            raise HTTPException(404)
        answer = self._page(request, again, whole=whole, done=done)
        if done.mail:
            answer.background = afterwards(done.mail)
        return answer

    def _do(self, choices: Choices, form: Form, words: Words, *, whole: bool) -> Done:
        """Do what a press asks for."""
        engine, now, number = self.door.engine, self.door.clock(), choices.reader.subscriber_id
        match form.get("do"):
            case "save":
                return self._save(choices, form, words, proved=whole)
            case "pause":
                told = form.get("days")
                days = int(told) if told.isdecimal() and len(told) < 4 else 30
                until, secret = undoably(
                    engine, number, lambda session: pause(session, number, days=days, now=now), now=now
                )
                day = words.day(until, self.door.zone(choices.timezone))
                return Done(words.say("It is quiet until %(day)s", day=day), secret)
            case "stay":
                self._stay(number)
                return Done(words.say("It goes on"))
            case "go-on":
                if choices.sunset == Step.PAUSED:
                    self._stay(number)
                go_on(engine, number)
                return Done(words.say("The pause is over."))
            case "leave-all":
                _, secret = undoably(
                    engine, number, now=now,
                    act=lambda session: leave_within(session, choices.reader, None, now=now, how=BY_PAGE),
                )  # fmt: skip
                return Done(words.say("You have left all newsletters."), secret)
            case "undo":
                if undo(engine, form.get("undo"), reader=choices.reader.reader, now=now) is None:
                    return Done(words.say("This cannot be taken back here"))
                return Done(words.say("All is as it was"))
            case "drop-address" if whole:
                keep_address(engine, number)
                return Done(words.say("Your address stays as it is."))
            case _:
                return Done()

    def _stay(self, number: int) -> None:
        """Take back what the sunset did."""
        rule = self.door.catalogue.publication.sunset or Sunset()
        with writing(self.door.engine) as session:
            stay(session, number, rule, now=self.door.clock())

    def _save(self, choices: Choices, form: Form, words: Words, *, proved: bool) -> Done:
        engine, now = self.door.engine, self.door.clock()
        shown = [slug for slug in form.all("shown") if slug in self.slugs]
        changed, secret = undoably(
            engine, choices.reader.subscriber_id, now=now,
            act=lambda session: choose(
                session, choices, shown=shown, wanted=form.all("newsletters"), source="/preferences",
                words=words.say(CONSENT), now=now, proved=proved,
            ),
        )  # fmt: skip
        asked = self._ask_for(choices, changed.waiting, words) if changed.waiting else Asked(Told.NOTHING)
        said = {"name": form.get("name", 100)} if "name" in form.fields else {}
        if form.get("language") in LANGUAGES:
            said["language"] = form.get("language")
        if form.get("zone") in known_zones():
            said["timezone"] = form.get("zone")
        if self.has_local and "hour" in form.fields:
            said["deliver_at"] = form.get("hour")
        describe(engine, choices.reader.subscriber_id, said, now=now)
        refused = [slug for slug in (*changed.refused, *changed.waiting) if slug not in asked.newsletters]
        if asked.newsletters:
            told = words.say(
                "Saved. %(names)s will come once you press the button in the mail that is on its way to you.",
                names=words.listed([self.door.name(slug) for slug in asked.newsletters]),
            )  # fmt: skip
        elif refused:
            told = words.say(
                "Saved; but %(names)s cannot be sent to this address at present. Write to us if that is wrong.",
                names=words.listed([self.door.name(slug) for slug in refused]),
            )  # fmt: skip
        else:
            told = words.say("Saved.")
        follows = changed.first or asked.told == Told.CONFIRM
        return Done(
            told, secret if changed.left else "",
            mail=(lambda: self._write(choices, changed.first, asked, words)) if follows else None,
        )  # fmt: skip

    def _ask_for(self, choices: Choices, slugs: tuple[str, ...], words: Words) -> Asked:
        """Keep the wish for what waits; its mail goes no more often than from the page where one joins."""
        door, now = self.door, self.door.clock()
        _, key = normalise(choices.email)
        if knock(
            door.engine, [Knock(AN_ADDRESS, key), Knock(AN_ADDRESS_A_DAY, key)], keys=door.keys, now=now
        ):
            return Asked(Told.NOTHING, newsletters=slugs)
        wish = Wish(
            slugs, "/preferences", words.say(CONSENT), choices.name, choices.language, choices.timezone
        )
        return ask_to_join(door.engine, choices.email, wish, keys=door.keys, now=now)

    def _write(self, choices: Choices, first: tuple[str, ...], asked: Asked, words: Words) -> None:
        """The mails that follow: a welcome to what is new, the confirming one for what waits."""
        notices, number, language = self.door.notices, choices.reader.subscriber_id, words.language
        if first:
            notices.send(Kind.WELCOME, number, language=language, values={"newsletters": first})
        if asked.told == Told.CONFIRM:
            values = {"link": f"/confirm/{asked.secret}", "newsletters": asked.newsletters}
            notices.send(Kind.CONFIRM, asked.subscriber_id, language=language, values=values)

    def _page(
        self,
        request: Request,
        choices: Choices,
        *,
        whole: bool,
        done: Done | None = None,
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
            if paying or not one.is_for_members or one.slug in choices.reader.gets
        )  # fmt: skip
        is_paused = choices.paused_until is not None and choices.paused_until > now
        until, zone = choices.plan_until, self.door.zone(choices.timezone)
        return door.pages.page(
            request, "preferences.html.j2", status, words=words, purpose=PURPOSE if whole else "", whole=whole,
            choices=choices, entries=entries, chosen=choices.reader.active, waiting=choices.reader.waiting,
            done=done or Done(), note=note, stamp="" if whole else door.presses.stamp(request),
            trap="" if whole else f"/preferences/{request.path_params['token']}/t",
            plan=plan.name_in(words.language) if plan else choices.plan, has_ended=until is not None and until <= now,
            plan_until=words.day(until, zone) if until else "", consent=words.say(CONSENT),
            zone=zone, language=choices.language or words.language,
            hours=[(f"{one:%H:%M}", words.clock(one)) for one in HOURS] if self.has_local else [],
            paused_until=words.day(choices.paused_until, zone) if is_paused and choices.paused_until else "",
            pauses=PAUSES, sunset=choices.sunset,
        )  # fmt: skip
