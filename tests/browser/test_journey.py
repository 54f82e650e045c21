"""
A reader's whole journey in a real browser: join, confirm, get an edition, read it online, choose, leave, undo.

At phone and desktop width, light and dark, in English and in Arabic. Every page is looked at by axe-core
(WCAG 2.2 A and AA and best practice), weighed, watched for requests to others, and must not scroll sideways.
With ``NEWSLETTER_SHOTS=docs/pages`` a contact sheet of each journey is kept.
"""

from __future__ import annotations

import base64
import json
import os
import re
from base64 import urlsafe_b64decode
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page

from newsletter.audience.tokens import Signer, TokenKind
from newsletter.settings import Settings, load_keys
from tests.browser.conftest import NOW, Site

pytestmark = pytest.mark.browser

SIZES = {"phone": (375, 812), "desktop": (1280, 900)}
PAGE_BYTES = 50_000
"""What a page may weigh on its way to the reader, the mail as it was sent included."""


class Traveller:
    """A reader at their browser: visits pages and has each of them examined."""

    def __init__(self, context: BrowserContext, site: Site) -> None:
        self.site = site
        self.page: Page = context.new_page()
        self.shots: list[bytes] = []
        self.strangers: set[str] = set()
        self.weights: dict[str, int] = {}
        self.page.on("request", lambda request: self._asked(request.url))
        self.page.on("response", lambda response: self._weigh(response))

    def _asked(self, url: str) -> None:
        """Ours is this installation, and the publication's own pictures in its mails."""
        if not url.startswith((self.site.url, "data:", "https://media.theparallel.example/")):
            self.strangers.add(url)

    def _weigh(self, response: object) -> None:
        kind = response.headers.get("content-type", "")  # type: ignore[attr-defined]
        if kind.startswith("text/html") and response.status < 300:  # type: ignore[attr-defined]
            self.weights[response.url] = response.request.sizes()["responseBodySize"]  # type: ignore[attr-defined]

    def go(self, path: str) -> None:
        """Open a page of ours."""
        answer = self.page.goto(path if path.startswith("http") else self.site.url + path)
        assert answer is not None and answer.status == 200, path
        self.examine()

    def press(self, selector: str = "main form button") -> None:
        """Press a button and examine what comes."""
        with self.page.expect_navigation():
            self.page.locator(selector).first.click()
        self.examine()

    def examine(self) -> None:
        """The page on screen: accessible, light enough, nobody else asked, nothing cut off."""
        found = Axe().run(self.page)
        faults = [
            (one["id"], one["impact"], [node["html"][:120] for node in one["nodes"]][:3])
            for one in found.response["violations"]
        ]
        assert faults == [], (self.page.url, faults)
        wide = self.page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        assert wide <= 0, f"{self.page.url} is {wide} px too wide"
        self.shots.append(self.page.screenshot(type="jpeg", quality=70))

    def link(self, text: str, kind: str) -> str:
        """The address of one of our links in a mail's text."""
        found = re.search(rf"{re.escape(self.site.url)}/{kind}/[\w-]+", text)
        assert found is not None, f"no /{kind}/ link in the mail"
        return found[0]


@pytest.fixture
def context(browser: Browser, request: pytest.FixtureRequest) -> Iterator[BrowserContext]:
    """A fresh visitor with a screen, a colour scheme and a language."""
    size, scheme, language = request.param
    width, height = SIZES[size]
    opened = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, locale=language,
        is_mobile=size == "phone", has_touch=size == "phone",
    )  # fmt: skip
    yield opened
    opened.close()


JOURNEYS = [
    (size, scheme, language) for size in SIZES for scheme in ("light", "dark") for language in ("en", "ar")
]


