"""The API of the publisher's programs: what each operation does, for whom, how often, and what it never says."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine
from sqlmodel import select
from typer.testing import CliRunner

from newsletter.audience.addresses import address_hash
from newsletter.audience.leaving import leave
from newsletter.audience.limits import Knock, knock
from newsletter.audience.programs import Scope, find_program, list_programs, make_token, revoke_token
from newsletter.audience.repeats import ABANDONED, KEPT, Outcome, claim, claim_of, settle
from newsletter.audience.segments import audience_query
from newsletter.cli.main import app
from newsletter.desk import Desk
from newsletter.errors import NotFound, StateError
from newsletter.settings import Keys, Settings
from newsletter.store.session import open_store, reading, writing
from newsletter.store.tables import ApiToken, IdempotentRequest, Subscriber, Subscription, Suppression
from newsletter.web.api.routes import WRITES
from newsletter.web.app import create_app
from tests.builders import ask, the_catalogue
from tests.test_archive import SECRET, put
from tests.visiting import House, Moment

NOW = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)
ANN = "ann@mail.example"
GIVEN = {"words": "Send me Today", "page": "https://site.example/join", "at": "2026-11-20T08:00:00Z"}


class Site:
    """A publisher's program with a token."""

    def __init__(self, house: House, scopes: Iterable[Scope] = Scope, name: str = "our-site") -> None:
        self.house = house
        self.token = make_token(house.engine, name, scopes, now=house.clock())

    def say(
        self, method: str, path: str, body: Any = None, *, key: str = "", **headers: str
    ) -> httpx.Response:
        """One request."""
        sent = {
            "Authorization": f"Bearer {self.token}",
            **({"Idempotency-Key": key} if key else {}),
            **headers,
        }
        options: dict[str, Any] = {} if body is None else {"json": body}
        return ask(self.house.app, method, f"/api/v1{path}", headers=sent, **options)

    def add(self, email: str = ANN, *, key: str = "", ask: bool = False, **values: Any) -> httpx.Response:
        """Add a subscriber to Today, with consent unless they are to be asked."""
        consent = {"ask": True} if ask else {"given": GIVEN}
        return self.say(
            "POST", "/subscribers", {"email": email, "newsletters": ["today"], "consent": consent, **values}, key=key
        )  # fmt: skip


@pytest.fixture
def house(engine: Engine, keys: Keys, tmp_path: Path) -> House:
    """The pages and the API over an empty database."""
    return House(engine, keys, tmp_path / "mails", Moment(NOW))


@pytest.fixture
def site(house: House) -> Site:
    """A program that may do everything."""
    return Site(house)


def problem(answer: httpx.Response) -> tuple[int, str]:
    """Status and kind of a problem; each is one by its own rules."""
    told = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert told["status"] == answer.status_code and told["title"] and told["detail"]
    assert "@" not in answer.text and answer.headers["cache-control"] == "no-store"
    return answer.status_code, told["type"].rpartition(":")[2]


def suppressed(engine: Engine) -> set[tuple[str, str]]:
    """What must not be mailed, and why."""
    with reading(engine) as session:
        return {(row.scope, row.reason) for row in session.exec(select(Suppression)).all()}


# --- tokens -------------------------------------------------------------------------------------


def test_a_token_is_shown_once_and_kept_as_a_hash(engine: Engine) -> None:
    """It finds its program with its scopes; nothing in the table opens anything."""
    secret = make_token(engine, "our-site", [Scope.EDITIONS_READ, Scope.EDITIONS_READ], now=NOW)

    found = find_program(engine, secret)

    assert found is not None and (found.name, found.scopes) == ("our-site", {Scope.EDITIONS_READ})
    assert len(secret) == 47 and secret.startswith("nlt_")
    with reading(engine) as session:
        row = session.exec(select(ApiToken)).one()
    assert secret not in repr(row) and find_program(engine, row.secret_hash) is None
    assert [find_program(engine, other) for other in ("", "nlt_", secret[:-1], f"{secret}x", secret.lower(), "nlt_\ud800")] == [None] * 6  # fmt: skip


def test_a_revoked_token_opens_nothing_and_its_name_is_free(engine: Engine) -> None:
    """Revoking twice is once; the next token of the name is another; a live name is taken."""
    old = make_token(engine, "our-site", Scope, now=NOW)
    with pytest.raises(StateError):
        make_token(engine, "our-site", Scope, now=NOW)
    for minutes in (1, 2):
        revoke_token(engine, "our-site", now=NOW + timedelta(minutes=minutes))
    revoked = list_programs(engine)[0].revoked_at

    new = make_token(engine, "our-site", Scope, now=NOW)

    assert revoked == NOW + timedelta(minutes=1)
    assert find_program(engine, old) is None and find_program(engine, new) is not None


