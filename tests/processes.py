"""
Processes of ours that begin at once: forked from one that has imported everything.

To start Python and import the program takes a second of processor time, and the tests start hundreds. What is
forked is a process of its own all the same: it has its own environment, folder, output and exit code, and can be
killed, stopped and starved.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    ["tests.processes", "tests.sending", "newsletter.desk.grouping", "newsletter.cli.main"]
)

Main = Callable[[Sequence[str]], int]


class Forked:
    """A process that runs *main* with *arguments*; what it says goes into files, what it hears comes from ``talk``."""

    def __init__(
        self,
        main: Main,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        self._outputs = [_a_file(), _a_file()]
        self._talk, theirs = _FORKS.Pipe()
        self._process = _FORKS.Process(
            target=_enter,
            args=(
                main,
                list(arguments),
                dict(environment or os.environ),
                folder or Path.cwd(),
                self._outputs,
                theirs,
            ),
        )
        self._process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        """The exit code (negative: the signal it died of), or None while it lives."""
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send a signal, if it lives."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def hear(self) -> str:
        """The next line it says to ``talk``; '' when it has ended."""
        found = b""
        while not found.endswith(b"\n") and (byte := os.read(self._talk.fileno(), 1)):
            found += byte
        return found.decode()

    def tell(self, line: str) -> None:
        """Say a line to its standard input."""
        os.write(self._talk.fileno(), line.encode())

    def wait(self, timeout: float | None = None) -> int:
        """
        Wait for its end; return the exit code.

        Raises:
            TimeoutExpired: it still lives.
        """
        self._process.join(timeout)
        code = self.poll()
        if code is None:
            raise TimeoutExpired("a forked process", timeout or 0.0)
        return code

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for its end; return what it said on standard output and standard error."""
        self.wait(timeout)
        said, complained = (path.read_text() if path.exists() else "" for path in self._outputs)
        for path in self._outputs:
            path.unlink(missing_ok=True)
        self._talk.close()
        return said, complained

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


def newsletter_command(
    *arguments: str, environment: Mapping[str, str] | None = None, folder: Path | None = None
) -> Forked:
    """``newsletter`` with *arguments*, begun."""
    return Forked(_newsletter, arguments, environment=environment, folder=folder)


def newsletter(
    *arguments: str, environment: Mapping[str, str] | None = None, folder: Path | None = None
) -> CompletedProcess[str]:
    """``newsletter`` with *arguments*, done."""
    process = newsletter_command(*arguments, environment=environment, folder=folder)
    said, complained = process.communicate(timeout=600)
    return CompletedProcess(["newsletter", *arguments], process.poll() or 0, said, complained)


def _newsletter(arguments: Sequence[str]) -> int:
    from newsletter.cli.main import main

    sys.argv = ["newsletter", *arguments]
    main()
    return 0


def _a_file() -> Path:
    handle, name = tempfile.mkstemp(prefix="said-")
    os.close(handle)
    return Path(name)


def _enter(
    main: Main,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    folder: Path,
    outputs: Sequence[Path],
    talk: Connection,
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    os.dup2(talk.fileno(), 0)
    sys.stdin = os.fdopen(0, closefd=False)
    for number, path in enumerate(outputs, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
    sys.exit(main(arguments))
