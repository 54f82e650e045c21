"""
The provider's webhook: what is not signed is not read, what is written down is answered, nothing is said.

A request is verified, put into the inbox as it is, and answered; it is processed behind the answer. No answer
but a status, and nothing of a request in a log: it is full of addresses.
"""

from __future__ import annotations

import re
import threading

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from newsletter.outbox.inbox import append, process
from newsletter.providers.sendgrid_events import (
    SIGNATURE_HEADER,
    TIMESTAMP_HEADER,
    looks_like_events,
    verify,
)
from newsletter.settings import Keys
from newsletter.times import Clock

MAX_BODY_BYTES = 4 * 1024 * 1024
"""SendGrid posts at 768 KB or after 30 seconds (FACTS: a third party quotes its documentation)."""

log = structlog.get_logger()


class Webhook:
    """
    ``POST /webhooks/sendgrid``.

    204: written down, durably. 404: no public key is configured. 403: not signed by one of them. 413:
    larger than 4 MiB. 400: signed, but no array of events. 503: the database cannot be written; the
    provider sends it again for 24 hours.
    """

    def __init__(self, engine: Engine, keys: Keys, *, public_keys: str, clock: Clock) -> None:
        self.engine, self.keys, self.public_keys, self.clock = engine, keys, public_keys.strip(), clock
        self._lock = threading.Lock()
        self._works = False
        self._has_more = False

    def wake(self) -> None:
        """Process what is in the inbox, in a thread of its own; one at a time."""
        with self._lock:
            self._has_more = True
            if self._works:
                return
            self._works = True
        threading.Thread(target=self._work, name="inbox", daemon=True).start()

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._has_more:
                    self._works = False
                    return
                self._has_more = False
            try:
                process(self.engine, self.keys, clock=self.clock)
            except Exception as error:  # it stays in the inbox: the next request or the scheduler looks again
                log.error("inbox.stuck", error=type(error).__name__)

    async def receive(self, request: Request) -> Response:
        """Take one request in; the work is done in a thread, the pages go on."""
        if not self.public_keys:
            return _refuse(404, "no public key")
        signature, timestamp = request.headers.get(SIGNATURE_HEADER), request.headers.get(TIMESTAMP_HEADER)
        if not signature or not timestamp:
            return _refuse(403, "not signed")
        try:
            body = await _body(request)
        except ClientDisconnect:
            return _refuse(400, "cut off")
        if body is None:
            return _refuse(413, "too large")
        return await run_in_threadpool(self._take, signature, timestamp, body)

    def _take(self, signature: str, timestamp: str, body: bytes) -> Response:
        if not verify(self.public_keys, signature, timestamp, body):
            return _refuse(403, "signed by nobody we know")
        if not looks_like_events(body):
            return _refuse(400, "no array of events")
        try:
            append(self.engine, body, at=self.clock())
        except SQLAlchemyError as error:  # its text holds the values
            log.error("webhook.not_stored", error=type(error).__name__)
            return Response(status_code=503)
        log.info("webhook.stored", size_bytes=len(body))
        self.wake()
        return Response(status_code=204)


def _refuse(status: int, why: str) -> Response:
    log.warning("webhook.refused", status=status, why=why)
    return Response(status_code=status)


async def _body(request: Request) -> bytes | None:
    """The raw bytes, to the last CRLF, for they are what is signed; None when there are too many."""
    length = request.headers.get("content-length", "0")
    if not re.fullmatch(r"[0-9]{1,12}", length) or int(length) > MAX_BODY_BYTES:
        return None
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY_BYTES:
            return None
    return bytes(body)
