"""Corrected files: new headers around the same bytes."""

import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from sunpy.map import GenericMap

from stackalign._types import FloatArray
from stackalign.errors import DataError, OutputExistsError, StackalignWarning
from stackalign.io._gate import refuse_special
from stackalign.io.atomic import atomic_path
from stackalign.io.provenance import provenance as package_provenance
from stackalign.runs import find_leftovers, remove_leftovers

from .correct import transfer_correction
from .dates import parse_moment
from .frames import pixel_to_sky, sky_to_pixel
from .pixels import PixelTransform
from .reading import MASK, UNCERTAINTY, UNREADABLE, one_line, quiet
from .versions import solar_versions
from .wcs import corrected_header, read_linear

__all__ = ["WrittenFile", "check_first", "uncorrected_hdus", "write_corrected", "write_map"]


SAME_OBSERVATION = 60.0
"""Seconds by which the dates of images of one observation may differ."""

_CARDS = {
    "XC_DX": ("shift_x", "[pix] correction, shift along x"),
    "XC_DY": ("shift_y", "[pix] correction, shift along y"),
    "XC_A11": ("a11", "correction matrix, x from x"),
    "XC_A12": ("a12", "correction matrix, x from y"),
    "XC_A21": ("a21", "correction matrix, y from x"),
    "XC_A22": ("a22", "correction matrix, y from y"),
    "XC_SX": ("sx", "correction, scale along x"),
    "XC_SY": ("sy", "correction, scale along y"),
    "XC_ROT": ("angle", "[deg] correction, rotation from +x to +y"),
    "XC_SIGX": ("sigma_x", "[pix] standard error of the shift along x"),
    "XC_SIGY": ("sigma_y", "[pix] standard error of the shift along y"),
    "XC_CORR": ("score", "correlation with the reference"),
    "XC_REF": ("reference", "reference image"),
}
"""Cards that a correction leaves, what they are called in `provenance`, and their comments."""


@dataclass(frozen=True)
class WrittenFile:
    """What was written.

    Parameters
    ----------
    path : Path
    corrected : tuple of str
        Names of the HDUs that were corrected: those of the aligned image's grid, and those of other grids.
    left : tuple of str
        Names of the images with solar coordinates that were left as they were, each with the reason.
    transferred : tuple of str
        Of those that were corrected, the ones on other grids, to which the correction went through the sky.
    """

    path: Path
    corrected: tuple[str, ...]
    left: tuple[str, ...]
    transferred: tuple[str, ...] = ()


def write_corrected(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    correction: PixelTransform,
    *,
    hdu: int | str | None = None,
    provenance: Mapping[str, Any] | None = None,
    again: bool = False,
    overwrite: bool = False,
) -> WrittenFile:
    """Write a copy of a FITS file with a correction in the headers of all images that share the pixels' grid.

    Parameters
    ----------
    source, output : path-like
        Two files. Data are copied byte by byte, compressed images as they are; tables and all other HDUs too.
    correction : PixelTransform
        On the pixels of the image that was aligned.
    hdu : int or str, optional
        That image, by number or name; the first with solar coordinates by default. Every image of the same
        observation is corrected with it, so that the windows of a raster stay where they are relative to each other:
        through the sky where it has other pixels. Images of another instrument or time are left as they are.
    provenance : mapping, optional
        For the cards: score, sigma_x, sigma_y, reference; other keys go to the HISTORY.
    again : bool
        Correct a file that carries a correction already; the second is recorded as such. It is refused by default.
    overwrite : bool
        Replace an existing output.

    Returns
    -------
    WrittenFile

    Raises
    ------
    DataError
        The source cannot be read, is the output, has no image with solar coordinates or a correction already, or the
        output cannot be written.
    OutputExistsError
    """
    old, new = Path(source), Path(output)
    _check_output(new, overwrite)
    if new.exists() and old.exists() and new.samefile(old):
        msg = f"the corrected file must be another one than {old}"
        raise DataError(msg)
    with quiet(), _opened(old) as hdus:
        images = [one for one in hdus if _has_coordinates(one)]
        aligned = _aligned(images, hdus, hdu, old)
        corrections, left = _for_each(images, aligned, correction, hdus)
        grid = _grid(aligned)
        for one, own in corrections:
            check_first(one.header, str(old), again)
            _correct(one, own, _facts_on(own, _grid(one), grid, provenance or {}), old.name, new.name)
        with _writing(new) as partial:
            hdus.writeto(partial, output_verify="fix+ignore")
    others = tuple(_name(one, hdus) for one, own in corrections if own is not correction)
    if left:
        warnings.warn(f"{new.name}: left uncorrected: {'; '.join(left)}", StackalignWarning, stacklevel=2)
    return WrittenFile(new, tuple(_name(one, hdus) for one, _ in corrections), left, others)


