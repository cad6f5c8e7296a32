"""A correction found in pixels, written into a header: nothing else in it is changed."""

import re
import warnings
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sunpy.util import MetaDict

from stackalign._types import FloatArray
from stackalign.errors import DataError, StackalignWarning

from .pixels import PixelTransform

__all__ = ["LinearPart", "corrected_header", "read_linear", "regridded_header"]


_ALTERNATE = re.compile(r"(CRPIX\d|CRVAL\d|CTYPE\d|CDELT\d|PC\d_\d|CD\d_\d)[A-Z]")
_LOOKUP = re.compile(r"(CPDIS|CQDIS|CWDIS|D2IMDIS)\d|(DP|DQ|DW)\d(\..*)?")
_SIP = ("A_ORDER", "B_ORDER", "AP_ORDER", "BP_ORDER")
_NONLINEAR = re.compile(r"....-(TAB|LOG|[FWVAEZBN]2[FWVAEZBN])", re.IGNORECASE)


def corrected_header(
    header: MutableMapping[str, Any], correction: PixelTransform, *, shape: tuple[int, ...] | None = None
) -> Any:
    """Write a correction into a header.

    Parameters
    ----------
    header : astropy.io.fits.Header, sunpy MetaDict or mapping
        With longitude and latitude on the first two axes. It is copied.
    correction : PixelTransform
        ``p = A q + b``: the pixel q of this image shows what the header says of the pixel p.
    shape : tuple of int, optional
        (..., ny, nx) of the image; then XCEN and YCEN follow where they are there.

    Returns
    -------
    header
        Of the same type: ``CD' = CD A`` as PC and CDELT, CDELT as near to the old one as the length of a pixel allows;
        the reference pixel moved to where the pixel of the old one is now, which is exact for every projection; CRVAL
        as it was; CROTA turned along; CDi_j cards gone. Axes that depend on x, such as the time of a raster's columns,
        keep their values at each pixel: their CRVAL follows the reference pixel.

    Raises
    ------
    DataError
        The first two axes are not celestial, or the header has SIP distortions and A is more than a shift.

    Warns
    -----
    StackalignWarning
        Tables of distortions are carried as they are; alternate coordinates are left alone.

    Examples
    --------
    >>> import numpy as np
    >>> from stackalign import solar
    >>> seen = solar.create_test_observation((60, 24), n_frames=2)
    >>> shift = solar.PixelTransform(np.eye(2), np.array([2.0, -1.0]))
    >>> header = solar.corrected_header(seen.raster.meta, shift, shape=(60, 24))
    >>> float(header["crpix2"]), float(seen.raster.meta["crpix2"])
    (31.5, 30.5)
    """
    _check_distortions(header, correction)
    return _rewritten(header, correction, shape, follow=False)


def regridded_header(header: MutableMapping[str, Any], grid: PixelTransform, *, shape: tuple[int, ...]) -> Any:
    """Write the header of an image on another grid.

    Other than for `corrected_header`, every axis follows: a binned column has the mean time of its columns.

    Parameters
    ----------
    header : mapping
        Of the old image; it is copied.
    grid : PixelTransform
        From the new image's pixels to the old one's.
    shape : tuple of int
        (..., ny, nx) of the new image.

    Returns
    -------
    header
        Of the same type.

    Examples
    --------
    >>> import numpy as np
    >>> from stackalign import solar
    >>> seen = solar.create_test_observation((60, 24), n_frames=2)
    >>> every_second = solar.PixelTransform(2 * np.eye(2), np.array([0.5, 0.5]))
    >>> header = solar.regridded_header(seen.raster.fits_header, every_second, shape=(30, 12))
    >>> float(header["CDELT1"])
    16.0
    """
    _check_distortions(header, grid)
    new = _rewritten(header, grid, shape, follow=True)
    new["NAXIS1"], new["NAXIS2"] = int(shape[-1]), int(shape[-2])
    return new


# --- the linear part of a header ----------------------------------------


@dataclass(frozen=True)
class LinearPart:
    """CRPIX, CD = CDELT x PC and CDELT of all axes."""

    crpix: FloatArray
    cd: FloatArray
    cdelt: FloatArray


def _keys(header: Any) -> list[str]:
    return [str(key).upper() for key in header]


def _number(header: Any, key: str, default: float) -> float:
    value = header.get(key, default)
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        msg = f"{key} must be a number, got {value!r}"
        raise DataError(msg) from error


