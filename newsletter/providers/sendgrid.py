"""
SendGrid v3 Mail Send through the ``sendgrid`` package: a plain dict out, one of three outcomes back.

There is no idempotency key, so nothing is ever sent twice from here: a lost answer is ``Uncertain``.
"""

from __future__ import annotations

import io
import json
import logging
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.message import Message
from email.utils import parsedate_to_datetime
from functools import lru_cache
from http.client import HTTPException, responses
from itertools import count
from struct import unpack
from typing import Any
from urllib.error import HTTPError as UrllibError
from urllib.parse import quote, urlsplit
from urllib.request import Request

import structlog
from python_http_client import Client
from python_http_client.client import Response
from python_http_client.exceptions import HTTPError, handle_error
from sendgrid import SendGridAPIClient

from newsletter.edition import PERSONAL_TAGS
from newsletter.errors import ProviderError, SettingsError
from newsletter.events import NoMore
from newsletter.providers import (
    Accepted,
    Barred,
    Envelope,
    Outcome,
    Ready,
    Recipient,
    Recipients,
    Refused,
    Uncertain,
)
from newsletter.providers.message import (
    ONE_CLICK,
    TEST_HEADER,
    ascii_address,
    fault,
    has_odd,
    list_id_of,
    one_line,
    subject_of,
)
from newsletter.providers.wire import NotSent, Reply, Wire
from newsletter.settings import Settings, is_loopback
from newsletter.times import Clock, system_clock

log = structlog.get_logger()

MAX_RECIPIENTS = 1000
MAX_BYTES = 30_000_000
"""A request must stay below 30 MB (docs, "Mail Send limitations"); read as the smaller megabyte."""

RECONNECT_SECONDS = 5
_PAGE = 500
DKIM_SELECTORS = ("s1", "s2")
"""Under which names it signs, unless others were chosen ("Domain Authentication")."""

_LISTS = {
    "bounces": NoMore.BOUNCED,
    "invalid_emails": NoMore.BOUNCED,
    "spam_reports": NoMore.COMPLAINED,
    "unsubscribes": NoMore.UNSUBSCRIBED,
}
"""By which it drops mail, at most 500 a page (docs, "Suppressions"); its list of blocks is for information only."""
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
    if envelope.release_at is not None:
        body["send_at"] = int(envelope.release_at.timestamp())
    if envelope.reservation:
        body["batch_id"] = envelope.reservation
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
    schedules_ahead = timedelta(hours=72)

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
        api.client = _Courier(Wire(self._host), host=self._host, request_headers=headers, version=3)
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
        refused = fault(envelope) or _does_not_fit(envelope)
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

    def _unanswered(self, error: OSError | HTTPException) -> Outcome:
        """Sort a failure without an answer: certain only if the request did not get there whole."""
        if isinstance(error, NotSent):
            wait = timedelta(seconds=RECONNECT_SECONDS + self._jitter())
            return Refused(f"No connection to SendGrid ({error}).", retry_at=self._clock() + wait)
        return Uncertain(f"The connection failed before SendGrid's answer came ({type(error).__name__}).")

    def _judge(self, status: int, headers: Message, body: bytes, count: int) -> Outcome:
        """Sort an answer (FACTS of the vendor: every 4xx is a whole refusal, a 5xx says nothing)."""
        said = f"SendGrid answered {status} {responses.get(status, '')}".strip()
        match status:
            case 202:
                return Accepted(one_line(headers.get("X-Message-Id", "")))
            case 200 if self._sandbox:
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
                    f"{said}: the rate limit is reached.", retry_at=self._reset(headers), slow_down=True
                )
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


