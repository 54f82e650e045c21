"""
A million events of one edition: ours, from the request to what follows, against bare orjson + executemany.

``python -m bench.events [--events N] [--rounds N] [--alone]``: both sides are whole processes that write into a
fresh, migrated SQLite file with the same readers, one transaction a request, both at the same time, so that a busy machine
is as busy for both; medians are printed, and the seconds of the processor, which neighbours change least.
Meanwhile (but with ``--alone``) another process sends editions from that very file, as many commits a second as a
send at full speed makes: four batches in flight to a sink that takes a fifth of a second.
A fifth of the events comes twice, half of that under another id, one in a hundred is rubbish, all are shuffled.
The bare side parses, takes nine values and inserts; it hashes no address, takes none out of the rest, changes
no reader, suppresses nobody and writes no inbox. Then the numbers are compared with a plain count.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
NOW = datetime(2026, 11, 20, 4, 0, tzinfo=UTC)
EDITION = "today.2026-11-20.1"
A_REQUEST = 1000
A_BATCH, DELAY_MS = 100, 200
"""Of the send meanwhile: small batches, so that it lasts, and twenty commits a second."""
KEY = b"a suppression key of this bench"
PERSON = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:140.0) Gecko/20100101 Firefox/140.0"

BARE = """
import sqlite3, sys, orjson
INSERT = "INSERT OR IGNORE INTO event (event_id,address_hash,kind,edition,batch,reader,occurred_at,received_at,link,client,is_machine,raw) VALUES (?,?,?,?,?,?,?,?,?,'',0,?)"
connection = sqlite3.connect(sys.argv[2], isolation_level=None, timeout=60)
connection.execute("PRAGMA journal_mode=WAL"); connection.execute("PRAGMA synchronous=FULL")
now = "2026-11-20 04:00:00.000000"
with open(sys.argv[1], "rb") as file:
    for line in file:
        rows = [
            (one.get("sg_event_id"), one.get("email"), one.get("event"), one.get("nl_edition"), one.get("nl_batch"), one.get("nl_reader"), str(one.get("timestamp")), now, one.get("url") or "", orjson.dumps(one))
            for one in orjson.loads(line) if isinstance(one, dict) and "sg_event_id" in one
        ]
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(INSERT, rows)
        connection.execute("COMMIT")
"""


def events(number: int, dice: random.Random) -> Iterator[Any]:
    """Events of an edition to a third as many readers: delivered, opened, clicked, and what goes wrong."""
    for index in range(number):
        reader = index // 3 + 1
        kind = ("delivered", "open", "click" if dice.random() < 0.3 else "processed")[index % 3]
        if dice.random() < 0.005:
            kind = dice.choice(("bounce", "spamreport", "unsubscribe"))
        made: dict[str, Any] = {
            "email": f"reader{reader}@example.org", "timestamp": int(NOW.timestamp()) + dice.randrange(20_000), "event": kind,
            "sg_event_id": f"ZXZlbnQ{dice.getrandbits(96):024x}", "sg_message_id": f"bWVzc2FnZQ.recvd-5d7f-{reader}",
            "category": ["today", "free"], "nl_edition": EDITION, "nl_batch": f"{reader // 1000 + 1}.1",
            "nl_reader": f"{reader:024x}",
        }  # fmt: skip
        if kind in ("open", "click"):
            made |= {"useragent": PERSON if dice.random() < 0.7 else "Mozilla/5.0", "ip": "198.51.100.9"}
        if kind == "click":
            made["url"] = f"https://news.example/story/{dice.randrange(12)}?utm_source=today"
        if kind in ("delivered", "processed"):
            made |= {"smtp-id": f"<{reader}.filter@ismtpd>", "response": "250 2.0.0 OK queued", "tls": 1}
        yield made


def write_requests(path: Path, number: int) -> dict[str, int]:
    """Write requests, a line each; return the plain count of readers by kind."""
    dice = random.Random(8)
    came = list(events(int(number / 1.21), dice))
    expected: dict[str, set[str]] = defaultdict(set)
    for one in came:
        expected[one["event"]].add(one["nl_reader"])
    for place, one in enumerate(dice.choices(came, k=int(len(came) * 0.2))):
        came.append({**one, "sg_event_id": f"other{place}"} if place % 2 else one)
    came += [
        dice.choice((None, 7, "x", {"event": "new"}, {"timestamp": "never"})) for _ in range(len(came) // 100)
    ]
    dice.shuffle(came)
    with path.open("w", encoding="utf-8") as file:
        for start in range(0, len(came), A_REQUEST):
            file.write(json.dumps(came[start : start + A_REQUEST], separators=(",", ":")) + "\n")
    return {kind: len(readers) for kind, readers in expected.items()}


def fill(database: str, readers: int) -> None:
    """A fresh store with the edition's readers."""
    from sqlalchemy import text

    from newsletter.audience.addresses import address_hash
    from newsletter.store.bulk import insert_rows
    from newsletter.store.session import open_store, writing
    from newsletter.store.tables import Subscriber, Subscription

    engine = open_store(f"sqlite:///{database}")
    names = (
        "id", "reader", "email", "email_key", "address_hash", "name", "language", "country", "timezone", "plan", "status",
        "attributes", "joined_at", "updated_at", "pending_email", "deliver_at",
    )  # fmt: skip
    with writing(engine) as session:
        rows = [
            (one, f"{one:024x}", f"reader{one}@example.org", f"reader{one}@example.org",
             address_hash(KEY, f"reader{one}@example.org"), "", "en", "FR", "", "free", "active", {}, NOW, NOW, "", "")
            for one in range(1, readers + 1)
        ]  # fmt: skip
        insert_rows(session.connection(), Subscriber.__table__, names, rows)  # type: ignore[attr-defined]
        connection = session.connection()
        subscribed = [(one, "today", "active", NOW, "", "", "") for one in range(1, readers + 1)]
        insert_rows(
            connection, Subscription.__table__,  # type: ignore[attr-defined]
            ("subscriber_id", "newsletter", "state", "since", "consent_source", "consent_words", "left_reason"), subscribed,
        )  # fmt: skip
        session.execute(text("INSERT INTO edition (id, newsletter, edition_date, revision, status, reason, findings, template_hash, content_hash, link_scope, made_at, approved_by, audience, despite) VALUES (1, 'today', '2026-11-20', 1, 'submitted', '', '[]', '', '', '', '2026-11-20 04:00:00.000000', '', 0, '[]')"))  # fmt: skip
    engine.dispose()


