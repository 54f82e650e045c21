"""Leaving: at once for people and programs, undone by one press, and by nobody's accident."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import html
from sqlalchemy import Engine, event, select
from sqlmodel import SQLModel, col
from sqlmodel import select as rows_of

from newsletter.audience.leaving import UNDO_FOR, find_reader, leave, leave_within
from newsletter.audience.subscribers import add
from newsletter.audience.tokens import Signer
from newsletter.audience.undoing import undo, undoably
from newsletter.settings import Keys
from newsletter.store.session import reading, writing
from newsletter.store.tables import EditionRow, OneTimeLink, Subscriber, Subscription, Suppression
from tests.builders import the_catalogue
from tests.visiting import House, Moment

NOW = datetime(2026, 11, 20, 9, 0, 0, 123456, tzinfo=UTC)
ANN = "ann@mail.example"


@pytest.fixture
def house(engine: Engine, keys: Keys, tmp_path: Path) -> House:
    """The pages, with one reader of three newsletters."""
    add(
        engine, ANN, catalogue=the_catalogue(), keys=keys, now=NOW, newsletters=("economy", "planet", "today"),
        consent="yes",
    )  # fmt: skip
    return House(engine, keys, tmp_path / "mails", Moment(NOW))


def reader_of(engine: Engine) -> str:
    """Her public id."""
    with reading(engine) as session:
        return session.exec(rows_of(Subscriber.reader)).one()


def link(house: House, slug: str = "today") -> str:
    """Her unsubscribe link."""
    return f"/u/{Signer(house.keys).unsubscribe(reader_of(house.engine), slug)}"


def states(engine: Engine) -> dict[str, str]:
    """Her subscriptions."""
    with reading(engine) as session:
        return {row.newsletter: row.state for row in session.exec(rows_of(Subscription)).all()}


def barred(engine: Engine) -> set[str]:
    """What she is suppressed for."""
    with reading(engine) as session:
        return {row.scope for row in session.exec(rows_of(Suppression)).all()}


def world(engine: Engine) -> dict[str, Any]:
    """Every row of every table but the used links, which can do nothing any more."""
    links = OneTimeLink.__table__  # type: ignore[attr-defined]
    with engine.connect() as connection:
        return {
            name: sorted(
                map(repr, connection.execute(select(table).where(links.c.used_at.is_(None)) if table is links else select(table)).all())
            )
            for name, table in SQLModel.metadata.tables.items()
        }  # fmt: skip


@contextmanager
def counting(engine: Engine) -> Iterator[dict[str, int]]:
    """How many statements read, how many write, how many transactions commit."""
    told = {"reads": 0, "writes": 0, "commits": 0}

    def statement(_c: Any, _cursor: Any, text: str, _p: Any, _context: Any, _many: bool) -> None:
        told[
            "reads" if text.lstrip().upper().startswith("SELECT") else "writes"
        ] += not text.upper().startswith("BEGIN")

    def commit(_connection: Any) -> None:
        told["commits"] += 1

    event.listen(engine, "before_cursor_execute", statement)
    event.listen(engine, "commit", commit)
    try:
        yield told
    finally:
        event.remove(engine, "before_cursor_execute", statement)
        event.remove(engine, "commit", commit)


@pytest.mark.parametrize(
    "options",
    [
        {"data": {"List-Unsubscribe": "One-Click"}},
        {"files": {"List-Unsubscribe": (None, "One-Click")}},
        {"data": {"List-Unsubscribe": "One-Click"}, "headers": {"Origin": "https://mail.google.com", "Sec-Fetch-Site": "cross-site"}},
    ],
)  # fmt: skip
def test_one_click_is_one_write_and_a_second_is_none(house: House, options: dict[str, Any]) -> None:
    """RFC 8058: 200, no redirect, no cookie; one transaction; again and again changes and writes nothing."""
    path = link(house)
    house.visitor().ask("GET", "/healthz")

    with counting(house.engine) as first:
        answer = house.visitor().ask("POST", path, **options)
    before = world(house.engine)
    with counting(house.engine) as again:
        repeated = house.visitor().ask("POST", path, **options)

    assert (answer.status_code, repeated.status_code) == (200, 200)
    assert "set-cookie" not in answer.headers and "location" not in answer.headers
    assert (first["commits"], first["reads"], again["commits"], again["writes"]) == (1, 1, 0, 0)
    assert world(house.engine) == before
    assert states(house.engine) == {"economy": "active", "planet": "active", "today": "left"}
    assert barred(house.engine) == {"today"}


def test_a_press_on_the_page_leaves_and_one_press_takes_it_back(house: House) -> None:
    """The page ends it, the next page's button brings back exactly that, as if nothing had been."""
    visitor = house.visitor()
    with writing(house.engine) as session:
        session.execute(Subscription.__table__.update().values(consent_words="as it was"))  # type: ignore[attr-defined]
    before = world(house.engine)

    left = visitor.fill(link(house), scope="one")
    gone = states(house.engine)
    page = visitor.ask("POST", f"{link(house)}/undo", data={"undo": secret_of(left)})

    assert left.status_code == 200 and "It was a slip" in left.text
    assert gone["today"] == "left"
    assert "All is as it was" in page.text
    assert world(house.engine) == before


