"""Endings: every batch comes to one, and whose fault a refusal is, is found out before anybody fails for it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import date, timedelta

import pytest
from sqlalchemy import Engine, event, update
from sqlalchemy.exc import OperationalError
from sqlmodel import Session, col, select

from newsletter.edition import EditionStatus
from newsletter.errors import NotFound, StoreError
from newsletter.outbox.accounts import audit, why
from newsletter.outbox.claim import Claim, claim, look
from newsletter.outbox.doubt import settle_by_word
from newsletter.outbox.drain import Mailing, drain
from newsletter.outbox.freeze import freeze
from newsletter.outbox.ledger import move_edition, recover
from newsletter.outbox.settle import settle
from newsletter.providers import Accepted, Envelope, Outcome, Refused
from newsletter.store.session import reading, writing
from newsletter.store.tables import Batch, EditionRow, Subscriber
from tests.test_delivery import Clock, Scheduling, a_newsletter, frozen
from tests.test_delivery import a_sender as a_clocked_sender
from tests.test_outbox import (
    NEWSLETTER,
    NOW,
    PUBLICATION,
    Postman,
    add_readers,
    an_edition,
    balance_of,
    claim_one,
    send_all,
    the_edition,
)


class Objecting(Postman):
    """A provider that objects to certain readers, or to everybody, without saying to whom."""

    def __init__(self, *, objects: Callable[[int], bool], size: int = 10) -> None:
        super().__init__(size=size)
        self.objects = objects
        self.asked = 0

    def submit(self, envelope: Envelope) -> Outcome:
        """Refuse the whole envelope for one reader in it."""
        self.asked += 1
        if any(self.objects(int(one.reader, 16)) for one in envelope.recipients):
            return Refused("The provider answered 400 Bad Request.", unfit=True)
        return super().submit(envelope)


def states(engine: Engine) -> list[tuple[str, int]]:
    """Each batch's state and how many readers go with it."""
    with reading(engine) as session:
        rows = session.exec(select(Batch).order_by(col(Batch.seq))).all()
        return [(row.state, row.n - row.skipped_n - row.failed_n - row.moved_n) for row in rows]


def test_a_batch_whose_readers_all_failed_ends(engine: Engine) -> None:
    """The only reader is refused by name: failed, nothing hangs, and the edition closes."""
    add_readers(engine, 1, paying_every=99)
    edition_id = an_edition(engine)

    class Naming(Postman):
        def submit(self, envelope: Envelope) -> Outcome:
            super().submit(envelope)
            return Refused("address not valid", unfit=True, recipients=(0,))

    postman = Naming()
    send_all(engine, postman, edition_id)

    assert states(engine) == [("failed", 0)]
    assert len(postman.envelopes) == 1
    assert balance_of(engine, edition_id) == (1, 0, 0, 0, 1, 0)
    assert the_edition(engine, edition_id).status == EditionStatus.SUBMITTED


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"status": "bounced"}, (3, 0, 0, 3, 0, 0)),
        ({"plan": "annual", "plan_until": NOW + timedelta(days=9)}, (3, 0, 3, 0, 0, 0)),
    ],
)
def test_a_batch_whose_readers_all_went_elsewhere_ends(
    engine: Engine, change: dict[str, object], expected: tuple[int, ...]
) -> None:
    """All skipped, or all moved to the other variant: the batch ends, and the edition closes."""
    add_readers(engine, 3, paying_every=99)
    edition_id = an_edition(engine)
    freeze(engine, NEWSLETTER, PUBLICATION, edition_id, now=NOW, at=NOW, batch_size=10)
    with writing(engine) as session:
        session.execute(update(Subscriber).values(**change))

    send_all(engine, Postman(), edition_id)

    assert states(engine)[0] == ("submitted", 0)
    assert balance_of(engine, edition_id) == expected
    assert the_edition(engine, edition_id).status == EditionStatus.SUBMITTED


