"""The preference centre and a reader's rights: everything for who proved their address, the rest for the mail."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import html
from sqlalchemy import Engine
from sqlmodel import select

from newsletter.audience.addresses import address_hash, normalise
from newsletter.audience.leaving import leave
from newsletter.audience.subscribers import add, forget
from newsletter.audience.tokens import Signer
from newsletter.settings import Keys
from newsletter.store.session import reading, writing
from newsletter.store.tables import (
    Event,
    FormerAddress,
    OneTimeLink,
    ReaderSession,
    Subscriber,
    Subscription,
    Suppression,
)
from tests.builders import the_catalogue
from tests.visiting import House, Moment, Visitor, values_of

NOW = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)
ANN = "ann@mail.example"
NEW = "ann@new.example"


@pytest.fixture
def house(engine: Engine, keys: Keys, tmp_path: Path) -> House:
    """The pages, with one reader of two newsletters."""
    add(
        engine, ANN, catalogue=the_catalogue(), keys=keys, now=NOW, newsletters=("planet", "today"), consent="yes",
        plan="trial",
    )  # fmt: skip
    return House(engine, keys, tmp_path / "mails", Moment(NOW))


@pytest.fixture
def ann(house: House) -> Visitor:
    """Her browser, logged in."""
    visitor = house.visitor()
    visitor.fill("/login", email=ANN)
    visitor.fill(house.mails()[-1].link("login"))
    return visitor


def row(engine: Engine) -> Subscriber:
    """Her row."""
    with reading(engine) as session:
        return session.exec(select(Subscriber)).one()


def states(engine: Engine) -> dict[str, str]:
    """Her subscriptions."""
    with reading(engine) as session:
        return {one.newsletter: one.state for one in session.exec(select(Subscription)).all()}


def mail_link(house: House) -> str:
    """The preferences link of a mail."""
    return f"/preferences/{Signer(house.keys).preferences(row(house.engine).reader)}"


@pytest.mark.parametrize("by", ["session", "mail"])
def test_a_reader_chooses_everything_in_one_form(house: House, ann: Visitor, by: str) -> None:
    """Joined, left, name, language, zone: saved by one press; consent holds the words that were shown."""
    path = "/preferences" if by == "session" else mail_link(house)

    answer = ann.fill(
        path, button=0, do="save", newsletters=["planet", "economy"], name="Ann Ångström", language="fr",
        zone="Asia/Tokyo",
    )  # fmt: skip
    saved = states(house.engine)
    if by == "mail":
        house.visitor().fill(house.mails()[-1].link("confirm"))

    assert answer.status_code == 200 and ("Saved." in answer.text or "enregistré" in answer.text)
    assert saved["economy"] == ("active" if by == "session" else "pending")
    assert states(house.engine) == {"economy": "active", "planet": "active", "today": "left"}
    found = row(house.engine)
    assert (found.name, found.language, found.timezone) == ("Ann Ångström", "fr", "Asia/Tokyo")
    with reading(house.engine) as session:
        economy = session.exec(select(Subscription).where(Subscription.newsletter == "economy")).one()
    assert economy.consent_source.startswith("/preferences") and economy.consent_words.startswith("Tick what")
    assert economy.confirmed_at is not None


@pytest.mark.parametrize("before", ["never had", "left elsewhere", "left long ago"])
def test_by_the_mails_link_what_is_new_waits_for_a_mail(house: House, before: str) -> None:
    """Who was forwarded a mail cannot make anything come: it waits, says so, and is hers to confirm."""
    stranger, path = house.visitor(), mail_link(house)
    slug, gets = ("economy", ["planet", "today"]) if before == "never had" else ("today", ["planet"])
    if before == "left elsewhere":
        leave(house.engine, row(house.engine).reader, slug, now=NOW, how="one click in the mailbox")
    if before == "left long ago":
        stranger.fill(path, button=0, do="save", newsletters=gets)
        house.clock.go_on(days=2)
    mails = len(house.mails())

    answer = stranger.fill(path, button=0, do="save", newsletters=[*gets, slug])
    between = states(house.engine)
    asked = house.mails()[mails:]
    stranger.fill(asked[0].link("confirm"))

    assert "will come once you press the button in the mail" in answer.text
    assert between[slug] == ("pending" if before == "never had" else "left")
    assert all(between[one] == "active" for one in gets)
    assert ("waiting for your confirmation" in answer.text) == (before == "never had")
    assert len(asked) == 1 and ANN in asked[0].to
    assert states(house.engine)[slug] == "active"


def test_by_the_mails_link_what_must_not_be_mailed_does_not_wait(house: House) -> None:
    """A complaint about one newsletter is not overcome by a tick, and no mail goes out for it."""
    with writing(house.engine) as session:
        found = session.exec(select(Subscriber)).one()
        session.add(
            Suppression(
                address_hash=found.address_hash, scope="economy", reason="complained", suppressed_at=NOW
            )
        )

    answer = house.visitor().fill(
        mail_link(house), button=0, do="save", newsletters=["planet", "today", "economy"]
    )

    assert "cannot be sent to this address at present" in answer.text
    assert states(house.engine) == {"planet": "active", "today": "active"} and house.mails() == []


@pytest.mark.parametrize("by", ["session", "mail"])
def test_what_was_unticked_by_a_slip_comes_back_by_one_press(house: House, ann: Visitor, by: str) -> None:
    """The page that says Saved takes the leaving back, and so does a tick within a day; without a mail."""
    path = "/preferences" if by == "session" else mail_link(house)
    mails = len(house.mails())

    saved = ann.fill(path, button=0, do="save", newsletters=["planet"])
    between = states(house.engine)
    form = next(one for one in html.fromstring(saved.text).forms if "undo" in one.fields)
    ann.ask("POST", path, data={**dict(form.form_values()), "do": "undo"})
    undone = states(house.engine)
    ann.fill(path, button=0, do="save", newsletters=["planet"])
    ann.fill(path, button=0, do="save", newsletters=["planet", "today"])

    assert between == {"planet": "active", "today": "left"}
    assert undone == states(house.engine) == {"planet": "active", "today": "active"}
    assert len(house.mails()) == mails


def test_what_was_not_on_the_page_stays(house: House, ann: Visitor) -> None:
    """A form of an older page, or of another, ends nothing it did not show."""
    ann.fill(mail_link(house), button=0, do="save", shown=["economy"], newsletters=[])

    assert states(house.engine) == {"planet": "active", "today": "active"}


@pytest.fixture
def waiting(house: House) -> str:
    """A newsletter somebody asked for in her name and nobody has confirmed."""
    house.visitor().fill("/subscribe", email=ANN, newsletters=["economy"])
    return house.mails()[-1].link("confirm")


@pytest.mark.parametrize("by", ["session", "mail"])
def test_what_waits_is_not_chosen_and_not_made_active_by_saving(
    house: House, ann: Visitor, waiting: str, by: str
) -> None:
    """It is shown unticked and says so; Save as the page stands leaves it, Save with a tick asks by mail."""
    path = "/preferences" if by == "session" else mail_link(house)
    page = ann.ask("GET", path).text
    box = html.fromstring(page).get_element_by_id("nl-economy")

    ann.fill(path, button=0, do="save")
    untouched, mails = states(house.engine), len(house.mails())
    asked = ann.fill(path, button=0, do="save", newsletters=["economy", "planet", "today"])
    still = states(house.engine)
    ann.fill(house.mails()[-1].link("confirm"))

    assert "checked" not in box.attrib and "waiting for your confirmation" in page
    assert untouched == still == {"economy": "pending", "planet": "active", "today": "active"}
    assert "will come once you press the button in the mail" in asked.text
    assert len(house.mails()) == mails + 2  # the confirming mail and, after the press, the welcome
    assert states(house.engine)["economy"] == "active"


def test_the_confirming_mail_is_not_sent_as_often_as_one_likes(
    house: House, ann: Visitor, waiting: str
) -> None:
    """As many an hour as from the page where one joins."""
    for _ in range(9):
        ann.fill("/preferences", button=0, do="save", newsletters=["economy", "planet", "today"])

    assert sum("confirm" in mail.subject.lower() for mail in house.mails()) == 3


@pytest.mark.parametrize("by", ["session", "mail"])
@pytest.mark.parametrize(("what", "button"), [("leave-all", -1), ("pause", -2)])
def test_leaving_and_pausing_are_undone_by_one_press(
    house: House, ann: Visitor, waiting: str, by: str, what: str, button: int
) -> None:
    """The page that says what was done takes it back; what waited waits again."""
    path = "/preferences" if by == "session" else mail_link(house)
    before, paused = states(house.engine), row(house.engine).paused_until

    done = ann.fill(path, button=button, do=what)
    between = states(house.engine), row(house.engine).paused_until
    form = next(one for one in html.fromstring(done.text).forms if "undo" in one.fields)
    undone = ann.ask("POST", path, data={**dict(form.form_values()), "do": "undo"})
    again = ann.ask("POST", path, data={**dict(form.form_values()), "do": "undo"})

    assert between != (before, paused)
    assert "All is as it was" in undone.text and "cannot be taken back" in again.text
    assert (states(house.engine), row(house.engine).paused_until) == (before, paused)


@pytest.mark.parametrize("do", ["leave-all", "pause", "save"])
@pytest.mark.parametrize("how", ["no page", "in haste", "after the trap"])
def test_a_scanner_that_presses_changes_nothing_by_the_mails_link(house: House, do: str, how: str) -> None:
    """Faster than anybody reads, without the page, or after the link nobody sees: asked once more."""
    path, scanner = mail_link(house), house.visitor()
    page = scanner.ask("GET", path).text
    trap = html.fromstring(page).xpath('string(//a[@aria-hidden="true"]/@href)')
    if how == "after the trap":
        scanner.ask("GET", str(trap))
    fields = {"do": do, "shown": ["today", "planet"], "newsletters": ["planet"], "days": "14"}

    if how == "no page":
        asked = scanner.ask("POST", path, data=fields)
    else:
        asked = scanner.fill(path, button=0, wait=0.5 if how == "in haste" else 5, **fields)
    still = states(house.engine), row(house.engine).paused_until
    house.clock.go_on(seconds=3)
    form = html.fromstring(asked.text).forms[0]
    scanner.ask("POST", path, data=values_of(form))

    assert trap == f"{path}/t" and "Was it you?" in asked.text
    assert still == ({"planet": "active", "today": "active"}, None)
    assert (states(house.engine), row(house.engine).paused_until) != still


def test_a_scanner_does_not_confirm_an_address(house: House, ann: Visitor) -> None:
    """Minutes after the mail a press in haste takes one more; a person's does not."""
    ann.fill("/preferences/address", email=NEW)
    path = next(mail for mail in house.mails() if NEW in mail.to).link("address")

    asked = house.visitor().fill(path, wait=0.5)
    house.visitor().ask("POST", path)
    still = row(house.engine).email
    house.visitor().fill(path)

    assert "Was it you?" in asked.text and (still, row(house.engine).email) == (ANN, NEW)


