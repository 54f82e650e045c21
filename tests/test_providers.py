"""Handing envelopes over: SendGrid's client against a local stand-in, and the folder of mails."""

from __future__ import annotations

import email
import email.policy
import json
import logging
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import SecretStr

from newsletter.audience.tokens import Signer
from newsletter.edition import PERSONAL_TAGS
from newsletter.errors import ProviderError, SettingsError
from newsletter.providers import Accepted, Envelope, Outcome, Recipients, Refused, Uncertain, make_provider
from newsletter.providers.maildir import Maildir
from newsletter.providers.sendgrid import SendGrid
from newsletter.providers.sendgrid_payload import encode, payload
from newsletter.settings import Keys, Settings
from tests.standin import Action, StandIn, Taken, faults
from tests.test_message import LEAVE, a_reader, an_envelope

KEY = "SG.test-key-that-opens-nothing"
KEYS = Keys(signing=(b"k" * 32,), suppression=b"s" * 32)
NOW = datetime(2026, 2, 18, 5, 0, tzinfo=UTC)
ROOT = Path(__file__).resolve().parents[1]
NOWHERE = SendGrid(
    KEY, host="http://127.0.0.1:9", clock=lambda: NOW, jitter=lambda: 0.0
)  # nobody listens there


@pytest.fixture
def standin() -> Any:
    """A fresh stand-in."""
    with StandIn(key=KEY) as one:
        yield one


def a_sender(standin: StandIn, **values: Any) -> SendGrid:
    """The real client towards the stand-in."""
    made = {"host": standin.url, "timeout_seconds": 5.0, "clock": lambda: NOW, "jitter": lambda: 0.5}
    return SendGrid(KEY, **{**made, **values})


def submitted(
    standin: StandIn, action: Action, *, envelope: Envelope | None = None, **values: Any
) -> Outcome:
    """What becomes of one envelope of three readers under *action*."""
    standin.script([action])
    three = an_envelope(a_reader(1), a_reader(2), a_reader(3))
    return a_sender(standin, **values).submit(envelope or three)


def test_a_full_request_is_taken_reader_by_reader(standin: StandIn) -> None:
    """1000 readers fit into one request, and each is accepted once, in order, with their own ids."""
    readers = tuple(a_reader(number) for number in range(1000))

    outcome = a_sender(standin).submit(an_envelope(*readers, html="<p>x</p>" * 8_000 + LEAVE))

    assert isinstance(outcome, Accepted) and outcome.provider_id.startswith("standin.1000.")
    assert standin.accepted == [
        Taken("today.2026-02-18.1", "7.1", reader.reader, reader.email) for reader in readers
    ]
    assert (standin.headers[0]["Authorization"], standin.headers[0]["Content-Type"]) == (
        f"Bearer {KEY}",
        "application/json",
    )


def test_the_payload_is_what_the_contract_says() -> None:
    """Every field of a request for one reader, and no other."""
    reader = a_reader(1, name="Reader; Ada,\r\nDr")

    body = payload(an_envelope(reader, list_name="Été"), sandbox=False)

    assert body == {
        "personalizations": [
            {
                "to": [{"email": "reader1@example.org", "name": "Reader Ada Dr"}],
                "headers": {
                    "List-Unsubscribe": f"<{reader.unsubscribe_url}>",
                    "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
                },
                "substitutions": reader.values,
                "custom_args": {
                    "nl_edition": "today.2026-02-18.1",
                    "nl_batch": "7.1",
                    "nl_reader": reader.reader,
                },
            }
        ],
        "from": {"email": "today@theparallel.example", "name": "The Parallel"},
        "reply_to": {"email": "desk@theparallel.example", "name": "The Desk"},
        "subject": "Morning: rain over Lyon",
        "content": [
            {"type": "text/plain", "value": an_envelope().text},
            {"type": "text/html", "value": an_envelope().html},
        ],
        "headers": {"List-ID": "=?utf-8?b?w4l0w6k=?= <today.theparallel.example>"},
        "categories": ["today", "paying"],
        "tracking_settings": {
            "click_tracking": {"enable": True, "enable_text": False},
            "open_tracking": {"enable": True},
            "subscription_tracking": {"enable": False},
            "ganalytics": {"enable": False},
        },
    }


