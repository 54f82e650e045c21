"""The stories that articles tell: list, merge, split."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from newsletter.cli.options import Json, Now, moment, open_desk

stories_app = typer.Typer(
    help="The stories that articles of all papers tell: list them, merge two, split one.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Url = Annotated[str, typer.Argument(metavar="URL", help="An article's address.")]


@stories_app.command("list")
def stories_list(
    hours: Annotated[float, typer.Option("--hours", help="Only this far back from --now.")] = 48.0,
    now: Now = None,
    as_json: Json = False,
) -> None:
    """The stories that more than one article tells, those of most papers first."""
    from newsletter.cli.show import out, print_json
    from newsletter.feeds.stored import load_articles
    from newsletter.picking.weighing import stories_of
    from newsletter.store.session import reading

    desk = open_desk()
    at = moment(now)
    since = at - timedelta(hours=hours)
    with reading(desk.engine) as session:
        articles = load_articles(session, since=since, until=at)
    told = stories_of((one for one in articles if one.story), desk.catalogue.publication)
    rows = sorted(
        (
            one
            for one in told.values()
            if len(one.tellings) > 1 and any(article.published_at > since for article in one.tellings)
        ),
        key=lambda one: (-len(one.papers), one.id),
    )
    if as_json:
        print_json(
            {
                "stories": [
                    {
                        "story": one.id, "papers": list(one.papers),
                        "articles": [{"url": article.url, "headline": article.headline} for article in one.tellings],
                    }
                    for one in rows
                ]
            }
        )  # fmt: skip
        return
    for one in rows:
        papers = f"{len(one.papers)} papers" if len(one.papers) > 1 else "one paper"
        out.print(f"{one.id}: {papers}, {len(one.tellings)} articles", style="bold")
        for article in one.tellings:
            out.print(f"  {article.source_name or article.source}: {article.headline}", markup=False)
            out.print(f"    {article.url}", markup=False, style="dim")
    out.print(
        f"{len(rows)} stories that more than one article tells"
        if len(rows) != 1
        else "One story that more than one article tells",
        markup=False,
    )


@stories_app.command("merge")
def stories_merge(url: Url, other: Url, now: Now = None) -> None:
    """Say that two articles tell one story, whatever the grouping says."""
    desk = open_desk()
    desk.link_stories(url, other, now=moment(now))
    typer.echo("They are one story now.")


@stories_app.command("split")
def stories_split(url: Url, now: Now = None) -> None:
    """Say that an article does not belong to the others of its story."""
    desk = open_desk()
    others = desk.link_stories(url, "", now=moment(now))
    typer.echo(
        f"It stands apart from {others} others now." if others != 1 else "It stands apart from the other now."
    )
