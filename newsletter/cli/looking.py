"""The longer commands: previews to files and pages, proofs of everything, a test mail, the readers' server."""

from __future__ import annotations

import json
import re
import tempfile
import threading
import webbrowser
from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from newsletter.cli import progress, show
from newsletter.cli.options import into
from newsletter.edition import PERSONAL_TAGS, SUBJECT_LETTERS, EditionStatus
from newsletter.errors import NewsletterError, NotFound, ProviderError, SourceError, ThinDay
from newsletter.times import system_clock

if TYPE_CHECKING:
    from newsletter.catalogue import Newsletter
    from newsletter.desk import Desk, Made
    from newsletter.edition import Rendered
    from newsletter.feeds.fetch import Fetcher
    from newsletter.rendering.proof import Finding
    from newsletter.rendering.proof.online import Looked

_LOOK_SECONDS = 8.0


WAITING = (EditionStatus.DRAFT, EditionStatus.HELD)
"""States in which an approval would let the stored bytes go."""


def _made(desk: Desk, newsletter: Newsletter, *, now: datetime, day: date | None) -> tuple[date, Made | None]:
    edition_date = day or desk.edition_date(newsletter, now)
    return edition_date, desk.shown(newsletter, edition_date, now=now)


def _all_made(
    desk: Desk, chosen: Sequence[Newsletter], failed: list[str], *, now: datetime, day: date | None
) -> Iterator[tuple[Newsletter, date, Made]]:
    """What of *chosen* can be shown, with its date; the rest is said, and what went wrong goes into *failed*."""
    for newsletter in chosen:
        try:
            edition_date, made = _made(desk, newsletter, now=now, day=day)
        except NewsletterError as error:
            failed.append(newsletter.slug)
            typer.echo(f"{newsletter.slug}: {error}", err=True)
            continue
        if made is None:
            typer.echo(f"{newsletter.slug}: nothing to show: no story fits it on {edition_date}.", err=True)
            continue
        yield newsletter, edition_date, made


def write_previews(
    desk: Desk, chosen: Sequence[Newsletter], out: Path, *, now: datetime, day: date | None, as_json: bool
) -> None:
    """Write every variant of *chosen*, due or not, and an ``index.json`` that says which bytes they are."""
    from newsletter.rendering.engine import fill_samples

    written: list[dict[str, object]] = []
    failed: list[str] = []
    for newsletter, edition_date, made in _all_made(desk, chosen, failed, now=now, day=day):
        folder = out / newsletter.slug
        for rendered in made.renderings:
            html, text = fill_samples(rendered, desk.settings.base_url)
            with into(out):
                folder.mkdir(parents=True, exist_ok=True)
                (folder / f"{rendered.variant}.html").write_text(html, encoding="utf-8")
                (folder / f"{rendered.variant}.txt").write_text(text, encoding="utf-8")
            written.append(
                {
                    "newsletter": newsletter.slug, "date": edition_date.isoformat(), "variant": rendered.variant,
                    "subject": rendered.subject, "subjects": list(rendered.subjects), "preheader": rendered.preheader, "bytes": rendered.size_bytes,
                    "hash": made.hash, "shortfalls": list(made.picks.shortfalls),
                }
            )  # fmt: skip
    with into(out):
        out.mkdir(parents=True, exist_ok=True)
        (out / "index.json").write_text(
            json.dumps({"previews": written}, ensure_ascii=False, indent=2), encoding="utf-8"
        )
    if as_json:
        show.print_json({"previews": written})
    else:
        typer.echo(f"{len(written)} variants written to {out}")
    if failed:
        raise typer.Exit(1)


def write_photos(
    desk: Desk, chosen: Sequence[Newsletter], out: Path, *, now: datetime, day: date | None, as_json: bool
) -> None:
    """Take a picture of every variant of *chosen*, light and dark, phone beside desktop."""
    from newsletter.cli.photos import Photo, find_chromium, photos_of, take
    from newsletter.rendering.engine import fill_samples

    find_chromium()  # said before anything is made
    with into(out):
        for newsletter in chosen:
            (out / newsletter.slug).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=out / newsletter.slug):
                pass
    wanted: list[Photo] = []
    failed: list[str] = []
    for newsletter, _, made in _all_made(desk, chosen, failed, now=now, day=day):
        for rendered in made.renderings:
            html, _ = fill_samples(rendered, desk.settings.base_url)
            html = pictured(desk, html)
            wanted += photos_of(html, out / newsletter.slug, rendered.variant)
    taken: list[str] = []
    with progress.counting() as count:
        for path in take(wanted) if wanted else ():
            taken.append(str(path))
            count(path.name, len(taken), len(wanted))
    if as_json:
        show.print_json({"pictures": taken})
    else:
        typer.echo(f"{len(taken)} pictures taken into {out}")
    if failed:
        raise typer.Exit(1)


