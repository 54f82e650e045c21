"""An editor's orders by command: pin, drop, move, edit, words, undo, redo; what changed, and who ordered what."""

from __future__ import annotations

from datetime import date, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from newsletter.cli.options import Day, Json, Now, Reason, Slug, Url, moment, open_desk

if TYPE_CHECKING:
    from newsletter.picking.picks import Order

Position = Annotated[
    int, typer.Option("--position", min=0, help="The place within the section, from 1; default first.")
]


def add_commands(app: typer.Typer) -> None:
    """Give *app* the commands of this file."""
    for command in (pin, drop, move, edit, words, undo, redo, diff, history):
        app.command()(command)


def _give(verb: str, slug: str, url: str, *, now: datetime | None, day: date | None, **more: Any) -> None:
    from newsletter.articles import canonical_url
    from newsletter.picking.picks import Order

    desk = open_desk()
    newsletter = desk.catalogue[slug]
    edition_date = day or desk.edition_date(newsletter, moment(now))
    address = canonical_url(url) if verb != "words" else ""
    if not address and verb != "words":
        raise typer.BadParameter(f"{url!r} is not an http(s) address")
    section = more.get("section", "")
    known = [one.id for one in newsletter.sections if not one.words]
    if section and section not in known:
        raise typer.BadParameter(f"{slug} has no section {section!r}; there are {', '.join(known)}")
    desk.give_order(newsletter, edition_date, Order(verb=verb, url=address, actor=desk.settings.who, **more))
    typer.echo(f"Noted: {verb} for the {newsletter.noun} of {edition_date}.")
    if address and not desk.is_collected(address):
        typer.echo(
            f"Not collected yet: {address}; it counts once a source brings it. If it is mistyped: newsletter undo {slug}",
            err=True,
        )


def pin(
    slug: Slug,
    url: Url,
    section: Annotated[str, typer.Option("--section", help="Where; default the first it fits.")] = "",
    position: Position = 0,
    reason: Reason = "",
    now: Now = None,
    day: Day = None,
) -> None:
    """Put a story first, whatever the rules say; also one that was dropped."""
    _give("pin", slug, url, now=now, day=day, section=section, position=position, reason=reason)


def drop(slug: Slug, url: Url, reason: Reason = "", now: Now = None, day: Day = None) -> None:
    """Keep a story out."""
    _give("drop", slug, url, now=now, day=day, reason=reason)


def move(
    slug: Slug,
    url: Url,
    section: Annotated[str, typer.Option("--section", help="Where to.")],
    position: Position = 0,
    reason: Reason = "",
    now: Now = None,
    day: Day = None,
) -> None:
    """Put a story into another section, or another place of its own."""
    _give("move", slug, url, now=now, day=day, section=section, position=position, reason=reason)


def edit(
    slug: Slug,
    url: Url,
    headline: Annotated[str | None, typer.Option("--headline")] = None,
    standfirst: Annotated[str | None, typer.Option("--standfirst")] = None,
    kicker: Annotated[str | None, typer.Option("--kicker")] = None,
    byline: Annotated[str | None, typer.Option("--byline")] = None,
    translator: Annotated[str | None, typer.Option("--translator", help="Who translated it.")] = None,
    paper: Annotated[str | None, typer.Option("--paper", help="Who published it first, if not its source.")] = None,
    picture: Annotated[str | None, typer.Option("--picture", metavar="URL", help="Another picture; empty: none.")] = None,
    alt: Annotated[str | None, typer.Option("--alt", help="What the picture shows.")] = None,
    caption: Annotated[str | None, typer.Option("--caption")] = None,
    credit: Annotated[str | None, typer.Option("--credit")] = None,
    reason: Reason = "",
    now: Now = None,
    day: Day = None,
) -> None:  # fmt: skip
    """Change a story's words or picture in one edition; feed updates do not undo it."""
    given = {
        "headline": headline, "standfirst": standfirst, "kicker": kicker, "byline": byline, "translator": translator,
        "paper": paper, "image_url": picture, "image_alt": alt, "image_caption": caption, "image_credit": credit,
    }  # fmt: skip
    fields = {name: value for name, value in given.items() if value is not None}
    if not fields:
        raise typer.BadParameter(
            "give what to change: --headline, --standfirst, --kicker, --picture, --alt …"
        )
    if headline is not None and not headline.strip():
        raise typer.BadParameter("a story needs a headline; drop the story instead", param_hint="--headline")
    _give("edit", slug, url, now=now, day=day, fields=fields, reason=reason)


