"""HDF5 files: plain datasets, EMD (NCEM, Prismatic), py4DSTEM; detector masters are handed to `arina`."""

import importlib
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign.errors import DataError, MissingDependencyError
from stackalign.io._flat import FlatReader
from stackalign.io._protocol import Calibration, StackInfo, StackReader
from stackalign.io._reader import BaseReader, OpenOptions, make_info
from stackalign.io._shapes import Layout, interpret_shape, scan_pieces

__all__ = ["ChunkedReader", "choose_dataset", "open_dataset", "open_file", "open_reader", "require_filters"]

# Filters outside the HDF5 library that the package hdf5plugin brings.
_PLUGIN_FILTERS = {32001: "blosc", 32004: "lz4", 32008: "bitshuffle", 32013: "zfp", 32015: "zstd", 32026: "blosc2"}
_MIN_CACHE = 1 << 20


def open_file(path: Path) -> Any:
    """Open an HDF5 file for reading, also where the file system knows no locks."""
    h5py = importlib.import_module("h5py")
    return h5py.File(path, "r", locking="best-effort")


def open_reader(path: Path, options: OpenOptions) -> StackReader:
    """Open the one dataset of an HDF5 file that can be a stack of patterns."""
    with open_file(path) as file:
        if options.dataset is None and _is_detector_master(file):
            reader: StackReader = importlib.import_module("stackalign.io.arina").open_reader(path, options)
            return reader
        name = choose_dataset(file, path, options.dataset)
    return open_dataset(path, name, options)


def _is_detector_master(file: Any) -> bool:
    """Tell a NeXus master, whose data lie in other files, from a file with data."""
    h5py = importlib.import_module("h5py")
    group = file.get("entry/data")
    if not isinstance(group, h5py.Group):
        return False
    return any(isinstance(group.get(key, getlink=True), h5py.ExternalLink) for key in group)


def choose_dataset(file: Any, path: Path, wanted: str | None) -> str:
    """Return the name of the dataset to read."""
    h5py = importlib.import_module("h5py")
    if wanted is not None:
        item = file.get(wanted)
        if item is None:
            names = [name for name, _ in _candidates(file, h5py)]
            msg = f"{path} has no dataset {wanted!r}; those of 3 or 4 axes are {names or 'none'}"
            raise DataError(msg)
        if isinstance(item, h5py.Dataset):
            return str(item.name)
        root = item
    else:
        if "Version" in file and isinstance(file.get("Data/Image"), h5py.Group):
            msg = f"{path} is a Velox file of images, whose frames are the last axis, not a stack of patterns"
            raise DataError(msg)
        root = file
    found = sorted(_candidates(root, h5py), key=lambda entry: -entry[1])
    if not found:
        msg = f"{path} has no numeric dataset of 3 or 4 axes{f' in {wanted}' if wanted else ''}"
        raise DataError(msg)
    if len(found) > 1 and found[0][1] == found[1][1]:
        names = [name for name, size in found if size == found[0][1]]
        msg = f"{path} has several datasets that may be meant, {names}; name one with dataset (--dataset)"
        raise DataError(msg)
    return found[0][0]


