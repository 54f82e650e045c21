"""What the provider told, by command: what waits in the inbox, process it, read everything again."""

from __future__ import annotations

from typing import Annotated

import typer

from newsletter.cli.options import Json, open_desk

events_app = typer.Typer(
    help="What the provider told: what waits, process it, read everything again.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@events_app.command("status")
def events_status(as_json: Json = False) -> None:
    """What waits in the inbox, what is set aside, and when the provider was last heard."""
    import json

    from newsletter.outbox.inbox import waiting
    from newsletter.times import iso

    told = waiting(open_desk().engine)
    document = {
        "waiting": told.bodies, "oldest_at": iso(told.oldest_at), "set_aside": told.aside,
        "heard_at": iso(told.heard_at),
    }  # fmt: skip
    if as_json:
        typer.echo(json.dumps(document))
        return
    since = f", the oldest since {document['oldest_at']}" if told.bodies else ""
    typer.echo(f"{told.bodies} requests wait{since}; {told.aside} are set aside.")
    typer.echo(f"Last heard: {document['heard_at'] or 'never'}.")
    if told.aside:
        typer.echo(
            "Set aside is what could not be stored; after an update: newsletter events process --again"
        )


@events_app.command("process")
def events_process(
    again: Annotated[bool, typer.Option("--again", help="Also what was set aside.")] = False,
    as_json: Json = False,
) -> None:
    """Process what waits in the inbox; serve, the scheduler and workers do so by themselves."""
    import json
    from dataclasses import asdict

    from newsletter.outbox.inbox import process, take_up_again

    desk = open_desk()
    if again:
        take_up_again(desk.engine)
    told = process(desk.engine, desk.keys, clock=desk.clock, stop=desk.stop)
    if as_json:
        typer.echo(json.dumps(asdict(told)))
        return
    typer.echo(
        f"{told.stored} events stored, {told.known} known already, {told.settled} batches settled, "
        f"{told.suppressed} addresses suppressed."
    )


@events_app.command("bounces")
def events_bounces(
    sources: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SRC…]", help="Maildirs, mboxes, folders of .eml files, - for one mail on standard input; default NEWSLETTER_BOUNCES."),
    ] = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Read the mails that came back to the return path: bounces and complaints. Scheduler and workers do so by themselves."""
    import json
    import sys
    from dataclasses import asdict
    from pathlib import Path

    from newsletter.outbox.returned import Taken, take, take_from

    desk = open_desk()
    wanted = sources or list(filter(None, [desk.settings.bounces]))
    if not wanted:
        raise typer.BadParameter("Name where they lie, or set NEWSLETTER_BOUNCES.", param_hint="SRC")
    told = Taken()
    for source in wanted:
        if source == "-":
            told += take(desk.engine, desk.keys, [sys.stdin.buffer.read()], at=desk.clock())
        else:
            told += take_from(desk.engine, desk.keys, Path(source), at=desk.clock())
    if as_json:
        typer.echo(json.dumps(asdict(told)))
        return
    typer.echo(
        f"{told.read} mails read: {told.stored} reports stored, {told.known} known already, "
        f"{told.suppressed} addresses suppressed."
    )
    if told.unproven:
        typer.echo(
            f"{told.unproven} reports are not on a mail that a reader has from here; nothing follows from them."
        )
    if told.others:
        typer.echo(f"{told.others} are no reports; a person may want to read them.")


@events_app.command("replay")
def events_replay(
    edition: Annotated[str, typer.Option("--edition", metavar="NAME", help="Only of this edition: <slug>.<date>.<revision>.")] = "",
    as_json: Json = False,
) -> None:  # fmt: skip
    """Read the stored events again as this version reads them; undoes nothing that a reader did since."""
    import json

    from newsletter.outbox.inbox import replay

    desk = open_desk()
    read, changed = replay(desk.engine, edition=edition, at=desk.clock())
    if as_json:
        typer.echo(json.dumps({"read": read, "changed": changed}))
        return
    typer.echo(f"{read} events read again, {changed} of them otherwise than before.")
