"""What stands before every page: hosts, prefix, sizes, proxies, headers, and that nothing leaks."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy import Engine
from sqlmodel import select
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from newsletter.audience.tokens import Signer
from newsletter.errors import SettingsError
from newsletter.settings import Keys, Settings, standing_at
from newsletter.store.session import reading, writing
from newsletter.store.tables import Subscriber, Subscription
from newsletter.web.app import create_app
from newsletter.web.guards import Guards, forwarded_for
from tests.builders import ask, the_catalogue

NOW = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)
READER = "ab" * 12


def an_app(engine: Engine, keys: Keys, **options: Any) -> Starlette:
    """The pages under other settings."""
    return create_app(engine, the_catalogue(), keys, Settings(**options), clock=lambda: NOW)


@pytest.mark.parametrize(
    "path", ["/subscribe", "/login", "/nothing", "/u/x", "/healthz", "/webhooks/sendgrid", "/"]
)
def test_every_answer_is_guarded(engine: Engine, keys: Keys, path: str) -> None:
    """Also errors and machines' answers: no script, no frame, no sniffing, no cache, and HSTS where there is https."""
    app = an_app(engine, keys, NEWSLETTER_BASE_URL="https://mail.example.org")

    headers = ask(app, "GET", path, headers={"Host": "mail.example.org"}).headers

    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'") and "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy and "script-src" not in policy
    assert headers["x-content-type-options"] == "nosniff" and headers["x-frame-options"] == "DENY"
    assert headers["cross-origin-opener-policy"] == "same-origin" == headers["cross-origin-resource-policy"]
    assert headers["strict-transport-security"] == "max-age=31536000"
    assert (
        headers["referrer-policy"] in ("no-referrer", "same-origin")
        and headers["cache-control"] == "no-store"
    )


@pytest.mark.parametrize("prefix", ["", "/newsletters"])
def test_a_slash_at_the_end_sends_nobody_elsewhere(engine: Engine, keys: Keys, prefix: str) -> None:
    """Behind a proxy that ends https a redirect of ours would lead to http; so there is none, and the page is there."""
    app = an_app(engine, keys, NEWSLETTER_BASE_URL=f"https://mail.example.org{prefix}")
    said = {"Host": "mail.example.org"}

    for path, status in (("/subscribe/", 200), ("/archive/", 200), ("/api/v1/openapi.json/", 404)):
        assert ask(app, "GET", f"{prefix}{path}", headers=said).status_code == status
    answer = ask(app, "GET", f"{prefix}/", headers=said)
    assert (answer.status_code, answer.headers["location"]) == (303, f"{prefix}/subscribe")


@pytest.mark.parametrize(
    ("base", "host", "origin", "status"),
    [
        ("http://127.0.0.1:8000", "localhost:8000", "http://localhost:8000", 422),
        ("http://127.0.0.1:8000", "127.0.0.1:9123", "http://127.0.0.1:9123", 422),
        ("http://127.0.0.1:8000", "localhost:8000", "http://localhost:9123", 403),
        ("http://127.0.0.1:8000", "localhost:8000", "https://evil.example", 403),
        ("https://mail.example.org", "mail.example.org", "http://mail.example.org", 403),
        ("https://mail.example.org", "mail.example.org:81", "https://mail.example.org:81", 403),
    ],
)
def test_on_this_machine_every_name_and_port_is_ours(
    engine: Engine, keys: Keys, base: str, host: str, origin: str, status: int
) -> None:
    """A form asked for at localhost or at another port is one of ours; on a public host only its own origin is."""
    app = an_app(engine, keys, NEWSLETTER_BASE_URL=base)
    page = ask(app, "GET", "/login", headers={"Host": host})
    stamp = page.text.partition('name="form" value="')[2].partition('"')[0]
    cookie = page.headers["set-cookie"].partition(";")[0]

    headers = {"Host": host, "Origin": origin, "Cookie": cookie}
    answer = ask(app, "POST", "/login", data={"form": stamp, "email": "nonsense"}, headers=headers)

    assert answer.status_code == status  # 422: read, and the address found wanting


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", "http://127.0.0.1:9123"), ("localhost", "http://localhost:9123"), ("::1", "http://[::1]:9123"),
        ("0.0.0.0", "http://127.0.0.1:9123"),
    ],
)  # fmt: skip
def test_links_lead_to_where_the_pages_are_served(host: str, expected: str) -> None:
    """While nobody has said where they stand; what was said counts."""
    said = Settings(NEWSLETTER_BASE_URL="https://mail.example.org")

    assert standing_at(Settings(), host=host, port=9123).base_url == expected
    assert standing_at(said, host=host, port=9123).base_url == "https://mail.example.org"


