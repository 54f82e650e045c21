"""The living catalogue of blocks: a page a block, for ``newsletter blocks --out`` and at ``/blocks`` of the preview."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import jinja2

from newsletter.catalogue import Newsletter
from newsletter.errors import NotFound
from newsletter.rendering.blocks import State, block_names, states_of
from newsletter.rendering.engine import Renderer
from newsletter.web.preview.looks import Look, seen_as

_HERE = Path(__file__).parent
_PAGES = jinja2.Environment(loader=jinja2.FileSystemLoader(_HERE / "pages"), autoescape=True, undefined=jinja2.StrictUndefined)  # fmt: skip
SHEET = _HERE / "static" / "preview.css"
INDEX = "index"


def page_of(renderer: Renderer, newsletter: Newsletter, block: str, *, sheet: str) -> str:
    """
    The page of one block with its states, or, for ``index``, that of them all; *sheet* is the style sheet's address.

    Raises:
        NotFound: there is no such block.
        TemplateError: it cannot be rendered; names template and line.
    """
    names = block_names(renderer.catalogue, newsletter.slug)
    if block not in (*names, INDEX):
        raise NotFound(f"There is no block {block!r}. There are: {', '.join(names)}.")
    return _PAGES.get_template("blocks.html.j2").render(
        newsletter=newsletter, names=names, block="" if block == INDEX else block, sheet=sheet,
        states=() if block == INDEX else tuple(states_of(renderer, newsletter, block)),
    )  # fmt: skip


def frame_of(renderer: Renderer, newsletter: Newsletter, block: str, name: str) -> str:
    """
    The mail in the frame *name*: a state's name and a look, such as ``long-headline-dark``.

    Raises:
        NotFound: there is none of that name.
    """
    wanted, _, look = name.rpartition("-")
    if look in (Look.LIGHT, Look.DARK) and block in block_names(renderer.catalogue, newsletter.slug):
        for state in states_of(renderer, newsletter, block):
            if state.name == wanted:
                return seen_as(state.rendered.html, Look(look))
    raise NotFound(f"There is no {name!r} of {block!r} in the catalogue.")


def write_catalogue(renderer: Renderer, newsletter: Newsletter, out: Path) -> Iterator[State]:
    """Write every page and frame below *out*; yields what was written."""
    out.mkdir(parents=True, exist_ok=True)
    (out / SHEET.name).write_bytes(SHEET.read_bytes())
    for block in (INDEX, *block_names(renderer.catalogue, newsletter.slug)):
        page = page_of(renderer, newsletter, block, sheet=SHEET.name)
        (out / f"{block}.html").write_text(page, encoding="utf-8")
        if block == INDEX:
            continue
        (out / block).mkdir(exist_ok=True)
        for state in states_of(renderer, newsletter, block):
            for look in (Look.LIGHT, Look.DARK):
                frame = seen_as(state.rendered.html, look)
                (out / block / f"{state.name}-{look}.html").write_text(frame, encoding="utf-8")
            (out / block / f"{state.name}.txt").write_text(state.rendered.text, encoding="utf-8")
            yield state
