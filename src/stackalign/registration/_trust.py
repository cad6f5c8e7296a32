"""Flags: what speaks against a result. The texts stand in `stackalign.registration.result.FLAGS`."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.fft import next_fast_len, rfft2

from stackalign.ops import to_numpy

from ._search import SMALLEST_LEVEL, Images

__all__ = ["Evidence", "correlated_pixels", "flags_of", "significance"]

FEWEST_PIXELS = 100
"""Valid common pixels below which nothing is claimed."""

SECOND_PEAK = 0.8
"""A second peak of this share of the first means that it might as well be the other. The share is that of Fisher's z,
``atanh(score)``: 0.9 beside 0.99 is far less than 0.9 of it."""

LARGEST_SIGMA = 1.0
"""Pixels. A larger error bar anywhere in the image says that a parameter was left open."""

CHANCE = 4.5
"""Standard deviations of the score of unrelated images below which it says nothing. The best of all shifts and
scales is found: one of 80 unrelated pairs had more, 5.2; natural images with 20 % noise have 5 or more."""

CHANCE_SIDE = 256


@dataclass(frozen=True)
class Evidence:
    """What is known of one pair after the search."""

    n_reference: int
    n_moving: int
    constant: bool
    n_common: float
    overlap: float
    min_overlap: float
    score: float
    significance: float
    peak: float
    second: float
    largest_sigma: float
    on_bound: bool
    reason: str


def flags_of(e: Evidence) -> tuple[str, ...]:
    """List the flags of a pair, the gravest first; after one that leaves nothing to judge, no other."""
    if not (e.n_reference and e.n_moving):
        return ("empty",)
    if e.constant:
        return ("constant",)
    if e.n_common < FEWEST_PIXELS:
        return ("few_pixels",)
    found = {
        "small_overlap": e.overlap < e.min_overlap,
        "insignificant": not e.significance > CHANCE,
        "ambiguous": np.isfinite(e.second) and _fisher(e.second) > SECOND_PEAK * _fisher(e.peak),
        "undetermined": not e.largest_sigma < LARGEST_SIGMA,
        "on_bound": e.on_bound,
        "not_converged": e.reason in ("max_iter", "flat"),
    }
    return tuple(name for name, is_set in found.items() if is_set)


def _fisher(score: float | NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.arctanh(np.clip(score, -1.0 + 1e-12, 1.0 - 1e-12)), np.float64)


def correlated_pixels(images: Images, workers: int | None) -> NDArray[np.float64]:
    """How many pixels (B,) count as one when the images of a pair are compared.

    The score of unrelated images with the autocorrelations a and b has the variance ``sum(a * b) / n``, the sum taken
    over all lags. Measured on images of at most `CHANCE_SIDE` pixels: coarser ones can only make it larger.
    """
    factor = 1
    while images.longest > factor * CHANCE_SIDE and images.shortest >= 2 * factor * SMALLEST_LEVEL:
        factor *= 2
    small = images.binned(factor, workers)
    planes = [np.nan_to_num(to_numpy(p)) for p in (small.reference, small.moving)]
    # Each axis is padded by itself: a square of the longest side would be large for long, thin images.
    shape = [next_fast_len(2 * max(p.shape[axis] for p in planes), real=axis == 2) for axis in (1, 2)]
    powers = [_power(p, shape) for p in planes]
    # The sum over all lags of two autocorrelations is that over all frequencies of the powers, by Parseval's theorem.
    # Each lag is seen by fewer pixels the longer it is: as measured, not divided, an autocorrelation fades out.
    weights = np.full(shape[1] // 2 + 1, 2.0)
    weights[0] = 1.0
    if shape[1] % 2 == 0:
        weights[-1] = 1.0
    totals = [(p.sum(axis=1, dtype=np.float64) * weights).sum(axis=1) for p in powers]
    both = (np.einsum("byx,byx->bx", *powers).astype(np.float64) * weights).sum(axis=1)
    least = np.finfo(np.float32).tiny
    per_bin = shape[0] * shape[1] * both / np.maximum(totals[0] * totals[1], least)
    return np.asarray(np.maximum(per_bin, 1.0) * factor**2, np.float64)


def _power(planes: NDArray[np.float32], shape: list[int]) -> NDArray[np.float32]:
    """Powers (B, rows, columns) of planes that are padded to a shape; planes without variance have none."""
    spectrum = rfft2(planes - planes.mean(axis=(1, 2), keepdims=True), shape)
    return np.asarray(spectrum.real**2 + spectrum.imag**2)


def significance(score: NDArray[np.float64], independent: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard deviations by which a score lies above 0 when `independent` pixels were compared (Fisher's z)."""
    return np.asarray(_fisher(score) * np.sqrt(np.maximum(independent - 3.0, 1.0)), np.float64)
