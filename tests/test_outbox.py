"""The ledger: nobody twice, nobody forgotten, whatever the provider answers and wherever we stop."""

from __future__ import annotations

import threading
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, delete, update
from sqlmodel import col, select

from newsletter.audience.tokens import Signer
from newsletter.catalogue import Newsletter, Publication
from newsletter.edition import EditionStatus
from newsletter.errors import ProviderError, StateError
from newsletter.outbox.accounts import audit, counts, why
from newsletter.outbox.claim import Claim, claim
from newsletter.outbox.doubt import settle_by_word
from newsletter.outbox.drain import Mailing, Sender, drain
from newsletter.outbox.freeze import freeze
from newsletter.outbox.ids import pack, unpack
from newsletter.outbox.ledger import BatchState, is_dead, move_batch, move_edition, recover, this_owner
from newsletter.outbox.pace import Later
from newsletter.providers import Accepted, Envelope, Outcome, Ready, Refused, Uncertain
from newsletter.settings import Keys
from newsletter.store.session import reading, writing
from newsletter.store.tables import Batch, EditionRow, Rendering, Subscriber, Subscription, Suppression

NOW = datetime(2026, 11, 20, 4, 0, tzinfo=UTC)
PUBLICATION = Publication.model_validate(
    {
        "name": "The Parallel", "url": "https://www.theparallel.example", "postal_address": "Here",
        "sender": {"name": "P", "email": "p@news.theparallel.example"}, "timezone": "Europe/Paris",
        "plans": [
            {"id": "free", "name": "Free", "class": "free"}, {"id": "annual", "name": "Annual", "class": "paying"},
        ],
    }
)  # fmt: skip
NEWSLETTER = Newsletter.model_validate(
    {
        "slug": "daily", "name": "Daily", "subject": "s", "preheader": "p", "window_hours": 24, "min_stories": 1,
        "schedule": {"days": ["mon"], "at": "06:30"}, "sections": [{"id": "a", "block": "briefs", "max": 3}],
    }
)  # fmt: skip


class Postman:
    """A provider that answers what a script says and remembers whom it took for delivery."""

    name = "postman"

    def __init__(
        self,
        *,
        size: int = 10,
        script: Iterator[Outcome] | None = None,
        before: Callable[[Envelope], None] | None = None,
    ) -> None:
        self.max_recipients = size
        self.schedules_ahead = timedelta(0)
        self.script = script
        self.before = before
        self.taken: Counter[str] = Counter()
        self.envelopes: list[Envelope] = []
        self._lock = threading.Lock()

    def submit(self, envelope: Envelope) -> Outcome:
        """Answer by the script; without one, accept."""
        if self.before:
            self.before(envelope)
        with self._lock:
            outcome = next(self.script, Accepted("ok")) if self.script else Accepted("ok")
            self.envelopes.append(envelope)
            if isinstance(outcome, Accepted):
                self.taken.update(recipient.reader for recipient in envelope.recipients)
        return outcome

    def prepare(self, envelope: Envelope) -> Ready:
        """Nothing to prepare."""
        return partial(self.submit, envelope)

    def reserve(self) -> str:
        """Nothing can be scheduled."""
        raise ProviderError("no")

    def cancel(self, reservation: str) -> bool:
        """Nothing was scheduled."""
        return False

    def release(self, reservation: str) -> None:
        """Nothing was scheduled."""

    def problems(self) -> list[str]:
        """Nothing is missing."""
        return []


def add_readers(engine: Engine, number: int, *, paying_every: int = 3) -> None:
    """Readers 1…*number* of the newsletter; every *paying_every*-th one pays."""
    with writing(engine) as session:
        for index in range(1, number + 1):
            session.add(
                Subscriber(
                    id=index,
                    reader=f"{index:024x}",
                    email=f"r{index}@example.com",
                    email_key=f"r{index}@example.com",
                    address_hash=f"h{index}",
                    plan="annual" if index % paying_every == 0 else "free",
                    joined_at=NOW,
                    updated_at=NOW,
                )
            )
        session.flush()
        for index in range(1, number + 1):
            session.add(Subscription(subscriber_id=index, newsletter="daily", since=NOW - timedelta(days=1)))


