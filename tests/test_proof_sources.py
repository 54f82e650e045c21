"""What sources do oddly, and what only a person can decide, is told and never blocks."""

from __future__ import annotations

from datetime import timedelta
from html import escape
from typing import Any

import pytest

from newsletter.articles import Article, Image, Rights, canonical_url
from newsletter.makeup import make_snapshot
from newsletter.picking.picks import Pick, Picks
from newsletter.rendering.findings import Severity
from tests.test_proof import CATALOGUE, GOOD, NOW, edition, picked, story


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("placeholder", {"headline": "Lorem ipsum is printed by mistake in five papers"}),
        ("link-private", {"url": "https://10.1.2.3/story"}),
        ("link-private", {"image": Image("https://192.168.1.4/a.jpg", "A boat", "A boat.", "Ann Osei", 1200, 800)}),
        ("mojibake", {"standfirst": "A cafÃ© closes after forty years on the square."}),
        ("link-private", {"standfirst": "Open http://localhost:3000/ and see, says the ministry of its new register."}),
        ("link-syntax", {"paragraphs": ('See <a href="https://exa_mple..org/">the plan</a>.',)}),
    ],
)  # fmt: skip
def test_what_a_source_does_oddly_never_blocks(code: str, changes: dict[str, Any]) -> None:
    """Told as a warning: a bad source never costs an edition."""
    found = story(anew=True, **changes)(GOOD).found()

    assert code in {one.code for one in found}
    assert {one.severity for one in found} <= {Severity.WARNING, Severity.NOTE}


HOSTILE = "{{ x }} [[nl:unsubscribe_url]] <% y %> *|z|* A &amp; B <b  class=c>bold</b> \u202e"


@pytest.mark.parametrize("slug", ["today", "letter"])
def test_a_hostile_feed_costs_no_edition(slug: str) -> None:
    """Through make-up and rendering: tokens, markup and addresses of a feed are words and nothing more."""
    picks = [
        Pick("lead" if slug == "today" else "letter", 1, an_article(HOSTILE), 1.0, ()),
    ]
    snapshot = make_snapshot(
        CATALOGUE[slug], CATALOGUE.publication, Picks(slug, tuple(picks), (), ()), edition_date=NOW.date()
    )

    found = edition(slug, snapshot).found()

    assert {one.code for one in found if one.severity is Severity.ERROR} == set()


def an_article(words: str) -> Article:
    """A story whose source writes *words* wherever it can."""
    return Article(
        url=canonical_url("https://evil.example/a?[[nl:view_url]]={{x}}"), source="the-parallel", headline=words.replace("\u202e", ""),
        published_at=NOW - timedelta(hours=1), first_seen_at=NOW - timedelta(hours=1), source_name=words, kicker=words,
        standfirst=words.replace("\u202e", ""), byline=words, dateline=words, rights=Rights.OWN, language="en",
        body=f'<p>{escape(words)} <a href="https://evil.example/?u=[[nl:unsubscribe_url]]">x</a> <a href="http://10.0.0.1/ {{{{a}}}}">y</a></p>',
        image=Image("https://evil.example/p.png?u=[[nl:unsubscribe_url]]", words, words, words, 900, 600),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("one", "other", "is_told"),
    [
        ("Amaya Lindqvist", "Amaya Lindquist", True), ("Recep Erdogan", "Recep Erdoğan", True),
        ("Mohammad Yunus", "Muhammad Yunus", True), ("Prime Minister", "Prime Ministers", False),
        ("North Korea", "South Korea", False), ("Ann Osei", "Ben Osei", False), ("Зоя Петрова", "Зоя Пётрова", True),
        ("Amaya Lindqvist", "Amaya Lindqvist’s", False), ("First Avenue", "Fifth Avenue", False),
    ],
)  # fmt: skip
def test_a_name_in_two_spellings_is_told(one: str, other: str, is_told: bool) -> None:
    """A note, never more; neighbours, plurals and possessives are no spellings."""
    desk = picked(intro=f"We met {one} on the quay.", sign_off=f"Later, {other} wrote to us.", makers=())(
        GOOD
    )

    found = {found.code: found.message for found in desk.found()}

    assert set(found) == ({"name-spelling"} if is_told else set())
