"""The catalogue of blocks: complete, sound in every state, and to be looked at."""

from __future__ import annotations

from pathlib import Path

import pytest
from lxml import html
from typer.testing import CliRunner

from newsletter.cli.main import app
from newsletter.errors import NotFound
from newsletter.rendering.blocks import block_names, states_of
from newsletter.rendering.engine import Renderer
from newsletter.web.preview.blocks import INDEX, frame_of, page_of
from tests.builders import ROOT, the_catalogue

CATALOGUE = the_catalogue()
RENDERER = Renderer(CATALOGUE)
SLUGS = [newsletter.slug for newsletter in CATALOGUE.newsletters]
STORY_STATES = {
    "plain",
    "long-headline",
    "no-picture",
    "no-standfirst",
    "full",
    "rtl",
    "cjk",
    "one",
    "twelve",
}


@pytest.mark.parametrize("slug", SLUGS)
def test_every_block_holds_in_every_state(slug: str) -> None:
    """Compiled without a fault, in both parts, with no picture that lacks its width, its alt or an end."""
    for block in block_names(CATALOGUE, slug):
        for state in states_of(RENDERER, CATALOGUE[slug], block):
            rendered, where = state.rendered, (block, state.name)
            page = html.document_fromstring(rendered.html)

            assert rendered.faults == () and "<mj-" not in rendered.html, where
            assert rendered.text.strip() and "None" not in rendered.text and "<" not in rendered.text, where
            for picture in page.iter("img"):
                assert picture.get("src") and picture.get("alt") and picture.get("width"), where
            words = " ".join(page.text_content().split())
            assert "None" not in words and "\u2068\u2069" not in words, where


def test_every_block_of_stories_has_every_state() -> None:
    """A block that nobody described is shown with stories, so none is forgotten."""
    told = {
        block: {state.name for state in states_of(RENDERER, CATALOGUE["today"], block)}
        for block in block_names(CATALOGUE, "today")
    }
    files = {
        path.name.removesuffix(".mjml.j2") for path in (ROOT / "templates/_shared/blocks").glob("*.mjml.j2")
    }

    assert set(told) >= files and all(told.values())
    for block in ("lead", "stories", "briefs", "flags", "feature", "papers", "gallery", "picture", "read", "list", "light", "cover", "letter"):  # fmt: skip
        assert told[block] == STORY_STATES


def test_every_block_has_both_parts() -> None:
    """One file for HTML, one for text."""
    folder = ROOT / "templates" / "_shared" / "blocks"
    names = {
        kind: {path.name.removesuffix(kind) for path in folder.glob(f"*{kind}")}
        for kind in (".mjml.j2", ".txt.j2")
    }

    assert names[".mjml.j2"] == names[".txt.j2"]


def test_the_catalogue_is_written_and_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page a block, whose frames exist in light and in dark."""
    monkeypatch.setenv("NEWSLETTER_TEMPLATES", str(ROOT / "templates"))

    done = CliRunner().invoke(app, ["blocks", "letter", "--out", str(tmp_path)])

    assert done.exit_code == 0 and "offer" in done.output and "index.html" in done.output
    for page in tmp_path.glob("*.html"):
        frames = [frame.get("src") for frame in html.parse(page).iter("iframe")]
        assert all((tmp_path / src).is_file() for src in frames) and bool(frames) == (page.stem != INDEX)


def test_an_unknown_block_or_state_is_said() -> None:
    """With what there is."""
    with pytest.raises(NotFound, match="There are: advert"):
        page_of(RENDERER, CATALOGUE["today"], "nosuch", sheet="x.css")
    with pytest.raises(NotFound, match="nosuch-dark"):
        frame_of(RENDERER, CATALOGUE["today"], "lead", "nosuch-dark")
