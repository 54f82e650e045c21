"""Pace, local mornings, turns, scheduled sends, silence, spiking and correcting: when and to whom mail goes."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, update
from sqlmodel import col, select

from newsletter.audience.tokens import Signer
from newsletter.catalogue import Newsletter, Publication, Window
from newsletter.desk import Desk
from newsletter.edition import EditionStatus
from newsletter.errors import StateError
from newsletter.outbox.accounts import audit
from newsletter.outbox.doubt import call_back, hear_silence
from newsletter.outbox.drain import Mailing, Sender, drain
from newsletter.outbox.freeze import freeze, next_local
from newsletter.outbox.ids import unpack
from newsletter.outbox.ledger import BatchState, move_edition, withdraw
from newsletter.picking.picks import Order
from newsletter.providers import Accepted, Envelope, Outcome, Refused, Uncertain
from newsletter.settings import Keys, load_settings
from newsletter.store.session import reading, writing
from newsletter.store.tables import Batch, EditionRow, Event, Subscriber
from newsletter.times import local_date
from tests.builders import a_site, the_catalogue
from tests.test_outbox import NEWSLETTER, NOW, PUBLICATION, Postman, add_readers, an_edition, balance_of

KEYS = Keys(signing=(b"k" * 32,), suppression=b"s" * 32)


class Clock:
    """A clock that moves when somebody sleeps, or is put forward."""

    def __init__(self, at: datetime = NOW) -> None:
        self.at = at

    def __call__(self) -> datetime:
        """The time it shows."""
        return self.at

    def sleep(self, seconds: float) -> None:
        """Let it pass."""
        self.at += timedelta(seconds=seconds)


class Scheduling(Postman):
    """A provider that keeps mails until their release and can call them back."""

    def __init__(self, *, can_cancel: bool = True, **options: Any) -> None:
        super().__init__(**options)
        self.schedules_ahead = timedelta(hours=72)
        self.can_cancel = can_cancel
        self.reserved = 0
        self.cancelled: list[str] = []

    def reserve(self) -> str:
        """A new handle."""
        self.reserved += 1
        return f"r{self.reserved}"

    def cancel(self, reservation: str) -> bool:
        """Call it back, if this provider lets."""
        if self.can_cancel:
            self.cancelled.append(reservation)
        return self.can_cancel


def a_newsletter(**fields: Any) -> Newsletter:
    """The newsletter of the outbox tests with other settings."""
    return Newsletter.model_validate({**NEWSLETTER.model_dump(by_alias=True), **fields})


def a_publication(**fields: Any) -> Publication:
    """The publication of the outbox tests with other settings."""
    return Publication.model_validate({**PUBLICATION.model_dump(by_alias=True), **fields})


def a_sender(engine: Engine, postman: Postman, clock: Clock, *, in_flight: int = 1) -> Sender:
    """What a drain needs, on *clock*."""
    return Sender(
        engine=engine, provider=postman, signer=Signer(KEYS), base_url="http://127.0.0.1:8000", in_flight=in_flight,
        clock=clock, sleep=clock.sleep,
    )  # fmt: skip


def frozen(
    engine: Engine, newsletter: Newsletter, publication: Publication, postman: Postman, at: datetime = NOW
) -> int:
    """A frozen edition; its id."""
    edition_id = an_edition(engine)
    freeze(
        engine, newsletter, publication, edition_id, now=at, at=at, batch_size=postman.max_recipients,
        can_schedule=bool(postman.schedules_ahead),
    )  # fmt: skip
    return edition_id


def batches(engine: Engine, edition_id: int) -> list[Batch]:
    """All batches of an edition, by number."""
    with reading(engine) as session:
        return list(
            session.exec(select(Batch).where(Batch.edition_id == edition_id).order_by(col(Batch.seq))).all()
        )


# --- pace ---------------------------------------------------------------------------------------


def test_a_ceiling_a_minute_is_kept_and_everybody_gets_it(engine: Engine) -> None:
    """Ten readers a minute: never more in one minute, and the drain waits for the next one."""
    add_readers(engine, 35, paying_every=99)
    newsletter = a_newsletter(pace={"per_minute": 10})
    clock = Clock()
    minutes: Counter[int] = Counter()

    def note(envelope: Envelope) -> None:
        minutes[int(clock.at.timestamp() // 60)] += len(envelope.recipients)

    postman = Postman(before=note)
    edition_id = frozen(engine, newsletter, PUBLICATION, postman)

    drain(a_sender(engine, postman, clock), [Mailing(newsletter, PUBLICATION, edition_id)], now=NOW)

    assert max(minutes.values()) <= 10 and len(minutes) == 4
    assert balance_of(engine, edition_id) == (35, 0, 35, 0, 0, 0)


def test_a_senders_ceiling_is_shared_by_its_newsletters(engine: Engine) -> None:
    """Two drains of one sender, 20 an hour together: the second edition waits for the rest of the hour."""
    add_readers(engine, 12, paying_every=99)
    publication = a_publication(paces=[{"per_hour": 20}])
    clock, postman = Clock(), Postman(size=4)
    first = frozen(engine, NEWSLETTER, publication, postman)
    drain(a_sender(engine, postman, clock), [Mailing(NEWSLETTER, publication, first)], now=NOW)
    with writing(engine) as session:
        session.execute(update(EditionRow).values(edition_date=date(2026, 11, 19)))
    second = frozen(engine, NEWSLETTER, publication, postman)

    drain(a_sender(engine, postman, clock), [Mailing(NEWSLETTER, publication, second)], now=NOW)
    early = balance_of(engine, second)
    clock.sleep(3600)
    drain(a_sender(engine, postman, clock), [Mailing(NEWSLETTER, publication, second)], now=NOW)

    assert early == (12, 4, 8, 0, 0, 0)
    assert balance_of(engine, second) == (12, 0, 12, 0, 0, 0)


@pytest.mark.parametrize("lowered", ["newsletter", "sender", "provider"])
def test_a_ceiling_that_was_lowered_parts_the_batches(engine: Engine, lowered: str) -> None:
    """Frozen in tens, then four a minute: all go, four at a time, nobody twice; who was skipped is counted once."""
    add_readers(engine, 20, paying_every=99)
    clock, postman = Clock(), Postman(size=10)
    edition_id = frozen(engine, NEWSLETTER, PUBLICATION, postman)
    with writing(engine) as session:
        session.execute(update(Subscriber).where(col(Subscriber.id) == 2).values(status="bounced"))
    pace = {"per_minute": 4}
    newsletter = a_newsletter(pace=pace) if lowered == "newsletter" else NEWSLETTER
    publication = a_publication(paces=[pace]) if lowered == "sender" else PUBLICATION
    postman.max_recipients = 4 if lowered == "provider" else 10

    drain(a_sender(engine, postman, clock), [Mailing(newsletter, publication, edition_id)], now=NOW)

    assert max(len(envelope.recipients) for envelope in postman.envelopes) <= 4
    assert postman.taken == Counter({f"{index:024x}": 1 for index in range(1, 21) if index != 2})
    assert balance_of(engine, edition_id) == (20, 0, 19, 1, 0, 0)
    assert [one.n for one in batches(engine, edition_id)] == [4, 4, 4, 2, 4, 2]


def test_nothing_leaves_outside_the_window(engine: Engine) -> None:
    """A window from 06:00 Paris: at 05:00 nothing, at 06:00 everything."""
    add_readers(engine, 3, paying_every=99)
    newsletter = a_newsletter(window={"from": "06:00", "until": "09:00"})
    clock, postman = Clock(), Postman()  # 05:00 in Paris
    edition_id = frozen(engine, newsletter, PUBLICATION, postman)

    drain(a_sender(engine, postman, clock), [Mailing(newsletter, PUBLICATION, edition_id)], now=NOW)
    early = len(postman.envelopes)
    clock.sleep(3600)
    drain(a_sender(engine, postman, clock), [Mailing(newsletter, PUBLICATION, edition_id)], now=NOW)

    assert (early, balance_of(engine, edition_id)) == (0, (3, 0, 3, 0, 0, 0))


@given(st.times(), st.times(), st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1)))
def test_a_window_that_is_closed_opens_at_its_hour(begin: time, until: time, moment: datetime) -> None:
    """Whenever it is looked at, a window is open or says when it opens next, within a day or so."""
    window = Window.model_validate({"from": begin, "until": until})
    at = moment.replace(tzinfo=UTC)

    opens = window.opens(at, "UTC")

    if opens is None:
        clock = at.time()
        assert (begin <= clock < until) if begin < until else (clock >= begin or clock < until)
    else:
        assert opens.time() == begin and timedelta(0) < opens - at <= timedelta(days=1)


def test_a_warm_up_sends_the_most_engaged_first_and_the_rest_later(engine: Engine) -> None:
    """A volume of four on the first day and eight on the second; who reads us comes first."""
    add_readers(engine, 12, paying_every=99)
    with writing(engine) as session:
        for reader in (9, 10, 11, 12):
            session.execute(
                update(Subscriber)
                .where(col(Subscriber.id) == reader)
                .values(engaged_at=NOW - timedelta(days=2))
            )
    publication = a_publication(paces=[{"warm_up": {"start": "2026-11-20", "volumes": [4, 8]}}])
    clock, postman = Clock(), Postman()
    edition_id = frozen(engine, NEWSLETTER, publication, postman)
    mailing = Mailing(NEWSLETTER, publication, edition_id)

    drain(a_sender(engine, postman, clock), [mailing], now=NOW)
    first_day = set(postman.taken)
    clock.sleep(24 * 3600)
    drain(a_sender(engine, postman, clock), [mailing], now=NOW)

    assert first_day == {f"{reader:024x}" for reader in (9, 10, 11, 12)}
    assert balance_of(engine, edition_id) == (12, 0, 12, 0, 0, 0)


def test_a_second_sender_takes_what_the_warm_up_leaves(engine: Engine) -> None:
    """Configured so, the rest of the day goes out from the known sender."""
    add_readers(engine, 12, paying_every=99)
    old = {"name": "Old", "email": "old@news.theparallel.example"}
    publication = a_publication(paces=[{"warm_up": {"start": "2026-11-20", "volumes": [4]}, "overflow": old}])
    postman = Postman()
    edition_id = frozen(engine, NEWSLETTER, publication, postman)

    drain(a_sender(engine, postman, Clock()), [Mailing(NEWSLETTER, publication, edition_id)], now=NOW)

    by_sender = Counter[str]()
    for envelope in postman.envelopes:
        by_sender[envelope.sender.email] += len(envelope.recipients)
    assert by_sender == {"p@news.theparallel.example": 4, "old@news.theparallel.example": 8}
    assert max(postman.taken.values()) == 1


# --- turns --------------------------------------------------------------------------------------


def test_nine_editions_move_together(engine: Engine) -> None:
    """Batch by batch in turn: after nine requests every edition has moved."""
    add_readers(engine, 20, paying_every=99)
    postman = Postman(size=5)
    ids = []
    for number in range(9):
        with writing(engine) as session:
            session.execute(
                update(EditionRow)
                .where(col(EditionRow.edition_date) == date(2026, 11, 20))
                .values(edition_date=date(2026, 10, 1) + timedelta(days=number))
            )
        ids.append(frozen(engine, NEWSLETTER, PUBLICATION, postman))
    mailings = [Mailing(NEWSLETTER, PUBLICATION, edition_id) for edition_id in ids]

    drain(a_sender(engine, postman, Clock()), mailings, now=NOW)

    order = [int(envelope.batch.split(".")[0]) for envelope in postman.envelopes]
    with reading(engine) as session:
        edition_of = dict(session.execute(select(Batch.id, Batch.edition_id)).all())
    assert [len({edition_of[batch] for batch in order[i : i + 9]}) for i in range(0, 36, 9)] == [9] * 4
    assert all(balance_of(engine, edition_id) == (20, 0, 20, 0, 0, 0) for edition_id in ids)


def test_a_slow_edition_does_not_hold_up_the_others(engine: Engine) -> None:
    """One edition's requests hang: it holds one connection, the others finish on the rest."""
    add_readers(engine, 20, paying_every=99)
    released = threading.Event()
    waited: list[bool] = []

    def hang(envelope: Envelope) -> None:
        if envelope.edition.endswith("2026-10-02.1"):
            waited.append(released.wait(10))
        elif len(postman.envelopes) >= 4:  # the other edition is through but for this request
            released.set()

    postman = Postman(size=4, before=hang)
    ids = []
    for number in range(2):
        with writing(engine) as session:
            session.execute(
                update(EditionRow)
                .where(col(EditionRow.edition_date) == date(2026, 11, 20))
                .values(edition_date=date(2026, 10, 1) + timedelta(days=number))
            )
        ids.append(frozen(engine, NEWSLETTER, PUBLICATION, postman))
    mailings = [Mailing(NEWSLETTER, PUBLICATION, edition_id) for edition_id in ids]

    drain(a_sender(engine, postman, Clock(), in_flight=2), mailings, now=NOW)

    assert all(waited)
    assert all(balance_of(engine, edition_id) == (20, 0, 20, 0, 0, 0) for edition_id in ids)


