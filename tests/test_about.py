"""What a story is about: read from declared categories, addresses and words, in many languages."""

from __future__ import annotations

import csv
from itertools import groupby
from pathlib import Path

import pytest

from newsletter.about import media_topics, subject_of
from newsletter.about.lexicon import Labels, Lexicon, folded
from newsletter.about.places import whereabouts
from newsletter.articles import Kind, Region, Topic
from newsletter.catalogue import KindRule, TopicRule

GOLD = Path(__file__).with_name("gold")


@pytest.mark.parametrize(
    ("headline", "topic"),
    [
        ("Magnitude 6 earthquake shakes the coast", Topic.DISASTER),
        ("Un séisme secoue la côte", Topic.DISASTER),
        ("Терремото: землетрясение у побережья", Topic.DISASTER),
        ("زلزال يضرب الساحل", Topic.DISASTER),
        ("רעידת אדמה בצפון", Topic.DISASTER),
        ("沿海发生地震", Topic.DISASTER),
        ("Bundestag stimmt über das Gesetz ab", Topic.POLITICS),
        ("चुनाव आज होंगे", Topic.POLITICS),
        ("La banque relève ses bénéfices", Topic.BUSINESS),
        ("El equipo gana la liga de fútbol", Topic.SPORT),
        ("Israel moves to register land in the West Bank", Topic.CONFLICT),
    ],
)
def test_topics_are_read_in_any_language(headline: str, topic: Topic) -> None:
    """The same matter is found whatever the language or script of the headline."""
    assert subject_of(headline, "").topics[0] is topic


@pytest.mark.parametrize(
    ("headline", "topic"),
    [
        ("Snowstorms wreak chaos in Romania", Topic.CULTURE),
        ("Prime minister sacks Reconstruction Authority chief", Topic.CULTURE),
        ("Las autoridades detienen a tres hombres", Topic.CULTURE),
        ("Missile tests show improvement", Topic.CULTURE),
        ("Troops near the Tigris River", Topic.ENVIRONMENT),
        ("No DNA matches on glove, police say", Topic.SPORT),
    ],
)
def test_a_word_that_only_begins_alike_is_no_topic(headline: str, topic: Topic) -> None:
    """Romania is no novel (roman), an authority no author, a front at a river no nature, and DNA plays no matches."""
    assert topic not in subject_of(headline, "").topics


def test_what_a_source_declares_weighs_most() -> None:
    """A category beats the words of the headline, and the section of the address comes between."""
    about = subject_of(
        "The match of the century", "", categories=("Culture",), url="https://p.example/business/1"
    )

    assert about.topics == (Topic.CULTURE, Topic.BUSINESS, Topic.SPORT)


@pytest.mark.parametrize(
    ("headline", "kind"),
    [
        ("Your daily horoscope for Tuesday", Kind.PROMO),
        ("Гороскоп на неделю", Kind.PROMO),
        ("The weekend quiz", Kind.PROMO),
        ("Sponsored: a better mattress", Kind.PROMO),
        ("Police quiz minister over missing millions", Kind.NEWS),
        ("State-sponsored scholarships grow", Kind.NEWS),
        ("Why the strait matters", Kind.ANALYSIS),
        ("Storm: why the coast was not warned", Kind.ANALYSIS),
        ("He asked why, and was told", Kind.NEWS),
        ("Live updates: the vote is counted", Kind.LIVE_BLOG),
        ("Lunar New Year in pictures", Kind.VIDEO),
    ],
)
def test_kinds_are_told_apart(headline: str, kind: Kind) -> None:
    """Promotions are recognised, and what only sounds like one is not; an opening word must open."""
    assert subject_of(headline, "").kind is kind


def test_a_publication_adds_its_own_words() -> None:
    """Topics and kinds of publication.toml are looked for beside ours; its kinds come first."""
    topics = (TopicRule(topic=Topic.SOCIETY, headline=("allotment*",)),)
    kinds = (KindRule(kind=Kind.PROMO, headline=("members’ evening",)),)

    about = subject_of("Why allotments? Our members’ evening", "", topics=topics, kinds=kinds)

    assert (about.topics, about.kind) == ((Topic.SOCIETY,), Kind.PROMO)


