"""
The whole schema on one page. Only Alembic changes it (``store/migrations``).

Instants are aware UTC. JSON columns hold what is never searched. The same models serve SQLite and
PostgreSQL. No row but ``subscriber`` holds a reader's address, and ``inbox`` for as long as it waits:
suppression, events and everything written about a reader use ids or ``address_hash``, the keyed hash of the
normalised address.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import JSON, Column, DateTime, Index, LargeBinary, Text, TypeDecorator, UniqueConstraint
from sqlalchemy.engine import Dialect
from sqlmodel import Field, SQLModel


class Instant(TypeDecorator[datetime]):
    """An aware UTC datetime on both databases (SQLite has no zone of its own)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a naive datetime reached the store")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _instant(**options: Any) -> Any:
    nullable = options.pop("nullable", False)
    return Field(sa_type=Instant, nullable=nullable, **options)


def _text(**options: Any) -> Any:
    return Field(default="", sa_type=Text, nullable=False, **options)


def _json(**options: Any) -> Any:
    return Field(sa_type=JSON, nullable=False, **options)


class Installation(SQLModel, table=True):
    """One fact about this installation, such as the check value of the suppression key."""

    __tablename__ = "installation"
    name: str = Field(primary_key=True)
    value: str = _text()


class SourceState(SQLModel, table=True):
    """What is remembered of a source between two fetches."""

    __tablename__ = "source_state"
    source: str = Field(primary_key=True)
    location: str = _text()
    kind: str = _text()
    etag: str = _text()
    last_modified: str = _text()
    first_fetched_at: datetime = _instant()
    last_success_at: datetime | None = _instant(default=None, nullable=True)
    failures: int = 0
    last_error: str = _text()


class ArticleRow(SQLModel, table=True):
    """A story as one source tells it; see ``articles.Article`` for the fields."""

    __tablename__ = "article"
    id: int | None = Field(default=None, primary_key=True)
    url: str = Field(sa_column=Column(Text, unique=True, nullable=False))
    source: str = Field(index=True)
    source_name: str = _text()
    headline: str = _text()
    kicker: str = _text()
    standfirst: str = _text()
    byline: str = _text()
    dateline: str = _text()
    body: str = _text()
    image: dict[str, Any] | None = Field(default=None, sa_type=JSON, nullable=True)
    language: str = "und"
    countries: list[str] = _json(default_factory=list)
    region: str = "Global"
    topics: list[str] = _json(default_factory=list)
    kind: str = "news"
    categories: list[str] = _json(default_factory=list)
    translated_from: str = ""
    translator: str = _text()
    paper: str = _text()
    published_at: datetime = _instant(index=True)
    paywalled: bool = False
    rights: str = "excerpt"
    flags: list[str] = _json(default_factory=list)
    story: str = Field(default="", index=True)
    fingerprint: str = ""
    first_seen_at: datetime = _instant()
    last_seen_at: datetime = _instant()


class Slot(SQLModel, table=True):
    """A newsletter's local date on which it was due, and what became of it."""

    __tablename__ = "slot"
    __table_args__ = (UniqueConstraint("newsletter", "local_date"),)
    id: int | None = Field(default=None, primary_key=True)
    newsletter: str
    local_date: date
    due_at: datetime = _instant()
    state: str  # made | missed | skipped
    reason: str = _text()
    recorded_at: datetime = _instant()


class EditionRow(SQLModel, table=True):
    """A newsletter on a date; a correction is a further revision that names its original."""

    __tablename__ = "edition"
    __table_args__ = (UniqueConstraint("newsletter", "edition_date", "revision"),)
    id: int | None = Field(default=None, primary_key=True)
    newsletter: str
    edition_date: date
    revision: int = 1
    corrects_id: int | None = Field(default=None, foreign_key="edition.id")
    status: str = "draft"
    reason: str = _text()
    snapshot: dict[str, Any] | None = Field(default=None, sa_type=JSON, nullable=True)
    findings: list[dict[str, Any]] = _json(default_factory=list)
    template_hash: str = ""
    content_hash: str = ""
    link_scope: str = Field(default="", index=True)  # hex of tokens.scope_of(slug, date): view-online links
    made_at: datetime = _instant()
    approved_at: datetime | None = _instant(default=None, nullable=True)
    approved_by: str = ""
    despite: list[dict[str, str]] = _json(
        default_factory=list
    )  # warnings it went out with: code, by whom they were let pass, at
    frozen_at: datetime | None = _instant(default=None, nullable=True)
    submitted_at: datetime | None = _instant(default=None, nullable=True)
    audience: int = 0


