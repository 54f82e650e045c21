"""
Charts as SVG to stand in a page: colours are the page's own (CSS variables), so they turn dark with it.

No script, no date, no random id: the same numbers are the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil, floor, log10
from typing import Any, NamedTuple

import pygal
from lxml import etree
from pygal.style import Style

_Chart = Any  # pygal has no types

_SVG = "{http://www.w3.org/2000/svg}"
_STYLE = Style(
    background="transparent", plot_background="transparent", foreground="var(--ink)", foreground_strong="var(--ink)",
    foreground_subtle="var(--faint)", colors=("var(--people)", "var(--second)", "var(--faint)", "var(--third)"), opacity="1",
    font_family="inherit", label_font_size=15, major_label_font_size=15, value_font_size=15, legend_font_size=16,
    value_colors=("var(--ink)",) * 4,
)  # fmt: skip
_BAR = 34


class _Form(NamedTuple):
    """How wide a chart is drawn, how long its labels may be, how many stand below it and in a row of its legend."""

    name: str
    width: int
    longest: int
    below: int
    legend: int


_FORMS = (_Form("wide", 800, 44, 7, 4), _Form("narrow", 400, 18, 4, 2))
"""Each chart is drawn twice, and the page shows the one that fits: scaled down, words could not be read."""


def bars(name: str, title: str, rows: Sequence[tuple[str, int]]) -> str:
    """One bar a row, the first on top; *name* is unique in the page, *title* what a screen reader says."""

    def draw(form: _Form) -> _Chart:
        chart = pygal.HorizontalBar(
            style=_STYLE, js=(), show_legend=False, disable_xml_declaration=True, print_values=True,
            print_values_position="top", width=form.width, height=70 + _BAR * len(rows), show_x_labels=False, margin=6,
            show_y_guides=False, truncate_label=-1, range=(0, 1.2 * max([1, *(value for _, value in rows)])), value_formatter=_number,
        )  # fmt: skip
        chart.x_labels = [_short(label, form.longest) for label, _ in reversed(rows)]
        chart.add(title, [value for _, value in reversed(rows)])
        return chart

    return _both(draw, name, title)


def stacked(name: str, title: str, rows: Sequence[tuple[str, Sequence[int]]], series: Sequence[str]) -> str:
    """One bar a row, the first on top, parted into *series*."""

    def draw(form: _Form) -> _Chart:
        chart = pygal.HorizontalStackedBar(
            style=_STYLE, js=(), disable_xml_declaration=True, width=form.width, height=120 + _BAR * len(rows), margin=6,
            legend_at_bottom=True, legend_at_bottom_columns=min(form.legend, len(series)), show_x_labels=False, show_y_guides=False,
            truncate_label=-1, truncate_legend=-1, value_formatter=_number,
        )  # fmt: skip
        chart.x_labels = [_short(label, form.longest) for label, _ in reversed(rows)]
        for place, label in enumerate(series):
            chart.add(label, [values[place] for _, values in reversed(rows)])
        return chart

    return _both(draw, name, title)


def lines(name: str, title: str, labels: Sequence[str], series: Sequence[tuple[str, Sequence[float]]], *, unit: str = "") -> str:  # fmt: skip
    """One line a series over the same labels; *unit* stands behind each value."""
    most = max((value for _, values in series for value in values), default=0)

    def draw(form: _Form) -> _Chart:
        chart = pygal.Line(
            style=_STYLE, js=(), disable_xml_declaration=True, width=form.width, height=320, legend_at_bottom=True,
            legend_at_bottom_columns=min(form.legend, len(series)), margin=6, margin_right=36, show_minor_x_labels=False, truncate_label=-1,
            dots_size=4, value_formatter=lambda value: f"{_number(value)}{unit}",
        )  # fmt: skip
        chart.x_labels = list(labels)
        chart.x_labels_major = list(labels)[:: max(1, -(-len(labels) // form.below))]
        chart.y_labels = _ticks(most)
        for label, values in series:
            chart.add(label, list(values))
        return chart

    return _both(draw, name, title)


def _ticks(most: float) -> list[float]:
    """From 0 to at least *most* in four or five round steps."""
    step = 10.0 ** floor(log10(most / 4)) if most > 0 else 1.0
    step *= next(factor for factor in (1, 2, 2.5, 5, 10) if factor * step * 5 >= most)
    return [step * number for number in range(ceil(most / step) + 1)]


def _number(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"


def _short(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1].rstrip()}…"


def _both(draw: Callable[[_Form], _Chart], name: str, title: str) -> str:
    return "".join(
        f'<div class="{form.name}">{_as_part(draw(form), f"{name}-{form.name}", title)}</div>'
        for form in _FORMS
    )


def _as_part(chart: _Chart, name: str, title: str) -> str:
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
