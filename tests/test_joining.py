"""Joining: the journey, what is kept of it, and that nobody learns or does anything for another."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, event
from sqlmodel import select

from newsletter.audience.addresses import address_hash
from newsletter.audience.joining import Told, Wish, ask_to_join, confirm, expire
from newsletter.audience.leaving import leave
from newsletter.audience.limits import prune
from newsletter.audience.subscribers import add, forget
from newsletter.desk import Desk
from newsletter.settings import Keys, Settings
from newsletter.store.session import open_store, reading, writing
from newsletter.store.tables import Attempts, OneTimeLink, Pace, Subscriber, Subscription, Suppression
from tests.builders import the_catalogue
from tests.visiting import House, Moment, Visitor

NOW = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)
ANN = "ann@mail.example"


@pytest.fixture
def house(engine: Engine, keys: Keys, tmp_path: Path) -> House:
    """The pages over an empty database."""
    return House(engine, keys, tmp_path / "mails", Moment(NOW))


def join(house: House, *slugs: str, email: str = ANN, **fields: Any) -> Visitor:
    """Somebody new asks for *slugs*."""
    visitor = house.visitor()
    answer = visitor.fill("/subscribe", email=email, newsletters=list(slugs or ("today",)), **fields)
    assert answer.status_code == 200, answer.text
    return visitor


def states(engine: Engine) -> dict[str, str]:
    """Every subscription."""
    with reading(engine) as session:
        return {row.newsletter: row.state for row in session.exec(select(Subscription)).all()}


def scopes(engine: Engine) -> set[tuple[str, str]]:
    """What must not be mailed, and why."""
    with reading(engine) as session:
        return {(row.scope, row.reason) for row in session.exec(select(Suppression)).all()}


def test_the_journey(house: House) -> None:
    """Ask, get a mail, look without effect, press once, be welcomed; the consent record says all of it."""
    visitor = join(house, "today", "weekend", name="Ann", zone="Europe/Vienna", language="fr")
    asked = house.mails()
    path = asked[0].link("confirm")
    before = states(house.engine)
    looked = [visitor.ask(method, path).status_code for method in ("GET", "HEAD", "GET")]
    still = states(house.engine)

    answer = visitor.fill(path)

    assert [mail.to for mail in asked] == [ANN] and "Parallel Today" in asked[0].subject
    assert before == still == {"today": "pending", "weekend": "pending"} and looked == [200, 200, 200]
    assert answer.status_code == 200 and states(house.engine) == {"today": "active", "weekend": "active"}
    with reading(house.engine) as session:
        row = session.exec(select(Subscriber)).one()
        consent = session.exec(select(Subscription).where(Subscription.newsletter == "today")).one()
    assert (row.email, row.status, row.name, row.timezone, row.language) == (
        ANN,
        "active",
        "Ann",
        "Europe/Vienna",
        "fr",
    )
    assert consent.consent_source == "/subscribe, confirmed by the link in the mail"
    assert consent.consent_words.startswith("By pressing the button you ask The Parallel to send you")
    assert consent.consented_at == NOW + timedelta(seconds=5)
    assert consent.confirmed_at == NOW + timedelta(seconds=10)
    welcome = house.mails()[-1]
    assert len(house.mails()) == 2 and welcome.to == f"Ann <{ANN}>"
    assert "Parallel Today" in welcome.text and "The Weekend" in welcome.text
    assert welcome.headers["list-unsubscribe-post"] == "List-Unsubscribe=One-Click"


def test_the_words_are_kept_in_the_language_they_were_shown_in(house: House) -> None:
    """A French page: French words in the record, a French mail, and French pages behind its link."""
    visitor = house.visitor()

    visitor.fill("/subscribe?lang=fr", email=ANN, newsletters=["today"])

    with reading(house.engine) as session:
        assert session.exec(select(Subscription.consent_words)).one().startswith("En appuyant sur le bouton")
    mail = house.mails()[0]
    assert mail.subject == "Veuillez confirmer : Parallel Today" and mail.headers["content-language"] == "fr"
    assert (
        'lang="fr"'
        in house.visitor().ask("GET", mail.link("confirm"), headers={"Accept-Language": "de"}).text
    )


def test_a_link_works_once(house: House) -> None:
    """The second press finds a kind page, changes nothing and sends nothing."""
    visitor = join(house)
    path = house.mails()[0].link("confirm")
    visitor.fill(path)
    mails = len(house.mails())

    again = visitor.ask("POST", path)

    assert again.status_code == 200 and "done its work" in again.text and len(house.mails()) == mails
    assert "done its work" in visitor.ask("GET", path).text


@pytest.mark.parametrize("how", ["no page", "in haste", "after the trap"])
def test_a_scanner_that_presses_confirms_nothing(house: House, how: str) -> None:
    """Minutes after the mail a press in haste, or after the link nobody sees, takes one more."""
    join(house)
    path, scanner = house.mails()[0].link("confirm"), house.visitor()
    if how == "after the trap":
        scanner.ask("GET", f"{path}/t")

    if how == "no page":
        asked = scanner.ask("POST", path)
    else:
        asked = scanner.fill(path, wait=0.5 if how == "in haste" else 5)
    still = states(house.engine)
    house.clock.go_on(minutes=11)
    house.visitor().ask("POST", path)

    assert "Was it you?" in asked.text and still == {"today": "pending"}
    assert states(house.engine) == {"today": "active"}


def test_a_link_expires_and_the_wish_with_it(house: House) -> None:
    """After seven days nothing is confirmed, and nothing is left of an address nobody confirmed; twice is once."""
    visitor = join(house)
    path = house.mails()[0].link("confirm")
    house.clock.go_on(days=7, seconds=1)

    late = visitor.ask("POST", path)
    first, second = expire(house.engine, now=house.clock()), expire(house.engine, now=house.clock())

    assert "done its work" in late.text and states(house.engine) == {}
    assert (first, second) == (1, 0)
    with reading(house.engine) as session:
        assert session.exec(select(Subscriber)).all() == [] == session.exec(select(OneTimeLink)).all()


def test_expiry_takes_only_wishes(engine: Engine, keys: Keys) -> None:
    """What is confirmed, what an operator left pending and what a known reader has stay."""
    catalogue = the_catalogue()
    add(engine, "pending@mail.example", catalogue=catalogue, keys=keys, now=NOW, newsletters=("today",))
    add(
        engine,
        "reader@mail.example",
        catalogue=catalogue,
        keys=keys,
        now=NOW,
        newsletters=("today",),
        consent="yes",
    )
    wish = Wish(("planet",), source="/subscribe", words="words")
    ask_to_join(engine, "reader@mail.example", wish, keys=keys, now=NOW)

    gone = expire(engine, now=NOW + timedelta(days=8), at_once=1)

    assert gone == 1
    with reading(engine) as session:
        rows = session.exec(select(Subscription.newsletter, Subscription.state)).all()
        assert sorted(rows) == [("today", "active"), ("today", "pending")]
        assert len(session.exec(select(Subscriber)).all()) == 2


def test_the_day_forgets_what_ran_out(engine: Engine, keys: Keys) -> None:
    """``desk.tidy`` expires wishes, links and counted knocks, at most once an hour."""
    clock = Moment(NOW)
    desk = Desk(engine=engine, catalogue=the_catalogue(), settings=Settings(), keys=keys, clock=clock)
    wish = Wish(("planet",), source="/subscribe", words="words")
    ask_to_join(engine, ANN, wish, keys=keys, now=NOW - timedelta(days=8))
    with writing(engine) as session:
        session.add(Attempts(key="k", window=int(NOW.timestamp()) - 1, n=3))
        minutes = [int((NOW - timedelta(days=days)).timestamp() // 60) for days in (1, 3)]
        session.add_all(Pace(key="sender news@example.org", minute=minute, n=3) for minute in minutes)

    desk.tidy()
    with reading(engine) as session:
        assert session.exec(select(Pace.minute)).all() == minutes[:1]
    ask_to_join(engine, ANN, wish, keys=keys, now=NOW - timedelta(days=8))
    desk.tidy()
    within_the_hour = states(engine)
    clock.go_on(hours=1)
    desk.tidy()

    assert within_the_hour == {"planet": "pending"} and states(engine) == {}
    assert prune(engine, now=clock()) == 0


def test_who_gets_it_already_is_told_by_mail_only(house: House) -> None:
    """The same page as for a stranger; the mail has a link to log in, and nothing was changed."""
    house.visitor().fill(_confirmed(house, "today"))
    before = house.mails()

    join(house, "today", name="Somebody Else")

    mail = house.mails()[len(before)]
    assert mail.subject == "You are one of us already" and mail.link("login")
    with reading(house.engine) as session:
        assert session.exec(select(Subscriber.name)).one() == ""


def _confirmed(house: House, *slugs: str) -> str:
    join(house, *slugs)
    return house.mails()[-1].link("confirm")


def test_a_known_reader_confirms_only_what_is_new(house: House) -> None:
    """Asked for one they have and one they have not: the mail and its link are about the new one."""
    house.visitor().fill(_confirmed(house, "today"))

    join(house, "today", "planet")

    mail = house.mails()[-1]
    assert "Living Planet" in mail.subject and "Parallel Today" not in mail.subject
    assert states(house.engine) == {"today": "active", "planet": "pending"}


def test_the_answer_is_the_same_for_everybody(house: House) -> None:
    """Known, unknown, complained, erased: status, headers, words and the queries before the answer are the same."""
    house.visitor().fill(_confirmed(house, "today"))
    with writing(house.engine) as session:
        hashed = address_hash(house.keys.suppression, "complained@mail.example")
        session.add(Suppression(address_hash=hashed, scope="all", reason="complained", suppressed_at=NOW))
    seen = []
    for email in (ANN, "stranger@mail.example", "complained@mail.example"):
        house.clock.go_on(hours=2)
        visitor, queries = house.visitor(), []

        def count(_conn: Any, _cursor: Any, statement: str, *_rest: Any, log: list[str] = queries) -> None:
            if not statement.startswith("BEGIN"):
                log.append(statement)

        page = visitor.ask("GET", "/subscribe")
        form = re.search(r'name="form" value="([^"]+)"', page.text)
        house.clock.go_on(seconds=5)
        data = {"form": form[1] if form else "", "email": email, "newsletters": "today", "shown": "en"}
        sent_at: list[int] = []

        async def app(
            scope: Any, receive: Any, send: Any, log: list[str] = queries, at: list[int] = sent_at
        ) -> None:
            async def sending(message: Any) -> None:
                if message["type"] == "http.response.body" and not message.get("more_body"):
                    at.append(len(log))
                await send(message)

            await house.app(scope, receive, sending)

        event.listen(house.engine, "before_cursor_execute", count)
        watched = Visitor(app, house.clock, visitor.cookies)  # type: ignore[arg-type]
        answer = watched.ask("POST", "/subscribe", data=data)
        event.remove(house.engine, "before_cursor_execute", count)
        headers = {name: value for name, value in answer.headers.items() if name != "content-length"}
        seen.append((answer.status_code, answer.text.replace(email, "…"), headers, queries[: sent_at[0]]))

    assert seen[0] == seen[1] == seen[2]
    assert len(seen[0][3]) == 4  # the four counted knocks, and nobody is looked up
    assert [mail.to for mail in house.mails()].count("complained@mail.example") == 0


def test_who_left_comes_back_by_confirming(house: House) -> None:
    """Asking changes nothing of what was left; confirming brings back what was asked for, and only that."""
    house.visitor().fill(_confirmed(house, "today", "planet"))
    with reading(house.engine) as session:
        reader = session.exec(select(Subscriber.reader)).one()
    leave(house.engine, reader, None, now=NOW, how="a test")
    path = _confirmed(house, "planet")
    asked = states(house.engine)

    house.visitor().fill(path)

    assert asked == {"today": "left", "planet": "left"}
    assert states(house.engine) == {"today": "left", "planet": "active"}
    assert scopes(house.engine) == {("today", "unsubscribed")}


def test_who_was_erased_may_come_back_themselves(house: House) -> None:
    """No import revives an erased address; its owner's own confirmed wish does."""
    house.visitor().fill(_confirmed(house, "today"))
    forget(house.engine, ANN, keys=house.keys, now=NOW)
    path = _confirmed(house, "today")
    asked = scopes(house.engine)

    house.visitor().fill(path)

    assert asked == {("all", "erased")} and scopes(house.engine) == set()
    assert states(house.engine) == {"today": "active"}


