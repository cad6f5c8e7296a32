"""HDF5 files: plain datasets, EMD (NCEM, Prismatic), py4DSTEM; detector masters are handed to `arina`."""

import importlib
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign.errors import DataError, MissingDependencyError
from stackalign.io._bitshuffle import ChunkHeaders
from stackalign.io._flat import FlatReader
from stackalign.io._gate import Confinement
from stackalign.io._hdf5_links import check_storage, find, open_dataset_within, open_file
from stackalign.io._hyperspy import axis_of
from stackalign.io._protocol import Calibration, StackInfo, StackReader
from stackalign.io._reader import OpenOptions, make_info
from stackalign.io._shapes import Layout, interpret_shape
from stackalign.io._units import ScanGrid, UnitReader, with_chunks
from stackalign.io.velox import is_velox, open_velox

__all__ = ["ChunkedReader", "choose_dataset", "open_dataset", "open_reader", "require_filters"]

# Filters outside the HDF5 library that the package hdf5plugin brings.
_PLUGIN_FILTERS = {32001: "blosc", 32004: "lz4", 32008: "bitshuffle", 32013: "zfp", 32015: "zstd", 32026: "blosc2"}
_HDF5_CACHE = 1 << 20
_LONGEST_AXIS = 64 << 20


def open_reader(path: Path, options: OpenOptions) -> StackReader:
    """Open the one dataset of an HDF5 file that can be a stack of patterns."""
    bounds = Confinement(path, options.allow_external)
    if is_velox(path):
        return open_velox(path, options.dataset, bounds)
    if options.dataset is None and _is_detector_master(path, bounds):
        reader: StackReader = importlib.import_module("stackalign.io.arina").open_reader(path, options)
        return reader
    file, name = choose_dataset(path, options, bounds)
    return open_dataset(file, name, options, bounds)


def _is_detector_master(path: Path, bounds: Confinement) -> bool:
    """Tell a NeXus master, whose data lie in other files, from a file with data."""
    h5py = importlib.import_module("h5py")
    place = find(path, "entry/data", bounds)
    if place is None or place[0] != path:
        return False
    with open_file(path) as file:
        group = file[place[1]]
        if not isinstance(group, h5py.Group):
            return False
        return any(isinstance(group.get(key, getlink=True), h5py.ExternalLink) for key in group)


def choose_dataset(path: Path, options: OpenOptions, bounds: Confinement) -> tuple[Path, str]:
    """Return the file and the dataset in it to read; a name that the caller stated may lead to another file."""
    h5py = importlib.import_module("h5py")
    dataset = options.dataset
    place = (path, "/") if dataset is None else find(path, dataset, bounds)
    if place is None:
        with open_file(path) as file:
            names = [name for name, *_ in _candidates(file, h5py)]
        msg = f"{path} has no dataset {dataset!r}; those of 3 or 4 axes are {names or 'none'}"
        raise DataError(msg)
    with open_file(place[0]) as file:
        root = file[place[1]]
        if isinstance(root, h5py.Dataset):
            return place
        if not isinstance(root, h5py.Group):
            msg = f"{dataset} of {path} is a type, no dataset; name another"
            raise DataError(msg)
        return place[0], _best(root, path, options, h5py)


def _best(root: Any, path: Path, options: OpenOptions, h5py: Any) -> str:
    """Return the name of the largest stack below a group, or of its only image where one will do."""
    dataset = options.dataset
    candidates = sorted(_candidates(root, h5py), key=lambda entry: -entry[1])
    if not candidates:
        images = _candidates(root, h5py, (2,))
        if len(images) == 1:
            return images[0][0]
    if not candidates:
        msg = f"{path} has no numeric dataset of 3 or 4 axes{f' in {dataset}' if dataset else ''}"
        raise DataError(msg)
    if len(candidates) > 1 and candidates[0][1] == candidates[1][1]:
        names = [name for name, size in candidates if size == candidates[0][1]]
        msg = f"{path} has several datasets that may be meant, {names}; name one with dataset"
        raise DataError(msg).with_hint("dataset")
    return candidates[0][0]


