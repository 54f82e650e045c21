"""Many machines: wake-ups are part of the transaction, workers share, die and stop without harm. PostgreSQL."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, text
from typer.testing import CliRunner

from newsletter.audience.imports import import_subscribers
from newsletter.cli.main import app
from newsletter.desk import Account, Desk
from newsletter.errors import NewsletterError
from newsletter.outbox.freeze import freeze
from newsletter.rota import Collecting, begin
from newsletter.settings import load_settings
from newsletter.store.session import open_store, writing
from newsletter.times import WEEKDAYS, parse_instant, system_clock
from newsletter.wakeups import connector, defer_drain, ensure_queue, queue_health, tidy
from newsletter.worker import WorkerDesk, drain_edition, tick, wake
from tests.builders import ROOT, a_site
from tests.conftest import POSTGRES
from tests.standin import StandIn

NOW = parse_instant("2026-11-20T04:00:00Z")
DAY = date(2026, 11, 20)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh installation of one newsletter, due on none of these days, as the working directory."""
    folder = a_site(tmp_path / "site")
    for newsletter in (folder / "templates").glob("*/newsletter.toml"):
        if newsletter.parent.name != "today":
            shutil.rmtree(newsletter.parent)
    another_day = WEEKDAYS[(system_clock() + timedelta(days=3)).weekday()]
    _schedule(folder, days=another_day)
    monkeypatch.chdir(folder)
    for name in list(os.environ):
        if name.startswith(("NEWSLETTER_", "SENDGRID_", "DATABASE_URL")):
            monkeypatch.delenv(name)
    return folder


def _schedule(site: Path, *, days: str) -> None:
    """Put the days on which the newsletter is due."""
    path = site / "templates/today/newsletter.toml"
    lines = path.read_text(encoding="utf-8").splitlines()
    changed = [f'days = ["{days}"]' if line.startswith("days = ") else line for line in lines]
    path.write_text("\n".join(changed), encoding="utf-8")


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of an empty schema of this test's own, also in the environment."""
    if not POSTGRES:
        pytest.skip("no PostgreSQL: set TEST_POSTGRES_URL")
    schema = f"t{uuid.uuid4().hex[:16]}"
    url = f"{POSTGRES}?options=-csearch_path%3D{schema}"
    admin = create_engine(POSTGRES, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE SCHEMA {schema}"))
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.setenv("NEWSLETTER_SECRET_KEY", "a-signing-key-for-this-test-only")
    monkeypatch.setenv("NEWSLETTER_SUPPRESSION_KEY", "a-suppression-key-for-this-test")
    yield url
    with admin.connect() as connection:
        connection.execute(text(f"DROP SCHEMA {schema} CASCADE"))
    admin.dispose()


@pytest.fixture
def desk(site: Path, database: str) -> Iterator[Desk]:
    """A worker's desk of that site with 120 readers."""
    opened = WorkerDesk.open(load_settings())
    rows = [f"r{number}@example.com,R{number},free,today" for number in range(120)]
    Path("readers.csv").write_text("\n".join(["email,name,plan,newsletters", *rows]), encoding="utf-8")
    import_subscribers(
        opened.engine, Path("readers.csv"), catalogue=opened.catalogue, keys=opened.keys, now=NOW
    )
    yield opened
    opened.engine.dispose()


@pytest.fixture
def standin(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """The provider's stand-in, which the environment names."""
    with StandIn(key="SG.stand-in.key") as running:
        monkeypatch.setenv("NEWSLETTER_PROVIDER", "sendgrid")
        monkeypatch.setenv("SENDGRID_API_KEY", running.key)
        monkeypatch.setenv("SENDGRID_HOST", running.url)
        monkeypatch.setenv("SENDGRID_WEBHOOK_PUBLIC_KEY", "none")
        monkeypatch.setenv("NEWSLETTER_IN_FLIGHT", "2")
        yield running


def an_edition(desk: Desk, *, size: int = 4) -> int:
    """Make the edition of the sample day and freeze it in small batches; its id."""
    newsletter = desk.catalogue["today"]
    desk.collect(None, now=NOW)
    assert desk.prepare(newsletter, DAY, now=NOW).status == "approved"
    row = desk.find(newsletter, DAY)
    assert row is not None and row.id is not None
    assert freeze(
        desk.engine, newsletter, desk.catalogue.publication, row.id, now=NOW, at=system_clock(), batch_size=size,
        on_frozen=defer_drain,
    )  # fmt: skip
    return row.id


def account(desk: Desk) -> Account:
    """Where the edition of the sample day stands."""
    return desk.status(["today"], day=DAY)[0]


def jobs(engine: Engine) -> list[tuple[str, str]]:
    """What is in the queue: queueing lock and status."""
    with engine.connect() as connection:
        rows = connection.execute(
            text("SELECT queueing_lock, status::text FROM procrastinate_jobs ORDER BY id")
        ).all()
    return [(row[0], row[1]) for row in rows]


class Process:
    """A worker in a process of its own, with its log."""

    def __init__(self, folder: Path, name: str) -> None:
        self.log = folder / f"{name}.log"
        command = [sys.executable, "-m", "newsletter.cli.main", "worker", "--name", name]
        if name.startswith("scheduler"):
            command = [sys.executable, str(ROOT / "scheduler.py")]
        with self.log.open("w") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=out)

    def told(self, word: str, *, seconds: float = 30) -> None:
        """Wait until its log has *word*."""
        until(lambda: word in self.log.read_text(), seconds=seconds, what=f"{word}: {self.log.read_text()}")

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it by a signal; its exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout=30)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], Process]]:
    """Starts workers that end with the test, whatever happens."""
    started: list[Process] = []

    def begun(name: str) -> Process:
        started.append(Process(tmp_path, name))
        return started[-1]

    yield begun
    for one in started:
        if one.process.poll() is None:
            one.end(signal.SIGKILL)


