"""Segments as SQL: who a newsletter goes to, and what became of its frozen readers since."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, cast

from sqlalchemy import (
    ARRAY,
    BigInteger,
    BindParameter,
    Boolean,
    ColumnElement,
    Integer,
    Select,
    Text,
    and_,
    bindparam,
    case,
    exists,
    extract,
    false,
    func,
    literal,
    null,
    or_,
)
from sqlalchemy import cast as cast_to
from sqlalchemy import select as columns
from sqlalchemy.sql.visitors import replacement_traverse
from sqlmodel import Session, col, select

from newsletter.catalogue import (
    CLASSES,
    Catalogue,
    Newsletter,
    PlanClass,
    PlanEnds,
    Publication,
    Reminder,
    Segment,
    class_of,
    reminding,
)
from newsletter.store.tables import Instant, Subscriber, SubscriberTag, Subscription, Suppression


def is_paying(publication: Publication, now: datetime) -> ColumnElement[bool]:
    """Whether a subscriber is of class paying at *now*: a paying plan that has not run out."""
    return and_(
        or_(false(), *(col(Subscriber.plan) == plan for plan in publication.paying_plans)),
        or_(col(Subscriber.plan_until).is_(None), col(Subscriber.plan_until) > now),
    )


def variant_index(
    publication: Publication,
    reminders: Sequence[Reminder],
    now: datetime,
    *,
    reminded_at: datetime | None = None,
) -> ColumnElement[int]:
    """
    Which of ``variants`` a subscriber gets at *now*: 0 free, 1 paying, 2 and more the first reminder that fits.

    A plan without an end fits none: what is unknown (NULL) is passed over by CASE. *reminded_at*: the
    moment a reminder must have fitted at, when it is another.
    """
    paying = is_paying(publication, now)
    fits = [
        (and_(*_plan_ends(reminder, publication, reminded_at or now)), index)
        for index, reminder in enumerate(reminders, len(CLASSES))
    ]
    return case((~paying, 0), *fits, else_=1)


def variants(reminders: Sequence[Reminder]) -> tuple[str, ...]:
    """The variants that ``variant_index`` counts."""
    return (*CLASSES, *(reminding(one.id) for one in reminders))


def audience_query(
    newsletter: Newsletter, publication: Publication, *, plan_class: PlanClass, now: datetime
) -> Select[Any]:
    """
    Select the ids of those the newsletter goes to in *plan_class*, ascending.

    Active subscription and address, not suppressed for all or for this newsletter, and the segment.
    """
    paying = is_paying(publication, now)
    return _audience(newsletter, (col(Subscriber.id),), publication, now=now).where(
        paying if plan_class == "paying" else ~paying
    )


def frozen_query(
    newsletter: Newsletter, publication: Publication, reminders: Sequence[Reminder] = (), *, now: datetime
) -> Select[Any]:
    """
    Select the whole audience of *newsletter* in one pass, ascending: id, variant, timezone, deliver_at, engaged.

    *variant* is an index (``variant_index``); *engaged* is in whole seconds since 1970, 0 for never: plain
    numbers and texts on both databases. The same conditions as ``audience_query``; its classes are told
    apart by whoever reads it.
    """
    variant = variant_index(publication, reminders, now).label("variant")
    engaged = cast_to(func.coalesce(extract("epoch", col(Subscriber.engaged_at)), 0), BigInteger)
    wanted = (col(Subscriber.id), variant, col(Subscriber.timezone), col(Subscriber.deliver_at), engaged)
    return _audience(newsletter, wanted, publication, now=now)


def span_query(
    newsletter: Newsletter,
    publication: Publication,
    dialect: str,
    reminders: Sequence[Reminder] = (),
    *,
    now: datetime,
) -> Select[Any]:
    """
    Select the audience between two ids as one row, a text of ids for each of ``variants``, a comma between two.

    In no order; NULL when there is nobody. Parameters when executed: ``lo`` and ``hi``. One row instead of
    thousands takes two thirds of the time.
    """
    paying = is_paying(publication, now)
    ids = _joined(cast_to(col(Subscriber.id), Text), ",", dialect)
    within = _within_span(dialect)
    wanted = [ids.filter(~paying), ids.filter(paying)]
    if reminders:
        index = variant_index(publication, reminders, now)
        wanted = [ids.filter(index == one) for one in range(len(variants(reminders)))]
    query = _audience(newsletter, wanted, publication, now=now, on=within).order_by(None)
    return _inlined(query) if dialect == "sqlite" else query


def ends_query(newsletter: Newsletter) -> Select[Any]:
    """Select the first and the last id subscribed to *newsletter*; each from an end of the index."""

    def end(find: Any) -> Any:
        found = columns(find(col(Subscription.subscriber_id)))
        return found.where(
            col(Subscription.newsletter) == newsletter.slug, col(Subscription.state) == "active"
        ).scalar_subquery()

    return cast("Select[Any]", columns(end(func.min), end(func.max)))


def _audience(
    newsletter: Newsletter,
    wanted: Sequence[Any],
    publication: Publication,
    *,
    now: datetime,
    on: ColumnElement[bool] | None = None,
) -> Select[Any]:
    same = col(Subscription.subscriber_id) == col(Subscriber.id)
    return (
        columns(*wanted)
        .select_from(Subscriber)
        .join(Subscription, same if on is None else on)
        .where(
            col(Subscription.newsletter) == newsletter.slug,
            col(Subscription.state) == "active",
            col(Subscriber.status) == "active",
            is_awake(now),
            ~_suppressed(newsletter.slug),
            *_conditions(newsletter.audience, publication, now),
        )
        .order_by(col(Subscription.subscriber_id))
    )


def _within_span(dialect: str) -> ColumnElement[bool]:
    """A subscription with its subscriber, of all ids between the parameters ``lo`` and ``hi``."""
    reader, own = col(Subscriber.id), col(Subscription.subscriber_id)
    lo, hi = bindparam("lo", type_=Integer), bindparam("hi", type_=Integer)
    if dialect == "postgresql":
        return and_(reader == own, reader.between(lo, hi), own.between(lo, hi))  # two indexes, side by side
    # Adding nothing keeps SQLite from beginning with the wide table and looking up each subscription.
    return and_(reader == own + 0, own.between(lo, hi))


def _inlined(query: Select[Any]) -> Select[Any]:
    """The same with its constants in the text: SQLite compares a column with those an eighth faster."""

    def inline(element: Any, **_: Any) -> Any:
        is_constant = isinstance(element, BindParameter) and not element.required
        return element.render_literal_execute() if is_constant else None

    return cast("Select[Any]", replacement_traverse(query, {}, inline))


def _joined(column: Any, between: str, dialect: str) -> Any:
    """All values of *column* as one text."""
    join = func.string_agg if dialect == "postgresql" else func.group_concat
    return join(column, literal(between, Text))


def is_awake(now: Any) -> ColumnElement[bool]:
    """Whether a subscriber has not paused everything beyond *now*."""
    return or_(col(Subscriber.paused_until).is_(None), col(Subscriber.paused_until) <= now)


def _suppressed(slug: str) -> ColumnElement[bool]:
    # The empty text keeps the scope out of the index: one look-up for the address instead of one a scope.
    scope = or_(*(col(Suppression.scope) + "" == one for one in ("all", slug)))
    one = columns(literal(1)).where(col(Suppression.address_hash) == col(Subscriber.address_hash), scope)
    return one.correlate(Subscriber).exists()


def _conditions(segment: Segment, publication: Publication, now: datetime) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if segment.plans:
        conditions.append(col(Subscriber.plan).in_(segment.plans))
    if segment.languages:
        conditions.append(col(Subscriber.language).in_(segment.languages))
    if segment.countries:
        conditions.append(col(Subscriber.country).in_(segment.countries))
    if segment.tags:
        conditions.append(_tagged(segment.tags))
    if segment.without_tags:
        conditions.append(~_tagged(segment.without_tags))
    if segment.joined_after:
        conditions.append(col(Subscriber.joined_at) >= _midnight(segment.joined_after))
    if segment.joined_before:
        conditions.append(col(Subscriber.joined_at) < _midnight(segment.joined_before))
    return conditions + _plan_ends(segment, publication, now)


def _plan_ends(whose: PlanEnds, publication: Publication, now: datetime) -> list[ColumnElement[bool]]:
    """On a plan that still runs and ends in at most so many days; a condition that is not set counts for nothing."""
    until = col(Subscriber.plan_until)
    conditions: list[ColumnElement[bool]] = []
    for days, plans in _ends(whose, publication):
        conditions += [col(Subscriber.plan).in_(plans), until > now, until <= now + timedelta(days=days)]
    return conditions


def _ends(whose: PlanEnds, publication: Publication) -> list[tuple[int, tuple[str, ...]]]:
    """(days, the plans meant) of each condition that is set."""
    trials = publication.trial_plans
    renewed = tuple(plan for plan in publication.paying_plans if plan not in trials)
    conditions = (
        (whose.plan_ends_within_days, publication.paying_plans),
        (whose.renewal_due_within_days, renewed),
        (whose.trial_ends_within_days, trials),
    )
    return [(days, plans) for days, plans in conditions if days is not None]


def _tagged(tags: Sequence[str]) -> ColumnElement[bool]:
    return exists().where(
        col(SubscriberTag.subscriber_id) == col(Subscriber.id), col(SubscriberTag.tag).in_(tags)
    )


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), tzinfo=UTC)


def segment_sizes(session: Session, catalogue: Catalogue, now: datetime) -> tuple[tuple[str, str, int], ...]:
    """(slug, variant, readers) for each newsletter and each variant it goes out in."""
    return tuple(
        (newsletter.slug, variant, readers)
        for newsletter in catalogue.newsletters
        for variant, readers in audience_sizes(session, newsletter, catalogue.publication, now).items()
    )


def audience_sizes(
    session: Session, newsletter: Newsletter, publication: Publication, now: datetime
) -> dict[str, int]:
    """How many readers each variant of a newsletter would go to now."""
    reminders = publication.reminders_named(newsletter.reminders)
    index = variant_index(publication, reminders, now).label("variant")
    query = _audience(newsletter, (index,), publication, now=now).order_by(None).subquery()
    counted = session.execute(columns(query.c.variant, func.count()).group_by(query.c.variant)).all()
    found = {int(variant): int(number) for variant, number in counted}
    return {
        variant: found.get(at, 0)
        for at, variant in enumerate(variants(reminders))
        if class_of(variant) in newsletter.audience.classes
    }


SEPARATOR = "\x1f"
"""Between the values of an aggregated column: the unit separator, which no address or name holds."""


def ids_text(ids: Sequence[int], dialect: str) -> str:
    """Ids as ``fit_query`` takes them: an array's text for PostgreSQL, JSON for SQLite."""
    listed = ",".join(map(str, ids))
    return f"{{{listed}}}" if dialect == "postgresql" else f"[{listed}]"


