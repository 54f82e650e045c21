"""
Choosing the stories of an edition: rules are data, the choice is a pure function, and it says why.

Every article handed in ends either as a ``Pick`` or as a ``Drop``, each with its reasons in words.
A story is told once, by the article that tells it best; each next pick is the one that adds most to those
before it. Order of input never matters; ties are broken by canonical URL. Scores are points an editor can
add up: each reason that moved the score ends with what it gave.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Any, overload

from newsletter.articles import Article
from newsletter.catalogue import Newsletter, Section
from newsletter.picking.candidates import Candidate, Candidates
from newsletter.picking.choice import SAME_HEADLINE, Choice, Pick
from newsletter.picking.fitting import Elsewhere, Ran, why_nowhere
from newsletter.picking.liking import Liking, Points
from newsletter.picking.newslist import Entry, Newslist
from newsletter.picking.orders import (
    EDITABLE,
    PICTURE,
    TEXTS,
    Order,
    SourceChange,
    edited_image,
    field_of,
)
from newsletter.picking.pools import Reserve
from newsletter.picking.weighing import in_words, total

POOLS: Mapping[str, str] = {
    "earlier": "earlier days", "most-read": "the most read", "archive": "the archive", "magazine": "the magazine",
}  # fmt: skip
"""What sections fall back on, in words."""


@dataclass(frozen=True, slots=True)
class Drop:
    """An article that was not chosen, and why; *points* are what spoke for it where it came nearest, if it came so far."""

    article: Article
    reasons: tuple[str, ...]
    points: tuple[str, ...] = ()
    score: float = 0.0


@dataclass(frozen=True, slots=True)
class Picks:
    """
    A newsletter's choice. *shortfalls* are sentences; empty means the edition is filled. *filled* are, too: what
    the day did not fill and which pool did.

    *dropped*, by URL, is worked out when it is first looked at. *changes* tells what sources said anew under an
    editor's edits, which stand. *waiting* are orders on stories that are not among the articles: not collected
    yet, or mistyped.
    """

    newsletter: str
    picked: tuple[Pick, ...]
    dropped: Sequence[Drop]
    shortfalls: tuple[str, ...]
    changes: tuple[SourceChange, ...] = ()
    waiting: tuple[Order, ...] = ()
    filled: tuple[str, ...] = ()

    def of(self, section: str) -> tuple[Pick, ...]:
        """The picks of one section in order."""
        return tuple(pick for pick in self.picked if pick.section == section)


def pick_articles(
    newsletter: Newsletter,
    newslist: Newslist,
    *,
    now: datetime,
    since: datetime,
    sent: Mapping[str, str] | None = None,
    ran: Mapping[str, Ran] | None = None,
    elsewhere: Sequence[Elsewhere] = (),
    liking: Liking | None = None,
    pools: Mapping[str, Sequence[Reserve]] | None = None,
    orders: Sequence[Order] = (),
    ordered: Sequence[Article] = (),
) -> Picks:
    """
    Choose the stories of *newsletter* that came after *since* and are not older than its window.

    An article has come when it was published, or when we first saw it if that was later: what a
    source published late into its feed is not lost between two editions.
    *sent* maps canonical URLs and headline keys that this newsletter has run to words saying when, *ran* the
    stories it has told; *elsewhere* is what other newsletters tell about the same time; *liking* is what its
    readers went for on earlier days; *pools* is what thin sections may fall back on, by its name. *ordered* are
    articles that are not on the list, but that *orders* are about.
    """
    changed = {one.url: newslist.entry_beside(one) for one in ordered}
    changes: list[SourceChange] = []
    for order in orders:
        entry = changed.get(order.url) or newslist.entries.get(order.url)
        if order.verb == "edit" and entry is not None:
            changed[order.url] = newslist.edited(entry, _edited(entry.article, order))
            changes += _changes(entry.source, order)
    by_story: dict[str, list[Elsewhere]] = {}
    for one in elsewhere:
        by_story.setdefault(one.story, []).append(one)
    candidates = Candidates(
        newsletter, newslist, changed, _placed(orders), now=now, since=since, sent=sent or {}, ran=ran or {},
        liking=liking or Liking(),
    )  # fmt: skip
    choice = Choice(candidates, by_story)
    choice.place_pinned()
    for quota in ("min", "max"):
        for section in newsletter.sections:
            choice.fill(section, getattr(section, quota))
    for section in newsletter.sections:
        choice.fill(section, section.min, thin=True)
    filled = _fall_back(choice, pools or {})
    picked = tuple(
        replace(pick, position=place)
        for section in newsletter.sections
        for place, pick in enumerate(_in_order(choice, section), start=1)
    )
    return Picks(
        newsletter=newsletter.slug,
        picked=picked,
        dropped=Drops(lambda: tuple(_drop(choice, entry) for entry in candidates.entries() if entry.article.url not in choice.used)),
        shortfalls=tuple(_shortfalls(choice, len(picked))),
        changes=tuple(sorted(changes, key=lambda one: one.url)),
        waiting=tuple({order.url: order for order in orders if order.url and order.url not in newslist.entries and order.url not in changed}.values()),
        filled=tuple(filled),
    )  # fmt: skip


def _placed(orders: Sequence[Order]) -> dict[str, Order]:
    """What is pinned, moved or dropped: later orders override earlier ones on the same story."""
    placed: dict[str, Order] = {}
    for order in orders:
        if order.verb in ("pin", "move", "drop"):
            placed.pop(order.url, None)  # so that the order of giving is kept
            placed[order.url] = order
    return placed


def _edited(article: Article, order: Order) -> Article:
    texts: dict[str, Any] = {key: value for key, value in order.fields.items() if key in TEXTS}
    return replace(article, **texts, image=edited_image(article.image, order.fields))


def _changes(source: Article, order: Order) -> list[SourceChange]:
    return [
        SourceChange(source.url, name, was, field_of(source, name), order.actor)
        for name, was in order.seen.items()
        if name in order.fields and field_of(source, name) not in (was, order.fields[name])
    ]


def _in_order(choice: Choice, section: Section) -> list[Pick]:
    """Pinned stories first, then the day's by points, then those of pools; whatever an editor gave a place has it."""
    taken = choice.taken[section.id]
    asked = {
        pick.article.url: choice.candidates.placed[pick.article.url].position for pick in taken if pick.pinned
    }
    free = [pick for pick in taken if not asked.get(pick.article.url)]
    ordered = [pick for pick in free if pick.pinned]
    ordered += sorted(
        (pick for pick in free if not pick.pinned),
        key=lambda pick: (bool(pick.pool), -pick.score, pick.article.url),
    )
    for pick in taken:  # in the order of giving: who is put in a place moves the others on
        if place := asked.get(pick.article.url):
            ordered.insert(place - 1, pick)
    return ordered


