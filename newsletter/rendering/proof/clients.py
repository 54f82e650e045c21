"""What mail programs do to a page: cut it, drop its styles, refuse it, or misread Outlook's conditions."""

from __future__ import annotations

import re
from collections.abc import Iterator

from newsletter.edition import PERSONAL_TAGS
from newsletter.rendering.findings import Finding
from newsletter.rendering.proof.material import CLIP_BYTES, Variant

_TOKEN_BYTES = 60  # a path and a token of ours, beside the base URL
_STYLE_CHARACTERS = 8_192  # Gmail drops a longer <style> whole (caniemail.com, "<style> element", 2026-11)
_WIDEST = 640
_CONDITION = re.compile(r"<!--\[if[^\]]*\]>|<!\[endif\]-->")
_FRAGILE = re.compile(
    r"position:\s*(?:absolute|fixed|sticky)|display:\s*(?:inline-)?(?:flex|grid)|float:\s*(?:left|right)"
)
_ACTIVE = ("script", "iframe", "form", "object", "embed", "video", "audio", "input", "button")


def check_variant(one: Variant) -> Iterator[Finding]:
    """Size, conditions, styles and what is not for mails."""
    yield from _size(one)
    page = one.rendered.html
    if "<mj-" in page or "</mj-" in page:
        at = page.find("<mj-") if "<mj-" in page else page.find("</mj-")
        yield one.find("mjml-leak", where=page[at : at + 40])
    yield from _conditions(one)
    for link in one.of("link"):
        if "stylesheet" in (link.get("rel") or "").lower():
            yield one.find("remote-css", where=link.get("href") or "<link>")
    for style in one.of("style"):
        if "@import" in (style.text or "").lower():
            yield one.find("remote-css", where="@import")
    for element in one.of(*_ACTIVE):
        yield one.find(
            "active-content", where=f"<{element.tag}>", message=f"<{element.tag}> has no place in a mail."
        )
    for style in one.of("style"):
        if len(style.text or "") > _STYLE_CHARACTERS:
            message = (
                f"A style block has {len(style.text)} characters; Gmail drops it from {_STYLE_CHARACTERS} on."
            )
            yield one.find("style-long", where="<style>", message=message)
    yield from _layout(one)
    for fault in one.rendered.faults:
        yield one.find(fault.code, "template", where=fault.where, message=fault.message)


def _size(one: Variant) -> Iterator[Finding]:
    filled = sum(
        one.rendered.html.count(tag) * (len(one.edition.base_url) + _TOKEN_BYTES - len(tag))
        for tag in PERSONAL_TAGS.values()
    )
    size, tracked = one.rendered.size_bytes + filled, one.tracked_bytes + filled
    if size > CLIP_BYTES:
        message = f"{size / 1024:.0f} KB of HTML: Gmail cuts it off at 100 KB."
        yield one.find("clip", message=message)
    elif tracked > CLIP_BYTES:
        message = f"{size / 1024:.0f} KB of HTML, up to {tracked / 1024:.0f} KB with click tracking: Gmail cuts it off at 100 KB."
        yield one.find("clip-tracked", message=message)


def _conditions(one: Variant) -> Iterator[Finding]:
    """Conditions open and close in turn; none stands within another."""
    page, opened = one.rendered.html, -1
    for found in _CONDITION.finditer(page):
        if found[0].startswith("<!--[if"):
            if opened >= 0:
                break
            opened = found.start()
        elif opened < 0:
            around = page[max(0, found.start() - 40) : found.end()]
            yield one.find(
                "mso-balance", where=around, message="A condition for Outlook ends that did not begin."
            )
            return
        else:
            opened = -1
    if opened >= 0:
        around = page[opened : opened + 60]
        yield one.find(
            "mso-balance", where=around, message="A condition for Outlook is not closed before the next."
        )


def _layout(one: Variant) -> Iterator[Finding]:
    told: set[str] = set()
    for element in one.elements:
        style = element.get("style")
        if style and (found := _FRAGILE.search(style)) and found[0] not in told:
            told.add(found[0])
            yield one.find(
                "layout-fragile", where=found[0], message=f"{found[0]} on <{element.tag}> is ignored by some."
            )
        width = element.get("width")
        if width and width.isdecimal() and int(width) > _WIDEST:
            message = f"<{element.tag}> is {width} px wide, the mail {_WIDEST}."
            yield one.find("too-wide", where=element.get("src") or f'width="{width}"', message=message)
