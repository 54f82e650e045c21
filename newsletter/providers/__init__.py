"""
What carries mail away: one small protocol, one file a provider, vendor words stay inside it.

A provider is handed an ``Envelope`` (one variant, ≤ ``max_recipients`` readers) and answers with one
of three verdicts, or several where it takes mails one by one. It never raises for a delivery that went
wrong; what it does not know it says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol, overload

from newsletter.catalogue import Address
from newsletter.errors import ProviderError
from newsletter.events import NoMore
from newsletter.settings import Settings


class Recipient(NamedTuple):
    """
    One reader of an envelope.

    *reader* is opaque (never an address). *values* fill the personal tags found in subject, HTML
    and text: tag as written (``[[nl:unsubscribe_url]]``) to a whole URL. *unsubscribe_url* also goes
    into the reader's own ``List-Unsubscribe`` header (RFC 8058).
    """

    reader: str
    email: str
    name: str
    values: Mapping[str, str]
    unsubscribe_url: str


class Links(Protocol):
    """
    The links of many mails, as the pieces they are made of (ASCII).

    Link *kind* of reader *index* is ``heads[kind] + owns[index] + shared + tails[kind][index]``.
    """

    @property
    def heads(self) -> tuple[bytes, ...]: ...
    @property
    def owns(self) -> Sequence[bytes]: ...
    @property
    def shared(self) -> bytes: ...
    @property
    def tails(self) -> tuple[Sequence[bytes], ...]: ...

    def of(self, index: int) -> tuple[str, ...]:
        """The whole links of the reader at *index*."""
        ...


@dataclass(frozen=True, slots=True)
class Recipients(Sequence[Recipient]):
    """
    The readers of an envelope as columns: what is the same for a million readers is kept once.

    *readers* is 24 hex digits each, without a separator. *links* fill *tags*, in their order; the first is the unsubscribe link, which also goes into the
    header. Looks like a sequence of ``Recipient``.
    """

    readers: str
    emails: Sequence[str]
    names: Sequence[str]
    tags: tuple[str, ...]
    links: Links

    def __len__(self) -> int:
        return len(self.emails)

    @overload
    def __getitem__(self, index: int) -> Recipient: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Recipient]: ...
    def __getitem__(self, index: int | slice) -> Recipient | Sequence[Recipient]:
        if isinstance(index, slice):
            return [self[number] for number in range(len(self))[index]]
        links = self.links.of(index)
        values = dict(zip(self.tags, links, strict=True))
        start = index % len(self) * 24
        reader = self.readers[start : start + 24]
        return Recipient(reader, self.emails[index], self.names[index], values, links[0])


@dataclass(frozen=True, slots=True)
class Envelope:
    """
    One request's worth of one variant.

    *edition* is the same over variants and attempts (``<slug>.<date>.<revision>``); *batch* is
    ``<batch id>.<attempt>``. *dated_at* is the Date header (aware UTC). *list_id* is the bare
    List-ID (``today.theparallel.example``), *list_name* its phrase. *release_at*: the provider is to
    keep the mails until then (only one that ``schedules_ahead``); *reservation* its handle to cancel them.

    The links of all readers are made the same way, so only the first reader's are looked at in full.
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
    recipients: Sequence[Recipient]
    language: str = "en"
    is_test: bool = False
    release_at: datetime | None = None
    reservation: str = ""


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
    *slow_down*: until *retry_at* nothing else will be taken either. *gone*: the addresses of *recipients*
    do not exist (any more); nothing is to be mailed to them again.
    """

    reason: str
    retry_at: datetime | None = None
    stop_run: bool = False
    split: bool = False
    unfit: bool = False
    slow_down: bool = False
    gone: bool = False
    recipients: tuple[int, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Uncertain:
    """Nobody can say whether the provider took it. Never retried blindly."""

    reason: str


Verdict = Accepted | Refused | Uncertain


@dataclass(frozen=True, slots=True)
class Divided:
    """
    Not all mails of the envelope fared alike: each reader (index into ``Envelope.recipients``) is in one part.

    A part is judged as if it had been an envelope of its own: indices in its verdict count its own readers.
    """

    parts: tuple[tuple[Verdict, tuple[int, ...]], ...]

    @property
    def is_taken(self) -> bool:
        """Whether somebody got it."""
        return any(isinstance(verdict, Accepted) for verdict, _ in self.parts)

    @property
    def reason(self) -> str:
        """What became of those who did not."""
        lost = [(one, who) for one, who in self.parts if not isinstance(one, Accepted)]
        return " ".join(f"{len(who)} readers: {verdict.reason}" for verdict, who in lost)


Outcome = Accepted | Refused | Uncertain | Divided
Ready = Callable[[], Outcome]
"""An envelope that is checked and encoded: calling it hands it over, once."""


class Barred(NamedTuple):
    """An address on a list of the provider's: why it is, and since when (aware UTC)."""

    email: str
    reason: NoMore
    since: datetime


