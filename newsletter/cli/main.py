"""
Every command of ``newsletter``. Heavy rooms are imported inside the commands, so that help is instant.

Exit codes: 0 done; 1 refused or failed, with a sentence; 2 usage; 3 something waits for a person.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from newsletter.cli.editing import add_commands
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
db_app = typer.Typer(help="The database: copy it to another.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(db_app, name="db")
add_commands(app)


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
    from newsletter.cli import show, signals

    desk = _desk()
    desk.check_provider()
    moment = _now(now)
    with signals.stopping(desk.stop), show.telling() as tell:
        reports = desk.collect(source or None, now=moment, tell=tell)
        if not as_json:
            show.sources(reports, summary=True)
        accounts = desk.run(now=moment, day=day, only=only or (), every=every, tell=tell)
    show.accounts(accounts, as_json=as_json)
    _exit(any(account.waits for account in accounts))


@app.command()
def collect(
    sources: Annotated[list[str] | None, typer.Argument(metavar="[SRC]...", help="URL, file or folder; default the publication's feeds.")] = None,
    now: Now = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Read sources into articles."""
    from newsletter.cli import show

    desk = _desk()
    with show.telling() as tell:
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
    text: Annotated[bool, typer.Option("--text", help="Print the text part and exit.")] = False,
    port: Annotated[int, typer.Option("--port", help="First port to try.")] = 8025,
    no_open: Annotated[bool, typer.Option("--no-open", help="Do not open a browser.")] = False,
    as_json: Json = False,
) -> None:  # fmt: skip
    """See every variant as it will be sent: a local page, files, or the text part."""
    from newsletter.cli import looking

    desk = _desk()
    chosen = [desk.catalogue[slug]] if slug else list(desk.catalogue.newsletters)
    if out is not None:
        looking.write_previews(desk, chosen, out, now=_now(now), day=day, as_json=as_json)
    elif text:
        looking.print_text(desk, chosen, now=_now(now), day=day)
    else:
        looking.serve_preview(desk, now=now, day=day, first=slug, port=port, open_browser=not no_open)


@app.command()
def proof(slug: MaybeSlug = "", now: Now = None, day: Day = None, as_json: Json = False) -> None:
    """Findings over templates and final bytes; exit 3 if any blocks."""
    from newsletter.cli import looking, show

    desk = _desk()
    chosen = [desk.catalogue[slug]] if slug else list(desk.catalogue.newsletters)
    findings = looking.proof_all(desk, chosen, now=_now(now), day=day)
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
    from newsletter.cli import show

    desk = _desk()
    newsletter = desk.catalogue[slug]
    edition_date = day or desk.edition_date(newsletter, _now(now))
    account = getattr(desk, verb)(newsletter, edition_date, actor=desk.settings.who, **more)
    show.accounts((account,), as_json=as_json)


@app.command()
def approve(slug: Slug, now: Now = None, day: Day = None, as_json: Json = False) -> None:
    """Let an edition go as it was proofed; then: newsletter send SLUG."""
    _go("approve", slug, now=now, day=day, as_json=as_json)


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
    from newsletter.cli import show, signals

    desk = _desk()
    newsletter = desk.catalogue[slug]
    moment = _now(now)
    with signals.stopping(desk.stop), show.telling() as tell:
        account = desk.send(newsletter, day or desk.edition_date(newsletter, moment), now=moment, tell=tell)
    show.accounts((account,), as_json=as_json)
    _exit(account.waits)