def test_an_emptied_batch_ends_although_the_process_ends_with_it(engine: Engine) -> None:
    """The edition closes in the transaction that empties its last batch, not at some later look."""
    add_readers(engine, 2, paying_every=99)
    edition_id = an_edition(engine)
    freeze(engine, NEWSLETTER, PUBLICATION, edition_id, now=NOW, at=NOW, batch_size=10)
    claimed = claim_one(engine, edition_id, owner="elsewhere|1|1.00")
    assert isinstance(claimed, Claim)
    with writing(engine) as session:
        session.execute(update(Subscriber).values(status="complained"))

    look(engine, NEWSLETTER, PUBLICATION, claimed, now=NOW, at=NOW, batch_size=10)

    assert the_edition(engine, edition_id).status == EditionStatus.SUBMITTED
    assert balance_of(engine, edition_id) == (2, 0, 0, 2, 0, 0)


def test_a_batch_emptied_before_it_is_claimed_ends(engine: Engine) -> None:
    """Everybody of it has failed by name already: a claim finds nobody and ends it."""
    add_readers(engine, 12, paying_every=99)
    edition_id = an_edition(engine)
    freeze(engine, NEWSLETTER, PUBLICATION, edition_id, now=NOW, at=NOW, batch_size=10)
    with writing(engine) as session:
        from newsletter.outbox.claim import record_exception

        batch = session.exec(select(Batch).where(Batch.seq == 2)).one()
        for reader in (11, 12):
            record_exception(session, batch, reader, "failed", "address not valid", at=NOW)

    send_all(engine, Postman(), edition_id)

    assert balance_of(engine, edition_id) == (12, 0, 10, 0, 2, 0)
    assert the_edition(engine, edition_id).status == EditionStatus.SUBMITTED


# --- whose fault --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [10, 4])
def test_a_fault_of_ours_stops_the_edition_and_fails_nobody(engine: Engine, size: int) -> None:
    """Whoever it is for, it is refused: a few requests, then paused with the provider's sentence."""
    add_readers(engine, 32)
    edition_id = an_edition(engine)
    broken = Objecting(objects=lambda _reader: True, size=size)

    send_all(engine, broken, edition_id)

    edition = the_edition(engine, edition_id)
    assert balance_of(engine, edition_id) == (32, 32, 0, 0, 0, 0)
    assert edition.status == EditionStatus.PAUSED
    assert "The provider answered 400 Bad Request." in edition.reason
    assert "newsletter resume daily" in edition.reason
    assert broken.asked <= 12

    with writing(engine) as session:
        move_edition(session, edition_id, to=EditionStatus.SUBMITTING, frm=(EditionStatus.PAUSED,))
    mended = Postman(size=size)
    send_all(engine, mended, edition_id)
    assert mended.taken == {f"{index:024x}": 1 for index in range(1, 33)}
    assert the_edition(engine, edition_id).status == EditionStatus.SUBMITTED


@pytest.mark.parametrize("bad", [{1}, {16}, {1, 10}, {3, 4}, {1, 2, 15, 16}])
def test_readers_at_fault_fail_and_everybody_else_gets_it(engine: Engine, bad: set[int]) -> None:
    """One or several that nobody names, also in both halves: they fail alone, and nothing stops."""
    add_readers(engine, 16, paying_every=99)
    edition_id = an_edition(engine)
    postman = Objecting(objects=bad.__contains__, size=8)

    send_all(engine, postman, edition_id)

    assert set(postman.taken) == {f"{index:024x}" for index in range(1, 17) if index not in bad}
    assert balance_of(engine, edition_id) == (16, 0, 16 - len(bad), 0, len(bad), 0)
    assert the_edition(engine, edition_id).status == EditionStatus.SUBMITTED


def test_a_variant_that_is_refused_stops_although_the_other_goes(engine: Engine) -> None:
    """The paying mail is at fault, not one paying reader after the other."""
    add_readers(engine, 18)
    edition_id = an_edition(engine)

    send_all(engine, Objecting(objects=lambda reader: reader % 3 == 0), edition_id)

    assert balance_of(engine, edition_id) == (18, 6, 12, 0, 0, 0)
    assert the_edition(engine, edition_id).status == EditionStatus.PAUSED


