"""Lists in: a million rows or three, stopped anywhere, twice at once, rehearsed first; the outcome is the same."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import stat
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, func
from sqlmodel import col, select

from newsletter.audience.exports import export_subscribers
from newsletter.audience.imports import ImportReport, import_subscribers
from newsletter.audience.subscribers import add
from newsletter.errors import ImportFileError, NotFound
from newsletter.settings import Keys
from newsletter.store.session import open_store, reading
from newsletter.store.tables import ImportRun, Subscriber, Subscription, Suppression
from tests.builders import ROOT, the_catalogue
from tests.processes import Forked, newsletter_command

NOW = datetime(2026, 11, 20, 4, 0, tzinfo=UTC)
HEAD = "email,name,plan,newsletters,language,country,timezone,status\n"
KEYS = Keys(signing=(b"a signing key of this test alone",), suppression=b"a suppression key of this test")


def import_file(engine: Engine, path: Path, **options: Any) -> ImportReport:
    """Import *path* into *engine* with the shipped catalogue."""
    return import_subscribers(engine, path, catalogue=the_catalogue(), keys=KEYS, **{"now": NOW, **options})


def a_file(folder: Path, text: str, name: str = "list.csv") -> Path:
    """A file of that text."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def told(report: ImportReport) -> tuple[int, ...]:
    """rows, added, updated, unchanged, suppressed, rejected — after checking that they add up."""
    told = (report.added, report.updated, report.unchanged, report.suppressed, report.rejected_n)
    assert sum(told) == report.rows
    return (report.rows, *told)


def whole(engine: Engine) -> tuple[str, list[Any], list[Any]]:
    """All that matters of a list: the people, their subscriptions with consent, and suppression."""
    out = io.StringIO()
    with reading(engine) as session:
        export_subscribers(session, out)
        address = dict(session.exec(select(col(Subscriber.id), col(Subscriber.email_key))).all())
        consents = sorted(
            (
                address[one.subscriber_id],
                *(str(value) for name, value in one.model_dump().items() if name != "subscriber_id"),
            )
            for one in session.exec(select(Subscription))
        )
        banned = sorted(str(one.model_dump()) for one in session.exec(select(Suppression)))
    return "\n".join(sorted(out.getvalue().splitlines())), consents, banned


@contextmanager
def an_empty_store() -> Iterator[tuple[Engine, Path]]:
    """A migrated SQLite file in a folder of its own: copied, because a property needs many."""
    with tempfile.TemporaryDirectory() as place:
        shutil.copy(_template(), f"{place}/subscribers.db")
        engine = open_store(f"sqlite:///{place}/subscribers.db", migrate=False)
        try:
            yield engine, Path(place)
        finally:
            engine.dispose()


_made: list[tempfile.TemporaryDirectory[str]] = []


def _template() -> str:
    if not _made:
        _made.append(tempfile.TemporaryDirectory())
        open_store(f"sqlite:///{_made[0].name}/template.db").dispose()
    return f"{_made[0].name}/template.db"


# --- what does not depend on how rows are cut ----------------------------------------------------

_cell = st.sampled_from
_line = st.tuples(
    _cell(["a@x.example", "A@X.example", "b@x.example", "c@x.example", "d@x.example", "nonsense"]),
    _cell(["", "Ann", "Bea"]), _cell(["free", "trial", "annual", "monthly", "golden"]),
    _cell(["", "today", "today|planet", "planet", "nosuch"]), _cell(["active", "pending", "unsubscribed", "bounced", "complained"]),
    _cell(["", "vip", "vip|press"]), _cell(["", "2027-01-01", "2026-01-01T00:00:00Z"]), _cell(["", "planet", "today"]),
    _cell(["", "letter"]), _cell(["", "red", "blue"]),
)  # fmt: skip
_lines = st.lists(_line, max_size=12)


