"""The archive: everybody may read what free readers got, and nothing else by any route."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, date, datetime
from pathlib import Path
from urllib.parse import quote, urljoin, urlsplit

import feedparser
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import html
from sqlalchemy import Engine, delete
from sqlmodel import select

from newsletter.archive import index_missing
from newsletter.edition import Rendered
from newsletter.settings import Keys
from newsletter.store.editions import load_renderings
from newsletter.store.searching import search, terms_of
from newsletter.store.session import reading, writing
from newsletter.store.tables import ArchiveText, EditionRow, Rendering
from tests.builders import the_catalogue
from tests.visiting import House, Moment, Visitor

NOW = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)
SECRET = "Only members read that the orchard was sold twice"
ADVERT = "Advertisement: a teapot for every kitchen"
HTML = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Mail</title></head><body><div role="main" lang="en"><h1>{words}</h1>
<a href="[[nl:unsubscribe_url]]">leave</a><a href="[[nl:preferences_url]]">choose</a><a href="[[nl:view_url]]">view</a>
<img src="https://pictures.elsewhere.example/x.jpg" alt="A bridge"></div></body></html>"""


@pytest.fixture
def house(engine: Engine, keys: Keys, tmp_path: Path) -> House:
    """The pages, over an archive that ``put`` fills."""
    return House(engine, keys, tmp_path / "mails", Moment(NOW))


def put(
    engine: Engine,
    slug: str,
    day: str,
    words: str,
    *,
    status: str = "submitted",
    revision: int = 1,
    paid: str = SECRET,
) -> None:
    """An edition whose paying variant says more than its free one."""
    with writing(engine) as session:
        row = EditionRow(
            newsletter=slug, edition_date=date.fromisoformat(day), status=status, revision=revision, made_at=NOW,
            frozen_at=NOW if status != "draft" else None, submitted_at=NOW, findings=[],
        )  # fmt: skip
        session.add(row)
        session.flush()
        for variant, said in (("free", f"{words}. {ADVERT}"), ("paying", f"{words}. {paid}")):
            one = Rendered(
                variant="paying" if variant == "paying" else "free", subject=f"{words} [[nl:view_url]]",
                preheader=f"About {words}", html=HTML.format(words=said), text=f"{said}\nhttps://x.example/[[nl:view_url]]\n",
            )  # fmt: skip
            from zlib import compress

            session.add(
                Rendering(
                    edition_id=row.id or 0, variant=variant, subject=one.subject, preheader=one.preheader,
                    html=compress(one.html.encode()), text=compress(one.text.encode()),
                )
            )  # fmt: skip
    index_missing(engine, the_catalogue())


def found(engine: Engine, query: str) -> list[str]:
    """Titles that a search in everything public finds."""
    with engine.connect() as connection:
        rows = search(connection, query, slugs=["today", "planet"], limit=20)
    return [one.title for one in rows]


def test_an_edition_is_the_mail_with_a_line_before_and_after(house: House) -> None:
    """The free bytes, public links in place of personal ones, tags for those who share it, neighbours."""
    for day, words in (
        ("2026-11-18", "The bridge"),
        ("2026-11-19", "The glacier"),
        ("2026-11-20", "The choir"),
    ):
        put(house.engine, "today", day, words)

    answer = house.visitor().ask("GET", "/archive/today/2026-11-19")

    page = html.fromstring(answer.text)
    meta = {one.get("property") or one.get("name"): one.get("content") for one in page.iter("meta")}
    links = [one.get("href") for one in page.iter("a")]
    assert answer.status_code == 200 and page.findtext(".//title") == "The glacier · Parallel Today"
    assert (meta["og:title"], meta["og:description"], meta["og:type"]) == (
        "The glacier",
        "About The glacier",
        "article",
    )
    assert meta["og:url"] == "http://127.0.0.1:8000/archive/today/2026-11-19"
    assert "http://127.0.0.1:8000/subscribe?newsletter=today" in links
    assert {"/archive/today/2026-11-18", "/archive/today/2026-11-20", "/archive/today"} <= set(links)
    assert "[[nl:" not in answer.text
    policy = answer.headers["content-security-policy"]
    assert (
        "elsewhere" not in policy
        and "img-src 'self' data: https://theparallel.example https://*.theparallel.example" in policy
    )
    assert "script" not in policy and answer.headers["x-robots-tag"] == "all"


def test_a_page_that_is_a_mail_is_light_and_has_its_landmark(house: House) -> None:
    """Compressed for who can read it; the mail's own container is the page's main part, and nothing else changes."""
    put(house.engine, "today", "2026-11-20", "story " * 12_000)
    path = "/archive/today/2026-11-20"

    plain = house.visitor().ask("GET", path, headers={"Accept-Encoding": "identity"})
    small = house.visitor().ask("GET", path, headers={"Accept-Encoding": "gzip"})

    assert plain.text == small.text and len(plain.content) > 60_000
    assert small.headers["content-encoding"] == "gzip" and int(small.headers["content-length"]) < 50_000
    assert [one.get("lang") for one in html.fromstring(plain.text).xpath('//*[@role="main"]')] == ["en"]
    assert "content-encoding" not in plain.headers and "Accept-Encoding" in plain.headers["vary"]