def uncorrected_hdus(
    source: str | os.PathLike[str], correction: PixelTransform, hdu: int | str | None = None
) -> tuple[str, ...]:
    """Name the images of a file that `write_corrected` would leave as they are, each with the reason."""
    with quiet(), _opened(Path(source)) as hdus:
        images = [one for one in hdus if _has_coordinates(one)]
        return _for_each(images, _aligned(images, hdus, hdu, Path(source)), correction, hdus)[1]


@contextmanager
def _opened(path: Path) -> Iterator[fits.HDUList]:
    """The HDUs of a file that is complete.

    Compressed images come as the tables that they are, and integers unscaled: no byte of the data is touched.
    """
    refuse_special(path)
    try:
        hdus = fits.open(path, memmap=True, disable_image_compression=True, do_not_scale_image_data=True)
    except UNREADABLE as error:
        msg = f"{path} cannot be read as FITS: {one_line(error)}"
        raise DataError(msg) from error
    with hdus:
        try:
            info = [one.fileinfo() for one in hdus]
        except UNREADABLE as error:
            msg = f"{path} cannot be read as FITS: {one_line(error)}"
            raise DataError(msg) from error
        end, size = max(one["datLoc"] + one["datSpan"] for one in info), path.stat().st_size
        if end > size and not _is_packed(path):
            msg = f"{path} is truncated: {size} bytes of {end}"
            raise DataError(msg)
        yield hdus


def _is_packed(path: Path) -> bool:
    """Whether the file as a whole is compressed; its first bytes say it, whatever it is called."""
    with path.open("rb") as stream:
        return stream.read(6) != b"SIMPLE"


def _ascii(text: str) -> str:
    """Text as a card takes it."""
    return text.encode("ascii", "replace").decode()


def write_map(
    solar_map: GenericMap,
    output: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    correction: PixelTransform | None = None,
    provenance: Mapping[str, Any] | None = None,
    again: bool = False,
    **cards: Any,
) -> Path:
    """Write a map with all its cards, in its own data type, with checksums, complete or not at all.

    Parameters
    ----------
    solar_map : GenericMap
    output : path-like
    overwrite : bool
        Replace an existing file.
    correction : PixelTransform, optional
        To be applied to the header, and recorded in it as in `write_corrected`.
    provenance, again
        See `write_corrected`.
    **cards
        More cards.
    """
    new = Path(output)
    _check_output(new, overwrite)
    with quiet():
        made = fits.PrimaryHDU(solar_map.data, solar_map.fits_header)
        if correction is not None:
            name = str(made.header.get("FILENAME") or "a map")
            check_first(made.header, name, again)
            facts = _facts(correction, _grid(made), provenance or {})
            _correct(made, correction, facts, name, new.name)
        for key, value in cards.items():
            made.header[key.upper()] = value
        made.add_checksum()
        with _writing(new) as partial:
            fits.HDUList([made, *_beside(solar_map)]).writeto(partial, output_verify="fix+ignore")
    return new


def _beside(solar_map: GenericMap) -> list[fits.ImageHDU]:
    """HDUs of a map's mask and uncertainty, as astropy's CCDData writes them."""
    found = []
    if solar_map.mask is not None and np.shape(solar_map.mask) == solar_map.data.shape:
        found.append(fits.ImageHDU(np.asarray(solar_map.mask, np.uint8), name=MASK))
    uncertainty = solar_map.uncertainty
    if uncertainty is not None and np.shape(uncertainty.array) == solar_map.data.shape:
        found.append(fits.ImageHDU(np.asarray(uncertainty.array), name=UNCERTAINTY))
        found[-1].header["UTYPE"] = (uncertainty.uncertainty_type, "kind of the uncertainty")
    for one in found:
        one.add_checksum()
    return found


