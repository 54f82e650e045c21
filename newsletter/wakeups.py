"""
Wake-ups: jobs in PostgreSQL that tell workers on any machine that there is something to do.

The batch table owns delivery. A wake-up that is lost, late or doubled costs a look and nothing else. The
queue is procrastinate's, and this is the only room that knows its tables; SQLite has no queue, and nothing
of the library is imported there.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, text
from sqlalchemy.engine import Row
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session

from newsletter.errors import StoreError

if TYPE_CHECKING:
    from procrastinate import App, PsycopgConnector

DRAIN = "drain"
TICK = "tick"
"""Names of the two tasks, and of the queues they wait in."""

WORKERS_PER_PROCESS = 2
"""One for each queue, so that no drain ever keeps a tick waiting."""

_LOCK = 719_203_418
_MARK = "newsletter "
_HEARTBEAT_SECONDS = 30  # the library's own: a heartbeat every 10 s, given up after 30
_LATE_SECONDS = 300
_PATIENCE_SECONDS = 10.0  # for a connection; the library's 30 would hold up an end while the database is away
_KEEP_FAILED_HOURS = 72


def has_queue(engine: Engine) -> bool:
    """Whether this database can wake workers."""
    return engine.dialect.name == "postgresql"


def ensure_queue(engine: Engine) -> None:
    """
    Make the queue's tables, or bring them up to date; on SQLite do nothing.

    They come into the first schema of the connection's search path. Two processes may start at once: one
    does it, the other waits.

    Raises:
        StoreError: the library is missing, or the tables cannot be made.
    """
    if not has_queue(engine):
        return
    migrations = _migrations()
    newest = migrations[-1].name
    try:
        with engine.connect() as connection:
            if _schema(connection) == newest:
                return
        while _step(engine, migrations):
            pass
    except SQLAlchemyError as error:
        raise StoreError(
            f"The queue's tables cannot be made in PostgreSQL ({_reason(error)}). The database's user needs the right "
            "to create tables, types and functions; newsletter doctor says how it stands."
        ) from error


def _step(engine: Engine, migrations: list[Path]) -> bool:
    """
    Make the tables, or run the next migration, in a transaction of its own; whether there was one to run.

    A value added to an enum cannot be used in the transaction that adds it, so no two share one.
    """
    with engine.begin() as connection:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
        present = _schema(connection)
        if present is None:
            script, reached = migrations[0].parents[1] / "schema.sql", migrations[-1].name
        else:
            # Without a mark they are somebody else's, past the last a newer version's: not ours to change.
            following = [migration for migration in migrations if present and migration.name > present]
            if not following:
                return False
            script, reached = following[0], following[0].name
        # Without parameters the driver takes many statements at a time and leaves their % signs alone.
        connection.exec_driver_sql(
            script.read_text(encoding="utf-8"), execution_options={"no_parameters": True}
        )
        connection.exec_driver_sql(f"COMMENT ON TABLE procrastinate_jobs IS '{_MARK}{reached}'")
    return True


def _schema(connection: Connection) -> str | None:
    """The newest migration the tables have; '' when somebody else made them, None when there are none."""
    # Not to_regclass: it answers from a cache that does not hear of tables made while we waited for a lock.
    comment = connection.execute(
        text(
            "SELECT coalesce(obj_description(oid, 'pg_class'), '') FROM pg_class "
            "WHERE relname = 'procrastinate_jobs' AND pg_table_is_visible(oid)"
        )
    ).scalar()
    if comment is None:
        return None
    return str(comment).removeprefix(_MARK) if comment.startswith(_MARK) else ""


@lru_cache(maxsize=1)
def _migrations() -> list[Path]:
    """The library's migrations in order, found without importing it (0.2 s a command)."""
    spec = find_spec("procrastinate")
    if spec is None or spec.origin is None:
        raise StoreError(
            "PostgreSQL needs procrastinate, which wakes the workers; install the [postgres] extra: "
            'pip install "newsletter[postgres]"'
        )
    return sorted((Path(spec.origin).parent / "sql" / "migrations").glob("*.sql"))


def _reason(error: BaseException) -> str:
    return str(getattr(error, "orig", None) or error).splitlines()[0]


# --- telling --------------------------------------------------------------------------------------


def defer_drain(session: Session, edition_id: int) -> None:
    """
    Tell an idle worker to drain an edition; part of the caller's transaction.

    Nothing happens when such a wake-up waits already. Those for editions that are done are cleared away:
    where no worker runs, nobody else would.
    """
    from procrastinate.exceptions import AlreadyEnqueued

    session.connection().execute(_DONE_WITH)
    try:
        with session.begin_nested():  # a unique violation would abort the caller's transaction
            connection = session.connection().connection.driver_connection
            _app_of_sessions().configure_task(
                DRAIN, queue=DRAIN, queueing_lock=f"{DRAIN}:{edition_id}", connection=connection
            ).defer(edition_id=edition_id)
    except AlreadyEnqueued:
        return


_DONE_WITH = text(
    "DELETE FROM procrastinate_jobs WHERE status = 'todo' AND task_name = 'drain' AND NOT EXISTS "
    "(SELECT 1 FROM edition WHERE edition.id = (args->>'edition_id')::bigint AND edition.status = 'submitting')"
)


@lru_cache(maxsize=1)
def _app_of_sessions() -> App:
    """An application without a connection of its own: each job goes over the connection of its session."""
    from procrastinate import App, SyncPsycopgConnector

    return App(connector=SyncPsycopgConnector())


# --- listening ------------------------------------------------------------------------------------