def test_what_is_empty_is_left_out() -> None:
    """An empty name, a missing reply-to, an absent part or link are not sent as empty strings."""
    body = payload(
        an_envelope(a_reader(name=" ;,", values={}, unsubscribe_url=""), reply_to=None, html="", list_id=""),
        sandbox=False,
    )

    one = body["personalizations"][0]
    assert (one.keys(), one["to"]) == ({"to", "custom_args"}, [{"email": "reader1@example.org"}])
    assert [part["type"] for part in body["content"]] == ["text/plain"]
    assert not body.keys() & {"reply_to", "headers", "mail_settings", "asm"}


@given(
    st.text(st.characters(), max_size=60),
    st.text(st.characters(), min_size=1, max_size=60),
    st.text(max_size=60),
)
def test_any_name_and_subject_is_taken(name: str, subject: str, list_name: str) -> None:
    """Whatever a name or subject holds, the request is one the service takes."""
    body = payload(
        an_envelope(a_reader(name=name), subject=f"x{subject}", list_name=list_name, is_test=True),
        sandbox=True,
    )

    assert faults(json.loads(json.dumps(body))) == []


@given(st.lists(st.sampled_from(["a@x.example", "A@X.example", "b@x.example", "c@y.example"]), max_size=4))
def test_an_address_is_never_twice_in_a_request(addresses: list[str]) -> None:
    """A batch with an address twice, however written, is split before anything is sent."""
    envelope = an_envelope(*(a_reader(number, email=address) for number, address in enumerate(addresses)))
    envelope = replace(envelope, recipients=envelope.recipients if addresses else ())

    outcome = NOWHERE.submit(envelope)

    is_twice = len({address.lower() for address in addresses}) < len(addresses)
    assert is_twice == (isinstance(outcome, Refused) and outcome.split)


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ("accept_without_id", Accepted("")),
        (("refuse", 2), {"unfit": True, "recipients": (2,)}),
        ("refuse", {"unfit": True}),
        (("refuse_field", "personalizations[1].to[0].email"), {"unfit": True, "recipients": (1,)}),
        (("refuse_field", "personalizations.77.to"), {"unfit": True}),
        (("refuse_field", "from.email"), {"unfit": True, "stop_run": True}),
        ("unauthorized", {"stop_run": True}),
        ("forbidden", {"stop_run": True}),
        ("not_found", {"stop_run": True}),
        ("moved", {"stop_run": True}),
        ("too_large", {"split": True}),
        (("retry_after", 30), {"retry_at": NOW + timedelta(seconds=30.5), "slow_down": True}),
        (
            ("retry_after", "Wed, 18 Feb 2026 05:00:10 GMT"),
            {"retry_at": NOW + timedelta(seconds=10.5), "slow_down": True},
        ),
        (("retry_after", "soon"), {"retry_at": NOW + timedelta(seconds=1.5), "slow_down": True}),
        (("retry_after", 999_999), {"retry_at": NOW + timedelta(hours=1, seconds=0.5), "slow_down": True}),
    ],
    ids=str,
)
def test_a_certain_answer_is_read_as_such(
    standin: StandIn, action: Action, expected: Accepted | dict[str, Any]
) -> None:
    """Each answer that tells what became of the request gets its own outcome."""
    outcome = submitted(standin, action)

    if isinstance(expected, Accepted):
        assert outcome == expected
    else:
        assert isinstance(outcome, Refused)
        assert outcome == Refused(outcome.reason, **expected)
        assert standin.accepted == []


def test_a_rate_limit_says_when_to_come_back(standin: StandIn) -> None:
    """The wait ends at the reset the service names, plus the jitter, and never at once."""
    standin.script([("rate_limit", 40), ("rate_limit", -40)])
    now = datetime.now(UTC)
    sender = a_sender(standin, clock=lambda: now)

    later, past = sender.submit(an_envelope()), sender.submit(an_envelope())

    assert isinstance(later, Refused) and isinstance(past, Refused)
    assert later.retry_at is not None and past.retry_at == now + timedelta(seconds=1.5)
    assert timedelta(seconds=38) < later.retry_at - now < timedelta(seconds=43)


