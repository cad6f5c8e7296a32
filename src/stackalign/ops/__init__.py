"""The array API: every function takes arrays of one home and returns arrays of the same home."""

from .azimuthal import AzimuthalAverage, AzimuthalGeometry, azimuthal_average, azimuthal_geometry
from .compilation import warmup
from .correlate import ImagePair, prepare_pair, score_affine
from .fourier import ShiftMap, ShiftResult, masked_ncc, masked_shift, match_template
from .linearize import AffineLinearization, linearize_affine
from .moments import SecondMoments, second_moments
from .peaks import PersistencePairs, persistence_pairs
from .radial import (
    PatternSummary,
    centroid,
    pattern_summary,
    radial_cumulative,
    retention_radius,
)
from .resample import bin_mean, resample_affine
from .shift_table import BestShift, ShiftTable, shift_table
from .statistics import StackStatistics, stack_statistics
from .symmetry import mirror_average, rotational_average
from .transfer import asarray, device_of, synchronize, to_numpy
from .windows import crop_windows, encircled_window

__all__ = [
    "AffineLinearization",
    "AzimuthalAverage",
    "AzimuthalGeometry",
    "BestShift",
    "ImagePair",
    "PatternSummary",
    "PersistencePairs",
    "SecondMoments",
    "ShiftMap",
    "ShiftResult",
    "ShiftTable",
    "StackStatistics",
    "asarray",
    "azimuthal_average",
    "azimuthal_geometry",
    "bin_mean",
    "centroid",
    "crop_windows",
    "device_of",
    "encircled_window",
    "linearize_affine",
    "masked_ncc",
    "masked_shift",
    "match_template",
    "mirror_average",
    "pattern_summary",
    "persistence_pairs",
    "prepare_pair",
    "radial_cumulative",
    "resample_affine",
    "retention_radius",
    "rotational_average",
    "score_affine",
    "second_moments",
    "shift_table",
    "stack_statistics",
    "synchronize",
    "to_numpy",
    "warmup",
]