def a_list(lines: list[tuple[str, ...]]) -> str:
    """Lines as a file in our plain shape with all it may have."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(
        [
            "email",
            "name",
            "plan",
            "newsletters",
            "status",
            "tags",
            "plan_until",
            "newsletters_left",
            "newsletters_pending",
            "colour",
        ]
    )
    writer.writerows(lines)
    return out.getvalue()


@settings(max_examples=40)
@given(_lines, _lines, st.integers(1, 4))
def test_it_does_not_matter_how_rows_are_cut(first: list[Any], second: list[Any], size: int) -> None:
    """Chunks of any size: the same counts, the same rejected rows, the same people."""
    outcomes = []
    for chunk_rows in (size, 1_000):
        with an_empty_store() as (engine, folder):
            reports = [
                import_file(engine, a_file(folder, a_list(lines), f"{name}.csv"), chunk_rows=chunk_rows)
                for name, lines in (("first", first), ("second", second))
            ]
            outcomes.append(([(told(one), one.rejected) for one in reports], whole(engine)))

    assert outcomes[0] == outcomes[1]


@settings(max_examples=40)
@given(_lines, _lines, st.integers(1, 4))
def test_a_dry_run_says_what_a_real_one_does(first: list[Any], second: list[Any], size: int) -> None:
    """The same counts and rejected rows, with nothing changed."""
    with an_empty_store() as (engine, folder):
        import_file(engine, a_file(folder, a_list(first), "first.csv"))
        before = whole(engine)
        path = a_file(folder, a_list(second), "second.csv")

        dry = import_file(engine, path, dry_run=True, chunk_rows=size)

        assert whole(engine) == before
        real = import_file(engine, path, chunk_rows=size)
        assert (told(dry), dry.rejected, dry.is_dry) == (told(real), real.rejected, True)


@settings(max_examples=25)
@given(_lines)
def test_a_second_import_changes_nothing(lines: list[Any]) -> None:
    """
    Whatever the file, once its last word is in: the same file again, later, leaves every row as it was.

    A file that says two things of one person says them again; so people appear once here.
    """
    once = list({line[0].lower(): line for line in lines}.values())
    with an_empty_store() as (engine, folder):
        path = a_file(folder, a_list(once))
        first = import_file(engine, path)
        before = whole(engine)

        again = import_file(engine, path, now=NOW + timedelta(days=40))

        assert whole(engine) == before
        assert (again.added, again.updated, again.suppressed) == (0, 0, first.suppressed)


# --- rejected rows -------------------------------------------------------------------------------


def test_rejected_rows_are_kept_to_be_mended(engine: Engine, tmp_path: Path) -> None:
    """Their own columns, line and reason, for the owner's eyes; mended, the file imports as it is."""
    path = a_file(
        tmp_path,
        HEAD + 'good@x.example,Good,free,today,en,,,active\nbad@,"=1+1, Zoë",free,today,,,,active\nshort@x.example,S\n'
        "e@x.example,,golden,today,,,,active,more\n",
    )  # fmt: skip

    report = import_file(engine, path)

    file = tmp_path / "list.csv.rejected.csv"
    assert report.rejected_files == (file,)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    rows = list(csv.reader(io.StringIO(file.read_text(encoding="utf-8"))))
    assert rows[0] == [*HEAD.strip().split(","), "line", "reason", "row"]
    assert [row[8] for row in rows[1:]] == ["3", "4", "5"]
    assert rows[1][1] == "'=1+1, Zoë"
    assert rows[2][:9] == [""] * 8 + ["4"] and rows[2][10] == "short@x.example,S"
    assert rows[3][10] == "e@x.example,,golden,today,,,,active,more"
    mended = file.read_text(encoding="utf-8").replace("bad@,", "mended@x.example,").splitlines()[:2]
    again = import_file(engine, a_file(tmp_path, "\n".join(mended) + "\n", "mended.csv"))
    with reading(engine) as session:
        row = session.exec(select(Subscriber).where(Subscriber.email == "mended@x.example")).one()
    assert (told(again)[1], row.name, row.attributes) == (1, "=1+1, Zoë", {})


def test_no_rejected_rows_no_file(engine: Engine, tmp_path: Path) -> None:
    """Nothing to mend, nothing left behind."""
    report = import_file(engine, a_file(tmp_path, HEAD + "a@x.example,,free,today,,,,active\n"))

    assert report.rejected_files == ()
    assert [path.name for path in tmp_path.glob("*.csv")] == ["list.csv"]


def test_many_rejected_rows_are_counted_and_the_first_told(engine: Engine, tmp_path: Path) -> None:
    """A hundred in the report, all in the file."""
    path = a_file(tmp_path, HEAD + "nonsense,,free,today,,,,active\n" * 250)

    report = import_file(engine, path, rejected_to=tmp_path / "bad.csv", chunk_rows=90)

    assert (report.rejected_n, len(report.rejected), report.rejected[99].line) == (250, 100, 101)
    assert len((tmp_path / "bad.csv").read_text().splitlines()) == 251


