"""Lists in and out: every shape, nobody revived, nobody doubled, and segments that are SQL."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine
from sqlmodel import col, select

from newsletter.audience.addresses import normalise
from newsletter.audience.exports import export_subscribers
from newsletter.audience.imports import ImportReport, import_subscribers
from newsletter.audience.leaving import leave
from newsletter.audience.segments import audience_query, segment_sizes
from newsletter.audience.shapes import escaped, unescaped
from newsletter.audience.subscribers import add, check_suppression_key, forget, show
from newsletter.catalogue import Newsletter
from newsletter.errors import ImportFileError, NotFound, SettingsError
from newsletter.settings import Keys
from newsletter.store.session import reading, writing
from newsletter.store.tables import Subscriber, SubscriberTag, Suppression
from tests.builders import ROOT, the_catalogue

NOW = datetime(2026, 11, 20, 4, 0, tzinfo=UTC)
Import = Callable[..., ImportReport]
HEAD = "email,name,plan,newsletters,language,country,timezone,status\n"


@pytest.fixture
def import_text(engine: Engine, keys: Keys, tmp_path: Path) -> Import:
    """Import a text as a file; options as of ``import_subscribers``."""

    def do(text: str | bytes, *, name: str = "list.csv", **options: Any) -> ImportReport:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return import_subscribers(engine, path, catalogue=the_catalogue(), keys=keys, now=NOW, **options)

    return do


def counts(report: ImportReport) -> tuple[int, int, int, int, int]:
    """added, updated, unchanged, suppressed, rejected — after checking that they add up."""
    told = (report.added, report.updated, report.unchanged, report.suppressed, len(report.rejected))
    assert sum(told) == report.rows
    return told


def statuses(engine: Engine) -> dict[str, str]:
    """Status by address."""
    with reading(engine) as session:
        return {row.email: row.status for row in session.exec(select(Subscriber)).all()}


def audience(engine: Engine, newsletter: Newsletter, plan_class: str) -> set[str]:
    """Addresses a newsletter would go to."""
    with reading(engine) as session:
        query = audience_query(newsletter, the_catalogue().publication, plan_class=plan_class, now=NOW)  # type: ignore[arg-type]
        ids = session.execute(query).scalars().all()
        assert list(ids) == sorted(ids)
        return {
            row.email for row in session.exec(select(Subscriber).where(col(Subscriber.id).in_(ids))).all()
        }


def test_the_samples_import_and_again_change_nothing(engine: Engine, keys: Keys) -> None:
    """300 rows in; the second time all of them are known."""
    path = ROOT / "samples" / "subscribers.csv"

    first = import_subscribers(engine, path, catalogue=the_catalogue(), keys=keys, now=NOW)
    second = import_subscribers(engine, path, catalogue=the_catalogue(), keys=keys, now=NOW)

    assert counts(first)[0] + counts(first)[3] == 300
    assert counts(second) == (0, 0, counts(first)[0], counts(first)[3], 0)


def test_bad_rows_are_listed_with_line_and_reason(import_text: Import, engine: Engine) -> None:
    """Wrong address, plan, newsletter, status, zone, column count: each named; the good ones go in."""
    report = import_text(
        HEAD
        + "good@example.com,Good,free,today,en,FR,Europe/Paris,active\n"
        + "nonsense,,free,today,,,,active\n"
        + "a@example.com,,golden,today,,,,active\n"
        + '"b@example.com","two\nlines",free,nosuch,,,,active\n'
        + "c@example.com,,free,today,,,,dancing\n"
        + "d@example.com,,free,today,,,Mars/Base,active\n"
        + "e@example.com,,free\n"
    )

    assert counts(report) == (1, 0, 0, 0, 6)
    assert [row.line for row in report.rejected] == [3, 4, 5, 7, 8, 9]
    told = " | ".join(row.reason for row in report.rejected)
    for words in (
        "not a valid address",
        "plan 'golden'",
        "no newsletter 'nosuch'",
        "status 'dancing'",
        "timezone 'Mars/Base'",
        "3 columns",
    ):
        assert words in told
    assert "nonsense" not in told
    assert list(statuses(engine)) == ["good@example.com"]


def test_two_spellings_are_one_person_and_the_stricter_wins(import_text: Import, engine: Engine) -> None:
    """Case and IDN forms meet; an unsubscribed row beats an active one, in any order; plus-addresses differ."""
    report = import_text(
        HEAD
        + "Ann@Bücher.example,Ann,free,today,,,,active\n"
        + "ann@xn--bcher-kva.example,Ann,free,today,,,,unsubscribed\n"
        + "ann+news@bücher.example,Ann,free,today,,,,active\n"
    )

    assert counts(report) == (2, 0, 0, 1, 0)
    assert sorted(statuses(engine).values()) == ["active", "unsubscribed"]


def test_nobody_is_revived(import_text: Import, engine: Engine, keys: Keys) -> None:
    """Who left, was suppressed or erased here stays so, whatever a later file says."""
    rows = "".join(
        f"{name}@example.com,,free,today|planet,,,,active\n" for name in ("left", "gone", "bad", "fine")
    )
    import_text(HEAD + rows)
    with reading(engine) as session:
        readers = {row.email.split("@")[0]: row.reader for row in session.exec(select(Subscriber)).all()}
    leave(engine, readers["left"], "today", now=NOW, how="test")
    forget(engine, "gone@example.com", keys=keys, now=NOW)
    import_text(HEAD + "bad@example.com,,free,today,,,,complained\n")

    again = import_text(HEAD + rows)

    assert counts(again) == (0, 0, 2, 2, 0)
    today, planet = the_catalogue()["today"], the_catalogue()["planet"]
    assert audience(engine, today, "free") == {"fine@example.com"}
    assert audience(engine, planet, "free") == {"fine@example.com", "left@example.com"}
    assert "gone@example.com" not in statuses(engine)


MAILCHIMP = (
    '"Email Address","First Name","Last Name",MEMBER_RATING,OPTIN_TIME,CONFIRM_TIME,CC,TIMEZONE,LAST_CHANGED,LEID,EUID,NOTES,TAGS\n'
    'm1@example.com,Mia,Roe,4,,"2024-03-01 10:00:00",FR,Europe/Paris,"2024-03-01 10:00:00",1,a,"two\nlines","""vip"",""press"""\n'
    'm2@example.com,,,2,,,,,"2024-03-01 10:00:00",2,b,,\n'
)
SUBSTACK = (
    "email,active_subscription,expiry,plan,email_disabled,created_at,first_payment_at\n"
    "s1@example.com,true,2027-05-01T00:00:00Z,yearly,false,2023-01-01T00:00:00Z,\n"
    "s2@example.com,false,,other,true,2023-01-01T00:00:00Z,\n"
)
GHOST = (
    "id,email,name,note,subscribed_to_emails,complimentary_plan,stripe_customer_id,created_at,deleted_at,labels,tiers\r\n"
    "1,g1@example.com,Gus,,true,false,,2023-01-01T00:00:00.000Z,,vip,Gold\r\n"
    "2,g2@example.com,,,false,false,,2023-01-01T00:00:00.000Z,,,\r\n"
    "3,g3@example.com,,,true,false,,2023-01-01T00:00:00.000Z,2024-01-01T00:00:00.000Z,,\r\n"
)
LISTMONK = (
    "uuid,email,name,attributes,status,created_at,updated_at\n"
    'x,l1@example.com,Lea,"{""city"": ""Lyon""}",enabled,2023-01-01T00:00:00Z,2023-01-01T00:00:00Z\n'
    "y,l2@example.com,,{},blocklisted,2023-01-01T00:00:00Z,2023-01-01T00:00:00Z\n"
)


@pytest.mark.parametrize(
    ("text", "shape", "expected"),
    [
        (MAILCHIMP, "mailchimp", {"m1@example.com": "active", "m2@example.com": "pending"}),
        (SUBSTACK, "substack", {"s1@example.com": "active", "s2@example.com": "unsubscribed"}),
        (
            GHOST,
            "ghost",
            {"g1@example.com": "active", "g2@example.com": "unsubscribed", "g3@example.com": "unsubscribed"},
        ),
        (LISTMONK, "listmonk", {"l1@example.com": "active", "l2@example.com": "complained"}),
    ],
)
def test_foreign_shapes_are_told_by_their_header(
    import_text: Import, engine: Engine, text: str, shape: str, expected: dict[str, str]
) -> None:
    """Status, plan, tags, consent: what was unsubscribed or cleaned elsewhere stays unmailed here."""
    report = import_text("\ufeff" + text, newsletters=("today",))
    again = import_text(text, newsletters=("today",))

    assert report.shape == shape
    assert statuses(engine) == expected
    assert (again.added, again.updated) == (0, 0)
    active = {address for address, status in expected.items() if status == "active"}
    newsletter = the_catalogue()["today"]
    assert audience(engine, newsletter, "free") | audience(engine, newsletter, "paying") == active


def test_a_foreign_file_needs_newsletters(import_text: Import) -> None:
    """Foreign shapes name none, so the operator must."""
    with pytest.raises(ImportFileError, match="--newsletters"):
        import_text(GHOST)


def test_a_mailchimp_archive_is_read_whole(import_text: Import, engine: Engine) -> None:
    """The status of a row is the file it is in: cleaned is bounced."""
    head = '"Email Address","First Name",LEID,EUID,LAST_CHANGED,CONFIRM_TIME\n'
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name in ("subscribed", "unsubscribed", "cleaned"):
            archive.writestr(
                f"{name}_x.csv",
                f'{head}{name}@example.com,A,1,2,"2024-01-01 00:00:00","2024-01-01 00:00:00"\n',
            )

    import_text(packed.getvalue(), name="export.zip", newsletters=("today",))

    assert statuses(engine) == {
        "subscribed@example.com": "active", "unsubscribed@example.com": "unsubscribed", "cleaned@example.com": "bounced",
    }  # fmt: skip


def test_consent_may_be_stated_and_is_kept(import_text: Import, engine: Engine) -> None:
    """Without proof a row is pending; with the operator's words it is active and the words are kept."""
    bare = '"Email Address",LEID\nm@example.com,1\n'
    import_text(bare, newsletters=("today",))
    pending = statuses(engine)

    import_text(bare, newsletters=("today",), consent="Signed the form at the fair of 2024.")

    assert (pending, statuses(engine)) == ({"m@example.com": "pending"}, {"m@example.com": "active"})


