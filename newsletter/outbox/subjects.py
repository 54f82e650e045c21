"""
Subjects: several are tried on a sample, and the rest waits for the one that is chosen.

Who is in the sample, and with which subject, is drawn at the freeze by a keyed hash of the reader's id: each
reader is in one batch, as ever. The choice is one row that is written once, in the transaction of whoever
looks first when it is time; all who claim read it there. So nobody can be sent two subjects, and a process
that dies before the choice or after it leaves the next one nothing to mend.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from struct import unpack
from typing import Any

import structlog
from sqlalchemy import ColumnElement, case, exists, func, update
from sqlalchemy import select as columns
from sqlmodel import Session, col, select

from newsletter.audience.segments import audience_sizes
from newsletter.catalogue import Newsletter, Publication
from newsletter.edition import SUBJECT_LETTERS, EditionStatus, subject_of
from newsletter.errors import NotFound, StateError
from newsletter.outbox import ids as frozen
from newsletter.outbox.ledger import BatchState
from newsletter.reports.subjects import ERROR, ERROR_HALF_WAY, figures_of, judge
from newsletter.store.editions import edition_ref, retitle, subjects_of
from newsletter.store.tables import Batch, EditionRow, ReaderException, SubjectTest

BY_NUMBERS, BY_RULE = "its numbers", "its rule"
WHY_IT_WAITS = "its subjects are being tried on a sample"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Draw:
    """Who gets which of *letters*: a *share* of all, in equal parts, by nothing but *key* and their id."""

    key: bytes
    letters: str
    share: float

    def sort(self, ids: Sequence[int]) -> Iterator[tuple[str, list[int]]]:
        """*ids* by their subject, '' for the rest; each once, in the order given."""
        found: dict[str, list[int]] = {"": [], **{letter: [] for letter in self.letters}}
        keyed = hashlib.blake2b(key=self.key, digest_size=64)
        width = self.share * 2**64
        parts = len(self.letters) / width
        block, numbers = -1, tuple[int, ...]()
        for reader in ids:
            its_block, place = divmod(reader, 8)
            if its_block != block:  # one hash holds the numbers of eight neighbours
                drawing = keyed.copy()
                drawing.update(its_block.to_bytes(8, "big"))
                block, numbers = its_block, unpack(">8Q", drawing.digest())
            drawn = numbers[place]
            found[self.letters[int(drawn * parts)] if drawn < width else ""].append(reader)
        yield from found.items()


def plan_test(
    session: Session,
    edition_id: int,
    newsletter: Newsletter,
    publication: Publication,
    *,
    now: datetime,
    at: datetime,
) -> Draw | None:
    """
    Write down that an edition with several subjects tries them, and return the draw; None: it tries none.

    With too few readers, or where each gets it in their own morning, its first subject is chosen at once, and why.
    """
    edition = session.get_one(EditionRow, edition_id)
    subjects = len(subjects_of(session, edition_id))
    if subjects < 2:
        return None
    rule = newsletter.subject_test
    test = SubjectTest(edition_id=edition_id, by=rule.by, wait_minutes=rule.wait_minutes, early=rule.early)
    audience = sum(audience_sizes(session, newsletter, publication, now).values())
    each = int(audience * rule.share / subjects)
    if newsletter.local_time is not None:
        test.reason = "not tried: each reader gets it in their own morning"
    elif each < rule.fewest:
        test.reason = (
            f"not tried: {each:,} readers for each subject would be too few to tell, {rule.fewest:,} are wanted "
            f"(subject_test.fewest; {rule.share:.0%} of {audience:,} are the sample)"
        )
    if test.reason:
        test.chosen, test.chosen_at, test.chosen_by = SUBJECT_LETTERS[0], at, BY_RULE
    session.add(test)
    session.flush()
    if test.reason:
        log.warning("subjects.not_tried", newsletter=newsletter.slug, edition=edition_id, reason=test.reason)
        return None
    return Draw(edition_ref(edition).encode(), SUBJECT_LETTERS[:subjects], rule.share)


def count_sample(session: Session, edition_id: int) -> None:
    """Write down how many readers were drawn; part of the freeze."""
    test = session.get(SubjectTest, edition_id)
    if test is not None:
        test.sample = session.exec(
            select(func.coalesce(func.sum(Batch.n), 0)).where(
                Batch.edition_id == edition_id, Batch.subject != ""
            )
        ).one()
        session.add(test)


# --- what a claim asks ----------------------------------------------------------------------------


def its_subject() -> ColumnElement[str]:
    """The letter of the subject a batch goes out with; '' where its edition has but one, or has chosen none yet."""
    chosen = (
        columns(col(SubjectTest.chosen))
        .where(col(SubjectTest.edition_id) == col(Batch.edition_id))
        .scalar_subquery()
    )
    return case((col(Batch.subject) != "", col(Batch.subject)), else_=func.coalesce(chosen, ""))


def is_free() -> ColumnElement[bool]:
    """Whether a batch need not wait for the choice of a subject."""
    undecided = exists().where(
        col(SubjectTest.edition_id) == col(Batch.edition_id), col(SubjectTest.chosen) == ""
    )
    return (col(Batch.subject) != "") | ~undecided


def waits_for_choice(session: Session, edition_id: int) -> SubjectTest | None:
    """The test whose choice the rest of an edition waits for; None: nothing waits for one."""
    held = (
        select(Batch.id)
        .join(EditionRow, col(EditionRow.id) == col(Batch.edition_id))
        .where(
            Batch.edition_id == edition_id, Batch.state == BatchState.PENDING,
            EditionRow.status == EditionStatus.SUBMITTING, ~is_free(),
        )
    )  # fmt: skip
    if session.exec(held.limit(1)).first() is None:
        return None
    return session.get(SubjectTest, edition_id)


# --- the choice -----------------------------------------------------------------------------------


def choose(session: Session, edition_id: int, *, at: datetime) -> bool:
    """
    Choose the subject of the rest by the numbers, if it is time; whether it is chosen now.

    The time runs from when the whole sample was handed over, or released if that is later. It is looked at once half-way, when only a lead that
    chance gives one time in two hundred ends it, and at its end, which takes the best whatever its lead. Who
    finds another process at it leaves it to that. The caller commits.
    """
    test = session.exec(
        select(SubjectTest)
        .join(EditionRow, col(EditionRow.id) == col(SubjectTest.edition_id))
        .where(
            SubjectTest.edition_id == edition_id,
            SubjectTest.chosen == "",
            EditionRow.status == EditionStatus.SUBMITTING,
        )
        .with_for_update(of=SubjectTest, skip_locked=True)
        .execution_options(populate_existing=True)
    ).first()
    if test is None:
        return False
    if test.until is None:
        if _is_waiting_for_its_turn(session, edition_id):
            return False
        test.until = max(at, _released(session, edition_id) or at) + timedelta(minutes=test.wait_minutes)
        session.add(test)
        session.flush()
    is_over = at >= test.until
    is_half_way = test.early and test.looked_at is None and at >= test.until - (test.until - _begun(test)) / 2
    if not (is_over or is_half_way):
        return False
    edition = session.get_one(EditionRow, edition_id)
    subjects = subjects_of(session, edition_id)
    figures = figures_of(session, edition, len(subjects), by=test.by)
    allowed = ERROR_HALF_WAY if not is_over else ERROR - ERROR_HALF_WAY if test.early else ERROR
    judged = judge(figures, by=test.by, error=allowed)
    if not is_over:
        test.looked_at = at
        session.add(test)
        session.flush()
        if not judged.is_clear:
            return False
    reason = judged.reason if is_over else f"{judged.reason}; decided half-way"
    return _write(session, edition, judged.subject, by=BY_NUMBERS, reason=reason, at=at)


def choose_by_word(session: Session, edition: EditionRow, letter: str, *, actor: str, at: datetime) -> None:
    """
    A person chooses the subject of the rest, whatever the numbers say. The caller commits.

    Raises:
        NotFound: nothing is tried with this edition, or it has no such subject.
        StateError: it is chosen already.
    """
    test = session.get(SubjectTest, edition.id)
    of = f"{edition.newsletter} of {edition.edition_date}"
    if test is None:
        raise NotFound(
            f"{of} has one subject, or was not frozen yet; newsletter subjects {edition.newsletter} says which."
        )
    subjects = subjects_of(session, edition.id or 0)
    known = SUBJECT_LETTERS[: len(subjects)]
    if letter not in known or len(letter) != 1:
        raise NotFound(f"{of} has no subject {letter.upper()!r}; there are {', '.join(known.upper())}.")
    figures = figures_of(session, edition, len(subjects), by=test.by)
    judged = judge(figures, by=test.by, error=ERROR)
    reason = f"decided by {actor}; at that time {judged.reason}"
    if not _write(session, edition, letter, by=actor, reason=reason, at=at):
        session.refresh(test)
        raise StateError(
            f"{of} has its subject already: {test.chosen.upper()} was chosen at {test.chosen_at:%Y-%m-%d %H:%M} UTC "
            f"by {test.chosen_by}."
        )


def end_test(session: Session, edition_id: int, *, reason: str, at: datetime) -> None:
    """End a test that has not chosen, with the first subject; part of the caller's transaction."""
    edition = session.get_one(EditionRow, edition_id)
    _write(session, edition, SUBJECT_LETTERS[0], by=BY_RULE, reason=reason, at=at)


