"""Earlier name of `stackalign.runs`: chunks, progress and stop requests of long runs."""

from stackalign.runs import ChunkPlan, Progress, ProgressCallback, StopRequest, map_halving, read_chunks

__all__ = ["ChunkPlan", "Progress", "ProgressCallback", "StopRequest", "map_halving", "read_chunks"]
