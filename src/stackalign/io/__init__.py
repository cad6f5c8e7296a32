"""Files of images: one door for reading, writers in pieces, masks, atomic outputs, provenance."""

from stackalign.io._gate import is_sidecar
from stackalign.io._protocol import Calibration, ChunkGeometry, StackInfo, StackReader, StackWriter
from stackalign.io.images import read_image, write_images
from stackalign.io.masks import read_mask
from stackalign.io.memory import open_array
from stackalign.io.regions import RegionTarget, region_alignment
from stackalign.io.stacks import create_stack, open, open_stack

__all__ = [
    "Calibration",
    "ChunkGeometry",
    "RegionTarget",
    "StackInfo",
    "StackReader",
    "StackWriter",
    "create_stack",
    "is_sidecar",
    "open",
    "open_array",
    "open_stack",
    "read_image",
    "read_mask",
    "region_alignment",
    "write_images",
]
