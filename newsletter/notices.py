"""
The mails of the system itself to one reader: confirm, log in, welcome, a changed address.

Each is a template under ``templates/_notices`` that sets its words; ``notice.mjml.j2`` and
``notice.txt.j2`` set them in the publication's look. They go through the provider like an edition, but
one at a time and to nobody's ledger; with maildir into ``NEWSLETTER_SYSTEM_OUTBOX``.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import jinja2
import mjml
import structlog
from sqlalchemy import Engine

from newsletter.audience.doors import Purpose, make_link
from newsletter.audience.limits import Knock, Limit, knock
from newsletter.audience.tokens import Signer
from newsletter.catalogue import Catalogue, Newsletter
from newsletter.errors import TemplateError
from newsletter.providers import Accepted, Envelope, Provider, Recipient, make_provider
from newsletter.providers.maildir import Maildir
from newsletter.rendering.engine import FILTERS
from newsletter.settings import Keys, Settings
from newsletter.store.session import reading, writing
from newsletter.store.tables import Subscriber
from newsletter.times import Clock, due_dates
from newsletter.words import Words, choose_language, words

log = structlog.get_logger()


class Kind(StrEnum):
    """What a notice is about; each is a template of that name."""

    CONFIRM = "confirm"  # link, newsletters
    KNOWN = "known"  # link: they asked for what they get already
    LOGIN = "login"  # link
    ADDRESS = "address"  # link; goes to the pending address, which it confirms
    ADDRESS_KNOWN = "address-known"  # link; to the subscriber of an address somebody else wants to move to
    ADDRESS_TOLD = "address-told"  # new: the masked address; goes to the old one
    WELCOME = "welcome"  # newsletters
    STILL = "still"  # link, newsletters: do they still want them?


_TO_STRANGERS = frozenset((Kind.CONFIRM, Kind.KNOWN, Kind.ADDRESS, Kind.ADDRESS_KNOWN))
"""Anybody can cause these to anybody: nothing that was typed into a form stands in them, not even a name."""

_NOBODY = Limit("a mail that goes to nobody", 0, timedelta(minutes=1))


@dataclass(frozen=True, slots=True)
class Notice:
    """A rendered notice."""

    subject: str
    html: str
    text: str


class Notices:
    """Renders and sends notices; may be called from several threads."""

    def __init__(
        self,
        engine: Engine,
        catalogue: Catalogue,
        keys: Keys,
        settings: Settings,
        *,
        clock: Clock,
        provider: Provider | None = None,
    ) -> None:
        self.engine, self.catalogue, self.settings, self.clock = engine, catalogue, settings, clock
        self.keys, self.signer = keys, Signer(keys)
        self._given = provider
        self._environments: dict[tuple[str, bool], jinja2.Environment] = {}
        self._lock = threading.Lock()

    @cached_property
    def provider(self) -> Provider:
        """Who carries them: the publication's provider, made when first needed."""
        if self._given is not None:
            return self._given
        if self.settings.provider == "maildir":
            return Maildir(self.settings.system_outbox)
        return make_provider(self.settings)

    def send(
        self, kind: Kind, subscriber_id: int, *, language: str = "", values: Mapping[str, Any] | None = None
    ) -> bool:
        """
        Send one notice to a subscriber; whether the provider took it. Never raises for a delivery.

        *language*: that of the page that caused it; default the reader's own. *values*: ``link`` is the
        path of a one-time link, ``newsletters`` are slugs; see ``Kind`` for who needs what.
        """
        with reading(self.engine) as session:
            row = session.get(Subscriber, subscriber_id)
        if row is None:
            return False
        to = row.pending_email if kind == Kind.ADDRESS else row.email
        if not to:
            return False
        spoken = self._spoken(language, row.language)
        to_whom = Recipient(
            reader=row.reader, email=to, name="" if kind in _TO_STRANGERS else row.name, values={},
            unsubscribe_url=self._leaving(kind, row.reader, values or {}),
        )  # fmt: skip
        envelope = self._envelope(kind, spoken, to_whom, values or {})
        outcome = self.provider.submit(envelope)
        if isinstance(outcome, Accepted):
            log.info("notice.sent", kind=str(kind), reader=row.reader)
            return True
        log.error("notice.not_sent", kind=str(kind), reader=row.reader, reason=outcome.reason)
        return False

    def send_login(
        self, subscriber_id: int, *, language: str = "", then: str = "", kind: Kind = Kind.LOGIN
    ) -> bool:
        """Make a one-time login link and send it; *then* is where the reader goes (see ``web.entering``)."""
        with writing(self.engine) as session:
            if session.get(Subscriber, subscriber_id) is None:
                return False
            detail = {"then": then} if then else {}
            secret = make_link(session, Purpose.LOGIN, subscriber_id, now=self.clock(), detail=detail)
        return self.send(kind, subscriber_id, language=language, values={"link": f"/login/{secret}"})

    def rehearse(self, kind: Kind, *, language: str = "", newsletters: Sequence[str] = ()) -> None:
        """
        Do the work of a mail for nobody: for an address we know the machine must not be busier than for others.

        Looks, a write, the mail to its last byte, and a folder to hand it to, which is thrown away.
        """
        secret = secrets.token_urlsafe(32)
        knock(self.engine, [Knock(_NOBODY, secret)], keys=self.keys, now=self.clock())
        with reading(self.engine) as session:
            session.get(Subscriber, 0)
        nobody = Recipient(
            reader=secrets.token_hex(12),
            email="nobody@example.invalid",
            name="",
            values={},
            unsubscribe_url="",
        )
        values = {"link": f"/login/{secret}", "newsletters": newsletters}
        envelope = self._envelope(kind, self._spoken(language), nobody, values)
        with TemporaryDirectory(prefix="newsletter-nobody-") as folder:
            Maildir(Path(folder)).submit(envelope)
        log.info("notice.for_nobody", kind=str(kind), reader=nobody.reader)

    def _envelope(
        self, kind: Kind, spoken: Words, recipient: Recipient, values: Mapping[str, Any]
    ) -> Envelope:
        publication, at = self.catalogue.publication, self.clock()
        notice = self.render(kind, spoken, reader=recipient.reader, values=values, at=at)
        return Envelope(
            edition=f"notice.{kind}", batch=f"{secrets.token_hex(6)}.1", newsletter="", variant=f"notice-{kind}",
            sender=publication.sender, reply_to=publication.reply_to, subject=notice.subject, html=notice.html,
            text=notice.text, list_id="", list_name="", dated_at=at, language=spoken.language, recipients=(recipient,),
        )  # fmt: skip

    def _leaving(self, kind: Kind, reader: str, values: Mapping[str, Any]) -> str:
        """The one-click link of a mail about newsletters: of the one, or of all if there are several."""
        if kind not in (Kind.WELCOME, Kind.STILL):
            return ""
        slugs = tuple(values.get("newsletters", ()))
        slug = slugs[0] if len(slugs) == 1 else ""
        return f"{self.settings.base_url}/u/{self.signer.unsubscribe(reader, slug)}"

    def _spoken(self, *languages: str) -> Words:
        fallback = self.catalogue.publication.language
        return words(choose_language([tag for tag in languages if tag], fallback=fallback))

    def render(
        self, kind: Kind, spoken: Words, *, reader: str, values: Mapping[str, Any], at: datetime
    ) -> Notice:
        """
        Make one notice.

        Raises:
            TemplateError: its template does not render or compile.
        """
        base = self.settings.base_url
        publication = self.catalogue.publication
        chosen = [one for one in self.catalogue.newsletters if one.slug in values.get("newsletters", ())]
        context: dict[str, Any] = {
            "name": spoken.isolated(publication.name), "newsletters": chosen,
            "names": spoken.listed([one.name for one in chosen]),
            "link": f"{base}{values['link']}" if "link" in values else "",
            "new": spoken.isolated(values.get("new", "")),
            "preferences": f"{base}/preferences/{self.signer.preferences(reader)}",
            "next_of": lambda one: self._next(one, spoken, at), "about_of": lambda one: one.about_in(spoken.language),
        }  # fmt: skip
        return self.compose(f"{kind}.j2", spoken, context)

    def compose(self, name: str, spoken: Words, values: Mapping[str, Any]) -> Notice:
        """
        Set the words of ``_notices/<name>`` in the publication's look, as HTML and as text.

        Raises:
            TemplateError: a template does not render or compile.
        """
        publication = self.catalogue.publication
        context: dict[str, Any] = {
            "publication": publication, "theme": publication.theme, "words": spoken,
            "base_url": self.settings.base_url, "link": "", "newsletters": (), **values,
        }  # fmt: skip
        try:
            said = self._environment(spoken, escapes=False).get_template(name).make_module(context)
            content = {
                key: getattr(said, key, default)
                for key, default in (
                    ("subject", ""), ("preheader", ""), ("heading", ""), ("before", ()), ("button", ""),
                    ("after", ()), ("why", ""), ("url", context["link"]), ("listed", False), ("links", ()),
                )
            }  # fmt: skip
            edition = SimpleNamespace(
                subject=content["subject"], preheader=content["preheader"], language=spoken.language,
                direction=spoken.direction,
            )  # fmt: skip
            context["start"] = "right" if spoken.direction == "rtl" else "left"
            context |= {**content, "edition": edition}
            source = self.set("notice.mjml.j2", spoken, context, escapes=True)
            text = self.set("notice.txt.j2", spoken, context, escapes=False)
            html = mjml.mjml2html(source.replace("\r\n", "\n"), fonts={}, disable_comments=True)
        except Exception as error:  # a template may raise anything
            raise _unset(name, error) from error
        return Notice(str(content["subject"]), str(html), _tidy(text))

    def set(self, name: str, spoken: Words, context: Mapping[str, Any], *, escapes: bool) -> str:
        """
        Render ``_notices/<name>`` alone; *escapes*: for HTML.

        Raises:
            TemplateError: it does not render.
        """
        try:
            return self._environment(spoken, escapes=escapes).get_template(name).render(context)
        except Exception as error:  # a template may raise anything
            raise _unset(name, error) from error

    def _next(self, newsletter: Newsletter, spoken: Words, at: datetime) -> str:
        """When the next edition of a newsletter comes, in words."""
        zone = newsletter.zone(self.catalogue.publication)
        coming = due_dates(
            days=newsletter.schedule.days, at=newsletter.schedule.at, zone=zone, start=at, end=at + timedelta(days=8)
        )  # fmt: skip
        due = next(coming, None)
        return spoken.date(due.day, "full") if due else ""

    def _environment(self, spoken: Words, *, escapes: bool) -> jinja2.Environment:
        with self._lock:
            made = self._environments.get((spoken.language, escapes))
            if made is None:
                root = self.catalogue.root
                made = jinja2.Environment(
                    loader=jinja2.FileSystemLoader([root / "_notices", root / "_shared"]), autoescape=escapes,  # noqa: S701  # decided per part
                    undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
                    extensions=["jinja2.ext.i18n"],
                )  # fmt: skip
                made.install_gettext_translations(spoken.translations, newstyle=True)  # type: ignore[attr-defined]
                made.filters.update(FILTERS)
                made.globals["theme"] = self.catalogue.publication.theme
                self._environments[spoken.language, escapes] = made
        return made


def _unset(name: str, error: Exception) -> TemplateError:
    return TemplateError(f"The notice _notices/{name} does not render: {error}", template=f"_notices/{name}")


def _tidy(text: str) -> str:
    """At most one empty line in a row."""
    lines: Sequence[str] = [line.rstrip() for line in text.split("\n")]
    kept = [line for at, line in enumerate(lines) if line or (at and lines[at - 1])]
    return "\n".join(kept).strip("\n") + "\n"
