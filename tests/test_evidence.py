"""Evidence: events settle what nobody knew, forbid what must not happen again, and count once."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, text, update
from sqlmodel import col, select

from newsletter.audience.addresses import address_hash
from newsletter.audience.subscribers import forget
from newsletter.edition import EditionStatus
from newsletter.events import NOT_TOLD, EventKind, NoMore, ProviderEvent
from newsletter.outbox.accounts import audit, why
from newsletter.outbox.doubt import settle_by_word
from newsletter.outbox.evidence import Evidence, record_events, settle_from_stored
from newsletter.outbox.freeze import freeze
from newsletter.outbox.ledger import this_owner, withdraw
from newsletter.providers import Accepted, Envelope, Refused, Uncertain
from newsletter.providers.sendgrid_events import read_events
from newsletter.settings import Keys
from newsletter.store.session import reading, writing
from newsletter.store.tables import Batch, Cancellation, Event, Subscriber, Subscription, Suppression
from tests.standin_events import NOWHERE, Taken, body_of, make_event
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

EDITION = "daily.2026-11-20.1"
LATER = NOW + timedelta(hours=1)
_serial = itertools.count(1)


def taken(index: int, *, attempt: int = 1, batch: int = 1) -> Taken:
    """Reader *index* of a batch, as the envelope named them."""
    return Taken(EDITION, f"{batch}.{attempt}", f"{index:024x}", f"r{index}@example.com")


def told(kind: str, reader: Taken, at: datetime = NOW, **fields: Any) -> dict[str, Any]:
    """One event as the provider posts it."""
    return make_event(
        kind, reader, NOWHERE, 0, serial=next(_serial), now=at.timestamp(), fields=fields
    )  # fmt: skip


def record(engine: Engine, keys: Keys, *events: dict[str, Any], at: datetime = NOW) -> Evidence:
    """Read and record *events* as the webhook does."""
    return record_events(engine, read_events(body_of(events)), keys=keys, at=at)


def readers(engine: Engine, keys: Keys, number: int) -> None:
    """Readers 1…*number*, none of them paying, under the hashes their addresses have."""
    add_readers(engine, number, paying_every=10**9)
    with writing(engine) as session:
        for row in session.exec(select(Subscriber)).all():
            row.address_hash = address_hash(keys.suppression, row.email_key)
            session.add(row)


def in_doubt(engine: Engine, keys: Keys, number: int = 5) -> int:
    """An edition of one batch, the answer to whose only attempt was lost; returns its id."""
    readers(engine, keys, number)
    edition_id = an_edition(engine)
    send_all(engine, Postman(script=iter([Uncertain("lost")])), edition_id)
    return edition_id


def the_batch(engine: Engine, batch_id: int = 1) -> Batch:
    """A batch as it stands."""
    with reading(engine) as session:
        return session.get_one(Batch, batch_id)


def call_back(engine: Engine) -> None:
    """What the ledger says after the only attempt of batch 1 was called back in time."""
    with writing(engine) as session:
        session.add(
            Cancellation(
                reservation="r1", batch_id=1, attempt=1, release_at=NOW + timedelta(hours=1), cancelled_at=NOW
            )
        )
        session.execute(update(Batch).values(state="pending", reservation="", error="called back"))


def world(engine: Engine) -> dict[str, Any]:
    """All that events can change, without ids."""
    with reading(engine) as session:
        return {
            "events": sorted(
                (row.event_id, row.address_hash, row.kind, row.batch, row.occurred_at)
                for row in session.exec(select(Event))
            ),
            "batches": [
                (row.id, row.state, row.attempt, row.doubled_n)
                for row in session.exec(select(Batch).order_by(col(Batch.id)))
            ],
            "editions": [row[0] for row in session.execute(text("SELECT status FROM edition ORDER BY id"))],
            "suppressed": sorted(
                (row.address_hash, row.scope, row.reason) for row in session.exec(select(Suppression))
            ),
            "subscribers": [
                (row.id, row.status, row.engaged_at)
                for row in session.exec(select(Subscriber).order_by(col(Subscriber.id)))
            ],
            "subscriptions": sorted(
                (row.subscriber_id, row.state) for row in session.exec(select(Subscription))
            ),
        }


@pytest.mark.parametrize(
    "kind", ["processed", "dropped", "delivered", "deferred", "bounce", "open", "spamreport"]
)
def test_one_event_settles_an_uncertain_batch(engine: Engine, keys: Keys, kind: str) -> None:
    """Whatever the provider tells of one reader proves that it took all; the edition is done."""
    edition_id = in_doubt(engine, keys)

    changed = record(engine, keys, told(kind, taken(3)))

    assert (changed.stored, changed.settled, changed.doubled) == (1, 1, 0)
    assert balance_of(engine, edition_id) == (5, 0, 5, 0, 0, 0)
    assert the_edition(engine, edition_id).status == EditionStatus.SUBMITTED
    with reading(engine) as session:
        verdict = why(session, the_edition(engine, edition_id), "daily", session.get(Subscriber, 3))
    assert verdict.reason == "an event of the provider proves that it was taken (attempt 1)"


def test_an_abandoned_batch_turns_out_to_have_gone(engine: Engine, keys: Keys) -> None:
    """Given up by a person, proven by an event: its readers are not counted as failed any longer."""
    edition_id = in_doubt(engine, keys)
    settle_by_word(engine, edition_id, 1, "abandoned", actor="mia", at=NOW)

    assert record(engine, keys, told("delivered", taken(1))).settled == 1

    assert balance_of(engine, edition_id) == (5, 0, 5, 0, 0, 0)


def test_what_is_in_flight_is_left_to_its_living_owner(engine: Engine, keys: Keys) -> None:
    """Event before answer: the owner settles; if its lease has run out or it is dead, the event does."""
    readers(engine, keys, 5)
    edition_id = an_edition(engine)
    freeze(engine, NEWSLETTER, PUBLICATION, edition_id, now=NOW, at=NOW, batch_size=10)
    claim_one(engine, edition_id, owner=this_owner())

    early = record(engine, keys, told("processed", taken(1)))
    state = the_batch(engine).state
    late = record(engine, keys, told("delivered", taken(1)), at=LATER)

    assert (early.settled, state) == (0, "submitting")
    assert (late.settled, the_batch(engine).state) == (1, "submitted")


def test_a_dead_owners_batch_is_settled_at_once(engine: Engine, keys: Keys) -> None:
    """Nobody will ever settle what a dead process had in flight: the event need not wait for a start."""
    readers(engine, keys, 5)
    edition_id = an_edition(engine)
    freeze(engine, NEWSLETTER, PUBLICATION, edition_id, now=NOW, at=NOW, batch_size=10)
    claim_one(engine, edition_id, owner="|".join([this_owner().split("|")[0], "999999999", "1.00"]))

    assert record(engine, keys, told("processed", taken(1))).settled == 1

    assert the_edition(engine, edition_id).status == EditionStatus.SUBMITTED


def test_an_event_that_came_before_the_doubt_settles_it(engine: Engine, keys: Keys) -> None:
    """Quicker than the answer that never came: the stored event is found, once, and foreign ones are not."""
    edition_id = in_doubt(engine, keys)
    with writing(engine) as session:
        session.execute(update(Batch).values(state="submitting", owner=this_owner(), lease_until=LATER))
    foreign = told("processed", Taken("other.2026-11-20.1", "1.1", f"{1:024x}", "r1@example.com"))
    record(engine, keys, foreign)
    with writing(engine) as session:
        session.execute(update(Batch).values(state="uncertain", owner="", lease_until=None))
    nothing = settle_from_stored(engine, at=NOW)
    with writing(engine) as session:
        session.execute(update(Batch).values(state="submitting", owner=this_owner(), lease_until=LATER))
    record(engine, keys, told("processed", taken(1)))
    with writing(engine) as session:
        session.execute(update(Batch).values(state="uncertain", owner="", lease_until=None))

    first, again = settle_from_stored(engine, at=NOW), settle_from_stored(engine, at=NOW)

    assert (nothing.settled, first.settled, again.settled) == (0, 1, 0)
    assert the_edition(engine, edition_id).status == EditionStatus.SUBMITTED


def test_a_given_up_attempt_that_had_gone_is_not_sent_again(engine: Engine, keys: Keys) -> None:
    """Resend was said, but the event comes before the next drain: submitted, and nobody gets a second one."""
    edition_id = in_doubt(engine, keys)
    settle_by_word(engine, edition_id, 1, "resend", actor="mia", at=NOW)

    changed = record(engine, keys, told("delivered", taken(2)))
    postman = Postman()
    send_all(engine, postman, edition_id)

    assert (changed.settled, changed.doubled) == (1, 0)
    assert postman.envelopes == []
    assert balance_of(engine, edition_id) == (5, 0, 5, 0, 0, 0)
    assert the_edition(engine, edition_id).status == EditionStatus.SUBMITTED


def test_a_given_up_attempt_is_believed_after_a_later_one_was_refused(engine: Engine, keys: Keys) -> None:
    """Attempt 2 was refused for certain and waits for a third: proof of attempt 1 ends that."""
    edition_id = in_doubt(engine, keys)
    settle_by_word(engine, edition_id, 1, "resend", actor="mia", at=NOW)
    with writing(engine) as session:
        session.execute(update(Batch).values(attempt=2))

    assert record(engine, keys, told("delivered", taken(2))).settled == 1

    assert (the_batch(engine).state, the_batch(engine).doubled_n) == ("submitted", 0)
    assert the_edition(engine, edition_id).status == EditionStatus.SUBMITTED


@pytest.mark.parametrize("word", [None, "abandoned"])
def test_of_two_doubtful_attempts_one_proof_is_no_double(
    engine: Engine, keys: Keys, word: str | None
) -> None:
    """Sent again and in doubt again: proof of the first tells that they have it once; proof of both, twice."""
    edition_id = in_doubt(engine, keys)
    settle_by_word(engine, edition_id, 1, "resend", actor="mia", at=NOW)
    send_all(engine, Postman(script=iter([Uncertain("lost")])), edition_id)
    if word:
        settle_by_word(engine, edition_id, 1, "abandoned", actor="mia", at=NOW)

    first = record(engine, keys, told("delivered", taken(2)))
    once = the_batch(engine)
    both = record(engine, keys, told("delivered", taken(3, attempt=2)))

    assert (first.settled, first.doubled, once.state, once.doubled_n) == (1, 0, "submitted", 0)
    assert (both.settled, both.doubled, the_batch(engine).doubled_n) == (0, 1, 5)
    assert balance_of(engine, edition_id) == (5, 0, 5, 0, 0, 0)
    assert the_edition(engine, edition_id).status == EditionStatus.SUBMITTED


def test_a_proof_while_it_is_sent_again_ends_it_when_that_is_refused(engine: Engine, keys: Keys) -> None:
    """The event of the first attempt comes while the second is on its way, which is refused: not a third one."""
    edition_id = in_doubt(engine, keys)
    settle_by_word(engine, edition_id, 1, "resend", actor="mia", at=NOW)

    def hear(_envelope: Envelope) -> None:
        record(engine, keys, told("delivered", taken(2)))

    postman = Postman(before=hear, script=iter([Refused("slow down", retry_at=NOW + timedelta(seconds=5))]))
    send_all(engine, postman, edition_id)

    assert len(postman.envelopes) == 1
    assert (the_batch(engine).state, the_batch(engine).doubled_n) == ("submitted", 0)
    assert the_edition(engine, edition_id).status == EditionStatus.SUBMITTED


@pytest.mark.parametrize("later", [0, 1])
def test_what_was_taken_back_turns_out_to_have_gone(engine: Engine, keys: Keys, later: int) -> None:
    """Sent again by a person's word, spiked before it went, and then proof of the first attempt: submitted."""
    edition_id = in_doubt(engine, keys)
    settle_by_word(engine, edition_id, 1, "resend", actor="mia", at=NOW)
    with writing(engine) as session:
        session.execute(update(Batch).values(attempt=1 + later))
        withdraw(session, edition_id, at=NOW, reason="the edition was spiked")

    assert record(engine, keys, told("delivered", taken(2))).settled == 1

    assert (the_batch(engine).state, the_batch(engine).doubled_n) == ("submitted", 0)
    assert balance_of(engine, edition_id) == (5, 0, 5, 0, 0, 0)