def connector(engine: Engine) -> PsycopgConnector:
    """How a worker's loop reaches the database of *engine*, its search path included."""
    from procrastinate import PsycopgConnector
    from psycopg.conninfo import make_conninfo

    _, given = engine.dialect.create_connect_args(engine.url)
    options = {
        name: value for name, value in given.items() if name != "context"
    }  # SQLAlchemy's type adapters
    return PsycopgConnector(
        conninfo=make_conninfo(**options), min_size=1, max_size=4, timeout=_PATIENCE_SECONDS
    )


async def tidy(app: App) -> int:
    """
    Give jobs of dead workers to others and forget old failures; return how many jobs were given on.

    Only wake-ups that nothing else repeats are given on: the next tick comes by itself, and a drain for
    which another wake-up waits is not needed twice.
    """
    from procrastinate.exceptions import ConnectorException
    from procrastinate.jobs import Job, Status

    jobs = app.job_manager

    async def drop(job: Job) -> None:
        try:
            await jobs.finish_job(job, status=Status.FAILED, delete_job=True)
        except ConnectorException:
            return  # another worker was quicker

    given_on = 0
    for job in await jobs.get_stalled_jobs(seconds_since_heartbeat=_HEARTBEAT_SECONDS):
        if job.task_name != DRAIN:
            await drop(job)
            continue
        try:
            await jobs.retry_job(job)
            given_on += 1
        except ConnectorException:
            await drop(job)
    await jobs.delete_old_jobs(
        nb_hours=_KEEP_FAILED_HOURS, include_failed=True, include_cancelled=True, include_aborted=True
    )
    return given_on


# --- health ---------------------------------------------------------------------------------------


def queue_health(engine: Engine) -> tuple[tuple[str, str], ...]:
    """
    How the queue stands, as (severity, sentence): severity is ok, note, warning or error.

    Empty on SQLite. Changes nothing and imports nothing of the library.

    Raises:
        StoreError: the database cannot be asked.
    """
    if not has_queue(engine):
        return ()
    try:
        newest = _migrations()[-1].name
    except StoreError as error:
        return (("error", str(error)),)
    try:
        with engine.connect() as connection:
            present = _schema(connection)
            if present is None:
                return (("warning", "The queue's tables are not there yet; newsletter status makes them."),)
            return (_schema_health(present, newest), *_work_health(connection.execute(_HEALTH).one()))
    except SQLAlchemyError as error:
        raise StoreError(f"The queue cannot be looked at: {_reason(error)}") from error


def _schema_health(present: str, newest: str) -> tuple[str, str]:
    if not present:
        return "note", "The queue's tables were not made by this program; keep them up to date yourself."
    if present < newest:
        return (
            "warning",
            "The queue's tables are of an older version; newsletter status brings them up to date.",
        )
    if present > newest:
        return "error", "The queue's tables are of a newer version; update this program on this machine."
    return "ok", "The queue's tables are up to date."


def _work_health(row: Row[tuple[int, ...]]) -> list[tuple[str, str]]:
    alive, stalled, failed, waiting, oldest, last_tick = (int(value) for value in row)
    told: list[tuple[str, str]] = []
    workers = -(-alive // WORKERS_PER_PROCESS)
    if workers:
        told.append(("ok", f"{workers} worker{'s' if workers > 1 else ''} alive."))
    else:
        told.append(
            (
                "note",
                "No worker is alive: only scheduler.py or newsletter run sends. Start newsletter worker.",
            )
        )
    if waiting and workers:
        told.append(("ok", f"{waiting} editions being sent have room for another worker."))
    elif waiting and oldest > _LATE_SECONDS:
        told.append(
            ("error", f"An edition has waited {oldest // 60} minutes for a worker, and none is alive: start newsletter worker.")
        )  # fmt: skip
    if workers and last_tick > _LATE_SECONDS:
        told.append(
            ("error", f"Workers are alive, but none has looked at the rota for {last_tick // 60} minutes; see their logs.")
        )  # fmt: skip
    if stalled:
        severity, who = (
            ("note", "The next tick gives") if workers else ("warning", "Start a worker: it gives")
        )
        told.append((severity, f"{stalled} jobs of dead workers. {who} them to others."))
    if failed:
        told.append(("warning", f"{failed} jobs failed in the last three days; the workers' logs say why."))
    return told


_HEALTH = text(
    """
    SELECT
      (SELECT count(*) FROM procrastinate_workers
        WHERE last_heartbeat > now() - make_interval(secs => :heartbeat)) AS alive,
      (SELECT count(*) FROM procrastinate_jobs job LEFT JOIN procrastinate_workers worker ON worker.id = job.worker_id
        WHERE job.status = 'doing' AND (worker.id IS NULL
          OR worker.last_heartbeat < now() - make_interval(secs => :heartbeat))) AS stalled,
      (SELECT count(*) FROM procrastinate_jobs WHERE status = 'failed') AS failed,
      count(*) AS waiting,
      coalesce(max(extract(epoch FROM now() - waits.since)), 0)::bigint AS oldest,
      (SELECT coalesce(extract(epoch FROM now()) - max(defer_timestamp), 0)::bigint
        FROM procrastinate_periodic_defers WHERE task_name = 'tick') AS last_tick
    FROM (
      SELECT job.id, max(event.at) AS since
      FROM procrastinate_jobs job
      JOIN procrastinate_events event ON event.job_id = job.id
      JOIN edition ON edition.id = (job.args->>'edition_id')::bigint AND edition.status = 'submitting'
      WHERE job.status = 'todo' AND job.task_name = 'drain'
      GROUP BY job.id
    ) waits
    """
).bindparams(heartbeat=_HEARTBEAT_SECONDS)
