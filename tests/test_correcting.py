"""Correcting: everybody who has, may have or waits for a wrong revision gets the right one, once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, update
from sqlmodel import col, select

from newsletter.catalogue import Newsletter
from newsletter.edition import EditionStatus, Snapshot
from newsletter.errors import StateError
from newsletter.makeup import corrected, make_snapshot
from newsletter.outbox.correct import have_wrong, take_over
from newsletter.outbox.doubt import Word, call_back, call_back_wrong, hear_silence, settle_by_word
from newsletter.outbox.drain import Mailing, drain
from newsletter.outbox.ledger import BatchState, recover
from newsletter.picking.picks import Order, Picks
from newsletter.providers import Accepted, Envelope, Outcome, Refused, Uncertain
from newsletter.store.session import reading, writing
from newsletter.store.tables import EditionRow, Event, Rendering, Subscriber
from newsletter.wording import Wording
from tests.builders import the_catalogue
from tests.test_delivery import Clock, Scheduling, a_newsletter, a_publication, a_sender, batches, frozen
from tests.test_outbox import NEWSLETTER, NOW, PUBLICATION, Postman, add_readers, balance_of, the_edition

DAY = date(2026, 11, 20)
BOTH = ("free", "paying")


def correct(engine: Engine, *, changed: tuple[str, ...] = BOTH, at: datetime = NOW, size: int = 10) -> int:
    """A further revision of the newest one, frozen as a correction; its id."""
    with writing(engine) as session:
        wrong = session.exec(select(EditionRow).order_by(col(EditionRow.revision).desc())).first()
        assert wrong is not None
        right = EditionRow(
            newsletter="daily", edition_date=DAY, revision=wrong.revision + 1, corrects_id=wrong.id, status="approved",
            made_at=NOW, findings=[],
        )  # fmt: skip
        session.add(right)
        session.flush()
        assert right.id is not None
        for one in session.exec(select(Rendering).where(Rendering.edition_id == wrong.id)).all():
            session.add(Rendering(**{**one.model_dump(), "edition_id": right.id}))
        take_over(session, right, changed=changed, now=NOW, at=at, size=size)
        return right.id


def had(postman: Postman) -> dict[int, Counter[int]]:
    """How often each reader was taken, by revision."""
    found: dict[int, Counter[int]] = {}
    for envelope in postman.envelopes:
        number = int(envelope.edition.rpartition(".")[2])
        found.setdefault(number, Counter()).update(int(one.reader, 16) for one in envelope.recipients)
    return found


def send(
    engine: Engine, postman: Postman, *ids: int, newsletter: Newsletter = NEWSLETTER, at: datetime = NOW
) -> None:
    """Drain these editions."""
    mailings = [Mailing(newsletter, PUBLICATION, edition_id) for edition_id in ids]
    drain(a_sender(engine, postman, Clock(at)), mailings, now=NOW)


def everybody(number: int) -> Counter[int]:
    """Readers 1…*number*, once each."""
    return Counter(range(1, number + 1))


def in_doubt(engine: Engine, *, newsletter: Newsletter = NEWSLETTER) -> int:
    """Twenty readers in two batches: the first in doubt, the second taken."""
    add_readers(engine, 20, paying_every=99)
    postman = Postman(script=iter([Uncertain("lost"), Accepted("x")]))
    edition_id = frozen(engine, newsletter, PUBLICATION, postman)
    send(engine, postman, edition_id, newsletter=newsletter)
    return edition_id


@pytest.mark.parametrize("when", ["before it goes", "after it went"])
@pytest.mark.parametrize(
    ("word", "books"),
    [
        ("submitted", (20, 0, 20, 0, 0, 0)),
        ("abandoned", (20, 0, 10, 0, 10, 0)),
        ("resend", (20, 0, 10, 10, 0, 0)),
    ],
)
def test_whoever_was_in_doubt_gets_the_right_one(
    engine: Engine, word: Word, books: tuple[int, ...], when: str
) -> None:
    """Whatever is said of the wrong batch, and whenever: the right revision once, and the wrong one never again."""
    wrong = in_doubt(engine)
    right = correct(engine)
    postman = Postman()

    if when == "after it went":
        send(engine, postman, right)
    settle_by_word(engine, wrong, 1, word, actor="mia", at=NOW)
    send(engine, postman, wrong, right)

    assert had(postman) == {2: everybody(20)}
    assert balance_of(engine, wrong) == books
    assert balance_of(engine, right) == (20, 0, 20, 0, 0, 0)
    assert the_edition(engine, wrong).status == the_edition(engine, right).status == EditionStatus.SUBMITTED


@pytest.mark.parametrize("word", ["abandoned", "submitted", "resend"])
def test_what_was_settled_before_the_correction_is_corrected_too(engine: Engine, word: Word) -> None:
    """Also those of a batch that was given up: it may have gone."""
    wrong = in_doubt(engine)
    settle_by_word(engine, wrong, 1, word, actor="mia", at=NOW)
    right = correct(engine)
    postman = Postman()

    send(engine, postman, wrong, right)

    assert had(postman) == {2: everybody(20)}
    assert balance_of(engine, right) == (20, 0, 20, 0, 0, 0)
    assert the_edition(engine, wrong).status == EditionStatus.SUBMITTED


def test_a_variant_that_did_not_change_is_sent_again_as_it_was(engine: Engine) -> None:
    """Only the paying mail was wrong: a free batch in doubt stays with its revision, and goes again with it."""
    wrong = in_doubt(engine)
    right = correct(engine, changed=("paying",))
    postman = Postman()

    settle_by_word(engine, wrong, 1, "resend", actor="mia", at=NOW)
    send(engine, postman, wrong, right)

    assert had(postman) == {1: everybody(10)}
    assert balance_of(engine, wrong) == (20, 0, 20, 0, 0, 0)
    assert balance_of(engine, right) == (0, 0, 0, 0, 0, 0)


def test_silence_does_not_send_a_wrong_one_again(engine: Engine) -> None:
    """A newsletter that resends after silence: not what was corrected meanwhile."""
    newsletter = a_newsletter(on_unknown="resend")
    wrong = in_doubt(engine, newsletter=newsletter)
    right = correct(engine)
    with writing(engine) as session:
        taken = next(one for one in batches(engine, wrong) if one.state == BatchState.SUBMITTED)
        session.add(
            Event(event_id="e", kind="processed", batch=f"{taken.id}.1", occurred_at=NOW, received_at=NOW)
        )
    catalogue = the_catalogue().model_copy(update={"newsletters": (newsletter,)})
    postman = Postman()
    later = NOW + timedelta(hours=1)

    assert hear_silence(a_sender(engine, postman, Clock(later)), catalogue) == 0
    send(engine, postman, wrong, right, newsletter=newsletter, at=later)

    assert had(postman) == {2: everybody(20)}
    assert the_edition(engine, wrong).status == EditionStatus.SUBMITTED


def test_an_answer_that_comes_late_does_not_send_a_wrong_one_again(engine: Engine) -> None:
    """Its process was stopped, the batch fell into doubt, was corrected, and then is refused for now: it gives way."""
    add_readers(engine, 10, paying_every=99)
    rights: list[int] = []

    def correct_meanwhile(envelope: Envelope) -> None:
        if envelope.edition.endswith(".1"):
            with writing(engine) as session:
                recover(session, at=NOW + timedelta(hours=1))
            rights.append(correct(engine))

    postman = Postman(before=correct_meanwhile, script=iter([Refused("slow down", retry_at=NOW)]))
    wrong = frozen(engine, NEWSLETTER, PUBLICATION, postman)
    send(engine, postman, wrong)
    send(engine, postman, *rights)

    assert had(postman)[2] == everybody(10)
    assert len(postman.envelopes) == 2
    assert balance_of(engine, wrong) == (10, 0, 0, 10, 0, 0)


def test_a_second_correction_finds_those_the_first_was_not_for(engine: Engine) -> None:
    """Free corrected, then paying: everybody has the right one of theirs, nobody a needless one."""
    add_readers(engine, 9)
    postman = Postman()
    first = frozen(engine, NEWSLETTER, PUBLICATION, postman)
    send(engine, postman, first)

    second = correct(engine, changed=("free",))
    send(engine, postman, second)
    third = correct(engine, changed=("paying",))
    send(engine, postman, third)

    free, paying = Counter({1: 1, 2: 1, 4: 1, 5: 1, 7: 1, 8: 1}), Counter({3: 1, 6: 1, 9: 1})
    assert had(postman) == {1: everybody(9), 2: free, 3: paying}


def test_while_something_is_in_flight_nothing_is_corrected(engine: Engine) -> None:
    """Nobody knows yet who has it: refused with what to do, and nothing is taken back."""
    add_readers(engine, 20, paying_every=99)
    told: list[str] = []

    def try_it(_envelope: Envelope) -> None:
        if not told:
            with pytest.raises(StateError) as caught:
                correct(engine)
            told.append(str(caught.value))

    postman = Postman(before=try_it)
    wrong = frozen(engine, NEWSLETTER, PUBLICATION, postman)
    send(engine, postman, wrong)

    assert "1 batch is in flight" in told[0] and "newsletter pause daily --date 2026-11-20" in told[0]
    assert had(postman) == {1: everybody(20)}


# --- those who wait -----------------------------------------------------------------------------


def test_who_waits_keeps_their_wave_and_their_turn(engine: Engine) -> None:
    """Local mornings and a warm-up's order are as they were; who had the wrong one gets the right one now."""
    add_readers(engine, 6, paying_every=99)
    for reader, zone, days in ((1, "Asia/Tokyo", 2), (2, "Europe/Paris", 2), (3, "America/New_York", 60)):
        with writing(engine) as session:
            session.execute(
                update(Subscriber)
                .where(col(Subscriber.id) == reader)
                .values(timezone=zone, engaged_at=NOW - timedelta(days=days))
            )
    newsletter = a_newsletter(deliver="local 06:30")
    publication = a_publication(paces=[{"warm_up": {"start": "2026-11-20", "volumes": [100]}}])
    postman = Postman()
    wrong = frozen(engine, newsletter, publication, postman)
    sent = datetime(2026, 11, 20, 5, 30, tzinfo=NOW.tzinfo)
    drain(a_sender(engine, postman, Clock(sent)), [Mailing(newsletter, publication, wrong)], now=NOW)
    before = {(one.rank, one.release_at) for one in batches(engine, wrong) if one.state == BatchState.PENDING}

    right = correct(engine, at=sent)

    now = {(one.rank, one.release_at) for one in batches(engine, right) if one.release_at is not None}
    assert now == before and {rank for rank, _ in before} == {0, 1}
    assert sum(one.n for one in batches(engine, right) if one.release_at is None) == len(postman.taken) == 4


