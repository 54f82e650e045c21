"""The text part's craft: lines of 72 columns, numbered links, and no mark that its reader does not need."""

from __future__ import annotations

import html
import re
import textwrap
import unicodedata

import jinja2
import nh3
from jinja2.runtime import Context

TEXT_COLUMNS = 72

_SPACES = re.compile(r"[ \t\n\r\f\v]+")  # but no no-break space
_LINK = re.compile(r'<a href="([^"]*)">(.*?)</a>', re.DOTALL)
# Letters of two columns that may be parted anywhere but before what closes; Korean puts spaces between its words.
_EAST = "\u2e80-\u9fff\uf900-\ufaff\uff01-\uff60"
_CLOSING = "、。，．」』）〉》】！？：；ー…―"
_PIECES = re.compile(f" +|[{_EAST}][{_CLOSING}]*|[^ {_EAST}]+")
_WIDE = re.compile(
    "[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6]"
)
_FROM_RIGHT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")
_FROM_LEFT = re.compile("[A-Za-z\u00aa-\u02af\u0370-\u052f]")


class Links:
    """
    The links of one text part, each with a number in the order in which they are first noted.

    A number stands behind the words it belongs to; the addresses follow where the part ends. What is noted again
    in a later part keeps its number and is listed there again.
    """

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._open: dict[str, int] = {}

    def noted(self, words: str, url: str) -> str:
        """*words* with the number of *url* behind them, never on a line of its own; without an address just *words*."""
        if not url:
            return words
        number = self._numbers.setdefault(url, len(self._numbers) + 1)
        self._open[url] = number
        return f"{words}\u00a0[{number}]"

    def linked(self, fragment: str) -> str:
        """An HTML fragment as plain text on one line, its links noted."""
        noted = _LINK.sub(lambda link: self.noted(link[2], html.unescape(link[1])), fragment)
        return plain(noted)

    def listed(self) -> str:
        """What was noted since the last list, a line each; empty where nothing was."""
        lines = [f"[{number}] {url}" for url, number in self._open.items()]
        self._open = {}
        return "\n".join(lines)


def plain(fragment: str) -> str:
    """An HTML fragment as plain text on one line; what may not be parted stays together."""
    return _SPACES.sub(" ", html.unescape(nh3.clean(fragment, tags=set()))).strip()


def wrap(text: str, indent: int = 0, first: str = "") -> str:
    """*text* in lines of ``TEXT_COLUMNS``, *first* before the first; links are never broken."""
    prefix = " " * indent
    if _WIDE.search(text):
        filled = _filled(text, first or prefix, prefix)
    else:
        filled = textwrap.fill(
            text, TEXT_COLUMNS, initial_indent=first or prefix, subsequent_indent=prefix,
            break_long_words=False, break_on_hyphens=False,
        )  # fmt: skip
    return filled.replace("\u00a0[", " [")


def columns(text: str) -> int:
    """How many columns *text* takes in type of one width."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def _columns(letter: str) -> int:
    if unicodedata.category(letter) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def _filled(text: str, first: str, prefix: str) -> str:
    """*text* in lines as Chinese and Japanese break them: between any two letters."""
    lines, start, gap = [first], first, ""
    for piece in _PIECES.findall(_SPACES.sub(" ", text)):
        if piece.isspace():
            gap = " "
            continue
        if columns(lines[-1] + gap + piece) > TEXT_COLUMNS and lines[-1] != start:
            lines.append(prefix)
            start, gap = prefix, ""
        lines[-1] += (gap if lines[-1] != start else "") + piece
        gap = ""
    return "\n".join(lines)


@jinja2.pass_context
def isolate(context: Context, text: str) -> str:
    """
    Keep a run of the other direction from turning its neighbours (Unicode FSI … PDI).

    What runs as the edition does needs no marks, which some mail programs show as boxes.
    """
    runs_left = getattr(context.get("edition"), "direction", "ltr") == "rtl"
    return f"\u2068{text}\u2069" if (_FROM_LEFT if runs_left else _FROM_RIGHT).search(text) else text


def tidy(text: str) -> str:
    """At most one empty line in a row, no trailing spaces, one final newline."""
    lines: list[str] = []
    for line in text.replace("\r\n", "\n").split("\n"):
        line = line.rstrip()
        if line or (lines and lines[-1]):
            lines.append(line)
    return "\n".join(lines).strip("\n") + "\n"
