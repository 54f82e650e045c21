"""
A correction: the stored edition with what was put right, proofed, and frozen for whoever has the wrong one.

Nothing is picked again. What the provider still keeps is called back first, as far as it lets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy.exc import IntegrityError

from newsletter.catalogue import Newsletter
from newsletter.desk.looking import Made
from newsletter.desk.making import Making
from newsletter.edition import EditionStatus, Rendered, Snapshot
from newsletter.errors import ProofFailed, StateError
from newsletter.makeup import corrected
from newsletter.outbox.correct import check_landed, have_wrong, take_over
from newsletter.outbox.doubt import call_back_wrong
from newsletter.outbox.pace import largest_batch
from newsletter.picking.picks import Order, Picks
from newsletter.store.editions import with_chosen_subject, write_content
from newsletter.store.orders import load_orders
from newsletter.store.session import reading, writing
from newsletter.store.tables import EditionRow

_WENT = (EditionStatus.SUBMITTING, EditionStatus.PAUSED, EditionStatus.SUBMITTED)


def make_correction(
    desk: Making, newsletter: Newsletter, wrong: EditionRow, *, now: datetime, actor: str, subject: str = ""
) -> int:
    """
    Make and freeze the revision that corrects *wrong*, the newest one of its date; return its id.

    Raises:
        StateError: nothing has gone out that could be corrected, something is in flight, or nothing has changed.
        ProofFailed: the corrected edition has errors.
    """
    day = wrong.edition_date
    with reading(desk.engine) as session:
        orders = load_orders(session, newsletter.slug, day)
        check_landed(session, newsletter.slug, day)
    # A correction that was spiked half-way left readers with what it corrects.
    went_before = wrong.status == EditionStatus.SPIKED and wrong.corrects_id is not None
    if not (wrong.status in _WENT or went_before) or wrong.snapshot is None:
        raise StateError(
            f"The {newsletter.noun} of {day} is {wrong.status}: only what goes out or has gone out is corrected."
        )
    before, had = desk.stored(wrong)
    if before is None:
        raise StateError(f"The {newsletter.noun} of {day} holds nothing that could be corrected.")
    wording = desk.wording(newsletter, day)
    known, told = _as_known(desk, wrong, before, had, orders)
    snapshot = corrected(
        known, told, revision=wrong.revision + 1, prefix=newsletter.correction, wording=wording
    )
    snapshot = desk.with_pictures(snapshot)
    if subject:
        snapshot = replace(snapshot, subject=subject)
    made = desk.proofed(
        newsletter,
        Picks(newsletter.slug, (), (), ()),
        snapshot,
        desk.renderer.render_all(snapshot),
        now=wrong.made_at,  # a story is as old as it was when it was chosen
    )
    errors = list(
        dict.fromkeys(f"{one.message} {one.remedy}" for one in made.findings if one.severity == "error")
    )
    if errors:
        raise ProofFailed(
            f"The correction of the {newsletter.noun} has errors in its proof: {' '.join(errors[:3])}"
        )
    # Compared without the mark of the correction, which is in every variant.
    mended_one = corrected(before, orders, revision=wrong.revision, prefix="", wording=wording)
    mended_one = replace(desk.with_pictures(mended_one), other_subjects=before.other_subjects)
    mended = desk.renderer.render_all(mended_one)
    same = {one.variant: one for one in had}
    changed = [one.variant for one in mended if same.get(one.variant) != one]
    if not (changed or subject or went_before):
        raise StateError(
            f"Nothing of the {newsletter.noun} of {day} would change; give an edit, a drop or words first, or mend "
            "its words file or a template."
        )
    if subject:
        changed = changed or [one.variant for one in had]
    with reading(desk.engine) as session:
        has_it = have_wrong(session, newsletter.slug, day, changed=changed)
        wrong_batches = {batch.id or 0 for batch, readers in has_it if readers}
    call_back_wrong(desk.sender, wrong_batches)
    try:
        return _store(desk, newsletter, wrong, made, changed=changed, now=now, actor=actor)
    except IntegrityError as error:
        raise StateError(
            f"Somebody else corrects the {newsletter.noun} of {day} at this moment; "
            f"see newsletter status {newsletter.slug} before you correct it again."
        ) from error


def _as_known(
    desk: Making, wrong: EditionRow, before: Snapshot, had: Sequence[Rendered], orders: Sequence[Order]
) -> tuple[Snapshot, Sequence[Order]]:
    """
    The wrong edition with the one subject it is known by, and what corrects it: nothing is tried with a correction.

    The order that gave the first of several subjects is none to put that in the place of the chosen one.
    """
    if not before.other_subjects:
        return before, orders
    with reading(desk.engine) as session:
        known = with_chosen_subject(session, wrong.id or 0, had)[0].subject
    told = [
        replace(order, fields={name: text for name, text in order.fields.items() if (name, text) != ("subject", before.subject)})
        for order in orders
    ]  # fmt: skip
    return replace(before, subject=known, other_subjects=()), told


def _store(
    desk: Making,
    newsletter: Newsletter,
    wrong: EditionRow,
    made: Made,
    *,
    changed: Sequence[str],
    now: datetime,
    actor: str,
) -> int:
    at = desk.clock()
    size = largest_batch(newsletter, desk.catalogue.publication, at, desk.provider.max_recipients)
    with writing(desk.engine) as session:
        row = EditionRow(
            newsletter=wrong.newsletter, edition_date=wrong.edition_date, revision=wrong.revision + 1,
            corrects_id=wrong.id, status=EditionStatus.APPROVED, reason=f"a correction by {actor}", made_at=now,
            template_hash=desk.renderer.template_hash(newsletter.slug), content_hash=made.hash,
            findings=[finding.as_json() for finding in made.findings], link_scope=wrong.link_scope,
            approved_at=at, approved_by=actor,
        )  # fmt: skip
        session.add(row)
        session.flush()
        if made.snapshot is not None:
            write_content(session, row, made.snapshot, made.renderings)
        session.flush()
        take_over(session, row, changed=changed, now=now, at=at, size=size)
        return row.id or 0
