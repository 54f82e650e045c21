"""
What readers read, in their language: the catalogues, and dates, numbers and names by CLDR.

The English sentences stand in the code and the templates; ``locale/<language>/LC_MESSAGES/pages.po``
holds the others. Catalogues are read once, when a language is first asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, datetime, time
from functools import cache, lru_cache
from gettext import NullTranslations
from io import BytesIO
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from babel import Locale, negotiate_locale
from babel.core import get_global
from babel.dates import format_date, format_datetime, format_time, get_day_names, get_timezone_location
from babel.lists import format_list
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import format_decimal
from babel.support import Translations

from newsletter.times import WEEKDAYS

SOURCE_LANGUAGE = "en"
LANGUAGES = ("en", "fr", "es", "de", "ar")
LOCALE_FOLDER = Path(__file__).with_name("locale")
_FORMATS = {"en": "en_GB"}  # where a language alone would mean another country's dates


def marked(message: str) -> str:
    """Mark *message* to be translated where it is shown, not where it stands."""
    return message


# Where a zone's name begins, and what such places are called together: a UN M49 code or a message.
_AREAS = {
    "Africa": "002", "America": "019", "Antarctica": "AQ", "Arctic": "150", "Asia": "142",
    "Atlantic": marked("Atlantic Ocean"), "Australia": "009", "Europe": "150", "Indian": marked("Indian Ocean"),
    "Pacific": "009",
}  # fmt: skip
_TWINS = frozenset(("Europe/Busingen",))  # an exclave that would make Germany a country of two zones


class Words:
    """One language: its sentences and how it writes dates, numbers and names."""

    def __init__(self, language: str) -> None:
        self.language = language
        self.locale = Locale.parse(_FORMATS.get(language, language))
        self.direction = "rtl" if self.locale.text_direction == "rtl" else "ltr"
        self.translations = _translations(language)

    def say(self, message: str, /, **values: object) -> str:
        """*message* in this language, its ``%(name)s`` filled."""
        said = self.translations.gettext(message)
        return said % values if values else said

    def isolated(self, text: object) -> str:
        """*text* kept from turning its neighbours where lines run from right to left (FSI … PDI)."""
        return f"\u2068{text}\u2069" if self.direction == "rtl" else str(text)

    def date(self, day: date, style: str = "long") -> str:
        """A date: ``full``, ``long``, ``medium``, ``short`` or a CLDR pattern."""
        return format_date(day, style, locale=self.locale)

    def day(self, at: datetime, zone: str, style: str = "long") -> str:
        """The date of an instant on the clocks of *zone*."""
        return self.date(at.astimezone(ZoneInfo(zone)).date(), style)

    def moment(self, at: datetime, zone: str, style: str = "long") -> str:
        """An instant on the clocks of *zone*, to the minute."""
        local = at.astimezone(ZoneInfo(zone))
        return f"{format_date(local, style, locale=self.locale)}, {format_time(local, 'short', locale=self.locale)}"

    def pattern(self, at: datetime, zone: str, pattern: str) -> str:
        """An instant on the clocks of *zone* by a CLDR pattern."""
        return format_datetime(at.astimezone(ZoneInfo(zone)), pattern, locale=self.locale)

    def clock(self, at: time) -> str:
        """A time of day."""
        return format_time(at, "short", locale=self.locale)

    def weekday(self, name: str) -> str:
        """The name of a weekday of ``times.WEEKDAYS``."""
        return str(get_day_names("wide", locale=self.locale)[WEEKDAYS.index(name)])

    def number(self, n: float) -> str:
        """A number."""
        return format_decimal(n, locale=self.locale)

    def listed(self, names: Iterable[str]) -> str:
        """Names as a list in a sentence."""
        return format_list([self.isolated(name) for name in names], locale=self.locale)

    def country_name(self, code: str) -> str:
        """What this language calls a country."""
        return str(self.locale.territories.get(code.upper(), code))

    def city(self, zone: str) -> str:
        """The place a time zone is named after."""
        return get_timezone_location(zone, locale=self.locale, return_city=True)

    def has_zone(self, zone: str) -> bool:
        """Whether *zone* is one that clocks know."""
        return zone in known_zones()

    def zones(self) -> tuple[tuple[str, tuple[tuple[str, str], ...]], ...]:
        """All time zones for a choice: (continent, ((zone, place), …)), in the order of this language."""
        return _zones(self.language)

    def languages(self) -> tuple[tuple[str, str], ...]:
        """The languages of the pages, each by its own name."""
        return tuple((code, words(code).own_name()) for code in LANGUAGES)

    def own_name(self) -> str:
        """What this language calls itself."""
        return _own_name(self.language)


@cache
def _own_name(language: str) -> str:
    name = Locale.parse(language).get_display_name() or language
    return name[:1].upper() + name[1:]


@cache
def known_zones() -> frozenset[str]:
    """Every time zone of this machine; finding them walks through hundreds of files."""
    return frozenset(available_timezones())


@cache
def words(language: str) -> Words:
    """The words of one of ``LANGUAGES``; of any other: English."""
    return Words(language if language in LANGUAGES else SOURCE_LANGUAGE)


def choose_language(preferred: Iterable[str], *, fallback: str = SOURCE_LANGUAGE) -> str:
    """
    Return the first of *preferred* (tags such as ``de-AT``, best first) that the pages have.

    None of them: that of *fallback*, a tag too; else English.
    """
    for tag in (*preferred, fallback):
        found = negotiate_locale([tag.replace("-", "_").lower()], LANGUAGES)
        if found:
            return found
    return SOURCE_LANGUAGE


def read_accept_language(header: str) -> tuple[str, ...]:
    """The tags of an ``Accept-Language`` header, best first; what cannot be read is left out."""
    weighed: list[tuple[float, int, str]] = []
    for position, part in enumerate(header[:500].split(",")[:20]):
        tag, _, weight = part.partition(";")
        tag = tag.strip()
        if not tag.replace("-", "").isalnum() or not tag.isascii():
            continue
        try:
            quality = float(weight.strip().removeprefix("q=") or 1)
        except ValueError:
            continue
        if 0 < quality <= 1:
            weighed.append((-quality, position, tag))
    return tuple(tag for _, _, tag in sorted(weighed))


def guess_zone(tags: Iterable[str], *, fallback: str) -> str:
    """The time zone of the first country in *tags* that has only one; else *fallback*."""
    for tag in tags:
        country = tag.rpartition("-")[2].upper()
        if "-" in tag and len(country) == 2:
            zones = _zones_of().get(country, [])
            return zones[0] if len(zones) == 1 else fallback
    return fallback


@cache
def _zones_of() -> Mapping[str, list[str]]:
    """Country → its time zones, as CLDR knows them."""
    found: dict[str, list[str]] = {}
    for zone, country in get_global("zone_territories").items():
        if zone.split("/")[0] in _AREAS and zone not in _TWINS:
            found.setdefault(str(country), []).append(str(zone))
    return found


@lru_cache(maxsize=len(LANGUAGES))
def _zones(language: str) -> tuple[tuple[str, tuple[tuple[str, str], ...]], ...]:
    speech = words(language)
    groups: dict[str, list[tuple[str, str]]] = {}
    for zones in _zones_of().values():
        for zone in zones:
            area = _AREAS[zone.split("/")[0]]
            name = str(speech.locale.territories.get(area) or speech.say(area))
            groups.setdefault(name, []).append((zone, speech.city(zone)))
    return tuple((name, tuple(sorted(groups[name], key=lambda one: one[1]))) for name in sorted(groups))


def _translations(language: str) -> NullTranslations:
    if language == SOURCE_LANGUAGE:
        return NullTranslations()
    path = LOCALE_FOLDER / language / "LC_MESSAGES" / "pages.po"
    with path.open("rb") as file:
        catalogue = read_po(file, locale=language)
    compiled = BytesIO()
    write_mo(compiled, catalogue)
    compiled.seek(0)
    return Translations(compiled)


def extraction() -> tuple[tuple[str, str, dict[str, Any]], ...]:
    """Where messages stand: (folder under the root, glob, options), for the test and ``make messages``."""
    options = {"trimmed": "true", "silent": "false"}
    return (
        ("newsletter", "**/*.py", {}),
        ("newsletter/web/pages", "**/*.html.j2", options),
        ("templates", "**/*.j2", options),
    )