def test_undo_brings_back_one_act_only(house: House) -> None:
    """Left one, later all: undoing the second leaves the first as it is."""
    engine, reader = house.engine, reader_of(house.engine)
    act(house, "planet", at=NOW)
    secret = act(house, None, at=NOW + timedelta(minutes=1))

    back = undo(engine, secret, reader=reader, now=NOW + timedelta(minutes=2))

    assert back == ("economy", "today")
    assert states(engine) == {"economy": "active", "planet": "left", "today": "active"}
    assert barred(engine) == {"planet"}


def act(house: House, slug: str | None, *, at: datetime) -> str:
    """She leaves *slug* on the page; what takes it back."""
    found = find_reader(house.engine, reader_of(house.engine))
    assert found is not None
    _, secret = undoably(
        house.engine, found.subscriber_id, now=at,
        act=lambda session: leave_within(session, found, slug, now=at, how="page"),
    )  # fmt: skip
    return secret


@pytest.mark.parametrize("why", ["late", "complained", "nothing was left", "somebody else's"])
def test_undo_has_its_bounds(house: House, why: str) -> None:
    """Not after a day, not against a complaint, not for a secret that is none, nor with another reader's link."""
    engine, reader = house.engine, reader_of(house.engine)
    secret = act(house, "today", at=NOW)
    if why == "complained":
        with writing(engine) as session:
            hashed = session.exec(rows_of(Subscriber.address_hash)).one()
            session.add(Suppression(address_hash=hashed, scope="all", reason="complained", suppressed_at=NOW))
    if why == "nothing was left":
        secret = act(house, "today", at=NOW + timedelta(seconds=1))
    now = NOW + UNDO_FOR + timedelta(seconds=1) if why == "late" else NOW + timedelta(seconds=30)

    assert undo(engine, secret, reader="0" * 24 if why == "somebody else's" else reader, now=now) is None
    assert states(engine)["today"] == "left"


def test_what_waited_is_ended_and_waits_again(house: House) -> None:
    """Leaving all ends what was not confirmed yet, too; undo makes nothing active that was not."""
    with writing(house.engine) as session:
        session.execute(
            Subscription.__table__.update().where(col(Subscription.newsletter) == "planet").values(state="pending")  # type: ignore[attr-defined]
        )  # fmt: skip
    before, visitor = world(house.engine), house.visitor()

    left = visitor.fill(link(house), scope="all")
    gone = states(house.engine)
    visitor.ask("POST", f"{link(house)}/undo", data={"undo": secret_of(left)})

    assert set(gone.values()) == {"left"}
    assert states(house.engine) == {"economy": "active", "planet": "pending", "today": "active"}
    assert world(house.engine) == before