def test_members_newsletters_are_for_members(house: House, ann: Visitor) -> None:
    """Who is on a trial may choose the magazine; when it has ended it is not offered any more."""
    during = ann.ask("GET", "/preferences").text
    with writing(house.engine) as session:
        found = session.exec(select(Subscriber)).one()
        found.plan_until = NOW
        session.add(found)
    after = ann.ask("GET", "/preferences").text

    assert 'value="magazine"' in during and 'value="magazine"' not in after
    assert "until December 20" in during or "until 20 December" in during
    assert "ended on" in after


@pytest.mark.parametrize(("zone", "day"), [("Pacific/Auckland", 1), ("America/Lima", 31), ("", 1)])
def test_days_are_those_of_the_reader(house: House, zone: str, day: int) -> None:
    """The end of a plan and of a pause on the reader's own clocks; without a zone on the publication's."""
    with writing(house.engine) as session:
        found = session.exec(select(Subscriber)).one()
        found.timezone, found.plan = zone, "annual"
        found.plan_until = found.paused_until = datetime(2027, 1, 31, 23, 30, tzinfo=UTC)
        session.add(found)

    page = house.visitor().ask("GET", mail_link(house)).text
    house.clock.now = datetime(2027, 1, 1, 23, 30, tzinfo=UTC)
    leaving = f"/u/{Signer(house.keys).unsubscribe(row(house.engine).reader, 'today')}"
    paused = house.visitor().fill(leaving, wait=0, scope="pause").text

    said = "31 January 2027" if day == 31 else "1 February 2027"
    assert page.count(said) == 2  # the plan and the pause
    assert f"It is quiet until {said}" in paused


