"""Sources in, articles out: every kind, every hostile document, and the guarded fetch."""

from __future__ import annotations

import gzip
import json
import re
import threading
import time
import unicodedata
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy import Engine
from sqlmodel import select

from newsletter.about.places import countries_in, region_of
from newsletter.articles import Article, Flag, Kind, Region, Rights, Topic, canonical_url, headline_key
from newsletter.catalogue import Catalogue, Newsletter, Publication
from newsletter.errors import SourceError
from newsletter.feeds.collect import SourceReport, collect
from newsletter.feeds.fetch import Fetcher, is_public
from newsletter.feeds.kinds import read_document
from newsletter.feeds.normalise import first_words, publisher_name
from newsletter.feeds.preambles import parted
from newsletter.feeds.stored import load_articles
from newsletter.settings import Settings
from newsletter.store.grouped import store_stories
from newsletter.store.session import reading, writing
from newsletter.store.tables import SourceState

NOW = datetime(2026, 11, 20, 4, 0, tzinfo=UTC)


def a_catalogue(tmp_path: Path, *feeds: dict[str, object]) -> Catalogue:
    """A publication with *feeds* and a few topic rules."""
    publication = Publication.model_validate(
        {
            "name": "P",
            "url": "https://p.example",
            "postal_address": "Here",
            "timezone": "UTC",
            "sender": {"name": "P", "email": "p@p.example"},
            "plans": [{"id": "free", "name": "Free", "class": "free"}],
            "feeds": list(feeds),
            "topics": [
                {
                    "topic": "politics",
                    "categories": ["politics"],
                    "paths": ["politics"],
                    "headline": ["elect*"],
                },
                {"topic": "environment", "categories": ["environment"], "headline": ["river*"]},
            ],
            "kinds": [{"kind": "promo", "categories": ["sponsored"], "headline": ["quiz"]}],
        }
    )
    newsletter = Newsletter.model_validate(
        {
            "slug": "n",
            "name": "N",
            "subject": "s",
            "preheader": "p",
            "window_hours": 24,
            "min_stories": 1,
            "schedule": {"days": ["mon"], "at": "06:30"},
            "sections": [{"id": "a", "block": "list", "max": 3}],
        }
    )
    return Catalogue(publication=publication, newsletters=(newsletter,), root=tmp_path)


def collect_one(
    engine: Engine,
    tmp_path: Path,
    document: str | bytes,
    *,
    name: str = "feed.xml",
    now: datetime = NOW,
    **source: object,
) -> tuple[SourceReport, tuple[Article, ...]]:
    """Collect one document from a file; return its report and all stored articles."""
    path = tmp_path / name
    path.write_bytes(document.encode() if isinstance(document, str) else document)
    feeds = [{"id": "src", "url": str(path), **source}] if source else []
    (report,) = collect(engine, a_catalogue(tmp_path, *feeds), [str(path)], now=now, settings=Settings())
    with reading(engine) as session:
        return report, load_articles(
            session, since=NOW - timedelta(days=4000), until=NOW + timedelta(days=4000)
        )


def rss(*items: str, head: str = "") -> str:
    """An RSS document around *items*."""
    return (
        '<?xml version="1.0" encoding="UTF-8"?><rss version="2.0" xmlns:media="http://search.yahoo.com/mrss/" '
        'xmlns:content="http://purl.org/rss/1.0/modules/content/"><channel><title>The Paper</title>'
        f"<link>https://paper.example/</link><language>en</language>{head}{''.join(items)}</channel></rss>"
    )


def item(
    number: int = 1,
    *,
    title: str = "A quiet river is counted",
    extra: str = "",
    date: str = "Thu, 19 Nov 2026 10:00:00 GMT",
) -> str:
    """One RSS item."""
    published = f"<pubDate>{date}</pubDate>" if date else ""
    return f"<item><title>{title}</title><link>https://paper.example/politics/{number}</link>{published}{extra}</item>"


