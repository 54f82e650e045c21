"""
Any relay over SMTP: one mail a reader, each with a verdict of its own, over connections that stay open.

A batch that breaks off in the middle comes back divided: who has it, who is refused, who was not begun, and the
one mail nobody can tell of. How a mail is handed over is in ``smtp_line``, what an answer means is here.
"""

from __future__ import annotations

import re
import smtplib
import socket
import ssl
import time
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from urllib.parse import urlsplit

from newsletter.errors import SettingsError
from newsletter.providers import (
    Accepted,
    Divided,
    Envelope,
    Finding,
    Outcome,
    Ready,
    Refused,
    SendsAtOnce,
    Uncertain,
    Verdict,
)
from newsletter.providers.message import Letter, ascii_address, fault, to_bytes
from newsletter.providers.returned import NO_SUCH_ADDRESS
from newsletter.providers.smtp_line import InDoubt, Line, Lost, Mail, Relay, Reply, ended, relay_of, text_of
from newsletter.providers.wire import is_stale
from newsletter.settings import Settings, is_loopback
from newsletter.times import Clock, system_clock

MAX_RECIPIENTS = 20
"""After a crash a whole batch is in doubt, so batches are small; larger ones would only save commits."""

BEGIN_WITHIN_SECONDS = 240.0
"""No mail of a batch is begun later, so that the longest answer still comes within the claim's lease."""

ANSWER_SECONDS = 300.0
"""How long the answer to a whole mail may take; RFC 5321 4.5.3.2.6 asks for ten minutes, our lease for less."""

RECONNECT = timedelta(seconds=5)
REST = timedelta(minutes=1)
DEFERRED = timedelta(minutes=5)
"""How long one reader is deferred at first (greylisting); twice as long each time."""

TRIES = 6
"""So often a reader is deferred, over two and a half hours, before they fail."""

_ABOUT_THE_READER = re.compile(r"5\.(1\.([0-69]|10)|2\.[0-4]|6\.7)\b")  # 5.1.7 and 5.1.8 are about the sender


class _Over(Exception):
    """Nothing more of this batch can go: *verdict* of the mail at hand, *rest* of those after it."""

    def __init__(self, verdict: Verdict, rest: Verdict | None = None) -> None:
        super().__init__()
        self.verdict, self.rest = verdict, rest or verdict


