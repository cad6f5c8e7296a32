"""Raw mode of Merlin detectors (R64): counters as the chips send them, in words of 64 bits.

Words are big-endian, and their pixels run from the lowest bits to the highest: 64 pixels of 1 bit, 8 of 6 bits in a
byte each, or 4 of 12 bits in two bytes each. A frame of 24 bits is two of 12 bits, the upper half of the counters
first. Of a quad, rows of all four chips follow one another as [4 | 3 | 2 | 1]; chips 1 and 2 are the upper half of the
image, chips 3 and 4 the lower, turned by half a turn.

Described in the documentation of LiberTEM (https://libertem.github.io) and of the detector's software.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["DEPTHS", "RawLayout"]

DEPTHS = {1: "u1", 6: "u1", 12: "u2", 24: "u4"}
"""Type in which pixels of a counter depth are handed out."""

_WORD = 8
_QUAD = "2x2"


@dataclass(frozen=True)
class RawLayout:
    """Where the pixels of a raw frame are.

    Parameters
    ----------
    depth : int
        Bits of the counters: 1, 6, 12 or 24.
    rows, columns : int
        Of the frame as it is stored, one half of a frame of 24 bits.
    quad : bool
        Four chips, which are stored side by side and seen two by two.
    """

    depth: int
    rows: int
    columns: int
    quad: bool

    @classmethod
    def of_header(cls, depth: int, width: int, height: int, chips: int, layout: str) -> "RawLayout | None":
        """Layout of a header's fields, None for one that is not described."""
        quad = chips == 4 and layout.rstrip("G") == _QUAD
        if depth not in DEPTHS or (chips != 1 and not quad) or (quad and depth == 24):
            return None
        columns = width // 2 if depth == 24 else width  # the header counts both halves of the counters
        pixels = _WORD * 8 if depth == 1 else _WORD if depth == 6 else _WORD // 2
        chip_columns = columns // 4 if quad else columns
        return None if chip_columns % pixels or (quad and columns % 4) else cls(depth, height, columns, quad)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the pixels."""
        return np.dtype(DEPTHS[self.depth])

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) of the image."""
        return (2 * self.rows, self.columns // 2) if self.quad else (self.rows, self.columns)

    @property
    def frame_bytes(self) -> int:
        """Stored size of a frame."""
        pixels = self.rows * self.columns
        return {1: pixels // 8, 6: pixels, 12: 2 * pixels, 24: 4 * pixels}[self.depth]

    def decode(self, raw: NDArray[np.uint8], out: NDArray[Any]) -> None:
        """Turn stored frames (n, frame_bytes) into images (n, H, W)."""
        n = len(raw)
        turned = raw.reshape(n, -1, _WORD)[:, :, ::-1]  # the lowest bits of each word first
        if self.depth == 1:
            stored = np.unpackbits(turned.reshape(n, -1), axis=1, bitorder="little")
        elif self.depth == 6:
            stored = turned.reshape(n, -1)
        else:
            stored = np.ascontiguousarray(turned).view("<u2").reshape(n, -1)
        if self.depth == 24:
            upper, lower = (half.astype(np.uint32) for half in np.split(stored, 2, axis=1))
            stored = (upper << np.uint32(12)) + lower
        frames = stored.reshape(n, self.rows, self.columns)
        if not self.quad:
            out[...] = frames
            return
        fourth, third, second, first = np.split(frames, 4, axis=2)
        half = self.columns // 4
        out[:, : self.rows, :half], out[:, : self.rows, half:] = first, second
        out[:, self.rows :, :half], out[:, self.rows :, half:] = third[:, ::-1, ::-1], fourth[:, ::-1, ::-1]
