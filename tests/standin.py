"""
A stand-in for SendGrid's Mail Send and scheduled sends: checks requests as the real one does, fails on demand.

In a test ``with StandIn() as standin:``; from another process ``python -m tests.standin --port N --log FILE``,
which also answers GET ``/_standin/accepted``, ``/_standin/stats`` and ``/_standin/events?kinds=a,b&limit=N``.
The limits are those of the published description and documentation of v3 Mail Send (seen 2026-11).
"""

from __future__ import annotations

import argparse
import json
import random
import re
import socket
import struct
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any, Self, TextIO
from urllib.parse import parse_qs, unquote, urlsplit

from tests.standin_events import (
    EARLY,
    MOST_AHEAD,
    NOWHERE,
    Kept,
    Schedule,
    Taken,
    log_line,
    make_event,
    new_key,
    post_events,
    sign,
)

__all__ = [
    "ACTIONS",
    "SCHEMA",
    "Action",
    "Kept",
    "StandIn",
    "Taken",
    "faults",
    "new_key",
    "post_events",
    "sign",
]

SCHEMA = Path(__file__).resolve().parents[2] / "shared" / "sendgrid" / "openapi" / "tsg_mail_v3.json"
"""SendGrid's published description; it is no part of this repository and may be absent."""

MAIL_SEND = "/v3/mail/send"
MAIL_BATCH = "/v3/mail/batch"
SCHEDULED_SENDS = "/v3/user/scheduled_sends"
SUPPRESSION = "/v3/suppression"
GLOBAL = "/v3/asm/suppressions/global"
ROUTES = (MAIL_SEND, MAIL_BATCH, SCHEDULED_SENDS, SUPPRESSION, GLOBAL)

MAX_BYTES = 30_000_000
SETTLED = 0.02
"""Seconds after which a client has sent what fits into the buffers: a reset then finds small bodies sent whole."""

RESERVED = frozenset(
    "x-sg-id x-sg-eid received dkim-signature content-type content-transfer-encoding "  # noqa: SIM905
    "to from subject reply-to cc bcc".split()
)
TOP_LEVEL = frozenset(
    "personalizations from reply_to reply_to_list subject content attachments template_id headers categories "  # noqa: SIM905
    "custom_args send_at batch_id asm ip_pool_name mail_settings tracking_settings sections".split()
)
ACTIONS = frozenset(
    "accept accept_without_id accept_with_200 refuse refuse_field rate_limit retry_after unauthorized forbidden "  # noqa: SIM905
    "not_found too_large server_error_before server_error_after bad_gateway redirect moved stall stall_before "
    "drop_after_accept reset_after_accept drop_before_body reset_mid_body drop_keep_alive truncated "
    "garbage".split()
)
EMAIL = re.compile(r"[^\s<>()\[\],;:\\\"@]+@[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?\.[A-Za-z0-9-]{2,}")

Action = str | tuple[str, int | float | str]


