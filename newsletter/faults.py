"""What is wrong with a value that somebody wrote into a file or the environment, in words for them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pydantic import AfterValidator, ValidationError

_SAID = {
    "missing": "is missing",
    "extra_forbidden": "is no name we know; it may be mistyped",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be more than {gt}",
    "less_than_equal": "must be at most {le}",
    "less_than": "must be less than {lt}",
    "too_short": "must hold at least {min_length}, not {actual_length}",
    "too_long": "must hold at most {max_length}, not {actual_length}",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "string_type": 'must be a text in quotes, such as "text"',
    "value_error": "{error}",
}
_KINDS = {
    "int_": "must be a whole number",
    "float_": "must be a number",
    "finite_number": "must be a number",
    "decimal_": "must be a number",
    "bool_": "must be true or false",
    "date_": "must be a date such as 2026-12-01",
    "time_": 'must be a time such as "06:30"',
    "tuple_": 'must be a list, such as ["one", "two"]',
    "dict_": "must be a table, such as { name = … }",
    "model_": "must be a table, such as { name = … }",
}


def like(pattern: str, example: str) -> AfterValidator:
    """A text that matches the whole of *pattern*; whoever wrote another is given the *example*."""
    found = re.compile(pattern)

    def check(text: str) -> str:
        if not found.fullmatch(text):
            raise ValueError(f"must be of the form {example}")
        return text

    return AfterValidator(check)


def where(place: Sequence[int | str]) -> str:
    """The dotted name of a field; what stands in a list is counted from 1, as people count."""
    return ".".join(str(part + 1 if isinstance(part, int) else part) for part in place if part != "[key]")


def in_words(fault: Any) -> str:
    """One of ``ValidationError.errors()`` without the library's own words; never the value, which may be secret."""
    kind, context = fault["type"], fault.get("ctx", {})
    if kind in _SAID:
        return _SAID[kind].format(**context)
    return next((said for start, said in _KINDS.items() if kind.startswith(start)), str(fault["msg"]))


def first(error: ValidationError) -> tuple[str, str]:
    """
    The field to mend first and what is wrong with it; a mistyped name goes before what it left missing.

    How many faults there are besides is said, too.
    """
    faults = sorted(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")
    more = "" if len(faults) == 1 else f" ({len(faults) - 1} more)"
    return where(faults[0]["loc"]), f"{in_words(faults[0])}{more}"
