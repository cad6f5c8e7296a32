"""TIFF stacks, one pattern to a page."""

import html
import importlib
import logging
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign.errors import DataError
from stackalign.io._flat import FlatReader
from stackalign.io._gate import Confinement
from stackalign.io._protocol import StackInfo, StackReader
from stackalign.io._reader import BaseReader, OpenOptions, make_info
from stackalign.io._shapes import interpret_shape

__all__ = ["open_reader", "write_images"]


def open_reader(path: Path, options: OpenOptions) -> StackReader:
    """Open a series of pages: by position where they lie one behind the other, page by page otherwise."""
    tifffile = importlib.import_module("tifffile")
    with _complaints() as complaints:
        file = tifffile.TiffFile(path)
        try:
            pages_found = len(file.pages)
            if complaints:
                msg = f"{path} is damaged after page {pages_found} ({complaints[0]}); copy it again"
                raise DataError(msg)
            _check_other_files(file, path, Confinement(path, options.allow_external))
            _check_page(file.pages[0], f"page 0 of {path}", file.filehandle.size, options.memory_limit)
            if options.dataset is None and _is_coloured(file):
                from stackalign.io.pictures import grey_reader

                grey = grey_reader(np.asarray(file.pages[0].asarray()), path, options)
                file.close()
                return grey
            series = _choose(file, path, options)
            reader = _open_series(file, series, path, options)
            if complaints:
                msg = f"{path} is damaged ({complaints[0]}); copy it again"
                raise DataError(msg)
        except BaseException:
            file.close()
            raise
    if not isinstance(reader, _PageReader):
        file.close()
    elif options.read_timeout:
        # What is compressed can hang or crash its decoder, or grow without end.
        reader.close()
        apart: StackReader = importlib.import_module("stackalign.io.apart").open_reader(path, options)
        return apart
    return reader


def write_images(path: Path, images: NDArray[Any], header: str | None = None) -> None:
    """Write one image or a stack, one to a page."""
    tifffile = importlib.import_module("tifffile")
    big = images.nbytes > 2**32 - 2**25
    if images.ndim == 2:
        tifffile.imwrite(path, images, photometric="minisblack", bigtiff=big, metadata={"axes": "YX"})
        return
    tifffile.imwrite(
        path, iter(images), shape=images.shape, dtype=images.dtype, photometric="minisblack", bigtiff=big,
        metadata={"axes": "QYX"},
    )  # fmt: skip


def _is_coloured(file: Any) -> bool:
    """Tell whether a file is one page with several samples per pixel."""
    page = file.pages[0]
    several = isinstance(page.samplesperpixel, int) and page.samplesperpixel > 1
    return len(file.pages) == 1 and several and page.axes == "YXS"


def _open_series(file: Any, series: Any, path: Path, options: OpenOptions) -> StackReader:
    layout = interpret_shape(series.shape, str(path), scan_shape=options.scan_shape, single=True)
    if series.dtype is None:
        msg = f"{path} has pixels of an unknown kind; save it again as integers or floats"
        raise DataError(msg)
    metadata = {"single": True} if len(series.shape) == 2 else None
    info = make_info(layout, np.dtype(series.dtype), str(path), metadata=metadata)
    first = next((page for page in series.pages if page is not None), None)
    if first is not None:
        _check_page(first, f"the first page of {path}", file.filehandle.size, options.memory_limit)
    offset = series.dataoffset
    if offset is not None and first is not None:
        if offset < 8:
            msg = f"{path} is damaged: its numbers are said to begin at byte {offset}; copy it again"
            raise DataError(msg)
        return FlatReader(path, info, np.dtype(series.dtype).newbyteorder(file.byteorder), int(offset))
    pages = [page for page in series.pages if page is not None]
    if len(pages) != info.shape[0] or pages[0].shape != info.shape[1:]:
        msg = (
            f"{path} promises {info.shape[0]} patterns {info.shape[1:]}, it has {len(pages)} pages; "
            "it is incomplete, or its pages are no single patterns: save one pattern to a page"
        )
        raise DataError(msg)
    return _PageReader(path, info, file, pages, options.memory_limit)


def _check_page(page: Any, name: str, file_size: int, memory_limit: int) -> None:
    """Raise for sizes and positions that no page can have; tifffile divides by them, or reads zeros in silence."""
    keyframe = page.keyframe
    sizes = {
        "width": keyframe.imagewidth,
        "length": keyframe.imagelength,
        "bits per sample": keyframe.bitspersample,
        "samples per pixel": keyframe.samplesperpixel,
    }
    sizes |= (
        {"tile width": keyframe.tilewidth, "tile length": keyframe.tilelength}
        if keyframe.is_tiled
        else {"rows per strip": keyframe.rowsperstrip}
    )
    for what, value in sizes.items():
        if not isinstance(value, int) or value < 1:
            msg = f"{name} is damaged: its {what} is {value}; copy it again"
            raise DataError(msg)
    height, width = (
        (keyframe.tilelength, keyframe.tilewidth)
        if keyframe.is_tiled
        else (min(keyframe.rowsperstrip, keyframe.imagelength), keyframe.imagewidth)
    )
    segment = height * width * keyframe.samplesperpixel * (keyframe.bitspersample + 7) // 8
    if segment > memory_limit:
        msg = f"{name} has tiles or strips of {height} x {width} pixels, above the memory limit of {memory_limit} bytes"
        raise DataError(msg)
    _check_segments(page, name, file_size)


