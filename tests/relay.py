"""
A real SMTP server (aiosmtpd) on this machine that takes mails, or does to them what a script says.

A script is one word a mail, in the order they are offered to it; without one a mail is taken:
``drop-mail``, ``drop-data`` (after the 354, the mail unread), ``drop-taken`` and ``drop-untaken`` (the mail read,
no answer), ``garbage``, ``421-mail``, ``421-data``, and ``mail 450 …``, ``rcpt 550 …``, ``data 554 …``,
``end 452 …`` for an answer to that step.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Self

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Relay:
    """
    Listens while it is entered; *taken* are (reader's address, mail) it answered for, or took without an answer.

    *login*: the user and password it wants. *offered* counts the mails that got as far as MAIL, *connections*
    what was opened. *on_taken* is called after each taken mail, before it is answered.
    """

    def __init__(
        self,
        script: Iterable[str] = (),
        *,
        login: tuple[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
        starttls: ssl.SSLContext | None = None,
        largest: int = 10_000_000,
        speaks_utf8: bool = True,
        slow_seconds: float = 0.0,
        on_taken: Callable[[int], None] = lambda number: None,
    ) -> None:
        self.script, self.login, self.tls, self.starttls = list(script), login, tls, starttls
        self.largest, self.speaks_utf8 = largest, speaks_utf8
        self.slow_seconds, self.on_taken = slow_seconds, on_taken
        self.taken: list[tuple[str, bytes]] = []
        self.senders: set[str] = set()
        self.offered = self.connections = 0
        self.was_encrypted: set[bool] = set()
        self._loop = asyncio.new_event_loop()

    def __enter__(self) -> Self:
        self._server = self._loop.run_until_complete(
            self._loop.create_server(self._answer, "127.0.0.1", 0, ssl=self.tls)
        )
        self.port: int = self._server.sockets[0].getsockname()[1]
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def url(self) -> str:
        """Where it listens, as NEWSLETTER_SMTP_URL."""
        return f"smtp{'s' if self.tls else ''}://127.0.0.1:{self.port}"

    @property
    def readers(self) -> list[str]:
        """Whose mails were taken, in order."""
        return [address for address, _ in self.taken]

    async def _close(self) -> None:
        self._server.close()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._server.wait_closed()

    def _answer(self) -> SMTP:
        self.connections += 1
        return _Scripted(
            self, self, loop=self._loop, hostname="relay.test", data_size_limit=self.largest,
            enable_SMTPUTF8=self.speaks_utf8, tls_context=self.starttls, auth_require_tls=False,
            authenticator=self._check if self.login else None,
        )  # fmt: skip

    def _check(self, _server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
        return AuthResult(success=(data.login.decode(), data.password.decode()) == self.login, handled=False)

    async def handle_RCPT(self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]) -> str:  # fmt: skip
        """Take a reader, or answer as the script says."""
        del session, options
        if (answer := server.step("rcpt")) is not None:  # type: ignore[attr-defined]
            return answer
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Take a mail, or answer, or go away without an answer."""
        self.was_encrypted.add(session.ssl is not None or self.tls is not None)
        if self.slow_seconds:
            await asyncio.sleep(self.slow_seconds)
        if (answer := server.step("end")) is not None:  # type: ignore[attr-defined]
            return answer
        (address,) = envelope.rcpt_tos
        action = server.action  # type: ignore[attr-defined]
        if action != "drop-untaken":
            self.taken.append((address, envelope.original_content or b""))
            self.senders.add(str(envelope.mail_from))
            self.on_taken(len(self.taken))
        if action in ("drop-untaken", "drop-taken"):
            server.transport.abort()
            await asyncio.sleep(3600)
        return "what?" if action == "garbage" else "250 2.0.0 taken as 4711"


class _Scripted(SMTP):
    action = ""

    def __init__(self, relay: Relay, *args: Any, **values: Any) -> None:
        super().__init__(*args, **values)
        self.relay = relay

    def step(self, name: str) -> str | None:
        """What the script answers to a step of this mail, if it does."""
        word, _, answer = self.action.partition(" ")
        return answer if word == name else None

    async def smtp_MAIL(self, arg: str | None) -> None:
        relay = self.relay
        self.action = relay.script[relay.offered] if relay.offered < len(relay.script) else ""
        relay.offered += 1
        if relay.login and self.session is not None and not self.session.authenticated:
            await self.push("530 5.7.0 authentication required")
        elif self.action == "drop-mail":
            self.transport.abort()
        elif self.action == "421-mail":
            await self.push("421 4.3.2 going down for a moment")
            self.transport.close()
        elif (answer := self.step("mail")) is not None:
            await self.push(answer)
        else:
            await super().smtp_MAIL(arg)

    async def smtp_DATA(self, arg: str | None) -> None:
        if self.action == "drop-data":
            await self.push("354 go on")
            self.transport.abort()
        elif self.action == "421-data":
            await self.push("421 4.7.0 too many mails")
            self.transport.close()
        elif (answer := self.step("data")) is not None:
            await self.push(answer)
        else:
            await super().smtp_DATA(arg)


def certificate(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A certificate for 127.0.0.1: what a server shows, and what a client has to trust."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "relay.test")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = folder / "relay.pem"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    shown = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    shown.load_cert_chain(file)
    return shown, ssl.create_default_context(cafile=str(file))


def main() -> None:
    """Listen until interrupted, and say where."""
    with Relay() as relay:
        print(relay.url, flush=True)
        while True:
            time.sleep(60)


if __name__ == "__main__":
    main()
