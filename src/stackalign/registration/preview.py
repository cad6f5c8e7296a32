"""What a page shows of one frame of an aligned file: the images as they are, and as they were compared."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Preview", "with_holes"]


@dataclass(frozen=True)
class Preview:
    """The frame with the largest shift; all images are NaN where a mask or the file says so.

    Parameters
    ----------
    frame : int
        Its number.
    reference, moving, aligned : numpy.ndarray
        (H, W), (Hm, Wm) and (H, W): as they are in the files and in the output.
    compared : tuple of numpy.ndarray
        Reference and moving image as the score was computed of them: without the background, where that was asked for.
    displacements : numpy.ndarray or None
        (T, 6) as `stackalign.registration.RegistrationResult` has them.
    background : float or None
        Sigma in pixels of the Gaussian mean that was taken away; None: the images were compared as they are.
    """

    frame: int
    reference: NDArray[Any]
    moving: NDArray[Any]
    aligned: NDArray[Any]
    compared: tuple[NDArray[Any], NDArray[Any]]
    displacements: NDArray[np.float64] | None = None
    background: float | None = None


def with_holes(image: NDArray[Any], mask: NDArray[np.bool_] | None) -> NDArray[Any]:
    """Copy of an image as floating-point numbers, NaN where it is not valid."""
    copy = image.astype(np.float32 if image.dtype.itemsize <= 2 or image.dtype == np.float32 else np.float64)
    if mask is not None:
        copy[~mask] = np.nan
    return copy
