"""Microscope vendors' formats, through RosettaSciIO where that is installed.

RosettaSciIO is GPL: it is asked for at run time, as an optional plug-in, and nothing here derives from it.
"""

import importlib
import inspect
import math
import warnings
from pathlib import Path
from typing import Any

from stackalign.errors import DataError, MissingDependencyError
from stackalign.io._gate import Confinement, require_file
from stackalign.io._protocol import Calibration, StackReader
from stackalign.io._reader import OpenOptions, make_info
from stackalign.io._shapes import interpret_shape
from stackalign.io.memory import ArrayReader

__all__ = ["open_reader", "open_signal"]

_PLUGINS = {
    ".dm3": "digitalmicrograph",
    ".dm4": "digitalmicrograph",
    ".blo": "blockfile",
    ".tvips": "tvips",
    ".mrc": "mrc",
    ".ser": "tia",
    ".emi": "tia",
}
# How such files begin. The plug-in reads some files with a foreign beginning as best it can, for minutes.
_MAGIC = {
    ".blo": b"IMGBLO",
    ".dm3": b"\0\0\0\3",
    ".dm4": b"\0\0\0\4",
    ".ser": b"II\x97\x01",
}
_SERIES = (".tvips", ".mrc", ".emi", ".ser")
"""Formats of several files, which the plug-in finds by their names."""
_CHUNK_BYTES = 32 << 20


def open_signal(path: Path, options: OpenOptions) -> Any:
    """Open a vendor's file lazily: the plug-in's dictionary of data and axes, in chunks along the scan."""
    extension = path.suffix.lower()
    name = _PLUGINS[extension]
    with path.open("rb") as file:
        if not file.read(8).startswith(_MAGIC.get(extension, b"")):
            msg = f"{path} does not begin as a {extension} file does; check or copy the file again"
            raise DataError(msg)
    _check_beside(path, extension, Confinement(path, options.allow_external))
    try:
        importlib.import_module("dask.array")
        plugin = importlib.import_module(f"rsciio.{name}")
    except ImportError as error:
        msg = f'{path} needs RosettaSciIO to be read ({error}): pip install "stackalign[vendor]"'
        raise MissingDependencyError(msg) from error
    signal = _choose(_load(plugin, path), path, options.dataset)
    if "chunks" in inspect.signature(plugin.file_reader).parameters:
        # Some of the plug-ins make the whole file one chunk, all of which each slice would load.
        chunks = _chunks(tuple(signal["data"].shape), signal["data"].dtype.itemsize)
        signal = _choose(_load(plugin, path, chunks=chunks), path, options.dataset)
    return signal


def open_reader(path: Path, options: OpenOptions) -> StackReader:
    """Open a vendor's file lazily."""
    signal = open_signal(path, options)
    data = signal["data"]
    if data.ndim == 2:  # these formats hold single patterns as well: a series of one
        data = data[None]
    layout = interpret_shape(data.shape, str(path), scan_shape=options.scan_shape)
    metadata = {"reader": f"rosettasciio {_PLUGINS[path.suffix.lower()]}", **_acquisition(signal)}
    info = make_info(layout, data.dtype, str(path), calibration=_calibration(signal["axes"]), metadata=metadata)
    return ArrayReader(data, layout, info, path=path)


def _check_beside(path: Path, extension: str, bounds: Confinement) -> None:
    """Check what the plug-in will open besides the file itself: parts of a series."""
    if extension in _SERIES:
        prefix = path.stem.partition("_")[0]
        for beside in sorted(path.parent.iterdir()):
            if beside.name.startswith(prefix) and (beside.is_symlink() or not beside.is_file()) and beside != path:
                bounds.require_inside(beside, f"{path} may belong to {beside.name}")
                require_file(beside, f"{beside.name} beside {path}", directory=True)


