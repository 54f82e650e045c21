"""The proof's contrast is the browser's: axe-core in Chromium finds the same colours hard to read, light and dark."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from newsletter.edition import Rendered
from newsletter.rendering.engine import Renderer
from newsletter.rendering.proof import proof
from tests.builders import the_catalogue
from tests.snapshots import a_snapshot

pytestmark = pytest.mark.browser
NOW = datetime(2026, 11, 20, 4, 0, tzinfo=UTC)
CATALOGUE = the_catalogue()
RENDERER = Renderer(CATALOGUE)
SLUGS = [newsletter.slug for newsletter in CATALOGUE.newsletters]
OF_CONTRAST = {"contrast-light", "contrast-dark", "unreadable"}

PLANTED = (
    (r"color:#605c53", "color:#8f8b80"),  # the quiet grey, paler
    (r"color: #b1ac9f !important", "color: #5f5b50 !important"),  # the dark mode's, darker
    (r"color: #eeebe3 !important", "color: inherit"),  # ink stays black on black
    (r"background-color:#eef5f3", "background-color:#0b5d57"),  # the tint becomes the accent
    (r'bgcolor="#[0-9a-f]{6}"', 'bgcolor="#777777"'),
    (r"color:#0b5d57", "color:#4e9a94"),  # links, fit for large type only
    (r"font-weight:(600|700)", "font-weight:400"),
)  # fmt: skip


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A desktop's window in which nothing is loaded from elsewhere."""
    opened = browser.new_page(viewport={"width": 900, "height": 900})
    opened.route("**/*", lambda route: route.abort())
    yield opened
    opened.close()


def axe_finds(page: Page, html: str, scheme: str) -> set[str]:
    """The pairs of colours axe-core calls hard to read; of equal colours it says that it cannot tell."""
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.set_content(html)
    found = Axe().run(page, options={"iframes": False, "runOnly": ["color-contrast"]})
    return {
        f"{check['data']['fgColor']} on {check['data']['bgColor']}"
        for kind in ("violations", "incomplete")
        for rule in found.response[kind]
        for node in rule["nodes"]
        for check in node["any"]
        if kind == "violations" or check["data"].get("messageKey") == "equalRatio"
    }


def proof_finds(slug: str, rendered: Rendered, scheme: str) -> set[str]:
    """The same of the proof."""
    found = proof(
        CATALOGUE[slug], CATALOGUE.publication, a_snapshot(CATALOGUE, slug), (rendered,),
        base_url="https://m.example.org", now=NOW,
    )  # fmt: skip
    told = [
        re.search(r"(#\w{6} on #\w{6}) \((light|dark)\)", one.message)
        for one in found
        if one.code in OF_CONTRAST
    ]
    return {one[1] for one in told if one and one[2] == scheme}


@pytest.mark.parametrize("slug", SLUGS)
def test_the_nine_are_readable_in_light_and_dark(page: Page, slug: str) -> None:
    """Both say so, of every variant."""
    for rendered in RENDERER.render_all(a_snapshot(CATALOGUE, slug)):
        for scheme in ("light", "dark"):
            assert axe_finds(page, rendered.html, scheme) == proof_finds(slug, rendered, scheme) == set()


@pytest.mark.parametrize(("old", "new"), PLANTED)
def test_what_axe_finds_the_proof_finds(page: Page, old: str, new: str) -> None:
    """The same pairs, in light and in dark, and not one more."""
    free, *_ = RENDERER.render_all(a_snapshot(CATALOGUE, "today"))
    changed = replace(free, html=re.sub(old, new, free.html))
    assert changed.html != free.html

    for scheme in ("light", "dark"):
        assert proof_finds("today", changed, scheme) == axe_finds(page, changed.html, scheme)
