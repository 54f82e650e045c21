"""Mails that came back: what a report says is done, if it proves that it is about a mail of ours; nothing else is."""

from __future__ import annotations

import mailbox
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy import Engine
from sqlmodel import select
from typer.testing import CliRunner

from newsletter.audience.subscribers import forget
from newsletter.audience.tokens import Signer, TokenKind, scope_of
from newsletter.cli.main import app
from newsletter.events import EventKind, NoMore
from newsletter.outbox.inbox import replay
from newsletter.outbox.returned import Taken, take, take_from
from newsletter.providers import Recipient
from newsletter.providers.mailboxes import mark_read, unread
from newsletter.providers.message import build_message, identity_of, to_bytes
from newsletter.providers.returned import event_of, is_returned, read_returned
from newsletter.settings import Keys, load_keys, load_settings
from newsletter.store.session import open_store, reading, writing
from newsletter.store.tables import EditionRow, Event, Subscriber, Suppression
from tests.builders import a_site
from tests.test_evidence import EDITION, readers
from tests.test_message import an_envelope
from tests.test_outbox import NOW, an_edition

DAY = date(2026, 11, 20)
FRIDAY = datetime(2026, 11, 20, 7, 10, tzinfo=UTC)


def our_headers(keys: Keys, index: int, *, email: str = "", kind: TokenKind = TokenKind.UNSUBSCRIBE) -> str:
    """The header lines of the mail that reader *index* got, as a report brings them back."""
    reader = f"{index:024x}"
    token = Signer(keys).sign(kind, reader, scope_of("daily", DAY))
    return (
        f"Message-ID: <{identity_of(EDITION, reader)}@paper.example>\r\n"
        "From: The Paper <news@paper.example>\r\n"
        f"To: Reader {index}\r\n <{email or f'r{index}@example.com'}>\r\n"
        f"List-Unsubscribe:\r\n <https://mail.paper.example/u/{token}>\r\n"
        "Subject: Friday\r\n"
    )


def a_bounce(
    headers: str,
    *,
    action: str = "failed",
    status: str = "5.1.1",
    diagnostic: str = "smtp; 550 5.1.1 <r1@example.com> User unknown",
    original: str = "text/rfc822-headers",
) -> bytes:
    """A delivery status notification as Postfix writes one (RFC 3464)."""
    return (
        "From: MAILER-DAEMON@mx.example.com (Mail Delivery System)\r\n"
        "To: bounces@paper.example\r\n"
        "Date: Fri, 20 Nov 2026 08:10:00 +0100\r\n"
        "Subject: Undelivered Mail Returned to Sender\r\n"
        "MIME-Version: 1.0\r\n"
        'Content-Type: multipart/report; report-type=delivery-status; boundary="b1"\r\n'
        "\r\n--b1\r\nContent-Type: text/plain\r\n\r\nI'm sorry to have to inform you …\r\n"
        "\r\n--b1\r\nContent-Type: message/delivery-status\r\n\r\n"
        "Reporting-MTA: dns; mx.example.com\r\nArrival-Date: Fri, 20 Nov 2026 08:09:59 +0100\r\n\r\n"
        f"Final-Recipient: rfc822; r1@example.com\r\nAction: {action}\r\nStatus: {status}\r\n"
        f"Diagnostic-Code: {diagnostic}\r\n"
        f"\r\n--b1\r\nContent-Type: {original}\r\n\r\n{headers}\r\n--b1--\r\n"
    ).encode()


def a_complaint(headers: str, *, kind: str = "abuse") -> bytes:
    """What a feedback loop sends (RFC 5965)."""
    return (
        "From: <fbl@mailbox.example>\r\nTo: <bounces@paper.example>\r\nDate: Fri, 20 Nov 2026 07:10:00 GMT\r\n"
        'MIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=feedback-report; boundary="b2"\r\n'
        "\r\n--b2\r\nContent-Type: text/plain\r\n\r\nAn email abuse report\r\n"
        "\r\n--b2\r\nContent-Type: message/feedback-report\r\n\r\n"
        f"Feedback-Type: {kind}\r\nUser-Agent: SomeGenerator/1.0\r\nVersion: 1\r\n"
        f"\r\n--b2\r\nContent-Type: message/rfc822\r\n\r\n{headers}\r\nA body\r\n\r\n--b2--\r\n"
    ).encode()