def show_blocks(slug: str, *, out: Path | None, as_json: bool) -> None:
    """List the blocks that *slug* (without: the first newsletter) may name, or write their catalogue to *out*."""
    from newsletter.catalogue import load_catalogue
    from newsletter.rendering.blocks import block_names, states_of
    from newsletter.rendering.engine import Renderer
    from newsletter.settings import load_settings
    from newsletter.web.preview.blocks import INDEX, write_catalogue

    catalogue = load_catalogue(load_settings().templates)
    newsletter = catalogue[slug] if slug else catalogue.newsletters[0]
    renderer = Renderer(catalogue)
    if out is not None:
        with into(out):
            states = list(write_catalogue(renderer, newsletter, out))
    else:
        known = block_names(catalogue, newsletter.slug)
        states = [state for name in known for state in states_of(renderer, newsletter, name)]
    told: dict[str, list[str]] = {}
    for state in states:
        told.setdefault(state.block, []).append(state.name)
    if as_json:
        show.print_json(
            {
                "newsletter": newsletter.slug,
                "blocks": [{"block": key, "states": names} for key, names in told.items()],
            }
        )
        return
    for block, names in told.items():
        typer.echo(f"{block:<12} {', '.join(names)}")
    if out is not None:
        typer.echo(f"The catalogue of {newsletter.name} is in {out / INDEX}.html")


def write_magazine(desk: Desk, newsletter: Newsletter, out: Path, *, now: datetime, day: date | None) -> None:
    """Write the magazine of an edition as it would be made now: ``<slug>-<date>.pdf`` and ``.epub`` in *out*."""
    from newsletter.rendering.magazine import is_installed

    if not is_installed():
        raise NotFound('Magazines need more libraries: pip install -c constraints.txt -e ".[magazine]"')
    edition_date, made = _made(desk, newsletter, now=now, day=day)
    if made is None or made.snapshot is None:
        raise ThinDay(f"There is nothing to set: no story fits {newsletter.name} on {edition_date}.")
    for kind in ("pdf", "epub"):
        path = out / f"{newsletter.slug}-{edition_date}.{kind}"
        with into(out):
            out.mkdir(parents=True, exist_ok=True)
            path.write_bytes(desk.magazine(made.snapshot, kind))
        typer.echo(f"{path} ({path.stat().st_size // 1024} kB)")


def pictured(desk: Desk, html: str) -> str:
    """*html* with the pictures we serve written into it, for looking at it where nothing is served."""
    from newsletter.store.pictures import picture_bytes
    from newsletter.store.session import reading

    def inline(address: re.Match[str]) -> str:
        data = picture_bytes(session, address[1])
        return f"data:image/jpeg;base64,{b64encode(data).decode()}" if data else address[0]

    with reading(desk.engine) as session:
        return re.sub(re.escape(f"{desk.settings.base_url}/media/") + r"([0-9a-f]{32})\.jpg", inline, html)


def print_text(desk: Desk, chosen: Sequence[Newsletter], *, now: datetime, day: date | None) -> None:
    """Print the text part of each variant."""
    from newsletter.rendering.engine import fill_samples

    for newsletter in chosen:
        edition_date, made = _made(desk, newsletter, now=now, day=day)
        if made is None:
            typer.echo(f"{newsletter.slug}: no story fits it on {edition_date}.", err=True)
            continue
        for rendered in made.renderings:
            typer.echo(f"=== {newsletter.slug}, {rendered.variant}: {' / '.join(rendered.subjects)}\n")
            typer.echo(fill_samples(rendered, desk.settings.base_url)[1])


