"""
SendGrid v3 Mail Send through the ``sendgrid`` package: a plain dict out, one of three outcomes back.

There is no idempotency key, so nothing is ever sent twice from here: a lost answer is ``Uncertain``.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from email.message import Message
from http.client import HTTPException
from itertools import count
from typing import Any
from urllib.parse import quote, urlsplit

import structlog
from python_http_client.exceptions import HTTPError
from sendgrid import SendGridAPIClient

from newsletter.errors import ProviderError, SettingsError
from newsletter.events import NoMore
from newsletter.providers import (
    Accepted,
    Barred,
    Envelope,
    Finding,
    Outcome,
    Ready,
    Record,
    Refused,
    Uncertain,
)
from newsletter.providers.message import fault
from newsletter.providers.sendgrid_account import account_checks, records_of
from newsletter.providers.sendgrid_answers import judge
from newsletter.providers.sendgrid_client import Courier, quieten
from newsletter.providers.sendgrid_payload import MAX_RECIPIENTS, does_not_fit, encode
from newsletter.providers.wire import NotSent, Wire
from newsletter.settings import Settings, is_loopback
from newsletter.times import Clock, system_clock

log = structlog.get_logger()

MAX_BYTES = 30_000_000
"""A request must stay below 30 MB (docs, "Mail Send limitations"); read as the smaller megabyte."""

RECONNECT_SECONDS = 5
_PAGE = 500

_LISTS = {
    "bounces": NoMore.BOUNCED,
    "invalid_emails": NoMore.BOUNCED,
    "spam_reports": NoMore.COMPLAINED,
    "unsubscribes": NoMore.UNSUBSCRIBED,
}
"""By which it drops mail, at most 500 a page (docs, "Suppressions"); its list of blocks is for information only."""


def random_seconds() -> float:
    """Up to two seconds, so that several senders do not come back at once."""
    return random.uniform(0, 2)  # noqa: S311 - spreads retries, keeps no secret


class SendGrid:
    """
    Submits one envelope a request; may be shared by threads.

    *timeout_seconds* bounds each step on the network (connect, send, read), as sockets do.
    *jitter* returns seconds, 0 or more, that are added to every wait.
    """

    name = "sendgrid"
    max_recipients = MAX_RECIPIENTS
    schedules_ahead = timedelta(hours=72)
    tells_opens = True
    signs_under: tuple[str, ...] = ("s1", "s2")  # "Domain Authentication"

    def __init__(
        self,
        api_key: str,
        *,
        host: str = "https://api.sendgrid.com",
        sandbox: bool = False,
        base_url: str = "",
        webhook_public_key: str = "",
        timeout_seconds: float = 30.0,
        clock: Clock = system_clock,
        jitter: Callable[[], float] = random_seconds,
    ) -> None:
        """
        Raises:
            SettingsError: the key is empty or unprintable, or the host would get it unencrypted.
        """
        key = api_key.strip()
        if not key:
            raise SettingsError(
                "SENDGRID_API_KEY is empty; make a key with the scope Mail Send and put it in .env."
            )
        if not re.fullmatch(r"[\x21-\x7e]+", key):
            raise SettingsError("SENDGRID_API_KEY holds a space or a character no key has; copy it again.")
        self._host = _checked_host(host)
        self._looks_like_key = key.startswith("SG.")
        self._sandbox = sandbox
        self._base_url = base_url
        self._webhook_public_key = webhook_public_key
        self._timeout_seconds = timeout_seconds
        self._clock = clock
        self._jitter = jitter
        quieten()
        api = SendGridAPIClient(api_key=key, host=self._host)
        # Set now: the package adds it on the first call, to a dict that other threads are reading.
        headers = {**api.client.request_headers, "Content-Type": "application/json"}
        api.client = Courier(Wire(self._host), host=self._host, request_headers=headers, version=3)
        self._api = api
        self._mail_send = api.client.mail.send

    @classmethod
    def from_settings(cls, settings: Settings) -> SendGrid:
        """
        Make it from the environment.

        Raises:
            SettingsError: as the constructor.
        """
        return cls(
            settings.sendgrid_api_key.get_secret_value(),
            host=settings.sendgrid_host,
            sandbox=settings.sendgrid_sandbox,
            base_url=settings.base_url,
            webhook_public_key=settings.sendgrid_webhook_public_key,
        )

    @property
    def client(self) -> Any:
        """The package's client over our connections, at ``/v3``."""
        return self._api.client

    def submit(self, envelope: Envelope) -> Outcome:
        """Hand *envelope* over in one request, never repeated here, and say what became of it."""
        return self.prepare(envelope)()

    def prepare(self, envelope: Envelope) -> Ready:
        """Check and encode *envelope* now; what is returned only talks to the network, and only once."""
        if not envelope.recipients:
            return Accepted
        refused = fault(envelope) or does_not_fit(envelope)
        if refused is not None:
            return lambda: refused
        body = encode(envelope, sandbox=self._sandbox)
        if sum(map(len, body)) >= MAX_BYTES:
            return lambda: Refused("The request would be 30 MB or more.", split=True)
        count = len(envelope.recipients)
        return lambda: self._send(body, count)

    def _send(self, body: Sequence[bytes], count: int) -> Outcome:
        try:
            reply = self._mail_send.post_encoded(body, timeout=self._timeout_seconds)
        except HTTPError as answer:  # the package raises every status that is not 2xx
            return self._judge(answer.status_code, answer.headers, answer.body, count)
        except (OSError, HTTPException) as error:
            return self._unanswered(error)
        return self._judge(reply.status_code, reply.headers, reply.body, count)

    def reserve(self) -> str:
        """
        Return a ``batch_id`` by which one scheduled request can be cancelled later.

        Raises:
            ProviderError: SendGrid gave none.
        """
        try:
            reply = self._api.client.mail.batch.post(request_body={}, timeout=self._timeout_seconds)
            told = json.loads(reply.body)["batch_id"]
        except (HTTPError, OSError, HTTPException, ValueError, KeyError, TypeError) as error:
            raise ProviderError(
                f"SendGrid gave no batch_id for a scheduled send ({type(error).__name__}); nothing was submitted."
            ) from error
        if not re.fullmatch(r"[\w.-]{1,100}", str(told)):
            raise ProviderError("SendGrid gave a batch_id that cannot be one; nothing was submitted.")
        return str(told)

    def cancel(self, reservation: str) -> bool:
        """Cancel a scheduled request; whether SendGrid confirmed that its mails will not go out."""
        wanted = {"batch_id": reservation, "status": "cancel"}
        scheduled = self._api.client.user.scheduled_sends
        try:
            scheduled.post(request_body=wanted, timeout=self._timeout_seconds)
        except HTTPError as answer:
            # 400 also means "there is a status already": ask which.
            return answer.status_code == 400 and self._is_cancelled(reservation)
        except (OSError, HTTPException):
            return False
        return True

    def release(self, reservation: str) -> None:
        """Forget a cancellation that has done its work, so that it no longer counts against the limit."""
        try:
            self._api.client.user.scheduled_sends._(reservation).delete(timeout=self._timeout_seconds)
        except (HTTPError, OSError, HTTPException) as error:
            log.warning("sendgrid.release_failed", reason=type(error).__name__)

    def barred(self, since: datetime) -> Iterator[Barred]:
        """
        Read the lists by which SendGrid drops mail: bounces, invalid addresses, spam reports, unsubscribes.

        Raises:
            ProviderError: a list cannot be read to its end.
        """
        lists = self._api.client.suppression
        for name, reason in _LISTS.items():
            for offset in count(0, _PAGE):
                asked = {"start_time": max(0, int(since.timestamp())), "limit": _PAGE, "offset": offset}
                try:
                    told = json.loads(
                        lists._(name).get(query_params=asked, timeout=self._timeout_seconds).body
                    )
                    rows = [
                        Barred(row["email"], reason, datetime.fromtimestamp(row["created"], UTC))
                        for row in told
                    ]
                except (HTTPError, OSError, HTTPException, ValueError, KeyError, TypeError) as error:
                    raise ProviderError(
                        f"SendGrid's list of {name} cannot be read ({type(error).__name__}); give the key the scope "
                        "Suppressions."
                    ) from error
                yield from rows
                if len(rows) < _PAGE:
                    break

    def unbar(self, email: str) -> bool:
        """Take an address off the global unsubscribes; bounces and complaints stay, they need a person."""
        listed = self._api.client.asm.suppressions._("global")._(quote(email, safe="@"))
        try:
            listed.delete(timeout=self._timeout_seconds)
        except HTTPError as answer:
            return bool(answer.status_code == 404)
        except (OSError, HTTPException):
            return False
        return True

    def _is_cancelled(self, reservation: str) -> bool:
        try:
            found = self._api.client.user.scheduled_sends._(reservation).get(timeout=self._timeout_seconds)
            told = json.loads(found.body)
        except (HTTPError, OSError, HTTPException, ValueError):
            return False
        rows = told if isinstance(told, list) else [told]
        return any(isinstance(row, dict) and row.get("status") == "cancel" for row in rows)

    def problems(self) -> list[str]:
        """Say what the settings lack for a real send."""
        found = []
        if not self._looks_like_key:
            found.append(
                "SENDGRID_API_KEY does not begin with SG. as SendGrid's keys do; check that it was copied whole."
            )
        if self._sandbox:
            found.append("SENDGRID_SANDBOX is on: SendGrid checks every request and delivers nothing.")
        if is_loopback(urlsplit(self._host).hostname or ""):
            found.append("SENDGRID_HOST points at this machine, so nothing reaches SendGrid.")
        base = urlsplit(self._base_url)
        if is_loopback(base.hostname or "") or base.scheme != "https":
            found.append(
                "NEWSLETTER_BASE_URL must be a public https address: readers' links and one-click leaving go there."
            )
        if not self._webhook_public_key.strip():
            found.append(
                "SENDGRID_WEBHOOK_PUBLIC_KEY is missing: without signed events nobody learns of bounces and "
                "complaints, and an uncertain batch can only be settled by hand."
            )
        return found

    def look(self, domain: str) -> Iterator[Finding]:
        """Ask what the key may do, whether the sender is known, and what the webhook posts."""
        return account_checks(
            self.client, domain=domain, webhook_url=f"{self._base_url}/webhooks/sendgrid",
            public_keys=self._webhook_public_key,
        )  # fmt: skip

    def records(self, domain: str) -> Iterator[Record]:
        """What it has asked to be published for the sender's domain and for the links."""
        return records_of(self.client, domain)

    def _unanswered(self, error: OSError | HTTPException) -> Outcome:
        """Sort a failure without an answer: certain only if the request did not get there whole."""
        if isinstance(error, NotSent):
            wait = timedelta(seconds=RECONNECT_SECONDS + self._jitter())
            return Refused(f"No connection to SendGrid ({error}).", retry_at=self._clock() + wait)
        return Uncertain(f"The connection failed before SendGrid's answer came ({type(error).__name__}).")

    def _judge(self, status: int, headers: Message, body: bytes, count: int) -> Outcome:
        return judge(
            status, headers, body, count=count, is_sandbox=self._sandbox, now=self._clock(),
            jitter=timedelta(seconds=self._jitter()),
        )  # fmt: skip


def _checked_host(host: str) -> str:
    parts = urlsplit(host.strip().rstrip("/"))
    is_plain = parts.scheme == "http" and is_loopback(parts.hostname or "")
    if not parts.hostname or not (parts.scheme == "https" or is_plain):
        raise SettingsError(
            "SENDGRID_HOST must be an https address, for example https://api.eu.sendgrid.com; the key goes there."
        )
    return parts.geturl()
