"""What a provider can tell us of a message: a closed vocabulary, kept beside the raw event."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

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
    envelope carried. *is_machine*: opened by a program, not by a person. *no_more* says why the address
    must not be mailed again, if that follows. *raw* is the event as it came, without the address; only
    *email* holds it.
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
    no_more: NoMore | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)
