"""Radial operations on diffraction patterns: totals and centres, retention radii, cumulative sums."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stackalign.backends import Array
from stackalign.backends._protocol import FAR

from . import _check

__all__ = [
    "PatternSummary",
    "centroid",
    "pattern_summary",
    "radial_cumulative",
    "retention_radius",
]


@dataclass(frozen=True)
class PatternSummary:
    """One row per pattern, arrays of the patterns' home.

    Parameters
    ----------
    total : array
        (N,) sum of the valid pixels: int64, exact, for integer patterns, else float64.
    minimum, maximum : array
        (N,) float64 extrema of the valid pixels, NaN where there is none.
    n_valid : array
        (N,) int64 number of valid pixels.
    centers : array
        (N, 2) float64 centres (y, x) in pixel indices.
    radii : array
        (N, F) int64 retention radius for each fraction, in pixels.
    """

    total: Array
    minimum: Array
    maximum: Array
    n_valid: Array
    centers: Array
    radii: Array


def pattern_summary(
    patterns: Array,
    fractions: float | Sequence[float] = (),
    *,
    centers: ArrayLike | None = None,
    mask: Array | None = None,
    workers: int | None = None,
) -> PatternSummary:
    """Total, extrema, centre and retention radii of each pattern, in one read of the data.

    Parameters
    ----------
    patterns : array
        (N, H, W) or (H, W), integers of up to 32 bits or floats; NaN and infinite pixels are invalid.
    fractions : float or sequence of float
        Fractions of the total, in (0, 1]; several cost little more than one. See `retention_radius`.
    centers : array_like, optional
        (y, x) for all patterns, or (N, 2); by default each pattern's centroid, see `centroid`.
    mask : array, optional
        Boolean (H, W) or (N, H, W), True = valid.
    workers : int, optional
        Number of CPU threads; one per core by default. Results do not depend on it.

    Returns
    -------
    PatternSummary
        With rows even for a single pattern.

    Examples
    --------
    >>> import numpy as np
    >>> import stackalign as sa
    >>> patterns = np.zeros((2, 9, 9), np.uint16)
    >>> patterns[0, 3:6, 3:6] = 10
    >>> patterns[1, 2, 6] = 50
    >>> summary = sa.pattern_summary(patterns, fractions=(0.5, 1.0))
    >>> summary.total, summary.centers.tolist(), summary.radii.tolist()
    (array([90, 50]), [[4.0, 4.0], [2.0, 6.0]], [[1, 2], [0, 0]])
    """
    backend, stack, _ = _check.stack(patterns, "patterns", mask)
    valid = _check.mask_array(mask, stack)
    shares = _check.fractions_array(fractions)[0] if np.size(fractions) else np.empty(0)
    middle = None if centers is None else _check.points(centers, len(stack), "centers")
    return PatternSummary(*backend.pattern_summary(stack, valid, middle, shares.tolist(), _check.n_workers(workers)))


def centroid(patterns: Array, *, mask: Array | None = None, workers: int | None = None) -> Array:
    """Intensity-weighted mean position of each pattern.

    Parameters
    ----------
    patterns : array
        (N, H, W) or (H, W), integers of up to 32 bits or floats; NaN and infinite pixels are invalid.
    mask : array, optional
        Boolean (H, W) or (N, H, W), True = valid.
    workers : int, optional
        Number of CPU threads; one per core by default.

    Returns
    -------
    array
        (N, 2) or (2,) float64, (y, x) in pixel indices, 0 = middle of the first pixel. The middle of the frame,
        ``((H - 1) / 2, (W - 1) / 2)``, where the pattern sums to 0.

    Notes
    -----
    ``c = sum(q * p(q)) / sum(p(q))`` over the valid pixels q. The order of the sums is fixed, so every backend returns
    the same bits. With negative values the centroid can lie outside the frame.

    Examples
    --------
    >>> import numpy as np
    >>> import stackalign as sa
    >>> pattern = np.zeros((8, 8))
    >>> pattern[2, 5], pattern[3, 5] = 1, 3
    >>> sa.centroid(pattern)
    array([2.75, 5.  ])
    """
    backend, stack, single = _check.stack(patterns, "patterns", mask)
    valid = _check.mask_array(mask, stack)
    centers = backend.pattern_summary(stack, valid, None, (), _check.n_workers(workers)).centers
    return centers[0] if single else centers


def retention_radius(
    patterns: Array,
    centers: ArrayLike | None,
    fractions: float | Sequence[float],
    *,
    mask: Array | None = None,
    workers: int | None = None,
) -> Array:
    """Radius about the centre that keeps a fraction of the intensity (the encircled-energy radius).

    The smallest integer i for which the pixels at a distance of at most i from the centre hold at least the fraction of
    the pattern's total: ``sum(p[r <= i]) >= fraction * sum(p)``.

    Parameters
    ----------
    patterns : array
        (N, H, W) or (H, W), integers of up to 32 bits or floats; NaN and infinite pixels are invalid and contribute
        nothing.
    centers : array_like or None
        (y, x) for all patterns, or (N, 2), in pixel indices, sub-pixel; None takes each pattern's centroid.
    fractions : float or sequence of float
        In (0, 1]. Several fractions cost little more than one.
    mask : array, optional
        Boolean (H, W) or (N, H, W), True = valid.
    workers : int, optional
        Number of CPU threads; one per core by default.

    Returns
    -------
    array
        int64 radii in pixels, of shape (N, F), without N for a single pattern and without F for a single fraction.
        -1 where the centre lies more than a million pixels away.

    Raises
    ------
    ValueError
        A fraction is not in (0, 1], a centre is not finite, or a shape does not fit.

    Notes
    -----
    Distances are compared as squares in float64 and sums as if they were exact: integers in int64, floating-point
    values with an error bound, and in twice the precision where the bound does not decide. The answer is therefore the
    same on every backend and for every number of workers. Where values are negative, the sum is not monotone and the
    first radius that reaches the fraction counts; where none does, the radius that holds the whole frame.

    Examples
    --------
    >>> import numpy as np
    >>> import stackalign as sa
    >>> y, x = np.mgrid[:65, :65]
    >>> disk = (np.hypot(y - 32, x - 32) <= 20).astype(np.uint16)
    >>> sa.retention_radius(disk, (32, 32), (0.25, 0.5, 1.0)).tolist()  # half of the area is within 20 / sqrt(2)
    [10, 15, 20]
    """
    shares, one = _check.fractions_array(fractions)
    summary = pattern_summary(patterns, shares.tolist(), centers=centers, mask=mask, workers=workers)
    radii = summary.radii[:, 0] if one else summary.radii
    return radii[0] if patterns.ndim == 2 else radii


def radial_cumulative(
    patterns: Array,
    centers: ArrayLike | None,
    *,
    n_radii: int | None = None,
    mask: Array | None = None,
    workers: int | None = None,
) -> Array:
    """Sum of the pixels within each integer radius about the centre.

    Parameters
    ----------
    patterns : array
        (N, H, W) or (H, W), integers of up to 32 bits or floats; NaN and infinite pixels are invalid.
    centers : array_like or None
        (y, x) for all patterns, or (N, 2), in pixel indices; None takes each pattern's centroid.
    n_radii : int, optional
        Number of radii, from 0; by default enough to hold every pixel of every pattern.
    mask : array, optional
        Boolean (H, W) or (N, H, W), True = valid.
    workers : int, optional
        Number of CPU threads; one per core by default.

    Returns
    -------
    array
        (N, n_radii) or (n_radii,) float64: element i is ``sum(p[r <= i])``, with r the distance in pixels. Exact for
        integers up to 2**53.

    Raises
    ------
    ValueError
        A centre is not finite or, where `n_radii` has to be found, more than a million pixels away; a shape does not
        fit.

    Examples
    --------
    >>> import numpy as np
    >>> import stackalign as sa
    >>> sa.radial_cumulative(np.ones((5, 5)), (2, 2))  # pixels at a distance of up to 0, 1, 2, 3 from the middle
    array([ 1.,  5., 13., 25., 25.])
    """
    backend, stack, single = _check.stack(patterns, "patterns", mask)
    valid = _check.mask_array(mask, stack)
    threads = _check.n_workers(workers)
    if centers is None:
        centers = backend.to_numpy(backend.pattern_summary(stack, valid, None, (), threads).centers)
    middle = _check.points(centers, len(stack), "centers")
    far: NDArray[np.bool_] = np.abs(middle).max(axis=-1) > FAR
    if far.any():
        if n_radii is None or n_radii > FAR - _check.LARGEST_SIDE:
            msg = f"{int(far.sum())} of the centers lie more than a million pixels away; give n_radii for rows of zeros"
            raise ValueError(msg)
        middle = np.where(far[:, None], -FAR, middle)  # no pixel lies within n_radii of either
    if n_radii is None:
        farthest = np.maximum(np.abs(middle), np.abs(np.array(stack.shape[1:]) - 1.0 - middle))
        n_radii = int(np.ceil(np.hypot(farthest[:, 0], farthest[:, 1]).max(initial=0.0))) + 2
    if n_radii < 1:
        msg = f"n_radii must be at least 1, got {n_radii}"
        raise ValueError(msg)
    sums = backend.radial_cumulative(stack, valid, middle, n_radii, threads)
    return sums[0] if single else sums
