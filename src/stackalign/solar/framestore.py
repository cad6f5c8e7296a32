"""Frames of an imager's sequence: their headers understood once, their images read when their turn comes.

A raster is built several times from the same frames, and a batch aligns hundreds of rasters with one sequence. What a
header says is small and kept for every file; images are kept as long as they fit into a budget.
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from astropy.time import Time
from astropy.wcs import WCS
from numpy.typing import NDArray
from sunpy.map import GenericMap

from .frames import map_position, name_of, observation_time
from .reading import as_map, read_map, read_without_image

__all__ = ["Frame", "as_frame", "frame_image", "image_budget"]

BUDGET = 512 * 2**20
"""Bytes of images that are kept."""

MOST = 20_000
"""Headers that are kept; an archive of months."""


@dataclass(frozen=True)
class Frame:
    """One image of a sequence: a map, or a file whose header was read.

    Parameters
    ----------
    header : GenericMap
        With its image, or without that of a file.
    path : Path, optional
    stamp : tuple
        What tells whether a file was changed.
    """

    header: GenericMap
    path: Path | None = None
    stamp: tuple[Any, ...] = ()

    @cached_property
    def name(self) -> str:
        """What to call it."""
        return name_of(self.header) if self.path is None else self.path.name

    @cached_property
    def time(self) -> Time:
        """When it was taken."""
        return observation_time(self.header)

    @cached_property
    def position(self) -> NDArray[np.float64]:
        """(3,) where it was taken from."""
        return map_position(self.header)

    @cached_property
    def wcs(self) -> WCS:
        """Its coordinates; sunpy makes them anew at each look."""
        return self.header.wcs


_headers: "OrderedDict[tuple[Any, ...], Frame]" = OrderedDict()
_images: "OrderedDict[tuple[Any, ...], GenericMap]" = OrderedDict()
_lock = threading.Lock()
_most: int | None = None


@contextmanager
def image_budget(nbytes: int | None) -> Iterator[None]:
    """Keep at most so many bytes of images in this context; as many as by default for None."""
    global _most
    before, _most = _most, nbytes
    try:
        yield
    finally:
        _most = before


def as_frame(source: Any) -> Frame:
    """Make a frame of a map, or of a file whose header is read if it is new or was changed.

    Raises
    ------
    DataError
        The file cannot be read, or the source is no map.
    """
    if isinstance(source, Frame):
        return source
    if not isinstance(source, (str, os.PathLike)):
        return Frame(as_map(source))
    stamp = _stamp(Path(source))
    with _lock:
        known = _headers.get(stamp)
    if known is None:
        known = Frame(read_without_image(source), Path(source).absolute(), stamp)  # the folder may be changed
        with _lock:
            _headers[stamp] = known
            while len(_headers) > MOST:
                _headers.popitem(last=False)
    return known


def frame_image(frame: Frame) -> GenericMap:
    """The frame with its image, which is read if it is not kept."""
    if frame.path is None:
        return frame.header
    stamp = _stamp(frame.path)
    with _lock:
        kept = _images.get(stamp)
        if kept is not None:
            _images.move_to_end(stamp)
            return kept
    image = read_map(frame.path)
    with _lock:
        _images[stamp] = image
        held = sum(each.data.nbytes for each in _images.values())
        while held > (BUDGET if _most is None else _most) and _images:
            held -= _images.popitem(last=False)[1].data.nbytes
    return image


def _stamp(path: Path) -> tuple[Any, ...]:
    try:
        status = path.stat()
    except OSError:
        return (os.fspath(path), None)  # the reader says what is wrong with it
    return (os.path.abspath(path), status.st_mtime_ns, status.st_size)
