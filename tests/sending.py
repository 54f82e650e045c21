"""
One process that sends an edition and may be killed, stopped or starved at a chosen step.

Forked by ``tests.processes`` with ``--database URL --sink URL --edition ID --kill STEP --nth K``: it says "ready",
waits for a line, then drains. The steps are put around functions of the outbox and of the wire from here,
so the code that is tested knows nothing of them. Ends as the commands do: 0, or 1 with a sentence.
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from functools import wraps
from itertools import count
from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlmodel import Session

from newsletter.audience.tokens import Signer
from newsletter.catalogue import Newsletter, Publication
from newsletter.errors import NewsletterError
from newsletter.outbox import claim as claiming
from newsletter.outbox import drain as draining
from newsletter.outbox import freeze as freezing
from newsletter.providers.sendgrid import SendGrid
from newsletter.providers.smtp import Smtp
from newsletter.providers.smtp_line import relay_of
from newsletter.providers.wire import Wire
from newsletter.settings import Keys
from newsletter.store.session import open_store
from newsletter.times import system_clock

STEPS = (
    "before-claim",  # nothing of this batch is written
    "after-claim",  # the claim is committed, no byte is sent
    "mid-body",  # half of the body is handed to the socket
    "after-body",  # the whole body is, no answer is read
    "after-202",  # the acceptance is read, and not committed
    "during-settle",  # it is written, in a transaction that is not committed
    "after-commit",  # it is committed
)
"""The steps of a batch, in their order."""

DURING_FREEZE = "during-freeze"
DURING_CHOICE = "during-choice"
RANDOM = "random"

KEYS = Keys(
    signing=(b"a signing key of the kill runs alone",), suppression=b"a suppression key of the kill runs"
)
PUBLICATION = Publication.model_validate(
    {
        "name": "The Parallel", "url": "https://www.theparallel.example", "postal_address": "Here",
        "sender": {"name": "The Parallel", "email": "p@news.theparallel.example"}, "timezone": "Europe/Paris",
        "plans": [
            {"id": "free", "name": "Free", "class": "free"}, {"id": "annual", "name": "Annual", "class": "paying"},
        ],
    }
)  # fmt: skip
NEWSLETTER = Newsletter.model_validate(
    {
        "slug": "daily", "name": "Daily", "subject": "s", "preheader": "p", "window_hours": 24, "min_stories": 1,
        "schedule": {"days": ["mon"], "at": "06:30"}, "sections": [{"id": "a", "block": "briefs", "max": 3}],
        "subject_test": {"share": 0.4, "fewest": 1},
    }
)  # fmt: skip

LEASE_MARGIN_SHARE = 2 / 15
"""The part of its lease a claim is not used in, as in the outbox: 2 of 15 minutes."""


class Trigger:
    """Sends this process a signal at the *nth* time a step is reached."""

    def __init__(self, nth: int, number: signal.Signals, *, outside: threading.Lock | None = None) -> None:
        """*outside*: a lock that is held while the database is being written; a signal waits for it."""
        self._nth, self._number = nth, number
        self._outside = outside
        self._times = 0
        self._lock = threading.Lock()

    def is_due(self) -> bool:
        """Count a time; say whether this is the one."""
        with self._lock:
            self._times += 1
            return self._times == self._nth

    def fire(self) -> None:
        """Kill or stop this process; comes back only from a stop."""
        with self._outside or nullcontext():
            os.kill(os.getpid(), self._number)

    def reach(self) -> None:
        """Count a time, and fire at the right one."""
        if self.is_due():
            self.fire()


def _before(function: Callable[..., Any], act: Callable[[], None]) -> Callable[..., Any]:
    @wraps(function)
    def wrapped(*args: Any, **options: Any) -> Any:
        act()
        return function(*args, **options)

    return wrapped


def _after(function: Callable[..., Any], act: Callable[[Any, tuple[Any, ...]], None]) -> Callable[..., Any]:
    """*act* gets the result and the arguments."""

    @wraps(function)
    def wrapped(*args: Any, **options: Any) -> Any:
        result = function(*args, **options)
        act(result, args)
        return result

    return wrapped


def install(step: str, trigger: Trigger) -> None:
    """
    Put *trigger* at *step*.

    Raises:
        ValueError: there is no such step.
    """
    outbox: Any = draining
    wire: Any = Wire
    writer: Any = freezing.Writer
    match step:
        case "before-claim":
            outbox.claim = _before(outbox.claim, trigger.reach)
        case "after-claim":
            outbox.look = _before(outbox.look, trigger.reach)
        case "mid-body":
            wire._send = _halved(wire._send, trigger)
        case "after-body":
            wire._send = _after(wire._send, lambda _result, _args: trigger.reach())
        case "after-202":
            wire._answer = _after(
                wire._answer, lambda told, _args: trigger.reach() if told[0].status == 202 else None
            )
        case "during-settle":
            outbox.settle = _after(outbox.settle, lambda _result, _args: trigger.reach())
        case "after-commit":
            outbox._Drain._settle_and_claim = _after(
                outbox._Drain._settle_and_claim, lambda _result, args: trigger.reach() if args[1] else None
            )
        case "during-freeze":
            # Each class is sorted, and then all batches are in the transaction; it is not committed.
            writer.add = _after(writer.add, lambda _result, _args: trigger.reach())
            writer.close = _after(writer.close, lambda _result, _args: trigger.reach())
        case "during-choice":
            # It is written, in a transaction that is not committed.
            claims: Any = claiming
            claims.choose = _after(claims.choose, lambda chosen, _args: trigger.reach() if chosen else None)
        case _:
            raise ValueError(f"there is no step {step!r}")


def _halved(send: Callable[..., Any], trigger: Trigger) -> Callable[..., Any]:
    """``Wire._send``, whose body stops half-way at the right time."""

    @wraps(send)
    def wrapped(
        wire: Wire, connection: Any, method: str, target: str, headers: dict[str, str], body: Sequence[bytes]
    ) -> None:
        if not trigger.is_due():
            send(wire, connection, method, target, headers, body)
            return
        whole = b"".join(body)

        def halves() -> Iterator[bytes]:
            yield whole[: len(whole) // 2]
            trigger.fire()
            yield whole[len(whole) // 2 :]

        connection.request(method, target, halves(), {**headers, "Content-Length": str(len(whole))})

    return wrapped


def shorten_lease(seconds: float) -> None:
    """Believe claims for *seconds* only; the margin before the end shrinks with it."""
    claims: Any = claiming
    outbox: Any = draining
    claims.LEASE = timedelta(seconds=seconds)
    outbox._LEASE_MARGIN = timedelta(seconds=seconds * LEASE_MARGIN_SHARE)


def make_read_only(engine: Engine, *, after: int) -> None:
    """From the transaction that follows *after* writing ones on, the database takes nothing any more."""
    begun = count(1)
    is_over = threading.Event()

    def begin(connection: Connection) -> None:
        if connection.get_execution_options().get("writes") and next(begun) > after:
            is_over.set()
        if is_over.is_set():
            is_sqlite = connection.dialect.name == "sqlite"
            connection.exec_driver_sql("PRAGMA query_only = ON" if is_sqlite else "SET TRANSACTION READ ONLY")

    event.listen(engine, "begin", begin)


def lock_of_writes() -> threading.Lock:
    """
    Return a lock that is held while a drain of this process writes, its commit included.

    Who is stopped in the middle of one keeps everybody else from writing on SQLite, which is no news.
    """
    lock = threading.Lock()

    def locked(writing: Callable[[Engine], AbstractContextManager[Session]]) -> Callable[..., Any]:
        @contextmanager
        def wrapped(engine: Engine) -> Iterator[Session]:
            with lock, writing(engine) as session:
                yield session

        return wrapped

    for module in (draining, claiming):
        users: Any = module
        users.writing = locked(users.writing)
    return lock


def limit_files(size_bytes: int) -> None:
    """Let no file of this process grow beyond *size_bytes*; writing there fails (Python ignores SIGXFSZ)."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def _kill_later(seconds: float) -> None:
    time.sleep(seconds)
    os.kill(os.getpid(), signal.SIGKILL)


