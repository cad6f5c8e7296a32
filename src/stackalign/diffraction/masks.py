"""Pixel masks, True = valid: from images that should be alike, and combined."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign import ops
from stackalign._beam_stop import beam_stops
from stackalign._masks import check_mask
from stackalign._types import FloatArray
from stackalign.backends import Array
from stackalign.backends._threads import governed
from stackalign.errors import DataError, MaskError
from stackalign.io.provenance import provenance, to_jsonable
from stackalign.runs import Progress, ProgressCallback

from ._image_chunks import chunks, length
from ._mask_detect import detector_faults

__all__ = ["PixelMask", "PixelStatistics", "check_mask_settings", "combine_masks", "mask_from_collection"]


MERGED_ROWS = 16
LIT = ("above", "gap", "high")
"""Reasons why a pixel says nothing about a shadow; one that is dark for another reason may lie within it."""
ROUNDING = 1e-12
"""Relative; a deviation that equals the limit does not exceed it, in whatever order the frames have come."""


@dataclass(frozen=True)
class PixelMask:
    """Which pixels can be trusted, and the statistics that say so.

    Parameters
    ----------
    mask : numpy.ndarray
        (H, W) boolean, True = valid.
    minimum, maximum, mean, std : numpy.ndarray
        (H, W) float64 over the images; the standard deviation has ddof 0. NaN where a pixel was never finite.
    n_images : int
    counts : dict
        How many pixels were refused, by reason: "below", "above", "fluctuating", "dead", "not_finite", and with
        `detect` "gap", "low", "high", "quiet", "noisy", with `beam_stop` "beam_stop". A pixel may have several.
    provenance : dict
        Device, versions and settings.
    """

    mask: NDArray[np.bool_]
    minimum: FloatArray
    maximum: FloatArray
    mean: FloatArray
    std: FloatArray
    n_images: int
    counts: dict[str, int]
    provenance: dict[str, Any] = field(default_factory=dict, repr=False)

    def to_dict(self, *, arrays: bool = False) -> dict[str, Any]:
        """What was found as JSON knows it; the arrays of pixels only if asked for.

        Parameters
        ----------
        arrays : bool
            Include the arrays of pixels, as nested lists.

        Returns
        -------
        dict
            Plain values.
        """
        fields: dict[str, Any] = {
            "shape": self.mask.shape,
            "n_images": self.n_images,
            "n_valid": int(self.mask.sum()),
            "counts": self.counts,
            "provenance": self.provenance,
        }
        if arrays:
            fields |= {name: getattr(self, name) for name in ("mask", "minimum", "maximum", "mean", "std")}
        plain = to_jsonable(fields)
        assert isinstance(plain, dict)
        return plain


@governed
def mask_from_collection(
    images: Any,
    *,
    limits: tuple[float, float] | float | None = (0.0, 3e4),
    max_std: float | None = None,
    dead: bool = False,
    detect: bool = False,
    beam_stop: bool = False,
    device: str = "auto",
    workers: int | None = None,
    progress: ProgressCallback | None = None,
) -> PixelMask:
    """Find pixels that are outside limits, fluctuate too much, or never change, in images that should be alike.

    Parameters
    ----------
    images : array, StackReader or iterable of arrays
        (N, H, W), or what `stackalign.io.open_stack` returns, or any number of (H, W) images one after the other: they
        are read once, and memory does not depend on how many there are.
    limits : tuple of float or float, optional
        Smallest and largest value, both allowed; a single number is the largest. A pixel is refused if any image has it
        outside. None: no limits.
    max_std : float, optional
        Largest standard deviation (ddof 0) over all images, of which it wants at least two. By default it is not looked
        at.
    dead : bool
        Also refuse pixels that have the same value in all images; wants at least two images.
    detect : bool
        Also refuse gaps at the type's largest whole number, dead and hot pixels, clusters and lines, and pixels that
        vary far less or more than those around them: by each pixel and its neighbourhood, without limits.
    beam_stop : bool
        Also refuse the shadow of a beam stop in the mean over all images, see `find_beam_stop`.
    device : str
        "cpu", "cuda", "cuda:n" or "auto", see `stackalign.asarray`.
    workers : int, optional
        Number of CPU threads; one per core by default.
    progress : callable, optional
        Called with a `stackalign.chunks.Progress` after every chunk.

    Returns
    -------
    PixelMask
        Its `mask` is True where a pixel is valid. Pixels that are not finite in any of the images are refused.

    Raises
    ------
    DataError
        There is no image, or only one where two are needed, or images differ in shape.
    ValueError
        Limits make no sense.

    Notes
    -----
    The result does not depend on the order of the images. Mean and squared deviations are taken in two sweeps over each
    chunk and merged by the formula of Chan et al. (1983), so that nothing cancels.

    Examples
    --------
    >>> import numpy as np
    >>> from stackalign import diffraction
    >>> images = np.random.default_rng(0).poisson(50.0, (20, 8, 8))
    >>> images[:, 3, 4] = 0  # a dead pixel
    >>> np.argwhere(~diffraction.mask_from_collection(images, dead=True).mask)
    array([[3, 4]])
    """
    check_mask_settings(limits, max_std)
    statistics = PixelStatistics(device, workers)
    began = time.perf_counter()
    known = length(images)
    for chunk in chunks(images):
        statistics.include(chunk)
        if progress is not None:
            n, seconds = statistics.n_images, time.perf_counter() - began
            progress(Progress("statistics", n, known or n, n * chunk[0].nbytes, seconds))
    return statistics.judged(limits=limits, max_std=max_std, dead=dead, detect=detect, beam_stop=beam_stop)


def check_mask_settings(limits: tuple[float, float] | float | None, max_std: float | None) -> None:
    """Refuse limits that make no sense, before anything is read.

    Raises
    ------
    ValueError
    """
    _limits(limits)
    if max_std is not None and not max_std >= 0:
        msg = f"max_std must be a standard deviation, 0 or more, got {max_std}"
        raise ValueError(msg)


class PixelStatistics:
    """Statistics of every pixel over images, merged one stack after the other."""

    def __init__(self, device: str = "auto", workers: int | None = None) -> None:
        self._device, self._workers = device, workers
        self._total: ops.StackStatistics | None = None
        self.n_images = 0
        self.dtype: np.dtype[Any] | None = None

    def include(self, stack: Array) -> None:
        """Add a stack (n, H, W)."""
        self.dtype = np.dtype(stack.dtype) if self.dtype in (None, stack.dtype) else np.dtype(np.float64)
        self.merge(ops.stack_statistics(ops.asarray(stack, self._device), workers=self._workers), len(stack))

    def merge(self, statistics: ops.StackStatistics, n_images: int) -> None:
        """Add the statistics of `n_images` images."""
        self._total = statistics if self._total is None else _merged(self._total, statistics)
        self.n_images += n_images

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return everything so far, to be saved; nothing before the first image."""
        if self._total is None:
            return {}
        fields = {name: ops.to_numpy(getattr(self._total, name)) for name in _FIELDS}
        return fields | {"n_images": np.array(self.n_images)}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take over what `arrays` gave."""
        if arrays:
            self._total = ops.StackStatistics(*(ops.asarray(arrays[name], self._device) for name in _FIELDS))
            self.n_images = int(arrays["n_images"])

    def judged(
        self,
        *,
        limits: tuple[float, float] | float | None,
        max_std: float | None,
        dead: bool,
        detect: bool = False,
        beam_stop: bool = False,
    ) -> PixelMask:
        """Tell which pixels can be trusted; see `mask_from_collection`."""
        low, high = _limits(limits)
        total, n_images = self._total, self.n_images
        if total is None:
            msg = "there is no image in the collection; check the files or the generator"
            raise DataError(msg)
        if dead and n_images < 2:
            msg = "dead pixels are those that never change: that takes at least two images"
            raise DataError(msg)
        if max_std is not None and n_images < 2:
            msg = "max_std is of how a pixel fluctuates: that takes at least two images"
            raise DataError(msg)
        count, minimum, maximum, mean, m2 = (ops.to_numpy(getattr(total, name)) for name in _FIELDS)
        some = count > 0
        std = np.sqrt(np.divide(m2, count, out=np.full(mean.shape, np.nan), where=some))
        refused = {
            "below": minimum < low,
            "above": maximum > high,
            "fluctuating": np.zeros(std.shape, bool) if max_std is None else std > max_std * (1 + ROUNDING),
            "dead": some & (minimum == maximum) if dead else np.zeros(std.shape, bool),
            "not_finite": count < n_images,
        }
        if detect:
            refused |= detector_faults(np.where(some, mean, np.nan), std, minimum, maximum, n_images, self.dtype)
        if beam_stop:
            known = (count > 0) & ~np.logical_or.reduce([pixels for name, pixels in refused.items() if name in LIT])
            refused["beam_stop"] = beam_stops(mean, known)
        settings = {"limits": None if limits is None else (low, high), "max_std": max_std, "dead": dead}
        settings |= {name: True for name, asked in (("detect", detect), ("beam_stop", beam_stop)) if asked}
        return PixelMask(
            mask=~np.logical_or.reduce(list(refused.values())),
            minimum=minimum,
            maximum=maximum,
            mean=np.where(some, mean, np.nan),
            std=std,
            n_images=n_images,
            counts={reason: int(pixels.sum()) for reason, pixels in refused.items()},
            provenance=provenance(settings, [], device=ops.device_of(total.count)),
        )


_FIELDS = ("count", "minimum", "maximum", "mean", "m2")


def _merged(total: ops.StackStatistics, other: ops.StackStatistics) -> ops.StackStatistics:
    """Merge, on the host in place and a few rows at a time: new memory of this size costs more than the sums."""
    if not isinstance(total.count, np.ndarray):
        return total.merge(other)
    for first in range(0, len(total.count), MERGED_ROWS):
        some = slice(first, first + MERGED_ROWS)
        one, two = (ops.StackStatistics(*(getattr(t, name)[some] for name in _FIELDS)) for t in (total, other))
        part = one.merge(two)
        for name in _FIELDS:
            getattr(total, name)[some] = getattr(part, name)
    return total


def _limits(limits: tuple[float, float] | float | None) -> tuple[float, float]:
    if limits is None:
        return -np.inf, np.inf
    pair = np.asarray(limits, np.float64)
    if pair.shape == ():
        pair = np.array([-np.inf, float(pair)])
    if pair.shape != (2,) or not pair[0] < pair[1]:
        msg = f"limits must be (smallest, largest) values, or the largest alone, got {limits}"
        raise ValueError(msg)
    return float(pair[0]), float(pair[1])


def combine_masks(*masks: Any) -> NDArray[np.bool_]:
    """Combine masks: a pixel is valid where all of them say so.

    Parameters
    ----------
    *masks : array_like or PixelMask
        Boolean, True = valid, of one shape, or (N, H, W) beside (H, W).

    Returns
    -------
    numpy.ndarray
        Boolean, a new array.

    Raises
    ------
    ValueError
        There is no mask.
    MaskError
        A mask is not boolean, or shapes do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from stackalign import diffraction
    >>> first, second = np.array([[True, True, False]]), np.array([[True, False, True]])
    >>> diffraction.combine_masks(first, second)
    array([[ True, False, False]])
    """
    if not masks:
        msg = "combine_masks needs at least one mask"
        raise ValueError(msg)
    arrays = [m.mask if isinstance(m, PixelMask) else ops.to_numpy(ops.asarray(m)) for m in masks]
    for k, array in enumerate(arrays):
        check_mask(array, array.shape, name=f"mask {k}")
        if array.shape[-2:] != arrays[0].shape[-2:] or array.ndim not in (2, 3):
            msg = f"masks must have one shape (H, W), or (N, H, W), got {[a.shape for a in arrays]}"
            raise MaskError(msg)
    try:
        combined = arrays[0]
        for array in arrays[1:]:
            combined = combined & array
    except ValueError as error:
        msg = f"masks of stacks must hold the same number of images, got {[a.shape for a in arrays]}"
        raise MaskError(msg) from error
    return np.array(combined)