@pytest.mark.parametrize("reason", ["bounced", "complained", "manual"])
def test_who_must_not_be_mailed_is_not(house: House, reason: str) -> None:
    """The same page, no mail; also when the reason comes between the mail and the press."""
    path = _confirmed(house, "today")
    with writing(house.engine) as session:
        hashed = address_hash(house.keys.suppression, ANN)
        session.add(Suppression(address_hash=hashed, scope="all", reason=reason, suppressed_at=NOW))
    mails = len(house.mails())

    house.visitor().fill(path)
    join(house, "planet")

    assert states(house.engine) == {"today": "pending"} and len(house.mails()) == mails


def test_two_who_ask_at_once_are_one_reader(engine: Engine, keys: Keys) -> None:
    """A double press or two processes: one subscriber, two links, either of which confirms."""
    from concurrent.futures import ThreadPoolExecutor

    wish = Wish(("today",), source="/subscribe", words="words")
    with ThreadPoolExecutor(4) as pool:
        asked = list(pool.map(lambda _: ask_to_join(engine, ANN, wish, keys=keys, now=NOW), range(4)))

    assert {one.told for one in asked} == {Told.CONFIRM} and len({one.subscriber_id for one in asked}) == 1
    with ThreadPoolExecutor(4) as pool:
        joined = list(pool.map(lambda _: confirm(engine, asked[0].secret, now=NOW), range(4)))
    assert sum(one is not None for one in joined) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"website": "https://spam.example"},
        {"wait": 1.0},
    ],
)
def test_a_program_gets_the_same_answer_and_nothing_happens(house: House, options: dict[str, Any]) -> None:
    """Who fills the trap, or is faster than a person, sees the friendly page; no row, no mail."""
    person = join(house, email="person@mail.example")
    mails = len(house.mails())

    answer = house.visitor().fill("/subscribe", email=ANN, newsletters=["today"], **options)
    friendly = house.visitor().fill("/subscribe", email="other@mail.example", newsletters=["today"])

    assert person is not None and len(house.mails()) == mails + 1
    assert answer.text.replace(ANN, "…") == friendly.text.replace("other@mail.example", "…")
    with reading(house.engine) as session:
        assert session.exec(select(Subscriber).where(Subscriber.email_key == ANN)).first() is None


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:8000"},
    ],
)
def test_no_other_site_posts_for_a_visitor(house: House, headers: dict[str, str]) -> None:
    """With everything right but where it comes from: refused, with the form filled in to press again."""
    visitor = house.visitor()
    page = visitor.ask("GET", "/subscribe")
    form = re.search(r'name="form" value="([^"]+)"', page.text)
    house.clock.go_on(seconds=5)
    data = {"form": form[1] if form else "", "email": ANN, "newsletters": "today"}

    refused = visitor.ask("POST", "/subscribe", data=data, headers=headers)
    good = visitor.ask(
        "POST",
        "/subscribe",
        data=data,
        headers={"Origin": "http://127.0.0.1:8000", "Sec-Fetch-Site": "same-origin"},
    )

    assert refused.status_code == 403 and f'value="{ANN}"' in refused.text
    assert good.status_code == 200 and len(house.mails()) == 1


