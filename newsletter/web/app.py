"""
The readers' pages, wired: routes, guards, and what is said when something goes wrong.

Small pages without script, in the publication's colours. Each room of pages brings its own routes.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from newsletter.catalogue import Catalogue
from newsletter.errors import SettingsError
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
from newsletter.web.joining import Joining
from newsletter.web.leaving import Leaving
from newsletter.web.media import Media
from newsletter.web.pages import Pages
from newsletter.web.preferences import Preferences
from newsletter.web.presses import Presses
from newsletter.web.rights import Rights
from newsletter.web.view import Viewing
from newsletter.web.webhook import Webhook

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
    magazine: Callable[[str, bytes, str], bytes | None] | None = None,
    notices: Notices | None = None,
) -> Starlette:
    """Make the application of the readers' pages, and of the provider's webhook."""
    forms = Forms(keys, settings, clock=clock)
    pages = Pages(catalogue, forms, settings)
    notices = notices or Notices(engine, catalogue, keys, settings, clock=clock)
    presses = Presses(engine, keys, forms, clock=clock)
    door = Door(engine, catalogue, keys, settings, clock, forms, pages, notices, presses)
    webhook = Webhook(engine, keys, public_keys=settings.sendgrid_webhook_public_key, clock=clock)
    health = Health(engine)
    routes: list[BaseRoute] = [
        Route("/", door.front, methods=["GET"]),
        *Joining(door).routes(),
        *Entering(door).routes(),
        *Leaving(door).routes(),
        *Rights(door).routes(),
        *Preferences(door).routes(),
        *Viewing(door, view, magazine).routes(),
        *Deciding(door).routes(),
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
