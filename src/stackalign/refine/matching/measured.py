"""The experiment as the two stages need it: templates on a grid of tilts, and binned pixels with their tilts."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from stackalign._types import FloatArray
from stackalign.ops import bin_mean, resample_affine
from stackalign.refine.data import DiffractionData
from stackalign.refine.frames import ROI, DisplayFrame
from stackalign.refine.preprocess import Hook, apply_measured

from .noise import measured_variance

__all__ = ["Measured", "Pixels", "Template"]

ANTI_ALIAS = 0.5
"""Width of the Gaussian before the experiment is sampled on a grid, in nodes."""


@dataclass(frozen=True, eq=False)
class Template:
    """The region of all disks on a grid: values and pixels' weights (D, h, w), and where the first node is."""

    values: FloatArray
    weights: FloatArray
    origin: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Pixels:
    """Pixels of the region, all disks in one list.

    Parameters
    ----------
    values, weights : numpy.ndarray
        (n,), weights 0 for none.
    disk : numpy.ndarray
        (n,) number of the disk of each, increasing.
    points : numpy.ndarray
        (n, 2) offsets (y, x) from the frame's centre in pixels of the experiment.
    offsets : numpy.ndarray
        (n, 2) tilts (x, y) at which the middles of their disks are.
    binning : int
        Pixels of the experiment per side.
    noise : numpy.ndarray or None
        (n,) variance of the values where it was asked for, NaN where it is not known.
    """

    values: FloatArray
    weights: FloatArray
    disk: NDArray[np.int64]
    points: FloatArray
    offsets: FloatArray
    binning: int
    noise: FloatArray | None = None

    def tilts(self, frame: DisplayFrame) -> FloatArray:
        """(n, 2) tilts (x, y) in a frame, those of the frame's start included."""
        shown = self.points @ frame.matrix.T
        return np.asarray(shown[:, ::-1] * (frame.step, -frame.step) + frame.tilt - self.offsets)


