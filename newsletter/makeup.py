"""
Make-up: picks + words → the snapshot of an edition. Pure; what goes to print is decided here.

Rights are kept here: an excerpt source gives headline, at most 60 words and a link, never a body or a
picture. Feed text is neutralised here, so that nothing a feed says can be taken for a token of ours
or of a provider's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import Any
from urllib.parse import urlsplit

import nh3
from babel import Locale, UnknownLocaleError
from babel.dates import format_date
from jinja2 import StrictUndefined
from jinja2.sandbox import SandboxedEnvironment
from lxml import html as lxml_html

from newsletter.articles import Image, Region, Rights, direction, shortened
from newsletter.catalogue import Advert, Newsletter, Publication
from newsletter.edition import Item, SectionMade, Snapshot
from newsletter.errors import CatalogueError
from newsletter.picking.picks import PICTURE, TEXTS, Order, Pick, Picks, edited_image
from newsletter.tokens import neutralise, neutralise_address, neutralise_fragment
from newsletter.wording import BLOCKS, LINES, FrontPage, Hello, Wording
from newsletter.words import marked, words

EXCERPT_WORDS = 60
_WORDS_A_MINUTE = 220
_SUBJECT = 140
_POOLS = {
    "earlier": marked("from earlier days"), "most-read": marked("most read"), "archive": marked("from the archive"),
    "magazine": marked("a long read"),
}  # fmt: skip
# What CLDR calls our regions, by UN M49.
_REGIONS = {
    Region.AFRICA: "002", Region.AMERICAS_NORTH: "021", Region.AMERICAS_LATIN: "419", Region.ASIA_EAST: "030",
    Region.ASIA_SOUTH: "034", Region.ASIA_SOUTHEAST: "035", Region.ASIA_CENTRAL: "143", Region.EUROPE: "150",
    Region.MIDDLE_EAST: "145", Region.OCEANIA: "009",
}  # fmt: skip
_INLINE = {"em", "i", "strong", "b", "a", "br"}
_CLAUSE = re.compile(
    r"[,;:!?،؛]\s|\s[–—-]\s|\s(?=(?:and|but|before|after|as|while|because|et|mais|avant|après|und|aber|y|pero)\s)"
)
_WORDS = SandboxedEnvironment(undefined=StrictUndefined, autoescape=False)


def make_snapshot(
    newsletter: Newsletter,
    publication: Publication,
    picks: Picks,
    *,
    edition_date: date,
    revision: int = 1,
    orders: Sequence[Order] = (),
    wording: Wording | None = None,
) -> Snapshot:
    """
    Return the edition as a value. *wording* is what an editor wrote for it; *orders* go before it.

    Raises:
        CatalogueError: a text of ``newsletter.toml`` (subject, preheader, intro …) cannot be filled.
        WordingError: words an editor ordered do not make a whole block.
    """
    written = _written(wording or Wording(), orders)
    budget = _Budget(newsletter.full_text_bytes)
    locale = _locale(newsletter.language)
    sections = tuple(
        SectionMade(
            id=section.id,
            block=section.block,
            heading=section.heading,
            intro=section.intro,
            items=tuple(
                _item(pick, full=section.full, budget=budget, locale=locale, language=newsletter.language)
                for pick in picks.of(section.id)
            ),
            words=section.words or "",
            classes=section.classes,
        )
        for section in newsletter.sections
        if picks.of(section.id) or (section.words and written.has(section.words))
    )
    date_line = format_date(edition_date, "full", locale=locale)
    words = _words(
        newsletter, sections, written, edition_date=edition_date, date_line=date_line, locale=locale
    )
    if not words["preheader"]:  # a thin day may leave its template empty
        words["preheader"] = (
            next((item.standfirst for item in _for_all(newsletter, sections)), "") or newsletter.tagline
        )
    used = {section.words for section in sections}
    subject, *others = _subjects(words)
    return Snapshot(
        newsletter=newsletter.slug,
        edition_date=edition_date,
        revision=revision,
        subject=subject,
        other_subjects=tuple(others),
        preheader=shortened(" ".join(words["preheader"].split()), 240),
        date_line=date_line,
        language=newsletter.language,
        direction=direction(newsletter.language),
        greeting=words["greeting"],
        intro=words["intro"],
        sign_off=words["sign_off"],
        makers=newsletter.makers,
        sections=sections,
        offer=publication.offer,
        advert=_advert(publication, edition_date),
        reminders=publication.reminders_named(newsletter.reminders),
        number=written.number if "number" in used else None,
        quote=written.quote if "quote" in used else None,
        this_day=written.this_day if "this_day" in used else None,
        quiz=written.quiz if "quiz" in used else (),
        letter=_paragraphs(written.letter_html) if "letter" in used else (),
        hello=_hello(newsletter, publication, written, edition_date, locale),
        front_page=_front_page(written.front_page, locale) if "front_page" in used else None,
        gates=newsletter.gates,
        magazine=newsletter.magazine,
    )


def _subjects(words: Mapping[str, str]) -> tuple[str, ...]:
    """The subjects in their order, each once; the first may be empty, which the proof says."""
    first, *others = (
        shortened(" ".join(words[name].split()), 200)
        for name in ("subject", *(name for name in words if name.startswith("subject.")))
    )
    return tuple(dict.fromkeys((first, *filter(None, others))))


def _written(wording: Wording, orders: Sequence[Order]) -> Wording:
    """The words of an edition, an editor's orders on top, none of which can be taken for a token."""
    for order in orders:
        if order.verb == "words":
            wording = wording.with_words(order.fields)
    return Wording.model_validate(_neutral(wording.model_dump()))


