"""One whole message for one reader: its bytes, its headers, its text."""

from __future__ import annotations

import email
import email.policy
from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from newsletter.catalogue import Address
from newsletter.edition import PERSONAL_TAGS
from newsletter.providers import Envelope, Recipient, Refused
from newsletter.providers.message import build_message, fault, fill, to_bytes

LEAVE = PERSONAL_TAGS["unsubscribe_url"]
VIEW = PERSONAL_TAGS["view_url"]

any_text = st.text(st.characters(), max_size=120)


def a_reader(number: int = 1, **fields: Any) -> Recipient:
    """A reader with links of their own."""
    links = {tag: f"https://news.example/{name}/{number:024x}" for name, tag in PERSONAL_TAGS.items()}
    made = {
        "reader": f"{number:024x}",
        "email": f"reader{number}@example.org",
        "name": "Ada Reader",
        "values": links,
        "unsubscribe_url": links[LEAVE],
    }
    return Recipient(**{**made, **fields})


def an_envelope(*recipients: Recipient, **fields: Any) -> Envelope:
    """An envelope of the edition of 18 February 2026."""
    made = {
        "edition": "today.2026-02-18.1",
        "batch": "7.1",
        "newsletter": "today",
        "variant": "paying",
        "sender": Address(name="The Parallel", email="today@theparallel.example"),
        "reply_to": Address(name="The Desk", email="desk@theparallel.example"),
        "subject": "Morning: rain over Lyon",
        "html": f'<p>Café &amp; rain</p><a clicktracking=off href="{LEAVE}">Leave</a>',
        "text": f"Café & rain\n\nLeave: {LEAVE}\n",
        "list_id": "today.theparallel.example",
        "list_name": "Today",
        "dated_at": datetime(2026, 2, 18, 5, 0, tzinfo=UTC),
        "recipients": recipients or (a_reader(),),
    }
    return Envelope(**{**made, **fields})


def read(message: EmailMessage) -> EmailMessage:
    """Return the message as a stranger's mail program reads its bytes."""
    parsed = email.message_from_bytes(message.as_bytes(), policy=email.policy.default)
    assert isinstance(parsed, EmailMessage)
    assert parsed.defects == []
    return parsed


def part(message: EmailMessage, subtype: str) -> str:
    """Return the text of one part with plain line ends."""
    body = message.get_body((subtype,))
    assert body is not None
    return str(body.get_content()).replace("\r\n", "\n")


def test_a_mail_program_reads_back_what_was_written() -> None:
    """All headers and both parts come back from the bytes."""
    reader = a_reader(1)

    message = read(build_message(an_envelope(reader), reader))

    headers = {name: str(message[name]) for name in message if name not in ("Message-ID", "Content-Type")}
    assert headers == {
        "MIME-Version": "1.0",
        "From": "The Parallel <today@theparallel.example>",
        "Reply-To": "The Desk <desk@theparallel.example>",
        "To": "Ada Reader <reader1@example.org>",
        "Subject": "Morning: rain over Lyon",
        "Date": "Wed, 18 Feb 2026 05:00:00 +0000",
        "List-ID": "Today <today.theparallel.example>",
        "Content-Language": "en",
        "List-Unsubscribe": f"<{reader.unsubscribe_url}>",
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
    }
    assert message["Message-ID"].endswith("@theparallel.example>")
    assert [one.get_content_type() for one in message.iter_parts()] == ["text/plain", "text/html"]
    assert part(message, "plain") == f"Café & rain\n\nLeave: {reader.unsubscribe_url}\n"
    assert part(message, "html") == (
        f'<p>Café &amp; rain</p><a clicktracking=off href="{reader.unsubscribe_url}">Leave</a>'
    )


def test_the_same_input_gives_the_same_bytes() -> None:
    """Nothing of the clock, the process or chance is in a message."""
    reader = a_reader(3, name="Zoë")

    first = build_message(an_envelope(reader, batch="7.1"), reader).as_bytes()
    second = build_message(an_envelope(reader, batch="7.2"), reader).as_bytes()

    assert first == second


