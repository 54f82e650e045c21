"""What readers read is whole in every language, and says the same with the same values."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from newsletter.notices import Kind, Notices
from newsletter.settings import Keys, Settings
from newsletter.web.listing import listing
from newsletter.words import LANGUAGES, choose_language, guess_zone, read_accept_language, words
from tests.builders import the_catalogue
from tests.messages import extracted, path_of, stored, written

OTHERS = [language for language in LANGUAGES if language != "en"]
VALUE = re.compile(r"%\(\w+\)s")
SAME_WORD = {"Pages", "Online", "Quiz", "%(n)s min"}  # what two languages really say with the same word
IN_LATIN = re.compile(r"Atom|EPUB|PDF")
NOW = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)
KEYS = Keys(signing=(b"a signing key of this test alone",), suppression=b"a suppression key of this test")


@pytest.mark.parametrize("language", OTHERS)
def test_every_message_is_translated(language: str) -> None:
    """Nothing a page or a mail says is missing, and nothing is left over."""
    wanted = {message.id for message in extracted() if message.id}
    held = {message.id: message.string for message in stored(language) if message.id}

    assert set(held) == wanted, "run: python -m tests.messages"
    assert [
        message for message, said in held.items() if not said or (isinstance(said, tuple) and not all(said))
    ] == []


@pytest.mark.parametrize("language", OTHERS)
def test_translations_have_the_same_values(language: str) -> None:
    """No translation loses or invents a value, and none has markup or half a directive."""
    for message in stored(language):
        if not message.id:
            continue
        ids = (message.id,) if isinstance(message.id, str) else message.id
        strings = (message.string,) if isinstance(message.string, str) else message.string
        for said in strings:
            assert set(VALUE.findall(said)) <= set(VALUE.findall("".join(ids))), said
            assert isinstance(message.id, tuple) or set(VALUE.findall(said)) == set(
                VALUE.findall(message.id)
            ), said
            assert "%" not in VALUE.sub("", said) and "<" not in said, said


def test_no_two_languages_say_the_same() -> None:
    """No catalogue holds a sentence of another language, English included."""
    said: dict[tuple[str, object], list[str]] = {}
    for language in OTHERS:
        for message in stored(language):
            if message.id and message.id not in SAME_WORD:
                said.setdefault((str(message.id), message.string), []).append(language)

    assert [(message, told) for (message, told) in said if message == told] == []
    assert {told: languages for told, languages in said.items() if len(languages) > 1} == {}


def test_arabic_is_written_in_arabic() -> None:
    """Besides values and names of formats there is nothing but Arabic letters to read."""
    told = [
        string
        for message in stored("ar")
        if message.id
        for string in ((message.string,) if isinstance(message.string, str) else message.string)
    ]

    assert [string for string in told if re.search("[A-Za-z]", IN_LATIN.sub("", VALUE.sub("", string)))] == []
    assert [string for string in told if not re.search("[\u0621-\u064a]", string)] == []


@pytest.mark.parametrize("language", OTHERS)
def test_catalogues_are_sorted(language: str) -> None:
    """The file has the one form that merges well: by message, without line numbers."""
    assert path_of(language).read_bytes() == written(stored(language)), "run: python -m tests.messages"


@pytest.mark.parametrize(
    ("preferred", "fallback", "expected"),
    [
        (["de-AT"], "en", "de"),
        (["pt-BR", "es-419"], "en", "es"),
        (["ja"], "fr-FR", "fr"),
        (["zz", "nonsense--"], "ja", "en"),
        (["AR"], "en", "ar"),
    ],
)
def test_the_language_is_the_best_there_is(preferred: list[str], fallback: str, expected: str) -> None:
    """Of what a reader prefers, the first the pages have; else the publication's; else English."""
    assert choose_language(preferred, fallback=fallback) == expected


def test_accept_language_is_read_by_its_weights() -> None:
    """Best first; what cannot be read is left out."""
    told = read_accept_language("fr;q=0.3, de-CH, en;q=0.8, *;q=0.1, x y;q=2, es;q=zero, ar;q=0")

    assert told == ("de-CH", "en", "fr")


@given(header=st.text(max_size=200), tag=st.text(max_size=20))
def test_no_header_is_too_strange(header: str, tag: str) -> None:
    """Whatever a browser sends, there is a language and a zone."""
    told = read_accept_language(header)

    assert choose_language([*told, tag]) in LANGUAGES
    assert guess_zone([*told, tag], fallback="Europe/Paris")


