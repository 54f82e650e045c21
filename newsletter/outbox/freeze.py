"""Freeze: from now on the audience of an edition is a list of ids, in batches, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import islice

from sqlalchemy import Engine
from sqlmodel import Session

from newsletter.audience.segments import audience_query
from newsletter.catalogue import Newsletter, Publication
from newsletter.edition import EditionStatus
from newsletter.errors import NotFound
from newsletter.outbox.ids import pack
from newsletter.outbox.ledger import finish, move_edition
from newsletter.store.session import writing
from newsletter.store.tables import Batch, EditionRow


def freeze(
    engine: Engine,
    newsletter: Newsletter,
    publication: Publication,
    edition_id: int,
    *,
    now: datetime,
    at: datetime,
    batch_size: int,
) -> bool:
    """
    Freeze the audience of an approved edition and open it for sending, in one transaction.

    *now* is editorial (who is a paying reader, who has left), *at* the ledger's stamp. Returns False
    when the edition was not ``approved`` any more: somebody else froze it, or an editor took it back.
    """
    with writing(engine) as session:
        opened = move_edition(
            session, edition_id, to=EditionStatus.SUBMITTING, frm=(EditionStatus.APPROVED,), frozen_at=now
        )
        if not opened:
            return False
        seq = total = 0
        for plan_class in newsletter.audience.classes:
            query = audience_query(newsletter, publication, plan_class=plan_class, now=now)
            for ids in _chunks(session, query, batch_size):
                seq += 1
                total += len(ids)
                session.add(
                    Batch(
                        edition_id=edition_id,
                        seq=seq,
                        variant=plan_class,
                        ids=pack(ids),
                        lo_id=ids[0],
                        hi_id=ids[-1],
                        n=len(ids),
                        changed_at=at,
                    )
                )
        edition = session.get(EditionRow, edition_id)
        if edition is None:
            raise NotFound(f"There is no edition {edition_id}.")
        session.refresh(edition)
        edition.audience = total
        session.add(edition)
        session.flush()
        if total == 0:
            finish(session, edition_id, at=at)
        return True


def _chunks(session: Session, query: object, size: int) -> Iterator[list[int]]:
    rows = session.execute(query.execution_options(yield_per=10_000)).scalars()  # type: ignore[attr-defined]  # a Select
    while chunk := list(islice(rows, size)):
        yield chunk
