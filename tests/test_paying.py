"""Plans: what they are, until when they count, and what may be asked about their end."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy import Engine
from sqlmodel import col, select
from typer.testing import CliRunner

from newsletter.audience.plans import change_plan
from newsletter.audience.segments import audience_query, fit_query, frozen_query, ids_text, reader_query
from newsletter.catalogue import Plan, Segment, load_catalogue
from newsletter.cli.main import app
from newsletter.errors import CatalogueError, NotFound
from newsletter.store.session import reading, writing
from newsletter.store.tables import Subscriber
from newsletter.times import end_of_day
from tests.builders import ROOT, the_catalogue
from tests.test_importing import KEYS, NOW, a_file, import_file, told

HEAD = "email,plan,newsletters,plan_until\n"
PUBLICATION = the_catalogue().publication  # in Europe/Paris


def ends(engine: Engine) -> dict[str, datetime | None]:
    """When each plan ends, by the name before the @."""
    with reading(engine) as session:
        return {row.email.split("@")[0]: row.plan_until for row in session.exec(select(Subscriber)).all()}


def audience(engine: Engine, plan_class: Any, *, now: datetime = NOW, **conditions: Any) -> set[str]:
    """Who ``today`` would go to in a class, under more conditions."""
    newsletter = the_catalogue()["today"]
    newsletter = newsletter.model_copy(update={"audience": newsletter.audience.model_copy(update=conditions)})
    with reading(engine) as session:
        ids = (
            session.execute(audience_query(newsletter, PUBLICATION, plan_class=plan_class, now=now))
            .scalars()
            .all()
        )
        frozen = session.execute(frozen_query(newsletter, PUBLICATION, now=now)).all()
        assert [row[0] for row in frozen if row[1] == (plan_class == "paying")] == list(ids)
        rows = session.exec(select(Subscriber.email).where(col(Subscriber.id).in_(ids)))
        return {email.split("@")[0] for email in rows}


def test_the_shipped_plans() -> None:
    """Free, a trial of thirty days, monthly, annual: names, prices, classes."""
    assert [(plan.id, plan.plan_class, plan.days, plan.trial, bool(plan.price)) for plan in PUBLICATION.plans] == [
        ("free", "free", 0, False, False), ("trial", "paying", 30, True, True), ("monthly", "paying", 31, False, True),
        ("annual", "paying", 366, False, True),
    ]  # fmt: skip


@pytest.mark.parametrize("wrong", [{"class": "free", "days": 30}, {"class": "paying", "days": 0}])
def test_a_trial_is_paying_and_ends(wrong: dict[str, Any]) -> None:
    """A free or an endless trial is a mistake of whoever wrote it."""
    with pytest.raises(ValidationError, match="a trial is of class paying"):
        Plan.model_validate({"id": "trial", "name": "Trial", "trial": True, **wrong})


@pytest.mark.parametrize(
    ("given", "end"),
    [
        ("2027-01-31", datetime(2027, 1, 31, 23, tzinfo=UTC)),  # Paris, winter
        ("2027-07-31", datetime(2027, 7, 31, 22, tzinfo=UTC)),  # Paris, summer
        ("2027-03-28", datetime(2027, 3, 28, 22, tzinfo=UTC)),  # the day clocks go forward
        ("2027-01-31T12:00:00Z", datetime(2027, 1, 31, 12, tzinfo=UTC)),
        ("2027-01-31T12:00:00+05:00", datetime(2027, 1, 31, 7, tzinfo=UTC)),
    ],
)
def test_a_date_is_the_end_of_that_day(engine: Engine, tmp_path: Path, given: str, end: datetime) -> None:
    """In the publication's zone; an instant is what it says."""
    import_file(engine, a_file(tmp_path, f"{HEAD}a@x.example,annual,today,{given}\n"))

    assert ends(engine) == {"a": end}


