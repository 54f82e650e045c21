"""Accounts through the command line: which edition is meant, both revisions' books, why something waits."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import col, select

from newsletter.cli import show_accounts
from newsletter.desk import Desk
from newsletter.edition import EditionStatus
from newsletter.outbox.batches import record_exception
from newsletter.outbox.correct import take_over
from newsletter.outbox.freeze import freeze
from newsletter.outbox.ledger import BatchState, move_edition, withdraw
from newsletter.settings import load_settings
from newsletter.store.holds import hold_newsletter
from newsletter.store.session import writing
from newsletter.store.tables import Batch, EditionRow, Event, Rendering, Slot, Subscriber, Subscription
from tests.test_day import run
from tests.test_day import site as site

DAY = date(2026, 11, 20)
NOW = datetime(2026, 11, 20, 4, 0, tzinfo=UTC)
MIDNIGHT = "2026-11-20T23:10:00Z"  # ten past in Paris
PAST_MIDNIGHT = ("--now", MIDNIGHT)


@pytest.fixture
def desk(site: Path) -> Iterator[Desk]:
    """An installation with ten free readers of `today`."""
    opened = Desk.open(load_settings())
    with writing(opened.engine) as session:
        for index in range(1, 11):
            email = f"r{index}@example.com"
            session.add(
                Subscriber(id=index, reader=f"{index:024x}", email=email, email_key=email, address_hash=f"h{index}",
                           joined_at=NOW, updated_at=NOW)
            )  # fmt: skip
        session.flush()
        for index in range(1, 11):
            session.add(Subscription(subscriber_id=index, newsletter="today", since=NOW - timedelta(days=9)))
    yield opened
    opened.engine.dispose()


def an_edition(
    desk: Desk, day: date = DAY, *, status: str = "submitting", states: tuple[str, ...] = ()
) -> int:
    """A frozen edition of `today` in batches of five, in these *states*; or one that is not frozen, by *status*."""
    frozen = status in ("submitting", "paused", "submitted")
    with writing(desk.engine) as session:
        row = EditionRow(
            newsletter="today",
            edition_date=day,
            status="approved" if frozen else status,
            made_at=NOW,
            findings=[],
        )
        session.add(row)
        session.flush()
        edition_id = row.id or 0
        for variant in ("free", "paying"):
            session.add(
                Rendering(
                    edition_id=edition_id, variant=variant, html=zlib.compress(b"x"), text=zlib.compress(b"x")
                )
            )
    if frozen:
        today = desk.catalogue["today"]
        freeze(desk.engine, today, desk.catalogue.publication, edition_id, now=NOW, at=NOW, batch_size=5)
        with writing(desk.engine) as session:
            batches = session.exec(
                select(Batch).where(Batch.edition_id == edition_id).order_by(col(Batch.seq))
            ).all()
            for batch, state in zip(batches, states, strict=bool(states)) if states else ():
                batch.state, batch.attempt = state, 1
            session.get_one(EditionRow, edition_id).status = status
    return edition_id


def a_correction(desk: Desk, *, changed: tuple[str, ...] = ("free",)) -> int:
    """A second revision of the newest edition, frozen."""
    with writing(desk.engine) as session:
        row = EditionRow(
            newsletter="today", edition_date=DAY, revision=2, status="approved", made_at=NOW, findings=[]
        )
        session.add(row)
        session.flush()
        take_over(session, row, changed=changed, now=NOW, at=NOW, size=5)
        return row.id or 0


def status_of(desk: Desk, edition_id: int) -> str:
    """An edition's status."""
    with writing(desk.engine) as session:
        return session.get_one(EditionRow, edition_id).status


# --- ten past midnight --------------------------------------------------------------------------


def test_the_brake_means_what_is_being_sent(desk: Desk) -> None:
    """Ten past midnight, without a date: the edition that is on its way, not the new day's, which does not exist."""
    edition_id = an_edition(desk)
    said = []
    for order in ("pause", "resume", "pause", "spike"):
        run(order, "today", *PAST_MIDNIGHT)
        said.append(status_of(desk, edition_id))

    assert said == ["paused", "submitting", "paused", "spiked"]
    assert "no edition of today on 2026-11-21" in run("spike", "today", *PAST_MIDNIGHT, code=1)


def test_the_brake_passes_over_the_new_days_draft(desk: Desk) -> None:
    """A draft of the new day cannot be paused: what is being sent is meant. Spiking and holding mean the new day's."""
    old, new = an_edition(desk), an_edition(desk, date(2026, 11, 21), status="draft")

    run("pause", "today", *PAST_MIDNIGHT)
    paused = status_of(desk, old)
    run("resume", "today", *PAST_MIDNIGHT)
    run("hold", "today", *PAST_MIDNIGHT)
    run("spike", "today", *PAST_MIDNIGHT)

    assert (paused, status_of(desk, old), status_of(desk, new)) == ("paused", "submitting", "spiked")


