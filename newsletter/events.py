"""What a provider can tell us of a message: a closed vocabulary, kept beside the raw event."""

from __future__ import annotations

from enum import StrEnum


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
