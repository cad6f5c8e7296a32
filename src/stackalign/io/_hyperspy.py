"""Signals of HyperSpy, whose axes are groups `axis-0`, `axis-1`, ... with attributes: HDF5 (.hspy) and zarr (.zspy)."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

__all__ = ["SIGNAL", "add_signal", "axis_of", "write_groups"]

SIGNAL = "Experiments/__unnamed__"
"""Where HyperSpy keeps a signal without a title."""
VERSION = "3.1"
"""Of the layout."""


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
    file.attrs["file_format_version"] = VERSION
    file.create_group(SIGNAL)["data"] = dataset
    for place, attributes in _groups(axes).items():
        file.require_group(f"{SIGNAL}/{place}" if place else SIGNAL).attrs.update(attributes)


def _groups(axes: list[tuple[str, str, NDArray[Any]]]) -> dict[str, dict[str, Any]]:
    """Attributes of the groups of a signal, by their place in it."""
    groups: dict[str, dict[str, Any]] = {"": {"package": "", "package_version": ""}}
    for k, (name, units, positions) in enumerate(axes):
        groups[f"axis-{k}"] = {
            "_type": "UniformDataAxis",
            "name": name,
            "units": units,
            "scale": float(positions[1] - positions[0]) if positions.size > 1 else 1.0,
            "offset": float(positions[0]),
            "size": positions.size,
            "navigate": k < len(axes) - 2,
            "is_binned": False,
        }
    groups |= {"metadata/General": {"title": ""}, "metadata/Signal": {"signal_type": ""}}
    return groups | {"original_metadata": {}, "attributes": {"ragged": False}, "learning_results": {}}


def write_groups(path: Path, axes: list[tuple[str, str, NDArray[Any]]]) -> None:
    """Write the groups of a signal into a store of Zarr 2, around the array that is in it."""
    places = {"": {"file_format": "ZSpy", "file_format_version": VERSION}}
    places |= {f"{SIGNAL}/{place}".rstrip("/"): attributes for place, attributes in _groups(axes).items()}
    for place, attributes in places.items():
        folder = path / place
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".zattrs").write_text(json.dumps(attributes, indent=1), encoding="utf-8")
        for group in (folder, *folder.parents):
            if group.is_relative_to(path):
                (group / ".zgroup").write_text('{"zarr_format": 2}', encoding="utf-8")


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