@pytest.mark.parametrize("weekend", ["never had", "left", "pending"])
def test_undo_takes_the_quieter_one_back_too(house: House, weekend: str) -> None:
    """Weekly instead of daily, then undo: the daily comes, and the weekly is as it was before."""
    if weekend != "never had":
        with writing(house.engine) as session:
            session.add(Subscription(subscriber_id=1, newsletter="weekend", state="pending", since=NOW))
    if weekend == "left":
        leave(house.engine, reader_of(house.engine), "weekend", now=NOW, how="a test")
    before, visitor = world(house.engine), house.visitor()

    left = visitor.fill(link(house), scope="quieter")
    between = states(house.engine)
    visitor.ask("POST", f"{link(house)}/undo", data={"undo": secret_of(left)})

    assert between["today"] == "left"
    assert between["weekend"] == ("pending" if weekend == "pending" else "active")
    assert world(house.engine) == before


def secret_of(page: httpx.Response) -> str:
    """What stands in the page's undo button."""
    return str(html.fromstring(page.text).xpath('string(//input[@name="undo"]/@value)'))


def test_what_somebody_said_since_stays(house: House) -> None:
    """Undo touches only what is still as the act left it."""
    secret = act(house, None, at=NOW)
    with writing(house.engine) as session:
        one = session.get_one(Subscription, (1, "economy"))
        one.left_at = NOW + timedelta(seconds=9)
        session.add(one)

    back = undo(house.engine, secret, reader=reader_of(house.engine), now=NOW + timedelta(seconds=30))

    assert back == ("planet", "today") and states(house.engine)["economy"] == "left"


def test_a_quieter_one_instead(house: House) -> None:
    """From the daily to its weekly sibling in one press, with the words that were shown as consent."""
    house.visitor().fill(link(house), scope="quieter")

    with reading(house.engine) as session:
        weekend = session.exec(rows_of(Subscription).where(Subscription.newsletter == "weekend")).one()
    assert (states(house.engine)["today"], weekend.state) == ("left", "active")
    assert weekend.consent_words.startswith("Get ") and weekend.consent_source == "/u"


def test_a_pause_instead(house: House) -> None:
    """Nothing is left; for thirty days nothing is sent."""
    visitor = house.visitor()

    answer = visitor.fill(link(house), scope="pause")
    with reading(house.engine) as session:
        until = session.exec(rows_of(Subscriber.paused_until)).one()
    visitor.ask("POST", f"{link(house)}/undo", data={"undo": secret_of(answer)})

    assert "It is quiet until" in answer.text
    assert until == NOW + timedelta(days=30, seconds=5)
    assert set(states(house.engine).values()) == {"active"}
    with reading(house.engine) as session:
        assert session.exec(rows_of(Subscriber.paused_until)).one() is None


def test_a_reason_is_kept_and_changes_nothing_else(house: House) -> None:
    """A code of ours and their words, on one line; said twice, the last one counts; undo still works."""
    visitor, path = house.visitor(), link(house)
    secret = secret_of(visitor.fill(path, scope="one"))
    act = house.clock().isoformat()

    for words in ("first", "<script>\r\nBcc: x"):
        visitor.ask("POST", f"{path}/reason", data={"act": act, "why": "too often", "words": words})
    visitor.ask("POST", f"{path}/reason", data={"act": act, "why": "nonsense", "words": "x"})

    with reading(house.engine) as session:
        told = session.exec(rows_of(Subscription.left_reason).where(Subscription.newsletter == "today")).one()
    assert told == "the page behind the mail's link; too often: <script>\nBcc: x"
    assert undo(house.engine, secret, reader=reader_of(house.engine), now=house.clock()) == ("today",)


def test_who_presses_the_trap_is_asked_once_more(house: House) -> None:
    """A scanner that follows every link and presses every button leaves nothing; a person presses once more."""
    visitor, path = house.visitor(), link(house)
    visitor.ask("GET", f"{path}/t")

    asked = visitor.fill(path, scope="one")
    still = states(house.engine)["today"]
    hasty = visitor.ask("POST", path, data={"scope": "one", "sure": "1"})
    after_haste = states(house.engine)["today"]
    house.clock.go_on(minutes=11)
    visitor.fill(path, scope="one")

    assert "Really leave?" in asked.text and (still, after_haste) == ("active", "active")
    assert "Really leave?" in hasty.text
    assert states(house.engine)["today"] == "left"


