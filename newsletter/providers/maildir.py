"""The provider for trying out: every mail becomes a file that any mail program opens; none leaves."""

from __future__ import annotations

import os
import re
import secrets
from contextlib import suppress
from functools import partial
from hashlib import blake2b
from pathlib import Path

from newsletter.providers import Accepted, Envelope, Outcome, Ready, Refused, SendsAtOnce, Uncertain
from newsletter.providers.message import Letter, fault, to_bytes

_EDITION = re.compile(r"(?P<slug>[a-z0-9][a-z0-9-]*)\.(?P<day>\d{4}-\d{2}-\d{2})\.(?P<revision>\d+)")


class Maildir(SendsAtOnce):
    """
    Writes ``<root>/<edition date>/<slug>/<reader>.eml`` (``.r<n>.eml`` from revision 2).

    A second attempt at the same edition and reader writes the same bytes over the same file.
    """

    name = "maildir"
    max_recipients = 1000

    def __init__(self, root: Path) -> None:
        self.root = root

    def prepare(self, envelope: Envelope) -> Ready:
        """Nothing can be done before the files are written."""
        return partial(self.submit, envelope)

    def submit(self, envelope: Envelope) -> Outcome:
        """
        Write one file a reader, all or none; a file is never seen half written.

        The folder is flushed to disk once, the files are not: 300 take well under a second.
        """
        refused = fault(envelope)
        if refused is not None:
            return refused
        letter = Letter(envelope)
        folder, suffix = _place(envelope)
        names = [f"{_safe(recipient.reader)}{suffix}" for recipient in envelope.recipients]
        if len({name.casefold() for name in names}) < len(names):
            return Refused("One reader stands twice in this batch.", split=True)
        folder = self.root / folder
        mark = secrets.token_hex(4)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, recipient in zip(names, envelope.recipients, strict=True):
                (folder / f".{name}.{mark}").write_bytes(to_bytes(letter.to(recipient)))
        except OSError as error:
            _remove([folder / f".{name}.{mark}" for name in names])
            return _refusal(folder, error)
        return self._put_in_place(folder, names, mark)

    def _put_in_place(self, folder: Path, names: list[str], mark: str) -> Outcome:
        made: list[Path] = []
        try:
            for name in names:
                is_new = not (folder / name).exists()
                (folder / f".{name}.{mark}").replace(folder / name)
                if is_new:
                    made.append(folder / name)
            _flush(folder)
        except OSError as error:
            leftovers = [folder / f".{name}.{mark}" for name in names]
            if _remove([*made, *leftovers]):
                return _refusal(folder, error)
            return Uncertain(f"Some mails of this batch may lie in {folder} ({error.strerror}); look there.")
        return Accepted(f"maildir:{len(names)}")

    def problems(self) -> list[str]:
        """Say that nothing leaves this machine, and whether the folder can be written."""
        found = [
            f"No real mail leaves with the provider maildir: it writes files into {self.root}. "
            "For a real send set NEWSLETTER_PROVIDER=sendgrid or smtp."
        ]
        there = next(
            (path for path in (self.root, *self.root.absolute().parents) if path.exists()), Path("/")
        )
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            found.append(
                f"The folder {self.root} cannot be written; check NEWSLETTER_OUTBOX and its permissions."
            )
        return found


def _place(envelope: Envelope) -> tuple[Path, str]:
    """Return the folder below the root and how the file names end."""
    edition = _EDITION.fullmatch(envelope.edition)
    if edition is None:  # a mail of the system (a confirmation, an alarm): there may be many a day
        folder = Path(envelope.dated_at.date().isoformat(), _safe(envelope.edition))
        return folder, f".{_safe(envelope.batch)}.eml"
    revision = int(edition["revision"])
    return Path(edition["day"], edition["slug"]), ".eml" if revision <= 1 else f".r{revision}.eml"


def _safe(name: str) -> str:
    """Return *name* as a file name; a changed or cut one gets a digest, so that no two meet."""
    safe = re.sub(r"[^A-Za-z0-9_.-]", "_", name).lstrip(".")[:80]
    if safe == name and safe:
        return safe
    return f"{safe}-{blake2b(name.encode('utf-8', 'replace'), digest_size=6).hexdigest()}"


def _flush(folder: Path) -> None:
    """Make the names durable; not every system can open a folder."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(paths: list[Path]) -> bool:
    """Remove what is there of *paths*; whether nothing is left."""
    for path in paths:
        with suppress(OSError):
            path.unlink(missing_ok=True)
    return not any(os.path.lexists(path) for path in paths)


def _refusal(folder: Path, error: OSError) -> Refused:
    return Refused(f"No mail could be written into {folder}: {error.strerror or error}.", stop_run=True)
