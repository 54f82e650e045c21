"""What commands print: tables for people on stdout, one JSON document for programs, progress on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from newsletter.times import iso

if TYPE_CHECKING:
    from newsletter.articles import Article
    from newsletter.audience.imports import ImportReport
    from newsletter.cli.checks import Check
    from newsletter.feeds.collect import SourceReport
    from newsletter.rendering.proof import Finding
    from newsletter.store.copying import Copied

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

_NARROW = {"newsletter", "status", "date", "hash", "variant", "state", "kind", "published", "lang"}
_SEVERITY_STYLE = {"error": "bold red", "warning": "yellow", "note": "dim", "ok": "green"}


def print_json(document: Any) -> None:
    """One JSON document on stdout."""
    json.dump(document, sys.stdout, ensure_ascii=False, indent=2)
    sys.stdout.write("\n")


def a_table(*columns: str, numbers: Sequence[str] = ()) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for column in columns:
        if column in numbers:
            table.add_column(column, justify="right", no_wrap=True)
        else:
            table.add_column(column, overflow="fold", no_wrap=column in _NARROW)
    return table


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
