"""What all checks share: an edition and each of its variants, read once."""

from __future__ import annotations

import html as html_entities
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from lxml import etree

from newsletter.catalogue import Newsletter, Publication
from newsletter.edition import PERSONAL_TAGS, Item, Rendered, Snapshot
from newsletter.rendering.codes import finding
from newsletter.rendering.findings import Finding, Severity

CLIP_BYTES = 102_400
"""Gmail cuts the HTML off at about 102 KB (FACTS §8)."""
BUDGET_BYTES = CLIP_BYTES * 8 // 10
"""What an edition is made up to hold, tracking and all: clients count differently, and a footer may grow."""
TRACKED_BYTES = 300
"""What click tracking adds to a link at most (FACTS §8: about 100 to 300 bytes)."""
PERSONAL = frozenset(PERSONAL_TAGS.values())
MAGAZINE = frozenset(
    f"{PERSONAL_TAGS['view_url']}/{path}" for path in ("magazine.pdf", "magazine.epub", "issues")
)
PERSONAL_LINKS = PERSONAL | MAGAZINE
"""The whole addresses in which a personal tag may stand."""

_MARKUP = re.compile(r"<[^>]+>")
_HREF = re.compile(r'href="([^"]*)"')
_MARKS = ("\u2068", "\u2069", "\u2060")


def flat(text: str) -> str:
    """*text* on one line, without the marks that keep directions apart and tokens from being taken for such."""
    if not text.isascii():
        for mark in _MARKS:
            text = text.replace(mark, "")
    return " ".join(text.split())


def plain(fragment: str) -> str:
    """An HTML fragment's words."""
    return html_entities.unescape(_MARKUP.sub("", fragment))


def words_of(item: Item) -> tuple[str, ...]:
    """All words a story's source wrote, as plain text."""
    image = (item.image.alt, item.image.caption, item.image.credit) if item.image else ()
    return (
        item.headline, item.kicker, item.standfirst, item.byline, item.dateline, item.source_name, item.translator, item.paper,
        *image,
        *map(plain, item.paragraphs),
    )  # fmt: skip


@dataclass(frozen=True)
class Edition:
    """
    What is proofed, whatever the variant.

    *snapshot* is the ungated one; *last* is the last edition's subject and preheader.
    """

    newsletter: Newsletter
    publication: Publication
    snapshot: Snapshot
    base_url: str
    now: datetime
    last: tuple[str, str]

    @cached_property
    def words(self) -> str:
        """All words that came from sources, flat: what looks odd there is theirs."""
        return "\n".join(flat(text) for item in self.snapshot.items for text in words_of(item))

    @cached_property
    def addresses(self) -> frozenset[str]:
        """All addresses that came from sources, without spaces."""
        found: set[str] = set()
        for item in self.snapshot.items:
            found.add(item.url)
            if item.image:
                found.add(item.image.url)
            for paragraph in item.paragraphs:
                found.update(map(html_entities.unescape, _HREF.findall(paragraph)))
        return frozenset("".join(address.split()) for address in found)

    def is_theirs(self, address: str) -> bool:
        """Whether a source gave *address*, as a link or in its words."""
        return "".join(address.split()) in self.addresses or (bool(address) and address in self.words)

    def find(self, code: str, *, part: str = "html", where: str = "", message: str = "") -> Finding:
        """A finding about the edition as a whole."""
        return finding(code, self.newsletter.slug, part=part, where=where, message=message)


