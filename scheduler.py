"""
The scheduled daily job: one APScheduler trigger a newsletter, wired to the desk. No rules here.

``python scheduler.py`` runs until SIGTERM, which finishes the batches in flight. A second one on the
same database waits as standby and takes over when the first is gone. ``--list`` shows the slots of
the next fourteen days.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import socket
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

import structlog
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.interval import IntervalTrigger

from newsletter.catalogue import Newsletter, Publication, load_catalogue
from newsletter.desk import Desk
from newsletter.errors import NewsletterError
from newsletter.outbox.ledger import is_dead, this_owner
from newsletter.rota import Collecting, attend, begin, carry_on, coming, next_wake
from newsletter.settings import load_settings
from newsletter.store.lease import HEARTBEAT_SECONDS, hold_lease, release_lease
from newsletter.store.session import spoken
from newsletter.times import iso, system_clock
from newsletter.watch.listening import Watch

LEASE = "scheduler"
log = structlog.get_logger()


class Wakes(BaseTrigger):  # type: ignore[misc]  # the library has no types
    """Fires whenever the rota has something to look at for one newsletter."""

    def __init__(self, newsletter: Newsletter, publication: Publication) -> None:
        self.newsletter, self.publication = newsletter, publication

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        """The next moment after the last one, or after now."""
        return next_wake(self.newsletter, self.publication, after=(previous_fire_time or now).astimezone(UTC))


class Ending:
    """
    SIGTERM and SIGINT as something to wait for.

    The kernel may hand a signal to any thread, also to one that a library made when it was imported, so blocking
    them in ours is not enough; and a handler that sets an event the main thread waits on can deadlock.
    Python's own handler writes a byte, whichever thread it runs in, and the main thread waits for that.
    """

    def __init__(self) -> None:
        self._told, self._tell = socket.socketpair()
        self._tell.setblocking(False)
        signal.set_wakeup_fd(self._tell.fileno())
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)

    def wait(self, seconds: float | None = None) -> bool:
        """Whether a signal came, now, earlier or within *seconds* (without them: when one came)."""
        return bool(select.select([self._told], [], [], seconds)[0])


class Daily:
    """The running job: triggers, heartbeat and the wish to stop."""

    def __init__(self, desk: Desk, ending: Ending) -> None:
        self.desk = desk
        self.ending = ending
        self.owner = this_owner()
        self.collecting = Collecting()
        self.watch = Watch(desk)
        self.scheduler = BackgroundScheduler(
            timezone="UTC",
            executors={"default": {"type": "threadpool", "max_workers": 16}},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )

    def run(self) -> None:
        """Wait for the lease, work until told to stop, and leave in good order."""
        self._await_lease()
        try:
            if not self.desk.stop.is_set():
                self._work()
        finally:
            release_lease(self.desk.engine, LEASE, self.owner)
            log.info("scheduler.stopped")

    def _await_lease(self) -> None:
        told = False
        while not self.desk.stop.is_set() and not self._hold():
            if not told:
                log.info(
                    "scheduler.standby", reason="another scheduler holds the lease; waiting to take over"
                )
                told = True
            if self.ending.wait(HEARTBEAT_SECONDS):
                self.desk.stop.set()

    def _hold(self) -> bool:
        return hold_lease(self.desk.engine, LEASE, self.owner, at=self.desk.clock(), is_dead=is_dead)

    def _work(self) -> None:
        begin(self.desk)
        log.info("scheduler.started", newsletters=len(self.desk.catalogue.newsletters))
        self._set_triggers()
        self.scheduler.add_job(self._heartbeat, IntervalTrigger(seconds=HEARTBEAT_SECONDS), id="heartbeat")
        self.scheduler.add_job(self._every_minute, IntervalTrigger(minutes=1), id="every-minute")
        self.scheduler.start()
        for newsletter in self.desk.catalogue.newsletters:
            self.scheduler.add_job(self._attend, args=[newsletter.slug], id=f"{newsletter.slug} at start")
        self.scheduler.add_job(carry_on, args=[self.desk], id="carry on at start")
        self.ending.wait()
        self.desk.stop.set()
        log.info("scheduler.stopping", reason="finishing the batches in flight")
        # Taking the jobs out waits for the library's loop to be between two of them: shutting down while it
        # hands one to the pool raises in its thread ("cannot schedule new futures after shutdown").
        self.scheduler.remove_all_jobs()
        self.scheduler.shutdown(wait=True)

    def _set_triggers(self) -> None:
        """One trigger a newsletter; a folder that came or went since is followed."""
        publication = self.desk.catalogue.publication
        wanted = {newsletter.slug: newsletter for newsletter in self.desk.catalogue.newsletters}
        for job in self.scheduler.get_jobs():
            if job.id.startswith("due ") and job.id.removeprefix("due ") not in wanted:
                job.remove()
        for slug, newsletter in wanted.items():
            self.scheduler.add_job(
                self._attend,
                Wakes(newsletter, publication),
                args=[slug],
                id=f"due {slug}",
                replace_existing=True,
            )

    def _attend(self, slug: str) -> None:
        self._read_again()
        try:
            with spoken():
                attend(self.desk, self.desk.catalogue[slug], collecting=self.collecting)
        except NewsletterError as error:
            log.error("slot.stuck", newsletter=slug, reason=str(error))

    def _heartbeat(self) -> None:
        if not self._hold():
            log.error(
                "scheduler.lease_lost", reason="another scheduler took over while this one did not answer"
            )
            self.desk.stop.set()
            os.kill(os.getpid(), signal.SIGTERM)

    def _read_again(self) -> None:
        """Go by the rules of now; while they cannot be read, by the last that could."""
        try:
            before = self.desk.catalogue
            self.desk.reload()
            if self.desk.catalogue != before:
                self._set_triggers()
        except NewsletterError as error:
            log.error("catalogue.unreadable", reason=str(error))

    def _every_minute(self) -> None:
        self._read_again()
        self.watch.look()
        try:
            with spoken():
                carry_on(self.desk)
        except NewsletterError as error:
            log.error("carry_on.stuck", reason=str(error))


def list_slots() -> None:
    """Print the slots of the next fourteen days, clock changes included."""
    catalogue = load_catalogue(load_settings().templates)
    for slot in coming(catalogue, start=system_clock()):
        local = f"{slot.day:%a} {slot.day} {catalogue[slot.newsletter].schedule.at:%H:%M} {slot.zone}"
        print(f"{local:38} {iso(slot.at)}  {slot.newsletter:14} {slot.note}".rstrip())


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line; return the exit code."""
    parser = argparse.ArgumentParser(description="The scheduled daily job.")
    parser.add_argument(
        "--list", action="store_true", help="show the slots of the next fourteen days and exit"
    )
    wanted = parser.parse_args(arguments)
    try:
        if wanted.list:
            list_slots()
            return 0
        ending = Ending()
        desk = Desk.open(load_settings())
        desk.check_provider()
        Daily(desk, ending).run()
    except NewsletterError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
