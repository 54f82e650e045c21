"""What two tellings of a story are compared by: words, roots of names, matters, places, pictures."""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import NamedTuple

from babel import Locale, UnknownLocaleError

from newsletter.about import matters_in
from newsletter.about.lexicon import UNSPACED, Looked, folded, words_of
from newsletter.about.places import countries_in
from newsletter.articles import Article

HEADLINE, STANDFIRST = 2.0, 1.0
_STEM = 6
_SHORTEST_WORD, _SHORTEST_ROOT = 3, 3
_TEXT_WORDS = 70
_NAME = 1.6  # how much more the root of a name counts

# Spellings of one sound in the languages of the papers: Putin, Poutine and Путин have one root, Azaz and Asas too.
_SOUNDS = (("ph", "f"), ("w", "v"), ("z", "s"), ("q", "k"), ("x", "ks"))
_HISSES = re.compile("tsch|tch|sch|sh|ch")
_DOUBLED = re.compile(r"(.)\1+")
_VOWELS = re.compile("[aeiouh]")
_SINGLE = str.maketrans("cjy", "kii")
_DIGIT = re.compile(r"\d")


@lru_cache(maxsize=131_072)
def root(word: str) -> str:
    """The consonants of a folded *word* as they sound, which a name keeps across languages."""
    for spelling, sound in _SOUNDS:
        word = word.replace(spelling, sound)
    word = _HISSES.sub("s", word.replace("th", "t")).translate(_SINGLE)
    word = _DOUBLED.sub(r"\1", word)
    return word[:1] + _VOWELS.sub("", word[1:])


class Traits(NamedTuple):
    """
    One telling, ready to be compared.

    *words* are stems, with 2 when the headline has them and 1 otherwise; *names* those written with a capital,
    elsewhere than at the beginning of the headline; *roots* are consonants, names counting more; *handles* are
    what candidates are found by. A column comes again under one headline with another *date* in it, which says
    nothing of what it tells.
    """

    url: str
    language: str
    source: str
    at: float  # days
    words: dict[str, float]
    names: frozenset[str]
    roots: dict[str, float]
    matters: frozenset[str]
    countries: frozenset[str]
    headline_countries: frozenset[str]
    picture: str
    column: str  # the headline without its date; '' if it has none
    date: str
    handles: tuple[str, ...]


def traits_of(article: Article) -> Traits:
    """Read *article* once for all comparisons: its headline, and the beginning of what stands below it."""
    language = article.language.split("-")[0]
    headline, date = _dated(article.headline, language)
    head, text = _read(headline), _read(article.standfirst)
    words = dict.fromkeys([word.stem for word in text], STANDFIRST)
    words.update(dict.fromkeys([word.stem for word in head], HEADLINE))
    roots: dict[str, float] = {}
    for some, weight in ((text, STANDFIRST), (head, HEADLINE)):
        roots.update(dict.fromkeys([word.root for word in some], weight))
        roots.update(dict.fromkeys([word.root for word in some if word.capital], weight * _NAME))
    roots.pop("", None)
    matters = matters_in(article.headline) | matters_in(article.standfirst)
    named = frozenset(countries_in(article.headline))
    countries = named.union(article.countries)
    handles = [
        *[word for word, weight in words.items() if weight == HEADLINE],
        *dict.fromkeys([f"={word.root}" for word in (*head, *text) if word.capital and word.root]),
        *[f"@{country} {matter}" for country in sorted(countries) for matter in sorted(matters)],
    ]
    return Traits(
        url=article.url, language=language, source=article.source,
        at=article.published_at.timestamp() / 86_400, words=words,
        names=frozenset([word.stem for word in (*head[1:], *text) if word.capital]), roots=roots,
        matters=matters, countries=countries, headline_countries=named,
        picture=article.image.url if article.image else "", column=headline if date else "", date=date,
        handles=tuple(handles),
    )  # fmt: skip


def _dated(headline: str, language: str) -> tuple[str, str]:
    """The headline without the date in it, and that date."""
    found = _dates(language).search(headline) if _DIGIT.search(headline) else None
    return (headline.replace(found[0], " "), found[0]) if found else (headline, "")


@cache
def _dates(language: str) -> re.Pattern[str]:
    """Dates as headlines have them: 20 September 2021, September 20, 20. September."""
    try:
        locale = Locale(language)
    except (UnknownLocaleError, ValueError):
        locale = Locale("en")
    names = {
        name.rstrip(".")
        for form in ("format", "stand-alone")
        for width in ("wide", "abbreviated")
        for name in locale.months[form][width].values()
    }
    month = f"(?:{'|'.join(map(re.escape, sorted(names, key=lambda name: (-len(name), name))))})"
    day = r"\d{1,2}(?:st|nd|rd|th|er|º|\.)?"
    return re.compile(
        rf"\b(?:{day}\s+(?:de\s+)?{month}|{month}\.?\s+{day})\b(?:,?\s+(?:de\s+)?\d{{4}})?", re.IGNORECASE
    )


class _Word(NamedTuple):
    """What a word says: its stem ('' nothing), the root of what may be a name, whether it has a capital."""

    stem: str
    root: str
    capital: bool


def _read(text: str) -> list[_Word]:
    read = [word for word in map(_READ.__getitem__, words_of(text)[:_TEXT_WORDS]) if word.stem]
    return read + [_Word(pair, "", False) for pair in _pairs(text)] if UNSPACED.search(text) else read


def _look_at(word: str) -> _Word:
    plain = folded(word)
    if plain.isdigit():
        return _Word(f"#{plain}", "", False)
    if UNSPACED.search(word) or len(plain) < _SHORTEST_WORD:
        return _Word("", "", False)
    sound = root(plain) if len(plain) > _SHORTEST_WORD else ""
    return _Word(plain[:_STEM], sound if len(sound) >= _SHORTEST_ROOT else "", word[0].isupper())


_READ = Looked(_look_at)


def _pairs(text: str) -> list[str]:
    """Pairs of neighbouring letters, which stand for words in scripts that put no spaces between them."""
    spans = [word for word in words_of(text) if UNSPACED.search(word)]
    return [span[at : at + 2] for span in spans for at in range(len(span) - 1)]
