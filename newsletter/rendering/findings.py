"""Findings of the linter and the proof: what is wrong, where, how bad, and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Severity(StrEnum):
    """An error blocks the send, a warning goes out and is recorded, a note only tells."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


_ORDER = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.NOTE: 2}


@dataclass(frozen=True, slots=True)
class Finding:
    """
    *part* is subject, preheader, sender, html, text or template; *where* narrows it (file:line, URL, words).

    Made by ``codes.finding``: *message* says what is wrong, *remedy* how to mend it.
    """

    code: str
    severity: Severity
    newsletter: str
    variant: str
    part: str
    where: str
    message: str
    remedy: str = ""

    def as_json(self) -> dict[str, Any]:
        """The shape of ``proof --json``."""
        return {**asdict(self), "severity": str(self.severity)}

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Finding:
        """What ``as_json`` gave."""
        return cls(**{**stored, "severity": Severity(stored["severity"])})


def blocks(findings: Iterable[Finding]) -> bool:
    """Whether any finding keeps the edition from going out."""
    return any(finding.severity is Severity.ERROR for finding in findings)


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The worst first, each once."""
    unique = dict.fromkeys(findings)
    return tuple(
        sorted(
            unique,
            key=lambda one: (
                _ORDER[one.severity],
                one.newsletter,
                one.code,
                one.variant,
                one.part,
                one.where,
            ),
        )
    )
