"""The report page in a real browser: light and dark, desktop and phone, looked at by axe-core."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

from newsletter.reports.numbers import Cohort, EditionNumbers, Hour, Link, Part, Tally
from newsletter.reports.page import report_page
from tests.test_outbox import NOW
from tests.test_reports import DAY

pytestmark = pytest.mark.browser

WHOLE = Tally(9000, 8900, 4000, 900, 1200, 40, 12, 3, 60, 20, 5)
HALF = Tally(0, 4000, 1800, 300, 500, 10, 4, 1)


def a_report() -> str:
    """A page with every chart there is."""
    story = Link(
        "https://news.example/1",
        "A headline that is longer than any phone is wide, and then some",
        "lead",
        1,
        700,
        900,
        30,
    )
    parts = (Part("FR", HALF), Part("unknown", HALF))
    told = EditionNumbers(
        newsletter="today", date=DAY, name="Today", subject="The day", status="submitted", submitted_at=NOW, total=WHOLE,
        variants=parts, plans=parts, countries=parts, languages=parts, clients=parts,
        hours=tuple(Hour(NOW + timedelta(hours=one), 300 - one * 10, 90) for one in range(20)), sections=(story,),
        stories=(story,),
    )  # fmt: skip
    mail = '<html><head><title>Mail</title></head><body><main><a href="https://news.example/1">A story</a></main></body></html>'
    return report_page(
        told,
        history=[told, told],
        cohorts=[Cohort("2026-10", 1, 2, 3, 4)],
        weeks=[
            Cohort(f"2026-{month:02}-02", 9 * month, 400 - month, 50, 20 + 6 * month)
            for month in range(1, 11)
        ],
        html=mail,
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 390])
def test_the_report_can_be_read_by_everybody(
    browser: Browser, scheme: str, width: int, tmp_path: Path
) -> None:
    """No violation, nothing wider than the window, nothing fetched, and the clicks stand on the edition."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    file = tmp_path / "report.html"
    file.write_text(a_report(), encoding="utf-8")
    page.goto(file.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true })")

    found = Axe().run(page, options={"rules": {"frame-tested": {"enabled": False}}}).response["violations"]

    assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found] == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert [url for url in asked if url.startswith("http")] == []
    assert "700 · 7.9 %" in page.frame_locator("iframe").locator("body").inner_text()
    context.close()
