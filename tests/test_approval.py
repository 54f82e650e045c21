"""Go or no-go: asked by mail, approved by hash, and decided by rule when nobody does."""

from __future__ import annotations

import email
import email.policy
import json
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, update
from sqlmodel import col
from typer.testing import CliRunner

from newsletter.catalogue import load_catalogue
from newsletter.cli.main import app
from newsletter.desk.approval import BY_RULE, deadline_of, slot_of, warnings_of
from newsletter.desk.editors import EditorsMail
from newsletter.errors import CatalogueError, NewsletterError, ProofFailed, StateError
from newsletter.notices import Notices
from newsletter.providers.sendgrid import SendGrid
from newsletter.rendering.engine import fill_samples
from newsletter.settings import Keys, Settings
from newsletter.store.session import writing
from newsletter.store.tables import EditionRow, Rendering
from newsletter.watch.foresight import foresee, tell_owed
from tests.approving import (
    DAY,
    MAKE_UP,
    MIA,
    TOM,
    Opens,
    a_desk,
    approve,
    edition,
    go_on,
    links,
    mails,
    other_words,
    pages,
    plant,
    prepare,
    told,
    with_today,
)
from tests.builders import a_site, the_catalogue
from tests.standin import StandIn

# --- what newsletter.toml says ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('approval = "maybe"', "approval: must be 'auto' or 'required'"),
        (
            'editors = ["the desk"]',
            "editors.1: must be a plain address such as desk@example.org",
        ),
        ('approval = "required"\napproval_deadline_minutes = -60', "is not after the make-up"),
        ("lead_minutes = 0", "lead_minutes: must be at least 5"),
        ('unapproved = "shrug"', "unapproved: must be 'hold', 'send' or 'skip'"),
    ],
)
def test_a_wrong_setting_is_named(line: str, says: str, tmp_path: Path) -> None:
    """File, field and what is wrong."""
    site = a_site(tmp_path / "site")
    path = site / "templates" / "today" / "newsletter.toml"
    path.write_text(f"{line}\n{path.read_text(encoding='utf-8')}", encoding="utf-8")

    with pytest.raises(CatalogueError) as caught:
        load_catalogue(site / "templates")

    assert "today/newsletter.toml" in str(caught.value) and says in str(caught.value)


def test_the_old_word_still_means_required() -> None:
    """``approval = "editor"`` asks for an approval, and a newsletter's own editors go before the publication's."""
    publication = the_catalogue().publication
    old = with_today(approval="editor")["today"]

    assert old.approval == "required" and old.editors_of(publication) == (MIA, TOM)
    assert the_catalogue()["today"].editors_of(publication) == publication.editors


# --- asking -------------------------------------------------------------------------------------


def test_each_editor_is_asked_once(opens: Opens) -> None:
    """A mail each, with links of their own; made up again with the same content nobody is asked twice."""
    desk = opens()

    first, again = prepare(desk), prepare(desk)

    asked = mails(desk, "approval")
    assert (first.status, again.hash) == ("draft", first.hash)
    assert "until 06:30 (Europe/Paris)" in first.reason
    assert sorted(mail.to for mail in asked) == [MIA, TOM]
    assert len({link for mail in asked for link in links(mail)}) == 4
    assert [verb for verb, _, _ in told(desk)] == ["asked", "asked"]


def test_the_mail_is_the_edition_below_a_notice(opens: Opens) -> None:
    """The very bytes of what most readers get; above them subject, hash, sizes, findings, deadline and rule."""
    desk = opens(unapproved="skip", approval_deadline_minutes=-10)
    account = prepare(desk)

    mail = mails(desk, "approval")[0]

    _, renderings = desk.stored(edition(desk))
    html, text = fill_samples(
        next(one for one in renderings if one.variant == "free"), desk.settings.base_url
    )
    head, body, rest = html.partition("<body")
    raw = mail.raw_html.replace("\r\n", "\n")
    assert raw.startswith(head + body) and raw.rstrip().endswith(rest.partition(">")[2].rstrip())
    assert mail.text.replace("\r\n", "\n").endswith(text)
    for part in (" ".join(mail.html.split()), " ".join(mail.text.split())):
        assert renderings[0].subject in part and account.hash[:10] in part
        assert "free 67, paying 51" in part and "base-url-loopback" in part
        assert "due at 06:30 (Europe/Paris)" in part and "by 06:20 (Europe/Paris) it is skipped" in part


