"""
``make bench-web``: the readers' pages under load while an edition is being sent, against a bare route.

Two hundred clients that keep their connections ask one process for one thing: a bare Starlette route that
reads and writes one row of the same SQLite file, our one-click leaving, our preferences. A drain runs all
the time on that file, to a sink that takes a fifth of a second for an answer.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

from rich.console import Console
from rich.table import Table

from bench.delivery import KEYS, NOW, ROOT, SLUG, a_sink, an_edition, fill, rows_of
from newsletter.audience.tokens import Signer
from newsletter.catalogue import Catalogue, load_catalogue
from newsletter.outbox.freeze import freeze
from newsletter.store.session import open_store

CLIENTS = 200
READERS = 200_000
DELAY_MS = 200
ONE_CLICK = b"List-Unsubscribe=One-Click"


@dataclass(frozen=True, slots=True)
class Told:
    """One contestant in one round: requests a second, errors, the slowest of a hundred in milliseconds."""

    per_second: float
    errors: int
    p99_ms: float


async def _client(port: int, requests: Iterator[bytes], seconds: list[float], errors: list[str]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for request in requests:
            began = time.perf_counter()
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            lines = head.lower().split(b"\r\n")
            length = next(
                (line.partition(b":")[2] for line in lines if line.startswith(b"content-length:")), b"0"
            )
            await reader.readexactly(int(length))
            seconds.append(time.perf_counter() - began)
            if not head.startswith(b"HTTP/1.1 200 "):
                errors.append(head.partition(b"\r\n")[0].decode("latin-1"))
    except (OSError, asyncio.IncompleteReadError, ValueError) as error:
        errors.append(repr(error))
    finally:
        writer.close()


def load(port: int, requests: Sequence[bytes]) -> Told:
    """Send *requests*, each once, from all clients together."""
    seconds: list[float] = []
    errors: list[str] = []
    shared = iter(requests)

    async def run() -> float:
        began = time.perf_counter()
        await asyncio.gather(*(_client(port, shared, seconds, errors) for _ in range(CLIENTS)))
        return time.perf_counter() - began

    taken = asyncio.run(run())
    if errors:
        print(f"errors: {sorted(set(errors))[:3]}", file=sys.stderr)
    missing = len(requests) - len(seconds)
    return Told(len(seconds) / taken, len(errors) + missing, statistics.quantiles(seconds, n=100)[98] * 1000)


def post(path: str, body: bytes) -> bytes:
    """A POST as mailbox providers send it."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def get(path: str) -> bytes:
    """A GET."""
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept-Language: en\r\n\r\n".encode()


BARE = """
import sqlite3, sys, threading
import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

kept = threading.local()

def connection():
    if not hasattr(kept, "connection"):
        kept.connection = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)
        for pragma in ("journal_mode = WAL", "synchronous = FULL"):
            kept.connection.execute(f"PRAGMA {pragma}")
    return kept.connection

def leave(request):
    reader = request.path_params["reader"]
    store = connection()
    (number,) = store.execute("SELECT id FROM subscriber WHERE reader = ?", (reader,)).fetchone()
    store.execute("BEGIN IMMEDIATE")
    store.execute("UPDATE subscription SET left_reason = ? WHERE subscriber_id = ?", ("bare", number))
    store.execute("COMMIT")
    return PlainTextResponse("done")

uvicorn.run(Starlette(routes=[Route("/{reader}", leave, methods=["POST"])]), port=int(sys.argv[2]),
            log_level="warning", access_log=False, lifespan="off")
"""


