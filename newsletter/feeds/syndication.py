"""RSS 2.0, RSS 1.0/RDF and Atom by feedparser; its sanitiser is off because nh3 does that work."""

from __future__ import annotations

import calendar
import io
import re
import time
from datetime import UTC, datetime
from typing import Any

import feedparser

from newsletter.errors import SourceError
from newsletter.feeds.items import Feed, FeedItem, RawImage

_REFERENCE = re.compile(rb"&#([xX][0-9a-fA-F]{1,12}|[0-9]{1,12});")
_MEDIA_TEXT = re.compile(rb"<(/?)media:(title|description)\b")
_TWICE_ENCODED = re.compile(
    rb"\xc3[\x82-\xb4]\xc2[\x80-\xbf]"
)  # what UTF-8 taken for Latin-1 and encoded again looks like
_BENIGN = ("CharacterEncodingOverride", "NonXMLContentType")


def read_syndication(data: bytes, *, kind: str, source: str, content_type: str = "") -> Feed:
    """
    Read an RSS, RDF or Atom document; a damaged one as far as it can be read.

    Raises:
        SourceError: nothing of it can be read.
    """
    data, mended = _without_impossible_references(data)
    # feedparser 6 takes a picture's media:description for the story's summary and drops media:title;
    # under names it does not know both are handed on as they are.
    data = _MEDIA_TEXT.sub(rb"<\1media:image\2", data)
    # A file object, never the bytes: feedparser would fetch bytes that look like an address.
    headers = {"content-type": content_type} if "xml" in content_type else {}
    try:
        parsed = feedparser.parse(
            io.BytesIO(data), sanitize_html=False, resolve_relative_uris=False, response_headers=headers
        )
    except Exception as fault:  # whatever a stranger's document makes of the parser costs that source only
        raise SourceError(f"{source} cannot be read as {kind}: {_in_words(fault)}.", source=source) from fault
    damage = (
        f"{source} is damaged (a reference to no character); what could be read was kept." if mended else ""
    )
    error = parsed.get("bozo_exception") if parsed.get("bozo") else None
    if error is not None and type(error).__name__ not in _BENIGN:
        damage = f"{source} is damaged ({_in_words(error)}); what could be read was kept."
    entries = parsed.get("entries") or []
    if not entries and damage:
        raise SourceError(f"{source} cannot be read as {kind}: {_in_words(error)}.", source=source)
    feed = parsed.get("feed") or {}
    suspicious = _TWICE_ENCODED.search(data) is not None
    return Feed(
        kind=kind,
        title=_text(feed, "title"),
        language=_text(feed, "language"),
        link=_text(feed, "link"),
        items=tuple(_item(entry, data if suspicious else b"") for entry in entries),
        damage=damage,
    )


def _without_impossible_references(data: bytes) -> tuple[bytes, bool]:
    """Take out references to surrogates and beyond Unicode, at which parsers stop; say whether any was."""
    mended = _REFERENCE.sub(lambda found: found[0] if _is_character(found[1]) else b"\xef\xbf\xbd", data)
    return mended, mended is not data and mended != data


def _is_character(reference: bytes) -> bool:
    number = int(reference[1:], 16) if reference[:1] in b"xX" else int(reference)
    return number <= 0x10FFFF and not 0xD800 <= number <= 0xDFFF and (number >= 32 or number in (9, 10, 13))


def _in_words(error: object) -> str:
    line = getattr(error, "getLineNumber", lambda: None)()
    message = getattr(error, "getMessage", lambda: str(error))()
    return f"line {line}: {message}" if line else str(message)


def _text(mapping: Any, key: str) -> str:
    value = dict.get(mapping, key)  # dict.get: feedparser's own get warns about and mixes up date keys
    return value if isinstance(value, str) else ""


def _list(mapping: Any, key: str) -> list[Any]:
    value = dict.get(mapping, key)
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _was_mended(text: str, data: bytes) -> bool:
    """Whether feedparser undid a double encoding: the document holds *text* encoded twice."""
    return bool(data) and not text.isascii() and text.encode().decode("latin-1").encode() in data


def _item(entry: Any, data: bytes) -> FeedItem:
    summary, content = _text(entry, "summary"), ""
    for part in _list(entry, "content"):
        content = max(content, _text(part, "value"), key=len)
    details = dict.get(entry, "summary_detail") or {}
    return FeedItem(
        link=_link(entry),
        headline=_text(entry, "title"),
        headline_is_html=_text(dict.get(entry, "title_detail") or {}, "type") != "text/plain"
        or "&" in _text(entry, "title"),
        summary=summary,
        summary_is_html=_text(details, "type") != "text/plain" or "&" in summary or "<" in summary,
        content="" if content == summary and len(content) < 400 else content,
        byline=_byline(entry),
        paper=_text(dict.get(entry, "source") or {}, "title"),
        published=_date(entry),
        language=_text(details, "language"),
        mended=_was_mended(_text(entry, "title"), data),
        labels=tuple((_text(tag, "scheme"), _text(tag, "term")) for tag in _list(entry, "tags")),
        image=_image(entry),
        paywalled=_text(entry, "access").lower() in ("subscription", "registration"),
    )


def _link(entry: Any) -> str:
    link = _text(entry, "link")
    if not link:
        for candidate in _list(entry, "links"):
            if _text(candidate, "rel") in ("alternate", ""):
                return _text(candidate, "href")
        identity = _text(entry, "id")
        link = identity if identity.startswith(("http://", "https://")) else ""
    return link


def _byline(entry: Any) -> str:
    names = [name for name in (_text(author, "name") for author in _list(entry, "authors")) if name]
    return ", ".join(dict.fromkeys(names)) or _text(entry, "author")


def _date(entry: Any) -> datetime | None:
    for key in ("published_parsed", "updated_parsed", "created_parsed"):
        value = dict.get(entry, key)
        if isinstance(value, time.struct_time):
            try:
                return datetime.fromtimestamp(calendar.timegm(value), UTC)
            except (ValueError, OverflowError, OSError):
                continue
    return None


def _image(entry: Any) -> RawImage | None:
    """The largest picture the entry names: Media RSS, then thumbnails, then enclosures."""
    candidates = [
        (one, _text(one, "url"))
        for one in _list(entry, "media_content")
        if _text(one, "medium") in ("image", "") and not _text(one, "type").startswith(("video", "audio"))
    ]
    candidates += [(one, _text(one, "url")) for one in _list(entry, "media_thumbnail")]
    candidates += [
        (one, _text(one, "href") or _text(one, "url"))
        for one in _list(entry, "enclosures")
        if _text(one, "type").startswith("image")
    ]
    candidates = [(one, url) for one, url in candidates if url]
    if not candidates:
        return None
    best, url = max(candidates, key=lambda row: _number(_text(row[0], "width")))
    credits = [_text(one, "content") for one in _list(entry, "media_credit")]
    return RawImage(
        url=url,
        alt=_text(entry, "media_imagedescription"),
        caption=_text(entry, "media_imagetitle") or _text(entry, "media_text"),
        credit=next((credit for credit in credits if credit), ""),
        width=_number(_text(best, "width")),
        height=_number(_text(best, "height")),
    )


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0
