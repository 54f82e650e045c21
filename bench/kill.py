"""
``python -m bench.kill``: a hundred senders die at every step, on both databases, and nobody gets it twice.

A rotation over steps × databases × fault mixes, each run with a seed of its own. Ends with 1 if any run was
not clean, after saying how to repeat it.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import structlog
from rich.console import Console
from rich.table import Table
from sqlalchemy import create_engine
from sqlalchemy.exc import SQLAlchemyError

from tests.kills import SHORT_TIMEOUT, Outcome, fresh_database, run_once, standin_of
from tests.sending import DURING_FREEZE, RANDOM, STEPS

POSTGRES = "postgresql+psycopg://postgres@127.0.0.1:5432/test"
"""Where a PostgreSQL of tests listens, unless another is named."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One run that is to be made; *postgres* is empty for SQLite."""

    seed: int
    step: str
    postgres: str
    with_faults: bool
    workers: int
    rounds: int
    hear_early: bool
    subjects: int

    @property
    def mix(self) -> str:
        """What else goes wrong besides the kills, in words."""
        parts = [f"{self.workers} senders"]
        parts += [f"{self.rounds} rounds"] if self.rounds > 1 else []
        parts += ["faults"] if self.with_faults else []
        parts += ["early events"] if self.hear_early else []
        parts += [f"{self.subjects} subjects"] if self.subjects > 1 else []
        return ", ".join(parts)

    def run(self) -> Outcome:
        """Make it: 1,500 readers, in 30 batches (100 when the provider fails, so that all faults occur)."""
        with (
            tempfile.TemporaryDirectory(prefix="kill-") as folder,
            fresh_database(Path(folder), self.postgres) as url,
            standin_of(seed=self.seed, with_faults=self.with_faults) as standin,
        ):
            return run_once(
                url, standin, seed=self.seed, step=self.step, workers=self.workers, rounds=self.rounds,
                batch_size=15 if self.with_faults else 50, hear_early=self.hear_early,
                timeout_seconds=SHORT_TIMEOUT if self.with_faults else 30.0,
                subjects=("A", "B", "C")[: self.subjects] if self.subjects > 1 else (),
            )  # fmt: skip


def plans(seed: int, postgres: str) -> Iterator[Plan]:
    """The rotation, without end: every step on every database, what else happens drawn from the seed."""
    while True:
        for step in (*STEPS, DURING_FREEZE, RANDOM, RANDOM):
            for database in ("", postgres) if postgres else ("",):
                dice = random.Random(seed)
                yield Plan(
                    seed=seed, step=step, postgres=database, with_faults=dice.random() < 0.3,
                    workers=dice.choice((1, 2, 2, 3)) if database else dice.choice((1, 1, 2)),
                    rounds=dice.choice((1, 1, 2, 3)), hear_early=dice.random() < 0.3,
                    subjects=dice.choice((1, 1, 2, 3)),
                )  # fmt: skip
                seed += 1


def answers(url: str) -> bool:
    """Whether a PostgreSQL can be reached."""
    engine = create_engine(url, connect_args={"connect_timeout": 2})
    try:
        with engine.connect():
            return True
    except SQLAlchemyError:
        return False
    finally:
        engine.dispose()


def show(console: Console, done: list[tuple[Plan, Outcome]], seconds: float) -> None:
    """Print what came out, by step and database."""
    groups: dict[tuple[str, str], list[Outcome]] = defaultdict(list)
    order = (*STEPS, DURING_FREEZE, RANDOM)
    for _, outcome in sorted(done, key=lambda one: (order.index(one[1].step), one[1].database)):
        groups[outcome.step, outcome.database].append(outcome)
    table = Table(title=f"{len(done)} kill runs in {seconds:.0f} s", show_footer=True)
    for name in ("step", "database"):
        table.add_column(name)
    for name in ("runs", "kills", "uncertain after kill", "resent", "doubles", "unaccounted", "clean"):
        table.add_column(name, justify="right")
    for (step, database), outcomes in groups.items():
        table.add_row(step, database, *map(str, _sums(outcomes)))
    for column, total in zip(table.columns[2:], _sums([outcome for _, outcome in done]), strict=True):
        column.footer = str(total)
    table.columns[0].footer = "all"
    console.print(table)
    console.print(
        "Uncertain after kill: readers whose batch was in flight; resent: batches the provider never saw, "
        "sent again by a person's word. The rest was settled by events."
    )


def _sums(outcomes: list[Outcome]) -> tuple[int, ...]:
    return (
        len(outcomes),
        sum(one.kills for one in outcomes),
        sum(one.uncertain for one in outcomes),
        sum(one.resent for one in outcomes),
        sum(one.doubles for one in outcomes),
        sum(one.unaccounted for one in outcomes),
        sum(one.is_clean for one in outcomes),
    )


def main() -> int:
    """Run the rotation; 1 if anything did not hold."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=20261125)
    parser.add_argument(
        "--postgres", default=os.environ.get("TEST_POSTGRES_URL", POSTGRES), help="empty: none"
    )
    parser.add_argument("--at-once", type=int, default=2, help="runs at the same time")
    parser.add_argument("--minutes", type=float, default=0.0, help="begin no further run after so long")
    given = parser.parse_args()
    console = Console(width=max(Console().width, 110))
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    postgres = given.postgres if given.postgres and answers(given.postgres) else ""
    if not postgres:
        console.print("No PostgreSQL answers: SQLite only.")
    began = time.monotonic()
    done: list[tuple[Plan, Outcome]] = []
    broken: list[Plan] = []

    def make(plan: Plan) -> None:
        if given.minutes and time.monotonic() - began > given.minutes * 60:
            return
        try:
            outcome = plan.run()
        except Exception:
            broken.append(plan)
            console.print(f"[red]seed {plan.seed}[/red] {plan.step}, {plan.mix}: could not be counted")
            console.print_exception()
            return
        done.append((plan, outcome))
        if not outcome.is_clean:
            console.print(f"[red]seed {plan.seed}[/red] {plan.step} {outcome.database}, {plan.mix}:")
            for problem in outcome.problems:
                console.print(f"  {problem}", markup=False)

    with ThreadPoolExecutor(given.at_once) as pool:
        list(pool.map(make, islice(plans(given.seed, postgres), given.runs)))
    show(console, done, time.monotonic() - began)
    return 1 if broken or not all(outcome.is_clean for _, outcome in done) else 0


if __name__ == "__main__":
    sys.exit(main())
