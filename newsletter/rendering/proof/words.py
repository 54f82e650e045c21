"""Words that must not reach a reader: tokens, marks of the unfinished, markup, broken letters."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

import ftfy.badness

from newsletter.rendering.findings import Finding
from newsletter.rendering.proof.material import PERSONAL, PERSONAL_LINKS, Variant, flat

LEFTOVER = re.compile(r"\{\{|\}\}|\{%|%\}|<%|%>|\*\||\|\*|%recipient\.")
"""What Jinja or a provider would fill or run."""
# As it is written, whole where it is: of Jinja, Handlebars, ERB, Mailchimp, Mailgun, Sailthru, and a lone {name}.
_TOKEN = re.compile(
    r"\{\{[^{}]{0,60}\}\}|\{%[^%]{0,60}%\}|<%[^%]{0,60}%>|\*\|[^|]{0,60}\|\*|%recipient\.\w*%?|%%\w+%%|\{\w+(?:[._-]\w+)*\}|"
    + LEFTOVER.pattern
)
_OUR_TAG = re.compile(r"\[\[nl:[^\]\s]*\]?\]?")
_DOUBLE_ESCAPED = re.compile(r"&amp;(?:amp|lt|gt|quot|nbsp|#\d+);")
_MARKUP_IN_TEXT = re.compile(r"</?[a-zA-Z][^>\n]{0,200}>|&(?:amp|lt|gt|quot|nbsp|#\d+|#x[0-9a-fA-F]+);")
# TK is an editor's “to come”, in capitals so that no compositor sets it; but TK 1980 is a flight, TK Maxx a shop.
# XX stands for a number to come where one would stand: Pius XX has another, and so have chromosomes.
_PLACEHOLDER = re.compile(
    r"\bTK(?:TK)+\b|[\[(]\s*TK\b[^\])]*[\])]|\bTK\b(?! ?\d| ?(?i:maxx\b))|\bPLACEHOLDER\b|"
    r"(?:^|\b[a-z]+ )XX\b(?= ?%| (?!chromosom|centur)[a-z])|(?i:\blorem\s+ipsum\b|\bdolor\s+sit\s+amet\b|\bX{3,}\b|"
    r"\b(?:TODO|FIXME|TBD)\b:?|\[\s*(?:insert|placeholder|headline|standfirst|caption|name|date|text|link)\b[^\]]*\]|"
    r"\b(?:insert|your) (?:headline|text|caption|name) here\b|\bplaceholder text\b|\bdummy (?:text|copy)\b)"
)
_BROKEN = re.compile(r"\w*\ufffd\w*")
_SHORT = 60


def check_variant(one: Variant) -> Iterator[Finding]:
    """All parts of a variant."""
    yield from _tokens(one)
    told: set[tuple[str, str]] = set()
    for part, text in one.pieces:
        for code, words in _oddities(text):
            if (part, words) in told:
                continue
            told.add((part, words))
            is_theirs = words.casefold() in _odd_of(one.edition.words)
            message = f"“{words}” was left in." if code == "placeholder" else ""
            yield one.find(code, part, where=words, message=message, is_theirs=is_theirs)
    yield from _markup(one)
    yield from _misplaced(one)


@lru_cache(maxsize=16_384)
def _oddities(text: str) -> tuple[tuple[str, str], ...]:
    """Marks of the unfinished and broken letters in a piece of text: (code, words)."""
    found = [("placeholder", flat(mark[0])) for mark in _PLACEHOLDER.finditer(text)]
    if not text.isascii():
        found += [("mojibake", broken[0]) for broken in _BROKEN.finditer(text)]
        found += [("mojibake", broken[0]) for broken in ftfy.badness.BADNESS_RE.finditer(text)]
    return tuple(found)


def _odd_of(words: str) -> frozenset[str]:
    """What is odd in the sources' words, in small letters; a text template may have set them in capitals."""
    return frozenset(odd.casefold() for text in (words, words.upper()) for _, odd in _oddities(text))


def _tokens(one: Variant) -> Iterator[Finding]:
    attributes = " ".join(
        value for element in one.of("a", "img") for name in ("href", "alt") if (value := element.get(name))
    )
    seen = {**dict(one.parts), "html": f"{one.visible} {flat(attributes)}"}
    theirs = one.edition.words.casefold()  # a text template may set capitals
    for part, text in seen.items():
        for token in dict.fromkeys(_TOKEN.findall(text)):
            yield one.find(
                "leftover-token", part, where=token, message=f"“{token}” is left over: the reader would see it.",
                is_theirs=one.edition.is_theirs(token) or token.casefold() in theirs,
            )  # fmt: skip
    raw = {
        "subject": " ".join(one.rendered.subjects),
        "preheader": one.rendered.preheader,
        "html": one.rendered.html,
    }
    for part, text in {**raw, "text": one.rendered.text}.items():
        for tag in sorted(set(_OUR_TAG.findall(text)) - PERSONAL):
            yield one.find("unfilled-tag", part, where=tag)


def _misplaced(one: Variant) -> Iterator[Finding]:
    """A personal tag is the whole address of a link, or a line of the text part, and stands nowhere else."""
    for part, words in one.inbox_lines:
        if any(tag in words for tag in PERSONAL):
            yield one.find("tag-misplaced", part, where=words)
    if one.rendered.html.count("[[nl:") == sum(address in PERSONAL_LINKS for _, address in one.links):
        return
    for element in one.elements:
        values = [
            value
            for name, value in element.items()
            if (element.tag, name) != ("a", "href") or value.strip() not in PERSONAL_LINKS
        ]
        for words in (*values, element.text or "", element.tail or ""):
            if any(tag in words for tag in PERSONAL):
                yield one.find("tag-misplaced", where=words)


def _markup(one: Variant) -> Iterator[Finding]:
    for found in _MARKUP_IN_TEXT.finditer(one.rendered.text):
        # What looks like markup in the story was written so by its author; a template may set capitals.
        if flat(found[0]).casefold() not in one.edition.words.casefold():
            yield one.find("text-markup", "text", where=found[0][:_SHORT])
    if found_twice := _DOUBLE_ESCAPED.search(one.rendered.html):
        yield one.find("double-escape", where=found_twice[0])
