"""Real feeds from the field: what their index says they hold is what collect finds."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from newsletter.feeds.collect import collect
from newsletter.settings import Settings
from newsletter.store.session import open_store
from tests.builders import the_catalogue

pytestmark = pytest.mark.shared
FEEDS = Path(__file__).resolve().parents[3] / "shared" / "feeds"


def _index() -> dict[str, int]:
    rows = re.finditer(
        r"^\| `([^`]+)` \|[^|]*\|[^|]*\|[^|]*\| *(\d+)", (FEEDS / "INDEX.md").read_text(), re.MULTILINE
    )
    return {row[1]: int(row[2]) for row in rows}


def test_every_file_collects_with_its_entry_count(tmp_path: Path) -> None:
    """No exception, no error, and exactly the entries the index names, file by file."""
    engine = open_store(f"sqlite:///{tmp_path}/subscribers.db")
    now = datetime(2026, 2, 18, 2, 20, tzinfo=UTC)

    reports = collect(engine, the_catalogue(), [str(FEEDS)], now=now, settings=Settings())

    found = {Path(r.location).relative_to(FEEDS).as_posix(): r.entries for r in reports if not r.skipped}
    engine.dispose()
    assert found == _index()
    assert [report.error for report in reports if report.error and not report.skipped] == []
    assert [Path(report.location).name for report in reports if report.skipped] == ["INDEX.md"]
