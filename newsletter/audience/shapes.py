"""Shapes of subscriber files: our own and four services' exports, told by their header."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pycountry

from newsletter.catalogue import Publication
from newsletter.times import end_of_day

STATUSES = ("active", "pending", "unsubscribed", "bounced", "complained")
"""Subscriber statuses, each stricter than the one before; of two rows for one address the stricter wins."""

_PAID = {"monthly", "yearly", "annually", "annual", "founding"}


@dataclass(frozen=True, slots=True)
class Row:
    """
    One line of a file, read but not yet checked against what we know; *line* counts from 1.

    Of *newsletters* those in *left* were left by the reader, and those in *pending* wait for consent.
    """

    line: int
    email: str
    name: str = ""
    plan: str = ""
    plan_until: datetime | None = None
    newsletters: tuple[str, ...] = ()
    pending: frozenset[str] = frozenset()
    left: frozenset[str] = frozenset()
    language: str = ""
    country: str = ""
    timezone: str = ""
    status: str = "active"
    tags: tuple[str, ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict)
    consented_at: datetime | None = None
    confirmed_at: datetime | None = None
    joined_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """A line that cannot be used, and why; never with the address."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class Shape:
    """A kind of file: its name and the columns that tell it."""

    name: str
    needs: frozenset[str]


# The most telling first: our own has columns no service has.
SHAPES = (
    Shape("plain", frozenset({"email", "newsletters"})),
    Shape("mailchimp", frozenset({"email address", "leid"})),
    Shape("mailchimp", frozenset({"email address", "last_changed"})),
    Shape("mailchimp", frozenset({"email address", "member_rating"})),
    Shape("substack", frozenset({"email", "active_subscription"})),
    Shape("ghost", frozenset({"email", "subscribed_to_emails"})),
    Shape("listmonk", frozenset({"email", "attributes", "status"})),
    Shape("plain", frozenset({"email", "plan"})),
)


@dataclass(frozen=True, slots=True)
class Frame:
    """What a row is read against: the publication and what of it is asked for every row."""

    publication: Publication
    file: str
    plans: frozenset[str]
    first_plan: str

    @classmethod
    def of(cls, publication: Publication, *, file: str) -> Frame:
        """The frame of a file."""
        return cls(publication, file, frozenset(one.id for one in publication.plans), publication.plans[0].id)


Maker = Callable[[int, dict[str, str], Frame], Row]


def make_row(shape: str) -> Maker:
    """
    What makes a row of *shape* from line, values by lower-case column, and frame.

    It raises ValueError with a sentence for a value that cannot be used.
    """
    return _MAKERS[shape]


def told(text: str) -> str:
    """A value in quotes, as a reason may show it: never an address that got into the wrong column."""
    return "(an address)" if "@" in text else repr(text if len(text) <= 60 else f"{text[:60]}…")


def columns_told(header: Sequence[str]) -> str:
    """A header in words; a file without one has an address there."""
    return (
        ", ".join("(an address)" if "@" in column else column[:60].lower() for column in header[:30])
        or "nothing"
    )


_FORMULA = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")  # what spreadsheets take for one, in full width too


def unescaped(cell: str) -> str:
    """A cell that an export of ours (or Ghost's) kept from being a formula."""
    return cell[1:] if cell[:1] == "'" and _FORMULA.match(cell) else cell


