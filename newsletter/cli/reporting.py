"""The command ``report``: numbers in the terminal, as a page, as CSV or JSON."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from newsletter.cli.options import Beside, Day, Json, MaybeSlug, Now, into, moment, open_desk
from newsletter.cli.subjects import subjects_table

if TYPE_CHECKING:
    from newsletter.desk import Desk
    from newsletter.reports.numbers import Cohort, EditionNumbers, Part

_BLOCKS = "▁▂▃▄▅▆▇█"
_TREND = 8
"""Editions in a trend: so much fits a line of eighty columns."""


def add_commands(app: typer.Typer) -> None:
    """Give *app* the command of this file."""
    app.command()(report)


def report(
    slug: MaybeSlug = "",
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write a self-contained page with charts and a click map.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print one CSV table on stdout: the whole, its parts, stories and links.")] = False,
    beside: Beside = None,
    last: Annotated[int, typer.Option("--last", metavar="N", min=1, max=400, help="How many editions stand beside it.")] = 14,
    now: Now = None,
    day: Day = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """What came back: who got, opened and clicked an edition. Without SLUG: every newsletter's last editions."""
    from newsletter.cli import show
    from newsletter.errors import NotFound
    from newsletter.reports.cohorts import cohorts, weeks
    from newsletter.reports.counting import edition_numbers, totals
    from newsletter.store.session import reading

    if beside and not slug:
        raise typer.BadParameter("name a newsletter for --beside")
    if html is not None and not slug:
        raise typer.BadParameter("name a newsletter for --html")
    if sum((html is not None, as_csv, as_json)) > 1:
        raise typer.BadParameter("--html, --csv and --json are three ways to tell it; take one")
    desk = open_desk()
    chosen = [desk.catalogue[slug]] if slug else list(desk.catalogue.newsletters)
    with reading(desk.engine) as session:
        history = {one.slug: totals(session, one.slug, before=day, last=last) for one in chosen}
        if not slug:
            found = [one for editions in history.values() for one in editions[-1:]]
            if as_json:
                show.print_json({"editions": [one.as_json() for one in found]})
            elif as_csv:
                write_csv(found)
            else:
                _overview(history)
            return
        newsletter = chosen[0]
        if day is None and history[slug]:
            day = history[slug][-1].date
        told = edition_numbers(session, slug, day, name=newsletter.name) if day else None
        other = edition_numbers(session, slug, beside, name=newsletter.name) if beside else None
        alive = cohorts(session, slug, now=moment(now))
        kept = weeks(session, slug, now=moment(now))
    if told is None or day is None or (beside and other is None):
        when = f" on {day if told is None else beside}" if day else ""
        raise NotFound(
            f"Nothing of {slug} went out{when}, so nothing came back; see newsletter status {slug}."
        )
    if html is not None:
        page = page_of(desk, told, history[slug], cohorts=alive, weeks=kept)
        with into(html):
            html.write_text(page, encoding="utf-8")
        typer.echo(f"Written: {html}", err=True)
    elif as_json:
        show.print_json(
            told.as_json()
            | {"cohorts": [asdict(one) for one in alive], "weeks": [asdict(one) for one in kept]}
            | ({"beside": other.as_json()} if other else {})
        )
    elif as_csv:
        write_csv([told, *([other] if other else [])])
    else:
        if other:
            _compared(told, other)
        else:
            _edition(told, history[slug])
        _alive(alive, kept)


def page_of(
    desk: Desk,
    told: EditionNumbers,
    history: Sequence[EditionNumbers],
    *,
    cohorts: Sequence[Cohort],
    weeks: Sequence[Cohort],
) -> str:
    """The report of an edition as a page, over the variant that most readers got."""
    from newsletter.reports.page import report_page
    from newsletter.store.editions import current_edition, load_renderings
    from newsletter.store.session import reading

    with reading(desk.engine) as session:
        row = current_edition(session, told.newsletter, told.date)
        renderings = load_renderings(session, row.id or 0) if row else ()
    widest = told.variants[0].name if told.variants else ""
    shown = next(
        (one.html for one in renderings if one.variant == widest), renderings[0].html if renderings else ""
    )
    return report_page(told, history=history, cohorts=cohorts, weeks=weeks, html=shown)


