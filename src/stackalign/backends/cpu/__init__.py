"""Numba kernels on host arrays: allocation, element types and threads.

Threads take ranges of patterns (or of pixels). A pattern is computed by one thread in a fixed order, so the answer does
not depend on the number of threads.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import stackalign_kernels

from .. import _shift_sums
from .affine_average import affine_average
from .bins import bin_sums
from .affine_linearize import linearize_affine
from .affine_resample import bin_mean, resample_affine
from .affine_ncc import score_affine
from .standardise import standardise
from .._protocol import Array, Lags, PeakArrays, StackSums, SummaryArrays, WindowArrays
from .._threads import run
from ..reference import asarray, device_of, owns, synchronize, to_numpy

__all__ = [
    "NAME",
    "affine_average",
    "asarray",
    "bin_mean",
    "bin_sums",
    "crop_windows",
    "device_of",
    "kernel_cache",
    "linearize_affine",
    "masked_ncc",
    "masked_peaks",
    "owns",
    "pattern_summary",
    "radial_cumulative",
    "remove_stale_kernels",
    "resample_affine",
    "score_affine",
    "shift_sums",
    "stack_statistics",
    "standardise",
    "synchronize",
    "to_numpy",
    "unavailable",
]

NAME = "cpu"

PIXEL_BAND = 2048
"""Pixels per task of the stack statistics: five float64 rows of this length stay in the first-level cache."""


def unavailable() -> str | None:
    """See `Backend`: Numba is a hard dependency."""
    return None


def kernel_cache() -> str:
    """Folder in which compiled kernels are kept; empty where none can be used."""
    return stackalign_kernels.cache_folder()


def remove_stale_kernels() -> list[str]:
    """Remove compiled kernels of earlier sources; return the paths that were removed."""
    return stackalign_kernels.remove_stale_kernels()


def _accumulator(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Type of a pattern's total."""
    return np.dtype(np.float64 if dtype.kind == "f" else np.int64)


def _partial(dtype: np.dtype[Any]) -> NDArray[Any]:
    """One element of the type that the sum of a row fits: see `stackalign_kernels.cpu.radial`."""
    if dtype.kind == "f":
        return np.zeros(1, np.float64)
    return np.zeros(1, np.int32 if dtype.itemsize <= 2 else np.int64)


def _mask_or_dummy(mask: Array | None, shape: tuple[int, ...]) -> tuple[NDArray[np.bool_], bool]:
    """Numba wants an array in any case: an unused mask is one byte, repeated by strides."""
    if mask is not None:
        return mask, True
    return np.broadcast_to(np.True_, (1, *shape)), False


