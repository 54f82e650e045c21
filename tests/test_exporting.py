"""Lists out: what is exported imports again, says who may not be mailed, and is no program for a spreadsheet."""

from __future__ import annotations

import csv
import io
import json
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine
from sqlmodel import Session, col, select
from typer.testing import CliRunner

from newsletter.audience.exports import Segmented, export_subscribers
from newsletter.audience.leaving import leave
from newsletter.audience.segments import audience_query
from newsletter.audience.shapes import escaped, unescaped
from newsletter.cli.main import app
from newsletter.store.session import open_store, reading, writing
from newsletter.store.tables import Subscriber, SubscriberTag, Subscription, Suppression
from tests.builders import ROOT, the_catalogue
from tests.test_importing import HEAD, KEYS, NOW, a_file, an_empty_store, import_file

_SLUGS = ("letter", "planet", "today")


def exported(engine: Engine, **options: Any) -> str:
    """The CSV, or what *options* say."""
    out = io.StringIO()
    with reading(engine) as session:
        number = export_subscribers(session, out, **options)
    rows = (
        list(csv.reader(io.StringIO(out.getvalue())))
        if options.get("file_format") != "ndjson"
        else out.getvalue().splitlines()
    )
    assert number == len(rows) - (options.get("file_format") != "ndjson")
    return out.getvalue()


def addresses(text: str) -> list[str]:
    """Who is in a CSV, in its order."""
    return [unescaped(row["email"]) for row in csv.DictReader(io.StringIO(text))]


def mailed(engine: Engine) -> dict[tuple[str, str], set[str]]:
    """Who each newsletter would go to, by class."""
    catalogue = the_catalogue()
    found = {}
    with reading(engine) as session:
        for slug in _SLUGS:
            for plan_class in catalogue[slug].audience.classes:
                query = audience_query(catalogue[slug], catalogue.publication, plan_class=plan_class, now=NOW)
                ids = session.execute(query).scalars().all()
                rows = session.exec(select(Subscriber.email_key).where(col(Subscriber.id).in_(ids)))
                found[slug, plan_class] = set(rows)
    return found


_words = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=8)
_names = _words | st.sampled_from(
    [
        "=1+1",
        "'=1",
        "''",
        "'",
        "+33 1",
        "-",
        "@home",
        "a|b",
        "a\\",
        "\\|",
        "'-x",
        '"',
        "Ann, Lee",
        "＝1",
        "x\ny",
    ]
)
_instants = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
_moments = st.none() | _instants
_people = st.lists(
    st.fixed_dictionaries(
        {
            "name": _names, "plan": st.sampled_from(["free", "trial", "monthly", "annual"]), "plan_until": _moments,
            "language": st.sampled_from(["", "en", "pt-BR"]), "country": st.sampled_from(["", "FR"]),
            "timezone": st.sampled_from(["", "Europe/Paris"]),
            "status": st.sampled_from(["active", "active", "active", "pending", "unsubscribed", "bounced", "complained"]),
            "attributes": st.dictionaries(_words.map(lambda word: word or "w"), _words | st.integers() | st.booleans() | st.none(), max_size=2),
            "joined_at": _instants, "tags": st.sets(_names.map(lambda name: name if name.strip() else "vip"), max_size=2),
            "states": st.dictionaries(st.sampled_from(_SLUGS), st.sampled_from(["active", "pending", "left"])),
            "banned": st.dictionaries(st.sampled_from(("all", *_SLUGS)), st.sampled_from(["unsubscribed", "bounced", "complained", "manual"])),
        }
    ),
    max_size=4,
).map(lambda people: [_dated(one) for one in people])  # fmt: skip


def _dated(one: dict[str, Any]) -> dict[str, Any]:
    """A trial always has an end; filtering for it would throw most examples away."""
    return {**one, "plan_until": one["plan_until"] or NOW} if one["plan"] == "trial" else one


def put(session: Session, people: list[dict[str, Any]]) -> None:
    """Write people as they may stand in any installation."""
    for number, one in enumerate(people, start=1):
        fields = {
            name: one[name]
            for name in (
                "name",
                "plan",
                "plan_until",
                "language",
                "country",
                "timezone",
                "status",
                "attributes",
                "joined_at",
            )
        }
        session.add(
            Subscriber(
                id=number, reader=f"{number:024x}", email=f"r{number}@x.example", email_key=f"r{number}@x.example",
                address_hash=f"{number:032x}", updated_at=NOW, **fields,
            )
        )  # fmt: skip
        session.flush()
        for tag in one["tags"]:
            session.add(SubscriberTag(subscriber_id=number, tag=tag))
        for slug, state in one["states"].items():
            session.add(Subscription(subscriber_id=number, newsletter=slug, state=state, since=NOW))
        for scope, reason in one["banned"].items():
            session.add(
                Suppression(address_hash=f"{number:032x}", scope=scope, reason=reason, suppressed_at=NOW)
            )


