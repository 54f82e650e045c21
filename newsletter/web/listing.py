"""The newsletters as a reader chooses among them: what each is, when it comes, what it looks like."""

from __future__ import annotations

from dataclasses import dataclass

from babel import Locale, UnknownLocaleError

from newsletter.archive import is_public
from newsletter.catalogue import Catalogue, Newsletter, Publication
from newsletter.times import WEEKDAYS
from newsletter.words import Words

_WORKDAYS = WEEKDAYS[:5]


@dataclass(frozen=True, slots=True)
class Entry:
    """One newsletter in a list; *language* and *direction* are those of what is said of it."""

    slug: str
    name: str
    tagline: str
    description: str
    cadence: str
    language: str
    direction: str
    is_for_members: bool
    sample: str  # path of its archive; empty: nothing of it is public


def listing(catalogue: Catalogue, words: Words) -> tuple[Entry, ...]:
    """All newsletters, the most frequent first, then through the week."""
    ordered = sorted(catalogue.newsletters, key=_rank)
    return tuple(entry(newsletter, catalogue.publication, words) for newsletter in ordered)


def entry(newsletter: Newsletter, publication: Publication, words: Words) -> Entry:
    """One newsletter in *words*."""
    about, language = newsletter.about_in(words.language)
    return Entry(
        slug=newsletter.slug, name=newsletter.name, tagline=about.tagline, description=about.description,
        cadence=cadence(newsletter, publication, words), language=language, direction=direction_of(language),
        is_for_members="free" not in newsletter.audience.classes,
        sample=f"/archive/{newsletter.slug}" if is_public(newsletter) else "",
    )  # fmt: skip


def cadence(newsletter: Newsletter, publication: Publication, words: Words) -> str:
    """When a newsletter comes, such as "Monday to Friday, 06:30 (Paris)"."""
    days = tuple(day for day in WEEKDAYS if day in newsletter.schedule.days)
    local = newsletter.local_time
    at = words.clock(local or newsletter.schedule.at)
    where = words.say("your own time") if local else words.city(newsletter.zone(publication))
    if days == WEEKDAYS:
        return words.say("Every day, %(time)s (%(place)s)", time=at, place=where)
    if days == _WORKDAYS:
        return words.say(
            "%(first)s to %(last)s, %(time)s (%(place)s)",
            first=words.weekday(days[0]), last=words.weekday(days[-1]), time=at, place=where,
        )  # fmt: skip
    named = words.listed([words.weekday(day) for day in days])
    return words.say("Every %(days)s, %(time)s (%(place)s)", days=named, time=at, place=where)


def direction_of(language: str) -> str:
    """``rtl`` or ``ltr``, by a language tag."""
    try:
        return "rtl" if Locale.parse(language.replace("-", "_")).text_direction == "rtl" else "ltr"
    except (UnknownLocaleError, ValueError):
        return "ltr"


def _rank(newsletter: Newsletter) -> tuple[int, int, str]:
    days = newsletter.schedule.days
    return -len(days) if len(days) > 4 else 0, min(WEEKDAYS.index(day) for day in days), newsletter.name