def test_the_real_provider_takes_the_desks_mails(opens: Opens) -> None:
    """SendGrid's rules hold: no unfilled tag, each editor alone, an edition name of its own."""
    desk = opens()
    with StandIn(key="SG.a.key-of-this-test") as standin:
        provider = SendGrid("SG.a.key-of-this-test", host=standin.url, timeout_seconds=5.0)
        notices = Notices(
            desk.engine, desk.catalogue, desk.keys, desk.settings, clock=desk.clock, provider=provider
        )
        desk.editors = EditorsMail(notices)

        prepare(desk)
        foresee(desk, desk.catalogue["today"].model_copy(update={"min_stories": 40}), DAY)

        assert sorted((one.edition, one.email) for one in standin.accepted) == [
            (f"notice.{kind}", editor) for kind in ("approval", "early") for editor in (MIA, TOM)
        ]


def test_a_mail_that_was_refused_is_sent_later(opens: Opens) -> None:
    """The edition waits all the same; the next look after five minutes brings the mail out."""
    desk = opens(editors=(MIA,))
    desk.settings.system_outbox.write_text("in the way")

    account = prepare(desk)
    desk.settings.system_outbox.unlink()
    at_once = desk.ask(desk.catalogue["today"], DAY)
    go_on(desk, minutes=5)
    later = desk.ask(desk.catalogue["today"], DAY)

    assert (account.status, at_once, later) == ("draft", False, True)
    assert [mail.to for mail in mails(desk, "approval")] == [MIA]


def test_a_test_mail_is_what_an_approval_lets_go(opens: Opens, monkeypatch: pytest.MonkeyPatch) -> None:
    """Orders given since change what would be made, not the stored edition: its bytes are tested, marked as a test."""
    from newsletter.cli.looking import test_send as send_a_test

    desk = opens()
    prepare(desk)
    other_words(desk, "Another morning.")

    send_a_test(desk, desk.catalogue["today"], to=MIA, variant="free", now=MAKE_UP, day=DAY)

    (path,) = desk.settings.system_outbox.rglob("test.today*/*.eml")
    sent = path.read_bytes()
    subject = email.message_from_bytes(sent, policy=email.policy.default)["Subject"]
    assert subject.startswith("[Test] ") and b"Another morning" not in sent


# --- approving ----------------------------------------------------------------------------------


def test_an_approval_of_another_hash_is_refused(opens: Opens) -> None:
    """Its beginning is enough, eight digits or more; anything else is refused and changes nothing."""
    desk = opens()
    account = prepare(desk)

    for wrong in ("0" * 64, account.hash[:7], "no hash"):
        with pytest.raises(StateError, match="is not the one you saw"):
            approve(desk, content_hash=wrong)

    assert edition(desk).status == "draft"
    assert approve(desk, content_hash=account.hash[:10]).status == "approved"


def test_warnings_need_a_word_each(opens: Opens) -> None:
    """Without: refused, with the command that does it. With: recorded by code, by whom and when."""
    desk = opens()
    prepare(desk)
    plant(desk, ("warning", "alt"), ("warning", "clip"), ("warning", "alt"), ("note", "tk"))

    with pytest.raises(ProofFailed, match=r"clip: Something.*--despite alt --despite clip"):
        approve(desk, despite=["alt"])
    with pytest.raises(StateError, match="no warning 'tk'"):
        approve(desk, despite=["alt", "clip", "tk"])
    account = approve(desk, despite=["clip", "alt"])

    at = "2026-11-20T04:30:00+00:00"
    assert account.status == "approved"
    assert edition(desk).despite == [{"code": code, "by": "mia", "at": at} for code in ("alt", "clip")]
    assert told(desk)[-1] == ("approved", "mia", "despite alt, clip")


def test_under_auto_warnings_are_recorded_and_it_goes(opens: Opens) -> None:
    """No word is needed; the ledger keeps that it went out with them."""
    desk = opens(approval="auto")
    prepare(desk)
    plant(desk, ("warning", "alt"))
    desk.hold(desk.catalogue["today"], DAY, actor="mia", reason="a look")

    approve(desk)

    assert [(one["code"], one["by"]) for one in edition(desk).despite] == [("alt", "mia")]
    assert [one.code for one in warnings_of(edition(desk))] == ["alt"]
    assert mails(desk, "approval") == []


