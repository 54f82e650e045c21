"""The doctor online: each finding once right and once wrong, against a name server and an account of our own."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from dns.resolver import Resolver
from sqlalchemy import Engine

from newsletter.audience.addresses import address_hash
from newsletter.cli.dns_checks import dns_checks, record_checks
from newsletter.cli.page_checks import page_checks
from newsletter.cli.store_checks import drift_check
from newsletter.providers.sendgrid import SendGrid
from newsletter.settings import Keys
from newsletter.store.session import writing
from newsletter.store.tables import Suppression
from tests.standin import StandIn

DOMAIN = "news.paper.example"
RIGHT = {
    ("news.paper.example", "TXT"): ['"v=spf1 include:sendgrid.net -all"', '"other=1"'],
    ("s1._domainkey.news.paper.example", "TXT"): ['"k=rsa; t=s; p=MIGf" "MA0G"'],
    ("_dmarc.paper.example", "TXT"): ['"v=DMARC1; p=quarantine; rua=mailto:d@paper.example"'],
    ("mail.paper.example", "A"): ["192.0.2.7"],
}


class NameServer:
    """Answers over UDP from *records*; what is not in them does not exist."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], list[str]] = dict(RIGHT)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(0.05)
        self.is_over = threading.Event()
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self) -> None:
        while not self.is_over.is_set():
            try:
                wire, whom = self.socket.recvfrom(4096)
            except TimeoutError:
                continue
            asked = dns.message.from_wire(wire)
            answer = dns.message.make_response(asked)
            answer.flags |= dns.flags.RA
            (question,) = asked.question
            name, kind = question.name.to_text(omit_final_dot=True), dns.rdatatype.to_text(question.rdtype)
            found = self.records.get((name, kind))
            if found:
                answer.answer.append(dns.rrset.from_text(question.name, 60, "IN", kind, *found))
            else:
                answer.set_rcode(dns.rcode.NXDOMAIN)
            self.socket.sendto(answer.to_wire(), whom)

    def close(self) -> None:
        """Answer no more."""
        self.is_over.set()
        self.thread.join()
        self.socket.close()


@pytest.fixture
def server() -> Iterator[NameServer]:
    """A name server on this machine."""
    running = NameServer()
    yield running
    running.close()


def resolver_of(server: NameServer) -> Resolver:
    """Asks nobody else."""
    resolver = Resolver(configure=False)
    resolver.nameservers, resolver.port, resolver.lifetime = (
        ["127.0.0.1"],
        server.socket.getsockname()[1],
        3.0,
    )
    return resolver


def found(server: NameServer) -> dict[str, str]:
    """The severity of each check."""
    told = dns_checks(resolver_of(server), domain=DOMAIN, selectors=("s1",), base_host="mail.paper.example")
    return {check.name: check.severity for check in told}


def test_right_records_are_all_right(server: NameServer) -> None:
    """SPF, DKIM over two strings, DMARC of the domain above, and the pages' host."""
    assert found(server) == {"spf": "ok", "dkim": "ok", "dmarc": "ok", "pages": "ok"}


SPF, DKIM, DMARC, HOST = RIGHT


@pytest.mark.parametrize(
    ("record", "values", "check", "severity"),
    [
        (SPF, [], "spf", "warning"),
        (SPF, ['"v=spf1 a -all"', '"v=spf1 mx -all"'], "spf", "error"),
        (SPF, ['"v=spf1 include:sendgrid.net +all"'], "spf", "error"),
        (SPF, [f'"v=spf1 {" ".join(f"a:h{n}.paper.example" for n in range(11))} -all"'], "spf", "error"),
        (SPF, ['"v=spf1 include:news.paper.example -all"'], "spf", "error"),
        (DKIM, [], "dkim", "error"),
        (DKIM, ['"v=DKIM1; p="'], "dkim", "error"),
        (DMARC, [], "dmarc", "error"),
        (DMARC, ['"v=DMARC1; p=none"'], "dmarc", "warning"),
        (DMARC, ['"v=DMARC1; p=nothing"'], "dmarc", "error"),
        (DMARC, ['"v=DMARC1; p=none; rua=mailto:a@b.example"', '"v=DMARC1; p=reject"'], "dmarc", "error"),
        (DMARC, ['"v=DMARC1; p=reject; adkim=s"'], "dmarc", "warning"),
        (HOST, [], "pages", "error"),
    ],
)
def test_each_wrong_record_is_found(
    server: NameServer, record: tuple[str, str], values: list[str], check: str, severity: str
) -> None:
    """One thing wrong at a time, and only that is said."""
    server.records[record] = values

    assert {name: told for name, told in found(server).items() if told != "ok"} == {check: severity}


