"""Zarr arrays, in a directory or a zip file."""

import hashlib
import importlib
import math
import os
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign.errors import DataError
from stackalign.io._gate import Confinement, refuse_unwritten, require_file, require_share
from stackalign.io._hyperspy import axis_of
from stackalign.io._protocol import Calibration, StackInfo, StackReader
from stackalign.io._reader import OpenOptions, damage_as_data_error, fingerprint_files, make_info
from stackalign.io._shapes import Layout, interpret_shape
from stackalign.io._units import ScanGrid, UnitReader, with_chunks

__all__ = ["choose_array", "open_reader"]

_DESCRIBED = ("zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata")
_SAMPLED_FILES = 16
_STORED = 2
"""A chunk that does not shrink is stored in little more than its own size."""
_SMALL = 1 << 20
_LARGEST_HEADER = 64 << 20


def open_reader(path: Path, options: OpenOptions) -> StackReader:
    """Open the one array of a Zarr store that can be a stack of patterns."""
    zarr = importlib.import_module("zarr")
    bounds = Confinement(path, options.allow_external)
    store = None
    if path.is_file():
        store = importlib.import_module("zarr.storage").ZipStore(path, mode="r")
    else:
        check_folder(path, bounds)
    try:
        _check_headers(path, store)
        node = zarr.open(store=path if store is None else store, mode="r")
        array = choose_array(node, path, options)
        label = f"{path}:{array.name}"
        _refuse_objects(array, label)
        layout = interpret_shape(array.shape, label, scan_shape=options.scan_shape, single=True)
        attributes = dict(array.attrs)
        if store is None and "stackalign" in attributes:
            _check_complete(array, path)
        _require_chunks(array, path, store, label)
        metadata = {"dataset": array.name} | ({"single": True} if array.ndim == 2 else {})
        info = make_info(
            layout,
            array.dtype,
            label,
            calibration=_calibration(attributes) or _of_hyperspy(node, array),
            metadata=metadata,
        )
        grid = ScanGrid.of(layout, array.chunks)
        info = with_chunks(info, grid, array.chunks, array.dtype.itemsize, options.memory_limit)
        return _ZarrReader(array, layout, info, path, store, grid, options.memory_limit)
    except BaseException:
        if store is not None:
            store.close()
        raise


def check_folder(path: Path, bounds: Confinement) -> None:
    """Raise for links that lead out of a store and for pipes and devices in it: each file may be opened later."""
    for entry in _files(path):
        if entry.is_symlink():
            bounds.require_inside(Path(entry.path), f"{path} holds the link {os.path.relpath(entry.path, path)}")
        if entry.is_symlink() or not entry.is_file(follow_symlinks=False):
            require_file(Path(entry.path), f"{entry.name} of {path}", directory=True)


def _files(path: str | os.PathLike[str]) -> Iterator["os.DirEntry[str]"]:
    """Everything but the directories in a tree; links to directories are given, not followed."""
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _files(entry.path)
            else:
                yield entry


def _check_headers(path: Path, store: Any) -> None:
    """Descriptions are read whole, whatever their size."""
    for name, size in _sizes(path, "", store, only=_DESCRIBED):
        if size > _LARGEST_HEADER:
            msg = f"{path} is damaged: its description {name} has {size} bytes; copy it again"
            raise DataError(msg)


def _refuse_objects(array: Any, label: str) -> None:
    """Codecs of Python objects execute what they read."""
    codecs = [*(getattr(array, "filters", None) or ()), *(getattr(array, "compressors", None) or ())]
    for codec in codecs:
        name = str(getattr(codec, "codec_id", type(codec).__name__)).lower()
        if any(word in name for word in ("pickle", "json", "msgpack")):
            msg = f"{label} is encoded with {name}, a codec of Python objects; expected plain numbers"
            raise DataError(msg)


