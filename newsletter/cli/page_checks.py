"""Whether the readers' pages are reached where links lead to."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime

import httpx

from newsletter.cli.checks import Check

_SECONDS = 10.0
_CLOCK_OFF = timedelta(minutes=2)


def page_checks(base_url: str, *, now: datetime) -> Iterator[Check]:
    """Ask the pages at *base_url* how they are, as a reader's program would, and the clock of who answers."""
    asked = f"{base_url}/healthz"
    try:
        answer = httpx.get(asked, timeout=_SECONDS)
    except httpx.HTTPError as error:
        yield Check(
            "reached", "error",
            f"{asked} cannot be reached ({error or type(error).__name__}): is newsletter serve running, does the proxy lead to it, and is its certificate valid?",
        )  # fmt: skip
        return
    if answer.is_redirect:
        yield Check(
            "reached", "error",
            f"{asked} leads elsewhere ({answer.status_code}): a mailbox's one-click leaving follows no redirect. Set NEWSLETTER_BASE_URL to where the pages are.",
        )  # fmt: skip
    elif answer.status_code != 200:
        yield Check(
            "reached", "error",
            f"{asked} answers {answer.status_code}: let the proxy lead {base_url} to newsletter serve.",
        )  # fmt: skip
    else:
        yield Check("reached", "ok", f"The pages answer at {base_url}.")
    yield from _clock(answer.headers.get("date", ""), now)


def _clock(told: str, now: datetime) -> Iterator[Check]:
    try:
        off = parsedate_to_datetime(told) - now
    except (ValueError, TypeError):
        return
    if abs(off) > _CLOCK_OFF:
        yield Check(
            "pages-clock", "warning",
            f"The clock of who answers there differs from ours by {abs(off.total_seconds()):.0f} s: let both take their time from the network (timedatectl).",
        )  # fmt: skip
