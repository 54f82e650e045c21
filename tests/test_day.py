"""The day through the command line, on the shipped samples: what an operator and an editor see."""

from __future__ import annotations

import csv
import email
import email.policy
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import select
from typer.testing import CliRunner

from newsletter.audience.leaving import leave
from newsletter.cli.main import app
from newsletter.desk import Desk
from newsletter.errors import NewsletterError
from newsletter.settings import load_settings
from newsletter.store.session import reading
from newsletter.store.tables import Subscriber
from newsletter.times import parse_instant
from newsletter.web.app import create_app
from newsletter.web.view import view_online
from tests import processes
from tests.builders import ROOT, a_feed, a_site, ask, the_catalogue
from tests.standin import StandIn

NOW = "2026-11-20T04:00:00Z"
Run = Callable[..., Any]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh installation in an empty folder, which is the working directory."""
    folder = a_site(tmp_path / "site")
    monkeypatch.chdir(folder)
    for name in list(os.environ):
        if name.startswith(("NEWSLETTER_", "SENDGRID_", "DATABASE_URL")):
            monkeypatch.delenv(name)
    return folder


def run(*arguments: str, code: int | tuple[int, ...] = 0) -> Any:
    """Run a command in this process; check its exit code; return its JSON if it printed any, else its text."""
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=True)
    if isinstance(result.exception, NewsletterError):
        exit_code, text = 1, str(result.exception)
    else:
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        exit_code, text = result.exit_code, result.stdout
    wanted = code if isinstance(code, tuple) else (code,)
    assert exit_code in wanted, f"{arguments}: exit {exit_code}\n{text}\n{result.stderr}"
    return json.loads(text) if "--json" in arguments and exit_code != 1 else text


def the_day(*more: str, now: str = NOW, code: int | tuple[int, ...] = 0) -> dict[str, dict[str, Any]]:
    """Import the sample readers and run the whole day; the editions by newsletter."""
    run("subscribers", "import", "samples/subscribers.csv", "--now", now)
    document = run("run", "--all", "--now", now, "--json", *more, code=code)
    return {row["newsletter"]: row for row in document["editions"]}


def sample_rows() -> list[dict[str, str]]:
    """The sample subscribers as their file has them."""
    with Path("samples/subscribers.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def mails(folder: Path) -> dict[str, list[email.message.EmailMessage]]:
    """The mails in the outbox by newsletter."""
    found: dict[str, list[email.message.EmailMessage]] = {}
    for path in sorted(folder.glob("outbox/*/*/*.eml")):
        message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
        found.setdefault(path.parent.name, []).append(message)  # type: ignore[arg-type]  # the default policy's class
    return found


def test_nine_newsletters_go_out_to_their_segments(site: Path) -> None:
    """All nine are submitted, balanced, with at least their minimum of stories; each mail is whole."""
    editions = the_day()

    assert {row["status"] for row in editions.values()} == {"submitted"}
    assert len(editions) == 9
    sizes: Counter[str] = Counter()
    for segment in run("segments", "--json", "--now", NOW)["segments"]:
        sizes[segment["newsletter"]] += segment["size"]
    for slug, found in mails(site).items():
        balance = run("audit", slug, "--json", "--now", NOW)
        assert (len(found), balance["submitted"], balance["balanced"]) == (sizes[slug], sizes[slug], True)
        assert len({message["To"] for message in found}) == len(found)
    for newsletter in the_catalogue().newsletters:
        chosen = run("picks", newsletter.slug, "--json", "--now", NOW)
        assert len(chosen["picked"]) >= newsletter.min_stories


def test_every_mail_can_be_left_and_answered(site: Path) -> None:
    """Both parts, list headers, three personal links, postal address; nothing unfilled."""
    the_day("--only", "today", "--only", "letter")

    for found in mails(site).values():
        for message in found:
            html = message.get_body(("html",)).get_content()  # type: ignore[union-attr]
            text = message.get_body(("plain",)).get_content()  # type: ignore[union-attr]
            link = message["List-Unsubscribe"].strip("<>")
            assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
            assert message["Message-ID"] and message["Date"] and message["List-ID"]
            for part in (html, text):
                assert link in part
                assert "/preferences/" in part and "/view/" in part
                assert "14 rue des Deux-Rives" in part and "because you subscribed" in part
                assert "[[nl:" not in part and "{{" not in part


def test_only_paying_readers_get_full_texts_and_no_adverts(site: Path) -> None:
    """The gate, seen in the mails themselves."""
    the_day("--only", "today")
    plans = {row["email"]: row["plan"] for row in sample_rows()}
    advert = the_catalogue().publication.adverts[0].headline
    paid = "The page is short enough to be read standing up"

    seen = Counter()
    for message in mails(site)["today"]:
        text = message.get_body(("plain",)).get_content()  # type: ignore[union-attr]
        flat = " ".join(text.split())
        paying = plans[message["To"].addresses[0].addr_spec] != "free"
        assert (advert in flat, paid in flat) == (not paying, paying)
        seen[paying] += 1
    assert min(seen.values()) > 10


def test_the_same_command_again_sends_nothing_and_says_why(site: Path) -> None:
    """A repeated run submits nothing; every edition says so."""
    the_day()
    before = {path: path.stat().st_mtime_ns for path in site.glob("outbox/*/*/*.eml")}

    again = run("run", "--all", "--now", NOW, "--json")["editions"]

    assert {path: path.stat().st_mtime_ns for path in site.glob("outbox/*/*/*.eml")} == before
    assert all("Already submitted" in row["reason"] for row in again)


def test_same_inputs_same_picks_and_hashes(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two runs into two fresh databases: identical picks and content hashes."""
    first = the_day("--only", "today", "--only", "planet")
    picks = run("picks", "today", "--json", "--now", NOW)
    monkeypatch.chdir(a_site(tmp_path / "other"))

    second = the_day("--only", "today", "--only", "planet")

    assert [row["hash"] for row in first.values()] == [row["hash"] for row in second.values()]
    assert picks == run("picks", "today", "--json", "--now", NOW)


