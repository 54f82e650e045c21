"""Moving an installation to another database: all of it, proved, or nothing."""

from __future__ import annotations

import shutil
import uuid
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, func, insert, null, select, text
from sqlmodel import SQLModel

from newsletter.errors import StateError, StoreError
from newsletter.store.copying import Copied, copy_store
from newsletter.store.session import open_store, reading, writing
from newsletter.store.tables import (
    ApiToken,
    ApprovalLink,
    ArchiveText,
    ArticleRow,
    Attempts,
    Batch,
    Cancellation,
    CohortWeek,
    Counted,
    Decision,
    EditionFile,
    EditionPicture,
    EditionRow,
    EditionStory,
    EditorOrder,
    Event,
    FormerAddress,
    IdempotentRequest,
    ImportRun,
    Inbox,
    Installation,
    Lease,
    OneTimeLink,
    Pace,
    Picture,
    PictureSource,
    ReaderException,
    ReaderSession,
    Rendering,
    Slot,
    SourceState,
    StoryLink,
    StoryRead,
    SubjectTest,
    Subscriber,
    SubscriberTag,
    Subscription,
    SunsetStep,
    Suppression,
    Told,
)
from tests.conftest import POSTGRES

NOW = datetime(2026, 11, 20, 4, 0, 0, 123456, tzinfo=UTC)
DAY = date(2026, 11, 20)
TABLES = [table for table in SQLModel.metadata.sorted_tables if table.name != "lease"]


