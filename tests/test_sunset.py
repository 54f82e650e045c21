"""Sunset: who shows no sign of life is asked, paused, stopped; never on our own silence, and one press takes it back."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, delete, insert, update
from sqlmodel import col, select

from newsletter.audience.quiet import steps_due
from newsletter.audience.subscribers import forget, show
from newsletter.audience.sunset import Step, newest_step, stay
from newsletter.catalogue import Catalogue, Sunset, load_catalogue
from newsletter.errors import CatalogueError
from newsletter.notices import Kind
from newsletter.outbox.accounts import why
from newsletter.outbox.freeze import freeze
from newsletter.outbox.ids import unpack
from newsletter.settings import Keys
from newsletter.store.session import reading, writing
from newsletter.store.tables import (
    Batch,
    EditionRow,
    Event,
    Subscriber,
    Subscription,
    SunsetStep,
    Suppression,
)
from newsletter.watch.sunset import take_care
from tests.builders import ROOT
from tests.test_outbox import NEWSLETTER, NOW, PUBLICATION, an_edition

DAY = timedelta(days=1)
LONG_AGO = NOW - 200 * DAY
RULE = Sunset(editions=5, days=90, answer_days=14, pause_days=30, alone_days=180)
OTHER = NEWSLETTER.model_copy(update={"slug": "weekly", "name": "Weekly"})
_serial = count(1)


def a_catalogue(rule: Sunset | None = RULE, **weekly: Any) -> Catalogue:
    """Two newsletters under *rule*."""
    return Catalogue(
        publication=PUBLICATION.model_copy(update={"sunset": rule}),
        newsletters=(NEWSLETTER, OTHER.model_copy(update=weekly)), root=Path(),
    )  # fmt: skip


class Post:
    """Takes the mails that ask, or refuses them."""

    def __init__(self) -> None:
        self.asked: Counter[int] = Counter()
        self.takes = True
        self.notices = self

    def send(self, kind: Kind, subscriber_id: int, *, values: dict[str, Any]) -> bool:
        """Remember whom."""
        assert kind is Kind.STILL and values["link"].startswith("/stay/") and values["newsletters"]
        self.asked[subscriber_id] += self.takes
        return self.takes


@dataclass
class Office:
    """As much of a desk as the sunset needs."""

    engine: Engine
    catalogue: Catalogue
    keys: Keys
    at: datetime
    editors: Post

    class stop:  # stands for an event
        """Nobody says stop."""

        is_set = staticmethod(lambda: False)

    def clock(self) -> datetime:
        """The time it is."""
        return self.at


def readers(engine: Engine, number: int, *, engaged_at: datetime | None = LONG_AGO, first: int = 1) -> None:
    """Free readers of ``daily``, who joined a year ago."""
    ids = range(first, first + number)
    joined = NOW - 365 * DAY
    with writing(engine) as session:
        session.connection().execute(
            insert(Subscriber),
            [
                {
                    "id": n, "reader": f"{n:024x}", "email": f"r{n}@example.com", "email_key": f"r{n}@example.com",
                    "address_hash": f"h{n}", "joined_at": joined, "updated_at": joined, "engaged_at": engaged_at,
                }
                for n in ids
            ],
        )  # fmt: skip
        session.connection().execute(
            insert(Subscription), [{"subscriber_id": n, "newsletter": "daily", "since": joined} for n in ids]
        )


def delivered(
    engine: Engine,
    ids: Iterable[int],
    editions: int = 6,
    *,
    kind: str = "delivered",
    machine: bool = False,
    at: datetime = NOW,
) -> None:
    """Events of the last editions, the newest an hour before *at*."""
    rows = [
        {
            "event_id": f"e{next(_serial)}", "address_hash": f"h{n}", "kind": kind, "edition": f"daily.{at - day * DAY:%Y-%m-%d}.1",
            "reader": f"{n:024x}", "occurred_at": at - day * DAY - timedelta(hours=1),
            "received_at": at - timedelta(hours=1), "is_machine": machine,
        }
        for n in ids
        for day in range(editions)
    ]  # fmt: skip
    with writing(engine) as session:
        session.connection().execute(insert(Event), rows)


def an_office(engine: Engine, keys: Keys, *, rule: Sunset | None = RULE, **weekly: Any) -> Office:
    """A desk at NOW."""
    return Office(engine, a_catalogue(rule, **weekly), keys, NOW, Post())


def care(office: Office, *, at: datetime | None = None) -> dict[str, int]:
    """One day's look; what was taken, without what was not."""
    office.at = at or office.at
    return {step: number for step, number in take_care(office).items() if number}  # type: ignore[arg-type]


