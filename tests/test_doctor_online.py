"""The doctor online: each finding once right and once wrong, against a name server and an account of our own."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from dns.resolver import Resolver

from newsletter.cli.dns_checks import dns_checks
from newsletter.providers.sendgrid import SendGrid
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
