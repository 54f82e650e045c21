"""
A stand-in for SendGrid's Mail Send: checks requests as the real one does, and fails on demand.

In a test ``with StandIn() as standin:``; from another process ``python -m tests.standin --port N --log FILE``.
The limits are those of the published description and documentation of v3 Mail Send (seen 2026-11).
"""

from __future__ import annotations

import argparse
import json
import re
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple, Self

SCHEMA = Path(__file__).resolve().parents[2] / "shared" / "sendgrid" / "openapi" / "tsg_mail_v3.json"
"""SendGrid's published description; it is no part of this repository and may be absent."""

MAX_BYTES = 30_000_000
RESERVED = frozenset(
    (
        "x-sg-id",
        "x-sg-eid",
        "received",
        "dkim-signature",
        "content-type",
        "content-transfer-encoding",
        "to",
        "from",
        "subject",
        "reply-to",
        "cc",
        "bcc",
    )
)
TOP_LEVEL = frozenset(
    (
        "personalizations",
        "from",
        "reply_to",
        "reply_to_list",
        "subject",
        "content",
        "attachments",
        "template_id",
        "headers",
        "categories",
        "custom_args",
        "send_at",
        "batch_id",
        "asm",
        "ip_pool_name",
        "mail_settings",
        "tracking_settings",
        "sections",
    )
)
ACTIONS = frozenset(
    (
        "accept",
        "accept_without_id",
        "accept_with_200",
        "refuse",
        "refuse_field",
        "rate_limit",
        "retry_after",
        "unauthorized",
        "forbidden",
        "not_found",
        "too_large",
        "server_error_before",
        "server_error_after",
        "bad_gateway",
        "redirect",
        "moved",
        "stall",
        "stall_before",
        "drop_after_accept",
        "reset_after_accept",
        "drop_before_body",
        "truncated",
        "garbage",
    )
)
EMAIL = re.compile(r"[^\s<>()\[\],;:\\\"@]+@[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?\.[A-Za-z0-9-]{2,}")

Action = str | tuple[str, int | float | str]


class Taken(NamedTuple):
    """One reader whose mail was accepted."""

    edition: str
    batch: str
    reader: str
    email: str


