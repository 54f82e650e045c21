"""
A whole installation moved from one database to another, proved row by row before it counts.

The source is read in one consistent transaction, the target is written in one: it is complete and
verified, or as empty as before. Memory stays flat: rows pass in chunks.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import (
    JSON,
    Column,
    ColumnElement,
    Connection,
    Engine,
    String,
    Table,
    bindparam,
    collate,
    func,
    insert,
    literal,
    null,
    select,
    update,
)
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import AutoString, SQLModel

from newsletter.edition import EditionStatus
from newsletter.errors import StateError, StoreError
from newsletter.store import tables as _tables  # noqa: F401  # registers the models
from newsletter.times import Clock, system_clock

Progress = Callable[[str, int, int], None]
"""Told (table, rows done, rows in all): from 0 while a table is copied, from 0 again while it is verified."""

_LIVE = timedelta(seconds=60)  # a scheduler beats every 5 s; a younger heartbeat may still be at work
_IN_FLIGHT = "submitting"  # outbox.ledger.BatchState, which lies above this room
_LEASE = "lease"
_HEAVY = frozenset({"article", "edition", "rendering"})  # a row is a whole text: fewer are held at once


@dataclass(frozen=True, slots=True)
class Copied:
    """
    One table, the same on both sides.

    *sha256* is over one line of JSON for each row in primary-key order (text by code point): the values
    in the order of ``tables.py``, then for each nullable JSON column whether it is SQL's NULL.
    Instants are UTC ISO 8601 with microseconds, bytes hex, JSON objects sorted by key.
    """

    table: str
    rows: int
    sha256: str


def copy_store(
    source: Engine,
    target: Engine,
    *,
    progress: Progress | None = None,
    chunk: int = 5000,
    clock: Clock = system_clock,
    while_sending: bool = False,
) -> tuple[Copied, ...]:
    """
    Copy every row of *source* into the empty *target*, verify it there, and only then commit.

    Both are as ``open_store`` gives them, of either kind. Everything is copied, ids included:
    suppression, consent, events, the check value of the suppression key. Only ``lease`` is not: it
    says which process of this machine is the scheduler, and means nothing elsewhere. Tables that are
    not ours are neither read nor written. On PostgreSQL new ids go on after the highest copied one.
    One entry is returned for each table, parents first. At most *chunk* rows are held at once (of
    tables whose rows are whole texts, a fiftieth of that).

    What is written to the source after this began is not copied: stop the scheduler and the
    readers' pages first, and start them on the target. *while_sending*: the copy is a backup, and the
    source goes on.

    Raises:
        StateError: the source has a batch in flight or a scheduler that beat in the last 60 seconds,
            at the beginning or again at the end.
        StoreError: the target is not empty, a row cannot be read or stored, or what was written does
            not read back the same. The target is then as it was.
        ValueError: *chunk* is less than 1.
    """
    if chunk < 1:
        raise ValueError("chunk must be at least 1")
    tell = progress or _silent
    ours = SQLModel.metadata.sorted_tables
    moved = [table for table in ours if table.name != _LEASE]
    told: list[Copied] = []
    with (
        _sentences("Writing the target"),
        target.connect().execution_options(writes=True) as there,
        there.begin(),
    ):
        _refuse_rows(there, ours)
        with _sentences("Reading the source"), _snapshot(source) as here:
            if not while_sending:
                _refuse_while_sending(here, at=clock())
            told.extend(_copy(here, there, table, tell, chunk) for table in moved)
        for table, expected in zip(moved, told, strict=True):
            _verify(there, table, expected, tell, chunk)
        if not while_sending:
            with _sentences("Reading the source"), _snapshot(source) as here:
                _refuse_while_sending(here, at=clock())
        if there.dialect.name == "postgresql":
            _advance_sequences(there, moved)
    return tuple(told)


def _silent(_table: str, _done: int, _total: int) -> None:
    return None


@contextmanager
def _snapshot(engine: Engine) -> Iterator[Connection]:
    """One consistent view; SQLite's is its plain BEGIN (``session._begin_sqlite``) under WAL."""
    with engine.connect() as connection:
        if connection.dialect.name == "postgresql":
            connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        with connection.begin():
            yield connection


@contextmanager
def _sentences(doing: str, *, also: type[Exception] = SQLAlchemyError) -> Iterator[None]:
    """Say what could not be done, without the library's text: that holds rows, and rows hold addresses."""
    try:
        yield
    except (SQLAlchemyError, also) as error:
        cause = getattr(error, "orig", None) or error
        name = getattr(cause, "sqlite_errorname", None) or type(cause).__name__
        raise StoreError(
            f"{doing} failed ({name}); nothing was copied. Check that both databases can be reached, that no "
            "other program is using the target and that its disk is not full, then copy again."
        ) from None


