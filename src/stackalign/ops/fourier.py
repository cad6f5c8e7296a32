"""Masked correlation over all shifts at once, through Fourier transforms."""

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from stackalign.backends import Array, Backend
from stackalign.backends._lags import intersection, possible
from stackalign.backends._protocol import Lags

from . import _check, _peaks
from .transfer import fetched

__all__ = ["ShiftMap", "ShiftResult", "masked_ncc", "masked_shift", "match_template"]


@dataclass(frozen=True)
class ShiftMap:
    """Scores of whole-pixel shifts, of `masked_ncc`.

    Parameters
    ----------
    scores : array
        (N, rows, columns) float32, or (rows, columns) of a single pair. Element (i, j) is the score when the content
        of the moving image is moved by ``(dy, dx) = (i, j) - origin``, to larger indices where positive.
    origin : tuple of int
        Row and column of the shift (0, 0).
    """

    scores: Array
    origin: tuple[int, int]

    def shift_at(self, index: tuple[int, int]) -> tuple[int, int]:
        """Return the shift of a row and column of the scores.

        Parameters
        ----------
        index : tuple of int
            (row, column), such as that of the highest score.

        Returns
        -------
        tuple of int
            (dy, dx) in whole pixels.
        """
        return int(index[0]) - self.origin[0], int(index[1]) - self.origin[1]


@dataclass(frozen=True)
class ShiftResult:
    """Best shifts, of `masked_shift`; one row per pair, or no axis N for a single pair. NumPy arrays on the host.

    Parameters
    ----------
    shift : ndarray
        (N, 2) float64: (dy, dx) by which the content of the moving image has to move to lie on the reference.
    score : ndarray
        (N,) float64: highest score of a whole-pixel shift. 0 where nothing correlates.
    second_score : ndarray
        (N,) float64: highest score outside the main peak. 0 where there is none.
    overlap : ndarray
        (N,) float64: share of the reference's pixels that are valid in both images at that shift.
    """

    shift: NDArray[np.float64]
    score: NDArray[np.float64]
    second_score: NDArray[np.float64]
    overlap: NDArray[np.float64]


@dataclass(frozen=True)
class _Problem:
    """Checked arguments: what `Backend.masked_ncc` takes, and whether the caller gave two single images."""

    backend: Backend
    arguments: tuple[Array, Array | None, Array, Array | None, Lags, float, int]
    single: bool


def _window(max_shift: int | Sequence[int] | None, shape: tuple[int, int], moving: tuple[int, int]) -> Lags:
    lags = possible(shape, moving)
    if max_shift is None:
        return lags
    limits = tuple(max_shift) if isinstance(max_shift, Sequence | np.ndarray) else (max_shift, max_shift)
    try:
        y, x = (operator.index(limit) for limit in limits)
    except (TypeError, ValueError):
        y, x = -1, -1
    if y < 0 or x < 0:
        msg = f"max_shift must be a whole number of pixels of 0 or more, or two of them (y, x), got {max_shift!r}"
        raise ValueError(msg)
    return intersection(lags, Lags(-y, -x, y, x))


def _problem(
    reference: Array,
    moving: Array,
    reference_mask: Array | None,
    moving_mask: Array | None,
    max_shift: int | Sequence[int] | None,
    overlap_ratio: float,
    workers: int | None,
) -> _Problem:
    if not (math.isfinite(overlap_ratio) and 0.0 <= overlap_ratio <= 1.0):
        msg = f"overlap_ratio must be from 0 to 1, got {overlap_ratio}"
        raise ValueError(msg)
    fixed = _check.stack(reference, "reference", moving, reference_mask, moving_mask)
    moved = _check.stack(moving, "moving", reference)
    n_fixed, n_moved = len(fixed.patterns), len(moved.patterns)
    if n_fixed != n_moved and 1 not in (n_fixed, n_moved):
        msg = (
            "reference and moving must be as many images as each other, or one of them a single image, "
            f"got {reference.shape} and {moving.shape}"
        )
        raise ValueError(msg)
    masks = (
        _check.mask_array(reference_mask, fixed.patterns, "reference_mask"),
        _check.mask_array(moving_mask, moved.patterns, "moving_mask"),
    )
    r_mask, v_mask = (None if m is None else m[:, None] for m in masks)
    r, v = fixed.patterns[:, None], moved.patterns[:, None]
    if n_moved < n_fixed:  # the batch axis is that of the moving images
        v = v.repeat(n_fixed, axis=0)
    lags = _window(max_shift, tuple(fixed.patterns.shape[1:]), tuple(moved.patterns.shape[1:]))
    return _Problem(
        fixed.backend,
        (r, r_mask, v, v_mask, lags, float(overlap_ratio), _check.n_workers(workers)),
        fixed.single and moved.single,
    )


