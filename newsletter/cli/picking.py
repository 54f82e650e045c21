"""What ``picks`` prints: the desk's conversation, one article's whole way, other weights beside the present ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING

from rich.padding import Padding
from rich.text import Text

from newsletter.cli.show import out, print_json
from newsletter.errors import NotFound

if TYPE_CHECKING:
    from newsletter.articles import Article
    from newsletter.catalogue import Newsletter, Section
    from newsletter.picking.picks import Pick, Picks


_NEAREST = 25
"""So many near misses are shown, unless all are asked for."""


def picks(chosen: Picks, newsletter: Newsletter, day: date, *, as_json: bool, every: bool = False) -> None:
    """The choice with its reasons; *every*: each drop, also what the rules turned away at the door."""
    if as_json:
        print_json(_document(chosen, newsletter, day))
        return
    out.print(Text(f"{newsletter.name}, {day:%A %d %B %Y}", style="bold"))
    others = _told_by_others(chosen)
    for section in newsletter.sections:
        mine = chosen.of(section.id)
        if section.words or not (mine or section.min):
            continue
        wanted = f"{section.min}–{section.max}" if section.min < section.max else str(section.max)
        out.print()
        out.print(Text(f"{_name(section)}: {len(mine)} of {wanted}", style="bold"))
        for pick in mine:
            pinned = " [pinned]" if pick.pinned else ""
            out.print(f"  {pick.position}. {pick.article.headline}{pinned}", markup=False)
            _aside(f"{_paper(pick.article)}: {pick.score:.1f} points. {'; '.join(pick.reasons)}.")
            if also := others.get(pick.article.story):
                _aside(f"Also told by {also}.")
    for title, sentences in (("Thin", chosen.shortfalls), ("Filled", chosen.filled)):
        if sentences:
            out.print(f"\n{title}: {'; '.join(sentences)}", markup=False, style="yellow")
    if chosen.waiting:
        out.print(f"\nOrdered, but not there ({len(chosen.waiting)})", markup=False, style="bold yellow")
    for order in chosen.waiting:
        out.print(f"  {order.url}", markup=False)
        _aside(f"{order.told}: no source has brought it.")
    _left(chosen, every=every)


def _left(chosen: Picks, *, every: bool) -> None:
    """What was weighed and not taken, the nearest misses first, and what never came so far."""
    told = {pick.article.story for pick in chosen.picked if pick.article.story}
    weighed = sorted(
        (drop for drop in chosen.dropped if drop.points), key=lambda drop: (-drop.score, drop.article.url)
    )
    near = weighed if every else [drop for drop in weighed if drop.article.story not in told]
    shown = near if every else near[:_NEAREST]
    if shown:
        out.print(f"\nConsidered and left ({len(near)})", markup=False, style="bold")
    for drop in shown:
        out.print(f"  {drop.article.headline or drop.article.url}", markup=False)
        _aside(f"{_paper(drop.article)}: {'; '.join(drop.reasons)}.")
    if len(near) > len(shown):
        _aside(f"{len(near) - len(shown)} more weigh less: --all lists them.")
    rest = [drop for drop in chosen.dropped if not drop.points]
    out.print(f"\nTurned away by the rules ({len(rest)})", markup=False, style="bold")
    if every:
        for drop in rest:
            out.print(f"  {drop.article.headline or drop.article.url}", markup=False)
            _aside(f"{'; '.join(drop.reasons)}.")
        return
    counts = Counter(drop.reasons[0].split(" (")[0] for drop in rest)
    for reason, times in sorted(counts.items(), key=lambda row: (-row[1], row[0])):
        out.print(f"  {times}: {reason}", markup=False, style="dim")


def _told_by_others(chosen: Picks) -> dict[str, str]:
    """The papers whose tellings of a story do not run, by story."""
    papers: dict[str, Counter[str]] = {}
    for drop in chosen.dropped:
        if drop.points and drop.article.story:
            papers.setdefault(drop.article.story, Counter())[_paper(drop.article)] += 1
    return {
        story: ", ".join(
            paper if times == 1 else f"{paper} ({times} times)" for paper, times in sorted(found.items())
        )
        for story, found in papers.items()
    }


def _aside(text: str) -> None:
    """A paragraph that stands under what it is about."""
    out.print(Padding(Text(text, style="dim"), (0, 0, 0, 5)))


def explain(chosen: Picks, newsletter: Newsletter, url: str, *, as_json: bool) -> None:
    """
    One article's whole way.

    Raises:
        NotFound: it is not among what the choice looked at.
    """
    pick = next((one for one in chosen.picked if one.article.url == url), None)
    drop = next((one for one in chosen.dropped if one.article.url == url), None)
    article = pick.article if pick else drop.article if drop else None
    if article is None:
        raise NotFound(
            f"{url} is not among the articles {newsletter.name} looked at; newsletter articles lists what there is."
        )
    tellings = _tellings(chosen, article)
    if pick is not None:
        verdict = (
            f"runs in {_named(newsletter, pick.section)}, place {pick.position}, with {pick.score:.1f} points"
        )
        points: Sequence[str] = pick.reasons
        reasons: Sequence[str] = ()
    else:
        verdict = "does not run"
        points, reasons = (drop.points, drop.reasons) if drop else ((), ())
    if as_json:
        print_json(
            {
                "newsletter": newsletter.slug, "url": url, "headline": article.headline, "verdict": verdict,
                "points": list(points), "reasons": list(reasons), "story": article.story or url,
                "tellings": [{"url": one.url, "headline": one.headline, "became": became} for one, became in tellings],
            }
        )  # fmt: skip
        return
    out.print(Text(article.headline, style="bold"))
    known = f"{article.published_at:%Y-%m-%d %H:%M} UTC; {article.kind}; {', '.join(article.topics) or 'no topic'}"
    out.print(
        f"{_paper(article)}; {known}; {article.country or article.region}; {article.language}", markup=False
    )
    out.print(f"In {newsletter.name} it {verdict}.", markup=False)
    for reason in reasons:
        out.print(f"  because: {reason}", markup=False)
    for point in points:
        out.print(f"  {point}", markup=False, style="dim")
    if tellings:
        out.print("The same story is told by", markup=False)
        for one, became in tellings:
            out.print(f"  {_paper(one)}: {one.headline} ({became})", markup=False, style="dim")


def what_if(present: Picks, other: Picks, newsletter: Newsletter, *, as_json: bool) -> None:
    """Two choices side by side: what would come, go and move with the other weights."""
    now = {pick.article.url: pick for pick in present.picked}
    then = {pick.article.url: pick for pick in other.picked}
    left, would_leave = ({drop.article.url: drop.score for drop in one.dropped} for one in (present, other))
    rows = []
    for url in sorted({*now, *then}, key=lambda one: _place(newsletter, then.get(one) or now[one])):
        before, after = now.get(url), then.get(url)
        was_in = f"{_named(newsletter, before.section)} {before.position}" if before else ""
        will_be_in = f"{_named(newsletter, after.section)} {after.position}" if after else ""
        headline = (after or now[url]).article.headline
        scores = (
            before.score if before else left.get(url, 0.0),
            after.score if after else would_leave.get(url, 0.0),
        )
        rows.append((headline, url, was_in, will_be_in, *scores))
    if as_json:
        names = ("headline", "url", "now", "then", "score", "score_then")
        print_json(
            {"newsletter": newsletter.slug, "stories": [dict(zip(names, row, strict=True)) for row in rows]}
        )
        return
    out.print(Text(f"{newsletter.name}: as it is → with these weights", style="bold"))
    for headline, _, was, will, score, score_then in rows:
        mark = " " if was == will else "+" if not was else "–" if not will else "~"
        out.print(f"{mark} {headline}", markup=False, style="" if mark == " " else "bold")
        move = was if was == will else f"{was or 'not in'} → {will or 'out'}"
        out.print(f"    {move}; {score:.1f} → {score_then:.1f} points", markup=False, style="dim")
    gone = sum(row[2] != "" and row[3] == "" for row in rows)
    new = sum(row[2] == "" for row in rows)
    out.print(
        f"{new} would come, {gone} would go." if new or gone else "The same stories would run.", markup=False
    )


def _tellings(chosen: Picks, article: Article) -> list[tuple[Article, str]]:
    """The other articles of its story, with what became of them."""
    if not article.story:
        return []
    found = [(one.article, f"runs in {one.section}") for one in chosen.picked]
    found += [(one.article, one.reasons[0]) for one in chosen.dropped]
    return sorted(
        ((one, became) for one, became in found if one.story == article.story and one.url != article.url),
        key=lambda row: row[0].url,
    )


def _place(newsletter: Newsletter, pick: Pick) -> tuple[int, int]:
    order = [section.id for section in newsletter.sections]
    return (order.index(pick.section), pick.position)


def _named(newsletter: Newsletter, section: str) -> str:
    return next(_name(one) for one in newsletter.sections if one.id == section)


def _name(section: Section) -> str:
    return section.heading or section.id


def _paper(article: Article) -> str:
    return article.source_name or article.source


def _document(chosen: Picks, newsletter: Newsletter, day: date) -> dict[str, object]:
    return {
        "newsletter": newsletter.slug,
        "date": day.isoformat(),
        "picked": [
            {
                "section": pick.section, "position": pick.position, "url": pick.article.url,
                "headline": pick.article.headline, "score": pick.score, "reasons": list(pick.reasons),
                "story": pick.article.story or pick.article.url, "pinned": pick.pinned, "pool": pick.pool,
            }
            for pick in chosen.picked
        ],
        "dropped": [
            {
                "url": drop.article.url, "headline": drop.article.headline, "reasons": list(drop.reasons),
                "points": list(drop.points), "story": drop.article.story or drop.article.url,
            }
            for drop in chosen.dropped
        ],
        "shortfalls": list(chosen.shortfalls),
        "filled": list(chosen.filled),
        "waiting": [{"url": order.url, "verb": order.verb, "reasons": [order.told]} for order in chosen.waiting],
    }  # fmt: skip
