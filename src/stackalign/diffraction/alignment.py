"""Alignment of diffraction images that share a fixed feature, as a beam block: masked correlation."""

import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from stackalign import __version__
from stackalign._results import Tabular
from stackalign._types import FloatArray
from stackalign.backends import Array
from stackalign.backends._threads import governed
from stackalign.errors import DataError
from stackalign.io.provenance import to_jsonable
from stackalign.ops import ShiftResult, asarray, device_of, masked_shift, resample_affine, to_numpy
from stackalign.ops.transfer import unwrapped
from stackalign.registration.background import background_sigma, band_pass

from ._align_trust import ALIKE, Judged, judged, without_hot_pixels
from ._inputs import Images, checked_images, checked_mask

__all__ = ["FLAGS", "Alignment", "align", "ialign"]

FLAGS: Mapping[str, str] = {
    "constant": "an image does not vary, or nothing correlates: it is left where it is",
    "insignificant": "unrelated images score as high by chance",
    "inconsistent": "part of what the images show has moved differently or stands still",
    "ambiguous": "another shift scores nearly as well",
    "small_overlap": "less than a tenth of the reference is compared",
    "on_bound": "the shift lies on the bound given by max_shift, the true one may lie beyond",
}
"""Why a shift should not be trusted; one without flags can be."""

AMBIGUOUS = 0.98
LEAST_OVERLAP = 0.1


