"""The system's own mails: to the right address, through the provider, and never an exception for a page."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlmodel import select

from newsletter.audience.subscribers import add
from newsletter.notices import Kind, Notices
from newsletter.providers.sendgrid import SendGrid
from newsletter.settings import Keys, Settings
from newsletter.store.session import reading, writing
from newsletter.store.tables import Subscriber
from tests.builders import the_catalogue
from tests.standin import StandIn
from tests.visiting import House, Moment

NOW = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)
ANN, NEW = "ann@mail.example", "ann@new.example"
KEY = "SG.a.key-of-this-test"


def a_reader(engine: Engine, keys: Keys, **fields: Any) -> int:
    """One reader, with *fields* set."""
    add(
        engine,
        ANN,
        catalogue=the_catalogue(),
        keys=keys,
        now=NOW,
        newsletters=("today",),
        name="Ann",
        consent="yes",
    )
    with writing(engine) as session:
        row = session.exec(select(Subscriber)).one()
        for name, value in fields.items():
            setattr(row, name, value)
        session.add(row)
        return row.id or 0


def test_a_change_of_address_is_told_to_both(engine: Engine, keys: Keys, tmp_path: Path) -> None:
    """The new address gets the link, the old one a warning with the new one masked."""
    house = House(engine, keys, tmp_path, Moment(NOW))
    reader = a_reader(engine, keys, pending_email=NEW)
    notices = Notices(
        engine, the_catalogue(), keys, Settings(NEWSLETTER_SYSTEM_OUTBOX=tmp_path), clock=lambda: NOW
    )

    sent = [
        notices.send(Kind.ADDRESS, reader, values={"link": "/address/abc"}),
        notices.send(Kind.ADDRESS_TOLD, reader, values={"new": "a…@n….example"}),
    ]

    mails = {mail.to: mail for mail in house.mails()}
    assert sent == [True, True] and set(mails) == {NEW, f"Ann <{ANN}>"}
    assert mails[NEW].link("address") == "/address/abc"
    assert "a…@n….example" in mails[f"Ann <{ANN}>"].text and NEW not in mails[f"Ann <{ANN}>"].text


def test_the_language_is_the_pages_then_the_readers(engine: Engine, keys: Keys, tmp_path: Path) -> None:
    """Asked on a German page: German; else the reader's; a language we do not speak: the publication's."""
    house = House(engine, keys, tmp_path, Moment(NOW))
    reader = a_reader(engine, keys, language="es-MX")
    notices = Notices(
        engine, the_catalogue(), keys, Settings(NEWSLETTER_SYSTEM_OUTBOX=tmp_path), clock=lambda: NOW
    )

    for language in ("de", "", "ja"):
        notices.send_login(reader, language=language)

    assert sorted(mail.headers["content-language"] for mail in house.mails()) == ["de", "es", "es"]


def test_nobody_is_written_to_who_is_not_there(engine: Engine, keys: Keys, tmp_path: Path) -> None:
    """Erased in between, or no address waiting: nothing is sent and nothing fails."""
    reader = a_reader(engine, keys)
    notices = Notices(
        engine, the_catalogue(), keys, Settings(NEWSLETTER_SYSTEM_OUTBOX=tmp_path), clock=lambda: NOW
    )

    sent = [notices.send(Kind.ADDRESS, reader), notices.send(Kind.LOGIN, 999), notices.send_login(999)]

    assert sent == [False] * 3 and list(tmp_path.rglob("*.eml")) == []


def test_the_real_provider_takes_every_kind(engine: Engine, keys: Keys) -> None:
    """SendGrid's rules hold for each: one reader, both parts, its own edition name, no unfilled tag."""
    reader = a_reader(engine, keys, pending_email=NEW)
    with StandIn(key=KEY) as standin:
        provider = SendGrid(KEY, host=standin.url, timeout_seconds=5.0)
        notices = Notices(engine, the_catalogue(), keys, Settings(), clock=lambda: NOW, provider=provider)

        sent = [
            notices.send(
                kind, reader, values={"link": "/login/abc", "newsletters": ("today",), "new": "a…@n….example"}
            )
            for kind in Kind
        ]

        assert all(sent)
        assert [(one.edition, one.email) for one in standin.accepted] == [
            (f"notice.{kind}", NEW if kind is Kind.ADDRESS else ANN) for kind in Kind
        ]


def test_a_refusal_is_logged_and_not_raised(
    engine: Engine, keys: Keys, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The page has answered already; the log has the kind and the reader's id, not the address or the link."""
    reader = a_reader(engine, keys)
    (tmp_path / "file").write_text("in the way")
    settings = Settings(NEWSLETTER_SYSTEM_OUTBOX=tmp_path / "file")
    notices = Notices(engine, the_catalogue(), keys, settings, clock=lambda: NOW)

    sent = notices.send(Kind.LOGIN, reader, values={"link": "/login/secret-of-this-test"})

    told = "".join(capsys.readouterr())
    with reading(engine) as session:
        public = session.exec(select(Subscriber.reader)).one()
    assert not sent and "notice.not_sent" in told and public in told
    assert ANN not in told and "secret-of-this-test" not in told
