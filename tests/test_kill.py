"""Nobody twice, nobody forgotten: senders that are killed, stopped, starved and lied to, at every step."""

from __future__ import annotations

import contextlib
import random
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine

from newsletter.audience.leaving import leave
from newsletter.audience.subscribers import forget
from newsletter.outbox.ledger import BatchState
from newsletter.outbox.subjects import Draw
from newsletter.times import system_clock
from tests.kills import (
    SHORT_TIMEOUT,
    Field,
    Finish,
    email_of,
    fresh_database,
    is_bad,
    reader_of,
    run_once,
    standin_of,
)
from tests.sending import DURING_CHOICE, DURING_FREEZE, KEYS, NEWSLETTER, RANDOM, STEPS
from tests.standin import Taken

SEED = 20261125
SEED_OF_ALL_FAULTS = 106
"""Draws every fault within the first 95 requests, and only one stall."""

NOT_SENT_WITHOUT = "Nothing goes out without a committed claim"


@pytest.fixture
def url(engine: Engine) -> str:
    """The address of an empty, migrated database of each kind."""
    return engine.url.render_as_string(hide_password=False)


@pytest.fixture
def file_url(tmp_path: Path) -> Iterator[str]:
    """The address of an empty, migrated SQLite file."""
    with fresh_database(tmp_path) as found:
        yield found


def workers_of(url: str) -> int:
    """One sender on SQLite, two on PostgreSQL."""
    return 1 if url.startswith("sqlite") else 2


def finished(place: Field) -> Finish:
    """The end of a run without further kills, after a check that it was a good one."""
    finish = place.finish(dice=random.Random(SEED))
    count = place.count()
    place.engine.dispose()
    assert (*finish.problems, *count.problems) == ()
    return finish


def path_of(url: str) -> Path:
    """The file of a SQLite address."""
    return Path(url.removeprefix("sqlite:///"))


# --- killed -------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [*STEPS, DURING_FREEZE])
def test_a_sender_is_killed_at_a_step(url: str, step: str) -> None:
    """Whatever was done last before the kill, everybody gets the edition once and all are accounted for."""
    with standin_of(seed=SEED) as standin:
        outcome = run_once(url, standin, seed=SEED, workers=workers_of(url), step=step, restart_here=True)

    assert outcome.problems == ()
    assert outcome.kills >= 1
    assert outcome.submitted == 1500


def subjects_taken(place: Field) -> dict[str, set[str]]:
    """With which subjects each reader was taken."""
    subject_of = {
        body["personalizations"][0]["custom_args"]["nl_batch"]: body["subject"]
        for body in place.standin.requests
    }
    found: dict[str, set[str]] = {}
    for one in place.taken():
        found.setdefault(one.reader, set()).add(subject_of[one.batch])
    return found


@pytest.mark.parametrize("step", [DURING_FREEZE, "after-claim", "after-body", "after-commit", DURING_CHOICE])
def test_a_sender_is_killed_while_subjects_are_tried(url: str, step: str) -> None:
    """Before, at and after the choice: each reader gets it once, with the subject they drew or the one that was chosen."""
    with standin_of(seed=SEED, keep_requests=True) as standin:
        place = Field(url, standin, 600, subjects=("A", "B"))
        killed = [] if step == DURING_CHOICE else ["--kill", step, "--nth", "2"]
        ends = place.work([place.worker("--freeze", *killed)])
        place.work([place.worker("--freeze")])
        before = place.balance()
        place.ahead = timedelta(hours=2)
        if step != DURING_FREEZE:
            ends += place.work([place.worker("--kill", step, "--nth", "1" if step == DURING_CHOICE else "2")])
        finished(place)

        drawn = {
            reader_of(reader): letter.upper()
            for letter, some in Draw(b"daily.2026-11-20.1", "ab", 0.4).sort(range(1, 601))
            for reader in some
        }
        expected = {reader: {subject or "A"} for reader, subject in drawn.items()}
        taken_with = subjects_taken(place)
        place.engine.dispose()

    assert [end.was_killed for end in ends if end.was_killed] == [True] * (
        1 if step in (DURING_FREEZE, DURING_CHOICE) else 2
    )
    assert before.pending == sum(subject == "" for subject in drawn.values())
    assert taken_with == expected


@pytest.mark.parametrize("number", range(2))
def test_senders_are_killed_again_and_again(url: str, number: int) -> None:
    """Two rounds of kills at random moments double nobody and lose nobody, however early the events come."""
    with standin_of(seed=SEED, delay_seconds=0.05) as standin:
        outcome = run_once(
            url, standin, seed=SEED + number, workers=workers_of(url), step=RANDOM, rounds=2, hear_early=number == 1
        )  # fmt: skip

    assert outcome.problems == ()
    assert outcome.submitted == 1500


def test_a_sender_is_killed_while_the_provider_fails(url: str) -> None:
    """Rate limits, lost answers, resets, stalls and bad addresses on top of a kill change nothing of that."""
    with standin_of(seed=SEED_OF_ALL_FAULTS, with_faults=True) as standin:
        outcome = run_once(
            url, standin, seed=SEED, step=RANDOM, workers=workers_of(url), batch_size=15,
            timeout_seconds=SHORT_TIMEOUT, restart_here=True,
        )  # fmt: skip
        met = {kept.outcome for kept in standin._kept}
        statuses = set(standin.statuses)

    refused = sum(is_bad(email_of(number)) for number in range(1, 1501))
    assert outcome.problems == ()
    assert refused == 3
    assert sum(outcome.balance.failed.values()) == refused
    assert outcome.submitted == 1500 - refused
    assert met == {"accept", "server_error_after", "stall", "reset_after_accept", "truncated"}
    assert statuses >= {0, 202, 400, 429, 500}


