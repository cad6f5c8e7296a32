"""The backend ``cuda-host``: the project's CUDA kernels and their launch code, on NumPy arrays and on the host."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.ndimage import spline_filter1d

from cuda_host import host
from cuda_host.host import HostModule
from stackalign.backends import (
    _cuda_average,
    _cuda_bins,
    _cuda_correlate,
    _cuda_linearize,
    _cuda_masked_ncc,
    _cuda_ops,
    _cuda_resample,
    _cuda_standardise,
    _shift_sums,
)
from stackalign.backends._bins import BinTable
from stackalign.backends._cuda_ops import Kernel, Runtime
from stackalign.backends._protocol import (
    Array,
    BinArrays,
    BinSums,
    Lags,
    PeakArrays,
    ScoreArrays,
    StackSums,
    SummaryArrays,
    WindowArrays,
)
from stackalign_kernels import cuda_source

__all__ = ["BACKEND", "HostBackend", "host_runtime"]

BLOCKS = 2
"""Fewer blocks than patterns, so that a block's second pattern meets what the first has left behind."""


def host_runtime(
    *, sanitizer: str | None = None, optimize: str | None = None, source: Callable[[str], str] = cuda_source
) -> Runtime:
    """Return a runtime on the host; `source` gives the flattened text of a kernel file."""

    @functools.cache
    def module(kernel_file: str, dtype: np.dtype[Any] | None) -> HostModule:
        macros = _cuda_ops.defines(dtype)
        return HostModule(source(kernel_file), defines=macros, sanitizer=sanitizer, optimize=optimize)

    @functools.cache
    def get_function(kernel_file: str, entry: str, dtype: np.dtype[Any] | None) -> Kernel:
        return module(kernel_file, None if dtype is None else np.dtype(dtype)).get_function(entry)

    return Runtime(np, get_function, scipy.fft, BLOCKS)


class HostBackend:
    """Satisfies `stackalign.backends.Backend` with a runtime of `host_runtime`."""

    NAME = "cuda-host"

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime

    def unavailable(self) -> str | None:
        """See `Backend.unavailable`."""
        return host.unavailable()

    def owns(self, x: object, /) -> bool:
        """See `Backend.owns`."""
        return isinstance(x, np.ndarray)

    def asarray(self, x: Array, dtype: np.dtype[Any] | None, index: int, /) -> Array:
        """See `Backend.asarray`. As on a GPU, byte order becomes native."""
        x = np.asarray(x)
        return np.asarray(x, dtype if dtype is not None else x.dtype.newbyteorder("="))

    def to_numpy(self, x: Array, /) -> NDArray[Any]:
        """See `Backend.to_numpy`."""
        return np.asarray(x)

    def synchronize(self, x: Array, /) -> None:
        """See `Backend.synchronize`: a launch on the host returns when it is done."""

    def device_of(self, x: Array, /) -> str:
        """See `Backend.device_of`."""
        return "cpu"

    def pattern_summary(
        self,
        patterns: Array,
        mask: Array | None,
        centers: NDArray[np.float64] | None,
        fractions: Sequence[float],
        workers: int,
        /,
    ) -> SummaryArrays:
        """See `Backend.pattern_summary`."""
        return _cuda_ops.pattern_summary(self.runtime, patterns, mask, centers, fractions, workers)

    def radial_cumulative(
        self, patterns: Array, mask: Array | None, centers: NDArray[np.float64], n_radii: int, workers: int, /
    ) -> Array:
        """See `Backend.radial_cumulative`."""
        return _cuda_ops.radial_cumulative(self.runtime, patterns, mask, centers, n_radii, workers)

    def crop_windows(
        self,
        patterns: Array,
        mask: Array | None,
        corners: NDArray[np.int64],
        shape: tuple[int, int],
        out: Array | None,
        workers: int,
        /,
    ) -> WindowArrays:
        """See `Backend.crop_windows`."""
        return _cuda_ops.crop_windows(self.runtime, patterns, mask, corners, shape, out, workers)

    def stack_statistics(self, stack: Array, mask: Array | None, workers: int, /) -> StackSums:
        """See `Backend.stack_statistics`."""
        return _cuda_ops.stack_statistics(self.runtime, stack, mask, workers)

    def standardise(self, images: Array, mask: Array | None, smooth: float, workers: int, /) -> Array:
        """See `Backend.standardise`."""
        return _cuda_standardise.standardise(self.runtime, images, mask, smooth, workers)

    def score_affine(
        self, reference: Array, moving: Array, matrices: NDArray[np.float64], workers: int, /
    ) -> ScoreArrays:
        """See `Backend.score_affine`."""
        return _cuda_correlate.score_affine(self.runtime, reference, moving, matrices, workers)

    def masked_ncc(
        self,
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
        arguments = (reference, reference_mask, moving, moving_mask, lags, overlap_ratio, workers)
        return _cuda_masked_ncc.masked_ncc(self.runtime, *arguments)

    def masked_peaks(
        self,
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
        arguments = (reference, reference_mask, moving, moving_mask, lags, overlap_ratio, workers)
        return _cuda_masked_ncc.masked_peaks(self.runtime, *arguments)

    def resample_affine(
        self,
        images: Array,
        mask: Array | None,
        matrices: NDArray[np.float64],
        shape: tuple[int, int],
        order: int,
        workers: int,
        /,
    ) -> Array:
        """See `Backend.resample_affine`."""
        return _cuda_resample.resample_affine(
            self.runtime, spline_filter1d, images, mask, matrices, shape, order, workers
        )

    def bin_mean(self, images: Array, mask: Array | None, factors: tuple[int, int], workers: int, /) -> BinArrays:
        """See `Backend.bin_mean`."""
        return _cuda_resample.bin_mean(self.runtime, images, mask, factors, workers)

    def affine_average(
        self, images: Array, mask: Array | None, matrices: NDArray[np.float64], workers: int, /
    ) -> Array:
        """See `Backend.affine_average`."""
        return _cuda_average.affine_average(self.runtime, images, mask, matrices, workers)

    def bin_sums(self, images: Array, mask: Array | None, table: BinTable, workers: int, /) -> BinSums:
        """See `Backend.bin_sums`."""
        return _cuda_bins.bin_sums(self.runtime, self.NAME, images, mask, table, workers)

    def shift_sums(
        self, reference: Array, moving: Array, reach: tuple[int, int], workers: int, /
    ) -> NDArray[np.float64]:
        """See `Backend.shift_sums`, which has no kernel."""
        return _shift_sums.shift_sums(np, self.runtime.fft, reference, moving, reach, {})

    def linearize_affine(
        self,
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
        return _cuda_linearize.linearize_affine(
            self.runtime, reference, moving, slopes, matrices, tile, diagonal, workers
        )


BACKEND = HostBackend(host_runtime())
