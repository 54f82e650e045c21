"""The webhook: what is signed is stored and answered at once, everything else is turned away unread."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import uvicorn
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, text
from sqlmodel import select
from starlette.applications import Starlette
from starlette.routing import Route
from structlog.testing import capture_logs

from newsletter.outbox.inbox import process
from newsletter.providers.sendgrid_events import SIGNATURE_HEADER, TIMESTAMP_HEADER, verify
from newsletter.settings import Keys, Settings
from newsletter.store.session import reading
from newsletter.store.tables import Event
from newsletter.web.app import create_app
from newsletter.web.webhook import Webhook
from tests.builders import ask, the_catalogue
from tests.standin_events import NOWHERE, Taken, body_of, make_event, new_key, post_events, sign

NOW = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)
PATH = "/webhooks/sendgrid"
PRIVATE, PUBLIC = new_key()
OTHER_PRIVATE, OTHER_PUBLIC = new_key()
READER = Taken("today.2026-11-20.1", "7.1", "ab" * 12, "ann@mail.example")


def an_app(engine: Engine, keys: Keys, *, public_keys: str = PUBLIC) -> Starlette:
    """The readers' pages with the webhook."""
    settings = Settings(sendgrid_webhook_public_key=public_keys)
    return create_app(engine, the_catalogue(), keys, settings, clock=lambda: NOW)


def events(*kinds: str) -> list[dict[str, Any]]:
    """One event of each kind."""
    return [
        make_event(kind, READER, NOWHERE, 0, serial=number, now=NOW.timestamp(), fields={})
        for number, kind in enumerate(kinds)
    ]


def signed(body: bytes, private: ec.EllipticCurvePrivateKey = PRIVATE) -> dict[str, Any]:
    """The options of a genuine request."""
    return {"content": body, "headers": sign(private, body, "1795165200")}


def stored(engine: Engine, keys: Keys) -> list[str]:
    """The kinds in the table, once everything in the inbox is processed."""
    process(engine, keys, clock=lambda: NOW)
    with reading(engine) as session:
        return sorted(session.exec(select(Event.kind)).all())


def test_what_is_signed_is_stored(engine: Engine, keys: Keys) -> None:
    """A genuine request, its CRLF included, is answered with 204 and nothing else; again changes nothing."""
    app, body = an_app(engine, keys), body_of(events("processed", "delivered"))

    first, again = ask(app, "POST", PATH, **signed(body)), ask(app, "POST", PATH, **signed(body))

    assert body.endswith(b"]\r\n")
    assert (first.status_code, first.content, again.status_code) == (204, b"", 204)
    assert stored(engine, keys) == ["delivered", "processed"]


VENDORS_KEY = (
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7dAfSmpqIM8kF9mN1flpVKS3GRqe62gw+2fNNRaINXvVpiglSI8eNEc6"
    "wEA3F+g=="
)
VENDORS_HEADERS = {
    SIGNATURE_HEADER: "MEUCIGHQVtGj+Y3LkG9fLcxf3qfI10QysgDWmMOVmxG0u6ZUAiEAyBiXDWzM+uOe5W0JuG+luQAbPIqHh89M15TluLtEZtM=",
    TIMESTAMP_HEADER: "1600112502",
}
VENDORS_BODY = (
    b'[{"email":"hello@world.com","event":"dropped","reason":"Bounced Address",'
    b'"sg_event_id":"ZHJvcC0xMDk5NDkxOS1MUnpYbF9OSFN0T0doUTRrb2ZTbV9BLTA",'
    b'"sg_message_id":"LRzXl_NHStOGhQ4kofSm_A.filterdrecv-p3mdw1-756b745b58-kmzbl-18-5F5FC76C-9.0",'
    b'"smtp-id":"<LRzXl_NHStOGhQ4kofSm_A@ismtpd0039p1iad1.sendgrid.net>","timestamp":1600112492}]\r\n'
)
"""A request SendGrid really signed, as published with its Python library (test vector of 2020, seen 2026-11)."""


def test_a_request_the_vendor_signed_is_taken(engine: Engine, keys: Keys) -> None:
    """Byte for byte; a changed byte, or another key, and it is not."""
    theirs, others = an_app(engine, keys, public_keys=VENDORS_KEY), an_app(engine, keys)
    changed = VENDORS_BODY.replace(b"dropped", b"droppeD")

    answers = [
        ask(app, "POST", PATH, content=body, headers=VENDORS_HEADERS).status_code
        for app, body in ((theirs, VENDORS_BODY), (theirs, changed), (others, VENDORS_BODY))
    ]

    assert answers == [204, 403, 403]
    assert stored(engine, keys) == ["dropped"]


