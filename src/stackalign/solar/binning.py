"""Maps with larger pixels: the mean of those that are valid, with the header to match."""

from typing import Any

import astropy.units as u
import numpy as np
from astropy.units import Quantity
from numpy.typing import NDArray
from sunpy.map import GenericMap

from .frames import step_arcsec
from .headers import as_map, new_map, valid_mask
from .pixels import PixelTransform
from .wcs import regridded_header

__all__ = ["bin_factors", "bin_map"]


def bin_factors(solar_map: GenericMap, kernel: Quantity) -> tuple[int, int]:
    """Whole numbers (ny, nx) of pixels whose length on the sky is nearest to `kernel`, an angle; at least 1.

    Each axis is measured through the whole matrix: on a rolled raster CDELT alone is not the length of a pixel.
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
    kind = np.float64 if image.dtype == np.float64 else np.float32
    ny, nx = (-(-n // k) for n, k in zip(image.shape, factors, strict=True))
    padding = [(0, n * k - size) for n, k, size in zip((ny, nx), factors, image.shape, strict=True)]
    blocks = (ny, factors[0], nx, factors[1])
    use = np.pad(valid, padding).reshape(blocks)
    total = np.pad(np.where(valid, image, 0).astype(np.float64), padding).reshape(blocks).sum(axis=(1, 3))
    count = use.sum(axis=(1, 3))
    enough = count >= max(1.0, min_valid * factors[0] * factors[1])
    mean: NDArray[Any] = np.divide(total, count, out=np.full((ny, nx), np.nan), where=enough)
    return mean.astype(kind)