def _neutral(value: Any) -> Any:
    if isinstance(value, str):
        return neutralise(value)
    if isinstance(value, dict):
        return {key: _neutral(one) for key, one in value.items()}
    return tuple(map(_neutral, value)) if isinstance(value, (list, tuple)) else value


def corrected(
    snapshot: Snapshot,
    orders: Sequence[Order],
    *,
    revision: int,
    prefix: str,
    wording: Wording | None = None,
) -> Snapshot:
    """
    Return *snapshot* with an editor's edits, drops and words, and nothing else changed.

    A corrected headline is also corrected where the subject or preheader quotes it. *prefix* goes
    before the subject. *wording* is the words file as it is now: what it says of a block or line that the
    edition holds counts, what it does not say any more stays; subject and preheader change by orders only.
    Nothing is tried with a correction: it has one subject.
    """
    subject, preheader = snapshot.subject, snapshot.preheader
    dropped = {order.url for order in orders if order.verb == "drop"}
    sections: list[SectionMade] = []
    for section in snapshot.sections:
        items: list[Item] = []
        for item in section.items:
            if item.url in dropped:
                continue
            edited = _edited(item, orders)
            subject = subject.replace(item.headline, edited.headline)
            preheader = preheader.replace(item.headline, edited.headline)
            items.append(replace(edited, position=len(items) + 1))
        if items or section.words:
            sections.append(replace(section, items=tuple(items)))
    given = {
        key: neutralise(value)
        for order in orders
        if order.verb == "words"
        for key, value in order.fields.items()
        if key in LINES
    }
    written = _written(_wording_of(snapshot, wording or Wording()), orders)
    subject = given.get("subject", subject)
    greeting = given.get("greeting", written.greeting)
    return replace(
        snapshot, revision=revision, sections=tuple(sections), preheader=given.get("preheader", preheader),
        subject=shortened(subject if subject.startswith(prefix) else f"{prefix}{subject}", 200),
        other_subjects=(),
        greeting=greeting, hello=snapshot.hello if greeting == snapshot.greeting else None,
        intro=given.get("intro", written.intro),
        sign_off=given.get("sign_off", written.sign_off),
        number=snapshot.number and written.number, quote=snapshot.quote and written.quote,
        this_day=snapshot.this_day and written.this_day, quiz=snapshot.quiz and written.quiz,
        letter=snapshot.letter and (_paragraphs(written.letter_html) or snapshot.letter),
        front_page=snapshot.front_page and _front_page(written.front_page, _locale(snapshot.language)),
    )  # fmt: skip


def _wording_of(snapshot: Snapshot, now: Wording) -> Wording:
    """What an edition holds, as words to be corrected; what is written *now* goes before it."""
    names = (*BLOCKS, "greeting", "intro", "sign_off")
    held = {name: getattr(snapshot, name) for name in names if name != "letter"}
    return Wording.model_validate({**held, **{name: one for name in names if (one := getattr(now, name))}})


def _edited(item: Item, orders: Sequence[Order]) -> Item:
    for order in orders:
        if order.verb == "edit" and order.url == item.url:
            fields = {
                key: neutralise(value) for key, value in order.fields.items() if key in (*TEXTS, *PICTURE)
            }
            texts: dict[str, Any] = {key: value for key, value in fields.items() if key in TEXTS}
            image = item.image if item.rights is Rights.EXCERPT else edited_image(item.image, fields)
            item = replace(item, **texts, image=image)
    return item


