"""One render path: gates, determinism, faults mapped to template lines, the linter."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import date
from html import unescape
from pathlib import Path

import nh3
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import html

from newsletter.articles import Image
from newsletter.catalogue import Catalogue, load_catalogue
from newsletter.edition import PERSONAL_TAGS, for_variant
from newsletter.errors import CatalogueError, TemplateError
from newsletter.rendering.engine import Renderer, content_hash
from newsletter.rendering.lint import lint_templates
from newsletter.rendering.proof.words import LEFTOVER
from newsletter.store.editions import dump_snapshot, load_snapshot
from newsletter.tokens import neutralise, neutralise_address, neutralise_fragment
from tests.builders import ROOT, the_catalogue
from tests.snapshots import a_snapshot

CATALOGUE = the_catalogue()
SLUGS = [newsletter.slug for newsletter in CATALOGUE.newsletters]
RENDERER = Renderer(CATALOGUE)


@pytest.mark.parametrize("slug", SLUGS)
def test_what_is_free_holds_no_paid_text_and_what_is_paid_no_advert(slug: str) -> None:
    """The gate is in the value: no template can leak."""
    snapshot = a_snapshot(CATALOGUE, slug)

    assert all(item.paragraphs == () for item in for_variant(snapshot, "free").items)
    paid = for_variant(snapshot, "paying")
    assert (paid.offer, paid.advert) == (None, None)


def test_rendering_is_deterministic_and_tags_stay() -> None:
    """Same snapshot, same hash; personal tags are unfilled in both parts; a stored snapshot renders the same."""
    snapshot = a_snapshot(CATALOGUE, "today")

    first = RENDERER.render_all(snapshot)
    second = Renderer(the_catalogue()).render_all(load_snapshot(dump_snapshot(snapshot)))

    assert content_hash(first) == content_hash(second)
    for rendered in first:
        assert all(tag in rendered.html and tag in rendered.text for tag in PERSONAL_TAGS.values())
        assert (
            max(len(line) for line in rendered.text.splitlines() if "http" not in line and "[[" not in line)
            <= 72
        )


def test_an_attribute_keeps_its_letters() -> None:
    """MJML would write vowel signs, joiners and backslashes of an alt as their numbers."""
    snapshot = a_snapshot(CATALOGUE, "today")
    section, *others = snapshot.sections
    words = "नमस्ते, Erdog\u0306an, C:\\a, 👩\u200d🚀, {\u2060{ x }\u2060}"
    image = Image("https://m.example.org/a.jpg", words, words, words, 900, 600)
    items = (replace(section.items[0], image=image),)
    changed = replace(snapshot, sections=(replace(section, items=items), *others))

    page = html.document_fromstring(RENDERER.render(changed, "free").html)

    assert [one.get("alt") for one in page.iter("img") if one.get("src") == image.url] == [words]


def test_every_change_changes_the_hash() -> None:
    """Subject, preheader or a word of a story."""
    snapshot = a_snapshot(CATALOGUE, "letter")
    hashes = {
        content_hash(RENDERER.render_all(changed))
        for changed in (
            snapshot,
            replace(snapshot, subject="x"),
            replace(snapshot, preheader="y"),
            replace(snapshot, sign_off="z"),
        )
    }

    assert len(hashes) == 4


@pytest.fixture
def templates(tmp_path: Path) -> Path:
    """A copy of the shipped templates to break."""
    shutil.copytree(ROOT / "templates", tmp_path / "templates")
    return tmp_path / "templates"


@pytest.mark.parametrize(
    ("name", "old", "new", "line"),
    [
        ("_shared/blocks/briefs.mjml.j2", "</table>", "</table> 1 < 2", 10),
        ("_shared/blocks/briefs.mjml.j2", "</mj-text>\n", "\n", 6),
        ("_shared/blocks/briefs.mjml.j2", "{{ heading(section, near=true) }}", "{{ nosuch }}", 5),
        ("_shared/blocks/briefs.mjml.j2", "{% endfor %}", "", 9),
        ("_shared/blocks/briefs.txt.j2", "{{ heading(section) }}", "{{ section.nosuch }}", 2),
        ("_shared/blocks/credits.mjml.j2", "{% endif %}</mj-text>", "{% endif %} 1 < 2</mj-text>", 4),
    ],
)
def test_a_fault_is_named_by_template_and_line(
    templates: Path, name: str, old: str, new: str, line: int
) -> None:
    """MJML's own errors have a byte span or nothing; an editor gets the file and the line."""
    path = templates / name
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    catalogue = load_catalogue(templates)

    with pytest.raises(TemplateError) as caught:
        Renderer(catalogue).render_all(a_snapshot(catalogue, "today"))

    assert Path(caught.value.template).as_posix().endswith(name)
    assert abs(caught.value.line - line) <= 2


