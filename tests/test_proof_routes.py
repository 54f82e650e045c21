"""An edition with an unmended error goes out by no route; links are followed as carefully as feeds are."""

from __future__ import annotations

import email
import email.policy
import threading
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from sqlmodel import col, update

from newsletter.audience.imports import import_subscribers
from newsletter.catalogue import Newsletter
from newsletter.cli.looking import look_at, proof_all
from newsletter.cli.looking import test_send as send_a_test
from newsletter.desk import Desk
from newsletter.edition import EditionStatus, Rendered
from newsletter.errors import ProofFailed, StateError
from newsletter.feeds.fetch import Fetcher
from newsletter.picking.picks import Order
from newsletter.rendering.proof.online import follow
from newsletter.rota import carry_on
from newsletter.settings import load_settings
from newsletter.store.session import writing
from newsletter.store.tables import EditionRow
from tests.builders import a_site
from tests.visiting import Moment

NOW = datetime(2026, 11, 20, 4, 0, tzinfo=UTC)
DAY = date(2026, 11, 20)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """The samples, collected, and one reader."""
    monkeypatch.chdir(a_site(tmp_path / "site"))
    Path("one.csv").write_text(
        "email,name,plan,newsletters,language,country,timezone,status\nann@example.org,Ann,free,today,,,,active\n"
    )
    opened = Desk.open(load_settings(), clock=Moment(NOW))
    opened.collect(None, now=NOW)
    import_subscribers(opened.engine, Path("one.csv"), catalogue=opened.catalogue, keys=opened.keys, now=NOW)
    yield opened
    opened.engine.dispose()


def plant(desk: Desk) -> Newsletter:
    """An error an editor may make at five in the morning; the newsletter."""
    today = desk.catalogue["today"]
    desk.give_order(today, DAY, Order(verb="words", fields={"greeting": "TKTK, readers."}, actor="mia"))
    return today


def sent() -> int:
    """How many mails went out."""
    return len(list(Path("outbox").rglob("*.eml")))


def test_an_error_holds_the_edition_until_it_is_mended(desk: Desk) -> None:
    """Run, send and approve keep it, each saying what to do; mended, it goes."""
    today = plant(desk)

    (run,) = desk.run(now=NOW, only=["today"])
    with pytest.raises(ProofFailed, match=r"“TKTK” was left in\. Write what belongs there"):
        desk.approve(today, DAY, actor="mia")
    held = desk.send(today, DAY, now=NOW)
    before = sent()
    desk.undo(today, DAY, actor="mia")
    (again,) = desk.run(now=NOW, only=["today"])

    assert (run.status, held.status, before) == ("held", "held", 0)
    assert "“TKTK” was left in. Write what belongs there, or edit the story." in run.reason
    assert (again.status, sent()) == ("submitted", 1)


def test_an_approval_that_should_not_be_sends_nothing(desk: Desk) -> None:
    """However an edition with an error came to be approved: the last door looks again."""
    today = plant(desk)
    desk.prepare(today, DAY, now=NOW)
    with writing(desk.engine) as session:
        session.execute(
            update(EditionRow).where(col(EditionRow.newsletter) == "today").values(status="approved")
        )

    (run,) = desk.run(now=NOW, only=["today"])
    with pytest.raises(ProofFailed, match="has errors in its proof"):
        desk.send(today, DAY, now=NOW)
    with pytest.raises(ProofFailed, match="has errors in its proof"):
        desk.freeze(today, DAY, now=NOW)
    carry_on(desk)

    row = desk.find(today, DAY)
    assert "has errors in its proof" in run.reason
    assert row is not None and (row.status, row.audience, sent()) == (EditionStatus.APPROVED, 0, 0)


def test_a_correction_with_an_error_is_refused(desk: Desk) -> None:
    """By an order or by its subject; those who have the old edition keep it."""
    today = desk.catalogue["today"]
    desk.run(now=NOW, only=["today"])
    plant(desk)

    with pytest.raises(ProofFailed, match="TKTK"):
        desk.correct(today, DAY, now=NOW, actor="mia")
    desk.undo(today, DAY, actor="mia")
    with pytest.raises(ProofFailed, match="character"):
        desk.correct(today, DAY, now=NOW, actor="mia", subject="Mended\r\nBcc: all@example.org")
    with pytest.raises(StateError, match="would change"):
        desk.correct(today, DAY, now=NOW, actor="mia")

    row = desk.find(today, DAY)
    assert row is not None and (row.revision, sent()) == (1, 1)