class StandIn:
    """
    The server and what it saw.

    *accepted* has one entry for each accepted personalization that has left, *scheduled* the requests kept
    until their ``send_at``, *suppressions* the account's lists (address to when it was listed), *account* what it answers to other questions (path to document), *discarded* the readers whose mail was cancelled in time. *requests* has every
    mail body that was read (not without *keep_requests*), *statuses* the answers in order (0 for none).

    After ``script`` is used up, mail is accepted, or meets one of *faults* (action to probability), drawn by
    *seed*. *delay_seconds* passes half before and half after the acceptance, so a kill can fall on either side.
    *clock* gives seconds since 1970; kept mail moves when a request comes or ``release_due`` is called.
    *cancel_limit* is how many scheduled sends may be stopped at a time. *bad_addresses* says which are refused.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        key: str = "",
        log: Path | None = None,
        delay_seconds: float = 0.0,
        schema_check: bool = False,
        faults: dict[str, float] | None = None,
        seed: int = 0,
        stall_seconds: float = 1.0,
        cancel_limit: int = 10,
        bad_addresses: Callable[[str], bool] | None = None,
        keep_requests: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.accepted: list[Taken] = []
        self.scheduled: list[Kept] = []
        self.discarded: list[Taken] = []
        self.requests: list[Any] = []
        self.headers: list[dict[str, str]] = []
        self.statuses: list[int] = []
        self.account: dict[str, Any] = {}
        self.suppressions: dict[str, dict[str, float]] = {
            name: {} for name in ("bounces", "invalid_emails", "spam_reports", "unsubscribes", "blocks")
        }
        self.schema_errors: list[str] = []
        self.key = key
        self.delay_seconds = delay_seconds
        self.stall_seconds = stall_seconds
        self.bad_addresses = bad_addresses
        self.keep_requests = keep_requests
        self.clock = clock
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._scripts: dict[str, deque[Action]] = {route: deque() for route in ROUTES}
        self._faults = _probabilities(faults or {})
        self._random = random.Random(seed)
        self._begun = 0
        self._kept: list[Kept] = []
        self._by_batch: dict[tuple[str, str], list[Kept]] = defaultdict(list)
        self._schedule = Schedule(cancel_limit)
        self._readers = 0
        self._serial = count(1)
        self._log = log
        self._log_file: TextIO | None = None
        self._schema = _schema() if schema_check else None
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.standin = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def taken(self) -> list[Taken]:
        """All whose mail was accepted and not discarded: *accepted*, and the readers of *scheduled*."""
        with self._lock:
            return [*self.accepted, *(reader for kept in self.scheduled for reader in kept.readers)]

    @property
    def stats(self) -> dict[str, Any]:
        """Counts: requests begun, readers accepted, scheduled and discarded, answers by status."""
        with self._lock:
            return {
                "requests": self._begun,
                "accepted": len(self.accepted),
                "scheduled": sum(len(kept.readers) for kept in self.scheduled),
                "discarded": len(self.discarded),
                "statuses": {str(status): times for status, times in Counter(self.statuses).items()},
            }

    def script(self, actions: Iterable[Action], *, path: str = MAIL_SEND) -> None:
        """
        Say what becomes of the next requests to *path*, one action each, in order of arrival.

        "refuse" takes the index of the personalization, "refuse_field" a field, "rate_limit" and
        "retry_after" seconds, "stall" and "stall_before" the longest wait in seconds.
        """
        with self._lock:
            for action in actions:
                if _named(action)[0] not in ACTIONS:
                    raise ValueError(f"unknown action {action!r}")
                self._scripts[path].append(action)

    def next_action(self, route: str = MAIL_SEND) -> tuple[str, Any]:
        """Return the action for a request that has just arrived: scripted, else drawn for mail, else accept."""
        with self._lock:
            self._begun += 1
            if self._scripts.get(route):
                return _named(self._scripts[route].popleft())
            if not self._faults or route != MAIL_SEND:
                return "accept", None
            drawn = self._random.random()
            for name, share in self._faults.items():
                drawn -= share
                if drawn < 0:
                    waits = {"rate_limit": 0, "retry_after": 0}
                    return name, self.stall_seconds if name.startswith("stall") else waits.get(name)
            return "accept", None

    def see(self, body: Any) -> None:
        """Remember a request whose body was read, and hold it against the published schema."""
        with self._lock:
            if self.keep_requests:
                self.requests.append(body)
            if self._schema is not None:
                self.schema_errors.extend(error.message[:200] for error in self._schema.iter_errors(body))

    def unfit(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        """Return what is wrong with a well-formed *body* here and now: its time, or an address."""
        send_at = body.get("send_at", 0)
        if type(send_at) is not int or not isinstance(body.get("batch_id", ""), str):
            return [_error("Invalid type.", "send_at" if type(send_at) is not int else "batch_id")]
        if send_at > self.clock() + MOST_AHEAD:
            return [_error("Scheduling more than 72 hours in advance is forbidden.", "send_at")]
        for index, one in enumerate(body["personalizations"]):
            if "send_at" in one:
                return [_error("The stand-in schedules whole requests.", f"personalizations.{index}.send_at")]
            for place, to in enumerate(one["to"] if self.bad_addresses else ()):
                if self.bad_addresses and self.bad_addresses(to["email"]):
                    message = f"Does not contain a valid address: {to['email']}"
                    return [_error(message, f"personalizations.{index}.to.{place}.email")]
        return []

    def take(self, body: Any, *, outcome: str) -> str:
        """Accept *body*: what is on record here has been accepted, whatever the client learns of it."""
        shared = body.get("custom_args", {})
        readers = [
            Taken(
                args.get("nl_edition", ""), args.get("nl_batch", ""), args.get("nl_reader", ""), to["email"]
            )
            for one in body["personalizations"]
            for args in ({**shared, **one.get("custom_args", {})},)
            for to in one["to"]
        ]
        batch_id, send_at = body.get("batch_id", ""), body.get("send_at")
        with self._lock:
            now = self.clock()
            self._readers += len(readers)
            message_id = f"standin.{self._readers}.{time.monotonic_ns():x}"
            if send_at is not None and send_at <= now:
                send_at = None
            kept = Kept(
                len(self._kept) + 1,
                batch_id,
                send_at,
                readers,
                message_id,
                body.get("categories", []),
                outcome,
            )
            self._kept.append(kept)
            for of_batch in {(one.edition, one.batch) for one in readers}:
                self._by_batch[of_batch].append(kept)
            self._schedule.note(batch_id, now if send_at is None else send_at)
            if send_at is None:
                self._deliver(kept)
            else:
                self.scheduled.append(kept)
        return message_id

    def release_due(self) -> None:
        """Let kept mail go whose time has come, and drop what was cancelled or paused for too long."""
        with self._lock:
            now = self.clock()
            due = [one for one in self.scheduled if one.send_at is not None and one.send_at <= now]
            gone = [one for one in due if not self._schedule.is_held(one, now)]
            if not gone:
                return
            leaving = set(gone)
            self.scheduled[:] = [one for one in self.scheduled if one not in leaving]
            for kept in gone:
                if self._schedule.is_stopped(kept):
                    self.discarded.extend(kept.readers)
                else:
                    self._deliver(kept)

    def new_batch(self) -> str:
        """Return a fresh ``batch_id``."""
        with self._lock:
            return self._schedule.new_batch()

    def stop(self, method: str, batch_id: str, body: Any) -> tuple[int, Any]:
        """Return status and body for a request to ``/v3/user/scheduled_sends``; *batch_id* is that of the path."""
        with self._lock:
            return self._schedule.answer(method, batch_id, body, self.clock())

    def list_of(self, name: str, asked: dict[str, str]) -> tuple[int, Any]:
        """Return status and body for a request to one of the lists, a page at a time."""
        limit, offset = int(asked.get("limit", "500")), int(asked.get("offset", "0"))
        if name not in self.suppressions or limit > 500:
            return 404 if name not in self.suppressions else 400, {"errors": [{"message": "no"}]}
        since = float(asked.get("start_time", "0"))
        found = [
            {"created": int(at), "email": email, "reason": "550 no such user", "status": "5.1.1"}
            for email, at in self.suppressions[name].items()
            if at >= since
        ]
        return 200, found[offset : offset + limit]

    def take_off(self, email: str) -> int:
        """Take an address off the global unsubscribes; return the status."""
        return 204 if self.suppressions["unsubscribes"].pop(email, None) is not None else 404

    def _deliver(self, kept: Kept) -> None:
        """Let a request go out; the lock is held."""
        kept.is_out = True
        self.accepted.extend(kept.readers)
        if self._log is None:
            return
        if self._log_file is None:
            self._log_file = self._log.open("a", encoding="utf-8")
        self._log_file.write(json.dumps(log_line(kept, self.clock())) + "\n")
        self._log_file.flush()

    def events(
        self, kinds: Iterable[str] = ("processed", "delivered"), *, limit: int | None = None
    ) -> list[dict[str, Any]]:
        """
        Return events of *kinds* for all who are ``taken``, each kind once for each accepted request.

        Scheduled mail is "processed" (or "dropped") at once, everything else happens to it after it has left.
        With *limit* no further request is told of once there are so many events.
        """
        wanted = tuple(kinds)
        told: list[tuple[str, Kept]] = []
        size = 0
        with self._lock:
            scheduled = {id(kept) for kept in self.scheduled}
            for kept in self._kept:
                if limit is not None and size >= limit:
                    break
                for kind in wanted:
                    happened = kept.is_out or (kind in EARLY and id(kept) in scheduled)
                    if happened and kind not in kept.reported:
                        kept.reported.add(kind)
                        told.append((kind, kept))
                        size += len(kept.readers)
        return [
            self._event(kind, taken, kept, place, {})
            for kind, kept in told
            for place, taken in enumerate(kept.readers)
        ]

    def event(self, kind: str, taken: Taken, **fields: Any) -> dict[str, Any]:
        """Return one event of *kind* (SendGrid's name) for *taken*; it counts for nothing in ``events``."""
        with self._lock:
            found = [one for one in self._by_batch.get(taken[:2], ()) if taken in one.readers]
        kept = found[-1] if found else NOWHERE
        return self._event(kind, taken, kept, kept.readers.index(taken) if found else 0, fields)

    def _event(
        self, kind: str, taken: Taken, kept: Kept, place: int, fields: dict[str, Any]
    ) -> dict[str, Any]:
        return make_event(
            kind, taken, kept, place, serial=next(self._serial), now=self.clock(), fields=fields
        )

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
        with self._lock:
            if self._log_file is not None:
                self._log_file.close()
                self._log_file = None


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


def _probabilities(faults: dict[str, float]) -> dict[str, float]:
    if not faults.keys() <= ACTIONS or min(faults.values(), default=0) < 0 or sum(faults.values()) > 1:
        raise ValueError(f"not probabilities of known actions: {faults!r}")
    return dict(faults)


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
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing on stderr."""

    def do_GET(self) -> None:
        """Tell of scheduled sends or of oneself; a client that follows a redirect would come by, too."""
        if self._route() in (SCHEDULED_SENDS, SUPPRESSION):
            self._play()
            return
        self.rfile.read(self._length())
        self.server.standin.release_due()
        if self.path.startswith("/_standin/"):
            self._tell()
        else:
            found = self.server.standin.account.get(urlsplit(self.path).path, {})
            self._answer(200, json.dumps(found).encode())

    def do_POST(self) -> None:
        """Play one request."""
        self._play()

    def do_PATCH(self) -> None:
        """Play one request."""
        self._play()

    def do_DELETE(self) -> None:
        """Play one request."""
        self._play()

    def _play(self) -> None:
        standin = self.server.standin
        standin.release_due()
        route, length = self._route(), self._length()
        action, value = standin.next_action(route)
        if action in ("drop_before_body", "reset_mid_body"):
            self.rfile.read(length // 2 if action == "reset_mid_body" else 0)
            standin.closing.wait(SETTLED)
            self._reset()
            return
        raw = self.rfile.read(length)
        if route == MAIL_SEND:
            if standin.keep_requests:
                standin.headers.append(dict(self.headers.items()))
            standin.closing.wait(standin.delay_seconds / 2)
        if not self._is_let_in(action, route, length):
            return
        try:
            body = json.loads(raw) if raw or route == MAIL_SEND else {}
        except ValueError:
            self._refuse(400, [_error("Bad Request", None)])
            return
        if route == MAIL_SEND:
            standin.see(body)
        if self._failed_before(action, value, body):
            return
        if route == MAIL_SEND:
            self._mail_send(action, value, body)
        elif route == MAIL_BATCH:
            told = json.dumps({"batch_id": standin.new_batch()}).encode()
            self._answer_accepted(action, value, 201, told)
        elif route in (SUPPRESSION, GLOBAL):
            parts = urlsplit(self.path)
            asked = {name: values[-1] for name, values in parse_qs(parts.query).items()}
            name = unquote(parts.path.removeprefix(f"{route}/"))
            status, answer = (
                standin.list_of(name, asked) if route == SUPPRESSION else (standin.take_off(name), None)
            )
            self._answer(status, b"" if answer is None else json.dumps(answer).encode())
        else:
            status, answer = standin.stop(self.command, self._batch_id(), body)
            told = b"" if answer is None else json.dumps(answer).encode()
            self._answer_accepted(action, value, status, told)

    def _mail_send(self, action: str, value: Any, body: Any) -> None:
        standin = self.server.standin
        wrong = faults(body) or standin.unfit(body)
        if wrong:
            self._refuse(400, wrong)
            return
        if body.get("mail_settings", {}).get("sandbox_mode", {}).get("enable"):
            self._answer(200, b"")
            return
        message_id = standin.take(body, outcome=action)
        standin.closing.wait(standin.delay_seconds / 2)
        self._answer_accepted(action, value, 202, b"", {"X-Message-Id": message_id})

    def _route(self) -> str:
        """The path without a batch's id at its end; empty when unknown or not for this method."""
        path = urlsplit(self.path).path
        if path in (MAIL_SEND, MAIL_BATCH):
            return path if self.command == "POST" else ""
        if path.startswith(f"{SUPPRESSION}/"):
            return SUPPRESSION if self.command == "GET" else ""
        if path.startswith(f"{GLOBAL}/"):
            return GLOBAL if self.command == "DELETE" else ""
        resource, slash, batch_id = path.partition(f"{SCHEDULED_SENDS}/")
        if path == SCHEDULED_SENDS:
            return SCHEDULED_SENDS if self.command in ("GET", "POST") else ""
        return SCHEDULED_SENDS if slash and batch_id and not resource and self.command != "POST" else ""

    def _batch_id(self) -> str:
        return urlsplit(self.path).path.removeprefix(SCHEDULED_SENDS).removeprefix("/")

    def _length(self) -> int:
        return int(self.headers.get("Content-Length", "0"))

    def _tell(self) -> None:
        """Answer another process that asks what happened; not on record."""
        standin = self.server.standin
        parts = urlsplit(self.path)
        asked = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        told: Any = None
        match parts.path:
            case "/_standin/events":
                kinds = asked.get("kinds", "processed,delivered").split(",")
                told = standin.events(kinds, limit=int(asked["limit"]) if "limit" in asked else None)
            case "/_standin/accepted":
                told = list(standin.accepted)
            case "/_standin/stats":
                told = standin.stats
        self._send(404 if told is None else 200, json.dumps(told).encode(), {})

    def _is_let_in(self, action: str, route: str, length: int) -> bool:
        standin = self.server.standin
        expected = rf"Bearer {re.escape(standin.key)}" if standin.key else r"Bearer (?!None\b)\S+"
        if not route or action == "not_found":
            self._refuse(404, [_error("not found", None)])
        elif action == "unauthorized" or not re.fullmatch(expected, self.headers.get("Authorization", "")):
            self._refuse(
                401, [_error("The provided authorization grant is invalid, expired, or revoked", None)]
            )
        elif action == "forbidden":
            self._refuse(403, [_error("access forbidden", None)])
        elif route == MAIL_SEND and self.headers.get_content_type() != "application/json":
            self._refuse(415, [_error("Content-Type should be application/json.", None)])
        elif action == "too_large" or length >= MAX_BYTES:
            self._refuse(413, [_error("Payload Too Large", None)])
        else:
            return True
        return False

    def _failed_before(self, action: str, value: Any, body: Any) -> bool:
        """Play what ends a request without its being accepted; whether it did."""
        match action:
            case "refuse" if value is None or "personalizations" not in body:
                self._refuse(400, [_error("Bad Request", None)])
            case "refuse":
                to = body["personalizations"][int(value)]["to"][0]
                message = f"Does not contain a valid address: {to['email']}"
                self._refuse(400, [_error(message, f"personalizations.{value}.to.0.email")])
            case "refuse_field":
                self._refuse(400, [_error("Invalid.", None if value is None else str(value))])
            case "rate_limit":
                self._answer(
                    429,
                    b"{}",
                    {"X-RateLimit-Reset": str(int(self.server.standin.clock() + float(value or 0)))},
                )
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

    def _answer_accepted(
        self, action: str, value: Any, status: int, told: bytes, headers: dict[str, str] | None = None
    ) -> None:
        """Answer, or fail to, after everything was done."""
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
                self.wfile.write(b"HTTP/1.1 %d Cut\r\nContent-Length: 100\r\n\r\n{" % status)
                self.close_connection = True
                self.server.standin.answered(status)
            case "garbage":
                self.wfile.write(b"220 ready for mail\r\n\r\n")
                self.close_connection = True
                self.server.standin.answered(0)
            case "accept_with_200":
                self._answer(200, told)
            case "accept_without_id":
                self._answer(status, told)
            case _:
                self.close_connection |= action == "drop_keep_alive"
                self._answer(status, told, headers)

    def _stall(self, value: Any) -> None:
        self.server.standin.closing.wait(60.0 if value is None else float(value))
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
        self._send(status, body, headers or {})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        with suppress(OSError):
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if status != 204:
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
    parser.add_argument("--faults", default="{}", help='probabilities as JSON: {"rate_limit": 0.05}')
    parser.add_argument("--seed", type=int, default=0, help="of the faults")
    parser.add_argument("--stall", type=float, default=1.0, help="seconds a drawn stall takes")
    parser.add_argument("--cancel-limit", type=int, default=10, help="scheduled sends stopped at a time")
    parser.add_argument("--bad-prefix", default="", help="addresses that begin so are refused")
    given = parser.parse_args()
    prefix = given.bad_prefix
    with StandIn(
        port=given.port,
        key=given.key,
        log=given.log,
        delay_seconds=given.delay,
        faults=json.loads(given.faults),
        seed=given.seed,
        stall_seconds=given.stall,
        cancel_limit=given.cancel_limit,
        bad_addresses=(lambda address: address.startswith(prefix)) if prefix else None,
        keep_requests=False,
    ) as standin:
        standin.script([tuple(one) if isinstance(one, list) else one for one in json.loads(given.script)])
        print(standin.url, flush=True)
        with suppress(KeyboardInterrupt):
            standin.closing.wait()


if __name__ == "__main__":
    main()
