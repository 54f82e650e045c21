"""
The catalogues of what readers read: extract the messages, and bring the ``.po`` files up to date.

``python -m tests.messages`` adds what is new (untranslated), drops what is gone and sorts by message,
so that two branches that add messages merge. ``tests/test_words.py`` fails while anything is untranslated.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_file
from babel.messages.pofile import read_po, write_po

from newsletter.words import LANGUAGES, LOCALE_FOLDER, SOURCE_LANGUAGE, extraction
from tests.builders import ROOT

KEYWORDS = {"say": None, "marked": None, "say_many": (1, 2), "_": None, "gettext": None, "ngettext": (1, 2)}


def extracted() -> Catalog:
    """Every message of the code and the templates."""
    catalogue = Catalog(charset="utf-8")
    for folder, pattern, options in extraction():
        for path in sorted((ROOT / folder).glob(pattern)):
            method = "python" if path.suffix == ".py" else "jinja2"
            found = extract_from_file(method, path, keywords=KEYWORDS, options=options)  # type: ignore[arg-type]
            for _line, message, _comments, _context in found:
                catalogue.add(message)
    return catalogue


def stored(language: str) -> Catalog:
    """The catalogue of a language as it lies in the repository."""
    with path_of(language).open("rb") as file:
        return read_po(file, locale=language)


def path_of(language: str) -> Path:
    """Where the catalogue of a language lies."""
    return LOCALE_FOLDER / language / "LC_MESSAGES" / "pages.po"


def written(catalogue: Catalog) -> bytes:
    """The file of a catalogue, in the one form it has in the repository."""
    out = BytesIO()
    write_po(
        out, catalogue, width=0, no_location=True, omit_header=True, sort_output=True, ignore_obsolete=True
    )
    plural = ""
    if any(message.pluralizable for message in catalogue):
        plural = f'"Plural-Forms: {catalogue.plural_forms}\\n"\n'
    head = f'msgid ""\nmsgstr ""\n"Language: {catalogue.locale}\\n"\n"Content-Type: text/plain; charset=utf-8\\n"\n{plural}\n'
    return head.encode() + out.getvalue().strip() + b"\n"


def main() -> None:
    """Update every catalogue."""
    template = extracted()
    for language in LANGUAGES:
        if language == SOURCE_LANGUAGE:
            continue
        catalogue = stored(language)
        catalogue.update(template, no_fuzzy_matching=True)
        path_of(language).write_bytes(written(catalogue))
        lacking = sum(1 for message in catalogue if message.id and not message.string)
        print(f"{language}: {len(catalogue)} messages, {lacking} not translated")


if __name__ == "__main__":
    main()
