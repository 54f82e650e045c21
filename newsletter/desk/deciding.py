"""
Go or no-go, the brake, and a person's word on what is uncertain.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime

from sqlmodel import Session, col, exists, select

from newsletter.catalogue import Newsletter
from newsletter.desk.approval import (
    Action,
    approve_edition,
    deadline_of,
    decide_unapproved,
    hold_edition,
    is_outdated,
    made_up_at,
    record,
    use_link,
)
from newsletter.desk.looking import Account
from newsletter.desk.making import Making
from newsletter.edition import EditionStatus
from newsletter.errors import NotFound, StateError
from newsletter.outbox.doubt import Word, settle_by_word
from newsletter.outbox.ledger import BatchState, move_edition, withdraw
from newsletter.outbox.settle import close
from newsletter.outbox.subjects import choose_by_word, end_test
from newsletter.store.editions import (
    current_edition,
    revisions,
)
from newsletter.store.session import reading, writing
from newsletter.store.tables import Batch, EditionRow
from newsletter.store.telling import owe
from newsletter.wakeups import defer_drain, has_queue

_ORDERED = {EditionStatus.SUBMITTING: "resumed"}
"""How the order is called that leads to a state, where it has another name."""


class Deciding(Making):
    """What a desk does when a person, a link or a rule decides."""

    def approve(
        self,
        newsletter: Newsletter,
        day: date,
        *,
        actor: str,
        despite: Sequence[str] = (),
        content_hash: str = "",
    ) -> Account:
        """
        Let the stored edition go, as it was proofed; *despite* and *content_hash* as in ``approve_edition``.

        Raises:
            ThinDay: there is nothing in it.
            ProofFailed: a finding of severity error blocks it, or a warning lacks the editor's word.
            StateError: it is not waiting for an approval, or not what the editor saw.
        """
        with writing(self.engine) as session:
            row = self._row(session, newsletter, day)
            moved = approve_edition(
                session, newsletter, row, actor=actor, at=self.clock(), despite=despite, content_hash=content_hash
            )  # fmt: skip
            return self._moved(session, row, moved, EditionStatus.APPROVED)

    def hold(self, newsletter: Newsletter, day: date, *, actor: str, reason: str = "") -> Account:
        """Take an approval back, or keep a draft from going."""
        with writing(self.engine) as session:
            row = self._row(session, newsletter, day)
            moved = hold_edition(session, row, actor=actor, at=self.clock(), reason=reason)
            return self._moved(session, row, moved, EditionStatus.HELD)

    def act_by_link(self, secret: str, *, despite: Sequence[str] = (), reason: str = "") -> Account:
        """
        Approve or hold by the link of an editor's mail; a link that could not act is still unused.

        Raises:
            NotFound: there is no such link or newsletter.
            ThinDay, ProofFailed: as ``approve``.
            StateError: the link was used or has expired, or the edition is another one by now.
        """
        with writing(self.engine) as session:
            link = use_link(session, secret, now=self.clock())
            row = session.get_one(EditionRow, link.edition_id)
            newsletter = self.catalogue[row.newsletter]
            at, how = self.clock(), " by the link in their mail"
            if link.action == Action.HOLD:
                moved = hold_edition(session, row, actor=link.editor, at=at, reason=reason, how=how)
                return self._moved(session, row, moved, EditionStatus.HELD)
            moved = approve_edition(
                session, newsletter, row, actor=link.editor, at=at, despite=despite,
                content_hash=link.content_hash, how=how,
            )  # fmt: skip
            return self._moved(session, row, moved, EditionStatus.APPROVED)

    def decide(self, newsletter: Newsletter, day: date, *, now: datetime) -> Account | None:
        """
        Past its deadline do with an edition that waits what its newsletter's rule says; None: nothing to do yet.

        An edition with orders that it does not hold is made anew instead, for which its editors have time.
        """
        publication, at = self.catalogue.publication, self.clock()
        with reading(self.engine) as session:
            row = current_edition(session, newsletter.slug, day)
            if row is None or row.status != EditionStatus.DRAFT:
                return None
            if at < deadline_of(newsletter, publication, day, made_at=made_up_at(session, row)):
                return None
            outdated = is_outdated(session, row)
        if not outdated:
            with writing(self.engine) as session:
                row = self._row(session, newsletter, day)
                if not decide_unapproved(session, newsletter, publication, row, at=at):
                    return None
                owe(session, f"decided {newsletter.slug} {day} {int(at.timestamp())}", at=at)
                session.refresh(row)
                return self._account(session, row)
        return self.prepare(newsletter, day, now=now)

    def choose_subject(self, newsletter: Newsletter, day: date, letter: str, *, actor: str) -> None:
        """
        Give the rest of an edition the subject of that *letter*, before the numbers do; wakes who can send it.

        Raises:
            NotFound: there is no such edition or subject, or it has but one.
            StateError: its subject is chosen already.
        """
        with writing(self.engine) as session:
            row = self._row(session, newsletter, day)
            choose_by_word(session, row, letter, actor=actor, at=self.clock())
            record(session, row, "subject", at=self.clock(), actor=actor, detail=letter.upper())
        self.wake(newsletter, day)

    def spike(self, newsletter: Newsletter, day: date, *, actor: str, reason: str = "") -> Account:
        """Kill an edition, also while it is being sent: what has gone has gone, the rest is taken back."""
        frm = (
            EditionStatus.DRAFT, EditionStatus.APPROVED, EditionStatus.HELD, EditionStatus.SKIPPED, EditionStatus.PAUSED,
            EditionStatus.SUBMITTING,
        )  # fmt: skip
        words = f"spiked by {actor}{': ' + reason if reason else ''}"
        with writing(self.engine) as session:
            moved = self._move(session, newsletter, day, to=EditionStatus.SPIKED, frm=frm, reason=words)
            for row in moved:
                record(session, row, "spiked", at=self.clock(), actor=actor, detail=reason)
                withdraw(session, row.id or 0, at=self.clock(), reason=words)
                end_test(session, row.id or 0, reason=f"not tried to the end: {words}", at=self.clock())
            return self._account(session, moved[0])

    def pause(self, newsletter: Newsletter, day: date, *, actor: str) -> Account:
        """Stop claiming batches; those in flight still settle."""
        return self._order(
            newsletter, day, EditionStatus.PAUSED, EditionStatus.SUBMITTING, "paused", actor,
            more=f"; newsletter resume {newsletter.slug} --date {day} lets it go on",
        )  # fmt: skip

    def resume(self, newsletter: Newsletter, day: date, *, actor: str) -> Account:
        """Let a paused edition go on: idle workers are woken; on one machine ``send`` continues it."""
        account = self._order(
            newsletter, day, EditionStatus.SUBMITTING, EditionStatus.PAUSED, "resumed", actor
        )
        self.wake(newsletter, day)
        return account

    def wake(self, newsletter: Newsletter, day: date) -> None:
        """Wake a worker for an edition that has something to be sent again; without workers do nothing."""
        if has_queue(self.engine):
            with writing(self.engine) as session:
                for row in revisions(session, newsletter.slug, day):
                    if row.status == EditionStatus.SUBMITTING:
                        defer_drain(session, row.id or 0)

    def _order(
        self, newsletter: Newsletter, day: date, to: EditionStatus, frm: EditionStatus, verb: str, actor: str, *,
        more: str = "",
    ) -> Account:  # fmt: skip
        with writing(self.engine) as session:
            moved = self._move(session, newsletter, day, to=to, frm=(frm,), reason=f"{verb} by {actor}{more}")
            for row in moved:
                record(session, row, verb, at=self.clock(), actor=actor)
                if to is EditionStatus.SUBMITTING:
                    close(
                        session, row.id or 0, at=self.clock()
                    )  # it may have landed whole while it was paused
                session.refresh(row)
            return self._account(session, moved[0])

    def _moved(self, session: Session, row: EditionRow, moved: bool, to: EditionStatus) -> Account:
        newsletter = self.catalogue[row.newsletter]
        if not moved:
            raise StateError(
                f"The {newsletter.noun} of {row.edition_date} is {row.status}; it cannot be {_ORDERED.get(to, to)} "
                f"from there. {_instead(row.status, to, newsletter.slug)}".strip()
            )
        session.refresh(row)
        return self._account(session, row)

    def _move(
        self, session: Session, newsletter: Newsletter, day: date, *, to: EditionStatus, frm: Iterable[EditionStatus],
        **values: object,
    ) -> list[EditionRow]:  # fmt: skip
        """
        Move every revision of a date that may be moved; return them, the newest first.

        Raises:
            NotFound: there is no edition of that date.
            StateError: none of them may be moved; says what to do instead.
        """
        origins = tuple(frm)
        newest = self._row(session, newsletter, day)
        moved = [
            row
            for row in revisions(session, newsletter.slug, day)
            if move_edition(session, row.id or 0, to=to, frm=origins, **values)
        ]
        if not moved:
            raise StateError(
                f"The {newsletter.noun} of {day} is {newest.status}; it cannot be {_ORDERED.get(to, to)} from there. "
                f"{_instead(newest.status, to, newsletter.slug)}".strip()
            )
        for row in moved:
            session.refresh(row)
        return moved

    def settle(
        self,
        newsletter: Newsletter,
        day: date | None,
        batch: int,
        word: Word,
        *,
        actor: str,
        revision: int = 0,
    ) -> date:
        """
        A person's word on an uncertain batch; return the date of its edition.

        Without *day* or *revision* it is the one whose batch of that number is uncertain.

        Raises:
            NotFound: there is no such edition or batch.
            StateError: the batch is not uncertain, or several are and it is not said which.
        """
        row = self._in_doubt(newsletter, day, revision, batch)
        self.listen()
        settle_by_word(self.engine, row.id or 0, batch, word, actor=actor, at=self.clock())
        if word == "resend":
            self.wake(newsletter, row.edition_date)
        return row.edition_date

    def settle_all(
        self, newsletter: Newsletter, day: date | None, word: Word, *, actor: str, revision: int = 0
    ) -> tuple[date, int]:
        """
        A person's word on every batch of an edition that is still uncertain; return its date, and how many they were.

        What an event has settled by now is left as it is. Raises as ``settle``.
        """
        row = self._in_doubt(newsletter, day, revision)
        self.listen()
        with reading(self.engine) as session:
            in_doubt = session.exec(
                select(Batch.seq)
                .where(Batch.edition_id == row.id, Batch.state == BatchState.UNCERTAIN)
                .order_by(col(Batch.seq))
            ).all()
        for batch in in_doubt:
            settle_by_word(self.engine, row.id or 0, batch, word, actor=actor, at=self.clock())
        if in_doubt and word == "resend":
            self.wake(newsletter, row.edition_date)
        return row.edition_date, len(in_doubt)

    def _in_doubt(
        self, newsletter: Newsletter, day: date | None, revision: int, batch: int | None = None
    ) -> EditionRow:
        """The edition a word on uncertain batches is about: of *batch*, or without it of all."""
        with reading(self.engine) as session:
            wanted = select(EditionRow).where(EditionRow.newsletter == newsletter.slug)
            if day is not None:
                wanted = wanted.where(EditionRow.edition_date == day)
            if revision:
                wanted = wanted.where(EditionRow.revision == revision)
            wanted = wanted.order_by(col(EditionRow.edition_date).desc(), col(EditionRow.revision).desc())
            uncertain = exists().where(
                col(Batch.edition_id) == col(EditionRow.id), col(Batch.state) == BatchState.UNCERTAIN,
                *(() if batch is None else (col(Batch.seq) == batch,)),
            )  # fmt: skip
            meant = session.exec(wanted.where(uncertain)).all() or session.exec(wanted.limit(1)).all()
        if not meant:
            which = f" on {day}" if day else ""
            which += f" of revision {revision}" if revision else ""
            raise NotFound(
                f"There is no edition of {newsletter.slug}{which} to settle; see newsletter status."
            )
        if len(meant) > 1:
            what = "Batches are" if batch is None else f"Batch {batch} is"
            them = ", ".join(f"{row.edition_date} revision {row.revision}" for row in meant)
            raise StateError(f"{what} uncertain in {them}: say which with --date and --revision.")
        return meant[0]


def _instead(status: str, to: EditionStatus, slug: str) -> str:
    """What to do when an edition that is *status* cannot be *to*."""
    match EditionStatus(status), to:
        case EditionStatus.SUBMITTED, _:
            return f"It has gone; what is wrong in it is put right with newsletter correct {slug}."
        case EditionStatus.SPIKED, _:
            return "What was spiked stays so."
        case EditionStatus.SUBMITTING, EditionStatus.SUBMITTING:
            return f"It is not paused; go on with newsletter send {slug}."
        case EditionStatus.SUBMITTING | EditionStatus.PAUSED, EditionStatus.HELD | EditionStatus.APPROVED:
            return f"It is being sent already: newsletter pause, resume or spike {slug}."
        case EditionStatus.PAUSED, EditionStatus.PAUSED:
            return (
                f"It stands still; newsletter resume {slug} lets it go on, newsletter spike {slug} ends it."
            )
        case _, EditionStatus.PAUSED | EditionStatus.SUBMITTING:
            return f"It is not being sent yet; newsletter hold {slug} keeps it from going."
        case _:
            return ""
