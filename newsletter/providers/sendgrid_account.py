"""
What SendGrid says of the account: may the key do what we need, is the sender known, does the webhook post.

Read only. Sources: v3 API, "Scopes", "Sender Authentication", "Link Branding", "Event Webhook" (seen 2026-11).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.client import HTTPException
from typing import Any

from python_http_client.exceptions import HTTPError

from newsletter.providers import Finding, Record

_SCOPES = {
    "mail.send": "nothing can be sent",
    "suppression.read": "its lists cannot be read",
    "asm.groups.suppressions.delete": "who joined again stays barred there",
    "user.scheduled_sends.create": "scheduled mails cannot be called back",
}
_EVENTS = (
    "processed", "dropped", "delivered", "deferred", "bounce", "open", "click", "spam_report", "unsubscribe",
)  # fmt: skip


def account_checks(client: Any, *, domain: str, webhook_url: str, public_keys: str) -> Iterator[Finding]:  # fmt: skip
    """Look at everything; *client* stands at ``/v3``, *domain* is the sender's, *webhook_url* where events should come."""
    for look in (_scopes, _sender, _links, _webhook):
        try:
            yield from look(client, domain, webhook_url, public_keys)
        except HTTPError as answer:
            name = look.__name__.strip("_")
            yield Finding(
                name,
                "warning",
                f"SendGrid does not let the key look at {name} ({answer.status_code}); look in its pages.",
            )
        except (OSError, HTTPException, ValueError, KeyError, TypeError, AttributeError) as error:
            yield Finding(
                look.__name__.strip("_"),
                "warning",
                f"SendGrid could not be asked ({type(error).__name__}); ask again later.",
            )


def records_of(client: Any, domain: str) -> Iterator[Record]:
    """The records of its "Sender Authentication" for *domain* and of its branded links."""
    for about, path in (("sender", "whitelabel/domains"), ("links", "whitelabel/links")):
        try:
            told = [one for one in _get(client, path) if _is_for(one["domain"], domain, about)]
            found = [record for one in told for record in one["dns"].values()]
            yield from (
                Record(about, one["host"].rstrip("."), one["type"].upper(), one["data"].rstrip("."))
                for one in found
            )
        except (HTTPError, OSError, HTTPException, ValueError, KeyError, TypeError, AttributeError):
            continue  # account_checks says so


def _is_for(known: str, domain: str, about: str) -> bool:
    top = ".".join(domain.split(".")[-2:])
    return _covers(known, domain) or (about == "links" and _covers(known, top))


def _get(client: Any, path: str) -> Any:
    for part in path.split("/"):
        client = client._(part)
    return json.loads(client.get(timeout=10).body)


def _scopes(client: Any, _domain: str, _url: str, _keys: str) -> Iterator[Finding]:
    held = set(_get(client, "scopes")["scopes"])
    lacking = {scope: cost for scope, cost in _SCOPES.items() if scope not in held}
    for scope, cost in lacking.items():
        severity = "error" if scope == "mail.send" else "warning"
        yield Finding(
            "scopes",
            severity,
            f"The key lacks the scope {scope}: {cost}. Give it the scope in SendGrid's pages.",
        )
    if not lacking:
        yield Finding("scopes", "ok", "The key has the scopes we need.")


def _sender(client: Any, domain: str, _url: str, _keys: str) -> Iterator[Finding]:
    known = [one for one in _get(client, "whitelabel/domains") if _covers(one["domain"], domain)]
    if not known:
        yield Finding(
            "sender-domain",
            "error",
            f"{domain} is not authenticated at SendGrid: Settings, Sender Authentication.",
        )
    elif not any(one["valid"] for one in known):
        yield Finding(
            "sender-domain",
            "error",
            f"SendGrid does not find the DNS records of {domain} any more: publish and verify them again.",
        )
    else:
        yield Finding("sender-domain", "ok", f"{domain} is authenticated at SendGrid.")


def _links(client: Any, domain: str, _url: str, _keys: str) -> Iterator[Finding]:
    branded = [one for one in _get(client, "whitelabel/links") if _is_for(one["domain"], domain, "links")]
    if any(one["valid"] for one in branded):
        yield Finding("link-branding", "ok", "Tracked links lead over a name of yours.")
    else:
        yield Finding(
            "link-branding",
            "warning",
            "Tracked links lead over SendGrid's name: brand them (Sender Authentication, Link Branding).",
        )


def _webhook(client: Any, _domain: str, url: str, keys: str) -> Iterator[Finding]:
    ours = [
        one
        for one in _get(client, "user/webhooks/event/settings/all")["webhooks"]
        if one.get("url", "").rstrip("/") == url
    ]
    if not any(one.get("enabled") for one in ours):
        yield Finding(
            "webhook",
            "error",
            f"No enabled event webhook posts to {url}: Settings, Mail Settings, Event Webhooks.",
        )
        return
    hook = next(one for one in ours if one.get("enabled"))
    lacking = [name for name in _EVENTS if not hook.get(name)]
    if lacking:
        yield Finding("webhook", "error", f"The event webhook does not post {', '.join(lacking)}: tick them.")
    signed_with = hook.get("public_key") or ""
    if not signed_with:
        yield Finding(
            "webhook",
            "error",
            "The event webhook does not sign: turn the signature on and put its key into SENDGRID_WEBHOOK_PUBLIC_KEY.",
        )
    elif "".join(signed_with.split()) not in {"".join(key.split()) for key in keys.split(",")}:
        yield Finding(
            "webhook",
            "error",
            "The event webhook signs with a key that SENDGRID_WEBHOOK_PUBLIC_KEY does not hold: add it.",
        )
    elif not lacking:
        yield Finding("webhook", "ok", "The event webhook posts all we need, signed by a key we know.")


def _covers(known: str, domain: str) -> bool:
    return domain == known or domain.endswith(f".{known}")
