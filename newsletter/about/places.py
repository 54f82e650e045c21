"""Which countries a text names, and which region a country lies in."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pycountry
from babel import Locale

from newsletter.about.lexicon import Looked
from newsletter.articles import Region

_DATA = Path(__file__).with_name("data")
# CLDR names in the languages of the sources; a name is looked up as written, with its capital.
_LANGUAGES = (
    "en",
    "fr",
    "es",
    "de",
    "it",
    "pt",
    "nl",
    "ru",
    "uk",
    "ar",
    "he",
    "ur",
    "fa",
    "hi",
    "ja",
    "zh",
    "ko",
)
# Names that more often are something else in a headline: trusted only as a category or after "in".
_AMBIGUOUS = {
    "Georgia",
    "Jordan",
    "Chad",
    "Turkey",
    "Jersey",
    "Guinea",
    "Niger",
    "Mali",
    "Cuba Gooding",
    "Togo",
}
_WORD = re.compile(r"[^\W_]+(?:[.'’\-][^\W_]+)*\.?", re.UNICODE)
_UNSPACED = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff]")
_POSSESSIVE = re.compile(r"(['’]s|[.'’])$")
_LONGEST = 4
# Other words in a text of another language: Island is Iceland in German, and an island in English.
_MISTAKEN = {"Island", "Reunion"}
_NAMED, _CITY, _LEADER, _REGION = 1.0, 0.8, 0.4, 0.7
_LABEL, _HEADLINE, _STANDFIRST = 3.0, 2.0, 1.0


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Where a story takes place: *countries* as ISO codes, the best supported first."""

    countries: tuple[str, ...]
    region: Region


@cache
def _data() -> dict[str, Any]:
    return tomllib.loads((_DATA / "places.toml").read_text(encoding="utf-8"))


_Place = tuple[str, float]
"""A country or region, and how much its name proves."""


@cache
def _weighed_names() -> dict[str, _Place]:
    """Name as written → (ISO code or region, how much it proves)."""
    names: dict[str, _Place] = {}
    for line in (_DATA / "cities.tsv").read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            code, _, words = line.partition("\t")
            for word in words.split("|"):
                names.setdefault(word, (code, _CITY))
    known = _codes()
    for language in _LANGUAGES:
        for code, name in Locale(language).territories.items():
            if code in known and len(name) > 1 and name not in _MISTAKEN:
                names.setdefault(name, (code, _NAMED))
    for country in pycountry.countries:
        names[getattr(country, "common_name", country.name)] = (country.alpha_2, _NAMED)
    data = _data()
    for table, weight in ((data, _NAMED), (data["parts"], _CITY), (data["leaders"], _LEADER)):
        for code, words in table.items():
            if isinstance(words, list):
                names.update(dict.fromkeys(words, (code, weight)))
    for region, words in data["regions"].items():
        for word in words:
            names.setdefault(word, (region, _REGION))
    return names


@cache
def _names() -> dict[str, str]:
    """Name as written → ISO code."""
    return {name: place for name, (place, _) in _weighed_names().items() if len(place) == 2}


@cache
def _codes() -> frozenset[str]:
    return frozenset(country.alpha_2 for country in pycountry.countries)


@cache
def _openings() -> dict[str, dict[str, tuple[int, ...]]]:
    """First word of longer names → second → how many words they have, the most first."""
    lengths: dict[str, dict[str, set[int]]] = {}
    for name in _weighed_names():
        words = _WORD.findall(name)
        if len(words) > 1:
            seconds = lengths.setdefault(_bare(words[0]), {})
            seconds.setdefault(_bare(words[1]), set()).add(min(_LONGEST, len(words)))
    return {
        first: {second: tuple(sorted(some, reverse=True)) for second, some in seconds.items()}
        for first, seconds in lengths.items()
    }


@cache
def _unspaced_names() -> tuple[tuple[str, str], ...]:
    """Names in scripts that put no spaces between words, longest first."""
    found = [(name, place) for name, (place, _) in _weighed_names().items() if _UNSPACED.search(name)]
    return tuple(sorted(found, key=lambda row: (-len(row[0]), row[0])))


@cache
def _regions() -> dict[str, Region]:
    table = tomllib.loads((_DATA / "regions.toml").read_text(encoding="utf-8"))
    return {code: Region(region) for region, codes in table.items() for code in codes.split()}


def region_of(country: str) -> Region:
    """The region of an ISO 3166-1 alpha-2 code; ``Global`` for none."""
    return _regions().get(country, Region.GLOBAL)


def country_code(text: str) -> str:
    """The ISO code that *text* is or names as a whole, or ''."""
    text = text.strip()
    if len(text) == 2 and text.upper() in _codes():
        return text.upper()
    return _names().get(text, "")


