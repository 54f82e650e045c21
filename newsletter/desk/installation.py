"""
What is opened once at a door: store, catalogue, keys, provider; and what is forgotten in time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import Self

from sqlalchemy import Engine

from newsletter.archive import index_missing
from newsletter.audience.doors import sweep
from newsletter.audience.joining import expire
from newsletter.audience.limits import prune
from newsletter.audience.repeats import forget_repeats
from newsletter.audience.subscribers import check_suppression_key
from newsletter.audience.tokens import Signer
from newsletter.catalogue import Catalogue, Newsletter, load_catalogue
from newsletter.desk.approval import (
    sweep_links,
)
from newsletter.desk.editors import EditorsMail
from newsletter.feeds.pictures import prune_pictures
from newsletter.notices import Notices
from newsletter.outbox.drain import Mailing, Sender
from newsletter.outbox.inbox import prune_inbox
from newsletter.outbox.pace import prune_pace
from newsletter.providers import Provider, make_other_way, make_provider
from newsletter.rendering.engine import Renderer
from newsletter.reports.keeping import prune_events
from newsletter.reports.reads import count_reads
from newsletter.settings import Keys, Settings, load_keys
from newsletter.store.session import open_store
from newsletter.store.telling import prune_told
from newsletter.times import Clock, local_date, system_clock
from newsletter.wakeups import ensure_queue

Tell = Callable[[str, str, int, int], None]
"""Progress: (step, what, done, total); total 0 when unknown. Of the step ``waits`` *what* is ``slug: until when and why``."""

TIDY_EVERY = timedelta(hours=1)


@dataclass
class Installation:
    """Everything the day needs."""

    engine: Engine
    catalogue: Catalogue
    settings: Settings
    keys: Keys
    clock: Clock = system_clock
    stop: threading.Event = field(default_factory=threading.Event)
    _queue_lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _delivery_lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _queued: list[Mailing] = field(default_factory=list, repr=False)
    _tidied_at: datetime | None = field(default=None, repr=False)

    @classmethod
    def open(cls, settings: Settings, *, clock: Clock = system_clock) -> Self:
        """
        Open store, catalogue and keys.

        Raises:
            NewsletterError: one of them cannot be used; the sentence says which and what to do.
        """
        catalogue = load_catalogue(settings.templates)
        keys = load_keys(settings)
        engine = open_store(settings.database_url)
        check_suppression_key(engine, keys)
        ensure_queue(engine)
        return cls(engine=engine, catalogue=catalogue, settings=settings, keys=keys, clock=clock)

    @cached_property
    def renderer(self) -> Renderer:
        """The renderer of this catalogue."""
        return Renderer(self.catalogue)

    @cached_property
    def provider(self) -> Provider:
        """The provider the settings name, made when first needed."""
        return make_provider(self.settings)

    @cached_property
    def other_way(self) -> Provider | None:
        """By which mails to editors and operators go when the provider does not take them; None: none is named."""
        return make_other_way(self.settings)

    def check_provider(self) -> None:
        """
        Make sure the provider can be used, before anything is done for it.

        Raises:
            SettingsError: it cannot; says what is missing.
        """
        _ = self.provider, self.other_way

    @cached_property
    def sender(self) -> Sender:
        """What the outbox needs of us."""
        return Sender(
            engine=self.engine, provider=self.provider, signer=Signer(self.keys), base_url=self.settings.base_url,
            in_flight=self.settings.in_flight, clock=self.clock, stop=self.stop,
            cancel_limit=self.settings.cancel_limit,
        )  # fmt: skip

    @cached_property
    def editors(self) -> EditorsMail:
        """What writes to the editors, the same way as the system's other mails."""
        own = None if self.settings.provider == "maildir" else self.provider
        notices = Notices(
            self.engine, self.catalogue, self.keys, self.settings, clock=self.clock, provider=own
        )
        return EditorsMail(notices, other_way=self.other_way)

    def reload(self) -> None:
        """Read templates and newsletters again (the preview does, before every page)."""
        self.catalogue = load_catalogue(self.settings.templates)
        self.renderer.catalogue = self.catalogue  # its compiled templates look after themselves
        self.__dict__.pop("editors", None)

    def edition_date(self, newsletter: Newsletter, now: datetime) -> date:
        """The newsletter's local day of *now*."""
        return local_date(now, newsletter.zone(self.catalogue.publication))

    def tidy(self) -> None:
        """
        Forget what has run out: wishes nobody confirmed, sessions, one-time links, counted knocks, keys of
        programs' requests, minutes no ceiling looks at; count what was read before its events go.

        Safe at any time and from any number of processes; does nothing within an hour of the last time here.
        """
        at = self.clock()
        if self._tidied_at is not None and at - self._tidied_at < TIDY_EVERY:
            return
        self._tidied_at = at
        expire(self.engine, now=at)
        sweep(self.engine, now=at)
        prune_pace(self.engine, now=at)
        prune(self.engine, now=at)
        forget_repeats(self.engine, now=at)
        sweep_links(self.engine, now=at)
        prune_told(self.engine, now=at)
        prune_inbox(self.engine, now=at)
        count_reads(self.engine, now=at)
        prune_events(self.engine, now=at, keep=timedelta(days=self.catalogue.publication.keep_events_days))
        prune_pictures(
            self.engine, now=at, keep=timedelta(days=self.catalogue.publication.keep_pictures_days)
        )
        index_missing(self.engine, self.catalogue)
