"""What came back has consequences at once: who must not be mailed is not, and who got nothing is not forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlmodel import select

from newsletter.audience.leaving import join
from newsletter.edition import EditionStatus
from newsletter.errors import ProviderError, StateError
from newsletter.outbox import inbox
from newsletter.outbox.accounts import audit, why
from newsletter.outbox.drain import Mailing, drain
from newsletter.outbox.freeze import freeze
from newsletter.outbox.missed import missed, send_again
from newsletter.outbox.reconcile import Reconciled, reconcile
from newsletter.providers.sendgrid import SendGrid
from newsletter.settings import Keys
from newsletter.store.session import reading, writing
from newsletter.store.tables import Subscriber, Subscription, Suppression
from tests.standin import StandIn
from tests.standin_events import body_of
from tests.test_evidence import readers, taken, told
from tests.test_outbox import (
    NEWSLETTER,
    NOW,
    PUBLICATION,
    Postman,
    a_sender,
    an_edition,
    balance_of,
    send_all,
    the_edition,
)

DAY = timedelta(days=1)


def hear(engine: Engine, keys: Keys, *events: dict[str, Any], at: datetime = NOW) -> None:
    """What the provider posts, acknowledged and processed."""
    inbox.append(engine, body_of(events), at=at)
    inbox.process(engine, keys, clock=lambda: at)


def suppressed(engine: Engine) -> dict[str, tuple[str, str]]:
    """Reason and source by address."""
    with reading(engine) as session:
        names = {one.address_hash: one.email for one in session.exec(select(Subscriber))}
        rows = session.exec(select(Suppression)).all()
        return {names.get(row.address_hash, "nobody"): (row.reason, row.source) for row in rows}


def test_a_complaint_one_second_before_an_edition_keeps_it_from_them(engine: Engine, keys: Keys) -> None:
    """Acknowledged at 10:00:00 and not processed by who took it; what is frozen goes at 10:00:01, not to them."""
    readers(engine, keys, 3)
    edition_id = an_edition(engine)
    freeze(engine, NEWSLETTER, PUBLICATION, edition_id, now=NOW, at=NOW, batch_size=10)
    inbox.append(engine, body_of([told("spamreport", taken(2), NOW)]), at=NOW)
    postman, second = Postman(), NOW + timedelta(seconds=1)

    inbox.process(engine, keys, clock=lambda: second)  # as a desk does before it delivers
    drain(a_sender(engine, postman), [Mailing(NEWSLETTER, PUBLICATION, edition_id)], now=second)

    assert sorted(postman.taken) == [f"{index:024x}" for index in (1, 3)]
    assert balance_of(engine, edition_id) == (3, 0, 2, 1, 0, 0)


@pytest.mark.parametrize(
    ("kind", "fields", "reason"),
    [
        ("bounce", {}, "bounced"),
        ("dropped", {"reason": "Invalid"}, "bounced"),
        ("dropped", {"reason": "Spam Reporting Address"}, "complained"),
        ("spamreport", {}, "complained"),
        ("unsubscribe", {}, "unsubscribed"),
        ("group_unsubscribe", {}, "unsubscribed"),
        ("bounce", {"type": "blocked"}, None),
        ("deferred", {}, None),
        ("dropped", {"reason": "Recipient List over Package Quota"}, None),
    ],
)
def test_what_is_about_the_address_bars_it_and_nothing_else_does(
    engine: Engine, keys: Keys, kind: str, fields: dict[str, Any], reason: str | None
) -> None:
    """At once, everywhere; a block, a delay and our own quota are nobody's fault here."""
    readers(engine, keys, 1)

    hear(engine, keys, told(kind, taken(1), **fields))

    assert [found[0] for found in suppressed(engine).values()] == ([reason] if reason else [])


def _blocked(day: int) -> dict[str, Any]:
    edition = f"daily.2026-11-{day:02}.1"
    return told("bounce", taken(1)._replace(edition=edition), NOW + (day - 20) * DAY, type="blocked")


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([_blocked(day) for day in (1, 2, 4, 6, 9)], {"r1@example.com": ("bounced", "blocked")}),
        ([_blocked(day) for day in (1, 2, 4, 9)], {}),
        ([_blocked(day) for day in (5, 6, 7, 8, 9)], {}),
        ([_blocked(9), _blocked(9), _blocked(9), _blocked(1), _blocked(2)], {}),
        (
            [
                *(_blocked(day) for day in (1, 2, 4, 6)),
                told("delivered", taken(1), NOW - 13 * DAY),
                _blocked(9),
            ],
            {},
        ),
    ],
    ids=["five over a week", "four", "all in four days", "the same editions", "one got through"],
)
def test_a_mailbox_that_blocks_everything_for_long_is_given_up(
    engine: Engine, keys: Keys, events: list[dict[str, Any]], expected: dict[str, Any]
) -> None:
    """By rule: five editions in a row, over a week at least."""
    readers(engine, keys, 1)

    for event in events:
        hear(engine, keys, event)

    assert suppressed(engine) == expected


def over_quota(index: int, *, batch: int = 1) -> dict[str, Any]:
    """A mail that was taken and then dropped, because the plan was used up."""
    return told("dropped", taken(index, batch=batch), reason="Recipient List over Package Quota")


