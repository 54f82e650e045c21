"""
The preview's application: loopback only, its own host, and a token of this start on every write.

Reading changes nothing. ``/<slug>/<variant>.html`` and ``.txt`` are the bytes themselves, with stand-in links.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import secrets
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import jinja2
from babel import Locale, UnknownLocaleError
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from newsletter.articles import canonical_url
from newsletter.audience.segments import audience_sizes
from newsletter.catalogue import Newsletter
from newsletter.desk import Desk
from newsletter.edition import PERSONAL_TAGS, EditionStatus, Rendered
from newsletter.errors import NewsletterError, NotFound, OrderConflict, StateError
from newsletter.faults import first as first_fault
from newsletter.picking.picks import Order
from newsletter.providers import Envelope, Recipient
from newsletter.providers.message import build_message
from newsletter.rendering.engine import fill_samples, sample_links
from newsletter.rendering.proof import tracked_bytes
from newsletter.store.session import reading
from newsletter.times import parse_instant
from newsletter.web.media import Media
from newsletter.web.preview.blocks import INDEX, frame_of, page_of
from newsletter.web.preview.live import Live, Shown
from newsletter.web.preview.looks import Look, seen_as
from newsletter.web.preview.states import edition_state, known_fields, wall_state

HERE = Path(__file__).parent
_PAGES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(HERE / "pages"), autoescape=True, undefined=jinja2.StrictUndefined,
    trim_blocks=True, lstrip_blocks=True,
)  # fmt: skip
MAIL_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src 'self' https: data:; frame-ancestors 'self'"
)
"""A mail in its frame may load its pictures and nothing else."""
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
FRESH = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
TOKEN_HEADER = "X-Desk-Token"  # noqa: S105  # its name, not a token
_WAIT_SECONDS = 20.0
_FARTHEST = timedelta(days=3_653)


def free_port(first: int) -> int:
    """Return *first*, or the next port after it that nobody listens on."""
    for port in range(first, first + 100):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what has just ended is free
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise NewsletterError(f"No free port from {first} to {first + 99}; give another with --port.")


class OwnHost:
    """Refuses every request that does not name this very preview: a page elsewhere may know our port."""

    def __init__(self, app: ASGIApp, *, port: int) -> None:
        self.app = app
        self.hosts = {f"127.0.0.1:{port}", f"localhost:{port}", f"[::1]:{port}"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, or refuse it."""
        if scope["type"] == "http":
            hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
            if len(hosts) != 1 or hosts[0].lower() not in self.hosts:
                await PlainTextResponse("This is not the preview's address.\n", 400)(scope, receive, send)
                return
        await self.app(scope, receive, send)


def create_preview(desk: Desk, *, now: Callable[[], datetime], day: date | None, port: int) -> Starlette:
    """Make the preview application; its threads run from its start-up to its shutdown."""
    preview = Preview(desk, Live(desk, now, day), secrets.token_urlsafe(24))

    @asynccontextmanager
    async def running(_app: Starlette) -> AsyncIterator[None]:
        preview.live.start()
        try:
            yield
        finally:
            await run_in_threadpool(preview.live.stop)

    app = Starlette(
        routes=preview.routes(), middleware=[Middleware(OwnHost, port=port)], lifespan=running,
        exception_handlers={HTTPException: _refused, NewsletterError: _fault},
    )  # fmt: skip
    app.state.preview = preview
    return app


