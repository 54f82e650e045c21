"""Stories and choices through the command line, on the shipped samples."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from newsletter.cli.main import app
from newsletter.desk import Desk
from newsletter.feeds.stored import load_articles
from newsletter.settings import load_settings
from newsletter.store.session import reading
from tests.builders import a_feed, a_site

NOW = "2026-11-20T04:00:00Z"
ITEM = (
    "<item><title>{title}</title><link>https://{paper}.example/ferry</link><pubDate>Thu, 19 Nov 2026 20:00:00 GMT</pubDate>"
    "<description>A ferry sank off Zanzibar on Thursday, dozens are missing.</description></item>"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site that has read the samples and two papers that tell of one ferry."""
    folder = a_site(tmp_path_factory.mktemp("site"))
    for paper, title in (
        ("harbour", "Ferry sinks off Zanzibar, dozens missing"),
        ("island", "Dozens missing as ferry sinks off Zanzibar"),
    ):
        feed = a_feed("2026-11-19T20:00:00+00:00", range(3), paper=paper)
        item = ITEM.format(title=title, paper=paper)
        (folder / f"{paper}.rss").write_text(
            feed.replace("</channel>", f"{item}</channel>"), encoding="utf-8"
        )
    return folder


def test_old_stories_are_not_the_days(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was fetched today but published long ago is no story of the last two days."""
    old = ITEM.format(title="Old ferry sinks off Zanzibar, dozens missing", paper="{paper}").replace(
        "2026", "2017"
    )
    for paper in ("harbour", "island"):
        feed = a_feed("2017-11-19T20:00:00+00:00", range(1), paper=f"old-{paper}")
        entry = old.format(paper=f"old-{paper}").replace("Old ferry", "Ferry")
        (site / f"old-{paper}.rss").write_text(
            feed.replace("</channel>", f"{entry}</channel>"), encoding="utf-8"
        )
    run(site, monkeypatch, "collect", "old-harbour.rss", "old-island.rss")

    assert "old-harbour" not in run(site, monkeypatch, "stories", "list")
    assert "old-harbour" in run(site, monkeypatch, "stories", "list", "--hours", "100000")


def run(site: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str, code: int = 0) -> str:
    """Run a command in *site*; its output."""
    monkeypatch.chdir(site)
    result = CliRunner().invoke(app, [*arguments, "--now", NOW])
    assert result.exit_code == code, result.output
    return result.output


def test_stories_are_found_split_and_merged_by_a_word(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two papers tell one story; an editor splits it, and the word holds for the next collect; and merges it."""
    run(site, monkeypatch, "collect", "harbour.rss", "island.rss", "samples/feeds")

    def story_of() -> dict[str, str]:
        rows = json.loads(run(site, monkeypatch, "articles", "--json"))["articles"]
        return {row["url"]: row["story"] for row in rows}

    one, other = "https://harbour.example/ferry", "https://island.example/ferry"
    before = story_of()
    assert before[one] == before[other]
    assert "Ferry sinks off Zanzibar" in run(site, monkeypatch, "stories", "list")

    assert "apart from the other now" in run(site, monkeypatch, "stories", "split", other)
    apart = story_of()
    assert before[one] in (apart[one], apart[other]) and apart[one] != apart[other]

    run(site, monkeypatch, "stories", "merge", one, other)
    together = story_of()
    assert together[one] == together[other]
    assert sum(before[url] != story for url, story in together.items()) == 0


def test_the_next_collect_goes_on_from_the_last(
    site: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One process, two fetches: the second paper's telling joins the first one's story, which keeps its id."""
    monkeypatch.chdir(site)
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/again.db")
    desk = Desk.open(load_settings())
    now = datetime.fromisoformat(NOW)

    def stories() -> dict[str, str]:
        with reading(desk.engine) as session:
            found = load_articles(session, since=now - timedelta(days=5), until=now)
        return {article.url: article.story for article in found}

    desk.collect(["harbour.rss"], now=now - timedelta(minutes=15))
    before = stories()
    desk.collect(["island.rss"], now=now)
    after = stories()
    desk.engine.dispose()

    assert before == {url: story for url, story in after.items() if url in before}
    assert after["https://island.example/ferry"] == before["https://harbour.example/ferry"]


def test_a_choice_is_explained_and_others_tried(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The conversation, one article's whole way, and the choice with other weights beside it."""
    run(site, monkeypatch, "collect", "samples/feeds")
    (site / "weights.toml").write_text("[weights]\nregions = { Africa = 5 }\n", encoding="utf-8")

    picks = json.loads(run(site, monkeypatch, "picks", "today", "--json"))
    lead = picks["picked"][0]
    talk = run(site, monkeypatch, "picks", "today")
    way = json.loads(run(site, monkeypatch, "picks", "today", "--explain", lead["url"], "--json"))
    tried = json.loads(run(site, monkeypatch, "picks", "today", "--what-if", "weights.toml", "--json"))

    assert lead["headline"] in talk and "Turned away by the rules" in talk
    assert way["verdict"].startswith("runs in lead, place 1") and way["points"] == lead["reasons"]
    assert any(row["score"] != row["score_then"] for row in tried["stories"])
    dropped = next(drop for drop in picks["dropped"] if drop["points"])
    assert "does not run" in run(site, monkeypatch, "picks", "today", "--explain", dropped["url"])
    monkeypatch.chdir(site)
    unknown = CliRunner().invoke(app, ["picks", "today", "--explain", "https://no.example/1", "--now", NOW])
    assert unknown.exit_code == 1 or "is not among the articles" in str(unknown.exception)
