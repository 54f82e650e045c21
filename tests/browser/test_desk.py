"""
The editor's desk in a real browser: every control used, dragging included, and looked at by axe-core.

With ``NEWSLETTER_SHOTS=docs/desk`` pictures of the wall and of an edition are kept.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import NOW, Site, free_port, installation, running

pytestmark = pytest.mark.browser

SUBJECT = "{{ bits | join(', ') }}"
"""What ``today`` has for its subject: as a preheader it is worth a warning."""

QUIET_RULES = ("frame-tested",)
"""The mails in the frames are looked at by the proof and, as pages, by the readers' journey."""


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Site]:
    """The samples, collected, and ``newsletter preview`` as an editor starts it."""
    port = free_port()
    site = installation(tmp_path, f"http://127.0.0.1:{port}")
    with running(site, "preview", "--no-open", "--port", str(port), "--now", NOW, ready="/state"):
        yield site


@pytest.fixture
def page(browser: Browser, desk: Site) -> Iterator[Page]:
    """An editor's window; nothing but the desk and the mails' own pictures may be asked for."""
    context = browser.new_context(viewport={"width": 1500, "height": 1000})
    opened = context.new_page()
    strangers: list[str] = []
    faults: list[str] = []
    opened.on("request", lambda request: _stranger(request.url, desk.url, strangers))
    opened.on("pageerror", lambda error: faults.append(str(error)))
    yield opened
    assert (strangers, faults) == ([], [])
    context.close()


def _stranger(url: str, own: str, strangers: list[str]) -> None:
    if not url.startswith((own, "data:", "https://media.theparallel.example/")):
        strangers.append(url)


def examine(page: Page) -> None:
    """Accessible: no violation of serious or critical impact, nor of any other but the mails' own."""
    found = Axe().run(page, options={"iframes": False})
    faults = [
        (one["id"], one["impact"], [node["html"][:140] for node in one["nodes"]][:3])
        for one in found.response["violations"]
        if one["id"] not in QUIET_RULES
    ]
    assert faults == []


def shot(page: Page, name: str) -> None:
    """Keep a picture, where pictures are wanted."""
    if folder := os.environ.get("NEWSLETTER_SHOTS", ""):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(Path(folder, f"{name}.jpg")), type="jpeg", quality=60)


def stories(page: Page, section: str) -> list[str]:
    """The headlines of a section, in order."""
    return page.locator(f'ol[data-section="{section}"] .headline').all_inner_texts()