# --- local mornings -----------------------------------------------------------------------------


def test_local_mornings_come_in_waves(engine: Engine) -> None:
    """06:30 where each reader is; an unknown zone counts as the newsletter's; one account for all."""
    add_readers(engine, 6, paying_every=99)
    zones = {
        1: "Asia/Tokyo",
        2: "Asia/Tokyo",
        3: "America/New_York",
        4: "Not/AZone",
        5: "",
        6: "Europe/Paris",
    }
    with writing(engine) as session:
        for reader, zone in zones.items():
            session.execute(update(Subscriber).where(col(Subscriber.id) == reader).values(timezone=zone))
    newsletter = a_newsletter(deliver="local 06:30")
    clock, postman = Clock(), Postman()
    edition_id = frozen(engine, newsletter, PUBLICATION, postman)
    mailing = Mailing(newsletter, PUBLICATION, edition_id)
    gone: dict[str, set[int]] = {}

    for moment in ("2026-11-20T05:20Z", "2026-11-20T05:30Z", "2026-11-20T11:30Z", "2026-11-20T21:30Z"):
        clock.at = datetime.fromisoformat(moment)
        before = set(postman.taken)
        drain(a_sender(engine, postman, clock), [mailing], now=NOW)
        gone[moment] = {int(reader, 16) for reader in set(postman.taken) - before}

    assert list(gone.values()) == [set(), {4, 5, 6}, {3}, {1, 2}]
    assert balance_of(engine, edition_id) == (6, 0, 6, 0, 0, 0)