def test_a_plan_counts_to_the_instant_at_which_it_ends(engine: Engine, tmp_path: Path) -> None:
    """Freeze and claim agree: paying before it, free from it on, to the microsecond, on both databases."""
    import_file(engine, a_file(tmp_path, HEAD + "a@x.example,monthly,today,2026-11-30\n"))
    end = end_of_day(datetime(2026, 11, 30).date(), "Europe/Paris")
    tick = timedelta(microseconds=1)

    def seen(now: datetime) -> tuple[set[str], set[str], int, str]:
        with reading(engine) as session:
            connection = session.connection()
            dialect = connection.dialect.name
            given = {"ids": ids_text([1], dialect), "now": now, "paying": True}
            row = connection.execute(fit_query("today", PUBLICATION, dialect, dense=False), given).one()
            (reader,) = session.execute(reader_query([1], "today", PUBLICATION, now=now)).all()
        fit = 0 if row[0] is None else len(row[0].split("\x1f"))
        return audience(engine, "free", now=now), audience(engine, "paying", now=now), fit, reader.variant

    assert seen(end - tick) == (set(), {"a"}, 1, "paying")
    assert seen(end) == ({"a"}, set(), 0, "free")
    assert seen(end + tick) == ({"a"}, set(), 0, "free")


def test_a_trial_without_an_end_ends_after_its_days(engine: Engine, tmp_path: Path) -> None:
    """From now on; not again by the same file a month later; other plans without an end have none."""
    path = a_file(
        tmp_path, HEAD + "t@x.example,trial,today,\nm@x.example,monthly,today,\nf@x.example,free,today,\n"
    )

    import_file(engine, path)
    again = import_file(engine, path, now=NOW + timedelta(days=31))

    assert ends(engine) == {"t": NOW + timedelta(days=30), "m": None, "f": None}
    assert told(again) == (3, 0, 0, 3, 0, 0)


@pytest.mark.parametrize(
    ("before", "after", "end"),
    [
        ("trial,2026-12-01", "annual,", None),  # a trial's end is not that of what was bought
        ("free,2026-01-01", "monthly,", None),
        ("monthly,2026-12-24T00:00:00Z", "annual,", datetime(2026, 12, 24, tzinfo=UTC)),  # what was paid for
        ("monthly,2026-12-24T00:00:00Z", "monthly,", datetime(2026, 12, 24, tzinfo=UTC)),
        ("monthly,2026-12-24T00:00:00Z", "monthly,2027-01-24T00:00:00Z", datetime(2027, 1, 24, tzinfo=UTC)),
        ("free,", "trial,", NOW + timedelta(days=30)),
        ("trial,2026-11-01T00:00:00Z", "trial,", datetime(2026, 11, 1, tzinfo=UTC)),  # no second trial
    ],
)
def test_the_end_of_a_plan_that_a_file_changes(
    engine: Engine, tmp_path: Path, before: str, after: str, end: datetime | None
) -> None:
    """Given, it counts; not given, only what was paid for stays."""
    for number, line in enumerate((before, after)):
        plan, until = line.split(",")
        import_file(engine, a_file(tmp_path, f"{HEAD}a@x.example,{plan},today,{until}\n", f"{number}.csv"))

    assert ends(engine) == {"a": end}


def test_a_plan_by_hand(engine: Engine, tmp_path: Path) -> None:
    """Given, it counts; not given, what was paid for stays, as in a file; unknown plans and people are said."""
    import_file(engine, a_file(tmp_path, HEAD + "a@x.example,free,today,\n"))

    def put(
        plan: str, until: datetime | None = None, email: str = "A@x.example", **options: bool
    ) -> datetime | None:
        return change_plan(engine, email, plan, publication=PUBLICATION, now=NOW, until=until, **options)

    assert put("trial") == NOW + timedelta(days=30)
    assert put("annual", NOW + timedelta(days=366)) == NOW + timedelta(days=366)
    assert audience(engine, "paying") == {"a"}
    assert put("monthly") == put("annual") == put("annual") == NOW + timedelta(days=366)
    assert put("annual", is_endless=True) is None
    assert put("free") is None
    assert put("monthly") is None
    assert ends(engine) == {"a": None}
    with pytest.raises(NotFound, match="there are free, trial"):
        put("golden")
    with pytest.raises(NotFound, match="do not know this address"):
        put("free", email="nobody@x.example")
    with pytest.raises(NotFound, match="do not know this address"):
        put("free", email="nonsense")


