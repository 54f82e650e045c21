"""
``/login``, ``/login/{token}`` and ``/logout``: in by a one-time link from the mail, out by a button.

As with joining, the answer is the same for everybody and goes before anybody is looked up.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from newsletter.audience.addresses import normalise
from newsletter.audience.doors import SESSION_LASTS, Purpose, close_session, enter, find_door, look_at_link
from newsletter.audience.limits import Knock, Limit
from newsletter.notices import Kind
from newsletter.store.session import reading
from newsletter.web.door import Door, afterwards
from newsletter.web.forms import TRAP, Verdict, read_form
from newsletter.web.joining import LONGEST_ADDRESS, address_fault

AN_ADDRESS = Limit("log in as an address", 3, timedelta(minutes=15))
AN_ADDRESS_A_DAY = Limit("log in as an address", 10, timedelta(days=1))
A_VISITOR = Limit("log in from an address", 20, timedelta(hours=1))
A_NETWORK = Limit("log in from a network", 100, timedelta(hours=1))

ASK, ENTER, LEAVE = "log in", "enter", "log out"
THEN: Mapping[str, str] = {
    "": "/preferences",
    "address": "/preferences/address",
    "data": "/preferences/data",
    "erase": "/preferences/erase",
}
"""Where a reader may want to go by logging in; nothing else can stand in a link, so nobody is sent elsewhere."""


class Entering:
    """The handlers of logging in and out."""

    def __init__(self, door: Door) -> None:
        self.door = door

    def routes(self) -> list[BaseRoute]:
        """The routes of this room."""
        return [
            Route("/login", self.ask, methods=["GET", "POST"]),
            Route("/login/{token}", self.enter, methods=["GET", "POST"]),
            Route("/logout", self.leave, methods=["GET", "POST"]),
        ]

    async def ask(self, request: Request) -> Response:
        """Ask for a link by mail."""
        door = self.door
        if request.method != "POST":
            then = _then(request.query_params.get("then", ""))
            visitor = await door.visitor(request)
            if visitor is not None and (visitor.is_fresh or not then):
                return door.pages.see(request, THEN[then])
            return door.pages.page(
                request, "login.html.j2", purpose=ASK, email="", then=then, note="", fault=""
            )
        form = await read_form(request)
        spoken = door.pages.words(request)
        email, then = form.get("email", LONGEST_ADDRESS), _then(form.get("then"))
        fault = address_fault(email, spoken)
        verdict = door.forms.judge(request, form, ASK)
        if fault or verdict != Verdict.GOOD:
            note = "" if verdict == Verdict.GOOD else spoken.say(
                "This page had been open for too long, or your browser keeps no cookies. Please press once more."
            )  # fmt: skip
            return door.pages.page(
                request, "login.html.j2", 403 if note else 422, purpose=ASK, email=email, then=then, note=note, fault=fault
            )  # fmt: skip
        answer = door.pages.page(request, "mailed.html.j2", email=email)
        if form.get(TRAP):
            return answer
        _, key = normalise(email)
        over = await door.knock(
            request, A_VISITOR, A_NETWORK, Knock(AN_ADDRESS, key), Knock(AN_ADDRESS_A_DAY, key)
        )
        if A_VISITOR in over or A_NETWORK in over:
            raise HTTPException(429, headers={"Retry-After": "3600"})
        if not over:
            answer.background = afterwards(self._mail_link, email, spoken.language, then)
        return answer

    def _mail_link(self, email: str, language: str, then: str) -> None:
        """The mail to who may log in; for anybody else the same work, so that nothing behind it is slower."""
        subscriber_id = find_door(self.door.engine, email)
        if subscriber_id is None:
            self.door.notices.rehearse(Kind.LOGIN, language=language)
        else:
            self.door.notices.send_login(subscriber_id, language=language, then=then)

    async def enter(self, request: Request) -> Response:
        """``/login/{token}``: GET shows a button, POST opens a session."""
        door = self.door
        secret = request.path_params["token"]
        if not await run_in_threadpool(self._opens, secret):
            return door.pages.page(request, "old-link.html.j2", 410 if request.method == "POST" else 200)
        if request.method != "POST":
            return door.pages.page(request, "enter.html.j2", purpose=ENTER, note="")
        form = await read_form(request)
        if door.forms.judge(request, form, ENTER) != Verdict.GOOD:
            note = door.pages.words(request).say(
                "This page had been open for too long, or your browser keeps no cookies. Please press once more."
            )
            return door.pages.page(request, "enter.html.j2", 403, purpose=ENTER, note=note)
        entered = await run_in_threadpool(enter, door.engine, secret, now=door.clock())
        if entered is None:
            return door.pages.page(request, "old-link.html.j2", 410)
        session, link = entered
        answer = door.pages.see(request, THEN[_then(str(link.detail.get("then", "")))])
        cookies = door.forms.cookies
        cookies.set(answer, cookies.session, session, age=SESSION_LASTS)
        cookies.drop(answer, cookies.visit)
        return answer

    def _opens(self, secret: str) -> bool:
        with reading(self.door.engine) as session:
            link = look_at_link(session, secret, Purpose.LOGIN, now=self.door.clock())
        return link is not None and link.is_open

    async def leave(self, request: Request) -> Response:
        """``/logout``: GET shows a button, POST ends the session."""
        door = self.door
        if request.method != "POST":
            return door.pages.page(request, "logout.html.j2", purpose=LEAVE, done=False)
        form = await read_form(request)
        if door.forms.judge(request, form, LEAVE) != Verdict.GOOD:
            return door.pages.page(request, "logout.html.j2", 403, purpose=LEAVE, done=False)
        cookies = door.forms.cookies
        held = request.cookies.get(cookies.session, "")
        await run_in_threadpool(close_session, door.engine, held)
        answer = door.pages.page(request, "logout.html.j2", done=True)
        cookies.drop(answer, cookies.session)
        return answer


def _then(name: str) -> str:
    return name if name in THEN else ""
