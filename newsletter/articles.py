"""Articles as every later room sees them: plain values, closed vocabularies, canonical addresses."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit


class Region(StrEnum):
    """Regions of the world; the labels and the countries of each are data (``regions.toml``)."""

    AFRICA = "Africa"
    AMERICAS_NORTH = "Americas-North"
    AMERICAS_LATIN = "Americas-Latin"
    ASIA_EAST = "Asia-East"
    ASIA_SOUTH = "Asia-South"
    ASIA_SOUTHEAST = "Asia-Southeast"
    ASIA_CENTRAL = "Asia-Central"
    EUROPE = "Europe"
    MIDDLE_EAST = "Middle-East"
    OCEANIA = "Oceania"
    GLOBAL = "Global"


class Topic(StrEnum):
    """What a story is about."""

    POLITICS = "politics"
    CONFLICT = "conflict"
    DIPLOMACY = "diplomacy"
    ECONOMY = "economy"
    BUSINESS = "business"
    TECHNOLOGY = "technology"
    SCIENCE = "science"
    HEALTH = "health"
    ENVIRONMENT = "environment"
    SOCIETY = "society"
    CULTURE = "culture"
    SPORT = "sport"
    CRIME = "crime"
    DISASTER = "disaster"
    OPINION = "opinion"
    HUMAN_INTEREST = "human-interest"


class Kind(StrEnum):
    """What sort of piece it is."""

    NEWS = "news"
    ANALYSIS = "analysis"
    OPINION = "opinion"
    LIVE_BLOG = "live-blog"
    VIDEO = "video"
    LISTICLE = "listicle"
    PROMO = "promo"
    SPORT_RESULT = "sport-result"
    OTHER = "other"


class Rights(StrEnum):
    """What the source lets us do: only ``excerpt`` is ever assumed."""

    OWN = "own"
    LICENSED = "licensed"
    EXCERPT = "excerpt"


class Flag(StrEnum):
    """Oddities of an article as it came; each is told in ``picks``."""

    UNDATED = "undated"  # no usable date: published_at is when we first saw it
    FIRST_FETCH = "first-fetch"  # undated and from its source's first fetch: may be years old
    FUTURE = "future"  # dated after the fetch; not pickable before its date
    MOJIBAKE = "mojibake"  # broken characters were mended
    NO_PICTURE_RIGHTS = "no-picture-rights"  # a picture came but the source is excerpt only


@dataclass(frozen=True, slots=True)
class Image:
    """A picture as the source gives it; *url* is https. Width and height in pixels, 0 unknown."""

    url: str
    alt: str = ""
    caption: str = ""
    credit: str = ""
    width: int = 0
    height: int = 0


@dataclass(frozen=True, slots=True)
class Article:
    """
    A story as one source tells it.

    *url* is canonical (``canonical_url``); text fields are plain text, decoded once; *body* is
    sanitised HTML and empty for excerpt sources; *language* is BCP 47 or ``und``; *countries* are
    ISO 3166-1 alpha-2, the most likely first; *categories* are kept as the source wrote them. *paper* is
    who published it first, where that is somebody else than the source.
    """

    url: str
    source: str
    headline: str
    published_at: datetime
    first_seen_at: datetime
    source_name: str = ""
    kicker: str = ""
    standfirst: str = ""
    byline: str = ""
    dateline: str = ""
    body: str = ""
    image: Image | None = None
    language: str = "und"
    countries: tuple[str, ...] = ()
    region: Region = Region.GLOBAL
    topics: tuple[Topic, ...] = ()
    kind: Kind = Kind.NEWS
    categories: tuple[str, ...] = ()
    translated_from: str = ""
    translator: str = ""
    paper: str = ""
    paywalled: bool = False
    rights: Rights = Rights.EXCERPT
    flags: tuple[Flag, ...] = ()
    story: str = field(default="")

    @property
    def country(self) -> str:
        """The most likely country, or empty."""
        return self.countries[0] if self.countries else ""


# Parameters that say where a click came from. Whatever is not listed may carry identity
# (?id=, ?p=, ?story=) and is kept. Seen in real feeds: maca (Deutsche Welle), at_* and ns_* (BBC,
# Le Monde), smid (NYT), CMP (Guardian), ftag (CBS), taid/trk (social schedulers).
_TRACKING = re.compile(
    r"^(utm_.*|at_(medium|campaign|custom\d*|format|link_.*|bbc_team|ptr_name)|ns_(mchannel|source|campaign|linkname|fee)|"
    r"mtm_.*|pk_(campaign|kwd|source|medium)|hsa_.*|_hs(enc|mi)|fbclid|gclid|gclsrc|dclid|gbraid|wbraid|msclkid|yclid|"
    r"twclid|ttclid|igshid|mc_(cid|eid)|maca|smid|cmpid|cmp|ftag|taid|trk|xtor|ito|ocid|partner|wt_mc|srnd|"
    r"traffic_source|feedtype|feedname|from_rss|rss|ref_?src|spm|vero_(id|conv)|oly_(anon|enc)_id|"
    r"__twitter_impression|emc|campaign_id|instance_id|segment_id|regi_id|user_id|partner_id)$",
    re.IGNORECASE,
)


def is_tracking(name: str) -> bool:
    """Whether a parameter of this name says where a click came from."""
    return _TRACKING.match(name) is not None


_TRACKING_VALUES = {
    "ref": {"rss", "feed", "feeds", "twitter", "facebook"},
    "source": {"rss", "feed"},
    "from": {"rss", "feed"},
    "output": {"rss"},
    "feed": {"rss"},
}


def canonical_url(url: str) -> str:
    """
    Return the one address under which a page is known to us, or '' when there is none.

    Fragment, credentials and tracking parameters go; other parameters stay, in their order, because
    they may carry identity; http and https twins, default ports, letter case of the host, an
    escaped letter and a trailing slash make no difference. The form written is https, no slash.
    """
    try:
        parts = urlsplit(url.strip())
        host = (parts.hostname or "").rstrip(".")
        port = parts.port
    except ValueError:
        return ""
    if parts.scheme.lower() not in ("http", "https") or not host:
        return ""
    try:
        host.encode("idna" if not host.isascii() else "ascii")
    except UnicodeError:
        return ""
    if not host.isascii():
        host = host.encode("idna").decode("ascii")
    if ":" in host:
        host = f"[{host}]"
    if port and port not in (80, 443):
        host = f"{host}:{port}"
    path = quote(parts.path, safe="/:@!$&'()*+,;=~-._%", errors="replace")
    path = re.sub(r"/{2,}", "/", path).rstrip("/")
    kept = [
        (name, value)
        for name, value in parse_qsl(parts.query, keep_blank_values=True)
        if not is_tracking(name) and value.lower() not in _TRACKING_VALUES.get(name.lower(), ())
    ]
    return urlunsplit(("https", host.lower(), path, urlencode(kept), ""))


class _Plain(dict[int, int | str | None]):
    """What becomes of a letter for comparing: accents go, and what is no word is a space."""

    def __missing__(self, code: int) -> int | str | None:
        letter = chr(code)
        plain: int | str | None = code if letter.isalnum() or letter == "_" else " "
        self[code] = plain = None if unicodedata.combining(letter) else plain
        return plain


_PLAIN = _Plain()


@lru_cache(maxsize=32_768)
def headline_key(headline: str) -> str:
    """Return *headline* folded for comparing: no case, no accents, no punctuation, no extra spaces."""
    folded = headline.casefold()
    if not folded.isascii():
        folded = unicodedata.normalize("NFKD", folded)
    return " ".join(folded.translate(_PLAIN).split())


def fingerprint(article: Article) -> str:
    """Return 32 hex digits that change when anything a reader would see of the article changes."""
    image = article.image
    parts = (
        article.headline, article.kicker, article.standfirst, article.byline, article.dateline, article.body,
        article.language, article.translated_from, article.rights, article.kind,
        "|".join(article.countries), article.region, "|".join(article.topics), "|".join(article.categories),
        str(article.paywalled), *((article.translator, article.paper) if article.translator or article.paper else ()),
        "" if image is None else f"{image.url}|{image.alt}|{image.caption}|{image.credit}|{image.width}x{image.height}",
    )  # fmt: skip
    return hashlib.blake2b("\x1f".join(parts).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def shortened(text: str, limit: int) -> str:
    """*text* in at most *limit* characters, cut at a space where there is one near the end."""
    if len(text) <= limit:
        return text
    kept = text[: limit - 2]
    at = kept.rfind(" ")
    return (kept[:at] if at > limit * 2 // 3 else kept).rstrip(" ,;:–—-") + " …"


_RTL = {"ar", "fa", "he", "iw", "ur", "ps", "sd", "ug", "yi", "dv", "ckb", "syr"}


def direction(language: str) -> str:
    """Return ``rtl`` or ``ltr`` for a BCP 47 tag, by its primary subtag."""
    return "rtl" if language.split("-")[0].lower() in _RTL else "ltr"