def scheduled(
    engine: Engine, *, script: Iterator[Outcome] | None = None, **options: Any
) -> tuple[Scheduling, int]:
    """Twenty readers in two batches that the provider keeps until 04:30."""
    add_readers(engine, 20, paying_every=99)
    postman = Scheduling(script=script, **options)
    wrong = frozen(engine, a_newsletter(mode="scheduled"), PUBLICATION, postman)
    send(engine, postman, wrong, newsletter=a_newsletter(mode="scheduled"))
    return postman, wrong


def correct_scheduled(engine: Engine, postman: Scheduling, *, at: datetime, limit: int = 10) -> int:
    """What the desk does: call back what is wrong, then freeze the right one."""
    with reading(engine) as session:
        wrong = {batch.id or 0 for batch, _ in have_wrong(session, "daily", DAY, changed=BOTH)}
    call_back_wrong(replace(a_sender(engine, postman, Clock(at)), cancel_limit=limit), wrong)
    return correct(engine, at=at)


@pytest.mark.parametrize("doubtful", [False, True])
def test_what_is_scheduled_is_called_back_in_time(engine: Engine, doubtful: bool) -> None:
    """Accepted or in doubt, before its release: nobody gets the wrong one, and the right one comes at its time."""
    script = iter([Uncertain("lost"), Accepted("x")]) if doubtful else None
    postman, wrong = scheduled(engine, script=script)

    right = correct_scheduled(engine, postman, at=NOW + timedelta(minutes=5))

    assert postman.cancelled == ["r1", "r2"]
    assert balance_of(engine, wrong) == (20, 0, 0, 20, 0, 0)
    assert balance_of(engine, right) == (20, 20, 0, 0, 0, 0)
    assert {one.release_at for one in batches(engine, right)} == {NOW + timedelta(minutes=30)}
    assert the_edition(engine, wrong).status == EditionStatus.SUBMITTED


