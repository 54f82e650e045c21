"""
Choosing the stories of an edition: rules are data, the choice is a pure function, and it says why.

Every article handed in ends either as a ``Pick`` or as a ``Drop``, each with its reasons in words.
Order of input never matters; ties are broken by canonical URL. Scores are points an editor can add
up: each reason that moved the score ends with what it gave.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from rapidfuzz import fuzz, process

from newsletter.articles import Article, Flag, Image, Kind, Rights, headline_key
from newsletter.catalogue import Newsletter, Publication, Section

SAME_HEADLINE = 86.0
"""From this likeness (token sort ratio, 0–100) two headlines of one language tell the same story."""

_SHORT_HEADLINE_WORDS = 4
_SLOW_KINDS = {Kind.LIVE_BLOG, Kind.VIDEO, Kind.LISTICLE}


@dataclass(frozen=True, slots=True)
class Order:
    """
    An editor's order for one edition; *verb* is pin, drop, move, edit or words.

    *position* counts from 1 within *section*; 0: first. *seen* is what the source said in the edited fields
    when the edit was given. *id*, *given_at*, *undone_at* and *undone_by* are known once it is stored.
    """

    verb: str
    url: str = ""
    section: str = ""
    position: int = 0
    fields: Mapping[str, str] = field(default_factory=dict)
    actor: str = ""
    reason: str = ""
    seen: Mapping[str, str] = field(default_factory=dict)
    id: int = 0
    given_at: datetime | None = None
    undone_at: datetime | None = None
    undone_by: str = ""

    @property
    def told(self) -> str:
        """The order in words, for a pick's or drop's reasons."""
        return f"{self.verb} by {self.actor or 'an editor'}" + (f": {self.reason}" if self.reason else "")


TEXTS = ("headline", "standfirst", "kicker", "byline")
PICTURE = ("image_url", "image_alt", "image_caption", "image_credit")
EDITABLE = (*TEXTS, *PICTURE)
"""What an ``edit`` may change of a story."""


def field_of(article: Article, name: str) -> str:
    """What the source says in an editable field."""
    if name in TEXTS:
        return str(getattr(article, name))
    return str(getattr(article.image, name.removeprefix("image_"), "")) if article.image else ""


def edited_image(image: Image | None, fields: Mapping[str, str]) -> Image | None:
    """*image* with an editor's changes; none without an address."""
    changes: dict[str, Any] = {
        key.removeprefix("image_"): value for key, value in fields.items() if key in PICTURE
    }
    if changes.get("url") and image is not None and changes["url"] != image.url:
        image = Image(image.url, alt=image.alt, caption=image.caption, credit=image.credit)  # of another size
    made = replace(image or Image(""), **changes)
    return made if made.url else None


@dataclass(frozen=True, slots=True)
class SourceChange:
    """A source has said something else since an editor changed that field of its story."""

    url: str
    field: str
    was: str
    now: str
    actor: str


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
    """An article that was not chosen, and why."""

    article: Article
    reasons: tuple[str, ...]


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
    orders: Sequence[Order] = (),
) -> Picks:
    """
    Choose the stories of *newsletter* that came after *since* and are not older than its window.

    An article has come when it was published, or when we first saw it if that was later: what a
    source published late into its feed is not lost between two editions.
    *sent* maps canonical URLs and headline keys that this newsletter has run to words saying when.
    """
    choice = _Choice(newsletter, publication, now=now, since=since, sent=sent or {}, orders=orders)
    for article in sorted(articles, key=lambda one: one.url):
        choice.consider(article)
    choice.drop_repeats()
    choice.place_pinned()
    for quota in ("min", "max"):
        for section in newsletter.sections:
            choice.fill(section, getattr(section, quota))
    return choice.result()


@dataclass(slots=True)
class _Candidate:
    article: Article
    key: str
    score: float
    reasons: list[str]