def test_a_pause_and_its_end(house: House, ann: Visitor) -> None:
    """Chosen in days, shown with its last day, ended by one press."""
    ann.fill("/preferences", button=-2, do="pause", days="14")
    paused = row(house.engine).paused_until
    shown = ann.ask("GET", "/preferences").text
    ann.fill("/preferences", button=0, do="go-on")

    assert paused is not None and timedelta(days=13) < paused - NOW <= timedelta(days=14, minutes=1)
    assert "Go on now" in shown
    assert row(house.engine).paused_until is None


def test_the_mails_link_opens_nothing_that_cannot_be_taken_back(house: House) -> None:
    """No full address, no data, no address change, no erasure: those lead to a mail first."""
    stranger = house.visitor()
    page = stranger.ask("GET", mail_link(house)).text

    assert ANN not in page and "a…@m….example" in page
    for then in ("address", "data", "erase"):
        assert f"/login?then={then}" in page
        answer = stranger.ask("GET", f"/preferences/{then}")
        assert (answer.status_code, answer.headers["location"]) == (303, f"/login?then={then}")


def test_without_a_session_there_is_no_preference_centre(house: House) -> None:
    """It sends to the login, and a forged cookie is no session."""
    for cookie in ({}, {"Cookie": "nl_session=" + "A" * 43}):
        answer = house.visitor().ask("GET", "/preferences", headers=cookie)
        assert (answer.status_code, answer.headers["location"]) == (303, "/login")


