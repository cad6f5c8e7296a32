"""Averages around a centre: over rings, or over parts of rings."""

import functools
import hashlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stackalign._carriers import plain_array
from stackalign._masks import check_mask
from stackalign.backends import Array
from stackalign.backends._bins import BinTable

from . import _check

__all__ = ["AzimuthalAverage", "AzimuthalGeometry", "azimuthal_average", "azimuthal_geometry"]

FRACTIONS = 4096
"""A pixel that is split is so in parts of this: the product of two fits `WEIGHT_STEP`."""
MOST_BINS = 2**26
CACHED = 8


@dataclass(frozen=True, eq=False)
class AzimuthalGeometry:
    """Which pixels belong to which ring; see `azimuthal_geometry`.

    Parameters
    ----------
    shape : tuple of int
        (H, W) of the images that it is for.
    center : tuple of float
        (y, x), in pixel indices.
    radius : numpy.ndarray
        (R,) radii of the rings, in pixels: multiples of `step`.
    angle : numpy.ndarray, optional
        (A,) middles of the sectors, in degrees; None for whole rings, or rings within angular bounds.
    step : float
    split : bool
    table : BinTable
        For the backends.
    """

    shape: tuple[int, int]
    center: tuple[float, float]
    radius: NDArray[np.float64]
    angle: NDArray[np.float64] | None
    step: float
    split: bool
    table: BinTable

    @property
    def result_shape(self) -> tuple[int, ...]:
        """(R,) or (A, R)."""
        return self.radius.shape if self.angle is None else (self.angle.size, self.radius.size)


@dataclass(frozen=True)
class AzimuthalAverage:
    """Averages of one image or of a stack, (R,), (A, R), (N, R) or (N, A, R), arrays of the home of the images.

    Parameters
    ----------
    mean : array
        float64, NaN where no valid pixel is.
    variance : array
        float64 variance of the pixels of a ring about their mean (ddof 0), NaN where no valid pixel is.
    weight : array
        float64 number of valid pixels, with their fractions where pixels are split.
    geometry : AzimuthalGeometry
    """

    mean: Array
    variance: Array
    weight: Array
    geometry: AzimuthalGeometry


def azimuthal_geometry(
    shape: tuple[int, int],
    center: ArrayLike,
    *,
    mask: NDArray[np.bool_] | None = None,
    n_angles: int | None = None,
    angular_bounds: tuple[float, float] | None = None,
    radial_bounds: tuple[float, float] | None = None,
    step: float = 1.0,
    split: bool = False,
    ellipse: tuple[float, float] | None = None,
) -> AzimuthalGeometry:
    """Assign pixels to rings once, for any number of images.

    Parameters
    ----------
    shape : tuple of int
        (H, W) of the images.
    center : array_like
        (y, x) in pixel indices; may lie outside the image.
    mask : numpy.ndarray, optional
        Boolean (H, W), True = valid.
    n_angles : int, optional
        Number of sectors, of equal width, from the first angular bound (0 by default): a polar image. By default whole
        rings are averaged.
    angular_bounds : tuple of float, optional
        (first, last) in degrees, both included; the range goes from the first upwards and may wrap: (340, 20) is 40
        degrees wide. Angles are 0 on +x and grow as rotations in `stackalign.transforms` turn, counter-clockwise as an
        array is printed: 90 is on -y.
    radial_bounds : tuple of float, optional
        Smallest and largest radius of a ring, in pixels. By default from 0 to the farthest pixel that counts.
    step : float
        Distance of the rings, in pixels.
    split : bool
        False: a pixel belongs to the ring that is nearest to its middle, and to the sector in which that lies. True: it
        is shared by the two nearest rings, and sectors, linearly by distance: less noise where rings have few pixels,
        and less sharp by a fraction of a pixel.
    ellipse : tuple of float, optional
        (ratio, angle) of rings that are distorted: their longer semi-axis by the shorter, and the angle of the longer
        in degrees, as above. The radius is then that of the circle of the same area.

    Returns
    -------
    AzimuthalGeometry

    Raises
    ------
    ValueError
        Bounds are equal, the mask has another shape, no pixel is left, or a number makes no sense.

    Examples
    --------
    >>> import numpy as np
    >>> import stackalign as sa
    >>> geometry = sa.azimuthal_geometry((64, 64), (31.5, 31.5), n_angles=4, radial_bounds=(5, 20))
    >>> geometry.result_shape, geometry.angle
    ((4, 16), array([ 45., 135., 225., 315.]))
    """
    height, width = (int(side) for side in shape)
    (middle,) = _check.points(center, 1, "center")
    if mask is not None:
        mask = check_mask(plain_array(mask, None, "mask"), (height, width), of="the images")
    if not (math.isfinite(step) and step > 0):
        msg = f"step must be a positive number of pixels, got {step}"
        raise ValueError(msg)
    if n_angles is not None and (n_angles < 1 or int(n_angles) != n_angles):
        msg = f"n_angles must be a positive whole number, got {n_angles}"
        raise ValueError(msg)
    first, span = _sector(angular_bounds)
    dy = np.arange(height)[:, None] - middle[0]
    dx = np.arange(width)[None, :] - middle[1]
    radius = _radii(dy, dx, ellipse).ravel()
    used = np.ones(radius.shape, bool) if mask is None else mask.ravel()
    along = None
    if span < 360 or n_angles is not None:
        angles = (np.rad2deg(np.arctan2(-dy, dx)).ravel() - first) % 360.0
        angles[angles > 360.0 - 1e-9] = 0.0  # rounding below the first bound
        used = used & (angles <= span + 1e-9)
        along = angles
    low, high = _rings(radius[used], radial_bounds, step)
    n_radii = high - low + 1
    sectors = 1 if n_angles is None else int(n_angles)
    if n_radii * sectors > MOST_BINS:
        msg = f"{n_radii} radii x {sectors} angles are more than {MOST_BINS} bins; take a larger step or fewer angles"
        raise ValueError(msg)
    entries = _parts(radius / step - low, n_radii, split, wrap=False)
    angle: NDArray[np.float64] | None = None
    if n_angles is not None and along is not None:
        across = _across(along, sectors, span, split)
        entries = [(np.where((r < 0) | (a < 0), -1, a * n_radii + r), f * g) for a, f in across for r, g in entries]
        angle = ((first + (np.arange(sectors) + 0.5) * (span / sectors)) % 360.0).astype(np.float64)
    table = _table(entries, used, n_radii * sectors, split)
    y, x = middle.tolist()
    return AzimuthalGeometry(
        (height, width), (y, x), np.arange(float(low), float(high + 1)) * step, angle, step, split, table
    )


