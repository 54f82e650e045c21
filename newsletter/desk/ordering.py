"""
An editor's orders: pins, drops, moves, edits and words; given, undone, redone.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime
from urllib.parse import urlsplit

from sqlmodel import Session

from newsletter.articles import Rights, canonical_url
from newsletter.catalogue import Newsletter
from newsletter.desk.making import _REMADE, Making
from newsletter.edition import EditionStatus
from newsletter.errors import StateError, WordingError
from newsletter.feeds.stored import find_article
from newsletter.picking.picks import EDITABLE, PICTURE, Order, field_of
from newsletter.rendering.proof.links import why_no_picture
from newsletter.settings import is_loopback
from newsletter.store.editions import (
    current_edition,
)
from newsletter.store.grouped import merge_stories, split_story
from newsletter.store.orders import add_order, load_orders, redo_last, undo_last
from newsletter.store.session import writing
from newsletter.wording import check_inbox_lines

_GONE = (EditionStatus.SUBMITTING, EditionStatus.PAUSED, EditionStatus.SUBMITTED)


class Ordering(Making):
    """What a desk does with orders."""

    def link_stories(self, url: str, other: str, *, now: datetime) -> int:
        """
        Take an editor's word on stories and group again: *url* and *other* are one; without *other*, *url*
        stands apart. Returns how many articles the word is about.

        Raises:
            NotFound: an article is not stored, or stands apart already.
        """
        url, other = canonical_url(url) or url, canonical_url(other) or other
        with writing(self.engine) as session:
            if other:
                told = merge_stories(session, url, other, actor=self.settings.who, at=self.clock())
            else:
                told = split_story(session, url, actor=self.settings.who, at=self.clock())
        self.grouper.regroup(now=now)
        return told

    def give_order(
        self, newsletter: Newsletter, day: date, order: Order, *, as_of: datetime | None = None
    ) -> int:
        """
        Write down an editor's order; return its id. It holds for the next make-up, also before there is an edition.

        Edits and drops are also taken while an edition is being sent and afterwards, for a correction.
        *as_of*: what the editor had seen (``orders_touched``).

        Raises:
            StateError: the edition is past being changed, or the story's rights do not allow it.
            OrderConflict: somebody gave another order on the same thing meanwhile.
            WordingError: the words do not make a whole block, or a picture's address is none.
        """
        with writing(self.engine) as session:
            self._check_order(session, newsletter, day, order)
            order = replace(order, seen=self._seen(session, newsletter, day, order))
            return add_order(session, newsletter.slug, day, order, at=self.clock(), as_of=as_of)

    def undo(self, newsletter: Newsletter, day: date, *, actor: str, as_of: datetime | None = None) -> Order:
        """Take the newest order that counts back; it stays written down. *as_of*: what the editor had seen."""
        with writing(self.engine) as session:
            self._check_order(session, newsletter, day, None)
            return undo_last(session, newsletter.slug, day, actor=actor, at=self.clock(), as_of=as_of)

    def redo(self, newsletter: Newsletter, day: date, *, actor: str, as_of: datetime | None = None) -> Order:
        """Let what was undone last count again. *as_of*: what the editor had seen."""
        with writing(self.engine) as session:
            self._check_order(session, newsletter, day, None)
            return redo_last(session, newsletter.slug, day, actor=actor, at=self.clock(), as_of=as_of)

    def _check_order(self, session: Session, newsletter: Newsletter, day: date, order: Order | None) -> None:
        """Refuse what the edition's state or the words' own rules do not allow."""
        row = current_edition(session, newsletter.slug, day)
        can_correct = row is not None and row.status in _GONE
        if order is not None and order.verb not in ("edit", "drop", "words"):
            can_correct = False
        if row is not None and row.status not in _REMADE and not can_correct:
            raise StateError(
                f"The {newsletter.noun} of {day} is {row.status}; hold it first, then give the order and run again."
            )
        if order is not None and order.verb == "edit":
            self._check_picture(order.fields.get("image_url", ""))
        if order is not None and order.verb == "words":
            words = self.wording(newsletter, day)
            for before in load_orders(session, newsletter.slug, day):
                words = words.with_words(before.fields) if before.verb == "words" else words
            words.with_words(order.fields)
            check_inbox_lines(order.fields, where="the words given")

    def _check_picture(self, address: str) -> None:
        """Refuse a picture that no mail program could load; at home, one of this machine may be tried out."""
        at_home = is_loopback(urlsplit(self.settings.base_url).hostname or "")
        fault = why_no_picture(address, at_home=at_home) if address else ""
        if fault:
            raise WordingError(f"{address!r} cannot be a picture's address: {fault}", field="image_url")

    def _seen(self, session: Session, newsletter: Newsletter, day: date, order: Order) -> dict[str, str]:
        """What the source says now in the fields an edit changes."""
        article = find_article(session, order.url) if order.verb == "edit" else None
        if article is None:
            return {}
        if article.rights is Rights.EXCERPT and set(order.fields) & set(PICTURE):
            raise StateError(
                f"{article.source_name or article.source} is an excerpt source: its stories have no picture. "
                "Declare its rights in publication.toml, or leave the picture out."
            )
        return {name: field_of(article, name) for name in order.fields if name in EDITABLE}
