"""The doctor: what it says of an installation that real readers are to visit."""

from __future__ import annotations

import json
import threading
from collections import namedtuple
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine
from typer.testing import CliRunner

from newsletter.cli.main import app
from newsletter.store.health import health, of_database
from newsletter.store.session import open_store, writing
from newsletter.store.tables import Batch, EditionRow, Told
from newsletter.times import zone_data
from tests.builders import a_site


def examined(monkeypatch: pytest.MonkeyPatch, **environment: str) -> dict[str, str]:
    """The severity of each named check."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    told = json.loads(CliRunner().invoke(app, ["doctor", "--json"]).stdout)
    return {check["name"]: check["severity"] for check in told["checks"]}


def test_it_looks_at_what_the_readers_pages_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A public address without known proxies, no privacy page, and a quieter newsletter that is not there."""
    site = a_site(tmp_path)
    monkeypatch.chdir(site)
    publication = site / "templates" / "publication.toml"
    text = publication.read_text(encoding="utf-8")
    publication.write_text(text.replace("privacy_url", "# privacy_url"), encoding="utf-8")
    today = site / "templates" / "today" / "newsletter.toml"
    today.write_text(
        today.read_text(encoding="utf-8").replace('quieter = "weekend"', 'quieter = "gone"'), encoding="utf-8"
    )

    bare = examined(monkeypatch, NEWSLETTER_BASE_URL="https://mail.theparallel.example")
    behind = examined(monkeypatch, NEWSLETTER_TRUSTED_PROXIES="10.0.0.0/8")

    assert (bare["proxies"], bare["privacy"], bare["quieter"]) == ("warning", "warning", "warning")
    assert "proxies" not in behind


RIGHT = {
    "NEWSLETTER_PROVIDER": "sendgrid", "SENDGRID_API_KEY": "SG.key", "SENDGRID_WEBHOOK_PUBLIC_KEY": "KEY=",
    "NEWSLETTER_BASE_URL": "https://mail.paper.example", "NEWSLETTER_SECRET_KEY": "a secret key of this test",
    "NEWSLETTER_SUPPRESSION_KEY": "a suppression key of this", "NEWSLETTER_TRUSTED_PROXIES": "10.0.0.0/8",
    "NEWSLETTER_ALARM_SMTP_URL": "smtp://u:p@relay.example",
}  # fmt: skip


@pytest.fixture
def fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation that is fit to send; its folder."""
    site = a_site(tmp_path / "site")
    monkeypatch.chdir(site)
    for name, value in RIGHT.items():
        monkeypatch.setenv(name, value)
    rewrite(site, "publication.toml", ".example", ".test")
    rewrite(site, "publication.toml", 'url = "samples/', 'url = "https://www.paper.test/')
    added = CliRunner().invoke(
        app, ["subscribers", "add", "ann@example.org", "--newsletters", "today", "--consent", "By phone"]
    )
    assert added.exit_code == 0, added.output
    return site


def rewrite(site: Path, name: str, old: str, new: str) -> None:
    """Change a file of the templates."""
    file = site / "templates" / name
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")


def test_a_fit_installation_has_no_findings(fit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look is right; and the exit code says so."""
    told = examined(monkeypatch)

    assert {name: severity for name, severity in told.items() if severity in ("warning", "error")} == {}
    assert {
        "base-url", "keys", "provider", "alarms", "templates", "zone-data", "database", "database-version",
        "database-log", "database-locks", "clock", "subscribers", "disk",
    } <= told.keys()  # fmt: skip
    assert CliRunner().invoke(app, ["doctor"]).exit_code == 0


