"""The preview: the bytes that are sent, kept current, and orders only from its own page."""

from __future__ import annotations

import asyncio
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import chdir
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from typer.testing import CliRunner

from newsletter.cli.main import app as app_of_commands
from newsletter.desk import Desk
from newsletter.edition import PERSONAL_TAGS
from newsletter.errors import NotFound
from newsletter.picking.picks import Order
from newsletter.rendering.engine import fill_samples
from newsletter.settings import load_settings
from newsletter.web.preview import create_preview
from newsletter.web.preview.live import Live, Shown
from newsletter.web.preview.looks import Look, seen_as
from tests.builders import a_site
from tests.visiting import Moment

NOW = datetime(2026, 11, 20, 4, 0, tzinfo=UTC)
DAY = date(2026, 11, 20)
HOST = "http://127.0.0.1:8100"


@pytest.fixture(scope="session")
def site_collected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The samples, collected once; tests take copies of its database."""
    site = a_site(tmp_path_factory.mktemp("collected") / "site")
    with chdir(site):
        opened = Desk.open(load_settings(), clock=Moment(NOW))
        opened.collect(None, now=NOW)
        opened.engine.dispose()
    return site


@pytest.fixture
def desk(tmp_path: Path, site_collected: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """The samples, collected."""
    monkeypatch.chdir(a_site(tmp_path / "site"))
    for name in ("subscribers.db", "subscribers.keys"):
        shutil.copy(site_collected / name, name)
    opened = Desk.open(load_settings(), clock=Moment(NOW))
    yield opened
    opened.engine.dispose()


@pytest.fixture
def app(desk: Desk) -> Iterator[Starlette]:
    """The preview of the samples, its threads running."""
    made = create_preview(desk, now=lambda: NOW, day=None, port=8100)
    live: Live = made.state.preview.live
    live.start()
    settled(live)
    yield made
    live.stop()


def settled(live: Live, *, after: int = 0, seconds: float = 60) -> None:
    """Wait until everything is made and proofed."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        shown = list(live.shown.values())
        if len(shown) == len(live.desk.catalogue.newsletters) and live.version > after and all(
            one.is_proofed or one.fault or not one.renderings for one in shown
        ):  # fmt: skip
            return
        live.wait(live.version, seconds=0.2)
    raise AssertionError("the preview does not come to rest")


def until(live: Live, slug: str, what: Any, *, seconds: float = 60) -> Shown:
    """Wait until what is shown of a newsletter is so."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        one = live.shown.get(slug)
        if one is not None and what(one):
            return one
        live.wait(live.version, seconds=0.2)
    raise AssertionError(f"{slug} never came to it")


def ask(app: Starlette, method: str, path: str, *, host: str = HOST, **options: Any) -> httpx.Response:
    """One request."""

    async def answer() -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url=host) as client:
            return await client.request(method, path, **options)

    return asyncio.run(answer())


def token_of(app: Starlette) -> dict[str, str]:
    """The header the page writes with, as the page says it."""
    found = re.search(r'name="desk-token" content="([^"]+)"', ask(app, "GET", "/today").text)
    assert found is not None
    return {"X-Desk-Token": found[1]}


def give(app: Starlette, slug: str = "today", **order: Any) -> httpx.Response:
    """An order from the page, which has seen what is there now."""
    seen = ask(app, "GET", f"/state/{slug}").json()["as_of"]
    return ask(app, "POST", f"/orders/{slug}", headers=token_of(app), json={"as_of": seen, **order})


def test_the_bytes_are_those_that_are_made(app: Starlette, desk: Desk) -> None:
    """Every newsletter and variant, HTML and text, and the hash that send will use."""
    for newsletter in desk.catalogue.newsletters:
        made = desk.make(newsletter, DAY, now=NOW)
        state = ask(app, "GET", f"/state/{newsletter.slug}").json()
        assert (state["hash"], state["errors"]) == (made.hash, 0)
        assert [one["variant"] for one in state["variants"]] == [one.variant for one in made.renderings]
        for rendered in made.renderings:
            html, text = fill_samples(rendered, desk.settings.base_url)
            assert ask(app, "GET", f"/{newsletter.slug}/{rendered.variant}.html").content == html.encode()
            assert ask(app, "GET", f"/{newsletter.slug}/{rendered.variant}.txt").content == text.encode()


def test_headers_and_source_are_shown(app: Starlette) -> None:
    """The headers a mail will have, with the reader's name; the source as text."""
    headers = ask(app, "GET", "/today/free.headers?name=Ann%20Lee").text
    source = ask(app, "GET", "/today/free.source")

    assert "To: Ann Lee <reader@example.org>" in headers and "List-Unsubscribe-Post: " in headers
    assert source.headers["content-type"].startswith("text/plain") and "<html" in source.text


