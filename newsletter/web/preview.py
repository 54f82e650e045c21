"""The local preview: one page of all newsletters and variants, as they will be sent. Loopback only."""

from __future__ import annotations

import socket
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from newsletter.errors import NewsletterError
from newsletter.rendering.engine import fill_samples

if TYPE_CHECKING:
    from newsletter.desk import Desk, Made

_PAGES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).with_name("pages")),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
# A mail is shown in a sandboxed frame; it may load the pictures of the mail and nothing else.
_MAIL_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src https: data:"


def free_port(first: int) -> int:
    """Return *first*, or the next port after it that nobody listens on."""
    for port in range(first, first + 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise NewsletterError(f"No free port from {first} to {first + 99}; give another with --port.")


def create_preview(desk: Desk, *, now: Callable[[], datetime], day: date | None, port: int) -> Starlette:
    """Make the preview application. Templates are read again for every page, so it is always current."""

    def shown(slug: str) -> tuple[date, Made | None, str]:
        newsletter = desk.catalogue[slug]
        moment = now()
        edition_date = day or desk.edition_date(newsletter, moment)
        try:
            return edition_date, desk.shown(newsletter, edition_date, now=moment), ""
        except NewsletterError as error:
            return edition_date, None, str(error)

    def wall(_request: Request) -> Response:
        desk.reload()
        rows: list[dict[str, Any]] = []
        for newsletter in desk.catalogue.newsletters:
            edition_date, made, fault = shown(newsletter.slug)
            rows.append({"newsletter": newsletter, "date": edition_date, "made": made, "fault": fault})
        page = _PAGES.get_template("preview.html.j2").render(
            rows=rows, publication=desk.catalogue.publication
        )
        return HTMLResponse(page, headers={"Cache-Control": "no-store"})

    def variant(request: Request) -> Response:
        slug, name = request.path_params["slug"], request.path_params["name"]
        stem, _, kind = name.partition(".")
        try:
            _, made, fault = shown(slug)
        except NewsletterError as error:
            return PlainTextResponse(str(error), 404)
        if made is None:
            return PlainTextResponse(fault or "No story fits this newsletter today.", 404)
        rendered = next((one for one in made.renderings if one.variant == stem), None)
        if rendered is None or kind not in ("html", "txt"):
            return PlainTextResponse("There is free.html, free.txt, paying.html and paying.txt.", 404)
        html, text = fill_samples(rendered, desk.settings.base_url)
        if kind == "txt":
            return PlainTextResponse(text, headers={"Cache-Control": "no-store"})
        return HTMLResponse(
            html, headers={"Content-Security-Policy": _MAIL_POLICY, "Cache-Control": "no-store"}
        )

    return Starlette(
        routes=[Route("/", wall), Route("/{slug}", wall), Route("/{slug}/{name}", variant)],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])],
    )
