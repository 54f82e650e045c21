"""
Requests over connections that stay open, and the truth about each: sent, not sent, unknown.

``http.client`` never repeats a request by itself; libcurl does when a reused connection dies after the
body was read, which would be a silent double (DELIVERY §1d). So it is used here directly, and what is
in doubt is left in doubt.
"""

from __future__ import annotations

import select
import ssl
import time
import weakref
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPConnection, HTTPException, HTTPSConnection, IncompleteRead
from socket import socket
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass

from newsletter.settings import is_loopback

IDLE_SECONDS = 10.0
"""A connection unused for longer is not used again: the other side may be closing it."""

MAX_REPLY_BYTES = 1_000_000


class NotSent(OSError):
    """The request certainly did not get there whole: no connection, or it broke before the last byte left."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer; *headers* can be asked in any case."""

    status: int
    reason: str
    headers: Message
    body: bytes


class Wire:
    """Connections to one host; may be shared by threads."""

    def __init__(self, origin: str) -> None:
        parts = urlsplit(origin)
        self._host = parts.hostname or ""
        self._port = parts.port
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        if self._tls is not None:
            self._tls.set_alpn_protocols(["http/1.1"])
        self._idle: deque[tuple[HTTPConnection, float]] = deque()  # the last used is used first
        weakref.finalize(self, _close_all, self._idle)

    def request(
        self,
        method: str,
        target: str,
        headers: dict[str, str],
        body: Sequence[bytes],
        *,
        timeout: float | None,
    ) -> Reply:
        """
        Send one request, once, its *body* piece by piece. *timeout* (seconds) bounds each step on the network, as sockets do.

        Raises:
            NotSent: certainly nothing was taken.
            OSError, HTTPException: nobody can say.
        """
        connection = self._take(timeout)
        try:
            if connection.sock is None:
                self._connect(connection)
            else:
                connection.sock.settimeout(timeout)
            self._send(connection, method, target, headers, body)
            reply, may_stay = self._answer(connection)
        except BaseException:
            connection.close()
            raise
        if may_stay:
            self._idle.append((connection, time.monotonic()))
        else:
            connection.close()
        return reply

    def _send(
        self,
        connection: HTTPConnection,
        method: str,
        target: str,
        headers: dict[str, str],
        body: Sequence[bytes],
    ) -> None:
        try:
            if body:
                headers = {**headers, "Content-Length": str(sum(map(len, body)))}
            connection.request(method, target, iter(body) if body else None, headers)
        except (OSError, HTTPException) as error:
            # The last byte never left, so the body is not whole at the other side.
            raise NotSent(type(error).__name__) from error

    def _answer(self, connection: HTTPConnection) -> tuple[Reply, bool]:
        """The answer, and whether the connection can carry another request."""
        response = connection.getresponse()
        body = response.read(MAX_REPLY_BYTES)
        if response.length and len(body) < MAX_REPLY_BYTES:
            raise IncompleteRead(body, response.length)
        reply = Reply(response.status, response.reason, response.headers, body)
        return reply, response.isclosed() and not response.will_close

    def _connect(self, connection: HTTPConnection) -> None:
        try:
            connection.connect()
        except (OSError, HTTPException, UnicodeError) as error:
            raise NotSent(type(error).__name__) from error

    def _take(self, timeout: float | None) -> HTTPConnection:
        while self._idle:
            with suppress(IndexError):  # another thread was quicker
                connection, used_at = self._idle.pop()
                if not is_stale(connection.sock, used_at):
                    return connection
                connection.close()
        return self._make(timeout)

    def _make(self, timeout: float | None) -> HTTPConnection:
        proxy = self._proxy()
        host, port = (proxy.hostname or "", proxy.port) if proxy else (self._host, self._port)
        if self._tls is not None:
            made: HTTPConnection = HTTPSConnection(host, port, timeout=timeout, context=self._tls)
        else:
            made = HTTPConnection(host, port, timeout=timeout)
        if proxy:
            made.set_tunnel(self._host, self._port)
        return made

    def _proxy(self) -> SplitResult | None:
        """The environment's proxy is used as usual, but not towards this machine itself."""
        scheme = "https" if self._tls is not None else "http"
        named = getproxies().get(scheme, "")
        if not named or is_loopback(self._host) or proxy_bypass(self._host):
            return None
        return urlsplit(named if "//" in named else f"//{named}")


def _close_all(idle: deque[tuple[HTTPConnection, float]]) -> None:
    for connection, _ in idle:
        connection.close()


def is_stale(sock: socket | None, used_at: float) -> bool:
    """Whether the other side has closed it, or may be about to; between answers nothing is to be read."""
    if sock is None:
        return False
    if time.monotonic() - used_at > IDLE_SECONDS:
        return True
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))
