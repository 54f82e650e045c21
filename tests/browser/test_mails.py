"""
Every mail in a real browser: nothing for axe to find, nothing wider than a narrow phone, links fit for fingers.

Pictures are not loaded, so all of it is also what a mailbox shows that loads none.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from newsletter.rendering.engine import Renderer
from tests.builders import the_catalogue
from tests.snapshots import a_snapshot

pytestmark = pytest.mark.browser
CATALOGUE = the_catalogue()
RENDERER = Renderer(CATALOGUE)
MAILS = [
    pytest.param(rendered.html, id=f"{newsletter.slug}-{rendered.variant}")
    for newsletter in CATALOGUE.newsletters
    for rendered in RENDERER.render_all(a_snapshot(CATALOGUE, newsletter.slug))
]
NARROWEST = 320
FINGER = 44
OF_SITES = {"region": {"enabled": False}, "landmark-one-main": {"enabled": False}}

TALL = """least => [...document.querySelectorAll('a')]
  .filter(link => link.getClientRects().length && getComputedStyle(link).display !== 'inline')
  .map(link => [link.textContent.trim(), link.getBoundingClientRect().height])
  .filter(([, height]) => height < least - 0.5)"""
IN_LINE = """() => [...document.querySelectorAll('a')]
  .filter(link => getComputedStyle(link).display === 'inline' && !link.querySelector('img') && link.parentElement.textContent.trim() === link.textContent.trim())
  .map(link => link.textContent.trim())"""
TWICE = """() => {
  const all = [...document.body.querySelectorAll('*')].map(one => [one, getComputedStyle(one)]);
  const sizes = all.map(([one, style]) => [one, parseFloat(style.fontSize), parseFloat(style.lineHeight)]);
  for (const [one, size, line] of sizes) {
    one.style.setProperty('font-size', 2 * size + 'px', 'important');
    if (line) one.style.setProperty('line-height', 2 * line + 'px', 'important');
  }
}"""
CUT = """() => [...document.body.querySelectorAll('*')]
  .filter(one => one.scrollWidth > one.clientWidth + 1 && one.clientWidth && getComputedStyle(one).overflowX === 'hidden')
  .map(one => one.textContent.trim().slice(0, 60))"""


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:
    """One window for all of them, in which nothing is loaded from elsewhere."""
    opened = browser.new_page(viewport={"width": 640, "height": 900})
    opened.route("**/*", lambda route: route.abort())
    yield opened
    opened.close()


def show(page: Page, mail: str, width: int, scheme: Any = "light") -> None:
    """A mail at a width."""
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)
    page.set_content(mail)


def overflow(page: Page) -> int:
    """By how many pixels the page is wider than the window."""
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


@pytest.mark.parametrize("mail", MAILS)
def test_axe_finds_nothing(page: Page, mail: str) -> None:
    """Of any impact, by all its rules but those for whole sites, in light and in dark."""
    for scheme in ("light", "dark"):
        show(page, mail, 640, scheme)
        found = Axe().run(page, options={"iframes": False, "rules": OF_SITES})
        assert [(one["id"], one["nodes"][0]["html"]) for one in found.response["violations"]] == [], scheme


@pytest.mark.parametrize("mail", MAILS)
def test_nothing_is_wider_than_the_narrowest_phone(page: Page, mail: str) -> None:
    """Neither as it is, nor without styles, as a mailbox shows what it cut or does not trust."""
    show(page, mail, NARROWEST)
    assert overflow(page) == 0
    page.evaluate("document.querySelectorAll('style').forEach(one => one.remove())")
    assert overflow(page) <= 0


@pytest.mark.parametrize("mail", MAILS)
def test_text_of_twice_the_size_fits(page: Page, mail: str) -> None:
    """On a phone and on a desktop: nothing wider than the window, nothing cut off."""
    for width in (375, 640):
        show(page, mail, width)
        page.evaluate(TWICE)
        assert (overflow(page), page.evaluate(CUT)) == (0, []), width


@pytest.mark.parametrize("mail", MAILS)
def test_links_are_fit_for_fingers(page: Page, mail: str) -> None:
    """44 pixels high, but for links within a sentence."""
    show(page, mail, 375)
    assert page.evaluate(TALL, FINGER) == []
    assert page.evaluate(IN_LINE) == []


@pytest.mark.parametrize("mail", MAILS)
def test_without_pictures_and_styles_it_reads(page: Page, mail: str) -> None:
    """Every picture that means something says what it shows; what is hidden stays hidden; foreign lines say so."""
    show(page, mail, 375)
    page.evaluate("document.querySelectorAll('style').forEach(one => one.remove())")
    assert page.locator("img:not([alt])").count() == 0
    assert page.locator("div").first.evaluate("one => getComputedStyle(one).display") == "none"
    assert "\u200c" in (page.locator("div").first.text_content() or "")
    assert page.locator("h1").count() == 1
    for line in page.locator("[dir=rtl]").all():
        assert line.get_attribute("lang") == "ar"
    assert page.locator("table:not([role=presentation])").count() == 0
