"""The shadow of a beam stop as a mask."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign import ops
from stackalign._beam_stop import beam_stops
from stackalign._masks import check_mask
from stackalign.errors import DataError

__all__ = ["find_beam_stop"]


def find_beam_stop(image: Any, *, mask: Any = None, margin: int = 2) -> NDArray[np.bool_]:
    """Find the shadow of a beam stop: a bar, a needle, or a disc on a stem, from the frame's edge inward.

    Parameters
    ----------
    image : array_like
        (H, W), best the mean over a stream of patterns: the shadow stays where it is, and noise averages out.
    mask : array_like, optional
        (H, W) boolean, True = valid: what is known already. Pixels that are not finite are invalid as well.
    margin : int
        Pixels around the shadow that are masked with it, for its penumbra.

    Returns
    -------
    numpy.ndarray
        (H, W) boolean, True = valid: False in the shadow alone; all True where no beam stop is seen.

    Raises
    ------
    DataError
        The image does not have two axes.
    TypeError
        The image is complex, or carries a mask of its own.
    MaskError
        The mask is not boolean, or does not have the shape of the image.
    ValueError
        `margin` is negative.

    Notes
    -----
    The level beside a shadow bridges it by a grey-level closing (Serra, 1982). Regions far below that level are looked
    at: one that comes from one place of the frame's edge, follows two straight lines, ends within the frame, perhaps in
    a disc, and has steep flanks beyond the noise, with at most a third of the brightness beside it, is a beam stop.
    Zero is taken for dark: subtract a pedestal first. Not found are shadows narrower than about three pixels, wider
    than a quarter of the frame, along the frame's edge, or across the whole frame; frames smaller than 32 pixels have
    none.

    Examples
    --------
    >>> from stackalign import diffraction
    >>> made = diffraction.create_test_pattern("powder", 256)
    >>> valid = diffraction.find_beam_stop(made.image)
    >>> bool(valid[~made.mask].any()), round(float((~valid).mean() / (~made.mask).mean()), 1)
    (False, 1.3)
    """
    pixels = ops.to_numpy(ops.asarray(image, "cpu"))
    if pixels.ndim != 2:
        msg = f"image must have the shape (H, W), got {pixels.shape}; take the mean of a stack first"
        raise DataError(msg)
    if pixels.dtype.kind not in "buif":
        msg = f"image must hold real numbers, got {pixels.dtype}; take abs() or the real part first"
        raise TypeError(msg)
    if margin < 0:
        msg = f"margin must be 0 or more, got {margin}"
        raise ValueError(msg)
    known = None
    if mask is not None:
        known = ops.to_numpy(check_mask(ops.asarray(mask, "cpu"), pixels.shape, of="the image"))
    return ~beam_stops(pixels, known, margin=int(margin))