def _sector(bounds: tuple[float, float] | None) -> tuple[float, float]:
    """First angle and width, in degrees."""
    if bounds is None:
        return 0.0, 360.0
    first, last = (float(b) for b in bounds)
    if not (math.isfinite(first) and math.isfinite(last)) or first == last:
        msg = f"angular_bounds must be two different angles in degrees, (first, last), got {tuple(bounds)}"
        raise ValueError(msg)
    span = 360.0 if abs(last - first) >= 360.0 else (last - first) % 360.0
    return first, span


def _radii(dy: NDArray[Any], dx: NDArray[Any], ellipse: tuple[float, float] | None) -> NDArray[np.float64]:
    if ellipse is None:
        return np.asarray(np.hypot(dy, dx))
    ratio, angle = (float(v) for v in ellipse)
    if not (math.isfinite(angle) and math.isfinite(ratio) and ratio >= 1):
        msg = f"ellipse must be (longer axis / shorter axis, angle of the longer in degrees), got {ellipse}"
        raise ValueError(msg)
    c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    longer, shorter = c * dx - s * dy, s * dx + c * dy
    return np.asarray(np.hypot(longer / math.sqrt(ratio), shorter * math.sqrt(ratio)))


def _rings(radii: NDArray[np.float64], bounds: tuple[float, float] | None, step: float) -> tuple[int, int]:
    """Numbers of the first and the last ring."""
    if not radii.size:
        msg = "no pixel is left: the mask or the angular bounds exclude all; is the mask True where pixels are valid?"
        raise ValueError(msg)
    if bounds is None:
        return 0, int(np.rint(radii.max() / step))
    low, high = (float(b) for b in bounds)
    if not (0 <= low < high < math.inf):
        msg = f"radial_bounds must be two radii in pixels, 0 <= smallest < largest, got {tuple(bounds)}"
        raise ValueError(msg)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    if first > last:
        msg = f"radial_bounds {tuple(bounds)} hold no multiple of the step, {step}"
        raise ValueError(msg)
    return first, last


