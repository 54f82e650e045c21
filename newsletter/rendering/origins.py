"""
Which template line a piece of rendered MJML came from.

mjml-python reports a byte span of the *rendered* MJML, or nothing at all (RENDERING §1.2). So after a
failure the page is rendered once more with a mark before every template line; taking the marks out
again leaves the same MJML and, for each of its lines, the template and line that wrote it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from html import unescape
from html.parser import HTMLParser

import jinja2
from jinja2.ext import Extension

_OPEN, _CLOSE, _OF = "\ue000", "\ue001", "\ue002"  # private use: never in MJML, survives Jinja's escaping
_STORY = "{{ item.headline | plain if item is defined and item.headline is defined }}"
_MARK = re.compile(f"{_OPEN}([^{_CLOSE}]*){_CLOSE}")
_VOID = {"br", "hr", "img", "meta", "link", "input", "wbr", "col", "area"}


class OriginExtension(Extension):
    """Puts a mark before every line of literal template text: which template and line it is, and of which story."""

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:
        """Called by Jinja with a template's source, before it is parsed."""
        if name is None or name.endswith(".txt.j2"):
            return source
        plain = self.environment.overlay(extensions=[])
        plain.extensions = {}
        pieces: list[str] = []
        is_raw = False
        for line, kind, value in jinja2.lexer.Lexer(plain).tokeniter(source, name, filename):
            is_raw = kind == "raw_begin" or (is_raw and kind != "raw_end")
            if kind == "data":
                story = "" if is_raw else _STORY
                rows = value.split("\n")
                value = "\n".join(
                    row
                    if index == 0 and pieces and not pieces[-1].endswith("\n")
                    else f"{_OPEN}{filename or name}:{line + index}{_OF}{story}{_CLOSE}{row}"
                    for index, row in enumerate(rows)
                )
            pieces.append(value)
        return "".join(pieces)


@dataclass(frozen=True, slots=True)
class Origin:
    """A place in a template; *excerpt* is what was rendered there, *story* the headline of what was being set."""

    template: str
    line: int
    story: str = ""
    excerpt: str = ""


def lines_of(marked: str) -> tuple[list[str], list[Origin]]:
    """The rendered lines without their marks, and of each where it was written."""
    rows: list[str] = []
    origins: list[Origin] = []
    current = Origin("?", 0)
    for row in marked.split("\n"):
        for mark in _MARK.findall(row):
            place, _, story = mark.partition(_OF)
            template, _, line = place.rpartition(":")
            current = Origin(template, int(line), unescape(story))
        rows.append(_MARK.sub("", row))
        origins.append(current)
    return rows, origins


def locate_fault(marked: str, message: str) -> Origin:
    """Return the template line at which the MJML in *marked* goes wrong, as well as can be told."""
    rows, origins = lines_of(marked)
    span = re.search(r"position (\d+):(\d+)", message)
    if span:
        number = "\n".join(rows).encode()[: int(span[1])].count(b"\n")
    else:
        number = _first_imbalance("\n".join(rows))
    number = min(number, len(rows) - 1)
    return replace(origins[number], excerpt=rows[number].strip()[:120])


class _Balance(HTMLParser):
    """Finds the first tag that does not fit: closed but not open, or open for ever."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.open: list[tuple[str, int]] = []
        self.fault: int | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _VOID:
            self.open.append((tag, self.getpos()[0]))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        return

    def handle_endtag(self, tag: str) -> None:
        if self.fault is not None or tag in _VOID:
            return
        if self.open and self.open[-1][0] == tag:
            self.open.pop()
        else:
            self.fault = self.open[-1][1] if any(name == tag for name, _ in self.open) else self.getpos()[0]


def _first_imbalance(source: str) -> int:
    # A bare "<", or a tag that never ends before the next begins.
    bare = re.search(r"<(?![a-zA-Z/!?])|<[a-zA-Z/][^<>]*(?=<)", source)
    balance = _Balance()
    balance.feed(source)
    balance.close()
    if balance.fault is None and balance.open:
        balance.fault = balance.open[-1][1]
    found = [line - 1 for line in (balance.fault,) if line]
    if bare:
        found.append(source[: bare.start()].count("\n"))
    return min(found, default=0)
