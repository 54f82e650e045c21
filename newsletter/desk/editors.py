"""
The desk's mails to the editors: an edition that waits for their word, and what they should know early.

They go the way of the system's other mails (``notices``). The first holds the very bytes most readers will
get, below a notice that says what is to be decided.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import structlog

from newsletter.audience.segments import audience_sizes
from newsletter.catalogue import Newsletter, class_of
from newsletter.desk.approval import HASH_SHOWN, Action, in_words, make_links, record, slot_of, warnings_of
from newsletter.errors import NewsletterError
from newsletter.notices import Notice, Notices
from newsletter.providers import Accepted, Divided, Envelope, Provider, Recipient
from newsletter.rendering.engine import fill_samples
from newsletter.store.editions import load_renderings
from newsletter.store.session import reading, writing
from newsletter.store.tables import EditionRow
from newsletter.words import words

ENGLISH = words("en")
"""Editors read the language of the commands."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ProofMail:
    """An edition as it is shown to its editors; *context* is what the notice above it says to all of them."""

    newsletter: Newsletter
    row: EditionRow
    html: str
    text: str
    context: Mapping[str, Any]
    expires_at: datetime


class EditorsMail:
    """Makes and sends the mails; a delivery that fails is logged and said by the answer."""

    def __init__(self, notices: Notices, *, other_way: Provider | None = None) -> None:
        """*other_way*: what the provider does not take for certain goes by this one."""
        self.notices, self.other_way = notices, other_way
        self.engine, self.catalogue, self.clock = notices.engine, notices.catalogue, notices.clock
        self.base_url = notices.settings.base_url

    def proof_of(self, newsletter: Newsletter, row: EditionRow, deadline: datetime) -> ProofMail:
        """Everything of the mail that is the same for all editors."""
        publication, at = self.catalogue.publication, self.clock()
        with reading(self.engine) as session:
            sizes = audience_sizes(session, newsletter, publication, at)
            found = {one.variant: one for one in load_renderings(session, row.id or 0)}
        # What most readers get; where that is nobody yet, what holds most.
        widest = max(
            found, key=lambda name: (sizes.get(name, 0), class_of(name) == "paying", name), default=""
        )
        html, text = fill_samples(found[widest], self.base_url)
        day = row.edition_date
        lateness = timedelta(hours=newsletter.schedule.max_lateness_hours)
        context = {
            "newsletter": newsletter, "publication": publication, "day": day, "subject": found[widest].subject, "subjects": found[widest].subjects,
            "preheader": found[widest].preheader, "variant": widest, "sizes": sizes, "hash": row.content_hash,
            "hash_shown": HASH_SHOWN, "findings": findings_of(row), "warnings": warnings_of(row),
            "deadline": in_words(deadline, newsletter, publication, day), "slot": in_words(slot_of(newsletter, publication, day), newsletter, publication, day),
            "rule": newsletter.unapproved,
            "readers": sum(sizes.values()),
        }  # fmt: skip
        return ProofMail(newsletter, row, html, text, context, max(deadline, at) + lateness)

    def ask(self, mail: ProofMail, editor: str) -> bool:
        """Send the edition to one editor, with links of their own; whether it was taken."""
        at = self.clock()
        try:
            with writing(self.engine) as session:
                made = make_links(session, mail.row, editor, now=at, expires_at=mail.expires_at)
            links = {str(action): f"{self.base_url}/desk/{made[action]}" for action in Action}
            context = {**mail.context, "links": links, "editor": editor}
            notice = Notice(
                subject=f"Approve {mail.newsletter.name} by {mail.context['deadline']}? {mail.context['subject']}",
                html=_above(self.notices.set("approval.html.j2", ENGLISH, context, escapes=True), mail.html),
                text=f"{self.notices.set('approval.txt.j2', ENGLISH, context, escapes=False)}\n\n{mail.text}",
            )
        except NewsletterError as error:
            log.error("editors.not_asked", newsletter=mail.newsletter.slug, reason=str(error))
            return False
        if not self._send("approval", notice, [editor], language=mail.newsletter.language):
            return False
        with writing(self.engine) as session:
            record(session, mail.row, "asked", at=at, actor=editor)
        return True

    def alert(self, kind: str, newsletter: Newsletter, day: date, values: Mapping[str, Any]) -> bool:
        """Send the notice ``_notices/<kind>.j2`` to a newsletter's editors; whether it was taken. Nobody to tell is no trouble."""
        editors = newsletter.editors_of(self.catalogue.publication)
        return self.tell(kind, editors, {"newsletter": newsletter, "day": day, **values})

    def tell(self, kind: str, people: Sequence[str], values: Mapping[str, Any]) -> bool:
        """Send the notice ``_notices/<kind>.j2`` to *people*; whether it was taken. Nobody to tell is no trouble."""
        if not people:
            return True
        try:
            notice = self.notices.compose(f"{kind}.j2", ENGLISH, values)
        except NewsletterError as error:
            log.error("editors.not_told", kind=kind, reason=str(error))
            return False
        return self._send(kind, notice, people)

    def _send(self, kind: str, notice: Notice, editors: Sequence[str], *, language: str = "en") -> bool:
        publication = self.catalogue.publication
        envelope = Envelope(
            edition=f"notice.{kind}", batch=f"{secrets.token_hex(6)}.1", newsletter="", variant=f"notice-{kind}",
            sender=publication.sender, reply_to=publication.reply_to, subject=notice.subject, html=notice.html,
            text=notice.text, list_id="", list_name="", dated_at=self.clock(), language=language,
            recipients=tuple(
                Recipient(reader=f"editor-{number}", email=email, name="", values={}, unsubscribe_url="")
                for number, email in enumerate(editors, start=1)
            ),
        )  # fmt: skip
        for way in filter(None, (self.notices.provider, self.other_way)):
            outcome = way.submit(envelope)
            if isinstance(outcome, Accepted) or (isinstance(outcome, Divided) and outcome.is_taken):
                log.info("editors.told", kind=kind, editors=len(editors), way=way.name)
                return True
            log.error(
                "editors.not_told", kind=kind, editors=len(editors), way=way.name, reason=outcome.reason
            )
        return False


def findings_of(row: EditionRow) -> tuple[tuple[str, str, str], ...]:
    """(severity, code, message) of an edition's findings, each once, the worst first."""
    told = dict.fromkeys((one["severity"], one["code"], one["message"]) for one in row.findings)
    return tuple(sorted(told, key=lambda one: ("error", "warning", "note").index(one[0])))


def _above(notice: str, html: str) -> str:
    """*html* with *notice* as the first thing in its body; nothing else is changed."""
    return re.sub(r"<body[^>]*>", lambda tag: tag[0] + notice, html, count=1)
