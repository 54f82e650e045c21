"""
Snapshot + templates → HTML and text of one variant; the only render path there is.

Each newsletter sees its own folder first and ``_shared`` behind it, so a folder holds only what
differs. HTML: Jinja (autoescape on) → MJML → HTML. Text: a Jinja template of its own (autoescape
off) over the same gated snapshot. What differs between two readers stays a personal tag.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import jinja2
import mjml
from babel.dates import format_date, format_datetime
from markupsafe import Markup, escape

from newsletter.catalogue import Catalogue, class_of
from newsletter.edition import PERSONAL_TAGS, Fault, Rendered, Snapshot, for_variant
from newsletter.errors import TemplateError
from newsletter.rendering.compiled import oddities
from newsletter.rendering.origins import OriginExtension, lines_of, locate_fault
from newsletter.rendering.plaintext import Links, columns, isolate, plain, tidy, wrap
from newsletter.rendering.templates import FoldersLoader, render_template
from newsletter.theme import Theme
from newsletter.words import Words, words

BODY = "body"
BODY_HTML, BODY_TEXT = f"{BODY}.mjml.j2", f"{BODY}.txt.j2"

_ARTICLE, _MAIN = ' role="article"', ' role="main"'
"""
What MJML says of a mail's container, and what we say. A mail is a document of its own, and viewed online its
very bytes are a page, whose content belongs in a landmark.
"""
_WHITE, _HIDDEN = "font-size:1px;color:#ffffff;", "mso-hide:all;"
"""
How MJML hides a preheader, besides not displaying it, and how we do. To filters tiny white type is a spammer's
trick (SpamAssassin: HTML_FONT_LOW_CONTRAST, FONT_INVIS_MSGID), and Outlook for Windows shows it all the same.
"""
_UNSIZED = re.compile(r'<img\b[^>]*? height="auto" src="([^"]*)"[^>]*? width="(\d+)"')


class Renderer:
    """Renders the newsletters of one catalogue. Compiled templates are kept; not for many threads."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self._environments: dict[tuple[str, Theme], jinja2.Environment] = {}
        self._bytecode = _MemoryBytecode()

    def render(self, snapshot: Snapshot, variant: str, *, body: str = BODY) -> Rendered:
        """
        Render one variant; personal tags stay unfilled. *body* names the two templates to begin with.

        Raises:
            TemplateError: names the template and the line at fault.
        """
        gated = for_variant(snapshot, variant)
        context = self._context(_without_subject(gated, self.catalogue), variant)
        environment = self._environment(snapshot.newsletter)
        source = render_template(environment, f"{body}.mjml.j2", context)
        try:
            page = mjml.mjml2html(_spelt_out(source), fonts={}, disable_comments=True)
            page = _sized(page.replace(_ARTICLE, _MAIN, 1).replace(_WHITE, _HIDDEN, 1), gated)
        except (ValueError, UnicodeEncodeError) as error:
            raise self._explain(snapshot.newsletter, context, body, error) from error
        links = Links()
        spoken = {
            **context, "say": context["words"].say, "noted": links.noted, "linked": links.linked, "links": links.listed,
        }  # fmt: skip
        text = tidy(render_template(environment, f"{body}.txt.j2", spoken))
        return Rendered(
            variant=variant, subject=gated.subject, preheader=gated.preheader, html=page, text=text,
            other_subjects=gated.other_subjects,
            faults=self._faults(snapshot.newsletter, context, body, source),
        )  # fmt: skip

    def render_all(self, snapshot: Snapshot) -> tuple[Rendered, ...]:
        """Render every variant, free first."""
        return tuple(self.render(snapshot, variant) for variant in snapshot.variants)

    def template_hash(self, slug: str) -> str:
        """Return a hash of everything but the snapshot that a rendering of *slug* depends on."""
        digest = hashlib.sha256()
        root = self.catalogue.root
        paths = [root / "publication.toml", *(root / "_shared").rglob("*"), *(root / slug).rglob("*")]
        for path in sorted(path for path in paths if path.is_file()):
            digest.update(path.relative_to(root).as_posix().encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()

    def _context(self, gated: Snapshot, variant: str) -> dict[str, Any]:
        newsletter = self.catalogue[gated.newsletter]
        publication = self.catalogue.publication
        spoken = words(gated.language.split("-")[0])
        return {
            "publication": publication,
            "newsletter": newsletter,
            "edition": gated,
            "variant": variant,
            "paying": class_of(variant) == "paying",
            "theme": newsletter.theme,
            "say": saying(spoken),
            "words": spoken,
            "start": "right" if gated.direction == "rtl" else "left",
            "end": "left" if gated.direction == "rtl" else "right",
            "zone": newsletter.zone(publication),
            **PERSONAL_TAGS,
        }

    def _environment(self, slug: str) -> jinja2.Environment:
        key = (slug, self.catalogue[slug].theme)  # a look that was saved anew is read anew
        if key not in self._environments:
            self._environments[key] = self._make_environment(slug)
        return self._environments[key]

    def _make_environment(self, slug: str, extensions: Iterable[Any] = ()) -> jinja2.Environment:
        root = self.catalogue.root
        environment = jinja2.Environment(
            loader=FoldersLoader([root / slug, root / "_shared"]),
            undefined=jinja2.StrictUndefined,
            autoescape=_escapes,  # noqa: S701  # decided per part
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=False,
            bytecode_cache=None if extensions else self._bytecode,
            extensions=list(extensions),
        )
        environment.filters.update(FILTERS)
        environment.globals["theme"] = self.catalogue[slug].theme
        return environment

    def _faults(self, slug: str, context: Mapping[str, Any], body: str, source: str) -> tuple[Fault, ...]:
        """What MJML ignored in *source*, each with its template line: that needs a second rendering, with marks."""
        found = oddities(source)
        if not found:
            return ()
        _, origins = lines_of(self._marked(slug, context, body))
        faults: dict[Fault, None] = {}
        for one in found:
            origin = origins[min(one.line, len(origins) - 1)]
            faults[Fault(one.code, f"{self._relative(origin.template)}:{origin.line}", one.message)] = None
        return tuple(faults)

    def _relative(self, template: str) -> str:
        """A template as an editor knows it: below the templates' folder."""
        path = Path(template)
        return (
            path.relative_to(self.catalogue.root).as_posix()
            if path.is_relative_to(self.catalogue.root)
            else template
        )

    def _marked(self, slug: str, context: Mapping[str, Any], body: str) -> str:
        return render_template(self._make_environment(slug, [OriginExtension]), f"{body}.mjml.j2", context)

    def _explain(self, slug: str, context: Mapping[str, Any], body: str, error: Exception) -> TemplateError:
        """Render once more with every line marked by its origin, and say where the fault lies."""
        where = locate_fault(self._marked(slug, context, body), str(error))
        story = f", in the story “{where.story}”" if where.story else ""
        return TemplateError(
            f"{slug}: {where.template}, line {where.line}{story}: MJML does not accept this: {where.excerpt!r} ({error}).",
            template=where.template, line=where.line, story=where.story,
        )  # fmt: skip


def _sized(page: str, snapshot: Snapshot) -> str:
    """*page* with each picture's height as a number: its place is kept where it is not loaded, in Outlook too."""
    known = {str(escape(one.image.url)): one.image for one in snapshot.items if one.image and one.image.width}

    def size(picture: re.Match[str]) -> str:
        image = known.get(picture[1])
        height = f' height="{round(int(picture[2]) * image.height / image.width)}"' if image else ""
        return picture[0].replace(' height="auto"', height)

    return _UNSIZED.sub(size, page)


# mjml-python 1.4.2 writes attributes as Rust debugs strings: a vowel sign in an alt becomes \u{94d}, a backslash two.
_ODD = re.compile(r"[^\x00-\x5b\x5d-\x7f]")
_ODD_TAG = re.compile(r"<[a-zA-Z][^<>]*?[^\x00-\x5b\x5d-\x7f][^<>]*>")


def _spelt_out(source: str) -> str:
    """*source* with what MJML would garble in attributes as character references, and line ends as it takes them."""

    def spell(letter: re.Match[str]) -> str:
        is_garbled = letter[0] == "\\" or unicodedata.category(letter[0])[0] in "MCZ"
        return f"&#{ord(letter[0])};" if is_garbled else letter[0]

    return _ODD_TAG.sub(lambda tag: _ODD.sub(spell, tag[0]), source.replace("\r\n", "\n"))


def _escapes(name: str | None) -> bool:
    """Autoescape is on for MJML, off for the text part."""
    return name is None or not name.endswith(".txt.j2")


class _MemoryBytecode(jinja2.BytecodeCache):
    """Shares compiled ``_shared`` templates between the newsletters' environments."""

    def __init__(self) -> None:
        self._kept: dict[str, bytes] = {}

    def load_bytecode(self, bucket: jinja2.bccache.Bucket) -> None:
        if bucket.key in self._kept:
            bucket.bytecode_from_string(self._kept[bucket.key])

    def dump_bytecode(self, bucket: jinja2.bccache.Bucket) -> None:
        self._kept[bucket.key] = bucket.bytecode_to_string()


def _without_subject(gated: Snapshot, catalogue: Catalogue) -> Snapshot:
    """
    What templates see of an edition with several subjects: the newsletter's name and the date in their place.

    So its bytes are the same whatever subject a reader gets, and the subject is all that is tried.
    """
    if not gated.other_subjects:
        return gated
    name = catalogue[gated.newsletter].name
    return replace(gated, subject=f"{name}, {gated.date_line}", other_subjects=())


def content_hash(renderings: Iterable[Rendered]) -> str:
    """
    Return the SHA-256 (hex) over subject(s), preheader, HTML and text of each variant, tags unfilled.

    The same hash is shown in preview, proof, approval, send and status.
    """
    digest = hashlib.sha256()
    for rendered in sorted(renderings, key=lambda one: one.variant):
        others = ("other subjects", *rendered.other_subjects) if rendered.other_subjects else ()
        for part in (
            rendered.variant, rendered.subject, rendered.preheader, rendered.html, rendered.text, *others,
        ):  # fmt: skip
            encoded = part.encode()
            digest.update(len(encoded).to_bytes(8, "big"))
            digest.update(encoded)
    return digest.hexdigest()


def fill(text: str, values: Mapping[str, str]) -> str:
    """Fill personal tags by plain replacement, as a provider's substitutions do. Values are URLs."""
    for tag, value in values.items():
        text = text.replace(tag, value)
    return text


def sample_links(base_url: str) -> dict[str, str]:
    """Stand-ins for the personal links, for looking only: they lead to no reader's page."""
    paths = {"unsubscribe_url": "u", "preferences_url": "preferences", "view_url": "view"}
    return {tag: f"{base_url}/{paths[name]}/preview" for name, tag in PERSONAL_TAGS.items()}


def fill_samples(rendered: Rendered, base_url: str) -> tuple[str, str]:
    """HTML and text of *rendered* with stand-in links."""
    links = sample_links(base_url)
    return fill(rendered.html, links), fill(rendered.text, links)


def _html(fragment: str) -> Markup:
    """A fragment that was sanitised when the edition was made up: set as it is."""
    return Markup(fragment)  # noqa: S704  # nh3-cleaned in desk.make_up; the only way HTML gets in


def saying(spoken: Words) -> Callable[..., Markup]:
    """``Words.say`` for HTML: what is filled in is escaped, but for what is HTML already."""

    def say(message: str, **values: object) -> Markup:
        said = escape(spoken.say(message))
        return said % values if values else said

    return say


def _bdi(text: str) -> Markup:
    """A name in a line of another direction, kept whole."""
    return Markup("<bdi>{}</bdi>").format(text)


def _host(url: str) -> str:
    return (urlsplit(url).hostname or "").removeprefix("www.")


def _day(value: date | datetime, pattern: str, language: str, zone: str = "UTC") -> str:
    """A date in the newsletter's language, by CLDR pattern or ``full|long|medium|short``."""
    if isinstance(value, datetime):
        return format_datetime(value.astimezone(ZoneInfo(zone)), pattern, locale=language.replace("-", "_"))
    return format_date(value, pattern, locale=language.replace("-", "_"))


FILTERS: dict[str, Any] = {
    "bdi": _bdi, "html": _html, "plain": plain, "wrap": wrap, "columns": columns, "isolate": isolate, "host": _host,
    "day": _day,
}  # fmt: skip
