"""What two tellings of a story are compared by: words, roots of names, numbers, matters, places, pictures."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from newsletter.about import matters_in
from newsletter.about.lexicon import UNSPACED, WORD, folded
from newsletter.about.places import countries_in
from newsletter.articles import Article

HEADLINE, STANDFIRST = 2.0, 1.0
_STEM = 6
_SHORTEST_WORD, _SHORTEST_ROOT = 3, 3
_TEXT_WORDS = 70

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

    *words* are stems, with 2 when the headline has them and 1 otherwise; *roots* the same of consonants, names
    counting more; *handles* are what candidates are found by.
    """

    url: str
    language: str
    source: str
    at: datetime
    words: dict[str, float]
    roots: dict[str, float]
    matters: frozenset[str]
    countries: frozenset[str]
    headline_countries: frozenset[str]
    picture: str
    handles: tuple[str, ...]

    @property
    def headline_words(self) -> list[str]:
        """The stems the headline has."""
        return [word for word, weight in self.words.items() if weight == HEADLINE]


def traits_of(article: Article) -> Traits:
    """Read *article* once for all comparisons: its headline, and the beginning of what stands below it."""
    words: dict[str, float] = {}
    roots: dict[str, float] = {}
    names: dict[str, None] = {}
    for text, weight in ((article.headline, HEADLINE), (article.standfirst, STANDFIRST)):
        for word in WORD.findall(text)[:_TEXT_WORDS]:
            if UNSPACED.search(word):
                for at in range(len(word) - 1):
                    words.setdefault(word[at : at + 2], weight)
                continue
            plain = folded(word)
            if plain.isdigit():
                words.setdefault("#" + plain, weight)
            elif len(plain) >= _SHORTEST_WORD:
                words.setdefault(plain[:_STEM], weight)
                sound = root(plain) if len(plain) > _SHORTEST_WORD else ""
                if len(sound) >= _SHORTEST_ROOT:
                    is_name = word[0].isupper()
                    roots[sound] = max(roots.get(sound, 0.0), weight * (1.6 if is_name else 1.0))
                    if is_name:
                        names.setdefault(sound)
    matters = matters_in(article.headline) | matters_in(article.standfirst)
    named = frozenset(countries_in(article.headline))
    countries = frozenset(article.countries) | named
    handles = [
        *(word for word, weight in words.items() if weight == HEADLINE),
        *(f"={name}" for name in names),
        *(f"@{country} {matter}" for country in sorted(countries) for matter in sorted(matters)),
    ]
    return Traits(
        url=article.url, language=article.language.split("-")[0], source=article.source, at=article.published_at,
        words=words, roots=roots, matters=matters, countries=countries,
        headline_countries=named,
        picture=article.image.url if article.image else "", handles=tuple(handles),
    )  # fmt: skip
