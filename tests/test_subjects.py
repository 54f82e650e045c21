"""Subjects: several are tried on a sample, the rest gets one of them, nobody two; whoever dies, nobody is forgotten."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import count
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, insert, update
from sqlmodel import col, select

from newsletter.catalogue import Ceilings, Newsletter
from newsletter.edition import EditionStatus
from newsletter.errors import NotFound, StateError
from newsletter.outbox.accounts import why
from newsletter.outbox.claim import waits
from newsletter.outbox.doubt import settle_by_word
from newsletter.outbox.drain import Mailing, drain
from newsletter.outbox.freeze import SCHEDULE_LEAD, freeze
from newsletter.outbox.ids import unpack
from newsletter.outbox.ledger import BatchState, move_edition, withdraw
from newsletter.outbox.settle import close
from newsletter.outbox.subjects import Draw, choose, choose_by_word
from newsletter.providers import Accepted, Divided, Envelope, Outcome, Refused, Uncertain
from newsletter.reports.intervals import difference, wilson
from newsletter.reports.subjects import ERROR, Figure, judge, subjects_now
from newsletter.store.session import reading, writing
from newsletter.store.tables import Batch, EditionRow, Event, Rendering, SubjectTest, Subscriber, Subscription
from tests.test_correcting import correct, had
from tests.test_delivery import Clock, Scheduling, a_sender
from tests.test_outbox import (
    NEWSLETTER,
    NOW,
    PUBLICATION,
    Postman,
    add_readers,
    an_edition,
    balance_of,
    the_edition,
)

HOUR = timedelta(hours=1)
_serial = count(1)
TRIED = NEWSLETTER.model_copy(
    update={"subject_test": NEWSLETTER.subject_test.model_copy(update={"share": 0.4, "fewest": 1})}
)


def an_edition_with(engine: Engine, *others: str) -> int:
    """An approved edition whose first subject is ``A``, with others."""
    edition_id = an_edition(engine)
    with writing(engine) as session:
        for one in session.exec(select(Rendering)):
            one.subject, one.other_subjects = "A", list(others)
    return edition_id


def frozen(engine: Engine, readers: int, *others: str, newsletter: Newsletter = TRIED, size: int = 10) -> int:
    """An edition with subjects A and *others*, frozen for so many readers, a third of them paying."""
    add_readers(engine, readers)
    edition_id = an_edition_with(engine, *others)
    freeze(engine, newsletter, PUBLICATION, edition_id, now=NOW, at=NOW, batch_size=size)
    return edition_id


def send(
    engine: Engine, postman: Postman, edition_id: int, *, at: datetime = NOW, newsletter: Newsletter = TRIED
) -> None:
    """Drain the edition from *at* on."""
    drain(a_sender(engine, postman, Clock(at)), [Mailing(newsletter, PUBLICATION, edition_id)], now=NOW)


def got(postman: Postman) -> dict[str, Counter[int]]:
    """Who was taken with which subject, and how often."""
    found: dict[str, Counter[int]] = defaultdict(Counter)
    for envelope in postman.envelopes:
        found[envelope.subject].update(int(one.reader, 16) for one in envelope.recipients)
    return dict(found)


def sample_of(engine: Engine) -> dict[str, set[int]]:
    """Who drew which subject, as it was frozen; '' is the rest."""
    found: dict[str, set[int]] = defaultdict(set)
    with reading(engine) as session:
        for batch in session.exec(select(Batch)):
            found[batch.subject].update(unpack(batch.ids))
    return dict(found)


def act(
    engine: Engine, postman: Postman, kind: str, readers: Iterable[int], *, machine: bool = False
) -> None:
    """Let *readers* open or click what they got."""
    batch_of = {
        int(one.reader, 16): (sent.edition, sent.batch)
        for sent in postman.envelopes
        for one in sent.recipients
    }
    rows = [
        {
            "event_id": f"e{next(_serial)}", "address_hash": f"h{reader}", "kind": kind, "edition": batch_of[reader][0],
            "batch": batch_of[reader][1], "reader": f"{reader:024x}", "occurred_at": NOW, "received_at": NOW,
            "is_machine": machine, "link": "https://news.example/war" if kind == "clicked" else "",
        }
        for reader in readers
    ]  # fmt: skip
    with writing(engine) as session:
        session.connection().execute(insert(Event), rows)


def the_test(engine: Engine) -> SubjectTest:
    """The test as it stands."""
    with reading(engine) as session:
        return session.exec(select(SubjectTest)).one()


def decide(engine: Engine, edition_id: int, letter: str, *, at: datetime = NOW) -> None:
    """A person's word."""
    with writing(engine) as session:
        choose_by_word(session, session.get_one(EditionRow, edition_id), letter, actor="ann", at=at)