@pytest.mark.parametrize(
    ("slip", "words"),
    [
        ('{{ "a" + 1 }}', "can only concatenate"),
        ("{{ 1/0 }}", "division by zero"),
        ('{% include "blocks/briefs.mjml.j2" %}', "without end"),
        ("{{ item.headline.nosuch }}", "nosuch"),
        ("{{ kicker(item) | day('full', 'en') }}", "AssertionError"),
        ("{{ item | nosuch }}", "nosuch"),
    ],
)
def test_whatever_a_template_raises_is_named_with_the_story(templates: Path, slip: str, words: str) -> None:
    """A slip of any kind is a TemplateError, never a traceback; the story at fault is said where there is one."""
    path = templates / "_shared" / "blocks" / "briefs.mjml.j2"
    text = path.read_text(encoding="utf-8")
    loop = "{% for item in section.items %}"
    line = text[: text.index(loop)].count("\n") + 1
    path.write_text(text.replace(loop, loop + slip), encoding="utf-8")
    catalogue = load_catalogue(templates)
    snapshot = a_snapshot(catalogue, "today")

    with pytest.raises(TemplateError) as caught:
        Renderer(catalogue).render_all(snapshot)

    assert (caught.value.template, caught.value.line) == (str(path), line)
    assert words in str(caught.value)
    if "|" not in slip or "day" in slip:  # an unknown filter is found before any story is set
        assert caught.value.story in {item.headline for item in snapshot.items}
        assert f"“{caught.value.story}”" in str(caught.value)


def test_the_story_is_named_from_within_a_macro(templates: Path) -> None:
    """Also where the slip stands in another file, which the block calls."""
    path = templates / "_shared" / "parts.mjml.j2"
    text = path.read_text(encoding="utf-8")
    path.write_text(
        text.replace("{% macro kicker(item) %}", "{% macro kicker(item) %}{{ nosuch }}"), encoding="utf-8"
    )
    catalogue = load_catalogue(templates)
    snapshot = a_snapshot(catalogue, "today")

    with pytest.raises(TemplateError) as caught:
        Renderer(catalogue).render_all(snapshot)

    assert caught.value.template == str(path)
    assert caught.value.story == snapshot.items[0].headline


def test_the_story_is_named_where_mjml_breaks(templates: Path) -> None:
    """MJML knows no stories: the line it does not accept is traced to the one that was being set, and to no other."""
    path = templates / "_shared" / "blocks" / "briefs.mjml.j2"
    text = path.read_text(encoding="utf-8")
    path.write_text(
        text.replace("{% endfor %}", "{% if loop.index == 2 %}\n1 < 2\n{% endif %}\n{% endfor %}"),
        encoding="utf-8",
    )
    catalogue = load_catalogue(templates)
    snapshot = a_snapshot(catalogue, "today")

    with pytest.raises(TemplateError, match="MJML does not accept") as caught:
        Renderer(catalogue).render_all(snapshot)
    path.write_text(text.replace("</table>", "</table> 1 < 2"), encoding="utf-8")
    with pytest.raises(TemplateError, match="MJML does not accept") as outside:
        Renderer(catalogue).render_all(snapshot)

    briefs = next(section.items for section in snapshot.sections if section.block == "briefs")
    assert (caught.value.story, outside.value.story) == (briefs[1].headline, "")


