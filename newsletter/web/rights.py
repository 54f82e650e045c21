"""
A reader's rights: their data as a file, their address changed, themselves erased.

Each needs a session younger than an hour: a link in an old mail, or a browser left open, is not enough.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from newsletter.audience.addresses import normalise
from newsletter.audience.choosing import find_choices, masked
from newsletter.audience.doors import Link, Purpose, Visitor, look_at_link
from newsletter.audience.leaving import JUST_SENT
from newsletter.audience.limits import Knock, Limit
from newsletter.audience.moving import ToldThere, ask_to_move, move
from newsletter.audience.rights import everything_held
from newsletter.audience.subscribers import forget
from newsletter.errors import NotFound
from newsletter.notices import Kind
from newsletter.outbox.accounts import editions_of
from newsletter.store.session import reading
from newsletter.web.door import Door, afterwards
from newsletter.web.forms import Verdict, read_form
from newsletter.web.joining import AN_ADDRESS, AN_ADDRESS_A_DAY, LONGEST_ADDRESS, address_fault
from newsletter.web.presses import NOTHING_HERE
from newsletter.words import Words

ADDRESS, ERASE = "address", "erase"
A_READER = Limit("change an address", 5, timedelta(days=1))
A_VISITOR = Limit("change an address from", 10, timedelta(hours=1))
A_NETWORK = Limit("change an address from a network", 50, timedelta(hours=1))


class Rights:
    """The handlers of ``/preferences/address``, ``/data`` and ``/erase``."""

    def __init__(self, door: Door) -> None:
        self.door = door

    def routes(self) -> list[BaseRoute]:
        """The routes of this room."""
        return [
            Route("/preferences/data", self.data, methods=["GET"]),
            Route("/preferences/address", self.address, methods=["GET", "POST"]),
            Route("/preferences/address/{token}", self.confirm, methods=["GET", "POST"]),
            Route("/preferences/address/{token}/t", self.trap, methods=["GET"]),
            Route("/preferences/erase", self.erase, methods=["GET", "POST"]),
        ]

    async def data(self, request: Request) -> Response:
        """Everything held about who asks, as JSON."""
        visitor, elsewhere = await self._fresh(request, "data")
        if visitor is None:
            return elsewhere()
        held = await run_in_threadpool(self._everything, visitor.subscriber_id)
        headers = {"Content-Disposition": 'attachment; filename="my-data.json"'}
        return JSONResponse(held, headers=headers)

    def _everything(self, subscriber_id: int) -> dict[str, object]:
        with reading(self.door.engine) as session:
            held = everything_held(session, subscriber_id)
            return {**held, "editions": editions_of(session, subscriber_id)}

    async def address(self, request: Request) -> Response:
        """Ask for another address."""
        door = self.door
        visitor, elsewhere = await self._fresh(request, "address")
        if visitor is None:
            return elsewhere()
        words = door.pages.words(request, visitor.language)
        if request.method != "POST":
            return self._form(request, words)
        form = await read_form(request)
        email = form.get("email", LONGEST_ADDRESS)
        fault = address_fault(email, words)
        if door.forms.judge(request, form, ADDRESS) != Verdict.GOOD:
            note = words.say("This page had been open for too long, or your browser keeps no cookies. Please press once more.")  # fmt: skip
            return self._form(request, words, email=email, note=note, status=403)
        if fault:
            return self._form(request, words, email=email, fault=fault, status=422)
        _, key = normalise(email)
        own = (Knock(AN_ADDRESS, key), Knock(AN_ADDRESS_A_DAY, key))
        over = await door.knock(
            request, A_VISITOR, A_NETWORK, Knock(A_READER, str(visitor.subscriber_id)), *own
        )
        if {A_VISITOR, A_NETWORK, A_READER} & set(over):
            raise HTTPException(429, headers={"Retry-After": "3600"})
        answer = door.pages.page(request, "moving.html.j2", words=words, email=email)
        answer.background = afterwards(
            self._mail, visitor.subscriber_id, email, words.language, is_told=not over
        )
        return answer

    def _mail(self, subscriber_id: int, email: str, language: str, *, is_told: bool) -> None:
        """
        Both addresses hear of it; whether the new one is somebody's already stands only in the mail to it.

        Not *is_told*: that address has had enough of our mails for now.
        """
        door = self.door
        asked = ask_to_move(door.engine, subscriber_id, email, keys=door.keys, now=door.clock())
        if asked is None:
            return
        told = asked.told if is_told else ToldThere.NOTHING
        if told == ToldThere.CONFIRM:
            values = {"link": f"/preferences/address/{asked.secret}"}
            door.notices.send(Kind.ADDRESS, subscriber_id, language=language, values=values)
        elif told == ToldThere.KNOWN:
            door.notices.send_login(asked.holder, language=language, kind=Kind.ADDRESS_KNOWN)
        else:
            door.notices.rehearse(Kind.ADDRESS, language=language)
        door.notices.send(
            Kind.ADDRESS_TOLD, subscriber_id, language=language,
            values={"new": masked(email), "link": "/login"},
        )  # fmt: skip

    async def confirm(self, request: Request) -> Response:
        """``/preferences/address/{token}``: GET shows a button, POST moves the reader there."""
        door = self.door
        secret = request.path_params["token"]
        link = await run_in_threadpool(self._look, secret)
        if link is None or not link.is_open:
            return door.pages.page(request, "old-link.html.j2", 410 if request.method == "POST" else 200)
        if request.method != "POST":
            return door.pages.page(
                request, "address-confirm.html.j2", stamp=door.presses.stamp(request),
                trap=f"/preferences/address/{secret}/t",
            )  # fmt: skip
        form = await read_form(request)
        just_sent = door.clock() - link.made_at < JUST_SENT
        if await run_in_threadpool(
            door.presses.is_machine, request, form, secret, just_sent=lambda: just_sent
        ):
            return door.ask_again(request, form)
        moved = await run_in_threadpool(move, door.engine, secret, keys=door.keys, now=door.clock())
        if moved is None:
            return door.pages.page(request, "old-link.html.j2", 410)
        words = door.pages.words(request, moved.language)
        return door.pages.page(request, "address-moved.html.j2", words=words, email=moved.email)

    def _look(self, secret: str) -> Link | None:
        with reading(self.door.engine) as session:
            return look_at_link(session, secret, Purpose.ADDRESS, now=self.door.clock())

    async def trap(self, request: Request) -> Response:
        """The link no person sees."""
        await run_in_threadpool(self.door.presses.fall_in, request.path_params["token"])
        return PlainTextResponse(NOTHING_HERE)

    async def erase(self, request: Request) -> Response:
        """GET says what happens, POST does it."""
        door = self.door
        visitor, elsewhere = await self._fresh(request, "erase")
        if visitor is None:
            return elsewhere()
        words = door.pages.words(request, visitor.language)
        if request.method != "POST":
            return door.pages.page(request, "erase.html.j2", words=words, purpose=ERASE, note="")
        form = await read_form(request)
        if door.forms.judge(request, form, ERASE) != Verdict.GOOD or form.get("sure") != "1":
            note = words.say("Tick the box first, then press the button.")
            return door.pages.page(request, "erase.html.j2", 422, words=words, purpose=ERASE, note=note)
        await run_in_threadpool(self._forget, visitor)
        answer = door.pages.page(request, "erased.html.j2", words=words)
        cookies = door.forms.cookies
        cookies.drop(answer, cookies.session)
        return answer

    def _forget(self, visitor: Visitor) -> None:
        door = self.door
        choices = find_choices(door.engine, subscriber_id=visitor.subscriber_id)
        if choices is not None:
            try:
                forget(door.engine, choices.email, keys=door.keys, now=door.clock())
            except NotFound:
                return  # pressed twice

    def _form(
        self,
        request: Request,
        words: Words,
        *,
        email: str = "",
        fault: str = "",
        note: str = "",
        status: int = 200,
    ) -> Response:
        return self.door.pages.page(
            request,
            "address.html.j2",
            status,
            words=words,
            purpose=ADDRESS,
            email=email,
            fault=fault,
            note=note,
        )

    async def _fresh(self, request: Request, then: str) -> tuple[Visitor | None, Callable[[], Response]]:
        """Who proved their address within the hour; else None and the way to do so."""
        visitor = await self.door.visitor(request)
        if visitor is not None and visitor.is_fresh:
            return visitor, lambda: self.door.pages.see(request, "/preferences")
        return None, lambda: self.door.pages.see(request, f"/login?then={then}")
