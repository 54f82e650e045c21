"""What every page's handlers are handed, and who is before them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import structlog
from sqlalchemy import Engine
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from newsletter.audience.doors import Visitor, find_visitor
from newsletter.audience.limits import Knock, Limit, knock, networks_of
from newsletter.audience.tokens import Token, TokenKind, verify
from newsletter.catalogue import Catalogue
from newsletter.errors import TokenError
from newsletter.notices import Notices
from newsletter.settings import Keys, Settings
from newsletter.times import Clock
from newsletter.web.forms import Form, Forms, one_line
from newsletter.web.listing import Entry, listing
from newsletter.web.pages import Pages
from newsletter.web.presses import Presses
from newsletter.words import Words, known_zones

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Door:
    """Everything the handlers need; made once by ``create_app``."""

    engine: Engine
    catalogue: Catalogue
    keys: Keys
    settings: Settings
    clock: Clock
    forms: Forms
    pages: Pages
    notices: Notices
    presses: Presses
    listings: dict[str, tuple[Entry, ...]] = field(default_factory=dict, repr=False)

    async def front(self, request: Request) -> Response:
        """``/``: there is no page of its own; readers want the newsletters."""
        return self.pages.see(request, "/subscribe")

    async def visitor(self, request: Request) -> Visitor | None:
        """The reader who is logged in, or None."""
        secret = request.cookies.get(self.forms.cookies.session, "")
        if not secret:
            return None
        return await run_in_threadpool(find_visitor, self.engine, secret, now=self.clock())

    def token(self, request: Request, kind: TokenKind) -> Token:
        """
        The signed token in the path.

        Raises:
            HTTPException: 404, whatever is wrong with it.
        """
        try:
            return verify(self.keys, request.path_params["token"], kind)
        except TokenError:
            raise HTTPException(404) from None

    async def knock(self, request: Request, narrow: Limit, wide: Limit, *more: Knock) -> tuple[Limit, ...]:
        """Count the visitor's network (*narrow*: itself, *wide*: its neighbours) and *more*; what is exceeded."""
        own, around = networks_of(request.client.host if request.client else "")
        knocks = (Knock(narrow, own), Knock(wide, around), *more)
        return await run_in_threadpool(knock, self.engine, knocks, keys=self.keys, now=self.clock())

    def ask_again(
        self, request: Request, form: Form, *, keep: tuple[str, ...] = (), language: str = ""
    ) -> Response:
        """The page that asks for a second press where the first may have been a scanner's; *keep*: its fields."""
        fields = {name: [one_line(value)[:200] for value in form.all(name)] for name in keep}
        return self.pages.page(
            request, "again.html.j2", words=self.pages.words(request, language), fields=fields,
            stamp=self.presses.stamp(request),
        )  # fmt: skip

    def listing(self, spoken: Words) -> tuple[Entry, ...]:
        """The newsletters in words; made once a language, because CLDR takes its time."""
        made = self.listings.get(spoken.language)
        if made is None:
            made = self.listings[spoken.language] = listing(self.catalogue, spoken)
        return made

    def zone(self, own: str) -> str:
        """On whose clocks days are shown: the reader's *own*, else the publication's."""
        return own if own in known_zones() else self.catalogue.publication.timezone

    def name(self, slug: str | None) -> str:
        """What readers call a newsletter; of one that is gone its slug; of none the publication."""
        known = next((one for one in self.catalogue.newsletters if one.slug == slug), None)
        return known.name if known else (slug or self.catalogue.publication.name)


def afterwards(work: Callable[..., Any], *values: Any, **named: Any) -> BackgroundTask:
    """
    Do *work* once the answer has gone, without keeping the connection waiting.

    Neither the answer nor the next one on the same connection takes longer for a reader we know. The
    threads are the event loop's own: stopping the server waits for them.
    """

    def guarded() -> None:
        try:
            work(*values, **named)
        except Exception as error:  # the outermost loop of a thread; the text may hold an address
            log.error("afterwards.failed", work=getattr(work, "__name__", "work"), error=type(error).__name__)

    async def begin() -> None:
        asyncio.get_running_loop().run_in_executor(None, guarded)

    return BackgroundTask(begin)
