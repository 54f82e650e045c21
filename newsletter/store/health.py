"""
How the database is: its version, how it writes, who holds it up, and whether its clock is ours.

Each look is (what, severity, sentence); severity is ok, warning or error.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import psutil
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import OperationalError
from sqlmodel import func, select

from newsletter.store.session import reading
from newsletter.store.tables import Batch

CLOCK_OFF = timedelta(minutes=2)
LARGE_WAL_BYTES = 1_000_000_000

_OLDEST_SQLITE, _OLDEST_POSTGRES = (3, 35), 13
"""RETURNING came with SQLite 3.35; PostgreSQL 13 was cared for until November 2025."""

_HELD_MS = 2_000
_OVER_THE_NETWORK = ("nfs", "cifs", "smb", "fuse.sshfs", "9p")

Look = tuple[str, str, str]


def health(engine: Engine, *, at: datetime) -> Iterator[Look]:
    """Everything that can be seen without changing anything; *at* is now, by our clock."""
    yield from of_database(engine)
    off = clock_off(engine, at)
    if abs(off) > CLOCK_OFF:
        where = "behind" if off > timedelta() else "ahead of"
        yield (
            "clock", "error",
            f"This machine's clock is {abs(off.total_seconds()):.0f} s {where} the database's: let both take their time from the network (timedatectl).",
        )  # fmt: skip
    else:
        yield "clock", "ok", "The database has our time."


def of_database(engine: Engine) -> Iterator[Look]:
    """All but the clock."""
    if engine.dialect.name == "postgresql":
        with engine.connect() as connection:
            yield from _postgres(connection)
    else:
        yield from _sqlite(engine)


def clock_off(engine: Engine, at: datetime) -> timedelta:
    """How far the database's clock is ahead of ours; on SQLite how far something we wrote lies in the future."""
    with reading(engine) as session:
        if engine.dialect.name == "postgresql":
            now: datetime = session.execute(text("SELECT clock_timestamp()")).scalar_one()
            return now - at
        latest = session.exec(select(func.max(Batch.changed_at))).one()
    return max(latest - at, timedelta()) if latest else timedelta()


def wal_bytes(engine: Engine) -> int:
    """How large the log beside a SQLite file is; 0 elsewhere."""
    wal = Path(f"{engine.url.database}-wal")
    return wal.stat().st_size if engine.dialect.name == "sqlite" and wal.exists() else 0


def _sqlite(engine: Engine) -> Iterator[Look]:
    with engine.connect() as connection:
        version = connection.exec_driver_sql("SELECT sqlite_version()").scalar_one()
        mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()
    if tuple(int(part) for part in version.split(".")[:2]) < _OLDEST_SQLITE:
        yield (
            "database-version",
            "error",
            f"SQLite {version} is too old: 3.35 or newer is needed, with Python.",
        )
    else:
        yield "database-version", "ok", f"SQLite {version}."
    kind = _file_system(Path(engine.url.database or "").absolute())
    if mode != "wal" or kind.startswith(_OVER_THE_NETWORK):
        yield (
            "database-log", "error",
            f"The file is written in the mode {mode} on {kind or 'memory'}: two processes can spoil it. Put it on a disk of this machine, or take PostgreSQL.",
        )  # fmt: skip
    elif (size := wal_bytes(engine)) > LARGE_WAL_BYTES:
        yield (
            "database-log", "warning",
            f"The log beside the file has {size // 1_000_000} MB: a process reads without end. Stop reports and backups that hang.",
        )  # fmt: skip
    else:
        yield "database-log", "ok", "Written ahead (WAL), flushed at every commit."
    yield _can_write(engine)


def _can_write(engine: Engine) -> Look:
    with engine.connect() as connection:
        driver = connection.connection.driver_connection
        before = connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one()
        connection.rollback()
        assert driver is not None
        driver.execute(f"PRAGMA busy_timeout = {_HELD_MS}")
        try:
            driver.execute("BEGIN IMMEDIATE")
            driver.execute("ROLLBACK")
        except Exception as error:  # the driver's own, not the library's
            return (
                "database-locks", "warning",
                f"Nobody else could write for {_HELD_MS // 1000} s ({error}): which process holds it? lsof {engine.url.database}",
            )  # fmt: skip
        finally:
            driver.execute(f"PRAGMA busy_timeout = {before}")
    return "database-locks", "ok", "It can be written at once."


def _file_system(path: Path) -> str:
    mounts = [one for one in psutil.disk_partitions(all=True) if path.is_relative_to(one.mountpoint)]
    return max(mounts, key=lambda one: len(one.mountpoint)).fstype if mounts else ""


def _postgres(connection: Connection) -> Iterator[Look]:
    def told(query: str) -> object:
        return connection.execute(text(query)).scalar_one()

    number = int(str(told("SHOW server_version_num"))) // 10_000
    if number < _OLDEST_POSTGRES:
        yield "database-version", "error", f"PostgreSQL {number} is too old: 13 or newer is needed."
    else:
        yield "database-version", "ok", f"PostgreSQL {number}."
    unsafe = [name for name in ("fsync", "synchronous_commit") if told(f"SHOW {name}") == "off"]
    if unsafe:
        yield (
            "database-log", "error",
            f"{' and '.join(unsafe)} is off: a claim can be lost in a power cut, and its batch would go twice. Set it on.",
        )  # fmt: skip
    else:
        yield "database-log", "ok", "Flushed at every commit."
    try:
        waiting = told("SELECT count(*) FROM pg_locks WHERE NOT granted")
        forgotten = told(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
            "AND state LIKE 'idle in transaction%' AND state_change < now() - interval '5 minutes'"
        )
    except OperationalError as error:
        yield "database-locks", "warning", f"Its locks cannot be looked at ({type(error).__name__})."
        return
    if waiting or forgotten:
        yield (
            "database-locks", "warning",
            f"{waiting} locks are waited for, {forgotten} transactions were left open for 5 minutes: look into pg_stat_activity.",
        )  # fmt: skip
    else:
        yield "database-locks", "ok", "Nobody waits for a lock."