def step_of(engine: Engine, subscriber_id: int = 1) -> str:
    """The newest step of a reader."""
    with reading(engine) as session:
        row = newest_step(session, subscriber_id)
        return row.step if row else ""


def quiet_and_lively(engine: Engine) -> None:
    """Reader 1 is quiet, 2 to 4 are not; all got six editions."""
    readers(engine, 1)
    readers(engine, 3, engaged_at=NOW - DAY, first=2)
    delivered(engine, range(1, 5))


def test_who_is_quiet_is_asked_then_paused_then_stopped(engine: Engine, keys: Keys) -> None:
    """Each step in its time and once, with its reason; the others are left alone."""
    quiet_and_lively(engine)
    office = an_office(engine, keys)

    taken = []
    for days in (0, 1, 13, 15, 30, 46, 60):
        delivered(engine, [2], 1, at=NOW + days * DAY)
        with writing(engine) as session:
            session.execute(
                update(Subscriber).where(col(Subscriber.id) > 1).values(engaged_at=NOW + days * DAY)
            )
        taken.append((days, care(office, at=NOW + days * DAY)))

    assert taken == [
        (0, {"asking": 1}), (1, {}), (13, {}), (15, {"paused": 1}), (30, {}), (46, {"stopped": 1}), (60, {}),
    ]  # fmt: skip
    assert office.editors.asked == Counter({1: 1})
    with reading(engine) as session:
        told = show(session, "r1@example.com")
        rest = session.exec(select(SunsetStep).where(SunsetStep.subscriber_id != 1)).all()
    assert rest == []
    assert [one["step"] for one in told["sunset"]] == ["asked", "paused", "stopped"]
    assert told["sunset"][0]["reason"] == "no sign of life since 2026-05-04 in 6 editions"
    assert told["sunset"][1]["reason"].endswith("; no answer since 2026-11-20")
    assert told["subscriptions"][0]["state"] == "left"
    assert told["subscriptions"][0]["left_reason"].startswith(
        "stopped: no sign of life; no sign of life since"
    )
    assert told["suppression"] == []


@pytest.mark.parametrize(
    "spared",
    [
        "paying",
        "programs only",
        "too few editions",
        "too short",
        "another newsletter",
        "pause of their own",
        "joined lately",
        "suppressed",
    ],
)
def test_who_is_not_asked(engine: Engine, keys: Keys, spared: str) -> None:
    """Nobody is asked whom the rule exempts, of whom nothing is known, or who says something themselves."""
    quiet_and_lively(engine)
    weekly = {}
    with writing(engine) as session:
        row = session.get_one(Subscriber, 1)
        match spared:
            case "paying":
                row.plan = "annual"
            case "too few editions":
                for event in session.exec(select(Event).where(Event.reader == row.reader).limit(2)):
                    session.delete(event)
            case "too short":
                row.engaged_at = NOW - 80 * DAY
            case "another newsletter":
                session.add(Subscription(subscriber_id=1, newsletter="weekly", since=LONG_AGO))
                weekly = {"sunset": False}
            case "pause of their own":
                row.paused_until = NOW + DAY
            case "joined lately":
                session.add(Subscription(subscriber_id=1, newsletter="weekly", since=NOW - DAY))
            case "suppressed":
                session.add(Suppression(address_hash="h1", scope="all", reason="bounced", suppressed_at=NOW))
    if spared == "programs only":
        delivered(engine, [1], kind="opened", machine=True)

    taken = care(an_office(engine, keys, **weekly))

    assert taken == {} and step_of(engine) == ""


@pytest.mark.parametrize(
    "rule", [RULE.model_copy(update={"paying": True}), RULE.model_copy(update={"machine_opens": "quiet"})]
)
def test_a_rule_may_ask_them_too(engine: Engine, keys: Keys, rule: Sunset) -> None:
    """Paying readers, or those of whom only programs open anything, where a publication says so."""
    quiet_and_lively(engine)
    with writing(engine) as session:
        session.get_one(Subscriber, 1).plan = "annual" if rule.paying else "free"
    if not rule.paying:
        delivered(engine, [1], kind="opened", machine=True)

    assert care(an_office(engine, keys, rule=rule)) == {"asking": 1}