def test_a_test_mail_of_it_is_marked_and_says_so(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """To look at an error is what a test is for; it reaches no reader."""
    today = plant(desk)

    send_a_test(desk, today, to="editor@example.org", variant="free", now=NOW, day=DAY)

    assert "It cannot go to readers as it is" in capsys.readouterr().err
    (mail,) = Path("outbox-system").rglob("*.eml")
    message = email.message_from_bytes(mail.read_bytes(), policy=email.policy.default)
    assert message["Subject"].startswith("[Test]") and sent() == 0


def test_yesterdays_subject_is_known(desk: Desk) -> None:
    """Of the last edition that went out before that day; the proof is told, it looks nothing up."""
    today, yesterday = desk.catalogue["today"], date(2026, 11, 19)
    for day in (yesterday, DAY):
        words = {"subject": "The tide, again", "preheader": "And more"}
        desk.give_order(today, day, Order(verb="words", fields=words))
    made = desk.make(today, DAY, now=NOW)
    assert made.snapshot is not None
    desk.run(now=NOW, day=yesterday, only=["today"])

    again = desk.proofed(today, made.picks, made.snapshot, made.renderings, now=NOW)

    assert {one.code for one in made.findings} == {"base-url-loopback"}
    assert {one.code for one in again.findings} == {"base-url-loopback", "subject-repeat", "preheader-old"}


def test_a_template_that_fails_is_a_finding(desk: Desk) -> None:
    """Of its newsletter alone, with file, line and remedy."""
    path = Path("templates/letter/heading.mjml.j2")
    path.write_text(path.read_text(encoding="utf-8") + "{{ nobody.knows }}", encoding="utf-8")

    found = proof_all(desk, [desk.catalogue["letter"], desk.catalogue["today"]], now=NOW, day=DAY)

    (failed,) = [one for one in found if one.severity == "error"]
    assert (failed.code, failed.newsletter) == ("render-failed", "letter")
    assert "heading.mjml.j2" in failed.message and failed.remedy


# --- online -------------------------------------------------------------------------------------


class _Site(BaseHTTPRequestHandler):
    """Answers by path."""

    def do_GET(self) -> None:
        """A page, nothing, a refusal, a heavy picture, or silence."""
        if self.path == "/slow":
            time.sleep(1.5)
        status = {"/gone": 404, "/members": 403}.get(self.path, 200)
        self.send_response(status)
        if self.path == "/heavy.jpg":
            self.send_header("Content-Type", "image/jpeg")
            self.send_header("Content-Length", str(5 * 1_048_576))
        else:
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def site() -> Iterator[str]:
    """A site, running; its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Site)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def linked(site: str) -> Rendered:
    """A page that links to all of it."""
    links = "".join(f'<a href="{site}{path}">x</a>' for path in ("/", "/gone", "/members", "/slow"))
    return Rendered("free", "", "", f'<html><body>{links}<img src="{site}/heavy.jpg"></body></html>', "")


def test_links_are_followed(site: str) -> None:
    """Nothing is said of what answers; a picture's weight is read from its headers, not fetched."""
    with Fetcher(allow_private=True, total_seconds=0.5) as fetcher:
        found = follow([("today", [linked(site)])], lambda address: look_at(fetcher, address))

    assert {(one.code, one.where.removeprefix(site)) for one in found} == {
        ("link-dead", "/gone"), ("link-unsure", "/members"), ("link-unsure", "/slow"), ("image-heavy", "/heavy.jpg"),
    }  # fmt: skip


def test_no_link_is_followed_inward(site: str) -> None:
    """A link is a stranger's word, too: the guard of the feeds stands before it."""
    with Fetcher(allow_private=False, total_seconds=0.5) as fetcher:
        found = follow([("today", [linked(site)])], lambda address: look_at(fetcher, address))

    assert {one.code for one in found} == {"link-dead"} and len(found) == 5
    assert all("private or local address" in one.message for one in found)
