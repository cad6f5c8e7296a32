"""Detectors of one spectrograph, such as SPICE's SW and LW: their pointing may differ by more than headers say."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from astropy.io import fits

from stackalign.errors import DataError

from .image_hdus import UNREADABLE, quiet
from .pixels import PixelTransform
from .reading import why_unreadable
from .spice import spectral_windows

__all__ = ["DETECTORS", "DetectorFit", "check_detectors", "detector_of", "other_detectors"]

DETECTORS = ("together", "apart")
"""One correction for all windows of a file, or one for those of each detector."""

KEYS = ("DETECTOR", "CCD", "CAMERA")
"""Cards that name the detector of a window."""


class DetectorFit(NamedTuple):
    """Correction of a detector: the HDU that was aligned, the correction on its pixels, and facts for the cards."""

    hdu: int
    correction: PixelTransform
    facts: Mapping[str, Any]


def check_detectors(detectors: str) -> None:
    """Refuse a word that is not known."""
    if detectors not in DETECTORS:
        msg = f"detectors must be one of {', '.join(DETECTORS)}, got {detectors!r}"
        raise ValueError(msg)


def detector_of(header: Any) -> str:
    """Name of the detector of an HDU; empty where the header does not say."""
    return next((str(header[key]).strip() for key in KEYS if header.get(key) not in (None, "")), "")


def other_detectors(path: Path | None, hdu: int | None) -> dict[str, int]:
    """First window of each detector of a file, but for the one that a window of it was seen with.

    Raises
    ------
    DataError
        The file has no spectral windows of several detectors.
    """
    windows = [] if path is None else spectral_windows(path)
    first: dict[str, int] = {}
    if path is not None and hdu is not None and windows:
        try:
            with quiet(), fits.open(path, memmap=True) as hdus:
                own = detector_of(hdus[hdu].header)
                for info in windows:
                    name = detector_of(hdus[info.index].header)
                    if name and name != own and not info.dumbbell:
                        first.setdefault(name, info.index)
        except UNREADABLE as error:
            raise DataError(why_unreadable(path, error)) from error
    if not first:
        msg = (
            f"{path or 'the target'} has no spectral windows of another detector ({', '.join(KEYS)} in their headers); "
            "leave detectors out"
        )
        raise DataError(msg)
    return first
