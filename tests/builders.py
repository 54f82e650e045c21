"""Small builders: name only the fields that matter."""

from __future__ import annotations

import shutil
from pathlib import Path

from newsletter.catalogue import Catalogue, load_catalogue

ROOT = Path(__file__).resolve().parents[1]


def a_site(folder: Path) -> Path:
    """A working copy of templates and samples in *folder*: what a fresh installation looks like."""
    shutil.copytree(ROOT / "templates", folder / "templates")
    shutil.copytree(ROOT / "samples" / "feeds", folder / "samples" / "feeds")
    shutil.copy(ROOT / "samples" / "subscribers.csv", folder / "samples" / "subscribers.csv")
    return folder


def the_catalogue() -> Catalogue:
    """The shipped publication and its nine newsletters."""
    return load_catalogue(ROOT / "templates")
