"""NeXus masters of hybrid-pixel detectors (DECTRIS Arina, Eiger): the data lie in numbered files beside them."""

import importlib
import math
from bisect import bisect_right
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign.errors import DataError
from stackalign.io._gate import Confinement
from stackalign.io._hdf5_links import check_storage, find, open_file, read_small
from stackalign.io._protocol import StackInfo, StackReader
from stackalign.io._reader import BaseReader, OpenOptions, make_info
from stackalign.io._shapes import interpret_shape
from stackalign.io.hdf5 import open_dataset, require_filters

__all__ = ["open_reader"]

_SPECIFIC = "entry/instrument/detector/detectorSpecific"


@dataclass(frozen=True)
class _Part:
    path: Path
    dataset: str
    count: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def open_reader(path: Path, options: OpenOptions) -> StackReader:
    """Open a master and check that all its parts are there and complete."""
    h5py = importlib.import_module("h5py")
    bounds = Confinement(path, options.allow_external)
    place = find(path, "entry/data", bounds)
    assert place is not None  # the caller has found it
    with open_file(path) as file:
        group = file[place[1]]
        links = {key: group.get(key, getlink=True) for key in sorted(group)}
        keys = [key for key, link in links.items() if isinstance(link, h5py.ExternalLink)]
    parts = [_open_part(path, links[key].filename, f"{place[1]}/{key}", bounds) for key in keys]
    promised = _promised(path, bounds)
    mask = _mask(path, bounds)
    metadata = _metadata(path, bounds)
    for part in parts[1:]:
        if part.shape != parts[0].shape or part.dtype != parts[0].dtype:
            msg = (
                f"part {part.path.name} of {path} holds {part.shape} {part.dtype}, "
                f"the first part {parts[0].shape} {parts[0].dtype}; they do not belong together"
            )
            raise DataError(msg)
    count = sum(part.count for part in parts)
    if promised is not None and promised != count and options.scan_shape is None:
        msg = (
            f"{path} promises {promised} patterns, its {len(parts)} parts hold {count} "
            f"(the last is {parts[-1].path.name}); copy them again, or state the scan shape of the part to read"
        )
        raise DataError(msg).with_hint("scan_shape")
    scan_shape = options.scan_shape or _scan_shape(path, count, bounds)
    layout = interpret_shape((count, *parts[0].shape), str(path), scan_shape=scan_shape)
    if mask is not None and mask.shape != layout.shape[1:]:
        msg = f"the pixel mask of {path} is {mask.shape}, its patterns are {layout.shape[1:]}; pass a mask that fits"
        raise DataError(msg)
    info = make_info(layout, parts[0].dtype, str(path), mask=mask, metadata=metadata)
    part_options = replace(options, scan_shape=None, dataset=None)
    with closing(open_dataset(parts[0].path, parts[0].dataset, part_options, bounds)) as first:
        info = replace(info, chunk=first.info.chunk)
    return _MasterReader(path, info, parts, part_options, bounds)


def _open_part(master: Path, name: str, key: str, bounds: Confinement) -> _Part:
    if not (master.parent / name).exists():
        bounds.require_inside(master.parent / name, f"{master} refers to {name!r}")
        msg = f"part {name} of {master} is missing; copy it beside the master"
        raise DataError(msg)
    try:
        place = find(master, key, bounds)
        if place is None:
            msg = f"part {name} of {master} does not hold what the master refers to; copy it again"
            raise DataError(msg)
        path = place[0]
        with open_file(path) as file:
            data = file[place[1]]
            if getattr(data, "ndim", 0) != 3:
                msg = f"part {name} of {master} is no dataset of three axes; expected (N, H, W)"
                raise DataError(msg)
            require_filters(data, path)
            low, high = data.attrs.get("image_nr_low"), data.attrs.get("image_nr_high")
            if low is not None and high is not None and int(high) - int(low) + 1 != data.shape[0]:
                msg = (
                    f"part {name} of {master} holds {data.shape[0]} patterns, "
                    f"its header says {int(high) - int(low) + 1}; copy it again"
                )
                raise DataError(msg)
            check_storage(data, path, bounds)
            return _Part(path, place[1], int(data.shape[0]), tuple(data.shape[1:]), data.dtype)
    except (OSError, KeyError) as error:
        msg = f"part {name} of {master} cannot be read ({error}); copy it again"
        raise DataError(msg) from error


def _promised(path: Path, bounds: Confinement) -> int | None:
    images, triggers = (read_small(path, f"{_SPECIFIC}/{key}", bounds) for key in ("nimages", "ntrigger"))
    return int(images) * int(triggers) if isinstance(images, int) and isinstance(triggers, int) else None


def _mask(path: Path, bounds: Confinement) -> NDArray[np.bool_] | None:
    for name in (f"{_SPECIFIC}/pixel_mask", "entry/instrument/detector/pixel_mask"):
        value = read_small(path, name, bounds)
        if value is not None:
            # Every bit of the detector's mask names a reason why a pixel is not to be used.
            valid: NDArray[np.bool_] = np.asarray(value) == 0
            return valid
    return None


def _metadata(path: Path, bounds: Confinement) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    for key in ("description", "count_time", "frame_time", "detectorSpecific/photon_energy", "saturation_value"):
        value = read_small(path, f"entry/instrument/detector/{key}", bounds)
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        if isinstance(value, str | int | float | bool):
            metadata[key.rpartition("/")[2]] = value
    return metadata


def _scan_shape(master: Path, count: int, bounds: Confinement) -> tuple[int, int] | None:
    """Read the scan shape from the microscope's own file, which lies beside the master without its suffix."""
    beside = master.with_name(master.name.replace("_master", ""))
    if beside == master or not beside.is_file():
        return None
    bounds.require_inside(beside, f"the microscope's file beside {master} is a link")
    try:
        with open_file(beside) as file:
            if not isinstance(file.get("STEM Metadata", getlink=True), importlib.import_module("h5py").HardLink):
                return None
            attributes = file["STEM Metadata"].attrs
            shape = int(np.ravel(attributes["NumPixelsY"])[0]), int(np.ravel(attributes["NumPixelsX"])[0])
    except (OSError, KeyError, ValueError, IndexError):
        return None  # it is another file of that name: the scan stays a plain series
    return shape if math.prod(shape) == count else None


class _MasterReader(BaseReader):
    """Patterns over several files, one of which is open at a time."""

    def __init__(
        self, path: Path, info: StackInfo, parts: list[_Part], options: OpenOptions, bounds: Confinement
    ) -> None:
        super().__init__(path, info)
        self._parts = parts
        self._starts = [sum(part.count for part in parts[:k]) for k in range(len(parts))]
        self._options = options
        self._bounds = bounds
        self._open: tuple[int, StackReader] | None = None

    def _read(self, start: int, stop: int, out: NDArray[Any]) -> None:
        position = start
        while position < stop:
            k = bisect_right(self._starts, position) - 1
            first = self._starts[k]
            end = min(stop, first + self._parts[k].count)
            self._part(k).read(position - first, end - first, out[position - start : end - start])
            position = end

    def _part(self, k: int) -> StackReader:
        if self._open is None or self._open[0] != k:
            self._close_part()
            self._open = k, open_dataset(self._parts[k].path, self._parts[k].dataset, self._options, self._bounds)
        return self._open[1]

    def _close_part(self) -> None:
        if self._open is not None:
            self._open[1].close()
            self._open = None

    def _files(self) -> list[Path]:
        return [*super()._files(), *(part.path for part in self._parts)]

    def close(self) -> None:
        """Release the files."""
        self._close_part()
        super().close()
