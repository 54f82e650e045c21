"""
What stands before every operation: the token, its scope, the limit, the body's shape, and the key of a repeat.

The API is an application within the application, so that nothing below ``/api`` is answered by a page.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime, timedelta

import structlog
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from newsletter.audience.limits import Knock, Limit, knock
from newsletter.audience.programs import Program, find_program
from newsletter.audience.repeats import (
    Claim,
    InFlight,
    OtherRequest,
    Outcome,
    claim,
    claim_of,
    release,
    settle,
)
from newsletter.web.api import problems
from newsletter.web.api.models import ProblemTold
from newsletter.web.api.openapi import document
from newsletter.web.api.operations import Call, Operation, Reply
from newsletter.web.api.problems import Problem
from newsletter.web.api.publishing import Publishing
from newsletter.web.api.subscribers import Subscribers
from newsletter.web.door import Door
from newsletter.web.forms import READ_SECONDS

READS = Limit("read by the api", 1200, timedelta(minutes=1))
WRITES = Limit("write by the api", 600, timedelta(minutes=1))
"""A token at most so often. Whoever has more to write has a file to import."""

REALM = 'Bearer realm="newsletter"'
_KEY = re.compile(r"[!-~]{1,255}")
log = structlog.get_logger()


class Api:
    """``/api`` of one installation."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self.subscribers = Subscribers(door)
        operations = [*self.subscribers.operations(), *Publishing(door).operations()]
        self._document = document(operations, door.catalogue.publication.name, door.settings.base_url)
        app = Starlette(
            routes=[Route("/v1/openapi.json", self.describe, methods=["GET"]), *self._routes(operations)],
            exception_handlers={
                Problem: problems.raised,
                HTTPException: problems.refused,
                SQLAlchemyError: problems.unavailable,
                Exception: problems.unforeseen,
            },
        )
        app.router.redirect_slashes = False
        self.app = app

    def routes(self) -> list[BaseRoute]:
        """The routes of this room."""
        return [Mount("/api", app=self.app)]

    def _routes(self, operations: Iterable[Operation]) -> list[BaseRoute]:
        """One route a path, so that its 405 names every method there is."""
        by_path: dict[str, dict[str, Operation]] = {}
        for one in operations:
            by_path.setdefault(one.path, {})[one.method] = one
        return [
            Route(path, Endpoint(self, methods).answer, methods=list(methods))
            for path, methods in by_path.items()
        ]

    async def describe(self, _request: Request) -> Response:
        """``/api/v1/openapi.json``: what there is; for everybody, for it says nothing of anybody."""
        return JSONResponse(self._document)

    def admit(self, request: Request, operation: Operation, now: datetime) -> Program:
        """
        The program that asks, if it may.

        Wrong tokens are not counted: a guess costs one look, a count would cost a write.

        Raises:
            Problem: 401, 403 or 429.
        """
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            raise Problem(401, headers={"WWW-Authenticate": REALM})
        program = find_program(self.door.engine, secret.strip())
        if program is None:
            told = "This token is not one of ours, or it was revoked."
            raise Problem(401, told, headers={"WWW-Authenticate": f'{REALM}, error="invalid_token"'})
        if operation.scope not in program.scopes:
            challenge = f'{REALM}, error="insufficient_scope", scope="{operation.scope}"'
            raise Problem(403, f"This needs a token with the scope {operation.scope}.", kind="scope",
                          title="Scope missing", headers={"WWW-Authenticate": challenge})  # fmt: skip
        limit = WRITES if operation.writes else READS
        if knock(self.door.engine, [Knock(limit, str(program.token_id))], keys=self.door.keys, now=now):
            seconds = int(limit.per.total_seconds())
            wait = seconds - int(now.timestamp()) % seconds
            raise Problem(429, headers={"Retry-After": str(wait)})
        return program

    def once(self, operation: Operation, call: Call, key: str, parts: tuple[bytes, ...]) -> Response:
        """
        Do what is asked, or say again what came of it when it was done with the same key.

        Raises:
            Problem: the key was used otherwise, or its first request is not done.
        """
        wanted = claim_of(call.program.token_id, key, *parts, keys=self.door.keys)
        try:
            done = claim(self.door.engine, wanted, now=call.now)
        except OtherRequest:
            raise Problem(422, "This Idempotency-Key was used for another request; take a new one.",
                          kind="key-reused", title="Key used before") from None  # fmt: skip
        except InFlight:
            raise Problem(409, "The first request with this Idempotency-Key is not done yet; send it again in a moment.",
                          kind="in-flight", title="Being done", headers={"Retry-After": "1"}) from None  # fmt: skip
        if done is not None:
            return self._again(call, done)
        try:
            return self._first(operation, call, wanted)
        except BaseException:
            with suppress(SQLAlchemyError):
                release(self.door.engine, wanted)  # keeps what is settled
            raise

    def _first(self, operation: Operation, call: Call, wanted: Claim) -> Response:
        try:
            reply = operation.handler(call)
        except Problem as problem:
            if problem.told.status == 429:  # says nothing of the request, which may be sent again
                raise
            told = problem.told.model_dump(mode="json", exclude_none=True)
            settle(self.door.engine, wanted, Outcome(problem.told.status, answer=told))
            raise
        settle(self.door.engine, wanted, reply.kept)
        return _response(reply)

    def _again(self, call: Call, done: Outcome) -> Response:
        """The answer of a request that was done: about a subscriber as they are now."""
        replayed = {"Idempotency-Replayed": "true"}
        if done.status >= 400:
            return problems.respond(ProblemTold.model_validate(done.answer), replayed)
        if done.status == 204:
            return Response(status_code=204, headers=replayed)
        try:
            reply = self.subscribers.reply(call, done)
        except Problem:
            raise Problem(410, headers=replayed) from None
        response = _response(reply)
        response.headers.update(replayed)
        return response


