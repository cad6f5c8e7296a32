"""Sums at whole-pixel lags, one lag after the other."""

from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import NDArray

from stackalign.backends._protocol import SHIFT_TAPS, Array

__all__ = ["shift_sums"]


def _at_lag(r: NDArray[np.float64], v: NDArray[np.float64], lag: tuple[int, int]) -> list[float]:
    """All sums of one pair at one lag, from the pixels that meet."""
    sums = []
    y, x = np.indices(r.shape)
    for taps in SHIFT_TAPS:
        values = []
        for a, b in taps:
            qy, qx = y + lag[0] + a, x + lag[1] + b
            inside = (qy >= 0) & (qy < v.shape[0]) & (qx >= 0) & (qx < v.shape[1])
            values.append(np.where(inside, v[qy.clip(0, v.shape[0] - 1), qx.clip(0, v.shape[1] - 1)], np.nan))
        both = np.isfinite(r) & np.isfinite(values).all(axis=0)
        s, t = r[both], [value[both] for value in values]
        products = [np.ones_like(s), s, s * s, *t, *(s * u for u in t)]
        products += [a * b for a, b in combinations_with_replacement(t, 2)]
        sums += [float(p.sum()) for p in products]
    return sums


def shift_sums(reference: Array, moving: Array, reach: tuple[int, int], workers: int, /) -> NDArray[np.float64]:
    """See `Backend.shift_sums`."""
    lags = [(y, x) for y in range(-reach[0], reach[0] + 1) for x in range(-reach[1], reach[1] + 1)]
    pairs = zip(reference.astype(np.float64), moving.astype(np.float64), strict=True)
    sums = np.array([[_at_lag(r, v, lag) for lag in lags] for r, v in pairs])
    return sums.reshape(len(reference), 2 * reach[0] + 1, 2 * reach[1] + 1, -1)
