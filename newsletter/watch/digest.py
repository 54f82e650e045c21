"""The weekly digest: what came back in the week that is over, by mail to the editors, once."""

from __future__ import annotations

from datetime import date, timedelta
from zoneinfo import ZoneInfo

from newsletter.catalogue import Newsletter
from newsletter.desk import Desk
from newsletter.reports.counting import edition_numbers, totals
from newsletter.reports.numbers import EditionNumbers, Tally
from newsletter.reports.page import percent
from newsletter.store.session import reading
from newsletter.store.telling import is_told, keep_told, tell_once

AT_HOUR = 8
"""On Mondays, on the publication's clocks."""

_TOP = 3


def send_digest(desk: Desk) -> bool:
    """On a Monday morning, tell the editors of the last seven days; whether it was told now."""
    publication = desk.catalogue.publication
    local = desk.clock().astimezone(ZoneInfo(publication.timezone))
    monday = local.date()
    key = f"digest {monday:%G-W%V}"
    if local.weekday() != 0 or local.hour < AT_HOUR or is_told(desk.engine, key):
        return False
    lines = digest(desk, monday)
    if not lines:
        keep_told(desk.engine, [key], at=desk.clock())
        return False
    values = {"lines": lines, "begin": monday - timedelta(days=7), "end": monday - timedelta(days=1)}
    return tell_once(
        desk.engine, key, at=desk.clock(),
        say=lambda: desk.editors.tell("digest", publication.editors, values),
    )  # fmt: skip


def digest(desk: Desk, monday: date) -> list[str]:
    """A paragraph for each newsletter that went out in the seven days before *monday*."""
    lines = []
    for newsletter in desk.catalogue.newsletters:
        with reading(desk.engine) as session:
            week = [
                one
                for one in totals(session, newsletter.slug, before=monday - timedelta(days=1), last=21)
                if one.date >= monday - timedelta(days=7)
            ]
            before = [
                one
                for one in totals(session, newsletter.slug, before=monday - timedelta(days=8), last=21)
                if one.date >= monday - timedelta(days=14)
            ]
            whole = [edition_numbers(session, newsletter.slug, one.date) for one in week]
        if week:
            lines.append(_paragraph(newsletter, week, before, [one for one in whole if one is not None]))
    return lines


def _paragraph(
    newsletter: Newsletter,
    week: list[EditionNumbers],
    before: list[EditionNumbers],
    whole: list[EditionNumbers],
) -> str:
    sums, was = _sum(week), _sum(before)
    opened = percent(sums.rate(sums.opened))
    beside = f" (the week before {percent(was.rate(was.opened))})" if was.base else ""
    number = "1 edition" if len(week) == 1 else f"{len(week)} editions"
    says = (
        f"{newsletter.name}: {number} to {sums.base // len(week):,} readers each, {opened} opened{beside}, "
        f"{percent(sums.rate(sums.clicked))} clicked; {sums.unsubscribed:,} left, {sums.complained:,} complained, "
        f"{sums.bounced:,} bounced."
    )
    stories = sorted(
        (story for one in whole for story in one.stories if story.readers),
        key=lambda story: (-story.readers, story.headline),
    )
    if stories:
        most = "; ".join(f"{story.headline} ({story.readers:,})" for story in stories[:_TOP])
        says += f" Most clicked: {most}."
    return says


def _sum(editions: list[EditionNumbers]) -> Tally:
    names = ("submitted", "delivered", "opened", "clicked", "unsubscribed", "complained", "bounced")
    return Tally(**{name: sum(getattr(one.total, name) for one in editions) for name in names})