def an_edition(engine: Engine, *, status: str = "approved") -> int:
    """An approved edition with two rendered variants; returns its id."""
    with writing(engine) as session:
        row = EditionRow(
            newsletter="daily", edition_date=date(2026, 11, 20), status=status, made_at=NOW, findings=[]
        )
        session.add(row)
        session.flush()
        assert row.id is not None
        for variant in ("free", "paying"):
            session.add(
                Rendering(edition_id=row.id, variant=variant, subject=f"for {variant}",
                          html=zlib.compress(b"<p>hello</p>"), text=zlib.compress(b"hello"))
            )  # fmt: skip
        return row.id


def a_sender(engine: Engine, postman: Postman, *, in_flight: int = 1) -> Sender:
    """What a drain needs, with a clock of its own that moves when somebody sleeps."""
    moment = [NOW]

    def sleep(seconds: float) -> None:
        moment[0] += timedelta(seconds=seconds)

    return Sender(
        engine=engine, provider=postman, signer=Signer(Keys(signing=(b"k" * 32,), suppression=b"s" * 32)),
        base_url="http://127.0.0.1:8000", in_flight=in_flight, clock=lambda: moment[0], sleep=sleep,
    )  # fmt: skip


def send_all(engine: Engine, postman: Postman, edition_id: int, *, in_flight: int = 1) -> None:
    """Freeze (if it is approved) and drain."""
    freeze(engine, NEWSLETTER, PUBLICATION, edition_id, now=NOW, at=NOW, batch_size=postman.max_recipients)
    mailing = Mailing(NEWSLETTER, PUBLICATION, edition_id)
    drain(a_sender(engine, postman, in_flight=in_flight), [mailing], now=NOW)


def claim_one(engine: Engine, edition_id: int, *, owner: str) -> Claim | Later | None:
    """One claim of its own transaction, by *owner*, never sent."""
    with writing(engine) as session:
        return claim(
            session, NEWSLETTER, PUBLICATION, edition_id, owner=owner, at=NOW, ahead=timedelta(0)
        )  # fmt: skip


def the_edition(engine: Engine, edition_id: int) -> EditionRow:
    """The edition's row as it stands."""
    with reading(engine) as session:
        row = session.get(EditionRow, edition_id)
    assert row is not None
    return row


def balance_of(engine: Engine, edition_id: int) -> tuple[int, int, int, int, int, int]:
    """Audience, pending, submitted, skipped, failed, uncertain — after checking that it balances."""
    with reading(engine) as session:
        row = session.get(EditionRow, edition_id)
        assert row is not None
        told = audit(session, row)
        quick = counts(session, edition_id)
    assert told.problems == ()
    sums = (
        told.audience,
        told.pending,
        told.submitted,
        sum(told.skipped.values()),
        sum(told.failed.values()),
        told.uncertain,
    )
    assert tuple(quick[name] for name in ("pending", "submitted", "uncertain")) == (
        told.pending,
        told.submitted,
        told.uncertain,
    )
    return sums


@given(st.sets(st.integers(1, 2**40), max_size=200).map(sorted))
def test_frozen_ids_come_back(ids: list[int]) -> None:
    """Packing ids loses nothing."""
    assert unpack(pack(ids)) == ids


def test_ids_must_ascend() -> None:
    """An id twice, or out of order, is refused: a batch is a set."""
    with pytest.raises(ValueError, match="ascending"):
        pack([3, 3])