@pytest.mark.parametrize("context", JOURNEYS, indirect=True, ids=["-".join(one) for one in JOURNEYS])
def test_a_reader_joins_reads_chooses_leaves_and_returns(
    context: BrowserContext, site: Site, request: pytest.FixtureRequest
) -> None:
    """The whole way, every page examined; at its end the reader gets what they got before they left."""
    name = request.node.callspec.id
    address = f"{name}@mail.example"
    traveller = Traveller(context, site)
    page = traveller.page

    traveller.go("/subscribe")
    page.check("#nl-today")
    page.check("#nl-planet")
    page.fill("#email", address)
    page.wait_for_timeout(2200)  # as people do; a program is quicker
    traveller.press("main form button")

    traveller.go(traveller.link(site.notice_to(address), "confirm"))
    page.wait_for_timeout(1600)
    traveller.press()
    site.notice_to(address, 2)  # the welcome mail

    site.run("run", "--only", "today", "--all", "--now", NOW)
    (edition,) = site.mails(site.folder / "outbox", address)
    traveller.go(traveller.link(edition, "view"))

    traveller.go(traveller.link(edition, "preferences"))
    page.fill("#name", "Ann Ångström")
    page.check("#nl-economy")
    page.wait_for_timeout(1600)
    traveller.press("button[value=save]")
    assert page.input_value("#name") == "Ann Ångström" and not page.is_checked("#nl-economy")
    traveller.go(traveller.link(site.notice_to(address, 3), "confirm"))  # a mail's link makes nothing come
    page.wait_for_timeout(1600)
    traveller.press()
    site.notice_to(address, 4)  # the welcome to what is new

    traveller.go("/login")
    page.fill("#email", address)
    traveller.press("main form button")
    traveller.go(traveller.link(site.notice_to(address, 5), "login"))
    traveller.press()
    for path in ("/preferences/address", "/preferences/erase", "/preferences"):
        traveller.go(path)

    traveller.go(stay_link(site, traveller.link(edition, "u")))
    page.wait_for_timeout(1600)
    traveller.press()  # asked whether they still want it, they do

    traveller.go(traveller.link(edition, "u"))
    page.wait_for_timeout(1600)
    traveller.press("button[value=one]")
    traveller.press("form[action*=undo] button")

    traveller.go("/archive")
    traveller.go("/archive/today")
    traveller.go("/archive/today/2026-11-20")
    traveller.go("/archive/search?q=the")

    held = json.loads(site.run("subscribers", "show", address, "--json"))
    states = {one["newsletter"]: one["state"] for one in held["subscriptions"]}
    assert states == {"economy": "active", "planet": "active", "today": "active"}
    assert traveller.strangers == set()
    heavy = {url: size for url, size in traveller.weights.items() if size > PAGE_BYTES}
    assert heavy == {} and any("/view/" in url for url in traveller.weights)
    keep(context, name, traveller.shots)


def stay_link(site: Site, link: str) -> str:
    """The link by which the reader of another *link* says that they still want it."""
    token = urlsafe_b64decode(link.rpartition("/")[2])
    keys = load_keys(Settings(DATABASE_URL=f"sqlite:///{site.folder}/subscribers.db"))
    return f"/stay/{Signer(keys).sign(TokenKind.STAY, token[3:15].hex())}"


def keep(context: BrowserContext, name: str, shots: list[bytes]) -> None:
    """With ``NEWSLETTER_SHOTS`` set, one sheet of all pages of a journey."""
    folder = os.environ.get("NEWSLETTER_SHOTS", "")
    if not folder:
        return
    Path(folder).mkdir(parents=True, exist_ok=True)
    wide = 260 if name.startswith("phone") else 520
    pictures = "".join(
        f'<img width="{wide}" src="data:image/jpeg;base64,{base64.b64encode(one).decode()}">' for one in shots
    )
    sheet = context.new_page()
    sheet.set_viewport_size({"width": wide * 6 + 84, "height": 600})
    sheet.set_content(
        f'<body style="margin:12px;background:#888;display:flex;flex-wrap:wrap;gap:12px">{pictures}'
    )
    sheet.screenshot(path=str(Path(folder, f"{name}.jpg")), type="jpeg", quality=55, full_page=True)
    sheet.close()