def events(engine: Engine) -> list[tuple[str, str, str, datetime]]:
    """Kind, edition, reader and moment of all that is stored."""
    with reading(engine) as session:
        rows = session.exec(select(Event).order_by(Event.kind)).all()
        return [(row.kind, row.edition, row.reader, row.occurred_at) for row in rows]


def suppressed(engine: Engine) -> list[str]:
    """The reasons of all suppressions."""
    with reading(engine) as session:
        return sorted(row.reason for row in session.exec(select(Suppression)))


@pytest.mark.parametrize("original", ["text/rfc822-headers", "message/rfc822"])
def test_an_address_that_does_not_exist_is_not_mailed_again(
    engine: Engine, keys: Keys, original: str
) -> None:
    """Stored once with its edition and reader, and suppressed; no address is kept with it."""
    readers(engine, keys, 2)
    an_edition(engine)
    report = a_bounce(our_headers(keys, 1), original=original)

    first, again = (take(engine, keys, [report], at=NOW) for _ in range(2))

    assert first == Taken(read=1, stored=1, suppressed=1)
    assert again == Taken(read=1, known=1)
    assert events(engine) == [("bounced", EDITION, f"{1:024x}", FRIDAY)]
    assert suppressed(engine) == ["bounced"]
    with reading(engine) as session:
        assert session.get_one(Subscriber, 1).status == "bounced"
        assert session.get_one(Subscriber, 2).status == "active"
        assert session.exec(select(Event)).one().raw["reason"] == "smtp; 550 5.1.1 <[address]> User unknown"


def test_the_mail_that_smtp_hands_over_is_known_again(engine: Engine, keys: Keys) -> None:
    """Whole, with all its headers, as many servers return it."""
    readers(engine, keys, 1)
    an_edition(engine)
    reader = f"{1:024x}"
    url = f"https://mail.paper.example/u/{Signer(keys).sign(TokenKind.UNSUBSCRIBE, reader, scope_of('daily', DAY))}"
    recipient = Recipient(reader, "r1@example.com", "Zoë, of the long name that folds a header", {}, url)
    mail = to_bytes(
        build_message(an_envelope(recipient, edition=EDITION, html="<p>Hi</p>", text="Hi\n"), recipient)
    )

    taken = take(engine, keys, [a_bounce(mail.decode(), original="message/rfc822")], at=NOW)

    assert (taken.stored, taken.suppressed) == (1, 1)
    assert events(engine)[0][1:3] == (EDITION, reader)


def test_a_complaint_is_the_gravest(engine: Engine, keys: Keys) -> None:
    """Who complained is never mailed again, whatever came before."""
    readers(engine, keys, 1)
    headers = our_headers(keys, 1)

    taken = take(engine, keys, [a_bounce(headers), a_complaint(headers)], at=NOW)

    assert (taken.stored, suppressed(engine)) == (2, ["complained"])


@pytest.mark.parametrize(
    ("action", "status", "diagnostic", "kind", "no_more"),
    [
        ("failed", "5.1.1", "smtp; 550 no", EventKind.BOUNCED, NoMore.BOUNCED),
        ("Failed", "5.0.0", "smtp; 550-5.1.1 The account does not exist", EventKind.BOUNCED, NoMore.BOUNCED),
        ("failed", "5.2.2", "smtp; 552 5.2.2 mailbox full", EventKind.BLOCKED, None),
        ("failed", "5.7.1", "smtp; 554 5.7.1 looks like spam", EventKind.BLOCKED, None),
        ("failed", "4.4.7", "smtp; delivery time expired", EventKind.BLOCKED, None),
        ("failed", "", "", EventKind.BLOCKED, None),
        ("delayed", "4.2.0", "smtp; 450 4.2.0 greylisted", EventKind.DEFERRED, None),
        ("delivered", "2.0.0", "smtp; 250 ok", EventKind.DELIVERED, None),
    ],
)
def test_what_is_about_the_address_is_told_from_the_rest(
    keys: Keys, action: str, status: str, diagnostic: str, kind: EventKind, no_more: NoMore | None
) -> None:
    """Only codes of an address that does not exist say that of it; a full mailbox or a filter does not."""
    report = a_bounce(our_headers(keys, 1), action=action, status=status, diagnostic=diagnostic)

    told = read_returned(report)

    assert told is not None
    event = event_of(told.told)
    assert (event.kind, event.no_more) == (kind, no_more)


