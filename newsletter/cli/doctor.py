"""
Doctor: is this installation fit to send? Each check says what is wrong and what to do.

No network, unless it is asked to look online: at the sender's DNS records and the provider's account.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from newsletter.catalogue import Catalogue
from newsletter.cli.checks import Check
from newsletter.errors import NewsletterError
from newsletter.settings import Settings, is_loopback, load_keys, load_settings, unknown_names
from newsletter.times import system_clock, zone_data

_LOW_DISK_BYTES = 500_000_000
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")  # RFC 5646, as far as feeds and readers use it


def examine(*, online: bool = False) -> tuple[Check, ...]:
    """Look at everything that can be looked at; a broken part never hides the others."""
    try:
        settings = load_settings()
    except NewsletterError as error:
        return (Check("settings", "error", str(error)),)
    return (*_checks(settings), *(_online(settings) if online else ()))


def _checks(settings: Settings) -> Iterator[Check]:
    yield from _names()
    yield from _address(settings)
    yield from _keys(settings)
    yield from _provider(settings)
    yield from _bounces(settings)
    yield _other_way(settings)
    yield from _catalogue(settings)
    yield from _beyond_provider(settings)
    from newsletter.cli.store_checks import store_checks

    yield from store_checks(settings)
    yield _disk(settings)


def _online(settings: Settings) -> Iterator[Check]:
    """What the world says: name servers, the pages, and the provider of its account."""
    from newsletter.catalogue import load_catalogue
    from newsletter.cli.dns_checks import dns_checks, make_resolver, record_checks
    from newsletter.cli.page_checks import page_checks
    from newsletter.cli.store_checks import drift_check
    from newsletter.providers import make_other_way, make_provider
    from newsletter.store.session import open_store

    try:
        publication = load_catalogue(settings.templates).publication
        provider, other_way = make_provider(settings), make_other_way(settings)
        engine, keys = open_store(settings.database_url), load_keys(settings)
    except NewsletterError:
        return  # said already
    host = urlsplit(settings.base_url).hostname or ""
    if not is_loopback(host):
        yield from page_checks(settings.base_url, now=system_clock())
    domains = {publication.sender.email.rpartition("@")[2]}
    domains |= {pace.overflow.email.rpartition("@")[2] for pace in publication.paces if pace.overflow}
    for domain in sorted(domains):
        yield from dns_checks(make_resolver(), domain=domain, selectors=provider.signs_under, base_host=host)
        yield from record_checks(make_resolver(), provider.records(domain))
        for found in provider.look(domain):
            yield Check(*found)
    yield drift_check(engine, provider, keys)
    if other_way is not None:
        for name, severity, message in other_way.look(""):
            yield Check(
                f"alarm-{name}", severity, message.replace("NEWSLETTER_SMTP_URL", "NEWSLETTER_ALARM_SMTP_URL")
            )


def _names() -> Iterator[Check]:
    """A mistyped variable is nobody's, and what it was to say stays as it was."""
    for name, meant in unknown_names().items():
        hint = f"is {meant} meant?" if meant else "take it out."
        yield Check("settings", "warning", f"{name} is no setting and says nothing; {hint}")


def _address(settings: Settings) -> Iterator[Check]:
    host = urlsplit(settings.base_url).hostname or ""
    if is_loopback(host):
        yield Check(
            "base-url", "error",
            f"NEWSLETTER_BASE_URL is {settings.base_url}: readers elsewhere cannot leave. Set it to your public https address.",
        )  # fmt: skip
    else:
        yield Check("base-url", "ok", f"Links lead to {settings.base_url}.")
        if not settings.proxies:
            yield Check(
                "proxies", "warning",
                "NEWSLETTER_TRUSTED_PROXIES is empty: if a proxy stands before the pages, all visitors look like one, and its limits are theirs together. Set it to the proxy's networks.",
            )  # fmt: skip


def _keys(settings: Settings) -> Iterator[Check]:
    try:
        load_keys(settings)
    except NewsletterError as error:
        yield Check("keys", "error", str(error))
        return
    own = bool(settings.secret_key.get_secret_value() and settings.suppression_key.get_secret_value())
    told = (
        "come from the environment" if own else "lie in the key file beside the database; back it up with it"
    )
    yield Check("keys", "ok", f"Keys {told}.")


