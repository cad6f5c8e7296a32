"""scikit-ued's functions for files of Merlin and DigitalMicrograph, masks and noise, by their documented behaviour."""

import os
from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stackalign import diffraction
from stackalign._carriers import plain_array
from stackalign._types import FloatArray
from stackalign.errors import DataError
from stackalign.io import open as open_images
from stackalign.io.mib import read_header
from stackalign.ops import asarray

__all__ = [
    "auto_masking",
    "dmread",
    "imibread",
    "isnr",
    "mask_image",
    "mibheader",
    "mibread",
    "snr_from_collection",
    "triml",
    "trimr",
]


def _pixels(image: Any) -> NDArray[Any]:
    return np.asarray(asarray(image, "cpu"))


def isnr(images: Iterable[ArrayLike], fill_value: float = 0.0) -> Iterator[FloatArray]:
    """Yield the mean over the standard deviation of each pixel, of the images up to each one of a stream.

    `fill_value` stands where all values of a pixel were equal. NaN is a pixel without a value and takes no part.
    """
    number: Any = 0
    mean: Any = 0.0
    squares: Any = 0.0
    for image in images:
        pixels = _pixels(image).astype(np.float64)
        known = np.isfinite(pixels)
        number = number + known
        step = np.where(known, pixels - mean, 0.0)
        mean = mean + step / np.maximum(number, 1)
        squares = squares + step * np.where(known, pixels - mean, 0.0)
        deviation = np.sqrt(squares / np.maximum(number, 1))
        yield np.divide(mean, deviation, out=np.full(pixels.shape, float(fill_value)), where=deviation > 0)


def snr_from_collection(images: Iterable[ArrayLike], fill_value: float = 0.0) -> FloatArray:
    """Mean over standard deviation of each pixel of a stream of images; memory does not grow with their number."""
    last = None
    for last in isnr(images, fill_value):  # noqa: B007 -- the last one is the result
        pass
    if last is None:
        msg = "the signal-to-noise ratio needs at least one image"
        raise DataError(msg)
    return last


def mask_image(image: ArrayLike, mask: ArrayLike, fill_value: float = 0, copy: bool = True) -> NDArray[Any]:
    """Image with another value at its invalid pixels; the mask is True = valid. The type stays that of the image."""
    pixels = _pixels(image)
    valid = plain_array(mask, bool, "mask")
    if valid.shape != pixels.shape:
        msg = f"mask has the shape {valid.shape}, the image {pixels.shape}"
        raise DataError(msg)
    if copy:
        pixels = pixels.copy()
    pixels[~valid] = np.asarray(fill_value).astype(pixels.dtype)
    return pixels


def triml(array: ArrayLike, percentile: float, axis: int | None = None, fill_value: float = 0) -> NDArray[Any]:
    """Array with another value at the elements below a percentile, of all or along an axis."""
    return _trimmed(array, percentile, axis, fill_value, np.less)


def trimr(array: ArrayLike, percentile: float, axis: int | None = None, fill_value: float = 0) -> NDArray[Any]:
    """Array with another value at the elements above a percentile, of all or along an axis."""
    return _trimmed(array, percentile, axis, fill_value, np.greater)


def _trimmed(
    array: ArrayLike, percentile: float, axis: int | None, fill_value: float, beyond: "np.ufunc"
) -> NDArray[Any]:
    trimmed = _pixels(array).copy()
    limit: Any = np.nanpercentile(trimmed, percentile, axis=axis, keepdims=True)
    trimmed[beyond(trimmed, limit)] = fill_value
    return trimmed


def auto_masking(im: ArrayLike, threshold: float = 0.1) -> NDArray[np.bool_]:
    """Mask, True = valid, of the pixels above `threshold` times the median of the image (negative values as 0)."""
    pixels = _pixels(im)
    mask: NDArray[np.bool_] = pixels > threshold * np.nanmedian(np.maximum(pixels, 0))
    return mask


def imibread(filepath: str | os.PathLike[str]) -> Iterator[NDArray[Any]]:
    """Yield the images of a Merlin file (.mib), (H, W) in the file's byte order; one is in memory at a time."""
    stored = mibheader(filepath)["dtype"]
    with closing(open_images(filepath)) as reader:
        for k in range(reader.info.shape[0]):
            image = np.empty((1, *reader.info.shape[1:]), reader.info.dtype)
            reader.read(k, k + 1, image)
            yield image[0].astype(stored, copy=False)


def mibread(filepath: str | os.PathLike[str]) -> NDArray[Any]:
    """Images of a Merlin file (.mib); several are on the last axis."""
    images = [image.astype(image.dtype.newbyteorder("="), copy=False) for image in imibread(filepath)]
    return images[0] if len(images) == 1 else np.stack(images, axis=-1)


def mibheader(filepath: str | os.PathLike[str], hoffset: int = 0) -> dict[str, Any]:
    """Header of the frame of a Merlin file that begins at a byte.

    Returns
    -------
    dict
        ``ID``, ``seq_num``, ``offset`` (bytes of the header), ``nchips``, ``shape`` (width, height), ``dtype`` (as
        stored) and ``timestamp`` (seconds since 1970; the file's time is taken for local time).
    """
    path = Path(filepath)
    if path.suffix.lower() != ".mib":
        msg = f"{filepath} is no .mib file; diffread reads other formats"
        raise DataError(msg)
    header, text = read_header(path, hoffset)
    fields = text.split(",")
    stamps = (field.strip() for field in fields[8:])
    moment = next((known for known in map(_moment, stamps) if known is not None), float("nan"))
    return {
        "ID": fields[0],
        "seq_num": int(fields[1]),
        "offset": header.size,
        "nchips": header.chips,
        "shape": (header.width, header.height),
        "dtype": header.dtype,
        "timestamp": moment,
    }


def _moment(text: str) -> float | None:
    """Seconds since 1970 of a date and time, None for other text. Digits beyond microseconds are cut."""
    if text[4:5] != "-":
        return None
    whole, _, fraction = text.partition(".")
    try:
        return datetime.fromisoformat(f"{whole}.{fraction[:6]:0<6}").timestamp()
    except ValueError:
        return None


def dmread(filepath: str | os.PathLike[str]) -> NDArray[Any]:
    """Image of a DigitalMicrograph file (.dm3, .dm4); several are on the last axis."""
    if Path(filepath).suffix.lower() not in (".dm3", ".dm4"):
        msg = f"{filepath} is no .dm3 or .dm4 file; diffread reads other formats"
        raise DataError(msg)
    images = diffraction.diffread(filepath).images
    return np.moveaxis(images, 0, -1) if images.ndim == 3 else images
