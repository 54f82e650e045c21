"""Whole days on real feeds, and every request of a day against the provider's published schema."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests import processes
from tests.builders import a_site, the_catalogue
from tests.standin import StandIn

pytestmark = pytest.mark.shared
FEEDS = Path(__file__).resolve().parents[3] / "shared" / "feeds"


def newsletter(site: Path, *arguments: str, **more: str) -> tuple[int, Any]:
    """Run a command in *site*; its exit code and JSON."""
    clean = {
        k: v for k, v in os.environ.items() if not k.startswith(("NEWSLETTER_", "SENDGRID_", "DATABASE_URL"))
    }
    done = processes.newsletter(*arguments, "--json", environment={**clean, **more}, folder=site)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.mark.parametrize(("now", "least"), [("2026-02-18T02:20:00Z", 7), ("2017-01-07T16:30:00Z", 6)])
def test_a_real_day_makes_its_newsletters(tmp_path: Path, now: str, least: int) -> None:
    """Enough are submitted with an honest minimum; the others say why; the same again sends nothing."""
    site = a_site(tmp_path / "site")
    newsletter(site, "subscribers", "import", "samples/subscribers.csv", "--now", now)

    code, day = newsletter(site, "run", "--all", "--from", str(FEEDS), "--now", now)
    again, second = newsletter(site, "run", "--all", "--from", str(FEEDS), "--now", now)

    editions = {row["newsletter"]: row for row in day["editions"]}
    submitted = [slug for slug, row in editions.items() if row["status"] == "submitted"]
    assert (len(editions), code, again) == (9, 3, 3)
    assert len(submitted) >= least
    for slug in submitted:
        _, balance = newsletter(site, "audit", slug, "--now", now)
        assert balance["balanced"] and balance["submitted"] > 50
        _, picks = newsletter(site, "picks", slug, "--now", now)
        assert len(picks["picked"]) >= the_catalogue()[slug].min_stories >= 4
    for slug, row in editions.items():
        if slug not in submitted:
            assert row["status"] in ("held", "skipped") and row["reason"].startswith("Thin day: ")
    assert all(
        "Already submitted" in row["reason"] for row in second["editions"] if row["newsletter"] in submitted
    )


def test_every_request_of_a_day_is_valid_against_the_published_schema(tmp_path: Path) -> None:
    """Nine newsletters through the provider's package: no fault, each reader of each edition once."""
    site = a_site(tmp_path / "site")
    now = "2026-11-20T04:00:00Z"
    with StandIn(key="SG.stand-in.key", schema_check=True) as standin:
        environment = {
            "NEWSLETTER_PROVIDER": "sendgrid", "SENDGRID_API_KEY": standin.key, "SENDGRID_HOST": standin.url,
            "NEWSLETTER_SECRET_KEY": "a-signing-key-for-this-test-only", "NEWSLETTER_SUPPRESSION_KEY": "a-suppression-key-for-this",
        }  # fmt: skip
        newsletter(site, "subscribers", "import", "samples/subscribers.csv", "--now", now, **environment)

        _, day = newsletter(site, "run", "--all", "--now", now, **environment)

    assert {row["status"] for row in day["editions"]} == {"submitted"}
    assert standin.schema_errors == []
    assert set(Counter((one.edition, one.reader) for one in standin.accepted).values()) == {1}
    assert len(standin.accepted) == sum(row["audience"] for row in day["editions"])
