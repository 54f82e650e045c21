"""
Pictures as we serve them: had as carefully as feeds, checked, without metadata, small, named by their content.

A picture is asked for once; what could not be had is asked for again after an hour, and until then the story
stands without one.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

from PIL import Image, ImageOps
from sqlalchemy import Engine

from newsletter.errors import SourceError
from newsletter.feeds.fetch import Fetcher
from newsletter.settings import Settings
from newsletter.store.pictures import Kept, delete_old, keep_picture, kept_pictures, note_lost, note_used
from newsletter.store.session import reading, writing

WIDEST = 1_280
"""Twice the width of a mail, in pixels: sharp on every screen."""
MOST_BYTES = 200 * 1024
_NARROWEST = 120  # below it is an ornament or a pixel that counts readers
_MOST_PIXELS = 60_000_000
_FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "AVIF")
_QUALITIES = (84, 76, 68, 60)
_AGAIN = timedelta(hours=1)
_NOTED = timedelta(days=1)  # so often it is written down that a picture is still wanted
_AT_ONCE = 8
_SECONDS = 8.0


@dataclass(frozen=True, slots=True)
class Prepared:
    """A picture ready to be served: a JPEG of at most ``WIDEST`` pixels and ``MOST_BYTES``."""

    data: bytes
    width: int
    height: int

    @property
    def hash(self) -> str:
        """Its name: the beginning of the SHA-256 of its bytes, 32 hex digits."""
        return hashlib.sha256(self.data).hexdigest()[:32]


@lru_cache(maxsize=64)
def prepare(data: bytes) -> Prepared:
    """
    Check a picture and make it small; the same bytes give the same picture.

    Raises:
        SourceError: it is no picture, of a kind we do not read, too small to be one, or too large to open.
    """
    try:
        opened = Image.open(io.BytesIO(data), formats=_FORMATS)  # reads its head only
        if opened.width * opened.height > _MOST_PIXELS:
            fault = f"The picture has {opened.width} × {opened.height} pixels, more than is opened."
        elif opened.width < _NARROWEST:
            fault = f"The picture is only {opened.width} pixels wide."
        else:
            fault, image = "", _flat(ImageOps.exif_transpose(opened))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise SourceError("What came is no picture that can be opened.") from error
    if fault:
        raise SourceError(fault)
    width = min(WIDEST, image.width)
    while True:
        height = max(1, round(image.height * width / image.width))
        sized = image if width == image.width else image.resize((width, height), Image.Resampling.LANCZOS)
        for quality in _QUALITIES:
            out = io.BytesIO()
            sized.save(out, "JPEG", quality=quality, optimize=True, progressive=True)
            if out.tell() <= MOST_BYTES:
                return Prepared(out.getvalue(), width, height)
        width = width * 4 // 5


def _flat(image: Image.Image) -> Image.Image:
    """The first frame in RGB, on white where it was transparent; a new picture holds no metadata."""
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        ground = Image.new("RGB", image.size, "white")
        ground.paste(image, mask=image.getchannel("A"))
        return ground
    flat = Image.new("RGB", image.size)
    flat.paste(image.convert("RGB"))
    return flat


def keep_pictures(
    engine: Engine, addresses: Iterable[str], *, folder: Path | None, settings: Settings, at: datetime
) -> dict[str, Kept]:
    """
    Return what is kept of each of *addresses*, having those that nobody asked for yet; also what was lost.

    A file of the same name in *folder* goes before the address.
    """
    wanted = list(dict.fromkeys(addresses))
    with reading(engine) as session:
        kept = kept_pictures(session, wanted)
    again = [one for one in kept if kept[one].hash and kept[one].tried_at < at - _NOTED]
    if again:
        with writing(engine) as session:
            note_used(session, again, at=at)
    missing = [
        one for one in wanted if one not in kept or (not kept[one].hash and kept[one].tried_at < at - _AGAIN)
    ]
    if not missing:
        return kept
    with (
        Fetcher(allow_private=settings.allow_private_sources, total_seconds=_SECONDS) as fetcher,
        ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="picture") as pool,
    ):
        had = dict(zip(missing, pool.map(lambda one: _have(fetcher, one, folder), missing), strict=True))
    with writing(engine) as session:
        for address, found in had.items():
            if isinstance(found, str):
                note_lost(session, address, reason=found, at=at)
            else:
                keep_picture(
                    session, address, hash=found.hash, width=found.width, height=found.height, data=found.data, at=at
                )  # fmt: skip
    with reading(engine) as session:
        return kept_pictures(session, wanted)


def prune_pictures(engine: Engine, *, now: datetime, keep: timedelta) -> int:
    """Delete the pictures that nothing has wanted for *keep* and no sent edition shows; return how many."""
    with writing(engine) as session:
        return delete_old(session, before=now - keep)


def _have(fetcher: Fetcher, address: str, folder: Path | None) -> Prepared | str:
    """The picture at *address*, or why it cannot be had."""
    try:
        return prepare(_local(address, folder) or fetcher.fetch(address).data)
    except SourceError as error:
        return str(error)


def _local(address: str, folder: Path | None) -> bytes:
    """The file of the picture's name in *folder*; empty when there is none."""
    name = Path(unquote(urlsplit(address).path)).name
    path = folder / name if folder and name else None
    return path.read_bytes() if path and path.is_file() else b""
