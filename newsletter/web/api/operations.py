"""What an operation is, what its handler is handed and what it hands back. Values only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from starlette.background import BackgroundTask

from newsletter.audience.programs import Program, Scope
from newsletter.audience.repeats import Outcome
from newsletter.web.api.models import Told


@dataclass(frozen=True, slots=True)
class Call:
    """
    A request that may be answered: *asked* is the body or the query as the operation's model read it.

    *path*: the parts of the path by name.
    """

    program: Program
    now: datetime
    path: Mapping[str, str]
    asked: Any = None


@dataclass(frozen=True, slots=True)
class Reply:
    """
    What a handler answers. *kept* is what a repeated request is answered from; it holds no address.

    *then* is done once the answer has gone.
    """

    kept: Outcome
    told: Told | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    then: BackgroundTask | None = None


Handler = Callable[[Call], Reply]


@dataclass(frozen=True, slots=True)
class Operation:
    """
    One thing a program can do; routes and OpenAPI document are made from the same of these.

    *answers* and *problems* are the statuses there are besides those that every operation may answer with.
    Every operation that writes takes an ``Idempotency-Key``.
    """

    name: str
    method: str
    path: str
    summary: str
    scope: Scope
    handler: Handler
    answers: Mapping[int, type[Told] | None]
    body: type[Any] | None = None
    query: type[Any] | None = None
    problems: tuple[int, ...] = ()

    @property
    def writes(self) -> bool:
        """Whether it changes anything."""
        return self.scope == Scope.SUBSCRIBERS_WRITE
