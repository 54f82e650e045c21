"""What programs do with subscribers."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

from newsletter.audience.addresses import normalise
from newsletter.audience.choosing import find_choices
from newsletter.audience.enrolling import (
    Consent,
    Enrolled,
    Enrolment,
    Known,
    Suppressed,
    amend,
    enrol,
    look_up,
    put_on_plan,
    subscribe,
)
from newsletter.audience.leaving import leave
from newsletter.audience.limits import Knock, knock
from newsletter.audience.programs import Scope
from newsletter.audience.repeats import Outcome
from newsletter.audience.subscribers import forget
from newsletter.errors import NotFound
from newsletter.notices import Kind
from newsletter.times import parse_instant
from newsletter.web.api.models import (
    Address,
    Amendment,
    Joining,
    Leaving,
    NewSubscriber,
    PlanChange,
    SubscriberTold,
    SubscriptionTold,
    SuppressionTold,
)
from newsletter.web.api.operations import Call, Operation, Reply
from newsletter.web.api.problems import Problem, barred, known, unusable
from newsletter.web.door import Door, afterwards
from newsletter.web.joining import AN_ADDRESS, AN_ADDRESS_A_DAY

SOURCE = "/api/v1/subscribers"
"""The page of a wish to join that came from a program."""

_ID = re.compile(r"[0-9a-f]{24}")
SKEW = timedelta(minutes=5)
"""So far ahead of ours the clock of a site may be."""


class Subscribers:
    """The handlers; each is called in a thread."""

    def __init__(self, door: Door) -> None:
        self.door = door

    def operations(self) -> list[Operation]:
        """What there is to do."""
        read, write = Scope.SUBSCRIBERS_READ, Scope.SUBSCRIBERS_WRITE
        one = "/v1/subscribers/{id}"
        return [
            Operation(
                "createSubscriber", "POST", "/v1/subscribers", "Add a subscriber, with consent or by a confirming mail.",
                write, self.create, {201: SubscriberTold}, body=NewSubscriber, problems=(409, 410),
            ),
            Operation(
                "findSubscriber", "POST", "/v1/subscribers/find", "Find a subscriber by address; the address stands in no path.",
                read, self.find, {200: SubscriberTold}, body=Address, problems=(404,),
            ),
            Operation(
                "readSubscriber", "GET", one, "Read a subscriber.", read, self.read, {200: SubscriberTold}, problems=(404,),
            ),
            Operation(
                "amendSubscriber", "PATCH", one, "Change what is named, and nothing else.",
                write, self.amend, {200: SubscriberTold}, body=Amendment, problems=(404, 409, 410),
            ),
            Operation(
                "putSubscriberOnPlan", "PUT", f"{one}/plan", "Put a subscriber on a plan.",
                write, self.plan, {200: SubscriberTold}, body=PlanChange, problems=(404, 409, 410),
            ),
            Operation(
                "subscribeSubscriber", "POST", f"{one}/subscribe", "Add newsletters, with consent or by a confirming mail.",
                write, self.subscribe, {200: SubscriberTold}, body=Joining, problems=(404, 409, 410),
            ),
            Operation(
                "unsubscribeSubscriber", "POST", f"{one}/unsubscribe", "End one newsletter, or all, as the link in a mail does.",
                write, self.unsubscribe, {200: SubscriberTold}, body=Leaving, problems=(404, 409, 410),
            ),
            Operation(
                "eraseSubscriber", "DELETE", one, "Erase a subscriber. A keyed hash stays, so that no import brings them back.",
                write, self.erase, {204: None}, problems=(404, 409),
            ),
        ]  # fmt: skip

    # --- handlers -------------------------------------------------------------------------------

    def create(self, call: Call) -> Reply:
        """``POST /subscribers``."""
        door, asked = self.door, call.asked
        given = self._enrolment(call, asked)
        try:
            made = enrol(
                door.engine, asked.email, given, publication=door.catalogue.publication, keys=door.keys, now=call.now
            )  # fmt: skip
        except Known as error:
            raise known(error.reader) from None
        except Suppressed as error:
            raise barred(error) from None
        return self.reply(
            call, Outcome(201, made.reader), then=self._mail(made, given.newsletters, given.language)
        )

    def _mail(self, made: Enrolled, slugs: tuple[str, ...], language: str) -> Any:
        """The mail that follows the answer: the confirming one, or a welcome to what is new; None: neither."""
        send = self.door.notices.send
        values: dict[str, object]
        if made.secret:
            values = {"link": f"/confirm/{made.secret}", "newsletters": slugs}
            return afterwards(send, Kind.CONFIRM, made.subscriber_id, language=language, values=values)
        if made.first:
            values = {"newsletters": made.first}
            return afterwards(send, Kind.WELCOME, made.subscriber_id, language=language, values=values)
        return None

    def _enrolment(self, call: Call, asked: NewSubscriber) -> Enrolment:
        self._check_plan(asked.plan)
        slugs, consent = self._agreed(call, asked)
        return Enrolment(
            slugs, SOURCE, consent, name=asked.name, language=asked.language, country=asked.country,
            timezone=asked.timezone, plan=asked.plan, plan_until=asked.plan_until,
        )  # fmt: skip

    def _agreed(self, call: Call, asked: NewSubscriber | Joining) -> tuple[tuple[str, ...], Consent | None]:
        """
        The newsletters and the consent they rest on.

        Raises:
            Problem: 422, there is no such newsletter, or the consent is yet to come.
        """
        ours = {one.slug for one in self.door.catalogue.newsletters}
        for index, slug in enumerate(asked.newsletters):
            if slug not in ours:
                raise unusable(f"/newsletters/{index}", "There is no newsletter of this slug.")
        slugs, told = tuple(dict.fromkeys(asked.newsletters)), asked.consent.given
        if told is None:
            return slugs, None
        if told.at > call.now + SKEW:
            raise unusable("/consent/given/at", "This is yet to come.")
        return slugs, Consent(told.words, f"{told.page} (told by {call.program.name})", told.at)

    def find(self, call: Call) -> Reply:
        """``POST /subscribers/find``."""
        found = look_up(self.door.engine, email=call.asked.email)
        if found is None:
            raise Problem(404, "This address is not a subscriber's.")
        return self.reply(call, Outcome(200, found["id"]), found)

    def read(self, call: Call) -> Reply:
        """``GET /subscribers/{id}``."""
        return self.reply(call, Outcome(200, _id(call)))

    def amend(self, call: Call) -> Reply:
        """``PATCH /subscribers/{id}``."""
        values = call.asked.model_dump(include=call.asked.model_fields_set)
        if "plan" in values:
            self._check_plan(values["plan"])
        try:
            amend(
                self.door.engine, _id(call), values, publication=self.door.catalogue.publication, now=call.now
            )  # fmt: skip
        except NotFound:
            raise _gone() from None
        return self.reply(call, Outcome(200, _id(call)))

    def plan(self, call: Call) -> Reply:
        """``PUT /subscribers/{id}/plan``."""
        self._check_plan(call.asked.plan)
        try:
            put_on_plan(
                self.door.engine, _id(call), call.asked.plan, publication=self.door.catalogue.publication,
                until=call.asked.plan_until, now=call.now,
            )  # fmt: skip
        except NotFound:
            raise _gone() from None
        return self.reply(call, Outcome(200, _id(call)))

    def subscribe(self, call: Call) -> Reply:
        """``POST /subscribers/{id}/subscribe``; nobody is asked more often than by the page."""
        door, reader = self.door, _id(call)
        slugs, consent = self._agreed(call, call.asked)
        choices = find_choices(door.engine, reader=reader)
        if choices is None:
            raise _gone()
        if consent is None:
            _, key = normalise(choices.email)
            knocks = (Knock(AN_ADDRESS, key), Knock(AN_ADDRESS_A_DAY, key))
            if knock(door.engine, knocks, keys=door.keys, now=call.now):
                raise Problem(429, "They were asked often enough for now.", headers={"Retry-After": "3600"})
        try:
            made = subscribe(door.engine, reader, slugs, consent, source=SOURCE, keys=door.keys, now=call.now)
        except NotFound:
            raise _gone() from None
        except Suppressed as error:
            raise barred(error) from None
        return self.reply(call, Outcome(200, reader), then=self._mail(made, slugs, choices.language))

    def unsubscribe(self, call: Call) -> Reply:
        """``POST /subscribers/{id}/unsubscribe``: who has left already has left."""
        slug = call.asked.newsletter
        if slug is not None and all(one.slug != slug for one in self.door.catalogue.newsletters):
            raise unusable("/newsletter", "There is no newsletter of this slug.")
        if look_up(self.door.engine, reader=_id(call)) is None:
            raise _gone()
        how = f"the publisher's site ({call.program.name})"
        leave(self.door.engine, _id(call), slug, now=call.now, how=how)
        return self.reply(call, Outcome(200, _id(call)))

    def erase(self, call: Call) -> Reply:
        """``DELETE /subscribers/{id}``."""
        found = look_up(self.door.engine, reader=_id(call))
        if found is None:
            raise _gone()
        try:
            forget(self.door.engine, found["email"], keys=self.door.keys, now=call.now)
        except NotFound:  # twice at once
            raise _gone() from None
        return Reply(Outcome(204))

    def _check_plan(self, plan: str) -> None:
        if all(one.id != plan for one in self.door.catalogue.publication.plans):
            raise unusable("/plan", "There is no plan of this id.")

    # --- answers --------------------------------------------------------------------------------

    def reply(
        self, call: Call, kept: Outcome, found: dict[str, Any] | None = None, then: Any = None
    ) -> Reply:
        """
        The answer about a subscriber as they are now, also to a request that is repeated.

        Raises:
            Problem: 404, they are not there.
        """
        found = found or look_up(self.door.engine, reader=kept.reader)
        if found is None:
            raise _gone()
        where = f"{self.door.settings.base_url}{SOURCE}/{kept.reader}"
        return Reply(kept, self._told(found, call), {"Location": where} if kept.status == 201 else {}, then)

    def _told(self, found: dict[str, Any], call: Call) -> SubscriberTold:
        until = parse_instant(found["plan_until"]) if found["plan_until"] else None
        publication = self.door.catalogue.publication
        own = publication.class_of(found["plan"])
        plain = ("id", "email", "name", "status", "language", "country", "timezone", "plan", "plan_until",
                 "joined_at", "updated_at", "paused_until")  # fmt: skip
        return SubscriberTold(
            **{name: found[name] for name in plain},
            plan_class=own if until is None or until > call.now else "free",
            newsletters=[
                SubscriptionTold(newsletter=one["newsletter"], state=one["state"], since=one["since"], left_at=one["left_at"])
                for one in found["subscriptions"]
            ],
            suppressed=[SuppressionTold(scope=one["scope"], reason=one["reason"]) for one in found["suppression"]],
        )  # fmt: skip


def _gone() -> Problem:
    return Problem(404, "There is no subscriber of this id.")


def _id(call: Call) -> str:
    """
    The public id in the path.

    Raises:
        Problem: 404, none of ours looks like that.
    """
    if not _ID.fullmatch(call.path["id"]):
        raise _gone()
    return call.path["id"]
