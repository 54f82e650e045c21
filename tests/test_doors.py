"""Logging in: one-time links, sessions, and who may open what."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine
from sqlmodel import select

from newsletter.audience.doors import (
    Purpose,
    close_doors,
    find_visitor,
    look_at_link,
    make_link,
    open_session,
    sweep,
    use_link,
)
from newsletter.audience.limits import Knock, Limit, knock, knocks_so_far, networks_of, prune
from newsletter.audience.subscribers import add
from newsletter.settings import Keys
from newsletter.store.session import reading, writing
from newsletter.store.tables import Attempts, OneTimeLink, ReaderSession, Subscriber
from tests.builders import ROOT, the_catalogue
from tests.visiting import House, Moment, Visitor

NOW = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)
ANN = "ann@mail.example"


@pytest.fixture
def house(engine: Engine, keys: Keys, tmp_path: Path) -> House:
    """The pages, with one reader."""
    add(engine, ANN, catalogue=the_catalogue(), keys=keys, now=NOW, newsletters=("today",), consent="yes")
    return House(engine, keys, tmp_path / "mails", Moment(NOW))


def ann(engine: Engine) -> int:
    """Her id."""
    with reading(engine) as session:
        return session.exec(select(Subscriber.id)).first() or 0


def link_for(house: House, **fields: str) -> str:
    """Ask for a link, and take it from the mail."""
    house.visitor().fill("/login", email=ANN, **fields)
    return house.mails()[-1].link("login")


def test_the_journey(house: House) -> None:
    """Ask, look without effect, press once: a session in a cookie no script reads; then out again."""
    path = link_for(house)
    visitor = house.visitor()
    looked = [visitor.ask(method, path).status_code for method in ("GET", "HEAD", "GET")]

    entered = visitor.fill(path)
    cookie = entered.headers.get_list("set-cookie")[0]
    inside = visitor.ask("GET", "/login")
    secret = visitor.cookies["nl_session"]
    left = visitor.fill("/logout")

    assert looked == [200, 200, 200]
    assert (entered.status_code, entered.headers["location"]) == (303, "/preferences")
    assert "HttpOnly" in cookie and "SameSite=lax" in cookie and "Max-Age=1209600" in cookie
    assert inside.status_code == 303
    assert left.status_code == 200 and "nl_session" not in visitor.cookies
    assert find_visitor(house.engine, secret, now=house.clock()) is None


@pytest.mark.parametrize(
    ("base_url", "start", "rest"),
    [
        ("https://mail.example.org", "__Host-nl_session=", "Path=/;"),
        ("https://example.org/news", "__Secure-nl_session=", "Path=/news;"),
    ],
)
def test_cookies_are_secure_where_there_is_https(
    engine: Engine, keys: Keys, tmp_path: Path, base_url: str, start: str, rest: str
) -> None:
    """The strictest prefix the place allows."""
    add(engine, ANN, catalogue=the_catalogue(), keys=keys, now=NOW)
    house = House(engine, keys, tmp_path / "mails", Moment(NOW), base_url=base_url)
    with writing(engine) as session:
        secret = make_link(session, Purpose.LOGIN, ann(engine), now=NOW)
    host = {"Host": base_url.removeprefix("https://").partition("/")[0]}
    visitor = house.visitor()
    page = visitor.ask("GET", f"/login/{secret}", headers=host)
    form = re.search(r'name="form" value="([^"]+)"', page.text)

    answer = visitor.ask("POST", f"/login/{secret}", data={"form": form[1] if form else ""}, headers=host)

    cookie = answer.headers.get_list("set-cookie")[0]
    assert cookie.startswith(start) and rest in f"{cookie};" and "Secure" in cookie


def test_a_link_works_once_and_not_for_long(house: House) -> None:
    """Used, or half an hour old: a kind page with a way to a new one."""
    used, old = link_for(house), link_for(house)
    house.visitor().fill(used)
    house.clock.go_on(minutes=30)

    answers = [house.visitor().ask("GET", path) for path in (used, old, "/login/" + "A" * 43, "/login/x")]

    assert all(one.status_code == 200 and "no longer opens" in one.text for one in answers)
    with reading(house.engine) as session:
        assert len(session.exec(select(ReaderSession)).all()) == 1


def test_a_scanner_that_posts_blindly_does_not_enter(house: House) -> None:
    """Without the page's own field and cookie the link stays good for its reader."""
    path = link_for(house)

    blind = house.visitor().ask("POST", path)

    assert blind.status_code == 403 and "nl_session" not in blind.headers.get("set-cookie", "")
    assert house.visitor().fill(path).status_code == 303


