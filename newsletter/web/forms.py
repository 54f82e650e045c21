"""
Forms: read with limits, and believed only when they come from our own page, filled by a person.

One signed value in each form does three things: it is bound to the visitor's cookie (double submit),
to what the form is for, and to the moment the page was made (time trap).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from markupsafe import Markup
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from newsletter.settings import Keys, Settings, is_loopback
from newsletter.times import Clock

FIELD = "form"
"""The hidden field that holds the signed value."""
TRAP = "website"
"""The field no person sees; who fills it is a program."""

QUICKEST = timedelta(seconds=2)
LONGEST = timedelta(days=1)
MAX_FIELDS = 60
READ_SECONDS = 20
_MAC_BYTES = 16


class Verdict(StrEnum):
    """What a posted form is worth."""

    GOOD = "good"
    HASTY = "hasty"  # a program's: faster than a person, or the trap was filled
    STALE = "stale"  # the page was open for more than a day
    FORGED = "forged"  # not from our page, or the visitor keeps no cookie


@dataclass(frozen=True, slots=True)
class Form:
    """Posted fields, all of them single texts; what was sent twice keeps each in *lists*."""

    fields: Mapping[str, str] = field(default_factory=dict)
    lists: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def get(self, name: str, longest: int = 200) -> str:
        """A field on one line, without control characters, cut to *longest*; empty when it is not there."""
        return one_line(self.fields.get(name, ""))[:longest].strip()

    def text(self, name: str, longest: int = 500) -> str:
        """A field that may have several lines."""
        lines = self.fields.get(name, "").replace("\r\n", "\n").replace("\r", "\n").split("\n")
        return "\n".join(one_line(line) for line in lines)[:longest].strip()

    def all(self, name: str) -> tuple[str, ...]:
        """Every value of a field, such as ticked boxes."""
        return self.lists.get(name, ())


def one_line(text: str) -> str:
    """*text* without line ends, control characters, half characters, and marks that turn the reading direction."""
    kept = (
        " " if char.isspace() or ord(char) < 32 else char
        for char in text
        if not (0x7F <= ord(char) <= 0x9F or 0xD800 <= ord(char) <= 0xDFFF or char in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
    )  # fmt: skip
    return " ".join("".join(kept).split())


async def read_form(request: Request) -> Form:
    """
    The plain fields of a posted form, urlencoded or multipart; files are ignored.

    A body that is no form has no fields. A size beyond the guard's limit raises 413, a body that does
    not come within ``READ_SECONDS`` 408.

    Raises:
        HTTPException: 408 or 413.
    """
    try:
        async with asyncio.timeout(READ_SECONDS):
            body = await request.body()
    except TimeoutError:
        raise HTTPException(408) from None
    except ClientDisconnect:
        raise
    again = Request(request.scope, _once(body))
    lists: dict[str, list[str]] = {}
    try:
        async with again.form(max_files=0, max_fields=MAX_FIELDS) as form:
            for name, value in form.multi_items():
                if isinstance(value, str):
                    lists.setdefault(name, []).append(value)
    except (MultiPartException, HTTPException, UnicodeDecodeError, ValueError, KeyError, AttributeError):
        return Form()
    return Form(
        {name: values[-1] for name, values in lists.items()},
        {name: tuple(values) for name, values in lists.items()},
    )


def _once(body: bytes) -> Callable[[], Any]:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


class Cookies:
    """The two cookies there are: of a visit (a random value, for forms) and of a session."""

    def __init__(self, settings: Settings) -> None:
        self.path = settings.path_prefix or "/"
        self.is_secure = settings.is_public
        # __Host- needs Secure and the path / (RFC 6265bis 4.1.3); __Secure- only Secure.
        prefix = ("__Host-" if self.path == "/" else "__Secure-") if self.is_secure else ""
        self.visit, self.session = f"{prefix}nl_visit", f"{prefix}nl_session"

    def set(self, response: Response, name: str, value: str, *, age: timedelta | None = None) -> None:
        """Set a cookie that no script reads and no other site sends; without *age* it ends with the browser."""
        response.set_cookie(
            name, value, max_age=int(age.total_seconds()) if age else None, path=self.path, secure=self.is_secure,
            httponly=True, samesite="lax",
        )  # fmt: skip

    def drop(self, response: Response, name: str) -> None:
        """Take a cookie back."""
        response.delete_cookie(name, path=self.path, secure=self.is_secure, httponly=True, samesite="lax")


class Forms:
    """Signs forms and judges what comes back."""

    def __init__(self, keys: Keys, settings: Settings, *, clock: Clock) -> None:
        self.keys, self.clock = keys, clock
        self.cookies = Cookies(settings)
        base = urlsplit(settings.base_url)
        self.origin = f"{base.scheme}://{base.netloc}".lower()
        self.is_at_home = is_loopback(base.hostname or "")

    def sign(self, request: Request, purpose: str, *, bound: bool = True) -> tuple[Markup, str]:
        """
        The hidden fields of a form for *purpose*, and the visit cookie to set (empty: there is one).

        Not *bound*: for a form inside another site's page, where browsers send no cookies.
        """
        fresh = ""
        binding = self._binding(request) if bound else "framed"
        if not binding:
            binding = fresh = secrets.token_urlsafe(16)
        seconds = int(self.clock().timestamp()).to_bytes(6, "big")
        signed = base64.urlsafe_b64encode(
            seconds + self._mac(self.keys.signing[0], purpose, binding, seconds)
        )
        html = Markup('<input type="hidden" name="{}" value="{}">').format(FIELD, signed.decode("ascii"))
        return html, fresh

    def judge(
        self, request: Request, form: Form, purpose: str, *, bound: bool = True, trap: bool = False
    ) -> Verdict:
        """What *form* is worth; *trap*: programs are looked for, too (time trap and honeypot)."""
        made = self.made_at(request, form, purpose, bound=bound)
        if made is None or not self.is_from_here(request):
            return Verdict.FORGED
        age = self.clock() - made
        if trap and (form.get(TRAP) or age < QUICKEST):
            return Verdict.HASTY
        return Verdict.STALE if age > LONGEST else Verdict.GOOD

    def made_at(self, request: Request, form: Form, purpose: str, *, bound: bool = True) -> datetime | None:
        """When the page of *form* was made; None: the form is not ours, not this visitor's, or of the future."""
        binding = self._binding(request) if bound else "framed"
        value = form.fields.get(FIELD, "")
        if not binding or len(value) != 32 or not value.isascii():
            return None
        try:
            raw = base64.b64decode(value.replace("-", "+").replace("_", "/"), validate=True)
        except (binascii.Error, ValueError):
            return None
        seconds, mac = raw[:6], raw[6:]
        if not any(
            hmac.compare_digest(self._mac(key, purpose, binding, seconds), mac) for key in self.keys.signing
        ):
            return None
        now = self.clock()
        made = int.from_bytes(seconds, "big")
        if made > now.timestamp() + 1:
            return None
        return datetime.fromtimestamp(made, now.tzinfo)

    def is_from_here(self, request: Request) -> bool:
        """
        Whether the browser says that our own page posted this; a client that says nothing is no browser.

        While the pages stand on this machine only, any of its names and ports is our own: the one that was asked.
        """
        site = request.headers.get("sec-fetch-site")
        if site is not None and site not in ("same-origin", "none"):
            return False
        origin = request.headers.get("origin")
        if origin is None or origin.lower() == self.origin:
            return True
        return self.is_at_home and origin.lower() == f"http://{request.headers.get('host', '')}".lower()

    def _binding(self, request: Request) -> str:
        held = request.cookies.get(self.cookies.session) or request.cookies.get(self.cookies.visit) or ""
        return held if 16 <= len(held) <= 64 and held.isascii() else ""

    def _mac(self, key: bytes, purpose: str, binding: str, seconds: bytes) -> bytes:
        text = f"{purpose}\0{binding}\0".encode() + seconds
        return hashlib.blake2b(text, key=key[:64], digest_size=_MAC_BYTES, person=b"nl-form").digest()
