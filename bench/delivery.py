"""
``make bench-delivery``: a million readers to a sink on this machine, against the raw limit and the peers.

Every figure of a round is taken one after another, rounds are interleaved, medians are printed. Ours is
freeze and drain together: ids, claims, reading, signing, encoding, posting, settling, FULL commits.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import select

from bench import peers
from newsletter.audience.tokens import Signer
from newsletter.catalogue import Catalogue, load_catalogue
from newsletter.edition import PERSONAL_TAGS
from newsletter.outbox.accounts import audit
from newsletter.outbox.drain import Mailing, Sender, drain
from newsletter.outbox.envelopes import envelope_of
from newsletter.outbox.freeze import freeze
from newsletter.providers import Recipients
from newsletter.providers.sendgrid import SendGrid
from newsletter.providers.sendgrid_payload import encode
from newsletter.rendering.engine import Renderer
from newsletter.settings import Keys
from newsletter.store.session import open_store, reading, writing
from newsletter.store.tables import EditionRow, Rendering
from newsletter.times import system_clock
from tests.snapshots import a_snapshot

ROOT = Path(__file__).resolve().parents[1]
NOW = datetime(2026, 11, 20, 4, 0, tzinfo=UTC)
SLUG = "today"
KEYS = Keys(signing=(b"a signing key of the benchmark only",), suppression=b"a suppression key, too")
IN_FLIGHT = 4
TAGS = tuple(PERSONAL_TAGS.values())
POSTGRES = "postgresql+psycopg://postgres@127.0.0.1:5432/test"


def rows_of(number: int) -> Iterator[tuple[tuple[Any, ...], tuple[Any, ...]]]:
    """Subscribers and their subscriptions, the same for the same *number*."""
    dice = random.Random(20261124)
    names = ("Ada", "Béla", "Chidi", "Đorđe", "Eleni", "Fatima", "", "Hélène", "Ines", "João")
    at = "2026-01-01 00:00:00.000000"
    for index in range(1, number + 1):
        email = f"reader{index}@mail{index % 50}.example.org"
        plan = dice.choices(("free", "annual"), (4, 1))[0]
        name = f"{names[index % 10]} {index}".strip()
        subscriber = (
            index, f"{dice.getrandbits(96):024x}", email, email, hashlib.blake2b(b"%d" % index, digest_size=16).hexdigest(), name, "en", "FR", "Europe/Paris", plan,
            None, "active", "{}", at, at, None, "", None, "",
        )  # fmt: skip
        yield subscriber, (index, SLUG, "active", at, "import", "", None, None, None, "")


SUBSCRIBER = "id,reader,email,email_key,address_hash,name,language,country,timezone,plan,plan_until,status,attributes,joined_at,updated_at,engaged_at,pending_email,paused_until,deliver_at"
SUBSCRIPTION = "subscriber_id,newsletter,state,since,consent_source,consent_words,consented_at,confirmed_at,left_at,left_reason"


def fill(url: str, number: int) -> None:
    """Put *number* readers and a suppression list of one in fifty into the database."""
    engine = open_store(url)
    lost = [
        (
            hashlib.blake2b(b"%d" % index, digest_size=16).hexdigest(),
            "all",
            "bounced",
            "",
            "2026-01-01 00:00:00.000000",
        )
        for index in range(50, number + 1, 50)
    ]
    if url.startswith("sqlite"):
        connection = sqlite3.connect(url.removeprefix("sqlite:///"))
        for table, columns, which in (("subscriber", SUBSCRIBER, 0), ("subscription", SUBSCRIPTION, 1)):
            marks = ",".join("?" * (columns.count(",") + 1))
            rows = (row[which] for row in rows_of(number))
            connection.executemany(f"INSERT INTO {table} ({columns}) VALUES ({marks})", rows)
        connection.executemany("INSERT INTO suppression VALUES (?,?,?,?,?)", lost)
        connection.commit()
        connection.execute("ANALYZE")
        connection.close()
    else:
        with engine.connect() as connection:
            raw: Any = connection.connection.driver_connection
            with raw.cursor() as cursor:
                for table, columns, which in (
                    ("subscriber", SUBSCRIBER, 0),
                    ("subscription", SUBSCRIPTION, 1),
                ):
                    with cursor.copy(f"COPY {table} ({columns}) FROM STDIN") as copy:
                        for row in rows_of(number):
                            copy.write_row(row[which])
                cursor.executemany("INSERT INTO suppression VALUES (%s,%s,%s,%s,%s)", lost)
            raw.commit()
            raw.autocommit = True
            with raw.cursor() as cursor:
                cursor.execute("VACUUM ANALYZE")
    engine.dispose()


def an_edition(engine: Engine, catalogue: Catalogue) -> int:
    """An approved edition of a fresh date with the real bytes of the sample; returns its id."""
    renderings = Renderer(catalogue).render_all(a_snapshot(catalogue, SLUG))
    with writing(engine) as session:
        days = session.exec(select(EditionRow.edition_date)).all()
        day = max(days, default=date(2026, 11, 20)) + timedelta(days=1)
        row = EditionRow(newsletter=SLUG, edition_date=day, status="approved", made_at=NOW, findings=[])
        session.add(row)
        session.flush()
        for one in renderings:
            session.add(
                Rendering(
                    edition_id=row.id or 0, variant=one.variant, subject=one.subject,
                    html=zlib.compress(one.html.encode()), text=zlib.compress(one.text.encode()),
                )
            )  # fmt: skip
        return row.id or 0


def freeze_it(url: str, catalogue: Catalogue) -> tuple[int, float]:
    """A fresh edition, frozen; its id and the seconds the freeze took."""
    engine = open_store(url)
    edition_id = an_edition(engine, catalogue)
    began = time.perf_counter()
    freeze(engine, catalogue[SLUG], catalogue.publication, edition_id, now=NOW, at=NOW, batch_size=1000)
    taken = time.perf_counter() - began
    engine.dispose()
    return edition_id, taken


def one_drain(url: str, sink: str, edition_id: int) -> dict[str, float]:
    """In a process of its own: drain, and say how long it took and how much memory it grew."""
    catalogue = load_catalogue(ROOT / "templates")
    engine = open_store(url)
    provider = SendGrid("SG.bench", host=sink)
    sender = Sender(
        engine=engine, provider=provider, signer=Signer(KEYS), base_url="https://mail.example.org",
        in_flight=IN_FLIGHT, clock=system_clock,
    )  # fmt: skip
    before = _memory_mb("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins anew here
    print("ready", flush=True)
    sys.stdin.readline()
    began = time.perf_counter()
    drain(sender, [Mailing(catalogue[SLUG], catalogue.publication, edition_id)], now=NOW)
    ended = time.perf_counter()
    grown = _memory_mb("VmHWM") - before
    engine.dispose()
    return {"seconds": ended - began, "grown_mb": grown}


def _memory_mb(name: str) -> float:
    line = next(one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith(name))
    return int(line.split()[1]) / 1024


def ours(url: str, sink: str, catalogue: Catalogue, *, processes: int) -> dict[str, float]:
    """Freeze, then drain with *processes* at once; seconds are from the first start to the last end."""
    edition_id, freezing = freeze_it(url, catalogue)
    command = [sys.executable, "-m", "bench.delivery", "--drain", url, sink, str(edition_id)]
    running = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        for _ in range(processes)
    ]
    for process in running:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in running:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    told = [json.loads(process.communicate()[0]) for process in running]
    draining = max(one["seconds"] for one in told)
    engine = open_store(url)
    with reading(engine) as session:
        balance = audit(session, session.get_one(EditionRow, edition_id))
    engine.dispose()
    assert balance.balanced and balance.submitted == balance.audience, balance
    return {
        "seconds": freezing + draining, "freeze": freezing, "drain": draining, "readers": balance.submitted,
        "grown_mb": max(one["grown_mb"] for one in told),
    }  # fmt: skip


@contextmanager
def a_sink(delay_ms: int = 0) -> Iterator[str]:
    """The sink, compiled and listening, *delay_ms* for an answer; its address."""
    with tempfile.TemporaryDirectory() as place:
        program = Path(place, "sink")
        subprocess.run(["gcc", "-O2", "-o", str(program), str(ROOT / "bench" / "sink.c")], check=True)
        process = subprocess.Popen([str(program), "0", str(delay_ms)], stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{process.stdout.readline().split()[1]}"
        finally:
            process.terminate()
            process.wait()


@contextmanager
def a_postgres(named: str) -> Iterator[str]:
    """A schema of its own; dropped at the end. '' when there is no PostgreSQL."""
    try:
        admin = create_engine(named, isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.execute(text("DROP SCHEMA IF EXISTS bench_delivery CASCADE"))
            connection.execute(text("CREATE SCHEMA bench_delivery"))
    except (SQLAlchemyError, ModuleNotFoundError):
        yield ""
        return
    try:
        yield f"{named}?options=-csearch_path%3Dbench_delivery"
    finally:
        with admin.connect() as connection:
            connection.execute(text("DROP SCHEMA bench_delivery CASCADE"))
        admin.dispose()


def ready_bodies(catalogue: Catalogue, number: int = 20) -> list[bytes]:
    """Whole requests of a thousand readers, as ours makes them: what the raw limit replays."""
    rendered = Renderer(catalogue).render_all(a_snapshot(catalogue, SLUG))[0]
    people = [row for row, _ in rows_of(number * 1000)]
    signer, bodies = Signer(KEYS), []
    for at in range(0, len(people), 1000):
        part = people[at : at + 1000]
        links = signer.links("https://mail.example.org", SLUG, NOW.date(), "".join(row[1] for row in part))
        readers = Recipients(
            "".join(r[1] for r in part), [r[2] for r in part], [r[5] for r in part], TAGS, links
        )
        row = EditionRow(newsletter=SLUG, edition_date=NOW.date(), made_at=NOW)
        envelope = envelope_of(
            catalogue[SLUG], catalogue.publication, row, (rendered.subject, rendered.html, rendered.text), "free",
            sender=catalogue.publication.sender, batch="1.1", recipients=readers,
        )  # fmt: skip
        bodies.append(b"".join(encode(envelope, sandbox=False)))
    return bodies


def measure(number: int, rounds: int, postgres: str, console: Console) -> dict[str, list[dict[str, float]]]:
    """All contestants, *rounds* times, interleaved; what each told, by name."""
    catalogue = load_catalogue(ROOT / "templates")
    rendered = Renderer(catalogue).render_all(a_snapshot(catalogue, SLUG))[0]
    told: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as place, a_sink() as sink, a_postgres(postgres) as server:
        sqlite = f"sqlite:///{place}/subscribers.db"
        console.print(f"filling {number:,} readers …")
        fill(sqlite, number)
        if server:
            fill(server, number)
        bodies = ready_bodies(catalogue)
        peer = {
            "database": Path(place, "subscribers.db"),
            "html": rendered.html,
            "text": rendered.text,
            "subject": rendered.subject,
        }

        def by_seconds(seconds: float, readers: int) -> dict[str, float]:
            return {"seconds": seconds, "readers": readers}

        some, few = min(number, 20_000), min(number, 1_000)
        contestants: dict[str, Callable[[], dict[str, float]]] = {
            "raw replay of ready bodies": lambda: by_seconds(peers.raw(sink, bodies, max(1, number // 20_000)), number),
            "ours, SQLite, 1 process": lambda: ours(sqlite, sink, catalogue, processes=1),
            "ours, SQLite, 2 processes": lambda: ours(sqlite, sink, catalogue, processes=2),
            **({
                "ours, PostgreSQL, 1 worker": lambda: ours(server, sink, catalogue, processes=1),
                "ours, PostgreSQL, 2 workers": lambda: ours(server, sink, catalogue, processes=2),
            } if server else {}),
            "django-anymail, SendGrid backend": lambda: by_seconds(peers.anymail(sink, number=some, **peer), some),
            "sendgrid-python helpers + ORM rows": lambda: by_seconds(peers.helpers(sink, number=some, **peer), some),
            "one request a reader": lambda: by_seconds(peers.one_per_reader(sink, number=few, **peer), few),
        }  # fmt: skip
        for turn in range(rounds):
            for name, work in contestants.items():
                row = work()
                told.setdefault(name, []).append(row)
                console.print(f"  round {turn + 1}: {name}: {row['readers'] / row['seconds']:,.0f} readers/s")
    return told


def report(number: int, told: dict[str, list[dict[str, float]]], console: Console) -> None:
    """Medians, and ratios taken round by round."""
    table = Table(
        "",
        "readers/s",
        "of raw",
        "× as fast as",
        "freeze s/M",
        "memory MB",
        title=f"{number:,} readers",
        box=None,
    )
    speeds = {name: [row["readers"] / row["seconds"] for row in rows] for name, rows in told.items()}
    ours_, raw_ = speeds["ours, SQLite, 1 process"], speeds["raw replay of ready bodies"]
    for name, rows in told.items():
        mine = speeds[name]
        of_raw = statistics.median(a / b for a, b in zip(mine, raw_, strict=True))
        times = statistics.median(a / b for a, b in zip(ours_, mine, strict=True))
        freezes = [row["freeze"] / row["readers"] * 1e6 for row in rows if "freeze" in row]
        grown = [row["grown_mb"] for row in rows if "grown_mb" in row]
        table.add_row(
            name, f"{statistics.median(mine):,.0f}", f"{of_raw:.3f}", f"{times:.2f}",
            f"{statistics.median(freezes):.2f}" if freezes else "", f"{max(grown):.0f}" if grown else "",
        )  # fmt: skip
    console.print(table)


def main() -> None:
    """Run the contest."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--readers", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--postgres", default=os.environ.get("TEST_POSTGRES_URL", POSTGRES))
    parser.add_argument("--drain", nargs=3, metavar=("URL", "SINK", "EDITION"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.drain:
        url, sink, edition = given.drain
        print(json.dumps(one_drain(url, sink, int(edition))))
        return
    progress, console = Console(stderr=True, highlight=False), Console(width=120, highlight=False)
    results = [(number, measure(number, given.rounds, given.postgres, progress)) for number in given.readers]
    console.print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    for number, told in results:
        report(number, told, console)


if __name__ == "__main__":
    main()
