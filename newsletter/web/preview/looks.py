"""
How a mail looks where we cannot look: in the dark as its author meant, in the dark as mailboxes force it, without pictures.

Only for looking: what is sent is never changed here. Outlook.com and Gmail's apps turn the lightness of
colours around; Outlook.com also marks what it changed with ``data-ogsc`` and ``data-ogsb``, which the
author's style sheet may answer to. An approximation: neither client says how it does it.
"""

from __future__ import annotations

import colorsys
import re
from collections.abc import Callable
from enum import StrEnum
from typing import Any

from lxml import html as lxml_html


class Look(StrEnum):
    """A way of looking at a mail."""

    PLAIN = "plain"  # the bytes themselves, as this screen's own scheme has them
    LIGHT = "light"
    DARK = "dark"  # the author's own dark colours
    OUTLOOK = "outlook"  # turned around by Outlook.com, which the author may answer
    GMAIL = "gmail"  # turned around by Gmail's apps, which nobody may answer
    NO_IMAGES = "no-images"


_DARK_MEDIA = re.compile(r"@media\s*\(\s*prefers-color-scheme\s*:\s*dark\s*\)", re.IGNORECASE)
_LIGHT_MEDIA = re.compile(r"@media\s*\(\s*prefers-color-scheme\s*:\s*light\s*\)", re.IGNORECASE)
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}\b|#[0-9a-fA-F]{3}\b")
_DECLARATION = re.compile(r"(?P<name>[\w-]*color|background|border[\w-]*)\s*:\s*(?P<value>[^;{}]+)")


def seen_as(page: str, look: Look) -> str:
    """*page* as it looks; the plain look is *page* itself."""
    return _LOOKS[look](page)


def _dark(page: str) -> str:
    return _with_style(
        _DARK_MEDIA.sub("@media all", _LIGHT_MEDIA.sub("@media not all", page)), ":root{color-scheme:dark}"
    )


def _light(page: str) -> str:
    return _with_style(_without_dark(page), ":root{color-scheme:light}")


def _gmail(page: str) -> str:
    return _turned(_without_dark(page), marked=False)


def _outlook(page: str) -> str:
    return _turned(_without_dark(page), marked=True)


def _without_dark(page: str) -> str:
    """Mailboxes that force their own dark take no notice of the author's."""
    return _DARK_MEDIA.sub("@media not all", page)


def _with_style(page: str, css: str) -> str:
    return page.replace("</head>", f"<style>{css}</style></head>", 1)


def _turned(page: str, *, marked: bool) -> str:
    root = lxml_html.document_fromstring(page)
    for element in root.iter():
        if not isinstance(element.tag, str):
            continue
        style = element.get("style")
        if style:
            names = {found["name"].lower() for found in _DECLARATION.finditer(style)}
            element.set(
                "style", _DECLARATION.sub(lambda found: f"{found['name']}:{_turn_all(found['value'])}", style)
            )
            if marked and "color" in names:
                element.set("data-ogsc", "")
            if marked and names & {"background", "background-color"}:
                element.set("data-ogsb", "")
        for name in ("bgcolor", "color"):
            if value := element.get(name):
                element.set(name, _turn_all(value))
                if marked:
                    element.set("data-ogsb" if name == "bgcolor" else "data-ogsc", "")
    for sheet in root.iter("style"):
        sheet.text = _turned_sheet(sheet.text or "")
    body = root.find("body")
    if body is not None and marked:
        body.set("data-ogsc", "")
    made = str(lxml_html.tostring(root, encoding="unicode", doctype="<!doctype html>"))
    return _with_style(made, "html{background:#1b1b1b;color:#f1f1f1}")


def _turned_sheet(css: str) -> str:
    """The sheet's own colours turned, but not those the author gave for the mailbox's dark."""
    pieces = re.split(r"(\[data-ogs[cb]\][^{}]*\{[^{}]*\})", css)
    return "".join(
        piece
        if piece.startswith("[data-ogs")
        else _DECLARATION.sub(lambda found: f"{found['name']}:{_turn_all(found['value'])}", piece)
        for piece in pieces
    )


def _turn_all(value: str) -> str:
    return _COLOUR.sub(lambda found: _turn(found[0]), value)


def _turn(colour: str) -> str:
    """A colour with its lightness turned around, hue and saturation kept."""
    digits = colour[1:] if len(colour) == 7 else "".join(letter * 2 for letter in colour[1:])
    red, green, blue = (int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4))
    hue, lightness, saturation = colorsys.rgb_to_hls(red, green, blue)
    # White becomes the mailbox's dark grey and black nearly white, as both clients do.
    turned = colorsys.hls_to_rgb(hue, 0.1 + (1 - lightness) * 0.85, saturation)
    return "#" + "".join(f"{round(part * 255):02x}" for part in turned)


def _no_images(page: str) -> str:
    root = lxml_html.document_fromstring(_light(page))
    for image in root.iter("img"):
        image.attrib.pop("src", None)
        image.attrib.pop("srcset", None)
        if not (image.get("alt") or "").strip():
            image.set("style", "display:none")
    for element in root.iter():
        if isinstance(element.tag, str):
            _drop_background(element)
    return str(lxml_html.tostring(root, encoding="unicode", doctype="<!doctype html>"))


def _drop_background(element: Any) -> None:
    element.attrib.pop("background", None)
    if "url(" in (style := element.get("style") or ""):
        element.set("style", re.sub(r"url\([^)]*\)", "none", style))


_LOOKS: dict[Look, Callable[[str], str]] = {
    Look.PLAIN: str, Look.LIGHT: _light, Look.DARK: _dark, Look.OUTLOOK: _outlook, Look.GMAIL: _gmail, Look.NO_IMAGES: _no_images,
}  # fmt: skip
