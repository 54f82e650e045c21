"""The newslist: all there is to choose from, worked out once for the newsletters of a day."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field, replace

from newsletter.articles import Article, headline_key
from newsletter.catalogue import Publication, Weights
from newsletter.picking.fitting import sort_of
from newsletter.picking.liking import Points
from newsletter.picking.weighing import Story, stories_of, story_points, telling_points, total


@dataclass(slots=True)
class Entry:
    """
    An article with what is known of it whoever reads it.

    *source* is the article as its paper tells it, *article* as an editor changed it; *key* its folded headline,
    *sort* a number for what sections ask of it. *points* are worked out when first wanted (``Newslist.weigh``).
    """

    source: Article
    article: Article
    key: str
    sort: int
    story: Story
    points: Points = field(default_factory=list)
    score: float = 0.0
    is_weighed: bool = False


class Newslist:
    """Articles by URL with the stories they tell. *weights* stand in for the publication's."""

    def __init__(
        self, articles: Iterable[Article], publication: Publication, weights: Weights | None = None
    ) -> None:
        self.weights = weights or publication.weights
        self._source_weights = {source.id: source.weight for source in publication.feeds}
        self._story_points: dict[str, Points] = {}
        self._sorts: dict[Hashable, int] = {}
        self._publication = publication
        articles = sorted({one.url: one for one in articles}.values(), key=lambda one: one.url)
        self.stories = stories_of(articles, publication)
        self.entries = {one.url: self._entry(one, self.stories[one.story or one.url]) for one in articles}

    def edited(self, entry: Entry, article: Article) -> Entry:
        """*entry* as it reads now: an edit changes what readers see, not what a story weighs."""
        return replace(entry, article=article, key=headline_key(article.headline), sort=self._sort(article))

    def entry_beside(self, article: Article) -> Entry:
        """An entry for an article that is not on the list; nothing is known of who else tells it."""
        (story,) = stories_of([article], self._publication).values()
        return self._entry(article, story)

    def weigh(self, entry: Entry) -> Entry:
        """*entry* with its points: what its story and its telling weigh, whoever reads it."""
        if not entry.is_weighed:
            entry.points = [*self.telling_points(entry), *self.story_points(entry.story)]
            entry.score = total(entry.points)
            entry.is_weighed = True
        return entry

    def telling_points(self, entry: Entry) -> Points:
        """What an article weighs as the one that tells its story, whoever reads it."""
        weight = self._source_weights.get(entry.source.source, 1.0)
        return telling_points(entry.source, entry.story, self.weights, source_weight=weight)

    def story_points(self, story: Story) -> Points:
        """What a story weighs, whoever tells it."""
        if story.id not in self._story_points:
            self._story_points[story.id] = story_points(story, self.weights)
        return self._story_points[story.id]

    def _entry(self, article: Article, story: Story) -> Entry:
        return Entry(article, article, headline_key(article.headline), self._sort(article), story)

    def _sort(self, article: Article) -> int:
        return self._sorts.setdefault(sort_of(article), len(self._sorts))