@pytest.mark.parametrize("email", ["nobody@mail.example", "bounced@mail.example", "pending@mail.example"])
def test_the_answer_is_the_same_for_everybody(house: House, email: str) -> None:
    """Who is no reader sees what a reader sees, and gets no mail."""
    for status in ("bounced", "pending"):
        add(house.engine, f"{status}@mail.example", catalogue=the_catalogue(), keys=house.keys, now=NOW)
        with writing(house.engine) as session:
            row = session.exec(select(Subscriber).where(Subscriber.email == f"{status}@mail.example")).one()
            row.status = status
            session.add(row)

    known = house.visitor().fill("/login", email=ANN)
    other = house.visitor().fill("/login", email=email)

    assert (known.status_code, known.text.replace(ANN, "…")) == (
        other.status_code,
        other.text.replace(email, "…"),
    )
    assert [mail.to for mail in house.mails()] == [ANN]


def test_where_one_goes_is_one_of_ours(house: House) -> None:
    """A name of ours leads to its page; anything else to the preferences, never to another site."""
    data = house.visitor().fill(link_for(house, then="data"))
    evil = house.visitor().fill(link_for(house, then="https://evil.example"))

    assert (data.headers["location"], evil.headers["location"]) == ("/preferences/data", "/preferences")


def test_login_mails_are_few(house: House) -> None:
    """Three in a quarter of an hour; the trap's victims and the hasty robots get the same page and no mail."""
    trapped = house.visitor().fill("/login", email=ANN, website="x")
    for _ in range(5):
        house.visitor().fill("/login", email=ANN, wait=1)

    assert trapped.status_code == 200 and len(house.mails()) == 3


def test_a_session_ends(engine: Engine, house: House) -> None:
    """Fresh for an hour, known for fourteen days, then nobody."""
    with writing(engine) as session:
        secret = open_session(session, ann(engine), now=NOW)

    found = [find_visitor(engine, secret, now=NOW + timedelta(**span)) for span in ({"minutes": 59}, {"minutes": 61}, {"days": 14})]  # fmt: skip

    assert [one and one.is_fresh for one in found] == [True, False, None]
    assert found[0] is not None and found[0].subscriber_id == ann(engine)


def test_all_doors_close_at_once(engine: Engine, house: House) -> None:
    """Every session but one's own, and every open link."""
    with writing(engine) as session:
        mine, other = (open_session(session, ann(engine), now=NOW) for _ in range(2))
        link = make_link(session, Purpose.LOGIN, ann(engine), now=NOW)

    with writing(engine) as session:
        close_doors(session, ann(engine), but=mine)

    assert find_visitor(engine, mine, now=NOW) and find_visitor(engine, other, now=NOW) is None
    with reading(engine) as session:
        assert look_at_link(session, link, Purpose.LOGIN, now=NOW) is None


def test_a_link_opens_only_what_it_is_for(engine: Engine, house: House) -> None:
    """A confirming link is no login, and looking uses nothing up."""
    with writing(engine) as session:
        secret = make_link(session, Purpose.CONFIRM, ann(engine), now=NOW, detail={"newsletters": []})

    with writing(engine) as session:
        assert look_at_link(session, secret, Purpose.LOGIN, now=NOW) is None
        assert use_link(session, secret, Purpose.LOGIN, now=NOW) is None
        looked = [look_at_link(session, secret, Purpose.CONFIRM, now=NOW) for _ in range(2)]
        used = [use_link(session, secret, Purpose.CONFIRM, now=NOW) for _ in range(2)]

    assert all(one is not None and one.is_open for one in looked)
    assert [one is not None for one in used] == [True, False]


def test_no_secret_is_in_the_database(engine: Engine, house: House) -> None:
    """A copy of the database opens nothing: neither links nor sessions stand in it."""
    with writing(engine) as session:
        secrets = [
            make_link(session, Purpose.LOGIN, ann(engine), now=NOW),
            open_session(session, ann(engine), now=NOW),
        ]

    with reading(engine) as session:
        held = repr(
            [
                row.model_dump()
                for table in (OneTimeLink, ReaderSession)
                for row in session.exec(select(table)).all()
            ]
        )

    assert all(secret not in held for secret in secrets)


def test_what_has_ended_is_swept(engine: Engine, house: House) -> None:
    """Sessions at once, links a week later, until when they can say what they were; twice is once."""
    with writing(engine) as session:
        open_session(session, ann(engine), now=NOW)
        make_link(session, Purpose.LOGIN, ann(engine), now=NOW)

    swept = [sweep(engine, now=NOW + timedelta(**span)) for span in ({"days": 6}, {"days": 8}, {"days": 15}, {"days": 15})]  # fmt: skip

    assert swept == [0, 1, 1, 0]


