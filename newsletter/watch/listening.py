"""
Listening: what is done about what came back, on a schedule, by one process at a time.

Whoever is up (the scheduler, a worker; for alarms the pages, too) looks each minute; the database says whose turn it is.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import structlog

from newsletter.desk import Desk
from newsletter.errors import NewsletterError, SourceError, StoreError
from newsletter.outbox.reconcile import reconcile
from newsletter.outbox.returned import take_from
from newsletter.reports.cohorts import keep_week
from newsletter.store.session import spoken
from newsletter.store.telling import claim
from newsletter.watch.alarms import raise_alarms, say
from newsletter.watch.alarms.machine import database_away
from newsletter.watch.digest import send_digest
from newsletter.watch.sunset import take_care

RECONCILED_EVERY = timedelta(hours=1)
READ_EVERY = timedelta(minutes=5)
LOOKED_EVERY = timedelta(minutes=5)
COUNTED_EVERY = timedelta(days=1)
CARED_EVERY = timedelta(days=1)
_EVERY_SECONDS = 60.0

log = structlog.get_logger()


def keep_listening(desk: Desk) -> None:
    """
    Once an hour bring the provider's lists and ours together, once a day count how alive readers are and look
    after those without a sign of life, every five minutes read the mails that came back and look for alarms, on
    Mondays send the digest; whoever looks.
    """
    if claim(desk.engine, "reconcile", at=desk.clock(), lapses=RECONCILED_EVERY):
        try:
            told = reconcile(desk.engine, desk.provider, desk.keys, at=desk.clock())
        except NewsletterError as error:
            log.error("suppressions.not_reconciled", reason=str(error))
        else:
            log.info(
                "suppressions.reconciled",
                listed=told.listed,
                suppressed=told.suppressed,
                cleared=told.cleared,
            )
    if desk.settings.bounces and claim(desk.engine, "bounces", at=desk.clock(), lapses=READ_EVERY):
        try:
            take_from(desk.engine, desk.keys, Path(desk.settings.bounces), at=desk.clock())
        except SourceError as error:
            log.error("bounces.not_read", reason=str(error))
    if claim(desk.engine, "cohorts", at=desk.clock(), lapses=COUNTED_EVERY):
        for newsletter in desk.catalogue.newsletters:
            keep_week(desk.engine, newsletter.slug, now=desk.clock())
    has_sunset = desk.catalogue.publication.sunset is not None
    if has_sunset and claim(desk.engine, "sunset", at=desk.clock(), lapses=CARED_EVERY):
        take_care(desk)
    keep_watch(desk)


def keep_watch(desk: Desk) -> None:
    """Look for alarms, whoever looks, and send the digest when it is due."""
    if claim(desk.engine, "alarms", at=desk.clock(), lapses=LOOKED_EVERY):
        raise_alarms(desk)
        send_digest(desk)


class Watch:
    """
    One process's look at alarms, to be called each minute. It knows for itself whether it has said that the
    database is away: nobody else can be asked then.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk, self._is_away = desk, False

    def look(self) -> None:
        """Look; never raises for a database that is away, which is an alarm itself."""
        try:
            with spoken():
                keep_watch(self._desk)
        except StoreError as error:
            if not self._is_away:
                self._is_away = say(self._desk, database_away(str(error), self._desk.clock()))
        else:
            self._is_away = False

    def keep(self) -> None:
        """Look each minute until the desk is told to stop."""
        while not self._desk.stop.wait(_EVERY_SECONDS):
            try:
                self.look()
            except Exception:  # whatever is wrong with one look, there is a next one
                log.exception("watch.failed")