def _refuse_while_sending(connection: Connection, *, at: datetime) -> None:
    batch, edition, lease = (SQLModel.metadata.tables[name] for name in ("batch", "edition", _LEASE))
    editions = (
        select(edition.c.newsletter, edition.c.edition_date, edition.c.revision)
        .order_by(edition.c.edition_date, edition.c.newsletter, edition.c.revision)
        .limit(20)
    )
    in_flight = select(batch.c.edition_id).where(batch.c.state == _IN_FLIGHT)
    flying = connection.execute(editions.where(edition.c.id.in_(in_flight))).all()
    if flying:
        raise StateError(
            f"{_named(flying)}: a batch is being submitted. Let the sending finish (newsletter send SLUG) or "
            "pause it (newsletter pause SLUG) and wait until what is in flight has settled, then copy again."
        )
    beat = connection.execute(select(func.max(lease.c.heartbeat_at))).scalar_one()
    if beat is not None and at - beat < _LIVE:
        sending = connection.execute(
            editions.where(edition.c.status.in_([EditionStatus.APPROVED, EditionStatus.SUBMITTING]))
        ).all()
        due = f" It has yet to send {_named(sending)}." if sending else " No edition is being sent."
        raise StateError(
            "A scheduler is at work on the source: its last sign of life is less than "
            f"{_LIVE.seconds} seconds old.{due} Stop it, which finishes or pauses its sending, wait a minute "
            "and copy again."
        )


def _named(editions: Iterable[Sequence[Any]]) -> str:
    return ", ".join(
        f"{slug} of {day}" + (f" (revision {revision})" if revision > 1 else "")
        for slug, day, revision in editions
    )


def _refuse_rows(there: Connection, tables: Sequence[Table]) -> None:
    if there.dialect.name == "postgresql":
        # Nobody else writes from here to the commit; on SQLite BEGIN IMMEDIATE has seen to it.
        names = ", ".join(there.dialect.identifier_preparer.format_table(table) for table in tables)
        there.exec_driver_sql(f"LOCK TABLE {names} IN SHARE ROW EXCLUSIVE MODE")
    for table in tables:
        if there.execute(select(literal(1)).select_from(table).limit(1)).first() is not None:
            raise StoreError(
                f"The target already has rows in its table {table.name}; nothing was copied. Name a new, empty "
                "database (or drop this one and create it again): two installations cannot be merged."
            )


def _copy(here: Connection, there: Connection, table: Table, tell: Progress, chunk: int) -> Copied:
    """Insert the rows of one table; a reference to the same table is filled in when all its rows are there."""
    total = here.execute(select(func.count()).select_from(table)).scalar_one()
    tell(table.name, 0, total)
    shape = _Shape(table)
    tally = _Tally(shape)
    refuses_nul = there.dialect.name == "postgresql"
    later: list[dict[str, Any]] = []
    with closing(_read(here, shape, chunk)) as chunks:
        for rows in chunks:
            if tally.add(rows) and refuses_nul:
                _refuse_nul(shape, rows)
            values = [shape.parameters(row) for row in rows]
            later.extend(held for row in values if (held := shape.hold_back(row)) is not None)
            with _sentences(f"Writing the table {table.name} of the target"):
                there.execute(insert(table), values)
            tell(table.name, tally.rows, total)
    if later:
        with _sentences(f"Writing the table {table.name} of the target"):
            there.execute(shape.fill_in(), later)
    return tally.copied()


def _verify(there: Connection, table: Table, expected: Copied, tell: Progress, chunk: int) -> None:
    tell(table.name, 0, expected.rows)
    shape = _Shape(table)
    tally = _Tally(shape)
    for rows in _read(there, shape, chunk):
        tally.add(rows)
        tell(table.name, tally.rows, expected.rows)
    found = tally.copied()
    if found != expected:
        raise StoreError(
            f"The table {table.name} does not read back as it was written (source: {expected.rows} rows, "
            f"{expected.sha256[:12]}…; target: {found.rows} rows, {found.sha256[:12]}…); nothing was copied. "
            "Look for triggers or rules that others put on the target, or name a new, empty database."
        )