@pytest.mark.parametrize("host", ["http://127.0.0.1:9999", "http://evil.example:8100", "http://localhost"])
def test_only_its_own_host_is_answered(app: Starlette, host: str) -> None:
    """A page elsewhere that points its name at this machine reads nothing."""
    assert ask(app, "GET", "/today/free.html", host=host).status_code == 400
    assert ask(app, "GET", "/today/free.html", host="http://localhost:8100").status_code == 200


@pytest.mark.parametrize("path", ["/orders/today", "/undo/today", "/redo/today"])
def test_writing_needs_the_token_of_this_start(app: Starlette, desk: Desk, path: str) -> None:
    """Without it, or with another's, nothing is written."""
    order = {"verb": "words", "fields": {"greeting": "Gotcha."}}

    answers = [
        ask(app, "POST", path, json=order, headers=headers) for headers in ({}, {"X-Desk-Token": "x" * 32})
    ]

    assert [one.status_code for one in answers] == [403, 403]
    assert desk.orders(desk.catalogue["today"], DAY) == ()


def test_looking_writes_nothing_and_runs_nothing(app: Starlette, desk: Desk) -> None:
    """Mails may load their pictures only; pages only what is theirs; no cookie is set."""
    mail, page = ask(app, "GET", "/today/free.html"), ask(app, "GET", "/today")

    assert mail.headers["content-security-policy"].startswith("default-src 'none'; style-src 'unsafe-inline'")
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert "'unsafe-inline'" not in page.headers["content-security-policy"]
    assert not mail.cookies and not page.cookies
    assert desk.orders(desk.catalogue["today"], DAY) == () and desk.status() == ()


def test_orders_from_the_page_and_back(app: Starlette, desk: Desk) -> None:
    """Move, edit, drop, words; the answer holds what was made of it; undo and redo, step by step."""
    state = ask(app, "GET", "/state/today").json()
    seven = next(one for one in state["sections"] if one["id"] == "seven")["items"]
    first, second = seven[0]["url"], seven[1]["url"]

    moved = give(app, verb="move", url=first, section="seven", position=2).json()
    edited = give(app, verb="edit", url=second, fields={"headline": "Put right", "kicker": "New"}).json()
    give(app, verb="words", fields={"greeting": "Hello from Lima.", "number.figure": "12"})
    dropped = give(app, verb="drop", url=first, reason="told yesterday").json()
    undone = ask(app, "POST", "/undo/today", headers=token_of(app)).json()
    redone = ask(app, "POST", "/redo/today", headers=token_of(app)).json()

    def urls(told: Any) -> list[str]:
        return [item["url"] for one in told["sections"] if one["id"] == "seven" for item in one["items"]]

    assert urls(moved)[:2] == [second, first]
    assert "Put right" in [item["headline"] for one in edited["sections"] for item in one["items"]]
    assert first not in urls(dropped) and first in urls(undone) and first not in urls(redone)
    assert redone["lines"]["greeting"] == "Hello from Lima."
    assert "Put right" in ask(app, "GET", "/today/free.html").text
    assert [one["verb"] for one in redone["orders"]] == ["move", "edit", "words", "drop"]
    assert {one["actor"] for one in redone["orders"]} == {desk.settings.who}


