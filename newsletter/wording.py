"""
What an editor writes that no feed brings: greeting, intro, number, quote, this day, quiz, a letter.

It lives in ``words/<date>/<slug>.md``: TOML between two lines of ``+++``, then the letter in Markdown.
A block without words is left out; nothing is ever invented to fill it. Pure once the file is read.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

from markdown_it import MarkdownIt
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from newsletter.errors import WordingError
from newsletter.faults import first as first_fault
from newsletter.faults import like

Block = Literal["number", "quote", "this_day", "quiz", "letter", "front_page"]
"""What a section with ``words = …`` is filled from."""

BLOCKS: tuple[Block, ...] = ("number", "quote", "this_day", "quiz", "letter", "front_page")
LINES = ("subject", "preheader", "greeting", "intro", "sign_off")
"""Plain lines; given here they go before those of ``newsletter.toml``."""

_FENCE = "+++"
_BREAK = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_MARKDOWN = MarkdownIt("commonmark", {"html": False})


def _link(value: str) -> str:
    if value and not re.fullmatch(r"https?://[^\s<>\"]+", value):
        raise ValueError("is not an http(s) address")
    return value


Link = Annotated[str, AfterValidator(_link)]
Words = Annotated[str, Field(min_length=1, max_length=1_000)]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


class Number(_Value):
    """The number of the day: *figure* as it is set large, *text* what it counts."""

    figure: Annotated[str, Field(min_length=1, max_length=20)]
    text: Words
    source: str = ""
    url: Link = ""


class Quote(_Value):
    """Somebody's words: *who* said them, *about* says who that is."""

    text: Words
    who: Words
    about: str = ""
    url: Link = ""


class ThisDay(_Value):
    """What happened on this day in *year*."""

    year: Annotated[int, Field(ge=-3000, le=2200)]
    text: Words
    url: Link = ""


class Question(_Value):
    """A quiz question; *answer* counts its options from 1, *note* is told with the answer."""

    question: Words
    options: Annotated[tuple[Words, ...], Field(min_length=2, max_length=6)]
    answer: Annotated[int, Field(ge=1)]
    note: str = ""

    @model_validator(mode="after")
    def _answer_is_an_option(self) -> Question:
        if self.answer > len(self.options):
            raise ValueError(f"answer is {self.answer}, but there are {len(self.options)} options")
        return self


