"""What commands print: tables for people on stdout, one JSON document for programs, progress on stderr."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import date
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from newsletter.times import iso

if TYPE_CHECKING:
    from newsletter.articles import Article
    from newsletter.audience.imports import ImportReport
    from newsletter.cli.doctor import Check
    from newsletter.desk import Account, Desk, Tell
    from newsletter.feeds.collect import SourceReport
    from newsletter.outbox.accounts import Balance, Verdict
    from newsletter.rendering.proof import Finding
    from newsletter.store.copying import Copied
    from newsletter.store.tables import EditionRow

out = Console(highlight=False, soft_wrap=False)
err = Console(stderr=True, highlight=False)

_STATUS_STYLE = {
    "submitted": "green", "approved": "green", "submitting": "cyan", "held": "yellow", "skipped": "yellow",
    "paused": "yellow", "draft": "yellow", "spiked": "red", "missed": "red", "not due": "dim",
}  # fmt: skip
_NARROW = {"newsletter", "status", "date", "hash", "variant", "state", "kind", "published", "lang"}
_SEVERITY_STYLE = {"error": "bold red", "warning": "yellow", "note": "dim", "ok": "green"}


def print_json(document: Any) -> None:
    """One JSON document on stdout."""
    json.dump(document, sys.stdout, ensure_ascii=False, indent=2)
    sys.stdout.write("\n")


@contextmanager
def telling() -> Iterator[Tell]:
    """Yield a progress callback: live bars on a terminal, plain lines elsewhere; always on stderr."""
    if not err.is_terminal:
        yield _tell_plainly()
        return
    columns = (
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(), _Speed(),
        TextColumn("[yellow]{task.fields[doubt]}"), TimeRemainingColumn(compact=True, elapsed_when_finished=True),
    )  # fmt: skip
    with Progress(*columns, console=err, transient=True) as progress:
        tasks: dict[str, TaskID] = {}
        doubts: Counter[str] = Counter()

        def tell(step: str, what: str, done: int, total: int) -> None:
            key = what if step in ("send", "uncertain") else "now"
            words = {"collect": f"Reading {what}", "run": f"Making {what}"}.get(step, f"Sending {what}")
            if key not in tasks:
                tasks[key] = progress.add_task(words, total=total or None, doubt="", is_sending=key != "now")
            if step == "uncertain":
                doubts[what] += done
                progress.update(tasks[key], doubt=f"{doubts[what]:,} uncertain")
            else:
                progress.update(tasks[key], description=words, completed=done, total=total or None)

        yield tell


@contextmanager
def counting() -> Iterator[Callable[[str, int, int], None]]:
    """Yield a progress callback (what, done, total) with one bar on a terminal, silent elsewhere."""
    with Progress(console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task("", total=None)

        def count(what: str, done: int, total: int) -> None:
            progress.update(task, description=what, completed=done, total=total)

        yield count


class _Speed(ProgressColumn):
    """Readers a second, of what is being sent."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        if not task.fields["is_sending"] or not speed:
            return Text("")
        return Text(f"{speed:,.0f} readers/s", style="cyan")


_EVERY_SECONDS = 5.0


def _tell_plainly() -> Tell:
    """A line when something begins or ends, and every few seconds in between."""
    began: dict[str, tuple[float, int]] = {}
    last: dict[str, float] = {}

    def tell(step: str, what: str, done: int, total: int) -> None:
        if step == "run":
            err.print(f"make {what} ({done} of {total})", markup=False)
        elif step == "uncertain":
            err.print(f"send {what}: a batch of {done} readers is uncertain", markup=False)
        elif step == "send":
            at = time.monotonic()
            start, before = began.setdefault(what, (at, done))
            if (
                done < total
                and at - last.get(what, at - (_EVERY_SECONDS if done > before else 0)) < _EVERY_SECONDS
            ):
                return
            last[what] = at
            speed = (done - before) / (at - start) if at > start else 0.0
            left = f", {(total - done) / speed:,.0f} s left" if speed and done < total else ""
            pace = f" ({speed:,.0f} readers/s{left})" if speed else ""
            err.print(f"send {what}: {done:,} of {total:,} readers{pace}", markup=False)

    return tell