ATOM = """<feed xmlns="http://www.w3.org/2005/Atom" xml:lang="de"><title>Blatt</title><entry><title>Der Fluss wird gezählt</title>
<link href="https://blatt.example/a"/><id>x</id><published>2026-11-19T10:00:00+01:00</published><summary>Kurz.</summary></entry></feed>"""
RDF = """<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns="http://purl.org/rss/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/">
<channel rdf:about="x"><title>Diario</title><link>https://diario.example</link></channel>
<item rdf:about="https://diario.example/a"><title>Cuentan el agua del río en España</title><link>https://diario.example/a</link><dc:date>2026-11-19T09:00:00Z</dc:date></item></rdf:RDF>"""
JSONFEED = json.dumps(
    {"version": "https://jsonfeed.org/version/1.1", "title": "J", "language": "en", "items": [{"id": "1", "url": "https://j.example/1", "title": "Rivers & roads", "content_html": "<p>x</p>", "date_published": "2026-11-19T09:00:00Z", "tags": ["Environment"]}]}
)  # fmt: skip
WORDPRESS = json.dumps(
    [{"link": "https://w.example/1/", "title": {"rendered": "L&rsquo;eau compt&eacute;e"}, "excerpt": {"rendered": "<p>Court.</p>"}, "content": {"rendered": "<p>Long.</p>"}, "date_gmt": "2026-11-19T09:00:00", "_embedded": {"wp:term": [[{"name": "Politics"}]], "author": [{"name": "Ana"}]}}]
)  # fmt: skip
GHOST = json.dumps(
    {"posts": [{"url": "https://g.example/1/", "title": "A post", "html": "<p>x</p>", "published_at": "2026-11-19T09:00:00.000+00:00", "visibility": "paid", "tags": [{"name": "Politics"}]}]}
)  # fmt: skip
SITEMAP = """<?xml version="1.0"?><urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9" xmlns:news="http://www.google.com/schemas/sitemap-news/0.9">
<url><loc>https://s.example/1</loc><news:news><news:publication><news:name>S</news:name><news:language>ru</news:language></news:publication>
<news:publication_date>2026-11-19T09:00:00Z</news:publication_date><news:title>Реку посчитали</news:title></news:news></url></urlset>"""


@pytest.mark.parametrize(
    ("document", "kind", "headline", "language"),
    [
        (rss(item()), "RSS 2.0", "A quiet river is counted", "en"),
        (ATOM, "Atom 1.0", "Der Fluss wird gezählt", "de"),
        (RDF, "RSS 1.0 (RDF)", "Cuentan el agua del río en España", "es"),
        (JSONFEED, "JSON Feed", "Rivers & roads", "en"),
        (WORDPRESS, "WordPress REST posts", "L’eau comptée", None),
        (GHOST, "Ghost Content API posts", "A post", None),
        (SITEMAP, "Google News sitemap", "Реку посчитали", "ru"),
    ],
)
def test_every_kind_becomes_articles(
    engine: Engine, tmp_path: Path, document: str, kind: str, headline: str, language: str | None
) -> None:
    """Each kind of source is told by its content and read with headline, date and language."""
    report, articles = collect_one(engine, tmp_path, document)

    assert (report.kind, report.entries, report.new, report.error) == (kind, 1, 1, "")
    assert articles[0].headline == headline
    assert articles[0].published_at.date().isoformat() == "2026-11-19"
    if language:
        assert articles[0].language == language


def test_collecting_twice_changes_nothing_and_an_update_is_seen(engine: Engine, tmp_path: Path) -> None:
    """New, then same, then updated: entries always add up."""
    first, _ = collect_one(engine, tmp_path, rss(item()))
    second, _ = collect_one(engine, tmp_path, rss(item()))
    third, articles = collect_one(engine, tmp_path, rss(item(title="A loud river is counted")))

    assert [(r.new, r.updated, r.same) for r in (first, second, third)] == [(1, 0, 0), (0, 0, 1), (0, 1, 0)]
    assert [article.headline for article in articles] == ["A loud river is counted"]


