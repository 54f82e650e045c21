"""
Proof: findings over the final bytes of every variant, as they will be sent, personal tags unfilled.

Nothing here trusts the templates: what must be in a mail is looked for in the mail, and what must not
be in a variant (paid text, adverts, a body or picture we have no right to) is looked for there too.
"""

from __future__ import annotations

import html as html_entities
import re
from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

from lxml import etree
from lxml import html as lxml_html

from newsletter.articles import Rights
from newsletter.catalogue import Newsletter, Publication, class_of, reminding
from newsletter.edition import PERSONAL_TAGS, Item, Rendered, Snapshot
from newsletter.rendering.findings import Finding, Severity, blocks, in_order
from newsletter.settings import is_loopback

CLIP_BYTES = 102_400
"""Gmail cuts the HTML off at about 102 KB (FACTS §8)."""

_WARN_AT = 0.8
_TOKEN_BYTES = 60  # a path and a token of ours, beside the base URL
_EXCERPT_WORDS = 60
_PAID_SENTENCE_CHARACTERS = 40
_LEFTOVER = re.compile(r"\{\{|\}\}|\{%|%\}|<%|%>|\*\||\|\*|%recipient\.")
_OUR_TAG = re.compile(r"\[\[nl:[^\]\s]*\]?\]?")
_DOUBLE_ESCAPED = re.compile(r"&amp;(?:amp|lt|gt|quot|nbsp|#\d+);")
_MARKUP_IN_TEXT = re.compile(r"</?[a-zA-Z][^>\n]{0,200}>|&(?:amp|lt|gt|quot|nbsp|#\d+|#x[0-9a-fA-F]+);")
_REMOTE_CSS = re.compile(r"<link\b[^>]*stylesheet|@import\b", re.IGNORECASE)
_SENTENCE_END = re.compile(r"(?<=[.!?…。؟])\s+")
_SPACES = re.compile(r"\s+")
_ACTIVE = ("script", "iframe", "form", "object", "embed", "video", "audio")

__all__ = ["Finding", "Severity", "blocks", "proof"]


def proof(
    newsletter: Newsletter,
    publication: Publication,
    snapshot: Snapshot,
    renderings: Iterable[Rendered],
    *,
    base_url: str,
) -> tuple[Finding, ...]:
    """Return the findings of an edition, the worst first. *snapshot* is the ungated one."""
    found: list[Finding] = []
    for rendered in renderings:
        found.extend(_Variant(newsletter, publication, snapshot, rendered, base_url).findings())
    found.extend(_edition(newsletter, snapshot, base_url))
    return in_order(found)


def _edition(newsletter: Newsletter, snapshot: Snapshot, base_url: str) -> Iterator[Finding]:
    """What is wrong with the edition whatever the variant."""

    def finding(code: str, severity: Severity, part: str, where: str, message: str) -> Finding:
        return Finding(code, severity, newsletter.slug, "", part, where, message)

    if is_loopback(urlsplit(base_url).hostname or ""):
        yield finding(
            "base-url-loopback", Severity.NOTE, "html", base_url,
            "Links lead to this machine only. Set NEWSLETTER_BASE_URL before real readers get this.",
        )  # fmt: skip
    if snapshot.stories < newsletter.min_stories:
        yield finding(
            "thin", Severity.WARNING, "html", "",
            f"{snapshot.stories} stories where {newsletter.min_stories} are the minimum.",
        )  # fmt: skip
    seen: set[str] = set()
    for item in snapshot.items:
        if not item.headline.strip():
            yield finding(
                "headline-missing",
                Severity.ERROR,
                "html",
                item.url,
                "A story has no headline; edit or drop it.",
            )
        if item.url in seen:
            yield finding(
                "duplicate-story", Severity.ERROR, "html", item.url, "The same story stands twice; drop one."
            )
        seen.add(item.url)
        if item.rights is not Rights.EXCERPT:
            continue
        if item.paragraphs:
            yield finding(
                "rights-body", Severity.ERROR, "html", item.url,
                f"{item.source_name} is an excerpt source: its text may not be printed. Declare its rights or drop the story.",
            )  # fmt: skip
        if item.image is not None:
            yield finding(
                "rights-picture", Severity.ERROR, "html", item.url,
                f"{item.source_name} is an excerpt source: its picture may not be shown. Declare its rights or drop the story.",
            )  # fmt: skip
        if len(item.standfirst.split()) > _EXCERPT_WORDS:
            yield finding(
                "standfirst-long", Severity.ERROR, "html", item.url,
                f"The excerpt of {item.source_name} has more than {_EXCERPT_WORDS} words; shorten it.",
            )  # fmt: skip


