"""Centres of images that are nothing but a function of the distance from them, as a direct beam or clean rings."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from stackalign._types import FloatArray

__all__ = ["LEFT", "left_unexplained", "open_sigma", "radial_center"]


LEFT = 0.01
"""Share of an image's variance that its radial profile may leave unexplained: no background that is not concentric, no
walk-off, and next to no noise."""

ALIKE = 100.0
BESIDE, FAR, FEWEST = 4.0, 12.0, 500
"""Directions, distance in pixels, and number of pairs, from which neighbours are at the same distance from a centre."""
SIDE = 96
RESTARTS = 4
MANY = 1 << 14
"""Pixels of which a part of that number is searched first."""


def _residual(center: FloatArray, rows: FloatArray, columns: FloatArray, values: FloatArray) -> FloatArray:
    """What the mean over rings, which share pixels linearly, leaves of pixels."""
    radius = np.sqrt((rows - center[0]) ** 2 + (columns - center[1]) ** 2)
    low = radius.astype(np.intp)
    high = radius - low
    size = int(low.max()) + 2
    weight, total = np.bincount(low, minlength=size).astype(np.float64), np.bincount(low, values, size)
    for sums, outer in ((weight, high), (total, high * values)):
        moved = np.bincount(low, outer, size)
        sums -= moved
        sums[1:] += moved[:-1]
    profile = total / np.maximum(weight, 1e-12)
    left: FloatArray = values - profile[low] - high * np.diff(profile)[low]
    return left


def _unexplained(center: FloatArray, rows: FloatArray, columns: FloatArray, values: FloatArray) -> float:
    """Share of the variance that is left by the mean over rings."""
    left = _residual(center, rows, columns, values)
    return float(left @ left / max(float(values @ values), 1e-300))


def _middle(image: FloatArray, valid: NDArray[np.bool_]) -> FloatArray:
    """Centre of mass of what is above the median."""
    weight = np.where(valid, image - np.median(image[valid]), 0.0).clip(0.0)
    rows, columns = (np.arange(n) for n in image.shape)
    total = float(weight.sum()) or 1.0
    return np.array([(weight.sum(1) * rows).sum(), (weight.sum(0) * columns).sum()]) / total


def _searched(start: FloatArray, pixels: tuple[FloatArray, ...], size: float, last: float) -> Any:
    """Least unexplained share of some pixels, searched with a simplex of a size until it is as small as `last`."""
    simplex = start + size * np.array([[0, 0], [1, 0], [0, 1]])
    options = {"initial_simplex": simplex, "xatol": last, "maxfev": 120}
    return minimize(_unexplained, start, args=pixels, method="Nelder-Mead", options=options)


def open_sigma(image: FloatArray, valid: NDArray[np.bool_], center: FloatArray) -> float:
    """Standard error along the worse axis of a centre of rings, from how fast what they leave grows beside it.

    What is left is taken to be alike over `ALIKE` pixels: a narrow window on rings leaves a direction open.
    """
    rows, columns = (a.astype(np.float64) for a in np.nonzero(valid))
    values = image[valid].astype(np.float64)
    values = values - values.mean()

    def left(dy: float, dx: float) -> float:
        return _unexplained(center + np.array((dy, dx)), rows, columns, values)

    here = left(0.0, 0.0)
    yy, xx = (left(*d) + left(*(-np.array(d))) - 2 * here for d in ((1.0, 0.0), (0.0, 1.0)))
    yx = 0.25 * (left(1, 1) + left(-1, -1) - left(1, -1) - left(-1, 1))
    bends = np.linalg.eigvalsh(np.array([[yy, yx], [yx, xx]]))
    return float(np.sqrt(2 * ALIKE * max(here, 1e-12) / len(values) / bends[0])) if bends[0] > 0 else float("inf")


def uneven(image: NDArray[Any], valid: NDArray[np.bool_], center: FloatArray) -> float:
    """Share of an image's variance that is between neighbours at the same distance from about a centre.

    Noise, spots and arcs are, and no other centre near it explains them. Neighbours along a column are at the same
    distance beside the centre, those along a row above and below it.
    """
    rows, columns = (np.abs(np.arange(n) - c) for n, c in zip(image.shape, center, strict=True))
    pixels = (image - float(image[valid].mean(dtype=np.float64))).astype(np.float32)
    total = float(pixels[valid].var(dtype=np.float64))
    squares, count = 0.0, 0
    for axis, (along, across) in enumerate(((rows[:, None], columns[None]), (columns[None], rows[:, None]))):
        beside = (across > BESIDE * along) & (across > FAR)
        first, second = (valid[1:], valid[:-1]) if axis == 0 else (valid[:, 1:], valid[:, :-1])
        pairs = first & second & (beside[1:] if axis == 0 else beside[:, 1:])
        steps = np.diff(pixels, axis=axis)[pairs]
        squares, count = squares + float(np.vdot(steps, steps)), count + len(steps)
    return 0.5 * squares / count / total if count > FEWEST and total > 0 else 0.0


def left_unexplained(image: FloatArray, valid: NDArray[np.bool_], center: FloatArray) -> float:
    """Share of the variance of some of an image's pixels that the mean over rings about a centre leaves."""
    step = max(1, max(image.shape) // SIDE)
    rows, columns = (a.astype(np.float64) for a in np.nonzero(valid[::step, ::step]))
    values = image[::step, ::step][valid[::step, ::step]].astype(np.float64)
    return _unexplained(center / step, rows, columns, values - values.mean())


def radial_center(image: FloatArray, valid: NDArray[np.bool_], start: FloatArray) -> tuple[FloatArray, float]:
    """Return the centre (row, col) of which the image's valid pixels are a function of the distance, and what is left.

    Parameters
    ----------
    image, valid : (H, W) numpy.ndarray
    start : (2,) numpy.ndarray
        Where the search begins; the centre of mass is another such place, and the better end wins.

    Returns
    -------
    center : numpy.ndarray
    unexplained : float
        Share of the variance, at full resolution.
    """
    rows, columns = (a.astype(np.float64) for a in np.nonzero(valid))
    values = image[valid].astype(np.float64)
    values = values - values.mean()
    step = max(1, max(image.shape) // SIDE)
    some = (rows % step == 0) & (columns % step == 0)
    few = (rows[some] / step, columns[some] / step, values[some])
    rough = [
        minimize(
            _unexplained, first / step, args=few, method="Nelder-Mead",
            options={"initial_simplex": first / step + [[0, 0], [4, 0], [0, 4]], "xatol": 0.02, "maxfev": 160},
        )
        for first in (start, _middle(image, valid))
    ]  # fmt: skip
    best = min(rough, key=lambda end: float(end.fun))
    if best.fun > 2 * LEFT:
        return np.asarray(best.x) * step, float(best.fun)
    close, unexplained, first = np.asarray(best.x) * step, np.inf, 0.7
    if len(values) > 2 * MANY:
        # Some of the pixels lead near; odd steps go through all columns.
        part = slice(None, None, (len(values) // MANY) | 1)
        near = _searched(close, (rows[part], columns[part], values[part]), first, 1e-2)
        close, unexplained, first = np.asarray(near.x), float(near.fun), 0.1
    for _ in range(RESTARTS):
        fine = _searched(close, (rows, columns, values), first, 1e-3)
        better = fine.fun < 0.5 * unexplained
        close, unexplained = np.asarray(fine.x), float(fine.fun)
        if not better or unexplained < 0.01 * LEFT:
            break
    return close, unexplained
