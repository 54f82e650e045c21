"""The text part: the same stories in the same order with the same links as the HTML, set for 72 columns."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from lxml import html

from newsletter.edition import for_variant
from newsletter.rendering.engine import Renderer
from newsletter.rendering.plaintext import TEXT_COLUMNS, Links, columns, wrap
from tests.builders import the_catalogue
from tests.snapshots import a_snapshot, an_item

CATALOGUE = the_catalogue()
RENDERER = Renderer(CATALOGUE)
SLUGS = [newsletter.slug for newsletter in CATALOGUE.newsletters]
ADDRESS = re.compile(r"(?:https?://|mailto:|\[\[nl:)\S+")
LISTED = re.compile(r"^\[(\d+)\] (\S+)$", re.MULTILINE)
NOTED = re.compile(r"(?<=\S)\s\[(\d+)\]")


@pytest.mark.parametrize("slug", SLUGS)
def test_both_parts_hold_the_same_links_in_the_same_order(slug: str) -> None:
    """Stories, words, offers, adverts and what leads out of a paragraph, in every variant."""
    snapshot = a_snapshot(CATALOGUE, slug)
    for rendered in RENDERER.render_all(snapshot):
        hrefs = [link.get("href") for link in html.document_fromstring(rendered.html).iter("a")]
        addresses = ADDRESS.findall(rendered.text)
        stories = {item.url for item in for_variant(snapshot, rendered.variant).items}

        assert list(dict.fromkeys(addresses)) == list(dict.fromkeys(hrefs)), rendered.variant
        assert stories <= set(addresses)


@pytest.mark.parametrize("slug", SLUGS)
def test_every_number_is_listed_where_its_part_ends(slug: str) -> None:
    """From 1 without a gap; a number means one address, and stands above the list that names it."""
    for rendered in RENDERER.render_all(a_snapshot(CATALOGUE, slug)):
        listed = [(int(number), url) for number, url in LISTED.findall(rendered.text)]
        numbers = dict(listed)

        assert sorted(numbers) == list(range(1, len(numbers) + 1)) and len(set(listed)) == len(numbers)
        waiting: set[str] = set()
        for line in rendered.text.splitlines():
            if found := LISTED.match(line):
                waiting.discard(found[1])
            else:
                waiting |= set(NOTED.findall(line))
        assert waiting == set(), rendered.variant


@pytest.mark.parametrize("slug", SLUGS)
def test_no_line_is_too_long_and_nothing_is_debris(slug: str) -> None:
    """72 columns but for addresses; no markup, no entity, no mark for a direction that nothing needs."""
    for rendered in RENDERER.render_all(a_snapshot(CATALOGUE, slug)):
        for line in rendered.text.splitlines():
            assert columns(line) <= TEXT_COLUMNS or ADDRESS.search(line), line
        assert not re.search(r"<[a-z/]|&\w+;|\u00a0|\u2068[ -~]*\u2069", rendered.text)


def test_a_link_keeps_its_number_and_is_listed_again() -> None:
    """Where a later part names it."""
    links = Links()

    assert (
        links.linked('See <a href="https://a.example/?b=1&amp;c=2">the <em>plan</em></a>.')
        == "See the plan\u00a0[1]."
    )
    assert links.listed() == "[1] https://a.example/?b=1&c=2"
    assert links.listed() == ""
    assert links.noted("More", "https://b.example/") + links.noted("", "") == "More\u00a0[2]"
    assert links.noted("Again", "https://a.example/?b=1&c=2") == "Again\u00a0[1]"
    assert links.listed() == "[2] https://b.example/\n[1] https://a.example/?b=1&c=2"


def test_lines_break_where_their_script_breaks() -> None:
    """Japanese between any two letters but before what closes; a number never begins a line."""
    japanese = wrap("風の音を消すために、羽根の形を髪の毛一本分だけ変える。" * 4, 4, "1.  ")
    english = wrap("word " * 13 + "last seven\u00a0[12]")

    assert {columns(line) for line in japanese.splitlines()[:-1]} <= {70, 71, 72}
    assert all(line.startswith("    ") and line[4] not in "、。" for line in japanese.splitlines()[1:])
    assert english.splitlines()[1] == "seven [12]"


@pytest.mark.parametrize(("direction", "name", "kept"), [("ltr", "المنارة", True), ("ltr", "La Stampa", False), ("rtl", "La Stampa", True), ("rtl", "المنارة", False)])  # fmt: skip
def test_only_what_runs_the_other_way_is_isolated(direction: str, name: str, kept: bool) -> None:
    """In an English edition an Arabic name, in an Arabic one a Latin one."""
    snapshot = a_snapshot(CATALOGUE, "economy")
    section = replace(snapshot.sections[-1], items=(an_item(1, source_name=name),))
    text = RENDERER.render(replace(snapshot, sections=(section,), direction=direction), "paying").text

    assert (f"\u2068{name}\u2069" in text) == kept and name in text
