"""
Mails that came back: what a mailbox's report says of one of ours, in our words.

Two kinds of reports are read: delivery status notifications (RFC 3464) and complaints of a feedback loop
(RFC 5965). Both bring back the header lines of the mail they are about, and with them the reader's own leaving
link, which nobody else has: that is what proves a report. Whoever can write to the return path could otherwise
have anybody's mail stopped.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import Message
from email.utils import parseaddr, parsedate_to_datetime
from typing import Any

from newsletter.events import NOT_TOLD, EventKind, NoMore, ProviderEvent
from newsletter.providers.redacting import storable, without_addresses

NO_SUCH_ADDRESS = re.compile(r"5\.1\.(1|2|3|6|10)\b")
"""Codes of an address that does not exist, or not any more (RFC 3463 3.2, RFC 7505)."""

_ENHANCED = re.compile(r"\b[245]\.[0-9]{1,3}\.[0-9]{1,3}\b")
_TOKEN = re.compile(r"/u/([A-Za-z0-9_-]{48})\b")
_LONGEST_REASON = 500

_COMPLAINTS = {
    "abuse": EventKind.COMPLAINED,
    "fraud": EventKind.COMPLAINED,
    "opt-out": EventKind.UNSUBSCRIBED,
}
"""Feedback types that say something of the reader (RFC 5965 7.3, RFC 6449); "not-spam" and others do not."""

_ACTIONS = {"failed": EventKind.BLOCKED, "delayed": EventKind.DEFERRED, "delivered": EventKind.DELIVERED}


@dataclass(frozen=True, slots=True)
class Returned:
    """
    A report on one of our mails. *token* is its leaving link's, *email* whom it was written to, *identity* the
    left half of its Message-ID. *told* is what the report says, as it is stored: nothing in it is an address.
    """

    event_id: str
    token: str = field(repr=False)
    email: str = field(repr=False)
    identity: str
    occurred_at: datetime
    told: Mapping[str, Any]


def read_returned(raw: bytes) -> Returned | None:
    """Read one message, whatever it is; None when it is no report, or brings no mail of ours back."""
    try:
        return _read(raw)
    except (RecursionError, LookupError, TypeError, ValueError):  # made by somebody to trip the parser
        return None


def _read(raw: bytes) -> Returned | None:
    message = message_from_bytes(raw)
    if message.get_content_type() != "multipart/report":
        return None
    told: dict[str, str] = {}
    ours: Message | None = None
    for part in message.walk():
        match part.get_content_type():
            case "message/delivery-status":
                told = told or _of_delivery(part)
            case "message/feedback-report":
                told = told or _of_feedback(part)
            case "message/rfc822":
                ours = ours or next(_within(part), None)
            case "text/rfc822-headers" | "message/rfc822-headers":
                ours = ours or _headers(part)
    token = _TOKEN.search(_line(ours, "List-Unsubscribe").replace(" ", "")) if ours is not None else None
    if not told or ours is None or token is None:
        return None
    email = parseaddr(_line(ours, "To"))[1]
    return Returned(
        event_id=f"returned:{hashlib.sha256(raw).hexdigest()}", token=token[1], email=email,
        identity=_line(ours, "Message-ID").strip("<> ").partition("@")[0], occurred_at=_moment(message),
        told=without_addresses(told, email),
    )  # fmt: skip


def event_of(raw: Mapping[str, Any], *, event_id: str = "", email: str = "", occurred_at: datetime = NOT_TOLD) -> ProviderEvent:  # fmt: skip
    """
    The event that *raw* tells: what a report said, with the *edition* and *reader* it was found to be about.

    Of what is stored of an event the same comes out again.
    """
    told = {name: value for name, value in raw.items() if isinstance(value, str)}
    status, kind = told.get("status", ""), EventKind.UNKNOWN
    match told.get("report"):
        case "delivery":
            kind = _ACTIONS.get(told.get("action", ""), EventKind.UNKNOWN)
            if kind is EventKind.BLOCKED and NO_SUCH_ADDRESS.match(status):
                kind = EventKind.BOUNCED
        case "feedback":
            kind = _COMPLAINTS.get(told.get("feedback", ""), EventKind.UNKNOWN)
    no_more = {
        EventKind.BOUNCED: NoMore.BOUNCED,
        EventKind.COMPLAINED: NoMore.COMPLAINED,
        EventKind.UNSUBSCRIBED: NoMore.UNSUBSCRIBED,
    }.get(kind)
    return ProviderEvent(
        event_id=event_id, kind=kind, email=email, occurred_at=occurred_at, edition=told.get("edition", ""),
        reader=told.get("reader", ""), reason=told.get("reason", ""), no_more=no_more, raw=dict(raw),
    )  # fmt: skip


def is_returned(raw: Mapping[str, Any]) -> bool:
    """Whether a stored event came back as a mail, not by the provider's webhook."""
    return raw.get("report") in ("delivery", "feedback")


def _of_delivery(part: Message) -> dict[str, str]:
    """The gravest of what it says of its recipients; our mails have one each."""
    found: list[dict[str, str]] = []
    for block in _within(part):
        action = _line(block, "Action").strip().lower()
        if action not in _ACTIONS:
            continue
        reason = _line(block, "Diagnostic-Code") or _line(block, "Status")
        # Many servers say 5.0.0 where the answer they were given says more.
        exact = _ENHANCED.search(reason) or _ENHANCED.search(_line(block, "Status"))
        found.append(
            {"report": "delivery", "action": action, "status": exact[0] if exact else "", "reason": reason}
        )
    return min(found, key=lambda one: list(_ACTIONS).index(one["action"]), default={})


def _of_feedback(part: Message) -> dict[str, str]:
    for block in _within(part):
        kind = _line(block, "Feedback-Type").strip().lower()
        if kind:
            return {"report": "feedback", "feedback": kind[:40], "reason": _line(block, "User-Agent")}
    return {}


def _within(part: Message) -> Iterator[Message]:
    payload = part.get_payload()
    if isinstance(payload, list):
        yield from (one for one in payload if isinstance(one, Message))


def _headers(part: Message) -> Message | None:
    payload = part.get_payload(decode=True)
    if isinstance(payload, bytes):
        return message_from_bytes(payload)
    return next(_within(part), None)


def _line(message: Message | None, name: str) -> str:
    """A header on one line, '' without it; never raises, whatever stands in it."""
    told = message.get(name) if message is not None else None
    return storable(" ".join(str(told).split()))[:_LONGEST_REASON] if told is not None else ""


def _moment(message: Message) -> datetime:
    try:
        moment = parsedate_to_datetime(_line(message, "Date"))
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (TypeError, ValueError, OverflowError):
        return NOT_TOLD
