"""Moving planes sampled by a cubic spline in place of bilinear interpolation."""

from array_api_compat import array_namespace

from stackalign._types import FloatArray
from stackalign.backends import Array
from stackalign.ops import ImagePair, resample_affine

from ._phases import put_in_phase
from .background import smooth_background

__all__ = ["CubicSamples", "filled"]

BORDER_IN_SIGMAS, LEAST_BORDER, NARROW = 2.0, 2, 32
"""Width of the border of smoothed images that is left out, the same in pixels at least, and the share of the shortest
side, one in so many, that it is at most."""

SPLINE_BORDER = 3
"""Pixels from the border of clean images that a spline, which takes them for mirrored there, gets wrong: what is wrong
fades to a quarter with each."""

FILL = 1.5
"""Sigma in pixels of the Gaussian whose mean stands in holes for the spline."""

COARSE = 1.5
"""Sigma in pixels of the smoothing from which on a spline leaves the phases of all waves that are left as they are."""


def _smoothed_border(planes: Array, sigma: float) -> int:
    """Width of the border of planes at which a plane was fitted in place of a Gaussian mean; 0 where it is kept.

    What is at the border of one image is inside the other, and smoothed in another way.
    """
    width = max(LEAST_BORDER, round(BORDER_IN_SIGMAS * sigma)) if sigma > 0 else 0
    return min(width, int(min(planes.shape[1:])) // NARROW)


def _inner(planes: Array, width: int) -> Array:
    """Planes without a border of a width."""
    if width == 0:
        return planes
    xp = array_namespace(planes)
    inner = xp.full_like(planes, xp.nan)
    inner[:, width:-width, width:-width] = planes[:, width:-width, width:-width]
    return inner


class CubicSamples:
    """Smoothed pairs without their borders, whose moving planes are sampled by a cubic spline.

    Parameters
    ----------
    pair : ImagePair
        As `stackalign.ops.prepare_pair` made it.
    smooth : (float, float)
        The Gaussians that it went through.
    workers : int, optional
    """

    def __init__(self, pair: ImagePair, smooth: tuple[float, float], workers: int | None) -> None:
        borders = [_smoothed_border(p, s) for p, s in zip((pair.reference, pair.moving), smooth, strict=True)]
        if not any(smooth):
            borders[1] = min(SPLINE_BORDER, min(pair.moving.shape[1:]) // NARROW)
        self.pair = ImagePair(_inner(pair.reference, borders[0]), _inner(pair.moving, borders[1]), single=False)
        self._whole = filled(pair.moving)
        self._holes = bool(array_namespace(pair.moving).isnan(self.pair.moving).any())
        self._fine = max(smooth) < COARSE
        self._workers = workers

    def at(self, matrices: FloatArray, *, in_phase: bool = True) -> Array:
        """Moving planes on the reference's pixels, valid where bilinear samples are."""
        shape = (int(self.pair.reference.shape[1]), int(self.pair.reference.shape[2]))
        cubic = resample_affine(self._whole, matrices, output_shape=shape, order=3, workers=self._workers)
        if self._holes:
            linear = resample_affine(self.pair.moving, matrices, output_shape=shape, order=1, workers=self._workers)
            xp = array_namespace(cubic)
            cubic = xp.where(xp.isnan(linear), linear, cubic)
        return put_in_phase(cubic, matrices) if in_phase and self._fine else cubic


def filled(planes: Array) -> Array:
    """Planes with a mean of what is near in their holes, which splines need; 0 far from anything."""
    xp = array_namespace(planes)
    holes = xp.isnan(planes)
    if not bool(holes.any()):
        return planes
    near = smooth_background(planes, None, FILL)
    return xp.where(holes, xp.nan_to_num(near).astype(planes.dtype), planes)
