"""
What SendGrid's answer to a request says: taken, refused for a reason that names whom or when, or nothing certain.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from email.message import Message
from email.utils import parsedate_to_datetime
from http.client import responses

from newsletter.providers import Accepted, Refused, Uncertain, Verdict
from newsletter.providers.message import one_line

LONGEST_WAIT = timedelta(hours=1)
"""How far ahead a rate limit's reset is believed."""


def judge(
    status: int,
    headers: Message,
    body: bytes,
    *,
    count: int,
    is_sandbox: bool,
    now: datetime,
    jitter: timedelta,
) -> Verdict:
    """
    Sort an answer to a request for *count* readers: every 4xx is a whole refusal, a 5xx says nothing.

    *jitter* is added to every wait.
    """
    said = f"SendGrid answered {status} {responses.get(status, '')}".strip()
    match status:
        case 202:
            return Accepted(one_line(headers.get("X-Message-Id", "")))
        case 200 if is_sandbox:
            return Accepted()
        case 400:
            return _malformed(said, body, count)
        case 401 | 403:
            return Refused(
                f"{said}: check the key, its scope Mail Send, and that the sender is verified.",
                stop_run=True,
            )
        case 413:
            return Refused(f"{said}.", split=True)
        case 429:
            return Refused(
                f"{said}: the rate limit is reached.", retry_at=_reset(headers, now) + jitter, slow_down=True
            )
        case 301 | 307 | 308:  # RFC 9110 15.4: the same request is to go elsewhere, so nothing was done
            return Refused(f"{said}: check SENDGRID_HOST.", stop_run=True)
        case _ if 400 <= status < 500:
            return Refused(f"{said}: check SENDGRID_HOST and the account.", stop_run=True)
        case _:
            return Uncertain(f"{said}, which does not tell whether it took the mails.")


def _reset(headers: Message, now: datetime) -> datetime:
    """When the rate limit ends, by the latest header that says so; at least a second from now."""
    named = [_moment(headers.get(name, ""), now) for name in ("X-RateLimit-Reset", "Retry-After")]
    until = max([moment for moment in named if moment], default=now)
    until = min(max(until, now + timedelta(seconds=1)), now + LONGEST_WAIT)
    return until


def _malformed(said: str, body: bytes, count: int) -> Refused:
    """
    Read a 400: whom it objects to, never its words, which may repeat an address.

    Fields look like ``personalizations.17.to.0.email``. When all of them are the message's own
    (``from.email``) halving would find nobody, so the run stops.
    """
    fields = _fields(body)
    named = [re.match(r"personalizations?[.\[](\d{1,6})\b", field) for field in fields]
    indices = sorted({int(found[1]) for found in named if found and int(found[1]) < count})
    is_ours = bool(fields) and not any(field.startswith("personalization") for field in fields)
    shown = [field for field in fields if re.fullmatch(r"[\w.\[\]-]{1,80}", field)][:3]
    where = f" at {', '.join(shown)}" if shown else ""
    return Refused(f"{said}{where}.", unfit=True, stop_run=is_ours, recipients=tuple(indices))


def _fields(body: bytes) -> list[str]:
    """Return the ``field`` of each error; empty for whatever is not SendGrid's usual JSON."""
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        return []
    errors = told.get("errors") if isinstance(told, dict) else None
    listed = errors if isinstance(errors, list) else []
    fields = [error.get("field") for error in listed if isinstance(error, dict)]
    return [field for field in fields if isinstance(field, str) and field]


def _moment(value: str, now: datetime) -> datetime | None:
    """Read unix seconds, seconds from now, or an HTTP date; None for anything else."""
    text = value.strip()
    try:
        if re.fullmatch(r"\d{1,12}(\.\d+)?", text):
            seconds = float(text)
            # A reset before 2001 is none: some gateways send what is left, not when.
            return datetime.fromtimestamp(seconds, UTC) if seconds > 1e9 else now + timedelta(seconds=seconds)
        return parsedate_to_datetime(text).astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        return None
