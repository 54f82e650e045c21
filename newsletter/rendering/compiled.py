"""What MJML compiles without a word and sets wrong, read from the rendered MJML: every line that is used, and no other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from newsletter.rendering.vocabulary import ATTRIBUTES, REFUSED_TAGS

_TAG = re.compile(r"<(mj[\w-]*)((?:\s+[^\s=>/\"']+(?:\s*=\s*(?:\"[^\"]*\"|'[^']*'))?)*)\s*/?>", re.IGNORECASE)
_ATTRIBUTE = re.compile(r"([^\s=>/\"']+)(?:\s*=\s*(?:\"[^\"]*\"|'[^']*'))?")
_DEFAULTS = re.compile(r"<mj-attributes>.*?</mj-attributes>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Oddity:
    """A code, what is wrong, and the line of the rendered MJML, from 0."""

    code: str
    message: str
    line: int


def oddities(source: str) -> tuple[Oddity, ...]:
    """Return the unknown tags and attributes of a rendered MJML page."""
    defaults = _DEFAULTS.search(source)
    start, end = defaults.span() if defaults else (0, 0)
    found: list[Oddity] = []
    for tag in _TAG.finditer(source):
        for code, message in _of_tag(tag[1], tag[2], start <= tag.start() < end):
            found.append(Oddity(code, message, source.count("\n", 0, tag.start())))
    return tuple(found)


@lru_cache(maxsize=4_096)
def _of_tag(tag: str, attributes: str, sets_defaults: bool) -> tuple[tuple[str, str], ...]:
    return tuple(_faults(tag, attributes, sets_defaults))


def _faults(tag: str, attributes: str, sets_defaults: bool) -> Iterator[tuple[str, str]]:
    if tag in REFUSED_TAGS:
        yield "refused-tag", f"<{tag}>: {REFUSED_TAGS[tag]}."
        return
    if tag not in ATTRIBUTES:
        yield "unknown-tag", f"<{tag}> is no MJML that is compiled: it would reach the reader as it stands."
        return
    allowed = ATTRIBUTES[tag] | (ATTRIBUTES["mj-class"] if sets_defaults else frozenset())
    for attribute in _ATTRIBUTE.finditer(attributes):
        if attribute[1] not in allowed:
            yield "unknown-attribute", f"<{tag}> has no attribute {attribute[1]!r}; it is ignored."
