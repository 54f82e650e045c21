"""Editors at work: a desk at the moment of the make-up, its mails, and what was decided."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, update

from newsletter.audience.imports import import_subscribers
from newsletter.catalogue import Catalogue, Newsletter
from newsletter.desk import Account, Desk
from newsletter.desk.approval import decisions
from newsletter.picking.picks import Order
from newsletter.settings import Keys, Settings
from newsletter.store.session import open_store, reading, writing
from newsletter.store.tables import EditionRow
from newsletter.web.app import create_app
from tests.builders import ROOT, the_catalogue
from tests.visiting import Mail, Moment, Visitor

MAKE_UP = datetime(2026, 11, 20, 4, 30, tzinfo=UTC)  # an hour before half past six in Paris
DAY = date(2026, 11, 20)
MIA, TOM = "mia@desk.example", "tom@desk.example"


@pytest.fixture(scope="session")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with the samples' readers and articles: read once, copied for each test."""
    path = tmp_path_factory.mktemp("collected") / "subscribers.db"
    engine = open_store(f"sqlite:///{path}")
    keys = Keys(signing=(b"a signing key of this test alone",), suppression=b"a suppression key of this test")
    samples = ROOT / "samples"
    import_subscribers(engine, samples / "subscribers.csv", catalogue=the_catalogue(), keys=keys, now=MAKE_UP)
    a_desk(engine, keys, Settings(), the_catalogue()).collect([str(samples / "feeds")], now=MAKE_UP)
    engine.dispose()
    return path


def a_desk(engine: Engine, keys: Keys, settings: Settings, catalogue: Catalogue) -> Desk:
    """A desk at the moment of the make-up."""
    return Desk(engine, catalogue, settings, keys, Moment(MAKE_UP))


def with_today(**settings: Any) -> Catalogue:
    """The shipped publication with nothing but Today, which needs two editors' approval, and *settings*."""
    catalogue = the_catalogue()
    given = catalogue["today"].model_dump(by_alias=True)
    given |= {"approval": "required", "editors": (MIA, TOM), **settings}
    return catalogue.model_copy(update={"newsletters": (Newsletter.model_validate(given),)})


Opens = Callable[..., Desk]


@pytest.fixture
def opens(collected: Path, keys: Keys, tmp_path: Path) -> Iterator[Opens]:
    """Opens a desk on a copy of that database, with Today as given."""
    opened: list[Desk] = []

    def open_desk(**settings: Any) -> Desk:
        shutil.copy(collected, tmp_path / "subscribers.db")
        engine = open_store(f"sqlite:///{tmp_path}/subscribers.db")
        folders = Settings(
            NEWSLETTER_SYSTEM_OUTBOX=tmp_path / "system", NEWSLETTER_OUTBOX=tmp_path / "outbox"
        )
        opened.append(a_desk(engine, keys, folders, with_today(**settings)))
        return opened[-1]

    yield open_desk
    for desk in opened:
        desk.engine.dispose()


def prepare(desk: Desk) -> Account:
    """Make up the edition of the day."""
    return desk.prepare(desk.catalogue["today"], DAY, now=MAKE_UP)


def approve(desk: Desk, **given: Any) -> Account:
    """Approve it as Mia does by command."""
    return desk.approve(desk.catalogue["today"], DAY, actor="mia", **given)


def go_on(desk: Desk, **span: float) -> None:
    """Let time pass at the desk."""
    assert isinstance(desk.clock, Moment)
    desk.clock.go_on(**span)


def mails(desk: Desk, kind: str) -> list[Mail]:
    """The desk's mails of a kind so far, by when they were written."""
    import email
    import email.policy

    paths = sorted(
        desk.settings.system_outbox.rglob(f"notice.{kind}/*.eml"), key=lambda path: path.stat().st_mtime_ns
    )
    read = (email.message_from_bytes(path.read_bytes(), policy=email.policy.default) for path in paths)
    return [Mail(one) for one in read]


def links(mail: Mail) -> tuple[str, str]:
    """The paths of a mail's approve and hold links, the same in both parts."""
    found = re.findall(r"http://127\.0\.0\.1:8000(/desk/[\w-]+)", mail.text)
    assert len(found) == 2 and all(link in mail.html for link in found)
    return found[0], found[1]


def plant(desk: Desk, *findings: tuple[str, str]) -> None:
    """Put findings, (severity, code), into the proof of the stored edition."""
    planted = [
        {"code": code, "severity": severity, "newsletter": "today", "variant": "free", "part": "html", "where": "",
         "message": f"Something about {code}."}
        for severity, code in findings
    ]  # fmt: skip
    with writing(desk.engine) as session:
        session.execute(update(EditionRow).values(findings=planted))


def edition(desk: Desk) -> EditionRow:
    """The row of the day's edition."""
    row = desk.find(desk.catalogue["today"], DAY)
    assert row is not None
    return row


def told(desk: Desk) -> list[tuple[str, str, str]]:
    """What the ledger says was decided: verb, by whom, detail."""
    with reading(desk.engine) as session:
        return [(one.verb, one.actor, one.detail) for one in decisions(session, "today", DAY)]


def pages(desk: Desk) -> Visitor:
    """A browser before the readers' pages of that desk."""
    assert isinstance(desk.clock, Moment)
    application = create_app(desk.engine, desk.catalogue, desk.keys, desk.settings, clock=desk.clock)
    return Visitor(application, desk.clock)


def other_words(desk: Desk, greeting: str) -> None:
    """An order after the make-up."""
    go_on(desk, seconds=30)
    order = Order("words", "", fields={"greeting": greeting}, actor="mia")
    desk.give_order(desk.catalogue["today"], DAY, order)