def many(engine: Engine, ids: Iterable[int]) -> None:
    """Readers by the thousand, a third of them paying."""
    with writing(engine) as session:
        session.connection().execute(
            insert(Subscriber),
            [
                {
                    "id": n, "reader": f"{n:024x}", "email": f"r{n}@example.com", "email_key": f"r{n}@example.com",
                    "address_hash": f"h{n}", "plan": "annual" if n % 3 == 0 else "free", "joined_at": NOW, "updated_at": NOW,
                }
                for n in ids
            ],
        )  # fmt: skip
        since = NOW - timedelta(days=1)
        session.connection().execute(
            insert(Subscription), [{"subscriber_id": n, "newsletter": "daily", "since": since} for n in ids]
        )


# --- the draw -------------------------------------------------------------------------------------


@given(st.sets(st.integers(1, 2**40), max_size=300).map(sorted), st.integers(2, 5), st.floats(0.01, 0.5))
def test_the_draw_parts_everybody(ids: list[int], subjects: int, share: float) -> None:
    """Each reader is in one part, in order; the same draw gives the same, whoever is drawn beside them."""
    draw = Draw(b"daily.2026-11-20.1", "abcde"[:subjects], share)

    parts = dict(draw.sort(ids))

    assert sorted(reader for some in parts.values() for reader in some) == ids
    assert all(some == sorted(some) for some in parts.values())
    assert all(
        reader in dict(draw.sort([reader]))[letter] for letter, some in parts.items() for reader in some[:5]
    )


def test_another_edition_draws_others() -> None:
    """Whose turn it is to be in a sample changes from day to day."""
    ids = list(range(1, 10_001))

    today, tomorrow = (
        set(dict(Draw(key, "ab", 0.1).sort(ids))["a"])
        for key in (b"daily.2026-11-20.1", b"daily.2026-11-21.1")
    )

    assert len(today & tomorrow) < len(today) / 5


def test_ten_thousand_sample_readers(engine: Engine) -> None:
    """A and B on ten thousand: the sizes are those of the draw and even, the winner is who was opened, the books balance."""
    newsletter = NEWSLETTER.model_copy(
        update={"subject_test": NEWSLETTER.subject_test.model_copy(update={"share": 0.5})}
    )
    ids = range(1, 20_001)
    many(engine, ids)
    edition_id = an_edition_with(engine, "B")
    freeze(engine, newsletter, PUBLICATION, edition_id, now=NOW, at=NOW, batch_size=1000)
    drawn = {letter: set(some) for letter, some in Draw(b"daily.2026-11-20.1", "ab", 0.5).sort(list(ids))}
    postman = Postman(size=1000)

    send(engine, postman, edition_id, newsletter=newsletter)
    sample = got(postman)
    act(engine, postman, "opened", sorted(drawn["a"])[:300])
    act(engine, postman, "opened", sorted(drawn["b"])[:450])
    act(engine, postman, "opened", sorted(drawn["a"])[300:900], machine=True)
    send(engine, postman, edition_id, at=NOW + HOUR, newsletter=newsletter)

    assert sample == {"A": Counter(drawn["a"]), "B": Counter(drawn["b"])}
    assert (len(drawn["a"]), len(drawn["b"])) == (5081, 5030)
    assert the_test(engine).sample == 10_111
    assert the_test(engine).chosen == "b"
    assert the_test(engine).reason == (
        "opens by people: A 300 of 5,081 (5.9%), B 450 of 5,030 (8.9%); B is 3.0 points ahead of A (+2.0 to +4.1), "
        "which is more than chance"
    )
    assert got(postman) == {"A": Counter(drawn["a"]), "B": Counter(drawn["b"] | drawn[""])}
    assert balance_of(engine, edition_id) == (20_000, 0, 20_000, 0, 0, 0)
    assert the_edition(engine, edition_id).status == EditionStatus.SUBMITTED