@pytest.mark.parametrize("name", ["blocks/briefs.mjml.j2", "body.txt.j2"])
def test_bytes_that_are_no_text_are_named(templates: Path, name: str) -> None:
    """By the renderer and the linter, with the line."""
    path = templates / "_shared" / name
    path.write_bytes(b"{# one #}\n\xff\n" + path.read_bytes())
    catalogue = load_catalogue(templates)

    with pytest.raises(TemplateError, match="0xff is no UTF-8") as caught:
        Renderer(catalogue).render_all(a_snapshot(catalogue, "today"))
    (found,) = lint_templates(catalogue)

    assert (caught.value.template, caught.value.line) == (str(path), 2)
    assert (found.code, found.where) == ("template-syntax", f"_shared/{name}:2")


def test_a_template_that_becomes_a_newsletters_own_is_seen(templates: Path) -> None:
    """Made, deleted and made again beside a warm renderer; what did not change is not compiled again."""
    catalogue = load_catalogue(templates)
    renderer, snapshot = Renderer(catalogue), a_snapshot(catalogue, "society")
    shared = (templates / "_shared" / "blocks" / "lead.mjml.j2").read_text(encoding="utf-8")
    own = templates / "society" / "blocks" / "lead.mjml.j2"
    own.parent.mkdir(exist_ok=True)
    before = renderer.render_all(snapshot)

    seen = []
    for words in ("OWN", "", "AGAIN"):
        if words:
            own.write_text(
                shared.replace("<mj-column>", f"<mj-column><mj-text>{words}</mj-text>", 1), encoding="utf-8"
            )
        else:
            own.unlink()
        seen.append(renderer.render_all(snapshot))

    fresh = Renderer(catalogue).render_all(snapshot)
    assert seen[0] != before == seen[1] and seen[2] == fresh


def test_a_missing_block_is_named(templates: Path) -> None:
    """A section that names a block nobody has: the linter and the renderer both say so."""
    path = templates / "today" / "newsletter.toml"
    path.write_text(
        path.read_text(encoding="utf-8").replace('block = "light"', 'block = "nosuch"'), encoding="utf-8"
    )
    catalogue = load_catalogue(templates)

    with pytest.raises(TemplateError, match="nosuch"):
        Renderer(catalogue).render_all(a_snapshot(catalogue, "today"))
    assert {"block-missing"} == {finding.code for finding in lint_templates(catalogue)}


@pytest.mark.parametrize(
    ("markup", "code"),
    [
        ("<mj-foo>x</mj-foo>", "unknown-tag"), ("<MJ-TEXT>x</MJ-TEXT>", "unknown-tag"),
        ('<mj-text colour="red">x</mj-text>', "unknown-attribute"), ('<mj-text padding="0">x</mj-text>', "unitless-zero"),
        ('<mj-text padding="0 20px">x</mj-text>', "unitless-zero"), ('<mj-image src="https://x.example/a" />', "image-alt"),
        ('<mj-image src="https://x.example/a" alt="" width="50%" />', "image-percent"), ('<mj-include path="x" />', "refused-tag"),
        ("<mj-section><mj-text>x</mj-text></mj-section>", "misplaced"), ("<mj-section><div>x</div></mj-section>", "misplaced"),
        ('<mj-style inline="inline">x</mj-style>', "style-inline"), ("<mj-section><mj-column></mj-section>", "tag-unclosed"),
        ('<mj-text><a href="x" clicktracking="off">x</a></mj-text>', "clicktracking-order"),
        ("<mjml><mj-body></mj-body></mjml>", "lang-missing"), ("{% if %}", "template-syntax"),
        ('<mj-hero mode="fluid-height"></mj-hero>', "hero-fluid"),
    ],
)  # fmt: skip
def test_the_linter_names_what_mjml_accepts_silently(templates: Path, markup: str, code: str) -> None:
    """Each with file and line, the Jinja parts notwithstanding."""
    (templates / "planet" / "extra.mjml.j2").write_text(
        f"{{# a\ncomment #}}\n{{% set a = 1 %}}\n{markup}\n", encoding="utf-8"
    )

    found = lint_templates(load_catalogue(templates))

    assert (code, "planet/extra.mjml.j2:4", "planet") in {(f.code, f.where, f.newsletter) for f in found}


