"""One template, the experiment, within many simulations: zero-normalised correlation at all positions.

`stackalign.match_template` takes one set of images and many templates. Here it is the images that are many, and the
template's transforms, its mean and its variance are made once. The scores are the same.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace, is_numpy_namespace
from numpy.typing import NDArray
from scipy import fft

from stackalign._types import FloatArray
from stackalign.ops import asarray

__all__ = ["Peaks", "TemplateMatcher"]

Array = Any
FLAT = 1e-8
"""Positions where the variance is less than this of its average over the image have a score of 0."""
CHUNK_BYTES = 2**21


@dataclass(frozen=True, eq=False)
class Peaks:
    """Highest scores of C candidates.

    Parameters
    ----------
    score : numpy.ndarray
        (C,) at the top of the parabola through the highest position and its neighbours.
    position : numpy.ndarray
        (C, 2) row and column of that top.
    on_border : numpy.ndarray
        (C,) the highest position lies on the border of the area.
    """

    score: FloatArray
    position: FloatArray
    on_border: NDArray[np.bool_]


class TemplateMatcher:
    """A template (D, h, w) that is looked for in stacks of images (C, D, H, W).

    Parameters
    ----------
    template : numpy.ndarray
        (D, h, w); pixels of weight 0 may be anything, NaN as well.
    shape : (int, int)
        (H, W) of the images.
    weights : numpy.ndarray, optional
        (D, h, w) of the pixels, 0 = invalid; all 1 unless given.
    combine : {"joint", "each"}
        One coefficient over all disks, with one mean and one variance; or one per disk.
    xp : module
        Namespace of the images.
    workers : int
        Threads of the transforms on the host.
    """

    def __init__(
        self,
        template: NDArray[Any],
        shape: tuple[int, int],
        *,
        weights: NDArray[Any] | None = None,
        combine: str = "joint",
        xp: Any = np,
        workers: int = 1,
    ) -> None:
        self.depth, *small = template.shape
        self.small, self.shape, self.xp, self.workers = (small[0], small[1]), shape, xp, workers
        if self.small[0] > shape[0] or self.small[1] > shape[1]:
            msg = f"the region of {self.small} nodes is larger than the searched area of {shape}"
            raise ValueError(msg)
        self.joint = combine == "joint"
        values = np.asarray(template, dtype=np.float64)
        pixels = np.isfinite(values).astype(np.float64) if weights is None else np.asarray(weights, dtype=np.float64)
        pixels = np.where(np.isfinite(values), pixels, 0.0)
        values = np.where(pixels > 0, values, 0.0)
        axes = (0, 1, 2) if self.joint else (1, 2)
        total = pixels.sum(axes, keepdims=True)
        if not (total > 0).all():
            msg = "a disk has no valid pixel within the region: enlarge it, leave the disk out, or correct the mask"
            raise ValueError(msg)
        mean = (values * pixels).sum(axes, keepdims=True) / total
        centred = (values - mean) * pixels
        spread = ((values - mean) * centred).sum(axes, keepdims=True)
        self.total = total.reshape(-1)
        # A template without contrast scores 0.
        flat = spread <= 1e-12 * (values * values * pixels).sum(axes, keepdims=True)
        self.varies = not bool(flat.all())
        centred = np.where(flat, 0.0, centred / np.sqrt(np.where(flat, 1.0, spread)))
        self.uniform = bool((pixels == pixels[0, 0, 0]).all())
        self.same = self.uniform or bool((pixels == pixels[:1]).all())
        self.length = tuple(fft.next_fast_len(n, real=True) for n in shape)
        self.spectrum = self._conjugate(centred)
        self.pixels = pixels[0, 0, 0]
        self.mask_spectrum = None if self.uniform else self._conjugate(pixels[:1] if self.same else pixels, np.float64)

    @property
    def lags(self) -> tuple[int, int]:
        """Number of positions along both axes."""
        return self.shape[0] - self.small[0] + 1, self.shape[1] - self.small[1] + 1

    def _conjugate(self, planes: NDArray[Any], kind: Any = np.float32) -> Array:
        planes = self.xp.asarray(np.ascontiguousarray(planes, dtype=kind))
        return self.xp.conj(self._forward(planes))

    def _forward(self, planes: Array) -> Array:
        if is_numpy_namespace(self.xp):
            return fft.rfft2(planes, s=self.length, workers=self.workers)
        return self.xp.fft.rfftn(planes, s=self.length, axes=(-2, -1))

    def _back(self, spectrum: Array) -> Array:
        rows, columns = self.lags
        if is_numpy_namespace(self.xp):
            # Columns first, so that rows beyond the valid positions take no second transform.
            half = fft.ifft(spectrum, axis=-2, workers=self.workers, overwrite_x=True)[..., :rows, :]
            return fft.irfft(half, self.length[1], axis=-1, workers=self.workers, overwrite_x=True)[..., :columns]
        return self.xp.fft.irfftn(spectrum, s=self.length, axes=(-2, -1))[..., :rows, :columns]

    def maps(self, images: Array) -> Array:
        """Return scores (C, rows, columns), or (C, D, rows, columns) per disk, for images (C, D, H, W)."""
        if tuple(images.shape[1:]) != (self.depth, *self.shape):
            msg = f"images must be (candidates, {self.depth}, {self.shape[0]}, {self.shape[1]}), got {images.shape}"
            raise ValueError(msg)
        xp = array_namespace(images)
        per = 24 * self.depth * self.length[0] * self.length[1]
        size = max(1, CHUNK_BYTES // per)
        parts = [self._maps(xp, images[i : i + size]) for i in range(0, images.shape[0], size)]
        return parts[0] if len(parts) == 1 else xp.concat(parts, axis=0)

    def _maps(self, xp: Any, images: Array) -> Array:
        axes = (1, 2, 3) if self.joint else (2, 3)
        planes = xp.astype(images, xp.float32)
        planes = planes - xp.mean(planes, axis=axes, keepdims=True)
        scale = xp.mean(planes * planes, axis=axes, keepdims=True)
        planes = planes / xp.sqrt(xp.where(scale > 0, scale, xp.asarray(1.0, dtype=xp.float32)))
        spectra = self._forward(planes)
        cross = self._combined(xp, spectra * self.spectrum)
        sums, squares = (self._window_sums(xp, p) for p in (planes, planes * planes))
        total = xp.asarray(self.total if self.joint else self.total[:, None, None])
        variance = squares - sums * sums / total
        # The average over the image is 1 per pixel and disk, by the scaling above.
        varies = variance > FLAT * total
        return xp.where(varies, xp.clip(cross / xp.sqrt(xp.where(varies, variance, 1.0)), -1.0, 1.0), 0.0)

    def _combined(self, xp: Any, products: Array) -> Array:
        """Back from spectra (C, D, ...): added up over the disks first, one transform for all."""
        return xp.astype(self._back(xp.sum(products, axis=1) if self.joint else products), xp.float64)

    def _window_sums(self, xp: Any, planes: Array) -> Array:
        """Sums over the template's pixels at all positions: (C, ...) of all disks, or (C, D, ...)."""
        if self.joint and self.same:
            planes = xp.sum(planes, axis=1)
        if self.mask_spectrum is None:
            return self.pixels * self._boxes(xp, planes)
        mask = self.mask_spectrum[0] if self.joint and self.same else self.mask_spectrum
        products = self._forward(xp.astype(planes, xp.float64)) * mask
        return self._back(xp.sum(products, axis=1) if self.joint and not self.same else products)

    def _boxes(self, xp: Any, planes: Array) -> Array:
        """Sums over all windows of the template's size, in float64."""
        h, w = self.small
        rows, columns = self.lags
        for axis, size, count in ((-2, h, rows), (-1, w, columns)):
            planes = xp.moveaxis(planes, axis, 0)
            table = _running_sums(xp, planes)
            planes = xp.moveaxis(table[size : size + count] - table[:count], 0, axis)
        return planes

    def peaks(self, images: Array, disk_weights: NDArray[Any] | None = None) -> tuple[Peaks, FloatArray]:
        """Return the highest positions and the maps (C, rows, columns) themselves, weighted over the disks."""
        scores = self.maps(images)
        if not self.joint:
            weights = np.ones(self.depth) if disk_weights is None else np.asarray(disk_weights, dtype=np.float64)
            scores = self.xp.sum(scores * self.xp.asarray(weights / weights.sum())[:, None, None], axis=1)
        host = asarray(scores, "cpu", np.float64)
        return find_peaks(host), host


