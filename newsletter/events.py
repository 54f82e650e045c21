"""What a provider can tell us of a message: a closed vocabulary, kept beside the raw event."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

NOT_TOLD = datetime(1970, 1, 1, tzinfo=UTC)
"""When an event happened of which the provider does not say when."""


class EventKind(StrEnum):
    """Kinds of events; anything else from outside becomes ``UNKNOWN`` and is kept raw."""

    PROCESSED = "processed"
    DELIVERED = "delivered"
    DEFERRED = "deferred"
    BOUNCED = "bounced"  # permanent: about the address
    BLOCKED = "blocked"  # about the message or the sender, not the address
    DROPPED = "dropped"
    OPENED = "opened"
    CLICKED = "clicked"
    COMPLAINED = "complained"
    UNSUBSCRIBED = "unsubscribed"
    UNKNOWN = "unknown"


class NoMore(StrEnum):
    """Why an address must not be mailed again; from the mildest to the gravest."""

    UNSUBSCRIBED = "unsubscribed"
    BOUNCED = "bounced"
    COMPLAINED = "complained"


@dataclass(frozen=True, slots=True)
class ProviderEvent:
    """
    What happened to one message, in our words. What the provider does not say is empty.

    *event_id* is the provider's, or made from the content where it gives none. *occurred_at* is aware UTC
    (``NOT_TOLD`` when it does not say). *edition*, *batch* (``<id>.<attempt>``) and *reader* are what the
    envelope carried. *is_machine*: opened or clicked by a program, not by a person. *link* is what was clicked
    (``link_of``), *client* the reader's mail program (``client_of``). *no_more* says why the address must not
    be mailed again, if that follows. *raw* is the event as it came, without the address; only *email* holds it.
    """

    event_id: str
    kind: EventKind
    email: str = field(default="", repr=False)
    occurred_at: datetime = NOT_TOLD
    edition: str = ""
    batch: str = ""
    reader: str = ""
    reason: str = ""
    is_machine: bool = False
    link: str = ""
    client: str = ""
    no_more: NoMore | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)


_LONGEST_LINK = 2000
_OURS = re.compile(r"/(u|view|preferences|confirm|login|desk|stay)/[A-Za-z0-9_-]{20,}")
_TRACKING = re.compile(r"utm_\w+|fbclid|gclid|mc_[ce]id|_hs\w+", re.IGNORECASE)


def without_token(url: str) -> str:
    """A link of ours without the token that makes it one reader's: whoever reads it could leave for them."""
    return _OURS.sub(r"/\1/*", url)


@lru_cache(maxsize=4096)
def link_of(url: str) -> str:
    """
    What a link is, wherever it stands in an edition: its address without fragment, tracking and personal token.

    '' for what is no web address.
    """
    try:
        parts = urlsplit(without_token(url.strip()))
    except ValueError:
        return ""
    if parts.scheme.lower() not in ("http", "https") or not parts.netloc:
        return ""
    kept = [
        pair for pair in parse_qsl(parts.query, keep_blank_values=True) if not _TRACKING.fullmatch(pair[0])
    ]
    path = parts.path if parts.path != "/" else ""
    return urlunsplit((parts.scheme.lower(), parts.netloc.lower(), path, urlencode(kept), ""))[:_LONGEST_LINK]


_CLIENTS = (
    # Seen in SendGrid's and Litmus' published lists, 2026-11. The proxies say whose mailbox it is.
    ("Gmail", r"GoogleImageProxy|GmailImageProxy"),
    ("Yahoo", r"YahooMailProxy"),
    ("Outlook", r"Outlook|MSOffice|Microsoft Office|ms-office"),
    ("Thunderbird", r"Thunderbird"),
    ("Apple Mail", r"AppleWebKit(?!.*(?:Chrome|Safari|Firefox|Edg))"),
    ("iPhone or iPad", r"iPhone|iPad"),
    ("Android", r"Android"),
    ("web browser", r"Chrome|Firefox|Safari|Edg|Opera"),
)
_KNOWN_CLIENTS = tuple((name, re.compile(pattern)) for name, pattern in _CLIENTS)

_PROGRAMS = re.compile(
    r"bot\b|crawl|spider|scan|preview|prefetch|monitor|headless|phantom|selenium|curl|wget|python|java/|go-http|okhttp|"
    r"libwww|httpclient|barracuda|proofpoint|mimecast|symantec|trendmicro|fortinet|sophos|ironport|safelinks|"
    r"existence discovery",
    re.IGNORECASE,
)
"""Link scanners and other programs that say what they are. Those that do not are known by what they do: ``reports``."""

_NO_PERSONS_AGENT = "Mozilla/5.0"
"""All that Apple's Mail Privacy Protection says, where the provider did not mark it."""


@lru_cache(maxsize=4096)
def client_of(useragent: str) -> str:
    """The mail program or mailbox behind a user agent, as far as it can be told; '' without one."""
    if not useragent:
        return ""
    return next((name for name, pattern in _KNOWN_CLIENTS if pattern.search(useragent)), "other")


@lru_cache(maxsize=4096)
def is_program(useragent: str) -> bool:
    """Whether a user agent is a scanner's or a mailbox's own, which opens mails that nobody looks at."""
    return useragent.strip() == _NO_PERSONS_AGENT or _PROGRAMS.search(useragent) is not None