@pytest.mark.parametrize("silence", ["no events", "silent for weeks", "opens are not heard of", "no rule"])
def test_on_silence_of_ours_nothing_is_done(engine: Engine, keys: Keys, silence: str) -> None:
    """Where nothing is heard nobody is asked, and who was asked is not paused."""
    quiet_and_lively(engine)
    office = an_office(engine, keys)
    care(office)
    with writing(engine) as session:
        if silence == "no events":
            session.execute(delete(Event))
        if silence == "opens are not heard of":
            session.execute(update(Subscriber).values(engaged_at=LONG_AGO))
    if silence in ("opens are not heard of", "no rule"):
        delivered(engine, [4], 1, at=NOW + 20 * DAY)
    if silence == "no rule":
        office.catalogue = a_catalogue(None)

    taken = care(office, at=NOW + 20 * DAY)

    assert taken == {} and step_of(engine) == "asked"


def test_a_sign_of_life_ends_it(engine: Engine, keys: Keys) -> None:
    """Who opens something after being asked or paused is back, left alone, and not paused any more."""
    quiet_and_lively(engine)
    office = an_office(engine, keys)
    care(office)
    delivered(engine, [2], 1, at=NOW + 15 * DAY)
    care(office, at=NOW + 15 * DAY)
    paused = step_of(engine)
    with writing(engine) as session:
        session.get_one(Subscriber, 1).engaged_at = NOW + 14 * DAY

    taken = care(office, at=NOW + 16 * DAY)

    assert (paused, taken, step_of(engine)) == ("paused", {"stayed": 1}, "stayed")
    with reading(engine) as session:
        row = session.get_one(Subscriber, 1)
        step = newest_step(session, 1)
    assert row.paused_until is None
    assert step is not None and step.until == NOW + 16 * DAY + 180 * DAY


@pytest.mark.parametrize("days", [1, 15, 46])
def test_one_press_takes_everything_back(engine: Engine, keys: Keys, days: int) -> None:
    """Asked, paused or stopped: who stays gets what they got, with the consent they gave, and is left alone."""
    quiet_and_lively(engine)
    office = an_office(engine, keys)
    for day in (0, 15, 46):
        if day <= days:
            delivered(engine, [2], 1, at=NOW + day * DAY)
            with writing(engine) as session:
                session.execute(
                    update(Subscriber).where(col(Subscriber.id) > 1).values(engaged_at=NOW + day * DAY)
                )
            care(office, at=NOW + day * DAY)
    later = NOW + days * DAY + timedelta(hours=1)

    with writing(engine) as session:
        stay(session, 1, RULE, now=later)
        stay(session, 1, RULE, now=later)

    with reading(engine) as session:
        told = show(session, "r1@example.com")
    assert told["subscriptions"][0]["state"] == "active" and told["paused_until"] is None
    assert [one["step"] for one in told["sunset"]].count("stayed") == 1
    with writing(engine) as session:
        session.get_one(Subscriber, 1).engaged_at = LONG_AGO
    delivered(engine, [2], 1, at=later + 100 * DAY)
    with writing(engine) as session:
        session.execute(update(Subscriber).where(col(Subscriber.id) > 1).values(engaged_at=later + 99 * DAY))
    assert care(office, at=later + 100 * DAY) == {}


def test_what_a_reader_left_stays_left(engine: Engine, keys: Keys) -> None:
    """Staying brings back what the rule stopped, and nothing that the reader ended themselves."""
    quiet_and_lively(engine)
    with writing(engine) as session:
        session.add(
            Subscription(
                subscriber_id=1,
                newsletter="weekly",
                since=LONG_AGO,
                state="left",
                left_at=LONG_AGO,
                left_reason="one-click",
            )
        )
    office = an_office(engine, keys)
    for day in (0, 15, 46):
        delivered(engine, [2], 1, at=NOW + day * DAY)
        with writing(engine) as session:
            session.execute(
                update(Subscriber).where(col(Subscriber.id) > 1).values(engaged_at=NOW + day * DAY)
            )
        care(office, at=NOW + day * DAY)

    with writing(engine) as session:
        back = stay(session, 1, RULE, now=NOW + 50 * DAY)

    with reading(engine) as session:
        states = {one["newsletter"]: one["state"] for one in show(session, "r1@example.com")["subscriptions"]}
    assert back and states == {"daily": "active", "weekly": "left"}