@pytest.mark.parametrize(
    ("environment", "name", "severity"),
    [
        ({"NEWSLETTER_BASE_URL": "http://127.0.0.1:8000"}, "base-url", "error"),
        ({"NEWSLETTER_SECRET_KEY": "short"}, "keys", "error"),
        ({"SENDGRID_API_KEY": "sk-x"}, "provider", "error"),
        ({"SENDGRID_API_KEY": ""}, "provider", "error"),
        ({"NEWSLETTER_PROVIDER": "smtp", "NEWSLETTER_SMTP_URL": "relay"}, "provider", "error"),
        (
            {"NEWSLETTER_PROVIDER": "smtp", "NEWSLETTER_SMTP_URL": "smtp://relay.example"},
            "bounces",
            "warning",
        ),
        ({"NEWSLETTER_BOUNCES": "no/such/place"}, "bounces", "error"),
        ({"NEWSLETTER_BOUNCES": "."}, "bounces", "ok"),
        ({"NEWSLETTER_ALARM_SMTP_URL": ""}, "alarms", "note"),
        ({"NEWSLETTER_ALARM_SMTP_URL": "http://x"}, "alarms", "error"),
        ({"DATABASE_URL": "sqlite:///no/such/folder/x.db"}, "database", "error"),
        ({"DATABASE_URL": "sqlite:///fresh.db"}, "subscribers", "error"),
        ({"NEWSLETTER_SUPPRESSION_KEY": "another key than before"}, "database", "error"),
        ({"NEWSLETTER_PROVIDER": "pigeon"}, "settings", "error"),
        ({"NEWSLETTER_PROVIDR": "smtp"}, "settings", "warning"),
    ],
)
def test_each_wrong_setting_is_found(
    fit: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], name: str, severity: str
) -> None:
    """One thing wrong at a time."""
    assert examined(monkeypatch, **environment)[name] == severity


@pytest.mark.parametrize(
    ("file", "old", "new", "name", "severity"),
    [
        ("publication.toml", ".test", ".example", "sender", "error"),
        ("publication.toml", 'url = "https://www.paper.test/', 'url = "samples/', "feeds", "warning"),
        ("publication.toml", "editors =", "# editors =", "editors", "warning"),
        ("today/newsletter.toml", 'at = "06:30"', 'at = "02:30"', "schedule", "warning"),
        ("today/newsletter.toml", "subject =", "subjects =", "templates", "error"),
        (
            "today/newsletter.toml",
            'without_sources = ["letter"',
            'without_sources = ["gone"',
            "rules",
            "warning",
        ),
        (
            "today/newsletter.toml",
            'languages_preferred = ["en"]',
            'languages_preferred = ["English"]',
            "rules",
            "warning",
        ),
    ],
)
def test_each_wrong_file_is_found(
    fit: Path, monkeypatch: pytest.MonkeyPatch, file: str, old: str, new: str, name: str, severity: str
) -> None:
    """One thing wrong at a time."""
    rewrite(fit, file, old, new)

    assert examined(monkeypatch)[name] == severity


