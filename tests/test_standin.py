"""The stand-in for SendGrid: what other tests rely on when they lean on it."""

from __future__ import annotations

import base64
import http.client
import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.standin import Action, StandIn, Taken, new_key, post_events, sign
from tests.standin_events import SIGNATURE, TIMESTAMP, body_of

ROOT = Path(__file__).resolve().parents[1]
NOW = 1_780_000_000
DEAD = (ConnectionError, http.client.HTTPException)
SEND, BATCH, STOP = "/v3/mail/send", "/v3/mail/batch", "/v3/user/scheduled_sends"


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = float(NOW)

    def __call__(self) -> float:
        return self.now


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: http.client.HTTPMessage
    told: Any


@pytest.fixture
def clock() -> Clock:
    """The stand-in's time."""
    return Clock()


@pytest.fixture
def standin(clock: Clock) -> Iterator[StandIn]:
    """A stand-in that lives in that time."""
    with StandIn(clock=clock) as one:
        yield one


@contextmanager
def connected(url: str) -> Iterator[http.client.HTTPConnection]:
    """A connection that is never opened a second time."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=5)
    connection.connect()
    connection.auto_open = 0
    try:
        yield connection
    finally:
        connection.close()


def asked(connection: http.client.HTTPConnection, method: str, path: str, body: Any = None) -> Answer:
    """Ask over *connection*."""
    headers = {"Authorization": "Bearer SG.any", "Content-Type": "application/json"}
    raw = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    connection.request(method, path, raw, headers)
    answer = connection.getresponse()
    told = answer.read()
    return Answer(answer.status, answer.headers, json.loads(told) if told[:1] in (b"{", b"[") else told)


def ask(standin: StandIn | str, method: str, path: str, body: Any = None) -> Answer:
    """Ask over a connection of its own."""
    with connected(standin if isinstance(standin, str) else standin.url) as connection:
        return asked(connection, method, path, body)


def a_mail(*numbers: int, batch: str = "7.1", html: str = "<p>Rain</p>", **fields: Any) -> dict[str, Any]:
    """A request for the readers of these *numbers*."""
    return {
        "personalizations": [
            {
                "to": [{"email": f"reader{number}@example.org"}],
                "custom_args": {"nl_edition": "today.1", "nl_batch": batch, "nl_reader": f"r{number}"},
            }
            for number in numbers or (1,)
        ],
        "from": {"email": "today@theparallel.example"},
        "subject": "Morning",
        "content": [{"type": "text/html", "value": html}],
        "categories": ["today", "paying"],
        **fields,
    }


def taken(number: int = 1, batch: str = "7.1") -> Taken:
    """How the stand-in remembers a reader of ``a_mail``."""
    return Taken("today.1", batch, f"r{number}", f"reader{number}@example.org")


def reserved(standin: StandIn) -> str:
    """A fresh batch id."""
    answer = ask(standin, "POST", BATCH, {})
    assert answer.status == 201
    return str(answer.told["batch_id"])


def scheduled(standin: StandIn, *, after: float = 3600, batch: str = "7.1") -> str:
    """The batch id of one mail that leaves *after* seconds."""
    batch_id = reserved(standin)
    mail = a_mail(batch=batch, batch_id=batch_id, send_at=int(standin.clock() + after))
    assert ask(standin, "POST", SEND, mail).status == 202
    return batch_id


def stop(standin: StandIn, batch_id: str, status: str = "cancel") -> int:
    """Cancel or pause, and return the status of the answer."""
    return ask(standin, "POST", STOP, {"batch_id": batch_id, "status": status}).status


def test_mail_without_a_future_time_leaves_at_once(standin: StandIn) -> None:
    """No send_at, or one that is past."""
    for number, fields in enumerate(({}, {"send_at": NOW}, {"send_at": NOW - 9})):
        assert ask(standin, "POST", SEND, a_mail(number, **fields)).status == 202

    assert standin.accepted == standin.taken == [taken(0), taken(1), taken(2)]
    assert standin.scheduled == []


def test_scheduled_mail_leaves_when_its_time_comes(standin: StandIn, clock: Clock) -> None:
    """It is accepted at once and kept; any later request lets it go."""
    batch_id = scheduled(standin)

    (kept,) = standin.scheduled
    assert (kept.number, kept.batch_id, kept.send_at, kept.readers) == (1, batch_id, NOW + 3600, [taken()])
    assert (standin.accepted, standin.taken) == ([], [taken()])

    clock.now += 3599
    standin.release_due()
    assert standin.accepted == []
    clock.now += 1
    reserved(standin)
    assert (standin.scheduled, standin.accepted, standin.taken) == ([], [taken()], [taken()])


def test_cancelled_mail_is_discarded_at_its_time(standin: StandIn, clock: Clock) -> None:
    """Until then it stays in the queue; the status can be read, and is gone once deleted."""
    batch_id, other = scheduled(standin, batch="1"), scheduled(standin, batch="2")

    answer = ask(standin, "POST", STOP, {"batch_id": batch_id, "status": "cancel"})

    assert (answer.status, answer.told) == (201, {"batch_id": batch_id, "status": "cancel"})
    assert ask(standin, "GET", f"{STOP}/{batch_id}").told == [answer.told]
    assert ask(standin, "GET", f"{STOP}/{other}").told == []
    assert ask(standin, "GET", STOP).told == [answer.told]
    assert len(standin.scheduled) == 2
    clock.now += 3600
    standin.release_due()
    assert (standin.accepted, standin.discarded) == ([taken(batch="2")], [taken(batch="1")])
    assert standin.taken == [taken(batch="2")]
    assert ask(standin, "DELETE", f"{STOP}/{batch_id}").status == 204
    assert ask(standin, "GET", f"{STOP}/{batch_id}").told == []


def test_a_lifted_cancellation_lets_the_mail_go(standin: StandIn, clock: Clock) -> None:
    """Who deletes the status too early gets the mail delivered."""
    batch_id = scheduled(standin)
    assert stop(standin, batch_id) == 201
    assert ask(standin, "DELETE", f"{STOP}/{batch_id}").status == 204

    clock.now += 3600
    standin.release_due()

    assert (standin.accepted, standin.discarded) == ([taken()], [])


def test_paused_mail_waits_and_expires(standin: StandIn, clock: Clock) -> None:
    """It is held past its time, leaves when resumed, and is dropped after 72 hours."""
    resumed, forgotten, changed = (scheduled(standin, batch=name) for name in "abc")
    for batch_id in (resumed, forgotten, changed):
        assert stop(standin, batch_id, "pause") == 201
    assert ask(standin, "PATCH", f"{STOP}/{changed}", {"status": "cancel"}).status == 204

    clock.now += 3700
    standin.release_due()
    assert (len(standin.scheduled), standin.accepted) == (2, [])
    ask(standin, "DELETE", f"{STOP}/{resumed}")
    standin.release_due()
    assert standin.accepted == [taken(batch="a")]
    clock.now += 72 * 3600
    standin.release_due()
    assert standin.discarded == [taken(batch="c"), taken(batch="b")]


def test_what_cannot_be_stopped(standin: StandIn, clock: Clock) -> None:
    """Unknown ids, a second time, a status that is none, less than ten minutes before, mail that has left."""
    batch_id = scheduled(standin, after=4200)
    gone = reserved(standin)
    ask(standin, "POST", SEND, a_mail(2, batch_id=gone))

    assert stop(standin, "unknown") == stop(standin, batch_id, "delete") == stop(standin, gone) == 400
    assert ask(standin, "POST", STOP, b"[]").status == 400
    clock.now += 3600
    assert stop(standin, batch_id) == 201  # 600 seconds remain
    assert stop(standin, batch_id) == stop(standin, batch_id, "pause") == 400
    late = scheduled(standin, after=599)
    assert stop(standin, late) == 400
    assert ask(standin, "PATCH", f"{STOP}/{late}", {"status": "cancel"}).status == 400
    assert ask(standin, "POST", f"{STOP}/{late}", {"status": "cancel"}).status == 404


def test_so_many_may_be_stopped_at_a_time(clock: Clock) -> None:
    """A stopped one counts until its time has passed or its status is deleted, mail or none."""
    with StandIn(clock=clock, cancel_limit=2) as standin:
        early, unused = scheduled(standin, after=700), reserved(standin)
        third, fourth = scheduled(standin), scheduled(standin)
        assert [stop(standin, one) for one in (early, unused, third)] == [201, 201, 400]
        clock.now += 700
        assert [stop(standin, one) for one in (third, fourth)] == [201, 400]
        ask(standin, "DELETE", f"{STOP}/{unused}")
        assert stop(standin, fourth) == 201


def test_only_one_of_many_cancellations_at_once_is_the_first(standin: StandIn) -> None:
    """The check and the mark are one step."""
    batch_id = scheduled(standin)

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda _: stop(standin, batch_id), range(16)))

    assert Counter(statuses) == {201: 1, 400: 15}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"send_at": NOW + 72 * 3600 + 1}, "send_at"),
        ({"send_at": "1780000000"}, "send_at"),
        ({"send_at": True}, "send_at"),
        ({"batch_id": 7}, "batch_id"),
    ],
    ids=str,
)
def test_a_time_that_cannot_be(standin: StandIn, fields: dict[str, Any], field: str) -> None:
    """72 hours ahead is the most, and times are whole numbers."""
    answer = ask(standin, "POST", SEND, a_mail(**fields))

    assert (answer.status, answer.told["errors"][0]["field"], standin.taken) == (400, field, [])
    assert ask(standin, "POST", SEND, a_mail(send_at=NOW + 72 * 3600)).status == 202


def test_events_have_their_shape(standin: StandIn) -> None:
    """Every reader of a request has events of each kind, once, with ids that belong together."""
    message_id = ask(standin, "POST", SEND, a_mail(1, 2)).headers["X-Message-Id"]

    events = standin.events()

    assert [(one["event"], one["email"]) for one in events] == [
        (kind, f"reader{number}@example.org") for kind in ("processed", "delivered") for number in (1, 2)
    ]
    assert len({one["sg_event_id"] for one in events}) == 4
    assert len({one["sg_message_id"] for one in events}) == 2
    first = events[0]
    assert first["sg_message_id"].startswith(f"{message_id}.")
    assert (first["timestamp"], type(first["timestamp"]), first["category"]) == (
        NOW,
        int,
        ["today", "paying"],
    )
    assert (first["nl_edition"], first["nl_batch"], first["nl_reader"]) == ("today.1", "7.1", "r1")
    assert first["smtp-id"].startswith("<") and "response" not in first and events[2]["response"] == "250 OK"
    assert standin.events() == []
    assert {one["event"] for one in standin.events(["bounce"])} == {"bounce"}


def test_events_of_scheduled_mail(standin: StandIn, clock: Clock) -> None:
    """It is processed at once and delivered at its time; what was discarded is told of no more."""
    cancelled, _ = scheduled(standin, batch="1"), scheduled(standin, batch="2")
    stop(standin, cancelled)

    assert [(one["event"], one["nl_batch"], one["send_at"]) for one in standin.events()] == [
        ("processed", "1", NOW + 3600),
        ("processed", "2", NOW + 3600),
    ]
    clock.now += 3600
    standin.release_due()
    assert [(one["event"], one["nl_batch"]) for one in standin.events()] == [("delivered", "2")]
    assert [one["nl_batch"] for one in standin.events(["dropped"])] == ["2"]


def test_one_event_of_any_kind(standin: StandIn) -> None:
    """Fields may be added or replaced; the mail need not exist."""
    ask(standin, "POST", SEND, a_mail(1, 2, batch="7.1"))
    ask(standin, "POST", SEND, a_mail(1, 2, batch="7.2"))

    bounce = standin.event("bounce", taken(2, "7.2"), type="blocked", timestamp=5)
    again = standin.event("bounce", taken(2, "7.2"))

    assert (bounce["event"], bounce["type"], bounce["timestamp"]) == ("bounce", "blocked", 5)
    assert bounce["sg_event_id"] != again["sg_event_id"]
    processed = [one for one in standin.events() if one["nl_batch"] == "7.2" and one["nl_reader"] == "r2"]
    assert {one["sg_message_id"] for one in processed} == {bounce["sg_message_id"]}
    assert standin.event("spamreport", taken(9))["email"] == "reader9@example.org"


def test_a_signature_holds_for_its_body_and_time_only() -> None:
    """As the published key verifies it: ECDSA over the timestamp and the raw bytes."""
    private, shown = new_key()
    headers = sign(private, body_of([{"event": "open"}]), "1780000000")

    public = serialization.load_der_public_key(base64.b64decode(shown))
    assert isinstance(public, ec.EllipticCurvePublicKey)
    signature = base64.b64decode(headers[SIGNATURE])
    public.verify(signature, b'1780000000[{"event":"open"}]\r\n', ec.ECDSA(hashes.SHA256()))
    assert headers[TIMESTAMP] == "1780000000"
    with pytest.raises(InvalidSignature):
        public.verify(signature, b'1780000000[{"event":"open"}]', ec.ECDSA(hashes.SHA256()))


def test_events_are_posted_signed_and_in_pieces() -> None:
    """The receiver can verify the raw body of each piece; its answers come back in order."""
    received: list[tuple[str, http.client.HTTPMessage, bytes]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append((self.path, self.headers, body))
            self.send_response(503 if len(received) == 2 else 204)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    private, shown = new_key()
    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        url = f"http://127.0.0.1:{server.server_address[1]}/events?a=b"
        statuses = post_events(url, private, [{"n": n} for n in range(5)], chunk=2)
        server.shutdown()
        thread.join()

    assert statuses == [204, 503, 204]
    assert [len(json.loads(body)) for _, _, body in received] == [2, 2, 1]
    public = serialization.load_der_public_key(base64.b64decode(shown))
    assert isinstance(public, ec.EllipticCurvePublicKey)
    for path, headers, body in received:
        signed = headers[TIMESTAMP].encode() + body
        public.verify(base64.b64decode(headers[SIGNATURE]), signed, ec.ECDSA(hashes.SHA256()))
        assert (path, headers["User-Agent"], body[-2:]) == ("/events?a=b", "SendGrid Event API", b"\r\n")


def test_another_process_can_ask_what_happened(standin: StandIn, clock: Clock) -> None:
    """Without a key, without trace in the statuses; asking lets due mail go, too."""
    for batch in ("1", "2"):
        ask(standin, "POST", SEND, a_mail(1, 2, batch=batch))
    scheduled(standin, batch="3")
    stats = ask(standin, "GET", "/_standin/stats").told

    assert stats == {
        "requests": 4,
        "accepted": 4,
        "scheduled": 1,
        "discarded": 0,
        "statuses": {"202": 3, "201": 1},
    }
    first = ask(standin, "GET", "/_standin/events?kinds=processed&limit=1").told
    assert [one["nl_batch"] for one in first] == ["1", "1"]
    assert len(ask(standin, "GET", "/_standin/events").told) == 7
    assert ask(standin, "GET", "/_standin/events").told == []
    clock.now += 3600
    told = ask(standin, "GET", "/_standin/accepted").told
    assert told[0] == ["today.1", "1", "r1", "reader1@example.org"] and len(told) == 5
    assert ask(standin, "GET", "/_standin/other").status == 404
    assert standin.statuses == [202, 202, 201, 202]


def test_faults_are_drawn_by_their_seed() -> None:
    """The same seed gives the same fates in about the shares asked for, after the script and for mail only."""
    shares = {"rate_limit": 0.2, "stall": 0.1, "truncated": 0.05}

    def fates(seed: int) -> list[tuple[str, Any]]:
        standin = StandIn(faults=shares, seed=seed, stall_seconds=0.5)
        standin.script(["forbidden"])
        assert standin.next_action(BATCH) == ("accept", None)
        drawn = [standin.next_action() for _ in range(2001)]
        standin._server.server_close()
        return drawn

    one = fates(1)
    assert one == fates(1) != fates(2)
    assert one[0] == ("forbidden", None)
    counted = Counter(one[1:])
    assert set(counted) == {("accept", None), ("rate_limit", 0), ("stall", 0.5), ("truncated", None)}
    assert 350 < counted["rate_limit", 0] < 450 and 60 < counted["truncated", None] < 140
    for wrong in ({"no_such": 0.1}, {"stall": 0.6, "refuse": 0.5}, {"stall": -0.1}):
        with pytest.raises(ValueError, match="not probabilities"):
            StandIn(faults=wrong)


def test_a_drawn_rate_limit_is_over_at_once(clock: Clock) -> None:
    """Whoever comes back at the reset need not wait."""
    with StandIn(clock=clock, faults={"rate_limit": 1.0}) as standin:
        answer = ask(standin, "POST", SEND, a_mail())
    assert (answer.status, answer.headers["X-RateLimit-Reset"]) == (429, str(NOW))


def test_a_drawn_stall_takes_as_long_as_said() -> None:
    """The mail is taken, and the answer never comes."""
    with StandIn(faults={"stall": 1.0}, stall_seconds=0.0) as standin, pytest.raises(DEAD):
        ask(standin, "POST", SEND, a_mail())
    assert (standin.taken, standin.statuses) == ([taken()], [0])


def test_the_first_bad_address_is_named(clock: Clock) -> None:
    """The request is refused whole; without that reader it is taken."""
    with StandIn(clock=clock, bad_addresses=lambda address: "r3@" in address or "r4@" in address) as standin:
        answer = ask(standin, "POST", SEND, a_mail(1, 2, 3, 4))
        (error,) = answer.told["errors"]
        assert (answer.status, error["field"]) == (400, "personalizations.2.to.0.email")
        assert standin.taken == []
        assert ask(standin, "POST", SEND, a_mail(1, 2)).status == 202


def test_all_answers_keep_the_connection(standin: StandIn) -> None:
    """One connection carries every answer that is one, refusals and scheduled sends included."""
    actions: list[Action] = [
        *(
            "unauthorized",
            "forbidden",
            "not_found",
            "too_large",
            "bad_gateway",
            "server_error_after",
            "refuse",
        ),
        *(("rate_limit", 0), ("retry_after", 1), "redirect", "accept_with_200", "accept_without_id"),
    ]
    standin.script(actions)
    large = json.dumps(a_mail(html="x" * 300_000)).encode()

    with connected(standin.url) as connection:
        statuses = [asked(connection, "POST", SEND, large).status for _ in actions]
        assert asked(connection, "POST", SEND, b"{").status == 400
        assert asked(connection, "POST", "/elsewhere", large).status == 404
        assert asked(connection, "GET", SEND, large).status == 200
        batch_id = asked(connection, "POST", BATCH, b"").told["batch_id"]
        for method, status in (("GET", 200), ("PATCH", 400), ("DELETE", 204)):
            assert asked(connection, method, f"{STOP}/{batch_id}", {}).status == status
        assert asked(connection, "GET", "/_standin/stats").status == 200
        assert asked(connection, "POST", SEND, large).status == 202

    assert statuses == [401, 403, 404, 413, 502, 500, 400, 429, 429, 302, 200, 202]


def test_a_full_request_takes_some_tens_of_milliseconds() -> None:
    """A thousand readers in 700 kB; nothing of them is kept but who they are."""
    with StandIn(keep_requests=False, bad_addresses=lambda address: address.startswith("bad")) as standin:
        bodies = [
            json.dumps(a_mail(*range(1000), batch=str(n), html="x" * 500_000)).encode() for n in range(5)
        ]
        with connected(standin.url) as connection:
            began = time.monotonic()
            assert {asked(connection, "POST", SEND, body).status for body in bodies} == {202}
            seconds = (time.monotonic() - began) / 5

    assert seconds < 0.3  # 0.02 on an idle machine
    assert (len(standin.accepted), standin.requests, standin.headers) == (5000, [], [])


def test_a_reset_in_the_middle_of_the_body(standin: StandIn) -> None:
    """Nothing is taken; the next connection is served."""
    standin.script(["reset_mid_body"])

    with pytest.raises(DEAD):
        ask(standin, "POST", SEND, a_mail(html="x" * 5_000_000))

    assert ask(standin, "POST", SEND, a_mail(2)).status == 202
    assert (standin.taken, standin.statuses, len(standin.requests)) == ([taken(2)], [0, 202], 1)


def test_a_kept_connection_can_die_unannounced(standin: StandIn) -> None:
    """The answer does not say that the connection ends, and the next request over it fails."""
    standin.script(["drop_keep_alive"])

    with connected(standin.url) as connection:
        answer = asked(connection, "POST", SEND, a_mail())
        assert (answer.status, answer.headers["Connection"]) == (202, None)
        with pytest.raises(DEAD):
            asked(connection, "POST", SEND, a_mail(2))

    assert standin.taken == [taken()]


def test_the_other_endpoints_fail_by_a_script_of_their_own(standin: StandIn) -> None:
    """A cancellation whose answer is lost has still been made; mail's script is not used up by it."""
    batch_id = scheduled(standin)
    standin.script(["forbidden"])
    standin.script(["server_error_before", "reset_after_accept"], path=STOP)
    standin.script([("rate_limit", 1)], path=BATCH)

    assert ask(standin, "POST", BATCH, {}).status == 429
    assert stop(standin, batch_id) == 500
    with pytest.raises(DEAD):
        stop(standin, batch_id)
    assert ask(standin, "GET", f"{STOP}/{batch_id}").told == [{"batch_id": batch_id, "status": "cancel"}]
    assert ask(standin, "POST", SEND, a_mail()).status == 403


