"""
The report of an edition as one self-contained page: charts, beside each its table, and the edition as sent.

It loads nothing and runs nothing; it is light or dark as the reader's system is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
from lxml import html as markup

from newsletter.events import link_of
from newsletter.reports.charts import bars, lines, stacked
from newsletter.reports.numbers import Cohort, EditionNumbers, Link, Part, Subjects

_TOP = 12
_STEPS = {
    "submitted": "submitted", "delivered": "delivered", "opened": "opened by people", "clicked": "clicked by people",
}  # fmt: skip
_REST = {
    "opened_by_program": "opened by programs only", "clicked_by_program": "clicked by programs only",
    "unsubscribed": "unsubscribed", "complained": "complained", "bounced": "bounced", "blocked": "blocked",
    "dropped": "dropped",
}  # fmt: skip
_ALIVE = ("active", "cooling", "gone", "new")
_HOW_ALIVE = "Active: opened or clicked within 30 days; cooling: within 90; new: joined within 30."
_SEALED = (
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
    'img-src data:">'
)


@dataclass(frozen=True, slots=True)
class _Figure:
    """A chart and its numbers; *id* is unique in the page."""

    id: str
    title: str
    svg: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def report_page(
    told: EditionNumbers,
    *,
    history: Sequence[EditionNumbers] = (),
    cohorts: Sequence[Cohort] = (),
    weeks: Sequence[Cohort] = (),
    html: str = "",
    zone: str = "UTC",
    language: str = "en",
) -> str:
    """
    Return the page; *history* are editions up to this one, oldest first, *cohorts* by month and *weeks* how alive
    readers are and were, *html* the variant that is shown with its clicks.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("newsletter.reports", "."), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["percent"] = percent
    environment.filters["number"] = lambda value: f"{value:,}"
    return environment.get_template("report.html.j2").render(
        told=told, figures=_figures(told, history, cohorts, weeks, zone), language=language,
        clickmap=click_map(html, [*told.stories, *told.links], told.total.base) if html else "",
    )  # fmt: skip


def percent(part: float) -> str:
    """A part of one as it is said: 31.4 %."""
    return f"{part * 100:.{2 if 0 < part < 0.01 else 1}f} %"


def _figures(
    told: EditionNumbers,
    history: Sequence[EditionNumbers],
    cohorts: Sequence[Cohort],
    weeks: Sequence[Cohort],
    zone: str,
) -> list[_Figure]:
    total = told.total
    names = [*_STEPS, *_REST]
    found = [
        _Figure(
            "way", "From submitted to clicked",
            bars("way", "From submitted to clicked", [(_STEPS[name], getattr(total, name)) for name in _STEPS]),
            ("Readers", "Number", "Of them"),
            tuple(
                ((_STEPS | _REST)[name], f"{getattr(total, name):,}", percent(total.share(name)) if name != "submitted" else "")
                for name in names
            ),
            "What did not arrive is in parts of what was submitted, the rest of what was delivered.",
        )
    ]  # fmt: skip
    if told.subjects:
        found.append(_by_subject(told.subjects))
    if told.hours:
        labels = [f"{one.at:%a %H}h" for one in told.hours]
        series = [
            ("opened", [one.opened for one in told.hours]),
            ("clicked", [one.clicked for one in told.hours]),
        ]
        found.append(
            _Figure(
                "hours", "When people opened and clicked first",
                lines("hours", "When people opened and clicked first", labels, series),
                ("Hour (UTC)", "Opened", "Clicked"),
                tuple((f"{one.at:%Y-%m-%d %H}:00", f"{one.opened:,}", f"{one.clicked:,}") for one in told.hours),
            )
        )  # fmt: skip
    clicked = [one for one in told.stories if one.readers]
    if clicked:
        most = sorted(clicked, key=lambda one: (-one.readers, one.position))[:_TOP]
        found.append(
            _Figure(
                "stories", "Stories people clicked",
                bars("stories", "Stories people clicked", [(one.headline, one.readers) for one in most]),
                ("Place", "Story", "People", "Clicks", "By programs only"),
                tuple((str(one.position), one.headline, f"{one.readers:,}", f"{one.clicks:,}", f"{one.programs:,}") for one in told.stories),
            )
        )  # fmt: skip
    for name, title, parts in (
        ("variants", "By variant", told.variants), ("plans", "By plan", told.plans),
        ("countries", "By country", told.countries), ("languages", "By language", told.languages),
        ("clients", "By mail program", told.clients),
    ):  # fmt: skip
        if len(parts) > 1:
            found.append(_by_part(name, title, parts))
    if len(history) > 1:
        found.append(_history(history))
    if len(weeks) > 1:
        found.append(_over_time(weeks))
    if cohorts:
        rows = [(one.since, _alive(one)) for one in cohorts[-24:]]
        title = "Readers by the month they joined"
        found.append(
            _Figure(
                "cohorts", title, stacked("cohorts", title, rows, _ALIVE), ("Joined", "All", *map(str.capitalize, _ALIVE)),
                tuple(_cohort_row(one) for one in cohorts), _HOW_ALIVE,
            )
        )  # fmt: skip
    return found


