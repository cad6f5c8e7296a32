"""Radial profiles and polar images of diffraction patterns."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from stackalign import ops
from stackalign._results import Tabular
from stackalign._types import FloatArray
from stackalign.backends._threads import governed
from stackalign.io.provenance import provenance, to_jsonable

from ._inputs import checked_images

__all__ = ["AzimuthalProfile", "azimuthal_average"]


@dataclass(frozen=True)
class AzimuthalProfile(Tabular):
    """Averages around the centre of one image, (R,) or (A, R), or of N images, (N, R) or (N, A, R), on the host.

    Parameters
    ----------
    radius : numpy.ndarray
        (R,) in pixels.
    angle : numpy.ndarray or None
        (A,) middles of the sectors of a polar image, in degrees; None for profiles.
    intensity : numpy.ndarray
        Mean of the valid pixels, NaN where there is none.
    variance : numpy.ndarray
        Of these pixels about their mean (ddof 0), NaN where there is none.
    weight : numpy.ndarray
        Number of valid pixels, with their fractions where pixels are split.
    centers : numpy.ndarray
        (2,) or (N, 2): (row, col) in pixel indices.
    provenance : dict
        Device, versions and settings.
    """

    radius: FloatArray
    angle: FloatArray | None
    intensity: FloatArray
    variance: FloatArray
    weight: FloatArray
    centers: FloatArray
    provenance: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def standard_error(self) -> FloatArray:
        """Error of the mean from the scatter of the pixels themselves; NaN where there are not more than one."""
        spare = self.weight - 1.0
        with np.errstate(invalid="ignore", divide="ignore"):
            error: FloatArray = np.sqrt(np.where(spare > 0, self.variance / spare, np.nan))
        return error

    def columns(self) -> dict[str, Any]:
        """Return a table by columns, one row a ring: of each image, and of each sector of a polar image."""
        flat = {name: getattr(self, name).reshape(-1) for name in ("intensity", "variance", "weight", "standard_error")}
        n = flat["intensity"].size
        table: dict[str, Any] = {}
        sectors = 1 if self.angle is None else self.angle.size
        if self.centers.ndim == 2:
            table["image"] = np.repeat(np.arange(len(self.centers)), n // max(1, len(self.centers)))
        if self.angle is not None:
            table["angle"] = np.tile(np.repeat(self.angle, self.radius.size), n // (sectors * self.radius.size))
        return table | {"radius": np.tile(self.radius, n // self.radius.size)} | flat

    def column_units(self) -> dict[str, str]:
        """Units of the columns that have one."""
        return {"radius": "pix", "angle": "deg"}

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON knows them; NaN becomes None."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        plain = to_jsonable(fields | {"standard_error": self.standard_error})
        assert isinstance(plain, dict)
        return plain


@governed
def azimuthal_average(
    images: Any,
    center: ArrayLike,
    *,
    mask: Any = None,
    n_angles: int | None = None,
    angular_bounds: tuple[float, float] | None = None,
    radial_bounds: tuple[float, float] | None = None,
    step: float = 1.0,
    split: bool = False,
    ellipse: tuple[float, float] | None = None,
    device: str = "auto",
    workers: int | None = None,
) -> AzimuthalProfile:
    """Average the intensity around the centre, over whole rings (a profile) or over sectors (a polar image).

    Parameters
    ----------
    images : array
        (H, W) or (N, H, W), real numbers; NaN and infinite pixels are invalid.
    center : array_like
        (row, col) for all images, or (N, 2), in pixel indices.
    mask : array, optional
        Boolean (H, W) or (N, H, W), True = valid.
    n_angles : int, optional
        Number of sectors, of equal width: a polar image. By default whole rings are averaged.
    angular_bounds : tuple of float, optional
        (first, last) in degrees, both included; the range goes upwards from the first and may wrap: (340, 20) is 40
        degrees wide. 0 is on +col, and 90 on -row: counter-clockwise as an array is printed.
    radial_bounds : tuple of float, optional
        Smallest and largest radius, in pixels. By default from 0 to the farthest valid pixel.
    step : float
        Distance of the rings, in pixels.
    split : bool
        False: a pixel belongs to the ring that is nearest to its middle. True: it is shared by the two nearest rings,
        and sectors, linearly: smoother where rings have few pixels or the centre lies exactly between four pixels, less
        sharp by a fraction of a pixel.
    ellipse : tuple of float, optional
        (ratio, angle) of rings that are distorted: their longer semi-axis by the shorter, and the angle of the longer
        in degrees, as above. The radius is then that of the circle of the same area.
    device : str
        "cpu", "cuda", "cuda:n" or "auto", see `stackalign.asarray`.
    workers : int, optional
        Number of CPU threads; one per core by default. Results do not depend on it.

    Returns
    -------
    AzimuthalProfile
        Where centres differ, all profiles have the length of the longest.

    Raises
    ------
    ValueError
        Bounds are equal, a shape does not fit, no pixel is left, or a number makes no sense.

    Warns
    -----
    StackalignWarning
        A mask leaves less than 5 % of an image: is its polarity right? True = valid.

    Notes
    -----
    Which pixel belongs to which ring is worked out once for all images of the same centre and mask, and kept for the
    next call.

    Examples
    --------
    >>> import numpy as np
    >>> from stackalign import diffraction
    >>> y, x = np.mgrid[:101, :101]
    >>> image = np.exp(-((np.hypot(y - 50, x - 50) - 30) ** 2) / 8)  # a ring
    >>> profile = diffraction.azimuthal_average(image, (50, 50))
    >>> float(profile.radius[profile.intensity.argmax()])
    30.0
    """
    values, valid, single = checked_images(images, mask, device)
    n = len(values)
    centers = ops.asarray(center, "cpu", np.float64)
    if centers.shape not in ((2,), (n, 2)) or not np.isfinite(centers).all():
        msg = f"center must be one finite (row, col) or have the shape ({n}, 2), got {centers.shape}"
        raise ValueError(msg)
    options: dict[str, Any] = {
        "n_angles": n_angles, "angular_bounds": angular_bounds, "radial_bounds": radial_bounds, "step": step,
        "split": split, "ellipse": ellipse,
    }  # fmt: skip
    alike = np.unique(centers.reshape(-1, 2), axis=0)
    if len(alike) == 1:
        profiles = [ops.azimuthal_average(values, alike[0], mask=valid, workers=workers, **options)]
    else:
        profiles = [
            ops.azimuthal_average(
                values[k : k + 1],
                middle,
                mask=None if valid is None else valid[k if len(valid) > 1 else 0],
                workers=workers,
                **options,
            )
            for k, middle in enumerate(centers)
        ]
    longest = max((f.geometry for f in profiles), key=lambda g: g.radius.size)
    size = longest.radius.size
    intensity = _joined([ops.to_numpy(f.mean) for f in profiles], size, np.nan)
    variance = _joined([ops.to_numpy(f.variance) for f in profiles], size, np.nan)
    weight = _joined([ops.to_numpy(f.weight) for f in profiles], size, 0.0)
    record = provenance(options | {"center": centers}, [], device=ops.device_of(values))
    if single:
        intensity, variance, weight, centers = intensity[0], variance[0], weight[0], centers.reshape(2)
    return AzimuthalProfile(longest.radius, longest.angle, intensity, variance, weight, centers, record)


def _joined(parts: list[FloatArray], size: int, fill: float) -> FloatArray:
    """Profiles of all images, the shorter ones filled up."""
    if len(parts) == 1:
        return parts[0]
    out = np.full((len(parts), *parts[0].shape[1:-1], size), fill)
    for k, part in enumerate(parts):
        out[k, ..., : part.shape[-1]] = part[0]
    return out
