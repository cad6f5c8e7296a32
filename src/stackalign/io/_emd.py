"""The tree of EMD 1.0, as py4DSTEM and emdfile read it, over a dataset that is stored elsewhere in the same file.

Axis names are theirs: Rx, Ry are the first and second axis of the scan, Qx, Qy those of the detector, so that Qx is y.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign.io._protocol import Calibration

__all__ = ["add_calibration", "add_tree", "pattern_origins"]

_ROOT = "datacube_root"
_UNITS = {
    **dict.fromkeys(("", "px", "pixel"), (1.0, "pixels")),
    **dict.fromkeys(("1/A", "1/Å", "Å^-1", "A^-1"), (1.0, "A^-1")),
    **dict.fromkeys(("1/nm", "nm^-1"), (0.1, "A^-1")),
    "rad": (1000.0, "mrad"),
}
"""Factor and name of the detector's units in py4DSTEM, which knows pixels, A^-1 and mrad; others are kept."""


def add_tree(file: Any, dataset: Any, axes: list[tuple[str, str, NDArray[Any]]]) -> None:
    """Describe a dataset as an array of EMD 1.0: a datacube where it has four axes.

    Parameters
    ----------
    file : h5py.File
    dataset : h5py.Dataset
        Reached from the tree by a second hard link.
    axes : list of (name, units, positions)
        Of each axis of the dataset.
    """
    file.attrs["emd_group_type"] = "file"
    file.attrs["version_major"] = 1
    file.attrs["version_minor"] = 0
    file.attrs["authoring_program"] = "stackalign"
    root = file.create_group(_ROOT)
    root.attrs["emd_group_type"] = "root"
    root.attrs["python_class"] = "Root"
    cube = root.create_group("datacube")
    four = len(axes) == 4
    cube.attrs["emd_group_type"] = "array"
    cube.attrs["python_class"] = "DataCube" if four else "Array"
    cube["data"] = dataset
    dataset.attrs["units"] = "pixel intensity"
    names = ("Rx", "Ry", "Qx", "Qy") if four else ("pattern", "Qx", "Qy")
    for k, (name, (_, units, positions)) in enumerate(zip(names, axes, strict=True)):
        vector = positions[:2] if positions.size > 1 else np.array([positions[0], positions[0] + 1.0])
        axis = cube.create_dataset(f"dim{k}", data=np.asarray(vector, np.float64), track_times=False)
        axis.attrs["name"] = name
        axis.attrs["units"] = units or "pixels"


def add_calibration(
    file: Any, calibration: Calibration | None, array_shape: tuple[int, ...], origins: NDArray[np.float64] | None
) -> None:
    """Store pixel sizes, units and, where they are known, the centre of each pattern in its window.

    Parameters
    ----------
    file : h5py.File
    calibration : Calibration, optional
    array_shape : tuple of int
        Of the dataset; without four axes it is no datacube, and has no calibration of this kind.
    origins : numpy.ndarray, optional
        (N, 2) centres (y, x) in pixels of the stored patterns.
    """
    if len(array_shape) != 4:
        return
    bundle = file[_ROOT].create_group("metadatabundle")
    bundle.attrs["emd_group_type"] = "metadatabundle"
    group = bundle.create_group("calibration")
    group.attrs["emd_group_type"] = "metadata"
    group.attrs["python_class"] = "Calibration"
    known = calibration or Calibration()
    step = known.scan_step
    values: dict[str, Any] = {
        "Q_pixel_size": float(known.pixel_size[0]) * _UNITS.get(known.units, (1.0, ""))[0],
        "Q_pixel_units": _UNITS.get(known.units, (1.0, known.units))[1],
        "R_pixel_size": 1.0 if step is None else float(step[0]),
        "R_pixel_units": (known.scan_units if step is not None else "") or "pixels",
        "QR_flip": False,
        "_root_treepath": "",
    }
    if origins is not None:
        for name, column in (("qx0", origins[:, 0]), ("qy0", origins[:, 1])):
            values[name] = column.reshape(array_shape[:2])
            values[f"{name}_mean"] = float(column.mean())
            values[f"{name}_shift"] = values[name] - column.mean()
    for name, value in values.items():
        item = group.create_dataset(name, data=value, track_times=False)
        item.attrs["type"] = _kind(value)
    targets = group.create_group("_target_paths")
    targets.attrs["type"] = "list_of_strings"
    targets.attrs["length"] = 1
    targets.create_dataset("0", data="/datacube", track_times=False)


def pattern_origins(arrays: Mapping[str, NDArray[Any]]) -> NDArray[np.float64] | None:
    """Centre of each pattern in its window, where centres and corners are known."""
    if "centers" not in arrays or "corners" not in arrays:
        return None
    origins: NDArray[np.float64] = np.asarray(arrays["centers"], np.float64) - arrays["corners"]
    return origins


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, np.ndarray) else "number"
