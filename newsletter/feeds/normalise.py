"""From a raw item to an ``Article``: nothing a source says is trusted, nothing usable is lost."""

from __future__ import annotations

import copy
import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any
from urllib.parse import urljoin, urlsplit

import ftfy
import ftfy.badness
import nh3

from newsletter.about import subject_of
from newsletter.about.places import whereabouts
from newsletter.articles import Article, Flag, Image, Rights, canonical_url, headline_key, shortened
from newsletter.catalogue import Publication, Source
from newsletter.feeds.items import Feed, FeedItem, RawImage
from newsletter.feeds.preambles import parted

EXCERPT_WORDS = 60
MAX_HEADLINE = 300
MAX_DEPTH = 100
"""Nesting of a body beyond which its tags are dropped: 16,000 kill the MJML compiler (RENDERING §1.2)."""

_BODY_TAGS = {"p", "br", "b", "i", "em", "strong", "a", "ul", "ol", "li", "blockquote", "h2", "h3", "h4"}
_DROPPED_WITH_CONTENT = {"script", "style", "iframe", "object", "svg", "math", "noscript", "template", "form"}
# U+202D and U+202E turn a line's reading direction over: no text needs them, forgers do.
_UNPRINTABLE = re.compile("[\u202d\u202e\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff\ufeff]")
_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]*)[^>]*?(/?)>")
_BLOCK = re.compile(
    r"</?(?:p|br|div|li|ul|ol|h[1-6]|blockquote|t[dhr]|d[dt]|figcaption|section)\b", re.IGNORECASE
)
_VOID = {"br", "img", "hr", "input", "meta", "link", "source", "wbr", "col", "area", "embed"}
_SPACES = re.compile(r"\s+")
_FIRST_IMAGE = re.compile(r"<img\b[^>]*?\bsrc\s*=\s*[\"']([^\"']+)[\"'][^>]*>", re.IGNORECASE)
_ALT = re.compile(r"\balt\s*=\s*[\"']([^\"']*)[\"']", re.IGNORECASE)
_DATELINE = re.compile(r"^\s*((?:[^\W\d_a-z]|[ .,'’\-/]){3,60}?)\s+[—–]\s+(?=\S)", re.UNICODE)
_TITLE_PARTS = re.compile(r"\s+[-–—|>»:]\s+|:\s+")
_SECTION_NAMES = {
    "world", "world news", "news", "home", "home page", "latest", "top stories", "international", "новости", "noticias", "actualités",
}  # fmt: skip
_EARLIEST_YEAR = 1995
_FACTS = ("country", "translated-from", "translator")  # labels of ours that are no categories
_PAYWALL_LABELS = {"premium", "subscribers only", "subscriber only", "abonnés", "réservé aux abonnés", "plus"}
_SCRIPTS = (
    ("he", re.compile("[\u0590-\u05ff]")),
    ("hi", re.compile("[\u0900-\u097f]")),
    ("ja", re.compile("[\u3040-\u30ff]")),
    ("ko", re.compile("[\uac00-\ud7af]")),
    ("zh", re.compile("[\u3400-\u9fff]")),
    ("ar", re.compile("[\u0600-\u06ff]")),
    ("ru", re.compile("[\u0400-\u04ff]")),
    ("el", re.compile("[\u0370-\u03ff]")),
    ("th", re.compile("[\u0e00-\u0e7f]")),
)
_NOT_LATIN = re.compile("[\u0370-\u07ff\u0900-\u0e7f\u3040-\u9fff\uac00-\ud7af]")
_SAME_SCRIPT = {
    "he": {"he", "iw", "yi"}, "hi": {"hi", "mr", "ne"}, "ja": {"ja"}, "ko": {"ko"}, "zh": {"zh", "yue", "ja"},
    "ar": {"ar", "fa", "ur", "ps", "ug", "sd"}, "ru": {"ru", "uk", "be", "bg", "sr", "mk", "kk", "ky", "tg", "mn"},
    "el": {"el"}, "th": {"th"},
}  # fmt: skip


class Refusal(ValueError):
    """An entry that cannot become an article; the message says why."""


@dataclass(frozen=True, slots=True)
class Context:
    """What is known of the source while its items are read. *first_fetch*: nothing was stored before."""

    source: Source
    publication: Publication
    feed: Feed
    now: datetime
    first_fetch: bool


