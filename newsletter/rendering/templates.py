"""
A newsletter's templates: its own folder first and ``_shared`` behind it; and what goes wrong in them, said.

Compiled templates are kept. One is read again when its file changed, went, or is no longer the first of its name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jinja2

from newsletter.edition import Item
from newsletter.errors import TemplateError


class FoldersLoader(jinja2.FileSystemLoader):
    """Loads from the first folder that has a name, also when another folder has had it before."""

    def get_source(
        self, environment: jinja2.Environment, template: str
    ) -> tuple[str, str, Callable[[], bool]]:
        """
        Called by Jinja for a template that it has not compiled, or that is not up to date.

        Raises:
            TemplateNotFound: no folder has it.
            TemplateSyntaxError: it is no text in UTF-8.
        """
        try:
            source, path, is_unchanged = super().get_source(environment, template)
        except UnicodeDecodeError as error:
            line, words = no_utf8(error)
            raise jinja2.TemplateSyntaxError(words, line, template, str(self._first(template))) from error
        return source, path, lambda: is_unchanged() and self._first(template) == Path(path)

    def _first(self, template: str) -> Path | None:
        """The file that counts for a name."""
        paths = (Path(folder, template) for folder in self.searchpath)
        return next((path for path in paths if path.is_file()), None)


def no_utf8(error: UnicodeDecodeError) -> tuple[int, str]:
    """The line in which a file stops being UTF-8, and a sentence."""
    line = error.object.count(b"\n", 0, error.start) + 1
    return line, f"the byte {error.object[error.start]:#04x} is no UTF-8; save the file as UTF-8."


def render_template(environment: jinja2.Environment, name: str, context: Mapping[str, Any]) -> str:
    """
    Render one template.

    Raises:
        TemplateError: whatever a template can do wrong; names template, line and the story that was being set.
    """
    try:
        return environment.get_template(name).render(context)
    except jinja2.TemplateNotFound as error:
        raise TemplateError(
            f"The template {error.name} is missing: a section names a block that neither the newsletter's "
            "folder nor _shared has.",
            template=str(error.name),
        ) from error
    except jinja2.TemplateSyntaxError as error:
        template = str(error.filename or error.name)
        raise TemplateError(
            f"{template}, line {error.lineno}: {_what(error)}", template=template, line=error.lineno
        ) from error
    except Exception as error:  # a template is a program of an editor's: it may raise anything
        template, line, story = _place(error)
        where = f"{template or name}, line {line}{f', in the story “{story}”' if story else ''}"
        raise TemplateError(
            f"{where}: {_what(error)}", template=template or name, line=line, story=story
        ) from error


def _what(error: Exception) -> str:
    match error:
        case RecursionError():
            words = "it includes or calls itself without end"
        case jinja2.TemplateError():
            words = str(error.message)
        case _:
            words = f"{error} ({type(error).__name__})" if str(error) else type(error).__name__
    return f"{words.rstrip('.')}."


def _place(error: Exception) -> tuple[str, int, str]:
    """
    Template and line of *error*, and the headline of the story that was being set, which templates call ``item``.

    Jinja has rewritten the traceback to those. The innermost counts; of a call without end the first that recurs.
    """
    places: list[tuple[str, int, str]] = [("", 0, "")]
    step = error.__traceback__
    while step is not None:
        frame = step.tb_frame
        if frame.f_code.co_filename.endswith(".j2"):
            item = frame.f_locals.get("item")
            story = item.headline if isinstance(item, Item) else places[-1][2]
            places.append((frame.f_code.co_filename, step.tb_lineno, story))
        step = step.tb_next
    if isinstance(error, RecursionError):
        often = Counter(places)
        return next((place for place in places if often[place] > 1), places[-1])
    return places[-1]