def write_csv(editions: Sequence[EditionNumbers]) -> None:
    """One row for each edition as a whole, each part, story and link; numbers of readers, and ``clicks``."""
    from newsletter.reports.numbers import TALLIED

    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(["newsletter", "date", "of", "name", "url", "section", "position", *TALLIED, "clicks"])
    for one in editions:
        head = [one.newsletter, one.date.isoformat()]
        parts: list[tuple[str, Sequence[Part]]] = [
            ("variant", one.variants), ("plan", one.plans), ("country", one.countries), ("language", one.languages),
            ("client", one.clients),
        ]  # fmt: skip
        table.writerow([*head, "all", "", "", "", "", *asdict(one.total).values(), ""])
        for of, found in parts:
            for part in found:
                table.writerow([*head, of, part.name, "", "", "", *asdict(part.tally).values(), ""])
        if one.subjects:
            did = "clicked" if one.subjects.by == "clicks" else "opened"
            for tried in one.subjects.tried:
                counted = {"submitted": tried.readers, did: tried.did}
                subject = _unharmed(f"{tried.letter.upper()}: {tried.subject}")
                cells = (counted.get(name, "") for name in TALLIED)
                table.writerow([*head, "subject", subject, "", "", "", *cells, ""])
        for of, links in (("section", one.sections), ("story", one.stories), ("link", one.links)):
            for link in links:
                numbers = [
                    {"clicked": link.readers, "clicked_by_program": link.programs}.get(name, "")
                    for name in TALLIED
                ]
                table.writerow(
                    [
                        *head,
                        of,
                        _unharmed(link.headline),
                        link.url,
                        link.section,
                        link.position or "",
                        *numbers,
                        link.clicks,
                    ]
                )