@pytest.mark.parametrize(
    "ring", [f"{OTHER_PUBLIC},{PUBLIC}", f" {PUBLIC} , {OTHER_PUBLIC}", f"rubbish,,{PUBLIC}\n"]
)
def test_any_key_of_the_ring_will_do(engine: Engine, keys: Keys, ring: str) -> None:
    """While a key is replaced both are believed, and one that is damaged does not shut out the other."""
    app = an_app(engine, keys, public_keys=ring)

    assert ask(app, "POST", PATH, **signed(body_of(events("open")))).status_code == 204


def _tampered() -> Iterator[tuple[str, dict[str, Any]]]:
    body = body_of(events("delivered"))
    good = sign(PRIVATE, body, "1795165200")
    signature, timestamp = good.items()
    yield "another key", signed(body, OTHER_PRIVATE)
    yield "a changed byte", {"content": body.replace(b"delivered", b"delivereD"), "headers": good}
    yield "the CRLF lost", {"content": body.rstrip(), "headers": good}
    yield "another timestamp", {"content": body, "headers": {**good, timestamp[0]: "1795165201"}}
    yield "no timestamp", {"content": body, "headers": dict([signature])}
    yield "no signature", {"content": body, "headers": dict([timestamp])}
    yield "nothing", {"content": body}
    yield "empty", {"content": body, "headers": {**good, signature[0]: ""}}
    yield "no base64", {"content": body, "headers": {**good, signature[0]: "%%%"}}
    yield "no DER", {"content": body, "headers": {**good, signature[0]: "aGVsbG8="}}
    moved = sign(PRIVATE, b'[{"x":1}]', "1")
    yield "bytes moved to the timestamp", {"content": b"]", "headers": {**moved, timestamp[0]: '1[{"x":1}'}}