def to_article(item: FeedItem, context: Context) -> Article:
    """
    Make an article of *item*.

    Raises:
        Refusal: it has no usable address or no headline.
    """
    source = context.source
    base = context.feed.link or (source.url if "://" in source.url else "")
    url = canonical_url(urljoin(base, item.link.strip()) if item.link.strip() else "")
    if not url:
        raise Refusal("no usable link" if item.link else "no link")
    texts = _Texts()
    headline = shortened(texts.plain(item.headline, is_html=item.headline_is_html), MAX_HEADLINE)
    if not headline:
        raise Refusal("no headline")
    printable = source.rights is not Rights.EXCERPT
    content = _capped(item.content or (item.summary if item.summary_is_html and "<p" in item.summary else ""))
    standfirst = texts.plain(_capped(item.summary), is_html=item.summary_is_html)
    if headline_key(standfirst) == headline_key(headline):  # told once is enough
        standfirst = ""
    if not standfirst and content:
        standfirst = first_words(texts.plain(content, is_html=True), EXCERPT_WORDS)
    told = parted(standfirst)
    standfirst = told.text
    body = texts.body(content, base=url) if printable else ""
    if not printable:
        standfirst = first_words(standfirst, EXCERPT_WORDS)
    labels = [
        (scheme, texts.plain(term, is_html="&" in term)) for scheme, term in item.labels if term.strip()
    ]
    categories = tuple(dict.fromkeys(term for scheme, term in labels if scheme not in _FACTS))
    language = _language(item, context, f"{headline} {standfirst}")
    where = whereabouts(
        headline,
        f"{told.place} — {standfirst}" if told.place else standfirst,
        labels=_places_declared(labels),
        country=source.country,
        url=url,
        language=language,
    )
    dateline, body = _dateline(body)
    dateline = dateline or told.place
    picture = _image(item, content, texts) if printable else None
    flags = [*texts.flags, *([Flag.MOJIBAKE] if item.mended else [])]
    if not printable and (item.image or _FIRST_IMAGE.search(content)):
        flags.append(Flag.NO_PICTURE_RIGHTS)
    published, date_flags = _published(item.published, context)
    about = subject_of(
        headline, standfirst, categories=categories, url=url,
        topics=context.publication.topics, kinds=context.publication.kinds,
    )  # fmt: skip
    source_name = source.name or publisher_name(context.feed.title) or source.id
    paper = shortened(texts.plain(item.paper, is_html="&" in item.paper), 60) or told.paper
    return Article(
        url=url,
        source=source.id,
        source_name=source_name,
        headline=headline,
        kicker=texts.plain(item.kicker, is_html=True),
        standfirst=standfirst,
        byline=texts.plain(item.byline, is_html="&" in item.byline) or told.byline,
        dateline=dateline,
        body=body,
        image=picture,
        language=language,
        countries=where.countries,
        region=source.region or where.region,
        topics=about.topics or source.topics,
        kind=about.kind,
        categories=categories,
        translated_from=_fact("translated-from", labels).lower(),
        translator=_fact("translator", labels),
        paper=paper if headline_key(paper) != headline_key(source_name) else "",
        paywalled=item.paywalled or any(term.casefold() in _PAYWALL_LABELS for term in categories),
        rights=source.rights,
        published_at=published,
        first_seen_at=context.now,
        flags=tuple(dict.fromkeys([*flags, *date_flags])),
    )


def _fact(scheme: str, labels: Sequence[tuple[str, str]]) -> str:
    """What a label of ours (``<category domain="translator">``) says, or ''."""
    return next((term for known, term in labels if known == scheme), "")


class _Texts:
    """Cleans the texts of one item and remembers what had to be mended."""

    def __init__(self) -> None:
        self.flags: list[Flag] = []

    def plain(self, text: str, *, is_html: bool) -> str:
        """Plain text on one line: markup gone, entities decoded once, characters mended."""
        if is_html and ("<" in text or "&" in text):
            text = _BLOCK.sub(r" \g<0>", text)
            text = html.unescape(nh3.clean(text, tags=set(), clean_content_tags=_DROPPED_WITH_CONTENT))
        return _SPACES.sub(" ", self._mended(text)).strip()

    def body(self, content: str, *, base: str) -> str:
        """Sanitised HTML with a small set of tags; links absolute, http(s) only."""
        if not content:
            return ""
        cleaned = nh3.clean(
            content, tags=_BODY_TAGS, clean_content_tags=_DROPPED_WITH_CONTENT, attributes={"a": {"href"}},
            url_schemes={"http", "https", "mailto"}, link_rel=None,
            attribute_filter=lambda _tag, _name, value: urljoin(base, value),
        )  # fmt: skip
        return self._mended(cleaned).strip()

    def _mended(self, text: str) -> str:
        """*text* with broken characters mended first (C1 controls are the trace of what broke) and the rest gone."""
        if text.isascii():
            return text if text.isprintable() else _UNPRINTABLE.sub("", text)
        if ftfy.badness.is_bad(text):
            mended = ftfy.fix_encoding(text)
            if mended != text:
                self.flags.append(Flag.MOJIBAKE)
                text = mended
        return _UNPRINTABLE.sub("", text)


def _capped(content: str) -> str:
    """*content*, or its bare text where tags nest too deep to be handed on to any parser."""
    if content.count("<") < MAX_DEPTH:
        return content
    depth = 0
    for closing, name, closed in _TAG.findall(content):
        if closed or name.lower() in _VOID:
            continue
        depth += -1 if closing else 1
        if depth > MAX_DEPTH:
            return html.escape(html.unescape(_TAG.sub(" ", content)), quote=False)
    return content


