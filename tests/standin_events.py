"""
What comes after acceptance in the stand-in for SendGrid: scheduled sends, and signed webhook events.

The events are those of the Event Webhook as published (seen 2026-11): a JSON array that ends in CRLF, signed
with ECDSA P-256 and SHA-256 over the timestamp and the raw body.
"""

from __future__ import annotations

import base64
import http.client
import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

SIGNATURE = "X-Twilio-Email-Event-Webhook-Signature"
TIMESTAMP = "X-Twilio-Email-Event-Webhook-Timestamp"

MOST_AHEAD = 72 * 3600
"""Seconds mail may be scheduled ahead, and a paused one is held past its time."""

LAST_CALL = 600
"""Seconds before its time after which scheduled mail can no longer be stopped."""

EARLY = frozenset(("processed", "dropped"))
"""Kinds that are told of scheduled mail too; the others need its time to have come."""

_MACHINE = {"useragent": "Mozilla/5.0 (stand-in)", "ip": "198.51.100.9"}
_FIELDS: dict[str, dict[str, Any]] = {
    "dropped": {"reason": "Bounced Address", "status": "5.0.0"},
    "delivered": {"response": "250 OK", "ip": "198.51.100.7", "tls": 1},
    "deferred": {"response": "421 try again later", "attempt": "1"},
    "bounce": {
        "type": "bounce",
        "reason": "550 5.1.1 no such user",
        "status": "5.1.1",
        "bounce_classification": "Invalid Address",
        "ip": "198.51.100.7",
    },
    "open": {**_MACHINE, "sg_machine_open": False, "sg_content_type": "html"},
    "click": {**_MACHINE, "url": "https://news.example/", "url_offset": {"index": 0, "type": "html"}},
}
_WITH_SMTP_ID = frozenset(("processed", "dropped", "delivered", "deferred", "bounce"))


class Taken(NamedTuple):
    """One reader whose mail was accepted."""

    edition: str
    batch: str
    reader: str
    email: str


@dataclass(slots=True, eq=False)
class Kept:
    """
    One accepted request.

    *number* counts accepted requests from 1, *send_at* is None for mail that went out at once, *outcome* is
    the action that was played; *is_out* says that it left, *reported* which kinds of events were told of it.
    """

    number: int
    batch_id: str
    send_at: int | None
    readers: list[Taken]
    message_id: str
    categories: list[str]
    outcome: str
    is_out: bool = False
    reported: set[str] = field(default_factory=set)


NOWHERE = Kept(0, "", None, [], "standin.unknown", [], "")
"""What an event is about when the stand-in took no such mail."""


def log_line(kept: Kept, at: float) -> dict[str, Any]:
    """Return what the log says of a request that went out."""
    people = [
        {
            "custom_args": {"nl_edition": one.edition, "nl_batch": one.batch, "nl_reader": one.reader},
            "to": [one.email],
        }
        for one in kept.readers
    ]
    return {"at": at, "outcome": kept.outcome, "personalizations": people}


