"""Envelopes: a batch's readers, with the links that are theirs alone, and the stored bytes of their variant."""

from __future__ import annotations

from datetime import datetime

from newsletter.audience.tokens import Signer
from newsletter.catalogue import Address, Newsletter, Publication
from newsletter.edition import PERSONAL_TAGS
from newsletter.outbox.claim import Readers
from newsletter.providers import Envelope, Recipients
from newsletter.store.editions import edition_ref
from newsletter.store.tables import EditionRow

_TAGS = tuple(PERSONAL_TAGS[name] for name in ("unsubscribe_url", "preferences_url", "view_url"))


def envelope_of(
    newsletter: Newsletter,
    publication: Publication,
    row: EditionRow,
    rendering: tuple[str, str, str],
    variant: str,
    *,
    sender: Address,
    batch: str,
    recipients: Recipients,
    release_at: datetime | None = None,
    reservation: str = "",
) -> Envelope:
    """The envelope of one batch; *rendering* is subject, HTML and text as stored."""
    subject, html, text = rendering
    return Envelope(
        edition=edition_ref(row), batch=batch, newsletter=newsletter.slug, variant=variant, sender=sender,
        reply_to=publication.reply_to, subject=subject, html=html, text=text,
        list_id=f"{newsletter.slug}.{sender.email.rpartition('@')[2]}", list_name=newsletter.name,
        dated_at=row.frozen_at or row.made_at, recipients=recipients, language=newsletter.language,
        release_at=release_at, reservation=reservation,
    )  # fmt: skip


def recipients(signer: Signer, base_url: str, row: EditionRow, readers: Readers) -> Recipients:
    """Readers with the links that are theirs alone."""
    links = signer.links(base_url, row.newsletter, row.edition_date, readers.readers)
    return Recipients(readers.readers, readers.emails, readers.names, _TAGS, links)
