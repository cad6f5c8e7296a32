"""HDUs that hold images: one, a sequence in time, and the mask and uncertainty beside one."""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.nddata import InverseVariance, StdDevUncertainty, UnknownUncertainty, VarianceUncertainty
from astropy.utils.exceptions import AstropyWarning
from numpy.typing import NDArray
from sunpy.util import MetaDict
from sunpy.util.exceptions import SunpyUserWarning, SunpyWarning

from stackalign.errors import DataError

from .columns import axis_times, time_axis
from .flatten import flat_header

__all__ = [
    "MASK",
    "UNCERTAINTY",
    "UNREADABLE",
    "SequenceError",
    "beside",
    "flat",
    "images",
    "is_map",
    "no_image",
    "one_line",
    "quiet",
    "refuse_sequence",
    "sequence",
]

UNREADABLE = (OSError, ValueError, TypeError, KeyError, fits.VerifyError)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep back what sunpy and astropy say on reading; what matters of it is said here."""
    with warnings.catch_warnings():
        for category in (AstropyWarning, SunpyUserWarning, SunpyWarning):
            warnings.simplefilter("ignore", category)
        yield


def one_line(error: Exception) -> str:
    """What an error says, without line breaks."""
    return " ".join(str(error).split()) or type(error).__name__


def is_map(hdu: Any) -> bool:
    """Whether an HDU holds images (y, x): one, or a sequence in time."""
    header = hdu.header
    axes = int(header.get("NAXIS") or 0)
    if not hdu.is_image or axes < 2 or header.get("EXTNAME") in ("WCSDVARR", MASK, UNCERTAINTY):
        return False
    long = [i for i in range(3, axes + 1) if int(header.get(f"NAXIS{i}") or 0) != 1]
    return not long or (long == [3] and axes == 3 and time_axis(header) == 3)


def first_map(file: Path) -> int:
    """Number of the first HDU of a file that holds images."""
    with quiet(), fits.open(file, memmap=True) as hdus:
        return next((number for number, hdu in enumerate(hdus) if is_map(hdu)), 0)


def images(hdu: Any) -> list[tuple[NDArray[Any], Any]]:
    """Images of an HDU with their headers, those of a sequence each with its own date."""
    data, header = np.asarray(hdu.data), hdu.header
    if data.ndim == 2:
        return [(data, header)]
    if data.size == data.shape[-2] * data.shape[-1]:
        return [(data.reshape(data.shape[-2:]), flat(header))]
    moments = axis_times(header, data.shape[0])
    pairs = []
    for image, moment in zip(data, moments, strict=True):
        own = flat_header(header)
        for key in ("CTYPE3", "CUNIT3", "CRPIX3", "CRVAL3", "CDELT3", "PC3_1", "PC3_2"):
            own.pop(key, None)
        own["WCSAXES"] = 2
        own["DATE-AVG"] = moment.isot
        pairs.append((image, own))
    return pairs


def flat(header: Any) -> MetaDict:
    """Header of the only image of a cube; a third axis that is time and depends on x says when columns were exposed."""
    axis = time_axis(header)
    if axis is not None and header.get(f"PC{axis}_1"):
        return flat_header(header)
    made = MetaDict(dict(header))
    for key in list(made):
        if re.fullmatch(r"(CTYPE|CUNIT|CRPIX|CRVAL|CDELT|NAXIS)[3-9]|(PC|CD)(\d_[3-9]|[3-9]_\d)", str(key).upper()):
            del made[key]
    made["NAXIS"], made["WCSAXES"] = 2, 2
    return made


MASK, UNCERTAINTY = "MASK", "UNCERT"
"""Names of the HDUs beside an image, as astropy's CCDData has them."""


def beside(hdus: Any) -> dict[str, Any]:
    """Mask (True = invalid) and uncertainty that a file holds beside its image."""
    planes: dict[str, Any] = {}
    for hdu in hdus[1:]:
        if not hdu.is_image or hdu.data is None:
            continue
        if hdu.name == MASK:
            planes["mask"] = np.asarray(hdu.data) != 0
        elif hdu.name == UNCERTAINTY:
            kinds = {"std": StdDevUncertainty, "var": VarianceUncertainty, "ivar": InverseVariance}
            kind = kinds.get(str(hdu.header.get("UTYPE", "std")).strip().lower(), UnknownUncertainty)
            planes["uncertainty"] = kind(np.array(hdu.data))
    return planes


class SequenceError(DataError):
    """A file holds a sequence where one image is needed."""


def refuse_sequence(file: Path) -> None:
    """Raise `SequenceError` for a file whose first image is one of many in its HDU; what cannot be read passes."""
    header: Any = {}
    with suppress(*UNREADABLE), quiet(), fits.open(file, memmap=True, lazy_load_hdus=True) as hdus:
        header = next((hdu.header for hdu in hdus if is_map(hdu)), {})
    if int(header.get("NAXIS") or 2) == 3 and int(header["NAXIS3"]) > 1:
        raise SequenceError(sequence(file, int(header["NAXIS3"])))


def sequence(file: Path, number: int) -> str:
    """Sentence on a file with a sequence where one image is needed."""
    return (
        f"{file} holds a sequence of {number} images: give it as frames, or one of them, read by "
        f"read_map({str(file.name)!r}, index=...)"
    )


def no_image(file: Path) -> str:
    """Why a file without an image cannot be used, by what it does hold."""
    shapes = []
    with suppress(*UNREADABLE), quiet(), fits.open(file, memmap=True) as hdus:
        shapes = [hdu.shape for hdu in hdus if hdu.is_image and len(hdu.shape) > 2]
    if any(len(shape) == 4 for shape in shapes):
        return f"{file} holds no two-dimensional image; choose a window of a spectral file"
    if shapes:
        return (
            f"{file} holds a cube {shapes[0]} whose third axis is not time (CTYPE3): take one image out of it, "
            "as (array, header)"
        )
    return f"{file} holds no two-dimensional image"