def fit_query(
    slug: str, publication: Publication, dialect: str, *, dense: bool, reminder: Reminder | None = None
) -> Select[Any]:
    """
    Select those of frozen readers who may have the mail now, as one row: ids, readers, emails, names.

    Each column holds the values of all readers, in the same order, between ``SEPARATOR`` (readers:
    between nothing, 24 characters each); NULL when there is nobody. One row instead of a thousand takes
    a third less time. One look at address, subscription, suppression and plan: the gap to the send is
    milliseconds.

    Parameters when executed: ``now``, ``paying`` (bool), and ``ids`` (``ids_text`` of them); or, *dense*,
    ``lo`` and ``hi``: all between them are read, frozen or not, in half the time on PostgreSQL, which walks
    two indexes side by side. With *reminder* also ``ends_by`` (``ends_by`` of it): only those it still fits.
    """
    source: Any = Subscriber
    same = col(Subscription.subscriber_id) == col(Subscriber.id)
    if dense:
        same = _within_span(dialect)
    elif dialect == "postgresql":
        # As text: the driver takes a millisecond to write a thousand numbers as an array. As a table: a condition
        # on an array is looked at reader by reader where the planner knows no numbers yet, a second a batch.
        listed = func.unnest(cast_to(bindparam("ids", type_=Text), ARRAY(BigInteger))).table_valued("value")
        given = listed.render_derived(name="given")
        source = given.join(Subscriber, col(Subscriber.id) == given.c.value)
    else:
        given = func.json_each(bindparam("ids", type_=Text)).table_valued("value")
        source = given.join(Subscriber, col(Subscriber.id) == given.c.value)
    now: Any = bindparam("now", type_=Instant)
    runs = or_(col(Subscriber.plan_until).is_(None), col(Subscriber.plan_until) > now)
    plans = or_(false(), *(col(Subscriber.plan) == plan for plan in publication.paying_plans))
    fits = [] if reminder is None else _reminder_fits(reminder, publication, now)
    query: Any = (  # SQLAlchemy types a Select by its columns
        columns(
            _joined(cast_to(col(Subscriber.id), Text), SEPARATOR, dialect),
            _joined(col(Subscriber.reader), "", dialect),
            _joined(col(Subscriber.email), SEPARATOR, dialect),
            _joined(col(Subscriber.name), SEPARATOR, dialect),
        )
        .select_from(source)
        .join(Subscription, and_(same, col(Subscription.newsletter) == slug))
        .where(
            col(Subscription.state) == "active",
            col(Subscriber.status) == "active",
            is_awake(now),
            ~_suppressed(slug),
            and_(plans, runs) == bindparam("paying", type_=Boolean),
            *fits,
        )
    )
    return cast("Select[Any]", query)