# --- gone in the meantime -----------------------------------------------------------------------


def test_who_goes_between_freeze_and_send_gets_nothing(url: str) -> None:
    """Leaving, complaining and being erased are honoured after the freeze and after a kill, and counted."""
    taken_before: set[str] = set()

    def go(place: Field, first: int) -> None:
        """Readers *first*, +1 and +2 leave, complain and are erased, a hundred further on others, too."""
        now = system_clock()
        for number in range(first, 1501, 100):
            leave(place.engine, reader_of(number), NEWSLETTER.slug, now=now, how="one click")
            complain(place, number + 1)
            forget(place.engine, email_of(number + 2), keys=KEYS, now=now)

    def go_later(place: Field) -> None:
        place.quiet()
        taken_before.update(one.reader for one in place.taken())
        go(place, 21)

    with standin_of(seed=SEED) as standin:
        outcome = run_once(
            url, standin, seed=SEED, workers=workers_of(url), step="after-body", restart_here=True,
            after_freeze=lambda place: go(place, 11), after_kill=go_later,
        )  # fmt: skip
        taken = {one.reader for one in standin.taken}

    early = {reader_of(number + who) for number in range(11, 1501, 100) for who in range(3)}
    late = {reader_of(number + who) for number in range(21, 1501, 100) for who in range(3)}
    skipped = outcome.balance.skipped
    assert outcome.problems == ()
    assert taken & early == set()
    assert taken & late == taken_before & late
    assert outcome.submitted + sum(skipped.values()) == 1500
    assert sum(skipped.values()) == len(early) + len(late - taken_before)
    assert set(skipped) == {"suppressed: unsubscribed", "suppressed: complained", "erased after the freeze"}


def complain(place: Field, number: int) -> None:
    """Reader *number* says that an earlier edition was spam."""
    earlier = Taken("daily.2026-11-19.1", "", reader_of(number), email_of(number))
    place.post([place.standin.event("spamreport", earlier)])


# --- stopped ------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["after-claim", "mid-body", "after-202"])
def test_a_sender_is_stopped_for_longer_than_its_lease(url: str, step: str) -> None:
    """Another takes over, the stopped one comes back, and neither repeats what the other did."""
    with standin_of(seed=SEED) as standin:
        place = Field(url, standin, 500)
        place.freeze()
        stopped = place.worker("--lease", "1", "--stop", step, "--nth", "2")
        stopped.go()
        assert stopped.wait_until_stopped()
        time.sleep(1.1)
        other = place.work([place.worker()])[0]
        doubtful = place.in_state(BatchState.UNCERTAIN)
        stopped.go_on()
        back = stopped.wait()
        finished(place)

    assert (other.code, other.said, back.code, back.said) == (0, "", 0, "")
    assert 1 <= len(doubtful) <= place.in_flight


# --- starved ------------------------------------------------------------------------------------


def test_the_database_becomes_read_only(url: str) -> None:
    """The drain ends with a sentence, nothing went out unclaimed, and the next one brings it to its end."""
    with standin_of(seed=SEED) as standin:
        place = Field(url, standin, 1000)
        place.freeze()
        end = place.work([place.worker("--read-only-after", "6")])[0]
        place.quiet()
        unclaimed, taken = place.unclaimed(), len(place.taken())
        finished(place)

    assert_a_sentence(end.code, end.said)
    assert unclaimed == []
    assert 0 < taken < 1000


def test_a_file_cannot_grow(file_url: str) -> None:
    """A write that fails in the middle of a delivery leaves a sound file and nothing sent unclaimed."""
    with standin_of(seed=SEED) as standin:
        place = Field(file_url, standin, 1000)
        place.freeze()
        end = place.work([place.worker("--largest-file", "100000")])[0]
        place.quiet()
        sound = integrity(file_url)
        unclaimed, taken = place.unclaimed(), len(place.taken())
        finished(place)

    assert_a_sentence(end.code, end.said)
    assert sound == "ok"
    assert unclaimed == []
    assert 0 < taken < 1000


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MB of its own, where this machine lets us have one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True
        )
    except OSError:
        pytest.skip("no mount here")
    if mounted.returncode:
        pytest.skip("may not mount a disk here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_the_disk_is_full(small_disk: Path) -> None:
    """As when a file cannot grow; with room again, the delivery goes on where it stood."""
    filler = small_disk / "filler"
    with standin_of(seed=SEED) as standin, fresh_database(small_disk) as url:
        place = Field(url, standin, 1000)
        place.freeze()
        place.engine.dispose()
        leave_free(filler, 150_000)
        end = place.work([place.worker()])[0]
        place.quiet()
        filler.unlink()
        sound = integrity(url)
        unclaimed, taken = place.unclaimed(), len(place.taken())
        finished(place)

    assert_a_sentence(end.code, end.said)
    assert sound == "ok"
    assert unclaimed == []
    assert 0 < taken < 1000


def leave_free(filler: Path, size_bytes: int) -> None:
    """Fill the disk *filler* is on, but for *size_bytes*."""
    free = shutil.disk_usage(filler.parent).free
    filler.write_bytes(b"x" * (free - size_bytes))


def assert_a_sentence(code: int, said: str) -> None:
    """It ended as a command that was refused: exit code 1, and one sentence for the operator."""
    assert code == 1
    assert said.startswith("The database cannot be used (")
    assert NOT_SENT_WITHOUT in said
    assert len(said.splitlines()) == 1


def integrity(url: str) -> str:
    """What SQLite says of the file."""
    with contextlib.closing(sqlite3.connect(path_of(url))) as connection:
        return str(connection.execute("PRAGMA integrity_check").fetchone()[0])