def _check_segments(page: Any, name: str, file_size: int) -> None:
    """Each tile or strip of a page has its place in the file."""
    offsets, counts = page.dataoffsets, page.databytecounts
    expected = math.prod(page.keyframe.chunked)
    # One entry may stand for strips that lie one behind the other: tifffile joins them.
    if len(offsets) != len(counts) or len(offsets) not in (1, expected):
        msg = f"{name} is damaged: it has {len(offsets)} offsets and {len(counts)} byte counts for {expected} strips"
        raise DataError(msg)
    for offset, count in zip(offsets, counts, strict=True):
        if offset < 8 or count < 1 or offset + count > file_size:
            msg = f"{name} is damaged: a strip of {count} bytes is said to lie at byte {offset}; copy it again"
            raise DataError(msg)


def _check_other_files(file: Any, path: Path, bounds: Confinement) -> None:
    """Some series consist of several files, whose names are in the first one or follow from its own."""
    names = [html.unescape(name) for name in re.findall(r'(?:FileName|MetadataFile)="([^"]*)"', _ome(file))]
    index = path.parent / "NDTiff.index"
    if file.is_ndtiff:
        bounds.resolve(index.name)
        names += [entry[1] for entry in importlib.import_module("tifffile").tifffile.read_ndtiff_index(str(index))]
    if file.is_mmstack:
        names += [part.name for part in path.parent.glob("*_MMStack*.tif")]
    for name in sorted(set(names)):
        target = path.parent / name
        bounds.require_inside(target, f"{path} refers to {name!r}")
        if target.exists():  # what is missing is said where its pages are
            bounds.resolve(name)


def _ome(file: Any) -> str:
    return str(file.ome_metadata or "") if file.is_ome else ""


@contextmanager
def _complaints() -> Iterator[list[str]]:
    """Collect what tifffile only logs: a broken chain of pages looks like a shorter stack otherwise."""
    messages: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage().splitlines()[0])

    logger, handler = logging.getLogger("tifffile"), Collector(logging.ERROR)
    logger.addHandler(handler)
    try:
        yield messages
    finally:
        logger.removeHandler(handler)


def _choose(file: Any, path: Path, options: OpenOptions) -> Any:
    dataset = options.dataset
    if dataset is not None:
        if not (dataset.isascii() and dataset.isdigit()) or int(dataset) >= len(file.series):
            msg = f"{path} has no series {dataset!r}; it has {len(file.series)}, counted from 0"
            raise DataError(msg)
        series = file.series[int(dataset)]
    else:
        stacks = [series for series in file.series if len(series.shape) in (3, 4)]
        grey = [series for series in stacks if series.axes.endswith("YX")]
        fitting = grey or [series for series in file.series[:1] if len(series.shape) == 2] or stacks
        if not fitting:
            shapes = [series.shape for series in file.series]
            msg = f"{path} has no series of 3 or 4 axes; it has {shapes}, expected one page per pattern"
            raise DataError(msg)
        series = max(fitting, key=lambda s: int(s.size))
    if not series.axes.endswith("YX"):
        msg = f"{path} has the axes {series.axes}; expected grey patterns with the axes YX last"
        raise DataError(msg)
    return series


class _PageReader(BaseReader):
    """Patterns that are decoded page by page."""

    def __init__(self, path: Path, info: StackInfo, file: Any, pages: list[Any], memory_limit: int) -> None:
        super().__init__(path, info)
        self._tiff = file
        self._pages = pages
        self._limit = memory_limit
        self._others: list[Any] = []

    def _read(self, start: int, stop: int, out: NDArray[Any]) -> None:
        for k in range(start, stop):
            page = self._pages[k]
            handle = page.parent.filehandle
            if handle.closed:  # that of another file of a series
                handle.open()
                self._others.append(handle)
            _check_page(page, f"page {k} of {self._name}", handle.size, self._limit)
            decoded = page.asarray()
            if decoded.shape != out.shape[1:]:
                msg = f"page {k} of {self._name} has the shape {decoded.shape}, the first {out.shape[1:]}"
                raise DataError(msg)
            out[k - start] = decoded

    def _files(self) -> list[Path]:
        own = [] if self._path is None else [self._path]
        names = {Path(page.parent.filehandle.path) for page in self._pages if page.parent is not self._tiff}
        return [*own, *sorted(names)]

    def close(self) -> None:
        """Release the files."""
        if not self._closed:
            self._tiff.close()
            for handle in self._others:
                handle.close()
        super().close()