def _order_keys(patterns: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Bits, flip and end of `stackalign_kernels.cpu.radial.extrema`."""
    if patterns.dtype.kind != "f":
        return patterns, np.zeros(1, patterns.dtype), np.zeros(1, np.int64)
    integer = np.dtype(f"i{patterns.dtype.itemsize}")
    flip = np.full(1, np.iinfo(integer).max, integer)
    end = np.full(1, np.inf, patterns.dtype).view(integer)
    return patterns.view(integer), flip, end


def pattern_summary(
    patterns: Array,
    mask: Array | None,
    centers: NDArray[np.float64] | None,
    fractions: Sequence[float],
    workers: int,
    /,
) -> SummaryArrays:
    """See `Backend.pattern_summary`."""
    from stackalign_kernels.cpu import radial

    n = patterns.shape[0]
    valid, use_mask = _mask_or_dummy(mask, patterns.shape[1:])
    bits, flip, end = _order_keys(patterns)
    given = centers is not None
    middle = np.array(centers, np.float64) if centers is not None else np.empty((n, 2))
    result = SummaryArrays(
        total=np.empty(n, _accumulator(patterns.dtype)),
        minimum=np.empty(n),
        maximum=np.empty(n),
        n_valid=np.empty(n, np.int64),
        centers=middle,
        radii=np.empty((n, len(fractions)), np.int64),
    )
    wanted = np.asarray(fractions, np.float64)

    def task(start: int, stop: int) -> None:
        radial.summarise(
            patterns,
            bits,
            flip,
            end,
            valid,
            use_mask,
            middle,
            given,
            wanted,
            _partial(patterns.dtype),
            start,
            stop,
            result.total,
            result.minimum,
            result.maximum,
            result.n_valid,
            result.radii,
        )

    run(task, n, workers)
    return result


def radial_cumulative(
    patterns: Array, mask: Array | None, centers: NDArray[np.float64], n_radii: int, workers: int, /
) -> Array:
    """See `Backend.radial_cumulative`."""
    from stackalign_kernels.cpu import radial

    valid, use_mask = _mask_or_dummy(mask, patterns.shape[1:])
    out = np.empty((patterns.shape[0], n_radii))

    def task(start: int, stop: int) -> None:
        sums = np.empty(n_radii, _accumulator(patterns.dtype))
        radial.cumulative(patterns, valid, use_mask, centers, start, stop, sums, out)

    run(task, patterns.shape[0], workers)
    return out


def crop_windows(
    patterns: Array,
    mask: Array | None,
    corners: NDArray[np.int64],
    shape: tuple[int, int],
    out: Array | None,
    workers: int,
    /,
) -> WindowArrays:
    """See `Backend.crop_windows`."""
    from stackalign_kernels.cpu import crop

    valid, use_mask = _mask_or_dummy(mask, patterns.shape[1:])
    windows = np.empty((patterns.shape[0], *shape), patterns.dtype) if out is None else out
    sums = np.empty(patterns.shape[0], _accumulator(patterns.dtype))

    def task(start: int, stop: int) -> None:
        crop.windows(patterns, valid, use_mask, corners, _partial(patterns.dtype), start, stop, windows, sums)

    run(task, patterns.shape[0], workers)
    return WindowArrays(windows, sums)


def stack_statistics(stack: Array, mask: Array | None, workers: int, /) -> StackSums:
    """See `Backend.stack_statistics`."""
    from stackalign_kernels.cpu import statistics

    n, height, width = stack.shape
    flat = stack.reshape(n, height * width)
    if mask is None:
        valid, use_mask = _mask_or_dummy(None, (height * width,))
    else:
        valid, use_mask = mask.reshape(mask.shape[0], height * width), True
    sums = StackSums(
        np.empty(height * width, np.int64),
        *(np.empty(height * width) for _ in range(4)),
    )

    small = stack.dtype.kind in "iu" and stack.dtype.itemsize <= 2 and n <= statistics.MOST_INTEGERS

    def task(start: int, stop: int) -> None:
        if small:
            statistics.pixels_of_integers(flat, valid, use_mask, start, stop, *sums)
        else:
            statistics.pixels(flat, valid, use_mask, start, stop, *sums)

    run(task, height * width, workers, band=PIXEL_BAND)
    return StackSums(*(a.reshape(height, width) for a in sums))


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
    import importlib

    _cpu_masked_ncc: Any = importlib.import_module("stackalign.backends.cpu.masked_ncc")

    return _cpu_masked_ncc.masked_ncc(reference, reference_mask, moving, moving_mask, lags, overlap_ratio, workers)


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
    import importlib

    _cpu_masked_ncc: Any = importlib.import_module("stackalign.backends.cpu.masked_ncc")

    return _cpu_masked_ncc.masked_peaks(reference, reference_mask, moving, moving_mask, lags, overlap_ratio, workers)


def shift_sums(reference: Array, moving: Array, reach: tuple[int, int], workers: int, /) -> NDArray[np.float64]:
    """See `Backend.shift_sums`."""
    from scipy import fft

    return _shift_sums.shift_sums(np, fft, reference, moving, reach, {"workers": workers})
