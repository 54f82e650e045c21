"""People's names that are spelt in two ways across the blocks of an edition: told, never decided."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from functools import lru_cache
from itertools import combinations

from rapidfuzz.distance import DamerauLevenshtein

from newsletter.articles import headline_key
from newsletter.rendering.findings import Finding
from newsletter.rendering.proof.material import Edition, words_of

# Two to four words with a capital first, in any script that has capitals; particles may stand between.
_WORD = r"[^\W\d_a-zß-öø-ÿ][^\W\d_]*[^\W\d_A-ZÀ-Þ](?:[-’'][^\W\d_]+)*"
_NAME = re.compile(
    rf"\b{_WORD}(?: (?:(?:de|da|di|du|del|van|von|der|den|la|le|al|bin|ibn|el) )*{_WORD}){{1,3}}"
)
_ALIKE_LETTERS = 6  # one letter in so many may differ: Lindqvist, Lindquist


def check_edition(edition: Edition) -> Iterator[Finding]:
    """One note for each pair, whatever the variant."""
    places: dict[str, str] = {}
    snapshot = edition.snapshot
    for item in snapshot.items:
        if item.language.partition("-")[0] == snapshot.language.partition("-")[0]:
            for text in words_of(item):
                for name in names_in(text):
                    places.setdefault(name, item.url)
    for text in _own_words(edition):
        for name in names_in(text):
            places.setdefault(name, "")
    by_word: dict[str, set[str]] = defaultdict(set)
    for name in places:
        for word in (name.split()[0], name.split()[-1]):
            by_word[headline_key(word)].add(name)
    pairs = {
        pair for names in by_word.values() for pair in combinations(sorted(names), 2) if _are_alike(*pair)
    }
    for one, other in sorted(pairs):
        where = places[other] or places[one]
        yield edition.find("name-spelling", where=where, message=f"“{one}” is also spelt “{other}”.")


@lru_cache(maxsize=4_096)
def names_in(text: str) -> frozenset[str]:
    """What looks like people's names in *text*."""
    return frozenset(_NAME.findall(text))


def _own_words(edition: Edition) -> Iterator[str]:
    snapshot = edition.snapshot
    yield from (*snapshot.subjects, snapshot.preheader, snapshot.intro, snapshot.sign_off, *snapshot.makers)
    yield from snapshot.letter
    if snapshot.quote:
        yield from (snapshot.quote.who, snapshot.quote.about)
    for block in (snapshot.number, snapshot.this_day):
        yield block.text if block else ""
    for question in snapshot.quiz:
        yield from (question.question, *question.options, question.note)


def _are_alike(one: str, other: str) -> bool:
    """Whether two names are one, as likely as not: all words equal but one, and that nearly."""
    words, others = one.split(), other.split()
    if len(words) != len(others):
        return False
    unlike = [(a, b) for a, b in zip(words, others, strict=True) if a != b]
    if len(unlike) != 1 or len(words) < 2:
        return False
    a, b = (word.casefold() for word in unlike[0])
    if a.rstrip("s’'") == b.rstrip("s’'"):
        return False  # a plural or a possessive
    if headline_key(a) == headline_key(b):
        return True  # an accent
    longest = max(len(a), len(b))
    return (
        a[0] == b[0]
        and DamerauLevenshtein.distance(a, b) <= max(1, longest // _ALIKE_LETTERS)
        and longest >= 5
    )
