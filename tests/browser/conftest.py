"""Fixtures of the browser tests: an installation that serves its pages, and a real headless Chromium."""

from __future__ import annotations

import email
import email.policy
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.builders import a_site

NOW = "2026-11-20T04:00:00Z"
"""The instant of the sample feeds."""

QUIET = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Site:
    """A running installation: where its pages are, where its mails lie."""

    url: str
    folder: Path
    environment: dict[str, str]

    def run(self, *words: str, actor: str = "") -> str:
        """What a command of ours prints, given by *actor*; it must not fail."""
        program = Path(sys.executable).with_name("newsletter")
        done = subprocess.run(
            [str(program), *words],
            cwd=self.folder,
            env={**self.environment, **({"NEWSLETTER_ACTOR": actor} if actor else {})},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode in (0, 3), done.stderr
        return done.stdout

    def notice_to(self, address: str, number: int = 1) -> str:
        """The text part of the *number*-th mail the pages sent to *address*, once it is there."""
        for _ in range(100):
            mails = self.mails(self.folder / "outbox-system", address)
            if len(mails) >= number:
                return mails[number - 1]
            time.sleep(0.1)
        raise AssertionError(f"no mail number {number}")

    def mails(self, folder: Path, address: str) -> list[str]:
        """The text parts of all mails to *address* below *folder*, oldest first."""
        texts = []
        for file in sorted(folder.rglob("*.eml"), key=lambda one: one.stat().st_mtime_ns):
            message = email.message_from_bytes(file.read_bytes(), policy=email.policy.default)
            body = message.get_body(("plain",))
            if address in str(message["To"]) and body is not None:
                texts.append(str(body.get_content()))
        return texts


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def installation(folder: Path, url: str) -> Site:
    """The samples, collected, at an address."""
    keep = {
        name: value for name, value in os.environ.items() if not name.startswith(("NEWSLETTER_", "SENDGRID_"))
    }
    site = Site(
        url, a_site(folder), {**keep, "NEWSLETTER_BASE_URL": url, "DATABASE_URL": "sqlite:///subscribers.db"}
    )
    site.run("collect", "--now", NOW)
    return site


@contextmanager
def running(site: Site, *words: str, ready: str) -> Iterator[Site]:
    """A command of ours that serves, from when *ready* answers until the test is over."""
    program = Path(sys.executable).with_name("newsletter")
    with (site.folder / f"{words[0]}.log").open("wb") as log:
        process = subprocess.Popen(
            [str(program), *words], cwd=site.folder, env=site.environment, stdout=log, stderr=log
        )
        try:
            for _ in range(150):
                try:
                    urllib.request.urlopen(f"{site.url}{ready}", timeout=2).close()
                    break
                except URLError:
                    time.sleep(0.1)
            yield site
        finally:
            process.terminate()
            process.wait(timeout=15)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """The samples, collected; the pages served by the real command."""
    port = free_port()
    site = installation(tmp_path, f"http://127.0.0.1:{port}")
    with running(site, "serve", "--port", str(port), ready="/readyz"):
        yield site


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The system's Chromium; the tests are left out where there is none."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no Chromium on this machine")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=found, headless=True, args=list(QUIET))
        yield opened
        opened.close()