def test_no_page_with_a_form_of_ours_is_compressed(house: House) -> None:
    """Beside what a visitor typed, a compressed page would give its secrets away by its length (BREACH)."""
    for path in ("/subscribe", "/login", "/subscribe/form"):
        answer = house.visitor().ask("GET", path, headers={"Accept-Encoding": "gzip"})
        assert "content-encoding" not in answer.headers and 'name="form"' in answer.text


def test_lists_pages_and_search(house: House) -> None:
    """By newsletter and date, by words with what was found marked, thirty a page."""
    for number in range(1, 32):
        put(house.engine, "planet", f"2026-10-{number:02d}", f"Reef number {number}")

    first = house.visitor().ask("GET", "/archive/planet").text
    second = house.visitor().ask("GET", "/archive/planet?page=2").text
    whole = house.visitor().ask("GET", "/archive").text
    looked = house.visitor().ask("GET", "/archive/search?q=reef+17").text

    assert "Reef number 31" in first and "Reef number 1<" not in first and 'rel="next"' in first
    assert "Reef number 1<" in second and 'rel="prev"' in second
    assert "Reef number 31" in whole
    assert "<mark>Reef</mark> number <mark>17</mark>" in looked
    assert house.visitor().ask("GET", "/archive/planet?page=9").status_code == 404


@pytest.mark.parametrize("status", ["draft", "held", "spiked", "approved", "skipped"])
def test_what_readers_do_not_have_is_not_shown(house: House, status: str) -> None:
    """Nothing that was not sent, nothing that was spiked, by no route."""
    put(house.engine, "today", "2026-11-20", "The orchard", status=status)

    visitor = house.visitor()

    assert visitor.ask("GET", "/archive/today/2026-11-20").status_code == 404
    for path in ("/archive", "/archive/today", "/archive/today/feed.atom", "/archive/search?q=orchard"):
        answer = visitor.ask("GET", path)
        assert answer.status_code == 200 and "The orchard" not in answer.text.replace("for <bdi>", "")


def test_a_correction_takes_the_place_of_what_it_corrects(house: House) -> None:
    """One edition a date, the newest; the wrong words are found no more."""
    put(house.engine, "today", "2026-11-20", "The wrong glacier")
    put(house.engine, "today", "2026-11-20", "The right glacier", revision=2)

    page = house.visitor().ask("GET", "/archive/today/2026-11-20").text

    assert "The right glacier" in page and "wrong" not in page
    assert found(house.engine, "glacier") == ["The right glacier"]
    assert "wrong" not in house.visitor().ask("GET", "/archive/today").text


def test_a_members_newsletter_is_in_no_archive(house: House) -> None:
    """Who writes for members only has no public page, feed or search result."""
    put(house.engine, "magazine", "2026-11-20", "The long read")

    visitor = house.visitor()

    for path in ("/archive/magazine", "/archive/magazine/2026-11-20", "/archive/magazine/feed.atom"):
        assert visitor.ask("GET", path).status_code == 404
    assert "long read" not in visitor.ask("GET", "/archive").text
    assert "The long read" not in visitor.ask("GET", "/archive/search?q=long+read").text.replace(
        "<bdi>long read", ""
    )


def crawl(visitor: Visitor, start: list[str]) -> dict[str, str]:
    """Every page of ours that a stranger reaches from *start*, by following links."""
    seen: dict[str, str] = {}
    waiting = list(start)
    while waiting and len(seen) < 200:
        path = waiting.pop()
        if path in seen:
            continue
        answer = visitor.ask("GET", path)
        seen[path] = answer.text
        if not answer.headers.get("content-type", "").startswith("text/html"):
            continue
        for element in html.fromstring(answer.text or "<p>").iter("a", "link"):
            link = urlsplit(urljoin(f"http://127.0.0.1:8000{path}", element.get("href") or ""))
            if link.netloc == "127.0.0.1:8000":
                waiting.append(link.path + (f"?{link.query}" if link.query else ""))
    return seen


