"""`coalign`: the way from a map with a wrong pointing to one with a corrected header and an error bar."""

import os
import warnings
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import astropy.units as u
import numpy as np
from astropy.units import Quantity
from numpy.typing import NDArray
from sunpy.map import GenericMap

from stackalign.backends._threads import governed
from stackalign.errors import DataError, StackalignWarning
from stackalign.registration import RegistrationResult, register, register_stack

from .apart import far_apart, seconds_between
from .coalign_result import CoalignmentResult, PhaseResult
from .columns import NEGLIGIBLE, column_moments, time_axis, turned_pixels, unknown_duration
from .frames import ColumnMoments, arcsec_per_pixel, name_of, observation_time, step_arcsec
from .framestore import as_frame, frame_image
from .grid import reference_sampler
from .headers import SequenceError, as_map, quiet, read_maps
from .phase import Phase, Request, Settings
from .phases import run_phase
from .pixels import PixelTransform
from .plan import RasterPlan, plan_synthetic_raster
from .provenance import solar_provenance
from .skymodel import SkyModel
from .spice import read_window, spectral_windows
from .sunkit import register_with_sunkit_image
from .target import Target

__all__ = ["PHASES", "Job", "coalign", "coalign_job", "run_jobs"]

PHASES = ("binned", "full", "synthetic")
"""The phases in their order."""

WIDE = 300.0
"""Arcsec that a pointing may be off by default."""

LARGEST = 384
"""Blocks along the longer side of the wide search's grid, so that it takes a second at most."""

VISIBLE = 0.2
"""Pixels by which the surface may turn during a raster without times of its columns before that is said."""

_PLANNED = ("threshold_time", "method", "times", "observer", "on_bad_frame")
"""Settings of a synthetic raster that decide which frame serves which column."""

Job = Generator[Request, RegistrationResult, CoalignmentResult]
"""A coalignment at work: yields pairs of images to be registered."""


@governed
def coalign(
    target: Any,
    reference: Any = None,
    *,
    model: str = "shift",
    max_shift: Quantity | str | float | None = None,
    phases: Sequence[str] | None = None,
    frames: Sequence[Any] | None = None,
    window: int | str | None = None,
    bin_kernel: Quantity | None = None,
    scale_range: tuple[float, float] | None = None,
    rotation: str | None = "howard",
    height: float = 1.0,
    order: int = 3,
    smooth: float | str = "auto",
    min_overlap: float = 0.3,
    tolerance: float = 0.01,
    max_rounds: int = 8,
    start: PixelTransform | None = None,
    device: str = "auto",
    workers: int | None = None,
    **raster: Any,
) -> CoalignmentResult:
    """Correct the coordinates of a map by comparing it with another one, or with an imager's sequence.

    The reference is sampled where the target's header says that its pixels are, and `stackalign.register` finds how
    the one image lies on the other; the header is corrected by that and the reference sampled anew, until nothing
    moves any more. The target is never resampled but for whole blocks of pixels.

    Parameters
    ----------
    target : GenericMap, path-like, (array, header), (array, WCS) or NDCube
        A file of SPICE with spectral windows is collapsed, see `read_window`.
    reference : the same, optional
        By default the one of `frames` that was taken next to the middle of the target. A raster whose header says when
        its columns were exposed is compared column by column, each turned to the time of this image.
    model : str
        What may be wrong in the header: "shift"; "shift+scale" (and the lengths of the pixels along each axis);
        "rigid" (and the roll); "similarity"; "shift+scale+angle"; "affine". The last phase fits it, those before it
        the shift alone.
    max_shift : Quantity, str or float, optional
        How far off the pointing may be: an angle such as "120 arcsec", or pixels of the target; 300 arcsec by default.
    phases : sequence of str, optional
        Some of "binned" (every shift, on blocks of pixels), "full" (the pixels as they are) and "synthetic" (a raster
        that is built from the frames column by column, see `build_synthetic_raster`). By default all that there are
        images for.
    frames : sequence of GenericMap or path-like, optional
        The imager's sequence during the raster.
    window : int or str, optional
        Spectral window of a file, by number or name.
    bin_kernel : Quantity, optional
        Side of the blocks on the sky; by default so that the wide search takes less than a second.
    scale_range : (float, float), optional
        Bounds of the scales.
    rotation : str, optional
        Model by which the solar surface turns between two images; None leaves it where it is.
    height : float
        Radius of the surface in solar radii; 1.004 for 17.4 nm.
    order : {1, 3}
        Of the interpolation of the reference.
    smooth, min_overlap, device, workers
        See `stackalign.register`; the overlap is the share of the target's valid pixels.
    tolerance : float
        In pixels: the header is right when a round moves no corner by more.
    max_rounds : int
        Largest number of rounds of each phase.
    start : PixelTransform, optional
        Correction to begin with.
    **raster
        For `build_synthetic_raster`: threshold_time, method, times, observer, psf_fwhm, exposure_samples, oversample,
        on_bad_frame.

    Returns
    -------
    CoalignmentResult
        ``result.corrected_map``; ``result.ok`` is False where a flag says why it should not be trusted.

    Raises
    ------
    DataError
        An image cannot be used, the two do not overlap, or frames do not cover the raster in time or on the sky.
    ValueError
        A setting does not fit.
    """
    job = coalign_job(
        target,
        reference,
        model=model,
        max_shift=max_shift,
        phases=phases,
        frames=frames,
        window=window,
        bin_kernel=bin_kernel,
        scale_range=scale_range,
        rotation=rotation,
        height=height,
        order=order,
        smooth=smooth,
        min_overlap=min_overlap,
        tolerance=tolerance,
        max_rounds=max_rounds,
        start=start,
        **raster,
    )
    answer: Any = None
    while True:
        try:
            with quiet():
                wanted = job.send(answer)
        except StopIteration as stop:
            result: CoalignmentResult = stop.value
            return result
        answer = register(wanted.reference, wanted.moving, device=device, workers=workers, **wanted.settings)