def test_a_server_that_is_silent_is_no_finding(server: NameServer) -> None:
    """Nothing can be said of the records then."""
    server.is_over.set()
    server.thread.join()
    resolver = resolver_of(server)
    resolver.lifetime = 0.3

    (check,) = dns_checks(resolver, domain=DOMAIN, selectors=(), base_host="x.example")

    assert (check.name, check.severity) == ("dns", "warning")


def test_what_is_known_without_asking(server: NameServer) -> None:
    """Pages at a bare address have one; a relay's selector is known to nobody here."""
    told = dns_checks(resolver_of(server), domain=DOMAIN, selectors=(), base_host="192.0.2.7")

    assert {check.name: check.severity for check in told} == {
        "spf": "ok", "dkim": "note", "dmarc": "ok", "pages": "ok",
    }  # fmt: skip


ASKED = {
    "dns": {
        "mail_cname": {"type": "cname", "host": "em7.news.paper.example", "data": "u7.wl.sendgrid.net"},
        "dkim1": {"type": "cname", "host": "s1._domainkey.news.paper.example", "data": "s1.domainkey.u7.wl.sendgrid.net"},
    }
}  # fmt: skip
BRANDED = {"dns": {"domain_cname": {"type": "cname", "host": "url7.paper.example", "data": "sendgrid.net"}}}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, {"sender-records": "ok", "links-records": "ok"}),
        ({"em7.news.paper.example": []}, {"sender-records": "error", "links-records": "ok"}),
        ({"em7.news.paper.example": ["elsewhere.example."]}, {"sender-records": "error", "links-records": "ok"}),
        ({"url7.paper.example": []}, {"sender-records": "ok", "links-records": "warning"}),
        ({"url7.paper.example": ["SendGrid.NET."]}, {"sender-records": "ok", "links-records": "ok"}),
    ],
)  # fmt: skip
def test_what_the_provider_asks_for_is_looked_up(
    server: NameServer, changed: dict[str, list[str]], expected: dict[str, str]
) -> None:
    """Its records of the sender and of branded links, by DNS and not by its own word."""
    for one in (*ASKED["dns"].values(), *BRANDED["dns"].values()):
        server.records[one["host"], "CNAME"] = changed.get(one["host"], [f"{one['data']}."])
    with StandIn() as standin:
        standin.account = {
            "/v3/whitelabel/domains": [{"domain": "news.paper.example", **ASKED}, {"domain": "other.example", **ASKED}],
            "/v3/whitelabel/links": [{"domain": "paper.example", **BRANDED}],
        }  # fmt: skip
        records = list(SendGrid("SG.x", host=standin.url, timeout_seconds=5).records(DOMAIN))

    told = record_checks(resolver_of(server), records)

    assert {check.name: check.severity for check in told} == expected


def test_an_account_that_cannot_be_asked_asks_for_nothing() -> None:
    """What is said of that is said elsewhere."""
    assert list(SendGrid("SG.x", host="http://127.0.0.1:9", timeout_seconds=1).records(DOMAIN)) == []


@contextmanager
def pages(status: int, *, hours: int = 0) -> Iterator[str]:
    """Pages that answer with *status*, by a clock that is *hours* off; their address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Location", "https://elsewhere.example/healthz")
            self.end_headers()

        def date_time_string(self, timestamp: float | None = None) -> str:
            return super().date_time_string(int(time.time()) + hours * 3600)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.mark.parametrize(
    ("status", "hours", "expected"),
    [
        (200, 0, {"reached": "ok"}),
        (301, 0, {"reached": "error"}),
        (502, 0, {"reached": "error"}),
        (200, 1, {"reached": "ok", "pages-clock": "warning"}),
    ],
)
def test_the_pages_are_asked(status: int, hours: int, expected: dict[str, str]) -> None:
    """As a reader's mailbox would ask: no redirect, and by a clock like ours."""
    with pages(status, hours=hours) as url:
        told = list(page_checks(url, now=datetime.now(UTC)))

    assert {check.name: check.severity for check in told} == expected