# --- limits ---------------------------------------------------------------------------------------

LIMIT = Limit("a test", 2, timedelta(hours=1))


def test_knocks_are_counted_together(engine: Engine, keys: Keys) -> None:
    """Two are allowed and the third is too many; others, other actions and the next hour have their own count."""

    def knocked(who: str, limit: Limit = LIMIT, at: datetime = NOW) -> bool:
        return not knock(engine, [Knock(limit, who)], keys=keys, now=at)

    mine = [knocked("ann") for _ in range(3)]

    assert mine == [True, True, False]
    assert knocked("bob") and knocked("ann", Limit("another", 2, timedelta(hours=1)))
    assert knocked("ann", at=NOW + timedelta(hours=1))
    assert knocks_so_far(engine, Knock(LIMIT, "ann"), keys=keys, now=NOW) == 3
    with reading(engine) as session:
        assert all("ann" not in row.key for row in session.exec(select(Attempts)).all())
    assert prune(engine, now=NOW + timedelta(hours=1, seconds=1)) == 3


def test_many_knock_at_once(engine: Engine, keys: Keys) -> None:
    """Counted by the database: of twenty at the same moment exactly two pass."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        over = list(pool.map(lambda _: knock(engine, [Knock(LIMIT, "ann")], keys=keys, now=NOW), range(20)))

    assert sum(not one for one in over) == 2


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("203.0.113.9", ("203.0.113.9/32", "203.0.113.0/24")),
        ("2001:db8:1:2:3::4", ("2001:db8:1:2::/64", "2001:db8:1::/48")),
        ("::ffff:203.0.113.9", ("203.0.113.9/32", "203.0.113.0/24")),
        ("fe80::1%eth0", ("fe80::/64", "fe80::/48")),
        ("", ("unknown", "unknown")),
    ],
)
def test_networks(address: str, expected: tuple[str, str]) -> None:
    """One household is one visitor, however many addresses it has."""
    assert networks_of(address) == expected


@given(address=st.text(max_size=40))
def test_any_address_has_networks(address: str) -> None:
    """Nothing a server may call its client fails."""
    assert len(networks_of(address)) == 2


# --- the real server ------------------------------------------------------------------------------


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[bytes], float]]:
    """``newsletter serve`` as a process of its own, and how long it took to answer."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    environment = {
        **os.environ, "NEWSLETTER_BASE_URL": url, "NEWSLETTER_TEMPLATES": str(ROOT / "templates"),
        "DATABASE_URL": f"sqlite:///{tmp_path}/subscribers.db", "NEWSLETTER_SYSTEM_OUTBOX": str(tmp_path / "mails"),
    }  # fmt: skip
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-c", "from newsletter.cli.main import main; main()", "serve", "--port", str(port)],
        cwd=tmp_path, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    while True:
        try:
            httpx.get(f"{url}/readyz", timeout=5).raise_for_status()
            break
        except httpx.HTTPError:
            if time.monotonic() - began > 30 or process.poll() is not None:
                raise
            time.sleep(0.05)
    yield url, process, time.monotonic() - began
    if process.poll() is None:
        process.kill()
    process.communicate()


def test_the_server_answers_finishes_and_says_nothing(
    served: tuple[str, subprocess.Popen[bytes], float], tmp_path: Path
) -> None:
    """Up quickly; a wish and SIGTERM at once: the mail is still written; no address or token in the log."""
    url, process, _ = served
    with httpx.Client(base_url=url) as client:
        page = client.get("/subscribe")
        form = re.search(r'name="form" value="([^"]+)"', page.text)
        time.sleep(2.1)
        data = {"form": form[1] if form else "", "email": ANN, "newsletters": "today"}
        answer = client.post("/subscribe", data=data)
        client.get("/confirm/" + "A" * 43)
        process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=20)

    assert answer.status_code == 200 and process.returncode == 0
    mails = list((tmp_path / "mails").rglob("*.eml"))
    assert len(mails) == 1, err.decode()
    assert ANN in mails[0].read_text()
    assert b"ann@" not in out + err and b"AAAA" not in out + err and b"confirm/" not in out + err


def test_visitors_are_told_apart(house: House) -> None:
    """One browser's session is not another's."""
    first, second = house.visitor(), house.visitor()
    first.fill(link_for(house))

    assert first.ask("GET", "/login").status_code == 303
    assert isinstance(second, Visitor) and second.ask("GET", "/login").status_code == 200
