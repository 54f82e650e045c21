"""Several subjects, from an editor's words to the archive: what is previewed is what is tried, sent and reported."""

from __future__ import annotations

import email
import email.policy
import re
from collections import Counter
from pathlib import Path

import pytest

from newsletter.archive import listed, shown
from newsletter.catalogue import load_catalogue
from newsletter.desk import Desk
from newsletter.edition import Rendered
from newsletter.errors import CatalogueError, WordingError
from newsletter.rendering.engine import content_hash
from newsletter.settings import load_settings
from newsletter.store.searching import search
from newsletter.times import parse_instant
from newsletter.web.app import create_app
from newsletter.web.view import view_online
from newsletter.wording import Wording
from tests.builders import ask
from tests.test_day import NOW, mails, run
from tests.test_day import site as site

B, C = "Seven things before breakfast", "What the papers say"
RULE = "\n[subject_test]\nshare = 0.4\nfewest = 1\n"


def with_rule(folder: Path, rule: str = RULE) -> None:
    """Today tries its subjects by *rule*."""
    path = folder / "templates/today/newsletter.toml"
    path.write_text(
        path.read_text(encoding="utf-8").replace("\n[schedule]", f"{rule}\n[schedule]", 1), encoding="utf-8"
    )


def begun(folder: Path) -> list[str]:
    """Today is sent to its sample, with three subjects, which are returned."""
    with_rule(folder)
    run("subscribers", "import", "samples/subscribers.csv", "--now", NOW)
    run("collect")
    run("words", "today", f"subject.b={B}", f"subject.c={C}", "--now", NOW)
    run("run", "--only", "today", "--all", "--now", NOW, code=3)
    told = run("subjects", "today", "--now", NOW, "--json")
    assert told["status"] == "running" and told["sample"] > 20
    return [one["subject"] for one in told["tried"]]


def subjects_of(folder: Path) -> Counter[str]:
    """How many mails of Today went out with each subject."""
    return Counter(str(message["Subject"]) for message in mails(folder)["today"])


def test_what_is_previewed_is_tried_and_the_rest_gets_what_is_chosen(site: Path) -> None:
    """Preview, proof, test, mails, status, why, archive, view online and report know the same subjects."""
    first, *others = begun(site)
    (row,) = [
        one
        for one in run("preview", "today", "--out", "preview", "--now", NOW, "--json")["previews"]
        if one["variant"] == "free"
    ]
    tests = run("test-send", "today", "--to", "desk@parallel.example", "--now", NOW)
    tested = sorted(
        str(email.message_from_bytes(path.read_bytes(), policy=email.policy.default)["Subject"])
        for path in Path("outbox-system").rglob("*.eml")
    )
    waits = run("status", "today", "--now", NOW, "--json")["editions"][0]
    sample = subjects_of(site)

    run("subjects", "today", "--now", NOW, "--decide", "B")
    run("send", "today", "--now", NOW)

    page = Path("preview/today/free.html").read_text(encoding="utf-8")
    assert others == [B, C] and row["subjects"] == [first, B, C]
    title = re.search("<title>(.*?)</title>", page, re.DOTALL)
    assert (
        title is not None
        and title[1].startswith("Parallel Today, ")
        and title[1].endswith("20 November 2026")
    )
    assert first not in page.partition("</head>")[0]
    assert "one for each of its 3 subjects" in tests
    assert tested == sorted(f"[Test] {one}" for one in (first, B, C))
    assert waits["hash"] == row["hash"]
    assert "its subjects are being tried on a sample" in waits["reason"]
    assert set(sample) == {first, B, C}
    after, rest = subjects_of(site), waits["pending"]
    assert (after[first], after[B], after[C]) == (sample[first], sample[B] + rest, sample[C])
    audit = run("audit", "today", "--now", NOW, "--json")
    assert audit["balanced"] and audit["submitted"] == audit["audience"] == sample.total() + rest
    _in_the_archive_and_online(site)
    _in_the_report(sample)


def _in_the_archive_and_online(folder: Path) -> None:
    desk = Desk.open(load_settings())
    day = parse_instant(NOW).date()
    assert [one.title for one in listed(desk.engine, ["today"])] == [B]
    found = shown(desk.engine, "today", day)
    assert found is not None and found.rendered.subject == B
    with desk.engine.connect() as connection:
        assert [one.title for one in search(connection, "breakfast", slugs=["today"], limit=5)] == [B]
    pages = create_app(
        desk.engine, desk.catalogue, desk.keys, desk.settings, clock=lambda: parse_instant(NOW),
        view=lambda reader, scope: view_online(desk, reader, scope, now=parse_instant(NOW)),
    )  # fmt: skip
    seen = set()
    for message in mails(folder)["today"][::9]:
        subject = str(message["Subject"])
        text = message.get_body(("plain",)).get_content()  # type: ignore[union-attr]
        link = re.search(r"http://127\.0\.0\.1:8000(/view/[\w.~-]+)", text)
        assert link is not None
        page = ask(pages, "GET", link[1]).text
        assert f"<title>{subject}</title>" in page
        told = run("why", "today", str(message["To"].addresses[0].addr_spec), "--now", NOW, "--json")
        assert told["subject"] == subject and told["verdict"] == "submitted"
        seen.add(subject)
    assert len(seen) > 1
    desk.engine.dispose()