# --- the choice -----------------------------------------------------------------------------------


def tried(**rule: object) -> Newsletter:
    """The newsletter with another rule for its subjects."""
    return TRIED.model_copy(update={"subject_test": TRIED.subject_test.model_copy(update=rule)})


def test_the_rest_waits_for_the_time_that_begins_when_the_sample_has_gone(engine: Engine) -> None:
    """Nobody of the rest is claimed before the choice, and the edition says until when they wait and why."""
    edition_id = frozen(engine, 60, "B")
    postman = Postman()
    drawn = sample_of(engine)

    send(engine, postman, edition_id, at=NOW + 2 * HOUR)
    with reading(engine) as session:
        later = waits(session, TRIED, PUBLICATION, edition_id, at=NOW + 2 * HOUR, ahead=timedelta(0))
    send(engine, postman, edition_id, at=NOW + 2 * HOUR + timedelta(minutes=55))

    assert got(postman) == {"A": Counter(drawn["a"]), "B": Counter(drawn["b"])}
    assert later is not None and later.why == "its subjects are being tried on a sample"
    assert (later.at - NOW).total_seconds() == pytest.approx(3 * 3600, abs=5)
    assert balance_of(engine, edition_id)[1] == len(drawn[""])


@pytest.mark.parametrize(
    ("kind", "by", "machine", "chosen"),
    [("opened", "opens", False, "c"), ("opened", "opens", True, "a"), ("opened", "clicks", False, "a"), ("clicked", "clicks", False, "c")],
)  # fmt: skip
def test_only_what_people_do_and_what_is_asked_counts(
    engine: Engine, kind: str, by: str, machine: bool, chosen: str
) -> None:
    """Opens by programs choose nothing, and clicks count only where clicks are asked for; of equals the first is taken."""
    newsletter = tried(by=by)
    edition_id = frozen(engine, 120, "B", "C", newsletter=newsletter)
    postman = Postman()
    send(engine, postman, edition_id, newsletter=newsletter)

    act(engine, postman, kind, sorted(sample_of(engine)["c"]), machine=machine)
    send(engine, postman, edition_id, at=NOW + HOUR, newsletter=newsletter)

    assert the_test(engine).chosen == chosen
    assert balance_of(engine, edition_id) == (120, 0, 120, 0, 0, 0)


def test_a_lead_that_may_be_chance_is_said_to_be_that(engine: Engine) -> None:
    """Without a clear winner the one ahead goes, and nobody is told that it won."""
    edition_id = frozen(engine, 60, "B")
    postman = Postman()
    send(engine, postman, edition_id)

    act(engine, postman, "opened", sorted(sample_of(engine)["b"])[:2])
    send(engine, postman, edition_id, at=NOW + HOUR)

    assert (the_test(engine).chosen, the_test(engine).chosen_by) == ("b", "its numbers")
    assert "no clear winner" in the_test(engine).reason


def test_half_way_a_lead_beyond_doubt_ends_it(engine: Engine) -> None:
    """It is looked at once, half-way: a small lead then changes nothing, however often somebody passes by."""
    edition_id = frozen(engine, 200, "B")
    postman = Postman()
    send(engine, postman, edition_id)
    drawn = sample_of(engine)

    act(engine, postman, "opened", sorted(drawn["b"])[:3])
    send(engine, postman, edition_id, at=NOW + timedelta(minutes=31))
    looked = the_test(engine)
    act(engine, postman, "opened", sorted(drawn["b"])[3:])
    send(engine, postman, edition_id, at=NOW + timedelta(minutes=45))

    assert looked.looked_at is not None and looked.chosen == ""
    assert the_test(engine).chosen == ""


def test_half_way_a_lead_beyond_doubt_ends_it_at_once(engine: Engine) -> None:
    """When everybody opened the one and nobody the other, the rest need not wait."""
    edition_id = frozen(engine, 200, "B")
    postman = Postman()
    send(engine, postman, edition_id)
    act(engine, postman, "opened", sample_of(engine)["b"])

    send(engine, postman, edition_id, at=NOW + timedelta(minutes=31))

    assert the_test(engine).reason.endswith("which is more than chance; decided half-way")
    assert balance_of(engine, edition_id) == (200, 0, 200, 0, 0, 0)