def mail(page: Page, width: int = 640) -> str:
    """The words of the mail in a frame."""
    return str(
        page.frame_locator(f'.holder[data-width="{width}"] iframe:not(.coming)').locator("body").inner_text()
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_wall_says_what_is_not_ready(page: Page, desk: Site, scheme: str) -> None:
    """Nine newsletters with all variants; a broken one stands out, in words, at once; keys lead to it."""
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.goto(desk.url)
    expect(page.locator("article.card")).to_have_count(9)
    expect(page.locator("#verdict")).to_have_text("9 of 9 ready.")
    assert page.locator(".thumbs li").count() == 20
    examine(page)
    shot(page, f"wall-{scheme}")

    template = desk.folder / "templates" / "planet" / "masthead.mjml.j2"
    template.write_text(template.read_text(encoding="utf-8") + "{{ nonsense.at_all }}", encoding="utf-8")
    expect(page.locator("#verdict")).to_contain_text("8 of 9 ready")
    expect(page.locator("article.broken")).to_contain_text("masthead.mjml.j2")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"/economy$"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_an_edition_is_looked_at_in_every_way(page: Page, desk: Site, scheme: str) -> None:
    """Widths, looks, parts, variants, language, tomorrow, a name; inbox lines, size, findings at their place."""
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.goto(f"{desk.url}/today")
    frame = page.frame_locator('.holder[data-width="640"] iframe:not(.coming)')
    expect(frame.locator("h1")).to_have_text("Parallel Today")
    expect(page.locator(".inbox .line")).to_have_count(6)
    expect(page.locator("#meter")).to_contain_text("with tracked links")
    examine(page)
    shot(page, f"edition-{scheme}")

    ground = "getComputedStyle(document.querySelector('.nl-p')).backgroundColor"
    seen = {}
    for look in ("light", "dark", "outlook", "gmail", "no-images"):
        page.select_option("#look", look)
        page.wait_for_function(
            "(look) => { const frame = document.querySelector('.holder[data-width=\"640\"] iframe:not(.coming)');"
            " const shown = frame && (new URL(frame.src).searchParams.get('look') ?? 'plain');"
            " return shown === look || (shown === 'plain' && look === 'light'); }",
            arg=look,
        )
        seen[look] = frame.locator("body").evaluate(f"() => {ground}")
    assert seen["light"] == seen["no-images"] == "rgb(255, 255, 255)"
    assert seen["dark"] == "rgb(27, 26, 24)" and seen["gmail"] == "rgb(26, 26, 26)"
    page.select_option("#look", "light")

    for part, words in (
        ("txt", "PARALLEL TODAY"),
        ("source", "<!doctype html>"),
        ("headers", "List-Unsubscribe-Post"),
    ):
        page.select_option("#part", part)
        expect(page.locator("pre.code")).to_contain_text(words, ignore_case=True)
    page.fill("#name", "Ann Lee")
    expect(page.locator("pre.code")).to_contain_text("To: Ann Lee")
    page.select_option("#part", "html")
    page.select_option("#variant", "paying+trial-ending")
    expect(frame.locator("body")).to_contain_text("Your trial ends")
    page.select_option("#language", "fr")
    expect(frame.locator("body")).to_contain_text("20 novembre")
    page.select_option("#language", "en-GB")
    page.select_option("#when", "tomorrow")
    expect(frame.locator("body")).to_contain_text("21 November")


def test_orders_are_given_by_hand_and_by_key(page: Page, desk: Site) -> None:
    """Dragged, moved, edited, dropped, brought in, worded; undone and redone; each stored with who."""
    page.set_viewport_size({"width": 1500, "height": 3000})  # the hand that drags sees where it goes
    page.goto(f"{desk.url}/today")
    expect(page.locator('ol[data-section="seven"] .story').first).to_be_visible()
    before = stories(page, "seven")
    light = stories(page, "light")[0]
    items = page.locator('ol[data-section="seven"] .story')

    items.nth(3).drag_to(items.nth(0))
    expect(items.first.locator(".headline")).to_have_text(before[3])
    page.locator('ol[data-section="light"] .story').first.drag_to(items.nth(1))
    expect(items.nth(1).locator(".headline")).to_have_text(light)

    items.first.focus()
    page.keyboard.press("Alt+ArrowDown")
    expect(items.nth(1).locator(".headline")).to_have_text(before[3])
    page.keyboard.press("u")
    expect(items.first.locator(".headline")).to_have_text(before[3])
    page.keyboard.press("r")
    expect(items.nth(1).locator(".headline")).to_have_text(before[3])

    items.first.focus()
    page.keyboard.press("e")
    examine(page)
    page.fill("#edit-headline", "A headline by hand")
    page.keyboard.press("Enter")
    expect(items.first.locator(".headline")).to_have_text("A headline by hand")
    expect(
        page.frame_locator('.holder[data-width="375"] iframe:not(.coming)').locator("body")
    ).to_contain_text("A headline by hand")

    items.nth(2).focus()
    gone = items.nth(2).locator(".headline").inner_text()
    page.keyboard.press("x")
    page.fill("#reason", "told yesterday")
    page.locator("dialog button.main").click()
    expect(page.locator('ol[data-section="seven"]')).not_to_contain_text(gone)

    page.keyboard.press("/")
    page.keyboard.type(gone[:20])
    page.locator("ol.dropped button").first.click()
    page.select_option("#where", "seven")
    page.fill("#position", "1")
    page.locator("dialog button.main").click()
    expect(items.first.locator(".headline")).to_have_text(gone)

    page.locator("#tab-words").click()
    page.fill("#words-greeting", "Good morning from Lima.")
    page.fill("#words-number\\.figure", "12")
    examine(page)
    page.get_by_role("button", name="Save the words").click()
    expect(
        page.frame_locator('.holder[data-width="640"] iframe:not(.coming)').locator("body")
    ).to_contain_text("Good morning from Lima.")

    page.locator("#tab-findings").click()
    examine(page)
    page.locator("#tab-orders").click()
    expect(page.locator(".orders li")).to_have_count(7)
    examine(page)
    page.locator("#undo").click()
    expect(page.locator(".orders li.undone")).to_have_count(1)
    page.locator("#redo").click()
    expect(page.locator(".orders li.undone")).to_have_count(0)
    page.keyboard.press("?")
    examine(page)
    told = desk.run("history", "today", "--json", "--now", NOW)
    assert "told yesterday" in told and "A headline by hand" in told


def test_a_save_is_seen_where_one_is_and_keeps_the_place(page: Page, desk: Site) -> None:
    """A template saved while the page is scrolled: new bytes, same scroll, same focus; a fault over the last good ones."""
    page.goto(f"{desk.url}/today")
    expect(page.locator('.holder[data-width="640"] iframe:not(.coming)')).to_be_visible()
    page.locator('ol[data-section="seven"] .story').nth(2).focus()
    page.evaluate("scrollTo(0, 900)")
    focused = page.evaluate("document.activeElement.dataset.key")

    template = desk.folder / "templates" / "today" / "masthead.mjml.j2"
    text = template.read_text(encoding="utf-8")
    template.write_text(
        text.replace("{{ newsletter.name }}</h1>", "{{ newsletter.name }} SAVED</h1>"), encoding="utf-8"
    )
    expect(page.frame_locator('.holder[data-width="640"] iframe:not(.coming)').locator("h1")).to_have_text(
        "Parallel Today SAVED"
    )
    assert page.evaluate("scrollY") == 900 and page.evaluate("document.activeElement.dataset.key") == focused

    template.write_text(text + "{{ nonsense.at_all }}", encoding="utf-8")
    expect(page.locator("#fault")).to_contain_text("masthead.mjml.j2, line")
    assert "Parallel Today SAVED" in mail(page)
    template.write_text(text, encoding="utf-8")
    expect(page.locator("#fault")).to_be_hidden()


def test_of_two_editors_the_later_is_asked(page: Page, desk: Site, browser: Browser) -> None:
    """The other's order is shown; theirs is kept, or mine is given again."""
    page.goto(f"{desk.url}/today")
    page.locator("#tab-words").click()
    page.fill("#words-greeting", "Mine.")

    desk.run("words", "today", "greeting=Theirs.", "--now", NOW)
    expect(
        page.frame_locator('.holder[data-width="640"] iframe:not(.coming)').locator("body")
    ).to_contain_text("Theirs.")
    page.get_by_role("button", name="Save the words").click()
    expect(page.locator("dialog")).to_contain_text("Somebody was quicker")
    page.get_by_role("button", name="Give mine again").click()
    expect(
        page.frame_locator('.holder[data-width="640"] iframe:not(.coming)').locator("body")
    ).to_contain_text("Mine.")


def test_what_two_editors_type_is_never_lost(page: Page, desk: Site, browser: Browser) -> None:
    """The later of two on one field is asked though its page has seen the other's; typed words survive; so does a refusal."""
    page.goto(f"{desk.url}/today")
    page.get_by_role("tab", name="Words").click()
    greeting = page.locator('[name="greeting"]')
    greeting.fill("Good morning from Quito.")
    page.locator("h1").click()

    desk.run("words", "today", "greeting=Good morning from Lima.", "--now", NOW)
    expect(
        page.frame_locator('.holder[data-width="640"] iframe:not(.coming)').locator("body")
    ).to_contain_text("Lima")
    expect(greeting).to_have_value("Good morning from Quito.")
    page.get_by_role("button", name="Save the words").click()
    dialog = page.locator("#dialog")
    expect(dialog).to_contain_text("Somebody was quicker")
    dialog.get_by_role("button", name="Keep theirs").click()
    expect(greeting).to_have_value("Good morning from Lima.")

    page.get_by_role("tab", name="Stories").click()
    page.locator('ol[data-section="lead"] li').get_by_role("button", name="Edit").click()
    dialog.locator('[name="standfirst"]').fill("A standfirst that took ten minutes.")
    dialog.locator('[name="headline"]').fill("")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog.get_by_role("alert")).to_contain_text("headline")
    expect(dialog.locator('[name="standfirst"]')).to_have_value("A standfirst that took ten minutes.")
    dialog.locator('[name="headline"]').fill("A headline again")
    dialog.get_by_role("button", name="Save").click()
    expect(page.locator('ol[data-section="lead"] .headline')).to_have_text("A headline again")

    desk.run("words", "today", "greeting=Good morning from Oslo.", "--now", NOW, actor="tom")
    expect(
        page.frame_locator('.holder[data-width="640"] iframe:not(.coming)').locator("body")
    ).to_contain_text("Oslo")
    page.keyboard.press("u")
    expect(dialog).to_contain_text("tom")
    dialog.get_by_role("button", name="Leave it").click()
    expect(
        page.frame_locator('.holder[data-width="640"] iframe:not(.coming)').locator("body")
    ).to_contain_text("Oslo")