def test_everybody_gets_it_once(engine: Engine) -> None:
    """Each reader of the audience is in exactly one accepted envelope, of the right variant."""
    add_readers(engine, 47)
    edition_id = an_edition(engine)
    postman = Postman()

    send_all(engine, postman, edition_id, in_flight=4)

    assert postman.taken == Counter({f"{index:024x}": 1 for index in range(1, 48)})
    for envelope in postman.envelopes:
        paying = {int(recipient.reader, 16) % 3 == 0 for recipient in envelope.recipients}
        assert paying == {envelope.variant == "paying"}
    assert balance_of(engine, edition_id) == (47, 0, 47, 0, 0, 0)
    assert the_edition(engine, edition_id).status == EditionStatus.SUBMITTED


def test_sending_again_sends_nothing(engine: Engine) -> None:
    """A repeated freeze and drain of a submitted edition does nothing."""
    add_readers(engine, 5)
    edition_id = an_edition(engine)
    send_all(engine, Postman(), edition_id)
    again = Postman()

    send_all(engine, again, edition_id)

    assert again.envelopes == []


def test_an_edition_nobody_gets_ends_submitted(engine: Engine) -> None:
    """No audience: nothing to send, and the edition is done."""
    edition_id = an_edition(engine)

    send_all(engine, Postman(), edition_id)

    assert the_edition(engine, edition_id).status == EditionStatus.SUBMITTED
    assert balance_of(engine, edition_id) == (0, 0, 0, 0, 0, 0)


def test_an_uncertain_batch_is_shown_and_never_retried(engine: Engine) -> None:
    """A lost reply leaves its readers uncertain; draining again does not touch them."""
    add_readers(engine, 9)
    edition_id = an_edition(engine)
    postman = Postman(script=iter([Uncertain("the reply was lost")]))

    send_all(engine, postman, edition_id)
    send_all(engine, postman, edition_id)

    assert balance_of(engine, edition_id) == (9, 0, 3, 0, 0, 6)
    assert the_edition(engine, edition_id).status == EditionStatus.SUBMITTING
    assert len(postman.envelopes) == 2


@pytest.mark.parametrize(
    ("word", "expected"),
    [("submitted", (6, 0, 6, 0, 0, 0)), ("abandoned", (6, 0, 2, 0, 4, 0)), ("resend", (6, 4, 2, 0, 0, 0))],
)
def test_a_persons_word_settles_an_uncertain_batch(
    engine: Engine, word: str, expected: tuple[int, ...]
) -> None:
    """It went out, it is abandoned, or it goes again: the account follows."""
    add_readers(engine, 6)
    edition_id = an_edition(engine)
    send_all(engine, Postman(script=iter([Uncertain("lost")])), edition_id)

    settle_by_word(engine, edition_id, 1, word, actor="mia", at=NOW)  # type: ignore[arg-type]  # one of the three words

    assert balance_of(engine, edition_id) == expected
    with pytest.raises(StateError, match="only an uncertain batch"):
        settle_by_word(engine, edition_id, 1, "submitted", actor="mia", at=NOW)


def test_a_refusal_for_now_is_tried_again_later(engine: Engine) -> None:
    """Rate limited: the same readers go again after the reset, once."""
    add_readers(engine, 4, paying_every=99)
    edition_id = an_edition(engine)
    postman = Postman(script=iter([Refused("slow down", retry_at=NOW + timedelta(seconds=20))]))

    send_all(engine, postman, edition_id)

    assert [envelope.batch.split(".")[1] for envelope in postman.envelopes] == ["1", "2"]
    assert balance_of(engine, edition_id) == (4, 0, 4, 0, 0, 0)


def test_a_refusal_of_us_stops_and_loses_nothing(engine: Engine) -> None:
    """A refused key stops the run; everything stays pending and goes out once it is mended."""
    add_readers(engine, 30)
    edition_id = an_edition(engine)

    with pytest.raises(ProviderError, match="Nothing was lost"):
        send_all(engine, Postman(script=iter([Refused("the key is bad", stop_run=True)] * 9)), edition_id)

    assert balance_of(engine, edition_id) == (30, 30, 0, 0, 0, 0)
    send_all(engine, Postman(), edition_id)
    assert balance_of(engine, edition_id) == (30, 0, 30, 0, 0, 0)


