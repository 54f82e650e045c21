"""How a page is made: the layout in the publication's look, in the reader's language, with its own strict policy."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import jinja2
from markupsafe import Markup, escape
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from newsletter.catalogue import Catalogue
from newsletter.settings import Settings
from newsletter.theme import Theme
from newsletter.web.forms import TRAP, Forms
from newsletter.words import LANGUAGES, Words, choose_language, read_accept_language, words

FOLDER = Path(__file__).with_name("pages")
# A picture of two strokes, the family's mark, so that no browser asks for /favicon.ico.
_ICON = (
    "data:image/svg+xml,"
    "%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Crect width='16' height='16' rx='3' fill='{}'/%3E"
    "%3Cpath d='M6 3v10M10 3v10' stroke='%23fff' stroke-width='2'/%3E%3C/svg%3E"
)


_SENTENCE = re.compile(r"""\{\{ _\("([^"\\\\{}]+)"\) \}\}""")
_MOST_KEPT = 2_000  # pieces a language


class Pages:
    """Renders pages. One environment a language; made when first needed, then kept."""

    def __init__(self, catalogue: Catalogue, forms: Forms, settings: Settings) -> None:
        self.catalogue, self.forms = catalogue, forms
        self.prefix, self.base_url = settings.path_prefix, settings.base_url
        self.style = style(catalogue)
        digest = base64.b64encode(hashlib.sha256(self.style.encode()).digest()).decode("ascii")
        self._policy = (
            f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; form-action 'self'; base-uri 'none'; "
            "frame-ancestors "
        )
        self.icon = _ICON.format(quote(catalogue.publication.theme.accent))
        self._environments: dict[str, jinja2.Environment] = {}

    def words(self, request: Request, language: str = "") -> Words:
        """
        The language of an answer: what was asked for by ``?lang=``, else the reader's own (*language*), else
        the browser's, else the publication's.
        """
        asked = request.query_params.get("lang", "")
        if asked in LANGUAGES:
            return words(asked)
        told = read_accept_language(request.headers.get("accept-language", ""))
        own = (language,) if language else ()
        return words(choose_language([*own, *told], fallback=self.catalogue.publication.language))

    def page(
        self,
        request: Request,
        template: str,
        status: int = 200,
        *,
        words: Words | None = None,
        purpose: str = "",
        framed: bool = False,
        indexed: bool = False,
        **values: Any,
    ) -> HTMLResponse:
        """
        Render *template* in *words* (default: by the request).

        *purpose*: the page has a form that acts for its visitor; it gets ``{{ signature }}``, and the visitor a
        cookie if they have none. *framed*: other sites named in ``embed_origins`` may show it in a frame.
        *indexed*: search engines may keep it.
        """
        words = words or self.words(request)
        signature, visit = Markup(""), ""
        if purpose:
            signature, visit = self.forms.sign(request, purpose, bound=not framed)
        html = self.environment(words.language).get_template(template).render(
            words=words, url=lambda path: self.path(request, path), switch=self._switch(request, words),
            signature=signature, framed=framed, **values,
        )  # fmt: skip
        ancestors = " ".join(self.catalogue.publication.embed_origins) if framed else ""
        headers = {
            "Content-Security-Policy": self._policy + (ancestors or "'none'"),
            "Content-Language": words.language,
        }
        if purpose:
            headers["Referrer-Policy"] = "same-origin"  # with no-referrer a browser posts "Origin: null"
        if framed:
            headers["Cross-Origin-Resource-Policy"] = "cross-origin"
        if indexed:
            headers["X-Robots-Tag"] = "all"
        answer = HTMLResponse(html, status, headers=headers)
        if visit and not framed:
            self.forms.cookies.set(answer, self.forms.cookies.visit, visit)
        return answer

    def path(self, request: Request, path: str) -> str:
        """*path* of ours as a link on this page: below the prefix, in the language that was asked for."""
        asked = request.query_params.get("lang", "")
        link = self.prefix + path
        if asked not in LANGUAGES:
            return link
        before, mark, fragment = link.partition("#")
        return f"{before}{'&' if '?' in before else '?'}lang={asked}{mark}{fragment}"

    def see(self, request: Request, path: str) -> Response:
        """Send a browser that posted on to *path* of ours."""
        return RedirectResponse(self.path(request, path), 303)

    def environment(self, language: str) -> jinja2.Environment:
        """The templates in one language."""
        if language not in self._environments:
            self._environments[language] = self._make_environment(words(language))
        return self._environments[language]

    def _make_environment(self, spoken: Words) -> jinja2.Environment:
        environment = jinja2.Environment(
            loader=_Spoken(spoken), auto_reload=False, autoescape=True, undefined=jinja2.StrictUndefined,
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.i18n"],
        )  # fmt: skip
        environment.install_gettext_translations(spoken.translations, newstyle=True)  # type: ignore[attr-defined]
        environment.filters["bdi"] = bdi
        publication = self.catalogue.publication
        tagline = publication.taglines.get(spoken.language, publication.tagline)
        environment.globals.update(
            zone_options=_zone_options(spoken), kept=_Kept(), publication=publication, tagline=tagline, style=Markup(self.style), icon=self.icon, TRAP=TRAP,  # noqa: S704  # ours
        )  # fmt: skip
        return environment

    def _switch(self, request: Request, spoken: Words) -> tuple[tuple[str, str, str], ...]:
        """The other languages of this page: (code, own name, link)."""
        kept = [(name, value) for name, value in request.query_params.multi_items() if name != "lang"][:10]
        others = [one for one in spoken.languages() if one[0] != spoken.language]
        if not kept:
            return tuple((code, name, f"?lang={code}") for code, name in others)
        return tuple((code, name, f"?{urlencode([*kept, ('lang', code)])}") for code, name in others)

    async def not_found(self, request: Request, _error: Exception) -> Response:
        """One page for every link that is not ours: nothing to learn from it."""
        return self.page(request, "sorry.html.j2", 404, code=404)

    async def refused(self, request: Request, error: Exception) -> Response:
        """Any other refusal, in words."""
        status = error.status_code if isinstance(error, HTTPException) else 500
        page = self.page(request, "sorry.html.j2", status, code=status)
        if isinstance(error, HTTPException) and error.headers:
            page.headers.update(error.headers)
        return page

    def failed(self, request: Request) -> Response:
        """Something nobody foresaw: the reader learns that nothing was changed, the log where it was."""
        return self.page(request, "sorry.html.j2", 500, code=503)

    async def unavailable(self, request: Request, _error: Exception) -> Response:
        """The database does not answer."""
        page = self.page(request, "sorry.html.j2", 503, code=503)
        page.headers["Retry-After"] = "60"
        return page


