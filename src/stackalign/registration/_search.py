"""From nothing to an optimum: whole-pixel shifts by FFT, then Gauss-Newton over a pyramid, B pairs in lock-step."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from stackalign import transforms
from stackalign._types import FloatArray
from stackalign.backends import Array
from stackalign.objectives import AffineNCC
from stackalign.ops import ImagePair, bin_mean, masked_shift, prepare_pair
from stackalign.optimize import gauss_newton

__all__ = ["Climbed", "Coarse", "Images", "climb", "coarse_factor", "coarse_shifts", "matched_smoothing", "reach_of"]


LARGEST_COARSE = 256
"""Longest side, in pixels, of the images that the FFT stage sees first."""

SMALLEST_LEVEL = 32
"""Shortest side, in pixels, of an image of the pyramid."""

COARSEST = 8
"""Largest binning of the pyramid: from a whole-pixel shift of the FFT stage, and with scales and angles that leave that
stage a peak, nothing is farther off than the basin of images binned by this."""

TOLERANCE = 1e-3
"""A search has converged when its next step moves no pixel by more than this, in pixels of the full images."""

LEVEL_TOLERANCE = 0.02
"""The same for levels of the pyramid above the last, in their own pixels."""

EXTRA_SMOOTHING = (1.0, 1.5, 2.0, 2.5, 3.0)
"""Widths in pixels by which one image may be less sharp than the other."""

LONGEST_STEP = 2.0
"""Longest step in pixels of a level: the linearization means nothing beyond the size of the features."""


@dataclass(frozen=True)
class Images:
    """Two stacks (B, H, W) and (B, Hm, Wm) of one home, with NaN where invalid."""

    reference: Array
    moving: Array

    def binned(self, factor: int, workers: int | None) -> "Images":
        """Mean of factor x factor valid pixels."""
        if factor == 1:
            return self
        return Images(*(bin_mean(p, factor, workers=workers) for p in (self.reference, self.moving)))

    def of(self, pairs: NDArray[np.int64]) -> "Images":
        """Those of some pairs."""
        return Images(self.reference[pairs], self.moving[pairs])

    @property
    def shortest(self) -> int:
        """Shortest side."""
        return int(min(*self.reference.shape[1:], *self.moving.shape[1:]))

    @property
    def longest(self) -> int:
        """Longest side."""
        return int(max(*self.reference.shape[1:], *self.moving.shape[1:]))


@dataclass(frozen=True)
class Coarse:
    """Shift (B, 2) in pixels of the full images, score and second score (B,), and the work in full passes."""

    shift: FloatArray
    score: FloatArray
    second: FloatArray
    overlap: FloatArray

    def of(self, pairs: NDArray[np.int64]) -> "Coarse":
        """Those of some pairs."""
        return Coarse(self.shift[pairs], self.score[pairs], self.second[pairs], self.overlap[pairs])


def coarse_factor(images: Images) -> int:
    """By how much images are binned before whole-pixel shifts are looked for."""
    factor = 1
    while images.longest > factor * LARGEST_COARSE and images.shortest >= 2 * factor * SMALLEST_LEVEL:
        factor *= 2
    return factor


def coarse_shifts(images: Images, max_shift: float | None, overlap_ratio: float, workers: int | None) -> Coarse:
    """Best shift of every pair within `max_shift` pixels, or anywhere; images above `LARGEST_COARSE` are binned."""
    factor = coarse_factor(images)
    small = images.binned(factor, workers)
    window = None if max_shift is None else max(1, int(np.ceil(max_shift / factor)))
    peaks = masked_shift(small.reference, small.moving, max_shift=window, overlap_ratio=overlap_ratio, workers=workers)
    return Coarse(peaks.shift * factor, peaks.score, peaks.second_score, peaks.overlap)


@dataclass(frozen=True)
class Climbed:
    """Optimum of the score (B, P), why each climb ended, what was seen on the way, and the work in full passes (B,).

    `pair` are the smoothed images of the last level.
    """

    parameters: FloatArray
    reason: tuple[str, ...]
    history: list[list[FloatArray]]
    work: FloatArray
    pair: ImagePair

    def of(self, pairs: NDArray[np.int64]) -> "Climbed":
        """Those of some pairs."""
        return Climbed(
            self.parameters[pairs],
            tuple(self.reason[b] for b in pairs),
            [list(self.history[b]) for b in pairs],
            self.work[pairs],
            ImagePair(self.pair.reference[pairs], self.pair.moving[pairs], single=False),
        )

    def with_history(self) -> "Climbed":
        """The same with a history that can be added to."""
        return replace(self, history=[list(rows) for rows in self.history])

    def replaced(self, b: int, other: "Climbed") -> "Climbed":
        """All of these with the only one of `other` in the place of number b."""
        parameters, work = self.parameters.copy(), self.work.copy()
        parameters[b] = other.parameters[0]
        work[b] += other.work[0]
        history = [*self.history]
        history[b] = [*self.history[b], *other.history[0]]
        reason = (*self.reason[:b], other.reason[0], *self.reason[b + 1 :])
        return Climbed(parameters, reason, history, work, self.pair)


def climb(
    images: Images,
    model: str,
    center: FloatArray,
    start: FloatArray,
    bounds: FloatArray,
    smooth: float,
    *,
    max_iter: int,
    workers: int | None,
    coarsest: int = COARSEST,
) -> Climbed:
    """Climb from `start` (B, P) over images binned by `coarsest`, half of that, and so on to 1."""
    n_problems = start.shape[0]
    factor = coarsest
    while factor > 1 and images.shortest < factor * SMALLEST_LEVEL:
        factor //= 2
    parameters, work = start, np.zeros(n_problems)
    history: list[list[FloatArray]] = [[] for _ in range(n_problems)]
    while True:
        level = images.binned(factor, workers)
        # A bin's centre lies at factor * b + (factor - 1) / 2; its size averages noise as a Gaussian does.
        pair = prepare_pair(level.reference, level.moving, smooth=smooth if factor == 1 else 0.0, workers=workers)
        objective = AffineNCC(
            pair,
            model,
            (center - (factor - 1) / 2) / factor,
            workers,
        )
        units = _in_level(model, factor)
        tolerance = LEVEL_TOLERANCE if factor > 1 else TOLERANCE
        reach = reach_of(model, tuple(level.reference.shape[1:]))
        optimum = gauss_newton(
            objective.linearize,
            parameters * units,
            tolerance=tolerance / reach,
            bounds=bounds * units[:, None],
            max_step=LONGEST_STEP / reach,
            max_iter=max_iter,
        )
        parameters = optimum.parameters / units
        work += optimum.n_evaluations / factor**2
        for b, rows in enumerate(optimum.history):
            full = np.insert(rows, 0, float(factor), axis=1)
            full[:, 2:-1] /= units
            history[b].append(full)
        if factor == 1:
            return Climbed(parameters, optimum.reason, history, work, pair)
        factor //= 2


def matched_smoothing(
    images: Images, model: str, center: FloatArray, parameters: FloatArray, smooth: float, workers: int | None
) -> list[tuple[float, float]]:
    """Sigmas for reference and moving image of each pair, of which one is larger where the other image is less sharp.

    Of the widths tried, the one under which the images agree best at `parameters` (B, P).
    """
    widths = [(smooth, smooth)]
    for extra in EXTRA_SMOOTHING:
        wide = float(np.hypot(smooth, extra))
        widths += [(wide, smooth), (smooth, wide)]
    scores = []
    for width in widths:
        pair = prepare_pair(images.reference, images.moving, smooth=width, workers=workers)
        objective = AffineNCC(pair, model, center, workers)
        scores.append(objective.score(parameters[:, None])[:, 0])
    return [widths[k] for k in np.argmax(scores, axis=0)]


def _in_level(model: str, factor: int) -> FloatArray:
    """What parameters in pixels of the full images become in those of a level: shifts are divided, ratios stay."""
    return np.array([1.0 / factor if name in ("dy", "dx") else 1.0 for name in transforms.MODELS[model]])


def reach_of(model: str, shape: tuple[int, int]) -> FloatArray:
    """How many pixels the farthest pixel moves per unit of each parameter."""
    half_y, half_x = (max(n - 1, 2) / 2 for n in shape)
    moves = {
        "dy": 1.0,
        "dx": 1.0,
        "sy": half_y,
        "sx": half_x,
        "scale": np.hypot(half_y, half_x),
        "angle": np.deg2rad(np.hypot(half_y, half_x)),
        "shear": half_y,
    }
    return np.array([moves[name] for name in transforms.MODELS[model]])