def test_a_person_decides_before_the_numbers(engine: Engine) -> None:
    """Their word counts at once and once: the next one hears what was chosen, by whom and when."""
    edition_id = frozen(engine, 60, "B")
    postman = Postman()
    send(engine, postman, edition_id)

    decide(engine, edition_id, "b", at=NOW + timedelta(minutes=5))
    send(engine, postman, edition_id, at=NOW + timedelta(minutes=5))

    assert got(postman)["B"] == Counter(sample_of(engine)["b"] | sample_of(engine)[""])
    with pytest.raises(StateError, match="B was chosen at 2026-11-20 04:05 UTC by ann"):
        decide(engine, edition_id, "a")
    with pytest.raises(NotFound, match="no subject 'D'; there are A, B"):
        decide(engine, edition_id, "d")


def test_a_drain_that_waits_hears_of_a_decision(engine: Engine) -> None:
    """A person decides while a drain is busy with another edition: the rest goes in the same drain."""
    edition_id = frozen(engine, 60, "B")
    postman = Postman()
    clock = Clock()

    def more() -> tuple[Mailing, ...]:
        if clock.at > NOW + timedelta(seconds=30) and not the_test(engine).chosen:
            decide(engine, edition_id, "b", at=clock.at)
        return ()

    newsletter = tried(wait_minutes=5)
    with writing(engine) as session:
        session.execute(update(SubjectTest).values(until=NOW + timedelta(seconds=80)))
    drain(
        a_sender(engine, postman, clock), [Mailing(newsletter, PUBLICATION, edition_id)], now=NOW, more=more
    )

    assert clock.at < NOW + timedelta(seconds=40)
    assert balance_of(engine, edition_id) == (60, 0, 60, 0, 0, 0)


def test_two_processes_that_choose_choose_one(engine: Engine) -> None:
    """Whoever is second changes nothing, even if it heard other numbers by then."""
    edition_id = frozen(engine, 60, "B")
    postman = Postman()
    send(engine, postman, edition_id)
    act(engine, postman, "opened", sample_of(engine)["b"])
    with writing(engine) as session:
        first = choose(session, edition_id, at=NOW + HOUR)
    act(engine, postman, "opened", sample_of(engine)["a"])

    with writing(engine) as session:
        second = choose(session, edition_id, at=NOW + 2 * HOUR)

    assert (first, second, the_test(engine).chosen) == (True, False, "b")


def test_too_few_readers_try_nothing(engine: Engine) -> None:
    """Everybody gets the first subject at once, and it is said why."""
    edition_id = frozen(engine, 60, "B", newsletter=tried(fewest=13))
    postman = Postman()

    send(engine, postman, edition_id)

    assert got(postman) == {"A": Counter(range(1, 61))}
    assert the_test(engine).reason.startswith(
        "not tried: 12 readers for each subject would be too few to tell, 13 are wanted"
    )
    assert balance_of(engine, edition_id) == (60, 0, 60, 0, 0, 0)


def test_local_mornings_try_nothing(engine: Engine) -> None:
    """Where each reader gets it in their own morning nobody waits for the others."""
    newsletter = tried().model_copy(update={"deliver": "local 06:30"})
    frozen(engine, 60, "B", newsletter=newsletter)

    assert set(sample_of(engine)) == {""}
    assert the_test(engine).reason == "not tried: each reader gets it in their own morning"


# --- what happens meanwhile -----------------------------------------------------------------------


def test_who_changes_class_keeps_their_subject(engine: Engine) -> None:
    """A reader of the sample who pays meanwhile gets the paying variant with the subject they drew."""
    edition_id = frozen(engine, 60, "B")
    drawn = sample_of(engine)
    reader = next(one for one in sorted(drawn["b"]) if one % 3)
    with writing(engine) as session:
        session.get_one(Subscriber, reader).plan = "annual"
    postman = Postman()

    send(engine, postman, edition_id)
    send(engine, postman, edition_id, at=NOW + HOUR)

    sent = next(
        one for one in postman.envelopes if f"{reader:024x}" in {who.reader for who in one.recipients}
    )
    assert (sent.variant, sent.subject) == ("paying", "B")
    assert balance_of(engine, edition_id) == (60, 0, 60, 0, 0, 0)
    with reading(engine) as session:
        told = why(
            session, session.get_one(EditionRow, edition_id), "daily", session.get_one(Subscriber, reader)
        )
    assert told.subject == "B" and told.reason.endswith("subject B by the draw of the sample")


