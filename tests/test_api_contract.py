"""The contract of ``/api/v1``: the document is sound, and no request that can be made from it breaks it."""

from __future__ import annotations

import os
import uuid
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from sqlalchemy import Engine

from newsletter.audience.enrolling import Consent, Enrolment, enrol
from newsletter.audience.programs import Scope, make_token
from newsletter.settings import Keys
from newsletter.web.api import problems
from tests.builders import ask, the_catalogue
from tests.visiting import House, Moment

NOW = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)
CHECKS = [
    not_a_server_error, status_code_conformance, content_type_conformance, response_headers_conformance,
    response_schema_conformance, allow_header_conformance,
]  # fmt: skip
HOST = {"Host": "127.0.0.1:8000"}
SOUND: dict[str, Any] = {
    "newsletters": ["today", "planet"], "newsletter": "today", "plan": "annual", "country": "FR",
    "timezone": "Europe/Paris", "plan_until": "2027-01-31T12:00:00Z",
}  # fmt: skip
MORE = int(os.environ.get("CONTRACT_EXAMPLES", "1"))  # for a longer look: so many times as many
EXAMPLES = {GenerationMode.POSITIVE: 12 * MORE, GenerationMode.NEGATIVE: 8 * MORE}


@pytest.fixture
def house(engine: Engine, keys: Keys, tmp_path: Path) -> House:
    """The pages and the API over an empty database."""
    return House(engine, keys, tmp_path / "mails", Moment(NOW))


def test_the_document_is_sound(house: House) -> None:
    """OpenAPI 3.1 by its own validator; everybody may read it; every operation says its scope and its problems."""
    answer = ask(house.app, "GET", "/api/v1/openapi.json")

    document = answer.json()
    operations = [one for path in document["paths"].values() for one in path.values()]
    assert answer.status_code == 200 and answer.headers["content-type"] == "application/json"
    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []
    assert {scope for one in operations for part in one["security"] for scope in part["token"]} == set(Scope)
    assert all({"401", "403", "429", "500", "503"} <= set(one["responses"]) for one in operations)
    assert all(
        list(told["content"]) == [problems.MEDIA_TYPE]
        for one in operations
        for status, told in one["responses"].items()
        if status >= "400"
    )


def test_the_document_names_the_prefix(engine: Engine, keys: Keys, tmp_path: Path) -> None:
    """Its server is where programs reach us, below a path of the publisher's too."""
    house = House(engine, keys, tmp_path, Moment(NOW), base_url="https://example.org/news")

    for path in ("/news/api/v1/openapi.json", "/api/v1/openapi.json"):
        document = ask(house.app, "GET", path, headers={"Host": "example.org"}).json()
        assert document["servers"] == [{"url": "https://example.org/news/api/v1"}]


@pytest.mark.parametrize("mode", list(EXAMPLES), ids=lambda mode: mode.value)
def test_no_request_breaks_the_contract(house: House, keys: Keys, mode: GenerationMode) -> None:
    """Sound and unsound requests of every operation: never 5xx, and each answer is as the document says."""
    token = make_token(house.engine, "contract", Scope, now=NOW)
    schema = schemathesis.openapi.from_asgi("/api/v1/openapi.json", house.app, headers=HOST)
    seen: Counter[int] = Counter()
    for number, result in enumerate(schema.get_all_operations()):
        operation = result.ok()
        reader = a_reader(house, keys, f"reader{number}@mail.example")
        known = {"id": reader} if "{id}" in operation.path else None

        @settings(
            max_examples=EXAMPLES[mode], derandomize=True, database=None, deadline=None, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(
            case=st.one_of(
                operation.as_strategy(generation_mode=mode),
                operation.as_strategy(generation_mode=mode, path_parameters=known),
            ),
            mended=st.booleans(),
        )
        def try_it(case: Case, mended: bool) -> None:
            if mended:
                mend(case)
            response = case.call(headers={**HOST, "Authorization": f"Bearer {token}"})
            seen[response.status_code] += 1
            case.validate_response(response, checks=CHECKS)

        try_it()

    assert max(seen) < 500 and seen[422] > 0
    if mode == GenerationMode.POSITIVE:
        assert {200, 201, 204, 404} <= set(seen)


def a_reader(house: House, keys: Keys, address: str) -> str:
    """Somebody whom programs know."""
    given_ = Enrolment(("today",), "/", Consent("Yes", "https://site.example/", NOW))
    return enrol(
        house.engine, address, given_, publication=the_catalogue().publication, keys=keys, now=NOW
    ).reader


def mend(case: Case) -> None:
    """Name what there is, which no generator can guess, and somebody new."""
    body: Any = case.body
    if not isinstance(body, dict):
        return
    body.update({name: value for name, value in SOUND.items() if name in body})
    if "newsletters" in body:
        body["email"] = f"{uuid.uuid4().hex}@mail.example"
    consent = body.get("consent")
    if isinstance(consent, dict) and isinstance(consent.get("given"), dict):
        consent["given"] = {"words": "Yes", "page": "https://site.example/join", "at": "2026-11-20T08:00:00Z"}
