"""The front page of a real day, and three real days in a row, read as an editor would."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.builders import ROOT, a_site, the_catalogue
from tests.shared.test_days_shared import FEEDS, newsletter

pytestmark = pytest.mark.shared
GOLD = ROOT / "tests" / "gold"
NOW, DAY = "2026-02-18T02:20:00Z", "2026-02-17"


def table(name: str) -> list[dict[str, str]]:
    """The lines of a table of the gold set."""
    with (GOLD / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def picked(site: Path, slug: str, now: str, *more: str) -> list[dict[str, Any]]:
    """What a newsletter picked."""
    return newsletter(site, "picks", slug, "--now", now, *more)[1]["picked"]  # type: ignore[no-any-return]


def test_the_front_page_is_an_editors(tmp_path: Path) -> None:
    """Most of the important stories, none twice, from all over the world, no promotion, no lead met twice."""
    site = a_site(tmp_path / "site")
    newsletter(site, "subscribers", "import", "samples/subscribers.csv", "--now", NOW)
    newsletter(site, "run", "--all", "--from", str(FEEDS), "--date", DAY, "--now", NOW)
    articles = {row["url"]: row for row in newsletter(site, "articles", "--now", NOW)[1]["articles"]}
    story = {row["story"]: {row["url"]} for row in table(f"{DAY}.tsv") if row["story"]}
    for row in table(f"{DAY}.tsv"):
        if row["story"]:
            story[row["story"]].add(row["url"])
    important = [story.get(row["story"], {row["url"]}) for row in table("important.tsv")]

    nine = {one.slug: picked(site, one.slug, NOW, "--date", DAY) for one in the_catalogue().newsletters}

    today = {pick["url"] for pick in nine["today"]}
    everywhere = {pick["url"] for picks in nine.values() for pick in picks}
    assert sum(bool(urls & today) for urls in important) >= 6
    assert sum(bool(urls & everywhere) for urls in important) >= 8
    assert len({articles[url]["region"] for url in today}) >= 4
    assert "promo" not in {articles[url]["kind"] for url in everywhere}
    for picks in nine.values():
        told = [pick["story"] for pick in picks]
        assert len(told) == len(set(told))
    for newsletter_, section in (
        (one, section) for one in the_catalogue().newsletters for section in one.sections
    ):
        mine = [articles[pick["url"]] for pick in nine[newsletter_.slug] if pick["section"] == section.id]
        for cap, key in ((section.per_source, "source"), (section.per_country, "countries")):
            counts = Counter(
                str(one[key][:1] if key == "countries" else one[key]) for one in mine if one[key]
            )
            assert not cap or max(counts.values(), default=0) <= cap
    no_reader_meets_a_lead_twice(nine)


def no_reader_meets_a_lead_twice(nine: dict[str, list[dict[str, Any]]]) -> None:
    """Nobody of the sample audience who gets three newsletters or more: neither at two heads nor below one."""
    with (ROOT / "samples" / "subscribers.csv").open(encoding="utf-8", newline="") as file:
        gets = [row["newsletters"].split("|") for row in csv.DictReader(file) if row["status"] == "active"]
    heads = {one.slug: one.sections[0].id for one in the_catalogue().newsletters}
    leads = {
        slug: {pick["story"] for pick in picks if pick["section"] == heads[slug]}
        for slug, picks in nine.items()
    }
    many = [slugs for slugs in gets if len(slugs) >= 3]
    assert len(many) > 20
    for slugs in many:
        for slug in slugs:
            elsewhere = {pick["story"] for other in slugs if other != slug for pick in nine[other]}
            assert leads[slug].isdisjoint(elsewhere)


def test_three_days_repeat_only_what_has_moved_on(tmp_path: Path) -> None:
    """On the second and third day nothing is told again without saying that it is an update."""
    site = a_site(tmp_path / "site")
    newsletter(site, "subscribers", "import", "samples/subscribers.csv", "--now", "2021-09-19T00:20:00Z")
    told: set[str] = set()
    urls: set[str] = set()
    for day in (19, 20, 21):
        now = f"2021-09-{day}T12:00:00Z"
        newsletter(
            site,
            "run",
            "--only",
            "today",
            "--all",
            "--from",
            str(FEEDS / "series" / f"2021-09-{day}"),
            "--now",
            now,
        )

        picks = picked(site, "today", now)

        assert len(picks) >= 8
        assert not urls & {pick["url"] for pick in picks}
        for pick in picks:
            is_update = any(reason.startswith("updated: ") for reason in pick["reasons"])
            assert is_update or pick["story"] not in told
        told |= {pick["story"] for pick in picks}
        urls |= {pick["url"] for pick in picks}
