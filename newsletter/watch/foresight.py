"""
What editors should know early: before its slot an edition is made up dry, and what is missing is told once.

Each trouble is told once for a newsletter's date, whichever machine looks and however often; what was mended
before anybody looked again is not mentioned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import partial

import structlog
from sqlmodel import col, select

from newsletter.catalogue import Newsletter, Source
from newsletter.desk import Desk
from newsletter.desk.approval import BY_RULE, in_words, is_touched, slot_of
from newsletter.edition import EditionStatus
from newsletter.errors import NewsletterError
from newsletter.store.session import reading
from newsletter.store.tables import EditionRow, SourceState
from newsletter.store.telling import is_told, keep_told, owed, settle_owed, tell_once

_DEAD_AFTER_FAILURES = 3
_DEAD_AFTER = timedelta(days=1)
_STOPPED = (EditionStatus.HELD, EditionStatus.SKIPPED)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Trouble:
    """*what* names it once and for all for that date; *title* is two or three words, *says* one or two sentences."""

    what: str
    title: str
    says: str


def troubles(desk: Desk, newsletter: Newsletter, day: date, *, now: datetime) -> tuple[Trouble, ...]:
    """What would keep the edition of *day* from being good, if it were made at *now*; stores nothing."""
    return (*_of_make_up(desk, newsletter, day, now=now), *_of_sources(desk, newsletter))


def _of_make_up(desk: Desk, newsletter: Newsletter, day: date, *, now: datetime) -> list[Trouble]:
    try:
        made = desk.make(newsletter, day, now=now)
    except NewsletterError as error:
        return [Trouble("broken", "cannot be made up", f"{error} It will be held.")]
    if made.snapshot is None:
        dropped = len(made.picks.dropped)
        says = (
            f"No story fits it. {dropped} were looked at and dropped, each with its reason."
            if dropped
            else f"No story of the last {newsletter.window_hours:g} hours is stored: are the sources being read?"
        )
        return [Trouble("empty", "no story", says)]
    found: list[Trouble] = []
    if made.picks.shortfalls:
        then = {
            "hold": "It will be held: pin stories, or approve it as it is.",
            "skip": "It will be skipped, by its own rule, unless stories come or are pinned.",
            "send": "It goes out thin, by its own rule, unless stories come or are pinned.",
        }[newsletter.thin_day]
        found.append(Trouble("thin", "a thin day", f"{'; '.join(made.picks.shortfalls)}. {then}"))
    if made.picks.filled:
        says = f"{'. '.join(made.picks.filled)}, by its own rule. It is as full as it must be; look at it, or pin stories."
        found.append(Trouble("filled", "a thin day, filled", says))
    errors = list(dict.fromkeys(one.message for one in made.findings if one.severity == "error"))
    if errors:
        found.append(
            Trouble("errors", "errors in the proof", f"It will be held for errors: {' '.join(errors[:5])}")
        )
    return found


def _of_sources(desk: Desk, newsletter: Newsletter) -> list[Trouble]:
    """The sources it draws on that cannot be read any more; one trouble each."""
    ours = {one.id: one for one in desk.catalogue.publication.feeds if _draws_on(newsletter, one)}
    with reading(desk.engine) as session:
        failing = session.exec(
            select(SourceState).where(col(SourceState.source).in_(ours), SourceState.failures > 0)
        ).all()
    at = desk.clock()
    return [
        Trouble(
            f"source {state.source}",
            "a dead source",
            f"{ours[state.source].name or state.source} has not been read {_since(state)}: {state.last_error}",
        )
        for state in sorted(failing, key=lambda one: one.source)
        if state.failures >= _DEAD_AFTER_FAILURES
        or state.last_success_at is None
        or at - state.last_success_at > _DEAD_AFTER
    ]


def _draws_on(newsletter: Newsletter, source: Source) -> bool:
    named = not newsletter.sources or source.id in newsletter.sources
    return named and source.id not in newsletter.without_sources


def _since(state: SourceState) -> str:
    if state.last_success_at is None:
        return "once so far"
    return f"since {state.last_success_at:%Y-%m-%d %H:%M} UTC"


def foresee(desk: Desk, newsletter: Newsletter, day: date) -> bool:
    """Look at the edition of *day* as its slot will find it, and tell its editors; whether nothing is left to tell."""
    slot = slot_of(newsletter, desk.catalogue.publication, day)
    when = in_words(slot, newsletter, desk.catalogue.publication, day)
    return _tell(
        desk, newsletter, day, troubles(desk, newsletter, day, now=slot),
        opening=f"It is due at {when}. As things stand now:", closing="If it is mended by then, nothing more is said.",
    )  # fmt: skip


def tell_stopped(desk: Desk, newsletter: Newsletter, row: EditionRow) -> bool:
    """Tell the editors of an edition that could not go as it was made up; whether nothing is left to tell."""
    with reading(desk.engine) as session:
        if row.status not in _STOPPED or is_touched(session, row):
            return True  # it goes, or somebody stopped it and knows
    stopped = Trouble(str(row.status), str(row.status), row.reason)
    return _tell(
        desk, newsletter, row.edition_date, (stopped, *_of_sources(desk, newsletter)),
        opening=f"It was {row.status} when it was made up:",
        closing="Pin, drop, edit or give words, then make it up anew: newsletter run --only " + newsletter.slug,
    )  # fmt: skip


def _tell(
    desk: Desk, newsletter: Newsletter, day: date, found: Sequence[Trouble], *, opening: str, closing: str
) -> bool:
    """Tell the editors in one mail of what they have not heard of for that date; whether nothing is left to tell."""
    about, at = f"early {newsletter.slug} {day}", desk.clock()
    fresh = [one for one in found if not is_told(desk.engine, f"{about} {one.what}")]
    if not fresh:
        return True

    def say() -> bool:
        log.warning(
            "edition.foreseen", newsletter=newsletter.slug, date=day.isoformat(), what=[one.what for one in fresh],
            reason=" ".join(one.says for one in fresh),
        )  # fmt: skip
        values = {
            "troubles": fresh, "titles": list(dict.fromkeys(one.title for one in fresh)), "opening": opening,
            "lines": [f"{one.title.capitalize()}: {one.says}" for one in fresh], "closing": closing,
        }  # fmt: skip
        return desk.editors.alert("early", newsletter, day, values)

    if not tell_once(desk.engine, f"{about} {' + '.join(one.what for one in fresh)}", at=at, say=say):
        return False
    keep_told(desk.engine, [f"{about} {one.what}" for one in fresh], at=at)
    return True


def tell_owed(desk: Desk) -> None:
    """Say what was promised before the work was begun: what became of a make-up, and what a rule decided."""
    for rest in owed(desk.engine, "made"):
        newsletter, row = _edition_of(desk, rest)
        if newsletter is None or (row is not None and tell_stopped(desk, newsletter, row)):
            settle_owed(desk.engine, f"made {rest}")
    for rest in owed(desk.engine, "decided"):
        newsletter, row = _edition_of(desk, rest)
        say = partial(_say_decided, desk, newsletter, row)
        tell_once(desk.engine, f"decided {rest}", at=desk.clock(), say=say)


def _say_decided(desk: Desk, newsletter: Newsletter | None, row: EditionRow | None) -> bool:
    if newsletter is None or row is None or BY_RULE not in row.reason:
        return True  # somebody has decided otherwise since
    return desk.editors.alert(
        "decided", newsletter, row.edition_date, {"reason": row.reason, "status": row.status}
    )


def _edition_of(desk: Desk, rest: str) -> tuple[Newsletter | None, EditionRow | None]:
    """The newsletter and the edition that a key's rest, ``<slug> <date> …``, is about."""
    slug, day = rest.split()[:2]
    newsletter = next((one for one in desk.catalogue.newsletters if one.slug == slug), None)
    return newsletter, desk.find(newsletter, date.fromisoformat(day)) if newsletter else None
