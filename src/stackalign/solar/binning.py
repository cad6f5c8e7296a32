"""Maps with larger pixels: the mean of those that are valid, with the header to match."""

from typing import Any

import astropy.units as u
import numpy as np
from astropy.units import Quantity
from numpy.typing import NDArray
from sunpy.map import GenericMap

from stackalign.ops import bin_mean

from .directions import step_arcsec
from .maps import new_map
from .pixels import PixelTransform
from .reading import as_map
from .valid import valid_mask
from .wcs import regridded_header

__all__ = ["bin_factors", "bin_map"]


def bin_factors(solar_map: GenericMap, kernel: Quantity) -> tuple[int, int]:
    """Whole numbers of pixels whose length on the sky is nearest to an angle.

    Each axis is measured through the whole matrix: on a rolled raster CDELT alone is not the length of a pixel.

    Parameters
    ----------
    solar_map : GenericMap
        The map.
    kernel : Quantity
        Side of a block on the sky, an angle.

    Returns
    -------
    tuple of int
        (ny, nx), at least 1.

    Examples
    --------
    >>> import astropy.units as u
    >>> from stackalign import solar
    >>> seen = solar.create_test_observation((60, 24), n_frames=2)
    >>> solar.bin_factors(seen.raster, 32 * u.arcsec)
    (8, 4)
    """
    size = float(Quantity(kernel).to_value(u.arcsec))
    if not (np.isfinite(size) and size > 0):
        msg = f"kernel must be a positive angle, got {kernel}"
        raise ValueError(msg)
    x, y = (max(1, round(size / step)) for step in step_arcsec(solar_map.wcs))
    return y, x


def bin_map(source: Any, factors: tuple[int, int] | Quantity, *, min_valid: float = 0.5) -> GenericMap:
    """Average blocks of pixels, of the valid ones, with the header to match.

    Parameters
    ----------
    source : GenericMap
        Or what else `as_map` takes.
    factors : (int, int) or Quantity
        Pixels (ny, nx) of a block; or its size on the sky, see `bin_factors`.
    min_valid : float
        Share of a block's pixels that must be valid, else it is NaN. A block that reaches over the edge of the image
        has those that are inside.

    Returns
    -------
    GenericMap
        float32, or float64 for float64 data; NaN is the only mask.

    Examples
    --------
    >>> import astropy.units as u
    >>> from stackalign import solar
    >>> seen = solar.create_test_observation((60, 24), n_frames=2)
    >>> solar.bin_map(seen.raster, 32 * u.arcsec).data.shape, solar.bin_map(seen.raster, (2, 3)).data.shape
    ((8, 6), (30, 8))
    """
    solar_map = as_map(source)
    ky, kx = bin_factors(solar_map, factors) if isinstance(factors, Quantity) else factors
    if ky < 1 or kx < 1 or ky != int(ky) or kx != int(kx):
        msg = f"factors must be two whole numbers of at least 1, got {(ky, kx)}"
        raise ValueError(msg)
    if not 0 <= min_valid <= 1:
        msg = f"min_valid must be between 0 and 1, got {min_valid}"
        raise ValueError(msg)
    binned = _block_mean(solar_map.data, valid_mask(solar_map), (int(ky), int(kx)), min_valid)
    grid = PixelTransform(np.diag([float(kx), float(ky)]), np.array([(kx - 1) / 2, (ky - 1) / 2]))
    return new_map(binned, regridded_header(solar_map.meta, grid, shape=binned.shape), solar_map)


def _block_mean(
    image: NDArray[Any], valid: NDArray[np.bool_], factors: tuple[int, int], min_valid: float
) -> NDArray[Any]:
    """Mean of the valid pixels of each block; the image is padded with invalid ones up to whole blocks."""
    padding = [(0, -size % k) for k, size in zip(factors, image.shape, strict=True)]
    native = np.pad(image, padding).astype(image.dtype.newbyteorder("="), copy=False)
    mean, count = bin_mean(native, factors, mask=np.pad(valid, padding), return_count=True)
    enough = count >= max(1.0, min_valid * factors[0] * factors[1])
    kept: NDArray[Any] = np.where(enough, mean, np.nan).astype(mean.dtype, copy=False)
    return kept