@pytest.mark.parametrize(
    ("name", "scopes"), [("Our Site", list(Scope)), ("ann@mail.example", list(Scope)), ("x", [])]
)
def test_a_token_has_a_plain_name_and_a_scope(engine: Engine, name: str, scopes: list[Scope]) -> None:
    """A name goes into logs, so it is no address; a token for nothing is a mistake."""
    with pytest.raises(StateError):
        make_token(engine, name, scopes, now=NOW)
    with pytest.raises(NotFound):
        revoke_token(engine, name, now=NOW)


def test_tokens_by_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """add prints the token and nothing else on stdout; list never does; a scope that is none is refused."""
    url = f"sqlite:///{tmp_path}/subscribers.db"
    monkeypatch.setenv("DATABASE_URL", url)

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(app, ["api-token", *arguments])

    empty = run("list")
    secret = run("add", "our-site", "--scope", "editions:read", "--scope", "newsletters:read").stdout.strip()
    shown = run("list", "--json")
    revoked = [run("revoke", "our-site", "--now", NOW.isoformat()).exit_code for _ in range(2)]
    wrong = [
        run("add", "x", "--scope", "everything").exit_code,
        run("add", "x").exit_code,
        run("revoke", "y").exit_code,
    ]

    told = json.loads(shown.stdout)["tokens"]
    assert "There are none" in empty.stdout and secret not in shown.output + run("list").output
    assert [(one["name"], one["scopes"], one["revoked_at"]) for one in told] == [
        ("our-site", ["editions:read", "newsletters:read"], None)
    ]
    assert "our-site: editions:read, newsletters:read; revoked 2026-11-20T09:00:00Z" in run("list").stdout
    assert revoked == [0, 0] and wrong == [2, 1, 1]
    engine = open_store(url)
    assert find_program(engine, secret) is None
    engine.dispose()


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer nlt_x", "Basic YTpi", "nlt_x", "Bearer \u00e9"])
def test_without_a_token_of_ours_there_is_nothing(house: House, header: str) -> None:
    """401 that says how, whatever was sent."""
    sent = {"Authorization": header.encode("latin-1")} if header else {}

    answer = ask(house.app, "GET", "/api/v1/newsletters", headers=sent)

    assert problem(answer) == (401, "blank") and answer.headers["www-authenticate"].startswith(
        "Bearer realm="
    )


def test_a_token_does_only_what_its_scopes_say(house: House) -> None:
    """403 for every operation of another scope, and the scope that is missing; revoked: 401."""
    wanted = {
        ("GET", "/newsletters"): Scope.NEWSLETTERS_READ, ("GET", "/editions"): Scope.EDITIONS_READ,
        ("GET", f"/subscribers/{'a' * 24}"): Scope.SUBSCRIBERS_READ, ("DELETE", f"/subscribers/{'a' * 24}"): Scope.SUBSCRIBERS_WRITE,
        ("POST", "/subscribers"): Scope.SUBSCRIBERS_WRITE, ("POST", "/subscribers/find"): Scope.SUBSCRIBERS_READ,
    }  # fmt: skip
    for scope in Scope:
        site = Site(house, [scope], scope.replace(":", "-"))
        for (method, path), needed in wanted.items():
            answer = site.say(method, path)
            if needed != scope:
                assert problem(answer) == (403, "scope") and needed in answer.headers["www-authenticate"]
            else:
                assert answer.status_code in (200, 404, 415)
        revoke_token(house.engine, scope.replace(":", "-"), now=NOW)
        assert problem(site.say("GET", "/newsletters")) == (401, "blank")


def test_a_program_that_asks_too_often_waits(site: Site, keys: Keys) -> None:
    """429 until the window is over, for this token only, and says how long; reading goes on."""
    house = site.house
    who = str(list_programs(house.engine)[0].token_id)
    knock(house.engine, [Knock(WRITES, who)] * WRITES.n, keys=keys, now=NOW)

    answer = site.add()

    assert problem(answer) == (429, "blank") and answer.headers["retry-after"] == "60"
    assert Site(house, name="another").add().status_code == 201
    assert site.say("GET", "/newsletters").status_code == 200
    house.clock.go_on(seconds=60)
    assert site.add("ben@mail.example").status_code == 201


