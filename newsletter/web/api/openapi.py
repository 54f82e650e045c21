"""The OpenAPI 3.1 document of the API, made from the same operations and models that answer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from newsletter.web.api.models import ProblemTold
from newsletter.web.api.operations import Operation
from newsletter.web.api.problems import MEDIA_TYPE, SENTENCES

VERSION = "1.0.0"
_ALWAYS = (401, 403, 405, 429, 500, 503)
_WITH_BODY = (400, 408, 413, 415, 422)
_REF = "#/components/schemas/{model}"
_PATH_SCHEMAS: Mapping[str, dict[str, Any]] = {
    "id": {"type": "string", "pattern": "^[0-9a-f]{24}$"},
    "newsletter": {"type": "string", "pattern": "^[a-z0-9][a-z0-9-]*$", "maxLength": 64},
    "date": {"type": "string", "format": "date"},
}
_KEY: dict[str, Any] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "One word of your choice for this request. Sent again within 24 hours with the same key, it is not done again.",
    "schema": {"type": "string", "pattern": "^[!-~]+$", "minLength": 1, "maxLength": 255},
}
_HEADERS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "Location": ("Where the subscriber can be read.", {"type": "string", "format": "uri"}),
    "Idempotency-Replayed": ("The request had been done before; nothing was changed.", {"const": "true"}),
    "Retry-After": ("Seconds to wait.", {"type": "string", "pattern": "^[0-9]+$"}),
    "WWW-Authenticate": ("What is missing (RFC 6750).", {"type": "string"}),
    "Allow": ("What can be done here.", {"type": "string"}),
}
_HEADERS_OF: Mapping[int, tuple[str, ...]] = {
    201: ("Location",), 401: ("WWW-Authenticate",), 403: ("WWW-Authenticate",), 405: ("Allow",),
    429: ("Retry-After",), 503: ("Retry-After",),
}  # fmt: skip


def document(operations: Sequence[Operation], name: str, base_url: str) -> dict[str, Any]:
    """The document; *name* is the publication's, its server stands at *base_url*."""
    paths: dict[str, dict[str, Any]] = {}
    for one in operations:
        path = one.path.removeprefix("/v1")
        paths.setdefault(path, {})[one.method.lower()] = _operation(one)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"{name}: newsletters",
            "version": VERSION,
            "description": "For the publisher's own programs. Send a token as Authorization: Bearer nlt_…; "
            "problems are application/problem+json (RFC 9457).",
        },
        "servers": [{"url": f"{base_url}/api/v1"}],
        "paths": paths,
        "components": {
            "schemas": _schemas(operations),
            "headers": {
                header: {"description": told, "required": header != "Idempotency-Replayed", "schema": schema}
                for header, (told, schema) in _HEADERS.items()
            },
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(one: Operation) -> dict[str, Any]:
    told: dict[str, Any] = {
        "operationId": one.name,
        "summary": one.summary,
        "tags": [one.scope.partition(":")[0]],
        "security": [{"token": [str(one.scope)]}],
        "responses": {
            **{str(status): _answer(status, model, one) for status, model in one.answers.items()},
            **{str(status): _problem(status, one) for status in _problems(one)},
        },
    }
    parameters = [*_path_parameters(one), *_query_parameters(one), *([_KEY] if one.writes else [])]
    if parameters:
        told["parameters"] = parameters
    if one.body is not None:
        content = {"application/json": {"schema": {"$ref": _REF.format(model=one.body.__name__)}}}
        told["requestBody"] = {"required": True, "content": content}
    return told


def _problems(one: Operation) -> list[int]:
    with_body = _WITH_BODY if one.body is not None else ()
    with_key = (400, 409, 422) if one.writes else ()
    with_query = (422,) if one.query is not None else ()
    return sorted({*_ALWAYS, *with_body, *with_key, *with_query, *one.problems})


def _answer(status: int, model: type[BaseModel] | None, one: Operation) -> dict[str, Any]:
    told: dict[str, Any] = {"description": HTTPStatus(status).phrase, **_headers(status, one)}
    if model is not None:
        told["content"] = {"application/json": {"schema": {"$ref": _REF.format(model=model.__name__)}}}
    return told


def _problem(status: int, one: Operation) -> dict[str, Any]:
    return {
        "description": SENTENCES.get(status, HTTPStatus(status).phrase),
        "content": {MEDIA_TYPE: {"schema": {"$ref": _REF.format(model=ProblemTold.__name__)}}},
        **_headers(status, one),
    }


def _headers(status: int, one: Operation) -> dict[str, Any]:
    names = list(_HEADERS_OF.get(status, ()))
    if one.writes and (status < 300 or status in (404, 409, 410, 422)):
        names.append("Idempotency-Replayed")
    return {"headers": {name: {"$ref": f"#/components/headers/{name}"} for name in names}} if names else {}


def _path_parameters(one: Operation) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": _PATH_SCHEMAS[name]}
        for name in re.findall(r"\{(\w+)\}", one.path)
    ]


def _query_parameters(one: Operation) -> list[dict[str, Any]]:
    if one.query is None:
        return []
    schema = one.query.model_json_schema()
    return [
        {"name": name, "in": "query", "required": False, "schema": _without_null(part)}
        for name, part in schema["properties"].items()
    ]


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter is there or it is not; it is never null."""
    kept = {key: value for key, value in schema.items() if key not in ("title", "anyOf")}
    if kept.get("default", 0) is None:
        del kept["default"]
    one: dict[str, Any] = next((part for part in schema.get("anyOf", ()) if part.get("type") != "null"), {})
    return {**one, **kept}


def _schemas(operations: Iterable[Operation]) -> dict[str, Any]:
    asked: list[type[BaseModel]] = [one.body for one in operations if one.body is not None]
    told: list[type[BaseModel]] = [
        model for one in operations for model in one.answers.values() if model is not None
    ]
    told.append(ProblemTold)
    wanted: list[tuple[type[BaseModel], Any]] = []
    wanted += ((model, "validation") for model in dict.fromkeys(asked))
    wanted += ((model, "serialization") for model in dict.fromkeys(told))
    _, schema = models_json_schema(wanted, ref_template=_REF)
    found: dict[str, Any] = schema["$defs"]
    return found