class Rendering(SQLModel, table=True):
    """The very bytes of one variant of an edition (zlib), as proofed and as sent; tags unfilled."""

    __tablename__ = "rendering"
    edition_id: int = Field(primary_key=True, foreign_key="edition.id")
    variant: str = Field(primary_key=True)
    subject: str = _text()
    preheader: str = _text()
    html: bytes = Field(sa_type=LargeBinary, nullable=False)
    text: bytes = Field(sa_type=LargeBinary, nullable=False)
    other_subjects: list[str] = _json(default_factory=list)


class SubjectTest(SQLModel, table=True):
    """
    That an edition tries several subjects, ``a`` (its first) to ``e``, on *sample* readers; written at the freeze.

    The sample's batches carry their subject, the rest's get *chosen* ('' as long as nothing is), which is written
    once. *until* is known when the whole sample was handed over; *looked_at*: when it was looked at half-way.
    *reason* says why, with the numbers of that moment.
    """

    __tablename__ = "subject_test"
    edition_id: int = Field(primary_key=True, foreign_key="edition.id")
    sample: int = 0
    by: str = "opens"
    wait_minutes: int = 60
    early: bool = True
    until: datetime | None = _instant(default=None, nullable=True)
    looked_at: datetime | None = _instant(default=None, nullable=True)
    chosen: str = ""
    chosen_at: datetime | None = _instant(default=None, nullable=True)
    chosen_by: str = _text()
    reason: str = _text()


class Picture(SQLModel, table=True):
    """A picture we serve: a JPEG under the hash of its bytes, so it never changes."""

    __tablename__ = "picture"
    hash: str = Field(primary_key=True)
    width: int
    height: int
    data: bytes = Field(sa_type=LargeBinary, nullable=False)
    kept_at: datetime = _instant()


class PictureSource(SQLModel, table=True):
    """What a picture's address brought; without a picture, why not."""

    __tablename__ = "picture_source"
    url: str = Field(primary_key=True)
    picture: str | None = Field(default=None, foreign_key="picture.hash")
    reason: str = _text()
    tried_at: datetime = _instant()


class EditionPicture(SQLModel, table=True):
    """That an edition shows a picture of ours, by its hash; without a reference, for a picture may come later."""

    __tablename__ = "edition_picture"
    picture: str = Field(primary_key=True)
    edition_id: int = Field(primary_key=True, foreign_key="edition.id")


class EditionFile(SQLModel, table=True):
    """A file that was made of an edition when somebody first asked for it."""

    __tablename__ = "edition_file"
    edition_id: int = Field(primary_key=True, foreign_key="edition.id")
    kind: str = Field(primary_key=True)
    data: bytes = Field(sa_type=LargeBinary, nullable=False)


class EditionStory(SQLModel, table=True):
    """That an edition ran a story: what keeps it from running again."""

    __tablename__ = "edition_story"
    edition_id: int = Field(primary_key=True, foreign_key="edition.id")
    url: str = Field(sa_column=Column(Text, primary_key=True))
    headline_key: str = _text()
    story: str = ""  # the story it was when the edition was made; the article's own may have become another


class StoryLink(SQLModel, table=True):
    """An editor's word on two articles, whatever the grouping says: in one story (*together*) or not."""

    __tablename__ = "story_link"
    url: str = Field(sa_column=Column(Text, primary_key=True))
    other: str = Field(sa_column=Column(Text, primary_key=True))
    together: bool = True
    actor: str = ""
    given_at: datetime = _instant()


class EditorOrder(SQLModel, table=True):
    """
    An editor's pin, drop, move, edit or words: survives re-picking and feed updates.

    What is undone stays written down (*undone_at*, *undone_by*) and counts for nothing until it is redone.
    """

    __tablename__ = "editor_order"
    id: int | None = Field(default=None, primary_key=True)
    newsletter: str = Field(index=True)
    edition_date: date
    verb: str
    url: str = _text()
    detail: dict[str, Any] = _json(default_factory=dict)
    reason: str = _text()
    actor: str = ""
    given_at: datetime = _instant()
    undone_at: datetime | None = _instant(default=None, nullable=True)
    undone_by: str = ""


class ApprovalLink(SQLModel, table=True):
    """
    A link by which an editor approves or holds an edition from the mail: works once, for one content hash.

    Only *secret_hash* of what stands in the link is kept. *action* is ``approve`` or ``hold``.
    """

    __tablename__ = "approval_link"
    secret_hash: str = Field(primary_key=True)
    edition_id: int = Field(foreign_key="edition.id", index=True)
    content_hash: str
    action: str
    editor: str
    made_at: datetime = _instant()
    expires_at: datetime = _instant(index=True)
    used_at: datetime | None = _instant(default=None, nullable=True)


