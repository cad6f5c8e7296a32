"""Arguments of `coalign`, checked and put into the pipeline's terms."""

import os
from collections.abc import Sequence
from typing import Any

import astropy.units as u
import numpy as np
from astropy.units import Quantity
from sunpy.map import GenericMap

from stackalign._types import FloatArray
from stackalign.errors import DataError

from .frames import observation_time
from .framestore import as_frame, frame_image
from .image_hdus import SequenceError
from .phase import Settings
from .reading import read_maps

__all__ = [
    "BACKGROUND",
    "PHASES",
    "background_pixels",
    "check_settings",
    "chosen_phases",
    "described",
    "nearest_frame",
    "raster_options",
    "reach_pixels",
    "single_frames",
]

PHASES = ("binned", "full", "synthetic")
"""The phases in their order."""

WIDE = 300.0
"""Arcsec that a pointing may be off by default."""

BACKGROUND = 1 / 12
"""Share of the image's shorter side on the sky that is the sigma of the smooth background."""


def raster_options(options: dict[str, Any]) -> dict[str, Any]:
    """Check the names of settings of a synthetic raster."""
    known = (
        "threshold_time", "method", "times", "observer", "psf_fwhm", "exposure_samples", "oversample", "on_bad_frame",
    )  # fmt: skip
    unknown = [name for name in options if name not in known]
    if unknown:
        msg = f"coalign has no setting {', '.join(unknown)}; for the synthetic raster there are {', '.join(known)}"
        raise TypeError(msg)
    return options


def check_settings(settings: Settings) -> None:
    """Refuse settings that do not fit."""
    if not settings.tolerance > 0 or settings.max_rounds < 1:
        msg = f"tolerance must be above 0 and max_rounds at least 1, got {settings.tolerance}, {settings.max_rounds}"
        raise ValueError(msg)
    if settings.scale_range is not None:
        low, high = settings.scale_range
        if not 0 < low <= 1 <= high:
            msg = f"scale_range must be (lower, upper) around 1, got {settings.scale_range}"
            raise ValueError(msg)


def chosen_phases(phases: Sequence[str] | None, reference: Any, frames: Sequence[Any] | None) -> tuple[str, ...]:
    """Names of the phases in their order."""
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


def single_frames(frames: Sequence[Any] | None) -> Sequence[Any] | None:
    """The frames, one by one: a file that holds a sequence is read whole."""
    if frames is None:
        return None
    single: list[Any] = []
    for source in [frames] if isinstance(frames, (str, os.PathLike)) else frames:
        try:
            single.append(as_frame(source))
        except SequenceError:
            single += read_maps(source)
        except DataError:
            single.append(source)  # said, or left out, when its turn comes
    return single


def nearest_frame(image: GenericMap, frames: Sequence[Any]) -> GenericMap:
    """The frame that was taken next to the date of an image."""
    when = observation_time(image)
    return frame_image(min(map(as_frame, frames), key=lambda frame: abs(float((frame.time - when).to_value(u.s)))))


def _angle_or_pixels(width: Any, steps: FloatArray, what: str) -> FloatArray:
    """Pixels (y, x) of an angle, or of a number of pixels."""
    try:
        value = Quantity(width)
        angle = value.unit.is_equivalent(u.arcsec) and value.unit != u.dimensionless_unscaled
        number = float(value.to_value(u.arcsec) if angle else value.value)
        if not angle and value.unit not in (u.dimensionless_unscaled, u.pix):
            number = float("nan")
    except (TypeError, ValueError):
        angle, number = False, float("nan")
    if not (np.isfinite(number) and number > 0):
        msg = f"{what} must be a positive angle or number of pixels, got {width}"
        raise ValueError(msg)
    return number / steps if angle else np.full(2, number)


def reach_pixels(max_shift: Quantity | str | float | None, steps: FloatArray) -> FloatArray:
    """Pixels (y, x) that the pointing may be off; `steps` (y, x) are the pixels' lengths in arcsec."""
    return WIDE / steps if max_shift is None else _angle_or_pixels(max_shift, steps, "max_shift")


def background_pixels(background: Any, shape: tuple[int, int], steps: FloatArray) -> tuple[float, float] | None:
    """Sigma in pixels (y, x) of the smooth background; None to keep it."""
    if background is None or background is False:
        return None
    sigma = BACKGROUND * float((np.array(shape) * steps).min()) / steps
    if background is not True and background != "auto":
        sigma = _angle_or_pixels(background, steps, "background")
    return float(sigma[0]), float(sigma[1])


def described(settings: Settings, model: str, max_shift: Any) -> dict[str, Any]:
    """Settings as the provenance says them."""
    names = (
        "rotation",
        "height",
        "screen",
        "order",
        "smooth",
        "min_overlap",
        "tolerance",
        "max_rounds",
        "scale_range",
        "background",
    )
    return {
        "model": model,
        "max_shift": None if max_shift is None else str(max_shift),
        **{name: getattr(settings, name) for name in names},
        **{name: str(value) for name, value in settings.raster.items()},
    }