# --- subscribers --------------------------------------------------------------------------------


def test_a_subscriber_with_consent_is_active(site: Site) -> None:
    """201 with where they are; the record keeps words, page and time; read and found alike; no mail, no cookie."""
    answer = site.add(
        name="Ann Ó", language="fr", country="fr", timezone="Europe/Paris", plan="annual", plan_until="2027-01-31T12:00:00+01:00",
        newsletters=["today", "planet", "today"],
    )  # fmt: skip

    told = answer.json()
    assert answer.status_code == 201 and "set-cookie" not in answer.headers
    assert answer.headers["location"] == f"http://127.0.0.1:8000/api/v1/subscribers/{told['id']}"
    assert (told["email"], told["name"], told["status"], told["country"], told["class"], told["plan_until"]) == (
        ANN, "Ann Ó", "active", "FR", "paying", "2027-01-31T11:00:00Z",
    )  # fmt: skip
    assert [(one["newsletter"], one["state"]) for one in told["newsletters"]] == [("planet", "active"), ("today", "active")]  # fmt: skip
    assert site.say("GET", f"/subscribers/{told['id']}").json() == told
    assert site.say("POST", "/subscribers/find", {"email": "ANN@mail.example"}).json() == told
    with reading(site.house.engine) as session:
        row = session.exec(select(Subscription).where(Subscription.newsletter == "today")).one()
    assert (row.consent_words, row.consent_source, row.consented_at) == (
        "Send me Today", "https://site.example/join (told by our-site)", NOW - timedelta(hours=1),
    )  # fmt: skip
    (welcome,) = site.house.mails()
    assert welcome.to == f"Ann Ó <{ANN}>" and "list-unsubscribe-post" in welcome.headers
    assert "Parallel Today" in welcome.text and "Living Planet" in welcome.text


def test_a_subscriber_who_is_asked_confirms_by_mail(site: Site) -> None:
    """Pending until they press; then active, on the plan that was given; the mail is the one of /subscribe."""
    told = site.add(ask=True, plan="trial", language="fr").json()
    pending = (told["status"], told["newsletters"][0]["state"])

    site.house.visitor().fill(site.house.mails()[0].link("confirm"))

    after = site.say("GET", f"/subscribers/{told['id']}").json()
    assert pending == ("pending", "pending")
    assert (after["status"], after["newsletters"][0]["state"], after["plan"]) == ("active", "active", "trial")
    assert after["plan_until"] == "2026-12-20T09:00:00Z"
    assert site.house.mails()[0].to == ANN


def test_who_is_there_already_is_said_by_id(site: Site) -> None:
    """409, nothing changed, no mail; also when they are only pending."""
    first = site.add(ask=True).json()

    again = [site.add("Ann@mail.example", ask=asked, name="Other") for asked in (True, False)]

    assert [problem(one) for one in again] == [(409, "known")] * 2
    assert [one.json()["id"] for one in again] == [first["id"]] * 2
    assert (
        site.say("GET", f"/subscribers/{first['id']}").json()["name"] == "" and len(site.house.mails()) == 1
    )


def test_nobody_who_was_erased_comes_back_by_a_program(site: Site) -> None:
    """Erased: 204, gone, and suppressed; consent of the site does not lift it; their own press does."""
    reader = site.add().json()["id"]
    gone = site.say("DELETE", f"/subscribers/{reader}")
    again = site.say("DELETE", f"/subscribers/{reader}")

    refused = site.add()
    asked = site.add(ask=True).json()

    assert (gone.status_code, gone.content) == (204, b"") and problem(again) == (404, "blank")
    assert problem(refused) == (409, "suppressed")
    assert (
        refused.json()["suppressed"] == [{"scope": "all", "reason": "erased"}]
        and "ask" in refused.json()["detail"]
    )
    assert asked["status"] == "pending" and suppressed(site.house.engine) == {("all", "erased")}
    site.house.visitor().fill(site.house.mails()[-1].link("confirm"))
    assert suppressed(site.house.engine) == set()


