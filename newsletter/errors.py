"""
Everything this package raises on purpose.

NewsletterError
├── SettingsError        the environment or .env is unusable            (ValueError)
├── CatalogueError       a file under templates/ is wrong: file, field   (ValueError)
├── WordingError         an editor's words cannot be used: file, field   (ValueError)
├── SourceError          a feed cannot be read                           (ValueError)
├── ImportFileError      a subscriber file cannot be read at all         (ValueError)
├── TemplateError        a template does not render or compile           (ValueError)
├── ThinDay              too few stories for an honest edition
├── ProofFailed          findings of severity error block the edition
├── StateError           an order that the edition's state does not allow
│   └── OrderConflict    somebody gave another order on the same thing meanwhile
├── NotFound             no such newsletter, edition, reader, batch      (LookupError)
├── TokenError           a link token that we did not sign               (ValueError)
├── StoreError           the database cannot be used as it is
└── ProviderError        the provider refuses us as a whole (key, sender)

``str(error)`` is a sentence for an editor or operator: what, where, what to do.
No error carries an address, a token or a key.
"""

from __future__ import annotations


class NewsletterError(Exception):
    """Base of all errors of this package."""


class SettingsError(NewsletterError, ValueError):
    """The environment or ``.env`` is unusable."""


class CatalogueError(NewsletterError, ValueError):
    """A file under ``templates/`` is wrong; names file and field."""

    def __init__(self, message: str, *, file: str = "", field: str = "") -> None:
        super().__init__(message)
        self.file = file
        self.field = field


class WordingError(NewsletterError, ValueError):
    """An editor's words cannot be used; names file and field."""

    def __init__(self, message: str, *, file: str = "", field: str = "") -> None:
        super().__init__(message)
        self.file = file
        self.field = field


class SourceError(NewsletterError, ValueError):
    """A source cannot be read; *source* is its URL or path as given."""

    def __init__(self, message: str, *, source: str = "") -> None:
        super().__init__(message)
        self.source = source


class ImportFileError(NewsletterError, ValueError):
    """A subscriber file cannot be read at all (single bad rows are listed, not raised)."""


class TemplateError(NewsletterError, ValueError):
    """
    A template does not render or compile; *template* and *line* are where it was written, *story* is the
    headline of the story that was being set.
    """

    def __init__(self, message: str, *, template: str = "", line: int = 0, story: str = "") -> None:
        super().__init__(message)
        self.template = template
        self.line = line
        self.story = story


class ThinDay(NewsletterError):
    """There are too few stories for an honest edition."""


class ProofFailed(NewsletterError):
    """Findings of severity error block the edition."""


class StateError(NewsletterError):
    """The edition's state does not allow what was asked."""


class OrderConflict(StateError):
    """Somebody gave another order on the same thing meanwhile; *theirs* are the ids of those orders."""

    def __init__(self, message: str, *, theirs: tuple[int, ...] = ()) -> None:
        super().__init__(message)
        self.theirs = theirs


class NotFound(NewsletterError, LookupError):
    """There is no such newsletter, edition, reader or batch."""


class TokenError(NewsletterError, ValueError):
    """A link token that we did not sign, or that is for something else."""


class StoreError(NewsletterError):
    """The database cannot be used as it is."""


class ProviderError(NewsletterError):
    """The provider refuses us as a whole: key, permission, sender."""
