"""
The choice itself: candidates are taken into sections one by one, each the one that adds most to those before it.

Candidates are kept by what they weigh for the newsletter, the most first. A section can add only so much to that
(``most_section_points``), and repetition only takes away, so a search ends where nothing further down can be better.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from operator import attrgetter

from rapidfuzz import fuzz

from newsletter.articles import Article, headline_key
from newsletter.catalogue import Newsletter, Section
from newsletter.picking.fitting import (
    SHORT_HEADLINE_WORDS,
    Elsewhere,
    Ran,
    at_cap,
    never_fits,
    ran_before,
    repetition,
    unfit,
    wrong_age,
    wrong_category,
    wrong_sort,
)
from newsletter.picking.liking import Liking, Points
from newsletter.picking.newslist import Entry, Newslist
from newsletter.picking.orders import Order
from newsletter.picking.pools import Reserve
from newsletter.picking.weighing import in_words, most_section_points, reader_points, section_points, total

SAME_HEADLINE = 86.0
"""From this likeness (token sort ratio, 0–100) two headlines of one language tell the same story."""

FEW_SHARE = 0.02
"""Up to this share of common readers, two newsletters may lead with one story."""

MANY_SHARE = 0.2
"""From this share of common readers, a story that leads one newsletter does not run in the other."""

_MOST_REPETITION = 6.0
_ROUNDING = 1e-9


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


@dataclass(slots=True, eq=False)
class Candidate:
    """
    An entry that may run in the sections *fits* names by id.

    *own* are its points for this newsletter's readers, *score* what it weighs in any section.
    """

    entry: Entry
    fits: frozenset[str]
    own: Points
    score: float

    @property
    def points(self) -> Points:
        """What it weighs in any section."""
        return [*self.own, *self.entry.points]

    @property
    def article(self) -> Article:
        """As an editor left it."""
        return self.entry.article

    @property
    def url(self) -> str:
        """Its address."""
        return self.entry.article.url

    @property
    def story(self) -> str:
        """The id of its story."""
        return self.entry.story.id


@dataclass
class Choice:
    """
    One newsletter's choice while it is made; ``pick_articles`` says what the arguments are.

    *placed* are the orders that pin, move or drop, by URL, the last on each, in the order of giving.
    """

    newsletter: Newsletter
    newslist: Newslist
    entries: Sequence[Entry]
    placed: Mapping[str, Order]
    now: datetime
    since: datetime
    sent: Mapping[str, str]
    ran: Mapping[str, Ran]
    elsewhere: Mapping[str, Sequence[Elsewhere]]
    liking: Liking
    candidates: list[Candidate] = field(default_factory=list)
    repeats: dict[str, str] = field(default_factory=dict)  # URL → that of the better placed same headline
    taken: dict[str, list[Pick]] = field(default_factory=dict)  # section → picks
    told: dict[str, Pick] = field(default_factory=dict)  # story → its pick
    used: set[str] = field(default_factory=set)  # URLs
    _sorts: dict[int, tuple[frozenset[str], tuple[Section, ...]]] = field(default_factory=dict)
    _known: dict[tuple[str, str], tuple[float, Points]] = field(default_factory=dict)  # ``_alone``
    _by_url: dict[str, Candidate] = field(default_factory=dict)
    _fitting: dict[str, list[Candidate]] = field(default_factory=dict)  # section → candidates, the best first

    def __post_init__(self) -> None:
        self.taken = {section.id: [] for section in self.newsletter.sections}
        self._fitting = {section.id: [] for section in self.newsletter.sections}
        self.head = next((section.id for section in self.newsletter.sections if not section.words), "")

    def consider(self) -> None:
        """Take as candidates what may run, and what an editor pinned; the best first, each headline once."""
        oldest = self.now - timedelta(hours=self.newsletter.window_hours)
        placed: list[Candidate] = []
        found: list[Candidate] = []
        for entry in self.entries:  # in the order of their URLs, which sorting by points keeps
            order = self.placed.get(entry.article.url)
            if order is not None:
                if order.verb != "drop":
                    placed.append(self._candidate(entry, self.fits(entry)))
            elif entry.article.published_at > oldest and (fits := self.fits(entry)) and not self.unfit(entry):
                found.append(self._candidate(entry, fits))
        for some in (placed, found):
            some.sort(key=attrgetter("score"), reverse=True)
        self.candidates = placed + found
        kept: dict[tuple[str, str], str] = {}
        for candidate in self.candidates:
            better = kept.setdefault((candidate.article.language, candidate.entry.key), candidate.url)
            if better != candidate.url and candidate.url not in self.placed:
                self.repeats[candidate.url] = better
                continue
            for section in candidate.fits:
                self._fitting[section].append(candidate)

    def candidate_of(self, url: str) -> Candidate | None:
        """The candidate of that URL, if it came so far."""
        if len(self._by_url) != len(self.candidates):
            self._by_url = {one.url: one for one in self.candidates}
        return self._by_url.get(url)

    def unfit(self, entry: Entry) -> str:
        """Why no section may have it, or ''."""
        return unfit(
            entry.article, entry.story, self.newsletter, key=entry.key, now=self.now, since=self.since, sent=self.sent,
            ran=self.ran,
        )  # fmt: skip

    def fits(self, entry: Entry) -> frozenset[str]:
        """The sections whose conditions an article meets."""
        if entry.sort not in self._sorts:
            fitting = [one for one in self.newsletter.sections if not wrong_sort(entry.article, one)]
            asking = tuple(one for one in fitting if one.categories or one.max_age_hours is not None)
            self._sorts[entry.sort] = frozenset(one.id for one in fitting), asking
        fits, asking = self._sorts[entry.sort]
        article = entry.article
        wrong = [
            one.id for one in asking if wrong_category(article, one) or wrong_age(article, one, self.now)
        ]
        return fits.difference(wrong) if wrong else fits

    def place_pinned(self) -> None:
        """Put what an editor pinned first, whatever the rules say."""
        for url, order in self.placed.items():
            if order.verb != "drop" and (candidate := self.candidate_of(url)):
                section = self._section_for(order, candidate)
                pool = "" if url in self.newslist.entries else "earlier"
                self.take(candidate, section, candidate.points, first=(order.told,), pinned=True, pool=pool)

    def fill(self, section: Section, quota: int, *, thin: bool = False) -> None:
        """
        Fill *section* up to *quota*, each time with what adds most to what the edition has.

        *thin*: also with what other newsletters tell the same readers.
        """
        while len(self.taken[section.id]) < quota:
            best = self._best(self._fitting[section.id], section, thin=thin)
            if best is None:
                return
            self.take(best, section, self.points_in(best, section))

    def _best(self, fitting: Sequence[Candidate], section: Section, *, thin: bool) -> Candidate | None:
        """What of *fitting* (the best first) adds most; of equals what weighs more by itself, then by URL."""
        most_added = most_section_points(section, self.newslist.weights)
        best: Candidate | None = None
        least = (0.0, 0.0, "")
        for one in fitting:
            if best is not None and one.score + most_added + _ROUNDING < -least[0]:
                break
            if one.url in self.used:
                continue
            alone, _ = self._alone(one, section)
            if best is not None and alone + _ROUNDING < -least[0]:
                continue
            place = (-alone - total(self.repeating(one)), -alone, one.url)
            if (best is None or place < least) and not self.refused(one, section, thin=thin):
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
            best = self._best(free, section, thin=False)
            if best is None:
                return
            first = (f"from {told[best.url]}, because {why}",)
            self.take(best, section, self.points_in(best, section), first=first, pool=pool)

    def _barred(self, reserve: Reserve, section: Section) -> bool:
        """Whether *section* may not have it at all: no condition but age is waived, and nothing is told again."""
        article = reserve.article
        readers = {one for one in self.newsletter.audience.classes if one in section.classes}
        order = self.placed.get(article.url)
        story = article.story or article.url
        return bool(
            not readers <= set(reserve.classes)
            or (order is not None and order.verb == "drop")
            or self.candidate_of(article.url) is not None  # it is of the day, and had its chance
            or never_fits(article, self.newsletter, self.now)
            or ran_before(article, headline_key(article.headline), self.sent)
            or story in self.ran
            or any(other.shared > FEW_SHARE for other in self.elsewhere.get(story, ()))
            or wrong_sort(article, section)
            or wrong_category(article, section)
        )

    def _reserve(self, reserve: Reserve) -> Candidate:
        """A candidate whose news is over: its entry is not weighed, for who else carried it and how grave it was."""
        entry = self.newslist.entry_beside(reserve.article)
        points = reader_points(
            reserve.article, self.newsletter, self.newslist.weights, now=self.now, liking=self.liking
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
        if len(candidate.entry.key.split()) < SHORT_HEADLINE_WORDS:
            return ""
        for pick in self.told.values():
            if pick.article.language == candidate.article.language:
                likeness = fuzz.token_sort_ratio(candidate.entry.key, headline_key(pick.article.headline))
                if likeness >= SAME_HEADLINE:
                    return f"a headline {likeness:.0f} % alike as a better placed story: {pick.article.url}"
        return ""

    def repeating(self, candidate: Candidate) -> Points:
        """What the edition has of its country, region, paper and topic already."""
        taken = [pick.article for picks in self.taken.values() for pick in picks]
        weight = self.newslist.weights.repetition
        less = [(words, value * weight) for words, value in repetition(candidate.article, taken)]
        worst = total(less)
        if worst < -_MOST_REPETITION:
            less = [(words, value * _MOST_REPETITION / -worst) for words, value in less]
        return less

    def _clash(self, story: str, section: Section) -> str:
        """Which other newsletter keeps *story* out of *section*, or ''."""
        heads = section.id == self.head
        for other in self.elsewhere.get(story, ()):
            limit = FEW_SHARE if other.lead and heads else MANY_SHARE
            if (other.lead or heads) and other.shared > limit:
                how = "leads" if other.lead else "is in"
                return f"its story {how} {other.newsletter}, which {other.shared:.0%} of the readers get too"
        return ""

    def _candidate(self, entry: Entry, fits: frozenset[str]) -> Candidate:
        """An entry with its points that do not depend on the section."""
        weights = self.newslist.weights
        points = reader_points(entry.source, self.newsletter, weights, now=self.now, liking=self.liking)
        if before := self.ran.get(entry.story.id):
            points.append((f"updated: its story ran in {before.words} and has moved on", 0.0))
        return Candidate(entry, fits, points, total(points) + self.newslist.weigh(entry).score)

    def _alone(self, candidate: Candidate, section: Section) -> tuple[float, Points]:
        """Its points in *section* with those that are the section's own, and their sum."""
        known = self._known.get((candidate.url, section.id))
        if known is None:
            entry, weights = candidate.entry, self.newslist.weights
            weight = total(self.newslist.story_points(entry.story)) if entry.is_weighed else 0.0
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
        if candidate.story in self.ran and not article.kicker:
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