def until(holds: Callable[[], bool], *, seconds: float = 30, what: str = "") -> None:
    """Wait until *holds* does."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"did not come: {what}"
        time.sleep(0.05)


# --- wake-ups -------------------------------------------------------------------------------------


def test_a_wake_up_is_part_of_its_transaction(desk: Desk) -> None:
    """Rolled back: none. Told twice: one, and the transaction goes on. Of an edition that is done: cleared away."""
    edition_id = an_edition(desk)
    with desk.engine.begin() as connection:
        connection.execute(text("DELETE FROM procrastinate_jobs"))

    with pytest.raises(RuntimeError), writing(desk.engine) as session:
        defer_drain(session, edition_id)
        raise RuntimeError
    after_rollback = jobs(desk.engine)
    with writing(desk.engine) as session:
        defer_drain(session, edition_id)
        defer_drain(session, edition_id)
    with writing(desk.engine) as session:
        defer_drain(session, edition_id)
        still_usable = session.connection().execute(text("SELECT 1")).scalar_one()
    after_commit = jobs(desk.engine)
    with writing(desk.engine) as session:
        session.connection().execute(text("UPDATE edition SET status = 'submitted'"))
    with writing(desk.engine) as session:
        defer_drain(session, edition_id + 1)

    assert after_rollback == []
    assert (after_commit, still_usable) == ([(f"drain:{edition_id}", "todo")], 1)
    assert jobs(desk.engine) == [(f"drain:{edition_id + 1}", "todo")]


def test_freezing_wakes_a_worker(desk: Desk) -> None:
    """The desk's own freeze defers in the same transaction, so a process that dies right after it loses nothing."""
    newsletter = desk.catalogue["today"]
    desk.collect(None, now=NOW)
    desk.prepare(newsletter, DAY, now=NOW)

    edition_id = desk.freeze(newsletter, DAY, now=NOW)

    assert jobs(desk.engine) == [(f"drain:{edition_id}", "todo")]