def test_an_excerpt_source_gives_no_body_and_no_picture(engine: Engine, tmp_path: Path) -> None:
    """Undeclared rights: headline, at most 60 words, link; nothing else is stored."""
    extra = (
        f"<description>{'word ' * 90}</description><content:encoded>&lt;p&gt;Body.&lt;/p&gt;</content:encoded>"
        '<media:content url="https://paper.example/p.jpg" medium="image"/>'
    )

    _, (article,) = collect_one(engine, tmp_path, rss(item(extra=extra)))

    assert (article.rights, article.body, article.image) == (Rights.EXCERPT, "", None)
    assert len(article.standfirst.split()) <= 60
    assert Flag.NO_PICTURE_RIGHTS in article.flags


def test_an_own_source_keeps_body_picture_and_dateline(engine: Engine, tmp_path: Path) -> None:
    """Declared rights: sanitised body, picture with texts, dateline taken out of the first paragraph."""
    body = '&lt;p&gt;ROSARIO — It began.&lt;script&gt;x()&lt;/script&gt;&lt;a href="/more" onclick="y()"&gt;More&lt;/a&gt;&lt;/p&gt;'
    extra = (
        f"<description>Short.</description><content:encoded>{body}</content:encoded>"
        '<media:content url="https://paper.example/p.jpg" medium="image" width="1200" height="750"/>'
        "<media:description>A river</media:description><media:credit>Ana</media:credit>"
        '<category domain="country">AR</category><category domain="translated-from">es</category><category>Politics</category>'
        '<category domain="translator">Noor Castellanos</category><source url="https://sur.example/rss">La Gaceta del Sur</source>'
    )

    _, (article,) = collect_one(engine, tmp_path, rss(item(extra=extra)), rights="own")

    assert article.dateline == "ROSARIO"
    assert article.body == '<p>It began.<a href="https://paper.example/more">More</a></p>'
    assert article.image is not None
    assert (article.image.alt, article.image.credit, article.image.width) == ("A river", "Ana", 1200)
    assert (article.countries, article.region, article.translated_from) == (
        ("AR",),
        Region.AMERICAS_LATIN,
        "es",
    )
    assert (article.translator, article.paper) == ("Noor Castellanos", "La Gaceta del Sur")
    assert article.topics == (Topic.POLITICS,)
    assert article.categories == ("Politics",)


def test_a_json_feed_may_say_who_translated(engine: Engine, tmp_path: Path) -> None:
    """By an extension of ours; a paper that is the source itself is not named twice."""
    made = {"from": "pt", "by": "Inês Barroso", "paper": "Diário do Cais"}
    entries = [
        {"url": f"https://paper.example/{n}", "title": f"The river rises again ({n})", "_translation": {**made, **more}}
        for n, more in enumerate(({}, {"paper": "the PAPER"}))
    ]  # fmt: skip
    feed = {"version": "https://jsonfeed.org/version/1.1", "title": "The Paper", "items": entries}

    _, articles = collect_one(engine, tmp_path, json.dumps(feed), name="feed.json")

    told = [(one.translated_from, one.translator, one.paper) for one in articles]
    assert told == [("pt", "Inês Barroso", "Diário do Cais"), ("pt", "Inês Barroso", "")]


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("AT&amp;amp;T and the &amp;lt;b&amp;gt; tag", "AT&T and the <b> tag"),
        ("5 &lt; 6", "5 < 6"),
        ("&lt;em&gt;Loud&lt;/em&gt; river", "Loud river"),
        ("Caf\u00c3\u00a9 opens by the river", "Café opens by the river"),
        ("<![CDATA[A &#8220;quiet&#8221; river]]>", "A “quiet” river"),
    ],
)
def test_headlines_are_plain_text_decoded_once(
    engine: Engine, tmp_path: Path, title: str, expected: str
) -> None:
    """Markup gone, entities decoded once, mojibake mended and flagged."""
    _, (article,) = collect_one(engine, tmp_path, rss(item(title=title)))

    assert article.headline == expected
    assert (Flag.MOJIBAKE in article.flags) is ("Café" in expected)


def test_paragraphs_stay_apart(engine: Engine, tmp_path: Path) -> None:
    """Where a paragraph, a line or a point ends, words do not run together."""
    told = "<p>It rained.</p><p>Roads closed.<br>Schools, too.</p><ul><li>One</li><li>Two</li></ul>"
    _, (article,) = collect_one(
        engine, tmp_path, rss(item(extra=f"<description><![CDATA[{told}]]></description>"))
    )

    assert article.standfirst == "It rained. Roads closed. Schools, too. One Two"


