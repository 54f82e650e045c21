"""Frozen reader ids as bytes: ascending ids as deltas, deflated (about 1.5 bytes a reader)."""

from __future__ import annotations

import sys
import zlib
from array import array
from collections.abc import Sequence
from itertools import accumulate, islice
from operator import sub


def pack(ids: Sequence[int]) -> bytes:
    """
    Pack *ids*, which must be positive and strictly ascending.

    Raises:
        ValueError: they are not.
    """
    deltas = [ids[0], *map(sub, islice(ids, 1, None), ids)] if ids else []
    if ids and min(deltas) <= 0:
        raise ValueError("reader ids must be positive and strictly ascending")
    packed = array("Q", deltas)
    if sys.byteorder == "big":
        packed.byteswap()
    return zlib.compress(packed.tobytes(), 1)


def unpack(packed: bytes) -> list[int]:
    """Return what ``pack`` was given."""
    deltas = array("Q")
    deltas.frombytes(zlib.decompress(packed))
    if sys.byteorder == "big":
        deltas.byteswap()
    return list(accumulate(deltas))