def _parts(
    position: NDArray[np.float64], size: int, split: bool, wrap: bool
) -> list[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Bins, -1 for none, and weights of the parts of each pixel."""
    if not split:
        nearest = np.rint(position).astype(np.int64)
        return [(np.where((nearest < 0) | (nearest >= size), -1, nearest), np.ones(1, np.float32))]
    scaled = np.rint(position * FRACTIONS).astype(np.int64)
    below, part = scaled // FRACTIONS, (scaled % FRACTIONS).astype(np.float32) / np.float32(FRACTIONS)
    entries = []
    for index, weight in ((below, 1 - part), (below + 1, part)):
        wrapped = index % size if wrap else index
        entries.append((np.where((wrapped < 0) | (wrapped >= size) | (weight == 0), -1, wrapped), weight))
    return entries


def _across(
    angles: NDArray[np.float64], sectors: int, span: float, split: bool
) -> list[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """`_parts` of pixels at angles in degrees from the first bound, among sectors that share `span` degrees."""
    position = angles * (sectors / span) - (0.5 if split else 0.0)
    if not split:
        position = np.minimum(np.floor(position), sectors - 1)
    elif span < 360:
        position = position.clip(0, sectors - 1)
    return _parts(position, sectors, split, wrap=span == 360)


def _table(
    entries: list[tuple[NDArray[np.int64], NDArray[np.float32]]], used: NDArray[np.bool_], n_bins: int, split: bool
) -> BinTable:
    labels = np.stack([np.where(used & (b >= 0), b, n_bins) for b, _ in entries], axis=1).astype(np.int32)
    weights = np.ascontiguousarray(np.stack([w for _, w in entries], axis=1)) if split else None
    return BinTable(np.ascontiguousarray(labels), weights, n_bins)


@functools.lru_cache(maxsize=CACHED)
def _cached(
    shape: tuple[int, int], center: tuple[float, float], mask: "_Mask | None", options: Any
) -> AzimuthalGeometry:
    return azimuthal_geometry(shape, center, mask=None if mask is None else mask.array, **dict(options))


class _Mask:
    """A mask that is equal to another of the same content, without keeping it."""

    def __init__(self, array: NDArray[np.bool_]) -> None:
        self.array: Any = array
        self.key = array.shape, hashlib.blake2b(np.packbits(array).tobytes(), digest_size=16).digest()

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Mask) and self.key == other.key


def azimuthal_average(
    images: Array,
    center: ArrayLike | AzimuthalGeometry,
    *,
    mask: Array | None = None,
    n_angles: int | None = None,
    angular_bounds: tuple[float, float] | None = None,
    radial_bounds: tuple[float, float] | None = None,
    step: float = 1.0,
    split: bool = False,
    ellipse: tuple[float, float] | None = None,
    workers: int | None = None,
) -> AzimuthalAverage:
    """Average images over rings around a centre, or over parts of rings.

    Parameters
    ----------
    images : array
        (H, W) or (N, H, W), integers of up to 32 bits or floats; NaN and infinite pixels are invalid.
    center : array_like or AzimuthalGeometry
        (y, x) for all images, in pixel indices. A geometry stands for all that follows; its own mask holds in addition.
    mask : array, optional
        Boolean (H, W) or (N, H, W), True = valid.
    n_angles : int, optional
        Number of sectors for a polar image; see `azimuthal_geometry`, as for all that follows.
    angular_bounds : tuple of float, optional
        (first, last) in degrees; may wrap.
    radial_bounds : tuple of float, optional
        Smallest and largest radius, in pixels.
    step : float
        Distance of the rings, in pixels.
    split : bool
        Share pixels between the two nearest rings.
    ellipse : tuple of float, optional
        (ratio, angle) of distorted rings.
    workers : int, optional
        Number of CPU threads; one per core by default. Results do not depend on it.

    Returns
    -------
    AzimuthalAverage
        Without the axis of images for a single image.

    Raises
    ------
    ValueError
        Bounds are equal, a shape does not fit, no pixel is left, or a number makes no sense.

    Notes
    -----
    The geometries of the last calls are kept, with masks of one image: the same centre, mask and options cost nothing
    again.

    Examples
    --------
    >>> import numpy as np
    >>> import stackalign as sa
    >>> y, x = np.mgrid[:5, :5]
    >>> image = (y - 2.0) ** 2 + (x - 2.0) ** 2
    >>> profile = sa.azimuthal_average(image, (2, 2), radial_bounds=(0, 2))
    >>> profile.weight, profile.mean  # ring 2 holds 4 pixels at 2 and 8 at the square root of 5
    (array([ 1.,  8., 12.]), array([0.        , 1.5       , 4.66666667]))
    """
    backend, stack, single = _check.stack(images, "images", mask)
    valid = _check.mask_array(mask, stack)
    frame = (int(stack.shape[1]), int(stack.shape[2]))
    if isinstance(center, AzimuthalGeometry):
        if (n_angles, angular_bounds, radial_bounds, step, split, ellipse) != (None, None, None, 1.0, False, None):
            msg = "options belong to azimuthal_geometry where a geometry is given"
            raise ValueError(msg)
        geometry = center
    else:
        (middle,) = _check.points(center, 1, "center")
        own = None
        if valid is not None and valid.shape[0] == 1:
            own, valid = _Mask(backend.to_numpy(valid)[0]), None
        options = (
            ("n_angles", n_angles),
            ("angular_bounds", None if angular_bounds is None else tuple(angular_bounds)),
            ("radial_bounds", None if radial_bounds is None else tuple(radial_bounds)),
            ("step", float(step)),
            ("split", bool(split)),
            ("ellipse", None if ellipse is None else tuple(ellipse)),
        )
        geometry = _cached(frame, tuple(middle.tolist()), own, options)
        if own is not None:
            own.array = None
    if geometry.shape != frame:
        msg = f"the geometry is for images of the shape {geometry.shape}, got {frame}"
        raise ValueError(msg)
    weight, mean, m2 = backend.bin_sums(stack, valid, geometry.table, _check.n_workers(workers))
    shape = geometry.result_shape if single else (len(stack), *geometry.result_shape)
    # Where there is no weight the mean is NaN, and so is what is multiplied by it.
    variance = m2 / (weight + (weight == 0)) + 0.0 * mean
    return AzimuthalAverage(mean.reshape(shape), variance.reshape(shape), weight.reshape(shape), geometry)
