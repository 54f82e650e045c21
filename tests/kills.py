"""
The engine of the kill runs: send an edition with processes that die, and count what the provider got.

A run fills a database, freezes an edition, lets workers (``tests.sending``) be killed, starts others until
nothing is pending, feeds the provider's events back, lets a person resend what the provider never saw, and
then compares the ledger with the stand-in: nobody twice, nobody forgotten.
"""

from __future__ import annotations

import random
import signal
import threading
import time
import uuid
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Any

import psutil
from sqlalchemy import Engine, create_engine, insert, text
from sqlmodel import Session, col, select

from newsletter.audience.addresses import address_hash
from newsletter.edition import EditionStatus
from newsletter.outbox.accounts import Balance, audit
from newsletter.outbox.doubt import settle_by_word
from newsletter.outbox.drain import Mailing, drain
from newsletter.outbox.evidence import record_events, settle_from_stored
from newsletter.outbox.freeze import freeze
from newsletter.outbox.ids import unpack
from newsletter.outbox.ledger import BatchState
from newsletter.providers.sendgrid_events import read_events
from newsletter.store.editions import edition_ref
from newsletter.store.session import open_store, reading, writing
from newsletter.store.tables import (
    Batch,
    EditionRow,
    ReaderException,
    Rendering,
    Subscriber,
    Subscription,
)
from newsletter.times import system_clock
from tests import sending
from tests.processes import Forked
from tests.sending import DURING_FREEZE, KEYS, NEWSLETTER, PUBLICATION, RANDOM, STEPS, sender_of
from tests.standin import StandIn, Taken
from tests.standin_events import body_of

ROOT = Path(__file__).resolve().parents[1]

FAULTS = {
    "rate_limit": 0.05,
    "server_error_before": 0.01,
    "server_error_after": 0.01,
    "stall": 0.01,
    "reset_after_accept": 0.02,
    "truncated": 0.01,
}
"""What a bad day of the provider looks like: action to probability."""

BAD_EVERY = 500
STALL_SECONDS = 3.0
SHORT_TIMEOUT = 1.5
"""Seconds after which a client gives up on a stalled answer; a busy machine answers sooner."""

LONGEST_RUN = 90.0
"""Seconds after which a worker that was not to die has hung."""

ROUNDS_OF_WORK = 8


def standin_of(
    *, seed: int, with_faults: bool = False, delay_seconds: float = 0.02, keep_requests: bool = False
) -> StandIn:
    """A stand-in that takes a little time for a request, and with faults refuses one address in 500."""
    return StandIn(
        faults=FAULTS if with_faults else None, seed=seed, stall_seconds=STALL_SECONDS,
        delay_seconds=delay_seconds, keep_requests=keep_requests, bad_addresses=is_bad if with_faults else None,
    )  # fmt: skip


def is_bad(email: str) -> bool:
    """Whether the provider refuses an address of ``email_of``."""
    return int(email.removeprefix("reader").partition("@")[0]) % BAD_EVERY == 7


def email_of(number: int) -> str:
    """The address of reader *number*."""
    return f"reader{number}@mail{number % 50}.example.org"


def reader_of(number: int) -> str:
    """The public id of reader *number*."""
    return f"{number:024x}"


_ONE_MIGRATION = threading.Lock()
"""Alembic keeps what it migrates in its module, so two threads would mix up their databases."""


def _migrate(url: str) -> None:
    with _ONE_MIGRATION:
        open_store(url).dispose()


