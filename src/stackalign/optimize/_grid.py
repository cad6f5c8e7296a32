"""What a grid of scores tells: its distinct maxima, and the top of the paraboloid through one of them."""

from collections.abc import Sequence

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

from stackalign._types import FloatArray

__all__ = ["local_maxima", "vertex"]

FLAT = 1e-9
"""Share of the strongest curvature below which a direction has none."""


def local_maxima(surface: FloatArray, top: int) -> NDArray[np.int64]:
    """Indices (N, P) of the highest local maxima, N <= top, highest first.

    A plateau counts once, by its first point, and not at all where a higher point touches it.
    """
    summit = surface == scipy.ndimage.maximum_filter(surface, size=3, mode="nearest")
    # A neighbour of the same height that is no summit has a higher one beside it: the plateau is a step of a slope.
    beside = scipy.ndimage.maximum_filter(np.where(summit, -np.inf, surface), size=3, mode="nearest")
    labels, _ = scipy.ndimage.label(summit, structure=np.ones((3,) * surface.ndim))
    slopes = np.unique(labels[summit & (beside == surface)])
    # np.unique tells where each label occurs first; label 0 is all that is no summit.
    numbers, first = np.unique(labels.ravel(), return_index=True)
    first = first[(numbers > 0) & ~np.isin(numbers, slopes)]
    order = np.argsort(-surface.ravel()[first], kind="stable")[:top]
    return np.stack(np.unravel_index(first[order], surface.shape), axis=-1).astype(np.int64)


def vertex(surface: FloatArray, axes: Sequence[FloatArray], index: NDArray[np.int64]) -> FloatArray | None:
    """Top (P,) of the quadratic through the points around a maximum, or None where there is no such top.

    A maximum on the rim, or an axis of fewer than three points, keeps its coordinate along that axis: nothing is known
    on the other side.
    """
    at = np.array([axis[i] for axis, i in zip(axes, index, strict=True)])
    inner = [d for d, i in enumerate(index) if 0 < i < surface.shape[d] - 1]
    if not inner:
        return None
    window = tuple(slice(i - 1, i + 2) if d in inner else int(i) for d, i in enumerate(index))
    values = surface[window].ravel()
    below = np.array([axes[d][index[d]] - axes[d][index[d] - 1] for d in inner])
    above = np.array([axes[d][index[d] + 1] - axes[d][index[d]] for d in inner])
    units = np.maximum(below, above)
    grid = np.meshgrid(*[[-b / u, 0.0, a / u] for b, a, u in zip(below, above, units, strict=True)], indexing="ij")
    x = np.stack([part.ravel() for part in grid], axis=-1)
    n = len(inner)
    rows, columns = np.triu_indices(n)
    design = np.hstack([np.ones((len(x), 1)), x, x[:, rows] * x[:, columns]])
    coefficients = np.linalg.lstsq(design, values, rcond=None)[0]
    hessian = np.zeros((n, n))
    hessian[rows, columns] += coefficients[1 + n :]
    hessian += hessian.T
    curvatures = np.linalg.eigvalsh(hessian)
    # Along a ridge the curvature is 0 but for rounding, of either sign.
    if not curvatures[-1] < -FLAT * abs(curvatures[0]):
        return None
    move = np.linalg.solve(hessian, -coefficients[1 : 1 + n])
    # Beyond the neighbours the quadratic is a guess.
    if (move < -below / units).any() or (move > above / units).any():
        return None
    refined: FloatArray = at.copy()
    refined[inner] += move * units
    return refined
