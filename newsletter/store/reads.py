"""What was read of the stories that ran, for choosing the next ones."""

from __future__ import annotations

from datetime import date

from sqlalchemy import select as columns
from sqlmodel import Session, col

from newsletter.articles import Kind, Region, Topic
from newsletter.picking.liking import Read
from newsletter.store.tables import ArticleRow, StoryRead


def load_reads(session: Session, *, since: date, before: date, slug: str = "") -> tuple[Read, ...]:
    """The counted stories of the editions from *since* on and before *before*: of one newsletter, or of all."""
    query = (
        columns(
            col(StoryRead.newsletter), col(StoryRead.edition_date), col(StoryRead.url), col(StoryRead.place),
            col(StoryRead.readers), col(ArticleRow.topics), col(ArticleRow.region), col(ArticleRow.kind), col(ArticleRow.source),
        )
        .join(ArticleRow, col(ArticleRow.url) == col(StoryRead.url))
        .where(col(StoryRead.edition_date) >= since, col(StoryRead.edition_date) < before)
        .order_by(col(StoryRead.edition_date), col(StoryRead.newsletter), col(StoryRead.place), col(StoryRead.url))
    )  # fmt: skip
    if slug:
        query = query.where(col(StoryRead.newsletter) == slug)
    return tuple(
        Read(
            newsletter=newsletter, day=day, url=url, place=place, readers=readers,
            topics=tuple(Topic(one) for one in topics), region=Region(region), kind=Kind(kind), source=source,
        )
        for newsletter, day, url, place, readers, topics, region, kind, source in session.execute(query)
    )  # fmt: skip
