"""
Every command of ``newsletter``. Heavy rooms are imported inside the commands, so that help is instant.

Exit codes: 0 done; 1 refused or failed, with a sentence; 2 usage; 3 something waits for a person.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from newsletter.cli import accounting, editing, engagement, operations, reporting, subjects
from newsletter.cli.events import events_app
from newsletter.cli.lists import subscribers_app
from newsletter.cli.options import (
    Day,
    Json,
    MaybeSlug,
    Now,
    Reason,
    Slug,
)
from newsletter.cli.options import moment as _now
from newsletter.cli.options import open_desk as _desk
from newsletter.cli.programs import tokens_app
from newsletter.cli.stories import stories_app
from newsletter.errors import NewsletterError

app = typer.Typer(
    name="newsletter",
    help="Pick the day's articles, make up the newsletters, proof them, and send each to its readers.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(subscribers_app, name="subscribers")
app.add_typer(tokens_app, name="api-token")
app.add_typer(stories_app, name="stories")
app.add_typer(events_app, name="events")
db_app = typer.Typer(help="The database: copy it to another.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(db_app, name="db")
editing.add_commands(app)
accounting.add_commands(app)
reporting.add_commands(app)
subjects.add_commands(app)
engagement.add_commands(app)
operations.add_commands(app)


def _exit(waits: bool) -> None:
    if waits:
        raise typer.Exit(3)


# --- the day ------------------------------------------------------------------------------------


@app.command()
def run(
    source: Annotated[list[str] | None, typer.Option("--from", metavar="SRC", help="Collect these instead of the publication's feeds: URL, file or folder.")] = None,
    only: Annotated[list[str] | None, typer.Option("--only", metavar="SLUG", help="Only these newsletters.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Whatever the weekday.")] = False,
    now: Now = None,
    day: Day = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """The whole day: collect, pick, make up, proof, and send every newsletter that is due."""
    from newsletter.cli import progress, show, show_accounts, signals

    desk = _desk()
    desk.check_provider()
    moment = _now(now)
    for slug in only or ():
        _ = desk.catalogue[slug]  # a mistyped name is told before anything is read
    with signals.stopping(desk.stop), progress.telling() as tell:
        reports = desk.collect(source or None, now=moment, tell=tell)
        if not as_json:
            show.sources(reports, summary=True)
        accounts = desk.run(now=moment, day=day, only=only or (), every=every, tell=tell)
    show_accounts.accounts(accounts, as_json=as_json)
    seen = {account.newsletter for account in accounts}
    left = [slug for slug in only or [one.slug for one in desk.catalogue.newsletters] if slug not in seen]
    if left:
        typer.echo(f"Stopped before {', '.join(left)}; give the same command again.", err=True)
    _exit(bool(left) or any(account.waits for account in accounts))


@app.command()
def collect(
    sources: Annotated[list[str] | None, typer.Argument(metavar="[SRC]...", help="URL, file or folder; default the publication's feeds.")] = None,
    now: Now = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Read sources into articles."""
    from newsletter.cli import progress, show

    desk = _desk()
    with progress.telling() as tell:
        reports = desk.collect(sources or None, now=_now(now), tell=tell)
    show.sources(reports, as_json=as_json)


@app.command()
def articles(
    now: Now = None,
    hours: Annotated[
        float, typer.Option("--hours", help="Only this far back from --now; default everything.")
    ] = 0.0,
    source: Annotated[str, typer.Option("--source", help="Only this source.")] = "",
    as_json: Json = False,
) -> None:
    """List what is stored."""
    from datetime import timedelta

    from newsletter.cli import show
    from newsletter.feeds.stored import load_articles
    from newsletter.store.session import reading

    desk = _desk()
    moment = _now(now)
    with reading(desk.engine) as session:
        since = moment - timedelta(hours=hours) if hours else datetime.min.replace(tzinfo=UTC)
        found = load_articles(session, since=since, until=datetime.max.replace(tzinfo=UTC))
    show.articles([one for one in found if not source or one.source == source], as_json=as_json)


