"""The target of a coalignment and its reference, prepared once: valid pixels, and how they correspond."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign._types import FloatArray
from stackalign.errors import DataError
from stackalign.registration.spikes import without_spikes

from .dead_lines import find_dead_lines
from .frames import ColumnMoments
from .mapping import ColumnMapping, PixelMapping, column_mapping, pixel_mapping
from .observation import Observation
from .phase import Settings
from .pixels import PixelTransform
from .sampling import SplineImage, map_by_rows

__all__ = ["Target"]


@dataclass(frozen=True)
class Target:
    """The observation that is aligned, the reference, and how their pixels correspond by the uncorrected header.

    Parameters
    ----------
    observation, reference : Observation
    image : numpy.ndarray
        (ny, nx) of the target, NaN where a pixel is no measurement.
    spline : SplineImage
        The reference between its pixels.
    mapping : callable
    by_column : callable, optional
        Instead of `mapping`, where the columns have moments of their own.
    """

    observation: Observation
    reference: Observation
    image: FloatArray
    spline: SplineImage
    mapping: PixelMapping
    by_column: ColumnMapping | None = None

    @classmethod
    def of(
        cls, target: Observation, reference: Observation, settings: Settings, moments: ColumnMoments | None = None
    ) -> "Target":
        """Prepare the two, the target's columns at their own moments where these are given."""
        if not target.valid.any():
            msg = f"{target.name} has no valid pixel"
            raise DataError(msg)
        geometry: dict[str, Any] = {
            "rotation": settings.rotation,
            "height": settings.height,
            "screen": settings.screen,
        }
        by_column = None if moments is None else column_mapping(target.view, reference.view, moments, **geometry)
        spline = SplineImage(np.asarray(reference.map.data), reference.valid, settings.order)
        mapping = pixel_mapping(target.view, reference.view, **geometry)
        return cls(target, reference, _measured(target.map.data, target.valid), spline, mapping, by_column)

    def in_reference(self, points: FloatArray, correction: PixelTransform) -> FloatArray:
        """Pixels of the reference that show pixels (ny, nx, samples, 2) of the target, by a corrected header."""
        by_column, distortion = self.by_column, self.observation.distortion

        def corrected(p: FloatArray) -> FloatArray:
            return correction(p if distortion is None else distortion(p))

        if by_column is None:
            return map_by_rows(lambda p: self.mapping(corrected(p)), points)
        # A column's moment is that of its own pixels, wherever the correction says that they look.
        columns = points[0, ..., 0]
        return map_by_rows(lambda p: by_column(corrected(p), columns), points)


def _measured(data: NDArray[np.generic], valid: NDArray[np.bool_]) -> FloatArray:
    """The image with NaN where pixels are invalid, lost with their line, or hit."""
    image = np.where(valid, data, np.nan).astype(np.float64)
    image[find_dead_lines(image)] = np.nan
    cleaned: FloatArray = np.asarray(without_spikes(image[None])[0][0], np.float64)
    return cleaned
