"""Images of the Helioviewer project: JPEG 2000 with the cards of the FITS header in an XML box."""

import os
import re
import struct
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from sunpy.util import MetaDict

from stackalign.errors import DataError

from .image_hdus import one_line

__all__ = ["is_jpeg2000", "read_jpeg2000", "read_jpeg2000_header"]

SIGNATURE = b"\x00\x00\x00\x0cjP  \r\n\x87\n"
"""The first box of every JP2 file (ISO/IEC 15444-1, annex I)."""

LARGEST_XML = 1 << 24
"""Bytes: a header has some tens of thousands."""

_STRUCTURE = re.compile(
    r"SIMPLE|XTENSION|EXTEND|BITPIX|NAXIS\d*|[PG]COUNT|TFIELDS|T(TYPE|FORM|UNIT|NULL|SCAL|ZERO|DIM)\d+|THEAP"
    r"|Z(IMAGE|TENSION|BITPIX|NAXIS\d*|TILE\d+|CMPTYPE|NAME\d+|VAL\d+|QUANTIZ|DITHER0|BLANK|[PG]COUNT)"
    r"|CHECKSUM|DATASUM|BSCALE|BZERO|BLANK|MISSING|ANA_MISS|BUNIT|DATAMIN|DATAMAX"
)
"""Cards of the file that the picture was made from, of its numbers and of how they were stored."""


def is_jpeg2000(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a JP2 file, by its first bytes."""
    try:
        with Path(path).open("rb") as stream:
            return stream.read(len(SIGNATURE)) == SIGNATURE
    except OSError:
        return False  # who reads it says what is wrong


def read_jpeg2000(path: str | os.PathLike[str]) -> tuple[NDArray[np.uint8 | np.uint16], MetaDict]:
    """Read image and header.

    Parameters
    ----------
    path : path-like
        A file of Helioviewer (helioviewer.org), or another JP2 file whose XML box holds the element ``fits``.

    Returns
    -------
    image : numpy.ndarray
        (ny, nx) brightness as the picture has it, 8 or 16 bit, the first row at the bottom as in FITS.
    header : MetaDict
        The cards but those on the file, the stored numbers and their unit, which are not those of the picture.

    Raises
    ------
    DataError
        Pillow is not installed, the file cannot be decoded, is no image of one channel, has no header, or one of an
        image of another size, whose coordinates are not those of the picture.
    """
    header = read_jpeg2000_header(path)
    try:
        from PIL import Image
    except ImportError as error:
        msg = f"{path} is JPEG 2000, which Pillow decodes: pip install pillow"
        raise DataError(msg) from error
    try:
        with Image.open(path, formats=["JPEG2000"]) as picture:
            image = np.asarray(picture)
    except Exception as error:  # of a broken file decoders raise what they come upon
        msg = f"{path} cannot be read as JPEG 2000: {one_line(error)}"
        raise DataError(msg) from error
    if image.ndim != 2:
        msg = f"{path} is a coloured picture; an image of one channel is needed"
        raise DataError(msg)
    return np.ascontiguousarray(image[::-1]), header


def read_jpeg2000_header(path: str | os.PathLike[str]) -> MetaDict:
    """Read the header alone, with NAXIS1 and NAXIS2 of the picture; see `read_jpeg2000`."""
    file = Path(path)
    try:
        with file.open("rb") as stream:
            boxes = _read_boxes(stream)
    except (OSError, struct.error) as error:
        msg = f"{path} cannot be read as JPEG 2000: {one_line(error)}"
        raise DataError(msg) from error
    cards = next((cards for text in boxes.get(b"xml ", ()) if (cards := _cards(text))), None)
    if cards is None:
        msg = f"{path} has no FITS header in it, as files of Helioviewer have: give (array, header)"
        raise DataError(msg)
    height, width = _size(boxes, path)
    stated = tuple(cards.get(f"znaxis{i}", cards.get(f"naxis{i}")) for i in (1, 2))
    if None not in stated and stated != (width, height):
        msg = (
            f"{path} has {width} x {height} pixels, its header is of an image of {stated[0]} x {stated[1]}: the "
            "picture was rescaled and its coordinates are not known; take the file as the archive has it"
        )
        raise DataError(msg)
    header = MetaDict({key: value for key, value in cards.items() if not _STRUCTURE.fullmatch(key.upper())})
    header["naxis"], header["naxis1"], header["naxis2"] = 2, width, height
    header.setdefault("filename", file.name)
    return header


def _read_boxes(stream: BinaryIO) -> dict[bytes, list[bytes]]:
    """Contents of the XML boxes and of the header box of the image; the codestream is passed over."""
    boxes: dict[bytes, list[bytes]] = {}
    end = stream.seek(0, os.SEEK_END)
    for kind, start, stop in _boxes(stream, 0, end):
        if kind in (b"xml ", b"jp2h") and stop - start <= LARGEST_XML:
            stream.seek(start)
            boxes.setdefault(kind, []).append(stream.read(stop - start))
    return boxes


def _boxes(stream: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, and first and last byte of the contents, of each box; those in an association too."""
    while start + 8 <= end:
        stream.seek(start)
        length, kind = struct.unpack(">I4s", stream.read(8))
        head = 8
        if length == 1:
            length, head = struct.unpack(">Q", stream.read(8))[0], 16
        stop = end if length == 0 else min(start + length, end)
        if stop < start + head:
            return  # no box: what follows cannot be understood
        if kind == b"asoc":
            yield from _boxes(stream, start + head, stop)
        else:
            yield kind, start + head, stop
        start = stop


def _size(boxes: dict[bytes, list[bytes]], path: str | os.PathLike[str]) -> tuple[int, int]:
    """Height and width, from the box ``ihdr`` in that of the image's header."""
    head = boxes.get(b"jp2h", [b""])[0]
    if head[4:8] != b"ihdr" or len(head) < 16:
        msg = f"{path} cannot be read as JPEG 2000: it does not say how large it is"
        raise DataError(msg)
    height, width = struct.unpack(">II", head[8:16])
    return height, width


def _cards(text: bytes) -> dict[str, Any] | None:
    """Cards of the element ``fits``; None where there is none."""
    if b"<!DOCTYPE" in text or b"<!ENTITY" in text:
        return None  # a header defines nothing
    try:
        root = ET.fromstring(text.strip(b"\x00 \r\n\t"))
    except ET.ParseError:
        return None
    element = root if root.tag == "fits" else root.find(".//fits")
    if element is None:
        return None
    return {card.tag.lower(): _value(card.text) for card in element if len(card) == 0 and card.text}


def _value(text: str) -> int | float | str:
    words = " ".join(text.split())
    for kind in (int, float):
        try:
            return kind(words)
        except ValueError:
            continue
    return words.encode("ascii", "replace").decode()