@settings(max_examples=40)
@given(_people)
def test_an_export_imports_into_an_empty_database(people: list[dict[str, Any]]) -> None:
    """
    Every row comes back as it was exported, and exactly the same readers are mailed.

    But for spaces around a text, which an import takes off, and a trial without an end, which it gives one.
    """
    with an_empty_store() as (engine, folder), an_empty_store() as (other, _):
        with writing(engine) as session:
            put(session, people)
        before = exported(engine)

        report = import_file(other, a_file(folder, before))

        assert report.rejected_n == 0
        after = exported(other)
        assert after == before
        assert mailed(other) == mailed(engine)
        again = import_file(other, a_file(folder, after, "again.csv"))
        assert (again.added, again.updated, exported(other)) == (0, 0, before)
        with reading(other) as session:
            found = session.exec(select(Subscriber).order_by(col(Subscriber.id))).all()
            assert [(row.name, row.plan, row.plan_until, row.joined_at, row.attributes) for row in found] == [
                (one["name"].strip(), one["plan"], one["plan_until"], one["joined_at"], one["attributes"])
                for one in people
            ]


@example("'=1")
@example("''+")
@example("'")
@example("'＝1")
@given(st.text(alphabet="'=+-@\t\r\n＝＋－＠ ax", max_size=6) | st.text(max_size=8))
def test_every_cell_comes_back_and_none_is_a_formula(cell: str) -> None:
    """Also one that begins with apostrophes of its own."""
    kept = escaped(cell)

    assert not kept.startswith(("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"))
    assert unescaped(kept) == cell


@pytest.fixture
def full(engine: Engine, tmp_path: Path) -> Engine:
    """Six people: two paying, one who left all, one who left one, one complained, one pending."""
    import_file(
        engine,
        a_file(
            tmp_path,
            "email,name,plan,newsletters,status,plan_until\n"
            "paying@x.example,P,annual,today|planet,active,2027-01-31\n"
            "lapsed@x.example,L,monthly,today,active,2026-11-01\n"
            "gone@x.example,G,free,today|planet,active,\n"
            "half@x.example,H,free,today|planet,active,\n"
            "angry@x.example,A,free,today,complained,\n"
            "new@x.example,N,free,today,pending,\n",
        ),
    )
    with reading(engine) as session:
        readers = dict(session.exec(select(Subscriber.email, Subscriber.reader)).all())
    leave(engine, readers["gone@x.example"], None, now=NOW, how="link in the mail")
    leave(engine, readers["half@x.example"], "today", now=NOW, how="link in the mail")
    return engine


def test_a_csv_says_who_may_not_be_mailed(full: Engine) -> None:
    """Who left all is unsubscribed; who left one has it under newsletters_left."""
    rows = {row["email"].split("@")[0]: row for row in csv.DictReader(io.StringIO(exported(full)))}

    assert {name: (row["status"], row["newsletters"], row["newsletters_left"]) for name, row in rows.items()} == {
        "paying": ("active", "planet|today", ""), "lapsed": ("active", "today", ""),
        "gone": ("unsubscribed", "planet|today", ""), "half": ("active", "planet", "today"),
        "angry": ("complained", "today", ""), "new": ("pending", "today", ""),
    }  # fmt: skip
    assert rows["paying"]["plan_until"] == "2027-01-31T23:00:00Z"


def test_an_export_of_some(full: Engine) -> None:
    """By segment, class, newsletter, plan and status, each as it says and all together."""
    catalogue = the_catalogue()

    def who(**options: Any) -> str:
        return " ".join(address.split("@")[0] for address in addresses(exported(full, **options)))

    def segment(slug: str, variant: str = "") -> Segmented:
        return Segmented(catalogue[slug], catalogue.publication, NOW, variant)

    assert who(segment=segment("today")) == "lapsed paying"
    assert who(segment=segment("today", "free")) == "lapsed"
    assert who(segment=segment("planet", "free")) == "half"
    assert who(newsletter="today") == "paying lapsed"
    assert who(newsletter="planet") == "paying half"
    assert who(plan="annual") == "paying"
    assert who(status="unsubscribed") == "gone"
    assert who(status="active") == "paying lapsed half"
    assert who(status="complained") == "angry"
    assert who(segment=segment("planet"), plan="free", status="active", newsletter="planet") == "half"
    assert who(segment=segment("today"), newsletter="planet") == "paying"


