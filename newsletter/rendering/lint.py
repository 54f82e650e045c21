"""
Lint: read the templates themselves for what mjml-python accepts without a word and then sets wrong.

The Jinja parts are blanked out with their lines kept, so every finding names file and line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import jinja2
from jinja2.lexer import Lexer

from newsletter.catalogue import Catalogue
from newsletter.rendering.codes import finding
from newsletter.rendering.findings import Finding, in_order
from newsletter.rendering.vocabulary import ATTRIBUTES, PARENTS, REFUSED_TAGS

_VOID = {"br", "hr", "img", "meta", "link", "input", "wbr", "col", "area"}
_UNITLESS_ZERO = re.compile(r"(?:^|\s)0(?=\s|$)")
_JINJA = jinja2.Environment(autoescape=True)  # for its lexer only; renders nothing
_HOLE = "\u25a1"  # stands where Jinja writes something


def lint_templates(catalogue: Catalogue) -> tuple[Finding, ...]:
    """Return what is wrong in the templates of *catalogue*, the worst first."""
    found: list[Finding] = []
    for path in sorted(catalogue.root.rglob("*.mjml.j2")):
        name = path.relative_to(catalogue.root).as_posix()
        folder = name.partition("/")[0]
        slug = "" if folder.startswith("_") else folder
        found.extend(_lint_file(path, name, slug))
    for path in sorted(catalogue.root.rglob("*.txt.j2")):
        name = path.relative_to(catalogue.root).as_posix()
        _, fault = _literal(path.read_text(encoding="utf-8"), name)
        if fault:
            slug = "" if name.startswith("_") else name.partition("/")[0]
            found.append(_finding("template-syntax", slug, f"{name}:{fault[0]}", fault[1]))
    found.extend(_missing_blocks(catalogue))
    return in_order(found)


def _finding(code: str, slug: str, where: str, message: str) -> Finding:
    return finding(code, slug, part="template", where=where, message=message)


def _missing_blocks(catalogue: Catalogue) -> Iterator[Finding]:
    for newsletter in catalogue.newsletters:
        for section in newsletter.sections:
            for kind in ("mjml", "txt"):
                name = f"blocks/{section.block}.{kind}.j2"
                if not any(
                    (catalogue.root / folder / name).is_file() for folder in (newsletter.slug, "_shared")
                ):
                    yield _finding(
                        "block-missing", newsletter.slug, f"{newsletter.slug}/newsletter.toml",
                        f"Section {section.id} names the block {section.block!r}, but there is no {name} in "
                        f"{newsletter.slug} or _shared.",
                    )  # fmt: skip


def _literal(source: str, name: str) -> tuple[str, tuple[int, str] | None]:
    """The template's own text with Jinja blanked out, lines kept; or the syntax error's line and words."""
    try:
        _JINJA.parse(source, name)
        tokens = list(Lexer(_JINJA).tokeniter(source, name))
    except jinja2.TemplateSyntaxError as error:
        return "", (error.lineno, str(error.message))
    pieces: list[str] = []
    inside = 0
    for _line, kind, value in tokens:
        if kind == "data":
            pieces.append(value)
            continue
        opening = kind in ("variable_begin", "block_begin", "comment_begin", "raw_begin")
        if kind == "variable_begin" and not inside:
            pieces.append(_HOLE)
        inside += opening
        inside -= kind in ("variable_end", "block_end", "comment_end", "raw_end")
        pieces.append("\n" * value.count("\n"))
    return "".join(pieces), None


def _lint_file(path: Path, name: str, slug: str) -> Iterator[Finding]:
    literal, fault = _literal(path.read_text(encoding="utf-8"), name)
    if fault:
        yield _finding("template-syntax", slug, f"{name}:{fault[0]}", fault[1])
        return
    scan = _Scan()
    scan.feed(literal)
    scan.close()
    for line, code, message in scan.faults:
        yield _finding(code, slug, f"{name}:{line}", message)


class _Scan(HTMLParser):
    """Walks the literal markup of one file."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.faults: list[tuple[int, str, str]] = []
        self.open: list[tuple[str, int]] = []
        self._raw: tuple[int, int] | None = None

    def _fault(self, code: str, message: str) -> None:
        self.faults.append((self.getpos()[0], code, message))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._check(tag, attrs)
        if tag not in _VOID:
            self.open.append((tag, self.getpos()[0]))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._check(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if tag in _VOID:
            return
        if any(name == tag for name, _ in self.open):
            while self.open and self.open[-1][0] != tag:
                unclosed, _ = self.open.pop()
                if unclosed.startswith("mj") or tag.startswith("mj"):
                    self._fault("tag-unclosed", f"<{unclosed}> is not closed before </{tag}>.")
            if self.open:
                self.open.pop()
        elif tag.startswith("mj-") and self.open:
            # A fragment may close what another opened, but not inside an element of its own.
            self._fault("tag-unopened", f"</{tag}> closes nothing here.")

    def _check(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        raw = self.get_starttag_text() or ""
        if not tag.startswith("mj"):
            if self.open and self.open[-1][0] in ("mj-section", "mj-body", "mj-wrapper", "mj-group"):
                self._fault(
                    "misplaced",
                    f"<{tag}> directly in <{self.open[-1][0]}> is dropped; put it into an mj-text.",
                )
            self._check_link(tag, raw)
            return
        if tag in REFUSED_TAGS:
            self._fault("refused-tag", f"<{tag}>: {REFUSED_TAGS[tag]}.")
            return
        if tag not in ATTRIBUTES:
            self._fault(
                "unknown-tag", f"<{tag}> is no MJML that is compiled: it would reach the reader as it stands."
            )
            return
        written = re.match(r"<\s*([^\s/>]+)", raw)
        if written and written[1] != tag:
            self._fault("unknown-tag", f"<{written[1]}> must be written in small letters.")
        parent = self.open[-1][0] if self.open else ""
        if parent and tag in PARENTS and parent not in PARENTS[tag]:
            self._fault("misplaced", f"<{tag}> cannot stand in <{parent}>.")
        self._check_attributes(tag, attrs, raw)

    def _check_attributes(self, tag: str, attrs: list[tuple[str, str | None]], raw: str) -> None:
        allowed = ATTRIBUTES[tag] | (ATTRIBUTES["mj-class"] if self._in_attributes() else frozenset())
        names = [name for name, _ in attrs]
        for name, value in attrs:
            if _HOLE in name:
                continue
            if name not in allowed and (tag, name) != ("mj-style", "inline"):  # told below
                self._fault("unknown-attribute", f"<{tag}> has no attribute {name!r}; it would be ignored.")
            text = value or ""
            if "padding" in name and _UNITLESS_ZERO.search(text):
                self._fault(
                    "unitless-zero", f'{name}="{text}" on <{tag}>: write 0px, or widths come out wrong.'
                )
            if names.count(name) > 1:
                self._fault("attribute-twice", f"<{tag}> has {name!r} twice.")
        values = dict(attrs)
        if tag == "mj-image" and not self._in_attributes():
            if "alt" not in values:
                self._fault("image-alt", "<mj-image> has no alt.")
            if (values.get("width") or "").endswith("%"):
                self._fault("image-percent", "<mj-image> takes a width in px; percent is ignored.")
        if tag == "mj-social-element" and "src" not in values and not self._in_attributes():
            self._fault(
                "social-src",
                "<mj-social-element> needs its own src; the default comes from a stranger's server.",
            )
        if tag == "mj-style" and "inline" in values:
            self._fault(
                "style-inline", "mj-style inline is not inlined by mjml-python; write style attributes."
            )
        if tag == "mj-hero" and values.get("mode") == "fluid-height":
            self._fault("hero-fluid", "mj-hero fluid-height collapses; give it a fixed height.")
        if tag == "mj-class" and (values.get("name") or "").count(" "):
            self._fault("class-name", "an mj-class has one name.")
        if tag == "mjml":
            for name in ("lang", "dir"):
                if name not in values:
                    self._fault(
                        "lang-missing", f"<mjml> needs {name}; the default is wrong for screen readers."
                    )
        if re.search(r"=\s*'[^']*\"", raw):
            self._fault("quotes", "double quotes inside a single-quoted attribute break the page.")

    def _check_link(self, tag: str, raw: str) -> None:
        if (
            tag == "a"
            and "clicktracking" in raw
            and "href" in raw
            and raw.index("href") < raw.index("clicktracking")
        ):
            self._fault("clicktracking-order", "clicktracking=off must stand before href.")

    def _in_attributes(self) -> bool:
        return any(tag == "mj-attributes" for tag, _ in self.open)