def first_words(text: str, limit: int) -> str:
    """*text* in at most *limit* words, cut after a sentence if one ends late enough, else with an ellipsis."""
    words = text.split()
    if len(words) <= limit:
        return text
    kept = words[: limit - 1]
    for index in range(len(kept) - 1, limit // 2, -1):
        if kept[index].endswith((".", "!", "?", "。", "؟", ".”", ".»")):
            return " ".join(kept[: index + 1])
    return " ".join(kept).rstrip(",;:–—-") + " …"


@lru_cache(maxsize=256)
def publisher_name(title: str) -> str:
    """
    The paper's name in a feed's title: ``Le Monde.fr - Actualités …`` is Le Monde.fr.

    The first part, unless that is only a section's name (``World – The Indian Express``).
    """
    plain = _Texts().plain(title, is_html="&" in title or "<" in title)
    parts = [part.strip() for part in _TITLE_PARTS.split(plain) if part.strip()]
    named = [part for part in parts if part.casefold() not in _SECTION_NAMES]
    return shortened((named or parts or [""])[0], 60)


def _published(published: datetime | None, context: Context) -> tuple[datetime, list[Flag]]:
    latest = context.now + timedelta(days=3660)
    if published is None or published.year < _EARLIEST_YEAR or published > latest:
        return context.now, [Flag.UNDATED, *([Flag.FIRST_FETCH] if context.first_fetch else [])]
    return published, [Flag.FUTURE] if published > context.now else []


# --- language -----------------------------------------------------------------------------------


def _language(item: FeedItem, context: Context, text: str) -> str:
    """Declared by the item, the source's settings or the feed; a script that contradicts it wins."""
    declared = next(
        (
            tag
            for tag in (_tag(item.language), _tag(context.source.language), _tag(context.feed.language))
            if tag
        ),
        "",
    )
    foreign = not text.isascii() and _NOT_LATIN.search(text) is not None
    letters = sum(character.isalpha() for character in text) or 1 if foreign else 1
    for language, pattern in _SCRIPTS if foreign else ():
        if len(pattern.findall(text)) * 2 > letters:
            primary = declared.split("-")[0]
            if primary in _SAME_SCRIPT[language]:
                return declared
            return (
                language
                if language not in ("ar", "ru")
                else _detect(text, tuple(sorted(_SAME_SCRIPT[language])))
            )
    latin_declared = declared and not any(declared.split("-")[0] in same for same in _SAME_SCRIPT.values())
    return declared if latin_declared else _detect(text, ())


def _tag(language: str) -> str:
    """A BCP 47 tag in its usual case, or '' if it is none."""
    parts = language.strip().replace("_", "-").split("-")
    if not re.fullmatch(r"[A-Za-z]{2,3}", parts[0]) or parts[0].lower() == "und":
        return ""
    rest = [
        part.upper() if len(part) == 2 else part.title() if len(part) == 4 else part for part in parts[1:3]
    ]
    return "-".join([parts[0].lower(), *rest])


@lru_cache(maxsize=1)
def _whole_model() -> Any:
    """The language model, unpacked once (0.4 s) and only when a source does not say its language."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


@lru_cache(maxsize=8)
def _identifier(languages: tuple[str, ...]) -> Any:
    """The model narrowed to *languages* (empty: those in Latin script)."""
    identifier = copy.copy(_whole_model())
    known = set(identifier.labels)
    identifier.set_languages([one for one in (languages or _LATIN) if one in known])
    return identifier


_LATIN = (
    "en",
    "fr",
    "es",
    "de",
    "it",
    "pt",
    "nl",
    "pl",
    "tr",
    "sv",
    "da",
    "no",
    "fi",
    "cs",
    "ro",
    "hu",
    "id",
    "vi",
    "sw",
    "ca",
)


@lru_cache(maxsize=4096)
def _detect(text: str, languages: tuple[str, ...]) -> str:
    if len(text.split()) < 3 and text.isascii():
        return "und"
    found, _ = _identifier(languages).classify(text[:400])
    return str(found)


# --- places -------------------------------------------------------------------------------------


def _places_declared(labels: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """The labels that may name a place: those declared as countries, and all but the shortest others."""
    return tuple(term for scheme, term in labels if scheme == "country" or len(term) > 2)


# --- pictures and datelines ---------------------------------------------------------------------


def _image(item: FeedItem, content: str, texts: _Texts) -> Image | None:
    raw = item.image
    if raw is None:
        found = _FIRST_IMAGE.search(content)
        if found is None:
            return None
        alt = _ALT.search(found[0])
        raw = RawImage(url=html.unescape(found[1]), alt=alt[1] if alt else "")
    url = raw.url.strip()
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.netloc or parts.username:
        return None
    caption = texts.plain(raw.caption, is_html=True)
    image = Image(
        url=url, alt=texts.plain(raw.alt, is_html=True), caption=caption,
        credit=texts.plain(raw.credit, is_html=True), width=raw.width, height=raw.height,
    )  # fmt: skip
    return image if image.alt else replace(image, alt=caption)


def _dateline(body: str) -> tuple[str, str]:
    """Take ``ROSARIO — `` from the start of the first paragraph."""
    if not body.startswith("<p>"):
        return "", body
    found = _DATELINE.match(body[3:])
    if found is None or not any(character.isalpha() for character in found[1]):
        return "", body
    return found[1].strip(" ,."), "<p>" + body[3 + found.end() :]
