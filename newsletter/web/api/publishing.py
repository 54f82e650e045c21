"""What programs read of what is published: the newsletters, and the editions as everybody may read them."""

from __future__ import annotations

from datetime import date

from newsletter.archive import Listed, is_public, public, published
from newsletter.audience.programs import Scope
from newsletter.audience.repeats import Outcome
from newsletter.catalogue import Newsletter
from newsletter.web.api.models import (
    EditionQuery,
    EditionsTold,
    EditionTold,
    FieldFault,
    NewslettersTold,
    NewsletterTold,
)
from newsletter.web.api.operations import Call, Operation, Reply
from newsletter.web.api.problems import Problem
from newsletter.web.door import Door


class Publishing:
    """The handlers; each is called in a thread. What is paid is not read here, so it cannot get out."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self.base_url = door.settings.base_url

    def operations(self) -> list[Operation]:
        """What there is to read."""
        return [
            Operation(
                "listNewsletters", "GET", "/v1/newsletters", "The newsletters readers can choose from.",
                Scope.NEWSLETTERS_READ, self.newsletters, {200: NewslettersTold},
            ),
            Operation(
                "listEditions", "GET", "/v1/editions", "Editions that went out and that everybody may read, newest first.",
                Scope.EDITIONS_READ, self.editions, {200: EditionsTold}, query=EditionQuery,
            ),
            Operation(
                "readEdition", "GET", "/v1/editions/{newsletter}/{date}", "One of them.",
                Scope.EDITIONS_READ, self.edition, {200: EditionTold}, problems=(404,),
            ),
        ]  # fmt: skip

    def newsletters(self, _call: Call) -> Reply:
        """``GET /newsletters``."""
        told = NewslettersTold(newsletters=[self._newsletter(one) for one in self.door.catalogue.newsletters])
        return Reply(Outcome(200), told)

    def editions(self, call: Call) -> Reply:
        """``GET /editions``."""
        asked: EditionQuery = call.asked
        slugs = [one.slug for one in public(self.door.catalogue)]
        if asked.newsletter is not None:
            if all(one.slug != asked.newsletter for one in self.door.catalogue.newsletters):
                fault = FieldFault(detail="There is no newsletter of this slug.", parameter="newsletter")
                raise Problem(422, errors=[fault])
            slugs = [slug for slug in slugs if slug == asked.newsletter]
        found = published(
            self.door.engine, slugs, since=asked.since, until=asked.until, after=_place(asked.after),
            limit=asked.limit + 1,
        )  # fmt: skip
        page = found[: asked.limit]
        more = f"{page[-1].edition_date}.{page[-1].newsletter}" if len(found) > len(page) else None
        return Reply(Outcome(200), EditionsTold(editions=[self._edition(one) for one in page], next=more))

    def edition(self, call: Call) -> Reply:
        """``GET /editions/{newsletter}/{date}``."""
        slugs = [one.slug for one in public(self.door.catalogue) if one.slug == call.path["newsletter"]]
        try:
            day = date.fromisoformat(call.path["date"])
        except ValueError:
            raise Problem(404, "Write the date such as 2026-11-20.") from None
        found = published(self.door.engine, slugs, since=day, until=day, limit=1)
        if not found:
            raise Problem(404, "No edition of this date can be read by everybody.")
        return Reply(Outcome(200), self._edition(found[0]))

    def _newsletter(self, one: Newsletter) -> NewsletterTold:
        at = one.local_time or one.schedule.at
        return NewsletterTold(
            slug=one.slug, name=one.name, tagline=one.tagline, description=one.description, language=one.language,
            days=list(one.schedule.days), time=f"{at:%H:%M}",
            timezone="" if one.local_time else one.zone(self.door.catalogue.publication),
            classes=list(one.audience.classes), subscribe_url=f"{self.base_url}/subscribe?newsletter={one.slug}",
            archive_url=f"{self.base_url}/archive/{one.slug}" if is_public(one) else None,
        )  # fmt: skip

    def _edition(self, one: Listed) -> EditionTold:
        return EditionTold(
            newsletter=one.newsletter, date=one.edition_date, title=one.title, summary=one.summary, sent_at=one.sent_at,
            url=f"{self.base_url}/archive/{one.newsletter}/{one.edition_date}",
        )  # fmt: skip


def _place(after: str | None) -> tuple[date, str] | None:
    """
    Where the page before ended.

    Raises:
        Problem: 422, no page of ours ends there.
    """
    if after is None:
        return None
    day, _, slug = after.partition(".")
    try:
        return date.fromisoformat(day), slug
    except ValueError:
        fault = FieldFault(detail="Take it from next of the page before.", parameter="after")
        raise Problem(422, errors=[fault]) from None
