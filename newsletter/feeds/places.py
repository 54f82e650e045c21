"""Which countries a text names, and which region a country lies in."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from pathlib import Path

import pycountry
from babel import Locale

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


@cache
def _names() -> dict[str, str]:
    """Name as written → ISO code."""
    names: dict[str, str] = {}
    known = _codes()
    for language in _LANGUAGES:
        for code, name in Locale(language).territories.items():
            if code in known and len(name) > 1:
                names.setdefault(name, code)
    for country in pycountry.countries:
        names.setdefault(getattr(country, "common_name", country.name), country.alpha_2)
    for code, words in tomllib.loads((_DATA / "places.toml").read_text(encoding="utf-8")).items():
        names.update(dict.fromkeys(words, code))
    return names


@cache
def _codes() -> frozenset[str]:
    return frozenset(country.alpha_2 for country in pycountry.countries)


@cache
def _beginnings() -> dict[str, int]:
    """First word of a name → how many words the longest name that begins so has."""
    longest: dict[str, int] = {}
    for name in _names():
        words = _WORD.findall(name)
        if words:
            first = _bare(words[0])
            longest[first] = min(_LONGEST, max(longest.get(first, 0), len(words)))
    return longest


@cache
def _unspaced_names() -> tuple[tuple[str, str], ...]:
    """Names in scripts that put no spaces between words, longest first."""
    found = [(name, code) for name, code in _names().items() if _UNSPACED.search(name)]
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
    if not text:
        return ()
    names, beginnings = _names(), _beginnings()
    found: dict[str, None] = {}
    words = _WORD.findall(text)
    at = 0
    while at < len(words):
        for length in range(min(beginnings.get(_bare(words[at]), 0), len(words) - at), 0, -1):
            phrase = " ".join(words[at : at + length])
            code = names.get(phrase) or names.get(_bare(phrase))
            if code and not (length == 1 and _bare(phrase) in _AMBIGUOUS and not _after_in(words, at)):
                found[code] = None
                at += length
                break
        else:
            at += 1
    if _UNSPACED.search(text):
        for name, code in _unspaced_names():
            if name in text:
                found[code] = None
                text = text.replace(name, " ")
    return tuple(found)


def _bare(phrase: str) -> str:
    """*phrase* without a possessive and without the full stop of a sentence."""
    if phrase[-1:] in ".'’s":
        return _POSSESSIVE.sub("", phrase)
    return phrase


def _after_in(words: list[str], at: int) -> bool:
    return at > 0 and words[at - 1].lower() in ("in", "from", "to", "across", "into")
