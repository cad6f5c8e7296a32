"""How far a result may be from the reference, and why."""

import numpy as np

EXACT = 0.0
"""Integers, decisions, copies, and float64 sums whose order the protocol fixes: the same bits."""

SUM = 1e-12
"""Relative to the sum of magnitudes: float64 sums of up to 1e5 pixels in an order that is the backend's own
(1e5 * 2**-53 = 1.1e-11 in the worst case, its square root in practice)."""

PLANE = 1e-6
"""Absolute: float32 of a float64 number whose sums are taken in another order, at most the last bit of values up to 30
where that order decides the rounding."""

SCORE = 1e-7
"""Absolute: float32 products and short float32 sums in an order of the backend's own, of images whose pixels vary as
much as they are large."""

SAMPLE = {"float32": 1e-6, "float64": 1e-14}
"""Relative to the largest valid pixel, by type of the result: a few operations, fused or not, and for order 3 sums of
16 products in any order."""

MEAN = {"float32": 1e-6, "float64": 1e-14}
"""Relative to the largest valid pixel: float64 sums of a few pixels in any order, and the last bit of the result."""

FEW = 64
SCORE_OF_FEW = 5e-7
"""For a score of fewer than `FEW` pixels: by chance they may all differ less than they are away from zero."""

MAP = 1e-6
"""Absolute: transforms in float32 of images that vary as much where they overlap as they do as a whole."""

MAP_OF_FEW = 1e-3
"""For the score of an overlap without a lower limit, which may vary by no more than `FLAT_OVERLAP` of the whole."""
LINEAR = 1e-6
"""Relative to `linear_scale`: float32 products of samples that are themselves float32."""

FIELDS = {
    "total": EXACT,
    "minimum": EXACT,
    "maximum": EXACT,
    "n_valid": EXACT,
    "centers": EXACT,
    "radii": EXACT,
    "cumulative": SUM,
    "windows": EXACT,
    "sums": SUM,
    "count": EXACT,
    "mean": EXACT,  # the sum is taken in the order of the frames
    "m2": SUM,
    "planes": PLANE,
    "scores": SCORE,
    "overlap": EXACT,
    "maps": MAP,
    "lags": EXACT,
    "peaks": MAP,
    "neighbours": MAP,
    "rings": MAP,
    "samples": SAMPLE,
    "lag_sums": SUM,
    "means": MEAN,
    "counts": EXACT,
    "linear_sums": LINEAR,
    "bin_weight": EXACT,
    "bin_mean": SUM,
    "bin_m2": SUM,
}


def linear_scale(sums: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Magnitude (B, 1, 42) of the sums of a linearization: what the sums of squares of a problem allow its products.

    Samples and slopes are rounded like the pixels that they are made of, so they are taken for at least 1.
    """
    n, _, _, rr, vv, _ = (total := np.sqrt(sums.sum(axis=1, keepdims=True).clip(0)))[..., :6].T
    rr, vv = np.maximum(rr, n), np.maximum(vv, n)
    j = total[..., [24, 27, 29, 36, 39, 41]].T
    y, x = (side / 2 for side in shape)
    j += (j > 0) * n * np.array([y, x, 1, y, x, 1])[:, None, None]
    entries = [*(n * j), *(rr * j), *(vv * j)]
    powers = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))
    squares = [j[a] * j[b] for a, b in powers]
    squares += [j[a] * j[b] for a, b in ((0, 3), (0, 4), (0, 5), (1, 4), (2, 4), (2, 5))]
    squares += [j[a + 3] * j[b + 3] for a, b in powers]
    return np.stack([n * n, n * rr, n * vv, rr * rr, vv * vv, rr * vv, *entries, *squares]).T