def test_one_more_press_is_enough_after_the_trap(house: House) -> None:
    """The second page's button, pressed as people press, leaves."""
    visitor, path = house.visitor(), link(house)
    visitor.ask("GET", f"{path}/t")
    page = visitor.fill(path, scope="one")
    stamp = page.text.partition('name="form" value="')[2].partition('"')[0]
    house.clock.go_on(seconds=3)

    visitor.ask("POST", path, data={"scope": "one", "sure": "1", "form": stamp})

    assert states(house.engine)["today"] == "left"


def test_haste_is_asked_about_only_after_a_send(house: House) -> None:
    """Minutes after an edition a press without reading needs another; at other times it does not."""
    visitor, path = house.visitor(), link(house)
    with writing(house.engine) as session:
        session.add(
            EditionRow(
                newsletter="today", edition_date=NOW.date(), status="submitted", made_at=NOW,
                submitted_at=NOW - timedelta(minutes=9), findings=[],
            )
        )  # fmt: skip

    asked = visitor.fill(path, wait=0.4, scope="one")
    still = states(house.engine)["today"]
    house.clock.go_on(minutes=2)
    visitor.fill(path, wait=0.4, scope="one")

    assert "Really leave?" in asked.text and still == "active"
    assert states(house.engine)["today"] == "left"


def test_one_click_acts_whatever_scanners_did(house: House) -> None:
    """The mailbox's own button is never asked twice."""
    house.visitor().ask("GET", f"{link(house)}/t")

    house.visitor().ask("POST", link(house), data={"List-Unsubscribe": "One-Click"})

    assert states(house.engine)["today"] == "left"


def test_who_left_already_sees_it(house: House) -> None:
    """The page says so instead of asking again; all newsletters are offered only to who gets several."""
    house.visitor().fill(link(house), scope="one")

    page = house.visitor().ask("GET", link(house)).text

    assert "You have left it already" in page and "Or a little quieter?" not in page


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["", "/undo", "/reason"]),
    st.dictionaries(
        st.sampled_from(["scope", "act", "why", "words", "form", "sure", "List-Unsubscribe"]), st.text(max_size=40)
    ),
)  # fmt: skip
def test_nothing_that_is_posted_breaks_the_pages(house: House, path: str, fields: dict[str, str]) -> None:
    """No form content is a server error."""
    data = {name: value.encode("utf-8", "replace").decode() for name, value in fields.items()}

    assert house.visitor().ask("POST", link(house) + path, data=data).status_code < 500


def test_words_of_strangers_are_shown_as_text(house: House) -> None:
    """A newsletter name with marks in it is no markup, and nothing of a request comes back in a page."""
    answer = house.visitor().ask("POST", link(house), data={"scope": "<script>alert(1)</script>"})

    assert "<script>" not in answer.text


def test_a_token_of_another_newsletter_leaves_only_that(house: House) -> None:
    """One link, one newsletter."""
    house.visitor().ask("POST", link(house, "planet"), data={"List-Unsubscribe": "One-Click"})

    assert states(house.engine) == {"economy": "active", "planet": "left", "today": "active"}


def test_leaving_everything_once_more_writes_nothing(house: House) -> None:
    """Idempotent for all, too."""
    reader = reader_of(house.engine)
    leave(house.engine, reader, None, now=NOW, how="page")

    with counting(house.engine) as told:
        again = leave(house.engine, reader, None, now=NOW + timedelta(days=1), how="page")

    assert (again, told["commits"], told["writes"]) == ((), 0, 0)
    with reading(house.engine) as session:
        assert (
            session.exec(rows_of(Suppression).where(col(Suppression.scope) == "all")).one().suppressed_at
            == NOW
        )
