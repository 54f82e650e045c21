"""
What stands before every page: hosts, prefix, sizes, the visitor's address, and the headers of every answer.

Plain ASGI, so that nothing is buffered and no answer escapes, also not those of errors.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Iterable, MutableMapping
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any
from urllib.parse import urlsplit

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from newsletter.settings import Settings, is_loopback

FORM_BYTES = 64 * 1024
BODY_BYTES = {"/webhooks/": 4 * 1024 * 1024, "/api/": 256 * 1024}
"""The largest body by how the path begins; any other: ``FORM_BYTES``."""

ANY_HOST = ("/healthz", "/readyz")
"""Asked by machines that know only an address; they say nothing about anybody."""

CLOSED = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
HEADERS = {
    "Content-Security-Policy": CLOSED,
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex, nofollow",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), browsing-topics=()",
}
"""What an answer that says nothing else carries. A page that sets a header keeps its own."""

YEAR_SECONDS = 365 * 24 * 3600
log = structlog.get_logger()
Network = IPv4Network | IPv6Network
Failed = Callable[[Request], Response]
"""Makes the page of a failure nobody foresaw."""


class Guards:
    """The middleware; *app* sees only requests for us, of bounded size, from whom they really come."""

    def __init__(self, app: ASGIApp, settings: Settings, *, failed: Failed | None = None) -> None:
        self.app, self.failed = app, failed
        base = urlsplit(settings.base_url)
        self.host = (base.hostname or "").lower()
        self.prefix = settings.path_prefix
        self.proxies = settings.proxies
        self.is_public = settings.is_public

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request pass, or answer it."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        headers = Headers(scope=scope)
        by_proxy = _is_of(scope.get("client"), self.proxies)
        if by_proxy:
            scope["client"] = (forwarded_for(headers, self.proxies) or scope["client"][0], 0)
        self._place(scope)
        begun = False

        async def answer(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                self._dress(message)
            await send(message)

        refused = self._refusal(scope, headers, by_proxy=by_proxy)
        if refused is not None:
            return await refused(scope, receive, answer)
        try:
            await self.app(scope, _bounded(receive, _limit(own_path(scope)), _declared(headers)), answer)
        except ClientDisconnect:
            log.info("page.given_up")
        except (
            Exception
        ) as error:  # the outermost loop: uvicorn would log the error's text, which may hold a reader's words
            log.error("page.failed", error=type(error).__name__, where=_where(error))
            if not begun:
                page = self.failed(Request(scope)) if self.failed else Response(status_code=500)
                await page(scope, receive, answer)

    def _place(self, scope: Scope) -> None:
        """
        Say under which prefix the application stands, whether the proxy took it off the path or not.

        A slash at the end of a page's path changes nothing: sending a visitor on would name the scheme a
        proxy hides from us. Below the API a path is what it is.
        """
        path = scope["path"]
        if not path.removeprefix(self.prefix).startswith("/api/"):
            path = scope["path"] = path.rstrip("/") or "/"
        if not self.prefix:
            return
        if path != self.prefix and not path.startswith(f"{self.prefix}/"):
            scope["path"] = self.prefix + path
        elif path == self.prefix:
            scope["path"] = f"{path}/"
        scope["root_path"] = self.prefix

    def _refusal(self, scope: Scope, headers: Headers, *, by_proxy: bool) -> Response | None:
        if own_path(scope) in ANY_HOST:
            return None
        named = headers.getlist("host")
        host = named[0] if len(named) == 1 else ""
        if by_proxy and headers.get("x-forwarded-host"):
            host = headers["x-forwarded-host"]
        if not self._is_ours(host):
            return PlainTextResponse("This address is not ours.\n", 400)
        return None

    def _is_ours(self, host: str) -> bool:
        found = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+)(?::\d{1,5})?", host)
        if found is None:
            return False
        name = found[1].strip("[]").lower()
        return name == self.host or (is_loopback(self.host) and is_loopback(name))

    def _dress(self, message: MutableMapping[str, Any]) -> None:
        headers = MutableHeaders(scope=message)
        framable = "frame-ancestors" in headers.get("content-security-policy", "") and (
            "frame-ancestors 'none'" not in headers["content-security-policy"]
        )
        for name, value in HEADERS.items():
            if not (framable and name == "X-Frame-Options"):
                headers.setdefault(name, value)
        if self.is_public:
            headers["Strict-Transport-Security"] = f"max-age={YEAR_SECONDS}"


def own_path(scope: Scope) -> str:
    """The path of a request below the prefix."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", "")) or "/"


def forwarded_for(headers: Headers, proxies: Iterable[Network]) -> str:
    """
    The address that talked to our outermost trusted proxy; empty when the header names none.

    Read from the right: what stands left of the first address that is no proxy of ours may be invented.
    """
    known = tuple(proxies)
    named = [part.strip() for part in ",".join(headers.getlist("x-forwarded-for")).split(",")]
    last = ""
    for part in reversed(named):
        try:
            last = str(ip_address(_without_port(part)))
        except ValueError:
            return last
        if not _is_of((last, 0), known):
            return last
    return last


def _without_port(entry: str) -> str:
    """``203.0.113.9:4711`` and ``[2001:db8::1]:4711`` as addresses; some proxies say where a visitor comes from so."""
    bracketed = re.fullmatch(r"\[([0-9A-Fa-f:.]+)\](?::\d{1,5})?", entry)
    if bracketed:
        return bracketed[1]
    return entry.partition(":")[0] if re.fullmatch(r"[0-9.]+:\d{1,5}", entry) else entry


def _is_of(client: object, networks: Iterable[Network]) -> bool:
    if not isinstance(client, (tuple, list)) or not client:
        return False
    try:
        address = ip_address(str(client[0]))
    except ValueError:
        return False
    return any(address in network for network in networks)


def _limit(path: str) -> int:
    return next((size for begin, size in BODY_BYTES.items() if path.startswith(begin)), FORM_BYTES)


def _declared(headers: Headers) -> int:
    length = headers.get("content-length", "0")
    return int(length) if re.fullmatch(r"[0-9]{1,12}", length) else 10**12


def _bounded(receive: Receive, limit: int, declared: int) -> Receive:
    """*receive* that raises 413 once more than *limit* bytes were *declared* or have come."""
    seen = 0 if declared <= limit else declared

    async def bounded() -> Message:
        nonlocal seen
        if seen > limit:
            raise HTTPException(413)
        message = await receive()
        if message["type"] == "http.request":
            seen += len(message.get("body", b""))
            if seen > limit:
                raise HTTPException(413)
        return message

    return bounded


def _where(error: BaseException) -> str:
    """File and line of the innermost frame of ours; never the error's text."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "newsletter" in frame.filename] or list(frames)
    return f"{ours[-1].filename.rpartition('newsletter/')[2]}:{ours[-1].lineno}" if ours else ""
