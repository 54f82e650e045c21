"""The links of an editor's mail: they act once, for one content, and by a person's press alone."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from sqlmodel import select

from newsletter.audience.limits import Knock, knock
from newsletter.catalogue import load_catalogue
from newsletter.desk import Desk
from newsletter.store.session import reading
from newsletter.store.tables import ApprovalLink
from newsletter.web.app import LOOK_EVERY_SECONDS
from newsletter.web.deciding import A_VISITOR
from tests.approving import (
    DAY,
    MIA,
    TOM,
    Opens,
    edition,
    go_on,
    links,
    mails,
    other_words,
    pages,
    plant,
    prepare,
    told,
)
from tests.builders import a_site
from tests.visiting import Visitor


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


def test_a_name_that_begins_with_an_article_has_one(opens: Opens) -> None:
    """What refuses speaks of "The Weekend", not of "The The Weekend"."""
    desk = opens(editors=(MIA,), name="The Today")
    prepare(desk)
    plant(desk, ("warning", "alt"))
    link, _ = links(mails(desk, "approval")[0])

    refused = pages(desk).fill(link)

    assert f"The Today of {DAY} has warnings" in refused.text
    assert "The The" not in refused.text


def test_presses_are_limited(opens: Opens) -> None:
    """Who presses all the time is told to wait."""
    desk = opens(editors=(MIA,))
    prepare(desk)
    link, _ = links(mails(desk, "approval")[0])
    for _ in range(A_VISITOR.n):
        knock(desk.engine, [Knock(A_VISITOR, "127.0.0.1/32")], keys=desk.keys, now=desk.clock())

    answer = pages(desk).fill(link)

    assert answer.status_code == 429 and edition(desk).status == "draft"


@pytest.fixture
def rules(opens: Opens, tmp_path: Path) -> tuple[Desk, Visitor, Path]:
    """A desk, pages that were started when Today needed nobody's approval, and the file that says whether it does."""
    path = a_site(tmp_path / "site") / "templates/today/newsletter.toml"
    path.write_text(f'editors = ["{MIA}"]\n{path.read_text(encoding="utf-8")}', encoding="utf-8")
    desk = opens()
    desk.catalogue = load_catalogue(path.parent.parent)
    return desk, pages(desk), path


def write(path: Path, line: str) -> None:
    """Put *line* before what the file holds."""
    path.write_text(f"{line}\n{path.read_text(encoding='utf-8')}", encoding="utf-8")


def test_what_decides_is_the_rule_of_now(rules: tuple[Desk, Visitor, Path]) -> None:
    """Approval became required after the pages were started: a warning needs its word all the same."""
    desk, started, path = rules
    write(path, 'approval = "required"')
    desk.catalogue = load_catalogue(path.parent.parent)
    prepare(desk)
    plant(desk, ("warning", "alt"))
    link, _ = links(mails(desk, "approval")[0])

    unticked = started.fill(link)
    waits = edition(desk).status
    ticked = started.fill(link, despite=["alt"])

    assert (unticked.status_code, waits) == (409, "draft") and "need your word" in unticked.text
    assert (ticked.status_code, edition(desk).status) == (200, "approved")


def test_while_the_rules_cannot_be_read_nobody_decides(rules: tuple[Desk, Visitor, Path]) -> None:
    """The page names file and field; the link still works when they are mended."""
    desk, started, path = rules
    write(path, 'approval = "required"')
    good = path.read_text(encoding="utf-8")
    desk.catalogue = load_catalogue(path.parent.parent)
    prepare(desk)
    link, _ = links(mails(desk, "approval")[0])
    write(path, "lead_minutes = 1")

    refused = started.fill(link)
    path.write_text(good, encoding="utf-8")
    done = started.fill(link)

    assert refused.status_code == 409 and "newsletter.toml: lead_minutes" in refused.text
    assert (done.status_code, edition(desk).status) == (200, "approved")


def test_the_other_pages_follow_within_a_second(rules: tuple[Desk, Visitor, Path]) -> None:
    """A name that is changed, and a fault that is no reason to stop: the pages stay as they were."""
    _, started, path = rules
    before = started.ask("GET", "/subscribe").text
    path.write_text(path.read_text(encoding="utf-8").replace("Parallel Today", "Sooner"), encoding="utf-8")

    time.sleep(LOOK_EVERY_SECONDS)  # the pages look no more often
    after = started.ask("GET", "/subscribe").text
    write(path, "nonsense = 1")
    time.sleep(LOOK_EVERY_SECONDS)
    broken = started.ask("GET", "/subscribe")

    assert "Parallel Today" in before and "Sooner" not in before
    assert "Sooner" in after and "Sooner" in broken.text and broken.status_code == 200