def test_hold_status_settle_and_send_mean_it_too(desk: Desk) -> None:
    """What cannot be held is said with what to do; status shows it; the doubtful batch is settled; send goes on with it."""
    an_edition(desk, states=("uncertain", "pending"))

    held = run("hold", "today", *PAST_MIDNIGHT, code=1)
    (shown,) = run("status", "today", *PAST_MIDNIGHT, "--json")["editions"]
    run("settle", "today", "--batch", "1", "--as", "submitted", *PAST_MIDNIGHT)
    run("send", "today", *PAST_MIDNIGHT)

    assert "is submitting; it cannot be held from there." in held and "newsletter pause" in held
    assert (shown["date"], shown["uncertain"]) == ("2026-11-20", 5)
    assert run("audit", "today", "--json")["submitted"] == 10


def test_status_shows_what_is_left_of_older_days(desk: Desk) -> None:
    """Without a date: the newest edition, and every older one that is not done."""
    an_edition(desk, date(2026, 11, 18), states=("uncertain", "submitted"))
    an_edition(desk, date(2026, 11, 19), states=("submitted", "submitted"), status="submitted")
    an_edition(desk, status="draft")

    rows = run("status", "today", "--json")["editions"]

    assert [(row["date"], row["status"], row["uncertain"]) for row in rows] == [
        ("2026-11-20", "draft", 0), ("2026-11-18", "submitting", 5),
    ]  # fmt: skip


def test_a_paused_edition_that_has_landed_ends_when_it_is_resumed(desk: Desk) -> None:
    """All of it was settled while it stood still: nothing is left that could end it later."""
    edition_id = an_edition(desk, states=("submitted", "submitted"), status="paused")

    run("resume", "today", *PAST_MIDNIGHT)

    assert status_of(desk, edition_id) == "submitted"


# --- revisions ----------------------------------------------------------------------------------


def test_both_revisions_are_told_and_settled(desk: Desk) -> None:
    """Who had only the first is told so; audit has both books; a doubtful batch of the first can be settled."""
    first = an_edition(desk, states=("uncertain", "submitted"))
    with writing(desk.engine) as session:
        batch = session.exec(select(Batch).where(Batch.edition_id == first, Batch.seq == 2)).one()
        record_exception(session, batch, 7, "failed", "address not valid", at=NOW)
        session.add(Event(event_id="e", kind="delivered", edition="today.2026-11-20.1", reader=f"{8:024x}",
                          occurred_at=NOW, received_at=NOW))  # fmt: skip
    a_correction(desk)

    told = {reader: run("why", "today", f"r{reader}@example.com", "--json") for reader in (1, 7, 8)}
    run("settle", "today", "--batch", "1", "--as", "resend")
    books = run("audit", "today", "--json")

    assert {reader: (one["verdict"], one["revision"]) for reader, one in told.items()} == {
        1: ("pending", 2), 7: ("failed", 1), 8: ("pending", 2),
    }  # fmt: skip
    assert "revision 1 was submitted" in told[8]["reason"] and told[8]["events"][0]["kind"] == "delivered"
    assert "revision 1 was uncertain" in told[1]["reason"]
    assert (books["revision"], books["audience"], books["pending"], books["balanced"]) == (2, 9, 9, True)
    one, two = books["revisions"][1], books["revisions"][0]
    assert (one["revision"], one["submitted"], one["failed"]) == (1, 4, {"address not valid": 1})
    assert one["skipped"] == {"goes with revision 2": 5} and two["revision"] == 2
    text = run("audit", "today")
    assert "skipped 5 of revision 1: goes with revision 2" in text and "Balanced" in text


def test_a_reader_who_is_in_no_later_revision_is_missed(desk: Desk) -> None:
    """Taken back for a correction that never came: the books do not balance, and say so."""
    edition_id = an_edition(desk, states=("submitted", "pending"))
    with writing(desk.engine) as session:
        withdraw(session, edition_id, at=NOW, reason="attempt 1 was called back to be corrected")
        move_edition(session, edition_id, to=EditionStatus.SUBMITTED, frm=(EditionStatus.SUBMITTING,))

    assert "5 readers were taken back for a correction and are in no later revision" in run(
        "audit", "today", code=1
    )


def test_which_batch_is_meant_must_be_clear(desk: Desk) -> None:
    """The same number is in doubt in two editions: asked back, with their dates."""
    an_edition(desk, date(2026, 11, 19), states=("uncertain", "submitted"))
    an_edition(desk, states=("uncertain", "submitted"))

    asked = run("settle", "today", "--batch", "1", "--as", "abandoned", code=1)
    run("settle", "today", "--batch", "1", "--as", "abandoned", "--date", "2026-11-19")

    assert "2026-11-20 revision 1, 2026-11-19 revision 1: say which" in asked
    assert run("audit", "today", "--json", "--date", "2026-11-19")["balanced"] is True
    assert "no edition of today on 2026-11-18" in run(
        "settle", "today", "--batch", "1", "--as", "abandoned", "--date", "2026-11-18", code=1
    )


