"""A made-up edition with everything a template may meet; for looking at templates and testing them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime

from newsletter.articles import Image, Kind, Region, Rights, Topic
from newsletter.catalogue import Catalogue
from newsletter.edition import Item, SectionMade, Snapshot
from newsletter.wording import Number, Question, Quote, ThisDay, Wording

_PICTURES = ("harbour", "field", "tower", "river")
_HEADLINES = (
    "Harvest comes early to the terraces, and the pickers set the price",
    "A court orders the river to be counted as a neighbour",
    "Where the ferries stopped, a town learns to wait for the tide again",
    "The last signal box on the coast line closes its shutters",
    "Students teach the ministry how to read its own budget",
    "Three valleys agree on one reservoir and no name for it",
    "After the fair, the glassblowers count what did not break",
    "A radio station broadcasts silence to save its masts",
    "Nurses in the islands vote for longer nights and shorter weeks",
    "Snow arrives late, so the school of skiing opens a library",
    "The market that moved at midnight finds its customers by smell",
    "Cartographers quarrel over an island that is only there in March",
    "Farmers sell shade by the hour beside the new motorway",
    "An orchestra rehearses in the depot while its hall dries out",
    "The bridge keeper retires, and nobody knows where the key is",
    "Fishing boats go electric, one battery between two harbours",
    "A dictionary of winds is finished after forty years",
    "Parliament debates whether a forest can be late",
    "Old looms return to the mill with younger hands",
    "The census finds a village that had been counted twice",
)
_PARAGRAPHS = (
    "The first ferry of the day used to leave at five, before the bakers were done. Now it leaves at seven, "
    "and the forty minutes it takes to cross the bay are the only quiet ones the <em>harbour master</em> has.",
    "“We counted the boats by their lamps,” she says. “You cannot count what comes without a lamp.”",
    "Whether the new terminal will be finished by spring depends on whom you ask, and on which side of the "
    'bay you ask it. The <a href="https://www.theparallel.example/plan">plan</a> says March.',
)


def an_item(position: int, *, full: bool = False, **fields: object) -> Item:
    """A story in place *position*; *fields* replace single ones."""
    picture = _PICTURES[position % len(_PICTURES)]
    values: dict[str, object] = {
        "position": position,
        "url": f"https://www.theparallel.example/stories/{position}",
        "headline": _HEADLINES[(position - 1) % len(_HEADLINES)],
        "source_name": ("The Parallel", "La Gaceta del Sur", "Le Courrier des Îles")[position % 3],
        "published_at": datetime(2026, 11, 19, 18, position % 60, tzinfo=UTC),
        "kicker": ("Coast", "Work", "")[position % 3],
        "standfirst": "The terminal was promised for last winter. In the meantime two villages have gone back to rowing, "
        "and found that they rather like it.",
        "byline": ("Amaya Lindqvist", "Tomasz Bello and Noor Castellanos", "")[position % 3],
        "dateline": "ROSARIO" if position % 2 else "",
        "language": "ar" if position == 6 else "en",
        "direction": "rtl" if position == 6 else "ltr",
        "country": ("AR", "PT", "JP")[position % 3],
        "country_name": ("Argentina", "Portugal", "Japan")[position % 3],
        "flag": ("🇦🇷", "🇵🇹", "🇯🇵")[position % 3],
        "region": Region.AMERICAS_LATIN,
        "topics": (Topic.SOCIETY,),
        "kind": Kind.NEWS,
        "translated_from": ("Spanish", "", "French")[position % 3],
        "translator": ("Ann Osei", "", "Jean-Luc Faure")[position % 3],
        "paper": ("El Cauce", "", "")[position % 3],
        "image": Image(
            url=f"https://media.theparallel.example/{picture}.jpg", alt="Boats at first light",
            caption="Boats wait for the tide outside the old terminal.", credit="Kofi Brandt / The Parallel",
            width=1200, height=750,
        ) if position % 4 != 2 else None,
        "paragraphs": _PARAGRAPHS if full else (),
        "continues": True,
        "reading_minutes": 4,
        "rights": Rights.OWN,
        **fields,
    }  # fmt: skip
    return Item(**values)  # type: ignore[arg-type]  # a builder takes what the dataclass takes


def a_snapshot(catalogue: Catalogue, slug: str) -> Snapshot:
    """An edition of *slug* with every section filled to its maximum."""
    newsletter = catalogue[slug]
    sections: list[SectionMade] = []
    position = 0
    for section in newsletter.sections:
        items = []
        for place in range(1, section.max + 1):
            position += 1
            image = {} if not section.with_picture else {"image": an_item(1).image}
            url = f"https://www.theparallel.example/stories/{position}"
            headline = _HEADLINES[(position - 1) % len(_HEADLINES)]
            item = an_item(place, full=section.full, url=url, headline=headline, **image)
            if item.image:
                own = f"https://media.theparallel.example/{position}.jpg"
                item = replace(item, image=replace(item.image, url=own))
            items.append(item)
        sections.append(
            SectionMade(
                id=section.id,
                block=section.block,
                heading=section.heading,
                intro=section.intro,
                items=tuple(items),
                words=section.words or "",
            )
        )
    return Snapshot(
        newsletter=slug, edition_date=date(2026, 11, 20), revision=1,
        subject=next(item.headline for section in sections for item in section.items), preheader="Also today: harvest comes early, and a river goes to court",
        date_line="Friday, 20 November 2026", language="en", direction="ltr",
        greeting=newsletter.greeting, intro="Fourteen stories from nine countries this morning.",
        sign_off=newsletter.sign_off, makers=newsletter.makers, sections=tuple(sections),
        offer=catalogue.publication.offer,
        advert=catalogue.publication.adverts[0] if catalogue.publication.adverts else None,
        number=WORDING.number, quote=WORDING.quote, this_day=WORDING.this_day, quiz=WORDING.quiz,
        letter=("This issue is about <em>patience</em>.", "Read it slowly."),
    )  # fmt: skip


WORDING = Wording(
    number=Number(figure="11", text="years of talks went before the page.", source="The Parallel"),
    quote=Quote(text="We agreed to count the water first.", who="Dilnoza Karimova", about="negotiator"),
    this_day=ThisDay(year=1820, text="A whale sank the Essex in the Pacific."),
    quiz=(
        Question(
            question="What do they count?", options=("The dams", "The water"), answer=2, note="So they said."
        ),
    ),
)
"""Words for every block."""