def a_port() -> int:
    """A port that is free now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def serving(command: list[str], port: int, environment: dict[str, str]) -> Iterator[None]:
    """A server in a process of its own, until it answers."""
    process = subprocess.Popen(command, env={**os.environ, **environment}, cwd=ROOT)
    try:
        for _ in range(100):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=2).close()
                break
            except URLError as error:
                if hasattr(error, "code"):  # it answers, if only that there is no such page
                    break
                time.sleep(0.1)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


@contextmanager
def sending(url: str, sink: str, catalogue: Catalogue) -> Iterator[None]:
    """An edition that is being sent meanwhile."""
    engine = open_store(url)
    edition_id = an_edition(engine, catalogue)
    freeze(engine, catalogue[SLUG], catalogue.publication, edition_id, now=NOW, at=NOW, batch_size=1000)
    engine.dispose()
    command = [sys.executable, "-m", "bench.delivery", "--drain", url, sink, str(edition_id)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.stdin.write("go\n")
        process.stdin.flush()
        yield
        if process.poll() is not None:
            print("the send was over before the requests were", file=sys.stderr)
    finally:
        process.kill()
        process.communicate()


def measure(number: int, rounds: int, console: Console) -> dict[str, list[Told]]:
    """All contestants, *rounds* times, interleaved; *number* requests each."""
    catalogue = load_catalogue(ROOT / "templates")
    signer = Signer(KEYS)
    readers = [row[1] for row, _ in rows_of(number * rounds)]
    told: dict[str, list[Told]] = {}
    with tempfile.TemporaryDirectory() as place:
        file = Path(place, "subscribers.db")
        url = f"sqlite:///{file}"
        console.print(f"filling {READERS:,} readers …")
        fill(url, READERS)
        bare, ours = a_port(), a_port()
        environment = {
            "DATABASE_URL": url, "NEWSLETTER_BASE_URL": f"http://127.0.0.1:{ours}",
            "NEWSLETTER_SECRET_KEY": KEYS.signing[0].decode(), "NEWSLETTER_SUPPRESSION_KEY": KEYS.suppression.decode(),
            "NEWSLETTER_SYSTEM_OUTBOX": str(Path(place, "system")), "NEWSLETTER_OUTBOX": str(Path(place, "outbox")),
        }  # fmt: skip
        program = Path(place, "bare.py")
        program.write_text(BARE, encoding="utf-8")
        newsletter = str(Path(sys.executable).with_name("newsletter"))
        with (
            a_sink(DELAY_MS) as sink,
            serving([sys.executable, str(program), str(file), str(bare)], bare, {}),
            serving([newsletter, "serve", "--port", str(ours)], ours, environment),
        ):
            for turn in range(rounds):
                mine = readers[turn * number : (turn + 1) * number]
                contests = {
                    "bare Starlette, one read, one write": (bare, [post(f"/{one}", b"") for one in mine]),
                    "ours, one-click leaving": (
                        ours,
                        [post(f"/u/{signer.unsubscribe(one, SLUG)}", ONE_CLICK) for one in mine],
                    ),
                    "ours, preferences": (
                        ours,
                        [get(f"/preferences/{signer.preferences(one)}") for one in mine],
                    ),
                }
                for name, (port, requests) in contests.items():
                    with sending(url, sink, catalogue):
                        one = load(port, requests)
                    told.setdefault(name, []).append(one)
                    console.print(f"  round {turn + 1}: {name}: {one.per_second:,.0f}/s, {one.errors} errors")
    return told


def main() -> None:
    """Run the contest."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    told = measure(given.requests, given.rounds, Console(stderr=True, highlight=False))
    table = Table("", "requests/s", "of bare", "slowest of a hundred, ms", "errors", box=None)
    bare = [one.per_second for one in told["bare Starlette, one read, one write"]]
    for name, rows in told.items():
        ratio = statistics.median(one.per_second / base for one, base in zip(rows, bare, strict=True))
        table.add_row(
            name, f"{statistics.median(one.per_second for one in rows):,.0f}", f"{ratio:.2f}",
            f"{statistics.median(one.p99_ms for one in rows):,.0f}", str(sum(one.errors for one in rows)),
        )  # fmt: skip
    console = Console(width=110, highlight=False)
    console.print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {CLIENTS} clients"
    )
    console.print(table)


if __name__ == "__main__":
    main()
