"""Images of DigitalMicrograph that are no counts, encoded here from the description of version 3 of the format."""

import struct
from pathlib import Path

import numpy as np
import pytest

from cli.runner import run
from stackalign import diffraction
from stackalign.errors import DataError

pytest.importorskip("rsciio", reason="DM files need RosettaSciIO")

NUMBERS = {"L": 5, "f": 6}
"""Codes of the types of tags: unsigned and float of 32 bits."""
IMAGES = {"bool": (8, 14, "u1"), "uint16": (4, 10, "<u2"), "float32": (6, 2, "<f4"), "int8": (10, 9, "i1")}
"""Code of an element, of an image's type, and how it is stored."""


def tag(name: str, content: bytes) -> bytes:
    return b"\x15" + struct.pack(">H", len(name)) + name.encode() + b"%%%%" + content


def number(name: str, value: float, kind: str) -> bytes:
    return tag(name, struct.pack(">II", 1, NUMBERS[kind]) + struct.pack(f"<{kind}", value))


def text(name: str, words: str) -> bytes:
    return tag(name, struct.pack(">IIII", 3, 20, 4, len(words)) + words.encode("utf-16-le"))


def group(name: str, *entries: bytes) -> bytes:
    head = b"\x14" + struct.pack(">H", len(name)) + name.encode() + b"\0\0"
    return head + struct.pack(">I", len(entries)) + b"".join(entries)


def dm3(path: Path, image: np.ndarray) -> Path:
    """A file of one image with pixels of 0.02 1/nm."""
    if image.dtype.kind == "c":  # an array of structures of two floats
        code, info = 3, struct.pack(">10I", 9, 20, 15, 0, 2, 0, 6, 0, 6, image.size)
        stored = image.astype("<c8")
    else:
        element, code, kind = IMAGES[image.dtype.name]
        info, stored = struct.pack(">IIII", 3, 20, element, image.size), image.astype(kind)
    scale = [number("Origin", 0.0, "f"), number("Scale", 0.02, "f"), text("Units", "1/nm")]
    axes = group("Dimension", group("", *scale), group("", *scale))
    pixels = group(
        "ImageData",
        group("Calibrations", group("Brightness", *scale), axes),
        tag("Data", info + stored.tobytes()),
        number("DataType", code, "L"),
        group("Dimensions", number("", image.shape[1], "L"), number("", image.shape[0], "L")),
        number("PixelDepth", image.dtype.itemsize, "L"),
    )
    name = text("ClassName", "ImageSource:Simple")
    source = group("", name, group("Id", number("[0]", 0, "L")), number("ImageRef", 0, "L"))
    content = b"".join([
        b"\0\0", struct.pack(">I", 3),
        group("DocumentObjectList", group("", number("ImageSource", 0, "L"))),
        group("ImageList", group("", pixels, group("ImageTags"), text("Name", "made"))),
        group("ImageSourceList", source),
    ])  # fmt: skip
    path.write_bytes(struct.pack(">III", 3, len(content) + 8, 1) + content + b"\0" * 8)
    return path


@pytest.mark.parametrize("kind", IMAGES)
def test_boolean_signed_and_float_images(kind, tmp_path, rng) -> None:
    image = (rng.random((20, 27)) * 90 - 30 * (kind in ("float32", "int8"))).astype(kind)
    image[:3] = 0
    read = diffraction.diffread(dm3(tmp_path / "a.dm3", image))
    assert read.images.dtype == (np.uint8 if kind == "bool" else np.dtype(kind))
    np.testing.assert_array_equal(read.images, image)
    assert read.pixel_size == pytest.approx((0.02, 0.02))
    assert read.pixel_units == "1/nm"


def test_complex_images_are_refused_with_the_cure(tmp_path, rng) -> None:
    image = (rng.normal(size=(16, 18)) + 1j * rng.normal(size=(16, 18))).astype(np.complex64)
    path = dm3(tmp_path / "wave.dm3", image)
    with pytest.raises(DataError, match=r"wave\.dm3 has the dtype complex64.*save its modulus or one of its parts"):
        diffraction.diffread(path)
    ran = run("peaks", path, "-o", tmp_path / "peaks.csv")
    assert ran.code == 1
    assert "save its modulus" in " ".join(ran.err.split())