def _load(plugin: Any, path: Path, **options: Any) -> Any:
    with warnings.catch_warnings():
        # Some of its readers leave closing the file to the garbage collector.
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            return plugin.file_reader(str(path), lazy=True, **options)
        except ImportError as error:
            msg = f'{path} needs a package that is missing ({error}): pip install "stackalign[vendor]"'
            raise MissingDependencyError(msg) from error
        except Exception as error:  # its readers raise classes of their own, which have no common base
            detail = (str(error).strip().splitlines() or [""])[0][:200]
            msg = f"{path} cannot be read ({type(error).__name__}: {detail}); check or copy the file again"
            raise DataError(msg) from error


def _choose(signals: Any, path: Path, dataset: str | None) -> Any:
    titles = [str(s.get("metadata", {}).get("General", {}).get("title", "")) or str(k) for k, s in enumerate(signals)]
    if dataset is not None:
        for k, signal in enumerate(signals):
            if dataset in (str(k), titles[k]):
                return signal
        msg = f"{path} has no dataset {dataset!r}; it has {titles}"
        raise DataError(msg)
    fitting = [signal for signal in signals if signal["data"].ndim in (2, 3, 4)]
    if not fitting:
        shapes = [tuple(signal["data"].shape) for signal in signals]
        msg = f"{path} has no data of 2 to 4 axes; it has {shapes or 'none'}"
        raise DataError(msg)
    return max(fitting, key=lambda signal: int(signal["data"].size))


def _chunks(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Cut only along the scan, so that a chunk is some whole patterns and of bounded size."""
    pattern = shape[-2] * shape[-1] * itemsize
    count = max(1, _CHUNK_BYTES // max(1, pattern))
    if len(shape) == 2:
        return shape
    if len(shape) == 3:
        return (min(count, shape[0]), *shape[1:])
    columns = min(count, shape[1])
    return (max(1, min(count // columns, shape[0])), columns, *shape[2:])


_TAGS = {
    "exposure_s": (("High Level", "Exposure (s)", 1.0), ("DataBar", "Exposure Time (s)", 1.0)),
    "voltage_kv": (("Microscope Info", "Voltage", 1e-3),),
}
"""Where Digital Micrograph's tags say what is of use: group, tag, factor; the first that is there counts."""


def _acquisition(signal: Any) -> dict[str, float]:
    """Exposure and voltage, where the file says so."""
    groups: dict[str, Any] = {}

    def collect(tags: Any) -> None:
        for key, value in tags.items():
            if hasattr(value, "items"):
                groups.setdefault(key, value)
                collect(value)

    collect(signal.get("original_metadata") or {})
    acquisition: dict[str, float] = {}
    for name, places in _TAGS.items():
        for group, tag, factor in places:
            value = groups.get(group, {}).get(tag)
            if name not in acquisition and isinstance(value, int | float) and value > 0 and math.isfinite(value):
                acquisition[name] = float(value) * factor
    energy = signal.get("metadata", {}).get("Acquisition_instrument", {}).get("TEM", {}).get("beam_energy")
    if "voltage_kv" not in acquisition and isinstance(energy, int | float) and energy > 0:
        acquisition["voltage_kv"] = float(energy)
    return acquisition


def _calibration(axes: Any) -> Calibration | None:
    """Carry the scale of the last two axes, and of the scan where it has two."""
    if any("scale" not in axis for axis in axes):
        return None
    rows, columns = axes[-2:]
    if not (rows["scale"] > 0 and columns["scale"] > 0):
        return None  # Direct Electron writes -1 for an unknown scale
    if rows.get("units") != columns.get("units"):
        return None  # there is one place for a unit
    scan = axes[:2] if len(axes) == 4 else None
    return Calibration(
        pixel_size=(float(rows["scale"]), float(columns["scale"])),
        units=str(rows.get("units") or ""),
        origin=(float(0.0 - rows["offset"] / rows["scale"]), float(0.0 - columns["offset"] / columns["scale"])),
        scan_step=None if scan is None else (float(scan[0]["scale"]), float(scan[1]["scale"])),
        scan_units="" if scan is None else str(scan[0].get("units") or ""),
    )
