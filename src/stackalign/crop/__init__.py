"""Crop 4D-STEM data to the radius that keeps a fraction of the intensity."""

import importlib
from typing import TYPE_CHECKING, Any

from .arrays import crop_array
from .config import CroppingConfig
from .files import crop_file, is_complete
from .result import CropAnalysis, CropResult, CropValidation, Flag
from .synthetic import create_test_data, iter_test_data

if TYPE_CHECKING:
    from stackalign.compat.cropper import DiffractionCropper

__all__ = [
    "CropAnalysis",
    "CropResult",
    "CropValidation",
    "CroppingConfig",
    "DiffractionCropper",
    "Flag",
    "create_test_data",
    "crop_array",
    "crop_file",
    "is_complete",
    "iter_test_data",
]


def __getattr__(name: str) -> Any:
    if name == "DiffractionCropper":  # of the original; it stands on this package
        return importlib.import_module("stackalign.compat.cropper").DiffractionCropper
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
