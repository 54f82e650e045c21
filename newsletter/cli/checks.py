"""What a look at the installation says."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Check:
    """One look at the installation; *severity* is ok, note, warning or error."""

    name: str
    severity: str
    message: str
