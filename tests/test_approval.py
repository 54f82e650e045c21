"""Go or no-go: asked by mail, approved by hash, held by rule; what is amiss is told early, and once."""

from __future__ import annotations

import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, update
from sqlmodel import col, select
from typer.testing import CliRunner

from newsletter.approval import BY_RULE, decisions, warnings_of
from newsletter.audience.imports import import_subscribers
from newsletter.audience.limits import Knock, knock
from newsletter.catalogue import Catalogue, Newsletter, load_catalogue
from newsletter.cli.main import app
from newsletter.desk import Account, Desk
from newsletter.editors import EditorsMail
from newsletter.errors import CatalogueError, NewsletterError, ProofFailed, StateError
from newsletter.foresight import foresee, tell_owed, troubles
from newsletter.notices import Notices
from newsletter.picks import Order
from newsletter.providers.sendgrid import SendGrid
from newsletter.rendering.engine import fill_samples
from newsletter.rota import Collecting, attend, begin, carry_on
from newsletter.settings import Keys, Settings
from newsletter.store.session import open_store, reading, writing
from newsletter.store.tables import ApprovalLink, EditionRow, Rendering, SourceState
from newsletter.store.telling import claim, is_told, owe, owed, tell_once
from newsletter.web.app import create_app
from newsletter.web.deciding import A_VISITOR
from tests.builders import ROOT, a_site, the_catalogue
from tests.standin import StandIn
from tests.visiting import Mail, Moment, Visitor

MAKE_UP = datetime(2026, 11, 20, 4, 30, tzinfo=UTC)  # an hour before half past six in Paris
DAY = date(2026, 11, 20)
MIA, TOM = "mia@desk.example", "tom@desk.example"


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with the samples' readers and articles: read once, copied for each test."""
    path = tmp_path_factory.mktemp("collected") / "subscribers.db"
    engine = open_store(f"sqlite:///{path}")
    keys = Keys(signing=(b"a signing key of this test alone",), suppression=b"a suppression key of this test")
    samples = ROOT / "samples"
    import_subscribers(engine, samples / "subscribers.csv", catalogue=the_catalogue(), keys=keys, now=MAKE_UP)
    a_desk(engine, keys, Settings(), the_catalogue()).collect([str(samples / "feeds")], now=MAKE_UP)
    engine.dispose()
    return path


def a_desk(engine: Engine, keys: Keys, settings: Settings, catalogue: Catalogue) -> Desk:
    """A desk at the moment of the make-up."""
    return Desk(engine, catalogue, settings, keys, Moment(MAKE_UP))


def with_today(**settings: Any) -> Catalogue:
    """The shipped publication with nothing but Today, which needs two editors' approval, and *settings*."""
    catalogue = the_catalogue()
    given = catalogue["today"].model_dump(by_alias=True)
    given |= {"approval": "required", "editors": (MIA, TOM), **settings}
    return catalogue.model_copy(update={"newsletters": (Newsletter.model_validate(given),)})


Opens = Callable[..., Desk]


@pytest.fixture
def opens(collected: Path, keys: Keys, tmp_path: Path) -> Iterator[Opens]:
    """Opens a desk on a copy of that database, with Today as given."""
    opened: list[Desk] = []

    def open_desk(**settings: Any) -> Desk:
        shutil.copy(collected, tmp_path / "subscribers.db")
        engine = open_store(f"sqlite:///{tmp_path}/subscribers.db")
        folders = Settings(
            NEWSLETTER_SYSTEM_OUTBOX=tmp_path / "system", NEWSLETTER_OUTBOX=tmp_path / "outbox"
        )
        opened.append(a_desk(engine, keys, folders, with_today(**settings)))
        return opened[-1]

    yield open_desk
    for desk in opened:
        desk.engine.dispose()


def prepare(desk: Desk) -> Account:
    """Make up the edition of the day."""
    return desk.prepare(desk.catalogue["today"], DAY, now=MAKE_UP)


def approve(desk: Desk, **given: Any) -> Account:
    """Approve it as Mia does by command."""
    return desk.approve(desk.catalogue["today"], DAY, actor="mia", **given)


def go_on(desk: Desk, **span: float) -> None:
    """Let time pass at the desk."""
    assert isinstance(desk.clock, Moment)
    desk.clock.go_on(**span)


