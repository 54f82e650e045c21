"""
What the preview shows, kept current: one thread makes what a change touches, and only that.

A saved template makes its newsletter's variants anew from the same snapshot; words, orders, feeds and
``newsletter.toml`` make the snapshot anew, too. Bytes are shown as soon as they are rendered, findings
a moment later. What cannot be rendered leaves the last good bytes in place, with the fault above them.
"""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from pathlib import Path

import structlog
from sqlalchemy import func
from sqlalchemy import select as columns
from sqlmodel import col
from watchfiles import watch

from newsletter.desk import Desk, Made
from newsletter.edition import Rendered, Snapshot
from newsletter.errors import NewsletterError, TemplateError
from newsletter.picking.picks import Picks
from newsletter.rendering.engine import content_hash
from newsletter.rendering.findings import Finding
from newsletter.rendering.proof import over_budget
from newsletter.store.session import reading
from newsletter.store.tables import EditionRow, EditorOrder, SourceState

log = structlog.get_logger()

POLL_SECONDS = 0.25
"""How often the database is asked whether another process has changed something."""
_QUIET_MS = 10  # a save is over when nothing was written for so long


@dataclass(frozen=True, slots=True)
class Fault:
    """Why an edition cannot be made as its files stand; *line* 0 when unknown."""

    message: str
    template: str = ""
    line: int = 0


@dataclass(frozen=True, slots=True)
class Shown:
    """
    One newsletter's edition as the preview shows it.

    *version* rises with every change of anything here. *renderings* are the last good bytes; *fault*
    says why they are not of now. *is_proofed*: the findings are those of these bytes.
    """

    newsletter: str
    day: date
    version: int = 0
    status: str = "none"
    reason: str = ""
    picks: Picks | None = None
    snapshot: Snapshot | None = None
    renderings: tuple[Rendered, ...] = ()
    findings: tuple[Finding, ...] = ()
    is_proofed: bool = False
    is_stored: bool = False
    fault: Fault | None = None
    touched_at: datetime | None = None

    @property
    def hash(self) -> str:
        """The content hash ``send`` will use; '' when nothing is rendered."""
        return content_hash(self.renderings) if self.renderings else ""

    def rendered(self, variant: str) -> Rendered | None:
        """The bytes of a variant."""
        return next((one for one in self.renderings if one.variant == variant), None)


