"""What an imager would have seen through the slit: a raster built from its frames, column by column."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.units import Quantity
from astropy.wcs import WCS
from numpy.typing import NDArray
from sunpy.map import GenericMap

from stackalign._types import FloatArray
from stackalign.errors import DataError

from .directions import step_arcsec
from .distortion import Distortion
from .frames import name_of, surface_radius
from .framestore import frame_image
from .mapping import check_screen, pixels_to_pixels
from .maps import new_map
from .plan import RasterPlan, plan_synthetic_raster
from .reading import as_map
from .sampling import map_by_rows, masked_blur, sample
from .valid import valid_mask

__all__ = ["SyntheticRaster", "build_synthetic_raster", "build_synthetic_raster_from_maps"]

FWHM = 2.0 * np.sqrt(2.0 * np.log(2.0))


@dataclass(frozen=True)
class SyntheticRaster:
    """A synthetic raster, the plan it was made by, and the share of its pixels that the frames covered."""

    map: GenericMap
    plan: RasterPlan
    coverage: float


def build_synthetic_raster(
    raster: Any,
    frames: Sequence[Any],
    *,
    threshold_time: Any = None,
    method: str = "nearest",
    rotation: str | None = "howard",
    height: float = 1.0,
    screen: str = "nearest",
    order: int = 3,
    times: Any = None,
    observer: SkyCoord | None = None,
    psf_fwhm: Quantity | None = None,
    exposure_samples: int = 1,
    oversample: tuple[int, int] = (1, 1),
    on_bad_frame: str = "raise",
    plan: RasterPlan | None = None,
    distortion: Distortion | None = None,
) -> SyntheticRaster:
    """Sample an imager's frames where and when a raster's slit was.

    Each column is a direction from where the spacecraft was at the column's own time; the solar surface in that
    direction is turned to the time of the frame, and looked for in the frame from where that was taken.

    Parameters
    ----------
    raster : GenericMap
        With a time axis, or with `times`.
    frames : sequence of GenericMap or path-like
        In any order. Files are read one at a time, when their turn comes, and only those that serve.
    threshold_time : timedelta64, timedelta, Quantity or float, optional
        Longest time from a column to its frame, in seconds where no unit is given; none by default.
    method : {"nearest", "linear"}
        One frame for each column, or the two around it weighted by time.
    rotation : str, optional
        Model of the rotation over that time; None leaves the surface where it is.
    height : float
        Radius of the surface in solar radii; 1.004 for 17.4 nm.
    screen : {"nearest", "sphere", "plane"}
        Where what is seen beyond the limb is taken to be, see `pixel_mapping`.
    order : {1, 3}
        Of the interpolation: bilinear, or the cubic spline through the pixels.
    times : array-like, optional
        (N,) of the columns, instead of the header's time axis.
    observer : SkyCoord, optional
        Positions of the raster's spacecraft with their obstime, from an ephemeris; by default those of the frames are
        interpolated, where they were taken from the same spacecraft.
    psf_fwhm : Quantity, optional
        Angle: the frames are blurred by a Gaussian of this full width at half maximum, to be as soft as the raster.
    exposure_samples : int
        Number of moments over the exposure (XPOSURE) whose mean a column is.
    oversample : (int, int)
        Points (ny, nx) in each of the raster's pixels whose mean it is, where the frames have the smaller pixels.
    on_bad_frame : {"raise", "skip"}
        What to do with a frame that cannot be read.
    plan : RasterPlan, optional
        From `plan_synthetic_raster` for a raster of the same times, when it is built again with another pointing.
    distortion : Distortion, optional
        Where the raster's pixels are, if not where the linear header has them.

    Returns
    -------
    SyntheticRaster
        NaN where the frames have nothing valid.

    Raises
    ------
    DataError
        A column has no frame within `threshold_time`, the raster has no time axis, a frame cannot be read, or the
        frames do not cover any of the raster.

    Examples
    --------
    >>> import numpy as np
    >>> from stackalign import solar
    >>> seen = solar.create_test_observation((60, 24), n_frames=2)
    >>> made = solar.build_synthetic_raster(seen.truth, seen.frames)
    >>> made.coverage
    1.0
    >>> bool(np.corrcoef(made.map.data.ravel(), seen.truth.data.ravel())[0, 1] > 0.99)
    True
    """
    solar_map = as_map(raster)
    if plan is None:
        plan = plan_synthetic_raster(
            solar_map,
            frames,
            threshold_time=threshold_time,
            method=method,
            times=times,
            observer=observer,
            on_bad_frame=on_bad_frame,
        )
    if exposure_samples < 1 or min(oversample) < 1:
        msg = f"exposure_samples and oversample must be at least 1, got {exposure_samples} and {oversample}"
        raise ValueError(msg)
    slit = _Slit(
        solar_map,
        solar_map.wcs,
        plan,
        surface_radius(solar_map, height),
        rotation,
        exposure_samples,
        oversample,
        check_screen(screen),
        distortion,
    )
    data, described = _sampled(slit, psf_fwhm, order)
    coverage = float(np.isfinite(data).mean())
    if coverage == 0 or described is None:
        msg = f"the frames do not cover {name_of(solar_map)}; check their pointing, observers and dates"
        raise DataError(msg)
    made = new_map(data, _synthetic_header(solar_map, described, len(plan.used)), solar_map)
    made.mask = None
    return SyntheticRaster(made, plan, coverage)


@dataclass(frozen=True)
class _Slit:
    """Where columns of the raster lie in frames."""

    raster: GenericMap
    wcs: WCS
    plan: RasterPlan
    radius: float
    rotation: str | None
    moments: int
    oversample: tuple[int, int]
    screen: str
    distortion: Distortion | None = None

    def points(self, index: int, columns: NDArray[np.intp]) -> FloatArray:
        """Pixels (ny, columns, samples, 2) of a frame that show columns of the raster, in one call for all."""
        ny = self.raster.data.shape[0]
        exposure = float(self.raster.meta.get("xposure") or self.raster.meta.get("exptime") or 0.0)
        # Pixels times moments: each sample has a place in its pixel and a moment of the exposure.
        dy, dx, dt = (
            part.ravel()
            for part in np.meshgrid(
                *((np.arange(n) + 0.5) / n - 0.5 for n in (*self.oversample, self.moments)), indexing="ij"
            )
        )
        pixel = np.empty((ny, len(columns), len(dt), 2))
        pixel[..., 0] = columns[:, None] + dx
        pixel[..., 1] = np.arange(ny)[:, None, None] + dy
        later = dt * exposure
        to_frame = (self.plan.frame_times[index] - self.plan.times[columns]).to_value(u.s)
        positions = self._positions(columns, later)
        frame = self.plan.sources[index].wcs

        def mapping(points: FloatArray) -> FloatArray:
            return pixels_to_pixels(
                points if self.distortion is None else self.distortion(points),
                self.wcs,
                positions,
                frame,
                self.plan.frame_positions[index],
                radius=self.radius,
                seconds=np.asarray(to_frame)[:, None] - later,
                rotation=self.rotation,
                screen=self.screen,
            )

        return map_by_rows(mapping, pixel)

    def _positions(self, columns: NDArray[np.intp], later: FloatArray) -> FloatArray:
        """(columns, samples, 3): the spacecraft at each moment of the exposures, by the velocity between columns."""
        seconds = np.asarray((self.plan.times - self.plan.times[0]).to_value(u.s))
        positions = self.plan.positions
        velocity = np.zeros(3)
        if np.ptp(seconds) > 0:
            ends = [int(seconds.argmin()), int(seconds.argmax())]
            velocity = (positions[ends[1]] - positions[ends[0]]) / np.ptp(seconds)
        return positions[columns][:, None] + later[:, None] * velocity


def _sampled(slit: _Slit, psf_fwhm: Quantity | None, order: int) -> tuple[FloatArray, GenericMap | None]:
    """Mean of the frames in the raster's pixels, weighted by time; and the first frame, whose header describes all."""
    plan = slit.plan
    data = np.zeros(slit.raster.data.shape)
    described: GenericMap | None = None
    for index in plan.used:
        image = frame_image(plan.sources[index])
        described = image if described is None else described
        pixels, valid = _prepared(image, psf_fwhm)
        weight = (plan.weights * (plan.frames == index)).sum(axis=1)
        columns = np.flatnonzero(weight > 0)
        values = sample(pixels, valid, slit.points(index, columns), order=order)
        data[:, columns] += weight[columns] * _mean(values)
    return data, described


