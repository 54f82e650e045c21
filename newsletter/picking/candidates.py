"""
Candidates: what may run in a newsletter, and in which of its sections, whatever has been taken by then.

What may run is looked at by what it can weigh for the newsletter at the most, the most first; whether one may
really run, and what it weighs, is found out when it is looked at.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np

from newsletter.articles import Article
from newsletter.catalogue import Newsletter, Section
from newsletter.picking.fitting import (
    Ran,
    conditions,
    told_before,
    unfit,
    wrong_age,
    wrong_category,
    wrong_trait,
)
from newsletter.picking.liking import Liking, Points
from newsletter.picking.newslist import Entry, Newslist
from newsletter.picking.orders import Order
from newsletter.picking.weighing import most_reader_points, reader_points, total

ROUNDING = 1e-9
"""By so much the same points may differ when they were added up in another order."""


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
        return self.entry.story


@dataclass
class Candidates:
    """
    The candidates of one newsletter; ``picks.pick_articles`` says what the arguments are.

    *changed* are entries that editors edited, or that are beside the newslist, by URL. *placed* are the orders that
    pin, move or drop, by URL, the last on each, in the order of giving.
    """

    newsletter: Newsletter
    newslist: Newslist
    changed: Mapping[str, Entry]
    placed: Mapping[str, Order]
    now: datetime
    since: datetime
    sent: Mapping[str, str]
    ran: Mapping[str, Ran]
    liking: Liking
    _known: dict[str, Candidate | None] = field(default_factory=dict)  # URL → ``of``
    _ranked: dict[str, tuple[list[float], list[int]]] = field(default_factory=dict)  # section → ``_rank``

    def __post_init__(self) -> None:
        self.asked = {section.id: conditions(section) for section in self.newsletter.sections}
        self.oldest = self.now - timedelta(hours=self.newsletter.window_hours)
        self._rank()

    def _rank(self) -> None:
        """Find the rows of the newslist that each section may take, those first that can weigh most, with that weight."""
        newsletter, columns = self.newsletter, self.newslist.columns
        most = self.newslist.most + most_reader_points(
            columns, newsletter, self.newslist.weights, now=self.now, liking=self.liking
        )
        may_run = (columns.published > self.oldest.timestamp()) & (columns.published <= self.now.timestamp())
        may_run &= columns.came > self.since.timestamp()
        may_run &= columns.traits["kind"].where(lambda kind: kind not in newsletter.kinds_never)
        rows = np.flatnonzero(may_run)
        rows = rows[np.argsort(-most[rows], kind="stable")]
        for section in newsletter.sections:
            fits = np.ones(len(most), np.bool_)
            for asked in self.asked[section.id]:
                fits &= columns.traits[asked.trait].where(asked.is_met)
            if section.max_age_hours is not None:
                fits &= columns.hours_old(self.now) <= section.max_age_hours + ROUNDING
            mine = rows[fits[rows]]
            self._ranked[section.id] = (most[mine] + ROUNDING).tolist(), mine.tolist()

    def entries(self) -> Iterator[Entry]:
        """All that could be chosen, in the order of their URLs."""
        if not self.changed:
            return iter(self.newslist.rows)
        entries = {**self.newslist.entries, **self.changed}
        return (entries[url] for url in sorted(entries))

    def of(self, url: str) -> Candidate | None:
        """The candidate of that URL: what may run, or what an editor pinned."""
        if url not in self._known:
            entry = self.changed.get(url) or self.newslist.entries.get(url)
            self._known[url] = self._considered(entry) if entry else None
        return self._known[url]

    def coming(self, section: Section) -> Iterator[tuple[float, Candidate]]:
        """What *section* may take, with what it weighs at the most; the most first, after what an editor changed."""
        for url in self.changed:
            if (candidate := self.of(url)) and section.id in candidate.fits:
                yield math.inf, candidate
        rows = self.newslist.rows
        for most, row in zip(*self._ranked[section.id], strict=True):
            candidate = self.of(rows[row].source.url)
            if candidate is not None and section.id in candidate.fits:
                yield most, candidate

    def better_placed(self, candidate: Candidate) -> str:
        """The URL of a candidate with the same headline that is placed, or weighs more; or ''."""
        if candidate.url in self.placed or not candidate.fits:  # by an editor, or of a pool
            return ""
        headline = candidate.entry.headline
        urls = {*self.newslist.by_headline.get(headline, ()), *self.changed}
        others = [one for url in urls if (one := self.of(url)) and one.entry.headline == headline]
        best = min(others, key=lambda one: (one.url not in self.placed, -one.score, one.url))
        return best.url if best is not candidate else ""

    def unfit(self, entry: Entry) -> str:
        """Why no section may have it, or ''."""
        why = unfit(entry.article, self.newsletter, now=self.now, since=self.since, sent=self.sent)
        if not why and (before := self.ran.get(entry.story)):
            return told_before(entry.article, self.newslist.story_of(entry), before)
        return why

    def _considered(self, entry: Entry) -> Candidate | None:
        """*entry* as a candidate, unless it may not run."""
        order = self.placed.get(entry.article.url)
        if order is not None:
            return None if order.verb == "drop" else self._weighed(entry, self._fits(entry))
        if entry.article.published_at <= self.oldest or not (fits := self._fits(entry)) or self.unfit(entry):
            return None
        return self._weighed(entry, fits)

    def _fits(self, entry: Entry) -> frozenset[str]:
        """The sections whose conditions an article meets."""
        article = entry.article
        return frozenset(
            one.id
            for one in self.newsletter.sections
            if not wrong_trait(article, self.asked[one.id])
            and not wrong_category(article, one)
            and not wrong_age(article, one, self.now)
        )

    def _weighed(self, entry: Entry, fits: frozenset[str]) -> Candidate:
        """An entry with its points that do not depend on the section."""
        weights = self.newslist.weights
        points = reader_points(entry.source, self.newsletter, weights, now=self.now, liking=self.liking)
        if before := self.ran.get(entry.story):
            points.append((f"updated: its story ran in {before.words} and has moved on", 0.0))
        return Candidate(entry, fits, points, total(points) + self.newslist.weigh(entry).score)
