"""The magazine: a valid PDF and EPUB of the edition that was sent, for those who pay."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import zipfile
import zlib
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from lxml import etree
from sqlmodel import select
from typer.testing import CliRunner

from newsletter.audience.tokens import scope_of
from newsletter.cli.main import app
from newsletter.desk import Desk
from newsletter.edition import Snapshot
from newsletter.errors import SourceError
from newsletter.feeds.pictures import prepare
from newsletter.rendering.magazine.epub import make_epub
from newsletter.rendering.magazine.pages import Issue
from newsletter.rendering.magazine.pdf import make_pdf
from newsletter.settings import load_settings
from newsletter.store.session import reading
from newsletter.store.tables import EditionFile, Subscriber
from newsletter.times import parse_instant
from newsletter.web.app import create_app
from newsletter.web.issues import Shelf, magazine_of
from newsletter.web.view import PAID_VIEW_DAYS
from tests.builders import ROOT, a_site, ask, the_catalogue
from tests.snapshots import a_snapshot
from tests.visiting import Moment

CATALOGUE = the_catalogue()
NOW = parse_instant("2026-11-20T04:00:00Z")
PICTURE = (ROOT / "samples" / "pictures" / "dam.jpg").read_bytes()


def _issue(snapshot: Snapshot | None = None, *, pictured: bool = True) -> Issue:
    snapshot = snapshot or a_snapshot(CATALOGUE, "magazine")
    return Issue(CATALOGUE, snapshot, lambda _address: PICTURE if pictured else None)


def test_a_pdf_holds_its_fonts_and_is_the_same_again() -> None:
    """Tagged, with both families in it, and byte for byte the same."""
    made = make_pdf(_issue())

    objects = b"".join(
        zlib.decompress(stream) for stream in re.findall(rb"/FlateDecode[^>]*>>\nstream\n(.*?)\nendstream", made, re.DOTALL)
        if stream[:1] == b"x"
    )  # fmt: skip
    assert made.startswith(b"%PDF-") and b"/MarkInfo" in objects and b"/Lang (en)" in objects
    assert {b"Serif", b"Sans"} <= set(re.findall(rb"Source-?(Serif|Sans)", objects))
    assert make_pdf(_issue()) == made


def test_a_torn_picture_is_refused_after_a_pdf_too() -> None:
    """WeasyPrint lets torn pictures pass; whoever collects in the same process does not."""
    make_pdf(_issue())

    with pytest.raises(SourceError, match="no picture"):
        prepare(PICTURE[: len(PICTURE) // 2])


@pytest.mark.parametrize("pictured", [True, False])
def test_an_epub_is_whole(pictured: bool, tmp_path: Path) -> None:
    """Every story a chapter in the contents, each file named in the package, and epubcheck content where there is one."""
    snapshot = a_snapshot(CATALOGUE, "magazine")
    made = make_epub(_issue(snapshot, pictured=pictured))

    with zipfile.ZipFile(io.BytesIO(made)) as book:
        assert book.infolist()[0].filename == "mimetype" and book.read("mimetype") == b"application/epub+zip"
        package = etree.fromstring(book.read("EPUB/content.opf"))
        told = {f"EPUB/{href}" for href in package.xpath("//*[local-name()='manifest']/*/@href")}
        contents = " ".join(etree.fromstring(book.read("EPUB/nav.xhtml")).itertext())
        assert told == {name for name in book.namelist() if name.startswith("EPUB/")} - {"EPUB/content.opf"}
        assert all(item.headline in contents for item in snapshot.items)
        assert sum(name.endswith(".jpg") for name in book.namelist()) == (
            len({item.image.url for item in snapshot.items if item.image}) if pictured else 0
        )
    assert make_epub(_issue(snapshot, pictured=pictured)) == made
    if checker := shutil.which("epubcheck"):
        path = tmp_path / "issue.epub"
        path.write_bytes(made)
        program = Path(
            checker
        ).resolve()  # on Debian a .jar, which runs by itself only where the kernel was told how
        command = ["java", "-jar", str(program)] if program.suffix == ".jar" else [checker]
        checked = subprocess.run([*command, str(path)], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stdout + checked.stderr


def test_an_arabic_issue_runs_from_right_to_left() -> None:
    """Its pages, its spine and our words in it."""
    snapshot = replace(a_snapshot(CATALOGUE, "magazine"), language="ar", direction="rtl")

    made = make_epub(_issue(snapshot))

    assert make_pdf(_issue(snapshot)).startswith(b"%PDF-")
    with zipfile.ZipFile(io.BytesIO(made)) as book:
        assert b'page-progression-direction="rtl"' in book.read("EPUB/content.opf")
        assert "المحتويات" in book.read("EPUB/nav.xhtml").decode()


def sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Desk, dict[str, str]]:
    """An installation that has sent the magazine, and a reader of each plan."""
    monkeypatch.chdir(a_site(tmp_path))
    for name in ("DATABASE_URL", "NEWSLETTER_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    for command in (
        ["subscribers", "import", "samples/subscribers.csv"],
        ["run", "--all", "--only", "magazine"],
    ):
        assert CliRunner().invoke(app, [*command, "--now", NOW.isoformat()]).exit_code in (0, 3)
    desk = Desk.open(load_settings())
    with reading(desk.engine) as session:
        return desk, {one.plan: one.reader for one in session.exec(select(Subscriber))}


def test_all_issues_are_listed_for_those_who_pay_and_for_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page below the link of the mail, with files that open there; a stranger and a free reader meet nothing."""
    desk, readers = sent(tmp_path, monkeypatch)
    moment = Moment(NOW)
    pages = create_app(
        desk.engine, desk.catalogue, desk.keys, desk.settings, clock=moment, shelf=Shelf(desk, moment)
    )
    day = desk.edition_date(desk.catalogue["magazine"], NOW)

    def link(plan: str) -> str:
        return f"/view/{desk.sender.signer.view(readers[plan], 'magazine', day)}"

    page = ask(pages, "GET", f"{link('annual')}/issues")
    files = re.findall(r'href="(/view/[^"]*\.(?:pdf|epub))"', page.text)

    assert page.status_code == 200 and "noindex" in page.headers["x-robots-tag"]
    assert [path.rpartition("/")[2] for path in files] == [f"{day}.pdf", f"{day}.epub"]
    assert ask(pages, "GET", files[0]).content.startswith(b"%PDF-")
    assert ask(pages, "GET", files[1]).headers["content-type"] == "application/epub+zip"
    other = files[0].replace(str(day), str(day - timedelta(days=7)))
    assert [ask(pages, "GET", path).status_code for path in (other, files[0].replace(str(day), "never"))] == [
        404,
        404,
    ]
    for path in (
        f"{link('free')}/issues",
        files[0].replace(link("annual"), link("free")),
        "/view/nobody/issues",
    ):
        assert ask(pages, "GET", path).status_code == 404
    moment.now = NOW + timedelta(days=PAID_VIEW_DAYS + 2)
    assert {ask(pages, "GET", path).status_code for path in (f"{link('annual')}/issues", *files)} == {404}


def test_it_opens_for_those_who_pay_and_for_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sent, asked for by a member, kept; not for a free reader, nor after thirty days, nor of another newsletter."""
    desk, readers = sent(tmp_path, monkeypatch)
    day = desk.edition_date(desk.catalogue["magazine"], NOW)
    scope = scope_of("magazine", day)

    made = magazine_of(desk, readers["annual"], scope, "pdf", now=NOW)

    assert made is not None and made.startswith(b"%PDF-")
    with reading(desk.engine) as session:
        assert [(one.kind, one.data) for one in session.exec(select(EditionFile))] == [("pdf", made)]
    assert magazine_of(desk, readers["monthly"], scope, "pdf", now=NOW) == made
    assert magazine_of(desk, readers["free"], scope, "pdf", now=NOW) is None
    assert (
        magazine_of(desk, readers["annual"], scope, "pdf", now=NOW + timedelta(days=PAID_VIEW_DAYS + 2))
        is None
    )
    assert magazine_of(desk, readers["annual"], scope_of("today", day), "pdf", now=NOW) is None
    mails = [path.read_text(errors="ignore") for path in Path("outbox").rglob("*.eml")]
    assert mails and all("magazine.pdf" in mail for mail in mails)
