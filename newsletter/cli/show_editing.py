"""What ``diff`` and ``history`` print."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING

from rich.text import Text

from newsletter.cli import show
from newsletter.times import iso

if TYPE_CHECKING:
    from newsletter.catalogue import Newsletter
    from newsletter.edition import Difference
    from newsletter.picking.picks import Order
    from newsletter.store.tables import Decision, EditionRow


def difference(told: Difference, newsletter: Newsletter, *, as_json: bool) -> None:
    """``diff``."""
    if as_json:
        stories = {
            name: [{"url": url, "headline": headline} for url, headline in getattr(told, name)]
            for name in ("added", "gone", "kept")
        }
        show.print_json(
            {
                "newsletter": newsletter.slug, "date": told.edition_date.isoformat(),
                "since": told.since.isoformat() if told.since else None, **stories,
                "words": [{"name": name, "was": was, "now": now} for name, was, now in told.words],
                "sizes": [{"variant": name, "was": was, "now": now} for name, was, now in told.sizes],
            }
        )  # fmt: skip
        return
    beside = f"beside that of {told.since}" if told.since else "the first one"
    show.out.print(Text(f"{newsletter.name}, {told.edition_date}, {beside}", style="bold"))
    for mark, style, rows in (("+", "green", told.added), ("=", "", told.kept), ("-", "red", told.gone)):
        for _, headline in rows:
            show.out.print(Text(f"{mark} {headline}", style=style))
    for name, was, now in told.words:
        show.out.print(Text(f"{name}:", style="bold"))
        show.out.print(Text(f"- {was}", style="red")) if was else None
        show.out.print(Text(f"+ {now}", style="green")) if now else None
    for variant, had, has in told.sizes:
        before = f", was {had / 1024:.0f} KB ({(has - had) / 1024:+.0f})" if had else ""
        show.out.print(f"{variant}: {has / 1024:.0f} KB{before}", markup=False)


def history(
    orders: Sequence[Order],
    row: EditionRow | None,
    decided: Sequence[Decision],
    newsletter: Newsletter,
    day: date,
    *,
    as_json: bool,
) -> None:
    """``history``."""
    stages = _stages(row, any(one.verb in ("approved", "unapproved") for one in decided))
    if as_json:
        show.print_json(
            {
                "newsletter": newsletter.slug, "date": day.isoformat(),
                "orders": [
                    {
                        "id": one.id, "verb": one.verb, "url": one.url, "section": one.section, "position": one.position,
                        "fields": dict(one.fields), "actor": one.actor, "reason": one.reason,
                        "given_at": iso(one.given_at), "undone_at": iso(one.undone_at), "undone_by": one.undone_by,
                    }
                    for one in orders
                ],
                "edition": [{"at": iso(at), "what": what} for at, what in stages],
                "decisions": [
                    {"at": iso(one.at), "verb": one.verb, "actor": one.actor, "hash": one.content_hash, "detail": one.detail}
                    for one in decided
                ],
                "despite": row.despite if row else [],
            }
        )  # fmt: skip
        return
    if not orders and not stages and not decided:
        show.out.print(
            f"Nothing was ordered for the {newsletter.noun} of {day}, and it was not made.", markup=False
        )
        return
    table = show.a_table("at", "who", "what")
    lines = [(at, "", what) for at, what in stages]
    lines += [(one.at, one.actor, f"{one.verb}{': ' + one.detail if one.detail else ''}") for one in decided]
    for one in orders:
        about = one.url or ", ".join(one.fields)
        place = (
            f" to {one.section or 'its section'} {one.position or ''}".rstrip() if one.verb == "move" else ""
        )
        changed = "".join(f"; {name}: {value}" for name, value in one.fields.items())
        undone = f" (undone by {one.undone_by})" if one.undone_at else ""
        why = f": {one.reason}" if one.reason else ""
        lines.append((one.given_at, one.actor, f"{one.verb} {about}{place}{changed}{why}{undone}"))
    for at, who, what in sorted(lines, key=lambda line: iso(line[0]) or ""):
        table.add_row(f"{at:%Y-%m-%d %H:%M:%S}" if at else "", who, Text(what))
    show.out.print(table)


def _stages(row: EditionRow | None, is_decided: bool) -> list[tuple[datetime | None, str]]:
    """What became of the edition, with the moments that are known; *is_decided*: the decisions tell who approved it."""
    if row is None:
        return []
    approved_at = None if is_decided else row.approved_at
    known = (
        (row.made_at, "made up"), (approved_at, f"approved by {row.approved_by}"), (row.frozen_at, "audience frozen"),
        (row.submitted_at, f"submitted, revision {row.revision}"),
    )  # fmt: skip
    return [(at, what) for at, what in known if at is not None]