def test_the_queue_is_made_once(database: str) -> None:
    """Eight that start at the same moment: nobody fails, and it stays as it is."""
    engine = open_store(database)
    gate = threading.Barrier(8)
    failed: list[BaseException] = []

    def make() -> None:
        gate.wait()
        try:
            ensure_queue(engine)
        except NewsletterError as error:
            failed.append(error)

    before = queue_health(engine)
    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failed == []
    assert [severity for severity, _ in before] == ["warning"]
    assert queue_health(engine)[0] == ("ok", "The queue's tables are up to date.")
    engine.dispose()


def test_an_older_queue_is_brought_up_to_date(database: str) -> None:
    """Tables of an older version get the migrations since; those of a newer one are left alone."""
    from procrastinate.schema import SchemaManager

    engine = open_store(database)
    old = "03.03.00_01_pre_priority_lock_fetch_job.sql"
    for migration in sorted(Path(SchemaManager.get_migrations_path()).glob("*.sql")):
        if migration.name <= old:
            with engine.begin() as connection:
                connection.exec_driver_sql(migration.read_text(), execution_options={"no_parameters": True})
    with engine.begin() as connection:
        connection.execute(text(f"COMMENT ON TABLE procrastinate_jobs IS 'newsletter {old}'"))
    older = queue_health(engine)[0][0]

    ensure_queue(engine)
    current = queue_health(engine)[0][0]
    with engine.begin() as connection:
        connection.execute(text("COMMENT ON TABLE procrastinate_jobs IS 'newsletter 99.00.00'"))
    ensure_queue(engine)
    newer = queue_health(engine)[0][0]
    with writing(engine) as session:
        defer_drain(session, 1)

    assert (older, current, newer) == ("warning", "ok", "error")
    assert jobs(engine) == [("drain:1", "todo")]
    engine.dispose()


def test_jobs_of_a_dead_worker_are_given_to_others(desk: Desk) -> None:
    """A drain goes back, unless another wake-up waits; a tick is dropped, for the next one comes; health tells."""
    from procrastinate import App

    edition_id = an_edition(desk)
    with desk.engine.begin() as connection:
        connection.execute(text("UPDATE procrastinate_jobs SET status = 'doing'"))
        connection.execute(
            text(
                "INSERT INTO procrastinate_jobs (queue_name, task_name, queueing_lock, status) "
                "VALUES ('tick', 'tick', 'tick', 'doing')"
            )
        )
    told = queue_health(desk.engine)

    async def sweep() -> int:
        queue = App(connector=connector(desk.engine))
        async with queue.open_async():
            return await tidy(queue)

    first = asyncio.run(sweep())
    after_first = jobs(desk.engine)
    with desk.engine.begin() as connection:
        connection.execute(text("UPDATE procrastinate_jobs SET status = 'doing'"))
    wake(desk)
    second = asyncio.run(sweep())

    assert ("warning", "2 jobs of dead workers. Start a worker: it gives them to others.") in told
    assert (first, second) == (1, 0)
    assert after_first == jobs(desk.engine) == [(f"drain:{edition_id}", "todo")]


def test_an_edition_that_waits_for_a_worker_is_told(desk: Desk) -> None:
    """Doctor is told when nobody is there to send."""
    an_edition(desk)
    with desk.engine.begin() as connection:
        connection.execute(text("UPDATE procrastinate_events SET at = at - interval '10 minutes'"))

    told = dict(queue_health(desk.engine))

    assert told["error"].startswith("An edition has waited 10 minutes for a worker, and none is alive")
    assert told["note"].startswith("No worker is alive")


# --- workers --------------------------------------------------------------------------------------


def test_a_tick_makes_what_is_due_and_leaves_the_sending(site: Path, desk: Desk) -> None:
    """One edition for the local date, frozen, with one wake-up; nothing was sent; a drain then sends it."""
    _schedule(site, days="fri")
    desk.clock = lambda: NOW - timedelta(days=1)
    begin(desk)
    desk.clock = lambda: NOW + timedelta(hours=1, minutes=31)  # 06:31 in Paris
    collecting = Collecting()

    tick(desk, collecting)
    made, waiting = account(desk), jobs(desk.engine)
    tick(desk, collecting)
    again = jobs(desk.engine)
    row = desk.find(desk.catalogue["today"], DAY)
    assert row is not None and row.id is not None
    drain_edition(desk, row.id)
    drain_edition(desk, row.id)
    drain_edition(desk, 999_999)

    assert (made.status, made.submitted, made.pending) == ("submitting", 0, made.audience)
    assert waiting == again == [(f"drain:{row.id}", "todo")]
    assert (account(desk).status, account(desk).submitted) == ("submitted", made.audience)