@pytest.mark.parametrize(
    ("minutes", "can_cancel", "limit", "back"), [(25, True, 10, 0), (5, False, 10, 0), (5, True, 1, 1)]
)
def test_what_cannot_be_called_back_is_corrected_afterwards(
    engine: Engine, minutes: int, can_cancel: bool, limit: int, back: int
) -> None:
    """Too late, refused, or beyond the provider's limit: those have the wrong one, and get the right one not before it."""
    postman, wrong = scheduled(engine, can_cancel=can_cancel)

    right = correct_scheduled(engine, postman, at=NOW + timedelta(minutes=minutes), limit=limit)

    assert len(postman.cancelled) == back
    assert balance_of(engine, wrong) == (20, 0, 20 - 10 * back, 10 * back, 0, 0)
    assert balance_of(engine, right) == (20, 20, 0, 0, 0, 0)
    assert {one.release_at for one in batches(engine, right)} == {NOW + timedelta(minutes=30)}


def test_doubt_that_is_called_back_after_the_correction_goes_to_nobody(engine: Engine) -> None:
    """It was beyond the limit at first: called back later, it gives way to the revision its readers have."""
    postman, wrong = scheduled(engine, script=iter([Uncertain("lost"), Accepted("x")]))
    right = correct(engine, at=NOW)

    assert call_back(a_sender(engine, postman, Clock(NOW + timedelta(minutes=2)))) == 0

    assert postman.cancelled == ["r1"]
    assert balance_of(engine, wrong) == (20, 0, 10, 10, 0, 0)
    assert balance_of(engine, right)[:2] == (20, 20)


