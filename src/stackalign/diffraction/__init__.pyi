from .profile import AzimuthalProfile, azimuthal_average

__all__ = [
    "AzimuthalProfile",
    "azimuthal_average",
]
