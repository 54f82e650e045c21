"""Every code of the proof, each with its fault planted in an otherwise clean edition."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from newsletter.articles import Rights
from newsletter.catalogue import Newsletter, Publication, load_catalogue
from newsletter.edition import Item, Rendered, Snapshot
from newsletter.rendering.codes import CODES, as_markdown
from newsletter.rendering.engine import Renderer
from newsletter.rendering.findings import Finding
from newsletter.rendering.lint import lint_templates
from newsletter.rendering.proof import proof
from newsletter.rendering.proof.online import HEAVY_BYTES, Looked, follow
from newsletter.tokens import neutralise
from tests.builders import ROOT, the_catalogue
from tests.snapshots import a_snapshot

NOW = datetime(2026, 11, 20, 4, 0, tzinfo=UTC)
CATALOGUE = the_catalogue()
RENDERER = Renderer(CATALOGUE)
SLUGS = [newsletter.slug for newsletter in CATALOGUE.newsletters]


@dataclass(frozen=True)
class Desk:
    """What a proof is given."""

    newsletter: Newsletter
    publication: Publication
    snapshot: Snapshot
    rendered: tuple[Rendered, ...]
    base_url: str = "https://mail.theparallel.example"
    last: tuple[str, str] = ("", "")

    def found(self) -> tuple[Finding, ...]:
        """The findings."""
        return proof(
            self.newsletter, self.publication, self.snapshot, self.rendered, base_url=self.base_url, now=NOW, last=self.last
        )  # fmt: skip


def edition(slug: str, snapshot: Snapshot | None = None) -> Desk:
    """A full edition of *slug*, rendered."""
    whole = snapshot or a_snapshot(CATALOGUE, slug)
    return Desk(CATALOGUE[slug], CATALOGUE.publication, whole, RENDERER.render_all(whole))


GOOD = edition("today", replace(a_snapshot(CATALOGUE, "today"), reminders=CATALOGUE.publication.reminders))
FIRST = GOOD.snapshot.sections[0].items[0]
STORY = GOOD.snapshot.sections[1].items[0]
LINK = '<a style="color:#1d1c1a" href="{}">the plan</a>'
GREETING = "<strong>Good morning.</strong>"
PAID = (
    "Now it leaves at seven, and the forty minutes it takes to cross the bay are the only quiet ones the harbour"
    " master has."
)


@pytest.mark.parametrize("slug", SLUGS)
def test_a_full_edition_of_each_is_clean(slug: str) -> None:
    """Every newsletter with every section filled: no finding at all, all variants below the clip."""
    whole = edition(slug)

    assert whole.found() == ()
    assert all(one.size_bytes < 80_000 for one in whole.rendered)


# --- planting -----------------------------------------------------------------------------------

Plant = Callable[[Desk], Desk]


def page(old: str, new: str, *, times: int = -1, variant: str = "free") -> Plant:
    """In the HTML of a variant."""

    def plant(desk: Desk) -> Desk:
        one = next(one for one in desk.rendered if one.variant == variant)
        assert old in one.html
        return replace(desk, rendered=(replace(one, html=one.html.replace(old, new, times)),))

    return plant


def said(words: str) -> Plant:
    """HTML in the place of the greeting."""
    return page(GREETING, words)


def text(old: str, new: str) -> Plant:
    """In the text part."""

    def plant(desk: Desk) -> Desk:
        one = desk.rendered[0]
        assert old in one.text
        return replace(desk, rendered=(replace(one, text=one.text.replace(old, new)),))

    return plant


def line(**changes: str) -> Plant:
    """Whole parts of a variant."""
    return lambda desk: replace(desk, rendered=(replace(desk.rendered[0], **changes),))  # type: ignore[arg-type]


def picked(**changes: Any) -> Plant:
    """In the edition as a value, the bytes being as they were."""
    return lambda desk: replace(desk, snapshot=replace(desk.snapshot, **changes))


def written(intro: str) -> Plant:
    """An editor's words, as a make-up takes them."""
    return lambda desk: edition("today", replace(desk.snapshot, intro=neutralise(intro)))


