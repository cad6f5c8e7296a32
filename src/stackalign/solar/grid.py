"""The grid on which two images are compared, and the reference sampled there."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

from stackalign._types import FloatArray
from stackalign.ops import bin_mean

from .correct import correct_map
from .phase import Phase, Settings
from .pixels import PixelTransform
from .plan import RasterPlan
from .raster import build_synthetic_raster
from .target import Target

__all__ = ["Grid", "Sampled", "reference_sampler", "sampled", "sampler_of"]


MIN_VALID = 0.5
"""Share of a block's pixels that must be valid, else it is not compared."""


@dataclass(frozen=True)
class Grid:
    """Blocks of the target's pixels, and as many again around the image as it may be off."""

    shape: tuple[int, int]
    margin: tuple[int, int]
    binning: tuple[int, int]

    @classmethod
    def of(cls, image: tuple[int, int], phase: Phase) -> "Grid":
        """The grid of a phase on an image (ny, nx)."""
        # A synthetic raster has no columns beside those that were exposed.
        (far_y, far_x), (ky, kx) = phase.reach, phase.binning
        margin = (0, 0) if phase.frames else (int(np.ceil(far_y / ky)), int(np.ceil(far_x / kx)))
        return cls((image[0] // ky + 2 * margin[0], image[1] // kx + 2 * margin[1]), margin, phase.binning)

    @classmethod
    def around(
        cls, image: tuple[int, int], reach: tuple[float, float], steps: FloatArray, longest: int, beyond: float
    ) -> "Grid":
        """Blocks that are as square as they can be, of an image (ny, nx) whose pixels are `steps` (x, y) long.

        The margin is the reach (y, x) in pixels and a share `beyond` of the longer side.
        """
        lengths = steps[::-1] * np.array(image)
        turn = beyond * lengths.max() / 2 / steps[::-1]
        total = steps[::-1] * (np.array(image) + 2 * (np.array(reach) + turn))
        side = max(float(steps.max()), float(total.max()) / longest)
        ky, kx = (max(1, min(n // 8, round(side / s))) for n, s in zip(image, steps[::-1], strict=True))
        margin = np.ceil((np.array(reach) + turn) / (ky, kx)).astype(int)
        return cls((image[0] // ky + 2 * margin[0], image[1] // kx + 2 * margin[1]), (margin[0], margin[1]), (ky, kx))

    @property
    def to_pixels(self) -> PixelTransform:
        """From the grid to the target's pixels, (x, y)."""
        k = np.array(self.binning[::-1], np.float64)
        return PixelTransform(np.diag(k), (k - 1) / 2 - k * np.array(self.margin[::-1]))

    def framed(self, image: FloatArray) -> FloatArray:
        """The target binned to the grid, NaN around it."""
        binned, count = bin_mean(image, self.binning, return_count=True)
        binned = np.where(count >= MIN_VALID * self.binning[0] * self.binning[1], binned, np.nan)
        return np.pad(binned, [(m, m) for m in self.margin], constant_values=np.nan)

    @cached_property
    def middles(self) -> FloatArray:
        """(ny, nx, 1, 2) the middle of each block, as `points` of one per block."""
        across = self.to_pixels(np.stack([np.arange(self.shape[1]), np.zeros(self.shape[1])], axis=-1))[:, 0]
        down = self.to_pixels(np.stack([np.zeros(self.shape[0]), np.arange(self.shape[0])], axis=-1))[:, 1]
        middles = np.empty((*self.shape, 1, 2))
        middles[..., 0, 0], middles[..., 0, 1] = across, down[:, None]
        return middles

    def points(self, per_block: tuple[int, int]) -> FloatArray:
        """Points (ny, nx, samples, 2) of the target's pixels in each block."""
        ny, nx = self.shape
        y, x, dy, dx = np.meshgrid(
            np.arange(ny), np.arange(nx), *((np.arange(n) + 0.5) / n - 0.5 for n in per_block), indexing="ij"
        )
        return self.to_pixels(np.stack([x + dx, y + dy], axis=-1).reshape(ny, nx, -1, 2))


def sampler_of(phase: Phase) -> "Sampler":
    """How the reference of a phase is sampled on its grid."""
    return partial(_synthetic, phase.frames) if phase.frames else sampled


def reference_sampler(phase: Phase, target: Target, settings: Settings) -> Callable[[PixelTransform], FloatArray]:
    """Make the function that gives the reference of a phase on the target's own pixels, by a correction."""
    grid = Grid(target.observation.shape, (0, 0), (1, 1))
    sampler = sampler_of(phase)
    return lambda correction: sampler(target, settings, grid, correction, None)[0]


Sampled = tuple[FloatArray, RasterPlan | None, float]
Sampler = Callable[[Target, Settings, Grid, PixelTransform, RasterPlan | None], Sampled]


def sampled(
    target: Target, settings: Settings, grid: Grid, so_far: PixelTransform, _: RasterPlan | None = None
) -> Sampled:
    """The reference on the grid: the mean of its valid values over each block."""
    own, other = target.observation.steps, target.reference.steps
    size = own[::-1] * grid.binning
    per_block = (max(1, round(size[0] / other.min())), max(1, round(size[1] / other.min())))
    points = target.in_reference(grid.middles if per_block == (1, 1) else grid.points(per_block), so_far)
    values = target.spline.at(points)
    if values.shape[-1] == 1:
        return values[..., 0], None, float("nan")
    known = np.isfinite(values)
    count = known.sum(axis=-1)
    total = np.where(known, values, 0.0).sum(axis=-1)
    enough = count >= max(1.0, MIN_VALID * values.shape[-1])
    return np.divide(total, count, out=np.full(grid.shape, np.nan), where=enough), None, float("nan")


def _synthetic(
    frames: Sequence[Any],
    target: Target,
    settings: Settings,
    grid: Grid,
    so_far: PixelTransform,
    plan: RasterPlan | None = None,
) -> Sampled:
    """What the frames show through the slit where the header, corrected so far, says that it was.

    The times of the columns are no matter of pointing: the plan of the first round is that of all.
    """
    made = build_synthetic_raster(
        correct_map(target.observation.map, so_far),
        frames,
        rotation=settings.rotation,
        height=settings.height,
        screen=settings.screen,
        order=settings.order,
        plan=plan,
        distortion=target.observation.distortion,
        **settings.raster,
    )
    return grid.framed(made.map.data), made.plan, made.coverage