def proof_all(
    desk: Desk, chosen: Sequence[Newsletter], *, now: datetime, day: date | None, online: bool = False
) -> tuple[Finding, ...]:
    """Lint the templates and proof every edition as it would be made now; *online*: follow its links, too."""
    from newsletter.rendering.codes import finding
    from newsletter.rendering.lint import lint_templates

    slugs = {newsletter.slug for newsletter in chosen}
    found = [one for one in lint_templates(desk.catalogue) if not one.newsletter or one.newsletter in slugs]
    linted = {
        (one.code, one.where) for one in found
    }  # once as it is written, not once more as it is compiled
    found.extend(_strays(desk, {day or desk.edition_date(newsletter, now) for newsletter in chosen}))
    pages = []
    for newsletter in chosen:
        try:
            edition_date, made = _made(desk, newsletter, now=now, day=day)
        except NewsletterError as error:
            found.append(finding("render-failed", newsletter.slug, part="template", message=str(error)))
            continue
        if made is None:
            message = f"There is no story for {newsletter.name} on {edition_date}."
            found.append(finding("thin", newsletter.slug, message=message))
            continue
        found.extend(one for one in made.findings if (one.code, one.where) not in linted)
        pages.append((newsletter.slug, made.renderings))
    if online:
        found.extend(_followed(desk, pages))
    return tuple(found)


def _strays(desk: Desk, days: Iterable[date]) -> Iterator[Finding]:
    """Words that lie where no edition looks for them."""
    from newsletter.rendering.codes import finding
    from newsletter.wording import stray_words

    slugs = [one.slug for one in desk.catalogue.newsletters]
    for day in sorted(days):
        for path in stray_words(Path(desk.catalogue.publication.words), day, slugs):
            message = f"{path} is no newsletter's words; there are {', '.join(slugs)}."
            yield finding("words-stray", "", part="template", where=str(path), message=message)


def _followed(desk: Desk, pages: Sequence[tuple[str, Sequence[Rendered]]]) -> tuple[Finding, ...]:
    """What does not answer of the links and pictures of *pages*."""
    from newsletter.feeds.fetch import Fetcher
    from newsletter.rendering.proof.online import follow

    allowed = desk.settings.allow_private_sources
    with Fetcher(allow_private=allowed, total_seconds=_LOOK_SECONDS) as fetcher:
        return follow(pages, lambda address: look_at(fetcher, address))


def look_at(fetcher: Fetcher, address: str) -> Looked:
    """What an address answers, asked as carefully as feeds are."""
    from newsletter.rendering.proof.online import Looked

    try:
        seen = fetcher.look(address)
    except SourceError as error:
        return Looked(trouble=str(error).replace(address, "The address", 1))
    return Looked(seen.status, seen.content_type, seen.size_bytes)


def test_send(
    desk: Desk, newsletter: Newsletter, *, to: str, variant: str, now: datetime, day: date | None
) -> None:
    """Hand the real bytes to the provider for one address, marked as a test."""
    from newsletter.audience.addresses import normalise
    from newsletter.providers import Accepted, Envelope, Recipient
    from newsletter.providers.maildir import Maildir
    from newsletter.rendering.engine import sample_links

    try:
        address, _ = normalise(to)
    except ValueError as error:
        raise typer.BadParameter(f"--to: {error}") from None
    edition_date = day or desk.edition_date(newsletter, now)
    waiting = desk.find(newsletter, edition_date)
    # What waits for approval is tested as it was stored: those bytes go out, not what would be made now.
    made = desk.kept(waiting) if waiting is not None and waiting.status in WAITING else None
    made = made or desk.shown(newsletter, edition_date, now=now)
    if made is None:
        raise ThinDay(f"There is nothing to test: no story fits {newsletter.name} on {edition_date}.")
    rendered = next((one for one in made.renderings if one.variant == variant), None)
    if rendered is None:
        known = ", ".join(one.variant for one in made.renderings)
        raise typer.BadParameter(f"--variant must be one of {known}")
    links = sample_links(desk.settings.base_url)
    sender = newsletter.sender or desk.catalogue.publication.sender
    recipient = Recipient(
        reader="test", email=address, name="", values=links,
        unsubscribe_url=links[PERSONAL_TAGS["unsubscribe_url"]],
    )  # fmt: skip
    provider = Maildir(desk.settings.system_outbox) if desk.settings.provider == "maildir" else desk.provider
    for letter, subject in zip(
        SUBJECT_LETTERS, rendered.subjects, strict=False
    ):  # a mail for each that is tried
        envelope = Envelope(
            edition=f"test.{newsletter.slug}.{edition_date}", batch=f"test-{letter}.1", newsletter=newsletter.slug,
            variant=variant, sender=sender, reply_to=desk.catalogue.publication.reply_to, subject=subject,
            html=rendered.html, text=rendered.text, list_id=f"{newsletter.slug}.{sender.email.rpartition('@')[2]}",
            list_name=newsletter.name, dated_at=now, recipients=(recipient,), language=newsletter.language, is_test=True,
        )  # fmt: skip
        outcome = provider.submit(envelope)
        if not isinstance(outcome, Accepted):
            raise ProviderError(f"The test mail did not go out for certain: {outcome.reason}")
    several = f", one for each of its {len(rendered.subjects)} subjects" if rendered.other_subjects else ""
    where = f" into {desk.settings.system_outbox}" if desk.settings.provider == "maildir" else ""
    typer.echo(f"Test of {newsletter.name} ({variant}) sent{where}{several}. Hash {made.hash[:10]}.")
    if errors := sum(one.severity == "error" for one in made.findings):
        typer.echo(
            f"It cannot go to readers as it is: {errors} errors in its proof. See newsletter proof {newsletter.slug}",
            err=True,
        )


