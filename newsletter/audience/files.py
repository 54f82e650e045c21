"""Subscriber files: scanned once, then read row by row, whatever their size."""

from __future__ import annotations

import codecs
import csv
import hashlib
import io
import re
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, TextIO

from newsletter.audience.shapes import SHAPES, Frame, Rejected, Row, columns_told, make_row, unescaped
from newsletter.catalogue import Publication
from newsletter.errors import ImportFileError

if TYPE_CHECKING:
    from _csv import Writer

_BLOCK = 1 << 20
_UNDECODED = re.compile("[\x00\udc80-\udcff]")  # by surrogateescape, as ``tables`` reads
_OTHER = re.compile("[;\t|]")
REJECTED_COLUMNS = ("line", "reason", "row")
"""
What a file of rejected rows has besides their own columns; such a file can be mended and imported again.

*row* is the text of what is no row of this table, as it stood; its own columns are then empty.
"""


@dataclass(frozen=True, slots=True)
class Scan:
    """What one pass over a file told: *digest* of its bytes, *lines* (about as many as rows), any NUL or byte that is not UTF-8."""

    digest: str
    lines: int
    is_damaged: bool


@dataclass(frozen=True, slots=True)
class Record:
    """One row of a CSV, and where; *fault* when it is none: then *text* is what stood there."""

    line: int
    cells: list[str]
    fault: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """One CSV: its name, shape and header (columns as written), and its rows, which can be read once."""

    name: str
    shape: str
    header: tuple[str, ...]
    records: Iterator[Record]


def scan(path: Path) -> Scan:
    """
    Read *path* once: it must be in lines. Nothing is guessed: what is not UTF-8 costs its rows.

    Raises:
        ImportFileError: it is not, or it cannot be opened.
    """
    with _sentences(path):
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
        lines, is_damaged = 0, False
        for name, stream in _streams(path):
            with stream:
                more, damage = _check_text(stream, str(path) if name == path.name else f"{path}: {name}")
            lines, is_damaged = lines + more, is_damaged or damage
    return Scan(digest.hexdigest(), lines, is_damaged)


def _check_text(stream: IO[bytes], name: str) -> tuple[int, bool]:
    decoder = codecs.getincrementaldecoder("utf-8")()
    lines, is_damaged = 0, False
    while True:
        block = stream.read(_BLOCK)
        if not is_damaged:
            try:
                decoder.decode(block, final=not block)
            except UnicodeDecodeError:
                is_damaged = True
        if not block:
            return lines, is_damaged
        if len(block) == _BLOCK and b"\n" not in block and b"\r" not in block:
            raise ImportFileError(
                f"{name}: line {lines + 1} is longer than a megabyte; this is no list of subscribers."
            )
        lines += block.count(b"\n")
        is_damaged = is_damaged or b"\0" in block


def tables(path: Path, *, is_damaged: bool = False) -> Iterator[Table]:
    """
    Yield the CSV, or each CSV of the ZIP that a service exports; read each before the next.

    *is_damaged* as ``scan`` found it: then rows that hold such bytes are faults.

    Raises:
        ImportFileError: it cannot be opened, or a header is none we know.
    """
    with _sentences(path):
        for name, stream in _streams(path):
            with io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
                yield read_table(name, text, is_damaged=is_damaged)


def _streams(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    if not zipfile.is_zipfile(path):
        yield path.name, path.open("rb")
        return
    with zipfile.ZipFile(path) as archive:
        names = [
            name
            for name in sorted(archive.namelist())
            if name.lower().endswith(".csv") and not name.lower().endswith("posts.csv")
        ]
        if not names:
            raise ImportFileError(f"{path} holds no CSV of subscribers.")
        for name in names:
            yield name, archive.open(name)


@contextmanager
def _sentences(path: Path) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, EOFError, RuntimeError) as error:  # damaged, cut off, or locked by a password
        raise ImportFileError(f"{path} cannot be unpacked: {error}.") from error
    except OSError as error:
        raise ImportFileError(f"{path} cannot be opened: {error.strerror}.") from error


