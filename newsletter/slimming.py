"""
What gives way before a mail gets so large that Gmail would cut it off, by the newsletter's own order. Pure.

``gives_way`` in ``newsletter.toml``: the text of full stories, a quarter of its bytes at a time, and whole stories,
from the last section on. No section falls below its ``min``, the edition not below ``min_stories``, and what an
editor pinned stays.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from newsletter.catalogue import Newsletter, PlanClass
from newsletter.picking.picks import Drop, Pick, Picks

TOO_LARGE = "left out: with it the mail would be larger than Gmail shows"


@dataclass(frozen=True, slots=True)
class Lighter:
    """What to make an edition of instead; *told* says what gave way, a sentence each."""

    newsletter: Newsletter
    picks: Picks
    told: tuple[str, ...]


def lighter(newsletter: Newsletter, picks: Picks, classes: Collection[PlanClass]) -> Iterator[Lighter]:
    """
    Yield ever lighter editions, the next only where the one before was still too large.

    *classes* are those whose mail is too large: text that they do not get anyway is not shortened for them.
    """
    text: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    for what in newsletter.gives_way:
        if what == "text" and set(classes) & set(newsletter.gates.full_text):
            whole = newsletter.full_text_bytes
            for quarters in (3, 2, 1, 0):
                newsletter = newsletter.model_copy(update={"full_text_bytes": whole * quarters // 4})
                text = (f"Full text is cut to {whole * quarters // 4} of {whole} bytes.",)
                yield Lighter(newsletter, picks, (*text, *gone))
        while what == "stories" and (pick := _to_spare(newsletter, picks)):
            rest = [one for one in picks.picked if one is not pick]
            drop = Drop(pick.article, (TOO_LARGE,), score=pick.score)
            picks = replace(picks, picked=tuple(rest), dropped=(*picks.dropped, drop))
            gone = (*gone, f"“{pick.article.headline}” is left out.")
            yield Lighter(newsletter, picks, (*text, *gone))


def _to_spare(newsletter: Newsletter, picks: Picks) -> Pick | None:
    """The last story that may go, or None."""
    if len(picks.picked) <= newsletter.min_stories:
        return None
    for section in reversed(newsletter.sections):
        held = picks.of(section.id)
        spare = [pick for pick in held if not pick.pinned]
        if len(held) > section.min and spare:
            return spare[-1]
    return None
