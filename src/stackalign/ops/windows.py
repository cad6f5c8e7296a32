"""Windows of patterns: cut at whole pixels, and placed so that they hold a disk about a centre."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stackalign.backends import Array

from . import _check
from .transfer import asarray

__all__ = ["crop_windows", "encircled_window"]


def crop_windows(
    patterns: Array,
    corners: ArrayLike,
    shape: tuple[int, int],
    *,
    mask: Array | None = None,
    out: Array | None = None,
    workers: int | None = None,
) -> tuple[Array, Array]:
    """Cut a window from each pattern, with zeros where it reaches beyond the frame, and sum what was kept.

    Parameters
    ----------
    patterns : array
        (N, H, W) or (H, W), integers of up to 32 bits or floats.
    corners : array_like
        Integer (y, x) of the first pixel of the window, for all patterns or (N, 2); may lie outside the frame.
    shape : tuple of int
        (h, w) of the window, in pixels.
    mask : array, optional
        Boolean (H, W) or (N, H, W), True = valid: which pixels the sum counts. Pixels are copied as they are.
    out : array, optional
        Where to put the windows: writable, C-contiguous, (N, h, w), of the patterns' type in native byte order.
    workers : int, optional
        Number of CPU threads; one per core by default.

    Returns
    -------
    windows : array
        (N, h, w) or (h, w), of the patterns' type in native byte order.
    sums : array
        (N,) sum of the valid pixels of each window, int64 for integers, else float64.

    Examples
    --------
    >>> import numpy as np
    >>> import stackalign as sa
    >>> pattern = np.arange(16).reshape(4, 4)
    >>> window, kept = sa.crop_windows(pattern, (1, 2), (2, 3))
    >>> window  # zeros beyond the frame
    array([[ 6,  7,  0],
           [10, 11,  0]])
    >>> int(kept)
    34
    """
    backend, stack, single = _check.stack(patterns, "patterns", mask, out)
    valid = _check.mask_array(mask, stack)
    positions = _check.points(corners, len(stack), "corners")
    if not (positions == np.rint(positions)).all() or np.abs(positions).max(initial=0) > 2**31:
        msg = "corners must be whole numbers of pixels within 2**31"
        raise ValueError(msg)
    if len(shape) != 2 or min(shape) < 1 or any(int(side) != side for side in shape):
        msg = f"shape must be two positive whole numbers of pixels, got {shape}"
        raise ValueError(msg)
    height, width = (int(side) for side in shape)
    kind = patterns.dtype.newbyteorder("=")
    if out is not None and (
        (tuple(out.shape), out.dtype) != ((len(stack), height, width), kind)
        or not out.flags.c_contiguous
        or not getattr(out.flags, "writeable", True)  # CuPy's arrays always are
    ):
        msg = f"out must be a writable C-contiguous array of shape {(len(stack), height, width)} and type {kind}"
        raise ValueError(msg)
    direct = kind == stack.dtype  # bool, float16 and 64-bit integers are computed in another type
    threads = _check.n_workers(workers)
    windows, sums = backend.crop_windows(
        stack, valid, positions.astype(np.int64), (height, width), out if direct else None, threads
    )
    if not direct:
        windows = windows.astype(kind)
        if out is not None:
            out[...] = windows
            windows = out
    return (windows[0], sums[0]) if single else (windows, sums)


def encircled_window(
    centers: NDArray[np.float64], radius: int, frame: tuple[int, int]
) -> tuple[NDArray[np.int64], tuple[int, int], NDArray[Any]]:
    """Find windows of one shape that hold the whole disk about each centre.

    Parameters
    ----------
    centers : numpy.ndarray
        (N, 2) centres (y, x) in pixel indices.
    radius : int
        Radius of the disk, in pixels.
    frame : tuple of int
        (H, W) of the patterns. Rows and columns that lie beyond the frame in every pattern are left out, and an axis
        along which the window would be as long as the frame is kept whole and unshifted: a crop never adds pixels.

    Returns
    -------
    corners : numpy.ndarray
        (N, 2) int64, first pixel of each window: ``floor(c) - before``, or 0 along an axis that is kept whole.
    shape : tuple of int
        ``before + 1 + after`` along each axis, at most ``2 * radius + 1``.
    before : numpy.ndarray
        (2,) pixels between the corner and the pixel of the centre; of the median centre where the axis is kept whole.

    Raises
    ------
    ValueError
        The centres are not (N, 2), finite and within 2**31 pixels, or the radius is not a whole number from 0.

    Notes
    -----
    The pixels with ``|y - c| <= R`` lie from ``floor(c) - R`` to ``floor(c) + R``, whatever the fraction of c: 2R + 1
    pixels hold them all, 2R do not. A centre so little below a whole number that ``floor(c) + 1 + R - c`` is R in
    float64 counts as that whole number, because the radius counts that pixel.

    Examples
    --------
    >>> import numpy as np
    >>> import stackalign as sa
    >>> centers = np.array([[30.2, 31.7], [33.0, 31.9]])
    >>> corners, shape, before = sa.encircled_window(centers, 10, frame=(64, 64))
    >>> corners.tolist(), shape
    ([[20, 21], [23, 21]], (21, 21))
    """
    centers = asarray(centers, "cpu", np.float64)
    if centers.ndim != 2 or centers.shape[1] != 2 or not len(centers):
        msg = f"centers must have the shape (N, 2) with at least one (y, x), got {centers.shape}"
        raise ValueError(msg)
    if not (np.abs(centers) <= 2**31).all():  # false for NaN
        msg = "centers must be finite and within 2**31 pixels"
        raise ValueError(msg)
    if radius < 0 or int(radius) != radius:
        msg = f"radius must be a whole number of pixels from 0, got {radius}"
        raise ValueError(msg)
    radius = int(radius)
    pixel = np.floor(centers)
    pixel = (pixel + (pixel + 1 + radius - centers <= radius)).astype(np.int64)
    before = np.minimum(radius, np.maximum(pixel, 0).max(axis=0))
    after = np.minimum(radius, np.maximum(np.array(frame) - 1 - pixel, 0).max(axis=0))
    size = before + 1 + after
    corners = pixel - before
    whole = size >= np.array(frame)
    corners[:, whole] = 0
    before = np.where(whole, np.median(pixel, axis=0).astype(np.int64), before)
    height, width = np.where(whole, frame, size).tolist()
    return corners, (height, width), before
