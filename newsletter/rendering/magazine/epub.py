"""The issue as an EPUB 3: a chapter a story, with fonts, pictures and a table of contents."""

from __future__ import annotations

import io
import zipfile
from datetime import UTC, datetime, time
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from newsletter.rendering.magazine.pages import Issue, fonts

_STYLE = "style/book.css"


def make_epub(issue: Issue) -> bytes:
    """
    Make the book of *issue*; the same issue gives the same bytes.

    Raises:
        TemplateError: a chapter's template does not render.
    """
    from ebooklib import epub

    edition, publication = issue.edition, issue.catalogue.publication
    book = epub.EpubBook()
    ref = f"{publication.url}/{edition.newsletter}/{edition.edition_date}/{edition.revision}"
    book.set_identifier(uuid5(NAMESPACE_URL, ref).urn)
    book.set_title(issue.title)
    book.set_language(edition.language)
    book.set_direction(edition.direction)
    book.add_author(publication.name)
    book.add_metadata("DC", "date", edition.edition_date.isoformat())
    _add_style(book, issue)
    places = _add_pictures(book, issue)
    chapters = [
        _chapter(book, issue, "cover", issue.newsletter.name, issue.set("cover.xhtml.j2", places=places))
    ]
    if edition.letter:
        note = issue.say("From the editor")
        chapters.append(_chapter(book, issue, "note", note, issue.set("note.xhtml.j2")))
    contents: list[Any] = list(chapters)
    for section in edition.sections:
        stories = []
        for item in section.items:
            page = issue.set("chapter.xhtml.j2", section=section, item=item, places=places)
            stories.append(_chapter(book, issue, f"story-{len(chapters)}", item.headline, page))
            chapters.append(stories[-1])
        contents += (
            [(epub.Section(section.heading, stories[0].file_name), stories)]
            if section.heading and stories
            else stories
        )
    chapters.append(_chapter(book, issue, "makers", publication.name, issue.set("makers.xhtml.j2")))
    book.toc = [*contents, chapters[-1]]
    book.add_item(epub.EpubNcx())
    nav = epub.EpubNav(title=issue.say("Contents"))
    book.add_item(nav)
    book.spine = [chapters[0], nav, *chapters[1:]]
    out = io.BytesIO()
    at = datetime.combine(edition.edition_date, time(), UTC)
    epub.write_epub(out, book, {"mtime": at, "raise_exceptions": True})
    return _same_every_time(out.getvalue(), at)


def _add_style(book: Any, issue: Issue) -> None:
    from ebooklib import epub

    rules = "".join(font.css("../fonts/") for font in fonts()) + issue.set("book.css.j2")
    book.add_item(epub.EpubItem(uid="style", file_name=_STYLE, media_type="text/css", content=rules.encode()))
    for font in fonts():
        book.add_item(
            epub.EpubItem(
                uid=font.name, file_name=f"fonts/{font.name}", media_type="font/otf", content=font.data
            )
        )


def _add_pictures(book: Any, issue: Issue) -> dict[str, str]:
    """Every picture once; by its address, where it lies in the book. The cover's is also the book's."""
    from ebooklib import epub

    places: dict[str, str] = {}
    for number, (address, data) in enumerate(issue.pictures.items(), 1):
        places[address] = f"pictures/{number}.jpg"
        item = epub.EpubImage(
            uid=f"picture-{number}", file_name=places[address], media_type="image/jpeg", content=data
        )
        if issue.cover.image and issue.cover.image.url == address:
            item = epub.EpubCover(uid="cover-image", file_name=places[address])
            item.content, item.media_type = data, "image/jpeg"
            book.add_metadata(None, "meta", "", {"name": "cover", "content": "cover-image"})
        book.add_item(item)
    return places


def _chapter(book: Any, issue: Issue, name: str, title: str, body: str) -> Any:
    from ebooklib import epub

    chapter = epub.EpubHtml(
        uid=name,
        title=title,
        file_name=f"{name}.xhtml",
        lang=issue.edition.language,
        direction=issue.edition.direction,
    )
    chapter.content = body
    chapter.add_link(href=_STYLE, rel="stylesheet", type="text/css")
    book.add_item(chapter)
    return chapter


def _same_every_time(data: bytes, at: datetime) -> bytes:
    """The same archive with the edition's date on every file; ``mimetype`` first and not compressed (OCF 3.3)."""
    out = io.BytesIO()
    stamp = (at.year, at.month, at.day, 0, 0, 0)
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        for info in old.infolist():
            kind = zipfile.ZIP_STORED if info.filename == "mimetype" else zipfile.ZIP_DEFLATED
            new.writestr(zipfile.ZipInfo(info.filename, stamp), old.read(info), compress_type=kind)
    return out.getvalue()