@pytest.mark.parametrize("path", ["/preferences", "/preferences/erase", "/preferences/address"])
def test_another_site_cannot_press_for_her(house: House, ann: Visitor, path: str) -> None:
    """Without our form's signature, or from another origin, nothing happens."""
    form = {"do": "leave-all", "sure": "1", "email": NEW}

    bare = ann.ask("POST", path, data=form)
    page = ann.ask("GET", path)
    stamp = page.text.partition('name="form" value="')[2].partition('"')[0]
    foreign = ann.ask("POST", path, data={**form, "form": stamp}, headers={"Origin": "https://evil.example"})

    assert bare.status_code in (403, 422) and foreign.status_code in (403, 422)
    assert states(house.engine) == {"planet": "active", "today": "active"}
    assert (row(house.engine).email, row(house.engine).pending_email) == (ANN, "")


def test_an_address_changes_when_the_new_one_says_yes(house: House, ann: Visitor, keys: Keys) -> None:
    """Asked with a session, confirmed at the new one, told to the old one; what was left stays left; sessions end."""
    ann.fill("/preferences", button=0, do="save", newsletters=["planet"])
    ann.fill("/preferences/address", email=NEW)
    told, asked = sorted(house.mails()[-2:], key=lambda mail: mail.to)
    before = row(house.engine).email
    path = asked.link("address") if NEW in asked.to else told.link("address")
    looked = house.visitor().ask("GET", path)
    answer = house.visitor().fill(path)

    assert {mail.to for mail in (told, asked)} == {ANN, NEW}
    assert (before, looked.status_code, answer.status_code) == (ANN, 200, 200)
    found = row(house.engine)
    _, key = normalise(NEW)
    assert (found.email, found.pending_email, found.email_key) == (NEW, "", key)
    assert found.address_hash == address_hash(keys.suppression, key)
    with reading(house.engine) as session:
        scopes = session.exec(
            select(Suppression.scope).where(Suppression.address_hash == found.address_hash)
        ).all()
        assert session.exec(select(ReaderSession)).all() == []
    assert scopes == ["today"]
    assert house.visitor().ask("POST", path).status_code == 410