@governed
def run_jobs(jobs: Sequence[Job], *, device: str = "auto", workers: int | None = None) -> list[Any]:
    """Drive jobs together: what wants to be registered alike is, in one stack.

    Returns
    -------
    list
        Of each job its `CoalignmentResult`, or the exception that ended it.
    """
    outcomes: list[Any] = [None] * len(jobs)
    waiting: dict[int, Request] = {}

    def advance(number: int, answer: Any) -> None:
        waiting.pop(number, None)
        try:
            with quiet():
                waiting[number] = jobs[number].send(answer)
        except StopIteration as stop:
            outcomes[number] = stop.value
        except Exception as error:  # whatever is wrong with one job is no reason to lose the others
            outcomes[number] = error

    for number in range(len(jobs)):
        advance(number, None)
    while waiting:
        alike: dict[Any, list[int]] = {}
        for number, wanted in waiting.items():
            alike.setdefault(wanted.key, []).append(number)
        for numbers in alike.values():
            pairs = [waiting[number] for number in numbers]
            try:
                found = register_stack(
                    np.stack([w.reference for w in pairs]),
                    np.stack([w.moving for w in pairs]),
                    device=device,
                    workers=workers,
                    **pairs[0].settings,
                )
            except Exception as error:
                for number in numbers:
                    waiting.pop(number)
                    outcomes[number] = error
                continue
            for number, result in zip(numbers, found, strict=True):
                advance(number, result)
    return outcomes