def test_all_that_is_in_doubt_is_settled_by_one_word(desk: Desk) -> None:
    """As after a restore: hundreds of batches and one decision; one word says which, never none and never both."""
    an_edition(desk, states=("uncertain", "uncertain"))

    run("settle", "today", "--as", "resend", code=2)
    run("settle", "today", "--as", "resend", "--all", "--batch", "1", code=2)
    run("settle", "today", "--as", "resend", "--all")

    told = run("status", "today", "--json")["editions"][0]
    assert (told["uncertain"], told["pending"], told["submitted"]) == (0, 10, 0)


def test_of_very_many_batches_those_to_look_at_are_shown(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are a sum."""
    monkeypatch.setattr(show_accounts, "_MOST_ROWS", 1)
    an_edition(desk, states=("submitted", "uncertain"))

    told = run("status", "today").split("batch  variant")[1]

    assert "uncertain" in told and told.splitlines()[-1] == "1 more batches of free are submitted."


def test_a_hold_is_said_where_one_looks(desk: Desk) -> None:
    """Who missed the alarm's mail finds in the status that a newsletter is held, why, and how it goes again."""
    with writing(desk.engine) as session:
        hold_newsletter(session, "today", reason="0.4 % complained.", at=NOW)

    told, document = " ".join(run("status").split()), run("status", "--json")

    assert "today is held since 2026-11-20 04:00 UTC: 0.4 % complained. newsletter release today" in told
    assert [one["newsletter"] for one in document["held"]] == ["today"]


# --- dates without an edition -------------------------------------------------------------------


def test_a_past_date_without_an_edition_is_said(desk: Desk) -> None:
    """Not zeros as if all were well: no such edition, and why if that is known; what is still to be made is zeros."""
    with writing(desk.engine) as session:
        session.add(
            Slot(newsletter="today", local_date=date(2026, 11, 18), due_at=NOW, state="missed", reason="the power was out",
                 recorded_at=NOW)
        )  # fmt: skip
    now = ("--now", NOW.isoformat())

    for command in (("audit", "today"), ("why", "today", "r1@example.com")):
        missed = run(*command, "--date", "2026-11-18", *now, code=1)
        assert "There is no edition of today on 2026-11-18: it was missed (the power was out)." in missed
        assert "no edition of today on 2026-11-17." in run(*command, "--date", "2026-11-17", *now, code=1)
    empty: dict[str, Any] = run("audit", "today", "--json", *now)
    an_edition(desk, status="draft")
    made: dict[str, Any] = run("audit", "today", "--json", *now)

    for told in (empty, made):
        assert (told["date"], told["audience"], told["pending"], told["balanced"]) == (
            "2026-11-20",
            0,
            0,
            True,
        )
    assert run("why", "today", "r1@example.com", "--json", *now)["verdict"] == "not in audience"


# --- why it waits -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "why"),
    [
        ("pace = { per_hour = 3 }", "the pace of Parallel Today allows no more this hour"),
        ('window = { from = "03:00", until = "03:01" }', "its delivery window is closed"),
        ('deliver = "local 06:30"', "that is when its next wave is released"),
    ],
)
def test_status_says_why_an_edition_waits(desk: Desk, site: Path, setting: str, why: str) -> None:
    """The reason names until when and for what: a ceiling, the delivery window, the next wave."""
    path = site / "templates/today/newsletter.toml"
    path.write_text(f"{setting}\n{path.read_text(encoding='utf-8')}", encoding="utf-8")
    desk.reload()
    clock = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)
    desk.clock = lambda: clock
    edition_id = an_edition(desk, states=())
    with writing(desk.engine) as session:
        for batch in session.exec(select(Batch).where(Batch.edition_id == edition_id)):
            batch.release_at = datetime(2026, 11, 21, 5, 30, tzinfo=UTC) if "local" in setting else None
    told: list[tuple[str, str]] = []

    account = desk.send(
        desk.catalogue["today"], DAY, now=NOW, tell=lambda step, what, _done, _all: told.append((step, what))
    )

    assert (
        why in account.reason
        and "readers are still to be sent to; they wait until 2026-11-2" in account.reason
    )
    assert any(
        step == "waits" and what.startswith("today: until 2026-11-2") and why in what for step, what in told
    )


def test_what_can_go_is_told_with_the_command(desk: Desk) -> None:
    """Nothing keeps it back but that nobody sends."""
    an_edition(desk)

    (row,) = run("status", "today", "--json")["editions"]

    assert row["reason"].endswith("go on with newsletter send today --date 2026-11-20")
    with writing(desk.engine) as session:
        assert {one.state for one in session.exec(select(Batch))} == {BatchState.PENDING}


def test_the_plain_view_says_why_once(capsys: pytest.CaptureFixture[str]) -> None:
    """A line when an edition begins to wait, not one for every look."""
    from newsletter.cli import progress

    with progress.telling() as tell:
        for _ in range(3):
            tell("waits", "today: until 2026-11-20T05:00:00Z: its delivery window is closed", 0, 10)

    said = " ".join(capsys.readouterr().err.split())
    assert said == "send today: waits until 2026-11-20T05:00:00Z: its delivery window is closed"
