"""Subscriber files: scanned once, then read row by row, whatever their size."""

from __future__ import annotations

import codecs
import csv
import hashlib
import io
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
_BOM = codecs.BOM_UTF8
REJECTED_COLUMNS = ("line", "reason")
"""What a file of rejected rows has besides their own columns; such a file can be mended and imported again."""


@dataclass(frozen=True, slots=True)
class Scan:
    """What one pass over a file told: *digest* of its bytes, *lines* (about as many as rows), any NUL."""

    digest: str
    lines: int
    has_nul: bool


@dataclass(frozen=True, slots=True)
class Record:
    """One row of a CSV as it stands, and where; *fault* when it is none."""

    line: int
    cells: list[str]
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """One CSV: its name, shape and header (columns as written), and its rows, which can be read once."""

    name: str
    shape: str
    header: tuple[str, ...]
    records: Iterator[Record]


def scan(path: Path) -> Scan:
    """
    Read *path* once: it must be UTF-8 throughout, in lines; nothing is guessed.

    Raises:
        ImportFileError: it is not, or it cannot be opened.
    """
    with _sentences(path):
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
        lines, has_nul = 0, False
        for name, stream in _streams(path):
            with stream:
                more, nul = _check_text(stream, str(path) if name == path.name else f"{path}: {name}")
            lines, has_nul = lines + more, has_nul or nul
    return Scan(digest.hexdigest(), lines, has_nul)


def _check_text(stream: IO[bytes], name: str) -> tuple[int, bool]:
    decoder = codecs.getincrementaldecoder("utf-8")()
    lines, has_nul = 0, False
    while True:
        block = stream.read(_BLOCK)
        try:
            decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            line = lines + error.object[: error.start].count(b"\n") + 1
            raise ImportFileError(
                f"{name} is not UTF-8 (line {line}). Save it as UTF-8 and import it again."
            ) from error
        if not block:
            return lines, has_nul
        if len(block) == _BLOCK and b"\n" not in block and b"\r" not in block:
            raise ImportFileError(
                f"{name}: line {lines + 1} is longer than a megabyte; this is no list of subscribers."
            )
        lines += block.count(b"\n")
        has_nul = has_nul or b"\0" in block


def tables(path: Path, *, has_nul: bool = False) -> Iterator[Table]:
    """
    Yield the CSV, or each CSV of the ZIP that a service exports; read each before the next.

    *has_nul* as ``scan`` found it: then rows that hold one are faults.

    Raises:
        ImportFileError: it cannot be opened, or a header is none we know.
    """
    with _sentences(path):
        for name, stream in _streams(path):
            with io.TextIOWrapper(stream, encoding="utf-8-sig", newline="") as text:
                yield read_table(name, text, has_nul=has_nul)


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


def read_table(name: str, lines: Iterable[str], *, has_nul: bool = False) -> Table:
    """
    Tell the shape of a CSV by its header.

    Raises:
        ImportFileError: the header is none we know.
    """
    reader = csv.reader(lines, strict=True)
    try:
        header = tuple(column.strip() for column in next(reader, []))
    except csv.Error as error:
        raise ImportFileError(f"{name}, line 1: {error}.") from error
    if tuple(column.lower() for column in header[-2:]) == REJECTED_COLUMNS:
        header = header[:-2]
        extra = 2
    else:
        extra = 0
    columns = {column.lower() for column in header}
    shape = next((one.name for one in SHAPES if one.needs <= columns), "")
    if not shape:
        raise ImportFileError(
            f"{name}: the header is none we know. It has: {columns_told(header)}. Ours is email,name,plan,newsletters,"
            "language,country,timezone,status; exports of Mailchimp, Substack, Ghost and listmonk are known too."
        )
    return Table(name, shape, header, _records(reader, len(header), extra, has_nul))


class _Lines:
    """Ends rows by a newline, while the writer quotes what holds either half of CRLF (it looks at its own ending)."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def write(self, row: str) -> int:
        return self._out.write(f"{row[:-2]}\n")


def csv_writer(out: TextIO) -> Writer:
    """What writes rows that ``read_table`` reads as they were."""
    return csv.writer(_Lines(out), lineterminator="\r\n")


def _records(reader: Iterator[list[str]], width: int, extra: int, has_nul: bool) -> Iterator[Record]:
    """Rows that are not empty; *extra* columns of ours are left out."""
    counter: csv.reader = reader  # type: ignore[valid-type]  # for line_num
    while True:
        line = counter.line_num + 1  # type: ignore[attr-defined]
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Record(line, [], f"not readable CSV: {error}")
            continue
        if not any(cells) or not any(cell.strip() for cell in cells):
            continue
        fault = ""
        if extra and len(cells) == width + extra:
            del cells[width:]
        if len(cells) != width:
            fault = f"{len(cells)} columns where the header has {width}"
        elif has_nul and any("\0" in cell for cell in cells):
            fault = "a cell holds a NUL character"
        yield Record(line, cells, fault)


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