def test_the_log_tells_of_what_left(tmp_path: Path, clock: Clock) -> None:
    """One line a request, written before it is answered, or when its time comes; none if it was cancelled."""
    log = tmp_path / "log.jsonl"
    with StandIn(log=log, clock=clock) as standin:
        ask(standin, "POST", SEND, a_mail(1, 2))
        cancelled, _ = scheduled(standin, batch="8"), scheduled(standin, batch="9")
        stop(standin, cancelled)
        assert len(log.read_text(encoding="utf-8").splitlines()) == 1
        clock.now += 3600
        standin.release_due()

    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    assert [(line["at"], line["outcome"]) for line in lines] == [(NOW, "accept"), (NOW + 3600, "accept")]
    assert [one["custom_args"]["nl_reader"] for one in lines[0]["personalizations"]] == ["r1", "r2"]
    assert lines[1]["personalizations"][0]["custom_args"]["nl_batch"] == "9"


def test_the_command_takes_the_same_options() -> None:
    """Faults, addresses and limits work in a process of its own."""
    command = [
        sys.executable,
        "-m",
        "tests.standin",
        "--faults",
        '{"server_error_after": 1.0}',
        "--seed",
        "3",
    ]
    command += ["--stall", "0.1", "--cancel-limit", "1", "--bad-prefix", "reader9", "--script", '["accept"]']
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        statuses = [ask(url, "POST", SEND, a_mail(number)).status for number in (1, 2, 9)]
        batches = [ask(url, "POST", BATCH, {}).told["batch_id"] for _ in range(2)]
        for batch_id in batches:
            statuses.append(ask(url, "POST", STOP, {"batch_id": batch_id, "status": "cancel"}).status)
        stats = ask(url, "GET", "/_standin/stats").told
        process.terminate()

    assert statuses == [202, 500, 400, 201, 400]
    assert stats["accepted"] == 2
    assert stats["statuses"] == {"202": 1, "500": 1, "400": 2, "201": 3}
