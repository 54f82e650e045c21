"""
Searching the archive by words: FTS5 on SQLite, a text-search index on PostgreSQL, behind one function.

Both fold case; SQLite's also folds accents. Neither knows where words end in Chinese, Japanese or Korean:
a term in those scripts is looked for letter by letter.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy import Connection, text

MAX_TERMS = 8
MAX_TERM = 64
OPEN, CLOSE = "\x02", "\x03"
"""Stand around what was found in an excerpt; no text of ours holds them."""

_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff]")
_OURS = ("archive_index", "ix_archive_text_words")


@dataclass(frozen=True, slots=True)
class Found:
    """An edition that holds all terms; *excerpt* has ``OPEN`` and ``CLOSE`` around them."""

    newsletter: str
    edition_date: date
    title: str
    excerpt: str


def is_of_the_schema(name: str | None) -> bool:
    """Whether Alembic's comparison may look at a table or index: those of the search have no model."""
    return not (name or "").startswith(_OURS)


def terms_of(query: str) -> tuple[str, ...]:
    """The words of a query that can be looked for: letters and digits, a few and not too long."""
    words = re.findall(r"\w+", unicodedata.normalize("NFC", query))
    return tuple(dict.fromkeys(word[:MAX_TERM] for word in words))[:MAX_TERMS]


def search(
    connection: Connection, query: str, *, slugs: Sequence[str], limit: int, offset: int = 0
) -> tuple[Found, ...]:
    """
    The newest editions of *slugs* in whose free text all terms of *query* stand.

    Never raises for what was typed; a query without a term finds nothing.
    """
    terms = terms_of(query)
    if not terms or not slugs:
        return ()
    is_postgresql = connection.dialect.name == "postgresql"
    if any(_CJK.search(term) for term in terms):
        statement, given = _by_letters(terms)
    elif is_postgresql:
        statement, given = _POSTGRESQL, {"q": " ".join(terms)}
    else:
        statement, given = _SQLITE, {"q": " ".join(f'"{term}"' for term in terms)}
    names = {f"slug{number}": slug for number, slug in enumerate(slugs)}
    whole = statement.format(slugs=", ".join(f":{name}" for name in names), newest=_NEWEST)
    rows: Any = connection.execute(
        text(whole), {**given, **names, "limit": limit, "offset": offset, "open": OPEN, "close": CLOSE}
    )
    return tuple(
        Found(row[0], _day(row[1]), row[2], row[3] if OPEN in row[3] else _excerpt(row[3], terms))
        for row in rows
    )


_NEWEST = """e.frozen_at IS NOT NULL AND e.status IN ('submitting', 'submitted', 'paused') AND NOT EXISTS (
    SELECT 1 FROM edition later WHERE later.newsletter = e.newsletter AND later.edition_date = e.edition_date
    AND later.revision > e.revision AND later.frozen_at IS NOT NULL AND later.status IN ('submitting', 'submitted', 'paused'))"""
"""An edition readers have, in its newest revision."""

_SQLITE = """SELECT a.newsletter, a.edition_date, a.title, snippet(archive_index, 1, :open, :close, '…', 28)
    FROM archive_index JOIN archive_text a ON a.edition_id = archive_index.rowid JOIN edition e ON e.id = a.edition_id
    WHERE archive_index MATCH :q AND a.newsletter IN ({slugs}) AND {newest}
    ORDER BY a.edition_date DESC, a.newsletter LIMIT :limit OFFSET :offset"""

_POSTGRESQL = """SELECT f.newsletter, f.edition_date, f.title, ts_headline('simple', f.words, plainto_tsquery('simple', :q),
        'StartSel=' || :open || ', StopSel=' || :close || ', MaxWords=28, MinWords=14, MaxFragments=1')
    FROM (SELECT a.newsletter, a.edition_date, a.title, a.words FROM archive_text a JOIN edition e ON e.id = a.edition_id
        WHERE to_tsvector('simple', a.title || ' ' || a.words) @@ plainto_tsquery('simple', :q)
        AND a.newsletter IN ({slugs}) AND {newest}
        ORDER BY a.edition_date DESC, a.newsletter LIMIT :limit OFFSET :offset) f
    ORDER BY f.edition_date DESC, f.newsletter"""


def _by_letters(terms: Sequence[str]) -> tuple[str, dict[str, str]]:
    given = {f"t{number}": f"%{_escaped(term.lower())}%" for number, term in enumerate(terms)}
    each = " AND ".join(f"lower(a.title || ' ' || a.words) LIKE :{name} ESCAPE '!'" for name in given)
    statement = f"""SELECT a.newsletter, a.edition_date, a.title, a.words
        FROM archive_text a JOIN edition e ON e.id = a.edition_id
        WHERE {each} AND a.newsletter IN ({{slugs}}) AND {{newest}}
        ORDER BY a.edition_date DESC, a.newsletter LIMIT :limit OFFSET :offset"""  # noqa: S608  # only names of ours
    return statement, given


def _escaped(term: str) -> str:
    return re.sub(r"([!%_])", r"!\1", term)


def _excerpt(words: str, terms: Sequence[str]) -> str:
    """A few words around the first term, marked; the beginning when it stands only in the title."""
    at = words.lower().find(terms[0].lower())
    if at < 0:
        return words[:160].strip() + ("…" if len(words) > 160 else "")
    begin = max(0, at - 60)
    end = at + len(terms[0])
    return (
        f"{'…' if begin else ''}{words[begin:at]}{OPEN}{words[at:end]}{CLOSE}{words[end : end + 90]}"
        f"{'…' if end + 90 < len(words) else ''}"
    )


def _day(value: date | str) -> date:
    return date.fromisoformat(value) if isinstance(value, str) else value
