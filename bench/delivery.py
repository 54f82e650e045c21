"""
``make bench-delivery``: a million readers to a sink on this machine, against the raw limit and the peers.

Every figure of a round is taken one after another, rounds are interleaved, medians are printed. Ours is
freeze and drain together: ids, claims, reading, signing, encoding, posting, settling, FULL commits.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
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
from urllib.request import urlopen

from rich.console import Console
from rich.table import Table
from sqlalchemy import Engine, text
from sqlmodel import select

from newsletter.audience.tokens import Signer
from newsletter.catalogue import Catalogue, load_catalogue
from newsletter.outbox.accounts import audit
from newsletter.outbox.drain import Mailing, Sender, drain
from newsletter.outbox.freeze import freeze
from newsletter.providers import Recipient
from newsletter.providers.sendgrid import SendGrid, encode
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
ROUNDS = 5


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
            index, f"{dice.getrandbits(96):024x}", email, email, f"{index:032x}", name, "en", "FR", "Europe/Paris", plan,
            None, "active", "{}", at, at, None,
        )  # fmt: skip
        yield subscriber, (index, SLUG, "active", at, "import", "", None, None, None, "")


SUBSCRIBER = "id,reader,email,email_key,address_hash,name,language,country,timezone,plan,plan_until,status,attributes,joined_at,updated_at,engaged_at"
SUBSCRIPTION = "subscriber_id,newsletter,state,since,consent_source,consent_words,consented_at,confirmed_at,left_at,left_reason"


def fill(url: str, number: int) -> None:
    """Put *number* readers and a suppression list of one in fifty into the database."""
    engine = open_store(url)
    lost = [(f"{index:032x}", "all", "bounced", "", "2026-01-01 00:00:00.000000") for index in range(50, number + 1, 50)]
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
                for table, columns, which in (("subscriber", SUBSCRIBER, 0), ("subscription", SUBSCRIPTION, 1)):
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
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print("ready", flush=True)
    sys.stdin.readline()
    began = time.perf_counter()
    drain(sender, [Mailing(catalogue[SLUG], catalogue.publication, edition_id)], now=NOW)
    ended = time.perf_counter()
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    engine.dispose()
    return {"seconds": ended - began, "grown_mb": (after - before) / 1024, "cpu": time.process_time()}


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
    began = time.perf_counter()
    for process in running:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    told = [json.loads(process.communicate()[0]) for process in running]
    draining = time.perf_counter() - began
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


if __name__ == "__main__":
    if sys.argv[1] == "--drain":
        print(json.dumps(one_drain(sys.argv[2], sys.argv[3], int(sys.argv[4]))))
    elif sys.argv[1] == "--fill":
        fill(sys.argv[2], int(sys.argv[3]))
    elif sys.argv[1] == "--ours":
        c = load_catalogue(ROOT / "templates")
        print(ours(sys.argv[2], sys.argv[3], c, processes=int(sys.argv[4])))