@pytest.mark.parametrize(
    ("what", "options"), list(_tampered()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_what_is_not_theirs_is_turned_away(
    engine: Engine, keys: Keys, what: str, options: dict[str, Any]
) -> None:
    """Every request that one of the keys did not sign, byte for byte: 403, nothing stored."""
    answer = ask(an_app(engine, keys), "POST", PATH, **options)

    assert (answer.status_code, stored(engine, keys)) == (403, []), what


def test_without_a_key_there_is_no_webhook(engine: Engine, keys: Keys) -> None:
    """No public key configured: nothing can be verified, so nothing is there."""
    app = an_app(engine, keys, public_keys=" ")

    assert ask(app, "POST", PATH, **signed(body_of(events("open")))).status_code == 404


def test_nobody_can_look(engine: Engine, keys: Keys) -> None:
    """GET is not allowed."""
    assert ask(an_app(engine, keys), "GET", PATH).status_code == 405


def test_too_large_is_refused_before_it_is_read(engine: Engine, keys: Keys) -> None:
    """More than 4 MiB, announced or not, is refused; 4 MiB are taken."""
    app = an_app(engine, keys)
    full = b"[" + b" " * (4 * 1024 * 1024 - 2) + b"]"

    async def pieces(body: bytes) -> Any:
        for begin in range(0, len(body), 100_000):
            yield body[begin : begin + 100_000]

    headers = sign(PRIVATE, full + b" ", "1")
    announced = ask(app, "POST", PATH, content=full + b" ", headers=headers)
    unannounced = ask(app, "POST", PATH, content=pieces(full + b" "), headers=headers)
    nonsense = ask(app, "POST", PATH, content=b"[]", headers={**headers, "Content-Length": "many"})
    fits = ask(app, "POST", PATH, **signed(full))

    assert [one.status_code for one in (announced, unannounced, nonsense, fits)] == [413, 413, 413, 204]


@pytest.mark.parametrize("body", [b"", b"{}", b'{"email":"ann@mail.example"}', b"[", b"hello", b"\xff"])
def test_signed_nonsense_is_refused(engine: Engine, keys: Keys, body: bytes) -> None:
    """Signed, but no array of events: 400, nothing stored."""
    answer = ask(an_app(engine, keys), "POST", PATH, **signed(body))

    assert (answer.status_code, answer.content, stored(engine, keys)) == (400, b"", [])


def test_one_odd_element_does_not_lose_the_others(engine: Engine, keys: Keys) -> None:
    """A refusal would make the provider send everything again for a day, and then drop it."""
    body = json.dumps([None, "x", *events("delivered"), {"event": "never heard of"}]).encode()

    assert ask(an_app(engine, keys), "POST", PATH, **signed(body)).status_code == 204
    assert stored(engine, keys) == ["delivered", "unknown", "unknown", "unknown"]


def test_a_database_that_is_away_asks_for_patience(engine: Engine, keys: Keys) -> None:
    """503, so that the provider tries again; the log names the error, not the values."""
    app = an_app(engine, keys)
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE inbox RENAME TO elsewhere"))

    with capture_logs() as logs:
        answer = ask(app, "POST", PATH, **signed(body_of(events("delivered"))))

    assert answer.status_code == 503
    assert [entry["event"] for entry in logs] == ["webhook.not_stored"]
    assert "ann" not in str(logs) and READER.reader not in str(logs)


def test_nothing_of_a_request_is_logged(engine: Engine, keys: Keys) -> None:
    """Stored or refused: counts and reasons, no address, reader, signature or body."""
    app, body = an_app(engine, keys), body_of(events("bounce", "spamreport"))

    with capture_logs() as logs:
        ask(app, "POST", PATH, **signed(body))
        ask(app, "POST", PATH, **signed(body, OTHER_PRIVATE))
        ask(app, "POST", PATH, **signed(b'"ann@mail.example"'))

    told = [
        entry["event"] for entry in logs if entry["event"].startswith("webhook")
    ]  # what follows comes behind
    assert told == ["webhook.stored", "webhook.refused", "webhook.refused"]
    assert "ann" not in str(logs) and READER.reader not in str(logs) and "today." not in str(logs)


def test_a_real_server_takes_what_the_stand_in_posts(engine: Engine, keys: Keys) -> None:
    """Over a socket, in several requests, as SendGrid does; the pages answer meanwhile."""
    config = uvicorn.Config(an_app(engine, keys), port=0, log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        port = server.servers[0].sockets[0].getsockname()[1]
        statuses = post_events(
            f"http://127.0.0.1:{port}{PATH}", PRIVATE, events(*["delivered"] * 250), chunk=100
        )
    finally:
        server.should_exit = True
        thread.join(10)

    assert statuses == [204, 204, 204]
    assert len(stored(engine, keys)) == 250


@given(signature=st.text(max_size=40), timestamp=st.text(max_size=12), ring=st.text(max_size=40), body=st.binary(max_size=40))  # fmt: skip
def test_no_garbage_verifies(signature: str, timestamp: str, ring: str, body: bytes) -> None:
    """Whatever is in the headers or in the settings: no, and never an error."""
    assert verify(ring, signature, timestamp, body) is False
    assert verify(PUBLIC, signature, "1", body) is False


def test_only_p256_keys_are_believed() -> None:
    """A key of another curve or kind in the ring verifies nothing."""
    private = ec.generate_private_key(ec.SECP384R1())
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    ring = "".join(public.decode().split("\n")[1:-2])
    headers = list(sign(private, b"[]", "1").values())

    assert verify(ring, headers[0], headers[1], b"[]") is False


def test_one_failure_does_not_end_the_processing(engine: Engine, keys: Keys) -> None:
    """Whatever goes wrong behind one answer: what comes next is processed, and what was left with it."""
    looked = itertools.count()

    def clock() -> datetime:
        if next(looked) == 1:  # the first is of the answer, the second of what is done behind it
            raise RuntimeError("nobody thought of it")
        return NOW

    webhook = Webhook(engine, keys, public_keys=PUBLIC, clock=clock)
    app = Starlette(routes=[Route(PATH, webhook.receive, methods=["POST"])])

    def posted(kind: str) -> None:
        assert ask(app, "POST", PATH, **signed(body_of(events(kind)))).status_code == 204
        for thread in threading.enumerate():
            if thread.name == "inbox":
                thread.join(10)

    posted("processed")
    posted("delivered")

    with reading(engine) as session:
        assert sorted(session.exec(select(Event.kind)).all()) == ["delivered", "processed"]
