"""Small builders: name only the fields that matter."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import httpx

from newsletter.catalogue import Catalogue, load_catalogue

ROOT = Path(__file__).resolve().parents[1]


def a_site(folder: Path) -> Path:
    """A working copy of templates and samples in *folder*: what a fresh installation looks like."""
    shutil.copytree(ROOT / "templates", folder / "templates")
    shutil.copytree(ROOT / "samples" / "feeds", folder / "samples" / "feeds")
    shutil.copy(ROOT / "samples" / "subscribers.csv", folder / "samples" / "subscribers.csv")
    return folder


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