def test_what_the_provider_cannot_do_is_found(fit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Handing over ahead: SendGrid can, a relay cannot."""
    rewrite(fit, "today/newsletter.toml", "[schedule]", 'mode = "scheduled"\n[schedule]')

    able = examined(monkeypatch)
    unable = examined(monkeypatch, NEWSLETTER_PROVIDER="smtp", NEWSLETTER_SMTP_URL="smtp://u:p@relay.example")

    assert (able.get("scheduled"), unable["scheduled"]) == (None, "warning")


@pytest.mark.parametrize("by", ["opens", "clicks"])
def test_a_subject_test_that_nobody_answers_is_found(
    fit: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """SendGrid tells who opened and clicked, a relay and a mail folder never do."""
    rewrite(fit, "today/newsletter.toml", "[schedule]", f'[subject_test]\nby = "{by}"\n[schedule]')

    told = examined(monkeypatch)
    relay = examined(monkeypatch, NEWSLETTER_PROVIDER="smtp", NEWSLETTER_SMTP_URL="smtp://u:p@relay.example")
    folder = examined(monkeypatch, NEWSLETTER_PROVIDER="maildir")

    assert [one.get("subject-test") for one in (told, relay, folder)] == [None, "warning", "warning"]


def test_a_full_disk_is_found(fit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Less than half a gigabyte."""
    usage = namedtuple("usage", "free")
    monkeypatch.setattr("shutil.disk_usage", lambda _path: usage(499_000_000))

    assert examined(monkeypatch)["disk"] == "error"


def looked(engine: Engine, *, off: timedelta = timedelta()) -> dict[str, str]:
    """The severity of each look at a database, by a clock that is *off*."""
    return {name: severity for name, severity, _ in health(engine, at=datetime.now(UTC) + off)}


def test_a_healthy_database_is_said_to_be(engine: Engine) -> None:
    """Version, log and clock, on both; on PostgreSQL others may hold locks of their own."""
    told = looked(engine)

    assert (told["database-version"], told["database-log"], told["clock"]) == ("ok", "ok", "ok")
    assert told["database-locks"] == "ok" or engine.dialect.name == "postgresql"


def test_a_clock_that_is_off_is_found(engine: Engine) -> None:
    """Of PostgreSQL by asking it, of a SQLite file by what was written in our future."""
    now = datetime.now(UTC)
    with writing(engine) as session:
        session.add(
            EditionRow(id=1, newsletter="daily", edition_date=date(2026, 11, 20), status="draft", made_at=now)
        )
        session.flush()
        session.add(
            Batch(edition_id=1, seq=1, variant="free", ids=b"", lo_id=0, hi_id=0, n=0, changed_at=now)
        )

    assert looked(engine, off=-timedelta(minutes=3))["clock"] == "error"


def test_somebody_who_holds_the_database_is_found(engine: Engine) -> None:
    """A writer that does not end on SQLite, a lock that is waited for on PostgreSQL."""
    is_sqlite = engine.dialect.name == "sqlite"
    with engine.connect() as holder:
        holder.exec_driver_sql("ROLLBACK" if is_sqlite else "SELECT 1")
        holder.exec_driver_sql(
            "BEGIN IMMEDIATE" if is_sqlite else "LOCK TABLE batch IN ACCESS EXCLUSIVE MODE"
        )
        if is_sqlite:
            told = looked(engine)
        else:
            waiter = threading.Thread(target=_wait_for_the_lock, args=(engine,))
            waiter.start()
            told = {}
            while told.get("database-locks") != "warning":  # until the other one waits
                told = {name: severity for name, severity, _ in of_database(engine)}
        holder.rollback()
    if not is_sqlite:
        waiter.join()

    assert told["database-locks"] == "warning"


def _wait_for_the_lock(engine: Engine) -> None:
    with engine.connect() as connection:
        connection.exec_driver_sql("LOCK TABLE batch IN ACCESS SHARE MODE")


def test_a_database_that_forgets_is_found(engine: Engine) -> None:
    """One in memory only, one that does not flush its commits."""
    if engine.dialect.name == "sqlite":
        careless = open_store("sqlite://")
    else:
        options = f"{engine.url.query['options']} -csynchronous_commit=off"
        careless = create_engine(engine.url.update_query_dict({"options": options}))

    told = {name: severity for name, severity, _ in of_database(careless)}
    careless.dispose()

    assert told["database-log"] == "error"


def test_a_database_that_is_too_old_is_found(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the oldest release that can do what is asked of it."""
    monkeypatch.setattr("newsletter.store.health._OLDEST_SQLITE", (99, 0))
    monkeypatch.setattr("newsletter.store.health._OLDEST_POSTGRES", 99)

    assert looked(engine)["database-version"] == "error"


def test_a_log_that_grows_without_end_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody reads and never ends, so what was written cannot go into the file."""
    monkeypatch.setattr("newsletter.store.health.LARGE_WAL_BYTES", 10)
    engine = open_store(f"sqlite:///{tmp_path}/subscribers.db")
    with writing(engine) as session:
        session.add(Told(key="k", at=datetime.now(UTC)))

    told = looked(engine)
    engine.dispose()

    assert told["database-log"] == "warning"


def test_a_file_on_a_network_disk_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two machines would lock it each for itself."""
    mount = namedtuple("mount", "mountpoint fstype")
    monkeypatch.setattr("psutil.disk_partitions", lambda all: [mount("/", "nfs4")])
    engine = open_store(f"sqlite:///{tmp_path}/subscribers.db")

    told = looked(engine)
    engine.dispose()

    assert told["database-log"] == "error"


def test_old_zone_data_is_found(fit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clock changes are decided every year; of what is years old nobody can say."""
    monkeypatch.setattr("newsletter.cli.doctor.zone_data", lambda: "2019c")

    assert examined(monkeypatch)["zone-data"] == "warning"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"UTC": "", "tzdata.zi": "# version 2019c\nR d 1916"}, "2019c"),
        ({"UTC": "", "+VERSION": "2025b\n"}, "2025b"),
        ({"UTC": ""}, ""),
    ],
)
def test_the_zone_data_says_how_old_it_is(tmp_path: Path, files: dict[str, str], expected: str) -> None:
    """The system's goes before the package's."""
    for name, content in files.items():
        (tmp_path / name).write_text(content)

    assert zone_data([str(tmp_path)]) == expected
    assert zone_data([str(tmp_path / "none")])[:2] == "20"
