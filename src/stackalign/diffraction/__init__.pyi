from .alignment import Alignment, align, ialign, track_peak
from .baseline import Baseline, baseline_dwt
from .center import Center, autocenter
from .files import DiffractionImages, diffread
from .hotspots import HotSpots, remove_hot_spots
from .masks import PixelMask, combine_masks, mask_from_collection
from .peaks import BraggPeaks, bragg_peaks, bragg_peaks_persistence
from .profile import AzimuthalProfile, azimuthal_average
from .symmetry import nfold, reflection
from .synthetic import SyntheticPattern, create_test_pattern
from .zones import BrillouinZones, ZoneConsistency, brillouin_zones

__all__ = [
    "Alignment",
    "AzimuthalProfile",
    "Baseline",
    "BraggPeaks",
    "BrillouinZones",
    "Center",
    "DiffractionImages",
    "HotSpots",
    "PixelMask",
    "SyntheticPattern",
    "ZoneConsistency",
    "align",
    "autocenter",
    "azimuthal_average",
    "baseline_dwt",
    "bragg_peaks",
    "bragg_peaks_persistence",
    "brillouin_zones",
    "combine_masks",
    "create_test_pattern",
    "diffread",
    "ialign",
    "mask_from_collection",
    "nfold",
    "reflection",
    "remove_hot_spots",
    "track_peak",
]
