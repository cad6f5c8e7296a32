"""Signals of HyperSpy, whose axes are groups `axis-0`, `axis-1`, ... with attributes: HDF5 (.hspy) and zarr (.zspy)."""

import math
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

__all__ = ["add_signal", "axis_of"]

_SIGNAL = "Experiments/__unnamed__"
"""Where HyperSpy keeps a signal without a title."""


def add_signal(file: Any, dataset: Any, axes: list[tuple[str, str, NDArray[Any]]]) -> None:
    """Describe a dataset as a signal of HyperSpy; the last two axes are those of the detector.

    Parameters
    ----------
    file : h5py.File
    dataset : h5py.Dataset
        Reached from the signal by a second hard link.
    axes : list of (name, units, positions)
        Of each axis of the dataset.
    """
    file.attrs["file_format"] = "HyperSpy"
    file.attrs["file_format_version"] = "3.1"
    group = file.create_group(_SIGNAL)
    group.attrs["package"], group.attrs["package_version"] = "stackalign", ""
    group["data"] = dataset
    for k, (name, units, positions) in enumerate(axes):
        axis = group.create_group(f"axis-{k}")
        axis.attrs["_type"] = "UniformDataAxis"
        axis.attrs["name"], axis.attrs["units"] = name, units
        axis.attrs["scale"] = float(positions[1] - positions[0]) if positions.size > 1 else 1.0
        axis.attrs["offset"] = float(positions[0])
        axis.attrs["size"] = positions.size
        axis.attrs["navigate"] = k < len(axes) - 2
        axis.attrs["is_binned"] = False
    for name in ("metadata/General", "metadata/Signal", "original_metadata", "attributes", "learning_results"):
        group.create_group(name)
    group["metadata/General"].attrs["title"] = ""
    group["metadata/Signal"].attrs["signal_type"] = ""
    group["attributes"].attrs["ragged"] = False


def axis_of(attributes: Mapping[str, Any]) -> tuple[float, float, str] | None:
    """Step, start and unit of an axis; None where it is not uniform."""
    try:
        step, start = float(attributes["scale"]), float(attributes["offset"])
    except (KeyError, TypeError, ValueError):
        return None
    if not (math.isfinite(step) and math.isfinite(start)) or step == 0:
        return None
    raw = attributes.get("units", "")
    units = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else str(raw)
    return step, start, "" if units in ("<undefined>", "None") else units
