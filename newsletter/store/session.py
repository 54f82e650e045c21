"""
Connections and transactions, the same words for SQLite and PostgreSQL.

``writing`` opens a transaction that may change rows: on SQLite it takes the write lock at once
(``BEGIN IMMEDIATE``), so that a read followed by a write can never fail half-way with a stale
snapshot. ``reading`` never takes that lock.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session

from newsletter.errors import StoreError

_BUSY_TIMEOUT_MS = 30_000
_ONE_AT_A_TIME = threading.Lock()


def open_store(url: str, *, migrate: bool = True, named: str = "DATABASE_URL") -> Engine:
    """
    Open the database at *url* and bring its schema up to date; *named* is where whoever mends it finds the address.

    Raises:
        StoreError: it cannot be opened, migrated, or was written by a newer version.
    """
    try:
        engine = create_engine(url, **_options(url))
    except (SQLAlchemyError, ModuleNotFoundError, ValueError) as error:
        raise StoreError(
            f"{named} cannot be used ({type(error).__name__}); write sqlite:///subscribers.db "
            "or postgresql+psycopg://user@host/database (with the [postgres] extra installed)."
        ) from error
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    if migrate:
        try:
            with _ONE_AT_A_TIME:  # Alembic keeps its context in a global
                _migrate(engine)
        except (SQLAlchemyError, OSError) as error:
            raise StoreError(
                f"The database cannot be opened or migrated: {_reason(error)}. Check {named}, "
                "that its folder is writable and that the disk is not full."
            ) from error
    return engine


def _reason(error: BaseException) -> str:
    return str(getattr(error, "orig", None) or error).splitlines()[0]


def in_words(error: SQLAlchemyError) -> str:
    """What a failing database means for an operator. The text of the error itself may hold addresses."""
    origin = getattr(error, "orig", None)
    reason = str(origin).splitlines()[0] if origin is not None and str(origin) else type(error).__name__
    return (
        f"The database cannot be used ({reason}). Nothing goes out without a committed claim, and nothing is lost: "
        "mend the disk, its permissions or the connection, then run the same command again."
    )


@contextmanager
def spoken() -> Iterator[None]:
    """
    Turn a failing database into a sentence.

    Raises:
        StoreError: instead of the library's error.
    """
    try:
        yield
    except SQLAlchemyError as error:
        raise StoreError(in_words(error)) from error


def _options(url: str) -> dict[str, Any]:
    if url.startswith("sqlite"):
        return {"connect_args": {"timeout": _BUSY_TIMEOUT_MS / 1000, "check_same_thread": False}}
    return {"pool_pre_ping": True, "pool_size": 20}


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # we begin transactions ourselves, see _begin_sqlite
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")  # a claim must outlive a power cut: DELIVERY §1e
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextmanager
def writing(engine: Engine) -> Iterator[Session]:
    """Open a transaction that may change rows; commits at the end, rolls back on an error."""
    with Session(_for_writing(engine), expire_on_commit=False) as session, session.begin():
        yield session


@contextmanager
def changing(engine: Engine) -> Iterator[Connection]:
    """``writing`` without the ORM, where a request has time for statements only."""
    with _for_writing(engine).begin() as connection:
        yield connection


@lru_cache(maxsize=4)
def _for_writing(engine: Engine) -> Engine:
    return engine.execution_options(writes=True)


@contextmanager
def reading(engine: Engine) -> Iterator[Session]:
    """Open a transaction that only reads."""
    with Session(engine, expire_on_commit=False) as session:
        yield session


def answers(engine: Engine) -> bool:
    """Whether the database answers a question."""
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
    except SQLAlchemyError:
        return False
    return True


def is_current(engine: Engine) -> bool:
    """Whether the schema is the newest this program knows, neither older nor newer."""
    from alembic.runtime.migration import MigrationContext

    try:
        with engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision() == _newest()
    except SQLAlchemyError:
        return False


@lru_cache(maxsize=1)
def _newest() -> str | None:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    return ScriptDirectory.from_config(config).get_current_head()


def _migrate(engine: Engine) -> None:
    """Bring the schema to the newest revision; cheap when it is there already."""
    from alembic import command
    from alembic.config import Config
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    with _for_migrating(engine) as connection:
        if engine.dialect.name == "postgresql":
            # Two processes may start at once: only one migrates, the others wait and find it done.
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(719203417)")
        current = MigrationContext.configure(connection).get_current_revision()
        script = ScriptDirectory.from_config(config)
        if current == script.get_current_head():
            return
        if current is not None and current not in {revision.revision for revision in script.walk_revisions()}:
            raise StoreError(
                f"The database was written by a newer version (schema {current}); update this program."
            )
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        if engine.dialect.name == "sqlite" and connection.exec_driver_sql("PRAGMA foreign_key_check").first():
            raise StoreError("The database could not be migrated: rows would point nowhere. It is as it was.")


@contextmanager
def _for_migrating(engine: Engine) -> Iterator[Connection]:
    """
    A transaction in which tables may be made anew.

    SQLite changes a table by copying and dropping it, which rows that point to it forbid; whether they must
    point somewhere can only be switched outside of a transaction.
    """
    with _for_writing(engine).connect() as connection:
        driver: Any = connection.connection.driver_connection
        is_sqlite = engine.dialect.name == "sqlite"
        if is_sqlite:
            driver.execute("PRAGMA foreign_keys = OFF")
        try:
            with connection.begin():
                yield connection
        finally:
            if is_sqlite:
                driver.execute("PRAGMA foreign_keys = ON")