def test_message_id_tells_readers_and_editions_apart() -> None:
    """Each reader of each edition has one Message-ID, whatever the attempt."""
    readers = [a_reader(1), a_reader(2)]

    ids = {
        build_message(an_envelope(edition=edition), reader)["Message-ID"]
        for edition in ("today.2026-02-18.1", "today.2026-02-18.2", "today.2026-02-19.1")
        for reader in readers
    }

    assert len(ids) == 6


def test_a_test_mail_says_so_and_is_never_hidden_as_a_duplicate() -> None:
    """A test has its subject marked, a header, and a Message-ID unlike the real mail's."""
    reader = a_reader()

    test = read(build_message(an_envelope(reader, is_test=True), reader))
    real = read(build_message(an_envelope(reader), reader))

    assert (test["Subject"], test["X-Newsletter-Test"]) == ("[Test] Morning: rain over Lyon", "yes")
    assert (real["X-Newsletter-Test"], real["Message-ID"] == test["Message-ID"]) == (None, False)


def test_every_line_is_short_enough_for_mail_servers() -> None:
    """No line passes 998 bytes, however long the words, names and links are (RFC 5322 2.1.1)."""
    reader = a_reader(name="Ann" * 500, unsubscribe_url="https://news.example/u/" + "a" * 860)

    message = build_message(
        an_envelope(
            reader, html="<p>" + "x" * 100_000, text="y" * 5_000, subject="z" * 2_000, list_name="w" * 999
        ),
        reader,
    ).as_bytes()

    assert max(len(line) for line in message.split(b"\r\n")) <= 998
    assert b"\n" not in message.replace(b"\r\n", b"")
    assert (
        read(build_message(an_envelope(reader), reader))["List-Unsubscribe"] == f"<{reader.unsubscribe_url}>"
    )


def test_values_are_escaped_in_html_only() -> None:
    """The HTML part gets a value escaped; subject and text get it as it is."""
    reader = a_reader(values={LEAVE: "https://news.example/u?a=1&b=2"})

    message = read(build_message(an_envelope(reader, html=LEAVE, text=LEAVE, subject=f"Go {LEAVE}"), reader))

    assert part(message, "html").strip() == "https://news.example/u?a=1&amp;b=2"
    assert part(message, "plain").strip() == "https://news.example/u?a=1&b=2"
    assert message["Subject"] == "Go https://news.example/u?a=1&b=2"


def test_a_value_is_not_filled_again() -> None:
    """A tag inside a value stays as it is."""
    assert fill(f"{LEAVE} {VIEW}", {LEAVE: VIEW, VIEW: "v"}) == f"{VIEW} v"


def test_a_mail_without_html_is_plain_text() -> None:
    """A mail of the system (a confirmation) is one text part, and has no list headers if it has no list."""
    reader = a_reader(values={}, unsubscribe_url="")

    made = build_message(an_envelope(reader, html="", text="Please confirm.", list_id=""), reader)
    message = read(made)

    assert to_bytes(made) == made.as_bytes()
    assert message.get_content_type() == "text/plain"
    assert (message["List-ID"], message["List-Unsubscribe"], message["List-Unsubscribe-Post"]) == (
        None,
        None,
        None,
    )


