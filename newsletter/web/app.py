"""
The readers' pages, wired: routes, guards, and what is said when something goes wrong.

Small pages without script, in the publication's colours. Each room of pages brings its own routes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import Receive, Scope, Send

from newsletter.catalogue import Catalogue
from newsletter.catalogue.standing import Standing
from newsletter.errors import CatalogueError, NewsletterError, SettingsError
from newsletter.notices import Notices
from newsletter.settings import Keys, Settings
from newsletter.store.session import answers, is_current
from newsletter.times import Clock
from newsletter.web.api.routes import Api
from newsletter.web.archive import Archive
from newsletter.web.deciding import Deciding
from newsletter.web.door import Door
from newsletter.web.entering import Entering
from newsletter.web.forms import Forms
from newsletter.web.guards import Guards
from newsletter.web.issues import Issues, Shelf
from newsletter.web.joining import Joining
from newsletter.web.leaving import Leaving
from newsletter.web.media import Media
from newsletter.web.pages import Pages
from newsletter.web.preferences import Preferences
from newsletter.web.presses import Presses
from newsletter.web.rights import Rights
from newsletter.web.staying import Staying
from newsletter.web.view import Viewing
from newsletter.web.webhook import Webhook

LOOK_EVERY_SECONDS = 1.0
log = structlog.get_logger()

View = Callable[[str, bytes], str | None]
"""(reader, scope of the edition) → HTML, or None."""


def create_app(
    engine: Engine,
    catalogue: Catalogue,
    keys: Keys,
    settings: Settings,
    *,
    clock: Clock,
    view: View | None = None,
    shelf: Shelf | None = None,
    notices: Notices | None = None,
    renewed: Callable[[], None] = lambda: None,
) -> Current:
    """
    Make the application of the readers' pages, and of the provider's webhook.

    It goes by the catalogue's files as they stand; *renewed* is called when they have changed.
    """
    standing = Standing(catalogue)
    webhook = Webhook(engine, keys, public_keys=settings.sendgrid_webhook_public_key, clock=clock)

    def make(current: Catalogue) -> Starlette:
        return _assemble(
            engine,
            standing,
            current,
            keys,
            settings,
            clock=clock,
            view=view,
            notices=notices,
            webhook=webhook,
            shelf=shelf,
        )

    return Current(standing, make, renewed, webhook)


class Current:
    """
    The pages by the rules of now: made anew when the catalogue's files have changed.

    They are looked at once in ``LOOK_EVERY_SECONDS``; while a changed file cannot be read the pages stay as
    they were, and say so in the log.
    """

    def __init__(
        self,
        standing: Standing,
        make: Callable[[Catalogue], Starlette],
        renewed: Callable[[], None],
        webhook: Webhook,
    ) -> None:
        self.standing, self.make, self.renewed, self.webhook = standing, make, renewed, webhook
        self.catalogue = standing.catalogue
        self.app = make(self.catalogue)
        self._looked_at = time.monotonic()
        self._fault = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if time.monotonic() - self._looked_at >= LOOK_EVERY_SECONDS:
            self._looked_at = time.monotonic()
            await run_in_threadpool(self._look)
        if self.standing.catalogue is not self.catalogue:
            await run_in_threadpool(self._renew, self.standing.catalogue)
        await self.app(scope, receive, send)

    def _look(self) -> None:
        fault = ""
        try:
            self.standing.look()
        except CatalogueError as error:
            fault = str(error)
        if fault and fault != self._fault:
            log.error("catalogue.unreadable", reason=fault)
        self._fault = fault

    def _renew(self, catalogue: Catalogue) -> None:
        self.app, self.catalogue = self.make(catalogue), catalogue
        with suppress(NewsletterError):  # changed once more, and not readable: told at the next look
            self.renewed()
        log.info("catalogue.read_again", newsletters=len(catalogue.newsletters))


def _assemble(
    engine: Engine,
    standing: Standing,
    catalogue: Catalogue,
    keys: Keys,
    settings: Settings,
    *,
    clock: Clock,
    view: View | None,
    notices: Notices | None,
    webhook: Webhook,
    shelf: Shelf | None,
) -> Starlette:
    """The application by the rules of *catalogue*."""
    forms = Forms(keys, settings, clock=clock)
    pages = Pages(catalogue, forms, settings)
    notices = notices or Notices(engine, catalogue, keys, settings, clock=clock)
    presses = Presses(engine, keys, forms, clock=clock)
    door = Door(engine, catalogue, keys, settings, clock, forms, pages, notices, presses)
    health = Health(engine)
    routes: list[BaseRoute] = [
        Route("/", door.front, methods=["GET"]),
        *Joining(door).routes(),
        *Entering(door).routes(),
        *Leaving(door).routes(),
        *Staying(door).routes(),
        *Rights(door).routes(),
        *Preferences(door).routes(),
        *Viewing(door, view).routes(),
        *Issues(door, shelf).routes(),
        *Deciding(door, standing).routes(),
        *Archive(door).routes(),
        *Media(engine).routes(),
        *Api(door).routes(),
        Route("/webhooks/sendgrid", webhook.receive, methods=["POST"]),
        Route("/healthz", health.healthz, methods=["GET"]),
        Route("/readyz", health.readyz, methods=["GET"]),
    ]
    _refuse_prefix(routes, settings)
    app = Starlette(
        routes=routes,
        middleware=[Middleware(Guards, settings=settings, failed=pages.failed)],
        exception_handlers={
            404: pages.not_found,
            HTTPException: pages.refused,
            SQLAlchemyError: pages.unavailable,
        },
    )
    app.router.redirect_slashes = False  # see Guards
    return app


def _refuse_prefix(routes: list[BaseRoute], settings: Settings) -> None:
    """
    Make sure that a path says by itself whether a proxy has taken the prefix off.

    Raises:
        SettingsError: the prefix is the beginning of a page of ours.
    """
    firsts = {route.path.split("/")[1] for route in routes if isinstance(route, (Route, Mount))} - {""}
    if settings.path_prefix.split("/")[1:2] and settings.path_prefix.split("/")[1] in firsts:
        raise SettingsError(
            f"NEWSLETTER_BASE_URL ends in {settings.path_prefix}, which is also a page of ours; choose another path."
        )


class Health:
    """For the machine that watches: whether the process lives, and whether it may be given readers."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def healthz(self, _request: Request) -> Response:
        """``/healthz``: the database answers."""
        if answers(self.engine):
            return PlainTextResponse("ok\n")
        return PlainTextResponse("the database does not answer\n", 503)

    def readyz(self, _request: Request) -> Response:
        """``/readyz``: the database answers, and its schema is the one this program knows."""
        if not answers(self.engine):
            return PlainTextResponse("the database does not answer\n", 503)
        if not is_current(self.engine):
            return PlainTextResponse("the schema of the database is not the one of this program\n", 503)
        return PlainTextResponse("ready\n")