def _reminder_fits(reminder: Reminder, publication: Publication, now: Any) -> list[ColumnElement[bool]]:
    ((_, plans),) = _ends(reminder, publication)
    until = col(Subscriber.plan_until)
    return [
        or_(false(), *(col(Subscriber.plan) == plan for plan in plans)),
        until > now,
        until <= bindparam("ends_by", type_=Instant),
    ]


def ends_by(reminder: Reminder, publication: Publication, now: datetime) -> datetime:
    """The last end of a plan that *reminder* still speaks of at *now*."""
    ((days, _),) = _ends(reminder, publication)
    return now + timedelta(days=days)


def reader_query(
    ids: Sequence[int],
    slug: str,
    publication: Publication,
    *,
    now: datetime,
    reminder: Reminder | None = None,
) -> Select[Any]:
    """
    Select what is true of frozen readers now: id, reader, email, name, status, paused_until, state, suppressed, variant.

    *state* is that of the subscription (None: gone); *suppressed* the reason or None; *variant* as at
    *now*, with no reminder but *reminder*: nobody gets into a reminder after the freeze. One query, so that
    the gap between this look and the send is milliseconds.
    """
    reason = (
        select(func.min(Suppression.reason))
        .where(
            col(Suppression.address_hash) == col(Subscriber.address_hash),
            col(Suppression.scope).in_(("all", slug)),
        )
        .scalar_subquery()
    )
    reminders = () if reminder is None else (reminder,)
    names = variants(reminders)
    index = variant_index(publication, reminders, now)
    variant = case(*((index == at, literal(name)) for at, name in enumerate(names)), else_=literal("free"))
    return (
        columns(
            col(Subscriber.id),
            col(Subscriber.reader),
            col(Subscriber.email),
            col(Subscriber.name),
            col(Subscriber.status),
            case((is_awake(now), None), else_=col(Subscriber.paused_until)).label("paused_until"),
            col(Subscription.state),
            func.coalesce(reason, null()).label("suppressed"),
            variant.label("variant"),
        )
        .join(
            Subscription,
            and_(col(Subscription.subscriber_id) == col(Subscriber.id), col(Subscription.newsletter) == slug),
            isouter=True,
        )
        .where(col(Subscriber.id).in_(ids))
    )