def _prepared(image: GenericMap, psf_fwhm: Quantity | None) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    valid = valid_mask(image)
    if psf_fwhm is None:
        return image.data, valid
    width = float(Quantity(psf_fwhm).to_value(u.arcsec))
    if not width > 0:
        msg = f"psf_fwhm must be a positive angle, got {psf_fwhm}"
        raise ValueError(msg)
    x, y = width / FWHM / step_arcsec(image.wcs)
    return masked_blur(image.data, valid, (y, x)), valid


def _mean(values: FloatArray) -> FloatArray:
    """Mean over the last axis of what is finite; NaN where nothing is."""
    if values.shape[-1] == 1:
        return np.asarray(values[..., 0])
    known = np.isfinite(values)
    count = known.sum(axis=-1)
    total = np.where(known, values, 0.0).sum(axis=-1)
    mean: FloatArray = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return mean


def _synthetic_header(raster: GenericMap, frame: GenericMap, n_frames: int) -> Any:
    """The raster's header with the frame's description of the values."""
    header = raster.meta.copy()
    for key in ("bunit", "btype", "wavelnth", "waveunit"):
        header.pop(key, None)
        if frame.meta.get(key) not in (None, ""):
            header[key] = frame.meta[key]
    header["synrastr"], header["srcimgs"] = True, n_frames
    return header


def build_synthetic_raster_from_maps(
    spice_map: Any,
    fsi_maps: Sequence[Any],
    threshold_time: Any = None,
    order: int = 2,
    verbose: int = 0,
    *,
    step_times: Any = None,
    **options: Any,
) -> GenericMap:
    """Synthetic raster as a map; see `build_synthetic_raster`, whose `options` it takes.

    Parameters
    ----------
    spice_map : GenericMap
    fsi_maps : sequence of GenericMap or path-like
    threshold_time : timedelta64, optional
        Longest time from a column to its frame.
    order : int
        0 or 1 for bilinear interpolation; what is above takes the cubic spline.
    verbose : int
        Not used: nothing is printed.
    step_times : array-like, optional
        Times of the columns.
    **options
        See `build_synthetic_raster`.

    Returns
    -------
    GenericMap
        What the frames show through the slit.

    Examples
    --------
    >>> from stackalign import solar
    >>> seen = solar.create_test_observation((60, 24), n_frames=2)
    >>> solar.build_synthetic_raster_from_maps(seen.truth, seen.frames).data.shape
    (60, 24)
    """
    spline = 3 if order > 1 else 1
    return build_synthetic_raster(
        spice_map, fsi_maps, threshold_time=threshold_time, order=spline, times=step_times, **options
    ).map