def _bounces(settings: Settings) -> Iterator[Check]:
    """Whether somebody reads what comes back by mail, where it comes in no other way."""
    from newsletter.providers.mailboxes import unread

    if settings.bounces:
        try:
            next(iter(unread(Path(settings.bounces))), None)
        except NewsletterError as error:
            yield Check("bounces", "error", f"NEWSLETTER_BOUNCES: {error}")
        else:
            yield Check("bounces", "ok", f"What comes back is read from {settings.bounces}.")
    elif settings.provider == "smtp":
        yield Check(
            "bounces", "warning",
            "Nobody reads what comes back: addresses that do not exist any more are mailed for ever. Have the mail of NEWSLETTER_SMTP_RETURN_PATH delivered into a Maildir and name it in NEWSLETTER_BOUNCES.",
        )  # fmt: skip


def _other_way(settings: Settings) -> Check:
    from newsletter.providers import make_other_way

    try:
        other_way = make_other_way(settings)
    except NewsletterError as error:
        return Check("alarms", "error", str(error))
    if other_way is None:
        return Check(
            "alarms", "note",
            "Alarms go by the provider they may be about; name a relay of another house in NEWSLETTER_ALARM_SMTP_URL.",
        )  # fmt: skip
    return Check("alarms", "ok", "Alarms have another way than the provider.")


def _provider(settings: Settings) -> Iterator[Check]:
    from newsletter.providers import make_provider

    try:
        problems = make_provider(settings).problems()
    except NewsletterError as error:
        yield Check("provider", "error", str(error))
        return
    for problem in problems:
        yield Check("provider", "error", problem)
    if not problems:
        yield Check("provider", "ok", f"{settings.provider} is set up.")


def _catalogue(settings: Settings) -> Iterator[Check]:
    from newsletter.catalogue import load_catalogue
    from newsletter.rendering.lint import lint_templates
    from newsletter.rendering.magazine import is_installed

    try:
        catalogue = load_catalogue(settings.templates)
    except NewsletterError as error:
        yield Check("templates", "error", str(error))
        return
    errors = [finding for finding in lint_templates(catalogue) if finding.severity == "error"]
    for finding in errors:
        yield Check("templates", "error", f"{finding.where}: {finding.message}")
    if not errors:
        yield Check("templates", "ok", f"{len(catalogue.newsletters)} newsletters, templates without errors.")
    for newsletter in catalogue.newsletters:
        if 1 <= newsletter.schedule.at.hour < 3:
            yield Check(
                "schedule", "warning",
                f"{newsletter.slug} is due between 01:00 and 03:00, when clocks change; another hour is easier to reason about.",
            )  # fmt: skip
    if not is_installed() and (slugs := [one.slug for one in catalogue.newsletters if one.magazine]):
        yield Check(
            "magazine", "note",
            f"{', '.join(slugs)} would have a magazine, but its libraries are missing: pip install -c constraints.txt -e \".[magazine]\"",
        )  # fmt: skip
    yield from _rules(catalogue)
    yield from _readers_pages(catalogue)
    yield from _editors(catalogue)
    yield _zone_data()
    sender = catalogue.publication.sender.email
    if sender.endswith(".example"):
        yield Check("sender", "error", f"The sender {sender} is the sample's; set yours in publication.toml.")
    if not catalogue.publication.feeds:
        yield Check("feeds", "error", "publication.toml names no feeds.")
    elif all(feed.url.startswith("samples/") for feed in catalogue.publication.feeds):
        yield Check("feeds", "warning", "All feeds are the samples; put yours into publication.toml.")


