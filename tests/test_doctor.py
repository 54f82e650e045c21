"""The doctor: what it says of an installation that real readers are to visit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from newsletter.cli.main import app
from tests.builders import a_site


def examined(monkeypatch: pytest.MonkeyPatch, **environment: str) -> dict[str, str]:
    """The severity of each named check."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    told = json.loads(CliRunner().invoke(app, ["doctor", "--json"]).stdout)
    return {check["name"]: check["severity"] for check in told["checks"]}


def test_it_looks_at_what_the_readers_pages_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A public address without known proxies, no privacy page, and a quieter newsletter that is not there."""
    site = a_site(tmp_path)
    monkeypatch.chdir(site)
    publication = site / "templates" / "publication.toml"
    text = publication.read_text(encoding="utf-8")
    publication.write_text(text.replace("privacy_url", "# privacy_url"), encoding="utf-8")
    today = site / "templates" / "today" / "newsletter.toml"
    today.write_text(
        today.read_text(encoding="utf-8").replace('quieter = "weekend"', 'quieter = "gone"'), encoding="utf-8"
    )

    bare = examined(monkeypatch, NEWSLETTER_BASE_URL="https://mail.theparallel.example")
    behind = examined(monkeypatch, NEWSLETTER_TRUSTED_PROXIES="10.0.0.0/8")

    assert (bare["proxies"], bare["privacy"], bare["quieter"]) == ("warning", "warning", "warning")
    assert "proxies" not in behind