def a_table(*columns: str, numbers: Sequence[str] = ()) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for column in columns:
        if column in numbers:
            table.add_column(column, justify="right", no_wrap=True)
        else:
            table.add_column(column, overflow="fold", no_wrap=column in _NARROW)
    return table


def _styled(word: str, styles: dict[str, str]) -> Text:
    return Text(word, style=styles.get(word, ""))


def accounts(rows: Sequence[Account], *, as_json: bool = False) -> None:
    """``run``, ``send``, ``status``."""
    if as_json:
        print_json({"editions": [{**asdict(row), "date": row.date.isoformat()} for row in rows]})
        return
    if not rows:
        out.print("There is no edition yet. Make one with: newsletter run")
        return
    days = {row.date for row in rows}
    if len(days) == 1:
        out.print(Text(f"{rows[0].date:%A, %d %B %Y}", style="bold"))
    counted = [
        name
        for name in ("pending", "skipped", "failed", "uncertain")
        if any(getattr(row, name) for row in rows)
    ]
    numbers = ("audience", "submitted", *counted)
    table = a_table(
        "newsletter", *(() if len(days) == 1 else ("date",)), "status", *numbers, "hash", numbers=numbers
    )
    for row in rows:
        table.add_row(
            row.newsletter,
            *(() if len(days) == 1 else (row.date.isoformat(),)),
            _styled(row.status, _STATUS_STYLE),
            *(
                Text(
                    str(getattr(row, name)), style="bold red" if name == "uncertain" and row.uncertain else ""
                )
                for name in numbers
            ),
            row.hash[:8],
        )
    out.print(table)
    for row in rows:
        if row.reason:
            out.print(Text.assemble((f"{row.newsletter}: ", "bold"), row.reason))


def batches(desk: Desk, slug: str, rows: Sequence[Account]) -> None:
    """The batches of one edition, for ``status SLUG``."""
    from sqlmodel import col, select

    from newsletter.store.session import reading
    from newsletter.store.tables import Batch

    edition = desk.find(desk.catalogue[slug], rows[0].date) if rows else None
    if edition is None:
        return
    with reading(desk.engine) as session:
        found = session.exec(
            select(Batch).where(Batch.edition_id == edition.id).order_by(col(Batch.seq))
        ).all()
    table = a_table(
        "batch", "variant", "state", "readers", "attempt", "note", numbers=("batch", "readers", "attempt")
    )
    for batch in found:
        goes = batch.n - batch.skipped_n - batch.failed_n - batch.moved_n
        table.add_row(
            str(batch.seq), batch.variant, _styled(batch.state, {**_STATUS_STYLE, "uncertain": "bold red"}), str(goes),
            str(batch.attempt), batch.error,
        )  # fmt: skip
    if found:
        out.print()
        out.print(table)


def sources(reports: Sequence[SourceReport], *, as_json: bool = False, summary: bool = False) -> None:
    """``collect``; *summary* prints one line and what went wrong."""
    read = [report for report in reports if not report.skipped]
    if as_json:
        names = ("source", "kind", "entries", "new", "updated", "same", "refused", "error")
        document = {
            "sources": [
                {**{name: getattr(report, name) for name in names}, "refusals": list(report.refusals)}
                for report in read
            ],
            "skipped": [
                {"source": report.location, "reason": report.error} for report in reports if report.skipped
            ],
        }
        print_json(document)
        return
    numbers = ("entries", "new", "updated", "same", "refused")
    if summary:
        totals = ", ".join(f"{sum(getattr(report, name) for report in read)} {name}" for name in numbers)
        err.print(f"{len(read)} sources: {totals}", markup=False)
    else:
        table = a_table("source", "kind", *numbers, numbers=numbers)
        for report in read:
            table.add_row(
                report.source, report.kind, *(str(getattr(report, name) or "–") for name in numbers)
            )
        out.print(table)
    console = err if summary else out
    for report in reports:
        if report.skipped:
            console.print(f"Skipped {report.location}: {report.error}", markup=False, style="dim")
        elif report.error:
            console.print(f"{report.source}: {report.error}", markup=False, style="yellow")
        if not summary:
            for refusal in report.refusals:
                console.print(f"{report.source}: {refusal}", markup=False, style="yellow")