def countries_in(text: str) -> tuple[str, ...]:
    """ISO codes of the countries that *text* names, in order of appearance, each once."""
    return tuple(place for place in _places_in(text) if len(place) == 2)


def _places_in(text: str) -> dict[str, float]:
    """Countries and regions that *text* names, in order of appearance, each with the most its names prove."""
    if not text:
        return {}
    names = _weighed_names()
    found: dict[str, float] = {}
    words = _WORD.findall(text)
    taken = 0
    for at, opens in enumerate(map(_OPENS.__getitem__, words)):
        if opens is None or at < taken:
            continue
        alone, seconds, parts = opens
        lengths = seconds.get(_bare(words[at + 1]), ()) if seconds and at + 1 < len(words) else ()
        for length in lengths:
            phrase = " ".join(words[at : at + length])
            if long := names.get(phrase) or names.get(_bare(phrase)):
                taken = at + length
                parts = (long,)
                break
        else:
            if alone and not (_bare(words[at]) in _AMBIGUOUS and not _after_in(words, at)):
                parts = (alone,)
        for place, weight in parts:
            found[place] = max(found.get(place, 0.0), weight)
    if not text.isascii() and _UNSPACED.search(text):
        for name, where in _unspaced_names():
            if name in text:
                found[where] = max(found.get(where, 0.0), names[name][1])
                text = text.replace(name, " ")
    return found


def whereabouts(
    headline: str,
    standfirst: str,
    *,
    labels: tuple[str, ...] = (),
    country: str = "",
    url: str = "",
    language: str = "",
) -> Whereabouts:
    """
    Say where a story takes place, by what its source declares (*labels*, ISO codes or names) and what it says.

    A story that names no place is at home where its source is: *country*, the address's own, the language's.
    """
    points: dict[str, float] = {}
    for label in labels:
        code = country_code(label)
        for place, worth in ({code: _NAMED} if code else _places_in(label)).items():
            points[place] = points.get(place, 0.0) + _LABEL * worth
    for text, worth in ((headline, _HEADLINE), (standfirst, _STANDFIRST)):
        for place, weight in _places_in(text).items():
            points[place] = points.get(place, 0.0) + worth * weight
    if not points:
        home = country.upper() or _home(url, language)
        return Whereabouts((home,) if home else (), region_of(home))
    order = {place: n for n, place in enumerate(points)}
    regions: dict[Region, float] = {}
    for place, worth in points.items():
        region = region_of(place) if len(place) == 2 else Region(place)
        regions[region] = max(regions.get(region, 0.0), worth) + 0.25 * min(regions.get(region, 0.0), worth)
    best = max(regions, key=lambda region: regions[region])
    countries = sorted(
        (place for place in points if len(place) == 2),
        key=lambda code: (region_of(code) is not best, -points[code], order[code]),
    )
    return Whereabouts(tuple(countries[:5]), best)


@cache
def _homes() -> dict[str, str]:
    return {host: code for code, hosts in _data()["homes"].items() for host in hosts.split()}


def _home(url: str, language: str) -> str:
    """Where a paper is at home, by its address, the region of its language tag, or its language; '' unknown."""
    host = (urlsplit(url).hostname or "").removeprefix("www.")
    parts = host.split(".")
    for at in range(len(parts) - 1):
        if code := _homes().get(".".join(parts[at:])):
            return code
    ending = parts[-1].upper().replace("UK", "GB")
    if (
        len(parts) > 1
        and ending in _codes()
        and ending not in ("IO", "AI", "CO", "TV", "ME", "FM", "LY", "EU")
    ):
        return ending
    _, _, tagged = language.partition("-")
    if tagged in _codes():
        return tagged
    return str(_data()["languages"].get(language.split("-")[0], ""))


def _bare(phrase: str) -> str:
    """*phrase* without a possessive and without the full stop of a sentence."""
    if phrase[-1:] in ".'’s":
        return _POSSESSIVE.sub("", phrase)
    return phrase


def _after_in(words: list[str], at: int) -> bool:
    return at > 0 and words[at - 1].lower() in ("in", "from", "to", "across", "into")


_Opening = tuple["_Place | None", dict[str, tuple[int, ...]], tuple["_Place", ...]]
"""What a word names alone, the second words of what it may open, and what it names between hyphens."""


def _opens(word: str) -> _Opening | None:
    names = _weighed_names()
    bare = _bare(word)
    parts = word.split("-") if "-" in word else ()
    named = tuple(place for part in parts if (place := names.get(_bare(part))))
    opening = names.get(word) or names.get(bare), _openings().get(bare, {}), named
    return opening if any(opening) else None


_OPENS = Looked(_opens)
