"""The command ``report``: numbers in the terminal, as a page, as CSV or JSON."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from newsletter.cli.options import Day, Json, MaybeSlug, Now, moment, open_desk
from newsletter.cli.subjects import subjects_table

if TYPE_CHECKING:
    from datetime import datetime

    from newsletter.desk import Desk
    from newsletter.reports.numbers import EditionNumbers, Part

_BLOCKS = "▁▂▃▄▅▆▇█"


def add_commands(app: typer.Typer) -> None:
    """Give *app* the command of this file."""
    app.command()(report)


def report(
    slug: MaybeSlug = "",
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write a self-contained page with charts and a click map.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print one CSV table on stdout: the whole, its parts, stories and links.")] = False,
    last: Annotated[int, typer.Option("--last", metavar="N", min=1, max=400, help="How many editions stand beside it.")] = 14,
    now: Now = None,
    day: Day = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """What came back: who got, opened and clicked an edition. Without SLUG: every newsletter's last editions."""
    from newsletter.cli import show
    from newsletter.errors import NotFound
    from newsletter.reports.counting import edition_numbers, totals
    from newsletter.store.session import reading

    if html is not None and not slug:
        raise typer.BadParameter("name a newsletter for --html")
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
    if told is None or day is None:
        when = f" on {day}" if day else ""
        raise NotFound(
            f"Nothing of {slug} went out{when}, so nothing came back; see newsletter status {slug}."
        )
    if html is not None:
        html.write_text(page_of(desk, told, history[slug], now=moment(now)), encoding="utf-8")
        typer.echo(f"Written: {html}", err=True)
    elif as_json:
        show.print_json(told.as_json())
    elif as_csv:
        write_csv([told])
    else:
        _edition(told, history[slug])


def page_of(desk: Desk, told: EditionNumbers, history: Sequence[EditionNumbers], *, now: datetime) -> str:
    """The report of an edition as a page, over the variant that most readers got."""
    from newsletter.reports.counting import cohorts
    from newsletter.reports.page import report_page
    from newsletter.store.editions import current_edition, load_renderings
    from newsletter.store.session import reading

    with reading(desk.engine) as session:
        row = current_edition(session, told.newsletter, told.date)
        renderings = load_renderings(session, row.id or 0) if row else ()
        joined = cohorts(session, told.newsletter, now=now)
    widest = told.variants[0].name if told.variants else ""
    shown = next(
        (one.html for one in renderings if one.variant == widest), renderings[0].html if renderings else ""
    )
    return report_page(told, history=history, cohorts=joined, html=shown)


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
    table = show.a_table("newsletter", "date", *numbers, "opened since", numbers=numbers)
    for slug, editions in history.items():
        if not editions:
            continue
        one = editions[-1].total
        table.add_row(
            slug, editions[-1].date.isoformat(), f"{one.delivered:,}", percent(one.rate(one.opened)),
            percent(one.rate(one.clicked)), f"{one.unsubscribed:,}", f"{one.complained:,}", f"{one.bounced:,}",
            sparkline([each.total.rate(each.total.opened) for each in editions]),
        )  # fmt: skip
    show.out.print(table)
    show.out.print("People only; more of one: newsletter report SLUG", style="dim")


def _edition(told: EditionNumbers, history: Sequence[EditionNumbers]) -> None:
    from rich.text import Text

    from newsletter.cli import show
    from newsletter.reports.page import percent

    total = told.total
    show.out.print(Text(f"{told.name}, {told.date:%A, %d %B %Y}", style="bold"))
    show.out.print(Text(told.subject, style="dim"))
    table = show.a_table("", "readers", "share", "editions before", numbers=("readers", "share"))
    for name in ("submitted", "delivered", "opened", "clicked", "unsubscribed", "complained", "bounced", "blocked", "dropped"):  # fmt: skip
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
