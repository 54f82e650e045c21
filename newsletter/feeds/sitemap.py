"""Google News sitemaps, by lxml with everything off that could reach outside or blow up."""

from __future__ import annotations

from lxml import etree

from newsletter.errors import SourceError
from newsletter.feeds.items import Feed, FeedItem, RawImage
from newsletter.feeds.jsonfeeds import parse_date


def read_sitemap(data: bytes, *, source: str) -> Feed:
    """
    Read a news sitemap; a damaged one as far as it can be read.

    Raises:
        SourceError: nothing of it can be read.
    """
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, dtd_validation=False, huge_tree=False,
        recover=True, remove_comments=True, remove_pis=True,
    )  # fmt: skip
    try:
        root = etree.fromstring(data, parser)
    except etree.XMLSyntaxError as error:
        raise SourceError(f"{source} cannot be read as a sitemap: {error.msg}.", source=source) from error
    if root is None:
        raise SourceError(f"{source} cannot be read as a sitemap.", source=source)
    damage = ""
    if len(parser.error_log):
        first = parser.error_log[0]
        damage = f"{source} is damaged (line {first.line}: {first.message}); what could be read was kept."
    items = tuple(_item(node) for node in root if isinstance(node.tag, str) and _name(node) == "url")
    languages = [item.language for item in items if item.language]
    title = next((_find(node, "publication", "name") for node in root.iter() if _name(node) == "news"), "")
    if not items and damage:
        raise SourceError(f"{source} cannot be read as a sitemap: {damage}", source=source)
    return Feed(
        kind="Google News sitemap",
        title=title,
        language=languages[0] if languages else "",
        items=items,
        damage=damage,
    )


def _name(node: etree._Element) -> str:
    return etree.QName(node).localname if isinstance(node.tag, str) else ""


def _find(node: etree._Element, *path: str) -> str:
    """The text at the end of *path* of local names, or ''."""
    for name in path:
        found = next((child for child in node if _name(child) == name), None)
        if found is None:
            return ""
        node = found
    return (node.text or "").strip()


def _item(node: etree._Element) -> FeedItem:
    picture = _find(node, "image", "loc")
    keywords = _find(node, "news", "keywords")
    return FeedItem(
        link=_find(node, "loc"),
        headline=_find(node, "news", "title"),
        headline_is_html=False,
        published=parse_date(_find(node, "news", "publication_date")),
        language=_find(node, "news", "publication", "language"),
        labels=tuple(("", word.strip()) for word in keywords.split(",") if word.strip()),
        image=RawImage(
            url=picture, alt=_find(node, "image", "title"), caption=_find(node, "image", "caption")
        )
        if picture
        else None,
        paywalled=_find(node, "news", "access").lower() in ("subscription", "registration"),
    )