def read_linear(header: Any) -> LinearPart:
    """Read the linear part of a header: PC where it is there, else CD, else CROTA2."""
    keys = _keys(header)
    indices = [int(m[1]) for key in keys if (m := re.fullmatch(r"(?:CTYPE|CRPIX|CRVAL|CDELT)(\d)", key))]
    n = max([2, *indices])
    axes = range(1, n + 1)
    crpix = np.array([_number(header, f"CRPIX{i}", 0.0) for i in axes])
    cdelt = np.array([_number(header, f"CDELT{i}", 1.0) for i in axes])
    if any(re.fullmatch(r"PC\d_\d", key) for key in keys):
        pc = np.array([[_number(header, f"PC{i}_{j}", float(i == j)) for j in axes] for i in axes])
        cd = cdelt[:, None] * pc
    elif any(re.fullmatch(r"CD\d_\d", key) for key in keys):
        cd = np.array([[_number(header, f"CD{i}_{j}", 0.0) for j in axes] for i in axes])
        if "CDELT1" not in keys or "CDELT2" not in keys:
            cdelt[:2] = np.linalg.norm(cd[:2, :2], axis=0)
        cdelt = np.where(cdelt == 0, 1.0, cdelt)
    else:
        angle = np.deg2rad(_number(header, "CROTA2", 0.0))
        cd = np.diag(cdelt)
        # Greisen and Calabretta (2002), equation 187: the angle of the latitude axis; pixels keep their lengths.
        cd[:2, :2] = [
            [cdelt[0] * np.cos(angle), -cdelt[1] * np.sin(angle)],
            [cdelt[0] * np.sin(angle), cdelt[1] * np.cos(angle)],
        ]
    if not np.isfinite(cd).all() or abs(np.linalg.det(cd[:2, :2])) == 0:
        msg = "CDELT and PC (or CD) of the first two axes are singular; the header cannot be corrected"
        raise DataError(msg)
    return LinearPart(crpix, cd, cdelt)


def _check_celestial(header: Any) -> None:
    types = [str(header.get(f"CTYPE{i}", "")).upper() for i in (1, 2)]
    known = ("HPLN", "HPLT", "HGLN", "HGLT", "CRLN", "CRLT", "HRLN", "HRLT", "SOLAR-X", "SOLAR-Y", "SOLAR_X", "SOLAR_Y")
    if not all(kind.startswith(known) for kind in types):
        msg = (
            f"the first two axes must be solar longitude and latitude, got CTYPE1 = {types[0]!r}, CTYPE2 = {types[1]!r}"
        )
        raise DataError(msg)


def _check_distortions(header: Any, correction: PixelTransform) -> None:
    _check_celestial(header)
    keys = _keys(header)
    more_than_a_shift = not np.array_equal(correction.matrix, np.eye(2))
    if any(key in keys for key in _SIP) and more_than_a_shift:
        msg = (
            "the header has SIP distortions, which hold for unscaled and unturned pixels: resample the map without them"
        )
        raise DataError(msg)
    if any(_LOOKUP.fullmatch(key) for key in keys):
        msg = "the header has tables of distortions; they are carried as they are, made for the uncorrected pixels"
        warnings.warn(msg, StackalignWarning, stacklevel=4)
    letters = sorted({key[-1] for key in keys if _ALTERNATE.fullmatch(key)})
    if letters:
        msg = f"alternate coordinates ({', '.join(letters)}) are left as they are; only the primary ones are corrected"
        warnings.warn(msg, StackalignWarning, stacklevel=4)


def _rewritten(header: Any, change: PixelTransform, shape: tuple[int, ...] | None, *, follow: bool) -> Any:
    """The header for pixels q that show what the old header says of ``p = A q + b``; see the two callers."""
    new = header.copy() if hasattr(header, "copy") else MetaDict(header)
    if not hasattr(new, "cards") and not isinstance(new, MetaDict):
        new = MetaDict(new)  # a plain dictionary knows keys in one spelling only
    old = read_linear(new)
    matrix = old.cd[:2, :2] @ change.matrix
    crpix = old.crpix.copy()
    crpix[:2] = change.inverse()(old.crpix[:2] - 1.0) + 1.0
    cd = old.cd.copy()
    cd[:2, :2] = matrix
    if follow:
        cd[2:, :2] = old.cd[2:, :2] @ change.matrix
    else:
        moved = crpix[:2] - old.crpix[:2]
        for i in range(2, len(cd)):
            # Added to a value that need not change, a rounding error would be a change.
            if (step := float(old.cd[i, :2] @ moved)) != 0.0:
                _check_linear_axis(new, i + 1)
                new[f"CRVAL{i + 1}"] = _number(new, f"CRVAL{i + 1}", 0.0) + step
    cdelt = old.cdelt.copy()
    cdelt[:2] *= np.linalg.norm(matrix, axis=0) / np.linalg.norm(old.cd[:2, :2], axis=0)
    new["CRPIX1"], new["CRPIX2"] = float(crpix[0]), float(crpix[1])
    new["CDELT1"], new["CDELT2"] = float(cdelt[0]), float(cdelt[1])
    _write_pc(new, cd, cdelt, old)
    _turn_crota(new, old.cd[:2, :2], matrix)
    if shape is not None:
        _move_center(new, old, shape, follow, change)
    return new