@dataclass
class Live:
    """The editions of one desk, made by one thread; readers get frozen values."""

    desk: Desk
    now: Callable[[], datetime]
    day: date | None = None
    looked_at: str = ""
    shown: dict[str, Shown] = field(default_factory=dict)
    _work: queue.SimpleQueue[_Task | None] = field(default_factory=queue.SimpleQueue)
    _stop: threading.Event = field(default_factory=threading.Event)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _version: int = 0
    _threads: list[threading.Thread] = field(default_factory=list)
    _seen: dict[str, tuple[object, ...]] = field(default_factory=dict)
    _stamps: dict[str, bytes] = field(default_factory=dict)
    _unread: dict[str, Fault] = field(default_factory=dict)
    """What is wrong with rules as they are saved, by newsletter; until it is mended the last good ones count."""

    # --- for the pages --------------------------------------------------------------------------

    @property
    def version(self) -> int:
        """Of the newest change."""
        return self._version

    def wait(self, after: int, *, seconds: float) -> int:
        """Block until something newer than *after* is shown, or *seconds* are over; the newest version."""
        with self._changed:
            self._changed.wait_for(lambda: self._version > after or self._stop.is_set(), timeout=seconds)
            return self._version

    @property
    def is_stopped(self) -> bool:
        """Whether the preview is ending."""
        return self._stop.is_set()

    def day_of(self, slug: str) -> date:
        """The edition date that is shown."""
        return self.day or self.desk.edition_date(self.desk.catalogue[slug], self.now())

    def ask(self, slugs: Iterable[str] = ()) -> threading.Event:
        """Have *slugs* (none: all) made anew; the event is set once their bytes are there."""
        task = _Task(tuple(slugs), whole=True, done=(threading.Event(),))
        self._work.put(task)
        return task.done[0]

    # --- the threads ----------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to make, to watch files, and to look at the database."""
        self._seen = self._look()
        for folder in self._watched().folders:  # what is shown at first is made of these
            for path in folder.rglob("*"):
                self._is_new(path)
        self.ask()
        for target in (self._make_all, self._watch_files, self._watch_store):
            thread = threading.Thread(target=target, name=f"preview {target.__name__}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """End the threads."""
        self._stop.set()
        self._work.put(None)
        with self._changed:
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(timeout=5)

    def _make_all(self) -> None:
        while not self._stop.is_set():
            task = self._work.get()
            if task is None:
                return
            try:
                self._do(self._merged(task))
            except Exception as error:  # the outermost loop of a thread: the preview must live on
                log.error("preview.failed", error=type(error).__name__, message=str(error))

    def _merged(self, task: _Task) -> _Task:
        """*task* with everything that waits behind it: many saves at once are one make-up."""
        while not self._work.empty():
            waiting = self._work.get()
            if waiting is None:
                self._stop.set()
                break
            task = task.with_(waiting)
        return task

    def _do(self, task: _Task) -> None:
        mended = self._reload(task.slugs) if task.reload else set()
        slugs = {*task.slugs, *mended} if task.slugs else set()
        known = [newsletter.slug for newsletter in self.desk.catalogue.newsletters]
        for slug in set(self.shown) - set(known):
            del self.shown[slug]
        wanted = [slug for slug in known if not slugs or slug in slugs]
        wanted.sort(key=lambda slug: slug != self.looked_at)  # what an editor looks at comes first
        for source in task.sources:
            try:
                self.desk.collect([source], now=self.now())
            except NewsletterError as error:
                log.error("preview.source", source=source, message=str(error))
        for slug in wanted:
            self._render(slug, whole=task.whole)
        for event in task.done:
            event.set()
        for slug in wanted:
            self._proof(slug)

    def _reload(self, slugs: Sequence[str]) -> set[str]:
        """
        Read rules and publication again; what cannot be read is told where it counts, and changes nothing.

        Returns whom it may concern besides *slugs*: those whose fault is mended.
        """
        before = set(self._unread)
        try:
            self.desk.reload()
        except NewsletterError as error:
            fault = Fault(str(error), template=getattr(error, "file", ""))
            self._unread |= {slug: fault for slug in self.shown if not slugs or slug in slugs}
            return set()
        self._unread.clear()
        return before

    def _render(self, slug: str, *, whole: bool) -> None:
        newsletter, before = self.desk.catalogue[slug], self.shown.get(slug)
        day, now = self.day_of(slug), self.now()
        if before is None or before.day != day:
            before, whole = Shown(slug, day), True
        try:
            row = self.desk.find(newsletter, day)
            if row is not None and row.edition_date == day and (stored := self.desk.settled(row)):
                self._show(self._of(before, stored, row, is_stored=True))
                return
            picks, snapshot = before.picks, before.snapshot
            renderings: tuple[Rendered, ...] = ()
            whole = whole or snapshot is None or picks is None or before.is_stored
            if snapshot is not None and not whole:
                renderings = self.desk.renderer.render_all(snapshot)
                whole = bool(snapshot.gave_way) or any(map(over_budget, renderings))
            if whole:
                picks, snapshot, renderings = self.desk.draft(newsletter, day, now=now)
        except TemplateError as error:
            self._show(self._at_fault(before, Fault(str(error), error.template, error.line)))
        except NewsletterError as error:
            self._show(self._at_fault(before, Fault(str(error), template=getattr(error, "file", ""))))
        else:
            same = (renderings, snapshot, picks) == (before.renderings, before.snapshot, before.picks)
            self._show(
                replace(
                    before, picks=picks, snapshot=snapshot, renderings=renderings, is_stored=False, fault=None,
                    is_proofed=same and before.is_proofed, findings=before.findings if same else (),
                    status=row.status if row else "none", reason=row.reason if row else "",
                    touched_at=self.desk.orders_touched(newsletter, day),
                )
            )  # fmt: skip

    def _at_fault(self, before: Shown, fault: Fault) -> Shown:
        """The last good bytes with *fault* above them; orders given meanwhile were seen all the same."""
        newsletter = self.desk.catalogue[before.newsletter]
        return replace(before, fault=fault, touched_at=self.desk.orders_touched(newsletter, before.day))

    def _of(self, before: Shown, made: Made, row: EditionRow, *, is_stored: bool) -> Shown:
        return replace(
            before, picks=made.picks, snapshot=made.snapshot, renderings=made.renderings, findings=made.findings,
            is_proofed=True, is_stored=is_stored, fault=None, status=row.status, reason=row.reason,
            touched_at=self.desk.orders_touched(self.desk.catalogue[row.newsletter], row.edition_date),
        )  # fmt: skip

    def _proof(self, slug: str) -> None:
        one = self.shown.get(slug)
        if one is None or one.is_proofed or one.fault or one.snapshot is None or one.picks is None:
            return
        try:
            made = self.desk.proofed(
                self.desk.catalogue[slug], one.picks, one.snapshot, one.renderings, now=self.now()
            )
        except NewsletterError as error:
            self._show(replace(one, fault=Fault(str(error))))
            return
        self._show(replace(one, findings=made.findings, is_proofed=True))

    def _show(self, one: Shown) -> None:
        before = self.shown.get(one.newsletter)
        one = replace(one, fault=one.fault or self._unread.get(one.newsletter))
        if before is not None and replace(one, version=before.version) == before:
            return
        with self._changed:
            self._version += 1
            self.shown[one.newsletter] = replace(one, version=self._version)
            self._changed.notify_all()

    # --- what may change ------------------------------------------------------------------------

    def _watch_files(self) -> None:
        while not self._stop.is_set():
            watched = self._watched()
            is_first = True
            for changes in watch(
                *watched.folders, stop_event=self._stop, debounce=50, step=_QUIET_MS, rust_timeout=500,
                yield_on_timeout=True, raise_interrupt=False,
            ):  # fmt: skip
                paths = {Path(name) for _, name in changes}
                # What was written into a new folder before it was watched is told of by the folder alone.
                paths |= {inner for path in paths if path.is_dir() for inner in path.rglob("*")}
                if is_first:  # what was saved before the watch began
                    paths |= {path for folder in watched.folders for path in folder.rglob("*")}
                    is_first = False
                task = self._task(paths, watched)
                if task is not None:
                    self._work.put(task)
                if self._watched() != watched:
                    break  # other feeds or another words folder are named now

    def _watched(self) -> _Watched:
        publication = self.desk.catalogue.publication
        templates, words = self.desk.catalogue.root.resolve(), Path(publication.words).resolve()
        feeds = {
            Path(feed.url).resolve(): feed.url
            for feed in publication.feeds
            if "://" not in feed.url and Path(feed.url).exists()
        }
        folders = {templates, *(one.parent for one in feeds), *([words] if words.is_dir() else [])}
        return _Watched(templates, words, feeds, frozenset(folders))

    def _is_new(self, path: Path) -> bool:
        """Whether the bytes of a file differ from those last seen: editors write without changing."""
        try:
            stamp = hashlib.blake2b(path.read_bytes(), digest_size=16).digest() if path.is_file() else b""
        except OSError:
            stamp = b""
        if self._stamps.get(str(path), b"") == stamp:
            return False
        self._stamps[str(path)] = stamp
        return True

    def _task(self, paths: Iterable[Path], watched: _Watched) -> _Task | None:
        templates, words, feeds = watched.templates, watched.words, watched.feeds
        task: _Task | None = None
        for path in sorted(path for path in paths if self._is_new(path)):
            more: _Task | None = None
            if path in feeds:
                more = _Task((), whole=True, sources=(feeds[path],))
            elif path.is_relative_to(words):
                more = _Task((path.stem,), whole=True) if path.suffix == ".md" else None
            elif path.is_relative_to(templates):
                folder = path.relative_to(templates).parts[0]
                is_rule = path.suffix == ".toml"
                if path.suffix not in (".j2", ".toml") or folder in ("_notices", "_magazine"):
                    continue
                is_shared = folder in ("_shared", "publication.toml")
                more = _Task(() if is_shared else (folder,), whole=is_rule, reload=is_rule)
            if more is not None:
                task = more if task is None else task.with_(more)
        return task

    def _watch_store(self) -> None:
        while not self._stop.wait(POLL_SECONDS):
            try:
                seen = self._look()
            except Exception as error:  # the outermost loop of a thread; a busy database is asked again
                log.warning("preview.store", error=type(error).__name__)
                continue
            before, self._seen = self._seen, seen
            if seen.get("") != before.get(""):
                self.ask()
                continue
            changed = {slug for slug in seen.keys() | before.keys() if seen.get(slug) != before.get(slug)}
            changed |= {slug for slug, one in list(self.shown.items()) if one.day != self.day_of(slug)}
            if changed:
                self.ask(sorted(changed))

    def _look(self) -> dict[str, tuple[object, ...]]:
        """What other processes change: each newsletter's orders and editions; under '' what was collected."""
        with reading(self.desk.engine) as session:
            orders = session.execute(
                columns(
                    col(EditorOrder.newsletter), func.count(), func.count(col(EditorOrder.undone_at)),
                    func.max(col(EditorOrder.undone_at)),
                ).group_by(col(EditorOrder.newsletter))
            ).all()  # fmt: skip
            editions = session.execute(
                columns(
                    col(EditionRow.newsletter), col(EditionRow.id), col(EditionRow.status), col(EditionRow.content_hash)
                )
                .order_by(col(EditionRow.id).desc())
                .limit(40)
            ).all()  # fmt: skip
            sources = session.execute(columns(func.max(col(SourceState.last_success_at)))).one()
        found: dict[str, tuple[object, ...]] = {"": tuple(sources)}
        for row in (*orders, *editions):
            found[row[0]] = (*found.get(row[0], ()), *row[1:])
        return found


@dataclass(frozen=True, slots=True)
class _Watched:
    """Where files are looked at; *feeds*: a local feed's file → the name the publication gives it."""

    templates: Path
    words: Path
    feeds: dict[Path, str]
    folders: frozenset[Path]


@dataclass(frozen=True, slots=True)
class _Task:
    """What is to be made anew: *slugs* (none: all), *whole* or only their bytes, after *sources* were read."""

    slugs: tuple[str, ...]
    whole: bool
    reload: bool = False
    sources: tuple[str, ...] = ()
    done: tuple[threading.Event, ...] = ()

    def with_(self, other: _Task) -> _Task:
        slugs = () if not self.slugs or not other.slugs else tuple(dict.fromkeys(self.slugs + other.slugs))
        return _Task(
            slugs, self.whole or other.whole, self.reload or other.reload,
            tuple(dict.fromkeys(self.sources + other.sources)), self.done + other.done,
        )  # fmt: skip