def serve_preview(
    desk: Desk, *, now: datetime | None, day: date | None, first: str, port: int, open_browser: bool
) -> None:
    """Serve the local preview on the next free port until Ctrl-C."""
    from newsletter.web.preview import create_preview, free_port
    from newsletter.web.server import serve

    chosen_port = free_port(port)
    app = create_preview(desk, now=(lambda: now) if now else system_clock, day=day, port=chosen_port)
    url = f"http://127.0.0.1:{chosen_port}/{first}"
    typer.echo(f"Preview at {url} (Ctrl-C ends it)", err=True)
    if open_browser:
        webbrowser.open(url)
    serve(app, host="127.0.0.1", port=chosen_port, lives=True, grace_seconds=1)


def serve_readers(*, host: str, port: int) -> None:
    """Serve the readers' pages."""
    from newsletter.desk import Desk
    from newsletter.settings import load_settings, standing_at
    from newsletter.web.app import create_app
    from newsletter.web.issues import Shelf
    from newsletter.web.server import serve
    from newsletter.web.view import view_online

    desk = Desk.open(standing_at(load_settings(), host=host, port=port))
    app = create_app(
        desk.engine, desk.catalogue, desk.keys, desk.settings, clock=system_clock,
        view=lambda reader, scope: view_online(desk, reader, scope, now=system_clock()),
        shelf=Shelf(desk, system_clock), renewed=desk.reload,
    )  # fmt: skip
    threading.Thread(target=_tidied, args=(desk,), name="tidy", daemon=True).start()
    threading.Thread(target=_watched, args=(desk,), name="watch", daemon=True).start()
    _serve_metrics(desk)
    app.webhook.wake()  # what was acknowledged before the last end
    typer.echo(
        f"Readers' pages at http://{host}:{port}{desk.settings.path_prefix} (Ctrl-C ends it)", err=True
    )
    serve(app, host=host, port=port)


def _watched(desk: Desk) -> None:
    """Look for alarms each minute: a scheduler that is dead cannot say so."""
    from newsletter.watch.listening import Watch

    Watch(desk).keep()


def _serve_metrics(desk: Desk) -> None:
    """Where a port is named for them; one that is taken is said."""
    from newsletter.errors import SettingsError
    from newsletter.web.metrics import serve_metrics

    port = desk.settings.metrics_port
    if not port:
        return
    slugs = [newsletter.slug for newsletter in desk.catalogue.newsletters]
    try:
        serve_metrics(desk.engine, slugs, port=port, clock=desk.clock)
    except OSError as error:
        raise SettingsError(
            f"NEWSLETTER_METRICS_PORT {port} cannot be used ({error.strerror}); choose another."
        ) from error
    typer.echo(f"Metrics at http://127.0.0.1:{port}/metrics", err=True)


def _tidied(desk: Desk) -> None:
    """Tidy while the pages answer already; what fails now is done by the next process that does."""
    from sqlalchemy.exc import SQLAlchemyError

    with suppress(SQLAlchemyError):
        desk.tidy()
