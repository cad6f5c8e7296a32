"""Zarr arrays, in a directory or a zip file."""

import hashlib
import importlib
import math
import os
import warnings
from pathlib import Path
from typing import Any

from stackalign.errors import DataError
from stackalign.io._protocol import Calibration, StackInfo, StackReader
from stackalign.io._reader import OpenOptions, damage_as_data_error, fingerprint_files, make_info
from stackalign.io._shapes import Layout, interpret_shape
from stackalign.io.memory import ArrayReader

__all__ = ["choose_array", "open_reader"]


def open_reader(path: Path, options: OpenOptions) -> StackReader:
    """Open the one array of a Zarr store that can be a stack of patterns."""
    zarr = importlib.import_module("zarr")
    store = None
    if path.is_file():
        store = importlib.import_module("zarr.storage").ZipStore(path, mode="r")
    try:
        node = zarr.open(store=path if store is None else store, mode="r")
        array = choose_array(node, path, options.dataset)
        label = f"{path}:{array.name}"
        layout = interpret_shape(array.shape, label, scan_shape=options.scan_shape)
        attributes = dict(array.attrs)
        if store is None and "stackalign" in attributes:
            _check_complete(array, path)
        metadata = {"dataset": array.name, "chunk_patterns": _chunk_patterns(array, layout)}
        info = make_info(layout, array.dtype, label, calibration=_calibration(attributes), metadata=metadata)
        return _ZarrReader(array, layout, info, path, store)
    except BaseException:
        if store is not None:
            store.close()
        raise


def choose_array(node: Any, path: Path, wanted: str | None) -> Any:
    """Return the array to read."""
    if not hasattr(node, "members"):
        return node
    with warnings.catch_warnings():
        # Other files in the store are reported one by one, and are none of our business.
        warnings.simplefilter("ignore")
        arrays = {name: item for name, item in node.members(max_depth=None) if not hasattr(item, "members")}
    if wanted is not None:
        if wanted.strip("/") not in arrays:
            msg = f"{path} has no array {wanted!r}; it has {sorted(arrays) or 'none'}"
            raise DataError(msg)
        return arrays[wanted.strip("/")]
    fitting = sorted((name for name, item in arrays.items() if item.ndim in (3, 4)), key=lambda n: (-arrays[n].size, n))
    if not fitting:
        msg = f"{path} has no array of 3 or 4 axes"
        raise DataError(msg)
    if len(fitting) > 1 and arrays[fitting[0]].size == arrays[fitting[1]].size:
        msg = f"{path} has several arrays that may be meant, {fitting}; name one with dataset (--dataset)"
        raise DataError(msg)
    return arrays[fitting[0]]


def _check_complete(array: Any, path: Path) -> None:
    """Zarr reads missing files as the fill value; this package's writer leaves none out, so that a gap is a loss."""
    grid = array.shards or array.chunks
    expected = math.prod(-(-n // c) for n, c in zip(array.shape, grid, strict=True))
    found = sum(len(files) for _, _, files in os.walk(path / "c"))
    if found < expected:
        msg = f"{path} is incomplete: {found} of {expected} files of patterns are there; copy it again"
        raise DataError(msg)


def _chunk_patterns(array: Any, layout: Layout) -> int:
    chunks = array.chunks
    if len(layout.array_scan_shape) == 1 or layout.channel_axis:
        return int(chunks[0])
    return int(chunks[0]) * layout.array_scan_shape[1] if chunks[0] > 1 else int(chunks[1])


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


class _ZarrReader(ArrayReader):
    """An array reader that knows what a store consists of."""

    def __init__(self, array: Any, layout: Layout, info: StackInfo, path: Path, store: Any) -> None:
        super().__init__(array, layout, info, path=path)
        self._store = store

    def fingerprint(self) -> str:
        """Identify the content by its metadata files and by sampled patterns."""
        if self._store is not None:
            return super().fingerprint()
        root = self._path if self._path is not None else Path()
        with damage_as_data_error(self._name, "the content"):
            files = [f for f in (root / n for n in ("zarr.json", ".zarray", ".zattrs", ".zgroup")) if f.exists()]
            digest = hashlib.blake2b(fingerprint_files(files).encode(), digest_size=20)
        digest.update(self._fingerprint_of_samples().encode())
        return digest.hexdigest()

    def close(self) -> None:
        """Release the store."""
        if not self._closed and self._store is not None:
            self._store.close()
        super().close()
