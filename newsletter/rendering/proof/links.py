"""Links: whole, safe, reachable in principle, and saying where they lead."""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlsplit

from newsletter.articles import is_tracking
from newsletter.rendering.findings import Finding
from newsletter.rendering.proof.material import PERSONAL_LINKS, Variant, content
from newsletter.settings import is_loopback

_LONGEST = 2_000  # Outlook for Windows follows 2,083 characters
_NO_ADDRESS = re.compile(r"[\s\x00-\x20\x7f\"<>\\^`{|}]")
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_IN_TEXT = re.compile(r"https?://[^\s<>]+")
_VAGUE = {"here", "click here", "link", "this", "this link", "read this", "tap here"}
# RFC 6761, 6762 and 8375, and what office networks are named.
_PRIVATE_ENDS = (
    ".local",
    ".localhost",
    ".internal",
    ".intranet",
    ".lan",
    ".home",
    ".corp",
    ".home.arpa",
    ".invalid",
)


def check_variant(one: Variant) -> Iterator[Finding]:
    """Every link of both parts; the addresses of pictures are looked at for where they lead."""
    seen: set[str] = set()
    for link, address in one.links:
        if address in PERSONAL_LINKS:
            if link.get("clicktracking") != "off":
                yield one.find("tracked-unsubscribe", where=address)
        elif address not in seen:
            seen.add(address)
            yield from _address(one, "html", address)
        yield from _words(one, link, address)
    for found in _IN_TEXT.findall(one.rendered.text):
        address = found.rstrip(".,;:!?)]}’”»\u2069")
        if address not in seen:
            seen.add(address)
            yield from _address(one, "text", address)
    ours = f"{one.edition.base_url}/media/"  # what it says of base_url says it of these, once
    for _, address in one.pictures:
        if not address.startswith(ours) and address not in seen and "link-private" in dict(faults(address)):
            yield one.find("link-private", where=address, is_theirs=one.edition.is_theirs(address))
        seen.add(address)


def _address(one: Variant, part: str, address: str) -> Iterator[Finding]:
    for code, message in faults(address):
        yield one.find(
            code, part, where=address or "empty", message=message, is_theirs=one.edition.is_theirs(address)
        )


def _words(one: Variant, link: Any, address: str) -> Iterator[Finding]:
    words = content(link)
    if not words and next(link.iter("img"), None) is None:
        yield one.find("link-empty", where=address)
    elif words.casefold().rstrip(" .!→»") in _VAGUE:
        yield one.find(
            "link-vague", where=address, message=f"A link says only “{words}”.",
            is_theirs=one.edition.is_theirs(address),
        )  # fmt: skip


@lru_cache(maxsize=8_192)
def faults(address: str) -> tuple[tuple[str, str], ...]:
    """What is wrong with an address, whatever answers there: (code, message)."""
    return tuple(_faults(address))


def why_no_picture(address: str, *, at_home: bool) -> str:
    """Why no mail program would load a picture from *address*, in a sentence, or ''; *at_home*: here one may."""
    found = {code for code, _ in faults(address)}
    if not address.startswith(("https://", "http://")) or "link-syntax" in found:
        return "give a whole one, with https:// and host."
    if "link-credentials" in found:
        return "it holds a user name or password."
    if "link-private" in found and not at_home:
        return f"readers cannot reach {urlsplit(address).hostname}; give one on a public host."
    return ""


def _faults(address: str) -> Iterator[tuple[str, str]]:
    try:
        parts = urlsplit(address)
        host, _ = (parts.hostname or ""), parts.port
    except ValueError as error:
        yield "link-syntax", f"A link is no valid address: {error}."
        return
    if not parts.scheme:
        yield "link-relative", "A link is not a whole address." if address else "A link leads nowhere."
        return
    if parts.scheme in ("mailto", "tel"):
        if not parts.path or (parts.scheme == "mailto" and "@" not in parts.path):
            yield "link-syntax", f"A {parts.scheme} link names nobody."
        return
    if parts.scheme not in ("http", "https"):
        yield "link-scheme", f"A link is of the kind {parts.scheme!r}; mail programs block it."
        return
    if found := _NO_ADDRESS.search(address):
        yield "link-syntax", f"A link holds {found[0]!r}, which no address may."
    if not _is_host(host):
        yield "link-syntax", f"A link's host {host!r} is no valid name."
    elif _is_private(host):
        yield "link-private", f"A link leads to {host}, which readers cannot reach."
    if parts.username is not None:
        yield "link-credentials", "A link holds a user name or password."
    if parts.scheme == "http":
        yield "link-insecure", "A link is http, not https."
    if len(address) > _LONGEST:
        yield "link-long", f"A link has {len(address)} characters."
    if doubled := _doubled(parts):
        yield "link-tracked-twice", f"A link has {doubled}."


def _is_host(host: str) -> bool:
    if _ip(host):
        return True
    try:
        name = host.rstrip(".").encode("idna").decode("ascii").lower()
    except UnicodeError:
        return False
    return all(_LABEL.fullmatch(label) for label in name.split(".")) and len(name) <= 253


def _is_private(host: str) -> bool:
    if is_loopback(host):
        return True
    if address := _ip(host):
        return not address.is_global
    name = host.rstrip(".")
    return "." not in name or name.endswith(_PRIVATE_ENDS)


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.split("%")[0])
    except ValueError:
        return None


def _doubled(parts: SplitResult) -> str:
    """The tracking parameters that stand twice, in words, or ''."""
    asked = parts.query
    pairs = parse_qsl(asked.replace("?", "&"), keep_blank_values=True)
    tracking = Counter(name for name, _ in pairs if is_tracking(name))
    twice = sorted(name for name, count in tracking.items() if count > 1)
    if twice:
        return f"{', '.join(twice)} twice"
    return "a second question mark before its tracking parameters" if "?" in asked and tracking else ""