@dataclass(frozen=True)
class Alignment(Tabular):
    """Images brought onto a reference; arrays have one row per image, or no such axis for a single image.

    Parameters
    ----------
    image : array
        (N, H, W) or (H, W), float64 for float64 images and float32 for all others, interpolated once; the fill value
        where there is nothing to take. At home where the images were.
    shift : numpy.ndarray
        (N, 2): (row, col) by which the content of the image was moved, to larger indices where positive.
    score : numpy.ndarray
        (N,): masked normalised cross-correlation of the best whole-pixel shift.
    second_score : numpy.ndarray
        (N,): highest score outside the main peak.
    overlap : numpy.ndarray
        (N,): share of the reference's pixels that are valid in both images at that shift.
    flags : tuple of tuple of str
        For each image (also for a single one) the keys of `FLAGS` that apply.
    settings : Mapping
        What was asked for.
    device : str
        Where it was computed.
    significance : numpy.ndarray
        (N,): score in standard deviations of that of unrelated images with the same structure; where that is plainly
        enough, a quick estimate.
    reasons : tuple of str
        For each image a sentence on what its flags mean in numbers, and what helps; empty without flags.
    """

    image: Array
    shift: NDArray[np.float64]
    score: NDArray[np.float64]
    second_score: NDArray[np.float64]
    overlap: NDArray[np.float64]
    flags: tuple[tuple[str, ...], ...]
    settings: Mapping[str, Any]
    device: str
    significance: NDArray[np.float64] = field(default_factory=lambda: np.array(np.nan))
    reasons: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Tell whether no image is flagged."""
        return not any(self.flags)

    def columns(self) -> dict[str, NDArray[Any]]:
        """Return a table by columns, one row an image."""
        shifts = self.shift.reshape(-1, 2)
        n = len(shifts)
        numbers = ("score", "second_score", "overlap", "significance")
        return {
            "image": np.arange(n),
            "row": shifts[:, 0],
            "col": shifts[:, 1],
            **{name: np.array(np.broadcast_to(np.reshape(getattr(self, name), -1), n)) for name in numbers},
            "flags": np.array([" ".join(flags) for flags in self.flags]),
            "reason": np.array(self.reasons or ("",) * n),
        }

    def column_units(self) -> dict[str, str]:
        """Units of the columns that have one."""
        return {"row": "pix", "col": "pix"}

    def to_dict(self) -> dict[str, Any]:
        """Everything but the pixels, for JSON."""
        return {
            "shift": to_jsonable(self.shift),
            "score": to_jsonable(self.score),
            "second_score": to_jsonable(self.second_score),
            "overlap": to_jsonable(self.overlap),
            "flags": [list(flags) for flags in self.flags],
            "significance": to_jsonable(self.significance),
            "reasons": list(self.reasons),
            "settings": to_jsonable(dict(self.settings)),
            "device": self.device,
            "version": __version__,
        }


@governed
def align(
    images: Array,
    reference: Array,
    *,
    mask: Array | None = None,
    reference_mask: Array | None = None,
    background: float | bool | None = None,
    max_shift: int | tuple[int, int] | None = None,
    overlap_ratio: float = 0.3,
    subpixel: bool = True,
    order: int = 1,
    fill_value: float = np.nan,
    fill_masked: bool = True,
    device: str = "auto",
    workers: int | None = None,
) -> Alignment:
    """Move images onto a reference, not minding what stands still under a mask.

    Parameters
    ----------
    images : array
        (H, W) or (N, H, W). NaN and infinite pixels are invalid.
    reference : array
        (H, W).
    mask : array, optional
        Boolean, True = valid: (H, W) for all images, or (N, H, W), one for each.
    reference_mask : array, optional
        (H, W); by default `mask` where that is one for all, else all of the reference is valid.
    background : float or bool, optional
        Subtract from images their masked Gaussian mean of this sigma in pixels (True: a fiftieth of the image), and
        smooth them with an eighth of it, before they are compared. A diffuse halo does not move as the rings or spots
        do, and may outweigh them.
    max_shift : int or (int, int), optional
        Longest shift in pixels, along both axes or (row, col): faster. By default all.
    overlap_ratio : float
        Shifts with fewer common valid pixels than this share of the largest number are left out.
    subpixel : bool
        Refine shifts to fractions of a pixel.
    order : {0, 1, 3}
        Interpolation of the aligned images; whole-pixel shifts are exact with any but 3.
    fill_value : float
        What aligned images have where they show nothing.
    fill_masked : bool
        Do not move pixels under the mask along, fill them. With False the beam block is seen to move.
    device : str
        "auto", "cpu", "cuda" or "cuda:n".
    workers : int, optional
        Number of CPU threads; results do not depend on it.

    Returns
    -------
    Alignment

    Raises
    ------
    DataError
        Shapes do not fit, or nothing is valid.
    TypeError
        Complex images, or a mask that is not boolean.

    Notes
    -----
    Whole-pixel shifts are the maxima of Padfield's masked normalised cross-correlation (`stackalign.masked_shift`).
    The transforms of the reference and of shared masks are computed once for all images.

    Examples
    --------
    >>> import numpy as np
    >>> from stackalign import diffraction
    >>> made = diffraction.create_test_pattern("lattice", center=(262.3, 249.8))
    >>> moved = np.roll(made.image, (5, -3), (0, 1))
    >>> found = diffraction.align(moved, made.image, mask=made.mask)
    >>> found.shift.round(1)  # back to where it was
    array([-5.,  3.])
    """
    checked = checked_images(images, mask, device)
    where = device_of(checked.values)
    fixed = checked_images(reference, None, where, "reference")
    if not fixed.single or fixed.values.shape[1:] != checked.values.shape[1:]:
        msg = (
            f"reference must be one image of the shape {tuple(checked.values.shape[1:])} of the images, "
            f"got {tuple(np.shape(reference))}"
        )
        raise DataError(msg)
    valid = checked.mask
    r_valid = _reference_mask(reference_mask, fixed, valid, where)
    sigma = background_sigma(background, tuple(checked.values.shape))
    compared, onto = (_without_hot_pixels(a) for a in (checked.values, fixed.values))
    plain = compared, onto
    if sigma is not None:
        compared, onto = band_pass(compared, valid, sigma), band_pass(onto, r_valid, sigma)
    registered = masked_shift(
        onto[0],
        compared,
        reference_mask=None if r_valid is None else r_valid[0],
        moving_mask=valid,
        max_shift=max_shift,
        overlap_ratio=overlap_ratio,
        subpixel=subpixel,
        workers=workers,
    )
    moved = _moved(checked, registered.shift, order, fill_value, fill_masked, workers)
    if isinstance(images, np.ndarray):
        moved = to_numpy(moved)
    settings = {"background": sigma, "max_shift": max_shift, "overlap_ratio": overlap_ratio}
    settings |= {"subpixel": subpixel, "order": order}
    shared = None if r_valid is None else r_valid[0]
    measured = registered.shift, registered.score, registered.overlap
    evidence = judged(plain[1][0], plain[0], shared, valid, measured, workers)
    return _result(moved, registered, evidence, settings, where, checked.single)


def _result(
    moved: Array,
    registered: ShiftResult,
    evidence: Sequence[Judged],
    settings: dict[str, Any],
    device: str,
    single: bool,
) -> Alignment:
    """Shifts with their flags; of one image without the leading axis."""
    columns = registered.shift, registered.score, registered.second_score, registered.overlap
    verdicts = [
        _flags(shift, score, second, overlap, settings["max_shift"], of_row)
        for shift, score, second, overlap, of_row in zip(*columns, evidence, strict=True)
    ]
    flags = tuple(tuple(v) for v in verdicts)
    reasons = tuple(" ".join(v.values()) for v in verdicts)
    significance = np.array([e.significance for e in evidence])
    first = 0 if single else slice(None)
    shifts, scores, seconds, overlaps = (c[first] for c in columns)
    return Alignment(
        moved[first], shifts, scores, seconds, overlaps, flags, settings, device, significance[first], reasons
    )


def _reference_mask(mask: Array | None, fixed: Images, valid: Array | None, device: str) -> Array | None:
    """Mask (1, H, W) of the reference: its own, else that of the images where it is one for all, without gaps."""
    if mask is not None:
        r_valid = checked_mask(mask, tuple(fixed.values.shape), device, "reference_mask")
    else:
        r_valid = valid if valid is not None and len(valid) == 1 else None
    if fixed.mask is None:  # No gaps that the reference itself marks.
        return r_valid
    return fixed.mask if r_valid is None else r_valid & fixed.mask


def _moved(
    images: Images, shift: FloatArray, order: int, fill_value: float, fill_masked: bool, workers: int | None
) -> Array:
    """Images moved by their shifts (N, 2), with a value where they show nothing."""
    matrices = np.zeros((len(shift), 2, 3))
    matrices[:, 0, 0] = matrices[:, 1, 1] = 1.0
    matrices[:, :, 2] = -shift
    mask = images.mask if fill_masked else None
    moved = resample_affine(images.values, matrices, order=order, mask=mask, workers=workers)
    if not np.isnan(fill_value):
        xp = array_namespace(moved)
        moved = xp.where(xp.isnan(moved), moved.dtype.type(fill_value), moved)
    return moved


def _without_hot_pixels(images: Array) -> Array:
    """`without_hot_pixels` of images that may be on a device; there they stay as they are."""
    return without_hot_pixels(images) if isinstance(images, np.ndarray) else images


def _flags(
    shift: NDArray[np.float64], score: float, second: float, overlap: float, limit: Any, e: Judged
) -> dict[str, str]:
    """Flags of one image, each with its sentence."""
    if not score > 0.0:
        return {"constant": "An image does not vary, or nothing correlates: check exposure and masks."}
    flags = {}
    bound = limit is not None and (np.abs(shift) > np.broadcast_to(limit, 2) - 0.5).any()
    if not e.significance > e.needed and not bound:
        flags["insignificant"] = (
            f"The score {score:.3f} is {e.significance:.1f} standard deviations of that of unrelated images, "
            f"{e.needed:.1f} are needed: give a background, a mask, or images with more counts."
        )
    if np.isfinite(e.other).all():
        flags["inconsistent"] = (
            f"Something in the images has moved by ({e.other[0]:.0f}, {e.other[1]:.0f}) px and not by "
            f"({shift[0]:.1f}, {shift[1]:.1f}), with a correlation of {e.strength:.2f}: mask what stands still, or "
            "subtract a background."
        )
    elif e.alike < ALIKE and not bound:
        flags["inconsistent"] = (
            f"Only {max(e.alike, 0.0):.0%} of the fine structure that both images show agrees at this shift, "
            f"{ALIKE:.0%} are needed: a halo outweighs what moves, or the samples differ; subtract a background."
        )
    elif e.left and not bound:
        flags["inconsistent"] = (
            f"{e.left:.1%} of the image is found twice in the difference at this shift, with either sign and "
            f"({e.lag[0]:.0f}, {e.lag[1]:.0f}) px apart: it has moved and the rest stands still, or the other way "
            "round; mask what stands still, or subtract a background."
        )
    elif e.apart.period and not bound:
        flags["inconsistent"] = (
            f"Structure of about {e.apart.period:.0f} px asks for ({e.apart.shift[0]:.2f}, {e.apart.shift[1]:.2f}) px "
            "more than this shift: something stands still or moves otherwise; mask it, or subtract a background."
        )
    if second > AMBIGUOUS * score:
        flags["ambiguous"] = f"Another shift scores {second / score:.1%} as high: limit max_shift."
    if overlap < LEAST_OVERLAP:
        flags["small_overlap"] = f"Only {overlap:.1%} of the reference is compared: limit max_shift."
    if bound:
        flags["on_bound"] = f"The shift lies on the bound {limit} px of max_shift: raise it."
    return flags


def ialign(
    images: Iterable[Array], reference: Array | None = None, *, batch: int = 8, **options: Any
) -> Iterator[Alignment]:
    """Align images of a stream, one after the other; memory does not grow with their number.

    Parameters
    ----------
    images : iterable of array
        (H, W) each, of one shape.
    reference : array, optional
        (H, W); the first of the images by default.
    batch : int
        Images that are taken from the stream together, so that they share the work on reference and mask.
    **options
        Those of `align`.

    Yields
    ------
    Alignment
        Of a single image each, in order.

    Raises
    ------
    ValueError
        As `align` does, or `batch` is below 1.

    Examples
    --------
    >>> import numpy as np
    >>> from stackalign import diffraction
    >>> made = diffraction.create_test_pattern("lattice", center=(262.3, 249.8))
    >>> series = (np.roll(made.image, k, axis=0) for k in (0, 2, 4))
    >>> [float(found.shift[0].round(1)) + 0.0 for found in diffraction.ialign(series, mask=made.mask)]
    [0.0, -2.0, -4.0]
    """
    if operator.index(batch) < 1:
        msg = f"batch must be a whole number of images of 1 or more, got {batch}"
        raise ValueError(msg)
    device = options.get("device", "auto")
    stream = (asarray(image, device) for image in unwrapped(images, "images"))
    number = 0
    while block := list(islice(stream, batch)):
        reference = block[0] if reference is None else asarray(reference, device)
        shape = tuple(np.shape(reference))
        for k, image in enumerate(block):
            if tuple(np.shape(image)) != shape:
                msg = f"image {number + k} of the stream has the shape {tuple(np.shape(image))}, not {shape}"
                raise DataError(msg)
        aligned = align(array_namespace(block[0]).stack(block), reference, **options)
        number += len(block)
        for k in range(len(block)):
            yield replace(
                aligned,
                image=aligned.image[k],
                shift=aligned.shift[k],
                score=aligned.score[k],
                second_score=aligned.second_score[k],
                overlap=aligned.overlap[k],
                flags=(aligned.flags[k],),
                significance=aligned.significance[k],
                reasons=(aligned.reasons[k],),
            )
