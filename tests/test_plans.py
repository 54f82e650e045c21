"""
The plans of the hot queries: what they read, by which index, and that nothing is read again for every row.

The statements are taken from the code while it runs and explained with the parameters they ran with.
"""

from __future__ import annotations

import json
import re
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

import pytest
from sqlalchemy import Engine, create_engine, event, text
from sqlmodel import Session, select

from newsletter.audience.segments import frozen_query, span_query
from newsletter.catalogue import Newsletter, Publication
from newsletter.outbox import claim as claiming
from newsletter.outbox.accounts import why
from newsletter.outbox.freeze import freeze
from newsletter.outbox.ledger import finish, recover
from newsletter.outbox.pace import Later
from newsletter.store.session import open_store, writing
from newsletter.store.tables import EditionRow, Subscriber
from tests.conftest import POSTGRES

NOW = datetime(2026, 11, 20, 4, 0, tzinfo=UTC)
READERS = 20_000
BATCH_SIZE = 25  # small, so that the table of batches is large enough for an index to pay
PUBLICATION = Publication.model_validate(
    {
        "name": "The Parallel", "url": "https://www.theparallel.example", "postal_address": "Here",
        "sender": {"name": "P", "email": "p@news.theparallel.example"}, "timezone": "Europe/Paris",
        "plans": [
            {"id": "free", "name": "Free", "class": "free"}, {"id": "annual", "name": "Annual", "class": "paying"},
        ],
    }
)  # fmt: skip
EVERY = {"daily": 1, "weekly": 2, "rare": 1000}
"""Of how many readers one is subscribed."""


def a_newsletter(slug: str) -> Newsletter:
    """A newsletter to all plans."""
    return Newsletter.model_validate(
        {
            "slug": slug, "name": slug, "subject": "s", "preheader": "p", "window_hours": 24, "min_stories": 1,
            "schedule": {"days": ["mon"], "at": "06:30"}, "sections": [{"id": "a", "block": "briefs", "max": 3}],
        }
    )  # fmt: skip


