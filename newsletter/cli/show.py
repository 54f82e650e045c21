"""What commands print: tables for people on stdout, one JSON document for programs, progress on stderr."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import date
from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleOptions, RenderableType
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
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from newsletter.times import iso

if TYPE_CHECKING:
    from newsletter.articles import Article
    from newsletter.audience.imports import ImportReport
    from newsletter.cli.checks import Check
    from newsletter.desk import Account, Desk, Tell
    from newsletter.feeds.collect import SourceReport
    from newsletter.outbox.accounts import Balance, Verdict
    from newsletter.rendering.proof import Finding
    from newsletter.store.copying import Copied
    from newsletter.store.tables import Batch

_UNSAFE = dict.fromkeys(
    (*range(0x09), *range(0x0B, 0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A))
)


def safe(text: str) -> str:
    """*text* without what would turn a terminal's line over or command the terminal: people typed it."""
    return text.translate(_UNSAFE)


class _Careful(Console):
    """Prints nothing but letters, whoever typed them."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(safe(segment.text), segment.style)


out = _Careful(highlight=False, soft_wrap=False)
err = _Careful(stderr=True, highlight=False)

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
        TextColumn("[yellow]{task.fields[doubt]}"), TextColumn("{task.fields[waits]}", style="dim"), TimeRemainingColumn(compact=True, elapsed_when_finished=True),
    )  # fmt: skip
    with Progress(*columns, console=err, transient=True) as progress:
        tasks: dict[str, TaskID] = {}
        doubts: Counter[str] = Counter()

        def tell(step: str, what: str, done: int, total: int) -> None:
            what, _, why = what.partition(": ") if step == "waits" else (what, "", "")
            key = what if step in ("send", "uncertain", "waits") else "now"
            words = {"collect": f"Reading {what}", "run": f"Making {what}"}.get(step, f"Sending {what}")
            if key not in tasks:
                tasks[key] = progress.add_task(
                    words, total=total or None, doubt="", waits="", is_sending=key != "now"
                )
            if step == "waits":
                progress.update(tasks[key], waits=f"waits {why}")
            elif step == "uncertain":
                doubts[what] += done
                progress.update(tasks[key], doubt=f"{doubts[what]:,} uncertain")
            else:
                progress.update(tasks[key], description=words, completed=done, total=total or None, waits="")

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
    told: dict[str, str] = {}

    def tell(step: str, what: str, done: int, total: int) -> None:
        if step == "run":
            err.print(f"make {what} ({done} of {total})", markup=False)
        elif step == "uncertain":
            err.print(f"send {what}: a batch of {done} readers is uncertain", markup=False)
        elif step == "waits":
            slug, _, why = what.partition(": ")
            if told.get(slug) != why:
                told[slug] = why
                err.print(f"send {slug}: waits {why}", markup=False, soft_wrap=True)
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
    corrected = any(row.revision > 1 for row in rows)
    table = a_table(
        "newsletter", *(() if len(days) == 1 else ("date",)), *(("revision",) if corrected else ()), "status", *numbers,
        "hash", numbers=(*numbers, "revision"),
    )  # fmt: skip
    for row in rows:
        table.add_row(
            row.newsletter,
            *(() if len(days) == 1 else (row.date.isoformat(),)),
            *((str(row.revision),) if corrected else ()),
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
            which = f"{row.newsletter}, revision {row.revision}: " if corrected else f"{row.newsletter}: "
            out.print(Text.assemble((which, "bold"), row.reason))


def batches(desk: Desk, rows: Sequence[Account]) -> None:
    """The batches of these editions, for ``status SLUG``."""
    from sqlmodel import col, select

    from newsletter.store.session import reading
    from newsletter.store.tables import Batch, EditionRow

    for row in rows:
        with reading(desk.engine) as session:
            found = session.exec(
                select(Batch)
                .join(EditionRow, col(EditionRow.id) == col(Batch.edition_id))
                .where(
                    EditionRow.newsletter == row.newsletter, EditionRow.edition_date == row.date,
                    EditionRow.revision == row.revision,
                )
                .order_by(col(Batch.seq))
            ).all()  # fmt: skip
        if found and len(rows) > 1:
            out.print(Text(f"\nBatches of {row.date}, revision {row.revision}", style="bold"))
        elif found:
            out.print()
        _batches(found)


def _batches(found: Sequence[Batch]) -> None:
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
            ),
            soft_wrap=True,
        )
        out.print(f"        {row.message}", markup=False, soft_wrap=True)
        if row.remedy:
            out.print(f"        {row.remedy}", markup=False, style="dim", soft_wrap=True)
    kinds = ", ".join(
        f"{sum(row.severity == kind for row in rows)} {kind}s" for kind in ("error", "warning", "note")
    )
    out.print(kinds, markup=False)


def verdict(told: Verdict, slug: str, day: date, *, as_json: bool) -> None:
    """``why``."""
    if as_json:
        document = {
            "newsletter": slug, "date": day.isoformat(), "revision": told.revision or None, "verdict": told.verdict,
            "reason": told.reason, "batch": told.batch, "at": iso(told.at), "events": list(told.events),
            "subject": told.subject,
        }  # fmt: skip
        print_json(document)
        return
    when = f" ({told.at:%Y-%m-%d %H:%M} UTC)" if told.at else ""
    batch = f", batch {told.batch}" if told.batch else ""
    revision = f", revision {told.revision}" if told.revision > 1 else ""
    out.print(f"{slug} of {day}{revision}: {told.verdict}{batch}{when}: {told.reason}", markup=False)
    if told.subject:
        out.print(f"  subject: {told.subject}", markup=False)
    for event in told.events:
        out.print(f"  {event['at']}  {event['kind']}", markup=False)


def books(told: Sequence[tuple[int, Balance]], slug: str, day: date, *, as_json: bool) -> None:
    """``audit``: revisions with their balance, the newest first; nothing made yet is zeros, balanced."""
    from newsletter.outbox.accounts import Balance

    told = told or [(1, Balance())]
    balanced = all(balance.balanced for _, balance in told)
    if as_json:
        rows = [_book(revision, balance) for revision, balance in told]
        document = {
            "newsletter": slug,
            "date": day.isoformat(),
            **rows[0],
            "balanced": balanced,
            "revisions": rows,
        }
        print_json(document)
        return
    out.print(Text(f"{slug} of {day:%A, %d %B %Y}", style="bold"))
    many = len(told) > 1
    numbers = ("audience", "pending", "submitted", "skipped", "failed", "uncertain", "delivered")
    table = a_table(*(("revision",) if many else ()), *numbers, numbers=("revision", *numbers))
    for revision, one in told:
        table.add_row(
            *((str(revision),) if many else ()), str(one.audience), str(one.pending), str(one.submitted),
            str(sum(one.skipped.values())), str(sum(one.failed.values())), str(one.uncertain), str(one.delivered),
        )  # fmt: skip
    out.print(table)
    for revision, one in told:
        of = f" of revision {revision}" if many else ""
        for kind, reasons in (("skipped", one.skipped), ("failed", one.failed)):
            for reason, number in reasons.items():
                out.print(f"  {kind} {number}{of}: {reason}", markup=False)
        if one.missed:
            again = f"newsletter resend {slug} --date {day} sends it to them again."
            out.print(
                f"{one.missed} readers{of} got nothing: the provider dropped it. {again}",
                markup=False,
                style="bold red",
            )
        if one.doubled:
            sentence = f"{one.doubled} readers{of} are proven to have had it twice, after a batch in doubt was sent again."
            out.print(sentence, markup=False, style="bold red")
        for problem in one.problems:
            out.print(f"{problem}{of and f' ({of[4:]})'}", markup=False, style="bold red")
    out.print(
        "Balanced: every frozen reader is accounted for exactly once."
        if balanced
        else "Does NOT balance: keep the database as it is, send nothing of it again, and look at the lines above.",
        style="green" if balanced else "bold red",
    )


def _book(revision: int, told: Balance) -> dict[str, Any]:
    return {
        "revision": revision, "audience": told.audience, "pending": told.pending, "submitted": told.submitted,
        "skipped": told.skipped, "failed": told.failed, "uncertain": told.uncertain, "delivered": told.delivered,
        "doubled": told.doubled, "missed": told.missed, "balanced": told.balanced, "problems": list(told.problems),
    }  # fmt: skip


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
        if name in _SHOWN:
            value = "\n".join(map(_SHOWN[name], value)) or "none"
        elif isinstance(value, dict):
            value = "\n".join(f"{key}: {one}" for key, one in value.items()) or "none"
        elif isinstance(value, list):
            value = ", ".join(str(one) for one in value) or "none"
        table.add_row(name, str(value if value not in (None, "") else "–"))
    out.print(table)


def _subscription(one: Mapping[str, Any]) -> str:
    """One newsletter, how they stand to it and since when."""
    if one["state"] != "left":
        return f"{one['newsletter']}: {one['state']} since {one['since']}"
    since = f" since {one['left_at']}" if one["left_at"] else ""
    return f"{one['newsletter']}: left{since}{_in_brackets(one['left_reason'])}"


def _suppression(one: Mapping[str, Any]) -> str:
    """What must not be sent to them, why and since when."""
    scope = "everything" if one["scope"] == "all" else one["scope"]
    return f"{scope}: {one['reason']} since {one['at']}{_in_brackets(one['source'])}"


def _sunset(one: Mapping[str, Any]) -> str:
    """What was done about them because they showed no sign of life."""
    until = f", left alone until {one['until']}" if one["step"] == "stayed" and one["until"] else ""
    return f"{one['step']} at {one['at']}{until}{_in_brackets(one['reason'])}"


_SHOWN = {"subscriptions": _subscription, "suppression": _suppression, "sunset": _sunset}


def _in_brackets(text: str) -> str:
    return f" ({text})" if text else ""


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