def coalign_job(
    target: Any,
    reference: Any = None,
    *,
    model: str = "shift",
    max_shift: Quantity | str | float | None = None,
    phases: Sequence[str] | None = None,
    frames: Sequence[Any] | None = None,
    window: int | str | None = None,
    bin_kernel: Quantity | None = None,
    scale_range: tuple[float, float] | None = None,
    rotation: str | None = "howard",
    height: float = 1.0,
    order: int = 3,
    smooth: float | str = "auto",
    min_overlap: float = 0.3,
    tolerance: float = 0.01,
    max_rounds: int = 8,
    start: PixelTransform | None = None,
    **raster: Any,
) -> Job:
    """Do the work of `coalign`, as a generator that yields what is to be registered."""
    image, source, hdu = open_target(target, window)
    settings = Settings(
        rotation, height, order, smooth, min_overlap, tolerance, max_rounds, scale_range, _raster_options(raster)
    )
    _check(settings)
    frames = _single_frames(frames)
    wanted = _phases(phases, reference, frames)
    SkyModel(model, arcsec_per_pixel(image.wcs), image.data.shape)  # the last phase would say it late
    planned = {k: v for k, v in settings.raster.items() if k in _PLANNED}
    plan = plan_synthetic_raster(image, frames or (), **planned) if "synthetic" in wanted else None
    against = as_map(_nearest(image, frames or ()) if reference is None else reference)
    with warnings.catch_warnings(record=True) as remarks:
        warnings.simplefilter("always")
        moments = _moments(image, plan, settings)
    prepared = Target.of(image, against, settings, moments)
    so_far = origin = PixelTransform.identity() if start is None else start
    done: list[PhaseResult] = []
    for name in wanted:
        last = name == wanted[-1]
        sky = SkyModel(model if last else "shift", arcsec_per_pixel(image.wcs), image.data.shape)
        phase = replace(
            _phase(name, sky, image, max_shift, bin_kernel, done, frames or ()), rough=not last, origin=origin
        )
        done.append((yield from run_phase(phase, prepared, settings, so_far)))
        so_far = done[-1].correction
    lasting = [f for phase in done[:-1] for f in phase.flags if f in ("ambiguous", "on_bound", "insignificant")]
    for remark in remarks:  # what is wrong with the settings is said first
        warnings.warn(str(remark.message), remark.category, stacklevel=3)
    seconds = float(np.abs(plan.seconds[:, 0]).max()) if plan is not None else seconds_between(image, against)
    apart = far_apart(image, against, rotation=settings.rotation, seconds=seconds, sigma=done[-1].sigma[:2])
    details = dict(done[-1].details) | apart | _column_times_missing(image, plan, settings, model)
    return CoalignmentResult(
        target=image,
        reference=against,
        phases=tuple(done),
        flags=tuple(dict.fromkeys([*done[-1].flags, *lasting, *details])),
        details=details,
        provenance=solar_provenance(image, against, done, _described(settings, model, max_shift), source),
        sampler=reference_sampler(phase, prepared, settings),
        source=source,
        hdu=hdu,
    )


def _moments(image: GenericMap, plan: RasterPlan | None, settings: Settings) -> ColumnMoments | None:
    """When and where the columns were exposed: what the plan of a synthetic raster says, else the header."""
    if plan is not None:
        span = float((plan.times.max() - plan.times.min()).to_value(u.s))
        seen = settings.rotation is not None and turned_pixels(image, span) >= NEGLIGIBLE
        return ColumnMoments(plan.times, plan.positions) if seen else None
    given = {key: settings.raster[key] for key in ("times", "observer") if settings.raster.get(key) is not None}
    return column_moments(image, rotation=settings.rotation, **given)


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


class Opened(NamedTuple):
    """A target: its map, and the file and HDU it came from."""

    map: GenericMap
    source: Path | None
    hdu: int | None


def open_target(target: Any, window: int | str | None) -> Opened:
    """Read a target, unless that was done already."""
    if isinstance(target, Opened):
        return target
    if not isinstance(target, (str, os.PathLike)):
        if window is not None:
            msg = "window chooses a spectral window of a file; the target is not one"
            raise ValueError(msg)
        return Opened(as_map(target), None, None)
    path = Path(target)
    windows = spectral_windows(path)
    if not windows:
        if window is not None:
            msg = f"{path} has no spectral windows; leave the window out"
            raise DataError(msg)
        return Opened(as_map(path), path, None)
    collapsed = read_window(path, window)
    name = collapsed.map.meta.get("extname")
    index = next((info.index for info in windows if info.name == name), windows[0].index)
    return Opened(collapsed.map, path, index)


def _raster_options(given: dict[str, Any]) -> dict[str, Any]:
    known = (
        "threshold_time", "method", "times", "observer", "psf_fwhm", "exposure_samples", "oversample", "on_bad_frame",
    )  # fmt: skip
    unknown = [name for name in given if name not in known]
    if unknown:
        msg = f"coalign has no setting {', '.join(unknown)}; for the synthetic raster there are {', '.join(known)}"
        raise TypeError(msg)
    return given


def _check(settings: Settings) -> None:
    if not settings.tolerance > 0 or settings.max_rounds < 1:
        msg = f"tolerance must be above 0 and max_rounds at least 1, got {settings.tolerance}, {settings.max_rounds}"
        raise ValueError(msg)
    if settings.scale_range is not None:
        low, high = settings.scale_range
        if not 0 < low <= 1 <= high:
            msg = f"scale_range must be (lower, upper) around 1, got {settings.scale_range}"
            raise ValueError(msg)