def _advance_sequences(there: Connection, tables: Sequence[Table]) -> None:
    """Let new ids follow the copied ones. A rollback does not undo this, which does no harm."""
    batch = SQLModel.metadata.tables["batch"]
    for table in tables:
        column = table.autoincrement_column
        if column is None:
            continue
        highest = there.execute(select(func.max(column))).scalar_one() or 0
        if (
            table.name == "subscriber"
        ):  # a frozen batch keeps the id of who was erased: it must not be given again
            highest = max(highest, there.execute(select(func.max(batch.c.hi_id))).scalar_one() or 0)
        if highest:
            sequence = func.pg_get_serial_sequence(table.name, column.name)
            there.execute(select(func.setval(sequence, highest)))


class _Shape:
    """
    How one table is read and written.

    A row as read is its columns and then, for each nullable JSON column, whether it is SQL's NULL: the
    library reads that and JSON's ``null`` as the same ``None``, and a query tells them apart.
    """

    def __init__(self, table: Table) -> None:
        self.table = table
        self.names = tuple(column.name for column in table.columns)
        self.keys = tuple(self.names.index(column.name) for column in table.primary_key)
        self.json = frozenset(i for i, c in enumerate(table.columns) if isinstance(c.type, JSON))
        self.nullable_json = tuple(i for i in sorted(self.json) if table.columns[self.names[i]].nullable)
        self.own = tuple(
            c.name for c in table.columns if any(k.column.table is table for k in c.foreign_keys)
        )

    def parameters(self, row: Sequence[Any]) -> dict[str, Any]:
        """A row as read, as the insert takes it."""
        values = dict(zip(self.names, row, strict=False))
        for index, is_null in zip(self.nullable_json, row[len(self.names) :], strict=True):
            if is_null:
                values[self.names[index]] = null()
        return values

    def hold_back(self, values: dict[str, Any]) -> dict[str, Any] | None:
        """Empty the references to this same table in *values*; return what fills them in, if any."""
        held = {f"own_{name}": values[name] for name in self.own}
        if all(value is None for value in held.values()):
            return None
        values.update(dict.fromkeys(self.own))
        return held | {f"key_{column.name}": values[column.name] for column in self.table.primary_key}

    def fill_in(self) -> Any:
        """The statement for what ``hold_back`` returned."""
        keys = (column == bindparam(f"key_{column.name}") for column in self.table.primary_key)
        return update(self.table).where(*keys).values({name: bindparam(f"own_{name}") for name in self.own})


def _read(connection: Connection, shape: _Shape, chunk: int) -> Generator[Sequence[Sequence[Any]]]:
    """Yield the rows of a table in primary-key order, at most *chunk* at a time, never all at once."""
    table = shape.table
    nulls = [table.columns[shape.names[i]].is_(null()) for i in shape.nullable_json]
    keys = [_sorted(connection, column) for column in table.primary_key]
    held = max(1, chunk // 50) if table.name in _HEAVY else chunk
    with (
        _sentences(f"Reading the table {table.name}", also=ValueError),  # a damaged value
        connection.execute(
            select(*table.columns, *nulls).order_by(*keys), execution_options={"yield_per": held}
        ) as result,
    ):
        yield from result.partitions()


def _sorted(connection: Connection, column: Column[Any]) -> ColumnElement[Any]:
    """By code point on both: PostgreSQL would sort text by the database's language."""
    if connection.dialect.name == "postgresql" and isinstance(column.type, String | AutoString):
        return collate(column, "C")
    return column


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, bytes | memoryview):
        return value.hex()
    raise TypeError(f"{type(value).__name__} has no canonical form")


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=_plain)


class _Tally:
    """The count and the hash of rows as they pass; see ``Copied``."""

    def __init__(self, shape: _Shape) -> None:
        self._shape = shape
        self._hash = hashlib.sha256()
        self.rows = 0

    def add(self, rows: Sequence[Sequence[Any]]) -> bool:
        """Take in the next *rows*; say whether a NUL character may be among them."""
        width = len(self._shape.names)
        encode = _CANONICAL.encode
        lines = "".join(encode([*row[:width], *map(bool, row[width:])]) + "\n" for row in rows)
        self._hash.update(lines.encode("ascii"))
        self.rows += len(rows)
        return "\\u0000" in lines

    def copied(self) -> Copied:
        """What has passed so far."""
        return Copied(self._shape.table.name, self.rows, self._hash.hexdigest())


def _refuse_nul(shape: _Shape, rows: Sequence[Sequence[Any]]) -> None:
    for row in rows:
        for index, name in enumerate(shape.names):
            if index not in shape.json and isinstance(row[index], str) and "\0" in row[index]:
                key = ", ".join(f"{shape.names[i]} {row[i]!r}" for i in shape.keys)
                raise StoreError(
                    f"The table {shape.table.name} has a NUL character in {name} of the row with {key}, which "
                    "PostgreSQL cannot store; nothing was copied. Take it out of the source, then copy again."
                )