def test_a_confirmed_double_is_counted_once(engine: Engine, keys: Keys) -> None:
    """Sent again, and then proof that the first had gone too: said once, kept, never hidden."""
    edition_id = in_doubt(engine, keys)
    settle_by_word(engine, edition_id, 1, "resend", actor="mia", at=NOW)
    send_all(engine, Postman(), edition_id)

    regular = record(engine, keys, *(told("delivered", taken(index, attempt=2)) for index in range(1, 6)))
    first = record(engine, keys, told("delivered", taken(1)), told("processed", taken(2)))
    again = record(engine, keys, told("delivered", taken(3)))

    assert [one.doubled for one in (regular, first, again)] == [0, 1, 0]
    assert the_batch(engine).doubled_n == 5
    assert balance_of(engine, edition_id) == (5, 0, 5, 0, 0, 0)


@pytest.mark.parametrize(("kind", "settled"), [("processed", 0), ("dropped", 0), ("deferred", 1), ("delivered", 1), ("bounce", 1), ("click", 1)])  # fmt: skip
def test_an_attempt_that_was_called_back_needs_proof_that_it_left(
    engine: Engine, keys: Keys, kind: str, settled: int
) -> None:
    """A scheduled mail is processed before it leaves: only what happens to mail on its way disproves the cancelling."""
    edition_id = in_doubt(engine, keys)
    call_back(engine)

    changed = record(engine, keys, told(kind, taken(1), reason="Spam Content"))
    postman = Postman()
    send_all(engine, postman, edition_id)

    assert changed.settled == settled
    assert len(postman.envelopes) == 1 - settled
    assert balance_of(engine, edition_id) == (5, 0, 5, 0, 0, 0)