@contextmanager
def _a_schema() -> Iterator[Engine]:
    """A fresh, migrated schema on PostgreSQL."""
    if not POSTGRES:
        pytest.skip("no PostgreSQL: set TEST_POSTGRES_URL")
    schema = f"t{uuid.uuid4().hex[:16]}"
    admin = create_engine(POSTGRES, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE SCHEMA {schema}"))
    opened = open_store(f"{POSTGRES}?options=-csearch_path%3D{schema}")
    try:
        yield opened
    finally:
        opened.dispose()
        with admin.connect() as connection:
            connection.execute(text(f"DROP SCHEMA {schema} CASCADE"))
        admin.dispose()


@pytest.fixture
def file(tmp_path: Path, migrated_file: Path) -> Iterator[Engine]:
    """A second database, an SQLite file."""
    shutil.copy(migrated_file, tmp_path / "second.db")
    opened = open_store(f"sqlite:///{tmp_path}/second.db")
    yield opened
    opened.dispose()


@pytest.fixture
def schema() -> Iterator[Engine]:
    """A second database, a schema on PostgreSQL."""
    with _a_schema() as opened:
        yield opened


def _subscriber(number: int, **fields: Any) -> Subscriber:
    values: dict[str, Any] = {
        "reader": f"r{number}", "email": f"A{number}@Example.org", "email_key": f"a{number}@example.org",
        "address_hash": f"h{number}", "joined_at": NOW, "updated_at": NOW,
    }  # fmt: skip
    return Subscriber(**(values | fields))


def _edition(number: int, **fields: Any) -> EditionRow:
    values: dict[str, Any] = {"newsletter": "daily", "edition_date": DAY, "revision": number, "made_at": NOW}
    return EditionRow(id=number, **(values | fields))


def _batch(**fields: Any) -> Batch:
    values: dict[str, Any] = {
        "edition_id": 1, "seq": 1, "variant": "free", "ids": b"\x00\xff\x07", "lo_id": 1, "hi_id": 90, "n": 2,
        "state": "submitted", "changed_at": NOW,
    }  # fmt: skip
    return Batch(**(values | fields))


def _fill(engine: Engine) -> None:
    """A small installation with a row in every table and the values that are hard to carry over."""
    other_zone = datetime(2026, 3, 29, 3, 30, tzinfo=timezone(timedelta(hours=2)))
    hard = {"z": [1, 2.5, 1e300, 0.1, True, None], "a": {"é": "\u0000 \ud83d\ude00 ű"}, "big": 2**70}
    stages: Sequence[Sequence[SQLModel]] = (
        (
            Installation(name="suppression_key", value="check"),
            SourceState(source="wire", first_fetched_at=NOW, etag='W/"1"'),
            Picture(hash="p1", width=2, height=1, data=b"\xff\xd8\x00", kept_at=NOW),
            ArticleRow(
                url="https://a.example/1", source="wire", headline="Ünïcode 😀 'quoted'\n", body="b" * 100_000,
                image={"url": "x"}, published_at=other_zone, first_seen_at=NOW, last_seen_at=NOW, topics=["a"],
            ),
            ArticleRow(
                url="https://a.example/2", source="wire", published_at=NOW, first_seen_at=NOW, last_seen_at=NOW
            ),
            Slot(newsletter="daily", local_date=DAY, due_at=NOW, state="made", recorded_at=NOW),
            # A correction that stands before what it corrects, and a chain.
            _edition(9, newsletter="weekly"), _edition(1), _edition(5),
            EditorOrder(newsletter="daily", edition_date=DAY, verb="pin", detail=hard, given_at=NOW),
            _subscriber(1, attributes=hard, plan_until=NOW), _subscriber(2), _subscriber(77, id=77, name="Žofie"),
            Suppression(address_hash="h3", scope="all", reason="erased", suppressed_at=NOW),
            Event(event_id="e1", address_hash="h1", occurred_at=NOW, received_at=NOW, raw=hard),
            Counted(newsletter="daily", edition_date=DAY, numbers={"total": {"opened": 1}}, counted_at=NOW),
            StoryRead(newsletter="daily", edition_date=DAY, url="https://a.example/1", place=1, readers=3, counted_at=NOW),
            CohortWeek(newsletter="daily", week=DAY, new_n=1, gone_n=4),
            Inbox(received_at=NOW, body=zlib.compress(b"[]"), error="ValueError"),
            *(Pace(key=key, minute=29_000_000, n=3) for key in ("b", "B", "a_", "a", "é", "Z", "a b", "😀")),
            Lease(name="scheduler", owner="host:1", heartbeat_at=NOW - timedelta(hours=1)),
            Attempts(key="k", window=1_790_000_000, n=2),
            ApiToken(id=1, name="site", secret_hash="s1", scopes=["subscribers:read"], made_at=NOW),
            ImportRun(fingerprint="f1", file="readers.csv", rows_done=400, counts={"added": 1}, changed_at=NOW),
        ),
        (
            _edition(2, corrects_id=9, snapshot={"b": 1, "a": 2}, findings=[{"x": 1}]),
            _edition(3, corrects_id=2),
            Rendering(
                edition_id=1, variant="free", html=zlib.compress(bytes(range(256))), text=b"", other_subjects=["Ü"]
            ),
            EditionPicture(picture="ü", edition_id=1),
            StoryRead(newsletter="daily", edition_date=DAY, url="https://a.example/ü", place=1, readers=2, counted_at=NOW),
            SunsetStep(subscriber_id=1, step="stayed", at=NOW, quiet_since=NOW, reason="ü", until=NOW),
            SubjectTest(edition_id=1, sample=2, until=NOW, chosen="b", chosen_at=NOW, chosen_by="mia", reason="ü"),
            EditionStory(edition_id=1, url="https://a.example/1"),
            StoryLink(url="https://a.example/1", other="https://b.example/ü", together=False, actor="mia", given_at=NOW),
            ArchiveText(edition_id=1, newsletter="daily", edition_date=DAY, title="Ünïcode", words="words"),
            OneTimeLink(
                secret_hash="o1", purpose="login", subscriber_id=1, detail=hard, made_at=NOW, expires_at=NOW
            ),
            ApprovalLink(
                secret_hash="a1", edition_id=1, content_hash="c", action="approve", editor="mia", made_at=NOW,
                expires_at=NOW,
            ),
            Decision(edition_id=1, at=NOW, verb="approved", actor="mia", content_hash="c", detail="despite alt"),
            Told(key="thin today 2026-11-20", at=NOW),
            ReaderSession(secret_hash="w1", subscriber_id=1, made_at=NOW, expires_at=NOW),
            IdempotentRequest(token_id=1, key="once", fingerprint="f", status=201, reader="r1", made_at=NOW),
            FormerAddress(subscriber_id=1, address_hash="h0", until=NOW),
            PictureSource(url="https://a.example/b.jpg", picture="p1", tried_at=NOW), PictureSource(url="https://a.example/c.jpg", reason="gone", tried_at=NOW),
            SubscriberTag(subscriber_id=1, tag="vip"), SubscriberTag(subscriber_id=1, tag="Vip"),
            Subscription(
                subscriber_id=1, newsletter="daily", since=NOW, consent_source="form", consent_words="Yes, send it",
                consented_at=NOW, confirmed_at=NOW,
            ),
            Subscription(subscriber_id=77, newsletter="daily", state="left", since=NOW, left_at=NOW),
        ),
        (_batch(id=4), EditionPicture(picture="p1", edition_id=1), EditionFile(edition_id=1, kind="pdf", data=b"%PDF\x00")),
        (
            ReaderException(batch_id=4, subscriber_id=88, edition_id=1, verdict="skipped", recorded_at=NOW),
            Cancellation(reservation="s1", batch_id=4, attempt=1, release_at=NOW, cancelled_at=NOW),
        ),
    )  # fmt: skip
    with writing(engine) as session:
        for stage in stages:
            session.add_all(stage)
            session.flush()
        edition = SQLModel.metadata.tables["edition"]
        session.execute(edition.update().where(edition.c.id == 5).values(snapshot=null()))


def _rows(engine: Engine) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table that is copied."""
    with engine.connect() as connection:
        return {
            table.name: sorted(
                (tuple(row) for row in connection.execute(select(table))),
                key=lambda row: repr(row),
            )
            for table in TABLES
        }


def _counts(engine: Engine) -> int:
    return sum(len(rows) for rows in _rows(engine).values())


def _clock() -> datetime:
    return NOW


def _proves_equal(source: Engine, target: Engine) -> tuple[Copied, ...]:
    told = copy_store(source, target, clock=_clock, chunk=3)

    assert _rows(target) == _rows(source)
    assert [(one.table, one.rows) for one in told] == [
        (table.name, len(_rows(source)[table.name])) for table in TABLES
    ]
    assert all(one.rows > 0 for one in told)
    with reading(target) as session:
        assert session.connection().execute(select(SQLModel.metadata.tables["lease"])).all() == []
    return told


def test_an_installation_arrives_whole_on_an_sqlite_file(engine: Engine, file: Engine) -> None:
    """From either kind: equal rows in every table, none of the lease."""
    _fill(engine)

    _proves_equal(engine, file)


def test_an_installation_arrives_whole_on_postgresql(engine: Engine, schema: Engine) -> None:
    """From either kind: equal rows in every table, none of the lease."""
    _fill(engine)

    _proves_equal(engine, schema)


def test_there_and_back_has_the_same_hashes(tmp_path: Path, file: Engine, schema: Engine) -> None:
    """A hash is of the values alone: it does not depend on the kind of database or the size of a chunk."""
    back = open_store(f"sqlite:///{tmp_path}/back.db")
    _fill(file)

    there = copy_store(file, schema, clock=_clock)
    and_back = copy_store(schema, back, clock=_clock, chunk=1)

    back.dispose()
    assert there == and_back


def test_the_hash_is_that_of_text_in_order_of_code_points(file: Engine, schema: Engine) -> None:
    """A database that sorts text by a language gives the same hash."""
    with writing(schema) as session:
        if not session.execute(text("SELECT 1 FROM pg_collation WHERE collname = 'en-x-icu'")).first():
            pytest.skip("this PostgreSQL has no ICU collations")
        session.execute(text('ALTER TABLE pace ALTER COLUMN key TYPE varchar COLLATE "en-x-icu"'))
    _fill(file)

    told = copy_store(file, schema, clock=_clock)

    assert next(one.rows for one in told if one.table == "pace") == 8


def test_null_and_the_null_of_json_stay_apart(file: Engine, schema: Engine) -> None:
    """What a query tells apart is copied apart."""
    _fill(file)
    query = text("SELECT id FROM edition WHERE snapshot IS NULL")

    copy_store(file, schema, clock=_clock)

    with reading(file) as before, reading(schema) as after:
        assert before.execute(query).all() == after.execute(query).all() == [(5,)]


def test_new_rows_do_not_collide(file: Engine, engine: Engine) -> None:
    """The next id follows the highest copied one."""
    _fill(file)

    copy_store(file, engine, clock=_clock)

    with writing(engine) as session:
        edition = EditionRow(newsletter="new", edition_date=DAY, made_at=NOW)
        event = Event(event_id="new", occurred_at=NOW, received_at=NOW)
        session.add_all([edition, event, _subscriber(500)])
        session.flush()
        assert (edition.id, event.id) == (10, 2)


def test_the_id_of_an_erased_reader_in_a_frozen_batch_is_not_given_again(
    file: Engine, schema: Engine
) -> None:
    """On PostgreSQL, where ids are never given twice, the copy keeps that promise."""
    _fill(file)

    copy_store(file, schema, clock=_clock)

    with writing(schema) as session:
        reader = _subscriber(500)
        session.add(reader)
        session.flush()
        assert reader.id == 91


def test_an_empty_installation_is_copied_too(file: Engine, engine: Engine) -> None:
    """Nothing is a legitimate number of rows, and its ids begin at one."""
    told = copy_store(file, engine, clock=_clock)

    assert {one.rows for one in told} == {0}
    with writing(engine) as session:
        reader = _subscriber(1)
        session.add(reader)
        session.flush()
        assert reader.id == 1


def test_a_target_with_rows_is_refused(file: Engine, engine: Engine) -> None:
    """The table is named and what to do; neither side changes."""
    _fill(file)
    with writing(engine) as session:
        session.add(Suppression(address_hash="x", scope="all", reason="manual", suppressed_at=NOW))

    with pytest.raises(StoreError, match=r"already has rows in its table suppression.*new, empty database"):
        copy_store(file, engine, clock=_clock)

    assert _counts(engine) == 1


def test_a_database_is_not_copied_onto_itself(engine: Engine) -> None:
    """It is a target with rows like any other."""
    _fill(engine)

    with pytest.raises(StoreError, match="already has rows"):
        copy_store(engine, engine, clock=_clock)


def test_tables_of_others_are_left_alone(file: Engine, engine: Engine) -> None:
    """A target may hold what is not ours; the source's are not copied."""
    for one in (file, engine):
        with writing(one) as session:
            session.execute(text("CREATE TABLE theirs (a integer)"))
            session.execute(text("INSERT INTO theirs VALUES (1)"))
    _fill(file)

    copy_store(file, engine, clock=_clock)

    with reading(engine) as session:
        assert session.execute(text("SELECT count(*) FROM theirs")).scalar_one() == 1


def test_while_a_batch_is_in_flight_nothing_is_copied(engine: Engine, file: Engine) -> None:
    """The edition is named, and that sending must be paused or finished."""
    _fill(engine)
    with writing(engine) as session:
        session.add(_batch(edition_id=2, state="submitting"))

    with pytest.raises(StateError, match=r"daily of 2026-11-20 \(revision 2\).*finish.*or pause it"):
        copy_store(engine, file, clock=_clock)

    assert _counts(file) == 0


@pytest.mark.parametrize(("age", "refused"), [(-5, True), (0, True), (59, True), (60, False), (3600, False)])
def test_while_a_scheduler_lives_nothing_is_copied(
    engine: Engine, file: Engine, *, age: int, refused: bool
) -> None:
    """A heartbeat younger than a minute is a scheduler at work; an older one is nobody's."""
    with writing(engine) as session:
        session.add(_edition(1, status="submitting"))
        session.add(Lease(name="scheduler", owner="h", heartbeat_at=NOW - timedelta(seconds=age)))

    if refused:
        with pytest.raises(
            StateError, match=r"scheduler is at work.*yet to send daily of 2026-11-20\. Stop it"
        ):
            copy_store(engine, file, clock=_clock)
    else:
        copy_store(engine, file, clock=_clock)

    assert _counts(file) == (0 if refused else 1)


def test_sending_that_begins_meanwhile_undoes_the_copy(engine: Engine, file: Engine) -> None:
    """The source is looked at again before the end."""
    _fill(engine)
    begun: list[str] = []

    def begin(table: str, _done: int, _total: int) -> None:
        if not begun:
            begun.append(table)
            with writing(engine) as session:
                session.add(_batch(seq=2, state="submitting"))

    with pytest.raises(StateError, match="daily of 2026-11-20: a batch is being submitted"):
        copy_store(engine, file, clock=_clock, progress=begin)

    assert _counts(file) == 0


def test_the_source_is_seen_at_one_moment(engine: Engine, file: Engine) -> None:
    """What is written to the source while it is copied is in no table of the copy."""
    _fill(engine)
    before = _rows(engine)
    written: list[str] = []

    def write(table: str, _done: int, _total: int) -> None:
        if not written:
            written.append(table)
            with writing(engine) as session:
                session.add(_subscriber(500))

    copy_store(engine, file, clock=_clock, progress=write)

    assert _rows(file) == before
    assert _counts(engine) == _counts(file) + 1


def _meddle(engine: Engine, change: str) -> None:
    """Let the database change what is written to *subscriber* behind our back."""
    with writing(engine) as session:
        if engine.dialect.name == "sqlite":
            session.execute(text(f"CREATE TRIGGER meddle AFTER INSERT ON subscriber BEGIN {change}; END"))
            return
        session.execute(
            text(
                f"CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {change}; RETURN NULL; END $$"
            )
        )
        session.execute(
            text("CREATE TRIGGER meddle AFTER INSERT ON subscriber FOR EACH ROW EXECUTE FUNCTION meddle()")
        )


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE subscriber SET email = lower(email) WHERE id = 77",
        "DELETE FROM subscriber WHERE id = 2",
        "UPDATE subscriber SET attributes = '{}' WHERE id = 1",
    ],
)
def test_what_does_not_read_back_the_same_is_undone(file: Engine, engine: Engine, change: str) -> None:
    """One changed value or one lost row is enough; the table is named and the target is empty."""
    _fill(file)
    _meddle(engine, change)

    with pytest.raises(StoreError, match="table subscriber does not read back as it was written"):
        copy_store(file, engine, clock=_clock)

    assert _counts(engine) == 0