@pytest.mark.parametrize("text", ["", "a,b,c\n1,2,3\n", "name\nx\n"])
def test_an_unknown_header_is_refused_with_what_is_known(import_text: Import, text: str) -> None:
    """The sentence names the columns seen and those expected."""
    with pytest.raises(ImportFileError, match="email,name,plan,newsletters"):
        import_text(text)


def test_what_is_not_utf8_costs_only_its_rows(import_text: Import) -> None:
    """Nothing is guessed about encodings: such a row is rejected; a file in which nothing can be read is refused."""
    report = import_text(
        HEAD.encode() + b"x@example.com,Andr\xe9,free,today,,,,active\ny@example.com,Y,free,today,,,,active\n"
    )

    assert (report.added, [(one.line, one.reason.split(";")[0]) for one in report.rejected]) == (
        1, [(2, "a cell is not UTF-8")],
    )  # fmt: skip
    with pytest.raises(ImportFileError, match="the header is none we know"):
        import_text((HEAD + "x@example.com,,free,today,,,,active\n").encode("utf-16"))


def test_an_export_imports_again_unchanged(import_text: Import, engine: Engine) -> None:
    """Round trip, with tags, formulas and commas in names."""
    import_text(
        "email,name,plan,newsletters,tags,status\n"
        'a@example.com,"=1+1",annual,today|planet,vip|press,active\n'
        'b@example.com,"O\'Neil, Zoë",free,today,,unsubscribed\n'
        "c@example.com,@home,free,letter,,active\n"
    )
    out = io.StringIO()
    with reading(engine) as session:
        export_subscribers(session, out)

    report = import_text(out.getvalue())

    assert counts(report) == (0, 0, 2, 1, 0)
    assert not any(
        cell.startswith(("=", "+", "-", "@"))
        for line in out.getvalue().splitlines()
        for cell in line.split(",")
    )