def mails(desk: Desk, kind: str) -> list[Mail]:
    """The desk's mails of a kind so far, by when they were written."""
    import email
    import email.policy

    paths = sorted(
        desk.settings.system_outbox.rglob(f"notice.{kind}/*.eml"), key=lambda path: path.stat().st_mtime_ns
    )
    read = (email.message_from_bytes(path.read_bytes(), policy=email.policy.default) for path in paths)
    return [Mail(one) for one in read]


def links(mail: Mail) -> tuple[str, str]:
    """The paths of a mail's approve and hold links, the same in both parts."""
    found = re.findall(r"http://127\.0\.0\.1:8000(/desk/[\w-]+)", mail.text)
    assert len(found) == 2 and all(link in mail.html for link in found)
    return found[0], found[1]


def plant(desk: Desk, *findings: tuple[str, str]) -> None:
    """Put findings, (severity, code), into the proof of the stored edition."""
    planted = [
        {"code": code, "severity": severity, "newsletter": "today", "variant": "free", "part": "html", "where": "",
         "message": f"Something about {code}."}
        for severity, code in findings
    ]  # fmt: skip
    with writing(desk.engine) as session:
        session.execute(update(EditionRow).values(findings=planted))


def edition(desk: Desk) -> EditionRow:
    """The row of the day's edition."""
    row = desk.find(desk.catalogue["today"], DAY)
    assert row is not None
    return row


def told(desk: Desk) -> list[tuple[str, str, str]]:
    """What the ledger says was decided: verb, by whom, detail."""
    with reading(desk.engine) as session:
        return [(one.verb, one.actor, one.detail) for one in decisions(session, "today", DAY)]


def pages(desk: Desk) -> Visitor:
    """A browser before the readers' pages of that desk."""
    assert isinstance(desk.clock, Moment)
    application = create_app(desk.engine, desk.catalogue, desk.keys, desk.settings, clock=desk.clock)
    return Visitor(application, desk.clock)


def other_words(desk: Desk, greeting: str) -> None:
    """An order after the make-up."""
    go_on(desk, seconds=30)
    order = Order("words", "", fields={"greeting": greeting}, actor="mia")
    desk.give_order(desk.catalogue["today"], DAY, order)


# --- what newsletter.toml says ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('approval = "maybe"', "approval: Input should be 'auto' or 'required'"),
        (
            'editors = ["the desk"]',
            "editors.0: Value error, must be a plain address such as desk@example.org",
        ),
        ('approval = "required"\napproval_deadline_minutes = -60', "is not after the make-up"),
        ("lead_minutes = 0", "lead_minutes: Input should be greater than or equal to 5"),
        ('unapproved = "shrug"', "unapproved: Input should be 'hold', 'send' or 'skip'"),
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
    assert b"Subject: [Test] " in sent and b"Another morning" not in sent


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


# --- links --------------------------------------------------------------------------------------


def test_looking_changes_nothing(opens: Opens) -> None:
    """A scanner's GET, HEAD and bare POST leave edition and link as they were; the page names whose link it is."""
    desk = opens(editors=(MIA,))
    prepare(desk)
    link, hold = links(mails(desk, "approval")[0])
    scanner = pages(desk)

    answers = [scanner.ask("GET", link), scanner.ask("HEAD", link), scanner.ask("GET", hold)]
    posts = [scanner.ask("POST", link), scanner.ask("POST", link, data={"form": "made up"})]
    with_origin = pages(desk).ask("POST", link, headers={"Origin": "https://elsewhere.example"})

    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert [answer.status_code for answer in [*posts, with_origin]] == [403, 403, 403]
    assert MIA in answers[0].text and "Approve it" in answers[0].text and "Hold it" in answers[2].text
    assert "default-src 'none'" in answers[0].headers["content-security-policy"]
    assert edition(desk).status == "draft"
    with reading(desk.engine) as session:
        assert session.exec(select(ApprovalLink.used_at)).all() == [None, None]


def test_a_press_faster_than_reading_is_asked_about_again(opens: Opens) -> None:
    """A program that fetches the page and posts its form at once does not approve."""
    desk = opens(editors=(MIA,))
    prepare(desk)
    link, _ = links(mails(desk, "approval")[0])
    browser = pages(desk)

    hasty = browser.fill(link, wait=0.5)
    unhurried = browser.fill(link)

    assert (hasty.status_code, unhurried.status_code) == (403, 200)
    assert edition(desk).status == "approved"


