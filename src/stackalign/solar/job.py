"""The work of `coalign` on one target: phase after phase, and what the answer is worth."""

import warnings
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import astropy.units as u
import numpy as np
from astropy.units import Quantity
from sunpy.map import GenericMap

from stackalign.errors import StackalignWarning
from stackalign.registration import RegistrationResult

from .apart import far_apart, seconds_between
from .arguments import (
    background_pixels,
    check_settings,
    chosen_phases,
    described,
    nearest_frame,
    raster_options,
    reach_pixels,
    single_frames,
)
from .coalign_result import CoalignmentResult
from .columns import NEGLIGIBLE, column_moments, time_axis, turned_pixels, unknown_duration
from .detectors import check_detectors, other_detectors
from .frames import ColumnMoments, name_of
from .grid import reference_sampler
from .mapping import check_screen
from .observation import Observation, Selection
from .phase import Phase, Request, Settings
from .phase_result import PhaseResult
from .phases import run_phase
from .pixels import PixelTransform
from .plan import RasterPlan, plan_synthetic_raster
from .provenance import solar_provenance
from .reading import as_map
from .skymodel import SkyModel
from .target import Target

__all__ = ["Job", "generate"]

LARGEST = 384
"""Blocks along the longer side of the wide search's grid, so that it takes a second at most."""

VISIBLE = 0.2
"""Pixels by which the surface may turn during a raster without times of its columns before that is said."""

LASTING = ("ambiguous", "on_bound", "insignificant")
"""Flags of earlier phases that the last one cannot see."""

_PLANNED = ("threshold_time", "method", "times", "observer", "on_bad_frame")
"""Settings of a synthetic raster that decide which frame serves which column."""

Job = Generator[Request, RegistrationResult, CoalignmentResult]
"""A coalignment at work: yields pairs of images to be registered."""


def generate(target: Any, reference: Any, *, detectors: str, **options: Any) -> Job:
    """Do the work of `coalign`, as a generator that yields what is to be registered; for each detector where asked."""
    check_detectors(detectors)
    result = yield from _generate_one(target, reference, **options)
    if detectors == "together":
        return result
    fits: dict[str, CoalignmentResult | str] = {}
    for name, window in other_detectors(result.source, result.hdu).items():
        # Wavelengths, and where the search starts, are of the window that was chosen.
        own = options | {"window": window, "interval": None, "continuum": None, "start": None}
        try:
            fits[name] = yield from _generate_one(result.source, reference, **own)
        except ValueError as error:  # DataError is one
            fits[name] = str(error)
    return replace(result, detectors=fits)


def _generate_one(
    target: Any,
    reference: Any,
    *,
    model: str,
    max_shift: Quantity | str | float | None,
    phases: Sequence[str] | None,
    frames: Sequence[Any] | None,
    window: int | str | None,
    interval: Quantity | str | None,
    continuum: Any,
    bin_kernel: Quantity | None,
    scale_range: tuple[float, float] | None,
    rotation: str | None,
    height: float,
    screen: str,
    order: int,
    smooth: float | str,
    background: Quantity | str | float | bool | None,
    mask: Any,
    values: tuple[float | None, float | None] | None,
    field: Any,
    exclude: Sequence[Any],
    repair: bool,
    distortion: bool,
    min_overlap: float,
    tolerance: float,
    max_rounds: int,
    start: PixelTransform | None,
    **raster: Any,
) -> Job:
    """Align one image; `coalign` has the defaults."""
    seen = Observation.read(target, window, interval=interval, continuum=continuum, repair=repair)
    seen = seen.with_distortion() if distortion else seen
    selection = Selection(mask, values, field, exclude)
    if not selection.is_empty:
        seen = replace(seen, selected=selection.of(seen.map))
    settings = Settings(
        rotation, height, order, smooth, min_overlap, tolerance, max_rounds, scale_range, raster_options(raster),
        screen=check_screen(screen),
    )  # fmt: skip
    check_settings(settings)
    SkyModel(model, seen.jacobian, seen.shape)  # the last phase would say it late
    lengths = seen.steps[::-1]
    smooth_part = background_pixels(background, seen.shape, lengths)
    frames = single_frames(frames)
    names = chosen_phases(phases, reference, frames)
    plan = _planned(seen, frames or (), settings) if "synthetic" in names else None
    other = nearest_frame(seen.map, frames or ()) if reference is None else reference
    against = Observation(as_map(other, repair=repair))
    with warnings.catch_warnings(record=True) as remarks:
        warnings.simplefilter("always")
        moments = _moments(seen.map, plan, settings)
    prepared = Target.of(seen, against, settings, moments)
    reach = reach_pixels(max_shift, lengths)
    course = _Course(prepared, model, names, reach, bin_kernel, tuple(frames or ()), start, phases is None)
    if background != "auto":
        settings = replace(settings, background=smooth_part)
    done, settings = yield from _settled(course, settings, smooth_part if background == "auto" else None)
    for remark in remarks:  # what is wrong with the settings is said first
        warnings.warn(str(remark.message), remark.category, stacklevel=3)
    record = described(settings, model, max_shift)
    details = _details(seen, against, plan, settings, model, done[-1])
    sampler = reference_sampler(course.last, prepared, settings)
    return _result(seen, against, done, details, record, sampler, settings)