@pytest.mark.parametrize(
    ("lateness", "expected"),
    [
        (3.0, {1: "2026-11-20T06:30Z", 2: "2026-11-20T03:30Z", 3: "2026-11-20T21:30Z", 4: "2026-11-20T11:30Z"}),
        (1.0, {1: "2026-11-20T06:30Z", 2: "2026-11-21T03:30Z", 3: "2026-11-20T21:30Z", 4: "2026-11-20T11:30Z"}),
        (24.0, {1: "2026-11-20T06:30Z", 2: "2026-11-20T03:30Z", 3: "2026-11-19T21:30Z", 4: "2026-11-20T11:30Z"}),
    ],
)  # fmt: skip
def test_a_morning_that_is_just_past_is_not_lost(
    engine: Engine, lateness: float, expected: dict[int, str]
) -> None:
    """Late by no more than the newsletter allows: at once, on that local day; later, or yesterday's: the next one."""
    add_readers(engine, 4, paying_every=99)
    zones = {1: "Europe/London", 2: "Europe/Moscow", 3: "Asia/Tokyo", 4: "America/New_York"}
    with writing(engine) as session:
        for reader, zone in zones.items():
            session.execute(update(Subscriber).where(col(Subscriber.id) == reader).values(timezone=zone))
    newsletter = a_newsletter(
        deliver="local 06:30", schedule={"days": ["mon"], "at": "06:30", "max_lateness_hours": lateness}
    )

    at = datetime(
        2026, 11, 20, 6, 0, tzinfo=UTC
    )  # 06:00 in London, 09:00 in Moscow, 15:00 in Tokyo, 01:00 in New York
    edition_id = frozen(engine, newsletter, PUBLICATION, Postman(size=1), at=at)

    released = {unpack(one.ids)[0]: one.release_at for one in batches(engine, edition_id)}
    assert released == {reader: datetime.fromisoformat(moment) for reader, moment in expected.items()}