@pytest.mark.parametrize("kind", ["not-spam", "virus", "other"])
def test_other_feedback_changes_nothing(engine: Engine, keys: Keys, kind: str) -> None:
    """It is kept, and nothing follows from it."""
    readers(engine, keys, 1)

    take(engine, keys, [a_complaint(our_headers(keys, 1), kind=kind)], at=NOW)

    assert [event[0] for event in events(engine)] == ["unknown"]
    assert suppressed(engine) == []


def test_a_stranger_stops_nobodys_mail(engine: Engine, keys: Keys) -> None:
    """Neither without our link, nor with one that others signed, nor with one of another kind."""
    readers(engine, keys, 1)
    strangers = Keys(
        signing=(b"a key of somebody else altogether",), suppression=b"and another of theirs, too"
    )
    forged = [
        a_bounce("To: r1@example.com\r\nSubject: Friday\r\n"),
        a_bounce(our_headers(strangers, 1)),
        a_bounce(our_headers(keys, 1, kind=TokenKind.PREFERENCES)),
        a_complaint(our_headers(strangers, 1)),
    ]

    taken = take(engine, keys, forged, at=NOW)

    assert taken == Taken(read=4, unproven=3, others=1)
    assert (events(engine), suppressed(engine)) == ([], [])


def test_a_reader_stops_nobody_elses_mail(engine: Engine, keys: Keys) -> None:
    """Their own link says nothing of another address, nor of one they had before; nothing of who was erased."""
    readers(engine, keys, 2)
    forget(engine, "r2@example.com", keys=keys, now=NOW)

    taken = take(
        engine, keys,
        [a_bounce(our_headers(keys, 1, email="r2@example.com")), a_bounce(our_headers(keys, 2))], at=NOW,
    )  # fmt: skip

    assert taken == Taken(read=2, unproven=2)
    with reading(engine) as session:
        assert session.get_one(Subscriber, 1).status == "active"


def test_a_mailbox_that_blocks_every_edition_is_given_up(engine: Engine, keys: Keys) -> None:
    """Five editions in a row over a week are as good as an address that does not exist, as by the webhook."""
    readers(engine, keys, 1)
    reports = []
    for number in range(5):
        day = DAY + timedelta(days=2 * number)
        an_edition_of(engine, day)
        text = a_bounce(our_headers(keys, 1), status="5.2.2", diagnostic="smtp; 552 5.2.2 full").decode()
        token = Signer(keys).sign(TokenKind.UNSUBSCRIBE, f"{1:024x}", scope_of("daily", day))
        old = Signer(keys).sign(TokenKind.UNSUBSCRIBE, f"{1:024x}", scope_of("daily", DAY))
        reports.append(text.replace(old, token).replace("20 Nov", f"{day:%d %b}").encode())

    before = take(engine, keys, reports[:4], at=NOW + timedelta(days=7))
    after = take(engine, keys, reports[4:], at=NOW + timedelta(days=9))

    assert (before.suppressed, after.suppressed) == (0, 1)


def an_edition_of(engine: Engine, day: date) -> None:
    """An edition of another day."""
    with writing(engine) as session:
        session.add(
            EditionRow(newsletter="daily", edition_date=day, status="submitted", made_at=NOW, findings=[])
        )


def test_a_correction_is_told_from_what_it_corrects(engine: Engine, keys: Keys) -> None:
    """By the Message-ID, which names the revision."""
    readers(engine, keys, 2)
    an_edition(engine)
    with writing(engine) as session:
        session.add(
            EditionRow(
                newsletter="daily", edition_date=DAY, revision=2, status="submitted", made_at=NOW, findings=[]
            )
        )

    take(engine, keys, [a_bounce(our_headers(keys, 1))], at=NOW)

    assert events(engine)[0][1] == EDITION


def test_read_again_the_stored_says_the_same(engine: Engine, keys: Keys) -> None:
    """``events replay`` knows what came by mail."""
    readers(engine, keys, 1)
    an_edition(engine)
    take(engine, keys, [a_bounce(our_headers(keys, 1))], at=NOW)
    with writing(engine) as session:
        session.delete(session.exec(select(Suppression)).one())

    read = replay(engine, at=NOW)

    assert read == (1, 0)
    assert suppressed(engine) == ["bounced"]
    with reading(engine) as session:
        assert is_returned(session.exec(select(Event)).one().raw)


