"""Reports: numbers of readers equal to a plain count, whatever came how often and in which order."""

from __future__ import annotations

import csv
import io
import json
import random
import zlib
from collections import defaultdict
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from lxml import html as markup
from sqlalchemy import Engine, update
from sqlmodel import select
from typer.testing import CliRunner

from newsletter.cli.main import app
from newsletter.cli.reporting import sparkline
from newsletter.edition import Item, SectionMade, Snapshot
from newsletter.outbox import inbox
from newsletter.reports.cohorts import cohorts, keep_week, weeks
from newsletter.reports.counting import edition_numbers, story_links, totals
from newsletter.reports.keeping import prune_events
from newsletter.reports.numbers import Cohort, Hour, Link, Tally
from newsletter.reports.page import click_map, percent, report_page
from newsletter.settings import Keys
from newsletter.store.editions import dump_snapshot
from newsletter.store.session import reading, writing
from newsletter.store.tables import Batch, EditionRow, Event, Rendering, Subscriber, Subscription
from tests.builders import a_site
from tests.standin_events import body_of
from tests.test_evidence import readers, taken, told
from tests.test_outbox import NOW, Postman, an_edition, send_all

DAY = date(2026, 11, 20)
PERSON = "Mozilla/5.0 (Windows NT 10.0) Gecko/20100101 Firefox/140.0"
STORIES = [f"https://news.example/{name}" for name in ("war", "peace", "cats")]


def a_snapshot(urls: list[str]) -> dict[str, Any]:
    """An edition with a section of its first story and one of the others."""
    items = [
        Item(
            position=1, url=url, headline=f"About {url.rpartition('/')[2]}", source_name="s", published_at=NOW
        )
        for url in urls
    ]
    parts = {"lead": tuple(items[:1]), "briefs": tuple(items[1:])}
    return dump_snapshot(
        Snapshot(
            newsletter="daily", edition_date=DAY, revision=1, subject="s", preheader="p", date_line="d", language="en",
            direction="ltr", greeting="", intro="", sign_off="", makers=(),
            sections=tuple(
                SectionMade(id=name, block="briefs", heading=name.title(), intro="", items=found)
                for name, found in parts.items()
            ),
        )
    )  # fmt: skip


def a_sent_edition(engine: Engine, keys: Keys, number: int, urls: list[str] = STORIES) -> int:
    """An edition with three stories that *number* readers got, in batches of ten."""
    readers(engine, keys, number)
    edition_id = an_edition(engine)
    with writing(engine) as session:
        session.get_one(EditionRow, edition_id).snapshot = a_snapshot(urls)
    send_all(engine, Postman(), edition_id)
    return edition_id


def hear(engine: Engine, keys: Keys, *events: dict[str, Any], at: datetime = NOW) -> None:
    """What came back, processed."""
    inbox.append(engine, body_of(events), at=at)
    inbox.process(engine, keys, clock=lambda: at)