def _require_chunks(array: Any, path: Path, store: Any, label: str) -> None:
    """Zarr reads missing chunks as the fill value: an array of which next to none is there was never written."""
    grid = getattr(array, "shards", None) or array.chunks
    promised = math.prod(-(-n // c) for n, c in zip(array.shape, grid, strict=True))
    place = str(array.name or "/").strip("/")
    largest = _STORED * math.prod(grid) * array.dtype.itemsize + _SMALL
    written = 0
    for name, size in _sizes(path, place, store):
        written += not name.endswith(_DESCRIBED)
        if size > largest:
            msg = f"{label} is damaged: {name} has {size} bytes, more than any of its chunks; copy it again"
            raise DataError(msg)
    if written == 0:
        refuse_unwritten(label, "none")
    require_share(written, promised, "chunks", label)


def _sizes(path: Path, place: str, store: Any, only: tuple[str, ...] = ("",)) -> Iterator[tuple[str, int]]:
    """Names and sizes of the files of an array whose names end like one of some words."""
    if store is None:
        for entry in _files(path / place):
            if entry.name.endswith(only):
                yield entry.name, entry.stat().st_size
        return
    inside = f"{place}/" if place else ""
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.filename.startswith(inside) and member.filename.endswith(only):
                yield member.filename, member.file_size


def choose_array(node: Any, path: Path, options: OpenOptions) -> Any:
    """Return the array to read."""
    dataset = options.dataset
    if not hasattr(node, "members"):
        return node
    with warnings.catch_warnings():
        # Other files in the store are reported one by one, and are none of our business.
        warnings.simplefilter("ignore")
        arrays = {name: item for name, item in node.members(max_depth=None) if not hasattr(item, "members")}
    if dataset is not None:
        if dataset.strip("/") not in arrays:
            msg = f"{path} has no array {dataset!r}; it has {sorted(arrays) or 'none'}"
            raise DataError(msg)
        return arrays[dataset.strip("/")]
    fitting = sorted((name for name, item in arrays.items() if item.ndim in (3, 4)), key=lambda n: (-arrays[n].size, n))
    if not fitting:
        fitting = [name for name, item in arrays.items() if item.ndim == 2]
        if len(fitting) == 1:
            return arrays[fitting[0]]
        msg = f"{path} has no array of 3 or 4 axes, nor a single one of 2"
        raise DataError(msg)
    if len(fitting) > 1 and arrays[fitting[0]].size == arrays[fitting[1]].size:
        msg = f"{path} has several arrays that may be meant, {fitting}; name one with dataset"
        raise DataError(msg).with_hint("dataset")
    return arrays[fitting[0]]


def _check_complete(array: Any, path: Path) -> None:
    """Zarr reads missing files as the fill value; this package's writer leaves none out, so that a gap is a loss."""
    grid = array.shards or array.chunks
    expected = math.prod(-(-n // c) for n, c in zip(array.shape, grid, strict=True))
    place = path / "c" if (path / "c").is_dir() else path / str(array.path)
    present = sum(not name.startswith(".") for _, _, files in os.walk(place) for name in files)
    if present < expected:
        msg = f"{path} is incomplete: {present} of {expected} files of patterns are there; copy it again"
        raise DataError(msg)


def _calibration(attributes: dict[str, Any]) -> Calibration | None:
    """Return the calibration that this package's writer stored."""
    stored = attributes.get("calibration")
    if not isinstance(stored, dict) or not {"pixel_size", "units", "origin"} <= stored.keys():
        return None
    step = stored.get("scan_step")
    return Calibration(
        pixel_size=(float(stored["pixel_size"][0]), float(stored["pixel_size"][1])),
        units=str(stored["units"]),
        origin=(float(stored["origin"][0]), float(stored["origin"][1])),
        scan_step=None if step is None else (float(step[0]), float(step[1])),
        scan_units=str(stored.get("scan_units", "")),
    )


def _of_hyperspy(node: Any, array: Any) -> Calibration | None:
    """Return the calibration of a signal of HyperSpy, whose axes are groups beside the array."""
    parent = str(array.path).rpartition("/")[0]
    prefix = f"{parent}/" if parent else ""
    if not hasattr(node, "members") or f"{prefix}axis-0" not in node:
        return None
    groups = (f"{prefix}axis-{k}" for k in range(array.ndim))
    return Calibration.of_axes([axis_of(dict(node[name].attrs)) if name in node else None for name in groups])


class _ZarrReader(UnitReader):
    """Patterns of a Zarr array; it knows what a store consists of."""

    def __init__(
        self, array: Any, layout: Layout, info: StackInfo, path: Path, store: Any, grid: ScanGrid, memory_limit: int
    ) -> None:
        super().__init__(path, info, layout, grid, memory_limit)
        self._array = array
        self._store = store

    def _fetch(self, index: tuple[slice | int, ...], out: NDArray[Any]) -> None:
        np.copyto(out, np.asarray(self._array[index]).reshape(out.shape), casting="same_kind")

    def fingerprint(self) -> str:
        """Identify the content by names, sizes and times of all files of a store, and by sampled contents."""
        if self._store is not None or self._path is None:
            return super().fingerprint()
        digest = hashlib.blake2b(digest_size=20)
        with damage_as_data_error(self._name, "the content"):
            files = sorted((entry.path, entry.stat()) for entry in _files(self._path))
            for path, status in files:
                place = os.path.relpath(path, self._path)
                digest.update(f"{place}|{status.st_size}|{status.st_mtime_ns}|".encode())
            described = [Path(path) for path, _ in files if path.endswith(_DESCRIBED)][:_SAMPLED_FILES]
            sampled = [Path(files[k * len(files) // _SAMPLED_FILES][0]) for k in range(_SAMPLED_FILES)]
            digest.update(fingerprint_files([*described, *sampled]).encode())
        return digest.hexdigest()

    def close(self) -> None:
        """Release the store."""
        if not self._closed and self._store is not None:
            self._store.close()
        super().close()