def _write(session: Session, edition: EditionRow, letter: str, *, by: str, reason: str, at: datetime) -> bool:
    """The choice, if there is none yet; one row, once."""
    written: Any = session.execute(
        update(SubjectTest)
        .where(col(SubjectTest.edition_id) == edition.id, col(SubjectTest.chosen) == "")
        .values(chosen=letter, chosen_at=at, chosen_by=by, reason=reason)
        .execution_options(synchronize_session=False)
    )
    if written.rowcount != 1:
        return False
    retitle(session, edition.id or 0, subject_of(subjects_of(session, edition.id or 0), letter))
    log.info(
        "subjects.chosen", newsletter=edition.newsletter, date=edition.edition_date.isoformat(), subject=letter, by=by,
        reason=reason,
    )  # fmt: skip
    return True


def _begun(test: SubjectTest) -> datetime:
    if test.until is None:
        raise ValueError("the test has not begun")
    return test.until - timedelta(minutes=test.wait_minutes)


def _released(session: Session, edition_id: int) -> datetime | None:
    """When the last of the sample is released, where it is scheduled."""
    sample = (Batch.edition_id == edition_id, Batch.subject != "")
    return session.exec(select(func.max(Batch.release_at)).where(*sample)).one()


def _is_waiting_for_its_turn(session: Session, edition_id: int) -> bool:
    """Whether some of the sample was not tried to be sent yet; what is tried again does not keep the rest waiting."""
    untried = select(Batch.id).where(
        Batch.edition_id == edition_id,
        Batch.subject != "",
        Batch.state == BatchState.PENDING,
        Batch.attempt == 0,
    )
    return session.exec(untried.limit(1)).first() is not None


def subject_drawn(session: Session, edition_id: int, subscriber_id: int) -> tuple[str, bool]:
    """
    The letter of the subject a reader was frozen for, and whether they drew it in the sample.

    '' where the edition has but one, or has chosen none yet for the rest.
    """
    test = session.get(SubjectTest, edition_id)
    if test is None:
        return "", False
    moved = exists().where(
        col(ReaderException.batch_id) == col(Batch.id), col(ReaderException.subscriber_id) == subscriber_id,
        col(ReaderException.verdict) == "moved",
    )  # fmt: skip
    near = session.exec(
        select(Batch).where(
            Batch.edition_id == edition_id,
            col(Batch.lo_id) <= subscriber_id,
            col(Batch.hi_id) >= subscriber_id,
            ~moved,
        )
    )
    drawn = next((one.subject for one in near if subscriber_id in frozen.unpack(one.ids)), "")
    return drawn or test.chosen, bool(drawn)
