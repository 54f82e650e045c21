"""
``make gallery``: every newsletter, free and paying, light and dark, phone beside desktop, as small pictures.

Without ``--from`` of the samples into ``docs/gallery`` (kept in the repository); with it of any feeds, elsewhere.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
SAMPLE_NOW = "2026-11-20T04:00:00Z"
WIDTH = 470
MOST_BYTES = 3_000_000
_TALLEST = 1_650  # of a reduced picture: what is below says nothing new


def main() -> None:
    """Take the pictures, make them small, write an index."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--from", dest="feeds", default="", help="a URL, file or folder; without: the samples"
    )
    parser.add_argument("--now", default=SAMPLE_NOW, help="editorial time")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "gallery")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="newsletter-gallery-") as place:
        environment = {**os.environ, "DATABASE_URL": f"sqlite:///{place}/gallery.db"}

        def newsletter(*words: str) -> None:
            command = [str(Path(sys.executable).with_name("newsletter")), *words, "--now", asked.now]
            subprocess.run(command, env=environment, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)

        newsletter("collect", *([asked.feeds] if asked.feeds else []))
        newsletter("preview", "--png", place)
        names = [_reduced(path, Path(place), asked.out) for path in sorted(Path(place).rglob("*.png"))]
    _index(asked.out, names)
    size = sum(path.stat().st_size for path in asked.out.glob("*.jpg"))
    print(f"{len(names)} pictures, {size / 1_000_000:.1f} MB, in {asked.out}")
    if size > MOST_BYTES and asked.out == ROOT / "docs" / "gallery":
        sys.exit(f"That is more than {MOST_BYTES // 1_000_000} MB: too much for the repository.")


def _reduced(path: Path, place: Path, out: Path) -> str:
    """Write *path* as a small JPEG and return its name: ``<newsletter>-<variant>-<scheme>.jpg``."""
    name = f"{path.relative_to(place).as_posix().replace('/', '-').removesuffix('.png')}.jpg".replace(
        "+", "-"
    )
    with Image.open(path) as opened:
        height = round(opened.height * WIDTH / opened.width)
        picture = opened.convert("RGB").resize((WIDTH, height), Image.Resampling.LANCZOS)
    out.mkdir(parents=True, exist_ok=True)
    picture.crop((0, 0, WIDTH, min(height, _TALLEST))).save(
        out / name, "JPEG", quality=44, optimize=True, progressive=True
    )
    return name


def _index(out: Path, names: list[str]) -> None:
    """A page with all of them, a newsletter a heading."""
    lines = ["# The gallery", "", "Phone beside desktop, light and dark; made by `make gallery`."]
    newsletter = ""
    for name in names:
        if name.split("-")[0] != newsletter:
            newsletter = name.split("-")[0]
            lines += ["", f"## {newsletter}", ""]
        title = name.removesuffix(".jpg").replace("-", ", ")
        lines.append(f"![{title}]({name})")
    (out / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