def test_a_link_works_once(opens: Opens) -> None:
    """The press approves and is recorded as the editor's whose link it is; the second says it was used."""
    desk = opens()
    prepare(desk)
    asked = {mail.to: links(mail) for mail in mails(desk, "approval")}
    browser = pages(desk)

    done = browser.fill(asked[MIA][0])
    held = browser.fill(asked[TOM][1], reason="The lead is wrong")
    second = browser.ask("GET", asked[MIA][0])
    signed = re.search(r'name="form" value="([^"]+)"', browser.ask("GET", asked[TOM][0]).text)
    go_on(desk, seconds=5)
    assert signed is not None
    again = browser.ask("POST", asked[MIA][0], data={"form": signed[1]})

    assert done.status_code == 200 and "goes out at 06:30 (Europe/Paris)" in done.text
    assert held.status_code == 200 and "does not go out" in held.text
    assert "done its work" in second.text and "Approve it" not in second.text
    assert again.status_code == 409 and edition(desk).status == "held"
    assert told(desk)[2:] == [
        ("approved", f"{MIA} by the link in their mail", ""),
        ("held", f"{TOM} by the link in their mail", "The lead is wrong"),
    ]
    assert edition(desk).reason == f"held by {TOM} by the link in their mail: The lead is wrong"


def test_a_link_of_a_changed_edition_says_what_changed(opens: Opens) -> None:
    """Nothing can be approved by it; a new mail has gone out, and its links work."""
    desk = opens(editors=(MIA,))
    prepare(desk)
    old, _ = links(mails(desk, "approval")[0])
    browser = pages(desk)
    other_words(desk, "Good morning from Lima.")
    after = prepare(desk)

    shown = browser.ask("GET", old)
    new, _ = links(mails(desk, "approval")[1])
    form = re.search(r'name="form" value="([^"]+)"', browser.ask("GET", new).text)
    go_on(desk, seconds=5)
    assert form is not None
    pressed = browser.ask("POST", old, data={"form": form[1]})
    waits = edition(desk).status
    approved = browser.fill(new)

    assert "not the edition you saw" in shown.text and "Approve it" not in shown.text
    assert "greeting: “Good morning from Lima.” instead of “Good morning.”" in shown.text
    assert (pressed.status_code, waits) == (409, "draft")
    assert approved.status_code == 200 and edition(desk).status == "approved"
    assert edition(desk).content_hash == after.hash


def test_what_is_changed_back_is_asked_about_anew(opens: Opens) -> None:
    """The old links stay ended, although the hash is theirs again; the editors get a mail for it."""
    desk = opens(editors=(MIA,))
    first = prepare(desk)
    old, _ = links(mails(desk, "approval")[0])
    other_words(desk, "Good morning from Lima.")
    prepare(desk)
    go_on(desk, seconds=5)
    desk.undo(desk.catalogue["today"], DAY, actor="mia")

    back = prepare(desk)

    assert back.hash == first.hash and len(mails(desk, "approval")) == 3
    assert "Approve it" not in pages(desk).ask("GET", old).text


def test_an_expired_link_says_so(opens: Opens) -> None:
    """It lives as long as an edition may be late; the commands go on working."""
    desk = opens(editors=(MIA,))
    prepare(desk)
    link, _ = links(mails(desk, "approval")[0])
    go_on(desk, hours=4, minutes=1)

    shown = pages(desk).ask("GET", link)

    assert shown.status_code == 200 and "has expired" in shown.text and "Approve it" not in shown.text
    assert pages(desk).ask("GET", "/desk/" + "x" * 43).status_code == 404


def test_warnings_are_ticked_on_the_page(opens: Opens) -> None:
    """Without a tick it is refused and the link still works; with it the word is recorded."""
    desk = opens(editors=(MIA,))
    prepare(desk)
    plant(desk, ("warning", "alt"), ("note", "names"))
    link, _ = links(mails(desk, "approval")[0])
    browser = pages(desk)

    unticked = browser.fill(link)
    ticked = browser.fill(link, despite=["alt"])

    assert unticked.status_code == 409 and "need your word" in unticked.text
    assert ticked.status_code == 200
    assert [(one["code"], one["by"]) for one in edition(desk).despite] == [("alt", MIA)]


def test_presses_are_limited(opens: Opens) -> None:
    """Who presses all the time is told to wait."""
    desk = opens(editors=(MIA,))
    prepare(desk)
    link, _ = links(mails(desk, "approval")[0])
    for _ in range(A_VISITOR.n):
        knock(desk.engine, [Knock(A_VISITOR, "127.0.0.1/32")], keys=desk.keys, now=desk.clock())

    answer = pages(desk).fill(link)

    assert answer.status_code == 429 and edition(desk).status == "draft"


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


# --- told early ---------------------------------------------------------------------------------