@pytest.mark.parametrize("whose", ["somebody's", "her own", "bounced", "complained at"])
def test_whose_an_address_is_shows_only_in_the_mail_to_it(
    house: House, ann: Visitor, keys: Keys, whose: str
) -> None:
    """The same page, the same line on the preferences, the same mail to the old address, the same data."""
    email = ANN if whose == "her own" else NEW
    if whose == "somebody's":
        add(house.engine, NEW, catalogue=the_catalogue(), keys=keys, now=NOW, name="Bea", consent="yes")
    if whose in ("bounced", "complained at"):
        reason = "bounced" if whose == "bounced" else "complained"
        hashed = address_hash(keys.suppression, NEW)
        with writing(house.engine) as session:
            session.add(Suppression(address_hash=hashed, scope="all", reason=reason, suppressed_at=NOW))

    seen = []
    for address in ("free@mail.example", email):
        mails = len(house.mails())
        answer = ann.fill("/preferences/address", email=address)
        shown = ann.ask("GET", "/preferences").text
        held = json.loads(ann.ask("GET", "/preferences/data").text)
        links = [one["purpose"] for one in held["links"] if one["purpose"] == "address"]
        text = html.fromstring(shown).xpath('string(//p[@class="done"])')
        told = [mail.subject for mail in house.mails()[mails:] if "about to change" in mail.subject]
        seen.append(
            (answer.status_code, answer.text.replace(address, "…"), text.replace(address, "…"), links, told,
             held["pending_email"] == address)
        )  # fmt: skip
    there = [mail for mail in house.mails()[mails:] if "about to change" not in mail.subject]

    assert seen[0] == seen[1] and "waits to be confirmed" in seen[0][2]
    if whose in ("bounced", "complained at"):
        assert there == []
    else:
        assert [mail.subject for mail in there] == ["We know this address already"]
        assert email in there[0].to and there[0].link("login") and "Bea" not in there[0].to


def test_the_mail_to_a_new_address_greets_nobody(house: House, ann: Visitor) -> None:
    """It may be a stranger's: nothing a reader typed stands in it; and not often to the same one."""
    ann.fill("/preferences", button=0, do="save", name="Buy at shop.example")
    for _ in range(4):
        ann.fill("/preferences/address", email=NEW)

    there = [mail for mail in house.mails() if NEW in mail.to]
    assert len(there) == 3 and {mail.to for mail in there} == {NEW}
    assert not any("shop.example" in mail.text + mail.html for mail in there)


@pytest.mark.parametrize("old", ["nobody's", "somebody's"])
def test_erasing_covers_the_address_before(house: House, ann: Visitor, keys: Keys, old: str) -> None:
    """After a move no list brings the old address back either, unless it is somebody's by now."""
    ann.fill("/preferences/address", email=NEW)
    ann.fill(next(mail for mail in house.mails() if NEW in mail.to).link("address"))
    if old == "somebody's":
        add(house.engine, ANN, catalogue=the_catalogue(), keys=keys, now=NOW, consent="yes")

    forget(house.engine, NEW, keys=keys, now=NOW)

    with reading(house.engine) as session:
        erased = {one.address_hash for one in session.exec(select(Suppression)) if one.reason == "erased"}
        assert session.exec(select(FormerAddress)).all() == []
    covered = [NEW] if old == "somebody's" else [NEW, ANN]
    assert erased == {address_hash(keys.suppression, email) for email in covered}


