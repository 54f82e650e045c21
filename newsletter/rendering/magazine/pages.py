"""What both files are made of: the templates under ``_magazine``, the fonts, and the issue's stories in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from newsletter.catalogue import Catalogue
from newsletter.edition import Item, SectionMade, Snapshot, for_variant
from newsletter.errors import TemplateError
from newsletter.rendering.engine import FILTERS, saying
from newsletter.words import words

SERIF, SANS = "Source Serif Pro", "Source Sans Pro"
_FACES = (
    # family, package, file, weight, style
    (SERIF, "font_source_serif_pro", "SourceSerifPro-Regular.otf", "400", "normal"),
    (SERIF, "font_source_serif_pro", "SourceSerifPro-It.otf", "400", "italic"),
    (SERIF, "font_source_serif_pro", "SourceSerifPro-Bold.otf", "700", "normal"),
    (SANS, "font_source_sans_pro", "SourceSansPro-Regular.otf", "400", "normal"),
    (SANS, "font_source_sans_pro", "SourceSansPro-Bold.otf", "700", "normal"),
)


@dataclass(frozen=True, slots=True)
class Font:
    """One face: its file's *name* and *data*."""

    family: str
    name: str
    weight: str
    style: str
    data: bytes

    def css(self, base: str) -> str:
        """The rule that names it, its file being at *base*."""
        return (
            f'@font-face {{ font-family: "{self.family}"; font-weight: {self.weight}; font-style: {self.style}; '
            f'src: url("{base}{self.name}"); }}\n'
        )


def fonts() -> tuple[Font, ...]:
    """The faces, out of their packages."""
    return tuple(
        Font(
            family,
            name,
            weight,
            style,
            (Path(str(import_module(package).font_directory)) / name).read_bytes(),
        )
        for family, package, name, weight, style in _FACES
    )


class Issue:
    """
    One edition as an issue: its stories once each, as paying readers get them.

    *pictures* gives the bytes (JPEG) behind a picture's address, None where there are none: then the story
    stands without one.
    """

    def __init__(
        self, catalogue: Catalogue, snapshot: Snapshot, pictures: Callable[[str], bytes | None]
    ) -> None:
        self.catalogue = catalogue
        self.newsletter = catalogue[snapshot.newsletter]
        self.pictures: dict[str, bytes] = {}
        gated = for_variant(snapshot, "paying")
        self.edition = replace(
            gated, sections=tuple(self._kept(section, pictures) for section in gated.sections)
        )
        self._spoken = words(gated.language.split("-")[0])

    def _kept(self, section: SectionMade, pictures: Callable[[str], bytes | None]) -> SectionMade:
        items = []
        for item in section.items:
            data = pictures(item.image.url) if item.image else None
            if item.image and data is not None:
                self.pictures[item.image.url] = data
            items.append(item if data is not None else replace(item, image=None))
        return replace(section, items=tuple(items))

    @property
    def title(self) -> str:
        """The issue's name: the newsletter's and its date."""
        return f"{self.newsletter.name}, {self.edition.date_line}"

    @property
    def cover(self) -> Item:
        """The story on the cover: the edition's first."""
        return self.edition.items[0]

    def stories(self) -> Iterator[tuple[SectionMade, Item]]:
        """Every story with its section, in order."""
        return ((section, item) for section in self.edition.sections for item in section.items)

    def say(self, message: str) -> str:
        """A word of ours in the issue's language."""
        return self._spoken.say(message)

    def set(self, name: str, **more: Any) -> str:
        """
        Set the template ``_magazine/<name>``.

        Raises:
            TemplateError: it does not render; names it.
        """
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(self.catalogue.root / "_magazine"), undefined=jinja2.StrictUndefined,
            autoescape=lambda named: not (named or "").endswith(".css.j2"),  # noqa: S701  # a style sheet is no HTML
            trim_blocks=True, lstrip_blocks=True,
        )  # fmt: skip
        environment.filters.update(FILTERS)
        places = {item.url: number for number, item in enumerate(self.edition.items, 1)}
        try:
            return environment.get_template(name).render(
                publication=self.catalogue.publication, newsletter=self.newsletter, edition=self.edition,
                theme=self.newsletter.theme, words=self._spoken, say=saying(self._spoken), cover=self.cover,
                serif=SERIF, sans=SANS, anchor=lambda item: f"story-{places[item.url]}", at=self._at, **more,
            )  # fmt: skip
        except jinja2.TemplateError as error:
            raise TemplateError(
                f"The magazine's _magazine/{name} does not render: {error}", template=name
            ) from error

    def _at(self, item: Item) -> Markup:
        """The attributes of a story in another language."""
        if item.language[:2] == self.edition.language[:2]:
            return Markup()
        return Markup('lang="{}" dir="{}"').format(item.language, item.direction)
