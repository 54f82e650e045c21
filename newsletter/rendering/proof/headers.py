"""Subject, preheader and sender: what an inbox shows, and what a header may hold."""

from __future__ import annotations

import re
from collections.abc import Iterator

from email_validator import EmailNotValidError, validate_email

from newsletter.articles import headline_key
from newsletter.rendering.findings import Finding
from newsletter.rendering.proof.material import Edition, Variant, flat

_WORDS_REPEATED = 3  # fewer, and a preheader may begin with them by chance
_LONG = {"subject": 150, "preheader": 250}
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_OVERRIDE = re.compile("[\u202d\u202e]")
_SHOUTS = re.compile(r"[!?！？]{2,}\s*$|\${2,}")


def check_variant(one: Variant) -> Iterator[Finding]:
    """The inbox lines of a variant."""
    for part, text in one.inbox_lines:
        if not text.strip():
            yield one.find(f"{part}-missing", part)
        if len(text) > _LONG[part]:
            message = f"The {part} has {len(text)} characters; inboxes cut it long before {_LONG[part]}."
            yield one.find(f"{part}-long", part, message=message)
        for code, found in _unsafe(text):
            yield one.find(
                code, part, where=repr(found), message=f"The {part} holds the character {found!r}."
            )
    last_subject, last_preheader = one.edition.last
    preheader = headline_key(one.rendered.preheader)
    for said in one.rendered.subjects:
        subject = headline_key(said)
        repeats = len(subject.split()) >= _WORDS_REPEATED and f"{preheader} ".startswith(f"{subject} ")
        if subject and (preheader == subject or repeats):
            yield one.find("preheader-repeat", "preheader", where=one.rendered.preheader)
        letters = [letter for letter in said if letter.isalpha()]
        capitals = sum(letter.isupper() for letter in letters)
        if (len(letters) >= 12 and capitals > 0.7 * len(letters)) or _SHOUTS.search(said):
            yield one.find("subject-shouts", "subject", where=said)
        if last_subject and flat(last_subject) == flat(said):
            yield one.find("subject-repeat", "subject", where=said)
    if last_preheader and flat(last_preheader) == flat(one.rendered.preheader):
        yield one.find("preheader-old", "preheader", where=one.rendered.preheader)


def check_edition(edition: Edition) -> Iterator[Finding]:
    """The sender and the reply address, and whether several subjects can be tried."""
    if edition.snapshot.other_subjects and edition.newsletter.local_time is not None:
        yield edition.find(
            "subjects-untried", part="subject", where=" / ".join(edition.snapshot.other_subjects)
        )
    sender = edition.newsletter.sender or edition.publication.sender
    for mailbox in (sender, edition.publication.reply_to):
        if mailbox is None:
            continue
        for text in (mailbox.name, mailbox.email):
            for code, found in _unsafe(text):
                message = f"The sender {text!r} holds the character {found!r}."
                yield edition.find(code, part="sender", where=text, message=message)
        if "@" in mailbox.name:
            yield edition.find("sender-name", part="sender", where=mailbox.name)
        try:
            validate_email(mailbox.email, check_deliverability=False, test_environment=True)
        except EmailNotValidError as error:
            message = f"{mailbox.email!r} is no address: {error}"
            yield edition.find("sender-address", part="sender", where=mailbox.email, message=message)


def _unsafe(text: str) -> Iterator[tuple[str, str]]:
    for code, pattern in (("header-control", _CONTROL), ("header-bidi", _OVERRIDE)):
        if found := pattern.search(text):
            yield code, found[0]
