"""Images averaged with themselves, turned or mirrored: what a symmetry says that is the same."""

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stackalign.backends import Array

from . import _check

__all__ = ["mirror_average", "rotational_average"]

MOST = 1000


def _about(parts: NDArray[np.float64], centers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pull matrices (C, T, 2, 3) of linear parts (T, 2, 2) about centres (C, 2)."""
    offsets = centers[:, None] - np.einsum("tij,cj->cti", parts, centers)
    turned = np.broadcast_to(parts, (len(centers), *parts.shape))
    return np.ascontiguousarray(np.concatenate([turned, offsets[..., None]], axis=-1))


def _averaged(
    images: Array, mask: Array | None, center: ArrayLike | None, parts: NDArray[np.float64], workers: int | None
) -> Array:
    backend, stack, single = _check.stack(images, "images", mask)
    n, height, width = stack.shape
    middle = (0.5 * (height - 1), 0.5 * (width - 1)) if center is None else center
    centers = _check.points(middle, n, "center")
    if (centers == centers[0]).all():
        centers = centers[:1]
    valid = _check.mask_array(mask, stack)
    out = backend.affine_average(stack, valid, _about(parts, centers), _check.n_workers(workers))
    return out[0] if single else out


def _turn(k: int, fold: int) -> list[list[float]]:
    """Rotation by k / fold of a whole turn; quarters of a turn without rounding."""
    if 4 * k % fold == 0:
        cos, sin = ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0))[4 * k // fold]
    else:
        cos, sin = math.cos(math.tau * k / fold), math.sin(math.tau * k / fold)
    return [[cos, -sin], [sin, cos]]


def rotational_average(
    images: Array,
    center: ArrayLike | None,
    fold: int,
    *,
    mask: Array | None = None,
    workers: int | None = None,
) -> Array:
    """Average images with themselves, turned by all multiples of a part of a whole turn.

    Parameters
    ----------
    images : array
        (H, W) or (N, H, W), real numbers; NaN and infinite pixels are invalid.
    center : array_like or None
        (y, x) about which they are turned, for all images or (N, 2); None is the middle of the frame.
    fold : int
        Parts of a turn: any whole number from 1 to 1000.
    mask : array, optional
        Boolean (H, W) or (N, H, W), True = valid.
    workers : int, optional
        Number of CPU threads; one per core by default. Results do not depend on it.

    Returns
    -------
    array
        Of the shape of images; float64 for float64 images and float32 for all others. Each pixel is the mean of those
        of the `fold` samples that are there; where a sample has invalid pixels beside it, of what is valid of it, with
        its weight. NaN where nothing is.

    Raises
    ------
    ValueError
        `fold` is no whole number, or shapes do not fit.
    TypeError
        Complex or object types, a mask that is not boolean, or arrays of different homes.

    Notes
    -----
    All samples are interpolated linearly from the image itself, once. Images with one centre share the geometry.

    Examples
    --------
    >>> import numpy as np
    >>> import stackalign as sa
    >>> image = np.zeros((5, 5))
    >>> image[0, 2] = 4.0
    >>> sa.rotational_average(image, center=(2, 2), fold=4)[[0, 2, 4], [2, 0, 2]]
    array([1., 1., 1.])
    """
    if isinstance(fold, bool) or not isinstance(fold, int | np.integer | float) or fold != int(fold):
        msg = f"fold must be a whole number of parts of a turn, as 6, got {fold!r}"
        raise ValueError(msg)
    if not 1 <= fold <= MOST:
        msg = f"fold must be from 1 to {MOST}, got {fold}"
        raise ValueError(msg)
    parts = np.array([_turn(k, int(fold)) for k in range(int(fold))])
    return _averaged(images, mask, center, parts, workers)


def mirror_average(
    images: Array,
    center: ArrayLike | None,
    angle: float,
    *,
    mask: Array | None = None,
    workers: int | None = None,
) -> Array:
    """Average images with their mirror images.

    Parameters
    ----------
    images : array
        (H, W) or (N, H, W), real numbers; NaN and infinite pixels are invalid.
    center : array_like or None
        (y, x), a point of the mirror line, for all images or (N, 2); None is the middle of the frame.
    angle : float
        Of the mirror line with +x, in degrees, towards -y: counter-clockwise as an image is shown with y downwards.
    mask : array, optional
        Boolean (H, W) or (N, H, W), True = valid.
    workers : int, optional
        Number of CPU threads.

    Returns
    -------
    array
        As that of `rotational_average`.

    Raises
    ------
    ValueError
        The angle is not finite, or shapes do not fit.
    TypeError
        Complex or object types, a mask that is not boolean, or arrays of different homes.

    Examples
    --------
    >>> import numpy as np
    >>> import stackalign as sa
    >>> image = np.array([[0.0, 0.0, 6.0], [2.0, 0.0, 0.0]])
    >>> sa.mirror_average(image, center=(0.5, 1), angle=90)  # the mirror line stands upright
    array([[3., 0., 3.],
           [1., 0., 1.]])
    """
    if not math.isfinite(angle):
        msg = f"angle must be a finite number of degrees, got {angle}"
        raise ValueError(msg)
    double = 2 * angle % 360
    exact: Any = {0.0: (1.0, 0.0), 90.0: (0.0, 1.0), 180.0: (-1.0, 0.0), 270.0: (0.0, -1.0)}
    cos, sin = exact.get(double, (math.cos(math.radians(double)), math.sin(math.radians(double))))
    # Of a point (y, x) with y downwards.
    mirrored = [[-cos, -sin], [-sin, cos]]
    return _averaged(images, mask, center, np.array([[[1.0, 0.0], [0.0, 1.0]], mirrored]), workers)
