"""The schema: migrations and models agree, an older file is migrated, a newer one is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, text
from sqlalchemy.exc import StatementError
from sqlmodel import SQLModel, select

from newsletter.errors import SettingsError, StoreError
from newsletter.settings import Settings, load_keys
from newsletter.store.searching import is_of_the_schema
from newsletter.store.session import open_store, reading, writing
from newsletter.store.tables import Lease


def test_migrations_make_exactly_the_models(engine: Engine) -> None:
    """What Alembic builds is what tables.py says, on both databases."""
    with engine.connect() as connection:
        ours = {"include_name": lambda name, kind, _parents: kind == "schema" or is_of_the_schema(name)}
        difference = compare_metadata(MigrationContext.configure(connection, opts=ours), SQLModel.metadata)

    assert difference == []


def test_a_fresh_file_is_migrated_and_opening_again_changes_nothing(tmp_path: Path) -> None:
    """Opening is enough; doing it twice is harmless."""
    url = f"sqlite:///{tmp_path}/new.db"

    for _ in range(2):
        engine = open_store(url)
        with reading(engine) as session:
            assert session.exec(select(Lease)).all() == []
        engine.dispose()


def test_a_file_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    """A program never writes into a schema it does not know."""
    url = f"sqlite:///{tmp_path}/newer.db"
    engine = open_store(url)
    with writing(engine) as session:
        session.execute(text("UPDATE alembic_version SET version_num = 'ffff'"))
    engine.dispose()

    with pytest.raises(StoreError, match="written by a newer version"):
        open_store(url)


@pytest.mark.parametrize("url", ["sqlite:////nowhere/at/all/x.db", "nonsense://x", "sqlite:////proc/version"])
def test_a_database_that_cannot_be_opened_is_a_sentence(url: str) -> None:
    """What is wrong and what to do."""
    with pytest.raises(StoreError, match="DATABASE_URL"):
        open_store(url)


def test_instants_come_back_aware_and_naive_ones_never_go_in(engine: Engine) -> None:
    """Every datetime is aware UTC on both databases."""
    moment = datetime(2026, 3, 29, 3, 30, tzinfo=timezone(timedelta(hours=2)))
    with writing(engine) as session:
        session.add(Lease(name="a", owner="x", heartbeat_at=moment))

    with reading(engine) as session:
        found = session.get_one(Lease, "a").heartbeat_at
    assert (found, found.tzinfo) == (moment, UTC)
    with pytest.raises(StatementError, match="naive"), writing(engine) as session:
        session.add(Lease(name="b", owner="x", heartbeat_at=datetime(2026, 1, 1)))  # naive on purpose


def test_keys_are_made_once_beside_the_file_and_private(tmp_path: Path) -> None:
    """On SQLite with maildir the keys are made once, 0600; damaged ones are told."""
    settings = Settings(DATABASE_URL=f"sqlite:///{tmp_path}/subscribers.db")  # type: ignore[call-arg]  # by its variable's name

    first, second = load_keys(settings), load_keys(settings)

    path = tmp_path / "subscribers.keys"
    assert (first.signing, first.suppression) == (second.signing, second.suppression)
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text("only one line\n")
    with pytest.raises(SettingsError, match="damaged"):
        load_keys(settings)


def test_keys_must_be_given_for_postgresql() -> None:
    """Several machines must share them: their absence is refused."""
    with pytest.raises(
        SettingsError, match="NEWSLETTER_SECRET_KEY and NEWSLETTER_SUPPRESSION_KEY must be set"
    ):
        load_keys(Settings(DATABASE_URL="postgresql+psycopg://x@y/z"))  # type: ignore[call-arg]
    with pytest.raises(SettingsError, match="at least 16"):
        load_keys(Settings(NEWSLETTER_SECRET_KEY="short", NEWSLETTER_SUPPRESSION_KEY="short"))  # type: ignore[call-arg]


def test_a_public_address_must_be_https(monkeypatch: pytest.MonkeyPatch) -> None:
    """Links carry tokens: plain http is for this machine only; the message names the variable."""
    from newsletter.settings import load_settings

    monkeypatch.setenv("NEWSLETTER_BASE_URL", "http://mail.example.org")

    with pytest.raises(SettingsError, match=r"NEWSLETTER_BASE_URL.*must be https"):
        load_settings()
