"""Promises: leaving, the law's lines, rights, and what is paid for."""

from __future__ import annotations

import html as html_entities
import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from newsletter.articles import Rights
from newsletter.catalogue import Advert, Offer, class_of, reminding
from newsletter.edition import PERSONAL_TAGS, Item, for_variant
from newsletter.rendering.findings import Finding
from newsletter.rendering.proof.material import MAGAZINE, Edition, Variant, flat, plain
from newsletter.settings import is_loopback
from newsletter.words import words

_EXCERPT_WORDS = 60
_PAID_SENTENCE_CHARACTERS = 40
_SENTENCE_END = re.compile(r"(?<=[.!?…。؟])\s+")
_SHORT = 60
_REASON = "You get this because you subscribed to %(newsletter)s at %(site)s."


def check_variant(one: Variant) -> Iterator[Finding]:
    """The footer's lines, and nothing that these readers may not have."""
    yield from _footer(one)
    plan, gates = class_of(one.rendered.variant), one.edition.snapshot.gates
    if plan not in gates.offer:
        yield from _without(one, one.edition.snapshot.offer, "nl-offer")
    if plan not in gates.adverts:
        yield from _without(one, one.edition.snapshot.advert, "nl-advert")
    else:
        yield from _labelled(one)
    if plan not in gates.full_text:
        yield from _no_paid_text(one)
    yield from _no_hidden_section(one)
    yield from _no_magazine(one, plan)
    yield from _reminders(one)


def check_edition(edition: Edition) -> Iterator[Finding]:
    """Rights, and where our own links lead."""
    if is_loopback(urlsplit(edition.base_url).hostname or ""):
        yield edition.find("base-url-loopback", where=edition.base_url)
    for told in edition.snapshot.gave_way:
        yield edition.find("gave-way", message=told)
    for item in edition.snapshot.items:
        if item.rights is not Rights.EXCERPT:
            continue
        name = item.source_name
        if item.paragraphs:
            message = f"{name} is an excerpt source: its text may not be printed."
            yield edition.find("rights-body", where=item.url, message=message)
        if item.image is not None:
            message = f"{name} is an excerpt source: its picture may not be shown."
            yield edition.find("rights-picture", where=item.url, message=message)
        if len(item.standfirst.split()) > _EXCERPT_WORDS:
            message = f"The excerpt of {name} has more than {_EXCERPT_WORDS} words."
            yield edition.find("standfirst-long", where=item.url, message=message)


def _footer(one: Variant) -> Iterator[Finding]:
    edition = one.edition
    address = flat(edition.publication.postal_address)
    for part, raw, seen in (("html", one.rendered.html, one.visible), ("text", one.rendered.text, one.text)):
        for name, tag in PERSONAL_TAGS.items():
            if tag not in raw:
                what = name.removesuffix("_url")
                message = f"The {what} link is missing from the {part} part."
                yield one.find(f"{what}-missing", part, message=message)
        if address not in seen:
            message = f"The postal address is missing from the {part} part."
            yield one.find("address-missing", part, message=message)
        reason = flat(words(edition.snapshot.language.split("-")[0]).say(_REASON)).split("%(", 1)[0].strip()
        if edition.newsletter.name not in seen or not (
            reason.casefold() in seen.casefold() or "because" in seen.casefold()
        ):
            message = f"The line saying why the reader gets this mail is missing from the {part} part."
            yield one.find("reason-missing", part, message=message)


def _without(one: Variant, kind: Offer | Advert | None, mark: str) -> Iterator[Finding]:
    """An offer or advert that these readers must not get: neither its words, nor its address, nor its block."""
    raw = (
        ("subject", " ".join(one.rendered.subjects)), ("preheader", one.rendered.preheader), ("html", one.rendered.html),
        ("text", one.rendered.text),
    )  # fmt: skip
    if kind is not None:
        for said in (kind.headline, kind.text):
            for part, seen in one.parts:
                if flat(said) in seen:
                    yield one.find("gate-advert", part, where=said[:_SHORT])
        for part, text in raw:
            if kind.url in text or html_entities.escape(kind.url) in text:
                yield one.find("gate-advert", part, where=kind.url)
    if mark in one.classes:
        yield one.find("gate-advert", where=mark)


def _no_magazine(one: Variant, plan: str) -> Iterator[Finding]:
    """Only paying readers have links to the magazine's files."""
    for part, raw in (("html", one.rendered.html), ("text", one.rendered.text)):
        if plan == "free" and any(link in raw for link in MAGAZINE):
            yield one.find(
                "gate-paid", part, where="magazine", message="Free readers would get the members’ magazine."
            )


def _no_hidden_section(one: Variant) -> Iterator[Finding]:
    """Stories of sections that are for others stand nowhere."""
    plan, snapshot = class_of(one.rendered.variant), one.edition.snapshot
    shown = {item.url for item in for_variant(snapshot, one.rendered.variant).items}
    for section in snapshot.sections:
        if plan in section.classes:
            continue
        for item in section.items:
            for part, seen in one.parts:
                if item.url not in shown and flat(item.headline) in seen:
                    message = f"“{item.headline}” stands in {section.id}, which is not for {plan} readers."
                    yield one.find("gate-section", part, where=item.url, message=message)


def _labelled(one: Variant) -> Iterator[Finding]:
    """An advert that is shown says that it is one."""
    advert = one.edition.snapshot.advert
    if advert is None:
        return
    for part, seen in (("html", one.visible), ("text", one.text)):
        if flat(advert.headline) in seen and advert.label.casefold() not in seen.casefold():
            message = f"The advert “{advert.headline}” is not marked as “{advert.label}” in the {part} part."
            yield one.find("advert-unlabelled", part, where=advert.headline, message=message)


def _reminders(one: Variant) -> Iterator[Finding]:
    """A reminder stands in both parts of its own variant, and in no other."""
    parts = dict(one.parts)
    for reminder in one.edition.snapshot.reminders:
        words = flat(reminder.headline)
        is_its = one.rendered.variant == reminding(reminder.id)
        for part, seen in parts.items():
            if words in seen and not is_its:
                message = f"The reminder {reminder.id} is not for these readers."
                yield one.find("gate-reminder", part, where=words[:_SHORT], message=message)
        for part in ("html", "text"):
            if is_its and words not in parts[part]:
                message = f"The reminder {reminder.id} is missing from the {part} part."
                yield one.find("reminder-missing", part, message=message)


def _no_paid_text(one: Variant) -> Iterator[Finding]:
    items = one.edition.snapshot.items
    free = flat(" ".join(_free_words(item) for item in items))
    for item in items:
        for sentence in paid_sentences(item, free=free):
            for part, seen in one.parts:
                if sentence in seen:
                    yield one.find("gate-paid", part, where=sentence[:_SHORT])


def _free_words(item: Item) -> str:
    """What everybody may read of a story."""
    return " ".join((item.standfirst, item.headline, item.image.caption if item.image else ""))


def paid_sentences(item: Item, *, free: str) -> Iterator[str]:
    """The sentences of a story that only members may read, flat; not what *free* says anyway."""
    for paragraph in item.paragraphs:
        for sentence in _SENTENCE_END.split(flat(plain(paragraph))):
            if len(sentence) >= _PAID_SENTENCE_CHARACTERS and sentence not in free:
                yield sentence
