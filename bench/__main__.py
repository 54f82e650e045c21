"""
``make bench``: each line is ours against what could be done with nothing around it, interleaved, medians.

Real feeds are used where ``../shared/feeds`` stands beside the checkout, else the samples.
"""

from __future__ import annotations

import io
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import feedparser
import mjml
from rich.console import Console
from rich.progress import track
from rich.table import Table

from newsletter.catalogue import CLASSES, Catalogue, load_catalogue
from newsletter.edition import Snapshot, for_variant
from newsletter.feeds.collect import collect
from newsletter.feeds.stored import load_articles
from newsletter.makeup import make_snapshot
from newsletter.picking.picks import Newslist, pick_articles
from newsletter.rendering.engine import BODY_HTML, BODY_TEXT, Renderer
from newsletter.rendering.plaintext import plain
from newsletter.rendering.proof import proof
from newsletter.settings import Settings
from newsletter.store.session import open_store, reading
from tests.snapshots import a_snapshot

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "feeds"
NOW = datetime(2026, 2, 18, 2, 20, tzinfo=UTC)
ROUNDS = 7


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _pair(
    ours: Callable[[], object], bare: Callable[[], object], rounds: int = ROUNDS
) -> tuple[float, float, float]:
    """Median seconds of both and the median of the ratios, round by round."""
    ours(), bare()
    rows = [
        (_seconds(ours), _seconds(bare))
        for _ in track(range(rounds), transient=True, console=Console(stderr=True))
    ]
    return (
        statistics.median(row[0] for row in rows),
        statistics.median(row[1] for row in rows),
        statistics.median(row[0] / row[1] for row in rows),
    )


def rendering(catalogue: Catalogue) -> tuple[float, float, float]:
    """Nine newsletters × variants, snapshot → HTML + text, against bare Jinja2 + mjml of the same pages."""
    snapshots = [a_snapshot(catalogue, newsletter.slug) for newsletter in catalogue.newsletters]
    renderer = Renderer(catalogue)

    def ours() -> None:
        for snapshot in snapshots:
            renderer.render_all(snapshot)

    unnumbered = {"noted": lambda words, _: words, "linked": plain, "links": lambda: ""}
    pages = [
        (
            renderer._environment(snapshot.newsletter),
            {**renderer._context(for_variant(snapshot, variant), variant), **unnumbered},
        )
        for snapshot in snapshots
        for variant in CLASSES
    ]

    def bare() -> None:
        for environment, context in pages:
            mjml.mjml2html(
                environment.get_template(BODY_HTML).render(context), fonts={}, disable_comments=True
            )
            environment.get_template(BODY_TEXT).render(context)

    return _pair(ours, bare)


def collecting(catalogue: Catalogue) -> tuple[float, float, float]:
    """Collect, database writes included, against bare feedparser over the same files."""
    folder = SHARED if SHARED.is_dir() else ROOT / "samples" / "feeds"
    files = [
        path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.suffix in (".rss", ".rdf", ".atom", ".xml")
    ]

    def ours() -> None:
        with tempfile.TemporaryDirectory() as place:
            engine = open_store(f"sqlite:///{place}/subscribers.db")
            collect(engine, catalogue, [str(folder)], now=NOW, settings=Settings())
            engine.dispose()

    def bare() -> None:
        for data in files:
            feedparser.parse(io.BytesIO(data))

    return _pair(ours, bare, rounds=3)


def making_up(catalogue: Catalogue) -> tuple[float, int]:
    """Seconds for nine newsletters from 300 stored articles: picks, make-up, rendering and proof; and stories."""
    folder = SHARED if SHARED.is_dir() else ROOT / "samples" / "feeds"
    with tempfile.TemporaryDirectory() as place:
        engine = open_store(f"sqlite:///{place}/subscribers.db")
        collect(engine, catalogue, [str(folder)], now=NOW, settings=Settings())
        with reading(engine) as session:
            stored = load_articles(session, since=NOW - timedelta(days=8), until=NOW)
        engine.dispose()
    articles = sorted(stored, key=lambda one: one.published_at, reverse=True)[:300]
    renderer = Renderer(catalogue)
    stories = 0

    def ours() -> None:
        nonlocal stories
        stories = 0
        newslist = Newslist(articles, catalogue.publication)
        for newsletter in catalogue.newsletters:
            since = NOW - timedelta(hours=newsletter.window_hours)
            picks = pick_articles(newsletter, newslist, now=NOW, since=since)
            if not picks.picked:
                continue
            snapshot: Snapshot = make_snapshot(
                newsletter, catalogue.publication, picks, edition_date=NOW.date()
            )
            proof(
                newsletter,
                catalogue.publication,
                snapshot,
                renderer.render_all(snapshot),
                base_url="https://x.example",
                now=NOW,
            )
            stories += snapshot.stories

    ours()
    return statistics.median(_seconds(ours) for _ in range(ROUNDS)), stories


def starting() -> tuple[float, float, float]:
    """``newsletter --help`` against ``python -c "import typer"``, as whole processes."""
    program = "import sys; sys.argv = ['newsletter', '--help']; from newsletter.cli.main import main; main()"

    def run(code: str) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)

    return _pair(run(program), run("import typer"), rounds=15)


def main() -> None:
    """Run all and print one table."""
    catalogue = load_catalogue(ROOT / "templates")
    table = Table("what", "ours", "bare", "ratio", "bound", box=None)
    for name, (ours, bare, ratio), bound in (
        ("nine newsletters × variants, snapshot → HTML + text", rendering(catalogue), "≤ 1.5"),
        ("collect with database writes ÷ feedparser", collecting(catalogue), "≤ 2"),
        ("--help ÷ import typer", starting(), "≤ 2"),
    ):
        table.add_row(name, f"{ours * 1000:.0f} ms", f"{bare * 1000:.0f} ms", f"{ratio:.2f}", bound)
    seconds, stories = making_up(catalogue)
    table.add_row(
        f"nine newsletters from 300 articles, picks and proof included ({stories} stories)",
        f"{seconds * 1000:.0f} ms",
        "",
        "",
        "",
    )
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
