from .alignment import Alignment, align, ialign, track_peak
from .files import DiffractionImages, diffread
from .masks import PixelMask, combine_masks, mask_from_collection
from .profile import AzimuthalProfile, azimuthal_average

__all__ = [
    "Alignment",
    "AzimuthalProfile",
    "DiffractionImages",
    "PixelMask",
    "align",
    "azimuthal_average",
    "combine_masks",
    "diffread",
    "ialign",
    "mask_from_collection",
    "track_peak",
]
