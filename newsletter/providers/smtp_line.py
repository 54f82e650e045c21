"""
A connection to a relay: one mail offered and handed over, and the truth about it: answered, lost, in doubt.

``smtplib`` is taken step by step and not by ``sendmail``: only who sends a mail and waits for its answer apart
can tell a mail that certainly was not taken (the connection broke before the final dot had left) from one in
doubt (the dot left, no answer came). RFC 5321 4.1.1.4 and 6.1: a server takes a mail when it answers the dot.
"""

from __future__ import annotations

import re
import smtplib
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from newsletter.errors import SettingsError
from newsletter.providers.message import one_line

_ENHANCED = re.compile(r"([245])\.\d{1,3}\.\d{1,3}")
_TELLING = re.compile(r"\S*[@<>=\d]\S*")


@dataclass(frozen=True, slots=True)
class Relay:
    """Where mails are handed over; *is_tls* from the first byte, else by STARTTLS (but on this machine)."""

    host: str
    port: int
    user: str
    password: str
    is_tls: bool

    def __repr__(self) -> str:
        return f"{self.host}:{self.port}"


def relay_of(url: str, *, named: str) -> Relay:
    """
    Read ``smtp://user:password@host:587`` or ``smtps://…:465``; user and password as in URLs (``%40`` is ``@``).

    Raises:
        SettingsError: it is neither; names the variable *named*, never its value.
    """
    try:
        parts = urlsplit(url.strip())
        port = parts.port or (465 if parts.scheme == "smtps" else 587)
    except ValueError:
        raise SettingsError(
            f"{named} has no port that is a number; write smtp://user:password@host:587."
        ) from None
    if parts.scheme not in ("smtp", "smtps") or not parts.hostname:
        raise SettingsError(
            f"{named} must be smtp://user:password@host:587 or smtps://user:password@host:465; "
            "a character such as @ or / in the password is written %40 or %2F."
        )
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    return Relay(parts.hostname, port, user, password, parts.scheme == "smtps")


class Reply(NamedTuple):
    """What the relay answered to a step: connect, MAIL, RCPT, DATA, or the mail itself."""

    step: str
    code: int
    text: str

    @property
    def is_fine(self) -> bool:
        return 200 <= self.code < 400

    def __str__(self) -> str:
        """Without what may name a reader, or is different each time."""
        status = _ENHANCED.match(self.text)
        told = _TELLING.sub("…", self.text)
        told = one_line(re.sub(r"(… ?)+", "… ", told)).removeprefix("… ").strip()[:120]
        shown = f"{self.code} {status[0]}" if status else str(self.code)
        return f"The relay answered {shown} to {self.step}: {told}".removesuffix(": ").rstrip(".") + "."


class Lost(Exception):
    """The connection ended before the last byte of a mail left: nobody got it."""


class InDoubt(Exception):
    """The mail left whole, and no answer came that tells whether it was taken."""


class Mail(NamedTuple):
    to: str
    data: bytes


class Line:
    """A connection that is ready for mails; *carried* counts those it answered for."""

    def __init__(self, smtp: smtplib.SMTP, timeout_seconds: float, answer_seconds: float) -> None:
        self.smtp, self.carried = smtp, 0
        self._timeout_seconds, self._answer_seconds = timeout_seconds, answer_seconds
        size = smtp.esmtp_features.get("size", "")
        self.largest = int(size) if re.fullmatch(r"\d{1,12}", size) else 0
        """Bytes a mail may have; 0: not told, or without a limit (RFC 1870 4)."""

    @property
    def is_open(self) -> bool:
        return self.smtp.sock is not None

    def close(self) -> None:
        self.smtp.close()

    def send(self, sender: str, mail: Mail) -> Reply:
        """
        Offer one mail, and hand it over if its sender and reader are taken.

        Raises:
            Lost: the connection ended before the mail was whole over there.
            InDoubt: the mail is whole over there, and no answer came.
        """
        if self.largest and len(mail.data) > self.largest:
            return Reply("MAIL", 552, f"5.3.4 it takes mails of at most {self.largest:,} bytes")
        options = [f"SIZE={len(mail.data)}"] if self.smtp.has_extn("size") else []
        if not mail.to.isascii():
            if not self.smtp.has_extn("smtputf8"):
                return Reply("RCPT", 550, "5.6.7 it takes no addresses beyond ASCII")
            options += ["SMTPUTF8", "BODY=8BITMIME"]
        try:
            reply = self._offer(sender, mail, options)
            if reply.step == "DATA" and reply.code == 354:
                self.smtp.send(mail.data)
            else:
                self.carried += 1
                self._again()
                return reply
        except (OSError, smtplib.SMTPException):
            self.close()
            raise Lost("The relay ended the connection.") from None
        return self._answer()

    def _offer(self, sender: str, mail: Mail, options: list[str]) -> Reply:
        reply = Reply("MAIL", *_told(self.smtp.mail(sender, options)))
        if reply.code == 250:
            reply = Reply("RCPT", *_told(self.smtp.rcpt(mail.to)))
        if reply.step == "RCPT" and reply.code in (250, 251):
            reply = Reply("DATA", *_told(self.smtp.docmd("DATA")))
        is_asked_for = reply.step == "DATA" and reply.code == 354
        if reply.code == 421 or not (is_asked_for or 400 <= reply.code < 600):
            self.close()  # after 421 it would (RFC 5321 3.8); after anything else it does not speak SMTP any more
            raise Lost(str(reply))
        return reply

    def _answer(self) -> Reply:
        sock = self.smtp.sock
        try:
            if sock is not None:
                sock.settimeout(self._answer_seconds)
            reply = Reply("the mail", *_told(self.smtp.getreply()))
        except (OSError, smtplib.SMTPException) as error:
            self.close()
            raise InDoubt(f"The connection failed before the relay's answer came ({type(error).__name__}).") from error  # fmt: skip
        if not (200 <= reply.code < 300 or 400 <= reply.code < 600):
            self.close()
            raise InDoubt("The relay's answer to a mail was none.")
        self.carried += 1
        if reply.code == 421:
            self.close()
        if sock is not None and self.is_open:
            sock.settimeout(self._timeout_seconds)
        return reply

    def _again(self) -> None:
        """Make it ready for the next mail; what was answered stands, whatever comes of this."""
        try:
            if self.smtp.rset()[0] != 250:
                self.close()
        except (OSError, smtplib.SMTPException):
            self.close()


def _told(answer: tuple[int, bytes]) -> tuple[int, str]:
    return answer[0], text_of(answer[1])


def text_of(told: bytes | str) -> str:
    return told if isinstance(told, str) else told.decode("utf-8", "replace")


def ended(data: bytes) -> bytes:
    """A mail as it goes over the line: dots doubled at the beginning of lines, and the final one (RFC 5321 4.5.2)."""
    return re.sub(rb"(?m)^\.", b"..", data).removesuffix(b"\r\n") + b"\r\n.\r\n"
