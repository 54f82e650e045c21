"""
A worker: drains what is being sent and keeps the rota, together with any number of others (PostgreSQL).

Two loops in one process: one takes drains, one at a time, the other takes the ticks of each minute, so that
sending never keeps the rota waiting. Whoever drains and gets something through passes the word on once, so
idle workers join one after another. Jobs only wake; what is sent is decided by the batch table alone.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import TYPE_CHECKING

import structlog
from sqlalchemy.exc import SQLAlchemyError

from newsletter.catalogue import Newsletter
from newsletter.desk import Desk, Tell
from newsletter.errors import NewsletterError, SettingsError
from newsletter.outbox.drain import Mailing, Step, drain
from newsletter.rota import Collecting, attend, begin, carry_on
from newsletter.settings import Settings
from newsletter.store.session import writing
from newsletter.times import system_clock
from newsletter.wakeups import DRAIN, TICK, connector, defer_drain, tidy

if TYPE_CHECKING:
    from procrastinate import App

_ENDING = (signal.SIGTERM, signal.SIGINT)
_AGAIN_SECONDS = 5.0
log = structlog.get_logger()


class WorkerDesk(Desk):
    """A desk that does not send by itself: it wakes whoever is idle, itself included."""

    def deliver(
        self, editions_: Sequence[tuple[Newsletter, int]], *, now: datetime | None, tell: Tell | None = None
    ) -> None:
        """Wake a worker for each of these frozen editions."""
        with writing(self.engine) as session:
            for _, edition_id in editions_:
                defer_drain(session, edition_id)


def _mailings(desk: Desk) -> tuple[Mailing, ...]:
    publication = desk.catalogue.publication
    return tuple(Mailing(newsletter, publication, edition_id) for newsletter, edition_id in desk.being_sent())


def wake(desk: Desk) -> int:
    """Wake workers for everything that is left to be sent; return how many editions."""
    left = desk.being_sent()
    with writing(desk.engine) as session:
        for _, edition_id in left:
            defer_drain(session, edition_id)
    return len(left)


def drain_edition(desk: Desk, edition_id: int) -> None:
    """
    Send what is pending of an edition, and of all others that are being sent; an edition that is gone or
    done is no trouble.

    The first batch that gets through wakes one more worker. Only then: a drain that must wait for a pace
    or a refusing provider would otherwise wake itself without end.
    """
    passed_on = False

    def progress(step: Step) -> None:
        nonlocal passed_on
        if step.outcome == "accepted" and not passed_on:
            passed_on = True
            with suppress(SQLAlchemyError):  # a drain has a claim in its hand: it must not end for a wake-up
                wake(desk)

    mailings = _mailings(desk)
    if not mailings:
        return
    desk.listen()
    log.info("drain.started", edition=edition_id, editions=len(mailings))
    try:
        drain(desk.sender, mailings, progress=progress, more=lambda: _mailings(desk))
    except NewsletterError as error:
        log.error("drain.stuck", edition=edition_id, reason=str(error))
    if desk.stop.is_set() and wake(desk):
        log.info("drain.handed_over", edition=edition_id)
    else:
        log.info("drain.ended", edition=edition_id)


def tick(desk: Desk, collecting: Collecting) -> None:
    """Once a minute: read the catalogue again, make what is due, go on with what was left."""
    try:
        desk.reload()
    except NewsletterError as error:
        log.error("catalogue.unreadable", reason=str(error))
    for newsletter in desk.catalogue.newsletters:
        if desk.stop.is_set():
            return
        try:
            attend(desk, newsletter, collecting=collecting)
        except NewsletterError as error:
            log.error("slot.stuck", newsletter=newsletter.slug, reason=str(error))
    carry_on(desk)


def run_worker(settings: Settings, *, name: str = "worker") -> None:
    """
    Work until SIGTERM, which finishes the batches in flight; a database that is away is waited for.

    Raises:
        NewsletterError: the worker cannot begin; says what to do.
    """
    if settings.is_sqlite:
        raise SettingsError(
            "Workers need PostgreSQL: set DATABASE_URL=postgresql+psycopg://user@host/database, or keep to one machine "
            "and SQLite with python scheduler.py."
        )
    logging.getLogger("psycopg.pool").setLevel(logging.CRITICAL)  # a line for every try; we tell of it once
    desk = WorkerDesk.open(settings, clock=system_clock)
    desk.check_provider()
    begin(desk)
    asyncio.run(_Worker(desk, name).run())
    desk.engine.dispose()
    log.info("worker.stopped", worker=name)


@asynccontextmanager
async def _opened(app: App) -> AsyncIterator[None]:
    """
    *app* with its connections, closed at the end also when told to stop while they are being opened.

    The library's own context closes them only once they were open; a task of the pool that nothing ends would
    then keep the process for ever.
    """
    try:
        await app.open_async()
        yield
    finally:
        await app.close_async()


class _Worker:
    """The two loops, begun again whenever the database comes back, until somebody says stop."""

    def __init__(self, desk: Desk, name: str) -> None:
        self.desk, self.name = desk, name
        self.collecting = Collecting()
        self.ended = asyncio.Event()

    async def run(self) -> None:
        """Serve until a signal comes."""
        loop = asyncio.get_running_loop()
        for number in _ENDING:
            loop.add_signal_handler(number, self._end)
        log.info("worker.started", worker=self.name, left_over=wake(self.desk))
        ending = asyncio.create_task(self.ended.wait())
        while not self.ended.is_set():
            serving = asyncio.create_task(self._serve())
            await asyncio.wait([serving, ending], return_when=asyncio.FIRST_COMPLETED)
            serving.cancel()  # the library takes this as the wish to stop, and waits for its jobs
            with suppress(asyncio.CancelledError):
                await serving
            if not self.ended.is_set():
                await asyncio.wait([ending], timeout=_AGAIN_SECONDS)

    def _end(self) -> None:
        log.info("worker.stopping", worker=self.name, reason="finishing the batches in flight")
        self.desk.stop.set()
        self.ended.set()
        for number in _ENDING:  # a second signal ends the process the hard way
            asyncio.get_running_loop().remove_signal_handler(number)

    async def _serve(self) -> None:
        from procrastinate.exceptions import ConnectorException
        from psycopg import Error

        drains, ticks = self._drains(), self._ticks()
        try:
            async with _opened(drains), _opened(ticks), asyncio.TaskGroup() as group:
                group.create_task(self._listen(drains, DRAIN))
                group.create_task(self._listen(ticks, TICK))
        except* (ConnectorException, Error, OSError) as errors:
            reasons = sorted({str(error.__cause__ or error).split("\n")[0] for error in errors.exceptions})
            log.error("worker.lost_database", worker=self.name, reason="; ".join(reasons))

    async def _listen(self, app: App, queue: str) -> None:
        await app.run_worker_async(
            queues=[queue], name=f"{self.name} {queue}", concurrency=1, delete_jobs="successful",
            install_signal_handlers=False,
        )  # fmt: skip
        raise OSError(f"the loop of the queue {queue} ended")  # it never returns but when it lost its watch

    def _drains(self) -> App:
        from procrastinate import App

        app = App(connector=connector(self.desk.engine))

        @app.task(name=DRAIN, queue=DRAIN)
        def drain_job(edition_id: int) -> None:
            drain_edition(self.desk, edition_id)

        return app

    def _ticks(self) -> App:
        from procrastinate import App

        app = App(connector=connector(self.desk.engine))

        @app.periodic(cron="* * * * *")  # the library's clock is UTC; zones are the rota's
        @app.task(name=TICK, queue=TICK, queueing_lock=TICK)
        async def tick_job(timestamp: int) -> None:
            if given_on := await tidy(app):
                log.warning("jobs.given_on", worker=self.name, jobs=given_on)
            await asyncio.to_thread(tick, self.desk, self.collecting)

        return app