def articles(rows: Sequence[Article], *, as_json: bool) -> None:
    """``articles``."""
    if as_json:
        document = [
            {
                "url": row.url, "source": row.source, "headline": row.headline, "language": row.language,
                "countries": list(row.countries), "region": row.region, "topics": list(row.topics), "kind": row.kind,
                "published_at": iso(row.published_at), "paywalled": row.paywalled, "story": row.story or row.url,
                "rights": row.rights, "flags": list(row.flags),
            }
            for row in rows
        ]  # fmt: skip
        print_json({"articles": document})
        return
    table = a_table("published", "source", "lang", "headline", "topics", "where")
    for row in sorted(rows, key=lambda one: (one.published_at, one.url), reverse=True):
        table.add_row(
            f"{row.published_at:%m-%d %H:%M}", row.source, row.language, row.headline, ", ".join(row.topics),
            row.country or row.region,
        )  # fmt: skip
    out.print(table)
    out.print(f"{len(rows)} articles", markup=False)


def findings(rows: Sequence[Finding], *, as_json: bool) -> None:
    """``proof``."""
    if as_json:
        print_json({"findings": [row.as_json() for row in rows]})
        return
    for row in rows:
        where = " ".join(part for part in (row.newsletter, row.variant, row.part, row.where) if part)
        out.print(
            Text.assemble(
                (f"{row.severity:8}", _SEVERITY_STYLE.get(row.severity, "")), f"{row.code}  {where}"
            )
        )
        out.print(f"        {row.message}", markup=False, style="dim")
    kinds = ", ".join(
        f"{sum(row.severity == kind for row in rows)} {kind}s" for kind in ("error", "warning", "note")
    )
    out.print(kinds, markup=False)


def verdict(told: Verdict, slug: str, day: date | None, *, as_json: bool) -> None:
    """``why``."""
    if as_json:
        document = {
            "newsletter": slug, "date": day.isoformat() if day else None, "verdict": told.verdict,
            "reason": told.reason, "batch": told.batch, "at": iso(told.at), "events": list(told.events),
        }  # fmt: skip
        print_json(document)
        return
    when = f" ({told.at:%Y-%m-%d %H:%M} UTC)" if told.at else ""
    batch = f", batch {told.batch}" if told.batch else ""
    out.print(f"{told.verdict}{batch}{when}: {told.reason}", markup=False)
    for event in told.events:
        out.print(f"  {event['at']}  {event['kind']}", markup=False)


def balance(told: Balance, slug: str, edition: EditionRow | None, day: date, *, as_json: bool) -> None:
    """``audit``."""
    if as_json:
        document = {
            "newsletter": slug, "date": (edition.edition_date if edition else day).isoformat(),
            "revision": edition.revision if edition else 1, "audience": told.audience, "pending": told.pending,
            "submitted": told.submitted, "skipped": told.skipped, "failed": told.failed, "uncertain": told.uncertain,
            "delivered": told.delivered, "doubled": told.doubled, "balanced": told.balanced, "problems": list(told.problems),
        }  # fmt: skip
        print_json(document)
        return
    table = a_table("audience", "pending", "submitted", "skipped", "failed", "uncertain", "delivered")
    table.add_row(
        str(told.audience), str(told.pending), str(told.submitted), str(sum(told.skipped.values())),
        str(sum(told.failed.values())), str(told.uncertain), str(told.delivered),
    )  # fmt: skip
    out.print(table)
    for kind, reasons in (("skipped", told.skipped), ("failed", told.failed)):
        for reason, number in reasons.items():
            out.print(f"  {kind} {number}: {reason}", markup=False)
    if told.doubled:
        sentence = (
            f"{told.doubled} readers are proven to have had it twice, after a batch in doubt was sent again."
        )
        out.print(sentence, markup=False, style="bold red")
    for problem in told.problems:
        out.print(problem, markup=False, style="bold red")
    out.print(
        "Balanced." if told.balanced else "Does NOT balance.", style="green" if told.balanced else "bold red"
    )


def copied(rows: Sequence[Copied], *, as_json: bool) -> None:
    """``db copy``."""
    if as_json:
        print_json({"tables": [asdict(row) for row in rows]})
        return
    table = a_table("table", "rows", "sha256", numbers=("rows",))
    for row in rows:
        table.add_row(row.table, f"{row.rows:,}", row.sha256[:16])
    out.print(table)
    out.print("Copied and verified: every row has the same content on both sides.", style="green")


