"""
What is kept of what others tell us, without addresses: servers repeat them in their replies, forwarding ones
even some that are not on our list. And without what JSON can say and a database cannot store.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_DEEPEST = 8
_REMOVED = "[address]"
_ANY_ADDRESS = re.compile(r"""[^\s<>"'(),:;@\[\]=]{1,64}@[\w-]+(?:\.[\w-]+)+""")
"""A local part has at most 64 characters (RFC 5321); the bound also keeps the search linear."""


def without_addresses(told: Mapping[str, Any], email: str) -> dict[str, Any]:
    """Return *told* without *email*, however it is spelled, and without whatever else looks like an address."""
    raw: dict[str, Any] = _without(dict(told), _spellings(email), depth=0)
    return raw


def storable(text: str) -> str:
    """Without what JSON can say and PostgreSQL cannot store: NUL, and half of a surrogate pair."""
    if text.isascii():
        return text.replace("\0", "")
    return text.replace("\0", "").encode("utf-8", "replace").decode()


def _spellings(email: str) -> tuple[str, ...]:
    """How an address occurs in other fields: as it is, in a URL, in a return path (``ann=mail.example@…``)."""
    local, _, domain = email.lower().rpartition("@")
    if not local or not domain:
        return ()  # no address: taking a plain word out everywhere would destroy the event
    return (f"{local}@{domain}", f"{local}%40{domain}", f"{local}={domain}")


def _without(value: Any, spellings: tuple[str, ...], *, depth: int, any_address: bool = True) -> Any:
    """Return *value* without addresses, and without what a database cannot store."""
    if isinstance(value, str):
        return _clean(value, spellings, any_address=any_address)
    if depth > _DEEPEST and isinstance(value, dict | list):
        return "…"
    if isinstance(value, dict):
        return {
            name if name.isidentifier() else _clean(name, spellings, any_address=True): _without(
                one, spellings, depth=depth + 1, any_address=name != "url"
            )
            for name, one in value.items()
        }
    if isinstance(value, list):
        return [_without(one, spellings, depth=depth + 1, any_address=any_address) for one in value]
    return value


def _clean(text: str, spellings: tuple[str, ...], *, any_address: bool) -> str:
    """*any_address*: not in a URL that was clicked, where a name with an @ is somebody's public page."""
    if text.isascii() and "@" not in text and "%" not in text and "=" not in text and "\0" not in text:
        return text  # nearly all: no spelling of an address is without one of these
    text = storable(text)
    lowered = text.lower()
    for spelling in spellings:
        if spelling in lowered:
            text = re.sub(re.escape(spelling), _REMOVED, text, flags=re.IGNORECASE)
            lowered = text.lower()
    return _ANY_ADDRESS.sub(_REMOVED, text) if any_address and "@" in text else text