async def _refused(_request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    words = error.detail if isinstance(error, HTTPException) else ""
    return JSONResponse({"error": words}, status, headers=FRESH)


async def _fault(_request: Request, error: Exception) -> Response:
    status = 409 if isinstance(error, OrderConflict) else 404 if isinstance(error, NotFound) else 422
    told: dict[str, Any] = {"error": str(error)}
    if isinstance(error, OrderConflict):
        told["theirs"] = list(error.theirs)
    return JSONResponse(told, status, headers=FRESH)


Given = TypeVar("Given", bound=BaseModel)


class OrderGiven(BaseModel):
    """An order as the page sends it; *as_of* is what it had seen."""

    model_config = ConfigDict(extra="forbid")

    verb: str = Field(pattern=r"^(pin|drop|move|edit|words)$")
    url: str = Field("", max_length=2_000)
    section: str = Field("", max_length=40)
    position: int = Field(0, ge=0, le=100)
    fields: dict[str, str] = Field(default_factory=dict, max_length=80)
    reason: str = Field("", max_length=500)
    as_of: str = Field("", max_length=40)


class Turn(BaseModel):
    """An undo or redo; *as_of* is what the page had seen, empty: whatever it is."""

    model_config = ConfigDict(extra="forbid")

    as_of: str = Field("", max_length=40)


class Approval(BaseModel):
    """An editor's go: of one content hash, *despite* warnings of these codes."""

    model_config = ConfigDict(extra="forbid")

    hash: str = Field(pattern=r"^[0-9a-f]{64}$")
    despite: tuple[str, ...] = Field((), max_length=200)


class Holding(BaseModel):
    """An editor's no-go."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field("", max_length=500)


class Preview:
    """The handlers."""

    def __init__(self, desk: Desk, live: Live, token: str) -> None:
        self.desk, self.live, self.token = desk, live, token

    def routes(self) -> list[BaseRoute]:
        """The routes of the preview."""
        return [
            Route("/", self.page, methods=["GET"]),
            Mount("/static", StaticFiles(directory=HERE / "static")),
            Route("/events", self.events, methods=["GET"]),
            Route("/state", self.state, methods=["GET"]),
            Route("/state/{slug}", self.edition, methods=["GET"]),
            Route("/orders/{slug}", self.order, methods=["POST"]),
            Route("/undo/{slug}", self.undo, methods=["POST"]),
            Route("/redo/{slug}", self.redo, methods=["POST"]),
            Route("/audience/{slug}", self.audience, methods=["GET"]),
            Route("/approve/{slug}", self.approve, methods=["POST"]),
            Route("/hold/{slug}", self.hold, methods=["POST"]),
            *Media(self.desk.engine).routes(),
            Route("/blocks", self.block, methods=["GET"]),
            Route("/blocks/{slug}/{block}.html", self.block, methods=["GET"]),
            Route("/blocks/{slug}/{block}/{name}.html", self.frame, methods=["GET"]),
            Route("/{slug}", self.page, methods=["GET"]),
            Route("/{slug}/{name}", self.bytes_of, methods=["GET"]),
        ]

    # --- looking --------------------------------------------------------------------------------

    async def page(self, request: Request) -> Response:
        """``/`` the wall; ``/<slug>`` one edition. The script fills both."""
        slug = request.path_params.get("slug", "")
        newsletter = self._newsletter(slug) if slug else None
        html = _PAGES.get_template("edition.html.j2" if newsletter else "wall.html.j2").render(
            publication=self.desk.catalogue.publication, newsletter=newsletter, token=self.token,
            newsletters=self.desk.catalogue.newsletters, who=self.desk.settings.who,
        )  # fmt: skip
        return HTMLResponse(html, headers={**FRESH, "Content-Security-Policy": PAGE_POLICY})

    async def events(self, request: Request) -> Response:
        """A line for each new version, for as long as somebody listens."""

        async def lines() -> AsyncIterator[str]:
            after = -1
            while not self.live.is_stopped and not await request.is_disconnected():
                version = await asyncio.to_thread(self.live.wait, after, seconds=_WAIT_SECONDS)
                versions = {slug: one.version for slug, one in list(self.live.shown.items())}
                yield f"data: {json.dumps({'version': version, 'editions': versions})}\n\n"
                after = version

        return StreamingResponse(lines(), media_type="text/event-stream", headers=FRESH)

    async def state(self, _request: Request) -> Response:
        """The whole wall."""
        editions = [
            wall_state(newsletter, shown)
            for newsletter in self.desk.catalogue.newsletters
            if (shown := self.live.shown.get(newsletter.slug)) is not None
        ]
        return JSONResponse({"version": self.live.version, "editions": editions}, headers=FRESH)

    def edition(self, request: Request) -> Response:
        """One edition, with its stories, findings, words and orders."""
        newsletter = self._newsletter(request.path_params["slug"])
        shown = self._shown(newsletter.slug)
        self.live.looked_at = newsletter.slug
        orders = self.desk.orders(newsletter, shown.day)
        return JSONResponse(edition_state(newsletter, shown, orders), headers=FRESH)

    def bytes_of(self, request: Request) -> Response:
        """``<variant>.html``, ``.txt``, ``.source``, ``.headers`` or ``.json`` (its line and size); with ``?look=`` as somebody else sees it."""
        newsletter = self._newsletter(request.path_params["slug"])
        variant, _, kind = request.path_params["name"].rpartition(".")
        rendered = self._rendered(newsletter, variant, request)
        html, text = fill_samples(rendered, self.desk.settings.base_url)
        if kind == "txt":
            return PlainTextResponse(text, headers=FRESH)
        if kind == "source":
            return PlainTextResponse(html, headers=FRESH)
        if kind == "json":
            sizes = {"bytes": rendered.size_bytes, "tracked": tracked_bytes(rendered)}
            told = {
                "subject": rendered.subject,
                "subjects": list(rendered.subjects),
                "preheader": rendered.preheader,
                **sizes,
            }
            return JSONResponse(told, headers=FRESH)
        if kind == "headers":
            return PlainTextResponse(self._headers(newsletter, rendered, request), headers=FRESH)
        if kind != "html":
            raise HTTPException(404, "There is .html, .txt, .source, .headers and .json of each variant.")
        try:
            look = Look(request.query_params.get("look", Look.PLAIN))
        except ValueError:
            raise HTTPException(404, f"There is no such look; there are {', '.join(Look)}.") from None
        if "look" in request.query_params:  # for looking only: the server of the pictures may not run yet
            html = html.replace(f"{self.desk.settings.base_url}/media/", "/media/")
        return HTMLResponse(seen_as(html, look), headers={**FRESH, "Content-Security-Policy": MAIL_POLICY})

    def _rendered(self, newsletter: Newsletter, variant: str, request: Request) -> Rendered:
        asked = request.query_params
        if asked.get("language") or asked.get("date") or asked.get("tomorrow"):
            return self._made_as(newsletter, variant, request)
        shown = self._shown(newsletter.slug)
        rendered = shown.rendered(variant)
        if rendered is None:
            known = ", ".join(one.variant for one in shown.renderings) or "none yet"
            raise HTTPException(404, f"{newsletter.name} has no variant {variant}; there are {known}.")
        return rendered

    def _made_as(self, newsletter: Newsletter, variant: str, request: Request) -> Rendered:
        """The variant as of another date or in another language; nothing of it is kept."""
        asked = request.query_params
        now, day = self.live.now(), self.live.day_of(newsletter.slug)
        try:
            if asked.get("date"):
                wanted = date.fromisoformat(asked["date"])
                if abs(wanted - day) > _FARTHEST:
                    raise HTTPException(
                        422, f"{wanted} is too far away; look at most ten years ahead or back."
                    )
                now, day = now + (wanted - day), wanted
        except ValueError:
            raise HTTPException(422, f"{asked['date']!r} is not a date.") from None
        if asked.get("tomorrow"):
            now, day = now + timedelta(days=1), day + timedelta(days=1)
        if language := asked.get("language"):
            try:
                Locale.parse(language, sep="-")
            except (ValueError, UnknownLocaleError):
                raise HTTPException(
                    422, f"{language[:40]!r} is no language; write for example fr or pt-BR."
                ) from None
            newsletter = newsletter.model_copy(update={"language": language})
        _, _, renderings = self.desk.draft(newsletter, day, now=now)
        for one in renderings:
            if one.variant == variant:
                return one
        raise HTTPException(404, f"There is no story for {newsletter.name} on {day}.")

    def _headers(self, newsletter: Newsletter, rendered: Rendered, request: Request) -> str:
        publication = self.desk.catalogue.publication
        sender = newsletter.sender or publication.sender
        links = sample_links(self.desk.settings.base_url)
        recipient = Recipient(
            reader="preview", email="reader@example.org", name=request.query_params.get("name", "")[:100], values=links,
            unsubscribe_url=links[PERSONAL_TAGS["unsubscribe_url"]],
        )  # fmt: skip
        envelope = Envelope(
            edition=f"preview.{newsletter.slug}", batch="preview.1", newsletter=newsletter.slug, variant=rendered.variant,
            sender=sender, reply_to=publication.reply_to, subject=rendered.subject, html=rendered.html, text=rendered.text,
            list_id=f"{newsletter.slug}.{sender.email.rpartition('@')[2]}", list_name=newsletter.name,
            dated_at=self.live.now(), recipients=(recipient,), language=newsletter.language,
        )  # fmt: skip
        message = build_message(envelope, recipient)
        return "".join(f"{name}: {value}\n" for name, value in message.raw_items())

    def block(self, request: Request) -> Response:
        """``/blocks/<slug>/<block>.html``: a block in all its states, as a newsletter sets it."""
        slug = request.path_params.get("slug")
        if not slug:
            return RedirectResponse(
                f"/blocks/{self.desk.catalogue.newsletters[0].slug}/{INDEX}.html", headers=FRESH
            )
        page = page_of(
            self.desk.renderer,
            self._newsletter(slug),
            request.path_params["block"],
            sheet="/static/preview.css",
        )
        return HTMLResponse(page, headers={**FRESH, "Content-Security-Policy": PAGE_POLICY})

    def frame(self, request: Request) -> Response:
        """One state of a block, in light or in dark."""
        told = request.path_params
        html = frame_of(self.desk.renderer, self._newsletter(told["slug"]), told["block"], told["name"])
        return HTMLResponse(html, headers={**FRESH, "Content-Security-Policy": MAIL_POLICY})

    # --- ordering -------------------------------------------------------------------------------

    async def order(self, request: Request) -> Response:
        """Give an order; 409 when somebody gave another on the same thing meanwhile."""
        newsletter, body = await self._write(request)
        given = _read(OrderGiven, body)
        url = ""
        if given.verb != "words":
            url = canonical_url(given.url)
            if not url:
                raise HTTPException(422, f"{given.url!r} is not a story's address.")
        if given.section and given.section not in {one.id for one in newsletter.sections if not one.words}:
            raise HTTPException(422, f"{newsletter.slug} has no section {given.section!r} for stories.")
        if given.verb == "edit" and not known_fields(given.fields):
            raise HTTPException(
                422,
                "An edit changes a story's headline, standfirst, kicker, byline, translator, paper or picture.",
            )
        if given.verb == "edit" and not given.fields.get("headline", "x").strip():
            raise HTTPException(422, "A story needs a headline; drop the story instead.")
        if given.verb == "words" and not given.fields:
            raise HTTPException(422, "There are no words to change.")
        order = Order(
            verb=given.verb, url=url, section=given.section, position=given.position, fields=given.fields,
            actor=self.desk.settings.who, reason=given.reason,
        )  # fmt: skip
        as_of = self._moment(given.as_of)
        day = self.live.day_of(newsletter.slug)
        await run_in_threadpool(self.desk.give_order, newsletter, day, order, as_of=as_of)
        return await self._ordered(newsletter)

    def _moment(self, as_of: str) -> datetime:
        """What a page had seen; the beginning of time when no order had been given."""
        try:
            return parse_instant(as_of) if as_of else datetime.min.replace(tzinfo=self.live.now().tzinfo)
        except ValueError:
            raise HTTPException(422, "as_of is not an instant.") from None

    def _seen(self, body: bytes) -> datetime | None:
        told = _read(Turn, body).as_of
        return self._moment(told) if told else None

    async def undo(self, request: Request) -> Response:
        """Take the newest order back."""
        newsletter, body = await self._write(request)
        day, as_of = self.live.day_of(newsletter.slug), self._seen(body)
        who = self.desk.settings.who
        await run_in_threadpool(self.desk.undo, newsletter, day, actor=who, as_of=as_of)
        return await self._ordered(newsletter)

    async def redo(self, request: Request) -> Response:
        """Let what was undone last count again."""
        newsletter, body = await self._write(request)
        day, as_of = self.live.day_of(newsletter.slug), self._seen(body)
        who = self.desk.settings.who
        await run_in_threadpool(self.desk.redo, newsletter, day, actor=who, as_of=as_of)
        return await self._ordered(newsletter)

    # --- go or no-go ----------------------------------------------------------------------------

    def audience(self, request: Request) -> Response:
        """How many readers each variant would go to now."""
        newsletter = self._newsletter(request.path_params["slug"])
        with reading(self.desk.engine) as session:
            sizes = audience_sizes(session, newsletter, self.desk.catalogue.publication, self.live.now())
        return JSONResponse({"audience": sizes}, headers=FRESH)

    async def approve(self, request: Request) -> Response:
        """Let go just what the page shows, by its hash: made up now, where what is stored is something else."""
        newsletter, body = await self._write(request)
        given = _read(Approval, body)
        await run_in_threadpool(self._approve, newsletter, given)
        return await self._ordered(newsletter)

    def _approve(self, newsletter: Newsletter, given: Approval) -> None:
        if self._shown(newsletter.slug).hash != given.hash:
            raise StateError(
                f"The {newsletter.noun} has changed since you looked. Look again, then approve that."
            )
        day, who = self.live.day_of(newsletter.slug), self.desk.settings.who
        row = self.desk.find(newsletter, day)
        if row is None or row.edition_date != day or row.content_hash != given.hash:
            account = self.desk.prepare(newsletter, day, now=self.live.now())
            if account.status == EditionStatus.APPROVED and account.hash != given.hash:
                # Where nobody needs to approve, a make-up is an approval: of this hash it was not asked for.
                self.desk.hold(
                    newsletter, day, actor=who, reason="it is not what was seen when it was approved"
                )
            elif account.status == EditionStatus.APPROVED:
                return
        self.desk.approve(newsletter, day, actor=who, despite=given.despite, content_hash=given.hash)

    async def hold(self, request: Request) -> Response:
        """Take an approval back, or keep a draft from going."""
        newsletter, body = await self._write(request)
        given = _read(Holding, body)
        day, who = self.live.day_of(newsletter.slug), self.desk.settings.who
        await run_in_threadpool(self.desk.hold, newsletter, day, actor=who, reason=given.reason)
        return await self._ordered(newsletter)

    async def _ordered(self, newsletter: Newsletter) -> Response:
        """Have it made, and answer once it is: the page shows what it asked for."""
        await asyncio.to_thread(self.live.ask((newsletter.slug,)).wait, 10)
        shown = self._shown(newsletter.slug)
        orders = await run_in_threadpool(self.desk.orders, newsletter, shown.day)
        return JSONResponse(edition_state(newsletter, shown, orders), headers=FRESH)

    async def _write(self, request: Request) -> tuple[Newsletter, bytes]:
        given = request.headers.get(TOKEN_HEADER, "")
        if not hmac.compare_digest(given.encode(), self.token.encode()):
            raise HTTPException(403, "This page is of an earlier start of the preview; load it again.")
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > 100_000:
                raise HTTPException(413, "That is more than an order holds.")
        return self._newsletter(request.path_params["slug"]), body

    def _newsletter(self, slug: str) -> Newsletter:
        try:
            return self.desk.catalogue[slug]
        except NotFound as error:
            raise HTTPException(404, str(error)) from None

    def _shown(self, slug: str) -> Shown:
        found = self.live.shown.get(slug)
        if found is None:
            raise HTTPException(503, "It is just being made; ask again.")
        return found


def _read(model: type[Given], body: bytes) -> Given:
    try:
        return model.model_validate_json(body or b"{}")
    except ValidationError as error:
        raise HTTPException(422, ": ".join(first_fault(error))) from None
