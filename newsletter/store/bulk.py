"""
Rows by the thousand: look-ups, new ids and inserts, and where SQLite and PostgreSQL differ in them.

Everything here runs in the transaction of the connection it is given.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Connection,
    Select,
    Table,
    Text,
    bindparam,
    cast,
    func,
    select,
)
from sqlalchemy.exc import IntegrityError

from newsletter.store.tables import Subscriber

_CACHE_KB = 16_384  # SQLite's 2 MB hold too little of four indexes that are filled at random
_IMPORT_LOCK = 719203418
_EVENTS_LOCK = 719203419


def make_ready(connection: Connection) -> None:
    """Let writers of many rows take turns, and give SQLite room for its indexes."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_IMPORT_LOCK})")
    else:
        connection.exec_driver_sql(f"PRAGMA cache_size = -{_CACHE_KB}")


def take_turns_with_events(connection: Connection) -> None:
    """Let writers of events wait for each other until the commit, so that what is not there stays so; SQLite's do."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_EVENTS_LOCK})")


def among(connection: Connection, column: Any, values: Collection[Any]) -> ColumnElement[bool]:
    """
    Whether *column* is one of *values* (texts or ids), of which there may be many thousands.

    One bound value, so the statement is the same for any number: an array, or JSON on SQLite.
    """
    if connection.dialect.name == "postgresql":
        kind = BigInteger if column.type.python_type is int else Text
        return column == func.any(cast(bindparam(None, list(values), type_=ARRAY(kind)), ARRAY(kind)))  # type: ignore[no-any-return]
    listed = func.json_each(
        bindparam(None, json.dumps(list(values), ensure_ascii=False), type_=Text)
    ).table_valued("value")
    return column.in_(select(listed.c.value))  # type: ignore[no-any-return]


def hour_of(connection: Connection, column: Any) -> ColumnElement[str]:
    """The hour of an instant in UTC, as the text ``YYYY-MM-DD HH``."""
    if connection.dialect.name == "postgresql":
        return func.to_char(func.timezone("UTC", column), "YYYY-MM-DD HH24")
    return func.substr(cast(column, Text), 1, 13)


def new_subscriber_ids(connection: Connection, number: int) -> Sequence[int]:
    """
    Ids for *number* new subscribers, ascending, never given before.

    On SQLite nobody else can take them before the commit: its writers queue.
    """
    if connection.dialect.name == "postgresql":
        sequence = func.nextval(func.pg_get_serial_sequence("subscriber", "id"))
        series = func.generate_series(1, number).table_valued("n")
        return sorted(connection.execute(select(sequence).select_from(series)).scalars())
    last = (
        connection.exec_driver_sql("SELECT seq FROM sqlite_sequence WHERE name = 'subscriber'").scalar() or 0
    )
    return range(last + 1, last + number + 1)


def lock_subscribers(connection: Connection, ids: Collection[int]) -> None:
    """Let nobody else change these rows before the commit; on SQLite nobody can anyway."""
    if connection.dialect.name == "postgresql":
        column: Any = Subscriber.__table__.c.id  # type: ignore[attr-defined]
        connection.execute(
            select(column)
            .where(among(connection, column, ids))
            .order_by(column)
            .with_for_update(key_share=True)
        ).all()


def insert_rows(
    connection: Connection, table: Table, columns: Sequence[str], rows: Sequence[Sequence[Any]]
) -> None:
    """
    Insert *rows*, whose values are in the order of *columns*: COPY on PostgreSQL, one statement on SQLite.

    Raises:
        IntegrityError: one of them is there already; nothing more can be done in this transaction.
    """
    if not rows:
        return
    dialect = connection.dialect
    # The driver's own calls: the library would look at every value of every row again.
    makers = [table.c[name].type.dialect_impl(dialect).bind_processor(dialect) for name in columns]
    bound = _bound(rows, makers) if any(makers) else rows
    names = ", ".join(columns)
    if dialect.name != "postgresql":
        marks = ", ".join("?" * len(columns))
        connection.exec_driver_sql(f"INSERT INTO {table.name} ({names}) VALUES ({marks})", list(bound))  # noqa: S608  # names of ours
        return
    driver: Any = connection.connection.driver_connection
    statement = f"COPY {table.name} ({names}) FROM STDIN"
    try:
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            for row in bound:
                copy.write_row(row)
    except dialect.dbapi.IntegrityError as error:  # type: ignore[union-attr]
        raise IntegrityError(statement, None, error) from error


def _bound(
    rows: Sequence[Sequence[Any]], makers: Sequence[Callable[[Any], Any] | None]
) -> Sequence[tuple[Any, ...]]:
    """As the driver takes them. Most instants of a chunk are one and the same: each is made once."""
    columns = list(zip(*rows, strict=True))
    for index, make in enumerate(makers):
        if make is not None:
            made: dict[Any, Any] = {}
            columns[index] = tuple(_make(value, make, made) for value in columns[index])
    return list(zip(*columns, strict=True))


def _make(value: Any, make: Callable[[Any], Any], made: dict[Any, Any]) -> Any:
    if isinstance(value, dict | list):
        return make(value) if value else _EMPTY[type(value)]
    if value not in made:
        made[value] = make(value)
    return made[value]


_EMPTY = {dict: "{}", list: "[]"}


def in_pages(connection: Connection, query: Select[Any], size: int) -> Iterator[list[int]]:
    """Yield the ids that *query* selects, at most *size* at a time, never all at once."""
    if connection.dialect.name == "postgresql":
        # All rows will be read: a cursor is planned for its first rows otherwise.
        connection.exec_driver_sql("SET LOCAL cursor_tuple_fraction = 1")
    with connection.execute(query, execution_options={"yield_per": size, "stream_results": True}) as result:
        for page in result.partitions():
            yield [row[0] for row in page]