def test_what_is_not_due_is_said(site: Path) -> None:
    """Without --all the weekday counts: on a Friday the Monday letter stays where it is."""
    document = run("run", "--only", "economy", "--now", NOW, "--json")

    (edition,) = document["editions"]
    assert "Not due on Fridays" in edition["reason"]
    assert edition["status"] == "not due"


def test_a_thin_day_is_held_or_skipped_by_its_own_rule(site: Path) -> None:
    """With one small source: held waits for a person (exit 3), skipped does not."""
    editions = the_day("--from", "samples/feeds/kizuna.rss", code=3)

    assert {slug: row["status"] for slug, row in editions.items() if row["status"] == "skipped"} == {
        "faultlines": "skipped", "letter": "skipped", "planet": "skipped",
    }  # fmt: skip
    assert editions["today"]["status"] == "held"
    assert editions["today"]["reason"].startswith("Thin day: ")
    assert mails(site) == {}


def test_an_editor_holds_approves_and_spikes(site: Path) -> None:
    """Orders in both directions; an edition that went out cannot be taken back."""
    the_day("--from", "samples/feeds/la-gaceta-del-sur.rdf", "--only", "society", code=3)

    approved = run("approve", "society", "--now", NOW, "--json")["editions"][0]
    held = run("hold", "society", "--reason", "typo", "--now", NOW, "--json")["editions"][0]
    run("approve", "society", "--now", NOW)
    sent = run("send", "society", "--now", NOW, "--json")["editions"][0]

    assert (approved["status"], held["status"], sent["status"]) == ("approved", "held", "submitted")
    assert "cannot be spiked" in run("spike", "society", "--now", NOW, code=1)


