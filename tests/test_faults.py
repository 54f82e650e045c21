"""What is wrong in a file or the environment, told in words of ours: where it stands, and what to write."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from newsletter.audience.files import read_table
from newsletter.catalogue import load_catalogue
from newsletter.cli.main import app
from newsletter.errors import CatalogueError, ImportFileError, SettingsError
from newsletter.settings import load_settings
from newsletter.wording import Wording
from tests.builders import a_site

# Words of the library that checks the values: nobody who mends a file knows them.
LIBRARYS = ("Input", "Value error", "Field required", "Tuple", "String should", "Extra inputs", "valid", "^")


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("today", 'at = "06:30"', 'at = "6.30"', 'schedule.at: must be a time such as "06:30"'),
        ("today", '"mon", ', '"monday", ', "schedule.days.1: must be 'mon', 'tue'"),
        ("today", '["mon", "tue", "wed", "thu", "fri"]', '"mon"', "schedule.days: must be a list, such as"),
        ("today", "min_stories = 8", 'min_stories = "some"', "min_stories: must be a whole number."),
        ("today", "min_stories = 8", "min_stroies = 8", "min_stroies: is no name we know; it may be mistyped (1 more)."),
        ("today", "window_hours = 72", 'window_hours = 72\ndeliver = "local 6:30"', "deliver: must be of the form at once or local 06:30."),
        ("today", "window_hours = 72", "window_hours = 72\npace = { per_day = -1 }", "pace.per_day: must be at least 0."),
        ("today", "window_hours = 72", 'window_hours = 72\nwindow = { from = "05:00" }', "window.until: is missing."),
        ("today", "[schedule]", '[audience]\njoined_after = "then"\n[schedule]', "audience.joined_after: must be a date such as 2026-12-01."),
        ("today", "[schedule]", '[subject_test]\nsubjects = ["a", "b", "c", "d", "e"]\n[schedule]', "subject_test.subjects: must hold at most 4, not 5."),
        ("publication", 'timezone = "Europe/Paris"', "timezone = 1", 'timezone: must be a text in quotes, such as "text".'),
        ("publication", 'rights = "own"', 'rights = "mine"', "feeds.1.rights: must be 'own', 'licensed' or 'excerpt'."),
        ("publication", "taglines = {", 'taglines = { FR = "x",', "taglines.FR: must be of the form fr, in small letters."),
        ("publication", "theparallel.example\"]         #", "theparallel.example/\"] #", "embed_origins.1: must be of the form https://www.example.org"),
        ("publication", 'email = "newsletters@news.theparallel.example"', 'email = "the desk"', "sender.email: must be a plain address"),
        ("publication", 'id = "the-harbour-ledger"', 'id = "the-parallel"', "publication.toml: two feeds have the same id, the-parallel."),
    ],
)  # fmt: skip
def test_a_fault_in_a_file_is_told_in_our_words(
    tmp_path: Path, file: str, old: str, new: str, said: str
) -> None:
    """File and field, lists counted from one, and what to write; never a word of the library's."""
    templates = a_site(tmp_path / "site") / "templates"
    path = templates / ("publication.toml" if file == "publication" else f"{file}/newsletter.toml")
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")

    with pytest.raises(CatalogueError) as caught:
        load_catalogue(templates)

    told = str(caught.value)
    assert said in told and not [word for word in LIBRARYS if word in told.removeprefix(str(path))]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("NEWSLETTER_PROVIDER=pigeon", "NEWSLETTER_PROVIDER must be 'maildir', 'sendgrid' or 'smtp'"),
        ("NEWSLETTER_IN_FLIGHT=many", "NEWSLETTER_IN_FLIGHT must be a whole number"),
        ("NEWSLETTER_IN_FLIGHT=100", "NEWSLETTER_IN_FLIGHT must be at most 64"),
        ("SENDGRID_SANDBOX=perhaps", "SENDGRID_SANDBOX must be true or false"),
        ("NEWSLETTER_BASE_URL=mail.example.org", "NEWSLETTER_BASE_URL must be an absolute http(s) URL"),
        ("NEWSLETTER_BASE_URL=https://m.example.org:99999", "NEWSLETTER_BASE_URL must be an absolute http(s) URL"),
        ("NEWSLETTER_BASE_URL=https://[::1", "NEWSLETTER_BASE_URL must be an absolute http(s) URL"),
        ("DATABASE_URL=", "DATABASE_URL names no file, and what went out would be forgotten"),
        ("DATABASE_URL=sqlite://", "DATABASE_URL names no file"),
        ("DATABASE_URL=sqlite:///:memory:", "DATABASE_URL names no file"),
        ("NEWSLETTER_ACTOR=Andr\xe9", "The file .env is not UTF-8; save it as plain UTF-8 text."),
    ],
)  # fmt: skip
def test_a_fault_in_the_environment_is_told_in_our_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, said: str
) -> None:
    """The variable and what to write, also where the file cannot even be read."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    (tmp_path / ".env").write_bytes(line.encode("latin-1") + b"\n")

    with pytest.raises(SettingsError) as caught:
        load_settings()

    told = str(caught.value)
    assert said in told and not [word for word in LIBRARYS if word in told]


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("Email;Name;plan;newsletters", "Its columns must be parted by commas."),
        ("email\tname\tplan\tnewsletters", "Its columns must be parted by commas."),
        ("\udcff\udcfee\0m\0a\0i\0l\0,\0", "It is not UTF-8: save it as CSV in UTF-8."),
        ("email,name", "It has: email, name. Ours is email,name,plan"),
    ],
)
def test_a_foreign_header_is_told_with_its_remedy(header: str, said: str) -> None:
    """What spreadsheets save otherwise is named as that; broken bytes are not shown."""
    with pytest.raises(ImportFileError) as caught:
        read_table("readers.csv", [header + "\n"])

    assert said in str(caught.value) and "\udcff" not in str(caught.value)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("status --now yesterday", "'yesterday' is not an instant; write for example 2026-02-18T02:20:00Z"),
        ("status --now 0001-01-01T00:00:00+14:00", "is beyond all calendars"),
        ("serve --port 99999", "Invalid value for '--port'"),
        ("preview --port 0", "Invalid value for '--port'"),
    ],
)  # fmt: skip
def test_a_wrong_option_is_a_matter_of_usage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, said: str
) -> None:
    """Exit code 2 and a sentence, never a traceback."""
    monkeypatch.chdir(tmp_path)

    result = CliRunner().invoke(app, command.split(), env={"COLUMNS": "200"})

    assert (result.exit_code, said in result.output) == (2, True), result.output


def test_a_mistyped_newsletter_is_told_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No source is asked for an edition that cannot be made."""
    monkeypatch.chdir(a_site(tmp_path / "site"))

    result = CliRunner().invoke(app, ["run", "--only", "tody"])

    assert (result.exit_code, result.stdout) == (1, "")


