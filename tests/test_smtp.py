"""A relay over SMTP: every mail has its own verdict, and the ledger says exactly who was taken."""

from __future__ import annotations

import email
import email.policy
import os
import signal
import socket
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import SecretStr
from sqlalchemy import Engine
from sqlmodel import col, select

from newsletter.errors import ProviderError, SettingsError
from newsletter.outbox.doubt import settle_by_word
from newsletter.outbox.drain import Mailing, drain
from newsletter.providers import Accepted, Divided, Envelope, Outcome, Refused, Uncertain, make_provider
from newsletter.providers.message import build_message
from newsletter.providers.smtp import MAX_RECIPIENTS, Smtp
from newsletter.providers.smtp_line import relay_of
from newsletter.settings import Settings
from newsletter.store.session import reading, writing
from newsletter.store.tables import Batch, Subscriber, Suppression
from tests import sending
from tests.processes import Forked
from tests.relay import Relay, certificate
from tests.test_message import LEAVE, a_reader, an_envelope
from tests.test_outbox import (
    NEWSLETTER,
    NOW,
    PUBLICATION,
    Postman,
    a_sender,
    add_readers,
    an_edition,
    balance_of,
    freeze,
    the_edition,
)

ROOT = Path(__file__).resolve().parents[1]


def to(relay: Relay, *, login: str = "", **values: Any) -> Smtp:
    """The provider, towards *relay*."""
    url = relay.url.replace("//", f"//{login}@") if login else relay.url
    made = {"timeout_seconds": 5.0, "answer_seconds": 5.0, "clock": lambda: NOW}
    return Smtp(relay_of(url, named="NEWSLETTER_SMTP_URL"), **{**made, **values})


def five(**fields: Any) -> Envelope:
    """An envelope for readers 1 to 5."""
    return an_envelope(*(a_reader(number) for number in range(1, 6)), **fields)


def parts(outcome: Outcome) -> dict[str, tuple[int, ...]]:
    """Who got which verdict."""
    if isinstance(outcome, Divided):
        return {type(verdict).__name__: who for verdict, who in outcome.parts}
    return {type(outcome).__name__: (0, 1, 2, 3, 4)}


def test_each_reader_gets_a_mail_of_their_own() -> None:
    """The bytes a mail folder would get: list headers, one To, the same Message-ID, Date and boundary; one connection."""
    envelope = five(html=f"<p>\n.a line that begins with a dot\n.</p>{LEAVE}")
    with Relay() as relay:
        provider = to(relay)
        outcomes = [provider.submit(envelope), provider.submit(an_envelope(a_reader(6)))]

    assert outcomes == [Accepted(), Accepted()]
    assert relay.readers == [f"reader{number}@example.org" for number in range(1, 7)]
    assert (relay.connections, relay.senders) == (1, {"today@theparallel.example"})
    reader, (_, data) = envelope.recipients[2], relay.taken[2]
    assert data == build_message(envelope, reader).as_bytes().rstrip(b"\r\n") + b"\r\n"
    headers = email.message_from_bytes(data, policy=email.policy.default)
    assert (headers["To"], headers["List-ID"], headers["List-Unsubscribe"], headers["List-Unsubscribe-Post"]) == (
        "Ada Reader <reader3@example.org>", "Today <today.theparallel.example>", f"<{reader.unsubscribe_url}>",
        "List-Unsubscribe=One-Click",
    )  # fmt: skip


@pytest.mark.parametrize("is_tls", [True, False])
def test_mails_and_passwords_go_encrypted(tmp_path: Path, is_tls: bool) -> None:
    """From the first byte, or by STARTTLS; a certificate nobody vouches for stops everything."""
    shown, trusted = certificate(tmp_path)
    with Relay(
        tls=shown if is_tls else None, starttls=None if is_tls else shown, login=("ann", "s3@cret")
    ) as relay:
        told = to(relay, login="ann:s3%40cret", tls=trusted).submit(five())
        strange = Smtp(relay_of(relay.url, named="X"), timeout_seconds=5, clock=lambda: NOW)
        strange._must_encrypt = True
        refused = strange.submit(five())

    assert told == Accepted()
    assert relay.was_encrypted == {True}
    assert isinstance(refused, Refused) and refused.stop_run and "certificate" in refused.reason
    assert len(relay.taken) == 5