def _result(
    seen: Observation,
    against: Observation,
    done: Sequence[PhaseResult],
    details: dict[str, str],
    record: dict[str, Any],
    sampler: Any,
    settings: Settings,
) -> CoalignmentResult:
    """Put together what was found, and the settings that it was found with."""
    if seen.distortion is not None:
        record = record | {"distortion_pixels": seen.distortion.largest}
    return CoalignmentResult(
        target=seen.map,
        reference=against.map,
        phases=tuple(done),
        flags=tuple(dict.fromkeys([*_flags(done), *details])),
        details=details,
        provenance=solar_provenance(seen.map, against.map, done, record, seen.source),
        sampler=sampler,
        source=seen.source,
        hdu=seen.hdu,
        background=settings.background,
    )


def _planned(seen: Observation, frames: Sequence[Any], settings: Settings) -> RasterPlan:
    """Which frame serves which column of the synthetic raster."""
    options = {name: value for name, value in settings.raster.items() if name in _PLANNED}
    return plan_synthetic_raster(seen.map, frames, **options)


def _settled(
    course: "_Course", settings: Settings, smooth_part: tuple[float, float] | None
) -> Generator[Request, RegistrationResult, tuple[list[PhaseResult], Settings]]:
    """Run the phases, once more without the smooth part of that size where one is given and the place is in doubt."""
    done = yield from course.run(settings)
    if smooth_part is not None and _in_doubt(done):
        # A smooth difference of brightness, as by vignetting, outweighs what the images have in common.
        without = replace(settings, background=smooth_part)
        again = yield from course.run(without)
        if not _flags(again):
            return again, without
    return done, settings


def _details(
    seen: Observation,
    against: Observation,
    plan: RasterPlan | None,
    settings: Settings,
    model: str,
    last: PhaseResult,
) -> dict[str, str]:
    """Flags and what they say: of the last phase, of the time between the images, and of the times of columns."""
    seconds = float(np.abs(plan.seconds[:, 0]).max()) if plan is not None else seconds_between(seen, against)
    apart = far_apart(seen, against, rotation=settings.rotation, seconds=seconds, sigma=last.sigma[:2])
    return dict(last.details) | apart | _column_times_missing(seen.map, plan, settings, model)


def _flags(done: Sequence[PhaseResult]) -> tuple[str, ...]:
    """Flags of the last phase, and of earlier ones what that cannot see."""
    lasting = [flag for phase in done[:-1] for flag in phase.flags if flag in LASTING]
    return tuple(dict.fromkeys([*done[-1].flags, *lasting]))


def _in_doubt(done: Sequence[PhaseResult]) -> bool:
    """Whether the place itself is in doubt, and no larger model has found another one."""
    doubts = {"insignificant", "undetermined", "ambiguous", "not_converged", "inconsistent"}
    return bool(doubts & set(_flags(done))) and done[-1].wanted is None