def test_no_hsts_without_https(engine: Engine, keys: Keys) -> None:
    """For trying out on loopback there is no promise of https."""
    assert "strict-transport-security" not in ask(an_app(engine, keys), "GET", "/subscribe").headers


@pytest.mark.parametrize(
    "host",
    ["evil.example", "mail.example.org.evil.example", "127.0.0.1", "mail.example.org@evil.example", "", "mail.example.org/x", "x y"],
)  # fmt: skip
def test_a_forged_host_is_refused(engine: Engine, keys: Keys, host: str) -> None:
    """Only the base URL's host is ours, whatever comes around it."""
    app = an_app(engine, keys, NEWSLETTER_BASE_URL="https://mail.example.org")

    answer = ask(app, "GET", "/subscribe", headers={"Host": host})

    assert answer.status_code == 400 and "evil" not in answer.text


@pytest.mark.parametrize("host", ["mail.example.org", "MAIL.example.org:443"])
def test_our_host_passes(engine: Engine, keys: Keys, host: str) -> None:
    """In any case, with or without its port; and health is answered under any name."""
    app = an_app(engine, keys, NEWSLETTER_BASE_URL="https://mail.example.org")

    assert ask(app, "GET", "/subscribe", headers={"Host": host}).status_code == 200
    assert ask(app, "GET", "/healthz", headers={"Host": "10.0.0.7:8000"}).status_code == 200


def test_no_link_is_made_from_a_header(engine: Engine, keys: Keys) -> None:
    """X-Forwarded-Host and Forwarded of a stranger change nothing on the page."""
    answer = ask(
        an_app(engine, keys), "GET", "/subscribe",
        headers={"X-Forwarded-Host": "evil.example", "Forwarded": "host=evil.example", "X-Forwarded-Prefix": "/evil"},
    )  # fmt: skip

    assert answer.status_code == 200 and "evil.example" not in answer.text and "/evil/" not in answer.text


@pytest.mark.parametrize("path", ["/news/subscribe", "/subscribe"])
def test_a_path_prefix_works_stripped_or_not(engine: Engine, keys: Keys, path: str) -> None:
    """Behind a proxy that takes the prefix off, and behind one that leaves it: the same page, links with the prefix."""
    app = an_app(engine, keys, NEWSLETTER_BASE_URL="https://example.org/news")

    page = ask(app, "GET", path, headers={"Host": "example.org"})

    assert page.status_code == 200
    assert 'action="/news/subscribe"' in page.text and 'href="/news/login"' in page.text
    assert 'href="/login"' not in page.text
    cookie = page.headers["set-cookie"]
    assert cookie.startswith("__Secure-nl_visit=") and "Path=/news" in cookie and "Secure" in cookie


@pytest.mark.parametrize("path", ["/news", "/news/", "/"])
def test_the_front_leads_to_the_newsletters(engine: Engine, keys: Keys, path: str) -> None:
    """There is no page of its own."""
    app = an_app(engine, keys, NEWSLETTER_BASE_URL="https://example.org/news")

    answer = ask(app, "GET", path, headers={"Host": "example.org"})

    assert (answer.status_code, answer.headers["location"]) == (303, "/news/subscribe")


def test_leaving_works_behind_a_prefix(engine: Engine, keys: Keys) -> None:
    """The one-click address of the mail, prefix and all."""
    with writing(engine) as session:
        session.add(
            Subscriber(id=1, reader=READER, email="a@b.example", email_key="a@b.example", address_hash="h1", joined_at=NOW, updated_at=NOW)
        )  # fmt: skip
        session.flush()
        session.add(Subscription(subscriber_id=1, newsletter="today", since=NOW))
    app = an_app(engine, keys, NEWSLETTER_BASE_URL="https://example.org/news")
    token = Signer(keys).unsubscribe(READER, "today")

    answer = ask(
        app,
        "POST",
        f"/news/u/{token}",
        data={"List-Unsubscribe": "One-Click"},
        headers={"Host": "example.org"},
    )

    assert answer.status_code == 200
    with reading(engine) as session:
        assert session.exec(select(Subscription.state)).one() == "left"


def test_bodies_have_a_limit(engine: Engine, keys: Keys) -> None:
    """Declared, undeclared and lying: 413, as a page, and never read to the end."""

    async def endless() -> Any:
        for _ in range(200):
            yield b"x" * 1024

    app = an_app(engine, keys)

    assert ask(app, "POST", "/subscribe", content=b"x" * 70_000).status_code == 413
    assert ask(app, "POST", "/login", content=endless()).status_code == 413
    assert ask(app, "POST", "/login", content=b"x", headers={"Content-Length": "-5"}).status_code == 413


