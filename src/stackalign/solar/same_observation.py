"""The images of one file that belong to one observation: a correction of one is a correction of all."""

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from stackalign._types import FloatArray
from stackalign.errors import DataError

from .correct import transfer_correction
from .dates import parse_moment
from .detectors import DetectorFit, detector_of
from .directions import pixel_to_sky, sky_to_pixel
from .pixels import PixelTransform
from .wcs import read_linear

__all__ = ["aligned_hdu", "corrections_of", "grid_of", "has_coordinates", "hdu_name", "header_of"]

SAME_OBSERVATION = 60.0
"""Seconds by which the dates of images of one observation may differ."""


def header_of(one: Any) -> fits.Header:
    """Header of an HDU."""
    header: fits.Header = one.header
    return header


def _axes(header: fits.Header) -> int:
    return int(header.get("ZNAXIS", header.get("NAXIS", 0)))


def has_coordinates(one: Any) -> bool:
    """Whether an HDU is an image with solar coordinates."""
    header = header_of(one)
    is_image = one.is_image or header.get("ZIMAGE", False)
    types = [str(header.get(f"CTYPE{i}", "")).upper() for i in (1, 2)]
    return bool(is_image and _axes(header) >= 2 and all(t.startswith(("HP", "HG", "CR", "SOLAR")) for t in types))


def hdu_name(one: Any, hdus: fits.HDUList) -> str:
    """What to call an HDU."""
    return str(one.name or f"HDU {hdus.index(one)}")


def aligned_hdu(images: list[Any], hdus: fits.HDUList, chosen: int | str | None, path: Path) -> Any:
    """The image that was aligned, the first by default."""
    if chosen is None and images:
        return images[0]
    try:
        aligned = hdus[chosen] if chosen is not None else None
    except (IndexError, KeyError):
        aligned = None
    if aligned is None or aligned not in images:
        msg = f"{path} has no image with solar coordinates" + (f" in HDU {chosen!r}" if chosen is not None else "")
        raise DataError(msg)
    return aligned


def grid_of(one: Any) -> tuple[tuple[int, ...], FloatArray]:
    """Size and coordinates of the first two axes."""
    header = header_of(one)
    prefix = "ZNAXIS" if "ZNAXIS" in header else "NAXIS"
    linear = read_linear(header)
    size = tuple(int(header[f"{prefix}{i}"]) for i in (1, 2))
    value = [float(header.get(f"CRVAL{i}", 0.0)) for i in (1, 2)]
    return size, np.r_[linear.crpix[:2], linear.cd[:2, :2].ravel(), value]


def _same(first: tuple[tuple[int, ...], FloatArray], second: tuple[tuple[int, ...], FloatArray]) -> bool:
    # Numbers in a header have some 15 digits; pipelines write them with fewer.
    return first[0] == second[0] and bool(np.allclose(first[1], second[1], rtol=1e-9, atol=1e-9))


def corrections_of(
    images: list[Any],
    aligned: Any,
    correction: PixelTransform,
    hdus: fits.HDUList,
    detectors: Mapping[str, DetectorFit | str] = MappingProxyType({}),
) -> tuple[list[tuple[Any, PixelTransform]], tuple[str, ...]]:
    """Images with the correction on their own pixels, and which are left as they are and why.

    Those of other detectors have the correction that was fitted for their own, or the sentence why there is none.
    """
    corrections, left = [], []
    for one in images:
        base, own, why = aligned, correction, ""
        fit = detectors.get(detector_of(header_of(one)))
        if isinstance(fit, str):
            why = fit
        elif fit is not None:
            base, own = hdus[fit.hdu], fit.correction
        if not why and _same(grid_of(one), grid_of(base)):
            corrections.append((one, own))
            continue
        why = why or _another(header_of(one), header_of(base))
        if not why:
            try:
                corrections.append((one, _transferred(own, one, base)))
                continue
            except DataError as error:
                why = str(error)
        left.append(f"{hdu_name(one, hdus)} ({why})")
    return corrections, tuple(left)


def _another(header: fits.Header, aligned: fits.Header) -> str:
    """Why an image is of another observation than the aligned one; nothing where it is of the same."""
    for key in ("TELESCOP", "INSTRUME", "OBSRVTRY"):
        own, other = (str(h.get(key) or "").strip().upper() for h in (header, aligned))
        if own and other and own != other:
            return f"{key} is {own}, not {other}"
    kinds = [[str(h.get(f"CTYPE{i}", ""))[:4].upper() for i in (1, 2)] for h in (header, aligned)]
    if kinds[0] != kinds[1]:
        return f"its coordinates are {' and '.join(kinds[0])}"
    for key in ("DATE-BEG", "DATE-OBS", "DATE_OBS", "DATE-AVG"):
        if not header.get(key) or not aligned.get(key):
            continue
        try:
            apart = abs(float((parse_moment(header[key]) - parse_moment(aligned[key])).to_value("s")))
        except DataError:
            continue
        return f"it was taken {apart:.0f} s from the other" if apart > SAME_OBSERVATION else ""
    return ""


def _transferred(correction: PixelTransform, one: Any, aligned: Any) -> PixelTransform:
    """The correction on the pixels of another image of the same observation."""
    own, other = _celestial(header_of(one)), _celestial(header_of(aligned))
    (nx, ny), _ = grid_of(one)

    def through(source: WCS, destination: WCS) -> Any:
        return lambda points: sky_to_pixel(destination, *pixel_to_sky(source, points))

    return transfer_correction(correction, through(own, other), through(other, own), (ny, nx))


def _celestial(header: fits.Header) -> WCS:
    """Coordinates of the first two axes alone."""
    linear = read_linear(header)
    made = WCS(naxis=2)
    types = [str(header[f"CTYPE{i}"]) for i in (1, 2)]
    # Headers of the first instruments say SOLAR-X, and mean what is called HPLN-TAN now.
    known = [re.fullmatch(r"[A-Z]{4}-[A-Z]{3}(-SIP)?", kind) for kind in types]
    made.wcs.ctype = [kind[:8] for kind in types] if all(known) else ["HPLN-TAN", "HPLT-TAN"]
    made.wcs.cunit = [str(header.get(f"CUNIT{i}") or "arcsec") for i in (1, 2)]
    made.wcs.crpix, made.wcs.cdelt = linear.crpix[:2], linear.cdelt[:2]
    made.wcs.pc = linear.cd[:2, :2] / linear.cdelt[:2, None]
    made.wcs.crval = [float(header.get(f"CRVAL{i}", 0.0)) for i in (1, 2)]
    for name in ("LONPOLE", "LATPOLE"):
        if header.get(name) is not None:
            setattr(made.wcs, name.lower(), float(header[name]))
    made.wcs.set()
    return made