@app.command()
def correct(
    slug: Slug,
    subject: Annotated[str, typer.Option("--subject", help="The subject of the correction; default the old one, marked.")] = "",
    now: Now = None,
    day: Day = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Send a corrected revision to those who have the wrong one. Give `edit` or `drop` first, or mend a template."""
    from newsletter.cli import show, signals

    desk = _desk()
    newsletter = desk.catalogue[slug]
    moment = _now(now)
    edition_date = day or desk.edition_date(newsletter, moment)
    with signals.stopping(desk.stop), show.telling() as tell:
        account = desk.correct(
            newsletter, edition_date, now=moment, actor=desk.settings.who, subject=subject, tell=tell
        )
    show.accounts((account,), as_json=as_json)
    _exit(account.waits)


# --- accounts -----------------------------------------------------------------------------------


@app.command()
def status(slug: MaybeSlug = "", now: Now = None, day: Day = None, as_json: Json = False) -> None:
    """What is where: the newest edition of each newsletter, or of a date."""
    from newsletter.cli import show

    desk = _desk()
    if now is not None and day is None and slug:
        day = desk.edition_date(desk.catalogue[slug], now)
    accounts = desk.status([slug] if slug else [], day=day)
    show.accounts(accounts, as_json=as_json)
    if slug and not as_json:
        show.batches(desk, slug, accounts)


@app.command()
def why(
    slug: Slug,
    address: Annotated[str, typer.Argument(metavar="ADDRESS")],
    now: Now = None,
    day: Day = None,
    as_json: Json = False,
) -> None:
    """What happened to one reader with one edition."""
    from newsletter.audience.subscribers import find_subscriber
    from newsletter.cli import show
    from newsletter.outbox import accounts as ledger
    from newsletter.store.session import reading

    desk = _desk()
    newsletter = desk.catalogue[slug]
    if day is None and now is not None:
        day = desk.edition_date(newsletter, now)
    edition = desk.find(newsletter, day)
    with reading(desk.engine) as session:
        verdict = ledger.why(session, edition, slug, find_subscriber(session, address))
    show.verdict(verdict, slug, edition.edition_date if edition else day, as_json=as_json)


@app.command()
def audit(slug: Slug, now: Now = None, day: Day = None, as_json: Json = False) -> None:
    """Prove the balance of an edition from the ledger; exit 1 if it does not balance."""
    from newsletter.cli import show
    from newsletter.outbox import accounts as ledger
    from newsletter.store.session import reading

    desk = _desk()
    newsletter = desk.catalogue[slug]
    if day is None and now is not None:
        day = desk.edition_date(newsletter, now)
    edition = desk.find(newsletter, day)
    with reading(desk.engine) as session:
        balance = ledger.audit(session, edition) if edition else ledger.Balance()
    show.balance(balance, slug, edition, day or desk.edition_date(newsletter, _now(now)), as_json=as_json)
    if not balance.balanced:
        raise typer.Exit(1)


@app.command()
def settle(
    slug: Slug,
    batch: Annotated[int, typer.Option("--batch", help="The number in `newsletter status SLUG`.")],
    word: Annotated[str, typer.Option("--as", help="submitted, abandoned or resend.")],
    now: Now = None,
    day: Day = None,
    as_json: Json = False,
) -> None:
    """Decide about an uncertain batch: it went out, it is abandoned, or it goes again."""
    from newsletter.cli import show
    from newsletter.errors import NotFound
    from newsletter.outbox.doubt import settle_by_word

    if word not in ("submitted", "abandoned", "resend"):
        raise typer.BadParameter("--as must be submitted, abandoned or resend")
    desk = _desk()
    newsletter = desk.catalogue[slug]
    if day is None and now is not None:
        day = desk.edition_date(newsletter, now)
    edition = desk.find(newsletter, day)
    if edition is None or edition.id is None:
        raise NotFound(f"There is no edition of {slug} to settle.")
    settle_by_word(desk.engine, edition.id, batch, word, actor=desk.settings.who, at=desk.clock())  # type: ignore[arg-type]  # checked above
    if word == "resend":
        desk.wake(newsletter, edition.edition_date)
    show.accounts(desk.status([slug], day=edition.edition_date), as_json=as_json)


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
    port: Annotated[int, typer.Option("--port")] = 8000,
    host: Annotated[str, typer.Option("--host", help="Put a TLS proxy in front before you open this to the world.")] = "127.0.0.1",
) -> None:  # fmt: skip
    """Serve the readers' pages: leaving, preferences, view online."""
    from newsletter.cli import looking

    looking.serve_readers(_desk(), host=host, port=port)


@app.command()
def worker(
    name: Annotated[str, typer.Option("--name", metavar="N", help="What its log lines are marked with.")] = "worker",
) -> None:  # fmt: skip
    """Send and keep the rota together with any number of others; needs PostgreSQL. SIGTERM ends it in good order."""
    from newsletter.settings import load_settings
    from newsletter.worker import run_worker

    run_worker(load_settings(), name=name)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Is this installation fit to send? Exit 1 if not."""
    from newsletter.cli import show
    from newsletter.cli.doctor import examine

    checks = examine()
    show.checks(checks, as_json=as_json)
    if any(check.severity == "error" for check in checks):
        raise typer.Exit(1)


@db_app.command("copy")
def db_copy(
    to: Annotated[str, typer.Option("--to", metavar="URL", help="An empty database: postgresql+psycopg://… or sqlite:///…")],
    as_json: Json = False,
) -> None:  # fmt: skip
    """Move everything to another database, verified row by row. Stop the scheduler and the pages first."""
    from newsletter.cli import show
    from newsletter.settings import load_settings
    from newsletter.store.copying import copy_store
    from newsletter.store.session import open_store

    source = open_store(load_settings().database_url)
    target = open_store(to)
    try:
        with show.counting() as count:
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
        typer.echo(str(error), err=True)
        raise SystemExit(1) from None
    except BrokenPipeError:
        raise SystemExit(0) from None
    except Exception as error:
        from sqlalchemy.exc import SQLAlchemyError

        if not isinstance(error, SQLAlchemyError):
            raise
        from newsletter.store.session import in_words

        typer.echo(in_words(error), err=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
