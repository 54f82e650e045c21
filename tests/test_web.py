"""The readers' pages: leaving works for people and programs, and nothing else does anything."""

from __future__ import annotations

from datetime import UTC, date, datetime

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine
from sqlmodel import select
from starlette.applications import Starlette

from newsletter.audience.tokens import Signer, TokenKind, verify
from newsletter.errors import TokenError
from newsletter.settings import Keys, Settings
from newsletter.store.session import reading, writing
from newsletter.store.tables import Subscriber, Subscription, Suppression
from newsletter.web.app import create_app
from tests.builders import ask, the_catalogue
from tests.visiting import Moment, Visitor

NOW = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)
READER = "ab" * 12


@pytest.fixture
def pages(engine: Engine, keys: Keys, clock: Moment) -> Starlette:
    """The pages, with one reader of two newsletters."""
    with writing(engine) as session:
        session.add(
            Subscriber(id=1, reader=READER, email="ann@mail.example", email_key="ann@mail.example", address_hash="h1",
                       joined_at=NOW, updated_at=NOW)
        )  # fmt: skip
        session.flush()
        for slug in ("today", "planet"):
            session.add(Subscription(subscriber_id=1, newsletter=slug, since=NOW))
    return create_app(engine, the_catalogue(), keys, Settings(), clock=clock)


@pytest.fixture
def clock() -> Moment:
    """When it is."""
    return Moment(NOW)


def states(engine: Engine) -> dict[str, str]:
    """The reader's subscriptions."""
    with reading(engine) as session:
        return {row.newsletter: row.state for row in session.exec(select(Subscription)).all()}


def suppressed(engine: Engine) -> set[str]:
    """The scopes the reader is suppressed for."""
    with reading(engine) as session:
        return {row.scope for row in session.exec(select(Suppression)).all()}


def leave_path(keys: Keys, slug: str = "today") -> str:
    """The path of the reader's unsubscribe link."""
    return f"/u/{Signer(keys).unsubscribe(READER, slug)}"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_looking_changes_nothing(engine: Engine, keys: Keys, pages: Starlette, method: str) -> None:
    """A scanner that follows the link finds a page with a button and has done nothing."""
    answer = ask(pages, method, leave_path(keys))

    assert answer.status_code == 200
    assert states(engine) == {"today": "active", "planet": "active"}
    if method == "GET":
        assert '<form method="post">' in answer.text and "Parallel Today" in answer.text
        assert "ann@" not in answer.text


@pytest.mark.parametrize(
    "options",
    [
        {"data": {"List-Unsubscribe": "One-Click"}},
        {"files": {"List-Unsubscribe": (None, "One-Click")}},
        {"data": {"scope": "one"}},
        {"content": b""},
        {"content": b"\xff\xfe not a form", "headers": {"Content-Type": "multipart/form-data; boundary=x"}},
    ],
)
def test_a_post_leaves_at_once(
    engine: Engine, keys: Keys, pages: Starlette, options: dict[str, object]
) -> None:
    """One-click as Gmail sends it, multipart, the page's form, or nothing at all: 200, left, no redirect."""
    first = ask(pages, "POST", leave_path(keys), **options)
    second = ask(pages, "POST", leave_path(keys), **options)

    assert (first.status_code, second.status_code) == (200, 200)
    assert "set-cookie" not in first.headers
    assert states(engine) == {"today": "left", "planet": "active"}
    assert suppressed(engine) == {"today"}


def test_leaving_all_is_one_press(engine: Engine, keys: Keys, pages: Starlette) -> None:
    """The page's second button ends every newsletter and keeps the address unmailed."""
    ask(pages, "POST", leave_path(keys), data={"scope": "all"})

    assert set(states(engine).values()) == {"left"}
    assert "all" in suppressed(engine)


def test_a_reader_can_come_back_by_the_preferences_page(
    engine: Engine, keys: Keys, pages: Starlette, clock: Moment
) -> None:
    """Leave, then take it back, from the mail's preferences link; the address is never shown in full."""
    path = f"/preferences/{Signer(keys).preferences(READER)}"
    reader = Visitor(pages, clock)

    reader.fill(path, button=0, do="save", shown=["today", "planet"], newsletters=["planet"])
    left = states(engine)
    reader.fill(path, button=0, do="save", shown=["today"], newsletters=["today"])
    page = ask(pages, "GET", path).text

    assert (left["today"], states(engine)["today"]) == ("left", "active")
    assert suppressed(engine) == set()
    assert "ann@mail.example" not in page and "a…@m….example" in page


def test_coming_back_to_one_does_not_bring_back_all(
    engine: Engine, keys: Keys, pages: Starlette, clock: Moment
) -> None:
    """After leaving all, joining one again leaves the others suppressed."""
    path = f"/preferences/{Signer(keys).preferences(READER)}"
    reader = Visitor(pages, clock)

    reader.fill(path, button=0, do="leave-all")
    reader.fill(path, button=0, do="save", shown=["planet"], newsletters=["planet"])

    assert states(engine) == {"today": "left", "planet": "active"}
    assert suppressed(engine) == {"today"}


