# SPDX-License-Identifier: BSD-3-Clause
"""CUDA kernels on CuPy arrays. CuPy is imported when first needed: it is an extra, and slow to import."""

import functools
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _shift_sums
from . import _compilation as _rawmodule
from . import _runtime as _cuda_ops
from . import affine_average as _cuda_average
from . import affine_linearize as _cuda_linearize
from . import affine_ncc as _cuda_correlate
from . import affine_resample as _cuda_resample
from . import bins as _cuda_bins
from . import masked_ncc as _cuda_masked_ncc
from . import standardise as _cuda_standardise
from .._bins import BinTable
from .._protocol import Array, BinArrays, BinSums, Lags, PeakArrays, ScoreArrays, StackSums, SummaryArrays, WindowArrays

__all__ = [
    "NAME",
    "affine_average",
    "asarray",
    "bin_mean",
    "bin_sums",
    "crop_windows",
    "device_of",
    "linearize_affine",
    "masked_ncc",
    "masked_peaks",
    "owns",
    "pattern_summary",
    "radial_cumulative",
    "resample_affine",
    "score_affine",
    "shift_sums",
    "stack_statistics",
    "standardise",
    "synchronize",
    "to_numpy",
    "unavailable",
]

NAME = "cuda"

BLOCKS_PER_MULTIPROCESSOR = 4
"""What the registers of the kernels allow (``__launch_bounds__(256, 4)``)."""


def unavailable() -> str | None:
    """See `Backend.unavailable`."""
    try:
        import cupy
    except ImportError:
        return 'CuPy is not installed: pip install "stackalign[gpu13]" (or gpu12 for CUDA 12)'
    try:
        usable = cupy.is_available()
    except Exception as error:  # CuPy passes on whatever a broken driver or toolkit raises
        return f"CuPy cannot use a CUDA device: {error}"
    return None if usable else "CuPy finds no usable CUDA device or driver"


def owns(x: object, /) -> bool:
    """See `Backend.owns`. An array of CuPy's can exist only where CuPy has been imported."""
    cupy = sys.modules.get("cupy")
    return cupy is not None and isinstance(x, cupy.ndarray)


def asarray(x: Array, dtype: np.dtype[Any] | None, index: int, /) -> Array:
    """See `Backend.asarray`."""
    import cupy

    with cupy.cuda.Device(index):
        if isinstance(x, cupy.ndarray):
            return cupy.asarray(x, dtype) if x.device.id == index else cupy.array(x, dtype)
        host = np.asarray(x)
        # A GPU knows native byte order only.
        return cupy.asarray(np.asarray(host, dtype if dtype is not None else host.dtype.newbyteorder("=")))


def to_numpy(x: Array, /) -> NDArray[Any]:
    """See `Backend.to_numpy`."""
    import cupy

    result: NDArray[Any] = cupy.asnumpy(x)
    return result


def synchronize(x: Array, /) -> None:
    """See `Backend.synchronize`."""
    x.device.synchronize()


def device_of(x: Array, /) -> str:
    """See `Backend.device_of`."""
    return f"cuda:{x.device.id}"


@functools.cache
def _runtime(device: int) -> _cuda_ops.Runtime:
    import cupy
    import cupyx.scipy.fft

    multiprocessors = cupy.cuda.Device(device).attributes["MultiProcessorCount"]
    return _cuda_ops.Runtime(cupy, _rawmodule.function, cupyx.scipy.fft, multiprocessors * BLOCKS_PER_MULTIPROCESSOR)


def pattern_summary(
    patterns: Array,
    mask: Array | None,
    centers: NDArray[np.float64] | None,
    fractions: Sequence[float],
    workers: int,
    /,
) -> SummaryArrays:
    """See `Backend.pattern_summary`."""
    with patterns.device:
        return _cuda_ops.pattern_summary(_runtime(patterns.device.id), patterns, mask, centers, fractions, workers)


def radial_cumulative(
    patterns: Array, mask: Array | None, centers: NDArray[np.float64], n_radii: int, workers: int, /
) -> Array:
    """See `Backend.radial_cumulative`."""
    with patterns.device:
        return _cuda_ops.radial_cumulative(_runtime(patterns.device.id), patterns, mask, centers, n_radii, workers)


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
    with patterns.device:
        return _cuda_ops.crop_windows(_runtime(patterns.device.id), patterns, mask, corners, shape, out, workers)


def stack_statistics(stack: Array, mask: Array | None, workers: int, /) -> StackSums:
    """See `Backend.stack_statistics`."""
    with stack.device:
        return _cuda_ops.stack_statistics(_runtime(stack.device.id), stack, mask, workers)


def standardise(images: Array, mask: Array | None, smooth: float, workers: int, /) -> Array:
    """See `Backend.standardise`."""
    with images.device:
        return _cuda_standardise.standardise(_runtime(images.device.id), images, mask, smooth, workers)


def score_affine(reference: Array, moving: Array, matrices: NDArray[np.float64], workers: int, /) -> ScoreArrays:
    """See `Backend.score_affine`."""
    with reference.device:
        return _cuda_correlate.score_affine(_runtime(reference.device.id), reference, moving, matrices, workers)


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
    with moving.device:
        return _cuda_masked_ncc.masked_ncc(
            _runtime(moving.device.id), reference, reference_mask, moving, moving_mask, lags, overlap_ratio, workers
        )


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
    with moving.device:
        return _cuda_masked_ncc.masked_peaks(
            _runtime(moving.device.id), reference, reference_mask, moving, moving_mask, lags, overlap_ratio, workers
        )


def resample_affine(
    images: Array,
    mask: Array | None,
    matrices: NDArray[np.float64],
    shape: tuple[int, int],
    order: int,
    workers: int,
    /,
) -> Array:
    """See `Backend.resample_affine`."""
    from cupyx.scipy.ndimage import spline_filter1d

    with images.device:
        runtime = _runtime(images.device.id)
        return _cuda_resample.resample_affine(runtime, spline_filter1d, images, mask, matrices, shape, order, workers)


def bin_mean(images: Array, mask: Array | None, factors: tuple[int, int], workers: int, /) -> BinArrays:
    """See `Backend.bin_mean`."""
    with images.device:
        return _cuda_resample.bin_mean(_runtime(images.device.id), images, mask, factors, workers)


def affine_average(images: Array, mask: Array | None, matrices: NDArray[np.float64], workers: int, /) -> Array:
    """See `Backend.affine_average`."""
    with images.device:
        return _cuda_average.affine_average(_runtime(images.device.id), images, mask, matrices, workers)


def bin_sums(images: Array, mask: Array | None, table: BinTable, workers: int, /) -> BinSums:
    """See `Backend.bin_sums`."""
    with images.device:
        home = device_of(images)
        return _cuda_bins.bin_sums(_runtime(images.device.id), home, images, mask, table, workers)


def shift_sums(reference: Array, moving: Array, reach: tuple[int, int], workers: int, /) -> NDArray[np.float64]:
    """See `Backend.shift_sums`."""
    with reference.device:
        runtime = _runtime(reference.device.id)
        return _shift_sums.shift_sums(runtime.xp, runtime.fft, reference, moving, reach, {})


def linearize_affine(
    reference: Array,
    moving: Array,
    slopes: Array | None,
    matrices: NDArray[np.float64],
    tile: int,
    diagonal: bool,
    workers: int,
    /,
) -> Array:
    """See `Backend.linearize_affine`."""
    with reference.device:
        rt = _runtime(reference.device.id)
        return _cuda_linearize.linearize_affine(rt, reference, moving, slopes, matrices, tile, diagonal, workers)