class Decision(SQLModel, table=True):
    """
    What was decided about an edition, by whom and when; rows are only ever added.

    *content_hash* is of the edition as it then was. *verb*: made, changed, asked, approved, held, spiked, paused,
    resumed, or unapproved (the deadline passed and its own rule decided).
    """

    __tablename__ = "decision"
    id: int | None = Field(default=None, primary_key=True)
    edition_id: int = Field(foreign_key="edition.id", index=True)
    at: datetime = _instant()
    verb: str
    actor: str = _text()
    content_hash: str = ""
    detail: str = _text()


class Told(SQLModel, table=True):
    """That something was said aloud, so that it is said once: *key* names what."""

    __tablename__ = "told"
    key: str = Field(primary_key=True)
    at: datetime = _instant()


class Subscriber(SQLModel, table=True):
    """
    An address. *email* as given; *email_key* normalised and unique; *reader* opaque and public.

    An id is never given twice, also after erasure: frozen batches hold ids. *pending_email* waits to be
    confirmed by a mail to it. Until *paused_until* no edition goes to them. *deliver_at* (``HH:MM``, their
    own clock) goes before the hour of a newsletter with local mornings; empty: the newsletter's.
    """

    __tablename__ = "subscriber"
    __table_args__ = {"sqlite_autoincrement": True}
    id: int | None = Field(default=None, primary_key=True)
    reader: str = Field(unique=True)
    email: str = _text()
    email_key: str = Field(sa_column=Column(Text, unique=True, nullable=False))
    address_hash: str = Field(index=True)
    name: str = _text()
    language: str = ""
    country: str = ""
    timezone: str = ""
    plan: str = "free"
    plan_until: datetime | None = _instant(default=None, nullable=True)
    status: str = "active"  # active | pending | unsubscribed | bounced | complained
    attributes: dict[str, Any] = _json(default_factory=dict)
    joined_at: datetime = _instant()
    updated_at: datetime = _instant()
    engaged_at: datetime | None = _instant(default=None, nullable=True)  # last open or click by a person
    pending_email: str = _text()
    paused_until: datetime | None = _instant(default=None, nullable=True)
    deliver_at: str = ""


class FormerAddress(SQLModel, table=True):
    """An address a subscriber had before, as its keyed hash, so that erasing them covers it, too."""

    __tablename__ = "former_address"
    subscriber_id: int = Field(primary_key=True, foreign_key="subscriber.id")
    address_hash: str = Field(primary_key=True)
    until: datetime = _instant()


class SubscriberTag(SQLModel, table=True):
    """A tag on a subscriber, in a table so that segments are plain SQL."""

    __tablename__ = "subscriber_tag"
    subscriber_id: int = Field(primary_key=True, foreign_key="subscriber.id")
    tag: str = Field(primary_key=True)


class Subscription(SQLModel, table=True):
    """A subscriber's relation to one newsletter, with the consent it rests on."""

    __tablename__ = "subscription"
    __table_args__ = (Index("ix_subscription_newsletter", "newsletter", "state", "subscriber_id"),)
    subscriber_id: int = Field(primary_key=True, foreign_key="subscriber.id")
    newsletter: str = Field(primary_key=True)
    state: str = "active"  # active | pending | left
    since: datetime = _instant()
    consent_source: str = _text()
    consent_words: str = _text()
    consented_at: datetime | None = _instant(default=None, nullable=True)
    confirmed_at: datetime | None = _instant(default=None, nullable=True)
    left_at: datetime | None = _instant(default=None, nullable=True)
    left_reason: str = _text()


class SunsetStep(SQLModel, table=True):
    """
    What was done about a reader without a sign of life since *quiet_since*; the newest of theirs counts.

    *step*: asking (the mail is about to go), asked, paused, stopped, or stayed (left alone until *until*).
    """

    __tablename__ = "sunset_step"
    id: int | None = Field(default=None, primary_key=True)
    subscriber_id: int = Field(foreign_key="subscriber.id", index=True)
    step: str
    at: datetime = _instant()
    quiet_since: datetime = _instant()
    reason: str = _text()
    until: datetime | None = _instant(default=None, nullable=True)


class Suppression(SQLModel, table=True):
    """An address that must not be mailed, by its keyed hash. *scope* is ``all`` or a slug."""

    __tablename__ = "suppression"
    address_hash: str = Field(primary_key=True)
    scope: str = Field(primary_key=True)
    reason: str  # unsubscribed | bounced | complained | manual | erased
    source: str = _text()
    suppressed_at: datetime = _instant()