@pytest.mark.parametrize(
    ("action", "is_taken"),
    [
        ("server_error_before", False),
        ("server_error_after", True),
        ("accept_with_200", True),
        ("bad_gateway", False),
        ("redirect", False),
        (("stall", 5), True),
        (("stall_before", 5), False),
        ("drop_after_accept", True),
        ("reset_after_accept", True),
        ("drop_before_body", False),
        ("truncated", True),
        ("garbage", True),
    ],
    ids=str,
)
def test_a_lost_answer_is_uncertain(standin: StandIn, action: Action, is_taken: bool) -> None:
    """Nobody can tell from outside whether these were taken, so they are neither failures nor retries."""
    outcome = submitted(standin, action, timeout_seconds=0.3)

    patience = time.monotonic() + 5
    while is_taken and not standin.accepted and time.monotonic() < patience:
        time.sleep(0.01)
    assert isinstance(outcome, Uncertain)
    assert len(standin.accepted) == (3 if is_taken else 0)
    assert len(standin.requests) <= 1


def test_a_large_body_cut_off_in_the_middle_is_certainly_refused(standin: StandIn) -> None:
    """The last byte never left, so the request is not whole over there: nothing was taken, it goes again."""
    outcome = submitted(
        standin, "drop_before_body", envelope=an_envelope(html="<p>" + "x" * 8_000_000 + LEAVE)
    )

    assert isinstance(outcome, Refused) and outcome.retry_at is not None
    assert standin.accepted == []


def test_a_refused_connection_is_a_certain_refusal() -> None:
    """Where nobody listens nothing was sent: try again a little later."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    sender = SendGrid(KEY, host=f"http://127.0.0.1:{port}", clock=lambda: NOW, jitter=lambda: 1.0)

    outcome = sender.submit(an_envelope())

    assert isinstance(outcome, Refused)
    assert outcome == Refused(outcome.reason, retry_at=NOW + timedelta(seconds=6))


def test_an_unknown_name_is_a_certain_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the name is not found nothing was sent: try again a little later."""

    def nobody(*_: Any, **__: Any) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    sender = SendGrid(KEY, clock=lambda: NOW, jitter=lambda: 1.0)

    outcome = sender.submit(an_envelope())

    assert outcome == Refused("No connection to SendGrid (gaierror).", retry_at=NOW + timedelta(seconds=6))


def test_a_failed_handshake_is_a_certain_refusal() -> None:
    """Where no TLS connection comes about, no byte of the request has left."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer_nonsense() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1024)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer_nonsense)
        thread.start()
        sender = SendGrid(
            KEY,
            host=f"https://127.0.0.1:{server.getsockname()[1]}",
            timeout_seconds=2,
            clock=lambda: NOW,
            jitter=lambda: 0.0,
        )
        outcome = sender.submit(an_envelope())
        thread.join()

    assert isinstance(outcome, Refused) and outcome.retry_at == NOW + timedelta(seconds=5)


def test_a_handshake_that_never_ends_is_a_certain_refusal() -> None:
    """A time-out while connecting is told from one while waiting for the answer."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        host = f"https://127.0.0.1:{server.getsockname()[1]}"
        sender = SendGrid(KEY, host=host, timeout_seconds=0.2, clock=lambda: NOW, jitter=lambda: 0.0)

        outcome = sender.submit(an_envelope())

    assert isinstance(outcome, Refused) and outcome.retry_at is not None


def test_the_sandbox_answers_200_and_takes_nothing(standin: StandIn) -> None:
    """In the sandbox 200 is a success; outside it 200 is an answer we do not know."""
    inside = a_sender(standin, sandbox=True).submit(an_envelope())

    assert (inside, standin.accepted, standin.statuses) == (Accepted(), [], [200])


def test_too_much_for_one_request_is_split_before_it_is_sent(standin: StandIn) -> None:
    """1001 readers or 30 MB never reach the network."""
    many = a_sender(standin).submit(an_envelope(*(a_reader(number) for number in range(1001))))
    large = a_sender(standin).submit(an_envelope(html="ä" * 15_000_000 + LEAVE))

    assert isinstance(many, Refused) and many.split
    assert isinstance(large, Refused) and large.split
    assert standin.statuses == []


