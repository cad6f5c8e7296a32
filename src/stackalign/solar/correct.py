"""Maps with corrected headers: nothing is resampled."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sunpy.map import GenericMap
from sunpy.util import MetaDict

from stackalign.errors import DataError

from .directions import image_center
from .mapping import PixelMapping, local_transform, pixel_mapping
from .maps import new_map
from .pixels import PixelTransform
from .reading import as_map
from .wcs import corrected_header

__all__ = [
    "build_corrected_wcs_meta_scale_shift",
    "correct_map",
    "find_original_correction",
    "make_corrected_wcs_map",
    "transfer_correction",
]


def correct_map(solar_map: GenericMap, correction: PixelTransform) -> GenericMap:
    """Map with a corrected header; the data are the same array, and mask, uncertainty, unit and plot settings stay.

    Parameters
    ----------
    solar_map : GenericMap
    correction : PixelTransform
        On the map's own pixels; `transfer_correction` brings one from another grid.

    Returns
    -------
    GenericMap
        Of the same class.

    Raises
    ------
    DataError
        See `corrected_header`; or the instrument's class reads the coordinates from other keys than the standard's.

    Examples
    --------
    >>> import numpy as np
    >>> from stackalign import solar
    >>> seen = solar.create_test_observation((60, 24), n_frames=2)
    >>> shift = solar.PixelTransform(np.eye(2), np.array([2.0, -1.0]))
    >>> corrected = solar.correct_map(seen.raster, shift)
    >>> float(corrected.meta["crpix1"] - seen.raster.meta["crpix1"])
    -2.0
    """
    header = solar_map.meta.copy()
    if not any(re.fullmatch(r"(pc|cd)\d_\d", str(key)) for key in header):
        # Some instruments' classes read the angle from keys of their own.
        for (i, j), value in np.ndenumerate(solar_map.rotation_matrix):
            header[f"pc{i + 1}_{j + 1}"] = float(value)
    header = corrected_header(header, correction, shape=solar_map.data.shape)
    corrected = new_map(solar_map.data, header, solar_map)
    ny, nx = solar_map.data.shape
    q = np.array([[0, 0], [nx - 1, 0], [0, ny - 1], [nx - 1, ny - 1], [(nx - 1) / 2, (ny - 1) / 2]], np.float64)
    world = corrected.wcs.wcs_pix2world(q, 0)
    expected = solar_map.wcs.wcs_pix2world(correction(q), 0)
    error = np.abs((world - expected + 180.0) % 360.0 - 180.0).max()
    if not error < 1e-4 * np.abs(solar_map.wcs.pixel_scale_matrix).max():
        msg = f"{type(solar_map).__name__} reads its coordinates from keys that were not corrected; use a plain map"
        raise DataError(msg)
    return corrected


def transfer_correction(
    correction: PixelTransform, to_grid: PixelMapping, from_grid: PixelMapping, shape: tuple[int, ...]
) -> PixelTransform:
    """Bring a correction that was found on another grid to the pixels of an image.

    Parameters
    ----------
    correction : PixelTransform
        On the other grid.
    to_grid, from_grid : callable
        Pixels (..., 2) of the image to pixels of the other grid, and back, by the uncorrected headers.
    shape : tuple of int
        (ny, nx) of the image.

    Returns
    -------
    PixelTransform
        The affine transform nearest to ``from_grid(correction(to_grid(q)))``: its matrix is ``J^-1 A J`` with the local
        Jacobian J of the mapping, so that a scale along the axes of one grid becomes what it is on a rolled one.

    Examples
    --------
    >>> import numpy as np
    >>> from stackalign import solar
    >>> shift = solar.PixelTransform(np.eye(2), np.array([2.0, -1.0]))
    >>> half = lambda points: np.asarray(points) / 2  # the other image has pixels of half the size
    >>> solar.transfer_correction(shift, half, lambda points: np.asarray(points) * 2, (60, 24)).offset.round(6).tolist()
    [4.0, -2.0]
    """
    return local_transform(lambda q: from_grid(correction(to_grid(q))), shape)


# --- names of the first implementation ----------------------------------------


def _scale_shift(solar_map: GenericMap, parameters: Sequence[float], center: ArrayLike | None) -> PixelTransform:
    dx, dy, sx, sy = parameters
    c = image_center(solar_map) if center is None else np.asarray(center, np.float64)[::-1]
    return PixelTransform.about(c, np.diag([sx, sy]), (dx, dy))


def build_corrected_wcs_meta_scale_shift(
    map_in: Any,
    dx_opt: float = 0.0,
    dy_opt: float = 0.0,
    sx_opt: float = 1.0,
    sy_opt: float = 1.0,
    verbose: int = 0,
    *,
    center: ArrayLike | None = None,
) -> MetaDict:
    """Header of a map corrected by ``p = c + s (q - c) + d``; see `corrected_header`.

    Parameters
    ----------
    map_in : GenericMap
    dx_opt, dy_opt, sx_opt, sy_opt : float
        Shift in pixels and scale, as the optimiser returns them.
    verbose : int
        Not used: nothing is printed.
    center : array_like, optional
        (cy, cx) as the optimiser was given it; the middle of the image by default, as there.

    Returns
    -------
    MetaDict
        The new header.

    Examples
    --------
    >>> from stackalign import solar
    >>> seen = solar.create_test_observation((60, 24), n_frames=2)
    >>> meta = solar.build_corrected_wcs_meta_scale_shift(seen.raster, dx_opt=2.0, dy_opt=-1.0)
    >>> float(meta["crpix1"] - seen.raster.meta["crpix1"])
    -2.0
    """
    solar_map = as_map(map_in)
    correction = _scale_shift(solar_map, (dx_opt, dy_opt, sx_opt, sy_opt), center)
    return MetaDict(correct_map(solar_map, correction).meta)


def make_corrected_wcs_map(
    map_in: Any, best_params: Mapping[str, Any], verbose: int = 0, *, center: ArrayLike | None = None
) -> GenericMap:
    """Map corrected by the optimiser's best parameters; missing ones change nothing. See `correct_map`.

    Parameters
    ----------
    map_in : GenericMap
    best_params : mapping
        With the keys dx, dy, squeeze_x and squeeze_y; a key "center" (cy, cx) is used as `center`.
    verbose : int
        Not used: nothing is printed.
    center : array_like, optional
        (cy, cx); the middle of the image by default, as for the optimiser.

    Returns
    -------
    GenericMap
        Of the same class.

    Examples
    --------
    >>> from stackalign import solar
    >>> seen = solar.create_test_observation((60, 24), n_frames=2)
    >>> corrected = solar.make_corrected_wcs_map(
    ...     seen.raster, {"dx": 2.0, "dy": -1.0, "squeeze_x": 1.0, "squeeze_y": 1.0}
    ... )
    >>> float(corrected.meta["crpix1"] - seen.raster.meta["crpix1"])
    -2.0
    """
    solar_map = as_map(map_in)
    middle = best_params.get("center") if center is None else center
    shift_and_scale = [
        float(best_params.get(key, neutral))
        for key, neutral in (("dx", 0.0), ("dy", 0.0), ("squeeze_x", 1.0), ("squeeze_y", 1.0))
    ]
    return correct_map(solar_map, _scale_shift(solar_map, shift_and_scale, middle))


def find_original_correction(corrected_map: Any, uncorrected_map: Any, target_map: Any) -> GenericMap:
    """Express a correction that was found on a reference's grid in the frame of the original raster.

    Parameters
    ----------
    corrected_map, uncorrected_map : GenericMap
        The raster reprojected onto the reference's grid, with the header after and before the correction.
    target_map : GenericMap
        The raster on its own grid.

    Returns
    -------
    GenericMap
        The target with its own frame, observer and date, and the correction in its header.

    Examples
    --------
    >>> import numpy as np
    >>> from stackalign import solar
    >>> seen = solar.create_test_observation((60, 24), n_frames=2)
    >>> shift = solar.PixelTransform(np.eye(2), np.array([2.0, -1.0]))
    >>> corrected = solar.correct_map(seen.raster, shift)
    >>> other = solar.find_original_correction(corrected, seen.raster, seen.raster)
    >>> round(float(other.meta["crpix1"] - seen.raster.meta["crpix1"]), 6)
    -2.0
    """
    corrected, uncorrected, target = as_map(corrected_map), as_map(uncorrected_map), as_map(target_map)
    if corrected.data.shape != uncorrected.data.shape:
        shapes = f"{corrected.data.shape} and {uncorrected.data.shape}"
        msg = f"the corrected and uncorrected maps must be one image, got {shapes}"
        raise DataError(msg)
    correction = local_transform(pixel_mapping(corrected, uncorrected), uncorrected.data.shape)
    to_grid, from_grid = pixel_mapping(target, uncorrected), pixel_mapping(uncorrected, target)
    return correct_map(target, transfer_correction(correction, to_grid, from_grid, target.data.shape))
