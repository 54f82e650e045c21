"""Stories: articles of all papers and languages that tell the same event (``grouping``), and an editor's word on them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Link:
    """An editor's word on two articles: *together* or not in one story."""

    url: str
    other: str
    together: bool
