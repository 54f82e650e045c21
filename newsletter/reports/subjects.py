"""
Subjects: what the readers of a sample did with each, and whether one did better.

Only people count: an open by a mailbox's own programs says nothing about a subject. Who was given a subject
counts, whether they got the mail or not, so that chance alone decides who is compared with whom.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from itertools import combinations

from sqlalchemy import select as columns
from sqlmodel import Session, col

from newsletter.edition import SUBJECT_LETTERS
from newsletter.errors import NotFound
from newsletter.events import EventKind
from newsletter.reports.clicks import clicks_of
from newsletter.reports.intervals import difference, wilson
from newsletter.reports.numbers import Subjects, Tried
from newsletter.store.bulk import among
from newsletter.store.editions import edition_ref, revisions, subjects_of
from newsletter.store.tables import Batch, EditionRow, Event, SubjectTest

ERROR = 0.05
"""How often a subject may be called better although it is not, both looks together."""

ERROR_HALF_WAY = 0.005
"""Of that, what the look half-way takes; the rest is for the end. However the two depend, they add up to no more."""

_SUBMITTED = "submitted"  # outbox.ledger.BatchState, which lies above this room


@dataclass(frozen=True, slots=True)
class Figure:
    """One subject of a sample: how many *readers* were sent it, and how many of them *did* what counts."""

    subject: str
    readers: int
    did: int

    @property
    def share(self) -> float:
        """In parts of its readers; nobody: 0."""
        return self.did / self.readers if self.readers else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """Between which two shares the true one lies, but for one time in twenty."""
        return wilson(self.did, self.readers)


@dataclass(frozen=True, slots=True)
class Judgement:
    """The subject that did best, and whether that is more than chance; *reason* says it in a sentence."""

    subject: str
    is_clear: bool
    reason: str


def figures_of(session: Session, edition: EditionRow, subjects: int, *, by: str) -> tuple[Figure, ...]:
    """What the sample of an edition with so many *subjects* did by now; *by* ``opens`` or ``clicks``."""
    goes = col(Batch.n) - col(Batch.skipped_n) - col(Batch.failed_n) - col(Batch.moved_n)
    tried = session.execute(
        columns(col(Batch.id), col(Batch.subject), col(Batch.attempt), goes, col(Batch.state)).where(
            col(Batch.edition_id) == edition.id, col(Batch.subject) != ""
        )
    ).all()
    letter_of = {
        f"{number}.{attempt}": letter
        for number, letter, attempts, _, _ in tried
        for attempt in range(1, attempts + 1)
    }
    people: dict[str, set[str]] = defaultdict(set)
    if by == "clicks":
        for click in clicks_of(session, [edition_ref(edition)]):
            if click.is_person and click.batch in letter_of:
                people[letter_of[click.batch]].add(click.reader)
    else:
        opened = columns(col(Event.batch), col(Event.reader)).where(
            among(session.connection(), col(Event.batch), list(letter_of)),
            col(Event.kind) == EventKind.OPENED, col(Event.is_machine).is_(False), col(Event.reader) != "",
        )  # fmt: skip
        for batch, reader in session.execute(opened.distinct()):
            people[letter_of[batch]].add(reader)
    readers: dict[str, int] = defaultdict(int)
    for _, letter, _, number, state in tried:
        readers[letter] += number if state == _SUBMITTED else 0
    return tuple(
        Figure(letter, readers[letter], min(len(people[letter]), readers[letter]))
        for letter in SUBJECT_LETTERS[:subjects]
    )


def judge(figures: Sequence[Figure], *, by: str, error: float) -> Judgement:
    """
    Which of *figures* did best; of equals the first.

    It is clear when the interval of its lead over each other subject excludes that it has none, with *error*
    shared by all pairs that could have been compared (Bonferroni).
    """
    best = max(figures, key=lambda one: one.share)
    pairs = len(list(combinations(figures, 2)))
    others = [one for one in figures if one is not best]
    leads = [
        (*difference((best.did, best.readers), (one.did, one.readers), error=error / pairs), one)
        for one in others
    ]
    seen, low, high, second = min(leads, key=lambda lead: (lead[1], lead[0]))
    is_clear = low > 0
    numbers = ", ".join(
        f"{one.subject.upper()} {one.did:,} of {one.readers:,} ({one.share:.1%})" for one in figures
    )
    lead = (
        f"{best.subject.upper()} is {seen * 100:.1f} points ahead of {second.subject.upper()} "
        f"({low * 100:+.1f} to {high * 100:+.1f})"
    )
    if not any(one.did for one in figures):
        said = f"no {by} by people were heard of"
    elif is_clear:
        said = f"{by} by people: {numbers}; {lead}, which is more than chance"
    else:
        said = f"{by} by people: {numbers}; {lead}: no clear winner"
    return Judgement(best.subject, is_clear, said)


def subjects_now(session: Session, edition: EditionRow) -> Subjects:
    """How the subjects of *edition* stand, by what was heard until now."""
    subjects = subjects_of(session, edition.id or 0)
    test = session.get(SubjectTest, edition.id)
    if test is None:
        tried = tuple(
            Tried(letter, subject) for letter, subject in zip(SUBJECT_LETTERS, subjects, strict=False)
        )
        return Subjects("waits" if len(subjects) > 1 and edition.frozen_at is None else "none", tried)
    figures = figures_of(session, edition, len(subjects), by=test.by)
    tried = tuple(
        Tried(one.subject, subject, one.readers, one.did, *one.interval, is_chosen=one.subject == test.chosen)
        for one, subject in zip(figures, subjects, strict=True)
    )
    status = "running" if not test.chosen else "chosen" if test.sample else "not tried"
    return Subjects(
        status, tried, by=test.by, sample=test.sample, until=test.until, chosen=test.chosen,
        chosen_at=test.chosen_at, reason=test.reason,
    )  # fmt: skip


def subjects_of_date(session: Session, slug: str, day: date) -> Subjects:
    """
    How the subjects of a newsletter's edition of *day* stand: of the revision that tries them, else of the newest.

    Raises:
        NotFound: there is no edition of that date.
    """
    rows = revisions(session, slug, day)
    if not rows:
        raise NotFound(f"There is no edition of {slug} on {day}.")
    tries = (row for row in rows if session.get(SubjectTest, row.id) is not None)
    return subjects_now(session, next(tries, rows[0]))
