"""The page as who listens to it meets it: parts, language, direction, headings, tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from newsletter.articles import direction
from newsletter.rendering.findings import Finding
from newsletter.rendering.proof.material import Variant, content, flat

_HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")


def check_variant(one: Variant) -> Iterator[Finding]:
    """Both parts, and how the page is built."""
    if one.body is None or not one.elements:
        yield one.find("html-missing")
    if not one.text:
        yield one.find("text-missing", "text")
    if one.page is None:
        return
    yield from _language(one, one.page)
    title = one.page.find(".//title")
    if title is None or not flat(title.text or ""):
        yield one.find("title-missing")
    yield from _headings(one)
    yield from _tables(one)


def _language(one: Variant, page: Any) -> Iterator[Finding]:
    snapshot = one.edition.snapshot
    language = page.get("lang") or "und"
    if language == "und":
        yield one.find("lang-missing")
    elif _primary(language) != _primary(snapshot.language):
        message = f"The page says it is in {language!r}; the edition is in {snapshot.language!r}."
        yield one.find("lang-wrong", where=f'lang="{language}"', message=message)
    way = page.get("dir") or ""
    if way != snapshot.direction:
        message = f"The page's direction is {way or 'not given'!r}; the edition's is {snapshot.direction!r}."
        yield one.find("dir-wrong", where=f'dir="{way}"', message=message)
    foreign = {
        item.url: item
        for item in snapshot.items
        if item.language != "und" and _primary(item.language) != _primary(snapshot.language)
    }
    for link, address in one.links if foreign else ():
        item = foreign.get(address)
        if item is None or content(link) != flat(item.headline):
            continue
        said, way = _nearest(link, "lang"), _nearest(link, "dir")
        if _primary(said) != _primary(item.language) or way != direction(item.language):
            message = f"“{item.headline}” is in {item.language!r}; its place says {said!r}, {way!r}."
            yield one.find("story-lang", where=address, message=message)


def _primary(language: str) -> str:
    return language.partition("-")[0].casefold()


def _nearest(element: Any, name: str) -> str:
    while element is not None:
        if value := element.get(name):
            return str(value)
        element = element.getparent()
    return ""


def _headings(one: Variant) -> Iterator[Finding]:
    before, first = 0, 0
    for heading in one.of(*_HEADINGS):
        level = int(heading.tag[1])
        words = content(heading)
        first += level == 1
        if not words and not any(image.get("alt") for image in heading.iter("img")):
            yield one.find("heading-empty", where=f"<{heading.tag}>")
        if before and level > before + 1:
            message = f"After a heading of level {before} comes one of level {level}."
            yield one.find("heading-order", where=words, message=message)
        before = level
    if first != 1:
        yield one.find("heading-first", message=f"The page has {first} first-level headings.")


def _tables(one: Variant) -> Iterator[Finding]:
    bare = [
        table
        for table in one.of("table")
        if table.get("role") not in ("presentation", "none") and next(table.iter("th"), None) is None
    ]
    if bare:
        yield one.find("table-role", where=content(bare[0])[:60])
