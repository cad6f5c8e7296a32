"""What centring, alignment, symmetry and peaks accept, checked once, with sentences that name what to do."""

import warnings
from typing import Any, NamedTuple

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray
from scipy import ndimage

from stackalign._masks import stack_mask, warn_if_few
from stackalign._types import FloatArray
from stackalign.backends import Array
from stackalign.errors import DataError, MaskWarning
from stackalign.ops import asarray, to_numpy

__all__ = ["Images", "check_center", "checked_images", "checked_mask", "one_image"]

LEAST_BESIDE, MOSTLY, DARK = 2, 0.9, 0.05
"""Neighbours of a pixel of a gap that are of it, the share of its pixels that have them, and the level around it as a
share of the largest number, which flanks of what is saturated are above."""


class Images(NamedTuple):
    """Checked images (N, H, W) on their device, their mask (1 or N, H, W) or None, and whether there was one image."""

    values: Array
    mask: Array | None
    single: bool


def checked_images(images: Any, mask: Any, device: str, name: str = "images") -> Images:
    """Bring images and mask to a device as (N, H, W) and (1 or N, H, W)."""
    if isinstance(images, np.ma.MaskedArray):
        msg = f"{name} must be a plain array: pass {name}.data and mask=~numpy.ma.getmaskarray({name}), True = valid"
        raise TypeError(msg)
    values = asarray(images, device)
    if values.dtype.kind not in "buif":
        msg = f"{name} must hold real numbers, got {values.dtype}; take abs() or the real part of complex images first"
        raise TypeError(msg)
    if values.ndim not in (2, 3) or 0 in values.shape:
        msg = f"{name} must have the shape (H, W) or (N, H, W), got {tuple(values.shape)}"
        raise DataError(msg)
    single = values.ndim == 2
    if single:
        values = values[None]
    return Images(values, _without_gaps(values, checked_mask(mask, tuple(values.shape), device), name), single)


def _without_gaps(values: Array, mask: Array | None, name: str) -> Array | None:
    """Mask without the pixels that hold the largest number of a type of 16 bits or more, by which detectors mark gaps.

    No counter of 32 bits gets there. Of 16 bits it may be saturation, which has flanks. Floating-point numbers are not
    asked: it would cost two more waits for a GPU at every call.
    """
    if values.dtype.kind not in "ui" or values.dtype.itemsize < 2:
        return mask
    xp = array_namespace(values)
    gaps = values == np.iinfo(values.dtype).max
    if values.dtype.itemsize == 2 and not _are_gaps(values, gaps):
        return mask
    seen = gaps if mask is None else gaps & mask
    share = float(xp.count_nonzero(seen)) / seen.size
    if share == 0.0:
        return mask
    text = (
        f"{share:.2%} of the pixels of {name} hold the largest number of {values.dtype}, as detectors mark gaps, and "
        "are left out; give a mask without them"
    )
    warnings.warn(text, MaskWarning, stacklevel=4)
    if bool((gaps == gaps[:1]).all()):
        gaps = gaps[:1]
    return ~gaps if mask is None else mask & ~gaps


def _are_gaps(values: Array, gaps: Array) -> bool:
    """Tell gaps of images (N, H, W) of 16 bits from saturation and from hot pixels.

    They are the same in all images, are neighbours of each other, and stand in what is dark, with nothing between.
    """
    if not bool(gaps.any()) or not bool((gaps == gaps[:1]).all()):
        return False
    top = np.iinfo(values.dtype).max
    always = to_numpy(gaps[0])
    beside = ndimage.correlate(always.astype(np.uint8), np.ones((3, 3), np.uint8), mode="nearest") - 1
    if np.mean(beside[always] >= LEAST_BESIDE) < MOSTLY or bool(((values > top // 2) & (values < top)).any()):
        return False
    around = ndimage.binary_dilation(always, np.ones((3, 3), bool)) & ~always
    return bool(around.any()) and float(np.median(to_numpy(values[0])[around])) < DARK * top


def checked_mask(mask: Any, shape: tuple[int, ...], device: str, name: str = "mask") -> Array | None:
    """Bring a mask for images (N, H, W) to a device as (1 or N, H, W); warn where it leaves next to nothing."""
    if mask is None:
        return None
    valid = stack_mask(asarray(mask, device), shape, name=name, of="the images")
    counts = array_namespace(valid).count_nonzero(valid, axis=(1, 2))
    share = float(counts.min()) / (shape[1] * shape[2])
    if share == 0.0:
        msg = f"{name} leaves no valid pixel; True means valid here: pass ~{name} if it marks bad pixels"
        raise DataError(msg)
    warn_if_few(share, name)
    return valid


def check_center(center: Any, shape: tuple[int, ...], name: str) -> None:
    """Refuse a centre that was stated for images (H, W) and lies farther beyond them than they are wide."""
    if center is None:
        return
    away = [max(-c, c - (size - 1)) / size for c, size in zip(center, shape, strict=True)]
    if max(away) > 1:
        msg = (
            f"the centre {tuple(center)}, (row, col) in pixels, is far outside of the images of {name}, "
            f"{shape[0]} rows by {shape[1]} columns"
        )
        raise DataError(msg)


def one_image(image: Any, mask: Any) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Check one image (H, W): its pixels as float64, 0 where they are not valid, and which are."""
    checked = checked_images(image, mask, "cpu" if isinstance(image, np.ndarray) else "auto", "image")
    if not checked.single:
        msg = f"image must have the shape (H, W), got {tuple(checked.values.shape)}; loop over the images of a stack"
        raise DataError(msg)
    pixels = to_numpy(checked.values)[0].astype(np.float64)
    valid = np.isfinite(pixels)
    if checked.mask is not None:
        valid &= to_numpy(checked.mask)[0]
    if not valid.any():
        msg = "no pixel of the image is valid; NaN pixels are not, and True means valid in a mask"
        raise DataError(msg)
    return np.where(valid, pixels, 0.0), valid