def test_a_nul_character_is_named_by_its_row(file: Engine, schema: Engine) -> None:
    """PostgreSQL cannot hold one in text (in JSON it can); the message says where it is, not what stands there."""
    _fill(file)
    with writing(file) as session:
        session.add(_subscriber(500, id=500, name="secret\0"))

    with pytest.raises(
        StoreError, match=r"table subscriber has a NUL character in name.*with id 500"
    ) as caught:
        copy_store(file, schema, clock=_clock)

    assert "secret" not in str(caught.value)
    assert _counts(schema) == 0


def test_a_nul_character_is_carried_to_sqlite(file: Engine, tmp_path: Path) -> None:
    """Where it can be stored it is."""
    second = open_store(f"sqlite:///{tmp_path}/third.db")
    with writing(file) as session:
        session.add(_subscriber(1, name="a\0b"))

    copy_store(file, second, clock=_clock)

    assert _rows(second) == _rows(file)
    second.dispose()


def _stops(table: str) -> Callable[[str, int, int], None]:
    def stop(at: str, done: int, _total: int) -> None:
        if at == table and done:
            raise KeyboardInterrupt

    return stop


@pytest.mark.parametrize("table", ["article", "subscriber", "exception"])
def test_a_copy_that_is_stopped_leaves_nothing_and_can_be_repeated(
    file: Engine, engine: Engine, table: str
) -> None:
    """All or nothing, wherever it stops."""
    _fill(file)

    with pytest.raises(KeyboardInterrupt):
        copy_store(file, engine, clock=_clock, progress=_stops(table))

    assert _counts(engine) == 0
    _proves_equal(file, engine)