def test_orders_are_kept_for_the_next_make_up(site: Path) -> None:
    """A pin before there is an edition comes first; a drop stays out; an edit changes the words."""
    run("collect", "--now", NOW)
    chosen = run("picks", "today", "--json", "--now", NOW)["picked"]
    lead, other = chosen[0]["url"], chosen[-1]["url"]
    run("drop", "today", lead, "--reason", "stale", "--now", NOW)
    run("pin", "today", other, "--section", "lead", "--now", NOW)
    run("edit", "today", other, "--headline", "Words by the editor", "--now", NOW)

    editions = the_day("--only", "today")
    after = run("picks", "today", "--json", "--now", NOW)

    assert (after["picked"][0]["url"], after["picked"][0]["headline"]) == (other, "Words by the editor")
    assert lead in {row["url"] for row in after["dropped"]}
    assert editions["today"]["status"] == "submitted"
    assert any("Words by the editor" in message["Subject"] for message in mails(site)["today"])


def test_who_leaves_is_out_of_the_next_edition_and_why_says_so(site: Path) -> None:
    """Leave by POST, run the next day: not in the audience, with when and why; the audit balances."""
    from newsletter.desk import Desk
    from newsletter.settings import load_settings
    from newsletter.web.app import create_app

    the_day("--only", "today")
    message = mails(site)["today"][0]
    reader = message["To"].addresses[0].addr_spec
    path = message["List-Unsubscribe"].strip("<>").removeprefix("http://127.0.0.1:8000")
    desk = Desk.open(load_settings())
    moment = parse_instant("2026-11-20T09:00:00Z")
    pages = create_app(desk.engine, desk.catalogue, desk.keys, desk.settings, clock=lambda: moment)

    answer = ask(pages, "POST", path, data={"List-Unsubscribe": "One-Click"})
    desk.engine.dispose()
    tomorrow = "2026-11-21T04:00:00Z"
    Path("more").mkdir()
    for index, paper in enumerate(("north", "south", "east", "west")):
        feed = a_feed("2026-11-20T20:00:00Z", range(index * 3, index * 3 + 3), paper=paper)
        Path(f"more/{paper}.rss").write_text(feed, encoding="utf-8")
    edition = the_day("--only", "today", "--from", "more", now=tomorrow)["today"]

    assert edition["status"] == "submitted"
    assert answer.status_code == 200
    told = run("why", "today", reader, "--json", "--now", tomorrow)
    assert told["verdict"] == "not in audience"
    assert "Left this newsletter on 2026-11-20 at 09:00 UTC (one-click from the mail)" in told["reason"]
    assert run("why", "today", reader, "--json", "--now", NOW)["verdict"] == "submitted"
    assert run("audit", "today", "--json", "--now", tomorrow)["balanced"] is True
    assert reader not in {
        m["To"].addresses[0].addr_spec for m in mails(site)["today"] if "21 Nov" in m["Date"]
    }


PERSONAL = re.compile(r"http://127\.0\.0\.1:8000/(u|preferences|view)/[\w.~-]+")