def read_table(name: str, lines: Iterable[str], *, is_damaged: bool = False) -> Table:
    """
    Tell the shape of a CSV by its header.

    Raises:
        ImportFileError: the header is none we know.
    """
    source = _Source(lines)
    reader = csv.reader(source, strict=True)
    try:
        header = tuple(column.strip() for column in next(reader, []))
    except csv.Error as error:
        raise ImportFileError(f"{name}, line 1: {error}.") from error
    lowered = tuple(column.lower() for column in header)
    # Files of before had no column "row".
    extra = next((n for n in (3, 2) if lowered[-n:] == REJECTED_COLUMNS[:n]), 0)
    header = header[: len(header) - extra]
    columns = {column.lower() for column in header}
    shape = next((one.name for one in SHAPES if one.needs <= columns), "")
    if not shape:
        raise ImportFileError(
            f"{name}: the header is none we know. {_header_told(header)} Ours is email,name,plan,newsletters,"
            "language,country,timezone,status; exports of Mailchimp, Substack, Ghost and listmonk are known too."
        )
    return Table(name, shape, header, _records(source, reader, len(header), extra, is_damaged))


def _header_told(header: tuple[str, ...]) -> str:
    text = ",".join(header)
    if _UNDECODED.search(text):
        return "It is not UTF-8: save it as CSV in UTF-8."
    told = f"It has: {columns_told(header)}."
    return (
        f"{told} Its columns must be parted by commas." if len(header) == 1 and _OTHER.search(text) else told
    )


class _Source:
    """
    The lines of a file, and which of them the row at hand took.

    A quote that is never closed would swallow the rows below it: what a broken row took beyond its first
    line is read again.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = iter(lines)
        self._again: list[str] = []
        self._taken: list[str] = []
        self.line = 1

    def __iter__(self) -> _Source:
        return self

    def __next__(self) -> str:
        line = self._again.pop() if self._again else next(self._lines)
        self._taken.append(line)
        return line

    def begin(self) -> int:
        """Begin a row; return the number of its first line."""
        self.line += len(self._taken)
        self._taken.clear()
        return self.line

    def broken(self) -> str:
        """The row at hand is none: its first line, without the end."""
        self._again += reversed(self._taken[1:])
        del self._taken[1:]
        return self._taken[0].rstrip("\r\n") if self._taken else ""


class _Lines:
    """Ends rows by a newline, while the writer quotes what holds either half of CRLF (it looks at its own ending)."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def write(self, row: str) -> int:
        return self._out.write(f"{row[:-2]}\n")


def csv_writer(out: TextIO) -> Writer:
    """What writes rows that ``read_table`` reads as they were."""
    return csv.writer(_Lines(out), lineterminator="\r\n")


def _records(
    source: _Source, reader: Iterator[list[str]], width: int, extra: int, is_damaged: bool
) -> Iterator[Record]:
    """Rows that are not empty; *extra* columns of ours are left out."""
    while True:
        line = source.begin()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Record(line, [], f"not readable CSV: {error}", source.broken())
            continue
        if not any(cells) or not any(cell.strip() for cell in cells):
            continue
        if extra and len(cells) == width + extra:
            text = unescaped(cells[-1]) if extra == len(REJECTED_COLUMNS) else ""
            del cells[width:]
            if text and not any(cells):
                yield Record(line, [], "not mended yet: its text stands in the column row", text)
                continue
        fault = ""
        if len(cells) != width:
            fault = f"{len(cells)} columns where the header has {width}"
        elif is_damaged:
            fault = _damage(cells)
        if fault:
            yield Record(line, [], fault, source.broken())
        else:
            yield Record(line, cells)


def _damage(cells: Iterable[str]) -> str:
    """What no cell may hold; bytes that are not UTF-8 were read as lone surrogates (PEP 383)."""
    for cell in cells:
        if "\0" in cell:
            return "a cell holds a NUL character"
        if any("\udc80" <= char <= "\udcff" for char in cell):
            return "a cell is not UTF-8; save the file as UTF-8, or mend the row"
    return ""


def rows(
    table: Table, records: Iterable[Record], publication: Publication
) -> Iterator[tuple[Record, Row | Rejected]]:
    """What each record says, or why it cannot be used."""
    frame = Frame.of(publication, file=table.name)
    header = [column.lower() for column in table.header]
    make = make_row(table.shape)
    for record in records:
        if record.fault:
            yield record, Rejected(record.line, record.fault)
            continue
        try:
            values = {name: unescaped(cell.strip()) for name, cell in zip(header, record.cells, strict=True)}
            yield record, make(record.line, values, frame)
        except ValueError as error:
            yield record, Rejected(record.line, str(error))