@dataclass(frozen=True, eq=False)
class Measured:
    """Data, region and hook; disks are filtered once, when they are first needed."""

    data: DiffractionData
    roi: ROI
    hook: Hook | None = None
    _filtered: list[FloatArray] = field(default_factory=list)
    _noise: list[tuple[FloatArray, float]] = field(default_factory=list)

    @property
    def images(self) -> list[FloatArray]:
        """Filtered disks (H, W)."""
        if not self._filtered:
            filtered = [
                apply_measured(self.hook, image, mask)
                for image, mask in zip(self.data.images, self.data.mask, strict=True)
            ]
            self._filtered.extend(filtered)
        return self._filtered

    @property
    def noise(self) -> list[tuple[FloatArray, float]]:
        """Variance (H, W) of each filtered disk, and by how much more the means of neighbours scatter."""
        if not self._noise:
            variance = None if self.hook is not None else self.data.variance
            for d, (image, mask) in enumerate(zip(self.images, self.data.mask, strict=True)):
                known = None if variance is None else np.asarray(variance[d], dtype=np.float64)
                self._noise.append(measured_variance(image, mask) if known is None else (known, 1.0))
        return self._noise

    def template(self, frame: DisplayFrame, spacing: float) -> Template:
        """Sample the disks at nodes `spacing` (1/angstrom) apart, after a Gaussian that prevents aliasing."""
        per_px = spacing / frame.step
        top, left, bottom, right = self.roi.bounds
        slack = 1e-9
        row, column = (int(np.ceil(v / per_px - slack)) for v in (top, left))
        h, w = (int(np.floor(v / per_px + slack)) - low + 1 for v, low in ((bottom, row), (right, column)))
        shape = (h, w)
        if min(shape) < 3:
            msg = (
                f"the region of {bottom - top:g} x {right - left:g} pixels is too small for a grid of {per_px:.1f} "
                "pixels: enlarge it, or set a smaller grid"
            )
            raise ValueError(msg)
        nodes = (np.indices(shape).transpose(1, 2, 0) + np.array([row, column])) * per_px
        inside = self.roi.contains(nodes)
        data = self.data.with_frame(gl=frame.gl, rotation=frame.rotation, flip=frame.flip, center=frame.center)
        values, weights = [], []
        sigma = ANTI_ALIAS * per_px
        for d, (image, mask) in enumerate(zip(self.images, data.mask, strict=True)):
            share = ndimage.gaussian_filter(mask.astype(np.float64), sigma, mode="nearest")
            smooth = ndimage.gaussian_filter(np.where(mask, image, 0.0), sigma, mode="nearest")
            smooth = np.where(share > 1e-3, smooth / np.maximum(share, 1e-3), 0.0)
            matrix = data.pull_matrix(d, spacing, (row, column))
            sampled, known = (
                resample_affine(np.ascontiguousarray(plane), matrix, output_shape=shape, order=1)
                for plane in (smooth, share)
            )
            valid = inside & np.isfinite(sampled) & (np.nan_to_num(known) > 0.5)
            values.append(np.where(valid, sampled, 0.0))
            weights.append(valid.astype(np.float64))
        template = Template(np.stack(values), np.stack(weights), (row, column))
        self._require(template.weights.sum((1, 2)) > 0)
        return template

    def pixels(self, frame: DisplayFrame, binning: int, *, noise: bool = False) -> Pixels:
        """Return the pixels of the region, as it lies in a frame, averaged over bins."""
        parts: list[tuple[Any, ...]] = []
        data = self.data.with_frame(gl=frame.gl, rotation=frame.rotation, flip=frame.flip, center=frame.center)
        for d, (image, mask) in enumerate(zip(self.images, data.mask, strict=True)):
            means, counts = bin_mean(image, binning, mask=np.ascontiguousarray(mask), return_count=True)
            points = np.indices(means.shape).reshape(2, -1).T * binning + (binning - 1) / 2
            weights = np.asarray(counts, dtype=np.float64).ravel() / binning**2
            if data.variance is not None:
                variances = np.ascontiguousarray(data.variance[d], dtype=np.float64)
                binned = np.asarray(bin_mean(variances, binning, mask=mask.copy()))
                weights = weights / np.nan_to_num(binned.ravel(), nan=np.inf)
            variance = np.full(means.size, np.nan)
            if noise:
                known, shared = self.noise[d]
                mean = np.asarray(bin_mean(np.where(np.isfinite(known), known, 0.0), binning, mask=mask.copy())).ravel()
                several = np.maximum(counts.ravel(), 1)
                variance = np.where(mean > 0, mean * shared * np.minimum(shared, several) / several, np.nan)
            use = (counts.ravel() >= (binning**2 + 1) // 2) & self.roi.contains(data.display_points(d, points))
            placed = points[use] + data.corners[d] - frame.center
            offsets = np.broadcast_to(data.offsets[d], placed.shape)
            parts.append((means.ravel()[use], weights[use], np.full(len(placed), d), placed, offsets, variance[use]))
        self._require(np.array([len(part[0]) > 0 for part in parts]))
        columns = (np.concatenate(column) for column in zip(*parts, strict=True))
        values, weights, disk, points, offsets, variances = columns
        own = variances if noise else None
        return Pixels(values, weights / weights.mean(), disk, points, offsets, binning, own)

    def require_room(self) -> None:
        """Refuse a region that is larger than the images."""
        h, w = self.data.images.shape[1:]
        ends = np.array([[y, x] for y in (-0.5, h - 0.5) for x in (-0.5, w - 0.5)])
        shown = np.concatenate([self.data.display_points(d, ends) for d in range(len(self.data.images))])
        top, left, bottom, right = self.roi.bounds
        room, size = np.ptp(shown, axis=0), np.array([bottom - top, right - left])
        if (size > room + 1e-6).any():
            msg = (
                f"the region of {size[0]:g} x {size[1]:g} pixels is larger than the images, which span {room[0]:.4g} x "
                f"{room[1]:.4g} pixels of the display: take a smaller region"
            )
            raise ValueError(msg)

    def _require(self, present: NDArray[np.bool_]) -> None:
        if not present.all():
            missing = [self.data.reflections[i] for i in np.flatnonzero(~present)]
            msg = (
                f"the region holds no valid pixel of {missing}: it is in pixels of the display, which count from the "
                "frame's centre; move it, or leave these reflections out"
            )
            raise ValueError(msg)
