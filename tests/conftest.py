"""Fixtures: a fresh database of each kind, and the keys."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import SQLAlchemyError

from newsletter.settings import Keys
from newsletter.store.session import open_store
from tests.approving import collected, opens  # noqa: F401  # fixtures

# Machines are noisy: a property is about what holds, not about how long one example took.
settings.register_profile("newsletter", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("newsletter")


collect_ignore = [] if find_spec("playwright") else ["browser"]
"""The browser tests need the extra of that name: make test-browser."""


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


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """An empty, migrated database: a SQLite file, and a schema of its own on PostgreSQL where one is named."""
    if request.param == "sqlite":
        opened = open_store(f"sqlite:///{tmp_path}/subscribers.db")
        yield opened
        opened.dispose()
        return
    if not POSTGRES:
        pytest.skip("no PostgreSQL: set TEST_POSTGRES_URL")
    schema = f"t{uuid.uuid4().hex[:16]}"
    admin = create_engine(POSTGRES, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE SCHEMA {schema}"))
    opened = open_store(f"{POSTGRES}?options=-csearch_path%3D{schema}")
    yield opened
    opened.dispose()
    with admin.connect() as connection:
        connection.execute(text(f"DROP SCHEMA {schema} CASCADE"))
    admin.dispose()
