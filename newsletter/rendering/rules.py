"""What MJML takes without a word and then sets wrong, tag by tag: for templates as written and as compiled."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from newsletter.rendering.vocabulary import ATTRIBUTES, PARENTS, REFUSED_TAGS

HOLE = "\u25a1"
"""Stands where Jinja writes something: what is unknown is not judged."""

Fault = tuple[str, str]
"""A code and a message."""

_UNITLESS_ZERO = re.compile(r"(?:^|\s)0(?=\s|$)")
_SINGLE_QUOTED = re.compile(r"=\s*'[^']*\"")
_NAME = re.compile(r"<\s*([^\s/>]+)")
_DROPPING = ("mj-section", "mj-body", "mj-wrapper", "mj-group")


def faults_of(
    tag: str, attributes: Sequence[tuple[str, str | None]], *, raw: str, parent: str, sets_defaults: bool
) -> Iterator[Fault]:
    """
    What is wrong with one opening tag.

    *tag* is in small letters, *raw* as it stands; *parent* is the MJML tag around it, '' when unknown;
    *sets_defaults*: it stands in mj-attributes.
    """
    if not tag.startswith("mj"):
        if parent in _DROPPING:
            yield "misplaced", f"<{tag}> directly in <{parent}> is dropped; put it into an mj-text."
        if tag == "a" and 0 <= raw.find("href") < raw.find("clicktracking"):
            yield "clicktracking-order", "clicktracking=off must stand before href."
        return
    if tag in REFUSED_TAGS:
        yield "refused-tag", f"<{tag}>: {REFUSED_TAGS[tag]}."
        return
    if tag not in ATTRIBUTES:
        yield "unknown-tag", f"<{tag}> is no MJML that is compiled: it would reach the reader as it stands."
        return
    written = _NAME.match(raw)
    if written and written[1] != tag:
        yield "unknown-tag", f"<{written[1]}> must be written in small letters."
    if parent and tag in PARENTS and parent not in PARENTS[tag]:
        yield "misplaced", f"<{tag}> cannot stand in <{parent}>."
    yield from _attributes(tag, attributes, sets_defaults=sets_defaults)
    if not sets_defaults:
        yield from _missing(tag, dict(attributes))
    if _SINGLE_QUOTED.search(raw):
        yield "quotes", "double quotes inside a single-quoted attribute break the page."


def _attributes(
    tag: str, attributes: Sequence[tuple[str, str | None]], *, sets_defaults: bool
) -> Iterator[Fault]:
    allowed = ATTRIBUTES[tag] | (ATTRIBUTES["mj-class"] if sets_defaults else frozenset())
    names = [name for name, _ in attributes]
    for name, value in attributes:
        if HOLE in name:
            continue
        if (tag, name) == ("mj-style", "inline"):
            yield "style-inline", "mj-style inline is not inlined by mjml-python; write style attributes."
        elif name not in allowed:
            yield "unknown-attribute", f"<{tag}> has no attribute {name!r}; it is ignored."
        if "padding" in name and _UNITLESS_ZERO.search(value or ""):
            yield "unitless-zero", f'{name}="{value}" on <{tag}>: write 0px, or widths come out wrong.'
        if names.count(name) > 1:
            yield "attribute-twice", f"<{tag}> has {name!r} twice."


def _missing(tag: str, values: dict[str, str | None]) -> Iterator[Fault]:
    """What a tag needs, or cannot have, beyond single attributes."""
    if tag == "mj-image" and "alt" not in values:
        yield "image-alt", "<mj-image> has no alt."
    if tag == "mj-image" and (values.get("width") or "").endswith("%"):
        yield "image-percent", "<mj-image> takes a width in px; percent is ignored."
    if tag == "mj-social-element" and "src" not in values:
        yield (
            "social-src",
            "<mj-social-element> needs its own src; the default comes from a stranger's server.",
        )
    if tag == "mj-hero" and values.get("mode") == "fluid-height":
        yield "hero-fluid", "mj-hero fluid-height collapses; give it a fixed height."
    if tag == "mj-class" and " " in (values.get("name") or ""):
        yield "class-name", "an mj-class has one name."
    for name in ("lang", "dir") if tag == "mjml" else ():
        if name not in values:
            yield "lang-missing", f"<mjml> needs {name}; the default is wrong for screen readers."