@pytest.mark.parametrize(
    "row",
    [
        "a@x.example,,ann@secret.example,today,,,,active",
        "a@x.example,,free,ann@secret.example,,,,active",
        "a@x.example,,free,today,ann@secret.example,,,active",
        "a@x.example,,free,today,,ann@secret.example,,active",
        "a@x.example,,free,today,,,ann@secret.example,active",
        "a@x.example,,free,today,,,,ann@secret.example",
        "ann@secret.example x,,free,today,,,,active",
    ],
)
def test_a_reason_never_holds_an_address(engine: Engine, tmp_path: Path, row: str) -> None:
    """Also when columns are shifted, and also when a file has no header."""
    report = import_file(engine, a_file(tmp_path, HEAD + row + "\n"))
    with pytest.raises(ImportFileError, match="the header is none we know") as refused:
        import_file(engine, a_file(tmp_path, row + "\n", "headless.csv"))

    assert report.rejected_n == 1
    assert "secret.example" not in report.rejected[0].reason
    assert "secret.example" not in str(refused.value)


def test_a_full_disk_stops_it_and_it_goes_on(engine: Engine, tmp_path: Path) -> None:
    """What was committed is in; the same command with room goes on and ends as if nothing had been."""
    good = "".join(f"r{number}@x.example,,free,today,,,,active\n" for number in range(25))
    path = a_file(
        tmp_path, HEAD + good + "nonsense,,free,today,,,,active\n" + "late@x.example,,free,today,,,,active\n"
    )

    with pytest.raises(ImportFileError, match=r"No space left on device.*goes on where it stopped"):
        import_file(engine, path, rejected_to=Path("/dev/full"), chunk_rows=10)
    report = import_file(engine, path, chunk_rows=10)

    assert (report.went_on_at, told(report)) == (20, (27, 26, 0, 0, 0, 1))
    assert len((tmp_path / "list.csv.rejected.csv").read_text().splitlines()) == 2


def test_odd_files_are_refused_in_words(engine: Engine, tmp_path: Path) -> None:
    """A folder, a pipe, what is not there, no lines at all, a damaged archive, writing over the file itself."""
    path = a_file(tmp_path, HEAD + "nonsense,,free,today,,,,active\n")
    endless = tmp_path / "endless.csv"
    endless.write_bytes(HEAD.encode() + b"x" * 3_000_000)
    packed = tmp_path / "packed.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("list.csv", HEAD * 50)
    damaged = tmp_path / "damaged.zip"
    damaged.write_bytes(packed.read_bytes().replace(b"email,name", b"email,nome", 1))
    os.mkfifo(tmp_path / "pipe.csv")
    for name, words in (
        (tmp_path, "Is a directory"), (tmp_path / "none.csv", "No such file"), (endless, "longer than a megabyte"),
        (damaged, "cannot be unpacked"),
    ):  # fmt: skip
        with pytest.raises(ImportFileError, match=words):
            import_file(engine, name)
    with pytest.raises(ImportFileError, match="not a plain file"):
        import_file(engine, tmp_path / "pipe.csv")
    with pytest.raises(ImportFileError, match="over the file"):
        import_file(engine, path, rejected_to=path)


def test_damage_within_a_file_costs_only_its_rows(engine: Engine, tmp_path: Path) -> None:
    """A NUL, a byte that is none, stray quotes, too few cells: told with their line; all other rows go in."""
    lines = [
        b"a@x.example,A\0B,free,today,,,,active", b'b@x.example,"B"x,free,today,,,,active', b"", b",,,,,,,",
        b"c@x.example,C,free,today,,,,active", b'd@x.example,"D,free,today,,,,active', b'e@x.example,"E, E",free,today,,,,active',
        b"f@x.example,Zo\xeb,free,today,,,,active", b"g@x.example", b"=h@x.example,H", b'i@x.example,"I,free,today,,,,active',
        b'j@x.example,"J\r\nJ",free,today,,,,active',
    ]  # fmt: skip
    path = tmp_path / "list.csv"
    path.write_bytes(HEAD.encode() + b"\r\n".join(lines) + b"\r\n")

    report = import_file(engine, path)

    assert told(report) == (10, 3, 0, 0, 0, 7)
    assert [(row.line, row.reason.split(":")[0]) for row in report.rejected] == [
        (2, "a cell holds a NUL character"), (3, "not readable CSV"), (7, "not readable CSV"),
        (9, "a cell is not UTF-8; save the file as UTF-8, or mend the row"), (10, "1 columns where the header has 8"),
        (11, "2 columns where the header has 8"), (12, "not readable CSV"),
    ]  # fmt: skip
    with reading(engine) as session:
        names = dict(session.exec(select(Subscriber.email, Subscriber.name)).all())
    assert names == {"c@x.example": "C", "e@x.example": "E, E", "j@x.example": "J\r\nJ"}