def test_a_standfirst_that_repeats_the_headline_is_none(engine: Engine, tmp_path: Path) -> None:
    """A feed without summaries that gives its headline twice is not told twice."""
    _, (article,) = collect_one(
        engine, tmp_path, rss(item(title="Rain at last", extra="<description>Rain at last.</description>"))
    )

    assert article.standfirst == ""


def test_dates_that_cannot_be_are_told(engine: Engine, tmp_path: Path) -> None:
    """No date and an impossible one: first seen; in the future: kept and flagged."""
    document = rss(
        item(1, date=""),
        item(2, date="Mon, 31 Feb 0001 00:00:00 GMT"),
        item(3, date="Sat, 21 Nov 2026 10:00:00 GMT"),
    )

    _, articles = collect_one(engine, tmp_path, document)

    flags = {article.url[-1]: article.flags for article in articles}
    assert flags["1"] == flags["2"] == (Flag.UNDATED, Flag.FIRST_FETCH)
    assert flags["3"] == (Flag.FUTURE,)
    assert [article.published_at for article in articles][:2] == [NOW, NOW]


def test_undated_after_the_first_fetch_may_be_picked(engine: Engine, tmp_path: Path) -> None:
    """What appears undated later was published since the last fetch; its date does not move afterwards."""
    collect_one(engine, tmp_path, rss(item(1, date="")))
    collect_one(engine, tmp_path, rss(item(1, date=""), item(2, date="")), now=NOW + timedelta(hours=5))
    _, articles = collect_one(
        engine, tmp_path, rss(item(1, date=""), item(2, date="")), now=NOW + timedelta(hours=9)
    )

    assert [(article.flags, article.published_at) for article in articles] == [
        ((Flag.UNDATED, Flag.FIRST_FETCH), NOW),
        ((Flag.UNDATED,), NOW + timedelta(hours=5)),
    ]


BILLION = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">' + "".join(
    f'<!ENTITY {chr(99 + n)} "{f"&{chr(98 + n)};" * 8}">' for n in range(12)
) + "]>"  # fmt: skip


@pytest.mark.parametrize(
    ("document", "kept", "sentence"),
    [
        (rss(item(1), item(2)).replace("counted", "&#xD800; counted", 1), 2, "damaged"),
        (rss(item(1), item(2)).replace("quiet", "qui\x00et", 1), 2, "damaged"),
        (rss(item(1), item(2))[:-90], 1, "damaged"),
        ("<!doctype html><html><body><p>Subscribe!</p></body></html>", 0, "is an HTML page, not a feed"),
        (BILLION + rss(item(1, title="&n;"), item(2)).removeprefix('<?xml version="1.0" encoding="UTF-8"?>'), 1, ""),
        ('<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]>' + rss(item(1, title="&x; root river"), item(2)).removeprefix('<?xml version="1.0" encoding="UTF-8"?>'), 2, ""),
        (rss(item(1), item(2)).replace("quiet", "für").encode("latin-1"), 2, ""),
        (rss(item(1), item(2)).replace('encoding="UTF-8"', 'encoding="x-nonsense"'), 2, ""),
        ("", 0, "is empty"),
        ("just words", 0, "neither XML nor JSON"),
        ('{"items": [', 0, "not whole JSON"),
        ('{"hello": 1}', 0, "neither a JSON Feed"),
        (rss(item(1), "<item><title>No link here</title></item>", "<item><link>https://paper.example/x</link></item>"), 1, ""),
    ],
)  # fmt: skip
def test_a_bad_document_is_one_sentence_and_what_can_be_read_is_kept(
    engine: Engine, tmp_path: Path, document: str | bytes, kept: int, sentence: str
) -> None:
    """Nothing a source holds raises, reaches outside or blows up; the rest of it is kept."""
    began = time.monotonic()

    report, articles = collect_one(engine, tmp_path, document)

    assert time.monotonic() - began < 5
    assert len(articles) >= kept
    assert report.entries == report.new + report.updated + report.same + report.refused
    assert sentence in report.error
    assert not any("root:" in article.headline or len(article.headline) > 5_000 for article in articles)
    assert all(
        "\x00" not in a.headline and not any("\ud800" <= c <= "\udfff" for c in a.headline) for a in articles
    )


