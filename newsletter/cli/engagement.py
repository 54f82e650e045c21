"""The command ``engagement``: how alive readers are, and what the sunset does about those who are not."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from newsletter.cli.options import Json, MaybeSlug, Now, moment, open_desk


def add_commands(app: typer.Typer) -> None:
    """Give *app* the command of this file."""
    app.command()(engagement)


def engagement(
    slug: MaybeSlug = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Also what the sunset would do now, or why it would not.")] = False,
    now: Now = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """How alive each newsletter's readers are (new, active, cooling, gone), and who was asked, paused or stopped."""
    from newsletter.audience.quiet import steps_due
    from newsletter.audience.sunset import standing
    from newsletter.cli import show
    from newsletter.reports.cohorts import cohorts
    from newsletter.store.session import reading

    desk = open_desk()
    at = moment(now)
    chosen = [desk.catalogue[slug]] if slug else list(desk.catalogue.newsletters)
    rows: list[dict[str, Any]] = []
    with reading(desk.engine) as session:
        for one in chosen:
            months = cohorts(session, one.slug, now=at)
            alive = {
                name: sum(getattr(month, name) for month in months)
                for name in ("new", "active", "cooling", "gone")
            }
            rows.append(
                {"newsletter": one.slug, "sunset": one.sunset, **alive, **standing(session, one.slug)}
            )
        due = steps_due(session, desk.catalogue, now=at) if dry_run else None
    told = (
        {**due.count(), "unknown": due.unknown, "unproven": due.unproven, "why_not": due.why_not}
        if due
        else None
    )
    if as_json:
        show.print_json({"newsletters": rows, **({"due": told} if due else {})})
        return
    numbers = ("new", "active", "cooling", "gone", "asked", "paused", "stopped")
    table = show.a_table("newsletter", *numbers, numbers=numbers)
    for row in rows:
        table.add_row(row["newsletter"], *(f"{row[name]:,}" for name in numbers))
    show.out.print(table)
    show.out.print(
        "New: joined within 30 days. Active: opened or clicked within 30 days; cooling: within 90; gone: longer ago.",
        style="dim",
    )
    if due is not None:
        show.out.print(_in_words(due.count(), due.unknown, due.unproven, due.why_not), markup=False)


def _in_words(steps: dict[str, int], unknown: int, unproven: int, why_not: str) -> str:
    if why_not:
        return f"The sunset would do nothing: {why_not}."
    return (
        f"The sunset would ask {steps['asking']:,}, pause {steps['paused']:,}, stop {steps['stopped']:,} and leave "
        f"{steps['stayed']:,} alone who are back. Quiet, but left alone: {unknown:,} of whom only programs opened "
        f"something, {unproven:,} who are not known to have got enough."
    )
