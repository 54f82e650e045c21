"""Options that several commands take."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from newsletter.times import parse_instant


def _instant(text: str) -> datetime:
    try:
        return parse_instant(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


Now = Annotated[
    datetime | None,
    typer.Option("--now", parser=_instant, metavar="INSTANT", help="Editorial time, ISO 8601 with zone; default the real time."),
]  # fmt: skip
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
