"""
Whether a person or a machine pressed a button behind a mail's link: scanners follow links and press buttons.

A press is asked about once more after the link that no person sees, and, where a mail has just gone out,
when it is faster than anybody reads. A second press that takes its time is always believed.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from markupsafe import Markup
from sqlalchemy import Engine
from starlette.requests import Request

from newsletter.audience.limits import Knock, Limit, knock, knocks_so_far
from newsletter.settings import Keys
from newsletter.times import Clock
from newsletter.web.forms import Form, Forms

TRAPPED = Limit("pressed the trap of a page behind a mail's link", 0, timedelta(minutes=10))
"""Whoever follows the link no person can see: the next presses with the same token are a machine's."""

HASTE = timedelta(seconds=1.5)
"""Nobody reads a page and presses its button faster; asked about only where scanners are likely."""

PURPOSE = "press"
NOTHING_HERE = "Nothing is here for people.\n"
"""What the trap says."""


class Presses:
    """The guard of pages that act without a login; *who* in its methods names the token of the page."""

    def __init__(self, engine: Engine, keys: Keys, forms: Forms, *, clock: Clock) -> None:
        self.engine, self.keys, self.forms, self.clock = engine, keys, forms, clock

    def stamp(self, request: Request) -> Markup:
        """The hidden field that says when the page was made."""
        return self.forms.sign(request, PURPOSE, bound=False)[0]

    def is_machine(self, request: Request, form: Form, who: str, *, just_sent: Callable[[], bool]) -> bool:
        """Whether a press needs another; *just_sent*: a mail with this link went out minutes ago."""
        now = self.clock()
        made = self.forms.made_at(request, form, PURPOSE, bound=False)
        in_haste = made is None or now - made < HASTE
        if form.get("sure") == "1" and not in_haste:
            return False
        if knocks_so_far(self.engine, Knock(TRAPPED, who), keys=self.keys, now=now):
            return True
        return in_haste and just_sent()

    def fall_in(self, who: str) -> None:
        """Somebody followed the link no person sees."""
        knock(self.engine, [Knock(TRAPPED, who)], keys=self.keys, now=self.clock())