def encode(envelope: Envelope, *, sandbox: bool) -> tuple[bytes, ...]:
    """
    Return ``payload(envelope)`` as JSON, fifty times faster, in pieces to be sent one after another.

    What the readers of a mailing share is encoded once, and a reader is a template filled with texts
    that need no escaping; a reader whose texts do is encoded whole. Both forms come from ``payload``.
    Pieces, because putting half a megabyte together costs as much as making it.
    """
    shell = _shell(replace(envelope, recipients=(), batch="", reservation=""), sandbox)
    reservation = f',"batch_id":{json.dumps(envelope.reservation)}' if envelope.reservation else ""
    return shell.head, _encoded_readers(envelope), shell.tail, f"{reservation}}}".encode("ascii")


@dataclass(frozen=True, slots=True)
class _Shell:
    """What all requests of a mailing share: the body *head* and *tail* of the list of readers."""

    head: bytes
    tail: bytes  # without its last brace


@lru_cache(maxsize=64)
def _shell(envelope: Envelope, sandbox: bool) -> _Shell:
    mark = '"personalizations": []'  # cannot occur in a text: its quotes would be escaped
    head, _, tail = json.dumps(payload(envelope, sandbox=sandbox), ensure_ascii=False).partition(mark)
    return _Shell(_utf8(head + mark[:-1]), _utf8(f"]{tail.removesuffix('}')}"))


def _encoded_readers(envelope: Envelope) -> bytes:
    """The readers' JSON between commas: columns laid side by side and joined once, not reader by reader."""
    readers = envelope.recipients
    count = len(readers)
    if not (isinstance(readers, Recipients) and len(readers.tags) == len(PERSONAL_TAGS)):
        return _utf8(",".join(_whole(envelope, one) for one in readers))
    emails, names = _Column.of(readers.emails), _Column.of(readers.names)
    if not len(emails.values) == len(names.values) == count:  # a text holds the very mark between texts
        return _utf8(",".join(_whole(envelope, one) for one in readers))
    template = _template(replace(envelope, recipients=(), batch="", reservation=""), readers.tags)
    to, named, batch, reader, leaving, first, second, third, end = template.pieces
    links, batch_to_reader = readers.links, _utf8(envelope.batch) + reader
    own, shared, heads, tails = links.owns, links.shared, links.heads, links.tails
    columns: list[bytes | Sequence[bytes]] = [
        to, emails.values, [named + name + batch if name else template.nameless for name in names.values],
        batch_to_reader, unpack("24s" * count, readers.readers.encode("ascii")),
        leaving + heads[0], own, shared, tails[0], first + heads[0], own, shared, tails[0],
        second + heads[1], own, shared, tails[1], third + heads[2], own, shared, tails[2], end,
    ]  # fmt: skip
    width = len(columns)
    laid: list[bytes] = [b""] * (width * count)
    for column, values in enumerate(columns):
        laid[column::width] = [values] * count if isinstance(values, bytes) else values
    if not (emails.text.isascii() and emails.is_plain and names.is_plain):
        for index, (email, name) in enumerate(zip(readers.emails, readers.names, strict=True)):
            if not email.isascii() or has_odd(email) or has_odd(name):
                whole = _utf8(f"{_whole(envelope, readers[index])},")
                laid[index * width : (index + 1) * width] = [whole, *[b""] * (width - 1)]
    return b"".join(laid).removesuffix(b",")


def _whole(envelope: Envelope, recipient: Recipient) -> str:
    return json.dumps(_personalization(envelope, recipient))


@dataclass(frozen=True, slots=True)
class _Column:
    """Texts as they go into the request, and all of them at once, to be looked at with one look."""

    text: str
    data: bytes
    values: Sequence[bytes]

    @classmethod
    def of(cls, texts: Sequence[str]) -> _Column:
        text = "\0".join(texts)
        data = _utf8(text)
        return cls(text, data, data.split(b"\0"))

    @property
    def is_plain(self) -> bool:
        """
        Whether all texts can stand in JSON, on one line and in a display name as they are.

        May say no too often; ``has_odd`` says it of one text, exactly.
        """
        return (
            len(self.data.translate(None, b'";,\\')) == len(self.data)
            and not any(mark in self.data for mark in (b"  ", b"\0 ", b" \0"))
            and self.data[:1] != b" " != self.data[-1:]
            and self.text.replace("\0", "").isprintable()
        )


