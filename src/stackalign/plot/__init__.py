"""Pictures and pages of results: functions take result objects and return matplotlib objects."""

import importlib
from typing import Any

from .crop import (
    crop_figure,
    plot_center_drift,
    plot_cumulative,
    plot_mean_pattern,
    plot_mean_window,
    plot_radius_histogram,
    plot_retention_map,
    save_crop_figure,
)
from .crop_report import write_crop_report

__all__ = [
    "crop_figure",
    "plot_center_drift",
    "plot_cumulative",
    "plot_mean_pattern",
    "plot_mean_window",
    "plot_radius_histogram",
    "plot_retention_map",
    "save_crop_figure",
    "write_crop_report",
]

_SUBMODULES = ("crop", "diffraction", "refine", "registration", "solar")


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return importlib.import_module(f"{__name__}.{name}")
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted({*__all__, *_SUBMODULES})
