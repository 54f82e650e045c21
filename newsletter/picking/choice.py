"""
The choice itself: candidates are taken into sections one by one, each the one that adds most to those before it.

Candidates come with what they can weigh for the newsletter at the most, the most first. A section can add only so
much to that (``most_section_points``), and repetition only takes away, so a search ends where nothing further down
can be better, and only what came before that is ever weighed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter

from rapidfuzz import fuzz

from newsletter.articles import Article, headline_key
from newsletter.catalogue import Section
from newsletter.picking.candidates import ROUNDING, Candidate, Candidates
from newsletter.picking.fitting import (
    SHORT_HEADLINE_WORDS,
    Elsewhere,
    Taken,
    at_cap,
    never_fits,
    ran_before,
    wrong_category,
    wrong_trait,
)
from newsletter.picking.liking import Points
from newsletter.picking.orders import Order
from newsletter.picking.pools import Reserve
from newsletter.picking.weighing import in_words, most_section_points, reader_points, section_points, total

SAME_HEADLINE = 86.0
"""From this likeness (token sort ratio, 0–100) two headlines of one language tell the same story."""

FEW_SHARE = 0.02
"""Up to this share of common readers, two newsletters may lead with one story."""

MANY_SHARE = 0.2
"""From this share of common readers, a story that leads one newsletter does not run in the other."""

_MOST_REPETITION, _MANY = 6.0, 4


@dataclass(frozen=True, slots=True)
class Pick:
    """An article in its place; *position* counts from 1 within the section. *pool*: what a thin section fell back on."""

    section: str
    position: int
    article: Article
    score: float
    reasons: tuple[str, ...]
    pinned: bool = False
    pool: str = ""


@dataclass
class Choice:
    """
    One newsletter's choice while it is made, from *candidates*; *elsewhere* is what other newsletters tell, by story.
    """

    candidates: Candidates
    elsewhere: Mapping[str, Sequence[Elsewhere]]
    taken: dict[str, list[Pick]] = field(default_factory=dict)  # section → picks
    told: dict[str, Pick] = field(default_factory=dict)  # story → its pick
    used: set[str] = field(default_factory=set)  # URLs
    _known: dict[tuple[str, str], tuple[float, Points]] = field(default_factory=dict)  # ``_alone``

    def __post_init__(self) -> None:
        self.newsletter, self.newslist = self.candidates.newsletter, self.candidates.newslist
        self.taken = {section.id: [] for section in self.newsletter.sections}
        self.head = next((section.id for section in self.newsletter.sections if not section.words), "")
        self._counted = Taken()

    def place_pinned(self) -> None:
        """Put what an editor pinned first, whatever the rules say."""
        for url, order in self.candidates.placed.items():
            if order.verb != "drop" and (candidate := self.candidates.of(url)):
                section = self._section_for(order, candidate)
                pool = "" if url in self.newslist.entries else "earlier"
                self.take(candidate, section, candidate.points, first=(order.told,), pinned=True, pool=pool)

    def fill(self, section: Section, quota: int, *, thin: bool = False) -> None:
        """
        Fill *section* up to *quota*, each time with what adds most to what the edition has.

        *thin*: also with what other newsletters tell the same readers.
        """
        while len(self.taken[section.id]) < quota:
            best = self._best(self.candidates.coming(section), section, thin=thin)
            if best is None:
                return
            self.take(best, section, self.points_in(best, section))

    def _best(
        self, coming: Iterable[tuple[float, Candidate]], section: Section, *, thin: bool
    ) -> Candidate | None:
        """What of *coming* adds most; of equals what weighs more by itself, then by URL."""
        most_added = most_section_points(section, self.newslist.weights) + ROUNDING
        best: Candidate | None = None
        least = (math.inf, 0.0, "")
        for most, one in coming:
            if most + most_added < -least[0]:
                break
            if one.score + most_added < -least[0] or one.url in self.used or one.story in self.told:
                continue
            alone, _ = self._alone(one, section)
            if alone + ROUNDING < -least[0]:
                continue
            place = (-alone - sum(self._less(one)[1]), -alone, one.url)
            if (
                place < least
                and not self.candidates.better_placed(one)
                and not self.refused(one, section, thin=thin)
            ):
                best, least = one, place
        return best

    def fall_back(
        self, section: Section, quota: int, pool: str, reserves: Sequence[Reserve], why: str
    ) -> None:
        """Fill *section* up to *quota* from a pool; *why* is said with each."""
        told = {one.article.url: one.told for one in reserves}
        free = [self._reserve(one) for one in reserves if not self._barred(one, section)]
        free.sort(key=attrgetter("score"), reverse=True)
        while len(self.taken[section.id]) < quota:
            best = self._best(((one.score, one) for one in free), section, thin=False)
            if best is None:
                return
            first = (f"from {told[best.url]}, because {why}",)
            self.take(best, section, self.points_in(best, section), first=first, pool=pool)

    def _barred(self, reserve: Reserve, section: Section) -> bool:
        """Whether *section* may not have it at all: no condition but age is waived, and nothing is told again."""
        article = reserve.article
        readers = {one for one in self.newsletter.audience.classes if one in section.classes}
        order = self.candidates.placed.get(article.url)
        story = article.story or article.url
        return bool(
            not readers <= set(reserve.classes)
            or (order is not None and order.verb == "drop")
            or self.candidates.of(article.url) is not None  # it is of the day, and had its chance
            or never_fits(article, self.newsletter, self.candidates.now)
            or ran_before(article, self.candidates.sent)
            or story in self.candidates.ran
            or any(other.shared > FEW_SHARE for other in self.elsewhere.get(story, ()))
            or wrong_trait(article, self.candidates.asked[section.id])
            or wrong_category(article, section)
        )

    def _reserve(self, reserve: Reserve) -> Candidate:
        """A candidate whose news is over: its entry is not weighed, for who else carried it and how grave it was."""
        entry = self.newslist.entry_beside(reserve.article)
        points = reader_points(
            reserve.article,
            self.newsletter,
            self.newslist.weights,
            now=self.candidates.now,
            liking=self.candidates.liking,
        )
        points += [*reserve.points, *self.newslist.telling_points(entry)]
        return Candidate(entry, frozenset(), points, total(points))

    # --- what speaks for and against a candidate --------------------------------------------------

    def points_in(self, candidate: Candidate, section: Section) -> Points:
        """All its points in *section*, beside what has been taken by now."""
        return [*self._alone(candidate, section)[1], *self.repeating(candidate)]

    def refused(self, candidate: Candidate, section: Section, *, thin: bool = False) -> str:
        """Why caps, the other newsletters or the edition itself do not leave it free, or ''."""
        if candidate.story in self.told:
            return "its story is told"
        return (
            at_cap(candidate.article, section, [pick.article for pick in self.taken[section.id]])
            or ("" if thin else self._clash(candidate.story, section))
            or self.alike(candidate)
        )

    def alike(self, candidate: Candidate) -> str:
        """That a pick has nearly the same headline in the same language, or ''."""
        language, key = candidate.entry.headline
        if len(key.split()) < SHORT_HEADLINE_WORDS:
            return ""
        for pick in self.told.values():
            if pick.article.language == language:
                likeness = fuzz.token_sort_ratio(key, headline_key(pick.article.headline))
                if likeness >= SAME_HEADLINE:
                    return f"a headline {likeness:.0f} % alike as a better placed story: {pick.article.url}"
        return ""

    def repeating(self, candidate: Candidate) -> Points:
        """What the edition has of its country, region, paper and topic already."""
        had, less = self._less(candidate)
        return [
            (f"{times} {how} {what} already", value)
            for (times, _, how, what), value in zip(had, less, strict=True)
        ]

    def _less(self, candidate: Candidate) -> tuple[list[tuple[int, float, str, str]], list[float]]:
        """What the edition has like it (``Taken.like``), and how many points each takes away; all of them only so many."""
        had = self._counted.like(candidate.article)
        weight = self.newslist.weights.repetition
        less = [-each * min(times, _MANY) * weight for times, each, _, _ in had]
        worst = sum(less)
        if worst < -_MOST_REPETITION:
            less = [value * _MOST_REPETITION / -worst for value in less]
        return had, less

    def _clash(self, story: str, section: Section) -> str:
        """Which other newsletter keeps *story* out of *section*, or ''."""
        heads = section.id == self.head
        for other in self.elsewhere.get(story, ()):
            limit = FEW_SHARE if other.lead and heads else MANY_SHARE
            if (other.lead or heads) and other.shared > limit:
                how = "leads" if other.lead else "is in"
                return f"its story {how} {other.newsletter}, which {other.shared:.0%} of the readers get too"
        return ""

    def _alone(self, candidate: Candidate, section: Section) -> tuple[float, Points]:
        """Its points in *section* with those that are the section's own, and their sum."""
        known = self._known.get((candidate.url, section.id))
        if known is None:
            entry, weights = candidate.entry, self.newslist.weights
            weight = total(self.newslist.story_points(entry)) if entry.is_weighed else 0.0
            more = section_points(candidate.article, section, weights, story_weight=weight)
            more += [
                (f"{other.shared:.0%} of the readers get it in {other.newsletter}", -2.0 * other.shared)
                for other in self.elsewhere.get(candidate.story, ())
            ]
            known = candidate.score + total(more), [*candidate.points, *more]
            self._known[candidate.url, section.id] = known
        return known

    # --- small steps ------------------------------------------------------------------------------

    def _section_for(self, order: Order, candidate: Candidate) -> Section:
        sections = [section for section in self.newsletter.sections if not section.words]
        named = next((section for section in sections if section.id == order.section), None)
        fits = next((section for section in sections if section.id in candidate.fits), None)
        return named or fits or sections[0]

    def take(
        self,
        candidate: Candidate,
        section: Section,
        points: Points,
        *,
        first: Sequence[str] = (),
        pinned: bool = False,
        pool: str = "",
    ) -> None:
        """Let it run in *section*; *first* are reasons that give no points."""
        article = candidate.article
        if candidate.story in self.candidates.ran and not article.kicker:
            article = replace(article, kicker=self.newsletter.updated)
        pick = Pick(
            section=section.id,
            position=0,
            article=article,
            score=round(total(points), 2),
            reasons=(*first, *in_words(points)),
            pinned=pinned,
            pool=pool,
        )
        self.used.add(article.url)
        self.told.setdefault(candidate.story, pick)
        self.taken[section.id].append(pick)
        self._counted.add(article)