def _check_linear_axis(header: Any, axis: int) -> None:
    kind = str(header.get(f"CTYPE{axis}", ""))
    if _NONLINEAR.match(kind):
        msg = f"axis {axis} ({kind}) depends on the pixels along x and is not linear; its header cannot be corrected"
        raise DataError(msg)


def _write_pc(header: Any, cd: FloatArray, cdelt: FloatArray, old: LinearPart) -> None:
    present = set(_keys(header))
    from_cd = any(re.fullmatch(r"CD\d_\d", key) for key in present)
    for i in range(len(cd)):
        scale = cdelt[i] if i < 2 else old.cdelt[i]
        for j in range(len(cd)):
            key, value = f"PC{i + 1}_{j + 1}", float(cd[i, j] / scale)
            spatial = i < 2 and j < 2
            changed = spatial or from_cd or cd[i, j] != old.cd[i, j] or scale != old.cdelt[i]
            if changed and (spatial or key in present or value != float(i == j)):
                header[key] = value
    for key in present:
        if re.fullmatch(r"CD\d_\d", key):
            del header[key]
    if from_cd:
        for i in range(2, len(cd)):
            header[f"CDELT{i + 1}"] = float(old.cdelt[i])


def _angle(matrix: FloatArray) -> float:
    """Angle in degrees of a pixel grid: the mean of those of its two axes, for they can differ."""
    mirrored = np.sign(np.linalg.det(matrix)) or 1.0
    of_x = np.arctan2(mirrored * matrix[1, 0], mirrored * matrix[0, 0])
    of_y = np.arctan2(-matrix[0, 1], matrix[1, 1])
    return float(np.rad2deg(np.angle(np.exp(1j * of_x) + np.exp(1j * of_y))))


def _turn_crota(header: Any, old: FloatArray, new: FloatArray) -> None:
    before, turn = _angle(old), (_angle(new) - _angle(old) + 180.0) % 360.0 - 180.0
    for key in ("CROTA", "CROTA1", "CROTA2"):
        value = header.get(key)
        if not isinstance(value, (int, float)) or turn == 0.0:
            continue
        # Some headers count the angle the other way round; one that agrees with neither is not of this image.
        for sign in (1.0, -1.0):
            if abs((value - sign * before + 180.0) % 360.0 - 180.0) < 0.1:
                header[key] = float(value + sign * turn)
                break
        else:
            msg = f"{key} = {value:g} is not the angle of the image ({before:g} degrees) and is left as it is"
            warnings.warn(msg, StackalignWarning, stacklevel=5)


def _move_center(header: Any, old: LinearPart, shape: tuple[int, ...], follow: bool, change: PixelTransform) -> None:
    """Let XCEN and YCEN, arcsec, follow, where they were the coordinates of the middle of the image."""
    if header.get("XCEN") is None or header.get("YCEN") is None:
        return
    middle = (np.array(shape[:-3:-1], np.float64) - 1.0) / 2.0
    before = change(middle) if follow else middle
    to_arcsec = np.array([3600.0 if str(header.get(f"CUNIT{i}", "")).startswith("deg") else 1.0 for i in (1, 2)])

    def place(linear: LinearPart, pixel: FloatArray) -> FloatArray:
        value = np.array([_number(header, f"CRVAL{i}", 0.0) for i in (1, 2)])
        world: FloatArray = to_arcsec * (value + linear.cd[:2, :2] @ (pixel + 1.0 - linear.crpix[:2]))
        return world

    stated = np.array([_number(header, key, 0.0) for key in ("XCEN", "YCEN")])
    pixel_size = to_arcsec * np.abs(old.cdelt[:2])
    if (np.abs(stated - place(old, before)) <= pixel_size).all():
        moved = stated + place(read_linear(header), middle) - place(old, before)
        header["XCEN"], header["YCEN"] = float(moved[0]), float(moved[1])