class Variant:
    """One variant: its page parsed, its words in reading order, its links and pictures."""

    def __init__(self, edition: Edition, rendered: Rendered) -> None:
        self.edition, self.rendered = edition, rendered
        self.page = parsed(rendered.html)
        self.elements: tuple[Any, ...] = () if self.page is None else tuple(self.page.iter())
        body = self.page.find("body") if self.page is not None else None
        self.body = body
        self.texts: tuple[str, ...] = () if body is None else tuple(body.itertext())
        self.visible = flat(" ".join(self.texts))
        self.text = flat(rendered.text)

    @cached_property
    def parts(self) -> tuple[tuple[str, str], ...]:
        """What a reader sees of each part, on one line."""
        one = self.rendered
        return (
            ("subject", flat(" ".join(one.subjects))), ("preheader", flat(one.preheader)), ("html", self.visible),
            ("text", self.text),
        )  # fmt: skip

    @property
    def inbox_lines(self) -> tuple[tuple[str, str], ...]:
        """Part and words of what an inbox shows: every subject it may go out with, and the preheader."""
        subjects = (("subject", subject) for subject in self.rendered.subjects)
        return (*subjects, ("preheader", self.rendered.preheader))

    @cached_property
    def classes(self) -> frozenset[str]:
        """Every class an element of the page has."""
        said = {value for element in self.elements if (value := element.get("class"))}
        return frozenset(name for value in said for name in value.split())

    def of(self, *tags: str) -> Iterator[Any]:
        """The page's elements of these names, in document order."""
        return (element for element in self.elements if element.tag in tags)

    @cached_property
    def pieces(self) -> tuple[tuple[str, str], ...]:
        """What a reader sees, in pieces as they are written: a page's text nodes, a text's paragraphs."""
        one = self.rendered
        return (
            *(("subject", subject) for subject in one.subjects), ("preheader", one.preheader), *(("html", text) for text in self.texts),
            *(("text", text) for text in one.text.split("\n\n")),
        )  # fmt: skip

    @cached_property
    def links(self) -> tuple[tuple[Any, str], ...]:
        """Every link of the page with its address; anchors are none."""
        return tuple(
            (link, link.get("href").strip()) for link in self.of("a") if link.get("href") is not None
        )

    @cached_property
    def pictures(self) -> tuple[tuple[Any, str], ...]:
        """Every picture of the page with its address."""
        return tuple((image, image.get("src", "").strip()) for image in self.of("img"))

    @property
    def tracked_bytes(self) -> int:
        """The size of the HTML once click tracking has lengthened every link that it may."""
        return _tracked(self.rendered, (link for link, _ in self.links))

    def find(
        self, code: str, part: str = "html", *, where: str = "", message: str = "", is_theirs: bool = False
    ) -> Finding:
        """A finding in this variant; *is_theirs*: a source caused it, so it is at most a warning."""
        return finding(
            code, self.edition.newsletter.slug, variant=self.rendered.variant, part=part, where=where[:300],
            message=message, at_most=Severity.WARNING if is_theirs else Severity.ERROR,
        )  # fmt: skip


def tracked_bytes(rendered: Rendered) -> int:
    """The size of the HTML of a variant once click tracking has lengthened every link that it may."""
    page = parsed(rendered.html)
    return _tracked(rendered, page.iter("a") if page is not None else ())


def over_budget(rendered: Rendered) -> bool:
    """Whether a variant, tracking and all, is larger than ``BUDGET_BYTES``."""
    most = (
        rendered.size_bytes + rendered.html.count('href="http') * TRACKED_BYTES
    )  # no parsing where it is small
    return most > BUDGET_BYTES and tracked_bytes(rendered) > BUDGET_BYTES


def _tracked(rendered: Rendered, links: Iterable[Any]) -> int:
    lengthened = sum(
        (link.get("href") or "").strip().startswith("http") and link.get("clicktracking") != "off"
        for link in links
    )
    return rendered.size_bytes + int(lengthened) * TRACKED_BYTES


def content(element: Any) -> str:
    """All words in an element, on one line."""
    return flat("".join(element.itertext()))


def parsed(page: str) -> Any:
    """The page as a tree without comments (Outlook's conditions are some), or None when there is none."""
    if not page.strip():
        return None
    try:
        return etree.fromstring(page, etree.HTMLParser(remove_comments=True, remove_pis=True))
    except (
        etree.ParserError,
        etree.XMLSyntaxError,
        ValueError,
    ):  # nothing but comments; no characters of a page
        return None
