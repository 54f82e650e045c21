"""Shapes of subscriber files: our own and four services' exports, told by their header."""

from __future__ import annotations

import csv
import io
import json
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pycountry

from newsletter.catalogue import Publication
from newsletter.errors import ImportFileError

STATUSES = ("active", "pending", "unsubscribed", "bounced", "complained")
"""Subscriber statuses, each stricter than the one before; of two rows for one address the stricter wins."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_PAID = {"monthly", "yearly", "annually", "annual", "founding"}


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a file, read but not yet checked against what we know; *line* counts from 1."""

    line: int
    email: str
    name: str = ""
    plan: str = ""
    plan_until: datetime | None = None
    newsletters: tuple[str, ...] = ()
    language: str = ""
    country: str = ""
    timezone: str = ""
    status: str = "active"
    tags: tuple[str, ...] = ()
    attributes: dict[str, str] = field(default_factory=dict)
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


def open_files(path: Path) -> Iterator[tuple[str, str]]:
    """
    Yield (name, text) of a CSV, or of each CSV in the ZIP that a service exports.

    Raises:
        ImportFileError: it cannot be opened or is not UTF-8.
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                names = [
                    name
                    for name in sorted(archive.namelist())
                    if name.lower().endswith(".csv") and not name.lower().endswith("posts.csv")
                ]
                if not names:
                    raise ImportFileError(f"{path} holds no CSV of subscribers.")
                for name in names:
                    yield name, _decode(archive.read(name), f"{path}: {name}")
            return
        yield path.name, _decode(path.read_bytes(), str(path))
    except OSError as error:
        raise ImportFileError(f"{path} cannot be opened: {error.strerror}.") from error


def _decode(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ImportFileError(
            f"{name} is not UTF-8 (line {line}). Save it as UTF-8 and import it again."
        ) from error


def read_rows(name: str, text: str, publication: Publication) -> tuple[str, Iterator[Row | Rejected]]:
    """
    Return the shape of a file and its rows.

    Raises:
        ImportFileError: the header is none we know.
    """
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [column.strip().lower() for column in next(reader, [])]
    except csv.Error as error:
        raise ImportFileError(f"{name}, line 1: {error}.") from error
    columns = set(header)
    shape = next((one.name for one in SHAPES if one.needs <= columns), "")
    if not shape:
        seen = ", ".join(header) or "nothing"
        raise ImportFileError(
            f"{name}: the header is none we know. It has: {seen}. Ours is email,name,plan,newsletters,language,country,"
            "timezone,status; exports of Mailchimp, Substack, Ghost and listmonk are known too."
        )
    return shape, _rows(name, shape, header, reader, publication)


def _rows(
    name: str, shape: str, header: list[str], reader: Iterator[list[str]], publication: Publication
) -> Iterator[Row | Rejected]:
    make = {
        "plain": _plain,
        "mailchimp": _mailchimp,
        "substack": _substack,
        "ghost": _ghost,
        "listmonk": _listmonk,
    }[shape]
    counter: csv.reader = reader  # type: ignore[valid-type]  # for line_num
    while True:
        line = counter.line_num + 1  # type: ignore[attr-defined]
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Rejected(line, f"not readable CSV: {error}")
            continue
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(header):
            yield Rejected(line, f"{len(cells)} columns where the header has {len(header)}")
            continue
        values = {column: _unescaped(cell.strip()) for column, cell in zip(header, cells, strict=True)}
        try:
            yield make(line, values, publication, name)
        except ValueError as error:
            yield Rejected(line, str(error))


def _unescaped(cell: str) -> str:
    """A cell that an export of ours (or Ghost's) kept from being a formula."""
    return cell[1:] if len(cell) > 1 and cell[0] == "'" and cell[1] in _FORMULA else cell


def escaped(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{cell}" if cell.startswith(_FORMULA) or (cell[:1] == "'" and cell[1:2] in _FORMULA) else cell


# --- the shapes ---------------------------------------------------------------------------------


def _plain(line: int, values: dict[str, str], publication: Publication, _name: str) -> Row:
    known = {
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
    }
    status = values.get("status", "").lower() or "active"
    if status not in STATUSES:
        raise ValueError(f"status {status!r} is none of {', '.join(STATUSES)}")
    plan = values.get("plan", "").lower() or publication.plans[0].id
    if plan not in {one.id for one in publication.plans}:
        raise ValueError(f"plan {plan!r} is none of {', '.join(one.id for one in publication.plans)}")
    return Row(
        line=line, email=values.get("email", ""), name=values.get("name", ""), plan=plan,
        plan_until=_moment(values.get("plan_until", ""), "plan_until"),
        newsletters=tuple(slug.strip() for slug in values.get("newsletters", "").split("|") if slug.strip()),
        language=_language(values.get("language", "")), country=_country(values.get("country", "")),
        timezone=_zone(values.get("timezone", "")), status=status, tags=_split(values.get("tags", ""), "|"),
        attributes={name: value for name, value in values.items() if name not in known and name and value},
    )  # fmt: skip


def _mailchimp(line: int, values: dict[str, str], publication: Publication, name: str) -> Row:
    """The status of a row is the file it is in; a Status column is seen in files people have joined."""
    file = Path(name).name.lower()
    if values.get("unsub_time") or file.startswith("unsubscribed"):
        status = "unsubscribed"
    elif values.get("clean_time") or file.startswith("cleaned"):
        status = "bounced"
    elif file.startswith(("nonsubscribed", "non-subscribed")):
        status = "unsubscribed"
    else:
        told = (values.get("status") or values.get("member status") or "subscribed").lower()
        status = {"subscribed": "active", "cleaned": "bounced", "pending": "pending"}.get(
            told, "unsubscribed"
        )
    first, last = values.get("first name", ""), values.get("last name", "")
    return Row(
        line=line, email=values["email address"], name=" ".join(part for part in (first, last) if part),
        plan=publication.plans[0].id, country=_lenient(_country, values.get("cc", "")),
        timezone=_lenient(_zone, values.get("timezone", "")), status=status, tags=_quoted_names(values.get("tags", "")),
        consented_at=_moment_or_none(values.get("optin_time", "")),
        confirmed_at=_moment_or_none(values.get("confirm_time", "")),
        joined_at=_moment_or_none(values.get("confirm_time", "") or values.get("optin_time", "")),
    )  # fmt: skip


def _substack(line: int, values: dict[str, str], publication: Publication, _name: str) -> Row:
    paying = values["active_subscription"].lower() == "true"
    plan = publication.plans[0].id
    if paying:
        told = values.get("plan", "").lower()
        wanted = "annual" if told in _PAID - {"monthly"} else "monthly"
        plan = _paying_plan(publication, wanted)
    created = _moment_or_none(values.get("created_at", ""))
    return Row(
        line=line, email=values["email"], plan=plan, plan_until=_moment_or_none(values.get("expiry", "")) if paying else None,
        status="unsubscribed" if values.get("email_disabled", "").lower() == "true" else "active",
        consented_at=created, joined_at=created,
    )  # fmt: skip


def _ghost(line: int, values: dict[str, str], publication: Publication, _name: str) -> Row:
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
        plan=_paying_plan(publication, "annual") if paying else publication.plans[0].id,
        status="active" if mailed else "unsubscribed", tags=_split(values.get("labels", ""), ","),
        consented_at=created, joined_at=created,
    )  # fmt: skip


def _listmonk(line: int, values: dict[str, str], publication: Publication, _name: str) -> Row:
    """The status is that of the person, not of a list; ``blocklisted`` must never be mailed."""
    told = values["status"].lower()
    status = {"enabled": "active", "disabled": "unsubscribed", "blocklisted": "complained"}.get(told)
    if status is None:
        raise ValueError(f"status {told!r} is none of enabled, disabled, blocklisted")
    try:
        attributes = json.loads(values["attributes"] or "{}")
    except ValueError:
        raise ValueError("attributes is not JSON") from None
    created = _moment_or_none(values.get("created_at", ""))
    return Row(
        line=line, email=values["email"], name=values.get("name", ""), plan=publication.plans[0].id, status=status,
        attributes={str(key): str(value) for key, value in attributes.items()} if isinstance(attributes, dict) else {},
        consented_at=created, joined_at=created,
    )  # fmt: skip


# --- cells --------------------------------------------------------------------------------------


def _paying_plan(publication: Publication, wanted: str) -> str:
    """A plan of ours for somebody who pays elsewhere: the one of that name, else the first paying one."""
    paying = publication.paying_plans
    return wanted if wanted in paying else paying[-1] if paying else publication.plans[0].id


def _language(text: str) -> str:
    if text and not re.fullmatch(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*", text):
        raise ValueError(f"language {text!r} is not a BCP 47 tag such as en or pt-BR")
    return text


def _country(text: str) -> str:
    if text and pycountry.countries.get(alpha_2=text.upper()) is None:
        raise ValueError(f"country {text!r} is not an ISO 3166 code such as FR")
    return text.upper()


def _zone(text: str) -> str:
    if text:
        try:
            ZoneInfo(text)
        except (KeyError, ValueError, OSError):
            raise ValueError(f"timezone {text!r} is not known; write for example Europe/Paris") from None
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
        raise ValueError(f"{column} {text!r} is not an ISO 8601 time")
    return found


def _moment_or_none(text: str) -> datetime | None:
    """A time; without a zone it is taken as UTC (what these services write)."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _split(text: str, mark: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in text.split(mark) if part.strip()))


def _quoted_names(text: str) -> tuple[str, ...]:
    """``"vip","press"`` as Mailchimp writes tags."""
    if not text:
        return ()
    return tuple(dict.fromkeys(name.strip() for name in next(csv.reader([text]), []) if name.strip()))
