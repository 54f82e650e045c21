"""Promises: leaving, the law's lines, rights, and what is paid for."""

from __future__ import annotations

import html as html_entities
import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from newsletter.articles import Rights
from newsletter.catalogue import class_of, reminding
from newsletter.edition import PERSONAL_TAGS, Item
from newsletter.rendering.findings import Finding
from newsletter.rendering.proof.material import Edition, Variant, flat, plain
from newsletter.settings import is_loopback

_EXCERPT_WORDS = 60
_PAID_SENTENCE_CHARACTERS = 40
_SENTENCE_END = re.compile(r"(?<=[.!?…。؟])\s+")
_SHORT = 60


def check_variant(one: Variant) -> Iterator[Finding]:
    """The footer's lines, and nothing that these readers may not have."""
    yield from _footer(one)
    if class_of(one.rendered.variant) == "paying":
        yield from _no_adverts(one)
    else:
        yield from _no_paid_text(one)
        yield from _labelled(one)
    yield from _reminders(one)


def check_edition(edition: Edition) -> Iterator[Finding]:
    """Rights, and where our own links lead."""
    if is_loopback(urlsplit(edition.base_url).hostname or ""):
        yield edition.find("base-url-loopback", where=edition.base_url)
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
        if edition.newsletter.name not in seen or "because" not in seen.casefold():
            message = f"The line saying why the reader gets this mail is missing from the {part} part."
            yield one.find("reason-missing", part, message=message)


def _no_adverts(one: Variant) -> Iterator[Finding]:
    raw = (
        ("subject", one.rendered.subject), ("preheader", one.rendered.preheader), ("html", one.rendered.html),
        ("text", one.rendered.text),
    )  # fmt: skip
    for kind in (one.edition.snapshot.offer, one.edition.snapshot.advert):
        if kind is None:
            continue
        for words in (kind.headline, kind.text):
            for part, seen in one.parts:
                if flat(words) in seen:
                    yield one.find("gate-advert", part, where=words[:_SHORT])
        for part, text in raw:
            if kind.url in text or html_entities.escape(kind.url) in text:
                yield one.find("gate-advert", part, where=kind.url)
    for mark in ("nl-advert", "nl-offer"):
        if mark in one.classes:
            yield one.find("gate-advert", where=mark)


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