def test_who_got_nothing_is_shown_and_gets_it_once(engine: Engine, keys: Keys) -> None:
    """Dropped for our quota: counted, sent again to those alone, and never to who got it or must not get it."""
    readers(engine, keys, 6)
    edition_id = an_edition(engine)
    send_all(engine, Postman(), edition_id)
    hear(engine, keys, *(over_quota(index) for index in (2, 3, 4, 5)))
    hear(engine, keys, told("delivered", taken(4)), told("spamreport", taken(5)))
    with reading(engine) as session:
        assert audit(session, the_edition(engine, edition_id)).missed == 2

    with writing(engine) as session:
        row = session.merge(the_edition(engine, edition_id))
        assert send_again(session, row, batch_size=10, actor="mia", at=NOW) == 2
    postman = Postman()
    drain(a_sender(engine, postman), [Mailing(NEWSLETTER, PUBLICATION, edition_id)], now=NOW)

    assert postman.taken == {f"{2:024x}": 1, f"{3:024x}": 1}
    assert balance_of(engine, edition_id) == (6, 0, 6, 0, 0, 0)
    assert the_edition(engine, edition_id).status == EditionStatus.SUBMITTED
    with reading(engine) as session:
        assert missed(session, the_edition(engine, edition_id)) == {}
        verdict = why(session, the_edition(engine, edition_id), "daily", session.get(Subscriber, 2))
    assert "dropped by the provider, sent again by mia" in verdict.reason
    with writing(engine) as session, pytest.raises(StateError, match="Nobody missed"):
        send_again(
            session, session.merge(the_edition(engine, edition_id)), batch_size=10, actor="mia", at=NOW
        )


def test_who_is_dropped_again_can_get_it_again(engine: Engine, keys: Keys) -> None:
    """The old event of the first batch is not asked twice, the one of the second is."""
    readers(engine, keys, 2)
    edition_id = an_edition(engine)
    send_all(engine, Postman(), edition_id)
    for batch in (1, 2):
        hear(engine, keys, over_quota(1, batch=batch))
        with writing(engine) as session:
            row = session.merge(the_edition(engine, edition_id))
            assert send_again(session, row, batch_size=10, actor="mia", at=NOW) == 1
        drain(a_sender(engine, Postman()), [Mailing(NEWSLETTER, PUBLICATION, edition_id)], now=NOW)

    assert balance_of(engine, edition_id) == (2, 0, 2, 0, 0, 0)


@pytest.fixture
def standin() -> Iterator[StandIn]:
    """SendGrid with its lists."""
    with StandIn() as running:
        yield running


def provider_of(standin: StandIn) -> SendGrid:
    """Our client, talking to it."""
    return SendGrid("SG.x", host=standin.url, timeout_seconds=5)


def test_lists_are_brought_together_both_ways(engine: Engine, keys: Keys, standin: StandIn) -> None:
    """Who is listed there is barred here, with the reason; who joined again here since is taken off there."""
    readers(engine, keys, 7)
    before = (NOW - 9 * DAY).timestamp()
    for name, index in (("bounces", 1), ("spam_reports", 2), ("invalid_emails", 3), ("blocks", 4), ("unsubscribes", 5), ("unsubscribes", 6)):  # fmt: skip
        standin.suppressions[name][f"R{index}@example.com"] = before
    standin.suppressions["invalid_emails"]["no address"] = before
    with writing(engine) as session:
        session.get_one(Subscription, (6, "daily")).state = "left"
        session.get_one(Subscription, (5, "daily")).since = NOW - 20 * DAY
        session.flush()
        assert join(session, 6, "daily", now=NOW - DAY, source="page", words="Join")

    done = reconcile(engine, provider_of(standin), keys, at=NOW)

    assert done == Reconciled(listed=6, suppressed=4, cleared=1)
    assert {name: reason for name, (reason, _) in suppressed(engine).items()} == {
        "r1@example.com": "bounced", "r2@example.com": "complained", "r3@example.com": "bounced",
        "r5@example.com": "unsubscribed",
    }  # fmt: skip
    assert list(standin.suppressions["unsubscribes"]) == ["R5@example.com"]
    with reading(engine) as session:
        assert session.get_one(Subscription, (5, "daily")).state == "left"
        assert session.get_one(Subscription, (6, "daily")).state == "active"


def test_after_an_outage_nothing_is_missed_and_only_what_is_new_is_read(
    engine: Engine, keys: Keys, standin: StandIn
) -> None:
    """The next time begins two days before the last that succeeded; a thousand are more than one page."""
    readers(engine, keys, 3)
    provider = provider_of(standin)
    for index in range(1100):
        standin.suppressions["bounces"][f"other{index}@example.com"] = (NOW - 90 * DAY).timestamp()
    assert reconcile(engine, provider, keys, at=NOW - 8 * DAY) == Reconciled(listed=1100, suppressed=1100)
    standin.suppressions["bounces"]["r1@example.com"] = (NOW - 7 * DAY).timestamp()
    standin.script(["unauthorized"], path="/v3/suppression")
    standin.suppressions["bounces"]["r2@example.com"] = (NOW - 9 * DAY).timestamp()

    with pytest.raises(ProviderError, match="scope Suppressions"):
        reconcile(engine, provider, keys, at=NOW - DAY)
    done = reconcile(engine, provider, keys, at=NOW)

    assert done == Reconciled(listed=2, suppressed=2)


def test_who_has_just_come_back_is_not_barred_by_the_providers_old_list(engine: Engine, keys: Keys) -> None:
    """It drops the first mail, because it has not been told yet; a day later it would be news."""
    readers(engine, keys, 2)
    for index, since in ((1, NOW - timedelta(hours=2)), (2, NOW - 2 * DAY)):
        with writing(engine) as session:
            session.get_one(Subscription, (index, "daily")).since = since

    hear(engine, keys, *(told("dropped", taken(index), reason="Unsubscribed Address") for index in (1, 2)))

    assert suppressed(engine) == {"r2@example.com": ("unsubscribed", "dropped")}
