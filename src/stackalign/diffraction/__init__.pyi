from .alignment import Alignment, align, ialign, track_peak
from .profile import AzimuthalProfile, azimuthal_average

__all__ = [
    "Alignment",
    "AzimuthalProfile",
    "align",
    "azimuthal_average",
    "ialign",
    "track_peak",
]