def test_a_row_that_cannot_be_stored_is_a_sentence_without_its_values(file: Engine, schema: Engine) -> None:
    """SQLite holds larger numbers than PostgreSQL: the table is named, no address is, nothing is left."""
    with writing(file) as session:
        session.add(_subscriber(1, id=2**40))

    with pytest.raises(StoreError, match="Writing the table subscriber of the target failed") as caught:
        copy_store(file, schema, clock=_clock)

    assert "xample" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert _counts(schema) == 0


def test_a_source_that_cannot_be_read_is_a_sentence_without_its_values(file: Engine, engine: Engine) -> None:
    """A damaged value is told by its table."""
    _fill(file)
    with writing(file) as session:
        session.execute(text("UPDATE subscriber SET attributes = '{a1@example.org' WHERE id = 1"))

    with pytest.raises(StoreError, match="Reading the table subscriber failed") as caught:
        copy_store(file, engine, clock=_clock)

    assert "xample" not in str(caught.value)
    assert _counts(engine) == 0


def test_a_target_without_our_tables_is_a_sentence(file: Engine, tmp_path: Path) -> None:
    """Without a migration there is nothing to write to."""
    bare = open_store(f"sqlite:///{tmp_path}/bare.db", migrate=False)

    with pytest.raises(StoreError, match="nothing was copied"):
        copy_store(file, bare, clock=_clock)

    bare.dispose()