def test_a_batch_of_nobody_needs_no_request(standin: StandIn) -> None:
    """All its readers left between freeze and send: that is done, not an error."""
    assert a_sender(standin).submit(replace(an_envelope(), recipients=())) == Accepted()
    assert standin.statuses == []


def test_nothing_secret_is_said_or_logged(
    standin: StandIn, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """No reason and no log line, even at DEBUG, repeats an address, a token or the key."""
    caplog.set_level(logging.DEBUG)
    sender = a_sender(standin, timeout_seconds=0.3)
    actions: list[Action] = [
        "accept",
        ("refuse", 0),
        "unauthorized",
        "drop_after_accept",
        "server_error_after",
    ]
    standin.script([*actions, ("refuse_field", "reader1@example.org")])

    outcomes = [sender.submit(an_envelope()) for _ in range(6)]

    said = caplog.text + "".join(map(repr, outcomes)) + "".join(capsys.readouterr())
    for secret in (KEY, "reader1@example.org", a_reader(1).unsubscribe_url):
        assert secret not in said


def test_threads_share_one_provider(standin: StandIn) -> None:
    """Many envelopes at once through one provider are each taken once."""
    sender = a_sender(standin)
    envelopes = [an_envelope(a_reader(number), batch=f"{number}.1") for number in range(40)]

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(sender.submit, envelopes))

    assert all(isinstance(outcome, Accepted) for outcome in outcomes)
    assert sorted(taken.reader for taken in standin.accepted) == [
        a_reader(number).reader for number in range(40)
    ]


def test_a_proxy_of_the_environment_is_not_used_for_this_machine(
    standin: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in or relay on loopback is reached directly."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)

    assert isinstance(a_sender(standin).submit(an_envelope()), Accepted)


def test_a_wrong_key_is_refused_as_a_whole(standin: StandIn) -> None:
    """The stand-in lets in one key only; another stops the run."""
    outcome = SendGrid("SG.other", host=standin.url).submit(an_envelope())

    assert isinstance(outcome, Refused) and outcome.stop_run


def settings(**values: Any) -> Settings:
    """Settings of a sender fit to send, without the machine's own environment."""
    made = {
        "provider": "sendgrid",
        "sendgrid_api_key": SecretStr(KEY),
        "sendgrid_host": "https://api.eu.sendgrid.com",
        "sendgrid_webhook_public_key": "MFkw",
        "sendgrid_sandbox": False,
        "base_url": "https://news.example",
    }
    return Settings(_env_file=None, **{**made, **values})


def test_fit_settings_have_no_problems() -> None:
    """With a key, a webhook key and a public address there is nothing to mend."""
    provider = make_provider(settings())

    assert (provider.name, provider.max_recipients, provider.problems()) == ("sendgrid", 1000, [])


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"sendgrid_api_key": SecretStr("sk-123")}, "SENDGRID_API_KEY"),
        ({"sendgrid_webhook_public_key": ""}, "SENDGRID_WEBHOOK_PUBLIC_KEY"),
        ({"base_url": "http://127.0.0.1:8000"}, "NEWSLETTER_BASE_URL"),
        ({"sendgrid_sandbox": True}, "SENDGRID_SANDBOX"),
        ({"sendgrid_host": "http://127.0.0.1:9"}, "SENDGRID_HOST"),
    ],
)
def test_each_problem_names_the_setting_to_mend(values: dict[str, Any], named: str) -> None:
    """A setting that spoils a real send is named, and nothing else is."""
    problems = SendGrid.from_settings(settings(**values)).problems()

    assert len(problems) == 1 and problems[0].startswith(named)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"sendgrid_api_key": SecretStr("  ")}, "SENDGRID_API_KEY"),
        ({"sendgrid_api_key": SecretStr("SG.a\nX: y")}, "SENDGRID_API_KEY"),
        ({"sendgrid_host": "http://api.sendgrid.com"}, "SENDGRID_HOST"),
        ({"sendgrid_host": "api.sendgrid.com"}, "SENDGRID_HOST"),
    ],
)
def test_settings_it_cannot_work_with_are_refused(values: dict[str, Any], named: str) -> None:
    """Without a usable key, or where the key would go unencrypted, there is no provider."""
    with pytest.raises(SettingsError, match=named):
        make_provider(settings(**values))


