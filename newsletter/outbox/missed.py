"""
Missed: readers whose mail the provider took and then dropped for reasons of ours, such as a quota.

The batch counts as submitted, because the provider took it; its events say who got nothing. They can be
moved, each once, into a batch that is sent again.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime

from sqlalchemy import select as columns
from sqlmodel import Session, col, select

from newsletter.audience.reactions import chunks
from newsletter.edition import EditionStatus
from newsletter.errors import StateError
from newsletter.events import EventKind
from newsletter.outbox.batches import append_readers, record_exception
from newsletter.outbox.ids import unpack
from newsletter.outbox.ledger import BatchState, move_edition
from newsletter.store.editions import edition_ref
from newsletter.store.tables import Batch, EditionRow, Event, ReaderException, Subscriber, Suppression

_GOT_IT = (
    EventKind.DELIVERED,
    EventKind.OPENED,
    EventKind.CLICKED,
    EventKind.COMPLAINED,
    EventKind.UNSUBSCRIBED,
)


def missed(session: Session, edition: EditionRow) -> dict[int, list[int]]:
    """
    Readers by submitted batch who got nothing of *edition* because it was dropped, and may be mailed.

    Who was dropped for their address is suppressed, and not among them.
    """
    name = edition_ref(edition)
    dropped = session.execute(
        columns(col(Event.reader), col(Event.batch))
        .where(col(Event.edition) == name, col(Event.kind) == EventKind.DROPPED, col(Event.reader) != "")
        .distinct()
    ).all()
    if not dropped:
        return {}
    batch_of = {reader: batch.partition(".")[0] for reader, batch in dropped}
    reached: set[str] = set()
    ids: dict[str, int] = {}
    for chunk in chunks(sorted(batch_of)):
        reached.update(
            session.exec(
                select(Event.reader).where(
                    col(Event.reader).in_(chunk), Event.edition == name, col(Event.kind).in_(_GOT_IT)
                )
            )
        )
        barred = columns(col(Suppression.address_hash)).where(
            col(Suppression.scope).in_(("all", edition.newsletter))
        )
        rows = session.execute(
            columns(col(Subscriber.reader), col(Subscriber.id)).where(
                col(Subscriber.reader).in_(chunk),
                col(Subscriber.status) == "active",
                col(Subscriber.address_hash).not_in(barred),
            )
        )
        ids.update((row[0], row[1]) for row in rows)
    by_batch: dict[str, set[int]] = defaultdict(set)
    for reader, batch in batch_of.items():
        if reader in ids and reader not in reached:
            by_batch[batch].add(ids[reader])
    return _still_there(session, edition, by_batch)


def _still_there(session: Session, edition: EditionRow, told: dict[str, set[int]]) -> dict[int, list[int]]:
    """Of those whom events name, who is in that batch now, and not in another since."""
    wanted = [int(name) for name in told if name.isdecimal() and len(name) <= 9]
    found: dict[int, list[int]] = {}
    for chunk in chunks(sorted(wanted)):
        batches = session.exec(
            select(Batch).where(
                col(Batch.id).in_(chunk), Batch.edition_id == edition.id, Batch.state == BatchState.SUBMITTED
            )
        ).all()
        for batch in batches:
            apart = set(
                session.exec(
                    select(ReaderException.subscriber_id).where(ReaderException.batch_id == batch.id)
                )
            )
            readers = (told[str(batch.id)] & set(unpack(batch.ids))) - apart
            if readers and batch.id is not None:
                found[batch.id] = sorted(readers)
    return found


def send_again(session: Session, edition: EditionRow, *, batch_size: int, actor: str, at: datetime) -> int:
    """
    Move who missed *edition* into batches of their own, and let it be sent again; return how many readers.

    Raises:
        StateError: it is not in a state to be sent, or nobody missed it.
    """
    found = missed(session, edition)
    readers = sum(map(len, found.values()))
    if not readers:
        raise StateError(
            f"Nobody missed {edition.newsletter} of {edition.edition_date}: no mail of it is known to have been dropped for "
            "another reason than its address."
        )
    if edition.status not in (EditionStatus.SUBMITTED, EditionStatus.SUBMITTING):
        raise StateError(
            f"{edition.newsletter} of {edition.edition_date} is {edition.status}; resume it first, then send it again."
        )
    if edition.status == EditionStatus.SUBMITTED:
        move_edition(
            session, edition.id or 0, to=EditionStatus.SUBMITTING, frm=(EditionStatus.SUBMITTED,),
            submitted_at=None,
        )  # fmt: skip
    for batch_id, ids in sorted(found.items()):
        batch = session.exec(select(Batch).where(Batch.id == batch_id).with_for_update()).one()
        for reader in ids:
            record_exception(
                session, batch, reader, "moved", f"dropped by the provider, sent again by {actor}", at=at
            )
        for start in range(0, len(ids), batch_size):
            append_readers(
                session, batch, ids[start : start + batch_size], variant=batch.variant, at=at,
                batch_size=batch_size, trailing=True,
            )  # fmt: skip
    return readers
