"""Corrected files: new headers around the same bytes."""

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from sunpy.map import GenericMap

from stackalign.errors import DataError, OutputExistsError, StackalignWarning
from stackalign.io._gate import refuse_special
from stackalign.io.atomic import atomic_path
from stackalign.runs import find_leftovers, remove_leftovers

from .cards import correct_hdu, facts_of, facts_on
from .detectors import DetectorFit, detector_of
from .image_hdus import MASK, UNCERTAINTY, UNREADABLE, one_line, quiet
from .pixels import PixelTransform
from .same_observation import aligned_hdu, corrections_of, grid_of, has_coordinates, hdu_name

__all__ = ["WrittenFile", "check_first", "uncorrected_hdus", "write_corrected", "write_map"]


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
    detectors: Mapping[str, DetectorFit | str] | None = None,
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
    detectors : mapping of str to DetectorFit, optional
        By the names of other detectors, the correction of their windows, or a sentence why they are left as they are.
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

    Examples
    --------
    >>> import numpy as np
    >>> from stackalign import solar
    >>> seen = solar.create_test_observation((60, 24), n_frames=2)
    >>> path = solar.write_map(seen.raster, "raster.fits")
    >>> shift = solar.PixelTransform(np.eye(2), np.array([2.0, -1.0]))
    >>> solar.write_corrected(path, "corrected.fits", shift).corrected
    ('PRIMARY',)
    >>> solar.read_map("corrected.fits").meta["xc_dx"]
    2.0
    """
    old, new = Path(source), Path(output)
    _check_output(new, overwrite)
    if new.exists() and old.exists() and new.samefile(old):
        msg = f"the corrected file must be another one than {old}"
        raise DataError(msg)
    with quiet(), _opened(old) as hdus:
        images = [one for one in hdus if has_coordinates(one)]
        aligned = aligned_hdu(images, hdus, hdu, old)
        apart = detectors or {}
        corrections, left = corrections_of(images, aligned, correction, hdus, apart)
        fitted = [correction, *(fit.correction for fit in apart.values() if isinstance(fit, DetectorFit))]
        for one, own in corrections:
            check_first(one.header, str(old), again)
            fit = apart.get(detector_of(one.header))
            base, facts = (hdus[fit.hdu], fit.facts) if isinstance(fit, DetectorFit) else (aligned, provenance or {})
            correct_hdu(one, own, facts_on(own, grid_of(one), grid_of(base), facts), old.name, new.name)
        with _writing(new) as partial:
            hdus.writeto(partial, output_verify="fix+ignore")
    others = tuple(hdu_name(one, hdus) for one, own in corrections if not any(own is c for c in fitted))
    if left:
        warnings.warn(f"{new.name}: left uncorrected: {'; '.join(left)}", StackalignWarning, stacklevel=2)
    return WrittenFile(new, tuple(hdu_name(one, hdus) for one, _ in corrections), left, others)


def uncorrected_hdus(
    source: str | os.PathLike[str],
    correction: PixelTransform,
    hdu: int | str | None = None,
    detectors: Mapping[str, DetectorFit | str] | None = None,
) -> tuple[str, ...]:
    """Name the images of a file that `write_corrected` would leave as they are, each with the reason."""
    with quiet(), _opened(Path(source)) as hdus:
        images = [one for one in hdus if has_coordinates(one)]
        aligned = aligned_hdu(images, hdus, hdu, Path(source))
        return corrections_of(images, aligned, correction, hdus, detectors or {})[1]


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

    Returns
    -------
    Path
        The file.

    Examples
    --------
    >>> from stackalign import solar
    >>> seen = solar.create_test_observation((60, 24), n_frames=2)
    >>> solar.write_map(seen.raster, "raster.fits").name
    'raster.fits'
    """
    new = Path(output)
    _check_output(new, overwrite)
    with quiet():
        made = fits.PrimaryHDU(solar_map.data, solar_map.fits_header)
        if correction is not None:
            name = str(made.header.get("FILENAME") or "a map")
            check_first(made.header, name, again)
            facts = facts_of(correction, grid_of(made), provenance or {})
            correct_hdu(made, correction, facts, name, new.name)
        for key, value in cards.items():
            made.header[key.upper()] = value
        made.add_checksum()
        with _writing(new) as partial:
            fits.HDUList([made, *_beside(solar_map)]).writeto(partial, output_verify="fix+ignore")
    return new


def _beside(solar_map: GenericMap) -> list[fits.ImageHDU]:
    """HDUs of a map's mask and uncertainty, as astropy's CCDData writes them."""
    planes = []
    if solar_map.mask is not None and np.shape(solar_map.mask) == solar_map.data.shape:
        planes.append(fits.ImageHDU(np.asarray(solar_map.mask, np.uint8), name=MASK))
    uncertainty = solar_map.uncertainty
    if uncertainty is not None and np.shape(uncertainty.array) == solar_map.data.shape:
        planes.append(fits.ImageHDU(np.asarray(uncertainty.array), name=UNCERTAINTY))
        planes[-1].header["UTYPE"] = (uncertainty.uncertainty_type, "kind of the uncertainty")
    for one in planes:
        one.add_checksum()
    return planes


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
