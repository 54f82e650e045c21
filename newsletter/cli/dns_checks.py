"""What the world's name servers say of the sender: SPF, DKIM, DMARC and whether readers find the pages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from dns.exception import DNSException
from dns.resolver import NXDOMAIN, NoAnswer, NoNameservers, Resolver

from newsletter.cli.checks import Check

_SECONDS = 5.0


def make_resolver() -> Resolver:
    """The system's name servers."""
    resolver = Resolver()
    resolver.lifetime = _SECONDS
    return resolver


def dns_checks(
    resolver: Resolver, *, domain: str, selectors: Sequence[str], base_host: str
) -> Iterator[Check]:
    """
    Look at the records of the sender's *domain* and at the host of the pages.

    *selectors* are the names under which the provider signs; none: signing is not looked at.
    """
    try:
        yield _spf(resolver, domain)
        for selector in selectors:
            yield _dkim(resolver, domain, selector)
        yield _dmarc(resolver, domain)
        yield _host(resolver, base_host)
    except (DNSException, OSError) as error:
        yield Check(
            "dns", "warning", f"The name servers do not answer ({type(error).__name__}); ask again later."
        )


def _spf(resolver: Resolver, domain: str) -> Check:
    found = [text for text in _texts(resolver, domain) if text.lower().split(" ")[0] == "v=spf1"]
    if len(found) > 1:
        return Check(
            "spf",
            "error",
            f"{domain} has {len(found)} SPF records, which counts as none (RFC 7208 4.5): make them one.",
        )
    if not found:
        return Check(
            "spf",
            "warning",
            f"{domain} has no SPF record: put v=spf1 with your provider's include and -all there.",
        )
    if found[0].lower().split()[-1] in ("+all", "all", "?all"):
        return Check(
            "spf",
            "error",
            f"The SPF record of {domain} lets anybody send in its name: end it with ~all or -all.",
        )
    return Check("spf", "ok", f"{domain} has one SPF record.")


def _dkim(resolver: Resolver, domain: str, selector: str) -> Check:
    name = f"{selector}._domainkey.{domain}"
    tags = [_tags(text) for text in _texts(resolver, name)]
    if not any("p" in one for one in tags):
        return Check(
            "dkim", "error",
            f"{name} holds no key, so mails are not signed in your name: authenticate the domain at the provider and publish its records.",
        )  # fmt: skip
    if not any(one.get("p") for one in tags):
        return Check(
            "dkim", "error", f"The key at {name} is revoked (p is empty): authenticate the domain anew."
        )
    return Check("dkim", "ok", f"{name} holds a key; signatures are aligned with the sender.")


def _dmarc(resolver: Resolver, domain: str) -> Check:
    """At the domain or the nearest one above it that has a record, as receivers look for it (RFC 9989 4.10)."""
    labels = domain.split(".")
    for start in range(len(labels) - 1):
        name = ".".join(labels[start:])
        found = [
            _tags(text) for text in _texts(resolver, f"_dmarc.{name}") if text.lower().startswith("v=dmarc1")
        ]
        if len(found) > 1:
            return Check(
                "dmarc",
                "error",
                f"_dmarc.{name} has {len(found)} records, which counts as none: make them one.",
            )
        if found:
            return _dmarc_of(found[0], name, inherited=start > 0)
    return Check(
        "dmarc", "error",
        f"{domain} has no DMARC record, which Gmail and Yahoo ask of whoever sends many mails: put v=DMARC1; p=none; rua=mailto:… at _dmarc.{domain}.",
    )  # fmt: skip


def _dmarc_of(tags: dict[str, str], name: str, *, inherited: bool) -> Check:
    policy = (tags.get("sp") if inherited else None) or tags.get("p", "")
    if policy not in ("none", "quarantine", "reject"):
        return Check(
            "dmarc",
            "error",
            f"The DMARC record at _dmarc.{name} says p={policy or 'nothing'}: write none, quarantine or reject.",
        )
    if policy == "none" and "rua" not in tags:
        return Check(
            "dmarc",
            "warning",
            f"DMARC at _dmarc.{name} neither asks for anything (p=none) nor has reports sent: add rua=mailto:…",
        )
    if tags.get("adkim") == "s" and inherited:
        return Check(
            "dmarc", "warning",
            f"DMARC at _dmarc.{name} wants signatures of exactly the sender's domain (adkim=s): the provider has to sign with that one.",
        )  # fmt: skip
    return Check("dmarc", "ok", f"DMARC at _dmarc.{name} says {policy}.")


def _host(resolver: Resolver, host: str) -> Check:
    if any(_answers(resolver, host, kind) for kind in ("A", "AAAA")):
        return Check("pages", "ok", f"{host} has an address.")
    return Check(
        "pages",
        "error",
        f"{host} has no address: readers cannot leave. Point it at the proxy before newsletter serve.",
    )


def _texts(resolver: Resolver, name: str) -> list[str]:
    return [
        b"".join(record.strings).decode("utf-8", "replace").strip()
        for record in _answers(resolver, name, "TXT")
    ]


def _answers(resolver: Resolver, name: str, kind: str) -> list[Any]:
    try:
        return list(resolver.resolve(name, kind, search=False))
    except (NXDOMAIN, NoAnswer):
        return []
    except NoNameservers:  # the zone itself is broken: as good as nothing for whoever receives
        return []


def _tags(text: str) -> dict[str, str]:
    """The tags of a DKIM or DMARC record (RFC 6376 3.2)."""
    pairs = (part.split("=", 1) for part in text.split(";") if "=" in part)
    return {name.strip().lower(): value.strip() for name, value in pairs}