def masked_ncc(
    reference: Array,
    moving: Array,
    *,
    reference_mask: Array | None = None,
    moving_mask: Array | None = None,
    max_shift: int | Sequence[int] | None = None,
    overlap_ratio: float = 0.3,
    workers: int | None = None,
) -> ShiftMap:
    """Score all whole-pixel shifts of images by the masked normalised cross-correlation.

    Parameters
    ----------
    reference : array
        (H, W), or (N, H, W) with one reference for each moving image. NaN and infinite pixels are invalid.
    moving : array
        (h, w) or (N, h, w), at home where `reference` is; its frames may be of another size.
    reference_mask, moving_mask : array, optional
        Boolean, of the images' shape or one frame for all, True = valid.
    max_shift : int or (int, int), optional
        Score only shifts of up to this many pixels, along both axes or along (y, x): faster. By default all at which
        the frames touch.
    overlap_ratio : float
        Shifts at which fewer pixels are valid in both images than this share of the largest number among the shifts
        that are looked at have a score of 0.
    workers : int, optional
        Number of CPU threads; one per core by default. Results do not depend on it.

    Returns
    -------
    ShiftMap
        Scores in [-1, 1], and where the shift (0, 0) is: Pearson's coefficient over the pixels that are valid in both
        images, 0 where one of them does not vary, never NaN.

    Raises
    ------
    ValueError
        Shapes do not fit, or a limit is out of its range.
    TypeError
        Complex or object types, a mask that is not boolean, or arrays of different homes.

    Notes
    -----
    The method is that of D. Padfield, IEEE Transactions on Image Processing 21, 2706 (2012). It costs two transforms
    and three back per image, or three and six where masks differ from image to image. Images are centred, scaled and
    transformed in float32: scores are within 1e-6 of float64 where the overlapping parts vary as much as the images
    do, and are set to 0 where they vary by less than 1e-4 of that, which rounding would drown.

    Examples
    --------
    >>> import numpy as np
    >>> import stackalign as sa
    >>> scene = np.random.default_rng(0).normal(size=(40, 40))
    >>> reference, moving = scene[:32, :32], 3 * scene[2:34, 1:33] + 7  # (2, 1) pixels further up and left
    >>> found = sa.masked_ncc(reference, moving, max_shift=4)
    >>> found.scores.shape, found.origin
    ((9, 9), (4, 4))
    >>> found.shift_at(np.unravel_index(found.scores.argmax(), found.scores.shape))
    (2, 1)
    """
    problem = _problem(reference, moving, reference_mask, moving_mask, max_shift, overlap_ratio, workers)
    scores = problem.backend.masked_ncc(*problem.arguments)
    lags = problem.arguments[4]
    return ShiftMap(scores[0] if problem.single else scores, (-lags.low_y, -lags.low_x))


def masked_shift(
    reference: Array,
    moving: Array,
    *,
    reference_mask: Array | None = None,
    moving_mask: Array | None = None,
    max_shift: int | Sequence[int] | None = None,
    overlap_ratio: float = 0.3,
    subpixel: bool = True,
    workers: int | None = None,
) -> ShiftResult:
    """Find the shift of the highest masked normalised cross-correlation.

    Parameters
    ----------
    reference : array
        (H, W), or (N, H, W) with one reference for each moving image. NaN and infinite pixels are invalid.
    moving : array
        (h, w) or (N, h, w), at home where `reference` is; its frames may be of another size.
    reference_mask, moving_mask : array, optional
        Boolean, of the images' shape or one frame for all, True = valid.
    max_shift : int or (int, int), optional
        As for `masked_ncc`, whose maps are searched where they are made, a few at a time.
    overlap_ratio : float
        As for `masked_ncc`.
    subpixel : bool
        Refine to fractions of a pixel, by the peak of the scores around the best one.
    workers : int, optional
        Number of CPU threads; one per core by default. Results do not depend on it.

    Returns
    -------
    ShiftResult
        Shifts, scores, the scores of second peaks, and overlaps. Of equal scores the first by rows wins.

    Raises
    ------
    ValueError
        Shapes do not fit, or a limit is out of its range.
    TypeError
        Complex or object types, a mask that is not boolean, or arrays of different homes.

    Notes
    -----
    The main peak ends where the highest score at a distance (the larger of that along y and along x) rises again with
    the distance; the second score is the highest from there on.

    Examples
    --------
    >>> import numpy as np
    >>> import stackalign as sa
    >>> scene = np.random.default_rng(0).normal(size=(40, 40))
    >>> reference, moving = scene[:32, :32], 3 * scene[2:34, 1:33] + 7  # (2, 1) pixels further up and left
    >>> holes = moving.copy()
    >>> holes[10:14] = np.nan
    >>> result = sa.masked_shift(reference, holes, subpixel=False)
    >>> result.shift, round(float(result.score), 3)
    (array([2., 1.]), 1.0)
    """
    problem = _problem(reference, moving, reference_mask, moving_mask, max_shift, overlap_ratio, workers)
    peaks_found = problem.backend.masked_peaks(*problem.arguments)
    lags, peaks, overlap, neighbours, rings = fetched(peaks_found)
    shift = lags.astype(np.float64)
    if subpixel:
        shift += _peaks.offsets(neighbours)
    pixels = reference.shape[-2] * reference.shape[-1]
    columns = shift, peaks.astype(np.float64), _peaks.second_scores(rings), overlap / pixels
    return ShiftResult(*(c[0] if problem.single else c for c in columns))


