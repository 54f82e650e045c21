"""
``make bench-preview``: a file is saved while the preview runs; when does an editor see the new bytes?

Fifty edits, ten of each kind, on nine newsletters × variants with 300 articles. Seen: in the frames of a
page in Chromium, looked at in every animation frame. Beside it, in the same run and between the edits, a
bare re-render of what changed: the same pages through Jinja2 and mjml with nothing around them.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.error import URLError

import mjml
from playwright.sync_api import Page, sync_playwright
from rich.console import Console
from rich.progress import track
from rich.table import Table
from sqlalchemy import delete
from sqlmodel import col, select

from newsletter.desk import Desk
from newsletter.edition import for_variant
from newsletter.rendering.engine import BODY_HTML, BODY_TEXT
from newsletter.settings import Settings
from newsletter.store.session import reading, writing
from newsletter.store.tables import ArticleRow
from newsletter.times import iso
from tests.browser.conftest import QUIET, free_port
from tests.builders import a_site

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "feeds"
HAS_FIELD = SHARED.is_dir()
NOW = datetime(2026, 2, 18, 2, 20, tzinfo=UTC) if HAS_FIELD else datetime(2026, 11, 20, 4, 0, tzinfo=UTC)
ARTICLES = 300
EDITS = 50
SLUG = "today"
BOUND_MS, BOUND_RATIO = 500, 3.0

_HOLDS = """mark => {
  const frames = [...document.querySelectorAll('.holder iframe:not(.coming)')];
  return frames.length > 1 && frames.every(one => one.contentDocument?.documentElement?.innerHTML.includes(mark));
}"""


@dataclass(frozen=True)
class Kind:
    """A kind of edit: in the file *path*, *old* is followed by a mark; *touches* one newsletter or all."""

    name: str
    path: str
    old: str
    touches: str


KINDS = (
    Kind("a shared block", "templates/_shared/blocks/lead.mjml.j2", "{{ kicker(item) }}", "all"),
    Kind("a template", f"templates/{SLUG}/masthead.mjml.j2", "{{ newsletter.tagline }}", SLUG),
    Kind("newsletter.toml", f"templates/{SLUG}/newsletter.toml", 'sign_off = "', SLUG),
    Kind("words", f"samples/words/{{day}}/{SLUG}.md", 'greeting = "', SLUG),
)


class Site:
    """A fresh installation with articles, its preview running, and what a bare re-render of it takes."""

    def __init__(self, folder: Path) -> None:
        self.folder = a_site(folder)
        os.chdir(folder)
        self.url = f"http://127.0.0.1:{free_port()}"
        self.desk = Desk.open(Settings(base_url=self.url))
        self.desk.collect([str(SHARED)] if HAS_FIELD else None, now=NOW)
        self.articles = self._keep_newest()
        self.day = self.desk.edition_date(self.desk.catalogue[SLUG], NOW)
        words = folder / "samples" / "words" / f"{self.day}" / f"{SLUG}.md"
        words.parent.mkdir(parents=True, exist_ok=True)
        words.write_text('+++\ngreeting = "Good morning."\n+++\n')
        self.paths = {kind: folder / kind.path.format(day=self.day) for kind in KINDS}
        self.firsts = {kind: path.read_text() for kind, path in self.paths.items()}
        renderer = self.desk.renderer
        self.pages = [
            (
                newsletter.slug,
                renderer._environment(newsletter.slug),
                renderer._context(for_variant(snapshot, one), one),
            )
            for newsletter in self.desk.catalogue.newsletters
            if (snapshot := self.desk.draft(newsletter, self.day, now=NOW)[1]) is not None
            for one in snapshot.variants
        ]

    def _keep_newest(self) -> int:
        with reading(self.desk.engine) as session:
            newest = session.exec(
                select(ArticleRow.id)
                .where(col(ArticleRow.published_at) <= NOW)
                .order_by(col(ArticleRow.published_at).desc(), col(ArticleRow.id))
                .limit(ARTICLES)
            ).all()
        with writing(self.desk.engine) as session:
            session.execute(delete(ArticleRow).where(col(ArticleRow.id).not_in(newest)))
        return len(newest)

    def save(self, kind: Kind, mark: str) -> None:
        """Write a file as an editor's program does: beside it, then into its place."""
        text = self.firsts[kind]
        if kind.old not in text:
            raise SystemExit(f"bench/preview.py: {kind.old!r} is not in {kind.path} any more")
        aside = self.paths[kind].with_suffix(".saved")
        aside.write_text(text.replace(kind.old, f"{kind.old}{mark} ", 1))
        aside.replace(self.paths[kind])

    def bare(self, kind: Kind) -> float:
        """Seconds of Jinja2 and mjml alone for the pages that *kind* changes."""
        began = time.perf_counter()
        for slug, environment, context in self.pages:
            if kind.touches in ("all", slug):
                mjml.mjml2html(
                    environment.get_template(BODY_HTML).render(context), fonts={}, disable_comments=True
                )
                environment.get_template(BODY_TEXT).render(context)
        return time.perf_counter() - began

    @contextmanager
    def previewing(self) -> Iterator[None]:
        """``newsletter preview`` as an editor starts it, at rest."""
        program = Path(sys.executable).with_name("newsletter")
        port = self.url.rpartition(":")[2]
        running = subprocess.Popen(
            [str(program), "preview", "--no-open", "--port", port, "--now", iso(NOW)],
            cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={**os.environ, "NEWSLETTER_BASE_URL": self.url},
        )  # fmt: skip
        try:
            for _ in range(300):
                time.sleep(0.1)
                try:
                    urllib.request.urlopen(f"{self.url}/state/{SLUG}", timeout=2).close()
                    break
                except URLError:
                    continue
            yield
        finally:
            running.terminate()
            running.wait(timeout=15)


