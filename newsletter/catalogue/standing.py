"""The catalogue as its files stand now: looking costs a few file times, reading happens when they changed."""

from __future__ import annotations

import threading
from pathlib import Path

from newsletter.catalogue import Catalogue, load_catalogue


class Standing:
    """Holds a catalogue and reads it again when its files have changed; may be asked from any thread."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self._seen = _written(catalogue.root)
        self._lock = threading.Lock()

    def look(self) -> Catalogue:
        """
        The catalogue of now.

        Raises:
            CatalogueError: a changed file cannot be used; the last good one stays in ``catalogue``.
        """
        with self._lock:
            seen = _written(self.catalogue.root)
            if seen != self._seen:
                self.catalogue = load_catalogue(self.catalogue.root)
                self._seen = seen
            return self.catalogue


def _written(root: Path) -> dict[str, tuple[int, int]]:
    """When each file of a catalogue was written, and how long it is."""
    found = {}
    for path in (root / "publication.toml", *root.glob("*/newsletter.toml")):
        try:
            told = path.stat()
        except FileNotFoundError:  # taken away between the two looks: not there
            continue
        found[str(path)] = (told.st_mtime_ns, told.st_size)
    return found