def test_ticks_ask_editors_and_decide_at_the_deadline(site: Path, desk: Desk) -> None:
    """At the lead made up and asked, once over many ticks of two desks; at the deadline sent by its rule, once."""
    _schedule(site, days="fri")
    path = site / "templates/today/newsletter.toml"
    settings = 'approval = "required"\nunapproved = "send"\napproval_deadline_minutes = -5\n'
    path.write_text(settings + path.read_text(encoding="utf-8"), encoding="utf-8")
    other = WorkerDesk.open(load_settings())
    desks = (desk, other)

    def at(moment: datetime) -> Account | None:
        """Both desks tick."""
        for one in desks:
            one.clock = lambda: moment
        for one in desks:
            tick(one, Collecting())
        found = desk.status(["today"], day=DAY)
        return found[0] if found else None

    desk.clock = lambda: NOW - timedelta(days=1)
    begin(desk)
    slot = NOW + timedelta(hours=1, minutes=30)  # 06:30 in Paris

    stands = [at(slot - timedelta(minutes=minutes)) for minutes in (61, 60, 59, 6, 5, 4)]
    sent = at(slot)

    other.engine.dispose()
    told = [
        path.parent.name for path in Path("outbox-system").rglob("*.eml") if "alarm" not in path.parent.name
    ]
    assert [one.status if one else "" for one in stands] == [
        "",
        "draft",
        "draft",
        "draft",
        "approved",
        "approved",
    ]
    assert (
        sent is not None
        and sent.status == "submitting"
        and "Sent by its own rule" in sent.reason + stands[-1].reason
    )  # type: ignore[union-attr]
    assert sorted(told) == ["notice.approval", "notice.decided"]


def test_two_workers_share_one_edition(desk: Desk, standin: StandIn, start: Callable[[str], Process]) -> None:
    """Both send; every reader of the audience is in exactly one accepted personalization; both end in good order."""
    an_edition(desk)
    standin.delay_seconds = 0.4

    workers = [start("one"), start("two")]
    until(lambda: account(desk).status == "submitted", what="submitted")
    health = queue_health(desk.engine)
    codes = [worker.end() for worker in workers]

    taken = Counter((one.edition, one.reader) for one in standin.accepted)
    assert set(taken.values()) == {1}
    assert (len(taken), account(desk).submitted) == (account(desk).audience,) * 2
    assert ("ok", "2 workers alive.") in health
    assert codes == [0, 0]
    for worker in workers:
        log = worker.log.read_text()
        assert "drain.started" in log and "worker.stopped" in log and "Traceback" not in log


def test_two_schedulers_and_three_workers_make_one_edition(
    desk: Desk, standin: StandIn, start: Callable[[str], Process]
) -> None:
    """All of them find the same approved edition: it is frozen once, and nobody gets it twice."""
    desk.collect(None, now=NOW)
    assert desk.prepare(desk.catalogue["today"], DAY, now=NOW).status == "approved"
    standin.delay_seconds = 0.2

    running = [start(name) for name in ("scheduler 1", "scheduler 2", "one", "two", "three")]
    until(lambda: account(desk).status == "submitted", seconds=60, what="submitted")
    codes = [process.end() for process in running]

    taken = Counter((one.edition, one.reader) for one in standin.accepted)
    assert set(taken.values()) == {1}
    assert (len(taken), account(desk).submitted) == (account(desk).audience,) * 2
    assert codes == [0] * 5


