"""The mails of real days: within their budget of bytes, and the same in both parts."""

from __future__ import annotations

from pathlib import Path

import pytest
from lxml import html

from newsletter.rendering.proof import BUDGET_BYTES, tracked_bytes
from newsletter.settings import Keys, Settings
from newsletter.store.session import open_store
from newsletter.times import parse_instant
from tests.approving import a_desk
from tests.builders import the_catalogue
from tests.shared.test_days_shared import FEEDS
from tests.test_plaintext import ADDRESS

pytestmark = pytest.mark.shared


@pytest.mark.parametrize("now", ["2026-02-18T02:20:00Z", "2017-01-07T16:30:00Z"])
def test_every_variant_of_a_real_day_is_lean_and_says_the_same_twice(
    tmp_path: Path, keys: Keys, now: str
) -> None:
    """Four fifths of what Gmail shows, click tracking and all, without anything having to give way."""
    desk = a_desk(open_store(f"sqlite:///{tmp_path}/subscribers.db"), keys, Settings(), the_catalogue())
    desk.collect([str(FEEDS)], now=parse_instant(now))
    seen = 0
    for newsletter in desk.catalogue.newsletters:
        day = desk.edition_date(newsletter, parse_instant(now))
        made = desk.make(newsletter, day, now=parse_instant(now))
        assert made.snapshot is None or made.snapshot.gave_way == ()
        for one in made.renderings:
            hrefs = [link.get("href") for link in html.document_fromstring(one.html).iter("a")]
            assert tracked_bytes(one) <= BUDGET_BYTES, (newsletter.slug, one.variant)
            assert list(dict.fromkeys(ADDRESS.findall(one.text))) == list(dict.fromkeys(hrefs))
            seen += 1
    desk.engine.dispose()
    assert seen >= 14