def escaped(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula; ``unescaped`` gives back every cell as it was."""
    return f"'{cell}" if _FORMULA.match(cell) else cell


# --- the shapes ---------------------------------------------------------------------------------


_KNOWN = frozenset(
    [
        "email",
        "name",
        "plan",
        "newsletters",
        "language",
        "country",
        "timezone",
        "status",
        "tags",
        "plan_until",
        "newsletters_pending",
        "newsletters_left",
        "joined_at",
        "attributes",
    ]
)


def _plain(line: int, values: dict[str, str], frame: Frame) -> Row:
    get = values.get
    status = get("status", "").lower() or "active"
    if status not in STATUSES:
        raise ValueError(f"status {told(status)} is none of {', '.join(STATUSES)}")
    plan = get("plan", "").lower() or frame.first_plan
    if plan not in frame.plans:
        known = ", ".join(one.id for one in frame.publication.plans)
        raise ValueError(f"plan {told(plan)} is none of {known}")
    attributes: dict[str, Any] = {}
    more = values.keys() - _KNOWN
    if more:
        attributes = {name: values[name] for name in values if name in more and name and values[name]}
    if get("attributes"):
        attributes.update(_attributes(values["attributes"]))
    active, pending, left = (
        _names(get(name, "")) for name in ("newsletters", "newsletters_pending", "newsletters_left")
    )
    return Row(
        line=line, email=get("email", ""), name=get("name", ""), plan=plan,
        plan_until=_end(get("plan_until", ""), frame.publication.timezone) if get("plan_until") else None,
        newsletters=active + pending + left if pending or left else active,
        pending=frozenset(pending), left=frozenset(left), language=_language(get("language", "")),
        country=_country(get("country", "")), timezone=_zone(get("timezone", "")), status=status,
        tags=_names(get("tags", "")), attributes=attributes,
        joined_at=_moment(get("joined_at", ""), "joined_at"),
    )  # fmt: skip


def _attributes(text: str) -> dict[str, Any]:
    """The JSON object that an export of ours writes; any other text is an attribute of that name."""
    try:
        found = json.loads(text)
        json.dumps(found, allow_nan=False)  # PostgreSQL takes no NaN
    except (ValueError, RecursionError):
        return {"attributes": text}
    return found if isinstance(found, dict) else {"attributes": text}


def _mailchimp(line: int, values: dict[str, str], frame: Frame) -> Row:
    """The status of a row is the file it is in; a Status column is seen in files people have joined."""
    file = Path(frame.file).name.lower()
    if values.get("unsub_time") or file.startswith("unsubscribed"):
        status = "unsubscribed"
    elif values.get("clean_time") or file.startswith("cleaned"):
        status = "bounced"
    elif file.startswith(("nonsubscribed", "non-subscribed")):
        status = "unsubscribed"
    else:
        word = (values.get("status") or values.get("member status") or "subscribed").lower()
        status = {"subscribed": "active", "cleaned": "bounced", "pending": "pending"}.get(
            word, "unsubscribed"
        )
    first, last = values.get("first name", ""), values.get("last name", "")
    return Row(
        line=line, email=values["email address"], name=" ".join(part for part in (first, last) if part),
        plan=frame.first_plan, country=_lenient(_country, values.get("cc", "")),
        timezone=_lenient(_zone, values.get("timezone", "")), status=status, tags=_quoted_names(values.get("tags", "")),
        consented_at=_moment_or_none(values.get("optin_time", "")),
        confirmed_at=_moment_or_none(values.get("confirm_time", "")),
        joined_at=_moment_or_none(values.get("confirm_time", "") or values.get("optin_time", "")),
    )  # fmt: skip


def _substack(line: int, values: dict[str, str], frame: Frame) -> Row:
    paying = values["active_subscription"].lower() == "true"
    plan = frame.first_plan
    if paying:
        word = values.get("plan", "").lower()
        wanted = "annual" if word in _PAID - {"monthly"} else "monthly"
        plan = _paying_plan(frame.publication, wanted)
    created = _moment_or_none(values.get("created_at", ""))
    return Row(
        line=line, email=values["email"], plan=plan, plan_until=_moment_or_none(values.get("expiry", "")) if paying else None,
        status="unsubscribed" if values.get("email_disabled", "").lower() == "true" else "active",
        consented_at=created, joined_at=created,
    )  # fmt: skip


def _ghost(line: int, values: dict[str, str], frame: Frame) -> Row:
    """An empty ``subscribed_to_emails`` (hand-made files) is not a yes: such a member is not mailed."""
    created = _moment_or_none(values.get("created_at", ""))
    paying = (
        values.get("complimentary_plan", "").lower() == "true"
        or bool(values.get("tiers") or values.get("products"))
        or bool(values.get("gift_id"))
    )
    mailed = values["subscribed_to_emails"].lower() == "true" and not values.get("deleted_at")
    return Row(
        line=line, email=values["email"], name=values.get("name", ""),
        plan=_paying_plan(frame.publication, "annual") if paying else frame.first_plan,
        status="active" if mailed else "unsubscribed", tags=_split(values.get("labels", ""), ","),
        consented_at=created, joined_at=created,
    )  # fmt: skip


def _listmonk(line: int, values: dict[str, str], frame: Frame) -> Row:
    """The status is that of the person, not of a list; ``blocklisted`` must never be mailed."""
    word = values["status"].lower()
    status = {"enabled": "active", "disabled": "unsubscribed", "blocklisted": "complained"}.get(word)
    if status is None:
        raise ValueError(f"status {told(word)} is none of enabled, disabled, blocklisted")
    try:
        attributes = json.loads(values["attributes"] or "{}")
    except ValueError:
        raise ValueError("attributes is not JSON") from None
    created = _moment_or_none(values.get("created_at", ""))
    return Row(
        line=line, email=values["email"], name=values.get("name", ""), plan=frame.first_plan, status=status,
        attributes={str(key): str(value) for key, value in attributes.items()} if isinstance(attributes, dict) else {},
        consented_at=created, joined_at=created,
    )  # fmt: skip


_MAKERS: dict[str, Maker] = {
    "plain": _plain, "mailchimp": _mailchimp, "substack": _substack, "ghost": _ghost, "listmonk": _listmonk,
}  # fmt: skip

# --- cells --------------------------------------------------------------------------------------


def _paying_plan(publication: Publication, wanted: str) -> str:
    """A plan of ours for somebody who pays elsewhere: the one of that name, else the first paying one."""
    paying = publication.paying_plans
    return wanted if wanted in paying else paying[-1] if paying else publication.plans[0].id


@lru_cache(maxsize=4096)  # the same few, a million times
def _language(text: str) -> str:
    if text and not re.fullmatch(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*", text):
        raise ValueError(f"language {told(text)} is not a BCP 47 tag such as en or pt-BR")
    return text


@lru_cache(maxsize=4096)  # the same few, a million times
def _country(text: str) -> str:
    if text and pycountry.countries.get(alpha_2=text.upper()) is None:
        raise ValueError(f"country {told(text)} is not an ISO 3166 code such as FR")
    return text.upper()


@lru_cache(maxsize=4096)  # the same few, a million times
def _zone(text: str) -> str:
    if text:
        try:
            ZoneInfo(text)
        except (KeyError, ValueError, OSError):
            raise ValueError(f"timezone {told(text)} is not known; write for example Europe/Paris") from None
    return text


def _lenient(check: object, text: str) -> str:
    """A guessed value of a service: kept if it is sound, else left out."""
    try:
        return str(check(text))  # type: ignore[operator]
    except ValueError:
        return ""


def _moment(text: str, column: str) -> datetime | None:
    if not text:
        return None
    found = _moment_or_none(text)
    if found is None:
        raise ValueError(f"{column} {told(text)} is not an ISO 8601 time")
    return found


@lru_cache(maxsize=4096)
def _end(text: str, zone: str) -> datetime:
    """The end of a plan: an instant, or a date, which means the end of that day in the publication's zone."""
    try:
        return end_of_day(date.fromisoformat(text), zone)
    except ValueError:
        found = _moment_or_none(text)
    except OverflowError:
        found = None
    if found is None:
        raise ValueError(f"plan_until {told(text)} is neither a date such as 2027-01-31 nor an ISO 8601 time")
    return found


def _moment_or_none(text: str) -> datetime | None:
    """A time; without a zone it is taken as UTC (what these services write)."""
    try:
        moment = datetime.fromisoformat(text.strip())
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


@lru_cache(maxsize=4096)
def _names(text: str) -> tuple[str, ...]:
    """Names between ``|``, as ``listed`` writes them."""
    if "\\" not in text:
        return _split(text, "|")
    parts = re.findall(r"(?:\\[\\|]|[^|])+", text)
    return tuple(dict.fromkeys(re.sub(r"\\([\\|])", r"\1", part).strip() for part in parts if part.strip()))


def listed(names: Iterable[str]) -> str:
    """*names* in one cell, between ``|``; one within a name is written with a backslash before it."""
    return "|".join(re.sub(r"[\\|]", r"\\\g<0>", name) for name in names)


def _split(text: str, mark: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in text.split(mark) if part.strip()))


def _quoted_names(text: str) -> tuple[str, ...]:
    """``"vip","press"`` as Mailchimp writes tags."""
    if not text:
        return ()
    return tuple(dict.fromkeys(name.strip() for name in next(csv.reader([text]), []) if name.strip()))