# --- words that come late -----------------------------------------------------------------------


def in_doubt(engine: Engine) -> tuple[int, Claim]:
    """An edition of one batch, claimed by a process that was stopped for longer than its lease."""
    add_readers(engine, 4, paying_every=99)
    edition_id = an_edition(engine)
    freeze(engine, NEWSLETTER, PUBLICATION, edition_id, now=NOW, at=NOW, batch_size=10)
    with writing(engine) as session:
        claimed = claim(
            session, NEWSLETTER, PUBLICATION, edition_id, owner="elsewhere|1|1.00", at=NOW, ahead=timedelta(0)
        )
    assert isinstance(claimed, Claim)
    claimed = look(engine, NEWSLETTER, PUBLICATION, claimed, now=NOW, at=NOW, batch_size=10)
    with writing(engine) as session:
        recover(session, at=NOW + timedelta(hours=1))
    return edition_id, claimed


def answer(session: Session, claimed: Claim, outcome: Outcome) -> None:
    """What the owner hears at last."""
    settle(session, "daily", claimed, outcome, at=NOW + timedelta(hours=2), batch_size=10)


def test_an_acceptance_that_comes_after_it_was_abandoned_counts(engine: Engine) -> None:
    """A person gave the batch up, then its owner's answer comes: they have it, and it is told."""
    edition_id, claimed = in_doubt(engine)
    settle_by_word(engine, edition_id, 1, "abandoned", actor="mia", at=NOW)
    assert balance_of(engine, edition_id) == (4, 0, 0, 0, 4, 0)

    with writing(engine) as session:
        answer(session, claimed, Accepted("x1"))

    assert balance_of(engine, edition_id) == (4, 0, 4, 0, 0, 0)
    with reading(engine) as session:
        verdict = why(session, the_edition(engine, edition_id), "daily", session.get(Subscriber, 2))
        assert audit(session, the_edition(engine, edition_id)).balanced
    assert (verdict.verdict, verdict.reason) == (
        "submitted", "the provider accepted it as x1, after it had been abandoned (attempt 1)",
    )  # fmt: skip


def test_a_late_refusal_by_name_ends_a_batch_in_doubt(engine: Engine) -> None:
    """Its owner hears after all that everybody of it is refused: failed, not in doubt for ever."""
    edition_id, claimed = in_doubt(engine)

    with writing(engine) as session:
        answer(session, claimed, Refused("not valid", unfit=True, recipients=(0, 1, 2, 3)))

    assert balance_of(engine, edition_id) == (4, 0, 0, 0, 4, 0)


# --- what is known is written down first --------------------------------------------------------


def test_what_came_back_is_written_before_the_next_handle_is_fetched(engine: Engine) -> None:
    """A handle of a scheduled request comes over the network: a kill there costs nothing that was known."""
    add_readers(engine, 6, paying_every=99)
    waiting: list[list[str]] = []

    class Asking(Scheduling):
        def reserve(self) -> str:
            waiting.append([state for state, _ in states(engine)])
            return super().reserve()

    newsletter, postman = a_newsletter(mode="scheduled"), Asking(size=2)
    edition_id = frozen(engine, newsletter, PUBLICATION, postman)

    drain(a_clocked_sender(engine, postman, Clock()), [Mailing(newsletter, PUBLICATION, edition_id)], now=NOW)

    assert len(waiting) >= 3 and not any("submitting" in known for known in waiting)


