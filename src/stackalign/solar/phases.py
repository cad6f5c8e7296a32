"""The phases of a coalignment, each a loop: sample the reference where the target is thought to be, register, correct.

A phase is a generator that yields the pair of images that it wants registered and is sent the result. So one driver
serves a single map, and another hundreds of them in lock-step.
"""

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from sunpy.map import GenericMap

from stackalign._types import FloatArray
from stackalign.errors import DataError
from stackalign.ops import bin_mean
from stackalign.registration import RegistrationResult

from .coalign_result import PhaseResult
from .correct import correct_map
from .despike import find_dead_lines, find_spikes
from .frames import (
    ColumnMapping,
    ColumnMoments,
    PixelMapping,
    column_mapping,
    name_of,
    pixel_mapping,
    step_arcsec,
)
from .headers import valid_mask
from .misfit import BETTER, CORNER, NEAR_BY, STEPS, disagreement, expected_residual, suspicious, wanted_beyond
from .pixels import PixelTransform
from .plan import RasterPlan
from .polish import Agreement, compare
from .raster import build_synthetic_raster
from .sampling import map_by_rows, sample
from .skymodel import SkyFit, SkyModel

__all__ = ["Phase", "Registering", "Request", "Settings", "Target", "reference_sampler", "run_phase"]


MIN_VALID = 0.5
"""Share of a block's pixels that must be valid, else it is not compared."""

ROUGH = 4.0
"""Pixels by which the last round of a phase may move the image if another phase follows, which samples anew."""

ROUGH_SHARE = 0.02
"""The same as a share of the image's longer side, within which the next phase looks."""

NEAR = 0.3
"""Pixels by which the last registration may move the image; the rest is done by linear steps, see `polish`."""

FARTHEST = 1.5
"""Pixels beyond which a linear step is not believed."""

LOST = {"not_converged": "the images have no optimum near the answer: the model may hold what is wrong"}

FAR_OFF = {"model_too_small", "misfit"}
POOR_SCORE = 0.9
"""Two instruments never agree to the noise: what the registration says of the model counts below this score only."""
LITTLE = 0.7
"""A round that moves the image by more than this share of the round before goes back and forth."""


@dataclass(frozen=True)
class Request:
    """A pair of images of one shape to be registered, and how; NaN is invalid."""

    reference: FloatArray
    moving: FloatArray
    settings: dict[str, Any]

    @property
    def key(self) -> tuple[Any, ...]:
        """Requests of one key can be registered in lock-step."""
        return (self.reference.shape, repr(sorted(self.settings.items())))


Registering = Generator[Request, RegistrationResult, PhaseResult]
"""A phase at work."""


@dataclass(frozen=True)
class Settings:
    """What all phases share; the public docstring is that of `coalign`."""

    rotation: str | None
    height: float
    order: int
    smooth: float | str
    min_overlap: float
    tolerance: float
    max_rounds: int
    scale_range: tuple[float, float] | None
    raster: dict[str, Any] = field(default_factory=dict)
    enough: Callable[[Sequence[float]], bool] | None = None
    """Whether the correlations of the rounds so far are good enough to end a phase that still moves."""


@dataclass(frozen=True)
class Target:
    """The map that is aligned, the reference, and how their pixels correspond by the uncorrected header."""

    map: GenericMap
    reference: GenericMap
    image: FloatArray
    mapping: PixelMapping
    steps: tuple[FloatArray, FloatArray]
    by_column: ColumnMapping | None = None
    """Instead of `mapping`, where the columns have moments of their own."""

    @classmethod
    def of(
        cls, target: GenericMap, reference: GenericMap, settings: Settings, moments: ColumnMoments | None = None
    ) -> "Target":
        """Prepare the two maps, the target's columns at their own moments where these are given."""
        valid = valid_mask(target)
        if not valid.any():
            msg = f"{name_of(target)} has no valid pixel"
            raise DataError(msg)
        image = np.where(valid, target.data, np.nan).astype(np.float64)
        image[find_dead_lines(image)] = np.nan
        image[find_spikes(image)] = np.nan
        return cls(
            target,
            reference,
            image,
            pixel_mapping(target, reference, rotation=settings.rotation, height=settings.height),
            (step_arcsec(target.wcs), step_arcsec(reference.wcs)),
            None
            if moments is None
            else column_mapping(target, reference, moments, rotation=settings.rotation, height=settings.height),
        )

    def in_reference(self, points: FloatArray, correction: PixelTransform) -> FloatArray:
        """Pixels of the reference that show pixels (ny, nx, samples, 2) of the target, by a corrected header."""
        by_column = self.by_column
        if by_column is None:
            return map_by_rows(self.mapping, correction(points))
        # A column's moment is that of its own pixels, wherever the correction says that they look.
        columns = points[0, ..., 0]
        return map_by_rows(lambda p: by_column(p, columns), correction(points))