def test_a_maildir_is_read_once(engine: Engine, keys: Keys, tmp_path: Path) -> None:
    """What was read carries the mark of it; what is no report too, and stays where it is."""
    readers(engine, keys, 2)
    box = mailbox.Maildir(tmp_path / "box", create=True)
    for raw in (a_bounce(our_headers(keys, 1)), b"Subject: I am on holiday\r\n\r\nBack on Monday.\r\n"):
        box.add(raw)
    seen = mailbox.MaildirMessage(a_bounce(our_headers(keys, 2)))
    seen.set_subdir("cur")
    seen.add_flag("S")
    box.add(seen)

    first, again = (take_from(engine, keys, tmp_path / "box", at=NOW) for _ in range(2))

    assert first == Taken(read=2, stored=1, suppressed=1, others=1)
    assert again == Taken()
    assert sorted(message.get_flags() for message in mailbox.Maildir(tmp_path / "box")) == ["S", "S", "S"]


def test_a_mail_that_trips_the_parser_stops_no_other(engine: Engine, keys: Keys) -> None:
    """Parts in parts, thousands deep, as nobody sends them by mistake."""
    readers(engine, keys, 1)
    deep = "".join(
        f"Content-Type: multipart/report; boundary=b{level}\n\n--b{level}\n" for level in range(5000)
    )

    taken = take(engine, keys, [deep.encode(), a_bounce(our_headers(keys, 1))], at=NOW)

    assert taken == Taken(read=2, stored=1, others=1, suppressed=1)


def test_two_may_read_one_maildir(engine: Engine, keys: Keys, tmp_path: Path) -> None:
    """What another program has moved meanwhile is its own."""
    readers(engine, keys, 1)
    box = mailbox.Maildir(tmp_path / "box", create=True)
    box.add(a_bounce(our_headers(keys, 1)))
    (found,) = unread(tmp_path / "box")

    mark_read(found)
    mark_read(found)

    assert take_from(engine, keys, tmp_path / "box", at=NOW) == Taken()


def test_an_mbox_a_folder_and_one_file_are_read(engine: Engine, keys: Keys, tmp_path: Path) -> None:
    """All three hold the same mail; only once it is news."""
    readers(engine, keys, 1)
    raw = a_bounce(our_headers(keys, 1)).replace(b"\r\n", b"\n")
    (tmp_path / "one.eml").write_bytes(raw)
    (tmp_path / "mbox").write_bytes(b"From MAILER-DAEMON Fri Nov 20 08:10:00 2026\n" + raw + b"\n")

    taken = [
        take_from(engine, keys, tmp_path / name, at=NOW) for name in ("mbox", "one.eml", ".")
    ]  # fmt: skip

    assert [(one.read, one.stored + one.known) for one in taken] == [(1, 1)] * 3


def test_a_place_without_mail_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wrong and what to do; and without any place the command says so."""
    monkeypatch.chdir(a_site(tmp_path / "site"))

    absent = CliRunner().invoke(app, ["events", "bounces", "nowhere"])
    unsaid = CliRunner().invoke(app, ["events", "bounces"])

    assert absent.exit_code == 1
    assert "nowhere" in str(absent.exception) and "Maildir" in str(absent.exception)
    assert unsaid.exit_code == 2 and "NEWSLETTER_BOUNCES" in unsaid.output


def test_the_command_takes_one_mail_from_a_pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an alias of a mail server hands it over."""
    monkeypatch.chdir(a_site(tmp_path / "site"))
    settings = load_settings()
    engine = open_store(settings.database_url)
    keys = load_keys(settings)
    readers(engine, keys, 1)
    engine.dispose()

    told = CliRunner().invoke(app, ["events", "bounces", "-", "--json"], input=a_bounce(our_headers(keys, 1)))

    assert told.exit_code == 0, told.output
    assert '"stored": 1' in told.stdout and '"suppressed": 1' in told.stdout


@given(st.binary(max_size=2000), st.integers(0, 1200))
@example(b"", 0)
@example(b"Content-Type: multipart/report\n\n", 0)
@example(b"\xff\xfe\x00", 700)
def test_whatever_comes_is_read_without_an_error(junk: bytes, at: int) -> None:
    """Alone, and in the middle of a report."""
    keys = Keys(signing=(b"a signing key of this test alone",), suppression=b"a suppression key of this test")
    report = a_bounce(our_headers(keys, 1))

    for raw in (junk, report[:at] + junk + report[at:], report[:at] + junk):
        told = read_returned(raw)
        assert told is None or event_of(told.told).kind in EventKind