def _template_mask(mask: Array | None, templates: Array, shape: tuple[int, ...]) -> Array | None:
    """Check a mask of templates (T * D, h, w) and give it the shape (1 or T, 1 or D, h, w)."""
    if mask is None:
        return None
    for_all = mask.ndim == 3 and tuple(mask.shape) == shape[1:]
    flat = mask if mask.ndim < 3 or for_all else mask.reshape(-1, *mask.shape[-2:])
    valid: Array = _check.mask_array(flat, templates[: shape[1]] if for_all else templates, "template_mask")
    return valid[None] if for_all or len(valid) == 1 else valid.reshape(shape)


def _planes(x: Array, depth: int, part: slice) -> Array:
    """Return some of D planes of (N, 1 or D, H, W), contiguous."""
    chosen = x[:, part] if x.shape[1] == depth else x.repeat(depth, axis=1)[:, part]
    return chosen if chosen.flags.c_contiguous else chosen.copy(order="C")


def match_template(
    images: Array,
    templates: Array,
    *,
    image_mask: Array | None = None,
    template_mask: Array | None = None,
    combine: str = "joint",
    workers: int | None = None,
) -> Array:
    """Score templates at all positions within images by the zero-normalised cross-correlation.

    Parameters
    ----------
    images : array
        (H, W), or (D, H, W): D images that belong together. NaN and infinite pixels are invalid.
    templates : array
        (h, w) or (T, h, w) for one image; (D, h, w) or (T, D, h, w) for D images, of which D may be 1 where all images
        have the same template. At home where `images` are, and no larger.
    image_mask, template_mask : array, optional
        Boolean, of the shape of the images or templates, or one frame for all, True = valid.
    combine : {"joint", "each"}
        With "joint", one coefficient over the pixels of all D images together, as if they lay side by side: one mean
        and one variance. With "each", one coefficient per image.
    workers : int, optional
        Number of CPU threads, which share the templates; one per core by default. Results do not depend on it.

    Returns
    -------
    array
        (T, H-h+1, W-w+1) float32 in [-1, 1], or (T, D, H-h+1, W-w+1) with "each"; without the axis T where `templates`
        have none, and without D for an image (H, W). Element (i, j) is the score with the template's first pixel on
        pixel (i, j) of the image; 0 where one of them does not vary.

    Raises
    ------
    ValueError
        Shapes do not fit.
    TypeError
        Complex or object types, a mask that is not boolean, or arrays of different homes.

    Notes
    -----
    Without masks the scores are those of `skimage.feature.match_template`. Images are transformed once for all
    templates; a template takes D transforms and one back, and twice that where images have a mask. Positions at which
    the variance of an image is less than 1e-8 of its average have a score of 0, which rounding would drown.

    Examples
    --------
    >>> import numpy as np
    >>> import stackalign as sa
    >>> image = np.random.default_rng(0).normal(size=(20, 30))
    >>> scores = sa.match_template(image, image[5:9, 11:17])
    >>> scores.shape
    (17, 25)
    >>> np.argwhere(scores > 0.99)
    array([[ 5, 11]])
    """
    if combine not in ("joint", "each"):
        msg = f'combine must be "joint" or "each", got {combine!r}'
        raise ValueError(msg)
    fixed = _check.stack(images, "images", templates, image_mask, template_mask)
    depth, *frame = fixed.patterns.shape
    if templates.ndim not in (images.ndim, images.ndim + 1):
        msg = (
            "templates must have the axes of images, and may have one more in front, "
            f"got {templates.shape} for images of {images.shape}"
        )
        raise ValueError(msg)
    several = templates.ndim == images.ndim + 1
    small = tuple(templates.shape[-2:])
    moved = _check.stack(templates.reshape(-1, *small), "templates").patterns
    planes = depth if images.ndim == 2 else int(templates.shape[-3])
    if planes not in (1, depth):
        msg = f"templates must have one plane for each of {depth} images, or one for all, got {templates.shape}"
        raise ValueError(msg)
    if small[0] > frame[0] or small[1] > frame[1]:
        msg = f"templates must be no larger than images, got {small} and {tuple(frame)}"
        raise ValueError(msg)
    v = moved.reshape(-1, planes, *small)
    image_valid = _check.mask_array(image_mask, fixed.patterns, "image_mask")
    masks = None if image_valid is None else image_valid[None], _template_mask(template_mask, moved, v.shape)
    threads = _check.n_workers(workers)
    lags = Lags(0, 0, frame[0] - small[0], frame[1] - small[1])

    def score(part: slice) -> Array:
        """Joint scores of some of the images."""
        r_valid, v_valid = (None if m is None else _planes(m, depth, part) for m in masks)
        arguments = (fixed.patterns[None, part], r_valid, _planes(v, depth, part), v_valid, lags, 0.0, threads)
        return fixed.backend.masked_ncc(*arguments)

    if combine == "joint" or images.ndim == 2:
        scores = score(slice(None))
    else:
        parts = [score(slice(d, d + 1)) for d in range(depth)]
        scores = array_namespace(parts[0]).stack(parts, axis=1)
    return scores if several else scores[0]