def test_a_called_back_attempt_that_went_out_all_the_same_is_a_double(engine: Engine, keys: Keys) -> None:
    """The provider said it stopped it, the second attempt went, and then the first was delivered."""
    edition_id = in_doubt(engine, keys)
    call_back(engine)
    send_all(engine, Postman(), edition_id)

    nothing = record(engine, keys, told("processed", taken(1)))
    proof = record(engine, keys, told("delivered", taken(1)))

    assert (nothing.doubled, proof.doubled, the_batch(engine).doubled_n) == (0, 1, 5)


@pytest.mark.parametrize(
    "foreign",
    [
        Taken("daily.2025-01-01.1", "1.1", f"{1:024x}", "r1@example.com"),
        Taken(EDITION, "1.1", "f" * 24, "r1@example.com"),
        Taken(EDITION, "1.2", f"{1:024x}", "r1@example.com"),
        Taken(EDITION, "999999999999999999.1", f"{1:024x}", "r1@example.com"),
        Taken(EDITION, "test.1", f"{1:024x}", "r1@example.com"),
        Taken(EDITION, "", f"{1:024x}", "r1@example.com"),
    ],
)
def test_what_is_not_about_the_batch_proves_nothing(engine: Engine, keys: Keys, foreign: Taken) -> None:
    """Another edition, a reader of another installation, an attempt that never was: kept, not believed."""
    edition_id = in_doubt(engine, keys)

    changed = record(engine, keys, told("delivered", foreign), told("new_kind", taken(1)))

    assert (changed.stored, changed.settled) == (2, 0)
    assert balance_of(engine, edition_id) == (5, 0, 0, 0, 0, 5)


