"""The look as data, the languages of a newsletter, and who gets what."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime

import pytest
from lxml import html

from newsletter.articles import Article, Rights
from newsletter.catalogue import Gates, Section
from newsletter.edition import Snapshot, for_variant
from newsletter.makeup import make_snapshot
from newsletter.picking.picks import Pick, Picks
from newsletter.rendering.engine import Renderer
from newsletter.rendering.proof.cascade import contrast
from newsletter.rendering.proof.contrast import LEAST
from newsletter.wording import Wording
from newsletter.words import words
from tests.builders import the_catalogue
from tests.snapshots import a_snapshot

CATALOGUE = the_catalogue()
SLUGS = [newsletter.slug for newsletter in CATALOGUE.newsletters]
RENDERER = Renderer(CATALOGUE)


def _rgb(colour: str) -> tuple[float, float, float]:
    red, green, blue = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    return red, green, blue


@pytest.mark.parametrize("slug", SLUGS)
def test_every_look_can_be_read(slug: str) -> None:
    """Text of every kind on every ground of the theme, in light and in dark."""
    pairs = CATALOGUE[slug].theme.pairs

    faint = {which: contrast(_rgb(text), _rgb(ground)) for which, text, ground in pairs}

    assert {which: round(ratio, 2) for which, ratio in faint.items() if ratio < LEAST} == {}


def test_each_of_the_nine_has_a_face_of_its_own() -> None:
    """No two share an accent, in light or in dark, nor a masthead."""
    themes = [CATALOGUE[slug].theme for slug in SLUGS]
    mastheads = {(CATALOGUE.root / slug / "masthead.mjml.j2").read_text(encoding="utf-8") for slug in SLUGS}

    assert len({theme.accent for theme in themes}) == len({theme.accent_dark for theme in themes}) == 9
    assert len(mastheads) == 9


def _made(
    language: str, headlines: tuple[str, ...], wording: Wording | None = None, **changes: object
) -> Snapshot:
    """*today* in *language*, with a story a headline in its first section."""
    newsletter = CATALOGUE["today"].model_copy(update={"language": language, **changes})
    at = datetime(2026, 11, 20, 3, tzinfo=UTC)
    picked = tuple(
        Pick(
            section="seven", position=place, score=1.0, reasons=(),
            article=Article(
                url=f"https://p.example/{place}", source="p", source_name="Der Nordbote", headline=headline,
                published_at=at, first_seen_at=at, language=language, translated_from="de", countries=("DE",),
                byline="Ann Osei", rights=Rights.OWN, standfirst="…",
            ),
        )
        for place, headline in enumerate(headlines, 1)
    )  # fmt: skip
    return make_snapshot(
        newsletter,
        CATALOGUE.publication,
        Picks("today", picked, (), ()),
        edition_date=date(2026, 11, 20),
        wording=wording,
    )


@pytest.mark.parametrize(
    ("language", "direction", "day", "german", "made_from"),
    [
        ("fr", "ltr", "vendredi 20 novembre 2026", "allemand", "traduit, original en allemand"),
        ("ar", "rtl", "الجمعة، 20 نوفمبر 2026", "الألمانية", "مترجم، الأصل: الألمانية"),
    ],
)
def test_a_newsletter_in_another_language_is_a_setting(
    language: str, direction: str, day: str, german: str, made_from: str
) -> None:
    """Dates, languages and every word of the templates are in it, and its lines run its way."""
    snapshot = _made(language, ("Eins", "Zwei", "Drei"))
    rendered = RENDERER.render(snapshot, "free")
    page = html.document_fromstring(rendered.html)
    spoken = words(language)

    assert (page.get("lang"), page.get("dir"), snapshot.date_line) == (language, direction, day)
    assert [item.translated_from for item in snapshot.items] == [german] * 3
    for part in (" ".join(page.text_content().split()), " ".join(rendered.text.split())):
        assert part.count(made_from) == 3
        assert spoken.say("Unsubscribe") in part and "Unsubscribe" not in part
        assert "Read the story" not in part and "translated" not in part
    assert {one.get("dir") for one in page.iter("div") if one.get("role") == "main"} == {direction}
    assert ("direction:rtl" in rendered.html) == (direction == "rtl")


@pytest.mark.parametrize(
    ("headlines", "subject"),
    [
        (
            ("Two rivers agree to meet, after years", "The ferries of the south stop", "Snow falls late", "Lost parrot sings — badly"),
            "Two rivers agree to meet, Snow falls late, Lost parrot sings",
        ),
        (
            ("Two rivers agree to meet", "Tributes pour in after a poet dies at 84", "Ministers sign the river treaty", "A parrot sings"),
            "Two rivers agree to meet, Ministers sign the river treaty, A parrot sings",
        ),
        (("A" * 50, "B" * 50, "C" * 50), f"{'A' * 50}, {'C' * 50}"),
        (("A" * 100, "B" * 50, "C" * 50), "A" * 100),
        (("Bakers vote",), "Bakers vote"),
    ],
)  # fmt: skip
def test_a_subject_has_three_bits(headlines: tuple[str, ...], subject: str) -> None:
    """The lead, the shortest between and the last, each by its first claim; fewer where they would be too long."""
    assert _made("en", headlines).subject == subject


def test_a_greeting_of_the_day_takes_its_turn_and_says_what_it_is() -> None:
    """One a day, never in the newsletter's own language; its note is in that."""
    publication = CATALOGUE.publication
    days = [_made("en", ("Eins", "Zwei", "Drei")).hello for _ in range(2)]

    assert days[0] == days[1] and days[0] in [
        one.model_copy(update={"note": days[0].note if days[0] else ""}) for one in publication.hellos
    ]
    assert days[0] is not None and ", " in days[0].note
    assert _made("en", ("Eins",), hello=False).hello is None
    assert _made("en", ("Eins",), Wording(greeting="Good night.")).hello is None