def eml_files(root: Path) -> list[str]:
    """What lies under *root*, hidden files too."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_maildir_writes_one_file_a_reader(tmp_path: Path) -> None:
    """Files lie by date and newsletter, and a mail program reads them."""
    outcome = Maildir(tmp_path).submit(an_envelope(a_reader(1), a_reader(2)))

    folder = tmp_path / "2026-02-18" / "today"
    assert outcome == Accepted("maildir:2")
    assert eml_files(folder) == [f"{1:024x}.eml", f"{2:024x}.eml"]
    message = email.message_from_bytes((folder / f"{2:024x}.eml").read_bytes(), policy=email.policy.default)
    assert message["List-Unsubscribe"] == f"<{a_reader(2).unsubscribe_url}>"


def test_maildir_keeps_a_correction_beside_the_first(tmp_path: Path) -> None:
    """Revision 2 does not overwrite revision 1; a second attempt at either changes nothing."""
    maildir = Maildir(tmp_path)

    for edition in ("today.2026-02-18.1", "today.2026-02-18.2", "today.2026-02-18.2"):
        maildir.submit(an_envelope(edition=edition))

    assert eml_files(tmp_path / "2026-02-18" / "today") == [f"{1:024x}.eml", f"{1:024x}.r2.eml"]


@hypothesis_settings(max_examples=50)
@given(reader=st.text(min_size=1), edition=st.text(), batch=st.text())
def test_maildir_stays_in_its_folder(
    reader: str, edition: str, batch: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """No reader, edition or batch name leads out of the folder or hides a file."""
    root = tmp_path_factory.mktemp("maildir")

    outcome = Maildir(root / "in").submit(an_envelope(a_reader(reader=reader), edition=edition, batch=batch))

    (written,) = eml_files(root)
    assert outcome == Accepted("maildir:1")
    assert written.startswith("in/") and written.endswith(".eml") and "/." not in written


def test_maildir_tells_strange_readers_apart(tmp_path: Path) -> None:
    """Two names that are written alike as files do not meet."""
    Maildir(tmp_path).submit(an_envelope(a_reader(1, reader="a/b"), a_reader(2, reader="a:b")))

    assert len(eml_files(tmp_path)) == 2


def test_maildir_refuses_a_reader_twice(tmp_path: Path) -> None:
    """The second mail would overwrite the first, and one would be counted that is not there."""
    outcome = Maildir(tmp_path).submit(an_envelope(a_reader(1), a_reader(1)))

    assert isinstance(outcome, Refused) and outcome.split
    assert eml_files(tmp_path) == []


def test_maildir_refuses_when_nothing_can_be_written(tmp_path: Path) -> None:
    """A folder that cannot be made stops the run with a sentence, and is named beforehand."""
    (tmp_path / "outbox").write_text("a file where the folder should be")
    maildir = Maildir(tmp_path / "outbox")

    outcome = maildir.submit(an_envelope())

    assert isinstance(outcome, Refused) and outcome.stop_run and "could be written" in outcome.reason
    assert len(maildir.problems()) == 2


def test_maildir_takes_back_what_it_wrote_when_it_cannot_finish(tmp_path: Path) -> None:
    """When one file cannot be put in place, the others of the call are gone too: all or none."""
    folder = tmp_path / "2026-02-18" / "today"
    (folder / f"{3:024x}.eml").mkdir(parents=True)

    outcome = Maildir(tmp_path).submit(an_envelope(*(a_reader(number) for number in range(1, 6))))

    assert isinstance(outcome, Refused)
    assert eml_files(tmp_path) == []


def test_maildir_names_who_cannot_be_written_to(tmp_path: Path) -> None:
    """A reader without a usable address is named, and nothing is written."""
    outcome = Maildir(tmp_path).submit(an_envelope(a_reader(1), a_reader(2, email="nobody")))

    assert isinstance(outcome, Refused) and outcome.recipients == (1,)
    assert eml_files(tmp_path) == []


def test_maildir_writes_300_mails_in_well_under_a_second(tmp_path: Path) -> None:
    """A day's worth of trying out is not waited for (the bound is generous for slow machines)."""
    envelope = an_envelope(
        *(a_reader(number) for number in range(300)), html="<p>Wörter und Sätze</p>\n" * 2_500 + LEAVE
    )
    started = time.perf_counter()

    outcome = Maildir(tmp_path).submit(envelope)

    assert outcome == Accepted("maildir:300")
    assert time.perf_counter() - started < 3