def story(place: int = 0, *, anew: bool = False, **changes: Any) -> Plant:
    """In the first story of a section; *anew*: and rendered so."""

    def plant(desk: Desk) -> Desk:
        sections = list(desk.snapshot.sections)
        item, *others = sections[place].items
        sections[place] = replace(sections[place], items=(replace(item, **changes), *others))
        snapshot = replace(desk.snapshot, sections=tuple(sections))
        return edition("today", snapshot) if anew else replace(desk, snapshot=snapshot)

    return plant


def photograph(**changes: Any) -> Plant:
    """In the picture of the first story, rendered so."""
    assert FIRST.image is not None
    return story(anew=True, image=replace(FIRST.image, **changes))


def house(**changes: Any) -> Plant:
    """In the publication."""
    return lambda desk: replace(desk, publication=desk.publication.model_copy(update=changes))


def section(place: int, keep: int) -> Plant:
    """A section cut to its first stories."""

    def plant(desk: Desk) -> Desk:
        sections = list(desk.snapshot.sections)
        sections[place] = replace(sections[place], items=sections[place].items[:keep])
        return replace(desk, snapshot=replace(desk.snapshot, sections=tuple(sections)))

    return plant


def twice_shown(desk: Desk) -> Desk:
    """The picture of one story in the place of another's."""
    addresses = list(dict.fromkeys(re.findall(r'src="(https://media[^"]+)"', desk.rendered[0].html)))
    return page(f'src="{addresses[1]}"', f'src="{addresses[0]}"')(desk)


def two_in_local_mornings(desk: Desk) -> Desk:
    """Two subjects, where each reader gets it in their own morning."""
    newsletter = desk.newsletter.model_copy(update={"deliver": "local 06:30"})
    return replace(
        desk, newsletter=newsletter, snapshot=replace(desk.snapshot, other_subjects=("Ferries stay",))
    )


def sender(**changes: str) -> Plant:
    """In the publication's mailbox."""
    return house(sender=CATALOGUE.publication.sender.model_copy(update=changes))


ALL_FOOTER = {
    "unsubscribe-missing",
    "preferences-missing",
    "view-missing",
    "address-missing",
    "reason-missing",
}
UNTOLD = Item(
    1, "https://www.theparallel.example/untold", "Nobody sets this", "The Parallel", NOW, rights=Rights.OWN
)
EXCERPT: dict[str, Any] = {"rights": Rights.EXCERPT, "image": None, "paragraphs": ()}
ADVERT = GOOD.snapshot.advert
assert ADVERT is not None

