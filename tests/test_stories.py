"""Stories: the same in any order, the next fetch by itself, an editor's word binding, ids that stay."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from random import Random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from newsletter.articles import Article, Image
from newsletter.stories import Link
from newsletter.stories.finding import candidates
from newsletter.stories.grouping import Grouping, group
from newsletter.stories.likeness import OTHER, SAME, Likeness
from newsletter.stories.meaning import Meaning, Vectors
from newsletter.stories.traits import Tellings

NOW = datetime(2026, 11, 20, 4, 0, tzinfo=UTC)


def told(number: int, headline: str, standfirst: str = "", **fields: object) -> Article:
    """One telling; each of a paper of its own unless *fields* say otherwise."""
    values: dict[str, object] = {
        "url": f"https://paper-{number}.example/{number}", "source": f"paper-{number}", "headline": headline,
        "standfirst": standfirst, "published_at": NOW - timedelta(hours=number), "first_seen_at": NOW,
        "language": "en", **fields,
    }  # fmt: skip
    return Article(**values)  # type: ignore[arg-type]  # a builder takes what the dataclass takes


DAY = [
    told(0, "Ferry sinks off Zanzibar, dozens missing", "A ferry sank off Zanzibar on Monday.", countries=("TZ",)),
    told(1, "Dozens missing as ferry sinks off Zanzibar", "Rescuers search off Zanzibar for ferry passengers.", countries=("TZ",)),
    told(2, "Naufrage d’un ferry au large de Zanzibar", "Des dizaines de disparus.", countries=("TZ",), language="fr"),
    told(3, "Ferry sinks on Lake Victoria, three dead", "A ferry sank on Lake Victoria in Uganda.", countries=("UG",)),
    told(4, "Parliament in Oslo passes the budget", "A narrow vote in Norway.", countries=("NO",)),
    told(5, "Norway passes its budget by one vote", "Parliament in Oslo voted at night.", countries=("NO",)),
    told(6, "Parliament in Lima passes the budget", "A narrow vote in Peru.", countries=("PE",)),
    told(7, "A violin found in an attic", "It is older than the house."),
    *[told(n, f"The {word} of the week", f"All about the {word}.") for n, word in enumerate(
        ["orchard", "saffron", "granite", "lantern", "comet", "thistle", "pelican", "glacier", "harbour", "cello"], start=8)],
]  # fmt: skip


def grouped(stories: dict[str, str]) -> set[frozenset[str]]:
    """Stories as sets of URLs."""
    by_id: dict[str, set[str]] = {}
    for url, story in stories.items():
        by_id.setdefault(story, set()).add(url)
    return {frozenset(urls) for urls in by_id.values()}


def test_one_event_is_one_story_and_its_look_alike_another() -> None:
    """Tellings are found across papers and languages; a like event elsewhere stays apart."""
    stories = group(DAY)

    ferry, norway = {DAY[0].url, DAY[1].url, DAY[2].url}, {DAY[4].url, DAY[5].url}
    assert frozenset(ferry) in grouped(stories)
    assert frozenset(norway) in grouped(stories)
    assert frozenset({DAY[3].url}) in grouped(stories)
    assert frozenset({DAY[6].url}) in grouped(stories)


@given(seed=st.integers(0, 1000))
@settings(max_examples=25)
def test_the_order_of_input_changes_nothing(seed: int) -> None:
    """A permutation gives the same stories under the same ids."""
    shuffled = list(DAY)
    Random(seed).shuffle(shuffled)

    assert group(shuffled) == group(DAY)


def test_the_next_fetch_joins_what_is_there() -> None:
    """A later telling finds its story, which keeps its id; a known article is left as it is."""
    grouping = Grouping()
    grouping.add([one for one in DAY if one is not DAY[1]])
    before = grouping.stories

    grouping.add([DAY[1], DAY[0]])

    assert grouping.stories == before | {DAY[1].url: before[DAY[0].url]}


def test_a_story_keeps_its_id_when_an_older_telling_comes() -> None:
    """Known ids go on; where two stories claim one id, the one with more of it has it."""
    before = group(DAY[:2])
    older = told(
        40, "Ferry sinks off Zanzibar with dozens aboard", "A ferry sank off Zanzibar.", countries=("TZ",)
    )

    after = group([*DAY, older], known=before)

    assert after[older.url] == after[DAY[0].url] == before[DAY[0].url]


def test_an_editors_word_binds() -> None:
    """What was brought together is one story, what was held apart never is."""
    together = Link(DAY[7].url, DAY[8].url, together=True)
    apart = Link(DAY[0].url, DAY[1].url, together=False)

    stories = group(DAY, links=[together, apart])

    assert stories[DAY[7].url] == stories[DAY[8].url]
    assert stories[DAY[0].url] != stories[DAY[1].url]


def test_what_lies_days_apart_is_not_one_story() -> None:
    """The same words a week later are another story."""
    later = told(
        50, DAY[0].headline, DAY[0].standfirst, countries=("TZ",), published_at=NOW + timedelta(days=7)
    )

    stories = group([*DAY, later])

    assert stories[later.url] != stories[DAY[0].url]


TALKS = [
    *[told(n, f"Iran and US envoys open nuclear talks in Geneva, {word}", f"Araghchi and Witkoff met over uranium enrichment and sanctions in Geneva. {word}.", countries=("IR", "US"))
      for n, word in enumerate(["cautiously", "quietly", "at last", "again"])],
    *[told(n, f"Ukraine and Russia negotiators in Geneva for peace talks, {word}", f"Umerov and Medinsky met over Donbas and a ceasefire in Geneva. {word}.", countries=("UA", "RU"))
      for n, word in enumerate(["warily", "in silence", "once more", "by night"], start=4)],
]  # fmt: skip
BOTH = told(
    8, "Iran and Ukraine negotiators in Geneva for talks with US envoys",
    "Witkoff met Araghchi over uranium sanctions, then Umerov over a Donbas ceasefire.", countries=("IR", "UA"),
)  # fmt: skip


def test_two_affairs_of_one_city_are_two_stories_and_a_piece_about_both_is_of_neither() -> None:
    """Talks and talks in one city on one day stay apart, with or without what speaks of both."""
    iran, ukraine = frozenset(one.url for one in TALKS[:4]), frozenset(one.url for one in TALKS[4:])

    assert grouped(group([*DAY, *TALKS])) >= {iran, ukraine}
    assert grouped(group([*DAY, *TALKS, BOTH])) >= {iran, ukraine, frozenset({BOTH.url})}


def test_one_picture_does_not_make_one_story() -> None:
    """Two unlike stories may show the same picture of a library; two like ones are surer for it."""
    picture = Image(url="https://pictures.example/library.jpg")
    parrot = told(60, "Lost parrot recites its owner’s address, and two of his secrets", image=picture)
    bread = told(
        61, "The price of bread is fixed again, and the bakers have changed its shape", image=picture
    )

    stories = group([*DAY, parrot, bread])

    assert stories[parrot.url] != stories[bread.url]


def test_a_column_of_another_day_is_another_story() -> None:
    """One headline of one source with two dates says nothing of what stands below it."""
    days = [
        told(n, f"Best of cartoons, {date}", "The news as our artists see it.", source="paper")
        for n, date in ((70, "November 19, 2026"), (90, "November 18, 2026"))
    ]

    stories = group([*DAY, *days])

    assert stories[days[0].url] != stories[days[1].url]


def test_points_are_the_same_from_either_side_and_within_bounds() -> None:
    """Comparing is symmetric, and no single comparison says more than it may."""
    tellings = Tellings()
    tellings.add(DAY)
    one, other = np.triu_indices(len(DAY), k=1)
    likeness = Likeness(tellings)

    points = likeness.points(one, other)

    assert np.array_equal(points, likeness.points(other, one))
    assert points.min() >= OTHER
    assert points.max() <= SAME


def test_candidates_are_pairs_that_share_what_few_have() -> None:
    """The tellings of the ferry find each other, in another language too; the violin finds nobody."""
    tellings = Tellings()
    tellings.add(DAY)

    pairs = set(zip(*(rows.tolist() for rows in candidates(tellings, 0)), strict=True))

    assert {(0, 1), (0, 2), (1, 2)} <= pairs
    assert all(one < other for one, other in pairs)
    assert not any(7 in pair for pair in pairs)
    assert all(17 in pair for pair in zip(*(rows.tolist() for rows in candidates(tellings, 17)), strict=True))


OTHER_WORDS = [
    told(
        70, "Court frees the poet Ilse Marten after nine years", "Judges in Riga said her trial was unfair."
    ),
    told(71, "Writer walks out of a Latvian prison", "Ilse Marten had served most of her sentence."),
    told(72, "Wet summer ruins the cherries", "Growers near Riga lost half of them."),
]


def near_if_about_one(texts: Sequence[str]) -> Vectors:
    """A model that knows what the poet's story is, and nothing else."""
    return np.array([[1.0, 0.0] if "Ilse" in text else [0.0, 1.0] for text in texts], np.float32)


def test_the_extra_finds_one_story_told_in_other_words() -> None:
    """With vectors two tellings join that their words leave apart, and an unlike third does not."""
    assert len(set(group([*DAY, *OTHER_WORDS]).values())) == len(set(group(DAY).values())) + 3

    stories = group([*DAY, *OTHER_WORDS], meaning=Meaning(near_if_about_one))

    assert stories[OTHER_WORDS[0].url] == stories[OTHER_WORDS[1].url] != stories[OTHER_WORDS[2].url]


def test_the_extra_reads_each_text_once_and_leaves_other_languages_alone() -> None:
    """The next fetch costs only what is new."""
    read: list[str] = []

    def model(texts: Sequence[str]) -> Vectors:
        read.extend(texts)
        return near_if_about_one(texts)

    meaning = Meaning(model)
    group(DAY, meaning=meaning)
    group([*DAY, *OTHER_WORDS], meaning=meaning)

    assert len(read) == len(set(read)) == len(DAY) - 1 + len(OTHER_WORDS)
    assert not any("Naufrage" in text for text in read)