class Finding(NamedTuple):
    """What a look at a provider's account says: about what, how bad (ok, note, warning, error), a sentence."""

    name: str
    severity: str
    message: str


class Record(NamedTuple):
    """A DNS record the provider needs: *about* sender or links; *kind* as in DNS, *value* without a final dot."""

    about: str
    name: str
    kind: str
    value: str


class Provider(Protocol):
    """The whole of what the outbox knows of a provider."""

    name: str
    max_recipients: int
    schedules_ahead: timedelta
    """How long before their release it takes mails; zero: it sends at once and cannot cancel."""
    tells_opens: bool
    """Whether its events tell afterwards who opened and clicked."""
    signs_under: tuple[str, ...]
    """The DKIM selectors it signs with, unless others were chosen; none: nobody knows."""

    def prepare(self, envelope: Envelope) -> Ready:
        """Do all that takes the processor; the rest is thread-safe and bounded in time."""
        ...

    def submit(self, envelope: Envelope) -> Outcome:
        """Prepare *envelope*, hand it over and say what became of it."""
        ...

    def reserve(self) -> str:
        """
        Return a handle by which one scheduled envelope can be cancelled.

        Raises:
            ProviderError: there is none to be had.
        """
        ...

    def cancel(self, reservation: str) -> bool:
        """Whether it is certain now that nothing of that envelope goes out."""
        ...

    def release(self, reservation: str) -> None:
        """Say that a cancelled handle is not needed any more (its release time has passed)."""
        ...

    def barred(self, since: datetime) -> Iterator[Barred]:
        """
        Tell of the addresses it has refused to mail since then, on its own lists.

        Raises:
            ProviderError: a list cannot be read to its end.
        """
        ...

    def unbar(self, email: str) -> bool:
        """Let who had left there be mailed again; whether it is certain."""
        ...

    def problems(self) -> list[str]:
        """Say in sentences what is missing for a real send; no network."""
        ...

    def look(self, domain: str) -> Iterator[Finding]:
        """Ask it over the network what it makes of us, sending in the name of *domain*; nothing is changed."""
        ...

    def records(self, domain: str) -> Iterator[Record]:
        """The DNS records it asks of whoever sends in the name of *domain*; none when it cannot be asked."""
        ...


class SendsAtOnce:
    """What a provider answers that schedules nothing, keeps no lists of its own and tells nothing afterwards."""

    name: str
    schedules_ahead = timedelta(0)
    tells_opens = False
    signs_under: tuple[str, ...] = ()

    def reserve(self) -> str:
        """Nothing can be kept back."""
        raise ProviderError(f"The provider {self.name} cannot schedule mails.")

    def cancel(self, reservation: str) -> bool:
        """Nothing was scheduled, so nothing can be called back."""
        return False

    def release(self, reservation: str) -> None:
        """Nothing was scheduled."""

    def barred(self, since: datetime) -> Iterator[Barred]:
        """It refuses nobody by a list."""
        return iter(())

    def unbar(self, email: str) -> bool:
        """Nobody was refused."""
        return True

    def look(self, domain: str) -> Iterator[Finding]:
        """There is nobody to ask."""
        return iter(())

    def records(self, domain: str) -> Iterator[Record]:
        """It asks for none."""
        return iter(())


def make_provider(settings: Settings) -> Provider:
    """
    Return the provider the settings name.

    Raises:
        SettingsError: it cannot work with these settings (for example, no key).
    """
    if settings.provider == "sendgrid":
        from newsletter.providers.sendgrid import SendGrid

        return SendGrid.from_settings(settings)
    if settings.provider == "smtp":
        from newsletter.providers.smtp import Smtp

        return Smtp.from_settings(settings)
    from newsletter.providers.maildir import Maildir

    return Maildir(settings.outbox)


def make_other_way(settings: Settings) -> Provider | None:
    """
    Return what carries alarms when the provider does not; None: nothing is named.

    Raises:
        SettingsError: NEWSLETTER_ALARM_SMTP_URL is no address of a relay.
    """
    url = settings.alarm_smtp_url.get_secret_value().strip()
    if not url:
        return None
    from newsletter.providers.smtp import Smtp
    from newsletter.providers.smtp_line import relay_of

    return Smtp(relay_of(url, named="NEWSLETTER_ALARM_SMTP_URL"), base_url=settings.base_url)