def _running_sums(xp: Any, planes: Array) -> Array:
    """Sums of all before along the first axis, in float64."""
    if not is_numpy_namespace(xp):
        return xp.cumulative_sum(planes, axis=0, dtype=xp.float64, include_initial=True)
    # Four times faster than NumPy's own, which adds along the axis element by element.
    table = np.empty((len(planes) + 1, *planes.shape[1:]))
    table[0] = 0.0
    for i, row in enumerate(np.ascontiguousarray(planes)):
        np.add(table[i], row, out=table[i + 1])
    return table


def find_peaks(maps: FloatArray) -> Peaks:
    """Tops of maps (C, rows, columns), between their nodes."""
    count, rows, columns = maps.shape
    best = maps.reshape(count, -1).argmax(1)
    position = np.stack(np.unravel_index(best, (rows, columns)), -1)
    score = maps.reshape(count, -1)[np.arange(count), best]
    border = ((position == 0) | (position == (rows - 1, columns - 1))) & (np.array([rows, columns]) > 1)
    top, height = position.astype(np.float64), score.copy()
    for c in np.flatnonzero(score > -1):
        y, x = position[c]
        window = np.full((3, 3), np.nan)
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                if 0 <= y + dy < rows and 0 <= x + dx < columns:
                    window[dy + 1, dx + 1] = maps[c, y + dy, x + dx]
        shift, rise = _vertex(window)
        top[c] += shift
        height[c] = min(1.0, score[c] + rise)
    return Peaks(height, top, border.any(1))


def _vertex(window: FloatArray) -> tuple[FloatArray, float]:
    """Top of the paraboloid through 3 x 3 scores, and how far it rises over the middle; along one axis at a border."""
    middle = window[1, 1]
    slope = np.array([window[2, 1] - window[0, 1], window[1, 2] - window[1, 0]]) / 2
    curve = np.array([window[2, 1] + window[0, 1], window[1, 2] + window[1, 0]]) - 2 * middle
    cross = (window[2, 2] - window[2, 0] - window[0, 2] + window[0, 0]) / 4
    shift = np.zeros(2)
    if np.isfinite(window).all():
        hessian = np.array([[curve[0], cross], [cross, curve[1]]])
        if curve[0] < 0 and np.linalg.det(hessian) > 0:
            shift = -np.linalg.solve(hessian, slope)
            if np.abs(shift).max() <= 1:
                return shift, float(slope @ shift / 2)
    shift = np.where((curve < 0) & np.isfinite(slope), -slope / np.where(curve < 0, curve, -1.0), 0.0)
    shift = np.clip(np.nan_to_num(shift), -0.5, 0.5)
    safe_slope, safe_curve = np.nan_to_num(slope), np.nan_to_num(curve)
    return shift, float(np.sum(safe_slope * shift + safe_curve * shift**2 / 2))