def test_who_complains_between_freeze_and_send_is_skipped(engine: Engine, keys: Keys) -> None:
    """A complaint about yesterday's mail keeps today's frozen one from going; audit says why."""
    readers(engine, keys, 4)
    edition_id = an_edition(engine)
    freeze(engine, NEWSLETTER, PUBLICATION, edition_id, now=NOW, at=NOW, batch_size=10)

    changed = record(engine, keys, told("spamreport", Taken("daily.2026-11-19.1", "77.1", f"{2:024x}", "R2@Example.COM")))  # fmt: skip
    postman = Postman()
    send_all(engine, postman, edition_id)

    assert changed.suppressed == 1
    assert f"{2:024x}" not in postman.taken and len(postman.taken) == 3
    with reading(engine) as session:
        assert audit(session, the_edition(engine, edition_id)).skipped == {"suppressed: complained": 1}


@pytest.mark.parametrize(
    ("kind", "fields", "reason", "status"),
    [
        ("bounce", {}, "bounced", "bounced"),
        ("bounce", {"type": "blocked"}, None, "active"),
        ("deferred", {}, None, "active"),
        ("dropped", {"reason": "Invalid"}, "bounced", "bounced"),
        ("dropped", {"reason": "Bounced Address"}, "bounced", "bounced"),
        ("dropped", {"reason": "Spam Reporting Address"}, "complained", "complained"),
        ("dropped", {"reason": "Unsubscribed Address"}, "unsubscribed", "active"),
        ("dropped", {"reason": "Recipient List over Package Quota"}, None, "active"),
        ("dropped", {"reason": "Spam Content"}, None, "active"),
        ("spamreport", {}, "complained", "complained"),
        ("unsubscribe", {}, "unsubscribed", "active"),
        ("group_unsubscribe", {}, "unsubscribed", "active"),
        ("group_unsubscribe", {"nl_edition": ""}, None, "active"),
    ],
)
def test_what_is_about_the_address_ends_the_mailing(
    engine: Engine, keys: Keys, kind: str, fields: dict[str, Any], reason: str | None, status: str
) -> None:
    """Hard bounces, complaints and leaving suppress at once; what is about the message or our plan never does."""
    readers(engine, keys, 1)

    changed = record(engine, keys, told(kind, taken(1), **fields))

    with reading(engine) as session:
        found = [(row.scope, row.reason) for row in session.exec(select(Suppression))]
        subscription = session.exec(select(Subscription.state)).one()
        row = session.get_one(Subscriber, 1)
    assert found == ([("all", reason)] if reason else [])
    assert (changed.suppressed, row.status) == (len(found), status)
    assert subscription == ("left" if reason == "unsubscribed" else "active")