class Schedule:
    """
    The batch ids, and which of them are cancelled or paused; not locked.

    *cancel_limit* is how many may be stopped at a time; one counts until its mails' time has passed, or, if
    there are none, until its status is deleted.
    """

    def __init__(self, cancel_limit: int) -> None:
        self._cancel_limit = cancel_limit
        self._moments: dict[str, list[float]] = {}  # by batch_id: when the mails accepted under it leave
        self._stopped: dict[str, str] = {}  # by batch_id: cancel or pause

    def new_batch(self) -> str:
        """Return a fresh ``batch_id``."""
        batch_id = secrets.token_urlsafe(24)
        self._moments[batch_id] = []
        return batch_id

    def note(self, batch_id: str, moment: float) -> None:
        """Remember when mail accepted under *batch_id* leaves."""
        if batch_id in self._moments:
            self._moments[batch_id].append(moment)

    def is_held(self, kept: Kept, now: float) -> bool:
        """Whether mail whose time has come is paused, and not yet for too long."""
        return self._stopped.get(kept.batch_id) == "pause" and now < (kept.send_at or 0) + MOST_AHEAD

    def is_stopped(self, kept: Kept) -> bool:
        """Whether mail that is not held any longer is to be discarded."""
        return kept.batch_id in self._stopped

    def answer(self, method: str, batch_id: str, body: Any, now: float) -> tuple[int, Any]:
        """Return status and body for a request to ``/v3/user/scheduled_sends``; *batch_id* is that of the path."""
        if method == "GET":
            found = self._stopped.items()
            return 200, [
                {"batch_id": one, "status": status} for one, status in found if batch_id in ("", one)
            ]
        if method == "DELETE":
            self._stopped.pop(batch_id, None)
            return 204, None
        wanted = body if isinstance(body, dict) else {}
        batch_id = batch_id or str(wanted.get("batch_id"))
        refusal = self._refusal(batch_id, wanted.get("status"), now, is_change=method == "PATCH")
        if refusal:
            return 400, {"errors": [{"message": refusal, "field": None, "help": None}]}
        self._stopped[batch_id] = wanted["status"]
        if method == "PATCH":
            return 204, None
        return 201, {"batch_id": batch_id, "status": wanted["status"]}

    def _refusal(self, batch_id: str, status: Any, now: float, *, is_change: bool) -> str:
        if batch_id not in self._moments:
            return "invalid batch id"
        if status not in ("cancel", "pause"):
            return "invalid status"
        if is_change != (batch_id in self._stopped):
            return "batch id not found" if is_change else "a status for this batch id exists, try PATCH"
        if any(moment - now < LAST_CALL for moment in self._moments[batch_id]):
            return "too late: less than 10 minutes remain"
        pending = [one for one in self._stopped if max(self._moments[one], default=now + 1) > now]
        return "max limit reached" if not is_change and len(pending) >= self._cancel_limit else ""


def make_event(
    kind: str, taken: Taken, kept: Kept, place: int, *, serial: int, now: float, fields: dict[str, Any]
) -> dict[str, Any]:
    """Return one event of *kind* for the reader at *place* of *kept*; *fields* are added or replace others."""
    made: dict[str, Any] = {
        "email": taken.email,
        "timestamp": int(now),
        "event": kind,
        "sg_event_id": base64.urlsafe_b64encode(f"{kind}-{kept.message_id}-{serial}".encode()).decode(),
        "sg_message_id": f"{kept.message_id}.recvd-standin-{kept.number}.{place}",
        "category": list(kept.categories),
        "nl_edition": taken.edition,
        "nl_batch": taken.batch,
        "nl_reader": taken.reader,
        **_FIELDS.get(kind, {}),
    }
    if kind in _WITH_SMTP_ID:
        made["smtp-id"] = f"<{kept.message_id}.{place}@standin.invalid>"
    if kind == "processed" and kept.send_at is not None:
        made["send_at"] = kept.send_at
    return {**made, **fields}


def new_key() -> tuple[ec.EllipticCurvePrivateKey, str]:
    """Return a fresh private key and its public half as SendGrid shows it (base64 of the DER)."""
    private = ec.generate_private_key(ec.SECP256R1())
    public = private.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return private, base64.b64encode(public).decode()


def sign(private_key: ec.EllipticCurvePrivateKey, body: bytes, timestamp: str) -> dict[str, str]:
    """Return the two headers that prove *body*."""
    signature = private_key.sign(timestamp.encode() + body, ec.ECDSA(hashes.SHA256()))
    return {SIGNATURE: base64.b64encode(signature).decode(), TIMESTAMP: timestamp}


def body_of(events: Sequence[dict[str, Any]]) -> bytes:
    """Return *events* as SendGrid posts them."""
    return json.dumps(list(events), separators=(",", ":")).encode() + b"\r\n"


def post_events(
    url: str,
    private_key: ec.EllipticCurvePrivateKey,
    events: Sequence[dict[str, Any]],
    *,
    chunk: int = 1000,
) -> list[int]:
    """
    Post *events* signed, *chunk* of them a request, and return the statuses in order.

    Raises:
        OSError: nobody answered.
    """
    parts = urlsplit(url)
    connect = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    statuses = []
    for start in range(0, len(events), chunk):
        body = body_of(events[start : start + chunk])
        headers = {
            "Content-Type": "application/json;charset=utf-8",
            "User-Agent": "SendGrid Event API",
            **sign(private_key, body, str(int(time.time()))),
        }
        connection = connect(parts.hostname or "", parts.port, timeout=60)
        try:
            connection.request("POST", target, body, headers)
            answer = connection.getresponse()
            answer.read()
            statuses.append(answer.status)
        finally:
            connection.close()
    return statuses
