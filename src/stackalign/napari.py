"""A reader for napari: stacks of any format, and results of a crop with their centres, radii and maps.

napari finds it by the file ``napari.yaml``; it is not imported here.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign.crop.outputs import RESULTS
from stackalign.errors import StackalignError
from stackalign.io import StackReader, open_stack
from stackalign.io.stacks import readable_extensions

__all__ = ["get_reader", "read"]

Layer = tuple[Any, dict[str, Any], str]
CIRCLE = 64
"""Corners of the polygon that stands for a circle."""


def get_reader(path: str | list[str]) -> Callable[[str | list[str]], list[Layer]] | None:
    """Give the function that reads a path, or None where it is of no known kind.

    Parameters
    ----------
    path : str or list of str

    Returns
    -------
    callable or None
    """
    names = [path] if isinstance(path, str) else list(path)
    known = (*readable_extensions(), RESULTS)
    return read if names and all(str(name).lower().rstrip("/").endswith(known) for name in names) else None


def read(path: str | list[str]) -> list[Layer]:
    """Read stacks, and of the results of a crop also centres, window and maps of the scan.

    Parameters
    ----------
    path : str or list of str
        ``*_results.json`` of a crop, or any file that `stackalign.io.open_stack` reads.

    Returns
    -------
    list of (data, options, type)
        Layers as napari takes them: "image", and of results "points" and "shapes".
    """
    layers: list[Layer] = []
    for name in [path] if isinstance(path, str) else path:
        file = Path(name)
        layers += _results(file) if file.name.endswith(RESULTS) else [_stack(file)]
    return layers


def _stack(file: Path) -> Layer:
    """Patterns as an image layer with sliders for the scan; read when they are looked at where dask is installed."""
    reader = open_stack(file)
    info = reader.info
    scale = [1.0] * len(info.scan_shape) + list(info.calibration.pixel_size if info.calibration else (1.0, 1.0))
    options = {"name": file.stem, "scale": scale, "metadata": dict(info.metadata)}
    return _array(reader), options, "image"


def _array(reader: StackReader) -> Any:
    """Everything in a reader, (scan..., H, W)."""
    n, height, width = reader.info.shape
    shape = (*reader.info.scan_shape, height, width)

    def pattern(start: int, stop: int) -> NDArray[Any]:
        block = np.empty((stop - start, height, width), reader.info.dtype)
        reader.read(start, stop, block)
        return block

    try:
        import dask.array as da
        from dask import delayed
    except ImportError:
        return pattern(0, n).reshape(shape)
    size = max(1, 2**24 // reader.info.pattern_bytes)
    parts = [
        da.from_delayed(delayed(pattern)(k, min(n, k + size)), (min(n, k + size) - k, height, width), reader.info.dtype)
        for k in range(0, n, size)
    ]
    return da.concatenate(parts).reshape(shape)


def _results(file: Path) -> list[Layer]:
    """Cropped patterns with their centres and the circle of the radius, and maps of the scan."""
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        analysis = record["analysis"]
        output = file.with_name(record["run"]["output"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        msg = f"{file} holds no results of a crop ({error})"
        raise StackalignError(msg) from error
    layers = [_stack(output)]
    scan = tuple(analysis["scan_shape"])
    scale = layers[0][1]["scale"]
    centers = _column(file, analysis, "centers").reshape(-1, 2)
    before = np.asarray(analysis["window_before"])
    inside = centers - (np.floor(centers) - before)
    places = np.stack(np.unravel_index(np.arange(len(centers)), scan), axis=1)
    marks = {"name": "centres", "scale": scale, "size": 1.5, "face_color": "transparent", "border_color": "yellow"}
    layers.append((np.hstack([places, inside]), marks, "points"))
    angle = np.linspace(0, 2 * np.pi, CIRCLE, endpoint=False)
    ring = inside.mean(axis=0) + analysis["global_radius"] * np.stack([np.sin(angle), np.cos(angle)], axis=1)
    style = {"name": "radius", "shape_type": "polygon", "edge_color": "cyan", "face_color": "transparent"}
    layers.append((ring, style | {"edge_width": 0.5, "scale": scale[-2:]}, "shapes"))
    if len(scan) == 2:
        for name, key in (("total intensity", "totals"), ("retention radius", "retention_radii")):
            values = _column(file, analysis, key).reshape(scan)
            layers.append((values, {"name": name, "visible": False}, "image"))
    return layers


def _column(file: Path, analysis: dict[str, Any], key: str) -> NDArray[np.float64]:
    """A list of the record, or the array beside it that it names."""
    value = analysis[key]
    if not isinstance(value, dict):
        return np.asarray(value, np.float64)
    with np.load(file.with_name(value["file"])) as archive:
        return np.asarray(archive[value["array"]], np.float64)
