"""
Drain: claim, submit and settle until nothing of an edition can be claimed, several requests at once.

Safe to run from several threads, processes and machines at the same time, and to stop anywhere.
"""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import Engine
from sqlmodel import col, func, select

from newsletter.audience.tokens import Signer
from newsletter.catalogue import Newsletter, PlanClass, Publication
from newsletter.edition import PERSONAL_TAGS, EditionStatus
from newsletter.errors import NotFound, ProviderError
from newsletter.outbox.claim import Claim, claim
from newsletter.outbox.ledger import BatchState, recover, this_owner
from newsletter.outbox.settle import settle
from newsletter.providers import Accepted, Envelope, Provider, Recipient, Refused
from newsletter.store.session import reading, writing
from newsletter.store.tables import Batch, EditionRow, Rendering
from newsletter.times import Clock

PATIENCE = timedelta(seconds=30)
"""How long a drain waits for a provider that asks for a pause, before it leaves the rest for later."""


@dataclass(frozen=True, slots=True)
class Sender:
    """What a drain needs besides the edition: made once at a door and handed down."""

    engine: Engine
    provider: Provider
    signer: Signer
    base_url: str
    in_flight: int
    clock: Clock
    stop: threading.Event = field(default_factory=threading.Event)
    sleep: Callable[[float], None] = time.sleep


def edition_ref(row: EditionRow) -> str:
    """The edition's public name: ``<slug>.<date>.<revision>``."""
    return f"{row.newsletter}.{row.edition_date.isoformat()}.{row.revision}"


def drain(
    sender: Sender,
    newsletter: Newsletter,
    publication: Publication,
    edition_id: int,
    *,
    now: datetime,
    progress: Callable[[int], None] | None = None,
) -> None:
    """
    Send what is pending of a frozen edition; *progress* is told of readers accepted.

    Raises:
        ProviderError: the provider refuses us as a whole; nothing is lost, everything stays pending.
    """
    with writing(sender.engine) as session:
        recover(session, at=sender.clock())
    parts = _load_parts(sender, newsletter, publication, edition_id)
    owner = this_owner()
    deadline = sender.clock() + PATIENCE
    while not sender.stop.is_set():
        work = _Work(
            sender, newsletter, publication, edition_id, parts, owner=owner, now=now, progress=progress
        )
        with ThreadPoolExecutor(sender.in_flight, thread_name_prefix="drain") as pool:
            for done in [pool.submit(work.run) for _ in range(sender.in_flight)]:
                done.result()
        if work.refused_us:
            raise ProviderError(
                f"The provider refuses us: {work.refused_us} Nothing was lost: what is pending goes out with the "
                "next `newsletter send` once this is mended."
            )
        waiting_until = _next_not_before(sender, edition_id)
        if waiting_until is None or waiting_until > deadline:
            return
        sender.sleep(max(0.0, (waiting_until - sender.clock()).total_seconds()))


@dataclass(frozen=True, slots=True)
class _Parts:
    edition: EditionRow
    renderings: dict[str, tuple[str, str, str]]
    envelope: Callable[[PlanClass, str, tuple[Recipient, ...]], Envelope]


def _load_parts(sender: Sender, newsletter: Newsletter, publication: Publication, edition_id: int) -> _Parts:
    with reading(sender.engine) as session:
        edition = session.get(EditionRow, edition_id)
        rows = session.exec(select(Rendering).where(Rendering.edition_id == edition_id)).all()
    if edition is None:
        raise NotFound(f"There is no edition {edition_id}.")
    renderings = {
        row.variant: (row.subject, zlib.decompress(row.html).decode(), zlib.decompress(row.text).decode())
        for row in rows
    }
    address = newsletter.sender or publication.sender

    def envelope(variant: PlanClass, batch: str, recipients: tuple[Recipient, ...]) -> Envelope:
        subject, html, text = renderings[variant]
        return Envelope(
            edition=edition_ref(edition), batch=batch, newsletter=newsletter.slug, variant=variant,
            sender=address, reply_to=publication.reply_to, subject=subject, html=html, text=text,
            list_id=f"{newsletter.slug}.{address.email.rpartition('@')[2]}", list_name=newsletter.name,
            dated_at=edition.frozen_at or edition.made_at, recipients=recipients, language=newsletter.language,
        )  # fmt: skip

    return _Parts(edition, renderings, envelope)


@dataclass(slots=True)
class _Work:
    """One round of a drain, shared by its threads."""

    sender: Sender
    newsletter: Newsletter
    publication: Publication
    edition_id: int
    parts: _Parts
    owner: str
    now: datetime
    progress: Callable[[int], None] | None
    refused_us: str = ""

    def run(self) -> None:
        """Claim, submit and settle until there is nothing to claim, or somebody says stop."""
        while not self.refused_us and not self.sender.stop.is_set():
            claimed = claim(
                self.sender.engine, self.newsletter, self.publication, self.edition_id, owner=self.owner,
                now=self.now, at=self.sender.clock(), batch_size=self.sender.provider.max_recipients,
            )  # fmt: skip
            if claimed is None:
                return
            outcome = self.sender.provider.submit(self._envelope(claimed))
            settle(
                self.sender.engine, claimed, outcome, at=self.sender.clock(),
                batch_size=self.sender.provider.max_recipients,
            )  # fmt: skip
            if isinstance(outcome, Accepted) and self.progress:
                self.progress(len(claimed.readers))
            if isinstance(outcome, Refused) and outcome.stop_run:
                self.refused_us = outcome.reason

    def _envelope(self, claimed: Claim) -> Envelope:
        reference = edition_ref(self.parts.edition)
        recipients = tuple(
            personal_recipient(
                self.sender,
                self.newsletter.slug,
                reference,
                reader=row.reader,
                email=row.email,
                name=row.name,
            )
            for row in claimed.readers
        )
        return self.parts.envelope(claimed.variant, f"{claimed.batch_id}.{claimed.attempt}", recipients)


def personal_recipient(
    sender: Sender, slug: str, edition: str, *, reader: str, email: str, name: str
) -> Recipient:
    """One reader with the links that are theirs alone."""
    base = sender.base_url
    leave = f"{base}/u/{sender.signer.unsubscribe(reader, slug)}"
    return Recipient(
        reader=reader,
        email=email,
        name=name,
        values={
            PERSONAL_TAGS["unsubscribe_url"]: leave,
            PERSONAL_TAGS["preferences_url"]: f"{base}/preferences/{sender.signer.preferences(reader)}",
            PERSONAL_TAGS["view_url"]: f"{base}/view/{sender.signer.view(reader, edition)}",
        },
        unsubscribe_url=leave,
    )


def _next_not_before(sender: Sender, edition_id: int) -> datetime | None:
    """When the next waiting batch may go, if anything is waiting and the edition still is being sent."""
    with reading(sender.engine) as session:
        status = session.exec(select(EditionRow.status).where(EditionRow.id == edition_id)).one()
        if status != EditionStatus.SUBMITTING:
            return None
        return session.exec(
            select(func.min(Batch.not_before)).where(
                Batch.edition_id == edition_id,
                Batch.state == BatchState.PENDING,
                col(Batch.not_before).is_not(None),
            )
        ).one()
