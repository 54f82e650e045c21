"""
Pictures of mails, taken by the Chromium that is installed: phone and desktop side by side, light and dark.

Two starts of the browser for all: one says how tall each mail is, then one a picture.
"""

from __future__ import annotations

import html
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from newsletter.errors import NewsletterError, NotFound
from newsletter.web.preview.looks import Look, seen_as

WIDTHS = (375, 640)
_GAP = 24
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_QUIET = (
    "--headless", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--force-device-scale-factor=1",
    "--virtual-time-budget=4000",
)  # fmt: skip
_SECONDS = 120
_TALLEST = 16_000  # pixels: what Chromium can paint at once
_MEASURE = """<script>
onload = () => {
  const tall = [...document.querySelectorAll('iframe')].map(one => one.contentDocument.documentElement.scrollHeight);
  document.title = 'heights ' + tall.join(' ');
};
</script>"""


@dataclass(frozen=True, slots=True)
class Photo:
    """A mail's HTML as it is to be seen, and the file its picture goes to."""

    page: str
    is_dark: bool
    path: Path


def photos_of(page: str, folder: Path, variant: str) -> tuple[Photo, ...]:
    """The pictures of one variant: ``<variant>-light.png`` and ``<variant>-dark.png`` in *folder*."""
    return tuple(
        Photo(seen_as(page, look), look is Look.DARK, folder / f"{variant}-{look}.png")
        for look in (Look.LIGHT, Look.DARK)
    )


def find_chromium() -> str:
    """
    The path of the browser.

    Raises:
        NotFound: none is installed.
    """
    for name in _NAMES:
        if found := shutil.which(name):
            return found
    raise NotFound(
        "Pictures are taken by Chromium, and none is installed here: install the package chromium "
        "(or Google Chrome), or look at the same bytes with newsletter preview or preview --out DIR."
    )


def take(photos: Sequence[Photo]) -> Iterator[Path]:
    """
    Take *photos*; yields each file's path once it is written.

    Raises:
        NotFound: Chromium is not installed.
        NewsletterError: it could not take one; says which.
    """
    chromium = find_chromium()
    with _place() as place:
        heights = _heights(chromium, photos, place)

        def one(number: int) -> Path:
            photo = photos[number]
            tall = min(max(heights[number * len(WIDTHS) : (number + 1) * len(WIDTHS)]), _TALLEST)
            page = place / f"{number}.html"
            page.write_text(_sheet([photo], tall), encoding="utf-8")
            photo.path.parent.mkdir(parents=True, exist_ok=True)
            size = f"--window-size={sum(WIDTHS) + 3 * _GAP},{tall + 2 * _GAP}"
            _run(
                chromium,
                place / f"profile-{number}",
                f"--screenshot={photo.path.resolve()}",
                size,
                page.as_uri(),
            )
            if not photo.path.is_file():
                raise NewsletterError(
                    f"Chromium took no picture for {photo.path}; try again, or look at preview --out DIR."
                )
            return photo.path

        with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
            yield from pool.map(one, range(len(photos)))


@contextmanager
def _place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="newsletter-photos-", ignore_cleanup_errors=True) as place:
        yield Path(place)


def _heights(chromium: str, photos: Sequence[Photo], place: Path) -> list[int]:
    """Pixels of each mail at each width, in order."""
    page = place / "heights.html"
    page.write_text(_sheet(photos, 10).replace("</body>", f"{_MEASURE}</body>"), encoding="utf-8")
    told = _run(chromium, place / "profile", "--dump-dom", page.as_uri())
    found = re.search(r"<title>heights ([\d ]+)</title>", told)
    tall = [int(number) for number in found[1].split()] if found else []
    if len(tall) != len(photos) * len(WIDTHS):
        raise NewsletterError(
            "Chromium did not say how tall the mails are; try again, or look at preview --out DIR."
        )
    return tall


def _sheet(photos: Sequence[Photo], tall: int) -> str:
    """A page with the mails in frames. What is in a mail may run nothing: the frames are sandboxed."""
    frames = "".join(
        f'<iframe sandbox="allow-same-origin" style="flex:none;border:0;width:{width}px;height:{tall}px;'
        f'color-scheme:{"dark" if photo.is_dark else "light"}" srcdoc="{html.escape(photo.page)}"></iframe>'
        for photo in photos
        for width in WIDTHS
    )
    ground = "#26282b" if photos[0].is_dark else "#d8dadd"
    return (
        '<!doctype html><meta charset="utf-8"><title></title>'
        f'<body style="margin:0;padding:{_GAP}px;display:flex;gap:{_GAP}px;background:{ground}">{frames}</body>'
    )


def _run(chromium: str, profile: Path, *words: str) -> str:
    # Chromium refuses its sandbox to the superuser; what it shows here are our own pages.
    loose = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    try:
        done = subprocess.run(  # noqa: S603  # our own words
            [chromium, *_QUIET, *loose, f"--user-data-dir={profile}", *words],
            capture_output=True, text=True, timeout=_SECONDS, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        raise NewsletterError(
            f"{chromium} could not take pictures ({type(error).__name__}); start it once by hand to see why."
        ) from error
    return done.stdout