def test_a_wave_that_is_late_goes_at_once(engine: Engine) -> None:
    """The home city's wave, made up an hour late, is sent now and not tomorrow."""
    add_readers(engine, 2, paying_every=99)
    newsletter = a_newsletter(deliver="local 06:30")
    clock, postman = Clock(datetime(2026, 11, 20, 6, 30, tzinfo=UTC)), Postman()
    edition_id = frozen(engine, newsletter, PUBLICATION, postman, at=clock.at)

    drain(a_sender(engine, postman, clock), [Mailing(newsletter, PUBLICATION, edition_id)], now=NOW)

    assert balance_of(engine, edition_id) == (2, 0, 2, 0, 0, 0)


def test_a_reader_may_choose_an_hour_of_their_own(engine: Engine) -> None:
    """Their own clock at their own hour; what is no hour counts as the newsletter's."""
    add_readers(engine, 3, paying_every=99)
    hours = {1: "08:00", 2: "nonsense", 3: ""}
    with writing(engine) as session:
        for reader, hour in hours.items():
            session.execute(
                update(Subscriber)
                .where(col(Subscriber.id) == reader)
                .values(deliver_at=hour, timezone="Europe/Paris")
            )
    newsletter = a_newsletter(deliver="local 06:30")

    edition_id = frozen(engine, newsletter, PUBLICATION, Postman())

    assert {(one.n, one.release_at) for one in batches(engine, edition_id)} == {
        (2, datetime(2026, 11, 20, 5, 30, tzinfo=UTC)),
        (1, datetime(2026, 11, 20, 7, 0, tzinfo=UTC)),
    }


