"""
The ``sendgrid`` package's client over connections that stay open: it opens a new one for each call.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from email.message import Message
from typing import Any
from urllib.error import HTTPError as UrllibError
from urllib.parse import urlsplit
from urllib.request import Request

from python_http_client import Client
from python_http_client.client import Response
from python_http_client.exceptions import handle_error

from newsletter.providers.wire import Reply, Wire


def quieten() -> None:
    """At DEBUG the package logs whole requests with the key in them: keep it above, whatever the root says."""
    for name in ("python_http_client", "python_http_client.client"):
        logger = logging.getLogger(name)
        logger.setLevel(max(logger.level, logging.INFO))


class Courier(Client):  # type: ignore[misc] # python_http_client ships no types
    """A client over *wire*; the package offers no other way."""

    def __init__(self, wire: Wire, **values: Any) -> None:
        super().__init__(**values)
        self._wire = wire

    def _build_client(self, name: str | None = None) -> Courier:
        return Courier(
            self._wire, host=self.host, version=self._version, request_headers=self.request_headers,
            url_path=[*self._url_path, name] if name else self._url_path, timeout=self.timeout,
        )  # fmt: skip

    def post_encoded(self, body: Sequence[bytes], *, timeout: float) -> Response:
        """As ``post``, with a body that is JSON already: the package would encode it a second time."""
        request = Request(self._build_url(None), headers=self.request_headers, method="POST")  # noqa: S310 - _checked_host
        return Response(self._make_request(None, request, timeout=timeout, body=body))

    def _make_request(
        self,
        _opener: object,
        request: Request,
        timeout: float | None = None,
        *,
        body: Sequence[bytes] = (),
    ) -> _Answer:
        url = urlsplit(request.full_url)
        target = f"{url.path}?{url.query}" if url.query else url.path
        pieces = (request.data,) if isinstance(request.data, bytes) else body
        headers = {name.title(): value for name, value in request.header_items()}
        reply = self._wire.request(
            request.get_method(), target, headers, pieces, timeout=timeout or self.timeout
        )
        if not 200 <= reply.status < 300:
            raise handle_error(
                UrllibError(
                    request.full_url, reply.status, reply.reason, reply.headers, io.BytesIO(reply.body)
                )
            )
        return _Answer(reply)


class _Answer:
    """A reply in the shape the package reads."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply

    def getcode(self) -> int:
        return self._reply.status

    def read(self) -> bytes:
        return self._reply.body

    def info(self) -> Message:
        return self._reply.headers
