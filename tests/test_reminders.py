"""Reminders of a reader's own plan: a variant of their own, frozen, looked at again, and shown to nobody else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy import Engine, update
from sqlmodel import Session, col, select

from newsletter.audience.segments import segment_sizes
from newsletter.catalogue import Catalogue, Newsletter, Publication, Reminder, WarmUp, load_catalogue
from newsletter.edition import Rendered, Snapshot, for_variant
from newsletter.errors import CatalogueError
from newsletter.outbox.accounts import why
from newsletter.outbox.drain import Mailing, drain
from newsletter.outbox.freeze import freeze
from newsletter.providers import Envelope
from newsletter.rendering.engine import Renderer
from newsletter.rendering.proof import proof
from newsletter.store.session import reading, writing
from newsletter.store.tables import EditionRow, Rendering, Subscriber
from tests.builders import ROOT, the_catalogue
from tests.snapshots import a_snapshot
from tests.test_outbox import (
    NEWSLETTER,
    NOW,
    PUBLICATION,
    Postman,
    a_sender,
    add_readers,
    an_edition,
    balance_of,
)

CATALOGUE = the_catalogue()
ENDING, DUE = (
    {"headline": "Your trial ends.", "text": "Stay.", "button": "Stay", "url": "https://p.example/stay",
     "id": "ending", "trial_ends_within_days": 3},
    {"headline": "Your plan is renewed.", "text": "Good.", "button": "See", "url": "https://p.example/plan",
     "id": "due", "plan_ends_within_days": 7},
)  # fmt: skip
PUBLISHED = Publication.model_validate(
    {
        **PUBLICATION.model_dump(by_alias=True, exclude={"plans", "reminders"}),
        "plans": [
            *(plan.model_dump(by_alias=True) for plan in PUBLICATION.plans),
            {"id": "trial", "name": "Trial", "class": "paying", "days": 30, "trial": True},
        ],
        "reminders": [ENDING, DUE],
    }
)
DAILY = NEWSLETTER.model_copy(update={"reminders": ("ending", "due")})
VARIANTS = ("free", "paying", "paying+ending", "paying+due")
WHO = {
    1: ("free", None), 2: ("annual", None), 3: ("annual", 7), 4: ("annual", 7.1), 5: ("trial", 3), 6: ("trial", 3.1),
    7: ("trial", 8), 8: ("trial", 0), 9: ("annual", -1), 10: ("free", 2),
}  # fmt: skip
"""A reader's plan, and in how many days it ends."""
GETS = {
    "free": {1, 8, 9, 10}, "paying": {2, 4, 7}, "paying+ending": {5}, "paying+due": {3, 6},
}  # fmt: skip


@pytest.fixture
def house(engine: Engine) -> Engine:
    """Ten readers, and an approved edition rendered in all four variants."""
    add_readers(engine, len(WHO))
    with writing(engine) as session:
        for reader, (plan, days) in WHO.items():
            until = None if days is None else NOW + timedelta(days=days)
            put(session, reader, plan=plan, plan_until=until)
    edition = an_edition(engine)
    with writing(engine) as session:
        for variant in VARIANTS[2:]:
            one = session.exec(select(Rendering).where(Rendering.edition_id == edition)).first()
            assert one is not None
            session.add(Rendering(**{**one.model_dump(), "variant": variant}))
    return engine


def put(session: Session, reader: int, **fields: Any) -> None:
    """Change a reader."""
    session.execute(update(Subscriber).where(col(Subscriber.id) == reader).values(**fields))


def send(
    engine: Engine, *, publication: Publication = PUBLISHED, newsletter: Newsletter = DAILY,
    between: Callable[[Session], None] = lambda _: None,
) -> dict[str, set[int]]:  # fmt: skip
    """Freeze, let something happen, send; who got which variant."""
    with reading(engine) as session:
        edition = session.exec(select(EditionRow.id)).one() or 0
    freeze(engine, newsletter, publication, edition, now=NOW, at=NOW, batch_size=10)
    with writing(engine) as session:
        between(session)
    taken: dict[str, set[int]] = {}

    def take(envelope: Envelope) -> None:
        group = taken.setdefault(envelope.variant, set())
        for one in envelope.recipients:
            assert int(one.reader, 16) not in group
            group.add(int(one.reader, 16))

    drain(a_sender(engine, Postman(before=take)), [Mailing(newsletter, publication, edition)], now=NOW)
    readers = sum(map(len, taken.values()))
    assert balance_of(engine, edition) == (readers, 0, readers, 0, 0, 0)
    return taken


def test_each_reader_gets_the_variant_of_their_plan(house: Engine) -> None:
    """The first reminder that fits; none without an end, none beyond its days; who has run out is free."""
    assert send(house) == GETS


def test_a_warm_up_sorts_the_same(house: Engine) -> None:
    """Read row by row, the variants are the same."""
    pace = {"warm_up": {"start": NOW.date().isoformat(), "volumes": [1000]}}
    warming = Publication.model_validate({**PUBLISHED.model_dump(by_alias=True), "paces": [pace]})
    assert warming.paces[0].warm_up == WarmUp(start=NOW.date(), volumes=(1000,))

    assert send(house, publication=warming) == GETS