def _served(site: Site, mark: str, began: float) -> float:
    """Seconds until the stable address of a variant has the new bytes."""
    address = f"{site.url}/{SLUG}/paying.html"
    while True:
        with urllib.request.urlopen(address, timeout=10) as answer:
            if mark.encode() in answer.read():
                return time.perf_counter() - began
        if time.perf_counter() - began > 20:
            raise SystemExit(f"bench/preview.py: {mark} was never served")


def _seen(page: Page, mark: str, began: float) -> float:
    """Seconds until both frames of the page, phone and desktop, hold the new bytes."""
    page.wait_for_function(_HOLDS, arg=mark, polling="raf", timeout=20_000)
    return time.perf_counter() - began


def main() -> None:
    """Run all and print one table."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        raise SystemExit("make bench-preview needs Chromium: install the package chromium.")
    console = Console(width=120)
    seen: dict[Kind, list[float]] = {kind: [] for kind in KINDS}
    served: dict[Kind, list[float]] = {kind: [] for kind in KINDS}
    bare: dict[Kind, list[float]] = {kind: [] for kind in KINDS}
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        site = Site(Path(place))
        with site.previewing():
            browser = playwright.chromium.launch(executable_path=chromium, headless=True, args=list(QUIET))
            page = browser.new_page(viewport={"width": 1500, "height": 1000}, bypass_csp=True)
            page.goto(f"{site.url}/{SLUG}?variant=paying")
            page.wait_for_selector(".holder iframe:not(.coming)")
            for kind in KINDS:
                site.bare(kind)
            for turn in track(range(-len(KINDS), EDITS), console=Console(stderr=True), transient=True):
                kind = KINDS[turn % len(KINDS)]
                for times, wait in ((seen, _seen), (served, _served)):
                    mark = f"edit{turn + len(KINDS)}{wait.__name__}"
                    time.sleep(
                        0.2
                    )  # the last save's findings are there: an editor does not save in their middle
                    began = time.perf_counter()
                    site.save(kind, mark)
                    took = wait(page, mark, began) if wait is _seen else _served(site, mark, began)
                    if turn >= 0:  # the first of each kind warms both
                        times[kind].append(took)
                again = site.bare(kind)
                if turn >= 0:
                    bare[kind].append(again)
            browser.close()

    table = Table(
        "an edit of",
        "edits",
        "seen, median",
        "seen, p95",
        "served, median",
        "bare re-render",
        "served ÷ bare",
        box=None,
    )
    for kind in (*KINDS, None):
        one, two, three = (
            times[kind] if kind else [took for each in KINDS for took in times[each]]
            for times in (seen, served, bare)
        )
        ratio = statistics.median(ours / theirs for ours, theirs in zip(two, three, strict=True))
        table.add_row(
            kind.name if kind else "all", str(len(one)), f"{statistics.median(one) * 1000:.0f} ms",
            f"{statistics.quantiles(one, n=20)[-1] * 1000:.0f} ms" + ("" if kind else f" (≤ {BOUND_MS})"),
            f"{statistics.median(two) * 1000:.0f} ms", f"{statistics.median(three) * 1000:.0f} ms",
            f"{ratio:.1f}" + ("" if kind else f" (≤ {BOUND_RATIO:.0f})"),
        )  # fmt: skip
    console.print(f"{site.articles} articles, {len(site.pages)} variants")
    console.print(table)


if __name__ == "__main__":
    main()