@app.command()
def picks(
    slug: Slug,
    explain: Annotated[str, typer.Option("--explain", metavar="URL", help="One article's whole way.")] = "",
    what_if: Annotated[Path | None, typer.Option("--what-if", metavar="WEIGHTS.toml", help="Beside the choice with other weights.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Also each article that the rules turned away.")] = False,
    now: Now = None,
    day: Day = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """What would be chosen and dropped for an edition, each with its reasons. Never collects."""
    from newsletter.articles import canonical_url
    from newsletter.catalogue import read_weights
    from newsletter.cli import picking

    desk = _desk()
    newsletter = desk.catalogue[slug]
    moment = _now(now)
    edition_date = day or desk.edition_date(newsletter, moment)
    weights = read_weights(what_if, desk.catalogue.publication.weights) if what_if else None
    chosen = desk.pick(newsletter, edition_date, now=moment)
    if weights is not None:
        other = desk.pick(newsletter, edition_date, now=moment, weights=weights)
        picking.what_if(chosen, other, newsletter, as_json=as_json)
    elif explain:
        picking.explain(chosen, newsletter, canonical_url(explain) or explain, as_json=as_json)
    else:
        picking.picks(chosen, newsletter, edition_date, as_json=as_json, every=every)


@app.command()
def preview(
    slug: MaybeSlug = "",
    now: Now = None,
    day: Day = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Write <slug>/<variant>.html and .txt and exit.")] = None,
    png: Annotated[Path | None, typer.Option("--png", metavar="DIR", help="Take pictures with Chromium, <slug>/<variant>-light.png and -dark.png, and exit.")] = None,
    text: Annotated[bool, typer.Option("--text", help="Print the text part and exit.")] = False,
    port: Annotated[int, typer.Option("--port", min=1, max=65_535, help="First port to try.")] = 8025,
    no_open: Annotated[bool, typer.Option("--no-open", help="Do not open a browser.")] = False,
    as_json: Json = False,
) -> None:  # fmt: skip
    """See every variant as it will be sent: a local page, files, pictures, or the text part."""
    from newsletter.cli import looking

    desk = _desk()
    chosen = [desk.catalogue[slug]] if slug else list(desk.catalogue.newsletters)
    if out is not None:
        looking.write_previews(desk, chosen, out, now=_now(now), day=day, as_json=as_json)
    elif png is not None:
        looking.write_photos(desk, chosen, png, now=_now(now), day=day, as_json=as_json)
    elif text:
        looking.print_text(desk, chosen, now=_now(now), day=day)
    else:
        looking.serve_preview(desk, now=now, day=day, first=slug, port=port, open_browser=not no_open)


@app.command()
def blocks(
    slug: MaybeSlug = "",
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Write a page a block, with every state, and exit.")] = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """The blocks a newsletter can be made of, and each in all its states."""
    from newsletter.cli import looking

    looking.show_blocks(slug, out=out, as_json=as_json)


@app.command()
def magazine(
    slug: Slug,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the two files go.")],
    now: Now = None,
    day: Day = None,
) -> None:
    """Write an edition's magazine, a PDF and an EPUB, as paying readers get it."""
    from newsletter.cli import looking

    desk = _desk()
    looking.write_magazine(desk, desk.catalogue[slug], out, now=_now(now), day=day)


@app.command()
def proof(
    slug: MaybeSlug = "",
    online: Annotated[bool, typer.Option("--online", help="Also follow every link and look at every picture.")] = False,
    now: Now = None,
    day: Day = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Findings over templates and final bytes; exit 3 if any blocks."""
    from newsletter.cli import looking, show

    desk = _desk()
    chosen = [desk.catalogue[slug]] if slug else list(desk.catalogue.newsletters)
    findings = looking.proof_all(desk, chosen, now=_now(now), day=day, online=online)
    show.findings(findings, as_json=as_json)
    _exit(any(finding.severity == "error" for finding in findings))


@app.command("test-send")
def test_send(
    slug: Slug,
    to: Annotated[str, typer.Option("--to", metavar="ADDRESS", help="Who gets the test.")],
    variant: Annotated[str, typer.Option("--variant", help="free, paying, or paying+<reminder>.")] = "free",
    now: Now = None,
    day: Day = None,
) -> None:
    """Send the real bytes to one person, marked as a test."""
    from newsletter.cli import looking

    desk = _desk()
    looking.test_send(desk, desk.catalogue[slug], to=to, variant=variant, now=_now(now), day=day)


# --- go or no-go --------------------------------------------------------------------------------


def _go(verb: str, slug: str, *, now: datetime | None, day: date | None, as_json: bool, **more: Any) -> None:
    from newsletter.cli import show_accounts

    desk = _desk()
    newsletter = desk.catalogue[slug]
    edition_date = day or desk.date_meant(newsletter, _now(now), verb=verb)
    account = getattr(desk, verb)(newsletter, edition_date, actor=desk.settings.who, **more)
    show_accounts.accounts((account,), as_json=as_json)


@app.command()
def approve(
    slug: Slug,
    despite: Annotated[list[str] | None, typer.Option("--despite", metavar="CODE", help="A warning of the proof that you let pass; repeat for more.")] = None,
    content_hash: Annotated[str, typer.Option("--hash", metavar="H", help="The content hash you saw, or its first eight digits or more; refused if it is another by now.")] = "",
    now: Now = None,
    day: Day = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Let an edition go as it was proofed; then: newsletter send SLUG."""
    _go("approve", slug, now=now, day=day, as_json=as_json, despite=despite or (), content_hash=content_hash)


@app.command()
def hold(slug: Slug, reason: Reason = "", now: Now = None, day: Day = None, as_json: Json = False) -> None:
    """Keep an edition from going, or take an approval back."""
    _go("hold", slug, now=now, day=day, as_json=as_json, reason=reason)


@app.command()
def spike(slug: Slug, reason: Reason = "", now: Now = None, day: Day = None, as_json: Json = False) -> None:
    """Kill an edition."""
    _go("spike", slug, now=now, day=day, as_json=as_json, reason=reason)


@app.command()
def pause(slug: Slug, now: Now = None, day: Day = None, as_json: Json = False) -> None:
    """Stop an edition that is being sent; what is in flight still settles."""
    _go("pause", slug, now=now, day=day, as_json=as_json)


@app.command()
def resume(slug: Slug, now: Now = None, day: Day = None, as_json: Json = False) -> None:
    """Let a paused edition go on; then: newsletter send SLUG."""
    _go("resume", slug, now=now, day=day, as_json=as_json)


@app.command()
def send(slug: Slug, now: Now = None, day: Day = None, as_json: Json = False) -> None:
    """Submit what is approved; go on with what was begun."""
    from newsletter.cli import progress, show_accounts, signals

    desk = _desk()
    newsletter = desk.catalogue[slug]
    moment = _now(now)
    with signals.stopping(desk.stop), progress.telling() as tell:
        edition_date = day or desk.date_meant(newsletter, moment, verb="send")
        desk.send(newsletter, edition_date, now=moment, tell=tell)
    accounts = desk.status([slug], day=edition_date)
    show_accounts.accounts(accounts, as_json=as_json)
    _exit(any(account.waits for account in accounts))


@app.command()
def correct(
    slug: Slug,
    subject: Annotated[str, typer.Option("--subject", help="The subject of the correction; default the old one, marked.")] = "",
    now: Now = None,
    day: Day = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Send a corrected revision to those who have the wrong one. Give `edit` or `drop` first, or mend a template."""
    from newsletter.cli import progress, show_accounts, signals

    desk = _desk()
    newsletter = desk.catalogue[slug]
    moment = _now(now)
    edition_date = day or desk.date_meant(newsletter, moment, verb="correct")
    with signals.stopping(desk.stop), progress.telling() as tell:
        desk.correct(
            newsletter, edition_date, now=moment, actor=desk.settings.who, subject=subject, tell=tell
        )
    accounts = desk.status([slug], day=edition_date)
    show_accounts.accounts(accounts, as_json=as_json)
    _exit(any(account.waits for account in accounts))


# --- the lists ----------------------------------------------------------------------------------


@app.command()
def segments(now: Now = None, as_json: Json = False) -> None:
    """How many readers each newsletter would go to now, by variant."""
    from newsletter.audience.segments import segment_sizes
    from newsletter.cli import show
    from newsletter.store.session import reading

    desk = _desk()
    with reading(desk.engine) as session:
        show.segments(segment_sizes(session, desk.catalogue, _now(now)), as_json=as_json)


# --- operations ---------------------------------------------------------------------------------


@app.command()
def serve(
    port: Annotated[int, typer.Option("--port", min=1, max=65_535)] = 8000,
    host: Annotated[str, typer.Option("--host", help="Put a TLS proxy in front before you open this to the world.")] = "127.0.0.1",
) -> None:  # fmt: skip
    """Serve the readers' pages: leaving, preferences, view online."""
    from newsletter.cli import looking

    looking.serve_readers(host=host, port=port)


@app.command()
def worker(
    name: Annotated[str, typer.Option("--name", metavar="N", help="What its log lines are marked with.")] = "worker",
) -> None:  # fmt: skip
    """Send and keep the rota together with any number of others; needs PostgreSQL. SIGTERM ends it in good order."""
    from newsletter.settings import load_settings
    from newsletter.worker import run_worker

    run_worker(load_settings(), name=name)


@app.command()
def doctor(
    online: Annotated[bool, typer.Option("--online", help="Also ask the name servers about the sender, and the provider about its account.")] = False,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Is this installation fit to send? Exit 1 if not."""
    from newsletter.cli import show
    from newsletter.cli.doctor import examine

    checks = examine(online=online)
    show.checks(checks, as_json=as_json)
    if any(check.severity == "error" for check in checks):
        raise typer.Exit(1)


@db_app.command("copy")
def db_copy(
    to: Annotated[str, typer.Option("--to", metavar="URL", help="An empty database: postgresql+psycopg://… or sqlite:///…")],
    as_json: Json = False,
) -> None:  # fmt: skip
    """Move everything to another database, verified row by row. Stop the scheduler and the pages first."""
    from newsletter.cli import progress, show
    from newsletter.settings import load_settings
    from newsletter.store.copying import copy_store
    from newsletter.store.session import open_store

    source = open_store(load_settings().database_url)
    target = open_store(to, named="--to")
    try:
        with progress.counting() as count:
            rows = copy_store(source, target, progress=count)
    finally:
        source.dispose()
        target.dispose()
    show.copied(rows, as_json=as_json)
    typer.echo(
        "Now set DATABASE_URL to it. PostgreSQL takes its keys from the environment: copy both lines of the .keys file "
        "into NEWSLETTER_SECRET_KEY and NEWSLETTER_SUPPRESSION_KEY, or old links and the suppression list are lost.",
        err=True,
    )


def main() -> None:
    """The console script: errors of ours become one sentence and exit code 1."""
    try:
        app()
    except NewsletterError as error:
        from newsletter.cli.show import safe

        typer.echo(safe(str(error)), err=True)
        raise SystemExit(1) from None
    except Exception as error:
        from sqlalchemy.exc import SQLAlchemyError

        if not isinstance(error, SQLAlchemyError):
            raise
        from newsletter.store.session import in_words

        typer.echo(in_words(error), err=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