NUMBERS = "WITH RECURSIVE numbers(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM numbers WHERE i < {last}) "
BEFORE = (
    NUMBERS.format(last=READERS)
    + """INSERT INTO subscriber (id, reader, email, email_key, address_hash, name, language, country, timezone, plan,
        status, attributes, joined_at, updated_at, pending_email, deliver_at)
    SELECT i, '00000000000000' || CAST(1000000000 + i AS TEXT), 'r' || i || '@example.org', 'r' || i || '@example.org',
        CAST(1000000000 + i AS TEXT), 'Reader ' || i, 'en', 'FR', 'Europe/Paris',
        CASE WHEN i % 5 = 0 THEN 'annual' ELSE 'free' END, 'active', '{}', :at, :at, '', '' FROM numbers""",
    *(
        NUMBERS.format(last=READERS // every)
        + f"""INSERT INTO subscription (subscriber_id, newsletter, state, since, consent_source, consent_words, left_reason)
        SELECT i * {every}, '{slug}', 'active', :at, '', '', '' FROM numbers"""
        for slug, every in EVERY.items()
    ),
    NUMBERS.format(last=READERS // 50)
    + """INSERT INTO suppression (address_hash, scope, reason, source, suppressed_at)
    SELECT CAST(1000000000 + i * 50 AS TEXT), 'all', 'bounced', '', :at FROM numbers""",
    # Who was erased stays on the list for ever.
    NUMBERS.format(last=READERS)
    + """INSERT INTO suppression (address_hash, scope, reason, source, suppressed_at)
    SELECT 'gone' || i, 'all', 'erased', '', :at FROM numbers""",
    NUMBERS.format(last=READERS * 2)
    + """INSERT INTO event (event_id, address_hash, kind, edition, batch, reader, occurred_at, received_at, link, client,
        is_machine, raw)
    SELECT 'e' || i, CAST(1000000000 + i / 2 AS TEXT), 'delivered', 'daily.2026-11-20.1', (i / 50) || '.1',
        '00000000000000' || CAST(1000000000 + i / 2 AS TEXT), :at, :at, '', '', false, '{}' FROM numbers""",
)
"""The audience, before the freeze; and events."""

AFTER = (
    # Twenty mornings long gone, and the middle of this one: almost everything is submitted.
    NUMBERS.format(last=20)
    + """INSERT INTO edition (newsletter, edition_date, revision, status, reason, findings, template_hash, content_hash,
        link_scope, made_at, approved_by, audience, despite)
    SELECT 'daily', '2025-01-01', i + 1, 'submitted', '', '[]', '', '', '', :at, '', 0, '[]' FROM numbers""",
    """INSERT INTO batch (edition_id, seq, variant, "trailing", ids, lo_id, hi_id, n, state, attempt, owner, rank, reservation,
        given_up, doubled_n, provider_id, skipped_n, failed_n, moved_n, error, subject, changed_at)
    SELECT e.id, b.seq, b.variant, b."trailing", b.ids, b.lo_id, b.hi_id, b.n, 'submitted', 1, '', 0, '', 0, 0, 'p', 0, 0, 0,
        '', '', :at FROM batch b JOIN edition now ON now.id = b.edition_id AND now.newsletter = 'daily'
        JOIN edition e ON e.revision > 1""",
    "UPDATE batch SET state = 'submitted' WHERE seq > 3",
    NUMBERS.format(last=5)
    + """INSERT INTO exception (batch_id, subscriber_id, edition_id, verdict, reason, recorded_at)
    SELECT b.id, b.lo_id + i, b.edition_id, 'skipped', 'left after the freeze', :at FROM numbers CROSS JOIN batch b""",
)
"""What stands in the ledger after it."""


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def full(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A database of some size, with up-to-date statistics; nothing in it changes."""
    if request.param == "sqlite":
        yield from filled(f"sqlite:///{tmp_path_factory.mktemp('plans')}/subscribers.db")
        return
    if not POSTGRES:
        pytest.skip("no PostgreSQL: set TEST_POSTGRES_URL")
    schema = f"t{uuid.uuid4().hex[:16]}"
    admin = create_engine(POSTGRES, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE SCHEMA {schema}"))
    try:
        yield from filled(f"{POSTGRES}?options=-csearch_path%3D{schema}")
    finally:
        with admin.connect() as connection:
            connection.execute(text(f"DROP SCHEMA {schema} CASCADE"))
        admin.dispose()


def filled(url: str) -> Iterator[Engine]:
    """The database at *url*, filled; closed at the end."""
    opened = open_store(url)
    try:
        fill(opened)
        yield opened
    finally:
        opened.dispose()


def fill(engine: Engine) -> None:
    """Readers, three newsletters with an edition each, their batches, events and exceptions."""
    at = NOW - timedelta(days=1)
    stamp = at.isoformat(" ") if engine.dialect.name == "postgresql" else at.strftime("%Y-%m-%d %H:%M:%S.%f")

    def run(statements: tuple[str, ...]) -> None:
        with engine.execution_options(writes=True).begin() as connection:
            for statement in statements:
                connection.execute(text(statement), {"at": stamp} if ":at" in statement else {})

    run(BEFORE)
    for slug in EVERY:
        with writing(engine) as session:
            edition = EditionRow(
                newsletter=slug, edition_date=date(2026, 11, 20), status="approved", made_at=at
            )
            session.add(edition)
            session.flush()
            edition_id = edition.id or 0
        freeze(engine, a_newsletter(slug), PUBLICATION, edition_id, now=NOW, at=NOW, batch_size=BATCH_SIZE)
    run(AFTER)
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text("VACUUM ANALYZE" if engine.dialect.name == "postgresql" else "ANALYZE"))


class Look(NamedTuple):
    """One look at a table: *by* is the index, the primary key's too, or "" when all of it is read."""

    table: str
    by: str
    is_repeated: bool


class Plan(NamedTuple):
    """A statement, the looks it takes at tables, and whether it sorts rows."""

    sql: str
    looks: tuple[Look, ...]
    sorts: bool
    told: str

    def indexes(self, table: str) -> set[str]:
        """By which indexes *table* is looked at; "" stands for reading all of it."""
        return {look.by for look in self.looks if look.table == table}


def plans_of(engine: Engine, work: Callable[[Session], object]) -> list[Plan]:
    """The plans of all that *work* reads and writes; its changes are rolled back."""
    ran: list[tuple[str, Any]] = []

    def remember(_c: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool) -> None:
        ran.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", remember)
    try:
        with Session(engine) as session:
            work(session)
            session.rollback()
    finally:
        event.remove(engine, "before_cursor_execute", remember)
    statements = [one for one in ran if re.match(r"(SELECT|UPDATE|DELETE|WITH)\b", one[0])]
    return [explained(engine, statement, parameters) for statement, parameters in statements]


def explained(engine: Engine, statement: str, parameters: Any) -> Plan:
    """The plan of a statement with these very parameters."""
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            tree = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", parameters).scalar_one()
            return _of_tree(statement, tree)
        rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
        return _of_lines(statement, [str(row[3]) for row in rows])


def generic(engine: Engine, statement: str) -> Plan:
    """The plan PostgreSQL keeps for a prepared statement, made without knowing the parameters."""
    names = list(dict.fromkeys(re.findall(r"%\((\w+)\)s", statement)))
    numbered = re.sub(r"%\((\w+)\)s", lambda found: f"${names.index(found[1]) + 1}", statement)
    nothing = ", ".join(["NULL"] * len(names))
    with engine.connect() as connection:
        connection.exec_driver_sql("SET LOCAL plan_cache_mode = force_generic_plan")
        connection.exec_driver_sql(f"PREPARE kept AS {numbered.replace('%%', '%')}")
        tree = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) EXECUTE kept({nothing})").scalar_one()
        connection.exec_driver_sql("DEALLOCATE kept")
        return _of_tree(statement, tree)


def _of_tree(statement: str, tree: Any) -> Plan:
    looks: list[Look] = []
    kinds: list[str] = []

    def visit(node: dict[str, Any], table: str, is_repeated: bool) -> None:
        table = node.get("Relation Name", table)
        kind = node["Node Type"]
        kinds.append(kind)
        if kind == "Bitmap Heap Scan":
            table = node["Relation Name"]
        elif kind in ("Seq Scan", "Sample Scan", "Tid Scan"):
            looks.append(Look(table, "", is_repeated))
        elif "Index Name" in node:
            looks.append(Look(table, node["Index Name"], is_repeated))
        for child in node.get("Plans", ()):
            role = child["Parent Relationship"]
            again = (kind == "Nested Loop" and role == "Inner") or role == "SubPlan"
            # What is kept in memory is read once.
            visit(child, table, again or (is_repeated and kind not in ("Materialize", "Hash")))

    visit(tree[0]["Plan"], "", False)
    return Plan(statement, tuple(looks), any("Sort" in kind for kind in kinds), json.dumps(tree, indent=1))


def _of_lines(statement: str, lines: list[str]) -> Plan:
    aliases = {alias: table for table, alias in re.findall(r"(\w+) AS (\w+)", statement)}
    looks = []
    for index, line in enumerate(lines):
        found = re.match(r"(SCAN|SEARCH) (\S+)(?: USING (?:COVERING )?(?:INDEX )?(.+?)(?: \(.*)?)?$", line)
        if found and "VIRTUAL TABLE" not in line and "CONSTANT ROW" not in line:
            by = str(found[3]) if found[1] == "SEARCH" else ""
            is_repeated = any(before.startswith(("SCAN", "SEARCH")) for before in lines[:index])
            looks.append(Look(aliases.get(str(found[2]), str(found[2])), by, is_repeated))
    sorts = any("TEMP B-TREE" in line for line in lines)
    return Plan(statement, tuple(looks), sorts, "\n".join(lines))


def the_edition(session: Session, slug: str) -> EditionRow:
    """The edition of *slug*."""
    return session.exec(
        select(EditionRow).where(EditionRow.newsletter == slug, EditionRow.revision == 1)
    ).one()


def of_table(plans: list[Plan], table: str) -> list[Plan]:
    """Those that look at *table*."""
    return [plan for plan in plans if plan.indexes(table)]


def test_frozen_readers_are_read_by_their_ids(full: Engine) -> None:
    """Each reader and subscription by an index; in the plan that is kept the suppressions as well."""
    ids = list(range(7, READERS, 199))

    def read(session: Session) -> None:
        fit = claiming._fit(session.connection(), "daily", PUBLICATION, ids, "free", now=NOW)
        assert 70 < len(fit) < len(ids)

    (plan,) = plans_of(full, read)
    checked = [plan, generic(full, plan.sql)] if full.dialect.name == "postgresql" else [plan]
    for one in checked:
        assert "" not in one.indexes("subscriber") and one.indexes("subscriber"), one.told
        assert "" not in one.indexes("subscription") and one.indexes("subscription"), one.told
        assert not any(look.is_repeated and not look.by for look in one.looks), one.told
    kept = checked[-1]
    assert "" not in kept.indexes("suppression") and kept.indexes("suppression"), kept.told


def test_the_next_batch_is_the_first_of_its_index(full: Engine) -> None:
    """No sort and nothing but the batches of this edition that are pending."""

    def turn(session: Session) -> None:
        edition = the_edition(session, "daily")
        claimed = claiming.claim(
            session, a_newsletter("daily"), PUBLICATION, edition.id or 0, owner="me", at=NOW, ahead=timedelta()
        )  # fmt: skip
        assert claimed is not None and not isinstance(claimed, Later)

    plans = of_table(plans_of(full, turn), "batch")
    following = next(plan for plan in plans if plan.sql.startswith("SELECT"))
    checked = [following, generic(full, following.sql)] if full.dialect.name == "postgresql" else [following]
    for one in checked:
        assert one.indexes("batch") == {"ix_batch_turn"}, one.told
        assert not one.sorts, one.told
    for plan in plans:
        assert "" not in plan.indexes("batch"), plan.told


def freezing(engine: Engine, slug: str, *, spans: bool) -> Plan:
    """How the audience of a newsletter is read: all at once, or one span of ids."""
    newsletter, dialect = a_newsletter(slug), engine.dialect.name

    def read(session: Session) -> None:
        if spans:
            query = span_query(newsletter, PUBLICATION, dialect, now=NOW)
            session.execute(query, {"lo": 1, "hi": READERS})
        else:
            session.execute(frozen_query(newsletter, PUBLICATION, now=NOW))

    (plan,) = plans_of(engine, read)
    return plan


@pytest.mark.parametrize("spans", [False, True])
@pytest.mark.parametrize("slug", EVERY)
def test_a_freeze_reads_every_table_once(full: Engine, slug: str, spans: bool) -> None:
    """A whole audience may be a pass over whole tables; none of them is read again for every reader."""
    plan = freezing(full, slug, spans=spans)
    whole = Counter(look.table for look in plan.looks if not look.by)
    assert all(times == 1 for times in whole.values()), plan.told
    assert not any(look.is_repeated and not look.by for look in plan.looks), plan.told
    if full.dialect.name == "sqlite":
        assert plan.indexes("subscription") == {"ix_subscription_newsletter"}, plan.told
        assert not plan.sorts, plan.told


def test_a_dense_batch_is_read_as_a_span(full: Engine) -> None:
    """Subscriptions and subscribers by an index from the first id to the last, in the kept plan too."""

    def read(session: Session) -> None:
        ids = list(range(1001, 2001))
        assert len(claiming._fit(session.connection(), "daily", PUBLICATION, ids, "free", now=NOW)) > 700

    (plan,) = plans_of(full, read)
    for one in [plan, generic(full, plan.sql)] if full.dialect.name == "postgresql" else [plan]:
        assert "" not in one.indexes("subscriber") and one.indexes("subscriber"), one.told
        assert one.indexes("subscription") == {"ix_subscription_newsletter"}, one.told
        assert not any(look.is_repeated and not look.by for look in one.looks), one.told


@pytest.mark.parametrize("spans", [False, True])
def test_a_small_audience_does_not_cost_a_large_one(full: Engine, spans: bool) -> None:
    """One reader in a thousand: their subscriptions come from the index, not from all subscriptions."""
    plan = freezing(full, "rare", spans=spans)
    assert plan.indexes("subscription") == {"ix_subscription_newsletter"}, plan.told
    assert "" not in plan.indexes("subscriber"), plan.told


def one_reader(engine: Engine) -> list[Plan]:
    """What ``why`` asks of one reader who got the edition, and of one who is not in it."""
    plans: list[Plan] = []
    for reader in (READERS - 2, 50):

        def ask(session: Session, reader: int = reader) -> None:
            known = session.get_one(Subscriber, reader)
            assert why(session, the_edition(session, "daily"), "daily", known).verdict

        plans += plans_of(engine, ask)
    return [plan for plan in plans if not plan.indexes("edition")]


def test_why_of_one_reader_reads_by_indexes(full: Engine) -> None:
    """Reader, batches, exceptions, suppression."""
    plans = [plan for plan in one_reader(full) if not plan.indexes("event")]
    assert {look.table for plan in plans for look in plan.looks} >= {
        "subscriber",
        "batch",
        "exception",
        "subscription",
    }
    small = {"subject_test"}  # a row for an edition that tries several subjects: here not one
    for plan in plans:
        assert all(look.by for look in plan.looks if look.table not in small), plan.told


def test_why_of_one_reader_reads_their_events_by_an_index(full: Engine) -> None:
    """The largest table by far is not read for one reader."""
    plans = of_table(one_reader(full), "event")
    assert plans
    for plan in plans:
        assert all(look.by for look in plan.looks), plan.told


def test_the_end_of_an_edition_is_seen_by_an_index(full: Engine) -> None:
    """Asked whenever the last of an edition may have come back."""
    plans = plans_of(full, lambda session: finish(session, the_edition(session, "daily").id or 0, at=NOW))
    (plan,) = of_table(plans, "batch")
    assert plan.indexes("batch") == {"ix_batch_turn"}, plan.told


def test_what_was_in_flight_is_found_by_an_index(full: Engine) -> None:
    """Asked at every start of a drain; all editions ever sent are in the table."""
    plans = of_table(plans_of(full, lambda session: recover(session, at=NOW)), "batch")
    assert plans
    for plan in plans:
        # To go through the whole index of turns would be a scan by another name.
        assert not {"", "ix_batch_turn"} & plan.indexes("batch"), plan.told