def test_the_graver_reason_stays_and_an_editors_word_too(engine: Engine, keys: Keys) -> None:
    """Unsubscribed becomes complained, never the other way; manual and erased are not overwritten."""
    readers(engine, keys, 2)
    manual = address_hash(keys.suppression, "r2@example.com")
    with writing(engine) as session:
        session.add(Suppression(address_hash=manual, scope="all", reason="manual", suppressed_at=NOW))

    counts = [
        record(engine, keys, told("unsubscribe", taken(1))).suppressed,
        record(engine, keys, told("spamreport", taken(1)), told("bounce", taken(1))).suppressed,
        record(engine, keys, told("bounce", taken(1)), told("spamreport", taken(2))).suppressed,
    ]

    with reading(engine) as session:
        found = sorted(row.reason for row in session.exec(select(Suppression)))
        states = sorted(row.status for row in session.exec(select(Subscriber)))
    assert (counts, found, states) == ([1, 0, 0], ["complained", "manual"], ["complained", "complained"])


def test_only_people_are_engaged_and_only_forward(engine: Engine, keys: Keys) -> None:
    """Opens and clicks of people move the last sign of life forward; a mail program's open is none."""
    readers(engine, keys, 4)
    early, late = NOW - timedelta(hours=2), NOW - timedelta(hours=1)

    record(engine, keys, told("open", taken(1), late), told("click", taken(2), early), told("open", taken(3), late, sg_machine_open=True))  # fmt: skip
    record(engine, keys, told("open", taken(1), early), told("open", taken(2), late), told("open", taken(4), NOW + timedelta(days=900)))  # fmt: skip

    with reading(engine) as session:
        engaged = session.exec(select(Subscriber.engaged_at).order_by(col(Subscriber.id))).all()
    assert engaged == [late, late, None, NOW]


def test_the_same_event_counts_once(engine: Engine, keys: Keys) -> None:
    """Again in the same request, in the next, and under another id: nothing follows twice."""
    edition_id = in_doubt(engine, keys)
    event = told("spamreport", taken(1))

    first = record(engine, keys, event, event)
    before = world(engine)
    second = record(engine, keys, event, at=LATER)
    unchanged = world(engine)
    renamed = record(engine, keys, {**event, "sg_event_id": "another"}, at=LATER)

    assert (first.stored, first.known, first.settled, first.suppressed) == (1, 1, 1, 1)
    assert second == Evidence(known=1)
    assert unchanged == before
    assert renamed == Evidence(stored=1)
    assert {**world(engine), "events": []} == {**before, "events": []}
    assert the_edition(engine, edition_id).status == EditionStatus.SUBMITTED


def test_ids_that_readers_share_lose_nobody(engine: Engine, keys: Keys) -> None:
    """Should one id stand for all readers of a request, each is kept all the same."""
    readers(engine, keys, 3)
    events = [told("delivered", taken(index), sg_event_id="one id") for index in (1, 2, 3)]

    assert record(engine, keys, *events).stored == 3