def _rules(catalogue: Catalogue) -> Iterator[Check]:
    """Rules that nothing can ever meet: feeds that are not there, languages that are no codes."""
    feeds = {feed.id for feed in catalogue.publication.feeds}
    for one in catalogue.newsletters:
        named = {
            *one.sources,
            *one.without_sources,
            *(source for part in one.sections for source in part.sources),
        }
        if gone := sorted(named - feeds):
            yield Check(
                "rules", "warning",
                f"{one.slug} names sources that publication.toml has no feed of: {', '.join(gone)}.",
            )  # fmt: skip
        spoken = {
            *one.audience.languages,
            *one.languages_preferred,
            *(tag for part in one.sections for tag in part.languages),
        }
        if odd := sorted(tag for tag in spoken if not _LANGUAGE.fullmatch(tag)):
            yield Check(
                "rules", "warning",
                f"{one.slug} names languages by no code, so nothing and nobody is of them: {', '.join(odd)}; write en, not English.",
            )  # fmt: skip


def _beyond_provider(settings: Settings) -> Iterator[Check]:
    """What newsletters ask of a provider that cannot do it: to keep mails back, to tell who opened them."""
    from newsletter.catalogue import load_catalogue
    from newsletter.providers import make_provider

    try:
        newsletters = load_catalogue(settings.templates).newsletters
        provider = make_provider(settings)
    except NewsletterError:
        return  # said already
    slugs = [one.slug for one in newsletters if one.mode == "scheduled"]
    if slugs and not provider.schedules_ahead:
        yield Check(
            "scheduled", "warning",
            f"{', '.join(slugs)}: mode is scheduled, but the provider {settings.provider} keeps nothing back: they go at once, and a batch in doubt cannot be called back.",
        )  # fmt: skip
    for one in newsletters:
        if "subject_test" in one.model_fields_set and not provider.tells_opens:
            yield Check(
                "subject-test", "warning",
                f"{one.slug}: subject_test goes by {one.subject_test.by}, of which the provider {settings.provider} tells nothing: the rest waits {one.subject_test.wait_minutes} minutes and gets the first subject, unless somebody decides (newsletter subjects {one.slug} --decide). Leave [subject_test] out, or send by a provider that tells.",
            )  # fmt: skip


def _zone_data() -> Check:
    release = zone_data()
    if not release[:4].isdecimal() or int(release[:4]) < system_clock().year - 1:
        return Check(
            "zone-data", "warning",
            f"The time zone data is of {release or 'nobody knows when'}: clock changes decided since are not known, and editions would be an hour off. Update the system's tzdata, or the package.",
        )  # fmt: skip
    return Check("zone-data", "ok", f"Time zone data {release}.")


def _editors(catalogue: Catalogue) -> Iterator[Check]:
    """Whether somebody is asked where approval is required, and told where something is amiss."""
    alone = [one for one in catalogue.newsletters if not one.editors_of(catalogue.publication)]
    unasked = [one.slug for one in alone if one.approval == "required"]
    if unasked:
        yield Check(
            "editors", "error",
            f"{', '.join(unasked)}: approval is required, but nobody is asked; name editors in publication.toml or newsletter.toml.",
        )  # fmt: skip
    elif alone:
        yield Check(
            "editors", "warning",
            "Nobody is told early of a thin day or a dead source; name editors in publication.toml.",
        )  # fmt: skip


def _readers_pages(catalogue: Catalogue) -> Iterator[Check]:
    """What readers are shown: the privacy page, and quieter newsletters that exist."""
    if urlsplit(catalogue.publication.privacy_url).scheme != "https":
        yield Check(
            "privacy", "warning",
            "publication.toml names no https privacy_url: who joins cannot read what you do with their data.",
        )  # fmt: skip
    slugs = {newsletter.slug for newsletter in catalogue.newsletters}
    for newsletter in catalogue.newsletters:
        if newsletter.quieter and newsletter.quieter not in slugs:
            yield Check(
                "quieter", "warning",
                f"{newsletter.slug}: quieter names {newsletter.quieter!r}, which is no newsletter; it is not offered to who leaves.",
            )  # fmt: skip


def _disk(settings: Settings) -> Check:
    database = Path(settings.database_url.removeprefix("sqlite:///")) if settings.is_sqlite else Path("here")
    folder = next(one for one in database.absolute().parents if one.exists())
    free = shutil.disk_usage(folder).free
    if free < _LOW_DISK_BYTES:
        return Check("disk", "error", f"Only {free // 1_000_000} MB are free; make room before sending.")
    return Check("disk", "ok", f"{free // 1_000_000_000} GB are free.")
