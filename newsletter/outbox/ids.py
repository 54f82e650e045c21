"""Frozen reader ids as bytes: ascending ids as deltas, deflated (about 1.5 bytes a reader)."""

from __future__ import annotations

import sys
import zlib
from array import array
from collections.abc import Sequence
from itertools import accumulate, pairwise


def pack(ids: Sequence[int]) -> bytes:
    """
    Pack *ids*, which must be positive and strictly ascending.

    Raises:
        ValueError: they are not.
    """
    deltas = [ids[0], *(later - earlier for earlier, later in pairwise(ids))] if ids else []
    if any(delta <= 0 for delta in deltas):
        raise ValueError("reader ids must be positive and strictly ascending")
    packed = array("Q", deltas)
    if sys.byteorder == "big":
        packed.byteswap()
    return zlib.compress(packed.tobytes(), 6)


def unpack(packed: bytes) -> list[int]:
    """Return what ``pack`` was given."""
    deltas = array("Q")
    deltas.frombytes(zlib.decompress(packed))
    if sys.byteorder == "big":
        deltas.byteswap()
    return list(accumulate(deltas))