# code, part, what its place says, the fault; what cannot but come with it
PLANTED: tuple[tuple[str, str, str, Plant, set[str]], ...] = (
    ("subject-missing", "subject", "", line(subject=" "), set()),
    ("subject-long", "subject", "", line(subject="word " * 40), set()),
    ("subject-repeat", "subject", "Harvest", lambda desk: replace(desk, last=(desk.snapshot.subject, "")), set()),
    ("subject-shouts", "subject", "FERRIES", line(subject="FERRIES STOP FOR GOOD"), set()),
    ("subject-shouts", "subject", "Ferries", line(subject="Ferries stop for good!!"), set()),
    ("subjects-untried", "subject", "Ferries stay", two_in_local_mornings, set()),
    ("preheader-missing", "preheader", "", line(preheader=""), set()),
    ("preheader-long", "preheader", "", line(preheader="word " * 60), set()),
    ("preheader-repeat", "preheader", "Harvest", line(preheader=GOOD.snapshot.subject), set()),
    ("preheader-old", "preheader", "Also today", lambda desk: replace(desk, last=("", desk.snapshot.preheader)), set()),
    ("header-control", "subject", "\\n", line(subject="a\nBcc: b"), set()),
    ("header-control", "preheader", "\\x07", line(preheader="a\x07b"), set()),
    ("header-control", "sender", "", sender(name="The\rParallel"), set()),
    ("header-bidi", "subject", "u202e", line(subject="Ferries \u202eevil"), set()),
    ("sender-address", "sender", "news at", sender(email="news at example.org"), set()),
    ("sender-name", "sender", "bank@", sender(name="bank@example.org"), set()),
    ("html-missing", "html", "", line(html=""), {*ALL_FOOTER, "parts-differ", "reminder-missing"}),
    ("html-missing", "html", "", line(html="<!-- -->"), {*ALL_FOOTER, "parts-differ"}),
    ("text-missing", "text", "", line(text=""), {*ALL_FOOTER, "parts-differ"}),
    ("clip", "html", "", said("word " * 12_000), set()),
    ("clip-tracked", "html", "", said("word " * 8_800), set()),
    ("lang-missing", "html", "", page('lang="en"', 'lang="und"', times=1), set()),
    ("lang-wrong", "html", 'lang="fr"', page('lang="en"', 'lang="fr"', times=1), set()),
    ("dir-wrong", "html", 'dir="rtl"', page('dir="ltr"', 'dir="rtl"', times=1), set()),
    ("story-lang", "html", "/stories/", page('lang="ar" dir="rtl"', ""), set()),
    ("title-missing", "html", "", page("<title>", "<title></title><x>", times=1), set()),
    ("heading-first", "html", "", said("<h1>Another</h1>"), set()),
    ("heading-order", "html", "Two", said("<h2>One</h2><h4>Two</h4>"), set()),
    ("heading-empty", "html", "<h2>", said("<h2> </h2>"), set()),
    ("table-role", "html", "One", said("<table><tr><td>One</td></tr></table>"), set()),
    ("contrast-light", "html", "Pale", said('<span style="color:#999999">Pale</span>'), set()),
    ("contrast-dark", "html", "Dim", said('<span style="color:#6b6b6b">Dim</span>'), set()),
    ("unreadable", "html", "Gone", said('<span style="color:#ffffff">Gone</span>'), set()),
    ("type-small", "html", "Tiny", said('<span style="font-size:10px">Tiny</span>'), set()),
    ("mjml-leak", "html", "<mj-text>", said("<mj-text>x</mj-text>"), set()),
    ("mso-balance", "html", "<!--[if mso]>", said("<!--[if mso]>"), set()),
    ("mso-balance", "html", "<![endif]-->", said("<!--[if mso]><![endif]--><![endif]-->"), set()),
    ("remote-css", "html", "https://x.example/a.css", page("</head>", '<link rel="stylesheet" href="https://x.example/a.css"></head>'), set()),
    ("remote-css", "html", "@import", page("</head>", "<style>@import 'a.css';</style></head>"), set()),
    ("active-content", "html", "<script>", said("<script>x()</script>"), set()),
    ("style-long", "html", "<style>", page("</head>", "<style>" + ".a{margin:0}" * 800 + "</style></head>"), set()),
    ("layout-fragile", "html", "display:flex", said('<div style="display:flex">Good morning.</div>'), set()),
    ("too-wide", "html", "/1.jpg", page('width="560"', 'width="700"', times=1), set()),
    ("link-relative", "html", "/plan", said(LINK.format("/plan")), set()),
    ("link-relative", "html", "empty", said(LINK.format("")), set()),
    ("link-syntax", "html", "a plan", said(LINK.format("https://www.example.org/a plan")), set()),
    ("link-syntax", "html", "https://-x", said(LINK.format("https://-x..org/")), set()),
    ("link-scheme", "html", "javascript:", said(LINK.format("javascript:alert(1)")), set()),
    ("link-credentials", "html", "ann:", said(LINK.format("https://ann:secret@www.example.org/")), set()),
    ("link-private", "html", "10.0.0.5", said(LINK.format("https://10.0.0.5/plan")), set()),
    ("link-private", "html", "intranet", said(LINK.format("https://intranet/plan")), set()),
    ("link-private", "text", "wiki.local", text("View online:", "View online: https://wiki.local/plan"), set()),
    ("link-insecure", "html", "http://www", said(LINK.format("http://www.example.org/plan")), set()),
    ("link-long", "html", "https://www", said(LINK.format("https://www.example.org/?a=" + "x" * 2_000)), set()),
    ("link-empty", "html", "https://www.example.org/", said('<a href="https://www.example.org/"> </a>'), set()),
    ("link-vague", "html", "https://www.example.org/", said(LINK.format("https://www.example.org/").replace("the plan", "Click here")), set()),
    ("link-tracked-twice", "html", "utm_source", said(LINK.format("https://www.example.org/?utm_source=a&utm_source=b")), set()),
    ("link-tracked-twice", "html", "?a=1?", said(LINK.format("https://www.example.org/?a=1?utm_source=b")), set()),
    ("tracked-unsubscribe", "html", "[[nl:", page('clicktracking="off"', "", times=1), set()),
    ("leftover-token", "html", "{{", said("Good {{ name }}."), set()),
    ("leftover-token", "html", "{{", said(LINK.format("https://www.example.org/{{x}}")), {"link-syntax"}),
    ("leftover-token", "subject", "*|", line(subject="Ferries for *|FNAME|*"), set()),
    ("leftover-token", "html", "{{ first_name }}", written("Hello {{ first_name }}."), set()),
    ("leftover-token", "text", "*|FNAME|*", written("Hello *|FNAME|*."), set()),
    ("leftover-token", "html", "{name}", written("Hello {name}."), set()),
    ("leftover-token", "text", "%%first_name%%", written("Hello %%first_name%%."), set()),
    ("leftover-token", "html", "<% name %>", written("Hello <% name %>."), set()),
    ("placeholder", "html", "TK", written("It carried TK number of people."), set()),
    ("placeholder", "text", "TK", written("There were about TK people."), set()),
    ("placeholder", "html", "XX", written("There were XX people."), set()),
    ("placeholder", "text", "PLACEHOLDER", written("PLACEHOLDER"), set()),
    ("unfilled-tag", "html", "[[nl:name]]", said("Good [[nl:name]]."), set()),
    ("tag-misplaced", "html", "[[nl:unsub", said("[[nl:unsubscribe_url]]"), set()),
    ("tag-misplaced", "html", "x.example", said('<a href="https://x.example.org/?u=[[nl:view_url]]">the plan</a>'), set()),
    ("placeholder", "html", "TKTK", said("TKTK stories"), set()),
    ("placeholder", "text", "Lorem ipsum", text("View online:", "Lorem ipsum"), set()),
    ("placeholder", "subject", "[insert", line(subject="Today: [insert headline]"), set()),
    ("text-markup", "text", "<b>", text("View online:", "<b>View online:</b>"), set()),
    ("text-markup", "text", "&amp;", text("View online:", "View &amp; online:"), set()),
    ("double-escape", "html", "&amp;amp;", said("Good &amp;amp; early"), set()),
    ("mojibake", "html", "Ã©", said("CafÃ© news"), set()),
    ("mojibake", "subject", "\ufffd", line(subject="Caf\ufffd news"), set()),
    ("name-spelling", "html", "/stories/", picked(intro="Read it with Amaya Lindquist."), set()),
    ("image-src", "html", "http://media", page('src="https://media', 'src="http://media', times=1), set()),
    ("image-alt", "html", "/1.jpg", page('alt="Boats at first light"', "", times=1), set()),
    ("image-alt-empty", "html", "/1.jpg", page('alt="Boats at first light"', 'alt=""', times=1), set()),
    ("image-alt-file", "html", "/1.jpg", page('alt="Boats at first light"', 'alt="IMG_1234.jpg"', times=1), set()),
    ("image-undescribed", "html", "/1.jpg", photograph(alt=""), set()),
    ("image-width", "html", "/1.jpg", page('width="560"', "", times=1), set()),
    ("image-type", "html", "/1.svg", page('/1.jpg"', '/1.svg"'), set()),
    ("image-small", "html", "/1.jpg", photograph(width=240), set()),
    ("image-large", "html", "/1.jpg", photograph(width=5_000), set()),
    ("image-repeat", "html", "/1.jpg", twice_shown, set()),
    ("image-pixel", "html", "rss-pixel", photograph(url="https://media.example.org/rss-pixel.png"), set()),
    ("credit-missing", "html", "/1.jpg", photograph(credit=" "), set()),
    ("credit-unprinted", "html", "/1.jpg", story(image=replace(FIRST.image, credit="Kwame Boateng") if FIRST.image else None), set()),
    ("thin", "html", "", picked(sections=GOOD.snapshot.sections[:1]), set()),
    ("section-thin", "html", "Seven", section(1, 3), set()),
    ("gave-way", "html", "", picked(gave_way=("Full text is cut to 0 of 24000 bytes.",)), set()),
    ("section-empty", "html", "In translation", section(2, 0), set()),
    ("section-empty", "html", "The number", picked(number=None), set()),
    ("headline-missing", "html", FIRST.url, story(headline=" "), set()),
    ("duplicate-story", "html", STORY.url, story(url=STORY.url, headline=STORY.headline), {"duplicate-headline"}),
    ("duplicate-headline", "html", STORY.url, story(1, anew=True, headline="Harvest came early to the terraces, and pickers set the price"), set()),
    ("story-old", "html", FIRST.url, story(published_at=NOW - timedelta(days=9)), set()),
    ("embargo", "html", FIRST.url, story(published_at=NOW + timedelta(minutes=5)), set()),
    ("story-missing", "html", UNTOLD.url, picked(sections=(replace(GOOD.snapshot.sections[0], items=(FIRST, UNTOLD)), *GOOD.snapshot.sections[1:])), {"section-full"}),
    ("parts-differ", "text", STORY.url, text(STORY.url + "\n", "\n"), set()),
    ("parts-differ", "html", STORY.url, page(STORY.headline, "Something else"), set()),
    ("translation-credit", "html", "French", page("French", "old tongue"), set()),
    ("translation-credit", "html", "/stories/", page("Jean-Luc Faure", "somebody"), set()),
    ("unsubscribe-missing", "html", "", page("[[nl:unsubscribe_url]]", "https://x.example.org/"), set()),
    ("unsubscribe-missing", "text", "", text("[[nl:unsubscribe_url]]", ""), set()),
    ("preferences-missing", "html", "", page("[[nl:preferences_url]]", "https://x.example.org/"), set()),
    ("view-missing", "text", "", text("[[nl:view_url]]", ""), set()),
    ("address-missing", "text", "", text("14 rue des Deux-Rives", ""), set()),
    ("reason-missing", "text", "", text("because you", "as you"), set()),
    ("rights-body", "html", FIRST.url, story(**{**EXCERPT, "paragraphs": ("Our text.",)}), set()),
    ("rights-picture", "html", FIRST.url, story(**{**EXCERPT, "image": FIRST.image}), set()),
    ("standfirst-long", "html", FIRST.url, story(**{**EXCERPT, "standfirst": "word " * 70}), set()),
    ("gate-paid", "html", "Now it leaves", said(PAID), set()),
    ("gate-paid", "text", "Now it leaves", text("View online:", PAID.replace("the bay", "the\nbay")), set()),
    ("gate-advert", "html", ADVERT.headline[:20], page(GREETING, ADVERT.headline, variant="paying"), set()),
    ("gate-advert", "html", "nl-offer", page(GREETING, '<span class="nl-offer">Good.</span>', variant="paying"), set()),
    ("gate-section", "html", "/stories/", picked(sections=(GOOD.snapshot.sections[0], replace(GOOD.snapshot.sections[1], classes=("paying",)), *GOOD.snapshot.sections[2:])), set()),
    ("gate-reminder", "html", "Your trial ends", page(GREETING, "Your trial ends in the next days.", variant="paying"), set()),
    ("reminder-missing", "html", "", page("Your trial ends in the next days.", "x", variant="paying+trial-ending"), set()),
    ("advert-unlabelled", "html", ADVERT.headline, page(ADVERT.label, "From our friends"), set()),
    ("base-url-loopback", "html", "http://127.0.0.1", lambda desk: replace(desk, base_url="http://127.0.0.1:8000"), set()),
)  # fmt: skip