def test_gates_are_data() -> None:
    """A section for paying readers is gone from the free edition, and a newsletter may give its text to all."""
    snapshot = a_snapshot(CATALOGUE, "today")
    lead, seven, *rest = snapshot.sections
    shut = replace(snapshot, sections=(lead, replace(seven, classes=("paying",)), *rest))
    generous = replace(snapshot, gates=Gates(full_text=("free", "paying"), offer=(), adverts=()))

    assert [one.id for one in for_variant(shut, "free").sections] == [one.id for one in (lead, *rest)]
    assert for_variant(shut, "paying").sections == shut.sections
    assert seven.items[1].headline not in RENDERER.render(shut, "free").html
    assert for_variant(generous, "free").items == generous.items
    assert (for_variant(generous, "free").offer, for_variant(generous, "free").advert) == (None, None)


def test_words_for_paying_readers_are_gated_too() -> None:
    """A number in a gated section is in no other variant's value."""
    snapshot = a_snapshot(CATALOGUE, "today")
    sections = tuple(
        replace(one, classes=("paying",)) if one.words == "number" else one for one in snapshot.sections
    )

    gated = for_variant(replace(snapshot, sections=sections), "free")

    assert (gated.number, gated.quote) == (None, snapshot.quote)


def test_a_section_says_for_whom_it_is() -> None:
    """As ``for`` in newsletter.toml."""
    section = Section.model_validate({"id": "more", "block": "list", "max": 3, "for": ["paying"]})

    assert section.classes == ("paying",)


def test_the_magazines_links_are_for_paying_readers() -> None:
    """Below the reader's own address, in both parts, and in no free mail."""
    snapshot = replace(a_snapshot(CATALOGUE, "magazine"), magazine=True)

    paid, free = (RENDERER.render(snapshot, variant) for variant in ("paying", "free"))

    for path in ("magazine.pdf", "magazine.epub", "issues"):
        link = f"[[nl:view_url]]/{path}"
        assert f'href="{link}"' in paid.html and link in paid.text
        assert link not in free.html + free.text
