"""What programs say and are told: the shapes behind the requests, the answers and the OpenAPI document."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal

import pycountry
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)

from newsletter.audience.addresses import normalise
from newsletter.words import known_zones

LONGEST_ADDRESS = 254
MOST_NEWSLETTERS = 50
MOST_EDITIONS = 100
# No line ends, no other control characters, no marks that turn the reading direction.
_ONE_LINE = r"^[^\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]*$"
_EARLIEST, _LATEST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)


def _address(text: str) -> str:
    try:
        normalise(text)
    except ValueError:
        raise ValueError("This is not an e-mail address.") from None
    return text


def _country(text: str) -> str:
    if text and pycountry.countries.get(alpha_2=text.upper()) is None:
        raise ValueError("This is not an ISO 3166 code such as FR.")
    return text.upper()


def _zone(text: str) -> str:
    if text and text not in known_zones():
        raise ValueError("This is no time zone of the IANA database, such as Europe/Paris.")
    return text


def _day(text: object) -> date:
    try:
        return date.fromisoformat(str(text))
    except ValueError:
        raise ValueError("This is not a date such as 2026-11-20.") from None


def _moment(at: datetime) -> datetime:
    if not _EARLIEST <= at <= _LATEST:
        raise ValueError("This is not between the years 2000 and 2200.")
    return at.astimezone(UTC)


Email = Annotated[
    str,
    StringConstraints(min_length=3, max_length=LONGEST_ADDRESS),
    AfterValidator(_address),
    Field(json_schema_extra={"format": "email"}),
]
Name = Annotated[str, StringConstraints(strip_whitespace=True, max_length=100, pattern=_ONE_LINE)]
Words = Annotated[str, StringConstraints(min_length=1, max_length=2000, pattern=_ONE_LINE)]
Page = Annotated[str, StringConstraints(max_length=500, pattern=r"^https?://[!-~]+$")]
Slug = Annotated[str, StringConstraints(max_length=64, pattern=r"^[a-z0-9][a-z0-9-]*$")]
Language = Annotated[str, StringConstraints(max_length=35, pattern=r"^([A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*)?$")]
Country = Annotated[str, StringConstraints(pattern=r"^([A-Za-z]{2})?$"), AfterValidator(_country)]
Zone = Annotated[str, StringConstraints(max_length=64, pattern=r"^[A-Za-z0-9_+/-]*$"), AfterValidator(_zone)]
Moment = Annotated[AwareDatetime, AfterValidator(_moment)]
Day = Annotated[date, BeforeValidator(_day), WithJsonSchema({"type": "string", "format": "date"})]


class Asked(BaseModel):
    """Base of what a program says: nothing we do not know, nothing taken for what it is not."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Told(BaseModel):
    """Base of what a program is told."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _one_of(*names: str) -> Callable[[dict[str, Any]], None]:
    """For the schema: exactly one of *names* is there, and is not null."""

    def tell(schema: dict[str, Any]) -> None:
        schema["oneOf"] = [{"required": [name]} for name in names]
        for name in names:
            schema["properties"][name] = schema["properties"][name]["anyOf"][0]

    return tell


class Given(Asked):
    """Consent that the site has collected: the exact words, the page they stood on, and when it was given."""

    words: Words
    page: Page
    at: Moment


class Consent(Asked):
    """What mail to them rests on: consent the site has, or a confirming mail that they are sent."""

    model_config = ConfigDict(json_schema_extra=_one_of("given", "ask"))
    given: Given | None = None
    ask: Literal[True] | None = None

    @model_validator(mode="after")
    def _one(self) -> Consent:
        if (self.given is None) == (self.ask is None):
            raise ValueError('Say either "given" with words, page and time, or "ask": true.')
        return self


class NewSubscriber(Asked):
    """
    A subscriber to be.

    Without plan_until a trial ends after its days, and any other plan runs on.
    """

    email: Email
    name: Name = ""
    language: Language = ""
    country: Country = ""
    timezone: Zone = ""
    plan: Slug = "free"
    plan_until: Moment | None = None
    newsletters: list[Slug] = Field(min_length=1, max_length=MOST_NEWSLETTERS)
    consent: Consent


class Address(Asked):
    """Whom to find."""

    email: Email


class Amendment(Asked):
    """
    What is to be changed; what is not named stays.

    A new plan without plan_until keeps the end that was paid for; plan_until null means that it runs on.
    """

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})
    # Factories, because the schema must name no defaults: what is not sent is not changed.
    name: Name = Field(default_factory=str)
    language: Language = Field(default_factory=str)
    country: Country = Field(default_factory=str)
    timezone: Zone = Field(default_factory=str)
    plan: Slug = Field(default_factory=str)
    plan_until: Moment | None = Field(default_factory=lambda: None)

    @model_validator(mode="after")
    def _something(self) -> Amendment:
        if not self.model_fields_set:
            raise ValueError("Name at least one field to change.")
        return self


class PlanChange(Asked):
    """A plan as a whole: without plan_until a trial ends after its days, and any other runs on."""

    plan: Slug
    plan_until: Moment | None = None


class Joining(Asked):
    """What they are to get besides what they get already."""

    newsletters: list[Slug] = Field(min_length=1, max_length=MOST_NEWSLETTERS)
    consent: Consent


class Leaving(Asked):
    """What they leave: one newsletter, or all."""

    model_config = ConfigDict(json_schema_extra=_one_of("newsletter", "all"))
    newsletter: Slug | None = None
    all: Literal[True] | None = None

    @model_validator(mode="after")
    def _one(self) -> Leaving:
        if (self.newsletter is None) == (self.all is None):
            raise ValueError('Say either "newsletter" or "all": true.')
        return self


class EditionQuery(BaseModel):
    """Which editions; *after* is the ``next`` of the page before."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    newsletter: Slug | None = None
    since: Day | None = Field(None, alias="from")
    until: Day | None = None
    after: (
        Annotated[str, StringConstraints(max_length=80, pattern=r"^\d{4}-\d{2}-\d{2}\.[a-z0-9-]+$")] | None
    ) = None
    limit: int = Field(30, ge=1, le=MOST_EDITIONS)