def test_two_pages_conflict_and_nothing_is_lost(app: Starlette) -> None:
    """The later has seen less: refused with the other's order; taken once it has seen it."""
    seen = ask(app, "GET", "/state/today").json()["as_of"]
    give(app, verb="words", fields={"greeting": "Theirs."})

    late = ask(
        app, "POST", "/orders/today", headers=token_of(app),
        json={"verb": "words", "fields": {"greeting": "Mine."}, "as_of": seen},
    )  # fmt: skip
    again = give(app, verb="words", fields={"greeting": "Mine."})

    assert late.status_code == 409 and "another order" in late.json()["error"]
    assert (again.status_code, again.json()["lines"]["greeting"]) == (200, "Mine.")


@pytest.mark.parametrize(
    "order",
    [
        {"verb": "explode"}, {"verb": "pin", "url": "javascript:x"}, {"verb": "edit", "url": "https://a.example/x"},
        {"verb": "edit", "url": "https://a.example/x", "fields": {"score": "9"}},
        {"verb": "edit", "url": "https://a.example/x", "fields": {"headline": " "}},
        {"verb": "edit", "url": "https://a.example/x", "fields": {"image_url": "javascript:alert(1)"}},
        {"verb": "move", "url": "https://a.example/x", "section": "nowhere"}, {"verb": "words", "fields": {"subject": "a\nb"}},
        {"verb": "words", "fields": {"nonsense": "x"}}, {"verb": "words", "fields": {}},
        {"verb": "words", "fields": {"quote.text": ""}, "more": 1}, {"verb": "words", "fields": {"greeting": "x"}, "as_of": "soon"},
    ],
)  # fmt: skip
def test_what_cannot_be_ordered_is_refused_with_a_sentence(app: Starlette, desk: Desk, order: Any) -> None:
    """422, and nothing is written down."""
    answer = ask(app, "POST", "/orders/today", headers=token_of(app), json=order)

    assert answer.status_code == 422 and answer.json()["error"]
    assert desk.orders(desk.catalogue["today"], DAY) == ()


def test_what_is_seen_is_approved_and_nothing_else(app: Starlette, desk: Desk) -> None:
    """By its hash; held again by a press; after another order the old hash is refused; nothing without the token."""
    today, token = desk.catalogue["today"], token_of(app)
    seen = ask(app, "GET", "/state/today").json()
    assert (seen["go"]["can_approve"], seen["go"]["can_hold"]) == (True, False)
    assert sum(ask(app, "GET", "/audience/today").json()["audience"].values()) == 0
    assert ask(app, "POST", "/approve/today", json={"hash": seen["hash"]}).status_code == 403

    told = ask(app, "POST", "/approve/today", headers=token, json={"hash": seen["hash"]}).json()
    row = desk.find(today, DAY)
    assert row is not None
    assert (told["status"], told["hash"], row.status, row.content_hash) == (
        "approved",
        seen["hash"],
        "approved",
        seen["hash"],
    )
    assert told["go"] == {"required": False, "warned": [], "can_approve": False, "can_hold": True}

    told = ask(app, "POST", "/hold/today", headers=token, json={"reason": "wait for Lima"}).json()
    assert told["status"] == "held" and "wait for Lima" in told["reason"]
    changed = give(app, verb="words", fields={"greeting": "Good morning from Lima."}).json()
    assert changed["hash"] != seen["hash"]
    refused = ask(app, "POST", "/approve/today", headers=token, json={"hash": seen["hash"]})
    assert refused.status_code == 422 and desk.status(["today"], day=DAY)[0].status == "held"
    told = ask(app, "POST", "/approve/today", headers=token, json={"hash": changed["hash"]}).json()
    assert (told["status"], told["hash"]) == ("approved", changed["hash"])


