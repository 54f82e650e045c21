"""Stories: enough of them, each once, in both parts, of the right age, and saying what they are."""

from __future__ import annotations

import html as html_entities
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta

from rapidfuzz import fuzz

from newsletter.articles import headline_key
from newsletter.edition import Item, SectionMade, for_variant
from newsletter.picking.picks import SAME_HEADLINE
from newsletter.rendering.findings import Finding
from newsletter.rendering.proof.material import Edition, Variant, flat

_WORDS_TO_COMPARE = 4  # below, headlines are alike by chance


def check_variant(one: Variant) -> Iterator[Finding]:
    """The same stories in both parts, each translation told."""
    seen = {part: words.casefold() for part, words in one.parts}  # a template may set capitals
    page = html_entities.unescape(one.rendered.html)
    translated: Counter[str] = Counter()
    for item in for_variant(one.edition.snapshot, one.rendered.variant).items:
        headline = flat(item.headline).casefold()
        in_html = item.url in page and headline in seen["html"]
        in_text = item.url in one.rendered.text and headline in seen["text"]
        if in_html != in_text:
            missing = "text" if in_html else "html"
            message = f"“{item.headline}” is missing from the {missing} part."
            yield one.find("parts-differ", missing, where=item.url, message=message)
        elif not in_html:
            yield one.find("story-missing", where=item.url, message=f"“{item.headline}” is in neither part.")
        elif item.translated_from:
            translated[item.translated_from] += 1
            for part in ("html", "text"):
                for name in (item.translator, item.paper):
                    if flat(name).casefold() not in seen[part]:
                        message = f"{name}, who is behind “{item.headline}”, is not named in the {part} part."
                        yield one.find("translation-credit", part, where=item.url, message=message)
    for part in ("html", "text"):
        for language, stories in sorted(translated.items()):
            if seen[part].count(language.casefold()) < stories:
                message = f"{stories} stories are translated from the {language}; the {part} part does not say so of each."
                yield one.find("translation-credit", part, where=language, message=message)


def check_edition(edition: Edition) -> Iterator[Finding]:
    """What is wrong with the choice, whatever the variant."""
    snapshot, newsletter = edition.snapshot, edition.newsletter
    if snapshot.stories < newsletter.min_stories:
        message = f"{snapshot.stories} stories where {newsletter.min_stories} are the minimum."
        yield edition.find("thin", message=message)
    for section in snapshot.sections:
        yield from _section(edition, section)
    seen: set[str] = set()
    for item in snapshot.items:
        if not item.headline.strip():
            yield edition.find("headline-missing", where=item.url)
        if item.url in seen:
            yield edition.find("duplicate-story", where=item.url)
        seen.add(item.url)
        if item.published_at > edition.now:
            message = f"“{item.headline}” may be told from {item.published_at:%Y-%m-%d %H:%M} UTC on."
            yield edition.find("embargo", where=item.url, message=message)
    yield from _alike(edition, snapshot.items)


def _section(edition: Edition, made: SectionMade) -> Iterator[Finding]:
    name = made.heading or made.id
    rule = next((one for one in edition.newsletter.sections if one.id == made.id), None)
    if made.words:
        if not getattr(edition.snapshot, made.words, None):
            yield edition.find("section-empty", where=name, message=f"{name} has no words.")
    elif not made.items:
        yield edition.find("section-empty", where=name, message=f"{name} holds no story.")
    elif rule and len(made.items) < rule.min:
        message = f"{name} has {len(made.items)} of at least {rule.min} stories."
        yield edition.find("section-thin", where=name, message=message)
    elif rule and len(made.items) > rule.max:
        message = (
            f"{name} holds {len(made.items)} stories where {rule.max} fit, because an editor put them there."
        )
        yield edition.find("section-full", where=name, message=message)
    hours = min(
        edition.newsletter.window_hours, (rule and rule.max_age_hours) or edition.newsletter.window_hours
    )
    for item in made.items:
        age = edition.now - item.published_at
        if age > timedelta(hours=hours):
            message = (
                f"“{item.headline}” is {age / timedelta(hours=1):.0f} hours old; {name} looks back {hours:g}."
            )
            yield edition.find("story-old", where=item.url, message=message)


def _alike(edition: Edition, items: tuple[Item, ...]) -> Iterator[Finding]:
    keys = [headline_key(item.headline) for item in items]
    for here, item in enumerate(items):
        if len(keys[here].split()) < _WORDS_TO_COMPARE:
            continue
        for there in range(here):
            other = items[there]
            if other.language != item.language or other.url == item.url:
                continue
            likeness = fuzz.token_sort_ratio(keys[here], keys[there], score_cutoff=SAME_HEADLINE)
            if likeness:
                message = f"“{item.headline}” and “{other.headline}” are {likeness:.0f} % alike."
                yield edition.find("duplicate-headline", where=item.url, message=message)