def test_a_part_of_a_request_keeps_its_subject(engine: Engine) -> None:
    """Of a batch of the sample a half is taken and a half is to be tried again: with the same subject, and at once."""
    edition_id = frozen(engine, 60, "B", size=40)
    drawn = sample_of(engine)

    class Halving(Postman):
        def submit(self, envelope: Envelope) -> Outcome:
            super().submit(envelope)
            if len(self.envelopes) > 1:
                return Accepted("x")
            rest = tuple(range(1, len(envelope.recipients)))
            return Divided(((Accepted("x"), (0,)), (Refused("later", retry_at=NOW), rest)))

    postman = Halving(size=40)

    send(engine, postman, edition_id)

    assert {letter: some for letter, some in sample_of(engine).items() if letter} == {
        "a": drawn["a"],
        "b": drawn["b"],
    }
    assert {envelope.subject for envelope in postman.envelopes} == {"A", "B"}
    assert balance_of(engine, edition_id) == (60, len(drawn[""]), 60 - len(drawn[""]), 0, 0, 0)


def test_two_processes_send_the_rest_after_one_choice(engine: Engine) -> None:
    """Two drains at once, when it is time: one choice, and each reader of the rest once."""
    edition_id = frozen(engine, 200, "B")
    postman = Postman()
    send(engine, postman, edition_id)
    act(engine, postman, "opened", sample_of(engine)["b"])
    drains = [
        threading.Thread(target=send, args=(engine, postman, edition_id), kwargs={"at": NOW + HOUR})
        for _ in range(2)
    ]

    for one in drains:
        one.start()
    for one in drains:
        one.join()

    drawn = sample_of(engine)
    assert got(postman) == {"A": Counter(drawn["a"]), "B": Counter(drawn["b"] | drawn[""])}
    assert balance_of(engine, edition_id) == (200, 0, 200, 0, 0, 0)


def test_why_says_the_subject_of_the_rest(engine: Engine) -> None:
    """Before the choice it says that they wait for it, and afterwards which they got."""
    edition_id = frozen(engine, 60, "B")
    reader = min(sample_of(engine)[""])
    postman = Postman()
    send(engine, postman, edition_id)

    told = []
    for at in (NOW, NOW + HOUR):
        send(engine, postman, edition_id, at=at)
        with reading(engine) as session:
            row, who = session.get_one(EditionRow, edition_id), session.get_one(Subscriber, reader)
            told.append(why(session, row, "daily", who))

    assert (told[0].verdict, told[0].subject) == ("pending", "")
    assert told[0].reason.endswith("waits for its subject: its subjects are being tried on a sample")
    assert (told[1].verdict, told[1].subject) == ("submitted", "A")
    assert told[1].reason.endswith("subject A with the rest, as it was chosen")


def test_doubt_about_the_sample_does_not_hold_the_rest(engine: Engine) -> None:
    """A batch of the sample nobody can say anything about waits for a person, the rest for the time alone."""
    edition_id = frozen(engine, 60, "B")
    postman = Postman(script=iter([Uncertain("lost")]))
    send(engine, postman, edition_id)

    send(engine, postman, edition_id, at=NOW + HOUR)
    settle_by_word(
        engine, edition_id, in_state(engine, BatchState.UNCERTAIN)[0].seq, "resend", actor="ann", at=NOW
    )
    drawn = in_state(engine, BatchState.PENDING)[0]
    send(engine, postman, edition_id, at=NOW + HOUR)

    assert postman.envelopes[-1].subject == drawn.subject.upper()
    assert balance_of(engine, edition_id) == (60, 0, 60, 0, 0, 0)