def test_where_approval_is_required_a_warning_wants_its_word(app: Starlette, desk: Desk) -> None:
    """A tick for each code, recorded with who and when."""
    path = Path("templates/today/newsletter.toml")
    rules = path.read_text(encoding="utf-8").replace(
        'thin_day = "hold"', 'thin_day = "hold"\napproval = "required"'
    )
    path.write_text(
        rules.replace('preheader = "', f'preheader = "{desk.catalogue["today"].subject}" # "'),
        encoding="utf-8",
    )
    live: Live = app.state.preview.live
    until(
        live,
        "today",
        lambda one: one.is_proofed and any(found.severity == "warning" for found in one.findings),
    )
    seen, token = ask(app, "GET", "/state/today").json(), token_of(app)
    codes = [one["code"] for one in seen["go"]["warned"]]
    assert seen["go"]["required"] and seen["go"]["can_approve"] and codes

    refused = ask(app, "POST", "/approve/today", headers=token, json={"hash": seen["hash"]})
    assert refused.status_code == 422 and codes[0] in refused.json()["error"]
    told = ask(
        app, "POST", "/approve/today", headers=token, json={"hash": seen["hash"], "despite": codes}
    ).json()

    row = desk.find(desk.catalogue["today"], DAY)
    assert row is not None and told["status"] == "approved"
    assert [one["code"] for one in row.despite] == codes


def save(path: str, change: tuple[str, str]) -> None:
    """An editor saves a file."""
    text = Path(path).read_text(encoding="utf-8")
    assert change[0] in text
    Path(path).write_text(text.replace(*change, 1), encoding="utf-8")


@pytest.mark.parametrize(
    ("path", "change", "slug", "others"),
    [
        ("templates/today/masthead.mjml.j2", ("{{ newsletter.name }}</h1>", "{{ newsletter.name }} SAVED</h1>"), "today", False),
        ("templates/_shared/footer.mjml.j2", ("{{ publication.postal_address }}", "SAVED {{ publication.postal_address }}"), "planet", True),
        ("templates/today/newsletter.toml", ('sign_off = "That is', 'sign_off = "SAVED. That is'), "today", False),
        ("samples/words/2026-11-20/weekend.md", ("A whale sank the Essex", "SAVED: a whale sank the Essex"), "weekend", False),
        ("templates/publication.toml", ('name = "The Parallel"', 'name = "SAVED"'), "letter", True),
    ],
)  # fmt: skip
def test_a_saved_file_is_seen_at_once_and_only_where_it_counts(
    app: Starlette, path: str, change: tuple[str, str], slug: str, others: bool
) -> None:
    """A template, a shared one, a rule, words, the publication: what it touches is made anew, the rest is left."""
    live: Live = app.state.preview.live
    before = {name: one.hash for name, one in live.shown.items()}

    save(path, change)
    until(
        live,
        slug,
        lambda one: one.is_proofed and any("SAVED" in rendered.html for rendered in one.renderings),
    )
    settled(live)

    changed = {name for name, one in live.shown.items() if one.hash != before[name]}
    assert changed == (set(before) if others else {slug})


def test_nothing_saved_while_the_watch_moves_is_missed(app: Starlette) -> None:
    """Another words folder is named, and a template and words in that folder are saved in the same moment."""
    live: Live = app.state.preview.live

    save("templates/publication.toml", ('"samples/words"', '"words"'))
    Path(f"words/{DAY}").mkdir(parents=True)
    Path(f"words/{DAY}/today.md").write_text('+++\ngreeting = "FOLDER"\n+++\n', encoding="utf-8")
    save("templates/today/masthead.mjml.j2", ("{{ newsletter.tagline }}", "SAVED"))

    until(
        live,
        "today",
        lambda one: all(word in rendered.html for word in ("SAVED", "FOLDER") for rendered in one.renderings),
    )


def test_words_in_a_folder_that_was_not_there_are_shown(app: Starlette) -> None:
    """The first words ever written, while the preview runs: a day's folder, or the whole folder."""
    live: Live = app.state.preview.live
    save("templates/publication.toml", ('"samples/words"', '"ours"'))
    until(live, "today", lambda one: one.snapshot is not None and one.snapshot.number is None)
    time.sleep(0.6)

    Path(f"ours/{DAY}").mkdir(parents=True)
    Path(f"ours/{DAY}/today.md").write_text('+++\ngreeting = "FIRST"\n+++\n', encoding="utf-8")

    until(live, "today", lambda one: all("FIRST" in rendered.html for rendered in one.renderings))


