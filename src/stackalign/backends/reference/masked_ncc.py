"""Masked correlation by transforms of full length in float64, one pair after the other."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign.backends._lags import anchor, contained, possible, widened
from stackalign.backends._protocol import FLAT_INSIDE, FLAT_OVERLAP, REACH, Array, Lags, PeakArrays

__all__ = ["masked_ncc", "masked_peaks"]


def _standardised(image: NDArray[Any], mask: NDArray[np.bool_] | None) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """Zero mean and unit deviation where valid, zero elsewhere; and what is valid."""
    valid = np.isfinite(image)
    if mask is not None:
        valid &= mask
    values = np.where(valid, image, 0).astype(np.float64)
    count = max(1, int(valid.sum()))
    mean = values.sum() / count
    values = np.where(valid, values - mean, 0.0)
    deviation = np.sqrt((values * values).sum() / count)
    flat = deviation <= 1e-12 * abs(mean)
    return np.zeros_like(values) if flat else values / deviation, valid


def _correlation(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """Sum over p and all planes of a(p) * b(p - d), for every possible lag d."""
    from scipy.fft import irfft2, rfft2

    shape = tuple(m + n - 1 for m, n in zip(a.shape[1:], b.shape[1:], strict=True))
    turned = b[:, ::-1, ::-1].astype(np.float64)
    spectra = rfft2(a.astype(np.float64), shape) * rfft2(turned, shape)
    result: NDArray[np.float64] = irfft2(spectra.sum(axis=0), shape)
    return result


def _scores(
    reference: Array, reference_mask: Array | None, moving: Array, moving_mask: Array | None, flat_r: float
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Score and overlap at every possible lag."""
    r, r_valid = _standardised(reference, reference_mask)
    v, v_valid = _standardised(moving, moving_mask)
    n = np.rint(_correlation(r_valid, v_valid)).astype(np.int64)
    some = np.maximum(n, 1)
    sr, sv = _correlation(r, v_valid), _correlation(r_valid, v)
    var_r = _correlation(r * r, v_valid) - sr * sr / some
    var_v = _correlation(r_valid, v * v) - sv * sv / some
    covariance = _correlation(r, v) - sr * sv / some
    fewer = min(r_valid.sum(), v_valid.sum())
    varies = (n > 0) & (var_r > flat_r * fewer) & (var_v > FLAT_OVERLAP * fewer)
    score = np.where(varies, covariance / np.sqrt(np.where(varies, var_r * var_v, 1.0)), 0.0)
    return np.clip(score, -1.0, 1.0), n


def _pairs(
    reference: Array, reference_mask: Array | None, moving: Array, moving_mask: Array | None, computed: Lags
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.int64]]]:
    """Scores and overlap of each pair."""
    flat_r = FLAT_INSIDE if contained(computed, reference.shape[2:], moving.shape[2:]) else FLAT_OVERLAP
    for k in range(len(moving)):
        arrays = (reference, reference_mask, moving, moving_mask)
        r, r_mask, v, v_mask = (a if a is None else a[k if len(a) > 1 else 0] for a in arrays)
        yield _scores(r, r_mask, v, v_mask, flat_r)


def _window(lags: Lags, reference: Array, moving: Array) -> tuple[slice, slice]:
    """Where a window lies among all lags."""
    first = possible(reference.shape[2:], moving.shape[2:])
    y, x = lags.low_y - first.low_y, lags.low_x - first.low_x
    return slice(y, y + lags.shape[0]), slice(x, x + lags.shape[1])


def _map(scores: NDArray[np.float64], overlap: NDArray[np.int64], overlap_ratio: float) -> NDArray[np.float32]:
    limited = np.where(overlap >= overlap_ratio * overlap.max(), scores, 0.0)
    return limited.astype(np.float32)


def masked_ncc(
    reference: Array,
    reference_mask: Array | None,
    moving: Array,
    moving_mask: Array | None,
    lags: Lags,
    overlap_ratio: float,
    workers: int,
    /,
) -> Array:
    """See `Backend.masked_ncc`."""
    window = _window(lags, reference, moving)
    pairs = _pairs(reference, reference_mask, moving, moving_mask, lags)
    return np.stack([_map(scores[window], overlap[window], overlap_ratio) for scores, overlap in pairs])


def masked_peaks(
    reference: Array,
    reference_mask: Array | None,
    moving: Array,
    moving_mask: Array | None,
    lags: Lags,
    overlap_ratio: float,
    workers: int,
    /,
) -> PeakArrays:
    """See `Backend.masked_peaks`."""
    window = _window(lags, reference, moving)
    n, side = len(moving), 2 * REACH + 1
    result = PeakArrays(
        np.empty((n, 2), np.int64),
        np.empty(n, np.float32),
        np.empty(n, np.int64),
        np.empty((n, side, side), np.float32),
        np.full((n, max(lags.shape)), -2.0, np.float32),
    )
    wide = widened(lags, REACH, reference.shape[2:], moving.shape[2:])
    for k, (scores, overlap) in enumerate(_pairs(reference, reference_mask, moving, moving_mask, wide)):
        shown = _map(scores[window], overlap[window], overlap_ratio)
        if not shown.max() > 0.0:
            result.lags[k], result.peaks[k], result.overlap[k], result.neighbours[k] = anchor(lags), 0.0, 0, np.nan
            continue
        y, x = np.unravel_index(int(shown.argmax()), shown.shape)
        result.lags[k] = y + lags.low_y, x + lags.low_x
        result.peaks[k] = shown[y, x]
        result.overlap[k] = overlap[window][y, x]
        padded = np.pad(scores, REACH, constant_values=np.nan)
        top, left = y + window[0].start, x + window[1].start
        result.neighbours[k] = padded[top : top + side, left : left + side]
        distance = np.maximum(*np.abs(np.indices(shown.shape) - np.array([y, x])[:, None, None]))
        np.maximum.at(result.rings[k], distance, shown)
    return result
