"""
One whole message (RFC 5322) for one reader of an envelope: the same input gives the same bytes.

Headers are written here, not by ``email.policy``: its folding turns long URLs into encoded words and
loses the quotes around a name with a comma (CPython gh-121284), which would make two addresses of one.
"""

from __future__ import annotations

import binascii
import html
import re
from collections.abc import Mapping
from dataclasses import replace
from email.header import Header
from email.message import EmailMessage
from email.policy import SMTP, EmailPolicy
from email.utils import format_datetime
from functools import lru_cache
from hashlib import blake2b
from typing import Any

from newsletter.edition import PERSONAL_TAGS
from newsletter.providers import Envelope, Recipient, Recipients, Refused

TEST_PREFIX = "[Test] "
TEST_HEADER = "X-Newsletter-Test"
ONE_CLICK = "List-Unsubscribe=One-Click"
"""The only value RFC 8058 knows for ``List-Unsubscribe-Post``."""

VALUES_MAX_BYTES = 10_000
"""All personal values of one reader with their tags (SendGrid v3 Mail Send, "substitutions")."""

_LONGEST_NAME = 200
_LONGEST_WORD = 60  # a longer first word would leave the header's first line empty
_NOT_ON_A_LINE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")
_EMAIL = re.compile(r"[^\s\x00-\x20\x7f<>()\[\],;:\\\"@]{1,64}@[^\s\x00-\x20\x7f<>()\[\],;:\\\"@]{1,255}")
_ODD = re.compile(
    r'["\\;,\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]|  |^\s|\s$'
)  # what one_line changes, JSON escapes or SendGrid refuses in a name
_PLAIN_EMAILS = re.compile(r"(?:[A-Za-z0-9.!#$%&*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9.-]{1,255}\n)*")
_URL = re.compile(r"[a-z]+:[\x21\x23-\x26\x28-\x3b\x3d\x3f-\x7e]{1,890}")  # no space, <, >, " or '
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]+")  # RFC 5322 3.2.3


class _AsWritten(EmailPolicy):
    """The SMTP policy, but header values go out as they were set, already encoded and folded."""

    def header_store_parse(self, name: str, value: Any) -> tuple[str, Any]:
        if re.search(r"[\r\n](?![ \t])", value):
            raise ValueError(f"the header {name} would begin a new header line")
        return name, value


_POLICY = _AsWritten(linesep=SMTP.linesep, refold_source="none", utf8=True)


def one_line(text: str) -> str:
    """Return *text* without control characters, line ends of any script, or half characters."""
    return re.sub(" {2,}", " ", _NOT_ON_A_LINE.sub(" ", text)).strip()


def ascii_address(email: str) -> str:
    """
    Return *email* with its domain in ASCII (IDNA); a local part beyond ASCII stays (RFC 6532).

    Raises:
        ValueError: it is no plain address; the text does not repeat it.
    """
    if not _EMAIL.fullmatch(email) or _NOT_ON_A_LINE.search(email):
        raise ValueError("an address is not of the form name@domain")
    local, _, domain = email.partition("@")
    if not domain.isascii():
        try:
            domain = domain.encode("idna").decode("ascii")
        except UnicodeError:
            raise ValueError("the domain of an address cannot be written in ASCII") from None
    return f"{local}@{domain}"


def fill(template: str, values: Mapping[str, str], *, escape: bool = False) -> str:
    """Replace the tags, all at once: a value that holds a tag is not filled again."""
    if not values:
        return template
    tags = re.compile("|".join(map(re.escape, sorted(values, key=len, reverse=True))))
    return tags.sub(lambda tag: html.escape(values[tag[0]]) if escape else values[tag[0]], template)


def subject_of(envelope: Envelope) -> str:
    """Return the subject on one line, marked when it is a test; personal tags still unfilled."""
    return (TEST_PREFIX if envelope.is_test else "") + one_line(envelope.subject)


def list_id_of(envelope: Envelope) -> str:
    """Return the List-ID (RFC 2919), encoded and on one line; empty when the envelope has none."""
    bare = re.sub(r"[^A-Za-z0-9._-]", "", envelope.list_id)
    return f"{_phrase(envelope.list_name)} <{bare}>".strip().replace("\n", "") if bare else ""