def _unharmed(text: str) -> str:
    """What a spreadsheet would run as a formula gets an apostrophe before it, as in exports of readers."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t") else text


def sparkline(values: Sequence[float]) -> str:
    """A bar of eight heights for each value, from zero to the highest."""
    most = max(values, default=0)
    return "".join(_BLOCKS[round(value / most * 7) if most else 0] for value in values)


def _overview(history: dict[str, list[EditionNumbers]]) -> None:
    from newsletter.cli import show
    from newsletter.reports.page import percent

    numbers = ("delivered", "opened", "clicked", "left", "complained", "bounced")
    table = show.a_table("newsletter", "date", *numbers, "trend", numbers=numbers)
    table.collapse_padding = True  # it fits eighty columns
    for slug, editions in history.items():
        if not editions:
            continue
        one = editions[-1].total
        table.add_row(
            slug, editions[-1].date.isoformat(), f"{one.delivered:,}", percent(one.rate(one.opened)),
            percent(one.rate(one.clicked)), f"{one.unsubscribed:,}", f"{one.complained:,}", f"{one.bounced:,}",
            sparkline([each.total.rate(each.total.opened) for each in editions[-_TREND:]]),
        )  # fmt: skip
    show.out.print(table)
    show.out.print("People only; trend: of the opened. More of one: newsletter report SLUG", style="dim")


def _edition(told: EditionNumbers, history: Sequence[EditionNumbers]) -> None:
    from rich.text import Text

    from newsletter.cli import show
    from newsletter.reports.page import percent

    total = told.total
    show.out.print(Text(f"{told.name}, {told.date:%A, %d %B %Y}", style="bold"))
    show.out.print(Text(told.subject, style="dim"))
    table = show.a_table("", "readers", "share", "editions before", numbers=("readers", "share"))
    for name in _SAID:
        number = getattr(total, name)
        trend = sparkline([each.total.share(name) for each in history])
        share = percent(total.share(name)) if name != "submitted" else ""
        table.add_row(name, f"{number:,}", share, trend if len(history) > 1 and share else "")
    show.out.print(table)
    show.out.print(
        f"By programs only: {total.opened_by_program:,} opened, {total.clicked_by_program:,} clicked.",
        style="dim",
    )
    if told.hours:
        opened = sparkline([one.opened for one in told.hours])
        show.out.print(f"Opened by hour from {told.hours[0].at:%Y-%m-%d %H}:00 UTC  {opened}", markup=False)
    if told.subjects:
        subjects_table(told.subjects)
    _parts("variant", told.variants)
    _parts("country", told.countries)
    most = max((one.readers for one in told.stories), default=0)
    stories = show.a_table(
        "", "story", "people", "clicks", "programs", numbers=("people", "clicks", "programs")
    )
    for one in told.stories:
        heat = round(one.readers / most * 10) if most else 0
        stories.add_row(
            Text("█" * heat, style="red" if heat > 7 else "yellow" if heat > 3 else "cyan"), one.headline,
            f"{one.readers:,}", f"{one.clicks:,}", f"{one.programs:,}",
        )  # fmt: skip
    if told.stories:
        show.out.print(stories)


_SAID = ("submitted", "delivered", "opened", "clicked", "unsubscribed", "complained", "bounced", "blocked", "dropped")  # fmt: skip


def _compared(told: EditionNumbers, other: EditionNumbers) -> None:
    """Two editions of a newsletter side by side; differences of shares in points of a hundred."""
    from rich.text import Text

    from newsletter.cli import show
    from newsletter.reports.page import percent

    show.out.print(Text(told.name, style="bold"))
    dates = (told.date.isoformat(), other.date.isoformat())
    if dates[0] == dates[1]:
        raise typer.BadParameter("--beside names the same edition")
    numbers = (dates[0], "share", dates[1], "share there", "difference")
    table = show.a_table("", *numbers, numbers=numbers)
    for name in _SAID:
        here, there = told.total.share(name), other.total.share(name)
        shares = (
            (percent(here), percent(there), f"{(here - there) * 100:+.1f}")
            if name != "submitted"
            else ("", "", "")
        )
        table.add_row(
            name,
            f"{getattr(told.total, name):,}",
            shares[0],
            f"{getattr(other.total, name):,}",
            shares[1],
            shares[2],
        )
    show.out.print(table)
    for one in (told, other):
        best = max(one.stories, key=lambda story: (story.readers, -story.position), default=None)
        most = f"; most clicked: {best.headline} ({best.readers:,})" if best and best.readers else ""
        show.out.print(f"{one.date}: {one.subject}{most}", markup=False, style="dim")


def _alive(now: Sequence[Cohort], weeks: Sequence[Cohort]) -> None:
    """How alive readers are, in a line, and how many were active in the weeks before."""
    from newsletter.cli import show

    if not now:
        return
    told = ", ".join(f"{sum(getattr(one, name) for one in now):,} {name}" for name in ("active", "cooling", "gone", "new"))  # fmt: skip
    trend = sparkline([one.active for one in weeks]) if len(weeks) > 1 else ""
    show.out.print(f"Readers now: {told}{f'; active by week  {trend}' if trend else ''}", markup=False)


def _parts(what: str, parts: Sequence[Part]) -> None:
    from newsletter.cli import show
    from newsletter.reports.page import percent

    if len(parts) < 2:
        return
    numbers = ("delivered", "opened", "clicked")
    table = show.a_table(what, *numbers, numbers=numbers)
    for part in parts[:12]:
        tally = part.tally
        opened, clicked = (percent(tally.rate(number)) for number in (tally.opened, tally.clicked))
        table.add_row(part.name, f"{tally.delivered:,}", opened, clicked)
    show.out.print(table)
