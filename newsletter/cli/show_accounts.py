"""What ``run``, ``send``, ``status``, ``why`` and ``audit`` print: where editions, batches and readers are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import date
from typing import TYPE_CHECKING, Any

from rich.text import Text

from newsletter.cli.show import a_table, out, print_json
from newsletter.times import iso

if TYPE_CHECKING:
    from newsletter.desk import Account, Desk
    from newsletter.outbox.accounts import Balance, Verdict
    from newsletter.store.holds import Hold
    from newsletter.store.tables import Batch

_STATUS_STYLE = {
    "submitted": "green", "approved": "green", "submitting": "cyan", "held": "yellow", "skipped": "yellow",
    "paused": "yellow", "draft": "yellow", "spiked": "red", "missed": "red", "not due": "dim",
}  # fmt: skip


def accounts(
    rows: Sequence[Account], *, held: Mapping[str, Hold] | None = None, as_json: bool = False
) -> None:
    """``run``, ``send``, ``status``; *held*: newsletters of which no edition goes by itself."""
    if as_json:
        document: dict[str, Any] = {
            "editions": [{**asdict(row), "date": row.date.isoformat()} for row in rows]
        }
        if held is not None:
            document["held"] = [
                {"newsletter": slug, "reason": hold.reason, "since": iso(hold.since)}
                for slug, hold in held.items()
            ]
        print_json(document)
        return
    for slug, hold in (held or {}).items():
        since = f" is held since {hold.since:%Y-%m-%d %H:%M} UTC: "
        out.print(
            Text.assemble((slug, "bold"), (since, "yellow"), hold.reason, f" newsletter release {slug}")
        )
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


_MOST_ROWS = 40


def _is_calm(batch: Batch) -> bool:
    return batch.state in ("pending", "submitted") and not batch.error


def _batches(found: Sequence[Batch]) -> None:
    """A row a batch; of very many those that somebody may have to look at, and the others in sums."""
    others: Counter[tuple[str, str]] = Counter()
    if len(found) > _MOST_ROWS:
        others.update((one.state, one.variant) for one in found if _is_calm(one))
        found = [one for one in found if not _is_calm(one)]
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
    for (state, variant), number in sorted(others.items()):
        out.print(f"{number} more batches of {variant} are {state}.", markup=False)


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


def _styled(word: str, styles: dict[str, str]) -> Text:
    return Text(word, style=styles.get(word, ""))