# --- what an editor wrote -----------------------------------------------------------------------

WRITTEN = Wording.model_validate(
    {
        "greeting": "Hello.", "letter": "The rivr took *eleven* years.", "subject": "Slowly", "preheader": "Patience",
        "quote": {"text": "Yes.", "who": "Ann"},
    }
)  # fmt: skip


def a_magazine(*orders: Order) -> Snapshot:
    """What went out: a letter and a quote, no number."""
    catalogue = the_catalogue()
    return make_snapshot(
        catalogue["magazine"], catalogue.publication, Picks("magazine", (), (), ()), edition_date=DAY, wording=WRITTEN,
        orders=orders,
    )  # fmt: skip


def test_a_letter_that_was_put_right_in_its_file_is_corrected() -> None:
    """The file's new letter and quote; what it does not say any more stays, what was not in it does not come in."""
    sent = replace(a_magazine(), quote=WRITTEN.quote)
    mended = Wording.model_validate(
        {"letter": "The river took *eleven* years.", "number": {"figure": "11", "text": "years"}}
    )

    right = corrected(sent, (), revision=2, prefix="Correction: ", wording=mended)

    assert right.letter == ("The river took <em>eleven</em> years.",)
    assert (right.quote, right.number, right.greeting) == (sent.quote, None, "Hello.")
    assert (right.subject, right.preheader) == ("Correction: Slowly", "Patience")
    assert right.sections == sent.sections


@pytest.mark.parametrize("wording", [None, WRITTEN, Wording()])
def test_a_file_that_did_not_change_corrects_nothing(wording: Wording | None) -> None:
    """Also when it is gone: every block stays, so that there is nothing to correct."""
    sent = a_magazine()

    assert corrected(sent, (), revision=1, prefix="", wording=wording) == sent


def test_an_order_goes_before_the_file_in_a_correction_too() -> None:
    """The letter and a line by order, the file's beneath."""
    order = Order(verb="words", fields={"letter": "By order.", "greeting": "Good day."}, actor="mia")

    right = corrected(a_magazine(), (order,), revision=2, prefix="", wording=WRITTEN)

    assert (right.letter, right.greeting) == (("By order.",), "Good day.")
