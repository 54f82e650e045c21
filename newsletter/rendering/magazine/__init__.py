"""
The weekly as something to keep: the same snapshot, gated for paying readers, as a PDF and as an EPUB.

Its libraries and fonts are the extra ``[magazine]``; nothing of them is imported before a file is made.
"""

from __future__ import annotations

from importlib.util import find_spec

LIBRARIES = ("weasyprint", "ebooklib", "font_source_serif_pro", "font_source_sans_pro")


def is_installed() -> bool:
    """Whether magazines can be made here."""
    return all(find_spec(name) for name in LIBRARIES)
