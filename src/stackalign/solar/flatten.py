"""Headers of images that were taken out of cubes."""

import re
from typing import Any

from astropy.wcs import WCS
from astropy.wcs.wcsapi import SlicedLowLevelWCS
from sunpy.util import MetaDict

from stackalign.errors import DataError

from .columns import axis_times, time_axis
from .wcs import read_linear

__all__ = ["flat_header", "slice_header"]


def flat_header(header: Any, repeat: int = 0) -> MetaDict:
    """Header of an image of a window: wavelength gone, time on the third axis, every other card as it was.

    Parameters
    ----------
    header : mapping
        With x and y on the first two axes, and of any others those of time, which may depend on x.
    repeat : int
        Index along the axis of time, from 0.
    """
    flat = MetaDict(dict(header))
    linear = read_linear(flat)
    axis = time_axis(flat)
    time: dict[str, Any] = {}
    if axis is not None:
        i = axis - 1
        moment = float(flat.get(f"CRVAL{axis}", 0.0)) + linear.cd[i, i] * (repeat + 1 - linear.crpix[i])
        kind = str(flat[f"CTYPE{axis}"]).strip()
        time = {
            "CTYPE3": "UTC" if kind.startswith("TIME") and str(flat.get("TIMESYS", "UTC")) == "UTC" else kind,
            "CUNIT3": flat.get(f"CUNIT{axis}") or "s",
            "CRPIX3": 1.0,
            "CRVAL3": moment,
            "CDELT3": 1.0,
            "PC3_1": float(linear.cd[i, 0]),
        }
        if linear.cd[i, 1]:
            time["PC3_2"] = float(linear.cd[i, 1])
    for key in list(flat):
        upper = str(key).upper()
        if re.fullmatch(r"(CTYPE|CUNIT|CRPIX|CRVAL|CDELT|CNAME|CRDER|CSYER|NAXIS|NBIN)[3-9]", upper) or re.fullmatch(
            r"(PC|CD)(\d_[3-9]|[3-9]_\d)", upper
        ):
            del flat[key]
    flat.update(time)
    flat["WCSAXES"], flat["NAXIS"] = (3 if time else 2), 2
    return flat


def slice_header(wcs: Any, header: Any) -> MetaDict:
    """Header of the image (y, x) that a sliced FITS WCS describes, with the cards of the cube's header."""
    low = getattr(wcs, "low_level_wcs", wcs)
    base = getattr(low, "_wcs", None)
    if isinstance(low, WCS) and low.naxis == 2:
        return MetaDict({**header, **low.to_header()})
    if not (isinstance(low, SlicedLowLevelWCS) and isinstance(base, WCS)):
        msg = f"the cube's WCS is a {type(wcs).__name__}; only FITS WCS of two axes can be corrected"
        raise DataError(msg)
    cuts = low._slices_pixel
    if not (isinstance(cuts[0], slice) and isinstance(cuts[1], slice)) or any(
        isinstance(cut, slice) for cut in cuts[2:]
    ):
        msg = "a cut through the cube along x and y is needed: choose one wavelength and one time, or collapse it"
        raise DataError(msg)
    whole = MetaDict({**header, **base.to_header()})
    axis = time_axis(whole)
    flat = flat_header(whole, 0 if axis is None else int(cuts[axis - 1]))
    if axis is not None and not read_linear(whole).cd[axis - 1, :2].any():
        # One image of a sequence: the date in the cube's cards is that of all.
        flat["date-avg"] = axis_times(whole, int(cuts[axis - 1]) + 1, axis)[-1].isot
    for i in (1, 2):
        # The times of columns are counted from CRPIX1 too, so they follow.
        flat[f"crpix{i}"] = float(flat.get(f"crpix{i}", 0.0)) - (cuts[i - 1].start or 0)
    return flat
