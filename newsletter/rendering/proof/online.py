"""Whether links and pictures answer: only on demand, because it asks other people's machines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from newsletter.edition import Rendered
from newsletter.rendering.codes import finding
from newsletter.rendering.findings import Finding, in_order
from newsletter.rendering.proof.links import faults
from newsletter.rendering.proof.material import PERSONAL_LINKS, parsed

HEAVY_BYTES = 1_048_576
_AT_ONCE = 8
_GONE = (404, 410)
_NOT_ASKED = {"link-syntax", "link-credentials"}


@dataclass(frozen=True, slots=True)
class Looked:
    """What an address answered; *status* 0: nothing in time. *trouble* says why it cannot be reached at all."""

    status: int = 0
    content_type: str = ""
    size_bytes: int = 0
    trouble: str = ""


def follow(
    editions: Iterable[tuple[str, Iterable[Rendered]]], look: Callable[[str], Looked]
) -> tuple[Finding, ...]:
    """
    Look at every link and picture of *editions* (slug, renderings), each address once, several at a time.

    What is no valid address is not asked: ``proof`` tells of it.
    """
    places: dict[str, dict[str, bool]] = {}  # address: the newsletters that have it, and whether as a picture
    for slug, renderings in editions:
        for rendered in renderings:
            for address, is_picture in _addresses(rendered):
                places.setdefault(address, {})[slug] = is_picture
    asked = sorted(places)
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        answers = list(pool.map(look, asked))
    return in_order(
        found
        for address, answer in zip(asked, answers, strict=True)
        for slug, is_picture in places[address].items()
        for found in _judged(slug, address, answer, is_picture=is_picture)
    )


def _addresses(rendered: Rendered) -> Iterator[tuple[str, bool]]:
    page = parsed(rendered.html)
    for element in page.iter("a", "img") if page is not None else ():
        is_picture = element.tag == "img"
        address = (element.get("src" if is_picture else "href") or "").strip()
        is_whole = not {code for code, _ in faults(address)} & _NOT_ASKED
        if is_whole and address.startswith(("http://", "https://")) and address not in PERSONAL_LINKS:
            yield address, is_picture


def _judged(slug: str, address: str, answer: Looked, *, is_picture: bool) -> Iterator[Finding]:
    what = "picture" if is_picture else "page"
    if answer.trouble:
        yield finding("link-dead", slug, where=address, message=answer.trouble)
    elif answer.status in _GONE:
        yield finding(
            "link-dead", slug, where=address, message=f"The {what} answers {answer.status}: it is not there."
        )
    elif not 200 <= answer.status < 300:
        told = f"answers {answer.status}" if answer.status else "did not answer in time"
        yield finding("link-unsure", slug, where=address, message=f"The {what} {told}.")
    elif is_picture and not answer.content_type.startswith("image/"):
        told = answer.content_type or "no type"
        yield finding(
            "link-dead", slug, where=address, message=f"The address of a picture answers with {told}."
        )
    elif is_picture and answer.size_bytes > HEAVY_BYTES:
        message = f"The picture weighs {answer.size_bytes / HEAVY_BYTES:.1f} MB."
        yield finding("image-heavy", slug, where=address, message=message)