def test_two_scheduled_editions_have_a_handle_each(engine: Engine) -> None:
    """Both claim in one round: as many handles as requests, none used twice."""
    add_readers(engine, 4, paying_every=99)
    newsletter, postman = a_newsletter(mode="scheduled"), Scheduling(size=2)
    ids = []
    for day in (18, 19):
        ids.append(frozen(engine, newsletter, PUBLICATION, postman))
        with writing(engine) as session:
            row = session.get_one(EditionRow, ids[-1])
            row.edition_date = date(2026, 11, day)

    sender = a_clocked_sender(engine, postman, Clock(), in_flight=4)
    drain(sender, [Mailing(newsletter, PUBLICATION, edition_id) for edition_id in ids], now=NOW)

    assert sorted(one.reservation for one in postman.envelopes) == ["r1", "r2", "r3", "r4"]


def test_what_was_claimed_and_never_sent_is_not_in_doubt(engine: Engine) -> None:
    """The database fails between the claim and the hand-over: certainly nobody got it, so it waits again."""
    add_readers(engine, 20, paying_every=99)
    edition_id = an_edition(engine)
    freeze(engine, NEWSLETTER, PUBLICATION, edition_id, now=NOW, at=NOW, batch_size=5)
    failing = itertools.count()

    def fail(_connection: object, _cursor: object, statement: str, *_more: object) -> None:
        if "FROM subscri" in statement and next(failing) == 0:
            raise OperationalError("SELECT", {}, Exception("disk I/O error"))

    event.listen(engine, "before_cursor_execute", fail)
    postman = Postman(size=5)
    with pytest.raises(StoreError):
        send_all(engine, postman, edition_id, in_flight=3)
    event.remove(engine, "before_cursor_execute", fail)

    assert balance_of(engine, edition_id) == (20, 20, 0, 0, 0, 0)
    send_all(engine, Postman(size=5), edition_id)
    assert balance_of(engine, edition_id) == (20, 0, 20, 0, 0, 0)


def test_what_was_claimed_beside_a_batch_that_cannot_be_parted_is_not_in_doubt(engine: Engine) -> None:
    """The database fails while another edition's batch, too large by now, is parted: what was claimed waits again."""
    add_readers(engine, 10, paying_every=99)
    first = frozen(engine, NEWSLETTER, PUBLICATION, Postman(size=5))
    with writing(engine) as session:
        session.execute(update(EditionRow).values(edition_date=date(2026, 10, 1)))
    large = frozen(engine, NEWSLETTER, PUBLICATION, Postman(size=10))

    def fail(_connection: object, _cursor: object, statement: str, *_more: object) -> None:
        if "max(batch.seq)" in statement:
            raise OperationalError("SELECT", {}, Exception("disk I/O error"))

    event.listen(engine, "before_cursor_execute", fail)
    mailings = [Mailing(NEWSLETTER, PUBLICATION, edition_id) for edition_id in (first, large)]
    with pytest.raises(StoreError):
        drain(a_clocked_sender(engine, Postman(size=5), Clock(), in_flight=2), mailings, now=NOW)
    event.remove(engine, "before_cursor_execute", fail)

    assert [state for state, _ in states(engine)] == ["pending"] * 3


def test_whatever_fails_in_the_middle_what_is_known_is_written_down(engine: Engine) -> None:
    """An error that is none of the database's: what was taken is submitted, the rest waits, nothing is in doubt."""
    add_readers(engine, 20, paying_every=99)
    edition_id = an_edition(engine)
    freeze(engine, NEWSLETTER, PUBLICATION, edition_id, now=NOW, at=NOW, batch_size=5)
    clock, asked = Clock(), itertools.count()
    postman = Postman(size=5, before=lambda _: clock.sleep(2))

    def more() -> tuple[Mailing, ...]:
        if next(asked):
            raise NotFound("Its folder is gone.")
        return ()

    with pytest.raises(NotFound):
        drain(
            a_clocked_sender(engine, postman, clock, in_flight=2), [Mailing(NEWSLETTER, PUBLICATION, edition_id)],
            now=NOW, more=more,
        )  # fmt: skip

    taken = len(postman.envelopes)
    assert taken > 0
    assert sorted(state for state, _ in states(engine)) == ["pending"] * (4 - taken) + ["submitted"] * taken
