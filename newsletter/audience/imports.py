"""
Import subscribers: every row ends added, updated, unchanged, kept unmailed or rejected with its reason.

Rows pass in chunks, each with how far the import has come in one transaction: memory stays flat, and an
import that was stopped goes on where it stopped. What a row means is decided in ``merging``.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, cast

from sqlalchemy import CursorResult, Engine, delete, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col

from newsletter.audience.addresses import address_hash, normalise
from newsletter.audience.files import Record, Table, rows, scan, tables
from newsletter.audience.known import Draft, look, write
from newsletter.audience.merging import Checked, Counts, Origin, merge
from newsletter.audience.rejects import RejectedFile, rejected_path
from newsletter.audience.shapes import Rejected, Row, told
from newsletter.catalogue import Catalogue
from newsletter.errors import ImportFileError, StateError
from newsletter.settings import Keys
from newsletter.store.bulk import lock_subscribers, make_ready
from newsletter.store.session import reading, writing
from newsletter.store.tables import ImportRun

CHUNK = 5_000
"""Rows a transaction: a third of a second, for which nobody else writes to a SQLite file."""

_SHOWN = 100
_TRIES = 5

Progress = Callable[[int, int], None]
"""Told (rows done, lines in all, which may be more than rows)."""


@dataclass(frozen=True, slots=True)
class ImportReport:
    """
    rows = added + updated + unchanged + suppressed + rejected_n, of the whole file.

    *rejected* are the first hundred; all are in *rejected_files*, which is empty if there are none.
    *went_on_at*: the row at which an import that had been stopped went on; 0: it began at the beginning.
    """

    shape: str
    rows: int
    added: int
    updated: int
    unchanged: int
    suppressed: int
    rejected: tuple[Rejected, ...]
    rejected_n: int = 0
    rejected_files: tuple[Path, ...] = ()
    went_on_at: int = 0
    is_dry: bool = False


@dataclass(slots=True)
class _Run:
    """How far an import has come: what is kept in ``import_run``."""

    fingerprint: str
    file: str
    counts: Counts = field(default_factory=Counts)
    sizes: list[int] = field(default_factory=list)
    """bytes of the file of rejected rows of each CSV so far"""

    def save(self, session: Session, counts: Counts, *, at: datetime, is_finished: bool = False) -> None:
        """
        Note that we have come as far as *counts*, in the transaction that writes the rows.

        Raises:
            StateError: another process has gone on with the same import.
        """
        moved = session.execute(
            update(ImportRun)
            .where(col(ImportRun.fingerprint) == self.fingerprint, col(ImportRun.rows_done) == self.counts.rows)
            .values(
                rows_done=counts.rows, counts={**asdict(counts), "sizes": self.sizes}, is_finished=is_finished,
                changed_at=at,
            )
        )  # fmt: skip
        if cast("CursorResult[Any]", moved).rowcount != 1:
            raise StateError(
                "Another process is importing this very file. Let it finish; what this one imported is counted there."
            )


def import_subscribers(
    engine: Engine,
    path: Path,
    *,
    catalogue: Catalogue,
    keys: Keys,
    now: datetime,
    newsletters: tuple[str, ...] = (),
    consent: str = "",
    rejected_to: Path | None = None,
    dry_run: bool = False,
    restart: bool = False,
    progress: Progress | None = None,
    tell: Callable[[str], None] | None = None,
    chunk_rows: int = CHUNK,
) -> ImportReport:
    """
    Import *path*; *newsletters* is for shapes that name none, *consent* the words their readers agreed to.

    Without *consent*, a row of a foreign shape that carries no proof of it becomes ``pending``. Rejected
    rows go to *rejected_to* (default: the file's name and ``.rejected.csv``). The same file with the same
    options goes on where it was stopped, unless *restart*; *tell* is told so. With *dry_run* the
    report is what it would be, and only the file of rejected rows is written.

    Raises:
        ImportFileError: the file cannot be read at all, names no newsletters and none were given, or the
            rejected rows cannot be written. What was committed before stays, and is not done again.
        StateError: another process imports the same file.
    """
    options = Options(now, newsletters, consent, dry_run, chunk_rows)
    with _alone(path, tell), closing(_Import(engine, path, catalogue, keys, options, rejected_to)) as work:
        return work.run(restart=restart, progress=progress, tell=tell)


@dataclass(frozen=True, slots=True)
class Options:
    """How a file is imported."""

    now: datetime
    newsletters: tuple[str, ...]
    consent: str
    dry_run: bool
    chunk_rows: int


class _Import:
    def __init__(
        self,
        engine: Engine,
        path: Path,
        catalogue: Catalogue,
        keys: Keys,
        options: Options,
        rejected_to: Path | None,
    ) -> None:
        self.engine = engine
        self.path = path
        self.publication = catalogue.publication
        self.known = frozenset(newsletter.slug for newsletter in catalogue.newsletters)
        self.keys = keys
        self.options = options
        self.chosen = rejected_to or path.with_name(f"{path.name}.rejected.csv")
        self.draft = Draft() if options.dry_run else None
        self.shown: list[Rejected] = []

    def close(self) -> None:
        """Throw away what a dry run kept."""
        if self.draft is not None:
            self.draft.close()

    def run(
        self, *, restart: bool, progress: Progress | None, tell: Callable[[str], None] | None
    ) -> ImportReport:
        scanned = scan(self.path)
        if self.chosen.exists() and self.chosen.samefile(self.path):
            raise ImportFileError("The rejected rows cannot be written over the file that is imported.")
        options = [self.path.name, scanned.digest, list(self.options.newsletters), self.options.consent]
        fingerprint = hashlib.sha256(json.dumps(options).encode()).hexdigest()
        run = self._begin(fingerprint, restart=restart)
        went_on_at = run.counts.rows
        if went_on_at and tell:
            tell(f"Going on at row {went_on_at + 1}, where this import stopped (--restart begins anew).")
        shapes, files = [], []
        skip = went_on_at
        for number, table in enumerate(tables(self.path, is_damaged=scanned.is_damaged)):
            shapes.append(table.shape)
            if table.shape != "plain" and not self.options.newsletters:
                raise ImportFileError(
                    f"{table.name} is a {table.shape} export, which does not say which newsletters its readers get. "
                    "Name them with --newsletters SLUG|SLUG."
                )
            if number == len(run.sizes):
                run.sizes.append(0)
            rejects = RejectedFile(
                rejected_path(table, number, self.chosen), table.header, size=run.sizes[number]
            )
            if went_on_at:
                self.shown += rejects.first(_SHOWN)
            skip -= sum(1 for _ in islice(table.records, skip))
            try:
                for chunk in self._chunks(table):
                    self._take(chunk, table, rejects, run, number)
                    if progress:
                        progress(run.counts.rows, scanned.lines)
            finally:
                rejects.close()
            if rejects.is_there:
                files.append(rejects.path)
        if self.draft is None:
            with writing(self.engine) as session:
                run.save(session, run.counts, at=self.options.now, is_finished=True)
        counts = run.counts
        return ImportReport(
            shape=", ".join(dict.fromkeys(shapes)), rows=counts.rows, added=counts.added, updated=counts.updated,
            unchanged=counts.unchanged, suppressed=counts.suppressed,
            rejected=tuple(sorted(self.shown[:_SHOWN], key=lambda one: one.line)), rejected_n=counts.rejected,
            rejected_files=tuple(files), went_on_at=went_on_at, is_dry=self.options.dry_run,
        )  # fmt: skip

    def _begin(self, fingerprint: str, *, restart: bool) -> _Run:
        """Where to go on; a run that was finished, or never begun, begins."""
        with reading(self.engine) as session:
            known = session.get(ImportRun, fingerprint)
        if known is not None and not known.is_finished and not restart:
            counts = dict(known.counts)
            sizes = counts.pop("sizes", [])
            return _Run(fingerprint, known.file, Counts(**counts), sizes)
        run = _Run(fingerprint, self.path.name)
        if self.draft is None:
            with writing(self.engine) as session:
                session.execute(delete(ImportRun).where(col(ImportRun.fingerprint) == fingerprint))
                session.add(
                    ImportRun(
                        fingerprint=fingerprint, file=run.file, counts=asdict(run.counts), changed_at=self.options.now
                    )
                )  # fmt: skip
        return run

    def _chunks(self, table: Table) -> Iterator[list[tuple[Record, Row | Rejected]]]:
        made = rows(table, table.records, self.publication)
        while chunk := list(islice(made, self.options.chunk_rows)):
            yield chunk

    def _take(
        self,
        chunk: list[tuple[Record, Row | Rejected]],
        table: Table,
        rejects: RejectedFile,
        run: _Run,
        number: int,
    ) -> None:
        """One chunk, whole or not at all: rejected rows are written first, and count with the commit."""
        checked, rejected = self._check(chunk, foreign=table.shape != "plain")
        rejects.keep(rejected)
        self.shown += [one for _, one in rejected[: max(0, _SHOWN - len(self.shown))]]
        run.sizes[number] = rejects.size
        counted = run.counts.plus(Counts(rows=len(chunk), rejected=len(rejected)))
        origin = Origin(table.name, self.options.consent, table.shape != "plain", self.options.now)
        for attempt in range(_TRIES):
            try:
                run.counts = self._merge(checked, origin, run, counted)
                return
            except IntegrityError:
                # Somebody joined between our look and our insert (PostgreSQL): look again.
                if attempt == _TRIES - 1:
                    raise

    def _merge(self, checked: list[Checked], origin: Origin, run: _Run, counted: Counts) -> Counts:
        if self.draft is not None:
            with reading(self.engine) as session:
                people, suppressed = look(session.connection(), checked)
            self.draft.overlay(checked, people, suppressed)
            changes = merge(checked, people, suppressed, publication=self.publication, origin=origin)
            self.draft.keep(changes)
            return counted.plus(changes.counts)
        with writing(self.engine) as session:
            connection = session.connection()
            make_ready(connection)
            locked: set[int] = set()
            while True:
                people, suppressed = look(connection, checked)
                changes = merge(checked, people, suppressed, publication=self.publication, origin=origin)
                wanted = changes.ids()
                if wanted <= locked or connection.dialect.name != "postgresql":
                    break
                lock_subscribers(
                    connection, wanted
                )  # then look again: they may have changed before we had them
                locked |= wanted
            write(connection, changes, origin)
            done = counted.plus(changes.counts)
            run.save(session, done, at=self.options.now)
        return done

    def _check(
        self, chunk: Iterable[tuple[Record, Row | Rejected]], *, foreign: bool
    ) -> tuple[list[Checked], list[tuple[Record, Rejected]]]:
        """Rows whose address and newsletters can be used; the others are rejected with their reason."""
        checked: list[Checked] = []
        rejected: list[tuple[Record, Rejected]] = []
        suppression, given, consent = self.keys.suppression, self.options.newsletters, self.options.consent
        for record, row in chunk:
            if isinstance(row, Rejected):
                rejected.append((record, row))
                continue
            try:
                if not row.email:
                    raise ValueError("no address")
                email, key = normalise(row.email)
                wanted = given or row.newsletters
                unknown = [slug for slug in wanted if slug not in self.known and slug not in row.left]
                if unknown:  # one that is no more may have been left
                    raise ValueError(
                        f"no newsletter {told(unknown[0])}; there are {', '.join(sorted(self.known))}"
                    )
            except ValueError as error:
                rejected.append((record, Rejected(row.line, str(error))))
                continue
            proven = not foreign or consent or row.confirmed_at or row.consented_at
            status = "pending" if row.status == "active" and not proven else row.status
            hashed = address_hash(suppression, key)
            checked.append(Checked(row, email, key, hashed, tuple(dict.fromkeys(wanted)), status))
        return checked, rejected


@contextmanager
def _alone(path: Path, tell: Callable[[str], None] | None) -> Iterator[None]:
    """One process a file: a second one waits, and then finds everything unchanged."""
    if (
        path.exists() and not path.is_file() and not path.is_dir()
    ):  # a pipe would be waited for, and read once only
        raise ImportFileError(f"{path} is not a plain file. Save it as one and import that.")
    try:
        file = path.open("rb")
    except OSError as error:
        raise ImportFileError(f"{path} cannot be opened: {error.strerror}.") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if tell:
                tell("Another process is importing this file; waiting for it.")
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:  # a file system without locks: import_run still keeps two apart
            pass
        yield
