"""
Addresses: the short way says what the library says, to the letter.

``python -m tests.test_addresses [EXAMPLES]`` tries many more (default 20,000), always the same ones.
"""

from __future__ import annotations

import sys
import timeit

import pytest
from hypothesis import HealthCheck, event, example, given, seed, settings
from hypothesis import strategies as st

from newsletter.audience.addresses import address_hash, by_library, normalise, plain

_ATOM = "abzABZ059_+'-"
_ODD = '.@ \t!#$%&*/=?^`{|}~"\\(),:;<>[]\x00\x1f\x7f\xad\u200b\u202eüß\u0130\u212aſ１．。ａ\u0301א١\U0001f600'
_WORDS = (
    "ann", "Ann.Lee", "o'hara", "a+news", "info", "INFO", "Postmaster", "www", "noc", "a", "-", "--", "_", "x" * 63,
    "x" * 64, "x" * 65, "", ".", "a..b", ".a", "a.", '"a b"', '"ann"', "ünïcode", "İ", "ſ", "xn--a", "1", "a-", "-a",
)  # fmt: skip
_LABELS = (
    "example", "EXAMPLE", "mail", "a", "A", "1", "123", "a-b", "-a", "a-", "ab--cd", "AB--cd", "a--b", "abc--d", "xn--bcher-kva",
    "XN--BCHER-KVA", "xn--a", "xn--", "1--1", "x" * 62, "x" * 63, "x" * 64, "", "_dmarc", "bücher", "ﬁ", "local", "localhost",
    "onion", "arpa", "ARPA", "test", "invalid", "com", "COM", "c0m", "co1", "1a", "org", "127", "in-addr", "K", "1.", "a b",
)  # fmt: skip

_text = st.text(alphabet=_ATOM, max_size=6) | st.text(alphabet=_ATOM + _ODD, max_size=6)
_local = st.lists(st.sampled_from(_WORDS) | _text, min_size=1, max_size=3).map(".".join)
_domain = st.lists(st.sampled_from(_LABELS) | _text, min_size=1, max_size=5).map(".".join)
_address = st.builds("{}@{}".format, _local, _domain)
_good = st.builds(
    "{}@{}.{}".format,
    st.lists(st.text(_ATOM, min_size=1, max_size=8), min_size=1, max_size=3).map(".".join),
    st.lists(st.text("abzAZ059-", min_size=1, max_size=8), min_size=1, max_size=3).map(".".join),
    st.sampled_from(("com", "co.uk", "Example", "x1y", "museum")),
)


@st.composite
def near_misses(draw: st.DrawFn) -> str:
    """An address, often a good one, in which a character or two are put in, taken out or changed."""
    address = draw(st.one_of(_address, _good, _good))
    for _ in range(draw(st.sampled_from((0, 1, 1, 2)))):
        at = draw(st.integers(0, len(address)))
        address = address[:at] + draw(_text) + address[at + draw(st.integers(0, 2)) :]
    if draw(st.integers(0, 9)) == 0:  # about the limits of 64 and 254
        address = "l" * draw(st.integers(60, 66)) + address.replace(
            "@", f"@{'d' * draw(st.integers(58, 64))}." * draw(st.integers(1, 4)), 1
        )
    return address


def agree(address: str) -> bool:
    """Whether the short way took *address*; fails if it then says anything else than the library."""
    short = plain(address)
    if short is None:
        return False
    assert short == by_library(address)
    return True


@example("a@b.co")
@example("a@b.c-o")
@example("a@1.2")
@example("a@ab--cd.com")
@example("a@xn--bcher-kva.example")
@example("Info@example.com")
@example("a@x.LOCAL")
@example("a\n@example.com")
@example("a@example.com\n")
@example(f"{'l' * 64}@{'d' * 63}.{'d' * 63}.{'d' * 58}.com")
@example(f"{'l' * 64}@{'d' * 63}.{'d' * 63}.{'d' * 57}.com")
@settings(max_examples=400)
@given(near_misses())
def test_the_short_way_says_what_the_library_says(address: str) -> None:
    """Whatever it takes, address and key are those of email-validator."""
    event("taken" if agree(address) else "left to the library")


@given(
    st.text(alphabet=_ATOM, min_size=1, max_size=64),
    st.sampled_from(["example.com", "Mail.Example.ORG", "a.co.uk"]),
)
def test_plain_addresses_take_the_short_way(local: str, domain: str) -> None:
    """The common kind does not fall through to the library."""
    assert plain(f"{local}@{domain}") is not None or local.lower() in ("www", "noc", "ftp", "uucp")


@pytest.mark.parametrize(
    ("given", "address", "key"),
    [
        (" Ann@Example.COM ", "Ann@example.com", "ann@example.com"),
        ("Info@example.com", "info@example.com", "info@example.com"),
        ("ann@Bücher.example", "ann@bücher.example", "ann@xn--bcher-kva.example"),
        ("a@mail.test", "a@mail.test", "a@mail.test"),
    ],
)
def test_addresses_and_their_keys(given: str, address: str, key: str) -> None:
    """As it is written to; as it is unique."""
    assert normalise(given) == (address, key)


@pytest.mark.parametrize(
    "bad",
    ["", "a", "@", "a@b", "a@b.local", "a@127.0.0.1", "a@-b.com", "a b@c.com", "a@b..com", "a@ab--cd.com"],
)
def test_what_is_no_address_is_refused_without_repeating_it(bad: str) -> None:
    """The reason can be shown and logged."""
    with pytest.raises(ValueError, match="not a valid address") as refused:
        normalise(bad)

    assert len(bad) < 4 or bad not in str(refused.value)


def test_a_hash_is_of_key_and_address() -> None:
    """Another key, another hash; always 32 hex digits."""
    one, other = address_hash(b"k" * 32, "a@b.example"), address_hash(b"K" * 32, "a@b.example")

    assert one != other
    assert len(one) == len(other) == 32


def long_form(examples: int) -> None:
    """The property over many generated addresses, always the same; prints how many took the short way."""
    told = {True: 0, False: 0}

    @seed(20261120)
    @settings(max_examples=examples, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(near_misses())
    def run(address: str) -> None:
        told[agree(address)] += 1

    run()
    short = timeit.timeit(lambda: plain("ann.lee+news@mail.example.com"), number=20_000)
    library = timeit.timeit(lambda: by_library("ann.lee+news@mail.example.com"), number=2_000) * 10
    print(
        f"{sum(told.values()):,} addresses, {told[True]:,} of them by the short way: all as the library says."
    )
    print(f"The short way takes {short / 20_000 * 1e6:.1f} µs, the library {library / 20_000 * 1e6:.1f} µs.")


if __name__ == "__main__":
    long_form(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000)