@pytest.mark.parametrize(
    ("code", "part", "where", "plant", "more"),
    PLANTED,
    ids=[f"{n}-{one[0]}" for n, one in enumerate(PLANTED)],
)
def test_a_planted_fault_is_found(code: str, part: str, where: str, plant: Plant, more: set[str]) -> None:
    """That code, at its place, as bad as it is said to be, with its remedy; and nothing else."""
    found = plant(GOOD).found()

    its = [one for one in found if (one.code, one.part) == (code, part) and where in one.where]
    assert its, [(one.code, one.part, one.where) for one in found]
    assert {one.code for one in found} - more == {code}
    assert {(one.severity, one.remedy) for one in its} == {(CODES[code].severity, CODES[code].remedy)}
    assert all(one.message and one.newsletter == "today" for one in its)


# --- templates ----------------------------------------------------------------------------------

LINTED = (
    ("unknown-tag", "<mj-foo>x</mj-foo>"), ("unknown-tag", "<MJ-TEXT>x</MJ-TEXT>"),
    ("unknown-attribute", '<mj-text colour="red">x</mj-text>'), ("refused-tag", '<mj-include path="x" />'),
    ("misplaced", "<mj-section><div>x</div></mj-section>"), ("tag-unclosed", "<mj-section><mj-column></mj-section>"),
    ("tag-unopened", "<mj-column></mj-text></mj-column>"), ("attribute-twice", '<mj-text color="red" color="red">x</mj-text>'),
    ("quotes", "<mj-text color='\"red\"'>x</mj-text>"), ("unitless-zero", '<mj-text padding="0 20px">x</mj-text>'),
    ("image-alt", '<mj-image src="https://x.example/a" />'), ("image-percent", '<mj-image src="https://x.example/a" alt="" width="50%" />'),
    ("social-src", '<mj-social-element name="x">x</mj-social-element>'), ("style-inline", '<mj-style inline="inline">x</mj-style>'),
    ("hero-fluid", '<mj-hero mode="fluid-height"></mj-hero>'), ("class-name", '<mj-class name="a b" />'),
    ("clicktracking-order", '<mj-text><a href="x" clicktracking="off">x</a></mj-text>'),
    ("lang-missing", '<mjml dir="ltr"><mj-body></mj-body></mjml>'), ("template-syntax", "{% if %}"),
)  # fmt: skip


