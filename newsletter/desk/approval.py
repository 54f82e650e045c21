"""
Go or no-go: who may let an edition go, until when, by which link, and what was decided.

An approval is of one content hash and of nothing else. Errors can never be approved; where approval is
required, each kind of warning needs a word of its own. Every decision is written down.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from sqlalchemy import Engine, delete, update
from sqlmodel import Session, col, select

from newsletter.catalogue import Newsletter, Publication
from newsletter.edition import Difference, EditionStatus
from newsletter.errors import NotFound, ProofFailed, StateError, ThinDay
from newsletter.outbox.ledger import move_edition
from newsletter.rendering.findings import Finding, Severity
from newsletter.store.orders import last_touched
from newsletter.store.session import writing
from newsletter.store.tables import ApprovalLink, Decision, EditionRow, Slot
from newsletter.store.telling import forget_told
from newsletter.times import due_at

SHORTEST = timedelta(minutes=15)
"""However late an edition is made up, its editors have so long, or half of what they have every day if that is less."""

HASH_SHOWN = 10
BY_RULE = "its own rule"
_KEPT = timedelta(days=30)
_SECRET = re.compile(r"[A-Za-z0-9_-]{43}")
_HASH = re.compile(r"[0-9a-f]{8,64}")


class Action(StrEnum):
    """What a link in an editor's mail does."""

    APPROVE = "approve"
    HOLD = "hold"


@dataclass(frozen=True, slots=True)
class Warned:
    """The findings of one *code*, which one word lets pass; *messages* say what and how to mend it."""

    code: str
    messages: tuple[str, ...]


# --- when ---------------------------------------------------------------------------------------


def slot_of(newsletter: Newsletter, publication: Publication, day: date) -> datetime:
    """When the edition of *day* is to go out."""
    return due_at(day, newsletter.schedule.at, newsletter.zone(publication))


def deadline_of(
    newsletter: Newsletter, publication: Publication, day: date, *, made_at: datetime
) -> datetime:
    """Until when editors may decide; *made_at* is when the edition was made up, by the operational clock."""
    after_slot = timedelta(minutes=newsletter.approval_deadline_minutes)
    told = slot_of(newsletter, publication, day) + after_slot
    return max(told, made_at + min(SHORTEST, (newsletter.lead + after_slot) / 2))


def in_words(moment: datetime, newsletter: Newsletter, publication: Publication, day: date) -> str:
    """A moment on the newsletter's clocks; with the date when it is not *day*."""
    zone = newsletter.zone(publication)
    local = moment.astimezone(ZoneInfo(zone))
    return f"{local:%H:%M}{'' if local.date() == day else f' on {local.date()}'} ({zone})"


def made_up_at(session: Session, row: EditionRow) -> datetime:
    """When the edition was last made up, by the operational clock."""
    slot = _slot(session, row)
    return slot.recorded_at if slot is not None else row.made_at


def is_touched(session: Session, row: EditionRow) -> bool:
    """Whether somebody has decided about the edition since it was made up."""
    slot = _slot(session, row)
    return slot is None or slot.reason != row.reason


def is_outdated(session: Session, row: EditionRow) -> bool:
    """Whether an editor gave an order since the edition was made up: it does not hold what they want."""
    touched = last_touched(session, row.newsletter, row.edition_date)
    return touched is not None and touched > made_up_at(session, row)


def _slot(session: Session, row: EditionRow) -> Slot | None:
    return session.exec(
        select(Slot).where(Slot.newsletter == row.newsletter, Slot.local_date == row.edition_date)
    ).first()


# --- decisions ----------------------------------------------------------------------------------


def record(
    session: Session, row: EditionRow, verb: str, *, at: datetime, actor: str = "", detail: str = ""
) -> None:
    """Write a decision down; part of the caller's transaction."""
    session.add(
        Decision(
            edition_id=row.id or 0, at=at, verb=verb, actor=actor, content_hash=row.content_hash, detail=detail
        )
    )  # fmt: skip


def decisions(session: Session, slug: str, day: date) -> tuple[Decision, ...]:
    """What was decided about a newsletter's edition of *day* and its corrections, oldest first."""
    wanted = (
        select(Decision)
        .join(EditionRow, col(EditionRow.id) == col(Decision.edition_id))
        .where(EditionRow.newsletter == slug, EditionRow.edition_date == day)
        .order_by(col(Decision.id))
    )
    return tuple(session.exec(wanted).all())


def warnings_of(row: EditionRow) -> tuple[Warned, ...]:
    """The warnings of an edition's proof, by code."""
    found: dict[str, dict[str, None]] = {}
    for finding in row.findings:
        if finding["severity"] == "warning":
            found.setdefault(finding["code"], {})[finding["message"]] = None
    return tuple(Warned(code, tuple(messages)) for code, messages in sorted(found.items()))


def let_pass(codes: Sequence[str], *, by: str, at: datetime) -> list[dict[str, str]]:
    """The record of warnings that went out: code, who let them pass and when."""
    return [{"code": code, "by": by, "at": at.isoformat(timespec="seconds")} for code in codes]