def of(kind: str, index: int, minutes: int = 0, **fields: Any) -> dict[str, Any]:
    """One event of reader *index*, who is in the batch of their ten."""
    agent = {"useragent": PERSON} if kind in ("open", "click") else {}
    reader = taken(index, batch=(index - 1) // 10 + 1)
    return told(kind, reader, NOW + timedelta(minutes=minutes), **{**agent, **fields})


def a_day(engine: Engine, keys: Keys) -> None:
    """A day whose numbers can be counted by hand: eight readers, two countries, people and programs."""
    a_sent_edition(engine, keys, 8)
    with writing(engine) as session:
        for row in session.exec(select(Subscriber)):
            row.country = "FR" if (row.id or 0) <= 5 else ""
    hear(
        engine, keys,
        *(of("delivered", index) for index in (1, 2, 3, 4, 5, 6)),
        of("bounce", 7), of("bounce", 8, type="blocked"),
        of("open", 1, 5), of("open", 1, 70), of("open", 2, 65), of("open", 2, 6, sg_machine_open=True),
        of("open", 3, 7, sg_machine_open=True), of("open", 4, 8, useragent="Barracuda Sentinel"),
        of("click", 1, 71, url=STORIES[0]), of("click", 1, 80, url=f"{STORIES[0]}?utm_source=daily#x"),
        of("click", 2, 66, url=STORIES[0]), of("click", 2, 67, url=STORIES[2]),
        *(of("click", 3, 1, url=url) for url in STORIES),
        of("click", 5, 9, url=f"https://mail.example/view/{'Zz9_' * 12}"),
        of("unsubscribe", 5, 10), of("spamreport", 6, 11),
    )  # fmt: skip


def test_a_day_is_counted_as_by_hand(engine: Engine, keys: Keys) -> None:
    """Every number of a small day, by every dimension."""
    a_day(engine, keys)

    with reading(engine) as session:
        found = edition_numbers(session, "daily", DAY)

    assert found is not None
    whole = Tally(
        submitted=8, delivered=6, opened=2, opened_by_program=2, clicked=3, clicked_by_program=1, unsubscribed=1,
        complained=1, bounced=1, blocked=1,
    )  # fmt: skip
    assert found.total == whole
    assert [(one.name, one.tally) for one in found.variants] == [("free", whole)]
    assert [(one.name, one.tally.delivered, one.tally.opened, one.tally.clicked, one.tally.bounced) for one in found.countries] == [("FR", 5, 2, 3, 0), ("unknown", 1, 0, 0, 1)]  # fmt: skip
    assert [(one.headline, one.section, one.position, one.readers, one.clicks, one.programs) for one in found.stories] == [
        ("About war", "lead", 1, 2, 3, 1), ("About peace", "briefs", 2, 0, 0, 1), ("About cats", "briefs", 3, 1, 1, 1),
    ]  # fmt: skip
    assert [(one.section, one.readers, one.clicks) for one in found.sections] == [
        ("lead", 2, 3),
        ("briefs", 1, 1),
    ]
    assert [(one.url, one.readers) for one in found.links] == [("https://mail.example/view/*", 1)]
    assert found.hours == (Hour(NOW, 1, 1), Hour(NOW + timedelta(hours=1), 1, 2))
    assert [(one.name, one.tally.opened, one.tally.opened_by_program) for one in found.clients] == [("web browser", 2, 1), ("other", 0, 1)]  # fmt: skip
    with reading(engine) as session:
        assert [(url, one.position, one.readers) for url, one in story_links(session, "daily", DAY).items()] == [
            (STORIES[0], 1, 2), (STORIES[1], 2, 0), (STORIES[2], 3, 1),
        ]  # fmt: skip
        assert [one.total for one in totals(session, "daily")] == [whole]
        assert totals(session, "daily", before=DAY - timedelta(days=1)) == []
        assert edition_numbers(session, "daily", DAY - timedelta(days=1)) is None


def test_any_order_repetition_and_ids_count_the_same(engine: Engine, keys: Keys) -> None:
    """A thousand events, a fifth of them twice, half of those under another id, shuffled, with rubbish between."""
    a_sent_edition(engine, keys, 40)
    dice = random.Random(9)
    kinds = ["delivered"] * 4 + ["open"] * 3 + ["click", "bounce", "spamreport", "unsubscribe"]
    events = [
        of(dice.choice(kinds), dice.randrange(1, 41), dice.randrange(600), url=dice.choice(STORIES))
        for _ in range(1000)
    ]
    expected: dict[str, set[str]] = defaultdict(set)
    for one in events:
        expected[one["event"]].add(one["nl_reader"])
    again = [
        {**one, "sg_event_id": f"x{n}"} if n % 2 else one for n, one in enumerate(dice.sample(events, 200))
    ]
    came: list[Any] = [*events, *again, *([None, "x", {"event": 7}] * 3)]
    dice.shuffle(came)

    for start in range(0, len(came), 250):
        hear(engine, keys, *came[start : start + 250], at=NOW + timedelta(days=1))
    with reading(engine) as session:
        found = edition_numbers(session, "daily", DAY)

    assert found is not None
    counted = (found.total.delivered, found.total.opened, found.total.bounced, found.total.complained, found.total.unsubscribed)  # fmt: skip
    assert counted == tuple(
        len(expected[kind]) for kind in ("delivered", "open", "bounce", "spamreport", "unsubscribe")
    )
    assert found.total.clicked + found.total.clicked_by_program == len(expected["click"])
    assert sum(part.tally.delivered for part in found.variants) == found.total.delivered


def test_a_link_is_the_same_wherever_it_stands(engine: Engine, keys: Keys) -> None:
    """The edition is corrected and its stories change places: clicks before and after are of the same stories."""
    a_sent_edition(engine, keys, 3)
    hear(engine, keys, of("click", 1, 1, url=STORIES[2]))
    with writing(engine) as session:
        row = EditionRow(newsletter="daily", edition_date=DAY, revision=2, status="submitted", made_at=NOW, frozen_at=NOW)  # fmt: skip
        row.snapshot = a_snapshot([STORIES[2], STORIES[0]])
        session.add(row)
    later = {**of("click", 2, 2, url=STORIES[2]), "nl_edition": "daily.2026-11-20.2"}
    hear(engine, keys, later)

    with reading(engine) as session:
        found = edition_numbers(session, "daily", DAY)

    assert found is not None
    assert [(one.url, one.position, one.readers) for one in found.stories if one.readers] == [
        (STORIES[2], 1, 2)
    ]


def test_events_go_and_numbers_stay(engine: Engine, keys: Keys) -> None:
    """After the time that is kept; what came of no edition goes, too, and nothing before its time."""
    a_day(engine, keys)
    hear(engine, keys, {"event": "new kind", "sg_event_id": "x"})
    keep = timedelta(days=30)
    with reading(engine) as session:
        before = edition_numbers(session, "daily", DAY), totals(session, "daily")[0].total

    assert prune_events(engine, now=NOW + keep, keep=keep) == 0
    assert prune_events(engine, now=NOW + keep + timedelta(seconds=1), keep=keep) == 1
    assert prune_events(engine, now=NOW + keep + timedelta(days=9), keep=keep) == 0

    with reading(engine) as session:
        assert session.exec(select(Event)).all() == []
        assert (edition_numbers(session, "daily", DAY), totals(session, "daily")[0].total) == before


def test_readers_are_new_active_cooling_or_gone(engine: Engine, keys: Keys) -> None:
    """By the month they joined, and when they last opened or clicked."""
    readers(engine, keys, 6)
    with writing(engine) as session:
        for index, (joined, seen) in enumerate([(300, 5), (300, 60), (300, 200), (300, None), (10, None), (10, 3)], start=1):  # fmt: skip
            session.get_one(Subscription, (index, "daily")).since = NOW - timedelta(days=joined)
            session.get_one(Subscriber, index).engaged_at = NOW - timedelta(days=seen) if seen else None

    with reading(engine) as session:
        found = cohorts(session, "daily", now=NOW)

    assert found == [Cohort("2026-01", active=1, cooling=1, gone=2), Cohort("2026-11", new=2)]


def test_weeks_are_kept_as_they_were(engine: Engine, keys: Keys) -> None:
    """By their Mondays; the last look of a week counts, and what changes later changes no week before."""
    readers(engine, keys, 4)
    with writing(engine) as session:
        for index, seen in enumerate([5, 28, 60], start=1):
            session.get_one(Subscriber, index).engaged_at = NOW - timedelta(days=seen)
        for index in (1, 2, 3):
            session.get_one(Subscription, (index, "daily")).since = NOW - timedelta(days=200)
    friday = NOW

    keep_week(engine, "daily", now=friday - timedelta(days=3))
    keep_week(engine, "daily", now=friday)
    keep_week(engine, "daily", now=friday + timedelta(days=7))
    keep_week(engine, "other", now=friday)
    with reading(engine) as session:
        found = weeks(session, "daily", now=friday + timedelta(days=30))
        last = weeks(session, "daily", now=friday + timedelta(days=30), last=1)

    assert found == [
        Cohort("2026-11-16", new=1, active=2, cooling=1),
        Cohort("2026-11-23", new=1, active=1, cooling=2),
    ]
    assert last == found[1:]


def test_the_page_holds_charts_tables_and_the_clicks(engine: Engine, keys: Keys) -> None:
    """Self-contained, without script; the same numbers are the same bytes."""
    a_day(engine, keys)
    with reading(engine) as session:
        found = edition_numbers(session, "daily", DAY, name="Daily & <Co>")
        assert found is not None
        mail = f'<html><head></head><body><a href="{STORIES[0]}">War</a><img src="https://x.example/p.png"></body></html>'
        made = [report_page(found, history=totals(session, "daily") * 2, cohorts=cohorts(session, "daily", now=NOW), weeks=[Cohort("2026-11-16", 1, 2, 3, 4), Cohort("2026-11-23", 2, 2, 3, 4)], html=mail) for _ in (1, 2)]  # fmt: skip

    assert made[0] == made[1]
    page = markup.document_fromstring(made[0])
    assert page.findtext(".//h1") == "Daily & <Co>, Friday, 20 November 2026"
    assert not page.findall(".//script") and "@import" not in made[0] and "url(" not in made[0]
    figures = page.xpath("//section[.//*[local-name()='svg']]")
    assert len(figures) >= 6 and all(one.xpath(".//table") for one in figures)
    ids = page.xpath("//@id")
    assert len(ids) == len(set(ids))
    (frame,) = page.xpath("//iframe")
    assert "sandbox" in frame.attrib and "2 · 33.3 %" in frame.get("srcdoc")


def test_a_click_map_opens_and_loads_nothing() -> None:
    """Links lead nowhere, nothing is fetched; the most clicked is the hottest."""
    links = [Link("https://a.example/1", readers=10), Link("https://a.example/2", readers=1)]
    mail = '<html><head></head><body><a href="https://a.example/1?utm_source=x">1</a><a href="https://a.example/2">2</a><a href="[[nl:view_url]]">v</a></body></html>'

    told_ = click_map(mail, links, 1000)

    assert "href" not in told_ and "default-src 'none'" in told_
    assert told_.index("hsl(10,") < told_.index("hsl(46,")
    assert (percent(0.314), percent(0.0012), percent(0)) == ("31.4 %", "0.12 %", "0.0 %")


def test_sparklines_begin_at_zero() -> None:
    """A steady row is flat at the top, a row of nothing at the bottom."""
    assert (sparkline([1, 4, 8]), sparkline([3, 3]), sparkline([0, 0]), sparkline([])) == (
        "▂▅█",
        "██",
        "▁▁",
        "",
    )


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation whose Today went out to two readers, one of whom clicked the lead."""
    folder = a_site(tmp_path / "site")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DATABASE_URL", "sqlite:///subscribers.db")
    from newsletter.settings import load_keys, load_settings
    from newsletter.store.session import open_store

    settings = load_settings()
    engine, keys = open_store(settings.database_url), load_keys(settings)
    a_sent_edition(engine, keys, 2)
    with writing(engine) as session:
        session.execute(update(EditionRow).values(newsletter="today"))
        session.execute(
            update(Rendering).values(html=zlib.compress(f'<a href="{STORIES[0]}">War</a>'.encode()))
        )
        assert session.exec(select(Batch)).all()
    events = [of("delivered", 1), of("delivered", 2), of("open", 1, 1), of("click", 1, 2, url=STORIES[0])]
    hear(engine, keys, *({**one, "nl_edition": "today.2026-11-20.1"} for one in events))
    engine.dispose()
    return folder


def test_the_command_tells_in_four_ways(site: Path) -> None:
    """In the terminal, as JSON, as CSV and as a page; and of all newsletters at once."""

    def report(*arguments: str) -> str:
        result = CliRunner().invoke(app, ["report", *arguments])
        assert result.exit_code == 0, result.output
        return result.stdout

    shown = report("today")
    assert "About war" in shown and "50.0 %" in shown
    document = json.loads(report("today", "--json"))
    assert (document["date"], document["total"]["clicked"], document["stories"][0]["readers"]) == (
        "2026-11-20",
        1,
        1,
    )
    assert document["cohorts"] == [] and document["weeks"] == []
    rows = list(csv.DictReader(io.StringIO(report("today", "--csv"))))
    assert [(row["of"], row["clicked"]) for row in rows if row["of"] in ("all", "story")] == [("all", "1"), ("story", "1"), ("story", "0"), ("story", "0")]  # fmt: skip
    assert max(len(line) for line in report().splitlines()) <= 80
    assert "cannot be written" in str(
        CliRunner().invoke(app, ["report", "today", "--html", "nowhere/r.html"]).exception
    )
    report("today", "--html", "report.html")
    assert "<svg" in Path("report.html").read_text(encoding="utf-8")
    assert "today" in report() and json.loads(report("--json"))["editions"][0]["newsletter"] == "today"
    assert (
        CliRunner()
        .invoke(app, ["report", "weekend"])
        .exception.args[0]
        .startswith("Nothing of weekend went out")
    )  # type: ignore[union-attr]


def test_two_editions_stand_side_by_side(site: Path) -> None:
    """Numbers, shares and their difference in points; a date without an edition is a sentence."""
    from newsletter.settings import load_settings
    from newsletter.store.session import open_store

    engine = open_store(load_settings().database_url)
    with writing(engine) as session:
        session.add(EditionRow(id=9, newsletter="today", edition_date=date(2026, 11, 19), status="submitted", made_at=NOW, frozen_at=NOW, audience=4))  # fmt: skip
        session.flush()
        session.add(Batch(edition_id=9, seq=1, variant="free", ids=b"", lo_id=1, hi_id=4, n=4, state="submitted", changed_at=NOW))  # fmt: skip
    engine.dispose()

    told = CliRunner().invoke(app, ["report", "today", "--beside", "2026-11-19"])
    document = json.loads(
        CliRunner().invoke(app, ["report", "today", "--beside", "2026-11-19", "--json"]).stdout
    )
    missing = CliRunner().invoke(app, ["report", "today", "--beside", "2026-11-18"])

    (opened,) = [line.split() for line in told.stdout.splitlines() if line.strip().startswith("opened")]
    assert opened == ["opened", "1", "50.0", "%", "0", "0.0", "%", "+50.0"]
    assert (document["beside"]["date"], document["beside"]["total"]["submitted"]) == ("2026-11-19", 4)
    assert "on 2026-11-18" in str(missing.exception)