def test_maildir_says_that_no_mail_leaves(tmp_path: Path) -> None:
    """The doctor hears of it, and of nothing else when the folder can be written."""
    (problem,) = Maildir(tmp_path / "new").problems()

    assert "No real mail leaves" in problem


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"personalizations": []}, "personalizations"),
        ({"personalizations": [{"to": []}]}, "personalizations.0.to"),
        ({"subject": "a\nb"}, "subject"),
        ({"content": [{"type": "text/html", "value": "h"}, {"type": "text/plain", "value": "p"}]}, "content"),
        ({"content": [{"type": "text/plain", "value": ""}]}, "content.0.value"),
        ({"headers": {"Reply-To": "x"}}, "headers.Reply-To"),
        ({"categories": ["a", "a"]}, "categories"),
        ({"from": {"email": "zoë@example.org"}}, "from.email"),
        (
            {"tracking_settings": {"click_tracking": {"enable": "yes"}}},
            "tracking_settings.click_tracking.enable",
        ),
        ({"subjekt": "x"}, "subjekt"),
    ],
    ids=str,
)
def test_the_stand_in_is_as_strict_as_the_service(change: dict[str, Any], field: str) -> None:
    """A fault in a request is found with the field the service would name."""
    body = {**payload(an_envelope(), sandbox=False), **change}

    assert [fault["field"] for fault in faults(body)] == [field]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"substitutions": {"-a-": "x" * 10_000}}, "substitutions"),
        ({"substitutions": {"-a-": 1}}, "substitutions"),
        ({"custom_args": {"a": "x" * 10_000}}, "custom_args"),
        ({"to": [{"email": "reader1@example.org", "name": "a;b"}]}, "to.0.name"),
        ({"to": [{"email": "Reader2@example.org"}]}, "to.0.email"),
        ({"to": [{"email": "nobody"}]}, "to.0.email"),
    ],
    ids=str,
)
def test_the_stand_in_checks_every_reader(change: dict[str, Any], field: str) -> None:
    """A fault of one reader is found with their index; the same address twice counts as one."""
    body = payload(an_envelope(a_reader(2), a_reader(1)), sandbox=False)
    body["personalizations"][1].update(change)

    assert [fault["field"] for fault in faults(body)] == [f"personalizations.1.{field}"]


def test_the_stand_in_runs_in_a_process_of_its_own(tmp_path: Path) -> None:
    """Kill tests start it by command; its log has one line for each accepted request."""
    log = tmp_path / "accepted.jsonl"
    command = [sys.executable, "-m", "tests.standin", "--log", str(log), "--script", '[["refuse", 0]]']
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        sender = SendGrid(KEY, host=process.stdout.readline().strip())
        outcomes = [sender.submit(an_envelope()) for _ in range(2)]
        process.terminate()

    assert [type(outcome) for outcome in outcomes] == [Refused, Accepted]
    (line,) = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    assert line["outcome"] == "accept"
    assert [one["custom_args"]["nl_reader"] for one in line["personalizations"]] == [a_reader(1).reader]


# --- scheduled sends ----------------------------------------------------------------------------