class _Variant:
    """The proof of one variant."""

    def __init__(
        self,
        newsletter: Newsletter,
        publication: Publication,
        snapshot: Snapshot,
        rendered: Rendered,
        base_url: str,
    ) -> None:
        self.newsletter, self.publication, self.snapshot = newsletter, publication, snapshot
        self.rendered, self.base_url = rendered, base_url
        self.page = lxml_html.document_fromstring(rendered.html) if rendered.html.strip() else None
        body = self.page.find("body") if self.page is not None else None
        self.visible = _flat(" ".join(body.itertext())) if body is not None else ""

    def findings(self) -> Iterator[Finding]:
        """All checks, in no particular order."""
        yield from self._envelope()
        yield from self._size()
        yield from self._footer()
        yield from self._debris()
        yield from self._gates()
        yield from self._both_parts()
        if self.page is not None:
            yield from self._page(self.page)

    def _finding(self, code: str, severity: Severity, part: str, message: str, where: str = "") -> Finding:
        return Finding(code, severity, self.newsletter.slug, self.rendered.variant, part, where, message)

    def _error(self, code: str, part: str, message: str, where: str = "") -> Finding:
        return self._finding(code, Severity.ERROR, part, message, where)

    def _warning(self, code: str, part: str, message: str, where: str = "") -> Finding:
        return self._finding(code, Severity.WARNING, part, message, where)

    def _envelope(self) -> Iterator[Finding]:
        for part, text, long in (
            ("subject", self.rendered.subject, 150),
            ("preheader", self.rendered.preheader, 250),
        ):
            if not text.strip():
                yield self._error(f"{part}-missing", part, f"There is no {part}; set it in newsletter.toml.")
            if "\n" in text or "\r" in text:
                yield self._error(f"{part}-lines", part, f"The {part} must be a single line.")
            if len(text) > long:
                yield self._warning(
                    f"{part}-long",
                    part,
                    f"The {part} has {len(text)} characters; inboxes cut it long before {long}.",
                )
        if len(self.rendered.subject) > 900:
            yield self._error(
                "subject-too-long", "subject", "The subject is longer than a mail header may be."
            )
        if not self.rendered.html.strip():
            yield self._error("html-missing", "html", "There is no HTML part.")
        if not self.rendered.text.strip():
            yield self._error(
                "text-missing", "text", "There is no text part; the newsletter needs a body.txt.j2."
            )

    def _size(self) -> Iterator[Finding]:
        size = self.rendered.size_bytes
        for tag in PERSONAL_TAGS.values():
            size += self.rendered.html.count(tag) * (len(self.base_url) + _TOKEN_BYTES - len(tag))
        told = f"{size / 1024:.0f} KB of HTML"
        if size > CLIP_BYTES:
            yield self._error(
                "clip",
                "html",
                f"{told}: Gmail cuts it off at 100 KB. Take stories out or shorten the full texts.",
            )
        elif size > CLIP_BYTES * _WARN_AT:
            yield self._warning(
                "clip", "html", f"{told}: near Gmail's 100 KB, and click tracking lengthens every link."
            )

    def _footer(self) -> Iterator[Finding]:
        address = _flat(self.publication.postal_address)
        parts = (
            ("html", self.rendered.html, self.visible),
            ("text", self.rendered.text, _flat(self.rendered.text)),
        )
        for part, raw, visible in parts:
            for name, tag in PERSONAL_TAGS.items():
                if tag not in raw:
                    what = name.removesuffix("_url")
                    yield self._error(
                        f"{what}-missing", part, f"The {what} link is missing from the {part} part."
                    )
            if address not in visible:
                yield self._error(
                    "address-missing", part, "The postal address is missing; the law asks for it."
                )
            if self.newsletter.name not in visible or "because" not in visible.casefold():
                yield self._error(
                    "reason-missing", part, "The line saying why the reader gets this mail is missing."
                )

    def _debris(self) -> Iterator[Finding]:
        for part, text in self._parts():
            visible = self.visible if part == "html" else text
            found = _LEFTOVER.search(visible)
            if found:
                yield self._error(
                    "leftover-token", part, "A template token is left over; neutralise or fill it.", found[0]
                )
            for tag in set(_OUR_TAG.findall(text)) - set(PERSONAL_TAGS.values()):
                yield self._error("unknown-tag", part, "A personal tag that nobody fills.", tag)
        text = self.rendered.text
        words = self._words()
        for found in _MARKUP_IN_TEXT.finditer(text):
            if found[0] not in words:
                yield self._error("text-markup", "text", "Markup in the text part.", found[0][:60])
        found = _DOUBLE_ESCAPED.search(self.rendered.html)
        if found:
            # A source that escapes twice must not cost an edition: told, not blocking.
            yield self._warning(
                "double-escape", "html", "Something was escaped twice; edit the story's words.", found[0]
            )
        if "<mj-" in self.rendered.html or "</mj-" in self.rendered.html:
            at = self.rendered.html.find("<mj-")
            yield self._error(
                "mjml-leak", "html", "An MJML tag was not compiled.", self.rendered.html[at : at + 40]
            )
        opened, closed = self.rendered.html.count("<!--[if"), self.rendered.html.count("<![endif]")
        if opened != closed:
            yield self._error(
                "mso-balance", "html", f"{opened} Outlook conditions are opened and {closed} closed."
            )
        if _REMOTE_CSS.search(self.rendered.html):
            yield self._error(
                "remote-css", "html", "A style sheet is loaded from elsewhere; readers' programs will not."
            )

    def _words(self) -> str:
        """All plain words of the edition: what may look like markup there was written so by an author."""
        return " ".join(
            text
            for item in self.snapshot.items
            for text in (
                item.headline, item.kicker, item.standfirst, item.byline, item.source_name,
                *(html_entities.unescape(re.sub(r"<[^>]+>", "", paragraph)) for paragraph in item.paragraphs),
                *((item.image.caption, item.image.credit) if item.image else ()),
            )
        )  # fmt: skip

    def _parts(self) -> tuple[tuple[str, str], ...]:
        one = self.rendered
        return (
            ("subject", one.subject),
            ("preheader", one.preheader),
            ("html", one.html),
            ("text", one.text),
        )

    def _page(self, page: etree._Element) -> Iterator[Finding]:
        if (page.get("lang") or "und") == "und":
            yield self._error(
                "lang-missing", "html", "The page does not say its language; set lang on <mjml>."
            )
        for tag in _ACTIVE:
            if page.find(f".//{tag}") is not None:
                yield self._error("active-content", "html", f"<{tag}> has no place in a mail.", tag)
        for image in page.iter("img"):
            yield from self._picture(image)
        personal = set(PERSONAL_TAGS.values())
        for link in page.iter("a"):
            if link.get("href") is None:
                continue  # an anchor, not a link
            address = (link.get("href") or "").strip()
            if address in personal:
                if link.get("clicktracking") != "off":
                    yield self._error(
                        "tracked-unsubscribe", "html", 'A personal link may not be tracked: write <a clicktracking="off" href=…>.',
                        address,
                    )  # fmt: skip
                continue
            parts = urlsplit(address)
            if parts.scheme == "mailto" and parts.path:
                continue
            if parts.scheme not in ("http", "https") or not parts.netloc:
                yield self._error("link-relative", "html", "A link is not absolute.", address or "empty")

    def _picture(self, image: etree._Element) -> Iterator[Finding]:
        source = image.get("src") or ""
        parts = urlsplit(source)
        if parts.scheme != "https" or not parts.netloc:
            yield self._error(
                "image-src", "html", "A picture's address is not absolute https.", source[:120] or "empty"
            )
        if image.get("alt") is None:
            yield self._error("image-alt", "html", "A picture has no alt attribute.", source[:120])
        elif not image.get("alt", "").strip() and next(image.iterancestors("a"), None) is not None:
            yield self._warning(
                "image-alt",
                "html",
                "A linked picture has an empty alt: who cannot see it cannot follow it.",
                source[:120],
            )
        if not image.get("width"):
            yield self._warning(
                "image-width",
                "html",
                "A picture has no width; Outlook shows it at its own size.",
                source[:120],
            )

    def _gates(self) -> Iterator[Finding]:
        if class_of(self.rendered.variant) == "paying":
            yield from self._no_adverts()
        else:
            yield from self._no_paid_text()
        yield from self._reminders()
        for item in self.snapshot.items:
            if item.rights is Rights.EXCERPT and item.image and item.image.url in self.rendered.html:
                yield self._error(
                    "rights-picture",
                    "html",
                    f"A picture of {item.source_name}, which is an excerpt source.",
                    item.url,
                )

    def _no_adverts(self) -> Iterator[Finding]:
        texts = dict(self._visible_parts())
        for kind in (self.snapshot.offer, self.snapshot.advert):
            if kind is None:
                continue
            for words in (kind.headline, kind.text):
                for part, visible in texts.items():
                    if _flat(words) in visible:
                        yield self._error(
                            "gate-advert", part, "Paying readers may not get adverts or offers.", words[:60]
                        )
            for part, raw in self._parts():
                if kind.url in raw or html_entities.escape(kind.url) in raw:
                    yield self._error(
                        "gate-advert", part, "Paying readers may not get adverts or offers.", kind.url
                    )
        for mark in ("nl-advert", "nl-offer"):
            if re.search(rf'class="[^"]*\b{mark}\b', self.rendered.html):
                yield self._error(
                    "gate-advert", "html", "Paying readers may not get adverts or offers.", mark
                )

    def _reminders(self) -> Iterator[Finding]:
        """A reminder stands in both parts of its own variant, and in no other."""
        parts = dict(self._visible_parts())
        for reminder in self.snapshot.reminders:
            words = _flat(reminder.headline)
            is_its = self.rendered.variant == reminding(reminder.id)
            for part, visible in parts.items():
                if words in visible and not is_its:
                    yield self._error(
                        "gate-reminder",
                        part,
                        f"The reminder {reminder.id} is not for these readers.",
                        words[:60],
                    )
            for part in ("html", "text"):
                if is_its and words not in parts[part]:
                    yield self._error(
                        "reminder-missing",
                        part,
                        f"The reminder {reminder.id} is missing from the {part} part.",
                    )

    def _no_paid_text(self) -> Iterator[Finding]:
        texts = self._visible_parts()
        free = _flat(" ".join(_free_words(item) for item in self.snapshot.items))
        for item in self.snapshot.items:
            for sentence in paid_sentences(item, free=free):
                for part, visible in texts:
                    if sentence in visible:
                        yield self._error(
                            "gate-paid",
                            part,
                            "Free readers may not get text that members pay for.",
                            sentence[:60],
                        )

    def _visible_parts(self) -> tuple[tuple[str, str], ...]:
        one = self.rendered
        return (
            ("subject", _flat(one.subject)),
            ("preheader", _flat(one.preheader)),
            ("html", self.visible),
            ("text", _flat(one.text)),
        )

    def _both_parts(self) -> Iterator[Finding]:
        page = html_entities.unescape(self.rendered.html)
        for item in self.snapshot.items:
            in_html, in_text = item.url in page, item.url in self.rendered.text
            if in_html != in_text:
                missing = "text" if in_html else "html"
                yield self._warning(
                    "parts-differ", missing, f"A story is missing from the {missing} part.", item.url
                )
            elif not in_html:
                yield self._warning(
                    "story-missing",
                    "html",
                    "A picked story is in neither part; its block does not set it.",
                    item.url,
                )


def _free_words(item: Item) -> str:
    """What everybody may read of a story."""
    return " ".join((item.standfirst, item.headline, item.image.caption if item.image else ""))


def paid_sentences(item: Item, *, free: str) -> Iterator[str]:
    """The sentences of a story that only members may read, flat; not what *free* says anyway."""
    for paragraph in item.paragraphs:
        text = _flat(html_entities.unescape(re.sub(r"<[^>]+>", "", paragraph)))
        for sentence in _SENTENCE_END.split(text):
            if len(sentence) >= _PAID_SENTENCE_CHARACTERS and sentence not in free:
                yield sentence


def _flat(text: str) -> str:
    """*text* on one line, without the marks that keep directions apart."""
    return _SPACES.sub(" ", text.replace("\u2068", "").replace("\u2069", "").replace("\xa0", " ")).strip()