def test_no_stranger_meets_a_paid_sentence(house: House) -> None:
    """Pages, lists, feeds, search results and excerpts, OpenGraph: crawled, and looked for by its own words."""
    for day in ("2026-11-18", "2026-11-19"):
        put(house.engine, "today", day, "The harbour")
        put(house.engine, "magazine", day, "Long reads")
    visitor = house.visitor()

    pages = crawl(
        visitor,
        ["/archive", "/subscribe", f"/archive/search?q={quote(SECRET)}", "/archive/search?q=orchard",
         "/archive/search?q=sold+twice", "/archive/search?q=harbour", "/archive/today/feed.atom"],
    )  # fmt: skip

    assert len(pages) > 20 and any("The harbour" in text for text in pages.values())
    for path, text in pages.items():
        said = text.replace(f"<bdi>{SECRET}</bdi>", "").replace(f'value="{SECRET}"', "")
        assert "orchard was sold" not in said, path
    with reading(house.engine) as session:
        assert not any("orchard" in row.words for row in session.exec(select(ArchiveText)).all())


def test_a_feed_reader_understands_the_feed(house: House) -> None:
    """Valid Atom with what came last; asked again with what it had, nothing is sent twice."""
    put(house.engine, "today", "2026-11-19", 'Marks & "quotes" <b>')
    put(house.engine, "today", "2026-11-20", "The choir")

    answer = house.visitor().ask("GET", "/archive/today/feed.atom")
    again = house.visitor().ask(
        "GET", "/archive/today/feed.atom", headers={"If-None-Match": answer.headers["etag"]}
    )

    told = feedparser.parse(answer.content)
    assert not told.bozo and told.feed.title == "Parallel Today"
    assert [entry.title for entry in told.entries] == ["The choir", 'Marks &amp; "quotes" &lt;b&gt;'] or [
        entry.title for entry in told.entries
    ] == ["The choir", 'Marks & "quotes" <b>']
    assert told.entries[0].link == "http://127.0.0.1:8000/archive/today/2026-11-20"
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    ("query", "hits"),
    [
        ("zurich", 1), ("Zürich", 1), ("ZURICH trams", 1), ("选举", 1), ("выборы", 1), ("انتخابات", 1), ("nothing", 0),
        ('" OR 1=1 --', 0), ("zurich NOT trams", 0), ("a* NEAR(", 0), ("%", 0), ("", 0),
    ],
)  # fmt: skip
def test_words_of_many_scripts_are_found(house: House, query: str, hits: int) -> None:
    """Case never matters; what a database takes for a command is a word like any other."""
    put(house.engine, "today", "2026-11-20", "Zürich zurich trams; 中国选举结果; Выборы; انتخابات")

    assert len(found(house.engine, query)) == hits


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=80), st.text(max_size=12), st.text(max_size=6))
def test_nothing_that_is_asked_breaks_the_archive(house: House, query: str, day: str, page: str) -> None:
    """No query, date or page is a server error."""
    visitor = house.visitor()
    safe = [quote(text.encode("utf-8", "replace"), safe="") for text in (query, day, page)]

    for path in (
        f"/archive/search?q={safe[0]}&page={safe[2]}",
        f"/archive/today/{safe[1]}",
        f"/archive/today?page={safe[2]}",
    ):
        assert visitor.ask("GET", path).status_code < 500


def test_what_was_looked_for_is_text(house: House) -> None:
    """Marks in a query or an excerpt are shown, not run."""
    put(house.engine, "today", "2026-11-20", "Tags <script>alert(1)</script> in words")

    page = house.visitor().ask("GET", "/archive/search?q=alert<script>").text

    assert "<script>" not in page


def test_indexing_again_changes_nothing(house: House) -> None:
    """Idempotent, and only what is public."""
    put(house.engine, "today", "2026-11-20", "The choir")
    put(house.engine, "magazine", "2026-11-20", "The long read")

    assert index_missing(house.engine, the_catalogue()) == 0
    with reading(house.engine) as session:
        rows = session.exec(select(ArchiveText)).all()
        assert [(row.newsletter, row.title, row.words) for row in rows] == [
            ("today", "The choir", f"The choir. {ADVERT}")
        ]
        assert load_renderings(session, rows[0].edition_id)[0].variant == "free"


def test_two_may_index_at_the_same_time(house: House) -> None:
    """Whoever comes second finds the words there already, and does not fail."""
    put(house.engine, "today", "2026-11-20", "The choir")
    with reading(house.engine) as session:
        text = session.exec(select(ArchiveText)).one().model_dump()
    with writing(house.engine) as session:
        session.execute(delete(ArchiveText))

    with ThreadPoolExecutor(1) as pool:
        with writing(house.engine) as session:  # the first has written, and has not committed yet
            session.add(ArchiveText(**text))
            session.flush()
            second = pool.submit(index_missing, house.engine, the_catalogue())
            wait([second], timeout=0.3)
        second.result()

    assert found(house.engine, "choir") == ["The choir"]


def test_terms_are_few_and_short() -> None:
    """What strangers type is bounded before it reaches the database."""
    assert terms_of("a b c d e f g h i j") == tuple("abcdefgh")
    assert len(terms_of("x" * 500)[0]) == 64