def test_a_killed_workers_batches_are_uncertain_and_another_finishes(
    desk: Desk, standin: StandIn, start: Callable[[str], Process]
) -> None:
    """kill -9 one of two while both send: the rest goes out, nobody twice, what was in flight is told."""
    an_edition(desk)
    standin.delay_seconds = 0.8
    workers = [start("one"), start("two")]
    for worker in workers:
        worker.told("drain.started")
    seen = len(standin.accepted)
    until(lambda: len(standin.accepted) > seen, what="mail")

    workers[0].end(signal.SIGKILL)
    standin.delay_seconds = 0.0
    until(lambda: not account(desk).pending, what="nothing pending")
    code = workers[1].end()

    stands = account(desk)
    taken = Counter((one.edition, one.reader) for one in standin.accepted)
    assert set(taken.values()) == {1}
    assert stands.uncertain > 0 and stands.submitted > 0
    assert stands.submitted + stands.uncertain == stands.audience
    assert stands.submitted <= len(taken) <= stands.audience
    assert code == 0


def test_a_worker_that_says_it_started_can_be_told_to_stop(
    desk: Desk, standin: StandIn, start: Callable[[str], Process]
) -> None:
    """SIGTERM in the very moment in which its log says that it works: it ends in good order all the same."""
    worker = start("one")
    while "worker.started" not in worker.log.read_text():
        pass

    code = worker.end()

    log = worker.log.read_text()
    assert (code, "worker.stopped" in log, "Traceback" in log) == (0, True, False)


def test_asked_to_stop_a_worker_hands_over(
    desk: Desk, standin: StandIn, start: Callable[[str], Process]
) -> None:
    """SIGTERM in the middle: exit 0 in seconds, nothing uncertain, the rest waits; a new worker needs no job for it."""
    an_edition(desk)
    standin.delay_seconds = 0.8
    first = start("one")
    until(lambda: len(standin.accepted) > 8, what="mail")

    asked_at = time.monotonic()
    code = first.end()
    took = time.monotonic() - asked_at
    stopped, waiting = account(desk), jobs(desk.engine)
    with desk.engine.begin() as connection:
        connection.execute(text("DELETE FROM procrastinate_jobs"))
    standin.delay_seconds = 0.0
    second = start("two")
    until(lambda: account(desk).status == "submitted", what="submitted")

    assert (code, stopped.uncertain, took < 15) == (0, 0, True)
    assert stopped.pending > 0 and stopped.submitted > 0
    assert [status for lock, status in waiting if lock.startswith("drain:")] == ["todo"]
    assert set(Counter((one.edition, one.reader) for one in standin.accepted).values()) == {1}
    assert "Traceback" not in first.log.read_text() + second.log.read_text()


# --- on SQLite ------------------------------------------------------------------------------------


def test_workers_need_postgres(site: Path) -> None:
    """On the embedded default: one sentence that says what to set, or what to run instead."""
    result = CliRunner().invoke(app, ["worker"])

    assert isinstance(result.exception, NewsletterError)
    assert "Workers need PostgreSQL: set DATABASE_URL=" in str(result.exception)
    assert "scheduler.py" in str(result.exception)


def test_the_embedded_default_knows_nothing_of_the_queue(site: Path) -> None:
    """A whole run on SQLite imports neither the queue's library nor PostgreSQL's driver."""
    program = f"""
import sys
sys.argv = ["newsletter", "run", "--only", "today", "--all", "--now", "{NOW.isoformat()}"]
from newsletter.cli.main import app
try:
    app()
except SystemExit as ended:
    assert ended.code == 0, ended.code
print(sorted({{name.split(".")[0] for name in sys.modules}} & {{"procrastinate", "psycopg", "psycopg_pool"}}))
"""

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["[]"]), done.stderr


def test_postgres_without_the_extra_is_a_sentence(site: Path, database: str) -> None:
    """Where the queue's library is missing, the extra is named before anything is done."""
    program = """
import sys
from importlib.machinery import PathFinder
find = PathFinder.find_spec
PathFinder.find_spec = lambda name, *rest: None if name == "procrastinate" else find(name, *rest)
sys.argv = ["newsletter", "status"]
from newsletter.cli.main import main
main()
"""

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert "newsletter[postgres]" in done.stderr and "Traceback" not in done.stderr
