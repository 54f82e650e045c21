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

from newsletter.providers.sendgrid import SendGrid

_SCOPES = {
    "mail.send": "nothing can be sent",
    "suppression.read": "its lists cannot be read",
    "asm.groups.suppressions.delete": "who joined again stays barred there",
    "user.scheduled_sends.create": "scheduled mails cannot be called back",
}
_EVENTS = (
    "processed", "dropped", "delivered", "deferred", "bounce", "open", "click", "spam_report", "unsubscribe",
)  # fmt: skip


def account_checks(provider: SendGrid, *, domain: str, webhook_url: str, public_keys: str) -> Iterator[tuple[str, str, str]]:  # fmt: skip
    """(what was looked at, severity, sentence); *domain* is the sender's, *webhook_url* where events should come."""
    for look in (_scopes, _sender, _links, _webhook):
        try:
            yield from look(provider, domain, webhook_url, public_keys)
        except HTTPError as answer:
            name = look.__name__.strip("_")
            yield (
                name,
                "warning",
                f"SendGrid does not let the key look at {name} ({answer.status_code}); look in its pages.",
            )
        except (OSError, HTTPException, ValueError, KeyError, TypeError, AttributeError) as error:
            yield (
                look.__name__.strip("_"),
                "warning",
                f"SendGrid could not be asked ({type(error).__name__}); ask again later.",
            )


def _get(provider: SendGrid, path: str) -> Any:
    client = provider.client
    for part in path.split("/"):
        client = client._(part)
    return json.loads(client.get(timeout=10).body)


def _scopes(provider: SendGrid, _domain: str, _url: str, _keys: str) -> Iterator[tuple[str, str, str]]:
    held = set(_get(provider, "scopes")["scopes"])
    lacking = {scope: cost for scope, cost in _SCOPES.items() if scope not in held}
    for scope, cost in lacking.items():
        severity = "error" if scope == "mail.send" else "warning"
        yield (
            "scopes",
            severity,
            f"The key lacks the scope {scope}: {cost}. Give it the scope in SendGrid's pages.",
        )
    if not lacking:
        yield "scopes", "ok", "The key has the scopes we need."


def _sender(provider: SendGrid, domain: str, _url: str, _keys: str) -> Iterator[tuple[str, str, str]]:
    known = [one for one in _get(provider, "whitelabel/domains") if _covers(one["domain"], domain)]
    if not known:
        yield (
            "sender-domain",
            "error",
            f"{domain} is not authenticated at SendGrid: Settings, Sender Authentication.",
        )
    elif not any(one["valid"] for one in known):
        yield (
            "sender-domain",
            "error",
            f"SendGrid does not find the DNS records of {domain} any more: publish and verify them again.",
        )
    else:
        yield "sender-domain", "ok", f"{domain} is authenticated at SendGrid."


def _links(provider: SendGrid, domain: str, _url: str, _keys: str) -> Iterator[tuple[str, str, str]]:
    top = ".".join(domain.split(".")[-2:])
    branded = [
        one
        for one in _get(provider, "whitelabel/links")
        if _covers(one["domain"], top) or _covers(one["domain"], domain)
    ]
    if any(one["valid"] for one in branded):
        yield "link-branding", "ok", "Tracked links lead over a name of yours."
    else:
        yield (
            "link-branding",
            "warning",
            "Tracked links lead over SendGrid's name: brand them (Sender Authentication, Link Branding).",
        )


def _webhook(provider: SendGrid, _domain: str, url: str, keys: str) -> Iterator[tuple[str, str, str]]:
    ours = [
        one
        for one in _get(provider, "user/webhooks/event/settings/all")["webhooks"]
        if one.get("url", "").rstrip("/") == url
    ]
    if not any(one.get("enabled") for one in ours):
        yield (
            "webhook",
            "error",
            f"No enabled event webhook posts to {url}: Settings, Mail Settings, Event Webhooks.",
        )
        return
    hook = next(one for one in ours if one.get("enabled"))
    lacking = [name for name in _EVENTS if not hook.get(name)]
    if lacking:
        yield "webhook", "error", f"The event webhook does not post {', '.join(lacking)}: tick them."
    signed_with = hook.get("public_key") or ""
    if not signed_with:
        yield (
            "webhook",
            "error",
            "The event webhook does not sign: turn the signature on and put its key into SENDGRID_WEBHOOK_PUBLIC_KEY.",
        )
    elif "".join(signed_with.split()) not in {"".join(key.split()) for key in keys.split(",")}:
        yield (
            "webhook",
            "error",
            "The event webhook signs with a key that SENDGRID_WEBHOOK_PUBLIC_KEY does not hold: add it.",
        )
    elif not lacking:
        yield "webhook", "ok", "The event webhook posts all we need, signed by a key we know."


def _covers(known: str, domain: str) -> bool:
    return domain == known or domain.endswith(f".{known}")