@pytest.mark.parametrize(("code", "markup"), LINTED)
def test_a_fault_in_a_template_is_found(tmp_path: Path, code: str, markup: str) -> None:
    """By file and line, with its remedy, the Jinja parts notwithstanding."""
    (tmp_path / "planet").mkdir()
    source = f"{{# a\ncomment #}}\n{{% set a = 1 %}}\n{markup}\n"
    (tmp_path / "planet" / "extra.mjml.j2").write_text(source, encoding="utf-8")

    (found,) = lint_templates(CATALOGUE.model_copy(update={"root": tmp_path, "newsletters": ()}))

    assert (found.code, found.where, found.newsletter) == (code, "planet/extra.mjml.j2:4", "planet")
    assert (found.severity, found.remedy) == (CODES[code].severity, CODES[code].remedy)


def test_a_block_that_is_missing_is_found(tmp_path: Path) -> None:
    """Once for each of its two templates."""
    bare = CATALOGUE.model_copy(update={"root": tmp_path, "newsletters": (CATALOGUE["letter"],)})

    assert {one.code for one in lint_templates(bare)} == {"block-missing"}


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ('<mj-text colour="{{ ink }}">x</mj-text>', "unknown-attribute"),
        ("<mj-foo>x</mj-foo>", "unknown-tag"),
        ("<mj-section></mj-section>", "misplaced"),
        ('<mj-text padding="0 4px">x</mj-text>', "unitless-zero"),
        ("<mj-text><p>x</p></mj-button>", "tag-unopened"),
    ],
)
def test_what_mjml_ignores_is_found_in_what_was_compiled(tmp_path: Path, written: str, code: str) -> None:
    """With the template and line that wrote it, in every variant that has it; the bytes' hash does not know."""
    for path in (ROOT / "templates").rglob("*"):
        if path.is_file() and path.parts[len(ROOT.parts) + 1] in ("_shared", "letter", "publication.toml"):
            copy = tmp_path / path.relative_to(ROOT / "templates")
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    block = tmp_path / "_shared" / "blocks" / "letter.mjml.j2"
    lines = block.read_text(encoding="utf-8").split("\n")
    at = next(number for number, one in enumerate(lines) if "<mj-column>" in one)
    lines[at] += written
    block.write_text("\n".join(lines), encoding="utf-8")
    catalogue = load_catalogue(tmp_path)
    snapshot = a_snapshot(catalogue, "letter")

    rendered = Renderer(catalogue).render_all(snapshot)
    desk = Desk(catalogue["letter"], catalogue.publication, snapshot, rendered)

    its = {(one.variant, one.where) for one in desk.found() if one.code == code}
    assert its == {(one.variant, f"_shared/blocks/letter.mjml.j2:{at + 1}") for one in rendered}