@given(st.text(max_size=12))
def test_no_exported_cell_is_a_formula(cell: str) -> None:
    """Whatever a name is, no spreadsheet computes it, and it comes back as it was."""
    assert not escaped(cell).startswith(("=", "+", "-", "@", "\t", "\r"))
    assert unescaped(escaped(cell)) == cell


@given(
    st.sampled_from(["Ann", "o'hara", "a.b+c", "ü"]),
    st.sampled_from(["Example.com", "bücher.example", "MAIL.example"]),
)
def test_normalising_is_final(local: str, domain: str) -> None:
    """The key of a key is the key."""
    _, key = normalise(f"{local}@{domain}")

    assert normalise(key)[1] == key


def _segment(**fields: Any) -> Newsletter:
    newsletter = the_catalogue()["today"]
    return newsletter.model_copy(update={"audience": newsletter.audience.model_copy(update=fields)})


def test_segments_choose_by_sql(import_text: Import, engine: Engine) -> None:
    """Plan, plan's end, language, country, tags and date of joining, the same on both databases."""
    import_text(
        "email,plan,newsletters,language,country,tags,plan_until\n"
        "a@example.com,annual,today,en,FR,vip,2027-01-01T00:00:00Z\n"
        "b@example.com,annual,today,fr,FR,,2026-11-20T03:59:59Z\n"
        "c@example.com,free,today,en,US,vip|press,\n"
        "d@example.com,trial,planet,en,US,,\n"
    )
    with writing(engine) as session:
        row = session.exec(select(Subscriber).where(Subscriber.email == "c@example.com")).one()
        row.joined_at = NOW - timedelta(days=400)
        session.add(row)

    def both(newsletter: Newsletter) -> tuple[set[str], set[str]]:
        short = lambda found: {address[0] for address in found}  # noqa: E731
        return short(audience(engine, newsletter, "free")), short(audience(engine, newsletter, "paying"))

    assert both(_segment()) == ({"b", "c"}, {"a"})
    assert both(_segment(languages=("en",))) == ({"c"}, {"a"})
    assert both(_segment(countries=("FR",))) == ({"b"}, {"a"})
    assert both(_segment(plans=("annual",))) == ({"b"}, {"a"})
    assert both(_segment(tags=("vip",))) == ({"c"}, {"a"})
    assert both(_segment(without_tags=("press",))) == ({"b"}, {"a"})
    assert both(_segment(joined_after=NOW.date() - timedelta(days=1))) == ({"b"}, {"a"})
    assert both(_segment(joined_before=NOW.date() - timedelta(days=1))) == ({"c"}, set())
    with reading(engine) as session:
        sizes = {
            (slug, plan_class): size
            for slug, plan_class, size in segment_sizes(session, the_catalogue(), NOW)
        }
    assert (sizes["today", "free"], sizes["today", "paying"], sizes["planet", "paying"]) == (2, 1, 1)
    assert ("magazine", "free") not in sizes


