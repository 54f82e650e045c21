"""
Lint: read the templates themselves for what mjml-python accepts without a word and then sets wrong.

The Jinja parts are blanked out with their lines kept, so every finding names file and line.
"""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import jinja2
from jinja2.lexer import Lexer

from newsletter.catalogue import Catalogue
from newsletter.rendering.codes import finding
from newsletter.rendering.findings import Finding, in_order
from newsletter.rendering.rules import HOLE, faults_of
from newsletter.rendering.templates import no_utf8

_VOID = {"br", "hr", "img", "meta", "link", "input", "wbr", "col", "area"}
_JINJA = jinja2.Environment(autoescape=True)  # for its lexer only; renders nothing


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
        _, fault = _literal(path, name)
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


def _literal(path: Path, name: str) -> tuple[str, tuple[int, str] | None]:
    """The template's own text with Jinja blanked out, lines kept; or the syntax error's line and words."""
    try:
        source = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        return "", no_utf8(error)
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
            pieces.append(HOLE)
        inside += opening
        inside -= kind in ("variable_end", "block_end", "comment_end", "raw_end")
        pieces.append("\n" * value.count("\n"))
    return "".join(pieces), None


def _lint_file(path: Path, name: str, slug: str) -> Iterator[Finding]:
    literal, fault = _literal(path, name)
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
        parent = self.open[-1][0] if self.open else ""
        sets_defaults = any(name == "mj-attributes" for name, _ in self.open)
        for code, message in faults_of(
            tag, attrs, raw=self.get_starttag_text() or "", parent=parent, sets_defaults=sets_defaults
        ):
            self._fault(code, message)