class Hello(_Value):
    """
    A greeting in another language: *text* in *language* (BCP 47), as they say it in *country* (ISO 3166-1 alpha-2).

    *note* names both in the newsletter's own language; it is made, not written.
    """

    text: Annotated[str, Field(min_length=1, max_length=60)]
    language: Annotated[str, like(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*", "pt or pt-BR")]
    country: Annotated[str, like(r"([A-Z]{2})?", "BR: the two capitals of the country")] = ""
    note: str = ""


class FrontPage(_Value):
    """
    A paper's front page: its *headline* in its own *language*, that in *translation*, and a line of *text* about it.

    What is shown as *picture* (https) needs an *alt* and should have a *credit*. *country_name*, *flag* and
    *direction* are made, not written.
    """

    paper: Words
    headline: Words
    text: Words
    language: Annotated[str, like(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*", "pt or pt-BR")]
    translation: str = ""
    country: Annotated[str, like(r"([A-Z]{2})?", "BR: the two capitals of the country")] = ""
    picture: Link = ""
    alt: str = ""
    credit: str = ""
    url: Link = ""
    country_name: str = ""
    flag: str = ""
    direction: Literal["ltr", "rtl", ""] = ""

    @model_validator(mode="after")
    def _picture_is_described(self) -> FrontPage:
        if self.picture and not self.alt:
            raise ValueError("alt is missing: say what is to be seen in the picture")
        return self


class Wording(_Value):
    """All that is written for one edition; empty is not written."""

    subject: str = ""
    subjects: dict[Literal["b", "c", "d", "e"], str] = {}
    preheader: str = ""
    greeting: str = ""
    intro: str = ""
    sign_off: str = ""
    hello: Hello | None = None
    front_page: FrontPage | None = None
    number: Number | None = None
    quote: Quote | None = None
    this_day: ThisDay | None = None
    quiz: Annotated[tuple[Question, ...], Field(max_length=10)] = ()
    letter: str = ""

    @property
    def letter_html(self) -> str:
        """The letter as HTML; raw HTML in it is text."""
        return str(_MARKDOWN.render(self.letter)) if self.letter.strip() else ""

    def has(self, block: Block) -> bool:
        """Whether there are words for *block*."""
        return bool(getattr(self, block))

    def with_words(self, fields: Mapping[str, str]) -> Wording:
        """
        These words with an editor's changes, by dotted names: ``greeting``, ``quote.who``, ``quiz.1.question``.

        ``subject.b`` to ``subject.e`` are tried beside ``subject``. ``quiz.N.options`` has an option a line. A block whose fields are all emptied is left out.

        Raises:
            WordingError: a field that does not exist, or a block that lacks one; names it.
        """
        data: dict[str, Any] = self.model_dump()
        for name, value in fields.items():
            _put(data, name, value)
        data = {key: _filled(value) for key, value in data.items()}
        return _validated({key: value for key, value in data.items() if value}, where="the words given")


def _put(data: dict[str, Any], name: str, value: str) -> None:
    head, _, rest = name.partition(".")
    if head == "quiz" and rest:
        number, _, field = rest.partition(".")
        if not number.isdigit() or not 1 <= int(number) <= 10 or not field:
            raise WordingError(
                f"{name}: write quiz.1.question, quiz.1.options, quiz.1.answer or quiz.1.note."
            )
        questions = list(data.get("quiz") or ())
        while len(questions) < int(number):
            questions.append({})
        questions[int(number) - 1] = {
            **questions[int(number) - 1],
            field: tuple(value.splitlines()) if field == "options" else value,
        }
        data["quiz"] = questions
    elif head == "subject" and rest:
        data["subjects"] = {**(data.get("subjects") or {}), rest: value}
    elif rest:
        data[head] = {**(data.get(head) or {}), rest: value}
    elif head in (*LINES, "letter"):
        data[head] = value
    else:
        known = ", ".join(
            (*LINES, "letter", "number.figure", "quote.text", "this_day.year", "quiz.1.question")
        )
        raise WordingError(f"{name} is no words of an edition; there are {known} and so on.")


def _filled(value: Any) -> Any:
    """*value* without what is empty; None when nothing is left."""
    if isinstance(value, dict):
        return {key: one for key, one in value.items() if one not in ("", None, ())} or None
    if isinstance(value, (list, tuple)):
        return tuple(one for one in map(_filled, value) if one)
    return value


def words_path(folder: Path, day: date, slug: str) -> Path:
    """Where the words of an edition lie."""
    return folder / day.isoformat() / f"{slug}.md"


def stray_words(folder: Path, day: date, slugs: Collection[str]) -> tuple[Path, ...]:
    """Files in the folder of *day* that no newsletter of *slugs* reads: a slug was mistyped."""
    found = sorted((folder / day.isoformat()).glob("*"))
    return tuple(
        path for path in found if path.name[:1] != "." and path.name not in {f"{slug}.md" for slug in slugs}
    )


def read_wording(folder: Path, day: date, slug: str) -> Wording:
    """
    Read the words of an edition; none are written when there is no file.

    Raises:
        WordingError: the file cannot be used; names file, field and the fault.
    """
    path = words_path(folder, day, slug)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        return Wording()
    except (OSError, UnicodeDecodeError) as error:
        raise WordingError(f"{path} cannot be read: {error}.", file=str(path)) from error
    head, letter = _split(text, path)
    try:
        data = tomllib.loads(head)
    except tomllib.TOMLDecodeError as error:
        raise WordingError(
            f"{path} is not readable TOML between its {_FENCE} lines: {error}.", file=str(path)
        ) from error
    if letter and data.get("letter"):
        raise WordingError(
            f"{path} has a letter twice: below the second {_FENCE} and as a field.", file=str(path)
        )
    wording = _validated({**data, **({"letter": letter} if letter else {})}, where=str(path))
    check_inbox_lines(wording.model_dump(), where=str(path))
    return wording


def check_inbox_lines(fields: Mapping[str, Any], *, where: str) -> None:
    """
    Refuse a subject or preheader of several lines, of which an inbox would make one.

    Raises:
        WordingError: names *where* and the field.
    """
    subjects = fields.get("subjects", {})
    lines = {**fields, **{f"subject.{letter}": one for letter, one in subjects.items()}}
    for name in ("subject", *(f"subject.{letter}" for letter in "bcde"), "preheader"):
        if _BREAK.search(str(lines.get(name, "")).strip()):
            raise WordingError(
                f"{where}: {name}: it holds a line break or another control character; write it on one line.",
                file=where, field=name,
            )  # fmt: skip


def _split(text: str, path: Path) -> tuple[str, str]:
    """TOML and Markdown of a words file."""
    lines = text.splitlines()
    if not lines or lines[0].strip() != _FENCE:
        return "", text.strip()
    end = next((number for number, line in enumerate(lines[1:], 1) if line.strip() == _FENCE), None)
    if end is None:
        raise WordingError(f"{path}: the {_FENCE} of line 1 is never closed.", file=str(path))
    return "\n".join(lines[1:end]), "\n".join(lines[end + 1 :]).strip()


def _validated(data: Mapping[str, Any], *, where: str) -> Wording:
    try:
        return Wording.model_validate(data)
    except ValidationError as error:
        field, fault = first_fault(error)
        raise WordingError(f"{where}: {field}: {fault}.", file=where, field=field) from error