def test_ndjson_has_consent_and_suppression(full: Engine) -> None:
    """One person a line, with everything held."""
    with writing(full) as session:
        row = session.exec(select(Subscriber).where(Subscriber.email == "half@x.example")).one()
        row.paused_until = NOW + timedelta(days=3)
        session.add(row)

    lines = [json.loads(line) for line in exported(full, file_format="ndjson").splitlines()]

    assert [line["email"].split("@")[0] for line in lines] == [
        "paying",
        "lapsed",
        "gone",
        "half",
        "angry",
        "new",
    ]
    half = lines[3]
    today = next(one for one in half["subscriptions"] if one["newsletter"] == "today")
    assert (half["paused_until"], today["state"], today["left_reason"]) == (
        "2026-11-23T04:00:00Z",
        "left",
        "link in the mail",
    )
    assert today["consent"]["words"] == "listed by the publisher in the imported file"
    assert [(one["scope"], one["reason"]) for one in half["suppression"]] == [("today", "unsubscribed")]
    assert lines[4]["suppression"][0]["reason"] == "complained"


def test_pages_are_cut_and_nobody_is_lost(engine: Engine, tmp_path: Path) -> None:
    """More than a page of people, in order, each once."""
    path = a_file(
        tmp_path, HEAD + "".join(f"r{number}@x.example,,free,today,,,,active\n" for number in range(2_345))
    )
    import_file(engine, path)

    assert addresses(exported(engine)) == [f"r{number}@x.example" for number in range(2_345)]
    assert len(exported(engine, file_format="ndjson").splitlines()) == 2_345


@contextmanager
def _installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CliRunner]:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{folder}/subscribers.db")
    monkeypatch.setenv("NEWSLETTER_TEMPLATES", str(ROOT / "templates"))
    monkeypatch.setenv("NEWSLETTER_SECRET_KEY", KEYS.signing[0].decode())
    monkeypatch.setenv("NEWSLETTER_SUPPRESSION_KEY", KEYS.suppression.decode())
    engine = open_store(f"sqlite:///{folder}/subscribers.db")
    import_file(
        engine,
        a_file(folder, HEAD + "a@x.example,A,annual,today,,,,active\nb@x.example,B,free,today,,,,active\n"),
    )
    engine.dispose()
    yield CliRunner()


def test_the_command_writes_whole_files_for_their_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """0600; to stdout with -; a wrong word is usage; what cannot be written is said and leaves nothing."""
    with _installed(tmp_path, monkeypatch) as runner:
        done = runner.invoke(app, ["subscribers", "export", "all.csv"])
        to_stdout = runner.invoke(
            app, ["subscribers", "export", "--segment", "today:paying", "--now", NOW.isoformat()]
        )
        lines = runner.invoke(
            app, ["subscribers", "export", "-", "--format", "ndjson", "--plan", "free", "--status", "active"]
        )
        runner.invoke(app, ["subscribers", "plan", "a@x.example", "annual", "--until", "2026-11-24"])
        reminded, not_reminded = (
            addresses(runner.invoke(app, ["subscribers", "export", "--segment", one, "--now", NOW.isoformat()]).stdout)
            for one in ("today:paying+renewal-due", "today:paying+trial-ending")
        )  # fmt: skip
        wrong = [
            runner.invoke(app, ["subscribers", "export", *options]).exit_code
            for options in (["--segment", "today:gold"], ["--status", "asleep"], ["--format", "xml"])
        ]
        full = runner.invoke(app, ["subscribers", "export", "/dev/full"])

    assert (done.exit_code, stat.S_IMODE((tmp_path / "all.csv").stat().st_mode)) == (0, 0o600)
    assert addresses((tmp_path / "all.csv").read_text()) == ["a@x.example", "b@x.example"]
    assert addresses(to_stdout.stdout) == ["a@x.example"]
    assert [json.loads(line)["email"] for line in lines.stdout.splitlines()] == ["b@x.example"]
    assert (reminded, not_reminded) == (["a@x.example"], [])
    assert wrong == [2, 2, 2]
    assert "cannot be written: No space left on device" in str(full.exception)
    assert not list(tmp_path.glob("*.part"))