class Batch(SQLModel, table=True):
    """
    At most 1,000 readers of one edition with the same variant, subject and release, as frozen ids.

    *ids* is ``outbox.ids.pack``; *n* = readers frozen in it; the readers that do not go out with it
    are counted in *skipped_n*, *failed_n*, *moved_n* and each has a row in ``exception``. The
    others share the batch's *state*. *subject* is the letter of the one it tries; empty: the edition's only
    one, or the one that is chosen. *trailing* batches collect moved readers. *rank* orders them
    before *seq* (warm-up: most engaged first). *release_at* is the earliest moment readers may get
    it, *not_before* when to try again. *reservation* is the provider's handle by which a scheduled
    attempt can be cancelled. *given_up* is the last attempt that was sent again although nobody
    knew whether it had been taken; *doubled_n* how many readers an event then proved to have had both.
    """

    __tablename__ = "batch"
    __table_args__ = (
        UniqueConstraint("edition_id", "seq"),
        Index("ix_batch_turn", "edition_id", "state", "rank", "trailing", "seq"),
        Index("ix_batch_state", "state", "changed_at"),
    )
    id: int | None = Field(default=None, primary_key=True)
    edition_id: int = Field(foreign_key="edition.id")
    seq: int
    variant: str
    subject: str = ""
    trailing: bool = False
    ids: bytes = Field(sa_type=LargeBinary, nullable=False)
    lo_id: int
    hi_id: int
    n: int
    state: str = "pending"
    attempt: int = 0
    owner: str = ""
    lease_until: datetime | None = _instant(default=None, nullable=True)
    rank: int = 0
    release_at: datetime | None = _instant(default=None, nullable=True)
    not_before: datetime | None = _instant(default=None, nullable=True)
    reservation: str = ""
    given_up: int = 0
    doubled_n: int = 0
    provider_id: str = _text()
    skipped_n: int = 0
    failed_n: int = 0
    moved_n: int = 0
    error: str = _text()
    changed_at: datetime = _instant()


class ReaderException(SQLModel, table=True):
    """A reader who did not go out with their batch: skipped, failed or moved, and why."""

    __tablename__ = "exception"
    batch_id: int = Field(primary_key=True, foreign_key="batch.id")
    subscriber_id: int = Field(primary_key=True)
    edition_id: int = Field(foreign_key="edition.id", index=True)
    verdict: str  # skipped | failed | moved
    reason: str = _text()
    recorded_at: datetime = _instant()


class Inbox(SQLModel, table=True):
    """
    What a provider posted, byte for byte (zlib), from the acknowledgement until it is processed; then it goes.

    What cannot be processed is set aside: *error* says why, and it is kept for a while.
    """

    __tablename__ = "inbox"
    __table_args__ = {"sqlite_autoincrement": True}
    id: int | None = Field(default=None, primary_key=True)
    received_at: datetime = _instant()
    body: bytes = Field(sa_type=LargeBinary, nullable=False)
    error: str = _text()


class Event(SQLModel, table=True):
    """
    What the provider told us of one message; *raw* is kept without the address.

    *link*, *client* and *is_machine* are read from it, and read again by a replay.
    """

    __tablename__ = "event"
    __table_args__ = (
        UniqueConstraint("event_id", "address_hash", "kind"),
        Index("ix_event_batch", "batch"),
        Index("ix_event_reader", "reader", "edition"),
        Index("ix_event_edition", "edition", "kind"),
    )
    id: int | None = Field(default=None, primary_key=True)
    event_id: str = _text()
    address_hash: str = ""
    kind: str = "unknown"
    edition: str = ""
    batch: str = ""
    reader: str = ""
    occurred_at: datetime = _instant()
    received_at: datetime = _instant()
    link: str = _text()
    client: str = ""
    is_machine: bool = False
    raw: dict[str, Any] = _json(default_factory=dict)


class Counted(SQLModel, table=True):
    """The numbers of a newsletter's date whose events were deleted, as they were then (``reports.numbers``)."""

    __tablename__ = "counted"
    newsletter: str = Field(primary_key=True)
    edition_date: date = Field(primary_key=True)
    numbers: dict[str, Any] = _json(default_factory=dict)
    counted_at: datetime = _instant()


