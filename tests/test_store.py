"""The schema: migrations and models agree, an older file is migrated, a newer one is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, text
from sqlalchemy.exc import StatementError
from sqlmodel import SQLModel, col, select

from newsletter.errors import SettingsError, StoreError
from newsletter.settings import Settings, load_keys
from newsletter.store import migrations
from newsletter.store.searching import is_of_the_schema
from newsletter.store.session import open_store, reading, writing
from newsletter.store.tables import Batch, Lease, ReaderException


def test_migrations_make_exactly_the_models(engine: Engine) -> None:
    """What Alembic builds is what tables.py says, on both databases."""
    with engine.connect() as connection:
        ours = {"include_name": lambda name, kind, _parents: kind == "schema" or is_of_the_schema(name)}
        difference = compare_metadata(MigrationContext.configure(connection, opts=ours), SQLModel.metadata)

        made = connection.dialect.name == "sqlite" and {
            name
            for name, sql in connection.execute(
                text("SELECT name, sql FROM sqlite_master WHERE type = 'table'")
            )
            if "AUTOINCREMENT" in sql
        }

    assert difference == []
    assert made in (
        False,
        {"subscriber", "inbox"},
    )  # ids are never given twice; not compared, and lost by a copy


def test_a_full_file_of_an_older_version_is_migrated(tmp_path: Path) -> None:
    """Rows that point to a table which is made anew stay, and point to it still."""
    url = f"sqlite:///{tmp_path}/older.db"
    older = open_store(url, migrate=False)
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    with older.execution_options(writes=True).begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0010")
        for row in OLDER_ROWS:
            connection.execute(text(row))
    older.dispose()

    engine = open_store(url)

    with reading(engine) as session:
        batch, apart = session.exec(
            select(Batch, ReaderException).join(
                ReaderException, col(ReaderException.batch_id) == col(Batch.id)
            )
        ).one()
        assert (batch.n, batch.variant, apart.reason) == (2, "free", "left")
        assert session.exec(text("PRAGMA foreign_keys")).scalar_one() == 1  # type: ignore[call-overload]
        assert session.exec(text("PRAGMA foreign_key_list(exception)")).all()  # type: ignore[call-overload]
    engine.dispose()


OLDER_ROWS = (
    "INSERT INTO edition (id, newsletter, edition_date, revision, status, reason, findings, template_hash, content_hash, "
    "link_scope, made_at, approved_by, audience, despite) VALUES (1, 'today', '2026-11-20', 1, 'submitted', '', '[]', '', "
    "'', '', '2026-11-20 04:00:00.000000', '', 2, '[]')",
    "INSERT INTO rendering (edition_id, variant, subject, html, text, preheader) VALUES (1, 'free', 's', x'', x'', '')",
    "INSERT INTO batch (id, edition_id, seq, variant, trailing, ids, lo_id, hi_id, n, state, attempt, owner, rank, "
    "reservation, given_up, doubled_n, provider_id, skipped_n, failed_n, moved_n, error, changed_at) VALUES (1, 1, 1, "
    "'free', 0, x'', 1, 2, 2, 'submitted', 1, '', 0, '', 0, 0, '', 1, 0, 0, '', '2026-11-20 04:00:00.000000')",
    "INSERT INTO exception (batch_id, subscriber_id, edition_id, verdict, reason, recorded_at) VALUES (1, 2, 1, 'skipped', "
    "'left', '2026-11-20 04:00:00.000000')",
)


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
