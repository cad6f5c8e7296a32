"""Drift of a series of images: all frames registered together, with error bars and flags."""

from .files import DriftFile, drift_file, load_drift_file
from .result import FLAGS, DriftResult
from .series import estimate_drift
from .synthetic import TestSeries, create_test_series

__all__ = [
    "FLAGS",
    "DriftFile",
    "DriftResult",
    "TestSeries",
    "create_test_series",
    "drift_file",
    "estimate_drift",
    "load_drift_file",
]