class Endpoint:
    """One path: its operations by method."""

    def __init__(self, api: Api, operations: dict[str, Operation]) -> None:
        self.api, self.operations = api, operations

    async def answer(self, request: Request) -> Response:
        """Answer one request."""
        operation = self.operations["GET" if request.method == "HEAD" else request.method]
        now = self.api.door.clock()
        program = await run_in_threadpool(self.api.admit, request, operation, now)
        key = _key_of(request) if operation.writes else ""
        body = await _read(request) if operation.body else b""
        call = Call(program, now, request.path_params, _asked(operation, request, body))
        if key:
            parts = (request.method.encode(), request.url.path.encode(), body)
            response = await run_in_threadpool(self.api.once, operation, call, key, parts)
        else:
            response = _response(await run_in_threadpool(operation.handler, call))
        if operation.writes:
            log.info(
                "api.written", program=program.name, operation=operation.name, status=response.status_code
            )
        return response


def _response(reply: Reply) -> Response:
    if reply.told is None:
        return Response(status_code=reply.kept.status, headers=dict(reply.headers), background=reply.then)
    content = reply.told.model_dump(mode="json", by_alias=True)
    return JSONResponse(content, reply.kept.status, headers=dict(reply.headers), background=reply.then)


def _key_of(request: Request) -> str:
    """The key of a request, or ''; any printable ASCII, such as a UUID."""
    given = request.headers.getlist("idempotency-key")
    if not given:
        return ""
    if len(given) != 1 or not _KEY.fullmatch(given[0]):
        raise Problem(400, "An Idempotency-Key is one word of at most 255 printable ASCII characters.")
    return given[0]


async def _read(request: Request) -> bytes:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Problem(415)
    try:
        async with asyncio.timeout(READ_SECONDS):
            return await request.body()
    except TimeoutError:
        raise Problem(408) from None


def _asked(operation: Operation, request: Request, body: bytes) -> object:
    """
    The body or the query as the operation's model reads it.

    Raises:
        Problem: 400 or 422.
    """
    try:
        if operation.body is not None:
            return operation.body.model_validate_json(body)
        if operation.query is not None:
            return operation.query.model_validate(dict(request.query_params))
    except ValidationError as error:
        raise problems.invalid(error, of_query=operation.query is not None) from None
    return None
