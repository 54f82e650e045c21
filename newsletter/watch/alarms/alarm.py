"""What an alarm is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Alarm:
    """
    *key* is told once; *title* is a few words, *says* what is wrong, *do* what to do about it.

    *newsletter* is a slug, or empty: then it is about the installation, and told to its operators.
    """

    key: str
    title: str
    says: str
    do: str
    newsletter: str = ""


def minutes_of(span: timedelta) -> int:
    """Whole minutes, as they are said."""
    return int(span.total_seconds() // 60)