@pytest.mark.parametrize(
    ("headline", "more", "region", "countries"),
    [
        ("Thousands march in Nairobi", {}, Region.AFRICA, ("KE",)),
        ("US-Iran talks resume", {}, Region.AMERICAS_NORTH, ("US", "IR")),
        ("Under pressure from Trump, Venezuela votes", {}, Region.AMERICAS_LATIN, ("VE", "US")),
        ("Shooting at a rink in Rhode Island", {}, Region.AMERICAS_NORTH, ("US",)),
        ("Die Insel feiert", {"language": "de"}, Region.EUROPE, ("DE",)),
        ("Jovem bate carro", {"language": "pt-BR"}, Region.AMERICAS_LATIN, ("BR",)),
        ("A quiet night", {"url": "https://paper.co.za/1"}, Region.AFRICA, ("ZA",)),
        ("Leaders of the Sahel meet", {}, Region.AFRICA, ()),
        ("A quiet night", {}, Region.GLOBAL, ()),
    ],
)
def test_a_story_has_its_place(
    headline: str, more: dict[str, str], region: Region, countries: tuple[str, ...]
) -> None:
    """Countries by how well they are supported; without a place named, where its source is at home."""
    where = whereabouts(headline, "", **more)  # type: ignore[arg-type]  # only texts are given here

    assert (where.region, where.countries) == (region, countries)


def test_every_topic_has_its_media_topic() -> None:
    """Each topic is mapped to the top level of IPTC Media Topics."""
    assert set(media_topics()) == set(Topic)
    assert all(code.startswith("medtop:") for code in media_topics().values())


def test_a_lexicon_finds_words_beginnings_phrases_and_unspaced_words() -> None:
    """The forms an editor may write; a phrase uses its words up."""
    lexicon = Lexicon({"money": ["bank", "prix*"], "place": ["west bank"], "quake": ["地震"]})

    assert lexicon.found("The BANK on the West Bank: prix élevés, 地震") == {
        "money": {"bank", "prix"}, "place": {"west bank"}, "quake": {"地震"},
    }  # fmt: skip
    assert lexicon.found("on the west bank") == {"place": {"west bank"}}
    assert Labels({"war": ["civil war*"]}).of("Civil War (1861)") == {"war"}
    assert folded("L’Équipe") == "lequipe"


def test_words_of_two_scripts_are_two_words() -> None:
    """Spelt out in Latin letters, газа is Gaza; the one is fuel, the other a place."""
    lexicon = Lexicon({"fuel": ["газа"], "place": ["gaza"]})

    assert lexicon.found("Цены газа") == {"fuel": {"~gaza"}}
    assert lexicon.found("Gaza") == {"place": {"gaza"}}


def test_the_gold_set_is_whole() -> None:
    """Labels are from our vocabularies, a story lies in one half, and pairs name labelled articles."""
    for day in ("2026-02-17", "2017-01-07"):
        with (GOLD / f"{day}.tsv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        urls = {row["url"] for row in rows}
        for row in rows:
            assert all(Region(one) for one in row["regions"].split())
            assert all(Topic(one) for one in row["topics"].split())
            assert all(Kind(one) for one in row["kinds"].split())
        told = sorted((row["story"], row["half"]) for row in rows if row["story"])
        assert all(len({half for _, half in some}) == 1 for _, some in groupby(told, lambda row: row[0]))
        for name in ("lookalikes.tsv", "doubtful.tsv"):
            with (GOLD / name).open(encoding="utf-8", newline="") as file:
                pairs = [row for row in csv.DictReader(file, delimiter="\t") if row["day"] == day]
            assert {row["url"] for row in pairs} | {row["other"] for row in pairs} <= urls
