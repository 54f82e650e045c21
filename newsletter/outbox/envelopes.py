"""Envelopes: a batch's readers, with the links that are theirs alone, and the stored bytes of their variant."""

from __future__ import annotations

from datetime import datetime

from newsletter.audience.tokens import Signer
from newsletter.catalogue import Address, Newsletter, Publication
from newsletter.edition import PERSONAL_TAGS, Rendered, subject_of
from newsletter.outbox.claim import Readers
from newsletter.providers import Envelope, Recipients
from newsletter.store.editions import edition_ref
from newsletter.store.tables import EditionRow

_TAGS = tuple(PERSONAL_TAGS[name] for name in ("unsubscribe_url", "preferences_url", "view_url"))


def envelope_of(
    newsletter: Newsletter,
    publication: Publication,
    row: EditionRow,
    rendering: Rendered,
    letter: str,
    *,
    sender: Address,
    batch: str,
    recipients: Recipients,
    release_at: datetime | None = None,
    reservation: str = "",
) -> Envelope:
    """The envelope of one batch: *rendering* as stored, with the subject of that *letter* ('': its first)."""
    return Envelope(
        edition=edition_ref(row), batch=batch, newsletter=newsletter.slug, variant=rendering.variant, sender=sender,
        reply_to=publication.reply_to, subject=subject_of(rendering.subjects, letter),
        html=rendering.html, text=rendering.text,
        list_id=f"{newsletter.slug}.{sender.email.rpartition('@')[2]}", list_name=newsletter.name,
        dated_at=row.frozen_at or row.made_at, recipients=recipients, language=newsletter.language,
        release_at=release_at, reservation=reservation,
    )  # fmt: skip


def recipients(signer: Signer, base_url: str, row: EditionRow, readers: Readers) -> Recipients:
    """Readers with the links that are theirs alone."""
    links = signer.links(base_url, row.newsletter, row.edition_date, readers.readers)
    return Recipients(readers.readers, readers.emails, readers.names, _TAGS, links)