class _Choice:
    """The state of one choice; used by ``pick_articles`` only."""

    def __init__(
        self,
        newsletter: Newsletter,
        publication: Publication,
        *,
        now: datetime,
        since: datetime,
        sent: Mapping[str, str],
        orders: Sequence[Order],
    ) -> None:
        self.newsletter = newsletter
        self.now = now
        self.since = since
        self.sent = sent
        self.weights = {source.id: source.weight for source in publication.feeds}
        # Later orders override earlier ones on the same story.
        self.placed: dict[str, Order] = {}
        for order in orders:
            if order.verb in ("pin", "move", "drop"):
                self.placed.pop(order.url, None)  # so that the order of giving is kept
                self.placed[order.url] = order
        self.orders = {order.url: order for order in orders if order.url}
        self.edits = [order for order in orders if order.verb == "edit"]
        self.candidates: list[_Candidate] = []
        self.drops: list[Drop] = []
        self.taken: dict[str, list[Pick]] = {section.id: [] for section in newsletter.sections}
        self.used: set[str] = set()
        self.refusals: dict[str, list[str]] = {}
        self.changes: list[SourceChange] = []

    def consider(self, article: Article) -> None:
        """Take *article* as a candidate, or drop it with its reason."""
        self.orders.pop(article.url, None)
        article = self._edited(article)
        order = self.placed.get(article.url)
        if order and order.verb == "drop":
            self._drop(article, order.told)
            return
        pinned = order is not None
        reason = "" if pinned else self._unfit(article)
        if reason:
            self._drop(article, reason)
            return
        if not pinned and not any(
            self._misfit(article, section) == "" for section in self.newsletter.sections
        ):
            self._drop(article, self._why_nowhere(article))
            return
        score, reasons = self._score(article)
        self.candidates.append(_Candidate(article, headline_key(article.headline), score, reasons))

    def drop_repeats(self) -> None:
        """Keep the best telling of each headline: exact and near-same ones go once."""
        ranked = sorted(self.candidates, key=self._rank)
        kept: list[_Candidate] = []
        keys: dict[str, list[str]] = {}
        owners: dict[str, list[_Candidate]] = {}
        for candidate in ranked:
            language = candidate.article.language
            same = self._same_as(candidate, keys.get(language, []), owners.get(language, []))
            if same is not None and candidate.article.url not in self.placed:
                other, likeness = same
                how = "the same headline" if likeness >= 99.9 else f"a headline {likeness:.0f} % alike"
                self._drop(candidate.article, f"{how} as a better placed story: {other.article.url}")
                continue
            kept.append(candidate)
            keys.setdefault(language, []).append(candidate.key)
            owners.setdefault(language, []).append(candidate)
        self.candidates = kept

    def place_pinned(self) -> None:
        """Put what an editor pinned first, whatever the rules say."""
        by_url = {candidate.article.url: candidate for candidate in self.candidates}
        for url, order in self.placed.items():
            candidate = by_url.get(url)
            if order.verb == "drop" or candidate is None:
                continue
            section = self._section_for(order, candidate.article)
            self._take(candidate, section, [order.told, *candidate.reasons], pinned=True)

    def fill(self, section: Section, quota: int) -> None:
        """Fill *section* up to *quota* with the best of what fits and is left."""
        fitting = [
            (candidate, *self._in_section(candidate, section))
            for candidate in self.candidates
            if candidate.article.url not in self.used and self._misfit(candidate.article, section) == ""
        ]
        fitting.sort(key=lambda row: (-row[1], row[0].article.url))
        for candidate, score, extra in fitting:
            if len(self.taken[section.id]) >= quota:
                self._note(candidate, f"{self._name(section)}: outranked at {score:.1f} points")
                continue
            cap = self._at_cap(candidate.article, section)
            if cap:
                self._note(candidate, f"{self._name(section)}: {cap}")
                continue
            self._take(candidate, section, [*candidate.reasons, *extra], score=score)

    def result(self) -> Picks:
        """Sort, number and explain."""
        picked: list[Pick] = []
        for section in self.newsletter.sections:
            picked.extend(
                replace(pick, position=place) for place, pick in enumerate(self._in_order(section), start=1)
            )
        for candidate in self.candidates:
            if candidate.article.url not in self.used:
                notes = self.refusals.get(candidate.article.url, [])
                self._drop(candidate.article, *dict.fromkeys(notes))
        shortfalls = [
            f"{self._name(section)} has {len(self.taken[section.id])} of at least {section.min}"
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

    # --- what speaks against an article ---------------------------------------------------------

    def _unfit(self, article: Article) -> str:
        """Why no section may have it, or ''."""
        if not article.headline:
            return "no headline"
        if Flag.FIRST_FETCH in article.flags:
            return "undated and from the first fetch of its source: it may be years old"
        if article.published_at > self.now:
            return f"dated in the future ({article.published_at:%Y-%m-%d %H:%M} UTC): not before its date"
        oldest = self.now - timedelta(hours=self.newsletter.window_hours)
        if article.published_at <= oldest:
            return f"older than {self.newsletter.name} looks back (to {oldest:%Y-%m-%d %H:%M} UTC)"
        if max(article.published_at, article.first_seen_at) <= self.since:
            return f"known before the last edition closed ({self.since:%Y-%m-%d %H:%M} UTC)"
        if article.url in self.sent:
            return f"ran in {self.sent[article.url]}"
        key = headline_key(article.headline)
        if len(key.split()) >= _SHORT_HEADLINE_WORDS and key in self.sent:
            return f"the same headline ran in {self.sent[key]}"
        if article.kind in self.newsletter.kinds_never:
            return f"is a {article.kind} piece, which {self.newsletter.name} never runs"
        if self.newsletter.sources and article.source not in self.newsletter.sources:
            return f"{self.newsletter.name} does not read {article.source}"
        if article.source in self.newsletter.without_sources:
            return f"{self.newsletter.name} leaves out {article.source}"
        return ""

    def _misfit(self, article: Article, section: Section) -> str:
        """The first of the section's conditions that *article* does not meet, or ''."""
        if section.words:
            return "words"
        language = article.language.split("-")[0]
        age_hours = (self.now - article.published_at) / timedelta(hours=1)
        if section.sources and article.source not in section.sources:
            return "source"
        if section.topics and not set(section.topics) & set(article.topics):
            return "topic"
        if set(section.without_topics) & set(article.topics[:1]):
            return "topic"
        if section.regions and article.region not in section.regions:
            return "region"
        if section.languages and language not in section.languages:
            return "language"
        if section.kinds and article.kind not in section.kinds:
            return "kind"
        if section.rights and article.rights not in section.rights:
            return "rights"
        if section.categories and not {c.casefold() for c in section.categories} & {
            c.casefold() for c in article.categories
        }:
            return "category"
        if section.with_picture and (article.image is None or article.rights is Rights.EXCERPT):
            return "no picture we may show"
        if section.translated is not None and bool(article.translated_from) is not section.translated:
            return "not a translation" if section.translated else "a translation"
        if section.max_age_hours is not None and age_hours > section.max_age_hours:
            return "too old"
        return ""

    def _why_nowhere(self, article: Article) -> str:
        why = Counter(self._misfit(article, section) for section in self.newsletter.sections)
        facts = ", ".join(article.topics) or "no topic"
        told = ", ".join(sorted(why))
        return f"fits no section ({told}): {facts}; {article.language}; {article.kind}"

    def _at_cap(self, article: Article, section: Section) -> str:
        taken = self.taken[section.id]
        if (
            section.per_source
            and sum(p.article.source == article.source for p in taken) >= section.per_source
        ):
            return f"already {section.per_source} from {article.source_name or article.source}"
        if (
            section.per_country
            and article.country
            and sum(p.article.country == article.country for p in taken) >= section.per_country
        ):
            return f"already {section.per_country} from {article.country}"
        return ""

    # --- what speaks for it ---------------------------------------------------------------------

    def _score(self, article: Article) -> tuple[float, list[str]]:
        """Points that do not depend on the section."""
        window_hours = self.newsletter.window_hours
        age_hours = max(0.0, (self.now - article.published_at) / timedelta(hours=1))
        fresh = 4.0 * 0.5 ** (age_hours / max(6.0, window_hours / 3))
        points: list[tuple[str, float]] = [(_age(age_hours), fresh)]
        weight = self.weights.get(article.source, 1.0)
        if weight != 1.0:
            points.append(
                (f"{article.source_name or article.source} weighs {weight:g}", 2.0 * (weight - 1.0))
            )
        if article.rights is not Rights.EXCERPT:
            points.append(("ours to print in full" if article.body else "ours", 1.0))
        if article.language.split("-")[0] in self.newsletter.languages_preferred:
            points.append((f"in {article.language}", 1.0))
        if article.standfirst:
            points.append(("has a standfirst", 0.5))
        if article.image is not None:
            points.append(("has a picture", 0.3))
        if article.translated_from:
            points.append(("a translation", 0.5))
        if article.kind in _SLOW_KINDS:
            points.append((f"a {article.kind}", -1.0))
        if article.paywalled and article.rights is Rights.EXCERPT:
            points.append(("behind a paywall", -0.5))
        if Flag.UNDATED in article.flags:
            points.append(("undated: counted from when it was first seen", -0.5))
        return _total(points)

    def _in_section(self, candidate: _Candidate, section: Section) -> tuple[float, list[str]]:
        """The candidate's points in *section* and the reasons that are the section's own."""
        points: list[tuple[str, float]] = []
        if section.topics and candidate.article.topics:
            main = candidate.article.topics[0]
            if main in section.topics:
                points.append((f"mainly about {main}", 1.5))
            else:
                shared = next(topic for topic in candidate.article.topics if topic in section.topics)
                points.append((f"also about {shared}", 0.0))
        if section.full and candidate.article.body:
            points.append(("can be printed in full", 1.0))
        extra, reasons = _total(points)
        return candidate.score + extra, reasons

    # --- small steps ----------------------------------------------------------------------------

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
        fits = next((section for section in sections if self._misfit(article, section) == ""), None)
        return named or fits or sections[0]

    def _same_as(
        self, candidate: _Candidate, keys: list[str], owners: list[_Candidate]
    ) -> tuple[_Candidate, float] | None:
        if not keys:
            return None
        short = len(candidate.key.split()) < _SHORT_HEADLINE_WORDS
        found = process.extractOne(
            candidate.key, keys, scorer=fuzz.token_sort_ratio, score_cutoff=100.0 if short else SAME_HEADLINE
        )
        return None if found is None else (owners[found[2]], found[1])

    def _rank(self, candidate: _Candidate) -> tuple[bool, float, str]:
        return (candidate.article.url not in self.placed, -candidate.score, candidate.article.url)

    def _take(
        self,
        candidate: _Candidate,
        section: Section,
        reasons: Sequence[str],
        *,
        score: float | None = None,
        pinned: bool = False,
    ) -> None:
        self.used.add(candidate.article.url)
        self.taken[section.id].append(
            Pick(
                section=section.id,
                position=0,
                article=candidate.article,
                score=round(candidate.score if score is None else score, 2),
                reasons=tuple(reasons),
                pinned=pinned,
            )
        )

    def _note(self, candidate: _Candidate, reason: str) -> None:
        self.refusals.setdefault(candidate.article.url, []).append(reason)

    def _drop(self, article: Article, *reasons: str) -> None:
        self.drops.append(Drop(article, reasons or ("nothing left to fill",)))

    @staticmethod
    def _name(section: Section) -> str:
        return section.heading or section.id


def _age(hours: float) -> str:
    return f"{hours:.0f} h old" if hours < 48 else f"{hours / 24:.0f} days old"


def _total(points: Sequence[tuple[str, float]]) -> tuple[float, list[str]]:
    return sum(value for _, value in points), [
        f"{words} ({value:+.1f})" if value else words for words, value in points
    ]
