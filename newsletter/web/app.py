"""
The readers' pages: small, without script, in the publication's colours; and RFC 8058 to the letter.

``GET /u/{token}`` shows a page with a button and changes nothing: scanners follow links. ``POST`` to
the same address leaves at once, with nothing but the address: no cookie, no login, no redirect.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from newsletter.audience.subscribers import leave, rejoin, slug_of_scope, standing
from newsletter.audience.tokens import NO_SCOPE, Token, TokenKind, verify
from newsletter.catalogue import Catalogue
from newsletter.errors import TokenError
from newsletter.settings import Keys, Settings
from newsletter.store.session import reading
from newsletter.times import Clock
from newsletter.web.webhook import Webhook

MAX_BODY_BYTES = 64 * 1024
_FOLDER = Path(__file__).with_name("pages")
_STYLE = (_FOLDER / "style.css").read_text(encoding="utf-8")

View = Callable[[str, bytes], str | None]
"""(reader, scope of the edition) → HTML, or None."""


class Pages:
    """The handlers; everything they need is handed in."""

    def __init__(
        self,
        engine: Engine,
        catalogue: Catalogue,
        keys: Keys,
        *,
        clock: Clock,
        view: View | None,
        public: bool,
    ) -> None:
        self.engine, self.catalogue, self.keys, self.clock, self.view, self.public = (
            engine, catalogue, keys, clock, view, public,
        )  # fmt: skip
        self.templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(_FOLDER), autoescape=True, undefined=jinja2.StrictUndefined,
            trim_blocks=True, lstrip_blocks=True,
        )  # fmt: skip
        theme = catalogue.publication.theme
        self.style = (
            _STYLE.replace("ACCENT_DARK", theme.accent_dark)
            .replace("ACCENT", theme.accent)
            .replace("TINT_DARK", theme.tint_dark)
            .replace("TINT", theme.tint)
        )
        digest = base64.b64encode(hashlib.sha256(self.style.encode()).digest()).decode("ascii")
        self.policy = f"default-src 'none'; style-src 'sha256-{digest}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

    async def leaving(self, request: Request) -> Response:
        """``/u/{token}``: show (GET, HEAD) or leave (POST)."""
        token = self._token(request, TokenKind.UNSUBSCRIBE)
        slug = await run_in_threadpool(self._slug, token)
        name = self._name(slug)
        if request.method != "POST":
            return self._page("leave.html.j2", name=name, slug=slug, all_too=slug is not None)
        form = await self._form(request)
        everything = slug is None or form.get("scope") == "all"
        one_click = form.get("List-Unsubscribe") == "One-Click"
        how = "one-click from the mail" if one_click else "the page behind the mail's link"
        await run_in_threadpool(
            leave, self.engine, token.reader, None if everything else slug, now=self.clock(), how=how
        )
        return self._page("left.html.j2", name=name, everything=everything)

    async def preferences(self, request: Request) -> Response:
        """``/preferences/{token}``: what a reader gets, with a button for each."""
        token = self._token(request, TokenKind.PREFERENCES)
        done = ""
        if request.method == "POST":
            form = await self._form(request)
            done = await run_in_threadpool(self._choose, token.reader, form)
        found = await run_in_threadpool(self._standing, token.reader)
        if found is None:
            raise HTTPException(404)
        rows = [
            {"slug": slug, "name": self._name(slug), "about": self._about(slug), "gets": state != "left"}
            for slug, state in found.subscriptions
        ]
        return self._page("preferences.html.j2", masked=found.masked, rows=rows, done=done)

    def view_online(self, request: Request) -> Response:
        """``/view/{token}``: the mail in a browser."""
        token = self._token(request, TokenKind.VIEW)
        page = self.view(token.reader, token.scope) if self.view else None
        if page is None:
            raise HTTPException(404)
        headers = {**self._headers(), "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src https: data:; frame-ancestors 'none'; base-uri 'none'"}  # fmt: skip
        return HTMLResponse(page, headers=headers)

    def health(self, _request: Request) -> Response:
        """``/healthz``: whether the database answers."""
        try:
            with self.engine.connect() as connection:
                connection.execute(text("SELECT 1"))
        except SQLAlchemyError:
            return PlainTextResponse("the database does not answer\n", 503)
        return PlainTextResponse("ok\n")

    async def not_found(self, _request: Request, _error: Exception) -> Response:
        """One page for every link that is not ours: nothing to learn from it."""
        return self._page("sorry.html.j2", 404, sentence="This link is not one of ours, or it was cut off. Try the one in the mail again.")  # fmt: skip

    async def refused(self, _request: Request, error: Exception) -> Response:
        """Any other refusal, in words."""
        status = error.status_code if isinstance(error, HTTPException) else 500
        page = self._page("sorry.html.j2", status, sentence="This cannot be done here.")
        if isinstance(error, HTTPException) and error.headers:
            page.headers.update(error.headers)
        return page

    def _choose(self, reader: str, form: dict[str, str]) -> str:
        leaving, joining = form.get("leave", ""), form.get("join", "")
        how = "the preferences page"
        if form.get("scope") == "all":
            leave(self.engine, reader, None, now=self.clock(), how=how)
            return "You have left all newsletters."
        if leaving:
            leave(self.engine, reader, leaving, now=self.clock(), how=how)
            return f"You have left {self._name(leaving)}."
        if joining and rejoin(self.engine, reader, joining, now=self.clock(), how=how):
            return f"You get {self._name(joining)} again."
        return ""

    def _standing(self, reader: str) -> Any:
        with reading(self.engine) as session:
            return standing(session, reader)

    def _slug(self, token: Token) -> str | None:
        """The newsletter of an unsubscribe token; None for all."""
        if token.scope == NO_SCOPE:
            return None
        with reading(self.engine) as session:
            slug = slug_of_scope(session, token.reader, token.scope)
        return slug if slug is not None else ""

    def _name(self, slug: str | None) -> str:
        known = next((one for one in self.catalogue.newsletters if one.slug == slug), None)
        return known.name if known else (slug or self.catalogue.publication.name)

    def _about(self, slug: str) -> str:
        known = next((one for one in self.catalogue.newsletters if one.slug == slug), None)
        return known.description if known else ""

    def _token(self, request: Request, kind: TokenKind) -> Token:
        try:
            return verify(self.keys, request.path_params["token"], kind)
        except TokenError:
            raise HTTPException(404) from None

    async def _form(self, request: Request) -> dict[str, str]:
        """The form's plain fields; bodies of any kind up to a small size, also none at all."""
        length = request.headers.get("content-length", "0")
        if not length.isdigit() or int(length) > MAX_BODY_BYTES:
            raise HTTPException(413)
        body = b""
        async for piece in request.stream():
            body += piece
            if len(body) > MAX_BODY_BYTES:
                raise HTTPException(413)
        again = Request(request.scope, _once(body))
        try:
            async with again.form(max_files=0, max_fields=20) as form:
                return {name: value for name, value in form.items() if isinstance(value, str)}
        except (MultiPartException, HTTPException, UnicodeDecodeError, ValueError):
            return {}

    def _page(self, template: str, status: int = 200, **values: Any) -> HTMLResponse:
        html = self.templates.get_template(template).render(
            publication=self.catalogue.publication, style=self.style, **values
        )
        return HTMLResponse(html, status, headers={**self._headers(), "Content-Security-Policy": self.policy})

    def _headers(self) -> dict[str, str]:
        headers = {
            "Cache-Control": "no-store",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "X-Robots-Tag": "noindex, nofollow",
        }
        if self.public:
            headers["Strict-Transport-Security"] = "max-age=31536000"
        return headers


def _once(body: bytes) -> Callable[[], Any]:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


def create_app(
    engine: Engine,
    catalogue: Catalogue,
    keys: Keys,
    settings: Settings,
    *,
    clock: Clock,
    view: View | None = None,
) -> Starlette:
    """Make the application of the readers' pages, and of the provider's webhook."""
    pages = Pages(
        engine, catalogue, keys, clock=clock, view=view, public=settings.base_url.startswith("https://")
    )
    webhook = Webhook(engine, keys, public_keys=settings.sendgrid_webhook_public_key, clock=clock)
    return Starlette(
        routes=[
            Route("/u/{token}", pages.leaving, methods=["GET", "POST"]),
            Route("/preferences/{token}", pages.preferences, methods=["GET", "POST"]),
            Route("/view/{token}", pages.view_online, methods=["GET"]),
            Route("/webhooks/sendgrid", webhook.receive, methods=["POST"]),
            Route("/healthz", pages.health, methods=["GET"]),
        ],
        exception_handlers={404: pages.not_found, HTTPException: pages.refused},
    )