class CohortWeek(SQLModel, table=True):
    """How alive a newsletter's readers were in a week (*week* is its Monday, UTC), as it was last looked at."""

    __tablename__ = "cohort_week"
    newsletter: str = Field(primary_key=True)
    week: date = Field(primary_key=True)
    new_n: int = 0
    active_n: int = 0
    cooling_n: int = 0
    gone_n: int = 0


class StoryRead(SQLModel, table=True):
    """How many people clicked a story of a newsletter's date, as it was last counted; *place* in the edition from 1."""

    __tablename__ = "story_read"
    newsletter: str = Field(primary_key=True)
    edition_date: date = Field(primary_key=True)
    url: str = Field(sa_column=Column(Text, primary_key=True))
    place: int
    readers: int
    counted_at: datetime = _instant()


class Cancellation(SQLModel, table=True):
    """A scheduled attempt that was called back: it counts against the provider's limit until *release_at*."""

    __tablename__ = "cancellation"
    reservation: str = Field(primary_key=True)
    batch_id: int = Field(foreign_key="batch.id", index=True)
    attempt: int
    release_at: datetime = _instant()
    cancelled_at: datetime = _instant()


class Pace(SQLModel, table=True):
    """How many readers a sender or a newsletter (*key*) submitted in one *minute* since 1970."""

    __tablename__ = "pace"
    key: str = Field(primary_key=True)
    minute: int = Field(primary_key=True)
    n: int = 0


class OneTimeLink(SQLModel, table=True):
    """
    A link that works once and not for long: *secret_hash* of what stands in it, never the secret.

    *purpose* is ``confirm`` (joining), ``login``, ``address`` (``subscriber.pending_email`` is theirs) or
    ``undo`` (*detail* is what an act changed, before and after).
    """

    __tablename__ = "one_time_link"
    secret_hash: str = Field(primary_key=True)
    purpose: str
    subscriber_id: int = Field(foreign_key="subscriber.id", index=True)
    detail: dict[str, Any] = _json(default_factory=dict)
    made_at: datetime = _instant()
    expires_at: datetime = _instant(index=True)
    used_at: datetime | None = _instant(default=None, nullable=True)


class ReaderSession(SQLModel, table=True):
    """A reader who proved their address by a one-time link, in one browser; only the cookie's hash is kept."""

    __tablename__ = "reader_session"
    secret_hash: str = Field(primary_key=True)
    subscriber_id: int = Field(foreign_key="subscriber.id", index=True)
    made_at: datetime = _instant()
    expires_at: datetime = _instant(index=True)


class Attempts(SQLModel, table=True):
    """How often *key* (a keyed hash of an address or a network, and what it did) knocked in one *window*."""

    __tablename__ = "attempts"
    key: str = Field(primary_key=True)
    window: int = Field(primary_key=True)  # seconds since 1970 of its end: what is past can be deleted
    n: int = 0


class ApiToken(SQLModel, table=True):
    """A program that may use ``/api/v1``: its name, what it may do, and the hash of its token."""

    __tablename__ = "api_token"
    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True)
    secret_hash: str = Field(unique=True)
    scopes: list[str] = _json(default_factory=list)
    made_at: datetime = _instant()
    revoked_at: datetime | None = _instant(default=None, nullable=True)


class IdempotentRequest(SQLModel, table=True):
    """What a program's request with an ``Idempotency-Key`` led to; no address, so the answer is made again."""

    __tablename__ = "idempotent_request"
    token_id: int = Field(primary_key=True, foreign_key="api_token.id")
    key: str = Field(primary_key=True)
    fingerprint: str  # of method, path and body
    status: int
    reader: str = ""
    answer: dict[str, Any] = _json(default_factory=dict)
    made_at: datetime = _instant(index=True)


class ArchiveText(SQLModel, table=True):
    """The words of an edition's free variant, to be searched; what is paid never gets in here."""

    __tablename__ = "archive_text"
    edition_id: int = Field(primary_key=True, foreign_key="edition.id")
    newsletter: str = Field(index=True)
    edition_date: date
    language: str = ""
    title: str = _text()
    words: str = _text()


class ImportRun(SQLModel, table=True):
    """How far an import has come; *fingerprint* is of file and options, so the same import goes on where it stopped."""

    __tablename__ = "import_run"
    fingerprint: str = Field(primary_key=True)
    file: str = _text()
    rows_done: int = 0
    counts: dict[str, Any] = _json(default_factory=dict)
    is_finished: bool = False
    changed_at: datetime = _instant()


class Lease(SQLModel, table=True):
    """Who is the scheduler now; a convenience, never what correctness rests on."""

    __tablename__ = "lease"
    name: str = Field(primary_key=True)
    owner: str
    heartbeat_at: datetime = _instant()
