"""
Listening: what is done about what came back, on a schedule, by one process at a time.

Whoever is up (the scheduler, a worker) looks each minute; the database says whose turn it is.
"""

from __future__ import annotations

from datetime import timedelta

import structlog

from newsletter.alarms import raise_alarms
from newsletter.desk import Desk
from newsletter.digest import send_digest
from newsletter.errors import NewsletterError
from newsletter.outbox.reconcile import reconcile
from newsletter.store.telling import claim
from newsletter.sunset import take_care

RECONCILED_EVERY = timedelta(hours=1)
LOOKED_EVERY = timedelta(minutes=5)
CARED_EVERY = timedelta(days=1)

log = structlog.get_logger()


def keep_listening(desk: Desk) -> None:
    """
    Once an hour bring the provider's lists and ours together, every five minutes look for alarms, on Mondays
    send the digest, once a day look after readers without a sign of life; whoever looks.
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
    if claim(desk.engine, "alarms", at=desk.clock(), lapses=LOOKED_EVERY):
        raise_alarms(desk)
        send_digest(desk)
    if desk.catalogue.publication.sunset and claim(
        desk.engine, "sunset", at=desk.clock(), lapses=CARED_EVERY
    ):
        take_care(desk)