def test_where_a_copy_cannot_be_written_its_own_name_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DATABASE_URL is not what is wrong with a backup's folder, or with the target of a move."""
    monkeypatch.chdir(a_site(tmp_path / "site"))
    runner = CliRunner()

    backup = runner.invoke(app, ["backup", "no/such/folder.db"])
    moved = runner.invoke(app, ["db", "copy", "--to", "sqlite:///no/such/folder.db"])

    assert "Check no/such/folder.db" in str(backup.exception)
    assert "Check --to" in str(moved.exception)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("greeting", "greeting is empty, so what newsletter.toml says stands there."),
        ("subject.b", "subject.b is empty, so it is not tried;"),
        ("quote.text", "quote.text is empty, so nothing stands there;"),
    ],
)
def test_empty_words_say_what_stands_there_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    """And how to take that back."""
    monkeypatch.chdir(a_site(tmp_path / "site"))

    result = CliRunner().invoke(app, ["words", "today", f"{name}="])

    assert result.exit_code == 0, result.output
    assert said in result.output and "newsletter undo today" in result.output


def test_empty_subjects_are_not_tried() -> None:
    """What is said of them is true."""
    words = Wording(subject="A", subjects={"b": "B", "c": "C"})

    assert words.with_words({"subject.b": ""}).subjects == {"c": "C"}