@pytest.mark.parametrize("reason", ["bounced", "complained", "manual"])
def test_what_speaks_against_mail_is_said(site: Site, keys: Keys, reason: str) -> None:
    """409 with the scopes, for consent and for asking; another newsletter than the barred one may be joined."""
    with writing(site.house.engine) as session:
        session.add(
            Suppression(address_hash=address_hash(keys.suppression, ANN), scope="today", reason=reason, suppressed_at=NOW)
        )  # fmt: skip

    answers = [site.add(ask=asked) for asked in (True, False)]

    assert [problem(one) for one in answers] == [(409, "suppressed")] * 2
    assert all(one.json()["suppressed"] == [{"scope": "today", "reason": reason}] for one in answers)
    assert site.house.mails() == [] and site.add(newsletters=["planet"]).status_code == 201


def test_what_is_named_is_changed_and_nothing_else(site: Site) -> None:
    """PATCH; an address cannot be changed so, and what is not ours is refused by name."""
    reader = site.add(name="Ann", language="fr").json()["id"]

    answer = site.say("PATCH", f"/subscribers/{reader}", {"name": "Anne", "timezone": "Asia/Tokyo"})

    told = answer.json()
    assert (told["name"], told["language"], told["timezone"], told["plan"]) == (
        "Anne",
        "fr",
        "Asia/Tokyo",
        "free",
    )
    for body, pointer in (
        ({"email": "x@y.example"}, "#/email"), ({}, "#"), ({"plan": "gold"}, "#/plan"), ({"name": "a\nb"}, "#/name"),
        ({"name": None}, "#/name"), ({"country": "XX"}, "#/country"), ({"plan_until": "2027-01-31"}, "#/plan_until"),
        ({"plan_until": "0001-01-01T00:00:00+14:00"}, "#/plan_until"), ({"timezone": "Mars/X"}, "#/timezone"),
        ({"ann@mail.example": 1}, "#"), ([], "#"), ({"name": "x" * 101}, "#/name"), ({"language": "\u0000"}, "#/language"),
    ):  # fmt: skip
        refused = site.say("PATCH", f"/subscribers/{reader}", body)
        assert problem(refused) == (422, "blank") and refused.json()["errors"][0]["pointer"] == pointer, body
    assert site.say("GET", f"/subscribers/{reader}").json() == told


def test_a_plan_ends_to_the_hour(site: Site) -> None:
    """Paying until the second plan_until names and free from then on, in the answer and in the audience."""
    reader = site.add().json()["id"]
    end = NOW + timedelta(hours=5)
    newsletter, publication = the_catalogue()["today"], the_catalogue().publication

    answer = site.say("PUT", f"/subscribers/{reader}/plan", {"plan": "annual", "plan_until": end.isoformat()})

    assert answer.status_code == 200 and answer.json()["class"] == "paying"
    for at, expected in ((end - timedelta(seconds=1), "paying"), (end, "free")):
        site.house.clock.now = at
        assert site.say("GET", f"/subscribers/{reader}").json()["class"] == expected
        with reading(site.house.engine) as session:
            counts = {
                plan_class: len(session.execute(audience_query(newsletter, publication, plan_class=plan_class, now=at)).all())
                for plan_class in newsletter.audience.classes
            }  # fmt: skip
        assert counts == {"free": 0, "paying": 0} | {expected: 1}


def test_plans_by_their_rules(site: Site) -> None:
    """PUT says all of it: a trial gets its days; PATCH keeps an end that was paid for, and null takes it away."""
    reader = site.add(plan="annual", plan_until="2027-01-31T12:00:00Z").json()["id"]
    path = f"/subscribers/{reader}"

    ends = [
        site.say("PATCH", path, {"plan": "monthly"}).json()["plan_until"],
        site.say("PATCH", path, {"plan_until": "2027-02-01T00:00:00Z"}).json()["plan_until"],
        site.say("PATCH", path, {"plan_until": None}).json()["plan_until"],
        site.say("PUT", f"{path}/plan", {"plan": "trial"}).json()["plan_until"],
        site.say("PUT", f"{path}/plan", {"plan": "free"}).json()["plan_until"],
    ]

    assert ends == ["2027-01-31T12:00:00Z", "2027-02-01T00:00:00Z", None, "2026-12-20T09:00:00Z", None]
    assert problem(site.say("PUT", f"{path}/plan", {"plan": "gold"})) == (422, "blank")


