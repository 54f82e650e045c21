"""Metrics: what an operator watches is told on a port of its own, and the dashboard asks for nothing else."""

from __future__ import annotations

import json
import re
import urllib.request
from datetime import timedelta

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Engine

from newsletter.outbox import inbox
from newsletter.providers import Uncertain
from newsletter.settings import Keys
from newsletter.store.holds import hold_newsletter
from newsletter.store.session import writing
from newsletter.store.tables import Lease, Slot, SourceState
from newsletter.web.metrics import Metrics, serve_metrics
from tests.builders import ROOT
from tests.standin_events import body_of
from tests.test_evidence import readers, taken, told
from tests.test_outbox import NOW, Postman, an_edition, send_all


def samples(text: str) -> dict[tuple[str, ...], float]:
    """Every sample by name and label values."""
    return {
        (one.name, *(one.labels[name] for name in sorted(one.labels))): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


def a_busy_day(engine: Engine, keys: Keys) -> None:
    """Something of everything."""
    readers(engine, keys, 12)
    send_all(engine, Postman(script=iter([Uncertain("lost")])), an_edition(engine))
    inbox.append(engine, body_of([told("delivered", taken(11, batch=2))]), at=NOW)
    inbox.process(engine, keys, clock=lambda: NOW)
    inbox.append(engine, b"[]", at=NOW)
    with writing(engine) as session:
        hold_newsletter(session, "daily", reason="r", at=NOW)
        session.add(Lease(name="scheduler", owner="o", heartbeat_at=NOW))
        session.add(
            Slot(newsletter="daily", local_date=NOW.date(), due_at=NOW, state="made", recorded_at=NOW)
        )
        session.add(SourceState(source="wire", first_fetched_at=NOW, last_success_at=NOW, failures=2))


def test_everything_is_read_from_the_database(engine: Engine, keys: Keys) -> None:
    """Whoever is asked tells of all processes, and no address."""
    a_busy_day(engine, keys)
    registry = CollectorRegistry()
    registry.register(Metrics(engine, ["daily", "weekly"], clock=lambda: NOW + timedelta(seconds=90)))

    text = generate_latest(registry).decode()

    found, at = samples(text), NOW.timestamp()
    assert found[("newsletter_readers", "2026-11-20", "daily", "1", "uncertain")] == 10
    assert found[("newsletter_readers", "2026-11-20", "daily", "1", "submitted")] == 2
    assert found[("newsletter_batches", "uncertain")] == 1 and found[("newsletter_batches", "pending")] == 0
    assert found[("newsletter_inbox_requests", "waiting")] == 1
    assert found[("newsletter_inbox_oldest_seconds",)] == 90
    assert found[("newsletter_heard_timestamp_seconds",)] == at
    assert found[("newsletter_held", "daily")] == 1 and found[("newsletter_held", "weekly")] == 0
    assert found[("newsletter_source_failures", "wire")] == 2
    assert found[("newsletter_slot_due_timestamp_seconds", "daily", "made")] == at
    assert found[("newsletter_scheduler_heartbeat_timestamp_seconds",)] == at
    assert "example.com" not in text


def test_the_port_answers_on_this_machine(engine: Engine, keys: Keys) -> None:
    """As Prometheus asks, and what the dashboard draws is all there."""
    a_busy_day(engine, keys)
    port = serve_metrics(engine, ["daily"], port=0, clock=lambda: NOW)

    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        told_ = {name for name, *_ in samples(answer.read().decode())}

    dashboard = json.loads((ROOT / "deploy" / "grafana.json").read_text(encoding="utf-8"))
    asked = " ".join(target["expr"] for panel in dashboard["panels"] for target in panel["targets"])
    assert set(re.findall(r"newsletter_\w+", asked)) == told_