def check_first(header: Mapping[str, Any], name: str, again: bool) -> None:
    """Refuse a second correction of a file with these cards that was not asked for."""
    if header.get("XC_VERS") and not again:
        msg = f"{name} carries a correction already ({header.get('XC_DATE')}); allow it with again=True (--again)"
        raise DataError(msg)


def _check_output(output: Path, overwrite: bool) -> None:
    if output.exists() and not overwrite:
        msg = f"output {output} exists; choose another name or allow it to be replaced"
        raise OutputExistsError(msg).with_hint("overwrite")
    if not output.parent.is_dir() or not os.access(output.parent, os.W_OK):
        msg = f"{output} cannot be written: its folder is not there or is read-only"
        raise DataError(msg)


@contextmanager
def _writing(final: Path) -> Iterator[Path]:
    """`atomic_path`, whose failures to write are said in one sentence."""
    try:
        if left := find_leftovers(final.parent).get(final.name):
            remove_leftovers(final, left)
        with atomic_path(final) as partial:
            yield partial
    except OSError as error:
        msg = f"{final} cannot be written: {one_line(error)}"
        raise DataError(msg) from error


def _header_of(one: Any) -> fits.Header:
    header: fits.Header = one.header
    return header


def _axes(header: fits.Header) -> int:
    return int(header.get("ZNAXIS", header.get("NAXIS", 0)))


def _has_coordinates(one: Any) -> bool:
    header = _header_of(one)
    is_image = one.is_image or header.get("ZIMAGE", False)
    types = [str(header.get(f"CTYPE{i}", "")).upper() for i in (1, 2)]
    return bool(is_image and _axes(header) >= 2 and all(t.startswith(("HP", "HG", "CR", "SOLAR")) for t in types))


def _name(one: Any, hdus: fits.HDUList) -> str:
    return str(one.name or f"HDU {hdus.index(one)}")


def _aligned(images: list[Any], hdus: fits.HDUList, chosen: int | str | None, path: Path) -> Any:
    if chosen is None and images:
        return images[0]
    try:
        found = hdus[chosen] if chosen is not None else None
    except (IndexError, KeyError):
        found = None
    if found is None or found not in images:
        msg = f"{path} has no image with solar coordinates" + (f" in HDU {chosen!r}" if chosen is not None else "")
        raise DataError(msg)
    return found


def _grid(one: Any) -> tuple[tuple[int, ...], FloatArray]:
    """Size and coordinates of the first two axes."""
    header = _header_of(one)
    prefix = "ZNAXIS" if "ZNAXIS" in header else "NAXIS"
    linear = read_linear(header)
    size = tuple(int(header[f"{prefix}{i}"]) for i in (1, 2))
    value = [float(header.get(f"CRVAL{i}", 0.0)) for i in (1, 2)]
    return size, np.r_[linear.crpix[:2], linear.cd[:2, :2].ravel(), value]


def _same(first: tuple[tuple[int, ...], FloatArray], second: tuple[tuple[int, ...], FloatArray]) -> bool:
    # Numbers in a header have some 15 digits; pipelines write them with fewer.
    return first[0] == second[0] and bool(np.allclose(first[1], second[1], rtol=1e-9, atol=1e-9))


def _for_each(
    images: list[Any], aligned: Any, correction: PixelTransform, hdus: fits.HDUList
) -> tuple[list[tuple[Any, PixelTransform]], tuple[str, ...]]:
    """Images with the correction on their own pixels, and which are left as they are and why."""
    grid = _grid(aligned)
    corrections, left = [], []
    for one in images:
        if _same(_grid(one), grid):
            corrections.append((one, correction))
            continue
        why = _another(_header_of(one), _header_of(aligned))
        if not why:
            try:
                corrections.append((one, _transferred(correction, one, aligned)))
                continue
            except DataError as error:
                why = str(error)
        left.append(f"{_name(one, hdus)} ({why})")
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
    own, other = _celestial(_header_of(one)), _celestial(_header_of(aligned))
    (nx, ny), _ = _grid(one)

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


