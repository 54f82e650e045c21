"""Articles into stories, at every collect."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import Engine

from newsletter.articles import Flag
from newsletter.feeds.stored import load_articles
from newsletter.store.grouped import load_links, store_stories
from newsletter.store.session import reading, writing
from newsletter.stories import Link
from newsletter.stories.grouping import Grouping
from newsletter.stories.meaning import Meaning, load_meaning

_GROUPED = timedelta(days=5)
_BEGUN_ANEW = timedelta(hours=12)


@dataclass
class Grouper:
    """Groups articles into stories at every collect, going on from the last one while that is not long ago."""

    engine: Engine
    meaning: Meaning | None = field(default_factory=load_meaning)
    _grouping: Grouping | None = None
    _links: tuple[Link, ...] = ()
    _begun_at: datetime | None = None

    def regroup(self, *, now: datetime) -> None:
        """Group what was published in the last days, and write down each article's story."""
        with reading(self.engine) as session:
            articles = [
                article
                for article in load_articles(session, since=now - _GROUPED, until=now)
                if Flag.FIRST_FETCH not in article.flags
            ]
            links = load_links(session)
        before = {article.url: article.story for article in articles}
        is_fresh = self._begun_at is not None and timedelta(0) <= now - self._begun_at < _BEGUN_ANEW
        if self._grouping is None or links != self._links or not is_fresh:
            known = {url: story for url, story in before.items() if story}
            self._grouping = Grouping(links=links, known=known, meaning=self.meaning)
            self._links, self._begun_at = links, now
        self._grouping.add(articles)
        stories = self._grouping.stories
        with writing(self.engine) as session:
            store_stories(session, {url: stories[url] for url in before if stories[url] != before[url]})