def same_for_all(html: str, text: str) -> str:
    """A hash of both parts with the personal links taken out."""
    parts = [PERSONAL.sub(r"\1", part.replace("\r\n", "\n")) for part in (html, text)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def parts_of(message: email.message.EmailMessage) -> tuple[str, str]:
    """HTML and text of a mail."""
    html, text = message.get_body(("html",)), message.get_body(("plain",))
    assert html is not None and text is not None
    return html.get_content(), text.get_content()


def test_what_is_previewed_tested_sent_and_viewed_is_the_same(site: Path) -> None:
    """Every newsletter and variant, by hash, personal links aside; the hash shown is that of the edition."""
    editions = the_day()
    index = run("preview", "--out", "preview", "--now", NOW, "--json")["previews"]
    assert {(row["newsletter"], row["variant"]) for row in index} == {
        (newsletter.slug, variant)
        for newsletter in the_catalogue().newsletters
        for variant in ("free", "paying", *(f"paying+{one}" for one in newsletter.reminders))
    }
    assert all(row["hash"] == editions[row["newsletter"]]["hash"] for row in index)

    previewed, pages = {}, {}
    for row in index:
        name = (row["newsletter"], row["variant"])
        html, text = (
            Path(f"preview/{'/'.join(name)}.{kind}").read_text(encoding="utf-8") for kind in ("html", "txt")
        )
        previewed[name], pages[PERSONAL.sub(r"\1", html)] = same_for_all(html, text), name

    tested = {}
    for slug, variant in previewed:
        shutil.rmtree("outbox-system", ignore_errors=True)
        run("test-send", slug, "--variant", variant, "--to", "desk@parallel.example", "--now", NOW)
        (path,) = Path("outbox-system").rglob("*.eml")
        message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
        tested[slug, variant] = same_for_all(*parts_of(message))  # type: ignore[arg-type]
    assert tested == previewed

    by_hash = {told: name for name, told in previewed.items()}
    one_of_each = {}
    for found in mails(site).values():
        for message in found:
            html, text = parts_of(message)
            one_of_each[by_hash[same_for_all(html, text)]] = html
    sizes = run("segments", "--json", "--now", NOW)["segments"]
    assert set(one_of_each) == {(row["newsletter"], row["variant"]) for row in sizes if row["size"]}

    opened = Desk.open(load_settings())
    readers = create_app(
        opened.engine, opened.catalogue, opened.keys, opened.settings, clock=lambda: parse_instant(NOW),
        view=lambda reader, scope: view_online(opened, reader, scope, now=parse_instant(NOW)),
    )  # fmt: skip
    for name, html in one_of_each.items():
        link = re.search(r"http://127\.0\.0\.1:8000(/view/[\w.~-]+)", html)
        assert link is not None
        page = ask(readers, "GET", link[1]).text
        assert pages[PERSONAL.sub(r"\1", page)] == name
    opened.engine.dispose()


def test_a_tenth_newsletter_is_a_tenth_folder(site: Path) -> None:
    """A copied folder is scheduled, previewed and sent, with no change of code."""
    shutil.copytree("templates/planet", "templates/tenth")
    Path("more.csv").write_text(
        "email,name,plan,newsletters\nten@example.com,Ten,free,tenth\n", encoding="utf-8"
    )
    run("subscribers", "import", "more.csv", "--now", NOW)

    editions = the_day("--only", "tenth")
    listed = subprocess.run(
        [sys.executable, str(ROOT / "scheduler.py"), "--list"], capture_output=True, text=True, check=True
    )

    assert (editions["tenth"]["status"], editions["tenth"]["submitted"]) == ("submitted", 1)
    assert listed.stdout.count("  tenth") == 2
    assert {
        row["newsletter"] for row in run("preview", "tenth", "--out", "p", "--now", NOW, "--json")["previews"]
    } == {"tenth"}


def test_a_template_fault_holds_its_newsletter_only(site: Path) -> None:
    """A broken template, whatever is wrong with it, is named with file and line; the others go out."""
    Path("templates/planet/blocks").mkdir(exist_ok=True)
    Path("templates/letter/masthead.mjml.j2").write_text("<mj-section>\n{{ 1 / 0 }}</mj-section>\n")
    Path("templates/planet/blocks/lead.mjml.j2").write_text(
        "<mj-section><mj-column>\n<mj-text>1 < 2</mj-text>\n</mj-column></mj-section>\n"
    )

    editions = the_day("--only", "letter", "--only", "planet", "--only", "today", code=3)

    assert [editions[slug]["status"] for slug in ("letter", "planet", "today")] == [
        "held",
        "held",
        "submitted",
    ]
    assert "letter/masthead.mjml.j2, line 2: division by zero" in editions["letter"]["reason"]
    assert "templates/planet/blocks/lead.mjml.j2, line 2" in editions["planet"]["reason"]
    assert run("proof", "planet", "--now", NOW, "--json", code=3)["findings"][0]["severity"] == "error"


def test_the_shipped_newsletters_are_clean(site: Path) -> None:
    """No error and no warning in any of the nine; one note about the local address each."""
    run("collect", "--now", NOW)

    findings = run("proof", "--now", NOW, "--json")["findings"]

    assert [f for f in findings if f["severity"] != "note"] == []
    assert {f["code"] for f in findings} == {"base-url-loopback"}


def test_what_people_typed_is_only_letters_on_a_terminal(site: Path) -> None:
    """Neither a direction override nor a terminal's command of an order comes out; an article is not said twice."""
    told = run("words", "weekend", "greeting=Good \u202egninrom", "--reason", "a\x1b[31mb", "--now", NOW)
    seen = run("history", "weekend", "--now", NOW)

    assert told.startswith("Noted: words for the Weekend of ")
    assert "Good gninrom" in seen and "a[31mb" in " ".join(seen.split())
    assert not {"\u202e", "\x1b"} & set(seen)


def test_words_that_nobody_reads_are_told(site: Path) -> None:
    """A mistyped slug in the words folder."""
    Path("samples/words/2026-11-20/todya.md").write_text("Dear readers.", encoding="utf-8")

    found = run("proof", "letter", "--json", "--now", NOW, code=(0, 3))["findings"]

    (stray,) = [one for one in found if one["code"] == "words-stray"]
    assert stray["where"].endswith("2026-11-20/todya.md") and "no newsletter's words" in stray["message"]


def test_a_folder_that_cannot_be_written_is_a_sentence(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For files and for pictures."""
    run("collect", "--now", NOW)
    Path("taken").write_text("a file", encoding="utf-8")
    browser = Path("bin/chromium")
    browser.parent.mkdir()
    browser.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    browser.chmod(0o755)
    monkeypatch.setenv("PATH", f"{browser.parent.resolve()}:{os.environ['PATH']}")

    for option in ("--out", "--png"):
        told = run("preview", "letter", option, "taken", "--now", NOW, code=1)
        assert "cannot be written" in told and "Give another place than taken" in told


def test_test_send_writes_one_marked_mail(site: Path) -> None:
    """The real bytes, to one person, marked as a test, outside the edition's outbox."""
    run("collect", "--now", NOW)

    run("test-send", "today", "--to", "editor@example.com", "--now", NOW)

    (path,) = site.glob("outbox-system/**/*.eml")
    message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
    assert message["Subject"].startswith("[Test] ")
    assert mails(site) == {}


def test_a_reader_is_shown_in_words(site: Path) -> None:
    """What was left says when and how, what must not be sent says why; nothing is raw data."""
    run(
        "subscribers", "add", "ann@example.org", "--newsletters", "today|weekend", "--consent", "By phone",
        "--now", "2026-11-01T09:00:00Z",
    )  # fmt: skip
    desk = Desk.open(load_settings())
    with reading(desk.engine) as session:
        ann = session.exec(select(Subscriber)).one()
    leave(desk.engine, ann.reader, "today", now=parse_instant("2026-11-19T08:00:00Z"), how="a test")

    shown = run("subscribers", "show", "ann@example.org")

    assert "today: left since 2026-11-19T08:00:00Z (a test)" in shown
    assert "weekend: active since 2026-11-01T09:00:00Z" in shown
    assert "today: unsubscribed since 2026-11-19T08:00:00Z (a test)" in shown
    assert "{" not in shown and "'" not in shown


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("picks", "nosuch"), 1, "There is no newsletter 'nosuch'. There are: economy, faultlines"),
        (("run", "--now", "yesterday"), 2, ""),
        (("run", "--now", "2026-02-18T02:20:00"), 2, ""),
        (("send", "today", "--now", NOW), 1, "There is no edition of today"),
        (("subscribers", "add", "nonsense"), 1, "This is not a valid address"),
        (("collect", "http://127.0.0.1:9/feed"), 0, "cannot be read: it leads to"),
        (("subscribers", "import", "nosuch.csv"), 1, "cannot be opened"),
        (("subscribers", "show", "nobody@example.com"), 1, "do not know"),
        (("why", "today", "nobody@example.com", "--now", NOW), 0, "not in audience"),
    ],
)
def test_refusals_are_sentences(site: Path, arguments: tuple[str, ...], code: int, sentence: str) -> None:
    """Exit codes mean something, and every refusal says what to do."""
    assert sentence in run(*arguments, code=code)


