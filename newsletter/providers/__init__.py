"""
What carries mail away: one small protocol, one file a provider, vendor words stay inside it.

A provider is handed an ``Envelope`` (one variant, ≤ ``max_recipients`` readers) and answers with one
of three outcomes. It never raises for a delivery that went wrong; what it does not know it says.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from newsletter.catalogue import Address
from newsletter.settings import Settings


@dataclass(frozen=True, slots=True)
class Recipient:
    """
    One reader of an envelope.

    *reader* is opaque (never an address). *values* fill the personal tags found in subject, HTML
    and text: tag as written (``[[nl:unsubscribe_url]]``) to a whole URL. *unsubscribe_url* also goes
    into the reader's own ``List-Unsubscribe`` header (RFC 8058).
    """

    reader: str
    email: str
    name: str
    values: dict[str, str]
    unsubscribe_url: str


@dataclass(frozen=True, slots=True)
class Envelope:
    """
    One request's worth of one variant.

    *edition* is the same over variants and attempts (``<slug>.<date>.<revision>``); *batch* is
    ``<batch id>.<attempt>``. *dated_at* is the Date header (aware UTC). *list_id* is the bare
    List-ID (``today.theparallel.example``), *list_name* its phrase.
    """

    edition: str
    batch: str
    newsletter: str
    variant: str
    sender: Address
    reply_to: Address | None
    subject: str
    html: str
    text: str
    list_id: str
    list_name: str
    dated_at: datetime
    recipients: tuple[Recipient, ...]
    language: str = "en"
    is_test: bool = False


@dataclass(frozen=True, slots=True)
class Accepted:
    """The provider took the whole envelope for certain; *provider_id* is its own name for it."""

    provider_id: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """
    The provider certainly took nothing.

    *retry_at*: when to try the same envelope again (rate limit, no connection), else None.
    *stop_run*: nothing else will be taken either (key, permission): stop and tell the operator.
    *split*: too large; halve it. *recipients*: indices (0-based, into ``Envelope.recipients``) of the
    readers the provider objects to, when it says so; *unfit*: a reader or the content is at fault.
    """

    reason: str
    retry_at: datetime | None = None
    stop_run: bool = False
    split: bool = False
    unfit: bool = False
    recipients: tuple[int, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Uncertain:
    """Nobody can say whether the provider took it. Never retried blindly."""

    reason: str


Outcome = Accepted | Refused | Uncertain


class Provider(Protocol):
    """The whole of what the outbox knows of a provider."""

    name: str
    max_recipients: int

    def submit(self, envelope: Envelope) -> Outcome:
        """Hand *envelope* over and say what became of it. Thread-safe; bounded in time."""
        ...

    def problems(self) -> list[str]:
        """Say in sentences what is missing for a real send; no network."""
        ...


def make_provider(settings: Settings) -> Provider:
    """
    Return the provider the settings name.

    Raises:
        SettingsError: it cannot work with these settings (for example, no key).
    """
    if settings.provider == "sendgrid":
        from newsletter.providers.sendgrid import SendGrid

        return SendGrid.from_settings(settings)
    from newsletter.providers.maildir import Maildir

    return Maildir(settings.outbox)