def _item(pick: Pick, *, full: bool, budget: _Budget, locale: Locale, language: str) -> Item:
    article = pick.article
    printable = article.rights is not Rights.EXCERPT
    paragraphs = _paragraphs(article.body) if printable else ()
    shown = budget.take(paragraphs) if full else ()
    standfirst = article.standfirst if printable else _first_words(article.standfirst, EXCERPT_WORDS)
    return Item(
        position=pick.position,
        url=article.url,
        headline=neutralise(article.headline),
        source_name=neutralise(article.source_name or article.source),
        published_at=article.published_at,
        kicker=neutralise(article.kicker),
        standfirst=neutralise(standfirst),
        byline=neutralise(article.byline),
        dateline=neutralise(article.dateline),
        language=article.language,
        direction=direction(article.language),
        country=article.country,
        country_name=str(locale.territories.get(article.country, "")),
        flag=_flag(article.country),
        region=article.region,
        region_name=str(locale.territories.get(_REGIONS.get(article.region, ""), "")),
        topics=article.topics,
        kind=article.kind,
        translated_from=_language_name(article.translated_from, locale),
        translator=neutralise(article.translator),
        paper=neutralise(article.paper),
        image=_picture(article.image) if printable else None,
        paragraphs=shown,
        continues=len(shown) < len(paragraphs) or not paragraphs,
        reading_minutes=_minutes(article.body) if printable else 0,
        paywalled=article.paywalled,
        rights=article.rights,
        pool=words(language.split("-")[0]).say(_POOLS[pick.pool]) if pick.pool else "",
    )


def hosted(snapshot: Snapshot, pictures: Mapping[str, Image | None]) -> Snapshot:
    """
    Return *snapshot* with each picture that *pictures* names, by its address, served from ours.

    None: it could not be had, and the story stands without one. What is not named stays as it is.
    """

    def with_ours(item: Item) -> Item:
        if item.image is None or item.image.url not in pictures:
            return item
        ours = pictures[item.image.url]
        image = ours and replace(item.image, url=ours.url, width=ours.width, height=ours.height)
        return replace(item, image=image)

    sections = tuple(
        replace(section, items=tuple(map(with_ours, section.items))) for section in snapshot.sections
    )
    page = snapshot.front_page
    if page and page.picture in pictures:
        ours = pictures[page.picture]
        page = page.model_copy(update={"picture": ours.url if ours else ""})
    return replace(snapshot, sections=sections, front_page=page)


class _Budget:
    """Bytes of full text an edition may hold; a story is cut at a paragraph, never within one."""

    def __init__(self, size_bytes: int) -> None:
        self.left = size_bytes

    def take(self, paragraphs: tuple[str, ...]) -> tuple[str, ...]:
        taken: list[str] = []
        for paragraph in paragraphs:
            size = len(paragraph.encode())
            if size > self.left:
                break
            self.left -= size
            taken.append(paragraph)
        return tuple(taken)


def _paragraphs(body: str) -> tuple[str, ...]:
    """The body's paragraphs as inline HTML, in order; list items become paragraphs with a bullet."""
    if not body.strip():
        return ()
    root = lxml_html.fragment_fromstring(body, create_parent="div")
    found: list[str] = []

    def add(element: Any, prefix: str = "") -> None:
        inner = (element.text or "") + "".join(
            lxml_html.tostring(child, encoding="unicode") for child in element
        )
        text = nh3.clean(
            inner, tags=_INLINE, attributes={"a": {"href"}}, link_rel=None, attribute_filter=_absolute
        ).strip()
        if text:
            found.append(neutralise_fragment(prefix + " ".join(text.split())))

    leading = (root.text or "").strip()
    if leading:
        found.append(neutralise_fragment(nh3.clean(leading, tags=set())))
    for child in root:
        if child.tag in ("ul", "ol"):
            for entry in child.iter("li"):
                add(entry, "• ")
        elif child.tag in _INLINE:
            add(root)
            return tuple(found[1:] if leading else found)
        elif isinstance(child.tag, str):
            add(child)
    return tuple(found)


def _absolute(_tag: str, _name: str, value: str) -> str | None:
    """Keep a link that leads somewhere from a mail; what does not becomes plain words."""
    parts = urlsplit(value)
    whole = (parts.scheme in ("http", "https") and parts.netloc) or (parts.scheme == "mailto" and parts.path)
    return neutralise_address(value) if whole else None


def _words(
    newsletter: Newsletter,
    sections: tuple[SectionMade, ...],
    written: Wording,
    *,
    edition_date: date,
    date_line: str,
    locale: Locale,
) -> dict[str, str]:
    """The plain lines: as an editor wrote them, else from the newsletter's own."""
    items = _for_all(newsletter, sections)
    context = {
        "lead": items[0] if items else None,
        "headlines": [item.headline for item in items],
        "bits": _bits(items, newsletter.language),
        "stories": len(items),
        "countries": len({item.country for item in items if item.country}),
        "sources": len({item.source_name for item in items}),
        "weekday": format_date(edition_date, "EEEE", locale=locale),
        "date": date_line,
        "newsletter": newsletter,
    }
    words = {name: getattr(written, name) for name in LINES if getattr(written, name)}
    templates = {name: getattr(newsletter, name) for name in LINES if name not in words}
    words |= {f"subject.{letter}": subject for letter, subject in sorted(written.subjects.items())}
    if not (written.subject or written.subjects):  # who writes a subject writes what is tried beside it, too
        others = newsletter.subject_test.subjects
        templates |= {f"subject.{letter}": one for letter, one in zip("bcde", others, strict=False)}
    for name, template in templates.items():
        try:
            words[name] = _WORDS.from_string(template).render(context).strip()
        except Exception as error:  # it is a program of an editor's: it may raise anything
            field = "subject_test.subjects" if name.startswith("subject.") else name
            raise CatalogueError(
                f"{newsletter.slug}/newsletter.toml: {field}: {error}. There is lead, headlines, bits, stories, "
                "countries, sources, weekday and date.",
                file=f"{newsletter.slug}/newsletter.toml",
                field=field,
            ) from error
    return words


