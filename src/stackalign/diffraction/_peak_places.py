"""Places of peaks: local maxima of a filtered image, the distance between them, and their fit."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign._types import FloatArray

from ._peak_filters import Ground, Plane

__all__ = ["check_distance", "fitted", "kept", "maxima", "neighbourhoods"]


STEPS = 6
"""Steps of the fit."""


def check_distance(distance: float | None) -> None:
    if distance is not None and not (np.isfinite(distance) and distance >= 0):
        msg = f"min_distance must be a number of pixels, 0 or more, got {distance}"
        raise ValueError(msg)


def maxima(snr: Plane, least: float, distance: float) -> tuple[NDArray[np.int64], FloatArray]:
    """Local maxima (N, 2) above a level, the highest first, none nearer to a higher one than a distance."""
    places = np.argwhere(snr >= least)
    values = snr[places[:, 0], places[:, 1]]
    framed = np.pad(snr, 1, constant_values=-np.inf)
    tops = np.ones(len(places), bool)
    for y in range(3):
        for x in range(3):
            tops &= values >= framed[places[:, 0] + y, places[:, 1] + x]
    places = places[tops]
    heights = values[tops].astype(np.float64)
    order = np.argsort(-heights, kind="stable")
    keep = kept(places[order], distance)
    return places[order][keep], heights[order][keep]


def kept(places: NDArray[Any], distance: float) -> NDArray[np.bool_]:
    """Which places, in their order of precedence, have no kept one before them within a distance."""
    from scipy.spatial import cKDTree

    keep = np.ones(len(places), bool)
    if len(places) < 2 or distance <= 0:
        return keep
    near = cKDTree(places).query_ball_point(places, distance)
    for k, others in enumerate(near):
        if keep[k]:
            for other in others:
                if other > k:
                    keep[other] = False
    return keep


def fitted(ground: Ground, places: NDArray[np.int64], width: float) -> tuple[FloatArray, FloatArray]:
    """Positions (N, 2) and integrated intensities of Gaussians of a width, by least squares over valid pixels."""
    position = places.astype(np.float64)
    if not len(places):
        return position.reshape(0, 2), np.zeros(0)
    reach = max(2, int(np.ceil(2.0 * width)))
    data, weight = (neighbourhoods(a, places, reach).astype(np.float64) for a in (ground.rest, ground.weight))
    weight = np.nan_to_num(weight)
    data = np.where(weight > 0, data, 0.0)
    grid = np.arange(-reach, reach + 1, dtype=np.float64)
    offset = np.zeros((len(places), 2))
    for _ in range(STEPS):
        y, x = grid[:, None] - offset[:, 0, None, None], grid - offset[:, 1, None, None]
        shape = np.exp(-(y * y + x * x) / (2 * width**2)) * weight
        height = (shape * data).sum((1, 2)) / np.maximum((shape * shape).sum((1, 2)), 1e-30)
        slopes = np.stack([shape, shape * y / width**2, shape * x / width**2], axis=-1)
        slopes[..., 1:] *= height[:, None, None, None]
        left = data - height[:, None, None] * shape
        normal = np.einsum("nijk,nijl->nkl", slopes, slopes) + 1e-12 * np.eye(3)
        step = np.linalg.solve(normal, np.einsum("nijk,nij->nk", slopes, left)[..., None])[..., 0]
        offset = np.clip(offset + np.clip(step[:, 1:], -0.5, 0.5), -1.5, 1.5)
    return position + offset, 2.0 * np.pi * width**2 * height


def neighbourhoods(image: NDArray[Any], places: NDArray[Any], reach: int) -> NDArray[Any]:
    """(N, 2r+1, 2r+1) pixels around places; NaN beyond the image."""
    framed = np.pad(image, reach, constant_values=np.nan)
    window = np.arange(2 * reach + 1)
    cut: NDArray[Any] = framed[places[:, 0, None, None] + window[:, None], places[:, 1, None, None] + window]
    return cut