@pytest.mark.parametrize(
    "change", ["no cookie", "another cookie", "no field", "cut", "another form's", "too old", "of tomorrow"]
)
def test_a_form_that_is_not_this_visitors_is_refused(house: House, change: str) -> None:
    """Double submit: the field must fit the cookie, the form and the time."""
    visitor = house.visitor()
    page = visitor.ask("GET", "/login" if change == "another form's" else "/subscribe")
    form = re.search(r'name="form" value="([^"]+)"', page.text)
    value = form[1] if form else ""
    house.clock.go_on(seconds=5)
    if change == "no cookie":
        visitor.cookies.clear()
    elif change == "another cookie":
        visitor.cookies["nl_visit"] = "A" * 22
    elif change == "no field":
        value = ""
    elif change == "cut":
        value = value[:-1]
    elif change == "too old":
        house.clock.go_on(days=1)
    elif change == "of tomorrow":
        house.clock.go_on(days=-1)

    answer = visitor.ask("POST", "/subscribe", data={"form": value, "email": ANN, "newsletters": "today"})

    assert answer.status_code == 403 and house.mails() == []


def test_old_keys_still_sign_forms(house: House) -> None:
    """A page that was open while the keys were rotated can be sent."""
    visitor = house.visitor()
    page = visitor.ask("GET", "/subscribe")
    form = re.search(r'name="form" value="([^"]+)"', page.text)
    keys = Keys(
        signing=(b"a newer signing key of this test", *house.keys.signing), suppression=house.keys.suppression
    )
    house.clock.go_on(seconds=5)
    rotated = Visitor(House(house.engine, keys, house.outbox, house.clock).app, house.clock, visitor.cookies)

    data = {"form": form[1] if form else "", "email": ANN, "newsletters": "today"}

    assert rotated.ask("POST", "/subscribe", data=data).status_code == 200


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"email": "", "newsletters": ["today"]}, "Please write your e-mail address."),
        ({"email": "ann@", "newsletters": ["today"]}, "Is a letter missing?"),
        ({"email": ANN, "newsletters": []}, "Please tick at least one."),
        ({"email": ANN, "newsletters": ["no-such"]}, "Please tick at least one."),
        ({"email": "ann@mail..example", "newsletters": ["today"]}, "Is a letter missing?"),
    ],
)
def test_what_is_missing_is_said(house: House, fields: dict[str, Any], sentence: str) -> None:
    """The form comes back with what was typed, and a sentence beside what is wrong."""
    answer = house.visitor().fill("/subscribe", name="Ann", **fields)

    assert answer.status_code == 422 and sentence in answer.text and 'value="Ann"' in answer.text
    assert house.mails() == []