def words(
    slug: Slug,
    pairs: Annotated[
        list[str],
        typer.Argument(metavar="NAME=TEXT...", help="subject, preheader, greeting, intro, sign_off, number.figure, quote.text …"),
    ],
    reason: Reason = "",
    now: Now = None,
    day: Day = None,
) -> None:  # fmt: skip
    """Change the words of an edition: subject, greeting, intro, number, quote, quiz …; NAME= takes them away."""
    fields: dict[str, str] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise typer.BadParameter(f"{pair!r} is not NAME=TEXT; write for example greeting='Good morning.'")
        fields[name.strip()] = text
    _give("words", slug, "", now=now, day=day, fields=fields, reason=reason)
    for name in (name for name, text in fields.items() if not text.strip()):
        typer.echo(
            f"{name} is empty, so {_emptied(name)}. To take that back: newsletter undo {slug}", err=True
        )


def _emptied(name: str) -> str:
    """What an edition has where an editor's words were taken away."""
    from newsletter.wording import LINES

    if name in LINES:
        return "what newsletter.toml says stands there"
    if name.startswith("subject."):
        return (
            "it is not tried; where no words give any subject, those of newsletter.toml's [subject_test] are"
        )
    return "nothing stands there; a block without words is left out"


def undo(slug: Slug, now: Now = None, day: Day = None) -> None:
    """Take the newest order that counts back; again: the one before it."""
    _turn("undo", slug, now=now, day=day)


def redo(slug: Slug, now: Now = None, day: Day = None) -> None:
    """Let what was undone last count again."""
    _turn("redo", slug, now=now, day=day)


def _turn(verb: str, slug: str, *, now: datetime | None, day: date | None) -> None:
    desk = open_desk()
    newsletter = desk.catalogue[slug]
    edition_date = day or desk.edition_date(newsletter, moment(now))
    order: Order = getattr(desk, verb)(newsletter, edition_date, actor=desk.settings.who)
    what = f"{order.verb} {order.url or ', '.join(order.fields)}"
    typer.echo(
        f"{'Undone' if verb == 'undo' else 'Redone'}: {what}, for the {newsletter.noun} of {edition_date}."
    )


def diff(slug: Slug, now: Now = None, day: Day = None, as_json: Json = False) -> None:
    """What an edition has, beside the last one: stories, words, size."""
    from newsletter.cli import show_editing as show

    desk = open_desk()
    newsletter = desk.catalogue[slug]
    at = moment(now)
    edition_date = day or desk.edition_date(newsletter, at)
    show.difference(desk.difference(newsletter, edition_date, now=at), newsletter, as_json=as_json)


def history(slug: Slug, now: Now = None, day: Day = None, as_json: Json = False) -> None:
    """Who ordered what for an edition, who let it go or not, and when; what is undone included."""
    from newsletter.cli import show_editing as show
    from newsletter.desk.approval import decisions
    from newsletter.store.session import reading

    desk = open_desk()
    newsletter = desk.catalogue[slug]
    edition_date = day or desk.edition_date(newsletter, moment(now))
    row = desk.find(newsletter, edition_date)
    with reading(desk.engine) as session:
        decided = decisions(session, slug, edition_date)
    orders = desk.orders(newsletter, edition_date)
    show.history(orders, row, decided, newsletter, edition_date, as_json=as_json)
