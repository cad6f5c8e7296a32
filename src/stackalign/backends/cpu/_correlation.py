"""Transforms of frames, and the planes over a window of lags that the scores of a masked correlation are made of."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from stackalign.backends._protocol import Lags
from stackalign_kernels.cpu import masked_ncc as kernels

__all__ = ["Fixed", "Job", "Planes", "Varying", "back", "forward", "moments_of"]


class Job(NamedTuple):
    """Geometry that images share: lags to compute, the rows and first column where they lie, length of transforms."""

    lags: Lags
    rows: slice
    column: int
    lengths: tuple[int, int]


class Fixed(NamedTuple):
    """What two masks and the reference make: overlap, and the reference's mean and squared deviations in it."""

    n: NDArray[np.int32]
    mean: NDArray[np.float32]
    variance: NDArray[np.float32]


class Varying(NamedTuple):
    """Products, sums and sums of squares of the moving image; the sums may be one row that stands for all."""

    rv: NDArray[np.float32]
    v: NDArray[np.float32]
    vv: NDArray[np.float32]


class Planes(NamedTuple):
    """All that the scores of an image are made of, over the lags of a job."""

    fixed: Fixed
    varying: Varying
    flat: tuple[np.float32, np.float32]


def forward(planes: NDArray[Any], rows: int) -> NDArray[Any]:
    """Transform planes that are padded along x already."""
    half = fft.rfft(planes, axis=-1)
    full = np.zeros((*half.shape[:-2], rows, half.shape[-1]), half.dtype)
    full[..., : half.shape[-2], :] = half
    return np.asarray(fft.fft(full, axis=-2, overwrite_x=True))


def back(a: NDArray[Any], b: NDArray[Any], job: Job) -> NDArray[Any]:
    """Multiply spectra, add the planes up, and go back to the rows of the job."""
    product = np.empty_like(a[0])
    kernels.multiplied(a, b, product)
    half = fft.ifft(product, axis=-2, overwrite_x=True)[job.rows]
    return np.asarray(fft.irfft(half, job.lengths[1], axis=-1, overwrite_x=True))


def moments_of(overlap: NDArray[Any], sums: NDArray[Any], squares: NDArray[Any]) -> Fixed:
    """Means and squared deviations from sums over overlaps."""
    shape = overlap.shape
    fixed = Fixed(np.empty(shape, np.int32), np.empty(shape, np.float32), np.empty(shape, np.float32))
    kernels.overlap_moments(overlap, sums, squares, *fixed)
    return fixed
