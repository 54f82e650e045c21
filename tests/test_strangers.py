"""What scanners and strangers come to: every link of a real mail followed, and every answer timed."""

from __future__ import annotations

import asyncio
import email
import email.policy
import random
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx
import pytest
from lxml import html
from sqlalchemy import Engine
from sqlmodel import SQLModel
from starlette.applications import Starlette

from newsletter.audience.imports import import_subscribers
from newsletter.audience.subscribers import add
from newsletter.desk import Desk
from newsletter.settings import Keys, load_settings
from newsletter.web.app import create_app
from newsletter.web.view import view_online
from tests.builders import a_site, the_catalogue
from tests.visiting import House, Moment

NOW = datetime(2026, 11, 20, 4, 0, tzinfo=UTC)
BASE = "http://127.0.0.1:8000"
COUNTERS = {"attempts"}
"""Only how often somebody knocked may be written by looking: the trap link counts its visitors."""


def all_rows(engine: Engine) -> dict[str, list[Any]]:
    """Every row of every table but the counters."""
    with engine.connect() as connection:
        return {
            table.name: sorted(map(repr, connection.execute(table.select()).all()))
            for table in SQLModel.metadata.sorted_tables
            if table.name not in COUNTERS
        }


@pytest.fixture
def sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Desk, Starlette]]:
    """The samples' edition of ``today``, sent to its readers by the pipeline itself, and the pages beside it."""
    monkeypatch.chdir(a_site(tmp_path / "site"))
    desk = Desk.open(load_settings(), clock=Moment(NOW))
    import_subscribers(
        desk.engine, Path("samples/subscribers.csv"), catalogue=desk.catalogue, keys=desk.keys, now=NOW,
        newsletters=(), consent="",
    )  # fmt: skip
    desk.collect(None, now=NOW)
    desk.run(now=NOW, only=["today"], every=True)
    app = create_app(
        desk.engine, desk.catalogue, desk.keys, desk.settings, clock=Moment(NOW),
        view=lambda reader, scope: view_online(desk, reader, scope, now=NOW),
    )  # fmt: skip
    yield desk, app
    desk.engine.dispose()


def links_of(mail: email.message.EmailMessage) -> set[str]:
    """All addresses a scanner finds: in both parts, and in the headers."""
    plain, page = mail.get_body(("plain",)), mail.get_body(("html",))
    assert plain is not None and page is not None
    found = set(re.findall(r"https?://[^\s<>\"']+", str(plain.get_content())))
    found |= {str(link) for _, _, link, _ in html.fromstring(str(page.get_content())).iterlinks()}
    return found | set(re.findall(r"<(https?://[^>]+)>", str(mail["List-Unsubscribe"])))


def test_following_every_link_of_a_real_mail_changes_nothing(sent: tuple[Desk, Starlette]) -> None:
    """GET, HEAD and prefetches of every link, and of every link on the pages behind them: all rows are the same."""
    desk, app = sent
    file = sorted(Path("outbox/2026-11-20/today").glob("*.eml"))[0]
    mail = email.message_from_bytes(file.read_bytes(), policy=email.policy.default)
    before = all_rows(desk.engine)
    looks: tuple[tuple[str, dict[str, str]], ...] = (
        ("GET", {}), ("HEAD", {}), ("GET", {"Sec-Purpose": "prefetch;prerender", "Purpose": "prefetch"}),
        ("GET", {"User-Agent": "BarracudaLinkProtect/1.0"}), ("OPTIONS", {}),
    )  # fmt: skip

    async def follow() -> dict[str, int]:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        seen: dict[str, int] = {}
        async with httpx.AsyncClient(transport=transport, base_url=BASE) as client:
            ahead = {link for link in links_of(mail) if link.startswith(BASE)}  # type: ignore[arg-type]
            for _ in range(3):
                behind: set[str] = set()
                for link in sorted(ahead - set(seen)):
                    for method, headers in looks:
                        answer = await client.request(method, link, headers=headers)
                        assert answer.status_code < 500
                        if method == "GET":
                            seen[link] = answer.status_code
                            behind |= _links(answer, link)
                ahead = behind
        return seen

    seen = asyncio.run(follow())

    kinds = {urlsplit(link).path.split("/")[1] for link in seen}
    assert kinds >= {"u", "preferences", "view", "subscribe", "archive", "login"}
    assert len(seen) > 20
    assert all_rows(desk.engine) == before


