"""The newslist: all there is to choose from, worked out once for the newsletters of a day."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from newsletter.articles import Article, headline_key
from newsletter.catalogue import Publication, Weights
from newsletter.picking.columns import Columns, Floats
from newsletter.picking.liking import Points
from newsletter.picking.weighing import (
    Story,
    carried,
    houses_of,
    most_points,
    story_of,
    story_points,
    telling_points,
    total,
)


@dataclass(slots=True)
class Entry:
    """
    An article with what is known of it whoever reads it.

    *source* is the article as its paper tells it, *article* as an editor changed it; *story* is the id of what it
    tells, *tellings* all that tell it. *row* is where it stands on the list, -1: beside it. *points* are worked out
    when first wanted (``Newslist.weigh``).
    """

    source: Article
    article: Article
    story: str
    tellings: Sequence[Article]
    row: int = -1
    points: Points = field(default_factory=list)
    score: float = 0.0
    is_weighed: bool = False

    @property
    def headline(self) -> tuple[str, str]:
        """Its language and its folded headline: what two have in common that say the same."""
        return self.article.language, headline_key(self.article.headline)


class Newslist:
    """Articles by URL, in that order, with the stories they tell. *weights* stand in for the publication's."""

    def __init__(
        self, articles: Iterable[Article], publication: Publication, weights: Weights | None = None
    ) -> None:
        self.weights = weights or publication.weights
        self._houses = houses_of(publication)
        self._source_weights = {source.id: source.weight for source in publication.feeds}
        self._stories: dict[str, Story] = {}
        self._story_points: dict[str, Points] = {}
        known = {one.url: one for one in articles}
        self._tellings: dict[str, list[Article]] = {}
        self.entries: dict[str, Entry] = {}
        for row, url in enumerate(sorted(known)):
            article = known[url]
            tellings = self._tellings.setdefault(article.story or url, [])
            tellings.append(article)
            self.entries[url] = Entry(article, article, article.story or url, tellings, row)

    @cached_property
    def rows(self) -> Sequence[Entry]:
        """The entries, as their columns have them."""
        return tuple(self.entries.values())

    @cached_property
    def columns(self) -> Columns:
        """What they are compared by before they are weighed."""
        stories = (self.story_of(one) if len(one.tellings) > 1 else None for one in self.rows)
        return Columns([one.source for one in self.rows], map(carried, stories))

    @cached_property
    def most(self) -> Floats:
        """What each weighs at the most, whoever reads it; just what it weighs once that is known."""
        return most_points(self.columns, self.weights, self._source_weights)

    @cached_property
    def by_headline(self) -> dict[tuple[str, str], list[str]]:
        """The URLs under each headline (``Entry.headline``)."""
        found: dict[tuple[str, str], list[str]] = {}
        for url, entry in self.entries.items():
            found.setdefault(entry.headline, []).append(url)
        return found

    def edited(self, entry: Entry, article: Article) -> Entry:
        """*entry* as it reads now: an edit changes what readers see, not what a story weighs."""
        return replace(entry, article=article)

    def entry_beside(self, article: Article) -> Entry:
        """An entry for an article that is not on the list; nothing is known of who else tells it."""
        return Entry(article, article, article.story or article.url, (article,))

    def weigh(self, entry: Entry) -> Entry:
        """*entry* with its points: what its story and its telling weigh, whoever reads it."""
        if not entry.is_weighed:
            entry.points = [*self.telling_points(entry), *self.story_points(entry)]
            entry.score = total(entry.points)
            entry.is_weighed = True
            if entry.row >= 0:
                self.most[entry.row] = entry.score
        return entry

    def telling_points(self, entry: Entry) -> Points:
        """What an article weighs as the one that tells its story, whoever reads it."""
        weight = self._source_weights.get(entry.source.source, 1.0)
        return telling_points(entry.source, self.story_of(entry), self.weights, source_weight=weight)

    def story_points(self, entry: Entry) -> Points:
        """What its story weighs, whoever tells it: as the list has it, if it does."""
        if entry.story not in self._story_points:
            tellings = self._tellings.get(entry.story, entry.tellings)
            self._story_points[entry.story] = story_points(self._story(entry.story, tellings), self.weights)
        return self._story_points[entry.story]

    def story_of(self, entry: Entry) -> Story:
        """What all papers together say of its story."""
        return self._story(entry.story, entry.tellings)

    def _story(self, story: str, tellings: Sequence[Article]) -> Story:
        if tellings is not self._tellings.get(story):  # beside the list
            return story_of(story, tellings, self._houses)
        if story not in self._stories:
            self._stories[story] = story_of(story, tellings, self._houses)
        return self._stories[story]