def test_a_provider_that_schedules_gets_the_release_time(engine: Engine) -> None:
    """Half an hour ahead the wave is handed over with the moment at which readers may get it."""
    add_readers(engine, 2, paying_every=99)
    newsletter = a_newsletter(deliver="local 06:30")
    clock, postman = Clock(datetime(2026, 11, 20, 5, 5, tzinfo=UTC)), Scheduling()
    edition_id = frozen(engine, newsletter, PUBLICATION, postman)

    drain(a_sender(engine, postman, clock), [Mailing(newsletter, PUBLICATION, edition_id)], now=NOW)

    assert [one.release_at for one in postman.envelopes] == [datetime(2026, 11, 20, 5, 30, tzinfo=UTC)]


def test_a_provider_that_cannot_schedule_sends_at_once(engine: Engine) -> None:
    """What is to be handed over ahead does not wait for a handle that nobody gives."""
    add_readers(engine, 2, paying_every=99)
    newsletter, clock, postman = a_newsletter(mode="scheduled"), Clock(NOW), Postman()
    edition_id = frozen(engine, newsletter, PUBLICATION, postman)

    drain(a_sender(engine, postman, clock), [Mailing(newsletter, PUBLICATION, edition_id)], now=NOW)

    assert [len(one.recipients) for one in postman.envelopes] == [2]
    assert balance_of(engine, edition_id) == (2, 0, 2, 0, 0, 0)


@given(
    st.sampled_from(["Europe/London", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"]),
    st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1)),
)
def test_the_next_local_morning_is_within_a_day(zone: str, moment: datetime) -> None:
    """Never in the past, never more than a day (and a clock change) ahead."""
    at = moment.replace(tzinfo=UTC)

    ahead = next_local(time(6, 30), zone, at) - at

    assert timedelta(0) <= ahead <= timedelta(hours=25)
    late = at - next_local(time(6, 30), zone, at, grace=timedelta(hours=3))
    assert late <= timedelta(hours=3)
    if late > timedelta(0):
        assert local_date(at, zone) == local_date(at - late, zone)