def _links(answer: httpx.Response, at: str) -> set[str]:
    """Where a page leads within the site, and where its forms would post to."""
    if "location" in answer.headers:
        return {urljoin(at, answer.headers["location"])}
    if not answer.headers.get("content-type", "").startswith("text/html") or not answer.text:
        return set()
    page = html.fromstring(answer.text)
    page.make_links_absolute(at)
    found = {str(link).partition("#")[0] for _, _, link, _ in page.iterlinks()}
    return {link for link in found if link.startswith(BASE)}


PEOPLE = 40


@pytest.mark.parametrize("door", ["login", "subscribe"])
def test_how_long_an_answer_takes_tells_nothing(
    engine: Engine, keys: Keys, tmp_path: Path, door: str
) -> None:
    """
    Known and unknown addresses, asked in turn: nobody could tell the two by the clock, neither by the
    answer nor by how long the machine is busy behind it, which the next request would feel.

    As a chance (the area under the ROC curve): 0.5 is a guess, 1 is certainty. Forty of each keep a
    guess within 0.5 ± 0.25 but for one run in ten thousand.
    """
    for number in range(PEOPLE):
        add(
            engine, f"known{number}@mail.example", catalogue=the_catalogue(), keys=keys, now=NOW,
            newsletters=("today",), consent="yes",
        )  # fmt: skip
    house = House(engine, keys, tmp_path / "mails", Moment(NOW))
    asked = [(who, number) for number in range(PEOPLE) for who in ("known", "other")]
    random.Random(7).shuffle(asked)

    async def measure() -> tuple[dict[str, list[float]], dict[str, list[float]]]:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        times: dict[str, list[float]] = {"known": [], "other": []}
        behind: dict[str, list[float]] = {"known": [], "other": []}
        spent = await loop.run_in_executor(None, time.thread_time)
        for turn, (who, number) in enumerate([("other", 1000), ("known", 1000), *asked]):
            client = (f"198.51.{turn}.7", 40_000)  # each from a network of its own: no limit is reached
            transport = httpx.ASGITransport(app=house.app, client=client)
            async with httpx.AsyncClient(transport=transport, base_url=BASE) as visitor:
                page = await visitor.get(f"/{door}")
                house.clock.go_on(seconds=5)
                form = html.fromstring(page.text).forms[-1]
                values = {name: value for name, value in form.form_values() if name != "newsletters"}
                values |= {"email": f"{who}{number}@mail.example", "newsletters": "today"}
                begun = time.perf_counter()
                answer = await visitor.post(f"/{door}", data=values)
                took = time.perf_counter() - begun
                assert answer.status_code < 400
            busy = await loop.run_in_executor(None, time.thread_time)  # the one thread has written the mail
            if number < PEOPLE:
                times[who].append(took)
                behind[who].append(busy - spent)
            spent = busy
        return times, behind

    def telling(told: dict[str, list[float]]) -> float:
        later = sum(known > other for known in told["known"] for other in told["other"])
        return abs(later / PEOPLE**2 - 0.5)

    # What really tells, tells every time; a machine that is busy with something else does not.
    found = []
    for _ in range(3):
        found.append(max(telling(told) for told in asyncio.run(measure())))
        if found[-1] < 0.25:
            break
        house.clock.go_on(minutes=20)  # so that no limit is reached
    assert min(found) < 0.25, found
    assert len(house.mails()) >= PEOPLE
