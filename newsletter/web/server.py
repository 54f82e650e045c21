"""Run an ASGI application until SIGTERM; the log holds no path, because paths hold tokens."""

from __future__ import annotations

import uvicorn
from starlette.types import ASGIApp


def serve(app: ASGIApp, *, host: str, port: int, lives: bool = False, grace_seconds: int = 10) -> None:
    """
    Serve *app*; on SIGTERM or Ctrl-C finish what is being answered, then return.

    *lives*: it has something to start before and to stop after.
    """
    uvicorn.run(
        app, host=host, port=port, log_level="warning", access_log=False, server_header=False, proxy_headers=False,
        timeout_graceful_shutdown=grace_seconds, lifespan="on" if lives else "off",
    )  # fmt: skip
