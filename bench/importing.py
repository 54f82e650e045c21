"""
Import of a list: ours, with full validation, against bare csv + executemany of the same rows into the same tables.

``python -m bench.importing [--rows N] [--rounds N] [--url postgresql+psycopg://…]``: both sides are
whole processes that write into a fresh, migrated SQLite file; rounds alternate; medians are printed. The
bare side validates nothing, makes the keys it must make as cheaply as it can, and commits once. With
``--url`` ours is run once more on an empty schema there.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from newsletter.store.session import open_store

ROOT = Path(__file__).resolve().parents[1]
SLUGS = ("economy", "faultlines", "letter", "pictures", "planet", "society", "today", "weekend")
PLACES = (
    ("en", "GB", "Europe/London"), ("fr", "FR", "Europe/Paris"), ("de", "DE", "Europe/Berlin"), ("es", "MX", "America/Mexico_City"),
    ("ar", "EG", "Africa/Cairo"), ("pt", "BR", "America/Sao_Paulo"), ("en", "US", "America/New_York"), ("it", "IT", "Europe/Rome"),
)  # fmt: skip

BARE = """
import csv, secrets, sqlite3, sys
SUBSCRIBER = "INSERT INTO subscriber (reader,email,email_key,address_hash,name,language,country,timezone,plan,status,attributes,joined_at,updated_at,pending_email,deliver_at) VALUES (?,?,?,?,?,?,?,?,?,?,'{}',?,?,'','')"
SUBSCRIPTION = "INSERT INTO subscription (subscriber_id,newsletter,state,since,consent_source,consent_words,consented_at,confirmed_at,left_at,left_reason) VALUES (?,?,'active',?,?,'listed by the publisher in the imported file',?,?,NULL,'')"
now = "2026-11-20 04:00:00.000000"
connection = sqlite3.connect(sys.argv[2], isolation_level=None)
connection.execute("BEGIN")
with open(sys.argv[1], encoding="utf-8", newline="") as file:
    people, slugs, number = [], [], 0
    reader = csv.reader(file)
    next(reader)
    def flush():
        connection.executemany(SUBSCRIBER, people)
        connection.executemany(SUBSCRIPTION, slugs)
        people.clear(); slugs.clear()
    for email, name, plan, newsletters, language, country, zone, status in reader:
        number += 1
        people.append((secrets.token_hex(12), email, email, secrets.token_hex(16), name, language, country, zone, plan, status, now, now))
        for slug in newsletters.split("|"):
            slugs.append((number, slug, now, "import list.csv", now, now))
        if len(people) == 5000:
            flush()
    flush()
connection.execute("COMMIT")
"""


@dataclass(frozen=True, slots=True)
class Run:
    """What one process took."""

    seconds: float
    peak_mb: float
    output: str


def write_list(path: Path, rows: int) -> None:
    """A list of *rows* invented readers, always the same, in our plain shape; two to three newsletters each."""
    chance = random.Random(4)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["email", "name", "plan", "newsletters", "language", "country", "timezone", "status"])
        for number in range(rows):
            language, country, zone = chance.choice(PLACES)
            first, last = (
                chance.choice(("ann", "jose", "marta", "li", "omar")),
                chance.choice(("lee", "diaz", "roe", "weber")),
            )
            slugs = "|".join(chance.sample(SLUGS, chance.choice((1, 2, 2, 3, 4))))
            email = (
                f"{first}.{last}{chance.randrange(1 << 40):x}.{number}@mail{chance.randrange(400)}.example"
            )
            writer.writerow(
                [
                    email,
                    f"{first} {last}".title(),
                    chance.choice(("free",) * 8 + ("monthly", "annual")),
                    slugs,
                    language,
                    country,
                    zone,
                    "active",
                ]
            )


def run(command: Sequence[str], environment: dict[str, str]) -> Run:
    """A whole process: wall time, its own peak of resident memory, and what it printed."""
    began = time.perf_counter()
    process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command[0]} ended with {process.returncode}")
    return Run(time.perf_counter() - began, _megabytes(usage), output)


def _megabytes(usage: resource.struct_rusage) -> float:
    return usage.ru_maxrss / 1024


def ours(path: Path, url: str, *options: str) -> Run:
    """``newsletter subscribers import``, as an operator gives it."""
    program = "from newsletter.cli.main import main; main()"
    environment = {
        **os.environ, "DATABASE_URL": url, "NEWSLETTER_TEMPLATES": str(ROOT / "templates"), "NEWSLETTER_PROVIDER": "maildir",
        "NEWSLETTER_SECRET_KEY": "a key of the bench alone", "NEWSLETTER_SUPPRESSION_KEY": "another key of the bench",
    }  # fmt: skip
    return run(
        [sys.executable, "-c", program, "subscribers", "import", str(path), "--json", *options], environment
    )


def a_database(folder: Path, name: str) -> Path:
    """A fresh, migrated SQLite file."""
    path = folder / f"{name}.db"
    open_store(f"sqlite:///{path}").dispose()
    return path


def main() -> None:
    """Run both sides in turn and print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument(
        "--url", default="", help="an empty PostgreSQL database (or schema) to import into as well"
    )
    given = parser.parse_args()
    table = Table("what", "rows/s", "seconds", "peak RSS, MB", box=None)
    sides: dict[str, list[Run]] = {
        "bare csv + executemany": [],
        "ours": [],
        "ours, the same file again": [],
        "ours, dry run": [],
    }
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        path = folder / "list.csv"
        write_list(path, given.rows)
        for number in range(given.rounds):
            bare = a_database(folder, f"bare{number}")
            sides["bare csv + executemany"].append(
                run([sys.executable, "-c", BARE, str(path), str(bare)], dict(os.environ))
            )
            bare.unlink()
            mine = a_database(folder, f"ours{number}")
            url = f"sqlite:///{mine}"
            if number == 0:
                sides["ours, dry run"].append(ours(path, url, "--dry-run"))
            first = ours(path, url)
            assert json.loads(first.output)["added"] == given.rows, first.output
            sides["ours"].append(first)
            if number == 0:
                again = ours(path, url)
                assert json.loads(again.output)["unchanged"] == given.rows, again.output
                sides["ours, the same file again"].append(again)
            mine.unlink()
        if given.url:
            sides["ours, PostgreSQL"] = [ours(path, given.url)]
            sides["ours, PostgreSQL, again"] = [ours(path, given.url)]
    for name, runs in sides.items():
        seconds = statistics.median(one.seconds for one in runs)
        table.add_row(
            name, f"{given.rows / seconds:,.0f}", f"{seconds:.1f}", f"{max(one.peak_mb for one in runs):.0f}"
        )
    Console(width=100).print(table)
    pairs = zip(sides["bare csv + executemany"], sides["ours"], strict=True)
    ratio = statistics.median(bare.seconds / mine.seconds for bare, mine in pairs)
    peak = max(one.peak_mb for one in sides["ours"])
    print(f"ours is {ratio:.2f} of bare's speed (bound: ≥ 0.2); peak {peak:.0f} MB (bound: ≤ 150)")


if __name__ == "__main__":
    main()