def test_the_zone_is_guessed_from_a_country_that_has_one() -> None:
    """Austria has one zone and Brazil many; a language alone says nothing."""
    assert guess_zone(("de-AT", "en-US"), fallback="Europe/Paris") == "Europe/Vienna"
    assert guess_zone(("de-DE",), fallback="Europe/Paris") == "Europe/Berlin"
    assert guess_zone(("pt-BR",), fallback="Europe/Paris") == "Europe/Paris"
    assert guess_zone(("de",), fallback="Europe/Paris") == "Europe/Paris"


@pytest.mark.parametrize(
    ("language", "today", "economy", "a_day"),
    [
        ("en", "Monday to Friday, 06:30 (Paris)", "Every Monday, 07:00 (Paris)", "20 November 2026"),
        ("fr", "Du lundi au vendredi, 06:30 (Paris)", "Chaque lundi, 07:00 (Paris)", "20 novembre 2026"),
        ("es", "De lunes a viernes, 6:30 (París)", "Cada lunes, 7:00 (París)", "20 de noviembre de 2026"),
        (
            "de",
            "Montag bis Freitag, 06:30 Uhr (Paris)",
            "Jeden Montag, 07:00 Uhr (Paris)",
            "20. November 2026",
        ),
    ],
)
def test_when_it_comes_is_said_in_words(language: str, today: str, economy: str, a_day: str) -> None:
    """The schedule as a sentence of the language, days, places and dates by CLDR."""
    told = {one.slug: one.cadence for one in listing(the_catalogue(), words(language))}

    assert (told["today"], told["economy"]) == (today, economy)
    assert words(language).date(date(2026, 11, 20)) == a_day


@pytest.mark.parametrize("language", OTHERS)
def test_what_is_said_of_newsletters_and_plans_is_in_the_language(language: str) -> None:
    """The samples' nine, their plans and their tagline: on pages and in letters, marked as what they are."""
    catalogue = the_catalogue()
    own = {one.slug: one for one in listing(catalogue, words("en"))}

    for one in listing(catalogue, words(language)):
        assert (one.language, one.direction) == (language, words(language).direction)
        assert one.description and one.tagline and one.name == own[one.slug].name
        assert one.description != own[one.slug].description and one.tagline != own[one.slug].tagline
    assert all(plan.name_in(language) != plan.name for plan in catalogue.publication.plans)
    assert catalogue.publication.taglines[language] != catalogue.publication.tagline
    made = Notices(None, catalogue, KEYS, Settings(), clock=lambda: NOW).render(  # type: ignore[arg-type]
        Kind.WELCOME, words(language), reader="ab" * 12, values={"newsletters": ("today",)}, at=NOW
    )
    said = catalogue["today"].about[language].description
    assert said in made.html and said in " ".join(made.text.split())
    assert f'<bdi lang="{language}">{said}' in made.html


def test_what_was_not_translated_is_said_in_its_own_language() -> None:
    """A newsletter without words in a language keeps its own, and a plan its name."""
    catalogue = the_catalogue()
    today = catalogue["today"].model_copy(update={"about": {}})

    assert today.about_in("de") == (today.about_in("en")[0], "en-GB")
    assert today.about_in("de")[0].description == today.description
    assert catalogue.publication.plans[0].model_copy(update={"names": {}}).name_in("de") == "Free"


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", list(Kind))
def test_every_notice_renders_in_every_language(kind: Kind, language: str) -> None:
    """HTML and text hold the link, the direction and nothing unfilled."""
    notices = Notices(None, the_catalogue(), KEYS, Settings(), clock=lambda: NOW)  # type: ignore[arg-type]
    values = {"link": "/login/abc", "newsletters": ("today",), "new": "n…@m….example"}

    made = notices.render(kind, words(language), reader="ab" * 12, values=values, at=NOW)

    assert made.subject and "%(" not in made.subject + made.html + made.text
    assert f'dir="{words(language).direction}"' in made.html and f'lang="{language}"' in made.html
    if kind is not Kind.WELCOME:
        assert (
            "http://127.0.0.1:8000/login/abc" in made.html and "http://127.0.0.1:8000/login/abc" in made.text
        )
    else:
        assert "/preferences/" in made.html and "Parallel Today" in made.text
    assert "\n\n\n" not in made.text and len(made.html) < 40_000
