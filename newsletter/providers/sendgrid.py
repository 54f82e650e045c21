"""
SendGrid v3 Mail Send through the ``sendgrid`` package: a plain dict out, one of three outcomes back.

There is no idempotency key, so nothing is ever sent twice from here: a lost answer is ``Uncertain``.
"""

from __future__ import annotations

import json
import logging
import random
import re
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.message import Message
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPException, HTTPSConnection, responses
from typing import Any, NoReturn
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import (
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    build_opener,
)

from python_http_client import Client
from python_http_client.exceptions import HTTPError
from sendgrid import SendGridAPIClient

from newsletter.errors import SettingsError
from newsletter.providers import Accepted, Envelope, Outcome, Recipient, Refused, Uncertain
from newsletter.providers.message import (
    ONE_CLICK,
    TEST_HEADER,
    ascii_address,
    fault,
    list_id_of,
    one_line,
    subject_of,
)
from newsletter.settings import Settings, is_loopback
from newsletter.times import Clock, system_clock

MAX_RECIPIENTS = 1000
MAX_BYTES = 30_000_000
"""A request must stay below 30 MB (docs, "Mail Send limitations"); read as the smaller megabyte."""

RECONNECT_SECONDS = 5
LONGEST_WAIT = timedelta(hours=1)
"""How far ahead a rate limit's reset is believed."""


def random_seconds() -> float:
    """Up to two seconds, so that several senders do not come back at once."""
    return random.uniform(0, 2)  # noqa: S311 - spreads retries, keeps no secret


def payload(envelope: Envelope, *, sandbox: bool) -> dict[str, Any]:
    """
    Return the request body for *envelope*: its readers in their order, one ``to`` each.

    Raises:
        ValueError: an address is none (``message.fault`` says so beforehand).
    """
    list_id = list_id_of(envelope)
    headers = {"List-ID": list_id} if list_id else {}
    if envelope.is_test:
        headers[TEST_HEADER] = "yes"
    content = [("text/plain", envelope.text), ("text/html", envelope.html)]
    body: dict[str, Any] = {
        "personalizations": [_personalization(envelope, recipient) for recipient in envelope.recipients],
        "from": _mailbox(envelope.sender.name, envelope.sender.email),
        "subject": subject_of(envelope),
        "content": [{"type": kind, "value": value} for kind, value in content if value],
        "categories": list(dict.fromkeys(filter(None, (envelope.newsletter, envelope.variant)))),
        # Silence would mean the account's defaults, and SendGrid's own unsubscribe footer is one of them.
        "tracking_settings": {
            "click_tracking": {"enable": True, "enable_text": False},
            "open_tracking": {"enable": True},
            "subscription_tracking": {"enable": False},
            "ganalytics": {"enable": False},
        },
    }
    if envelope.reply_to is not None:
        body["reply_to"] = _mailbox(envelope.reply_to.name, envelope.reply_to.email)
    if headers:
        body["headers"] = headers
    if sandbox:
        body["mail_settings"] = {"sandbox_mode": {"enable": True}}
    return body


class SendGrid:
    """
    Submits one envelope a request; may be shared by threads.

    *timeout_seconds* bounds each step on the network (connect, send, read), as sockets do.
    *jitter* returns seconds, 0 or more, that are added to every wait.
    """

    name = "sendgrid"
    max_recipients = MAX_RECIPIENTS

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
        _quieten()
        api = SendGridAPIClient(api_key=key, host=self._host)
        # Set now: the package adds it on the first call, to a dict that other threads are reading.
        headers = {**api.client.request_headers, "Content-Type": "application/json"}
        api.client = _Courier(_opener(self._host), host=self._host, request_headers=headers, version=3)
        self._api = api

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

    def submit(self, envelope: Envelope) -> Outcome:
        """Hand *envelope* over in one request, never repeated here, and say what became of it."""
        if not envelope.recipients:
            return Accepted()
        refused = fault(envelope) or _does_not_fit(envelope)
        if refused is not None:
            return refused
        body = payload(envelope, sandbox=self._sandbox)
        try:
            reply = self._api.client.mail.send.post(request_body=body, timeout=self._timeout_seconds)
        except _TooLarge:
            return Refused("The request would be 30 MB or more.", split=True)
        except HTTPError as answer:  # the package raises every status that is not 2xx
            return self._judge(answer.status_code, answer.headers, answer.body, envelope)
        except (OSError, HTTPException) as error:
            return self._unanswered(error)
        return self._judge(reply.status_code, reply.headers, reply.body, envelope)

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

    def _unanswered(self, error: OSError | HTTPException) -> Outcome:
        """
        Sort a failure without an answer: only one before the connection stood is certain.

        An error while the body went out looks the same (``URLError``) and is not.
        """
        kind = error.reason if isinstance(error, URLError) else error
        if isinstance(kind, _NotConnected):
            wait = timedelta(seconds=RECONNECT_SECONDS + self._jitter())
            return Refused(f"No connection to SendGrid ({kind}).", retry_at=self._clock() + wait)
        return Uncertain(f"The connection failed before SendGrid's answer came ({type(kind).__name__}).")

    def _judge(self, status: int, headers: Message, body: bytes, envelope: Envelope) -> Outcome:
        """Sort an answer (FACTS of the vendor: every 4xx is a whole refusal, a 5xx says nothing)."""
        said = f"SendGrid answered {status} {responses.get(status, '')}".strip()
        match status:
            case 202:
                return Accepted(one_line(headers.get("X-Message-Id", "")))
            case 200 if self._sandbox:
                return Accepted()
            case 400:
                return _malformed(said, body, len(envelope.recipients))
            case 401 | 403:
                return Refused(
                    f"{said}: check the key, its scope Mail Send, and that the sender is verified.",
                    stop_run=True,
                )
            case 413:
                return Refused(f"{said}.", split=True)
            case 429:
                return Refused(f"{said}: the rate limit is reached.", retry_at=self._reset(headers))
            case 301 | 307 | 308:  # RFC 9110 15.4: the same request is to go elsewhere, so nothing was done
                return Refused(f"{said}: check SENDGRID_HOST.", stop_run=True)
            case _ if 400 <= status < 500:
                return Refused(f"{said}: check SENDGRID_HOST and the account.", stop_run=True)
            case _:
                return Uncertain(f"{said}, which does not tell whether it took the mails.")

    def _reset(self, headers: Message) -> datetime:
        """When the rate limit ends, by the latest header that says so; at least a second from now."""
        now = self._clock()
        named = [_moment(headers.get(name, ""), now) for name in ("X-RateLimit-Reset", "Retry-After")]
        until = max([moment for moment in named if moment], default=now)
        until = min(max(until, now + timedelta(seconds=1)), now + LONGEST_WAIT)
        return until + timedelta(seconds=self._jitter())


