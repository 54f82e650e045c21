"""
An editor's orders for an edition, as rows: given, undone, redone, and never lost.

Orders belong to a newsletter's date, not to an edition, so they hold before there is one and after it is
made again. What is undone stays written down and counts for nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from typing import Any

from sqlmodel import Session, col, select

from newsletter.errors import OrderConflict, StateError
from newsletter.picking.picks import Order
from newsletter.store.tables import EditorOrder
from newsletter.times import parse_instant

_PLACES = ("pin", "drop", "move")
_TICK = timedelta(microseconds=1)
_LOCK = 719203423  # of our own choosing: editors' orders take turns on PostgreSQL, as SQLite's writers do


def load_orders(session: Session, slug: str, day: date) -> tuple[Order, ...]:
    """The orders that count for a newsletter's date, oldest first."""
    return tuple(order for order in all_orders(session, slug, day) if order.undone_at is None)


def all_orders(session: Session, slug: str, day: date) -> tuple[Order, ...]:
    """Every order ever given for a newsletter's date, oldest first; *undone_at* is set on what is undone."""
    return tuple(_order(row) for row in _rows(session, slug, day))


def add_order(
    session: Session,
    slug: str,
    day: date,
    order: Order,
    *,
    at: datetime,
    as_of: datetime | None = None,
) -> int:
    """
    Write down an editor's order; return its id.

    *as_of* is what the editor had seen (``last_touched``); None: they do not say, and nothing is compared.
    Who gave the other order does not matter: one editor in two windows is two editors.

    Raises:
        OrderConflict: somebody else gave or undid an order on the same thing since; carries theirs.
    """
    _take_turn(session)
    rows = _rows(session, slug, day)
    at = _after(rows, at)
    if as_of is not None:
        _refuse_conflict(rows, order, as_of)
    row = EditorOrder(
        newsletter=slug, edition_date=day, verb=order.verb, url=order.url, reason=order.reason, actor=order.actor,
        detail={
            "section": order.section, "position": order.position, "fields": dict(order.fields), "seen": dict(order.seen),
        },
        given_at=at,
    )  # fmt: skip
    session.add(row)
    session.flush()
    return row.id or 0


def undo_last(
    session: Session, slug: str, day: date, *, actor: str, at: datetime, as_of: datetime | None = None
) -> Order:
    """
    Take the newest order that counts back.

    Raises:
        OrderConflict: something was ordered after *as_of*, which the editor has not seen.
        StateError: there is none.
    """
    _take_turn(session)
    rows = _rows(session, slug, day)
    _refuse_unseen(rows, as_of)
    last = next((row for row in reversed(rows) if row.undone_at is None), None)
    if last is None:
        raise StateError(f"There is no order for {slug} on {day} that could be undone.")
    last.undone_at, last.undone_by = _after(rows, at), actor
    session.add(last)
    session.flush()
    return _order(last)


def redo_last(
    session: Session, slug: str, day: date, *, actor: str, at: datetime, as_of: datetime | None = None
) -> Order:
    """
    Let what was undone last count again; not once another order was given since.

    Raises:
        OrderConflict: something was ordered after *as_of*, which the editor has not seen.
        StateError: there is nothing to redo.
    """
    _take_turn(session)
    rows = _rows(session, slug, day)
    _refuse_unseen(rows, as_of)
    undone = [row for row in rows if row.undone_at is not None]
    last = max(undone, key=lambda row: row.undone_at or at, default=None)
    newest = max((row.given_at for row in rows if row.undone_at is None), default=None)
    if last is None or last.undone_at is None or (newest is not None and newest > last.undone_at):
        raise StateError(f"There is nothing to redo for {slug} on {day}.")
    last.undone_at, last.undone_by = None, ""
    last.detail = {**last.detail, "touched_at": iso_exact(_after(rows, at)), "redone_by": actor}
    session.add(last)
    session.flush()
    return _order(last)


def last_touched(session: Session, slug: str, day: date) -> datetime | None:
    """When an order of a newsletter's date was last given, undone or redone; None: never."""
    return max((_touched(row) for row in _rows(session, slug, day)), default=None)


def iso_exact(moment: datetime) -> str:
    """An instant with its microseconds."""
    return moment.isoformat(timespec="microseconds")


def _rows(session: Session, slug: str, day: date) -> Sequence[EditorOrder]:
    return session.exec(
        select(EditorOrder)
        .where(EditorOrder.newsletter == slug, EditorOrder.edition_date == day)
        .order_by(col(EditorOrder.id))
    ).all()


def _take_turn(session: Session) -> None:
    connection = session.connection()
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")


def _touched(row: EditorOrder) -> datetime:
    moments = [row.given_at, row.undone_at]
    if told := row.detail.get("touched_at"):
        moments.append(parse_instant(told))
    return max(moment for moment in moments if moment is not None)


def _after(rows: Iterable[EditorOrder], at: datetime) -> datetime:
    """*at*, or just after the last touch, should a clock stand still or go back."""
    last = max((_touched(row) for row in rows), default=None)
    return at if last is None or at > last else last + _TICK


def _refuse_unseen(rows: Iterable[EditorOrder], as_of: datetime | None) -> None:
    """An undo is of what an editor saw last, never of what somebody else ordered since."""
    since = [_order(row) for row in rows if as_of is not None and _touched(row) > as_of]
    if since:
        last = max(since, key=lambda one: one.id)
        raise OrderConflict(
            f"Meanwhile there is another order: {last.told}. Look at it, then undo what you mean.",
            theirs=tuple(one.id for one in since),
        )


def _refuse_conflict(rows: Iterable[EditorOrder], order: Order, as_of: datetime) -> None:
    since = [row for row in rows if _touched(row) > as_of and _targets(_order(row)) & _targets(order)]
    if since:
        theirs = [_order(row) for row in since]
        last = theirs[-1]
        what = last.told if last.undone_at is None else f"{last.verb} undone by {last.undone_by}"
        raise OrderConflict(
            f"Meanwhile there is another order on this: {what}. Look at it, then give yours again if it still holds.",
            theirs=tuple(one.id for one in theirs),
        )


def _targets(order: Order) -> set[tuple[str, str]]:
    """What an order is about: a story's place, each of its edited fields, each of the edition's words."""
    if order.verb in _PLACES:
        return {("place", order.url)}
    return {(order.url, field) for field in order.fields}


def _order(row: EditorOrder) -> Order:
    detail: dict[str, Any] = row.detail
    return Order(
        verb=row.verb, url=row.url, section=detail.get("section", ""), position=int(detail.get("position", 0)),
        fields=detail.get("fields", {}), seen=detail.get("seen", {}), actor=row.actor, reason=row.reason,
        id=row.id or 0, given_at=row.given_at, undone_at=row.undone_at, undone_by=row.undone_by,
    )  # fmt: skip
