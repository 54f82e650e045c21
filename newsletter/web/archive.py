"""
``/archive``: what was sent, for everybody: by newsletter, by date, by words, and as a feed.

Only ever the free variant. An edition is the mail as it was sent, between two lines of ours; its personal
links lead to the pages everybody may open.
"""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, date, datetime
from email.utils import format_datetime
from typing import Any
from urllib.parse import quote, urlsplit

from lxml import etree
from lxml.builder import ElementMaker
from markupsafe import Markup, escape
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from newsletter.archive import PAGE, Listed, Shown, find, is_public, listed, public, shown
from newsletter.catalogue import Newsletter, Publication
from newsletter.edition import PERSONAL_TAGS
from newsletter.rendering.engine import fill
from newsletter.store.searching import CLOSE, OPEN, Found
from newsletter.web.door import Door
from newsletter.web.listing import direction_of
from newsletter.words import Words

ATOM = "http://www.w3.org/2005/Atom"
FEED_LENGTH = 30
LONGEST_QUERY = 200
MAX_PAGE = 500
PUBLIC = {"Cache-Control": "public, max-age=300", "X-Robots-Tag": "all"}


def mail_policy(publication: Publication, base_url: str) -> str:
    """
    What a mail in a page may do: its own styles, pictures of ours and of the publication's own domain. No more.

    A picture that lies elsewhere is not asked for: looking at our archive is nobody else's business.
    """
    own = urlsplit(publication.url)
    here = urlsplit(base_url)
    domain = own.netloc.removeprefix("www.")
    pictures = f"{own.scheme}://{domain} {own.scheme}://*.{domain} {here.scheme}://{here.netloc}"
    return (
        f"default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data: {pictures}; "
        "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    )


# Pages of mails are 50 kB and more of much the same: a seventh of it goes over the wire. Compressed are only
# answers that hold no secret beside what a visitor wrote (BREACH): these, and no page with a form of ours.
SMALLER = [Middleware(GZipMiddleware, minimum_size=1024, compresslevel=6)]


def in_page(html: str, *, head: str, before: str, after: str) -> str:
    """A mail's HTML as a page: ours in the head, before the mail and after it. The mail is the page's ``main``."""
    html = re.sub(r"(<head[^>]*>)", lambda tag: tag[1] + head, html, count=1)
    html = re.sub(r"(<body[^>]*>)", lambda tag: tag[1] + before, html, count=1)
    mail, mark, rest = html.rpartition("</body>")
    return f"{mail}{after}{mark}{rest}"


class Archive:
    """The handlers of the archive."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self.base_url = door.settings.base_url

    def routes(self) -> list[BaseRoute]:
        """The routes of this room."""
        return [
            Route("/archive", self.all, methods=["GET"], middleware=SMALLER),
            Route("/archive/search", self.search, methods=["GET"], middleware=SMALLER),
            Route("/archive/{slug}", self.one, methods=["GET"], middleware=SMALLER),
            Route("/archive/{slug}/feed.atom", self.feed, methods=["GET"]),
            Route("/archive/{slug}/{day}", self.edition, methods=["GET"], middleware=SMALLER),
        ]

    async def all(self, request: Request) -> Response:
        """The newsletters, and what came last."""
        door = self.door
        words = door.pages.words(request)
        slugs = [one.slug for one in public(door.catalogue)]
        latest = await run_in_threadpool(listed, door.engine, slugs, limit=12)
        return self._page(
            request, "archive.html.j2", words, entries=[one for one in door.listing(words) if one.sample],
            rows=self._rows(latest, words),
        )  # fmt: skip

    async def one(self, request: Request) -> Response:
        """One newsletter's editions, a page at a time."""
        door, newsletter, page = self.door, self._newsletter(request), _page_number(request)
        words = door.pages.words(request)
        found = await run_in_threadpool(
            listed, door.engine, [newsletter.slug], limit=PAGE + 1, offset=(page - 1) * PAGE
        )
        if not found and page > 1:
            raise HTTPException(404)
        about, language = newsletter.about_in(words.language)
        return self._page(
            request, "archive-list.html.j2", words, newsletter=newsletter, about=about.description or about.tagline,
            language=language, direction=direction_of(language),
            rows=self._rows(found[:PAGE], words), page=page, more=len(found) > PAGE,
            feed=f"/archive/{newsletter.slug}/feed.atom", here=f"/archive/{newsletter.slug}",
        )  # fmt: skip

    async def search(self, request: Request) -> Response:
        """Editions by words."""
        door, page = self.door, _page_number(request)
        words = door.pages.words(request)
        query = " ".join(request.query_params.get("q", "").replace("\0", " ").split())[:LONGEST_QUERY]
        found = await run_in_threadpool(self._find, query, page) if query else ()
        rows = [
            {
                "name": door.name(one.newsletter), "title": one.title, "day": words.date(one.edition_date),
                "path": f"/archive/{one.newsletter}/{one.edition_date}", "excerpt": _marked(one.excerpt),
                "slug": one.newsletter, **self._tongue(one.newsletter),
            }
            for one in found[:PAGE]
        ]  # fmt: skip
        return self._page(
            request, "search.html.j2", words, indexed=False, query=query, rows=rows, page=page, more=len(found) > PAGE,
            here=f"/archive/search?q={quote(query)}",
        )  # fmt: skip

    def _find(self, query: str, page: int) -> tuple[Found, ...]:
        with self.door.engine.connect() as connection:
            return find(connection, self.door.catalogue, query, page=page)

    async def edition(self, request: Request) -> Response:
        """The mail as it was sent to free readers."""
        door, newsletter = self.door, self._newsletter(request)
        try:
            day = date.fromisoformat(request.path_params["day"])
        except ValueError:
            raise HTTPException(404) from None
        found = await run_in_threadpool(shown, door.engine, newsletter.slug, day)
        if found is None:
            raise HTTPException(404)
        html = self._framed(request, newsletter, day, found)
        policy = mail_policy(door.catalogue.publication, self.base_url)
        return HTMLResponse(html, headers={**PUBLIC, "Content-Security-Policy": policy})

    def _framed(self, request: Request, newsletter: Newsletter, day: date, found: Shown) -> str:
        """The mail with a head of its own and a line before and after."""
        door = self.door
        words = door.pages.words(request, newsletter.language)
        here = f"{self.base_url}/archive/{newsletter.slug}/{day}"
        subscribe = f"{self.base_url}/subscribe?newsletter={newsletter.slug}"
        links = {"unsubscribe_url": subscribe, "preferences_url": f"{self.base_url}/login", "view_url": here}
        html = fill(
            found.rendered.html, {tag: str(escape(links[name])) for name, tag in PERSONAL_TAGS.items()}
        )
        subject = " ".join(fill(found.rendered.subject, dict.fromkeys(PERSONAL_TAGS.values(), "")).split())
        environment = door.pages.environment(words.language)
        values = {
            "words": words, "newsletter": newsletter, "subject": subject, "summary": found.rendered.preheader,
            "here": here, "subscribe": subscribe, "day": words.date(day), "url": lambda path: door.pages.path(request, path),
            "feed": f"{self.base_url}/archive/{newsletter.slug}/feed.atom", "sent_at": found.sent_at.isoformat(),
            "before": f"/archive/{newsletter.slug}/{found.before}" if found.before else "",
            "after": f"/archive/{newsletter.slug}/{found.after}" if found.after else "",
            "back": f"/archive/{newsletter.slug}",
        }  # fmt: skip
        head, top, foot = (
            environment.get_template(f"mail-{part}.html.j2").render(values)
            for part in ("head", "top", "foot")
        )
        html = re.sub(r"<title>.*?</title>", "", html, count=1, flags=re.DOTALL)
        return in_page(html, head=head, before=top, after=foot)

    async def feed(self, request: Request) -> Response:
        """One newsletter as an Atom feed (RFC 4287)."""
        door, newsletter = self.door, self._newsletter(request)
        found = await run_in_threadpool(listed, door.engine, [newsletter.slug], limit=FEED_LENGTH)
        updated = max((one.sent_at for one in found), default=datetime(2020, 1, 1, tzinfo=UTC))
        body = self._atom(newsletter, found, updated)
        etag = f'"{hashlib.sha256(body).hexdigest()[:24]}"'
        headers = {
            **PUBLIC,
            "ETag": etag,
            "Last-Modified": format_datetime(updated.replace(microsecond=0), usegmt=True),
        }
        if etag in [
            one.strip().removeprefix("W/") for one in request.headers.get("if-none-match", "").split(",")
        ]:
            return Response(status_code=304, headers=headers)
        return Response(body, media_type="application/atom+xml", headers=headers)

    def _atom(self, newsletter: Newsletter, found: tuple[Listed, ...], updated: datetime) -> bytes:
        make = ElementMaker(namespace=ATOM, nsmap={None: ATOM})
        here = f"{self.base_url}/archive/{newsletter.slug}"
        publication = self.door.catalogue.publication
        feed = make.feed(
            make.id(here), make.title(newsletter.name), make.subtitle(newsletter.tagline or publication.tagline),
            make.updated(updated.isoformat()), make.author(make.name(publication.name)),
            make.link(rel="alternate", type="text/html", href=here),
            make.link(rel="self", type="application/atom+xml", href=f"{here}/feed.atom"),
            {"{http://www.w3.org/XML/1998/namespace}lang": newsletter.language},
        )  # fmt: skip
        for one in found:
            link = f"{here}/{one.edition_date}"
            feed.append(
                make.entry(
                    make.id(link), make.title(_xml(one.title)), make.summary(_xml(one.summary)),
                    make.published(one.sent_at.isoformat()), make.updated(one.sent_at.isoformat()),
                    make.link(rel="alternate", type="text/html", href=link),
                )
            )  # fmt: skip
        return bytes(etree.tostring(feed, xml_declaration=True, encoding="utf-8"))

    def _newsletter(self, request: Request) -> Newsletter:
        slug = request.path_params["slug"]
        found = next((one for one in self.door.catalogue.newsletters if one.slug == slug), None)
        if found is None or not is_public(found):
            raise HTTPException(404)
        return found

    def _rows(self, found: tuple[Listed, ...], words: Words) -> list[dict[str, str]]:
        return [
            {
                "name": self.door.name(one.newsletter), "title": one.title, "summary": one.summary, "slug": one.newsletter,
                "day": words.date(one.edition_date), "path": f"/archive/{one.newsletter}/{one.edition_date}",
                **self._tongue(one.newsletter),
            }
            for one in found
        ]  # fmt: skip

    def _tongue(self, slug: str) -> dict[str, str]:
        language = self.door.catalogue[slug].language
        return {"language": language, "direction": direction_of(language)}

    def _page(
        self, request: Request, template: str, words: Words, *, indexed: bool = True, **values: Any
    ) -> Response:
        answer = self.door.pages.page(request, template, words=words, indexed=indexed, **values)
        answer.headers["Cache-Control"] = PUBLIC["Cache-Control"]
        answer.headers["Vary"] = "Accept-Language"
        return answer


def _page_number(request: Request) -> int:
    told = request.query_params.get("page", "1")
    if not (told.isascii() and told.isdecimal() and 1 <= int(told[:6]) <= MAX_PAGE):
        raise HTTPException(404)
    return int(told)


def _marked(excerpt: str) -> Markup:
    """An excerpt as HTML: what was found stands in <mark>, everything else is text."""
    safe = str(escape(excerpt)).replace(OPEN, "<mark>").replace(CLOSE, "</mark>")
    return Markup(safe)  # noqa: S704  # escaped before


def _xml(text: str) -> str:
    """*text* without what XML 1.0 cannot hold."""
    return re.sub(r"[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "", text)