def test_an_editor_does_not_conflict_with_themselves_below_a_fault(app: Starlette) -> None:
    """Orders are seen by the page that gave them, though nothing can be made of them yet."""
    live: Live = app.state.preview.live
    lead = next(item.url for item in (live.shown["today"].snapshot or pytest.fail("nothing made")).items)
    save("templates/today/masthead.mjml.j2", ("{{ newsletter.name }}", "{{ nothing.at.all }}"))
    until(live, "today", lambda one: one.fault is not None)

    for headline in ("One", "Two"):
        answer = give(app, verb="edit", url=lead, fields={"headline": headline})
        assert answer.status_code == 200 and answer.json()["fault"]


def test_undo_is_of_what_was_seen(app: Starlette, desk: Desk) -> None:
    """Not of what somebody else ordered since; redo is offered only while nothing was ordered after the undo."""
    token = token_of(app)
    seen = give(app, verb="words", fields={"greeting": "Mine."}).json()["as_of"]
    desk.give_order(
        desk.catalogue["today"], DAY, Order(verb="words", fields={"intro": "Theirs."}, actor="tom")
    )

    refused = ask(app, "POST", "/undo/today", headers=token, json={"as_of": seen})
    assert refused.status_code == 409 and "tom" in refused.json()["error"]
    now = ask(app, "GET", "/state/today").json()["as_of"]
    undone = ask(app, "POST", "/undo/today", headers=token, json={"as_of": now or seen})
    while undone.status_code == 409:  # the page has not heard of it yet
        now = ask(app, "GET", "/state/today").json()["as_of"]
        undone = ask(app, "POST", "/undo/today", headers=token, json={"as_of": now})
    assert undone.json()["can_redo"] and not desk.orders(desk.catalogue["today"], DAY)[0].undone_at
    assert not give(app, verb="words", fields={"intro": "Newer."}).json()["can_redo"]


def test_a_broken_template_leaves_the_last_good_bytes(app: Starlette) -> None:
    """With the fault above them: template and line; mended, it goes away."""
    live: Live = app.state.preview.live
    good = live.shown["today"].hash
    path = Path("templates/today/masthead.mjml.j2")
    text = path.read_text(encoding="utf-8")

    for slip, words in (("{{ nonsense.here }}", "nonsense"), ("{{ 1/0 }}", "division by zero")):
        path.write_text(text + slip, encoding="utf-8")
        broken = until(live, "today", lambda one: one.fault is not None)
        path.write_text(text, encoding="utf-8")
        mended = until(live, "today", lambda one: one.fault is None)

        assert broken.fault is not None and broken.hash == good == mended.hash
        assert broken.fault.template.endswith("masthead.mjml.j2") and broken.fault.line > 0
        assert words in broken.fault.message


def test_a_block_that_becomes_a_newsletters_own_is_seen(app: Starlette) -> None:
    """A file of its own beside the shared one, written while the preview is warm, and taken away again."""
    live: Live = app.state.preview.live
    before = {slug: one.hash for slug, one in live.shown.items()}
    shared = Path("templates/_shared/blocks/lead.mjml.j2").read_text(encoding="utf-8")
    own = Path("templates/society/blocks/lead.mjml.j2")
    own.parent.mkdir(exist_ok=True)

    own.write_text(shared.replace("{{ kicker(item) }}", "OWN {{ kicker(item) }}", 1), encoding="utf-8")
    until(live, "society", lambda one: all("OWN" in rendered.html for rendered in one.renderings))
    own.unlink()
    until(live, "society", lambda one: one.hash == before["society"])
    settled(live)

    assert {slug: one.hash for slug, one in live.shown.items()} == before


@pytest.mark.parametrize(
    ("path", "change", "words"),
    [
        ("templates/today/newsletter.toml", ("min_stories = 8", "min_stories = 'many'"), "min_stories"),
        ("samples/words/2026-11-20/today.md", ('who = "', 'whom = "'), "quote.who"),
    ],
)
def test_a_broken_rule_or_word_is_told_where_it_is(
    app: Starlette, path: str, change: tuple[str, str], words: str
) -> None:
    """File and field, over the last good bytes."""
    live: Live = app.state.preview.live

    save(path, change)
    shown = until(live, "today", lambda one: one.fault is not None)

    assert shown.fault is not None and words in shown.fault.message and shown.renderings