def _facts_on(
    correction: PixelTransform,
    own: tuple[tuple[int, ...], FloatArray],
    aligned: tuple[tuple[int, ...], FloatArray],
    provenance: Mapping[str, Any],
) -> dict[str, Any]:
    """The cards for an image, whose error bars are in its own pixels."""
    facts = _facts(correction, own, provenance)
    lengths = [np.hypot(*grid[1][2:6].reshape(2, 2)) for grid in (aligned, own)]
    for i, key in enumerate(("sigma_x", "sigma_y")):
        if isinstance(facts.get(key), float):
            facts[key] = facts[key] * float(lengths[0][i] / lengths[1][i])
    return facts


def _facts(
    correction: PixelTransform, grid: tuple[tuple[int, ...], FloatArray], provenance: Mapping[str, Any]
) -> dict[str, Any]:
    (nx, ny), _ = grid
    shift = correction.shift_at([(nx - 1) / 2, (ny - 1) / 2])
    (a11, a12), (a21, a22) = correction.matrix
    own = {"shift_x": shift[0], "shift_y": shift[1], "a11": a11, "a12": a12, "a21": a21, "a22": a22}
    own |= {"sx": np.hypot(a11, a21), "sy": np.hypot(a12, a22), "angle": np.rad2deg(np.arctan2(a21, a11))}
    return {key: float(value) for key, value in own.items()} | dict(provenance)


def _correct(one: Any, correction: PixelTransform, facts: Mapping[str, Any], old: str, new: str) -> None:
    header = _header_of(one)
    prefix = "ZNAXIS" if "ZNAXIS" in header else "NAXIS"
    before = {key: header[key] for key in header if key[:5] in ("CRPIX", "CRVAL", "CDELT") or key[:2] in ("PC", "CD")}
    before = {key: value for key, value in before.items() if key[-1].isdigit() and isinstance(value, (int, float))}
    fixed = corrected_header(header, correction, shape=(int(header[f"{prefix}2"]), int(header[f"{prefix}1"])))
    for key in [key for key in before if key not in fixed]:
        del header[key]
    for key in fixed:
        if key in ("COMMENT", "HISTORY", "", "CONTINUE"):
            continue
        if key not in header or header[key] != fixed[key]:
            header[key] = fixed[key]
    versions = package_provenance({}, [])["versions"]
    number = int(header.get("XC_N") or 0) + 1
    now = datetime.now(UTC).isoformat(timespec="seconds").removesuffix("+00:00")
    for card, (key, comment) in _CARDS.items():
        if facts.get(key) is not None:
            header[card] = (_ascii(facts[key]) if isinstance(facts[key], str) else float(facts[key]), comment)
    header["XC_N"] = (number, "corrections applied, the last one above")
    header["XC_VERS"] = (f"stackalign {versions['stackalign']}", "software of the correction")
    header["XC_DATE"] = (now, "[UTC] date of the correction")
    parent = _ascii(str(header.get("FILENAME") or old))
    header["PARENT"] = (parent, "file that was corrected")
    if "FILENAME" in header:
        header["FILENAME"] = _ascii(new)
    header.add_history(
        f"stackalign {versions['stackalign']}: correction {number} of the coordinates, {now} UTC, of {parent}"
    )
    header.add_history(
        "p = A (q - c) + c + d for the pixel q about the middle c of the image: XC_A11..A22, XC_DX, XC_DY"
    )
    header.add_history("coordinates by " + ", ".join(f"{name} {number}" for name, number in solar_versions().items()))
    header.add_history("before: " + ", ".join(f"{key} = {value!r}" for key, value in before.items()))
    for key in sorted(set(facts) - {key for key, _ in _CARDS.values()}):
        header.add_history(_ascii(f"{key} = {facts[key]}"))
    header.remove("ZHECKSUM", ignore_missing=True)  # of the uncompressed HDU, whose header is no longer that
    one.add_checksum()
