"""
What tellings of a story are compared by, in columns: words, roots of names, matters, places, pictures.

A telling is a row. Words, roots, matters and places are columns, numbered in the order they were met, so that what
is compared of ten thousand tellings is a handful of sparse tables and not ten thousand dictionaries.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Hashable, Sequence
from functools import cache, lru_cache
from itertools import islice, pairwise, product
from typing import Any

import numpy as np
from babel import Locale, UnknownLocaleError
from numpy.typing import NDArray
from scipy.sparse import csr_array, hstack, vstack

from newsletter.about import matter_words
from newsletter.about.lexicon import UNSPACED, WORD, Looked, folded
from newsletter.about.places import countries_at, countries_in, opens_name
from newsletter.articles import Article
from newsletter.stories.meaning import Vectors

Numbers = NDArray[np.int64]
Weights = NDArray[np.float64]
Table = Any  # a scipy.sparse.csr_array: rows are tellings; scipy ships no types

HEADLINE, STANDFIRST = 2.0, 1.0
_STEM = 6
_SHORTEST_WORD, _SHORTEST_ROOT = 3, 3
_TEXT_WORDS, _PAIR = 70, 2
_NAME = 1.6  # how much more the root of a name counts
# How often a telling has a word where, in one number, so that a table adds it up.
_IN_HEADLINE, _AS_NAME, _AS_HEADLINE_NAME, _MANY = 1 << 8, 1 << 16, 1 << 24, 0xFF

# Spellings of one sound in the languages of the papers: Putin, Poutine and Путин have one root, Azaz and Asas too.
_SOUNDS = str.maketrans({"w": "v", "z": "s", "q": "k", "x": "ks"})
_HISSES = re.compile("tsch|tch|sch|sh|ch")
_SINGLE = str.maketrans("cjy", "kii")
_DOUBLED = re.compile(r"(.)\1+")
_VOWELS = str.maketrans("", "", "aeiouh")
_SPANS = re.compile(f"(?:{UNSPACED.pattern})+")
_DIGIT = re.compile(r"\d")


def root(word: str) -> str:
    """The consonants of a folded *word* as they sound, which a name keeps across languages."""
    word = word.translate(_SOUNDS)
    if "h" in word:
        word = _HISSES.sub("s", word.replace("ph", "f").replace("th", "t"))
    word = _DOUBLED.sub(r"\1", word.translate(_SINGLE))
    return word[:1] + word[1:].translate(_VOWELS)


@lru_cache(maxsize=131_072)
def stem_and_root(word: str) -> tuple[str, str]:
    """The stem of a word as it stands, and the root of what may be a name; '' where it says nothing."""
    if not word.isascii() and UNSPACED.search(word):
        return (word if len(word) <= _PAIR else ""), ""
    plain = folded(word)
    if plain.isdigit():
        return f"#{plain}", ""
    if len(plain) < _SHORTEST_WORD:
        return "", ""
    sound = root(plain) if len(plain) > _SHORTEST_WORD else ""
    return plain[:_STEM], sound if len(sound) >= _SHORTEST_ROOT else ""


class _Numbered(dict[Hashable, int]):
    """A number for each thing, in the order they are met."""

    def __missing__(self, thing: Hashable) -> int:
        number = self[thing] = len(self)
        return number


class Tellings:
    """
    Articles, ready to be compared; a row each, in the order they were added.

    *words* are stems and *roots* consonants; what they hold says where a telling has them (``in_headline``,
    ``as_name``). *matters*, *countries* and *headline_countries* hold 1; *scenes* are matters in countries. A column
    comes again under one headline with another *date* in it, which says nothing of what it tells; *column* and
    *picture* are 0 where there is none. *at* is in days.
    """

    def __init__(self) -> None:
        self.urls: list[str] = []
        self.at: Weights = np.empty(0)
        self.language: Numbers = np.empty(0, np.int64)
        self.source = self.picture = self.column = self.date = self.language
        self.words: Table = csr_array((0, 0), dtype=np.int64)
        self.roots = self.matters = self.countries = self.headline_countries = self.scenes = self.words
        self._meanings: dict[int, Vectors] = {}
        self._languages, self._sources, self._dates = _Numbered(), _Numbered(), _Numbered()
        self._pictures, self._columns = _Numbered({"": 0}), _Numbered({"": 0})
        self._stems, self._roots = _Numbered(), _Numbered()
        self._matters, self._countries, self._scenes = _Numbered(), _Numbered(), _Numbered()
        self._known: dict[str, int] = Looked(self._look_at, most=10_000_000)
        self._stem_of: list[int] = []  # by the number of a word as it stands; -1 none
        self._root_of: list[int] = []
        self._is_capital: list[bool] = []
        self._is_telling: list[bool] = []  # of a matter, or of a place
        self._lexicon = matter_words()

    def __len__(self) -> int:
        return len(self.urls)

    def add(self, articles: Sequence[Article], meanings: Sequence[Vectors | None] = ()) -> None:
        """
        Read each of *articles* once for all comparisons: its headline, and the beginning of what stands below.

        *meanings* are their vectors, where there are any.
        """
        words: list[int] = []
        lengths: list[tuple[int, int]] = []  # of the headline, and of both
        traits: list[tuple[int, ...]] = []
        matters: list[set[int]] = []
        countries: list[set[int]] = []
        named: list[set[int]] = []
        for article in articles:
            language = article.language.split("-")[0]
            headline, date = _dated(article.headline, language)
            head, said, where = self._read(headline)
            text, more, _ = self._read(f"{article.dateline} {article.standfirst}", for_places=False)
            words += head
            words += text
            lengths.append((len(head), len(head) + len(text)))
            matters.append({self._matters[one] for one in said | more})
            named.append({self._countries[one] for one in where})
            countries.append(named[-1].union([self._countries[one] for one in article.countries]))
            traits.append((
                self._languages[language], self._sources[article.source],
                self._pictures[article.image.url if article.image else ""],
                self._columns[headline if date else ""], self._dates[date],
            ))  # fmt: skip
        for row, vector in enumerate(meanings, start=len(self)):
            if vector is not None:
                self._meanings[row] = vector
        self.urls += [article.url for article in articles]
        self.at = np.append(self.at, [article.published_at.timestamp() / 86_400 for article in articles])
        for name, column in zip(
            ("language", "source", "picture", "column", "date"), zip(*traits, strict=True), strict=True
        ):
            setattr(self, name, np.append(getattr(self, name), np.array(column, np.int64)))
        self._add_words(np.array(words, np.int64), np.array(lengths, np.int64).reshape(-1, 2))
        self.matters = _grown(self.matters, *_flat(matters), len(self._matters), len(articles))
        self.countries = _grown(self.countries, *_flat(countries), len(self._countries), len(articles))
        self.headline_countries = _grown(
            self.headline_countries, *_flat(named), len(self._countries), len(articles)
        )
        scenes = [
            {self._scenes[scene] for scene in product(sorted(where), sorted(what))}
            for where, what in zip(countries, matters, strict=True)
        ]
        self.scenes = _grown(self.scenes, *_flat(scenes), len(self._scenes), len(articles))

    @property
    def meaning(self) -> tuple[NDArray[np.bool_], Vectors]:
        """Which tellings have a vector, and the vectors; 0 for the others."""
        has = np.zeros(len(self), bool)
        width = len(next(iter(self._meanings.values()), ()))
        vectors = np.zeros((len(self) if width else 0, width), np.float32)
        for row, vector in self._meanings.items():
            has[row], vectors[row] = True, vector
        return has, vectors

    def _add_words(self, words: Numbers, lengths: Numbers) -> None:
        heads, both = lengths.T
        row = np.repeat(np.arange(len(lengths)), both)
        place = np.arange(len(words)) - np.repeat(np.cumsum(both) - both, both)
        is_head = place < heads[row]
        capital = np.array(self._is_capital, bool)[words]
        stem, sound = np.array(self._stem_of, np.int64)[words], np.array(self._root_of, np.int64)[words]
        for table, column, is_name in (("words", stem, capital & (place > 0)), ("roots", sound, capital)):
            holds = 1 + _IN_HEADLINE * is_head + _AS_NAME * is_name + _AS_HEADLINE_NAME * (is_head & is_name)
            known = column >= 0
            width = len(self._stems if table == "words" else self._roots)
            grown = _grown(getattr(self, table), row[known], column[known], holds[known], width, len(lengths))
            setattr(self, table, grown)

    def _read(self, text: str, *, for_places: bool = True) -> tuple[list[int], set[str], Collection[str]]:
        """The numbers of the first words of *text*, the matters it speaks of, and the countries it names."""
        words = WORD.findall(text)
        numbers = list(map(self._known.__getitem__, words))
        telling = self._is_telling
        at = [place for place, number in enumerate(numbers) if telling[number]]
        matters = self._lexicon.things(words, at)
        countries: Collection[str] = countries_at(words, at) if for_places else ()
        if not text.isascii() and UNSPACED.search(text):
            numbers = [*numbers[:_TEXT_WORDS], *[self._known[pair] for pair in _pairs(text)]]
            matters |= self._lexicon.things_unspaced(text)
            return numbers, matters, countries_in(text) if for_places else ()
        return numbers[:_TEXT_WORDS], matters, countries

    def _look_at(self, word: str) -> int:
        stem, sound = stem_and_root(word)
        self._stem_of.append(self._stems[stem] if stem else -1)
        self._root_of.append(self._roots[sound] if sound else -1)
        self._is_capital.append(stem != "" and word[0].isupper())
        self._is_telling.append(self._lexicon.speaks(word) or opens_name(word))
        return len(self._stem_of) - 1


def in_headline(table: Table) -> NDArray[np.bool_]:
    """Which entries of ``words`` or ``roots`` stand in the headline."""
    return _has(table, _IN_HEADLINE)


def as_name(table: Table) -> NDArray[np.bool_]:
    """Which entries of ``words`` or ``roots`` are written with a capital; a word elsewhere than at the beginning."""
    return _has(table, _AS_NAME)


def weight_of_roots(table: Table) -> Weights:
    """How much each entry of ``roots`` counts by where it stands and how it is written."""
    weight = np.where(_has(table, _AS_NAME), STANDFIRST * _NAME, STANDFIRST)
    weight = np.where(_has(table, _IN_HEADLINE), HEADLINE, weight)
    return np.where(_has(table, _AS_HEADLINE_NAME), HEADLINE * _NAME, weight)


def handles(tellings: Tellings) -> Table:
    """What candidates are found by: words of headlines, roots of names, matters in countries; each 1."""
    words, roots = tellings.words, tellings.roots
    table = hstack(
        [entries(words, in_headline(words)), entries(roots, as_name(roots)), tellings.scenes], format="csr"
    )
    table.data = np.ones(len(table.data))
    return table


def entries(table: Table, kept: NDArray[np.bool_]) -> Table:
    """*table* with only the entries *kept*."""
    kept_before = np.append(0, np.cumsum(kept))
    return csr_array((table.data[kept], table.indices[kept], kept_before[table.indptr]), shape=table.shape)


def _has(table: Table, what: int) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = (table.data & (what * _MANY)) > 0
    return found


def _grown(old: Table, rows: Numbers, columns: Numbers, data: Numbers, width: int, more: int) -> Table:
    """*old* with *more* rows and *width* columns; what stands twice is added up."""
    new = csr_array((data, (rows, columns)), shape=(more, width))
    new.sum_duplicates()
    if not old.shape[0]:
        return new
    old.resize((old.shape[0], width))
    return vstack([old, new], format="csr")


def _flat(things: Sequence[set[int]]) -> tuple[Numbers, Numbers, Numbers]:
    rows = np.repeat(np.arange(len(things)), [len(some) for some in things])
    columns = np.array([one for some in things for one in sorted(some)], np.int64)
    return rows, columns, np.ones(len(columns), np.int64)


def _pairs(text: str) -> list[str]:
    """The first pairs of neighbouring letters, which stand for words in scripts that put no spaces between them."""
    pairs = (one + other for span in _SPANS.findall(text) for one, other in pairwise(span))
    return list(islice(pairs, _PAIR * _TEXT_WORDS))


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