@given(name=any_text, subject=any_text, list_name=any_text)
@example(name="Doe, Zoë", subject="a\r\nBcc: x@y.example", list_name='"')
@example(name="=?utf-8?q?a=0ABcc=3A_x?=", subject="=?utf-8?q?x?=", list_name="a\u2028b")
@example(name="\ud800", subject="\x85", list_name="\x00")
@example(name='a" <evil@example.com>, "b', subject=" ", list_name="<evil.example>")
def test_no_name_or_subject_makes_a_header(name: str, subject: str, list_name: str) -> None:
    """Whatever a name or a subject holds, the headers and the one addressee stay the same."""
    reader = a_reader(name=name)
    envelope = an_envelope(
        reader,
        subject=subject,
        list_name=list_name,
        sender=Address.model_construct(name=name, email="a@news.example"),
    )

    raw = build_message(envelope, reader).as_bytes()
    message = email.message_from_bytes(raw, policy=email.policy.default)

    plain = build_message(an_envelope(a_reader()), a_reader())
    assert message.keys() == plain.keys()
    assert [one.addr_spec for one in message["To"].addresses] == ["reader1@example.org"]
    assert [one.addr_spec for one in message["From"].addresses] == ["a@news.example"]
    assert raw.partition(b"\r\n\r\n")[0].isascii()


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=300))
@example(
    "«\u00a0Été\u00a0», and, more; and a very long subject that has to be folded at least once, if not twice"
)
@example("0" * 80 + " !")
def test_a_subject_comes_back(subject: str) -> None:
    """Any subject on one line comes back as it was, up to runs of spaces."""
    reader = a_reader()
    expected = " ".join(filter(None, subject.replace("\u2028", " ").replace("\u2029", " ").split(" ")))

    message = read(build_message(an_envelope(reader, subject=expected), reader))

    assert message["Subject"] == expected.strip()


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=400), st.sampled_from(["plain", "html"]))
@example("trailing \n.\nFrom here\n=20\n", "plain")
@example("\n\n", "html")
def test_a_body_comes_back(body: str, subtype: str) -> None:
    """Any text comes back as it was, up to the kind of its line ends."""
    fields = {"html": body or " ", "text": "t"} if subtype == "html" else {"html": "h", "text": body}

    made = build_message(an_envelope(**fields), a_reader(values={}))
    message = read(made)

    assert to_bytes(made) == made.as_bytes()
    written = body or (" " if subtype == "html" else "")
    assert part(message, subtype) == written.replace("\r\n", "\n").replace("\r", "\n")


@pytest.mark.parametrize(
    "address",
    [
        "",
        "a",
        "a b@example.org",
        "a@b\r\nBcc: c@d.example",
        "a@b, c@d.example",
        "<a@b>",
        "a@b@c",
        "a@\u2028b",
    ],
)
def test_an_address_that_is_none_is_refused_without_repeating_it(address: str) -> None:
    """Such a reader is named by index; the others can be written to."""
    envelope = an_envelope(a_reader(1), a_reader(2, email=address))

    refused = fault(envelope)

    assert isinstance(refused, Refused)
    assert (refused.unfit, refused.stop_run, refused.recipients) == (True, False, (1,))
    with pytest.raises(ValueError) as caught:
        build_message(envelope, envelope.recipients[1])
    assert not address or address not in f"{refused.reason}{caught.value}" or address == "a"


@pytest.mark.parametrize(
    "url", ['https://a.example/"onclick=', "https://a.example/<b>", "no url", "https://a/\r\nX: y"]
)
def test_a_link_that_is_unsafe_in_html_or_headers_is_refused(url: str) -> None:
    """A value is put unescaped into HTML by the provider, so it must be safe there."""
    in_values = fault(an_envelope(a_reader(values={**a_reader().values, VIEW: url})))
    in_header = fault(an_envelope(a_reader(unsubscribe_url=url)))

    assert in_values is not None and in_values.recipients == (0,)
    assert in_header is not None and in_header.recipients == (0,)


def test_a_tag_nobody_fills_stops_the_run() -> None:
    """A reader never sees ``[[nl:…]]``: it is our fault, so nothing goes out."""
    refused = fault(an_envelope(a_reader(1), a_reader(2, values={VIEW: "https://news.example/v"})))

    assert refused is not None and refused.stop_run
    assert LEAVE in refused.reason


@pytest.mark.parametrize("address", ["nobody", "desk@" + "ü" * 200 + ".example"])
def test_a_sender_that_is_none_stops_the_run(address: str) -> None:
    """No reader is blamed for a sender or reply-to that cannot stand in a header."""
    broken = Address.model_construct(name="The Desk", email=address)  # as no catalogue would let it pass

    for refused in (fault(an_envelope(sender=broken)), fault(an_envelope(reply_to=broken))):
        assert refused is not None
        assert (refused.stop_run, refused.recipients, address in refused.reason) == (True, (), False)


def test_addresses_beyond_ascii_are_written_as_mail_servers_take_them() -> None:
    """A domain becomes ASCII; a local part beyond ASCII stays as it is (RFC 6532)."""
    domain, local = a_reader(email="anna@bücher.example"), a_reader(email="zoë@example.org")

    assert b"<anna@xn--bcher-kva.example>" in build_message(an_envelope(), domain).as_bytes()
    assert "<zoë@example.org>".encode() in build_message(an_envelope(), local).as_bytes()
