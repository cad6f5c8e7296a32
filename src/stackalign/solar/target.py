"""The target of a coalignment and its reference, prepared once: valid pixels, and how they correspond."""

from dataclasses import dataclass

import numpy as np
from sunpy.map import GenericMap

from stackalign._types import FloatArray
from stackalign.errors import DataError

from .despike import find_dead_lines, find_spikes
from .frames import ColumnMapping, ColumnMoments, PixelMapping, column_mapping, name_of, pixel_mapping, step_arcsec
from .headers import valid_mask
from .phase import Settings
from .pixels import PixelTransform
from .sampling import map_by_rows

__all__ = ["Target"]


@dataclass(frozen=True)
class Target:
    """The map that is aligned, the reference, and how their pixels correspond by the uncorrected header."""

    map: GenericMap
    reference: GenericMap
    image: FloatArray
    mapping: PixelMapping
    steps: tuple[FloatArray, FloatArray]
    by_column: ColumnMapping | None = None
    """Instead of `mapping`, where the columns have moments of their own."""

    @classmethod
    def of(
        cls, target: GenericMap, reference: GenericMap, settings: Settings, moments: ColumnMoments | None = None
    ) -> "Target":
        """Prepare the two maps, the target's columns at their own moments where these are given."""
        valid = valid_mask(target)
        if not valid.any():
            msg = f"{name_of(target)} has no valid pixel"
            raise DataError(msg)
        image = np.where(valid, target.data, np.nan).astype(np.float64)
        image[find_dead_lines(image)] = np.nan
        image[find_spikes(image)] = np.nan
        return cls(
            target,
            reference,
            image,
            pixel_mapping(target, reference, rotation=settings.rotation, height=settings.height),
            (step_arcsec(target.wcs), step_arcsec(reference.wcs)),
            None
            if moments is None
            else column_mapping(target, reference, moments, rotation=settings.rotation, height=settings.height),
        )

    def in_reference(self, points: FloatArray, correction: PixelTransform) -> FloatArray:
        """Pixels of the reference that show pixels (ny, nx, samples, 2) of the target, by a corrected header."""
        by_column = self.by_column
        if by_column is None:
            return map_by_rows(self.mapping, correction(points))
        # A column's moment is that of its own pixels, wherever the correction says that they look.
        columns = points[0, ..., 0]
        return map_by_rows(lambda p: by_column(p, columns), correction(points))
