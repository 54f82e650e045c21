"""
SendGrid's Event Webhook: is a request really theirs, and what does it say, in our words.

Sources: "Event Webhook Reference" and "Getting Started with the Event Webhook Security Features"
(SendGrid docs, seen 2026-11). Nothing that is signed is refused for being odd: a refusal makes SendGrid
send all of it again for 24 hours, and then it is lost.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from newsletter.events import (
    NOT_TOLD,
    EventKind,
    NoMore,
    ProviderEvent,
    client_of,
    is_program,
    link_of,
    without_token,
)
from newsletter.providers.redacting import storable, without_addresses

SIGNATURE_HEADER = "X-Twilio-Email-Event-Webhook-Signature"
TIMESTAMP_HEADER = "X-Twilio-Email-Event-Webhook-Timestamp"

_SHA256 = ec.ECDSA(SHA256())

_KINDS = {
    "processed": EventKind.PROCESSED,
    "delivered": EventKind.DELIVERED,
    "deferred": EventKind.DEFERRED,
    "bounce": EventKind.BOUNCED,
    "dropped": EventKind.DROPPED,
    "open": EventKind.OPENED,
    "click": EventKind.CLICKED,
    "spamreport": EventKind.COMPLAINED,
    "unsubscribe": EventKind.UNSUBSCRIBED,
    "group_unsubscribe": EventKind.UNSUBSCRIBED,
}

_DROPPED_FOR_THE_ADDRESS = {
    "bounced address": NoMore.BOUNCED,
    "invalid": NoMore.BOUNCED,
    "spam reporting address": NoMore.COMPLAINED,
    "unsubscribed address": NoMore.UNSUBSCRIBED,
}
"""Reasons of a drop that are about the address; the others are about the content or our plan."""

_BY_SOMEBODY = (EventKind.OPENED, EventKind.CLICKED)
_TRUE = (True, 1, "true", "True", "1")

_LONGEST_NAME = 200
"""A PostgreSQL index takes about 2,700 bytes; our own names and SendGrid's ids stay far below."""


def verify(public_keys: str, signature: str | None, timestamp: str | None, body: bytes) -> bool:
    """
    Say whether *body*, byte for byte as it came, was signed by one of *public_keys*.

    *public_keys* is one or more keys as SendGrid shows them (base64 of the DER), comma-separated, so that
    one can be replaced without losing events. How old *timestamp* is does not matter: SendGrid retries
    for 24 hours and nobody documents that it signs again; what comes twice is known by its id.
    """
    # Only digits: else bytes could be moved between the timestamp and the body, which are signed as one.
    if not signature or not timestamp or not re.fullmatch(r"[0-9]{1,20}", timestamp):
        return False
    try:
        given = base64.b64decode(signature, validate=True)
    except ValueError:
        return False
    signed = timestamp.encode() + body
    return any(_is_signed_by(key, given, signed) for key in public_keys.split(",") if key.strip())


def _is_signed_by(public_key: str, signature: bytes, signed: bytes) -> bool:
    try:
        _load(public_key).verify(signature, signed, _SHA256)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False
    return True


@lru_cache(maxsize=8)
def _load(public_key: str) -> ec.EllipticCurvePublicKey:
    key = load_der_public_key(base64.b64decode("".join(public_key.split()), validate=True))
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("not a P-256 key")
    return key


def looks_like_events(body: bytes) -> bool:
    """Whether *body* may be an array of events: what can be told without reading it."""
    told = body.strip()
    if not (told.startswith(b"[") and told.endswith(b"]")) or len(told) < 2:
        return False
    try:
        told.decode()
    except UnicodeDecodeError:
        return False
    return True


def read_events(body: bytes) -> tuple[ProviderEvent, ...]:
    """
    Read the events of a request, in their order, one for each element, whatever it is.

    Raises:
        ValueError: the body is not a JSON array; the message does not repeat it.
    """
    return tuple(map(read_event, read_elements(body)))


