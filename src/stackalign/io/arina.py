"""NeXus masters of hybrid-pixel detectors (DECTRIS Arina, Eiger): the data lie in numbered files beside them."""

import importlib
import math
from bisect import bisect_right
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign.errors import DataError
from stackalign.io._protocol import StackInfo, StackReader
from stackalign.io._reader import BaseReader, OpenOptions, make_info
from stackalign.io._shapes import interpret_shape
from stackalign.io.hdf5 import open_dataset, open_file, require_filters

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
    with open_file(path) as file:
        group = file["entry/data"]
        links = {key: group.get(key, getlink=True) for key in sorted(group)}
        links = {key: link for key, link in links.items() if isinstance(link, h5py.ExternalLink)}
        parts = [_open_part(path, link.filename, link.path) for link in links.values()]
        promised = _promised(file)
        mask = _mask(file, path)
        metadata = _metadata(file)
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
            f"(the last is {parts[-1].path.name}); {options.copy_again('them')}"
        )
        raise DataError(msg)
    scan_shape = options.scan_shape or _scan_shape(path, count)
    layout = interpret_shape((count, *parts[0].shape), str(path), scan_shape=scan_shape)
    if mask is not None and mask.shape != layout.shape[1:]:
        msg = f"the pixel mask of {path} is {mask.shape}, its patterns are {layout.shape[1:]}; pass a mask that fits"
        raise DataError(msg)
    info = make_info(layout, parts[0].dtype, str(path), mask=mask, metadata=metadata)
    return _MasterReader(path, info, parts, replace(options, scan_shape=None, dataset=None))


def _open_part(master: Path, name: str, dataset: str) -> _Part:
    path = master.parent / name
    if not path.exists():
        msg = f"part {name} of {master} is missing; copy it beside the master"
        raise DataError(msg)
    try:
        with open_file(path) as file:
            data = file[dataset]
            require_filters(data, path)
            low, high = data.attrs.get("image_nr_low"), data.attrs.get("image_nr_high")
            if data.ndim != 3:
                msg = f"part {name} of {master} has {data.ndim} axes; expected (N, H, W)"
                raise DataError(msg)
            if low is not None and high is not None and int(high) - int(low) + 1 != data.shape[0]:
                msg = (
                    f"part {name} of {master} holds {data.shape[0]} patterns, "
                    f"its header says {int(high) - int(low) + 1}; copy it again"
                )
                raise DataError(msg)
            return _Part(path, dataset, int(data.shape[0]), tuple(data.shape[1:]), data.dtype)
    except (OSError, KeyError) as error:
        msg = f"part {name} of {master} cannot be read ({error}); copy it again"
        raise DataError(msg) from error


def _scalar(file: Any, name: str) -> Any:
    item = file.get(name)
    return None if item is None else item[()]


def _promised(file: Any) -> int | None:
    images, triggers = (_scalar(file, f"{_SPECIFIC}/{key}") for key in ("nimages", "ntrigger"))
    return None if images is None or triggers is None else int(images) * int(triggers)


def _mask(file: Any, path: Path) -> NDArray[np.bool_] | None:
    item = file.get(f"{_SPECIFIC}/pixel_mask", file.get("entry/instrument/detector/pixel_mask"))
    if item is None:
        return None
    require_filters(item, path)
    # Every bit of the detector's mask names a reason why a pixel is not to be used.
    valid: NDArray[np.bool_] = np.asarray(item[()]) == 0
    return valid


def _metadata(file: Any) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    for key in ("description", "count_time", "frame_time", "detectorSpecific/photon_energy", "saturation_value"):
        value = _scalar(file, f"entry/instrument/detector/{key}")
        if value is not None:
            plain = value.item() if isinstance(value, np.generic) else value
            metadata[key.rpartition("/")[2]] = plain.decode("utf-8", "replace") if isinstance(plain, bytes) else plain
    return metadata


def _scan_shape(master: Path, count: int) -> tuple[int, int] | None:
    """Read the scan shape from the microscope's own file, which lies beside the master without its suffix."""
    beside = master.with_name(master.name.replace("_master", ""))
    if beside == master or not beside.exists():
        return None
    try:
        with open_file(beside) as file:
            attributes = file["STEM Metadata"].attrs
            shape = int(np.ravel(attributes["NumPixelsY"])[0]), int(np.ravel(attributes["NumPixelsX"])[0])
    except (OSError, KeyError, ValueError, IndexError):
        return None  # it is another file of that name: the scan stays a plain series
    return shape if math.prod(shape) == count else None


class _MasterReader(BaseReader):
    """Patterns over several files, one of which is open at a time."""

    def __init__(self, path: Path, info: StackInfo, parts: list[_Part], options: OpenOptions) -> None:
        super().__init__(path, info)
        self._parts = parts
        self._starts = [sum(part.count for part in parts[:k]) for k in range(len(parts))]
        self._options = options
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
            self._open = k, open_dataset(self._parts[k].path, self._parts[k].dataset, self._options)
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