class StandIn:
    """
    The server and what it saw.

    *accepted* has one entry for each accepted personalization, *requests* every body that was read,
    *statuses* the answers in order (0 for none). After ``script`` is used up, everything is "accept".
    *delay_seconds* passes half before and half after the acceptance, so a kill can fall on either side.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        key: str = "",
        log: Path | None = None,
        delay_seconds: float = 0.0,
        schema_check: bool = False,
    ) -> None:
        self.accepted: list[Taken] = []
        self.requests: list[Any] = []
        self.headers: list[dict[str, str]] = []
        self.statuses: list[int] = []
        self.schema_errors: list[str] = []
        self.key = key
        self.delay_seconds = delay_seconds
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._script: deque[Action] = deque()
        self._log = log
        self._schema = _schema() if schema_check else None
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.standin = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def script(self, actions: Iterable[Action]) -> None:
        """
        Say what becomes of the next requests, one action each, in order of arrival.

        "refuse" takes the index of the personalization, "refuse_field" a field, "rate_limit" and
        "retry_after" seconds, "stall" and "stall_before" the longest wait in seconds.
        """
        with self._lock:
            for action in actions:
                if _named(action)[0] not in ACTIONS:
                    raise ValueError(f"unknown action {action!r}")
                self._script.append(action)

    def next_action(self) -> tuple[str, Any]:
        """Return the action for a request that has just arrived."""
        with self._lock:
            return _named(self._script.popleft() if self._script else "accept")

    def see(self, body: Any) -> None:
        """Remember a request whose body was read, and hold it against the published schema."""
        with self._lock:
            self.requests.append(body)
            if self._schema is not None:
                self.schema_errors.extend(error.message[:200] for error in self._schema.iter_errors(body))

    def take(self, body: Any, *, outcome: str) -> str:
        """Accept *body*: what is on record here has been accepted, whatever the client learns of it."""
        readers = [
            Taken(
                args.get("nl_edition", ""), args.get("nl_batch", ""), args.get("nl_reader", ""), to["email"]
            )
            for one in body["personalizations"]
            for args in (one.get("custom_args", {}),)
            for to in one["to"]
        ]
        with self._lock:
            self.accepted.extend(readers)
            number = len(self.accepted)
            if self._log is not None:
                line = {
                    "at": time.time(),
                    "outcome": outcome,
                    "personalizations": [
                        {"custom_args": one.get("custom_args", {}), "to": [to["email"] for to in one["to"]]}
                        for one in body["personalizations"]
                    ],
                }
                with self._log.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
        return f"standin.{number}.{time.monotonic_ns():x}"

    def answered(self, status: int) -> None:
        """Remember an answer; 0 is none."""
        with self._lock:
            self.statuses.append(status)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


def faults(body: Any) -> list[dict[str, Any]]:
    """Return what the real service would refuse in *body*, as its ``errors`` list; empty when fine."""
    if not isinstance(body, dict):
        return [_error("Bad Request", None)]
    found: list[dict[str, Any]] = [
        _error("Additional property is not allowed.", name) for name in sorted(body.keys() - TOP_LEVEL)
    ]
    found += _mailbox(body.get("from"), "from")
    if isinstance(body.get("from"), dict) and not str(body["from"].get("email", "")).isascii():
        found.append(_error("Unicode encoding is not supported for this field.", "from.email"))
    if "reply_to" in body:
        found += _mailbox(body["reply_to"], "reply_to")
        if "reply_to_list" in body:
            found.append(_error("reply_to and reply_to_list exclude each other.", "reply_to"))
    found += _content(body)
    found += _headers(body.get("headers", {}), "headers")
    found += _texts(body.get("custom_args", {}), "custom_args", most=10_000)
    found += _categories(body.get("categories", []))
    found += _settings(body)
    found += _personalizations(body)
    return found


def _personalizations(body: dict[str, Any]) -> list[dict[str, Any]]:
    ones = body.get("personalizations")
    if not isinstance(ones, list) or not 1 <= len(ones) <= 1000:
        return [_error("There must be 1 to 1000 personalizations.", "personalizations")]
    found: list[dict[str, Any]] = []
    seen: set[str] = set()
    recipients = 0
    for index, one in enumerate(ones):
        at = f"personalizations.{index}"
        if not isinstance(one, dict) or not isinstance(one.get("to"), list) or not one["to"]:
            found.append(_error("The to array is required and must hold someone.", f"{at}.to"))
            continue
        for kind in ("to", "cc", "bcc"):
            for place, mailbox in enumerate(one.get(kind, [])):
                recipients += 1
                where = f"{at}.{kind}.{place}"
                found += _mailbox(mailbox, where)
                name = mailbox.get("name", "") if isinstance(mailbox, dict) else ""
                if any(mark in str(name) for mark in ";,"):
                    found.append(_error("The name may not contain ; or ,", f"{where}.name"))
                email = str(mailbox.get("email", "")).lower() if isinstance(mailbox, dict) else ""
                if email in seen:
                    found.append(
                        _error(
                            "Each email address in the personalization array must be unique.",
                            f"{where}.email",
                        )
                    )
                seen.add(email)
        if "subject" in one or "subject" not in body:
            found += _subject(one.get("subject"), f"{at}.subject")
        found += _headers(one.get("headers", {}), f"{at}.headers")
        found += _texts(one.get("substitutions", {}), f"{at}.substitutions", most=10_000)
        merged = {**body.get("custom_args", {}), **one.get("custom_args", {})}
        found += _texts(merged, f"{at}.custom_args", most=10_000)
    if recipients > 1000:
        found.append(_error("There may be at most 1000 recipients.", "personalizations"))
    return found


def _content(body: dict[str, Any]) -> list[dict[str, Any]]:
    found = _subject(body["subject"], "subject") if "subject" in body else []
    if "template_id" in body:
        return found
    content = body.get("content")
    if not isinstance(content, list) or not content:
        return [*found, _error("Content is required without a template_id.", "content")]
    for index, part in enumerate(content):
        for name in ("type", "value"):
            if not isinstance(part, dict) or not isinstance(part.get(name), str) or not part[name]:
                found.append(_error("The content must be at least one character.", f"content.{index}.{name}"))
    kinds = [part.get("type") for part in content if isinstance(part, dict)]
    order = [kind for kind in ("text/plain", "text/x-amp-html", "text/html") if kind in kinds]
    if kinds[: len(order)] != order or len(set(kinds)) < len(kinds):
        found.append(_error("text/plain must come first, followed by text/html.", "content"))
    return found


def _subject(subject: Any, at: str) -> list[dict[str, Any]]:
    if not isinstance(subject, str) or not subject:
        return [_error("The subject is required.", at)]
    return [_error("The subject may not hold line ends.", at)] if re.search(r"[\r\n]", subject) else []


def _mailbox(mailbox: Any, at: str) -> list[dict[str, Any]]:
    if not isinstance(mailbox, dict) or not isinstance(mailbox.get("email"), str):
        return [_error("The email is required.", f"{at}.email")]
    found = [_error("Additional property is not allowed.", at)] if mailbox.keys() - {"email", "name"} else []
    if not EMAIL.fullmatch(mailbox["email"]):
        found.append(_error(f"Does not contain a valid address: {mailbox['email']}", f"{at}.email"))
    if not isinstance(mailbox.get("name", ""), str) or re.search(r"[\r\n]", mailbox.get("name", "")):
        found.append(_error("The name is not valid.", f"{at}.name"))
    return found


def _headers(headers: Any, at: str) -> list[dict[str, Any]]:
    found = _texts(headers, at)
    for name, value in headers.items() if isinstance(headers, dict) else ():
        if name.lower() in RESERVED:
            found.append(_error("This header is reserved.", f"{at}.{name}"))
        if re.search(r"[\r\n]", f"{name}{value}") or not f"{name}{value}".isascii():
            found.append(_error("Headers must be encoded and on one line.", f"{at}.{name}"))
    return found


def _texts(pairs: Any, at: str, *, most: int | None = None) -> list[dict[str, Any]]:
    if not isinstance(pairs, dict) or not all(isinstance(value, str) for value in pairs.values()):
        return [_error("All values must be strings.", at)]
    size = sum(len(name.encode()) + len(value.encode("utf-8", "replace")) for name, value in pairs.items())
    return [_error(f"May not exceed {most} bytes.", at)] if most is not None and size > most else []


def _categories(categories: Any) -> list[dict[str, Any]]:
    if not isinstance(categories, list) or not all(isinstance(name, str) for name in categories):
        return [_error("Categories are strings.", "categories")]
    if (
        len(categories) > 10
        or len(set(categories)) < len(categories)
        or any(len(name) > 255 for name in categories)
    ):
        return [_error("At most 10 unique categories of 255 characters.", "categories")]
    return []


def _settings(body: dict[str, Any]) -> list[dict[str, Any]]:
    known = {
        "tracking_settings": {"click_tracking", "open_tracking", "subscription_tracking", "ganalytics"},
        "mail_settings": {
            "bypass_list_management",
            "bypass_spam_management",
            "bypass_bounce_management",
            "bypass_unsubscribe_management",
            "footer",
            "sandbox_mode",
        },
    }
    found = []
    for group, names in known.items():
        given = body.get(group, {})
        if not isinstance(given, dict) or given.keys() - names:
            found.append(_error("Additional property is not allowed.", group))
            continue
        for name, setting in given.items():
            if not isinstance(setting, dict) or not isinstance(setting.get("enable"), bool):
                found.append(_error("enable must be a boolean.", f"{group}.{name}.enable"))
    return found


def _error(message: str, field: str | None) -> dict[str, Any]:
    return {"message": message, "field": field, "help": None}


def _named(action: Action) -> tuple[str, Any]:
    return (action, None) if isinstance(action, str) else action


def _schema() -> Any:
    """The published request schema, its references resolved within the whole document."""
    from jsonschema import Draft202012Validator

    reference = "#/components/requestBodies/PostMailSend/content/application~1json/schema"
    return Draft202012Validator({**json.loads(SCHEMA.read_text(encoding="utf-8")), "$ref": reference})


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    standin: StandIn

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away in the middle is part of the play."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing on stderr."""

    def do_GET(self) -> None:
        """Nothing is read here; a client that follows a redirect would come by."""
        self._answer(200, b"{}")

    def do_POST(self) -> None:
        """Play one request."""
        standin = self.server.standin
        action, value = standin.next_action()
        if action == "drop_before_body":
            self._reset()
            return
        length = int(self.headers.get("Content-Length", "0"))
        raw = self.rfile.read(length)
        standin.headers.append(dict(self.headers.items()))
        standin.closing.wait(standin.delay_seconds / 2)
        if not self._is_let_in(action, length):
            return
        try:
            body = json.loads(raw)
        except ValueError:
            self._refuse(400, [_error("Bad Request", None)])
            return
        standin.see(body)
        if self._failed_before(action, value, body):
            return
        wrong = faults(body)
        if wrong:
            self._refuse(400, wrong)
            return
        if body.get("mail_settings", {}).get("sandbox_mode", {}).get("enable"):
            self._answer(200, b"")
            return
        message_id = standin.take(body, outcome=action)
        standin.closing.wait(standin.delay_seconds / 2)
        self._answer_accepted(action, value, message_id)

    def _is_let_in(self, action: str, length: int) -> bool:
        standin = self.server.standin
        expected = rf"Bearer {re.escape(standin.key)}" if standin.key else r"Bearer (?!None\b)\S+"
        if self.path != "/v3/mail/send" or action == "not_found":
            self._refuse(404, [_error("not found", None)])
        elif action == "unauthorized" or not re.fullmatch(expected, self.headers.get("Authorization", "")):
            self._refuse(
                401, [_error("The provided authorization grant is invalid, expired, or revoked", None)]
            )
        elif action == "forbidden":
            self._refuse(403, [_error("access forbidden", None)])
        elif self.headers.get_content_type() != "application/json":
            self._refuse(415, [_error("Content-Type should be application/json.", None)])
        elif action == "too_large" or length >= MAX_BYTES:
            self._refuse(413, [_error("Payload Too Large", None)])
        else:
            return True
        return False

    def _failed_before(self, action: str, value: Any, body: Any) -> bool:
        """Play what ends a request without its being accepted; whether it did."""
        match action:
            case "refuse" if value is None:
                self._refuse(400, [_error("Bad Request", None)])
            case "refuse":
                to = body["personalizations"][int(value)]["to"][0]
                message = f"Does not contain a valid address: {to['email']}"
                self._refuse(400, [_error(message, f"personalizations.{value}.to.0.email")])
            case "refuse_field":
                self._refuse(400, [_error("Invalid.", str(value))])
            case "rate_limit":
                self._answer(429, b"{}", {"X-RateLimit-Reset": str(int(time.time() + float(value or 0)))})
            case "retry_after":
                self._answer(429, b"{}", {"Retry-After": str(value)})
            case "server_error_before":
                self._refuse(500, [_error("Internal Server Error", None)])
            case "bad_gateway":
                self._answer(502, b"<html>Bad Gateway</html>")
            case "redirect":
                self._answer(302, b"", {"Location": "/elsewhere"})
            case "moved":
                self._answer(301, b"", {"Location": "/elsewhere"})
            case "stall_before":
                self._stall(value)
            case _:
                return False
        return True

    def _answer_accepted(self, action: str, value: Any, message_id: str) -> None:
        match action:
            case "server_error_after":
                self._refuse(500, [_error("Internal Server Error", None)])
            case "stall":
                self._stall(value)
            case "drop_after_accept":
                self.close_connection = True
                self.server.standin.answered(0)
            case "reset_after_accept":
                self._reset()
            case "truncated":
                self.wfile.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 100\r\n\r\n{")
                self.close_connection = True
                self.server.standin.answered(202)
            case "garbage":
                self.wfile.write(b"220 ready for mail\r\n\r\n")
                self.close_connection = True
                self.server.standin.answered(0)
            case "accept_with_200":
                self._answer(200, b"")
            case "accept_without_id":
                self._answer(202, b"")
            case _:
                self._answer(202, b"", {"X-Message-Id": message_id})

    def _stall(self, value: Any) -> None:
        self.server.standin.closing.wait(float(value or 60))
        self.close_connection = True
        self.server.standin.answered(0)

    def _reset(self) -> None:
        """Close so that the client sees a reset, not an end (SO_LINGER of zero seconds)."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.server.standin.answered(0)
        self.connection.close()

    def _refuse(self, status: int, errors: list[dict[str, Any]]) -> None:
        self._answer(status, json.dumps({"errors": errors}).encode())

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.server.standin.answered(status)
        with suppress(OSError):
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)


def main() -> None:
    """Serve until ended, for tests that kill the sender in another process; prints the address first."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--log", type=Path, help="one JSON line for each accepted request")
    parser.add_argument("--key", default="", help="the only key let in; any when not given")
    parser.add_argument(
        "--delay", type=float, default=0.0, help="seconds a request takes, half of them after its acceptance"
    )
    parser.add_argument("--script", default="[]", help='actions as JSON: ["accept", ["rate_limit", 2]]')
    given = parser.parse_args()
    with StandIn(port=given.port, key=given.key, log=given.log, delay_seconds=given.delay) as standin:
        standin.script([tuple(one) if isinstance(one, list) else one for one in json.loads(given.script)])
        print(standin.url, flush=True)
        with suppress(KeyboardInterrupt):
            standin.closing.wait()


if __name__ == "__main__":
    main()
