"""
Choosing the stories of an edition: rules are data, the choice is a pure function, and it says why.

Every article handed in ends either as a ``Pick`` or as a ``Drop``, each with its reasons in words.
A story is told once, by the article that tells it best; each next pick is the one that adds most to those
before it. Order of input never matters; ties are broken by canonical URL. Scores are points an editor can
add up: each reason that moved the score ends with what it gave.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from rapidfuzz import fuzz

from newsletter.articles import Article, Topic, headline_key
from newsletter.catalogue import Newsletter, Publication, Section, Weights
from newsletter.fitting import (
    SHORT_HEADLINE_WORDS,
    Elsewhere,
    Ran,
    at_cap,
    misfit,
    repetition,
    too_old,
    unfit,
    why_nowhere,
)
from newsletter.orders import (
    EDITABLE,
    PICTURE,
    TEXTS,
    Order,
    SourceChange,
    edited_image,
    field_of,
)
from newsletter.weighing import Points, Story, in_words, stories_of, story_points, telling_points, total

SAME_HEADLINE = 86.0
"""From this likeness (token sort ratio, 0–100) two headlines of one language tell the same story."""

FEW_SHARE = 0.02
"""Up to this share of common readers, two newsletters may lead with one story."""

MANY_SHARE = 0.2
"""From this share of common readers, a story that leads one newsletter does not run in the other."""

_MOST_REPETITION = 6.0
_HARD = (Topic.POLITICS, Topic.CONFLICT, Topic.DIPLOMACY, Topic.CRIME, Topic.DISASTER)


@dataclass(frozen=True, slots=True)
class Pick:
    """An article in its place; *position* counts from 1 within the section."""

    section: str
    position: int
    article: Article
    score: float
    reasons: tuple[str, ...]
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class Drop:
    """An article that was not chosen, and why; *points* are what spoke for it, if it came so far."""

    article: Article
    reasons: tuple[str, ...]
    points: tuple[str, ...] = ()
    score: float = 0.0


@dataclass(frozen=True, slots=True)
class Picks:
    """
    A newsletter's choice. *shortfalls* are sentences; empty means the day fills the edition.

    *changes* tells what sources said anew under an editor's edits, which stand. *waiting* are orders on stories
    that are not among the articles: not collected yet, too old to be looked at, or mistyped.
    """

    newsletter: str
    picked: tuple[Pick, ...]
    dropped: tuple[Drop, ...]
    shortfalls: tuple[str, ...]
    changes: tuple[SourceChange, ...] = ()
    waiting: tuple[Order, ...] = ()

    def of(self, section: str) -> tuple[Pick, ...]:
        """The picks of one section in order."""
        return tuple(pick for pick in self.picked if pick.section == section)


def pick_articles(
    newsletter: Newsletter,
    publication: Publication,
    articles: Iterable[Article],
    *,
    now: datetime,
    since: datetime,
    sent: Mapping[str, str] | None = None,
    ran: Mapping[str, Ran] | None = None,
    elsewhere: Sequence[Elsewhere] = (),
    engagement: Mapping[Topic, float] | None = None,
    weights: Weights | None = None,
    orders: Sequence[Order] = (),
) -> Picks:
    """
    Choose the stories of *newsletter* that came after *since* and are not older than its window.

    An article has come when it was published, or when we first saw it if that was later: what a
    source published late into its feed is not lost between two editions.
    *sent* maps canonical URLs and headline keys that this newsletter has run to words saying when, *ran* the
    stories it has told; *elsewhere* is what other newsletters tell about the same time; *engagement* is how
    much readers went for a topic (0 to 1); *weights* stand in for the publication's.
    """
    choice = _Choice(
        newsletter, publication, tuple(articles), now=now, since=since, sent=sent or {}, ran=ran or {},
        elsewhere=elsewhere, engagement=engagement or {}, weights=weights or publication.weights, orders=orders,
    )  # fmt: skip
    choice.consider()
    choice.drop_repeats()
    choice.place_pinned()
    for quota in ("min", "max"):
        for section in newsletter.sections:
            choice.fill(section, getattr(section, quota), thin=False)
    for section in newsletter.sections:
        choice.fill(section, section.min, thin=True)
    return choice.result()


@dataclass(slots=True)
class _Candidate:
    article: Article
    story: Story
    key: str
    points: Points
    score: float
    sections: frozenset[str]
    is_archive: bool = False
    is_repeat: bool = False


class _Choice:
    """The state of one choice; used by ``pick_articles`` only."""

    def __init__(
        self,
        newsletter: Newsletter,
        publication: Publication,
        articles: tuple[Article, ...],
        *,
        now: datetime,
        since: datetime,
        sent: Mapping[str, str],
        ran: Mapping[str, Ran],
        elsewhere: Sequence[Elsewhere],
        engagement: Mapping[Topic, float],
        weights: Weights,
        orders: Sequence[Order],
    ) -> None:
        self.newsletter = newsletter
        self.publication = publication
        self.weights = weights
        self.now = now
        self.since = since
        self.sent = sent
        self.ran = ran
        self.engagement = engagement
        self.elsewhere: dict[str, list[Elsewhere]] = {}
        for one in elsewhere:
            self.elsewhere.setdefault(one.story, []).append(one)
        # Later orders override earlier ones on the same story.
        self.placed: dict[str, Order] = {}
        for order in orders:
            if order.verb in ("pin", "move", "drop"):
                self.placed.pop(order.url, None)  # so that the order of giving is kept
                self.placed[order.url] = order
        self.orders = {order.url: order for order in orders if order.url}
        self.edits = [order for order in orders if order.verb == "edit"]
        self.changes: list[SourceChange] = []
        # An edit changes what readers see, not what a story weighs: that is read from its source.
        self.sources = {article.url: article for article in sorted(articles, key=lambda one: one.url)}
        self.articles = [self._edited(article) for article in self.sources.values()]
        self.stories = stories_of(self.sources.values(), publication)
        self.story_points: dict[str, Points] = {}
        self.candidates: list[_Candidate] = []
        self.drops: list[Drop] = []
        self.taken: dict[str, list[Pick]] = {section.id: [] for section in newsletter.sections}
        self.used: dict[str, str] = {}  # URL → story
        self.told: dict[str, Pick] = {}  # story → its pick
        self.refusals: dict[str, list[str]] = {}
        self.fits: dict[str, frozenset[str]] = {}
        self.head = next((section.id for section in newsletter.sections if not section.words), "")

    def consider(self) -> None:
        """Take each article as a candidate, or drop it with its reason."""
        for article in self.articles:
            self.orders.pop(article.url, None)
            story = self.stories[article.story or article.url]
            order = self.placed.get(article.url)
            if order is not None:
                if order.verb == "drop":
                    self._drop(article, order.told)
                else:
                    self.candidates.append(self._candidate(article, story))
                continue
            age = too_old(article, self.newsletter, self.now)
            reason = unfit(
                article, story, self.newsletter, now=self.now, since=self.since, sent=self.sent, ran=self.ran
            )
            if not reason and age and not self._in_archive(article):
                reason = age
            if not reason and not self._sections(article):
                reason = why_nowhere(article, self.newsletter, self.now)
            if reason:
                self._drop(article, reason)
            else:
                candidate = self._candidate(article, story)
                candidate.is_archive = bool(age)
                self.candidates.append(candidate)

    def drop_repeats(self) -> None:
        """Keep the best telling of each headline."""
        kept: dict[tuple[str, str], _Candidate] = {}
        for candidate in sorted(self.candidates, key=self._rank):
            key = (candidate.article.language, candidate.key)
            if key in kept and candidate.article.url not in self.placed:
                better = kept[key].article.url
                why = f"the same headline as a better placed story: {better}"
                self._drop(candidate.article, why, points=candidate.points)
                candidate.is_repeat = True
            kept.setdefault(key, candidate)
        self.candidates = [candidate for candidate in self.candidates if not candidate.is_repeat]

    def place_pinned(self) -> None:
        """Put what an editor pinned first, whatever the rules say."""
        by_url = {candidate.article.url: candidate for candidate in self.candidates}
        for url, order in self.placed.items():
            candidate = by_url.get(url)
            if order.verb == "drop" or candidate is None:
                continue
            section = self._section_for(order, candidate.article)
            self._take(candidate, section, candidate.points, first=[order.told], pinned=True)

    def fill(self, section: Section, quota: int, *, thin: bool) -> None:
        """
        Fill *section* up to *quota*, each time with what adds most to what the edition has.

        *thin*: also from the archive, and with what other newsletters tell the same readers.
        """
        left = [
            (total(points), points, candidate)
            for candidate in self.candidates
            if section.id in candidate.sections
            and candidate.article.url not in self.used
            and (thin or not candidate.is_archive)
            for points in [self._in_section(candidate, section)]
        ]
        left.sort(key=lambda row: (-row[0], row[2].article.url))
        while left and len(self.taken[section.id]) < quota:
            best: tuple[float, Points, _Candidate] | None = None
            for score, points, candidate in left:
                if best is not None and score <= best[0]:
                    break  # repetition only takes away, so nothing further down can be better
                if not self._allowed(candidate, section, thin=thin):
                    continue
                less = self._repeating(candidate)
                if best is None or score + total(less) > best[0]:
                    best = (score + total(less), [*points, *less], candidate)
            if best is None:
                break
            self._take(best[2], section, best[1])
            left = [row for row in left if row[2] is not best[2]]
        for score, _, candidate in left:
            if len(self.taken[section.id]) >= quota and candidate.story.id not in self.told:
                self._note(candidate, f"{_name(section)}: outranked at {score:.1f} points")

    def result(self) -> Picks:
        """Sort, number and explain."""
        picked: list[Pick] = []
        for section in self.newsletter.sections:
            picked.extend(
                replace(pick, position=place) for place, pick in enumerate(self._in_order(section), start=1)
            )
        for candidate in self.candidates:
            url = candidate.article.url
            if url in self.used:
                continue
            notes = list(dict.fromkeys(self.refusals.get(url, ())))
            if told := self.told.get(candidate.story.id):
                where = next(_name(one) for one in self.newsletter.sections if one.id == told.section)
                notes = [f"tells the same story as {told.article.url}, which is in {where}"]
            elif candidate.is_archive:
                notes = notes or [too_old(candidate.article, self.newsletter, self.now)]
            self._drop(candidate.article, *notes, points=candidate.points)
        shortfalls = [
            f"{_name(section)} has {len(self.taken[section.id])} of at least {section.min}"
            for section in self.newsletter.sections
            if len(self.taken[section.id]) < section.min
        ]
        if len(picked) < self.newsletter.min_stories:
            shortfalls.insert(0, f"{len(picked)} of at least {self.newsletter.min_stories} stories")
        return Picks(
            newsletter=self.newsletter.slug,
            picked=tuple(picked),
            dropped=tuple(sorted(self.drops, key=lambda drop: drop.article.url)),
            shortfalls=tuple(shortfalls),
            changes=tuple(self.changes),
            waiting=tuple(self.orders.values()),
        )

    def _in_order(self, section: Section) -> list[Pick]:
        """Pinned stories first, then by points; whatever an editor gave a place stands in it."""
        taken = self.taken[section.id]
        asked = {pick.article.url: self.placed[pick.article.url].position for pick in taken if pick.pinned}
        free = [pick for pick in taken if not asked.get(pick.article.url)]
        ordered = [pick for pick in free if pick.pinned]
        ordered += sorted(
            (pick for pick in free if not pick.pinned), key=lambda pick: (-pick.score, pick.article.url)
        )
        for pick in taken:  # in the order of giving: who is put in a place moves the others on
            if place := asked.get(pick.article.url):
                ordered.insert(place - 1, pick)
        return ordered

    # --- what speaks against a candidate, and what for it -----------------------------------------

    def _allowed(self, candidate: _Candidate, section: Section, *, thin: bool) -> bool:
        """Whether caps, the edition itself and the other newsletters leave *candidate* free; notes why not."""
        if candidate.story.id in self.told:
            return False
        cap = at_cap(candidate.article, section, [pick.article for pick in self.taken[section.id]])
        if cap:
            self._note(candidate, f"{_name(section)}: {cap}")
            return False
        if not thin and (clash := self._clash(candidate.story.id, section)):
            self._note(candidate, f"{_name(section)}: {clash}")
            return False
        if alike := self._alike(candidate):
            self.refusals[candidate.article.url] = [alike]
        return not alike

    def _clash(self, story: str, section: Section) -> str:
        """Which other newsletter keeps *story* out of *section*, or ''."""
        heads = section.id == self.head
        for other in self.elsewhere.get(story, ()):
            limit = FEW_SHARE if other.lead and heads else MANY_SHARE
            if (other.lead or heads) and other.shared > limit:
                how = "leads" if other.lead else "is in"
                return f"its story {how} {other.newsletter}, which {other.shared:.0%} of the readers get too"
        return ""

    def _repeating(self, candidate: _Candidate) -> Points:
        taken = [pick.article for picks in self.taken.values() for pick in picks]
        less = [
            (words, value * self.weights.repetition) for words, value in repetition(candidate.article, taken)
        ]
        worst = total(less)
        if worst < -_MOST_REPETITION:
            less = [(words, value * _MOST_REPETITION / -worst) for words, value in less]
        return less

    def _candidate(self, article: Article, story: Story) -> _Candidate:
        """An article with its points that do not depend on the section."""
        if story.id not in self.story_points:
            self.story_points[story.id] = story_points(story, self.weights)
        source = self.sources[article.url]
        points = telling_points(
            source, story, self.newsletter, self.publication, self.weights, now=self.now, engagement=self.engagement
        )  # fmt: skip
        if before := self.ran.get(story.id):
            points.append((f"updated: its story ran in {before.words} and has moved on", 0.0))
        points += self.story_points[story.id]
        return _Candidate(
            article, story, headline_key(article.headline), points, total(points), self._sections(article)
        )

    def _in_section(self, candidate: _Candidate, section: Section) -> Points:
        """The candidate's points in *section*, with those that are the section's own."""
        points = list(candidate.points)
        if section.light:
            if weight := total(self.story_points[candidate.story.id]):
                points.append(("weight counts nothing in a lighter place", -weight))
            if hard := [topic for topic in candidate.article.topics if topic in _HARD]:
                points.append((f"also about {', '.join(hard)}, in a lighter place", -3.0 * len(hard)))
        if section.topics and candidate.article.topics:
            main = candidate.article.topics[0]
            if main in section.topics:
                points.append((f"mainly about {main}", self.weights.main_topic))
            else:
                shared = next(topic for topic in candidate.article.topics if topic in section.topics)
                points.append((f"also about {shared}", -self.weights.main_topic))
        if section.full and candidate.article.body:
            points.append(("can be printed in full", 1.0))
        points += [
            (f"{other.shared:.0%} of the readers get it in {other.newsletter}", -2.0 * other.shared)
            for other in self.elsewhere.get(candidate.story.id, ())
        ]
        if candidate.is_archive:
            points.append(("from the archive, as the day is thin", 0.0))
        return points

    # --- small steps ------------------------------------------------------------------------------

    def _sections(self, article: Article) -> frozenset[str]:
        """The sections whose conditions *article* meets."""
        if article.url not in self.fits:
            fitting = (one.id for one in self.newsletter.sections if not misfit(article, one, self.now))
            self.fits[article.url] = frozenset(fitting)
        return self.fits[article.url]

    def _in_archive(self, article: Article) -> bool:
        age_hours = (self.now - article.published_at) / timedelta(hours=1)
        return age_hours <= self.newsletter.archive_hours

    def _edited(self, article: Article) -> Article:
        source = article
        for order in self.edits:
            if order.url != article.url:
                continue
            texts: dict[str, Any] = {key: value for key, value in order.fields.items() if key in TEXTS}
            article = replace(article, **texts, image=edited_image(article.image, order.fields))
            self.changes += [
                SourceChange(article.url, name, was, field_of(source, name), order.actor)
                for name, was in order.seen.items()
                if name in order.fields and field_of(source, name) not in (was, order.fields[name])
            ]
        return article

    def _section_for(self, order: Order, article: Article) -> Section:
        sections = [section for section in self.newsletter.sections if not section.words]
        named = next((section for section in sections if section.id == order.section), None)
        fits = next((section for section in sections if section.id in self._sections(article)), None)
        return named or fits or sections[0]

    def _alike(self, candidate: _Candidate) -> str:
        """That a pick has nearly the same headline in the same language, or ''."""
        short = len(candidate.key.split()) < SHORT_HEADLINE_WORDS
        for pick in self.told.values():
            if pick.article.language == candidate.article.language and not short:
                likeness = fuzz.token_sort_ratio(candidate.key, headline_key(pick.article.headline))
                if likeness >= SAME_HEADLINE:
                    return f"a headline {likeness:.0f} % alike as a better placed story: {pick.article.url}"
        return ""

    def _rank(self, candidate: _Candidate) -> tuple[bool, float, str]:
        return (candidate.article.url not in self.placed, -candidate.score, candidate.article.url)

    def _take(
        self,
        candidate: _Candidate,
        section: Section,
        points: Points,
        *,
        first: Sequence[str] = (),
        pinned: bool = False,
    ) -> None:
        article = candidate.article
        if candidate.story.id in self.ran and not article.kicker:
            article = replace(article, kicker=self.newsletter.updated)
        pick = Pick(
            section=section.id,
            position=0,
            article=article,
            score=round(total(points), 2),
            reasons=(*first, *in_words(points)),
            pinned=pinned,
        )
        self.used[candidate.article.url] = candidate.story.id
        self.told.setdefault(candidate.story.id, pick)
        self.taken[section.id].append(pick)

    def _note(self, candidate: _Candidate, reason: str) -> None:
        self.refusals.setdefault(candidate.article.url, []).append(reason)

    def _drop(self, article: Article, *reasons: str, points: Points | None = None) -> None:
        points = points or []
        self.drops.append(
            Drop(
                article,
                reasons or ("nothing left to fill",),
                tuple(in_words(points)),
                round(total(points), 2),
            )
        )


def _name(section: Section) -> str:
    return section.heading or section.id


__all__ = [
    "EDITABLE", "PICTURE", "SAME_HEADLINE", "TEXTS", "Drop", "Elsewhere", "Order", "Pick", "Picks", "Ran",
    "SourceChange", "edited_image", "field_of", "pick_articles",
]  # fmt: skip
