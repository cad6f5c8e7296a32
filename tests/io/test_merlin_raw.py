"""Raw frames of Merlin detectors, encoded here pixel by pixel from the description of the format."""

import struct
from pathlib import Path

import numpy as np
import pytest

from stackalign import io
from stackalign.errors import DataError

BITS = {1: 1, 6: 8, 12: 16}
"""Place of a pixel in a word of 64 bits."""


def words(pixels: list[int], depth: int) -> bytes:
    """Pixels of a row of a chip as 64-bit words, the first pixel in the lowest bits, the highest byte first."""
    bits = BITS[depth]
    per_word = 64 // bits
    parts = []
    for start in range(0, len(pixels), per_word):
        word = 0
        for k, value in enumerate(pixels[start : start + per_word]):
            word |= int(value) << (bits * k)
        parts.append(struct.pack(">Q", word))
    return b"".join(parts)


def stored(image: np.ndarray, depth: int, quad: bool) -> bytes:
    """An image as the chips send it."""
    if depth == 24:
        return stored(image >> 12, 12, quad) + stored(image & 0xFFF, 12, quad)
    if not quad:
        return b"".join(words(row.tolist(), depth) for row in image)
    rows, columns = image.shape[0] // 2, image.shape[1] // 2
    first, second = image[:rows, :columns], image[:rows, columns:]
    third, fourth = np.rot90(image[rows:, :columns], 2), np.rot90(image[rows:, columns:], 2)
    return b"".join(words(chip[y].tolist(), depth) for y in range(rows) for chip in (fourth, third, second, first))


def raw_file(path: Path, images: np.ndarray, depth: int, quad: bool, header: int = 384) -> Path:
    height, width = images.shape[1:]
    width, height = (2 * width, height // 2) if quad else (width * (2 if depth == 24 else 1), height)
    chips, layout = (4, "2x2") if quad else (1, "1x1")
    parts = []
    for k, image in enumerate(images, 1):
        fields = f"MQ1,{k:06d},{header:05d},{chips:02d},{width:04d},{height:04d},R64,   {layout},0F,"
        fields += f"2024-05-06 07:08:09.123456,0.001000,0,0,0,1.2E+2,5.11E+2,3RX,175,511,000,MQ1A,,,{depth}"
        parts.append(fields.encode().ljust(header, b"\0") + stored(image, depth, quad))
    path.write_bytes(b"".join(parts))
    return path


def counts(depth: int, shape: tuple[int, ...], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**depth, shape, np.uint32)


@pytest.mark.parametrize(
    ("depth", "quad", "frame"),
    [
        (1, False, (5, 128)), (6, False, (7, 24)), (12, False, (6, 20)), (24, False, (6, 20)),
        (1, True, (6, 256)), (6, True, (8, 32)), (12, True, (10, 24)),
    ],
)  # fmt: skip
def test_raw_counters_are_read(depth: int, quad: bool, frame: tuple[int, int], tmp_path: Path) -> None:
    images = counts(depth, (9, *frame), depth)
    with io.open(raw_file(tmp_path / "a.mib", images, depth, quad)) as reader:
        assert reader.info.shape == images.shape
        assert reader.info.dtype == {1: np.uint8, 6: np.uint8, 12: np.uint16, 24: np.uint32}[depth]
        assert reader.info.metadata["counter_bits"] == depth
        assert reader.info.metadata["exposure_s"] == 0.001
        for step in (1, 4, 9):
            block = np.concatenate([read(reader, k, min(9, k + step)) for k in range(0, 9, step)])
            np.testing.assert_array_equal(block, images)


def read(reader: io.StackReader, start: int, stop: int) -> np.ndarray:
    block = np.empty((stop - start, *reader.info.shape[1:]), reader.info.dtype)
    reader.read(start, stop, block)
    return block


def test_chips_of_a_quad_by_picture(tmp_path: Path) -> None:
    """A corner of each chip is marked, so that a turned or mirrored chip is seen."""
    image = np.zeros((1, 4, 16), np.uint32)
    image[0, 0, 0], image[0, 0, 8], image[0, 2, 0], image[0, 2, 8] = 1, 2, 3, 4
    path = raw_file(tmp_path / "a.mib", image, 12, True)
    body = np.frombuffer(path.read_bytes()[384:], ">u8").reshape(2, 4, 2)  # rows, chips 4 3 2 1, words
    # Upper chips begin with their mark; the lower ones are turned, so that theirs is the last pixel of the last row.
    assert [int(body[0, chip, 0]) for chip in (3, 2)] == [1, 2]
    assert [int(body[1, chip, 1]) >> 48 for chip in (1, 0)] == [3, 4]
    with io.open(path) as reader:
        np.testing.assert_array_equal(read(reader, 0, 1), image)


def test_a_series_and_a_truncated_raw_file(tmp_path: Path) -> None:
    images = counts(12, (6, 4, 12), 5)
    raw_file(tmp_path / "s0.mib", images[:4], 12, False)
    raw_file(tmp_path / "t.mib", images, 12, False)
    whole = (tmp_path / "t.mib").read_bytes()
    (tmp_path / "t.mib").write_bytes(whole[:-5])
    with pytest.raises(DataError, match="ends within pattern 5"):
        io.open(tmp_path / "t.mib")
    with io.open(tmp_path / "t.mib", scan_shape=(5,)) as reader:
        np.testing.assert_array_equal(read(reader, 0, 5), images[:5])


@pytest.mark.parametrize(
    ("depth", "chips", "layout", "width"),
    [(24, 4, "2x2", 64), (12, 2, "2x1", 24), (7, 1, "1x1", 24), (12, 1, "1x1", 22)],
)
def test_what_is_not_described_is_refused(depth: int, chips: int, layout: str, width: int, tmp_path: Path) -> None:
    fields = f"MQ1,000001,00384,{chips:02d},{width:04d},0004,R64,   {layout},0F,2024-05-06 07:08:09,0.001,{depth}"
    (tmp_path / "a.mib").write_bytes(fields.encode().ljust(384, b"\0") + bytes(4096))
    with pytest.raises(DataError, match=r"raw counter data \(R64\).*export it as U08, U16 or U32"):
        io.open(tmp_path / "a.mib")