def test_a_reader_who_came_back_is_not_sent_away_by_an_old_event(engine: Engine, keys: Keys) -> None:
    """Left at the provider, came back on our page; the same event again is known and does nothing."""
    readers(engine, keys, 1)
    event = told("unsubscribe", taken(1))
    record(engine, keys, event)
    with writing(engine) as session:
        session.delete(session.exec(select(Suppression)).one())
        session.execute(update(Subscription).values(state="active"))

    assert record(engine, keys, event) == Evidence(known=1)

    with reading(engine) as session:
        assert session.exec(select(Suppression)).all() == []
        assert session.exec(select(Subscription.state)).one() == "active"


def test_nothing_is_kept_of_an_erased_reader(engine: Engine, keys: Keys) -> None:
    """Events go on for days after an erasure: they prove what they prove, and name nobody."""
    edition_id = in_doubt(engine, keys)
    forget(engine, "r1@example.com", keys=keys, now=NOW)
    event = told("open", taken(1), ip="203.0.113.9")

    first, again = record(engine, keys, event, told("delivered", taken(2))), record(engine, keys, event)

    assert (first.stored, first.settled, again) == (2, 1, Evidence(known=1))
    with reading(engine) as session:
        row = session.exec(select(Event).where(Event.kind == "opened")).one()
        assert (row.reader, row.address_hash, row.raw) == ("", "", {})
        assert [one.reason for one in session.exec(select(Suppression))] == ["erased"]
    assert the_edition(engine, edition_id).status == EditionStatus.SUBMITTED


def test_events_about_nobody_are_kept(engine: Engine, keys: Keys) -> None:
    """An account event has no address; it is stored, with the moment it came when it names none."""
    changed = record(
        engine, keys, {"event": "account_status_change", "type": "compliance_suspend", "sg_event_id": "a"}
    )

    with reading(engine) as session:
        row = session.exec(select(Event)).one()
    assert changed == Evidence(stored=1)
    assert (row.kind, row.address_hash, row.occurred_at, row.raw["type"]) == (
        "unknown",
        "",
        NOW,
        "compliance_suspend",
    )


POISON: tuple[Any, ...] = (
    None, 7, "a word to r1@example.com", [], [["r1@example.com"]], {}, {"event": None}, {"event": ["open"]},
    {"event": "open", "email": 5, "timestamp": "soon"}, {"event": "open", "email": "", "timestamp": True},
    {"event": "bounce", "email": "not an address", "timestamp": 1e300}, {"event": "delivered", "timestamp": -1},
    {"event": "open", "email": "a\x00b@example.com", "nl_batch": "1.1\x00", "sg_event_id": "\x00"},
    {"event": "open", "email": "\ud800@example.com", "sg_event_id": "\ud800", "nl_reader": "\udfff"},
    {"event": "delivered", "sg_event_id": "x" * 100_000, "nl_batch": "9" * 9000, "nl_edition": "e" * 9000},
    {"event": "delivered", "nl_batch": "9" * 18 + "." + "9" * 9, "nl_edition": EDITION}, {"event": "open", "nl_batch": 1.1},
    {"event": "delivered", "timestamp": 10**30}, {"event": "new_in_2031", "email": "r1@example.com", "deep": [[[[[[[[[[[[1]]]]]]]]]]]]},
)  # fmt: skip


def test_poison_loses_none_of_its_neighbours(engine: Engine, keys: Keys) -> None:
    """Whatever stands between them, good events are stored and act; the odd ones are kept as unknown."""
    in_doubt(engine, keys)
    good = told("delivered", taken(1))

    changed = record(engine, keys, *POISON, good, *POISON)

    assert changed.stored == len(POISON) + 1
    assert changed.settled == 1
    with reading(engine) as session:
        assert all("r1@" not in str(row.raw) for row in session.exec(select(Event)))


def test_numbers_no_database_takes_are_kept_as_words(engine: Engine, keys: Keys) -> None:
    """NaN and infinity are no JSON to PostgreSQL, and integers have no end in JSON."""
    body = b'[{"event":"open","x":NaN,"y":1e999,"z":-Infinity,"n":' + b"1" * 5000 + b',"sg_event_id":"i"}]'

    record_events(engine, read_events(body), keys=keys, at=NOW)

    with reading(engine) as session:
        raw = session.exec(select(Event)).one().raw
    assert (raw["x"], raw["y"], raw["z"], raw["n"]) == ("NaN", "1e999", "-Infinity", "1" * 5000)


