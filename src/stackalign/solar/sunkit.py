"""The engine as a coalignment method of sunkit-image, where that is installed.

sunkit-image (0.7 and later) gives a registered method two arrays and takes back an affine transform of which it can
apply the translation alone; `stackalign.solar.coalign` corrects scale and roll as well, and knows time and observers.
"""

import importlib.util
import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stackalign._carriers import plain_array
from stackalign.errors import MissingDependencyError, StackalignWarning
from stackalign.registration import register

__all__ = ["METHOD", "register_with_sunkit_image", "sunkit_coalign"]

METHOD = "stackalign"
"""Name under which sunkit-image knows the method."""


def sunkit_coalign(target_array: ArrayLike, reference_array: ArrayLike, **settings: Any) -> Any:
    """Find the shift from a target's pixels to those of a reference, for ``sunkit_image.coalignment.coalign``.

    Parameters
    ----------
    target_array, reference_array : (ny, nx) array_like
        Images of equally long pixels, of any shapes; NaN is invalid.
    **settings
        For `stackalign.register`, such as max_shift, smooth or device.

    Returns
    -------
    sunkit_image.coalignment.interface.AffineParams
        With ``translation`` (x, y), no scale and no rotation.

    Warns
    -----
    StackalignWarning
        The result is flagged as not to be trusted.
    """
    try:
        from sunkit_image.coalignment.interface import AffineParams
    except ImportError as error:
        msg = "sunkit_coalign is called by sunkit-image 0.7 or later: pip install sunkit-image"
        raise MissingDependencyError(msg) from error
    target, reference = _plain(target_array), _plain(reference_array)
    shape = np.maximum(target.shape, reference.shape)
    result = register(_framed(reference, shape), _framed(target, shape), model="shift", **settings)
    if not result.ok:
        warnings.warn(f"the coalignment is not to be trusted: {', '.join(result.flags)}", StackalignWarning, 2)
    return AffineParams(
        scale=np.ones(2), rotation_matrix=np.eye(2), translation=(float(result["dx"]), float(result["dy"]))
    )


def _plain(image: Any) -> NDArray[np.float64]:
    """Pixels as numbers; what a mask hides is NaN."""
    if not isinstance(image, np.ma.MaskedArray):
        return plain_array(image, np.float64, "images")
    values = np.ma.getdata(image).astype(np.float64)
    return np.where(np.ma.getmaskarray(image), np.nan, values)


def _framed(image: NDArray[np.float64], shape: NDArray[np.int_]) -> NDArray[np.float64]:
    """The image in the first corner of a larger frame of NaN: its pixels keep their indices."""
    return np.pad(image, [(0, int(n - m)) for n, m in zip(shape, image.shape, strict=True)], constant_values=np.nan)


def register_with_sunkit_image() -> bool:
    """Make the method known to sunkit-image; False where that is missing or too old to have methods.

    Examples
    --------
    >>> from stackalign import solar
    >>> solar.register_with_sunkit_image() in (True, False)  # whether sunkit-image is there
    True
    """
    if importlib.util.find_spec("sunkit_image") is None:
        return False
    try:
        from sunkit_image.coalignment.register import register_coalignment_method
    except ImportError:  # before 0.7 there was nothing to register with
        return False
    register_coalignment_method(METHOD)(sunkit_coalign)
    return True