def take(path: str, database: str) -> None:
    """Ours, in a process of its own: every request into the inbox, then all of them processed."""
    import structlog

    from newsletter.outbox.inbox import append, process
    from newsletter.settings import Keys
    from newsletter.store.session import open_store

    structlog.configure(processors=[lambda *_: (_ for _ in ()).throw(structlog.DropEvent)])
    engine = open_store(f"sqlite:///{database}")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.perf_counter()
    with Path(path).open("rb") as file:
        for line in file:
            append(engine, line, at=NOW)
    taken = time.perf_counter()
    process(engine, Keys(signing=(b"k" * 32,), suppression=KEY), clock=lambda: NOW)
    done = time.perf_counter()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(json.dumps({"intake": taken - begun, "processing": done - taken, "grown_mb": grown}))


def send(database: str, sink: str) -> None:
    """In a process of its own, until it is killed: one edition after another to all readers."""
    from bench.delivery import an_edition, one_drain
    from newsletter.catalogue import load_catalogue
    from newsletter.outbox.freeze import freeze
    from newsletter.store.session import open_store

    url, catalogue = f"sqlite:///{database}", load_catalogue(ROOT / "templates")
    while True:
        engine = open_store(url)
        edition = an_edition(engine, catalogue)
        freeze(
            engine, catalogue["today"], catalogue.publication, edition, now=NOW, at=NOW, batch_size=A_BATCH
        )
        engine.dispose()
        one_drain(url, sink, edition)


@contextmanager
def sending(database: Path, sink: str) -> Iterator[list[int]]:
    """Editions go out from *database* meanwhile; afterwards the list holds how many readers were submitted."""
    submitted: list[int] = []
    if not sink:
        yield submitted
        return
    command = [sys.executable, "-m", "bench.events", "--send", str(database), sink]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    try:
        _wait_for(database, process)
        yield submitted
        assert process.poll() is None, "the send did not go on"
    finally:
        process.kill()
        process.communicate()
    submitted.append(_submitted(database))


def _wait_for(database: Path, process: subprocess.Popen[str]) -> None:
    """Until the first batch is settled."""
    assert process.stdin is not None
    process.stdin.write("go\n" * 100)
    process.stdin.flush()
    while not _submitted(database):
        assert process.poll() is None, "the send did not begin"
        time.sleep(0.2)


def _submitted(database: Path) -> int:
    connection = sqlite3.connect(database, timeout=60)
    try:
        (number,) = connection.execute(
            "SELECT coalesce(sum(n), 0) FROM batch WHERE state = 'submitted'"
        ).fetchone()
    finally:
        connection.close()
    return int(number)