@pytest.mark.parametrize("body", [b"", b"{}", b"[", b'"x"', b"\xff\xfe", b"[" * 100_000, b"null", b"[1] 2"])
def test_what_is_no_array_is_refused(body: bytes) -> None:
    """A body that is not a JSON array is none of theirs; the message repeats nothing of it."""
    with pytest.raises(ValueError, match="the body is not"):
        read_events(body)


def test_the_address_is_nowhere_in_the_table(engine: Engine, keys: Keys) -> None:
    """Not in the reply of a server, a return path, a link, another field, nor in any case or depth."""
    reader = Taken(EDITION, "1.1", f"{1:024x}", "Ann.Berg@Mail.Example")
    event = told(
        "bounce", reader,
        reason="550 5.1.1 <ann.berg@mail.example>: no such user; forwarded to private.ann@home.example",
        response="for ANN.BERG@MAIL.EXAMPLE", **{"smtp-id": "<ann.berg@mail.example>"},
        path="bounces+12-34-ann.berg=mail.example@em1.news.example", url="https://news.example/?to=ann.berg%40mail.example&by=@anna",
        deep=[{"Ann.Berg@Mail.Example": ["x ann.berg@mail.example y"]}], sg_event_id="id of ann.berg@mail.example",
    )  # fmt: skip

    record(engine, keys, event)

    with reading(engine) as session:
        row = session.exec(select(Event)).one()
        cells = [str(cell) for row in session.execute(text("SELECT * FROM event")) for cell in row]
    everything = " ".join(cells).lower()
    assert "berg" not in everything and "private" not in everything
    assert row.raw["url"] == "https://news.example/?to=[address]&by=@anna"
    assert row.raw["reason"] == "550 5.1.1 <[address]>: no such user; forwarded to [address]"
    assert row.address_hash == address_hash(keys.suppression, "ann.berg@mail.example")
    assert "berg" not in repr(read_events(body_of([event]))).lower()


def test_events_are_read_into_our_words() -> None:
    """Kind, moment, names and reason; blocked is not bounced, and a program's open is marked."""
    at = datetime(2026, 11, 20, 5, 0, tzinfo=UTC)
    events = read_events(
        body_of([
            told("bounce", taken(1), at), told("bounce", taken(2), at, type="blocked"),
            told("open", taken(3), at, sg_machine_open=True), {"event": "x"},
        ])
    )  # fmt: skip

    assert [(one.kind, one.no_more, one.is_machine) for one in events] == [
        (EventKind.BOUNCED, NoMore.BOUNCED, False),
        (EventKind.BLOCKED, None, False),
        (EventKind.OPENED, None, True),
        (EventKind.UNKNOWN, None, False),
    ]
    first, last = events[0], events[3]
    assert (first.email, first.occurred_at, first.edition, first.batch, first.reader, first.reason) == (
        "r1@example.com", at, EDITION, "1.1", f"{1:024x}", "550 5.1.1 no such user",
    )  # fmt: skip
    assert (last.email, last.occurred_at, last.batch, last.raw) == ("", NOT_TOLD, "", {"event": "x"})
    assert last.event_id and last.event_id == read_events(b'[{"event":"x"}]')[0].event_id


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_fields = st.dictionaries(
    st.sampled_from(("email", "event", "timestamp", "sg_event_id", "nl_batch", "nl_reader", "type", "reason", "x")),
    _json,
)  # fmt: skip


@given(st.lists(_json | _fields, max_size=6))
def test_reading_never_fails_and_never_loses(elements: list[Any]) -> None:
    """Any array gives one event an element, the same each time."""
    body = body_of(elements)

    assert len(read_events(body)) == len(elements)
    assert [one.event_id for one in read_events(body)] == [one.event_id for one in read_events(body)]


