"""
The colours text really has: the page's style rules and style attributes, cascaded, in light and in dark.

Only what decides contrast is computed. An element's styles depend on nothing but its own tag, classes
and attributes and those of its ancestors, so each such chain is computed once and remembered: the
second page made from the same templates costs a walk and look-ups.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import cssselect
import tinycss2
from cssselect import parser as selectors
from tinycss2.color3 import RGBA, parse_color

SCHEMES = ("light", "dark")

_OURS = frozenset(
    {"color", "background", "background-color", "display", "visibility", "font-size", "font-weight"}
)
_HEADING_SIZES = {"h1": 2.0, "h2": 1.5, "h3": 1.17, "h4": 1.0, "h5": 0.83, "h6": 0.67, "small": 5 / 6}
_BOLD = frozenset({"h1", "h2", "h3", "h4", "h5", "h6", "b", "strong", "th"})
_SIZES = {
    "xx-small": 9.0,
    "x-small": 10.0,
    "small": 13.0,
    "medium": 16.0,
    "large": 18.0,
    "x-large": 24.0,
    "xx-large": 32.0,
}
_UNITS = {"px": 1.0, "pt": 4 / 3, "pc": 16.0, "in": 96.0}
_LENGTH = re.compile(r"([\d.]+)(px|pt|pc|in|em|rem|%)")
_MOST_KEPT = 20_000

Colour = tuple[float, float, float]
Declaration = tuple[str, str, bool]
"""Property, value, whether it is important."""


@dataclass(frozen=True, slots=True, eq=False)
class Style:
    """What decides contrast: colours as red, green, blue of 0 to 1; size in px, 0 for none. *is_known*: no picture behind."""

    colour: Colour = (0.0, 0.0, 0.0)
    ground: Colour = (1.0, 1.0, 1.0)
    size: float = 16.0
    weight: int = 400
    is_hidden: bool = False
    is_known: bool = True


@dataclass(slots=True, eq=False)
class Node:
    """A chain of elements, as rules see it, with its styles in each scheme; *below* keeps what was computed."""

    tag: str
    classes: frozenset[str]
    id: str
    parent: Node | None
    styles: tuple[Style, Style]
    below: dict[tuple[str, ...], Node] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Rule:
    tree: Any
    strength: tuple[int, int, int]
    scheme: str
    declarations: tuple[Declaration, ...]


class Sheet:
    """The rules of a page; ``sheet_of`` keeps one for each style text."""

    def __init__(self, css: str) -> None:
        self.rules = tuple(_rules(css))
        self.top = Node("", frozenset(), "", None, (Style(), Style()))
        self.kept = 0

    def walk(self, page: Any) -> Iterator[tuple[Any, Node]]:
        """Every element of *page* in document order, with its styles."""
        waiting = [(page, self.top)]
        while waiting:
            element, above = waiting.pop()
            node = self._node(above, element)
            yield element, node
            if not all(style.is_hidden for style in node.styles):
                waiting += [(child, node) for child in reversed(element) if isinstance(child.tag, str)]

    def _node(self, above: Node, element: Any) -> Node:
        get = element.get
        key = (element.tag, get("class", ""), get("style", ""), get("bgcolor", ""), get("id", ""))
        known = above.below.get(key)
        if known is not None:
            return known
        if self.kept > _MOST_KEPT:
            self.top.below.clear()
            self.kept = 0
        self.kept += 1
        node = Node(element.tag, frozenset(key[1].split()), key[4], above, above.styles)
        light, dark = (self._style(node, key, above.styles[n], scheme) for n, scheme in enumerate(SCHEMES))
        node.styles = (light, dark)
        above.below[key] = node
        return node

    def _style(self, node: Node, key: tuple[str, ...], above: Style, scheme: str) -> Style:
        """The cascade (CSS Cascading 3): attributes, rules by strength and order, style attribute; then important."""
        ordered: list[tuple[tuple[bool, int, tuple[int, int, int], int], str, str]] = []
        for order, rule in enumerate(self.rules):
            if rule.scheme in ("", scheme) and _matches(rule.tree, node):
                ordered += [
                    ((loud, 0, rule.strength, order), name, value) for name, value, loud in rule.declarations
                ]
        ordered += [((loud, 1, (0, 0, 0), 0), name, value) for name, value, loud in declarations(key[2])]
        values = {"background-color": key[3]}
        values |= {name: value for _, name, value in sorted(ordered, key=lambda one: one[0])}
        return _computed(node.tag, values, above)


@lru_cache(maxsize=64)
def sheet_of(css: str) -> Sheet:
    """The rules of a style text."""
    return Sheet(css)


@lru_cache(maxsize=4_096)
def declarations(css: str) -> tuple[Declaration, ...]:
    """What a style attribute, or the inside of a rule, says of ours."""
    return _ours(tinycss2.parse_blocks_contents(css, skip_comments=True, skip_whitespace=True)) if css else ()


def _ours(parsed: Any) -> tuple[Declaration, ...]:
    found: list[Declaration] = []
    for one in parsed:
        if one.type == "declaration" and one.lower_name in _OURS:
            name, value = one.lower_name, tinycss2.serialize(one.value).strip().lower()
            found.append(("background-color" if name == "background" else name, value, one.important))
    return tuple(found)


def _rules(css: str, scheme: str = "") -> Iterator[_Rule]:
    yield from _read(tinycss2.parse_stylesheet(css, skip_comments=True, skip_whitespace=True), scheme)


def _read(parsed: Any, scheme: str) -> Iterator[_Rule]:
    for one in parsed:
        if one.type == "at-rule" and one.lower_at_keyword == "media" and one.content is not None:
            asked = tinycss2.serialize(one.prelude).lower()
            wanted = next(
                (name for name in SCHEMES if re.search(rf"prefers-color-scheme:\s*{name}", asked)), ""
            )
            # Rules for widths are left out: the page is looked at as a desktop shows it.
            if wanted and "width" not in asked:
                inner = tinycss2.parse_rule_list(one.content, skip_comments=True, skip_whitespace=True)
                yield from _read(inner, wanted)
        elif one.type == "qualified-rule":
            said = _ours(
                tinycss2.parse_blocks_contents(one.content, skip_comments=True, skip_whitespace=True)
            )
            if not said:
                continue
            try:
                chosen = cssselect.parse(tinycss2.serialize(one.prelude))
            except cssselect.SelectorError:
                continue  # a browser drops it, too, or it is some program's own (.moz-text-html …)
            for selector in chosen:
                if selector.pseudo_element is None:
                    yield _Rule(selector.parsed_tree, selector.specificity(), scheme, said)


def _matches(tree: Any, node: Node | None) -> bool:
    """
    Whether a selector fits a chain of elements.

    Attributes, siblings and states (``:hover``) never fit: none of them decides what a mail looks like at rest.
    """
    if node is None or not node.tag:
        return False
    if isinstance(tree, selectors.Element):
        return tree.element is None or tree.element == node.tag
    if isinstance(tree, selectors.Class):
        return tree.class_name in node.classes and _matches(tree.selector, node)
    if isinstance(tree, selectors.Hash):
        return tree.id == node.id and _matches(tree.selector, node)
    if isinstance(tree, selectors.CombinedSelector):
        if not _matches(tree.subselector, node):
            return False
        if tree.combinator == ">":
            return _matches(tree.selector, node.parent)
        return tree.combinator == " " and any(_matches(tree.selector, above) for above in _ancestors(node))
    return False


def _ancestors(node: Node) -> Iterator[Node]:
    above = node.parent
    while above is not None:
        yield above
        above = above.parent


def _computed(tag: str, values: dict[str, str], above: Style) -> Style:
    size = _size(values.get("font-size", ""), above.size)
    if "font-size" not in values:
        size = above.size * _HEADING_SIZES.get(tag, 1.0)
    colour = _parsed(values.get("color", ""))
    ground = _parsed(values.get("background-color", ""))
    hidden = values.get("display") == "none" or values.get("visibility") in ("hidden", "collapse")
    told = replace(
        above, size=size, weight=_weight(tag, values.get("font-weight", ""), above.weight),
        is_hidden=above.is_hidden or hidden,
    )  # fmt: skip
    if ground is not None and ground.alpha > 0:
        told = replace(told, ground=_over(ground, above.ground), is_known=told.is_known or ground.alpha == 1)
    if "url(" in values.get("background-color", ""):
        told = replace(told, is_known=False)
    if isinstance(colour, RGBA):
        told = replace(told, colour=_over(colour, told.ground) if colour.alpha < 1 else colour[:3])
    elif tag == "a" and not values.get("color"):
        told = replace(told, colour=(0.0, 0.0, 238 / 255))  # a browser's own blue
    return told


@lru_cache(maxsize=1_024)
def _parsed(value: str) -> RGBA | None:
    """A colour; of a shorthand the first colour in it; None: none, or the inherited one."""
    for token in tinycss2.parse_component_value_list(value) if value else ():
        colour = parse_color(token)
        if isinstance(colour, RGBA):
            return colour
    return None


def _over(colour: RGBA, ground: Colour) -> Colour:
    red, green, blue = (
        part * colour.alpha + behind * (1 - colour.alpha)
        for part, behind in zip(colour[:3], ground, strict=True)
    )
    return red, green, blue


def _size(value: str, above: float) -> float:
    if value in _SIZES:
        return _SIZES[value]
    found = _LENGTH.fullmatch(value)
    if found is None:
        return 0.0 if value in ("0", "0px") else above
    number, unit = float(found[1]), found[2]
    if unit in ("em", "%"):
        return number * above / (100 if unit == "%" else 1)
    return number * (16.0 if unit == "rem" else _UNITS[unit])


def _weight(tag: str, value: str, above: int) -> int:
    if value.isdecimal():
        return int(value)
    if value in ("bold", "bolder") or (not value and tag in _BOLD):
        return 700
    return 400 if value == "normal" else above


def contrast(one: Colour, other: Colour) -> float:
    """The contrast of two colours, 1 to 21 (WCAG 2.2, "contrast ratio")."""
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


@lru_cache(maxsize=4_096)
def _luminance(colour: Colour) -> float:
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def style_text(page: Any) -> str:
    """All style rules of a page."""
    return "\n".join(style.text or "" for style in page.iter("style")) if page is not None else ""