def _in_the_report(sample: Counter[str]) -> None:
    told = run("report", "today", "--json")
    assert (told["subject"], told["subjects"]["chosen"]) == (B, "b")
    assert {one["subject"]: one["readers"] for one in told["subjects"]["tried"]} == dict(sample)
    assert f"today,2026-11-20,subject,B: {B},,,,{sample[B]}," in run("report", "today", "--csv")
    shown_there = run("report", "today")
    assert "B ✓" in shown_there and "was chosen" not in told["subject"]
    run("report", "today", "--html", "report.html")
    page = Path("report.html").read_text(encoding="utf-8")
    assert "Subjects tried on a sample" in page and C in page
    listing = run("subjects", "today", "--now", NOW)
    assert "B was chosen at" in " ".join(listing.split())


def test_a_correction_has_the_subject_that_was_chosen(site: Path) -> None:
    """It goes to all who have a wrong one, under the chosen subject, and tries nothing."""
    begun(site)
    run("subjects", "today", "--now", NOW, "--decide", "c")
    run("send", "today", "--now", NOW)
    sent = subjects_of(site).total()

    run("words", "today", "intro=Put right.", "--now", NOW)
    run("correct", "today", "--now", NOW)

    after = subjects_of(site)
    assert after[f"Correction: {C}"] == sent
    assert after.total() == 2 * sent
    assert run("subjects", "today", "--now", NOW, "--json")["chosen"] == "c"
    assert run("audit", "today", "--now", NOW, "--json")["balanced"]


def test_nothing_changed_corrects_nothing(site: Path) -> None:
    """That several subjects were tried is no change to be corrected."""
    begun(site)
    run("subjects", "today", "--now", NOW, "--decide", "b")
    run("send", "today", "--now", NOW)

    said = run("correct", "today", "--now", NOW, code=1)

    assert "would change" in said


def test_the_newsletters_own_subjects_are_tried_until_somebody_writes_one(site: Path) -> None:
    """Templates of subject_test are filled like the subject; who writes a subject alone tries nothing that day."""
    with_rule(
        site,
        '\n[subject_test]\nsubjects = ["{{ stories }} stories, led by {{ lead.headline }}", "{{ bits | join(\', \') }}"]\n',
    )
    run("collect")

    def subjects() -> list[str]:
        found = run("preview", "today", "--out", "preview", "--now", NOW, "--json")["previews"]
        return next(one["subjects"] for one in found)  # type: ignore[no-any-return]

    own = subjects()
    run("words", "today", "subject=Mine alone", "--now", NOW)
    written = subjects()

    assert len(own) == 2 and re.match(r"\d+ stories, led by ", own[1])  # the third is the first again
    assert written == ["Mine alone"]


def test_every_subject_is_proofed(site: Path) -> None:
    """What is wrong in one that only some readers get stops the edition like any other."""
    run("collect")
    run("words", "today", "subject.b=Hello *|FNAME|*", "subject.c=READ THIS NOW AT ONCE!!", "--now", NOW)

    found = run("proof", "today", "--now", NOW, "--json", code=(0, 3))["findings"]

    assert {("leftover-token", "subject"), ("subject-shouts", "subject")} <= {
        (one["code"], one["part"]) for one in found
    }


def test_the_hash_covers_every_subject() -> None:
    """Another subject, or the same in another order, is another content; one subject alone has the hash it always had."""
    one = Rendered("free", "A", "p", "h", "t")

    hashes = {
        content_hash([Rendered("free", first, "p", "h", "t", others)])
        for first, others in (
            ("A", ()),
            ("A", ("B",)),
            ("A", ("C",)),
            ("B", ("A",)),
            ("A", ("B", "C")),
            ("A", ("C", "B")),
        )
    }

    assert len(hashes) == 6 and content_hash([one]) in hashes


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ('[subject_test]\nsubjects = ["a", "b", "c", "d", "e"]', "subject_test.subjects"),
        ("[subject_test]\nshare = 0.9", "subject_test.share"),
        ('[subject_test]\nby = "sales"', "subject_test.by"),
        ("[subject_test]\nwait_minutes = 1", "subject_test.wait_minutes"),
    ],
)
def test_a_rule_that_cannot_be_is_refused(site: Path, rule: str, said: str) -> None:
    """By file and field."""
    with_rule(site, f"\n{rule}\n")

    with pytest.raises(CatalogueError, match=f"today/newsletter.toml: {said}"):
        load_catalogue(site / "templates")


def test_local_mornings_and_subjects_exclude_each_other(site: Path) -> None:
    """The rule is refused with the remedy; an editor's own words are told that only the first subject goes."""
    with_rule(site, '\ndeliver = "local 06:30"\n\n[subject_test]\nsubjects = ["a"]\n')
    with pytest.raises(CatalogueError, match="keep one of the two"):
        load_catalogue(site / "templates")


@pytest.mark.parametrize(
    ("fields", "said"),
    [({"subject.f": "F"}, "subjects.f"), ({"subject.b": "x" * 10, "subject.bb": "F"}, "subjects.bb")],
)
def test_words_name_a_subject_there_can_be(fields: dict[str, str], said: str) -> None:
    """There are five at most, a to e."""
    with pytest.raises(WordingError, match=said):
        Wording().with_words(fields)
