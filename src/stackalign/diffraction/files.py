"""Diffraction images from files, whatever their format."""

import operator
import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign.errors import DataError
from stackalign.io import Calibration, open_stack
from stackalign.io.provenance import to_jsonable

__all__ = ["DiffractionImages", "diffread", "open_frames"]

open_frames = open_stack
"""The one door, `stackalign.io.open`, under the name that it had for diffraction images."""


@dataclass(frozen=True)
class DiffractionImages:
    """Images of a file and what the file says about them; `numpy.asarray` takes it for the images alone.

    Parameters
    ----------
    images : numpy.ndarray
        (H, W), or (N, H, W) of a file with several, in the type of the file and native byte order.
    path : str
        The file.
    frames : tuple of int
        (start, stop) of what was read, of all that there are: `n_frames`.
    n_frames : int
        Images in the file.
    pixel_size : tuple of float or None
        Along (row, col), in `pixel_units`; None where the file does not say it.
    pixel_units : str
        As written in the file.
    voltage_kv, exposure_s : float or None
        Of the microscope and of an image; None where the file does not say it.
    mask : numpy.ndarray or None
        (H, W) boolean, True = valid, where the file carries one.
    metadata : dict
        What else the reader found.
    """

    images: NDArray[Any]
    path: str
    frames: tuple[int, int]
    n_frames: int
    pixel_size: tuple[float, float] | None = None
    pixel_units: str = ""
    voltage_kv: float | None = None
    exposure_s: float | None = None
    mask: NDArray[np.bool_] | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return the images."""
        if copy:
            return np.array(self.images, dtype)
        return np.asarray(self.images, dtype)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the pixels, as JSON knows it."""
        plain = to_jsonable(
            {
                "shape": self.images.shape,
                "dtype": self.images.dtype.name,
                "path": self.path,
                "frames": self.frames,
                "n_frames": self.n_frames,
                "pixel_size": self.pixel_size,
                "pixel_units": self.pixel_units,
                "voltage_kv": self.voltage_kv,
                "exposure_s": self.exposure_s,
                "metadata": self.metadata,
            }
        )
        assert isinstance(plain, dict)
        return plain


def diffread(
    path: str | os.PathLike[str], *, frames: int | slice | tuple[int, int] | None = None, dataset: str | None = None
) -> DiffractionImages:
    """Read diffraction images from a file.

    Parameters
    ----------
    path : path-like
        .dm3, .dm4 (with the extra ``vendor``), .mib, TIFF, .npy, HDF5, Zarr, FITS, all else that
        `stackalign.io.open_stack` knows, and pictures (PNG and so on, with the extra ``image``; colours become grey).
        The file is opened for reading only.
    frames : int, slice or tuple of int, optional
        Which images of a file with several: one by its number, negative ones from the end, a range as a slice of step 1
        or as (start, stop). Only these are read. By default all.
    dataset : str, optional
        Which dataset of an HDF5 or Zarr file, which series of a TIFF, which HDU of a FITS file.

    Returns
    -------
    DiffractionImages
        Its `images` are (H, W) for a file of one image or a frame by number, else (N, H, W), the scan in C order.

    Raises
    ------
    DataError
        The file is missing, truncated, damaged, or holds no images; frames lie outside.
    MissingDependencyError
        The format needs a package that is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> from stackalign import diffraction
    >>> np.save("images.npy", np.zeros((3, 16, 16), np.uint16))
    >>> diffraction.diffread("images.npy").images.shape
    (3, 16, 16)
    """
    reader = open_stack(path, dataset=dataset)
    try:
        info = reader.info
        n = info.shape[0]
        start, stop, one = _range(frames, n, str(path))
        images = np.empty((stop - start, *info.shape[1:]), info.dtype)
        reader.read(start, stop, images)
    finally:
        reader.close()
    scale = info.calibration
    extra = {key: value for key, value in info.metadata.items() if key not in ("single", "voltage_kv", "exposure_s")}
    return DiffractionImages(
        images=images[0] if one else images,
        path=str(path),
        frames=(start, stop),
        n_frames=n,
        pixel_size=None if not _is_known(scale) or scale is None else scale.pixel_size,
        pixel_units="" if not _is_known(scale) or scale is None else scale.units,
        voltage_kv=info.metadata.get("voltage_kv"),
        exposure_s=info.metadata.get("exposure_s"),
        mask=info.mask,
        metadata=extra | ({"scan_shape": info.scan_shape} if len(info.scan_shape) > 1 else {}),
    )


def _is_known(scale: Calibration | None) -> bool:
    """Tell whether a scale says something: 1 px a pixel does not, nor a number without a unit."""
    return scale is not None and scale.units not in ("px", "")


def _range(frames: int | slice | tuple[int, int] | None, n: int, name: str) -> tuple[int, int, bool]:
    """First frame, end, and whether the axis of frames is dropped."""
    if frames is None:
        return 0, n, n == 1
    if isinstance(frames, slice):
        if frames.step not in (None, 1):
            msg = f"frames must be a range of step 1, got {frames}; read the range and take every {frames.step}th"
            raise DataError(msg)
        start, stop, _ = frames.indices(n)
        one = False
    elif isinstance(frames, tuple):
        start, stop = (operator.index(k) for k in frames)
        one = False
    else:
        k = operator.index(frames)
        start = k + n if k < 0 else k
        stop, one = start + 1, True
    if not 0 <= start < stop <= n:
        msg = f"frames {frames} are not within the {n} images of {name}"
        raise DataError(msg)
    return start, stop, one
