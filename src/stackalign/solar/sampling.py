"""Values of an image between its pixels."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from stackalign._types import FloatArray

__all__ = ["SplineImage", "high_pass", "map_by_rows", "masked_blur", "sample"]


MARGIN = 16
"""Pixels around the points that a spline must know: what lies beyond weighs less than 0.268**16, 1e-9."""

STRIDE = 8
"""Rows from one whose coordinates are computed to the next."""

LEAST_WEIGHT = 0.02
"""Share of a Gaussian's weight on valid pixels from which on their mean is taken for the background."""

STRAIGHT = 1e-3
"""Fourth difference of these, in pixels, up to which a cubic goes between; it is wrong by a twentieth of that."""


def map_by_rows(mapping: Callable[[FloatArray], FloatArray], points: FloatArray) -> FloatArray:
    """Map points (rows, ..., 2), whose rows are evenly spaced, by a mapping that is nearly smooth.

    It is computed for some rows and interpolated between them by cubics, but around what is no cubic, as the limb, and
    what is not known, there it is computed for all.
    """
    n_rows = points.shape[0]
    nodes = np.arange(0, n_rows, STRIDE)
    if len(nodes) < 6:
        return mapping(points)
    known = mapping(points[nodes])
    with np.errstate(invalid="ignore"):
        straight = np.abs(np.diff(known, 4, axis=0)) < STRAIGHT
    curved: NDArray[np.bool_] = ~np.all(straight.reshape(len(nodes) - 4, -1), axis=1)
    rows = np.arange(n_rows)
    first = np.clip(rows // STRIDE - 1, 0, len(nodes) - 4)
    last_window = len(curved) - 1
    exact = curved[np.clip(first - 1, 0, last_window)] | curved[np.minimum(first, last_window)] | (rows > nodes[-1])
    weights = _cubic_weights(rows / STRIDE - first)
    result = np.empty(points.shape)
    lines, flat = known.reshape(len(nodes), -1), result.reshape(n_rows, -1)
    starts = np.flatnonzero(np.diff(first, prepend=-1))
    for start, stop in itertools.pairwise([*starts.tolist(), n_rows]):
        np.matmul(weights[start:stop], lines[first[start] : first[start] + 4], out=flat[start:stop])
    if exact.any():
        result[exact] = mapping(points[exact])
    return result


def _cubic_weights(at: FloatArray) -> FloatArray:
    """(N, 4) weights of the nodes 0, 1, 2, 3 in the cubic through them, at N places."""
    weights = np.empty((len(at), 4))
    for j in range(4):
        weights[:, j] = np.prod([(at - k) / (j - k) for k in range(4) if k != j], axis=0)
    return weights


@dataclass(frozen=True)
class SplineImage:
    """An image between its pixels, as `sample` gives it, for many samplings: its spline is made once.

    Parameters
    ----------
    image : array
        (ny, nx).
    valid : array
        Boolean, True = valid.
    order : {1, 3}
        Bilinear, or the cubic spline through the pixels' values.
    """

    image: NDArray[Any]
    valid: NDArray[np.bool_]
    order: int = 3
    _made: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.order not in (1, 3):
            msg = f"order must be 1 (bilinear) or 3 (cubic spline), got {self.order}"
            raise ValueError(msg)

    def at(self, points: ArrayLike) -> FloatArray:
        """Values at points (..., 2), see `sample`."""
        p = np.asarray(points, np.float64)
        x, y = p[..., 0].ravel(), p[..., 1].ravel()
        ny, nx = self.image.shape
        with np.errstate(invalid="ignore"):
            inside = (x >= 0) & (x <= nx - 1) & (y >= 0) & (y <= ny - 1)
        result = np.full(x.shape, np.nan)
        if not inside.any():
            return result.reshape(p.shape[:-1])
        every = bool(inside.all())
        x, y = (x, y) if every else (x[inside], y[inside])
        known, coefficients, corner = self._around((int(y.min()), int(y.max()) + 1), (int(x.min()), int(x.max()) + 1))
        coordinates = np.stack([y - corner[0], x - corner[1]])
        if known is None:
            values = self._interpolated(coefficients, coordinates)
        else:
            # A point on the last pixel is interpolated between it and nothing: of weight 0, by "nearest".
            weight = ndimage.map_coordinates(known, coordinates, order=1, mode="nearest")
            whole = weight > 1.0 - 1e-6
            values = np.full(len(x), np.nan)
            values[whole] = self._interpolated(coefficients, coordinates[:, whole])
        if every:
            return values.reshape(p.shape[:-1])
        result[inside] = values
        return result.reshape(p.shape[:-1])

    def _interpolated(self, coefficients: FloatArray, coordinates: FloatArray) -> FloatArray:
        if not coordinates.size:
            return np.empty(0)
        values: FloatArray = ndimage.map_coordinates(
            coefficients, coordinates, order=self.order, mode="mirror", prefilter=False
        )
        return values

    def _around(
        self, rows: tuple[int, int], columns: tuple[int, int]
    ) -> tuple[FloatArray | None, FloatArray, tuple[int, int]]:
        """Known pixels (None if all are), spline coefficients, and the first pixel of a part that holds the points."""
        made = self._made
        held = made.get("box")
        if held is None or any(
            a < s.start + MARGIN * (s.start > 0) or b > s.stop - MARGIN * (s.stop < n)
            for (a, b), s, n in zip((rows, columns), held, self.image.shape, strict=True)
        ):
            # A little more than is asked for: the next correction looks a few pixels beside.
            wide = [
                slice(
                    max(0, a - MARGIN - max(MARGIN, (b - a) // 8)), min(n, b + 1 + MARGIN + max(MARGIN, (b - a) // 8))
                )
                for (a, b), n in zip((rows, columns), self.image.shape, strict=True)
            ]
            box = (wide[0], wide[1])
            known = self.valid[box] & np.isfinite(self.image[box])
            patch = _filled(self.image[box], known)
            made["coefficients"] = ndimage.spline_filter(patch, 3, mode="mirror") if self.order == 3 else patch
            made["known"] = None if known.all() else known.astype(np.float64)
            made["box"] = held = box
        return made["known"], made["coefficients"], (held[0].start, held[1].start)


def sample(image: NDArray[Any], valid: NDArray[np.bool_], points: ArrayLike, *, order: int = 3) -> FloatArray:
    """Interpolate an image at points.

    Parameters
    ----------
    image : array
        (ny, nx).
    valid : array
        Boolean, True = valid.
    points : array_like
        (..., 2) pixels (x, y); NaN gives NaN.
    order : {1, 3}
        Bilinear, or the cubic spline through the pixels' values.

    Returns
    -------
    numpy.ndarray
        (...) float64; NaN outside the image, and where a bilinear tap of non-zero weight is invalid.
    """
    return SplineImage(image, valid, order).at(points)


def _filled(image: NDArray[Any], known: NDArray[np.bool_]) -> FloatArray:
    """The image with each unknown pixel as its nearest known one, so that a spline does not ring at holes."""
    patch = np.where(known, image, 0).astype(np.float64)
    if not known.all():
        nearest = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
        patch = patch[tuple(nearest)]
    return patch


def masked_blur(image: NDArray[Any], valid: NDArray[np.bool_], sigma: tuple[float, float]) -> FloatArray:
    """Gaussian of sigma (y, x) over the valid pixels alone; invalid ones come out as NaN."""
    if valid.all():
        along = [
            ndimage.gaussian_filter1d(np.ones(n), s, mode="constant") for n, s in zip(image.shape, sigma, strict=True)
        ]
        weight = np.outer(*along)
    else:
        weight = ndimage.gaussian_filter(valid.astype(np.float64), sigma, mode="constant")
    total = ndimage.gaussian_filter(np.where(valid, image, 0).astype(np.float64), sigma, mode="constant")
    blurred: FloatArray = np.divide(total, weight, out=np.full(image.shape, np.nan), where=valid & (weight > 0))
    return blurred


def high_pass(image: FloatArray, weights: NDArray[np.bool_], sigma: tuple[float, float]) -> FloatArray:
    """The image less the Gaussian mean of sigma (y, x) over its pixels of weight; NaN where there are none near.

    A plane is taken off before: at the image's edges a mean of what is on one side lags behind a slope.
    """
    level = image - _plane(image, weights)
    weight = ndimage.gaussian_filter(weights.astype(np.float64), sigma, mode="constant")
    total = ndimage.gaussian_filter(np.where(weights, level, 0.0), sigma, mode="constant")
    smooth = np.divide(total, weight, out=np.full(image.shape, np.nan), where=weight > LEAST_WEIGHT)
    rest: FloatArray = level - smooth
    return rest


def _plane(image: FloatArray, weights: NDArray[np.bool_]) -> FloatArray:
    """The plane nearest to the pixels of weight; 0 where these are fewer than it needs."""
    y, x = np.nonzero(weights)
    if len(y) < 3:
        return np.zeros(image.shape)
    design = np.stack([np.ones(len(y)), y, x], axis=-1)
    offset, down, across = np.linalg.lstsq(design.T @ design, design.T @ image[y, x], rcond=None)[0]
    iy, ix = np.indices(image.shape)
    plane: FloatArray = offset + down * iy + across * ix
    return plane