def _hello(
    newsletter: Newsletter, publication: Publication, written: Wording, day: date, locale: Locale
) -> Hello | None:
    """
    The greeting of the day: what an editor wrote, else the next of the family's that is not our own language.

    None where an editor wrote a plain greeting instead.
    """
    own = newsletter.language.split("-")[0]
    foreign = [one for one in publication.hellos if one.language != own]
    if written.greeting and not written.hello:
        return None
    hello = written.hello or (
        foreign[day.toordinal() % len(foreign)] if newsletter.hello and foreign else None
    )
    if hello is None:
        return None
    country = str(locale.territories.get(hello.country, ""))
    note = ", ".join(filter(None, (_language_name(hello.language, locale), country)))
    return hello.model_copy(update={"note": note})


def _front_page(page: FrontPage | None, locale: Locale) -> FrontPage | None:
    """A front page with what its country and language say of it."""
    if page is None:
        return None
    return page.model_copy(
        update={
            "country_name": str(locale.territories.get(page.country, "")), "flag": _flag(page.country),
            "direction": direction(page.language),
        }
    )  # fmt: skip


def _bit(headline: str) -> str:
    """The claim a headline opens with: what stands before its first comma, dash or second thought."""
    clause = _CLAUSE.split(headline, maxsplit=1)[0].strip(" .")
    before_a_word = (
        headline[len(clause) :].lstrip()[:1].isalpha()
    )  # "Tributes pour in after …" says nothing yet
    return clause if len(clause.split()) > (3 if before_a_word else 2) else headline


def _for_all(newsletter: Newsletter, sections: Sequence[SectionMade]) -> list[Item]:
    """The stories every reader gets: subject and preheader are the same for all and may name no other."""
    readers = set(newsletter.audience.classes)
    return [item for section in sections if readers <= set(section.classes) for item in section.items]


def _bits(items: Sequence[Item], language: str) -> list[str]:
    """
    Three bits for a subject: the lead, the shortest of what follows, and the light one at the end.

    Where they would not fit into an inbox's line there are two, or the lead alone; other languages than the
    newsletter's are not quoted.
    """
    own = [item for item in items if item.language[:2] == language[:2]] or list(items)
    if not own:
        return []
    bits = [_bit(item.headline) for item in own]
    chosen = [bits[0], *([min(bits[1:-1], key=len)] if bits[1:-1] else ()), *bits[1:][-1:]]
    while len(chosen) > 1 and len(", ".join(chosen)) > _SUBJECT:
        del chosen[1]
    return chosen


def _advert(publication: Publication, edition_date: date) -> Advert | None:
    """The day's advert: they take turns by date."""
    if not publication.adverts:
        return None
    return publication.adverts[edition_date.toordinal() % len(publication.adverts)]


def _picture(image: Image | None) -> Image | None:
    if image is None:
        return None
    return replace(
        image, url=neutralise_address(image.url), alt=neutralise(image.alt), caption=neutralise(image.caption),
        credit=neutralise(image.credit),
    )  # fmt: skip


def _first_words(text: str, limit: int) -> str:
    words = text.split()
    return text if len(words) <= limit else " ".join(words[: limit - 1]).rstrip(",;:") + " …"


def _minutes(body: str) -> int:
    """How long a body takes to read; 0 where that is too short to be told."""
    minutes = round(len(nh3.clean(body, tags=set()).split()) / _WORDS_A_MINUTE)
    return minutes if minutes > 1 else 0


def _flag(country: str) -> str:
    """The flag emoji of an ISO 3166-1 alpha-2 code: two regional indicator letters."""
    if len(country) != 2 or not country.isascii() or not country.isalpha():
        return ""
    return "".join(chr(0x1F1E6 + ord(letter) - ord("A")) for letter in country.upper())


def _locale(language: str) -> Locale:
    try:
        return Locale.parse(language, sep="-")
    except (ValueError, UnknownLocaleError):
        return Locale("en")


def _language_name(language: str, locale: Locale) -> str:
    return str(locale.languages.get(language.split("-")[0], language)) if language else ""