def test_leaving_by_a_program_is_leaving(site: Site) -> None:
    """One newsletter or all, suppression as by a mail's link; twice is once; what they never had changes nothing."""
    reader = site.add(newsletters=["today", "planet"]).json()["id"]
    path = f"/subscribers/{reader}/unsubscribe"

    one = [site.say("POST", path, {"newsletter": "today"}).json() for _ in range(2)]
    never = site.say("POST", path, {"newsletter": "weekend"}).json()
    after_one = suppressed(site.house.engine)
    everything = site.say("POST", path, {"all": True}).json()

    assert one[0] == one[1] == never and after_one == {("today", "unsubscribed")}
    assert {row["newsletter"]: row["state"] for row in one[0]["newsletters"]} == {
        "today": "left",
        "planet": "active",
    }
    assert {row["state"] for row in everything["newsletters"]} == {"left"}
    assert {"scope": "all", "reason": "unsubscribed"} in everything["suppressed"]
    for body in ({}, {"newsletter": "today", "all": True}, {"all": False}, {"newsletter": "nothing"}):
        assert problem(site.say("POST", path, body)) == (422, "blank")


def test_more_newsletters_by_consent_or_by_asking(site: Site) -> None:
    """What they have stays; consent of the site adds at once, asking waits for their press; what they left only they undo."""
    reader = site.add().json()["id"]
    path = f"/subscribers/{reader}/subscribe"
    site.say("POST", f"/subscribers/{reader}/unsubscribe", {"newsletter": "today"})

    def ask_for(*slugs: str, ask: bool = False) -> httpx.Response:
        return site.say(
            "POST", path, {"newsletters": list(slugs), "consent": {"ask": True} if ask else {"given": GIVEN}}
        )

    added = [ask_for("planet").json(), ask_for("planet").json()]
    refused = ask_for("today", "weekend")
    asked = ask_for("today", "weekend", ask=True).json()
    known = ask_for("planet", ask=True)
    mails = [mail.subject for mail in site.house.mails()]
    site.house.visitor().fill(site.house.mails()[-1].link("confirm"))
    after = site.say("GET", f"/subscribers/{reader}").json()

    def states(told: Any) -> dict[str, str]:
        return {one["newsletter"]: one["state"] for one in told["newsletters"]}

    assert added[0] == added[1] and states(added[0]) == {"planet": "active", "today": "left"}
    assert problem(refused) == (409, "suppressed")
    assert states(asked) == {"planet": "active", "today": "left", "weekend": "pending"}
    assert known.status_code == 200
    assert [subject.partition(" ")[0] for subject in mails] == ["Welcome", "Welcome", "Please"]
    assert "Living Planet" in mails[1] and "Today" not in mails[1]
    assert (
        states(after) == dict.fromkeys(("planet", "today", "weekend"), "active") and after["suppressed"] == []
    )
    assert ask_for("planet", ask=True).status_code == 200
    assert problem(ask_for("planet", ask=True)) == (429, "blank")  # the fourth within the hour
    assert problem(ask_for("nothing")) == (422, "blank")


@pytest.mark.parametrize("status", ["bounced", "complained", "unsubscribed"])
def test_an_address_that_went_bad_gets_nothing_more(site: Site, status: str) -> None:
    """What stands at the subscriber counts like the suppression; only who left may be asked."""
    reader = site.add().json()["id"]
    with writing(site.house.engine) as session:
        session.exec(select(Subscriber)).one().status = status

    answers = [
        site.say("POST", f"/subscribers/{reader}/subscribe", {"newsletters": ["planet"], "consent": consent})
        for consent in ({"given": GIVEN}, {"ask": True})
    ]

    assert problem(answers[0]) == (409, "suppressed")
    assert answers[1].status_code == (200 if status == "unsubscribed" else 409)


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"email": "not an address"}, "#/email"),
        ({"email": "a@b.example\r\nBcc: x@y.example"}, "#/email"),
        ({"newsletters": []}, "#/newsletters"),
        ({"newsletters": ["today", "nothing"]}, "#/newsletters/1"),
        ({"plan": "gold"}, "#/plan"),
        ({"consent": {}}, "#/consent"),
        ({"consent": {"ask": True, "given": GIVEN}}, "#/consent"),
        ({"consent": {"ask": False}}, "#/consent/ask"),
        ({"consent": {"given": {**GIVEN, "at": "2026-11-20T10:00:00Z"}}}, "#/consent/given/at"),
        ({"consent": {"given": {**GIVEN, "at": "yesterday"}}}, "#/consent/given/at"),
        ({"consent": {"given": {**GIVEN, "page": "javascript:alert(1)"}}}, "#/consent/given/page"),
        ({"consent": {"given": {**GIVEN, "words": ""}}}, "#/consent/given/words"),
        ({"plan_until": 1800000000}, "#/plan_until"),
        ({"name": "\u202egnp"}, "#/name"),
    ],
)
def test_what_cannot_be_used_is_named(site: Site, change: dict[str, Any], pointer: str) -> None:
    """422 with a pointer to each fault, never with what was sent; nothing is added."""
    answer = site.add(**change)

    assert problem(answer) == (422, "blank") and [one["pointer"] for one in answer.json()["errors"]] == [
        pointer
    ]
    with reading(site.house.engine) as session:
        assert session.exec(select(Subscriber)).all() == []


