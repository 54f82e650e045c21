"""Stories as stored: the id each article carries, and what editors said of two articles."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import bindparam, delete, or_, update
from sqlmodel import Session, SQLModel, col, select

from newsletter.errors import NotFound
from newsletter.store.tables import ArticleRow, StoryLink
from newsletter.stories import Link

_ARTICLE = SQLModel.metadata.tables[str(ArticleRow.__tablename__)]


def store_stories(session: Session, stories: Mapping[str, str]) -> None:
    """Write the story id of each URL."""
    rows = [{"of_url": url, "story_id": story} for url, story in sorted(stories.items())]
    if rows:
        session.connection().execute(
            update(_ARTICLE).where(_ARTICLE.c.url == bindparam("of_url")).values(story=bindparam("story_id")),
            rows,
        )


def load_links(session: Session) -> tuple[Link, ...]:
    """All that editors said, in a fixed order."""
    rows = session.exec(select(StoryLink).order_by(col(StoryLink.url), col(StoryLink.other))).all()
    return tuple(Link(row.url, row.other, together=row.together) for row in rows)


def merge_stories(session: Session, url: str, other: str, *, actor: str, at: datetime) -> int:
    """
    Say that two articles tell one story; return 1.

    Raises:
        NotFound: one of them is not stored.
    """
    _story_of(session, url)
    _story_of(session, other)
    _say(session, url, other, together=True, actor=actor, at=at)
    return 1


def split_story(session: Session, url: str, *, actor: str, at: datetime) -> int:
    """
    Say that an article does not belong to the others of its story; return how many those are.

    Raises:
        NotFound: it is not stored, or alone in its story already.
    """
    story = _story_of(session, url)
    others = session.exec(
        select(ArticleRow.url)
        .where(ArticleRow.story == story, ArticleRow.url != url)
        .order_by(col(ArticleRow.url))
    ).all()
    if not story or not others:
        raise NotFound(f"{url} tells its story alone; there is nothing to split it from.")
    for other in others:
        _say(session, url, other, together=False, actor=actor, at=at)
    return len(others)


def _story_of(session: Session, url: str) -> str:
    row = session.exec(select(ArticleRow).where(ArticleRow.url == url)).first()
    if row is None:
        raise NotFound(f"There is no article {url}; newsletter articles lists what there is.")
    return row.story


def _say(session: Session, url: str, other: str, *, together: bool, actor: str, at: datetime) -> None:
    one, two = sorted((url, other))
    session.execute(
        delete(StoryLink).where(
            or_(
                (col(StoryLink.url) == one) & (col(StoryLink.other) == two),
                (col(StoryLink.url) == two) & (col(StoryLink.other) == one),
            )
        )
    )
    session.add(StoryLink(url=one, other=two, together=together, actor=actor, given_at=at))