class Smtp(SendsAtOnce):
    """
    Hands envelopes to a relay, a mail a reader; may be shared by threads.

    *timeout_seconds* bounds each step on the network, *answer_seconds* the answer to a whole mail. *tls*: trust
    by this instead of by the system's authorities, and also on this machine. *return_path*: where bounces go,
    default the sender.
    """

    name = "smtp"
    max_recipients = MAX_RECIPIENTS

    def __init__(
        self,
        relay: Relay,
        *,
        base_url: str = "",
        return_path: str = "",
        timeout_seconds: float = 30.0,
        answer_seconds: float = ANSWER_SECONDS,
        clock: Clock = system_clock,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._relay, self._base_url, self._return_path = relay, base_url, return_path
        self._timeout_seconds, self._answer_seconds = timeout_seconds, answer_seconds
        self._clock = clock
        self._must_encrypt = tls is not None or not is_loopback(relay.host)
        self._tls = tls or ssl.create_default_context()
        self._idle: deque[tuple[Line, float]] = deque()  # the last used is used first
        weakref.finalize(self, _hang_up, self._idle)

    @classmethod
    def from_settings(cls, settings: Settings) -> Smtp:
        """
        Make it from the environment.

        Raises:
            SettingsError: NEWSLETTER_SMTP_URL or NEWSLETTER_SMTP_RETURN_PATH cannot be used.
        """
        relay = relay_of(settings.smtp_url.get_secret_value(), named="NEWSLETTER_SMTP_URL")
        return_path = settings.smtp_return_path.strip()
        try:
            return_path = ascii_address(return_path) if return_path else ""
        except ValueError as error:
            raise SettingsError(f"NEWSLETTER_SMTP_RETURN_PATH cannot be used: {error}.") from None
        return cls(relay, base_url=settings.base_url, return_path=return_path)

    def submit(self, envelope: Envelope) -> Outcome:
        """Hand the mails over, one after another, and say what became of each."""
        return self.prepare(envelope)()

    def prepare(self, envelope: Envelope) -> Ready:
        """Write all mails now; what is returned only talks to the relay."""
        if not envelope.recipients:
            return Accepted
        refused = fault(envelope)
        if refused is not None:
            return lambda: refused
        letter = Letter(envelope)
        mails = [Mail(ascii_address(one.email), ended(to_bytes(letter.to(one)))) for one in envelope.recipients]  # fmt: skip
        sender = self._return_path or ascii_address(envelope.sender.email)
        attempt = int(envelope.batch.rpartition(".")[2]) if re.search(r"\.\d+$", envelope.batch) else 1
        return lambda: self._hand_over(sender, mails, attempt)

    def problems(self) -> list[str]:
        """Say what the settings lack for a real send."""
        base = urlsplit(self._base_url)
        if is_loopback(base.hostname or "") or base.scheme != "https":
            return [
                "NEWSLETTER_BASE_URL must be a public https address: readers' links and one-click leaving go there."
            ]
        return []

    def look(self, domain: str) -> Iterator[Finding]:
        """Connect, greet, log in; nothing is sent."""
        try:
            line = self._connect()
        except _Over as over:
            reason = "" if isinstance(over.verdict, Accepted) else over.verdict.reason
            yield Finding("relay", "error", f"{reason} Mend NEWSLETTER_SMTP_URL, or ask who runs the relay.")
            return
        how = "encrypted" if isinstance(line.smtp.sock, ssl.SSLSocket) else "not encrypted, on this machine"
        who = "after a login" if self._relay.user else "without a login"
        yield Finding("relay", "ok", f"{self._relay} takes mails {who}, {how}.")
        if 0 < line.largest < 1_000_000:
            yield Finding(
                "relay-size", "warning",
                f"{self._relay} takes mails of at most {line.largest:,} bytes; have the limit raised to a million.",
            )  # fmt: skip
        line.close()

    # --- a batch --------------------------------------------------------------------------------

    def _hand_over(self, sender: str, mails: Sequence[Mail], attempt: int) -> Outcome:
        verdicts: list[Verdict] = []
        begun = time.monotonic()
        line: Line | None = None
        try:
            for mail in mails:
                if time.monotonic() - begun > BEGIN_WITHIN_SECONDS:
                    raise _Over(
                        Refused("The relay was too slow for the whole batch.", retry_at=self._clock())
                    )
                line, reply = self._deliver(line, sender, mail)
                verdicts.append(self._judge(reply, attempt))
        except _Over as over:
            verdicts.append(over.verdict)
            verdicts += [over.rest] * (len(mails) - len(verdicts))
        if line is not None and line.is_open:
            self._idle.append((line, time.monotonic()))
        return _together(verdicts)

    def _deliver(self, line: Line | None, sender: str, mail: Mail) -> tuple[Line, Reply]:
        """
        Hand one mail over, on a new connection if the last one has ended: relays limit the mails of one.

        Raises:
            _Over: nothing can go now, or the mail is in doubt.
        """
        while True:
            if line is None or not line.is_open:
                line = self._take()
            try:
                return line, line.send(sender, mail)
            except Lost as lost:
                if not line.carried:
                    raise _Over(self._later(str(lost))) from None
            except InDoubt as doubt:
                raise _Over(
                    Uncertain(f"{doubt} Nobody can say whether this mail was taken."),
                    self._later("The relay ended the connection."),
                ) from doubt

    def _judge(self, reply: Reply, attempt: int) -> Verdict:
        """
        Sort an answer by what it is about: this reader, this mail, or us (RFC 5321 4.2, RFC 3463).

        Raises:
            _Over: it holds for the mails after it, too.
        """
        if reply.is_fine:
            return Accepted()
        is_for_now = reply.code < 500
        if reply.step == "MAIL":
            if is_for_now:
                raise _Over(self._later(str(reply)))
            if reply.code != 552 and not reply.text.startswith("5.3.4"):  # too large: this mail alone
                raise _Over(Refused(f"{reply} Is the sender allowed to send there?", stop_run=True))
        if not is_for_now:
            about_reader = reply.step == "RCPT" and _ABOUT_THE_READER.match(reply.text)
            gone = bool(about_reader and NO_SUCH_ADDRESS.match(reply.text))
            return Refused(str(reply), unfit=True, gone=gone, recipients=(0,) if about_reader else ())
        if attempt >= TRIES:
            return Refused(f"{reply} That was the last of {TRIES} tries.", unfit=True, recipients=(0,))
        deferred = Refused(str(reply), retry_at=self._clock() + DEFERRED * 2 ** (attempt - 1))
        if reply.step == "RCPT":
            return deferred
        rest = Refused("The relay takes nothing for now.", retry_at=self._clock() + REST)
        raise _Over(deferred, rest)

    def _later(self, reason: str) -> Refused:
        return Refused(reason, retry_at=self._clock() + RECONNECT, slow_down=True)

    # --- connections ----------------------------------------------------------------------------

    def _take(self) -> Line:
        while self._idle:
            with suppress(IndexError):  # another thread was quicker
                line, used_at = self._idle.pop()
                if not is_stale(line.smtp.sock, used_at):
                    return line
                line.close()
        return self._connect()

    def _connect(self) -> Line:
        """
        Open a connection, encrypt it and log in.

        Raises:
            _Over: it cannot be done, now or at all.
        """
        relay = self._relay
        try:
            smtp = self._greet()
        except smtplib.SMTPConnectError as error:
            raise self._unconnected(
                Reply("the connection", error.smtp_code, text_of(error.smtp_error))
            ) from None
        except ssl.SSLCertVerificationError as error:
            raise _Over(
                Refused(f"The certificate of {relay.host} is not trusted ({error.verify_message}).", stop_run=True)
            ) from None  # fmt: skip
        except (OSError, smtplib.SMTPException) as error:
            raise _Over(self._later(f"No connection to {relay} ({type(error).__name__}).")) from None
        if relay.user:
            try:
                smtp.login(relay.user, relay.password)
            except smtplib.SMTPResponseException as error:
                smtp.close()
                raise self._unconnected(
                    Reply("the login", error.smtp_code, text_of(error.smtp_error))
                ) from None
            except smtplib.SMTPNotSupportedError:
                smtp.close()
                reason = f"{relay} offers no login; take user and password out of its address, or use another port."
                raise _Over(Refused(reason, stop_run=True)) from None
            except (OSError, smtplib.SMTPException) as error:
                smtp.close()
                raise _Over(self._later(f"No login at {relay} ({type(error).__name__}).")) from None
        return Line(smtp, self._timeout_seconds, self._answer_seconds)

    def _greet(self) -> smtplib.SMTP:
        relay, host = self._relay, urlsplit(self._base_url).hostname or ""
        # Its own way to find a name asks the name servers, which may take long.
        us = socket.gethostname() if not host or is_loopback(host) else host
        if relay.is_tls:
            smtp: smtplib.SMTP = smtplib.SMTP_SSL(
                relay.host, relay.port, us, timeout=self._timeout_seconds, context=self._tls
            )
        else:
            smtp = smtplib.SMTP(relay.host, relay.port, us, timeout=self._timeout_seconds)
        try:
            smtp.ehlo_or_helo_if_needed()
            if not relay.is_tls and self._must_encrypt:
                if not smtp.has_extn("starttls"):
                    reason = (
                        f"{relay} offers no encryption (STARTTLS), and mails and passwords do not go without."
                    )
                    raise _Over(Refused(reason, stop_run=True))
                smtp.starttls(context=self._tls)
                smtp.ehlo_or_helo_if_needed()
        except BaseException:
            smtp.close()
            raise
        return smtp

    def _unconnected(self, reply: Reply) -> _Over:
        if 500 <= reply.code < 600:
            return _Over(Refused(str(reply), stop_run=True))
        return _Over(self._later(str(reply)))


def _together(verdicts: Sequence[Verdict]) -> Outcome:
    """One outcome where all fared alike; else parts, those taken first."""
    parts: dict[Verdict, list[int]] = {}
    for index, verdict in enumerate(verdicts):
        parts.setdefault(verdict, []).append(index)
    told = [(_named(verdict, len(who)), tuple(who)) for verdict, who in parts.items()]
    if len(told) == 1:
        return told[0][0]
    return Divided(tuple(sorted(told, key=lambda part: not isinstance(part[0], Accepted))))


def _named(verdict: Verdict, count: int) -> Verdict:
    """A refusal that names its only reader names all who share it."""
    if isinstance(verdict, Refused) and verdict.recipients:
        return replace(verdict, recipients=tuple(range(count)))
    return verdict


def _hang_up(idle: deque[tuple[Line, float]]) -> None:
    for line, _ in idle:
        line.close()
