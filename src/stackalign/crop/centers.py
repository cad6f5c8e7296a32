"""Centres of patterns: stated ones, and the robust plane of the descan."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign.errors import DataError
from stackalign.io import StackReader

from .conditioned import binned_points
from .config import CroppingConfig
from .result import CenterFit

__all__ = ["check_centers", "fit_plane", "stated_centers"]

ROUNDS = 4
"""Of scale and fit; the scale settles to a few per cent in three."""


def fit_plane(
    centers: NDArray[np.float64], excluded: NDArray[np.bool_], scan_shape: tuple[int, ...]
) -> tuple[CenterFit, NDArray[np.float64]]:
    """Fit ``c = a + B @ position`` to the centres over the scan, robustly.

    Parameters
    ----------
    centers : numpy.ndarray
        (N, 2) measured centres (y, x).
    excluded : numpy.ndarray
        (N,) bool, patterns that do not take part.
    scan_shape : tuple of int
        Shape of the scan, product N.

    Returns
    -------
    fit : CenterFit
    fitted : numpy.ndarray
        (N, 2) centres on the plane, for every pattern.

    Notes
    -----
    `scipy.optimize.least_squares` with the soft-L1 loss, whose scale is 1.4826 times the median absolute deviation of
    the residuals: a pattern far off pulls with a bounded force. Outliers on one side widen the residuals of the
    ordinary fit that this begins with, so scale and fit are repeated from those of the robust one.
    """
    from scipy.optimize import least_squares

    axes = [k for k, length in enumerate(scan_shape) if length > 1]
    position = np.stack([g.ravel() for g in np.indices(scan_shape)], axis=1)[:, axes].astype(np.float64)
    design = np.hstack([np.ones((len(centers), 1)), position])
    used = ~excluded
    if used.sum() < design.shape[1]:
        msg = f"a plane needs {design.shape[1]} patterns with a usable centre, there are {int(used.sum())}"
        raise DataError(msg)
    a = design[used]
    coefficients = np.empty((design.shape[1], 2))
    for axis in range(2):
        b = centers[used, axis]
        start = np.linalg.lstsq(a, b, rcond=None)[0]
        for _ in range(ROUNDS):
            residual = b - a @ start
            scale = 1.4826 * float(np.median(np.abs(residual - np.median(residual))))
            if scale <= 1e-9 * max(1.0, float(np.abs(b).max())):
                break
            # A copy each time: SciPy before 1.16 scales what it gets in place.
            start = least_squares(
                lambda c, b=b: a @ c - b, start, jac=lambda c: a.copy(), loss="soft_l1", f_scale=scale, x_scale="jac"
            ).x
        coefficients[:, axis] = start
    fitted = design @ coefficients
    residuals = np.where(used[:, None], centers - fitted, np.nan)
    rms = np.sqrt(np.nanmean(residuals**2, axis=0))
    return CenterFit(coefficients, residuals, (float(rms[0]), float(rms[1]))), fitted


def check_centers(centers: NDArray[np.floating[Any]], reader: StackReader) -> NDArray[np.float64]:
    """Check stated centres (N, 2) of a stack's patterns.

    Raises
    ------
    DataError
        Their number is not that of the patterns, or one is no number or lies outside the frame.
    """
    n, height, width = reader.info.shape
    stated = np.asarray(centers, np.float64)
    if stated.shape != (n, 2):
        msg = f"centers must have the shape ({n}, 2), one (y, x) for each pattern, got {stated.shape}"
        raise DataError(msg)
    inside = (stated >= -0.5).all(axis=1) & (stated[:, 0] <= height - 0.5) & (stated[:, 1] <= width - 0.5)
    if not inside.all():
        k = int((~inside).argmax())
        y, x = stated[k]
        msg = (
            f"the centre ({y:g}, {x:g}) of pattern {k} is not inside the {height} x {width} frame; correct it in the "
            "table of centres, or give that pattern the centre of its neighbours"
        )
        raise DataError(msg)
    return np.ascontiguousarray(stated)


def stated_centers(reader: StackReader, config: CroppingConfig) -> NDArray[np.float64] | None:
    """Centre that the configuration states for every pattern, None where they are measured."""
    height, width = reader.info.shape[1:]
    if config.center_method == "centroid":
        return None
    if config.center_method == "manual":
        assert config.manual_center is not None  # the configuration has checked it
        y, x = binned_points(np.array(config.manual_center, np.float64), config.bin).tolist()
        if not (-0.5 <= y <= height - 0.5 and -0.5 <= x <= width - 0.5):
            msg = (
                f"manual_center ({y:g}, {x:g}) lies outside the {height} x {width} patterns; "
                "give (y, x) in pixel indices from 0"
            )
            raise DataError(msg)
        return np.array([y, x], np.float64)
    if config.legacy_window:
        return np.array([height // 2, width // 2], np.float64)
    return np.array([(height - 1) / 2, (width - 1) / 2])
