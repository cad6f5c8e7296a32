"""Diffraction patterns averaged by their symmetry, which fills what is masked."""

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import ArrayLike

from stackalign.backends import Array
from stackalign.backends._threads import governed
from stackalign.ops import device_of, mirror_average, rotational_average, to_numpy

from ._inputs import Images, checked_images

__all__ = ["nfold", "reflection"]


@governed
def nfold(
    images: Array,
    fold: int,
    *,
    center: ArrayLike | None = None,
    mask: Array | None = None,
    fill_value: float = np.nan,
    device: str = "auto",
    workers: int | None = None,
) -> Array:
    """Average patterns with themselves, turned by all multiples of 360 degrees / fold.

    Parameters
    ----------
    images : array
        (H, W) or (N, H, W). NaN and infinite pixels are invalid.
    fold : int
        Any whole number from 1 on, 7 as well.
    center : array_like, optional
        (row, col) for all images, or (N, 2), as of `autocenter`; the middle of the frame by default.
    mask : array, optional
        Boolean (H, W) or (N, H, W), True = valid. Nothing comes from other pixels; they are filled with what is seen
        at the places that the symmetry says are the same.
    fill_value : float
        Where nothing is seen at any of them.
    device : str
        "auto", "cpu", "cuda" or "cuda:n".
    workers : int, optional
        Number of CPU threads; results do not depend on it.

    Returns
    -------
    array
        Of the shape of images and at their home; float64 for float64 images and float32 for all others. Each pixel is
        the mean of the samples that are there: corners of those that do not lie outside of the frame.

    Raises
    ------
    DataError
        Shapes do not fit, or nothing is valid.
    ValueError
        `fold` is no whole number, or the centre is not finite.
    TypeError
        Complex images, or a mask that is not boolean.

    Examples
    --------
    >>> import numpy as np
    >>> from stackalign import diffraction
    >>> image = np.zeros((5, 5))
    >>> image[0, 2] = 4.0
    >>> mask = np.ones((5, 5), bool)
    >>> mask[4, 2] = False  # filled with what the symmetry says is the same
    >>> float(diffraction.nfold(image, 2, mask=mask)[4, 2])
    4.0
    """
    checked = checked_images(images, mask, device)
    averages = rotational_average(checked.values, _points(center), fold, mask=checked.mask, workers=workers)
    return _filled(averages, images, checked, fill_value)


@governed
def reflection(
    images: Array,
    angle: float,
    *,
    center: ArrayLike | None = None,
    mask: Array | None = None,
    fill_value: float = np.nan,
    device: str = "auto",
    workers: int | None = None,
) -> Array:
    """Average patterns with their mirror images.

    Parameters
    ----------
    images : array
        (H, W) or (N, H, W). NaN and infinite pixels are invalid.
    angle : float
        Of the mirror line with the direction of columns (+x), in degrees, counter-clockwise as an image is shown with
        its first row on top.
    center : array_like, optional
        (row, col), a point of the line, for all images or (N, 2); the middle of the frame by default.
    mask : array, optional
        Boolean (H, W) or (N, H, W), True = valid.
    fill_value : float
        Where neither a pixel nor its mirror image is seen.
    device : str
        "auto", "cpu", "cuda" or "cuda:n".
    workers : int, optional
        Number of CPU threads.

    Returns
    -------
    array
        As that of `nfold`.

    Raises
    ------
    DataError
        Shapes do not fit, or nothing is valid.
    ValueError
        The angle or the centre is not finite.
    TypeError
        Complex images, or a mask that is not boolean.

    Examples
    --------
    >>> import numpy as np
    >>> from stackalign import diffraction
    >>> image = np.array([[0.0, 0.0, 6.0], [2.0, 0.0, 0.0]])
    >>> diffraction.reflection(image, 90)  # the mirror line stands upright
    array([[3., 0., 3.],
           [1., 0., 1.]])
    """
    checked = checked_images(images, mask, device)
    averages = mirror_average(checked.values, _points(center), angle, mask=checked.mask, workers=workers)
    return _filled(averages, images, checked, fill_value)


def _points(center: ArrayLike | None) -> ArrayLike | None:
    # The result of autocenter is taken as it is.
    return getattr(center, "center", center)


def _filled(averages: Array, images: Array, checked: Images, fill_value: float) -> Array:
    if not np.isnan(fill_value):
        xp = array_namespace(averages)
        averages = xp.where(xp.isnan(averages), averages.dtype.type(fill_value), averages)
    if isinstance(images, np.ndarray) and device_of(averages) != "cpu":
        averages = to_numpy(averages)
    return averages[0] if checked.single else averages