@dataclass(frozen=True)
class Phase:
    """What one phase does.

    Parameters
    ----------
    name : str
    model : SkyModel
    binning : (int, int)
        Pixels (ny, nx) of the target that are averaged.
    reach : (float, float)
        How many pixels (y, x) of the target the image may be off; the reference is sampled that far around it.
    search : bool
        Look at every shift within reach, instead of climbing from where the image is thought to be.
    frames : sequence, optional
        For the synthetic raster.
    rough : bool
        Another phase follows: a few pixels are near enough, and error bars of its own are not worth a registration.
    """

    name: str
    model: SkyModel
    binning: tuple[int, int]
    reach: tuple[float, float]
    search: bool
    frames: Sequence[Any] = ()
    rough: bool = False

    def tolerance(self, settings: "Settings") -> float:
        """Pixels by which the last round may move a corner."""
        block = max(self.binning)
        rough = max(ROUGH, block, ROUGH_SHARE * max(self.model.shape))
        return max(settings.tolerance * block, rough if self.rough else NEAR if block == 1 else 0.0)


@dataclass(frozen=True)
class _Grid:
    """Blocks of the target's pixels, and as many again around the image as it may be off."""

    shape: tuple[int, int]
    margin: tuple[int, int]
    binning: tuple[int, int]

    @classmethod
    def of(cls, image: tuple[int, int], phase: Phase) -> "_Grid":
        # A synthetic raster has no columns beside those that were exposed.
        (far_y, far_x), (ky, kx) = phase.reach, phase.binning
        margin = (0, 0) if phase.frames else (int(np.ceil(far_y / ky)), int(np.ceil(far_x / kx)))
        return cls((image[0] // ky + 2 * margin[0], image[1] // kx + 2 * margin[1]), margin, phase.binning)

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

    def points(self, per_block: tuple[int, int]) -> FloatArray:
        """Points (ny, nx, samples, 2) of the target's pixels in each block."""
        ny, nx = self.shape
        y, x, dy, dx = np.meshgrid(
            np.arange(ny), np.arange(nx), *((np.arange(n) + 0.5) / n - 0.5 for n in per_block), indexing="ij"
        )
        return self.to_pixels(np.stack([x + dx, y + dy], axis=-1).reshape(ny, nx, -1, 2))


def run_phase(phase: Phase, target: Target, settings: Settings, start: PixelTransform) -> Registering:
    """Work on one phase, from the correction that is known so far."""
    began = time.perf_counter()
    model, grid = phase.model, _Grid.of(target.image.shape, phase)
    fixed = grid.framed(target.image)
    sampler = _synthetic if phase.frames else _sampled
    so_far = start
    moves: list[float] = []
    found: list[RegistrationResult] = []
    fit: SkyFit | None = None
    plan: RasterPlan | None = None
    for _ in range(settings.max_rounds):
        moving, plan, coverage = sampler(phase, target, settings, grid, so_far, plan)
        if not (np.isfinite(moving) & np.isfinite(fixed)).any() and not (phase.search and np.isfinite(moving).any()):
            msg = (
                f"{name_of(target.map)} and {name_of(target.reference)} do not overlap; check their pointing, "
                "observers and dates, or allow a longer max_shift"
            )
            raise DataError(msg)
        search = phase.search and not found
        found.append((yield Request(fixed, moving, _engine_settings(phase, grid, settings, search))))
        fit, before = model.fit(so_far, grid.to_pixels, found[-1]), fit
        move = _distance(fit.correction, so_far, model)
        if before is not None and move > LITTLE * moves[-1]:
            # Going back and forth: from either side the interpolation prefers the other.
            fit = model.between(before, fit)
            move = _distance(fit.correction, so_far, model)
        moves.append(move)
        so_far = fit.correction
        if moves[-1] <= phase.tolerance(settings) or _enough(settings, found):
            break
    assert fit is not None
    last: Agreement | None = None
    details: dict[str, str] = {}
    if max(phase.binning) == 1 and not phase.rough:
        smooth = found[-1].smooth
        for _ in range(settings.max_rounds):
            moving, plan, coverage = sampler(phase, target, settings, grid, so_far, plan)
            last = compare(fixed, moving, grid.to_pixels, so_far, target.image.shape, smooth)
            if last is None or not last.usable:
                break
            polished = model.read(so_far, last)
            move = _distance(polished.correction, so_far, model)
            if not move < FARTHEST:
                break
            moves.append(move)
            fit, so_far = polished, polished.correction
            if moves[-1] <= settings.tolerance:
                break
        if last is not None and last.usable:
            details = yield from _misfit(phase, target, settings, grid, so_far, plan, fixed, moving, last, found[-1])
        elif found[-1].ok:
            said = disagreement(fixed, moving)
            details = {"inconsistent": f"regions of the image want different shifts: {said}"} if said else LOST
        if not details and set(found[-1].flags) >= FAR_OFF and found[-1].score < POOR_SCORE:
            # Steps from so poor a match can miss what the registration itself has seen.
            details = {"model_too_small": found[-1].remarks["model_too_small"]}
    overlap = found[-1].overlap * fixed.size / max(1, int(np.isfinite(fixed).sum()))
    flags = tuple(dict.fromkeys([*_flags(phase, model, fit, found, overlap, moves, settings, start), *details]))
    return PhaseResult(
        name=phase.name,
        model=model.name,
        parameters=fit.parameters,
        covariance=fit.covariance,
        correction=fit.correction,
        score=found[-1].score,
        overlap=overlap,
        flags=flags,
        binning=phase.binning,
        moves=tuple(moves),
        registrations=tuple(found),
        target=fixed,
        reference=moving,
        coverage=coverage,
        plan=plan,
        seconds=time.perf_counter() - began,
        details=details,
    )


def _misfit(
    phase: Phase,
    target: Target,
    settings: Settings,
    grid: _Grid,
    so_far: PixelTransform,
    plan: RasterPlan | None,
    fixed: FloatArray,
    moving: FloatArray,
    last: Agreement,
    found: RegistrationResult,
) -> Generator[Request, RegistrationResult, dict[str, str]]:
    """Flags on the model, with their sentences: what else the images want, and which of their regions disagree.

    The parameters left out are tested where the answer is. Where more than noise is left between the images they are
    also looked for from there, since a wrong scale or roll may be out of the reach of a linear step.
    """
    model = phase.model
    better: Agreement | None = None
    wants = wanted_beyond(model, so_far, last)
    if wants is not None and wants.due:
        return {"model_too_small": wants.sentence(model.name)}
    left = suspicious(last, expected_residual(fixed, moving, last, found.smooth))
    if wants is not None and (left or wants.corner > CORNER):
        free = SkyModel("affine", model.jacobian, model.shape)
        sampler = _synthetic if phase.frames else _sampled
        for share in (*STEPS, 0.0):
            if share == 0.0:
                engine = _engine_settings(phase, grid, settings, False) | {"model": free.engine}
                tried = free.fit(so_far, grid.to_pixels, (yield Request(fixed, moving, engine)))
            elif better is not None and better.usable and better.residual < last.residual:
                tried = free.read(tried.correction, better)
            else:
                tried = free.read(so_far, replace(last, moves=share * last.moves))
            if share and _distance(tried.correction, so_far, model) > NEAR_BY:
                continue
            again = sampler(phase, target, settings, grid, tried.correction, plan)[0]
            better = _closest(fixed, again, grid, tried.correction, target.image.shape, found.smooth)
            if better is not None and better.usable and better.residual < BETTER * last.residual:
                beyond = wanted_beyond(model, tried.correction, better)
                if beyond is not None and beyond.due:
                    return {"model_too_small": beyond.sentence(model.name)}
            if not left:
                break
    if not left:
        return {}
    said = disagreement(fixed, moving)
    return {"inconsistent": f"regions of the image want different shifts: {said}"} if said else {}


def _closest(
    fixed: FloatArray,
    moving: FloatArray,
    grid: _Grid,
    correction: PixelTransform,
    shape: tuple[int, int],
    smooth: tuple[float, float],
) -> Agreement | None:
    """Compare two images as they were smoothed, and smoothed alike: a wrong roll looks like a softer image."""
    found = [
        compare(fixed, moving, grid.to_pixels, correction, shape, widths)
        for widths in dict.fromkeys([smooth, (min(smooth), min(smooth))])
    ]
    usable = [one for one in found if one is not None and one.usable]
    return min(usable, key=lambda one: one.residual) if usable else None


def _enough(settings: Settings, found: Sequence[RegistrationResult]) -> bool:
    return settings.enough is not None and settings.enough([result.score for result in found])


def reference_sampler(phase: Phase, target: Target, settings: Settings) -> Callable[[PixelTransform], FloatArray]:
    """Make the function that gives the reference of a phase on the target's own pixels, by a correction."""
    grid = _Grid(target.map.data.shape, (0, 0), (1, 1))
    sampler = _synthetic if phase.frames else _sampled
    return lambda correction: sampler(phase, target, settings, grid, correction, None)[0]


def _distance(first: PixelTransform, second: PixelTransform, model: SkyModel) -> float:
    """Pixels by which two corrections differ at most."""
    corners = model.corners
    return float(np.linalg.norm(first(corners) - second(corners), axis=1).max())


Sampled = tuple[FloatArray, RasterPlan | None, float]
Sampler = Callable[[Phase, Target, Settings, _Grid, PixelTransform, RasterPlan | None], Sampled]


def _sampled(
    phase: Phase, target: Target, settings: Settings, grid: _Grid, so_far: PixelTransform, _: RasterPlan | None
) -> Sampled:
    """The reference on the grid: the mean of its valid values over each block."""
    own, other = target.steps
    size = own[::-1] * grid.binning
    per_block = (max(1, round(size[0] / other.min())), max(1, round(size[1] / other.min())))
    points = target.in_reference(grid.points(per_block), so_far)
    reference = target.reference
    values = sample(reference.data, valid_mask(reference), points, order=settings.order)
    known = np.isfinite(values)
    count = known.sum(axis=-1)
    total = np.where(known, values, 0.0).sum(axis=-1)
    enough = count >= max(1.0, MIN_VALID * values.shape[-1])
    return np.divide(total, count, out=np.full(grid.shape, np.nan), where=enough), None, float("nan")


def _synthetic(
    phase: Phase, target: Target, settings: Settings, grid: _Grid, so_far: PixelTransform, plan: RasterPlan | None
) -> Sampled:
    """What the frames show through the slit where the header, corrected so far, says that it was.

    The times of the columns are no matter of pointing: the plan of the first round is that of all.
    """
    made = build_synthetic_raster(
        correct_map(target.map, so_far),
        phase.frames,
        rotation=settings.rotation,
        height=settings.height,
        order=settings.order,
        plan=plan,
        **settings.raster,
    )
    return grid.framed(made.map.data), made.plan, made.coverage


def _engine_settings(phase: Phase, grid: _Grid, settings: Settings, search: bool) -> dict[str, Any]:
    model = phase.model.engine
    # The engine moves the sampled reference onto the target: where the target is magnified, that is shrunk.
    reach = [int(np.ceil(r / k)) for r, k in zip(phase.reach, phase.binning, strict=True)]
    bounds: dict[str, tuple[float, float]] = {"dy": (-reach[0], reach[0]), "dx": (-reach[1], reach[1])}
    if settings.scale_range is not None:
        low, high = settings.scale_range
        names = {"shift+scale": ("sy", "sx"), "affine": ("sy", "sx"), "similarity": ("scale",)}.get(model, ())
        bounds |= dict.fromkeys(names, (1.0 / high, 1.0 / low))
    wanted: dict[str, Any] = {
        "model": model,
        "bounds": bounds,
        "smooth": settings.smooth,
        # Flags below: of the target's valid pixels, not of the frame with its margin.
        "min_overlap": settings.min_overlap,
    }
    if search:
        wanted["max_shift"] = max(reach)
    else:
        wanted["start"] = {}
    return wanted


def _flags(
    phase: Phase,
    model: SkyModel,
    fit: SkyFit,
    found: list[RegistrationResult],
    overlap: float,
    moves: list[float],
    settings: Settings,
    start: PixelTransform,
) -> tuple[str, ...]:
    """The engine's flags, those on overlap and error bars by the target's own pixels and model."""
    own = ("small_overlap", "undetermined", "model_too_small", "inconsistent", "misfit")
    flags = [name for name in found[-1].flags if name not in own]
    if flags[:1] and flags[0] in ("empty", "constant", "few_pixels"):
        return tuple(flags)
    if "ambiguous" in found[0].flags and "ambiguous" not in flags:
        flags.append("ambiguous")
    if overlap < settings.min_overlap:
        flags.append("small_overlap")
    if not model.largest_sigma(fit) < max(phase.binning):
        flags.append("undetermined")
    moved = np.abs(fit.correction.shift_at(model.center) - start.shift_at(model.center))[::-1]
    if (moved >= np.array(phase.reach) - 1e-6).any() and "on_bound" not in flags:
        flags.append("on_bound")
    tolerance = phase.tolerance(settings) if phase.rough or max(phase.binning) > 1 else settings.tolerance
    still_moves = moves[-1] > tolerance and not _enough(settings, found)
    if still_moves and "not_converged" not in flags:
        flags.append("not_converged")
    return tuple(flags)
