"""
Reading sources over HTTP: pooled, conditional, bounded in time, size and redirects, and never inward.

A source's address is a stranger's word. So names are resolved here, every address found is checked,
and the connection is made to the very address that was checked (no second look-up that could answer
otherwise). The same holds for every redirect.
"""

from __future__ import annotations

import ipaddress
import math
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpcore
import httpx

from newsletter import __version__
from newsletter.errors import SourceError

MAX_BYTES = 20 * 1024 * 1024
TOTAL_SECONDS = 15.0
MAX_REDIRECTS = 5
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class Fetched:
    """
    What came back. *unchanged*: the source answered 304, and *data* is empty.

    *status* and *size_bytes* (as announced, 0 unknown) are told by ``look``; a status of 0: nothing in time.
    """

    data: bytes = b""
    content_type: str = ""
    etag: str = ""
    last_modified: str = ""
    unchanged: bool = False
    status: int = 200
    size_bytes: int = 0


def is_public(address: str) -> bool:
    """Whether *address* is one of the open internet: not private, loopback, link-local, reserved …"""
    ip = ipaddress.ip_address(address.split("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped:
            ip = ip.ipv4_mapped
        elif ip.sixtofour:
            ip = ip.sixtofour
        elif ip.teredo:
            return False
        elif ip in _NAT64:
            ip = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.is_global and not ip.is_multicast and not ip.is_reserved and not ip.is_unspecified


class _Until(threading.local):
    """When what this thread asks for must be there, as ``time.monotonic`` tells it."""

    at = math.inf

    def left(self, timeout: float | None) -> float:
        """
        How long the next step may take, at most *timeout*.

        Raises:
            httpcore.ReadTimeout: the time is over.
        """
        left = self.at - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout("the time is over")
        return left if timeout is None else min(left, timeout)


class _Timed(httpcore.NetworkStream):
    """
    A connection whose steps together take no longer than the thread that uses it may wait.

    A time-out for each step bounds nothing: a server may send one byte of its headers at a time.
    """

    def __init__(self, stream: httpcore.NetworkStream, until: _Until) -> None:
        self._stream, self._until = stream, until

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._until.left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._until.left(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        stream = self._stream.start_tls(ssl_context, server_hostname, self._until.left(timeout))
        return _Timed(stream, self._until)

    def get_extra_info(self, info: str) -> object:
        return self._stream.get_extra_info(info)


class _GuardedBackend(httpcore.NetworkBackend):
    """Connects only to addresses that were checked."""

    def __init__(self, until: _Until, *, allow_private: bool) -> None:
        self._until, self._allow_private = until, allow_private
        self._plain = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Resolve, check every address, connect to the first."""
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError("the name does not resolve") from error
        addresses = [str(row[4][0]) for row in found]
        if not self._allow_private and not all(is_public(address) for address in addresses):
            raise httpcore.ConnectError(
                "it leads to a private or local address, which is not read unless NEWSLETTER_ALLOW_PRIVATE_SOURCES is set"
            )
        stream = self._plain.connect_tcp(
            addresses[0], port, self._until.left(timeout), local_address, socket_options
        )
        return _Timed(stream, self._until)


class _Transport(httpx.BaseTransport):
    """httpx over a pool whose connections are guarded."""

    def __init__(self, until: _Until, *, allow_private: bool) -> None:
        self._pool = httpcore.ConnectionPool(
            ssl_context=ssl.create_default_context(), max_connections=16, keepalive_expiry=5.0,
            network_backend=_GuardedBackend(until, allow_private=allow_private),
        )  # fmt: skip

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """One request through the pool; httpcore's errors as httpx's."""
        try:
            answer = self._pool.handle_request(
                httpcore.Request(
                    method=request.method,
                    url=httpcore.URL(
                        scheme=request.url.raw_scheme, host=request.url.raw_host, port=request.url.port,
                        target=request.url.raw_path,
                    ),
                    headers=request.headers.raw,
                    content=request.stream,
                    extensions=request.extensions,
                )
            )  # fmt: skip
        except httpcore.TimeoutException as error:
            raise httpx.TimeoutException(str(error), request=request) from error
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol) as error:
            raise httpx.TransportError(str(error), request=request) from error
        return httpx.Response(
            answer.status, headers=answer.headers, stream=_Body(answer.stream), extensions=answer.extensions
        )

    def close(self) -> None:
        """Close the pool."""
        self._pool.close()


class _Body(httpx.SyncByteStream):
    def __init__(self, stream: object) -> None:
        self._stream = stream

    def __iter__(self):  # type: ignore[no-untyped-def]
        try:
            yield from self._stream  # type: ignore[misc]
        except httpcore.TimeoutException as error:
            raise httpx.TimeoutException(str(error)) from error
        except (httpcore.NetworkError, httpcore.ProtocolError) as error:
            raise httpx.TransportError(str(error)) from error

    def close(self) -> None:
        close = getattr(self._stream, "close", None)
        if close:
            close()


class Fetcher:
    """One pooled client for all sources; safe for several threads."""

    def __init__(
        self, *, allow_private: bool = False, total_seconds: float = TOTAL_SECONDS, max_bytes: int = MAX_BYTES
    ) -> None:
        self._total_seconds = total_seconds
        self._max_bytes = max_bytes
        self._until = _Until()
        self._client = httpx.Client(
            transport=_Transport(self._until, allow_private=allow_private),
            timeout=httpx.Timeout(total_seconds),
            follow_redirects=True,
            max_redirects=MAX_REDIRECTS,
            trust_env=False,
            headers={
                "User-Agent": f"newsletter/{__version__} (feed reader)",
                "Accept": "application/rss+xml, application/atom+xml, application/feed+json, application/json;q=0.9, "
                "application/xml;q=0.8, text/xml;q=0.8, */*;q=0.1",
            },
        )

    def __enter__(self) -> Fetcher:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def fetch(self, url: str, *, etag: str = "", last_modified: str = "") -> Fetched:
        """
        Read *url*, redirects and all, asking only for what changed since *etag* and *last_modified*.

        Raises:
            SourceError: a sentence naming the source and what went wrong.
        """
        # A server's own words: what is not ASCII cannot be said back to it in a header.
        marks = {"If-None-Match": etag, "If-Modified-Since": last_modified}
        headers = {name: mark for name, mark in marks.items() if mark and mark.isascii()}
        try:
            with self._in_time(), self._client.stream("GET", url, headers=headers) as answer:
                if answer.status_code == 304:
                    return Fetched(etag=etag, last_modified=last_modified, unchanged=True)
                if answer.status_code != 200:
                    raise SourceError(f"{url} answered {answer.status_code}.", source=url)
                return Fetched(
                    data=self._read(answer, url),
                    content_type=answer.headers.get("content-type", ""),
                    etag=answer.headers.get("etag", ""),
                    last_modified=answer.headers.get("last-modified", ""),
                )
        except httpx.TooManyRedirects as error:
            raise SourceError(f"{url} redirects more than {MAX_REDIRECTS} times.", source=url) from error
        except httpx.TimeoutException as error:
            raise SourceError(
                f"{url} was not read within {self._total_seconds:g} seconds.", source=url
            ) from error
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            raise SourceError(
                f"{url} cannot be read: {str(error) or type(error).__name__}.", source=url
            ) from error

    def look(self, url: str) -> Fetched:
        """
        Say what answers at *url*, whatever its status, without reading it.

        Raises:
            SourceError: nothing can answer there; says why.
        """
        try:
            with self._in_time(), self._client.stream("GET", url, headers={"Accept": "*/*"}) as answer:
                length = answer.headers.get("content-length", "")
                return Fetched(
                    status=answer.status_code, content_type=answer.headers.get("content-type", ""),
                    size_bytes=int(length) if length.isdecimal() else 0,
                )  # fmt: skip
        except httpx.TimeoutException:
            return Fetched(status=0)
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            raise SourceError(
                f"{url} cannot be reached: {str(error) or type(error).__name__}.", source=url
            ) from error

    @contextmanager
    def _in_time(self) -> Iterator[None]:
        """What this thread asks for meanwhile must be there in time, whatever it consists of."""
        self._until.at = time.monotonic() + self._total_seconds
        try:
            yield
        finally:
            self._until.at = math.inf

    def _read(self, answer: httpx.Response, url: str) -> bytes:
        """The decompressed body, as long as it does not grow too large."""
        pieces: list[bytes] = []
        size = 0
        for piece in answer.iter_bytes():
            size += len(piece)
            if size > self._max_bytes or answer.num_bytes_downloaded > self._max_bytes:
                raise SourceError(f"{url} is larger than {self._max_bytes // 1_048_576} MB.", source=url)
            pieces.append(piece)
        return b"".join(pieces)
