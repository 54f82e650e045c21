"""Pictures: loadable, described, of a size that fits, and credited."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from newsletter.articles import Image, Rights
from newsletter.edition import Item
from newsletter.rendering.findings import Finding
from newsletter.rendering.proof.material import Variant, flat

_FILE = re.compile(
    r"\.(?:jpe?g|png|gif|webp|avif|tiff?)$|^(?:img|dsc|dscn|image|photo|picture)[-_ ]?\d+$", re.IGNORECASE
)
_NOT_SHOWN = (
    ".svg",
    ".svgz",
    ".tif",
    ".tiff",
    ".bmp",
    ".heic",
    ".avif",
    ".jxl",
    ".pdf",
)  # caniemail.com, 2026-11
_MOST_PIXELS = 2_400


def check_variant(one: Variant) -> Iterator[Finding]:
    """Every picture as it is set."""
    items = {item.image.url: item for item in one.edition.snapshot.items if item.image}
    told: set[str] = set()
    for image, source in one.pictures:
        item = items.get(source)
        yield from _as_set(one, image, source, is_theirs=item is not None)
        if item is not None and item.image is not None and source not in told:
            told.add(source)
            yield from _of_story(one, item, item.image, shown=_pixels(image.get("width")))


def _as_set(one: Variant, image: Any, source: str, *, is_theirs: bool) -> Iterator[Finding]:
    parts = urlsplit(source)
    if parts.scheme != "https" or not parts.netloc:
        yield one.find("image-src", where=source[:120] or "empty", is_theirs=is_theirs)
    elif parts.path.lower().endswith(_NOT_SHOWN):
        message = f"The picture is of the kind {parts.path.rpartition('.')[2]!r}."
        yield one.find("image-type", where=source, message=message)
    alt = image.get("alt")
    if alt is None:
        yield one.find("image-alt", where=source)
    elif not alt.strip() and next(image.iterancestors("a"), None) is not None:
        yield one.find("image-alt-empty", where=source)
    elif _FILE.search(alt.strip()):
        yield one.find(
            "image-alt-file", where=source, message=f"A picture's alt is “{alt}”, the name of its file."
        )
    if not image.get("width"):
        yield one.find("image-width", where=source)


def _of_story(one: Variant, item: Item, image: Image, *, shown: int) -> Iterator[Finding]:
    if item.rights is Rights.EXCERPT:
        message = f"A picture of {item.source_name}, which is an excerpt source."
        yield one.find("rights-picture", where=item.url, message=message)
    if not image.alt.strip():
        yield one.find("image-undescribed", where=image.url)
    if not image.credit.strip():
        yield one.find(
            "credit-missing", where=image.url, message=f"The picture of “{item.headline}” has no credit."
        )
    elif flat(image.credit) not in one.visible:
        message = f"The credit “{image.credit}” is not printed."
        yield one.find("credit-unprinted", where=image.url, message=message)
    if image.width and image.width < shown:
        message = f"The picture is {image.width} px wide and shown at {shown} px."
        yield one.find("image-small", where=image.url, message=message)
    if max(image.width, image.height) > _MOST_PIXELS:
        message = f"The picture has {image.width} × {image.height} px."
        yield one.find("image-large", where=image.url, message=message)


def _pixels(width: str | None) -> int:
    return int(width) if width and width.isdecimal() else 0