def _fall_back(choice: Choice, pools: Mapping[str, Sequence[Reserve]]) -> list[str]:
    """Fill what sections lack, then what the edition lacks, from the sections' pools; say so."""
    sections = [one for one in choice.newsletter.sections if any(name in pools for name in one.fallback)]
    for section in sections:
        had = len(choice.taken[section.id])
        _draw(choice, section, section.min, pools, f"{_name(section)} had {had} of {section.min}")
    for section in sections:
        had = sum(map(len, choice.taken.values()))
        lacks = choice.newsletter.min_stories - had
        if lacks > 0:
            quota = min(section.max, len(choice.taken[section.id]) + lacks)
            _draw(
                choice, section, quota, pools, f"there were {had} of {choice.newsletter.min_stories} stories"
            )
    drawn = [
        (section, Counter(one.pool for one in choice.taken[section.id] if one.pool)) for section in sections
    ]
    return [
        f"{_name(section)} has {_listed(f'{times} from {POOLS[name]}' for name, times in counts.items())}"
        for section, counts in drawn
        if counts
    ]


def _draw(
    choice: Choice, section: Section, quota: int, pools: Mapping[str, Sequence[Reserve]], why: str
) -> None:
    for name in section.fallback:
        choice.fall_back(section, quota, name, pools.get(name, ()), why)


