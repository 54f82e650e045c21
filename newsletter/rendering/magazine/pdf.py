"""The issue as a PDF: set by WeasyPrint, tagged, with its fonts and pictures in it."""

from __future__ import annotations

import hashlib

from PIL import ImageFile

from newsletter.errors import TemplateError
from newsletter.rendering.magazine.pages import Issue, fonts

_BASE = "magazine:"


def make_pdf(issue: Issue) -> bytes:
    """
    Set *issue*; the same issue gives the same bytes. Nothing is read from anywhere but the issue.

    Raises:
        TemplateError: the page cannot be set.
    """
    from weasyprint import CSS, HTML
    from weasyprint.text.fonts import FontConfiguration
    from weasyprint.urls import URLFetcher, URLFetcherResponse

    ImageFile.LOAD_TRUNCATED_IMAGES = False  # its import lets every torn picture of this process pass

    faces = {f"{_BASE}{font.name}": font.data for font in fonts()}

    class OnlyOurs(URLFetcher):  # type: ignore[misc]  # the package ships no types
        """Gives out fonts and pictures of the issue and refuses everything else."""

        def fetch(self, url: str, headers: object = None) -> URLFetcherResponse:
            """What is at *url*, if it is ours."""
            data = faces.get(url) or issue.pictures.get(url)
            if data is None:
                raise ValueError(f"{url} is not in the issue")
            kind = "font/otf" if url in faces else "image/jpeg"
            return URLFetcherResponse(url, data, {"Content-Type": kind})

    fetcher, config = OnlyOurs(), FontConfiguration()
    page = issue.set("magazine.html.j2")
    rules = "".join(font.css(_BASE) for font in fonts())
    try:
        made: bytes = HTML(string=page, url_fetcher=fetcher, base_url="magazine:page").write_pdf(
            font_config=config, stylesheets=[CSS(string=rules, font_config=config, url_fetcher=fetcher, base_url="magazine:page")],
            pdf_identifier=hashlib.sha256(page.encode()).hexdigest()[:32].encode(), pdf_tags=True, custom_metadata=False,
            optimize_images=False,
        )  # fmt: skip
    except ValueError as error:
        raise TemplateError(f"{issue.title} cannot be set as PDF: {error}") from error
    return made
