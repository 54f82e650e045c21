"""
What goes wrong, as ``application/problem+json`` (RFC 9457).

A problem says what to do about it, and never repeats what was sent: no address, no token, no value.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus

from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from newsletter.audience.enrolling import Suppressed
from newsletter.web.api.models import FieldFault, ProblemTold, SuppressionTold

MEDIA_TYPE = "application/problem+json"
BLANK = "about:blank"
"""The type of a problem that its status says all about (RFC 9457 4.2.1)."""

OURS = "urn:problem-type:newsletter:"

SENTENCES: Mapping[int, str] = {
    400: "The body is not JSON.",
    401: "Send the token of your program in the header Authorization: Bearer nlt_…",
    403: "Your program's token does not allow this.",
    404: "There is nothing here.",
    405: "This cannot be done here; the header Allow says what can.",
    408: "The body did not come in time. Send the request again.",
    409: "This cannot be done as things stand.",
    410: "The subscriber this was about was erased since.",
    413: "The body is too large.",
    415: "Send the body as application/json.",
    422: "Some of what was sent cannot be used; errors says what.",
    429: "Your program asks too often. Wait as many seconds as the header Retry-After says.",
    500: "Something failed that nobody foresaw. What was asked for may not have been done.",
    503: "The database does not answer. Nothing was changed; try again in a minute.",
}
_FIELD = re.compile(r"[a-z_]{1,40}")


class Problem(Exception):
    """An answer that is a problem; raised by handlers, made into a response by ``respond``."""

    def __init__(
        self,
        status: int,
        detail: str = "",
        *,
        kind: str = "",
        title: str = "",
        headers: Mapping[str, str] | None = None,
        errors: Iterable[FieldFault] = (),
        reader: str = "",
        suppressed: Iterable[SuppressionTold] = (),
    ) -> None:
        super().__init__(status)
        self.headers = dict(headers or {})
        self.told = ProblemTold(
            type=OURS + kind if kind else BLANK,
            title=title or HTTPStatus(status).phrase,
            status=status,
            detail=detail or SENTENCES.get(status, HTTPStatus(status).description),
            errors=list(errors) or None,
            id=reader or None,
            suppressed=list(suppressed) or None,
        )


def respond(told: ProblemTold, headers: Mapping[str, str] | None = None) -> Response:
    """The response of a problem."""
    content = told.model_dump(mode="json", exclude_none=True)
    return JSONResponse(content, told.status, headers=headers, media_type=MEDIA_TYPE)


async def raised(_request: Request, error: Exception) -> Response:
    """A ``Problem`` on its way out."""
    return respond(error.told, error.headers) if isinstance(error, Problem) else failed()


async def refused(_request: Request, error: Exception) -> Response:
    """What the framework or a guard refuses: no such path, no such method, too large."""
    if not isinstance(error, HTTPException):
        return failed()
    return respond(Problem(error.status_code).told, error.headers)


async def unavailable(_request: Request, _error: Exception) -> Response:
    """The database does not answer."""
    return respond(Problem(503).told, {"Retry-After": "60"})


async def unforeseen(_request: Request, _error: Exception) -> Response:
    """Anything else; the guard logs where it was."""
    return failed()


def failed() -> Response:
    """What nobody foresaw."""
    return respond(Problem(500).told)


def known(reader: str) -> Problem:
    """The address is a subscriber's already."""
    detail = "This address is a subscriber already; id says which. Change that one instead."
    return Problem(409, detail, kind="known", title="Known already", reader=reader)


def barred(error: Suppressed) -> Problem:
    """The address must not be mailed."""
    soft = all(reason in ("unsubscribed", "erased") for reason in error.scopes.values())
    more = (
        ' Only they can undo it: send "consent": {"ask": true}, and they are asked by mail.' if soft else ""
    )
    return Problem(
        409, f"This address must not be mailed, as suppressed says; nothing was changed.{more}", kind="suppressed",
        title="Must not be mailed",
        suppressed=[SuppressionTold(scope=scope, reason=reason) for scope, reason in sorted(error.scopes.items())],
    )  # fmt: skip


def unusable(pointer: str, detail: str) -> Problem:
    """One value of the body that cannot be used, at *pointer* (``/plan``)."""
    return Problem(422, errors=[FieldFault(detail=detail, pointer=f"#{pointer}")])


def invalid(error: ValidationError, *, of_query: bool = False) -> Problem:
    """What a model does not take; 400 when it is not even JSON."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    if any(one["type"] == "json_invalid" for one in found):
        return Problem(400)
    faults = []
    for one in found:
        names = [str(part) for part in one["loc"]]
        if one["type"] == "extra_forbidden":
            names, message = _without_strangers(names), "There is no field of this name."
        else:
            message = one["msg"].removeprefix("Value error, ")
            message = message if message.endswith(".") else f"{message}."
        if of_query:
            faults.append(FieldFault(detail=message, parameter=".".join(names) or None))
        else:
            faults.append(FieldFault(detail=message, pointer="#" + "".join(f"/{name}" for name in names)))
    return Problem(422, errors=faults)


def _without_strangers(names: list[str]) -> list[str]:
    """A name that we do not know is repeated only if it looks like a field: anything may stand there."""
    return names if _FIELD.fullmatch(names[-1]) else names[:-1]