def test_a_rejected_row_stands_in_the_file_as_it_was(engine: Engine, tmp_path: Path) -> None:
    """Byte for byte; imported again unmended it is refused again, and the text is still there."""
    broken = [
        b'b@x.example,"B"x,free,today,,,,active',
        b"f@x.example,Zo\xeb,free,today,,,,active",
        b"g@x.example",
    ]
    path = tmp_path / "list.csv"
    path.write_bytes(HEAD.encode() + b"\n".join(broken) + b"\n")

    import_file(engine, path)
    kept = tmp_path / "list.csv.rejected.csv"
    again = import_file(engine, kept)
    once_more = tmp_path / "list.csv.rejected.csv.rejected.csv"

    for file in (kept, once_more):
        text = file.read_text(encoding="utf-8", errors="surrogateescape")
        rows = [row[-1].encode("utf-8", "surrogateescape") for row in csv.reader(io.StringIO(text))]
        assert rows == [b"row", *broken]
    assert told(again) == (3, 0, 0, 0, 0, 3)
    assert {one.reason for one in again.rejected} == {"not mended yet: its text stands in the column row"}


def test_a_file_of_rejected_rows_of_before_is_read(engine: Engine, tmp_path: Path) -> None:
    """It had line and reason only."""
    head = HEAD.strip() + ",line,reason\n"

    report = import_file(engine, a_file(tmp_path, head + "a@x.example,,free,today,,,,active,7,no address\n"))

    assert told(report) == (1, 1, 0, 0, 0, 0)


# --- stopped and gone on with --------------------------------------------------------------------


class Stopped(Exception):
    """Somebody pulled the plug."""


def _mailchimp(folder: Path) -> Path:
    head = '"Email Address","First Name",LEID,EUID,LAST_CHANGED,CONFIRM_TIME\n'
    path = folder / "export.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("cleaned_x", "subscribed_x"):
            rows = "".join(
                f'{"bad" if number % 4 == 3 else f"{name}{number}@x.example"},A,1,2,,"2024-01-01 00:00:00"\n'
                for number in range(9)
            )
            archive.writestr(f"{name}.csv", head + rows)
    return path


@pytest.mark.parametrize("stop_after", range(1, 11))
def test_an_archive_stopped_after_any_chunk_goes_on(tmp_path: Path, stop_after: int) -> None:
    """Counts, people and both files of rejected rows are those of an import nobody stopped."""
    outcomes = []
    for stops in (False, True):
        with an_empty_store() as (engine, folder):
            path = _mailchimp(folder)
            chunks = 0

            def stop(_done: int, _total: int) -> None:
                nonlocal chunks
                chunks += 1
                if chunks == stop_after:
                    raise Stopped

            if stops:
                with pytest.raises(Stopped):
                    import_file(engine, path, newsletters=("today",), chunk_rows=2, progress=stop)
                with (folder / "cleaned_x.csv.rejected.csv").open("a") as file:
                    file.write("half a ro" if 2 <= stop_after < 5 else "")
            report = import_file(engine, path, newsletters=("today",), chunk_rows=2)
            files = [(file.name, file.read_text()) for file in report.rejected_files]
            outcomes.append((told(report), sorted(report.rejected, key=str), files, whole(engine)))
            assert (report.went_on_at > 0) == stops
            assert [name for name, _ in files] == [
                "cleaned_x.csv.rejected.csv",
                "subscribed_x.csv.rejected.csv",
            ]

    assert outcomes[0] == outcomes[1]