def fault(envelope: Envelope) -> Refused | None:
    """
    Say why no provider should take *envelope*, or None.

    An address or link that cannot be written safely is the reader's fault and names them; a sender
    that cannot, or a personal tag that nobody fills, is ours and stops the run.
    """
    refused, used = _content_fault(replace(envelope, recipients=(), batch="", reservation=""))
    if refused is not None:
        return refused
    readers = envelope.recipients
    if (
        isinstance(readers, Recipients)
        and used <= set(readers.tags)
        and _PLAIN_EMAILS.fullmatch("\n".join([*readers.emails, ""]))
        and _is_fit(readers[0])
    ):
        return None  # all made the same way: one look at all addresses, and one reader's links stand for all
    for recipient in readers:
        if not used <= recipient.values.keys():
            lacking = min(used - recipient.values.keys())
            return Refused(f"Nothing fills {lacking} for reader {recipient.reader}.", stop_run=True)
    unfit = tuple(index for index, recipient in enumerate(readers) if not _is_fit(recipient))
    if unfit:
        return Refused("An address or personal link cannot be written safely.", unfit=True, recipients=unfit)
    return None


@lru_cache(maxsize=64)
def _content_fault(envelope: Envelope) -> tuple[Refused | None, frozenset[str]]:
    """What is wrong for all readers, and the personal tags that the content holds."""
    try:
        Letter(envelope)
    except ValueError as error:
        sentence = f"The mail cannot be written: {error}. Mend the publication's settings."
        return Refused(sentence, stop_run=True), frozenset()
    content = (envelope.subject, envelope.html, envelope.text)
    return None, frozenset(tag for tag in PERSONAL_TAGS.values() if any(tag in part for part in content))


def has_odd(text: str) -> bool:
    """Whether *text* cannot stand in JSON, on one line and in a display name as it is."""
    return _ODD.search(text) is not None


def identity_of(edition: str, reader: str, *more: str) -> str:
    """The left half of the Message-ID of *reader*'s mail of *edition* (``<slug>.<date>.<revision>``)."""
    return blake2b("\0".join((edition, reader, *more)).encode("utf-8", "replace"), digest_size=16).hexdigest()


def build_message(envelope: Envelope, recipient: Recipient) -> EmailMessage:
    """
    Return the whole message for one reader.

    Raises:
        ValueError: an address or URL cannot stand in a header; the text does not repeat it.
    """
    return Letter(envelope).to(recipient)


def to_bytes(message: EmailMessage) -> bytes:
    """
    Return what ``message.as_bytes()`` returns, for messages made here, twice as fast.

    The generator of the library writes line by line and parses each header again first.
    """
    head = b"".join(message.policy.fold_binary(name, value) for name, value in message.raw_items())
    body = message.get_payload()
    if isinstance(body, str):
        return head + b"\r\n" + body.replace("\n", "\r\n").encode("ascii")
    between = f"\r\n--{message.get_boundary()}".encode("ascii")
    parts = [between + b"\r\n" + to_bytes(part) for part in body if isinstance(part, EmailMessage)]
    return head + b"".join(parts) + between + b"--\r\n"