def test_a_chunk_holds_at_least_one_row(file: Engine, engine: Engine) -> None:
    """Zero rows at a time would never end."""
    with pytest.raises(ValueError, match="chunk"):
        copy_store(file, engine, chunk=0)


def test_progress_is_told_of_every_table_twice(file: Engine, engine: Engine) -> None:
    """While it is copied and while it is verified, each time from none to all."""
    with writing(file) as session:
        session.add_all(_subscriber(number) for number in range(1, 6))
    told: list[tuple[str, int, int]] = []

    copy_store(file, engine, clock=_clock, chunk=2, progress=lambda *step: told.append(step))

    once = [("subscriber", done, 5) for done in (0, 2, 4, 5)]
    assert [step for step in told if step[0] == "subscriber"] == once + once
    assert {step for step in told if step[0] != "subscriber"} == {
        (table.name, 0, 0) for table in TABLES if table.name != "subscriber"
    }


def test_many_rows_are_copied_in_pieces(file: Engine, engine: Engine) -> None:
    """Thousands of readers, more than one piece holds, arrive whole."""
    subscriber, subscription = (SQLModel.metadata.tables[name] for name in ("subscriber", "subscription"))
    readers = [_subscriber(number, id=number).model_dump() for number in range(1, 4_001)]
    with writing(file) as session:
        session.execute(insert(subscriber), readers)
        session.execute(
            insert(subscription),
            [
                Subscription(subscriber_id=reader["id"], newsletter="daily", since=NOW).model_dump()
                for reader in readers
            ],
        )

    told = copy_store(file, engine, clock=_clock)

    assert sum(one.rows for one in told) == 8_000
    with reading(engine) as session:
        assert session.execute(select(func.count()).select_from(Subscription)).scalar_one() == 4_000