def test_an_address_is_mailed_only_so_often(house: House) -> None:
    """Three mails an hour, and six knocks a day count, whatever network asks; the page stays the same."""
    for _ in range(5):
        join(house)
    within_the_hour = len(house.mails())
    for _ in range(4):
        house.clock.go_on(hours=1)
        for _ in range(3):
            join(house)

    assert (within_the_hour, len(house.mails())) == (3, 4)  # five knocks, then the day's sixth


def test_a_network_may_ask_only_so_often(house: House) -> None:
    """After twenty wishes in an hour a visitor is asked to wait, whoever they ask for."""
    answers = [
        house.visitor()
        .fill("/subscribe", email=f"reader{n}@mail.example", newsletters=["today"], wait=3)
        .status_code
        for n in range(22)
    ]

    assert answers == [200] * 20 + [429] * 2 and len(house.mails()) == 20


BAD_NAMES = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "Ann\r\nBcc: everybody@mail.example",
    "Ann\nSubject: hello",
    "{{ 7*7 }}{% raw %}",
    "\u202eneb",
    "x" * 5000,
    "%(name)s %s %d",
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_no_name_gets_out(house: House, name: str) -> None:
    """Scripts, header lines, templates: on the page as plain text, in no header, and in no mail before consent."""
    refused = house.visitor().fill("/subscribe", email="", newsletters=["today"], name=name)
    join(house, name=name)
    mail = house.mails()[0]
    house.visitor().fill(mail.link("confirm"))
    welcome = house.mails()[1]

    assert (
        "<script" not in refused.text
        and "<img" not in refused.text
        and ">49" not in refused.text
        and '"49' not in refused.text
    )
    assert mail.to == ANN and not any(word in mail.text + mail.html for word in ("alert", "7*7", "everybody"))
    assert "bcc" not in welcome.headers and "Welcome" in welcome.subject
    with reading(house.engine) as session:
        kept = session.exec(select(Subscriber.name)).one()
    assert len(kept) <= 100 and "\n" not in kept and "\r" not in kept and "\u202e" not in kept


