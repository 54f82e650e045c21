"""Accounts by command: what is where, what happened to one reader, the proof, and a person's word on doubt."""

from __future__ import annotations

from datetime import date, datetime
from typing import TYPE_CHECKING, Annotated, cast

import typer

from newsletter.cli.options import Day, Json, MaybeSlug, Now, Slug, moment, open_desk

if TYPE_CHECKING:
    from newsletter.catalogue import Newsletter
    from newsletter.desk import Desk
    from newsletter.outbox.doubt import Word
    from newsletter.store.tables import EditionRow


def add_commands(app: typer.Typer) -> None:
    """Give *app* the commands of this file."""
    for command in (status, why, audit, settle, resend, release):
        app.command()(command)


def status(slug: MaybeSlug = "", now: Now = None, day: Day = None, as_json: Json = False) -> None:
    """What is where: the newest edition of each newsletter and whatever is still being sent, or a date's."""
    from newsletter.cli import show_accounts

    desk = open_desk()
    if now is not None and day is None and slug:
        day = desk.date_meant(desk.catalogue[slug], now, verb="status")
    accounts = desk.status([slug] if slug else [], day=day)
    slugs = [slug] if slug else [one.slug for one in desk.catalogue.newsletters]
    show_accounts.accounts(accounts, held=desk.holds(slugs), as_json=as_json)
    if slug and not as_json:
        show_accounts.batches(desk, accounts)


def edition_meant(
    desk: Desk, newsletter: Newsletter, *, now: datetime | None, day: date | None
) -> tuple[EditionRow | None, date]:
    """
    The newest revision a command is about, and its date; None: nothing was made yet.

    Raises:
        NotFound: a date that is past has no edition.
    """
    today = desk.edition_date(newsletter, moment(now))
    if day is None and now is not None:
        day = today
    edition = desk.find(newsletter, day)
    if edition is None and day is not None and day < today:
        raise desk.no_edition(newsletter, day)
    return edition, edition.edition_date if edition else day or today


def why(
    slug: Slug,
    address: Annotated[str, typer.Argument(metavar="ADDRESS")],
    now: Now = None,
    day: Day = None,
    as_json: Json = False,
) -> None:
    """What happened to one reader with one edition, its corrections included."""
    from newsletter.audience.subscribers import find_subscriber
    from newsletter.cli import show_accounts
    from newsletter.outbox import accounts as ledger
    from newsletter.store.session import reading

    desk = open_desk()
    edition, edition_date = edition_meant(desk, desk.catalogue[slug], now=now, day=day)
    with reading(desk.engine) as session:
        verdict = ledger.why(session, edition, slug, find_subscriber(session, address))
    show_accounts.verdict(verdict, slug, edition_date, as_json=as_json)


def audit(slug: Slug, now: Now = None, day: Day = None, as_json: Json = False) -> None:
    """Prove the balance of an edition and of all its revisions from the ledger; exit 1 if one does not balance."""
    from newsletter.cli import show_accounts
    from newsletter.outbox import accounts as ledger
    from newsletter.store.session import reading

    desk = open_desk()
    edition, edition_date = edition_meant(desk, desk.catalogue[slug], now=now, day=day)
    with reading(desk.engine) as session:
        books = ledger.audit_date(session, slug, edition_date) if edition else ()
    show_accounts.books(
        [(row.revision, balance) for row, balance in books], slug, edition_date, as_json=as_json
    )
    if not all(balance.balanced for _, balance in books):
        raise typer.Exit(1)


def settle(
    slug: Slug,
    word: Annotated[str, typer.Option("--as", help="submitted, abandoned or resend.")],
    batch: Annotated[int, typer.Option("--batch", help="The number in `newsletter status SLUG`.")] = 0,
    every: Annotated[bool, typer.Option("--all", help="Every batch that is uncertain, as after a restore.")] = False,
    revision: Annotated[int, typer.Option("--revision", help="Of which revision; default the one whose batch is uncertain.")] = 0,
    now: Now = None,
    day: Day = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Decide about an uncertain batch, or all of an edition: it went out, it is abandoned, or it goes again."""
    from newsletter.cli import show_accounts

    if bool(batch) == every:
        raise typer.BadParameter("say which: --batch N, or --all")

    if word not in ("submitted", "abandoned", "resend"):
        raise typer.BadParameter("--as must be submitted, abandoned or resend")
    desk = open_desk()
    newsletter = desk.catalogue[slug]
    if day is None and now is not None:
        day = desk.date_meant(newsletter, now, verb="settle")
    said = cast("Word", word)
    if every:
        edition_date, settled = desk.settle_all(
            newsletter, day, said, revision=revision, actor=desk.settings.who
        )
        typer.echo(f"{settled} batches settled as {word}.", err=True)
    else:
        edition_date = desk.settle(newsletter, day, batch, said, revision=revision, actor=desk.settings.who)
    show_accounts.accounts(desk.status([slug], day=edition_date), as_json=as_json)


def resend(slug: Slug, now: Now = None, day: Day = None, as_json: Json = False) -> None:
    """Send an edition again to those who got nothing, because the provider dropped it (a quota, its content)."""
    from newsletter.cli import progress, show_accounts, signals
    from newsletter.outbox.missed import send_again
    from newsletter.store.session import writing

    desk = open_desk()
    newsletter = desk.catalogue[slug]
    desk.listen()
    edition, edition_date = edition_meant(desk, newsletter, now=now, day=day)
    if edition is None:
        raise desk.no_edition(newsletter, edition_date)
    with writing(desk.engine) as session:
        row = session.merge(edition)
        size = desk.sender.provider.max_recipients
        send_again(session, row, batch_size=size, actor=desk.settings.who, at=desk.clock())
    with signals.stopping(desk.stop), progress.telling() as tell:
        desk.send(newsletter, edition_date, now=moment(now), tell=tell)
    show_accounts.accounts(desk.status([slug], day=edition_date), as_json=as_json)


def release(slug: Slug) -> None:
    """Let a newsletter that was held for complaints go again; an edition that was held: approve it."""
    from newsletter.errors import StateError
    from newsletter.store.holds import release_newsletter
    from newsletter.store.session import writing

    desk = open_desk()
    newsletter = desk.catalogue[slug]
    with writing(desk.engine) as session:
        if not release_newsletter(session, slug):
            raise StateError(
                f"{newsletter.name} is not held as a whole; newsletter status {slug} says how its editions stand."
            )
    typer.echo(
        f"{newsletter.name} goes again. What was held: newsletter approve {slug}; what was paused: newsletter resume {slug}"
    )
