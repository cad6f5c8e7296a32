from .alignment import Alignment, align, ialign, track_peak
from .baseline import Baseline, baseline_dwt
from .center import Center, autocenter
from .files import DiffractionImages, diffread
from .hotspots import HotSpots, remove_hot_spots
from .masks import PixelMask, combine_masks, mask_from_collection
from .profile import AzimuthalProfile, azimuthal_average

__all__ = [
    "Alignment",
    "AzimuthalProfile",
    "Baseline",
    "Center",
    "DiffractionImages",
    "HotSpots",
    "PixelMask",
    "align",
    "autocenter",
    "azimuthal_average",
    "baseline_dwt",
    "combine_masks",
    "diffread",
    "ialign",
    "mask_from_collection",
    "remove_hot_spots",
    "track_peak",
]