def approve_edition(
    session: Session,
    newsletter: Newsletter,
    row: EditionRow,
    *,
    actor: str,
    at: datetime,
    despite: Sequence[str] = (),
    content_hash: str = "",
    how: str = "",
) -> bool:
    """
    Let the stored edition go as it was proofed, if it still waits; whether it did.

    *despite*: codes of warnings the editor lets pass. *content_hash*: what they saw, whole or its beginning.

    Raises:
        ThinDay: there is nothing in it.
        ProofFailed: it has errors, or warnings without a word.
        StateError: it is not what they saw, or orders were given since it was made up.
    """
    session.refresh(row, with_for_update=True)  # nobody makes it anew between this look and the move
    what = f"The {newsletter.noun} of {row.edition_date}"
    if content_hash and (not _HASH.fullmatch(content_hash) or not row.content_hash.startswith(content_hash)):
        raise StateError(
            f"{what} is not the one you saw: its hash is {row.content_hash[:HASH_SHOWN] or 'none'}, "
            f"not {content_hash[:HASH_SHOWN]}. Look at it again, then approve that."
        )
    if row.snapshot is None:
        raise ThinDay(f"{what} holds nothing that could go out: {row.reason}")
    check_proof(newsletter, row)
    waits = row.status in (EditionStatus.DRAFT, EditionStatus.HELD)
    if waits and is_outdated(session, row):
        raise StateError(
            f"{what} was made up before the last order for it. Make it anew, look, and approve that: "
            f"newsletter run --only {newsletter.slug}"
        )
    warned = {one.code: one for one in warnings_of(row)}
    _check_words(newsletter, what, warned, despite)
    moved = move_edition(
        session, row.id or 0, to=EditionStatus.APPROVED, frm=(EditionStatus.DRAFT, EditionStatus.HELD),
        approved_at=at, approved_by=actor, reason=f"approved by {actor}{how}",
        despite=let_pass(sorted(warned), by=actor, at=at),
    )  # fmt: skip
    if moved:
        passed = f"despite {', '.join(sorted(warned))}" if warned else ""
        record(session, row, "approved", at=at, actor=f"{actor}{how}", detail=passed)
    return moved


def check_proof(newsletter: Newsletter, row: EditionRow) -> None:
    """
    Keep an edition with an unmended error from going on.

    Raises:
        ProofFailed: names up to three of them.
    """
    errors = [one for one in map(Finding.from_json, row.findings) if one.severity == Severity.ERROR]
    if errors:
        said = list(
            dict.fromkeys(f"{one.message} {one.remedy}".strip() for one in errors)
        )  # once, not once a variant
        raise ProofFailed(
            f"The {newsletter.noun} of {row.edition_date} has errors in its proof, which nobody can approve: "
            f"{' '.join(said[:3])} "
            f"See newsletter proof {newsletter.slug}"
        )


def _check_words(
    newsletter: Newsletter, what: str, warned: dict[str, Warned], despite: Sequence[str]
) -> None:
    unknown = [code for code in despite if code not in warned]
    if unknown:
        there = f"there are {', '.join(sorted(warned))}" if warned else "it has none"
        raise StateError(f"{what} has no warning {unknown[0]!r} that could be let pass; {there}.")
    lacking = [one for code, one in sorted(warned.items()) if code not in despite]
    if newsletter.approval == "required" and lacking:
        codes = " ".join(f"--despite {code}" for code in sorted(warned))
        raise ProofFailed(
            f"{what} has warnings that need your word: {'; '.join(f'{one.code}: {one.messages[0]}' for one in lacking)} "
            f"Mend them, or: newsletter approve {newsletter.slug} {codes}"
        )


def hold_edition(
    session: Session, row: EditionRow, *, actor: str, at: datetime, reason: str = "", how: str = ""
) -> bool:
    """Take an approval back, or keep an edition from going, if it has not begun to go; whether it had not."""
    session.refresh(row, with_for_update=True)
    frm = (EditionStatus.DRAFT, EditionStatus.APPROVED, EditionStatus.HELD, EditionStatus.SKIPPED)
    words = f"held by {actor}{how}{': ' + reason if reason else ''}"
    moved = move_edition(
        session, row.id or 0, to=EditionStatus.HELD, frm=frm, reason=words, approved_at=None, approved_by="", despite=[]
    )  # fmt: skip
    if moved:
        record(session, row, "held", at=at, actor=f"{actor}{how}", detail=reason)
    return moved