def test_it_is_let_go_and_held_again(page: Page, desk: Site) -> None:
    """By key and by button; a warning wants its tick where approval is required; what is approved is what was seen."""
    rules = desk.folder / "templates" / "today" / "newsletter.toml"
    text = rules.read_text(encoding="utf-8").replace(
        'thin_day = "hold"', 'thin_day = "hold"\napproval = "required"'
    )
    rules.write_text(text.replace('preheader = "', f'preheader = "{SUBJECT}" # "'), encoding="utf-8")
    page.goto(f"{desk.url}/today")
    expect(page.locator("#verdict")).to_contain_text("warning")
    expect(page.locator("#approve")).to_be_enabled()

    page.keyboard.press("a")
    dialog = page.locator("#dialog")
    expect(dialog).to_contain_text("Each warning wants your word")
    examine(page)
    shot(page, "approve")
    dialog.get_by_role("button", name="Approve").click()
    expect(dialog).to_be_visible()  # the tick is missing
    for tick in dialog.locator('input[name="despite"]').all():
        tick.check()
    dialog.get_by_role("button", name="Approve").click()
    expect(page.locator("#facts")).to_contain_text("approved")
    shown = page.locator("#facts").get_attribute("title")
    told = json.loads(desk.run("status", "today", "--date", "2026-11-20", "--json"))["editions"][0]
    assert (told["status"], told["hash"]) == ("approved", shown)

    page.locator("#hold").click()
    dialog.get_by_label("Why").fill("Lima is late")
    dialog.get_by_role("button", name="Hold").click()
    expect(page.locator("#verdict")).to_contain_text("Lima is late")


def test_pictures_of_every_variant(desk: Site) -> None:
    """Light and dark, phone beside desktop, as tall as the mail."""
    desk.run("preview", "letter", "--png", "shots", "--now", NOW)

    taken = {path.name: path.read_bytes() for path in (desk.folder / "shots" / "letter").iterdir()}
    assert set(taken) == {
        f"{variant}-{look}.png" for variant in ("free", "paying") for look in ("light", "dark")
    }
    for data in taken.values():
        width, height = (int.from_bytes(data[at : at + 4], "big") for at in (16, 20))
        assert width == 375 + 640 + 3 * 24 and 1_500 < height < 6_000