def test_nothing_goes_unencrypted_over_the_network() -> None:
    """A relay elsewhere that offers no STARTTLS gets nothing, least of all the password."""
    with Relay(login=("ann", "secret")) as relay:
        provider = to(relay, login="ann:secret")
        provider._must_encrypt = True
        outcome = provider.submit(five())

    assert isinstance(outcome, Refused) and outcome.stop_run and "STARTTLS" in outcome.reason
    assert relay.offered == 0


@pytest.mark.parametrize(("login", "step"), [("ann:wrong", "the login"), ("", "MAIL")])
def test_a_login_that_fails_stops_the_run(login: str, step: str) -> None:
    """Wrong or missing: nothing was taken, and nobody is failed for it."""
    with Relay(login=("ann", "secret")) as relay:
        outcome = to(relay, login=login).submit(five())

    assert isinstance(outcome, Refused) and outcome.stop_run
    assert f"to {step}" in outcome.reason and "wrong" not in outcome.reason


@pytest.mark.parametrize(
    ("script", "expected", "taken"),
    [
        (["", "", "rcpt 550 5.1.1 <reader3@example.org> is nobody"], {"Accepted": (0, 1, 3, 4), "Refused": (2,)}, 4),
        (["", "", "rcpt 450 4.2.1 try later"], {"Accepted": (0, 1, 3, 4), "Refused": (2,)}, 4),
        (["", "", "end 554 5.7.1 looks like spam"], {"Accepted": (0, 1, 3, 4), "Refused": (2,)}, 4),
        (["", "", "data 554 5.5.1 no"], {"Accepted": (0, 1, 3, 4), "Refused": (2,)}, 4),
        (["", "", "drop-mail"], {"Accepted": (0, 1, 2, 3, 4)}, 5),
        (["", "", "421-mail"], {"Accepted": (0, 1, 2, 3, 4)}, 5),
        (["", "", "421-data"], {"Accepted": (0, 1, 2, 3, 4)}, 5),
        (["", "", "drop-taken"], {"Accepted": (0, 1), "Uncertain": (2,), "Refused": (3, 4)}, 3),
        (["", "", "drop-untaken"], {"Accepted": (0, 1), "Uncertain": (2,), "Refused": (3, 4)}, 2),
        (["", "", "garbage"], {"Accepted": (0, 1), "Uncertain": (2,), "Refused": (3, 4)}, 3),
        (["", "mail 451 4.3.0 not now"], {"Accepted": (0,), "Refused": (1, 2, 3, 4)}, 1),
        (["drop-mail"], {"Refused": (0, 1, 2, 3, 4)}, 0),
    ],
    ids=str,
)  # fmt: skip
def test_what_of_a_batch_was_taken_is_told_exactly(
    script: list[str], expected: dict[str, tuple[int, ...]], taken: int
) -> None:
    """One bad mail of five; a connection that carried something and ends is opened again."""
    with Relay(script) as relay:
        outcome = to(relay).submit(five())

    merged: dict[str, tuple[int, ...]] = {}
    for verdict, who in outcome.parts if isinstance(outcome, Divided) else ((outcome, (0, 1, 2, 3, 4)),):
        merged[type(verdict).__name__] = (*merged.get(type(verdict).__name__, ()), *who)
    assert merged == expected
    assert len(relay.taken) == len(set(relay.readers)) == taken


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("rcpt 550 5.1.1 <reader3@example.org> unknown", {"unfit": True, "recipients": (0,), "gone": True}),
        ("rcpt 552 5.2.2 mailbox full", {"unfit": True, "recipients": (0,)}),
        ("rcpt 550 5.7.1 relaying denied", {"unfit": True}),
        ("rcpt 550 no", {"unfit": True}),
        ("rcpt 553 5.1.8 bad sender's domain", {"unfit": True}),
        ("end 552 5.3.4 too large", {"unfit": True}),
        ("mail 552 5.3.4 too large", {"unfit": True}),
        ("mail 550 5.7.1 not your address", {"stop_run": True}),
        ("mail 451 4.3.0 not now", {"retry_at": NOW + timedelta(seconds=5), "slow_down": True}),
        ("rcpt 451 4.7.1 greylisted", {"retry_at": NOW + timedelta(minutes=5)}),
        ("data 451 4.3.0 not now", {"retry_at": NOW + timedelta(minutes=5)}),
        ("end 452 4.3.1 disk full", {"retry_at": NOW + timedelta(minutes=5)}),
        ("end 421 4.3.2 going down", {"retry_at": NOW + timedelta(minutes=5)}),
    ],
)
def test_each_answer_is_about_somebody(answer: str, expected: dict[str, Any]) -> None:
    """The reader, this mail, or us: for now or for good; nobody's address is repeated."""
    with Relay([answer]) as relay:
        outcome = to(relay).submit(an_envelope(a_reader(3)))

    assert isinstance(outcome, Refused)
    assert outcome == Refused(outcome.reason, **expected)
    assert answer.split()[1] in outcome.reason and "@" not in outcome.reason


