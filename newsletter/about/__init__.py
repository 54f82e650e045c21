"""
What a story is about: matters, topics and kind, from what its source declares and says, in any language.

The words are data (``data/*.toml``), which a publication extends in ``publication.toml``. Nothing is learnt and
nothing is fetched: an editor can see which word did it.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from newsletter.about.lexicon import Labels, Lexicon
from newsletter.articles import Kind, Topic
from newsletter.catalogue import KindRule, TopicRule

_DATA = Path(__file__).with_name("data")
_LABEL, _PATH, _HEADLINE, _STANDFIRST = 3.0, 2.0, 2.0, 1.0
_SECOND_WORD, _SECOND_TOPIC = 0.3, 0.45
_LEAST, _LEAST_SHARE, _MOST_TOPICS = 0.6, 0.4, 3


@dataclass(frozen=True, slots=True)
class Matter:
    """Something stories are about, and the words that say so."""

    id: str
    topics: tuple[Topic, ...]
    words: tuple[str, ...]
    labels: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    weight: float = 1.0
    gravity: float = 0.0


@dataclass(frozen=True, slots=True)
class Subject:
    """What one story is about; the best supported first. *matters* are ids of ``matters.toml``."""

    topics: tuple[Topic, ...]
    matters: tuple[str, ...]
    kind: Kind


def subject_of(
    headline: str,
    standfirst: str,
    *,
    categories: Sequence[str] = (),
    url: str = "",
    topics: tuple[TopicRule, ...] = (),
    kinds: tuple[KindRule, ...] = (),
) -> Subject:
    """
    Say what a story is about.

    At most three topics. A declared category counts 3, a section of the address and a word of the headline 2, a
    word of the standfirst 1; *topics* and *kinds* are the publication's own words, beside ours.
    """
    about = _matters(topics)
    support = _support(about, headline, standfirst, categories, url)
    scores: dict[Topic, float] = {}
    for matter, points in support.items():
        for place, topic in enumerate(about.matters[matter].topics):
            share = 1.0 if place == 0 else _SECOND_TOPIC
            scores[topic] = scores.get(topic, 0.0) + points * share
    order = list(Topic)
    ranked = sorted(scores, key=lambda topic: (-scores[topic], order.index(topic)))
    best = scores[ranked[0]] if ranked else 0.0
    chosen = [topic for topic in ranked if scores[topic] >= max(_LEAST, best * _LEAST_SHARE)]
    return Subject(
        topics=tuple(chosen[:_MOST_TOPICS]),
        matters=tuple(sorted(support, key=lambda matter: (-support[matter], matter))),
        kind=_kind(headline, standfirst, categories, url, kinds),
    )


@lru_cache(maxsize=65_536)
def matters_in(text: str) -> frozenset[str]:
    """The matters a text speaks of, by our words alone: the same ids in every language."""
    return frozenset(matter_words().found(text))


def matter_words() -> Lexicon:
    """Our words for matters, without a publication's own."""
    return _matters(()).words


def gravest(matters: Iterable[str]) -> tuple[str, float]:
    """The matter among *matters* that weighs most by itself, and its points; ('', 0) if none does."""
    known = _matters(()).matters
    weighed = [(known[matter].gravity, matter) for matter in matters if matter in known]
    points, matter = max(weighed, default=(0.0, ""))
    return (matter, points) if points else ("", 0.0)


@cache
def most_gravity() -> float:
    """The points of the gravest matter there is."""
    return max((matter.gravity for matter in _matters(()).matters.values()), default=0.0)


def _support(
    about: _Matters, headline: str, standfirst: str, categories: Iterable[str], url: str
) -> dict[str, float]:
    """Points by matter."""
    points: dict[str, float] = {}
    for text, worth in ((headline, _HEADLINE), (standfirst, _STANDFIRST)):
        for matter, words in about.words.found(text).items():
            more = 1.0 + _SECOND_WORD * (min(len(words), 3) - 1)
            points[matter] = points.get(matter, 0.0) + worth * more * about.matters[matter].weight
    declared = Counter(matter for category in categories for matter in about.labels.of(category))
    for matter, times in declared.items():
        points[matter] = points.get(matter, 0.0) + _LABEL + _SECOND_WORD * (min(times, 4) - 1)
    for matter in {matter for section in _sections(url) for matter in about.paths.get(section, ())}:
        points[matter] = points.get(matter, 0.0) + _PATH
    return points


def _sections(url: str) -> frozenset[str]:
    """The sections an address names: what stands between the slashes before the page itself."""
    return frozenset(part.casefold() for part in urlsplit(url).path.split("/")[:-1] if part)