def _listed(parts: Iterable[str]) -> str:
    *before, last = parts
    return f"{', '.join(before)} and {last}" if before else last


def _shortfalls(choice: Choice, picked: int) -> list[str]:
    found = [
        f"{_name(section)} has {len(choice.taken[section.id])} of at least {section.min}"
        for section in choice.newsletter.sections
        if len(choice.taken[section.id]) < section.min
    ]
    if picked < choice.newsletter.min_stories:
        found.insert(0, f"{picked} of at least {choice.newsletter.min_stories} stories")
    return found


# --- drops --------------------------------------------------------------------------------------


class Drops(Sequence[Drop]):
    """Drops with their reasons, put into words once somebody looks: there are thousands, and mostly nobody does."""

    def __init__(self, explain: Callable[[], tuple[Drop, ...]]) -> None:
        self._explain = explain

    @cached_property
    def _explained(self) -> tuple[Drop, ...]:
        return self._explain()

    def __len__(self) -> int:
        return len(self._explained)

    @overload
    def __getitem__(self, index: int) -> Drop: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Drop]: ...

    def __getitem__(self, index: int | slice) -> Drop | Sequence[Drop]:
        return self._explained[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and self._explained == tuple(other)


def _drop(choice: Choice, entry: Entry) -> Drop:
    """Why *entry* does not run, as the choice stands at its end."""
    article, url = entry.article, entry.article.url
    candidates = choice.candidates
    candidate = candidates.of(url)
    if candidate is None:
        order = candidates.placed.get(url)
        why = (
            order.told
            if order
            else candidates.unfit(entry)
            or why_nowhere(article, candidates.newsletter, candidates.asked, candidates.now)
        )
        return Drop(article, (why,))
    if better := candidates.better_placed(candidate):
        return _with(candidate.points, article, f"the same headline as a better placed story: {better}")
    if told := choice.told.get(candidate.story):
        where = next(_name(one) for one in choice.newsletter.sections if one.id == told.section)
        return _with(
            candidate.points, article, f"tells the same story as {told.article.url}, which is in {where}"
        )
    sections = [one for one in choice.newsletter.sections if one.id in candidate.fits]
    points = max((choice.points_in(candidate, one) for one in sections), key=total)
    if alike := choice.alike(candidate):
        return _with(points, article, alike)
    return _with(points, article, *(f"{_name(one)}: {_why_not(choice, candidate, one)}" for one in sections))


def _why_not(choice: Choice, candidate: Candidate, section: Section) -> str:
    """Why it is not in *section*: it weighs less than all that is, or else something keeps it out."""
    taken, score = choice.taken[section.id], total(choice.points_in(candidate, section))
    is_full = len(taken) >= section.max
    if is_full and score <= min((pick.score for pick in taken if not pick.pinned), default=score):
        return f"outranked at {score:.1f} points"
    return choice.refused(candidate, section) or f"outranked at {score:.1f} points"


def _with(points: Points, article: Article, *reasons: str) -> Drop:
    return Drop(article, reasons, tuple(in_words(points)), round(total(points), 2))


def _name(section: Section) -> str:
    return section.heading or section.id


__all__ = [
    "EDITABLE", "PICTURE", "SAME_HEADLINE", "TEXTS", "Drop", "Drops", "Elsewhere", "Newslist", "Order", "Pick", "Picks",
    "Ran", "SourceChange", "edited_image", "field_of", "pick_articles",
]  # fmt: skip