def test_order_does_not_matter(engine: Engine, keys: Keys) -> None:
    """However events are shuffled and cut into requests, and whatever comes twice, the end is the same."""
    edition_id = in_doubt(engine, keys, 12)
    settle_by_word(engine, edition_id, 1, "resend", actor="mia", at=NOW)
    send_all(engine, Postman(script=iter([Uncertain("lost again"), Accepted("ok")])), edition_id)
    events = [
        told(kind, taken(index, attempt=attempt, batch=batch), NOW - timedelta(minutes=index))
        for kind in ("processed", "delivered", "bounce", "spamreport", "unsubscribe", "open", "click", "new")
        for index, attempt, batch in ((1, 1, 1), (2, 2, 1), (3, 2, 1), (11, 1, 2))
    ]
    start = world(engine)
    with reading(engine) as session:
        saved = {
            table: [dict(row) for row in session.execute(text(f"SELECT * FROM {table}")).mappings()]
            for table in ("batch", "edition", "subscriber", "subscription")
        }
    ends = []

    for seed in range(8):
        shuffled = [*events, *random.Random(seed).sample(events, 10)]
        random.Random(seed).shuffle(shuffled)
        for begin in range(0, len(shuffled), 1 + seed * 3):
            record(engine, keys, *shuffled[begin : begin + 1 + seed * 3])
        ends.append(world(engine))
        _put_back(engine, saved)

    assert all(end == ends[0] for end in ends)
    assert ends[0] != start
    assert ends[0]["batches"][0][1:] == ("submitted", 2, 10)


def _put_back(engine: Engine, saved: dict[str, list[dict[str, Any]]]) -> None:
    """Set the rows to what they were, and forget events and suppression."""
    with writing(engine) as session:
        for table in ("event", "suppression"):
            session.execute(text(f"DELETE FROM {table}"))
        for row in saved["batch"]:
            session.execute(text("UPDATE batch SET state=:state, doubled_n=:doubled_n, given_up=:given_up, error=:error WHERE id=:id"), {name: row[name] for name in ("id", "state", "doubled_n", "given_up", "error")})  # fmt: skip
        for row in saved["edition"]:
            session.execute(text("UPDATE edition SET status=:status WHERE id=:id"), {"id": row["id"], "status": row["status"]})  # fmt: skip
        for row in saved["subscriber"]:
            session.execute(text("UPDATE subscriber SET status=:status, engaged_at=:engaged_at WHERE id=:id"), {name: row[name] for name in ("id", "status", "engaged_at")})  # fmt: skip
        session.execute(text("UPDATE subscription SET state='active', left_at=NULL, left_reason=''"))


def test_thousands_of_events_are_one_short_transaction(engine: Engine, keys: Keys) -> None:
    """5,000 events in one call: stored, and again recognised, in seconds on any machine."""
    readers(engine, keys, 500)
    edition_id = an_edition(engine)
    send_all(engine, Postman(size=100), edition_id)
    events = [
        told(kind, taken(index, batch=1 + (index - 1) // 100))
        for index in range(1, 501)
        for kind in ("processed", "delivered", "open", "click", "deferred") * 2
    ]

    begun = time.perf_counter()
    first, again = record(engine, keys, *events), record(engine, keys, *events)
    seconds = time.perf_counter() - begun

    assert (first.stored, first.known, again.stored, again.known) == (5000, 0, 0, 5000)
    assert seconds < 20
    with reading(engine) as session:
        assert audit(session, the_edition(engine, edition_id)).delivered == 500


def test_requests_at_the_same_time_do_not_stand_in_each_others_way(engine: Engine, keys: Keys) -> None:
    """Many servers post the same events in different orders at once: all are answered, each is stored once."""
    edition_id = in_doubt(engine, keys, 40)
    events = [
        told(kind, taken(index, batch=1 + (index - 1) // 10))
        for index in range(1, 41)
        for kind in ("processed", "delivered", "open", "bounce", "spamreport", "unsubscribe")
    ]
    problems: list[BaseException] = []
    stored: list[int] = []

    def post(seed: int) -> None:
        mixed = events[:]
        random.Random(seed).shuffle(mixed)
        try:
            stored.extend(
                record(engine, keys, *mixed[begin : begin + 60]).stored for begin in range(0, 240, 60)
            )
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=post, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert problems == []
    assert sum(stored) == 240
    assert the_edition(engine, edition_id).status == EditionStatus.SUBMITTED


def test_nothing_to_record_is_nothing(engine: Engine, keys: Keys) -> None:
    """An empty call changes nothing, and an event of our own making needs only a name and a kind."""
    empty: Sequence[ProviderEvent] = ()

    assert record_events(engine, empty, keys=keys, at=NOW) == Evidence()
    assert settle_from_stored(engine, at=NOW) == Evidence()
    assert record_events(engine, [ProviderEvent("e", EventKind.DELIVERED)], keys=keys, at=NOW) == Evidence(
        stored=1
    )
