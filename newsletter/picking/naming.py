"""What reasons call countries, regions and languages: by their English names, not by codes."""

from __future__ import annotations

from functools import cache

from babel import Locale

from newsletter.articles import Region

_REGIONS = {
    Region.AMERICAS_NORTH: "North America", Region.AMERICAS_LATIN: "Latin America", Region.ASIA_EAST: "East Asia",
    Region.ASIA_SOUTH: "South Asia", Region.ASIA_SOUTHEAST: "Southeast Asia", Region.ASIA_CENTRAL: "Central Asia",
    Region.MIDDLE_EAST: "the Middle East", Region.GLOBAL: "the world at large",
}  # fmt: skip
_WITH_ARTICLE = ("AE", "BS", "CD", "CF", "DO", "GB", "GM", "MV", "NL", "PH", "PS", "US")


@cache
def country_named(code: str) -> str:
    """A country as a sentence says it: ``the United States``."""
    name = str(Locale("en").territories.get(code.upper(), code))
    return f"the {name}" if code.upper() in _WITH_ARTICLE else name


def region_named(region: Region) -> str:
    """A region as a sentence says it: ``Latin America``."""
    return _REGIONS.get(region, str(region))


@cache
def language_named(tag: str) -> str:
    """A language without its country: ``English`` for ``en-GB``."""
    return str(Locale("en").languages.get(tag.split("-")[0], tag))
