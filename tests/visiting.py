"""A visitor of the pages: keeps cookies, reads forms, presses buttons, and waits for the mail."""

from __future__ import annotations

import email
import email.policy
import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any

import httpx
from lxml import html
from sqlalchemy import Engine
from starlette.types import ASGIApp

from newsletter.settings import Keys, Settings
from newsletter.web.app import create_app
from tests.builders import ask, the_catalogue


@dataclass
class Moment:
    """A clock that stands until it is told to go on."""

    now: datetime

    def __call__(self) -> datetime:
        return self.now

    def go_on(self, **span: float) -> None:
        """Let time pass."""
        self.now += timedelta(**span)


@dataclass
class Visitor:
    """One browser. ``ask`` waits for what happens after an answer, as asyncio waits for its threads."""

    app: ASGIApp
    clock: Moment
    cookies: dict[str, str] = field(default_factory=dict)

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One request with the cookies; keeps those of the answer."""
        held = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        headers = {**options.pop("headers", {}), **({"Cookie": held} if held else {})}
        answer = ask(self.app, method, path, headers=headers, **options)
        for name, value in answer.cookies.items():
            self.cookies[name] = value
        for header in answer.headers.get_list("set-cookie"):
            name = header.partition("=")[0]
            if "Max-Age=0" in header:
                self.cookies.pop(name, None)
        return answer

    def fill(self, path: str, *, button: int = -1, wait: float = 5, **fields: Any) -> httpx.Response:
        """Open a page, wait as people do, fill its form and press its (last) button."""
        page = self.ask("GET", path)
        self.clock.go_on(seconds=wait)
        form = html.fromstring(page.text).forms[button]
        return self.ask("POST", form.action or path, data={**values_of(form), **fields})


def values_of(form: Any) -> dict[str, Any]:
    """The fields of a form as they would be posted."""
    values: dict[str, Any] = {}
    for name, value in form.form_values():
        values.setdefault(name, []).append(value)
    return values


@dataclass
class House:
    """The pages over a database, with a folder for their mails."""

    engine: Engine
    keys: Keys
    outbox: Path
    clock: Moment
    app: ASGIApp = field(init=False)
    base_url: str = "http://127.0.0.1:8000"

    def __post_init__(self) -> None:
        settings = Settings(NEWSLETTER_SYSTEM_OUTBOX=self.outbox, NEWSLETTER_BASE_URL=self.base_url)
        self.app = create_app(self.engine, the_catalogue(), self.keys, settings, clock=self.clock)

    def visitor(self) -> Visitor:
        """Somebody with an empty browser."""
        return Visitor(self.app, self.clock)

    def mails(self) -> list[Mail]:
        """All mails so far, oldest first."""
        paths = sorted(self.outbox.rglob("*.eml"), key=lambda path: path.stat().st_mtime_ns)
        return [
            Mail(email.message_from_bytes(path.read_bytes(), policy=email.policy.default)) for path in paths
        ]


class Mail:
    """A mail as a person reads it."""

    def __init__(self, message: Any) -> None:
        self.to = str(message["To"])
        self.subject = str(message["Subject"])
        self.headers = {name.lower(): str(value) for name, value in message.items()}
        parts = {
            part.get_content_type(): part.get_content() for part in message.walk() if not part.is_multipart()
        }
        self.text, self.raw_html = parts["text/plain"], parts["text/html"]
        self.html = unescape(self.raw_html)

    def link(self, kind: str) -> str:
        """The path of the link of *kind* (``confirm``, ``login``…), the same in text and HTML."""
        found = re.search(rf"https?://[^/\s]+(\S*/{kind}/[\w-]+)", self.text)
        assert found is not None and found[1] in self.html
        return found[1]