@pytest.mark.parametrize("approval", ["auto", "required"])
def test_an_error_goes_out_by_no_route(opens: Opens, approval: str) -> None:
    """Not by a word, not by a link, not by the rule that sends."""
    desk = opens(approval="required", unapproved="send")
    prepare(desk)
    link, _ = links(mails(desk, "approval")[0])
    plant(desk, ("error", "tk"), ("warning", "alt"))
    if approval == "auto":
        desk.catalogue = with_today(approval="auto", unapproved="send")

    for despite in ((), ("tk",), ("alt", "tk")):
        with pytest.raises(NewsletterError, match="nobody can approve"):
            approve(desk, despite=despite)
    pressed = pages(desk).fill(link, despite=["alt", "tk"])
    go_on(desk, minutes=61)
    desk.catalogue = with_today(unapproved="send")
    decided = desk.decide(desk.catalogue["today"], DAY, now=MAKE_UP)

    assert pressed.status_code == 409 and "nobody can approve" in pressed.text
    assert decided is not None and decided.status == "held"


def test_what_was_ordered_since_is_not_approved_unseen(opens: Opens) -> None:
    """The stored edition does not hold the order; made anew it has another hash and goes."""
    desk = opens()
    before = prepare(desk)
    other_words(desk, "Good morning from Lima.")

    with pytest.raises(StateError, match="before the last order"):
        approve(desk)
    after = prepare(desk)

    assert after.hash != before.hash
    assert approve(desk, content_hash=after.hash).status == "approved"


def test_an_approval_ends_when_the_edition_is_made_anew(opens: Opens) -> None:
    """Held, changed and made again it waits again: nothing of the old approval is left."""
    desk = opens()
    prepare(desk)
    approve(desk)
    desk.hold(desk.catalogue["today"], DAY, actor="tom", reason="a better greeting")
    other_words(desk, "Good morning from Lima.")

    account = prepare(desk)

    row = edition(desk)
    assert account.status == "draft"
    assert (row.approved_at, row.approved_by, row.despite) == (None, "", [])
    assert len(mails(desk, "approval")) == 4


def test_bytes_that_were_not_approved_are_not_frozen(opens: Opens) -> None:
    """Whoever changes the stored bytes behind an approval stops the send."""
    desk = opens()
    prepare(desk)
    approve(desk)
    with writing(desk.engine) as session:
        session.execute(update(Rendering).where(col(Rendering.variant) == "free").values(subject="Another"))

    with pytest.raises(StateError, match="not those that were approved"):
        desk.send(desk.catalogue["today"], DAY, now=MAKE_UP)

    assert edition(desk).status == "approved"


def test_of_an_approval_and_a_make_up_at_once_one_sees_the_other(engine: Engine) -> None:
    """An approval waits for a make-up that is being stored, and then sees another hash (both databases)."""
    with writing(engine) as session:
        row = EditionRow(
            newsletter="today", edition_date=DAY, made_at=MAKE_UP, content_hash="a" * 64, snapshot={"a": 1}
        )
        session.add(row)
        session.flush()
        edition_id = row.id
    keys = Keys(signing=(b"k" * 32,), suppression=b"k" * 32)
    desk = a_desk(engine, keys, Settings(), with_today())
    refused: list[str] = []
    made = threading.Event()

    def approve_it() -> None:
        made.wait(5)
        try:
            approve(desk, content_hash="a" * 64)
        except StateError as error:
            refused.append(str(error))

    thread = threading.Thread(target=approve_it)
    thread.start()
    with writing(engine) as session:
        session.execute(
            update(EditionRow).where(col(EditionRow.id) == edition_id).values(content_hash="b" * 64)
        )
        made.set()
        thread.join(0.3)  # it waits for us
    thread.join(10)

    assert len(refused) == 1 and "bbbbbbbbbb" in refused[0]


# --- the deadline -------------------------------------------------------------------------------


