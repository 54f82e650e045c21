"""
Words that stand for something, found in texts of any language, case, accent or script.

A lexicon is made of entries as an editor writes them: ``elect*`` matches by its beginning, ``peace deal*`` is a
phrase, ``^why`` must open a headline (or what follows its colon), ``quiz$`` must close it. Scripts without spaces
are searched as they stand.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TypeVar

from anyascii import anyascii

WORD = re.compile(r"[^\W_]+(?:['’.\-&][^\W_]+)*", re.UNICODE)
UNSPACED = re.compile("[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_POSSESSIVE = re.compile(r"['’]s?$")
_SIGNS = re.compile(r"[^a-z0-9]")
# Particles that Arabic and Hebrew write together with the word.
_PARTICLES = re.compile("^(?:وال|بال|لل|ال|و|ب|ل|ف|ה|ו|ב|ל|מ|ש|כ)(?=[\u0590-\u06ff]{3})")
_NOT_LATIN = re.compile("[\u0370-\u1cff]")
_PARTED = re.compile("[\u0590-\u06ff]")
_SHORTEST_BEGINNING = 2
_NOTHING: frozenset[str] = frozenset()
_Found = TypeVar("_Found")


@lru_cache(maxsize=65_536)
def words_of(text: str) -> tuple[str, ...]:
    """The words of *text*, in their order."""
    return tuple(WORD.findall(text))


class Looked(dict[str, _Found]):
    """What *look_up* says of each word, remembered: faster than a cache that keeps its order."""

    def __init__(self, look_up: Callable[[str], _Found], most: int = 131_072) -> None:
        super().__init__()
        self._look_up, self._most = look_up, most

    def __missing__(self, word: str) -> _Found:
        if len(self) >= self._most:
            self.clear()
        found = self[word] = self._look_up(word)
        return found


@lru_cache(maxsize=131_072)
def folded(word: str) -> str:
    """*word* in plain lower-case Latin letters and digits: no accent, no sign, no possessive."""
    if word.isascii() and word.isalnum():
        return word.lower()
    word = _POSSESSIVE.sub("", word.casefold())
    if not word.isascii():
        word = anyascii(word).lower()
    return _SIGNS.sub("", word)


@lru_cache(maxsize=131_072)
def _key(word: str) -> str:
    """The folded word, marked if it is not in Latin letters: газа is no Gaza, and суд is not the South."""
    plain = folded(word)
    return f"~{plain}" if plain and _NOT_LATIN.search(word) else plain


@lru_cache(maxsize=65_536)
def _forms(word: str) -> tuple[str, ...]:
    """The keys of a word: as it stands, and without the particle written together with it."""
    whole = _key(word)
    if _PARTED.match(word):
        bare = _key(_PARTICLES.sub("", word))
        if bare and bare != whole:
            return (whole, bare)
    return (whole,) if whole else ()


_Phrase = tuple[tuple[str, ...], bool, str]
"""The words after the first, whether the last is only a beginning, and what it stands for."""


class Lexicon:
    """Entries of several things; ``found`` says which of the things a text speaks of, and how often."""

    def __init__(self, entries: Mapping[str, Iterable[str]]) -> None:
        self._exact: dict[str, set[str]] = {}
        self._beginnings: dict[str, set[str]] = {}
        self._phrases: dict[str, list[_Phrase]] = {}
        unspaced: dict[str, set[str]] = {}
        for thing, words in entries.items():
            for entry in words:
                if UNSPACED.search(entry):
                    unspaced.setdefault(entry.strip("*"), set()).add(thing)
                else:
                    self._add(thing, entry)
        self._unspaced = unspaced
        longest_first = sorted(unspaced, key=lambda word: (-len(word), word))
        self._unspaced_words = re.compile("|".join(map(re.escape, longest_first))) if unspaced else None
        self._longest_beginning = max(map(len, self._beginnings), default=0)
        self._of = Looked(self._look_up)

    def _add(self, thing: str, entry: str) -> None:
        by_beginning = entry.endswith("*")
        words = tuple(_key(word) for word in WORD.findall(entry))
        words = tuple(word for word in words if word)
        if not words:
            return
        if len(words) > 1:
            self._phrases.setdefault(words[0], []).append((words[1:], by_beginning, thing))
        elif by_beginning:
            self._beginnings.setdefault(words[0], set()).add(thing)
        else:
            self._exact.setdefault(words[0], set()).add(thing)

    def _look_up(self, word: str) -> tuple[str, frozenset[str], tuple[_Phrase, ...]] | None:
        """A word's key, the things it stands for alone, and the phrases it may open; None if there are neither."""
        found: set[str] = set()
        for form in _forms(word):
            found |= self._exact.get(form, _NOTHING)
            for end in range(_SHORTEST_BEGINNING, min(len(form), self._longest_beginning) + 1):
                if form[:end] in self._beginnings:
                    found |= self._beginnings[form[:end]]
        key = _key(word)
        phrases = tuple(self._phrases.get(key, ()))
        return (key, frozenset(found), phrases) if found or phrases else None

    def found(self, text: str) -> dict[str, set[str]]:
        """The things *text* speaks of, each with the different words that say so (folded)."""
        things: dict[str, set[str]] = {}
        words = words_of(text)
        for thing, said in self._said(words, range(len(words))):
            things.setdefault(thing, set()).add(said)
        for thing, said in self._said_unspaced(text):
            things.setdefault(thing, set()).add(said)
        return things

    def speaks(self, word: str) -> bool:
        """Whether *word* may stand for anything, alone or with those after it."""
        return self._of[word] is not None

    def things(self, words: Sequence[str], at: Iterable[int]) -> set[str]:
        """The things *words* speak of, of which those *at* may stand for something."""
        return {thing for thing, _ in self._said(words, at)}

    def things_unspaced(self, text: str) -> set[str]:
        """The things that *text* speaks of in a script without spaces."""
        return {thing for thing, _ in self._said_unspaced(text)}

    def _said(self, words: Sequence[str], positions: Iterable[int]) -> Iterator[tuple[str, str]]:
        """Each thing that words at *positions* stand for, with the words that say so."""
        taken = 0  # what a phrase has used up stands for nothing else: the West Bank is no bank
        for at in positions:
            if (looked := self._of[words[at]]) is None:
                continue
            first, alone, phrases = looked
            following = _key(words[at + 1]) if phrases and at + 1 < len(words) else ""
            for rest, by_beginning, thing in phrases:
                if following.startswith(rest[0]) and self._follows(words, at + 1, rest, by_beginning):
                    yield thing, " ".join((first, *rest))
                    taken = max(taken, at + 1 + len(rest))
            if alone and at >= taken:
                for thing in alone:
                    yield thing, first

    def _said_unspaced(self, text: str) -> Iterator[tuple[str, str]]:
        if self._unspaced_words is not None and UNSPACED.search(text):
            for hit in self._unspaced_words.findall(text):
                for thing in self._unspaced[hit]:
                    yield thing, hit

    @staticmethod
    def _follows(words: Sequence[str], at: int, rest: tuple[str, ...], by_beginning: bool) -> bool:
        if at + len(rest) > len(words):
            return False
        *middle, last = rest
        if any(_key(words[at + n]) != word for n, word in enumerate(middle)):
            return False
        end = _key(words[at + len(middle)])
        return end.startswith(last) if by_beginning else end == last


class Labels:
    """Categories that declare something: each entry is a whole category, or its beginning where it ends in ``*``."""

    def __init__(self, entries: Mapping[str, Iterable[str]]) -> None:
        self._exact: dict[str, set[str]] = {}
        self._beginnings: list[tuple[str, str]] = []
        for thing, labels in entries.items():
            for label in labels:
                if label.endswith("*"):
                    self._beginnings.append((label[:-1].casefold(), thing))
                else:
                    self._exact.setdefault(label.casefold(), set()).add(thing)
        self.of = lru_cache(maxsize=65_536)(self._of)

    def _of(self, category: str) -> frozenset[str]:
        """The things *category* declares."""
        category = category.casefold().strip()
        begun = {thing for beginning, thing in self._beginnings if category.startswith(beginning)}
        return frozenset(begun | self._exact.get(category, set()))