def test_who_was_cleaned_elsewhere_stays_so_when_a_rejected_row_is_mended(
    engine: Engine, tmp_path: Path
) -> None:
    """The file of rejected rows keeps the name by which Mailchimp says who left."""
    report = import_file(
        engine, _mailchimp(tmp_path), newsletters=("today",), rejected_to=tmp_path / "bad.csv"
    )
    file = report.rejected_files[0]
    file.write_text(
        "".join(file.read_text().replace("bad,", "mended@x.example,").splitlines(keepends=True)[:2])
    )

    again = import_file(engine, file, newsletters=("today",))

    assert told(again) == (1, 0, 0, 0, 1, 0)
    with reading(engine) as session:
        row = session.exec(select(Subscriber).where(Subscriber.email == "mended@x.example")).one()
    assert row.status == "bounced"


def test_restart_begins_anew(engine: Engine, tmp_path: Path) -> None:
    """On request; other options or a changed file are another import anyway."""
    path = a_file(
        tmp_path, HEAD + "".join(f"r{number}@x.example,,free,today,,,,active\n" for number in range(9))
    )

    def stop(_done: int, _total: int) -> None:
        raise Stopped

    for _ in range(2):
        with pytest.raises(Stopped):
            import_file(engine, path, chunk_rows=3, progress=stop)
    dry = import_file(engine, path, chunk_rows=3, dry_run=True)
    other = import_file(engine, path, consent="They signed.", dry_run=True)
    anew = import_file(engine, path, chunk_rows=3, restart=True)

    assert (dry.went_on_at, told(dry)) == (6, (9, 9, 0, 0, 0, 0))
    assert (other.went_on_at, told(other)) == (0, (9, 3, 0, 6, 0, 0))
    assert (anew.went_on_at, told(anew)) == (0, (9, 3, 0, 6, 0, 0))


def _command(engine: Engine, path: Path, *options: str) -> Forked:
    """``newsletter subscribers import`` as a process."""
    environment = {
        **os.environ, "DATABASE_URL": engine.url.render_as_string(hide_password=False), "NEWSLETTER_PROVIDER": "maildir",
        "NEWSLETTER_TEMPLATES": str(ROOT / "templates"), "NEWSLETTER_SECRET_KEY": KEYS.signing[0].decode(),
        "NEWSLETTER_SUPPRESSION_KEY": KEYS.suppression.decode(),
    }  # fmt: skip
    command = ["subscribers", "import", str(path), "--json", "--now", NOW.isoformat(), *options]
    return newsletter_command(*command, environment=environment, folder=path.parent)


def _rows_done(engine: Engine) -> int:
    with reading(engine) as session:
        return session.exec(select(func.coalesce(func.max(ImportRun.rows_done), 0))).one()


def _long_list(folder: Path, rows: int, name: str = "list.csv") -> Path:
    lines = (
        "nonsense,,free,today,,,,active\n" if number % 997 == 5 else f"r{number}@x.example,N{number},trial,today|planet,,,,{'bounced' if number % 500 == 1 else 'active'}\n"
        for number in range(rows)
    )  # fmt: skip
    return a_file(folder, HEAD + "".join(lines), name)


def test_killed_in_the_middle_it_goes_on_where_it_was(engine: Engine, tmp_path: Path) -> None:
    """SIGKILL, then the same command: people, counts and rejected rows are those of one run."""
    path = _long_list(tmp_path, 22_000)
    process = _command(engine, path)
    deadline = time.monotonic() + 60
    while _rows_done(engine) == 0 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    done = _rows_done(engine)
    assert 0 < done < 22_000

    process = _command(engine, path)
    output, errors = process.communicate(timeout=120)

    with an_empty_store() as (other, folder):
        straight = import_file(other, shutil.copy(path, folder / path.name))
        expected, rejected = whole(other), straight.rejected_files[0].read_text()
    document = json.loads(output)
    assert f"Going on at row {done + 1}" in errors
    assert (document["went_on_at"], document["rows"], document["added"], document["suppressed"], document["rejected_rows"]) == (
        done, straight.rows, straight.added, straight.suppressed, straight.rejected_n,
    )  # fmt: skip
    assert [one["line"] for one in document["rejected"]] == [one.line for one in straight.rejected]
    assert Path(document["rejected_file"]).read_text() == rejected
    assert whole(engine) == expected