def test_without_a_key_nothing_is_begun(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SendGrid without a key: refused before anything is collected or made, with what to do."""
    monkeypatch.setenv("NEWSLETTER_PROVIDER", "sendgrid")
    for name in ("NEWSLETTER_SECRET_KEY", "NEWSLETTER_SUPPRESSION_KEY"):
        monkeypatch.setenv(name, f"a key of this test for {name}")

    assert "SENDGRID_API_KEY is empty" in run("run", "--all", "--now", NOW, code=1)
    assert run("status", "--json")["editions"] == []


def test_doctor_names_what_a_real_send_lacks(site: Path) -> None:
    """On the embedded default: the local address, the local provider, the sample sender."""
    result = CliRunner().invoke(app, ["doctor", "--json"])
    found = {check["name"]: check for check in json.loads(result.stdout)["checks"]}
    text = found["base-url"]["message"]

    assert result.exit_code == 1
    assert found["sender"]["severity"] == "error"
    assert found["subscribers"]["severity"] == "error"
    assert found["templates"]["severity"] == "ok"

    assert "NEWSLETTER_BASE_URL" in text


def test_a_changed_suppression_key_is_refused(site: Path) -> None:
    """With another key erased addresses would come back: nothing runs."""
    run("segments", "--json")
    Path("subscribers.keys").write_text("a-signing-key-of-length\nanother-suppression-key\n")

    assert "not the one this database was made with" in run("segments", code=1)


# --- with the provider, and killed ----------------------------------------------------------------


def _environment(standin: StandIn) -> dict[str, str]:
    return {
        **os.environ, "NEWSLETTER_PROVIDER": "sendgrid", "SENDGRID_API_KEY": standin.key, "SENDGRID_HOST": standin.url,
        "NEWSLETTER_SECRET_KEY": "a-signing-key-for-this-test-only", "NEWSLETTER_SUPPRESSION_KEY": "a-suppression-key-for-this-test",
        "SENDGRID_WEBHOOK_PUBLIC_KEY": "none",
    }  # fmt: skip


@pytest.fixture
def standin() -> Iterator[StandIn]:
    """The provider's stand-in, enforcing its limits."""
    with StandIn(key="SG.stand-in.key") as running:
        yield running


def test_every_reader_is_in_exactly_one_accepted_personalization(site: Path, standin: StandIn) -> None:
    """Through SendGrid's own package: each audience member of each edition once, none other."""
    environment = _environment(standin)
    processes.newsletter(
        "subscribers", "import", "samples/subscribers.csv", "--now", NOW, environment=environment
    )

    done = processes.newsletter("run", "--all", "--now", NOW, "--json", environment=environment)

    editions = json.loads(done.stdout)["editions"]
    assert {row["status"] for row in editions} == {"submitted"}, done.stderr
    taken = Counter((one.edition.split(".")[0], one.email) for one in standin.accepted)
    assert set(taken.values()) == {1}
    wanted = set()
    for row in sample_rows():
        if row["status"] == "active":
            wanted.update(
                (slug, row["email"])
                for slug in row["newsletters"].split("|")
                if slug != "magazine" or row["plan"] != "free"
            )
    assert set(taken) == wanted


def test_killed_in_the_middle_nobody_gets_it_twice(site: Path, standin: StandIn) -> None:
    """kill -9 while batches are in flight, run again: nobody twice; what is uncertain is shown."""
    environment = _environment(standin)
    processes.newsletter(
        "subscribers", "import", "samples/subscribers.csv", "--now", NOW, environment=environment
    )
    standin.delay_seconds = 0.6
    process = processes.newsletter_command("run", "--all", "--now", NOW, environment=environment)
    deadline = time.monotonic() + 30
    while len(standin.accepted) < 100 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    standin.delay_seconds = 0.0
    time.sleep(1.0)

    done = processes.newsletter("run", "--all", "--now", NOW, "--json", environment=environment)

    editions = json.loads(done.stdout)["editions"]
    taken = Counter((one.edition, one.reader) for one in standin.accepted)
    assert set(taken.values()) == {1}
    uncertain = sum(row["uncertain"] for row in editions)
    submitted = sum(row["submitted"] for row in editions)
    assert uncertain > 0 and done.returncode == 3
    assert submitted <= len(taken) <= submitted + uncertain
    for row in editions:
        balance = json.loads(
            processes.newsletter(
                "audit", row["newsletter"], "--json", "--now", NOW, environment=environment
            ).stdout
        )
        assert balance["balanced"] is True
        assert row["uncertain"] == 0 or "nobody can say" in row["reason"]


def test_asked_to_stop_it_finishes_what_is_in_flight(site: Path, standin: StandIn) -> None:
    """SIGTERM in the middle: batches in flight settle, nothing is uncertain, the next run does the rest."""
    environment = _environment(standin)
    processes.newsletter(
        "subscribers", "import", "samples/subscribers.csv", "--now", NOW, environment=environment
    )
    standin.delay_seconds = 0.5
    process = processes.newsletter_command("run", "--all", "--now", NOW, environment=environment)
    deadline = time.monotonic() + 30
    while len(standin.accepted) < 100 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=30)
    standin.delay_seconds = 0.0
    stopped = json.loads(processes.newsletter("status", "--json", environment=environment).stdout)["editions"]

    done = processes.newsletter("run", "--all", "--now", NOW, "--json", environment=environment)

    assert any(row["pending"] for row in stopped) and any(row["submitted"] for row in stopped)
    assert [row["uncertain"] for row in stopped] == [0] * len(stopped)
    editions = json.loads(done.stdout)["editions"]
    assert {row["status"] for row in editions} == {"submitted"}
    assert set(Counter((one.edition, one.reader) for one in standin.accepted).values()) == {1}