def test_who_has_renewed_meanwhile_gets_no_reminder(house: Engine) -> None:
    """Looked at again before the send: moved to the plain variant, or to the free one; nobody into a reminder."""

    def happens(session: Session) -> None:
        put(session, 5, plan="annual", plan_until=NOW + timedelta(days=366))
        put(session, 3, plan="free", plan_until=None)
        put(session, 4, plan_until=NOW + timedelta(days=1))

    assert send(house, between=happens) == {
        "free": {1, 3, 8, 9, 10}, "paying": {2, 4, 5, 7}, "paying+due": {6},
    }  # fmt: skip
    with reading(house) as session:
        row = session.exec(select(EditionRow)).one()
        assert why(session, row, "daily", session.get(Subscriber, 5)).verdict == "submitted"


def test_a_reminder_taken_back_after_the_freeze_reaches_nobody(house: Engine) -> None:
    """Who would have had it gets the plain variant."""
    with reading(house) as session:
        edition = session.exec(select(EditionRow.id)).one() or 0
    freeze(house, DAILY, PUBLISHED, edition, now=NOW, at=NOW, batch_size=10)

    taken = send(house, publication=PUBLISHED.model_copy(update={"reminders": ()}))

    assert taken == {"free": GETS["free"], "paying": GETS["paying"] | {3, 5, 6}}


def test_an_edition_made_before_the_reminder_has_no_variant_for_it(engine: Engine) -> None:
    """Its readers get the plain one; nothing is frozen that cannot be sent."""
    add_readers(engine, 1)
    with writing(engine) as session:
        put(session, 1, plan="trial", plan_until=NOW + timedelta(days=1))
    an_edition(engine)

    assert send(engine) == {"paying": {1}}


def test_segments_are_told_by_variant(house: Engine) -> None:
    """``segments`` says how many readers each variant has."""
    catalogue = Catalogue(publication=PUBLISHED, newsletters=(DAILY,), root=Path())

    with reading(house) as session:
        assert segment_sizes(session, catalogue, NOW) == tuple(
            ("daily", name, len(GETS[name])) for name in VARIANTS
        )


def reminded(slug: str) -> tuple[Snapshot, tuple[Rendered, ...]]:
    """A full edition of a newsletter, with the publication's reminders, rendered."""
    snapshot = replace(a_snapshot(CATALOGUE, slug), reminders=CATALOGUE.publication.reminders)
    return snapshot, Renderer(CATALOGUE).render_all(snapshot)


@pytest.mark.parametrize("slug", [one.slug for one in CATALOGUE.newsletters])
def test_every_newsletter_can_hold_reminders(slug: str) -> None:
    """Each in its own variant, in both parts, without a finding; in the others not a word of it."""
    snapshot, made = reminded(slug)
    words = {f"paying+{one.id}": one.headline for one in snapshot.reminders}

    found = proof(
        CATALOGUE[slug], CATALOGUE.publication, snapshot, made, base_url="https://m.example", now=NOW
    )

    assert found == ()
    assert [one.variant for one in made] == ["free", "paying", *words]
    for one in made:
        held = {
            variant for variant, headline in words.items() if headline in one.html and headline in one.text
        }
        assert held == ({one.variant} & set(words))


def test_the_proof_finds_a_reminder_where_it_may_not_be() -> None:
    """In another variant it is an error, and so is its absence from its own."""
    snapshot, made = reminded("today")
    by_name = {one.variant: one for one in made}
    swapped = (
        replace(by_name["paying+trial-ending"], variant="paying"),
        replace(by_name["paying"], variant="paying+trial-ending"),
    )

    found = proof(
        CATALOGUE["today"], CATALOGUE.publication, snapshot, swapped, base_url="https://m.example", now=NOW
    )

    assert {(one.code, one.variant, one.part) for one in found} == {
        ("gate-reminder", "paying", "html"), ("gate-reminder", "paying", "text"),
        ("reminder-missing", "paying+trial-ending", "html"), ("reminder-missing", "paying+trial-ending", "text"),
    }  # fmt: skip


def test_a_paying_variant_of_any_kind_has_no_advert_and_the_free_one_no_reminder() -> None:
    """The gate is in the value."""
    snapshot, _ = reminded("today")

    gated = {variant: for_variant(snapshot, variant) for variant in snapshot.variants}

    assert {(one.offer, one.advert) for name, one in gated.items() if name != "free"} == {(None, None)}
    assert {name: one.reminder.id for name, one in gated.items() if one.reminder} == {
        "paying+trial-ending": "trial-ending", "paying+renewal-due": "renewal-due",
    }  # fmt: skip
    assert all(one.reminders == () for one in gated.values())


@pytest.mark.parametrize("wrong", [{}, {"trial_ends_within_days": 3, "plan_ends_within_days": 3}])
def test_a_reminder_has_one_condition(wrong: dict[str, int]) -> None:
    """None would remind everybody, two nobody could explain."""
    words = {key: ENDING[key] for key in ("id", "headline", "text", "button", "url")}

    with pytest.raises(ValidationError, match="a reminder has one condition"):
        Reminder.model_validate({**words, **wrong})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("reminders = [", 'reminders = ["nothing", '), "there is no reminder 'nothing'"),
        (("[schedule]", '[audience]\nclasses = ["free"]\n[schedule]'), "only paying readers"),
    ],
)
def test_a_newsletter_names_only_reminders_that_fit_it(
    tmp_path: Path, change: tuple[str, str], words: str
) -> None:
    """Said when the file is read, with file and field."""
    (tmp_path / "publication.toml").write_bytes((ROOT / "templates" / "publication.toml").read_bytes())
    (tmp_path / "today").mkdir()
    text = (ROOT / "templates" / "today" / "newsletter.toml").read_text(encoding="utf-8")
    (tmp_path / "today" / "newsletter.toml").write_text(text.replace(*change), encoding="utf-8")

    with pytest.raises(CatalogueError, match=words):
        load_catalogue(tmp_path)
