"""The import direction of the house, read from the code itself."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "newsletter"

# Rooms from the top of the house to the ground. A room may import from its own level or below.
LEVELS: tuple[frozenset[str], ...] = (
    frozenset({"scheduler", "cli", "web"}),
    frozenset({"rota", "worker", "watch", "backups"}),
    frozenset({"desk"}),
    frozenset({"notices", "archive"}),
    frozenset({"outbox"}),
    frozenset({"feeds", "rendering", "audience", "providers", "reports", "wakeups"}),
    frozenset({"store"}),
    frozenset({"makeup", "slimming"}),
    frozenset({"picking"}),
    frozenset({"edition", "stories"}),
    frozenset({"about"}),
    frozenset({"catalogue"}),
    frozenset({"articles", "events", "theme", "tokens", "wording", "words"}),
    frozenset({"settings"}),
    frozenset({"times", "errors", "faults"}),
)
SIDE_BY_SIDE = next(rooms for rooms in LEVELS if "feeds" in rooms)
LEVEL = {room: number for number, rooms in enumerate(LEVELS) for room in rooms}
PURE = ("articles", "stories", "picking", "edition", "events", "makeup", "slimming", "tokens")


def _files() -> list[Path]:
    return [*sorted(PACKAGE.rglob("*.py")), ROOT / "scheduler.py"]


def _room(path: Path) -> str:
    if path.name == "scheduler.py" and path.parent == ROOT:
        return "scheduler"
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module)
            if node.module == "newsletter":
                names.update(f"newsletter.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
    return names


@pytest.mark.parametrize("path", _files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_downward(path: Path) -> None:
    """A room imports only from its own level or below; feeds, rendering, audience and providers not from each other."""
    room = _room(path)
    if room == "__init__":
        return
    wrong = []
    for name in _imports(path):
        parts = name.split(".")
        if parts[0] != "newsletter" or len(parts) == 1 or parts[1].startswith("__"):
            continue
        other = parts[1]
        upward = LEVEL[other] < LEVEL[room]
        sideways = LEVEL[other] == LEVEL[room] and other != room and room in SIDE_BY_SIDE
        if upward or sideways:
            wrong.append(name)

    assert wrong == [], f"{room} imports {wrong}"


@pytest.mark.parametrize(
    "path", [path for path in _files() if _room(path) in PURE], ids=lambda path: str(path.relative_to(ROOT))
)
def test_pure_rooms_have_no_outside(path: Path) -> None:
    """Pure rooms open no file, socket or session and read no clock."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = {
        node.func.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }
    names = {
        node.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }

    assert not calls & {"now", "utcnow", "today", "read_text", "write_text", "open", "urlopen"}
    assert "open" not in names
    assert not _imports(path) & {"os", "socket", "sqlmodel", "sqlalchemy", "httpx", "time"}


def test_only_times_reads_the_clock() -> None:
    """The real time is read in one place; everything else is handed it."""
    readers = [
        str(path.relative_to(ROOT))
        for path in _files()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in ("now", "utcnow", "today")
        and isinstance(node.value, ast.Name) and node.value.id in ("datetime", "date")
    ]  # fmt: skip

    assert readers == ["newsletter/times.py"]


def test_vendor_words_stay_with_the_provider() -> None:
    """Nothing outside ``providers`` (and the settings that name it) uses a vendor's words."""
    words = ("sg_", "asm_", "X-Twilio", "personalizations")
    told = [
        str(path.relative_to(ROOT))
        for path in _files()
        if _room(path) != "providers" and any(word in path.read_text(encoding="utf-8") for word in words)
    ]

    assert told == []


@pytest.mark.parametrize("command", [["--help"], ["articles", "--help"]])
def test_help_is_light(command: list[str]) -> None:
    """Help imports no database, web, scheduler or provider library."""
    program = f"""
import sys
sys.argv = ["newsletter", *{command!r}]
from newsletter.cli.main import app
try:
    app()
except SystemExit:
    pass
print(sorted({{name.split(".")[0] for name in sys.modules}}), file=sys.stderr)
"""

    told = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )

    heavy = {"sqlmodel", "sqlalchemy", "starlette", "fastapi", "apscheduler", "sendgrid", "jinja2"}
    loaded = set(ast.literal_eval(told.stderr.strip().splitlines()[-1]))
    assert loaded & heavy == set()


def test_no_file_names_a_registry_or_a_machine() -> None:
    """Lock files and sources hold no download addresses and no paths of one machine."""
    tracked = subprocess.run(
        ["git", "ls-files"], capture_output=True, text=True, cwd=ROOT, check=False
    ).stdout.split("\n")
    suspicious = ("pypi" + ".org", "files.python" + "hosted", "/work" + "/main", "/root" + "/")
    told = [
        name
        for name in tracked
        if name and (ROOT / name).is_file() and (ROOT / name).suffix in (".py", ".toml", ".txt", ".md", ".j2", "")
        and any(word in (ROOT / name).read_text(encoding="utf-8", errors="ignore") for word in suspicious)
    ]  # fmt: skip

    assert told == []