@dataclass
class _Course:
    """The phases of a coalignment, one after the other.

    Parameters
    ----------
    target : Target
    model : str
    names : tuple of str
        Of the phases.
    reach : numpy.ndarray
        Pixels (y, x) that the image may be off.
    bin_kernel : Quantity or None
    frames : tuple
    start : PixelTransform or None
    by_default : bool
        The phases were not chosen: one that does the work of the next is left out.
    last : Phase
        The one that ran last.
    """

    target: Target
    model: str
    names: tuple[str, ...]
    reach: Any
    bin_kernel: Quantity | None
    frames: tuple[Any, ...]
    start: PixelTransform | None
    by_default: bool
    last: Any = None

    def run(self, settings: Settings) -> Generator[Request, RegistrationResult, list[PhaseResult]]:
        """Run all phases."""
        seen = self.target.observation
        so_far = origin = PixelTransform.identity() if self.start is None else self.start
        done: list[PhaseResult] = []
        for name in self._needed():
            last = name == self.names[-1]
            sky = SkyModel(self.model if last else "shift", seen.jacobian, seen.shape)
            self.last = replace(self._phase(name, sky, done), rough=not last, origin=origin)
            done.append((yield from run_phase(self.last, self.target, settings, so_far)))
            so_far = done[-1].correction
        return done

    def _needed(self) -> tuple[str, ...]:
        """Phases without a search on blocks of one pixel, which the next phase does by itself."""
        single = self.by_default and self.names[:2] == ("binned", "full") and self._blocks() == (1, 1)
        return self.names[1:] if single else self.names

    def _blocks(self) -> tuple[int, int]:
        """Pixels (ny, nx) of a block of the wide search."""
        shape, steps = self.target.observation.shape, self.target.observation.steps[::-1]
        if self.bin_kernel is None:
            length = ((np.array(shape) + 2 * self.reach) * steps).max()
            kernel = max(float(steps.max()), float(length) / LARGEST)
        else:
            kernel = float(Quantity(self.bin_kernel).to_value(u.arcsec))
            if not (np.isfinite(kernel) and kernel > 0):
                msg = f"bin_kernel must be a positive angle, got {self.bin_kernel}"
                raise ValueError(msg)
        ky, kx = (max(1, min(n // 4, round(kernel / s))) for n, s in zip(shape, steps, strict=True))
        return ky, kx

    def _phase(self, name: str, sky: SkyModel, done: Sequence[PhaseResult]) -> Phase:
        whole = (float(self.reach[0]), float(self.reach[1]))
        if name == "binned":
            return Phase(name, sky, self._blocks(), whole, True, whole_reach=whole)
        reach = self.reach
        if done:
            # What is left after the phase before: two of its blocks, and what a wrong scale or roll did to it.
            steps = self.target.observation.steps[::-1]
            left = 2.0 * np.array(done[-1].binning) + 0.02 * np.array(sky.shape) + 2.0 * steps.max() / steps
            reach = np.minimum(reach, left)
        used = self.frames if name == "synthetic" else ()
        return Phase(name, sky, (1, 1), (float(reach[0]), float(reach[1])), not done, used, whole_reach=whole)


def _moments(image: GenericMap, plan: RasterPlan | None, settings: Settings) -> ColumnMoments | None:
    """When and where the columns were exposed: what the plan of a synthetic raster says, else the header."""
    if plan is not None:
        span = float((plan.times.max() - plan.times.min()).to_value(u.s))
        seen = settings.rotation is not None and turned_pixels(image, span) >= NEGLIGIBLE
        return ColumnMoments(plan.times, plan.positions) if seen else None
    stated = {key: settings.raster[key] for key in ("times", "observer") if settings.raster.get(key) is not None}
    return column_moments(image, rotation=settings.rotation, **stated)


def _column_times_missing(image: GenericMap, plan: RasterPlan | None, settings: Settings, model: str) -> dict[str, str]:
    """Say that a raster was compared as if it were of one moment; with a scale or a roll that is a flag.

    Those take up what the surface turned from the first column to the last.
    """
    if plan is not None or settings.rotation is None or settings.raster.get("times") is not None:
        return {}
    seconds = unknown_duration(image)
    pixels = turned_pixels(image, seconds)
    if pixels < VISIBLE:
        return {}
    said = (
        f"{name_of(image)} was scanned over {seconds / 3600:.1f} hours, in which the surface turns by up to "
        f"{pixels:.1f} pixels, and nothing says when its columns were exposed: give times= or a header with a time axis"
    )
    if time_axis(image.meta) is None:  # else it was said why that is not used
        warnings.warn(said, StackalignWarning, stacklevel=4)
    return {} if model == "shift" else {"model_too_small": said}
