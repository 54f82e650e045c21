"""Run an ASGI application until SIGTERM; the log holds no path, because paths hold tokens."""

from __future__ import annotations

import signal
import sys
from types import FrameType

import uvicorn
from starlette.types import ASGIApp


def serve(app: ASGIApp, *, host: str, port: int, lives: bool = False, grace_seconds: int = 10) -> None:
    """
    Serve *app*; on SIGTERM or Ctrl-C finish what is being answered, then end with exit code 0.

    *lives*: it has something to start before and to stop after.
    """
    signal.signal(signal.SIGTERM, _end)
    uvicorn.run(
        app, host=host, port=port, log_level="warning", access_log=False, server_header=False, proxy_headers=False,
        timeout_graceful_shutdown=grace_seconds, lifespan="on" if lives else "off",
    )  # fmt: skip


def _end(_number: int, _frame: FrameType | None) -> None:
    """Uvicorn raises the signal once more when it has finished, for whoever listened before it."""
    sys.exit(0)
