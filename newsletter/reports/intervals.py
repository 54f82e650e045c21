"""
Intervals: how far a share that was seen in a sample may be from the true one.

Wilson, E. B. (1927), JASA 22, 209–212, for one share; Newcombe, R. G. (1998), Statistics in Medicine 17, 873–890,
method 10, for the difference of two. Both hold for small numbers, too, and never leave what is possible.
"""

from __future__ import annotations

from math import sqrt
from statistics import NormalDist


def wilson(part: int, whole: int, *, error: float = 0.05) -> tuple[float, float]:
    """
    Between which two shares the true one lies, but for *error* of all times.

    Raises:
        ValueError: *part* is not within *whole*, or *error* not between 0 and 1.
    """
    if not 0 <= part <= whole or not 0 < error < 1:
        raise ValueError(f"{part} of {whole} with an error of {error} is no share")
    if whole == 0:
        return 0.0, 1.0
    z, share = NormalDist().inv_cdf(1 - error / 2), part / whole
    middle = share + z * z / (2 * whole)
    reach = z * sqrt(share * (1 - share) / whole + z * z / (4 * whole * whole))
    widened = 1 + z * z / whole
    return max(0.0, (middle - reach) / widened), min(1.0, (middle + reach) / widened)


def difference(
    one: tuple[int, int], other: tuple[int, int], *, error: float = 0.05
) -> tuple[float, float, float]:
    """
    The difference between the shares of *one* and *other*, each (part, whole), and between what it truly lies.

    Raises:
        ValueError: as ``wilson``.
    """
    (low, high), (other_low, other_high) = (wilson(*given, error=error) for given in (one, other))
    share, other_share = (part / whole if whole else 0.0 for part, whole in (one, other))
    seen = share - other_share
    return (
        seen,
        max(-1.0, seen - sqrt((share - low) ** 2 + (other_high - other_share) ** 2)),
        min(1.0, seen + sqrt((high - share) ** 2 + (other_share - other_low) ** 2)),
    )