def test_a_wave_that_was_refused_for_now_waits_its_turn(engine: Engine) -> None:
    """Released already but asked to wait: the drain sleeps until then instead of asking over and over."""
    add_readers(engine, 2, paying_every=99)
    newsletter = a_newsletter(deliver="local 06:30")
    clock = Clock(datetime(2026, 11, 20, 5, 29, tzinfo=UTC))
    naps: list[float] = []
    refusal = Refused("slow down", retry_at=datetime(2026, 11, 20, 5, 30, 20, tzinfo=UTC))
    postman = Postman(script=iter([refusal]))
    edition_id = frozen(engine, newsletter, PUBLICATION, postman, at=clock.at)

    def nap(seconds: float) -> None:
        naps.append(seconds)
        clock.sleep(seconds)

    sender = replace(a_sender(engine, postman, clock), sleep=nap)
    drain(sender, [Mailing(newsletter, PUBLICATION, edition_id)], now=NOW)

    assert balance_of(engine, edition_id) == (2, 0, 2, 0, 0, 0)
    assert len(naps) < 200


# --- scheduled sends ----------------------------------------------------------------------------


def test_an_uncertain_scheduled_batch_is_called_back_and_goes_again(engine: Engine) -> None:
    """Cancelled for certain: a new attempt under a new handle, nobody twice."""
    add_readers(engine, 5, paying_every=99)
    newsletter = a_newsletter(mode="scheduled")
    clock = Clock()
    postman = Scheduling(script=iter([Uncertain("lost")]))
    edition_id = frozen(engine, newsletter, PUBLICATION, postman)
    sender, mailing = a_sender(engine, postman, clock), Mailing(newsletter, PUBLICATION, edition_id)

    drain(sender, [mailing], now=NOW)
    doubtful = balance_of(engine, edition_id)
    called_back = call_back(sender)
    drain(sender, [mailing], now=NOW)

    assert doubtful == (5, 0, 0, 0, 0, 5)
    assert (called_back, postman.cancelled) == (1, ["r1"])
    first, second = [one.reservation for one in postman.envelopes]
    assert first == "r1" and second not in ("", "r1")
    assert all(one.release_at and one.release_at >= NOW + timedelta(minutes=20) for one in postman.envelopes)
    assert balance_of(engine, edition_id) == (5, 0, 5, 0, 0, 0)


@pytest.mark.parametrize(("minutes", "can_cancel"), [(20, True), (0, False)])
def test_what_cannot_be_called_back_stays_in_doubt(engine: Engine, minutes: int, can_cancel: bool) -> None:
    """Too near its release, or refused by the provider: uncertain, never guessed."""
    add_readers(engine, 5, paying_every=99)
    newsletter = a_newsletter(mode="scheduled")
    clock = Clock()
    postman = Scheduling(script=iter([Uncertain("lost")]), can_cancel=can_cancel)
    edition_id = frozen(engine, newsletter, PUBLICATION, postman)
    drain(a_sender(engine, postman, clock), [Mailing(newsletter, PUBLICATION, edition_id)], now=NOW)
    clock.sleep(minutes * 60)

    assert call_back(a_sender(engine, postman, clock)) == 0
    assert balance_of(engine, edition_id) == (5, 0, 0, 0, 0, 5)


def test_only_so_many_are_called_back_at_one_time(engine: Engine) -> None:
    """The provider's limit is kept; the rest waits until a release has passed."""
    add_readers(engine, 15, paying_every=99)
    newsletter = a_newsletter(mode="scheduled")
    clock, postman = Clock(), Scheduling(size=1, script=iter([Uncertain("lost")] * 15))
    edition_id = frozen(engine, newsletter, PUBLICATION, postman)
    drain(a_sender(engine, postman, clock), [Mailing(newsletter, PUBLICATION, edition_id)], now=NOW)

    assert (call_back(a_sender(engine, postman, clock)), call_back(a_sender(engine, postman, clock))) == (
        10,
        0,
    )


