"""Freeze: from now on the audience of an edition is a list of ids, in batches, and nothing else."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, Engine, Select, insert
from sqlmodel import Session, col, select

from newsletter.audience.segments import ends_query, frozen_query, span_query, variants
from newsletter.catalogue import Newsletter, Publication, Reminder, class_of, reminding
from newsletter.edition import EditionStatus
from newsletter.errors import NotFound
from newsletter.outbox.ids import pack
from newsletter.outbox.ledger import finish, move_edition
from newsletter.outbox.pace import largest_batch
from newsletter.outbox.subjects import Draw, count_sample, plan_test
from newsletter.store.session import writing
from newsletter.store.tables import Batch, EditionRow, Rendering
from newsletter.times import due_at, local_date

SCHEDULE_LEAD = timedelta(minutes=30)
"""How long before its release a scheduled batch is handed over: ≥ 20 min, so that 10 are left to cancel."""

_ENGAGED = (timedelta(days=30), timedelta(days=90))
_ROWS_AT_A_TIME = 10_000
_IDS_AT_A_TIME = 50_000
Hook = Callable[[Session, int], None]
_Group = tuple[int, str, str, datetime | None]
"""Rank, variant, subject and release: what all readers of a batch share."""


@dataclass(slots=True)
class Writer:
    """
    Collects ids by (rank, variant, subject, release) into batches, and writes all of them at the end.

    A million readers are a megabyte of packed ids; until the end the connection is free for reading.
    """

    connection: Connection
    edition_id: int
    size: int
    at: datetime
    seq: int = 0
    total: int = 0
    waiting: dict[_Group, list[int]] = field(default_factory=dict)
    rows: list[dict[str, object]] = field(default_factory=list)

    def add(
        self, rank: int, variant: str, release_at: datetime | None, ids: list[int], *, subject: str = ""
    ) -> None:
        """Put readers, by ascending id, where they belong."""
        if not ids:
            return
        group = (rank, variant, subject, release_at)
        waiting = [*self.waiting.pop(group, ()), *ids]
        full = len(waiting) - len(waiting) % self.size
        for start in range(0, full, self.size):
            self._batch(group, waiting[start : start + self.size])
        if full < len(waiting):
            self.waiting[group] = waiting[full:]

    def close(self) -> int:
        """Write the batches; return how many readers there are."""
        for group, ids in self.waiting.items():
            self._batch(group, ids)
        if self.rows:
            self.connection.execute(insert(Batch), self.rows)
        return self.total

    def _batch(self, group: _Group, ids: list[int]) -> None:
        rank, variant, subject, release_at = group
        self.seq += 1
        self.total += len(ids)
        self.rows.append(
            {
                "edition_id": self.edition_id, "seq": self.seq, "variant": variant, "subject": subject, "rank": rank,
                "release_at": release_at, "ids": pack(ids), "lo_id": ids[0], "hi_id": ids[-1], "n": len(ids),
                "changed_at": self.at,
            }
        )  # fmt: skip


def freeze(
    engine: Engine,
    newsletter: Newsletter,
    publication: Publication,
    edition_id: int,
    *,
    now: datetime,
    at: datetime,
    batch_size: int,
    can_schedule: bool = False,
    on_frozen: Hook | None = None,
) -> bool:
    """
    Freeze the audience of an approved edition and open it for sending, in one transaction.

    *now* is editorial (who is a paying reader, who has left), *at* the ledger's stamp. *on_frozen* runs
    in the same transaction. *can_schedule*: the provider keeps mails until a moment and can call them
    back. Returns False when the edition was not ``approved`` any more: somebody else
    froze it, or an editor took it back.
    """
    with writing(engine) as session:
        opened = move_edition(
            session, edition_id, to=EditionStatus.SUBMITTING, frm=(EditionStatus.APPROVED,), frozen_at=now
        )
        if not opened:
            return False
        size = largest_batch(newsletter, publication, at, batch_size)
        writer = Writer(session.connection(), edition_id, size, at)
        reminders = _rendered(session, edition_id, publication.reminders_named(newsletter.reminders))
        draw = plan_test(session, edition_id, newsletter, publication, now=now, at=at)
        _sort(writer, newsletter, publication, reminders, draw, now=now, at=at, can_schedule=can_schedule)
        _open(session, edition_id, writer.close(), at=at)
        count_sample(session, edition_id)
        if on_frozen is not None:
            on_frozen(session, edition_id)
        return True


def _rendered(session: Session, edition_id: int, reminders: Sequence[Reminder]) -> tuple[Reminder, ...]:
    """Those of *reminders* that the edition was rendered with: one added since then has no variant."""
    made = set(session.exec(select(Rendering.variant).where(col(Rendering.edition_id) == edition_id)))
    return tuple(one for one in reminders if reminding(one.id) in made)


def _open(session: Session, edition_id: int, total: int, *, at: datetime) -> None:
    edition = session.get(EditionRow, edition_id)
    if edition is None:
        raise NotFound(f"There is no edition {edition_id}.")
    session.refresh(edition)
    edition.audience = total
    session.add(edition)
    session.flush()
    if total == 0:
        finish(session, edition_id, at=at)


def _sort(
    writer: Writer,
    newsletter: Newsletter,
    publication: Publication,
    reminders: Sequence[Reminder],
    draw: Draw | None,
    *,
    now: datetime,
    at: datetime,
    can_schedule: bool,
) -> None:
    """Read the audience once, by ascending id, and give each reader a batch."""
    names = variants(reminders)
    wanted = {name for name in names if class_of(name) in newsletter.audience.classes}
    release = _release(newsletter, publication, at, can_schedule=can_schedule)
    pace = publication.pace_of((newsletter.sender or publication.sender).email)
    warming = pace.warm_up is not None and pace.warm_up.volume(local_date(at, publication.timezone)) > 0
    if not warming and newsletter.local_time is None:
        moment = release("", "")
        for span in _spans(writer.connection, newsletter, publication, reminders, now=now):
            for name, ids in zip(names, span, strict=True):
                if name in wanted:
                    _add(writer, draw, 0, name, moment, ids)
        return
    for chunk in _chunks(writer.connection, frozen_query(newsletter, publication, reminders, now=now)):
        groups: dict[tuple[int, str, datetime | None], list[int]] = defaultdict(list)
        for reader, index, zone, hour, engaged in chunk:
            name = names[index]
            if name in wanted:
                groups[_rank(engaged, now) if warming else 0, name, release(zone, hour)].append(reader)
        for (rank, name, moment), ids in groups.items():
            _add(writer, draw, rank, name, moment, ids)


def _add(
    writer: Writer, draw: Draw | None, rank: int, variant: str, release_at: datetime | None, ids: list[int]
) -> None:
    """Give readers of one kind their batches, those of a sample by the subject they drew."""
    for subject, some in draw.sort(ids) if draw else (("", ids),):
        writer.add(rank, variant, release_at, some, subject=subject)


def _spans(
    connection: Connection,
    newsletter: Newsletter,
    publication: Publication,
    reminders: Sequence[Reminder],
    *,
    now: datetime,
) -> Iterator[tuple[list[int], ...]]:
    """The ids of each variant, ascending, a span of ids at a time; the next is read meanwhile."""
    first, last = connection.execute(ends_query(newsletter)).one()
    if first is None:
        return
    query = span_query(newsletter, publication, connection.dialect.name, reminders, now=now)
    if connection.dialect.name == "postgresql":
        # A plan kept for any span looks each reader up among the suppressed; made for these, it reads both once.
        connection.exec_driver_sql("SET LOCAL plan_cache_mode = force_custom_plan")

    def read(lo: int) -> Sequence[str | None]:
        return connection.execute(query, {"lo": lo, "hi": lo + _IDS_AT_A_TIME - 1}).one()

    with ThreadPoolExecutor(1, thread_name_prefix="freeze") as ahead:  # nobody else uses the connection
        waiting: Future[Sequence[str | None]] | None = None
        for lo in [*range(first, last + 1, _IDS_AT_A_TIME), None]:
            coming = ahead.submit(read, lo) if lo is not None else None
            if waiting is not None:
                yield tuple(sorted(map(int, text.split(","))) if text else [] for text in waiting.result())
            waiting = coming


def _chunks(connection: Connection, query: Select[Any]) -> Iterator[Sequence[Any]]:
    """The rows, thousands at a time, never all at once."""
    streams = connection.dialect.name == "postgresql"
    if streams:
        # All rows will be read: without this a cursor is planned for its first rows, thirty times slower.
        connection.exec_driver_sql("SET LOCAL cursor_tuple_fraction = 1")
    result = connection.execute(query, execution_options={"stream_results": streams})
    # SQLite's driver reads row by row anyway, and nothing in these rows needs converting.
    fetch: Any = result.fetchmany if streams else getattr(result.cursor, "fetchmany", None)
    while chunk := fetch(_ROWS_AT_A_TIME):
        yield chunk
    result.close()


def _release(
    newsletter: Newsletter, publication: Publication, at: datetime, *, can_schedule: bool
) -> Callable[[str, str], datetime | None]:
    """
    When a reader of a zone, with an hour of their own or '', may get it.

    The next local morning, or this one if it is past by no more than the newsletter's
    ``max_lateness_hours``; else after the schedule's lead, or at once.
    """
    local = newsletter.local_time
    if local is None:
        fixed = at + SCHEDULE_LEAD if newsletter.mode == "scheduled" and can_schedule else None
        return lambda _zone, _hour: fixed
    home = newsletter.zone(publication)
    grace = timedelta(hours=newsletter.schedule.max_lateness_hours)

    @lru_cache(maxsize=4096)
    def morning(zone: str, hour: str) -> datetime:
        return next_local(_clock(hour) or local, zone if _exists(zone) else home, at, grace=grace)

    return morning


def _clock(hour: str) -> time | None:
    try:
        return time.fromisoformat(hour) if hour else None
    except ValueError:
        return None


def next_local(clock: time, zone: str, at: datetime, *, grace: timedelta = timedelta()) -> datetime:
    """
    The first moment from *at* on at which clocks in *zone* show *clock*.

    When it is past on the local day of *at* by no more than *grace*, it is that moment of this day.
    """
    day = local_date(at, zone)
    today = due_at(day, clock, zone)
    return today if today >= at - grace else due_at(day + timedelta(days=1), clock, zone)


def _exists(zone: str) -> bool:
    try:
        ZoneInfo(zone)
    except (KeyError, ValueError, OSError):
        return False
    return True


def _rank(engaged: int, now: datetime) -> int:
    """0: engaged in the last month, 1: in the last three, 2: longer ago or never (0 seconds since 1970)."""
    quiet = timedelta(seconds=now.timestamp() - engaged)
    return next((rank for rank, span in enumerate(_ENGAGED) if quiet <= span), len(_ENGAGED))
