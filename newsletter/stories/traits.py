"""What two tellings of a story are compared by: words, roots of names, matters, places, pictures."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

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


@lru_cache(maxsize=131_072)
def root(word: str) -> str:
    """The consonants of a folded *word* as they sound, which a name keeps across languages."""
    for spelling, sound in _SOUNDS:
        word = word.replace(spelling, sound)
    word = _HISSES.sub("s", word.replace("th", "t")).translate(_SINGLE)
    word = _DOUBLED.sub(r"\1", word)
    return word[:1] + _VOWELS.sub("", word[1:])


@dataclass(frozen=True, slots=True)
class Traits:
    """
    One telling, ready to be compared.

    *words* are stems, with 2 when the headline has them and 1 otherwise; *names* those written with a capital,
    elsewhere than at the beginning of the headline; *roots* are consonants, names counting more; *handles* are
    what candidates are found by.
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
    handles: tuple[str, ...]


def traits_of(article: Article) -> Traits:
    """Read *article* once for all comparisons: its headline, and the beginning of what stands below it."""
    words: dict[str, float] = {}
    names: set[str] = set()
    roots: dict[str, float] = {}
    sounds: dict[str, None] = {}
    for text, weight in ((article.headline, HEADLINE), (article.standfirst, STANDFIRST)):
        opening = weight == HEADLINE
        for stem, sound, is_name in map(_READ.__getitem__, words_of(text)[:_TEXT_WORDS]):
            if not stem:
                continue
            if stem not in words:
                words[stem] = weight
            if is_name:
                if not opening:
                    names.add(stem)
                if sound:
                    sounds[sound] = None
                    if roots.get(sound, 0.0) < weight * _NAME:
                        roots[sound] = weight * _NAME
            elif sound and sound not in roots:
                roots[sound] = weight
            opening = False
        if UNSPACED.search(text):
            for pair in _pairs(text):
                words.setdefault(pair, weight)
    matters = matters_in(article.headline) | matters_in(article.standfirst)
    named = frozenset(countries_in(article.headline))
    countries = named.union(article.countries)
    handles = [
        *(word for word, weight in words.items() if weight == HEADLINE),
        *map("=".__add__, sounds),
        *(f"@{country} {matter}" for country in sorted(countries) for matter in sorted(matters)),
    ]
    return Traits(
        url=article.url, language=article.language.split("-")[0], source=article.source,
        at=article.published_at.timestamp() / 86_400,
        words=words, names=frozenset(names), roots=roots, matters=matters, countries=countries,
        headline_countries=named, picture=article.image.url if article.image else "", handles=tuple(handles),
    )  # fmt: skip


def _read(word: str) -> tuple[str, str, bool]:
    """A word's stem ('' if it says nothing), the root of what may be a name, and whether it is written like one."""
    plain = folded(word)
    if UNSPACED.search(word) or (len(plain) < _SHORTEST_WORD and not plain.isdigit()):
        return "", "", False
    if plain.isdigit():
        return f"#{plain}", "", False
    sound = root(plain) if len(plain) > _SHORTEST_WORD else ""
    return plain[:_STEM], sound if len(sound) >= _SHORTEST_ROOT else "", word[0].isupper()


_READ = Looked(_read)


def _pairs(text: str) -> list[str]:
    """Pairs of neighbouring letters, which stand for words in scripts that put no spaces between them."""
    spans = [word for word in words_of(text) if UNSPACED.search(word)]
    return [span[at : at + 2] for span in spans for at in range(len(span) - 1)]
