"""Arrays whose axes come in another order than scan rows, scan columns, detector rows, detector columns."""

import importlib
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign.errors import DataError
from stackalign.io._gate import Confinement
from stackalign.io._hdf5_links import check_storage, open_dataset_within, open_file
from stackalign.io._protocol import Calibration, StackInfo, StackReader
from stackalign.io._reader import BaseReader, OpenOptions
from stackalign.io._shapes import handed_out_dtype, scan_pieces

__all__ = ["open_transposed", "parse_axes"]

_Axes = list[tuple[float, float, str]]
_ORDERS = {"RCyx": 4, "Nyx": 3}


def parse_axes(text: str) -> tuple[int, ...]:
    """Return where each axis of (R, C, y, x) or (N, y, x) stands in the file.

    Parameters
    ----------
    text : str
        A letter for each axis of the file, in its order.

    Raises
    ------
    DataError
        The letters are not R, C, y, x or N, y, x, each once.
    """
    for order in _ORDERS:
        if sorted(text) == sorted(order):
            return tuple(text.index(letter) for letter in order)
    msg = (
        f"axes {text!r} is no order of axes: give the letters R, C, y, x (scan rows and columns, detector rows and "
        "columns) or N, y, x, each once, in the order of the file, as yxRC"
    )
    raise DataError(msg)


def open_transposed(path: Path, module: str, options: OpenOptions) -> StackReader:
    """Open a file whose axes have the stated order."""
    places = parse_axes(options.axes or "")
    array, calibrated, close = _array(path, module, options)
    try:
        if len(array.shape) != len(places):
            msg = f"{path} has {len(array.shape)} axes {tuple(array.shape)}, axes {options.axes!r} names {len(places)}"
            raise DataError(msg)
        shape = tuple(int(array.shape[k]) for k in places)
        scan = shape[:-2]
        if min(shape) < 1:
            msg = f"{path} has the shape {tuple(array.shape)} and holds no data"
            raise DataError(msg)
        count = math.prod(scan)
        stated = options.scan_shape
        if stated is not None and math.prod(stated) != count:
            msg = (
                f"{path} holds {count} patterns, which do not fill the scan shape {stated}; state one with that product"
            )
            raise DataError(msg)
        info = StackInfo(
            (count, shape[-2], shape[-1]),
            handed_out_dtype(np.dtype(array.dtype), str(path)),
            stated or scan,
            calibration=_reordered(calibrated, places),
            metadata={"axes": options.axes, "stored_shape": [int(n) for n in array.shape]},
        )
        return _TransposedReader(path, info, array, places, scan, close)
    except BaseException:
        close()
        raise


def _array(path: Path, module: str, options: OpenOptions) -> tuple[Any, _Axes, Any]:
    """What can be sliced, step, start and units of each of its axes where they are known, and how it is closed."""
    if module == "npy":
        return np.load(path, mmap_mode="r", allow_pickle=False), [], lambda: None
    bounds = Confinement(path, options.allow_external)
    if module == "hdf5":
        return _hdf5_array(path, options, bounds)
    if module == "zarr_store":
        store = importlib.import_module("stackalign.io.zarr_store")
        store.check_folder(path, bounds)
        node = importlib.import_module("zarr").open(store=path, mode="r")
        return store.choose_array(node, path, options), [], lambda: None
    if module == "vendor":
        signal = importlib.import_module("stackalign.io.vendor").open_signal(path, options)
        axes = signal["axes"]
        known = all("scale" in axis for axis in axes) and len(axes) == signal["data"].ndim
        steps = [(float(a["scale"]), float(a["offset"]), str(a.get("units") or "")) for a in axes] if known else []
        return signal["data"], steps, lambda: None
    msg = f"{path}: another order of axes can be stated for .npy, HDF5, Zarr and vendors' files only"
    raise DataError(msg)


def _hdf5_array(
    path: Path, options: OpenOptions, bounds: Confinement
) -> tuple[Any, list[tuple[float, float, str]], Any]:
    """The dataset of an HDF5 file, which stays open."""
    hdf5 = importlib.import_module("stackalign.io.hdf5")
    holder, name = hdf5.choose_dataset(path, options, bounds)
    file = open_file(holder)
    try:
        dataset = open_dataset_within(file, name, holder)
        check_storage(dataset, holder, bounds)
        hdf5.require_filters(dataset, holder)
    except BaseException:
        file.close()
        raise
    return dataset, [], file.close


def _reordered(axes: list[tuple[float, float, str]], places: tuple[int, ...]) -> Calibration | None:
    if not axes:
        return None
    *scan, (step_y, start_y, units), (step_x, start_x, other) = (axes[k] for k in places)
    if not (step_y > 0 and step_x > 0) or units != other:
        return None
    two = len(scan) == 2
    return Calibration(
        (step_y, step_x), units, (0.0 - start_y / step_y, 0.0 - start_x / step_x),
        (scan[0][0], scan[1][0]) if two else None, scan[0][2] if two else "",
    )  # fmt: skip


class _TransposedReader(BaseReader):
    """Patterns of an array in any order of axes.

    Where the detector's axes come first, the numbers of a pattern lie far apart: each block reads through the whole
    file. Large blocks (``memory_limit``) make that less often.
    """

    def __init__(
        self, path: Path, info: StackInfo, array: Any, places: tuple[int, ...], scan: tuple[int, ...], close: Any
    ) -> None:
        super().__init__(path, info)
        self._array = array
        self._places = places
        self._scan = scan
        self._release = close

    def _read(self, start: int, stop: int, out: NDArray[Any]) -> None:
        for piece in scan_pieces(start, stop, self._scan):
            index: list[Any] = [slice(None)] * len(self._places)
            for place, part in zip(self._places, piece.index, strict=False):
                # A slice instead of a number keeps all axes for the transposition.
                index[place] = part if isinstance(part, slice) else slice(part, part + 1)
            block = np.asarray(self._array[tuple(index)]).transpose(self._places)
            target = out[piece.lo : piece.hi]
            np.copyto(target, block.reshape(target.shape), casting="same_kind")

    def close(self) -> None:
        """Release the file."""
        if not self._closed:
            self._array = None
            self._release()
        super().close()
