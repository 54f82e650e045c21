"""
``/subscribe``, its form for other sites, and ``/confirm/{token}``.

The answer to a wish is the same for everybody and is sent before anybody is looked up: whether an
address is known shows neither in words, nor in the status, nor in the time.
"""

from __future__ import annotations

from datetime import timedelta

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from newsletter.audience.addresses import normalise
from newsletter.audience.joining import Told, Wish, ask_to_join, confirm, look_at_wish
from newsletter.audience.leaving import JUST_SENT
from newsletter.audience.limits import Knock, Limit
from newsletter.audience.tokens import Signer
from newsletter.notices import Kind
from newsletter.web.door import Door, afterwards
from newsletter.web.forms import Form, Verdict, read_form
from newsletter.web.presses import NOTHING_HERE
from newsletter.words import LANGUAGES, Words, guess_zone, known_zones, read_accept_language, words

AN_ADDRESS = Limit("join as an address", 3, timedelta(hours=1))
AN_ADDRESS_A_DAY = Limit("join as an address", 6, timedelta(days=1))
A_VISITOR = Limit("join from an address", 20, timedelta(hours=1))
A_NETWORK = Limit("join from a network", 100, timedelta(hours=1))

PURPOSE = "join"
LONGEST_ADDRESS = 254


class Joining:
    """The handlers of joining."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self.slugs = tuple(one.slug for one in door.catalogue.newsletters)

    def routes(self) -> list[BaseRoute]:
        """The routes of this room."""
        return [
            Route("/subscribe", self.subscribe, methods=["GET", "POST"]),
            Route("/subscribe/form", self.embedded, methods=["GET"]),
            Route("/confirm/{token}", self.confirm, methods=["GET", "POST"]),
            Route("/confirm/{token}/t", self.trap, methods=["GET"]),
        ]

    async def subscribe(self, request: Request) -> Response:
        """The nine newsletters and the form; or what was filled into it."""
        if request.method == "POST":
            return await self._take(request)
        told = read_accept_language(request.headers.get("accept-language", ""))
        zone = guess_zone(told, fallback=self.door.catalogue.publication.timezone)
        return self._form(request, chosen=self._asked_for(request), zone=zone)

    async def embedded(self, request: Request) -> Response:
        """The small form that sites named in ``embed_origins`` may show in a frame."""
        return self._form(request, chosen=self._asked_for(request), framed=True)

    def _asked_for(self, request: Request) -> tuple[str, ...]:
        """What a link preselects: ``/subscribe?newsletter=today``."""
        return tuple(slug for slug in self.slugs if slug in request.query_params.getlist("newsletter"))

    def _form(
        self, request: Request, status: int = 200, *, chosen: tuple[str, ...], spoken: Words | None = None,
        framed: bool = False, email: str = "", name: str = "", zone: str = "", language: str = "", note: str = "",
        fault: str = "", none_chosen: bool = False,
    ) -> Response:  # fmt: skip
        pages = self.door.pages
        spoken = spoken or pages.words(request)
        return pages.page(
            request, "embedded.html.j2" if framed else "subscribe.html.j2", status, words=spoken, purpose=PURPOSE,
            framed=framed, indexed=not framed and status == 200, entries=self.door.listing(spoken),
            chosen=chosen, email=email, name=name, zone=zone, language=language or spoken.language, note=note,
            fault=fault, none_chosen=none_chosen, consent=self.consent(spoken),
        )  # fmt: skip

    def consent(self, spoken: Words) -> str:
        """The words by the button: what a subscriber agrees to, kept as they were shown."""
        return spoken.say(
            "By pressing the button you ask %(name)s to send you the newsletters you ticked by e-mail. "
            "Every mail has a link to leave with one press.",
            name=spoken.isolated(self.door.catalogue.publication.name),
        )

    async def _take(self, request: Request) -> Response:
        door = self.door
        form = await read_form(request)
        framed = form.get("framed") == "1"
        shown = form.get("shown")
        spoken = words(shown) if shown in LANGUAGES else door.pages.words(request)
        email, chosen = form.get("email", LONGEST_ADDRESS), self._chosen(form)
        fault = address_fault(email, spoken)
        verdict = door.forms.judge(request, form, PURPOSE, bound=not framed, trap=True)
        note = ""
        if verdict in (Verdict.FORGED, Verdict.STALE):
            note = spoken.say("This page had been open for too long, or your browser keeps no cookies. Please press once more.")  # fmt: skip
        if verdict == Verdict.HASTY and not fault and chosen:
            return self._thanks(request, spoken, email, framed=framed)
        if note or fault or not chosen:
            status = 403 if note else 422
            return self._form(
                request, status, chosen=chosen, spoken=spoken, framed=framed, email=email, name=form.get("name", 100),
                zone=_zone(form), language=_language(form), note=note, fault=fault, none_chosen=not chosen,
            )  # fmt: skip
        _, key = normalise(email)
        over = await door.knock(
            request, A_VISITOR, A_NETWORK, Knock(AN_ADDRESS, key), Knock(AN_ADDRESS_A_DAY, key)
        )
        if A_VISITOR in over or A_NETWORK in over:
            refused = door.pages.page(request, "sorry.html.j2", 429, words=spoken, framed=framed, code=429)
            refused.headers["Retry-After"] = "3600"
            return refused
        answer = self._thanks(request, spoken, email, framed=framed)
        if not over:
            wish = Wish(
                chosen, source="/subscribe/form" if framed else "/subscribe", words=self.consent(spoken),
                name=form.get("name", 100), language=_language(form) or spoken.language, timezone=_zone(form),
            )  # fmt: skip
            answer.background = afterwards(self._answer_by_mail, email, wish, spoken.language)
        return answer

    def _chosen(self, form: Form) -> tuple[str, ...]:
        ticked = form.all("newsletters")
        return tuple(slug for slug in self.slugs if slug in ticked)

    def _thanks(self, request: Request, spoken: Words, email: str, *, framed: bool) -> Response:
        return self.door.pages.page(request, "asked.html.j2", words=spoken, framed=framed, email=email)

    def _answer_by_mail(self, email: str, wish: Wish, language: str) -> None:
        """What happens after the answer: keep the wish and write to the address, whoever it belongs to."""
        door = self.door
        asked = ask_to_join(door.engine, email, wish, keys=door.keys, now=door.clock())
        if asked.told == Told.KNOWN:
            door.notices.send_login(asked.subscriber_id, language=language, kind=Kind.KNOWN)
        elif asked.told == Told.CONFIRM:
            values = {"link": f"/confirm/{asked.secret}", "newsletters": asked.newsletters}
            door.notices.send(Kind.CONFIRM, asked.subscriber_id, language=language, values=values)
        else:
            door.notices.rehearse(Kind.CONFIRM, language=language, newsletters=wish.newsletters)

    async def confirm(self, request: Request) -> Response:
        """``/confirm/{token}``: GET shows a button, POST confirms. The link itself is the authority."""
        door = self.door
        secret = request.path_params["token"]
        now = door.clock()
        link = await run_in_threadpool(look_at_wish, door.engine, secret, now=now)
        if link is None:
            raise HTTPException(404)
        spoken = door.pages.words(request, str(link.detail.get("language", "")))
        slugs = tuple(link.detail["newsletters"])
        entries = tuple(one for one in door.listing(spoken) if one.slug in slugs)
        if request.method != "POST":
            name = "confirm.html.j2" if link.is_open else "closed.html.j2"
            return door.pages.page(
                request, name, words=spoken, entries=entries, stamp=door.presses.stamp(request),
                trap=f"/confirm/{secret}/t",
            )  # fmt: skip
        form = await read_form(request)
        just_sent = now - link.made_at < JUST_SENT
        if link.is_open and await run_in_threadpool(
            door.presses.is_machine, request, form, secret, just_sent=lambda: just_sent
        ):
            return door.ask_again(request, form, language=spoken.language)
        joined = await run_in_threadpool(confirm, door.engine, secret, now=now)
        if joined is None:
            return door.pages.page(request, "closed.html.j2", words=spoken, entries=entries)
        preferences = f"/preferences/{Signer(door.keys).preferences(joined.reader)}"
        answer = door.pages.page(
            request, "joined.html.j2", words=spoken, entries=entries, preferences=preferences
        )
        if joined.first:
            answer.background = afterwards(
                door.notices.send, Kind.WELCOME, joined.subscriber_id, language=spoken.language,
                values={"newsletters": joined.first},
            )  # fmt: skip
        return answer

    async def trap(self, request: Request) -> Response:
        """The link no person sees."""
        await run_in_threadpool(self.door.presses.fall_in, request.path_params["token"])
        return PlainTextResponse(NOTHING_HERE)


def address_fault(email: str, spoken: Words) -> str:
    """What is wrong with a typed address, in words; empty when nothing is."""
    if not email:
        return spoken.say("Please write your e-mail address.")
    try:
        normalise(email)
    except ValueError:
        return spoken.say("This does not look like an e-mail address. Is a letter missing?")
    return ""


def _zone(form: Form) -> str:
    zone = form.get("zone")
    return zone if zone in known_zones() else ""


def _language(form: Form) -> str:
    language = form.get("language")
    return language if language in LANGUAGES else ""
