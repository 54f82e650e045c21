"""The lists: import, export, add, plan, show, forget. Heavy rooms are imported inside the commands."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from newsletter.cli.options import Json, Now
from newsletter.times import iso, system_clock

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from newsletter.audience.exports import Segmented
    from newsletter.catalogue import Catalogue
    from newsletter.settings import Keys

subscribers_app = typer.Typer(
    help="The lists: import, export, add, plan, show, forget.", no_args_is_help=True, rich_markup_mode=None
)
Address = Annotated[str, typer.Argument(metavar="ADDRESS")]
Until = Annotated[
    str,
    typer.Option("--until", metavar="DATE", help="When the plan ends: a date means the end of that day in the publication's zone; or an instant with its zone."),
]  # fmt: skip


class FileFormat(StrEnum):
    """How a list is written."""

    CSV = "csv"
    NDJSON = "ndjson"


class Status(StrEnum):
    """What an address may be."""

    ACTIVE = "active"
    PENDING = "pending"
    UNSUBSCRIBED = "unsubscribed"
    BOUNCED = "bounced"
    COMPLAINED = "complained"


@dataclass(frozen=True, slots=True)
class _Lists:
    """What the lists need of an installation: much less than a desk."""

    engine: Engine
    catalogue: Catalogue
    keys: Keys

    def slugs(self, given: list[str] | None) -> tuple[str, ...]:
        """The newsletters named, in one option or several."""
        slugs = tuple(
            slug.strip() for one in given or [] for slug in one.replace(",", "|").split("|") if slug.strip()
        )
        for slug in slugs:
            self.catalogue[slug]
        return slugs

    def until(self, text: str) -> datetime | None:
        """The end of a plan as given on the command line."""
        from newsletter.audience.plans import parse_until

        if not text:
            return None
        try:
            return parse_until(text, self.catalogue.publication.timezone)
        except ValueError:
            raise typer.BadParameter(
                f"{text!r} is neither a date such as 2027-01-31 nor an instant such as 2027-01-31T12:00:00Z", param_hint="--until"
            ) from None  # fmt: skip


def _open() -> _Lists:
    from newsletter.audience.subscribers import check_suppression_key
    from newsletter.catalogue import load_catalogue
    from newsletter.settings import load_keys, load_settings
    from newsletter.store.session import open_store

    settings = load_settings()
    catalogue = load_catalogue(settings.templates)
    keys = load_keys(settings)
    engine = open_store(settings.database_url)
    check_suppression_key(engine, keys)
    return _Lists(engine, catalogue, keys)


@subscribers_app.command("import")
def subscribers_import(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="CSV (or the ZIP a service exports).")],
    newsletters: Annotated[list[str] | None, typer.Option("--newsletters", metavar="SLUG", help="For files that name none; may be given several times or joined by |.")] = None,
    consent: Annotated[str, typer.Option("--consent", metavar="TEXT", help="The words of consent these readers gave; kept with each.")] = "",
    rejected: Annotated[Path | None, typer.Option("--rejected", metavar="FILE", help="Where rejected rows go, with line and reason, to be mended and imported again; default FILE.rejected.csv. Mailchimp's keep the name of their own file there, because it says who left.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what an import would do, and change nothing but the file of rejected rows.")] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Begin anew where an import that was stopped would go on.")] = False,
    now: Now = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """
    Import subscribers; rejected rows are kept in a file with line and reason, the others go in.

    An import that was stopped goes on where it stopped when the same command is given again.
    A trial without plan_until ends after its days; any other plan without one runs until it is changed.
    """
    from newsletter.audience.imports import import_subscribers
    from newsletter.cli import progress, show

    lists = _open()
    with progress.importing(file.name) as tell:
        report = import_subscribers(
            lists.engine, file, catalogue=lists.catalogue, keys=lists.keys, now=now or system_clock(),
            newsletters=lists.slugs(newsletters), consent=consent, rejected_to=rejected, dry_run=dry_run, restart=restart,
            progress=tell, tell=lambda text: show.err.print(text, markup=False),
        )  # fmt: skip
    show.import_report(report, as_json=as_json)


@subscribers_app.command("export")
def subscribers_export(
    out: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write; - for stdout.")] = Path("-"),
    segment: Annotated[str, typer.Option("--segment", metavar="SLUG[:VARIANT]", help="Only who the newsletter would go to now: of one class (free, paying), of one reminder (paying+trial-ending), or of all.")] = "",
    newsletter: Annotated[str, typer.Option("--newsletter", metavar="SLUG", help="Only its active subscribers.")] = "",
    plan: Annotated[str, typer.Option("--plan", metavar="PLAN", help="Only those on this plan.")] = "",
    status: Annotated[Status | None, typer.Option("--status", help="Only addresses of this status.")] = None,
    file_format: Annotated[FileFormat, typer.Option("--format", help="csv: our own shape, which imports again; ndjson: everything held, one person a line.")] = FileFormat.CSV,
    now: Now = None,
) -> None:  # fmt: skip
    """
    Export subscribers. In CSV, what a spreadsheet would take for a formula gets an apostrophe before it.

    The CSV imports again as it is; the NDJSON also has each consent and each suppression.
    """
    from newsletter.audience.exports import export_subscribers
    from newsletter.audience.plans import check_plan
    from newsletter.store.session import reading

    lists = _open()
    if plan:
        check_plan(lists.catalogue.publication, plan)
    chosen = lists.catalogue[newsletter].slug if newsletter else None
    wanted = _segment(lists, segment, now or system_clock()) if segment else None
    with reading(lists.engine) as session, _writing_to(out) as file:
        export_subscribers(
            session, file, newsletter=chosen, segment=wanted, plan=plan, status=status.value if status else "",
            file_format=file_format.value,
        )  # fmt: skip


def _segment(lists: _Lists, text: str, now: datetime) -> Segmented:
    from newsletter.audience.exports import Segmented
    from newsletter.audience.segments import variants

    slug, colon, variant = text.partition(":")
    newsletter, publication = lists.catalogue[slug], lists.catalogue.publication
    known = variants(publication.reminders_named(newsletter.reminders))
    if colon and variant not in known:
        raise typer.BadParameter(f"{variant!r} is none of {', '.join(known)}", param_hint="--segment")
    return Segmented(newsletter, publication, now, variant)


@contextmanager
def _writing_to(out: Path) -> Iterator[TextIO]:
    """A file only its owner may read, which is there whole or not at all; or stdout."""
    from newsletter.errors import ImportFileError

    if str(out) == "-":
        yield sys.stdout
        return
    part = out.with_name(f"{out.name}.part") if out.is_file() or not out.exists() else out
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            yield file
        if part != out:
            part.replace(out)
    except OSError as error:
        if part != out:
            part.unlink(missing_ok=True)
        raise ImportFileError(f"{out} cannot be written: {error.strerror}. Nothing was exported.") from error


@subscribers_app.command("add")
def subscribers_add(
    address: Address,
    newsletters: Annotated[list[str] | None, typer.Option("--newsletters", metavar="SLUG")] = None,
    name: Annotated[str, typer.Option("--name")] = "",
    plan: Annotated[str, typer.Option("--plan")] = "free",
    until: Until = "",
    consent: Annotated[str, typer.Option("--consent", metavar="TEXT", help="How they agreed; without it they stay pending.")] = "",
    now: Now = None,
) -> None:  # fmt: skip
    """Add one subscriber. Without --until a trial ends after its days, and any other plan runs until it is changed."""
    from newsletter.audience.subscribers import add

    lists = _open()
    end = add(
        lists.engine, address, catalogue=lists.catalogue, keys=lists.keys, now=now or system_clock(),
        newsletters=lists.slugs(newsletters), name=name, plan=plan, until=lists.until(until), consent=consent,
    )  # fmt: skip
    typer.echo(
        "Added." if consent else "Added as pending: without --consent nothing is sent until they confirm."
    )
    if end:
        typer.echo(f"The plan {plan} ends at {iso(end)}.")


@subscribers_app.command("plan")
def subscribers_plan(
    address: Address,
    plan: Annotated[str, typer.Argument(metavar="PLAN")],
    until: Annotated[str, typer.Option("--until", metavar="DATE", help="When it ends: a date means the end of that day in the publication's zone; or an instant with its zone; or never.")] = "",
    now: Now = None,
) -> None:  # fmt: skip
    """
    Put one subscriber on a plan.

    Without --until the same plan, and a paid one after a paid one, keeps the end that was paid for; a trial
    that begins ends after its days; any other plan runs until it is changed.
    """
    from newsletter.audience.plans import change_plan

    lists = _open()
    end = change_plan(
        lists.engine, address, plan, publication=lists.catalogue.publication, now=now or system_clock(),
        until=None if until == "never" else lists.until(until), is_endless=until == "never",
    )  # fmt: skip
    typer.echo(f"On {plan} until {iso(end)}." if end else f"On {plan}, without an end.")


@subscribers_app.command("show")
def subscribers_show(address: Address, as_json: Json = False) -> None:
    """Everything we hold about one address."""
    from newsletter.audience.subscribers import show as look
    from newsletter.cli import show
    from newsletter.store.session import reading

    lists = _open()
    with reading(lists.engine) as session:
        show.subscriber(look(session, address), as_json=as_json)


@subscribers_app.command("forget")
def subscribers_forget(address: Address, now: Now = None) -> None:
    """Erase one address; a keyed hash stays so that no later import brings it back."""
    from newsletter.audience.subscribers import forget

    lists = _open()
    forget(lists.engine, address, keys=lists.keys, now=now or system_clock())
    typer.echo("Erased. A keyed hash stays on the suppression list, so no import can bring the address back.")