def test_a_mail_that_did_not_go_is_sent_the_next_day(engine: Engine, keys: Keys) -> None:
    """Refused, or its process died before it left: the time to answer begins when it has gone."""
    quiet_and_lively(engine)
    office = an_office(engine, keys)
    office.editors.takes = False
    refused = care(office)
    office.editors.takes = True
    delivered(engine, [2], 1, at=NOW + DAY)

    sent = care(office, at=NOW + DAY)

    assert (refused, sent, office.editors.asked) == ({}, {"asking": 1}, Counter({1: 1}))
    with reading(engine) as session:
        step = newest_step(session, 1)
    assert step is not None and (step.step, step.at) == (Step.ASKED, NOW + DAY)


def test_a_day_asks_no_more_than_it_may(engine: Engine, keys: Keys) -> None:
    """Twelve are quiet and five may be asked a day: three days, each once."""
    readers(engine, 12)
    readers(engine, 3, engaged_at=NOW + 3 * DAY, first=20)
    delivered(engine, range(1, 13))
    office = an_office(engine, keys, rule=RULE.model_copy(update={"most_a_day": 5}))

    taken = []
    for day in range(3):
        delivered(engine, [20], 1, at=NOW + day * DAY)
        taken.append(care(office, at=NOW + day * DAY)["asking"])

    assert taken == [5, 5, 2]
    assert office.editors.asked == Counter(range(1, 13))


def test_why_and_the_freeze_know(engine: Engine, keys: Keys) -> None:
    """Who is paused is not in an audience, and why says by which rule and since when."""
    quiet_and_lively(engine)
    office = an_office(engine, keys)
    care(office)
    at = NOW + 15 * DAY
    delivered(engine, [2], 1, at=at)
    care(office, at=at)

    edition_id = an_edition(engine)
    freeze(engine, NEWSLETTER, PUBLICATION, edition_id, now=at, at=at, batch_size=10)

    with reading(engine) as session:
        frozen = {n for batch in session.exec(select(Batch)) for n in unpack(batch.ids)}
        told = why(session, session.get_one(EditionRow, edition_id), "daily", session.get_one(Subscriber, 1))
    assert frozen == {2, 3, 4}
    assert told.verdict == "not in audience"
    assert re.fullmatch(
        r"Paused by the sunset rule on 2026-12-05 until 2027-01-04 at 04:00 UTC: no sign of life since 2026-05-04 in 6 editions; .*",
        told.reason,
    )


def test_who_is_erased_leaves_no_step(engine: Engine, keys: Keys) -> None:
    """Erasure takes what was done about them, too."""
    quiet_and_lively(engine)
    care(an_office(engine, keys))

    forget(engine, "r1@example.com", keys=keys, now=NOW)

    with reading(engine) as session:
        assert session.exec(select(SunsetStep)).all() == []


def test_what_is_due_changes_nothing(engine: Engine) -> None:
    """A rehearsal counts, and says who is not known well enough."""
    quiet_and_lively(engine)
    readers(engine, 2, first=10)
    delivered(engine, [10], 2)
    delivered(engine, [11])
    delivered(engine, [11], 1, kind="opened", machine=True)

    with reading(engine) as session:
        due = steps_due(session, a_catalogue(), now=NOW)

    assert due.count() == {"asking": 1, "paused": 0, "stopped": 0, "stayed": 0}
    assert (due.unknown, due.unproven, due.why_not) == (1, 1, "")
    assert step_of(engine) == ""


def test_a_rule_that_cannot_be_is_refused(tmp_path: Path) -> None:
    """By file and field."""
    shutil.copytree(ROOT / "templates", tmp_path / "templates")
    path = tmp_path / "templates/publication.toml"
    path.write_text(f"{path.read_text(encoding='utf-8')}\n[sunset]\ndays = 1\n", encoding="utf-8")

    with pytest.raises(CatalogueError, match=r"publication.toml: sunset.days"):
        load_catalogue(tmp_path / "templates")