class Letter:
    """
    An envelope with everything prepared that its readers share.

    Raises:
        ValueError: its sender or reply-to cannot stand in a header.
    """

    __slots__ = ("_domain", "_envelope", "_headers", "_subject")

    def __init__(self, envelope: Envelope) -> None:
        self._envelope = envelope
        self._domain = ascii_address(envelope.sender.email).rpartition("@")[2]
        self._subject = subject_of(envelope)
        self._headers = [("From", _mailbox(envelope.sender.name, envelope.sender.email))]
        if envelope.reply_to is not None:
            self._headers.append(("Reply-To", _mailbox(envelope.reply_to.name, envelope.reply_to.email)))
        self._headers.append(("Date", format_datetime(envelope.dated_at)))
        if list_id := list_id_of(envelope):
            self._headers.append(("List-ID", list_id))
        if language := re.sub(r"[^A-Za-z0-9-]", "", envelope.language):
            self._headers.append(("Content-Language", language))
        if envelope.is_test:
            self._headers.append((TEST_HEADER, "yes"))

    def to(self, recipient: Recipient) -> EmailMessage:
        """
        Return the message for *recipient*.

        Raises:
            ValueError: their address or link cannot stand in a header.
        """
        envelope = self._envelope
        identity = self._identity(recipient)
        message = EmailMessage(policy=_POLICY)
        message["MIME-Version"] = "1.0"
        message["Message-ID"] = f"<{identity}@{self._domain}>"
        for name, value in self._headers:
            message[name] = value
        message["To"] = _mailbox(recipient.name, recipient.email)
        message["Subject"] = _folded(one_line(fill(self._subject, recipient.values)), header="Subject")
        if recipient.unsubscribe_url:
            message["List-Unsubscribe"] = f"<{_url(recipient.unsubscribe_url)}>"
            message["List-Unsubscribe-Post"] = ONE_CLICK
        text = fill(envelope.text, recipient.values)
        if not envelope.html:
            _set_text(message, text, subtype="plain")
            return message
        # "=_" cannot occur in quoted-printable text (RFC 2045 6.7), so no part can hold the boundary.
        message["Content-Type"] = f'multipart/alternative; boundary="=_{identity}"'
        for subtype, body in (
            ("plain", text),
            ("html", fill(envelope.html, recipient.values, escape=True)),
        ):
            part = EmailMessage(policy=_POLICY)
            _set_text(part, body, subtype=subtype)
            message.attach(part)
        return message

    def _identity(self, recipient: Recipient) -> str:
        """The same for each attempt at one reader; new for each test, or mailboxes would hide the second."""
        envelope = self._envelope
        if not envelope.is_test:
            return identity_of(envelope.edition, recipient.reader)
        return identity_of(
            envelope.edition,
            recipient.reader,
            envelope.variant,
            envelope.batch,
            envelope.dated_at.isoformat(),
        )


def _is_fit(recipient: Recipient) -> bool:
    """One value serves text and HTML alike at the provider, so it must be safe unescaped in both."""
    try:
        ascii_address(recipient.email)
    except ValueError:
        return False
    size = sum(
        len(tag.encode()) + len(value.encode("utf-8", "replace")) for tag, value in recipient.values.items()
    )
    urls = [*recipient.values.values(), *filter(None, [recipient.unsubscribe_url])]
    return size <= VALUES_MAX_BYTES and all(_URL.fullmatch(url) for url in urls)


def _url(url: str) -> str:
    if not _URL.fullmatch(url):
        raise ValueError("a link is not a plain URL")
    return url


def _mailbox(name: str, email: str) -> str:
    return f"{_phrase(name)} <{ascii_address(email)}>".lstrip()


def _phrase(text: str) -> str:
    """Return a display name as atoms, a quoted string, or encoded words, whichever it needs."""
    name = one_line(text)[:_LONGEST_NAME].strip()
    if not name.isascii() or "=?" in name:
        return _folded(name, header="Reply-To")
    if not name or _ATOMS.fullmatch(name):
        return name
    return '"' + re.sub(r'(["\\])', r"\\\1", name) + '"'


def _folded(text: str, *, header: str) -> str:
    """Return *text* encoded where needed (RFC 2047) and folded; continuation lines begin with a space."""
    plain = (
        text.isascii() and "=?" not in text and all(len(word) <= _LONGEST_WORD for word in text.split(" "))
    )
    return Header(text, "us-ascii" if plain else "utf-8", maxlinelen=76, header_name=header).encode()


def _set_text(message: EmailMessage, body: str, *, subtype: str) -> None:
    """
    Make *body* the text of *message*, quoted-printable by the C function: 60 kB in well under 1 ms.

    ``EmailMessage.set_content`` encodes in Python, 30 times slower, line by line.
    """
    lines = body.replace("\r\n", "\n").replace("\r", "\n")
    message["Content-Type"] = f'text/{subtype}; charset="utf-8"'
    message["Content-Transfer-Encoding"] = "quoted-printable"
    message.set_payload(binascii.b2a_qp(lines.encode("utf-8", "replace")).decode("ascii"))
