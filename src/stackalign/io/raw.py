"""Raw binary files: with shape and dtype stated, or as the EMPAD detector writes them."""

import math
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from stackalign.errors import DataError
from stackalign.io._flat import FlatReader
from stackalign.io._gate import Confinement
from stackalign.io._protocol import StackReader
from stackalign.io._reader import OpenOptions, make_info
from stackalign.io._shapes import choose_frames, interpret_shape

__all__ = ["open_reader"]

# An EMPAD frame has 130 rows of 128 float32, of which the last two are not image.
_EMPAD_SHAPE = (128, 128)
_EMPAD_BYTES = 130 * 128 * 4
_XML_LIMIT = 1 << 22


def open_reader(path: Path, options: OpenOptions) -> StackReader:
    """Open raw numbers of a stated layout, or an EMPAD acquisition by its .raw or .xml file."""
    if path.suffix.lower() == ".xml":
        return _open_by_xml(path, options)
    if options.shape is None and options.dtype is None:
        return _open_empad(path, options, _xml_beside(path, options))
    if options.shape is None or options.dtype is None:
        msg = f"{path} is raw binary: state both its shape and its dtype"
        raise DataError(msg).with_hint("shape")
    try:
        dtype = np.dtype(options.dtype)
    except TypeError as error:
        msg = f"{options.dtype!r} is no dtype; state one like uint16 or >u2 for {path}"
        raise DataError(msg) from error
    layout = interpret_shape(options.shape, str(path), scan_shape=options.scan_shape)
    info = make_info(layout, dtype, str(path))
    size = path.stat().st_size
    needed = math.prod(layout.shape) * dtype.itemsize
    if options.offset < 0 or size - options.offset != needed:
        msg = (
            f"{path} has {size} bytes, shape {options.shape}, dtype {dtype} and offset {options.offset} as stated need "
            f"{options.offset + needed}; state others"
        )
        raise DataError(msg)
    return FlatReader(path, info, dtype, options.offset)


def _open_by_xml(path: Path, options: OpenOptions) -> StackReader:
    root = _parse(path)
    name = _raw_name(root)
    if name is None:
        msg = f"{path} names no raw file; expected the XML file of an EMPAD acquisition"
        raise DataError(msg)
    if not (path.parent / name).exists():
        msg = f"{path} refers to {name}, which is missing; copy it beside the XML file"
        raise DataError(msg)
    raw = Confinement(path, options.allow_external).resolve(name)
    return _open_empad(raw, options, path)


def _open_empad(path: Path, options: OpenOptions, xml: Path | None) -> StackReader:
    size = path.stat().st_size
    complete, rest = divmod(size, _EMPAD_BYTES)
    stated = (None if xml is None else _scan_in_xml(_parse(xml))) or _scan_in_name(path)
    if xml is None and stated is None and (rest or not complete):
        msg = (
            f"{path} is no EMPAD file ({size} bytes are no multiple of {_EMPAD_BYTES}); "
            "for raw binary state its shape and its dtype"
        )
        raise DataError(msg).with_hint("shape")
    source = f"its header {xml.name}" if xml is not None else "its name"
    promised = None if stated is None else math.prod(stated)
    count = choose_frames(str(path), complete, rest, promised, source, options.scan_shape)
    scan_shape = options.scan_shape or (stated if stated is not None and math.prod(stated) == count else None)
    layout = interpret_shape((count, *_EMPAD_SHAPE), str(path), scan_shape=scan_shape)
    info = make_info(layout, np.dtype("<f4"), str(path), metadata={"detector": "EMPAD"})
    return FlatReader(path, info, np.dtype("<f4"), 0, _EMPAD_BYTES, also=[] if xml is None else [xml])


def _parse(path: Path) -> ElementTree.Element:
    if path.stat().st_size > _XML_LIMIT:
        msg = f"{path} is too large for the XML file of an EMPAD acquisition"
        raise DataError(msg)
    try:
        return ElementTree.fromstring(path.read_bytes())
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # the latter two: of its encoding
        msg = f"{path} is no valid XML ({error}); copy it again"
        raise DataError(msg) from error


def _raw_name(root: ElementTree.Element) -> str | None:
    element = root.find("raw_file")
    name = None if element is None else element.get("filename")
    # Only the name counts: some versions store the path on the acquisition computer, with either slash.
    return None if not name else re.split(r"[\\/]", name.strip())[-1]


def _xml_beside(path: Path, options: OpenOptions) -> Path | None:
    bounds = Confinement(path, options.allow_external)
    for candidate in sorted(path.parent.glob("*.xml")):
        if not candidate.is_file():
            continue  # a pipe would block
        try:
            named = _raw_name(_parse(candidate))
        except (DataError, OSError):
            continue  # some other XML file
        if named == path.name:
            return bounds.resolve(candidate.name)
    return None


def _scan_in_xml(root: ElementTree.Element) -> tuple[int, ...] | None:
    def number(tag: str) -> int | None:
        text = root.findtext(tag)
        text = (text or "").strip()
        return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None

    if root.findtext("type") == "series":
        count = number("count")
        return None if count is None else (count,)
    # The first pair is in files of version 0.51; version 1.2 has the second only.
    acquire = "scan_parameters[@mode='acquire']/scan_resolution_"
    for rows, columns in ((number("pix_y"), number("pix_x")), (number(f"{acquire}y"), number(f"{acquire}x"))):
        if rows is not None and columns is not None:
            return (rows, columns)
    return None


def _scan_in_name(path: Path) -> tuple[int, ...] | None:
    match = re.search(r"_x(\d+)_y(\d+)$", path.stem)
    return None if match is None else (int(match[2][-18:]), int(match[1][-18:]))