def count(database: str) -> tuple[dict[str, int], float]:
    """Our numbers of the edition, and the seconds they took."""
    from newsletter.reports.counting import edition_numbers
    from newsletter.store.session import open_store, reading

    engine = open_store(f"sqlite:///{database}")
    begun = time.perf_counter()
    with reading(engine) as session:
        told = edition_numbers(session, "today", date(2026, 11, 20))
    seconds = time.perf_counter() - begun
    engine.dispose()
    assert told is not None
    total = told.total
    return {
        "delivered": total.delivered, "open": total.opened + total.opened_by_program,
        "click": total.clicked + total.clicked_by_program, "bounce": total.bounced, "spamreport": total.complained,
        "unsubscribe": total.unsubscribed,
    }, seconds  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the rounds, print the table; 1 if the numbers are not those of the plain count."""
    parser = argparse.ArgumentParser(description="Events: ours against bare orjson + executemany.")
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--take", nargs=2, metavar=("REQUESTS", "DATABASE"), help=argparse.SUPPRESS)
    parser.add_argument("--send", nargs=2, metavar=("DATABASE", "SINK"), help=argparse.SUPPRESS)
    parser.add_argument("--alone", action="store_true", help="without a send meanwhile")
    given = parser.parse_args(arguments)
    if given.take:
        take(*given.take)
        return 0
    if given.send:
        send(*given.send)
    from bench.delivery import a_sink

    ours: list[dict[str, float]] = []
    bare: list[dict[str, float]] = []
    mailed: list[float] = []
    with (
        tempfile.TemporaryDirectory(prefix="newsletter-events-") as folder,
        nullcontext("") if given.alone else a_sink(DELAY_MS) as sink,
    ):
        requests, empty = Path(folder) / "requests.jsonl", Path(folder) / "empty.db"
        expected = write_requests(requests, given.events)
        fill(str(empty), given.events // 3 + 1)
        for turn in range(given.rounds):
            theirs, database = Path(folder) / "bare.db", Path(folder) / "ours.db"
            for one in (theirs, database):
                _remove(one)
                one.write_bytes(empty.read_bytes())
            begun = time.perf_counter()
            with sending(theirs, sink), sending(database, sink) as submitted:
                started = time.perf_counter()
                simple = subprocess.Popen([sys.executable, "-c", BARE, str(requests), str(theirs)])
                whole = subprocess.Popen(
                    [sys.executable, "-m", "bench.events", "--take", str(requests), str(database)],
                    stdout=subprocess.PIPE, text=True, cwd=ROOT,
                )  # fmt: skip
                simple_cpu = _cpu(simple)
                bare.append({"seconds": time.perf_counter() - started, "cpu": simple_cpu})
                assert whole.stdout is not None
                ours.append({**json.loads(whole.stdout.read()), "cpu": _cpu(whole)})
            mailed += [number / (time.perf_counter() - begun) for number in submitted]
            spent = ours[-1]["intake"] + ours[-1]["processing"]
            print(
                f"round {turn + 1}: bare {bare[-1]['seconds']:.1f} s ({bare[-1]['cpu']:.1f} s of processor), "
                f"ours {spent:.1f} s ({ours[-1]['cpu']:.1f})", flush=True,
            )  # fmt: skip
        counted, seconds = count(str(Path(folder) / "ours.db"))
    intake = statistics.median(one["intake"] for one in ours)
    processing = statistics.median(one["processing"] for one in ours)
    plain = statistics.median(one["seconds"] for one in bare)
    plain_cpu, cpu = (statistics.median(one["cpu"] for one in side) for side in (bare, ours))
    table = Table("what", "seconds", "events/s", "of bare", "memory")
    table.add_row("bare orjson + executemany", f"{plain:.1f}", f"{given.events / plain:,.0f}", "1.00", "")
    table.add_row(
        "ours: into the inbox", f"{intake:.1f}", f"{given.events / intake:,.0f}", f"{plain / intake:.2f}", ""
    )
    grown = f"+{max(one['grown_mb'] for one in ours):.0f} MB"
    table.add_row(
        "ours: processed",
        f"{processing:.1f}",
        f"{given.events / processing:,.0f}",
        f"{plain / processing:.2f}",
        "",
    )
    whole = intake + processing
    table.add_row("ours: both", f"{whole:.1f}", f"{given.events / whole:,.0f}", f"{plain / whole:.2f}", grown)
    table.add_row("processor: bare", f"{plain_cpu:.1f}", "", "1.00", "")
    table.add_row("processor: ours", f"{cpu:.1f}", "", f"{plain_cpu / cpu:.2f}", "")
    table.add_row("ours: every number of the edition", f"{seconds:.1f}", "", "", "")
    Console().print(table)
    if mailed:
        print(f"sent meanwhile: {statistics.median(mailed):,.0f} readers/s")
    same = all(counted[kind] == expected.get(kind, 0) for kind in counted)
    print(f"numbers equal to the plain count: {'yes' if same else f'NO: {counted} instead of {expected}'}")
    return 0 if same else 1


def _cpu(process: subprocess.Popen[Any]) -> float:
    """Wait for *process*; the seconds of the processor it took."""
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return used.ru_utime + used.ru_stime


def _remove(database: Path) -> None:
    for name in (database, Path(f"{database}-wal"), Path(f"{database}-shm")):
        name.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
