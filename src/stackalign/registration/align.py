"""`register` and `register_stack`: the way most users take from two images to a transform with an error bar."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from stackalign.backends import Array
from stackalign.backends._threads import governed
from stackalign.ops import asarray
from stackalign.ops.transfer import unwrapped

from ._check import checked_images, checked_settings
from ._lockstep import register_batch
from .result import RegistrationResult, RegistrationStack

__all__ = ["register", "register_stack"]

BATCH_BYTES = 1 << 27
"""Bytes of images that are worked on in lock-step; more would leave the caches of a CPU, and fill no GPU better."""


@governed
def register(
    reference: Any,
    moving: Any,
    *,
    model: str = "shift",
    reference_mask: Any = None,
    moving_mask: Any = None,
    max_shift: float | None = None,
    smooth: float | str = "auto",
    start: ArrayLike | Mapping[str, float] | None = None,
    bounds: Mapping[str, tuple[float, float]] | None = None,
    center: ArrayLike | None = None,
    min_overlap: float = 0.3,
    max_iter: int = 60,
    device: str = "auto",
    workers: int | None = None,
) -> RegistrationResult:
    """Find the transform that brings one image onto another.

    The best whole-pixel shift of all is found by masked normalised cross-correlation (Padfield, IEEE Trans. Image
    Process. 21, 2706, 2012); from there Gauss-Newton steps climb the masked normalised cross-correlation of the model
    over a short pyramid of binned images. Where such a climb ends far from what the noise explains, a patch of the
    moving image is looked for at several scales and angles, as far as the model has them, and the climb begins again.
    The last steps sample a cubic spline. The covariance comes from the residual between the images at the optimum,
    tile by tile, so that it holds for correlated residuals too, and from what regions scatter about the common answer.

    Rows and columns that have one value from end to end, such as dead lines of a detector and frames, are left out, and
    spikes, single pixels far above their surroundings such as cosmic rays and hot pixels, see
    `stackalign.registration.spikes`.

    Parameters
    ----------
    reference : array_like
        (H, W) real numbers; NaN and infinite pixels are invalid.
    moving : array_like
        (Hm, Wm). Brightness and contrast may differ from the reference's.
    model : str
        "shift", "shift+scale", "rigid", "similarity" or "affine", see `stackalign.transforms.MODELS`.
    reference_mask, moving_mask : array_like, optional
        Boolean, of the image's shape, True = valid.
    max_shift : float, optional
        Longest shift along each axis in pixels; any by default.
    smooth : float or "auto"
        Sigma in pixels of a Gaussian over both images, normalised by the masks, that takes away the preference of
        bilinear interpolation for half-pixel shifts. "auto" chooses it by the measured noise: 0 for clean images.
    start : array_like or mapping, optional
        (P,) parameters, or some by name, from which the search starts; the whole-pixel stage is then left out, and
        nothing is known about other peaks.
    bounds : mapping, optional
        Parameter name to (lower, upper); scales from 0.5 to 2 by default, and shifts within `max_shift`.
    center : array_like, optional
        (2,) the point (y, x) about which scale and angle act; the middle of the reference by default.
    min_overlap : float
        Share of the reference that both images must have. Below it a result is flagged, and shifts are not looked for
        where the overlap is less than this share of the largest.
    max_iter : int
        Largest number of steps on each level of the pyramid.
    device : str
        "cpu", "cuda", "cuda:n" or "auto": where the images are, else a GPU that can be used, else the CPU.
    workers : int, optional
        Number of CPU threads; one per core by default. Results do not depend on it.

    Returns
    -------
    RegistrationResult
        ``result.ok`` is False where a flag says why the numbers should not be trusted; ``result.remarks`` has a
        sentence for each, with the numbers behind it and what can be done.

    Raises
    ------
    ValueError
        Shapes, the model or a setting do not fit, or the images are not two-dimensional.
    TypeError
        Complex or object types, or a mask that is not boolean.

    Warns
    -----
    StackalignWarning
        A mask leaves less than 5 % of an image: is its polarity right? True = valid.

    See Also
    --------
    register_stack : many pairs, faster than one by one.

    Examples
    --------
    >>> import stackalign as sa
    >>> from stackalign.registration import create_test_pair
    >>> made = create_test_pair((128, 128), "shift", (2.3, -1.9), noise=0.05)
    >>> result = sa.register(made.reference, made.moving)
    >>> result.parameters.round(1), result.ok
    (array([ 2.3, -1.9]), True)
    >>> bool((result.sigma < 0.05).all())
    True
    """
    reference, moving = unwrapped(reference, "reference"), unwrapped(moving, "moving")
    if np.ndim(reference) != 2 or np.ndim(moving) != 2:
        msg = (
            f"reference and moving must be 2-D images, got {np.shape(reference)} and "
            f"{np.shape(moving)}; register_stack takes stacks"
        )
        raise ValueError(msg)
    result: RegistrationResult = register_stack(
        reference,
        moving,
        model=model,
        reference_mask=reference_mask,
        moving_mask=moving_mask,
        max_shift=max_shift,
        smooth=smooth,
        start=start,
        bounds=bounds,
        center=center,
        min_overlap=min_overlap,
        max_iter=max_iter,
        device=device,
        workers=workers,
    )[0]
    return result


@governed
def register_stack(
    reference: Any,
    moving: Any,
    *,
    model: str = "shift",
    reference_mask: Any = None,
    moving_mask: Any = None,
    max_shift: float | None = None,
    smooth: float | str = "auto",
    start: ArrayLike | Mapping[str, float] | None = None,
    bounds: Mapping[str, tuple[float, float]] | None = None,
    center: ArrayLike | None = None,
    min_overlap: float = 0.3,
    max_iter: int = 60,
    device: str = "auto",
    workers: int | None = None,
) -> RegistrationStack:
    """Find the transforms of B pairs of images in lock-step; each pair gets what `register` would give it.

    Parameters
    ----------
    reference : array_like
        (H, W), one for all, or (B, H, W).
    moving : array_like
        (B, Hm, Wm), or (Hm, Wm) for a single one.
    model, reference_mask, moving_mask, max_shift, smooth, bounds, center, min_overlap, max_iter, device, workers
        As in `register`; a mask is one frame for all or one for each.
    start : array_like or mapping, optional
        (P,) for all pairs or (B, P), or some parameters by name.

    Returns
    -------
    RegistrationStack
        A sequence of B `RegistrationResult`; ``.columns()`` is the table of all of them.

    Raises
    ------
    ValueError
        Shapes, the model or a setting do not fit.
    TypeError
        Complex or object types, or a mask that is not boolean.

    Warns
    -----
    StackalignWarning
        A mask leaves less than 5 % of an image: is its polarity right? True = valid.

    Examples
    --------
    >>> import numpy as np
    >>> import stackalign as sa
    >>> from stackalign.registration import create_test_pair
    >>> pairs = [create_test_pair((128, 128), "shift", (k, -k), noise=0.05) for k in (1.5, 3.0)]
    >>> results = sa.register_stack(np.stack([p.reference for p in pairs]), np.stack([p.moving for p in pairs]))
    >>> [r.parameters.round(1).tolist() for r in results]
    [[1.5, -1.5], [3.0, -3.0]]
    """
    fixed = checked_images(asarray(reference, device), "reference", _on(reference_mask, device))
    moved = checked_images(asarray(moving, device), "moving", _on(moving_mask, device))
    n_problems = max(fixed.shape[0], moved.shape[0])
    settings = checked_settings(
        model,
        n_problems,
        tuple(fixed.shape[1:]),
        max_shift=max_shift,
        smooth=smooth,
        start=start,
        bounds=bounds,
        center=center,
        min_overlap=min_overlap,
        max_iter=max_iter,
        workers=workers,
    )
    for images, name in ((fixed, "reference"), (moved, "moving")):
        if images.shape[0] not in (1, n_problems):
            msg = (
                f"reference and moving must hold one image or the same number, got {fixed.shape[0]} and "
                f"{moved.shape[0]} ({name} has {images.shape[0]})"
            )
            raise ValueError(msg)
    per_pair = 4 * (int(np.prod(fixed.shape[1:])) + int(np.prod(moved.shape[1:])))
    batch = max(1, BATCH_BYTES // per_pair)
    results: list[RegistrationResult] = []
    for first in range(0, n_problems, batch):
        some = slice(first, min(first + batch, n_problems))
        results += register_batch(_take(fixed, some), _take(moved, some), settings.of(some))
    return RegistrationStack(results)


def _on(mask: Any, device: str) -> Array | None:
    return None if mask is None else asarray(mask, device)


def _take(images: Array, some: slice) -> Array:
    """The images of some pairs; one image for all is repeated."""
    if images.shape[0] == 1:
        return images.repeat(some.stop - some.start, axis=0)
    return images[some]
