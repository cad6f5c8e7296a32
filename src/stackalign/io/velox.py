"""Images of Velox, ThermoFisher's microscope software, in its HDF5 files `.emd`: frames are the last axis there."""

import importlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign.errors import DataError
from stackalign.io._gate import Confinement
from stackalign.io._hdf5_links import open_file, refuse_foreign
from stackalign.io._protocol import StackInfo
from stackalign.io._reader import BaseReader, make_info
from stackalign.io._shapes import interpret_shape

__all__ = ["VeloxReader", "is_velox", "open_velox"]

PLACE = "Data/Image"


def is_velox(path: Path) -> bool:
    """Tell whether an HDF5 file is one of Velox with images."""
    h5py = importlib.import_module("h5py")
    with open_file(path) as file:
        return "Version" in file.keys() and _is_group(file, PLACE, h5py)  # noqa: SIM118


def _is_group(file: Any, name: str, h5py: Any) -> bool:
    """Tell whether hard links lead to a group."""
    group = file
    for part in name.split("/"):
        if not isinstance(group, h5py.Group) or not isinstance(group.get(part, getlink=True), h5py.HardLink):
            return False
        group = group[part]
    return isinstance(group, h5py.Group)


def open_velox(path: Path, dataset: str | None, bounds: Confinement) -> "VeloxReader":
    """Open the images of the only detector of a Velox file, or of the one whose group or dataset is named."""
    refuse_foreign(path, bounds)
    h5py = importlib.import_module("h5py")
    with open_file(path) as file:
        if dataset is None:
            items = list(file[PLACE].values())
        elif dataset in file:
            items = [file[dataset]]
        else:
            msg = f"{path} has no dataset {dataset!r}; its images are {[f'{PLACE}/{name}' for name in file[PLACE]]}"
            raise DataError(msg)
        datasets = [item.get("Data") if isinstance(item, h5py.Group) else item for item in items]
        plain = [
            d for d in datasets if isinstance(d, h5py.Dataset) and d.ndim == 3 and d.size and d.dtype.kind in "iufb"
        ]
        if not plain:
            msg = f"{path} is a Velox file without an image of real numbers{f' at {dataset}' if dataset else ''}"
            raise DataError(msg)
        if len(plain) > 1:
            names = [f"{d.name} of {d.shape[:2]} pixels" for d in plain]
            msg = f"{path} holds images of several detectors, {names}; name one with dataset"
            raise DataError(msg).with_hint("dataset")
        height, width, count = plain[0].shape
        layout = interpret_shape((count, height, width), str(path))
        metadata: dict[str, Any] = {"dataset": str(plain[0].name)}
        if count == 1:
            metadata["single"] = True
        info = make_info(layout, plain[0].dtype, str(path), metadata=metadata)
        return VeloxReader(path, str(plain[0].name), info)


class VeloxReader(BaseReader):
    """Frames (N, H, W) of a dataset (H, W, N), read as they are asked for.

    Parameters
    ----------
    path : Path
    name : str
        Of the dataset.
    info : StackInfo
    """

    def __init__(self, path: Path, name: str, info: StackInfo) -> None:
        super().__init__(path, info)
        self._file = open_file(path)
        self._dataset = self._file[name]

    def _read(self, start: int, stop: int, out: NDArray[Any]) -> None:
        np.copyto(out, np.moveaxis(self._dataset[:, :, start:stop], -1, 0), casting="same_kind")

    def close(self) -> None:
        """Release the file."""
        if not self._closed:
            self._file.close()
        super().close()