def test_deep_nesting_is_capped_before_anything_else_sees_it(engine: Engine, tmp_path: Path) -> None:
    """Twenty thousand nested tags come out as plain words."""
    deep = "&lt;b&gt;" * 20_000 + "deep words" + "&lt;/b&gt;" * 20_000

    _, (article,) = collect_one(
        engine, tmp_path, rss(item(extra=f"<content:encoded>{deep}</content:encoded>")), rights="own"
    )

    assert "deep words" in article.body
    assert article.body.count("<b>") < 200


def test_a_folder_is_read_and_what_is_no_feed_is_told(engine: Engine, tmp_path: Path) -> None:
    """Folders recursively; other files skipped by name; one bad source never stops the others."""
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "a.rss").write_text(rss(item(1)))
    (tmp_path / "in" / "deep" / "b.xml").write_text("<html></html>")
    (tmp_path / "in" / "README.md").write_text("words")
    (tmp_path / "in" / "deep" / "c.atom").write_text(ATOM)

    reports = collect(engine, a_catalogue(tmp_path), [str(tmp_path / "in")], now=NOW, settings=Settings())

    assert [(r.source, r.new, r.skipped, bool(r.error)) for r in reports] == [
        ("skipped", 0, True, True), ("a", 1, False, False), ("deep-b", 0, False, True), ("deep-c", 1, False, False),
    ]  # fmt: skip
    with reading(engine) as session:
        states = {row.source: row.failures for row in session.exec(select(SourceState)).all()}
    assert states == {"a": 0, "deep-b": 1, "deep-c": 0}


def test_an_update_leaves_an_article_in_its_story(engine: Engine, tmp_path: Path) -> None:
    """What is told anew stays where the grouping put it, which no longer looks at what is some days old."""
    collect_one(engine, tmp_path, rss(item()))
    with writing(engine) as session:
        store_stories(session, {"https://paper.example/politics/1": "a-story"})

    report, articles = collect_one(engine, tmp_path, rss(item(title="A quiet river is counted twice")))

    assert (report.updated, [one.story for one in articles]) == (1, ["a-story"])


def test_the_owner_of_a_story_keeps_it(engine: Engine, tmp_path: Path) -> None:
    """The same address from two sources: an own one is never overwritten by an excerpt of it."""
    (tmp_path / "own.xml").write_text(rss(item(1)))
    (tmp_path / "copy.xml").write_text(rss(item(1, title="Copied")).replace("The Paper", "Copycat"))
    catalogue = a_catalogue(tmp_path, {"id": "own", "url": str(tmp_path / "own.xml"), "rights": "own"})

    for order in (["own.xml", "copy.xml"], ["copy.xml", "own.xml"]):
        collect(engine, catalogue, [str(tmp_path / name) for name in order], now=NOW, settings=Settings())

    with reading(engine) as session:
        (article,) = load_articles(session, since=NOW - timedelta(days=9), until=NOW)
    assert (article.headline, article.rights) == ("A quiet river is counted", Rights.OWN)


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("Le Monde.fr - Actualités et Infos", "Le Monde.fr"), ("World – The Indian Express", "The Indian Express"),
        ("NYT > World News", "NYT"), ("Al-Monitor: The Pulse", "Al-Monitor"), ("BBC News", "BBC News"), ("News", "News"), ("", ""),
    ],
)  # fmt: skip
def test_a_feeds_title_gives_the_papers_name(title: str, name: str) -> None:
    """A source nobody named is called what its readers call it."""
    assert publisher_name(title) == name


