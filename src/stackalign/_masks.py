"""What is asked of every mask of valid pixels, in one place; True = valid."""

import os
import sys
import warnings
from typing import Any

from stackalign._carriers import plain_array, refuse_hidden
from stackalign.errors import MaskError, MaskWarning

__all__ = ["FEW_VALID", "check_mask", "file_mask", "stack_mask", "warn_if_few"]

FEW_VALID = 0.05
"""Share of valid pixels below which a mask is probably inverted."""


def check_mask(mask: Any, *shapes: tuple[int, ...], name: str = "mask", of: str = "") -> Any:
    """Return a mask that is boolean and of one of some shapes.

    Parameters
    ----------
    mask : array
        On any device.
    *shapes : tuple of int
        Shapes that fit, the usual one first.
    name : str
        Of the argument.
    of : str
        Whose shapes these are, such as "the patterns".

    Returns
    -------
    array
        The same mask.

    Raises
    ------
    MaskError
        It is not boolean, or has another shape.
    """
    refuse_hidden(mask, name)
    if mask.dtype != bool:
        msg = f"{name} must be boolean, True = valid, got {mask.dtype}; pass {name}.astype(bool)"
        raise MaskError(msg)
    shape = tuple(mask.shape)
    if shape not in shapes:
        fitting = " or ".join(str(tuple(one)) for one in shapes)
        msg = f"{name} must have the shape {fitting}{f' of {of}' if of else ''}, got {shape}"
        raise MaskError(msg)
    return mask


def stack_mask(mask: Any, shape: tuple[int, ...], *, name: str = "mask", of: str = "") -> Any:
    """Return a mask for images of a shape (N, H, W), one for all or one for each, as (1 or N, H, W).

    Parameters
    ----------
    mask : array
        (H, W), (1, H, W) or (N, H, W), on any device.
    shape : tuple of int
        Of the images.
    name : str
        Of the argument.
    of : str
        Whose shape this is.

    Returns
    -------
    array
        A view of the mask.

    Raises
    ------
    MaskError
        It is not boolean, or has another shape.
    """
    frame, whole = tuple(shape[1:]), tuple(shape)
    shapes = [frame, whole] if tuple(mask.shape) != (1, *frame) else [(1, *frame)]
    check_mask(mask, *shapes, name=name, of=of)
    return mask[None] if mask.ndim == 2 else mask


def file_mask(mask: Any, own: Any, shape: tuple[int, ...], *, of: str) -> Any:
    """Return the valid pixels of a file's images: those of a mask that was given, and of the file's own.

    Parameters
    ----------
    mask : array_like or None
        (H, W), of the caller.
    own : array or None
        (H, W), ``reader.info.mask``.
    shape : tuple of int
        (H, W) of the images.
    of : str
        Whose shape this is.

    Returns
    -------
    array or None
        None where there is neither.

    Raises
    ------
    MaskError
        The mask is not boolean, or has another shape.
    """
    if mask is None:
        return own
    valid = check_mask(plain_array(mask, None, "mask"), tuple(shape), of=of)
    return valid if own is None else valid & own


_PACKAGE = os.path.join(os.path.dirname(__file__), "")


def warn_if_few(share: float, name: str = "mask") -> None:
    """Warn about a mask that leaves next to nothing, where the package was called.

    Parameters
    ----------
    share : float
        Of the pixels that are valid.
    name : str
        Of the argument.

    Warns
    -----
    MaskWarning
        Less than `FEW_VALID` of the pixels are valid.
    """
    if share < FEW_VALID:
        text = f"{name} leaves {share:.1%} of the pixels; True means valid here: pass ~{name} if it marks bad pixels"
        frame, level = sys._getframe(), 1
        while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
            frame, level = frame.f_back, level + 1
        warnings.warn(text, MaskWarning, stacklevel=level)