def test_many_fields_and_files_are_no_form(engine: Engine, keys: Keys) -> None:
    """What no form of ours sends is taken as an empty one; nothing fails."""
    app = an_app(engine, keys)

    fields = ask(app, "POST", "/subscribe", data={f"f{n}": "x" for n in range(500)})
    files = ask(app, "POST", "/subscribe", files={"email": ("a.txt", b"x")})

    assert (fields.status_code, files.status_code) == (403, 403)


NETWORKS = Settings(NEWSLETTER_TRUSTED_PROXIES="10.0.0.0/8, ::1").proxies


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("1.2.3.4, 203.0.113.9, 10.1.1.1", "203.0.113.9"),
        ("10.1.1.1", "10.1.1.1"),
        ("nonsense, 10.1.1.1", "10.1.1.1"),
        ("203.0.113.9:4711, 10.1.1.1:80", "203.0.113.9"),
        ("[2001:db8::7]:4711, [::1]:80", "2001:db8::7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("203.0.113.9:port", ""),
        ("2001:db8::7", "2001:db8::7"),
        ("", ""),
        ("<script>", ""),
    ],
)
def test_the_visitor_is_read_from_the_right(header: str, expected: str) -> None:
    """What stands left of the first address that is no proxy of ours may be invented."""
    assert forwarded_for(Headers({"x-forwarded-for": header}), NETWORKS) == expected


@pytest.mark.parametrize(("proxies", "expected"), [("", "127.0.0.1"), ("127.0.0.0/8", "203.0.113.9")])
def test_proxy_headers_count_only_from_a_proxy(proxies: str, expected: str) -> None:
    """Without NEWSLETTER_TRUSTED_PROXIES, X-Forwarded-For is anybody's word."""

    async def who(request: Request) -> PlainTextResponse:
        return PlainTextResponse(request.client.host if request.client else "")

    app = Guards(Starlette(routes=[Route("/", who)]), Settings(NEWSLETTER_TRUSTED_PROXIES=proxies))

    assert ask(app, "GET", "/", headers={"X-Forwarded-For": "203.0.113.9"}).text == expected


def test_trusted_proxies_must_be_networks() -> None:
    """A typing error is refused at the start, not believed."""
    with pytest.raises(ValidationError):
        Settings(NEWSLETTER_TRUSTED_PROXIES="10.0.0.0/8, everybody")


def test_a_failing_page_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """500 without words, guarded like the rest; the log has the kind of error and the place, not its text."""

    async def fails(_request: Request) -> PlainTextResponse:
        raise ValueError("ann@mail.example")

    app = Guards(Starlette(routes=[Route("/", fails)]), Settings())

    answer = ask(app, "GET", "/")

    assert answer.status_code == 500 and "ann@" not in answer.text
    assert answer.headers["x-frame-options"] == "DENY"
    told = capsys.readouterr()
    assert "page.failed" in told.out + told.err and "ann@" not in told.out + told.err


def test_a_lost_database_is_a_page(engine: Engine, keys: Keys) -> None:
    """503 with a sentence and when to come back; health and readiness say so, too."""
    app = an_app(engine, keys)
    good = (ask(app, "GET", "/healthz").status_code, ask(app, "GET", "/readyz").status_code)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE one_time_link")
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0001'")

    page = ask(app, "GET", f"/confirm/{'A' * 43}")

    assert good == (200, 200)
    assert (
        page.status_code == 503 and page.headers["retry-after"] == "60" and "one_time_link" not in page.text
    )
    assert ask(app, "GET", "/readyz").status_code == 503


def test_a_prefix_that_is_a_page_is_refused(engine: Engine, keys: Keys) -> None:
    """Nobody could tell whether the proxy has taken it off."""
    with pytest.raises(SettingsError):
        an_app(engine, keys, NEWSLETTER_BASE_URL="https://example.org/subscribe")


def test_a_failure_is_a_page(engine: Engine, keys: Keys) -> None:
    """What nobody foresaw: 500 in the publication's look, and the log has no path."""

    def broken(_reader: str, _scope: bytes) -> str:
        raise RuntimeError("no")

    app = create_app(engine, the_catalogue(), keys, Settings(), clock=lambda: NOW, view=broken)
    token = Signer(keys).view(READER, "today", NOW.date())

    answer = ask(app, "GET", f"/view/{token}")

    assert answer.status_code == 500 and "<h1>" in answer.text and token not in answer.text