def test_conditions_on_the_end_of_a_plan(engine: Engine, tmp_path: Path) -> None:
    """Still running, and at most so many days left: trials, all others, or either; the same on both databases."""
    moment = lambda days: (NOW + timedelta(days=days)).isoformat()  # noqa: E731
    import_file(
        engine,
        a_file(
            tmp_path,
            HEAD
            + f"trial3@x.example,trial,today,{moment(3)}\n"
            + f"trial4@x.example,trial,today,{moment(3.001)}\n"
            f"year7@x.example,annual,today,{moment(6.9)}\n" + f"month1@x.example,monthly,today,{moment(1)}\n"
            f"past@x.example,monthly,today,{moment(-0.001)}\n" + f"now@x.example,trial,today,{moment(0)}\n"
            "endless@x.example,annual,today,\n" + f"free@x.example,free,today,{moment(1)}\n",
        ),
    )

    def both(**conditions: Any) -> tuple[set[str], set[str]]:
        return audience(engine, "free", **conditions), audience(engine, "paying", **conditions)

    assert both(trial_ends_within_days=3) == (set(), {"trial3"})
    assert both(renewal_due_within_days=7) == (set(), {"year7", "month1"})
    assert both(plan_ends_within_days=3) == (set(), {"trial3", "month1"})
    assert both(plan_ends_within_days=7, renewal_due_within_days=1) == (set(), {"month1"})
    with writing(engine) as session:
        row = session.exec(select(Subscriber).where(Subscriber.email == "trial4@x.example")).one()
        row.plan_until = NOW + timedelta(microseconds=1)
        session.add(row)
    assert both(trial_ends_within_days=1) == (set(), {"trial4"})


@pytest.mark.parametrize(
    "wrong",
    [
        {"trial_ends_within_days": 3, "renewal_due_within_days": 7}, {"trial_ends_within_days": 3, "classes": ["free"]},
        {"plan_ends_within_days": 0},
    ],
)  # fmt: skip
def test_conditions_nobody_meets_are_refused(wrong: dict[str, Any]) -> None:
    """When the file is read, not by an empty audience."""
    with pytest.raises(ValidationError):
        Segment.model_validate(wrong)


@pytest.mark.parametrize(
    ("audience", "words"),
    [
        ('plans = ["golden"]', "there is no plan 'golden'"),
        ("trial_ends_within_days = 3", "no plan in publication.toml says trial"),
    ],
)
def test_a_newsletter_names_only_plans_there_are(tmp_path: Path, audience: str, words: str) -> None:
    """A misspelt plan is an error that names file and field."""
    publication = (
        (ROOT / "templates" / "publication.toml")
        .read_text(encoding="utf-8")
        .replace("trial = true", "trial = false")
    )
    (tmp_path / "publication.toml").write_text(publication, encoding="utf-8")
    newsletter = (ROOT / "templates" / "today" / "newsletter.toml").read_text(encoding="utf-8")
    (tmp_path / "today").mkdir()
    (tmp_path / "today" / "newsletter.toml").write_text(
        f"{newsletter}\n[audience]\n{audience}\n", encoding="utf-8"
    )

    with pytest.raises(CatalogueError, match=words):
        load_catalogue(tmp_path)


def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """add --until, plan, show: what was set is told and shown."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/subscribers.db")
    monkeypatch.setenv("NEWSLETTER_TEMPLATES", str(ROOT / "templates"))
    monkeypatch.setenv("NEWSLETTER_SECRET_KEY", KEYS.signing[0].decode())
    monkeypatch.setenv("NEWSLETTER_SUPPRESSION_KEY", KEYS.suppression.decode())
    runner = CliRunner()

    def run(*arguments: str) -> str:
        done = runner.invoke(app, ["subscribers", *arguments])
        assert done.exit_code == 0, done.output
        return done.stdout

    added = run(
        "add",
        "a@x.example",
        "--plan",
        "annual",
        "--until",
        "2027-01-31",
        "--newsletters",
        "today",
        "--consent",
        "Told us.",
    )
    trial = run("plan", "a@x.example", "trial", "--now", NOW.isoformat())
    monthly = run("plan", "a@x.example", "monthly")
    until = run("plan", "a@x.example", "monthly", "--until", "2026-12-20T04:00:00Z")
    shown = json.loads(run("show", "a@x.example", "--json"))
    wrong = runner.invoke(app, ["subscribers", "plan", "a@x.example", "monthly", "--until", "soon"])

    assert "The plan annual ends at 2027-01-31T23:00:00Z." in added
    assert (trial, monthly, until) == (
        "On trial until 2026-12-20T04:00:00Z.\n", "On monthly, without an end.\n", "On monthly until 2026-12-20T04:00:00Z.\n",
    )  # fmt: skip
    assert (shown["plan"], shown["plan_until"], shown["paused_until"], shown["deliver_at"]) == (
        "monthly", "2026-12-20T04:00:00Z", None, "",
    )  # fmt: skip
    assert wrong.exit_code == 2
