"""What the database says: can it be used, what is in doubt in it, does its suppression list agree with the provider's."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import col, func, select

from newsletter.audience.subscribers import check_suppression_key
from newsletter.cli.checks import Check
from newsletter.errors import NewsletterError, ProviderError
from newsletter.outbox.reconcile import drift
from newsletter.providers import Provider
from newsletter.settings import Keys, Settings, load_keys
from newsletter.store.health import health
from newsletter.store.session import open_store, reading, spoken
from newsletter.store.tables import Batch, SourceState, Subscriber
from newsletter.times import iso, system_clock
from newsletter.wakeups import queue_health

_DRIFT_DAYS = 30


def store_checks(settings: Settings) -> Iterator[Check]:
    """Look at the database that *settings* name; nothing is changed but an old schema."""
    try:
        engine = open_store(settings.database_url)
        check_suppression_key(engine, load_keys(settings))
        with spoken():
            yield Check("database", "ok", f"{engine.dialect.name}, schema up to date.")
            yield from (Check(*look) for look in health(engine, at=system_clock()))
            yield from _contents(engine)
    except NewsletterError as error:
        yield Check("database", "error", str(error))


def _contents(engine: Engine) -> Iterator[Check]:
    with reading(engine) as session:
        active = session.exec(
            select(func.count()).select_from(Subscriber).where(Subscriber.status == "active")
        ).one()
        uncertain = session.exec(
            select(func.count()).select_from(Batch).where(Batch.state == "uncertain")
        ).one()
        stale = session.exec(
            select(SourceState.source).where(
                col(SourceState.last_success_at) < system_clock() - timedelta(days=3)
            )
        ).all()
    if active:
        yield Check("subscribers", "ok", f"{active} active subscribers.")
    else:
        yield Check(
            "subscribers", "error", "There are no active subscribers: newsletter subscribers import FILE"
        )
    if uncertain:
        yield Check(
            "deliveries", "warning", f"{uncertain} batches are uncertain: newsletter status, then settle."
        )
    for severity, sentence in queue_health(engine):
        yield Check("workers", severity, sentence)
    if stale:
        yield Check(
            "sources", "warning", f"Not read with success for three days: {', '.join(sorted(stale))}."
        )


def drift_check(engine: Engine, provider: Provider, keys: Keys) -> Check:
    """Whether everybody whom the provider has barred lately is barred here, too."""
    try:
        told = drift(engine, provider, keys, since=system_clock() - timedelta(days=_DRIFT_DAYS))
    except ProviderError as error:
        return Check("suppressions", "warning", str(error))
    except SQLAlchemyError as error:
        return Check("suppressions", "warning", f"They cannot be compared ({type(error).__name__}).")
    if told.unknown:
        when = iso(told.reconciled_at) if told.reconciled_at else "never so far"
        return Check(
            "suppressions", "warning",
            f"{told.unknown} of {told.listed} addresses that the provider has barred in {_DRIFT_DAYS} days are mailed from here (brought together last: {when}): is the scheduler running, and does the webhook post?",
        )  # fmt: skip
    said = f"{told.listed} addresses" if told.listed else "nobody"
    return Check(
        "suppressions", "ok", f"The provider has barred {said} in {_DRIFT_DAYS} days, and so have we."
    )