def test_who_is_deferred_too_often_fails() -> None:
    """Twice as long each time, and the sixth answer is the last."""
    with Relay(["rcpt 451 4.7.1 greylisted"] * 3) as relay:
        outcomes = [to(relay).submit(an_envelope(a_reader(1), batch=f"7.{attempt}")) for attempt in (2, 5, 6)]

    waits = [outcome.retry_at for outcome in outcomes if isinstance(outcome, Refused)]
    assert waits == [NOW + timedelta(minutes=10), NOW + timedelta(minutes=80), None]


def test_a_large_mail_that_is_cut_off_certainly_was_not_taken() -> None:
    """Its final dot never left; that of a small one may have."""
    with Relay(["drop-data"]) as relay:
        outcome = to(relay).submit(an_envelope(html="<p>" + "x" * 9_000_000 + LEAVE))

    assert isinstance(outcome, Refused) and outcome.retry_at is not None
    assert relay.taken == []


def test_an_answer_that_does_not_come_in_time_leaves_doubt() -> None:
    """The relay took it, and said so too late."""
    with Relay(slow_seconds=1.0) as relay:
        outcome = to(relay, answer_seconds=0.2).submit(an_envelope())
        patience = time.monotonic() + 5
        while not relay.taken and time.monotonic() < patience:
            time.sleep(0.01)

    assert isinstance(outcome, Uncertain)


def test_what_the_relay_cannot_take_is_not_sent() -> None:
    """Larger than it says it takes, or an address it has no letters for."""
    with Relay(largest=2000, speaks_utf8=False) as relay:
        large = to(relay).submit(an_envelope(html="<p>" + "x" * 3000 + LEAVE))
        strange = to(relay).submit(an_envelope(a_reader(1, email="jörg@example.org"), html=LEAVE))

    assert isinstance(large, Refused) and large == Refused(large.reason, unfit=True)
    assert isinstance(strange, Refused) and strange == Refused(strange.reason, unfit=True, recipients=(0,))
    assert relay.taken == []


def test_an_address_beyond_ascii_is_taken_where_it_can_be() -> None:
    """By SMTPUTF8."""
    with Relay() as relay:
        assert to(relay).submit(an_envelope(a_reader(1, email="jörg@example.org"))) == Accepted()

    assert relay.readers == ["jörg@example.org"]