def test_one_who_is_refused_alone_does_not_keep_the_sample_busy(engine: Engine) -> None:
    """Nobody else of the variant can be tried before the choice: they are asked again now and then, and fail at the end."""
    add_readers(engine, 60, paying_every=99)
    with writing(engine) as session:
        only = min(dict(Draw(b"daily.2026-11-20.1", "ab", 0.4).sort(range(1, 61)))["a"])
        session.get_one(Subscriber, only).plan = "annual"
        session.get_one(
            Subscriber, min(dict(Draw(b"daily.2026-11-20.1", "ab", 0.4).sort(range(1, 61)))[""])
        ).plan = "annual"
    edition_id = an_edition_with(engine, "B")
    freeze(engine, TRIED, PUBLICATION, edition_id, now=NOW, at=NOW, batch_size=10)

    class Picky(Postman):
        def submit(self, envelope: Envelope) -> Outcome:
            if [one.reader for one in envelope.recipients] == [f"{only:024x}"]:
                self.envelopes.append(envelope)
                return Refused("a bad address", split=True)
            return super().submit(envelope)

    postman = Picky()
    send(engine, postman, edition_id)
    asked = sum(envelope.variant == "paying" for envelope in postman.envelopes)
    send(engine, postman, edition_id, at=NOW + 2 * HOUR)

    assert asked <= 4
    assert balance_of(engine, edition_id) == (60, 0, 59, 0, 1, 0)


def test_a_paused_edition_chooses_when_it_goes_on(engine: Engine) -> None:
    """Paused past its time nothing is chosen and nobody gets it; resumed it chooses at once."""
    edition_id = frozen(engine, 60, "B")
    postman = Postman()
    send(engine, postman, edition_id)
    with writing(engine) as session:
        move_edition(session, edition_id, to=EditionStatus.PAUSED, frm=(EditionStatus.SUBMITTING,))

    send(engine, postman, edition_id, at=NOW + 2 * HOUR)
    paused = the_test(engine).chosen
    with writing(engine) as session:
        move_edition(session, edition_id, to=EditionStatus.SUBMITTING, frm=(EditionStatus.PAUSED,))
    send(engine, postman, edition_id, at=NOW + 2 * HOUR)

    assert paused == ""
    assert the_test(engine).chosen == "a"
    assert balance_of(engine, edition_id) == (60, 0, 60, 0, 0, 0)


def test_a_spiked_edition_reaches_nobody_else(engine: Engine) -> None:
    """What the sample got stays, the rest is taken back, and the books balance."""
    edition_id = frozen(engine, 60, "B")
    postman = Postman()
    send(engine, postman, edition_id)
    rest = len(sample_of(engine)[""])

    with writing(engine) as session:
        move_edition(session, edition_id, to=EditionStatus.SPIKED, frm=(EditionStatus.SUBMITTING,))
        withdraw(session, edition_id, at=NOW, reason="spiked")
        close(session, edition_id, at=NOW)
    send(engine, postman, edition_id, at=NOW + HOUR)

    assert balance_of(engine, edition_id) == (60, 0, 60 - rest, rest, 0, 0)
    assert sum(map(len, got(postman).values())) == 60 - rest


def test_a_correction_ends_it(engine: Engine) -> None:
    """The rest gets the correction only, the sample both, and nothing is chosen any more."""
    edition_id = frozen(engine, 60, "B")
    postman = Postman()
    send(engine, postman, edition_id)
    drawn = sample_of(engine)

    right = correct(engine)
    send(engine, postman, edition_id, at=NOW + HOUR)
    send(engine, postman, right, at=NOW + HOUR)

    assert had(postman) == {1: Counter(drawn["a"] | drawn["b"]), 2: Counter(range(1, 61))}
    assert the_test(engine).reason == "not tried to the end: corrected by revision 2"
    assert balance_of(engine, right) == (60, 0, 60, 0, 0, 0)


def test_a_pace_lets_the_sample_go_first(engine: Engine) -> None:
    """Ten a minute: the time of the test begins when the last of the sample has gone."""
    newsletter = tried(wait_minutes=60).model_copy(update={"pace": Ceilings(per_minute=10)})
    edition_id = frozen(engine, 60, "B", newsletter=newsletter)
    postman = Postman()

    send(engine, postman, edition_id, newsletter=newsletter)

    until = the_test(engine).until
    assert until is not None and until >= NOW + timedelta(minutes=62)
    assert set(got(postman)) == {"A", "B"}


