"""Images on another grid: sampled through an affine transform, or averaged over bins."""

import operator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stackalign.backends import Array

from . import _check
from .transfer import asarray

__all__ = ["bin_mean", "resample_affine"]

ORDERS = (0, 1, 3)


def _pull_matrices(matrices: ArrayLike, n_images: int) -> tuple[NDArray[np.float64], bool]:
    """Check matrices and give them the shape (M, 2, 3); the flag says whether there was one, without an axis."""
    m = asarray(matrices, "cpu")
    if m.dtype.kind not in "fiu":
        msg = f"matrices must be real numbers, got {m.dtype}"
        raise TypeError(msg)
    m = m.astype(np.float64)
    fits = m.ndim == 2 or (m.ndim == 3 and len(m) >= 1 and (n_images == 1 or len(m) in (1, n_images)))
    if not fits or m.shape[-2:] != (2, 3):
        several = "(K, 2, 3)" if n_images == 1 else f"({n_images}, 2, 3)"
        msg = f"matrices must have the shape (2, 3) or {several} for {n_images} image(s), got {m.shape}"
        raise ValueError(msg)
    if not np.isfinite(m).all():
        msg = "matrices must be finite"
        raise ValueError(msg)
    single = m.ndim == 2
    count = max(n_images, 1 if single else len(m))
    return np.ascontiguousarray(np.broadcast_to(m, (count, 2, 3))), single


def _two_sizes(value: Any) -> tuple[int, int] | None:
    """Two positive whole numbers, or None where it is something else."""
    try:
        y, x = (operator.index(v) for v in value)
    except (TypeError, ValueError):
        return None
    return (y, x) if y >= 1 and x >= 1 else None


def resample_affine(
    images: Array,
    matrices: ArrayLike,
    *,
    output_shape: tuple[int, int] | None = None,
    order: int = 1,
    mask: Array | None = None,
    workers: int | None = None,
) -> Array:
    """Sample images through pull matrices.

    Parameters
    ----------
    images : array
        (H, W) or (N, H, W), real numbers; NaN and infinite pixels are invalid.
    matrices : array_like
        (2, 3) for all images, or (N, 2, 3): output pixel p is sampled at ``M[:, :2] @ p + M[:, 2]``, points (y, x) in
        pixel indices, as in `stackalign.transforms`. A single image takes (K, 2, 3) as well and gives K outputs.
    output_shape : tuple of int, optional
        (h, w); that of the images by default.
    order : int
        0 takes the nearest pixel (halfway, the one of the larger index, as `scipy.ndimage` does), 1 interpolates
        linearly, 3 with a cubic B-spline.
    mask : array, optional
        Boolean (H, W) or (N, H, W), True = valid.
    workers : int, optional
        Number of CPU threads; one per core by default. Results do not depend on it.

    Returns
    -------
    array
        (h, w) for one image and one matrix, else (N, h, w) or (K, h, w). float64 for float64 images and float32 for
        all others: convert integers beyond 2**24 to float64 first. NaN where the sample lies outside the image or
        where any pixel that it takes with a weight other than zero is invalid.

    Raises
    ------
    ValueError
        Shapes do not fit, the order is not one of these, or a matrix is not finite.
    TypeError
        Complex or object types, a mask that is not boolean, or arrays of different homes.

    Notes
    -----
    A cubic spline passes through all pixels of an image, so that something has to stand in the holes: values
    interpolated linearly along the row, and along the column where a row has no valid pixel. Their influence falls by a
    factor of 3.7 per pixel of distance. No sample is made of them directly: holes grow by up to two pixels, and by one
    even where a sample falls on a pixel.

    Examples
    --------
    >>> import numpy as np
    >>> import stackalign as sa
    >>> image = np.array([[0.0, 1.0, 4.0], [0.0, 1.0, 4.0]])
    >>> sa.resample_affine(image, [[1, 0, 0], [0, 1, 0.5]])  # half a pixel further along x; NaN outside
    array([[0.5, 2.5, nan],
           [0.5, 2.5, nan]])
    """
    backend, stack, single_image = _check.stack(images, "images", mask)
    m, single_matrix = _pull_matrices(matrices, stack.shape[0])
    if order not in ORDERS or isinstance(order, bool):
        msg = f"order must be 0 (nearest), 1 (linear) or 3 (cubic spline), got {order!r}"
        raise ValueError(msg)
    shape = _two_sizes(stack.shape[1:] if output_shape is None else output_shape)
    if shape is None:
        msg = f"output_shape must be two positive whole numbers of pixels, got {output_shape}"
        raise ValueError(msg)
    if max(shape) > _check.LARGEST_SIDE:
        msg = f"output_shape must have sides up to {_check.LARGEST_SIDE} pixels, got {shape}"
        raise ValueError(msg)
    valid = _check.mask_array(mask, stack)
    out = backend.resample_affine(stack, valid, m, shape, int(order), _check.n_workers(workers))
    return out[0] if single_image and single_matrix else out


def bin_mean(
    images: Array,
    factor: int | tuple[int, int],
    *,
    mask: Array | None = None,
    return_count: bool = False,
    workers: int | None = None,
) -> Array | tuple[Array, Array]:
    """Average the valid pixels of blocks.

    Parameters
    ----------
    images : array
        (H, W) or (N, H, W), real numbers; NaN and infinite pixels are left out.
    factor : int or tuple of int
        Pixels per bin, or (fy, fx). Rows and columns at the end that do not fill a bin are cut off.
    mask : array, optional
        Boolean (H, W) or (N, H, W), True = valid.
    return_count : bool
        Also return of how many pixels each mean is made.
    workers : int, optional
        Number of CPU threads; one per core by default. Results do not depend on it.

    Returns
    -------
    means : array
        (H // fy, W // fx), with a leading N where the images have one; float64 for float64 images and float32 for all
        others, of float64 sums. NaN where a bin has no valid pixel.
    counts : array
        int64, of the same shape; only if `return_count`.

    Raises
    ------
    ValueError
        A factor is below 1 or larger than the image.
    TypeError
        Complex or object types, a mask that is not boolean, or arrays of different homes.

    Notes
    -----
    The middle of bin i lies at the pixel index ``full = i * f + (f - 1) / 2``, so that the pull matrix from a binned
    to a full grid is ``[[fy, 0, (fy - 1) / 2], [0, fx, (fx - 1) / 2]]``.

    Examples
    --------
    >>> import numpy as np
    >>> import stackalign as sa
    >>> image = np.array([[1.0, 3.0, 5.0, 7.0], [1.0, np.nan, 5.0, 7.0]])
    >>> sa.bin_mean(image, 2, return_count=True)
    (array([[1.66666667, 6.        ]]), array([[3, 4]]))
    """
    backend, stack, single = _check.stack(images, "images", mask)
    factors = _two_sizes(factor if isinstance(factor, tuple | list) else (factor, factor))
    if factors is None:
        msg = f"factor must be a positive whole number of pixels or two of them, (fy, fx), got {factor}"
        raise ValueError(msg)
    fy, fx = factors
    if fy > stack.shape[1] or fx > stack.shape[2]:
        msg = f"factor must not exceed the image of {stack.shape[1]} x {stack.shape[2]} pixels, got {factor}"
        raise ValueError(msg)
    result = backend.bin_mean(stack, _check.mask_array(mask, stack), (fy, fx), _check.n_workers(workers))
    means, counts = (result.means[0], result.counts[0]) if single else result
    return (means, counts) if return_count else means