def test_where_nobody_listens_nothing_was_taken() -> None:
    """Refused, or silent: it goes again a little later."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        url = f"smtp://127.0.0.1:{port}"
        slow = Smtp(relay_of(url, named="X"), timeout_seconds=0.2, clock=lambda: NOW).submit(five())
    nobody = Smtp(relay_of(url, named="X"), timeout_seconds=0.2, clock=lambda: NOW).submit(five())

    for outcome in (slow, nobody):
        assert isinstance(outcome, Refused)
        assert outcome == Refused(outcome.reason, retry_at=NOW + timedelta(seconds=5), slow_down=True)


# --- the ledger ---------------------------------------------------------------------------------


def sent(engine: Engine, relay: Relay, edition_id: int, *, wait: timedelta = timedelta()) -> None:
    """Freeze if nobody has, and drain, *wait* after the freeze."""
    freeze(
        engine, NEWSLETTER, PUBLICATION, edition_id, now=NOW, at=NOW, batch_size=MAX_RECIPIENTS
    )  # fmt: skip
    sender = a_sender(engine, Postman())
    at = NOW + wait
    object.__setattr__(sender, "provider", to(relay, clock=lambda: at))
    if wait:
        sender.sleep(wait.total_seconds())
    drain(sender, [Mailing(NEWSLETTER, PUBLICATION, edition_id)], now=NOW)


def test_a_batch_that_broke_off_is_accounted_to_the_reader(engine: Engine) -> None:
    """Taken, refused, in doubt and not begun, each where they belong; the rest goes, the doubt waits for a person."""
    add_readers(engine, 30, paying_every=99)
    edition = an_edition(engine)
    script = ["", "rcpt 550 5.1.1 nobody", "", "drop-taken"]
    with Relay(script) as relay:
        sent(engine, relay, edition)

        assert balance_of(engine, edition) == (30, 0, 28, 0, 1, 1)
        assert len(relay.taken) == 29 and max(Counter(relay.readers).values()) == 1
        with reading(engine) as session:
            (doubt,) = session.exec(select(Batch).where(Batch.state == "uncertain"))
            suppressed = session.exec(select(Suppression.address_hash, Suppression.reason)).all()
            status = session.get_one(Subscriber, 2).status
        assert (suppressed, status) == ([("h2", "bounced")], "bounced")
        settle_by_word(engine, edition, doubt.seq, "submitted", at=NOW, actor="ann")

    assert balance_of(engine, edition) == (30, 0, 29, 0, 1, 0)
    assert the_edition(engine, edition).status == "submitted"


def test_who_is_deferred_goes_later_and_the_others_at_once(engine: Engine) -> None:
    """The edition stays open for one reader, who gets it after the relay's grey list has let them through."""
    add_readers(engine, 10, paying_every=99)
    edition = an_edition(engine)
    with Relay(["rcpt 451 4.7.1 greylisted"]) as relay:
        sent(engine, relay, edition)
        first = balance_of(engine, edition)
        sent(engine, relay, edition, wait=timedelta(minutes=2))
        early = balance_of(engine, edition)
        sent(engine, relay, edition, wait=timedelta(minutes=6))

    assert (first, early) == ((10, 1, 9, 0, 0, 0), (10, 1, 9, 0, 0, 0))
    assert balance_of(engine, edition) == (10, 0, 10, 0, 0, 0)
    assert sorted(Counter(relay.readers).values()) == [1] * 10


def test_a_mail_the_relay_never_takes_pauses_its_edition(engine: Engine) -> None:
    """Nobody is failed for what is refused whoever it is for."""
    add_readers(engine, 6, paying_every=99)
    edition = an_edition(engine)
    with Relay(["end 554 5.7.1 looks like spam"] * 99) as relay:
        sent(engine, relay, edition)

    assert balance_of(engine, edition) == (6, 6, 0, 0, 0, 0)
    assert the_edition(engine, edition).status == "paused"
    assert "looks like spam" in the_edition(engine, edition).reason


def test_a_relay_that_refuses_us_fails_nobody(engine: Engine) -> None:
    """A sentence for the operator, and everybody still waits."""
    add_readers(engine, 6, paying_every=99)
    edition = an_edition(engine)
    with (
        Relay(["mail 550 5.7.1 not your address"] * 9) as relay,
        pytest.raises(ProviderError, match="not your"),
    ):
        sent(engine, relay, edition)

    assert balance_of(engine, edition) == (6, 6, 0, 0, 0, 0)


ACTIONS = (
    "", "", "", "drop-mail", "drop-data", "drop-taken", "drop-untaken", "garbage", "421-mail", "421-data",
    "rcpt 550 5.1.1 nobody", "rcpt 451 4.7.1 later", "end 552 5.3.4 too large", "end 451 4.3.0 later", "mail 421 4.3.2 x",
)  # fmt: skip


@hypothesis_settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(script=st.lists(st.sampled_from(ACTIONS), max_size=25))
def test_whatever_the_relay_does_the_books_balance(
    migrated_file: Path, tmp_path_factory: Any, script: list[str]
) -> None:
    """Nobody is taken twice, and whoever was taken is submitted or in doubt."""
    from newsletter.outbox.accounts import why
    from newsletter.store.session import open_store

    file = tmp_path_factory.mktemp("books") / "subscribers.db"
    file.write_bytes(migrated_file.read_bytes())
    engine = open_store(f"sqlite:///{file}", migrate=False)
    add_readers(engine, 12, paying_every=99)
    edition = an_edition(engine)
    with Relay(script) as relay:
        sent(engine, relay, edition)
        balance_of(engine, edition)
        taken = set(relay.readers)
    assert len(taken) == len(relay.taken)
    row = the_edition(engine, edition)
    with reading(engine) as session:
        for reader in session.exec(select(Subscriber).order_by(col(Subscriber.id))):
            verdict = why(session, row, "daily", reader).verdict
            assert (verdict in ("submitted", "uncertain")) >= (reader.email in taken)
            assert verdict != "submitted" or reader.email in taken
    engine.dispose()