def test_the_shipped_templates_lint_clean() -> None:
    """No finding in any template."""
    assert lint_templates(CATALOGUE) == ()


@given(st.text(alphabet="{}%<>*|[]# ab", max_size=30))
def test_neutralised_fragments_and_addresses_are_no_tokens(text: str) -> None:
    """Sanitised HTML as it will be read, and addresses, in which nothing invisible may stand."""
    fragment = neutralise_fragment(nh3.clean(text, tags={"b"}))
    address = neutralise_address(f"https://x.example/{text}")

    assert not LEFTOVER.search(unescape(fragment).replace("Undefined", ""))
    assert not LEFTOVER.search(address) and "[[" not in address and "\u2060" not in address


@given(st.text(alphabet="{}%<>*|[]# ab", max_size=30))
def test_neutralised_text_is_no_token(text: str) -> None:
    """Whatever a feed writes, nothing in it is taken for a token; it looks the same."""
    told = neutralise(text)

    assert not LEFTOVER.search(told.replace("Undefined", ""))
    assert "[[" not in told
    assert told.replace("\u2060", "") == text.replace("\u2060", "")


@pytest.mark.parametrize(
    ("file", "old", "new", "sentence"),
    [
        (
            "today/newsletter.toml",
            'thin_day = "hold"',
            'thin_day = "wait"',
            "today/newsletter.toml: thin_day",
        ),
        (
            "today/newsletter.toml",
            "window_hours = 72",
            "windowhours = 72",
            "today/newsletter.toml: windowhours: is no name we know",
        ),
        (
            "today/newsletter.toml",
            'topics = ["culture"',
            'topics = ["cultur"',
            "today/newsletter.toml: sections.7.topics.1: must be",
        ),
        (
            "publication.toml",
            'timezone = "Europe/Paris"',
            'timezone = "Europe/Pariss"',
            "publication.toml: timezone",
        ),
        ("publication.toml", "[sender]", "[sender", "publication.toml is not readable TOML"),
    ],
)
def test_a_wrong_file_names_file_and_field(
    templates: Path, file: str, old: str, new: str, sentence: str
) -> None:
    """A misspelt key or value is an error that says where."""
    path = templates / file
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")

    with pytest.raises(CatalogueError, match=sentence.replace(".", r"\.")):
        load_catalogue(templates)


@pytest.mark.parametrize(
    ("slip", "words"), [("leed.headline", "'leed' is undefined"), ("1/0", "division by zero")]
)
def test_a_subject_that_cannot_be_filled_names_its_field(templates: Path, slip: str, words: str) -> None:
    """The words of newsletter.toml are templates too."""
    from newsletter.makeup import make_snapshot
    from newsletter.picking.picks import Picks

    path = templates / "planet" / "newsletter.toml"
    path.write_text(
        path.read_text(encoding="utf-8").replace("{{ lead.headline }}", f"{{{{ {slip} }}}}"),
        encoding="utf-8",
    )
    catalogue: Catalogue = load_catalogue(templates)

    with pytest.raises(CatalogueError, match=rf"planet/newsletter\.toml: subject: {words}"):
        make_snapshot(
            catalogue["planet"],
            catalogue.publication,
            Picks("planet", (), (), ()),
            edition_date=date(2026, 11, 20),
        )
