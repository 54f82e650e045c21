"""Tokens for the programs that use ``/api/v1``: add, list, revoke."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from newsletter.cli.options import Json, Now
from newsletter.times import iso, system_clock

if TYPE_CHECKING:
    from sqlalchemy import Engine

tokens_app = typer.Typer(
    help="Tokens for the publisher's own programs, which use /api/v1: add, list, revoke.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Name = Annotated[str, typer.Argument(metavar="NAME", help="The program, such as our-site.")]


def _open() -> Engine:
    from newsletter.settings import load_settings
    from newsletter.store.session import open_store

    return open_store(load_settings().database_url)


@tokens_app.command("add")
def token_add(
    name: Name,
    scope: Annotated[list[str] | None, typer.Option("--scope", metavar="SCOPE", help="subscribers:read, subscribers:write, newsletters:read or editions:read; may be given several times.")] = None,
    now: Now = None,
) -> None:  # fmt: skip
    """Make a token and print it, which is the only time it can be seen. A revoked name may be given again."""
    from newsletter.audience.programs import Scope, make_token

    for one in scope or []:
        if one not in list(Scope):
            raise typer.BadParameter(f"{one!r} is none of {', '.join(Scope)}", param_hint="--scope")
    scopes = [Scope(one) for one in scope or []]
    secret = make_token(_open(), name, scopes, now=now or system_clock())
    typer.echo(secret)
    typer.echo("Keep it where the program finds it: it is not shown again.", err=True)


@tokens_app.command("list")
def token_list(as_json: Json = False) -> None:
    """All programs, what each may do, and since when; never a token."""
    from newsletter.audience.programs import list_programs
    from newsletter.cli import show

    rows = [
        {
            "name": one.name, "scopes": sorted(one.scopes), "made_at": iso(one.made_at), "revoked_at": iso(one.revoked_at),
        }
        for one in list_programs(_open())
    ]  # fmt: skip
    if as_json:
        show.print_json({"tokens": rows})
        return
    for row in rows:
        state = f"revoked {row['revoked_at']}" if row["revoked_at"] else f"since {row['made_at']}"
        typer.echo(f"{row['name']}: {', '.join(row['scopes'] or ())}; {state}")
    if not rows:
        typer.echo("There are none: newsletter api-token add our-site --scope subscribers:write makes one.")


@tokens_app.command("revoke")
def token_revoke(name: Name, now: Now = None) -> None:
    """Make a token open nothing from now on."""
    from newsletter.audience.programs import revoke_token

    revoke_token(_open(), name, now=now or system_clock())
    typer.echo("Revoked.")
