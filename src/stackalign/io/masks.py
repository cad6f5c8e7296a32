"""Masks of valid pixels in files."""

import os
import warnings
from pathlib import Path

from stackalign._masks import FEW_VALID
from stackalign._types import BoolArray
from stackalign.errors import DataError, StackalignWarning
from stackalign.io.images import read_image

__all__ = ["read_mask"]

_REMEDY = "give one frame as .npy, .tif or .h5, non-zero = valid"


def read_mask(path: str | os.PathLike[str], *, dataset: str | None = None) -> BoolArray:
    """Read a mask of valid pixels: one image, boolean or numbers of which non-zero means valid.

    Parameters
    ----------
    path : path-like
        Any file of one image that `open` reads.
    dataset : str, optional
        Which dataset, series or HDU, where a file holds several.

    Returns
    -------
    numpy.ndarray
        (H, W) boolean, True = valid.

    Raises
    ------
    DataError
        The file cannot be read, holds more than one image, or has no valid pixel.

    Warns
    -----
    StackalignWarning
        Fewer than 5 % of the pixels are valid.

    Examples
    --------
    >>> import tempfile, pathlib, numpy as np
    >>> from stackalign.io import read_mask
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "mask.npy"
    >>> np.save(file, np.array([[255, 0], [255, 255]], np.uint8))
    >>> read_mask(file)
    array([[ True, False],
           [ True,  True]])
    """
    if not Path(path).exists():
        msg = f"mask {path} does not exist; {_REMEDY}"
        raise DataError(msg)
    try:
        frame = read_image(path, dataset=dataset)
    except DataError as error:
        msg = f"mask {path} cannot be read ({error}); {_REMEDY}"
        raise DataError(msg) from error
    if frame.dtype.kind not in "buif":
        msg = f"mask {path} must be one frame (H, W) of booleans or numbers, got {frame.dtype}"
        raise DataError(msg)
    valid: BoolArray = frame != 0
    if not valid.any():
        msg = f"mask {path} has no valid pixel; True or non-zero means valid"
        raise DataError(msg)
    if valid.mean() < FEW_VALID:
        text = f"mask {path} leaves {valid.mean():.1%} of the pixels; non-zero means valid, is it inverted?"
        warnings.warn(text, StackalignWarning, stacklevel=2)
    return valid