def sender_of(
    engine: Engine,
    sink: str,
    *,
    in_flight: int,
    batch_size: int,
    timeout_seconds: float,
    ahead: timedelta = timedelta(),
) -> draining.Sender:
    """A sender to the stand-in at *sink* (or to a relay at ``smtp://…``), with small batches, short waits and a clock that is *ahead*."""
    provider: SendGrid | Smtp
    if sink.startswith("smtp"):
        provider = Smtp(relay_of(sink, named="--sink"), timeout_seconds=timeout_seconds)
    else:
        provider = SendGrid("SG.killed", host=sink, timeout_seconds=timeout_seconds, jitter=lambda: 0.0)
    provider.max_recipients = batch_size
    return draining.Sender(
        engine=engine, provider=provider, signer=Signer(KEYS), base_url="https://mail.theparallel.example",
        in_flight=in_flight, clock=lambda: system_clock() + ahead,
    )  # fmt: skip


def send(given: argparse.Namespace) -> None:
    """Do what the command line says."""
    engine = open_store(given.database, migrate=False)
    sender = sender_of(
        engine, given.sink, in_flight=given.in_flight, batch_size=given.batch_size, timeout_seconds=given.timeout,
        ahead=timedelta(seconds=given.ahead),
    )  # fmt: skip
    if given.lease:
        shorten_lease(given.lease)
    if given.read_only_after:
        make_read_only(engine, after=given.read_only_after)
    if given.kill and given.kill != RANDOM:
        install(given.kill, Trigger(given.nth, signal.SIGKILL))
    if given.stop:
        install(given.stop, Trigger(given.nth, signal.SIGSTOP, outside=lock_of_writes()))
    os.write(sys.stdin.fileno(), b"ready\n")  # a socket, where it is forked (``tests.processes``)
    sys.stdin.readline()
    if given.largest_file:
        limit_files(given.largest_file)
    if given.kill == RANDOM:
        threading.Thread(target=_kill_later, args=(given.after,), daemon=True).start()
    if given.freeze:
        at = system_clock()
        freezing.freeze(
            engine, NEWSLETTER, PUBLICATION, given.edition, now=at, at=at, batch_size=given.batch_size
        )
    draining.drain(sender, [draining.Mailing(NEWSLETTER, PUBLICATION, given.edition)])
    engine.dispose()


