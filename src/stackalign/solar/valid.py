"""Pixels of a map that can be used."""

import numpy as np
from numpy.typing import NDArray
from sunpy.map import GenericMap

__all__ = ["valid_mask"]


def valid_mask(solar_map: GenericMap) -> NDArray[np.bool_]:
    """Pixels that can be used, True = valid: finite, not masked, not the header's value for missing data.

    That value is ANA_MISS, MISSING or BLANK, the last one of whole numbers, or negative.

    Parameters
    ----------
    solar_map : GenericMap
        The map.

    Returns
    -------
    numpy.ndarray
        (ny, nx) boolean.

    Examples
    --------
    >>> from stackalign import solar
    >>> seen = solar.create_test_observation((60, 24), n_frames=2)
    >>> bool(solar.valid_mask(seen.raster).all())
    True
    """
    data = solar_map.data
    valid: NDArray[np.bool_] = np.isfinite(data)
    if solar_map.mask is not None:
        valid &= ~np.asarray(solar_map.mask, bool)
    for key in ("ana_miss", "missing", "blank"):
        value = solar_map.meta.get(key)
        if not isinstance(value, (int, float)) or not np.isfinite(value):
            continue
        # BLANK is of the stored whole numbers: in a file's data, scaled to fractions, it has become NaN.
        if key != "blank" or data.dtype.kind in "iu" or value < 0:
            valid &= data != value
    return valid
