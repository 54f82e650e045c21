"""Small builders: name only the fields that matter."""

from __future__ import annotations

import asyncio
import shutil
from datetime import datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx

from newsletter.catalogue import Catalogue, load_catalogue

ROOT = Path(__file__).resolve().parents[1]


def a_site(folder: Path) -> Path:
    """A working copy of templates and samples in *folder*: what a fresh installation looks like."""
    shutil.copytree(ROOT / "templates", folder / "templates")
    shutil.copytree(ROOT / "samples" / "feeds", folder / "samples" / "feeds")
    shutil.copytree(ROOT / "samples" / "words", folder / "samples" / "words")
    (folder / "samples" / "pictures").symlink_to(ROOT / "samples" / "pictures")
    shutil.copy(ROOT / "samples" / "subscribers.csv", folder / "samples" / "subscribers.csv")
    return folder


def a_feed(at: str, numbers: range, *, paper: str) -> str:
    """An RSS document of stories of *at*, one a number, each of its own, about politics, from several countries."""
    places = (
        "Peru",
        "Ghana",
        "Nepal",
        "Chile",
        "Latvia",
        "Oman",
        "Kenya",
        "Cuba",
        "Malta",
        "Laos",
        "Fiji",
        "Benin",
    )
    subjects = (
        "harbour",
        "railway",
        "library",
        "orchard",
        "glacier",
        "hospital",
        "bridge",
        "choir",
        "market",
        "canal",
    )
    published = format_datetime(datetime.fromisoformat(at))
    items = "".join(
        f"<item><title>{places[n % 12]} votes on the {subjects[n % 10]} its {subjects[(n * 3 + 1) % 10]} needs ({n})</title>"
        f"<link>https://{paper}.example/{n}</link><pubDate>{published}</pubDate><description>Story {n}.</description>"
        f"<category>Politics</category></item>"
        for n in numbers
    )
    head = f"<title>{paper}</title><link>https://{paper}.example/</link><language>en</language>"
    return f'<?xml version="1.0" encoding="UTF-8"?><rss version="2.0"><channel>{head}{items}</channel></rss>'


def the_catalogue() -> Catalogue:
    """The shipped publication and its nine newsletters."""
    return load_catalogue(ROOT / "templates")


def ask(app: Any, method: str, path: str, **options: Any) -> httpx.Response:
    """One request to an ASGI application, answered in this process."""

    async def answer() -> httpx.Response:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
            return await client.request(method, path, **options)

    return asyncio.run(answer())
