"""
Backup and restore: a whole installation as one SQLite file, taken while everything goes on.

What went out after the backup was taken is not in it. So before a backup becomes an installation again,
whatever may have gone out since is made uncertain, held or accounted for: nobody gets anything twice by it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import CursorResult, Engine, delete, update
from sqlmodel import Session, col, func, select

from newsletter.catalogue import Catalogue
from newsletter.edition import EditionStatus
from newsletter.errors import StoreError
from newsletter.outbox.ledger import BatchState
from newsletter.outbox.reconcile import SINCE as RECONCILED_SINCE
from newsletter.store.copying import Copied, Progress, copy_store
from newsletter.store.session import open_store, reading, writing
from newsletter.store.tables import Batch, EditionRow, Installation, Slot, Subscriber
from newsletter.times import due_dates, iso, parse_instant

_TAKEN_AT = "backup-taken-at"


@dataclass(frozen=True, slots=True)
class Restored:
    """*uncertain* batches and *held* editions may have gone out since *taken_at*; *slots* too, and are not made again."""

    taken_at: datetime
    rows: int
    uncertain: int
    held: int
    slots: int


def back_up(engine: Engine, file: Path, *, keys_file: Path | None, at: datetime, progress: Progress | None = None) -> tuple[Copied, ...]:  # fmt: skip
    """
    Write a backup into *file*, verified row by row, and the keys beside it where they lie in a file.

    Raises:
        StoreError: *file* exists, or what was written does not read back the same; nothing is left then.
    """
    if file.exists():
        raise StoreError(f"{file} exists; name a new file, so that no backup is lost to another.")
    half = file.with_name(f"{file.name}.part")
    _remove(half)
    try:
        target = open_store(f"sqlite:///{half}", named=str(file))
        try:
            copied = copy_store(engine, target, progress=progress, while_sending=True)
            with writing(target) as session:
                session.merge(Installation(name=_TAKEN_AT, value=iso(at) or ""))
            with target.connect() as connection:
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            target.dispose()
        half.chmod(0o600)
        half.rename(file)
    finally:
        _remove(half)
    if keys_file is not None and keys_file.exists():
        _copy_private(keys_file, _keys_beside(file))
    return copied


def restore(
    file: Path, target: Engine, *, keys_file: Path | None, catalogue: Catalogue, at: datetime, progress: Progress | None = None
) -> Restored:  # fmt: skip
    """
    Put a backup into the empty *target*, with whatever may have gone out since made safe first.

    Raises:
        StoreError: *file* is no backup, or *target* is not empty; it is as before then.
    """
    if not file.is_file():
        raise StoreError(f"There is no backup {file}.")
    with tempfile.TemporaryDirectory(prefix="newsletter-restore-") as folder:
        copy = Path(folder) / "backup.db"
        shutil.copy(file, copy)
        try:
            source = open_store(f"sqlite:///{copy}")
        except StoreError as error:
            raise StoreError(
                f"{file} is no database that can be read; give a file of newsletter backup."
            ) from error
        try:
            with reading(source) as session:
                row = session.get(Installation, _TAKEN_AT)
            if row is None:
                raise StoreError(
                    f"{file} was not made by newsletter backup; newsletter db copy takes any database."
                )
            taken_at = parse_instant(row.value)
            with writing(source) as session:
                uncertain, held = _doubt(session, taken_at)
                slots = _account_for(session, catalogue, since=taken_at, at=at)
                # The provider's lists tell who left or bounced since; they are read from the beginning.
                session.execute(
                    delete(Installation).where(col(Installation.name).in_((_TAKEN_AT, RECONCILED_SINCE)))
                )
            copied = copy_store(source, target, progress=progress, while_sending=True)
        finally:
            source.dispose()
    if keys_file is not None and not keys_file.exists() and _keys_beside(file).exists():
        _copy_private(_keys_beside(file), keys_file)
    return Restored(taken_at, sum(one.rows for one in copied), uncertain, held, slots)


def _doubt(session: Session, taken_at: datetime) -> tuple[int, int]:
    """
    Make uncertain what was about to go, and hold what was about to be frozen.

    A batch that had not been tried counts as tried once: an event that names that attempt settles it.
    """
    says = f"Restored from a backup of {iso(taken_at)}: nobody can say whether it went out after that."
    pending = session.execute(
        update(Batch)
        .where(col(Batch.state) == BatchState.PENDING)
        .values(
            state=BatchState.UNCERTAIN, attempt=col(Batch.attempt) + 1, error=says, owner="", lease_until=None
        )
    )
    in_flight = session.execute(
        update(Batch)
        .where(col(Batch.state) == BatchState.SUBMITTING)
        .values(state=BatchState.UNCERTAIN, error=says, owner="", lease_until=None)
    )
    held = session.execute(
        update(EditionRow)
        .where(col(EditionRow.status).in_((EditionStatus.APPROVED, EditionStatus.DRAFT)))
        .values(status=EditionStatus.HELD, reason=says)
    )
    return _rows(pending) + _rows(in_flight), _rows(held)


def _account_for(session: Session, catalogue: Catalogue, *, since: datetime, at: datetime) -> int:
    """Slots between the backup and now were attended by somebody else: they are not made again by themselves."""
    number = 0
    for newsletter in catalogue.newsletters:
        for due in due_dates(
            days=newsletter.schedule.days, at=newsletter.schedule.at, zone=newsletter.zone(catalogue.publication),
            start=since, end=at,
        ):  # fmt: skip
            known = select(Slot.id).where(Slot.newsletter == newsletter.slug, Slot.local_date == due.day)
            if session.exec(known).first() is None:
                reason = f"it was due between the backup of {iso(since)} and its restoring; look whether it went out"
                session.add(
                    Slot(newsletter=newsletter.slug, local_date=due.day, due_at=due.at, state="missed", reason=reason, recorded_at=at)
                )  # fmt: skip
                number += 1
    return number


def readers_of(engine: Engine) -> int:
    """How many subscribers an installation has: what tells an operator that it is the right backup."""
    with reading(engine) as session:
        return session.exec(select(func.count()).select_from(Subscriber)).one()


def _rows(result: object) -> int:
    return result.rowcount if isinstance(result, CursorResult) else 0


def _keys_beside(file: Path) -> Path:
    return file.with_name(f"{file.stem}.keys")


def _copy_private(source: Path, target: Path) -> None:
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(source.read_bytes())


def _remove(half: Path) -> None:
    for name in (half, half.with_name(f"{half.name}-wal"), half.with_name(f"{half.name}-shm")):
        name.unlink(missing_ok=True)
