"""
What a choice needs from the store: articles in their stories, what was told before, what the other newsletters tell.

The newsletters of a day are chosen in the order in which they go out; a later one knows what the earlier ones
tell, from their editions where those are made, else by choosing for them too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import partial

from sqlmodel import Session, col, select

from newsletter.audience.overlap import shares
from newsletter.catalogue import Catalogue, Newsletter, PoolName, Weights
from newsletter.edition import EditionStatus
from newsletter.feeds.stored import load_articles, load_by_url, load_long_reads
from newsletter.picking.liking import Liking, liking_of
from newsletter.picking.orders import Order
from newsletter.picking.picks import Elsewhere, Newslist, Picks, Ran, pick_articles
from newsletter.picking.pools import Reserve, kept, most_read, reserves, well_run
from newsletter.store.editions import last_run_before, load_snapshot, stories_run, stories_told
from newsletter.store.orders import load_orders
from newsletter.store.reads import load_reads
from newsletter.store.tables import EditionRow
from newsletter.times import WEEKDAYS

_REMEMBERED = timedelta(days=60)
_LIKED = timedelta(days=60)
_NEVER_AGAIN = timedelta(days=4_000)
_FAR_AHEAD = timedelta(days=366)
_GONE = (EditionStatus.SKIPPED, EditionStatus.SPIKED)


def in_order(catalogue: Catalogue) -> tuple[Newsletter, ...]:
    """The newsletters in the order in which those of one day go out."""
    return tuple(sorted(catalogue.newsletters, key=lambda one: (one.schedule.at, one.slug)))


@dataclass
class Newsroom:
    """One look at the store, for the choices of one date; *told* keeps what was found out on the way."""

    session: Session
    catalogue: Catalogue
    day: date
    now: datetime
    weights: Weights | None = None
    _newslists: dict[datetime, Newslist] = field(default_factory=dict)
    _chosen: dict[str, Picks] = field(default_factory=dict)

    def choose(self, newsletter: Newsletter) -> tuple[Picks, tuple[Order, ...]]:
        """The choice for one newsletter, and the orders it kept."""
        orders = load_orders(self.session, newsletter.slug, self.day)
        looks_back = self.now - timedelta(hours=newsletter.window_hours)
        last = last_run_before(self.session, newsletter.slug, self.day)
        newslist = self._newslist(newsletter)
        missing = {order.url for order in orders if order.url} - newslist.entries.keys()
        pick = partial(
            pick_articles, newsletter, newslist, now=self.now,
            since=max(looks_back, last.frozen_at) if last and last.frozen_at else looks_back,
            sent=stories_run(self.session, newsletter.slug, but=self.day),
            elsewhere=self._elsewhere(newsletter), liking=self._liking(newsletter), orders=orders,
            ordered=load_by_url(self.session, missing),
        )  # fmt: skip
        picks = pick(ran=self._told(newsletter, _REMEMBERED))
        if picks.shortfalls and (pools := self._pools(newsletter)):
            picks = pick(ran=self._told(newsletter, _NEVER_AGAIN), pools=pools)
        self._chosen[newsletter.slug] = picks
        return picks, orders

    def _told(self, newsletter: Newsletter, back: timedelta) -> dict[str, Ran]:
        return stories_told(self.session, newsletter.slug, but=self.day, since=self.day - back)

    def _pools(self, newsletter: Newsletter) -> dict[str, tuple[Reserve, ...]]:
        """What its sections may fall back on, by pool."""
        wanted = {name for section in newsletter.sections for name in section.fallback}
        return {name: self._pool(name, newsletter) for name in sorted(wanted)}

    def _pool(self, name: PoolName, newsletter: Newsletter) -> tuple[Reserve, ...]:
        rules, newsletters = self.catalogue.publication.pools, self.catalogue.newsletters
        if name == "earlier":
            since = self.now - timedelta(days=rules.earlier.days)
            until = self.now - timedelta(hours=newsletter.window_hours)
            found = load_articles(self.session, since=since, until=until)
            return kept((one for one in found if one.published_at > since), "what was left")
        if name == "magazine":
            since = self.now - timedelta(days=rules.magazine.days)
            found = load_long_reads(self.session, since=since, until=self.now, words=rules.magazine.words)
            return kept(found, "the magazine: a long read")
        if name == "most-read":
            since_day = self.day - timedelta(days=rules.most_read.days)
            reads = load_reads(self.session, since=since_day, before=self.day)
            reasons = most_read(reads, rules.most_read, newsletters)
        else:
            since_day = self.day - timedelta(days=rules.archive.days)
            before = self.day - timedelta(days=rules.archive.after_days)
            reasons = well_run(
                load_reads(self.session, since=since_day, before=before), rules.archive, newsletters
            )
        return reserves(load_by_url(self.session, reasons), reasons)

    def _newslist(self, newsletter: Newsletter) -> Newslist:
        """What there is to choose from, as far back as *newsletter* looks and two days more, so that it can say so."""
        since = self.now - timedelta(hours=newsletter.window_hours) - timedelta(days=2)
        if since not in self._newslists:
            articles = load_articles(self.session, since=since, until=self.now + _FAR_AHEAD)
            self._newslists[since] = Newslist(articles, self.catalogue.publication, self.weights)
        return self._newslists[since]

    def _liking(self, newsletter: Newsletter) -> Liking:
        """What its readers went for in the last weeks."""
        since = self.day - _LIKED
        return liking_of(load_reads(self.session, since=since, before=self.day, slug=newsletter.slug))

    def _elsewhere(self, newsletter: Newsletter) -> tuple[Elsewhere, ...]:
        """What the newsletters before this one tell on its date."""
        shared = shares(self.session, newsletter.slug)
        found: list[Elsewhere] = []
        for other in in_order(self.catalogue):
            if other.slug == newsletter.slug:
                break
            if share := shared.get(other.slug):
                for place, story in enumerate(self._stories(other)):
                    found.append(Elsewhere(story, other.name, lead=place == 0, shared=share))
        return tuple(found)

    def _stories(self, newsletter: Newsletter) -> Sequence[str]:
        """The stories *newsletter* tells on the date, in its order: as its edition has them, else as chosen now."""
        row = self.session.exec(
            select(EditionRow)
            .where(EditionRow.newsletter == newsletter.slug, EditionRow.edition_date == self.day)
            .order_by(col(EditionRow.revision).desc())
            .limit(1)
        ).first()
        if row is not None:
            if row.snapshot is None or row.status in _GONE:
                return ()
            known = self._newslist(newsletter).entries
            urls = [item.url for item in load_snapshot(row.snapshot).items]
            return [known[url].story if url in known else url for url in urls]
        if WEEKDAYS[self.day.weekday()] not in newsletter.schedule.days:
            return ()
        picks = self._chosen.get(newsletter.slug) or self.choose(newsletter)[0]
        return [pick.article.story or pick.article.url for pick in picks.picked]