@contextmanager
def fresh_database(folder: Path, postgres: str = "") -> Iterator[str]:
    """The URL of an empty, migrated database: a file in *folder*, or a schema of its own in *postgres*."""
    name = f"k{uuid.uuid4().hex[:16]}"
    if not postgres:
        url = f"sqlite:///{folder}/{name}.db"
        _migrate(url)
        yield url
        return
    admin = create_engine(postgres, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE SCHEMA {name}"))
    url = f"{postgres}?options=-csearch_path%3D{name}"
    _migrate(url)
    yield url
    with admin.connect() as connection:
        connection.execute(text(f"DROP SCHEMA {name} CASCADE"))
    admin.dispose()


def fill(engine: Engine, number: int) -> None:
    """Readers 1…*number* of the newsletter; every third pays."""
    joined = system_clock() - timedelta(days=30)
    with writing(engine) as session:
        session.execute(
            insert(Subscriber),
            [
                {
                    "id": index, "reader": reader_of(index), "email": email_of(index), "email_key": email_of(index),
                    "address_hash": address_hash(KEYS.suppression, email_of(index)), "name": f"Zoë {index}",
                    "plan": "annual" if index % 3 == 0 else "free", "joined_at": joined, "updated_at": joined,
                }
                for index in range(1, number + 1)
            ],
        )  # fmt: skip
        session.execute(
            insert(Subscription),
            [
                {"subscriber_id": index, "newsletter": NEWSLETTER.slug, "since": joined}
                for index in range(1, number + 1)
            ],
        )


def an_edition(engine: Engine, subjects: Sequence[str] = ()) -> int:
    """An approved edition with two variants of a usual size, and *subjects* if any are given; returns its id."""
    with writing(engine) as session:
        row = EditionRow(
            newsletter=NEWSLETTER.slug, edition_date=date(2026, 11, 20), status="approved",
            made_at=system_clock(), findings=[],
        )  # fmt: skip
        session.add(row)
        session.flush()
        for variant in ("free", "paying"):
            story = f"<p>A story for {variant} readers, <a href='[[nl:unsubscribe_url]]'>leave</a>.</p>"
            session.add(
                Rendering(edition_id=row.id or 0, variant=variant, subject=[*subjects, f"For {variant} readers"][0],
                          other_subjects=list(subjects[1:]), html=zlib.compress((story * 250).encode()), text=zlib.compress(b"A story."))
            )  # fmt: skip
        return row.id or 0


@dataclass(slots=True)
class Field:
    """Where a run takes place: a database, a stand-in, an edition, and how workers are started."""

    url: str
    standin: StandIn
    readers: int
    batch_size: int = 50
    in_flight: int = 4
    timeout_seconds: float = 30.0
    subjects: tuple[str, ...] = ()
    ahead: timedelta = timedelta()
    heard: set[str] = field(default_factory=set)
    engine: Engine = field(init=False)
    edition_id: int = field(init=False)

    def __post_init__(self) -> None:
        self.engine = open_store(self.url, migrate=False)
        fill(self.engine, self.readers)
        self.edition_id = an_edition(self.engine, self.subjects)

    def freeze(self) -> None:
        """Freeze the edition here, so that the workers only drain."""
        at = system_clock()
        freeze(
            self.engine, NEWSLETTER, PUBLICATION, self.edition_id, now=at, at=at, batch_size=self.batch_size
        )

    def worker(self, *options: str) -> Worker:
        """A process that is ready to drain; more command line in *options*."""
        self.engine.dispose()  # no connection of ours holds a file or a lock while others die
        given = {
            "--database": self.url, "--sink": self.standin.url, "--edition": self.edition_id,
            "--in-flight": self.in_flight, "--batch-size": self.batch_size, "--timeout": self.timeout_seconds,
            "--ahead": self.ahead.total_seconds(),
        }  # fmt: skip
        return Worker([*(str(part) for pair in given.items() for part in pair), *options])

    def work(self, workers: Sequence[Worker]) -> list[Ended]:
        """Let *workers* go at the same time, and wait for their ends."""
        for worker in workers:
            worker.go()
        return [worker.wait() for worker in workers]

    def send_here(self) -> None:
        """Drain in this process, which is not killed."""
        sender = sender_of(
            self.engine, self.standin.url, in_flight=self.in_flight, batch_size=self.batch_size,
            timeout_seconds=self.timeout_seconds, ahead=self.ahead,
        )  # fmt: skip
        drain(sender, [Mailing(NEWSLETTER, PUBLICATION, self.edition_id)])

    def edition(self, session: Session) -> EditionRow:
        """The edition as it stands."""
        return session.get_one(EditionRow, self.edition_id, populate_existing=True)

    def balance(self) -> Balance:
        """What ``audit`` says."""
        with reading(self.engine) as session:
            return audit(session, self.edition(session))

    def batches(self) -> list[Batch]:
        """All batches, by their number."""
        with reading(self.engine) as session:
            found = session.exec(
                select(Batch).where(Batch.edition_id == self.edition_id).order_by(col(Batch.seq))
            )
            return list(found.all())

    def in_state(self, *states: BatchState) -> list[Batch]:
        """The batches in one of *states*."""
        return [batch for batch in self.batches() if batch.state in states]

    def taken(self) -> list[Taken]:
        """Whom the stand-in took of this edition."""
        with reading(self.engine) as session:
            reference = edition_ref(self.edition(session))
        return [one for one in self.standin.taken if one.edition == reference]

    def unclaimed(self) -> list[str]:
        """Batches that the stand-in took although no claim of theirs was committed; must be empty."""
        taken = {one.batch for one in self.taken()}
        known = {batch.id: batch for batch in self.batches()}
        return sorted(name for name in taken if not _has_claim(name, known))

    def quiet(self) -> None:
        """Wait until the stand-in has answered what it was asked; who hung up half-way may never be answered."""
        last, since = -1, time.monotonic()
        while True:
            with self.standin._lock:
                begun, answered = self.standin._begun, len(self.standin.statuses)
            if answered + begun != last:
                last, since = answered + begun, time.monotonic()
            calm = time.monotonic() - since
            if (begun == answered and calm > 0.1) or calm > STALL_SECONDS + 1.0:
                return
            time.sleep(0.02)

    def hear(self, dice: random.Random) -> None:
        """Feed back a few events of every batch not heard of before: in any order, some of them twice."""
        by_batch: dict[str, list[Taken]] = {}
        for one in self.taken():
            if one.batch not in self.heard:
                by_batch.setdefault(one.batch, []).append(one)
        self.heard |= by_batch.keys()
        told = [
            self.standin.event(kind, one)
            for people in by_batch.values()
            for one in dice.sample(people, min(2, len(people)))
            for kind in dice.choice((("processed",), ("delivered", "processed"), ("deferred",)))
        ]
        told += dice.sample(told, len(told) // 4)
        dice.shuffle(told)
        for start in range(0, len(told), 40):
            self.post(told[start : start + 40])

    def post(self, told: Sequence[dict[str, Any]]) -> None:
        """Record events as if they had come to the webhook."""
        record_events(self.engine, read_events(body_of(told)), keys=KEYS, at=system_clock())

    @contextmanager
    def hearing(self, dice: random.Random) -> Iterator[None]:
        """Meanwhile, hear of batches as soon as they are taken, quicker than their senders hear of it."""
        is_over = threading.Event()

        def listen() -> None:
            while not is_over.wait(0.02):
                self.hear(dice)

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()

    def unproven(self) -> list[str]:
        """Uncertain batches that an event has named: must be empty after ``hear``."""
        taken = {one.batch for one in self.taken()}
        return [
            name
            for batch in self.in_state(BatchState.UNCERTAIN)
            if (name := f"{batch.id}.{batch.attempt}") in taken
        ]

    def resend(self) -> int:
        """A person's word: what is still uncertain goes again. Returns how many batches."""
        uncertain = self.in_state(BatchState.UNCERTAIN)
        for batch in uncertain:
            settle_by_word(
                self.engine, self.edition_id, batch.seq, "resend", actor="a person", at=system_clock()
            )
        return len(uncertain)

    def finish(self, *, workers: int = 0, dice: random.Random) -> Finish:
        """
        Start *workers* that are not killed, then send what is left here, until nothing is pending or uncertain.

        Events are heard after each round; what they do not name is resent by a person's word.
        """
        problems: list[str] = []
        resent = 0
        for number in range(ROUNDS_OF_WORK):
            if self.subjects:  # by then the time of the test is over, or has at least begun
                self.ahead += timedelta(hours=2)
            if number or not workers:
                self.send_here()
            else:
                ends = self.work([self.worker() for _ in range(workers)])
                problems += [f"a worker ended with {end}" for end in ends if end.code or end.has_traceback]
            problems += [f"{name} was taken without a claim" for name in self.unclaimed()]
            self.quiet()
            self.hear(dice)
            settle_from_stored(self.engine, at=system_clock())
            problems += [f"batch {name} is uncertain although an event named it" for name in self.unproven()]
            resent += self.resend()
            if not self.in_state(BatchState.PENDING, BatchState.SUBMITTING, BatchState.UNCERTAIN):
                break
        self.engine.dispose()
        return Finish(resent, tuple(problems))

    def count(self) -> Count:
        """Compare ledger and stand-in at the end."""
        balance = self.balance()
        went = Counter(one.reader for one in self.taken())
        with reading(self.engine) as session:
            status = self.edition(session).status
            out = {
                reader_of(row.subscriber_id)
                for row in session.exec(
                    select(ReaderException).where(ReaderException.edition_id == self.edition_id)
                )
                if row.verdict in ("skipped", "failed")
            }
        batches = self.batches()
        frozen = {reader_of(number) for batch in batches for number in unpack(batch.ids)}
        doubles = sum(1 for times in went.values() if times > 1)
        missing = len((frozen - out) - went.keys())
        extra = len(went.keys() - (frozen - out))
        accounted = balance.submitted + sum(balance.skipped.values()) + sum(balance.failed.values())
        problems = [
            *balance.problems,
            *([f"{doubles} readers have it twice"] if doubles else []),
            *([f"{missing} readers should have it and have not"] if missing else []),
            *([f"{extra} readers have it and should not"] if extra else []),
            *(
                [f"{balance.submitted} are submitted, the provider took {went.total()}"]
                if balance.submitted != went.total()
                else []
            ),
            *(
                [f"{accounted} of {balance.audience} readers are settled"]
                if accounted != balance.audience
                else []
            ),
            *([f"the edition is {status}"] if status != EditionStatus.SUBMITTED else []),
            *(
                [f"batch {one.seq} says {one.doubled_n} doubles"]
                if (one := next((b for b in batches if b.doubled_n), None))
                else []
            ),
        ]
        return Count(
            doubles, missing + abs(balance.audience - accounted), balance.submitted, balance, tuple(problems)
        )


def _has_claim(name: str, known: dict[int | None, Batch]) -> bool:
    number, _, attempt = name.partition(".")
    batch = known.get(int(number))
    if batch is None or batch.attempt < int(attempt):
        return False
    return batch.attempt > int(attempt) or batch.state != BatchState.PENDING


@dataclass(frozen=True, slots=True)
class Ended:
    """How a worker ended: its exit code (negative: a signal) and what it said on stderr."""

    code: int
    said: str

    @property
    def was_killed(self) -> bool:
        """Whether it killed itself, as it was told to."""
        return self.code == -signal.SIGKILL

    @property
    def has_traceback(self) -> bool:
        """Whether it died of something nobody answered."""
        return "Traceback" in self.said

    def __str__(self) -> str:
        return f"{self.code} {self.said[-2000:]}".strip()


class Worker:
    """A process of ``tests.sending``."""

    def __init__(self, options: Sequence[str]) -> None:
        self.process = Forked(sending.main, options)

    def go(self) -> None:
        """Wait until it is ready, and start it."""
        if self.process.hear() == "ready\n":
            self.process.tell("go\n")

    def wait(self) -> Ended:
        """Wait for its end; one that hangs is killed, and says so."""
        try:
            code = self.process.wait(LONGEST_RUN)
        except TimeoutExpired:
            self.process.kill()
            return Ended(99, f"hung for {LONGEST_RUN} seconds: {self.process.communicate()[1]}")
        return Ended(code, self.process.communicate()[1])

    def wait_until_stopped(self) -> bool:
        """Wait for SIGSTOP to take; False when it ended instead."""
        process = psutil.Process(self.process.pid)
        while self.process.poll() is None:
            if process.status() == psutil.STATUS_STOPPED:
                return True
            time.sleep(0.02)
        return False

    def go_on(self) -> None:
        """Let a stopped process run again."""
        self.process.send_signal(signal.SIGCONT)


@dataclass(frozen=True, slots=True)
class Finish:
    """How the end was reached: batches *resent* by a person's word."""

    resent: int
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Count:
    """What came out: readers, and sentences about what does not hold."""

    doubles: int
    unaccounted: int
    submitted: int
    balance: Balance
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One kill run. *uncertain* is how many readers the killed workers left in flight."""

    database: str
    step: str
    seed: int
    kills: int
    uncertain: int
    doubles: int
    unaccounted: int
    submitted: int
    resent: int
    balance: Balance
    problems: tuple[str, ...]

    @property
    def is_clean(self) -> bool:
        """Whether everything that must hold did."""
        return not self.problems


def run_once(
    database_url: str,
    standin: StandIn,
    *,
    seed: int,
    readers: int = 1500,
    workers: int = 1,
    step: str = RANDOM,
    rounds: int = 1,
    batch_size: int = 50,
    in_flight: int = 4,
    timeout_seconds: float = 30.0,
    hear_early: bool = False,
    restart_here: bool = False,
    subjects: tuple[str, ...] = (),
    after_freeze: Callable[[Field], None] | None = None,
    after_kill: Callable[[Field], None] | None = None,
) -> Outcome:
    """
    Send one edition to *readers* while workers are killed at *step*, and count.

    In the first round at least one worker dies, in each of the *rounds* after it every one may, anywhere.
    *hear_early*: events come while the batches they are about still are in flight, and never again.
    *restart_here*: the next start is of this process and not of *workers* new ones, which is quicker. *subjects* are
    tried on a sample, and the rest goes with one of them once time has passed.
    Everything that is drawn comes from *seed*.
    """
    dice = random.Random(f"{seed} {step} {workers} {rounds}")
    place = Field(database_url, standin, readers, batch_size, in_flight, timeout_seconds, subjects)
    problems: list[str] = []
    kills = uncertain = 0
    if step != DURING_FREEZE:
        place.freeze()
        if after_freeze is not None:
            after_freeze(place)
    for number in range(rounds):
        orders = [_order(dice, step, number, worker) for worker in range(workers)]
        before = {(batch.id, batch.attempt) for batch in place.in_state(BatchState.SUBMITTING)}
        ready = [place.worker(*order) for order in orders]  # closes our connections: nobody hears meanwhile
        with place.hearing(dice) if hear_early else nullcontext():
            ends = place.work(ready)
        killed = sum(end.was_killed for end in ends)
        kills += killed
        problems += [
            f"a worker that was not to die ended with {end}"
            for end in ends
            if not end.was_killed and (end.code or end.has_traceback)
        ]
        left = [
            batch
            for batch in place.in_state(BatchState.SUBMITTING)
            if (batch.id, batch.attempt) not in before
        ]
        here = sum(batch.n - batch.skipped_n - batch.failed_n - batch.moved_n for batch in left)
        uncertain += here
        if here > killed * in_flight * batch_size:
            problems.append(f"{here} readers are uncertain after {killed} kills")
        problems += [f"{name} was taken without a claim" for name in place.unclaimed()]
    if not kills and step != RANDOM:
        problems.append(f"nobody was killed at {step}")
    if step == DURING_FREEZE and kills == workers:
        problems += _after_a_dead_freeze(place)
    if after_kill is not None:
        after_kill(place)
    place.freeze()  # does nothing unless the freeze itself died
    finish = place.finish(workers=0 if restart_here else workers, dice=dice)
    count = place.count()
    place.engine.dispose()
    return Outcome(
        database=place.engine.dialect.name, step=step, seed=seed, kills=kills, uncertain=uncertain,
        doubles=count.doubles, unaccounted=count.unaccounted, submitted=count.submitted, resent=finish.resent,
        balance=count.balance, problems=(*problems, *finish.problems, *count.problems),
    )  # fmt: skip


def _order(dice: random.Random, step: str, number: int, worker: int) -> list[str]:
    """What worker number *worker* is told in round *number*: where to die, or nothing."""
    if number > 0:
        step = dice.choice((*STEPS, RANDOM))
    # Who lives through a freeze would leave nothing to freeze for the others.
    lives = worker > 0 and dice.random() < 0.5 and step != DURING_FREEZE
    freezes = ["--freeze"] if step == DURING_FREEZE else []
    if lives:
        return freezes
    if step == RANDOM:
        return ["--kill", RANDOM, "--after", f"{dice.uniform(0, 0.3):.3f}"]
    most = 3 if step == DURING_FREEZE or number else 5
    return [*freezes, "--kill", step, "--nth", str(dice.randint(1, most))]


def _after_a_dead_freeze(place: Field) -> list[str]:
    """A freeze that did not commit has left nothing."""
    with reading(place.engine) as session:
        status = place.edition(session).status
    if status == EditionStatus.APPROVED and not place.batches():
        return []
    return [f"after a freeze that died the edition is {status} with {len(place.batches())} batches"]
