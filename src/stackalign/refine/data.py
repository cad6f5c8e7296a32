"""What was measured: a window around each disk, or one image per reflection, with mask and variance."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stackalign._carriers import plain_array
from stackalign._masks import check_mask
from stackalign._types import FloatArray
from stackalign.backends import refuse_hidden

from .beam import Beam
from .crystal import Crystal
from .frames import DisplayFrame
from .simulator import Reflection, as_reflections, reflection_indices

__all__ = ["DiffractionData"]


@dataclass(frozen=True, eq=False)
class DiffractionData:
    """Measured disks and their geometry; see `from_cbed` and `from_larbed`.

    Parameters
    ----------
    images : numpy.ndarray
        (D, H, W), one image or window per reflection. Never changed.
    reflections : tuple of (h, k, l)
        The D reflections.
    frame : DisplayFrame
        Where the images are.
    mask : numpy.ndarray
        (D, H, W) boolean, True = valid; NaN and infinite pixels are invalid too.
    variance : numpy.ndarray, optional
        (D, H, W) of the noise; pixels of zero or unknown variance are invalid.
    corners : numpy.ndarray
        (D, 2) pixel of the experiment at which each window begins.
    offsets : numpy.ndarray
        (D, 2) in 1/angstrom: where the disks lie against that of 000. Zero for LARBED, where the same pixel of all
        images is the same tilt.

    Examples
    --------
    >>> import numpy as np
    >>> from stackalign.refine import DiffractionData, DisplayFrame
    >>> frame = DisplayFrame(gx=0.3, gl=40.0, center=(31.5, 31.5))
    >>> data = DiffractionData.from_larbed(np.ones((2, 64, 64)), [(0, 0, 0), (0, 0, 2)], frame)
    >>> data.select([(0, 0, 2)]).images.shape
    (1, 64, 64)
    """

    images: NDArray[Any]
    reflections: tuple[Reflection, ...]
    frame: DisplayFrame
    mask: NDArray[np.bool_]
    variance: NDArray[Any] | None = None
    corners: FloatArray = field(default_factory=lambda: np.zeros(0))
    offsets: FloatArray = field(default_factory=lambda: np.zeros(0))

    def __post_init__(self) -> None:
        object.__setattr__(self, "reflections", as_reflections(self.reflections))
        refuse_hidden(self.images, "images")
        images = plain_array(self.images, None, "images")
        if images.ndim != 3 or images.dtype.kind not in "fiu" or not images.size:
            msg = f"images must be real numbers (reflections, y, x), got {images.dtype} {images.shape}"
            raise ValueError(msg)
        if len(images) != len(self.reflections):
            msg = f"there must be one image per reflection, got {len(images)} for {len(self.reflections)}"
            raise ValueError(msg)
        mask = check_mask(plain_array(self.mask, None, "mask"), images.shape[1:], images.shape, of="the images")
        valid = np.isfinite(images) & mask
        if self.variance is not None:
            variance = np.broadcast_to(plain_array(self.variance, None, "variance"), images.shape)
            valid &= np.isfinite(variance) & (variance > 0)
            object.__setattr__(self, "variance", _frozen(variance))
        empty = [self.reflections[i] for i in np.flatnonzero(~valid.any((1, 2)))]
        if empty:
            msg = f"the images of {empty} have no valid pixel: leave these reflections out, see `select`"
            raise ValueError(msg)
        object.__setattr__(self, "images", _frozen(images))
        object.__setattr__(self, "mask", _frozen(valid))
        for name in ("corners", "offsets"):
            points = plain_array(getattr(self, name), np.float64, name)
            points = np.zeros((len(images), 2)) if points.size == 0 else points
            if points.shape != (len(images), 2) or not np.isfinite(points).all():
                msg = f"{name} must be ({len(images)}, 2) finite numbers, got {points.shape}"
                raise ValueError(msg)
            object.__setattr__(self, name, _frozen(points))

    @classmethod
    def from_larbed(
        cls,
        images: ArrayLike,
        reflections: Sequence[Sequence[int]],
        frame: DisplayFrame,
        *,
        mask: ArrayLike | None = None,
        variance: ArrayLike | None = None,
    ) -> "DiffractionData":
        """Take images (D, H, W) of large-angle patterns, one per reflection: the same pixel is the same tilt in all.

        Parameters
        ----------
        images : array_like
            (D, H, W).
        reflections : sequence of (h, k, l)
            What each shows.
        frame : DisplayFrame
            Its `center` is the pixel of the images at which the tilt is counted from.
        mask : array_like, optional
            Boolean (D, H, W) or (H, W), True = valid.
        variance : array_like, optional
            (D, H, W) or (H, W) of the noise.

        Returns
        -------
        DiffractionData
            Ready for `CoarseRefine`.
        """
        refuse_hidden(images, "images")
        array = plain_array(images, None, "images")
        valid = np.ones(array.shape[-2:], dtype=bool) if mask is None else plain_array(mask, None, "mask")
        noise = None if variance is None else plain_array(variance, None, "variance")
        return cls(array, as_reflections(reflections), frame, valid, noise)

    @classmethod
    def from_cbed(
        cls,
        image: ArrayLike,
        reflections: Sequence[Sequence[int]],
        frame: DisplayFrame,
        crystal: Crystal,
        beam: Beam,
        *,
        radius: float,
        mask: ArrayLike | None = None,
        variance: ArrayLike | None = None,
    ) -> "DiffractionData":
        """Cut the disks out of one convergent-beam pattern, at whole pixels: nothing is interpolated.

        Parameters
        ----------
        image : array_like
            (H, W) the pattern.
        reflections : sequence of (h, k, l)
            Disks to take.
        frame : DisplayFrame
            Its `center` is the middle of the disk of 000.
        crystal, beam : Crystal, Beam
            They say where the disks are.
        radius : float
            Of the disks, in pixels: what lies beyond is invalid. Take it a little smaller than the disks are.
        mask : array_like, optional
            Boolean (H, W), True = valid.
        variance : array_like, optional
            (H, W) of the noise.

        Returns
        -------
        DiffractionData
            Ready for `CoarseRefine`.
        """
        refuse_hidden(image, "image")
        array, listed = plain_array(image, None, "image"), as_reflections(reflections)
        if array.ndim != 2:
            msg = f"a CBED pattern is one image (y, x), got shape {array.shape}; several are LARBED, see from_larbed"
            raise ValueError(msg)
        if not (np.isfinite(radius) and radius >= 2):
            msg = f"radius must be that of the disks in pixels, 2 or more, got {radius}"
            raise ValueError(msg)
        valid = np.ones(array.shape, dtype=bool) if mask is None else plain_array(mask, None, "mask")
        check_mask(valid, array.shape, of="the pattern")
        noise = None if variance is None else np.broadcast_to(plain_array(variance, None, "variance"), array.shape)
        g = (crystal.g_vectors(np.array(listed)) @ beam.frame(crystal).T)[:, :2]
        middles = frame.to_experiment(g[:, ::-1] * (-1, 1) / frame.step)
        reach = int(np.ceil(radius)) + 1
        corners = np.round(middles).astype(int) - reach
        side = 2 * reach + 1
        outside = (middles < -0.5).any(1) | (middles > np.array(array.shape) - 0.5).any(1)
        if outside.any():
            msg = (
                f"the disks of {[listed[i] for i in np.flatnonzero(outside)]} lie outside of the pattern of "
                f"{array.shape[0]} x {array.shape[1]} pixels: leave them out, or correct gl, center or rotation"
            )
            raise ValueError(msg)
        rows, columns = np.mgrid[:side, :side]
        windows = np.zeros((len(listed), side, side), dtype=array.dtype)
        masks = np.zeros(windows.shape, dtype=bool)
        noises = np.ones(windows.shape)
        for d, (corner, middle) in enumerate(zip(corners, middles, strict=True)):
            y, x = rows + corner[0], columns + corner[1]
            inside = (y >= 0) & (x >= 0) & (y < array.shape[0]) & (x < array.shape[1])
            windows[d][inside] = array[y[inside], x[inside]]
            disk = np.hypot(y - middle[0], x - middle[1]) <= radius
            masks[d][inside] = valid[y[inside], x[inside]] & disk[inside]
            if noise is not None:
                noises[d][inside] = noise[y[inside], x[inside]]
        return cls(windows, listed, frame, masks, None if noise is None else noises, corners, g)

    def select(self, reflections: Sequence[Sequence[int]]) -> "DiffractionData":
        """Take the data of some reflections.

        Parameters
        ----------
        reflections : sequence of (h, k, l)
            Some of `reflections`.

        Returns
        -------
        DiffractionData
            Of these, in this order.
        """
        selected = as_reflections(reflections)
        missing = [item for item in selected if item not in self.reflections]
        if missing:
            msg = f"the reflections {missing} were not measured; there are {list(self.reflections)[:12]}"
            raise ValueError(msg)
        index = reflection_indices(self.reflections, selected)
        arrays = {name: getattr(self, name)[index] for name in ("images", "mask", "corners", "offsets")}
        arrays["variance"] = None if self.variance is None else self.variance[index]
        return replace(self, reflections=selected, **arrays)

    def with_frame(self, **changes: Any) -> "DiffractionData":
        """Change the frame.

        Parameters
        ----------
        **changes
            `gl`, `center`, `rotation`, `flip` or `tilt`.

        Returns
        -------
        DiffractionData
            The same data in another frame.
        """
        return replace(self, frame=self.frame.with_(**changes))

    def display_points(self, index: int, points: ArrayLike) -> FloatArray:
        """Go from pixels of a window to pixels of the display.

        Parameters
        ----------
        index : int
            Number of the window.
        points : array_like
            (..., 2) pixels (y, x) of the window.

        Returns
        -------
        numpy.ndarray
            (..., 2) pixels (row, column) of the display; (0, 0) is the middle of its disk.
        """
        frame = self.frame
        shown = frame.to_display(plain_array(points, np.float64, "points") + self.corners[index])
        return np.asarray(shown - self.offsets[index][::-1] * (-1, 1) / frame.step)

    def pull_matrix(self, index: int, spacing: float, origin: tuple[float, float]) -> FloatArray:
        """Matrix from nodes of a grid of tilts to pixels of a window, as `resample_affine` takes it.

        Parameters
        ----------
        index : int
            Number of the window.
        spacing : float
            Of the nodes, in 1/angstrom.
        origin : (float, float)
            (row, column) offset of the first node from the middle of the disk, in nodes.

        Returns
        -------
        numpy.ndarray
            (2, 3) float64.
        """
        frame = self.frame
        matrix = frame.matrix.T * (spacing / frame.step)
        first = np.asarray(origin) + self.offsets[index][::-1] * (-1, 1) / spacing
        start = matrix @ first + frame.center - self.corners[index]
        return np.concatenate([matrix, start[:, None]], axis=1)


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    """A view that cannot be written to: what the caller holds stays writable and unchanged."""
    view = np.asarray(array).view()
    view.flags.writeable = False
    return view