def test_everything_held_comes_as_a_file(house: House, ann: Visitor) -> None:
    """Address, consent, events, sessions: what the tables hold of her, and no secret."""
    with writing(house.engine) as session:
        session.add(
            Event(event_id="e", kind="delivered", reader=row(house.engine).reader, edition="today.2026-11-19.1",
                  occurred_at=NOW, received_at=NOW)
        )  # fmt: skip

    answer = ann.ask("GET", "/preferences/data")

    held = json.loads(answer.text)
    assert answer.headers["content-disposition"] == 'attachment; filename="my-data.json"'
    assert (held["email"], held["plan"], len(held["subscriptions"])) == (ANN, "trial", 2)
    assert held["subscriptions"][0]["consent"]["words"] == "yes"
    assert held["events"] == [
        {"kind": "delivered", "at": "2026-11-20T09:00:00Z", "edition": "today.2026-11-19.1"}
    ]
    assert held["editions"] == [] and len(held["sessions"]) == 1
    with reading(house.engine) as session:
        secrets = [
            *session.exec(select(ReaderSession.secret_hash)),
            *session.exec(select(OneTimeLink.secret_hash)),
        ]
    assert not any(secret in answer.text for secret in secrets)


def test_an_old_session_must_prove_the_address_again(house: House, ann: Visitor) -> None:
    """After an hour the data, the address and the erasure ask for a mail; the rest does not."""
    house.clock.go_on(hours=2)

    assert ann.ask("GET", "/preferences").status_code == 200
    for path in ("data", "address", "erase"):
        assert ann.ask("GET", f"/preferences/{path}").headers["location"] == f"/login?then={path}"


def test_erasing_leaves_a_mark_nobody_can_read(house: House, ann: Visitor, keys: Keys) -> None:
    """Rows, links and sessions go; the keyed hash keeps every list from bringing the address back."""
    unsure = ann.fill("/preferences/erase", sure="")
    still = row(house.engine).email
    answer = ann.fill("/preferences/erase", sure="1")

    assert (unsure.status_code, still) == (422, ANN)
    assert "You are erased" in answer.text
    with reading(house.engine) as session:
        for table in (Subscriber, Subscription, OneTimeLink, ReaderSession):
            assert session.exec(select(table)).all() == []
        kept = session.exec(select(Suppression)).one()
    assert (kept.reason, kept.scope) == ("erased", "all")
    assert kept.address_hash == address_hash(keys.suppression, ANN)
    assert ann.ask("GET", "/preferences").status_code == 303


def test_names_are_text(house: House, ann: Visitor) -> None:
    """Markup, line ends and direction marks in a name do nothing in pages and stay one line."""
    ann.fill("/preferences", button=0, do="save", name='<img src=x onerror=1>\r\nBcc: x@y.example\u202e"')

    assert row(house.engine).name == '<img src=x onerror=1> Bcc: x@y.example"'
    assert "<img src=x" not in ann.ask("GET", "/preferences").text


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.sampled_from(["do", "days", "name", "language", "zone", "hour", "newsletters", "shown", "form"]),
        st.text(max_size=40) | st.sampled_from(["save", "pause", "go-on", "leave-all", "drop-address"]),
    )
)
def test_nothing_that_is_posted_breaks_the_page(house: House, fields: dict[str, str]) -> None:
    """No form content is a server error."""
    data = {name: value.encode("utf-8", "replace").decode() for name, value in fields.items()}

    assert house.visitor().ask("POST", mail_link(house), data=data).status_code < 500
