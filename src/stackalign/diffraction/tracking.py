"""How a spot or ring moves through a series of images."""

from collections.abc import Iterable
from itertools import islice

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from stackalign._masks import stack_mask
from stackalign.backends import Array
from stackalign.errors import DataError
from stackalign.ops import asarray, masked_shift
from stackalign.ops.transfer import unwrapped

from ._inputs import checked_images

__all__ = ["track_peak"]


def track_peak(
    images: Array | Iterable[Array],
    row_slice: slice | None = None,
    col_slice: slice | None = None,
    *,
    reference: Array | None = None,
    mask: Array | None = None,
    subpixel: bool = True,
    device: str = "auto",
    workers: int | None = None,
) -> NDArray[np.float64]:
    """Follow a spot or ring through a series of images.

    Parameters
    ----------
    images : array or iterable of array
        (N, H, W), or a stream of (H, W).
    row_slice, col_slice : slice, optional
        Window with the peak; the whole image by default.
    reference : array, optional
        (H, W) image from which movement is counted; the first one by default.
    mask : array, optional
        Boolean (H, W), True = valid.
    subpixel : bool
        To fractions of a pixel.
    device : str
        "auto", "cpu", "cuda" or "cuda:n".
    workers : int, optional
        Number of CPU threads.

    Returns
    -------
    numpy.ndarray
        (N, 2) float64: how far (row, col) the peak has moved from where it is in the reference, positive to larger
        indices.

    Raises
    ------
    DataError
        The window holds no pixel, or shapes differ.

    Examples
    --------
    >>> import numpy as np
    >>> from stackalign import diffraction
    >>> y, x = np.mgrid[:64, :64]
    >>> series = [np.exp(-((y - 30 - k) ** 2 + (x - 32 + 2 * k) ** 2) / 18) for k in range(3)]
    >>> diffraction.track_peak(series, slice(20, 44), slice(20, 44)).round(1) + 0.0
    array([[ 0.,  0.],
           [ 1., -2.],
           [ 2., -4.]])
    """
    window = (row_slice or slice(None), col_slice or slice(None))
    whole = None if mask is None else asarray(mask, device)
    fixed = None if reference is None else asarray(reference, device)[window]
    moves: list[NDArray[np.float64]] = []
    stream = (asarray(image, device) for image in unwrapped(images, "images"))
    while block := list(islice(stream, 32)):
        if any(image.ndim != 2 for image in block):
            msg = f"images must be a series (N, H, W) or a stream of (H, W), got images of shape {block[0].shape}"
            raise DataError(msg)
        part = array_namespace(block[0]).stack(block)[(slice(None), *window)]
        if 0 in part.shape:
            msg = f"rows {row_slice} and columns {col_slice} hold no pixel of images of {tuple(block[0].shape)}"
            raise DataError(msg)
        if fixed is None:
            fixed = part[0]
        valid = None if whole is None else stack_mask(whole, (1, *block[0].shape), of="the images")[(0, *window)]
        checked = checked_images(part, valid, device)
        onto = asarray(fixed, device)
        if tuple(onto.shape) != tuple(part.shape[1:]):
            msg = f"reference has the shape {tuple(onto.shape)} in the window, images have {tuple(part.shape[1:])}"
            raise DataError(msg)
        shared = None if checked.mask is None else checked.mask[0]
        result = masked_shift(
            onto, checked.values, reference_mask=shared, moving_mask=shared, subpixel=subpixel, workers=workers
        )
        moves.append(-result.shift)
    return np.concatenate(moves) + 0.0 if moves else np.empty((0, 2))