def test_one_named_bad_reader_fails_alone(engine: Engine) -> None:
    """The provider objects to one address: that reader fails with the reason, the others go."""
    add_readers(engine, 8, paying_every=99)
    edition_id = an_edition(engine)
    postman = Postman(script=iter([Refused("address not valid", unfit=True, recipients=(2,))]))

    send_all(engine, postman, edition_id)

    assert balance_of(engine, edition_id) == (8, 0, 7, 0, 1, 0)
    assert f"{3:024x}" not in postman.taken
    with reading(engine) as session:
        told = why(session, the_edition(engine, edition_id), "daily", session.get(Subscriber, 3))
    assert (told.verdict, told.reason) == ("failed", "address not valid")


def test_one_unnamed_bad_reader_is_found_by_halving(engine: Engine) -> None:
    """The provider refuses without saying whom: halving finds the one, everybody else goes, once."""
    add_readers(engine, 8, paying_every=99)
    edition_id = an_edition(engine)

    class Picky(Postman):
        def submit(self, envelope: Envelope) -> Outcome:
            if any(recipient.reader == f"{5:024x}" for recipient in envelope.recipients):
                return Refused("something is wrong with somebody", unfit=True)
            return super().submit(envelope)

    postman = Picky()
    send_all(engine, postman, edition_id)

    assert balance_of(engine, edition_id) == (8, 0, 7, 0, 1, 0)
    assert postman.taken == Counter({f"{index:024x}": 1 for index in range(1, 9) if index != 5})


def test_who_leaves_between_freeze_and_read_is_skipped(engine: Engine) -> None:
    """Left, suppressed, bounced or erased after the freeze: not mailed, and each told why."""
    add_readers(engine, 6, paying_every=99)
    edition_id = an_edition(engine)
    freeze(engine, NEWSLETTER, PUBLICATION, edition_id, now=NOW, at=NOW, batch_size=10)
    with writing(engine) as session:
        session.execute(
            update(Subscription).where(col(Subscription.subscriber_id) == 1).values(state="left", left_at=NOW)
        )
        session.add(Suppression(address_hash="h2", scope="all", reason="complained", suppressed_at=NOW))
        session.execute(update(Subscriber).where(col(Subscriber.id) == 3).values(status="bounced"))
        session.execute(delete(Subscription).where(col(Subscription.subscriber_id) == 4))
        session.execute(delete(Subscriber).where(col(Subscriber.id) == 4))
    postman = Postman()

    send_all(engine, postman, edition_id)

    assert set(postman.taken) == {f"{5:024x}", f"{6:024x}"}
    assert balance_of(engine, edition_id) == (6, 0, 2, 4, 0, 0)
    with reading(engine) as session:
        told = audit(session, the_edition(engine, edition_id))
        left = why(session, the_edition(engine, edition_id), "daily", session.get(Subscriber, 1))
    assert told.skipped == {
        "erased after the freeze": 1, "left after the freeze": 1, "suppressed: complained": 1, "the address is bounced": 1,
    }  # fmt: skip
    assert (left.verdict, left.reason) == ("skipped", "left after the freeze")


