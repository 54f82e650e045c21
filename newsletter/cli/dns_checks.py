"""What the world's name servers say: SPF, DKIM and DMARC of the sender, branded links, and whether readers find the pages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import ip_address
from typing import Any

from dns.exception import DNSException
from dns.resolver import NXDOMAIN, NoAnswer, NoNameservers, Resolver

from newsletter.cli.checks import Check
from newsletter.providers import Record

_SECONDS = 5.0
_MOST_LOOKUPS = 10


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

    *selectors* are the names under which the provider signs; none: nobody knows them.
    """
    try:
        yield _spf(resolver, domain)
        if not selectors:
            yield Check(
                "dkim", "note",
                f"Under which name mails are signed is known to who sends them: test-send one to yourself and look for dkim=pass with d={domain} in its headers.",
            )  # fmt: skip
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
    asked = _spf_lookups(resolver, domain, found[0])
    if asked > _MOST_LOOKUPS:
        return Check(
            "spf", "error",
            f"The SPF record of {domain} makes receivers ask {asked} times, and after {_MOST_LOOKUPS} it counts as broken (RFC 7208 4.6.4): take out what no longer sends.",
        )  # fmt: skip
    return Check("spf", "ok", f"{domain} has one SPF record.")


def _spf_lookups(resolver: Resolver, domain: str, record: str, depth: int = 0) -> int:
    """How often a receiver has to ask, included records as well; one that includes itself ends at the limit."""
    asked = 0
    for term in record.lower().split()[1:]:
        name, _, value = term.lstrip("+-~?").replace("redirect=", "redirect:").partition(":")
        if name.partition("/")[0] not in ("include", "a", "mx", "ptr", "exists", "redirect"):
            continue
        asked += 1
        if name in ("include", "redirect") and value and depth < _MOST_LOOKUPS and "%" not in value:
            texts = [one for one in _texts(resolver, value) if one.lower().startswith("v=spf1")]
            asked += sum(_spf_lookups(resolver, value, one, depth + 1) for one in texts[:1])
        if asked > _MOST_LOOKUPS:
            break
    return asked


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


def record_checks(resolver: Resolver, records: Iterable[Record]) -> Iterator[Check]:
    """Whether what the provider asks for is published as it wants it; one check for the sender, one for the links."""
    by_about: dict[str, list[Record]] = {}
    for record in records:
        by_about.setdefault(record.about, []).append(record)
    for about, wanted in by_about.items():
        try:
            wrong = [one for one in wanted if one.value.lower() not in _published(resolver, one)]
        except (DNSException, OSError) as error:
            yield Check(
                f"{about}-records", "warning", f"The name servers do not answer ({type(error).__name__}); ask again later."
            )  # fmt: skip
            continue
        if wrong:
            told = "; ".join(f"{one.name} {one.kind} {one.value}" for one in wrong)
            severity = "error" if about == "sender" else "warning"
            yield Check(
                f"{about}-records", severity, f"Not published as the provider asks, publish exactly: {told}"
            )
        else:
            yield Check(
                f"{about}-records", "ok", f"{len(wanted)} records of the {about} are as the provider asks."
            )


def _published(resolver: Resolver, record: Record) -> set[str]:
    if record.kind == "TXT":
        return {text.lower() for text in _texts(resolver, record.name)}
    answers = _answers(resolver, record.name, record.kind)
    names = (getattr(one, "target", None) or getattr(one, "exchange", one) for one in answers)
    return {str(name).rstrip(".").lower() for name in names}


def _host(resolver: Resolver, host: str) -> Check:
    if _is_address(host):
        return Check("pages", "ok", f"{host} is an address.")
    if any(_answers(resolver, host, kind) for kind in ("A", "AAAA")):
        return Check("pages", "ok", f"{host} has an address.")
    return Check(
        "pages",
        "error",
        f"{host} has no address: readers cannot leave. Point it at the proxy before newsletter serve.",
    )


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


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