@pytest.mark.parametrize(("rule", "status"), [("hold", "held"), ("send", "approved"), ("skip", "skipped")])
def test_past_the_deadline_its_own_rule_decides(opens: Opens, rule: str, status: str) -> None:
    """Once, recorded, with the reason, and said to the editors; a minute before nothing happens."""
    desk = opens(unapproved=rule, approval_deadline_minutes=10)
    today = desk.catalogue["today"]
    prepare(desk)
    plant(desk, ("warning", "alt"))
    go_on(desk, minutes=69)
    early = desk.decide(today, DAY, now=desk.clock())
    go_on(desk, minutes=1)

    decided = [desk.decide(today, DAY, now=desk.clock()) for _ in range(2)]
    tell_owed(desk)
    tell_owed(desk)

    assert early is None and decided[0] is not None and decided[1] is None
    assert decided[0].status == status == edition(desk).status
    assert decided[0].reason.startswith("Nobody approved it by 06:40 (Europe/Paris).")
    assert told(desk)[-1][:2] == ("unapproved", BY_RULE)
    assert [one["by"] for one in edition(desk).despite] == ([BY_RULE] if rule == "send" else [])
    assert sorted(mail.to for mail in mails(desk, "decided")) == [MIA, TOM]
    assert all(decided[0].reason[:40] in mail.text.replace("\n", " ") for mail in mails(desk, "decided"))


@pytest.mark.parametrize(
    ("lead", "late", "until"),
    [(60, 0, 60), (60, 0.2, 60), (60, 50, 65), (60, 180, 195), (5, 0.2, 5), (5, 4, 6.5)],
)
def test_a_late_make_up_leaves_editors_time(lead: int, late: float, until: float) -> None:
    """A quarter of an hour, or half of what they have every day; minutes from when it should have been made up."""
    today = with_today(lead_minutes=lead)["today"]
    due = slot_of(today, the_catalogue().publication, DAY) - timedelta(minutes=lead)

    deadline = deadline_of(today, the_catalogue().publication, DAY, made_at=due + timedelta(minutes=late))

    assert deadline == due + timedelta(minutes=until)


def test_a_deadline_found_much_later_never_sends(opens: Opens) -> None:
    """Down for half a day: what nobody approved is held, whatever the rule says."""
    desk = opens(unapproved="send")
    prepare(desk)
    go_on(desk, hours=12)

    decided = desk.decide(desk.catalogue["today"], DAY, now=desk.clock())

    assert decided is not None and decided.status == "held"


def test_orders_before_the_deadline_are_not_lost_by_it(opens: Opens) -> None:
    """Made anew first, and its editors get a quarter of an hour for what is new."""
    desk = opens(unapproved="send", editors=(MIA,))
    today = desk.catalogue["today"]
    prepare(desk)
    other_words(desk, "Good morning from Lima.")
    go_on(desk, minutes=60)

    anew = desk.decide(today, DAY, now=desk.clock())
    between = desk.decide(today, DAY, now=desk.clock())
    go_on(desk, minutes=15)
    decided = desk.decide(today, DAY, now=desk.clock())

    assert anew is not None and anew.status == "draft" and between is None
    assert len(mails(desk, "approval")) == 2
    assert decided is not None and (decided.status, decided.hash) == ("approved", anew.hash)


# --- by command ---------------------------------------------------------------------------------


def test_the_commands_go_and_no_go(opens: Opens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """approve --hash, --despite; hold --reason; history tells all of it."""
    desk = opens()
    account = prepare(desk)
    plant(desk, ("warning", "alt"))
    site = a_site(tmp_path / "site")
    path = site / "templates" / "today" / "newsletter.toml"
    path.write_text(f'approval = "required"\n{path.read_text(encoding="utf-8")}', encoding="utf-8")
    monkeypatch.chdir(site)
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/subscribers.db")
    monkeypatch.setenv("NEWSLETTER_SECRET_KEY", "a signing key of this test alone")
    monkeypatch.setenv("NEWSLETTER_SUPPRESSION_KEY", "a suppression key of this test")
    monkeypatch.setenv("NEWSLETTER_ACTOR", "mia")
    day = ["--date", DAY.isoformat()]

    def run(*words: str) -> Any:
        return CliRunner().invoke(app, [*words, *day])

    other = run("approve", "today", "--hash", "0123456789")
    silent = run("approve", "today", "--hash", account.hash[:10])
    gone = run("approve", "today", "--hash", account.hash[:10], "--despite", "alt", "--json")
    held = run("hold", "today", "--reason", "wait")
    past = json.loads(run("history", "today", "--json").stdout)

    assert isinstance(other.exception, StateError) and isinstance(silent.exception, ProofFailed)
    assert json.loads(gone.stdout)["editions"][0]["status"] == "approved"
    assert held.exit_code == 0
    assert [(one["verb"], one["actor"], one["detail"]) for one in past["decisions"]][-2:] == [
        ("approved", "mia", "despite alt"),
        ("held", "mia", "wait"),
    ]
    assert "despite alt" in run("history", "today").stdout