def test_who_pauses_gets_nothing_until_the_pause_is_over(engine: Engine) -> None:
    """Before the freeze: not in the audience; after it: skipped; a pause that has ended hinders nothing."""
    add_readers(engine, 4, paying_every=99)
    edition_id = an_edition(engine)

    def pause(reader: int, until: datetime) -> None:
        with writing(engine) as session:
            session.execute(update(Subscriber).where(col(Subscriber.id) == reader).values(paused_until=until))

    pause(1, NOW + timedelta(days=1))
    pause(2, NOW)
    freeze(engine, NEWSLETTER, PUBLICATION, edition_id, now=NOW, at=NOW, batch_size=10)
    pause(3, NOW + timedelta(seconds=1))
    postman = Postman()

    send_all(engine, postman, edition_id)

    assert set(postman.taken) == {f"{2:024x}", f"{4:024x}"}
    assert balance_of(engine, edition_id) == (3, 0, 2, 1, 0, 0)
    with reading(engine) as session:
        edition = the_edition(engine, edition_id)
        told = [why(session, edition, "daily", session.get(Subscriber, reader)) for reader in (1, 3)]
    assert (told[0].verdict, told[0].reason) == (
        "not in audience", "Has paused all newsletters until 2026-11-21 at 04:00 UTC.",
    )  # fmt: skip
    assert (told[1].verdict, told[1].reason) == ("skipped", "paused after the freeze")


def test_readers_that_lie_between_the_frozen_are_left_alone(engine: Engine) -> None:
    """A batch is read as a span of ids; who subscribed after the freeze and lies in it gets nothing."""
    add_readers(engine, 12, paying_every=99)
    edition_id = an_edition(engine)
    with writing(engine) as session:
        session.execute(
            update(Subscription).where(col(Subscription.subscriber_id).in_((4, 7))).values(state="pending")
        )
    freeze(engine, NEWSLETTER, PUBLICATION, edition_id, now=NOW, at=NOW, batch_size=100)
    with writing(engine) as session:
        session.execute(update(Subscription).values(state="active"))
    postman = Postman()

    send_all(engine, postman, edition_id)

    assert set(postman.taken) == {f"{number:024x}" for number in range(1, 13) if number not in (4, 7)}
    assert balance_of(engine, edition_id) == (10, 0, 10, 0, 0, 0)


def test_who_changes_class_is_moved_once_and_gets_the_right_variant(engine: Engine) -> None:
    """A trial that ends between freeze and read: the free variant, in a trailing batch, counted once."""
    add_readers(engine, 9)
    edition_id = an_edition(engine)
    freeze(engine, NEWSLETTER, PUBLICATION, edition_id, now=NOW, at=NOW, batch_size=10)
    with writing(engine) as session:
        session.execute(
            update(Subscriber)
            .where(col(Subscriber.id).in_((3, 6)))
            .values(plan_until=NOW - timedelta(seconds=1))
        )
    postman = Postman()

    send_all(engine, postman, edition_id)

    variants = {
        recipient.reader: envelope.variant
        for envelope in postman.envelopes
        for recipient in envelope.recipients
    }
    assert variants[f"{3:024x}"] == variants[f"{6:024x}"] == "free"
    assert variants[f"{9:024x}"] == "paying"
    assert max(postman.taken.values()) == 1
    assert balance_of(engine, edition_id) == (9, 0, 9, 0, 0, 0)


def test_a_dead_owner_leaves_uncertainty_not_a_retry(engine: Engine) -> None:
    """What a killed process had in flight becomes uncertain at the next start, without waiting."""
    add_readers(engine, 20, paying_every=99)
    edition_id = an_edition(engine)
    freeze(engine, NEWSLETTER, PUBLICATION, edition_id, now=NOW, at=NOW, batch_size=10)
    dead = "|".join([this_owner().split("|")[0], "999999999", "1.00"])
    assert claim_one(engine, edition_id, owner=dead)
    postman = Postman()

    send_all(engine, postman, edition_id)

    assert balance_of(engine, edition_id) == (20, 0, 10, 0, 0, 10)
    assert set(postman.taken) == {f"{index:024x}" for index in range(11, 21)}


def test_a_living_owner_is_left_alone_until_its_lease_ends(engine: Engine) -> None:
    """Another host's batch is given up only when its lease has run out."""
    add_readers(engine, 5, paying_every=99)
    edition_id = an_edition(engine)
    freeze(engine, NEWSLETTER, PUBLICATION, edition_id, now=NOW, at=NOW, batch_size=10)
    claim_one(engine, edition_id, owner="elsewhere|1|1.00")

    with writing(engine) as session:
        early = recover(session, at=NOW + timedelta(minutes=5))
        late = recover(session, at=NOW + timedelta(minutes=16))

    assert (early, late) == (0, 1)
    assert not is_dead(this_owner())


