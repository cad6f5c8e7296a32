"""Masks of valid pixels for a crop: that of the caller, that of the file, and faults of the detector."""

import numpy as np
from numpy.typing import NDArray

from stackalign import ops
from stackalign._masks import check_mask
from stackalign.errors import DataError
from stackalign.io import StackReader

from .detector import mask_of_stack

__all__ = ["automatic_mask_note", "combine_masks"]


def combine_masks(reader: StackReader, mask: NDArray[np.bool_] | str | None) -> NDArray[np.bool_] | None:
    """Combine the mask that was given with the one that the file carries; True = valid in both.

    "auto" leaves out the detector's faults and the shadow of a beam stop, which are looked for in patterns that are
    spread over the stack.
    """
    own = reader.info.mask
    frame = reader.info.shape[1:]
    if mask is None:
        return own
    if isinstance(mask, str):
        if mask != "auto":
            msg = f'mask must be a boolean frame or "auto", got {mask!r}'
            raise DataError(msg)
        return mask_of_stack(reader, own)
    valid: NDArray[np.bool_] = check_mask(ops.asarray(mask, "cpu"), frame, of="a pattern")
    return valid if own is None else valid & own


def automatic_mask_note(
    reader: StackReader, mask: NDArray[np.bool_] | str | None, valid: NDArray[np.bool_] | None
) -> tuple[str, ...]:
    """Say how many pixels an automatic mask leaves out."""
    if not isinstance(mask, str) or valid is None:
        return ()
    own = reader.info.mask
    count = int((~valid).sum()) - (0 if own is None else int((~own).sum()))
    if not count:
        return ("mask auto: no faults of the detector and no beam stop were found",)
    words = f"mask auto: {count} pixel{'s' if count > 1 else ''} left out as faults of the detector"
    return (words + " or behind a beam stop",)
