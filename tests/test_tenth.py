"""``docs/a-tenth-newsletter.md`` holds what it says: its own lines make a newsletter."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from newsletter.cli.main import app
from tests.builders import ROOT, a_site

NOW = "2026-11-20T04:00:00Z"
DOCUMENT = (ROOT / "docs" / "a-tenth-newsletter.md").read_text(encoding="utf-8")


def test_the_documents_lines_make_a_newsletter_without_findings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Folder, file and masthead as they stand there; then the proof has nothing to say but where links lead."""
    monkeypatch.chdir(a_site(tmp_path))
    monkeypatch.delenv("DATABASE_URL", raising=False)
    (written,) = re.findall(r"```toml\n(.*?)```", DOCUMENT, re.DOTALL)
    Path("templates/coast").mkdir()
    Path("templates/coast/newsletter.toml").write_text(written, encoding="utf-8")
    shutil.copy("templates/planet/masthead.mjml.j2", "templates/coast/")

    def newsletter(*words: str) -> str:
        done = CliRunner().invoke(app, list(words))
        assert done.exit_code == 0, done.output
        return done.output

    newsletter("collect", "--now", NOW)
    told = newsletter("proof", "coast", "--now", NOW)
    newsletter("preview", "coast", "--out", "out", "--now", NOW)

    assert "0 errors, 0 warnings" in told
    free, paid = (
        Path(f"out/coast/{variant}.html").read_text(encoding="utf-8") for variant in ("free", "paying")
    )
    assert "For members</h2>" in paid and "For members</h2>" not in free
    assert "gallery" in newsletter("blocks", "coast")