def test_a_paused_edition_claims_nothing(engine: Engine) -> None:
    """The brake is looked at for every batch: pausing in the middle stops the next claim."""
    add_readers(engine, 30, paying_every=99)
    edition_id = an_edition(engine)

    def brake(_envelope: Envelope) -> None:
        with writing(engine) as session:
            move_edition(session, edition_id, to=EditionStatus.PAUSED, frm=(EditionStatus.SUBMITTING,))

    postman = Postman(before=brake)
    send_all(engine, postman, edition_id)

    assert len(postman.envelopes) == 1
    assert balance_of(engine, edition_id) == (30, 20, 10, 0, 0, 0)


def test_several_processes_share_one_edition(engine: Engine) -> None:
    """Five drains at once: one edition, nobody twice."""
    add_readers(engine, 60)
    edition_id = an_edition(engine)
    postman = Postman(size=5)
    threads = [threading.Thread(target=send_all, args=(engine, postman, edition_id)) for _ in range(5)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert postman.taken == Counter({f"{index:024x}": 1 for index in range(1, 61)})
    assert balance_of(engine, edition_id) == (60, 0, 60, 0, 0, 0)


def test_moves_that_do_not_exist_are_refused(engine: Engine) -> None:
    """A submitted edition cannot be spiked, a submitted batch cannot go again."""
    edition_id = an_edition(engine, status="submitted")
    with writing(engine) as session:
        with pytest.raises(StateError):
            move_edition(session, edition_id, to=EditionStatus.SPIKED, frm=(EditionStatus.SUBMITTED,))
        with pytest.raises(StateError):
            move_batch(session, 1, to=BatchState.PENDING, frm=BatchState.SUBMITTED, at=NOW)


def test_why_tells_those_who_were_not_in_the_audience(engine: Engine) -> None:
    """Left before the freeze, never subscribed, unknown, joined later: each has its sentence."""
    add_readers(engine, 3)
    with writing(engine) as session:
        session.execute(
            update(Subscription)
            .where(col(Subscription.subscriber_id) == 1)
            .values(state="left", left_at=NOW - timedelta(hours=3), left_reason="one-click")
        )
        session.execute(delete(Subscription).where(col(Subscription.subscriber_id) == 2))
        session.execute(
            update(Subscription).where(col(Subscription.subscriber_id) == 3).values(state="pending")
        )
    edition_id = an_edition(engine)
    send_all(engine, Postman(), edition_id)

    with reading(engine) as session:
        edition = session.get(EditionRow, edition_id)
        told = [why(session, edition, "daily", session.get(Subscriber, index)) for index in (1, 2, 3)]
        unknown = why(session, edition, "daily", None)

    assert {one.verdict for one in (*told, unknown)} == {"not in audience"}
    assert told[0].reason == "Left this newsletter on 2026-11-20 at 01:00 UTC (one-click)."
    assert "not subscribed" in told[1].reason
    assert "not confirmed" in told[2].reason
    assert "do not know" in unknown.reason


def test_a_broken_ledger_does_not_balance(engine: Engine) -> None:
    """A batch that lost readers is found out: audit proves, it does not repeat the counters."""
    add_readers(engine, 5, paying_every=99)
    edition_id = an_edition(engine)
    send_all(engine, Postman(), edition_id)
    with writing(engine) as session:
        batch = session.exec(select(Batch).where(Batch.edition_id == edition_id)).one()
        batch.ids = pack(unpack(batch.ids)[1:])
        session.add(batch)

    with reading(engine) as session:
        told = audit(session, the_edition(engine, edition_id))

    assert not told.balanced