# --- kinds --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Kinds:
    """All tests for kinds, in the order in which they are tried; things of the lexicons are places in *order*."""

    order: tuple[Kind, ...]
    words: Lexicon
    standfirst: Lexicon
    opening: tuple[re.Pattern[str] | None, ...]
    closing: tuple[re.Pattern[str] | None, ...]
    labels: Labels
    paths: tuple[frozenset[str], ...]


def _kind(
    headline: str, standfirst: str, categories: Iterable[str], url: str, own: tuple[KindRule, ...]
) -> Kind:
    kinds = _kinds(own)
    told = {*kinds.words.found(headline), *kinds.standfirst.found(standfirst)}
    declared = {place for category in categories for place in kinds.labels.of(category)}
    sections = _sections(url) | {urlsplit(url).path.rpartition("/")[2].casefold()}
    said = headline.casefold()
    for place, kind in enumerate(kinds.order):
        opening, closing = kinds.opening[place], kinds.closing[place]
        if (
            str(place) in told
            or str(place) in declared
            or not sections.isdisjoint(kinds.paths[place])
            or (opening is not None and opening.search(said))
            or (closing is not None and closing.search(said))
        ):
            return kind
    return Kind.NEWS


def _ends(entries: Sequence[str], before: str, after: str) -> re.Pattern[str] | None:
    """One expression for what opens or closes a headline; a word must end where its entry does."""
    parts = [
        re.escape(entry.rstrip("*").casefold()) + ("" if entry.endswith(("*", ":")) or after else r"\b")
        for entry in entries
    ]
    return re.compile(f"{before}(?:{'|'.join(parts)}){after}") if parts else None


@lru_cache(maxsize=8)
def _kinds(own: tuple[KindRule, ...]) -> _Kinds:
    rows: list[dict[str, Any]] = [
        {"kind": rule.kind, "words": rule.headline, "labels": rule.categories, "paths": rule.paths}
        for rule in own
    ]
    rows += tomllib.loads((_DATA / "kinds.toml").read_text(encoding="utf-8"))["kinds"]
    words = [tuple(row.get("words", ())) for row in rows]
    opening = [[word[1:] for word in some if word.startswith("^")] for some in words]
    closing = [[word[:-1] for word in some if word.endswith("$")] for some in words]
    return _Kinds(
        order=tuple(Kind(row["kind"]) for row in rows),
        words=Lexicon(
            {
                str(place): [word for word in some if word[0] != "^" and word[-1] != "$"]
                for place, some in enumerate(words)
            }
        ),
        standfirst=Lexicon({str(place): row.get("standfirst", ()) for place, row in enumerate(rows)}),
        opening=tuple(_ends(some, r"(?:^|[:|]\s+)[“\"'‘«]?", "") for some in opening),
        closing=tuple(_ends(some, r"\b", r"\W*$") for some in closing),
        labels=Labels({str(place): row.get("labels", ()) for place, row in enumerate(rows)}),
        paths=tuple(frozenset(row.get("paths", ())) for row in rows),
    )


# --- the data -----------------------------------------------------------------------------------


@cache
def _ours() -> tuple[Matter, ...]:
    data = tomllib.loads((_DATA / "matters.toml").read_text(encoding="utf-8"))
    return tuple(
        Matter(
            id=name, topics=tuple(Topic(topic) for topic in row["topics"]), words=tuple(row["words"]),
            labels=tuple(row.get("labels", ())), paths=tuple(row.get("paths", ())), weight=row.get("weight", 1.0), gravity=row.get("gravity", 0.0),
        )
        for name, row in data.items()
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Matters:
    """All matters by id, and where they are looked for."""

    matters: dict[str, Matter]
    words: Lexicon
    labels: Labels
    paths: dict[str, tuple[str, ...]]


@lru_cache(maxsize=8)
def _matters(own: tuple[TopicRule, ...]) -> _Matters:
    """Ours and a publication's."""
    added = [
        Matter(f"own-{n}-{rule.topic}", (rule.topic,), rule.headline, rule.categories, rule.paths)
        for n, rule in enumerate(own)
    ]
    matters = {matter.id: matter for matter in (*_ours(), *added)}
    paths: dict[str, tuple[str, ...]] = {}
    for matter in matters.values():
        for path in matter.paths:
            paths[path.casefold()] = (*paths.get(path.casefold(), ()), matter.id)
    return _Matters(
        matters=matters,
        words=Lexicon({matter.id: matter.words for matter in matters.values()}),
        labels=Labels({matter.id: matter.labels for matter in matters.values()}),
        paths=paths,
    )


@cache
def media_topics() -> dict[Topic, str]:
    """Each of our topics as IPTC Media Topic (top level)."""
    data = tomllib.loads((_DATA / "iptc.toml").read_text(encoding="utf-8"))
    return {Topic(topic): code for topic, code in data.items()}