@pytest.mark.parametrize(
    "email", ["ann@mail.example\r\nBcc: x@y.example", "ann@mail.example\nX: y", "<ann@mail.example>", "ann@mail.example,x@y.example", "a b@mail.example"]
)  # fmt: skip
def test_no_second_address_gets_in(house: House, email: str) -> None:
    """An address with a line end, a comma or brackets is one that is wrong."""
    answer = house.visitor().fill("/subscribe", email=email, newsletters=["today"])

    assert answer.status_code == 422 and house.mails() == []


def test_the_form_for_other_sites(house: House) -> None:
    """Framable by the sites that were named and no other; works without a cookie; its answer is framable, too."""
    visitor = house.visitor()
    page = visitor.ask("GET", "/subscribe/form?newsletter=today")

    answer = visitor.fill("/subscribe/form?newsletter=today", email=ANN)

    for one in (page, answer):
        assert one.headers["content-security-policy"].endswith(
            "frame-ancestors https://www.theparallel.example"
        )
        assert "x-frame-options" not in one.headers and "set-cookie" not in one.headers
    assert "DENY" in visitor.ask("GET", "/subscribe").headers["x-frame-options"]
    house.visitor().fill(house.mails()[0].link("confirm"))
    with reading(house.engine) as session:
        assert (
            session.exec(select(Subscription.consent_source)).one().startswith("/subscribe/form, confirmed")
        )