# --- online -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        "Flight TK 1980 is late.",
        "TK Maxx opens.",
        "Pius XX sang. XX chromosomes.",
        "A placeholder. 100 %.",
        "{ a, b }",
    ],
)
def test_what_only_looks_like_a_mark_is_none(words: str) -> None:
    """Flights, shops, Roman numerals and braces are words."""
    assert {one.code for one in written(words)(GOOD).found()} == set()


@pytest.mark.parametrize(
    ("subject", "preheader", "repeats"),
    [
        ("A", "Also today: ferries stop", False), ("Ferries", "Ferries stop, and more", False), ("A", "A", True),
        ("The last ferry leaves", "The last ferry leaves and with it the mail", True),
        ("The last ferry leaves", "The last ferry leavesoever", False),
    ],
)  # fmt: skip
def test_a_preheader_repeats_whole_words(subject: str, preheader: str, repeats: bool) -> None:
    """Not a letter or a word that both begin with by chance."""
    found = line(subject=subject, preheader=preheader)(GOOD).found()

    assert ("preheader-repeat" in {one.code for one in found}) is repeats


def test_links_are_followed_each_once() -> None:
    """Dead, unsure, heavy, no picture; told for every newsletter that has the address."""
    answers = {
        STORY.url: Looked(404), "https://www.theparallel.example/stories/3": Looked(403),
        "https://www.theparallel.example/stories/4": Looked(), "https://media.theparallel.example/1.jpg": Looked(200, "image/jpeg", 2 * HEAVY_BYTES),
        "https://media.theparallel.example/9.jpg": Looked(200, "text/html"), "https://www.theparallel.example/stories/5": Looked(trouble="The name does not resolve."),
    }  # fmt: skip
    asked: list[str] = []

    def look(address: str) -> Looked:
        asked.append(address)
        return answers.get(address, Looked(200, "image/jpeg"))

    found = follow([("today", GOOD.rendered), ("weekend", GOOD.rendered)], look)

    assert len(asked) == len(set(asked)) > 15 and not any("[[nl:" in address for address in asked)
    assert {(one.code, one.where) for one in found if one.newsletter == "weekend"} == {
        ("link-dead", STORY.url), ("link-unsure", "https://www.theparallel.example/stories/3"),
        ("link-unsure", "https://www.theparallel.example/stories/4"), ("image-heavy", "https://media.theparallel.example/1.jpg"),
        ("link-dead", "https://media.theparallel.example/9.jpg"), ("link-dead", "https://www.theparallel.example/stories/5"),
    }  # fmt: skip
    assert all(one.remedy for one in found)


