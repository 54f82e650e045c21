"""
Alarms: what somebody has to look at now, each told once, by mail to those who can mend it and to the log.

An alarm has a key that says what it is about: an edition, a slot, a source, a day. What is mended before
anybody looked is not told; what was told is not told again, whoever looks and however often. A mail that
the provider does not take for certain goes another way, if one is named (``NEWSLETTER_ALARM_SMTP_URL``).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import structlog

from newsletter.desk import Desk
from newsletter.store.telling import tell_once
from newsletter.watch.alarms.alarm import Alarm
from newsletter.watch.alarms.editions import of_editions
from newsletter.watch.alarms.machine import of_machine
from newsletter.watch.alarms.slots import of_slots
from newsletter.watch.alarms.sources import of_sources

log = structlog.get_logger()


def raise_alarms(desk: Desk) -> int:
    """Look at everything, and tell what was not told; return how many alarms were told now."""
    return sum(
        tell_once(desk.engine, f"alarm {alarm.key}", at=desk.clock(), say=partial(say, desk, alarm))
        for alarm in look(desk)
    )


def look(desk: Desk) -> Iterator[Alarm]:
    """Everything that somebody should look at now, told or not. A newsletter that complaints stop is held."""
    at = desk.clock()
    for newsletter in desk.catalogue.newsletters:
        yield from of_editions(desk, newsletter, at)
        yield from of_slots(desk, newsletter, at)
    yield from of_sources(desk, at)
    yield from of_machine(desk, at)


def say(desk: Desk, alarm: Alarm) -> bool:
    """Write it to the log and mail it to operators and the newsletter's editors; whether a mail was taken."""
    log.error("alarm.raised", what=alarm.key, newsletter=alarm.newsletter, reason=alarm.says, remedy=alarm.do)
    publication = desk.catalogue.publication
    people = dict.fromkeys(publication.operators or publication.editors)
    if alarm.newsletter:
        people |= dict.fromkeys(desk.catalogue[alarm.newsletter].editors_of(publication))
    return desk.editors.tell("alarm", list(people), {"alarm": alarm})
