"""Filters that both sides of a comparison go through: the hook of the caller, and presets."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from stackalign._types import FloatArray
from stackalign.backends import refuse_hidden
from stackalign.ops import asarray, resample_affine

__all__ = ["Hook", "high_pass", "local_normalise", "log1p", "ridge"]


class _Plain(Protocol):
    def __call__(self, image: NDArray[Any], sim: bool = False) -> NDArray[Any]: ...


Hook: TypeAlias = _Plain | Callable[..., NDArray[Any]]
"""``preprocess(image, sim=False) -> image``: one disk in, one of the same shape out; `sim` tells simulated ones."""


@dataclass(frozen=True)
class Preset:
    """A filter whose lengths are in pixels of the display, and follow the grid on which it works."""

    kind: str
    sigmas: tuple[float, ...] = ()
    dark: bool = True

    def scaled(self, factor: float) -> "Preset":
        """Return the filter for images whose pixels are 1 / factor as wide."""
        return replace(self, sigmas=tuple(s * factor for s in self.sigmas))

    def __call__(self, image: NDArray[Any], sim: bool = False) -> NDArray[Any]:
        """Filter the last two axes."""
        refuse_hidden(image, "image")
        values = asarray(image, "cpu", np.float64)
        lead = (0,) * (values.ndim - 2)
        if self.kind == "log1p":
            low = values.min((-2, -1), keepdims=True)
            mean = (values - low).mean((-2, -1), keepdims=True)
            return np.asarray(np.log1p((values - low) / np.where(mean > 0, mean, 1.0)))
        if self.kind == "ridge":
            curvatures = [s * s * _curvature(values, (*lead, s, s), self.dark) for s in self.sigmas]
            return np.asarray(np.maximum.reduce([*curvatures, np.zeros_like(values)]))
        sigma = (*lead, *self.sigmas * 2)
        rest = values - ndimage.gaussian_filter(values, sigma, mode="nearest")
        if self.kind == "high_pass":
            return np.asarray(rest)
        spread = np.sqrt(ndimage.gaussian_filter(rest * rest, sigma, mode="nearest"))
        floor = 0.05 * np.sqrt((rest * rest).mean((-2, -1), keepdims=True))
        return np.asarray(rest / np.maximum(spread, np.where(floor > 0, floor, 1.0)))


def ridge(sigmas: tuple[float, ...] = (2.0, 3.0), dark: bool = True) -> Preset:
    """Keep lines: the strongest curvature across, over several widths.

    Parameters
    ----------
    sigmas : tuple of float
        Widths of the lines in pixels.
    dark : bool
        Dark lines, such as HOLZ lines in the disk of 000, or bright ones.

    Returns
    -------
    Preset
        For `preprocess`.

    Examples
    --------
    >>> import numpy as np
    >>> from stackalign.refine import ridge
    >>> line = np.ones((9, 9))
    >>> line[4] = 0
    >>> filtered = ridge(sigmas=(1.0,))(line)
    >>> int(filtered.mean(1).argmax())
    4
    """
    return Preset("ridge", _positive(sigmas, "sigmas"), dark)


def high_pass(sigma: float = 10.0) -> Preset:
    """Take away what varies over more than `sigma` pixels, such as diffuse scattering.

    Parameters
    ----------
    sigma : float
        Of the Gaussian whose mean is taken away, in pixels of the display.

    Returns
    -------
    Preset
        For `preprocess`.

    Examples
    --------
    >>> import numpy as np
    >>> from stackalign.refine import high_pass
    >>> slope = np.linspace(0, 1, 50)[:, None] + np.zeros((50, 50))
    >>> float(np.ptp(high_pass(3.0)(slope)[20:30])) < 1e-6
    True
    """
    return Preset("high_pass", _positive((sigma,), "sigma"))


def local_normalise(sigma: float = 10.0) -> Preset:
    """Take away the mean within about `sigma` pixels and divide by the deviation from it: dim features count too.

    Parameters
    ----------
    sigma : float
        Of the Gaussian, in pixels of the display.

    Returns
    -------
    Preset
        For `preprocess`.

    Examples
    --------
    >>> import numpy as np
    >>> from stackalign.refine import local_normalise
    >>> image = np.random.default_rng(0).normal(size=(64, 64))
    >>> image[:32] *= 10
    >>> normal = local_normalise(4.0)(image)
    >>> 0.8 < float(normal[:24].std() / normal[40:].std()) < 1.25
    True
    """
    return Preset("local_normalise", _positive((sigma,), "sigma"))


def log1p() -> Preset:
    """Logarithm of 1 + intensity over the disk's mean, both above its minimum: tames bright features.

    Examples
    --------
    >>> import numpy as np
    >>> from stackalign.refine import log1p
    >>> log1p()(np.array([[0.0, 10.0], [100.0, 1000.0]])).round(2)
    array([[0.  , 0.04],
           [0.31, 1.53]])
    """
    return Preset("log1p")


def _positive(values: tuple[float, ...], name: str) -> tuple[float, ...]:
    if not values or not all(np.isfinite(v) and v > 0 for v in values):
        msg = f"{name} must be widths in pixels above 0, got {values}"
        raise ValueError(msg)
    return tuple(float(v) for v in values)


def _curvature(values: FloatArray, sigma: tuple[float, ...], dark: bool) -> FloatArray:
    """Curvature across lines: the larger eigenvalue of the Hessian of the smoothed image, of its negative if bright."""
    lead = (0,) * (values.ndim - 2)
    signed = values if dark else -values
    yy, yx, xx = (
        ndimage.gaussian_filter(signed, sigma, order=(*lead, *order), mode="nearest")
        for order in ((2, 0), (1, 1), (0, 2))
    )
    return np.asarray((yy + xx) / 2 + np.hypot((yy - xx) / 2, yx))


def apply_measured(hook: Hook | None, image: NDArray[Any], mask: NDArray[np.bool_]) -> FloatArray:
    """Filter one measured disk; invalid pixels take the value of the nearest valid one on the way."""
    refuse_hidden(image, "image")
    values = np.array(image, dtype=np.float64)
    if hook is None:
        return values
    if not mask.all():
        nearest = ndimage.distance_transform_edt(~mask, return_distances=False, return_indices=True)
        values = values[tuple(nearest)]
    return _checked(hook(values.copy(), sim=False), values.shape)


def apply_simulated(hook: Hook | None, images: FloatArray, step_px: float) -> FloatArray:
    """Filter simulated disks (..., H, W) on a grid whose nodes are `step_px` pixels of the display apart.

    Presets are scaled to the grid. Other hooks get images of about one node per pixel, so that lengths in pixels mean
    the same on both sides.
    """
    if hook is None:
        return images
    if isinstance(hook, Preset):
        return hook.scaled(1 / step_px)(images, sim=True)
    factor = max(1, round(step_px))
    flat = images.reshape(-1, *images.shape[-2:])
    rows, columns = flat.shape[1:]
    wide = ((rows - 1) * factor + 1, (columns - 1) * factor + 1)
    result = np.empty_like(flat)
    matrix = np.array([[1 / factor, 0, 0], [0, 1 / factor, 0]])
    for k, image in enumerate(flat):
        fine = image if factor == 1 else resample_affine(image, matrix, output_shape=wide, order=3)
        fine = np.ascontiguousarray(fine)
        result[k] = _checked(hook(fine.copy(), sim=True), fine.shape)[::factor, ::factor]
    return result.reshape(images.shape)


def _checked(result: Any, shape: tuple[int, ...]) -> FloatArray:
    array = np.asarray(result)
    if array.shape != shape:
        msg = f"preprocess must return an image of the shape that it got, {shape}, and returned {array.shape}"
        raise ValueError(msg)
    if array.dtype.kind not in "fiub" or not np.isfinite(array).all():
        msg = f"preprocess must return finite real numbers; it returned {array.dtype} with NaN or infinite values"
        raise ValueError(msg)
    return np.asarray(array, dtype=np.float64)
