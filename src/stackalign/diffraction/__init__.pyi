from .alignment import Alignment, align, ialign
from .baseline import Baseline, baseline_dwt
from .beam_stop import find_beam_stop
from .bragg_file import PeakTable, peaks_file
from .center import Center, autocenter
from .centers_file import CenterTable, center_file, read_centers
from .files import DiffractionImages, diffread
from .hotspots import HotSpots, remove_hot_spots
from .masks import PixelMask, combine_masks, mask_from_collection
from .masks_file import MaskFile, mask_file
from .peaks import BraggPeaks, bragg_peaks
from .persistence import bragg_peaks_persistence
from .profile import AzimuthalProfile, azimuthal_average
from .profiles_file import ProfileTable, profile_file
from .symmetry import nfold, reflection
from .symmetry_file import AveragedFile, nfold_file
from .synthetic import SyntheticPattern, create_test_pattern
from .tracking import track_peak
from .zones import BrillouinZones, ZoneConsistency, brillouin_zones

__all__ = [
    "Alignment",
    "AveragedFile",
    "AzimuthalProfile",
    "Baseline",
    "BraggPeaks",
    "BrillouinZones",
    "Center",
    "CenterTable",
    "DiffractionImages",
    "HotSpots",
    "MaskFile",
    "PeakTable",
    "PixelMask",
    "ProfileTable",
    "SyntheticPattern",
    "ZoneConsistency",
    "align",
    "autocenter",
    "azimuthal_average",
    "baseline_dwt",
    "bragg_peaks",
    "bragg_peaks_persistence",
    "brillouin_zones",
    "center_file",
    "combine_masks",
    "create_test_pattern",
    "diffread",
    "find_beam_stop",
    "ialign",
    "mask_file",
    "mask_from_collection",
    "nfold",
    "nfold_file",
    "peaks_file",
    "profile_file",
    "read_centers",
    "reflection",
    "remove_hot_spots",
    "track_peak",
]