# --- silence ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("on_unknown", "heard", "minutes", "resent"),
    [("resend", True, 31, 1), ("resend", True, 29, 0), ("resend", False, 31, 0), ("hold", True, 31, 0)],
)
def test_silence_speaks_only_when_others_are_heard(
    engine: Engine, on_unknown: str, heard: bool, minutes: int, resent: int
) -> None:
    """Resent only if the newsletter says so, after the wait, and while the webhook is proven to work."""
    add_readers(engine, 4, paying_every=99)
    newsletter = a_newsletter(on_unknown=on_unknown)
    clock, postman = Clock(), Postman(size=2, script=iter([Uncertain("lost"), Accepted("ok")]))
    edition_id = frozen(engine, newsletter, PUBLICATION, postman)
    sender = a_sender(engine, postman, clock)
    drain(sender, [Mailing(newsletter, PUBLICATION, edition_id)], now=NOW)
    if heard:
        with writing(engine) as session:
            taken = next(one for one in batches(engine, edition_id) if one.state == BatchState.SUBMITTED)
            session.add(
                Event(event_id="e", kind="processed", batch=f"{taken.id}.1", occurred_at=NOW, received_at=NOW)
            )
    clock.sleep(minutes * 60)
    catalogue = the_catalogue().model_copy(update={"newsletters": (newsletter,)})

    assert hear_silence(sender, catalogue) == resent
    drain(sender, [Mailing(newsletter, PUBLICATION, edition_id)], now=NOW)
    assert balance_of(engine, edition_id)[5] == (0 if resent else 2)


# --- the brake and the correction ---------------------------------------------------------------


def test_spiking_in_the_middle_takes_the_rest_back(engine: Engine) -> None:
    """What has gone has gone; the rest is skipped with the editor's words, and the books balance."""
    add_readers(engine, 30, paying_every=99)

    def spike(_envelope: Envelope) -> None:
        with writing(engine) as session:
            if move_edition(session, edition_id, to=EditionStatus.SPIKED, frm=(EditionStatus.SUBMITTING,)):
                withdraw(session, edition_id, at=NOW, reason="spiked by mia")

    postman = Postman(before=spike)
    edition_id = frozen(engine, NEWSLETTER, PUBLICATION, postman)

    drain(a_sender(engine, postman, Clock()), [Mailing(NEWSLETTER, PUBLICATION, edition_id)], now=NOW)

    assert balance_of(engine, edition_id) == (30, 0, 10, 20, 0, 0)
    with reading(engine) as session:
        told = audit(session, session.get_one(EditionRow, edition_id))
    assert told.skipped == {"spiked by mia": 20}


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A desk of the sample site with its readers, maildir, and a Friday's `today` sent in part or whole."""
    from newsletter.audience.imports import import_subscribers

    monkeypatch.chdir(a_site(tmp_path / "site"))
    opened = Desk.open(load_settings(), clock=Clock())
    import_subscribers(
        opened.engine, Path("samples/subscribers.csv"), catalogue=opened.catalogue, keys=opened.keys, now=NOW,
        newsletters=(), consent="",
    )  # fmt: skip
    opened.collect(None, now=NOW)
    return opened


def test_a_correction_goes_to_those_who_have_the_wrong_one(desk: Desk) -> None:
    """After the edit a second revision is sent once to the same readers, and their old links show it."""
    from newsletter.audience.tokens import scope_of
    from newsletter.web.view import view_online

    today, day = desk.catalogue["today"], date(2026, 11, 20)
    (sent,) = desk.run(now=NOW, only=["today"], every=True)
    row = desk.find(today, day)
    assert row is not None
    snapshot, _ = desk.stored(row)
    assert snapshot is not None
    wrong = snapshot.items[0]

    with pytest.raises(StateError, match="Nothing of"):
        desk.correct(today, day, now=NOW, actor="mia")
    order = Order(verb="edit", url=wrong.url, fields={"headline": "A headline put right"}, actor="mia")
    desk.give_order(today, day, order)
    mended = desk.correct(today, day, now=NOW, actor="mia")

    assert (mended.revision, mended.status, mended.submitted) == (2, "submitted", sent.submitted)
    assert mended.hash != sent.hash
    mails = list(Path("outbox/2026-11-20/today").glob("*.eml"))
    assert len(mails) == 2 * sent.submitted == 2 * len([mail for mail in mails if mail.stem.endswith(".r2")])
    with reading(desk.engine) as session:
        reader = session.exec(select(Subscriber.reader).order_by(col(Subscriber.id))).first()
    page = view_online(desk, reader or "", scope_of("today", day), now=NOW)
    assert page is not None and "A headline put right" in page and wrong.headline not in page


