"""
Proof: findings over the final bytes of every variant, as they will be sent, personal tags unfilled.

Nothing here trusts the templates: what must be in a mail is looked for in the mail, and what must not
be in a variant (paid text, adverts, a body or picture we have no right to) is looked for there too.
Each page is parsed once; the checks stand by theme in the modules beside this one.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from newsletter.catalogue import Newsletter, Publication
from newsletter.edition import Rendered, Snapshot
from newsletter.rendering.findings import Finding, Severity, blocks, in_order
from newsletter.rendering.proof import (
    clients,
    contrast,
    headers,
    links,
    names,
    pictures,
    promises,
    stories,
    structure,
    words,
)
from newsletter.rendering.proof.material import (
    BUDGET_BYTES,
    CLIP_BYTES,
    Edition,
    Variant,
    over_budget,
    tracked_bytes,
)

__all__ = [
    "BUDGET_BYTES",
    "CLIP_BYTES",
    "Finding",
    "Severity",
    "blocks",
    "over_budget",
    "proof",
    "tracked_bytes",
]

_OF_A_VARIANT = (
    headers.check_variant, structure.check_variant, contrast.check_variant, clients.check_variant, links.check_variant,
    words.check_variant, pictures.check_variant, stories.check_variant, promises.check_variant,
)  # fmt: skip
_OF_AN_EDITION = (headers.check_edition, stories.check_edition, promises.check_edition, names.check_edition)


def proof(
    newsletter: Newsletter,
    publication: Publication,
    snapshot: Snapshot,
    renderings: Iterable[Rendered],
    *,
    base_url: str,
    now: datetime,
    last: tuple[str, str] = ("", ""),
) -> tuple[Finding, ...]:
    """
    Return the findings of an edition, the worst first.

    *snapshot* is the ungated one; *now* is editorial time; *last* is the last edition's subject and preheader.
    """
    edition = Edition(newsletter, publication, snapshot, base_url=base_url, now=now, last=last)
    found: list[Finding] = []
    for rendered in renderings:
        variant = Variant(edition, rendered)
        for check in _OF_A_VARIANT:
            found.extend(check(variant))
    for look in _OF_AN_EDITION:
        found.extend(look(edition))
    return in_order(found)
