"""Every mail of the samples as a stranger's program takes it: html-validate finds nothing, SpamAssassin next to nothing."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from newsletter.edition import PERSONAL_TAGS
from newsletter.providers import Envelope, Recipient
from newsletter.providers.message import build_message, fill, to_bytes
from newsletter.settings import Keys, Settings
from newsletter.store.session import open_store
from tests.approving import DAY, MAKE_UP, a_desk
from tests.builders import ROOT, the_catalogue

NODE = ROOT / ".node" / "node_modules" / ".bin" / "html-validate"
RULES = Path(__file__).with_name("htmlvalidate.cjs")
BASE = "https://mail.theparallel.example"
MOST_POINTS = 1.0
"""What SpamAssassin may hold against a mail; it calls one spam from 5.0 on."""

LINKS = {tag: f"{BASE}/{name[:1]}/kV0vJx7x2Ck9Zy2mC1xqkQ" for name, tag in PERSONAL_TAGS.items()}
READER = Recipient(
    reader="r1", email="ada@example.org", name="Ada Reader", values=LINKS,
    unsubscribe_url=LINKS[PERSONAL_TAGS["unsubscribe_url"]],
)  # fmt: skip


@pytest.fixture(scope="module")
def mails(collected: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All nine in every variant, as pages (``*.html``) and as they arrive (``*.eml``)."""
    folder = tmp_path_factory.mktemp("mails")
    (folder / "subscribers.db").write_bytes(collected.read_bytes())
    engine = open_store(f"sqlite:///{folder}/subscribers.db")
    keys = Keys(signing=(b"a signing key of this test alone",), suppression=b"a suppression key of this test")
    desk = a_desk(engine, keys, Settings(NEWSLETTER_BASE_URL=BASE), the_catalogue())
    publication = desk.catalogue.publication
    for newsletter in desk.catalogue.newsletters:
        sender = newsletter.sender or publication.sender
        for one in desk.make(newsletter, DAY, now=MAKE_UP).renderings:
            mail = Envelope(
                edition=f"{newsletter.slug}.{DAY}.1", batch="1.1", newsletter=newsletter.slug, variant=one.variant,
                sender=sender, reply_to=publication.reply_to, subject=one.subject, html=one.html, text=one.text,
                list_id=f"{newsletter.slug}.{sender.email.rpartition('@')[2]}", list_name=newsletter.name,
                dated_at=MAKE_UP, recipients=(READER,), language=newsletter.language,
            )  # fmt: skip
            name = folder / f"{newsletter.slug}-{one.variant}"
            name.with_suffix(".html").write_text(fill(one.html, LINKS, escape=True), encoding="utf-8")
            name.with_suffix(".eml").write_bytes(to_bytes(build_message(mail, READER)))
    engine.dispose()
    assert len(list(folder.glob("*.eml"))) >= 18
    return folder


def test_html_validate_finds_nothing(mails: Path) -> None:
    """By the rules of ``htmlvalidate.cjs``; each that is off says why."""
    told = mails / "told.json"  # it does not wait until a pipe has taken everything
    done = subprocess.run(
        [NODE, "--config", RULES, "--formatter", f"json={told}", *sorted(mails.glob("*.html"))],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    found = {
        f"{Path(page['filePath']).stem}: {message['ruleId']}: {message['message']}"
        for page in json.loads(told.read_text(encoding="utf-8"))
        for message in page["messages"]
    }
    assert (found, done.returncode, done.stderr) == (set(), 0, "")


def test_a_planted_fault_is_found(tmp_path: Path) -> None:
    """What the rules that are left still see."""
    page = tmp_path / "page.html"
    page.write_text(
        '<!DOCTYPE html><html lang="en"><head><title>T</title></head><body><p><h2>a</h2><img src="x">'
    )

    done = subprocess.run([NODE, "--config", RULES, page], capture_output=True, text=True, check=False)

    assert done.returncode == 1 and "wcag/h37" in done.stdout


def test_spamassassin_holds_next_to_nothing_against_them(mails: Path) -> None:
    """All in one run, without network or learning; each by its own score."""
    paths = sorted(mails.glob("*.eml"))
    box = b"".join(
        b"From sender@example.org Fri Nov 20 04:30:00 2026\n"
        + re.sub(rb"^From ", b">From ", path.read_bytes().replace(b"\r\n", b"\n"), flags=re.MULTILINE) + b"\n"
        for path in paths
    )  # fmt: skip
    done = subprocess.run(["spamassassin", "-L", "-t", "--mbox"], input=box, capture_output=True, check=True)

    said = re.findall(
        r"^X-Spam-Status: .*?score=(-?[\d.]+).*?tests=(.*?)autolearn", done.stdout.decode(), re.M | re.S
    )
    scores = {
        path.stem: (float(score), "".join(tests.split()))
        for path, (score, tests) in zip(paths, said, strict=True)
    }
    assert {name: told for name, told in scores.items() if told[0] > MOST_POINTS} == {}
