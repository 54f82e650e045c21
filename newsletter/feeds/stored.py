"""Articles to rows and back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from datetime import datetime
from typing import Any

from sqlalchemy import func, or_, select
from sqlmodel import Session, SQLModel, col

from newsletter.articles import Article, Flag, Image, Kind, Region, Rights, Topic, fingerprint
from newsletter.store.tables import ArticleRow

_TABLE = SQLModel.metadata.tables[str(ArticleRow.__tablename__)]
_COLUMNS = tuple(
    column.name for column in _TABLE.columns if column.name not in ("id", "fingerprint", "last_seen_at")
)
_AT_ONCE = 500
_LETTERS_A_WORD = 6  # with its space; scripts without spaces say more in fewer
_IMAGE = tuple(field.name for field in fields(Image))


def load_articles(session: Session, *, since: datetime, until: datetime) -> tuple[Article, ...]:
    """Articles published or first seen after *since* and not dated after *until*, by URL."""
    rows = session.execute(
        select(*(_TABLE.c[name] for name in _COLUMNS))
        .where(
            or_(col(ArticleRow.published_at) > since, col(ArticleRow.first_seen_at) > since),
            col(ArticleRow.published_at) <= until,
        )
        .order_by(col(ArticleRow.url))
    )
    return tuple(_to_article(dict(zip(_COLUMNS, row, strict=True))) for row in rows)


def load_by_url(session: Session, urls: Iterable[str]) -> tuple[Article, ...]:
    """The articles of some canonical URLs, as far as they are stored."""
    wanted = sorted(set(urls))
    found: list[Article] = []
    for start in range(0, len(wanted), _AT_ONCE):
        query = select(*(_TABLE.c[name] for name in _COLUMNS)).where(
            col(ArticleRow.url).in_(wanted[start : start + _AT_ONCE])
        )
        found += [_to_article(dict(zip(_COLUMNS, row, strict=True))) for row in session.execute(query)]
    return tuple(found)


def load_long_reads(
    session: Session, *, since: datetime, until: datetime, words: int, most: int = 200
) -> tuple[Article, ...]:
    """The newest *most* pieces of about *words* words or more that are ours to print, published in that time."""
    rows = session.execute(
        select(*(_TABLE.c[name] for name in _COLUMNS))
        .where(
            col(ArticleRow.published_at) > since,
            col(ArticleRow.published_at) <= until,
            col(ArticleRow.rights) != Rights.EXCERPT,
            func.length(col(ArticleRow.body)) >= words * _LETTERS_A_WORD,
        )
        .order_by(col(ArticleRow.published_at).desc(), col(ArticleRow.url))
        .limit(most)
    )
    return tuple(_to_article(dict(zip(_COLUMNS, row, strict=True))) for row in rows)


def find_article(session: Session, url: str) -> Article | None:
    """The article of a canonical URL, as its source tells it now."""
    query = select(*(_TABLE.c[name] for name in _COLUMNS)).where(col(ArticleRow.url) == url)
    row = session.execute(query).first()
    return _to_article(dict(zip(_COLUMNS, row, strict=True))) if row else None


def _to_article(row: dict[str, Any]) -> Article:
    return Article(
        **{
            **row,
            "image": Image(**row["image"]) if row["image"] else None,
            "countries": tuple(row["countries"]),
            "topics": tuple(Topic(topic) for topic in row["topics"]),
            "categories": tuple(row["categories"]),
            "flags": tuple(Flag(flag) for flag in row["flags"]),
            "region": Region(row["region"]),
            "kind": Kind(row["kind"]),
            "rights": Rights(row["rights"]),
        }
    )


def to_row(article: Article, *, seen_at: datetime) -> dict[str, Any]:
    """The article as the values of its row."""
    values: dict[str, Any] = {name: getattr(article, name) for name in _COLUMNS}
    return {
        **values,
        "image": {name: getattr(article.image, name) for name in _IMAGE} if article.image else None,
        "countries": list(article.countries),
        "topics": [str(topic) for topic in article.topics],
        "categories": list(article.categories),
        "flags": [str(flag) for flag in article.flags],
        "region": str(article.region),
        "kind": str(article.kind),
        "rights": str(article.rights),
        "fingerprint": fingerprint(article),
        "last_seen_at": seen_at,
    }
