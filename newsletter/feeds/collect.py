"""Collect: many sources into stored articles; a bad one is one sentence, and the run goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

from sqlalchemy import Engine, bindparam, insert, update
from sqlalchemy import select as columns
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from newsletter.articles import Article, Flag, Rights
from newsletter.catalogue import Catalogue, Source
from newsletter.errors import SourceError
from newsletter.feeds.fetch import Fetched, Fetcher
from newsletter.feeds.items import Feed
from newsletter.feeds.kinds import may_be_feed, read_document
from newsletter.feeds.normalise import Context, Refusal, to_article
from newsletter.feeds.stored import to_row
from newsletter.settings import Settings
from newsletter.store.session import reading, writing
from newsletter.store.tables import ArticleRow, SourceState

_AT_ONCE = 8
_CHUNK = 500
_MAX_FILE_BYTES = 20 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class SourceReport:
    """What became of one source: entries = new + updated + same + refused."""

    source: str
    location: str
    kind: str = ""
    entries: int = 0
    new: int = 0
    updated: int = 0
    same: int = 0
    refused: int = 0
    refusals: tuple[str, ...] = field(default=())
    error: str = ""
    skipped: bool = False


@dataclass(frozen=True, slots=True)
class _Target:
    source: Source
    location: str
    path: Path | None
    skip: str = ""


def collect(
    engine: Engine,
    catalogue: Catalogue,
    targets: Sequence[str] | None,
    *,
    now: datetime,
    settings: Settings,
    progress: Callable[[str], None] | None = None,
    base: Path = Path(),
) -> tuple[SourceReport, ...]:
    """
    Read *targets* (URL, file or folder; None: the publication's feeds) into articles.

    A target that is a declared feed's address or file takes what was declared of it; any other is an
    excerpt source. Order of writing is the order given, whatever the network does.
    """
    declared = catalogue.publication.feeds
    wanted = [feed.url for feed in declared] if targets is None else list(targets)
    plan = list(_plan(wanted, declared, base))
    reports: list[SourceReport] = []
    with (
        Fetcher(allow_private=settings.allow_private_sources) as fetcher,
        ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="fetch") as pool,
    ):
        states = _states(engine, [target.source.id for target in plan])
        coming = {
            index: pool.submit(_fetch, fetcher, target.location, states.get(target.source.id))
            for index, target in enumerate(plan)
            if target.path is None and not target.skip
        }
        for index, target in enumerate(plan):
            if progress:
                progress(target.source.name or target.source.id)
            if target.skip:
                reports.append(
                    SourceReport(target.source.id, target.location, error=target.skip, skipped=True)
                )
                continue
            try:
                fetched = coming[index].result() if index in coming else _open(target)
                feed = None if fetched.unchanged else _parse(fetched, target)
            except SourceError as error:
                _note_failure(engine, target, str(error), now=now)
                reports.append(SourceReport(target.source.id, target.location, error=str(error)))
                continue
            try:
                report = _store(engine, catalogue, target, fetched, feed, now=now)
            except IntegrityError:  # another process collects the same: the second look sees its rows
                report = _store(engine, catalogue, target, fetched, feed, now=now)
            reports.append(report)
    return tuple(reports)


def _plan(wanted: Sequence[str], declared: tuple[Source, ...], base: Path) -> Iterator[_Target]:
    by_url = {feed.url: feed for feed in declared}
    by_path = {(base / feed.url).resolve(): feed for feed in declared if "://" not in feed.url}
    taken = {feed.id for feed in declared}
    for target in wanted:
        if "://" in target:
            source = by_url.get(target) or _ad_hoc(target, urlsplit(target).hostname or "source", taken)
            yield _Target(source, target, None)
            continue
        path = base / target
        files = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
        for file in files:
            known = by_path.get(file.resolve())
            stem = file.relative_to(path).as_posix() if path.is_dir() else file.name
            if path.is_dir() and not may_be_feed(file):
                yield _Target(Source(id="skipped", url=str(file)), str(file), file, "not a feed by its name")
                continue
            source = known or _ad_hoc(str(file), stem.partition(".")[0], taken)
            yield _Target(source, str(file), file)


def _ad_hoc(location: str, name: str, taken: set[str]) -> Source:
    """A source nobody declared: excerpt rights, an id from its name, unique in this run."""
    letters = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in name.lower())
    stem = "-".join(part for part in letters.split("-") if part)[:34] or "source"
    identity, number = stem, 1
    while identity in taken:
        number += 1
        identity = f"{stem}-{number}"
    taken.add(identity)
    return Source(id=identity, url=location)


def _states(engine: Engine, sources: Sequence[str]) -> dict[str, SourceState]:
    with reading(engine) as session:
        rows = session.exec(select(SourceState).where(col(SourceState.source).in_(sources))).all()
    return {row.source: row for row in rows}


def _fetch(fetcher: Fetcher, location: str, state: SourceState | None) -> Fetched:
    same_place = state is not None and state.location == location
    return fetcher.fetch(
        location,
        etag=state.etag if state and same_place else "",
        last_modified=state.last_modified if state and same_place else "",
    )


def _open(target: _Target) -> Fetched:
    path = target.path or Path(target.location)
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise SourceError(f"{path} is larger than {_MAX_FILE_BYTES // 1_048_576} MB.", source=str(path))
        return Fetched(data=path.read_bytes())
    except OSError as error:
        raise SourceError(f"{path} cannot be opened: {error.strerror}.", source=str(path)) from error


def _parse(fetched: Fetched, target: _Target) -> Feed:
    return read_document(fetched.data, source=target.location, content_type=fetched.content_type)


def _note_failure(engine: Engine, target: _Target, error: str, *, now: datetime) -> None:
    with writing(engine) as session:
        state = session.get(SourceState, target.source.id) or SourceState(
            source=target.source.id, location=target.location, first_fetched_at=now
        )
        state.failures += 1
        state.last_error = error
        session.add(state)


def _store(
    engine: Engine,
    catalogue: Catalogue,
    target: _Target,
    fetched: Fetched,
    feed: Feed | None,
    *,
    now: datetime,
) -> SourceReport:
    source = target.source
    with writing(engine) as session:
        state = session.get(SourceState, source.id)
        first_fetch = state is None or state.last_success_at is None
        if state is None:
            state = SourceState(source=source.id, first_fetched_at=now)
        state.location, state.last_success_at, state.failures, state.last_error = target.location, now, 0, ""
        state.etag, state.last_modified = fetched.etag, fetched.last_modified
        if feed is None:
            session.add(state)
            return SourceReport(source.id, target.location, kind=state.kind)
        state.kind, state.last_error = feed.kind, feed.damage
        session.add(state)
        context = Context(source, catalogue.publication, feed, now, first_fetch)
        refusals: list[str] = []
        articles: dict[str, Article] = {}
        repeated = 0
        for number, item in enumerate(feed.items, start=1):
            try:
                article = to_article(item, context)
            except Refusal as refusal:
                refusals.append(f"entry {number}: {refusal}")
                continue
            if article.url in articles:
                repeated += 1
                continue
            articles[article.url] = article
        new, updated, same = _upsert(session, list(articles.values()), now=now)
        return SourceReport(
            source=source.id, location=target.location, kind=feed.kind, entries=len(feed.items), new=new,
            updated=updated, same=same + repeated, refused=len(refusals), refusals=tuple(refusals), error=feed.damage,
        )  # fmt: skip


def _upsert(session: Session, articles: list[Article], *, now: datetime) -> tuple[int, int, int]:
    """Insert what is new, update what changed; return (new, updated, same)."""
    stored: dict[str, tuple[int, str, str, str, datetime, list[str], str]] = {}
    for start in range(0, len(articles), _CHUNK):
        urls = [article.url for article in articles[start : start + _CHUNK]]
        rows = session.execute(
            columns(
                col(ArticleRow.url),
                col(ArticleRow.id),
                col(ArticleRow.fingerprint),
                col(ArticleRow.source),
                col(ArticleRow.rights),
                col(ArticleRow.published_at),
                col(ArticleRow.flags),
                col(ArticleRow.source_name),
            ).where(col(ArticleRow.url).in_(urls))
        )
        stored.update({row[0]: tuple(row[1:]) for row in rows})
    inserts: list[dict[str, object]] = []
    updates: list[dict[str, object]] = []
    seen: list[int] = []
    for article in articles:
        known = stored.get(article.url)
        if known is None:
            inserts.append(to_row(article, seen_at=now))
            continue
        row_id, fingerprint, owner, rights, published_at, flags, owner_name = known
        seen.append(row_id)
        same_publisher = owner == article.source or owner_name == article.source_name
        better = rights == Rights.EXCERPT and article.rights is not Rights.EXCERPT
        worse = rights != Rights.EXCERPT and article.rights is Rights.EXCERPT
        if worse or not (same_publisher or better):
            continue  # another publisher told it first, and ours is no better: theirs stays
        if Flag.UNDATED in article.flags:
            kept = tuple(
                Flag(flag) for flag in flags if flag in (Flag.UNDATED, Flag.FIRST_FETCH, Flag.FUTURE)
            )
            others = tuple(flag for flag in article.flags if flag not in (Flag.UNDATED, Flag.FIRST_FETCH))
            article = replace(article, published_at=published_at, flags=(*others, *kept))
        row = to_row(article, seen_at=now)
        if row["fingerprint"] != fingerprint:
            del row["first_seen_at"]
            updates.append({**row, "row_id": row_id})
    if inserts:
        session.execute(insert(ArticleRow), inserts)
    if updates:
        # Its story is the grouping's to change, which no longer looks at what is some days old.
        names = [name for name in updates[0] if name not in ("row_id", "url", "story")]
        statement = (
            update(ArticleRow.__table__)  # type: ignore[attr-defined]
            .where(ArticleRow.__table__.c.id == bindparam("row_id"))  # type: ignore[attr-defined]
            .values({name: bindparam(name) for name in names})
        )
        session.connection().execute(
            statement, [{name: row[name] for name in ("row_id", *names)} for row in updates]
        )
    for start in range(0, len(seen), _CHUNK):
        session.execute(
            update(ArticleRow)
            .where(col(ArticleRow.id).in_(seen[start : start + _CHUNK]))
            .values(last_seen_at=now),
            execution_options={"synchronize_session": False},
        )
    return len(inserts), len(updates), len(articles) - len(inserts) - len(updates)
