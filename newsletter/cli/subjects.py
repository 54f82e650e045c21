"""The command ``subjects``: what an edition's subjects did, and a person's word on which the rest gets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from newsletter.cli.accounting import edition_meant
from newsletter.cli.options import Day, Json, Now, Slug, open_desk

if TYPE_CHECKING:
    from newsletter.reports.numbers import Subjects


def add_commands(app: typer.Typer) -> None:
    """Give *app* the command of this file."""
    app.command()(subjects)


def subjects(
    slug: Slug,
    decide: Annotated[str, typer.Option("--decide", metavar="LETTER", help="Give the rest this subject now, whatever the numbers say.")] = "",
    now: Now = None,
    day: Day = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """The subjects an edition is tried with: what people did with each, which was chosen and why."""
    from newsletter.cli.show import print_json
    from newsletter.reports.subjects import subjects_of_date
    from newsletter.store.session import reading

    desk = open_desk()
    newsletter = desk.catalogue[slug]
    desk.listen()
    edition, edition_date = edition_meant(desk, newsletter, now=now, day=day)
    if edition is None:
        raise desk.no_edition(newsletter, edition_date)
    if decide:
        desk.choose_subject(newsletter, edition_date, decide.strip().lower(), actor=desk.settings.who)
    with reading(desk.engine) as session:
        told = subjects_of_date(session, slug, edition_date)
    if as_json:
        print_json({"newsletter": slug, "date": edition_date.isoformat(), **told.as_json()})
        return
    subjects_table(told)
    if decide:
        typer.echo(
            f"The scheduler or a worker goes on with it; without one: newsletter send {slug} --date {edition_date}",
            err=True,
        )


def subjects_table(told: Subjects) -> None:
    """Each subject of an edition with what people did, and how the choice stands."""
    from newsletter.cli.show import a_table, out

    numbers = ("readers", told.by or "did", "share", "between")
    table = a_table("", "subject", *numbers, numbers=numbers)
    for one in told.tried:
        share = f"{one.share:.1%}" if one.readers else ""
        between = f"{one.low:.1%} – {one.high:.1%}" if one.readers else ""
        letter = f"{one.letter.upper()}{' ✓' if one.is_chosen else ''}"
        table.add_row(letter, one.subject, f"{one.readers:,}", f"{one.did:,}", share, between)
    out.print(table)
    out.print(subjects_in_words(told), markup=False, style="dim")


def subjects_in_words(told: Subjects) -> str:
    """How the choice of a subject stands, in a sentence."""
    match told.status:
        case "none":
            return "It has one subject; nothing is tried."
        case "waits":
            return "They are tried once its audience is frozen."
        case "running" if told.until is None:
            return f"The sample of {told.sample:,} readers is being sent."
        case "running" if told.until is not None:
            return f"Tried on {told.sample:,} readers; the numbers decide at {told.until:%Y-%m-%d %H:%M} UTC."
        case _:
            return f"{told.chosen.upper()} was chosen at {told.chosen_at:%Y-%m-%d %H:%M} UTC: {told.reason}."