# --- what stands before every operation ---------------------------------------------------------


def test_every_refusal_below_the_api_is_a_problem(site: Site) -> None:
    """No such path, method, type, JSON or size: problem+json, with what the status needs; a page elsewhere."""

    def plain(method: str, path: str, **options: Any) -> httpx.Response:
        sent = {"Authorization": f"Bearer {site.token}", **options.pop("headers", {})}
        return ask(site.house.app, method, path, headers=sent, **options)

    of_json = {"Content-Type": "application/json"}
    assert problem(plain("GET", "/api/v1/nothing")) == (404, "blank")
    assert problem(plain("GET", "/api/")) == (404, "blank")
    assert problem(plain("GET", "/api/v1/subscribers/")) == (404, "blank")
    assert problem(plain("GET", f"/api/v1/subscribers/{'0' * 24}")) == (404, "blank")
    assert problem(plain("GET", "/api/v1/subscribers/%00")) == (404, "blank")
    wrong = plain("DELETE", "/api/v1/newsletters")
    assert problem(wrong) == (405, "blank") and set(wrong.headers["allow"].split(", ")) == {"GET", "HEAD"}
    assert problem(plain("POST", "/api/v1/subscribers", data={"email": ANN})) == (415, "blank")
    for body in (b"", b"{", b"\xff", b'{"email": "\\ud800"}', b"[" * 5000):
        assert problem(plain("POST", "/api/v1/subscribers", content=body, headers=of_json)) == (400, "blank")
    assert problem(plain("POST", "/api/v1/subscribers", content=b"x" * 300_000, headers=of_json)) == (
        413,
        "blank",
    )
    assert plain("GET", "/nothing").headers["content-type"].startswith("text/html")