def test_broken_characters_of_a_whole_feed_are_mended(engine: Engine, tmp_path: Path) -> None:
    """Cyrillic that was taken for Latin-1 on its way, control characters and all."""
    broken = "Сильный мороз в Москве".encode().decode("latin-1")

    _, (article,) = collect_one(engine, tmp_path, rss(item(title=broken)))

    assert (article.headline, article.language) == ("Сильный мороз в Москве", "ru")
    assert Flag.MOJIBAKE in article.flags


def test_kinds_are_recognised(engine: Engine, tmp_path: Path) -> None:
    """A quiz is a promo by its words."""
    _, (article,) = collect_one(engine, tmp_path, rss(item(title="The news quiz of the week")))

    assert article.kind is Kind.PROMO


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("Two river states: Uzbekistan and Tajikistan agree", ("UZ", "TJ")),
        ("Michael Jordan scores for Georgia Tech", ()),
        ("Talks in Jordan resume", ("JO",)),
        ("North Korea and South Korea talk", ("KP", "KR")),
        ("They told us to wait", ()),
        ("US envoys in Iran", ("US", "IR")),
        ("Президент России", ("RU",)),
        ("日本の海と中国の川", ("JP", "CN")),
    ],
)
def test_countries_are_found_in_headlines(text: str, codes: tuple[str, ...]) -> None:
    """Names, peoples and capitals in several scripts; ambiguous words are left alone."""
    assert set(countries_in(text)) == set(codes)


def test_every_country_has_exactly_one_region() -> None:
    """The data file covers ISO 3166-1 alpha-2 without a gap."""
    import pycountry

    assert [c.alpha_2 for c in pycountry.countries if region_of(c.alpha_2) is Region.GLOBAL] == []


URLS = st.builds(
    lambda scheme, host, path, query, fragment: f"{scheme}://{host}{path}{query}{fragment}",
    st.sampled_from(["http", "https", "HTTPS"]),
    st.sampled_from(["news.example", "News.Example:443", "bücher.example", "xn--bcher-kva.example"]),
    st.sampled_from(["", "/", "/a/b/", "/a//b", "/%C3%A9t%C3%A9", "/été", "/a b"]),
    st.sampled_from(["", "?utm_source=x", "?id=7&utm_medium=rss", "?b=2&a=1", "?at_medium=RSS&id=9", "?q="]),
    st.sampled_from(["", "#top"]),
)


@given(headline=st.text(max_size=60))
@example("  L’été à São Paulo – ‘İstanbul’\tनमस्ते_Ω9  ")
def test_a_headline_is_compared_by_its_words(headline: str) -> None:
    """Case, accents and whatever is no word are gone from the key, letters and digits are not."""
    folded = unicodedata.normalize("NFKD", headline.casefold())
    letters = "".join(one for one in folded if not unicodedata.combining(one))

    assert headline_key(headline) == re.sub(r"\W+", " ", letters).strip()


@given(url=URLS)
def test_a_canonical_url_is_final(url: str) -> None:
    """Canonicalising is idempotent; twins of scheme, slash and fragment are one."""
    once = canonical_url(url)

    assert canonical_url(once) == once
    assert once.startswith("https://")
    assert (
        canonical_url(url.split("#")[0].replace("https://", "http://").replace("HTTPS://", "http://")) == once
    )


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://a.example/x?utm_source=rss&id=5#c", "https://a.example/x?id=5"),
        ("http://a.example/x/", "https://a.example/x"),
        ("https://a.example/?p=123", "https://a.example?p=123"),
        ("https://user:pw@a.example/x", "https://a.example/x"),
        ("https://a.example/x?maca=en-rss-1", "https://a.example/x"),
        ("ftp://a.example/x", ""), ("javascript:alert(1)", ""), ("", ""), ("https://[bad", ""), ("//a.example/x", ""),
    ],
)  # fmt: skip
def test_canonical_urls(url: str, expected: str) -> None:
    """Tracking goes, identity stays, what is no address is none."""
    assert canonical_url(url) == expected


@given(words=st.integers(0, 200), limit=st.integers(5, 80))
def test_an_excerpt_is_never_longer_than_its_limit(words: int, limit: int) -> None:
    """At most *limit* words, whatever the text."""
    assert len(first_words("Word. " * words, limit).split()) <= limit


# --- over HTTP ----------------------------------------------------------------------------------