def import_report(report: ImportReport, *, as_json: bool) -> None:
    """``subscribers import``. Of many rejected rows the first hundred are told; all are in the file."""
    if as_json:
        names = ("rows", "added", "updated", "unchanged", "suppressed")
        document: dict[str, Any] = {name: getattr(report, name) for name in names}
        document["rejected"] = [{"line": row.line, "reason": row.reason} for row in report.rejected]
        document["rejected_rows"] = report.rejected_n
        document["rejected_file"] = str(report.rejected_files[0]) if report.rejected_files else None
        document["rejected_files"] = [str(path) for path in report.rejected_files]
        document["shape"] = report.shape
        document["went_on_at"] = report.went_on_at
        document["dry_run"] = report.is_dry
        print_json(document)
        return
    out.print(
        f"{report.rows:,} rows ({report.shape}): {report.added:,} added, {report.updated:,} updated, "
        f"{report.unchanged:,} unchanged, {report.suppressed:,} kept unmailed, {report.rejected_n:,} rejected"
        + (". Nothing was changed: this was a dry run." if report.is_dry else ""),
        markup=False, soft_wrap=True,
    )  # fmt: skip
    for row in report.rejected[:_REJECTED_TOLD]:
        out.print(f"  line {row.line}: {row.reason}", markup=False, style="yellow")
    if report.rejected_n > _REJECTED_TOLD:
        out.print(f"  … and {report.rejected_n - _REJECTED_TOLD:,} more", style="yellow")
    for path in report.rejected_files:
        out.print(f"Rejected rows, to be mended and imported again: {path}", markup=False, soft_wrap=True)


_REJECTED_TOLD = 20


@contextmanager
def importing(name: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a progress callback (rows done, lines in all): a live bar on a terminal, a line every few seconds elsewhere."""
    if not err.is_terminal:
        yield _import_plainly(name)
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(), TextColumn("rows"),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
    )  # fmt: skip
    with Progress(*columns, console=err, transient=True) as progress:
        task = progress.add_task(f"Importing {name}", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=max(done, total))


def _import_plainly(name: str) -> Callable[[int, int], None]:
    began = last = time.monotonic()
    first: list[int] = []

    def tell(done: int, total: int) -> None:
        nonlocal last
        at = time.monotonic()
        first.append(done) if not first else None
        if at - last < _EVERY_SECONDS:
            return
        last = at
        speed = (done - first[0]) / (at - began)
        left = f", {max(0, total - done) / speed:,.0f} s left" if speed else ""
        err.print(
            f"import {name}: {done:,} of about {total:,} rows ({speed:,.0f} rows/s{left})",
            markup=False,
            soft_wrap=True,
        )

    return tell


def subscriber(document: dict[str, Any], *, as_json: bool) -> None:
    """``subscribers show``."""
    if as_json:
        print_json(document)
        return
    table = a_table("field", "value")
    for name, value in document.items():
        if name == "subscriptions":
            value = (
                "\n".join(f"{one['newsletter']}: {one['state']} since {one['since']}" for one in value)
                or "none"
            )
        elif isinstance(value, list):
            value = ", ".join(str(one) for one in value) or "none"
        table.add_row(name, str(value if value not in (None, "") else "–"))
    out.print(table)


def segments(rows: Sequence[tuple[str, str, int]], *, as_json: bool) -> None:
    """``segments``."""
    if as_json:
        print_json(
            {
                "segments": [
                    {"newsletter": slug, "variant": variant, "size": size} for slug, variant, size in rows
                ]
            }
        )
        return
    table = a_table("newsletter", "variant", "readers", numbers=("readers",))
    for slug, variant, size in rows:
        table.add_row(slug, variant, str(size))
    out.print(table)


def checks(rows: Sequence[Check], *, as_json: bool) -> None:
    """``doctor``."""
    if as_json:
        print_json({"checks": [asdict(row) for row in rows]})
        return
    for row in rows:
        out.print(
            Text.assemble(
                (f"{row.severity:8}", _SEVERITY_STYLE.get(row.severity, "")),
                (row.name, "bold"),
                f"  {row.message}",
            )
        )