def read_elements(body: bytes) -> list[Any]:
    """
    Read a request's array, whatever its elements are.

    Raises:
        ValueError: the body is not a JSON array; the message does not repeat it.
    """
    try:
        elements = json.loads(body, parse_constant=str, parse_float=_number, parse_int=_integer)
    except (ValueError, RecursionError):
        raise ValueError("the body is not JSON") from None
    if not isinstance(elements, list):
        raise ValueError("the body is not a JSON array")
    return elements


def _number(text: str) -> float | str:
    """A number that PostgreSQL's JSON knows too: not the infinity that ``1e999`` becomes."""
    number = float(text)
    return number if math.isfinite(number) else text


def _integer(text: str) -> int | str:
    return int(text) if len(text) <= 20 else text


def read_event(element: Any) -> ProviderEvent:
    """
    Read one event, whatever it is; of what is stored of one (``ProviderEvent.raw``) the same comes out again.

    The address is taken out of ``raw`` wherever it occurs, and so is whatever else looks like one: servers
    repeat addresses in their replies, forwarding ones that are not even on our list. A link of ours loses
    its token.
    """
    if not isinstance(element, dict):
        element = {"element": element}
    told = element.get("email")
    email = storable(told).strip() if isinstance(told, str) else ""
    raw = without_addresses({name: value for name, value in element.items() if name != "email"}, email)
    kind = _kind(raw)
    edition = _name(raw, "nl_edition")
    url = _text(raw, "url")
    if url:
        raw["url"] = url = without_token(url)
    agent = _text(raw, "useragent")
    return ProviderEvent(
        event_id=_event_id(raw), kind=kind, email=email, occurred_at=_moment(raw.get("timestamp")),
        edition=edition, batch=_name(raw, "nl_batch"), reader=_name(raw, "nl_reader"),
        reason=_text(raw, "reason") or _text(raw, "response"),
        is_machine=kind in _BY_SOMEBODY and (raw.get("sg_machine_open") in _TRUE or is_program(agent)),
        link=link_of(url) if kind is EventKind.CLICKED else "",
        client=client_of(agent) if kind in _BY_SOMEBODY else "",
        no_more=_no_more(kind, raw, is_ours=edition != ""), raw=raw,
    )  # fmt: skip


def _kind(raw: Mapping[str, Any]) -> EventKind:
    kind = _KINDS.get(_text(raw, "event"), EventKind.UNKNOWN)
    # "blocked" is about the message or the sending IP; "expired" was seen in older documentation.
    if kind is EventKind.BOUNCED and _text(raw, "type") not in ("", "bounce"):
        return EventKind.BLOCKED
    return kind


def _no_more(kind: EventKind, raw: Mapping[str, Any], *, is_ours: bool) -> NoMore | None:
    match kind:
        case EventKind.BOUNCED:
            return NoMore.BOUNCED
        case EventKind.COMPLAINED:
            return NoMore.COMPLAINED
        case EventKind.DROPPED:
            return _DROPPED_FOR_THE_ADDRESS.get(_text(raw, "reason").strip().casefold())
        case EventKind.UNSUBSCRIBED:
            # We use no groups: leaving a group of other mail in the same account is not leaving us.
            from_a_group = _text(raw, "event") == "group_unsubscribe"
            return None if from_a_group and not is_ours else NoMore.UNSUBSCRIBED
        case _:
            return None


def _event_id(raw: Mapping[str, Any]) -> str:
    """Their id; one made of the content where there is none, so that the same event stays the same."""
    told = _text(raw, "sg_event_id")
    if told and len(told) <= _LONGEST_NAME:
        return told
    content = told or json.dumps(raw, sort_keys=True)
    return f"sha256:{hashlib.sha256(content.encode()).hexdigest()}"


def _text(raw: Mapping[str, Any], name: str) -> str:
    value = raw.get(name)
    return value if isinstance(value, str) else ""


def _name(raw: Mapping[str, Any], name: str) -> str:
    value = _text(raw, name)
    return value if len(value) <= _LONGEST_NAME else ""


def _moment(told: Any) -> datetime:
    """Seconds since 1970, as a number or as text."""
    if isinstance(told, bool):
        return NOT_TOLD
    try:
        return datetime.fromtimestamp(float(told), UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        return NOT_TOLD