def main(arguments: Sequence[str] | None = None) -> int:
    """Send, as a command would; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", required=True, help="as DATABASE_URL")
    parser.add_argument("--sink", required=True, help="where the stand-in listens")
    parser.add_argument("--edition", type=int, required=True)
    parser.add_argument("--in-flight", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=50)
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds of each step on the network")
    parser.add_argument("--freeze", action="store_true", help="freeze the edition first, if nobody has")
    parser.add_argument("--kill", choices=(*STEPS, DURING_FREEZE, DURING_CHOICE, RANDOM), help="where to die")
    parser.add_argument("--stop", choices=STEPS, help="where to stop (SIGSTOP)")
    parser.add_argument("--nth", type=int, default=1, help="at which time the step is reached")
    parser.add_argument(
        "--after", type=float, default=0.0, help="random: seconds from the start of the drain"
    )
    parser.add_argument("--ahead", type=float, default=0.0, help="seconds the clock is ahead")
    parser.add_argument("--lease", type=float, default=0.0, help="seconds a claim is believed")
    parser.add_argument("--read-only-after", type=int, default=0, help="writing transactions that succeed")
    parser.add_argument("--largest-file", type=int, default=0, help="bytes a file may have")
    try:
        send(parser.parse_args(arguments))
    except NewsletterError as error:
        print(error, file=sys.stderr)
        return 1
    return 0