def test_a_lost_database_is_a_problem(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """503 with when to come back, and the key is free again; the log has neither the token nor an address."""
    site.add()
    with site.house.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE one_time_link")

    lost = [site.add("ben@mail.example", ask=True, key="k") for _ in range(2)]

    assert [problem(one) for one in lost] == [(503, "blank")] * 2 and lost[0].headers["retry-after"] == "60"
    assert site.add("ben@mail.example", key="other").status_code == 201
    told = "".join(capsys.readouterr())
    assert "api.written" in told and site.token not in told and "@mail.example" not in told


def test_a_failure_nobody_foresaw_is_a_problem(engine: Engine, keys: Keys) -> None:
    """500 without its words, guarded like the rest."""

    def broken() -> datetime:
        raise RuntimeError(ANN)

    app = create_app(engine, the_catalogue(), keys, Settings(), clock=broken)

    answer = ask(app, "GET", "/api/v1/newsletters")

    assert problem(answer) == (500, "blank") and answer.headers["x-frame-options"] == "DENY"


def test_it_works_below_a_prefix(engine: Engine, keys: Keys, tmp_path: Path) -> None:
    """Whether the proxy takes the path off or not; links have it."""
    house = House(engine, keys, tmp_path, Moment(NOW), base_url="https://example.org/news")
    token = make_token(engine, "our-site", Scope, now=NOW)
    sent = {"Host": "example.org", "Authorization": f"Bearer {token}"}

    answers = [
        ask(house.app, "GET", f"{prefix}/api/v1/newsletters", headers=sent) for prefix in ("", "/news")
    ]

    assert answers[0].json() == answers[1].json()
    assert (
        answers[0].json()["newsletters"][0]["subscribe_url"].startswith("https://example.org/news/subscribe?")
    )
    assert problem(ask(house.app, "GET", "/news/api/v1/nothing", headers=sent)) == (404, "blank")


# --- doing once ---------------------------------------------------------------------------------


def test_a_repeat_is_answered_and_not_done(site: Site) -> None:
    """The same status and body, marked; also what was refused; without a key it is done again."""
    first, again = site.add(key="order-1"), site.add(key="order-1")
    refused = [site.add(key="order-2") for _ in range(2)]

    assert (first.status_code, first.json(), first.headers["location"]) == (
        again.status_code, again.json(), again.headers["location"],
    )  # fmt: skip
    assert "idempotency-replayed" not in first.headers and again.headers["idempotency-replayed"] == "true"
    assert [problem(one) for one in refused] == [(409, "known")] * 2
    assert [one.headers.get("idempotency-replayed") for one in refused] == [None, "true"]
    assert problem(site.add()) == (409, "known")


def test_a_key_belongs_to_one_request_of_one_program(site: Site) -> None:
    """Another body, path or method with it: 422; another program's key is another; a strange key: 400."""
    reader = site.add(key="k").json()["id"]

    assert problem(site.add(key="k", name="Other")) == (422, "key-reused")
    assert problem(site.say("DELETE", f"/subscribers/{reader}", key="k")) == (422, "key-reused")
    assert problem(Site(site.house, name="another").add(key="k")) == (409, "known")
    for key in ("two words", "x" * 256):
        assert problem(site.say("DELETE", f"/subscribers/{reader}", key=key)) == (400, "blank")


def test_a_repeat_after_an_erasure_says_nothing_of_them(site: Site) -> None:
    """410 for what was about them; the erasure itself is repeated; no row has their address or id."""
    reader = site.add(key="add").json()["id"]
    erased = [site.say("DELETE", f"/subscribers/{reader}", key="erase") for _ in range(2)]

    again = site.add(key="add")

    assert [one.status_code for one in erased] == [204, 204]
    assert erased[1].headers["idempotency-replayed"] == "true" and problem(again) == (410, "blank")
    with reading(site.house.engine) as session:
        rows = session.exec(select(IdempotentRequest)).all()
    assert len(rows) == 2 and not any("mail.example" in repr(row) or reader in repr(row) for row in rows)


def test_at_once_is_once(site: Site) -> None:
    """Eight of the same at the same moment: one is done, the others hear its answer or that it is being done."""
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: site.add(key="order-1"), range(8)))

    done = Counter((one.status_code, "idempotency-replayed" in one.headers) for one in answers)
    assert done[(201, False)] == 1 and set(done) <= {(201, False), (201, True), (409, False)}
    assert all(problem(one) == (409, "in-flight") for one in answers if one.status_code == 409)
    assert site.add(key="order-1").headers["idempotency-replayed"] == "true"


def test_at_once_without_a_key_is_one_subscriber(site: Site) -> None:
    """Eight programs' requests for one address: one 201, the others are told who it is."""
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: site.add(ask=bool(number % 2)), range(8)))

    made = [one.json()["id"] for one in answers if one.status_code == 201]
    assert Counter(one.status_code for one in answers) == {201: 1, 409: 7}
    assert {one.json()["id"] for one in answers} == set(made)


def test_a_claim_of_a_dead_process_is_taken_over(engine: Engine, keys: Keys) -> None:
    """In flight for others until it is abandoned; done within its day; forgotten after it by tidying."""
    make_token(engine, "our-site", Scope, now=NOW)
    token_id = list_programs(engine)[0].token_id
    wanted = claim_of(token_id, "k", b"POST", b"/", b"{}", keys=keys)
    assert claim(engine, wanted, now=NOW) is None
    with pytest.raises(RuntimeError):
        claim(engine, wanted, now=NOW + ABANDONED - timedelta(seconds=1))

    taken_over = claim(engine, wanted, now=NOW + ABANDONED)
    settle(engine, wanted, Outcome(200, "ab"))

    assert taken_over is None
    assert claim(engine, wanted, now=NOW + timedelta(hours=1)) == Outcome(200, "ab")
    assert claim(engine, wanted, now=NOW + ABANDONED + KEPT) is None


def test_keys_are_forgotten_after_a_day(tmp_path: Path, keys: Keys) -> None:
    """``desk.tidy`` deletes them."""
    engine = open_store(f"sqlite:///{tmp_path}/subscribers.db")
    make_token(engine, "our-site", Scope, now=NOW)
    claim(engine, claim_of(1, "k", keys=keys), now=NOW)
    left = []

    for hours in (23, 24):
        desk = Desk(
            engine, the_catalogue(), keys, Settings(), clock=lambda at=NOW + timedelta(hours=hours): at
        )
        desk.tidy()
        with reading(engine) as session:
            left.append(len(session.exec(select(IdempotentRequest)).all()))

    assert left == [1, 0]
    engine.dispose()


