"""Backups: taken while a send goes on, put back elsewhere, and nobody gets anything twice by it."""

from __future__ import annotations

import stat
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlmodel import select
from typer.testing import CliRunner

from newsletter.backups import back_up, readers_of, restore
from newsletter.cli.main import app
from newsletter.edition import EditionStatus
from newsletter.errors import StoreError
from newsletter.outbox import inbox
from newsletter.outbox.accounts import audit
from newsletter.outbox.drain import Mailing, drain
from newsletter.providers import Envelope
from newsletter.settings import Keys
from newsletter.store.session import open_store, reading
from newsletter.store.tables import Slot
from tests.builders import a_site, the_catalogue
from tests.standin_events import body_of
from tests.test_evidence import readers, taken, told
from tests.test_outbox import (
    NEWSLETTER,
    NOW,
    PUBLICATION,
    Postman,
    a_sender,
    an_edition,
    send_all,
    the_edition,
)

LATER = NOW + timedelta(days=1)


def test_a_backup_during_a_send_mails_nobody_twice(engine: Engine, keys: Keys, tmp_path: Path) -> None:
    """Taken after the second batch of five is claimed: what went later is uncertain, events settle it, books balance."""
    readers(engine, keys, 50)
    edition_id = an_edition(engine)
    file = tmp_path / "backup.db"

    def take(envelope: Envelope) -> None:
        if envelope.batch == "2.1":
            back_up(engine, file, keys_file=None, at=NOW)

    postman = Postman(before=take)
    send_all(engine, postman, edition_id)
    elsewhere = open_store(f"sqlite:///{tmp_path}/elsewhere.db")

    done = restore(file, elsewhere, keys_file=None, catalogue=the_catalogue(), at=NOW + timedelta(minutes=5))

    assert (done.taken_at, done.uncertain, done.held) == (NOW, 4, 0)
    with reading(elsewhere) as session:
        books = audit(session, the_edition(elsewhere, edition_id))
    assert (books.submitted, books.uncertain, books.balanced) == (10, 40, True)
    again = Postman()
    drain(a_sender(elsewhere, again), [Mailing(NEWSLETTER, PUBLICATION, edition_id)], now=LATER)
    assert again.taken == Counter()
    events = [told("delivered", taken(batch * 10 - 1, batch=batch)) for batch in range(2, 6)]
    inbox.append(elsewhere, body_of(events), at=LATER)
    inbox.process(elsewhere, keys, clock=lambda: LATER)
    assert the_edition(elsewhere, edition_id).status == EditionStatus.SUBMITTED
    assert postman.taken == Counter({f"{index:024x}": 1 for index in range(1, 51)})
    elsewhere.dispose()


def test_what_was_approved_is_held_and_slots_are_accounted_for(
    engine: Engine, keys: Keys, tmp_path: Path
) -> None:
    """It may have been frozen and sent since; a scheduler that finds the slot would make it again."""
    readers(engine, keys, 3)
    edition_id = an_edition(engine)
    file = tmp_path / "backup.db"
    back_up(engine, file, keys_file=None, at=NOW)
    elsewhere = open_store(f"sqlite:///{tmp_path}/elsewhere.db")

    done = restore(file, elsewhere, keys_file=None, catalogue=the_catalogue(), at=LATER)

    assert done.held == 1
    assert the_edition(elsewhere, edition_id).status == EditionStatus.HELD
    with reading(elsewhere) as session:
        slots = session.exec(select(Slot)).all()
    assert done.slots == len(slots) > 0 and {slot.state for slot in slots} == {"missed"}
    assert all(NOW < slot.due_at <= LATER for slot in slots)
    assert readers_of(elsewhere) == 3
    elsewhere.dispose()


def test_a_backup_is_never_written_over_and_a_target_must_be_empty(
    engine: Engine, keys: Keys, tmp_path: Path
) -> None:
    """Each refusal is a sentence, and leaves everything as it was."""
    readers(engine, keys, 1)
    file = tmp_path / "backup.db"
    back_up(engine, file, keys_file=None, at=NOW)
    before = file.read_bytes()

    with pytest.raises(StoreError, match="name a new file"):
        back_up(engine, file, keys_file=None, at=NOW)
    with pytest.raises(StoreError, match="empty"):
        restore(file, engine, keys_file=None, catalogue=the_catalogue(), at=NOW)
    with pytest.raises(StoreError, match="no backup"):
        restore(tmp_path / "nothing.db", engine, keys_file=None, catalogue=the_catalogue(), at=NOW)
    (tmp_path / "notes.txt").write_text(
        "no database at all, and long enough to be looked at " * 40, encoding="utf-8"
    )
    with pytest.raises(StoreError, match=r"notes\.txt is no database"):
        restore(tmp_path / "notes.txt", engine, keys_file=None, catalogue=the_catalogue(), at=NOW)
    other = open_store(f"sqlite:///{tmp_path}/other.db")
    other.dispose()
    with pytest.raises(StoreError, match="not made by newsletter backup"):
        restore(tmp_path / "other.db", engine, keys_file=None, catalogue=the_catalogue(), at=NOW)

    assert file.read_bytes() == before
    assert sorted(path.name for path in tmp_path.glob("backup*")) == ["backup.db"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_the_commands_carry_an_installation_with_its_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Backed up here, restored in another folder: the same readers, and old links go on working."""
    here, there = a_site(tmp_path / "here"), a_site(tmp_path / "there")
    monkeypatch.delenv("DATABASE_URL", raising=False)

    def run(folder: Path, *words: str) -> str:
        monkeypatch.chdir(folder)
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, result.output
        return result.stdout

    run(here, "subscribers", "import", "samples/subscribers.csv", "--now", "2026-11-20T04:00:00Z")
    run(here, "backup", str(tmp_path / "kept.db"))

    said = run(there, "restore", str(tmp_path / "kept.db"))

    assert "subscribers" in said and "0 batches are uncertain" in said
    assert (there / "subscribers.keys").read_bytes() == (here / "subscribers.keys").read_bytes()
    assert run(there, "segments", "--json") == run(here, "segments", "--json")