def test_too_often_is_said_within_the_frame_too(house: House) -> None:
    """A 429 that browsers would not show in the frame would look like a broken site."""
    visitor = house.visitor()
    answers = [
        visitor.fill("/subscribe/form?newsletter=today", email=f"reader{number}@mail.example")
        for number in range(21)
    ]

    last = answers[-1]
    assert [one.status_code for one in answers] == [200] * 20 + [429]
    assert last.headers["content-security-policy"].endswith("frame-ancestors https://www.theparallel.example")
    assert "x-frame-options" not in last.headers and last.headers["retry-after"] == "3600"
    assert "too often" in last.text and "<header" not in last.text


@pytest.mark.parametrize("lang", ["en", "fr", "es", "de", "ar"])
def test_pages_are_light_and_whole(house: House, lang: str) -> None:
    """At most 50 KB, no script, nothing of others, one h1, landmarks, the language and its direction."""
    for path in ("/subscribe", "/subscribe/form", "/login", "/logout", "/nothing"):
        page = house.visitor().ask("GET", f"{path}?lang={lang}")
        text = page.text

        assert len(page.content) <= 50_000 and "<script" not in text and " style=" not in text
        assert f'<html lang="{lang}" dir="{"rtl" if lang == "ar" else "ltr"}">' in text
        assert text.count("<h1") == 1 and "<main" in text and 'class="skip"' in text
        assert not re.search(r'(src|href)="(https?:)?//(?!www\.theparallel\.example/privacy)', text)


def test_a_link_can_choose_beforehand(house: House) -> None:
    """From a sample's page: its newsletter is ticked, and nothing else; unasked nothing is ticked."""
    page = house.visitor().ask("GET", "/subscribe?newsletter=planet&newsletter=nonsense").text

    assert re.findall(r'value="([\w-]+)" checked', page) == ["planet"]
    assert " checked" not in house.visitor().ask("GET", "/subscribe").text


@pytest.mark.parametrize("token", ["x", "A" * 43, "A" * 42 + "=", "é" * 43, "A" * 5000, "..%2f..%2fetc"])
def test_forged_links_are_one_page(house: House, token: str) -> None:
    """Short, long, strange: 404, for looking and for pressing."""
    for method in ("GET", "POST", "HEAD"):
        assert house.visitor().ask(method, f"/confirm/{token}").status_code == 404


ANY_TEXT = st.text(max_size=60)
FIELDS = st.dictionaries(
    st.sampled_from(
        ["email", "name", "zone", "language", "shown", "framed", "newsletters", "form", "website", "then"]
    ),
    st.one_of(
        ANY_TEXT, st.lists(ANY_TEXT, max_size=3), st.sampled_from([ANN, "today", "1", "en", "Europe/Paris"])
    ),
)


@pytest.fixture(scope="module")
def any_house(tmp_path_factory: pytest.TempPathFactory) -> House:
    """One house for many examples."""
    folder = tmp_path_factory.mktemp("any")
    keys = Keys(signing=(b"a signing key of this test alone",), suppression=b"a suppression key of this test")
    return House(open_store(f"sqlite:///{folder}/subscribers.db"), keys, folder / "mails", Moment(NOW))


@given(
    path=st.sampled_from(["/subscribe", "/login", "/logout", "/confirm/x", "/login/x"]),
    fields=FIELDS,
    signed=st.booleans(),
    query=ANY_TEXT,
)
@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_form_breaks_a_page(
    any_house: House, path: str, fields: dict[str, Any], signed: bool, query: str
) -> None:
    """Whatever is posted, with or without a valid signature, the answer is no 5xx and says what it is."""
    visitor = any_house.visitor()
    if signed and path in ("/subscribe", "/login", "/logout"):
        found = re.search(r'name="form" value="([^"]+)"', visitor.ask("GET", path).text)
        any_house.clock.go_on(seconds=4)
        fields = {**fields, "form": found[1] if found else ""}

    answer = visitor.ask("POST", path, data=fields, params={"lang": query, "newsletter": query})

    assert answer.status_code in (200, 403, 404, 410, 422, 429)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "frame-ancestors" in answer.headers["content-security-policy"]
