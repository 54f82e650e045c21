"""What an editor writes: read with file and field named, set where its section stands, never invented."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from newsletter.errors import WordingError
from newsletter.makeup import make_snapshot
from newsletter.picking.picks import Order, Picks
from newsletter.rendering.engine import Renderer
from newsletter.wording import LINES, Quote, Wording, read_wording
from tests.builders import ROOT, the_catalogue

DAY = date(2026, 11, 20)
CATALOGUE = the_catalogue()
LINED = {"subject": "A subject", "preheader": "A preheader"}


def written(folder: Path, text: str, slug: str = "weekend") -> Wording:
    """What is read from a words file."""
    (folder / DAY.isoformat()).mkdir(exist_ok=True)
    (folder / DAY.isoformat() / f"{slug}.md").write_text(text, encoding="utf-8")
    return read_wording(folder, DAY, slug)


def test_no_file_is_no_words(tmp_path: Path) -> None:
    """Nothing is invented."""
    assert read_wording(tmp_path, DAY, "today") == Wording()


def test_a_file_holds_fields_and_a_letter(tmp_path: Path) -> None:
    """TOML between two lines of +++, the letter below them; a file without them is a letter."""
    words = written(
        tmp_path,
        '+++\ngreeting = "Hello."\n[quote]\ntext = "Yes."\nwho = "Ann"\n+++\n\nDear *reader*,\n\nbye.\n',
    )

    assert (words.greeting, words.quote) == ("Hello.", Quote(text="Yes.", who="Ann"))
    assert words.letter_html == "<p>Dear <em>reader</em>,</p>\n<p>bye.</p>\n"
    assert written(tmp_path, "Only a letter.").letter == "Only a letter."


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("+++\ngreeting = 1\n+++\n", "weekend.md: greeting: "), ("+++\ngreting = 'x'\n+++\n", "weekend.md: greting: "),
        ("+++\n[quote]\ntext = 'x'\n+++\n", "weekend.md: quote.who: is missing"),
        ("+++\n[[quiz]]\nquestion = 'q'\noptions = ['a', 'b']\nanswer = 3\n+++\n", "weekend.md: quiz.1: answer is 3"),
        ("+++\n[number]\nfigure = '1'\ntext = 'x'\nurl = 'javascript:x'\n+++\n", "weekend.md: number.url: "),
        ("+++\nnot toml\n+++\n", "weekend.md is not readable TOML"), ("+++\na = 1\n", "the +++ of line 1 is never closed"),
        ("+++\nletter = 'a'\n+++\nb", "has a letter twice"),
    ],
)  # fmt: skip
def test_a_fault_names_file_and_field(tmp_path: Path, text: str, told: str) -> None:
    """An editor reads what to mend."""
    with pytest.raises(WordingError) as raised:
        written(tmp_path, text)

    assert told in str(raised.value)


def test_orders_go_before_the_file() -> None:
    """By dotted names; a block whose fields are all emptied is gone; the file's own stays under what is not ordered."""
    words = Wording(greeting="From the file.", quote=Quote(text="Yes.", who="Ann", about="singer"))

    changed = words.with_words(
        {"quote.text": "No.", "quiz.1.question": "Who?", "quiz.1.options": "Ann\nBob", "quiz.1.answer": "2"}
    )

    assert changed.greeting == "From the file." and changed.quote == Quote(
        text="No.", who="Ann", about="singer"
    )
    assert changed.quiz[0].options == ("Ann", "Bob") and changed.quiz[0].answer == 2
    assert changed.with_words({"quote.text": "", "quote.who": "", "quote.about": ""}).quote is None
    for name in ("nonsense", "quiz.x.question", "quiz.99.question", "quote.nobody"):
        with pytest.raises(WordingError, match=name.split(".")[0]):
            words.with_words({name: "x"})


def test_words_stand_in_both_parts_where_their_section_is() -> None:
    """Number, quote, quiz with its answers at the end, and none of it without words."""
    picks = Picks("weekend", (), (), ())
    full = Wording.model_validate(
        {
            **LINED, "this_day": {"year": 1820, "text": "A whale sank the Essex."},
            "quiz": [{"question": "What sank it?", "options": ["A storm", "A whale"], "answer": 2, "note": "Twice."}],
        }
    )  # fmt: skip
    weekend = CATALOGUE["weekend"]

    made = {
        bool(words.quiz): Renderer(CATALOGUE).render(
            make_snapshot(weekend, CATALOGUE.publication, picks, edition_date=DAY, wording=words), "free"
        )
        for words in (full, Wording(**LINED))
    }

    for part in (made[True].html, made[True].text):
        assert part.index("1820") < part.index("What sank it?") < part.index("B: A whale")
    for part in (made[False].html, made[False].text):
        assert "Essex" not in part and "quiz" not in part.casefold() and "answers" not in part.casefold()


def test_a_letter_is_sanitised_and_set_as_paragraphs() -> None:
    """Markdown becomes paragraphs; raw HTML in it is only text; tokens are neutralised."""
    words = Wording(
        **LINED, letter="One *two*.\n\n<script>x()</script>\n\n[[nl:unsubscribe_url]] {{ 7 * 7 }}"
    )

    snapshot = make_snapshot(
        CATALOGUE["magazine"],
        CATALOGUE.publication,
        Picks("magazine", (), (), ()),
        edition_date=DAY,
        wording=words,
    )

    assert snapshot.letter[0] == "One <em>two</em>."
    page = Renderer(CATALOGUE).render(snapshot, "paying").html
    assert "<script" not in page and "{{" not in page and page.count("[[nl:unsubscribe_url]]") >= 1
    assert "[\u2060[nl:unsubscribe_url]]" in page


@given(st.fixed_dictionaries({name: st.text(max_size=60).map("x{}".format) for name in LINES}))
def test_no_line_is_taken_for_a_token(fields: dict[str, str]) -> None:
    """Whatever an editor writes, the rendering holds no tag that is not ours."""
    order = Order(verb="words", fields=fields)

    snapshot = make_snapshot(
        CATALOGUE["today"],
        CATALOGUE.publication,
        Picks("today", (), (), ()),
        edition_date=DAY,
        orders=(order,),
    )

    for name in LINES:
        text = getattr(snapshot, name)
        assert "{{" not in text and "[[" not in text and "%}" not in text


def test_the_shipped_words_are_read() -> None:
    """The samples' words fit the samples' newsletters."""
    folder = ROOT / "samples" / "words"

    found = {
        path.stem: read_wording(folder, DAY, path.stem) for path in (folder / DAY.isoformat()).glob("*.md")
    }

    assert set(found) == {"magazine", "today", "weekend"}
    for slug, words in found.items():
        wanted = {section.words for section in CATALOGUE[slug].sections if section.words}
        assert wanted and all(words.has(block) for block in wanted)