def test_a_killed_sender_leaves_only_its_batch_in_doubt(engine: Engine) -> None:
    """Killed between two mails of a batch: twenty at most are in doubt, nobody gets it twice afterwards."""
    add_readers(engine, 50, paying_every=99)
    edition = an_edition(engine)
    freeze(engine, NEWSLETTER, PUBLICATION, edition, now=NOW, at=NOW, batch_size=MAX_RECIPIENTS)
    victim: list[Forked] = []

    def kill(number: int) -> None:
        if number == 27:
            os.kill(victim[0].pid, signal.SIGKILL)

    with Relay(on_taken=kill) as relay:
        url = engine.url.render_as_string(hide_password=False)
        options = ["--database", url, "--sink", relay.url, "--edition", str(edition), "--in-flight", "1"]
        victim.append(Forked(sending.main, options))
        assert victim[0].hear() == "ready\n"
        victim[0].tell("\n")
        victim[0].communicate()
        sent(engine, relay, edition)

    assert victim[0].poll() == -signal.SIGKILL
    assert balance_of(engine, edition) == (50, 0, 30, 0, 0, 20)
    assert sorted(Counter(relay.readers).values()) == [1] * 37
    with writing(engine) as session:
        assert session.exec(select(Batch.n).where(Batch.state == "uncertain")).all() == [20]


# --- settings and the doctor --------------------------------------------------------------------


def settings(**values: Any) -> Settings:
    """Settings of a sender over SMTP, without the machine's own environment."""
    made = {
        "provider": "smtp",
        "smtp_url": SecretStr("smtp://u:p@relay.example"),
        "base_url": "https://news.example",
    }
    return Settings(_env_file=None, **{**made, **values})


def test_fit_settings_have_no_problems() -> None:
    """An address of a relay and a public address of the pages."""
    provider = make_provider(settings(smtp_return_path="bounces@news.example"))

    assert (provider.name, provider.max_recipients, provider.problems()) == ("smtp", 20, [])
    assert len(make_provider(settings(base_url="http://127.0.0.1:8000")).problems()) == 1


@pytest.mark.parametrize(
    "values",
    [
        {"smtp_url": SecretStr("")},
        {"smtp_url": SecretStr("http://relay.example")},
        {"smtp_url": SecretStr("smtp://u:s3cret@relay.example:x")},
        {"smtp_url": SecretStr("smtp://u:s3/cret@relay.example")},
        {"smtp_return_path": "not an address"},
    ],
)
def test_settings_it_cannot_work_with_are_refused(values: dict[str, Any]) -> None:
    """The variable is named, its value is not."""
    with pytest.raises(SettingsError, match="NEWSLETTER_SMTP") as told:
        make_provider(settings(**values))

    assert "s3" not in str(told.value)


def test_bounces_go_where_they_are_told_to() -> None:
    """The return path, else the sender."""
    with Relay() as relay:
        to(relay, return_path="bounces@news.example").submit(an_envelope())

    assert relay.senders == {"bounces@news.example"}


@pytest.mark.parametrize(
    ("values", "login", "expected"),
    [
        ({}, "", [("relay", "ok")]),
        ({"login": ("ann", "s")}, "ann:s", [("relay", "ok")]),
        ({"login": ("ann", "s")}, "ann:x", [("relay", "error")]),
        ({}, "ann:x", [("relay", "error")]),
        ({"largest": 100_000}, "", [("relay", "ok"), ("relay-size", "warning")]),
    ],
)
def test_the_doctor_looks_at_the_relay(
    values: dict[str, Any], login: str, expected: list[tuple[str, str]]
) -> None:
    """Connection, login and the size it takes; nothing is sent."""
    with Relay(**values) as relay:
        found = list(to(relay, login=login).look("news.example"))

    assert [(one.name, one.severity) for one in found] == expected
    assert relay.offered == 0
