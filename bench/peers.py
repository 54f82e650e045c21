"""
What a user would pick instead of us, each sending the same edition to the same readers.

Every function wants ``sink.c`` at *base* (``/count`` may follow the port: then the sink counts readers)
and returns seconds. Imports, settings and the client are made before the clock starts; reading the
readers, signing their links, building, encoding and posting are all in it. The peers sign with one HMAC
a link, and none of them but ``one_per_reader`` writes down who got what.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import sqlite3
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from http.client import HTTPConnection
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

from sendgrid import SendGridAPIClient
from sendgrid.helpers.mail import CustomArg, From, Header, Mail, Personalization, Substitution, To
from sqlmodel import Session, col, create_engine, select

from newsletter.store.tables import Subscriber, Subscription

READERS_A_REQUEST = 1000
NEWSLETTER = "today"
EDITION = "today.2026-02-18.1"
SENDER = "today@mail.example"
SENDER_NAME = "The Parallel"
API_KEY = "SG.x"
SITE = "https://news.example"
ONE_CLICK = "List-Unsubscribe=One-Click"
TAG = "[[nl:{}]]"
PATHS = {"unsubscribe_url": "u", "preferences_url": "preferences", "view_url": "view"}
_SECRET = b"a secret of the benchmark, 32 by"
_ACCEPTED = 202


def links_of(reader: str) -> dict[str, str]:
    """The three links of *reader* (24 hex digits), as most write it: one HMAC-SHA256 a link."""
    public_id = bytes.fromhex(reader)
    made = {}
    for name, path in PATHS.items():
        signature = hmac.new(_SECRET, f"{path}:{EDITION}:{reader}".encode(), hashlib.sha256).digest()
        token = base64.urlsafe_b64encode(public_id + signature[:24]).decode("ascii")
        made[name] = f"{SITE}/{path}/{token}"
    return made


def raw(base: str, bodies: Sequence[bytes], repeat: int) -> float:
    """The limit of one connection: ready *bodies* posted *repeat* times over, nothing made or kept."""
    parts = urlsplit(base)
    headers = {"Authorization": f"Bearer {API_KEY}", "Content-Type": "application/json"}
    connection = HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    connection.connect()
    began = perf_counter()
    for _ in range(repeat):
        for body in bodies:
            connection.request("POST", f"{parts.path}/v3/mail/send", body, headers)
            answer = connection.getresponse()
            answer.read()
            _check(answer.status)
    seconds = perf_counter() - began
    connection.close()
    return seconds


def anymail(base: str, database: Path, html: str, text: str, subject: str, number: int) -> float:
    """django-anymail on one session: rows by bare sqlite3, a message with merge data per 1,000. No state."""
    from django.core.mail import EmailMultiAlternatives, get_connection  # not a dependency of ours

    _configure_django(base)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Anymail has no official support for SendGrid any more
        connection = get_connection("anymail.backends.sendgrid.EmailBackend")
    connection.open()
    store = sqlite3.connect(database)
    began = perf_counter()
    rows = store.execute(
        "SELECT reader, email, name FROM subscriber JOIN subscription ON subscriber_id = subscriber.id"
        " WHERE newsletter = ? AND state = 'active' AND status = 'active' ORDER BY subscriber.id LIMIT ?",
        (NEWSLETTER, number),
    )
    done = 0
    while page := rows.fetchmany(READERS_A_REQUEST):
        batch = str(done // READERS_A_REQUEST)
        to, data, headers, metadata = [], {}, {}, {}
        for reader, email, name in page:
            links = links_of(reader)
            to.append(_mailbox(name, email))
            data[email] = links
            headers[email] = {
                "List-Unsubscribe": f"<{links['unsubscribe_url']}>",
                "List-Unsubscribe-Post": ONE_CLICK,
            }
            metadata[email] = {"nl_edition": EDITION, "nl_batch": batch, "nl_reader": reader}
        message: Any = EmailMultiAlternatives(
            subject, text, _mailbox(SENDER_NAME, SENDER), to, connection=connection
        )
        message.attach_alternative(html, "text/html")
        message.merge_data = data
        message.merge_headers = headers
        message.merge_metadata = metadata
        message.send()
        _check(message.anymail_status.esp_response.status_code)
        done += len(page)
    seconds = perf_counter() - began
    store.close()
    connection.close()
    return _all(number, done, seconds)


def helpers(base: str, database: Path, html: str, text: str, subject: str, number: int) -> float:
    """sendgrid-python by its helper classes: ORM rows, 1,000 a request, a connection each. No state."""
    client = SendGridAPIClient(api_key=API_KEY, host=base).client
    done = 0
    began = perf_counter()
    rows = _orm_rows(database, number)
    while page := list(islice(rows, READERS_A_REQUEST)):
        mail = _mail(html, text, subject)
        batch = str(done // READERS_A_REQUEST)
        for row in page:
            mail.add_personalization(_personalization(row, batch))
        _check(client.mail.send.post(request_body=mail.get()).status_code)
        done += len(page)
    return _all(number, done, perf_counter() - began)


def one_per_reader(base: str, database: Path, html: str, text: str, subject: str, number: int) -> float:
    """The plain loop: for each ORM row one request by the helper classes and one commit that it was sent."""
    client = SendGridAPIClient(api_key=API_KEY, host=base).client
    with tempfile.TemporaryDirectory(dir=database.parent) as folder:
        state = sqlite3.connect(Path(folder) / "sent.db")
        state.execute("CREATE TABLE sent (subscriber_id INTEGER PRIMARY KEY)")
        done = 0
        began = perf_counter()
        for row in _orm_rows(database, number):
            mail = _mail(html, text, subject)
            mail.add_personalization(_personalization(row, str(done)))
            _check(client.mail.send.post(request_body=mail.get()).status_code)
            state.execute("INSERT INTO sent VALUES (?)", (row.id,))
            state.commit()
            done += 1
        seconds = perf_counter() - began
        state.close()
    return _all(number, done, seconds)


def _orm_rows(database: Path, number: int) -> Iterator[Subscriber]:
    """The first *number* readers as ``Subscriber`` objects, a page of 1,000 at a time."""
    engine = create_engine(f"sqlite:///{database}")
    last, left = 0, number
    with Session(engine) as session:
        while left:
            page = session.exec(
                select(Subscriber)
                .join(Subscription, col(Subscription.subscriber_id) == col(Subscriber.id))
                .where(
                    Subscription.newsletter == NEWSLETTER,
                    Subscription.state == "active",
                    Subscriber.status == "active",
                    col(Subscriber.id) > last,
                )
                .order_by(col(Subscriber.id))
                .limit(min(left, READERS_A_REQUEST))
            ).all()
            if not page:
                break
            yield from page
            last = page[-1].id or 0
            left -= len(page)
    engine.dispose()


def _mail(html: str, text: str, subject: str) -> Any:
    return Mail(From(SENDER, SENDER_NAME), subject=subject, plain_text_content=text, html_content=html)


def _personalization(row: Subscriber, batch: str) -> Any:
    one = Personalization()
    one.add_to(To(row.email, row.name or None))
    links = links_of(row.reader)
    one.add_header(Header("List-Unsubscribe", f"<{links['unsubscribe_url']}>"))
    one.add_header(Header("List-Unsubscribe-Post", ONE_CLICK))
    for name, link in links.items():
        one.add_substitution(Substitution(TAG.format(name), link))
    one.add_custom_arg(CustomArg("nl_edition", EDITION))
    one.add_custom_arg(CustomArg("nl_batch", batch))
    one.add_custom_arg(CustomArg("nl_reader", row.reader))
    return one


def _configure_django(base: str) -> None:
    """Configure Django once, and aim Anymail at *base* each time."""
    import django
    from django.conf import settings

    if not settings.configured:
        settings.configure(INSTALLED_APPS=["anymail"], USE_TZ=True)
        django.setup()
    settings.ANYMAIL = {
        "SENDGRID_API_KEY": API_KEY,
        "SENDGRID_API_URL": f"{base}/v3/",
        "SENDGRID_MERGE_FIELD_FORMAT": TAG,
    }


def _mailbox(name: str, email: str) -> str:
    """An address for Django, which wants a string and parses it again."""
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{quoted}" <{email}>' if name else email


def _check(status: int) -> None:
    if status != _ACCEPTED:
        raise RuntimeError(f"the sink answered {status}")


def _all(number: int, done: int, seconds: float) -> float:
    if done != number:
        raise ValueError(f"the database has {done} active readers of {NEWSLETTER}, not {number}")
    return seconds