def test_view_online_shows_the_reminder_that_was_sent(desk: Desk) -> None:
    """As long as it fits and the plan runs; who has renewed reads the plain variant, after the end the free one."""
    from newsletter.audience.tokens import scope_of
    from newsletter.web.view import view_online

    today, day = desk.catalogue["today"], date(2026, 11, 20)
    desk.run(now=NOW, only=["today"], every=True)
    with reading(desk.engine) as session:
        found = session.exec(select(Subscriber).where(Subscriber.email == "mariam.ali20@post.example")).one()

    def seen(now: datetime) -> str:
        page = view_online(desk, found.reader, scope_of(today.slug, day), now=now) or ""
        words = {
            "reminder": desk.catalogue.publication.reminders[0].headline,
            "free": "Try it for thirty days",
        }
        return " ".join(name for name, text in words.items() if text in page) or "plain"

    before, after = seen(NOW), seen(NOW + timedelta(days=5))
    with writing(desk.engine) as session:
        session.execute(update(Subscriber).values(plan="annual", plan_until=NOW + timedelta(days=99)))

    assert (before, after, seen(NOW + timedelta(days=5))) == ("reminder", "free", "plain")


def test_a_correction_in_the_middle_gives_the_rest_only_the_right_one(desk: Desk) -> None:
    """Paused half-way: who had the wrong one gets both, who waited gets the right one only."""

    class Counting(Postman):
        def submit(self, envelope: Envelope) -> Outcome:
            outcome = super().submit(envelope)
            if len(self.envelopes) == 3:
                desk.pause(today, day, actor="mia")
            return outcome

    today, day = desk.catalogue["today"], date(2026, 11, 20)
    postman = Counting(size=20)
    desk.__dict__["provider"] = postman
    desk.settings = desk.settings.model_copy(update={"in_flight": 1})
    (half,) = desk.run(now=NOW, only=["today"], every=True)
    had = set(postman.taken)
    row = desk.find(today, day)
    snapshot = desk.stored(row)[0] if row else None
    assert half.status == "paused" and snapshot is not None
    desk.give_order(today, day, Order(verb="drop", url=snapshot.items[-1].url, actor="mia"))

    mended = desk.correct(today, day, now=NOW, actor="mia")

    assert mended.status == "submitted" and mended.submitted == half.audience
    assert {reader for reader, times in postman.taken.items() if times == 2} == had
    assert len(postman.taken) == half.audience
    with reading(desk.engine) as session:
        first = session.exec(select(EditionRow).where(EditionRow.revision == 1)).one()
        told = audit(session, first)
    assert first.status == "submitted" and told.balanced
    assert told.skipped == {"goes with revision 2": half.audience - len(had)}


def test_a_correction_that_was_spiked_can_be_made_again(desk: Desk) -> None:
    """Stopped after its first batch: the next revision goes to whoever did not get it, and to nobody twice."""

    class Spiking(Postman):
        def submit(self, envelope: Envelope) -> Outcome:
            outcome = super().submit(envelope)
            if envelope.edition.endswith(".2"):
                desk.spike(today, day, actor="mia")
            return outcome

    today, day = desk.catalogue["today"], date(2026, 11, 20)
    postman = Spiking(size=50)
    desk.__dict__["provider"] = postman
    desk.settings = desk.settings.model_copy(update={"in_flight": 1})
    (sent,) = desk.run(now=NOW, only=["today"], every=True)
    row = desk.find(today, day)
    snapshot = desk.stored(row)[0] if row else None
    assert snapshot is not None
    desk.give_order(today, day, Order(verb="drop", url=snapshot.items[-1].url, actor="mia"))

    spiked = desk.correct(today, day, now=NOW, actor="mia")
    again = desk.correct(today, day, now=NOW, actor="mia")

    assert (spiked.status, spiked.submitted, spiked.skipped) == ("spiked", 50, sent.audience - 50)
    assert (again.revision, again.status, again.submitted) == (3, "submitted", sent.audience - 50)
    assert set(postman.taken.values()) == {2} and len(postman.taken) == sent.audience
