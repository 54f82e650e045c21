"""Fixtures: a fresh database of each kind, and the keys."""

from __future__ import annotations

import os
import shutil
import threading
import uuid
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from sqlalchemy import Engine, create_engine, inspect, text
from sqlalchemy.exc import SQLAlchemyError

from newsletter.settings import Keys
from newsletter.store.session import open_store
from tests.approving import collected, opens  # noqa: F401  # fixtures

# Machines are noisy: a property is about what holds, not about how long one example took.
settings.register_profile("newsletter", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("newsletter")


collect_ignore = [
    *(
        folder
        for folder, library in (("browser", "playwright"), ("magazine", "weasyprint"))
        if not find_spec(library)
    ),
    *(() if (Path(__file__).parents[1] / ".node" / ".made").is_file() else ("mails",)),
]
"""Tests that need what their make target installs: make test-browser, make test-magazine, make test-mails."""


def _postgres() -> str:
    """The PostgreSQL to test against: the one named, else one that answers here without a password."""
    named = os.environ.get("TEST_POSTGRES_URL", "")
    if named:
        return named
    url = "postgresql+psycopg://postgres@127.0.0.1:5432/test"
    try:
        engine = create_engine(url, connect_args={"connect_timeout": 2})
        with engine.connect():
            return url
    except (SQLAlchemyError, ModuleNotFoundError):
        return ""
    finally:
        engine.dispose()


POSTGRES = _postgres()


@pytest.fixture
def keys() -> Keys:
    """Keys of this test alone."""
    return Keys(signing=(b"a signing key of this test alone",), suppression=b"a suppression key of this test")


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file that was migrated once; tests take copies."""
    path = tmp_path_factory.mktemp("migrated") / "subscribers.db"
    open_store(f"sqlite:///{path}").dispose()
    return path


_SHAPE = text(
    """
    SELECT md5(string_agg(part, ' ' ORDER BY part)) FROM (
        SELECT concat_ws(' ', relname, relkind) AS part, relnamespace AS place FROM pg_class
        UNION ALL SELECT concat_ws(' ', relname, attname, atttypid, attcollation), relnamespace
            FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid WHERE attnum > 0
        UNION ALL SELECT tgname::text, relnamespace
            FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid WHERE NOT tgisinternal
        UNION ALL SELECT proname::text, pronamespace FROM pg_proc
    ) AS parts WHERE place = current_schema()::regnamespace
    """
)
"""What a schema is made of: what a test has changed is seen in it."""


@pytest.fixture(scope="session")
def migrated_schema() -> Iterator[tuple[str, str]]:
    """A schema on PostgreSQL that was migrated once: its URL and its shape. Tests empty it before they begin."""
    if not POSTGRES:
        pytest.skip("no PostgreSQL: set TEST_POSTGRES_URL")
    schema = f"t{uuid.uuid4().hex[:16]}"
    admin = create_engine(POSTGRES, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE SCHEMA {schema}"))
    url = f"{POSTGRES}?options=-csearch_path%3D{schema}"
    opened = open_store(url)
    with opened.connect() as connection:
        shape = connection.execute(_SHAPE).scalar_one()
    opened.dispose()
    yield url, shape
    with admin.connect() as connection:
        connection.execute(text(f"DROP SCHEMA {schema} CASCADE"))
    admin.dispose()


def _emptied(url: str, shape: str) -> Engine:
    """
    Take every row out and start every sequence anew: to truncate or to migrate would cost a second a test.

    A schema whose shape a test has changed is made again.
    """
    engine = create_engine(url)
    with engine.begin() as connection:
        if connection.execute(_SHAPE).scalar_one() == shape:
            # Foreign keys are not looked at: all rows of all tables go.
            tables = sorted(set(inspect(connection).get_table_names()) - {"alembic_version"})
            deletions = [f'DELETE FROM "{table}"' for table in tables]
            connection.exec_driver_sql(
                "; ".join(["SET LOCAL session_replication_role = replica", *deletions])
            )
            connection.exec_driver_sql(
                "SELECT setval(oid::regclass, 1, false) FROM pg_class "
                "WHERE relkind = 'S' AND relnamespace = current_schema()::regnamespace"
            )
        else:
            schema = connection.execute(text("SELECT current_schema()")).scalar_one()
            connection.exec_driver_sql(f"DROP SCHEMA {schema} CASCADE; CREATE SCHEMA {schema}")
    engine.dispose()
    return open_store(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """An empty, migrated database: a SQLite file, and a schema of this process on PostgreSQL where there is one."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("migrated_file"), tmp_path / "subscribers.db")
        opened = open_store(f"sqlite:///{tmp_path}/subscribers.db")
    else:
        opened = _emptied(*request.getfixturevalue("migrated_schema"))
    yield opened
    for thread in threading.enumerate():  # what the webhook put into the inbox is processed behind the answer
        if thread.name == "inbox":
            thread.join(30)
    opened.dispose()
