"""Whether text can be read on its ground, in light and in dark, as the styles of the page come out."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from newsletter.rendering.findings import Finding
from newsletter.rendering.proof.cascade import SCHEMES, Colour, Style, contrast, sheet_of, style_text
from newsletter.rendering.proof.material import Variant, flat

LEAST = 4.5
LEAST_LARGE = 3.0
_LARGE_PX, _LARGE_BOLD_PX = 24.0, 56 / 3
_UNREADABLE = 1.5
_SMALL_PX = 12.0
_NO_WORDS = frozenset("\xa0\u200b\u200c\u200d\ufeff\u034f\u2060 \n\t\r")


def check_variant(one: Variant) -> Iterator[Finding]:
    """Each pair of colours once for each scheme, at the first words that have it."""
    if one.page is None or one.body is None:
        return
    sheet = sheet_of(style_text(one.page))
    told: set[tuple[str, Colour, Colour]] = set()
    for element, node in sheet.walk(one.page):
        words = ""
        for scheme, style in zip(SCHEMES, node.styles, strict=True):
            code = _fault(style, scheme)
            if not code or (code, style.colour, style.ground) in told:
                continue
            words = words or _own_words(element)
            if not words or element.tag in ("style", "title", "script"):
                break
            told.add((code, style.colour, style.ground))
            yield one.find(code, where=words, message=_told(code, scheme, style))


@lru_cache(maxsize=8_192)
def _fault(style: Style, scheme: str) -> str:
    if style.is_hidden or not style.is_known or not style.size:
        return ""
    ratio = contrast(style.colour, style.ground)
    if ratio < _UNREADABLE:
        return "unreadable"
    is_large = style.size >= _LARGE_PX or (style.weight >= 700 and style.size >= _LARGE_BOLD_PX)
    if ratio < (LEAST_LARGE if is_large else LEAST):
        return f"contrast-{scheme}"
    return "type-small" if style.size < _SMALL_PX and scheme == "light" else ""


def _told(code: str, scheme: str, style: Style) -> str:
    if code == "type-small":
        return f"Text of {style.size:g} px."
    pair = f"{_hex(style.colour)} on {_hex(style.ground)}"
    return f"Text in {pair} ({scheme}) has a contrast of {contrast(style.colour, style.ground):.2f} to 1."


def _hex(colour: Colour) -> str:
    return "#" + "".join(f"{round(part * 255):02x}" for part in colour)


def _own_words(element: Any) -> str:
    """The words that stand in *element* itself, not in one within it; invisible ones are none."""
    pieces = [element.text or "", *(child.tail or "" for child in element)]
    words = flat(" ".join(pieces))
    return "" if all(letter in _NO_WORDS for letter in words) else words[:80]