def _candidates(root: Any, h5py: Any, axes: tuple[int, ...] = (3, 4)) -> list[tuple[str, int]]:
    candidates: list[tuple[str, int]] = []

    def visit(_: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.ndim in axes and item.size and item.dtype.kind in "iufb":
            candidates.append((str(item.name), math.prod(item.shape)))

    root.visititems(visit)
    return candidates


def open_dataset(path: Path, name: str, options: OpenOptions, bounds: Confinement) -> StackReader:
    """Open one dataset: by position where its numbers lie plainly in the file, through h5py otherwise."""
    with open_file(path) as file:
        dataset = open_dataset_within(file, name, path)
        label = f"{path}:{name}"
        if dataset.shape is None:
            msg = f"{label} is empty; name another dataset"
            raise DataError(msg)
        layout = interpret_shape(dataset.shape, label, scan_shape=options.scan_shape, single=True)
        metadata: dict[str, Any] = {"dataset": name} | ({"single": True} if dataset.ndim == 2 else {})
        calibration = _calibration(file, name, dataset.ndim, path, bounds)
        info = make_info(layout, dataset.dtype, label, calibration=calibration, metadata=metadata)
        stored, chunks = dataset.dtype, dataset.chunks
        check_storage(dataset, path, bounds)
        require_filters(dataset, path)
        offset = _plain_offset(dataset)
    if offset is not None:
        return FlatReader(path, info, stored, offset)
    grid = ScanGrid.of(layout, layout.array_scan_shape and (1, 1) if chunks is None else chunks)
    if chunks is not None:
        info = with_chunks(info, grid, chunks, stored.itemsize, options.memory_limit)
    return ChunkedReader(path, name, layout, info, grid, options.memory_limit)


def _plain_offset(dataset: Any) -> int | None:
    """Return the position of the numbers in the file, None where they are chunked, filtered or elsewhere."""
    if dataset.chunks is not None or dataset.external or dataset.is_virtual:
        return None
    if dataset.id.get_type().get_size() != dataset.dtype.itemsize:
        return None
    offset = dataset.id.get_offset()
    # Compact or never written data have no position.
    return int(offset) if offset and dataset.id.get_storage_size() == dataset.nbytes else None


def require_filters(dataset: Any, path: Path) -> None:
    """Raise where the data are compressed by a filter that is not installed."""
    h5py = importlib.import_module("h5py")
    plist = dataset.id.get_create_plist()
    codes = [plist.get_filter(k)[0] for k in range(plist.get_nfilters())]
    missing = [code for code in codes if not h5py.h5z.filter_avail(code)]
    if not missing:
        return
    try:
        importlib.import_module("hdf5plugin")  # registers its filters
    except ImportError as error:
        name = _PLUGIN_FILTERS.get(missing[0], "unknown")
        msg = (
            f"{path} is compressed with the HDF5 filter {missing[0]} ({name}), which is not installed: "
            'pip install "stackalign[hdf5]"'
        )
        raise MissingDependencyError(msg) from error
    missing = [code for code in codes if not h5py.h5z.filter_avail(code)]
    if missing:
        msg = f"{path} needs the HDF5 filter {missing[0]}, which hdf5plugin does not bring; convert the file"
        raise DataError(msg)


def _calibration(file: Any, name: str, ndim: int, path: Path, bounds: Confinement) -> Calibration | None:
    """Read the axes beside the dataset: dim0.. (py4DSTEM), dim1.. (NCEM), or axis-0.. (HyperSpy)."""
    group = name.rpartition("/")[0]
    if find(path, f"{group}/axis-0", bounds):
        axes = [_axis_group(find(path, f"{group}/axis-{k}", bounds), path, file) for k in range(ndim)]
    else:
        first = 0 if find(path, f"{group}/dim0", bounds) else 1
        axes = [_axis(find(path, f"{group}/dim{first + k}", bounds), path, file) for k in range(ndim)]
    return Calibration.of_axes(axes)


def _axis_group(place: tuple[Path, str] | None, path: Path, file: Any) -> tuple[float, float, str] | None:
    """Return step, start and unit of an axis of HyperSpy."""
    return None if place is None or place[0] != path else axis_of(file[place[1]].attrs)


def _axis(place: tuple[Path, str] | None, path: Path, file: Any) -> tuple[float, float, str] | None:
    """Return step, start and unit of an axis vector; py4DSTEM stores only its first two values."""
    if place is None or place[0] != path:
        return None
    vector = file[place[1]]
    if getattr(vector, "ndim", 0) != 1 or vector.shape[0] < 2 or vector.dtype.kind not in "iuf":
        return None
    if math.prod(vector.chunks or ()) * vector.dtype.itemsize > _LONGEST_AXIS:
        msg = f"the axis {vector.name} of {path} has chunks of an impossible size {vector.chunks}; repair the file"
        raise DataError(msg)
    if vector.external or vector.is_virtual:
        return None
    start, end = float(vector[0]), float(vector[-1])
    step = (end - start) / (vector.shape[0] - 1)
    if not math.isfinite(step) or step == 0:
        return None
    raw = vector.attrs.get("units", "")
    units = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else str(raw)
    # NCEM writes units as [n_m^-1].
    units = re.sub(r"(?<=[a-zA-Zµ])_(?=[a-zA-Z])", "", units.strip().removeprefix("[").removesuffix("]"))
    return step, start, units


class ChunkedReader(UnitReader):
    """Patterns of a chunked, filtered, virtual or otherwise stored dataset.

    Parameters
    ----------
    path : Path
    name : str
        Of the dataset.
    layout : Layout
    info : StackInfo
    grid : ScanGrid
    memory_limit : int
        Most of it may hold decoded chunks.
    """

    def __init__(
        self, path: Path, name: str, layout: Layout, info: StackInfo, grid: ScanGrid, memory_limit: int
    ) -> None:
        super().__init__(path, info, layout, grid, memory_limit)
        self._file = open_file(path)
        try:
            # The units are the cache. HDF5 keeps what fits into its own, for chunks that two selections share.
            self._dataset = open_dataset_within(self._file, name, path, cache=_HDF5_CACHE)
            self._headers = ChunkHeaders.of(self._dataset, path)
        except BaseException:
            self._file.close()
            raise

    def _fetch(self, index: tuple[slice | int, ...], out: NDArray[Any]) -> None:
        if self._headers is not None:
            self._headers.check(index)
        if out.dtype == np.uint8 and self._dataset.dtype.kind == "b":
            out[...] = self._dataset[index]
        else:
            # HDF5 converts the byte order on the way, straight into the caller's array.
            self._dataset.read_direct(out, index)

    def close(self) -> None:
        """Release the file."""
        if not self._closed:
            self._file.close()
            if self._headers is not None:
                self._headers.close()
        super().close()
