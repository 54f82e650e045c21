"""The sunset's day: the steps that are due are taken, and who is asked gets a mail; once a day, by one process."""

from __future__ import annotations

import structlog

from newsletter.audience.quiet import steps_due
from newsletter.audience.sunset import Next, Step, gets, take, was_asked
from newsletter.audience.tokens import Signer, TokenKind
from newsletter.desk import Desk
from newsletter.notices import Kind
from newsletter.store.session import reading, writing

log = structlog.get_logger()


def take_care(desk: Desk) -> dict[str, int]:
    """
    Take every step that is due; return how many of each were taken.

    Each is a transaction of its own. That somebody is being asked is written before the mail leaves, so who dies
    between the two leaves it to the next day, and nobody is paused who was not asked.
    """
    rule, at = desk.catalogue.publication.sunset, desk.clock()
    with reading(desk.engine) as session:
        due = steps_due(session, desk.catalogue, now=at)
    if rule is None:
        return {}
    if due.why_not:
        log.warning("sunset.not_acting", reason=due.why_not)
        return {}
    taken: dict[str, int] = {}
    for one in due.steps:
        if desk.stop.is_set():
            break
        with writing(desk.engine) as session:
            done = take(session, one, rule, now=at)
        if done and one.step is Step.ASKING:
            done = _ask(desk, one)
        taken[one.step] = taken.get(one.step, 0) + done
    log.info("sunset.acted", **taken, unknown=due.unknown, unproven=due.unproven)
    return taken


def _ask(desk: Desk, one: Next) -> bool:
    """Send the mail; one that is refused is sent the next day."""
    link = f"/stay/{Signer(desk.keys).sign(TokenKind.STAY, one.reader)}"
    with reading(desk.engine) as session:
        slugs = gets(session, one.subscriber_id)
    sent = desk.editors.notices.send(
        Kind.STILL, one.subscriber_id, values={"link": link, "newsletters": slugs}
    )
    if sent:
        with writing(desk.engine) as session:
            was_asked(session, one.subscriber_id, now=desk.clock())
    return sent
