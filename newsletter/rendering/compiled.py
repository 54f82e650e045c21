"""What MJML sets wrong, read from the rendered MJML: every tag that is used, and no other."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from newsletter.rendering.rules import Fault, faults_of

_TAG = re.compile(r"<(/?)([a-zA-Z][\w:-]*)((?:[^\"'>]|\"[^\"]*\"|'[^']*')*)>")
_ATTRIBUTE = re.compile(r"([^\s=/\"'>]+)(?:\s*=\s*(?:\"([^\"]*)\"|'([^']*)'))?")
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Oddity:
    """A code, what is wrong, and the line of the rendered MJML, from 0."""

    code: str
    message: str
    line: int


def oddities(source: str) -> tuple[Oddity, ...]:
    """Return what is wrong in a rendered MJML page that compiles nevertheless."""
    source = _COMMENT.sub(lambda comment: "\n" * comment[0].count("\n"), source)
    found: list[tuple[int, Fault]] = []
    above: list[str] = []
    for tag in _TAG.finditer(source):
        closes, name, attributes = tag.groups()
        is_mjml = name[:2].lower() == "mj"
        if closes:
            if is_mjml:
                found += [(tag.start(), fault) for fault in _closed(name.lower(), above)]
            continue
        parent = above[-1] if above else ""
        faults = _of_tag(name.lower(), tag[0], attributes, parent, "mj-attributes" in above)
        found += [(tag.start(), fault) for fault in faults]
        if is_mjml and not attributes.endswith("/"):
            above.append(name.lower())
    return tuple(Oddity(code, message, source.count("\n", 0, at)) for at, (code, message) in found)


def _closed(name: str, above: list[str]) -> list[Fault]:
    """Take *name*, and whatever was left open in it, from the tags *above*."""
    if name not in above:
        return [("tag-unopened", f"</{name}> closes nothing here.")]
    faults = []
    while (last := above.pop()) != name:
        faults.append(("tag-unclosed", f"<{last}> is not closed before </{name}>."))
    return faults


@lru_cache(maxsize=8_192)
def _of_tag(name: str, raw: str, attributes: str, parent: str, sets_defaults: bool) -> tuple[Fault, ...]:
    pairs = [(one[1].lower(), one[2] or one[3] or "") for one in _ATTRIBUTE.finditer(attributes)]
    return tuple(faults_of(name, pairs, raw=raw, parent=parent, sets_defaults=sets_defaults))
