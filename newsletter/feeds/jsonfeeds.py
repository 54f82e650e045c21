"""JSON Feed, WordPress REST posts and Ghost Content API posts: shapes of JSON that name their fields."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from newsletter.feeds.items import Feed, FeedItem, RawImage


def read_jsonfeed(document: dict[str, Any]) -> Feed:
    """A JSON Feed 1.0 or 1.1; ``_image`` (alt, caption, credit, width, height) and ``_translation`` (from, by, paper) are ours."""
    items = []
    for row in _rows(document["items"]):
        authors = _rows(row.get("authors")) or _rows([row.get("author")])
        more, made = _mapping(row.get("_image")), _mapping(row.get("_translation"))
        picture = _text(row, "image") or _text(row, "banner_image")
        identity = _text(row, "id")
        items.append(
            FeedItem(
                link=_text(row, "url") or (identity if identity.startswith("http") else ""),
                headline=_text(row, "title"),
                headline_is_html=False,
                summary=_text(row, "summary"),
                summary_is_html=False,
                content=_text(row, "content_html") or _text(row, "content_text"),
                byline=", ".join(name for name in (_text(author, "name") for author in authors) if name),
                published=parse_date(_text(row, "date_published") or _text(row, "date_modified")),
                language=_text(row, "language"),
                labels=(
                    *(("", tag) for tag in row.get("tags") or () if isinstance(tag, str)),
                    ("translated-from", _text(made, "from")),
                    ("translator", _text(made, "by")),
                ),
                paper=_text(made, "paper"),
                image=_picture(picture, more) if picture else None,
            )
        )
    return Feed(
        kind="JSON Feed", title=_text(document, "title"), language=_text(document, "language"),
        link=_text(document, "home_page_url"), items=tuple(items),
    )  # fmt: skip


def read_wordpress(document: list[Any]) -> Feed:
    """Posts as ``/wp-json/wp/v2/posts`` gives them, with or without ``_embed``."""
    items = []
    for row in _rows(document):
        embedded = _mapping(row.get("_embedded"))
        terms = [term for group in embedded.get("wp:term") or () for term in _rows(group)]
        media = next(iter(_rows(embedded.get("wp:featuredmedia"))), {})
        items.append(
            FeedItem(
                link=_text(row, "link"),
                headline=_rendered(row, "title"),
                summary=_rendered(row, "excerpt"),
                content=_rendered(row, "content"),
                byline=", ".join(name for name in (_text(author, "name") for author in _rows(embedded.get("author"))) if name),
                published=parse_date(_text(row, "date_gmt") or _text(row, "date")),
                language=_text(row, "lang"),
                labels=tuple(("", _text(term, "name")) for term in terms),
                image=_wordpress_picture(row, media),
            )
        )  # fmt: skip
    return Feed(kind="WordPress REST posts", items=tuple(items))


def _wordpress_picture(row: dict[str, Any], media: dict[str, Any]) -> RawImage | None:
    url = _text(media, "source_url") or _text(row, "jetpack_featured_media_url")
    if not url:
        return None
    details = _mapping(media.get("media_details"))
    meta = _mapping(details.get("image_meta"))
    return RawImage(
        url=url, alt=_text(media, "alt_text"), caption=_rendered(media, "caption"), credit=_text(meta, "credit"),
        width=_number(details.get("width")), height=_number(details.get("height")),
    )  # fmt: skip


def read_ghost(document: dict[str, Any]) -> Feed:
    """Posts as Ghost's Content API gives them (``?include=tags,authors``)."""
    items = []
    for row in _rows(document["posts"]):
        picture = _text(row, "feature_image")
        tags = [_text(tag, "name") for tag in _rows(row.get("tags"))]
        authors = _rows(row.get("authors")) or _rows([row.get("primary_author")])
        items.append(
            FeedItem(
                link=_text(row, "canonical_url") or _text(row, "url"),
                headline=_text(row, "title"),
                headline_is_html=False,
                summary=_text(row, "custom_excerpt") or _text(row, "excerpt"),
                summary_is_html=False,
                content=_text(row, "html"),
                byline=", ".join(name for name in (_text(author, "name") for author in authors) if name),
                published=parse_date(_text(row, "published_at")),
                language=_text(row, "locale"),
                labels=tuple(("", tag) for tag in tags if tag),
                image=RawImage(url=picture, alt=_text(row, "feature_image_alt"), caption=_text(row, "feature_image_caption"))
                if picture
                else None,
                paywalled=_text(row, "visibility") not in ("", "public"),
            )
        )  # fmt: skip
    return Feed(kind="Ghost Content API posts", items=tuple(items))


def parse_date(text: str) -> datetime | None:
    """ISO 8601 or RFC 5322; a time without a zone is UTC (WordPress ``date_gmt``). None if neither."""
    if not text:
        return None
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            moment = read(text.strip())
            return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
        except (ValueError, TypeError, OverflowError):
            continue
    return None


def _rows(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(mapping: dict[str, Any], key: str) -> str:
    value = mapping.get(key)
    return value if isinstance(value, str) else ""


def _rendered(mapping: dict[str, Any], key: str) -> str:
    value = mapping.get(key)
    return _text(value, "rendered") if isinstance(value, dict) else value if isinstance(value, str) else ""


def _number(value: Any) -> int:
    return value if isinstance(value, int) and 0 <= value < 100_000 else 0


def _picture(url: str, more: dict[str, Any]) -> RawImage:
    return RawImage(
        url=url, alt=_text(more, "alt"), caption=_text(more, "caption"), credit=_text(more, "credit"),
        width=_number(more.get("width")), height=_number(more.get("height")),
    )  # fmt: skip