def _candidates(root: Any, h5py: Any) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []

    def visit(_: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.ndim in (3, 4) and item.size and item.dtype.kind in "iufb":
            found.append((str(item.name), int(item.size)))

    root.visititems(visit)
    return found


def open_dataset(path: Path, name: str, options: OpenOptions) -> StackReader:
    """Open one dataset: by position where its numbers lie plainly in the file, through h5py otherwise."""
    with open_file(path) as file:
        dataset = file[name]
        label = f"{path}:{name}"
        layout = interpret_shape(dataset.shape, label, scan_shape=options.scan_shape)
        metadata: dict[str, Any] = {"dataset": name}
        if dataset.chunks is not None:
            metadata["chunk_patterns"] = _chunk_patterns(dataset.chunks, layout)
        calibration = _calibration(file, dataset)
        info = make_info(layout, dataset.dtype, label, calibration=calibration, metadata=metadata)
        stored = dataset.dtype
        offset = _plain_offset(dataset)
        require_filters(dataset, path)
        _check_virtual_sources(dataset, path)
    if offset is not None:
        return FlatReader(path, info, stored, offset)
    return ChunkedReader(path, name, layout, info, options.memory_limit)


def _plain_offset(dataset: Any) -> int | None:
    """Return the position of the numbers in the file, None where they are chunked, filtered or elsewhere."""
    if dataset.chunks is not None or dataset.external or dataset.is_virtual:
        return None
    if dataset.id.get_type().get_size() != dataset.dtype.itemsize:
        return None
    offset = dataset.id.get_offset()
    # Compact or never written data have no position.
    return int(offset) if offset and dataset.id.get_storage_size() == dataset.nbytes else None


def _chunk_patterns(chunks: tuple[int, ...], layout: Layout) -> int:
    """Count the patterns in a row of chunks: blocks of a multiple of it decode nothing twice."""
    if len(layout.array_scan_shape) == 1 or layout.channel_axis:
        return int(chunks[0])
    # A chunk within one scan row ends with it; several rows are one block.
    return int(chunks[0]) * layout.array_scan_shape[1] if chunks[0] > 1 else int(chunks[1])


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


def _check_virtual_sources(dataset: Any, path: Path) -> None:
    """HDF5 reads missing parts of a virtual dataset as zeros without a word."""
    if dataset.is_virtual:
        for source in dataset.virtual_sources():
            if source.file_name != "." and not (path.parent / source.file_name).exists():
                msg = f"{path} refers to the part {source.file_name}, which is missing; copy it beside the file"
                raise DataError(msg)


def _calibration(file: Any, dataset: Any) -> Calibration | None:
    """Read the axis vectors beside the dataset: dim0.. (py4DSTEM) or dim1.. (NCEM)."""
    group = dataset.parent
    first = 0 if "dim0" in group else 1
    axes = [_axis(group.get(f"dim{first + k}")) for k in range(dataset.ndim)]
    rows, columns = axes[-2:]
    if rows is None or columns is None:
        return None
    step_y, start_y, units = rows
    step_x, start_x, _ = columns
    scan_y, scan_x = (axes[0], axes[1]) if dataset.ndim == 4 else (None, None)
    return Calibration(
        pixel_size=(step_y, step_x),
        units=units,
        origin=(0.0 - start_y / step_y, 0.0 - start_x / step_x),
        scan_step=(scan_y[0], scan_x[0]) if scan_y and scan_x else None,
        scan_units=scan_y[2] if scan_y and scan_x else "",
    )


def _axis(vector: Any) -> tuple[float, float, str] | None:
    """Return step, start and unit of an axis vector; py4DSTEM stores only its first two values."""
    if vector is None or vector.ndim != 1 or vector.shape[0] < 2 or vector.dtype.kind not in "iuf":
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


class ChunkedReader(BaseReader):
    """Patterns of a chunked, filtered, virtual or otherwise stored dataset.

    Parameters
    ----------
    path : Path
    name : str
        Of the dataset.
    layout : Layout
    info : StackInfo
    memory_limit : int
        A quarter of it may hold decoded chunks, so that a block that ends within a chunk does not decode it twice.
    """

    def __init__(self, path: Path, name: str, layout: Layout, info: StackInfo, memory_limit: int) -> None:
        super().__init__(path, info)
        self._layout = layout
        h5py = importlib.import_module("h5py")
        self._file = open_file(path)
        try:
            dataset = self._file[name]
            if dataset.chunks is not None:
                row = math.prod(dataset.chunks[: len(layout.array_scan_shape)])
                if len(layout.array_scan_shape) == 2:
                    row = dataset.chunks[0] * layout.array_scan_shape[1]
                cache = max(_MIN_CACHE, min(2 * row * info.pattern_bytes, memory_limit // 4))
                plist = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
                plist.set_chunk_cache(10007, cache, 0.75)
                dataset = h5py.Dataset(h5py.h5d.open(self._file.id, name.encode(), plist))
            self._dataset = dataset
        except BaseException:
            self._file.close()
            raise

    def _read(self, start: int, stop: int, out: NDArray[Any]) -> None:
        if self._layout.channel_axis:
            self._fetch((slice(start, stop), 0), out)
            return
        for piece in scan_pieces(start, stop, self._layout.array_scan_shape):
            part = out[piece.lo : piece.hi]
            lengths = tuple(s.stop - s.start for s in piece.index if isinstance(s, slice))
            self._fetch(piece.index, part.reshape(*lengths, *part.shape[1:]))

    def _fetch(self, index: tuple[slice | int, ...], out: NDArray[Any]) -> None:
        if out.dtype == np.uint8 and self._dataset.dtype.kind == "b":
            out[...] = self._dataset[index]
        else:
            # HDF5 converts the byte order on the way, straight into the caller's array.
            self._dataset.read_direct(out, index)

    def close(self) -> None:
        """Release the file."""
        if not self._closed:
            self._file.close()
        super().close()
