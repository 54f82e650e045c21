"""Invented stories and words for looking at blocks: what may be long, lacking, foreign or many."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

from newsletter.articles import Image, Region, Rights, Topic
from newsletter.edition import Item
from newsletter.wording import FrontPage, Number, Question, Quote, ThisDay

DAY = date(2026, 11, 20)
PICTURE = (
    "data:image/jpeg;base64,"
    + b64encode((Path(__file__).parent / "data" / "sample.jpg").read_bytes()).decode()
)

_PLAIN = (
    ("The ferry that learned to wait", "LISBON", "PT", "Portugal", "🇵🇹", "Portuguese"),
    ("A village school keeps the last map of the lake", "COPACABANA", "BO", "Bolivia", "🇧🇴", "Spanish"),
    ("Bakers vote on the weight of the morning", "TIRANA", "AL", "Albania", "🇦🇱", ""),
    ("Where the night bus turns, a library opens", "ACCRA", "GH", "Ghana", "🇬🇭", ""),
)
_LONG = (
    "After eleven winters, three ministries, two floods and one very patient clerk, the island of lighthouse keepers is "
    "to be counted, taxed and, if the weather allows it, given a postcode of its own"
)
_PARAGRAPHS = (
    "The boat leaves when the last of them is on board. That was never a rule; it was <em>her</em> habit, and the "
    "company has now written it down.",
    "“People here do not miss a ferry,” says the woman at the rope. “A ferry misses people.”",
)


def story(position: int = 1) -> Item:
    """An ordinary story, with everything a story may have."""
    headline, dateline, country, country_name, flag, translated = _PLAIN[(position - 1) % len(_PLAIN)]
    return Item(
        position=position, url=f"https://www.theparallel.example/sample/{position}", headline=headline,
        source_name="The Parallel", published_at=datetime(2026, 11, 19, 18, tzinfo=UTC), kicker="Islands",
        standfirst="Nobody asked for a timetable. Now that there is one, the quay has fallen out over its first column.",
        byline="Amaya Lindqvist", dateline=dateline, country=country, country_name=country_name, flag=flag,
        region=Region.EUROPE, topics=(Topic.SOCIETY,), translated_from=translated, image=picture(), reading_minutes=4,
        rights=Rights.OWN,
    )  # fmt: skip


def picture() -> Image:
    """A picture that needs no network."""
    words = "Boats wait for the early light outside the terminal."
    return Image(
        PICTURE, alt=words, caption=words, credit="Kofi Brandt / The Parallel", width=640, height=400
    )


def in_arabic(position: int = 1) -> Item:
    """A story from right to left, with a name from left to right in it."""
    return replace(
        story(position), headline="عبّارة تتعلّم الانتظار: كيف غيّر رصيف Cais do Sodré مواعيد المدينة", kicker="جزر",
        standfirst="لم يطلب أحد جدولًا للمواعيد. والآن وقد صار هناك جدول، اختلف أهل الرصيف على عموده الأول.",
        byline="ليلى حدّاد", dateline="بيروت", language="ar", direction="rtl", source_name="المنارة", country="LB",
        country_name="Lebanon", flag="🇱🇧", translated_from="",
    )  # fmt: skip


def in_japanese(position: int = 1) -> Item:
    """A story without spaces between its words."""
    return replace(
        story(position), headline="待つことを覚えた渡し船――島の桟橋が町の時刻表を書き換えるまで", kicker="島",
        standfirst="時刻表を求めた人はいなかった。いざ出来てみると、桟橋は最初の一列をめぐって割れた。",
        byline="佐藤 遥", dateline="高松", language="ja", source_name="絆新聞", country="JP", country_name="Japan",
        flag="🇯🇵", translated_from="",
    )  # fmt: skip


def long_story(position: int = 1) -> Item:
    """A headline that nobody shortened."""
    return replace(story(position), headline=_LONG)


def full_story(position: int = 1) -> Item:
    """A story with its text, which goes on elsewhere."""
    return replace(story(position), paragraphs=_PARAGRAPHS)


NUMBER = Number(
    figure="1,204", text="lamps stood on the quay on the last night without a timetable.", source="The Parallel",
    url="https://www.theparallel.example/sample/lamps",
)  # fmt: skip
LONG_NUMBER = Number(figure="−12,345,678.9 %", text=_LONG + ".")
QUOTE = Quote(
    text="You cannot count what comes without a lamp.", who="Inês Barroso", about="keeper of the harbour book",
    url="https://www.theparallel.example/sample/quote",
)  # fmt: skip
LONG_QUOTE = Quote(text=f"{_LONG}. {_LONG}.", who="Maria Aparecida do Nascimento e Vasconcelos-Oyelaran")
THIS_DAY = ThisDay(
    year=1869, text="The canal is opened, and the first ship through it is the one that was told to wait."
)
QUIZ = (
    Question(
        question="What do the islanders count?", options=("Boats", "Lamps", "Tides"), answer=2,
        note="A boat without a lamp is not counted.",
    ),
)  # fmt: skip
FRONT_PAGE = FrontPage(
    paper="Diário do Cais", headline="O barco que espera", language="pt", country="PT", country_name="Portugal", flag="🇵🇹",
    translation="The boat that waits", alt="The paper’s front page: a quay before dawn",
    text="The whole page is one photograph and one timetable, and the timetable is blank.", credit="Diário do Cais",
    url="https://www.theparallel.example/sample/front-page",
).model_copy(update={"picture": PICTURE, "direction": "ltr"})  # fmt: skip
ARABIC_PAGE = FRONT_PAGE.model_copy(
    update={
        "paper": "المنارة", "headline": "العبّارة التي تنتظر", "language": "ar", "direction": "rtl", "country": "LB",
        "country_name": "Lebanon", "flag": "🇱🇧",
    }
)  # fmt: skip
LETTER = ("The quay is quiet today, and so is this letter.", "Read it <em>slowly</em>; it was written so.")