def test_pages_that_are_not_there_are_said() -> None:
    """Nobody listens."""
    (check,) = page_checks("http://127.0.0.1:9", now=datetime.now(UTC))

    assert (check.name, check.severity) == ("reached", "error")


@pytest.mark.parametrize(
    ("barred", "expected"),
    [([], "ok"), (["r1@example.com"], "ok"), (["r1@example.com", "r2@example.com"], "warning")],
)
def test_lists_that_drift_apart_are_said(
    engine: Engine, keys: Keys, barred: list[str], expected: str
) -> None:
    """Who is barred at the provider and mailed from here."""
    hashed = address_hash(keys.suppression, "r1@example.com")
    with writing(engine) as session:
        session.add(
            Suppression(address_hash=hashed, scope="all", reason="bounced", suppressed_at=datetime.now(UTC))
        )
    with StandIn() as standin:
        standin.suppressions["bounces"] = dict.fromkeys(barred, time.time())
        check = drift_check(engine, SendGrid("SG.x", host=standin.url, timeout_seconds=5), keys)

    assert (check.name, check.severity) == ("suppressions", expected)


HOOK = {
    "url": "https://mail.paper.example/webhooks/sendgrid", "enabled": True, "public_key": "KEY=",
    **dict.fromkeys(("processed", "dropped", "delivered", "deferred", "bounce", "open", "click", "spam_report", "unsubscribe"), True),
}  # fmt: skip
SCOPES = ["mail.send", "suppression.read", "asm.groups.suppressions.delete", "user.scheduled_sends.create"]
ACCOUNT: dict[str, Any] = {
    "/v3/scopes": {"scopes": SCOPES},
    "/v3/whitelabel/domains": [{"domain": "paper.example", "valid": True}],
    "/v3/whitelabel/links": [{"domain": "paper.example", "valid": True}],
    "/v3/user/webhooks/event/settings/all": {"max_allowed": 5, "webhooks": [{}, HOOK]},
}


def asked(**changed: Any) -> dict[str, str]:
    """The severities that are not ok, of an account with something *changed* (last part of the path to document)."""
    with StandIn() as standin:
        standin.account = {path: changed.get(path.rpartition("/")[2], told) for path, told in ACCOUNT.items()}
        provider = SendGrid(
            "SG.x", host=standin.url, timeout_seconds=5, base_url="https://mail.paper.example",
            webhook_public_key="OTHER=, KEY=",
        )  # fmt: skip
        return {name: severity for name, severity, _ in provider.look(DOMAIN) if severity != "ok"}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, {}),
        ({"scopes": {"scopes": SCOPES[1:]}}, {"scopes": "error"}),
        ({"scopes": {"scopes": SCOPES[:1]}}, {"scopes": "warning"}),
        ({"domains": []}, {"sender-domain": "error"}),
        ({"domains": [{"domain": "paper.example", "valid": False}]}, {"sender-domain": "error"}),
        ({"domains": [{"domain": "er.example", "valid": True}]}, {"sender-domain": "error"}),
        ({"links": []}, {"link-branding": "warning"}),
        ({"all": {"webhooks": [{}]}}, {"webhook": "error"}),
        ({"all": {"webhooks": [{**HOOK, "enabled": False}]}}, {"webhook": "error"}),
        ({"all": {"webhooks": [{**HOOK, "spam_report": False}]}}, {"webhook": "error"}),
        ({"all": {"webhooks": [{**HOOK, "public_key": ""}]}}, {"webhook": "error"}),
        ({"all": {"webhooks": [{**HOOK, "public_key": "STRANGE="}]}}, {"webhook": "error"}),
        ({"scopes": ["nonsense"]}, {"scopes": "warning"}),
    ],
)
def test_the_account_is_looked_at(changed: dict[str, Any], expected: dict[str, str]) -> None:
    """Scopes, the sender's domain, link branding, and a webhook that posts everything, signed by a key we hold."""
    assert asked(**changed) == expected
