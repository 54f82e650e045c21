"""
Stories: articles of all papers and languages that tell the same event, grouped; pure, and the same in any order.

Candidates share rare words, names, or a country and a matter; ``likeness`` compares them; groups are joined while
the members of each are, on average, sure of their nearest in the other. Two established stories whose tellings
agree on other words stay two, and what is about as near to both of two unlike stories belongs to neither. An
editor's word binds: two articles brought together stay together, two held apart are never in one story. A story
keeps its id while it grows.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, triu

from newsletter.articles import Article
from newsletter.stories import Link
from newsletter.stories.finding import candidates
from newsletter.stories.likeness import OTHER, Likeness
from newsletter.stories.meaning import Meaning
from newsletter.stories.traits import Numbers, Tellings

# An established story draws what says most of what its tellings agree on, and keeps out what does not.
_ESTABLISHED, _HEART, _HEART_USUAL = 3, 8.0, 0.4
# Two established stories are one if they share as much of the greater heart; a heart of a word or two says nothing.
_ONE_HEART, _LEAST_HEART = 0.35, 16.0
# A telling is torn if another story is nearly as near as the first, by so many points, and the two are unlike.
_TORN, _UNLIKE = 2.0, -1.5


class Grouping:
    """
    Articles in their stories; ``add`` takes the next fetch without beginning again.

    What was joined stays joined; new articles find their story, and may bring two stories together.
    """

    def __init__(
        self,
        *,
        links: Iterable[Link] = (),
        known: Mapping[str, str] | None = None,
        meaning: Meaning | None = None,
    ) -> None:
        """*known* maps URLs to the story ids they had before; *meaning* compares texts beyond their words."""
        links = tuple(links)
        self._meaning = meaning
        self._together = sorted({_pair(link.url, link.other) for link in links if link.together})
        self._apart = {_pair(link.url, link.other) for link in links if not link.together}
        self._known = dict(known or {})
        self._all = Tellings()
        self._at: dict[str, int] = {}
        self._points: list[dict[int, float]] = []  # of each telling with those it was compared with
        self._nearest: list[dict[int, float]] = []  # of each telling with the nearest in each group
        self._hearts: dict[tuple[int, int, int], tuple[dict[int, float], float]] = {}
        self._said: dict[int, dict[int, float]] = {}
        self._group: list[int] = []
        self._members: dict[int, list[int]] = {}
        self._likely: Numbers = np.empty((2, 0), np.int64)  # all pairs found so far

    def add(self, articles: Iterable[Article]) -> None:
        """Take *articles* in; those already known are left as they are."""
        unseen = {article.url: article for article in articles if article.url not in self._at}
        new = sorted(unseen.values(), key=lambda one: (one.published_at, one.url))
        if not new:
            return
        first = len(self._all)
        self._all.add(new, self._meaning.of(new) if self._meaning else ())
        for row, article in enumerate(new, start=first):
            self._at[article.url] = row
            self._group.append(row)
            self._members[row] = [row]
            self._points.append({})
            self._nearest.append({})
        self._hearts.clear()
        self._said.clear()
        self._likeness = Likeness(self._all)
        self._bind()
        self._join(self._near(*candidates(self._all, first)))
        ids = self._ids()
        self._known.update({url: ids[self._group[at]] for at, url in enumerate(self._all.urls)})

    @property
    def stories(self) -> dict[str, str]:
        """Each article's story id, by URL."""
        return {url: self._known[url] for url in self._all.urls}

    def _near(self, one: Numbers, other: Numbers) -> list[tuple[int, int]]:
        """Compare the pairs, and all who have a likely one in common; return the likely."""
        likely = self._compare(one, other)
        one, other = one[likely], other[likely]
        self._likely = np.concatenate([self._likely, np.stack([one, other])], axis=1)
        a, b = self._likely
        size = len(self._all)
        near = csr_array((np.ones(2 * len(a)), (np.append(a, b), np.append(b, a))), shape=(size, size))
        further = triu(near @ near, k=1, format="coo")
        unknown = [b not in self._points[a] for a, b in _pairs(further.row, further.col)]
        self._compare(further.row[unknown].astype(np.int64), further.col[unknown].astype(np.int64))
        return list(_pairs(one, other))

    def _compare(self, one: Numbers, other: Numbers) -> NDArray[np.bool_]:
        """Find how sure we are of each pair; return which are likely."""
        points = self._likeness.points(one, other)
        for (a, b), sure in zip(_pairs(one, other), points.tolist(), strict=True):
            for this, that in ((a, b), (b, a)):
                self._points[this][that] = sure
                nearest, group = self._nearest[this], self._group[that]
                if sure > nearest.get(group, OTHER):
                    nearest[group] = sure
        likely: NDArray[np.bool_] = points > OTHER / 2
        return likely

    # --- joining --------------------------------------------------------------------------------

    def _bind(self) -> None:
        """Bring together what an editor brought together."""
        for url, other in self._together:
            if url in self._at and other in self._at:
                one, two = self._group[self._at[url]], self._group[self._at[other]]
                if one != two:
                    self._merge(min(one, two), max(one, two))

    def _join(self, candidates: list[tuple[int, int]]) -> None:
        """Join groups while any two are sure of each other, the surest first."""
        near: dict[int, set[int]] = {}
        queue: list[tuple[float, int, int, int, int]] = []
        for one, other in candidates:
            a, b = self._group[one], self._group[other]
            if a != b:
                near.setdefault(a, set()).add(b)
                near.setdefault(b, set()).add(a)
        for a, around in near.items():
            for b in around:
                if a < b:
                    self._queue(queue, a, b)
        while queue:
            _, a, b, size_a, size_b = heapq.heappop(queue)
            if len(self._members.get(a, ())) != size_a or len(self._members.get(b, ())) != size_b:
                continue
            if self._torn(*self._by_size(a, b), near):
                continue
            self._merge(a, b)
            around = (near.pop(a, set()) | near.pop(b, set())) - {a, b}
            near[a] = around
            for c in sorted(around):
                near[c] = (near.get(c, set()) - {b}) | {a}
                self._queue(queue, min(a, c), max(a, c))

    def _queue(self, queue: list[tuple[float, int, int, int, int]], a: int, b: int) -> None:
        """Put two groups up for joining, if they are sure enough of each other and no editor holds them apart."""
        few, many = self._by_size(a, b)
        sure = self._side(few, many)
        if len(self._members[few]) > 1:
            sure = min(sure, self._side(many, few))
        if len(self._members[many]) >= _ESTABLISHED:
            sure += _HEART * self._drawn(few, many)
        if sure > 0 and not self._held_apart(a, b) and self._of_one_heart(few, many):
            heapq.heappush(queue, (-sure, a, b, len(self._members[a]), len(self._members[b])))

    def _by_size(self, a: int, b: int) -> tuple[int, int]:
        return (a, b) if len(self._members[a]) <= len(self._members[b]) else (b, a)

    def _side(self, a: int, b: int) -> float:
        """How sure the members of *a* are on average of their nearest in *b*."""
        members = self._members[a]
        return sum([self._nearest[one].get(b, OTHER) for one in members]) / len(members)

    def _torn(self, few: int, many: int, near: Mapping[int, set[int]]) -> bool:
        """Whether *few*, a telling or two, are about as near to another story, which is unlike *many*."""
        if len(self._members[few]) >= _ESTABLISHED or len(self._members[many]) == 1:
            return False
        least = self._side(few, many) - _TORN
        return any(
            len(self._members[other]) > 1
            and self._side(few, other) > least
            and self._side(other, many) <= _UNLIKE
            for other in near[few] - {many}
        )

    def _of_one_heart(self, few: int, many: int) -> bool:
        """Whether two established stories agree on enough in a language that both are told in often enough."""
        if len(self._members[few]) < _ESTABLISHED:
            return True
        shares: list[float] = []
        for language in {int(self._all.language[one]) for one in self._members[few]}:
            (heart, whole), (other, other_whole) = self._heart(few, language), self._heart(many, language)
            if min(whole, other_whole) >= _LEAST_HEART:
                shared = sum(heart[word] for word in sorted(heart.keys() & other.keys()))
                shares.append(shared / max(whole, other_whole))
        return not shares or max(shares) >= _ONE_HEART

    def _drawn(self, few: int, many: int) -> float:
        """
        How much more than usual the tellings of *few* say of what most of *many* say; below 0: less.

        Only tellings in a language that *many* has enough of can be asked.
        """
        total = 0.0
        for one in self._members[few]:
            heart, whole = self._heart(many, int(self._all.language[one]))
            if whole:
                words = self._words(one)
                said = sum(weight for word, weight in heart.items() if word in words)
                most = min(whole, sum(words.values()))  # a headline alone cannot say it all
                total += said / (most or 1.0) - _HEART_USUAL
        return total / len(self._members[few])

    def _heart(self, group: int, language: int) -> tuple[dict[int, float], float]:
        """The words most tellings of *group* in *language* have, with their weights and the sum; 0: too few."""
        members = self._members[group]
        key = (group, len(members), language)
        if key not in self._hearts:
            tellings = [self._words(one) for one in members if self._all.language[one] == language]
            heart: dict[int, float] = {}
            if len(tellings) >= _ESTABLISHED:
                said = Counter(word for words in tellings for word in words)
                rarity = {word: weight for words in tellings for word, weight in words.items()}
                heart = {word: rarity[word] for word, times in said.items() if 2 * times >= len(tellings)}
            self._hearts[key] = (heart, sum(heart.values()))
        return self._hearts[key]

    def _words(self, one: int) -> dict[int, float]:
        """The words of a telling with their rarities."""
        if one not in self._said:
            table = self._all.words
            entries = slice(table.indptr[one], table.indptr[one + 1])
            words, rarity = table.indices[entries].tolist(), self._likeness.rarity[entries].tolist()
            self._said[one] = dict(zip(words, rarity, strict=True))
        return self._said[one]

    def _held_apart(self, a: int, b: int) -> bool:
        if not self._apart:
            return False
        urls = [self._all.urls[one] for one in self._members[a]]
        others = [self._all.urls[one] for one in self._members[b]]
        return any(_pair(url, other) in self._apart for url in urls for other in others)

    def _merge(self, a: int, b: int) -> None:
        members = self._members.pop(b)
        for one in members:
            self._group[one] = a
        for other in {other for one in members for other in self._points[one]}:
            nearest = self._nearest[other]
            if (sure := nearest.pop(b, OTHER)) > nearest.get(a, OTHER):
                nearest[a] = sure
        self._members[a] = sorted(self._members[a] + members)

    # --- ids ------------------------------------------------------------------------------------

    def _ids(self) -> dict[int, str]:
        """An id a group: the one most of its members had, if no group has more of it; else a new one."""
        claims: list[tuple[int, int, str]] = []
        for members in self._members.values():
            had = [story for one in members if (story := self._known.get(self._all.urls[one]))]
            times = Counter(had) if len(had) > 1 else dict.fromkeys(had, 1)  # most tell theirs alone
            claims += [(-count, members[0], story) for story, count in times.items()]
        ids: dict[int, str] = {}
        taken: set[str] = set()
        for _, first, story in sorted(claims):
            group = self._group[first]
            if group not in ids and story not in taken:
                ids[group] = story
                taken.add(story)
        for group in sorted(self._members):
            if group not in ids:
                ids[group] = _new_id(self._all.urls[min(self._members[group])], taken)
                taken.add(ids[group])
        return ids


def group(
    articles: Iterable[Article],
    *,
    links: Iterable[Link] = (),
    known: Mapping[str, str] | None = None,
    meaning: Meaning | None = None,
) -> dict[str, str]:
    """Each article's story id, by URL; the order of *articles* changes nothing."""
    grouping = Grouping(links=links, known=known, meaning=meaning)
    grouping.add(articles)
    return grouping.stories


def _pairs(one: Numbers, other: Numbers) -> Iterator[tuple[int, int]]:
    return zip(one.tolist(), other.tolist(), strict=True)


def _pair(url: str, other: str) -> tuple[str, str]:
    return (url, other) if url < other else (other, url)


def _new_id(url: str, taken: set[str]) -> str:
    """Twelve hex digits made of the first telling's URL."""
    salt = 0
    while True:
        story = hashlib.blake2b(f"{salt}{url}".encode(), digest_size=6).hexdigest()
        if story not in taken:
            return story
        salt += 1
