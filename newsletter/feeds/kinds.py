"""Tell what kind of source a document is, and read it with the reader of that kind."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from newsletter.errors import SourceError
from newsletter.feeds.items import Feed

FEED_NAMES = {".rss", ".xml", ".atom", ".rdf", ".json", ".feed"}
"""Names of files in a folder that may be feeds; others are skipped, and that is said."""

_ROOT = re.compile(r"<([A-Za-z_][\w.-]*:)?([A-Za-z_][\w.-]*)")
_SKIPPED = re.compile(r"<\?.*?\?>|<!--.*?-->|<!DOCTYPE[^\[>]*(\[.*?\])?[^>]*>", re.DOTALL | re.IGNORECASE)
_XML_KINDS = {"rss": "RSS 2.0", "rdf": "RSS 1.0 (RDF)", "feed": "Atom 1.0", "urlset": "Google News sitemap"}


def may_be_feed(path: Path) -> bool:
    """Whether a file in a folder is a feed by its name."""
    return path.suffix.lower() in FEED_NAMES and not path.name.startswith(".")


def read_document(data: bytes, *, source: str, content_type: str = "") -> Feed:
    """
    Read a source's bytes, whatever kind it is.

    Raises:
        SourceError: it is no feed, or nothing of it can be read; a sentence naming *source*.
    """
    if not data.strip():
        raise SourceError(f"{source} is empty.", source=source)
    head = data.lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n")[:1]
    if head in (b"{", b"["):
        return _read_json(data, source)
    root = _root_name(data)
    if root in ("html", "body", "head"):
        raise SourceError(
            f"{source} is an HTML page, not a feed; look for the feed's own address.", source=source
        )
    if root == "urlset":
        from newsletter.feeds.sitemap import read_sitemap

        return read_sitemap(data, source=source)
    if root in _XML_KINDS:
        from newsletter.feeds.syndication import read_syndication

        return read_syndication(data, kind=_XML_KINDS[root], source=source, content_type=content_type)
    if root == "sitemapindex":
        raise SourceError(f"{source} is an index of sitemaps; name the news sitemap itself.", source=source)
    what = f"begins with <{root}>" if root else "is neither XML nor JSON"
    raise SourceError(f"{source} {what}: not a feed we know.", source=source)


def _root_name(data: bytes) -> str:
    head = data[:65_536]
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        text = head.decode("utf-16", "replace")
    elif b"\x00" in head[:4]:
        text = head.decode("utf-16-be" if head[0] == 0 else "utf-16-le", "replace")
    else:
        text = head.decode("latin-1")
    if re.match(r"\s*<!doctype\s+html", text.lstrip("ï»¿"), re.IGNORECASE):
        return "html"
    found = _ROOT.search(_SKIPPED.sub("", text))
    return found[2].lower() if found else ""


def _read_json(data: bytes, source: str) -> Feed:
    from newsletter.feeds import jsonfeeds

    try:
        document: Any = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise SourceError(
            f"{source} is not whole JSON ({error}); nothing of it was read.", source=source
        ) from error
    if isinstance(document, list):
        return jsonfeeds.read_wordpress(document)
    if isinstance(document, dict):
        if isinstance(document.get("items"), list):
            return jsonfeeds.read_jsonfeed(document)
        if isinstance(document.get("posts"), list):
            return jsonfeeds.read_ghost(document)
    raise SourceError(
        f"{source} is JSON, but neither a JSON Feed nor WordPress or Ghost posts.", source=source
    )