def test_a_scheduled_sample_is_tried_from_its_release_on(engine: Engine) -> None:
    """Handed over half an hour ahead, the sample has its whole time; then the rest is scheduled with the chosen one."""
    newsletter = tried().model_copy(update={"mode": "scheduled"})
    add_readers(engine, 60)
    edition_id = an_edition_with(engine, "B")
    postman = Scheduling()
    freeze(engine, newsletter, PUBLICATION, edition_id, now=NOW, at=NOW, batch_size=10, can_schedule=True)
    send(engine, postman, edition_id, newsletter=newsletter)
    drawn, until = sample_of(engine), the_test(engine).until

    act(engine, postman, "opened", drawn["b"])
    assert until is not None
    send(engine, postman, edition_id, at=until, newsletter=newsletter)

    assert until == NOW + SCHEDULE_LEAD + HOUR
    assert got(postman) == {"A": Counter(drawn["a"]), "B": Counter(drawn["b"] | drawn[""])}
    assert all(one.release_at and one.release_at > until for one in postman.envelopes[-3:])
    assert balance_of(engine, edition_id) == (60, 0, 60, 0, 0, 0)


def test_a_sample_that_nobody_may_be_sent_ends_all_the_same(engine: Engine) -> None:
    """All of the sample left after the freeze: the rest goes with the first subject."""
    edition_id = frozen(engine, 60, "B")
    drawn = sample_of(engine)
    with writing(engine) as session:
        for one in session.exec(
            select(Subscription).where(col(Subscription.subscriber_id).in_(drawn["a"] | drawn["b"]))
        ):
            one.state = "left"
    postman = Postman()

    send(engine, postman, edition_id)
    send(engine, postman, edition_id, at=NOW + HOUR)

    assert got(postman) == {"A": Counter(drawn[""])}
    assert balance_of(engine, edition_id)[:4] == (60, 0, len(drawn[""]), 60 - len(drawn[""]))


# --- the numbers ----------------------------------------------------------------------------------


def test_an_interval_is_that_of_the_textbook() -> None:
    """Wilson's 81 of 263 and Newcombe's 56 of 70 against 48 of 80, as they are printed (1998, tables I and II)."""
    low, high = wilson(81, 263)
    seen, lower, upper = difference((56, 70), (48, 80))

    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
    assert (round(seen, 4), round(lower, 4), round(upper, 4)) == (0.2, 0.0524, 0.3339)


@given(st.integers(0, 500), st.integers(0, 500), st.integers(1, 500), st.integers(1, 500))
def test_an_interval_holds_what_was_seen_and_is_possible(one: int, two: int, n: int, m: int) -> None:
    """It holds the difference that was seen, stays within ±1, and turned round it is its own mirror."""
    left, right = (min(one, n), n), (min(two, m), m)

    seen, low, high = difference(left, right)

    assert -1 <= low <= seen <= high <= 1
    assert difference(right, left) == pytest.approx((-seen, -high, -low))


def test_equal_subjects_are_called_different_as_seldom_as_is_said() -> None:
    """Of all that can happen with two subjects of which one reader in five opens each, one time in twenty looks like a winner."""
    readers, share = 200, 0.2
    chance = {n: comb(readers, n) * share**n * (1 - share) ** (readers - n) for n in range(10, 75)}

    clear = sum(
        chance[one] * chance[two]
        for one in chance
        for two in chance
        if judge([Figure("a", readers, one), Figure("b", readers, two)], by="opens", error=ERROR).is_clear
    )

    assert clear == pytest.approx(ERROR, abs=0.005)


def test_how_subjects_stand_is_told(engine: Engine) -> None:
    """Letter, subject, readers, what they did and the interval; the chosen one is marked."""
    edition_id = frozen(engine, 60, "B")
    postman = Postman()
    send(engine, postman, edition_id)
    act(engine, postman, "opened", sorted(sample_of(engine)["b"])[:4])
    send(engine, postman, edition_id, at=NOW + HOUR)

    with reading(engine) as session:
        told = subjects_now(session, session.get_one(EditionRow, edition_id))

    number = len(sample_of(engine)["b"])
    assert (told.status, told.by, told.chosen, told.sample) == (
        "chosen",
        "opens",
        "b",
        60 - len(sample_of(engine)[""]),
    )
    assert [(one.letter, one.subject, one.did, one.is_chosen) for one in told.tried] == [
        ("a", "A", 0, False),
        ("b", "B", 4, True),
    ]
    assert (told.tried[1].readers, told.tried[1].low, told.tried[1].high) == (number, *wilson(4, number))


def in_state(engine: Engine, state: BatchState) -> list[Batch]:
    """The batches in a state."""
    with reading(engine) as session:
        return list(session.exec(select(Batch).where(Batch.state == state).order_by(col(Batch.seq))).all())