def test_adding_showing_and_forgetting_one(engine: Engine, keys: Keys) -> None:
    """One address by hand: shown whole, erased whole, and not added again."""
    catalogue = the_catalogue()
    add(
        engine,
        "Ann@example.com",
        catalogue=catalogue,
        keys=keys,
        now=NOW,
        newsletters=("today",),
        consent="asked by phone",
    )
    with writing(engine) as session:
        session.add(SubscriberTag(subscriber_id=1, tag="vip"))
    with reading(engine) as session:
        told = show(session, "ann@EXAMPLE.com")

    forget(engine, "ann@example.com", keys=keys, now=NOW)

    assert (told["email"], told["tags"], told["subscriptions"][0]["consent"]["words"]) == (
        "Ann@example.com",
        ["vip"],
        "asked by phone",
    )
    with reading(engine) as session:
        assert session.exec(select(Subscriber)).all() == []
        assert [row.reason for row in session.exec(select(Suppression)).all()] == ["erased"]
        with pytest.raises(NotFound):
            show(session, "ann@example.com")
    with pytest.raises(NotFound, match="must not be mailed"):
        add(engine, "ann@example.com", catalogue=catalogue, keys=keys, now=NOW)


def test_another_suppression_key_is_refused(engine: Engine, keys: Keys) -> None:
    """The database knows the key it was made with."""
    check_suppression_key(engine, keys)

    with pytest.raises(SettingsError, match="Restore the old key"):
        check_suppression_key(engine, Keys(signing=keys.signing, suppression=b"another key, long enough"))


@pytest.mark.parametrize("reason", ["complained", "bounced", "manual", "unsubscribed"])
def test_erasure_softens_no_complaint(engine: Engine, keys: Keys, reason: str) -> None:
    """A hard reason stays as it is, for its scope; a soft one becomes the erasure, for all."""
    add(
        engine,
        "gone@example.com",
        catalogue=the_catalogue(),
        keys=keys,
        now=NOW,
        newsletters=("today",),
        consent="yes",
    )
    with writing(engine) as session:
        hashed = session.exec(select(Subscriber.address_hash)).one()
        for scope in ("all", "today"):
            session.add(Suppression(address_hash=hashed, scope=scope, reason=reason, suppressed_at=NOW))

    forget(engine, "gone@example.com", keys=keys, now=NOW)

    with reading(engine) as session:
        left = {row.scope: row.reason for row in session.exec(select(Suppression)).all()}
    assert left == ({"all": "erased"} if reason == "unsubscribed" else {"all": reason, "today": reason})
