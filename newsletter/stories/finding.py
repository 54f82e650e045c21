"""
Finding what may be of one story: tellings that share enough rare handles, the likeliest few of each.

A handle is a word of a headline, the root of a name, or a matter in a country; what many have leads nowhere.
"""

from __future__ import annotations

import numpy as np

from newsletter.stories.likeness import WINDOW
from newsletter.stories.traits import Numbers, Tellings, entries, handles

_LEAST_EVIDENCE = 1.3  # rarity that makes a candidate, in that of a handle used once
_MOST_CANDIDATES = 6
_FEW, _TOO_MANY = 12, 0.7  # tellings, and the power of all tellings, that may have a handle
_AT_ONCE = 2_000  # tellings, to bound the memory


def candidates(tellings: Tellings, first: int) -> tuple[Numbers, Numbers]:
    """Pairs of rows, the lesser first, of which one is *first* or later: the likeliest few of each of these."""
    table = handles(tellings)
    used = np.bincount(table.indices, minlength=table.shape[1])
    size = len(tellings)
    leads = (used > 1) & (used <= max(_FEW, size**_TOO_MANY))
    table = entries(table, leads[table.indices])
    weighed = table.copy()
    weighed.data = 1 - np.log(used[table.indices]) / np.log(max(size, 2))  # 1: used once
    found: list[Numbers] = []
    by_handle = table.T.tocsr()
    for begin in range(first, size, _AT_ONCE):
        shared = weighed[begin : begin + _AT_ONCE] @ by_handle
        likely = shared.data >= _LEAST_EVIDENCE
        row = np.repeat(np.arange(shared.shape[0]), np.diff(shared.indptr))[likely] + begin
        other, evidence = shared.indices[likely].astype(np.int64), shared.data[likely]
        apart = (row == other) | (np.abs(tellings.at[row] - tellings.at[other]) > WINDOW)
        row, other, evidence = row[~apart], other[~apart], np.round(evidence[~apart], 9)
        order = np.lexsort((other, -evidence, row))
        row, other = row[order], other[order]
        place = np.arange(len(row)) - np.searchsorted(row, row)  # among those of its row
        best = place < _MOST_CANDIDATES
        found.append(np.stack([np.minimum(row, other)[best], np.maximum(row, other)[best]]))
    one, other = np.unique(np.concatenate(found, axis=1), axis=1)
    return one, other