@dataclass(frozen=True, slots=True)
class _Template:
    """
    What stands in one reader's JSON around its values.

    *pieces* go before: email, name, batch, reader, leaving link, the values of the tags; and after the
    last one. *nameless* is what stands between email and batch of a reader without a name.
    """

    pieces: tuple[bytes, ...]
    nameless: bytes


@lru_cache(maxsize=64)
def _template(envelope: Envelope, tags: tuple[str, ...]) -> _Template:
    values = [f"\0{tag}" for tag in tags]
    marks = ("\0email", "\0name", "\0batch", "\0reader", "\0leave", *values)
    like = Recipient("\0reader", "\0email", "\0name", dict(zip(tags, values, strict=True)), "\0leave")
    pieces = _around(replace(envelope, batch="\0batch"), like, marks)
    nameless = _around(replace(envelope, batch="\0batch"), like._replace(name=""), [*marks[:1], *marks[2:]])
    return _Template((*pieces[:-1], pieces[-1] + b","), nameless[1])


def _around(envelope: Envelope, like: Recipient, marks: Sequence[str]) -> list[bytes]:
    text = json.dumps(_personalization(envelope, like, checked=False))
    pieces = []
    for mark in marks:
        piece, _, text = text.partition(json.dumps(mark)[1:-1])
        pieces.append(_utf8(piece))
    return [*pieces, _utf8(text)]


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def _personalization(envelope: Envelope, recipient: Recipient, *, checked: bool = True) -> dict[str, Any]:
    one: dict[str, Any] = {
        # "to.name may not contain ; or ," (docs, "Mail Send limitations")
        "to": [_mailbox(re.sub("[;,]", " ", recipient.name), recipient.email)]
        if checked
        else [{"email": recipient.email, **({"name": recipient.name} if recipient.name else {})}],
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
    readers = envelope.recipients
    emails = readers.emails if isinstance(readers, Recipients) else [one.email for one in readers]
    if not "".join(emails).isascii():
        emails = [ascii_address(email) for email in emails]
    addresses = set(map(str.casefold, emails))
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


class _Courier(Client):  # type: ignore[misc] # python_http_client ships no types
    """The package's client over our connections: it opens a new one for each call and offers no other way."""

    def __init__(self, wire: Wire, **values: Any) -> None:
        super().__init__(**values)
        self._wire = wire

    def _build_client(self, name: str | None = None) -> _Courier:
        return _Courier(
            self._wire, host=self.host, version=self._version, request_headers=self.request_headers,
            url_path=[*self._url_path, name] if name else self._url_path, timeout=self.timeout,
        )  # fmt: skip

    def post_encoded(self, body: Sequence[bytes], *, timeout: float) -> Response:
        """As ``post``, with a body that is JSON already: the package would encode it a second time."""
        request = Request(self._build_url(None), headers=self.request_headers, method="POST")  # noqa: S310 - _checked_host
        return Response(self._make_request(None, request, timeout=timeout, body=body))

    def _make_request(
        self,
        _opener: object,
        request: Request,
        timeout: float | None = None,
        *,
        body: Sequence[bytes] = (),
    ) -> _Answer:
        url = urlsplit(request.full_url)
        target = f"{url.path}?{url.query}" if url.query else url.path
        pieces = (request.data,) if isinstance(request.data, bytes) else body
        headers = {name.title(): value for name, value in request.header_items()}
        reply = self._wire.request(
            request.get_method(), target, headers, pieces, timeout=timeout or self.timeout
        )
        if not 200 <= reply.status < 300:
            raise handle_error(
                UrllibError(
                    request.full_url, reply.status, reply.reason, reply.headers, io.BytesIO(reply.body)
                )
            )
        return _Answer(reply)


class _Answer:
    """A reply in the shape the package reads."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply

    def getcode(self) -> int:
        return self._reply.status

    def read(self) -> bytes:
        return self._reply.body

    def info(self) -> Message:
        return self._reply.headers