def decide_unapproved(
    session: Session, newsletter: Newsletter, publication: Publication, row: EditionRow, *, at: datetime
) -> bool:
    """
    Do what the newsletter's own rule says with an edition nobody has approved; whether it still waited.

    An edition with errors, or one found later than the newsletter may be late, is held whatever the rule says.
    """
    session.refresh(row, with_for_update=True)
    deadline = deadline_of(newsletter, publication, row.edition_date, made_at=made_up_at(session, row))
    late = f"Nobody approved it by {in_words(deadline, newsletter, publication, row.edition_date)}."
    has_errors = any(finding["severity"] == "error" for finding in row.findings)
    due = slot_of(newsletter, publication, row.edition_date)
    latest = timedelta(
        hours=newsletter.schedule.max_lateness_hours, minutes=max(newsletter.approval_deadline_minutes, 0)
    )
    too_late = at - due > latest + SHORTEST
    rule = "hold" if has_errors or too_late or row.snapshot is None else newsletter.unapproved
    slug, codes = newsletter.slug, [one.code for one in warnings_of(row)]
    values: dict[str, object] = {}
    if rule == "send":
        to, words = EditionStatus.APPROVED, f"{late} Sent by {BY_RULE}."
        values = {"approved_at": at, "approved_by": BY_RULE, "despite": let_pass(codes, by=BY_RULE, at=at)}
    elif rule == "skip":
        to, words = EditionStatus.SKIPPED, f"{late} Skipped by {BY_RULE}."
    else:
        to = EditionStatus.HELD
        words = f"{late} Held by {BY_RULE}: newsletter approve {slug} still lets it go, newsletter spike {slug} ends it."
    moved = move_edition(session, row.id or 0, to=to, frm=(EditionStatus.DRAFT,), reason=words, **values)
    if moved:
        passed = f", despite {', '.join(codes)}" if rule == "send" and codes else ""
        record(session, row, "unapproved", at=at, actor=BY_RULE, detail=f"{rule}{passed}")
    if moved and rule == "skip" and (slot := _slot(session, row)) is not None:
        slot.state = "skipped"  # its reason stays that of the make-up: see is_touched
        session.add(slot)
    return moved


# --- links --------------------------------------------------------------------------------------


def asked_key(edition_id: int, content_hash: str = "", editor: str = "") -> str:
    """The key under which it is remembered that an editor was asked about an edition."""
    if not content_hash:
        return f"asked {edition_id} "
    who = hashlib.sha256(editor.encode()).hexdigest()[:16]
    return f"asked {edition_id} {content_hash[:16]} {who}"


def make_links(
    session: Session, row: EditionRow, editor: str, *, now: datetime, expires_at: datetime
) -> dict[Action, str]:
    """One link for each action, for one editor and the edition as it is; the secrets that stand in them."""
    made = {action: secrets.token_urlsafe(32) for action in Action}
    for action, secret in made.items():
        session.add(
            ApprovalLink(
                secret_hash=_hashed(secret), edition_id=row.id or 0, content_hash=row.content_hash, action=action,
                editor=editor, made_at=now, expires_at=expires_at,
            )
        )  # fmt: skip
    return made


def find_link(session: Session, secret: str) -> ApprovalLink | None:
    """The link of *secret*, open or not; None: there is none."""
    return session.get(ApprovalLink, _hashed(secret)) if _SECRET.fullmatch(secret) else None


def use_link(session: Session, secret: str, *, now: datetime) -> ApprovalLink:
    """
    Use the link of *secret* up; the caller's transaction keeps that.

    Raises:
        NotFound: there is none.
        StateError: it was used, or has expired.
    """
    link = find_link(session, secret)
    if link is None:
        raise NotFound("This link is not one of ours, or it was cut off. Use the link in the mail again.")
    used = session.execute(
        update(ApprovalLink)
        .where(
            col(ApprovalLink.secret_hash) == link.secret_hash, col(ApprovalLink.used_at).is_(None),
            col(ApprovalLink.expires_at) > now,
        )
        .values(used_at=now)
        .execution_options(synchronize_session=False)
    )  # fmt: skip
    if used.rowcount != 1:  # type: ignore[attr-defined]
        raise StateError("This link was used before, or it has expired. Nothing was changed by it now.")
    return link


def replaced(session: Session, row: EditionRow, *, at: datetime, changes: str) -> None:
    """Write down that the edition holds something else now, and end every link that speaks of what it held."""
    session.execute(
        update(ApprovalLink)
        .where(
            col(ApprovalLink.edition_id) == row.id, col(ApprovalLink.used_at).is_(None), col(ApprovalLink.expires_at) > at
        )
        .values(expires_at=at)
        .execution_options(synchronize_session=False)
    )  # fmt: skip
    forget_told(session, asked_key(row.id or 0))
    record(session, row, "changed", at=at, detail=changes)


def sweep_links(engine: Engine, *, now: datetime) -> None:
    """Delete links that ended a month ago."""
    with writing(engine) as session:
        session.execute(delete(ApprovalLink).where(col(ApprovalLink.expires_at) < now - _KEPT))


def changes_in_words(told: Difference) -> str:
    """What an edition made anew has beside what it had, in a sentence or two."""
    parts = [f"new: “{headline}”" for _, headline in told.added]
    parts += [f"gone: “{headline}”" for _, headline in told.gone]
    parts += [f"{name.replace('_', '-')}: “{now}” instead of “{was}”" for name, was, now in told.words]
    return "; ".join(parts) or "the order of the stories, a story's words or the look"


def _hashed(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
