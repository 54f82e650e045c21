"""Operations by command: a backup of everything, and its way back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from newsletter.cli.options import Json

if TYPE_CHECKING:
    from newsletter.settings import Settings


def add_commands(app: typer.Typer) -> None:
    """Give *app* the commands of this file."""
    for command in (backup, restore):
        app.command()(command)


def _keys_file(settings: Settings) -> Path | None:
    """Where the keys lie, when they do not come from the environment."""
    from newsletter.settings import keys_path

    in_environment = settings.secret_key.get_secret_value() and settings.suppression_key.get_secret_value()
    return None if in_environment or not settings.is_sqlite else keys_path(settings)


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new file; the keys are put beside it.")],
    as_json: Json = False,
) -> None:
    """Write everything into one file, verified, while everything goes on."""
    from newsletter.backups import back_up
    from newsletter.cli import progress, show
    from newsletter.settings import load_settings
    from newsletter.store.session import open_store
    from newsletter.times import system_clock

    settings = load_settings()
    engine = open_store(settings.database_url)
    keys = _keys_file(settings)
    try:
        with progress.counting() as count:
            rows = back_up(engine, file, keys_file=keys, at=system_clock(), progress=count)
    finally:
        engine.dispose()
    show.copied(rows, as_json=as_json)
    where = (
        "The keys are beside it: keep both private."
        if keys
        else "The keys are not in it: keep NEWSLETTER_SECRET_KEY and NEWSLETTER_SUPPRESSION_KEY elsewhere."
    )
    typer.echo(f"Written: {file}. {where}", err=True)


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What newsletter backup wrote.")],
    as_json: Json = False,
) -> None:
    """Put a backup into the empty database of this installation; what may have gone out since is uncertain or held."""
    from newsletter.backups import readers_of
    from newsletter.backups import restore as put_back
    from newsletter.catalogue import load_catalogue
    from newsletter.cli import progress, show
    from newsletter.settings import load_settings
    from newsletter.store.session import open_store
    from newsletter.times import iso, system_clock

    settings = load_settings()
    catalogue = load_catalogue(settings.templates)
    engine = open_store(settings.database_url)
    try:
        with progress.counting() as count:
            told = put_back(
                file, engine, keys_file=_keys_file(settings), catalogue=catalogue, at=system_clock(), progress=count
            )  # fmt: skip
        readers = readers_of(engine)
    finally:
        engine.dispose()
    if as_json:
        show.print_json(
            {
                "taken_at": iso(told.taken_at), "rows": told.rows, "subscribers": readers, "uncertain": told.uncertain,
                "held": told.held, "slots": told.slots,
            }
        )  # fmt: skip
        return
    typer.echo(f"Restored {told.rows} rows of {iso(told.taken_at)}, {readers} subscribers.")
    typer.echo(
        f"What may have gone out since is not sent by itself: {told.uncertain} batches are uncertain (newsletter settle), "
        f"{told.held} editions are held, {told.slots} slots are counted as missed. newsletter status says more."
    )
