"""
Charts as SVG to stand in a page: colours are the page's own (CSS variables), so they turn dark with it.

No script, no date, no random id: the same numbers are the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence

import pygal
from lxml import etree
from pygal.style import Style

_SVG = "{http://www.w3.org/2000/svg}"
_STYLE = Style(
    background="transparent", plot_background="transparent", foreground="var(--ink)", foreground_strong="var(--ink)",
    foreground_subtle="var(--faint)", colors=("var(--people)", "var(--second)", "var(--faint)", "var(--third)"), opacity="1",
    font_family="inherit", label_font_size=15, major_label_font_size=15, value_font_size=15, legend_font_size=16,
    value_colors=("var(--ink)",) * 4,
)  # fmt: skip
_BAR = 34
_LONGEST = 44


def bars(name: str, title: str, rows: Sequence[tuple[str, int]]) -> str:
    """One bar a row, the first on top; *name* is unique in the page, *title* what a screen reader says."""
    chart = pygal.HorizontalBar(
        style=_STYLE, js=(), show_legend=False, disable_xml_declaration=True, print_values=True,
        print_values_position="top", width=800, height=70 + _BAR * len(rows), show_x_labels=False, margin=6,
        show_y_guides=False, truncate_label=-1, range=(0, 1.12 * max([1, *(value for _, value in rows)])), value_formatter=_number,
    )  # fmt: skip
    chart.x_labels = [_short(label) for label, _ in reversed(rows)]
    chart.add(title, [value for _, value in reversed(rows)])
    return _as_part(chart, name, title)


def stacked(name: str, title: str, rows: Sequence[tuple[str, Sequence[int]]], series: Sequence[str]) -> str:
    """One bar a row, the first on top, parted into *series*."""
    chart = pygal.HorizontalStackedBar(
        style=_STYLE, js=(), disable_xml_declaration=True, width=800, height=110 + _BAR * len(rows), margin=6,
        legend_at_bottom=True, legend_at_bottom_columns=len(series), show_x_labels=False, show_y_guides=False,
        truncate_label=-1, truncate_legend=-1, value_formatter=_number,
    )  # fmt: skip
    chart.x_labels = [_short(label) for label, _ in reversed(rows)]
    for place, label in enumerate(series):
        chart.add(label, [values[place] for _, values in reversed(rows)])
    return _as_part(chart, name, title)


def lines(name: str, title: str, labels: Sequence[str], series: Sequence[tuple[str, Sequence[float]]], *, unit: str = "") -> str:  # fmt: skip
    """One line a series over the same labels; *unit* stands behind each value."""
    chart = pygal.Line(
        style=_STYLE, js=(), disable_xml_declaration=True, width=800, height=320, legend_at_bottom=True, margin=6,
        show_minor_x_labels=False, truncate_label=-1, dots_size=4, stroke_style={"width": 3}, range=(0, None),
        value_formatter=lambda value: f"{_number(value)}{unit}",
    )  # fmt: skip
    chart.x_labels = list(labels)
    every = max(1, -(-len(labels) // 7))
    chart.x_labels_major = list(labels)[::every]
    for label, values in series:
        chart.add(label, list(values))
    return _as_part(chart, name, title)


def _number(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1].rstrip()}…"


def _as_part(chart: pygal.graph.graph.Graph, name: str, title: str) -> str:
    """Without what the library adds for pages of its own; every number is in the table beside it."""
    chart.uuid = name
    svg = etree.fromstring(chart.render())
    for one in list(svg.iter(etree.Comment, f"{_SVG}script", f"{_SVG}title", f"{_SVG}desc")):
        parent = one.getparent()
        if parent is not None:
            parent.remove(one)
    for one in svg.iterdescendants():
        one.attrib.pop("id", None)  # the same in every chart, for a script that is not there
    svg.set("role", "img")
    svg.set("aria-label", title)
    return str(etree.tostring(svg, encoding="unicode"))