# --- the whole ----------------------------------------------------------------------------------

ELSEWHERE = {
    "words-stray": "test_day.py", "source-changed": "test_orders.py", "order-waits": "test_orders.py", "section-full": "test_orders.py", "render-failed": "test_proof_routes.py",
    "link-dead": "here", "link-unsure": "here", "image-heavy": "here", "block-missing": "here",
}  # fmt: skip


def test_every_code_is_planted() -> None:
    """A new code needs its fault."""
    assert {one[0] for one in PLANTED} | {code for code, _ in LINTED} | set(ELSEWHERE) == set(CODES)


def test_the_table_of_codes_is_the_registry() -> None:
    """Made by: python -m newsletter.rendering.codes > docs/proof.md."""
    assert (ROOT / "docs" / "proof.md").read_text(encoding="utf-8") == as_markdown()


def test_every_code_is_told_on_one_line() -> None:
    """A meaning and a remedy, each a sentence."""
    for code in CODES.values():
        assert code.meaning.endswith(".") and code.remedy and "\n" not in code.meaning + code.remedy
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", code.code)


def test_a_stored_finding_comes_back_as_it_was() -> None:
    """Also one from before there were remedies."""
    (found,) = line(subject="")(GOOD).found()
    old = {key: value for key, value in found.as_json().items() if key != "remedy"}

    assert Finding.from_json(found.as_json()) == found
    assert Finding.from_json(old) == replace(found, remedy="")