def test_an_order_and_a_broken_rule_stand_beside_each_other(app: Starlette) -> None:
    """The order counts by the last good rules, and what is wrong stays above it until it is mended."""
    live: Live = app.state.preview.live
    rules = "templates/today/newsletter.toml"
    save(rules, ("min_stories = 8", "min_stories = 'many'"))
    until(live, "today", lambda one: one.fault is not None)

    answer = give(app, verb="words", fields={"greeting": "All the same."})

    assert "min_stories" in answer.json()["fault"]["message"]
    shown = until(
        live, "today", lambda one: one.snapshot is not None and one.snapshot.greeting == "All the same."
    )
    assert shown.fault is not None
    save(rules, ("min_stories = 'many'", "min_stories = 8"))
    until(live, "today", lambda one: one.fault is None)


def test_an_order_of_another_process_is_seen(app: Starlette, desk: Desk) -> None:
    """The database is looked at, too: an editor on another machine, a collector."""
    from newsletter.picking.picks import Order

    live: Live = app.state.preview.live

    desk.give_order(desk.catalogue["planet"], DAY, Order(verb="words", fields={"greeting": "From Rome."}))

    until(live, "planet", lambda one: one.snapshot is not None and one.snapshot.greeting == "From Rome.")


def test_tomorrow_and_another_language_are_only_looked_at(app: Starlette) -> None:
    """Other dates and languages are made on demand; what send will use stays."""
    before = ask(app, "GET", "/state/today").json()["hash"]

    tomorrow = ask(app, "GET", "/today/free.html?tomorrow=1").text
    french = ask(app, "GET", "/today/free.html?language=fr").text

    assert "21 November" in tomorrow and "20 novembre" in french
    for asked in (
        "date=soon",
        "date=9999-12-31",
        "date=0001-01-01",
        "language=💩",
        "language=xx-",
        "language=qqq",
    ):
        answer = ask(app, "GET", f"/today/free.html?{asked}")
        assert answer.status_code == 422 and answer.json()["error"], asked
    assert ask(app, "GET", "/state/today").json()["hash"] == before


PAGE = (
    '<html><head><style>.a{color:#000000}@media (prefers-color-scheme: dark){.a{color:#abcdef !important}}'
    "[data-ogsc] .a{color:#eeeeee !important}</style></head>"
    '<body><p class="a" style="color:#111111;background-color:#ffffff">x</p><img src="https://x.example/a.png" alt="A dam"></body></html>'
)  # fmt: skip


def test_the_looks() -> None:
    """As designed: the author's dark rules always; forced: colours turned, Outlook's marks; images: only their words."""
    dark, outlook, gmail, bare = (
        seen_as(PAGE, look) for look in (Look.DARK, Look.OUTLOOK, Look.GMAIL, Look.NO_IMAGES)
    )

    assert seen_as(PAGE, Look.PLAIN) == PAGE
    assert "@media all{.a{color:#abcdef" in dark
    for turned in (outlook, gmail):
        assert "#111111" not in turned and "background-color:#1a1a1a" in turned.replace(" ", "")
        assert "@media not all{" in turned
    assert "data-ogsb" in outlook and "data-ogsc" in outlook and 'data-ogsb=""' not in gmail
    assert "[data-ogsc] .a{color:#eeeeee" in outlook
    assert "a.png" not in bare and "A dam" in bare


def test_personal_links_lead_nowhere(app: Starlette) -> None:
    """What is shown holds no unfilled tag and nobody's link."""
    page = ask(app, "GET", "/today/paying.html").text

    assert not any(tag in page for tag in PERSONAL_TAGS.values())
    assert "/u/preview" in page


def test_without_chromium_there_is_a_sentence(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are refused before anything is made, with what to do."""
    monkeypatch.setenv("PATH", "/nonexistent")

    done = CliRunner().invoke(
        app_of_commands, ["preview", "today", "--png", "shots", "--now", NOW.isoformat()]
    )

    assert isinstance(done.exception, NotFound) and "install the package chromium" in str(done.exception)
    assert not Path("shots").exists()