# --- what is published --------------------------------------------------------------------------


def test_newsletters_as_readers_choose_them(site: Site) -> None:
    """All nine, with when they come and where to subscribe."""
    told = site.say("GET", "/newsletters").json()["newsletters"]

    today = next(one for one in told if one["slug"] == "today")
    assert [one["slug"] for one in told] == [one.slug for one in the_catalogue().newsletters]
    assert today["name"] == "Parallel Today" and today["subscribe_url"] == "http://127.0.0.1:8000/subscribe?newsletter=today"  # fmt: skip
    assert today["archive_url"] == "http://127.0.0.1:8000/archive/today"


def test_editions_are_what_everybody_may_read(site: Site) -> None:
    """Only submitted ones of public newsletters, newest first, by page, newsletter and date; never a paid word."""
    engine = site.house.engine
    for number in range(10, 15):
        put(engine, "today", f"2026-11-{number}", f"Bridge {number}")
        put(engine, "planet", f"2026-11-{number}", f"Reef {number}")
    for day, status in (("2026-11-16", "approved"), ("2026-11-17", "submitting"), ("2026-11-18", "spiked")):
        put(engine, "today", day, "Not yet", status=status)
    put(engine, "today", "2026-11-14", "Bridge 14 corrected", status="submitting", revision=2)

    pages, after = [], ""
    while True:
        page = site.say("GET", f"/editions?limit=3{after}")
        pages.append(page.json()["editions"])
        if not page.json()["next"]:
            break
        after = f"&after={page.json()['next']}"
    some = site.say("GET", "/editions?newsletter=today&from=2026-11-11&until=2026-11-12").json()["editions"]
    one = site.say("GET", "/editions/today/2026-11-12")

    seen = [(row["date"], row["newsletter"]) for page in pages for row in page]
    assert seen == [(f"2026-11-{n}", slug) for n in range(14, 9, -1) for slug in ("planet", "today")]
    assert pages[0][1]["title"] == "Bridge 14 corrected" and [len(page) for page in pages] == [3, 3, 3, 1]
    assert [row["date"] for row in some] == ["2026-11-12", "2026-11-11"] and one.json() == some[0]
    assert one.json() == {
        "newsletter": "today", "date": "2026-11-12", "title": "Bridge 12", "summary": "About Bridge 12",
        "sent_at": "2026-11-20T09:00:00Z", "url": "http://127.0.0.1:8000/archive/today/2026-11-12",
    }  # fmt: skip
    assert SECRET not in repr(pages) + one.text
    for path in ("today/2026-11-17", "today/2026-11-30", "today/x", "nothing/2026-11-12"):
        assert problem(site.say("GET", f"/editions/{path}")) == (404, "blank")
    for query in (
        "limit=0",
        "limit=x",
        "from=x",
        "newsletter=nothing",
        "after=2026-99-99.today",
        "page=2",
        "after=%00",
    ):
        answer = site.say("GET", f"/editions?{query}")
        assert (
            problem(answer) == (422, "blank")
            and answer.json()["errors"][0]["parameter"] == query.partition("=")[0]
        )


@pytest.mark.parametrize(
    "query", ["from=ann@mail.example", "ann@mail.example=1", "newsletter=ann@mail.example"]
)
def test_a_query_is_not_repeated(site: Site, query: str) -> None:
    """What was sent may be anything; a problem says only what to do about it."""
    assert problem(site.say("GET", f"/editions?{query}")) == (422, "blank")


def test_members_newsletters_are_not_published(site: Site) -> None:
    """A newsletter without free readers is in no list, even if somebody stored a free rendering."""
    members = [one.slug for one in the_catalogue().newsletters if "free" not in one.audience.classes]
    for slug in members:
        put(site.house.engine, slug, "2026-11-12", "For members")

    answers = [site.say("GET", f"/editions/{slug}/2026-11-12") for slug in members]

    assert site.say("GET", "/editions").json() == {"editions": [], "next": None}
    assert all(problem(one) == (404, "blank") for one in answers)


def test_who_left_by_their_own_link_is_seen(site: Site) -> None:
    """The program reads what readers did elsewhere."""
    reader = site.add().json()["id"]
    leave(site.house.engine, reader, "today", now=NOW, how="one-click")

    told = site.say("GET", f"/subscribers/{reader}").json()

    assert told["newsletters"][0]["state"] == "left"
    assert told["suppressed"] == [{"scope": "today", "reason": "unsubscribed"}]