def test_a_thin_day_is_told_once(opens: Opens) -> None:
    """However often it is looked at; what is missing, when it is due, and what its rule will do. Nothing is stored."""
    desk = opens(approval="auto", min_stories=40)
    today = desk.catalogue["today"]

    for _ in range(3):
        foresee(desk, today, DAY)
        go_on(desk, minutes=15)

    (mail, _other) = mails(desk, "early")
    assert "a thin day" in mail.subject and "40" in mail.text
    assert "06:30 (Europe/Paris)" in mail.text and "It will be held: pin stories" in mail.text
    assert desk.find(today, DAY) is None


def test_what_is_new_is_told_and_what_is_mended_is_not(opens: Opens) -> None:
    """A source that dies later is told in a further mail; once all is well there is silence."""
    desk = opens(approval="auto", editors=(MIA,))
    today = desk.catalogue["today"]
    assert troubles(desk, today, DAY, now=MAKE_UP) == ()
    with writing(desk.engine) as session:
        session.execute(
            update(SourceState)
            .where(col(SourceState.source) == "the-parallel")
            .values(failures=3, last_error="HTTP 503")
        )

    foresee(desk, today, DAY)
    thin = today.model_copy(update={"min_stories": 40})
    foresee(desk, thin, DAY)
    with writing(desk.engine) as session:
        session.execute(update(SourceState).values(failures=0))
    foresee(desk, today, DAY)

    assert [mail.subject.partition(": ")[2] for mail in mails(desk, "early")] == [
        "a dead source",
        "a thin day",
    ]
    assert "HTTP 503" in mails(desk, "early")[0].text


def test_no_story_and_a_broken_template_are_told(opens: Opens, tmp_path: Path) -> None:
    """Each by what it is."""
    desk = opens(approval="auto")
    today = desk.catalogue["today"]

    empty = troubles(desk, today, DAY + timedelta(days=30), now=MAKE_UP + timedelta(days=30))
    broken = troubles(desk, today.model_copy(update={"subject": "{{ nothing.like.this }}"}), DAY, now=MAKE_UP)

    assert [one.what for one in empty] == ["empty"] and "being read?" in empty[0].says
    assert [one.what for one in broken] == ["broken"] and "It will be held" in broken[0].says


# --- the rota -----------------------------------------------------------------------------------


@pytest.fixture
def rota(opens: Opens) -> Callable[..., Desk]:
    """Opens a desk whose rota begins with the make-up, and which reads no feeds."""

    def begun(**settings: Any) -> Desk:
        desk = opens(**settings)
        go_on(desk, hours=-1)
        begin(desk)
        go_on(desk, hours=1)
        return desk

    return begun


class Still(Collecting):
    """Collects nothing: everything is there."""

    def refresh(self, desk: Desk) -> None:
        """Do nothing."""


def look(desk: Desk) -> tuple[Account, ...]:
    """What the job does each minute."""
    accounts = attend(desk, desk.catalogue["today"], collecting=Still())
    carry_on(desk)
    return accounts


def test_it_is_made_up_at_its_lead_and_goes_at_its_slot(rota: Callable[..., Desk]) -> None:
    """A minute before: nothing. At the lead: asked. Approved, it waits for half past six and goes then, once."""
    desk = rota(editors=(MIA,))
    go_on(desk, minutes=-1)
    assert look(desk) == () and desk.find(desk.catalogue["today"], DAY) is None
    go_on(desk, minutes=1)

    made = look(desk)
    again = look(desk)
    approve(desk)
    go_on(desk, minutes=59)
    look(desk)
    before = edition(desk).status
    go_on(desk, minutes=1)
    look(desk)
    look(desk)

    assert [account.status for account in made] == ["draft"] and again == ()
    assert len(mails(desk, "approval")) == 1
    assert (before, edition(desk).status) == ("approved", "submitted")
    sent = list(desk.settings.outbox.rglob("*.eml"))
    assert len(sent) == edition(desk).audience > 100


def test_a_late_start_makes_up_and_asks(rota: Callable[..., Desk]) -> None:
    """Down over slot and deadline: the editors still get a quarter of an hour; then the rule decides."""
    desk = rota(editors=(MIA,), unapproved="send")
    go_on(desk, hours=2)

    (made,) = look(desk)
    go_on(desk, minutes=14)
    carry_on(desk)
    waits = edition(desk).status
    go_on(desk, minutes=1)
    carry_on(desk)

    assert (made.status, waits, edition(desk).status) == ("draft", "draft", "submitted")
    assert len(mails(desk, "approval")) == len(mails(desk, "decided")) == 1