def _phases(phases: Sequence[str] | None, reference: Any, frames: Sequence[Any] | None) -> tuple[str, ...]:
    if frames is not None and not len(frames):
        msg = "no frames were given; leave frames out, or widen the time window in which they are looked for"
        raise DataError(msg)
    if reference is None and frames is None:
        msg = "a reference map is needed, or the frames of a sequence"
        raise ValueError(msg)
    if phases is None:
        return PHASES if frames is not None else PHASES[:2]
    names = (phases,) if isinstance(phases, str) else tuple(phases)
    if not names or any(name not in PHASES for name in names) or len(set(names)) < len(names):
        msg = f"phases must be some of {', '.join(PHASES)}, got {', '.join(map(str, names)) or 'none'}"
        raise ValueError(msg)
    if "synthetic" in names and frames is None:
        msg = 'the phase "synthetic" needs frames: maps or files of an imager during the raster'
        raise ValueError(msg)
    return tuple(name for name in PHASES if name in names)


def _single_frames(frames: Sequence[Any] | None) -> Sequence[Any] | None:
    """The frames, one by one: a file that holds a sequence is read whole."""
    if frames is None:
        return None
    found: list[Any] = []
    for source in [frames] if isinstance(frames, (str, os.PathLike)) else frames:
        try:
            found.append(as_frame(source))
        except SequenceError:
            found += read_maps(source)
        except DataError:
            found.append(source)  # said, or left out, when its turn comes
    return found


def _nearest(image: GenericMap, frames: Sequence[Any]) -> GenericMap:
    when = observation_time(image)
    return frame_image(min(map(as_frame, frames), key=lambda frame: abs(float((frame.time - when).to_value(u.s)))))


def _reach(max_shift: Quantity | str | float | None, image: GenericMap) -> NDArray[np.float64]:
    """Pixels (y, x) that the pointing may be off."""
    steps = step_arcsec(image.wcs)[::-1]
    if max_shift is None:
        return WIDE / steps
    try:
        given = Quantity(max_shift)
        angle = given.unit.is_equivalent(u.arcsec) and given.unit != u.dimensionless_unscaled
        value = float(given.to_value(u.arcsec) if angle else given.value)
        if not angle and given.unit not in (u.dimensionless_unscaled, u.pix):
            value = float("nan")
    except (TypeError, ValueError):
        angle, value = False, float("nan")
    pixels = value / steps if angle else np.full(2, value)
    if not (np.isfinite(value) and value > 0):
        msg = f"max_shift must be a positive angle or number of pixels, got {max_shift}"
        raise ValueError(msg)
    return pixels


def _phase(
    name: str,
    sky: SkyModel,
    image: GenericMap,
    max_shift: Quantity | str | float | None,
    bin_kernel: Quantity | None,
    done: Sequence[PhaseResult],
    frames: Sequence[Any],
) -> Phase:
    steps = step_arcsec(image.wcs)[::-1]
    reach = _reach(max_shift, image)
    whole = (float(reach[0]), float(reach[1]))
    if name == "binned":
        if bin_kernel is None:
            length = ((np.array(image.data.shape) + 2 * reach) * steps).max()
            kernel = max(float(steps.max()), length / LARGEST)
        else:
            kernel = float(Quantity(bin_kernel).to_value(u.arcsec))
            if not (np.isfinite(kernel) and kernel > 0):
                msg = f"bin_kernel must be a positive angle, got {bin_kernel}"
                raise ValueError(msg)
        factors = tuple(max(1, min(n // 4, round(kernel / s))) for n, s in zip(image.data.shape, steps, strict=True))
        return Phase(name, sky, (factors[0], factors[1]), whole, True, whole_reach=whole)
    if done:
        # What is left after the phase before: two of its blocks, and what a wrong scale or roll did to it.
        left = 2.0 * np.array(done[-1].binning) + 0.02 * np.array(image.data.shape) + 2.0 * steps.max() / steps
        reach = np.minimum(reach, left)
    used = tuple(frames) if name == "synthetic" else ()
    return Phase(name, sky, (1, 1), (float(reach[0]), float(reach[1])), not done, used, whole_reach=whole)


def _described(settings: Settings, model: str, max_shift: Any) -> dict[str, Any]:
    """Settings as the provenance says them."""
    names = ("rotation", "height", "order", "smooth", "min_overlap", "tolerance", "max_rounds", "scale_range")
    return {
        "model": model,
        "max_shift": None if max_shift is None else str(max_shift),
        **{name: getattr(settings, name) for name in names},
        **{name: str(value) for name, value in settings.raster.items()},
    }


register_with_sunkit_image()
