"""Masked correlation of image pairs: many candidate transforms in one call."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stackalign.backends import Array, backend_for

from . import _check
from .transfer import asarray

__all__ = ["ImagePair", "prepare_pair", "score_affine"]


@dataclass(frozen=True)
class ImagePair:
    """Two standardised planes, or B problems of one shape, ready to be correlated; made by `prepare_pair`.

    Parameters
    ----------
    reference : array
        (B, H, W) float32 with NaN where a pixel is invalid.
    moving : array
        (B, Hm, Wm) float32, likewise.
    single : bool
        The pair was given as two images: results come without the axis B.
    """

    reference: Array
    moving: Array
    single: bool

    @property
    def n_problems(self) -> int:
        """Number of problems B."""
        return int(self.reference.shape[0])


def prepare_pair(
    reference: Array,
    moving: Array,
    *,
    reference_mask: Array | None = None,
    moving_mask: Array | None = None,
    smooth: float | tuple[float, float] = 0.0,
    workers: int | None = None,
) -> ImagePair:
    """Standardise two images, or two stacks of B images, for correlation.

    Parameters
    ----------
    reference : array
        (H, W) or (B, H, W), real numbers; NaN and infinite pixels are invalid.
    moving : array
        (Hm, Wm) or (B, Hm, Wm), at home where `reference` is.
    reference_mask, moving_mask : array, optional
        Boolean, of the image's shape or one frame for all, True = valid.
    smooth : float or (float, float)
        Sigma in pixels of a Gaussian applied to both, which meets the bias of bilinear interpolation towards half
        pixels on noisy images; or one for the reference and one for the moving image, where one of them is sharper.
        Beside holes and edges a plane is fitted to the valid pixels under the Gaussian, so that nothing leaks from
        under a mask and no content seems shifted away from it.
    workers : int, optional
        Number of CPU threads; one per core by default. Results do not depend on it.

    Returns
    -------
    ImagePair
        Planes centred and scaled in float64 and stored in float32, NaN as the mask.

    Raises
    ------
    ValueError
        Shapes do not fit, `smooth` is negative, or `workers` is less than 1.
    TypeError
        Complex or object types, a mask that is not boolean, or arrays of different homes.

    Examples
    --------
    >>> import numpy as np
    >>> import stackalign as sa
    >>> scene = np.random.default_rng(0).normal(size=(40, 40))
    >>> reference, moving = scene[:32, :32], 3 * scene[2:34, 1:33] + 7  # (2, 1) pixels further up and left
    >>> pair = sa.prepare_pair(reference, moving)
    >>> pair.reference.dtype.name, pair.reference.shape, pair.n_problems
    ('float32', (1, 32, 32), 1)
    """
    sigmas = np.asarray(smooth, np.float64)
    if sigmas.shape not in ((), (2,)) or not (np.isfinite(sigmas).all() and (sigmas >= 0).all()):
        msg = f"smooth must be a sigma in pixels, 0 or more, or two of them, got {smooth}"
        raise ValueError(msg)
    blur = np.broadcast_to(sigmas, 2)
    backend = backend_for(*(x for x in (reference, moving, reference_mask, moving_mask) if x is not None))
    threads = _check.n_workers(workers)
    planes = []
    for image, mask, name, sigma in (
        (reference, reference_mask, "reference", blur[0]),
        (moving, moving_mask, "moving", blur[1]),
    ):
        _, stack, _ = _check.stack(image, name, mask)
        planes.append(backend.standardise(stack, _check.mask_array(mask, stack), float(sigma), threads))
    if planes[0].shape[0] != planes[1].shape[0] or reference.ndim != moving.ndim:
        msg = (
            "reference and moving must be two images or two stacks of the same number, "
            f"got {reference.shape} and {moving.shape}"
        )
        raise ValueError(msg)
    return ImagePair(planes[0], planes[1], reference.ndim == 2)


def _candidate_matrices(pair: ImagePair, matrices: ArrayLike) -> tuple[NDArray[np.float64], bool]:
    """Check matrices and give them the shape (B, K, 2, 3); the flag says whether B was left out."""
    m = asarray(matrices, "cpu", np.float64)
    expected = "(K, 2, 3)" if pair.single else f"(K, 2, 3) or ({pair.n_problems}, K, 2, 3)"
    if m.ndim not in (3, 4) or m.shape[-2:] != (2, 3) or m.shape[-3] < 1:
        msg = f"matrices must have the shape {expected} with K of at least 1, got {m.shape}"
        raise ValueError(msg)
    if not np.isfinite(m).all():
        msg = "matrices must be finite"
        raise ValueError(msg)
    if m.ndim == 3:
        return np.broadcast_to(m, (pair.n_problems, *m.shape)), pair.single
    if m.shape[0] != pair.n_problems:
        msg = f"matrices must have the shape {expected}, got {m.shape}"
        raise ValueError(msg)
    return m, False


def score_affine(
    pair: ImagePair, matrices: ArrayLike, *, return_overlap: bool = False, workers: int | None = None
) -> Array | tuple[Array, Array]:
    """Score candidate transforms by the masked normalised cross-correlation.

    Parameters
    ----------
    pair : ImagePair
        Made by `prepare_pair`.
    matrices : array_like
        (K, 2, 3) pull matrices for a pair, or for every problem; (B, K, 2, 3) with candidates of their own. See
        `stackalign.transforms`. Candidates that agree in x share half of the work where the matrix is diagonal.
    return_overlap : bool
        Also return the share of the reference's pixels that each score is made of.
    workers : int, optional
        Number of CPU threads; one per core by default. Results do not depend on it.

    Returns
    -------
    scores : array
        (K,) or (B, K) float64 in [-1, 1]: Pearson's coefficient over the pixels that are valid in both images, with
        bilinear interpolation. 0.0 without overlap or variance, never NaN.
    overlap : array
        Of the same shape, float64 in [0, 1]; only if `return_overlap`.

    Raises
    ------
    ValueError
        The matrices have another shape or are not finite.

    Examples
    --------
    >>> import numpy as np
    >>> import stackalign as sa
    >>> scene = np.random.default_rng(0).normal(size=(40, 40))
    >>> reference, moving = scene[:32, :32], 3 * scene[2:34, 1:33] + 7  # (2, 1) pixels further up and left
    >>> pair = sa.prepare_pair(reference, moving)
    >>> shifts = np.array([[0, 0], [1, 1], [2, 1]])
    >>> matrices = sa.transforms.matrices_from_parameters(shifts, "shift", center=(15.5, 15.5))
    >>> sa.score_affine(pair, matrices).round(2)
    array([-0.04, -0.01,  1.  ])
    """
    backend = backend_for(pair.reference, pair.moving)
    m, single = _candidate_matrices(pair, matrices)
    result = backend.score_affine(pair.reference, pair.moving, m, _check.n_workers(workers))
    scores, overlap = (a[0] if single else a for a in (result.scores, result.overlap))
    if not return_overlap:
        return scores
    return scores, overlap / (pair.reference.shape[1] * pair.reference.shape[2])
