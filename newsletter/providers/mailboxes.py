"""Mail that lies in files: a Maildir, an mbox, a folder of .eml files, one message."""

from __future__ import annotations

import mailbox
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from newsletter.errors import SourceError

LARGEST_BYTES = 1_000_000
"""What is larger is passed over: a report holds at most the mail it is about, and ours are a tenth of that."""


@dataclass(frozen=True, slots=True)
class Found:
    """A message as it lies there; *path* is its own file, where it has one."""

    raw: bytes
    path: Path | None = None


def unread(source: Path) -> Iterator[Found]:
    """
    Yield the messages of *source*, oldest name first; of a Maildir those without the mark of a read one.

    Raises:
        SourceError: nothing is there, or it cannot be read.
    """
    try:
        if (source / "cur").is_dir() or (source / "new").is_dir():
            yield from _of_maildir(source)
        elif source.is_dir():
            yield from _of_files(sorted(source.glob("*.eml")))
        elif _is_mbox(source):
            box = mailbox.mbox(source, create=False)
            try:
                for key in box.iterkeys():
                    if len(raw := box.get_bytes(key)) <= LARGEST_BYTES:
                        yield Found(raw)
            finally:
                box.close()
        else:
            yield from _of_files([source])
    except OSError as error:
        raise SourceError(
            f"Mails cannot be read from {source} ({error.strerror or error}): name a Maildir, an mbox or a folder of .eml files.",
            source=str(source),
        ) from None


def mark_read(found: Found) -> None:
    """
    Move a message of a Maildir to those that were read; others stay as they are.

    Raises:
        SourceError: it cannot be moved.
    """
    path = found.path
    if path is None or path.parent.name not in ("new", "cur"):
        return
    name, _, flags = path.name.partition(":2,")
    try:
        path.rename(path.parents[1] / "cur" / f"{name}:2,{''.join(sorted({*flags, 'S'}))}")
    except FileNotFoundError:
        pass  # another program has moved it meanwhile
    except OSError as error:
        raise SourceError(
            f"What was read in {path.parents[1]} cannot be marked ({error.strerror}): make it writable.",
            source=str(path.parents[1]),
        ) from None


def _of_maildir(source: Path) -> Iterator[Found]:
    for part in ("new", "cur"):
        folder = source / part
        names = sorted(folder.iterdir()) if folder.is_dir() else []
        fresh = (path for path in names if "S" not in path.name.partition(":2,")[2])
        yield from _of_files(path for path in fresh if not path.name.startswith("."))


def _of_files(paths: Iterator[Path] | list[Path]) -> Iterator[Found]:
    for path in paths:
        try:
            raw = path.read_bytes() if path.stat().st_size <= LARGEST_BYTES else b""
        except FileNotFoundError:
            if isinstance(paths, list):
                raise
            continue  # of a Maildir: another program has moved it meanwhile
        if raw:
            yield Found(raw, path)


def _is_mbox(source: Path) -> bool:
    with source.open("rb") as file:
        return file.read(5) == b"From "
