"""What the preview's pages are told: editions, stories, findings and orders as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from newsletter.catalogue import Newsletter
from newsletter.edition import SUBJECT_LETTERS, EditionStatus, Item, Rendered, Snapshot
from newsletter.picking.picks import EDITABLE, Order, Pick
from newsletter.rendering.findings import Finding
from newsletter.rendering.proof import CLIP_BYTES, tracked_bytes
from newsletter.store.orders import iso_exact
from newsletter.times import iso
from newsletter.web.preview.live import Shown
from newsletter.wording import LINES

_DROPPED = 200


def wall_state(newsletter: Newsletter, shown: Shown) -> dict[str, Any]:
    """One newsletter on the wall."""
    severities = [str(finding.severity) for finding in shown.findings]
    return {
        "newsletter": newsletter.slug,
        "name": newsletter.name,
        "accent": newsletter.theme.accent,
        "date": shown.day.isoformat(),
        "version": shown.version,
        "status": shown.status,
        "approval": newsletter.approval,
        "reason": shown.reason,
        "hash": shown.hash,
        "stories": shown.snapshot.stories if shown.snapshot else 0,
        "shortfalls": list(shown.picks.shortfalls) if shown.picks else [],
        "filled": list(shown.picks.filled) if shown.picks else [],
        "fault": _fault(shown),
        "proofed": shown.is_proofed,
        "errors": severities.count("error"),
        "warnings": severities.count("warning"),
        "notes": severities.count("note"),
        "variants": [_variant_state(shown, one) for one in shown.renderings],
    }


def _variant_state(shown: Shown, rendered: Rendered) -> dict[str, Any]:
    its = [one for one in shown.findings if one.variant in ("", rendered.variant)]
    return {
        "variant": rendered.variant,
        "subject": rendered.subject,
        "subjects": list(rendered.subjects),
        "preheader": rendered.preheader,
        "bytes": rendered.size_bytes,
        "errors": sum(one.severity == "error" for one in its),
        "warnings": sum(one.severity == "warning" for one in its),
    }


def edition_state(newsletter: Newsletter, shown: Shown, orders: Sequence[Order]) -> dict[str, Any]:
    """One edition with everything an editor may change."""
    return {
        **wall_state(newsletter, shown),
        "as_of": iso_exact(shown.touched_at) if shown.touched_at else "",
        "stored": shown.is_stored,
        "go": _go(newsletter, shown),
        "clip": CLIP_BYTES,
        "sizes": {
            one.variant: {"bytes": one.size_bytes, "tracked": tracked_bytes(one)} for one in shown.renderings
        },
        "findings": [_finding(one) for one in shown.findings],
        "sections": _sections(newsletter, shown),
        "dropped": _dropped(shown),
        "lines": _lines(shown.snapshot),
        "words": _words(newsletter, shown.snapshot),
        "orders": [_order(one) for one in orders],
        "can_undo": any(one.undone_at is None for one in orders),
        "can_redo": _can_redo(orders),
    }


def _lines(snapshot: Snapshot | None) -> dict[str, str]:
    """The plain lines; below the subject those that are tried beside it, and room for another."""
    lines = {name: getattr(snapshot, name, "") for name in LINES}
    others = snapshot.other_subjects if snapshot else ()
    tried = {
        f"subject.{letter}": one for letter, one in zip(SUBJECT_LETTERS[1:], (*others, ""), strict=False)
    }
    return {"subject": lines.pop("subject"), **tried, **lines}


def _can_redo(orders: Sequence[Order]) -> bool:
    """Whether something was undone and no order given since."""
    undone = [one.undone_at for one in orders if one.undone_at is not None]
    given = [one.given_at for one in orders if one.undone_at is None and one.given_at is not None]
    return bool(undone) and not (given and max(given) > max(undone))


def _go(newsletter: Newsletter, shown: Shown) -> dict[str, Any]:
    """Whether an editor may let it go or hold it, and which warnings want their word."""
    warned: dict[str, list[str]] = {}
    for one in shown.findings:
        if one.severity == "warning" and one.message not in warned.setdefault(one.code, []):
            warned[one.code].append(one.message)
    errors = any(one.severity == "error" for one in shown.findings)
    waits = shown.status in ("none", EditionStatus.DRAFT, EditionStatus.HELD, EditionStatus.SKIPPED)
    return {
        "required": newsletter.approval == "required",
        "warned": [{"code": code, "messages": messages} for code, messages in sorted(warned.items())],
        "can_approve": bool(
            waits and shown.renderings and shown.is_proofed and not errors and shown.fault is None
        ),
        "can_hold": shown.status in (EditionStatus.DRAFT, EditionStatus.APPROVED),
    }


def _fault(shown: Shown) -> dict[str, Any] | None:
    if shown.fault is None:
        return None
    return {"message": shown.fault.message, "template": shown.fault.template, "line": shown.fault.line}


def _finding(one: Finding) -> dict[str, Any]:
    return one.as_json()


def _sections(newsletter: Newsletter, shown: Shown) -> list[dict[str, Any]]:
    items = {item.url: item for item in shown.snapshot.items} if shown.snapshot else {}
    picks = {pick.article.url: pick for pick in shown.picks.picked} if shown.picks else {}
    made = {section.id: section for section in shown.snapshot.sections} if shown.snapshot else {}
    return [
        {
            "id": section.id,
            "heading": section.heading or section.id,
            "words": section.words or "",
            "max": section.max,
            "items": [
                _story(items[item.url], picks.get(item.url))
                for item in (made[section.id].items if section.id in made else ())
            ],
        }
        for section in newsletter.sections
    ]


def _story(item: Item, pick: Pick | None) -> dict[str, Any]:
    image = item.image
    return {
        "url": item.url, "headline": item.headline, "standfirst": item.standfirst, "kicker": item.kicker,
        "byline": item.byline, "translator": item.translator, "paper": item.paper, "image_url": image.url if image else "", "image_alt": image.alt if image else "",
        "image_caption": image.caption if image else "", "image_credit": image.credit if image else "",
        "source": item.source_name, "language": item.language, "direction": item.direction, "rights": item.rights,
        "score": pick.score if pick else None, "reasons": list(pick.reasons) if pick else [],
        "pinned": bool(pick and pick.pinned), "published_at": iso(item.published_at),
    }  # fmt: skip


def _dropped(shown: Shown) -> list[dict[str, Any]]:
    """What was not chosen, the nearest misses first: an editor looks for these."""
    if shown.picks is None:
        return []
    near = sorted(shown.picks.dropped, key=lambda drop: drop.article.published_at, reverse=True)
    return [
        {
            "url": drop.article.url, "headline": drop.article.headline, "source": drop.article.source_name or drop.article.source,
            "language": drop.article.language, "reasons": list(drop.reasons), "published_at": iso(drop.article.published_at),
        }
        for drop in near[:_DROPPED]
    ]  # fmt: skip


def _words(newsletter: Newsletter, snapshot: Snapshot | None) -> list[dict[str, str]]:
    """The fields of the light blocks a newsletter has sections for, flat, with what they say now."""
    wanted = {section.words for section in newsletter.sections if section.words}
    fields: list[dict[str, str]] = []
    for block, names in _FIELDS.items():
        value = getattr(snapshot, block, None) if snapshot else None
        if block in wanted:
            fields += [
                {"name": f"{block}.{name}", "value": str(getattr(value, name, "") or "")} for name in names
            ]
    if "quiz" in wanted:
        quiz = snapshot.quiz if snapshot else ()
        for number in range(1, len(quiz) + 2):
            question = quiz[number - 1] if number <= len(quiz) else None
            values = {
                "question": question.question if question else "",
                "options": "\n".join(question.options) if question else "",
                "answer": str(question.answer) if question else "",
                "note": question.note if question else "",
            }
            fields += [{"name": f"quiz.{number}.{name}", "value": value} for name, value in values.items()]
    return fields


_FIELDS = {
    "number": ("figure", "text", "source", "url"),
    "quote": ("text", "who", "about", "url"),
    "this_day": ("year", "text", "url"),
    "front_page": (
        "paper",
        "country",
        "language",
        "headline",
        "translation",
        "text",
        "picture",
        "alt",
        "credit",
        "url",
    ),
}


def _order(one: Order) -> dict[str, Any]:
    return {
        "id": one.id, "verb": one.verb, "url": one.url, "section": one.section, "position": one.position,
        "fields": dict(one.fields), "actor": one.actor, "reason": one.reason, "given_at": iso(one.given_at),
        "undone_at": iso(one.undone_at), "undone_by": one.undone_by,
    }  # fmt: skip


def known_fields(fields: dict[str, str]) -> bool:
    """Whether an edit's fields are all ones a story has."""
    return bool(fields) and set(fields) <= set(EDITABLE)
