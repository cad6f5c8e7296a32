"""Tiles of the reference, over which sums are kept apart."""

from typing import NamedTuple

__all__ = ["Tiling", "tiling"]


class Tiling(NamedTuple):
    """Height and width of a tile, and the number of tiles down and across; the last ones may be smaller."""

    height: int
    width: int
    down: int
    across: int


def tiling(shape: tuple[int, int], tile: int) -> Tiling:
    """Cut an image into squares of `tile` pixels; 0 makes one tile of it."""
    height, width = (tile, tile) if tile else shape
    return Tiling(height, width, -(-shape[0] // height), -(-shape[1] // width))