class _Spoken(jinja2.FileSystemLoader):
    """
    Templates of one language: a sentence without values is translated once, when its template is compiled.

    A page has some thirty of them, which took a sixth of its time.
    """

    def __init__(self, spoken: Words) -> None:
        super().__init__(FOLDER)
        self.spoken = spoken

    def get_source(
        self, environment: jinja2.Environment, template: str
    ) -> tuple[str, str, Callable[[], bool]]:
        """The source with its plain sentences said."""
        source, filename, is_current = super().get_source(environment, template)
        return (
            _SENTENCE.sub(lambda found: str(escape(self.spoken.say(found[1]))), source),
            filename,
            is_current,
        )


class _Kept:
    """``{% call kept(…) %}``: a piece of a page that depends on nothing but what it is called with, made once."""

    def __init__(self) -> None:
        self._pieces: dict[tuple[object, ...], Markup] = {}

    def __call__(self, *of: object, caller: Callable[[], Markup]) -> Markup:
        """The piece *of* these values; *caller* makes it."""
        piece = self._pieces.get(of)
        if piece is None:
            piece = caller()
            if len(self._pieces) < _MOST_KEPT:
                self._pieces[of] = piece
        return piece


def _zone_options(spoken: Words) -> Markup:
    """Every time zone as an option, by continent; each only once, by the name this language has for its place."""
    groups = (
        Markup('<optgroup label="{}">{}</optgroup>').format(
            area,
            Markup("").join(Markup('<option value="{}">{}').format(zone, place) for zone, place in zones),
        )
        for area, zones in spoken.zones()
    )
    return Markup("\n").join(groups)


def bdi(text: object) -> Markup:
    """*text* whose direction is its own: names and addresses within a sentence of another script."""
    return Markup("<bdi>{}</bdi>").format(escape(text))


@cache
def _sheet() -> str:
    return (FOLDER / "style.css").read_text(encoding="utf-8")


def style(catalogue: Catalogue) -> str:
    """The style sheet of all pages in the publication's colours, each newsletter's own colour as ``.nl-<slug>``."""
    own = [f".nl-{one.slug} {{ {_colours(one.theme)} }}" for one in catalogue.newsletters]
    dark = [f".nl-{one.slug} {{ {_colours(one.theme, dark=True)} }}" for one in catalogue.newsletters]
    theme = catalogue.publication.theme
    sheet = (
        _sheet()
        .replace("ACCENT_DARK", theme.accent_dark)
        .replace("ACCENT", theme.accent)
        .replace("TINT_DARK", theme.tint_dark)
        .replace("TINT", theme.tint)
    )
    return f"{sheet}{chr(10).join(own)}\n@media (prefers-color-scheme: dark) {{ {chr(10).join(dark)} }}\n"


def _colours(theme: Theme, *, dark: bool = False) -> str:
    return f"--own: {theme.accent_dark if dark else theme.accent}"