def _by_subject(told: Subjects) -> _Figure:
    title = "Subjects tried on a sample"
    label = f"{title}: people, in parts of a thousand"
    rows = [(f"{one.letter.upper()}: {one.subject}", round(one.share * 1000)) for one in told.tried]
    return _Figure(
        "subjects", title, bars("subjects", label, rows),
        ("", "Subject", "Readers", told.by.capitalize(), "Share", "Truly between", "Went to the rest"),
        tuple(
            (
                one.letter.upper(), one.subject, f"{one.readers:,}", f"{one.did:,}", percent(one.share),
                f"{percent(one.low)} and {percent(one.high)}", "yes" if one.is_chosen else "",
            )
            for one in told.tried
        ),
        f"The bars are {told.by} by people in every thousand readers of the sample. {told.reason[:1].upper()}{told.reason[1:]}",
    )  # fmt: skip


def _over_time(weeks: Sequence[Cohort]) -> _Figure:
    title = "How alive readers are, week by week"
    series = [(name, [getattr(one, name) for one in weeks]) for name in _ALIVE]
    return _Figure(
        "weeks", title, lines("weeks", title, [one.since for one in weeks], series),
        ("Week of", "All", *map(str.capitalize, _ALIVE)), tuple(_cohort_row(one) for one in reversed(weeks)), _HOW_ALIVE,
    )  # fmt: skip


def _alive(one: Cohort) -> tuple[int, ...]:
    return one.active, one.cooling, one.gone, one.new


def _cohort_row(one: Cohort) -> tuple[str, ...]:
    return one.since, *(f"{number:,}" for number in (one.size, *_alive(one)))


def _by_part(name: str, title: str, parts: Sequence[Part]) -> _Figure:
    label = f"{title}: people who opened"
    return _Figure(
        name, title, bars(name, label, [(one.name, one.tally.opened) for one in parts[:_TOP]]),
        ("", "Delivered", "Opened", "Clicked", "Unsubscribed", "Complained"),
        tuple(
            (
                one.name, f"{one.tally.delivered:,}", f"{one.tally.opened:,}", f"{one.tally.clicked:,}",
                f"{one.tally.unsubscribed:,}", f"{one.tally.complained:,}",
            )
            for one in parts
        ),
        "The bars are people who opened.",
    )  # fmt: skip


def _history(history: Sequence[EditionNumbers]) -> _Figure:
    labels = [f"{one.date:%d %b}" for one in history]
    opened = [round(one.total.rate(one.total.opened) * 100, 1) for one in history]
    clicked = [round(one.total.rate(one.total.clicked) * 100, 1) for one in history]
    return _Figure(
        "history", "Beside earlier editions",
        lines("history", "Opened and clicked, in percent, by edition", labels, [("opened", opened), ("clicked", clicked)], unit=" %"),
        ("Edition", "Subject", "Delivered", "Opened", "Clicked", "Unsubscribed", "Complained"),
        tuple(
            (
                one.date.isoformat(), one.subject, f"{one.total.delivered:,}", percent(one.total.rate(one.total.opened)),
                percent(one.total.rate(one.total.clicked)), f"{one.total.unsubscribed:,}", f"{one.total.complained:,}",
            )
            for one in reversed(history)
        ),
    )  # fmt: skip


def click_map(html: str, links: Sequence[Link], base: int) -> str:
    """
    *html*, an edition as sent, with how many people clicked beside each of its links; nothing in it is loaded.

    A link that stands in several places shows the same number in each: only its address is known.
    """
    clicked: Mapping[str, Link] = {one.url: one for one in links if one.readers}
    most = max((one.readers for one in clicked.values()), default=0)
    document = markup.document_fromstring(html)
    for anchor in document.iter("a"):
        link = clicked.get(link_of(anchor.get("href", "")))
        anchor.attrib.pop("href", None)
        if link is not None:
            anchor.append(_badge(link, most, base))
    head = document.find("head")
    if head is not None:
        head.insert(0, markup.fragment_fromstring(_SEALED))
    return str(markup.tostring(document, encoding="unicode", doctype="<!doctype html>"))


def _badge(link: Link, most: int, base: int) -> Any:
    heat = link.readers / most
    badge = markup.Element("span")
    share = f" · {percent(link.readers / base)}" if base else ""
    badge.text = f"{link.readers:,}{share}"
    # From yellow to red; black on both, at least 5.9 : 1.
    badge.set(
        "style",
        f"background:hsl({50 - 40 * heat:.0f},95%,{75 - 12 * heat:.0f}%);color:#000;border-radius:9px;padding:1px 7px;"
        "margin-left:6px;font:bold 12px/1.5 sans-serif;white-space:nowrap;display:inline-block;text-decoration:none",
    )
    return badge
