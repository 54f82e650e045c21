"""What lies in deploy/: it names files, commands and variables that exist."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml

from newsletter.cli.main import app
from newsletter.settings import Settings
from tests.builders import ROOT

DEPLOY = ROOT / "deploy"
COMMANDS = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def test_units_start_what_there_is() -> None:
    """Every ExecStart is a command of ours or the daily job."""
    for unit in DEPLOY.glob("*.service"):
        (start,) = re.findall(r"^ExecStart=(.*)$", unit.read_text(encoding="utf-8"), re.MULTILINE)
        command = re.search(r"newsletter (\w+)", start.replace("/bin/newsletter", "/bin/ newsletter"))
        assert (command and command[1] in COMMANDS) or "scheduler.py" in start, unit.name
    assert (DEPLOY / "newsletter-backup.timer").is_file()


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd here")
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    """Verified as they lie there, but for the folder and the user that are the operator's; and well shut in."""
    here = Path(sys.executable).parents[2]
    for unit in (*DEPLOY.glob("*.service"), *DEPLOY.glob("*.timer")):
        text = unit.read_text(encoding="utf-8").replace("/srv/newsletter", str(here))
        (tmp_path / unit.name).write_text(text.replace("User=newsletter\n", ""), encoding="utf-8")
    units = sorted(map(str, tmp_path.iterdir()))

    told = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True)

    assert (told.returncode, told.stdout, told.stderr) == (0, "", "")


def test_the_containers_run_what_there_is() -> None:
    """Commands exist, what is copied exists, and every variable is one we read."""
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    worker, pages = compose["services"]["worker"], compose["services"]["pages"]
    known = {field.alias for field in Settings.model_fields.values()}

    assert worker["command"][1] in COMMANDS and worker["deploy"]["replicas"] == 3
    assert set(pages["environment"]) <= known
    text = (DEPLOY / "Containerfile").read_text(encoding="utf-8")
    copied = [name for line in re.findall(r"^COPY (.*) \S+$", text, re.MULTILINE) for name in line.split()]
    assert all((ROOT / name).exists() for name in copied)
    assert any(f'"{name}"' in text for name in COMMANDS)
