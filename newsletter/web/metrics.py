"""
Metrics for Prometheus, on a loopback port of their own: never beside pages that the world can reach.

Everything is read from the database when it is asked for, so any one process tells of all of them, and a
process that dies takes no number with it. No label holds an address.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import Engine
from sqlmodel import Session, col, func, select

from newsletter.outbox.accounts import counts
from newsletter.outbox.inbox import waiting
from newsletter.outbox.ledger import BatchState
from newsletter.store.holds import hold_of
from newsletter.store.session import reading
from newsletter.store.tables import Batch, EditionRow, Lease, Slot, SourceState
from newsletter.times import Clock

SHOWN = timedelta(days=2)
"""Editions that were frozen longer ago are history: ``newsletter report``."""


class Metrics(Collector):
    """What an operator watches: editions, batches, the inbox, sources, slots, the scheduler."""

    def __init__(self, engine: Engine, slugs: Iterable[str], *, clock: Clock) -> None:
        self.engine, self.slugs, self.clock = engine, tuple(slugs), clock

    def collect(self) -> Iterable[Metric]:
        """Read everything anew."""
        at = self.clock()
        with reading(self.engine) as session:
            yield self._readers(session, at)
            yield _batches(session)
            yield from _sources(session)
            yield _slots(session)
            held = _gauge("newsletter_held", "1: held as a whole until a person releases it.", "newsletter")
            for slug in self.slugs:
                held.add_metric([slug], 1.0 if hold_of(session, slug) else 0.0)
            yield held
            beat = _gauge(
                "newsletter_scheduler_heartbeat_timestamp_seconds",
                "When a scheduler last said that it lives.",
            )
            for lease in session.exec(select(Lease)):
                beat.add_metric([], lease.heartbeat_at.timestamp())
            yield beat
        yield from _inbox(self.engine, at)

    def _readers(self, session: Session, at: datetime) -> Metric:
        found = _gauge("newsletter_readers", "Readers of an edition by what became of them.", "newsletter", "date", "revision", "state")  # fmt: skip
        rows = session.exec(
            select(EditionRow).where(col(EditionRow.frozen_at) > at - SHOWN).order_by(col(EditionRow.id))
        ).all()
        for row in rows:
            for state, number in counts(session, row.id or 0).items():
                found.add_metric(
                    [row.newsletter, row.edition_date.isoformat(), str(row.revision), state], number
                )
        return found


def _batches(session: Session) -> Metric:
    """Only those that are not settled: all that ever were would be counted at each look."""
    found = _gauge("newsletter_batches", "Batches that are not settled, by state.", "state")
    states = (BatchState.PENDING, BatchState.SUBMITTING, BatchState.UNCERTAIN)
    query = select(Batch.state, func.count()).where(col(Batch.state).in_(states)).group_by(Batch.state)
    told = dict(session.exec(query).all())
    for state in states:
        found.add_metric([state], told.get(state, 0))
    return found


def _sources(session: Session) -> Iterable[Metric]:
    failures = _gauge("newsletter_source_failures", "Failures in a row of a source.", "source")
    success = _gauge("newsletter_source_success_timestamp_seconds", "When a source was last read.", "source")
    for state in session.exec(select(SourceState).order_by(SourceState.source)):
        failures.add_metric([state.source], state.failures)
        if state.last_success_at is not None:
            success.add_metric([state.source], state.last_success_at.timestamp())
    return failures, success


def _slots(session: Session) -> Metric:
    """The newest slot of each newsletter, and what became of it."""
    found = _gauge("newsletter_slot_due_timestamp_seconds", "When the newest slot was due, by what became of it.", "newsletter", "state")  # fmt: skip
    newest = select(func.max(Slot.id)).group_by(Slot.newsletter)
    for slot in session.exec(select(Slot).where(col(Slot.id).in_(newest)).order_by(Slot.newsletter)):
        found.add_metric([slot.newsletter, slot.state], slot.due_at.timestamp())
    return found


def _inbox(engine: Engine, at: datetime) -> Iterable[Metric]:
    told = waiting(engine)
    bodies = _gauge("newsletter_inbox_requests", "Requests of the provider that are not processed.", "state")
    bodies.add_metric(["waiting"], told.bodies)
    bodies.add_metric(["aside"], told.aside)
    yield bodies
    oldest = _gauge("newsletter_inbox_oldest_seconds", "How long the oldest of them waits.")
    oldest.add_metric([], (at - told.oldest_at).total_seconds() if told.oldest_at else 0.0)
    yield oldest
    heard = _gauge("newsletter_heard_timestamp_seconds", "When an event of the provider last came.")
    if told.heard_at is not None:
        heard.add_metric([], told.heard_at.timestamp())
    yield heard


def _gauge(name: str, says: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, says, labels=labels)


def serve_metrics(engine: Engine, slugs: Iterable[str], *, port: int, clock: Clock) -> int:
    """
    Answer ``/metrics`` on *port* of this machine only, in a thread; return the port (0 chooses one).

    Raises:
        OSError: somebody listens there.
    """
    registry = CollectorRegistry()
    registry.register(Metrics(engine, slugs, clock=clock))
    server, _ = start_http_server(port, addr="127.0.0.1", registry=registry)
    return int(server.server_port)
