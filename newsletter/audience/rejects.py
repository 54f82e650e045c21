"""The file of rejected rows: their own columns, line and reason; made to be mended and imported again."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path

from newsletter.audience.files import REJECTED_COLUMNS, Record, Table, csv_writer
from newsletter.audience.shapes import Rejected, escaped, unescaped
from newsletter.errors import ImportFileError


class RejectedFile:
    """
    Grows by what ``keep`` is given; is not there before the first row. Only its owner may read it.

    *size* is how much of it counts: what a stopped import wrote beyond that is written again.
    """

    def __init__(self, path: Path, header: Sequence[str], *, size: int = 0) -> None:
        self.path = path
        self.size = size
        self._header = header
        self._file: io.FileIO | None = None

    @property
    def is_there(self) -> bool:
        """Whether rows were rejected."""
        return self.size > 0

    def keep(self, rows: Sequence[tuple[Record, Rejected]]) -> None:
        """
        Write rows, and do not return before the system has them.

        Raises:
            ImportFileError: they cannot be written; says where, and what to do.
        """
        if not rows:
            return
        try:
            if self._file is None:
                self._file = self._open()
            data = self._written(rows)
            view = memoryview(data)
            while view:
                view = view[self._file.write(view) or 0 :]
        except OSError as error:
            raise ImportFileError(
                f"Rejected rows cannot be written to {self.path}: {error.strerror}. Name another file with "
                "--rejected, or make room, and give the same command again: it goes on where it stopped."
            ) from error
        self.size += len(data)

    def first(self, number: int) -> list[Rejected]:
        """The first rows of what counts, as an import that was stopped left them."""
        if not self.size:
            return []
        try:
            if self._file is None:
                self._file = self._open()  # which cuts off what does not count
            with self.path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
                reader = csv.reader(file)
                width = len(next(reader, [])) - len(REJECTED_COLUMNS)
                return [
                    Rejected(int(row[width]), row[width + 1])
                    for row, _ in zip(reader, range(number), strict=False)
                ]
        except (OSError, ValueError, IndexError, csv.Error):
            return []

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _written(self, rows: Sequence[tuple[Record, Rejected]]) -> bytes:
        text = io.StringIO()
        writer = csv_writer(text)
        if not self.size:
            writer.writerow([*map(escaped, self._header), *REJECTED_COLUMNS])
        width = len(self._header)
        for record, rejected in rows:
            own = [escaped(unescaped(cell.strip())) for cell in record.cells] or [""] * width
            writer.writerow([*own, str(rejected.line), rejected.reason, escaped(record.text)])
        return text.getvalue().encode("utf-8", "surrogateescape")  # bytes that were none stay as they were

    def _open(self) -> io.FileIO:
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        file = io.FileIO(descriptor, "w")
        there = os.fstat(descriptor).st_size
        if there < self.size:  # somebody took it away meanwhile: what follows goes into a new one
            self.size = 0
        if there > self.size:
            os.ftruncate(descriptor, self.size)
        if self.path.is_file():
            os.fchmod(descriptor, 0o600)  # it may have been there with other rights
        os.lseek(descriptor, self.size, os.SEEK_SET)
        return file


def rejected_path(table: Table, number: int, chosen: Path) -> Path:
    """
    Where the rejected rows of a CSV go: *chosen*, or beside it for the second CSV of an archive.

    Mailchimp's keep the name of their CSV: it says whether its readers left, and when the mended rows are
    imported it must say so again.
    """
    if table.shape == "mailchimp":
        return chosen.with_name(f"{Path(table.name).name}.rejected.csv")
    return chosen if number == 0 else chosen.with_name(f"{chosen.stem}.{number + 1}{chosen.suffix}")