class _Site(BaseHTTPRequestHandler):
    """A small site with a feed, a slow page, bombs and redirects."""

    seen: list[dict[str, str]]

    def do_GET(self) -> None:
        """Answer by path."""
        self.server.seen.append({name.lower(): value for name, value in self.headers.items()})  # type: ignore[attr-defined]
        body = rss(item(1)).encode()
        if self.path == "/feed":
            if self.headers.get("If-None-Match") == '"v1"':
                self.send_response(304)
                self.end_headers()
                return
            self._answer(
                gzip.compress(body),
                [("ETag", '"v1"'), ("Content-Encoding", "gzip"), ("Content-Type", "application/rss+xml")],
            )
        elif self.path == "/bomb":
            self._answer(gzip.compress(b" " * 30_000_000), [("Content-Encoding", "gzip")])
        elif self.path == "/slow":
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            try:
                for _ in range(30):
                    self.wfile.write(b"x")
                    time.sleep(0.1)
            except OSError:
                return
        elif self.path == "/head":
            try:
                self.wfile.write(b"HTTP/1.0 200 OK\r\nX-Slow: ")
                for _ in range(100):
                    self.wfile.write(b"x")
                    time.sleep(0.1)
            except OSError:
                return
        elif self.path == "/accents":
            self._answer(body, [("ETag", '"\xe9t\xe9"')])
        elif self.path == "/loop":
            self._redirect("/loop")
        elif self.path == "/away":
            self._redirect(f"http://127.0.0.1:{self.server.server_port}/feed")
        else:
            self.send_error(500)

    def _answer(self, body: bytes, headers: list[tuple[str, str]]) -> None:
        self.send_response(200)
        for name, value in [*headers, ("Content-Length", str(len(body)))]:
            self.send_header(name, value)
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:
            return

    def _redirect(self, where: str) -> None:
        self.send_response(302)
        self.send_header("Location", where)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def site() -> Iterator[ThreadingHTTPServer]:
    """The site, running."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Site)
    server.seen = []  # type: ignore[attr-defined]
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_feed_is_fetched_and_asked_for_again_only_if_changed(
    engine: Engine, tmp_path: Path, site: ThreadingHTTPServer
) -> None:
    """ETag is kept; the second fetch gets a 304 and keeps everything."""
    url = f"http://127.0.0.1:{site.server_port}/feed"
    catalogue = a_catalogue(tmp_path, {"id": "src", "url": url})
    allowed = Settings(NEWSLETTER_ALLOW_PRIVATE_SOURCES=True)  # type: ignore[call-arg]  # by its variable's name

    first = collect(engine, catalogue, None, now=NOW, settings=allowed)
    second = collect(engine, catalogue, None, now=NOW, settings=allowed)

    assert [(r.new, r.entries, r.error) for r in (*first, *second)] == [(1, 1, ""), (0, 0, "")]
    assert [headers.get("if-none-match") for headers in site.seen] == [None, '"v1"']  # type: ignore[attr-defined]
    assert "gzip" in site.seen[0]["accept-encoding"] and "br" in site.seen[0]["accept-encoding"]  # type: ignore[attr-defined]


def test_a_mark_that_cannot_be_said_back_stops_nothing(
    engine: Engine, tmp_path: Path, site: ThreadingHTTPServer
) -> None:
    """An ETag beyond ASCII is left out of the next request, which reads the source as the first did."""
    catalogue = a_catalogue(tmp_path, {"id": "src", "url": f"http://127.0.0.1:{site.server_port}/accents"})
    allowed = Settings(NEWSLETTER_ALLOW_PRIVATE_SOURCES=True)  # type: ignore[call-arg]  # by its variable's name

    reports = [collect(engine, catalogue, None, now=NOW, settings=allowed)[0] for _ in range(2)]

    assert [(one.new, one.same, one.error) for one in reports] == [(1, 0, ""), (0, 1, "")]


def test_private_addresses_are_not_read_unless_allowed(
    engine: Engine, tmp_path: Path, site: ThreadingHTTPServer
) -> None:
    """A source on loopback is refused with a sentence, directly and by a name that leads there."""
    urls = [f"http://127.0.0.1:{site.server_port}/feed", f"http://localhost:{site.server_port}/feed"]

    reports = collect(engine, a_catalogue(tmp_path), urls, now=NOW, settings=Settings())

    assert all("private or local address" in report.error for report in reports)
    assert site.seen == []  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("/bomb", "larger than"),
        ("/slow", "seconds"),
        ("/head", "seconds"),
        ("/loop", "redirects more than 5 times"),
        ("/gone", "answered 500"),
    ],
)
def test_a_bad_server_is_one_sentence(site: ThreadingHTTPServer, path: str, sentence: str) -> None:
    """A gzip bomb, a body or a head that drips, a loop of redirects, an error: each ends soon, in words."""
    began = time.monotonic()

    with (
        Fetcher(allow_private=True, total_seconds=1.0) as fetcher,
        pytest.raises(SourceError, match=sentence),
    ):
        fetcher.fetch(f"http://127.0.0.1:{site.server_port}{path}")

    assert time.monotonic() - began < 6


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True), ("127.0.0.1", False), ("10.1.2.3", False), ("169.254.169.254", False), ("0.0.0.0", False),
        ("::1", False), ("fe80::1%eth0", False), ("::ffff:127.0.0.1", False), ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::", False), ("100.64.0.1", False), ("224.0.0.1", False), ("2606:2800:220:1:248:1893:25c8:1946", True),
    ],
)  # fmt: skip
def test_which_addresses_are_public(address: str, public: bool) -> None:
    """Every disguise of a private address is seen through."""
    assert is_public(address) is public


def test_a_document_is_never_taken_for_an_address() -> None:
    """Bytes that look like a URL are refused, not fetched."""
    with pytest.raises(SourceError, match="not a feed we know"):
        read_document(b"http://127.0.0.1:9/feed", source="x")


@pytest.mark.parametrize(
    ("told", "place", "paper", "byline", "text"),
    [
        ("[Lakeside FM] Nairobi -- Pilots have warned of fatigue.", "Nairobi", "Lakeside FM", "", "Pilots have warned of fatigue."),
        ("BERLIN, Feb 17 (Reuters) - More than 80 actors signed.", "BERLIN", "Reuters", "", "More than 80 actors signed."),
        ("MOSUL, Iraq/BAGHDAD (AP) — Forces closed in.", "MOSUL, Iraq/BAGHDAD", "AP", "", "Forces closed in."),
        ("By Ada Lund and Bo RamDUBAI, Feb 17 (Reuters) - The group said no.", "DUBAI", "Reuters", "Ada Lund and Bo Ram", "The group said no."),
        ("Rain fell. The post Rain appeared first on The Valley.", "", "", "", "Rain fell."),
        ("Piove ancora... L'articolo Pioggia sembra essere il primo su La Valle.", "", "", "", "Piove ancora..."),
        ("An old man died on Saturday (7) pushing a broken car.P... Leia mais no Massa News!", "", "", "", "An old man died on Saturday (7) pushing a broken car."),
        ("According to the group ... Leia mais no Massa News!", "", "", "", "According to the group …"),
        ("They met the U.S... Read more", "", "", "", "They met the U.S…"),
        ("Read more books, says the minister.", "", "", "", "Read more books, says the minister."),
        ("By Ada Lund DUBAI, Feb 17 (Reuters) - The group said no.", "DUBAI", "Reuters", "Ada Lund", "The group said no."),
        ("THE BIG READ (six minutes) - How a town forgot its name.", "", "", "", "THE BIG READ (six minutes) - How a town forgot its name."),
        ("[Update] The road is open again.", "", "", "", "[Update] The road is open again."),
        ("[Opinion] The war goes badly - says who?", "", "", "", "[Opinion] The war goes badly - says who?"),
    ],
)  # fmt: skip
def test_what_agencies_put_before_a_text_is_no_part_of_it(
    told: str, place: str, paper: str, byline: str, text: str
) -> None:
    """Place, agency and reporter are kept where they belong; the way back to a blog is nobody's."""
    assert parted(told) == (text, place, paper, byline)
