"""Files of image stacks: readers and writers in pieces, atomic outputs, journals, provenance."""

from stackalign.io._gate import is_sidecar
from stackalign.io._protocol import Calibration, ChunkGeometry, StackInfo, StackReader, StackWriter
from stackalign.io.memory import open_array
from stackalign.io.regions import RegionTarget, region_alignment
from stackalign.io.stacks import create_stack, open_stack

__all__ = [
    "Calibration",
    "ChunkGeometry",
    "RegionTarget",
    "StackInfo",
    "StackReader",
    "StackWriter",
    "create_stack",
    "is_sidecar",
    "open_array",
    "open_stack",
    "region_alignment",
]