def _personalization(envelope: Envelope, recipient: Recipient) -> dict[str, Any]:
    one: dict[str, Any] = {
        # "to.name may not contain ; or ," (docs, "Mail Send limitations")
        "to": [_mailbox(re.sub("[;,]", " ", recipient.name), recipient.email)],
        "custom_args": {
            "nl_edition": envelope.edition,
            "nl_batch": envelope.batch,
            "nl_reader": recipient.reader,
        },
    }
    if recipient.unsubscribe_url:
        # Both, and here: a header of the personalization wins over the message's.
        one["headers"] = {
            "List-Unsubscribe": f"<{recipient.unsubscribe_url}>",
            "List-Unsubscribe-Post": ONE_CLICK,
        }
    if recipient.values:
        one["substitutions"] = dict(recipient.values)
    return one


def _mailbox(name: str, email: str) -> dict[str, str]:
    address, shown = ascii_address(email), one_line(name)
    return {"email": address, "name": shown} if shown else {"email": address}


def _does_not_fit(envelope: Envelope) -> Refused | None:
    if len(envelope.recipients) > MAX_RECIPIENTS:
        return Refused(f"A request holds at most {MAX_RECIPIENTS} readers.", split=True)
    addresses = {ascii_address(recipient.email).casefold() for recipient in envelope.recipients}
    if len(addresses) < len(envelope.recipients):
        return Refused("An address stands twice in this batch; SendGrid would refuse it whole.", split=True)
    return None


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


def _checked_host(host: str) -> str:
    parts = urlsplit(host.strip().rstrip("/"))
    is_plain = parts.scheme == "http" and is_loopback(parts.hostname or "")
    if not parts.hostname or not (parts.scheme == "https" or is_plain):
        raise SettingsError(
            "SENDGRID_HOST must be an https address, for example https://api.eu.sendgrid.com; the key goes there."
        )
    return parts.geturl()


def _quieten() -> None:
    """At DEBUG the package logs whole requests with the key in them: keep it above, whatever the root says."""
    for name in ("python_http_client", "python_http_client.client"):
        logger = logging.getLogger(name)
        logger.setLevel(max(logger.level, logging.INFO))


class _TooLarge(Exception):
    """The encoded request is over the limit; nothing was sent."""


class _NotConnected(OSError):
    """The connection never stood, so no byte of the request left; says which kind of error it was."""


def _not_connected(error: Exception) -> NoReturn:
    raise _NotConnected(type(error).__name__) from error


class _Plain(HTTPConnection):
    def connect(self) -> None:
        """Connect, and tell a failure to connect from every later one."""
        try:
            super().connect()
        except (OSError, HTTPException, UnicodeError) as error:
            _not_connected(error)


class _Tls(HTTPSConnection):
    def connect(self) -> None:
        """Connect with the TLS handshake, and tell a failure from every later one."""
        try:
            super().connect()
        except (OSError, HTTPException, UnicodeError) as error:
            _not_connected(error)


class _PlainHandler(HTTPHandler):
    def http_open(self, req: Request) -> Any:
        return self.do_open(_Plain, req)


class _TlsHandler(HTTPSHandler):
    def __init__(self) -> None:
        self._tls = ssl.create_default_context()  # once: it reads all certificates of the system
        self._tls.set_alpn_protocols(["http/1.1"])
        super().__init__(context=self._tls)

    def https_open(self, req: Request) -> Any:
        return self.do_open(_Tls, req, context=self._tls)


class _NoRedirect(HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Follow nothing: urllib would repeat the request elsewhere, with the key."""


def _opener(host: str) -> OpenerDirector:
    """The environment's proxies are used as usual, but not towards this machine itself."""
    handlers = [_PlainHandler(), _TlsHandler(), _NoRedirect()]
    if is_loopback(urlsplit(host).hostname or ""):
        return build_opener(*handlers, ProxyHandler({}))
    return build_opener(*handlers)


class _Courier(Client):  # type: ignore[misc] # python_http_client ships no types
    """The package's client with our opener: it makes its own for each call and offers no way to give it one."""

    def __init__(self, opener: OpenerDirector, **values: Any) -> None:
        super().__init__(**values)
        self._opener = opener

    def _build_client(self, name: str | None = None) -> _Courier:
        return _Courier(
            self._opener, host=self.host, version=self._version, request_headers=self.request_headers,
            url_path=[*self._url_path, name] if name else self._url_path, timeout=self.timeout,
        )  # fmt: skip

    def _make_request(self, opener: OpenerDirector, request: Request, timeout: float | None = None) -> Any:
        if isinstance(request.data, bytes) and len(request.data) >= MAX_BYTES:
            raise _TooLarge
        return super()._make_request(self._opener, request, timeout=timeout)