class SubscriptionTold(Told):
    """A subscriber's relation to one newsletter."""

    newsletter: str
    state: Literal["active", "pending", "left"]
    since: datetime
    left_at: datetime | None


class SuppressionTold(Told):
    """What speaks against mail: *scope* is ``all`` or a newsletter."""

    scope: str
    reason: str


class SubscriberTold(Told):
    """
    A subscriber. *id* is random and says nothing of them.

    *class* is what they get now: the class of their plan until plan_until, then free.
    """

    id: str = Field(pattern="^[0-9a-f]{24}$")
    email: str
    name: str
    status: str
    language: str
    country: str
    timezone: str
    plan: str
    plan_until: datetime | None
    plan_class: Literal["free", "paying"] = Field(serialization_alias="class")
    joined_at: datetime
    updated_at: datetime
    paused_until: datetime | None
    newsletters: list[SubscriptionTold]
    suppressed: list[SuppressionTold]


class NewsletterTold(Told):
    """A newsletter; *archive_url* is null when nothing of it is public."""

    slug: str
    name: str
    tagline: str
    description: str
    language: str
    days: list[str]
    time: str
    timezone: str
    classes: list[Literal["free", "paying"]]
    subscribe_url: str
    archive_url: str | None


class NewslettersTold(Told):
    """The newsletters of the publication."""

    newsletters: list[NewsletterTold]


class EditionTold(Told):
    """An edition as everybody may read it at *url*."""

    newsletter: str
    date: date
    title: str
    summary: str
    sent_at: datetime
    url: str


class EditionsTold(Told):
    """A page of editions, newest first; *next* is the ``after`` of the next page, null on the last."""

    editions: list[EditionTold]
    next: str | None


class FieldFault(Told):
    """What is wrong with one value: *pointer* into the body (RFC 6901, as a fragment), or *parameter* of the query."""

    detail: str
    pointer: str | None = None
    parameter: str | None = None


class ProblemTold(Told):
    """A problem (RFC 9457); *id* names the subscriber who is there already, *suppressed* what speaks against mail."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldFault] | None = None
    id: str | None = None
    suppressed: list[SuppressionTold] | None = None