def test_a_run_that_is_stopped_before_its_end_is_not_done(site: Path, standin: StandIn) -> None:
    """SIGTERM while sources are read: whom nobody looked at is said, and the exit code says that something waits."""
    asked, answers = threading.Event(), threading.Event()

    class Slow(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.set()
            answers.wait(10)
            self.send_error(404)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    process = processes.newsletter_command(
        "run", "--from", f"http://127.0.0.1:{server.server_port}/", "--only", "weekend", "--only", "today", "--now", NOW,
        environment={**_environment(standin), "NEWSLETTER_ALLOW_PRIVATE_SOURCES": "1"},
    )  # fmt: skip
    assert asked.wait(30)
    process.send_signal(signal.SIGTERM)
    answers.set()
    said, complained = process.communicate(timeout=30)
    server.shutdown()
    server.server_close()

    assert "Not due on" in said and process.poll() == 3
    assert "Stopped before today; give the same command again." in complained


def test_five_runs_at_once_make_one_edition(site: Path, standin: StandIn) -> None:
    """The same run started five times in parallel: one edition each, nobody twice."""
    environment = _environment(standin)
    processes.newsletter(
        "subscribers", "import", "samples/subscribers.csv", "--now", NOW, environment=environment
    )
    processes.newsletter("collect", "--now", NOW, environment=environment)
    command = ["run", "--only", "today", "--only", "economy", "--all", "--now", NOW]
    five = [processes.newsletter_command(*command, environment=environment) for _ in range(5)]
    errors = [process.communicate()[1] for process in five]

    assert "Traceback" not in "".join(errors)
    assert set(Counter((one.edition, one.reader) for one in standin.accepted).values()) == {1}
    for slug in ("today", "economy"):
        balance = json.loads(
            processes.newsletter("audit", slug, "--json", "--now", NOW, environment=environment).stdout
        )
        assert (balance["balanced"], balance["pending"], balance["submitted"]) == (
            True,
            0,
            balance["audience"],
        )


def test_every_command_has_help_and_is_in_the_readme() -> None:
    """Commands are discovered: a new one is covered on arrival."""
    import typer

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    group = typer.main.get_command(app)
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        assert command.help, name
        assert f"`{name}" in readme or f"newsletter {name}" in readme, name
        for part, inner in getattr(command, "commands", {}).items():
            assert inner.help, f"{name} {part}"
            assert f"newsletter {name} {part}" in readme, f"{name} {part}"


def test_now_is_an_instant() -> None:
    """The samples' instant is what the Makefile says it is."""
    assert f"SAMPLE_NOW := {NOW}" in (ROOT / "Makefile").read_text(encoding="utf-8")
    assert parse_instant(NOW) == datetime.fromisoformat("2026-11-20T04:00:00+00:00")
