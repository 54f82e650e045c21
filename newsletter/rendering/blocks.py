"""
The catalogue of blocks: each alone, in every state it may get into, as one newsletter sets it.

A block is two files in ``blocks/`` of the newsletter's folder or of ``_shared``. One that is not named here is shown
with stories, so a new block is in the catalogue on arrival.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from newsletter.articles import direction
from newsletter.catalogue import CLASSES, Catalogue, Gates, Newsletter, Offer, Reminder, reminding
from newsletter.edition import Item, Rendered, SectionMade, Snapshot
from newsletter.rendering import samples
from newsletter.rendering.engine import Renderer

BODY = "catalogue"
_ALL = Gates(full_text=CLASSES, offer=CLASSES, adverts=CLASSES)


@dataclass(frozen=True, slots=True)
class State:
    """A block in one state, rendered; *name* is a word, *title* says what is special about it."""

    block: str
    name: str
    title: str
    rendered: Rendered


def _many(make: Callable[[int], Item], n: int = 3) -> tuple[Item, ...]:
    return tuple(make(position) for position in range(1, n + 1))


_STORIES: Mapping[str, tuple[str, tuple[Item, ...]]] = {
    "plain": ("as it mostly is", _many(samples.story)),
    "long-headline": ("long headline", _many(samples.long_story, 2)),
    "no-picture": ("no picture", _many(lambda n: replace(samples.story(n), image=None))),
    "no-standfirst": ("no standfirst", _many(lambda n: replace(samples.story(n), standfirst="", byline="", kicker=""))),
    "full": ("with its text", _many(samples.full_story, 1)),
    "rtl": ("right to left", _many(samples.in_arabic, 2)),
    "cjk": ("Japanese", _many(samples.in_japanese, 2)),
    "one": ("one item", _many(samples.story, 1)),
    "twelve": ("twelve items", _many(samples.story, 12)),
}  # fmt: skip
_ARABIC = {"language": "ar", "direction": "rtl"}
_WORDS: Mapping[str, Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    "number": {
        "plain": ("as it mostly is", {"number": samples.NUMBER}),
        "long": ("long, without a source", {"number": samples.LONG_NUMBER}),
        "rtl": ("in an Arabic edition", {"number": samples.NUMBER, **_ARABIC}),
    },
    "quote": {
        "plain": ("as it mostly is", {"quote": samples.QUOTE}),
        "long": ("long, without a link", {"quote": samples.LONG_QUOTE}),
        "rtl": ("in an Arabic edition", {"quote": samples.QUOTE, **_ARABIC}),
    },
    "this-day": {
        "plain": ("as it mostly is", {"this_day": samples.THIS_DAY}),
        "rtl": ("in an Arabic edition", {"this_day": samples.THIS_DAY, **_ARABIC}),
    },
    "quiz": {
        "one": ("one question", {"quiz": samples.QUIZ}),
        "many": ("ten questions", {"quiz": samples.QUIZ * 10}),
        "rtl": ("in an Arabic edition", {"quiz": samples.QUIZ, **_ARABIC}),
    },
    "answers": {"one": ("one answer", {"quiz": samples.QUIZ}), "many": ("ten answers", {"quiz": samples.QUIZ * 10})},
    "written": {
        "plain": ("as it mostly is", {"letter": samples.LETTER}),
        "long": ("twelve paragraphs", {"letter": samples.LETTER * 6}),
        "rtl": ("in an Arabic edition", {"letter": samples.LETTER, **_ARABIC}),
    },
    "front-page": {
        "plain": ("as it mostly is", {"front_page": samples.FRONT_PAGE}),
        "no-picture": ("no picture", {"front_page": samples.FRONT_PAGE.model_copy(update={"picture": ""})}),
        "rtl": ("an Arabic paper", {"front_page": samples.ARABIC_PAGE}),
    },
    "offer": {"plain": ("to free readers", {}), "rtl": ("in an Arabic edition", _ARABIC)},
    "advert": {"plain": ("marked as what it is", {}), "rtl": ("in an Arabic edition", _ARABIC)},
    "reminder": {"plain": ("a plan that ends", {})},
    "credits": {
        "plain": ("with a word to end", {"sign_off": "See you tomorrow.", "makers": ("Amaya Lindqvist", "Tomasz Bello")}),
        "one": ("one maker", {"makers": ("Amaya Lindqvist",)}),
        "twelve": ("twelve makers", {"makers": ("Amaya Lindqvist", "Tomasz Bello", "ليلى حدّاد", "佐藤 遥") * 3}),
    },
    "share": {"plain": ("for whom it was forwarded to", {}), "rtl": ("in an Arabic edition", _ARABIC)},
    "magazine": {"plain": ("its two files", {}), "rtl": ("in an Arabic edition", _ARABIC)},
}  # fmt: skip
_OFFER = Offer(
    kicker="For members", headline="Read the whole story", text="The first thirty days are free.", button="Try it",
    url="https://www.theparallel.example/sample/offer",
)  # fmt: skip
_REMINDER = Reminder(
    id="ending", headline="Your trial ends soon.", text="Stay, or do nothing.", button="Stay a member",
    url="https://www.theparallel.example/sample/stay", trial_ends_within_days=3,
)  # fmt: skip


def block_names(catalogue: Catalogue, slug: str) -> tuple[str, ...]:
    """The blocks *slug* may name: its own and the family's, by name."""
    folders = (catalogue.root / slug / "blocks", catalogue.root / "_shared" / "blocks")
    return tuple(
        sorted(
            {path.name.removesuffix(".mjml.j2") for folder in folders for path in folder.glob("*.mjml.j2")}
        )
    )


def states_of(renderer: Renderer, newsletter: Newsletter, block: str) -> Iterator[State]:
    """
    Render *block* in each of its states.

    Raises:
        TemplateError: the block cannot be rendered in one of them; names template and line.
    """
    if block in _WORDS:
        for name, (title, changes) in _WORDS[block].items():
            yield _state(renderer, newsletter, block, name, title, (), changes)
        return
    for name, (title, items) in _STORIES.items():
        yield _state(renderer, newsletter, block, name, title, items, {})


def _state(
    renderer: Renderer, newsletter: Newsletter, block: str, name: str, title: str, items: tuple[Item, ...],
    changes: Mapping[str, Any],
) -> State:  # fmt: skip
    publication = renderer.catalogue.publication
    section = SectionMade(
        block, block, block.replace("-", " ").capitalize(), "", items, "x" if block in _WORDS else ""
    )
    snapshot = Snapshot(
        newsletter=newsletter.slug, edition_date=samples.DAY, revision=1, subject=f"{block}: {title}", preheader=title,
        date_line=samples.DAY.isoformat(), language=newsletter.language, direction=direction(newsletter.language),
        greeting="", intro="", sign_off="", makers=(), sections=(section,), offer=publication.offer or _OFFER,
        advert=publication.adverts[0] if publication.adverts else None, reminders=(_REMINDER,), gates=_ALL,
    )  # fmt: skip
    rendered = renderer.render(replace(snapshot, **changes), reminding(_REMINDER.id), body=BODY)
    return State(block, name, title, rendered)