def test_a_scheduled_envelope_is_kept_and_can_be_called_back(standin: StandIn) -> None:
    """Reserved, handed over with its release, cancelled: nothing of it ever goes out; the rest does."""
    now = datetime.now(UTC)
    sender = a_sender(standin, clock=lambda: now)
    release = now + timedelta(minutes=30)
    kept, lost = sender.reserve(), sender.reserve()

    for reservation, number in ((kept, 1), (lost, 2)):
        envelope = an_envelope(a_reader(number), release_at=release, reservation=reservation)
        assert isinstance(sender.submit(envelope), Accepted)
    cancelled = sender.cancel(lost)
    standin.clock = lambda: release.timestamp() + 60
    standin.release_due()

    assert cancelled and sender.cancel(lost)  # asking again is answered with the status it has
    assert {taken.reader for taken in standin.accepted} == {a_reader(1).reader}
    assert len(standin.discarded) == 1
    sender.release(lost)


def test_what_is_too_near_its_release_is_not_called_back(standin: StandIn) -> None:
    """Under ten minutes the service refuses, and so do we."""
    now = datetime.now(UTC)
    sender = a_sender(standin, clock=lambda: now)
    reservation = sender.reserve()
    release = now + timedelta(minutes=5)
    sender.submit(an_envelope(a_reader(1), release_at=release, reservation=reservation))

    assert not sender.cancel(reservation)
    assert not sender.cancel("never-made")


def test_no_handle_is_a_sentence(standin: StandIn) -> None:
    """When the service gives no batch_id nothing is submitted, and it is said."""
    standin.script(["server_error_before"], path="/v3/mail/batch")

    with pytest.raises(ProviderError, match="nothing was submitted"):
        a_sender(standin).reserve()


@given(
    st.lists(
        st.tuples(
            st.one_of(st.text(max_size=12), st.sampled_from(["Ada", "", 'Q "u" ,x', " a  b ", "100% %s", "\0", "\ud800"])),
            st.sampled_from(["@mail.example", "@bücher.example", "|x@mail.example", "+a@mail.example"]),
        ),
        min_size=1, max_size=8,
    )
)  # fmt: skip
@example([("Ada", "@mail.example"), ("Q ;", "@mail.example")])  # the last one is encoded whole
@example([("\x1f", "@mail.example"), ("Đorđe \\", "@bücher.example")])
@example([("\xa0", "@mail.example"), ("Ada\u3000", "@mail.example")])
def test_columns_encode_like_rows(people: list[tuple[str, str]]) -> None:
    """The fast form and the plain one are the same JSON, whatever a name or an address holds."""
    rows = [
        a_reader(number, name=name, email=f"r{number}{tail}") for number, (name, tail) in enumerate(people)
    ]
    links = Signer(KEYS).links(
        "https://news.example", "today", date(2026, 2, 18), "".join(row.reader for row in rows)
    )
    columns = Recipients(
        "".join(row.reader for row in rows), [row.email for row in rows], [row.name for row in rows],
        tuple(PERSONAL_TAGS.values()), links,
    )  # fmt: skip

    whole = b"".join(encode(an_envelope(recipients=columns), sandbox=False))

    assert json.loads(whole) == json.loads(
        json.dumps(payload(an_envelope(*columns), sandbox=False)).encode("utf-8", "replace")
    )


def test_columns_are_accepted(standin: StandIn) -> None:
    """What is encoded by columns passes the published schema."""
    rows = [a_reader(number, name=name) for number, name in enumerate(("Ada", "", "Zoë", 'Q "u" ,x'))]
    links = Signer(KEYS).links(
        "https://news.example", "today", date(2026, 2, 18), "".join(row.reader for row in rows)
    )
    columns = Recipients(
        "".join(row.reader for row in rows), [row.email for row in rows], [row.name for row in rows],
        tuple(PERSONAL_TAGS.values()), links,
    )  # fmt: skip

    assert isinstance(a_sender(standin).submit(an_envelope(recipients=columns)), Accepted)


def test_a_connection_is_kept_and_a_lost_one_never_repeats_a_request(standin: StandIn) -> None:
    """One connection for many requests; when it dies in use the request is sent once and is uncertain."""
    sender = a_sender(standin)
    standin.script(["accept", "accept", "reset_after_accept", "accept"])

    outcomes = [sender.submit(an_envelope(a_reader(number))) for number in range(4)]

    assert [type(outcome) for outcome in outcomes] == [Accepted, Accepted, Uncertain, Accepted]
    assert len(standin.requests) == 4 == len(standin.accepted)
