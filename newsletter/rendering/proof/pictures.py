"""Pictures: loadable, described, of a size that fits, and credited."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
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
_PIXEL = re.compile(r"[-_/](?:pixel|1x1|blank|spacer|tracking)[-_./]", re.IGNORECASE)
_MOST_PIXELS = 2_400


def check_variant(one: Variant) -> Iterator[Finding]:
    """Every picture as it is set."""
    items: dict[str, list[Item]] = defaultdict(list)
    for item in one.edition.snapshot.items:
        if item.image:
            items[item.image.url].append(item)
    times = Counter(source for _, source in one.pictures)
    told: set[str] = set()
    for image, source in one.pictures:
        yield from _as_set(one, image, source, is_theirs=source in items)
        if source in items and source not in told:
            told.add(source)
            for item in items[source]:
                if item.image:
                    yield from _of_story(one, item, item.image, shown=_pixels(image.get("width")))
            yield from _credit(one, source, items[source])
            if times[source] > 1:
                yield one.find("image-repeat", where=source)


def _as_set(one: Variant, image: Any, source: str, *, is_theirs: bool) -> Iterator[Finding]:
    parts = urlsplit(source)
    is_ours = source.startswith(f"{one.edition.base_url}/media/")  # on this machine, while it is tried out
    if not is_ours and (parts.scheme != "https" or not parts.netloc):
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
    if _PIXEL.search(urlsplit(image.url).path) or 0 < image.width <= 2:
        yield one.find("image-pixel", where=image.url)
    elif image.width and image.width < shown:
        message = f"The picture is {image.width} px wide and shown at {shown} px."
        yield one.find("image-small", where=image.url, message=message)
    if max(image.width, image.height) > _MOST_PIXELS:
        message = f"The picture has {image.width} × {image.height} px."
        yield one.find("image-large", where=image.url, message=message)


def _credit(one: Variant, source: str, items: list[Item]) -> Iterator[Finding]:
    """Stories may share a picture, and not all of them show it: one credit in print is enough."""
    credits = [flat(item.image.credit) for item in items if item.image and item.image.credit.strip()]
    if not credits:
        message = f"The picture of “{items[0].headline}” has no credit."
        yield one.find("credit-missing", where=source, message=message)
    elif not any(credit in one.visible for credit in credits):
        yield one.find("credit-unprinted", where=source, message=f"The credit “{credits[0]}” is not printed.")


def _pixels(width: str | None) -> int:
    return int(width) if width and width.isdecimal() else 0
