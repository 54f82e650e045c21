"""Options that several commands take, and how a command opens the desk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from newsletter.errors import NewsletterError
from newsletter.times import parse_instant, system_clock

if TYPE_CHECKING:
    from newsletter.desk import Desk


def _instant(text: str) -> datetime:
    try:
        return parse_instant(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a date; write for example 2026-02-18") from None


Now = Annotated[
    datetime | None,
    typer.Option("--now", parser=_instant, metavar="INSTANT", help="Editorial time, ISO 8601 with zone; default the real time."),
]  # fmt: skip
Day = Annotated[
    date | None,
    typer.Option("--date", parser=_day, metavar="DATE", help="Edition date; default the newsletter's local day of --now."),
]  # fmt: skip
Beside = Annotated[
    date | None, typer.Option("--beside", parser=_day, metavar="DATE", help="Compare with the edition of another date.")
]  # fmt: skip
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Slug = Annotated[str, typer.Argument(metavar="SLUG", help="The newsletter: the name of its folder.")]
MaybeSlug = Annotated[str, typer.Argument(metavar="[SLUG]", help="The newsletter; default all.")]
Url = Annotated[str, typer.Argument(metavar="URL", help="The story's address.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; kept with the order.")]


def open_desk() -> Desk:
    """The desk of this installation; heavy rooms are imported only now."""
    from newsletter.desk import Desk
    from newsletter.settings import load_settings

    return Desk.open(load_settings())


def moment(given: datetime | None) -> datetime:
    """Editorial time: as given, or the real one."""
    return given or system_clock()


@contextmanager
def into(out: Path) -> Iterator[None]:
    """Say in a sentence that *out*, a file or a folder, cannot be written."""
    try:
        yield
    except OSError as error:
        raise NewsletterError(
            f"{error.filename or out} cannot be written: {error.strerror}. Give another place than {out}."
        ) from error
