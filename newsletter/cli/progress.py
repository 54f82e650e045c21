"""Progress on stderr: live bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

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
from rich.text import Text

from newsletter.cli.show import err

if TYPE_CHECKING:
    from newsletter.desk import Tell


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