def test_a_held_make_up_is_told_and_tried_again(rota: Callable[..., Desk]) -> None:
    """Thin at the lead: told at once, made anew when sources are read, and asked about when it is whole."""
    desk = rota(editors=(MIA,))
    whole = desk.catalogue
    desk.catalogue = with_today(editors=(MIA,), min_stories=40)
    look(desk)
    held = edition(desk).status
    go_on(desk, minutes=14)
    look(desk)
    desk.catalogue = whole
    soon = look(desk)
    go_on(desk, minutes=15)

    later = look(desk)

    assert held == "held" and [mail.subject.partition(": ")[2] for mail in mails(desk, "early")] == ["held"]
    assert [account.status for account in (*soon, *later)] == ["draft"]
    assert len(mails(desk, "approval")) == 1


def test_what_its_rule_skipped_stays_skipped(rota: Callable[..., Desk]) -> None:
    """Decided before the slot, it is not made up anew when sources are read again."""
    desk = rota(unapproved="skip", approval_deadline_minutes=-30)
    look(desk)
    go_on(desk, minutes=30)
    look(desk)

    for _ in range(4):
        go_on(desk, minutes=15)
        assert look(desk) == ()

    assert (edition(desk).status, [verb for verb, _, _ in told(desk)]) == (
        "skipped",
        ["asked", "asked", "unapproved"],
    )


def test_an_editors_hold_is_left_alone(rota: Callable[..., Desk]) -> None:
    """Nobody makes it up anew, asks again, or decides."""
    desk = rota()
    look(desk)
    desk.hold(desk.catalogue["today"], DAY, actor="mia", reason="wait for the vote")

    for _ in range(6):
        go_on(desk, minutes=15)
        assert look(desk) == ()

    assert edition(desk).reason == "held by mia: wait for the vote"
    assert len(mails(desk, "approval")) == 2 and mails(desk, "decided") == []


def test_an_auto_newsletter_is_looked_at_early_and_told_when_it_was_held(rota: Callable[..., Desk]) -> None:
    """Thin an hour before: told. Held at the slot: told that, too. Never again after."""
    desk = rota(approval="auto", editors=(MIA,), min_stories=40)

    for _ in range(6):
        look(desk)
        go_on(desk, minutes=20)

    assert edition(desk).status == "held"
    assert [mail.subject.partition(": ")[2] for mail in mails(desk, "early")] == ["a thin day", "held"]


def test_what_a_dead_process_promised_is_said_by_the_next(rota: Callable[..., Desk]) -> None:
    """Killed between the make-up and its mails: the next look says what became of it."""
    desk = rota(editors=(MIA,), min_stories=40)
    with writing(desk.engine) as session:
        owe(session, f"made today {DAY}", at=desk.clock())
    prepare(desk)

    carry_on(desk)

    assert [mail.subject.partition(": ")[2] for mail in mails(desk, "early")] == ["held"]
    assert owed(desk.engine, "made") == ()


# --- said once ----------------------------------------------------------------------------------


def test_of_many_at_once_one_says_it(engine: Engine) -> None:
    """Threads of one process stand for machines: the claim is one statement on both databases."""
    said: list[int] = []
    ready = threading.Barrier(4)

    def say_it(number: int) -> None:
        ready.wait(5)
        tell_once(engine, "thin today", at=MAKE_UP, say=lambda: said.append(number) is None)

    threads = [threading.Thread(target=say_it, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)

    assert len(said) == 1 and is_told(engine, "thin today")


def test_a_claim_lapses_and_a_failure_is_tried_again(engine: Engine) -> None:
    """Who died while saying it, or was refused, is followed after five minutes; then it is said once for all."""
    later = MAKE_UP + timedelta(minutes=5)

    refused = tell_once(engine, "k", at=MAKE_UP, say=lambda: False)
    too_soon = tell_once(engine, "k", at=later - timedelta(seconds=1), say=lambda: True)
    said = tell_once(engine, "k", at=later, say=lambda: True)
    again = tell_once(engine, "k", at=later + timedelta(days=1), say=lambda: True)

    assert (refused, too_soon, said, again) == (False, False, True, False)
    assert claim(engine, "look", at=MAKE_UP, lapses=timedelta(minutes=15))
    assert not claim(engine, "look", at=later, lapses=timedelta(minutes=15))
    assert claim(engine, "look", at=MAKE_UP + timedelta(minutes=15), lapses=timedelta(minutes=15))


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