def test_the_same_file_twice_at_once(engine: Engine, tmp_path: Path) -> None:
    """The second waits for the first, says so, and finds everything unchanged."""
    path = _long_list(tmp_path, 6_000)

    processes = [_command(engine, path) for _ in range(2)]
    answers = [process.communicate(timeout=120) for process in processes]

    assert [process.poll() for process in processes] == [0, 0]
    documents = sorted((json.loads(output) for output, _ in answers), key=lambda one: one["added"])
    assert (documents[0]["added"], documents[0]["updated"]) == (0, 0)
    assert documents[0]["unchanged"] == documents[1]["added"] > 5_000
    assert documents[0]["rejected_rows"] == documents[1]["rejected_rows"] == 7


def test_two_files_with_the_same_people_at_once(engine: Engine, tmp_path: Path) -> None:
    """Each person is there once, whoever was first."""
    one = _long_list(tmp_path, 4_000, "one.csv")
    other = a_file(
        tmp_path, HEAD + "".join(reversed(one.read_text().splitlines(keepends=True)[1:])), "other.csv"
    )

    processes = [_command(engine, path) for path in (one, other)]
    documents = [json.loads(process.communicate(timeout=120)[0]) for process in processes]

    with reading(engine) as session:
        people = session.exec(select(func.count()).select_from(Subscriber)).one()
    good = 4_000 - documents[0]["rejected_rows"]
    assert people == good
    assert sum(document["added"] + document["suppressed"] for document in documents) >= good
    assert sum(document["added"] for document in documents) <= good


def test_people_who_join_while_a_file_is_imported(engine: Engine, tmp_path: Path) -> None:
    """Added by a page or a program at the same moment: nobody twice, nothing lost, the import ends."""
    path = a_file(
        tmp_path, HEAD + "".join(f"r{number}@x.example,,free,today,,,,active\n" for number in range(400))
    )
    refused: list[int] = []

    def join() -> None:
        for number in range(399, 0, -3):
            try:
                add(
                    engine,
                    f"r{number}@x.example",
                    catalogue=the_catalogue(),
                    keys=KEYS,
                    now=NOW,
                    newsletters=("planet",),
                )
            except NotFound:
                refused.append(number)

    thread = threading.Thread(target=join)
    thread.start()
    report = import_file(engine, path, chunk_rows=20)
    thread.join()

    assert told(report)[0] == 400
    with reading(engine) as session:
        assert session.exec(select(func.count()).select_from(Subscriber)).one() == 400
        planet = session.exec(
            select(func.count()).select_from(Subscription).where(Subscription.newsletter == "planet")
        ).one()
        today = session.exec(
            select(func.count()).select_from(Subscription).where(Subscription.newsletter == "today")
        ).one()
    assert (planet, today) == (133 - len(refused), 400)


def test_what_a_reader_does_meanwhile_is_not_undone(engine: Engine, tmp_path: Path) -> None:
    """Who leaves between two chunks has left for the rest of the file too."""
    from newsletter.audience.leaving import leave

    path = a_file(
        tmp_path,
        HEAD
        + "a@x.example,,free,today,,,,active\nb@x.example,,free,today,,,,active\na@x.example,,free,today|planet,,,,active\n",
    )

    def leave_all(done: int, _total: int) -> None:
        if done == 1:
            with reading(engine) as session:
                reader = session.exec(
                    select(Subscriber.reader).where(Subscriber.email == "a@x.example")
                ).one()
            leave(engine, reader, None, now=NOW, how="test")

    report = import_file(engine, path, chunk_rows=1, progress=leave_all)

    assert told(report) == (3, 2, 0, 0, 1, 0)
    out = io.StringIO()
    with reading(engine) as session:
        export_subscribers(session, out, newsletter="planet")
    assert "a@x.example" not in out.getvalue()


def test_progress_is_told(engine: Engine, tmp_path: Path) -> None:
    """Rows done and about how many there are."""
    path = a_file(
        tmp_path, HEAD + "".join(f"r{number}@x.example,,free,today,,,,active\n" for number in range(5))
    )
    seen: list[tuple[int, int]] = []

    import_file(engine, path, chunk_rows=2, progress=lambda done, total: seen.append((done, total)))

    assert seen == [(2, 6), (4, 6), (5, 6)]
