"""`CoarseOptimize`: `CoarseRefine` of `stackalign.refine` under its original name, and those of its methods."""

from stackalign.refine.coarse import CoarseOptimize

__all__ = ["CoarseOptimize"]