def test_a_complaint_is_not_undone_by_a_button(
    engine: Engine, keys: Keys, pages: Starlette, clock: Moment
) -> None:
    """Who complained stays unmailed whatever is pressed."""
    path = f"/preferences/{Signer(keys).preferences(READER)}"
    reader = Visitor(pages, clock)
    reader.fill(path, button=0, do="save", shown=["today"], newsletters=[])
    with writing(engine) as session:
        session.add(Suppression(address_hash="h1", scope="all", reason="complained", suppressed_at=NOW))

    answer = reader.fill(path, button=0, do="save", shown=["today"], newsletters=["today"])

    assert "cannot be sent to this address" in answer.text

    assert states(engine)["today"] == "left"


def test_headers_keep_the_pages_to_themselves(keys: Keys, pages: Starlette) -> None:
    """No script, no frame, no referrer, no cache, no index."""
    answer = ask(pages, "GET", leave_path(keys))

    assert "script" not in answer.text
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; style-src 'sha256-")
    assert (answer.headers["referrer-policy"], answer.headers["cache-control"]) == ("no-referrer", "no-store")
    assert answer.headers["x-frame-options"] == "DENY"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/u/nonsense", 404),
        ("POST", "/u/" + "A" * 48, 404),
        ("PUT", "/u/x", 405),
        ("GET", "/elsewhere", 404),
        ("GET", "/healthz", 200),
    ],
)
def test_other_requests(pages: Starlette, method: str, path: str, status: int) -> None:
    """What is not ours is one plain page; nothing fails."""
    assert ask(pages, method, path).status_code == status


def test_a_body_has_a_limit(keys: Keys, pages: Starlette) -> None:
    """A huge body is refused, declared or not."""
    assert ask(pages, "POST", leave_path(keys), content=b"x" * 70_000).status_code == 413


def test_a_token_opens_only_what_it_is_for(keys: Keys, pages: Starlette) -> None:
    """An unsubscribe token is no key to the preferences."""
    token = Signer(keys).unsubscribe(READER, "today")

    assert ask(pages, "GET", f"/preferences/{token}").status_code == 404


def test_an_erased_reader_has_left(engine: Engine, keys: Keys, pages: Starlette) -> None:
    """A link of somebody we no longer know still answers 200 and changes nothing."""
    path = f"/u/{Signer(keys).unsubscribe('cd' * 12, 'today')}"

    answer: httpx.Response = ask(pages, "POST", path, data={"List-Unsubscribe": "One-Click"})

    assert answer.status_code == 200
    assert states(engine) == {"today": "active", "planet": "active"}


KEYS = Keys(
    signing=(b"new key of this test, long enough", b"old key of this test, long enough"),
    suppression=b"s" * 32,
)


@given(position=st.integers(0, 47), letter=st.characters(codec="utf-8"))
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_a_token_altered_anywhere_is_refused(position: int, letter: str) -> None:
    """Any other character in any place: not ours."""
    token = Signer(KEYS).unsubscribe(READER, "today")
    altered = token[:position] + letter + token[position + 1 :]

    if altered == token:
        assert verify(KEYS, altered, TokenKind.UNSUBSCRIBE).reader == READER
    else:
        with pytest.raises(TokenError):
            verify(KEYS, altered, TokenKind.UNSUBSCRIBE)


@pytest.mark.parametrize(
    "change", [lambda t: t[:-1], lambda t: t + "A", lambda t: t + "=", lambda t: t.swapcase(), lambda t: ""]
)
def test_a_token_of_another_length_is_refused(change: object) -> None:
    """Cut, lengthened, padded, emptied."""
    with pytest.raises(TokenError):
        verify(KEYS, change(Signer(KEYS).preferences(READER)), TokenKind.PREFERENCES)  # type: ignore[operator]


def test_old_links_go_on_working_after_a_rotation() -> None:
    """A link signed with the former key verifies; with a forgotten key it does not."""
    old = Signer(Keys(signing=KEYS.signing[1:], suppression=b"s" * 32)).view(
        READER, "today", date(2026, 11, 20)
    )
    forgotten = Signer(
        Keys(signing=(b"a key that was thrown away long ago",), suppression=b"s" * 32)
    ).preferences(READER)

    assert verify(KEYS, old, TokenKind.VIEW).reader == READER
    with pytest.raises(TokenError):
        verify(KEYS, forgotten, TokenKind.PREFERENCES)


def test_a_token_reveals_nothing() -> None:
    """Neither the slug nor anything readable is in it."""
    import base64

    raw = base64.urlsafe_b64decode(Signer(KEYS).unsubscribe(READER, "today"))
    assert b"today" not in raw
    assert len(raw) == 36
